"""`orcost map check` and `map explain`: is the mapping file valid, what would it move, and why is a key whose it is.

Loads nothing. What a change would move is in `mapping_preview.py`, what to do about keys without an owner in
`mapping_queue.py`.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from orcost_pipeline.cli import mapping_preview
from orcost_pipeline.cli.database import existing_snapshot, snapshot
from orcost_pipeline.cli.mapping_preview import Effect
from orcost_pipeline.cli.rendering import as_json, cells, clean, percentage, plural, share, show
from orcost_pipeline.cli.report import require_account
from orcost_pipeline.companies.assignment import Explanation, KeyHistory, KeyVersion, explain
from orcost_pipeline.companies.company_list import unlisted
from orcost_pipeline.companies.coverage import DAYS, Coverage
from orcost_pipeline.companies.mapping import Mapping, MappingError, Mistake, Rule, read_mapping
from orcost_pipeline.defs.attribution import key_version, rules_of
from orcost_pipeline.defs.mapping_source import MappingUnreadableError, read_companies, read_source
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse import reports
from orcost_pipeline.warehouse.mappings import rules_in_force
from orcost_pipeline.warehouse.reports import KeyVersionRow

SHORTEST_PREFIX = 6


# Check


def check(settings: Settings, file: Path | None, output: str) -> None:
    """Prints that a mapping file is valid, what its author may not have meant, and what it would move.

    Raises with all its mistakes.
    """
    source = str(file) if file else settings.mapping_name
    try:
        mapping = read_mapping(read_content(file), source) if file else read_project_mapping(settings)
    except MappingError as error:
        if output == "json":
            typer.echo(as_json({"source": source, "is_valid": False, "mistakes": _told(error.mistakes)}))
        raise PermanentError(str(error)) from None
    effect = mapping_preview.effect(settings, mapping.rules)
    if output == "json":
        typer.echo(as_json({**_validity(settings, mapping, effect), **mapping_preview.as_data(effect)}))
        return
    show_validity(settings, mapping, effect)
    mapping_preview.show_effect(effect)


def show_validity(settings: Settings, mapping: Mapping, effect: Effect) -> None:
    """One line of counts, one for each warning."""
    counts = [plural(len(mapping.rules), "rule"), plural(len(_companies(mapping)), "company", "companies")]
    typer.echo(f"{mapping.source} is valid: {', '.join([*counts, *_coverage(effect.coverage)])}.")
    for warning in _all_warnings(settings, mapping, effect):
        typer.echo(f"  warning, {clean(str(warning))}")
    _, problem = read_companies(settings)
    if problem:
        typer.echo(problem, err=True)


def read_project_mapping(settings: Settings) -> Mapping:
    """The mapping as it is now; raises MappingError where it is wrong, PermanentError where it cannot be read."""
    try:
        return read_source(settings, lambda: existing_snapshot(settings))
    except MappingUnreadableError as error:
        if not error.is_gone:
            raise
        raise PermanentError(
            f"{settings.mapping} is not there. Give the mapping's path, or set ORCOST_MAPPING."
        ) from None


def read_content(path: Path) -> bytes:
    """The bytes of a mapping file; raises PermanentError where there are none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PermanentError(f"{path} is not there. Give the mapping's path, or set ORCOST_MAPPING.") from None
    except OSError as error:
        raise PermanentError(f"{path} cannot be read ({error.strerror}).") from None


def _coverage(coverage: Coverage) -> Iterator[str]:
    """Which part of keys and money has an owner; nothing where there is none."""
    if coverage.keys:
        yield f"{coverage.attributed_keys:,} of {plural(coverage.keys, 'key')}"
    for part, of in ((coverage.spend(), f"the last {DAYS} days' spend"), (coverage.byok(), "their BYOK")):
        if part.whole:
            yield f"{share(part.whole - part.unattributed, part.whole)} of {of}"


def _validity(settings: Settings, mapping: Mapping, effect: Effect) -> dict[str, object]:
    return {
        "source": mapping.source,
        "is_valid": True,
        "rules": len(mapping.rules),
        "companies": len(_companies(mapping)),
        "warnings": _told(_all_warnings(settings, mapping, effect)),
    }


def _told(mistakes: Sequence[Mistake]) -> list[dict[str, object]]:
    return [{"line": mistake.line, "message": mistake.message} for mistake in mistakes]


def _companies(mapping: Mapping) -> set[str]:
    return {share.company for rule in mapping.rules for share in rule.shares}


def _all_warnings(settings: Settings, mapping: Mapping, effect: Effect) -> list[Mistake]:
    return sorted([*warnings_of(settings, mapping), *effect.idle], key=lambda warning: warning.line or 0)


def warnings_of(settings: Settings, mapping: Mapping) -> list[Mistake]:
    """What the author of a valid mapping may not have meant."""
    warnings = [*mapping.warnings, *mapping.unknown_accounts(account.name for account in settings.accounts)]
    companies, _ = read_companies(settings)
    if companies is not None:
        warnings += unlisted(mapping, (company.company for company in companies))
    return sorted(warnings, key=lambda warning: warning.line or 0)


