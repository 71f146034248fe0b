"""Views, functions and comments are what their files say, in new and old warehouses, whatever users built on them."""

import hashlib
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from orcost_pipeline.errors import PermanentError, TransientError
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.failures import database_errors
from orcost_pipeline.warehouse.opening import open_warehouse
from orcost_pipeline.warehouse.schema.declared import FOLDER, DeclaredSchema, declared_schema
from orcost_pipeline.warehouse.schema.record import is_applied
from orcost_pipeline.warehouse.schema.replacement import Patience
from orcost_pipeline.warehouse.schema.upgrade import MIGRATIONS, migrate
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.test_upgrade import oldest  # noqa: F401 (a fixture)
from orcost_pipeline_tests.world import query

SCHEMAS = ["raw", "ref", "core", "marts", "viewer", "ops"]
DAILY = "marts.company_spend_daily"
PERIODS = "core.rolling_start"
# Once and for all: warehouses were made by these.
RELEASED = "a8019854acd7ed51e6880b45f786cfdb344c44dafcd66eccbdbc4c93a87c6d5a"
QUICK = Patience(lock_seconds=1, tries=2)


class Files(NamedTuple):
    """A copy of the schema's files, to edit."""

    folder: Path

    def path(self, name: str) -> Path:
        (path,) = (it for kind in ("views", "functions") for it in (self.folder / kind).glob(f"{name}.sql"))
        return path

    def edit(self, name: str, *changes: tuple[str, str]) -> None:
        text = self.path(name).read_text(encoding="utf-8")
        for before, after in changes:
            assert text.count(before) == 1, f"{name} has changed: this test edits its line {before!r}"
            text = text.replace(before, after)
        self.path(name).write_text(text, encoding="utf-8")

    def add(self, kind: str, name: str, sql: str) -> None:
        (self.folder / f"{kind}s" / f"{name}.sql").write_text(f"-- Added.\n{sql};\n", encoding="utf-8")

    def remove(self, name: str) -> None:
        self.path(name).unlink()

    def schema(self) -> DeclaredSchema:
        """As the files are now; a column that no sentence is for is called new."""
        schema = declared_schema.__wrapped__(self.folder)
        return replace(schema, comments=schema.comments._replace(columns={"new": "New.", **schema.comments.columns}))

    def apply(self, engine: sa.Engine, patience: Patience = QUICK) -> None:
        migrate(engine, schema=self.schema(), patience=patience)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    for kind in ("views", "functions"):
        shutil.copytree(FOLDER / kind, tmp_path / "schema" / kind)
    return Files(tmp_path / "schema")


