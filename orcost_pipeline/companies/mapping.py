"""The mapping file: bytes → validated rules, or every mistake of the file with its line.

A line is a physical line of the file, the first is 1; a record is named by the line where it starts. A file is
taken whole or refused whole. Who wins on which day is decided in `assignment.py`; what stays in force after a
refusal, and where rules are kept, is the caller's business.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from difflib import get_close_matches
from functools import lru_cache, reduce
from itertools import groupby, product
from typing import NamedTuple

UNATTRIBUTED = "Unattributed"
MATCHES = ("key_hash", "key_name", "workspace", "creator", "external_user", "label")
REQUIRED_COLUMNS = ("company", "match", "pattern")
COLUMNS = (*REQUIRED_COLUMNS, "account", "valid_from", "valid_to", "share", "note")

# The default context rounds to 28 digits; shares must add up and divide exactly, however long they are.
EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)

_HASH = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Postgres multiplies numerics exactly up to 16,383 decimals; 1,000 leave room for the amounts.
_PERCENT = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,1000})?|\.[0-9]{1,1000}")
_PASSED_OVER = re.compile(r"#|[\s,;]*\Z")


@dataclass(frozen=True)
class Mistake:
    """What is wrong or strange, and on which line; `line` is None for the file as a whole."""

    line: int | None
    message: str

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


class MappingError(Exception):
    """The file is refused whole; `mistakes` lists all that is wrong, in the order of the lines."""

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line or 0))
        super().__init__(source, self.mistakes)

    def lines(self) -> str:
        """One indented line per mistake, to stand below a sentence that says what stays in force."""
        return "\n".join(f"  {mistake}" for mistake in self.mistakes)

    def __str__(self) -> str:
        return f"{self.source} was refused.\n{self.lines()}"


@dataclass(frozen=True)
class Share:
    """One company's part of a rule."""

    company: str
    percent: Decimal
    line: int
    note: str | None = None

    @property
    def fraction(self) -> Decimal:
        """The percent as a part of 1, exact and without trailing zeros."""
        return EXACT.normalize(EXACT.scaleb(self.percent, -2))


@dataclass(frozen=True)
class Rule:
    """Keys matching `pattern` from `valid_from` to before `valid_to` belong to the companies in `shares`."""

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
        return f"{self.match}:{self.pattern}"


@dataclass(frozen=True)
class Mapping:
    """A valid mapping file: its rules in file order, and what its author may not have meant."""

    source: str
    sha256: str
    rules: tuple[Rule, ...]
    warnings: tuple[Mistake, ...]

    def unknown_accounts(self, configured: Iterable[str]) -> tuple[Mistake, ...]:
        """A warning for each rule that names an account nobody configured."""
        known = tuple(configured)
        return tuple(
            Mistake(
                rule.line, f"account {_quoted(rule.account)} is not configured.{_did_you_mean(rule.account, known)}"
            )
            for rule in self.rules
            if rule.account is not None and rule.account not in known
        )


def read_mapping(content: bytes, source: str) -> Mapping:
    """The rules of a mapping file; raises `MappingError` with all its mistakes."""
    try:
        text = _text(content)
        mistakes = list(_nul_mistakes(text))
        rows = _rows(text.replace("\0", ""), mistakes)
    except _Unreadable as error:
        raise MappingError(source, error.mistakes) from None
    groups = [list(group) for _, group in groupby(rows, key=_Row.agreement)]
    mistakes += [Mistake(row.line, message) for row in rows for message in _row_mistakes(row)]
    mistakes += [mistake for group in groups for mistake in _group_mistakes(group)]
    if mistakes:
        raise MappingError(source, mistakes)
    rules = tuple(_rule(position, group) for position, group in enumerate(groups))
    return Mapping(source, hashlib.sha256(content).hexdigest(), rules, tuple(_shadowed(rules)))


# Bytes to records


class _Unreadable(Exception):  # noqa: N818 - never leaves this module
    """What makes looking at the rows pointless."""

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__(mistakes)
        self.mistakes = mistakes


class _Record(NamedTuple):
    line: int
    cells: list[str]


def _text(content: bytes) -> str:
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return _with_plain_newlines(content.decode(encoding))
    except UnicodeDecodeError as error:
        before = _with_plain_newlines(error.object[: error.start].decode(encoding, "ignore"))
        wanted = "UTF-16" if encoding == "utf-16" else "UTF-8, nor UTF-16 with a byte order mark"
        raise _Unreadable(
            Mistake(before.count("\n") + 1, f"the text is not {wanted}. Save the file as UTF-8.")
        ) from None


