"""The contract checks: invariants of published data; if one is violated, nothing is published.

What stays out: business checks, which warn about what is published (`defs/checks.py`).
"""

from orcost_pipeline.warehouse.publication.step import ContractCheck
from orcost_pipeline.warehouse.publication.transaction import When

CONTRACT_CHECKS = (
    ContractCheck(
        name="every_usage_has_one_owner",
        relation="ref.assignment",
        invariant="Every key, and usage without a key, has owners whose shares sum to 1 on every day.",
        when=When.ALWAYS,
        reads=("core.api_key", "core.assignment"),
    ),
    ContractCheck(
        name="companies_sum_to_usage",
        relation="marts.company_spend_daily",
        invariant="Companies, Unattributed included, sum to the usage of each day, to the last digit.",
        when=When.ALWAYS,
        reads=("core.account_day", "core.usage_daily", "core.company_day", "touched_day"),
    ),
    ContractCheck(
        name="company_hours_sum_to_usage",
        relation="marts.company_spend_hourly",
        invariant="Companies, Unattributed included, sum to the usage of each hour, to the last digit.",
        when=When.ALWAYS,
        reads=("core.usage_hourly", "core.company_hour", "touched_hour", "moved_company"),
    ),
    ContractCheck(
        name="models_sum_to_usage",
        relation="marts.model_spend_monthly",
        invariant="Companies, Unattributed included, sum to the usage of each model in each month, to the last digit.",
        when=When.ALWAYS,
        reads=("core.account_day", "core.usage_daily", "core.model_month", "day_of_touched_month", "moved_company"),
    ),
    ContractCheck(
        name="holders_sum_to_companies",
        relation="marts.workspace_spend_daily",
        invariant="Creators, and workspaces, sum to each company's spend of each day, to the last digit.",
        when=When.ALWAYS,
        reads=("core.company_day", "core.holder_day", "held_day", "moved_company"),
    ),
    ContractCheck(
        name="rolling_totals_sum_to_keys",
        relation="marts.key_spend_rolling",
        invariant="Models, creators and workspaces of each rolling period sum to the keys, to the last digit.",
        when=When.EXTRACTION,
        reads=("core.key_rolling", "core.rolling_total"),
    ),
    # A mapping alone has no answers to compare with.
    ContractCheck(
        name="account_sums_to_its_answer",
        relation="core.usage_hourly",
        invariant="Keys and no key sum to what OpenRouter reports for the account in each hour that was read.",
        when=When.EXTRACTION,
        reads=("raw.usage_hourly", "core.usage_hourly", "asked_hours"),
    ),
    ContractCheck(
        name="settled_days_sum_to_activity",
        relation="core.usage_daily",
        invariant="Keys and no key sum to the account's activity on each day that was settled.",
        when=When.EXTRACTION,
        reads=("raw.activity_daily", "raw.usage_daily", "core.usage_daily", "built_day"),
    ),
)
