"""Witnesses that cut each request's cost to a millionth of a dollar, and witnesses that do not: they agree, and say so.

Analytics cut in real life, counters do not; of activity nobody knows. Each may, by request or by the row of an answer.
"""

import contextlib
import io
import json
import os
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from orcost_pipeline.cli.reconcile import reconcile
from orcost_pipeline.measures import NOTHING, Measures, tolerated_usd, total
from orcost_pipeline.project_file import Source
from orcost_pipeline.settings import Settings
from orcost_pipeline.simulator import Ledger, Options, Simulator, serve
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, LLAMA_FREE, MISTRAL
from orcost_pipeline.warehouse.questions.reconciliation import disagreeing_keys
from orcost_pipeline.warehouse.schema import migrations
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.processes import orcost
from orcost_pipeline_tests.sampling import examples, sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

MILLIONTH = Decimal("0.000001")
CUTS = {
    "analytics": Options(cut_usd=True),
    "activity": Options(activity_cut_usd=True),
    "both": Options(cut_usd=True, activity_cut_usd=True),
    "analytics by row": Options(cut_usd=True, cut_sums_usd=True),
    "activity by row": Options(activity_cut_usd=True, cut_sums_usd=True),
    "both by row": Options(cut_usd=True, activity_cut_usd=True, cut_sums_usd=True),
}
LIVE = Options.live()
YESTERDAY = NOON.date() - DAY


def account(*names: str) -> tuple[Ledger, list[str]]:
    """An account `acme` with a key of each name, made 90 days ago."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    return ledger, [ledger.add_key("acme", name, NOON - 90 * DAY) for name in names]


def told(world: World, day: date) -> tuple[Any, ...]:
    """Status, cause and rounding of a day."""
    statement = "select status, cause, rounding_usd from marts.reconciliation_daily where day = :day"
    return tuple(world.rows(statement, day=day)[0])


def sources(world: World) -> dict[str, str]:
    """What each key's yesterday is taken from."""
    statement = "select key_name, source::text from core.spend_daily where key_hash is not null and day = :day"
    return dict([tuple(row) for row in world.rows(statement, day=YESTERDAY)])


def days_by_status(world: World) -> dict[str, set[date]]:
    found: dict[str, set[date]] = {"closed": set(), "explained": set(), "open": set()}
    for day, status in world.rows("select day, status from marts.reconciliation_daily"):
        found[status].add(day)
    return found


# ── the simulated account ────────────────────────────────────────────────────────────────────────────────────────────


def asked(simulator: Simulator, secret: str, **query: Any) -> list[dict[str, Any]]:
    """Rows of analytics, amounts as decimals."""
    metrics = ["request_count", "credits_usage", "byok_usage", "total_usage"]
    span = {"start": f"{NOON - DAY:%Y-%m-%dT%H:00:00Z}", "end": f"{NOON:%Y-%m-%dT%H:%M:00Z}"}
    request = httpx.Request(
        "POST",
        "https://openrouter.test/api/v1/analytics/query",
        headers={"Authorization": f"Bearer {secret}"},
        json={"metrics": metrics, "time_range": span, **query},
    )
    answer = json.loads(simulator.handle(request).text, parse_float=Decimal, parse_int=Decimal)
    return answer["data"]["data"]


def test_the_simulator_cuts_as_the_recorded_account_did() -> None:
    """Three requests: the key's counter says 0.012888937, analytics say 0.012887."""
    ledger, (key,) = account("app")
    for cost in ("0.004296937", "0.004296500", "0.004295500"):
        ledger.spend("acme", NOON - HOUR, key, GPT, usage(cost))
    secret = ledger.accounts["acme"].management_key
    (row,) = asked(Simulator(ledger, lambda: NOON, LIVE), secret)
    assert row["total_usage"] == row["credits_usage"] == Decimal("0.012887")
    assert ledger.counters("acme", key, NOON).usage == Decimal("0.012888937")
    (row,) = asked(Simulator(ledger, lambda: NOON, replace(LIVE, cut_sums_usd=True)), secret)
    assert row["total_usage"] == Decimal("0.012888")
    (row,) = asked(Simulator(ledger, lambda: NOON), secret)
    assert row["total_usage"] == Decimal("0.012888937")


