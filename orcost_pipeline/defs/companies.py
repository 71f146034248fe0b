"""ref/company_mapping: the mapping file, validated, as versions; and what the publication takes from it."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import dagster as dg
import sqlalchemy as sa

from orcost_pipeline.companies.assignment import Assignment, KeyHistory, KeyVersion, assign
from orcost_pipeline.companies.mapping import Mapping, MappingError, Rule, Share, read_mapping
from orcost_pipeline.defs.resources import utc_now
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.mappings import MappingVersion, RuleRow, load_version, rules_in_force, version_in_force

MAPPING_KEY = dg.AssetKey(["ref", "company_mapping"])


@dg.asset(
    key=MAPPING_KEY,
    group_name="ref",
    kinds={"csv", "postgres"},
    check_specs=[
        dg.AssetCheckSpec(
            "mapping_is_valid",
            asset=MAPPING_KEY,
            description="The mapping file was accepted. A wrong one is refused whole, and the mapping in force stays.",
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
    mapping, problem = read_mapping_file(settings, warehouse)
    if mapping is not None:
        load_mapping(warehouse, mapping)
    if problem is not None:
        runs.note_problem(warehouse, context.run.run_id, problem)
        context.log.warning(problem)
    with warehouse.connect() as connection:
        version = version_in_force(connection)
        rows = rules_in_force(connection)
    yield dg.MaterializeResult(asset_key=MAPPING_KEY, metadata=mapping_metadata(version, rows))
    yield dg.AssetCheckResult(
        asset_key=MAPPING_KEY,
        check_name="mapping_is_valid",
        passed=problem is None,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"mistakes": dg.MetadataValue.md(problem)} if problem else {},
    )
    yield _rules_that_cannot_win(mapping, settings)


def read_mapping_file(settings: Settings, engine: sa.Engine) -> tuple[Mapping | None, str | None]:
    """The mapping of the file, or what is wrong with it and what stays in force; neither where there never was one."""
    with engine.connect() as connection:
        version = version_in_force(connection)
    stays = f"the mapping of {version.loaded_at:%Y-%m-%d} stays in force" if version else "all spend is Unattributed"
    try:
        return read_mapping(settings.mapping.read_bytes(), settings.mapping.name), None
    except MappingError as error:
        return None, f"{settings.mapping.name} was refused; {stays}.\n{error.lines()}"
    except FileNotFoundError:
        if version is None:
            return None, None
        return None, f"{settings.mapping} is gone; {stays}. Put it back, or set ORCOST_MAPPING."
    except OSError as error:
        return None, f"{settings.mapping} cannot be read ({error.strerror}); {stays}."


def load_mapping(engine: sa.Engine, mapping: Mapping) -> MappingVersion:
    rows = [
        RuleRow(
            share.line,
            rule.position,
            share.company,
            rule.match,
            rule.pattern,
            rule.account,
            rule.valid_from,
            rule.valid_to,
            share.percent,
            share.note,
        )
        for rule in mapping.rules
        for share in rule.shares
    ]
    return load_version(
        engine, rows, source=mapping.source, sha256=mapping.sha256, rule_count=len(mapping.rules), now=utc_now()
    )


def mapping_metadata(version: MappingVersion | None, rows: Sequence[RuleRow]) -> dict[str, dg.MetadataValue]:
    """Version in force, rules, companies, and the first rules as a table."""
    if version is None:
        return {"note": dg.MetadataValue.text("No mapping was ever loaded: all spend is Unattributed.")}
    lines = [f"| {r.company} | {r.match} | {r.pattern} | {r.share.normalize():f} % |" for r in rows[:20]]
    table = "\n".join(["| company | match | pattern | share |", "|---|---|---|--:|", *lines])
    return {
        "version": dg.MetadataValue.int(version.version),
        "loaded_at": dg.TimestampMetadataValue(version.loaded_at.timestamp()),
        "rules": dg.MetadataValue.int(version.rule_count),
        "companies": dg.MetadataValue.int(len({row.company for row in rows})),
        "preview": dg.MetadataValue.md(table),
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


def rules_of(rows: Sequence[RuleRow]) -> list[Rule]:
    """The lines of a mapping, put together again into its rules."""
    return [_rule(list(lines)) for _, lines in groupby(rows, key=lambda row: row.position)]


def _rule(lines: list[RuleRow]) -> Rule:
    first = lines[0]
    shares = tuple(Share(line.company, line.share, line.line, line.note) for line in lines)
    return Rule(
        first.position, first.line, first.match, first.pattern, first.account, first.valid_from, first.valid_to, shares
    )


def assignments(connection: sa.Connection, account: str, versions: Sequence[sa.Row]) -> list[Assignment]:
    """Who owns the account's keys, by the mapping in force and the keys' history."""
    histories = [
        KeyHistory(key_hash, tuple(_version(row) for row in rows))
        for key_hash, rows in groupby(versions, key=lambda row: row.key_hash)
    ]
    return assign(account, rules_of(rules_in_force(connection)), histories)


def _version(row: sa.Row) -> KeyVersion:
    return KeyVersion(
        row.valid_from,
        row.name,
        row.label,
        row.workspace_id,
        row.workspace_name,
        row.creator_user_id,
        row.creator_email,
        row.external_user,
    )
