"""Bad days of our side: killed processes, and a database in trouble. Real processes, a real Postgres to spoil.

After each of them a reader sees the old figures or the new ones, whole; and one more sync is exact.
"""

import os
import random
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import psycopg
import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from orcost_pipeline.companies.mapping import MappingError, read_mapping
from orcost_pipeline.defs.dead_runs import close_dead_runs
from orcost_pipeline.defs.resources import note_failure
from orcost_pipeline.deployment.dagster_home import STORAGE_URL, storage_url
from orcost_pipeline.errors import OrcostError, PermanentError, TransientError
from orcost_pipeline.simulator import Fault, Options, Simulator, serve, small
from orcost_pipeline.simulator.catalogue import GPT, MISTRAL
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.failures import DatabaseUnavailableError, LockedError, database_errors
from orcost_pipeline.warehouse.loading import copy_rows
from orcost_pipeline.warehouse.questions.syncs import locked_accounts
from orcost_pipeline_tests.dagster_deployment import READERS
from orcost_pipeline_tests.processes import Command, Site, away_from_the_hour, eventually
from orcost_pipeline_tests.world import DAY, usage

PRODUCTION = "company,match,pattern\nA,key_name,Company A\nB,key_name,Company B\n"
MINUTE = timedelta(minutes=1)


class Server(NamedTuple):
    """A Postgres of these tests' own, its database synced once: the template of every test's."""

    postgres: EmbeddedPostgres
    data: Path
    url: str
    now: datetime

    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        self.postgres.start()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    memory = Path("/dev/shm")
    root = memory if memory.is_dir() and shutil.disk_usage(memory).free > 2_000_000_000 else None
    home = Path(tempfile.mkdtemp(prefix="orcost-survival-", dir=root))
    home.chmod(0o755)
    postgres = EmbeddedPostgres(home)
    try:
        url = postgres.start()
        with psycopg.connect(url, autocommit=True) as session:
            row = session.execute("show data_directory").fetchone()
            assert row
            data = Path(row[0])
            # Dagster opens a session for each event: a password each time would be half of a sync's time.
            access = data / "pg_hba.conf"
            access.write_text(access.read_text().replace("scram-sha-256", "trust"))
            session.execute("select pg_reload_conf()")
        made = Server(postgres, data, url, datetime.now(UTC))
        with site_of(made, tmp_path_factory.mktemp("template"), url) as first:
            command = first.sync()
            assert command.code == 0, command.told
        yield made
    finally:
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def site_of(server: Server, folder: Path, url: str) -> Iterator[Site]:
    ledger = small(server.now)
    simulator = Simulator(ledger)
    with serve(simulator) as base_url:
        made = Site(folder, url, connect(url), ledger, simulator, base_url)
        made.configure()
        (folder / "company_mapping.csv").write_text(PRODUCTION, encoding="utf-8")
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def site(server: Server, tmp_path: Path) -> Iterator[Site]:
    """An account `acme`, synced once."""
    server.start()
    name = f"t_{tmp_path.name.replace('-', '_')[-20:].lower()}_{random.randrange(10**9)}"
    with psycopg.connect(server.url, autocommit=True, dbname="postgres") as admin:
        admin.execute(f'create database "{name}" template orcost'.encode())
        # Without it, a crash would set the sequences of the copy back: Postgres logs them 32 numbers ahead.
        admin.execute("checkpoint")
    url = sa.make_url(server.url).set(database=name).render_as_string(hide_password=False)
    with site_of(server, tmp_path, url) as made:
        yield made
    server.start()
    with psycopg.connect(server.url, autocommit=True, dbname="postgres") as admin:
        admin.execute(f'drop database "{name}" with (force)'.encode())


def figures(site: Site) -> dict[str, Any]:
    """All that readers see, but for the instant."""
    seen = {name: site.rows(f"select (to_jsonb(t) - 'as_of')::text from {name} t order by 1") for name in READERS}
    return {**seen, "account": site.rows("select account, credits_used_usd from ref.account order by 1")}


