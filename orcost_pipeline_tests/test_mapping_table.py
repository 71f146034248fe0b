"""A mapping that a table or view of the warehouse's database owns is read, refused and followed as a file is."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from orcost_pipeline.cli import app
from orcost_pipeline.companies.mapping import COLUMNS, MappingError, Rule, read_mapping
from orcost_pipeline.settings import Settings, load_settings
from orcost_pipeline.sync.attribution import load_mapping, read_mapping_now
from orcost_pipeline.sync.mapping_source import read_source
from orcost_pipeline.sync.sources import NOTHING, UnreadableSourceError, content_sha256
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.questions.syncs import locked_accounts
from orcost_pipeline.warehouse.source_table import UnreadableTableError, read_table
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import NOON

TYPED = (
    "create schema crm; create table crm.key_owner (line integer primary key, company varchar(40), match text, "
    "pattern char(12), valid_from date, share numeric(5, 2))"
)
# What a row of either may say: each column's values, good and bad.
CELLS = {
    "company": ("A", "B", "", "Unattributed", " A "),
    "match": ("key_name", "workspace", "key_nam", ""),
    "pattern": ("app*", "web", ""),
    "account": ("", "acme"),
    "valid_from": ("", "2026-11-01", "2026-13-01"),
    "valid_to": ("", "2026-12-01", "2026-10-01"),
    "share": ("", "100", "60", "40.0", "-1"),
    "note": ("", "so"),
}
mapping_rows = st.lists(st.tuples(*(st.sampled_from(CELLS[column]) for column in COLUMNS)), max_size=6)


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "orcost.toml").write_text('mapping = "table:crm.key_owner"\n', encoding="utf-8")
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    return load_settings()


@pytest.fixture
def told(settings: Settings, engine: sa.Engine) -> Callable[..., tuple[list[Rule], str | None]]:
    """The rules that the table has after some SQL, and what is wrong with it."""

    def read(*statements: str) -> tuple[list[Rule], str | None]:
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        mapping, problem = read_mapping_now(settings, engine)
        return list(mapping.rules) if mapping else [], problem

    return read


def test_a_typed_table_is_read_in_the_order_of_its_lines(told: Any) -> None:
    rules, problem = told(
        TYPED,
        "insert into crm.key_owner values (30, 'C', 'key_name', '*', null, null), "
        "(10, 'A', 'key_name', 'shared', null, 60.5), "
        "(20, 'B', 'key_name', 'shared', null, 39.5), (5, 'A', 'key_name', 'app', '2026-11-01', null)",
    )
    assert problem is None
    assert [(rule.line, rule.name, len(rule.shares)) for rule in rules] == [
        (5, "key_name:app", 1),
        (10, "key_name:shared", 2),
        (30, "key_name:*", 1),
    ]
    assert str(rules[0].valid_from) == "2026-11-01"


def test_a_view_may_be_the_mapping_whatever_it_is_called(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            'create view public."100%% ours" as '
            "select 1 as line, 'A' as company, 'key_name' as match, '%%' as pattern"
        )
        table = read_table(connection, '"100% ours"')
    assert table is not None
    assert read_mapping(table, "table").rules[0].pattern == "%"


@given(mapping_rows)
def test_a_table_and_a_file_of_the_same_rows_say_the_same(rows: list[tuple[str, ...]]) -> None:
    """Rules or mistakes, on the same lines; the file's header is its first line."""
    file = "".join(f"{','.join(cells)}\n" for cells in [COLUMNS, *rows]).encode()
    table = [
        (str(number), *(cell or None for cell in cells)) for number, cells in enumerate(rows, start=2) if any(cells)
    ]
    outcomes: list[Any] = []
    for read in (lambda: read_mapping(file, "it"), lambda: read_mapping((["line", *COLUMNS], table[::-1]), "it")):
        try:
            mapping = read()
            outcomes.append((mapping.rules, mapping.warnings))
        except MappingError as error:
            outcomes.append(error.mistakes)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("create schema crm", "Table crm.key_owner is not there; all spend is Unattributed."),
        (
            "create schema crm; create table crm.key_owner (company text, match text, pattern text)",
            "the table lacks line, a whole number: its rows are read in that order.",
        ),
        (
            "create schema crm; create view crm.key_owner as select 1 as line, 'A' as company, 'key_name' as match",
            "the header lacks pattern.",
        ),
        (
            "create schema crm; create view crm.key_owner as select 1 as line, 'A' as company, 'key_nam' as match, "
            "'x' as pattern, 1 as valid_form",
            'column "valid_form" is not one of company, match, pattern, account, valid_from, valid_to, share, note. '
            "Did you mean valid_from?",
        ),
        (
            "create schema crm; create view crm.key_owner as select n as line, 'A' as company, 'key_name' as match, "
            "'x' || n as pattern from (values (1), (1), (null), (-2)) as v (n)",
            'line "-2" is not a whole number from 1 to 999999999.',
        ),
        (
            "create schema crm; create view crm.key_owner as select n as line, 'A' as company, 'key_name' as match, "
            "'x' as pattern from (values (1), (1)) as v (n)",
            "line 1: another row has this line too.",
        ),
        (
            "create schema crm; create view crm.key_owner as select 7 as line, 'A' as company, 'key_name' as match, "
            "1 / (length(current_user) * 0) as pattern",
            "Table crm.key_owner cannot be read (division by zero); all spend is Unattributed.",
        ),
        (
            f"{TYPED}; insert into crm.key_owner values (3, null, 'key_name', 'x', null, 99.99)",
            'line 3: company is blank.\n  line 3: shares of "x" sum to 99.99, not 100 (line 3).',
        ),
    ],
)
def test_a_wrong_table_is_refused_whole_in_plain_words(told: Any, statement: str, problem: str) -> None:
    rules, said = told(statement)
    assert rules == []
    assert problem in said