def test_credits_byok_and_total_are_cut_each_for_itself() -> None:
    assert usage("0.0000009", "0.0000008").cut(1).total_usd == MILLIONTH
    cut = usage("0.000007", "0.000011", requests=4).cut(4)
    assert (cut.credits_usd, cut.byok_usd, cut.total_usd) == (4 * MILLIONTH, 8 * MILLIONTH, 16 * MILLIONTH)
    assert usage("0.000007", requests=0).cut(0).credits_usd == 7 * MILLIONTH


# ── a month ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def busy() -> tuple[Ledger, list[str]]:
    """Four keys that spend, two of them of one name and one of BYOK, a chat room, and keys that sleep.

    One is deleted and one made on the way. Amounts have nine to twelve decimals.
    """
    dice = random.Random(11)
    names = ("app", "app", "web", "byok")
    ledger, keys = account(*names, *(f"asleep {number}" for number in range(4)))
    start = NOON - 40 * DAY
    for day in range(42):
        for key, name in zip([*keys[:4], None], (*names, "chat"), strict=True):
            for _ in range(2):
                at = start + day * DAY + timedelta(seconds=dice.randrange(86_400))
                amount = Decimal(dice.randrange(10**12)).scaleb(-dice.randrange(9, 13))
                amounts = (amount / 20, amount) if name == "byok" else (amount, Decimal(0))
                spend = usage(*amounts, requests=dice.randrange(1, 200))
                if not (name == "web" and at >= NOON - 3 * DAY):
                    ledger.spend("acme", at, key, dice.choice((GPT, CLAUDE, MISTRAL)), spend)
            ledger.spend("acme", start + day * DAY, keys[0], LLAMA_FREE, usage("0", requests=3))
        for key in keys[:2]:
            amount = Decimal(dice.randrange(10**12)).scaleb(-12)
            ledger.spend("acme", start + day * DAY - HOUR, key, GPT, usage(amount, requests=5))
    ledger.delete("acme", keys[2], NOON - 3 * DAY)
    late = ledger.add_key("acme", "late", NOON - 2 * DAY)
    ledger.spend("acme", NOON - DAY - HOUR, late, GPT, usage("0.000000123456", requests=7))
    return ledger, keys


def month(engine: sa.Engine, options: Options) -> list[tuple[int, int, frozenset[date]]]:
    """Thirty-five days of hourly and daily syncs; a closed day is restated on the way.

    Returns, of each sync, how many requests it made, how many rows of usage by hour and day it wrote, and which days
    are settled after it.
    """
    ledger, keys = busy()
    # Where last uses are unknown, a difference that looks unexplained asks every key there is.
    world = World(engine, ledger, NOON - 35 * DAY, replace(options, has_last_used_at=False))
    syncs = []
    for number, hours in enumerate([0, *[24] * 34, *[1] * 15]):
        world.later(hours=hours)
        if number == 20:
            ledger.restate("acme", world.now.date() - 5 * DAY, keys[0], GPT, factor=Decimal("0.37"))
        rows = world.sync()
        assert world.reading is not None
        assert world.reading.hours.unexplained == []
        assert world.reading.hours.doubtful_totals == 0
        assert not days_by_status(world)["open"]
        settled = frozenset(row[0] for row in world.rows("select day from core.account_day where is_settled"))
        syncs.append((world.simulator.count, rows.get("core.usage_hourly", 0), settled))
    assert "core.usage_daily" not in world.sync(), "a rerun writes nothing"
    world.assert_books_close()
    restated = {row[0] for row in world.rows("select distinct day from ops.restatement")}
    assert len(restated) == 1, "only the day that was restated is"
    return syncs


@pytest.fixture(scope="module")
def exact_month(postgres_url: str) -> list[tuple[int, int, frozenset[date]]]:
    with fresh_engine(postgres_url) as engine:
        return month(engine, Options())


