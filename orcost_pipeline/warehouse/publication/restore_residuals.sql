-- Residuals of hours that are no longer reported, where the hours left of the day sum to what the account reports.
insert into core.usage_hourly (
    hour, account_id, key_id, model_id, requests, prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens,
    credits_usd, byok_usd, source
)
select hour, :account_id, 0, model_id, requests, prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens,
    credits_usd, byok_usd, source
from unkeyed_cell
where is_right and (requests <> 0 or abs(credits_usd) >= 1e-9 or abs(byok_usd) >= 1e-9)
