"""`orcost map explain`: why a key belongs to its owners on a day, by the mapping in force."""

from collections.abc import Iterator, Sequence
from datetime import date
from difflib import get_close_matches
from itertools import groupby
from typing import NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from orcost_pipeline.cli.rendering import as_json, cells, left_out, show
from orcost_pipeline.cli.report import require_account
from orcost_pipeline.companies.assignment import Explanation, KeyHistory, KeyVersion, explain
from orcost_pipeline.companies.mapping import Rule
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.formats import key_name, percentage, short_hash
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.attribution import key_version, rules_of
from orcost_pipeline.text import LONGEST_VALUE, MOST_ITEMS, few, quoted, short
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.questions.accounts import account_states
from orcost_pipeline.warehouse.questions.keys import KeyVersionRow, key_versions
from orcost_pipeline.warehouse.questions.mapping import rules_in_force

SHORTEST_PREFIX = 6


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
        return f'{self.key_hash}  {key_name(self.name, self.key_hash)} (account "{self.account}")'


def explain_key(settings: Settings, wanted: str, on: date, account: str | None, output: str) -> None:
    """Prints the owners of a key on a UTC day by the mapping in force, the winning rule, and other matching rules.

    Raises PermanentError for an unknown account, and for a key that is unknown or ambiguous.
    """
    with snapshot(settings) as connection:
        if account is not None:
            require_account(settings, account_states(connection), account)
        keys = keys_of(key_versions(connection, account))
        rules = rules_of(rules_in_force(connection))
    key = find_key(keys, wanted)
    explanation = explain(key.account, rules, key.history(), on)
    if output == "json":
        typer.echo(as_json(_as_data(key, explanation)))
        return
    show(*_sentences(key, explanation))


def find_key(keys: Sequence[Key], wanted: str) -> Key:
    """The one key with this hash, name, beginning of a hash, or former name, tried in this order.

    Raises PermanentError where none or several match.
    """
    is_prefix = len(wanted) >= SHORTEST_PREFIX
    for found in (
        [key for key in keys if key.key_hash == wanted],
        [key for key in keys if key.name == wanted],
        [key for key in keys if is_prefix and key.key_hash.startswith(wanted.lower())],
        [key for key in keys if wanted in {version.name for version in key.versions}],
    ):
        if len(found) > 1:
            listed = "\n".join(f"  {line}" for line in few([str(key) for key in found]))
            raise PermanentError(f"{quoted(wanted)} is {len(found)} keys; give one of their hashes:\n{listed}")
        if found:
            return found[0]
    raise PermanentError(_unknown(keys, wanted))


def _unknown(keys: Sequence[Key], wanted: str) -> str:
    if not keys:
        return "No key is known yet. Next: orcost sync"
    names = {key.name.lower(): key.name for key in keys}
    close = [quoted(names[name]) for name in get_close_matches(wanted.lower(), names, n=3)]
    return f"No key is called {quoted(wanted)}, nor has it as its hash." + (
        f" Near: {', '.join(close)}." if close else ""
    )


def keys_of(rows: Sequence[KeyVersionRow]) -> list[Key]:
    """Keys with their versions; the rows of a key must be adjacent, oldest first."""
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
    shares = [f"{short(company)} {short(percentage(percent))} %" for company, percent in explanation.shares]
    owners = ", ".join(few(shares)) if explanation.company is None else short(explanation.company)
    yield Text(f"{_described(key, explanation.version)} on {explanation.on}: {owners}", style="bold")
    lines = list(_reasons(explanation))
    if not explanation.rule:
        yield Text("  no rule matches" + (" on that day" if lines else ""))
    if lines:
        drawn = Table.grid(padding=(0, 2))
        for line in lines[:MOST_ITEMS]:
            drawn.add_row("", *cells(*line))
        yield drawn
    yield from left_out(len(lines), MOST_ITEMS, "--format json")


def _described(key: Key, version: KeyVersion | None) -> str:
    """The key with its name and workspace on that day."""
    name = version.name if version else key.name
    details = [f"{short_hash(key.key_hash)}…"]
    if version and version.workspace_name:
        details.append(f"workspace {short(version.workspace_name)}")
    if name != key.name:
        details.append(f"today {key_name(key.name, key.key_hash)}")
    return f"{key_name(name, key.key_hash)} ({', '.join(details)})"


def _reasons(explanation: Explanation) -> Iterator[tuple[str, str, str, str, str]]:
    """The winning rule, then the other matching ones with the reason why they lose."""
    if rule := explanation.rule:
        limits = [
            f"from {rule.valid_from}" if rule.valid_from else "",
            f"until {rule.valid_to}" if rule.valid_to else "",
        ]
        yield "by", f"line {rule.line}", rule.match, _pattern(rule), " ".join(filter(None, limits))
    for other in explanation.considered:
        verdict = "beaten" if other.is_outranked else "not valid"
        yield verdict, f"line {other.rule.line}", other.rule.match, _pattern(other.rule), f"({other.reason})"


def _pattern(rule: Rule) -> str:
    return f"{rule.pattern[:8]}…" if rule.match == "key_hash" else short(rule.pattern, LONGEST_VALUE)
