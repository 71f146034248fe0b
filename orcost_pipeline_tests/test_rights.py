"""The rights of the database's user that a sync needs, as docs/deploy.md lists them: with these it works, and with one
less it says which is lacking.
"""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.opening import open_warehouse
from orcost_pipeline.warehouse.schema.namespaces import SCHEMAS
from orcost_pipeline_tests.test_databases import site_at
from orcost_pipeline_tests.test_readme import blocks, section

HEADING = "The database's user"


@dataclass
class Limited:
    """A database in which a user has exactly the documented rights."""

    user: str
    database: str
    url: str
    admin_url: str

    def execute(self, script: str) -> None:
        with psycopg.connect(self.admin_url, autocommit=True) as session:
            for statement in script.split(";"):
                if statement.strip():
                    session.execute(statement.format(user=self.user, database=self.database).encode())


@pytest.fixture
def limited(postgres_url: str) -> Iterator[Limited]:
    (script,) = blocks("psql", section("deploy", HEADING))
    server, inside = script.split("\\connect costs\n")
    user, database = f"r_{uuid.uuid4().hex}", f"d_{uuid.uuid4().hex}"
    url = sa.make_url(postgres_url).set(drivername="postgresql")
    theirs = url.set(username=user, password="a long one", database=database)
    admin = url.set(database=database)
    given = Limited(user, database, *(it.render_as_string(hide_password=False) for it in (theirs, admin)))

    def run(at: sa.URL, text: str) -> None:
        text = re.sub(r"\bcosts\b", database, re.sub(r"\borcost\b", user, re.sub(r"--.*", "", text)))
        with psycopg.connect(at.render_as_string(hide_password=False), autocommit=True) as session:
            for statement in filter(str.strip, text.split(";")):
                session.execute(statement.encode())

    run(url, server)
    try:
        run(admin, inside)
        yield given
    finally:
        run(url, f"drop database if exists {database} with (force); drop role {user}")


@pytest.mark.slow
def test_the_documented_rights_are_enough_for_a_sync_and_for_dagsters_storage(limited: Limited, tmp_path: Path) -> None:
    with site_at(tmp_path, limited.url, limited.admin_url) as site:
        command = site.sync()
        assert command.code == 0, command.told
        site.assert_is_exact()
        assert site.rows("select count(*) from dagster.runs") == [(1,)]
        owners = "select distinct nspname from pg_namespace where nspowner = cast(:user as regrole)"
        assert {name for (name,) in site.rows(owners, user=limited.user)} == set(SCHEMAS)
        limited.execute("revoke temporary on database {database} from {user}")
        command = site.sync()
        assert command.code == 1
        lacking = f'permission denied to create temporary tables in database "{limited.database}"'
        assert f"The database's user lacks a right: {lacking}. Grant it" in command.told


@pytest.mark.parametrize(
    ("revoked", "lacking"),
    [
        ("connect on database {database}", "lacks a right: permission denied for database"),
        *((f"usage on schema {name}", f"that are not orcost's: {name}") for name in SCHEMAS),
        *((f"create on schema {name}", f"that are not orcost's: {name}") for name in SCHEMAS),
    ],
)
def test_one_right_less_is_named(limited: Limited, tmp_path: Path, revoked: str, lacking: str) -> None:
    limited.execute(f"revoke {revoked} from {{user}}")
    with pytest.raises(PermanentError, match=re.escape(lacking)):
        open_warehouse(limited.url, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("schema", [name for name in SCHEMAS if name not in ("dagster", "viewer")])
def test_one_right_less_is_named_where_there_is_a_warehouse(limited: Limited, tmp_path: Path, schema: str) -> None:
    open_warehouse(limited.url, tmp_path).dispose()
    limited.execute(f"revoke usage on schema {schema} from {{user}}")
    with site_at(tmp_path, limited.url, limited.admin_url) as site:
        command = site.sync()
    assert command.code == 1
    assert f"The database's user lacks a right: permission denied for schema {schema}. Grant it" in command.told
