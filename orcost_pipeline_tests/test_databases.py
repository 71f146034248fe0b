"""Databases as companies have them: shared with others, with roles set up otherwise, behind a pooler, or elder."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from orcost_pipeline.deployment.dagster_home import storage_url
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.simulator import Simulator, serve, small
from orcost_pipeline.warehouse import embedded, runs
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.opening import SCHEMA_VERSION, open_existing, open_warehouse
from orcost_pipeline.warehouse.questions.health import server_state
from orcost_pipeline.warehouse.questions.syncs import locked_accounts
from orcost_pipeline.warehouse.schema.namespaces import SCHEMAS, schema_version
from orcost_pipeline_tests.processes import Site, eventually, free_port, orcost
from orcost_pipeline_tests.test_readme import blocks, section
from orcost_pipeline_tests.test_warehouse import opened, query
from orcost_pipeline_tests.world import NOON, World

# ── schemas that are there already ───────────────────────────────────────────────────────────────────────────────────


def script(url: str, *statements: str) -> None:
    """Runs statements as the owner of the server."""
    with opened(url) as engine, engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (["create schema raw", "create table raw.orders (id int)", "create schema marts"], "raw"),
        (["create schema ops", "create function ops.f() returns int language sql return 1"], "ops"),
        (
            [
                "create schema core",
                "create schema ref",
                "create type core.t as enum ()",
                "create view ref.v as select 1",
            ],
            "core, ref",
        ),
        (["create schema ops", "create table ops.schema_version (version_num text)"], "ops"),
        (["create schema ops", "create table ops.schema_version (id int)"], "ops"),
        (["create schema ref", "create table ref.account (account_id int)"], "ref"),
        (["create schema dagster", "create table dagster.runs (id int)"], "dagster"),
    ],
)
def test_a_schema_of_somebody_else_is_refused_by_name_before_anything_is_made(
    empty_url: str, tmp_path: Any, statements: list[str], named: str
) -> None:
    script(empty_url, *statements)
    with opened(empty_url) as engine:
        before = query(engine, "select oid from pg_class union all select oid from pg_namespace order by 1")
        for open_it in (open_warehouse, open_existing):
            with pytest.raises(PermanentError) as caught:
                open_it(empty_url, tmp_path)
            told = str(caught.value)
            assert f" has schemas of orcost's names that are not orcost's: {named}.\n" in told
            assert "create database orcost" in told
        assert query(engine, "select oid from pg_class union all select oid from pg_namespace order by 1") == before


@pytest.mark.slow
def test_empty_schemas_of_our_names_are_used_without_the_right_to_make_any(empty_url: str, tmp_path: Any) -> None:
    role = f"r_{uuid.uuid4().hex}"
    owned = [f"create schema {name} authorization {role}" for name in SCHEMAS]
    defaults = f"alter default privileges for role {role} in schema marts grant select on tables to public"
    script(empty_url, f"create role {role} login password 'x'", *owned, defaults)
    url = sa.make_url(empty_url).set(username=role, password="x").render_as_string(hide_password=False)
    try:
        open_warehouse(url, tmp_path).dispose()
        with opened(url) as engine, engine.connect() as connection:
            assert schema_version(connection) == SCHEMA_VERSION
            assert server_state(connection).may_create
    finally:
        script(empty_url, f"drop owned by {role} cascade", f"drop role {role}")


@pytest.mark.slow
def test_schemas_that_are_another_users_keep_their_comments(empty_url: str, tmp_path: Any) -> None:
    role = f"r_{uuid.uuid4().hex}"
    made = [f"create schema {name}; grant all on schema {name} to {role}" for name in SCHEMAS]
    script(empty_url, f"create role {role} login password 'x'", *made, "comment on schema marts is 'Theirs.'")
    url = sa.make_url(empty_url).set(username=role, password="x").render_as_string(hide_password=False)
    try:
        open_warehouse(url, tmp_path).dispose()
        with opened(empty_url) as engine:
            comment = "select obj_description('marts'::regnamespace, 'pg_namespace')"
            assert query(engine, comment) == [("Theirs.",)]
    finally:
        script(empty_url, f"drop owned by {role} cascade", f"drop role {role}")


def test_an_empty_schema_that_this_user_may_not_use_is_refused(empty_url: str, tmp_path: Any) -> None:
    role, database = f"r_{uuid.uuid4().hex}", sa.make_url(empty_url).database
    script(
        empty_url,
        f"create role {role} login password 'x'",
        f"grant create on database {database} to {role}",
        "create schema raw",
    )
    url = sa.make_url(empty_url).set(username=role, password="x").render_as_string(hide_password=False)
    try:
        with pytest.raises(PermanentError, match="that are not orcost's: raw"):
            open_warehouse(url, tmp_path)
    finally:
        script(empty_url, f"drop owned by {role}", f"drop role {role}")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_name_is_refused(postgres_url: str, tmp_path: Any, encoding: str) -> None:
    name = f"e_{uuid.uuid4().hex}"
    locale = "locale_provider libc locale 'C'"
    with psycopg.connect(sa.make_url(postgres_url).render_as_string(hide_password=False), autocommit=True) as admin:
        admin.execute(f"create database {name} template template0 encoding '{encoding}' {locale}".encode())
        try:
            url = sa.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
            with pytest.raises(PermanentError, match=f'^The encoding of database "{name}" is {encoding}: it cannot'):
                open_warehouse(url, tmp_path)
            with opened(url) as engine:
                assert query(engine, "select to_regnamespace('ops')::text") == [(None,)]
        finally:
            admin.execute(f"drop database {name} with (force)".encode())


# ── the same figures everywhere ──────────────────────────────────────────────────────────────────────────────────────

NAME = "Zażółć 東京 🗼"  # none of it is in LATIN1
UNUSUAL = (
    "datestyle = 'German'",
    "client_encoding = 'LATIN1'",
    "timezone = 'Asia/Kolkata'",
    "default_transaction_isolation = 'serializable'",
    "search_path = 'nowhere'",
    "intervalstyle = 'sql_standard'",
    "standard_conforming_strings = off",
    "idle_in_transaction_session_timeout = '2s'",
    "bytea_output = 'escape'",
    "log_statement = 'all'",
)


@contextmanager
def role_of(admin_url: str, *settings: str) -> Iterator[str]:
    """The URL of a user with such settings, no superuser, who owns the database."""
    role, database = f"r_{uuid.uuid4().hex}", sa.make_url(admin_url).database
    script(
        admin_url,
        f"create role {role} login password 'x'",
        f"alter database {database} owner to {role}",
        *(f"alter role {role} set {setting}" for setting in settings),
    )
    try:
        yield sa.make_url(admin_url).set(username=role, password="x").render_as_string(hide_password=False)
    finally:
        script(admin_url, f"reassign owned by {role} to orcost", f"drop owned by {role} cascade", f"drop role {role}")


@contextmanager
def site_at(folder: Path, url: str, admin_url: str) -> Iterator[Site]:
    """An account, and a database reached by `url`; the figures are looked at by another user, on another way."""
    ledger = small(datetime.now(UTC))
    simulator = Simulator(ledger)
    first = next(iter(ledger.accounts["acme"].keys))
    ledger.rename("acme", first, NAME, datetime.now(UTC) - timedelta(minutes=2))
    with serve(simulator) as base_url:
        made = Site(folder, url, connect(admin_url), ledger, simulator, base_url)
        made.configure()
        (folder / "company_mapping.csv").write_text(
            f"company,match,pattern\n{NAME} GmbH,key_name,{NAME}\nB,key_name,*\n"
        )
        try:
            yield made
        finally:
            made.close()


def assert_serves(site: Site) -> None:
    """Two syncs are exact, commands say what they say to anybody else, and nothing is left behind."""
    for _ in range(2):
        command = site.sync()
        assert command.code == 0, command.told
        site.assert_is_exact()
    assert site.rows("select status, error from ops.sync_run") == [("succeeded", None)] * 2
    report = ("report", "--period", "30d", "--by", "key", "--format", "json")
    told = orcost(site.folder, site.environment, *report)
    direct = site.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout == orcost(site.folder, {**site.environment, "ORCOST_DATABASE_URL": direct}, *report).stdout
    assert NAME in {row["key_name"] for row in json.loads(told.stdout)}
    said = orcost(site.folder, site.environment, "doctor", "--port", str(free_port()), "--format", "json")
    assert json.loads(said.stdout)["findings"] == []
    assert not site.rows("select * from pg_locks where locktype = 'advisory' and pid <> pg_backend_pid()")
    runs, is_utc = site.rows(
        "select count(*), bool_and(now() at time zone 'UTC' - create_timestamp < '1h') from dagster.runs"
    )[0]
    assert (runs, is_utc) == (2, True)
    assert not site.rows("select relname from pg_class where relnamespace = 'public'::regnamespace")


@pytest.mark.slow
def test_settings_of_a_role_change_no_figure_and_no_secret_is_in_what_the_server_logs(
    empty_url: str, tmp_path: Path
) -> None:
    with role_of(empty_url, *UNUSUAL) as url, site_at(tmp_path, url, empty_url) as site:
        assert_serves(site)
        logged = (Path(site.value("show data_directory")).parent / "server.log").read_text(encoding="utf-8")
        assert "insert into ref.mapping_version" in logged
        assert site.ledger.accounts["acme"].management_key not in logged


SETTINGS = (
    "select current_setting('client_encoding'), current_setting('datestyle'), current_setting('intervalstyle'), "
    "current_setting('timezone'), current_setting('standard_conforming_strings'), current_setting('search_path'), "
    "current_setting('transaction_isolation')"
)


def test_settings_of_a_role_are_none_of_our_statements(empty_url: str) -> None:
    said = ("UTF8", "ISO, MDY", "postgres", "UTC", "on")
    with role_of(empty_url, *UNUSUAL) as url:
        with opened(url) as engine:
            assert query(engine, SETTINGS) == [(*said, '""', "read committed")]
        storage = sa.create_engine(storage_url(url), isolation_level="AUTOCOMMIT")
        with storage.connect() as connection:
            # How strings escape is left to the role: psycopg2 quotes by what the session began with.
            expected = [(*said[:-1], "off", "dagster", "read committed")]
            assert connection.execute(sa.text(SETTINGS)).all() == expected
        storage.dispose()


@contextmanager
def pooled(url: str) -> Iterator[str]:
    """The same database behind PgBouncer in transaction mode, which has fewer sessions than clients."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    server = sa.make_url(url)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="orcost-pooler-") as folder:
        Path(folder).chmod(0o755)
        configuration = Path(folder, "pgbouncer.ini")
        configuration.write_text(
            f"[databases]\n{server.database} = host={server.host} port={server.port} user={server.username} "
            f"password={server.password}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 4\nserver_round_robin = 1\n"
        )
        account = ["-u", "nobody"] if os.geteuid() == 0 else []
        process = subprocess.Popen([program, "-q", *account, str(configuration)])
        try:
            assert eventually(lambda: listens(port), 10)
            yield server.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        finally:
            process.terminate()
            process.wait(10)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), UNUSUAL], ids=["plain", "unusual"])
