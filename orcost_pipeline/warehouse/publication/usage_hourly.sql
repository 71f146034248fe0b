-- One row per UTC hour, API key and model that the keys were asked for in this run.
create temporary table staged_usage_hourly on commit drop as
select
    r.hour, :account_id ::integer as account_id, k.key_id, m.model_id, r.requests, r.prompt_tokens,
    r.completion_tokens, r.reasoning_tokens, r.cached_tokens, r.credits_usd, r.byok_usd,
    'analytics'::core.usage_source as source
from raw.usage_hourly r
join core.api_key k on k.account_id = :account_id and k.key_hash = r.key_hash
join core.model m on m.model = r.model
where r.run_id = :extraction_id and r.account = :account
