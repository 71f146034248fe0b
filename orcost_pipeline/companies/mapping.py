"""The mapping: the rows of a file or a table → validated rules, or every mistake with its line.

A mapping with any mistake is rejected as a whole. `assignment.py` decides which rule wins on a day; callers decide what
stays in force after a rejection, and where rules are stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import reduce
from itertools import groupby, product
from typing import NamedTuple

from orcost_pipeline.companies.rows import (
    Columns,
    Content,
    Mistake,
    RefusedError,
    Row,
    did_you_mean,
    not_one_of,
    read_rows,
    sha256_of,
)
from orcost_pipeline.companies.values import date_of, period_mistakes
from orcost_pipeline.measures import EXACT
from orcost_pipeline.text import LONGEST_VALUE, quoted, short

UNATTRIBUTED = "Unattributed"
MATCHES = ("key_hash", "key_name", "workspace", "creator", "external_user", "label")
REQUIRED_COLUMNS = ("company", "match", "pattern")
COLUMNS = (*REQUIRED_COLUMNS, "account", "valid_from", "valid_to", "share", "note")
_COLUMNS = Columns(COLUMNS, REQUIRED_COLUMNS)

_HASH = re.compile(r"[0-9a-f]{64}")
# Postgres multiplies numerics exactly up to 16,383 decimals; 1,000 leave room for the amounts.
_PERCENT = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,1000})?|\.[0-9]{1,1000}")


class MappingError(RefusedError):
    """The mapping is rejected."""


@dataclass(frozen=True)
class Share:
    """One company's part of a rule, in percent, and its line."""

    company: str
    percent: Decimal
    line: int
    note: str | None = None

    @property
    def fraction(self) -> Decimal:
        """The share from 0 to 1, exact and without trailing zeros."""
        return EXACT.normalize(EXACT.scaleb(self.percent, -2))


@dataclass(frozen=True)
class Rule:
    """Keys matching `pattern` belong to the companies in `shares`, from UTC day `valid_from` to before `valid_to`.

    None means every account, no start, no end.
    """

    position: int
    line: int
    match: str
    pattern: str
    account: str | None
    valid_from: date | None
    valid_to: date | None
    shares: tuple[Share, ...]

    @property
    def name(self) -> str:
        """Match and pattern, as reports name the rule."""
        return f"{self.match}:{self.pattern}"

    def __str__(self) -> str:
        """The name, shortened for messages."""
        return short(self.name, LONGEST_VALUE)


@dataclass(frozen=True)
class Mapping:
    """A valid mapping: its rules in order, and warnings about rules that can never win."""

    source: str
    sha256: str
    rules: tuple[Rule, ...]
    warnings: tuple[Mistake, ...]

    def unknown_accounts(self, configured: Iterable[str]) -> tuple[Mistake, ...]:
        """A warning for each rule that names an account that is not configured."""
        known = tuple(configured)
        return tuple(
            Mistake(rule.line, f"account {quoted(rule.account)} is not configured.{did_you_mean(rule.account, known)}")
            for rule in self.rules
            if rule.account is not None and rule.account not in known
        )


def read_mapping(content: Content, source: str) -> Mapping:
    """The rules of a mapping file (CSV) or table, in order. `source` names it in messages.

    Raises MappingError with all its mistakes, so that they can be corrected at once. Doubtful but valid rules are
    warnings of the mapping.
    """
    rows, mistakes = read_rows(content, source, _COLUMNS, MappingError)
    return _mapping(source, sha256_of(content), rows, mistakes)


def _mapping(source: str, sha256: str, parsed: Iterable[Row], mistakes: list[Mistake]) -> Mapping:
    rows = [_Row(row.line, **row.values) for row in parsed]
    groups = [list(group) for _, group in groupby(rows, key=_Row.agreement)]
    mistakes += [Mistake(row.line, message) for row in rows for message in _row_mistakes(row)]
    mistakes += [mistake for group in groups for mistake in _group_mistakes(group)]
    if mistakes:
        raise MappingError(source, mistakes)
    rules = tuple(_rule(position, group) for position, group in enumerate(groups))
    return Mapping(source, sha256, rules, tuple(_shadowed(rules)))


# Rows and rules


