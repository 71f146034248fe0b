-- One row per account, UTC day, company and creator of the API keys (null: unknown): spend.
create or replace view marts.creator_spend_daily as
select
    a.account, s.day, c.company, case when s.is_known then s.holder end as creator,
    s.requests::numeric(38, 6) as requests,
    s.prompt_tokens::numeric(38, 6) as prompt_tokens,
    s.completion_tokens::numeric(38, 6) as completion_tokens,
    s.reasoning_tokens::numeric(38, 6) as reasoning_tokens,
    s.cached_tokens::numeric(38, 6) as cached_tokens,
    s.credits_usd::numeric(38, 18) as credits_usd,
    s.byok_usd::numeric(38, 18) as byok_usd,
    d.is_settled, a.as_of
from core.holder_day s
join core.account_day d using (account_id, day)
join ref.account a using (account_id)
join ref.company c using (company_id)
where s.attribute = 'creator';
