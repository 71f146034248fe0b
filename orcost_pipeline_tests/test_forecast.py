"""`orcost forecast`: what a month will cost by company, beside what the same forecast missed in the months before."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from orcost_pipeline import cli
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline_tests.budget_world import budget
from orcost_pipeline_tests.conftest import Filled
from orcost_pipeline_tests.world import DAY, World, usage

Orcost = Callable[..., Any]
AT = datetime(2026, 11, 24, tzinfo=UTC) - timedelta(hours=12)


def synced_world(engine: sa.Engine) -> World:
    """A spends 10 a day from July 1 on, B 1 a day from October 1 and 2 from October 25 on; half of today is over."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(10_000))
    a, b = (ledger.add_key("acme", name, AT - 300 * DAY) for name in ("a", "b"))
    for back in range((AT.date() - date(2026, 7, 1)).days + 1):
        day = datetime(2026, 11, 23, 6, tzinfo=UTC) - back * DAY
        part = Decimal(1) if back else Decimal("0.5")
        ledger.spend("acme", day, a, GPT, usage(10 * part))
        if day.date() >= date(2026, 10, 1):
            ledger.spend("acme", day, b, CLAUDE, usage((2 if day.date() >= date(2026, 10, 25) else 1) * part))
    made = World(engine, ledger, AT)
    made.map("A,key_name,a,,,", "B,key_name,b,,,")
    made.sync()
    return made


@pytest.fixture
def world(filled: Filled[World], engine: sa.Engine) -> World:
    return filled(synced_world, engine)


@pytest.fixture
def orcost(world: World, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Orcost:
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli.app, list(arguments), obj=lambda: world.now)


def test_programs_get_four_months_of_each_company(orcost: Orcost) -> None:
    rows = json.loads(orcost("forecast", "--format", "json").output)
    assert [tuple(row.values()) for row in rows] == [
        # 22 days and a half, then 30 whole days.
        ("2026-11-01", "A", "2026-11-23", "225", "300", None, None, None),
        ("2026-10-01", "A", "2026-10-23", "220", "310", "310", "0.00", None),
        ("2026-09-01", "A", "2026-09-23", "220", "300", "300", "0.00", None),
        ("2026-08-01", "A", "2026-08-23", "220", "310", "310", "0.00", None),
        ("2026-11-01", "B", "2026-11-23", "45", "60", None, None, None),
        # 22 spent in October; of September 25 to October 22 each weekday is known four times. Without spend were the
        # last Friday to Wednesday of September: of those weekdays three of four have 1. To come are nine days, the 23rd
        # (a Friday) to the 31st, of which only Thursday the 29th is worth 1: 22 + 8 × 0.75 + 1 = 29.
        # The month cost 24 + 7 × 2 = 38: 9 / 38 of it was missed.
        ("2026-10-01", "B", "2026-10-23", "22", "29", "38", "-23.68", None),
        ("2026-09-01", "B", "2026-09-23", "0", "0", "0", None, None),
        ("2026-08-01", "B", "2026-08-23", "0", "0", "0", None, None),
    ]
    assert list(rows[0]) == [
        *("month", "company", "made_on", "spent_usd", "forecast_usd", "actual_usd", "error_percent", "budget_usd"),
    ]
    table = list(csv.DictReader(io.StringIO(orcost("forecast", "--format", "csv").output)))
    assert [row["forecast_usd"] for row in table] == [row["forecast_usd"] for row in rows]


def test_people_get_a_line_for_each_company_and_a_total(world: World, orcost: Orcost) -> None:
    budget(world, A="290")
    lines = orcost("forecast").output.splitlines()
    assert lines[0] == "Spend of 2026-11, as forecast on 2026-11-23"
    assert [line.split() for line in lines[2:6]] == [
        ["Company", "Spent", "USD", "Forecast", "USD", "Budget", "USD", "2026-10", "2026-09", "2026-08"],
        ["A", "225.00", "300.00", "290.00", "0", "%", "0", "%", "0", "%"],
        ["B", "45.00", "60.00", "–", "−24", "%", "–", "–"],
        # October: 310 + 29 of 310 + 38.
        ["Total", "270.00", "360.00", "290.00", "−3", "%", "0", "%", "0", "%"],
    ]
    assert lines[-1].endswith("Complete to 12:00 UTC (just now)")


@pytest.mark.slow
def test_a_month_that_is_over_is_forecast_as_it_was_on_the_same_day(orcost: Orcost) -> None:
    lines = orcost("forecast", "--month", "2026-10").output.splitlines()
    assert lines[0] == "Spend of 2026-10, as forecast on 2026-10-23"
    # Before July nothing was spent: of June 25 to July 22 each weekday but Wednesday has three days of four. July was
    # forecast with 220 + 8 × 7.5 + 10 = 290 and cost 310.
    assert [line.split() for line in lines[2:5]] == [
        ["Company", "Spent", "USD", "Forecast", "USD", "Actual", "USD", "2026-09", "2026-08", "2026-07"],
        ["A", "220.00", "310.00", "310.00", "0", "%", "0", "%", "−6", "%"],
        ["B", "22.00", "29.00", "38.00", "–", "–", "–"],
    ]


@pytest.mark.slow
def test_the_last_day_of_a_month_stands_for_days_that_a_shorter_one_does_not_have(world: World, orcost: Orcost) -> None:
    world.now = datetime(2026, 12, 31, 12, tzinfo=UTC)
    world.sync()
    rows = json.loads(orcost("forecast", "--format", "json").output)
    assert [row["made_on"] for row in rows if row["company"] == "A"] == [
        *("2026-12-31", "2026-11-30", "2026-10-31", "2026-09-30"),
    ]


@pytest.mark.slow
def test_a_month_to_come_and_a_month_that_is_none_are_a_sentence(orcost: Orcost) -> None:
    said = str(orcost("forecast", "--month", "2026-12").exception)
    assert said == "2026-12 has not begun: data reaches to 2026-11-23 12:00 UTC."
    assert "is not a month written 2026-10" in str(orcost("forecast", "--month", "November").exception)


def test_before_all_that_is_known_nothing_is_forecast(orcost: Orcost) -> None:
    assert orcost("forecast", "--month", "2024-01").output.startswith("No spend is known in 2024-01, and none is")
    assert json.loads(orcost("forecast", "--month", "2024-01", "--format", "json").output) == []
