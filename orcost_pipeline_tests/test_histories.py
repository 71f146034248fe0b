"""The laws of the books, over random histories of an account: whatever happens, and whenever it is synced, all is true.

A history is a month of deeds and syncs against the simulator's ledger, which knows the truth. A second warehouse syncs
the same account every third time: what both can still be told they tell alike.
"""

import os
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from orcost_pipeline.errors import OrcostError
from orcost_pipeline.measures import MEASURES, NOTHING, SAME_USD, Measures, grouped, tolerated_usd
from orcost_pipeline.simulator import Ledger, Options, Usage
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, LLAMA_FREE
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, PATIENCE, World, usage

FACTS = {"core.usage_hourly", "core.usage_daily", "core.unkeyed_hour", "core.company_day", "core.account_day"}
FACT_TABLES = ("core.usage_hourly", "core.usage_daily", "core.account_day", "core.company_day", "core.key_rolling")
NAMES = ("app", "batch", "web")
LONGEST = 30 * DAY
# How a deleted key's hash answers: its own rows, none, or none and a warning.
SILENCE = {
    "answers": Options(),
    "empty": Options(deleted_by_hash="empty", deleted_activity="empty"),
    "warns": Options(deleted_by_hash="warning", deleted_activity="404"),
}
Cells = dict[tuple[Any, ...], tuple[Decimal, ...]]

numbers = st.integers(0, 5)
amounts = st.integers(1, 10**9).map(lambda nanos: Decimal(nanos).scaleb(-9))
minutes = st.integers(1, 50)


