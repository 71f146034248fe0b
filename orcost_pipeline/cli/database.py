"""`orcost db`: starts, stops, migrates and cleans the warehouse's database, and prints its URL."""

from datetime import datetime

import typer

from orcost_pipeline.cli.rendering import say
from orcost_pipeline.errors import PermanentError, TransientError
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.access import configured_url, home_blamed, warehouse
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, EmbeddedPostgresError
from orcost_pipeline.warehouse.opening import (
    SCHEMA_VERSION,
    database_url,
    open_database,
    open_warehouse,
    stored_version,
)
from orcost_pipeline.warehouse.retention.purge import purge


def url(settings: Settings) -> None:
    """Prints the warehouse's URL including the password, for psql or a BI tool; may start the embedded server."""
    with home_blamed(settings):
        typer.echo(database_url(configured_url(settings), settings.home))


def migrate(settings: Settings) -> None:
    """Brings the warehouse's schema to this program's version, as a sync does; readers never do."""
    with warehouse(settings, open_database) as engine:
        before = stored_version(engine)
    with warehouse(settings, open_warehouse):
        pass
    done = "is the newest" if before == SCHEMA_VERSION else f"was {before or 'not there'}, and is the newest now"
    typer.echo(f"The warehouse's schema ({SCHEMA_VERSION}) {done}.")


def clean(settings: Settings, now: datetime) -> None:
    """Removes what is older at `now` than `[retention]` keeps it, and prints how much that was."""
    with warehouse(settings) as engine:
        typer.echo(str(purge(engine, settings.retention, now, lambda: False)))


def stop(settings: Settings) -> None:
    """Stops the embedded server and ends its sessions.

    Raises PermanentError for a database of ORCOST_DATABASE_URL, TransientError where the server cannot be stopped.
    """
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
