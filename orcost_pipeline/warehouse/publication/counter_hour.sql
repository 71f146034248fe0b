-- One row per API key and UTC hour: by how much its counters moved between two neighbouring readings, in the last hour
-- before the later one. They know no model, no requests and no tokens.
create temporary table staged_counter_hour on commit drop as
with moved as (
    select key_id, at, usage_usd - lag(usage_usd) over in_time as credits_usd,
        byok_usage_usd - lag(byok_usage_usd) over in_time as byok_usd
    from staged_counter_point
    window in_time as (partition by key_id order by at)
)
select
    date_trunc('hour', t.at - interval '1 microsecond', 'UTC') as hour, :account_id ::integer as account_id, t.key_id,
    m.model_id, 0 as requests, 0 as prompt_tokens, 0 as completion_tokens, 0 as reasoning_tokens, 0 as cached_tokens,
    sum(t.credits_usd) as credits_usd, sum(t.byok_usd) as byok_usd, 'counter'::core.usage_source as source
from moved t
join core.model m on m.model = '(unknown)'
where t.credits_usd is not null
group by 1, t.key_id, m.model_id
having sum(t.credits_usd) <> 0 or sum(t.byok_usd) <> 0
