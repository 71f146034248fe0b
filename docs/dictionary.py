"""The data dictionary, `docs/dictionary.md`: written from the catalogue of a new warehouse.

.venv/bin/python -m docs.dictionary
"""

import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import sqlalchemy as sa

from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.opening import open_warehouse

PAGE = Path(__file__).with_suffix(".md")
# In the order in which a reader needs them.
SCHEMAS = ["marts", "viewer", "core", "ref", "ops"]
_HEAD = """# Data dictionary

Every column that readers and BI tools see, with its type and meaning, as in the comments of the database. Written by
`python -m docs.dictionary`.

[README](../README.md) · [Tables](tables.md)
"""


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o755)
        engine = open_warehouse(None, home)
        try:
            with engine.connect() as connection:
                PAGE.write_text(dictionary(connection), encoding="utf-8")
        finally:
            engine.dispose()
            EmbeddedPostgres(home).stop()


def dictionary(connection: sa.Connection) -> str:
    """The page, as Markdown."""
    rows = connection.exec_driver_sql(PAGE.with_suffix(".sql").read_text(encoding="utf-8"), (SCHEMAS, SCHEMAS)).all()
    relations = [list(columns) for _, columns in groupby(rows, lambda row: row.relation)]
    return "\n".join([_HEAD, *(line for columns in relations for line in _section(columns))])


def _section(columns: list[sa.Row]) -> Iterator[str]:
    """A relation or function, with a table of its columns where it has any."""
    yield f"## {columns[0].relation}\n"
    yield f"{columns[0].comment}\n"
    if columns[0].name:
        yield "| column | type | meaning |\n|---|---|---|"
        yield from (f"| `{it.name}` | {it.type} | {it.description} |" for it in columns)
        yield ""


if __name__ == "__main__":
    main()
