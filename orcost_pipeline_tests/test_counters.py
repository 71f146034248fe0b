"""Accounts without analytics: an ordinary key, and a management key whose analytics are refused. Cost from counters."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from orcost_pipeline.errors import InvalidKeyError, PermanentError
from orcost_pipeline.simulator import Ledger, Options
from orcost_pipeline.simulator.catalogue import GPT, MISTRAL
from orcost_pipeline.sync import steps
from orcost_pipeline.warehouse.schema import migrations
from orcost_pipeline.windows import HOURS_REACH, surely_one_day
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.sampling import examples, sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

MONTH = datetime(2026, 11, 1, tzinfo=UTC)
BY_DAY = "select day, sum(credits_usd), sum(byok_usd) from core.spend_daily group by 1 order by 1"


@pytest.fixture
def ledger() -> Ledger:
    """Three keys made in October."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(1000))
    for name in ("Company A", "Company B", "Idle"):
        ledger.add_key("acme", name, datetime(2026, 10, 5, tzinfo=UTC))
    return ledger


@pytest.fixture
def world(engine: sa.Engine, ledger: Ledger) -> World:
    return World(engine, ledger)


def key_of(world: World, number: int = 0) -> str:
    return list(world.ledger.accounts["acme"].keys)[number]


def with_ordinary_key(world: World, number: int = 0) -> World:
    key = world.ledger.accounts["acme"].keys[key_of(world, number)][0][1]
    world.configured = world.configured.model_copy(update={"api_key": SecretStr(key.secret)})
    return world


def spend(world: World, at: datetime, credits_usd: str, byok_usd: str = "0", number: int = 0) -> None:
    world.ledger.spend("acme", at, key_of(world, number), GPT, usage(credits_usd, byok_usd))


def booked(world: World) -> dict[datetime, Decimal]:
    """USD by the hour in which it is booked."""
    return {row[0]: row[1] for row in world.rows("select hour, sum(credits_usd) from core.spend_hourly group by 1")}


@pytest.mark.slow
def test_an_ordinary_key_is_one_project_under_its_label_and_its_hash(world: World) -> None:
    with_ordinary_key(world).map("Company A,label,sk-or-v1-*,,,")
    spend(world, NOON - HOUR, "1.25", "0.5")
    world.sync()
    label = world.ledger.accounts["acme"].keys[key_of(world)][0][1].label
    assert world.rows("select key_hash, name, label, company, deleted_at from ref.api_key") == [
        (key_of(world), label, label, "Company A", None)
    ]
    assert world.rows("select kind, status, as_of, credits_total_usd from ref.account") == [
        ("ordinary", "ok", NOON, None)
    ]
    assert world.rows("select key_hash, model, source, credits_usd, byok_usd, requests from core.spend_hourly") == [
        (key_of(world), "(unknown)", "counter", Decimal("1.25"), Decimal("0.5"), 0)
    ]


@pytest.mark.slow
def test_the_first_sync_books_this_month_and_nothing_before(world: World) -> None:
    with_ordinary_key(world)
    spend(world, MONTH - HOUR, "100")  # last month: not booked
    spend(world, MONTH + 5 * DAY, "3")  # before Monday: in the last hour of Sunday
    spend(world, NOON - 2 * HOUR, "0.25")  # NOON is a Monday
    world.sync()
    monday = NOON.replace(hour=0, minute=0)
    assert booked(world) == {monday - HOUR: Decimal(3), NOON.replace(minute=0): Decimal("0.25")}
    assert world.rows(BY_DAY) == [
        ((monday - DAY).date(), Decimal(3), 0),
        (NOON.date(), Decimal("0.25"), 0),
    ]
    assert world.value("select credits_usd from marts.company_spend_monthly") == Decimal("3.25")