def test_a_refused_table_leaves_what_is_in_force(told: Any, settings: Settings, engine: sa.Engine) -> None:
    told(TYPED, "insert into crm.key_owner values (1, 'A', 'key_name', '*')")
    mapping, _ = read_mapping_now(settings, engine)
    assert mapping is not None
    assert load_mapping(engine, mapping, NOON).source == "table crm.key_owner"
    _, problem = told("update crm.key_owner set match = 'nothing'")
    assert problem.startswith("table crm.key_owner was refused; the mapping of 2026-11-23 stays active.\n  line 1: ")
    _, problem = told("drop table crm.key_owner")
    assert problem.startswith("Table crm.key_owner is not there; the mapping of 2026-11-23 stays active. Make it")


def test_the_content_alone_tells_whether_a_table_changed(told: Any, settings: Settings, engine: sa.Engine) -> None:
    assert content_sha256(settings.mapping, engine.connect) == NOTHING
    told(TYPED, "insert into crm.key_owner values (1, 'A', 'key_name', 'x'), (2, 'B', 'key_name', 'y')")
    before = content_sha256(settings.mapping, engine.connect)
    mapping, _ = read_mapping_now(settings, engine)
    assert mapping is not None
    assert mapping.sha256 == before
    told("update crm.key_owner set line = 1, company = 'A' where line = 1")
    assert content_sha256(settings.mapping, engine.connect) == before, "rows that moved in the heap are the same"
    told("update crm.key_owner set company = 'C' where line = 2")
    assert content_sha256(settings.mapping, engine.connect) != before


