"""Small tables that people maintain, as CSV or in the database: bytes or cells → rows with line numbers, or mistakes.

Lines are physical lines of the file, from 1; a record has the number of the line on which it starts. Files written by
Excel and Google Sheets are accepted. A table in the database has a column `line`, which numbers and orders its rows.
The meaning of the other columns is up to the caller (`values.py` has what several tables say).
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from orcost_pipeline.text import LONGEST_VALUE, MOST_NAMES, few, quoted, short

# The column of a table that gives the order of rows, as the order of lines does in a file.
LINE = "line"

Cells = Sequence[str | None]
# The bytes of a CSV, or the names of a table's columns and its rows.
Content = bytes | tuple[Sequence[str], Sequence[Cells]]

_IGNORED = re.compile(r"#|[\s,;]*\Z")
_LINE = re.compile(r"0*[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Mistake:
    """An error or a warning and its line; `line` is None for the file as a whole."""

    line: int | None
    message: str

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


class Unreadable(Exception):  # noqa: N818 - the mistakes are the message
    """The file cannot be read as rows at all; its arguments are the mistakes."""

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__(mistakes)
        self.mistakes = mistakes


class RefusedError(Exception):
    """The file or table is rejected as a whole; `mistakes` are all its mistakes in the order of lines."""

    def __init__(self, source: str, mistakes: Iterable[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line or 0))
        super().__init__(source, self.mistakes)

    def lines(self) -> str:
        """One indented line per mistake, of many the first, for below a sentence that says what stays in force."""
        return "\n".join(f"  {line}" for line in few([str(mistake) for mistake in self.mistakes]))

    def __str__(self) -> str:
        return f"{self.source} was refused.\n{self.lines()}"


# Bytes to records


class Record(NamedTuple):
    """Trimmed cells, and the line on which they start."""

    line: int
    cells: list[str]


class Encoding(NamedTuple):
    """The name of an encoding, and the byte order mark at the start of the file."""

    name: str
    mark: bytes


def encoding_of(content: bytes) -> Encoding:
    """The encoding of a file by its byte order mark; UTF-8 without one."""
    for name, mark in (
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-8", codecs.BOM_UTF8),
    ):
        if content.startswith(mark):
            return Encoding(name, mark)
    return Encoding("utf-8", b"")


def _text(content: bytes) -> str:
    encoding = "utf-16" if encoding_of(content).name.startswith("utf-16") else "utf-8-sig"
    try:
        return _with_plain_newlines(content.decode(encoding))
    except UnicodeDecodeError as error:
        before = _with_plain_newlines(error.object[: error.start].decode(encoding, "ignore"))
        wanted = "UTF-16" if encoding == "utf-16" else "UTF-8, nor UTF-16 with a byte order mark"
        raise Unreadable(
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
    header = next((line for line in text.split("\n") if not _IGNORED.match(line)), "")
    return ";" if header.count(";") > header.count(",") else ","


def _records(text: str, mistakes: list[Mistake]) -> Iterator[Record]:
    """All records except blank ones; a broken one is added to `mistakes`, and reading continues on the next line."""
    delimiter = _delimiter(text)
    cell = _cell(delimiter)
    at, number = 0, 1
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end]
        if not _IGNORED.match(line):
            cells = line.split(delimiter)
            if '"' in line:
                cells, end = _quoted_cells(text, at, end, cell)
            if cells is None:
                mistakes.append(Mistake(number, "its quotes do not balance."))
            elif any(cells := [value.strip() for value in cells]):
                yield Record(number, cells)
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


class Header(NamedTuple):
    """The names of the columns, their line, and the delimiter."""

    line: int
    names: list[str]
    delimiter: str


def header_of(content: bytes) -> Header:
    """The header of a CSV. Raises Unreadable for a file that is no text, StopIteration for an empty one."""
    text = _text(content)
    line, names = next(_records(text, []))
    return Header(line, names, _delimiter(text))


def csv_line(values: Iterable[str], delimiter: str) -> str:
    """A record as a line of CSV, without its end; values with # are quoted, as lines beginning with # are ignored."""
    return delimiter.join(
        '"' + value.replace('"', '""') + '"' if set('",;#\r\n') & set(value) else value for value in values
    )


# Records to rows


@dataclass(frozen=True)
class Columns:
    """The columns that a table may have, and the required ones."""

    known: Sequence[str]
    required: Sequence[str]


class Row(NamedTuple):
    """A record's trimmed values by column, without the columns that it lacks."""

    line: int
    values: dict[str, str]


def read_rows(
    content: Content, source: str, columns: Columns, refused: type[RefusedError]
) -> tuple[list[Row], list[Mistake]]:
    """The rows of a file or a table, and the mistakes in how it is written.

    Raises `refused` with the mistakes where no rows can be read at all; `source` names the file or table in it.
    """
    mistakes: list[Mistake] = []
    try:
        if isinstance(content, bytes):
            return _rows_of_csv(content, columns, mistakes), mistakes
        return _rows_of_table(*content, columns, mistakes), mistakes
    except Unreadable as error:
        raise refused(source, error.mistakes) from None


