"""Findings from the database: whether it can be used, and whether it holds a warehouse of this program's version.

Nothing is created or migrated; an embedded server that has data is started.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from orcost_pipeline.errors import OrcostError
from orcost_pipeline.health.finding import Code, Finding, Severity
from orcost_pipeline.health.standing import WarehouseState, is_syncing, read
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import MOST_NAMES, few, listed
from orcost_pipeline.warehouse.access import configured_url
from orcost_pipeline.warehouse.database import connect, set_local
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, EmbeddedPostgresError
from orcost_pipeline.warehouse.failures import database_errors
from orcost_pipeline.warehouse.questions.accounts import Evidence, stored_evidence
from orcost_pipeline.warehouse.questions.health import Server, server_state
from orcost_pipeline.warehouse.questions.rights import Right, differing_rights
from orcost_pipeline.warehouse.schema import SCHEMA_VERSION
from orcost_pipeline.warehouse.schema.namespaces import (
    ENCODING,
    encoding_problem,
    foreign_problem,
    foreign_schemas,
    schema_version,
    version_problem,
)

STATEMENT_WITHIN = 10  # seconds


@dataclass(frozen=True)
class DatabaseCheck:
    """The result of checking the database: the warehouse's state (None where it cannot be read), the findings, and the
    evidence that identifies each account.

    `is_new`: there is no warehouse yet.
    """

    stored: WarehouseState | None = None
    found: tuple[Finding, ...] = ()
    is_new: bool = False
    evidence: Mapping[str, Evidence] = field(default_factory=dict)


def check_database(settings: Settings, now: datetime, statement_within: int = STATEMENT_WITHIN) -> DatabaseCheck:
    """Reads the warehouse as it is, without creating or migrating anything; never raises for a broken database.

    What stands in the way of reading it is a finding. `statement_within`: seconds, after which a statement is given up.
    """
    configured = configured_url(settings)
    try:
        if configured is None and EmbeddedPostgres(settings.home).data() is None:
            return DatabaseCheck(found=(NO_WAREHOUSE_YET,), is_new=True)
        with database_errors():
            engine = connect(configured or EmbeddedPostgres(settings.home).start())
            try:
                with engine.connect() as connection:
                    return _check(connection, settings, now, statement_within)
            finally:
                engine.dispose()
    except (OrcostError, EmbeddedPostgresError, DBAPIError, OSError) as error:
        return DatabaseCheck(found=(_database_error_finding(error),))


def _database_error_finding(error: Exception) -> Finding:
    # SQLAlchemy's own message contains the statement.
    message = str(error.orig).strip().splitlines()[0] if isinstance(error, DBAPIError) else str(error)
    if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
        return _rights_finding(message, "Grant it, or give another user in ORCOST_DATABASE_URL")
    todo = "Start it, or correct ORCOST_DATABASE_URL; stored costs are safe"
    return Finding(Severity.ERROR, Code.DATABASE_UNREACHABLE, None, message, todo)


NO_WAREHOUSE_YET = Finding(
    Severity.NOTE, Code.NEVER_SYNCED, None, "There is no warehouse yet: nothing was synced.", "orcost sync"
)


def _check(connection: sa.Connection, settings: Settings, now: datetime, statement_within: int) -> DatabaseCheck:
    within = sa.text(set_local({"statement_timeout": f"'{statement_within}s'"}))
    connection.execute(within)
    server, foreign = server_state(connection), foreign_schemas(connection)
    connection.commit()
    if foreign:
        problem, todo = foreign_problem(server.database, foreign)
        return DatabaseCheck(found=(Finding(Severity.ERROR, Code.SCHEMAS_TAKEN, None, problem, todo),))
    found = tuple(server_findings(server, is_writer=is_syncing(settings)))
    if version_problem(server.major) or server.may_read is False:
        return DatabaseCheck(found=found)
    frozen = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    frozen.execute(within)
    version = schema_version(frozen)
    if version is None:
        return DatabaseCheck(found=(*found, NO_WAREHOUSE_YET), is_new=True)
    if version != SCHEMA_VERSION:
        return DatabaseCheck(found=(*found, _schema_finding(version)))
    # Only a user who syncs compares accounts; one who only reads may not see the raw tables.
    syncing = settings.accounts if server.may_write else ()
    evidence = {account.name: stored_evidence(frozen, account.name) for account in syncing}
    if server.may_write:
        found = (*found, *access_findings(differing_rights(frozen)))
    return DatabaseCheck(read(frozen, settings, now), found, evidence=evidence)


def access_findings(differing: Iterable[Right]) -> Iterator[Finding]:
    """Privileges of readers, viewers or `public` that exceed those of orcost access."""
    held = [it for it in differing if it.is_held]
    if held:
        message = f"Privileges in the database exceed those granted by orcost access: {listed(it.told for it in held)}."
        todo = "; ".join(few([it.statement for it in held if it.statement], MOST_NAMES))
        yield Finding(Severity.WARNING, Code.ACCESS_TOO_WIDE, None, message, todo or "See docs/access.md")


def server_findings(server: Server, *, is_writer: bool) -> Iterator[Finding]:
    """Problems of the server that prevent reading or, where this machine syncs (`is_writer`), writing."""
    if message := version_problem(server.major):
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
        yield _rights_finding(f'The user "{server.user}" may not read the warehouse.', todo)
    elif is_writer:
        yield from _write_findings(server)


def _write_findings(server: Server) -> Iterator[Finding]:
    """What prevents a sync from writing."""
    if server.is_standby or server.is_read_only:
        why = "a standby, in recovery" if server.is_standby else "read-only (transaction_read_only)"
        todo = "Give the address of the primary in ORCOST_DATABASE_URL"
        if not server.is_standby:
            todo = f'alter database "{server.database}" reset default_transaction_read_only, or see why it was set'
        yield Finding(Severity.ERROR, Code.DATABASE_READ_ONLY, None, f"The database is {why}: no sync can write.", todo)
    elif not server.may_create:
        todo = f'grant create on database "{server.database}" to "{server.user}"'
        yield _rights_finding(f'The user "{server.user}" may not create schemas: no sync can run.', todo)
    elif server.may_write is False:
        todo = f'Make "{server.user}" the owner of the tables, or give the user who made them'
        yield _rights_finding(f'The user "{server.user}" may not write to the warehouse: no sync can.', todo)


def _rights_finding(message: str, todo: str) -> Finding:
    return Finding(Severity.ERROR, Code.DATABASE_RIGHTS, None, message, todo)


def _schema_finding(version: str) -> Finding:
    comparison = f"The warehouse's schema ({version}) is {{}} than this program's ({SCHEMA_VERSION})"
    if version > SCHEMA_VERSION:
        message = f"{comparison.format('newer')}: nothing can be read or synced."
        return Finding(Severity.ERROR, Code.SCHEMA_NEWER, None, message, "Update orcost on this machine")
    message = f"{comparison.format('older')}: it cannot be read until it is migrated."
    return Finding(Severity.WARNING, Code.SCHEMA_OLDER, None, message, "orcost db migrate (the next sync does so too)")
