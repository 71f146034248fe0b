"""A rule more in a mapping file that people keep: everything else stays as it was written, byte by byte.

Pure functions: bytes → bytes. Whether the file is valid then is for `read_mapping` to say.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import chain

from orcost_pipeline.companies.mapping import COLUMNS, REQUIRED_COLUMNS, Rule
from orcost_pipeline.companies.rows import csv_line, encoding_of, header_of

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")

# A row's values by column; what is blank is not there.
Values = Mapping[str, str]


def with_rows(content: bytes, rows: Sequence[Values], before_line: int | None) -> tuple[bytes, int]:
    """The file with rows added above a line, or at its end, and the line on which the first of them stands.

    An empty content becomes a file. A column that the header lacks is added to it: rows may have fewer values.
    """
    wanted = list(dict.fromkeys(chain(REQUIRED_COLUMNS, *rows)))
    if not content:
        names = sorted(wanted, key=COLUMNS.index)
        return "".join(f"{csv_line(line, ',')}\n" for line in [names, *_cells(names, rows)]).encode(), 2
    encoding, header = encoding_of(content), header_of(content)
    lines = _LINE.findall(content.removeprefix(encoding.mark).decode(encoding.name))
    newline = _newline(lines[0]) or "\n"
    missing = [name for name in wanted if name not in header.names]
    if missing:
        written = lines[header.line - 1].rstrip("\r\n")
        lines[header.line - 1] = header.delimiter.join([written, *missing]) + newline
    at = len(lines) if before_line is None else before_line - 1
    if at == len(lines) and not _newline(lines[-1]):
        lines[-1] += newline
    added = [csv_line(cells, header.delimiter) + newline for cells in _cells([*header.names, *missing], rows)]
    return encoding.mark + "".join([*lines[:at], *added, *lines[at:]]).encode(encoding.name), at + 1


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


def _newline(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]
