select a.account, s.known_from, s.is_complete
from core.rolling_span s
join ref.account a using (account_id)
where s.period = :period