SLOW = [pytest.param(cut, marks=pytest.mark.slow) for cut in ("activity by row", "both by row")]


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["analytics", *SLOW])
def test_a_month_asks_and_settles_as_if_nothing_were_cut_and_leaves_no_day_open(
    engine: sa.Engine, exact_month: list[tuple[int, int, frozenset[date]]], cut: str
) -> None:
    rounded = month(engine, CUTS[cut])
    assert [sync[0] for sync in rounded] == [sync[0] for sync in exact_month], "requests"
    assert [sync[2] for sync in rounded] == [sync[2] for sync in exact_month], "settled days"


@pytest.mark.slow
def test_each_day_says_by_how_much_it_is_rounded(engine: sa.Engine) -> None:
    ledger, (key,) = account("app")
    ledger.spend("acme", NOON - DAY, key, GPT, usage("0.000010987654", requests=5))
    ledger.spend("acme", NOON - 2 * DAY, key, GPT, usage("0.0000019"))
    ledger.spend("acme", NOON - HOUR, key, GPT, usage("0.0000019", requests=9))
    world = World(engine, ledger, options=LIVE)
    world.sync()
    assert told(world, YESTERDAY) == ("closed", None, None), "0.987654 millionths are within the setting"
    assert told(world, YESTERDAY - DAY) == ("closed", None, None)
    assert told(world, NOON.date()) == ("closed", None, None), "today has hours alone"
    ledger.spend("acme", NOON - DAY, key, GPT, usage("0.0000039", "0.0000079", requests=2))
    world.later(minutes=5).sync()
    assert told(world, YESTERDAY) == ("explained", "rounding", Decimal("0.000002887654"))
    assert world.rows("select requests from core.account_day where day = :day", day=YESTERDAY) == [(7,)]
    world.tolerance_usd = Decimal("0.000003")
    world.sync()
    assert told(world, YESTERDAY) == ("closed", None, None)


# ── beyond rounding ──────────────────────────────────────────────────────────────────────────────────────────────────


def apart(engine: sa.Engine, amount: Decimal, options: Options, requests: int = 1000) -> World:
    """Yesterday's activity lacks so much of what its hours tell, for so many requests."""
    ledger, (key,) = account("app")
    for days in range(1, 5):
        ledger.spend("acme", NOON - days * DAY, key, GPT, usage("2", requests=requests))
    never = NOON + 300 * DAY
    ledger.spend("acme", NOON - DAY, key, GPT, usage(amount, requests=0), activity_from=never)
    world = World(engine, ledger, NOON + 2 * DAY, options)
    world.sync()
    return world


@pytest.mark.parametrize("options", sampled([Options(), LIVE, CUTS["activity"]], 1))
def test_a_difference_beyond_tolerance_and_rounding_is_open(engine: sa.Engine, options: Options) -> None:
    world = apart(engine, 1000 * MILLIONTH + 2 * MILLIONTH, options)
    assert told(world, YESTERDAY)[:2] == ("open", "hours and activity disagree")
    assert days_by_status(world)["open"] == {YESTERDAY}


def test_a_difference_of_all_that_is_tolerated_is_rounding(engine: sa.Engine) -> None:
    world = apart(engine, 1001 * MILLIONTH, Options())
    assert told(world, YESTERDAY) == ("explained", "rounding", 1001 * MILLIONTH)


def test_a_key_whose_activity_lacks_more_than_rounding_keeps_its_hours_and_one_that_lacks_less_does_not(
    engine: sa.Engine,
) -> None:
    ledger, keys = account("app", "web")
    at, never = NOON - DAY, NOON + 300 * DAY
    for key, lacks in zip(keys, (Decimal("0.000009"), Decimal("0.000012")), strict=True):
        ledger.spend("acme", at, key, GPT, usage("2", requests=10))
        ledger.spend("acme", at, key, GPT, usage(lacks, requests=0), activity_from=never)
        ledger.spend("acme", at, None, GPT, usage(lacks, requests=0), visible_from=never, activity_from=at)
    world = World(engine, ledger, NOON)
    world.sync()
    assert sources(world) == {"app": "activity", "web": "hours"}


