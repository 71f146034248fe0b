"""A clock that is off: what a sync does about it, and what becomes of what an earlier one stored."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

YEARS = timedelta(days=3_652)
READERS = (
    *("ref.api_key", "ref.api_key_history", "ref.assignment", "core.spend_hourly", "core.spend_daily"),
    *("marts.key_spend_rolling", "marts.company_spend_rolling", "marts.company_spend_daily"),
    *("marts.company_spend_monthly", "marts.creator_spend_daily", "marts.workspace_spend_daily"),
    *("marts.unattributed_spend", "marts.unkeyed_spend_daily", "marts.reconciliation_daily", "ops.restatement"),
    "ref.account",
)
OF_THE_MACHINE = {"run_id", "published_run_id", "full_pass_at", "account_id"}


def figures(world: World) -> dict[str, Any]:
    """All that readers see, but for which run it was."""
    left_out = "".join(f" - '{name}'" for name in OF_THE_MACHINE)
    return {name: world.rows(f"select (to_jsonb(t){left_out})::text from {name} t order by 1") for name in READERS}


class Twins:
    """One account in two warehouses; only the second's machine has a clock that may be off."""

    def __init__(self, engine: sa.Engine, other: sa.Engine) -> None:
        self.ledger = Ledger()
        self.ledger.add_account("acme")
        self.keys = [self.ledger.add_key("acme", name, NOON - 40 * DAY) for name in ("A one", "A two", "B one", "B two")]
        self.right, self.wrong = World(engine, self.ledger), World(other, self.ledger)
        for world in (self.right, self.wrong):
            world.map("A,key_name,A*,,,", "B,key_name,B*,,,")
        self.number = 0

    def later(self, **span: float) -> None:
        for world in (self.right, self.wrong):
            world.later(**span)

    def spend(self) -> None:
        """Something by every key and without one, now and in the days before."""
        now = self.right.now
        for ago in (timedelta(minutes=5), 3 * HOUR, 11 * HOUR):
            for number, key in enumerate([*self.keys, None]):
                self.number += 1
                model = (GPT, CLAUDE)[self.number % 2]
                self.ledger.spend("acme", now - ago, key, model, usage(f"0.{self.number:04}01", f"0.0{number}"))

    def sync(self) -> None:
        for world in (self.right, self.wrong):
            world.sync()

    def sync_wrong(self, ahead: timedelta) -> None:
        self.wrong.ahead = ahead
        self.wrong.sync()
        self.wrong.ahead = timedelta(0)

    def assert_alike(self) -> None:
        right, wrong = figures(self.right), figures(self.wrong)
        for name in READERS:
            assert wrong[name] == right[name], name


@pytest.fixture
def twins(engine: sa.Engine, postgres_url: str) -> Iterator[Twins]:
    with fresh_engine(postgres_url) as other:
        yield Twins(engine, other)


@pytest.mark.parametrize(
    ("ahead", "after"),
    [
        *((26 * HOUR, HOUR), (26 * HOUR, 25 * HOUR), (5 * DAY, 25 * HOUR), (5 * DAY, 4 * DAY)),
        *((40 * DAY, HOUR), (40 * DAY, 35 * DAY), (YEARS, HOUR), (YEARS, 4 * DAY), (YEARS, 35 * DAY)),
    ],
    ids=str,
)
def test_the_next_good_sync_heals(twins: Twins, ahead: timedelta, after: timedelta) -> None:
    twins.spend()
    twins.sync()
    twins.later(days=1)
    twins.spend()
    twins.sync()
    twins.later(hours=2)
    twins.spend()
    now = twins.right.now
    twins.ledger.rename("acme", twins.keys[0], "B renamed", now)
    twins.keys.append(twins.ledger.add_key("acme", "A new", now))
    twins.ledger.delete("acme", twins.keys.pop(1), now)
    twins.sync_wrong(ahead)
    twins.later(minutes=30)
    twins.sync_wrong(ahead)
    twins.ledger.rename("acme", twins.keys[0], "A one", twins.right.now)
    twins.later(hours=after / HOUR)
    twins.spend()
    twins.sync()
    twins.assert_alike()
    for span in (HOUR, DAY, 3 * DAY):
        twins.later(hours=span / HOUR)
        twins.spend()
        twins.sync()
        twins.assert_alike()
