"""`orcost explain` and `map todo`: what a figure is made of, and which keys wait for an owner."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from orcost_pipeline import cli
from orcost_pipeline.measures import MEASURES
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline_tests.conftest import Filled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

YESTERDAY = NOON.date() - DAY
Orcost = Callable[..., Any]


def synced_world(engine: sa.Engine) -> World:
    """A key that is split in three, one that is A's, one that is nobody's, and the chat room."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    keys = {name: ledger.add_key("acme", name, NOON - 40 * DAY) for name in ("shared", "alpha", "orphan", "idle")}
    for hours in (20, 21, 30):
        for number, name in enumerate(("shared", "alpha", "orphan")):
            model = (GPT, CLAUDE)[number % 2]
            ledger.spend("acme", NOON - hours * HOUR, keys[name], model, usage(f"0.{hours}0000000{number + 1}", "0.1"))
    ledger.spend("acme", NOON - 22 * HOUR, None, GPT, usage("0.05"))
    world = World(engine, ledger)
    world.map(
        "A,key_name,shared,,,33.333", "B,key_name,shared,,,33.333", "C,key_name,shared,,,33.334", "A,key_name,al*,,,"
    )
    world.sync()
    return world


@pytest.fixture
def world(filled: Filled[World], engine: sa.Engine) -> World:
    return filled(synced_world, engine)


@pytest.fixture
def orcost(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Orcost:
    monkeypatch.setenv("ORCOST_DATABASE_URL", world.engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli.app, list(arguments), obj=lambda: NOON)


@pytest.mark.parametrize("company", ["A", "B", "C", "Unattributed"])
def test_the_parts_of_a_figure_are_the_figure_to_the_last_digit(world: World, orcost: Orcost, company: str) -> None:
    parts = json.loads(orcost("explain", company, "--day", str(YESTERDAY), "--format", "json").output)
    statement = f"select {', '.join(MEASURES)} from marts.company_spend_daily where day = :day and company = :company"
    (figure,) = world.rows(statement, day=YESTERDAY, company=company)
    assert tuple(sum(Decimal(part[name]) for part in parts) for name in MEASURES) == tuple(figure)


def test_a_figure_is_told_by_key_rule_hour_and_answer(orcost: Orcost) -> None:
    told = orcost("explain", "A", "--day", str(YESTERDAY)).output
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert lines[0] == "A on 2026-11-22: 0.946664300699999 USD and 0.399999 USD of BYOK (settled)"
    assert any(line.startswith(f"shared {GPT} OpenAI key_name:shared (line 2)") and "33.33 %" in line for line in lines)
    assert sum(line.startswith(("15:00 ", "16:00 ")) for line in lines) == 4
    assert any("raw.activity_daily" in line for line in lines)
    assert lines[-1] == "Complete to 12:20 UTC (just now)"


def test_unattributed_is_explained_by_names_and_causes(orcost: Orcost) -> None:
    told = orcost("explain", "Unattributed", "--day", str(YESTERDAY)).output
    assert "Without a key" in told
    assert "spend without a key" in told
    assert "orphan" in told


def test_answers_that_are_gone_are_said_to_be_gone(world: World, orcost: Orcost) -> None:
    world.later(days=9).sync()
    with world.engine.begin() as connection:
        connection.exec_driver_sql("delete from raw.usage_hourly; delete from raw.activity_daily")
    assert "no longer kept" in orcost("explain", "A", "--day", str(YESTERDAY)).output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("explain", "a"), 'No company is called "a". Near: "A".'),
        (
            ("explain", "A", "--day", "2020-01-01"),
            "Nothing is known of 2020-01-01. Known: acme: 2025-11-24 – 2026-11-23.",
        ),
    ],
)
def test_an_unknown_company_or_day_is_a_plain_error(orcost: Orcost, arguments: tuple[str, ...], sentence: str) -> None:
    answer = orcost(*arguments)
    assert answer.exit_code == 1
    assert str(answer.exception) == sentence


def test_keys_without_an_owner_are_told_by_money(world: World, orcost: Orcost) -> None:
    rows = json.loads(orcost("map", "todo", "--format", "json").output)
    assert [row["key_name"] for row in rows] == ["orphan", "idle", None]
    assert Decimal(rows[0]["credits_usd"]) == world.value(
        "select credits_usd from marts.unattributed_spend where key_name = 'orphan'"
    )
    told = orcost("map", "todo").output
    assert "2 keys without an owner. Next: orcost map suggest, then: orcost map add" in told
    world.map("A,key_name,*,,,")
    world.later(minutes=1).sync()
    assert "No key waits for a rule." in orcost("map", "todo").output
