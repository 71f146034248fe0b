-- Residuals of hours that are no longer reported, where the hours left of the day sum to what the account reports.
insert into core.usage_hourly
select hour, :account_id, 0, model_id, requests, prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens,
    credits_usd, byok_usd, source
from unkeyed_cell
where is_right and (requests <> 0 or greatest(abs(credits_usd), abs(byok_usd)) >= :residual_from_usd)
