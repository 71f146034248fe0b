"""Checks of what is published. Contract checks block: they run inside the publication, before its commit. Business
checks warn: they find what a person should look at, and carry up to ten rows of it.
"""

from typing import NamedTuple

import dagster as dg
import sqlalchemy as sa

from orcost_pipeline.settings import Settings
from orcost_pipeline.text import LONGEST_VALUE, short

# check → (asset, law); the SQL is warehouse/sql/check_<name>.sql
CONTRACT_CHECK_ASSETS = {
    "every_usage_has_one_owner": (
        ["ref", "assignment"],
        "Every key, and usage with no key, has owners whose shares sum to 1 on every day.",
    ),
    "companies_sum_to_usage": (
        ["marts", "company_spend_daily"],
        "Companies, Unattributed included, sum to the usage of each day, to the last digit.",
    ),
    "account_sums_to_its_answer": (
        ["core", "usage_hourly"],
        "Keys and no key sum to what OpenRouter says the account used in each hour that was read.",
    ),
    "settled_days_sum_to_activity": (
        ["core", "usage_daily"],
        "Keys and no key sum to the account's activity on each day that was settled.",
    ),
}


class BusinessCheck(NamedTuple):
    """A warning: the asset, what it means when it fires, and the SQL for the rows that make it fire."""

    asset: list[str]
    description: str
    sql: str


BUSINESS_CHECKS = {
    "unattributed_share_is_small": BusinessCheck(
        ["marts", "company_spend_rolling"],
        "Unattributed is at most 5 % of the last 30 days' spend, or what orcost.toml says "
        "(unattributed_percent under [alerts]); otherwise the mapping lacks rules.",
        "select round(100 * unattributed / whole, 2)::text as percent, unattributed::text, what from ("
        "select what, sum(usd) as whole, sum(usd) filter (where company = 'Unattributed') as unattributed "
        "from marts.company_spend_rolling, "
        "lateral (values ('credits_usd', credits_usd), ('byok_usd', byok_usd)) amounts (what, usd) "
        "where account = :account and period = '30d' group by what"
        ") spend where 100 * unattributed > :unattributed_percent * whole",
    ),
    "witnesses_agree": BusinessCheck(
        ["marts", "reconciliation_daily"],
        "No day is open: keys, hours and activity tell the same, or differ for a known cause.",
        "select day::text, residual_credits_usd::text, hours_credits_usd::text, account_credits_usd::text, cause "
        "from marts.reconciliation_daily where account = :account and status = 'open' order by day desc limit 10",
    ),
    "settled_days_stay_as_they_were": BusinessCheck(
        ["ops", "restatement"],
        "OpenRouter restated no settled day in this sync.",
        "select r.day::text, r.key_hash, r.model, r.credits_usd_before::text, r.credits_usd_after::text "
        "from ops.restatement r join ref.account a on a.account = r.account and a.as_of = r.noticed_at "
        "where r.account = :account order by r.day desc limit 10",
    ),
}


def check_specs() -> list[dg.AssetCheckSpec]:
    contract = [
        dg.AssetCheckSpec(name, asset=dg.AssetKey(asset), description=law, blocking=True)
        for name, (asset, law) in CONTRACT_CHECK_ASSETS.items()
    ]
    business = [
        dg.AssetCheckSpec(name, asset=dg.AssetKey(check.asset), description=check.description)
        for name, check in BUSINESS_CHECKS.items()
    ]
    return contract + business


def business_check(
    connection: sa.Connection, key: dg.AssetCheckKey, account: str, settings: Settings
) -> dg.AssetCheckResult:
    check = BUSINESS_CHECKS[key.name]
    parameters = {"account": account, "unattributed_percent": settings.unattributed_percent}
    rows = [dict(row) for row in connection.execute(sa.text(check.sql), parameters).mappings()]
    records = [dg.TableRecord({name: short(str(value), LONGEST_VALUE) for name, value in row.items()}) for row in rows]
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=not rows,
        severity=dg.AssetCheckSeverity.WARN,
        description=check.description,
        metadata={"found": len(rows), **({"rows": dg.MetadataValue.table(records)} if records else {})},
    )
