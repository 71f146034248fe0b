"""Windows, by their laws: nothing is asked twice, nothing is left out, and every edge is where UTC has it."""

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcost_pipeline.windows import (
    ACTIVITY_DAYS,
    DAY,
    HOUR,
    ROLLING_HOURS,
    Window,
    ceil,
    covering,
    day_end,
    day_start,
    days_between,
    first_whole_day,
    hour_floor,
    hours_window,
    utc_day,
)

SECOND, INSTANT = timedelta(seconds=1), timedelta(microseconds=1)
BERLIN = timezone(timedelta(hours=1))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NOON = at("2026-11-23 12:20")
EDGES = {
    "an hour": at("2026-11-23 12:00"),
    "midnight": at("2026-11-24 00:00"),
    "a month's end": at("2026-12-01 00:00"),
    "a year's end": at("2027-01-01 00:00"),
    "a leap day's beginning": at("2028-02-29 00:00"),
    "a leap day's end": at("2028-03-01 00:00"),
    "where Europe turns the clock": at("2026-10-25 01:00"),
}
edges = pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)

instants = st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 (made aware)
whole_hours = instants.map(hour_floor)
windows = st.tuples(instants, st.timedeltas(INSTANT, 40 * DAY)).map(lambda drawn: Window(drawn[0], drawn[0] + drawn[1]))


# ── hours ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@edges
def test_a_whole_hour_is_its_own_floor_and_ceiling(edge: datetime) -> None:
    assert hour_floor(edge) == ceil(edge, HOUR) == edge
    assert (hour_floor(edge - INSTANT), ceil(edge - INSTANT, HOUR)) == (edge - HOUR, edge)
    assert (hour_floor(edge + INSTANT), ceil(edge + INSTANT, HOUR)) == (edge, edge + HOUR)


@given(instants)
def test_an_instant_lies_in_its_hour(instant: datetime) -> None:
    assert hour_floor(instant) <= instant < hour_floor(instant) + HOUR
    assert ceil(instant, HOUR) - HOUR < instant <= ceil(instant, HOUR)


def test_a_window_holds_its_start_and_not_its_end() -> None:
    window = Window(NOON, NOON + HOUR)
    assert NOON in window
    assert NOON + HOUR - INSTANT in window
    assert NOON + HOUR not in window
    assert NOON - INSTANT not in window
    assert NOON.date() not in window
    assert None not in window


@given(windows)
def test_the_hours_of_a_window_are_those_that_it_touches(window: Window) -> None:
    hours = window.hours()
    assert all(hour == hour_floor(hour) for hour in hours)
    assert hours == [hours[0] + i * HOUR for i in range(len(hours))]
    assert hours[0] <= window.start < hours[0] + HOUR
    assert hours[-1] < window.end <= hours[-1] + HOUR


@edges
def test_a_window_that_ends_on_the_hour_does_not_touch_the_next(edge: datetime) -> None:
    assert Window(edge - 2 * HOUR, edge).hours() == [edge - 2 * HOUR, edge - HOUR]
    assert Window(edge - 2 * HOUR, edge + INSTANT).hours() == [edge - 2 * HOUR, edge - HOUR, edge]
    assert Window(edge, edge).hours() == []


# ── halves ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(windows)
def test_halves_meet_on_a_whole_hour_inside(window: Window) -> None:
    halves = window.halves()
    if halves is None:
        assert len(window.hours()) < 2
        return
    first, second = halves
    assert (first.start, second.end) == (window.start, window.end)
    assert first.end == second.start == hour_floor(first.end)
    assert window.start < first.end < window.end
    assert abs(len(first.hours()) - len(second.hours())) <= 1
    assert first.hours() + second.hours() == window.hours()


@pytest.mark.slow
@given(windows)
def test_halving_ends_with_single_hours(window: Window) -> None:
    parts, left = [], [window]
    while left:
        part = left.pop()
        halves = part.halves()
        left += halves or ()
        parts += [] if halves else [part]
    assert [hour for part in sorted(parts) for hour in part.hours()] == window.hours()
    assert len(parts) == len(window.hours())


@edges
def test_one_hour_has_no_halves(edge: datetime) -> None:
    assert Window(edge, edge + HOUR).halves() is None
    assert Window(edge + SECOND, edge + HOUR - SECOND).halves() is None
    assert Window(edge - SECOND, edge + SECOND).halves() == (Window(edge - SECOND, edge), Window(edge, edge + SECOND))


# ── days ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@edges
def test_the_first_whole_day_begins_at_midnight_or_after_it(edge: datetime) -> None:
    midnight = day_start(edge.date())
    assert first_whole_day(midnight) == midnight.date()
    assert first_whole_day(midnight + INSTANT) == midnight.date() + DAY
    assert first_whole_day(midnight - INSTANT) == midnight.date()


@given(instants)
def test_the_first_whole_day_is_whole_and_no_earlier_one_is(since: datetime) -> None:
    first = first_whole_day(since)
    assert day_start(first) >= since
    assert day_start(first) - DAY < since


def test_days_are_utc_days_wherever_the_clock_hangs() -> None:
    late = datetime(2026, 12, 1, 0, 30, tzinfo=BERLIN)
    assert utc_day(late) == date(2026, 11, 30)
    assert first_whole_day(late) == date(2026, 12, 1)
    assert first_whole_day(datetime(2026, 12, 1, 1, tzinfo=BERLIN)) == date(2026, 12, 1)


