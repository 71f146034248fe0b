"""Comments of schemas, relations, columns and functions, so that BI tools and Dagster explain the warehouse themselves.

What belongs here: writing them. What they say stands in `table_comments.py` and `column_comments.py`, and on top of the
files of views and functions.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.schema.column_comments import COLUMNS
from orcost_pipeline.warehouse.schema.namespaces import WAREHOUSE_SCHEMAS
from orcost_pipeline.warehouse.schema.relation_columns import OVERRIDES
from orcost_pipeline.warehouse.schema.table_comments import SCHEMAS, TABLES
from orcost_pipeline.warehouse.statements import statement

_CATALOGUE = "schema/catalogue"


class Comments(NamedTuple):
    """Name → sentence. `columns` by the column's name alone; `overrides` by relation and column, where it says more."""

    schemas: Mapping[str, str]
    relations: Mapping[str, str]
    functions: Mapping[str, str]
    columns: Mapping[str, str]
    overrides: Mapping[str, str]

    def texts(self) -> Iterator[str]:
        """All of them, with what they are of, in one order."""
        for of in self:
            yield from (f"{name}: {of[name]}" for name in sorted(of))
            yield ""


def comments_of(views: Mapping[str, str], functions: Mapping[str, str]) -> Comments:
    """The comments of the warehouse, given those of its views and functions."""
    return Comments(SCHEMAS, {**TABLES, **views}, functions, COLUMNS, OVERRIDES)


def comment_everything(connection: sa.Connection, comments: Comments) -> None:
    """Writes every comment of ours that differs in the database; those of users' own objects are left alone.

    Raises KeyError where a column has no sentence.
    """
    schemas = {"schemas": list(WAREHOUSE_SCHEMAS)}
    for schema, before in connection.execute(statement(_CATALOGUE, "schemas"), schemas).all():
        _comment(connection, f"schema {schema}", before, comments.schemas[schema])
    for function, signature, before in connection.execute(statement(_CATALOGUE, "our_functions")).all():
        _comment(connection, f"function {signature}", before, comments.functions[function])
    columns = connection.execute(statement(_CATALOGUE, "columns"), schemas).all()
    seen: set[str] = set()
    for relation, relkind, column, of_relation, of_column in columns:
        if relation not in comments.relations:
            continue
        if relation not in seen:
            kind = "view" if relkind == "v" else "table"
            _comment(connection, f"{kind} {relation}", of_relation, comments.relations[relation])
            seen.add(relation)
        # What a viewer reads has the columns of the mart of its name.
        meant = relation.replace("viewer.", "marts.", 1)
        text = comments.overrides.get(f"{meant}.{column}") or comments.columns[column]
        name = connection.dialect.identifier_preparer.quote(column)
        _comment(connection, f"column {relation}.{name}", of_column, text)


def _comment(connection: sa.Connection, what: str, before: str | None, text: str) -> None:
    if before != text:
        connection.exec_driver_sql(f"comment on {what} is {_literal(text)}", execution_options={"no_parameters": True})


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
