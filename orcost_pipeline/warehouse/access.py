"""The warehouse of a project's settings, opened for a block: as it is, at one instant, or with all rights.

Raises PermanentError or TransientError, in words for people, where it cannot be opened.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from orcost_pipeline.errors import OrcostError, PermanentError
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.failures import database_errors
from orcost_pipeline.warehouse.home import require_home
from orcost_pipeline.warehouse.opening import NOTHING_YET, NoWarehouseError, open_database, open_existing


@contextmanager
def warehouse(
    settings: Settings, opened: Callable[[str | None, Path], sa.Engine] = open_existing
) -> Iterator[sa.Engine]:
    """The warehouse, for as long as the block lasts; by default as it is: nothing is made or migrated."""
    try:
        with database_errors():
            engine = _opened(settings, opened)
            try:
                yield engine
            finally:
                engine.dispose()
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise PermanentError(
            f"The database refused: {reason}. Check the rights of the user in ORCOST_DATABASE_URL."
        ) from None


def _opened(settings: Settings, opened: Callable[[str | None, Path], sa.Engine]) -> sa.Engine:
    with home_blamed(settings):
        if settings.database_url is None and not settings.home.is_dir():
            raise NoWarehouseError(NOTHING_YET)
        return opened(configured_url(settings), settings.home)


@contextmanager
def home_blamed(settings: Settings) -> Iterator[None]:
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


def configured_url(settings: Settings) -> str | None:
    """ORCOST_DATABASE_URL; None for the embedded server."""
    return settings.database_url.get_secret_value() if settings.database_url else None
