"""What a window cost, hour by hour or day by day: the questions behind the chart of `orcost report --format html`."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import ask, records
from orcost_pipeline.windows import Window, first_whole_day, utc_day

TimeGrain = Literal["hour", "day", "month"]


class TimeSpend(NamedTuple):
    """USD of the UTC hour, day or month that starts at `start_at`, as far as it lies in the window."""

    start_at: datetime
    credits_usd: Decimal
    byok_usd: Decimal


def spend_by_day(
    connection: sa.Connection, window: Window, grain: TimeGrain, account: str | None, company: str | None
) -> Sequence[TimeSpend]:
    """A row for each day (or month) with spend in the window; they sum to what `spend_between` has by company."""
    whole = window.whole_days() or Window(window.start, window.start)
    answer = ask(
        connection,
        "spend_by_day",
        grain=grain,
        first=utc_day(whole.start),
        last=utc_day(whole.end),
        hours=[hour for edge in window.edges() for hour in edge.hours()],
        account=account,
        company=company,
    )
    return records(TimeSpend, answer)


def rolling_spend_by_time(
    connection: sa.Connection, period: str, grain: TimeGrain, account: str | None, company: str | None
) -> Sequence[TimeSpend]:
    """A row for each hour or day with spend in a rolling period; they sum to what `rolling_spend` has by company."""
    answer = ask(connection, "rolling_spend_by_time", period=period, grain=grain, account=account, company=company)
    return records(TimeSpend, answer)


def days_with_gaps(connection: sa.Connection, window: Window, account: str | None) -> Sequence[date]:
    """The UTC days of the window that are not known of an account, up to its `as_of`."""
    first, last = utc_day(window.start), first_whole_day(window.end)
    return list(ask(connection, "days_with_gaps", first=first, last=last, account=account).scalars())
