"""How much of a key's limit is used: by the counter that its reset names, with BYOK only where the key says so."""

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orcost_pipeline.cli.keys import keys
from orcost_pipeline.settings import load_settings
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

Told = Callable[..., str]


@pytest.fixture
def world(engine: sa.Engine) -> World:
    """An account without keys. NOON is a Monday, the 23rd."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    return World(engine, ledger)


def limited(world: World, limit: str | None, reset: str | None, **fields: Any) -> str:
    """A key that used 3 (and 30 BYOK) today, 37 more in this month but not in this week, and 100 before."""
    key = world.ledger.add_key(
        "acme", "app", NOON - 90 * DAY, limit=limit and Decimal(limit), limit_reset=reset, **fields
    )
    for days, credits_usd, byok_usd in ((0, "3", "30"), (7, "37", "0"), (60, "100", "0")):
        world.ledger.spend("acme", NOON - days * DAY - 2 * HOUR, key, GPT, usage(credits_usd, byok_usd))
    return key


def used(world: World) -> Any:
    return world.value("select limit_used_percent from ref.api_key")


@pytest.mark.parametrize(
    ("limit", "reset", "with_byok", "percent"),
    sampled(
        [
            ("10", "daily", False, 30),
            ("10", "weekly", False, 30),
            ("100", "monthly", False, 40),
            ("200", None, False, 70),
            ("10", "daily", True, 330),
            ("200", None, True, 85),
            ("0", "daily", False, 100),
            ("0", None, False, 100),
            (None, None, False, None),
            ("7", "monthly", False, Decimal("571.4285714285714286")),
        ],
        3,
    ),
)
def test_a_limit_is_measured_against_the_counter_that_its_reset_names(
    world: World, limit: str | None, reset: str | None, with_byok: bool, percent: Any
) -> None:
    limited(world, limit, reset, include_byok_in_limit=with_byok)
    world.sync()
    assert used(world) == percent
    assert world.rows("select include_byok_in_limit from ref.api_key") == [(with_byok,)]


def test_of_a_reset_that_we_do_not_know_openrouter_says_what_is_left(world: World) -> None:
    limited(world, "10", "daily")
    world.sync()
    with world.engine.begin() as connection:
        connection.execute(sa.text("update core.api_key_version set limit_reset = 'hourly'"))
        connection.execute(sa.text("update core.api_key set limit_remaining_usd = 2.5"))
    assert used(world) == 75


def test_a_key_that_byok_used_up_shows_as_used_up_and_its_credits_apart(world: World) -> None:
    key = world.ledger.add_key("acme", "app", NOON - DAY, limit=Decimal(100), include_byok_in_limit=True)
    world.ledger.spend("acme", NOON - 2 * HOUR, key, GPT, usage("0", "100"))
    world.sync()
    columns = "limit_used_percent, limit_remaining_usd, usage_usd, byok_usage_usd"
    assert world.rows(f"select {columns} from ref.api_key") == [(100, 0, 0, 100)]


def test_a_limit_starts_again_with_its_day(world: World) -> None:
    limited(world, "10", "daily")
    world.sync()
    assert used(world) == 30
    world.later(days=1).sync()
    assert used(world) == 0


def test_a_deleted_key_has_no_limit_to_use_up(world: World) -> None:
    key = limited(world, "10", "daily")
    world.sync()
    world.ledger.delete("acme", key, NOON + HOUR / 2)
    world.later(hours=1).sync()
    assert used(world) is None


def test_whether_byok_counts_is_part_of_a_keys_history(world: World) -> None:
    key = limited(world, "10", None)
    world.sync()
    world.ledger.change("acme", key, NOON + HOUR / 2, include_byok_in_limit=True)
    world.later(hours=1).sync()
    told = "select valid_from, include_byok_in_limit from ref.api_key_history order by 1"
    assert world.rows(told) == [(NOON, False), (NOON + HOUR, True)]
    assert "core.api_key_version" not in world.later(minutes=1).sync()


@pytest.fixture
def told(
    world: World, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Told:
    """What `orcost keys` prints."""
    for name in ("OPENROUTER_API_KEY", "ORCOST_HOME", "ORCOST_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)

    def ask(output: str = "table", *, is_history: bool = False) -> str:
        capsys.readouterr()
        keys(load_settings(), None, output, world.now, is_history=is_history)
        return capsys.readouterr().out

    return ask


def test_keys_are_listed_with_their_limits_and_how_much_of_them_is_used(world: World, told: Told) -> None:
    key = limited(world, "10", "daily")
    world.ledger.add_key("acme", "free", NOON - DAY)
    world.sync()
    app, free = (next(it for it in told().splitlines() if it.startswith(name)) for name in ("app", "free"))
    assert app.split()[-4:] == ["10", "daily", "30.0", "%"]
    assert free.split()[-2:] == ["–", "–"]
    (row, _) = json.loads(told("json"))
    assert {name: row[name] for name in row if "limit" in name} == {
        "limit_usd": "10",
        "limit_reset": "daily",
        "include_byok_in_limit": False,
        "limit_used_percent": "30",
    }
    world.ledger.change("acme", key, NOON + timedelta(minutes=5), include_byok_in_limit=True)
    world.later(minutes=10).sync()
    assert "10 daily with BYOK" in told()
    assert "BYOK within the limit: False → True" in told(is_history=True)


def test_without_any_limit_nothing_is_said_of_limits(world: World, told: Told) -> None:
    limited(world, None, None)
    world.sync()
    assert "Limit" not in told()
