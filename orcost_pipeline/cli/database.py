"""`orcost db`: starts, stops, migrates, cleans, backs up and restores the warehouse's database, and prints its URL."""

from datetime import datetime
from pathlib import Path

import typer

from orcost_pipeline.cli.files import writing
from orcost_pipeline.cli.rendering import say
from orcost_pipeline.errors import PermanentError, TransientError
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import listed
from orcost_pipeline.warehouse.access import configured_url, home_blamed, warehouse
from orcost_pipeline.warehouse.backup import back_up
from orcost_pipeline.warehouse.backup import restore as restored_from
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, EmbeddedPostgresError
from orcost_pipeline.warehouse.home import require_home
from orcost_pipeline.warehouse.opening import (
    SCHEMA_VERSION,
    database_url,
    open_database,
    open_warehouse,
    stored_version,
)
from orcost_pipeline.warehouse.retention.purge import purge
from orcost_pipeline.warehouse.schema.namespaces import DAGSTER_SCHEMA, make_schemas


def url(settings: Settings) -> None:
    """Prints the warehouse's URL including the password, for psql or a BI tool; may start the embedded server."""
    with home_blamed(settings):
        typer.echo(database_url(configured_url(settings), settings.home))


def migrate(settings: Settings) -> None:
    """Brings the warehouse's schema to this program's version, as a sync does; readers never do.

    Makes the schema of Dagster's storage too, for a Dagster that is started without orcost.
    """
    with warehouse(settings, open_database) as engine:
        before = stored_version(engine)
    with warehouse(settings, open_warehouse) as engine, engine.begin() as connection:
        make_schemas(connection, [DAGSTER_SCHEMA])
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


def backup(settings: Settings, file: Path) -> None:
    """Writes a backup of the warehouse to a file that only this user can read; an older file is replaced at the end.

    Raises PermanentError where there is no warehouse, where the file cannot be written, or where no pg_dump fits the
    server; TransientError where it fails.
    """
    with warehouse(settings, open_database) as engine:
        with writing(file) as made:
            back_up(engine, made)
            made.chmod(0o600)
            size = made.stat().st_size
        typer.echo(f"Backed up to {file} ({size / 1_000_000:,.1f} MB).")


def restore(settings: Settings, file: Path, *, is_replacing: bool) -> None:
    """Replaces the warehouse with a backup, in one transaction; one with accounts only where `is_replacing` is set.

    Starts the embedded server, or makes it, where no URL is configured. Raises PermanentError where the file is no
    backup or the warehouse may not be replaced, TransientError where it fails; then nothing is changed.
    """
    if not file.is_file():
        raise PermanentError(f"There is no file {file}.")
    if settings.database_url is None:
        require_home(settings.home)
        settings.home.mkdir(parents=True, exist_ok=True)
    with warehouse(settings, lambda configured, home: connect(database_url(configured, home))) as engine:
        missing = restored_from(engine, file, is_replacing=is_replacing).missing_roles
        typer.echo(f"Restored from {file}. Next: orcost sync")
        if missing:
            say(f"Rights of roles that this server does not have were left out: {listed(missing)}.", is_error=True)
