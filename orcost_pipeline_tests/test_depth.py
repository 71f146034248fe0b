"""History further back than activity and hours reach: asked for, or missed; and what is known of a hole in between."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from orcost_pipeline.errors import ContractError
from orcost_pipeline.simulator import Ledger, Options
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

TODAY = NOON.date()
LONG_AGO = NOON - 400 * DAY
FACTS = {"core.usage_hourly", "core.usage_daily", "core.company_day", "core.unkeyed_hour"}


@pytest.fixture
def ledger() -> Ledger:
    """Two keys of one name and one of another, used each day for 400 days, and the chat room once a week."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(5000))
    keys = [ledger.add_key("acme", name, LONG_AGO) for name in ("app", "app", "batch")]
    for days in range(1, 400):
        at = NOON - days * DAY
        ledger.spend("acme", at, keys[days % 3], (GPT, CLAUDE)[days % 2], usage(f"0.{days:03}000001", "0.5"))
        if days % 7 == 0:
            ledger.spend("acme", at - 3 * HOUR, None, GPT, usage("0.25"))
    return ledger


@pytest.fixture
def world(engine: sa.Engine, ledger: Ledger) -> World:
    return World(engine, ledger)


def days_by_source(world: World) -> dict[str, tuple[date, date]]:
    rows = world.rows("select source, min(day), max(day) from core.spend_daily where key_hash is not null group by 1")
    return {source: (first, last) for source, first, last in rows}


def standing(world: World, day: date) -> tuple[Any, ...]:
    return tuple(
        world.rows("select status, cause, hours_credits_usd from marts.reconciliation_daily where day = :day", day=day)[
            0
        ]
    )


def app_key(world: World) -> str:
    return next(iter(world.ledger.accounts["acme"].keys))


# ── as far back as there is ──────────────────────────────────────────────────────────────────────────────────────────


def test_days_before_the_first_usage_and_after_the_last_are_not_asked_for_by_key(engine: sa.Engine) -> None:
    ledger = Ledger()
    ledger.add_account("acme")
    key = ledger.add_key("acme", "app", LONG_AGO)
    for days in (40, 90):
        ledger.spend("acme", NOON - days * DAY, key, GPT, usage("0.5"))
    world = World(engine, ledger)
    world.sync()
    asked = [it.body for it in world.simulator.asked("/analytics/query") if it.body["granularity"] == "day"]
    by_key = [tuple(it["time_range"][edge][:10] for edge in ("start", "end")) for it in asked if "filters" in it]
    assert by_key == [tuple(f"{(NOON - days * DAY).date()}" for days in (90, 39))]
    world.assert_days_are_true(364)
    assert world.value("select count(*) from core.account_day where is_settled") == 364


def test_the_first_sync_reads_a_year_by_day(world: World) -> None:
    world.map("Acme,key_name,*,,,")
    world.sync()
    world.assert_days_are_true(364)
    world.assert_hours_are_true()
    world.assert_books_close()
    assert days_by_source(world) == {
        "analytics": (TODAY - 364 * DAY, TODAY - 31 * DAY),
        "activity": (TODAY - 30 * DAY, TODAY - DAY),
    }
    months = world.rows(
        "select distinct month, is_complete, is_settled, known_from from marts.company_spend_monthly order by month"
    )
    begins = NOON.replace(year=2025, month=11, day=24, hour=0, minute=0)
    assert months[0] == (date(2025, 11, 1), False, False, begins)
    assert [row[1:3] for row in months[1:-1]] == [(True, True)] * 11
    assert months[-1] == (date(2026, 11, 1), True, False, NOON.replace(day=1, hour=0, minute=0))
    assert not FACTS & set(world.later(minutes=5).sync())


def test_a_year_costs_one_question_for_the_account_and_one_for_each_batch_of_its_keys(world: World) -> None:
    world.sync()
    by_day = [asked.body for asked in world.simulator.asked("/analytics/query") if asked.body["granularity"] == "day"]
    filtered = [body for body in by_day if "filters" in body]
    assert len(filtered) == 2, "two keys share a name, so that there are two batches"
    unfiltered = [body["dimensions"] for body in by_day if "filters" not in body]
    assert unfiltered[0] == ["model"]
    assert unfiltered[1:] == [["api_key_id", "model"]] * 4, "of whom the chat room's days are, in four spans at most"


