"""Accounts whose spend is known to the last digit: two companies, a split, Unattributed, spend with no key.

Every amount is known twice: as usage of a simulated account that was synced three times, and as `Fact`s that a test
adds up naively, as fractions. For tests that name this module in `pytest_plugins`.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache

import pytest
import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES
from orcost_pipeline.simulator import Ledger, Options, Usage
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, LLAMA_FREE
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.windows import DAY, HOUR, Window, day_start, hour_floor, utc_day
from orcost_pipeline_tests.conftest import copy_database, url_of
from orcost_pipeline_tests.world import World

NOW = datetime(2026, 11, 23, 13, 24, tzinfo=UTC)
AS_OF = datetime(2026, 11, 23, 13, 20, tzinfo=UTC)
# Of the three syncs the first reaches 28 days back by hour, the second sees who moved, the third what was restated.
FIRST_SYNC, MOVED_AT = datetime(2026, 11, 20, 14, 20, tzinfo=UTC), datetime(2026, 11, 20, 16, 20, tzinfo=UTC)
HOURS_REACH_DAYS = 28
HOURS_FROM = hour_floor(FIRST_SYNC) - HOURS_REACH_DAYS * DAY
USED_FROM = HOURS_FROM - 6 * HOUR
SPLIT_FROM, OPEN_DAY, RESTATED_DAY = date(2026, 11, 10), date(2026, 11, 5), date(2026, 11, 18)
NEVER = datetime(2100, 1, 1, tzinfo=UTC)
BOUGHT_USD = Decimal(10_000)
GONE = "user_gone"  # made keys, and is no member any more
KEYS = ("alpha", "shared", "beta", "orphan", "idle")
MODELS = (GPT, CLAUDE, LLAMA_FREE)


def _secret(account: str, name: str) -> str:
    return f"sk-or-v1-{account}-{name}"


def hash_of(name: str, account: str = "acme") -> str:
    return hashlib.sha256(_secret(account, name).encode()).hexdigest()


# In force from the start; lines count from the header, which is line 1.
MAPPING = (
    "Company A,key_name,alpha*,,,",
    f"Company A,key_name,shar*,{SPLIT_FROM},,60",
    f"Company B,key_name,shar*,{SPLIT_FROM},,40",
    f"Company B,key_hash,{hash_of('shared')},,{SPLIT_FROM},100.0",
    "Company B,workspace,Production,,,",
    "Company B,key_name,beta*,,,",
)


@dataclass(frozen=True)
class Fact:
    """Usage of a key (None: no key) in the hour that starts at `start`, or on that day."""

    account: str
    start: datetime
    key: str | None
    model: str
    measures: tuple[Decimal, ...]

    @property
    def key_hash(self) -> str | None:
        return self.key and hash_of(self.key, self.account)

    @property
    def usage(self) -> Usage:
        *counts, credits_usd, byok_usd = self.measures
        return Usage(*map(int, counts), credits_usd=credits_usd, byok_usd=byok_usd)


def owners(key: str | None, day: date) -> dict[str, Fraction]:
    """The mapping: `shared` is split 60 to 40 from a day on, `orphan` and no key belong to nobody."""
    if key == "shared" and day >= SPLIT_FROM:
        return {"Company A": Fraction(60, 100), "Company B": Fraction(40, 100)}
    names = {"alpha": "Company A", "shared": "Company B", "beta": "Company B", "idle": "Company B"}
    return {names.get(key or "", "Unattributed"): Fraction(1)}


Grouping = Callable[[Fact, str], tuple[str | None, ...]]


def by_company(fact: Fact, company: str) -> tuple[str | None, ...]:
    return fact.account, company


def by_key(fact: Fact, company: str) -> tuple[str | None, ...]:
    return fact.account, fact.key_hash, company


def by_model(fact: Fact, _company: str) -> tuple[str | None, ...]:
    return fact.account, fact.model


def by_creator(fact: Fact, _company: str) -> tuple[str | None, ...]:
    return fact.account, held(fact.key, utc_day(fact.start) >= utc_day(MOVED_AT))[0]


def by_workspace(fact: Fact, _company: str) -> tuple[str | None, ...]:
    return fact.account, held(fact.key, utc_day(fact.start) >= utc_day(MOVED_AT))[1]


def held(key: str | None, has_moved: bool) -> tuple[str | None, str | None]:
    """Who made a key, and its workspace, before and after `MOVED_AT`: `beta` moved, and `alpha` is another's."""
    if key is None:
        return None, None
    creators = {"alpha": GONE if has_moved else "ann@example.com", "shared": "ann@example.com"}
    workspace = "Production" if key in ("beta", "shared", "idle") else "Default"
    return creators.get(key, GONE), "Lab" if key == "beta" and not has_moved else workspace