class Books(RuleBasedStateMachine):
    """An account of two keys and two workspaces, in which deeds happen between syncs."""

    postgres_url: str
    options: Options

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.ledger = Ledger()
        self.ledger.add_account("acme", credits_bought=Decimal(500))
        self.workspace = self.ledger.add_workspace("acme", "Production")
        for name in NAMES[:2]:
            key = self.ledger.add_key("acme", name, NOON - 40 * DAY)
            for days in range(1, 6):
                self.ledger.spend("acme", NOON - days * DAY, key, GPT, usage("1.000000001"))
        self.world, self.other = (self._warehouse() for _ in range(2))
        self.clock = NOON
        self.syncs = 0
        self.restated: set[tuple[str, date]] = set()
        self.kept: dict[str, Decimal] = {}
        self.sync(0)

    def _warehouse(self) -> World:
        engine = self.stack.enter_context(fresh_engine(self.postgres_url))
        return World(engine, self.ledger, options=self.options)

    # ── deeds ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def key(self, number: int) -> str | None:
        living = sorted(key.hash for key in self.ledger.accounts["acme"].living_keys(self.clock))
        return living[number % len(living)] if living else None

    def deleted(self, number: int, *, seen_by_both: bool = False) -> str | None:
        account = self.ledger.accounts["acme"]
        gone = sorted(set(account.keys) - {key.hash for key in account.living_keys(self.clock)})
        gone = [key for key in gone if not seen_by_both or key in self._seen_by_both()]
        return gone[number % len(gone)] if gone else None

    @rule(after=minutes, number=numbers, amount=amounts, model=st.sampled_from((GPT, CLAUDE, LLAMA_FREE)))
    def spend(self, after: int, number: int, amount: Decimal, model: str) -> None:
        """By a key and in the chat room; a free model costs nothing, a provider's own key costs twice."""
        self.clock += timedelta(minutes=after)
        used = usage(0 if model == LLAMA_FREE else amount, amount if number == 0 else "0")
        self.ledger.spend("acme", self.clock, self.key(number), model, used)
        if number % 2:
            self.ledger.spend("acme", self.clock, None, GPT, usage(amount))

    @rule(after=minutes, number=numbers, amount=amounts, hours=st.integers(1, 30))
    def spend_that_shows_late(self, after: int, number: int, amount: Decimal, hours: int) -> None:
        self.clock += timedelta(minutes=after)
        shows = self.clock + timedelta(hours=hours)
        self.ledger.spend("acme", self.clock, self.key(number), GPT, usage(amount), visible_from=shows)

    @rule(after=minutes, number=numbers, deed=st.sampled_from(("rename", "move", "disable", "rotate", "delete")))
    def befalls_a_key(self, after: int, number: int, deed: str) -> None:
        self.clock += timedelta(minutes=after)
        key = self.key(number)
        match deed if key else None:
            case "rename":
                self.ledger.rename("acme", str(key), NAMES[number % 3], self.clock)
            case "move":
                self.ledger.move("acme", str(key), self.workspace, self.clock)
            case "disable":
                self.ledger.disable("acme", str(key), self.clock)
            case "rotate":
                self.ledger.rotate("acme", str(key), self.clock)
            case "delete":
                self.ledger.delete("acme", str(key), self.clock)
            case _:
                self.ledger.add_key("acme", NAMES[number % 3], self.clock)

    @rule(after=minutes, number=numbers)
    def a_key_comes_back(self, after: int, number: int) -> None:
        """One that a sync saw: what a namesake that none saw used was taken for another's, until it tells its own."""
        self.clock += timedelta(minutes=after)
        if key := self.deleted(number, seen_by_both=True):
            self.ledger.undelete("acme", key, self.clock)
            self.kept.pop(key, None)

    @rule(after=minutes, number=numbers, amount=amounts)
    def a_key_lives_for_minutes(self, after: int, number: int, amount: Decimal) -> None:
        """No sync may ever see it."""
        key = self.ledger.add_key("acme", NAMES[number % 3], self.clock)
        self.ledger.spend("acme", self.clock + timedelta(seconds=20), key, CLAUDE, usage(amount))
        self.clock += timedelta(minutes=after)
        self.ledger.delete("acme", key, self.clock)

    @rule(number=numbers, days=st.integers(1, 6), factor=st.sampled_from((0, 2, 3)), is_deleted=st.booleans())
    def a_day_is_restated(self, number: int, days: int, factor: int, is_deleted: bool) -> None:
        day = (self.clock - days * DAY).date()
        key = self.deleted(number) if is_deleted else self.key(number)
        if key:
            self.restated.add((key, day))
            self.ledger.restate("acme", day, key, GPT, factor=Decimal(factor))

    @rule(number=st.integers(1, 99))
    def the_mapping_changes(self, number: int) -> None:
        self.world.now = self.clock
        self.world.map(f"Company {number % 3},key_name,*a*,,,{number}", f"B,key_name,*a*,,,{100 - number}")

    @rule(after=st.integers(1, 40))
    def openrouter_goes_away(self, after: int) -> None:
        """After some requests none is answered: nothing of that sync may be seen."""
        before = self._everything()
        plain, answered = self.world.simulator.handle, 0

        def handle(request: httpx.Request) -> httpx.Response:
            nonlocal answered
            answered += 1
            if answered > after:
                raise httpx.ConnectError("gone", request=request)
            return plain(request)

        self.world.simulator.handle = handle  # type: ignore[method-assign]
        self.world.patience = 0.02
        try:
            self.world.now = self.clock = self.clock + timedelta(minutes=1)
            self.world.sync()
        except OrcostError:
            assert self._everything() == before, "a sync that failed changed what people read"
        finally:
            self.world.simulator.handle = plain  # type: ignore[method-assign]
            self.world.patience = PATIENCE

    # ── syncs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(after=st.integers(2, 90))
    def sync(self, after: int) -> None:
        """Soon after."""
        self._sync(timedelta(minutes=after))

    @rule(after=st.integers(1, 30))
    def sync_within_a_day(self, after: int) -> None:
        self._sync(timedelta(hours=after))

    @precondition(lambda self: self.clock < NOON + LONGEST)
    @rule(after=st.integers(24, 72))
    def sync_after_days(self, after: int) -> None:
        self._sync(timedelta(hours=after))

    @precondition(lambda self: self.clock < NOON + LONGEST / 2)
    @rule()
    def sync_after_twelve_days(self) -> None:
        self._sync(12 * DAY)

    def _sync(self, after: timedelta) -> None:
        self.clock += after
        self.syncs += 1
        for world in (self.world, self.other)[: 2 if self.syncs % 3 == 1 else 1]:
            before = world.value("select max(as_of) from ref.account")
            world.now = self.clock
            world.sync()
            assert before is None or world.value("select as_of from ref.account") >= before, "complete stays complete"
        self.world.assert_books_close()
        self._nothing_is_resurrected()

    def _nothing_is_resurrected(self) -> None:
        """What is stored of a deleted key is neither lost nor doubled."""
        stored = self.world.rows(
            "select k.key_hash, sum(u.credits_usd) from core.usage_hourly u join core.api_key k using (key_id) "
            "where k.deleted_at is not null group by 1"
        )
        restated = {key for key, _ in self.restated}
        for key, credits_usd in stored:
            if key not in restated:
                assert self.kept.get(key, Decimal(0)) <= credits_usd <= self._at_most(key), key
                self.kept[key] = credits_usd

    def _at_most(self, key: str) -> Decimal:
        """What the key spent; where it is silent, with all that ever bore a name of its: one that no sync saw, or that
        is told by name alone, is taken for it."""
        versions = self.ledger.accounts["acme"].keys
        names = {version.name for _, version in versions[key]}
        bearers = {other for other, them in versions.items() if names & {version.name for _, version in them}}
        facts = self.ledger.accounts["acme"].facts
        spenders = {key} if self.options == SILENCE["answers"] else bearers
        return sum((facts.series(spender).until(self.clock)[0] for spender in spenders), Decimal(0))

    # ── laws ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def teardown(self) -> None:
        try:
            self._laws()
        finally:
            self.stack.close()

    def _laws(self) -> None:
        """After a last sync, a week later: what nets to nothing between two keys is found by asking all of them."""
        self.clock += 8 * DAY
        for world in (self.world, self.other):
            world.now = self.clock
            world.sync()
            written = world.sync()
            assert not FACTS & set(written), written
            world.assert_books_close()
            self._is_true(world)
        self._both_tell_the_same()

    def _doubtful(self) -> set[tuple[str, date]]:
        """Keys and restated days of which nobody can say whether silence is zero: where deleted keys are silent, all
        of them; elsewhere those of keys that were deleted, which may have nothing left that they could answer."""
        if self.options != SILENCE["answers"]:
            return self.restated
        versions = self.ledger.accounts["acme"].keys
        return {(key, day) for key, day in self.restated if any(it.deleted_at for _, it in versions[key])}

    def _is_true(self, world: World) -> None:
        doubtful = self._doubtful()
        known = {row[0] for row in world.rows("select key_hash from core.api_key")} - {key for key, _ in doubtful}
        start = world.now.replace(minute=0) - 743 * HOUR
        first = world.now.date() - 30 * DAY
        for stored, truth in (
            (hours(world, start), _hourly(self.ledger, start, world.now)),
            (days(world, first), _daily(self.ledger, first, world.now)),
        ):
            _same(_folded(stored, set()), _folded(truth, set()))
            if self.options == SILENCE["answers"]:
                _same(_folded(stored, known), _folded(truth, known))
        # A deleted key that is silent keeps what is stored of a restated day: the witnesses disagree for good.
        opened = {row[0] for row in world.rows("select day from marts.reconciliation_daily where status = 'open'")}
        assert opened <= {day for _, day in doubtful}, opened
        named = {row[0] for row in world.rows("select cause from marts.reconciliation_daily where status <> 'closed'")}
        assert None not in named

    def _both_tell_the_same(self) -> None:
        both = self._seen_by_both()
        keys = both - {key for key, _ in self._doubtful()} if self.options == SILENCE["answers"] else set()
        start, first = self.clock.replace(minute=0) - 743 * HOUR, self.clock.date() - 30 * DAY
        for read, since in ((hours, start), (days, first)):
            _same(_folded(read(self.world, since), keys), _folded(read(self.other, since), keys))

    def _seen_by_both(self) -> set[str]:
        keys = "select key_hash from core.api_key"
        return {row[0] for row in self.world.rows(keys)} & {row[0] for row in self.other.rows(keys)}

    def _everything(self) -> list[Any]:
        checksum = "select md5(coalesce(string_agg(t::text, ',' order by t::text), '')) from {} t"
        return [self.world.value("select as_of from ref.account")] + [
            self.world.value(checksum.format(table)) for table in FACT_TABLES
        ]


