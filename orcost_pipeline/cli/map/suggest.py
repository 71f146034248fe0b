"""`orcost map suggest`: rules for keys without an owner, ready to paste, each below a comment with its reason.

Keys are attributed by the mapping as written now, so that accepted rules are not suggested again.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal

import sqlalchemy as sa
import typer

from orcost_pipeline.cli.rendering import as_json
from orcost_pipeline.companies.assignment import Assignment, assign
from orcost_pipeline.companies.coverage import covers, unattributed_spans
from orcost_pipeline.companies.mapping import REQUIRED_COLUMNS, UNATTRIBUTED, MappingError, Rule
from orcost_pipeline.companies.preview import KeyDay, exact_sum
from orcost_pipeline.companies.rows import LINE, Unreadable, csv_line, header_of
from orcost_pipeline.companies.suggestion import Key, Suggestion, suggest
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.formats import key_name, money
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.attribution import histories, rules_of, synced
from orcost_pipeline.sync.mapping_source import read_companies, read_source
from orcost_pipeline.sync.sources import UnreadableSourceError
from orcost_pipeline.text import clean, plural
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.opening import NOTHING_YET
from orcost_pipeline.warehouse.questions.keys import deleted_keys, key_versions
from orcost_pipeline.warehouse.questions.mapping import key_days, rules_in_force
from orcost_pipeline.windows import utc_day

NAMES_SHOWN = 3
LINE_STEP = 10


def suggest_rules(settings: Settings, output: str) -> None:
    """Prints rules for the keys without an owner that have a guess, the largest spend first, as `csv` or `json`.

    Raises PermanentError where nothing was synced yet, and for an invalid mapping.
    """
    with snapshot(settings) as connection:
        rules = _rules(settings, connection)
        keys = list(_keys(settings, connection, rules))
    found = suggest(keys, rules, listed_companies(settings))
    if output == "json":
        typer.echo(as_json([_as_data(suggestion) for suggestion in found]))
        return
    for line in _lines(settings, rules, keys, found):
        typer.echo(line)


def listed_companies(settings: Settings) -> dict[str, list[str]] | None:
    """The companies of the list, each with its other names; None where there is no valid list."""
    companies, _ = read_companies(settings)
    if companies is None:
        return None
    return {it.company: [name for name in (it.display_name, it.external_id) if name] for it in companies}


def _rules(settings: Settings, connection: sa.Connection) -> Sequence[Rule]:
    """The rules as written now; those in force where there is no file."""
    try:
        return read_source(settings, lambda: snapshot(settings)).rules
    except MappingError as error:
        raise PermanentError(str(error)) from None
    except UnreadableSourceError as error:
        if not error.is_missing:
            raise
        return rules_of(rules_in_force(connection))


def _keys(settings: Settings, connection: sa.Connection, rules: Sequence[Rule]) -> Iterator[Key]:
    """All keys except deleted ones without unattributed spend."""
    accounts = synced(connection, settings)
    if not accounts:
        raise PermanentError(NOTHING_YET)
    for account, as_of in accounts.items():
        known = histories(key_versions(connection, account))
        assigned = assign(account, rules, known)
        owners, spent = _owners(assigned, utc_day(as_of)), _unattributed_spend(connection, account, assigned)
        deleted = deleted_keys(connection, account)
        for history in known:
            key = Key(account, history, owners[history.key_hash], *spent[history.key_hash])
            if key.company != UNATTRIBUTED or key.history.key_hash not in deleted or key.credits_usd or key.byok_usd:
                yield key


def _owners(assigned: Iterable[Assignment], day: date) -> dict[str | None, str | None]:
    """The owner of each key on a day; None where it is split."""
    owners: dict[str | None, str | None] = {}
    for row in assigned:
        if covers([row], day):
            owners[row.key_hash] = None if row.key_hash in owners else row.company
    return owners


def _unattributed_spend(
    connection: sa.Connection, account: str, assigned: Iterable[Assignment]
) -> Mapping[str | None, tuple[Decimal, Decimal]]:
    """Credits and BYOK, in USD, that each key spent on days without an owner."""
    spans = unattributed_spans(assigned)
    spent: dict[str | None, tuple[Decimal, Decimal]] = defaultdict(lambda: (Decimal(0), Decimal(0)))
    for cell in (KeyDay(*row) for row in key_days(connection, account, list(filter(None, spans)))):
        if covers(spans[cell.key_hash], cell.day):
            credits_usd, byok_usd = spent[cell.key_hash]
            spent[cell.key_hash] = exact_sum((credits_usd, cell.credits_usd)), exact_sum((byok_usd, cell.byok_usd))
    return spent


# Output


def _lines(
    settings: Settings, rules: Sequence[Rule], keys: Sequence[Key], found: Sequence[Suggestion]
) -> Iterator[str]:
    """The rules with the mapping's own columns and delimiter; comments are ignored in a mapping."""
    columns, delimiter, is_begun = _layout(settings)
    if found and not is_begun:
        yield csv_line(columns, delimiter)
    line = max((share.line for rule in rules for share in rule.shares), default=0)
    for number, suggestion in enumerate(found, 1):
        yield f"# {remark(suggestion)}"
        yield (
            rule_line(suggestion, columns, delimiter, str(line + number * LINE_STEP))
            or "# Left out, for a line could not be pasted as it is: orcost map suggest --format json"
        )
    guessed = {key for suggestion in found for key in suggestion.keys}
    left = [key for key in keys if key.is_open and key not in guessed]
    if left:
        yield f"# No guess for {plural(len(left), 'key')} ({amounts(left)}): orcost map todo"
    elif not found:
        yield "# No key waits for a rule."
    if found:
        yield f"# Paste the right ones into {settings.mapping.name}, or: orcost map add; then: orcost map check"


