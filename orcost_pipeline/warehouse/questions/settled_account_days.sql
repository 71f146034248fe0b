select day
from core.account_day
where account_id = :account_id and day >= :first and day <> all(cast(:doubted as date[])) and is_settled