def execute(engine: sa.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.fixture
def role(engine: sa.Engine) -> Iterator[str]:
    name = f"r_{uuid.uuid4().hex}"
    execute(engine, f"create role {name}")
    yield name
    execute(engine, f"reassign owned by {name} to current_user", f"drop owned by {name} cascade", f"drop role {name}")


# ── the same in every warehouse ──────────────────────────────────────────────────────────────────────────────────────

CATALOGUE = {
    "relations": "select c.oid::regclass::text, c.relkind::text, c.reloptions from pg_class c where c.relkind <> 't' "
    "and c.relnamespace::regnamespace::text = any(:schemas) order by 1",
    # Columns that came later stand last in a table: readers name columns.
    "columns of tables": "select c.oid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, "
    "pg_get_expr(d.adbin, d.adrelid) from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 "
    "and not a.attisdropped left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum "
    "where c.relkind = 'r' and c.relnamespace::regnamespace::text = any(:schemas) order by 1, 2",
    "columns of views": "select c.oid::regclass::text, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod) "
    "from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 "
    "where c.relkind = 'v' and c.relnamespace::regnamespace::text = any(:schemas) order by 1, 2",
    "views": "select c.oid::regclass::text, pg_get_viewdef(c.oid) from pg_class c "
    "where c.relkind = 'v' and c.relnamespace::regnamespace::text = any(:schemas) order by 1",
    "functions": "select pg_get_functiondef(oid) from pg_proc "
    "where pronamespace::regnamespace::text = any(:schemas) order by 1",
    "constraints": "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint "
    "where connamespace::regnamespace::text = any(:schemas) order by 1, 2",
    "indexes": "select tablename, indexname, indexdef from pg_indexes where schemaname = any(:schemas) order by 1, 2",
    "comments": "select i.type, i.identity, d.description from pg_description d "
    "cross join lateral pg_identify_object(d.classoid, d.objoid, d.objsubid) i "
    "where i.schema = any(:schemas) or i.identity = any(:schemas) order by 1, 2",
    "record": "select name, content_sha256, arguments from ops.schema_object order by name",
}


@pytest.mark.parametrize("aspect", sampled(CATALOGUE, 2))
def test_a_warehouse_of_the_oldest_version_becomes_what_a_new_one_is(
    oldest: sa.Engine,  # noqa: F811
    engine: sa.Engine,
    aspect: str,
) -> None:
    migrate(oldest)
    upgraded, fresh = (query(it, CATALOGUE[aspect], schemas=SCHEMAS) for it in (oldest, engine))
    assert upgraded == fresh
    assert len(fresh) >= 7
    assert query(oldest, "select count(*) > 0 from marts.company_spend_daily") == [(True,)]


def test_every_view_and_function_has_a_file_and_no_file_is_of_another(engine: sa.Engine) -> None:
    views = "select c.oid::regclass::text from pg_class c where c.relkind in ('v', 'm') "
    views = query(engine, views + "and c.relnamespace::regnamespace::text = any(:schemas)", schemas=SCHEMAS)
    functions = "select pronamespace::regnamespace || '.' || proname from pg_proc "
    functions = query(engine, functions + "where pronamespace::regnamespace::text = any(:schemas)", schemas=SCHEMAS)
    for kind, there in (("views", views), ("functions", functions)):
        assert sorted(path.stem for path in (FOLDER / kind).iterdir()) == sorted(name for (name,) in there)


def test_views_and_functions_are_made_after_those_that_they_use() -> None:
    names = [it.name for it in declared_schema().objects]
    assert names.index("core.rolling_start") < names.index("core.rolling_span") < names.index("marts.key_spend_rolling")
    assert names.index("core.unkeyed_day") < names.index("marts.reconciliation_daily")
    assert names.index("core.tolerated_usd") < names.index("core.agrees")


def test_a_file_that_does_not_hold_what_it_is_called_is_refused(files: Files) -> None:
    files.add("view", "marts.other", "create or replace view marts.another as select 1 as day")
    with pytest.raises(
        ValueError, match=r"marts\.other\.sql must be a comment, then: create or replace view marts\.other"
    ):
        files.schema()


# ── migrations ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_released_migrations_stay_as_they_are() -> None:
    digest = hashlib.sha256()
    for path in sorted((MIGRATIONS / "versions").glob("*.sql")):
        if path.name < "0014":
            digest.update(path.read_bytes())
    assert digest.hexdigest() == RELEASED


def test_migrations_from_now_on_make_tables_only() -> None:
    for path in sorted((MIGRATIONS / "versions").iterdir()):
        if path.name >= "0014" and path.is_file():
            assert not makes_views(path.read_text(encoding="utf-8")), path.name
    assert makes_views((MIGRATIONS / "versions" / "0013_counted_spans.sql").read_text(encoding="utf-8"))


def makes_views(text: str) -> bool:
    code = "\n".join(line.partition("--")[0] for line in text.lower().splitlines())
    words = code.replace("or replace", "").replace("materialized", "").split()
    return not {("create", "view"), ("create", "function")}.isdisjoint(pairwise(words))


# ── what changed reaches a warehouse ─────────────────────────────────────────────────────────────────────────────────


def shown(engine: sa.Engine, view: str) -> list[str]:
    statement = (
        "select attname from pg_attribute where attrelid = cast(:view as regclass) and attnum > 0 order by attnum"
    )
    return [name for (name,) in query(engine, statement, view=view)]


# A column that no view of ours uses.
SPAN = ("coalesce(s.end_at, r.start_at) as start_at,", "coalesce(s.end_at, r.start_at) as new,")
APPENDED = ("c.owner_email\n", "c.owner_email, 1 as new\n")


def test_an_edited_view_and_an_edited_sentence_reach_a_warehouse_that_is_there(engine: sa.Engine, files: Files) -> None:
    before = query(engine, "select name, applied_at from ops.schema_object order by 1")
    files.edit(DAILY, APPENDED, ("UTC day and company", "day and company"))
    files.edit(PERIODS, ("interval '23 hours'", "interval '22 hours'"))
    files.apply(engine)
    assert shown(engine, DAILY)[-1] == "new"
    comment = "select obj_description('marts.company_spend_daily'::regclass), col_description(cast(:v as regclass), :n)"
    assert query(engine, comment, v=DAILY, n=len(shown(engine, DAILY))) == [
        ("One row per account, day and company: spend.", "New.")
    ]
    assert query(engine, "select core.rolling_start('24h', '2026-11-23 12:30Z')::text") == [("2026-11-22 14:00:00+00",)]
    after = query(engine, "select name, applied_at from ops.schema_object order by 1")
    changed = {name for (name, at), (_, now) in zip(before, after, strict=True) if at != now}
    assert changed == {DAILY, PERIODS, "comments"}


def test_a_sentence_alone_replaces_no_view(engine: sa.Engine, files: Files, database_url: str) -> None:
    files.edit(DAILY, ("UTC day and company", "day and company"))
    with held(database_url, DAILY):
        files.apply(engine)
    assert "day and company" in query(engine, "select obj_description('marts.company_spend_daily'::regclass)")[0][0]


def test_a_new_view_and_a_new_function_are_made_with_what_they_use(engine: sa.Engine, files: Files) -> None:
    files.add("view", "marts.a_first", "create or replace view marts.a_first as select core.z_last() as new")
    files.add(
        "function", "core.z_last", "create or replace function core.z_last() returns integer language sql as 'select 7'"
    )
    files.apply(engine)
    assert query(engine, "select new from marts.a_first") == [(7,)]


def test_opening_a_warehouse_brings_edited_files_and_an_unchanged_one_is_left_alone(
    database_url: str, engine: sa.Engine, tmp_path: Path
) -> None:
    execute(
        engine, "update ops.schema_object set content_sha256 = 'of before' where name = 'marts.company_spend_daily'"
    )
    execute(
        engine,
        "create or replace view marts.company_spend_daily as "
        + definition(engine).replace("a.as_of", "null::timestamptz as as_of"),
    )
    assert "NULL" in definition(engine)
    open_warehouse(database_url, tmp_path).dispose()
    assert "NULL" not in definition(engine)
    with engine.connect() as connection:
        assert is_applied(connection, declared_schema())


def definition(engine: sa.Engine) -> str:
    return query(engine, "select pg_get_viewdef('marts.company_spend_daily'::regclass)")[0][0]


@contextmanager
def held(url: str, view: str) -> Iterator[int]:
    """A query over the view that does not end, by a BI tool; yields its session."""
    engine = connect(f"{url}?application_name=metabase")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"select count(*) from {view}")
            yield connection.exec_driver_sql("select pg_backend_pid()").scalar_one()
    finally:
        engine.dispose()


