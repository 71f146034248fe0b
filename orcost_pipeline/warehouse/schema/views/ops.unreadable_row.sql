-- One row per account, endpoint, field, API key (null: unknown, or none) and UTC day (null: unknown, or no amount is
-- affected): number of rows that could not be read.
create or replace view ops.unreadable_row as
select a.account, u.endpoint, u.field, k.key_hash, nullif((u.at at time zone 'UTC')::date, '-infinity') as day,
    sum(u.rows) as rows, min(u.noticed_at) as noticed_at
from core.unreadable_row u
join ref.account a using (account_id)
left join core.api_key k using (key_id)
group by a.account, u.endpoint, u.field, k.key_hash, 5;