@dataclass
class Truth:
    """What was used, by hour, and by day where days are known."""

    hours: list[Fact] = field(default_factory=list)
    days: list[Fact] = field(default_factory=list)

    def between(self, window: Window, by: Grouping) -> dict[tuple[str | None, ...], tuple[Fraction, ...]]:
        """Whole days from the days, the edges from the hours, times shares, one after the other."""
        first, last = -(-(window.start - EPOCH) // DAY) * DAY + EPOCH, (window.end - EPOCH) // DAY * DAY + EPOCH
        days = [fact for fact in self.days if first <= fact.start < last]
        edges = [fact for fact in self.hours if fact.start in window and not first <= fact.start < last]
        return summed([*days, *edges], by)

    def rolling(self, hours: int, by: Grouping) -> dict[tuple[str | None, ...], tuple[Fraction, ...]]:
        first = hour_floor(AS_OF) - (hours - 1) * HOUR
        return summed([fact for fact in self.hours if fact.start >= first], by)

    @property
    def balance_usd(self) -> Decimal:
        """What is left of the credits that were bought: the days know all that was used."""
        accounts = {fact.account for fact in self.days}
        return len(accounts) * BOUGHT_USD - sum(fact.measures[5] for fact in self.days)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _midnight(instant: datetime) -> datetime:
    return day_start(utc_day(instant))


def summed(facts: list[Fact], by: Grouping) -> dict[tuple[str | None, ...], tuple[Fraction, ...]]:
    sums: dict[tuple[str | None, ...], list[Fraction]] = defaultdict(lambda: [Fraction(0)] * len(MEASURES))
    for fact in facts:
        for company, part in owners(fact.key, utc_day(fact.start)).items():
            group = by(fact, company)
            sums[group] = [a + Fraction(b) * part for a, b in zip(sums[group], fact.measures, strict=True)]
    return {group: tuple(values) for group, values in sums.items()}


@cache
def make_truth(*accounts: str) -> Truth:
    """Seeded usage of each account; the first day, a restated one and an open one are more than their hours."""
    truth = Truth()
    for account in accounts:
        used = list(_used(account, random.Random(account)))
        truth.hours += [fact for fact in used if fact.start >= HOURS_FROM]
        truth.days += _days([*used, *_only_by_day(used)])
    return truth


def _used(account: str, chance: random.Random) -> Iterator[Fact]:
    for number in range(int((AS_OF - USED_FROM) / HOUR) + 1):
        for key in ("alpha", "shared", "beta", "orphan", None):
            if chance.random() < (0.02 if key in ("orphan", None) else 0.4):
                counts = [Decimal(chance.randint(1, top)) for top in (40, 90_000, 9_000, 900, 500)]
                byok = Decimal(chance.randint(1, 10**9)).scaleb(-9) if key == "beta" else Decimal(0)
                amounts = (Decimal(chance.randint(1, 10**13)).scaleb(-12), byok)
                yield Fact(account, USED_FROM + number * HOUR, key, chance.choice(MODELS), (*counts, *amounts))


def _only_by_day(used: list[Fact]) -> list[Fact]:
    """What activity reports and analytics never: the restated day once more, and 1 USD of the open one."""
    restated = [fact for fact in used if utc_day(fact.start) == RESTATED_DAY]
    amounts = (*(Decimal(1) for _ in MEASURES[:-1]), Decimal(0))
    return [*restated, Fact(used[0].account, day_start(OPEN_DAY), "alpha", GPT, amounts)]


def _days(facts: list[Fact]) -> Iterator[Fact]:
    sums: dict[tuple[datetime, str | None, str], list[Decimal]] = {}
    for fact in facts:
        cell = sums.setdefault((_midnight(fact.start), fact.key, fact.model), [Decimal(0)] * len(MEASURES))
        cell[:] = [a + b for a, b in zip(cell, fact.measures, strict=True)]
    for (start, key, model), measures in sums.items():
        yield Fact(facts[0].account, start, key, model, tuple(measures))


# Into the warehouse


def sync_known_spend(engine: sa.Engine, account: str) -> None:
    """Syncs the account three times, while keys are renamed, moved and handed over, and a day is restated."""
    ledger = _ledger(account)
    world = World(engine, ledger, FIRST_SYNC, Options(hour_reach_days=HOURS_REACH_DAYS), account)
    world.map(*MAPPING)
    world.sync(since=utc_day(HOURS_FROM))
    world.now = MOVED_AT
    for name in KEYS:
        ledger.rename(account, hash_of(name, account), name, MOVED_AT)
    places = {workspace.name: workspace.id for workspace in ledger.accounts[account].workspaces}
    ledger.move(account, hash_of("beta", account), places["Production"], MOVED_AT)
    ledger.change(account, hash_of("alpha", account), MOVED_AT, creator_user_id=GONE)
    world.sync()
    world.now = AS_OF
    world.sync()


def _ledger(account: str) -> Ledger:
    ledger = Ledger()
    ledger.add_account(account, credits_bought=BOUGHT_USD)
    ann = ledger.add_member(account, "ann@example.com")
    places = {name: ledger.add_workspace(account, name) for name in ("Production", "Lab")}
    for name in KEYS:
        creator, workspace = held(name, has_moved=False)
        ledger.add_key(
            account,
            f"{name} (old)",
            USED_FROM - DAY,
            workspace_id=places.get(workspace or ""),
            creator_user_id=GONE if creator == GONE else ann,
            secret=_secret(account, name),
        )
    used = list(_used(account, random.Random(account)))
    for fact in used:
        ledger.spend(account, fact.start, fact.key_hash, fact.model, fact.usage)
    for fact in _only_by_day(used):
        shown = MOVED_AT if utc_day(fact.start) == RESTATED_DAY else fact.start
        ledger.spend(
            account,
            fact.start,
            fact.key_hash,
            fact.model,
            fact.usage,
            visible_from=NEVER,
            activity_from=shown,
        )
    return ledger


@pytest.fixture(scope="session")
def known_templates(postgres_url: str) -> Callable[[str], str]:
    """The database to copy for these accounts, separated by a blank: each is synced once for all tests of a worker."""
    made: dict[str, str] = {"": "orcost"}

    def template(accounts: str) -> str:
        if accounts not in made:
            others, _, account = accounts.rpartition(" ")
            name = f"known_{accounts.replace(' ', '_')}"
            copy_database(postgres_url, name, template(others))
            engine = connect(url_of(postgres_url, name))
            sync_known_spend(engine, account)
            engine.dispose()
            made[accounts] = name
        return made[accounts]

    return template


@pytest.fixture
def truth(postgres_url: str, database_url: str, known_templates: Callable[[str], str]) -> Truth:
    """The account `acme` in the test's database."""
    return _in_place_of(postgres_url, database_url, known_templates, "acme")


@pytest.fixture
def truth_of_two(postgres_url: str, database_url: str, known_templates: Callable[[str], str]) -> Truth:
    """The accounts `acme` and `globex` in the test's database."""
    return _in_place_of(postgres_url, database_url, known_templates, "acme globex")


def _in_place_of(postgres_url: str, url: str, templates: Callable[[str], str], accounts: str) -> Truth:
    copy_database(postgres_url, str(sa.make_url(url).database), templates(accounts))
    return make_truth(*accounts.split())
