"""The warehouse of one command: opening it, and `orcost db`, which starts, stops and names it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
import typer
from sqlalchemy.exc import DBAPIError

from orcost_pipeline.cli.home import require_home
from orcost_pipeline.cli.rendering import say
from orcost_pipeline.errors import OrcostError, PermanentError, TransientError
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.database import database_errors
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, EmbeddedPostgresError
from orcost_pipeline.warehouse.opening import (
    NOTHING_YET,
    SCHEMA_VERSION,
    NoWarehouseError,
    database_url,
    open_database,
    open_existing,
    open_warehouse,
    stored_version,
)


@contextmanager
def warehouse(
    settings: Settings, opened: Callable[[str | None, Path], sa.Engine] = open_existing
) -> Iterator[sa.Engine]:
    """The warehouse, for as long as the block lasts; unless told otherwise, as it is: nothing is made or migrated."""
    try:
        with database_errors():
            engine = _opened(settings, opened)
            try:
                yield engine
            finally:
                engine.dispose()
    except DBAPIError as error:
        told = str(error.orig).strip().splitlines()[0]
        raise PermanentError(
            f"The database refused: {told}. Check the rights of the user in ORCOST_DATABASE_URL."
        ) from None


def _opened(settings: Settings, opened: Callable[[str | None, Path], sa.Engine]) -> sa.Engine:
    with _home_blamed(settings):
        if settings.database_url is None and not settings.home.is_dir():
            raise NoWarehouseError(NOTHING_YET)
        return opened(_configured(settings), settings.home)


@contextmanager
def _home_blamed(settings: Settings) -> Iterator[None]:
    """Where the embedded database does not open because nothing can be written to the home, says so instead."""
    try:
        yield
    except OrcostError:
        if settings.database_url is None:
            require_home(settings.home)
        raise


@contextmanager
def snapshot(settings: Settings) -> Iterator[sa.Connection]:
    """One state of the warehouse, so that the parts of a report agree while a sync publishes."""
    with warehouse(settings) as engine, _frozen(engine) as connection:
        yield connection


@contextmanager
def database_snapshot(settings: Settings) -> Iterator[sa.Connection]:
    """The same of the database, whatever is in it: a mapping's table may be there before the first sync."""
    with warehouse(settings, open_database) as engine, _frozen(engine) as connection:
        yield connection


def _frozen(engine: sa.Engine) -> sa.Connection:
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True).connect()


def url(settings: Settings) -> None:
    """Prints the warehouse's URL, password and all, for psql or a BI tool; starts the embedded server if need be."""
    with _home_blamed(settings):
        typer.echo(database_url(_configured(settings), settings.home))


def migrate(settings: Settings) -> None:
    """Brings the warehouse's schema to this program's version, as a sync does; readers never do."""
    with warehouse(settings, open_database) as engine:
        before = stored_version(engine)
    with warehouse(settings, open_warehouse):
        pass
    done = "is the newest" if before == SCHEMA_VERSION else f"was {before or 'not there'}, and is the newest now"
    typer.echo(f"The warehouse's schema ({SCHEMA_VERSION}) {done}.")


def stop(settings: Settings) -> None:
    """Stops the embedded server, ending its sessions."""
    if settings.database_url is not None:
        raise PermanentError(
            "The Postgres of ORCOST_DATABASE_URL was not started by orcost. Stop it where it was started."
        )
    server = EmbeddedPostgres(settings.home)
    try:
        was_running = server.url() is not None
        server.stop()
    except EmbeddedPostgresError as error:
        raise TransientError(str(error)) from None
    say("The embedded Postgres is stopped." if was_running else "The embedded Postgres was not running.")


def _configured(settings: Settings) -> str | None:
    return settings.database_url.get_secret_value() if settings.database_url else None
