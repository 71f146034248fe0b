"""The laws of billing, over random months: plans, mappings, restatements and late usage, closed and opened again.

Every figure is compared with one that `charged_slowly` works out; what is closed stays as it was, and what changes of
it is charged later, so that the months of a company sum to what they would be if nothing had ever been closed.
"""

import os
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.measures import EXACT
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, LLAMA_FREE
from orcost_pipeline_tests.billing_world import billed
from orcost_pipeline_tests.charged_slowly import Charged, charged
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.world import DAY

START = datetime(2026, 10, 20, 12, 20, tzinfo=UTC)
LONGEST = 75 * DAY
KEYS = ("app", "web", "free")
COMPANIES = ("A", "B", "C")

amounts = st.integers(1, 10**7).map(lambda micros: Decimal(micros).scaleb(-6))
values = st.integers(0, 3_000_000).map(lambda number: f"{Decimal(number).scaleb(-4):f}")
dates = st.sampled_from(("", "2026-10-01", "2026-10-25", "2026-11-01", "2026-11-10", "2026-12-01"))
charges = st.sampled_from(
    (
        *("markup_percent", "byok_percent", "prompt_usd_per_million", "completion_usd_per_million", "request_usd"),
        *("credit_purchase_percent", "monthly_fee_usd", "monthly_minimum_usd"),
    )
)


@st.composite
def plan_rows(draw: st.DrawFn) -> str:
    charge = draw(charges)
    model = "" if charge.startswith("monthly") else draw(st.sampled_from(("", "", "openai/*", "*claude*", GPT)))
    value = "none" if draw(st.integers(0, 7)) == 0 else draw(values)
    start, end = sorted((draw(dates), draw(dates)))
    start, end = (start, end) if start < end else ("", "")
    return ",".join((draw(st.sampled_from(("*", *COMPANIES))), charge, value, model, start, end))


@st.composite
def mappings(draw: st.DrawFn) -> list[str]:
    """Rules for some of the keys, one of them split; the rest is nobody's."""
    one, other = draw(st.permutations(COMPANIES))[:2]
    percent = draw(st.integers(1, 99))
    start = draw(dates)
    split = [f"{one},key_name,app,{start},,{percent}", f"{other},key_name,app,{start},,{100 - percent}"]
    owners = {key: draw(st.sampled_from((None, *COMPANIES))) for key in KEYS[1:]}
    return [*split, *(f"{company},key_name,{key},,," for key, company in owners.items() if company)]


class Invoices(RuleBasedStateMachine):
    """Three keys, three companies; months are closed as soon as they can be, and sometimes opened again."""

    postgres_url: str

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.world = billed(self.stack.enter_context(fresh_engine(self.postgres_url)), START)
        self.rows: list[str] = []
        self.kept: dict[tuple[date, str], Any] = {}
        for number, key in enumerate(KEYS):
            for days in range(1, 30, 4):
                self.world.spend(key, f"{(START - (days + number) * DAY).date()}", "1.234567", "0.5")
        self._sync(timedelta(0))

    @rule(
        key=st.sampled_from(KEYS),
        days=st.integers(0, 24),
        usd=amounts,
        model=st.sampled_from((GPT, CLAUDE, LLAMA_FREE)),
        counts=st.tuples(st.integers(1, 9), st.integers(0, 10**6), st.integers(0, 10**5)),
    )
    def is_used(self, key: str, days: int, usd: Decimal, model: str, counts: tuple[int, int, int]) -> None:
        """Today, or late."""
        requests, prompt, completion = counts
        day = (self.world.now - days * DAY).date()
        if day < self.world.now.date():
            byok = usd if key == "web" else Decimal(0)
            amount = Decimal(0) if model == LLAMA_FREE else usd
            self.world.spend(
                *(key, f"{day}", f"{amount:f}", f"{byok:f}", model),
                requests=requests,
                prompt=prompt,
                completion=completion,
            )

    @rule(key=st.sampled_from(KEYS), days=st.integers(1, 20), factor=st.sampled_from((0, 2, 3)))
    def is_restated(self, key: str, days: int, factor: int) -> None:
        day = (self.world.now - days * DAY).date()
        self.world.ledger.restate("acme", day, self.world.keys[key], GPT, factor=Decimal(factor))

    @rule(lines=mappings())
    def is_mapped(self, lines: list[str]) -> None:
        self.world.map(*lines)
        self._sync(timedelta(hours=1))

    @rule(rows=st.lists(plan_rows(), max_size=6))
    def is_planned(self, rows: list[str]) -> None:
        """The same company, charge, model and dates twice is refused when a file is read."""
        self.rows = list({(row.split(",")[0], row.split(",")[1], *row.split(",")[3:]): row for row in rows}.values())
        self.world.plans(*self.rows)
        self._sync(timedelta(hours=1))

    @rule(company=st.sampled_from(COMPANIES), currency=st.sampled_from(("USD", "EUR", "JPY")), rate=values)
    def is_charged_in(self, company: str, currency: str, rate: str) -> None:
        self.world.rate("2025-01-01", currency, str(Decimal(rate) + Decimal("0.01")))
        self.world.charge_in(company, currency)

    @precondition(lambda self: self.world.now < START + LONGEST)
    @rule(days=st.integers(1, 16))
    def days_pass(self, days: int) -> None:
        self._sync(days * DAY)

    @rule(company=st.sampled_from((None, None, *COMPANIES)))
    def is_closed(self, company: str | None) -> None:
        """Month by month, as far as that goes."""
        for month in self._months():
            try:
                self.world.close(month, company, accepts_open=True)
            except PermanentError as error:
                event(str(error).splitlines()[0][8:40])
                break
        self._laws()

    @rule(company=st.sampled_from((None, *COMPANIES)))
    def is_opened_again(self, company: str | None) -> None:
        for month in reversed(self._months()):
            try:
                self.world.reopen(month, company)
            except PermanentError:
                continue
            self.kept = {
                place: kept for place, kept in self.kept.items() if place[0] != month or company not in (None, place[1])
            }
            break
        self._laws()

    def teardown(self) -> None:
        try:
            self._sync(2 * DAY)
        finally:
            self.stack.close()

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
                event("a closed month")
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
            event(row.reason)
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


def live(postgres_url: str, histories: int, steps: int, **how: Any) -> None:
    machine = type("Invoices", (Invoices,), {"postgres_url": postgres_url})
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


def test_the_laws_of_billing_hold_over_a_history(postgres_url: str) -> None:
    """The same one each time, so that nobody's unrelated change fails by chance."""
    live(postgres_url, 1, 25, derandomize=True, phases=[Phase.generate])


@pytest.mark.slow
def test_the_laws_of_billing_hold_over_any_history(postgres_url: str) -> None:
    live(postgres_url, int(os.environ.get("HISTORIES", "10")), 60, phases=[Phase.generate], print_blob=True)