def test_since_shortens_the_first_sync_for_good(world: World) -> None:
    """History begins where it was told to, by hour as by day, and later syncs do not look behind."""
    since = TODAY - 10 * DAY
    for _ in range(2):
        world.sync(since=since) if world.reading is None else world.later(hours=1).sync()
        assert world.value("select min(day) from core.spend_daily") == since
        assert world.value("select hours_from from ref.account") == NOON.replace(hour=0, minute=0) - 10 * DAY
        world.assert_days_are_true(10)
        told = world.rows("select distinct period, is_complete from marts.company_spend_rolling order by 1")
        assert told == [("24h", True), ("30d", False), ("7d", True)]
    november = "select is_complete, is_settled, known_from from marts.company_spend_monthly where month = '2026-11-01'"
    assert set(world.rows(november)) == {(False, False, NOON.replace(hour=0, minute=0) - 10 * DAY)}
    world.later(days=20).sync()
    assert set(world.rows(november)) == {(False, False, NOON.replace(hour=0, minute=0) - 10 * DAY)}
    world.sync(since=TODAY - 20 * DAY)
    assert world.value("select hours_from from ref.account") == world.now.replace(minute=0) - 743 * HOUR


@pytest.mark.slow
def test_since_yesterday_after_days_off_leaves_no_hole(world: World) -> None:
    world.sync()
    spend_while_away(world, 5)
    world.later(days=5).sync(since=world.now.date() - DAY)
    world.assert_hours_are_true()
    assert world.rows("select distinct is_complete from marts.company_spend_rolling") == [(True,)]


def test_months_without_any_usage_are_known_too(engine: sa.Engine) -> None:
    ledger = Ledger()
    ledger.add_account("acme")
    key = ledger.add_key("acme", "app", LONG_AGO)
    ledger.spend("acme", NOON - 200 * DAY, key, GPT, usage("1"))
    ledger.spend("acme", NOON - HOUR, key, GPT, usage("1"))
    world = World(engine, ledger)
    world.sync(since=TODAY - 5 * DAY)
    world.sync(since=TODAY - 300 * DAY)
    months = world.rows("select month, is_complete, is_settled from marts.company_spend_monthly order by month")
    assert months == [(date(2026, 5, 1), True, True), (date(2026, 11, 1), True, False)]
    assert world.value("select count(*) from marts.reconciliation_daily") == 301


# ── as far back as asked ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("is_first", [True, False])
def test_since_reaches_back_by_day_where_hours_and_activity_end(world: World, *, is_first: bool) -> None:
    if not is_first:
        world.sync(since=TODAY - 10 * DAY)
        assert set(days_by_source(world)) == {"activity"}
    world.sync(since=TODAY - 100 * DAY)
    world.assert_days_are_true(100)
    world.assert_hours_are_true()
    world.assert_books_close()
    assert days_by_source(world) == {
        "analytics": (TODAY - 100 * DAY, TODAY - 31 * DAY),
        "activity": (TODAY - 30 * DAY, TODAY - DAY),
    }
    assert standing(world, TODAY - 91 * DAY) == ("explained", "spend without a key", None)
    assert standing(world, TODAY - 92 * DAY) == ("closed", None, None)
    assert not FACTS & set(world.sync(since=TODAY - 100 * DAY))
    assert not FACTS & set(world.later(minutes=5).sync())
    assert standing(world, TODAY - 91 * DAY) == ("explained", "spend without a key", None)


def test_since_reaches_no_further_than_a_year(world: World) -> None:
    world.sync(since=TODAY - 399 * DAY)
    world.assert_days_are_true(364)
    assert world.value("select min(day) from core.spend_daily") == TODAY - 364 * DAY


def test_a_past_day_that_is_as_stored_keeps_what_activity_knew(world: World) -> None:
    world.sync()
    world.later(days=60).sync(since=TODAY - 30 * DAY)
    providers = (
        "select distinct provider from core.spend_daily "
        "where day >= :first and day < :day and key_hash is not null order by 1"
    )
    assert world.rows(providers, first=TODAY - 30 * DAY, day=TODAY) == [("Anthropic",), ("OpenAI",)]
    assert world.value("select count(*) from ops.restatement") == 0