class RoundedBooks(Books):
    """An account of which some answers cut each request's cost, or each row's: the laws hold, but for rounding."""

    def _is_true(self, world: World) -> None:
        start, first = world.now.replace(minute=0) - 743 * HOUR, world.now.date() - 30 * DAY
        for stored, truth in (
            (hours(world, start), _hourly(self.ledger, start, world.now)),
            (days(world, first), _daily(self.ledger, first, world.now)),
        ):
            told, true = _by_start(stored), _by_start(truth)
            for at in told.keys() | true.keys():
                one, other = told.get(at, NOTHING), true.get(at, NOTHING)
                assert one.agrees(other, tolerated_usd(other.requests, SAME_USD)), (at, one, other)
        opened = {row[0] for row in world.rows("select day from marts.reconciliation_daily where status = 'open'")}
        assert opened <= {day for _, day in self._doubtful()}, opened

    def _both_tell_the_same(self) -> None:
        """One may have learnt by hours what the other learnt by activity."""


def _by_start(cells: Cells) -> dict[Any, Measures]:
    return grouped((at, Measures(*cell)) for (at, *_), cell in cells.items())


def hours(world: World, since: datetime) -> Cells:
    """Cells by hour, key and model."""
    sums = ", ".join(f"sum({measure})" for measure in MEASURES)
    statement = f"select hour, key_hash, model, {sums} from core.spend_hourly where hour >= :since group by 1, 2, 3"
    return {tuple(row[:3]): tuple(row[3:]) for row in world.rows(statement, since=since)}


