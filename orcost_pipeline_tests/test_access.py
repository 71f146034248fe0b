"""`orcost access`: readers see what they may, viewers their companies alone, and both lose it at once."""

import json
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql
from typer.testing import CliRunner

from orcost_pipeline import cli
from orcost_pipeline.defs.checks import business_check
from orcost_pipeline.health.database import access_findings
from orcost_pipeline.settings import load_settings
from orcost_pipeline.simulator import small
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, Programs
from orcost_pipeline.warehouse.questions.rights import differing_rights, undue_rights
from orcost_pipeline.warehouse.schema.declared import declared_schema
from orcost_pipeline.warehouse.schema.upgrade import migrate
from orcost_pipeline.warehouse.thresholds import publish_thresholds
from orcost_pipeline_tests.conftest import fresh_database
from orcost_pipeline_tests.test_schema import Files, files  # noqa: F401 (a fixture)
from orcost_pipeline_tests.world import NOON, World, query

A, B = "Company A", "Company B"
VIEWER_VIEWS = (
    "company_spend_daily",
    "company_spend_monthly",
    "company_spend_rolling",
    "key_spend_rolling",
    "spend_daily",
    "statement",
)
OURS = ("raw", "ref", "core", "marts", "viewer", "ops", "dagster")


@dataclass
class Site:
    """A warehouse with spend of two companies and of nobody."""

    url: str
    engine: sa.Engine
    folder: Path

    def orcost(self, *arguments: str, url: str | None = None) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ORCOST_DATABASE_URL", url or self.url)
            patch.chdir(self.folder)
            return CliRunner().invoke(cli.app, ["access", *arguments])

    def give(self, *arguments: str) -> str:
        """A new login's password."""
        done = self.orcost(*arguments)
        assert done.exit_code == 0, done.exception
        return done.stdout.strip()

    def refused(self, *arguments: str, url: str | None = None) -> str:
        done = self.orcost(*arguments, url=url)
        assert done.exit_code == 1
        assert done.stdout == ""
        return str(done.exception)

    def connect(self, login: str, password: str) -> psycopg.Connection:
        at = sa.make_url(self.url)
        return psycopg.connect(
            host=at.host, port=at.port, dbname=at.database, user=login, password=password, autocommit=True
        )

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def listed(self) -> list[dict[str, Any]]:
        return json.loads(self.orcost("list", "--format", "json").stdout)


@contextmanager
def readable(postgres_url: str, folder: Path) -> Iterator[Site]:
    with fresh_database(postgres_url) as url:
        engine = connect(url)
        world = World(engine, small(NOON), NOON)
        world.map(f"{A},key_name,{A},,,", f"{B},key_name,{B}*,,,")
        world.sync()
        yield Site(url, engine, folder)
        engine.dispose()


