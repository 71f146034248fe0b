"""What is found of the database: whether it is there, whose it is, and what its user may do."""

import shutil
import uuid
from decimal import Decimal

import pytest
import sqlalchemy as sa

from orcost_pipeline.health import database
from orcost_pipeline.health.examination import Limits
from orcost_pipeline.health.finding import Code
from orcost_pipeline.simulator import Fault
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.questions.health import Server, server_state
from orcost_pipeline.warehouse.schema.namespaces import schema_version
from orcost_pipeline_tests.healthy_deployment import Deployment, base_url_of, spend_nothing

pytest_plugins = ["orcost_pipeline_tests.healthy_deployment"]


def test_without_a_database_openrouter_is_asked_all_the_same(healthy: Deployment) -> None:
    healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL="postgresql://me:hush-hush@127.0.0.1:1/none")
    healthy.simulator.inject(Fault("401", times=None))
    found = healthy.examine()
    assert [it.code for it in found] == [Code.INVALID_KEY, Code.DATABASE_UNREACHABLE]
    assert "hush" not in str(found)
    healthy.simulator.clear_faults()
    healthy.ledger.accounts["acme"].credits_bought = Decimal(1)
    assert [code for _, code, _ in healthy.said()] == [Code.DATABASE_UNREACHABLE]
    spend_nothing(healthy)
    assert [code for _, code, _ in healthy.said()] == [Code.DATABASE_UNREACHABLE, Code.NO_CREDITS]


def test_before_the_first_sync_no_database_is_made(healthy: Deployment) -> None:
    healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL="")
    before = sorted(healthy.folder.iterdir())
    assert healthy.only("note", Code.NEVER_SYNCED, None).todo == "orcost sync"
    (healthy.folder / ".orcost" / "logs").mkdir(parents=True)
    healthy.only("note", Code.NEVER_SYNCED, None)
    shutil.rmtree(healthy.folder / ".orcost")
    assert sorted(healthy.folder.iterdir()) == before


def test_an_empty_database_is_left_empty(healthy: Deployment, empty_url: str) -> None:
    healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL=empty_url)
    healthy.only("note", Code.NEVER_SYNCED, None)
    engine = connect(empty_url)
    with engine.connect() as connection:
        assert server_state(connection).may_read is None
    engine.dispose()


def test_a_database_with_schemas_of_somebody_else_is_told_to_leave_to_them(healthy: Deployment, empty_url: str) -> None:
    healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL=empty_url)
    engine = connect(empty_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("create schema raw; create table raw.orders (id int); create schema marts")
    engine.dispose()
    finding = healthy.only("error", Code.SCHEMAS_TAKEN, None)
    assert finding.message.endswith("has schemas of orcost's names that are not orcost's: raw.")
    assert "create database orcost" in finding.todo


def test_an_embedded_database_that_cannot_start_is_told(healthy: Deployment) -> None:
    healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL="")
    (healthy.folder / ".orcost").mkdir()
    (healthy.folder / ".orcost" / "postgres.location").write_text("/nowhere/at/all\n")
    assert "/nowhere/at/all" in healthy.only("error", Code.DATABASE_UNREACHABLE, None).message


@pytest.mark.parametrize(
    ("version", "severity", "code"),
    [("9999", "error", Code.SCHEMA_NEWER), ("0000", "warning", Code.SCHEMA_OLDER)],
)
def test_another_schema_is_neither_read_nor_migrated(
    healthy: Deployment, version: str, severity: str, code: Code
) -> None:
    healthy.do("update ops.schema_version set version_num = :version", version=version)
    assert version in healthy.only(severity, code, None).message
    with healthy.engine.connect() as connection:
        assert schema_version(connection) == version


def test_a_read_only_database_cannot_be_synced_to(healthy: Deployment) -> None:
    healthy.do(f"alter database {sa.make_url(healthy.url).database} set default_transaction_read_only = on")
    assert "transaction_read_only" in healthy.only("error", Code.DATABASE_READ_ONLY, None).message


