"""`orcost map log` and `map diff`: all versions of the mapping that were in force, and their changes."""

from collections.abc import Sequence

import sqlalchemy as sa
import typer
from rich.console import RenderableType
from rich.text import Text

from orcost_pipeline.cli.rendering import MOST_ROWS, as_json, cells, left_out, show, table
from orcost_pipeline.companies.mapping import Rule
from orcost_pipeline.companies.mapping_diff import KINDS, Kind, RuleChange, compare
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.formats import UNKNOWN, percentage
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.attribution import rules_of
from orcost_pipeline.text import MOST_NAMES, few, short
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.questions.mapping import MappingVersion, mapping_versions, rules_of_version

SIGNS: dict[Kind, str] = {"added": "+", "removed": "−", "changed": "~", "moved": "↕"}
STYLES: dict[Kind, str] = {"added": "green", "removed": "red", "changed": "yellow", "moved": ""}
NONE_YET = "No mapping was ever in force. Next: orcost map check, then: orcost sync"


def log(settings: Settings, output: str) -> None:
    """Prints all versions, the newest first, as `table` or `json`."""
    with snapshot(settings) as connection:
        known = mapping_versions(connection)
    if output == "json":
        typer.echo(as_json([version._asdict() for version in known]))
        return
    shown = known[:MOST_ROWS]
    more = left_out(len(known), len(shown), "orcost map log --format json")
    show(*([_versions(shown), *more] if known else [Text(NONE_YET)]))


def _versions(known: Sequence[MappingVersion]) -> RenderableType:
    drawn = table("Version", "In force from (UTC)", "Rules", "Changes", "Source", right=["Version", "Rules"])
    for version in known:
        counts: dict[Kind, int | None] = {kind: getattr(version, f"rules_{kind}") for kind in KINDS}
        changes = " ".join(f"{SIGNS[kind]}{count:,}" for kind, count in counts.items() if count)
        if None in counts.values():
            changes = UNKNOWN
        loaded = f"{version.loaded_at:%Y-%m-%d %H:%M}"
        source = short(version.source)
        drawn.add_row(
            *cells(str(version.version), loaded, f"{version.rule_count:,}", changes or "order of lines", source)
        )
    return drawn


def diff(settings: Settings, before: int | None, after: int | None, output: str) -> None:
    """Prints the changes between two versions, by default between the last two.

    Raises PermanentError for an unknown version, and where there is none yet.
    """
    with snapshot(settings) as connection:
        known = {version.version: version for version in mapping_versions(connection)}
        old, new = _chosen(max(known, default=None), before, after)
        changes = compare(_rules(connection, old), _rules(connection, new))
    if output == "json":
        data = {"before": old, "after": new, "changes": [_as_data(change) for change in changes]}
        typer.echo(as_json(data))
        return
    heading = f"Version {old} → {new} ({known[new].loaded_at:%Y-%m-%d %H:%M} UTC): "
    counts = [f"{count:,} {kind}" for kind in KINDS if (count := sum(change.kind == kind for change in changes))]
    show(Text(heading + (", ".join(counts) or "the same rules in the same order"), style="bold"))
    if changes:
        shown = changes[:MOST_ROWS]
        show(_changes(shown), *left_out(len(changes), len(shown), f"orcost map diff {old} {new} --format json"))


def _chosen(newest: int | None, before: int | None, after: int | None) -> tuple[int, int]:
    """The two versions to compare; version 0 is the state before the first one, without rules."""
    if newest is None:
        raise PermanentError(NONE_YET)
    new = newest if after is None else after
    old = new - 1 if before is None else before
    for wanted in (old, new):
        if not 0 <= wanted <= newest:
            raise PermanentError(f"There is no version {wanted} of the mapping; the newest is {newest}.")
    return old, new


def _rules(connection: sa.Connection, version: int) -> list[Rule]:
    return rules_of(rules_of_version(connection, version))


def _changes(changes: Sequence[RuleChange]) -> RenderableType:
    drawn = table("", "Line", "Rule", "Account", "Valid", "Companies", right=["Line"])
    for change in changes:
        rule = change.after or change.before
        assert rule is not None  # noqa: S101 - a change is of some rule
        drawn.add_row(
            *cells(
                SIGNS[change.kind],
                str(change.line),
                short(rule.name),
                rule.account or "all",
                _period(rule),
                _owners(change),
            ),
            style=STYLES[change.kind],
        )
    return drawn


def _period(rule: Rule) -> str:
    limits = f"from {rule.valid_from}" if rule.valid_from else "", f"until {rule.valid_to}" if rule.valid_to else ""
    return " ".join(filter(None, limits)) or "always"


def _owners(change: RuleChange) -> str:
    before, after = (_shares(rule) for rule in (change.before, change.after))
    if change.kind == "changed":
        return f"{before} → {after}"
    if change.kind == "moved" and change.before:
        return f"{after} (was line {change.before.line})"
    return before or after


def _shares(rule: Rule | None) -> str:
    if rule is None:
        return ""
    if len(rule.shares) == 1:
        return short(rule.shares[0].company)
    return ", ".join(
        few([f"{short(share.company)} {short(percentage(share.percent))} %" for share in rule.shares], MOST_NAMES)
    )


def _as_data(change: RuleChange) -> dict[str, object]:
    return {"change": change.kind, "before": _rule_data(change.before), "after": _rule_data(change.after)}


def _rule_data(rule: Rule | None) -> dict[str, object] | None:
    if rule is None:
        return None
    return {
        "line": rule.line,
        "match": rule.match,
        "pattern": rule.pattern,
        "account": rule.account,
        "valid_from": rule.valid_from,
        "valid_to": rule.valid_to,
        "shares": [
            {"company": share.company, "share": percentage(share.percent), "note": share.note} for share in rule.shares
        ],
    }
