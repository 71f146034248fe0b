"""Adds a rule to a mapping file; everything else stays byte for byte as it was.

Pure functions: bytes → bytes. `read_mapping` decides whether the result is valid.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import NamedTuple

from orcost_pipeline.companies.mapping import COLUMNS, REQUIRED_COLUMNS, Rule
from orcost_pipeline.companies.rows import csv_line, encoding_of, header_of

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")

# A row's values by column, without blank ones.
Values = Mapping[str, str]


class Edit(NamedTuple):
    """The edited file, the line of the first added row, and each new or changed record.

    `written` maps the number of a record's first line to the record, without its line end; a cell may span lines.
    """

    content: bytes
    line: int
    written: dict[int, str]


def with_rows(content: bytes, rows: Sequence[Values], before_line: int | None) -> Edit:
    """The file with rows added above a line, or (None) at its end.

    Empty content becomes a file with a header. Columns that the header lacks are added to it; other rows stay shorter.
    Raises UnicodeEncodeError for a value that cannot be encoded.
    """
    wanted = list(dict.fromkeys(chain(REQUIRED_COLUMNS, *rows)))
    if not content:
        names = sorted(wanted, key=COLUMNS.index)
        records = [csv_line(cells, ",") for cells in [names, *_cells(names, rows)]]
        return Edit("".join(f"{record}\n" for record in records).encode(), 2, _numbered(records, 1))
    encoding, header = encoding_of(content), header_of(content)
    lines = _LINE.findall(content.removeprefix(encoding.mark).decode(encoding.name))
    newline = _newline(lines[0]) or "\n"
    missing = [name for name in wanted if name not in header.names]
    written: dict[int, str] = {}
    if missing:
        written[header.line] = header.delimiter.join([lines[header.line - 1].rstrip("\r\n"), *missing])
        lines[header.line - 1] = written[header.line] + newline
    at = len(lines) if before_line is None else before_line - 1
    if at == len(lines) and not _newline(lines[-1]):
        lines[-1] += newline
    records = [csv_line(cells, header.delimiter) for cells in _cells([*header.names, *missing], rows)]
    text = "".join([*lines[:at], *(record + newline for record in records), *lines[at:]])
    return Edit(encoding.mark + text.encode(encoding.name), at + 1, written | _numbered(records, at + 1))


def line_above_the_rest(rules: Sequence[Rule]) -> int | None:
    """The line of the first of the catch-all rules (pattern `*`) at the end of a mapping; None without any."""
    line = None
    for rule in reversed(rules):
        if rule.pattern != "*":
            break
        line = rule.line
    return line


def _cells(names: Sequence[str], rows: Sequence[Values]) -> list[list[str]]:
    return [[row.get(name, "") for name in names] for row in rows]


def _numbered(records: Sequence[str], first: int) -> dict[int, str]:
    """Records by the line on which each starts, the first on line `first`."""
    heights = (len(_LINE.findall(f"{record}\n")) for record in records)
    return dict(zip(accumulate(heights, initial=first), records, strict=False))


def _newline(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]
