select distinct hour
from core.usage_hourly
where account_id = :account_id and key_id = 0 and hour >= :start and hour < :end