def _with_plain_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _nul_mistakes(text: str) -> Iterator[Mistake]:
    if "\0" in text:
        for number, line in enumerate(text.split("\n"), start=1):
            if "\0" in line:
                yield Mistake(number, "there is a NUL byte. Save the file as UTF-8.")


def _delimiter(text: str) -> str:
    header = next((line for line in text.split("\n") if not _PASSED_OVER.match(line)), "")
    return ";" if header.count(";") > header.count(",") else ","


def _records(text: str, mistakes: list[Mistake]) -> Iterator[_Record]:
    """All records but blank ones; a broken one is noted as a mistake, and reading goes on with the next line."""
    delimiter = _delimiter(text)
    cell = _cell(delimiter)
    at, number = 0, 1
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end]
        if not _PASSED_OVER.match(line):
            cells = line.split(delimiter)
            if '"' in line:
                cells, end = _quoted_cells(text, at, end, cell)
            if cells is None:
                mistakes.append(Mistake(number, "its quotes do not balance."))
            elif any(cells := [value.strip() for value in cells]):
                yield _Record(number, cells)
        number += text.count("\n", at, end + 1)
        at = end + 1


def _cell(delimiter: str) -> re.Pattern[str]:
    quoted = rf'[^\S\n]*+"([^"]*+(?:""[^"]*+)*+)"[^\S\n{delimiter}]*+(?=[{delimiter}\n]|\Z)'
    return re.compile(rf"{quoted}|([^{delimiter}\n]*+)")


def _quoted_cells(text: str, at: int, end_of_line: int, cell: re.Pattern[str]) -> tuple[list[str] | None, int]:
    """The cells of the record that starts at `at`, and where it ends; None and the end of its line if it is broken."""
    cells: list[str] = []
    while found := cell.match(text, at):
        quoted, bare = found.groups()
        if quoted is None and (bare.lstrip().startswith('"') or bare.count('"') % 2):
            return None, end_of_line
        cells.append(bare if quoted is None else quoted.replace('""', '"'))
        if found.end() == len(text) or text[found.end()] == "\n":
            return cells, found.end()
        at = found.end() + 1
    raise AssertionError("a bare cell may be empty: the pattern matches anywhere")


# Records to rows


class _Row(NamedTuple):
    """A record's values by column, trimmed, blank where it has none."""

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
        """What consecutive rows of one rule have in common."""
        return self.account, self.match, self.pattern, self.valid_from, self.valid_to


def _rows(text: str, mistakes: list[Mistake]) -> list[_Row]:
    broken: list[Mistake] = []
    records = _records(text, broken)
    header = next(records, None)
    if broken:
        raise _Unreadable(*mistakes, broken[0])
    if header is None:
        raise _Unreadable(*mistakes, Mistake(None, f"the file is empty; its header is {','.join(REQUIRED_COLUMNS)}."))
    mistakes += _header_mistakes(header)
    if not set(REQUIRED_COLUMNS) <= set(header.cells):
        raise _Unreadable(*mistakes)
    rows = [_row(record, header.cells, mistakes) for record in records]
    mistakes += broken
    return rows


def _header_mistakes(header: _Record) -> Iterator[Mistake]:
    for name in dict.fromkeys(filter(None, header.cells)):
        if name not in COLUMNS:
            yield Mistake(header.line, f"column {_not_one_of(name, COLUMNS)}")
        elif header.cells.count(name) > 1:
            yield Mistake(header.line, f"column {name} is there {header.cells.count(name)} times.")
    missing = [name for name in REQUIRED_COLUMNS if name not in header.cells]
    if missing:
        yield Mistake(header.line, f"the header lacks {', '.join(missing)}.")


def _row(record: _Record, columns: list[str], mistakes: list[Mistake]) -> _Row:
    named = {name: value for name, value in zip(columns, record.cells, strict=False) if name in COLUMNS}
    for place, value in enumerate(record.cells):
        if value and (place >= len(columns) or not columns[place]):
            message = f"value {_quoted(value)} is in column {place + 1}, which has no name. Is a quote missing?"
            mistakes.append(Mistake(record.line, message))
    return _Row(record.line, **named)


# What a row may say


def _row_mistakes(row: _Row) -> Iterator[str]:
    for name in REQUIRED_COLUMNS:
        if not getattr(row, name):
            yield f"{name} is blank."
    if row.company.casefold() == UNATTRIBUTED.casefold():
        yield f"company {_quoted(row.company)} is reserved for what no rule matches."
    if row.match and row.match not in MATCHES:
        yield f"match {_not_one_of(row.match, MATCHES)}"
    if row.match == "key_hash" and row.pattern and not _HASH.fullmatch(row.pattern):
        yield _hash_mistake(row.pattern)
    if row.valid_from or row.valid_to:
        yield from _period_mistakes(row)
    if _percent(row.share) is None:
        yield f"share {_quoted(row.share)} is not a decimal with a point, above 0 and at most 100."


