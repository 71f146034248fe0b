"""`orcost access`: gives logins of the database the right to read, lists them, and takes it away.

stdout has what programs read: the password of a new login, the statements of `--sql`, the list. The rest is on stderr.
"""

from collections.abc import Sequence

import sqlalchemy as sa
import typer

from orcost_pipeline.cli.rendering import as_json, cells, say, show, table
from orcost_pipeline.companies.names import require_known
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import listed, plural, quoted
from orcost_pipeline.warehouse.access import warehouse
from orcost_pipeline.warehouse.logins.granting import execute, reader_script, revocation_script, viewer_script
from orcost_pipeline.warehouse.logins.script import Script
from orcost_pipeline.warehouse.opening import open_existing, open_warehouse
from orcost_pipeline.warehouse.questions.explanation import company_names
from orcost_pipeline.warehouse.questions.rights import Login, listed_logins, open_sessions
from orcost_pipeline.warehouse.questions.spend import UNATTRIBUTED

COLUMNS = ("Login", "Kind", "Companies")
EVERYTHING = "all"


def reader(settings: Settings, login: str, *, may_sync: bool, is_printed: bool) -> None:
    """Makes a login a reader; with `is_printed`, prints the statements instead."""
    with warehouse(settings, open_existing if is_printed else open_warehouse) as engine, engine.connect() as connection:
        script = reader_script(connection, login, may_sync=may_sync)
        syncs = ", and requests syncs" if may_sync else ""
        _give(
            connection, script, f"{quoted(login)} reads ref, core.spend_*, marts and ops{syncs}.", is_printed=is_printed
        )


def viewer(settings: Settings, login: str, companies: Sequence[str], *, is_printed: bool) -> None:
    """Makes a login a viewer of these companies alone; with `is_printed`, prints the statements instead.

    Raises PermanentError for an unknown company.
    """
    with warehouse(settings, open_existing if is_printed else open_warehouse) as engine, engine.connect() as connection:
        for company in companies:
            if company == UNATTRIBUTED:
                raise PermanentError(f"{UNATTRIBUTED} spend is of no company: no viewer sees it.")
            require_known(company, company_names(connection))
        script = viewer_script(connection, login, companies)
        seen = listed(sorted(set(companies)))
        _give(connection, script, f"{quoted(login)} sees {seen} in the schema viewer.", is_printed=is_printed)


def _give(connection: sa.Connection, script: Script, done: str, *, is_printed: bool) -> None:
    if is_printed:
        typer.echo(script)
        if script.password:
            say(f"The password of {quoted(script.login)}, shown once: {script.password}", is_error=True)
        return
    open_to_all = execute(connection, script)
    say(done, is_error=True)
    if script.password:
        say(f"The password of {quoted(script.login)}, shown once:", is_error=True)
        typer.echo(script.password)
    if open_to_all:
        told = "; ".join(f"{it.statement}" for it in open_to_all)
        say(
            f"It can do more than read, as everybody in this database. An administrator ends that by: {told}",
            is_error=True,
        )


def show_logins(settings: Settings, output: str) -> None:
    """Prints every login with rights, as `table` or `json`."""
    with warehouse(settings) as engine, engine.connect() as connection:
        logins = listed_logins(connection)
    if output == "json":
        typer.echo(as_json([{"login": it.login, "kind": it.kind, "companies": it.companies} for it in logins]))
    elif logins:
        drawn = table(*COLUMNS)
        for it in logins:
            drawn.add_row(*cells(it.login, _kind(it), EVERYTHING if it.kind == "reader" else ", ".join(it.companies)))
        show(drawn)
    else:
        say("Nobody has such rights. To give some: orcost access reader LOGIN, orcost access viewer LOGIN --company X")


def _kind(login: Login) -> str:
    return f"{login.kind}, may sync" if login.may_sync else login.kind


def revoke(settings: Settings, login: str, *, is_printed: bool) -> None:
    """Takes a login's rights away, ends its sessions, and drops it where orcost made it; or prints the statements."""
    with warehouse(settings, open_existing if is_printed else open_warehouse) as engine, engine.connect() as connection:
        script = revocation_script(connection, login)
        if is_printed:
            typer.echo(script)
            return
        execute(connection, script)
        left = open_sessions(connection, login)
    say(f"{quoted(login)} has no rights any more.")
    if left:
        say(
            f"{plural(left, 'session')} of it could not be ended: an administrator can. They can read nothing.",
            is_error=True,
        )
