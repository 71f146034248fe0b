"""Analytics that take shorter windows, reach back less, cut answers or give old ones: the figures stay true, and
what is not told never looks known.
"""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from orcost_pipeline.openrouter.api.usage_answer import when_made
from orcost_pipeline.simulator import Ledger, Options
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, MODELS
from orcost_pipeline.simulator.faults import BASE_PATH
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

THIS_HOUR = NOON.replace(minute=0)
QUERY = f"{BASE_PATH}/analytics/query"
Handler = Callable[[httpx.Request], httpx.Response]


def account(*names: str) -> tuple[Ledger, list[str]]:
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(5000))
    return ledger, [ledger.add_key("acme", name, NOON - 400 * DAY) for name in names]


@pytest.fixture
def busy() -> Ledger:
    """Seven keys, two of one name, that take turns each third hour of the last 60 days; the chat room each day."""
    ledger, keys = account("A", "B", "B", "C", "D", "E", "F")
    for number in range(480):
        at = NOON - timedelta(minutes=5) - number * 3 * HOUR
        ledger.spend("acme", at, keys[number % 7], (GPT, CLAUDE)[number % 2], usage(f"0.{number + 1:03}", "0.001"))
        if number % 8 == 0:
            ledger.spend("acme", at, None, GPT, usage("0.02"))
    return ledger


def refused(world: World) -> Callable[[], int]:
    """Counts the analytics questions that are refused from here on."""
    honest, count = world.simulator.handle, [0]

    def handle(request: httpx.Request) -> httpx.Response:
        answer = honest(request)
        count[0] += request.url.path == QUERY and answer.status_code == 400
        return answer

    world.simulator.handle = handle  # type: ignore[method-assign]
    return lambda: count[0]


def hours_from(world: World) -> datetime:
    return world.value("select hours_from from ref.account")


def open_days(world: World) -> list[Any]:
    return world.rows("select day, cause from marts.reconciliation_daily where status = 'open'")


def complete_periods(world: World) -> dict[str, bool]:
    rows = world.rows("select distinct period, is_complete from marts.company_spend_rolling")
    return {row[0]: row[1] for row in rows}


# ── windows that are too long ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(("days", "at_most"), [(1, 5), (2, 4), (3, 4), (7, 3), (30, 1)])
def test_a_window_that_is_too_long_is_halved_and_found_out_once(
    engine: sa.Engine, busy: Ledger, days: int, at_most: int
) -> None:
    world = World(engine, busy, options=Options(hour_window_days=days))
    count = refused(world)
    world.sync()
    assert count() <= at_most
    world.assert_hours_are_true()
    world.assert_days_are_true()
    world.assert_books_close()
    assert hours_from(world) == THIS_HOUR - 743 * HOUR
    assert world.later(minutes=2).sync() == {}


@pytest.mark.slow
def test_windows_filters_and_metrics_are_told_apart_when_they_are_refused(engine: sa.Engine, busy: Ledger) -> None:
    options = Options(hour_window_days=2, max_filter_values=2, has_cached_tokens=False)
    world = World(engine, busy, options=options)
    count = refused(world)
    world.sync()
    assert count() <= 4 + 1 + 2 + 1, "windows, the metric, and a filter of each number of keys that was tried"
    assert len(world.simulator.asked("/analytics/meta")) == 1
    stored = world.value(
        "select sum(credits_usd) from core.spend_hourly where hour >= :start", start=THIS_HOUR - 743 * HOUR
    )
    truth = busy.hourly("acme", THIS_HOUR - 743 * HOUR, NOON, now=NOON).values()
    assert stored == sum(cell.credits_usd for cell in truth)
    assert world.value("select count(*) from core.usage_hourly where key_id <> 0") > 200
    world.assert_books_close()


# ── hours that are too old ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("old_hours", sampled(["400", "clip"], 1))
@pytest.mark.parametrize("window_days", sampled([None, 1], 1))
@pytest.mark.parametrize("days", sampled([2, 7, 20], 1))
def test_hours_are_known_as_far_back_as_analytics_reach_and_days_tell_the_rest(
    engine: sa.Engine, busy: Ledger, old_hours: Any, window_days: int | None, days: int
) -> None:
    options = Options(hour_reach_days=days, old_hours=old_hours, hour_window_days=window_days)
    world = World(engine, busy, options=options)
    world.sync()
    # Hours without usage cannot be told from hours that are not told.
    reach = THIS_HOUR - days * DAY
    assert reach <= hours_from(world) <= (reach if old_hours == "400" else reach + 3 * HOUR)
    assert world.value("select min(hour) from core.usage_hourly") >= reach
    assert not open_days(world)
    world.assert_days_are_true()
    world.assert_hours_are_true(days * 24 - 3)
    world.assert_books_close()
    assert complete_periods(world) == {"24h": True, "7d": days >= 7, "30d": False}
    assert world.later(minutes=2).sync() == {}