@pytest.fixture(scope="module")
def site(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with readable(postgres_url, tmp_path_factory.mktemp("access")) as made:
        yield made
        for it in made.listed():
            made.orcost("revoke", it["login"])


@pytest.fixture(scope="module")
def viewer(site: Site) -> Iterator[psycopg.Connection]:
    """A session of a viewer of Company A, beside a viewer of Company B."""
    site.give("viewer", "bob", "--company", B)
    with site.connect("ada", site.give("viewer", "ada", "--company", A)) as session:
        yield session


@pytest.fixture(scope="module")
def reader(site: Site) -> Iterator[psycopg.Connection]:
    with site.connect("rex", site.give("reader", "rex")) as session:
        yield session


@pytest.fixture
def login(site: Site) -> Iterator[str]:
    """The name of a login that is gone afterwards."""
    name = f'L "{uuid.uuid4().hex[:8]}'
    yield name
    with site.engine.connect() as connection:
        if connection.execute(sa.text("select from pg_roles where rolname = :name"), {"name": name}).all():
            quoted = sql.Identifier(name).as_string()
            site.execute(f"drop owned by {quoted}", f"drop role {quoted}")


def ident(name: str) -> str:
    return sql.Identifier(name).as_string()


# ── what a viewer and a reader see ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", VIEWER_VIEWS)
def test_a_viewer_sees_the_rows_of_its_company_in_all_columns_but_two(
    site: Site, viewer: psycopg.Connection, name: str
) -> None:
    shown = [column.name for column in viewer.execute(f"select * from viewer.{name}".encode()).description or ()]
    with site.engine.connect() as connection:
        columns = list(connection.exec_driver_sql(f"select * from marts.{name}").keys())
        assert shown == [it for it in columns if it not in ("creator_email", "cost_centre")]
        theirs = connection.exec_driver_sql(f"select {', '.join(shown)} from marts.{name} where company = '{A}'").all()
    seen = viewer.execute(f"select * from viewer.{name}".encode()).fetchall()
    # A statement's amounts have no scale in marts.
    assert Counter(seen) == Counter(tuple(row) for row in theirs)
    assert seen


def test_a_viewer_sees_nothing_under_the_name_of_another(site: Site) -> None:
    """Only the login of the session counts: the owner is no viewer."""
    for name in VIEWER_VIEWS:
        assert query(site.engine, f"select * from viewer.{name}") == []


RELATIONS = (
    "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
    "where c.relkind in ('r', 'v', 'm', 'p', 'f', 'S') and n.nspname !~ '^pg_|^information_schema$' order by 1, 2"
)


def tried(session: psycopg.Connection, statement: str) -> bool:
    """Whether the statement was let through."""
    try:
        session.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege:
        return False
    except psycopg.Error:
        return True
    return True


def test_every_relation_of_the_database_is_open_to_those_it_is_for_alone(
    site: Site, viewer: psycopg.Connection, reader: psycopg.Connection
) -> None:
    relations = query(site.engine, RELATIONS)
    assert len(relations) > 70
    for schema, name in relations:
        statement = f"select * from {schema}.{name} limit 1"
        is_sequence = name.endswith("_seq")
        is_read = schema in ("ref", "marts", "ops") or (schema == "core" and name.startswith("spend_"))
        assert tried(viewer, statement) == (schema == "viewer"), statement
        assert tried(reader, statement) == (is_read and not is_sequence), statement
    changes = "insert, update, delete, truncate, references, trigger"
    may_change = "select oid::regclass::text from pg_class where relnamespace >= 16384 and relkind <> 'i' "
    for who in ("ada", "rex"):
        assert query(site.engine, may_change + f"and has_table_privilege('{who}', oid, '{changes}')") == []


FUNCTIONS = (
    "select n.nspname, p.proname, p.proargtypes::regtype[]::text[] from pg_proc p "
    "join pg_namespace n on n.oid = p.pronamespace where n.nspname = any(:schemas)"
)


def test_every_function_of_the_database_is_open_to_those_it_is_for_alone(
    site: Site, viewer: psycopg.Connection, reader: psycopg.Connection
) -> None:
    functions = query(site.engine, FUNCTIONS, schemas=list(OURS))
    assert len(functions) == len([it for it in declared_schema().objects if it.kind == "function"])
    for schema, name, types in functions:
        call = f"select {schema}.{name}({', '.join(f'null::{it}' for it in types)})"
        assert not tried(viewer, call), call
        assert tried(reader, call) == (schema == "marts" or is_pure(site, f"{schema}.{name}")), call


def is_pure(site: Site, function: str) -> bool:
    volatility = "select provolatile = 'i' from pg_proc where oid = cast(cast(:f as regproc) as oid)"
    return query(site.engine, volatility, f=function)[0][0]


def test_functions_of_the_marts_run_as_their_owner_and_resolve_nothing_by_path(site: Site) -> None:
    made = "select p.proname, p.prosecdef, p.proconfig from pg_proc p where p.pronamespace = 'marts'::regnamespace"
    for name, is_definer, settings in query(site.engine, made):
        assert (is_definer, settings) == (True, ["search_path=pg_catalog, pg_temp"]), name


def test_views_that_others_read_call_no_function_of_ours_that_reads(site: Site) -> None:
    called = query(
        site.engine,
        "select distinct v.oid::regclass::text, p.oid::regproc::text from pg_rewrite r "
        "join pg_class v on v.oid = r.ev_class "
        "join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid "
        "and d.refclassid = 'pg_proc'::regclass "
        "join pg_proc p on p.oid = d.refobjid and p.pronamespace::regnamespace::text = any(:schemas)",
        schemas=list(OURS),
    )
    assert called
    assert [(view, function) for view, function in called if not is_pure(site, function)] == []


# ── what a viewer tries ──────────────────────────────────────────────────────────────────────────────────────────────

LEAK = "select * from viewer.company_spend_daily where "
ATTEMPTS: dict[str, Sequence[str]] = {
    "a mart": ["select * from marts.company_spend_daily"],
    "a table of facts": ["select * from core.usage_daily"],
    "raw answers": ["select * from raw.usage_hourly"],
    "the list of companies": ["select * from ref.company"],
    "who sees what": ["select * from ref.viewer"],
    "mapping rules": ["select * from ref.mapping_rule"],
    "a function of the marts": ["select * from marts.company_spend_between('2026-11-01 00:00Z', '2026-11-23 00:00Z')"],
    "a function of the core": ["select * from core.known_span('2026-11-01 00:00Z', '2026-11-23 00:00Z')"],
    "the other company by name": [LEAK + f"company = '{B}'"],
    "any company": [LEAK + "company <> company or true"],
    "nobody's": [LEAK + "company = 'Unattributed'"],
    "a pattern": [LEAK + "company ~ '.'"],
    "a cast that fails": [LEAK + "company::int = 1"],
    "a division that fails for the other": [LEAK + f"1 / (case when company = '{B}' then 0 else 1 end) = 1"],
    "an amount in an error": [LEAK + "(credits_usd::text || 'x')::int = 1"],
    "a key in an error": ["select * from viewer.key_spend_rolling where key_name::uuid is not null"],
    "an amount in a failing aggregate": ["select sum(credits_usd)::text::date from viewer.spend_daily"],
    "a row as text": ["select v from viewer.spend_daily v where v::text::int = 1"],
    "a sort that fails": ["select * from viewer.spend_daily order by 1 / (credits_usd - credits_usd)"],
    "a join from outside": [
        f"select v.* from (values ('{B}')) x (c) join viewer.company_spend_daily v on v.company = x.c"
    ],
    "a lateral join": [
        f"select v.* from (select '{B}' c) x, lateral (select * from viewer.spend_daily where company = c) v"
    ],
    "a union with a mart": ["select company from viewer.spend_daily union select company from marts.spend_daily"],
    "the role of readers": ["set role orcost_reader", "select * from marts.company_spend_daily"],
    "the role of viewers": [
        "set role orcost_viewer",
        "select * from viewer.company_spend_daily where company <> 'Company A'",
    ],
    "the owner's role": ["set role orcost"],
    "another viewer's role": ["set role bob"],
    "another session": ["set session authorization bob", "select * from viewer.spend_daily"],
    "another session by a setting": ["select set_config('session_authorization', 'bob', false)"],
    "a role by a setting": ["select set_config('role', 'orcost_reader', false)"],
    "the role before": ["reset role", "reset session authorization", LEAK + f"company = '{B}'"],
    "another name": ["alter role ada rename to bob2"],
    "a role for oneself": ["grant orcost_reader to ada"],
    "more power": ["alter role ada superuser"],
    "a role of one's own": ["create role eve in role orcost_reader"],
    "a row in the list": [f"insert into ref.viewer values ('ada', '{B}')"],
    "a grant": ["grant select on all tables in schema marts to ada"],
    "a temporary table": ["create temp table t as select * from viewer.spend_daily"],
    "a temporary view": ["create temp view t as select * from marts.spend_daily"],
    "a temporary function": [
        "create function pg_temp.f(text) returns boolean language plpgsql cost 0.0001 as 'begin end'"
    ],
    "a table": ["create table public.t as select * from viewer.spend_daily"],
    "a table among the views": ["create table viewer.t (x int)"],
    "a view as its reader": ["create view public.v with (security_invoker) as select * from marts.spend_daily"],
    "a function": ["create function public.f() returns int language sql as 'select 1'"],
    "a schema": ["create schema mine"],
    "an extension": ["create extension dblink"],
    "dblink": ["select * from dblink('dbname=orcost', 'select 1') as t (x int)"],
    "no barrier": ["alter view viewer.spend_daily set (security_barrier = false)"],
    "another view": ["create or replace view viewer.spend_daily as select 1"],
    "a rule": ["create rule r as on insert to viewer.spend_daily do instead nothing"],
    "a trigger": ["create trigger t instead of insert on viewer.spend_daily for each row execute function f()"],
    "a policy": ["alter table ref.viewer enable row level security"],
    "row security off": ["set row_security = off", LEAK + f"company = '{B}'"],
    "a path": ["set search_path = marts, core, ref", "select * from company_spend_daily"],
    "a block": [
        "do $$ declare x text; begin select sum(credits_usd) into x from core.company_day; raise notice '%', x; end $$"
    ],
    "a block that calls": [
        "do $$ begin perform marts.company_spend_between('2026-11-01 00:00Z', '2026-11-02 00:00Z'); end $$"
    ],
    "a block that catches": [
        f"do $$ declare r record; begin for r in select * from viewer.spend_daily where company = '{B}' loop "
        "raise notice '%', r; end loop; exception when others then raise notice '%', sqlerrm; end $$"
    ],
    "a prepared statement": ["prepare p as select * from viewer.spend_daily where company = $1", f"execute p('{B}')"],
    "a prepared mart": ["prepare q as select * from marts.spend_daily"],
    "a cursor": [
        "begin",
        "declare c scroll cursor for select * from viewer.spend_daily",
        "move 5 in c",
        "fetch backward all in c",
    ],
    "a cursor on a mart": ["begin", "declare m cursor for select * from marts.spend_daily"],
    "a copy of a mart": ["copy (select * from marts.spend_daily) to stdout"],
    "a copy of a table": ["copy core.usage_daily to stdout"],
    "a program": ["copy (select 1) to program 'cat'"],
    "a file": ["copy (select 1) to '/tmp/viewer'"],
    "the server's files": ["select pg_read_file('PG_VERSION')"],
    "the server's folders": ["select pg_ls_dir('.')"],
    "a file as a large object": ["select lo_import('/etc/passwd')"],
    "somebody's large object": ["select lo_get(oid) from pg_largeobject_metadata"],
    "large objects": ["select * from pg_largeobject"],
    "statistics": ["select * from pg_stats where schemaname in ('ref', 'core')"],
    "statistics as stored": ["select * from pg_statistic"],
    "extended statistics": ["select * from pg_stats_ext"],
    "queries of others": ["select query from pg_stat_activity where usename is distinct from 'ada'"],
    "the end of another's session": ["select pg_terminate_backend(pid) from pg_stat_activity where usename = 'orcost'"],
    "a query as XML": ["select query_to_xml('select * from marts.spend_daily', true, true, '')"],
    "a schema as XML": ["select schema_to_xml('marts', true, true, '')"],
    "the database as XML": ["select database_to_xml(true, true, '')"],
    "text search statistics": ["select * from ts_stat('select company::tsvector from ref.company')"],
    "a plan of a mart": ["explain analyze select * from marts.spend_daily"],
    "a plan of a table": ["explain select * from core.company_day"],
    "privileges": [
        "select oid::regclass from pg_class where relkind in ('r', 'v') and relnamespace::regnamespace::text in "
        "('ref', 'core', 'marts') and has_table_privilege(oid, 'select')"
    ],
    "privileges by column": [
        "select * from information_schema.column_privileges where table_schema in ('marts', 'ref')"
    ],
    "system columns": ["select tableoid, ctid from viewer.spend_daily"],
    "a sample": ["select * from viewer.spend_daily tablesample system (100)"],
    "locks on rows": ["select * from viewer.spend_daily for update"],
    "an update": ["update viewer.spend_daily set company = 'x'"],
    "a lock": ["lock table core.company_day in share mode"],
    "a statistic of one's own": ["analyze core.company_day"],
    "a sync": ["select ops.request_sync()"],
    "changes as they come": ["select pg_create_logical_replication_slot('s', 'pgoutput')"],
    "a publication": ["create publication p for all tables"],
    "sequences": ["select nextval('ref.company_company_id_seq')"],
    "the values of sequences": [
        "select last_value from pg_sequences where schemaname = 'ref' and last_value is not null"
    ],
    "a comment": ["comment on view viewer.spend_daily is 'mine'"],
    "a library": ["load 'auto_explain'"],
    "settings of the server": ["alter system set row_security = off"],
}


@pytest.fixture(scope="module")
def secrets(site: Site, viewer: psycopg.Connection) -> set[str]:
    """What a viewer of Company A must not read anywhere: names, hashes and amounts of all others, and totals."""
    told = query(
        site.engine,
        "select company from ref.company where company <> :a union all select key_hash from marts.spend_daily "
        "where company <> :a union all select trim_scale(credits_usd)::text from core.spend_daily where company <> :a "
        "union all select trim_scale(sum(credits_usd))::text from marts.company_spend_daily "
        "union all select trim_scale(sum(credits_usd))::text from marts.company_spend_daily where company <> :a",
        a=A,
    )
    own = {str(cell) for row in viewer.execute("select * from viewer.spend_daily") for cell in row}
    return {text for (text,) in told if text and text not in own and len(text) > 3}


@pytest.fixture
def busy(site: Site) -> Iterator[None]:
    """Somebody whose query names the other company, and a large object of the owner's."""
    with site.engine.connect() as connection:
        connection.exec_driver_sql(f"select lo_from_bytea(0, '{B}'), '{B}'")
        yield


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.usefixtures("busy")
def test_a_viewer_who_tries_to_see_another_company_learns_nothing(
    viewer: psycopg.Connection, secrets: set[str], attempt: str
) -> None:
    told: list[str] = []
    heard = told.append
    viewer.add_notice_handler(lambda it: heard(it.message_primary or ""))
    try:
        for statement in ATTEMPTS[attempt]:
            with viewer.cursor() as cursor:
                if statement.startswith("copy") and "stdout" in statement:
                    with cursor.copy(statement.encode()) as copied:
                        told += [bytes(it).decode() for it in copied]
                else:
                    cursor.execute(statement.encode())
                    told += [str(row) for row in cursor] if cursor.description else []
    except psycopg.Error as error:
        told += [it for it in (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint) if it]
    finally:
        viewer.rollback()
        viewer.execute("reset all")
        viewer._notice_handlers.clear()
    assert [(secret, it) for secret in secrets for it in told if secret in it] == []
    assert viewer.execute("select session_user::text, current_user::text").fetchone() == ("ada", "ada")


def test_those_attempts_are_many_and_most_are_refused(viewer: psycopg.Connection, secrets: set[str]) -> None:
    assert len(ATTEMPTS) >= 30
    assert {B, "Unattributed"} <= secrets
    assert len(secrets) > 6


@pytest.mark.parametrize("options", ["", "(verbose, costs)", "(analyze, timing off, summary off, buffers off)"])
@pytest.mark.parametrize("name", VIEWER_VIEWS)
def test_a_plan_is_the_same_for_a_company_that_exists_and_one_that_does_not(
    site: Site, viewer: psycopg.Connection, name: str, options: str
) -> None:
    with site.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("analyze")

    def plans(condition: str) -> list[str]:
        return [
            "\n".join(
                line for (line,) in viewer.execute(f"explain {options} select * from viewer.{name} {it}".encode())
            )
            for it in (
                f"where {condition}",
                f"where {condition} and credits_usd > 0",
                f"v join (values (1)) x (n) on v.{condition}",
            )
        ]

    existing, nobodys, missing = (plans(f"company = '{it}'") for it in (B, "Unattributed", "Nowhere"))
    for other, text in ((existing, B), (nobodys, "Unattributed")):
        assert [it.replace(text, "Nowhere") for it in other] == missing


# ── giving and taking ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_password_is_told_once_and_the_server_gets_its_verifier_alone(site: Site, login: str) -> None:
    log = Path(query(site.engine, "show data_directory")[0][0]).parent / "server.log"
    database = sa.make_url(site.url).database
    site.execute(f"alter database {database} set log_statement = 'all'")
    site.engine.dispose()
    done = site.orcost("reader", login)
    site.execute(f"alter database {database} reset log_statement")
    password = done.stdout.strip()
    assert len(password) >= 32
    assert password not in done.stderr
    logged = log.read_text(encoding="utf-8")
    assert f"create role {ident(login)} login" in logged
    assert password not in logged
    (stored,) = query(site.engine, "select rolpassword from pg_authid where rolname = :name", name=login)
    assert stored[0].startswith("SCRAM-SHA-256$")
    with site.connect(login, password) as session:
        assert session.execute("select count(*) from marts.spend_daily").fetchone() == (7,)
    again = site.orcost("reader", login)
    assert (again.exit_code, again.stdout) == (0, "")


def test_a_viewer_named_again_sees_the_companies_named_last(site: Site, login: str) -> None:
    password = site.give("viewer", login, "--company", A)
    with site.connect(login, password) as session:
        seen = "select distinct company from viewer.spend_daily order by 1"
        assert session.execute(seen.encode()).fetchall() == [(A,)]
        assert site.give("viewer", login, "--company", B, "--company", A, "--company", B) == ""
        assert session.execute(seen.encode()).fetchall() == [(A,), (B,)]
        site.give("viewer", login, "--company", B)
        assert session.execute(seen.encode()).fetchall() == [(B,)]
    assert {"login": login, "kind": "viewer", "companies": [B]} in site.listed()


def test_a_viewer_who_is_shown_no_cost_can_ask_for_none(site: Site, login: str) -> None:
    password = site.give("viewer", login, "--company", A)
    percent = Decimal(80)
    try:
        publish_thresholds(site.engine, percent, percent, show_cost=False)
        with site.connect(login, password) as session:
            for name in VIEWER_VIEWS:
                assert session.execute(f"select count(*) from viewer.{name}".encode()).fetchall() != [(0,)]
                with pytest.raises(psycopg.errors.UndefinedColumn):
                    session.execute(f"select credits_usd from viewer.{name}".encode())
            (charged,) = session.execute("select sum(charge_usd) from viewer.company_spend_daily").fetchall()
            assert (
                charged
                == query(site.engine, f"select sum(charge_usd) from marts.company_charge_daily where company = '{A}'")[
                    0
                ]
            )
        assert undue_rights_of(site) == []
    finally:
        publish_thresholds(site.engine, percent, percent, show_cost=True)


def undue_rights_of(site: Site) -> list[Any]:
    with site.engine.connect() as connection:
        return undue_rights(connection).rows


def test_a_reader_requests_syncs_only_while_it_may(site: Site, login: str) -> None:
    password = site.give("reader", login, "--may-sync")
    assert {"login": login, "kind": "reader", "companies": []} in site.listed()
    with site.connect(login, password) as session:
        ((number,),) = session.execute("select ops.request_sync('acme')").fetchall()
        asked = session.execute("select requested_by from ops.sync_request where id = %s", [number]).fetchall()
        assert asked == [(login,)]
        assert not tried(session, "insert into ops.sync_request (account) values ('acme')")
        site.give("reader", login)
        assert not tried(session, "select ops.request_sync('acme')")
    site.execute("delete from ops.sync_request")


def test_a_revoked_login_loses_all_at_once_and_is_gone_where_orcost_made_it(site: Site, login: str) -> None:
    password = site.give("viewer", login, "--company", A)
    session = site.connect(login, password)
    session.execute("select lo_create(0)")  # nothing that it owns keeps it
    done = site.orcost("revoke", login)
    assert done.exit_code == 0, done.exception
    with pytest.raises(psycopg.OperationalError):
        session.execute("select 1")
    assert query(site.engine, "select from pg_roles where rolname = :name", name=login) == []
    assert query(site.engine, "select from ref.viewer where login = :name", name=login) == []
    assert f"{login.replace(chr(34), chr(34))}" not in str(site.listed())
    assert "neither a reader nor a viewer" in site.refused("revoke", login)


def test_a_login_that_somebody_else_made_stays_without_rights(site: Site, login: str) -> None:
    site.execute(f"create role {ident(login)} login password 'theirs'")
    assert site.give("reader", login) == ""
    with site.connect(login, "theirs") as session:
        assert tried(session, "select * from marts.spend_daily")
    site.orcost("revoke", login)
    with site.connect(login, "theirs") as session:
        assert not tried(session, "select * from marts.spend_daily")


@pytest.mark.parametrize("kind", [("reader",), ("viewer", "--company", A)], ids=["reader", "viewer"])
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ("create role {} superuser login", "superuser"),
        ("create role {} bypassrls login", "bypassrls"),
        ("create role {} createrole login", "createrole"),
        ("create role {} replication login", "replication"),
        ("create role {} login in role pg_read_all_data", "member role pg_read_all_data"),
        ("create role {0} login; grant select on ref.company to {0}", "select table ref.company"),
        ("create role {0} login; grant select (company) on ref.company to {0}", "select (company) table ref.company"),
        ("create role {0} login; grant create on schema public to {0}", "create schema public"),
        (
            "create role {0} login; create table public.mine (x int); alter table public.mine owner to {0}",
            "owner table public.mine",
        ),
        ("create role {}", "it cannot log in"),
    ],
)
def test_a_login_that_can_do_more_is_refused_with_the_reason(
    site: Site, login: str, kind: Sequence[str], made: str, reason: str
) -> None:
    site.execute(*made.format(ident(login)).split("; "))
    for option in ((), ("--sql",)):
        told = site.refused(kind[0], login, *kind[1:], *option)
        assert f"cannot be a {kind[0]}" in told
        assert reason in told
    site.execute("drop table if exists public.mine")


