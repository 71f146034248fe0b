-- No rows: the columns of marts.company_spend_between, with their types.

-- Postgres keeps precision and scale in the columns of a relation, and drops them in those of a function.
create or replace view core.company_spend as
select null::text as company, null::numeric(38, 6) as requests, null::numeric(38, 6) as prompt_tokens,
    null::numeric(38, 6) as completion_tokens, null::numeric(38, 6) as reasoning_tokens,
    null::numeric(38, 6) as cached_tokens, null::numeric(38, 18) as credits_usd, null::numeric(38, 18) as byok_usd,
    null::timestamptz as known_from, null::boolean as is_complete
where false;