def move(site: Site, number: int = 0) -> None:
    """Something of everything that a sync can meet: spend, a rename, a new key, a restated day."""
    account, now = "acme", datetime.now(UTC) - 2 * MINUTE
    first, second, *_ = site.ledger.accounts[account].keys
    site.ledger.spend(account, now, first, GPT, usage(f"{number}.000000001"))
    site.ledger.spend(account, now - 2 * DAY, second, MISTRAL, usage(f"0.{number + 1:03}"))
    site.ledger.rename(account, second, f"Company B {number}", now)
    new = site.ledger.add_key(account, "Company A", now - MINUTE)
    site.ledger.spend(account, now, new, GPT, usage("1.25"))


def last_run(site: Site) -> Any:
    return site.rows("select status, error, as_of from ops.sync_run order by started_at desc limit 1")[0]


def assert_all_is_well(site: Site, command: Command) -> None:
    """A sync after the trouble: whole, exact, and nobody else is left."""
    assert command.code == 0, command.told
    site.assert_is_exact()
    assert last_run(site)[:2] == ("succeeded", None)
    assert site.rows("select * from ops.sync_run where status = 'running'") == []
    assert site.rows("select status, error from ref.account") == [("ok", None)]
    assert not locked_accounts(site.engine, ["acme"])


# ── killed processes ─────────────────────────────────────────────────────────────────────────────────────────────────

PLACES = (
    "asking",
    "raw.usage_hourly",
    "publication",
    "core.usage_hourly",
    "core.company_rolling",
    "committing",
    "beginning",
    "raw.api_key",
    "core.api_key_version",
    "core.usage_daily",
    "core.assignment",
    "core.key_rolling",
    "raw.extracted",
    "anywhere",
)
SLOW = [pytest.param(number, marks=pytest.mark.slow) for number in range(6, 50)]


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow), *SLOW])
def test_a_killed_sync_leaves_the_old_figures_or_the_new_ones_and_the_next_is_exact(site: Site, number: int) -> None:
    away_from_the_hour()
    old, as_of = figures(site), site.value("select as_of from ref.account")
    move(site, number)
    kill_somewhere(site, PLACES[number % len(PLACES)], random.Random(number), goes_on=number >= len(PLACES))
    assert eventually(site.is_silent)
    seen, is_published = figures(site), site.value("select as_of from ref.account") != as_of
    assert (seen == old) is not is_published
    killed = site.rows("select run_id from ops.sync_run where status = 'running'")
    assert not (killed and is_published)
    assert_all_is_well(site, site.sync())
    if is_published:
        assert figures(site) == seen
    abandoned = site.rows("select run_id, error from ops.sync_run where status = 'abandoned'")
    assert abandoned == [(run_id, runs.DIED) for (run_id,) in killed]


def kill_somewhere(site: Site, place: str, chance: random.Random, *, goes_on: bool) -> None:
    """Starts a sync and kills it: where it stands at `place`, or some moments after it went on from there."""
    if place in ("asking", "beginning", "anywhere"):
        site.simulator.options = Options(latency_seconds=0.05)
        command = site.start("sync")
        if place == "asking":
            asked = chance.randrange(1, 10)
            assert eventually(lambda: site.simulator.count > asked or command.code is not None)
        time.sleep(chance.uniform(0, {"asking": 0.1, "beginning": 0.7, "anywhere": 5}[place]))
        command.kill()
        site.simulator.options = Options()
        return
    with site.gate("core.company_rolling" if place == "committing" else place) as let_pass:
        command = site.start("sync")
        assert eventually(lambda: site.is_blocked() or command.code is not None)
        assert command.code is None, command.told
        if goes_on or place == "committing":
            let_pass()
            time.sleep(chance.uniform(0, 0.1))
        command.kill()


@pytest.fixture
def instance(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster as the site's commands know it."""
    monkeypatch.setenv(STORAGE_URL, storage_url(site.url))
    home = site.folder / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: {{env: {STORAGE_URL}}}}}}}\n")
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


def statuses(instance: dg.DagsterInstance) -> list[tuple[str, str]]:
    """Account and status of every run after the first, oldest first."""
    found = [(run.tags["dagster/partition"], run.status.value) for run in reversed(instance.get_runs())]
    return found[1:]


def two_accounts(site: Site) -> None:
    site.ledger.add_account("globex", credits_bought=Decimal(50))
    site.ledger.add_key("globex", "Company A", datetime.now(UTC) - DAY)
    site.configure()


