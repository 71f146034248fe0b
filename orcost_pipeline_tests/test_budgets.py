"""Budgets of companies and what a month is forecast to cost; each figure is worked out by hand beside it."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from orcost_pipeline.health.finding import Code, Severity
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.warehouse.thresholds import publish_thresholds
from orcost_pipeline_tests.budget_world import budget, found
from orcost_pipeline_tests.conftest import Filled
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, NOON, World, usage

BUDGETS = (Code.BUDGET_NEAR, Code.BUDGET_AT_RISK, Code.BUDGET_EXCEEDED)
# NOON is Monday, 2026-11-23, 12:20: 42,000 seconds of the day are left.
LEFT = Decimal(42_000) / 86_400
NOVEMBER, OCTOBER = date(2026, 11, 1), date(2026, 10, 1)


def world_of(engine: sa.Engine, now: datetime = NOON) -> tuple[World, str]:
    """An account with one key, `app`, that belongs to A; nothing is spent yet."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(10_000))
    key = ledger.add_key("acme", "app", now - 90 * DAY)
    world = World(engine, ledger, now)
    world.map("A,key_name,app,,,")
    return world, key


def spend(world: World, key: str, day: date, usd: str, byok: str = "0") -> None:
    """In the day's seventh hour."""
    world.ledger.spend("acme", datetime(day.year, day.month, day.day, 6, tzinfo=UTC), key, GPT, usage(usd, byok))


def synced_world(engine: sa.Engine) -> World:
    """A spends 10 on each weekday (4 of it BYOK) and 2 on each day of a weekend since Monday, October 26; 3 today.

    In November that is 2 on Sunday the 1st, three weeks of 50 + 4 and 3: 167.
    """
    made, key = world_of(engine)
    for days in range(1, 29):
        day = NOON.date() - days * DAY
        spend(made, key, day, *(("6", "4") if day.isoweekday() < 6 else ("2", "0")))
    spend(made, key, NOON.date(), "3")
    made.sync()
    return made


@pytest.fixture
def world(filled: Filled[World], engine: sa.Engine) -> World:
    return filled(synced_world, engine)


# Left of Monday, Tuesday to Friday, a weekend, the 30th: a Monday.
FORECAST = 167 + 10 * LEFT + 4 * 10 + 2 * 2 + 10


def marts(world: World, columns: str = "month, company, budget_usd, spent_usd, status") -> list[tuple[Any, ...]]:
    return [tuple(row) for row in world.rows(f"select {columns} from marts.company_budget_monthly order by 1, 2")]


def codes(world: World, **alerts: Any) -> list[tuple[Code, str | None]]:
    return [(it.code, it.subject) for it in found(world, *BUDGETS, **alerts)]


def test_a_budget_is_beside_what_is_spent_in_this_month_and_in_those_before(world: World) -> None:
    budget(world, A="1000")
    # Five weekdays and Saturday the 31st.
    assert marts(world) == [(OCTOBER, "A", 1000, 52, "ok"), (NOVEMBER, "A", 1000, 167, "ok")]
    ((before, now),) = [marts(world, "month, forecast_usd, as_of, known_from, is_complete")]
    assert before[1] == 52, "a month that is over costs what it cost"
    assert now[1] == pytest.approx(FORECAST, abs=Decimal("1e-12"))
    assert now[2:] == (NOON, datetime(2026, 11, 1, tzinfo=UTC), True)


@pytest.mark.parametrize(
    ("usd", "percent", "status"),
    sampled(
        [
            ("167", "80", "exceeded"),
            ("167.000001", "80", "at_risk"),
            ("225.861111", "80", "at_risk"),
            ("225.861112", "80", "ok"),
            ("334", "50", "near"),
            ("334.01", "50", "ok"),
        ],
        2,
    ),
)
def test_the_worst_of_a_budget_is_told_by_finding_and_table(world: World, usd: str, percent: str, status: str) -> None:
    budget(world, A=usd)
    publish_thresholds(world.engine, Decimal(80), Decimal(percent), show_cost=True)
    assert marts(world)[-1][-1] == status
    expected = [] if status == "ok" else [(Code(f"budget_{status}"), "A")]
    assert codes(world, budget_percent=percent) == expected


def test_a_finding_names_the_company_and_its_figures(world: World) -> None:
    budget(world, A="200")
    (finding,) = found(world, *BUDGETS)
    assert (finding.severity, finding.account) == (Severity.WARNING, None)
    assert finding.message == (
        "A spent 167.00 USD (83.5 %) of its budget of 200.00 USD for 2026-11. Forecast for the whole month: 225.86 USD."
    )
    assert "orcost explain A" in finding.todo
    budget(world, A="")
    assert found(world, *BUDGETS) == []
    assert marts(world) == []