def _layout(settings: Settings) -> tuple[Sequence[str], str, bool]:
    """Columns and delimiter of the mapping, and whether it has a header already."""
    if settings.mapping.table is not None:
        return (LINE, *REQUIRED_COLUMNS), ",", False
    try:
        header = header_of(settings.mapping.path.read_bytes())
    except (OSError, Unreadable, StopIteration):
        return (*REQUIRED_COLUMNS, "note"), ",", settings.mapping.path.exists()
    return header.names, header.delimiter, True


def rule_line(suggestion: Suggestion, columns: Sequence[str], delimiter: str, line: str = "") -> str | None:
    """The rule as a line of a mapping, or a row of a table at `line`; None if pasting would change its text."""
    if "�" in clean(suggestion.company + suggestion.pattern):
        return None
    values = {
        "company": suggestion.company,
        "match": suggestion.match,
        "pattern": suggestion.pattern,
        "note": clean(suggestion.keys[0].now.name) if suggestion.match == "key_hash" else "",
        LINE: line,
    }
    return csv_line([values.get(name, "") for name in columns], delimiter)


def remark(suggestion: Suggestion) -> str:
    """A comment: the spend of the keys, a few of their names, and the reason for the rule."""
    names = [key_name(key.now.name, key.history.key_hash) for key in suggestion.keys[:NAMES_SHOWN]]
    if more := len(suggestion.keys) - len(names):
        names.append(f"{more} more")
    return f"{amounts(suggestion.keys)}: {', '.join(names)}; {clean(suggestion.reason)}"


def amounts(keys: Sequence[Key]) -> str:
    """The unattributed spend of keys in USD, as text."""
    spend, byok = exact_sum(key.credits_usd for key in keys), exact_sum(key.byok_usd for key in keys)
    text = f"{money([spend])(spend)} USD"
    return f"{text} and {money([byok])(byok)} USD of BYOK" if byok else text


def _as_data(suggestion: Suggestion) -> dict[str, object]:
    return {
        "company": suggestion.company,
        "match": suggestion.match,
        "pattern": suggestion.pattern,
        "reason": suggestion.reason,
        "credits_usd": suggestion.credits_usd,
        "byok_usd": suggestion.byok_usd,
        "keys": [
            {"account": key.account, "key_hash": key.history.key_hash, "key_name": key.now.name}
            for key in suggestion.keys
        ],
    }
