select coalesce(sum(d.credits_usd), 0) as credits_usd, coalesce(sum(d.byok_usd), 0) as byok_usd,
    coalesce(sum(d.credits_usd) filter (where d.company_id = 0), 0) as unattributed_credits_usd,
    coalesce(sum(d.byok_usd) filter (where d.company_id = 0), 0) as unattributed_byok_usd
from core.company_day d
join ref.account a using (account_id)
where a.account = :account
