"""Every key's usage is read in full once a week, a little with each sync; what an interrupted sync has read is kept."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from orcost_pipeline.openrouter import usage_by_key
from orcost_pipeline.openrouter.reading import AnalyticsReading
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.sync import steps
from orcost_pipeline.sync.kept_usage import KeptUsage
from orcost_pipeline.sync.sync_step import SyncStep
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

DAYS = 31


def busy(names: int = 3) -> tuple[Ledger, list[str]]:
    """Keys that are used at noon of each of 40 days."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(5000))
    keys = [ledger.add_key("acme", f"key {number}", NOON - 60 * DAY + number * HOUR) for number in range(names)]
    for days in range(40):
        for number, key in enumerate(keys):
            at = NOON - HOUR - days * DAY
            ledger.spend("acme", at, key, GPT if number else CLAUDE, usage(f"{number + 1}.5"))
    return ledger, keys


@pytest.fixture
def world(engine: sa.Engine) -> World:
    return World(engine, busy()[0])


def asked_by_key(world: World) -> list[dict[str, Any]]:
    """The questions of analytics by hour that name keys."""
    bodies = [request.body for request in world.simulator.asked("/analytics/query")]
    return [body for body in bodies if body.get("filters") and body["granularity"] == "hour"]


def assert_all_is_true(world: World) -> None:
    world.assert_hours_are_true()
    world.assert_days_are_true()
    world.assert_books_close()


# ── a little with each sync ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_usage_that_moved_between_keys_unseen_by_the_account_is_found_within_a_week(engine: sa.Engine) -> None:
    ledger, keys = busy(2)
    days = (NOON - 20 * DAY, NOON - 4 * DAY)
    for day in days:
        ledger.spend("acme", day, keys[0], GPT, usage("4"))
    world = World(engine, ledger)
    world.sync()
    assert_all_is_true(world)
    for day in days:
        ledger.restate("acme", day, keys[0], GPT, factor=Decimal(0))
        ledger.spend("acme", day, keys[1], GPT, usage("4"))
    world.later(minutes=10)
    world.sync()
    with pytest.raises(AssertionError, match="cells differ"):
        world.assert_hours_are_true()
    for _ in range(14):
        world.later(hours=12)
        world.sync()
    assert_all_is_true(world)


def test_usage_without_a_key_around_a_day_that_is_read_in_full_counts_once(engine: sa.Engine) -> None:
    ledger, _ = busy(2)
    world = World(engine, ledger)
    world.sync()
    midnight = NOON.replace(hour=0, minute=0) - 10 * DAY
    with engine.begin() as connection:
        unread = "update core.account_day set hours_read_at = hours_read_at - interval '9 days' where day = :day"
        connection.execute(sa.text(unread), {"day": midnight.date()})
    # Shown late. Of more spans than questions are asked about, those that are nearest share one.
    hours = [midnight - HOUR, midnight + 12 * HOUR, midnight + DAY]
    for at in [*hours, *(midnight + days * DAY for days in (-16, -12, -8, 5, 9))]:
        ledger.spend("acme", at, None, GPT, usage("0.25"))
    world.later(hours=1)
    world.sync()
    read = "select start_at, end_at from raw.usage_question where outcome = 'full' and grain = 'hour' and as_of >= :now"
    assert [tuple(row) for row in world.rows(read, now=world.now)] == [(midnight, midnight + DAY)]
    assert_all_is_true(world)


@pytest.mark.slow
def test_a_week_of_syncs_reads_every_day_and_no_sync_much(world: World) -> None:
    world.sync()
    full: set[Any] = set()
    for _ in range(28):
        world.later(hours=6)
        world.sync()
        hours = {hour for body in asked_by_key(world) for hour in _hours(body)}
        assert len(hours) <= 3 * 24, "a day or two whose turn it is, and one that is settled"
        read_at = world.rows("select day from core.account_day where hours_read_at = :now", now=world.now)
        full |= {row.day for row in read_at}
    today = world.now.date()
    assert full >= {today - number * DAY for number in range(1, DAYS - 7)}
    oldest = world.value("select min(hours_read_at) from core.account_day where day > :first", first=today - 30 * DAY)
    assert oldest > world.now - 7 * DAY - 6 * HOUR
    unread = world.rows("select * from core.api_key where activity_read_at <= :before", before=world.now - 7 * DAY)
    assert unread == []
    assert_all_is_true(world)


