-- Days whose usage or holders changed, and all days of companies that got or lost keys, on which the spend of creators,
-- or of workspaces, is not that of the company, to the last digit.
with holders as (
    select s.attribute, s.day, s.company_id, sum(s.requests) as requests,
        sum(s.prompt_tokens + s.completion_tokens) as tokens, sum(s.credits_usd) as credits_usd,
        sum(s.byok_usd) as byok_usd
    from core.holder_day s
    where s.account_id = :account_id
        and (s.day in (select day from held_day) or s.company_id in (select company_id from moved_company))
    group by s.attribute, s.day, s.company_id
), companies as (
    select a.attribute, s.day, s.company_id, s.requests, s.prompt_tokens + s.completion_tokens as tokens,
        s.credits_usd, s.byok_usd
    from core.company_day s
    cross join (values ('creator'), ('workspace')) as a (attribute)
    where s.account_id = :account_id
        and (s.day in (select day from held_day) or s.company_id in (select company_id from moved_company))
)
select attribute, day, company_id, c.credits_usd as company_usd, h.credits_usd as holders_usd
from companies c
full join holders h using (attribute, day, company_id)
where (c.requests, c.tokens, c.credits_usd, c.byok_usd)
    is distinct from (h.requests, h.tokens, h.credits_usd, h.byok_usd)
