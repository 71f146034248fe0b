"""A full reading that is spread over a period: everything is read once in it, and nothing all at once."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from orcost_pipeline.openrouter.pacing import due

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR, WEEK = timedelta(hours=1), timedelta(days=7)


def test_what_was_never_read_is_read_at_once() -> None:
    assert due({"a": None, "b": None}, NOW, WEEK) == ["b", "a"]


def test_what_was_read_in_the_future_was_read_by_a_wrong_clock() -> None:
    assert due({"a": NOW + HOUR, "b": NOW}, NOW, WEEK) == ["a"]


def test_nothing_is_due_where_there_is_nothing() -> None:
    assert due({}, NOW, WEEK) == []


@given(count=st.integers(1, 400), hours=st.lists(st.integers(1, 30), min_size=10, max_size=40))
def test_everything_is_read_once_a_period_at_a_steady_pace(count: int, hours: list[int]) -> None:
    """Syncs at any distance: none reads more than its share of the period's, and one in time reads what is due."""
    read_at: dict[int, datetime | None] = dict.fromkeys(range(count), NOW)
    now, last = NOW, NOW
    for pause in hours:
        now += pause * HOUR
        taken = due(read_at, now, WEEK)
        share = count * ((now - last) / WEEK)
        assert len(taken) <= share + 1
        read_at |= dict.fromkeys(taken, now)
        last = now
        assert all(read is not None and now - read < WEEK for read in read_at.values())


@given(st.dictionaries(st.integers(0, 50), st.none() | st.integers(0, 400)))
def test_those_read_longest_ago_come_first(hours: dict[int, int | None]) -> None:
    read_at = {item: None if ago is None else NOW - ago * HOUR for item, ago in hours.items()}
    taken = due(read_at, NOW, WEEK)
    left = [read for item, read in read_at.items() if item not in taken]
    ages = [WEEK if read_at[item] is None else min(NOW - read_at[item], WEEK) for item in taken]
    assert ages == sorted(ages, reverse=True)
    assert all(read is not None and NOW - read <= min(ages, default=WEEK) for read in left)
    assert all(item in taken for item, read in read_at.items() if read is None)