class _Row(NamedTuple):
    """A row's values; blank for absent ones."""

    line: int
    company: str = ""
    match: str = ""
    pattern: str = ""
    account: str = ""
    valid_from: str = ""
    valid_to: str = ""
    share: str = ""
    note: str = ""

    def agreement(self) -> tuple[str, ...]:
        """The values that consecutive rows of one rule share."""
        return self.account, self.match, self.pattern, self.valid_from, self.valid_to


# What a row may say


def _row_mistakes(row: _Row) -> Iterator[str]:
    for name in REQUIRED_COLUMNS:
        if not getattr(row, name):
            yield f"{name} is blank."
    if row.company.casefold() == UNATTRIBUTED.casefold():
        yield f"company {quoted(row.company)} is reserved for what no rule matches."
    if row.match and row.match not in MATCHES:
        yield f"match {not_one_of(row.match, MATCHES)}"
    if row.match == "key_hash" and row.pattern and not _HASH.fullmatch(row.pattern):
        yield _hash_mistake(row.pattern)
    if row.valid_from or row.valid_to:
        yield from period_mistakes(row.valid_from, row.valid_to)
    if _percent(row.share) is None:
        yield f"share {quoted(row.share)} is not a decimal with a point, above 0 and at most 100."


def _hash_mistake(pattern: str) -> str:
    if _HASH.fullmatch(pattern.lower()):
        return f"key_hash {quoted(pattern)} must be in lower case."
    return f"key_hash {quoted(pattern)} is not 64 lower-case hex digits (its length is {len(pattern)})."


def _group_mistakes(rows: list[_Row]) -> Iterator[Mistake]:
    """Mistakes between the rows of one rule, at the line where they show."""
    where = f"line {rows[0].line}" if len(rows) == 1 else f"lines {rows[0].line}–{rows[-1].line}"
    companies: set[str] = set()
    for row in rows:
        if row.company and row.company in companies:
            yield Mistake(row.line, f"company {quoted(row.company)} appears twice in one rule ({where}).")
        companies.add(row.company)
    percents = [percent for row in rows if (percent := _percent(row.share)) is not None]
    total = reduce(EXACT.add, percents, Decimal(0))
    if len(percents) == len(rows) and total != 100:
        sentence = (
            f"shares of {quoted(rows[0].pattern)} sum to {short(f'{total:f}', LONGEST_VALUE)}, not 100 ({where})."
        )
        yield Mistake(rows[-1].line, sentence)


def _percent(text: str) -> Decimal | None:
    """A share in percent; 100 for a blank, None for an invalid one."""
    if not text:
        return Decimal(100)
    percent = Decimal(text) if _PERCENT.fullmatch(text) else Decimal(0)
    return percent if 0 < percent <= 100 else None


# Rows to rules


def _rule(position: int, rows: list[_Row]) -> Rule:
    first = rows[0]
    return Rule(
        position=position,
        line=first.line,
        match=first.match,
        pattern=first.pattern,
        account=first.account or None,
        valid_from=date_of(first.valid_from),
        valid_to=date_of(first.valid_to),
        shares=tuple(_share(row) for row in rows),
    )


def _share(row: _Row) -> Share:
    percent = _percent(row.share)
    assert percent is not None  # noqa: S101 - a row with another share was refused
    return Share(row.company, percent, row.line, row.note or None)


def _shadowed(rules: Iterable[Rule]) -> Iterator[Mistake]:
    """A warning for each rule that cannot win because an earlier one matches everything that it matches."""
    seen: dict[tuple[str | None, str, str, date | None, date | None], Rule] = {}
    for rule in rules:
        winner = min((seen[key] for key in _wider(rule) if key in seen), key=lambda rule: rule.line, default=None)
        if winner:
            yield Mistake(rule.line, f"{rule} never wins: {winner} on line {winner.line} comes first.")
        else:
            seen[rule.account, rule.match, rule.pattern, rule.valid_from, rule.valid_to] = rule


def _wider(rule: Rule) -> Iterator[tuple[str | None, str, str, date | None, date | None]]:
    """Identities of rules that match everything `rule` does: itself, or wider in account, period or pattern."""
    patterns = {(rule.match, rule.pattern), (rule.match, "*")}
    if rule.match != "key_hash":  # a key that was never listed has a hash but no name
        patterns.add(("key_name", "*"))
    accounts, periods = {rule.account, None}, {(rule.valid_from, rule.valid_to), (None, None)}
    for (match, pattern), account, period in product(patterns, accounts, periods):
        yield account, match, pattern, *period