@pytest.mark.slow
def test_periods_that_begin_inside_a_sum_of_days_are_known_from_its_end(world: World) -> None:
    """The first sync knows the month, the week and the day: 24 hours begin inside the week's sum, 7 days inside the
    month's."""
    world.now = NOON + 2 * DAY  # a Wednesday
    with_ordinary_key(world)
    for days, amount in ((12, "16"), (5, "8"), (1, "4"), (0, "1")):
        spend(world, world.now - days * DAY - HOUR, amount)
    world.sync()
    today = world.now.replace(hour=0, minute=0)
    monday = today - 2 * DAY
    rolling = (
        "select period, credits_usd, known_from, is_complete, previous_credits_usd from marts.company_spend_rolling"
    )
    assert sorted(world.rows(rolling)) == [
        ("24h", 1, today, False, None),
        ("30d", 29, MONTH, False, None),
        ("7d", 5, monday, False, None),
    ]
    reconciled = world.rows(
        "select day = :today, status, cause, count(*) from marts.reconciliation_daily group by 1, 2, 3 order by 1",
        today=today.date(),
    )
    assert reconciled == [(False, "explained", "a sum of several days", 24), (True, "closed", None, 1)]
    span = "select known_from, is_complete from core.known_span(:start, :end)"
    assert world.rows(span, start=monday, end=today) == [(monday, True)]
    assert world.rows(span, start=monday - DAY, end=today) == [(monday, False)]
    assert world.rows(span, start=monday, end=today - DAY) == [(monday, False)]
    assert world.rows(span, start=today - DAY, end=today) == [(None, False)]
    assert world.rows("select known_from, is_complete from marts.company_spend_monthly") == [(MONTH, True)]
    for _ in range(24):
        world.later(hours=1).sync()
    spend(world, world.now + HOUR, "2")
    world.later(hours=5).sync()
    rows = world.rows(f"{rolling} where period = '24h'")
    assert rows == [("24h", 2, world.now.replace(minute=0) - 23 * HOUR, True, None)]
    world.later(hours=21).sync()
    rows = world.rows(f"{rolling} where period = '24h'")
    assert rows == [("24h", 0, world.now.replace(minute=0) - 20 * HOUR, False, None)]
    world.assert_books_close()


@pytest.mark.slow
def test_a_warehouse_of_before_learns_its_spans_from_the_syncs_that_it_noted(world: World) -> None:
    world.now = NOON + 2 * DAY
    with_ordinary_key(world)
    synced = [world.now]
    world.sync()
    for hours in (1, 1, 5, 30, 1, 9 * 24, 14 * 24, 1):
        world.later(hours=hours).sync()
        synced.append(world.now)
    spans = world.rows("select * from core.counted_span order by start_at")
    assert len(spans) > 8
    migration = (Path(migrations.__file__).parent / "versions" / "0013_counted_spans.sql").read_text(encoding="utf-8")
    (backfill,) = (it for it in migration.split(";") if "insert into core.counted_span" in it)
    with world.engine.begin() as connection:
        connection.exec_driver_sql("delete from core.counted_span; delete from ops.sync_run")
        for number, as_of in enumerate(synced):
            noted = (
                "insert into ops.sync_run (run_id, account, started_at, as_of, status) values (:n, 'acme', :at, :at, "
            )
            connection.execute(sa.text(f"{noted} 'succeeded')"), {"n": str(number), "at": as_of})
        connection.exec_driver_sql(backfill)
    assert world.rows("select * from core.counted_span order by start_at") == spans


def test_an_hourly_sync_books_each_hour_and_a_rerun_writes_nothing(world: World) -> None:
    with_ordinary_key(world)
    for hours in range(4):
        spend(world, NOON + hours * HOUR - timedelta(minutes=30), f"0.{hours + 1}")
    world.sync()
    for _ in range(3):
        world.later(hours=1).sync()
    first = NOON.replace(minute=0)
    assert booked(world) == {first + i * HOUR: Decimal(f"0.{i + 1}") for i in range(4)}
    assert world.sync() == {}
    assert world.later(hours=1).sync() == {}
    assert world.value("select as_of from ref.account") == NOON + 4 * HOUR
    world.assert_books_close()


