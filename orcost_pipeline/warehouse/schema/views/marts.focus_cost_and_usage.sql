-- One row per account, UTC day, company, API key (null: usage without a key), model and provider: the rows of
-- marts.spend_daily in the columns of FOCUS 1.2 and 1.4.

-- OpenRouter reports one amount per key, model and time, so that nothing is split by kind of token and no unit price
-- is given. Usage is billed as it is deducted from the credits, not as credits are bought.
create or replace view marts.focus_cost_and_usage as
select
    credits_usd as "BilledCost",
    account as "BillingAccountId",
    account as "BillingAccountName",
    'USD' as "BillingCurrency",
    (date_trunc('month', day::timestamp) + interval '1 month') at time zone 'UTC' as "BillingPeriodEnd",
    date_trunc('month', day::timestamp) at time zone 'UTC' as "BillingPeriodStart",
    'Usage' as "ChargeCategory",
    null::text as "ChargeClass",
    'Usage of ' || model || coalesce(' at ' || provider, '') as "ChargeDescription",
    'Usage-Based' as "ChargeFrequency",
    (day + 1)::timestamp at time zone 'UTC' as "ChargePeriodEnd",
    day::timestamp at time zone 'UTC' as "ChargePeriodStart",
    (prompt_tokens + completion_tokens)::numeric(38, 6) as "ConsumedQuantity",
    'Tokens' as "ConsumedUnit",
    credits_usd as "ContractedCost",
    credits_usd as "EffectiveCost",
    provider as "HostProviderName",
    'OpenRouter' as "InvoiceIssuerName",
    credits_usd as "ListCost",
    'Standard' as "PricingCategory",
    (prompt_tokens + completion_tokens)::numeric(38, 6) as "PricingQuantity",
    'Tokens' as "PricingUnit",
    'OpenRouter' as "ProviderName",
    'OpenRouter' as "PublisherName",
    key_hash as "ResourceId",
    -- FOCUS requires null, not a blank, for a key without a name.
    nullif(key_name, '') as "ResourceName",
    case when key_hash is not null then 'API key' end as "ResourceType",
    'AI and Machine Learning' as "ServiceCategory",
    'OpenRouter' as "ServiceName",
    'OpenRouter' as "ServiceProviderName",
    'Generative AI' as "ServiceSubcategory",
    model as "SkuId",
    company as "SubAccountId",
    company as "SubAccountName",
    'Company' as "SubAccountType",
    byok_usd as "x_ByokCost",
    cached_tokens as "x_CachedTokens",
    completion_tokens as "x_CompletionTokens",
    prompt_tokens as "x_PromptTokens",
    provider as "x_Provider",
    reasoning_tokens as "x_ReasoningTokens",
    requests as "x_Requests"
from marts.spend_daily;
