with spend as (
    select a.account, sum(d.credits_usd) as credits_usd, sum(d.byok_usd) as byok_usd
    from core.company_day d
    join ref.account a using (account_id)
    group by a.account
), of_nobody as (
    select s.account, s.key_hash, min(s.day) as first_day, max(s.day) as last_day, sum(s.credits_usd) as credits_usd,
        sum(s.byok_usd) as byok_usd
    from core.spend_daily s
    where s.company = 'Unattributed'
    group by s.account, s.key_hash
), unattributed as (
    -- Unattributed spend, with or without a key; then active keys that are Unattributed today and have no spend yet.
    select *
    from of_nobody
    union all
    select k.account, k.key_hash, null, null, 0, 0
    from ref.api_key k
    where k.company = 'Unattributed' and k.deleted_at is null
        and not exists (select from of_nobody u where u.account = k.account and u.key_hash = k.key_hash)
)
select u.account, u.key_hash, k.name as key_name, k.workspace_name,
    coalesce(k.creator_email, k.creator_user_id) as creator, u.first_day, u.last_day,
    trim_scale(u.credits_usd) as credits_usd, trim_scale(u.byok_usd) as byok_usd,
    trim_scale(coalesce(round(u.credits_usd / nullif(s.credits_usd, 0), 6), 0)) as share_of_account,
    k.company as company_today, k.deleted_at
from unattributed u
left join ref.api_key k using (account, key_hash)
left join spend s on s.account = u.account
where cast(:account as text) is null or u.account = :account
order by u.key_hash is null, u.credits_usd desc, u.byok_usd desc, u.account, k.name, u.key_hash