def test_a_past_day_that_was_restated_is_noted_and_taken(world: World) -> None:
    world.sync()
    day = TODAY - 9 * DAY
    world.ledger.restate("acme", day, app_key(world), CLAUDE, factor=Decimal(2))
    world.later(days=60).sync()
    assert world.value("select count(*) from ops.restatement") == 0, "beyond what a sync compares"
    world.sync(since=day)
    world.assert_days_are_true(69)
    noted = world.rows("select day, credits_usd_before, credits_usd_after, byok_usd_after from ops.restatement")
    assert noted == [(day, Decimal("0.009000001"), Decimal("0.018000002"), Decimal(1))]
    assert standing(world, day)[:2] == ("explained", "a restated day"), "its hours cannot be asked again"


@pytest.mark.slow
def test_past_days_of_a_deleted_key_are_its_own_where_it_alone_bore_the_name(engine: sa.Engine, ledger: Ledger) -> None:
    world = World(engine, ledger, options=Options(deleted_by_hash="empty", deleted_activity="empty"))
    world.sync(since=TODAY - 30 * DAY)
    app, _, batch = world.ledger.accounts["acme"].keys
    world.ledger.delete("acme", batch, NOON + HOUR)
    world.ledger.delete("acme", app, NOON + HOUR)
    world.later(hours=2).sync(since=TODAY - 50 * DAY)
    past = (
        "select sum(credits_usd) from core.spend_daily "
        f"where day >= '{TODAY - 50 * DAY}' and day < :end and key_hash is not distinct from :key"
    )
    truth = world.ledger.daily("acme", TODAY - 50 * DAY, TODAY - 30 * DAY, now=world.now)
    of = {key: sum(u.credits_usd for (_, k, *_), u in truth.items() if k == key) for key in (app, batch, None)}
    assert world.value(past, end=TODAY - 30 * DAY, key=batch) == of[batch]
    assert world.value(past, end=TODAY - 30 * DAY, key=None) == of[app] + of[None], "two keys bore the name"
    causes = "select distinct cause from marts.unkeyed_spend_daily where day < :end and key_name = 'app'"
    assert world.rows(causes, end=TODAY - 30 * DAY) == [("spend of a deleted key",)]
    world.later(hours=1).sync()
    assert world.rows(causes, end=TODAY - 30 * DAY) == [("spend of a deleted key",)]


def test_an_account_whose_analytics_are_refused_asks_for_no_past_days(engine: sa.Engine, ledger: Ledger) -> None:
    world = World(engine, ledger, options=Options(analytics_status=403))
    world.sync(since=TODAY - 100 * DAY)
    assert world.value("select min(day) from core.spend_daily") >= TODAY - 30 * DAY


# ── after days off ───────────────────────────────────────────────────────────────────────────────────────────────────


def spend_while_away(world: World, days: int) -> None:
    for number in range(days * 4):
        at = world.now + number * 6 * HOUR + timedelta(minutes=1)
        key = list(world.ledger.accounts["acme"].keys)[number % 3]
        world.ledger.spend("acme", at, key, GPT, usage(f"1.{number:03}"))


def test_twelve_days_off_every_day_is_right_after_one_sync(world: World) -> None:
    world.sync()
    spend_while_away(world, 12)
    world.later(days=12).sync()
    world.assert_hours_are_true()
    world.assert_days_are_true()
    world.assert_books_close()
    assert world.rows("select distinct status from marts.reconciliation_daily where status = 'open'") == []
    assert world.rows("select distinct is_complete from marts.company_spend_rolling") == [(True,)]