def test_what_cannot_be_given_is_refused_with_the_reason(site: Site, login: str) -> None:
    assert 'No company is called "Compny A". Near: "Company A"' in site.refused(
        "viewer", login, "--company", "Compny A"
    )
    assert "no viewer sees it" in site.refused("viewer", login, "--company", "Unattributed")
    assert "it owns the warehouse" in site.refused("reader", "orcost")
    assert "reserved" in site.refused("reader", "pg_monitor")
    assert "printable" in site.refused("reader", "x" * 64)
    site.give("viewer", login, "--company", A)
    assert "is a viewer, and no login is both" in site.refused("reader", login)


def test_a_viewer_is_refused_where_everybody_can_do_more(site: Site, login: str) -> None:
    site.execute("grant select on marts.spend_daily to public", "grant create on schema public to public")
    try:
        told = site.refused("viewer", login, "--company", A)
        assert "public create schema public\n  public select table marts.spend_daily" in told
        assert "revoke create on schema public from public" in told
        assert query(site.engine, "select from pg_roles where rolname = :name", name=login) == []
        done = site.orcost("reader", login)
        assert done.exit_code == 0
        assert "revoke create on schema public from public" in done.stderr
    finally:
        site.execute("revoke select on marts.spend_daily from public", "revoke create on schema public from public")


