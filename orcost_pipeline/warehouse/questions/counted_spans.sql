select start_at, end_at
from core.counted_span
where account_id = :account_id
order by start_at