def sha256_of(content: Content) -> str:
    """A hash of a file's or a table's content in hex; the order of a table's rows does not count."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    columns, rows = content
    lines = sorted(json.dumps(row, ensure_ascii=False) for row in rows)
    return hashlib.sha256(json.dumps([columns, *lines]).encode()).hexdigest()


def _rows_of_csv(content: bytes, columns: Columns, mistakes: list[Mistake]) -> list[Row]:
    """The rows of a CSV; adds to `mistakes`, and raises Unreadable where no rows can be read at all."""
    text = _text(content)
    mistakes += _nul_mistakes(text)
    broken: list[Mistake] = []
    records = _records(text.replace("\0", ""), broken)
    header = next(records, None)
    if broken:
        raise Unreadable(*mistakes, broken[0])
    if header is None:
        raise Unreadable(*mistakes, Mistake(None, f"the file is empty; its header is {','.join(columns.required)}."))
    rows = _rows_of_records(header.cells, records, columns, mistakes, header_line=header.line)
    mistakes += broken
    return rows


def _rows_of_table(names: Sequence[str], rows: Iterable[Cells], columns: Columns, mistakes: list[Mistake]) -> list[Row]:
    """The rows of a table in the order of their lines; adds to `mistakes`, and raises Unreadable without columns."""
    if LINE not in names:
        mistakes.append(Mistake(None, f"the table lacks {LINE}, a whole number: its rows are read in that order."))
    records = list(_records_of_table(names, rows, mistakes))
    return _rows_of_records([name for name in names if name != LINE], records, columns, mistakes)


def _records_of_table(columns: Sequence[str], rows: Iterable[Cells], mistakes: list[Mistake]) -> Iterator[Record]:
    """A record for each row with a valid, unique line, in order of lines; adds the others to `mistakes`."""
    found: dict[int, list[str]] = {}
    for row in rows if LINE in columns else ():
        cells = {name: (value or "").strip() for name, value in zip(columns, row, strict=True)}
        line = cells.pop(LINE)
        if not _LINE.fullmatch(line):
            mistakes.append(Mistake(None, f"{LINE} {quoted(line)} is not a whole number from 1 to 999999999."))
        elif int(line) in found:
            mistakes.append(Mistake(int(line), f"another row has this {LINE} too."))
        else:
            found[int(line)] = list(cells.values())
    yield from (Record(line, found[line]) for line in sorted(found))


def _rows_of_records(
    names: Sequence[str],
    records: Iterable[Record],
    columns: Columns,
    mistakes: list[Mistake],
    *,
    header_line: int | None = None,
) -> list[Row]:
    """The rows of records that are parsed already; `names` are their columns.

    Adds to `mistakes`, and raises Unreadable where a required column is missing.
    """
    mistakes += (Mistake(header_line, message) for message in _header_mistakes(names, columns))
    if not set(columns.required) <= set(names):
        raise Unreadable(*mistakes)
    return [_row(record, names, columns, mistakes) for record in records]


def _header_mistakes(names: Sequence[str], columns: Columns) -> Iterator[str]:
    for name in dict.fromkeys(filter(None, names)):
        if name not in columns.known:
            yield f"column {not_one_of(name, columns.known)}"
        elif names.count(name) > 1:
            yield f"column {name} is there {names.count(name)} times."
    missing = [name for name in columns.required if name not in names]
    if missing:
        yield f"the header lacks {', '.join(missing)}."


def _row(record: Record, names: Sequence[str], columns: Columns, mistakes: list[Mistake]) -> Row:
    values = {name: value for name, value in zip(names, record.cells, strict=False) if name in columns.known}
    for place, value in enumerate(record.cells):
        if value and (place >= len(names) or not names[place]):
            message = f"value {quoted(value)} is in column {place + 1}, which has no name. Is a quote missing?"
            mistakes.append(Mistake(record.line, message))
    return Row(record.line, values)


def repetitions(keyed: Iterable[tuple[Hashable, int]], what: str) -> Iterator[Mistake]:
    """A mistake on each line whose key another line has too; keys come with their lines, and None is no key.

    `what` names the cells of the key.
    """
    lines: dict[Hashable, list[int]] = defaultdict(list)
    for key, line in keyed:
        if key is not None:
            lines[key].append(line)
    for same in lines.values():
        for line in same if len(same) > 1 else ():
            others = few([str(other) for other in same if other != line], MOST_NAMES)
            place = "line" if len(same) == 2 else "lines"
            yield Mistake(line, f"its {what} are on {place} {', '.join(others)} too.")


# Words


def not_one_of(value: str, names: Sequence[str]) -> str:
    """The end of a sentence about an unknown name, with the known ones."""
    return f"{quoted(value)} is not one of {', '.join(names)}.{did_you_mean(value, tuple(names))}"


@lru_cache(maxsize=1024)
def did_you_mean(value: str, names: tuple[str, ...], likeness: int = 60) -> str:
    """A question with the most similar name, to append to a sentence; blank where none is similar enough.

    `likeness` is the least similarity in percent; names that differ only in case have 100.
    """
    spelled = {name.lower(): name for name in names}
    close = get_close_matches(value.lower()[:200], spelled, n=1, cutoff=likeness / 100)
    return f" Did you mean {short(spelled[close[0]], LONGEST_VALUE)}?" if close else ""