def test_an_unchanged_warehouse_waits_for_no_query(engine: sa.Engine, files: Files, database_url: str) -> None:
    versions = "select oid::text, xmin::text, ctid::text from pg_class where relkind = 'v' order by 1"
    before = query(engine, versions), query(engine, "select * from ops.schema_object order by name")
    with held(database_url, DAILY):
        migrate(engine, schema=declared_schema(files.folder), patience=QUICK)
    assert (query(engine, versions), query(engine, "select * from ops.schema_object order by name")) == before


@pytest.mark.slow
def test_a_long_query_is_named_in_bounded_time_and_nothing_is_half_done(
    engine: sa.Engine, files: Files, database_url: str
) -> None:
    files.edit(PERIODS, ("interval '23 hours'", "interval '22 hours'"))
    files.edit(DAILY, APPENDED)
    began = time.monotonic()
    with held(database_url, DAILY) as session:
        with pytest.raises(TransientError) as caught:
            files.apply(engine)
        assert time.monotonic() - began < 10
    told = str(caught.value)
    assert "its relations cannot be changed while another session uses them" in told
    assert f"Locked: marts.company_spend_daily by session {session} of user orcost (metabase) since 20" in told
    assert "23:00" in query(engine, "select core.rolling_start('24h', '2026-11-23 22:30Z')::text")[0][0]
    files.apply(engine)
    assert shown(engine, DAILY)[-1] == "new"


