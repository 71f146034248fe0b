"""What `orcost report --format html` is made of: the answer by each grain, the span before it, days, and the forecast.

Rows are summed over accounts here. How they look is decided in `report_page` and `report_parts`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from orcost_pipeline.cli.report import Report, Row, answer_to
from orcost_pipeline.cli.report_request import ReportRequest
from orcost_pipeline.companies.preview import exact_sum
from orcost_pipeline.measures import EXACT, MEASURES
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.questions.asking import Rows
from orcost_pipeline.warehouse.questions.budgets import forecasts
from orcost_pipeline.warehouse.questions.reconciliation import reconciled_days
from orcost_pipeline.warehouse.questions.spend import GRAINS, UNATTRIBUTED, Grain, KnownSpan
from orcost_pipeline.warehouse.questions.spend_by_time import (
    TimeGrain,
    TimeSpend,
    days_with_gaps,
    rolling_spend_by_time,
    spend_by_day,
)
from orcost_pipeline.windows import DAY, STALE_AFTER, month_start, utc_day

# What a page has tables of; `--by` adds another.
SECTIONS: tuple[Grain, ...] = ("company", "model", "key")
# A longer window is drawn by month.
MOST_DAYS = 100


class Line(NamedTuple):
    """The measures of one value of a grain, and USD of its credits in the span before; None where those are not known.

    `names` are the columns of the grain.
    """

    names: Mapping[str, Any]
    sums: Mapping[str, Decimal]
    before_usd: Decimal | None

    @property
    def credits_usd(self) -> Decimal:
        """USD that OpenRouter charged."""
        return self.sums["credits_usd"]

    @property
    def byok_usd(self) -> Decimal:
        """USD that own accounts at model providers were charged."""
        return self.sums["byok_usd"]

    @property
    def change_usd(self) -> Decimal | None:
        """USD by which the credits changed."""
        return None if self.before_usd is None else EXACT.subtract(self.credits_usd, self.before_usd)

    @property
    def is_unattributed(self) -> bool:
        """Whether it belongs to no company."""
        return self.names.get("company") == UNATTRIBUTED


@dataclass(frozen=True)
class Facts:
    """All figures of a page: the lines of each section, the largest first, their total, spend by time, the forecast.

    `before` is the span compared with, None for a rolling period; `obstacle` says why there is no comparison, or is
    blank. `gaps` are days of which not all is known, `forecast` has a row for each company of a month without
    `--account`.
    """

    answer: Report
    before: ReportRequest | None
    obstacle: str
    lines: Mapping[Grain, Sequence[Line]]
    total: Line
    time_grain: TimeGrain
    times: Sequence[TimeSpend]
    gaps: Sequence[date]
    open_days: Sequence[date]
    forecast: Sequence[Row]

    @property
    def is_running(self) -> bool:
        """Whether the window is the month of the data."""
        return self.answer.request.month is not None and month_start(_newest(self.answer)) == self.answer.span.start


def facts_of(connection: sa.Connection, settings: Settings, question: ReportRequest, now: datetime) -> Facts:
    """The facts of a request; raises PermanentError where nothing was synced yet or the company is unknown."""
    answer = answer_to(connection, settings, replace(question, by="company"), now)
    before = question.before(_newest(answer))
    obstacle = _obstacle(answer, before.known(connection) if before else None)
    compared = before if before and not obstacle else None
    known: dict[Grain, Rows] = {"company": answer.rows, "key": answer.keys}
    lines: dict[Grain, Sequence[Line]] = {
        by: _lines(
            known.get(by) or question.spend(connection, by), compared.spend(connection, by) if compared else None, by
        )
        for by in dict.fromkeys((*SECTIONS, question.by))
    }
    total, grain = sum_of(lines["company"]), _time_grain(answer)
    return Facts(
        answer,
        before,
        obstacle,
        lines,
        total._replace(before_usd=None) if obstacle else total,
        grain,
        _times(connection, question, grain),
        days_with_gaps(connection, question.window, question.account) if question.window else (),
        _open_days(connection, answer),
        _forecast(connection, answer),
    )


def _newest(answer: Report) -> datetime:
    return max(account.as_of for account in answer.accounts)


def _obstacle(answer: Report, earlier: Mapping[str, KnownSpan] | None) -> str:
    """Why a comparison with the span before would mislead; blank where it would not."""
    accounts = answer.accounts
    if any(answer.lacks(it) for it in accounts):
        return "this span is not known as a whole"
    if any(answer.span.end - it.as_of > STALE_AFTER for it in accounts):
        return "not all accounts are complete to the same time"
    if earlier is None:
        is_known = all(row["previous_credits_usd"] is not None for row in answer.rows.rows)
    else:
        is_known = all(it.account in earlier and earlier[it.account].is_complete for it in accounts)
    return "" if is_known else "that span is not known as a whole"


# By grain


def _lines(now: Rows, before: Rows | None, by: Grain) -> list[Line]:
    """A line for each value with spend now or before, the largest first; of companies, Unattributed last.

    A rolling period by company says itself what was spent before.
    """
    grain = GRAINS[by] if by == "key" else GRAINS[by][1:]
    rows, earlier = _grouped(now.rows, grain), _grouped(before.rows if before else (), grain)
    is_rolling = "previous_credits_usd" in now.columns

    def before_usd(group: tuple[Any, ...]) -> Decimal | None:
        if is_rolling:
            return _sum(it["previous_credits_usd"] for it in rows[group])
        return _sum(it["credits_usd"] for it in earlier.get(group, ())) if before else None

    lines = [
        Line(
            dict(zip(grain, group, strict=True)),
            {name: exact_sum(it[name] for it in rows.get(group, ())) for name in MEASURES},
            before_usd(group),
        )
        for group in dict.fromkeys((*rows, *earlier))
    ]
    return sorted(
        (it for it in lines if any(it.sums.values()) or it.before_usd),
        key=lambda it: (by == "company" and it.is_unattributed, -it.credits_usd - it.byok_usd, -(it.before_usd or 0)),
    )


def _grouped(rows: Iterable[Row], grain: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in grain), []).append(row)
    return groups


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """The exact sum; None where an amount is not known."""
    found = list(amounts)
    known = [amount for amount in found if amount is not None]
    return exact_sum(known) if len(known) == len(found) else None


def sum_of(lines: Sequence[Line]) -> Line:
    """The sum of the lines, without names."""
    sums = {name: exact_sum(it.sums[name] for it in lines) for name in MEASURES}
    return Line({}, sums, _sum(it.before_usd for it in lines))


# By time


def _time_grain(answer: Report) -> TimeGrain:
    if answer.request.period == "24h":
        return "hour"
    window = answer.request.window
    return "month" if window and window.end - window.start > MOST_DAYS * DAY else "day"


def _times(connection: sa.Connection, question: ReportRequest, grain: TimeGrain) -> Sequence[TimeSpend]:
    if question.window:
        return spend_by_day(connection, question.window, grain, question.account, question.company)
    return rolling_spend_by_time(connection, question.period or "30d", grain, question.account, question.company)


# Trust, and what comes next


def _open_days(connection: sa.Connection, answer: Report) -> Sequence[date]:
    """The days of which what OpenRouter charged and the keys' usage do not agree."""
    days = answer.span.whole_days()
    if days is None:
        return ()
    rows = reconciled_days(connection, answer.request.account, utc_day(days.start), utc_day(days.end) - DAY).rows
    return sorted({row["day"] for row in rows if row["status"] == "open"})


def _forecast(connection: sa.Connection, answer: Report) -> Sequence[Row]:
    """Of a month that has begun, the rows of companies with spend, a forecast or a budget, the largest first.

    Budgets and forecasts are of all accounts.
    """
    question, newest = answer.request, _newest(answer)
    if question.month is None or question.account is not None or answer.span.start > newest:
        return ()
    month = utc_day(answer.span.start)
    rows = [row for row in forecasts(connection, month).rows if row["month"] == month]
    names = ("spent_usd", "forecast_usd", "actual_usd", "budget_usd")
    chosen = [row for row in rows if question.company in (None, row["company"]) and any(row[it] for it in names)]
    return sorted(chosen, key=lambda row: row["company"] == UNATTRIBUTED)