@given(instants)
def test_an_instant_lies_in_its_day(instant: datetime) -> None:
    day = utc_day(instant)
    assert day_start(day) <= instant < day_end(day)
    assert day_end(day) == day_start(day + DAY)
    assert day_start(day).utcoffset() == timedelta(0)


def test_days_between_are_those_before_the_end() -> None:
    assert days_between(date(2028, 2, 28), date(2028, 3, 2)) == [date(2028, 2, 28), date(2028, 2, 29), date(2028, 3, 1)]
    assert days_between(date(2027, 2, 28), date(2027, 3, 1)) == [date(2027, 2, 28)]
    assert days_between(date(2026, 11, 23), date(2026, 11, 23)) == []
    assert days_between(date(2026, 11, 24), date(2026, 11, 23)) == []


# ── what a sync asks for ─────────────────────────────────────────────────────────────────────────────────────────────


@edges
def test_the_api_is_asked_for_no_hour_beyond_its_31_days(edge: datetime) -> None:
    for as_of in (edge, edge + INSTANT, edge + HOUR - INSTANT):
        window = hours_window(as_of)
        assert window.end == as_of
        assert window.start == hour_floor(window.start)
        assert window.start == edge - 743 * HOUR
        assert window.start >= as_of - 31 * DAY


@edges
def test_744_hours_are_known_with_the_current_one(edge: datetime) -> None:
    assert len(hours_window(edge + INSTANT).hours()) == 744
    # On the hour itself the current one is still empty.
    assert len(hours_window(edge).hours()) == 743


@given(instants)
def test_every_rolling_window_and_every_day_of_activity_lies_in_the_hours_that_are_read(as_of: datetime) -> None:
    window = hours_window(as_of)
    for hours in ROLLING_HOURS.values():
        assert hour_floor(as_of) - (hours - 1) * HOUR >= window.start
    assert day_start(utc_day(as_of) - ACTIVITY_DAYS * DAY) >= window.start
    assert list(ROLLING_HOURS.values()) == [24, 7 * 24, 30 * 24]


@given(instants, st.timedeltas(timedelta(0), 3 * DAY))
def test_no_hour_is_left_out_between_one_sync_and_the_next(as_of: datetime, later: timedelta) -> None:
    assert hours_window(as_of + later).start <= hours_window(as_of).end


# ── covering ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    st.lists(st.integers(0, 743), max_size=60),
    instants.filter(lambda instant: instant.year > 2026),
    st.integers(1, 6),
)
def test_windows_cover_every_hour_and_reach_beyond_no_end(ages: list[int], end: datetime, at_most: int) -> None:
    hours = [hour for age in ages if (hour := hour_floor(end) - age * HOUR) < end]
    told = covering(hours, end, at_most=at_most)
    assert len(told) <= at_most
    assert all(any(hour in window for window in told) for hour in hours)
    assert all(window.start < window.end <= end for window in told)
    assert all(one.end <= other.start for one, other in pairwise(told))
    # No window begins or ends with an hour that nobody asked for.
    assert {window.start for window in told} <= set(hours)
    assert all(window.hours()[-1] in hours for window in told)


@given(st.lists(whole_hours, max_size=40), instants)
def test_hours_after_the_end_are_not_asked_for(hours: list[datetime], end: datetime) -> None:
    told = covering(hours, end)
    assert all(window.end <= end for window in told)
    assert {hour for hour in hours if any(hour in window for window in told)} == {hour for hour in hours if hour < end}


@given(st.lists(whole_hours, max_size=20), instants)
def test_neither_order_nor_repetition_matters(hours: list[datetime], end: datetime) -> None:
    assert covering(hours, end) == covering([*reversed(hours), *hours], end)


def test_no_hours_need_no_window() -> None:
    assert covering([], NOON) == []


def test_the_current_hour_ends_now() -> None:
    assert covering([hour_floor(NOON)], NOON) == [Window(hour_floor(NOON), NOON)]


@edges
def test_an_hour_that_has_just_begun_is_not_asked_for(edge: datetime) -> None:
    assert covering([edge - HOUR, edge], edge) == [Window(edge - HOUR, edge)]
    assert covering([edge], edge) == []


def test_hours_less_than_a_day_apart_share_a_window_and_others_do_not() -> None:
    first = at("2028-02-28 12:00")
    assert covering([first, first + 24 * HOUR], NOON + 1000 * DAY) == [Window(first, first + 25 * HOUR)]
    assert covering([first, first + 25 * HOUR], NOON + 1000 * DAY) == [
        Window(first, first + HOUR),
        Window(first + 25 * HOUR, first + 26 * HOUR),
    ]


def test_too_many_windows_are_joined_where_the_gap_is_smallest() -> None:
    first = at("2026-10-25 00:00")
    hours = [first + day * DAY for day in (0, 5, 8, 15, 25)]
    assert covering(hours, NOON + DAY, at_most=4) == [
        Window(first, first + HOUR),
        Window(first + 5 * DAY, first + 8 * DAY + HOUR),
        Window(first + 15 * DAY, first + 15 * DAY + HOUR),
        Window(first + 25 * DAY, first + 25 * DAY + HOUR),
    ]
    assert covering(hours, NOON + DAY, at_most=1) == [Window(first, first + 25 * DAY + HOUR)]
