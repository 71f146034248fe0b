"""ref/company_mapping: the mapping, validated, as versions; and what the list of companies says of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from orcost_pipeline.companies.company_list import ATTRIBUTES, unlisted
from orcost_pipeline.companies.coverage import DAYS, Coverage
from orcost_pipeline.companies.mapping import Mapping
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.defs.attribution import coverage, idle_rules, load_mapping, read_mapping_now, rules_of
from orcost_pipeline.defs.describe import column_schema, markdown_table
from orcost_pipeline.defs.mapping_source import read_companies
from orcost_pipeline.defs.pictures import bars
from orcost_pipeline.defs.resources import survived_restart, utc_now
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import LONGEST_LINE, few, markdown, message, short
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.company_list import publish_companies
from orcost_pipeline.warehouse.mappings import MappingVersion, RuleRow, rules_in_force, version_in_force

MAPPING_KEY = dg.AssetKey(["ref", "company_mapping"])


@dg.asset(
    key=MAPPING_KEY,
    group_name="ref",
    kinds={"csv", "postgres"},
    check_specs=[
        dg.AssetCheckSpec(
            "mapping_is_valid",
            asset=MAPPING_KEY,
            description="The mapping was accepted. A wrong one is refused whole, and the mapping in force stays.",
        ),
        dg.AssetCheckSpec(
            "every_rule_can_win",
            asset=MAPPING_KEY,
            description="No rule is repeated further down, and no rule is for an account that nobody configured.",
        ),
        dg.AssetCheckSpec(
            "every_rule_was_used",
            asset=MAPPING_KEY,
            description="Every rule that is in force for 30 days won a key in the last 30 days.",
        ),
        dg.AssetCheckSpec(
            "company_list_is_valid",
            asset=MAPPING_KEY,
            description="The list of companies, if there is one, was accepted. A wrong one is refused whole.",
        ),
        dg.AssetCheckSpec(
            "every_company_is_listed",
            asset=MAPPING_KEY,
            description="The list of companies, if there is one, knows every company of the mapping: "
            "a typing error would make two customers of one.",
        ),
    ],
)
def company_mapping(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[sa.Engine], settings: dg.ResourceParam[Settings]
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """One row per mapping version and line: a company's share of what a rule matches."""
    with survived_restart(context, settings):
        mapping, problem = read_mapping_now(settings, warehouse)
        companies, list_problem = read_companies(settings)
        if mapping is not None:
            load_mapping(warehouse, mapping, utc_now())
        if companies is not None:
            publish_companies(warehouse, ATTRIBUTES, companies)
        if problems := "\n".join(filter(None, (problem, list_problem))):
            runs.note_problem(warehouse, context.run.run_id, problems)
            context.log.warning(message(problems))
        now = utc_now()
        with warehouse.connect() as connection:
            in_force = rules_in_force(connection)
            rules = rules_of(in_force)
            covered = coverage(connection, settings, rules)
            idle = idle_rules(connection, covered, rules, now)
            metadata = mapping_metadata(version_in_force(connection), in_force, covered)
            metadata["dagster/column_schema"] = column_schema(connection, "ref.mapping_rule")
    yield dg.MaterializeResult(asset_key=MAPPING_KEY, metadata=metadata)
    yield _validity("mapping_is_valid", problem)
    yield _validity("company_list_is_valid", list_problem)
    yield _doubts("every_rule_can_win", _rules_that_cannot_win(mapping, settings) if mapping else [])
    yield _doubts("every_rule_was_used", idle)
    listed = [company.company for company in companies or ()]
    yield _doubts("every_company_is_listed", unlisted(mapping, listed) if mapping and companies is not None else [])


def mapping_metadata(version: MappingVersion | None, rows: Sequence[RuleRow], covered: Coverage) -> dict[str, Any]:
    """Version in force, rules, companies, what they cover, and the first rules as a table."""
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
    """Which part of the keys and of the money has a company; a bar for each day of credits."""
    if not covered.keys:
        return {}
    told: dict[str, Any] = {
        "keys_with_a_company": dg.MetadataValue.text(f"{covered.attributed_keys} of {covered.keys}")
    }
    for name, part in (("spend_with_a_company", covered.spend()), ("byok_with_a_company", covered.byok())):
        if part.whole:
            percent = 100 * (part.whole - part.unattributed) / part.whole
            told[name] = dg.MetadataValue.text(f"{percent:.1f} % of {part.whole:,.2f} USD in {DAYS} days")
    days = sorted(covered.credits_usd)
    if days:
        title = f"USD, {days[0]} – {days[-1]}; orange: no company"
        told["picture"] = dg.MetadataValue.md(bars([covered.credits_usd[day] for day in days], title))
    return told


def _rules_that_cannot_win(mapping: Mapping, settings: Settings) -> list[Mistake]:
    return [*mapping.warnings, *mapping.unknown_accounts(account.name for account in settings.accounts)]


def _validity(check: str, problem: str | None) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=MAPPING_KEY,
        check_name=check,
        passed=problem is None,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"mistakes": _lines(problem.splitlines())} if problem else {},
    )


def _doubts(check: str, doubts: Sequence[Mistake]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=MAPPING_KEY,
        check_name=check,
        passed=not doubts,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"lines": _lines(few([str(doubt) for doubt in doubts]))} if doubts else {},
    )


def _lines(lines: Sequence[str]) -> dg.MetadataValue:
    """Each line as an item of a list."""
    return dg.MetadataValue.md("\n".join(f"- {markdown(short(line, LONGEST_LINE))}" for line in lines))