STATE = (
    "select r.rolname, r.rolcanlogin, r.rolpassword like 'SCRAM%', shobj_description(r.oid, 'pg_authid') "
    "from pg_authid r where rolname = :name "
    "union all select g.rolname, m.inherit_option, m.set_option, null from pg_auth_members m "
    "join pg_roles g on g.oid = m.roleid join pg_roles r on r.oid = m.member where r.rolname = :name "
    "union all select v.company, null, null, null from ref.viewer v where v.login = :name order by 1"
)
GRANTED = "select oid::regclass::text, relacl::text from pg_class where relacl is not null order by 1"


@pytest.mark.parametrize(
    "arguments", [("reader",), ("reader", "--may-sync"), ("viewer", "--company", A, "--company", B)]
)
def test_printed_statements_have_the_effect_of_the_command(site: Site, login: str, arguments: Sequence[str]) -> None:
    kind, *options = arguments
    site.give(kind, login, *options)
    direct, granted = query(site.engine, STATE, name=login), query(site.engine, GRANTED)
    printed = site.orcost("revoke", login, "--sql").stdout
    assert query(site.engine, STATE, name=login) == direct
    at = sa.make_url(site.url)
    administrator = site.connect(at.username or "", at.password or "")
    administrator.execute(printed.encode())
    assert query(site.engine, STATE, name=login) == []
    done = site.orcost(kind, login, *options, "--sql")
    assert query(site.engine, STATE, name=login) == []
    administrator.execute(done.stdout.encode())
    assert (query(site.engine, STATE, name=login), query(site.engine, GRANTED)) == (direct, granted)
    password = done.stderr.strip().rpartition(" ")[2]
    assert password not in done.stdout
    site.connect(login, password).close()
    administrator.close()