@pytest.mark.slow
def test_check_and_doctor_read_the_table(told: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    told(TYPED, "insert into crm.key_owner values (1, 'A', 'key_name', '*'), (2, 'B', 'key_name', 'x')")
    answer = CliRunner().invoke(app, ["map", "check"])
    assert answer.output.startswith(
        "table crm.key_owner is valid: 2 rules, 2 companies.\n  warning, line 2: key_name:x"
    )
    told("update crm.key_owner set match = 'nothing' where line = 2")
    answer = CliRunner().invoke(app, ["map", "check"])
    assert str(answer.exception).startswith("table crm.key_owner was refused.\n  line 2: match")
    told("drop table crm.key_owner")
    assert "Make it, or change mapping in orcost.toml." in str(CliRunner().invoke(app, ["map", "check"]).exception)
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-v1-" + "0" * 64)
    monkeypatch.setenv("OPENROUTER_BASE_URL", "http://127.0.0.1:1/api/v1")
    findings = json.loads(CliRunner().invoke(app, ["doctor", "--format", "json"]).output)["findings"]
    assert any(finding["message"].startswith("Table crm.key_owner is not there") for finding in findings)


def test_a_table_can_be_checked_before_there_is_a_warehouse(told: Any, engine: sa.Engine) -> None:
    told(TYPED, "insert into crm.key_owner values (1, 'A', 'key_name', '*')")
    with engine.begin() as connection:
        connection.exec_driver_sql("drop schema raw, ref, core, marts, ops cascade")
    answer = CliRunner().invoke(app, ["map", "check"])
    assert answer.exit_code == 0
    assert answer.output.startswith("table crm.key_owner is valid: 1 rule, 1 company.\n")
    assert "No preview of what it would move: No account was synced yet." in answer.output


def test_a_file_may_be_named_in_the_configuration_and_the_environment_wins(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (settings.mapping.table, settings.mapping.name) == ("crm.key_owner", "table crm.key_owner")
    (tmp_path / "orcost.toml").write_text('mapping = "rules/owners.csv"\n', encoding="utf-8")
    assert load_settings().mapping.path == tmp_path / "rules/owners.csv"
    assert load_settings().mapping.table is None
    monkeypatch.setenv("ORCOST_MAPPING", "table: public.rules")
    assert load_settings().mapping.table == "public.rules"


# ── what the owner of the table can do ───────────────────────────────────────────────────────────────────────────────


class Strangers(NamedTuple):
    """A database whose mapping is a view of the role `owner`, and that the role `reader` syncs; neither a superuser."""

    engine: sa.Engine
    url: str
    owner: str
    reader: str

    def view(self, body: str, *, owner: str | None = None, language: str = "plpgsql") -> None:
        """Makes crm.key_owner a view whose only pattern is what a function of its owner returns."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(f"set local role {owner or self.owner}")
            connection.exec_driver_sql("drop view if exists crm.key_owner")
            connection.exec_driver_sql(
                f"create or replace function crm.f() returns text language {language} as $f$ {body} $f$;"
                "create view crm.key_owner as "
                "select 1 as line, 'A' as company, 'key_name' as match, crm.f() as pattern;"
                f"grant select on crm.key_owner to {self.reader}"
            )

    def read(self, url: str | None = None, **limits: int) -> Any:
        made = connect(url or self.url)
        try:
            with made.connect() as connection:
                return read_table(connection, "crm.key_owner", **limits)
        finally:
            made.dispose()


@pytest.fixture
def strangers(database_url: str, engine: sa.Engine) -> Iterator[Strangers]:
    owner, reader = (f"{name}_{uuid.uuid4().hex}" for name in ("owner", "reader"))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"create role {owner}; create role {reader} login password 'x'; create schema crm authorization {owner};"
            f"grant usage on schema crm to {reader}; create schema loot authorization {reader};"
            f"create table loot.box (cell text); alter table loot.box owner to {reader};"
            "insert into loot.box values ('secret')"
        )
    url = sa.make_url(database_url).set(username=reader, password="x").render_as_string(hide_password=False)
    try:
        yield Strangers(engine, url, owner, reader)
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"drop owned by {owner}, {reader} cascade; drop role {owner}, {reader}")


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ("insert into loot.box values (1)", "in a read-only transaction"),
        ("create table loot.more ()", "in a read-only transaction"),
        ("grant all on loot.box to public", "in a read-only transaction"),
        ("perform set_config('transaction_read_only', 'off', true)", "must be set before any query"),
        ("perform set_config('role', 'none', false); truncate loot.box", "in a read-only transaction"),
        ("copy (select 1) to program 'true'", "permission denied to COPY to or from an external program"),
        ("perform pg_read_file('/etc/passwd')", "permission denied for function pg_read_file"),
        ("perform rolpassword from pg_authid", "permission denied for table pg_authid"),
        ("perform lo_import('/etc/passwd')", "permission denied for function lo_import"),
        ("commit", "invalid transaction termination"),
    ],
)
def test_a_view_changes_nothing_whatever_runs_in_it(strangers: Strangers, body: str, refusal: str) -> None:
    strangers.view(f"begin {body}; return 'x'; end")
    with pytest.raises(DBAPIError, match=refusal):
        strangers.read()


def test_a_view_leaves_nothing_behind_in_the_session(strangers: Strangers) -> None:
    strangers.view(
        "begin perform set_config('search_path', 'crm', false), set_config('default_transaction_read_only', 'on', "
        "false), pg_advisory_lock(7303, hashtext('acme')); return 'x'; end"
    )
    made = connect(strangers.url)
    with made.connect() as connection:
        assert read_table(connection, "crm.key_owner") is not None
    with made.connect() as connection:
        settings = "select current_setting('search_path'), current_setting('default_transaction_read_only')"
        assert connection.execute(sa.text(settings)).one() == ('""', "off")
    assert not locked_accounts(made, ["acme"])
    made.dispose()


def test_a_view_reads_what_the_user_of_the_syncs_reads_as_the_documentation_says(strangers: Strangers) -> None:
    strangers.view("begin return (select cell from loot.box); end")
    assert strangers.read().rows == (("1", "A", "key_name", "secret"),)


@pytest.mark.parametrize(
    "body",
    sampled(
        [
            "begin perform pg_sleep(60); return 'x'; end",
            "begin loop begin perform pg_sleep(60); exception when query_canceled then null; end; end loop; end",
        ],
        1,
    ),
    ids=["sleeps", "ignores that it is cancelled"],
)
def test_a_view_that_takes_long_holds_nobody_up(strangers: Strangers, body: str) -> None:
    with strangers.engine.connect() as connection:
        if "query_canceled" in body and connection.exec_driver_sql("show server_version_num").scalar_one() < "170000":
            pytest.skip("nothing ends it before Postgres 17")
    strangers.view(body)
    began = time.monotonic()
    with pytest.raises(UnreadableTableError, match=r"^Table crm\.key_owner was not read within 1 seconds$") as refused:
        strangers.read(within=1)
    assert refused.value.todo.startswith("See what takes so long in it")
    assert time.monotonic() - began < 10


def test_a_table_that_is_locked_holds_nobody_up(strangers: Strangers) -> None:
    strangers.view("begin return 'x'; end")
    with strangers.engine.begin() as connection:
        connection.exec_driver_sql("lock table crm.key_owner in access exclusive mode")
        with pytest.raises(UnreadableTableError, match="was not read within 1 seconds"):
            strangers.read(within=1)


def test_a_view_that_never_ends_is_not_kept_in_memory(strangers: Strangers) -> None:
    with strangers.engine.begin() as connection:
        connection.exec_driver_sql(
            f"create view crm.key_owner as select generate_series(1, 1000000000) as line; "
            f"grant select on crm.key_owner to {strangers.reader}"
        )
    with pytest.raises(UnreadableTableError, match="has more than 10 rows"):
        strangers.read(most_rows=10)


def test_a_superuser_runs_nothing_of_another_owner(strangers: Strangers, settings: Settings, database_url: str) -> None:
    strangers.view("begin return 'x'; end")
    told = f"^crm.key_owner belongs to {strangers.owner}, whose functions would run in it as a superuser"
    with pytest.raises(UnreadableTableError, match=f"{told}$"):
        strangers.read(database_url)
    with pytest.raises(UnreadableSourceError, match=f"{told}. Name a user in ORCOST_DATABASE_URL who is none"):
        read_source(settings, strangers.engine.connect)
    strangers.view("begin return 'mine'; end", owner="orcost")
    assert strangers.read(database_url).rows[0][-1] == "mine"
    with strangers.engine.begin() as connection:
        connection.exec_driver_sql(
            f"drop view crm.key_owner; set local role {strangers.owner};"
            "create table crm.key_owner (line int, pattern text); insert into crm.key_owner values (1, 'a table')"
        )
    assert strangers.read(database_url).rows == (("1", "a table"),)
    with strangers.engine.begin() as connection:
        connection.exec_driver_sql(
            f"set local role {strangers.owner}; create type crm.t as enum ('x'); alter table crm.key_owner add n crm.t"
        )
    with pytest.raises(UnreadableTableError, match="as a superuser"):
        strangers.read(database_url)
