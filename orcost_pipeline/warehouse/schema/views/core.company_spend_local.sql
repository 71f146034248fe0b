-- No rows: the columns of marts.company_spend_local, with their types.

-- As core.company_spend is for marts.company_spend_between.
create or replace view core.company_spend_local as
select null::date as day, null::text as company, null::numeric(38, 6) as requests,
    null::numeric(38, 6) as prompt_tokens, null::numeric(38, 6) as completion_tokens,
    null::numeric(38, 6) as reasoning_tokens, null::numeric(38, 6) as cached_tokens,
    null::numeric(38, 18) as credits_usd, null::numeric(38, 18) as byok_usd
where false;
