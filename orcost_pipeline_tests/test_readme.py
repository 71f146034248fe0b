"""What the README says is so: relations, commands, variables, and every query runs."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer

from orcost_pipeline.cli import app
from orcost_pipeline.companies.mapping import read_mapping
from orcost_pipeline.settings import Environment, ProjectConfig
from orcost_pipeline.simulator import small
from orcost_pipeline.warehouse.schema.relations import RELATIONS
from orcost_pipeline_tests.world import NOON, World

ROOT = Path(__file__).parents[1] / "orcost_pipeline"
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
CONTRACT_SCHEMAS = ("ref.", "core.spend", "marts.", "ops.")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", README, flags=re.DOTALL | re.MULTILINE)


def test_every_relation_that_readers_use_is_told_in_the_words_of_the_database() -> None:
    rows = dict(re.findall(r"^\| `((?:ref|core|marts|ops)\.\w+)` \| (.*) \|$", README, flags=re.MULTILINE))
    assert rows == {name: told for name, told in RELATIONS.items() if name.startswith(CONTRACT_SCHEMAS)}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_takes_the_unit_and_runs_it_as_a_user_of_its_own(tmp_path: Path) -> None:
    (unit,) = (block for block in blocks("ini") if "[Service]" in block)
    assert "User=orcost\n" in unit
    assert "After=network-online.target\n" in unit
    assert any("useradd --system" in block and "/srv/costs" in block for block in blocks("sh"))
    file = tmp_path / "orcost.service"
    file.write_text(unit.replace("/srv/costs/.venv/bin/orcost", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_cause_of_a_difference_is_told_with_its_status(engine: sa.Engine) -> None:
    told = set(re.findall(r"^\| `(explained|open)` \| ([^|]+) \|", README, flags=re.MULTILINE))
    with engine.connect() as connection:
        definition = "select pg_get_viewdef(view::regclass) from unnest(%s::text[]) as view"
        views = (["core.unkeyed_day", "marts.reconciliation_daily"],)
        names, view = connection.exec_driver_sql(definition, views).scalars()
    texts = set(re.findall(r"'([a-z][^']*)'::text", names + view)) - {"closed", "explained", "open"}
    is_open = set(re.findall(r"'([^']+)'::text", view[view.index("disagreeing AS (") : view.index("AS disagreement")]))
    assert told == {("open" if cause in is_open else "explained", cause) for cause in texts}


def test_every_command_that_is_named_exists() -> None:
    group = typer.main.get_command(app)
    named = set(re.findall(r"orcost (sync|report|status|resync|up|demo|map|db|\w+)\b", README)) - {"dagster"}
    assert named <= set(group.commands)  # type: ignore[attr-defined]
    assert set(group.commands) <= named  # type: ignore[attr-defined]


def test_the_variables_are_those_of_the_settings() -> None:
    told = set(re.findall(r"^\| `([A-Z_]+)` \|", README, flags=re.MULTILINE))
    known = {field.validation_alias.choices[0] for field in Environment.model_fields.values()}  # type: ignore[union-attr]
    assert told == known


def test_the_mapping_and_the_accounts_of_the_examples_are_accepted() -> None:
    (mapping,), (accounts,) = blocks("csv"), blocks("toml")
    assert len(read_mapping(mapping.encode(), "README").rules) == 5
    assert len(ProjectConfig.model_validate(tomllib.loads(accounts)).accounts) == 2


@pytest.mark.slow
def test_the_books_of_the_example_are_what_the_command_prints() -> None:
    command = [sys.executable, "-m", "docs.books"]
    told = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, check=True)
    assert blocks("console")[-1] == told.stdout


@pytest.mark.parametrize("query", blocks("sql"))
def test_every_query_runs(engine: sa.Engine, query: str) -> None:
    world = World(engine, small(NOON))
    world.sync()
    statements = [part for part in re.sub(r"--.*", "", query).split(";") if part.strip()]
    with engine.connect() as connection:
        for statement in statements:
            is_grant = statement.split()[0] in ("create", "grant", "alter")
            assert connection.exec_driver_sql(statement).returns_rows is not is_grant
