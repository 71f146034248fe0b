"""`orcost dashboard`: packs the dashboard for a BI tool, with the connection that the tool is to use."""

from pathlib import Path

import typer

from orcost_pipeline.cli.files import writing
from orcost_pipeline.cli.rendering import say
from orcost_pipeline.dashboards.superset_bundle import MASKED_PASSWORD, write_bundle
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.access import configured_url, home_blamed
from orcost_pipeline.warehouse.database import warehouse_url
from orcost_pipeline.warehouse.opening import database_url


def pack(settings: Settings, url: str | None, file: Path, *, with_password: bool) -> None:
    """Writes the zip that Superset imports; an older file is replaced at the end.

    `url` is what Superset connects to, by default the warehouse's. Its password is left out, so that Superset asks for
    it on import, unless `with_password`; then only this user can read the file. Raises PermanentError for a URL that is
    none, and where the file cannot be written.
    """
    with home_blamed(settings):
        given = warehouse_url(url or database_url(configured_url(settings), settings.home), "The database URL")
    # Superset's SQLAlchemy takes psycopg 2 for it; psycopg 3 need not be there.
    uri = given.set(drivername="postgresql")
    has_password = uri.password is not None
    if has_password and not with_password:
        uri = uri.set(password=MASKED_PASSWORD)
    with writing(file) as made:
        write_bundle(made, uri.render_as_string(hide_password=False))
        if has_password and with_password:
            made.chmod(0o600)
    typer.echo(f"Packed into {file}: the dashboard, and a connection as {uri.username or 'the default user'}.")
    if has_password:
        say(
            "The file contains the password: delete it after the import."
            if with_password
            else "The password is left out: Superset asks for it on import.",
            is_error=True,
        )
    if url is None:
        say(
            "This is the user of the syncs, who may write. Give Superset a reader of its own: "
            "orcost dashboard pack --database-url postgresql://reader@host/database",
            is_error=True,
        )
