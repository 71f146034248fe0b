"""What README.md and docs/*.md say is so: tables equal the code, queries run, links resolve."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import dagster as dg
import pytest
import sqlalchemy as sa
import typer

from orcost_pipeline.cli import app
from orcost_pipeline.companies.mapping import COLUMNS, read_mapping
from orcost_pipeline.definitions import build_defs
from orcost_pipeline.health.finding import Code
from orcost_pipeline.project_file import SECTIONS, ProjectConfig
from orcost_pipeline.settings import Environment
from orcost_pipeline.simulator import small
from orcost_pipeline.warehouse.questions.relations import relation_columns
from orcost_pipeline.warehouse.schema.declared import declared_schema
from orcost_pipeline_tests.world import NOON, World

CHECKOUT = Path(__file__).parents[1]
CONTRACT_SCHEMAS = ("ref.", "core.spend", "marts.", "viewer.", "ops.")
# By path from the checkout.
PAGES = {
    str(path.relative_to(CHECKOUT)): path.read_text(encoding="utf-8")
    for path in (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md")))
}
EVERY_PAGE = "\n".join(PAGES.values())


def page(name: str) -> str:
    """The text of a page of docs/."""
    return PAGES[f"docs/{name}.md"]


def section(name: str, heading: str) -> str:
    """What stands below a heading of a page of docs/."""
    return page(name).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the tables of a text."""
    lines = re.findall(r"^\| (.*) \|$", text, flags=re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


def codes(text: str) -> list[str]:
    """What a text has in code spans."""
    return re.findall(r"`([^`]+)`", text)


# What the tables say


def test_every_relation_that_readers_use_is_told_in_the_words_of_the_database() -> None:
    told = dict(
        re.findall(r"^\| `((?:ref|core|marts|viewer|ops)\.\w+)` \| (.*) \|$", page("tables"), flags=re.MULTILINE)
    )
    assert told == {
        name: words for name, words in declared_schema().comments.relations.items() if name.startswith(CONTRACT_SCHEMAS)
    }


def test_every_cause_of_a_difference_is_told_with_its_status(engine: sa.Engine) -> None:
    told = set(re.findall(r"^\| `(explained|open)` \| ([^|]+) \|", page("reconciliation"), flags=re.MULTILINE))
    with engine.connect() as connection:
        definition = "select pg_get_viewdef(view::regclass) from unnest(%s::text[]) as view"
        views = (["core.unkeyed_day", "core.reconciled_day"],)
        names, view = connection.exec_driver_sql(definition, views).scalars()
    texts = set(re.findall(r"'([a-z][^']*)'::text", names + view)) - {"closed", "explained", "open"}
    is_open = set(re.findall(r"'([^']+)'::text", view[view.index("disagreeing AS (") : view.index("AS disagreement")]))
    assert told == {("open" if cause in is_open else "explained", cause) for cause in texts}


def commands(group: typer.core.TyperGroup, *path: str) -> Iterator[tuple[str, set[str]]]:
    """Every command that can be run, with its options."""
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, *path, name)
        if not isinstance(command, typer.core.TyperGroup) or command.invoke_without_command:
            options = {flag for it in command.params for flag in (*it.opts, *it.secondary_opts)}
            yield " ".join((*path, name)), {flag for flag in options if flag.startswith("--")}


def test_the_page_of_commands_names_every_command_and_its_options() -> None:
    told = [
        (re.sub(r" \[?[A-Z].*", "", command), set(re.findall(r"--[a-z-]+", options)))
        for command, _, options in (row for row in rows(page("cli")) if row[0].startswith("`orcost "))
    ]
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    assert sorted((command.strip("`").removeprefix("orcost "), options) for command, options in told) == sorted(
        commands(group)
    )


def test_every_command_that_a_page_names_exists() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    known = {*group.commands, *(command for command, _ in commands(group))}
    named = re.findall(r"\borcost ((?:(?:map|accounts|db|export)\s)?[a-z]+)\b", EVERY_PAGE)
    assert {re.sub(r"\s", " ", command) for command in named} <= known


def test_every_column_of_focus_is_told(engine: sa.Engine) -> None:
    told = [name for row in rows(section("exports", "FOCUS")) for name in codes(row[0])]
    with engine.connect() as connection:
        columns = relation_columns(connection, "marts.focus_cost_and_usage")
    assert sorted(told) == sorted(column.name for column in columns)


def test_the_variables_are_those_of_the_settings() -> None:
    told = [row[0].strip("`") for row in rows(section("configuration", "Environment variables"))]
    known = {field.validation_alias.choices[0] for field in Environment.model_fields.values()}  # type: ignore[union-attr]
    assert set(told[1:]) - {"---"} == known


def test_the_fields_of_orcost_toml_are_those_of_the_settings() -> None:
    told = {(row[0].strip("`"), row[1].strip("`")) for row in rows(section("configuration", "orcost.toml"))}
    places = {
        place.removeprefix("under ").replace("above all sections", "top level"): it for place, it in SECTIONS.items()
    }
    assert told - {("setting", "place"), ("---", "---")} == {
        (field, place) for place, it in places.items() for field in it.model_fields
    }


