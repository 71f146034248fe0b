"""psycopg2 for Dagster's storage, whose statements have the settings that they rely on, also through a pooler.

Dagster gives a URL and no hook, commits each statement by itself, and names no schema. So the settings go with each
statement, as one message to the server, which is one transaction.
"""

from typing import Any

import psycopg2
from sqlalchemy import Engine, event
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import QueuePool

from orcost_pipeline.warehouse.database import SESSION, set_local
from orcost_pipeline.warehouse.schema.namespaces import DAGSTER_SCHEMA

DRIVER = "postgresql+orcost_storage"  # as pyproject.toml declares it to SQLAlchemy
# How strings escape is left alone: psycopg2 quotes by what the session had at first, and a change under way would have
# it write backslashes that mean something else.
_PINNED = {name: value for name, value in SESSION.items() if name != "standard_conforming_strings"}
_SETTINGS = set_local({**_PINNED, "search_path": DAGSTER_SCHEMA})
_ISOLATION = "set transaction isolation level read committed; "


class StorageDialect(PGDialect_psycopg2):
    """SQLAlchemy's own dialect, but for what is put before each statement."""

    supports_statement_cache = True

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Has pooled connections tried before use, and replaced where Postgres was restarted meanwhile: Dagster makes
        its engines without `pool_pre_ping`."""
        if isinstance(engine.pool, QueuePool):
            event.listen(engine, "checkout", _require_alive)

    def create_connect_args(self, url: URL) -> Any:
        arguments, options = super().create_connect_args(url)
        return arguments, {**options, "client_encoding": "utf8"}

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        super().do_execute(cursor, _with_settings(cursor, statement), parameters, context)

    def do_execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> None:
        super().do_execute_no_params(cursor, _with_settings(cursor, statement), context)

    def do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        super().do_executemany(cursor, _with_settings(cursor, statement), parameters, context)


def _require_alive(connection: Any, *_: object) -> None:
    try:
        connection.cursor().execute("select")
    except psycopg2.Error as error:
        raise DisconnectionError from error


def _with_settings(cursor: Any, statement: str) -> str:
    if not cursor.connection.autocommit:
        return _SETTINGS + statement
    if "concurrently" in statement.lower():
        # The indexes of `dagster instance migrate` refuse any transaction: settings of the session have to do.
        cursor.execute(f"set search_path to {DAGSTER_SCHEMA}")
        return statement
    return _ISOLATION + _SETTINGS + statement
