with spend as (
    select account, key_hash, sum(credits_usd) as credits_usd_30d, sum(byok_usd) as byok_usd_30d
    from marts.key_spend_rolling
    where period = '30d'
    group by account, key_hash
), owners as (
    select s.account, s.key_hash, string_agg(
        case when s.share = 1 then s.company else s.company || ' ' || trim_scale(s.share * 100) || ' %' end, ', '
        order by s.share desc, s.company
    ) as companies
    from ref.assignment s
    join ref.account a using (account)
    where s.valid_from <= (a.as_of at time zone 'UTC')::date and s.valid_to > (a.as_of at time zone 'UTC')::date
    group by s.account, s.key_hash
)
select k.account, k.key_hash, k.name, o.companies, k.workspace_name, k.creator_email, k.is_disabled, k.created_at,
    k.expires_at, k.deleted_at, k.last_used_at, trim_scale(coalesce(s.credits_usd_30d, 0)) as credits_usd_30d,
    trim_scale(coalesce(s.byok_usd_30d, 0)) as byok_usd_30d, k.limit_usd, k.limit_reset, k.include_byok_in_limit,
    k.limit_used_percent
from ref.api_key k
left join spend s using (account, key_hash)
left join owners o using (account, key_hash)
where cast(:account as text) is null or k.account = :account
order by k.account, credits_usd_30d desc, byok_usd_30d desc, k.name, k.key_hash
