-- One row per API key that cannot be of this account: OpenRouter lists neither it nor any usage of it, and its stored
-- usage exceeds the account's own answers; where they were not asked, its workspace is not the account's.
create temporary table foreign_key on commit drop as
with reported as (
    select 'hour' as grain, hour as at, key_hash, model, requests, credits_usd, byok_usd
    from raw.usage_hourly
    where run_id = :extraction_id and account = :account
    union all
    select 'day', day::timestamp at time zone 'UTC', key_hash, model, requests, credits_usd, byok_usd
    from raw.usage_daily
    where run_id = :extraction_id and account = :account
), unlisted as (
    select k.key_id, v.workspace_id
    from core.api_key k
    join core.api_key_version v on v.key_id = k.key_id and v.valid_to is null
    where k.account_id = :account_id
        and not exists (
            select from raw.api_key r
            where r.run_id = :extraction_id and r.account = :account and r.key_hash = k.key_hash and not r.is_deleted
        )
        and not exists (select from reported t where t.key_hash = k.key_hash)
        and not exists (
            select from raw.activity_daily r
            where r.run_id = :extraction_id and r.account = :account and r.key_hash = k.key_hash
        )
), workspaces as (
    select workspace_id from raw.workspace where run_id = :extraction_id and account = :account
    union
    select workspace_id from raw.api_key where run_id = :extraction_id and account = :account and workspace_id is not null
), room as (
    select grain, at, model,
        sum(case when key_hash is null then requests else -requests end) as requests,
        sum(case when key_hash is null then credits_usd else -credits_usd end) as credits_usd,
        sum(case when key_hash is null then byok_usd else -byok_usd end) as byok_usd
    from reported
    group by grain, at, model
), asked as (
    select case when grain = 'hour' then 'hour' else 'day' end as grain, start_at, end_at
    from raw.usage_question
    where run_id = :extraction_id and account = :account and grain in ('hour', 'past_day') and key_hash is null
        and outcome = 'answered'
), stored as (
    select 'hour' as grain, u.hour as at, u.key_id, m.model, u.requests, u.credits_usd, u.byok_usd
    from core.usage_hourly u
    join unlisted using (key_id)
    join core.model m using (model_id)
    where u.account_id = :account_id
    union all
    select 'day', u.day::timestamp at time zone 'UTC', u.key_id, m.model, sum(u.requests), sum(u.credits_usd),
        sum(u.byok_usd)
    from core.usage_daily u
    join unlisted using (key_id)
    join core.model m using (model_id)
    where u.account_id = :account_id
    group by u.day, u.key_id, m.model
), compared as (
    select s.key_id,
        bool_or(
            s.requests > coalesce(r.requests, 0)
            or greatest(s.credits_usd - coalesce(r.credits_usd, 0), s.byok_usd - coalesce(r.byok_usd, 0))
                > core.tolerated_usd(s.requests, :tolerance_usd)
        ) as is_beyond
    from stored s
    join asked q on q.grain = s.grain and s.at >= q.start_at and s.at < q.end_at
    left join room r on r.grain = s.grain and r.at = s.at and r.model = s.model
    group by s.key_id
)
select s.key_id
from unlisted s
left join compared c using (key_id)
where coalesce(
    c.is_beyond,
    exists (select from workspaces) and s.workspace_id not in (select workspace_id from workspaces)
)
