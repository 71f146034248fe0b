"""A statement as one page, to print and to send. Lines are shown as rounded, sums are those of the rounded lines."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from itertools import groupby
from typing import NamedTuple

from orcost_pipeline.billing.statement import NOTHING, Statement
from orcost_pipeline.formats import NO_KEY, UNKNOWN, money, rounded, short_hash
from orcost_pipeline.measures import EXACT
from orcost_pipeline.pages.page import page
from orcost_pipeline.pages.parts import Column, Figure, Row, Table
from orcost_pipeline.project_file import BillingConfig
from orcost_pipeline.text import LONGEST_VALUE, digits, short
from orcost_pipeline.warehouse.questions.billing import StatementHead, StatementLine
from orcost_pipeline.windows import next_month

# A name of a company is its address, of which nothing may be missing.
LONGEST_COMPANY = 300
NAMES = {
    "monthly_fee": "Monthly fee",
    "purchase_fee": "Fee for buying credits",
    "rounding": "Rounding",
}
# What changed of a closed month, in the customer's words.
REASONS = {
    "plan": "prices changed",
    "mapping": "keys assigned anew",
    "restatement": "usage corrected",
    "late usage": "usage reported late",
}

Columns = Sequence[tuple[str, Callable[[Iterable[StatementLine]], str]]]


class Standing(NamedTuple):
    """The state of the data behind the statement; bold where it is doubtful."""

    text: str
    is_doubtful: bool = False


def statement_page(statement: Statement, billing: BillingConfig) -> str:
    """The page of a statement: from whom, and whether it shows what OpenRouter and own providers charged."""
    head, shows_cost = statement.head, billing.show_cost
    name = short(head.display_name or head.company, LONGEST_COMPANY)
    kind = "Statement" if head.status == "closed" else "Draft statement"
    return page(
        "statement.html",
        title=f"{kind}, {name}, {_month(head.month)}",
        kind=kind,
        issuer=short(billing.issuer or "", LONGEST_COMPANY),
        name=name,
        about=list(_about(head)),
        figures=list(_figures(statement)),
        table=_table(statement, shows_cost=shows_cost) if statement.lines else None,
        empty=f"Nothing is charged for {_month(head.month)}.",
        standing=list(_standing(head)),
        footer=list(_footer(statement, shows_cost=shows_cost)),
    )


# Who, when, how much


def _about(head: StatementHead) -> Iterator[str]:
    if head.display_name and head.display_name != head.company:
        yield short(head.company, LONGEST_COMPANY)
    if head.external_id:
        yield f"ID {short(head.external_id, LONGEST_VALUE)}"
    if head.status == "closed":
        yield f"No. {_number(head, head.reopened)}"
    if head.void_closed_at is not None:
        yield f"replaces No. {_number(head, head.void_reopened or 0)} of {head.void_closed_at:%Y-%m-%d}"


def _number(head: StatementHead, reopened: int) -> str:
    """The number of a closed statement whose month had been opened again so often."""
    return f"{head.month:%Y-%m}-{digits(head.company)}" + (f"-{reopened + 1}" if reopened else "")


def _figures(statement: Statement) -> Iterator[Figure]:
    head = statement.head
    usd = "" if head.currency == "USD" else f"{rounded(statement.total_usd, 2)} USD"
    yield Figure("Total", rounded(statement.total, head.minor_unit), head.currency, usd)
    last = next_month(head.month) - timedelta(days=1)
    yield Figure("Month", _month(head.month), "", f"{head.month} – {last}")
    if head.closed_at is not None:
        yield Figure("Status", "closed", "", f"on {head.closed_at:%Y-%m-%d}")
    else:
        yield Figure("Status", "open", "", f"as of {_moment(head.data_until)}")
    if head.currency != "USD" and head.per_usd is not None:
        yield Figure("Exchange rate", _plain(head.per_usd), f"{head.currency} for 1 USD", f"of {head.rate_date}")


# Lines


def _table(statement: Statement, *, shows_cost: bool) -> Table:
    columns = _columns(statement, shows_cost=shows_cost)
    usage = [line for line in statement.lines if line.kind == "usage"]
    others = [line for line in statement.lines if line.kind != "usage"]
    if not shows_cost:
        # That cost alone was corrected is of no interest to who does not see it.
        others = [line for line in others if line.amount_usd or line.amount]
    rows = list(_usage_rows(usage, columns))
    if usage and others:
        rows.append(_row("Usage", usage, columns, "sum"))
    rows += [_row(_name(line, statement), [line], columns) for line in others]
    rows.append(_row("Total", statement.lines, columns, "total"))
    titles = [Column("API key, model", "text"), *(Column(title) for title, _ in columns)]
    return Table("Charges", "", titles, rows)


def _columns(statement: Statement, *, shows_cost: bool) -> Columns:
    """The titles of the columns of numbers, and how each shows the sum of some lines."""
    head, lines = statement.head, statement.lines

    def count(name: str) -> Callable[[Iterable[StatementLine]], str]:
        return lambda some: _shown(_sum(some, name), lambda value: rounded(value, 0))

    def cost(name: str) -> Callable[[Iterable[StatementLine]], str]:
        write = money([_sum(lines, name)])
        return lambda some: _shown(_sum(some, name), write)

    costs = [("Cost USD", cost("credits_usd"))] if shows_cost else []
    if shows_cost and any(line.byok_usd for line in lines):
        costs.append(("BYOK USD", cost("byok_usd")))
    return [
        ("Requests", count("requests")),
        ("Input tokens", count("prompt_tokens")),
        ("Output tokens", count("completion_tokens")),
        *costs,
        (f"Amount {head.currency}", lambda some: rounded(_sum(some, "amount") or NOTHING, head.minor_unit)),
    ]


def _usage_rows(usage: Sequence[StatementLine], columns: Columns) -> Iterator[Row]:
    """A row for each key, with the sums of its models, which follow."""
    names = _key_names(usage)
    for key, of_key in groupby(usage, key=_key):
        lines = list(of_key)
        yield _row(names[key], lines, columns, "group")
        for line in lines:
            yield _row(short(line.model or UNKNOWN, LONGEST_VALUE), [line], columns, "detail")


Key = tuple[str | None, str | None]


def _key(line: StatementLine) -> Key:
    return line.account, line.key_hash


def _key_names(usage: Iterable[StatementLine]) -> dict[Key, str]:
    """How keys are called: by name, with the hash where the name says too little, and the account where several are."""
    keys = {_key(line): (line.key_name or "").strip() for line in usage}
    several = len({account for account, _ in keys}) > 1
    named = list(keys.values())
    made: dict[Key, str] = {}
    for (account, key_hash), name in keys.items():
        parts = [short(name, LONGEST_VALUE)] if name else []
        if key_hash is None:
            parts = [NO_KEY]
        elif named.count(name) > 1 or not name:
            parts.append(f"key {short_hash(key_hash)}…")
        made[account, key_hash] = " · ".join([*parts, *([f"account {short(account or '')}"] if several else [])])
    return made


def _name(line: StatementLine, statement: Statement) -> str:
    if line.kind == "minimum":
        return f"Addition up to the monthly minimum of {_minimum(statement)}"
    if line.kind != "adjustment" or line.adjusted_month is None:
        return NAMES.get(line.kind, line.kind)
    reasons = ", ".join(REASONS.get(it, it) for it in (line.reason or "").split("; ") if it)
    return f"Adjustment of {_month(line.adjusted_month)}" + (f": {reasons}" if reasons else "")


def _minimum(statement: Statement) -> str:
    """The monthly minimum that usage was topped up to, in the currency."""
    head = statement.head
    topped_up = [line.amount_usd for line in statement.lines if line.kind in {"usage", "minimum"}]
    minimum = EXACT.multiply(reduce(EXACT.add, topped_up), head.per_usd or NOTHING)
    return f"{rounded(minimum, head.minor_unit)} {head.currency}"


def _row(name: str, lines: Sequence[StatementLine], columns: Columns, kind: str = "") -> Row:
    return Row([name, *(show(lines) for _, show in columns)], kind)  # pyright: ignore[reportArgumentType]


def _sum(lines: Iterable[StatementLine], name: str) -> Decimal | None:
    """The sum of a column, None where no line has a value."""
    values = [value for line in lines if (value := getattr(line, name)) is not None]
    return reduce(EXACT.add, values) if values else None


def _shown(value: Decimal | None, write: Callable[[Decimal], str]) -> str:
    return "" if value is None else write(value)


# How far it can be trusted, and what it means


def _standing(head: StatementHead) -> Iterator[Standing]:
    yield Standing(f"Data complete to {_moment(head.data_until)}")
    match head.reconciliation:
        # Of a month that was closed without anything, nothing is kept.
        case None if head.status == "closed":
            pass
        case None:
            yield Standing("No day of the month is known", is_doubtful=True)
        case "open":
            yield Standing("Not every day reconciles with OpenRouter's total", is_doubtful=True)
        case _:
            yield Standing("Every day reconciles with OpenRouter's total")
    if head.known_from is not None and not head.is_complete:
        yield Standing(f"Usage is known from {_moment(head.known_from)} on only", is_doubtful=True)
    if head.reconciliation is not None and not head.is_settled:
        when = "was final when the month was closed" if head.status == "closed" else "is final yet"
        yield Standing(f"Not every day of the month {when}", is_doubtful=True)


def _footer(statement: Statement, *, shows_cost: bool) -> Iterator[str]:
    head = statement.head
    if statement.lines:
        yield from _meaning(statement, shows_cost=shows_cost)
    closed = "This statement is final: corrections are charged as adjustments of a later month."
    yield f"Days are UTC days. {closed if head.status == 'closed' else 'This statement is not final and may change.'}"


def _meaning(statement: Statement, *, shows_cost: bool) -> Iterator[str]:
    head = statement.head
    converted = "" if head.currency == "USD" else " in USD, converted at the exchange rate above"
    decimals = "whole units" if head.minor_unit == 0 else f"{head.minor_unit} decimals"
    yield (
        f"Each amount is computed exactly{converted} and rounded to {decimals} of {head.currency}, halves to the even "
        "digit. Amounts of keys are sums of the rounded amounts below them."
    )
    if any(line.kind == "rounding" for line in statement.lines):
        yield "Rounding is the difference between the rounded exact total and the sum of the rounded amounts."
    if shows_cost:
        yield "Cost is what OpenRouter charged; its figures are exact sums, rounded for display."
    if shows_cost and any(line.byok_usd for line in statement.lines):
        yield "BYOK is what own accounts at providers were charged, an estimate; it is paid there, not here."


def _month(month: date) -> str:
    return f"{month:%B %Y}"


def _moment(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC" if instant else UNKNOWN


def _plain(value: Decimal) -> str:
    """A rate without trailing zeros."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
