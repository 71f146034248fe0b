"""The database is one `orcost up`'s alone: its lock, what it says of its holder, and how it ends."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from orcost_pipeline.deployment.orcost_up import _at_port_of
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.deployment import serving, sole_deployment
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.locks import DEPLOYMENT_LOCK
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.processes import CHECKOUT, clean_environment, eventually

FIRST = "process 1 on web1, home /srv/costs/.orcost, since 2026-11-26 15:04 UTC"
TERMINATE = sa.text(
    "select pg_terminate_backend(pid) from pg_locks where classid = :kind and locktype = 'advisory' and granted"
)
HOLDER = """
import sys, time
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.deployment import sole_deployment
with sole_deployment(connect(sys.argv[1]), "process of its own"):
    print("held", flush=True)
    time.sleep(60)
"""


def who(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        return serving(connection)


def lose_session(engine: sa.Engine) -> None:
    """What a restart of the database does to the holder."""
    with engine.connect() as connection:
        assert connection.execute(TERMINATE, {"kind": DEPLOYMENT_LOCK}).scalar()


def test_a_second_deployment_is_told_where_the_first_runs_and_what_to_do(engine: sa.Engine, postgres_url: str) -> None:
    with sole_deployment(engine, FIRST):
        with pytest.raises(PermanentError) as refused, sole_deployment(engine, "process 2"):
            pass
        told, todo = str(refused.value).splitlines()
        assert told == f"Another orcost up serves this database already: {FIRST}."
        assert "ORCOST_DATABASE_URL" in todo
        with fresh_engine(postgres_url) as another, sole_deployment(another, "process 2"):
            assert who(another) == "process 2"
    assert who(engine) is None
    with sole_deployment(engine, "process 2"):
        pass


@pytest.mark.parametrize("home", ["/srv/o'brien", "/srv/100%s", "/srv/:x", "/srv/C:\\costs", "/srv/müller", "''"])
def test_any_folder_is_told_as_it_is_called(engine: sa.Engine, home: str) -> None:
    with sole_deployment(engine, f"process 1 on web1, home {home}, since now"):
        assert who(engine) == f"process 1 on web1, home {home}, since now"


@pytest.mark.slow
def test_a_lost_session_takes_the_lock_again(engine: sa.Engine) -> None:
    with sole_deployment(engine, FIRST) as is_alone:
        lose_session(engine)
        assert eventually(lambda: who(engine) == FIRST, 10)
        is_alone()
        with pytest.raises(PermanentError, match="Another"), sole_deployment(engine, "process 2"):
            pass


@pytest.mark.slow
def test_who_finds_another_one_there_after_a_restart_is_told(engine: sa.Engine, database_url: str) -> None:
    with sole_deployment(engine, FIRST) as is_alone, psycopg.connect(database_url, autocommit=True) as other:
        lock = f"select pg_advisory_lock({DEPLOYMENT_LOCK}, hashtext('orcost up'))"
        lose = f"select pg_terminate_backend(pid) from pg_locks where classid = {DEPLOYMENT_LOCK} and granted"
        other.execute(f"{lose}; {lock}".encode())

        def is_told() -> bool:
            try:
                is_alone()
            except PermanentError as error:
                return "Another orcost up serves this database already" in str(error)
            return False

        assert eventually(is_told, 10)


def test_a_killed_process_frees_the_database(engine: sa.Engine, database_url: str) -> None:
    environment = {**clean_environment(), "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", HOLDER, database_url]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        assert who(engine) == "process of its own"
        process.kill()
    assert eventually(lambda: who(engine) is None, 5)


@pytest.fixture
def stranger(database_url: str) -> Iterator[sa.Engine]:
    """Another user of the same database."""
    role = f"r_{re.sub(r'[^a-z0-9]', '', database_url[-20:])}"
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(f"create role {role} login password 'x'".encode())
        made = connect(sa.make_url(database_url).set(username=role, password="x").render_as_string(False))
        yield made
        made.dispose()
        admin.execute(f"drop role {role}".encode())


def test_another_user_of_the_database_learns_that_it_is_served_and_no_more(
    engine: sa.Engine, stranger: sa.Engine
) -> None:
    with sole_deployment(engine, FIRST):
        assert who(stranger) == "one that this database user may not see"
    assert who(stranger) is None


class Moved(EmbeddedPostgres):
    """A server that came back on another port; None while it is away."""

    port: int | None = None

    def url(self) -> str | None:
        return f"postgresql://orcost:secret@127.0.0.1:{self.port}/orcost" if self.port else None


def test_the_lock_follows_the_embedded_postgres_to_another_port(engine: sa.Engine, tmp_path: Path) -> None:
    port, server = engine.url.port, Moved(tmp_path)
    there = sa.create_engine(engine.url.set(port=1), poolclass=sa.NullPool)
    sa.event.listen(there, "do_connect", _at_port_of(server))
    with pytest.raises(sa.exc.OperationalError):
        there.connect()
    server.port = port
    with there.connect() as connection:
        assert connection.scalar(sa.text("select 1")) == 1