@pytest.mark.slow
def test_after_three_days_off_today_and_the_sum_are_right(world: World) -> None:
    """From Friday to Monday: what was spent meanwhile cannot be told apart and ends with Sunday; today is exact."""
    world.now = datetime(2026, 11, 20, 10, 20, tzinfo=UTC)  # a Friday
    with_ordinary_key(world)
    spend(world, world.now - HOUR, "1")
    world.sync()
    for days, amount in enumerate(("2", "3", "4", "5")):  # Friday afternoon to Monday morning
        spend(world, world.now + days * DAY - (3 * HOUR if days else -HOUR), amount)
    world.later(days=3, hours=-1).sync()
    friday, monday = datetime(2026, 11, 20, 10, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)
    assert booked(world) == {friday: Decimal(1), monday - HOUR: Decimal(9), monday + 9 * HOUR: Decimal(5)}


@pytest.mark.slow
def test_midnight_and_a_months_end_split_what_was_spent_between_two_syncs(world: World) -> None:
    world.now = datetime(2026, 11, 30, 23, 20, tzinfo=UTC)
    with_ordinary_key(world)
    spend(world, world.now - HOUR, "1")
    world.sync()
    december = datetime(2026, 12, 1, tzinfo=UTC)
    spend(world, december - timedelta(minutes=10), "2", "0.2")
    spend(world, december + timedelta(minutes=10), "4", "0.4")
    world.later(hours=1).sync()
    assert world.rows(BY_DAY)[-2:] == [
        (december.date() - DAY, Decimal(3), Decimal("0.2")),
        (december.date(), Decimal(4), Decimal("0.4")),
    ]
    months = dict(world.rows("select month, credits_usd from marts.company_spend_monthly"))
    assert months == {MONTH.date(): Decimal(3), december.date(): Decimal(4)}


@pytest.mark.slow
@pytest.mark.parametrize("minute", [59, 0])
def test_a_sync_at_midnight_leaves_the_cut_to_the_next_one(world: World, minute: int) -> None:
    """Within a minute of midnight the server may count another day already than our clock says."""
    world.now = datetime(2026, 11, 24, 22, 20, tzinfo=UTC)
    with_ordinary_key(world)
    spend(world, world.now - HOUR, "1")
    world.sync()
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    spend(world, midnight - HOUR, "2")
    world.now = midnight + timedelta(seconds=30 if minute == 0 else -30)
    world.sync()
    assert world.value("select sum(credits_usd) from core.spend_daily") == 3
    spend(world, midnight + timedelta(minutes=10), "4")
    world.now = midnight + HOUR
    world.sync()
    assert world.rows(BY_DAY)[-2:] == [(midnight.date() - DAY, 3, 0), (midnight.date(), 4, 0)]


@pytest.mark.slow
def test_a_clock_that_stands_on_the_other_side_of_midnight_when_the_answer_comes_loses_nothing(world: World) -> None:
    """as_of before midnight, answered well after it."""
    world.now = datetime(2026, 11, 24, 23, 50, tzinfo=UTC)
    with_ordinary_key(world)
    spend(world, world.now - HOUR, "1")
    step = world.step()
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    spend(world, midnight + timedelta(minutes=1), "2")
    world.now = midnight + timedelta(minutes=10)
    world.read(step)
    steps.publish_account(step)
    world.sync()
    assert world.rows(BY_DAY)[-2:] == [(midnight.date() - DAY, 1, 0), (midnight.date(), 2, 0)]


@pytest.mark.slow
def test_what_was_booked_months_ago_stays_and_is_not_booked_again(world: World) -> None:
    with_ordinary_key(world)
    for days, amount in ((0, "1"), (30, "2"), (60, "4"), (63, "8")):
        spend(world, NOON + days * DAY - HOUR, amount)
    world.sync()
    before = booked(world)
    for days in (30, 30, 3):
        world.later(days=days).sync()
        assert before.items() <= booked(world).items()
        before = booked(world)
    assert sorted(before.values()) == [1, 2, 4, 8]
    assert world.value("select min(at) from core.counter_point") == NOON
    assert world.sync() == {}


@pytest.mark.slow
def test_a_counter_that_is_corrected_moves_the_day_it_belongs_to(world: World) -> None:
    with_ordinary_key(world)
    yesterday = NOON - DAY
    spend(world, yesterday, "5")
    spend(world, NOON - HOUR, "1")
    world.sync()
    world.ledger.restate("acme", yesterday.date(), key_of(world), GPT, usage=usage("3"))
    world.later(hours=1).sync()
    assert world.value("select sum(credits_usd) from core.spend_daily") == 4
    assert world.rows(BY_DAY)[-1] == (NOON.date(), 1, 0)


