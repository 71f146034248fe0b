"""The laws of the books, over random histories of an account: whatever happens, and whenever it is synced, all is true.

One deed happens between two syncs, so that every key is seen alive once; what is never seen is told in
`test_reconciliation.py`. Hours and days are those that the API still tells.
"""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.world import DAY, NOON, World, usage

DEEDS = ("spend", "late", "rename", "move", "disable", "rotate", "delete", "undelete", "restate", "map", "nothing")
FACTS = {"core.usage_hourly", "core.usage_daily", "core.unkeyed_hour", "core.company_day", "core.account_day"}
MINUTES = st.one_of(st.integers(2, 90), st.integers(60, 3 * 24 * 60), st.just(12 * 24 * 60))


@st.composite
def histories(draw: st.DrawFn, longest: int) -> list[tuple[int, str, int, int]]:
    """Steps of (minutes until the sync, deed, number of the key, nano-dollars)."""
    step = st.tuples(MINUTES, st.sampled_from(DEEDS), st.integers(0, 5), st.integers(1, 10**9))
    return draw(st.lists(step, min_size=3, max_size=longest))


class Story:
    """An account of two keys and a workspace, in which deeds happen."""

    def __init__(self, world: World) -> None:
        self.world, self.ledger = world, world.ledger
        self.workspace = self.ledger.add_workspace("acme", "Production")
        self.deleted: list[str] = []
        self.names = 0

    def happens(self, deed: str, number: int, nanos: int, at: datetime) -> None:
        """Does a deed at an instant, to the key of that number among those that live."""
        living = [key.hash for key in self.ledger.accounts["acme"].living_keys(at)]
        amount = usage(Decimal(nanos).scaleb(-9))
        key = living[number % len(living)] if living else None
        match deed:
            case "spend":
                self.ledger.spend("acme", at, key, (GPT, CLAUDE)[number % 2], amount)
                self.ledger.spend("acme", at, None, GPT, amount)
            case "late":
                later = at + timedelta(hours=number + 1)
                self.ledger.spend("acme", at, key, GPT, amount, visible_from=later, activity_from=later)
            case "map":
                self.world.map(f"Company {number},key_name,*,,,{40 + number}", f"B,key_name,*,,,{60 - number}")
            case "undelete" if self.deleted:
                self.ledger.undelete("acme", self.deleted.pop(), at)
            case "restate" if key:
                day = (at - (number + 1) * DAY).date()
                self.ledger.restate("acme", day, key, GPT, factor=Decimal(number))
            case _ if key:
                self._befalls(deed, key, at)
            case _:
                pass

    def _befalls(self, deed: str, key: str, at: datetime) -> None:
        match deed:
            case "rename":
                self.names += 1
                self.ledger.rename("acme", key, f"name {self.names}", at)
            case "move":
                self.ledger.move("acme", key, self.workspace, at)
            case "disable":
                self.ledger.disable("acme", key, at)
            case "rotate":
                self.ledger.rotate("acme", key, at)
                self.deleted.append(key)
            case "delete":
                self.ledger.delete("acme", key, at)
                self.deleted.append(key)
            case _:
                pass


def assert_the_laws_hold(world: World) -> None:
    """Conservation by hour, day and company, and a sync that finds nothing new writes no figure."""
    world.assert_hours_are_true()
    world.assert_days_are_true()
    world.assert_books_close()
    assert set(world.rows("select distinct status from marts.reconciliation_daily where status = 'open'")) == set()


def live(postgres_url: str, history: list[tuple[int, str, int, int]]) -> None:
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    for name in ("app", "batch"):
        key = ledger.add_key("acme", name, NOON - 40 * DAY)
        for days in range(1, 6):
            ledger.spend("acme", NOON - days * DAY, key, GPT, usage("1.000000001"))
    with fresh_engine(postgres_url) as engine:
        world = World(engine, ledger)
        story = Story(world)
        world.sync()
        before = world.now
        for minutes, deed, number, nanos in history:
            at = world.now + timedelta(minutes=minutes) / 2
            story.happens(deed, number, nanos, at)
            world.later(minutes=minutes).sync()
            as_of = world.value("select as_of from ref.account")
            assert as_of > before, "what is complete stays complete"
            before = as_of
        world.later(days=3).sync()
        assert_the_laws_hold(world)
        written = world.sync()
        assert not FACTS & set(written), written


@given(history=histories(8))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_laws_hold_over_any_short_history(postgres_url: str, history: list[tuple[int, str, int, int]]) -> None:
    live(postgres_url, history)


@pytest.mark.slow
@given(history=histories(30))
@settings(max_examples=100, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_laws_hold_over_any_history(postgres_url: str, history: list[tuple[int, str, int, int]]) -> None:
    live(postgres_url, history)
