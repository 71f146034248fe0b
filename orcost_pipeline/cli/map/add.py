"""`orcost map add`: one rule more in the mapping file, validated and previewed before it is written.

The file is replaced in one step, and only if it still is what was looked at.
"""

import shutil
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path

import typer

from orcost_pipeline.cli.database import snapshot
from orcost_pipeline.cli.files import replacing
from orcost_pipeline.cli.map import preview
from orcost_pipeline.cli.map.check import show_validity
from orcost_pipeline.cli.rendering import is_terminal, percentage, say
from orcost_pipeline.companies.mapping import Mapping, MappingError, Rule, read_mapping
from orcost_pipeline.companies.mapping_diff import identity
from orcost_pipeline.companies.mapping_edit import Values, line_above_the_rest, with_rows
from orcost_pipeline.companies.preview import exact_sum
from orcost_pipeline.companies.rows import csv_line
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.measures import EXACT
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import clean
from orcost_pipeline.warehouse.mappings import rules_in_force

NOT_WRITTEN = "Nothing was written."


def add(settings: Settings, company: str, shares: Sequence[str], rule: Values, *, is_agreed: bool) -> None:
    """Adds a rule, above those at the end that match whatever comes to them, if its author agrees to what it moves.

    `shares` are other owners as COMPANY=PERCENT; `company` has the rest. Raises PermanentError where the file is wrong,
    or would be.
    """
    if settings.mapping_table is not None:
        raise PermanentError(f"The rules are in {settings.mapping_name}: add a row there, then: orcost map check")
    rows = [
        {name: value.strip() for name, value in {**owner, **rule}.items() if value.strip()}
        for owner in _owners(company, shares)
    ]
    path = settings.mapping.resolve()  # a link stays one
    before = _content(settings, path)
    known = _read(before, settings, "is wrong already").rules if before else ()
    after, line = with_rows(before, rows, line_above_the_rest(known))
    mapping = _read(after, settings, "would be wrong with it")
    _require_nothing_else_changed(known, mapping, line, rows)
    for number, row in enumerate(rows, line):
        say(f"  line {number}: {clean(csv_line(row.values(), ','))}")
    effect = preview.effect(settings, mapping.rules)
    show_validity(settings, mapping, effect)
    preview.show_effect(effect)
    if not is_agreed:
        _require_agreement(settings)
    _replace(path, before, after)
    say(f"Added to {settings.mapping_name}. It counts from the next sync on; under orcost up, within a minute.")


def _owners(company: str, shares: Sequence[str]) -> list[dict[str, str]]:
    """A row's company and share for each owner; a share of everything is left blank."""
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
    """What the file holds; nothing where there never was one."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        _require_new(settings)
        return b""
    except OSError as error:
        raise PermanentError(f"{path} cannot be read ({error.strerror}). {NOT_WRITTEN}") from None


def _require_new(settings: Settings) -> None:
    """A mapping that was in force and is gone must not be begun anew with one rule."""
    try:
        with snapshot(settings) as connection:
            is_in_force = bool(rules_in_force(connection))
    except PermanentError:
        return  # there is no warehouse yet
    if is_in_force:
        raise PermanentError(f"{settings.mapping} is gone, and its rules are in force. Put it back. {NOT_WRITTEN}")


def _read(content: bytes, settings: Settings, what: str) -> Mapping:
    try:
        return read_mapping(content, settings.mapping_name)
    except MappingError as error:
        raise PermanentError(f"{settings.mapping_name} {what}; nothing was written.\n{error.lines()}") from None


def _require_nothing_else_changed(before: Iterable[Rule], mapping: Mapping, line: int, rows: Sequence[Values]) -> None:
    """A file can be written in ways that a row cannot be added to: a header over several lines, say."""
    added = [rule for rule in mapping.rules if rule.line == line]
    others = [rule for rule in mapping.rules if rule.line != line]
    asked = [(rows[0]["match"], rows[0]["pattern"], [row["company"] for row in rows])]
    told = [(rule.match, rule.pattern, [share.company for share in rule.shares]) for rule in added]
    if told != asked or list(map(_meaning, others)) != list(map(_meaning, before)):
        raise PermanentError(f"{mapping.source} is written so that this rule cannot be added. Add it by hand.")


def _meaning(rule: Rule) -> Hashable:
    return identity(rule), tuple((share.company, share.percent, share.note) for share in rule.shares)


def _require_agreement(settings: Settings) -> None:
    if not is_terminal():
        raise PermanentError(f"{NOT_WRITTEN} To write without being asked: --yes")
    if not typer.confirm(f"Add it to {settings.mapping_name}?"):
        raise PermanentError(NOT_WRITTEN)


def _replace(path: Path, before: bytes, after: bytes) -> None:
    """Raises PermanentError where the file is not what was looked at, or cannot be written."""
    try:
        with replacing(path) as made:
            made.write_bytes(after)
            if before:
                shutil.copymode(path, made)
            if before != (path.read_bytes() if path.exists() else b""):
                raise PermanentError(f"{path} was changed meanwhile. {NOT_WRITTEN} Add the rule again.")
    except OSError as error:
        raise PermanentError(f"{path} cannot be written ({error.strerror}). {NOT_WRITTEN}") from None