def test_a_pooler_in_transaction_mode_changes_no_figure(
    empty_url: str, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    with role_of(empty_url, *settings) as of_role, pooled(of_role) as url, site_at(tmp_path, url, empty_url) as site:
        assert_serves(site)


def assert_locks(url: str, seconds: float) -> None:
    """The lock of a sync is held for so long, by one session, whatever else is asked, and then by nobody."""
    with opened(url) as engine:
        holder = "select pid from pg_locks where locktype = 'advisory' and classid = 7303"
        with runs.sync_lock(engine, "acme"):
            held_by, until = query(engine, holder), time.monotonic() + seconds
            assert len(held_by) == 1
            while time.monotonic() < until:
                assert locked_accounts(engine, ["acme", "globex"]) == {"acme"}
                assert query(engine, holder) == held_by
            told = threading.Event()
            waiting = threading.Thread(target=take_and_release, args=(engine, told.set))
            waiting.start()
            assert told.wait(5)
            assert waiting.is_alive()
        waiting.join(5)
        assert not waiting.is_alive()
        assert not locked_accounts(engine, ["acme"])


def take_and_release(engine: sa.Engine, waiting: Callable[[], None]) -> None:
    with runs.sync_lock(engine, "acme", waiting):
        pass


@pytest.mark.slow
def test_a_lock_outlasts_what_a_role_allows_idle_transactions(empty_url: str) -> None:
    with role_of(empty_url, "idle_in_transaction_session_timeout = '300ms'") as url, opened(empty_url) as engine:
        if query(engine, "select from pg_settings where name = 'transaction_timeout'"):
            script(empty_url, f"alter role {sa.make_url(url).username} set transaction_timeout = '1s'")
        assert_locks(url, 3)


@pytest.mark.slow
def test_a_lock_holds_through_a_pooler(empty_url: str) -> None:
    with pooled(empty_url) as url:
        assert_locks(url, 3)


@pytest.mark.slow
@pytest.mark.parametrize("major", [15])
def test_an_older_postgres_gives_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, major: int) -> None:
    programs = [it for it in embedded.Programs.installed() if it.major == major]
    if not programs:
        pytest.skip(f"Postgres {major} is not installed")
    monkeypatch.setattr(embedded.Programs, "installed", lambda: iter(programs))
    home = Path(tempfile.mkdtemp(prefix="orcost-older-"))
    home.chmod(0o755)
    postgres = embedded.EmbeddedPostgres(home)
    try:
        url = postgres.start()
        with opened(url) as engine:
            assert query(engine, "show server_version")[0][0].startswith(f"{major}.")
        with role_of(url, *UNUSUAL) as of_role, site_at(tmp_path, of_role, url) as site:
            assert_serves(site)
    finally:
        postgres.stop()
        shutil.rmtree(home)