@pytest.mark.slow
def test_days_that_hours_do_not_reach_any_more_are_had_by_day_and_marked(world: World) -> None:
    world.sync(since=TODAY - 30 * DAY)
    spend_while_away(world, 45)
    world.later(days=45).sync()
    world.assert_days_are_true(75)
    world.assert_hours_are_true()
    world.assert_books_close()
    assert days_by_source(world)["analytics"] == (TODAY, TODAY + 14 * DAY), "the day of the last sync too: it was half"
    assert world.rows("select distinct status from marts.reconciliation_daily where status = 'open'") == []
    assert standing(world, TODAY)[2] is None
    assert standing(world, TODAY - DAY)[2] is not None
    assert not FACTS & set(world.later(minutes=5).sync())


def test_a_day_that_never_settled_is_settled_by_analytics_when_activity_forgot_it(world: World) -> None:
    """Off for 30 days and some: its hours are all there, its activity is not."""
    world.sync()
    world.later(days=30, hours=14).sync()
    assert world.value("select is_settled from core.account_day where day = :day", day=TODAY)
    world.assert_days_are_true(31)
    assert world.rows("select distinct is_complete from marts.company_spend_rolling") == [(True,)]


def test_rolling_windows_that_lack_hours_say_so(world: World) -> None:
    """Analytics were away for a while, counters were not there yet, and the account is new here."""
    world.options = Options(analytics_status=403)
    world.simulator.options = world.options
    world.sync()
    told = world.rows("select distinct period, is_complete, known_from from marts.company_spend_rolling")
    hour = NOON.replace(minute=0)
    month, monday = hour.replace(day=1, hour=0), hour.replace(hour=0)
    assert sorted(told) == [("24h", False, monday), ("30d", False, month), ("7d", False, monday)]


@pytest.mark.slow
def test_the_last_window_before_a_hole_is_not_compared_with(world: World) -> None:
    world.sync()
    spend_while_away(world, 3)
    world.later(days=45).sync()
    previous = "select distinct period, previous_credits_usd is null from marts.company_spend_rolling"
    assert sorted(world.rows(previous)) == [("24h", False), ("30d", True), ("7d", False)]


@pytest.mark.slow
def test_a_deleted_key_that_tells_its_past_days_keeps_the_recent_ones_that_activity_told(
    engine: sa.Engine, ledger: Ledger
) -> None:
    """Analytics answer its hash, activity does not any more."""
    world = World(engine, ledger, options=Options(deleted_activity="empty"))
    world.sync()
    batch = list(world.ledger.accounts["acme"].keys)[2]
    world.ledger.delete("acme", batch, NOON + HOUR)
    world.later(hours=2).sync(since=TODAY - 50 * DAY)
    world.assert_days_are_true(50)
    sources = "select source, min(day) from core.spend_daily where key_hash = :key group by 1 order by 1"
    assert [source for source, _ in world.rows(sources, key=batch)] == ["activity", "analytics"]


def test_a_silent_key_keeps_its_past_day_when_another_keys_is_restated(engine: sa.Engine, ledger: Ledger) -> None:
    """Its name is another's too, so that nobody can tell its rows any more."""
    world = World(engine, ledger, options=Options(deleted_by_hash="empty", deleted_activity="empty"))
    app, _, batch = world.ledger.accounts["acme"].keys
    day = TODAY - 50 * DAY
    for key in (app, batch):
        world.ledger.spend("acme", NOON - 50 * DAY, key, GPT, usage("0.7"))
    world.sync(since=TODAY - 60 * DAY)
    world.ledger.delete("acme", app, NOON + HOUR)
    world.ledger.restate("acme", day, batch, GPT, factor=Decimal(2))
    world.later(hours=2).sync(since=TODAY - 60 * DAY)
    world.assert_days_are_true(60)
    assert standing(world, day) == ("closed", None, None)


@pytest.mark.slow
def test_past_days_that_do_not_fit_one_answer_are_split_at_midnight(engine: sa.Engine, ledger: Ledger) -> None:
    world = World(engine, ledger, options=Options(max_rows=2))
    world.sync(since=TODAY - 60 * DAY)
    world.assert_days_are_true(60)


def test_a_past_day_that_does_not_fit_one_answer_is_refused(engine: sa.Engine, ledger: Ledger) -> None:
    world = World(engine, ledger, options=Options(max_rows=1))
    with pytest.raises(ContractError, match="for one day"):
        world.sync(since=TODAY - 60 * DAY)
