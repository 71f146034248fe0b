"""Databases as companies have them: shared with others, with roles set up otherwise, behind a pooler, or elder."""

import uuid
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.opening import SCHEMA_VERSION, open_existing, open_warehouse
from orcost_pipeline.warehouse.reports import server
from orcost_pipeline.warehouse.schemas import SCHEMAS, schema_version
from orcost_pipeline_tests.test_warehouse import opened, query

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
            assert server(connection).may_create
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