def _hours(body: dict[str, Any]) -> list[datetime]:
    start, end = (datetime.fromisoformat(body["time_range"][it]) for it in ("start", "end"))
    return [start + number * HOUR for number in range(-(-(end - start) // HOUR))]


def test_a_sync_at_once_reads_no_key_again(world: World) -> None:
    world.sync()
    assert world.sync() == {}
    assert asked_by_key(world) == []
    assert [request for request in world.simulator.asked("/activity") if request.params] == []


# ── an interrupted sync ───────────────────────────────────────────────────────────────────────────────────────────────


class Interruption(Exception):  # noqa: N818
    """The process is gone."""


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a part has five days of three keys."""
    monkeypatch.setattr(usage_by_key, "MOST_ROWS", 15)


def interrupt(world: World, step: SyncStep, after: int) -> int:
    """Reads until so many parts are kept; returns the questions by key asked."""
    world.simulator.forget_requests()
    kept = 0
    keep_hours = KeptUsage.keep_hours

    def keep(usage: KeptUsage, part: AnalyticsReading) -> None:
        nonlocal kept
        keep_hours(usage, part)
        kept += 1
        if kept == after:
            raise Interruption

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeptUsage, "keep_hours", keep)
        with pytest.raises(Interruption):
            world.read(step)
    return len(asked_by_key(world))


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("after", sampled([1, 4], 1))
def test_the_next_sync_goes_on_from_what_was_read(world: World, after: int) -> None:
    first = interrupt(world, world.step(), after)
    world.later(hours=1)
    world.sync()
    again = len(asked_by_key(world))
    assert (first, first + again) == (after, 8), "a question for each part, the newest of a day more"
    assert_all_is_true(world)
    extractions = "select count(distinct run_id) from raw.usage_hourly"
    assert world.value(extractions) == 1, "what was left is dropped"
    assert world.sync() == {}


@pytest.mark.slow
@pytest.mark.usefixtures("in_parts")
def test_a_retry_goes_on_from_what_its_run_has_read(world: World) -> None:
    step = world.step()
    first = interrupt(world, step, 3)
    second = interrupt(world, step, 5)
    world.simulator.forget_requests()
    world.read(step)
    steps.publish_account(step)
    assert (first, second, len(asked_by_key(world))) == (3, 2, 2), "seven parts"
    assert_all_is_true(world)
    assert world.value("select count(distinct run_id) from raw.usage_hourly") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("in_parts")
def test_a_part_whose_usage_is_another_by_now_is_read_again(engine: sa.Engine) -> None:
    ledger, keys = busy()
    world = World(engine, ledger)
    interrupt(world, world.step(), 4)
    ledger.spend("acme", NOON - 29 * DAY, keys[1], GPT, usage("0.25"))
    world.later(minutes=20)
    world.sync()
    days = {hour.date() for body in asked_by_key(world) for hour in _hours(body)}
    assert (NOON - 29 * DAY).date() in days, "changed since it was read"
    assert not days & {(NOON - number * DAY).date() for number in range(13, 24)}, "read before, and as it was"
    assert_all_is_true(world)


@pytest.mark.slow
@pytest.mark.usefixtures("in_parts")
def test_what_was_read_and_never_published_is_not_read_again(world: World) -> None:
    world.read(world.step())
    whole = len(asked_by_key(world))
    world.later(minutes=30)
    world.simulator.forget_requests()
    world.sync()
    assert (whole, len(asked_by_key(world))) == (7, 1)
    assert_all_is_true(world)
    assert world.value("select count(distinct run_id) from raw.usage_hourly") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("in_parts")
def test_what_the_sync_before_the_interrupted_one_has_read_is_not_lost(world: World) -> None:
    asked = []
    for after in (5, 2, 6):
        asked.append(interrupt(world, world.step(), after))
        world.later(minutes=10)
    world.sync()
    assert (asked, len(asked_by_key(world))) == ([5, 0, 1], 1)
    assert_all_is_true(world)
    assert world.value("select count(distinct run_id) from raw.usage_hourly") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("in_parts")
def test_the_hour_in_which_a_sync_was_interrupted_is_read_whole(engine: sa.Engine) -> None:
    ledger, keys = busy()
    ledger.spend("acme", NOON - timedelta(minutes=15), keys[1], GPT, usage("0.25"))
    world = World(engine, ledger)
    interrupt(world, world.step(), 7)
    world.later(minutes=10)
    world.sync()
    assert len(asked_by_key(world)) == 1
    assert_all_is_true(world)


@pytest.mark.slow
@pytest.mark.usefixtures("in_parts")
def test_what_was_left_more_than_a_day_ago_is_read_anew(world: World) -> None:
    interrupt(world, world.step(), 4)
    world.later(hours=25)
    world.sync()
    assert len(asked_by_key(world)) == 6, "all parts: on the last day nothing was used"
    assert_all_is_true(world)


@pytest.mark.usefixtures("in_parts")
def test_a_quiet_key_that_was_deleted_and_names_without_one_are_found_in_what_was_left(engine: sa.Engine) -> None:
    """Every kind of outcome of a part is read back: deleted keys that are silent, names, usage without a key."""
    ledger, keys = busy()
    for days in range(0, 40, 3):
        ledger.spend("acme", NOON - days * DAY, None, GPT, usage("0.125"))
    ledger.delete("acme", keys[2], NOON - timedelta(minutes=30))
    world = World(engine, ledger)
    interrupt(world, world.step(), 5)
    world.later(hours=1)
    world.sync()
    in_parts = world.rows("select hour, key_hash, model, credits_usd from core.spend_hourly order by 1, 2, 3")
    left = world.rows("select hour, name, credits_usd from core.unkeyed_hour order by 1, 2")
    world.assert_books_close()
    assert sum(row.credits_usd for row in in_parts) == sum(
        cell.credits_usd for cell in ledger.hourly("acme", NOON - 31 * DAY, world.now, now=world.now).values()
    )
    assert left
