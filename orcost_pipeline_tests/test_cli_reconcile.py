"""`orcost reconcile`: what a person and a program are told of days that close, and of those that do not."""

import csv
import io
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from orcost_pipeline.cli.reconcile import reconcile
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.settings import load_settings
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import GPT, MISTRAL
from orcost_pipeline_tests.conftest import Filled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

YESTERDAY = NOON.date() - DAY
Told = Callable[..., tuple[int, str]]


def synced_world(engine: sa.Engine) -> World:
    """A key with spend each day, chat spend yesterday, synced."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    app = ledger.add_key("acme", "app", NOON - 40 * DAY)
    for days in range(5):
        ledger.spend("acme", NOON - days * DAY - 2 * HOUR, app, GPT, usage("1"))
    ledger.spend("acme", NOON - DAY, None, MISTRAL, usage("0.25"))
    world = World(engine, ledger)
    world.sync()
    return world


@pytest.fixture
def world(filled: Filled[World], engine: sa.Engine) -> World:
    return filled(synced_world, engine)


@pytest.fixture
def told(
    world: World, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Told:
    """Exit code and stdout of a question, asked at the world's clock."""
    for name in ("OPENROUTER_API_KEY", "ORCOST_HOME", "ORCOST_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)

    def ask(day: date | None = None, output: str = "table", account: str | None = None) -> tuple[int, str]:
        capsys.readouterr()
        code = reconcile(load_settings(), account, day, output, world.now)
        return code, capsys.readouterr().out

    return ask


def test_a_month_is_told_day_by_day_with_its_causes(told: Told) -> None:
    code, out = told()
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["Day", "OpenRouter", "USD", "Keys", "USD", "Left", "Status", "Cause"]
    number = int(lines[-2].split()[0])
    assert lines[-2] == f"{number} days: {number - 1} closed, 1 explained, none open."
    assert lines[-4] == f"Left by day: {'·' * (number - 2)}█·"
    assert lines[-7].split() == ["2026-11-22", "1.25", "1.00", "0.2500", "explained", *["spend", "without", "a", "key"]]
    assert lines[-6].split() == ["2026-11-23", "1.00", "1.00", "–", "closed"]
    assert lines[-1] == "Complete to 12:20 UTC (just now)"


def test_a_day_is_told_in_full(told: Told) -> None:
    _, out = told(YESTERDAY)
    assert "\n\nNo key explains\nKey        Cause                    USD   BYOK USD\n" in out
    assert "(no key)   spend without a key   0.2500          –" in out
    assert "1 day: 0 closed, 1 explained, none open." in out


def test_spend_that_no_key_explains_names_the_keys_that_bore_its_name(world: World, told: Told) -> None:
    app = next(iter(world.ledger.accounts["acme"].keys))
    with world.engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into core.unkeyed_hour (account_id, hour, name, credits_usd, byok_usd) "
            "select account_id, timestamptz '2026-11-22 12:00Z', name, 0.5, 0 "
            "from ref.account, unnest(array['app', 'stranger']) as name"
        )
        connection.exec_driver_sql("update core.api_key set deleted_at = '2026-11-23Z'")
    lines = [line.split() for line in told(YESTERDAY)[1].splitlines()]
    assert ["Key", "Keys", "of", "that", "name", "Cause", "USD", "BYOK", "USD"] in lines
    assert ["app", app[:8], *["spend", "of", "a", "deleted", "key"], "0.5000", "–"] in lines
    assert ["stranger", "–", *["spend", "of", "a", "key", "never", "listed"], "0.5000", "–"] in lines


def test_a_key_that_was_never_listed_is_named_by_its_hash(world: World, told: Told) -> None:
    app = next(iter(world.ledger.accounts["acme"].keys))
    with world.engine.begin() as connection:
        connection.exec_driver_sql("update core.usage_daily set credits_usd = credits_usd + 1 where key_id > 0")
        connection.exec_driver_sql("delete from core.api_key_version")
    out = told(YESTERDAY)[1]
    assert f"(never listed) {app[:8]}" in out[out.index("Hours and day differ") :]


def test_an_open_day_names_the_keys_that_disagree_and_exits_1(world: World, told: Told) -> None:
    app = next(iter(world.ledger.accounts["acme"].keys))
    world.later(days=3).sync()
    day = world.now.date() - DAY
    world.ledger.spend("acme", world.now - DAY, app, GPT, usage("0.5"), activity_from=world.now + 30 * DAY)
    world.sync()
    code, out = told()
    assert code == 1
    assert "1 OPEN. Next: orcost reconcile --day DATE" in out
    code, out = told(day)
    assert code == 1
    assert "hours and activity disagree" in out
    assert "Hours and day differ\n" in out


def test_a_restated_day_says_what_it_was(world: World, told: Told) -> None:
    app = next(iter(world.ledger.accounts["acme"].keys))
    world.ledger.spend("acme", NOON - DAY, app, GPT, usage("0.5"))
    world.later(minutes=5).sync()
    _, out = told(YESTERDAY)
    assert "Restated\n" in out
    assert [line.split()[-2:] for line in out.splitlines() if line.startswith("2026-11-23 12:25")] == [["1.00", "1.50"]]


def test_programs_get_exact_rows(told: Told) -> None:
    _, out = told(YESTERDAY, "json")
    assert [(row["day"], row["residual_credits_usd"]) for row in json.loads(out)] == [("2026-11-22", "0.25")]
    _, out = told(None, "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["cause"] for row in rows if row["status"] == "explained"} == {"spend without a key"}


def test_old_data_says_so(world: World, told: Told) -> None:
    world.later(hours=5)
    assert told()[1].splitlines()[-1] == "STALE: complete to 12:20 UTC (5 hours ago)"


def test_a_day_or_account_that_nobody_knows_is_a_sentence(told: Told) -> None:
    with pytest.raises(PermanentError, match="Nothing is known of 2020-01-01"):
        told(date(2020, 1, 1))
    with pytest.raises(PermanentError, match='No account is called "nobody"'):
        told(account="nobody")