# ── upgrades ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_what_an_upgrade_adds_or_makes_anew_is_open_to_those_it_is_for(
    postgres_url: str,
    tmp_path: Path,
    files: Files,  # noqa: F811
) -> None:
    with readable(postgres_url, tmp_path) as other:
        viewer = other.connect("may", other.give("viewer", "may", "--company", A))
        reader = other.connect("ray", other.give("reader", "ray"))
        files.add("view", "marts.new", "create or replace view marts.new as select 1 as day")
        definer = "language sql security definer set search_path = pg_catalog, pg_temp"
        files.add("function", "marts.f", f"create or replace function marts.f() returns int {definer} as 'select 1'")
        files.add("view", "viewer.new", "create or replace view viewer.new with (security_barrier) as select 1 as day")
        # Another type: the view, and the viewers' view on it, are dropped and made again.
        files.edit("marts.company_spend_daily", ("s.day, c.company", "s.day::timestamp as day, c.company"))
        files.apply(other.engine)
        assert all(tried(reader, it) for it in ("select * from marts.new", "select marts.f()"))
        assert not tried(reader, "select * from viewer.company_spend_daily")
        assert viewer.execute("select distinct company from viewer.company_spend_daily").fetchall() == [(A,)]
        assert tried(viewer, "select * from viewer.new")
        assert not tried(viewer, "select * from marts.new")
        with other.engine.connect() as connection:
            assert undue_rights(connection).rows == []
        for login in ("may", "ray"):
            assert other.orcost("revoke", login).exit_code == 0


