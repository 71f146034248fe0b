"""Questions are files: each is used by one function and fits the schema; no reading hides in Python."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from orcost_pipeline.warehouse.statements import statement
from orcost_pipeline_tests.test_codebase import MODULES, PACKAGE, located

FOLDER = PACKAGE / "warehouse" / "questions"
QUESTIONS = sorted(path.stem for path in FOLDER.glob("*.sql"))
LONGEST_MODULE = 400

# SQL that is made of the names of any table stays in Python.
GENERATED = {"warehouse/loading.py"}
_READING = re.compile(r"\s*(select|with)\b", re.IGNORECASE)
_WRITING = re.compile(r"\b(insert into|update|delete from)\b", re.IGNORECASE)


def test_there_are_questions() -> None:
    assert len(QUESTIONS) > 50


def test_every_question_is_asked_by_exactly_one_function() -> None:
    askers: dict[str, set[str]] = defaultdict(set)
    for module in MODULES:
        if module.layer == "warehouse":
            for node, place in located(module):
                if isinstance(node, ast.Constant) and node.value in QUESTIONS:
                    askers[str(node.value)].add(f"{module.path}:{place}")
    assert {name: sorted(places) for name, places in askers.items() if len(places) != 1} == {}
    assert sorted(askers) == QUESTIONS


def readings(tree: ast.Module) -> Iterator[ast.AST]:
    """Strings of more than one line that read from the database."""
    for node in ast.walk(tree):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        text = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
        if _READING.match(text) and " from" in text.replace("\n", " ") and not _WRITING.search(text):
            first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
            if isinstance(node, ast.Constant | ast.JoinedStr) and last > first:
                yield node


def test_no_module_reads_with_more_than_a_line_of_its_own() -> None:
    found = [
        f"{module.path}:{getattr(node, 'lineno', 0)}"
        for module in MODULES
        if module.layer != "simulator" and module.path not in GENERATED
        for node in readings(module.tree)
    ]
    assert not found


def test_dagsters_definitions_hold_no_sql() -> None:
    begins = re.compile(
        r"\s*(select|with|insert into|update|delete from|create|drop)\b.*\b(from|into|set|on|table)\b", re.DOTALL
    )
    found = [
        f"{module.path}:{node.lineno}"
        for module in MODULES
        if module.layer in ("defs", "definitions")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and begins.match(node.value)
    ]
    assert not found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_no_module_of_questions_is_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


def test_no_question_is_put_together_from_text() -> None:
    for module in MODULES:
        if module.path.startswith("warehouse/questions/"):
            for node in ast.walk(module.tree):
                assert not isinstance(node, ast.JoinedStr), module.path
                assert not (isinstance(node, ast.Attribute) and node.attr in ("format", "join")), module.path


def test_every_change_is_made_by_exactly_one_function() -> None:
    names = sorted(path.stem for path in (PACKAGE / "warehouse" / "changes").glob("*.sql"))
    changed = [
        node.args[1].value
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "change"
        and isinstance(node.args[1], ast.Constant)
    ]
    assert sorted(map(str, changed)) == names


OF_DAGSTER = {
    "instigators": "instigator_body text, status text, instigator_type text",
    "daemon_heartbeats": "daemon_type text, body text",
    "runs": "run_id text, status text, create_timestamp timestamp, end_time double precision",
    "run_tags": "run_id text, key text, value text",
}


def test_every_question_fits_a_new_warehouse(engine: sa.Engine) -> None:
    dialect = postgresql.dialect(paramstyle="numeric_dollar")
    with engine.connect() as connection:
        # Dagster's own tables, of which some questions are asked.
        connection.exec_driver_sql("create schema if not exists dagster")
        for table, columns in OF_DAGSTER.items():
            connection.exec_driver_sql(f"create table if not exists dagster.{table} ({columns})")
        for name in QUESTIONS:
            question = str(statement("questions", name).compile(dialect=dialect))
            connection.exec_driver_sql(f"prepare {name} as {question}".replace("%", "%%"))
            connection.exec_driver_sql(f"deallocate {name}")