@pytest.mark.slow
def test_dead_runs_are_closed_and_living_and_waiting_ones_are_not(site: Site, instance: dg.DagsterInstance) -> None:
    two_accounts(site)
    later = datetime.now(UTC) + 3 * MINUTE

    def short_look(_: float) -> None:
        time.sleep(1)

    def close() -> list[str]:
        close_dead_runs(instance, site.engine, later, short_look)
        return [status for _, status in statuses(instance)]

    with site.gate("raw.account"):
        living, other = site.start("sync", "--account", "acme"), site.start("sync", "--account", "globex")
        assert eventually(lambda: len(site.rows("select * from ops.sync_run where status = 'running'")) == 2)
        waiting = site.start("sync", "--account", "acme")
        assert eventually(lambda: statuses(instance).count(("acme", "STARTED")) == 2)
        assert close() == ["STARTED"] * 3
        other.kill()
        assert close_dead_runs(instance, site.engine, datetime.now(UTC), short_look) == [], "a run that began just now"
        closed = close_dead_runs(instance, site.engine, later, short_look)
        assert sorted(statuses(instance)) == [("acme", "STARTED"), ("acme", "STARTED"), ("globex", "FAILURE")]
        assert site.rows("select run_id, status, error from ops.sync_run where account = 'globex'") == [
            (closed[0], "abandoned", runs.DIED)
        ]
        living.kill()
        assert eventually(lambda: len(site.rows("select * from ops.sync_run where status = 'abandoned'")) == 2)
        assert close().count("STARTED") == 2, "the account's lock is held by the one that waited"
        waiting.kill()
        assert close() == ["FAILURE"] * 3
    assert not site.rows("select * from ops.sync_run where status = 'running'")


def test_a_lock_whose_session_is_lost_is_taken_again(engine: sa.Engine) -> None:
    with runs.sync_lock(engine, "acme"):
        cut = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = 7303"
        execute(engine, cut)
        assert eventually(lambda: not locked_accounts(engine, ["acme"]))
        assert eventually(lambda: locked_accounts(engine, ["acme"]) == {"acme"})
    assert not locked_accounts(engine, ["acme"])


def test_whoever_waits_for_a_lock_hears_of_any_failure(engine: sa.Engine) -> None:
    def waiting() -> None:
        raise RuntimeError("the log's disk is full")

    with (
        runs.sync_lock(engine, "acme"),
        pytest.raises(RuntimeError, match="disk is full"),
        runs.sync_lock(engine, "acme", waiting),
    ):
        pass


def test_whoever_locks_a_table_is_named_within_a_time_of_ours(engine: sa.Engine, database_url: str) -> None:
    assert value_in(engine, "show lock_timeout") == "30s"
    runs.start_run(engine, "run", "acme", None, datetime.now(UTC))
    with psycopg.connect(database_url, application_name="dbt") as other:
        other.execute("lock table core.usage_hourly in access exclusive mode")
        with pytest.raises(LockedError) as locked, database_errors():
            execute(engine, "set local lock_timeout to '300ms'", "select count(*) from core.usage_hourly")
        run = dg.DagsterRun(job_name="hourly_sync", run_id="run")
        told = note_failure(engine, run, "acme", locked.value, datetime.now(UTC))
        holder = f"Locked: core.usage_hourly by session {other.info.backend_pid} of user orcost (dbt) since 20"
    assert holder in told
    assert holder in value_in(engine, "select error from ref.account")


