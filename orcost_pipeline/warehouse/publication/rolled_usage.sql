-- One row per API key (0: no key) to roll up, model, UTC day and segment: the hours between two edges of rolling windows,
-- the newest segment being 1. On a day a key has one assignment, so that shares need not multiply every hour's usage.
create temporary table rolled_usage on commit drop as
with edge as (
    select array_agg(hour order by number) as hours
    from rolling_edge
)
select key_id, model_id, is_counter, day, segment, sum(requests) as requests, sum(prompt_tokens) as prompt_tokens,
    sum(completion_tokens) as completion_tokens, sum(reasoning_tokens) as reasoning_tokens,
    sum(cached_tokens) as cached_tokens, sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd
from (
    select u.*, (u.hour at time zone 'UTC')::date as day, u.source = 'counter' as is_counter,
        case
            when u.hour >= edge.hours[1] then 1
            when u.hour >= edge.hours[2] then 2
            when u.hour >= edge.hours[3] then 3
            when u.hour >= edge.hours[4] then 4
            when u.hour >= edge.hours[5] then 5
            else 6
        end as segment
    from core.usage_hourly u
    cross join edge
    where u.account_id = :account_id and u.hour >= edge.hours[6]
        and (:is_extraction or u.key_id in (select key_id from rolled_again))
) usage
group by key_id, model_id, is_counter, day, segment