def test_a_locked_warehouse_is_not_waited_for(healthy: Deployment) -> None:
    healthy.limits = Limits(statement=1)
    with healthy.engine.begin() as connection:
        connection.exec_driver_sql("set idle_in_transaction_session_timeout = '5s'")
        connection.exec_driver_sql("lock table ref.account in access exclusive mode")
        assert "statement timeout" in healthy.only("error", Code.DATABASE_UNREACHABLE, None).message


WELL = Server("me", "costs", 15, False, False, 5, 100, "UTF8", True, True, True)


@pytest.mark.parametrize(
    ("server", "severity", "code", "said"),
    [
        (WELL._replace(is_standby=True, is_read_only=True), "error", Code.DATABASE_READ_ONLY, "recovery"),
        (WELL._replace(major=14), "error", Code.DATABASE_OLD, "Postgres 14 is too old"),
        (WELL._replace(encoding="LATIN1"), "error", Code.DATABASE_ENCODING, 'of database "costs" is LATIN1'),
        (WELL._replace(connections=91), "warning", Code.DATABASE_FULL, "91 of the database's 100 connections"),
        (WELL._replace(may_create=False), "error", Code.DATABASE_RIGHTS, "may not create schemas"),
        (WELL._replace(may_write=False), "error", Code.DATABASE_RIGHTS, "may not write"),
        (WELL._replace(may_read=False), "error", Code.DATABASE_RIGHTS, "may not read"),
    ],
)
def test_a_server_that_does_not_serve_is_told_so(server: Server, severity: str, code: Code, said: str) -> None:
    (finding,) = database.server_findings(server, is_writer=True)
    assert (finding.severity, finding.code) == (severity, code)
    assert said in finding.message


def test_a_server_that_serves_is_no_finding() -> None:
    for well in (WELL, WELL._replace(connections=90), WELL._replace(may_read=None, may_write=None)):
        assert not list(database.server_findings(well, is_writer=True))
    reader = WELL._replace(is_read_only=True, may_create=False, may_write=False)
    assert not list(database.server_findings(reader, is_writer=False))


def test_a_user_without_rights_is_told_which(healthy: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    role, database = f"r_{uuid.uuid4().hex}", sa.make_url(healthy.url).database
    healthy.do(f"create role {role} login password 'x'")
    try:
        as_role = sa.make_url(healthy.url).set(username=role, password="x").render_as_string(hide_password=False)
        healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL=as_role)
        assert "may not read" in healthy.only("error", Code.DATABASE_RIGHTS, None).message
        with monkeypatch.context() as patched:
            patched.setattr("orcost_pipeline.health.database.server_state", lambda _: WELL)
            finding = healthy.only("error", Code.DATABASE_RIGHTS, None)
        assert "permission denied" in finding.message, "of what was not looked for beforehand"
        for schema in ("ref", "core", "marts", "ops"):
            healthy.do(
                f"grant usage on schema {schema} to {role}; grant select on all tables in schema {schema} to {role}"
            )
        healthy.do(f"grant execute on all functions in schema core, marts to {role}")
        finding = healthy.only("error", Code.DATABASE_RIGHTS, None)
        assert finding.todo == f'grant create on database "{database}" to "{role}"'
        healthy.do(f"grant create on database {database} to {role}")
        assert "may not write" in healthy.only("error", Code.DATABASE_RIGHTS, None).message
    finally:
        healthy.do(f"drop owned by {role}; drop role {role}")


def test_the_server_is_asked_what_is_so(healthy: Deployment) -> None:
    with healthy.engine.connect() as connection:
        server = server_state(connection)
        shown = {
            name: connection.exec_driver_sql(f"show {name}").scalar() for name in ("server_version", "max_connections")
        }
        sessions = connection.exec_driver_sql("select count(*) from pg_stat_activity where datid is not null").scalar()
    assert str(server.major) == str(shown["server_version"]).split(".")[0]
    assert str(server.max_connections) == shown["max_connections"]
    assert abs(server.connections - int(sessions or 0)) <= 3
    assert (server.may_create, server.may_read, server.may_write) == (True, True, True)
