select day, hours_read_at
from core.account_day
where account_id = :account_id and day >= :first and day < :end