@pytest.mark.slow
@pytest.mark.parametrize("old_hours", ["400", "clip"])
def test_hours_that_analytics_do_not_tell_any_more_stay_as_they_were_told(
    engine: sa.Engine, busy: Ledger, old_hours: Any
) -> None:
    world = World(engine, busy, options=Options(hour_reach_days=7, old_hours=old_hours))
    world.sync()
    first = hours_from(world)
    key = next(iter(busy.accounts["acme"].keys))
    for _ in range(5):
        world.later(days=2)
        for number in range(16):
            busy.spend("acme", world.now - number * 3 * HOUR, key, GPT, usage("0.5"))
        world.sync()
    assert hours_from(world) == first
    world.assert_hours_are_true(24 * 17 - 3)
    world.assert_days_are_true()
    assert not open_days(world)
    assert not world.rows("select * from ops.restatement")
    world.later(days=8, hours=5).sync()
    assert hours_from(world) >= world.now - 8 * DAY, "a time without syncs that hours do not reach back over"


def test_an_account_that_is_young_is_known_from_before_its_first_hour(engine: sa.Engine) -> None:
    ledger, (key,) = account("A")
    ledger.spend("acme", NOON - 5 * DAY, key, GPT, usage("1"))
    world = World(engine, ledger)
    world.sync()
    assert hours_from(world) == THIS_HOUR - 743 * HOUR
    assert complete_periods(world)["30d"]


def test_an_account_that_rests_is_known_from_the_end_of_its_last_day_that_hours_do_not_tell(engine: sa.Engine) -> None:
    ledger, (key,) = account("A")
    ledger.spend("acme", NOON - 10 * DAY, key, GPT, usage("1"))
    world = World(engine, ledger, options=Options(hour_reach_days=7, old_hours="clip"))
    world.sync()
    assert hours_from(world) == NOON.replace(hour=0, minute=0) - 9 * DAY
    assert not open_days(world)
    world.assert_days_are_true()


@pytest.mark.slow
def test_without_activity_hours_that_vanish_are_not_taken_for_zero(engine: sa.Engine, busy: Ledger) -> None:
    world = World(engine, busy)
    honest = world.simulator.handle

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == f"{BASE_PATH}/activity":
            return httpx.Response(403, json={"error": {"code": 403, "message": "No."}})
        return honest(request)

    world.simulator.handle = handle  # type: ignore[method-assign]
    world.sync()
    world.simulator.options = Options(hour_reach_days=7, old_hours="clip")
    world.later(hours=1).sync()
    world.assert_hours_are_true(743)
    assert hours_from(world) == THIS_HOUR - 743 * HOUR


# ── answers that are cut ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("rows", [500, 1_000, 2_500])
@pytest.mark.parametrize("is_silent", [True, False])
def test_a_cap_below_the_limit_is_believed_and_a_round_one_is_found(
    engine: sa.Engine, rows: int, *, is_silent: bool
) -> None:
    ledger, keys = account("A", "B", "C")
    for number in range(700):
        for key in keys:
            for model in MODELS[:4]:
                ledger.spend("acme", NOON - number * HOUR, key, model.permaslug, usage("0.001"))
    world = World(engine, ledger, options=Options(max_rows=rows, silent_truncation=is_silent))
    world.sync()
    world.assert_hours_are_true()
    assert not open_days(world)


@pytest.mark.slow
@pytest.mark.parametrize("metadata", [{"row_count": 3}, {"row_count": 2, "limit": 2}, {"truncated": True}], ids=str)
def test_metadata_that_tells_of_more_rows_is_believed(engine: sa.Engine, metadata: dict[str, Any]) -> None:
    ledger, (key,) = account("A")
    for number in range(3):
        ledger.spend("acme", THIS_HOUR - number * HOUR, key, GPT, usage("1"))
    world = World(engine, ledger)
    honest = world.simulator.handle

    def handle(request: httpx.Request) -> httpx.Response:
        answer = honest(request)
        if request.url.path != QUERY or len((body := json.loads(answer.content))["data"]["data"]) < 3:
            return answer
        body["data"]["data"] = body["data"]["data"][:2]
        body["data"]["metadata"] = metadata
        return httpx.Response(200, json=body)

    world.simulator.handle = handle  # type: ignore[method-assign]
    world.sync()
    world.assert_hours_are_true()