# Explain


class Key(NamedTuple):
    """A key with its versions, oldest first."""

    account: str
    key_hash: str
    versions: tuple[KeyVersionRow, ...]

    @property
    def name(self) -> str:
        return self.versions[-1].name

    def history(self) -> KeyHistory:
        return KeyHistory(self.key_hash, tuple(key_version(row) for row in self.versions))

    def __str__(self) -> str:
        return f'{self.key_hash}  {clean(self.name)} (account "{self.account}")'


def explain_key(settings: Settings, wanted: str, on: date, account: str | None, output: str) -> None:
    """Prints who owns a key on a day by the mapping in force, which rule says so, and which others match."""
    with snapshot(settings) as connection:
        if account is not None:
            require_account(settings, reports.accounts(connection), account)
        keys = keys_of(reports.key_versions(connection, account))
        rules = rules_of(rules_in_force(connection))
    key = find_key(keys, wanted)
    explanation = explain(key.account, rules, key.history(), on)
    if output == "json":
        typer.echo(as_json(_as_data(key, explanation)))
        return
    show(*_sentences(key, explanation))


def find_key(keys: Sequence[Key], wanted: str) -> Key:
    """The one key with this hash, this name, this beginning of a hash, or, failing all, this former name."""
    is_prefix = len(wanted) >= SHORTEST_PREFIX
    for found in (
        [key for key in keys if key.key_hash == wanted],
        [key for key in keys if key.name == wanted],
        [key for key in keys if is_prefix and key.key_hash.startswith(wanted.lower())],
        [key for key in keys if wanted in {version.name for version in key.versions}],
    ):
        if len(found) > 1:
            listed = "\n".join(f"  {key}" for key in found)
            raise PermanentError(f'"{wanted}" is {len(found)} keys; give one of their hashes:\n{listed}')
        if found:
            return found[0]
    raise PermanentError(_unknown(keys, wanted))


def _unknown(keys: Sequence[Key], wanted: str) -> str:
    if not keys:
        return "No key is known yet. Next: orcost sync"
    names = {key.name.lower(): key.name for key in keys}
    close = [f'"{clean(names[name])}"' for name in get_close_matches(wanted.lower(), names, n=3)]
    return f'No key is called "{wanted}", nor has it as its hash.' + (f" Near: {', '.join(close)}." if close else "")


def keys_of(rows: Sequence[KeyVersionRow]) -> list[Key]:
    """Keys with their versions; rows of a key stand together, oldest first."""
    grouped = groupby(rows, key=lambda row: (row.account, row.key_hash))
    return [Key(account, key_hash, tuple(versions)) for (account, key_hash), versions in grouped]


def _as_data(key: Key, explanation: Explanation) -> dict[str, object]:
    rule = explanation.rule
    return {
        "account": key.account,
        "key_hash": key.key_hash,
        "key_name": key.name,
        "at": explanation.on,
        "name_at": explanation.version.name if explanation.version else None,
        "company": explanation.company,
        "shares": [{"company": company, "share": percentage(percent)} for company, percent in explanation.shares],
        "rule": rule.name if rule else None,
        "line": rule.line if rule else None,
        "considered": [
            {"rule": other.rule.name, "line": other.rule.line, "reason": other.reason}
            for other in explanation.considered
        ],
    }


def _sentences(key: Key, explanation: Explanation) -> Iterator[Text | Table]:
    owners = ", ".join(f"{company} {percentage(percent)} %" for company, percent in explanation.shares)
    if explanation.company is not None:
        owners = explanation.company
    yield Text(clean(f"{_described(key, explanation.version)} on {explanation.on}: {owners}"), style="bold")
    lines = list(_reasons(explanation))
    if not explanation.rule:
        yield Text("  no rule matches" + (" on that day" if lines else ""))
    if lines:
        drawn = Table.grid(padding=(0, 2))
        for line in lines:
            drawn.add_row("", *cells(*line))
        yield drawn


def _described(key: Key, version: KeyVersion | None) -> str:
    """The key as it was called that day."""
    name = version.name if version else key.name
    told = [f"{key.key_hash[:8]}…"]
    if version and version.workspace_name:
        told.append(f"workspace {version.workspace_name}")
    if name != key.name:
        told.append(f"today {key.name}")
    return f"{name} ({', '.join(told)})"


def _reasons(explanation: Explanation) -> Iterator[tuple[str, str, str, str, str]]:
    """The winning rule, then those that match too and lose."""
    if rule := explanation.rule:
        limits = [
            f"from {rule.valid_from}" if rule.valid_from else "",
            f"until {rule.valid_to}" if rule.valid_to else "",
        ]
        yield "by", f"line {rule.line}", rule.match, _pattern(rule), " ".join(filter(None, limits))
    for other in explanation.considered:
        verdict = "beaten" if other.reason.startswith("later") else "not valid"
        yield verdict, f"line {other.rule.line}", other.rule.match, _pattern(other.rule), f"({other.reason})"


def _pattern(rule: Rule) -> str:
    return f"{rule.pattern[:8]}…" if rule.match == "key_hash" else rule.pattern