def _hash_mistake(pattern: str) -> str:
    if _HASH.fullmatch(pattern.lower()):
        return f"key_hash {_quoted(pattern)} must be in lower case."
    return f"key_hash {_quoted(pattern)} is not 64 lower-case hex digits (its length is {len(pattern)})."


def _period_mistakes(row: _Row) -> Iterator[str]:
    for column, value in (("valid_from", row.valid_from), ("valid_to", row.valid_to)):
        if value and _date(value) is None:
            yield f"{column} {_quoted(value)} is not a date written YYYY-MM-DD."
    start, end = _date(row.valid_from), _date(row.valid_to)
    if start and end and end <= start:
        yield f"valid_to {end} is not later than valid_from {start}."


def _group_mistakes(rows: list[_Row]) -> Iterator[Mistake]:
    """Mistakes of the rows that are one rule, on the line where they show."""
    where = f"line {rows[0].line}" if len(rows) == 1 else f"lines {rows[0].line}–{rows[-1].line}"
    companies: set[str] = set()
    for row in rows:
        if row.company and row.company in companies:
            yield Mistake(row.line, f"company {_quoted(row.company)} appears twice in one rule ({where}).")
        companies.add(row.company)
    percents = [percent for row in rows if (percent := _percent(row.share)) is not None]
    total = reduce(EXACT.add, percents, Decimal(0))
    if len(percents) == len(rows) and total != 100:
        yield Mistake(rows[-1].line, f"shares of {_quoted(rows[0].pattern)} sum to {total:f}, not 100 ({where}).")


def _percent(text: str) -> Decimal | None:
    """A share; 100 for a blank one, None for what is none."""
    if not text:
        return Decimal(100)
    percent = Decimal(text) if _PERCENT.fullmatch(text) else Decimal(0)
    return percent if 0 < percent <= 100 else None


def _date(text: str) -> date | None:
    """A date; None for a blank and for what is none."""
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


def _not_one_of(value: str, names: Sequence[str]) -> str:
    return f"{_quoted(value)} is not one of {', '.join(names)}.{_did_you_mean(value, tuple(names))}"


@lru_cache(maxsize=1024)
def _did_you_mean(value: str, names: tuple[str, ...]) -> str:
    spelled = {name.lower(): name for name in names}
    close = get_close_matches(value.lower()[:200], spelled, n=1)
    return f" Did you mean {spelled[close[0]]}?" if close else ""


def _quoted(value: str | None) -> str:
    """A value fit for one line of a message."""
    text = " ".join((value or "").split())
    return f'"{text}"' if len(text) <= 80 else f'"{text[:79]}…"'


# Rows to rules


def _rule(position: int, rows: list[_Row]) -> Rule:
    first = rows[0]
    return Rule(
        position=position,
        line=first.line,
        match=first.match,
        pattern=first.pattern,
        account=first.account or None,
        valid_from=_date(first.valid_from),
        valid_to=_date(first.valid_to),
        shares=tuple(_share(row) for row in rows),
    )


def _share(row: _Row) -> Share:
    percent = _percent(row.share)
    assert percent is not None  # noqa: S101 - a row with another share was refused
    return Share(row.company, percent, row.line, row.note or None)


def _shadowed(rules: Iterable[Rule]) -> Iterator[Mistake]:
    """A warning for each rule that cannot win, because an earlier one takes all that it could match."""
    seen: dict[tuple[str | None, str, str, date | None, date | None], Rule] = {}
    for rule in rules:
        winner = min((seen[key] for key in _wider(rule) if key in seen), key=lambda rule: rule.line, default=None)
        if winner:
            yield Mistake(rule.line, f"{rule.name} never wins: {winner.name} on line {winner.line} comes first.")
        else:
            seen[rule.account, rule.match, rule.pattern, rule.valid_from, rule.valid_to] = rule


def _wider(rule: Rule) -> Iterator[tuple[str | None, str, str, date | None, date | None]]:
    """The rules that take whatever `rule` does: as it is, or for every account, all the time, every value."""
    patterns = {(rule.match, rule.pattern), (rule.match, "*")}
    if rule.match != "key_hash":  # a key that was never listed has a hash, but no name
        patterns.add(("key_name", "*"))
    accounts, periods = {rule.account, None}, {(rule.valid_from, rule.valid_to), (None, None)}
    for (match, pattern), account, period in product(patterns, accounts, periods):
        yield account, match, pattern, *period
