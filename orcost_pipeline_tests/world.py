"""A simulated account over a real Postgres: the truth on one side, the warehouse on the other, a clock between them."""

import threading
import uuid
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Self

import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.companies.mapping import read_mapping
from orcost_pipeline.measures import MEASURES
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.reading import UsageReading
from orcost_pipeline.settings import DEFAULT_TOLERANCE_USD, Account
from orcost_pipeline.simulator import Ledger, Options, Simulator, Usage
from orcost_pipeline.sync import steps
from orcost_pipeline.sync.attribution import load_mapping
from orcost_pipeline.sync.sync_step import SyncStep
from orcost_pipeline.warehouse import raw, runs
from orcost_pipeline.warehouse.publication import Publication, order
from orcost_pipeline.warehouse.publication.step import Step
from orcost_pipeline_tests.kept_sums import untrue_sums

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Seconds: a server that stays down is given up, where a sync would wait for minutes.
PATIENCE = 2.0
READS = (steps.read_account, steps.read_workspaces, steps.read_members, steps.read_models, steps.read_api_keys)
NOON = datetime(2026, 11, 23, 12, 20, tzinfo=UTC)


def usage(credits_usd: str | Decimal, byok_usd: str | Decimal = "0", requests: int = 1) -> Usage:
    return Usage(requests, 1000 * requests, 100 * requests, 10, 50, Decimal(credits_usd), Decimal(byok_usd))


def after_step(name: str, patch: pytest.MonkeyPatch, do: Callable[[Publication], object]) -> None:
    """Does something more when a step of the publication is done."""
    plain = order.perform

    def more(step: Step, publishing: Publication) -> None:
        plain(step, publishing)
        if step.name == name:
            do(publishing)

    assert name in {step.name for step in order.STEPS}
    patch.setattr(order, "perform", more)


