"""`orcost map add`: adds a rule to the mapping file, after validation and a preview.

The file is replaced atomically, and only if it has not changed since it was read.
"""

import shutil
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

from orcost_pipeline.cli.files import replacing
from orcost_pipeline.cli.map import preview
from orcost_pipeline.cli.map.check import show_validity
from orcost_pipeline.cli.rendering import say
from orcost_pipeline.companies.assignment import KeyHistory, contest, made_up_keys
from orcost_pipeline.companies.company_list import nearly_known
from orcost_pipeline.companies.mapping import Mapping, MappingError, Rule, read_mapping
from orcost_pipeline.companies.mapping_diff import identity
from orcost_pipeline.companies.mapping_edit import Edit, Values, line_above_the_rest, with_rows
from orcost_pipeline.companies.preview import exact_sum
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.errors import OrcostError, PermanentError
from orcost_pipeline.formats import percentage
from orcost_pipeline.measures import EXACT
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.attribution import histories, rules_of, synced
from orcost_pipeline.sync.mapping_source import read_companies
from orcost_pipeline.text import MOST_NAMES, clean, few, listed
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.questions.keys import key_versions
from orcost_pipeline.warehouse.questions.mapping import rules_in_force

NOT_WRITTEN = "Nothing was written."


class Stored(NamedTuple):
    """The rules in force, and the keys of each account, from the warehouse."""

    rules: Sequence[Rule]
    keys: dict[str, list[KeyHistory]]


class Contested(NamedTuple):
    """Rules above the added one that win keys it matches, in file order, and whether the added one wins none."""

    above: Sequence[Rule]
    is_lost: bool


def add(
    settings: Settings,
    company: str,
    shares: Sequence[str],
    rule: Values,
    *,
    is_first: bool | None,
    is_agreed: bool,
    ask: Callable[[str], bool] | None,
) -> None:
    """Adds a rule above the catch-all rules at the end, after showing what it moves and asking for confirmation.

    `shares` are other owners as COMPANY=PERCENT; `company` has the rest. `is_first` puts it above the rules that win
    its keys, False below them; None asks if it would win none. Raises PermanentError where the file is or would be
    invalid, where the rule exists already, and where a question cannot be asked (`ask` is None) or is answered with no.
    """
    if settings.mapping.table is not None:
        raise PermanentError(f"The rules are in {settings.mapping.name}: add a row there, then: orcost map check")
    rows = [
        {name: value.strip() for name, value in {**owner, **rule}.items() if value.strip()}
        for owner in _owners(company, shares)
    ]
    path = settings.mapping.path.resolve()  # a link stays one
    before = _content(settings, path)
    known = _read(before, settings, "is wrong already").rules if before else ()
    _require_another(settings, known, rows[0])
    stored = _stored(settings)
    edit, mapping = _edited(settings, before, known, rows, line_above_the_rest(known))
    contested = _contested(settings, stored, mapping, edit.line)
    if contested.above and _is_to_be_first(contested, is_first, None if is_agreed else ask):
        edit, mapping = _edited(settings, before, known, rows, contested.above[0].line)
    for number, record in edit.written.items():
        say(f"  line {number}: {clean(record)}")
    effect = preview.effect(settings, mapping.rules, known)
    show_validity(settings, mapping, effect, _doubtful_names(settings, [*known, *stored.rules], mapping, edit.line))
    preview.show_effect(effect)
    if not is_agreed:
        _require_agreement(settings, ask)
    _replace(path, before, edit.content)
    say(f"Added to {settings.mapping.name}. It counts from the next sync on; under orcost up, within a minute.")


def _owners(company: str, shares: Sequence[str]) -> list[dict[str, str]]:
    """The company and share of each owner's row; a single owner has a blank share. Raises PermanentError."""
    if not shares:
        return [{"company": company}]
    others = [_share(text) for text in shares]
    rest = EXACT.subtract(Decimal(100), exact_sum(percent for _, percent in others))
    if rest <= 0:
        raise PermanentError(f'The shares leave nothing to "{company}": they must sum to less than 100. {NOT_WRITTEN}')
    return [{"company": name, "share": percentage(percent)} for name, percent in [(company, rest), *others]]


def _share(text: str) -> tuple[str, Decimal]:
    name, _, percent = text.rpartition("=")
    with suppress(InvalidOperation):
        if name.strip() and (share := Decimal(percent)).is_finite() and share > 0:
            return name, share
    raise PermanentError(f'--share "{text}" is not COMPANY=PERCENT, like "Company B=40". {NOT_WRITTEN}')