@pytest.mark.parametrize("tolerance", sampled(["0.000001", "0.1"], 1))
def test_a_day_settles_as_soon_as_its_activity_agrees_by_the_setting(engine: sa.Engine, tolerance: str) -> None:
    ledger, (key,) = account("app")
    ledger.spend("acme", NOON - DAY, key, GPT, usage("2"))
    ledger.spend("acme", NOON - DAY, key, GPT, usage("0.05", requests=0), activity_from=NOON + 300 * DAY)
    world = World(engine, ledger, tolerance_usd=Decimal(tolerance))
    world.sync()
    settled = world.value("select is_settled from core.account_day where day = :day", day=YESTERDAY)
    assert settled == (tolerance == "0.1")
    if settled:
        assert sources(world) == {"app": "activity"}
        assert told(world, YESTERDAY)[:2] == ("closed", None)


def test_a_key_keeps_its_hours_where_the_account_agrees_by_the_setting(engine: sa.Engine) -> None:
    ledger, keys = account("app", "web")
    at, never = NOON - DAY, NOON + 300 * DAY
    for key in keys:
        ledger.spend("acme", at, key, GPT, usage("2"))
    ledger.spend("acme", at, keys[1], GPT, usage("0.5", requests=0), activity_from=never)
    ledger.spend("acme", at, None, GPT, usage("0.45", requests=0), visible_from=never, activity_from=at)
    world = World(engine, ledger, tolerance_usd=Decimal("0.1"))
    world.sync()
    assert sources(world) == {"app": "activity", "web": "hours"}


@pytest.mark.parametrize("counts_more", ["hours", "activity"])
def test_the_requests_of_a_day_are_those_of_the_witness_that_counts_more(engine: sa.Engine, counts_more: str) -> None:
    ledger, (key,) = account("app")
    at, never = NOON - 3 * DAY, NOON + 300 * DAY
    ledger.spend("acme", at, key, GPT, usage("2", requests=10))
    late = {"visible_from": never, "activity_from": at} if counts_more == "activity" else {"activity_from": never}
    ledger.spend("acme", at, key, GPT, usage("0.000014", requests=5), **late)
    world = World(engine, ledger)
    world.sync()
    assert world.value("select requests from core.account_day where day = :day", day=at.date()) == 15
    assert told(world, at.date())[:2] == ("explained", "rounding")


@pytest.mark.parametrize("options", sampled([Options(), LIVE], 1))
def test_spend_without_a_key_is_named_although_rounding_could_hide_it(engine: sa.Engine, options: Options) -> None:
    ledger, (key,) = account("app")
    for at in (NOON - DAY, NOON - 3 * HOUR):
        ledger.spend("acme", at, key, GPT, usage("1.000000123456", requests=5000))
        ledger.spend("acme", at, None, GPT, usage("0.000027"))
    world = World(engine, ledger, options=options)
    world.sync()
    for day in (YESTERDAY, NOON.date()):
        status, cause, _ = told(world, day)
        assert (status, (cause or "").split("; ")[0]) == ("explained", "spend without a key")
        left = "select sum(credits_usd) from core.spend_daily where key_hash is null and day = :day"
        assert world.value(left, day=day) == Decimal("0.000027")


def test_two_keys_of_one_name_are_not_named_for_the_rounding_of_their_common_row(engine: sa.Engine) -> None:
    ledger, keys = account("app", "app")
    for key in keys:
        ledger.spend("acme", NOON - HOUR / 2, key, GPT, usage("0.5000006"))
    ledger.spend("acme", NOON - HOUR / 2, None, GPT, usage("0.25"))
    world = World(engine, ledger, options=CUTS["analytics by row"])
    world.sync()
    assert world.rows("select key_name, cause, credits_usd from marts.unkeyed_spend_daily") == [
        (None, "spend without a key", Decimal("0.25"))
    ]
    assert told(world, NOON.date()) == ("explained", "spend without a key", None)


@pytest.mark.slow
def test_spend_of_a_key_never_listed_keeps_its_cause(engine: sa.Engine) -> None:
    ledger, (key,) = account("app")
    ledger.spend("acme", NOON - 30 * HOUR, key, GPT, usage("1.000400123456", requests=500))
    night = ledger.add_key("acme", "one night", NOON - 31 * HOUR)
    ledger.spend("acme", NOON - 30 * HOUR, night, GPT, usage("0.750000654321", requests=50))
    ledger.delete("acme", night, NOON - 29 * HOUR)
    world = World(engine, ledger, options=replace(LIVE, deleted_by_hash="empty", deleted_activity="empty"))
    world.sync()
    assert told(world, YESTERDAY)[:2] == ("explained", "spend of a key never listed; rounding")