def test_a_database_that_uses_no_role_of_the_server_opens_to_none(
    site: Site, engine: sa.Engine, reader: object
) -> None:
    """The roles are the server's; another warehouse's readers are none of this one."""
    with engine.connect() as connection:
        assert undue_rights(connection).rows == []
    assert query(engine, "select has_schema_privilege('rex', 'marts', 'usage')") == [(False,)]
    execute = "select count(*) from pg_proc where pronamespace::regnamespace::text = any(:schemas) "
    public = "and has_function_privilege('public', oid, 'execute')"
    assert query(engine, execute + public, schemas=list(OURS)) == [(0,)]


# ── the guard ────────────────────────────────────────────────────────────────────────────────────────────────────────

TAMPERING = {
    "grant temporary on database {db} to public": ("public", "temporary", "database {db}"),
    "grant create on database {db} to ada": ("ada", "create", "database {db}"),
    "grant create on schema viewer to orcost_viewer": ("orcost_viewer", "create", "schema viewer"),
    "grant usage on schema marts to public": ("public", "usage", "schema marts"),
    "grant select on marts.spend_daily to orcost_viewer": ("orcost_viewer", "select", "table marts.spend_daily"),
    "grant select (company) on ref.company to ada": ("ada", "select (company)", "table ref.company"),
    "grant insert on ref.viewer to orcost_reader": ("orcost_reader", "insert", "table ref.viewer"),
    "grant select on raw.api_key to rex": ("rex", "select", "table raw.api_key"),
    "grant usage on sequence ref.company_company_id_seq to ada": (
        "ada",
        "usage",
        "sequence ref.company_company_id_seq",
    ),
    "grant execute on function ops.request_sync(text, date) to public": (
        *("public", "execute", "function ops.request_sync(text,date)"),
    ),
    "grant execute on function pg_read_file(text) to ada": ("ada", "execute", "function pg_read_file(text)"),
    "grant orcost_reader to ada": ("ada", "member", "role orcost_reader"),
    "grant pg_read_all_data to rex": ("rex", "member", "role pg_read_all_data"),
    "grant pg_read_all_data to orcost_viewer": ("orcost_viewer", "member", "role pg_read_all_data"),
    "alter role ada superuser": ("ada", "superuser", ""),
    "create view public.costs as select * from marts.spend_daily; grant select on public.costs to public": (
        *("public", "select", "table public.costs"),
    ),
    "create function public.f() returns int language sql security definer as 'select 1'": (
        *("public", "execute", "function public.f()"),
    ),
    "create view viewer.more as select * from marts.spend_daily; grant select on viewer.more to orcost_viewer": (
        *("orcost_viewer", "select", "table viewer.more"),
    ),
    "alter view viewer.spend_daily reset (security_barrier)": (
        *("orcost_viewer", "select without security_barrier", "table viewer.spend_daily"),
    ),
    "alter view viewer.spend_daily owner to ada": ("ada", "owner", "table viewer.spend_daily"),
}