@pytest.mark.slow
def test_an_account_whose_hours_are_more_than_an_answer_holds_is_asked_for_in_parts(engine: sa.Engine) -> None:
    """At first the activity says so, later what is stored: no answer is truncated."""
    ledger, (key,) = account("A")
    for number in range(744 * 14):
        at = NOON - timedelta(minutes=5) - number // 14 * HOUR
        ledger.spend("acme", at, key, f"x/model-{number % 14}", usage("0.001"))
    world = World(engine, ledger)
    honest, truncated = world.simulator.handle, []

    def handle(request: httpx.Request) -> httpx.Response:
        answer = honest(request)
        if request.url.path == QUERY and "filters" not in json.loads(request.content):
            truncated.append(answer.json()["data"]["metadata"]["truncated"])
        return answer

    world.simulator.handle = handle  # type: ignore[method-assign]
    world.sync()
    world.assert_hours_are_true()
    assert truncated, "the account was asked about"
    world.later(hours=1).sync()
    assert not any(truncated)


@pytest.mark.slow
def test_an_hour_of_a_round_number_of_rows_is_taken_for_whole(engine: sa.Engine) -> None:
    ledger, keys = account(*(f"key {number}" for number in range(500)))
    for key in keys:
        ledger.spend("acme", NOON - HOUR, key, GPT, usage("0.001"))
    world = World(engine, ledger)
    world.sync()
    world.assert_hours_are_true()


# ── answers that were made before ────────────────────────────────────────────────────────────────────────────────────


def spending_between(world: World, key: str) -> None:
    """Three seconds pass between the account's first answer and the keys', in which the key spends."""
    honest, is_over = world.simulator.handle, [False]

    def handle(request: httpx.Request) -> httpx.Response:
        if b'"filters"' in request.content and not is_over[0]:
            is_over[0] = True
            world.ledger.spend("acme", world.now - timedelta(minutes=1), key, GPT, usage("5"))
            world.now += timedelta(seconds=3)
        return honest(request)

    world.simulator.handle = handle  # type: ignore[method-assign]


def residuals(world: World) -> list[Any]:
    return world.rows("select hour, credits_usd from core.usage_hourly where key_id = 0")


def test_the_account_is_asked_after_its_keys_in_a_form_that_no_cache_knows(engine: sa.Engine) -> None:
    ledger, (key,) = account("A")
    ledger.spend("acme", NOON - 2 * HOUR, key, GPT, usage("1"))
    world = World(engine, ledger, options=Options(cache_seconds=60))
    spending_between(world, key)
    world.sync()
    world.assert_hours_are_true()
    assert residuals(world) == []
    bodies = [json.dumps(request.body, sort_keys=True) for request in world.simulator.asked("/analytics/query")]
    assert len(set(bodies)) == len(bodies)


@pytest.mark.slow
def test_an_old_answer_of_the_account_makes_no_negative_residual_and_is_asked_again(engine: sa.Engine) -> None:
    ledger, (key,) = account("A")
    ledger.spend("acme", NOON - 2 * HOUR, key, GPT, usage("1"))
    world = World(engine, ledger, options=Options(cache_seconds=600, cache_ignores_limit=True))
    spending_between(world, key)
    world.sync()
    assert residuals(world) == []
    assert world.value("select sum(credits_usd) from core.usage_hourly") == 6
    unexplained = world.rows("select start_at from raw.usage_question where outcome = 'unexplained'")
    assert unexplained == [(THIS_HOUR,)]
    asked = [request for request in world.simulator.asked("/analytics/query") if "filters" not in request.body]
    assert len(asked) <= 6
    ledger.spend("acme", NOON - timedelta(minutes=2), None, CLAUDE, usage("0.25"))
    world.later(minutes=20).sync()
    world.assert_hours_are_true()
    assert (
        world.value(
            "select count(*) from raw.usage_question where outcome = 'unexplained' and as_of = :now", now=world.now
        )
        == 0
    )


def answering_of(world: World, age: timedelta) -> None:
    """Analytics answer what they knew, and said, so long ago."""
    honest, clock = world.simulator.handle, world.simulator.clock

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path != QUERY:
            return honest(request)
        world.simulator.clock = lambda: world.now - age
        try:
            return honest(request)
        finally:
            world.simulator.clock = clock

    world.simulator.handle = handle  # type: ignore[method-assign]


