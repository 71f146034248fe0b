"""Findings from the database: whether it can be used, and whether what it holds is this program's warehouse.

Nothing is made and nothing migrated: an embedded server that has data is started.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from orcost_pipeline.errors import OrcostError
from orcost_pipeline.health.finding import Code, Finding, Severity
from orcost_pipeline.health.standing import WarehouseState, is_syncing, read
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.access import configured_url
from orcost_pipeline.warehouse.database import connect, set_local
from orcost_pipeline.warehouse.embedded import OLDEST_MAJOR, EmbeddedPostgres, EmbeddedPostgresError
from orcost_pipeline.warehouse.failures import database_errors
from orcost_pipeline.warehouse.opening import SCHEMA_VERSION
from orcost_pipeline.warehouse.questions.accounts import Evidence, stored_evidence
from orcost_pipeline.warehouse.questions.health import Server, server_state
from orcost_pipeline.warehouse.schema.namespaces import (
    ENCODING,
    encoding_problem,
    foreign_problem,
    foreign_schemas,
    schema_version,
)

STATEMENT_WITHIN = 10  # seconds


@dataclass(frozen=True)
class Look:
    """What came of looking into the warehouse: what it holds, None where that is not known; what is wrong there; what
    tells each account from another.

    `is_new`: there is no warehouse yet.
    """

    stored: WarehouseState | None = None
    found: tuple[Finding, ...] = ()
    is_new: bool = False
    evidence: Mapping[str, Evidence] = field(default_factory=dict)


def look_into(settings: Settings, now: datetime, statement_within: int = STATEMENT_WITHIN) -> Look:
    """Reads the warehouse as it is: nothing is made, nothing migrated.

    statement_within: seconds, after which a statement is given up.
    """
    configured = configured_url(settings)
    try:
        if configured is None and EmbeddedPostgres(settings.home).data() is None:
            return Look(found=(NO_WAREHOUSE_YET,), is_new=True)
        with database_errors():
            engine = connect(configured or EmbeddedPostgres(settings.home).start())
            try:
                with engine.connect() as connection:
                    return _look(connection, settings, now, statement_within)
            finally:
                engine.dispose()
    except (OrcostError, EmbeddedPostgresError, DBAPIError, OSError) as error:
        return Look(found=(_of_database_error(error),))


def _of_database_error(error: Exception) -> Finding:
    # SQLAlchemy's own words hold the statement.
    message = str(error.orig).strip().splitlines()[0] if isinstance(error, DBAPIError) else str(error)
    if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
        return _no_rights(message, "Grant it, or give another user in ORCOST_DATABASE_URL")
    todo = "Start it, or correct ORCOST_DATABASE_URL; stored costs are safe"
    return Finding(Severity.ERROR, Code.DATABASE_UNREACHABLE, None, message, todo)


NO_WAREHOUSE_YET = Finding(
    Severity.NOTE, Code.NEVER_SYNCED, None, "There is no warehouse yet: nothing was synced.", "orcost sync"
)


def _look(connection: sa.Connection, settings: Settings, now: datetime, statement_within: int) -> Look:
    within = sa.text(set_local({"statement_timeout": f"'{statement_within}s'"}))
    connection.execute(within)
    server, foreign = server_state(connection), foreign_schemas(connection)
    connection.commit()
    if foreign:
        problem, todo = foreign_problem(server.database, foreign)
        return Look(found=(Finding(Severity.ERROR, Code.SCHEMAS_TAKEN, None, problem, todo),))
    found = tuple(of_server(server, is_writer=is_syncing(settings)))
    if server.major < OLDEST_MAJOR or server.may_read is False:
        return Look(found=found)
    frozen = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    frozen.execute(within)
    version = schema_version(frozen)
    if version is None:
        return Look(found=(*found, NO_WAREHOUSE_YET), is_new=True)
    if version != SCHEMA_VERSION:
        return Look(found=(*found, _other_schema(version)))
    # Whose account a key is matters to who syncs; who only reads sees no raw tables.
    syncing = settings.accounts if server.may_write else ()
    evidence = {account.name: stored_evidence(frozen, account.name) for account in syncing}
    return Look(read(frozen, settings, now), found, evidence=evidence)


def of_server(server: Server, *, is_writer: bool) -> Iterator[Finding]:
    if server.major < OLDEST_MAJOR:
        message = f"Postgres {server.major} is too old: orcost needs {OLDEST_MAJOR} or newer."
        yield Finding(
            Severity.ERROR, Code.DATABASE_OLD, None, message, "Upgrade it, or set another ORCOST_DATABASE_URL"
        )
    if server.encoding != ENCODING:
        problem, todo = encoding_problem(server.database, server.encoding)
        yield Finding(Severity.ERROR, Code.DATABASE_ENCODING, None, problem, todo)
    if server.connections > server.max_connections * 9 // 10:
        message = f"{server.connections} of the database's {server.max_connections} connections are taken."
        todo = "Close sessions (select * from pg_stat_activity), or raise max_connections"
        yield Finding(Severity.WARNING, Code.DATABASE_FULL, None, message, todo)
    if server.may_read is False:
        todo = "grant usage on its schemas and select on their tables, or give the user of the syncs"
        yield _no_rights(f'The user "{server.user}" may not read the warehouse.', todo)
    elif is_writer:
        yield from _of_writing(server)


def _of_writing(server: Server) -> Iterator[Finding]:
    """What stands against a sync; a machine without keys need not write."""
    if server.is_standby or server.is_read_only:
        why = "a standby, in recovery" if server.is_standby else "read-only (transaction_read_only)"
        todo = "Give the address of the primary in ORCOST_DATABASE_URL"
        if not server.is_standby:
            todo = f'alter database "{server.database}" reset default_transaction_read_only, or see why it was set'
        yield Finding(Severity.ERROR, Code.DATABASE_READ_ONLY, None, f"The database is {why}: no sync can write.", todo)
    elif not server.may_create:
        todo = f'grant create on database "{server.database}" to "{server.user}"'
        yield _no_rights(f'The user "{server.user}" may not create schemas: no sync can run.', todo)
    elif server.may_write is False:
        todo = f'Make "{server.user}" the owner of the tables, or give the user who made them'
        yield _no_rights(f'The user "{server.user}" may not write to the warehouse: no sync can.', todo)


def _no_rights(message: str, todo: str) -> Finding:
    return Finding(Severity.ERROR, Code.DATABASE_RIGHTS, None, message, todo)


def _other_schema(version: str) -> Finding:
    told = f"The warehouse's schema ({version}) is {{}} than this program's ({SCHEMA_VERSION})"
    if version > SCHEMA_VERSION:
        message = f"{told.format('newer')}: nothing can be read or synced."
        return Finding(Severity.ERROR, Code.SCHEMA_NEWER, None, message, "Update orcost on this machine")
    message = f"{told.format('older')}: it cannot be read until it is migrated."
    return Finding(Severity.WARNING, Code.SCHEMA_OLDER, None, message, "orcost db migrate (the next sync does so too)")