def _content(settings: Settings, path: Path) -> bytes:
    """The content of the file; empty where there never was one. Raises PermanentError where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        _require_new(settings)
        return b""
    except OSError as error:
        raise PermanentError(f"{path} cannot be read ({error.strerror}). {NOT_WRITTEN}") from None


def _require_new(settings: Settings) -> None:
    """Raises PermanentError where the file is missing although rules are in force, which one rule would replace."""
    try:
        with snapshot(settings) as connection:
            is_in_force = bool(rules_in_force(connection))
    except PermanentError:
        return  # there is no warehouse yet
    if is_in_force:
        raise PermanentError(f"{settings.mapping.path} is gone, and its rules are in force. Put it back. {NOT_WRITTEN}")


def _read(content: bytes, settings: Settings, what: str) -> Mapping:
    try:
        return read_mapping(content, settings.mapping.name)
    except MappingError as error:
        raise PermanentError(f"{settings.mapping.name} {what}; nothing was written.\n{error.lines()}") from None


def _require_another(settings: Settings, known: Iterable[Rule], row: Values) -> None:
    """Raises PermanentError where the rule exists already: a repetition is invalid or without effect."""
    wanted = [row.get(name, "") for name in ("account", "match", "pattern", "valid_from", "valid_to")]
    for rule in known:
        if wanted == [str(it or "") for it in (rule.account, rule.match, rule.pattern, rule.valid_from, rule.valid_to)]:
            owners = listed(share.company for share in rule.shares)
            raise PermanentError(
                f"Line {rule.line} of {settings.mapping.name} is this rule already, for {owners}: change that line. "
                f"{NOT_WRITTEN}"
            )


# Where it stands


def _edited(
    settings: Settings, before: bytes, known: Sequence[Rule], rows: Sequence[Values], above_line: int | None
) -> tuple[Edit, Mapping]:
    """The file with the rule above a line, or (None) at its end, and its mapping; raises PermanentError if invalid."""
    try:
        edit = with_rows(before, rows, above_line)
    except UnicodeEncodeError:
        raise PermanentError(f"The rule has bytes that are no text in the terminal's encoding. {NOT_WRITTEN}") from None
    mapping = _read(edit.content, settings, "would be wrong with it")
    _require_nothing_else_changed(known, mapping, edit.line, rows)
    return edit, mapping


def _stored(settings: Settings) -> Stored:
    """The rules in force and the known keys; empty where the warehouse cannot be read, which the preview reports."""
    try:
        with snapshot(settings) as connection:
            return Stored(
                rules_of(rules_in_force(connection)),
                {it: histories(key_versions(connection, it)) for it in synced(connection, settings)},
            )
    except OrcostError:
        return Stored((), {})


def _contested(settings: Settings, stored: Stored, mapping: Mapping, line: int) -> Contested:
    """The rules above that win its keys: among known keys, or if it matches none, among keys that it could match."""
    (added,) = (rule for rule in mapping.rules if rule.line == line)
    found = [contest(account, mapping.rules, added, keys) for account, keys in stored.keys.items()]
    if not any(it.keys for it in found):
        made_up = made_up_keys(added, mapping.rules)
        accounts = [added.account] if added.account else [account.name for account in settings.accounts]
        found = [contest(account, mapping.rules, added, made_up) for account in accounts]
    winning = {position for it in found for position in it.winning}
    above = [rule for rule in mapping.rules[: added.position] if rule.position in winning]
    return Contested(above, is_lost=added.position not in winning)


def _is_to_be_first(contested: Contested, is_first: bool | None, ask: Callable[[str], bool] | None) -> bool:
    """Whether to put the rule above those that win its keys; asks if it would win none below them."""
    if is_first is not None or not contested.is_lost:
        return bool(is_first)
    lines = ", ".join(few([f"line {rule.line} ({rule})" for rule in contested.above], MOST_NAMES))
    sentence = f"Every key that the rule matches is already taken by {lines}."
    if ask is None:
        raise PermanentError(f"{sentence} {NOT_WRITTEN} To put it above: --first; to put it below all the same: --last")
    say(sentence)
    return ask(f"Put it above line {contested.above[0].line}?")


def _doubtful_names(settings: Settings, known: Iterable[Rule], mapping: Mapping, line: int) -> list[Mistake]:
    """A warning for each new owner whose name nearly equals one in the rules, except for listed companies."""
    (added,) = (rule for rule in mapping.rules if rule.line == line)
    companies, _ = read_companies(settings)
    in_list = {it.company for it in companies or ()}
    in_rules = {share.company for rule in known for share in rule.shares}
    named = {share.company: share.line for share in added.shares if share.company not in in_rules | in_list}
    return nearly_known(named, in_rules - in_list)


# The file


def _require_nothing_else_changed(before: Iterable[Rule], mapping: Mapping, line: int, rows: Sequence[Values]) -> None:
    """Raises PermanentError where adding the row changed other rules, as with a header over several lines."""
    added = [rule for rule in mapping.rules if rule.line == line]
    others = [rule for rule in mapping.rules if rule.line != line]
    expected = [(rows[0]["match"], rows[0]["pattern"], [row["company"] for row in rows])]
    found = [(rule.match, rule.pattern, [share.company for share in rule.shares]) for rule in added]
    if found != expected or list(map(_meaning, others)) != list(map(_meaning, before)):
        raise PermanentError(f"{mapping.source} is written so that this rule cannot be added. Add it by hand.")


def _meaning(rule: Rule) -> Hashable:
    return identity(rule), tuple((share.company, share.percent, share.note) for share in rule.shares)


def _require_agreement(settings: Settings, ask: Callable[[str], bool] | None) -> None:
    if ask is None:
        raise PermanentError(f"{NOT_WRITTEN} To write without being asked: --yes")
    if not ask(f"Add it to {settings.mapping.name}?"):
        raise PermanentError(NOT_WRITTEN)


def _replace(path: Path, before: bytes, after: bytes) -> None:
    """Replaces the file; raises PermanentError where it was changed meanwhile or cannot be written."""
    try:
        with replacing(path) as made:
            made.write_bytes(after)
            if before:
                shutil.copymode(path, made)
            if before != (path.read_bytes() if path.exists() else b""):
                raise PermanentError(f"{path} was changed meanwhile. {NOT_WRITTEN} Add the rule again.")
    except OSError as error:
        raise PermanentError(f"{path} cannot be written ({error.strerror}). {NOT_WRITTEN}") from None