@pytest.mark.slow
def test_last_months_correction_leaves_this_month_as_its_counter_tells(world: World) -> None:
    october = MONTH - 2 * DAY
    spend(world, october, "5")
    spend(world, MONTH + 2 * DAY, "1")
    world.now = MONTH + 4 * DAY + 5 * HOUR
    with_ordinary_key(world).sync()
    world.ledger.restate("acme", october.date(), key_of(world), GPT, usage=usage("3"))
    world.later(days=20).sync()
    assert total_since(world, MONTH) == world.ledger.counters("acme", key_of(world), world.now).usage_monthly == 1


@pytest.mark.slow
def test_a_revoked_ordinary_key_is_invalid_and_changes_no_figure(world: World) -> None:
    with_ordinary_key(world)
    spend(world, NOON - HOUR, "1")
    world.sync()
    before = world.rows("select * from core.spend_hourly")
    world.ledger.delete("acme", key_of(world), world.now)
    with pytest.raises(InvalidKeyError, match="Invalid API key"):
        world.later(hours=1).sync()
    assert world.rows("select * from core.spend_hourly") == before


def test_a_second_ordinary_key_is_a_second_project_and_the_first_keeps_its_past(world: World) -> None:
    with_ordinary_key(world)
    spend(world, NOON - HOUR, "1")
    spend(world, NOON - HOUR, "2", number=1)
    world.sync()
    with_ordinary_key(world, 1).later(hours=1).sync()
    spent = dict(world.rows("select key_hash, sum(credits_usd) from core.spend_daily group by 1"))
    assert spent == {key_of(world): Decimal(1), key_of(world, 1): Decimal(2)}
    assert world.rows("select deleted_at from ref.api_key") == [(None,), (None,)]


@pytest.mark.slow
def test_an_ordinary_key_in_a_managed_account_is_refused_and_changes_nothing(world: World) -> None:
    spend(world, NOON - HOUR, "1")
    world.sync()
    before = world.rows("select * from core.spend_hourly")
    with pytest.raises(PermanentError, match="ordinary key"):
        with_ordinary_key(world).later(hours=1).sync()
    assert world.rows("select * from core.spend_hourly") == before


@pytest.mark.slow
def test_an_ordinary_key_asks_for_nothing_but_itself(world: World) -> None:
    with_ordinary_key(world)
    world.sync()
    world.later(hours=1).sync()
    assert {request.path for request in world.simulator.requests} == {"/key"}