@pytest.mark.slow
def test_a_restated_day_says_so_and_how_it_is_rounded(engine: sa.Engine) -> None:
    ledger, (key,) = account("app")
    ledger.spend("acme", NOON - DAY, key, GPT, usage("1.000400123456", requests=500))
    world = World(engine, ledger, options=LIVE)
    world.later(days=1).sync()
    never = NOON + 300 * DAY
    ledger.spend("acme", NOON - DAY, key, GPT, usage("0.5"), visible_from=never, activity_from=world.now)
    world.later(minutes=5).sync()
    assert told(world, YESTERDAY)[:2] == ("explained", "a restated day; rounding")
    assert world.rows("select credits_usd_after - credits_usd_before from ops.restatement") == [(Decimal("0.5"),)]


# ── what another witness tells anew ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_key_that_is_silent_in_activity_leaves_rounding_and_its_return_restates_nothing(engine: sa.Engine) -> None:
    """Its day is the sum of its hours, the account's is activity; once it answers again, its own is activity too."""
    ledger, (app, web) = account("app", "web")
    for key in (app, web):
        ledger.spend("acme", NOON - DAY, key, GPT, usage("1.000400987654", requests=500))
    ledger.delete("acme", web, NOON - HOUR)
    world = World(engine, ledger, NOON - DAY + HOUR, replace(LIVE, deleted_activity="empty"))
    world.sync()
    world.later(hours=23).sync()
    assert sources(world) == {"app": "activity", "web": "hours"}
    assert told(world, YESTERDAY)[:2] == ("explained", "rounding")
    with engine.connect() as connection:
        assert disagreeing_keys(connection, None, YESTERDAY).rows == []
    ledger.undelete("acme", web, NOON + HOUR)
    world.later(days=8).sync()
    assert sources(world) == {"app": "activity", "web": "activity"}
    assert world.rows("select * from ops.restatement") == []
    assert told(world, YESTERDAY)[:2] == ("explained", "rounding")


@pytest.mark.slow
def test_the_past_is_not_read_again_for_its_rounding(engine: sa.Engine) -> None:
    """Days that activity settled keep their providers, whatever analytics make of them by day."""
    ledger, keys = account("app", "web")
    for days in range(1, 30):
        for key in keys:
            ledger.spend("acme", NOON - days * DAY, key, GPT, usage("1.000000987654", requests=20), provider="Azure")
    world = World(engine, ledger, options=LIVE)
    world.sync()
    world.later(days=33).sync(since=NOON.date() - 25 * DAY)
    assert world.reading is not None
    assert world.reading.past_days == [NOON.date() + number * DAY for number in range(3)], "not known yet"
    providers = world.rows("select distinct provider from core.spend_daily where day < :day", day=NOON.date())
    assert providers == [("Azure",)]
    ledger.restate("acme", YESTERDAY, keys[0], GPT, factor=Decimal("0.5"))
    world.later(minutes=5).sync(since=NOON.date() - 25 * DAY)
    assert world.reading.past_days == [YESTERDAY]


def test_the_name_of_a_silent_key_is_its_own_where_rounding_makes_it_larger_than_what_is_left(
    engine: sa.Engine,
) -> None:
    """Rows that are rounded half up may sum to more than the account's."""
    ledger, (app, web) = account("app", "web")
    options = replace(LIVE, cut_sums_usd=True, sums_half_up=True, deleted_by_hash="empty", deleted_activity="empty")
    world = World(engine, ledger, NOON - HOUR, options)
    world.sync()
    for key, cost in ((app, "0.5000006"), (web, "0.4000006")):
        ledger.spend("acme", NOON - HOUR / 2, key, GPT, usage(cost))
    ledger.delete("acme", web, NOON - HOUR / 4)
    world.later(hours=1).sync()
    hours = dict(world.rows("select key_name, credits_usd from core.spend_hourly"))
    assert hours == {"app": Decimal("0.500001"), "web": Decimal("0.400001"), None: -MILLIONTH}
    assert told(world, NOON.date()) == ("closed", None, None)
    assert world.rows("select * from marts.unkeyed_spend_daily") == []