@pytest.mark.parametrize("tampering", TAMPERING)
@pytest.mark.usefixtures("viewer", "reader")
def test_the_guard_names_what_somebody_can_do_and_should_not(site: Site, tampering: str) -> None:
    database = str(sa.make_url(site.url).database)
    with site.engine.connect() as connection:
        assert undue_rights(connection).rows == []
        connection.exec_driver_sql(tampering.format(db=database))
        found = [tuple(row.values()) for row in undue_rights(connection).rows]
        connection.rollback()
    expected = tuple(it.format(db=database) for it in TAMPERING[tampering])
    assert expected in found


@pytest.mark.usefixtures("viewer")
def test_what_the_guard_finds_is_told_by_dagster_and_by_doctor(site: Site) -> None:
    key = dg.AssetCheckKey(dg.AssetKey(["marts", "spend_daily"]), "rights_are_as_granted")
    with site.engine.connect() as connection:
        assert business_check(connection, key, "acme", load_settings(), NOON).passed
        assert not [*access_findings(differing_rights(connection))]
        connection.exec_driver_sql("grant usage on schema marts to ada")
        result = business_check(connection, key, "acme", load_settings(), NOON)
        (finding,) = access_findings(differing_rights(connection))
        connection.rollback()
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "1 right beyond what orcost access gives" in str(result.description)
    assert finding.message.endswith(": ada usage schema marts.")
    assert finding.todo == "revoke usage on schema marts from ada"