@pytest.mark.slow
@given(
    spends=st.lists(st.tuples(st.integers(0, 10 * 24 * 60), st.integers(1, 10**9)), max_size=12),
    gaps=st.lists(st.integers(3, 4 * 24 * 60), min_size=1, max_size=6),
    start=st.sampled_from(["2026-11-24 05:00", "2026-11-28 22:00", "2026-02-26 13:30", "2027-12-30 23:30"]),
)
@settings(max_examples=examples(10), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counters_close_at_every_instant_they_tell_of(
    postgres_url: str, spends: list[tuple[int, int]], gaps: list[int], start: str
) -> None:
    """Whatever is spent and whenever syncs run: all is booked, and the current day, week and month are exact."""
    begin = datetime.fromisoformat(f"{start}+00:00")
    ledger = Ledger()
    ledger.add_account("acme")
    ledger.add_key("acme", "A", begin - 60 * DAY)
    with fresh_engine(postgres_url) as engine:
        world = with_ordinary_key(World(engine, ledger, now=begin))
        for minutes, nanos in spends:
            spend(world, begin + timedelta(minutes=minutes), f"{Decimal(nanos).scaleb(-9):f}")
        world.sync()
        for gap in gaps:
            world.later(minutes=gap).sync()
            told = ledger.counters("acme", key_of(world), world.now)
            assert total_since(world, begin - 60 * DAY) == told.usage
            assert_spans_are_true(world)
            if surely_one_day(world.now, world.now):
                today = world.now.replace(hour=0, minute=0)
                assert total_since(world, today) == told.usage_daily
                assert total_since(world, today - today.weekday() * DAY) == told.usage_weekly
                assert total_since(world, today.replace(day=1)) == told.usage_monthly


def assert_spans_are_true(world: World) -> None:
    """What a rolling period or a range shows was spent since it is known, give or take an hour at either end."""
    used = partial(_used, world)
    rolling = "select period, known_from, (select coalesce(sum(credits_usd), 0) from marts.company_spend_rolling s "
    for period, known_from, shown in world.rows(f"{rolling} where s.period = r.period) from core.rolling_span r"):
        at_least, at_most = used(world.now) - used(known_from), used(world.now) - used(known_from - HOUR)
        assert at_least <= shown <= at_most, period
    today = world.now.replace(hour=0, minute=0)
    for days, hours in ((0, 0), (1, 0), (3, 0), (1, 5), (3, 30)):
        start, end = today - days * DAY + hours % 24 * HOUR, today + DAY - hours // 24 * DAY - hours % 24 * HOUR
        known = "select is_complete from core.known_span(:start, :end)"
        total = "select coalesce(sum(credits_usd), 0) from marts.company_spend_between(:start, :end)"
        if start < end and world.value(known, start=start, end=end):
            shown = world.value(total, start=start, end=end)
            assert used(end - HOUR) - used(start) <= shown <= used(end) - used(start - HOUR), (start, end)


def _used(world: World, at: datetime) -> Decimal:
    return world.ledger.counters("acme", key_of(world), min(at, world.now)).usage


def total_since(world: World, start: datetime) -> Decimal:
    return world.value("select coalesce(sum(credits_usd), 0) from core.usage_hourly where hour >= :start", start=start)


# ── a management key without analytics ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", sampled([403, 404], 1))
def test_a_management_key_without_analytics_counts_every_key(world: World, status: int) -> None:
    world.simulator.options = Options(analytics_status=status)
    spend(world, NOON - HOUR, "1")
    spend(world, NOON - HOUR, "2", "0.5", number=1)
    world.sync()
    spent = world.rows("select key_name, sum(credits_usd), sum(byok_usd) from core.spend_daily group by 1 order by 1")
    assert spent == [("Company A", 1, 0), ("Company B", 2, Decimal("0.5"))]
    assert world.rows("select kind, status from ref.account") == [("management", "ok")]
    assert world.later(hours=1).sync() == {}


@pytest.mark.slow
def test_activity_knows_better_than_counters(world: World) -> None:
    """Closed days are settled from activity, with models and tokens; only today is counted."""
    world.simulator.options = Options(analytics_status=403)
    for days in range(1, 31):
        spend(world, NOON - days * DAY, f"{days}.5", "0.5")
    spend(world, NOON - HOUR, "0.25")
    world.sync()
    world.assert_days_are_true()
    sources = world.rows(
        "select source, count(*), sum(credits_usd), bool_and(is_settled) from core.spend_daily group by 1"
    )
    assert sorted(sources) == [("activity", 30, Decimal(480), True), ("counter", 1, Decimal("0.25"), False)]
    assert world.rows("select distinct status, cause from marts.reconciliation_daily") == [("closed", None)]
    world.assert_books_close()
    world.later(hours=24).sync()
    world.assert_days_are_true()


@pytest.mark.slow
def test_analytics_that_begin_inside_a_sum_make_nothing_before_them_known(world: World) -> None:
    """They replace the hour in which the sum was booked, and do not reach back to all that it was of."""
    world.now = datetime(2026, 11, 30, 23, 20, tzinfo=UTC)
    world.simulator.options = Options(analytics_status=403)
    spend(world, MONTH + DAY + 12 * HOUR, "7")
    spend(world, MONTH + 19 * DAY + 12 * HOUR, "1")
    world.sync()
    span = "select known_from, is_complete from core.known_span(:start, :end)"
    asked = {"start": MONTH + 2 * DAY + 6 * HOUR, "end": datetime(2026, 12, 7, tzinfo=UTC)}
    assert world.rows(span, **asked) == [(datetime(2026, 11, 30, tzinfo=UTC), False)]
    world.simulator.options = Options()
    world.now = datetime(2026, 12, 6, 10, 20, tzinfo=UTC)
    world.sync()
    told_from = world.now.replace(minute=0) - HOURS_REACH
    assert world.value("select hours_from from ref.account") == told_from
    # From the first whole day on: analytics tell days further back than hours.
    assert world.rows(span, **asked) == [(MONTH + 3 * DAY, False)]
    assert world.rows("select * from core.counted_span where end_at > :told_from", told_from=told_from) == []


@pytest.mark.slow
def test_a_period_that_lies_whole_inside_a_sum_is_not_known(world: World) -> None:
    """A sync right after midnight, after days off: the server does not yet say which day its counters are of."""
    world.now = datetime(2026, 11, 30, 18, tzinfo=UTC)
    with_ordinary_key(world).sync()
    spend(world, world.now + 5 * DAY, "4")
    world.now = datetime(2026, 12, 6, 0, 0, 29, tzinfo=UTC)
    world.sync()
    rolling = "select known_from, is_complete from core.rolling_span where period = '24h'"
    assert world.rows(rolling) == [(None, False)]
    world.later(hours=1).sync()
    assert world.rows(rolling) == [(datetime(2026, 12, 6, tzinfo=UTC), False)]


@pytest.mark.slow
def test_days_off_without_analytics_end_with_true_days(world: World) -> None:
    world.simulator.options = Options(analytics_status=403)
    world.sync()
    for hours in range(1, 96):
        spend(world, NOON + hours * HOUR, "0.1", number=hours % 2)
    world.later(days=4).sync()
    world.assert_days_are_true()
    assert world.value("select sum(credits_usd) from core.spend_daily where day = '2026-11-27'") == Decimal("1.2")
    assert world.later(hours=1).sync().keys() <= {"core.usage_hourly", "core.usage_daily"}
    world.assert_books_close()


@pytest.mark.slow
def test_days_off_that_end_after_midnight_are_not_counted_twice_meanwhile(world: World) -> None:
    """Counters book Friday to Sunday on Sunday; activity tells each day. Days settle together, or none does."""
    world.simulator.options = Options(analytics_status=403)
    world.now = datetime(2026, 11, 20, 10, 20, tzinfo=UTC)
    world.sync()
    for days in range(3):
        spend(world, world.now + days * DAY + HOUR, "3")
    world.now = datetime(2026, 11, 23, 0, 30, tzinfo=UTC)  # Monday
    world.sync()
    assert world.value("select sum(credits_usd) from core.spend_daily") == 9
    world.later(hours=2).sync()
    assert world.value("select sum(credits_usd) from core.spend_daily") == 9
    world.assert_days_are_true()


@pytest.mark.slow
@pytest.mark.parametrize("hour", [2, 10])
def test_days_of_a_sum_settle_only_where_activity_tells_them_all(world: World, hour: int) -> None:
    """A month without a sync ends shortly after midnight: when days may settle, activity has let go of the first."""
    world.simulator.options = Options(analytics_status=403)
    world.now = datetime(2026, 12, 1, 22, 20, tzinfo=UTC)
    world.sync()
    for day, amount in ((3, "2"), (20, "3")):
        spend(world, datetime(2026, 12, day, 12, tzinfo=UTC), amount)
    for day in (1, 2, 3, 4, 5):
        world.now = datetime(2027, 1, day, 1 if day < 4 else hour, 10, tzinfo=UTC)
        world.sync()
        december = "select credits_usd, is_complete from marts.company_spend_monthly where month = '2026-12-01'"
        assert world.rows(december) == [(5, True)]
    world.assert_books_close()


@pytest.mark.slow
def test_days_of_a_sum_that_settled_are_restated_although_activity_has_let_go_of_the_first(world: World) -> None:
    world.simulator.options = Options(analytics_status=403)
    world.now = datetime(2026, 12, 1, 22, 20, tzinfo=UTC)
    world.sync()
    for day, amount in ((3, "2"), (20, "3")):
        spend(world, datetime(2026, 12, day, 12, tzinfo=UTC), amount)
    for day in (30, 31):
        world.now = datetime(2026, 12, day, 10, 20, tzinfo=UTC)
        world.sync()
    spend(world, datetime(2026, 12, 20, 13, tzinfo=UTC), "4")
    world.now = datetime(2027, 1, 10, 10, 20, tzinfo=UTC)
    world.sync()
    world.sync()
    by_day = dict(world.rows("select day, sum(credits_usd) from core.spend_daily where credits_usd <> 0 group by 1"))
    assert by_day == {date(2026, 12, 3): 2, date(2026, 12, 20): 7}


@pytest.mark.slow
def test_sums_that_share_a_day_settle_together(world: World) -> None:
    """Two syncs within a minute of a midnight do not know the day of their counters: their sums are not cut there."""
    world.simulator.options = Options(analytics_status=403)
    world.now = datetime(2026, 12, 1, 5, tzinfo=UTC)
    world.sync()
    spent = Decimal(0)
    for day, at in (
        (3, datetime(2026, 12, 5, 0, 0, 18, tzinfo=UTC)),
        (7, datetime(2026, 12, 9, 23, 59, 48, tzinfo=UTC)),
        (10, datetime(2026, 12, 10, 12, 10, tzinfo=UTC)),
        (11, datetime(2026, 12, 11, 12, 10, tzinfo=UTC)),
    ):
        spend(world, datetime(2026, 12, day, 8, tzinfo=UTC), "2")
        spent += 2
        world.now = at
        world.sync()
        assert world.value("select credits_usd from marts.company_spend_monthly") == spent
    world.assert_days_are_true()


@pytest.mark.slow
def test_a_day_whose_rest_is_booked_within_a_sum_is_not_open(world: World) -> None:
    """Analytics told the morning of the first day; a sum of counters, booked on another day, has the rest of it."""
    spend(world, world.now - HOUR, "1")
    world.sync()
    spend(world, world.now + 2 * HOUR, "2")
    world.simulator.options = Options(analytics_status=403)
    world.later(days=3).sync()
    told = world.rows(
        "select day, hours_credits_usd, status from marts.reconciliation_daily where account_credits_usd <> 0"
    )
    assert told == [(NOON.date(), 1, "closed")]


@pytest.mark.slow
def test_analytics_that_begin_with_a_sum_lack_the_rest_of_the_hour_before(world: World) -> None:
    """A sync knew the first two minutes of an hour. Counters told the rest of it within a sum, which analytics replace
    from the next hour on."""
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    world.now = midnight + timedelta(minutes=2)
    world.sync()
    spend(world, midnight + timedelta(minutes=30), "2")
    world.simulator.options = Options(analytics_status=403)
    world.later(days=3).sync()
    world.simulator.options = Options()
    world.now = datetime(2027, 1, 1, 0, 1, tzinfo=UTC)
    world.sync()
    assert world.value("select hours_from from ref.account") == midnight + HOUR
    assert world.rows("select day from marts.reconciliation_daily where status = 'open'") == []


@pytest.mark.slow
def test_a_key_is_not_given_twice_what_counters_booked_on_another_day(world: World) -> None:
    """Days off end on the last one for counters; activity tells each day, the chat room's spend beside the key's."""
    world.simulator.options = Options(analytics_status=403)
    world.now = datetime(2026, 11, 20, 10, 20, tzinfo=UTC)
    world.sync()
    for days in range(4):
        spend(world, world.now + days * DAY - HOUR, "3")
    world.ledger.spend("acme", world.now + 2 * DAY, None, GPT, usage("100"))
    world.later(days=3).sync()  # Monday
    spent = world.rows(
        "select day, sum(credits_usd) from core.spend_daily where key_hash is not null group by 1 order by 1"
    )
    assert [amount for _, amount in spent] == [3, 3, 3, 3]
    world.assert_days_are_true()


@pytest.mark.slow
def test_analytics_that_are_lost_and_found_leave_the_figures_true(world: World) -> None:
    for hours in range(72):
        spend(world, NOON - 60 * HOUR + hours * HOUR - timedelta(minutes=30), "0.1", number=hours % 2)
    world.sync()
    world.simulator.options = Options(analytics_status=403)
    for _ in range(6):
        world.later(hours=1).sync()
        assert world.value("select sum(credits_usd) from core.usage_hourly") == _spent(world)
    counted = world.value("select count(*) from core.usage_hourly where source = 'counter'")
    assert counted == 6
    world.simulator.options = Options()
    world.later(hours=1).sync()
    world.assert_hours_are_true()
    assert world.rows("select distinct source from core.spend_hourly") == [("analytics",)]
    assert world.rows("select * from core.counter_point") == []
    world.later(hours=1).sync()
    assert world.sync() == {}
    world.assert_books_close()


def _spent(world: World) -> Decimal:
    """What the account was charged by now, as its keys' counters say."""
    accounts = world.ledger.accounts["acme"].keys
    return sum((world.ledger.counters("acme", key, world.now).usage for key in accounts), Decimal(0))


@pytest.mark.slow
def test_what_replaces_counters_is_told_day_by_day(world: World) -> None:
    """Counters booked an outage of three days in one hour; analytics know each of them."""
    world.options = Options(analytics_status=403)
    world.simulator.options = world.options
    spend(world, NOON - 26 * DAY, "3")
    spend(world, NOON - 2 * HOUR, "1")
    world.sync()
    for days in (1, 2, 3):
        spend(world, NOON + days * DAY - HOUR, "0.5", "0.25")
    world.later(days=3, hours=1).sync()
    assert world.rows("select * from ops.counter_replacement") == []
    world.simulator.options = Options()
    world.later(hours=1).sync()
    told = world.rows(
        "select day, counted_credits_usd, told_credits_usd, counted_byok_usd, told_byok_usd "
        "from ops.counter_replacement order by day"
    )
    first, half, quarter, nothing = NOON.date(), Decimal("0.5"), Decimal("0.25"), Decimal(0)
    assert [(row[0] - first).days for row in told] == [0, 1, 2, 3]
    assert [row[2] for row in told] == [Decimal(1), half, half, half]
    assert [row[4] for row in told] == [nothing, quarter, quarter, quarter]
    assert sum(row[1] for row in told) == sum(row[2] for row in told), "what was replaced is the same sum"
    assert sum(row[3] for row in told) == sum(row[4] for row in told)
    assert told[1][1] == nothing or told[2][1] == nothing, "but not the same days"
    world.later(hours=1).sync()
    assert world.value("select count(*) from ops.counter_replacement") == 4, "once"


@pytest.mark.slow
def test_a_key_made_while_analytics_are_lost_is_counted_from_its_birth(world: World) -> None:
    world.now = datetime(2026, 10, 30, 12, 20, tzinfo=UTC)
    world.sync()
    world.simulator.options = Options(analytics_status=403)
    world.later(hours=1).sync()
    new = world.ledger.add_key("acme", "New", world.now + HOUR)
    world.ledger.spend("acme", world.now + 2 * HOUR, new, MISTRAL, usage("7"))
    world.later(days=4).sync()  # the month has turned
    assert world.value("select sum(credits_usd) from core.usage_hourly") == 7
    october = "select sum(credits_usd) from core.spend_hourly where hour < '2026-11-01'"
    assert world.value(october) == 7


@pytest.mark.slow
def test_an_ordinary_account_that_gets_a_management_key_tells_all_keys(world: World) -> None:
    managed = world.configured
    with_ordinary_key(world)
    spend(world, NOON - HOUR, "1")
    spend(world, NOON - HOUR, "2", number=1)
    world.sync()
    world.configured = managed
    world.later(hours=1).sync()
    world.assert_hours_are_true()
    assert world.value("select kind from ref.account") == "management"
    assert world.value("select hours_from from ref.account") < MONTH
    world.assert_books_close()


@pytest.mark.slow
def test_requests_of_a_failed_sync_are_counted_too(world: World) -> None:
    world.ledger.accounts["acme"].management_key = "sk-or-v1-another"
    with pytest.raises(InvalidKeyError):
        world.sync()
    assert world.value("select requests_made from ops.sync_run") == 1
