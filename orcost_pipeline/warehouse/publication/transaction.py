"""The transaction that publishes one account: what its steps know of it, and how they execute SQL in it.

What stays out: which steps there are (`order.py`), and how a transaction begins (`opening.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from orcost_pipeline.measures import SAME_USD
from orcost_pipeline.warehouse.statements import statement
from orcost_pipeline.windows import day_start, first_whole_day, hour_floor, month_start, utc_day

# USD from which on what keys do not explain is a row of its own, whatever its sign; a count that differs always is.
RESIDUAL_FROM_USD = SAME_USD
# USD by more than which a settled day of a key and model has to change to be restated.
RESTATED_ABOVE_USD = SAME_USD
# Days that an answer's oldest counter, the month's, may reach back, and some.
COUNTERS_REACH = timedelta(days=40)


class When(Enum):
    """When a step runs."""

    ALWAYS = "with every publication, also of a mapping alone"
    EXTRACTION = "with new answers"
    ANALYTICS = "with new answers whose hours analytics report"
    COUNTED = "with new answers whose hours follow from counters"
    COUNTERS_REPLACED = "with the first hours that analytics report after hours from counters"
    REBUILD = "with new answers that replace what is stored"


class Owner(Protocol):
    """Who owns a share of a key, or of usage without one (`key_hash` None), on a span of days (None: open-ended)."""

    @property
    def key_hash(self) -> str | None: ...
    @property
    def valid_from(self) -> date | None: ...
    @property
    def valid_to(self) -> date | None: ...
    @property
    def company(self) -> str: ...
    @property
    def share(self) -> Decimal: ...
    @property
    def rule(self) -> str | None: ...


class Price(NamedTuple):
    """The price of a company's use of a model from UTC day `valid_from` to before `valid_to` (None: without limit).

    The rates are USD for each USD of credits, USD of BYOK, prompt token, completion token and request; `purchase_rate`
    is the fee for buying credits for each USD of them, which is charged by itself. `plan` names the rows that hold as
    `charge=value`. is_counter: for usage that is known from counters only, which has no tokens.
    """

    company: str
    model: str
    is_counter: bool
    valid_from: date | None
    valid_to: date | None
    credits_rate: Decimal
    byok_rate: Decimal
    prompt_rate: Decimal
    completion_rate: Decimal
    request_rate: Decimal
    purchase_rate: Decimal
    plan: str


class InForce(Protocol):
    """What the files in force make of an account: a mapping owners, price plans prices."""

    def owners(self, connection: sa.Connection, account: str, versions: Sequence[sa.Row]) -> Iterable[Owner]:
        """The owners of the account's keys, by every version of every key."""
        ...

    def prices(self, connection: sa.Connection, used: Sequence[sa.Row]) -> Iterable[Price]:
        """The prices of what companies used, each a company and a model."""
        ...


def occasions(*, is_extraction: bool, is_counted: bool, was_counted: bool, is_rebuild: bool) -> frozenset[When]:
    """Which steps a publication runs; without an extraction, those of a mapping alone."""
    is_analytics = is_extraction and not is_counted
    holds = {
        When.ALWAYS: True,
        When.EXTRACTION: is_extraction,
        When.ANALYTICS: is_analytics,
        When.COUNTED: is_extraction and is_counted,
        When.COUNTERS_REPLACED: is_analytics and was_counted,
        When.REBUILD: is_extraction and is_rebuild,
    }
    return frozenset(when for when, it_does in holds.items() if it_does)


def read_sql(name: str) -> sa.TextClause:
    """The statement of a step, from `<name>.sql` beside it."""
    return statement("publication", name)


@dataclass
class Publication:
    """One account's publication; `rows` counts rows written and deleted, by relation.

    extraction_id: marks the raw rows to publish (their column `run_id`); run_id: the run that publishes them.
    extracted: the instant of the extraction, None where it is not whole; `as_of` is older where it is not published.
    reported_from: the first hour that analytics report, None where they report none.
    raw_kept: how long raw rows are kept.
    """

    connection: sa.Connection
    account: str
    account_id: int
    extraction_id: str
    run_id: str
    as_of: datetime
    hours_from: datetime
    tolerance_usd: Decimal
    in_force: InForce
    extracted: datetime | None
    is_extraction: bool
    is_counted: bool
    was_counted: bool
    is_rebuild: bool
    reported_from: datetime | None
    raw_kept: timedelta
    rows: dict[str, int] = field(default_factory=dict)

    @cached_property
    def occasions(self) -> frozenset[When]:
        return occasions(
            is_extraction=self.is_extraction,
            is_counted=self.is_counted,
            was_counted=self.was_counted,
            is_rebuild=self.is_rebuild,
        )

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """What the SQL of every step may name."""
        return {
            "account": self.account,
            "account_id": self.account_id,
            "extraction_id": self.extraction_id,
            "run_id": self.run_id,
            "is_extraction": self.is_extraction,
            "is_counted": self.is_counted,
            "is_rebuild": self.is_rebuild,
            "as_of": self.as_of,
            "tolerance_usd": self.tolerance_usd,
            "residual_from_usd": RESIDUAL_FROM_USD,
            "restated_above_usd": RESTATED_ABOVE_USD,
            "this_hour": hour_floor(self.as_of),
            "month_start": month_start(self.as_of),
            "hours_from": self.hours_from,
            "reported_from": self.reported_from,
            "first_day": first_whole_day(self.hours_from),
            # Day, week and month of an answer begin after this; older points and what follows from them stay.
            "counters_horizon": day_start(utc_day(self.as_of) - COUNTERS_REACH),
        }

    def execute(self, name: str) -> sa.CursorResult[Any]:
        """Executes `<name>.sql`."""
        return self.connection.execute(read_sql(name), self.parameters)

    def execute_apart(self, name: str, **more: Any) -> None:
        """Executes `<name>.sql` in a transaction of its own, which other accounts' publications see at once.

        Names that all accounts share are added so: another publication that adds the same would wait for the end of
        this one, or both for each other's (D69).
        """
        with self.connection.engine.begin() as connection:
            connection.execute(read_sql(name), {**self.parameters, **more})

    def count(self, relation: str, rows: int) -> None:
        """Adds rows written or deleted of a relation."""
        self.rows[relation] = self.rows.get(relation, 0) + max(rows, 0)
