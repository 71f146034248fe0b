"""What an account was charged, what its keys explain, and why they differ: each day closes, or has a named cause."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from orcost_pipeline.simulator import Ledger, Options
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, MISTRAL
from orcost_pipeline_tests.conftest import Filled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

TODAY = NOON.date()


def synced_world(engine: sa.Engine) -> World:
    """One key `app` with spend each day, synced an hour ago; what a deleted key used is told under its name only."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    app = ledger.add_key("acme", "app", NOON - 40 * DAY)
    for days in range(5):
        ledger.spend("acme", NOON - days * DAY - 2 * HOUR, app, GPT, usage("1"))
    world = World(engine, ledger, now=NOON - HOUR, options=Options(deleted_by_hash="empty", deleted_activity="empty"))
    world.sync()
    world.now = NOON
    return world


@pytest.fixture
def world(filled: Filled[World], engine: sa.Engine) -> World:
    return filled(synced_world, engine)


def reconciliation(world: World, day: date = TODAY) -> tuple[Any, ...]:
    rows = world.rows(
        "select residual_credits_usd, status, cause from marts.reconciliation_daily where day = :day", day=day
    )
    return tuple(rows[0])


def unkeyed(world: World) -> list[tuple[Any, ...]]:
    rows = world.rows(
        "select day, key_name, cause, credits_usd, byok_usd from marts.unkeyed_spend_daily order by day, key_name"
    )
    return [tuple(row) for row in rows]


def made_and_deleted(world: World, name: str, credits_usd: str) -> str:
    """A key that lived, and spent, between two syncs."""
    key = world.ledger.add_key("acme", name, world.now - timedelta(minutes=50))
    world.ledger.spend("acme", world.now - timedelta(minutes=40), key, GPT, usage(credits_usd))
    world.ledger.delete("acme", key, world.now - timedelta(minutes=30))
    return key


def test_days_that_their_keys_explain_are_closed(world: World) -> None:
    world.sync()
    assert set(world.rows("select status, cause from marts.reconciliation_daily")) == {("closed", None)}
    assert unkeyed(world) == []


def test_spend_of_the_chat_room_is_spend_without_a_key(world: World) -> None:
    world.ledger.spend("acme", NOON - HOUR / 2, None, MISTRAL, usage("0.05", "0.2"))
    world.sync()
    assert reconciliation(world) == (Decimal("0.05"), "explained", "spend without a key")
    assert unkeyed(world) == [(TODAY, None, "spend without a key", Decimal("0.05"), Decimal("0.2"))]


def test_a_key_made_and_deleted_between_two_syncs_is_named(world: World) -> None:
    made_and_deleted(world, "one night", "0.75")
    world.ledger.spend("acme", NOON - HOUR / 2, None, MISTRAL, usage("0.05"))
    world.sync()
    assert reconciliation(world) == (Decimal("0.80"), "explained", "spend of a key never listed; spend without a key")
    assert unkeyed(world) == [
        (TODAY, "one night", "spend of a key never listed", Decimal("0.75"), Decimal(0)),
        (TODAY, None, "spend without a key", Decimal("0.05"), Decimal(0)),
    ]


