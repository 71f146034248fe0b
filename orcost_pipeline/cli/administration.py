"""Commands of `orcost accounts`, `db`, `alerts`, `dashboard`, `access`: the stored data, alerts and access rights."""

from pathlib import Path
from typing import Annotated

import typer

from orcost_pipeline.cli import options
from orcost_pipeline.cli.options import AccountName, Agreed, Login, TableOrJson, ToSql, group

database_group = group("The warehouse's Postgres.")
alerts_group = group("The alerts that are open, and who gets them.", is_command=True)
dashboard_group = group("The dashboard for Apache Superset.")
access_group = group("Logins that only read: everything, or single companies.")
accounts_group = group("The stored accounts: list, rename, forget, rebuild.", is_command=True)


@database_group.command("url")
def database_url() -> None:
    """Print the warehouse's URL, password included.

    As in: psql "$(orcost db url)"
    """
    from orcost_pipeline.cli import database as work

    work.url(options.settings())


@database_group.command("start")
def start_database() -> None:
    """Start the embedded Postgres and print its URL."""
    from orcost_pipeline.cli import database as work

    work.url(options.settings())


@database_group.command("migrate")
def migrate_database() -> None:
    """Bring the warehouse's schema to this program's version.

    orcost sync and orcost up do so too; commands that only read never do.
    """
    from orcost_pipeline.cli import database as work

    work.migrate(options.settings())


@database_group.command("clean")
def clean_database(context: typer.Context) -> None:
    """Delete data older than the [retention] settings in orcost.toml.

    orcost up does so once an hour. Costs are kept for good.
    """
    from orcost_pipeline.cli import database as work

    work.clean(options.settings(), options.now(context))


@database_group.command("stop")
def stop_database() -> None:
    """Stop the embedded Postgres."""
    from orcost_pipeline.cli import database as work

    work.stop(options.settings())


@database_group.command("backup")
def back_up_database(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Output file, written atomically.")],
) -> None:
    """Write the warehouse to a file, by pg_dump. Syncs and reports may run meanwhile."""
    from orcost_pipeline.cli import database as work

    work.backup(options.settings(), file)


@database_group.command("restore")
def restore_database(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What orcost db backup wrote.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a warehouse that has accounts; without it, that is refused.")
    ] = False,
) -> None:
    """Replace the warehouse with a backup, in one transaction.

    Refused while orcost up serves the database or a sync runs.
    """
    from orcost_pipeline.cli import database as work

    work.restore(options.settings(), file, is_replacing=replace)


@accounts_group.callback()
def show_accounts(
    context: typer.Context,
    output: Annotated[TableOrJson, typer.Option("--format", help="json is exact.")] = TableOrJson.TABLE,
) -> None:
    """List the stored and configured accounts: kind, keys, known days, USD.

    The commands below act on one account as a whole.
    """
    from orcost_pipeline.cli import accounts as work

    if context.invoked_subcommand is None:
        work.show_accounts(options.settings(), output.value, options.now(context))


@accounts_group.command("rename")
def rename_account(
    old: Annotated[str, typer.Argument(help="Current stored name.")],
    new: Annotated[str, typer.Argument(help="New name.")],
) -> None:
    """Rename an account and all its stored data.

    Prints what to change in orcost.toml and in the mapping.
    """
    from orcost_pipeline.cli import accounts as work

    work.rename(options.settings(), old, new)


@accounts_group.command("forget")
def forget_account(name: AccountName, yes: Agreed = False) -> None:
    """Delete an account and all its stored data."""
    from orcost_pipeline.cli import accounts as work

    work.forget(options.settings(), name, is_agreed=yes)


@accounts_group.command("confirm")
def confirm_account(context: typer.Context, name: AccountName) -> None:
    """Confirm that the current key belongs to the stored account.

    The next sync then accepts the key that was refused as another account's.
    """
    from orcost_pipeline.cli import accounts as work

    work.confirm(options.settings(), name, options.now(context))


@accounts_group.command("rebuild")
def rebuild_account(context: typer.Context, name: AccountName, yes: Agreed = False) -> None:
    """Read again everything that OpenRouter still reports.

    Replaces the stored data of that period and keeps older data. Use it after a sync with another account's key.
    """
    from orcost_pipeline.cli import accounts as work

    raise typer.Exit(work.rebuild(options.settings(), name, options.now(context), is_agreed=yes))


@alerts_group.callback()
def show_alerts(
    context: typer.Context,
    history: Annotated[bool, typer.Option("--history", help="Resolved alerts too.")] = False,
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """The alerts that are open, newest first, and whether they were sent.

    They go to the services in ORCOST_ALERT_URLS while orcost up runs.
    """
    from orcost_pipeline.cli import alerts as work

    if context.invoked_subcommand is None:
        work.alerts(options.settings(), output.value, options.now(context), has_history=history)


@alerts_group.command("test")
def test_alerts() -> None:
    """Send a test message to every service in ORCOST_ALERT_URLS.

    Exits 1 where one of them does not take it.
    """
    from orcost_pipeline.cli import alerts as work

    raise typer.Exit(work.send_test(options.settings()))


@dashboard_group.command("pack")
def pack_dashboard(
    database_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="What Superset connects to; default: the warehouse's URL."),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="Output file, written atomically.")] = Path(
        "orcost_superset.zip"
    ),
    with_password: Annotated[
        bool, typer.Option("--with-password", help="Keep the URL's password, for Superset's own command line.")
    ] = False,
) -> None:
    """Write the zip that Superset imports: the dashboard and its connection.

    The URL's password is left out; Superset asks for it on import.
    """
    from orcost_pipeline.cli import dashboard as work

    work.pack(options.settings(), database_url, output, with_password=with_password)


@access_group.command("reader")
def make_reader(
    login: Login,
    may_sync: Annotated[bool, typer.Option("--may-sync", help="It may also request syncs (Sync Now).")] = False,
    to_sql: ToSql = False,
) -> None:
    """Let a login read everything but raw answers.

    A login that is missing is made; its password is printed once.
    """
    from orcost_pipeline.cli import access as work

    work.reader(options.settings(), login, may_sync=may_sync, is_printed=to_sql)


@access_group.command("viewer")
def make_viewer(
    login: Login,
    company: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="A company that it sees. May be repeated; replaces those of before."),
    ],
    to_sql: ToSql = False,
) -> None:
    """Let a login see the costs of single companies, in the schema viewer.

    A login that is missing is made; its password is printed once.
    """
    from orcost_pipeline.cli import access as work

    work.viewer(options.settings(), login, company, is_printed=to_sql)


@access_group.command("list")
def list_logins(
    output: Annotated[TableOrJson, typer.Option("--format", help="What to print.")] = TableOrJson.TABLE,
) -> None:
    """The logins with such rights, and which companies they see."""
    from orcost_pipeline.cli import access as work

    work.show_logins(options.settings(), output.value)


@access_group.command("revoke")
def revoke_login(login: Login, to_sql: ToSql = False) -> None:
    """Take a login's rights away and end its sessions.

    A login that orcost made is dropped.
    """
    from orcost_pipeline.cli import access as work

    work.revoke(options.settings(), login, is_printed=to_sql)
