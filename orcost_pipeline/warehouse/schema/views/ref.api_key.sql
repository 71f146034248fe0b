-- One row per account and API key, deleted keys included: its current attributes.
create or replace view ref.api_key as
select
    a.account, k.key_hash, v.name, v.label, v.workspace_id, v.workspace_name, v.creator_user_id, v.creator_email,
    v.external_user, v.is_disabled, k.created_at, v.expires_at, k.deleted_at, k.first_seen_at, k.last_used_at,
    v.limit_usd, k.limit_remaining_usd, v.limit_reset,
    k.usage_usd, k.usage_daily_usd, k.usage_weekly_usd, k.usage_monthly_usd,
    k.byok_usage_usd, k.byok_usage_daily_usd, k.byok_usage_weekly_usd, k.byok_usage_monthly_usd,
    (
        select case when count(*) = 1 then min(c.company) end
        from core.assignment s
        join ref.company c using (company_id)
        where s.account_id = k.account_id and s.key_id = k.key_id
          and s.valid_from <= (a.as_of at time zone 'UTC')::date and s.valid_to > (a.as_of at time zone 'UTC')::date
    ) as company,
    v.include_byok_in_limit,
    case
        when k.deleted_at is not null then null
        when v.limit_usd <= 0 then 100
        else trim_scale(100 * coalesce(
            u.credits_usd + case when v.include_byok_in_limit then u.byok_usd else 0 end,
            -- For an unknown kind of reset: what OpenRouter reports as remaining.
            v.limit_usd - k.limit_remaining_usd
        ) / v.limit_usd)
    end as limit_used_percent
from core.api_key k
join ref.account a using (account_id)
join core.api_key_version v on v.key_id = k.key_id and v.valid_to is null
left join lateral (
    values (null, k.usage_usd, k.byok_usage_usd),
        ('daily', k.usage_daily_usd, k.byok_usage_daily_usd),
        ('weekly', k.usage_weekly_usd, k.byok_usage_weekly_usd),
        ('monthly', k.usage_monthly_usd, k.byok_usage_monthly_usd)
) as u (reset, credits_usd, byok_usd) on u.reset is not distinct from lower(v.limit_reset);