# ── who only reads ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def reader_url(database_url: str) -> Iterator[str]:
    """A user with the rights that the documentation grants, where nobody has any by default."""
    role = f"reader_{uuid.uuid4().hex}"
    (grants,) = blocks("sql", section("access", "Read with the command line"))
    statements = grants.replace("reader", role)
    script(database_url, "revoke execute on all functions in schema core, marts, ops from public", statements)
    try:
        yield (
            sa.make_url(database_url).set(username=role, password="a long one").render_as_string(hide_password=False)
        )
    finally:
        script(database_url, f"drop owned by {role}", f"drop role {role}")


@pytest.mark.slow
def test_a_reader_reads_and_asks_for_a_sync_with_what_the_documentation_grants(
    database_url: str, reader_url: str, tmp_path: Path
) -> None:
    with opened(database_url) as engine:
        World(engine, small(NOON), NOON).sync()
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "create table marts.later (x int); create view marts.view_of_later as select * from marts.later"
            )
    environment = {"ORCOST_DATABASE_URL": reader_url}
    for command in ("report", "status", "keys", "reconcile", "map todo", "resync"):
        done = orcost(tmp_path, environment, *command.split())
        # What was synced days ago is stale, which status says by its exit code.
        assert done.returncode == (command == "status"), f"{command}: {done.stderr}"
        assert done.stdout
    said = json.loads(orcost(tmp_path, environment, "doctor", "--format", "json", "--port", str(free_port())).stdout)
    assert "database_rights" not in {finding["code"] for finding in said["findings"]}
    with opened(reader_url) as engine:
        between = "select * from marts.company_spend_between('2026-11-01 00:00Z', '2026-11-23 12:00Z')"
        assert query(engine, between)
        assert query(engine, "select count(*) from marts.view_of_later") == [(0,)]
        assert query(engine, "select status from ops.sync_request") == [("queued",)]
        for forbidden in ("select from raw.api_key", "update ref.account set status = 'ok'", "create table marts.x ()"):
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                query(engine, forbidden)
