"""A rule more in a mapping file that people keep: everything else stays as it was written, byte by byte.

Pure functions: bytes → bytes. Whether the file is valid then is for `read_mapping` to say.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import NamedTuple

from orcost_pipeline.companies.mapping import COLUMNS, REQUIRED_COLUMNS, Rule
from orcost_pipeline.companies.rows import csv_line, encoding_of, header_of

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")

# A row's values by column; what is blank is not there.
Values = Mapping[str, str]


class Edit(NamedTuple):
    """The file as it would be, the line on which the first added row stands, and each record that is new or changed.

    `written` holds a record by the number of its line, without what ends it; a cell may go over several lines.
    """

    content: bytes
    line: int
    written: dict[int, str]


def with_rows(content: bytes, rows: Sequence[Values], before_line: int | None) -> Edit:
    """The file with rows added above a line, or at its end.

    An empty content becomes a file. A column that the header lacks is added to it: rows may have fewer values.
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
    """Where the rules begin, at the end of a mapping, that match whatever comes to them."""
    line = None
    for rule in reversed(rules):
        if rule.pattern != "*":
            break
        line = rule.line
    return line


def _cells(names: Sequence[str], rows: Sequence[Values]) -> list[list[str]]:
    return [[row.get(name, "") for name in names] for row in rows]


def _numbered(records: Sequence[str], first: int) -> dict[int, str]:
    """Records by the number of the line on which each starts; the first starts on line `first`."""
    heights = (len(_LINE.findall(f"{record}\n")) for record in records)
    return dict(zip(accumulate(heights, initial=first), records, strict=False))


def _newline(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]