# ── random amounts ───────────────────────────────────────────────────────────────────────────────────────────────────

decimals = st.builds(lambda digits, places: Decimal(digits).scaleb(-places), st.integers(0, 10**10), st.integers(9, 12))
spends = st.tuples(
    st.integers(0, 95),  # hours before NOON
    st.integers(0, 3),  # key, or the chat room
    st.sampled_from([GPT, CLAUDE]),
    decimals,
    decimals,
    st.integers(1, 300),
)


@pytest.mark.slow
@settings(max_examples=examples(12), derandomize=True, phases=[Phase.generate])
@given(used=st.lists(spends, min_size=1, max_size=25), cut=st.sampled_from([*CUTS, "none"]), silent=st.booleans())
def test_no_day_is_open_whatever_is_spent_and_whoever_cuts(
    postgres_url: str, used: list[tuple[Any, ...]], cut: str, silent: bool
) -> None:
    ledger, keys = account("app", "app", "web")
    for hours, number, model, credits_usd, byok_usd, requests in used:
        key = keys[number] if number < 3 else None
        ledger.spend("acme", NOON - hours * HOUR, key, model, usage(credits_usd, byok_usd, requests))
    ledger.delete("acme", keys[2], NOON + HOUR)
    how = "empty" if silent else "rows"
    options = replace(CUTS.get(cut, Options()), deleted_by_hash=how, deleted_activity=how)
    with fresh_engine(postgres_url) as engine:
        world = World(engine, ledger, NOON - 2 * DAY, options)
        for hours in (0, 25, 23, 2, 24, 24 * 8):
            world.later(hours=hours).sync()
            assert not days_by_status(world)["open"]
        left = world.rows("select status, cause, rounding_usd from marts.reconciliation_daily")
        assert all((status == "closed") == (cause is None) for status, cause, _ in left)
        assert all(usd is None or usd > MILLIONTH for _, _, usd in left)
        assert all(("rounding" in (cause or "")) == (usd is not None) for _, cause, usd in left)
        assert cut != "none" or {usd for *_, usd in left} == {None}
        assert "core.usage_daily" not in world.sync()
        world.assert_books_close()


# ── one notion ───────────────────────────────────────────────────────────────────────────────────────────────────────

cells = st.builds(
    lambda requests, credits_usd, byok_usd: NOTHING._replace(
        requests=Decimal(requests), credits_usd=credits_usd, byok_usd=byok_usd
    ),
    st.integers(0, 3),
    st.integers(0, 6).map(lambda millionths: millionths * MILLIONTH),
    st.integers(0, 6).map(lambda millionths: millionths * MILLIONTH),
)
tolerances = st.sampled_from([Decimal(0), MILLIONTH, 3 * MILLIONTH])


