select a.account, s.known_from, s.is_complete
from core.known_span(:start, :end) s
join ref.account a using (account_id)