@pytest.mark.slow
def test_who_holds_a_view_that_uses_the_changed_one_is_named(engine: sa.Engine, files: Files) -> None:
    files.edit("core.rolling_span", SPAN)
    with engine.connect() as other:
        other.exec_driver_sql("comment on view marts.key_spend_rolling is 'not committed'")
        with pytest.raises(TransientError, match=r"Locked: marts\.key_spend_rolling by session"):
            files.apply(engine)
    files.apply(engine)
    assert "new" in shown(engine, "core.rolling_span")


@pytest.mark.slow
def test_tables_and_views_are_upgraded_together_or_not_at_all(
    oldest: sa.Engine,  # noqa: F811
    empty_url: str,
) -> None:
    migrate(oldest, "0013")
    with held(empty_url, "marts.unattributed_spend"), pytest.raises(TransientError, match=r"Locked: "):
        migrate(oldest, patience=QUICK)
    assert query(oldest, "select version_num, to_regclass('ops.schema_object')::text from ops.schema_version") == [
        ("0013", None)
    ]
    migrate(oldest)
    assert query(oldest, "select version_num > '0013' from ops.schema_version") == [(True,)]


# ── what users granted and built ─────────────────────────────────────────────────────────────────────────────────────

RIGHTS = (
    "select pg_get_userbyid(c.relowner)::text, array(select x::text from aclexplode(c.relacl) x order by 1), "
    "array(select attname || a.attacl::text from pg_attribute a where a.attrelid = c.oid and a.attacl is not null) "
    "from pg_class c where c.oid = 'marts.company_spend_daily'::regclass"
)
RETYPED = ("d.is_settled, a.as_of", "d.is_settled::text as is_settled, a.as_of")
RENAMED = ("a.as_of,\n", "a.as_of as new,\n")
REMOVED = (
    "    c.display_name, c.external_id, c.cost_centre, c.owner_email\n",
    "    c.display_name, c.external_id, c.cost_centre\n",
)


def test_an_appended_column_keeps_grants_and_a_users_view(engine: sa.Engine, files: Files, role: str) -> None:
    execute(engine, f"grant select on {DAILY} to {role}", f"create view public.theirs as select * from {DAILY}")
    before = query(engine, RIGHTS)
    files.edit(DAILY, APPENDED)
    files.apply(engine)
    assert query(engine, RIGHTS) == before
    assert shown(engine, "public.theirs")


