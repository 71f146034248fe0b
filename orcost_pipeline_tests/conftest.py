"""A real Postgres for all tests of a worker, and a fresh, migrated database for each test."""

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.migrations.run import migrate


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
        engine = connect(url)
        migrate(engine)
        engine.dispose()
        yield url
    finally:
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh database, migrated."""
    name = f"t_{uuid.uuid4().hex}"
    server = sa.make_url(postgres_url).set(drivername="postgresql+psycopg", database="postgres")
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"create database {name} template orcost")
    yield sa.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with contextlib.suppress(sa.exc.OperationalError), admin.connect() as connection:
        connection.exec_driver_sql(f"drop database if exists {name} with (force)")
    admin.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    made = connect(database_url)
    yield made
    made.dispose()
