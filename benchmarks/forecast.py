"""Error of the forecast of a month by the day on which it is made, for four shapes of spend, beside two naive ones.

The forecast is the product's: `core.company_forecast` of an embedded Postgres that holds the generated days. A straight
line extends the month so far; last month's total needs no month so far. Each figure is the median, over companies and
months, of the absolute error in percent of what the month cost. The seed is fixed: every run prints the same.
"""

import random
import shutil
import tempfile
from calendar import monthrange
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.loading import copy_rows
from orcost_pipeline.warehouse.opening import open_warehouse

DAY = timedelta(days=1)
FIRST, END = date(2026, 1, 1), date(2026, 12, 1)
MONTHS = [date(2026, month, 1) for month in range(6, 12)]
MADE_ON = (2, 5, 10, 15, 20, 25)
COMPANIES = 40
# What is left of a weekday's spend on Saturday and Sunday, growth in a week, and how fast a burst fades in a day.
WEEKEND, GROWTH, FADING = 0.2, 1.05, 0.8

Spend = dict[date, Decimal]


class Shape(NamedTuple):
    """A name, how a company of it spends, and whether it counts from its first day on only."""

    name: str
    spend: Callable[[random.Random], Spend]
    is_new: bool = False


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="orcost-bench-"))
    home.chmod(0o755)
    try:
        measure(open_warehouse(None, home))
    finally:
        EmbeddedPostgres(home).stop()
        shutil.rmtree(home, ignore_errors=True)


def measure(engine: sa.Engine) -> None:
    chance = random.Random(20261123)
    spend = {shape: [shape.spend(chance) for _ in range(COMPANIES)] for shape in SHAPES}
    companies = [days for of_shape in spend.values() for days in of_shape]
    fill(engine, companies)
    forecasts = read(engine)
    print(f"| spend | forecast by | {' | '.join(f'day {day}' for day in MADE_ON)} |")
    print(f"|---|---|{'---|' * len(MADE_ON)}")
    number = 0
    for shape, of_shape in spend.items():
        numbered = {number + place: days for place, days in enumerate(of_shape, start=1)}
        number += len(of_shape)
        by: dict[str, Callable[[int, Spend, date], Decimal | None]] = {
            "weekdays (orcost)": lambda company, _, made_on: forecasts.get((company, made_on), Decimal(0)),
            "straight line": lambda _, days, made_on: straight_line(days, made_on),
            "last month": lambda _, days, made_on: total(days, (made_on.replace(day=1) - DAY).replace(day=1)),
        }
        for name, guess in by.items():
            errors = (error(shape, numbered, day, guess) for day in MADE_ON)
            print(f"| {shape.name if name.startswith('weekdays') else ''} | {name} | {' | '.join(errors)} |")


# Spend


def steady(chance: random.Random, sigma: float = 0.25) -> Spend:
    """The same on every weekday, a fifth of it on weekends, and noise."""
    base = chance.uniform(5, 200)
    return {
        day: amount(base * (1 if day.isoweekday() < 6 else WEEKEND) * chance.lognormvariate(0, sigma))
        for day in all_days()
    }


def growing(chance: random.Random) -> Spend:
    """Steady, and 5 % more in each week."""
    return {day: amount(float(usd) * GROWTH ** ((day - FIRST).days / 7)) for day, usd in steady(chance).items()}


def bursty(chance: random.Random) -> Spend:
    """Noisier, and on one day of fifty a launch: 5 to 15 times as much, fading by a fifth a day."""
    level, found = 0.0, dict[date, Decimal]()
    for day, usd in steady(chance, 0.5).items():
        level = max(level * FADING, chance.uniform(5, 15) if chance.random() < 0.02 else 0.0)
        found[day] = amount(float(usd) * (1 + level))
    return found


def new(chance: random.Random) -> Spend:
    """Steady from a day of the months that are forecast on; nothing before."""
    begin = MONTHS[0] + chance.randrange((END - MONTHS[0]).days - 30) * DAY
    return {day: usd for day, usd in steady(chance).items() if day >= begin}


SHAPES = (
    Shape("steady, with weekends", steady),
    Shape("growing by 5 % a week", growing),
    Shape("bursts after launches", bursty),
    Shape("new company, first two months", new, is_new=True),
)


def all_days() -> Iterator[date]:
    yield from (FIRST + back * DAY for back in range((END - FIRST).days))


def amount(usd: float) -> Decimal:
    return Decimal(round(usd * 1_000_000)).scaleb(-6)


# Forecasts


def fill(engine: sa.Engine, companies: Sequence[Spend]) -> None:
    """One account whose days are all settled; company number 1 is the first."""
    as_of = datetime(END.year, END.month, END.day, 12, tzinfo=UTC)
    days = ("account_id", "day", "is_settled", "account_credits_usd", "keys_credits_usd", "account_byok_usd")
    cells = ("day", "account_id", "company_id", "requests", "prompt_tokens", "completion_tokens", "reasoning_tokens")
    with engine.begin() as connection:
        account = "insert into ref.account (account, status, as_of) values ('acme', 'ok', :as_of)"
        connection.execute(sa.text(account), {"as_of": as_of})
        named = "insert into ref.company (company_id, company) select n, 'Company ' || n from generate_series(1, :n) n"
        connection.execute(sa.text(named), {"n": len(companies)})
        rows = ((1, day, True, 0, 0, 0, 0) for day in [*all_days(), END])
        copy_rows(connection, "core.account_day", (*days, "keys_byok_usd"), rows)
        spent = (
            (day, 1, number, 0, 0, 0, 0, 0, usd, 0, usd, 0)
            for number, spend in enumerate(companies, start=1)
            for day, usd in spend.items()
        )
        amounts = ("credits_usd", "byok_usd", "charge_usd", "purchase_fee_usd")
        copy_rows(connection, "core.company_day", (*cells, "cached_tokens", *amounts), spent)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum analyze")


def read(engine: sa.Engine) -> dict[tuple[int, date], Decimal]:
    """The forecast of each company (by number) as made at the beginning of each day in question."""
    made_on = [month.replace(day=day) for month in MONTHS for day in MADE_ON]
    question = "select company_id, day, forecast_usd from core.company_forecast where day = any(:days)"
    with engine.connect() as connection:
        rows = connection.execute(sa.text(question), {"days": made_on}).all()
    return {(company, day): usd for company, day, usd in rows}


def straight_line(days: Spend, made_on: date) -> Decimal | None:
    """The spend of the month so far, for each day of the month."""
    month = made_on.replace(day=1)
    spent = sum((days.get(month + back * DAY, Decimal(0)) for back in range(made_on.day - 1)), Decimal(0))
    return spent * monthrange(month.year, month.month)[1] / (made_on.day - 1)


def total(days: Spend, month: date) -> Decimal:
    length = monthrange(month.year, month.month)[1]
    return sum((days.get(month + back * DAY, Decimal(0)) for back in range(length)), Decimal(0))


def error(
    shape: Shape, companies: dict[int, Spend], day: int, guess: Callable[[int, Spend, date], Decimal | None]
) -> str:
    """The median absolute error in percent; of a new company while it is new and has spent something."""
    found: list[Decimal] = []
    for company, days in companies.items():
        for month in MONTHS:
            made_on, actual = month.replace(day=day), total(days, month)
            begin = min(days)
            is_counted = not shape.is_new or (begin < made_on and (month - begin).days < 31)
            guessed = guess(company, days, made_on) if is_counted and actual else None
            if guessed is not None:
                found.append(100 * abs(guessed - actual) / actual)
    return f"{median(found):.1f} %"


if __name__ == "__main__":
    main()
