select s.*, a.as_of, h.creator, h.workspace
from ref.account a
join core.rolling_span r on r.account_id = a.account_id and r.period = :period
join core.spend_hourly s on s.account = a.account and s.hour >= r.start_at
-- Who held the key on the day of its spend: looked up only for the grains that show it.
left join core.api_key k on :is_by_holder and k.account_id = a.account_id and k.key_hash = s.key_hash
left join core.api_key_day_span h on :is_by_holder and h.key_id = k.key_id
    and h.first_day <= (s.hour at time zone 'UTC')::date and h.end_day > (s.hour at time zone 'UTC')::date
where cast(:account as text) is null or a.account = :account
