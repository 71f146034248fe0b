-- One row per account, UTC month and company: spend.

-- Days are summed by small ids before they get names.
create or replace view marts.company_spend_monthly as
select
    a.account, s.month, c.company,
    s.requests::numeric(38, 6) as requests,
    s.prompt_tokens::numeric(38, 6) as prompt_tokens,
    s.completion_tokens::numeric(38, 6) as completion_tokens,
    s.reasoning_tokens::numeric(38, 6) as reasoning_tokens,
    s.cached_tokens::numeric(38, 6) as cached_tokens,
    s.credits_usd::numeric(38, 18) as credits_usd,
    s.byok_usd::numeric(38, 18) as byok_usd,
    m.is_settled, a.as_of, c.display_name, c.external_id, c.cost_centre,
    c.owner_email, m.known_from, m.is_complete
from (
    select d.account_id, date_trunc('month', d.day::timestamp)::date as month, d.company_id,
        sum(d.requests) as requests, sum(d.prompt_tokens) as prompt_tokens,
        sum(d.completion_tokens) as completion_tokens, sum(d.reasoning_tokens) as reasoning_tokens,
        sum(d.cached_tokens) as cached_tokens, sum(d.credits_usd) as credits_usd, sum(d.byok_usd) as byok_usd
    from core.company_day d
    group by 1, 2, 3
) s
join core.month_span m using (account_id, month)
join ref.account a using (account_id)
join ref.company c using (company_id);
