"""A real Postgres for all tests of a worker, and a fresh, migrated database for each test."""

import contextlib
import gc
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.schema.upgrade import migrate
from orcost_pipeline_tests import sampling
from orcost_pipeline_tests.virtual_time import VirtualLoop

if TYPE_CHECKING:
    from orcost_pipeline_tests.world import World

# Fixtures of tests that come first.
EARLY = {
    "demo_ledger",
    "filled",
    "known_templates",
    "mapped_template",
    "served",
    "server",
    "synced_template",
    "template",
}

# Their fixtures are for who names them in `pytest_plugins`: Dagster is not loaded where nothing needs it.
pytest.register_assert_rewrite(
    *(
        f"orcost_pipeline_tests.{name}"
        for name in (
            "billing_cli",
            "client_world",
            "dagster_deployment",
            "healthy_deployment",
            "known_spend",
            "watched",
        )
    )
)


@pytest.hookimpl(optionalhook=True)  # xdist may be switched off
def pytest_xdist_auto_num_workers() -> int:
    """A quarter of a test's time is spent waiting for processes and servers."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)


def pytest_configure(config: pytest.Config) -> None:
    """Before any module of tests is loaded: its decorators ask how many examples to try."""
    sampling.is_fast = "not slow" in config.option.markexpr
    # No property is wrong because the machine is slow.
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what takes long to make come first, and so do long tests.

    xdist hands out the first tests by the hundred and the last ones one by one: what the last ones share, each worker
    would make for itself, and for the last long one the others would wait.
    """
    items.sort(key=lambda item: EARLY.isdisjoint(getattr(item, "fixturenames", ())))


def pytest_collection_finish() -> None:
    """Modules and tests live as long as the process: looking for garbage among them took a quarter of Python's CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """An embedded Postgres with a migrated template database; in memory where there is some to spare."""
    memory = Path("/dev/shm")
    root = memory if memory.is_dir() and shutil.disk_usage(memory).free > 2_000_000_000 else None
    home = Path(tempfile.mkdtemp(prefix="orcost-tests-", dir=root))
    home.chmod(0o755)
    postgres = EmbeddedPostgres(home)
    try:
        url = postgres.start()
        hurry(url)
        engine = connect(url)
        migrate(engine)
        engine.dispose()
        yield url
    finally:
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)


def hurry(url: str) -> None:
    """Nothing of this server has to survive a power cut."""
    settings = ("fsync", "synchronous_commit", "full_page_writes")
    with psycopg.connect(url, autocommit=True) as session:
        for name in settings:
            session.execute(f"alter system set {name} = off".encode())
        session.execute("select pg_reload_conf()")


def url_of(postgres_url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return sa.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)


def administer(postgres_url: str, *statements: str) -> None:
    """Executes statements that create and drop databases, each in a transaction of its own."""
    # Without SQLAlchemy, which asks each new engine's server what it can.
    server = sa.make_url(postgres_url).set(drivername="postgresql", database="postgres")
    with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as session:
        for statement in statements:
            session.execute(statement.encode())


def copy_database(postgres_url: str, name: str, template: str) -> None:
    """A copy of the template under this name, in the place of what bore it."""
    administer(
        postgres_url,
        f"drop database if exists {name} with (force)",
        f"create database {name} template {template} strategy file_copy",
    )


@contextlib.contextmanager
def fresh_database(postgres_url: str, template: str = "orcost") -> Iterator[str]:
    """The URL of a database of its own, migrated, that is gone afterwards."""
    name = f"t_{uuid.uuid4().hex}"
    copy_database(postgres_url, name, template)
    try:
        yield url_of(postgres_url, name)
    finally:
        with contextlib.suppress(psycopg.OperationalError):
            administer(postgres_url, f"drop database if exists {name} with (force)")


@contextlib.contextmanager
def fresh_engine(postgres_url: str) -> Iterator[sa.Engine]:
    """The same as an engine: for each example of a property test."""
    with fresh_database(postgres_url) as url:
        engine = connect(url)
        try:
            yield engine
        finally:
            engine.dispose()


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh database, migrated."""
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    """A database without a single table of ours."""
    with fresh_database(postgres_url, "template0") as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    made = connect(database_url)
    yield made
    made.dispose()


W = TypeVar("W", bound="World")
Filled = Callable[[Callable[[sa.Engine], W], sa.Engine], W]


@pytest.fixture(scope="session")
def filled(postgres_url: str) -> Filled[Any]:
    """Fills a test's database as a function does. A worker calls the function once: every test gets a copy."""
    made: dict[Callable[[sa.Engine], Any], tuple[str, Any]] = {}

    def fill(how: Callable[[sa.Engine], W], engine: sa.Engine) -> W:
        if how not in made:
            name = f"filled_{len(made)}"
            copy_database(postgres_url, name, "orcost")
            original = connect(url_of(postgres_url, name))
            made[how] = name, how(original)
            original.dispose()
        name, world = made[how]
        copy_database(postgres_url, str(engine.url.database), name)
        return world.over(engine)

    return fill


@pytest.fixture
def limiter_in_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every thread: the limiter's own forgets what the loop's clock says is over."""

    def monotonic_ns() -> int:
        loop = VirtualLoop.current
        return int(loop.time() * 1e9) if loop else time.monotonic_ns()

    monkeypatch.setattr("pyrate_limiter.clocks.monotonic_ns", monotonic_ns)
