"""How a question's window is divided, so that its answers are whole and well filled."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orcost_pipeline.openrouter.api.division import Division
from orcost_pipeline.openrouter.api.limits import ROW_LIMIT, Limits
from orcost_pipeline.windows import HOUR, Window
from orcost_pipeline_tests.sampling import examples
from orcost_pipeline_tests.world import NOON

END = NOON.replace(minute=20)
HOURS = 200
WINDOW = Window(NOON.replace(minute=0) - (HOURS - 1) * HOUR, END)
STARTS = WINDOW.hours()


def answered(rows: Mapping[datetime, int], bounds: Mapping[datetime, int] | None) -> tuple[list[Window], int]:
    """The parts that were answered whole, in order, and how many answers were truncated."""
    division, limits, parts, truncated = Division(WINDOW, HOUR, limits := Limits(), bounds), limits, [], 0
    while division.rest.start < division.rest.end:
        part = division.part()
        count = sum(rows.get(at, 0) for at in part.hours())
        if count >= ROW_LIMIT:
            truncated += 1
            assert division.shorten(part, is_truncated=True, is_slow=False)
            continue
        parts.append(part)
        division.note_answer(part, count)
    return parts, truncated


@settings(max_examples=examples(100))
@given(
    st.lists(st.integers(0, 4_000), min_size=HOURS, max_size=HOURS),
    st.lists(st.integers(1, 50), min_size=HOURS, max_size=HOURS),
    st.booleans(),
)
def test_parts_cover_the_window_once_and_meet_on_whole_hours(
    rows: list[int], looseness: list[int], is_bounded: bool
) -> None:
    of_hour = dict(zip(STARTS, rows, strict=True))
    bounds = {at: count * loose for (at, count), loose in zip(of_hour.items(), looseness, strict=True) if count}
    parts, _ = answered(of_hour, bounds if is_bounded else None)
    assert (parts[0].end, parts[-1].start) == (WINDOW.end, WINDOW.start)
    for newer, older in pairwise(parts):
        assert newer.start == older.end == newer.start.replace(minute=0)


@settings(max_examples=examples(100))
@given(st.lists(st.integers(0, 4_000), min_size=HOURS, max_size=HOURS))
def test_what_is_known_exactly_is_never_truncated_while_no_share_was_learnt(rows: list[int]) -> None:
    of_hour = dict(zip(STARTS, rows, strict=True))
    division = Division(WINDOW, HOUR, Limits(), of_hour)
    assert sum(of_hour[at] for at in division.part().hours()) < ROW_LIMIT or len(division.part().hours()) == 1


@pytest.mark.parametrize("loose", [1, 3, 40])
@pytest.mark.parametrize("night", [1, 8])
def test_answers_are_nearly_full_and_hardly_any_is_truncated(loose: int, night: int) -> None:
    """By day eight times the rows of the night, at most, and bounds that are up to forty times what there is."""
    of_hour = {at: 1_600 if 8 <= at.hour < 20 else 1_600 // night for at in STARTS}
    parts, truncated = answered(of_hour, {at: rows * loose for at, rows in of_hour.items()})
    least = ceil(sum(of_hour.values()) / ROW_LIMIT)
    assert len(parts) + truncated <= 1.35 * least + 2
    assert truncated <= 1


def test_without_bounds_halves_are_kept_for_the_hours_before() -> None:
    parts, truncated = answered(dict.fromkeys(STARTS, 1_000), None)
    assert truncated == 5
    assert Counter(len(part.hours()) for part in parts).most_common(1)[0][0] == 6


def test_a_slow_part_makes_every_part_shorter_and_a_round_one_only_itself() -> None:
    bounds = dict.fromkeys(STARTS, 10)
    slow, round_ = (Division(WINDOW, HOUR, Limits(), bounds) for _ in range(2))
    for division, is_slow in ((slow, True), (round_, False)):
        whole = division.part()
        assert whole == WINDOW
        assert division.shorten(whole, is_truncated=False, is_slow=is_slow)
        half = division.part()
        assert len(half.hours()) == HOURS // 2
        division.note_answer(half, 999)
    assert slow.part() == round_.part() == Window(WINDOW.start, half.start)
    assert slow.rest == round_.rest


def test_parts_are_asked_for_at_once_as_soon_as_one_nearly_as_large_was_whole() -> None:
    division = Division(WINDOW, HOUR, limits := Limits(), dict.fromkeys(STARTS, 1_000))
    (first,) = division.parts(3)
    division.note_answer(first, 100 * len(first.hours()))
    limits.note_whole(100 * len(first.hours()))
    (second,) = division.parts(3)
    assert second.end == first.start
    assert len(second.hours()) * 100 < ROW_LIMIT
    limits.note_whole(95 * len(second.hours()))
    parts = division.parts(3)
    assert (len(parts), parts[0]) == (3, second)
    assert [newer.start for newer in (first, *parts[:-1])] == [older.end for older in parts]


def test_while_a_part_is_in_doubt_nothing_else_is_asked_for() -> None:
    division = Division(WINDOW, HOUR, limits := Limits(), dict.fromkeys(STARTS, 1_000))
    limits.note_whole(ROW_LIMIT)
    division.note_answer(first := division.part(), 500 * len(first.hours()))
    doubted = division.part()
    division.doubt(doubted, 8_000)
    assert division.shorten(doubted, is_truncated=False, is_slow=False)
    parts = division.parts(8)
    assert Window(parts[-1].start, parts[0].end) == doubted


@pytest.mark.parametrize("lacking", [0, 1])
def test_an_answer_whose_parts_have_as_many_rows_was_whole(lacking: int) -> None:
    limits = Limits()
    division = Division(WINDOW, HOUR, limits, dict.fromkeys(STARTS, 600))
    doubted = division.part()
    rows = 600 * len(doubted.hours()) - lacking
    division.doubt(doubted, rows)
    while division.rest.end > doubted.start:
        division.shorten(doubted, is_truncated=False, is_slow=False)
        part = division.part()
        assert part.start >= doubted.start
        division.note_answer(part, 600 * len(part.hours()))
    assert limits.rows_answered == (0 if lacking else rows)


def test_an_hour_that_is_too_much_cannot_be_divided() -> None:
    division = Division(Window(END - HOUR / 3, END), HOUR, Limits(), {NOON.replace(minute=0): 50_000})
    assert division.part() == division.rest
    assert not division.shorten(division.part(), is_truncated=True, is_slow=False)
