"""The schemas that orcost makes in a database, and whether a database has room for them.

All SQL names its schema, so that the names are fixed (D62): a database in which another program uses one of them is
refused before anything is created.
"""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.statements import statement

OLDEST_MAJOR = 15  # of Postgres

WAREHOUSE_SCHEMAS = ("raw", "ref", "core", "marts", "viewer", "ops")
DAGSTER_SCHEMA = "dagster"
SCHEMAS = (*WAREHOUSE_SCHEMAS, DAGSTER_SCHEMA)
ENCODING = "UTF8"


def schema_version(connection: sa.Connection) -> str | None:
    """The version of the warehouse's schema; None where there is no warehouse."""
    if not _room(connection).has_warehouse:
        return None
    return connection.execute(sa.text("select version_num from ops.schema_version")).scalar()


def foreign_schemas(connection: sa.Connection) -> list[str]:
    """Schemas with our names that are not ours: they hold objects, or the user may not create any there.

    Empty where there is a warehouse: then all of them are ours.
    """
    return list(_room(connection).foreign_schemas)


def _room(connection: sa.Connection) -> sa.Row[Any]:
    return connection.execute(statement("schema/catalogue", "room"), {"schemas": list(SCHEMAS)}).one()


def foreign_problem(database: str, schemas: Iterable[str]) -> tuple[str, str]:
    """The problem with a database that has such schemas, and what to do."""
    problem = f"Database \"{database}\" has schemas of orcost's names that are not orcost's: {', '.join(schemas)}."
    return problem, "Use a database of its own: create database orcost; then name it in ORCOST_DATABASE_URL"


def version_problem(major: int, oldest: int = OLDEST_MAJOR) -> str | None:
    """Why this version of Postgres cannot hold a warehouse; None where it can."""
    return f"Postgres {major} is too old: orcost needs {oldest} or newer." if major < oldest else None


def encoding_problem(database: str, encoding: str) -> tuple[str, str]:
    """The problem with a database that cannot hold every name, and what to do."""
    problem = f'The encoding of database "{database}" is {encoding}: it cannot hold every name of keys and companies.'
    return problem, (
        "Use a database in UTF-8: create database orcost encoding 'UTF8' template template0; "
        "then name it in ORCOST_DATABASE_URL"
    )


def require_room(connection: sa.Connection) -> None:
    """Raises PermanentError where no warehouse can be made in this database."""
    encoding = "select current_database()::text, current_setting('server_encoding')"
    database, encoding = connection.execute(sa.text(encoding)).one()
    if encoding != ENCODING:
        raise PermanentError("{}\n{}.".format(*encoding_problem(database, encoding)))
    if schemas := foreign_schemas(connection):
        raise PermanentError("{}\n{}.".format(*foreign_problem(database, schemas)))


def make_schemas(connection: sa.Connection, names: Iterable[str]) -> None:
    """Makes those that are not there.

    `if not exists` asks for the right to make them even where they are, so who has none is spared it; whoever has it
    finds out here, before anything else is done, that a database takes no writes. Raises PermanentError, naming the
    statements, where this user may not make those that are missing.
    """
    may_create = connection.execute(sa.text("select has_database_privilege(current_database(), 'create')")).scalar_one()
    there = set(connection.execute(sa.text("select nspname from pg_namespace")).scalars())
    if not may_create and (missing := [name for name in names if name not in there]):
        user, database = connection.execute(sa.text("select quote_ident(current_user), current_database()::text")).one()
        statements = "; ".join(f"create schema {name} authorization {user}" for name in missing)
        raise PermanentError(
            f"The database's user may not create the schemas that are missing: {', '.join(missing)}. Nothing was "
            f'changed.\nAs an administrator, in database "{database}": {statements}'
        )
    for name in names:
        if may_create or name not in there:
            connection.execute(sa.text(f"create schema if not exists {name}"))