def days(world: World, since: date) -> Cells:
    """Cells of ended days, by key and model."""
    sums = ", ".join(f"sum({measure})" for measure in MEASURES)
    ended = "day >= :since and day < :today"
    statement = f"select day, key_hash, model, {sums} from core.spend_daily where {ended} group by 1, 2, 3"
    return {tuple(row[:3]): tuple(row[3:]) for row in world.rows(statement, since=since, today=world.now.date())}


def _hourly(ledger: Ledger, start: datetime, now: datetime) -> Cells:
    return {cell: _measured(used) for cell, used in ledger.hourly("acme", start, now, now=now).items()}


def _daily(ledger: Ledger, first: date, now: datetime) -> Cells:
    told = ledger.daily("acme", first, now.date(), now=now).items()
    return _summed(((day, key, model), _measured(used)) for (day, key, model, _), used in told)


def _measured(used: Usage) -> tuple[Decimal, ...]:
    return tuple(Decimal(getattr(used, measure)) for measure in MEASURES)


def _folded(cells: Cells, keys: set[str]) -> Cells:
    """The cells with all keys but these taken for none."""
    return _summed(((at, key if key in keys else None, model), cell) for (at, key, model), cell in cells.items())


def _summed(cells: Any) -> Cells:
    sums: Cells = {}
    for place, cell in cells:
        sums[place] = tuple(a + b for a, b in zip(sums.get(place, (Decimal(0),) * len(cell)), cell, strict=True))
    return {place: cell for place, cell in sums.items() if any(cell)}


def _same(told: Cells, true: Cells) -> None:
    wrong = {place: (told.get(place), true.get(place)) for place in told.keys() | true.keys()}
    wrong = {place: pair for place, pair in wrong.items() if pair[0] != pair[1]}
    assert not wrong, f"{len(wrong)} cells differ, such as {list(wrong.items())[:3]}"


def live(
    postgres_url: str, options: Options, histories: int, steps: int, *, books: type[Books] = Books, **how: Any
) -> None:
    machine = type("Books", (books,), {"postgres_url": postgres_url, "options": options})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=histories,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **how,
        ),
    )


@pytest.mark.parametrize(("silence", "histories"), sampled([("answers", 1), ("warns", 1), ("empty", 1)], 1))
def test_the_laws_hold_over_a_few_histories(postgres_url: str, silence: str, histories: int) -> None:
    """The same ones each time, so that nobody's unrelated change fails by chance."""
    live(postgres_url, SILENCE[silence], histories, 60, derandomize=True, phases=[Phase.generate])


@pytest.mark.slow
@pytest.mark.parametrize("silence", ["answers", pytest.param("warns", marks=pytest.mark.slow)])
def test_the_laws_hold_but_for_rounding_where_answers_are_cut(postgres_url: str, silence: str) -> None:
    options = replace(SILENCE[silence], cut_usd=True, cut_sums_usd=silence == "warns")
    live(postgres_url, options, 2, 60, books=RoundedBooks, derandomize=True, phases=[Phase.generate])


@pytest.mark.slow
@pytest.mark.parametrize("silence", SILENCE)
@pytest.mark.parametrize("cut_sums_usd", [False, True])
@pytest.mark.parametrize("activity_cut_usd", [False, True])
def test_the_laws_hold_but_for_rounding_over_any_history(
    postgres_url: str, silence: str, cut_sums_usd: bool, activity_cut_usd: bool
) -> None:
    options = replace(SILENCE[silence], cut_usd=True, activity_cut_usd=activity_cut_usd, cut_sums_usd=cut_sums_usd)
    live(postgres_url, options, int(os.environ.get("HISTORIES", "20")), 120, books=RoundedBooks, print_blob=True)


@pytest.mark.slow
@pytest.mark.parametrize("silence", SILENCE)
def test_the_laws_hold_over_any_history(postgres_url: str, silence: str) -> None:
    live(postgres_url, SILENCE[silence], int(os.environ.get("HISTORIES", "67")), 150, print_blob=True)