@pytest.mark.parametrize("change", [RETYPED, RENAMED, REMOVED], ids=["retyped", "renamed", "removed"])
def test_a_view_that_is_made_again_keeps_owner_grants_and_comments(
    engine: sa.Engine, files: Files, role: str, change: tuple[str, str]
) -> None:
    execute(
        engine,
        f"grant select on {DAILY} to {role} with grant option",
        f"grant select (day), update (company) on {DAILY} to {role}",
        f"revoke all on {DAILY} from current_user",
        f"grant insert, select on {DAILY} to public",
        f"grant usage, create on schema marts to {role}",
        f"alter view {DAILY} owner to {role}",
        # Given to every new view, and taken from this one.
        "alter default privileges in schema marts grant delete on tables to public",
    )
    if change is not RETYPED:
        files.remove("viewer.company_spend_daily")  # which shows the column
    before = query(engine, RIGHTS)
    columns = shown(engine, DAILY)
    files.edit(DAILY, change)
    files.apply(engine)
    assert query(engine, RIGHTS) == before
    assert (shown(engine, DAILY) != columns) == (change is not RETYPED)
    assert query(engine, "select obj_description('marts.company_spend_daily'::regclass) is null") == [(False,)]


def test_views_of_ours_that_use_one_that_is_made_again_are_made_again_with_their_rights(
    engine: sa.Engine, files: Files, role: str
) -> None:
    execute(engine, f"grant select on marts.key_spend_rolling to {role}")
    files.edit("core.rolling_span", SPAN)
    files.apply(engine)
    assert "new" in shown(engine, "core.rolling_span")
    assert query(engine, f"select has_table_privilege('{role}', 'marts.key_spend_rolling', 'select')") == [(True,)]
    assert query(engine, "select count(*) from marts.company_spend_rolling") == [(0,)]


BUILT = {
    "view public.theirs": (f"create view public.theirs as select * from {DAILY}",),
    "materialized view marts.theirs": (
        f"create materialized view marts.theirs as select day from {DAILY}",
        "create index on marts.theirs (day)",
    ),
    f"function public.theirs({DAILY})": (
        f"create function public.theirs({DAILY}) returns int language sql as 'select 1'",
    ),
    "table column public.theirs.it": (f"create table public.theirs (it {DAILY})",),
    f"trigger theirs on {DAILY}": (
        "create function public.f() returns trigger language plpgsql as 'begin return null; end'",
        f"create trigger theirs instead of insert on {DAILY} for each row execute function public.f()",
    ),
    f"rule theirs on {DAILY}": (f"create rule theirs as on insert to {DAILY} do instead nothing",),
}


@pytest.mark.parametrize("named", BUILT)
def test_what_a_user_built_on_a_view_is_named_and_nothing_changes(engine: sa.Engine, files: Files, named: str) -> None:
    execute(engine, *BUILT[named])
    files.edit(DAILY, RETYPED)
    files.edit(PERIODS, ("interval '23 hours'", "interval '22 hours'"))
    before = {name: query(engine, statement, schemas=SCHEMAS) for name, statement in CATALOGUE.items()}
    with pytest.raises(PermanentError) as caught:
        files.apply(engine)
    assert str(caught.value) == (
        f"The view {DAILY} has to be dropped, but others depend on it: {named}. Nothing was changed.\n"
        "Drop those, run orcost db migrate, and create them again."
    )
    assert {name: query(engine, statement, schemas=SCHEMAS) for name, statement in CATALOGUE.items()} == before


def test_what_a_user_built_on_a_view_that_stands_on_the_changed_one_is_named(engine: sa.Engine, files: Files) -> None:
    execute(
        engine,
        "create view public.theirs as select day from marts.unkeyed_spend_daily",
        "create view public.on_it as select * from public.theirs",
    )
    files.edit("core.unkeyed_day", ("'UTC')::date as day", "'UTC')::timestamp as day"))
    with pytest.raises(PermanentError, match=r"others depend on it: view public\.on_it, view public\.theirs\. Nothing"):
        files.apply(engine)