def test_the_mappings_and_the_accounts_of_the_examples_are_accepted() -> None:
    (starter,), (mapping,), (accounts,) = (
        blocks("csv", PAGES["README.md"]),
        blocks("csv", page("mapping")),
        blocks("toml", page("configuration")),
    )
    assert len(read_mapping(starter.encode(), "README").rules) == 3
    assert len(read_mapping(mapping.encode(), "mapping").rules) == 5
    assert len(ProjectConfig.model_validate(tomllib.loads(accounts)).accounts) == 2


def test_the_columns_of_the_mapping_are_told() -> None:
    told = [name for row in rows(section("mapping", "Rules")) for name in row[0].split(", ")]
    assert set(told) - {"column", "---"} == set(COLUMNS)


# Dagster


@pytest.fixture
def definitions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dg.RepositoryDefinition:
    monkeypatch.chdir(tmp_path)
    return build_defs().get_repository_def()


def test_the_picture_of_the_assets_shows_each_and_what_it_depends_on(definitions: dg.RepositoryDefinition) -> None:
    (picture,) = blocks("mermaid", page("dagster"))
    names = dict(re.findall(r"(\w+)\[(\w+/\w+)\]", picture))
    chains = [re.findall(r"(\w+)(?:\[[^]]*\])?(?: -->|$)", line) for line in picture.splitlines()[1:] if "-->" in line]
    graph = definitions.asset_graph
    assert set(names.values()) == {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert {(names[one], names[other]) for chain in chains for one, other in pairwise(chain)} == {
        (parent.to_user_string(), key.to_user_string())
        for key in graph.get_all_asset_keys()
        for parent in graph.get(key).parent_keys
    }


def test_jobs_schedule_sensors_and_checks_are_those_of_the_definitions(definitions: dg.RepositoryDefinition) -> None:
    named = {(row[1], row[0].strip("`")) for row in rows(section("dagster", "Jobs, schedule and sensors"))}
    assert named - {("kind", "name"), ("---", "---")} == {
        *(("job", job.name) for job in definitions.get_all_jobs() if not job.name.startswith("__")),
        *(("schedule", schedule.name) for schedule in definitions.schedule_defs),
        *(("sensor", sensor.name) for sensor in definitions.sensor_defs),
    }
    checks = {(row[1], row[0].strip("`")) for row in rows(section("dagster", "Checks"))}
    assert checks - {("asset", "check"), ("---", "---")} == {
        (key.asset_key.to_user_string(), key.name) for key in definitions.asset_graph.asset_check_keys
    }


# What can be run


@pytest.mark.slow
@pytest.mark.parametrize(("program", "shown_in"), [("books", "reconciliation"), ("month", "billing")])
def test_the_example_of_a_page_is_what_its_command_prints(program: str, shown_in: str) -> None:
    command = [sys.executable, "-m", f"docs.{program}"]
    told = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert blocks("console", page(shown_in)) == [told.stdout]


# Each is tried on its own: grants need a role that is not there yet.
@pytest.mark.parametrize("query", sorted(set(blocks("sql", EVERY_PAGE))))
def test_every_query_runs(engine: sa.Engine, query: str) -> None:
    world = World(engine, small(NOON))
    world.sync()
    statements = [part for part in re.sub(r"--.*", "", query).split(";") if part.strip()]
    with engine.connect() as connection:
        for statement in statements:
            is_grant = statement.split()[0] in ("create", "grant", "alter")
            assert connection.exec_driver_sql(statement).returns_rows is not is_grant


# Links


def prose(text: str) -> str:
    """A page without its code, in which brackets are no links and # begins no heading."""
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """The targets of the links and pictures of a page that do not leave the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(text)))
    return [unquote(target) for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> list[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ +(.*?) *$", prose(text), flags=re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return [f"{it}-{before}" if (before := slugs[:place].count(it)) else it for place, it in enumerate(slugs)]


def test_brackets_of_code_are_no_links_and_a_repeated_heading_gets_a_number() -> None:
    text = (
        "# A `b.c`, d\n[x](y.md#z) `[no](no.md)` ![p](p.png) [out](https://example.com)\n```sh\n# no\n```\n## A bc d\n"
    )
    assert links(text) == ["y.md#z", "p.png"]
    assert anchors(text) == ["a-bc-d", "a-bc-d-1"]


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    found = links(PAGES[name])
    assert found
    for link in found:
        path, _, anchor = link.partition("#")
        target = (CHECKOUT / name).parent / path if path else CHECKOUT / name
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_readme_links_to_every_page_and_every_page_back() -> None:
    linked = links(PAGES["README.md"])
    for name in PAGES.keys() - {"README.md"}:
        assert name in linked
        assert "../README.md" in links(PAGES[name]), name


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 130


def test_the_page_of_findings_names_every_finding_once() -> None:
    rows = re.findall(r"^\| .* \|$", page("findings"), flags=re.MULTILINE)
    assert sorted(code for row in rows for code in re.findall(r"`([a-z_]+)`", row.split("|")[1])) == sorted(Code)
