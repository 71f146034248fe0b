"""Witnesses that cut each request's cost to a millionth of a dollar, and others that do not: they agree, and say so."""

import random
from datetime import timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from orcost_pipeline.simulator import Ledger, Options
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, LLAMA_FREE, MISTRAL
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

START = NOON - 20 * DAY
CUTS = {
    "analytics": Options(cut_usd=True),
    "activity": Options(activity_cut_usd=True),
    "both": Options(cut_usd=True, activity_cut_usd=True),
    "analytics by row": Options(cut_usd=True, cut_sums_usd=True),
    "activity by row": Options(activity_cut_usd=True, cut_sums_usd=True),
    "both by row": Options(cut_usd=True, activity_cut_usd=True, cut_sums_usd=True),
}


def spending(days: int = 40, seed: int = 7) -> Ledger:
    """An account with four keys, two of them of one name, one of BYOK, and a chat room, that spend each day of `days`
    from 20 days before START on; amounts have twelve decimals."""
    dice = random.Random(seed)
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    names = ("app", "app", "web", "byok")
    keys = [*(ledger.add_key("acme", name, START - 60 * DAY) for name in names), None]
    for day in range(days):
        for key, name in zip(keys, (*names, "chat"), strict=True):
            for _ in range(3):
                at = START + (day - 20) * DAY + timedelta(seconds=dice.randrange(86_400))
                amount = Decimal(dice.randrange(10**12)).scaleb(-12)
                model = dice.choice((GPT, CLAUDE, MISTRAL))
                credits, byok = (amount / 20, amount) if name == "byok" else (amount, Decimal(0))
                requests = dice.randrange(1, 200)
                ledger.spend("acme", at, key, model, usage(credits, byok, requests))
            ledger.spend("acme", at, key, LLAMA_FREE, usage("0", requests=3))
    return ledger


def statuses(world: World) -> list[tuple[str, str | None]]:
    rows = world.rows("select distinct status, cause from marts.reconciliation_daily order by 1, 2")
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("cut", CUTS)
def test_a_month_of_syncs(engine: sa.Engine, postgres_url: str, cut: str) -> None:
    with fresh_engine(postgres_url) as other:
        ledger = spending()
        exact, world = World(other, ledger, START), World(engine, ledger, START, CUTS[cut])
        for hours in [0] + [1] * 26 + [24] * 18:
            asked = []
            for it in (exact, world):
                it.later(hours=hours).sync()
                asked.append(it.simulator.count)
            print(world.now, asked)
        print(statuses(world), statuses(exact))
        print(
            world.rows(
                "select day, status, cause, account_credits_usd, hours_credits_usd, residual_credits_usd from marts.reconciliation_daily order by day"
            )
        )
        assert 0
