"""`orcost close` and `orcost reopen`, and what they say."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime

import sqlalchemy as sa
from rich.table import Table

from orcost_pipeline.billing.closing import ACCEPTABLE, PARTLY_KNOWN, close_month, open_months, reopen_month
from orcost_pipeline.billing.statement import Statement
from orcost_pipeline.cli.billing.documents import documents
from orcost_pipeline.cli.billing.statements import owed, total
from orcost_pipeline.cli.rendering import cells, say, show, table
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.plans import not_in_force
from orcost_pipeline.text import listed, plural, quoted
from orcost_pipeline.warehouse.access import warehouse
from orcost_pipeline.warehouse.questions.billing import Documents, VoidStatement, has_nothing, void_statements


def close(
    settings: Settings, month: date, company: str | None, now: datetime, *, accepts_open: bool, with_earlier: bool
) -> None:
    """Closes the month for a company or (None) for every one, and prints the totals of those that had something in it.

    `with_earlier` closes every earlier month that is open before it, the oldest first, also one that is known in part;
    the first refusal ends it.
    Raises PermanentError, and changes nothing of the refused month, as `close_month` does.
    """
    with warehouse(settings) as engine:
        with engine.connect() as connection:
            edited = not_in_force(settings, connection, engine.connect)
        has_statements = False
        for each in open_months(engine, month, company, now) if with_earlier else [month]:
            # Of an earlier month in which the stored data begins, nothing more will become known.
            accepts = ACCEPTABLE if accepts_open else PARTLY_KNOWN if each < month else frozenset[str]()
            has_statements = _close(engine, settings, each, company, now, accepts=accepts, edited=edited)
    if not has_statements:
        return
    whose = "--all" if company is None else shlex.quote(company)
    say(f"Next: orcost statement {whose} --month {month:%Y-%m} --output {'statements' if company is None else 'FILE'}")


def _close(
    engine: sa.Engine,
    settings: Settings,
    month: date,
    company: str | None,
    now: datetime,
    *,
    accepts: Collection[str],
    edited: Collection[str],
) -> bool:
    """Closes one month, and prints what came of it; returns whether statements were made."""
    made: dict[str, Statement] = {}

    def render(statement: Statement) -> Documents:
        made[statement.head.company] = statement
        return documents(statement, settings.billing)

    closed = close_month(
        engine,
        month,
        company,
        accepts=accepts,
        configured=[account.name for account in settings.accounts],
        render=render,
        now=now,
        edited=edited,
    )
    whose = f" for {quoted(company)}" if company is not None else ""
    if not closed.is_new:
        say(f"{month:%Y-%m} is closed{whose} already; nothing was changed.")
        return False
    void, still_void = _void(engine, month, company, made)
    if made:
        show(
            f"{month:%Y-%m} is closed for {plural(len(made), 'company', 'companies')}.",
            "",
            _totals([made[name] for name in closed.companies], void),
        )
    else:
        say(f"{month:%Y-%m} is closed{whose}. Nothing was charged in it.")
    if at_cost := [name for name in closed.companies if _is_at_cost(made[name])]:
        say(f"Usage is charged at cost: {listed(at_cost)}")
    if still_void:
        say(f"No new statement replaces the void statement of: {listed(still_void)}")
    if closed.accepted:
        say(f"Accepted: {closed.accepted}")
    return bool(made or still_void)


def _void(
    engine: sa.Engine, month: date, company: str | None, made: Collection[str]
) -> tuple[Mapping[str, VoidStatement], list[str]]:
    """The void statements of a month by company, and the companies closed now that get no new statement instead."""
    with engine.connect() as connection:
        void = void_statements(connection, month)
        wanted = [name for name in void if company in (None, name) and name not in made]
        return void, [name for name in wanted if has_nothing(connection, month, name)]


def _totals(statements: Sequence[Statement], void: Mapping[str, VoidStatement]) -> Table:
    """What each company owes, beside the total of the void statement that it replaces."""
    replacing = ["Replaces"] if any(it.head.company in void for it in statements) else []
    drawn = table("Company", "Total", *replacing, right=["Total", "Replaces"])
    for it in statements:
        replaced = void.get(it.head.company)
        before = f"{owed(replaced.total, replaced)} of {replaced.closed_at:%Y-%m-%d}" if replaced else ""
        drawn.add_row(*cells(it.head.company, total(it), *([before] if replacing else [])))
    return drawn


def _is_at_cost(statement: Statement) -> bool:
    """Whether a company used something, and is charged what OpenRouter charged for it."""
    lines = [line for line in statement.lines if line.kind == "usage"]
    return any(line.credits_usd for line in lines) and all(line.amount_usd == line.credits_usd for line in lines)


def reopen(settings: Settings, month: date, company: str | None, reason: str, now: datetime) -> None:
    """Opens the month again for a company or (None) for every one, and prints which statements are void.

    Raises PermanentError as `reopen_month` does.
    """
    with warehouse(settings) as engine:
        void = reopen_month(engine, month, company, reason, now)
    say(f"{month:%Y-%m} is open again for {quoted(company) if company is not None else 'every company'}.")
    if void:
        drawn = table("Company", "Void statement", "Closed on", right=["Void statement"])
        for it in void:
            drawn.add_row(*cells(it.company, owed(it.total, it), f"{it.closed_at:%Y-%m-%d}"))
        show("", drawn, "")
    alone = f" --company {shlex.quote(company)}" if company is not None else ""
    say(f"Next: correct what was wrong, then: orcost sync, and: orcost close {month:%Y-%m}{alone}")
