"""The laws of billing, over random months: plans, mappings, restatements and late usage, closed and opened again.

Every figure is compared with one that `charged_slowly` works out; what is closed stays as it was, and what changes of
it is charged later, so that the months of a company sum to what they would be if nothing had ever been closed.
"""

import os
import random
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.measures import EXACT
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, LLAMA_FREE
from orcost_pipeline_tests.billing_world import billed
from orcost_pipeline_tests.charged_slowly import Charged, charged
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.world import DAY

# October can be closed from the first deed on.
START = datetime(2026, 11, 3, 12, 20, tzinfo=UTC)
KEYS = ("app", "web", "free")
COMPANIES = ("A", "B", "C")
SEED = 9
DATES = ("", "2026-10-01", "2026-10-25", "2026-11-01", "2026-11-20", "2026-12-01")
CHARGES = (
    *("markup_percent", "byok_percent", "prompt_usd_per_million", "completion_usd_per_million", "request_usd"),
    *("credit_purchase_percent", "monthly_fee_usd", "monthly_minimum_usd"),
)


class Invoices:
    """Three keys, three companies; months are closed, and sometimes opened again, while deeds happen by chance."""

    def __init__(self, postgres_url: str, seed: int) -> None:
        self.stack = ExitStack()
        self.chance = random.Random(seed)
        self.world = billed(self.stack.enter_context(fresh_engine(postgres_url)), START)
        self.rows: list[str] = []
        self.kept: dict[tuple[date, str], Any] = {}
        # What happened, so that a history in which nothing did is no proof.
        self.seen: dict[str, int] = {}
        for number, key in enumerate(KEYS):
            for days in range(1, 30, 4):
                self.world.spend(key, f"{(START - (days + number) * DAY).date()}", "1.234567", "0.5")
        self._sync(timedelta(0))

    def live_in_short(self) -> None:
        """What a closed month goes through: it is adjusted, its adjustment is closed, and adjusted again."""
        with self.stack:
            self.is_planned(most=20)
            self.is_mapped()
            self.is_closed(None)
            self.is_used()
            self.is_restated()
            self.days_pass(30)
            self.is_planned(most=20)
            self.is_closed(None)
            self.is_used()
            self.is_mapped()
            self.is_restated()
            self.is_opened_again(None)
            self.is_planned(most=20)
            self.is_charged_in()
            self.is_closed("A")

    def live(self, steps: int) -> None:
        """So many deeds by chance, each followed by the laws."""
        deeds = (
            *(self.is_used, self.is_used, self.is_restated, self.is_mapped, self.is_planned, self.is_planned),
            *(self.is_charged_in, self.days_pass, self.days_pass),
            *(lambda: self.is_closed(self.chance.choice((None, None, *COMPANIES))),) * 2,
            lambda: self.is_opened_again(self.chance.choice((None, *COMPANIES))),
        )
        with self.stack:
            for _ in range(steps):
                self.chance.choice(deeds)()
            self._sync(2 * DAY)

    def is_used(self) -> None:
        """Lately."""
        key, model = self.chance.choice(KEYS), self.chance.choice((GPT, CLAUDE, LLAMA_FREE))
        day = (self.world.now - self.chance.randint(1, 24) * DAY).date()
        usd = "0" if model == LLAMA_FREE else f"{Decimal(self.chance.randint(1, 10**7)).scaleb(-6):f}"
        self.world.spend(
            *(key, f"{day}", usd, usd if key == "web" else "0", model),
            requests=self.chance.randint(1, 9),
            prompt=self.chance.randint(0, 10**6),
            completion=self.chance.randint(0, 10**5),
        )
        self._sync(timedelta(hours=1))

    def is_restated(self) -> None:
        day = (self.world.now - self.chance.randint(1, 20) * DAY).date()
        factor = Decimal(self.chance.choice((0, 2, 3)))
        self.world.ledger.restate("acme", day, self.world.keys[self.chance.choice(KEYS)], GPT, factor=factor)
        self._sync(timedelta(hours=1))

    def is_mapped(self) -> None:
        """One key is split between two, the others are somebody's or nobody's."""
        one, other = self.chance.sample(COMPANIES, 2)
        percent, start = self.chance.randint(1, 99), self.chance.choice(DATES)
        owners = {key: self.chance.choice((None, *COMPANIES)) for key in KEYS[1:]}
        self.world.map(
            f"{one},key_name,app,{start},,{percent}",
            f"{other},key_name,app,{start},,{100 - percent}",
            *(f"{company},key_name,{key},,," for key, company in owners.items() if company),
        )
        self._sync(timedelta(hours=1))

    def is_planned(self, most: int = 7) -> None:
        """The same company, charge, model and dates twice is refused when a file is read."""
        rows = [self._plan_row() for _ in range(self.chance.randint(most - 7, most))]
        self.rows = list({(row.split(",")[0], row.split(",")[1], *row.split(",")[3:]): row for row in rows}.values())
        self.world.plans(*self.rows)
        self._sync(timedelta(hours=1))

    def _plan_row(self) -> str:
        charge = self.chance.choice(CHARGES)
        model = "" if charge in CHARGES[-2:] else self.chance.choice(("", "", "openai/*", "*claude*", GPT))
        value = "none" if self.chance.random() < 0.1 else f"{Decimal(self.chance.randint(0, 3_000_000)).scaleb(-4):f}"
        start, end = sorted(self.chance.choices(DATES, k=2))
        start, end = (start, end) if start < end else ("", "")
        return ",".join((self.chance.choice(("*", "*", *COMPANIES)), charge, value, model, start, end))

    def is_charged_in(self) -> None:
        currency = self.chance.choice(("USD", "EUR", "JPY"))
        self.world.rate("2025-01-01", currency, f"{Decimal(self.chance.randint(1, 2_000_000)).scaleb(-4):f}")
        self.world.charge_in(self.chance.choice(COMPANIES), currency)
        self._laws()

    def days_pass(self, days: int | None = None) -> None:
        self._sync((days or self.chance.randint(1, 16)) * DAY)

    def is_closed(self, company: str | None) -> None:
        """Month by month, as far as that goes, for a company or for all."""
        for month in self._months():
            try:
                self.world.close(month, company, accepts_open=True)
            except PermanentError as error:
                self._count(str(error).splitlines()[0][8:34])
                break
        self._laws()

    def is_opened_again(self, company: str | None) -> None:
        """The last month that can be."""
        for month in reversed(self._months()):
            try:
                self.world.reopen(month, company)
            except PermanentError:
                continue
            self._count("opened again")
            self.kept = {
                place: kept for place, kept in self.kept.items() if place[0] != month or company not in (None, place[1])
            }
            break
        self._laws()

    def _count(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1

    def _sync(self, after: timedelta) -> None:
        self.world.now += after
        self.world.sync()
        self._laws()

    def _months(self) -> list[date]:
        return [row[0] for row in self.world.rows("select distinct month from core.month_span order by 1")]

    # ── laws ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _laws(self) -> None:
        months = self._months()
        truth = charged(self.world, self.rows, months[0], months[-1])
        self._days_are_true(truth)
        stored = {
            (row.month, row.company): row for row in self.world.rows("select * from marts.company_charge_monthly")
        }
        self._open_months_are_true(truth, stored)
        self._closed_months_stay(stored)
        self._months_sum_to_the_truth(truth, stored)
        self._statements_sum_to_months(stored)

    def _days_are_true(self, truth: Charged) -> None:
        told = {
            (row.account, row.day, row.company, row.key_hash, row.model): (Fraction(row.charge_usd), row.plan)
            for row in self.world.rows("select * from marts.company_charge_daily")
        }
        assert told.keys() == truth.days.keys()
        for cell, (usd, plan) in truth.days.items():
            assert told[cell][0] == usd, (cell, told[cell], usd)
            assert _values(told[cell][1]) == _values(plan), cell

    def _open_months_are_true(self, truth: Charged, stored: dict[tuple[date, str], Any]) -> None:
        adjusted = {(row[0], row[1]) for row in self.world.rows("select booked_month, company from ops.adjustment")}
        opened = {place for place, row in stored.items() if row.status == "open"}
        closed = {
            (row[0], row[1])
            for row in self.world.rows(
                "select d.month, c.company from core.closed d join ref.company c using (company_id)"
            )
        }
        assert opened - adjusted == truth.months.keys() - closed - adjusted
        for place in opened:
            row, true = stored[place], truth.months.get(place)
            if true is not None:
                assert Fraction(row.usage_usd) == true.charges, place
                assert Fraction(row.minimum_usd) == true.minimum, place
                assert Fraction(row.fees_usd) == true.fee + true.purchase, place
                assert (Fraction(row.credits_usd), Fraction(row.byok_usd)) == (true.credits, true.byok), place
            assert row.total_usd == row.usage_usd + row.minimum_usd + row.fees_usd + row.adjustments_usd

    def _closed_months_stay(self, stored: dict[tuple[date, str], Any]) -> None:
        lines = self.world.rows("select * from marts.statement order by month, company, line")
        documents = self.world.rows(
            "select m.month, c.company, m.html, m.csv, m.json "
            "from core.closed_month m join ref.company c using (company_id)"
        )
        for place, row in stored.items():
            if row.status == "closed":
                self._count("closed")
                now = (
                    tuple(row)[:13],
                    [line for line in lines if (line.month, line.company) == place],
                    [it[2:] for it in documents if (it[0], it[1]) == place],
                )
                assert self.kept.setdefault(place, now) == now, place
        assert self.kept.keys() <= stored.keys()

    def _months_sum_to_the_truth(self, truth: Charged, stored: dict[tuple[date, str], Any]) -> None:
        later = self.world.rows("select * from ops.adjustment")
        for company in {company for _, company in truth.months.keys() | stored.keys()}:
            rows = [row for (_, it), row in stored.items() if it == company]
            true = [month for (_, it), month in truth.months.items() if it == company]
            moved = [row for row in later if row.company == company]
            total = sum((it.total for it in true), Fraction(0))
            cost = sum((it.credits + it.purchase for it in true), Fraction(0))
            assert _sum(row.total_usd for row in rows) == total, company
            assert _sum(row.margin_usd for row in rows) == total - cost, company
            spent = _sum(row.credits_usd for row in rows) + _sum(row.credits_usd for row in moved)
            assert spent == sum((it.credits for it in true), Fraction(0)), company
            if company == "Unattributed":
                assert not any(row.total_usd for row in rows)
        for row in later:
            self._count(row.reason)
            assert row.month < row.booked_month
            assert row.amount_usd or row.credits_usd or row.byok_usd or row.purchase_fee_usd
            assert set(row.reason.split("; ")) <= {"restatement", "late usage", "mapping", "plan"}

    def _statements_sum_to_months(self, stored: dict[tuple[date, str], Any]) -> None:
        lines: dict[tuple[date, str], list[Any]] = {}
        for line in self.world.rows("select * from marts.statement order by month, company, line"):
            lines.setdefault((line.month, line.company), []).append(line)
        assert lines.keys() <= {place for place in stored if place[1] != "Unattributed"}
        for place, row in stored.items():
            of = lines.get(place, [])
            assert [line.line for line in of] == list(range(1, len(of) + 1))
            if place[1] == "Unattributed":
                continue
            assert _sum(line.amount_usd for line in of) == Fraction(row.total_usd), place
            if of:
                places = Decimal(1) if of[0].currency == "JPY" else Decimal("0.01")
                exact = EXACT.multiply(row.total_usd, of[0].per_usd)
                owed = exact.quantize(places, rounding=ROUND_HALF_EVEN, context=EXACT)
                assert sum(line.amount for line in of) == owed, place


def _values(plan: str) -> list[tuple[str, Decimal]]:
    return [(charge, Decimal(value)) for charge, _, value in (it.partition("=") for it in plan.split("; ") if it)]


def _sum(found: Any) -> Fraction:
    return sum((Fraction(it) for it in found), Fraction(0))


HAPPENED = {"closed", "opened again", "restatement", "late usage", "mapping", "plan"}


def test_the_laws_of_billing_hold_over_a_history(postgres_url: str) -> None:
    """The same one each time, so that nobody's unrelated change fails by chance."""
    history = Invoices(postgres_url, seed=SEED)
    history.live_in_short()
    assert {word for reasons in history.seen for word in reasons.split("; ")} >= HAPPENED, history.seen


@pytest.mark.slow
@settings(max_examples=int(os.environ.get("HISTORIES", "10")), phases=[Phase.generate])
@given(seed=st.integers(0, 10**9))
def test_the_laws_of_billing_hold_over_any_history(postgres_url: str, seed: int) -> None:
    Invoices(postgres_url, seed).live(80)
