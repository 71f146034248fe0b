"""`orcost close` and `orcost reopen`, and what they say."""

import shlex
from collections.abc import Collection
from datetime import date, datetime

import sqlalchemy as sa

from orcost_pipeline.billing.closing import close_month, open_months, reopen_month
from orcost_pipeline.billing.statement import Statement
from orcost_pipeline.cli.billing.documents import documents
from orcost_pipeline.cli.billing.statements import total
from orcost_pipeline.cli.rendering import cells, say, show, table
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.plans import not_in_force
from orcost_pipeline.text import plural, quoted
from orcost_pipeline.warehouse.access import warehouse
from orcost_pipeline.warehouse.questions.billing import Documents


def close(
    settings: Settings, month: date, company: str | None, now: datetime, *, accepts_open: bool, with_earlier: bool
) -> None:
    """Closes the month for a company or (None) for every one, and prints the totals of those that had something in it.

    `with_earlier` closes every earlier month that is open before it, the oldest first; the first refusal ends it.
    Raises PermanentError, and changes nothing of the refused month, as `close_month` does.
    """
    with warehouse(settings) as engine:
        with engine.connect() as connection:
            edited = not_in_force(settings, connection, engine.connect)
        for each in open_months(engine, month, company, now) if with_earlier else [month]:
            _close(engine, settings, each, company, now, accepts_open=accepts_open, edited=edited)


def _close(
    engine: sa.Engine,
    settings: Settings,
    month: date,
    company: str | None,
    now: datetime,
    *,
    accepts_open: bool,
    edited: Collection[str],
) -> None:
    totals: dict[str, str] = {}

    def render(statement: Statement) -> Documents:
        totals[statement.head.company] = total(statement)
        return documents(statement, shows_cost=settings.billing.show_cost)

    closed = close_month(
        engine,
        month,
        company,
        accepts_open=accepts_open,
        configured=[account.name for account in settings.accounts],
        render=render,
        now=now,
        edited=edited,
    )
    whose = f" for {quoted(company)}" if company is not None else ""
    if not closed.is_new:
        say(f"{month:%Y-%m} is closed{whose} already; nothing was changed.")
        return
    if closed.companies:
        drawn = table("Company", "Total", right=["Total"])
        for name in closed.companies:
            drawn.add_row(*cells(name, totals[name]))
        show(f"{month:%Y-%m} is closed for {plural(len(totals), 'company', 'companies')}.", "", drawn)
    else:
        say(f"{month:%Y-%m} is closed{whose}. Nothing was charged in it.")
    if closed.accepted:
        say(f"Accepted: {closed.accepted}")


def reopen(settings: Settings, month: date, company: str | None, reason: str, now: datetime) -> None:
    """Opens the month again for a company or (None) for every one; raises PermanentError as `reopen_month` does."""
    with warehouse(settings) as engine:
        reopen_month(engine, month, company, reason, now)
    say(f"{month:%Y-%m} is open again for {quoted(company) if company is not None else 'every company'}.")
    alone = f" --company {shlex.quote(company)}" if company is not None else ""
    say(f"Next: correct what was wrong, then: orcost sync, and: orcost close {month:%Y-%m}{alone}")
