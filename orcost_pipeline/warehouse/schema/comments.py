"""Comments of schemas, relations, columns and functions, so that BI tools and Dagster explain the warehouse themselves.

What belongs here: writing them. What they say stands in `tables.py` and `columns.py`, and on top of the files of views
and functions.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.schema.columns import COLUMNS, OVERRIDES
from orcost_pipeline.warehouse.schema.namespaces import WAREHOUSE_SCHEMAS
from orcost_pipeline.warehouse.schema.tables import SCHEMAS, TABLES

_COLUMNS_OF_OURS = sa.text(
    """
    select n.nspname || '.' || c.relname as relation, c.relkind, a.attname,
        obj_description(c.oid, 'pg_class') as relation_comment, col_description(c.oid, a.attnum) as column_comment
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where n.nspname = any(:schemas) and c.relkind in ('r', 'v') and c.relname <> 'schema_version'
    """
)
# A schema that was made for us is another user's, who alone may comment on it.
_SCHEMAS_OF_OURS = sa.text(
    """
    select nspname, obj_description(oid, 'pg_namespace') as comment
    from pg_namespace
    where nspname = any(:schemas) and pg_has_role(nspowner, 'usage')
    """
)
# A user's function may have the name of one of ours, and other arguments.
_FUNCTIONS_OF_OURS = sa.text(
    """
    select o.name, p.oid::regprocedure::text as signature, obj_description(p.oid, 'pg_proc') as comment
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    join ops.schema_object o on o.name = n.nspname || '.' || p.proname and o.arguments = oidvectortypes(p.proargtypes)
    """
)


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
    for schema, before in connection.execute(_SCHEMAS_OF_OURS, schemas).all():
        _comment(connection, f"schema {schema}", before, comments.schemas[schema])
    for function, signature, before in connection.execute(_FUNCTIONS_OF_OURS).all():
        _comment(connection, f"function {signature}", before, comments.functions[function])
    seen: set[str] = set()
    for relation, relkind, column, of_relation, of_column in connection.execute(_COLUMNS_OF_OURS, schemas).all():
        if relation not in comments.relations:
            continue
        if relation not in seen:
            kind = "view" if relkind == "v" else "table"
            _comment(connection, f"{kind} {relation}", of_relation, comments.relations[relation])
            seen.add(relation)
        text = comments.overrides.get(f"{relation}.{column}") or comments.columns[column]
        _comment(connection, f"column {relation}.{column}", of_column, text)


def _comment(connection: sa.Connection, what: str, before: str | None, text: str) -> None:
    if before != text:
        connection.exec_driver_sql(f"comment on {what} is {_literal(text)}", execution_options={"no_parameters": True})


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
