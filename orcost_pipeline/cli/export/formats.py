"""The formats of an export. Each takes the rows some at a time and returns how many there were.

csv, json and parquet keep every digit, with the scale of the column; a cell of xlsx is a double. The types of the
columns, as Postgres names them, decide how each is held.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from xml.sax.saxutils import escape

from xlsxwriter import Workbook
from xlsxwriter.exceptions import FileCreateError
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from orcost_pipeline.cli.rendering import csv_line, plain
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.questions.exports import Export
from orcost_pipeline.warehouse.questions.relations import Column

if TYPE_CHECKING:
    import pyarrow as pa

_DECIMAL = re.compile(r"numeric\((\d+),(\d+)\)")
_INSTANT = "timestamp with time zone"

# Text


def write_csv(export: Export, stream: TextIO) -> int:
    """CSV with a header; amounts are plain decimals, a null is an empty cell."""
    stream.write(csv_line(column.name for column in export.columns))
    count = 0
    for chunk in export.chunks:
        stream.writelines(map(csv_line, chunk))
        count += len(chunk)
    return count


def write_json(export: Export, stream: TextIO) -> int:
    """A JSON array with an object per line; amounts are strings."""
    names = [column.name for column in export.columns]
    count = 0
    for chunk in export.chunks:
        for row in chunk:
            stream.write(",\n" if count else "[\n")
            stream.write(json.dumps(dict(zip(names, map(plain, row), strict=True))))
            count += 1
    stream.write("\n]\n" if count else "[]\n")
    return count


# Excel

_LOOKS = {"date": "yyyy-mm-dd", _INSTANT: "yyyy-mm-dd hh:mm", "usd": "#,##0.000000", "count": "#,##0"}
_WIDTHS = {"date": 12, _INSTANT: 18, "text": 24}


class _Double(float):
    """A double that is written with all of its digits: XlsxWriter asks for 16, and 17 may be needed."""

    def __format__(self, _spec: str) -> str:
        return repr(float(self))


def write_xlsx(export: Export, file: Path) -> int:
    """A workbook with one sheet: numbers as the nearest doubles, days and instants (UTC) as dates, text as text.

    Raises PermanentError where the rows, or a text, do not fit into a sheet.
    """
    try:
        # One row at a time is kept in memory, the others in a file beside the workbook.
        with Workbook(file, {"constant_memory": True, "tmpdir": str(file.parent)}) as book:
            return _fill(book, export)
    except FileCreateError as error:
        (cause,) = error.args
        raise cause from None


def _fill(book: Workbook, export: Export) -> int:
    sheet = book.add_worksheet("spend")
    looks = {kind: book.add_format({"num_format": look}) for kind, look in _LOOKS.items()}
    bold = book.add_format({"bold": True})
    for place, column in enumerate(export.columns):
        sheet.set_column(place, place, _WIDTHS.get(column.type, 16))
        sheet.write_string(0, place, column.name, bold)
    sheet.freeze_panes(1, 0)
    columns = [looks.get(_kind(column)) for column in export.columns]
    count = 0
    for chunk in export.chunks:
        for row in chunk:
            count += 1
            for place, value in enumerate(row):
                _write_cell(sheet, count, place, value, columns[place])
    sheet.autofilter(0, 0, count, len(columns) - 1)
    return count


def _kind(column: Column) -> str:
    if _DECIMAL.fullmatch(column.type):
        return "usd" if column.name.endswith("_usd") else "count"
    return column.type


def _write_cell(sheet: Worksheet, row: int, place: int, value: Any, look: Format | None) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        problem = sheet.write_boolean(row, place, value)
    elif isinstance(value, Decimal):
        problem = sheet.write_number(row, place, _Double(value), look)
    elif isinstance(value, datetime):
        problem = sheet.write_datetime(row, place, value.replace(tzinfo=None), look)
    elif isinstance(value, date):
        problem = sheet.write_datetime(row, place, datetime.combine(value, time.min), look)
    else:
        problem = sheet.write_string(row, place, _literal(value))
    if problem:
        raise PermanentError(
            "Excel's sheets have 1,048,576 rows and cells of 32,767 characters, and this is more. "
            "Choose a shorter window, or another --format."
        )


def _literal(text: str) -> str:
    """Text that XlsxWriter would pass on as XML of its own, as a run of formatted text that holds it."""
    if text.startswith("<r>") and text.endswith("</r>"):
        return f'<r><t xml:space="preserve">{escape(text)}</t></r>'
    return text


# Parquet


def require_parquet() -> None:
    """Raises PermanentError where pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        raise PermanentError(f"Parquet needs pyarrow. Install it: {sys.executable} -m pip install pyarrow")


def write_parquet(export: Export, file: Path) -> int:
    """A Parquet file: amounts as decimal128 with the scale of the column, instants as timestamps in UTC."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema([(column.name, _arrow_type(column.type)) for column in export.columns])
    count = 0
    with ParquetWriter(file, schema) as writer:
        for chunk in export.chunks:
            columns = zip(*chunk, strict=True)
            arrays = [pa.array(values, it.type) for values, it in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(chunk)
    return count


def _arrow_type(kind: str) -> "pa.DataType":
    import pyarrow as pa

    if decimal := _DECIMAL.fullmatch(kind):
        return pa.decimal128(*map(int, decimal.groups()))
    instant = pa.timestamp("us", tz="UTC")
    return {"text": pa.string(), "boolean": pa.bool_(), "date": pa.date32(), _INSTANT: instant}[kind]


TEXT: Mapping[str, Callable[[Export, TextIO], int]] = {"csv": write_csv, "json": write_json}
BINARY: Mapping[str, Callable[[Export, Path], int]] = {"xlsx": write_xlsx, "parquet": write_parquet}
