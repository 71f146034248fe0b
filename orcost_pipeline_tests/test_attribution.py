"""Random mappings over a published account: marts equal a slow, obvious reference, companies sum to the facts."""

from datetime import date, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import NamedTuple

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

NAMES = ("alpha one", "alpha two", "beta one", "beta one")
DAYS = 6
FIRST = NOON.date() - DAYS * DAY


class RandomRule(NamedTuple):
    pattern: str
    valid_from: date | None
    valid_to: date | None
    shares: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        dates = f"{self.valid_from or ''},{self.valid_to or ''}"
        return [f"{company},key_name,{self.pattern},{dates},{share}" for company, share in self.shares]

    def holds(self, name: str | None, day: date) -> bool:
        is_valid = (self.valid_from is None or self.valid_from <= day) and (
            self.valid_to is None or day < self.valid_to
        )
        return is_valid and name is not None and fnmatchcase(name, self.pattern)


SHARES = st.sampled_from(
    [(("A", "100"),), (("B", "100"),), (("A", "60"), ("B", "40")), (("A", "33.333"), ("B", "33.333"), ("C", "33.334"))]
)
DATES = st.tuples(st.none() | st.integers(0, 3), st.none() | st.integers(4, 7)).map(
    lambda ends: tuple(None if end is None else FIRST + timedelta(days=end) for end in ends)
)
RULES = st.lists(
    st.builds(
        lambda pattern, dates, shares: RandomRule(pattern, *dates, shares),
        st.sampled_from(["alpha *", "* one", "beta?one", "alpha two", "*", "nobody"]),
        DATES,
        SHARES,
    ),
    max_size=5,
    unique_by=lambda rule: (rule.pattern, rule.valid_from, rule.valid_to),
)


def account() -> tuple[Ledger, dict[str, str]]:
    ledger = Ledger()
    ledger.add_account("acme")
    keys = {ledger.add_key("acme", name, NOON - 40 * DAY + i * HOUR): name for i, name in enumerate(NAMES)}
    for day in range(DAYS):
        for number, key in enumerate([*keys, None]):
            amount = Decimal(7 * day + number + 1).scaleb(-7)
            ledger.spend("acme", NOON - HOUR - day * DAY, key, GPT if number % 2 else CLAUDE, usage(amount, amount / 2))
    return ledger, keys


def reference(ledger: Ledger, names: dict[str, str], rules: list[RandomRule]) -> dict[tuple[date, str], Decimal]:
    """Credits by (day, company), key by key and day by day."""
    spend: dict[tuple[date, str], Decimal] = {}
    facts = ledger.daily("acme", FIRST, NOON.date() + DAY, now=NOON)
    for (day, key, _, _), cell in facts.items():
        winner = next((rule for rule in rules if rule.holds(names.get(key or ""), day)), None)
        for company, share in winner.shares if winner else (("Unattributed", "100"),):
            amount = cell.credits_usd * Decimal(share) / 100
            spend[day, company] = spend.get((day, company), Decimal(0)) + amount
    return spend


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules=RULES)
def test_companies_of_any_mapping_equal_the_reference(engine: sa.Engine, rules: list[RandomRule]) -> None:
    """One account, one mapping after another: each republication leaves nothing of the one before."""
    ledger, names = account()
    world = World(engine, ledger)
    world.map(*(line for rule in rules for line in rule.lines()))
    world.sync()
    told = world.rows("select day, company, credits_usd from marts.company_spend_daily")
    assert {(day, company): amount for day, company, amount in told} == reference(ledger, names, rules)
    world.assert_books_close()