def query(engine: sa.Engine, statement: str, **parameters: Any) -> list[Any]:
    """The rows of a statement, as plain tuples."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement), parameters)]


@dataclass
class World:
    """One account `acme`; `now` is the clock of both sides, but for what this machine's is `ahead`."""

    engine: sa.Engine
    ledger: Ledger
    now: datetime = NOON
    options: Options = field(default_factory=Options)
    account: str = "acme"
    tolerance_usd: Decimal = DEFAULT_TOLERANCE_USD
    patience: float = PATIENCE
    ahead: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        self.simulator = Simulator(self.ledger, lambda: self.now, self.options)
        key = SecretStr(self.ledger.accounts[self.account].management_key)
        self.configured = Account(
            name=self.account,
            api_key_env="OPENROUTER_API_KEY",
            api_key=key,
            base_url="https://openrouter.test/api/v1",
        )
        self.reading: UsageReading | None = None

    def over(self, engine: sa.Engine) -> Self:
        """The same account at the same instant, over a copy of its warehouse; neither knows what befalls the other."""
        # A lock cannot be copied: the copy gets a new one.
        ledger = deepcopy(self.ledger, {id(self.ledger.lock): threading.RLock()})
        return replace(self, engine=engine, ledger=ledger)

    def clock(self) -> datetime:
        """This machine's."""
        return self.now + self.ahead

    def step(self) -> SyncStep:
        """A step of a new run, its lock's duties done."""
        run_id = str(uuid.uuid4())
        runs.start_run(self.engine, run_id, self.account, None, self.clock())
        with self.engine.begin() as connection:
            as_of = raw.start_extraction(connection, run_id, self.account, self.clock())
        return SyncStep(
            self.configured,
            self.engine,
            run_id,
            run_id,
            as_of,
            self.clock,
            self.connect,
            tolerance_usd=self.tolerance_usd,
        )

    def connect(self, account: Account, key: SecretStr, clock: Callable[[], datetime]) -> OpenRouter:
        """The simulator, without the waits that a real account asks for."""
        transport = httpx.MockTransport(lambda request: self.simulator.handle(request))
        return OpenRouter(
            account.name,
            key,
            account.base_url,
            transport=transport,
            analytics_per_minute=100_000,
            backoff=0.001,
            patience=self.patience,
            clock=clock,
        )

    def read(self, step: SyncStep, since: date | None = None, *, without: Callable[..., object] | None = None) -> None:
        """All that a sync reads, but for what one step of it reads."""
        for read in READS:
            if read is not without:
                read(step)
        if without is not steps.read_usage_of_account:
            self.reading, _ = steps.read_usage_of_account(step, since)

    def sync(self, since: date | None = None) -> dict[str, int]:
        """One whole sync; returns the rows it wrote, by table."""
        self.simulator.forget_requests()
        step = self.step()
        self.read(step, since)
        return {table: count for table, count in steps.publish_account(step).rows.items() if count}

    def publish(self) -> dict[str, int]:
        """What is stored, by what is in force now, in a run that is no sync; returns the rows written, by table."""
        step = replace(self.step(), run_id=str(uuid.uuid4()))
        return {table: count for table, count in steps.publish_account(step).rows.items() if count}

    def later(self, **span: float) -> "World":
        self.now += timedelta(**span)
        return self

    def map(self, *lines: str) -> None:
        """Brings a mapping into force; costs follow with the next sync."""
        content = "\n".join(["company,match,pattern,valid_from,valid_to,share", *lines])
        load_mapping(self.engine, read_mapping(content.encode(), "test.csv"), self.now)

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(statement), {"account": self.account, **parameters}).all())

    def value(self, statement: str, **parameters: Any) -> Any:
        return self.rows(statement, **parameters)[0][0]

    # ── truth against warehouse ──────────────────────────────────────────────────────────────────────────────────────

    def assert_hours_are_true(self, hours: int = 744) -> None:
        """Every (hour, key, model) of the last `hours` buckets is the ledger's, to the last digit."""
        start = self.now.replace(minute=0, second=0, microsecond=0) - (hours - 1) * HOUR
        truth = self.ledger.hourly(self.account, start, self.now, now=self.now)
        stored = self.rows(
            f"select hour, key_hash, model, {_sums()} from core.spend_hourly "
            "where account = :account and hour >= :start group by 1, 2, 3",
            start=start,
        )
        _assert_same({(r[0], r[1], r[2]): tuple(r[3:]) for r in stored}, _measured(truth))

    def assert_days_are_true(self, days: int = 30) -> None:
        """Every (day, key, model) of the last completed days is the ledger's."""
        today = self.now.date()
        truth: dict[Any, Usage] = {}
        for (day, key, model, _), cell in self.ledger.daily(
            self.account, today - days * DAY, today, now=self.now
        ).items():
            truth[day, key, model] = truth.get((day, key, model), Usage()) + cell
        stored = self.rows(
            f"select day, key_hash, model, {_sums()} from core.spend_daily "
            "where account = :account and day >= :first and day < :today group by 1, 2, 3",
            first=today - days * DAY,
            today=today,
        )
        _assert_same({(r[0], r[1], r[2]): tuple(r[3:]) for r in stored}, _measured(truth))

    def assert_books_close(self) -> None:
        """Companies sum to the facts, exactly, by hour, by day and over each rolling window."""
        by_day = "select day, sum(credits_usd), sum(byok_usd), sum(requests) from {} group by 1 order by 1"
        companies, facts = "marts.company_spend_daily", "core.usage_daily"
        assert self.rows(by_day.format(companies)) == self.rows(by_day.format(facts))
        for period, hours in (("24h", 24), ("7d", 168), ("30d", 720)):
            facts = self.rows(
                "select coalesce(sum(credits_usd), 0), coalesce(sum(byok_usd), 0), coalesce(sum(requests), 0) "
                "from core.usage_hourly u join ref.account a using (account_id) "
                "join core.rolling_span r using (account_id) where r.period = :period and u.hour >= r.start_at "
                "and u.hour > a.as_of - make_interval(hours => :hours)",
                hours=hours,
                period=period,
            )
            for mart in ("company_spend_rolling", "key_spend_rolling"):
                told = self.rows(
                    "select coalesce(sum(credits_usd), 0), coalesce(sum(byok_usd), 0), coalesce(sum(requests), 0) "
                    f"from marts.{mart} where period = :period",
                    period=period,
                )
                assert told == facts, (mart, period)
        self.assert_sums_are_true()

    def assert_sums_are_true(self) -> None:
        """What publications keep added up is what the facts add up to, row by row and to the last digit."""
        with self.engine.connect() as connection:
            assert untrue_sums(connection) == {}


def _sums() -> str:
    return ", ".join(f"sum({measure})" for measure in MEASURES)


def _measured(truth: dict[Any, Usage]) -> dict[Any, tuple[Any, ...]]:
    return {cell: tuple(getattr(u, measure) for measure in MEASURES) for cell, u in truth.items() if u != Usage()}


def _assert_same(stored: dict[Any, Any], truth: dict[Any, Any]) -> None:
    wrong = {cell: (stored.get(cell), truth.get(cell)) for cell in stored.keys() | truth.keys()}
    wrong = {cell: pair for cell, pair in wrong.items() if pair[0] != pair[1]}
    assert not wrong, f"{len(wrong)} cells differ (stored, true), such as {list(wrong.items())[:5]}"