@pytest.mark.slow
def test_nothing_is_complete_beyond_the_answer_that_tells_it(engine: sa.Engine, busy: Ledger) -> None:
    world = World(engine, busy, options=Options(has_date=False))
    honest = world.simulator.handle
    answering_of(world, timedelta(minutes=20))
    world.sync()
    assert world.value("select as_of from ref.account") == NOON - timedelta(minutes=20)
    assert world.value("select as_of from ops.sync_run") == NOON - timedelta(minutes=20)
    assert world.simulator.count < 30
    world.later(minutes=10).sync()
    assert world.value("select as_of from ref.account") == NOON - timedelta(minutes=10)
    world.simulator.handle = honest  # type: ignore[method-assign]
    answering_of(world, timedelta(hours=2))
    new = busy.add_key("acme", "New", world.now)
    world.later(minutes=1).sync()
    assert world.value("select count(*) from ref.api_key where key_hash = :key", key=new) == 1, "all else is published"
    assert world.value("select as_of from ref.account") == NOON - timedelta(minutes=10), "it never goes back"
    world.simulator.handle = honest  # type: ignore[method-assign]
    world.later(minutes=1).sync()
    assert world.value("select as_of from ref.account") == world.now
    world.assert_hours_are_true()
    world.assert_books_close()


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [-4, 4])
def test_a_server_whose_clock_differs_a_little_answers_what_is_new(
    engine: sa.Engine, busy: Ledger, minutes: int
) -> None:
    world = World(engine, busy, options=Options(cache_seconds=60))
    world.sync()
    count = world.simulator.count
    other = World(engine, busy, account="acme", now=NOON + HOUR)
    honest = other.simulator.handle

    def handle(request: httpx.Request) -> httpx.Response:
        answer = honest(request)
        if request.url.path != QUERY:
            return answer
        body = json.loads(answer.content)
        body["data"]["cachedAt"] += minutes * 60_000
        return httpx.Response(200, json=body)

    other.simulator.handle = handle  # type: ignore[method-assign]
    other.sync()
    assert other.value("select as_of from ref.account") == NOON + HOUR
    assert other.simulator.count <= count


@pytest.mark.slow
def test_an_old_answer_about_the_account_leaves_no_day_behind(engine: sa.Engine, busy: Ledger) -> None:
    """Its keys tell more: what they tell is in days as in hours, then and once all is told."""
    world = World(engine, busy)
    honest, midnight = world.simulator.handle, NOON.replace(hour=0, minute=0)

    def handle(request: httpx.Request) -> httpx.Response:
        answer = honest(request)
        if request.url.path != QUERY or "filters" in json.loads(request.content):
            return answer
        body = json.loads(answer.content)
        body["data"]["cachedAt"] = int((midnight - HOUR).timestamp() * 1_000)
        rows = [row for row in body["data"]["data"] if str(row.get("date__hour", ""))[:10] < f"{NOON:%Y-%m-%d}"]
        body["data"] |= {"data": rows, "metadata": {**body["data"]["metadata"], "row_count": len(rows)}}
        return httpx.Response(200, json=body)

    today = "select coalesce(sum(credits_usd), 0) from {} where {} >= :midnight"
    world.simulator.handle = handle  # type: ignore[method-assign]
    for _ in range(2):
        world.sync()
        told = [
            world.value(today.format(*place), midnight=midnight)
            for place in (("core.spend_hourly", "hour"), ("core.spend_daily", "day"))
        ]
        assert told[0] == told[1]
        world.simulator.handle = honest  # type: ignore[method-assign]
        world.later(minutes=5)
    world.assert_hours_are_true()
    world.assert_books_close()


@pytest.mark.parametrize("unit", [1, 1_000])
def test_the_instant_of_an_answer_may_be_in_seconds(unit: int) -> None:
    assert when_made({"cachedAt": int(NOON.timestamp()) * unit}) == NOON


@pytest.mark.parametrize("told", sampled([None, "yesterday", [], 1e300, -1e300, {"ms": 1}, 0, -1, True], 2), ids=str)
def test_an_instant_that_cannot_be_read_is_as_if_it_were_not_told(engine: sa.Engine, told: Any) -> None:
    ledger, (key,) = account("A")
    ledger.spend("acme", NOON - 2 * HOUR, key, GPT, usage("1"))
    world = World(engine, ledger)
    honest = world.simulator.handle

    def handle(request: httpx.Request) -> httpx.Response:
        answer = honest(request)
        if request.url.path != QUERY:
            return answer
        body = json.loads(answer.content)
        body["data"]["cachedAt"] = told
        return httpx.Response(200, json=body)

    world.simulator.handle = handle  # type: ignore[method-assign]
    world.sync()
    world.assert_hours_are_true()
    assert world.value("select as_of from ref.account") == NOON