def test_a_key_rotated_away_before_the_first_sync_is_not_late(engine: sa.Engine) -> None:
    """Its successor bears its name, and did not live then: asking it again can tell nothing."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    old = ledger.add_key("acme", "app", NOON - 40 * DAY)
    ledger.spend("acme", NOON - 9 * HOUR, old, GPT, usage("0.6"))
    ledger.delete("acme", old, NOON - 5 * HOUR)
    new = ledger.add_key("acme", "app", NOON - 6 * HOUR)
    ledger.spend("acme", NOON - 2 * HOUR, new, GPT, usage("1"))
    world = World(engine, ledger)
    world.sync()
    assert reconciliation(world) == (Decimal("0.6"), "explained", "spend of a key never listed")
    assert world.reading is not None
    assert world.reading.hours.unexplained == []
    world.later(minutes=5).sync()
    assert list(world.reading.hours.windows) == []


@pytest.mark.slow
def test_last_spend_of_one_of_two_deleted_keys_of_one_name_is_a_deleted_keys(world: World) -> None:
    """Under a name that two keys bore nobody can say whose it is."""
    keys = [world.ledger.add_key("acme", "batch", NOON - 3 * HOUR) for _ in range(2)]
    world.later(minutes=10).sync()
    world.ledger.spend("acme", world.now + timedelta(minutes=5), keys[0], CLAUDE, usage("0.4"))
    for key in keys:
        world.ledger.delete("acme", key, world.now + timedelta(minutes=10))
    world.later(minutes=20).sync()
    assert reconciliation(world) == (Decimal("0.4"), "explained", "spend of a deleted key")
    assert unkeyed(world) == [(TODAY, "batch", "spend of a deleted key", Decimal("0.4"), Decimal(0))]


@pytest.mark.slow
def test_the_name_that_one_key_alone_bore_is_that_keys_whatever_became_of_it(world: World) -> None:
    key = world.ledger.add_key("acme", "batch", NOON - 3 * HOUR)
    world.later(minutes=10).sync()
    world.ledger.spend("acme", world.now + timedelta(minutes=5), key, CLAUDE, usage("0.4"))
    world.ledger.delete("acme", key, world.now + timedelta(minutes=10))
    world.later(minutes=20).sync()
    assert reconciliation(world) == (Decimal(0), "closed", None)
    assert unkeyed(world) == []


@pytest.mark.slow
def test_hours_that_are_late_say_so_until_they_are_there(world: World) -> None:
    """The account's answer knows a row that its key's does not know yet."""
    app = next(iter(world.ledger.accounts["acme"].keys))
    soon = world.now + timedelta(seconds=30)
    world.ledger.spend("acme", NOON - HOUR / 2, app, GPT, usage("2"), visible_from=soon)
    plain = world.simulator.handle

    def handle(request: Any) -> Any:
        world.now = NOON if b"filters" in request.content else soon
        return plain(request)

    world.simulator.handle = handle  # type: ignore[method-assign]
    world.sync()
    world.simulator.handle = plain  # type: ignore[method-assign]
    assert reconciliation(world) == (Decimal(2), "explained", "late hours")
    world.later(minutes=5).sync()
    assert reconciliation(world) == (Decimal(0), "closed", None)
    assert unkeyed(world) == []


@pytest.mark.slow
def test_a_cause_outlives_the_settling_of_its_day_and_the_next_syncs_write_nothing(world: World) -> None:
    made_and_deleted(world, "one night", "0.75")
    world.ledger.spend("acme", NOON - HOUR / 2, None, MISTRAL, usage("0.05"))
    world.sync()
    told = unkeyed(world)
    world.later(days=2).sync()
    assert reconciliation(world) == (Decimal("0.80"), "explained", "spend of a key never listed; spend without a key")
    assert unkeyed(world) == told
    written = world.later(minutes=1).sync()
    assert not {"core.unkeyed_hour", "core.account_day", "core.usage_hourly", "core.usage_daily"} & set(written)


def test_a_settled_day_below_its_hours_is_open(world: World) -> None:
    world.later(days=3).sync()
    yesterday = world.now.date() - DAY
    world.ledger.spend("acme", world.now - DAY, None, MISTRAL, usage("0.5"), activity_from=world.now + 30 * DAY)
    world.sync()
    assert reconciliation(world, yesterday)[1:] == ("open", "hours and activity disagree")


def test_a_day_of_a_deleted_key_restated_to_nothing_is_nothing(world: World) -> None:
    """Its hash still answers other days: that it tells nothing of this one is a zero, not silence."""
    world.options = Options()
    world.simulator.options = world.options
    app = next(iter(world.ledger.accounts["acme"].keys))
    world.ledger.delete("acme", app, NOON + HOUR)
    world.later(days=3).sync()
    world.ledger.restate("acme", TODAY - 2 * DAY, app, GPT, factor=Decimal(0))
    world.sync()
    assert reconciliation(world, TODAY - 2 * DAY) == (Decimal(0), "closed", None)
    world.assert_hours_are_true()
    world.assert_days_are_true()


def test_a_day_of_a_deleted_key_that_is_silent_altogether_stays_and_is_open(world: World) -> None:
    app = next(iter(world.ledger.accounts["acme"].keys))
    world.ledger.delete("acme", app, NOON + HOUR)
    world.later(days=3).sync()
    world.ledger.restate("acme", TODAY - 2 * DAY, app, GPT, factor=Decimal(0))
    world.sync()
    assert reconciliation(world, TODAY - 2 * DAY) == (Decimal(-1), "open", "the keys report more than the account")


def test_a_restated_day_whose_hours_stay_is_explained(world: World) -> None:
    world.later(days=3).sync()
    app = next(iter(world.ledger.accounts["acme"].keys))
    never = world.now + 300 * DAY
    world.ledger.spend("acme", world.now - 2 * DAY, app, GPT, usage("0.5"), visible_from=never, activity_from=world.now)
    world.sync()
    day = world.now.date() - 2 * DAY
    assert reconciliation(world, day) == (Decimal(0), "explained", "a restated day")
    assert world.value("select sum(credits_usd_after - credits_usd_before) from ops.restatement") == Decimal("0.5")


def test_a_restatement_is_noted_however_small_it_is_beside_its_day(world: World) -> None:
    world.later(days=3).sync()
    app = next(iter(world.ledger.accounts["acme"].keys))
    never, little = world.now + 300 * DAY, "0.0000001"
    world.ledger.spend(
        "acme", world.now - 2 * DAY, app, GPT, usage(little), visible_from=never, activity_from=world.now
    )
    world.sync()
    assert world.value("select sum(credits_usd_after - credits_usd_before) from ops.restatement") == Decimal(little)
    assert reconciliation(world, world.now.date() - 2 * DAY)[1] != "open"


@pytest.mark.slow
def test_every_witness_of_a_day_stands_beside_the_others(world: World) -> None:
    world.ledger.spend("acme", NOON - HOUR / 2, None, MISTRAL, usage("0.05", "0.2"))
    world.sync()
    columns = (
        "account_credits_usd, hours_credits_usd, keys_hours_credits_usd, keys_activity_credits_usd, "
        "counters_credits_usd, credits_endpoint_usd, hours_byok_usd, keys_hours_byok_usd, counters_byok_usd"
    )
    told = f"select {columns} from marts.reconciliation_daily where day = :day"
    one, chat = Decimal(1), Decimal("1.05")
    assert world.rows(told, day=TODAY) == [(chat, chat, one, None, one, None, Decimal("0.2"), Decimal(0), Decimal(0))]
    world.later(days=1).sync()
    assert world.rows(told, day=TODAY)[0][3:6] == (one, one, None), "counters are those of the last sync of the day"
    tomorrow = TODAY + DAY
    assert world.rows(told, day=tomorrow)[0][5] == Decimal(0), "nothing was used since"
    world.ledger.spend("acme", world.now, None, MISTRAL, usage("0.07"), visible_from=world.now + HOUR)
    world.later(minutes=5).sync()
    assert world.rows(told, day=tomorrow)[0][0::5] == (Decimal(0), Decimal("0.07")), "/credits moves first"


def test_the_tolerance_is_a_setting(world: World) -> None:
    world.ledger.spend("acme", NOON - HOUR / 2, None, MISTRAL, usage("0.05"))
    world.tolerance_usd = Decimal("0.1")
    world.sync()
    assert reconciliation(world) == (Decimal("0.05"), "closed", None)
    world.tolerance_usd = Decimal("0.01")
    world.sync()
    assert reconciliation(world) == (Decimal("0.05"), "explained", "spend without a key")


@pytest.mark.slow
def test_a_cause_moves_with_what_is_learnt_later(world: World) -> None:
    """Nothing of the day changes when the second bearer of the name is deleted too."""
    keys = [world.ledger.add_key("acme", "batch", NOON - 3 * HOUR) for _ in range(2)]
    world.later(minutes=10).sync()
    world.ledger.spend("acme", world.now + timedelta(minutes=5), keys[0], CLAUDE, usage("0.4"))
    world.ledger.delete("acme", keys[0], world.now + timedelta(minutes=10))
    world.later(minutes=20).sync()
    before = reconciliation(world)
    assert before[:2] == (Decimal("0.4"), "explained")
    world.ledger.delete("acme", keys[1], world.now + timedelta(minutes=1))
    world.later(minutes=20).sync()
    told = {cause for _, _, cause, *_ in unkeyed(world)}
    assert told == {reconciliation(world)[2]} == {"spend of a deleted key"}


@pytest.mark.slow
def test_a_key_never_listed_is_not_the_deleted_one_of_its_name_whose_hash_still_answers(world: World) -> None:
    """An empty answer alone does not tell a hash that is dead from one that has nothing to say of these hours."""
    world.options = Options()
    world.simulator.options = world.options
    batch = world.ledger.add_key("acme", "batch", NOON - 30 * HOUR)
    world.ledger.spend("acme", NOON - 29 * HOUR, batch, GPT, usage("0.3"))
    world.sync()
    world.ledger.delete("acme", batch, world.now + timedelta(minutes=5))
    world.later(hours=2).sync()
    made_and_deleted(world, "batch", "0.75")
    world.later(minutes=5).sync()
    assert reconciliation(world) == (Decimal("0.75"), "explained", "spend of a deleted key")
    assert world.value("select sum(credits_usd) from core.spend_hourly where key_hash = :key", key=batch) == Decimal(
        "0.3"
    )


def test_a_name_that_we_do_not_know_yet_of_a_key_that_we_do_is_no_cause(world: World) -> None:
    """Renamed and deleted between two syncs: analytics call it by the new name, its hash still answers."""
    world.options = Options()
    world.simulator.options = world.options
    app = next(iter(world.ledger.accounts["acme"].keys))
    world.ledger.spend("acme", NOON + timedelta(minutes=2), app, GPT, usage("0.3"))
    world.ledger.spend("acme", NOON + timedelta(minutes=2), None, MISTRAL, usage("0.05"))
    world.ledger.rename("acme", app, "renamed", NOON + timedelta(minutes=3))
    world.ledger.delete("acme", app, NOON + timedelta(minutes=4))
    world.later(minutes=30).sync()
    assert unkeyed(world) == [(TODAY, None, "spend without a key", Decimal("0.05"), Decimal(0))]
    assert "core.unkeyed_hour" not in world.sync()


@pytest.mark.slow
def test_a_silent_key_is_not_given_what_a_key_explains_that_took_its_name_and_died(world: World) -> None:
    """Renamed and deleted between two syncs: its hash still answers, analytics call it by the silent key's name."""
    world.options = Options()
    world.simulator.options = world.options
    silent = world.ledger.add_key("acme", "batch", NOON - 40 * DAY)
    world.sync()
    world.ledger.delete("acme", silent, world.now + timedelta(minutes=1))
    world.later(minutes=5).sync()
    app = next(iter(world.ledger.accounts["acme"].keys))
    world.ledger.spend("acme", world.now + timedelta(minutes=2), app, GPT, usage("0.3"))
    world.ledger.spend("acme", world.now + timedelta(minutes=2), None, MISTRAL, usage("0.05"))
    world.ledger.rename("acme", app, "batch", world.now + timedelta(minutes=3))
    world.ledger.delete("acme", app, world.now + timedelta(minutes=4))
    world.later(minutes=30).sync()
    world.assert_hours_are_true()
    assert reconciliation(world) == (Decimal("0.05"), "explained", "spend without a key")
