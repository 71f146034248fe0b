"""ref/company_mapping: the mapping, validated, as versions."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pandas as pd
import sqlalchemy as sa

from orcost_pipeline.companies.mapping import Mapping
from orcost_pipeline.defs.attribution import load_mapping, read_mapping_now
from orcost_pipeline.defs.describe import column_schema, markdown_table
from orcost_pipeline.defs.resources import survived_restart, utc_now
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse import runs
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
    ],
)
def company_mapping(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[sa.Engine], settings: dg.ResourceParam[Settings]
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """One row per mapping version and line: a company's share of what a rule matches."""
    with survived_restart(context, settings):
        mapping, problem = read_mapping_now(settings, warehouse)
        if mapping is not None:
            load_mapping(warehouse, mapping, utc_now())
        if problem is not None:
            runs.note_problem(warehouse, context.run.run_id, problem)
            context.log.warning(problem)
        with warehouse.connect() as connection:
            metadata = mapping_metadata(version_in_force(connection), rules_in_force(connection))
            metadata["dagster/column_schema"] = column_schema(connection, "ref.mapping_rule")
    yield dg.MaterializeResult(asset_key=MAPPING_KEY, metadata=metadata)
    yield dg.AssetCheckResult(
        asset_key=MAPPING_KEY,
        check_name="mapping_is_valid",
        passed=problem is None,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"mistakes": dg.MetadataValue.md(problem)} if problem else {},
    )
    yield _rules_that_cannot_win(mapping, settings)


def mapping_metadata(version: MappingVersion | None, rows: Sequence[RuleRow]) -> dict[str, Any]:
    """Version in force, rules, companies, and the first rules as a table."""
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
        "lines_by_company": dg.MetadataValue.md(markdown_table(by_company.head(20))),
        "preview": dg.MetadataValue.md(markdown_table(frame.head(20).reindex(columns=columns))),
    }


def _rules_that_cannot_win(mapping: Mapping | None, settings: Settings) -> dg.AssetCheckResult:
    warnings = [
        *(mapping.warnings if mapping else ()),
        *(mapping.unknown_accounts(account.name for account in settings.accounts) if mapping else ()),
    ]
    return dg.AssetCheckResult(
        asset_key=MAPPING_KEY,
        check_name="every_rule_can_win",
        passed=not warnings,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"rules": dg.MetadataValue.md("\n".join(f"- {warning}" for warning in warnings[:20]))}
        if warnings
        else {},
    )