def test_what_users_put_into_our_schemas_is_left_alone(engine: sa.Engine, files: Files) -> None:
    execute(
        engine,
        "create view marts.theirs as select 1 as one",
        "create function core.agrees(text) returns text language sql as 'select $1'",
        "comment on function core.agrees(text) is 'Theirs.'",
    )
    files.edit("core.agrees", ("coalesce(usd, 0)", "coalesce(usd, 0.0)"))
    files.apply(engine)
    assert query(engine, "select one, core.agrees('x') from marts.theirs") == [(1, "x")]
    assert query(engine, "select obj_description('core.agrees(text)'::regprocedure)") == [("Theirs.",)]


@pytest.mark.parametrize(
    ("kind", "statement", "file"),
    [
        ("view", "create view marts.taken as select 1 as day", "create or replace view marts.taken as select 2 as day"),
        ("view", "create table marts.taken (day int)", "create or replace view marts.taken as select 2 as day"),
        *(
            (
                "function",
                f"create function marts.taken() returns {result} language sql as 'select null::{result}'",
                "create or replace function marts.taken() returns text language sql as 'select null'",
            )
            for result in ("text", "date")
        ),
    ],
)
def test_what_a_user_made_under_a_name_that_becomes_ours_is_not_replaced(
    engine: sa.Engine, files: Files, kind: str, statement: str, file: str
) -> None:
    execute(engine, statement)
    files.add(kind, "marts.taken", file)
    with pytest.raises(PermanentError, match=rf"the {kind} marts\.taken exists already, and orcost did not make it"):
        files.apply(engine)


# ── functions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def executable(engine: sa.Engine, role: str, function: str) -> bool:
    return query(engine, f"select has_function_privilege('{role}', '{function}', 'execute')")[0][0]


@pytest.mark.parametrize(
    ("changes", "signature"),
    [
        ([("returns timestamptz language", "returns timestamp language")], "core.rolling_start(text, timestamptz)"),
        (
            [("period text, as_of", "a_period text, as_of"), ("case period", "case a_period")],
            "core.rolling_start(text, timestamptz)",
        ),
        (
            [("as_of timestamptz)", "as_of timestamptz, spare text default null)")],
            "core.rolling_start(text, timestamptz, text)",
        ),
    ],
    ids=["result", "names", "arguments"],
)
def test_a_function_that_changes_its_shape_is_one_function_and_keeps_its_rights(
    engine: sa.Engine, files: Files, role: str, changes: list[tuple[str, str]], signature: str
) -> None:
    execute(
        engine,
        "revoke execute on function core.rolling_start from public",
        f"grant execute on function core.rolling_start to {role}",
    )
    other = f"other_{role}"
    execute(engine, f"create role {other}")
    try:
        files.edit(PERIODS, *changes)
        if "timestamp language" in changes[0][1]:
            files.edit(
                "core.rolling_span",
                ("core.rolling_start(p.period, a.as_of) as", "core.rolling_start(p.period, a.as_of)::timestamptz as"),
            )
        files.apply(engine)
        there = "select oid = cast(:s as regprocedure) from pg_proc where proname = 'rolling_start'"
        assert query(engine, there, s=signature) == [(True,)]
        assert executable(engine, role, signature)
        assert not executable(engine, other, signature)
        assert query(engine, "select count(*) from marts.company_spend_rolling") == [(0,)]
    finally:
        execute(engine, f"drop role {other}")


def test_a_function_that_a_users_view_calls_is_not_dropped(engine: sa.Engine, files: Files) -> None:
    execute(engine, "create view public.theirs as select core.rolling_start('24h', now())")
    files.edit(PERIODS, ("as_of timestamptz)", "as_of timestamptz, spare text default null)"))
    with pytest.raises(
        PermanentError,
        match=r"^The function core\.rolling_start\(text, timestamp with time zone\) has to be dropped, "
        r"but others depend on it: view public\.theirs\.",
    ):
        files.apply(engine)


# ── what has no file any more ────────────────────────────────────────────────────────────────────────────────────────


