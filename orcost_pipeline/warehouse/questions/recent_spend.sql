select a.account,
    coalesce(sum(s.credits_usd) filter (where s.period = '7d'), 0) as spend_7d_usd,
    coalesce(sum(s.credits_usd) filter (where s.period = '30d'), 0) as spend_30d_usd,
    coalesce(sum(s.byok_usd) filter (where s.period = '30d'), 0) as byok_30d_usd,
    coalesce(sum(s.requests) filter (where s.period = '30d'), 0) as requests_30d,
    coalesce(sum(u.credits_usd), 0) as unattributed_30d_usd,
    coalesce(sum(u.byok_usd), 0) as unattributed_byok_30d_usd,
    coalesce(sum(u.credits_usd) filter (where s.key_id = 0), 0) as keyless_30d_usd,
    coalesce(sum(s.credits_usd) filter (where s.period = '24h'), 0) as spend_24h_usd,
    count(distinct nullif(s.key_id, 0)) filter (where u.credits_usd <> 0 or u.byok_usd <> 0) as unattributed_keys
from core.key_rolling s
join ref.account a using (account_id)
-- The row's amounts if it is Unattributed spend of the last 30 days, else null.
left join lateral (select s.credits_usd, s.byok_usd) u on s.period = '30d' and s.company_id = 0
group by a.account