def test_python_and_the_database_tolerate_the_same(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        statement = sa.text(
            "select core.is_below(:a, :b, :c, :d, :e, :f, :g), core.tolerated_usd(:c, :g), core.agrees(:a, :d, :c, :g)"
        )

        @settings(max_examples=300)
        @given(one=cells, other=cells, tolerance=tolerances)
        def same(one: Measures, other: Measures, tolerance: Decimal) -> None:
            amounts = (one.credits_usd, one.byok_usd, one.requests, other.credits_usd, other.byok_usd, other.requests)
            told = connection.execute(statement, dict(zip("abcdefg", (*amounts, tolerance), strict=True))).one()
            tolerated = tolerated_usd(one.requests, tolerance)
            agree = one._replace(byok_usd=Decimal(0)).agrees(
                other._replace(requests=one.requests, byok_usd=Decimal(0)), tolerated
            )
            assert tuple(told) == (one.is_below(other, tolerance), tolerated, agree)

        same()


@given(st.lists(st.decimals(-(10**15), 10**15, allow_nan=False, places=45), min_size=1, max_size=20))
def test_sums_and_differences_of_measures_keep_every_digit(amounts: list[Decimal]) -> None:
    cells = [Measures(*[amount] * len(NOTHING)) for amount in amounts]
    whole = total(cells)
    assert {Fraction(measure) for measure in whole} == {sum(map(Fraction, amounts))}
    assert {Fraction(measure) for measure in whole.minus(cells[0])} == {sum(map(Fraction, amounts[1:]))}


def test_a_millionth_of_a_dollar_is_a_number_in_three_places() -> None:
    """What rounding makes of a request, the default of the setting, and the rounding of the database."""
    package = Path(migrations.__file__).parents[3]
    versions = Path(migrations.__file__).parent / "versions"
    files = [*package.rglob("*.py"), *package.rglob("*.sql")]
    said = {path for path in files if re.search(r"\b1e-0?6\b|\b0\.000001\b", path.read_text(encoding="utf-8"))}
    released = set(versions.glob("*.sql"))
    simulated = {path for path in said if path.is_relative_to(package / "simulator")}
    function = package / "warehouse/schema/functions/core.tolerated_usd.sql"
    named = {package / "measures.py", package / "project_file.py", function}
    assert said - released - simulated == named


def test_a_billionth_of_a_dollar_is_a_number_in_one_place() -> None:
    """From it on a residual is a row, and above it a settled day is restated."""
    package = Path(migrations.__file__).parents[3]
    files = [path for path in (*package.rglob("*.py"), *package.rglob("*.sql")) if "migrations" not in path.parts]
    said = {path for path in files if re.search(r"\b1e-0?9\b|\b0\.0{8}1\b", path.read_text(encoding="utf-8"))}
    assert said == {package / "measures.py"}


def test_negative_or_unknown_requests_leave_the_base_tolerance(engine: sa.Engine) -> None:
    assert tolerated_usd(Decimal(-5), MILLIONTH) == MILLIONTH
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select core.tolerated_usd(-5, 0.000001)").scalar() == MILLIONTH
        assert connection.exec_driver_sql("select core.tolerated_usd(null, 0.000001)").scalar() == MILLIONTH


def test_a_tolerance_of_nothing_publishes_amounts_that_passed_through_floating_point(engine: sa.Engine) -> None:
    ledger, keys = account("app", "web")
    for key, cost in zip(keys, ("0.1", "0.7"), strict=True):
        for hour in range(30):
            ledger.spend("acme", NOON - hour * HOUR, key, GPT, usage(cost, cost, requests=3))
    world = World(engine, ledger, options=replace(LIVE, float_noise=True), tolerance_usd=Decimal(0))
    world.sync()
    assert not days_by_status(world)["open"]
    assert world.value("select tolerance_usd from ref.account") == 0


def test_a_migrated_warehouse_knows_the_requests_of_its_days(engine: sa.Engine) -> None:
    ledger, keys = account("app", "web")
    for hour in range(60):
        ledger.spend("acme", NOON - hour * HOUR, keys[hour % 2], GPT, usage("0.1", requests=hour))
    World(engine, ledger, options=LIVE).sync()
    script = (Path(migrations.__file__).parent / "versions/0008_rounding.sql").read_text(encoding="utf-8")
    script = script[script.index("update core.account_day") : script.index("create or replace view")]
    rows = "select day, requests from core.account_day order by day"
    with engine.begin() as connection:
        published = connection.exec_driver_sql(rows).all()
        connection.exec_driver_sql("update core.account_day set requests = 0")
        connection.exec_driver_sql(script)
        assert connection.exec_driver_sql(rows).all() == published
    assert sum(requests for _, requests in published) == sum(range(60))


# ── what people are told ─────────────────────────────────────────────────────────────────────────────────────────────


def reconciled(world: World, url: str, folder: Path, day: date | None = None, output: str = "table") -> tuple[int, str]:
    told = Settings(
        folder=folder,
        home=folder,
        mapping=Source("mapping", folder / "company_mapping.csv"),
        database_url=SecretStr(url),
        accounts=(),
        config_file=folder / "orcost.toml",
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = reconcile(told, None, day, output, world.now)
    return code, printed.getvalue()


def test_the_reconciliation_says_rounding_once_for_all_days(
    engine: sa.Engine, database_url: str, tmp_path: Path
) -> None:
    ledger, (key,) = account("app")
    for days in range(1, 4):
        ledger.spend("acme", NOON - days * DAY, key, GPT, usage("1.000009987654", requests=10))
    ledger.spend("acme", NOON - DAY, None, MISTRAL, usage("0.25"))
    world = World(engine, ledger, options=LIVE)
    world.sync()
    code, out = reconciled(world, database_url, tmp_path)
    lines = out.splitlines()
    assert code == 0
    assert lines[-6].startswith("Left by day: ")
    assert lines[-4] == (
        "Rounding: 0.000030 USD on 3 days (some of OpenRouter's answers cut each request's cost to a millionth)"
    )
    number = int(lines[-2].split()[0])
    assert lines[-2] == f"{number} days: {number - 3} closed, 3 explained, none open."
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("2026-11-2")}
    assert rows["2026-11-21"] == ["1.00", "1.00", "–", "explained", "rounding"]
    assert rows["2026-11-22"] == ["1.25", "1.00", "0.2500", "explained", "spend", "without", "a", "key"]
    code, out = reconciled(world, database_url, tmp_path, YESTERDAY - DAY)
    assert code == 0
    assert "\nRounding: 0.000010 USD on 1 day (" in out
    assert "Hours and day differ" not in out
    _, out = reconciled(world, database_url, tmp_path, YESTERDAY, "json")
    (row,) = json.loads(out)
    assert (row["cause"], row["rounding_usd"]) == ("spend without a key; rounding", "0.000009987654")


def test_keys_whose_hours_differ_by_rounding_are_not_listed_as_differing(
    engine: sa.Engine, database_url: str, tmp_path: Path
) -> None:
    """Of an open day only the key is named that makes it so."""
    ledger, keys = account("app", "web")
    for key in keys:
        ledger.spend("acme", NOON - DAY, key, GPT, usage("1.000009987654", requests=10))
    never = NOON + 300 * DAY
    ledger.spend("acme", NOON - DAY, keys[1], GPT, usage("0.5"), visible_from=never, activity_from=NOON)
    world = World(engine, ledger, NOON + DAY, LIVE)
    world.sync()
    code, out = reconciled(world, database_url, tmp_path, YESTERDAY)
    assert code == 1
    listed = out[out.index("Hours and day differ") :].split("\n\n")[0].splitlines()[2:]
    assert [line.split()[0] for line in listed] == ["web"]


@pytest.fixture
def live(database_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a project whose account behaves as the live service does."""
    ledger, keys = account("app", "web")
    now = datetime.now(UTC)
    dice = random.Random(3)
    for hour in range(24 * 8):
        amount = Decimal(dice.randrange(10**11)).scaleb(-12)
        ledger.spend("acme", now - hour * HOUR, keys[hour % 2], GPT, usage(amount, amount / 3, requests=20))
    with serve(Simulator(ledger, options=LIVE)) as base_url:
        (tmp_path / ".env").touch(mode=0o600)
        (tmp_path / "company_mapping.csv").write_text("company,match,pattern\nA,key_name,*\n")
        yield {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(tmp_path),
            "OPENROUTER_BASE_URL": base_url,
            "OPENROUTER_API_KEY": ledger.accounts["acme"].management_key,
            "ORCOST_DATABASE_URL": database_url,
        }


@pytest.mark.slow
def test_the_commands_find_nothing_wrong_with_an_account_whose_analytics_cut(
    live: dict[str, str], tmp_path: Path
) -> None:
    def told(*arguments: str) -> str:
        ended = orcost(tmp_path, live, *arguments)
        assert ended.returncode == 0, (arguments, ended)
        return ended.stdout

    told("sync")
    assert "rounding" in told("reconcile")
    assert "All is well" in told("status")
    assert "All is well" in told("doctor", "--port", "39999")
    report = told("report", "--period", "7d").splitlines()[-1]
    closed, whole = re.search(r"(\d+) of (\d+) finished days reconcile", report).groups()  # type: ignore[union-attr]
    assert closed == whole