def test_what_has_no_file_any_more_is_dropped_and_forgotten(engine: sa.Engine, files: Files) -> None:
    """With what uses it, in whichever order: an edited view may have stopped using it."""
    for name in ("marts.unkeyed_spend_daily", "core.agrees", "core.unkeyed_day", "marts.creator_spend_daily"):
        files.remove(name)
    files.edit(
        "core.reconciled_day",
        (
            "from core.unkeyed_day",
            "from (values (1, null::date, '', 0, 0)) as u (account_id, day, cause, credits_usd, byok_usd)",
        ),
    )
    files.apply(engine)
    names = "'marts.unkeyed_spend_daily', 'marts.creator_spend_daily', 'core.unkeyed_day', 'core.agrees'"
    there = (
        f"select name from unnest(array[{names}]) as name where to_regclass(name) is not null or to_regproc(name) > 0"
    )
    assert query(engine, there) == []
    names = {name for (name,) in query(engine, "select name from ops.schema_object")}
    assert names == files.schema().fingerprints().keys()
    assert query(engine, "select count(*) from marts.reconciliation_daily") == [(0,)]


def test_what_has_no_file_any_more_goes_with_what_it_uses_where_that_is_made_again(
    engine: sa.Engine, files: Files
) -> None:
    files.remove("marts.unkeyed_spend_daily")
    files.edit("core.unkeyed_day", ("'UTC')::date as day", "'UTC')::timestamp as day"))
    files.apply(engine)
    names = query(engine, "select name from ops.schema_object where name like '%.unkeyed%'")
    assert names == [("core.unkeyed_day",)]
    assert query(engine, "select to_regclass('marts.unkeyed_spend_daily')::text") == [(None,)]


def test_what_has_no_file_any_more_stays_while_a_users_view_stands_on_it(engine: sa.Engine, files: Files) -> None:
    execute(engine, "create view public.theirs as select day from marts.unkeyed_spend_daily")
    files.remove("marts.unkeyed_spend_daily")
    with pytest.raises(
        PermanentError, match=r"The view marts\.unkeyed_spend_daily has to be dropped, .*: view public\.theirs\."
    ):
        files.apply(engine)
    execute(engine, "drop view public.theirs")
    files.apply(engine)
    assert query(engine, "select to_regclass('marts.unkeyed_spend_daily')::text") == [(None,)]


def test_a_view_that_a_user_made_under_a_name_that_was_ours_is_left_alone(engine: sa.Engine, files: Files) -> None:
    files.remove("marts.unkeyed_spend_daily")
    files.apply(engine)
    execute(engine, "create view marts.unkeyed_spend_daily as select 1 as one")
    files.apply(engine)
    assert query(engine, "select one from marts.unkeyed_spend_daily") == [(1,)]


def test_a_view_that_a_migration_drops_comes_back_with_its_rights(engine: sa.Engine, role: str) -> None:
    """As one does that changes the type of a column: a column that a view shows cannot change."""
    execute(engine, f"grant select on {DAILY} to {role}")
    before = query(engine, RIGHTS)
    versions: list[str] = []

    def drop(connection: sa.Connection, cursor: Any, statement: str, *_: Any) -> None:
        # Where a migration would run: Alembic has just asked for the version.
        if "schema_version" in statement and not versions:
            versions.append(statement)
            connection.exec_driver_sql(f"drop view viewer.company_spend_daily, {DAILY}")

    sa.event.listen(engine, "after_cursor_execute", drop)
    migrate(engine, patience=QUICK)
    assert versions
    assert query(engine, RIGHTS) == before


def test_errors_of_a_file_leave_the_warehouse_as_it_was(engine: sa.Engine, files: Files) -> None:
    files.edit(DAILY, ("d.is_settled", "d.never"))
    before = query(engine, CATALOGUE["views"], schemas=SCHEMAS)
    with pytest.raises(sa.exc.ProgrammingError, match=r"d\.never does not exist"), database_errors():
        files.apply(engine)
    assert query(engine, CATALOGUE["views"], schemas=SCHEMAS) == before
