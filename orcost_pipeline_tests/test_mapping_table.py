"""A mapping that a table or view of the warehouse's database owns is read, refused and followed as a file is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from orcost_pipeline.cli import app
from orcost_pipeline.companies.mapping import COLUMNS, MappingError, Rule, mapping_of_table, read_mapping
from orcost_pipeline.defs.attribution import load_mapping, read_mapping_now
from orcost_pipeline.defs.mapping_source import NO_MAPPING, content_sha256
from orcost_pipeline.settings import Settings, load_settings
from orcost_pipeline.warehouse.mapping_table import read_table
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
            "create view \"100%% ours\" as select 1 as line, 'A' as company, 'key_name' as match, '%%' as pattern"
        )
        table = read_table(connection, '"100% ours"')
    assert table is not None
    assert mapping_of_table(*table, "table").rules[0].pattern == "%"


@given(mapping_rows)
def test_a_table_and_a_file_of_the_same_rows_say_the_same(rows: list[tuple[str, ...]]) -> None:
    """Rules or mistakes, on the same lines; the file's header is its first line."""
    file = "".join(f"{','.join(cells)}\n" for cells in [COLUMNS, *rows]).encode()
    table = [
        (str(number), *(cell or None for cell in cells)) for number, cells in enumerate(rows, start=2) if any(cells)
    ]
    outcomes: list[Any] = []
    for read in (lambda: read_mapping(file, "it"), lambda: mapping_of_table(["line", *COLUMNS], table[::-1], "it")):
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
            "the table lacks line, a whole number: rules are tried in its order.",
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
    assert problem.startswith("table crm.key_owner was refused; the mapping of 2026-11-23 stays in force.\n  line 1: ")
    _, problem = told("drop table crm.key_owner")
    assert problem.startswith("Table crm.key_owner is not there; the mapping of 2026-11-23 stays in force. Make it")


def test_the_content_alone_tells_whether_a_table_changed(told: Any, settings: Settings, engine: sa.Engine) -> None:
    assert content_sha256(settings, engine.connect) == NO_MAPPING
    told(TYPED, "insert into crm.key_owner values (1, 'A', 'key_name', 'x'), (2, 'B', 'key_name', 'y')")
    before = content_sha256(settings, engine.connect)
    mapping, _ = read_mapping_now(settings, engine)
    assert mapping is not None
    assert mapping.sha256 == before
    told("update crm.key_owner set line = 1, company = 'A' where line = 1")
    assert content_sha256(settings, engine.connect) == before, "rows that moved in the heap are the same"
    told("update crm.key_owner set company = 'C' where line = 2")
    assert content_sha256(settings, engine.connect) != before


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
    assert "No preview of what it would move: There is no warehouse of this version yet." in answer.output


def test_a_file_may_be_named_in_the_configuration_and_the_environment_wins(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (settings.mapping_table, settings.mapping_name) == ("crm.key_owner", "table crm.key_owner")
    (tmp_path / "orcost.toml").write_text('mapping = "rules/owners.csv"\n', encoding="utf-8")
    assert load_settings().mapping == tmp_path / "rules/owners.csv"
    assert load_settings().mapping_table is None
    monkeypatch.setenv("ORCOST_MAPPING", "table: public.rules")
    assert load_settings().mapping_table == "public.rules"
