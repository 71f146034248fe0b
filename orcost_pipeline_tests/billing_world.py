"""An account whose companies are charged: usage, mapping, price plans and rates as a test says, month by month."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from orcost_pipeline.billing.closing import ACCEPTABLE, Closing, close_month, reopen_month
from orcost_pipeline.billing.statement import Statement, read_statement
from orcost_pipeline.simulator import Ledger, Usage
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.warehouse.questions.billing import Documents
from orcost_pipeline_tests.world import DAY, World

# The day after October can be closed: it ended, and its days are settled.
IN_NOVEMBER = datetime(2026, 11, 3, 12, 20, tzinfo=UTC)
OCTOBER, NOVEMBER, DECEMBER = date(2026, 10, 1), date(2026, 11, 1), date(2026, 12, 1)
COLUMNS = ("company", "charge", "value", "model", "valid_from", "valid_to")


@dataclass
class Billed(World):
    """One account with the keys `app` (A) and `web` (B); see `billed`."""

    keys: dict[str, str] = field(default_factory=dict)

    def plans(self, *rows: str) -> None:
        """Puts rows of price plans into force, their columns as in COLUMNS; the next sync charges by them."""
        with self.engine.begin() as connection:
            version = connection.execute(
                sa.text(
                    "insert into ref.price_plan_version (loaded_at, source, content_sha256, row_count) "
                    "values (:at, 'test.csv', 'x', :rows) returning version"
                ),
                {"at": self.now, "rows": len(rows)},
            ).scalar_one()
            for line, row in enumerate(rows, start=2):
                values: dict[str, Any] = dict(zip(COLUMNS, [*row.split(","), *[""] * 6], strict=False))
                values = {name: value or None for name, value in values.items()} | {"version": version, "line": line}
                if values["value"] == "none":
                    values["value"] = None
                connection.execute(
                    sa.text(
                        "insert into ref.company (company) select :company where :company <> '*' on conflict do nothing"
                    ),
                    values,
                )
                connection.execute(
                    sa.text(
                        "insert into ref.price_plan (version, line, company, charge, value, model, valid_from, "
                        "valid_to) values (:version, :line, :company, :charge, cast(:value as numeric), :model, "
                        "cast(:valid_from as date), cast(:valid_to as date))"
                    ),
                    values,
                )

    def rate(self, day: str, currency: str, per_usd: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                sa.text(
                    "insert into ref.exchange_rate values (:day, :currency, :per_usd) "
                    "on conflict (currency, date) do update set per_usd = excluded.per_usd"
                ),
                {"day": date.fromisoformat(day), "currency": currency, "per_usd": Decimal(per_usd)},
            )

    def charge_in(self, company: str, currency: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                sa.text("update ref.company set currency = :currency where company = :company"),
                {"currency": currency, "company": company},
            )

    def spend(
        self,
        key: str,
        day: str,
        usd: str,
        byok: str = "0",
        model: str = GPT,
        *,
        requests: int = 1,
        prompt: int = 1000,
        completion: int = 100,
    ) -> None:
        """Usage in the day's seventh hour."""
        at = datetime.fromisoformat(f"{day}T06:00+00:00")
        used = Usage(requests, prompt, completion, 0, 0, Decimal(usd), Decimal(byok))
        self.ledger.spend(self.account, at, self.keys[key], model, used)

    def months(self, columns: str = "month, company, usage_usd, total_usd, status") -> list[tuple[Any, ...]]:
        return self.rows(f"select {columns} from marts.company_charge_monthly order by month, company")

    def close(self, month: date, company: str | None = None, *, accepts_open: bool = False) -> Closing:
        return close_month(
            self.engine,
            month,
            company,
            accepts=ACCEPTABLE if accepts_open else (),
            configured=[self.account],
            render=as_text,
            now=self.now,
        )

    def reopen(self, month: date, company: str | None = None, reason: str = "wrong plan") -> None:
        reopen_month(self.engine, month, company, reason, self.now)

    def statement(self, company: str, month: date) -> Statement:
        with self.engine.connect() as connection:
            return read_statement(connection, company, month)

    def adjustments(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "select company, month, booked_month, amount_usd, credits_usd, reason from ops.adjustment order by 1, 2, 3"
        )


def as_text(statement: Statement) -> Documents:
    """What the statement says, in three spellings."""
    return Documents(*(f"{kind}: {statement.head} {list(statement.lines)}" for kind in ("html", "csv", "json")))


def billed(
    engine: sa.Engine, now: datetime = IN_NOVEMBER, mapping: Sequence[str] = ("A,key_name,app", "B,key_name,web")
) -> Billed:
    """A world that begins with October, nothing spent yet."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(100_000))
    keys = {name: ledger.add_key("acme", name, now - 200 * DAY) for name in ("app", "web", "free")}
    world = Billed(engine, ledger, now, keys=keys)
    world.map(*(f"{rule},,," for rule in mapping))
    return world
