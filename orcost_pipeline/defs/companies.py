"""The asset ref/company_mapping: versions of the validated mapping, and checks against the list of companies."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from orcost_pipeline.companies.company_list import ATTRIBUTES, unlisted
from orcost_pipeline.companies.coverage import DAYS, Coverage
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.defs.describe import column_schema, markdown_table
from orcost_pipeline.defs.pictures import bars
from orcost_pipeline.defs.placement import MAPPING, Placement
from orcost_pipeline.defs.resources import Surroundings, survived_restart
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.attribution import coverage, idle_rules, load_mapping, read_mapping_now, rules_of
from orcost_pipeline.sync.mapping_source import read_companies
from orcost_pipeline.text import LONGEST_LINE, few, markdown, message, short
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.company_list import publish_companies
from orcost_pipeline.warehouse.questions.mapping import MappingVersion, RuleRow, rules_in_force, version_in_force
from orcost_pipeline.warehouse.thresholds import publish_thresholds

# check → its description
_CHECKS = {
    "mapping_is_valid": "The mapping was accepted. A wrong one is refused whole, and the mapping in force stays.",
    "every_rule_can_win": "No rule is repeated further down, and no rule names an account that is not configured.",
    "every_rule_was_used": "Every rule that is in force for 30 days won a key in the last 30 days.",
    "company_list_is_valid": "The list of companies, if there is one, was accepted. A wrong one is refused whole.",
    "every_company_is_listed": "The list of companies, if there is one, knows every company of the mapping: "
    "a typing error would make two customers of one.",
}


def assets(place: Placement) -> list[dg.AssetsDefinition]:
    """The asset of the mapping, which all accounts share."""
    key = place.key(MAPPING)

    @dg.multi_asset(
        name="__".join(key.path),
        specs=[place.spec(MAPPING, [], {"csv", "postgres"})],
        check_specs=[place.check(name, MAPPING, law) for name, law in _CHECKS.items()],
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
    """Brings the mapping and the list of companies into force, each if it is valid; returns all results.

    Problems are noted at the run and do not raise.
    """
    mapping, problem = read_mapping_now(settings, warehouse)
    companies, list_problem = read_companies(settings)
    if mapping is not None:
        load_mapping(warehouse, mapping, now)
    if companies is not None:
        publish_companies(warehouse, ATTRIBUTES, companies)
    publish_thresholds(warehouse, settings.alerts.key_limit_percent, settings.alerts.budget_percent)
    if problems := "\n".join(filter(None, (problem, list_problem))):
        runs.note_problem(warehouse, context.run.run_id, problems)
        context.log.warning(message(problems))
    with warehouse.connect() as connection:
        in_force = rules_in_force(connection)
        rules = rules_of(in_force)
        covered = coverage(connection, settings, rules)
        idle = idle_rules(connection, covered, rules, now)
        metadata = mapping_metadata(version_in_force(connection), in_force, covered)
        metadata["dagster/row_count"] = len(in_force)
        metadata["dagster/column_schema"] = column_schema(connection, "ref.mapping_rule")
    listed = [company.company for company in companies or ()]
    unlisted_companies = unlisted(mapping, listed) if mapping and companies is not None else []
    accounts = [account.name for account in settings.accounts]
    unwinnable = [*mapping.warnings, *mapping.unknown_accounts(accounts)] if mapping else []
    return [
        dg.MaterializeResult(asset_key=key, metadata=metadata),
        _validity(key, "mapping_is_valid", problem),
        _validity(key, "company_list_is_valid", list_problem),
        _doubts(key, "every_rule_can_win", unwinnable),
        _doubts(key, "every_rule_was_used", idle),
        _doubts(key, "every_company_is_listed", unlisted_companies),
    ]


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


def _validity(key: dg.AssetKey, check: str, problem: str | None) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=check,
        passed=problem is None,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"mistakes": _lines(problem.splitlines())} if problem else {},
    )


def _doubts(key: dg.AssetKey, check: str, doubts: Sequence[Mistake]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=check,
        passed=not doubts,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"lines": _lines(few([str(doubt) for doubt in doubts]))} if doubts else {},
    )


def _lines(lines: Sequence[str]) -> dg.MetadataValue:
    """The lines as a Markdown list."""
    return dg.MetadataValue.md("\n".join(f"- {markdown(short(line, LONGEST_LINE))}" for line in lines))