# ── who may give rights ──────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def owned(admin_url: str, folder: Path, *attributes: str) -> Iterator[Site]:
    """A warehouse whose owner is no superuser and has these attributes, in a database that is the owner's."""
    owner, database = f"o_{uuid.uuid4().hex[:8]}", sa.make_url(admin_url).database
    with connect(admin_url).begin() as connection:
        connection.exec_driver_sql(f"create role {owner} login password 'x' {' '.join(attributes)}")
        connection.exec_driver_sql(f"alter database {database} owner to {owner}")
    url = sa.make_url(admin_url).set(username=owner, password="x").render_as_string(hide_password=False)
    engine = connect(url)
    migrate(engine)
    made = Site(url, engine, folder)
    made.execute(f"insert into ref.company (company) values ('{A}'), ('{B}')")
    yield made
    engine.dispose()


@pytest.mark.slow
def test_an_owner_who_may_make_no_roles_is_told_what_to_run(
    empty_url: str, site: Site, tmp_path: Path, login: str
) -> None:
    with owned(empty_url, tmp_path) as theirs:
        told = theirs.refused("viewer", login, "--company", A)
        assert "The database's user may not do this: permission denied to create role. Nothing was changed." in told
        assert "Let an administrator run what --sql prints, in psql" in told
        printed = theirs.orcost("viewer", login, "--company", A, "--sql")
        at = sa.make_url(empty_url)
        with psycopg.connect(at.set(drivername="postgresql").render_as_string(hide_password=False)) as administrator:
            administrator.execute(printed.stdout.encode())
        assert theirs.listed() == [{"login": login, "kind": "viewer", "companies": [A]}]
        with theirs.connect(login, printed.stderr.strip().rpartition(" ")[2]) as session:
            assert session.execute("select * from viewer.spend_daily").fetchall() == []
            assert not tried(session, "create temporary table t (x int)")
        theirs.execute("create temporary table t (x int) on commit drop")
        assert "Let an administrator run what --sql prints" in theirs.refused("revoke", login)
        with psycopg.connect(at.set(drivername="postgresql").render_as_string(hide_password=False)) as administrator:
            administrator.execute(theirs.orcost("revoke", login, "--sql").stdout.encode())
        assert theirs.listed() == []


@pytest.mark.slow
@pytest.mark.parametrize("major", [15, 18])
def test_an_owner_who_may_make_roles_needs_no_superuser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, major: int
) -> None:
    programs = [it for it in Programs.installed() if it.major == major]
    if not programs:
        pytest.skip(f"Postgres {major} is not installed")
    monkeypatch.setattr(Programs, "installed", lambda *_: iter(programs))
    home = Path(tempfile.mkdtemp(prefix="orcost-access-"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home)
    try:
        with owned(server.start(), tmp_path, "createrole") as theirs:
            session = theirs.connect("ada", theirs.give("viewer", "ada", "--company", A))
            assert session.execute("select * from viewer.spend_daily").fetchall() == []
            assert not tried(session, "create temporary table t (x int)")
            assert not tried(session, "select * from marts.spend_daily")
            # A member can become the role before Postgres 16: it has no more rights, and sees no more.
            assert tried(session, "set role orcost_viewer") == (major < 16)
            assert not tried(session, "select * from marts.spend_daily")
            with theirs.connect("rex", theirs.give("reader", "rex", "--may-sync")) as reader:
                assert tried(reader, "select ops.request_sync()")
                assert tried(reader, "select * from marts.spend_daily")
            with theirs.engine.connect() as connection:
                assert undue_rights(connection).rows == []
            assert theirs.give("viewer", "ada", "--company", B) == ""
            for login in ("ada", "rex"):
                assert theirs.orcost("revoke", login).exit_code == 0
            with pytest.raises(psycopg.OperationalError):
                session.execute("select 1")
            assert theirs.listed() == []
            assert query(theirs.engine, "select from pg_roles where rolname in ('ada', 'rex')") == []
    finally:
        server.stop()
        shutil.rmtree(home)