def test_a_new_month_starts_its_budget_again(world: World) -> None:
    budget(world, A="150")
    assert codes(world) == [(Code.BUDGET_EXCEEDED, "A")]
    budget(world, A="230")
    assert codes(world, budget_percent="70") == [(Code.BUDGET_NEAR, "A")]
    world.now = datetime(2026, 12, 1, 0, 30, tzinfo=UTC)
    world.sync()
    assert codes(world, budget_percent="70") == []
    assert marts(world)[-2:] == [(NOVEMBER, "A", 230, 167, "ok"), (date(2026, 12, 1), "A", 230, 0, "ok")]
    # Final are November 2 to 29, as the 30th ended half an hour ago: three weeks as always, then one with 3 on its
    # Monday alone. December has 4 Mondays at (3 × 10 + 3) / 4, 19 days from Tuesday to Friday at 7.5 and 8 days of
    # weekends at 1.5; of the 1st, a Tuesday, half an hour is over.
    expected = 4 * Decimal("8.25") + 19 * Decimal("7.5") + 8 * Decimal("1.5") - Decimal("7.5") / 48
    assert marts(world, "month, company, forecast_usd")[-1][-1] == pytest.approx(expected, abs=Decimal("1e-12"))
    budget(world, A="150")
    assert codes(world) == [(Code.BUDGET_AT_RISK, "A")]


def test_a_company_with_a_budget_and_no_spend_has_a_row_for_this_month_alone(world: World) -> None:
    budget(world, A="", B="100")
    assert marts(world, "month, company, budget_usd, spent_usd, forecast_usd, status") == [
        (NOVEMBER, "B", 100, 0, 0, "ok")
    ]


def test_a_key_that_is_split_counts_for_each_of_its_companies(world: World) -> None:
    world.map("A,key_name,app,,,60", "B,key_name,app,,,40")
    world.later(minutes=1).sync()
    budget(world, A="100", B="60")
    assert marts(world)[-2:] == [
        (NOVEMBER, "A", 100, Decimal("100.2"), "exceeded"),
        (NOVEMBER, "B", 60, Decimal("66.8"), "exceeded"),
    ]


def test_a_renamed_company_takes_its_spend_and_its_budget_along(world: World) -> None:
    budget(world, A="100")
    assert codes(world) == [(Code.BUDGET_EXCEEDED, "A")]
    world.map("Ann,key_name,app,,,")
    budget(world, Ann="100")
    world.later(minutes=1).sync()
    assert codes(world) == [(Code.BUDGET_EXCEEDED, "Ann")]
    assert [row[1] for row in marts(world)] == ["Ann", "Ann"]


def test_the_thresholds_of_views_are_written_where_they_differ(world: World) -> None:
    assert publish_thresholds(world.engine, Decimal(80), Decimal(80), show_cost=True) == 0
    assert publish_thresholds(world.engine, Decimal(80), Decimal("79.5"), show_cost=True) == 1
    assert world.rows("select key_limit_percent, budget_percent from ref.threshold") == [(80, Decimal("79.5"))]


# The forecast


def forecasts(world: World, columns: str = "spent_usd, forecast_usd", where: str = "is_newest") -> list[Any]:
    return [tuple(row) for row in world.rows(f"select {columns} from core.company_forecast where {where} order by day")]


@pytest.mark.parametrize(
    ("days", "now"), [(28, datetime(2027, 2, 10, 12, tzinfo=UTC)), (29, datetime(2028, 2, 10, 12, tzinfo=UTC))]
)
def test_steady_spend_is_forecast_to_the_cent_in_february_too(engine: sa.Engine, days: int, now: datetime) -> None:
    made, key = world_of(engine, now)
    for back in range(1, 30):
        spend(made, key, now.date() - back * DAY, "24")
    spend(made, key, now.date(), "12")
    made.sync()
    assert forecasts(made) == [(9 * 24 + 12, days * 24)]


def test_of_days_that_are_known_those_without_spend_count_as_nothing(engine: sa.Engine) -> None:
    made, key = world_of(engine)
    # One Tuesday of the four: the mean of a Tuesday is 2, and one Tuesday is to come.
    spend(made, key, date(2026, 11, 10), "8")
    made.sync()
    assert forecasts(made) == [(8, 10)]


def test_a_weekday_that_is_not_known_is_forecast_by_the_days_that_are(engine: sa.Engine) -> None:
    made, key = world_of(engine)
    for day in (20, 21, 22):  # Friday to Sunday
        spend(made, key, date(2026, 11, day), str(day))
    made.sync(since=date(2026, 11, 20))
    # Monday to Thursday are unknown: each is 21, the mean of 20, 21 and 22. To come: what is left of today, three days,
    # Friday to Sunday, and a Monday.
    ((spent, expected),) = forecasts(made)
    assert spent == 63
    assert expected == pytest.approx(63 + 21 * (LEFT + 3 + 1) + 20 + 21 + 22, abs=Decimal("1e-12"))


def test_without_a_day_that_is_over_there_is_no_forecast(engine: sa.Engine) -> None:
    made, key = world_of(engine)
    spend(made, key, NOON.date(), "5")
    made.sync(since=NOON.date())
    assert forecasts(made) == [(5, None)]
    budget(made, A="6")
    assert marts(made, "forecast_usd, status, company") == [(None, "near", "A")]