def value_in(engine: sa.Engine, statement: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(sa.text(statement)).scalar_one()


def test_a_lock_that_ends_with_its_database_ends_quietly(engine: sa.Engine, database_url: str) -> None:
    with runs.sync_lock(engine, "acme"):
        drop_database(database_url)


def drop_database(url: str) -> None:
    with psycopg.connect(sa.make_url(url).set(database="postgres").render_as_string(False), autocommit=True) as admin:
        admin.execute(f"drop database {sa.make_url(url).database} with (force)".encode())


# ── every failure of Postgres is a sentence ──────────────────────────────────────────────────────────────────────────


def execute(engine: sa.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def failure(url: str, *statements: str) -> OrcostError:
    """What a user is told where the last of these statements, or the connection, fails."""
    engine = connect(url)
    with pytest.raises(OrcostError) as caught, database_errors():
        execute(engine, *statements)
    engine.dispose()
    told = str(caught.value)
    assert "\n" not in told
    assert "[SQL" not in told
    assert str(sa.make_url(url).password) not in told
    return caught.value


def raising(state: str, message: str = "told") -> str:
    return f"do $$ begin raise exception '{message}' using errcode = '{state}'; end $$"


CHANGED_URLS = {
    "port": (9, DatabaseUnavailableError, "does not answer: .* Connection refused. Check ORCOST_DATABASE_URL and the"),
    "host": ("nowhere.invalid", DatabaseUnavailableError, "does not answer: .*nowhere.invalid.* Check ORCOST_DATABASE"),
    "password": ("wrong", PermanentError, 'refused the user: password authentication failed for user "orcost". Put'),
    "username": ("nobody", PermanentError, 'refused the user: password authentication failed for user "nobody". Put'),
    "database": ("none", PermanentError, 'is not there: database "none" does not exist. Create it, or name'),
}


@pytest.mark.parametrize("part", CHANGED_URLS)
def test_a_database_that_is_not_reached_is_told_by_what_is_wrong(database_url: str, part: str) -> None:
    value, kind, told = CHANGED_URLS[part]
    url = sa.make_url(database_url).set(**{part: value}).render_as_string(hide_password=False)
    error = failure(url)
    assert type(error) is kind
    assert re.match(f"The database {told}", str(error))


REFUSALS: dict[str, tuple[type[OrcostError], str, list[str]]] = {
    "terminated": (
        DatabaseUnavailableError,
        "The connection to the database was lost: terminating connection due to administrator command. Try again",
        ["select pg_terminate_backend(pg_backend_pid())"],
    ),
    "read-only": (
        PermanentError,
        "The database takes no writes: cannot execute CREATE TABLE in a read-only transaction. Name its primary",
        ["set transaction read only", "create table x ()"],
    ),
    "cancelled": (
        DatabaseUnavailableError,
        "The database cancelled a statement: canceling statement due to statement timeout. Raise statement_timeout",
        ["set statement_timeout = 10", "select pg_sleep(1)"],
    ),
    "permission": (
        PermanentError,
        "The database's user lacks a right: permission denied for schema ops. Grant it",
        ["set role pg_monitor", "create table ops.x ()"],
    ),
    "disk full": (PermanentError, "The database's disk is full: told. Make room", [raising("53100")]),
    "quota": (
        PermanentError,
        "The database's disk is full: could not extend file x: File too large. Make room",
        [raising("XX000", "could not extend file x: File too large")],
    ),
    "connections": (DatabaseUnavailableError, "The database has no connection to spare: told. End", [raising("53300")]),
    "lock timeout": (
        LockedError,
        "Another session of the database holds a lock: told",
        [raising("55P03")],
    ),
    "serialization": (DatabaseUnavailableError, "Another session of the database was in the way", [raising("40001")]),
    "deadlock": (DatabaseUnavailableError, "Another session of the database was in the way", [raising("40P01")]),
    "starting up": (DatabaseUnavailableError, "The database is not ready: told. Try again", [raising("57P03")]),
    "crash": (DatabaseUnavailableError, "The connection to the database was lost: told", [raising("57P02")]),
    "dropped": (PermanentError, "The database is not there: told. Create it", [raising("57P04")]),
    "broken": (TransientError, "The database failed: told. Mend what the server's log names", [raising("58030")]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_database_that_refuses_is_told_by_what_helps(database_url: str, name: str) -> None:
    kind, told, statements = REFUSALS[name]
    error = failure(database_url, *statements)
    assert type(error) is kind
    assert str(error).startswith(told)


@pytest.mark.parametrize("statement", ["select * from nowhere", "select 1/0", raising("23505", "connection is closed")])
def test_a_mistake_in_a_statement_or_in_a_row_is_no_failure_of_the_database(engine: sa.Engine, statement: str) -> None:
    with pytest.raises(DBAPIError), database_errors(), engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_a_connection_that_is_lost_while_rows_are_copied_is_told_so(engine: sa.Engine) -> None:
    with (
        pytest.raises(DatabaseUnavailableError, match=r"^The connection to the database was lost: "),
        database_errors(),
    ):
        copy_and_lose_the_connection(engine)


def copy_and_lose_the_connection(engine: sa.Engine) -> None:
    with engine.begin() as connection, engine.connect() as other:
        pid = connection.execute(sa.text("select pg_backend_pid()")).scalar_one()

        def rows() -> Iterator[tuple[int]]:
            yield (1,)
            other.execute(sa.text("select pg_terminate_backend(:pid)"), {"pid": pid})
            yield from ((number,) for number in range(1_000_000))

        connection.execute(sa.text("create temporary table copied (number integer)"))
        copy_rows(connection, "copied", ["number"], rows())


def test_what_another_library_met_in_the_database_is_told_too() -> None:
    """As Dagster's storage does it, with a driver of its own."""
    cause = OperationalError("select", {}, psycopg2.OperationalError("server closed the connection unexpectedly"))
    with pytest.raises(DatabaseUnavailableError, match=r"^The connection to the database was lost"), database_errors():
        raise RuntimeError("too many retries") from cause


# ── a database in trouble ────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def stopped(server: Server, site: Site) -> Iterator[None]:
    server.postgres.stop()
    # Nobody listens on the port, and no server of another test can take it meanwhile.
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", sa.make_url(server.url).port))
        yield
    server.start()


@contextmanager
def without_connections(server: Server, site: Site) -> Iterator[None]:
    with ExitStack() as taken:
        with suppress(psycopg.OperationalError):
            while True:
                taken.enter_context(psycopg.connect(server.url, dbname="postgres"))
        yield


@contextmanager
def read_only(server: Server, site: Site) -> Iterator[None]:
    name = sa.make_url(site.url).database
    site.execute(f'alter database "{name}" set default_transaction_read_only = on')
    yield
    with psycopg.connect(server.url, autocommit=True, dbname="postgres") as admin:
        admin.execute(f'alter database "{name}" reset default_transaction_read_only'.encode())


@contextmanager
def gone(server: Server, site: Site) -> Iterator[None]:
    name = sa.make_url(site.url).database
    with psycopg.connect(server.url, autocommit=True, dbname="postgres") as admin:
        admin.execute(f'alter database "{name}" rename to elsewhere'.encode())
        yield
        admin.execute(f'alter database elsewhere rename to "{name}"'.encode())


TROUBLES = {
    stopped: "The database does not answer: connection to server at .* Connection refused. Check ORCOST_DATABASE_URL",
    without_connections: "The database has no connection to spare: sorry, too many clients already. End sessions",
    read_only: "The database takes no writes: cannot execute .* in a read-only transaction. Name its primary server",
    gone: 'The database is not there: database ".*" does not exist. Create it',
}


@pytest.mark.slow
def test_a_database_that_cannot_be_used_is_told_in_a_sentence_and_nothing_changes(site: Site, server: Server) -> None:
    before = figures(site)
    move(site)
    for trouble, sentence in TROUBLES.items():
        site.engine.dispose()
        with trouble(server, site):
            command = site.sync()
        assert command.code == 1, trouble.__name__
        assert re.fullmatch(f"{sentence}[^\n]*\n", command.told), command.told
        site.engine.dispose()
        assert figures(site) == before
        assert site.simulator.count == 0
    assert_all_is_well(site, site.sync())


def kill_server(server: Server) -> None:
    pid = server.pid()
    os.kill(pid, signal.SIGKILL)
    server.start()


def restart_server(server: Server) -> None:
    server.postgres.stop()
    time.sleep(1)
    server.start()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "place"),
    [
        (kill_server, "core.usage_daily"),
        pytest.param(restart_server, "asking", marks=pytest.mark.slow),
        pytest.param(kill_server, "asking", marks=pytest.mark.slow),
        pytest.param(restart_server, "core.usage_daily", marks=pytest.mark.slow),
        pytest.param(restart_server, "raw.usage_hourly", marks=pytest.mark.slow),
    ],
)
def test_a_restart_in_the_middle_is_survived(
    site: Site, server: Server, trouble: Callable[[Server], None], place: str
) -> None:
    away_from_the_hour()
    old = figures(site)
    move(site)
    is_asking = place == "asking"
    with ExitStack() as stack:
        if is_asking:
            site.simulator.inject(Fault("hang", match="/analytics", seconds=4))
        else:
            stack.enter_context(site.gate(place))
        command = site.start("sync")
        assert eventually(lambda: bool(site.simulator.asked("/analytics")) if is_asking else site.is_blocked())
        assert figures(site) == old
        site.engine.dispose()
        trouble(server)
        if is_asking:
            assert eventually(lambda: locked_accounts(site.engine, ["acme"]) == {"acme"}), "the lock is not back"
            assert command.code is None
    assert command.wait() == 0, command.told
    assert_all_is_well(site, command)
    assert site.value("select count(*) from ops.sync_run") == 2
    assert site.value("select count(*) from raw.extraction") == 2
    once = "select count(*) = count(distinct (run_id, key_hash, hour, model)) from raw.usage_hourly"
    assert site.value(once)


@contextmanager
def disk_full(site: Site, server: Server, table: str) -> Iterator[None]:
    """A disk without room, for one table: what is written to /dev/full fails as it does there."""
    site.execute(f"truncate {table}")
    site.execute("checkpoint")
    path = server.data / site.value(f"select pg_relation_filepath('{table}')")
    site.engine.dispose()
    path.rename(path.with_suffix(".kept"))
    path.symlink_to("/dev/full")
    yield
    site.engine.dispose()
    assert eventually(site.is_silent)
    path.with_suffix(".kept").rename(path)


@pytest.mark.slow
def test_a_full_disk_is_told_in_a_sentence_and_nothing_changes(site: Site, server: Server) -> None:
    before = figures(site)
    move(site)
    with disk_full(site, server, "raw.usage_question"):
        command = site.sync()
    assert command.code == 1
    assert "The database's disk is full: could not extend file" in command.told
    assert figures(site) == before
    status, error, as_of = last_run(site)
    assert (status, as_of) == ("failed", None)
    assert error.endswith("UTC; nothing was lost.")
    assert error in command.told
    assert site.rows("select status, error from ref.account") == [("failed", error)]
    assert_all_is_well(site, site.sync())


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_a_server_killed_at_any_moment_is_survived_or_told_and_the_next_sync_is_exact(
    site: Site, server: Server, number: int
) -> None:
    old = figures(site)
    move(site, number)
    site.simulator.options = Options(latency_seconds=0.05)
    command = site.start("sync")
    site.engine.dispose()
    time.sleep(random.Random(number).uniform(0.3, 3))
    kill_server(server)
    if command.wait() != 0:
        assert "Traceback" not in command.told
        assert "should not have" not in command.told
        assert "[SQL" not in command.told
        assert re.search("The database .*|The connection to the database was lost.*", command.told)
        assert figures(site) == old or last_run(site)[2]
    site.simulator.options = Options()
    assert_all_is_well(site, site.sync())


@pytest.mark.slow
def test_what_dagster_says_of_its_storage_goes_to_its_log_and_costs_are_published_all_the_same(site: Site) -> None:
    as_of = site.value("select as_of from ref.account")
    move(site)
    mapping = site.folder / "company_mapping.csv"
    mapping.write_text("company,match\n", encoding="utf-8")
    with site.gate("core.company_rolling") as let_pass:
        command = site.start("sync")
        assert eventually(site.is_blocked)
        site.execute("alter table dagster.asset_keys rename to elsewhere")
        let_pass()
        assert command.wait() == 1
    assert 'relation "asset_keys" does not exist\nDagster\'s log: ' in command.told
    assert "\ncompany_mapping.csv was refused; the mapping of " in command.told
    assert "[SQL" not in command.told
    assert "[SQL" in (site.folder / ".orcost" / "logs" / "dagster.log").read_text(encoding="utf-8")
    assert site.value("select as_of from ref.account") > as_of
    assert last_run(site)[0] == "succeeded"
    site.execute("alter table dagster.elsewhere rename to asset_keys")
    mapping.write_text(PRODUCTION, encoding="utf-8")
    assert_all_is_well(site, site.sync())


# ── signals ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "place"),
    [
        (signal.SIGTERM, "asking"),
        pytest.param(signal.SIGINT, "core.usage_daily", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "asking", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "core.usage_daily", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "waiting", marks=pytest.mark.slow),
    ],
)
def test_a_sync_that_is_stopped_says_so_at_once_and_leaves_nothing_open(
    site: Site, instance: dg.DagsterInstance, number: signal.Signals, place: str
) -> None:
    old = figures(site)
    move(site)
    with ExitStack() as stack:
        if place == "asking":
            site.simulator.inject(Fault("hang", match="/analytics", seconds=20, times=None))
        elif place == "waiting":
            stack.enter_context(runs.sync_lock(site.engine, "acme"))
        else:
            stack.enter_context(site.gate(place))
        command = site.start("sync")
        assert eventually(lambda: stands_at(site, instance, place))
        command.send(number)
        assert command.wait(5) == 130
    assert command.told.endswith("\nStopped. Nothing was lost; go on with: orcost sync\n")
    assert "Traceback" not in command.told
    assert statuses(instance) == [("acme", "FAILURE")]
    assert figures(site) == old
    assert eventually(lambda: not locked_accounts(site.engine, ["acme"]))
    if place != "waiting":
        assert last_run(site) == ("failed", runs.STOPPED, None)
    site.simulator.clear_faults()
    assert_all_is_well(site, site.sync())


def stands_at(site: Site, instance: dg.DagsterInstance, place: str) -> bool:
    if place == "asking":
        return bool(site.simulator.asked("/analytics"))
    return site.is_blocked() if place != "waiting" else statuses(instance) == [("acme", "STARTED")]


# ── a mapping that is written while syncs run ────────────────────────────────────────────────────────────────────────

OLD = PRODUCTION + "".join(f"Old {n},key_name,nobody {n}\n" for n in range(50))
NEW = PRODUCTION.replace("A,key", "Ace,key") + "".join(f"New {n},key_name,nobody {n}\n" for n in range(60))


@contextmanager
def rewritten(mapping: Path, write: Callable[[Path, str], None]) -> Iterator[None]:
    """The mapping is written anew, old and new in turns, as long as the block lasts; at its end it is the new one."""
    is_over = threading.Event()

    def turns() -> None:
        while not is_over.wait(0.001):
            write(mapping, OLD)
            write(mapping, NEW)

    writer = threading.Thread(target=turns)
    writer.start()
    yield
    is_over.set()
    writer.join()
    write(mapping, NEW)


def at_once(mapping: Path, text: str) -> None:
    """As an editor or a careful program writes."""
    other = mapping.with_suffix(".new")
    other.write_text(text, encoding="utf-8")
    other.replace(mapping)


def in_two_writes(mapping: Path, text: str) -> None:
    """As a copy writes: for a moment the file ends in the middle of a line."""
    with mapping.open("w", encoding="utf-8") as file:
        file.write(text[: len(text) // 2 + 3])
        file.flush()
        time.sleep(0.02)
        file.write(text[len(text) // 2 + 3 :])


@pytest.mark.parametrize("write", [at_once, in_two_writes])
def test_a_mapping_that_is_being_written_is_taken_whole_or_refused_with_its_line(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    mapping, seen, mistakes = tmp_path / "company_mapping.csv", set[int](), list[str]()
    write(mapping, OLD)
    with rewritten(mapping, write):
        for _ in range(100):
            try:
                seen.add(len(read_mapping(mapping.read_bytes(), mapping.name).rules))
            except MappingError as error:
                mistakes.append(error.lines())
    assert seen <= {52, 62}
    assert write is in_two_writes or not mistakes
    assert all(re.search(r"line \d+|is empty", lines) for lines in mistakes)


@pytest.mark.slow
def test_syncs_while_the_mapping_is_written_use_the_old_or_the_new_one(site: Site) -> None:
    mapping = site.folder / "company_mapping.csv"
    with rewritten(mapping, in_two_writes):
        for _ in range(2):
            command = site.sync()
            status, error, _ = last_run(site)
            assert status == "succeeded"
            assert command.code == (1 if error else 0)
            assert error is None or re.search(
                r"was refused; the mapping of .* stays active\.\n  (line \d+|the file is empty; its header is)", error
            )
            companies = {name for (name,) in site.rows("select company from marts.company_spend_daily")}
            assert companies in ({"A", "B", "Unattributed"}, {"Ace", "B", "Unattributed"})
            rules = {count for (count,) in site.rows("select rule_count from ref.mapping_version")}
            assert rules <= {2, 52, 62}
    assert_all_is_well(site, site.sync())
    assert site.value("select rule_count from ref.mapping_version order by version desc limit 1") == 62
    assert site.value("select sum(credits_usd) from marts.company_spend_daily where company = 'A'") is None
