"""The asset ref/company_mapping: versions of the validated mapping, and the other files of companies: their list, price
plans and exchange rates."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from orcost_pipeline.billing.exchange_rates import ExchangeRates
from orcost_pipeline.billing.price_plans import PricePlans
from orcost_pipeline.companies.company_list import ATTRIBUTES, Company, unlisted
from orcost_pipeline.companies.coverage import DAYS, Coverage
from orcost_pipeline.companies.mapping import Mapping
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.defs.describe import column_schema, markdown_table
from orcost_pipeline.defs.file_checks import doubts, validity
from orcost_pipeline.defs.pictures import bars
from orcost_pipeline.defs.placement import MAPPING, Placement
from orcost_pipeline.defs.resources import Surroundings, survived_restart
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.attribution import coverage, idle_rules, load_mapping, read_mapping_now, rules_of
from orcost_pipeline.sync.mapping_source import read_companies
from orcost_pipeline.sync.plans import plan_doubts, read_plans_now, read_rates_now
from orcost_pipeline.sync.sources import Outcome
from orcost_pipeline.text import message, plural
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.billing_files import load_plans, load_rates
from orcost_pipeline.warehouse.company_list import publish_companies
from orcost_pipeline.warehouse.questions.mapping import MappingVersion, RuleRow, rules_in_force, version_in_force
from orcost_pipeline.warehouse.questions.plans import PlanVersion, plan_version_in_force
from orcost_pipeline.warehouse.thresholds import publish_thresholds

# check → its description
_CHECKS = {
    "mapping_is_valid": "The mapping was accepted. A wrong one is refused whole, and the mapping in force stays.",
    "every_rule_can_win": "No rule is repeated further down, and no rule names an account that is not configured.",
    "every_rule_was_used": "Every rule that is in force for 30 days won a key in the last 30 days.",
    "company_list_is_valid": "The list of companies, if there is one, was accepted. A wrong one is refused whole.",
    "every_company_is_listed": "The list of companies, if there is one, knows every company of the mapping: "
    "a typing error would make two customers of one.",
    "price_plans_are_valid": "The price plans, if there are any, were accepted. Wrong ones are refused whole, and "
    "those in force stay.",
    "every_plan_row_can_hold": "Each row of the price plans can hold on some day, for a model used in the last 30 "
    "days, and is for a company that is known.",
    "exchange_rates_are_valid": "The exchange rates, if there are any, were accepted. Wrong ones are refused whole.",
}


def assets(place: Placement) -> list[dg.AssetsDefinition]:
    """The asset of the mapping, which all accounts share."""
    key = place.key(MAPPING)

    @dg.multi_asset(
        name="__".join(key.path),
        specs=[place.spec(MAPPING, [], {"csv", "postgres"})],
        check_specs=[place.check(name, MAPPING, expectation) for name, expectation in _CHECKS.items()],
    )
    def company_mapping(
        context: dg.AssetExecutionContext,
        orcost_warehouse: dg.ResourceParam[sa.Engine],
        orcost: dg.ResourceParam[Settings],
        orcost_surroundings: dg.ResourceParam[Surroundings],
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        with survived_restart(context, orcost, orcost_surroundings):
            results = _load(context, key, orcost_warehouse, orcost, orcost_surroundings.clock())
        yield from results

    return [company_mapping]


def _load(
    context: dg.AssetExecutionContext, key: dg.AssetKey, warehouse: sa.Engine, settings: Settings, now: datetime
) -> list[dg.MaterializeResult | dg.AssetCheckResult]:
    """Brings the mapping, the list of companies, price plans and exchange rates into force, each if it is valid;
    returns all results.

    Problems are noted at the run and do not raise.
    """
    mapping, problem = read_mapping_now(settings, warehouse)
    companies, list_problem = read_companies(settings)
    if mapping is not None:
        load_mapping(warehouse, mapping, now)
    if companies is not None:
        publish_companies(warehouse, ATTRIBUTES, companies)
    alerts, show_cost = settings.alerts, settings.billing.show_cost
    publish_thresholds(warehouse, alerts.key_limit_percent, alerts.budget_percent, show_cost=show_cost)
    billing = _load_billing(warehouse, settings, now)
    if problems := "\n".join(filter(None, (problem, list_problem, billing.plans.problem, billing.rates.problem))):
        runs.note_problem(warehouse, context.run.run_id, problems)
        context.log.warning(message(problems))
    with warehouse.connect() as connection:
        in_force = rules_in_force(connection)
        rules = rules_of(in_force)
        covered = coverage(connection, settings, rules)
        idle = idle_rules(connection, covered, rules, now)
        metadata = mapping_metadata(version_in_force(connection), in_force, covered)
        metadata["price_plans"] = plan_metadata(plan_version_in_force(connection))
        metadata["dagster/row_count"] = len(in_force)
        metadata["dagster/column_schema"] = column_schema(connection, "ref.mapping_rule")
        doubted = _doubted_plans(connection, billing.plans.content, mapping, companies, now)
    listed = [company.company for company in companies or ()]
    unlisted_companies = unlisted(mapping, listed) if mapping and companies is not None else []
    accounts = [account.name for account in settings.accounts]
    unwinnable = [*mapping.warnings, *mapping.unknown_accounts(accounts)] if mapping else []
    return [
        dg.MaterializeResult(asset_key=key, metadata=metadata),
        validity(key, "mapping_is_valid", problem),
        validity(key, "company_list_is_valid", list_problem),
        doubts(key, "every_rule_can_win", unwinnable),
        doubts(key, "every_rule_was_used", idle),
        doubts(key, "every_company_is_listed", unlisted_companies),
        validity(key, "price_plans_are_valid", billing.plans.problem),
        doubts(key, "every_plan_row_can_hold", doubted),
        validity(key, "exchange_rates_are_valid", billing.rates.problem),
    ]


class _Billing(NamedTuple):
    """The price plans and exchange rates as they are written now, or the problems with them."""

    plans: Outcome[PricePlans]
    rates: Outcome[ExchangeRates]


def _load_billing(warehouse: sa.Engine, settings: Settings, now: datetime) -> _Billing:
    """Brings price plans and exchange rates into force, each if it is valid."""
    billing = _Billing(read_plans_now(settings, warehouse), read_rates_now(settings, warehouse))
    if plans := billing.plans.content:
        load_plans(warehouse, plans.rows, source=plans.source, sha256=plans.sha256, now=now)
    if rates := billing.rates.content:
        load_rates(warehouse, rates.rows)
    return billing


def _doubted_plans(
    connection: sa.Connection,
    plans: PricePlans | None,
    mapping: Mapping | None,
    companies: Sequence[Company] | None,
    now: datetime,
) -> list[Mistake]:
    """Warnings about valid price plans, by line; none without plans."""
    if plans is None:
        return []
    return sorted(
        [*plans.warnings, *plan_doubts(connection, plans.rows, mapping, companies, now)], key=lambda it: it.line or 0
    )


def mapping_metadata(version: MappingVersion | None, rows: Sequence[RuleRow], covered: Coverage) -> dict[str, Any]:
    """Metadata: version in force, numbers of rules and companies, coverage, and the first rules as a table."""
    if version is None:
        return {"note": dg.MetadataValue.text("No mapping was ever loaded: all spend is Unattributed.")}
    frame = pd.DataFrame(rows, columns=list(RuleRow._fields), dtype=object)
    columns = ["line", "company", "match", "pattern", "valid_from", "valid_to", "share"]
    by_company = frame.groupby("company", sort=False, as_index=False).agg(lines=("line", "size"))
    return {
        "version": dg.MetadataValue.int(version.version),
        "loaded_at": dg.TimestampMetadataValue(version.loaded_at.timestamp()),
        "rules": dg.MetadataValue.int(version.rule_count),
        "companies": dg.MetadataValue.int(len(by_company)),
        **_coverage_metadata(covered),
        "lines_by_company": dg.MetadataValue.md(markdown_table(by_company.head(20))),
        "preview": dg.MetadataValue.md(markdown_table(frame.head(20).reindex(columns=columns))),
    }


def plan_metadata(version: PlanVersion | None) -> dg.MetadataValue:
    """The version of the price plans in force, as a text."""
    if version is None:
        return dg.MetadataValue.text("none: usage is charged at cost")
    loaded = f"{version.loaded_at:%Y-%m-%d}"
    return dg.MetadataValue.text(f"version {version.version} of {loaded}: {plural(version.row_count, 'row')}")


def _coverage_metadata(covered: Coverage) -> dict[str, Any]:
    """Metadata: the attributed parts of keys and spend, and a bar per day of credits (USD)."""
    if not covered.keys:
        return {}
    metadata: dict[str, Any] = {
        "keys_with_a_company": dg.MetadataValue.text(f"{covered.attributed_keys} of {covered.keys}")
    }
    for name, part in (("spend_with_a_company", covered.spend()), ("byok_with_a_company", covered.byok())):
        if part.whole:
            percent = 100 * (part.whole - part.unattributed) / part.whole
            metadata[name] = dg.MetadataValue.text(f"{percent:.1f} % of {part.whole:,.2f} USD in {DAYS} days")
    days = sorted(covered.credits_usd)
    if days:
        title = f"USD, {days[0]} – {days[-1]}; orange: no company"
        metadata["picture"] = dg.MetadataValue.md(bars([covered.credits_usd[day] for day in days], title))
    return metadata
