-- Owners do not matter to model, creator or workspace: the shares of a key sum to its usage.
select a.account, a.as_of,
    case when t.is_known and t.attribute = 'model' then t.value end as model,
    case when t.is_known and t.attribute = 'creator' then t.value end as creator,
    case when t.is_known and t.attribute = 'workspace' then t.value end as workspace,
    t.requests, t.prompt_tokens, t.completion_tokens, t.reasoning_tokens, t.cached_tokens, t.credits_usd, t.byok_usd
from core.rolling_total t
join ref.account a using (account_id)
where t.attribute = :by and t.period = :period and (cast(:account as text) is null or a.account = :account)