def test_days_that_are_never_settled_count_once_they_ended_48_hours_ago(engine: sa.Engine) -> None:
    made, key = world_of(engine)
    for day in range(16, 23):
        spend(made, key, date(2026, 11, day), "10")
    made.sync()
    with engine.begin() as connection:
        connection.execute(sa.text("update core.account_day set is_settled = false"))
    # October 24 to November 20 count: the mean of each weekday Monday to Friday is 10 / 4, of Saturday and Sunday 0.
    ((spent, expected),) = forecasts(made)
    assert (spent, expected) == (70, pytest.approx(70 + Decimal("2.5") * (LEFT + 4 + 1), abs=Decimal("1e-12")))


def test_the_forecast_of_a_past_day_knows_what_was_known_when_that_day_began(world: World) -> None:
    """On Monday, November 9: 2 + 50 + 4 were spent; each weekday known is worth 10 and each day of a weekend 2."""
    ((spent, expected),) = forecasts(world, where="day = '2026-11-09'")
    # Known are October 12 to November 8, of which spend began on October 26: two weeks of four.
    weekdays, weekend = 16 * 10 / Decimal(2), 6 * 2 / Decimal(2)
    assert (spent, expected) == (56, 56 + weekdays + weekend)


@pytest.mark.slow
def test_several_accounts_count_each_up_to_its_own_end(world: World, engine: sa.Engine) -> None:
    world.ledger.add_account("globex", credits_bought=Decimal(500))
    other = World(engine, world.ledger, NOON - 2 * DAY, account="globex")
    key = world.ledger.add_key("globex", "app", NOON - 90 * DAY)
    for back in range(1, 29):
        day = other.now.date() - back * DAY
        world.ledger.spend("globex", datetime(day.year, day.month, day.day, 6, tzinfo=UTC), key, GPT, usage("1"))
    other.sync()
    budget(world, A="300")
    # globex: 20 days until Friday the 20th, then the left of Saturday and 9 days.
    ((spent, expected),) = [row[:2] for row in marts(world, "spent_usd, forecast_usd, month, company")][-1:]
    assert spent == 167 + 20
    assert expected == pytest.approx(FORECAST + 20 + LEFT + 9, abs=Decimal("1e-12"))
    assert codes(world, budget_percent="60") == [(Code.BUDGET_NEAR, "A")]


# Days far above others


def spiking(engine: sa.Engine, last: str, *before: str) -> World:
    """Sunday the 22nd is the last settled day; `before` are the Sundays before it, the latest first."""
    made, key = world_of(engine)
    for weeks, usd in enumerate((last, *before)):
        if usd != "0":
            spend(made, key, date(2026, 11, 22) - weeks * 7 * DAY, usd)
    return made


@pytest.mark.parametrize(
    ("last", "before", "is_found"),
    sampled(
        [
            ("30.01", ("10", "0", "20", "10"), True),
            ("30", ("10", "0", "20", "10"), False),
            ("45.01", ("10", "10", "20", "40"), True),
            ("45", ("10", "10", "20", "40"), False),
            ("10.99", ("1", "1", "1", "1"), False),
            ("11", ("1", "1", "1", "1"), True),
            ("10", ("0", "0", "0", "500"), True),
        ],
        2,
    ),
)
def test_a_day_is_a_spike_above_three_times_the_median_and_ten_dollars_above_it(
    engine: sa.Engine, last: str, before: tuple[str, ...], is_found: bool
) -> None:
    made = spiking(engine, last, *before)
    made.sync()
    assert [it.subject for it in found(made, Code.SPEND_SPIKE)] == (["A"] if is_found else [])


def test_a_spike_says_what_is_usual_and_is_gone_with_the_next_settled_day(engine: sa.Engine) -> None:
    made = spiking(engine, "45", "10", "0", "20", "10")
    made.sync()
    (finding,) = found(made, Code.SPEND_SPIKE)
    assert (finding.severity, finding.account, finding.subject) == (Severity.WARNING, None, "A")
    assert finding.since == datetime(2026, 11, 22, tzinfo=UTC)
    assert finding.message == "A spent 45.00 USD on 2026-11-22; the median of 4 earlier Sundays is 10.00 USD."
    assert found(made, Code.SPEND_SPIKE, spike_factor="4.5") == []
    assert found(made, Code.SPEND_SPIKE, spike_usd="35.01") == []
    made.later(days=1).sync()
    assert found(made, Code.SPEND_SPIKE) == []


@pytest.mark.parametrize(("since", "is_found"), [(8, True), (9, False)])
def test_a_spike_needs_two_known_days_to_compare_with(engine: sa.Engine, since: int, is_found: bool) -> None:
    made = spiking(engine, "100", "10", "10")
    made.sync(since=date(2026, 11, since))
    assert bool(found(made, Code.SPEND_SPIKE)) == is_found


def test_spend_that_is_nobodys_is_no_companys_spike(engine: sa.Engine) -> None:
    made = spiking(engine, "100", "10", "10", "10", "10")
    made.map("B,key_name,other,,,")
    made.sync()
    assert found(made, Code.SPEND_SPIKE) == []
