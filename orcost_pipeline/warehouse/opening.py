"""From a URL, or from none, to an engine over a warehouse whose schema is the newest."""

from pathlib import Path

import sqlalchemy as sa
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from orcost_pipeline.errors import OrcostError, PermanentError, TransientError
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, EmbeddedPostgresError
from orcost_pipeline.warehouse.failures import database_errors
from orcost_pipeline.warehouse.schema import SCHEMA_VERSION
from orcost_pipeline.warehouse.schema.namespaces import require_room, schema_version
from orcost_pipeline.warehouse.schema.record import is_applied, schema_as_set

NOTHING_YET = "No account was synced yet. Next: orcost sync"

RESTART_SECONDS = 30  # what a restart takes, with the recovery of a database that is not large


class NoWarehouseError(PermanentError):
    """Nothing was ever synced: there is no database, or nothing of ours in it."""


def database_url(configured: str | None, home: Path) -> str:
    """The configured URL, else that of the embedded Postgres under `home`, which is started where it is not running."""
    if configured:
        return configured
    try:
        return EmbeddedPostgres(home).start()
    except EmbeddedPostgresError as error:
        raise TransientError(str(error)) from None


def open_warehouse(configured: str | None, home: Path) -> sa.Engine:
    """An engine over the warehouse, migrated where its tables, views, functions or comments are not this program's.

    Raises PermanentError or TransientError where it cannot be used.
    """
    engine = connect(database_url(configured, home))
    with database_errors():
        if not _is_current(engine):
            # Alembic takes a third of a second to import: only where there is something to migrate.
            from orcost_pipeline.warehouse.schema.upgrade import migrate

            migrate(engine)
    return engine


def _is_current(engine: sa.Engine) -> bool:
    """Whether tables, views, functions and comments are this program's; raises as `stored_version` does."""
    if stored_version(engine) != SCHEMA_VERSION:
        return False
    with engine.connect() as connection:
        return is_applied(connection, schema_as_set(connection))


def open_database(configured: str | None, home: Path) -> sa.Engine:
    """An engine over the database, whatever is in it; PermanentError where an embedded one had to be made."""
    try:
        is_there = configured or EmbeddedPostgres(home).data() is not None
    except EmbeddedPostgresError as error:
        raise PermanentError(str(error)) from None
    if not is_there:
        raise NoWarehouseError(NOTHING_YET)
    return connect(database_url(configured, home))


def open_existing(configured: str | None, home: Path) -> sa.Engine:
    """An engine over a warehouse that is there and current; PermanentError where it had to be made or migrated.

    Who reads never migrates: it may lack the right to, and others may still sync with the program of before.
    """
    engine = open_database(configured, home)
    with database_errors():
        version = stored_version(engine)
    if version is None:
        raise NoWarehouseError(NOTHING_YET)
    if version != SCHEMA_VERSION:
        raise PermanentError(
            f"The warehouse's schema ({version}) is older than this program's ({SCHEMA_VERSION}). "
            "Upgrade it: orcost db migrate (orcost sync and orcost up do so too)"
        )
    return engine


def can_be_used(configured: str | None, home: Path) -> bool:
    """Whether the warehouse opens, now or before a restart would be over."""
    opening = Retrying(
        stop=stop_after_delay(RESTART_SECONDS), wait=wait_fixed(1), retry=retry_if_exception_type(TransientError)
    )
    try:
        opening(lambda: open_warehouse(configured, home).dispose())
    except (OrcostError, RetryError):
        return False
    return True


def stored_version(engine: sa.Engine) -> str | None:
    """The version of the warehouse's schema; None where there is none.

    Raises PermanentError where it is newer than this program's, or where the database has no room for one.
    """
    with engine.connect() as connection:
        version = schema_version(connection)
        if version is None:
            require_room(connection)
    if version is not None and version > SCHEMA_VERSION:
        raise PermanentError(
            f"The warehouse's schema ({version}) is newer than this program's ({SCHEMA_VERSION}). Update the program."
        )
    return version
