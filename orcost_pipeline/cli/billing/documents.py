"""A statement as page, CSV and JSON.

CSV and JSON are exact. Without cost, nothing in any of the three tells what OpenRouter charged, not even the source.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from orcost_pipeline.billing.statement import Statement
from orcost_pipeline.cli.billing.page import statement_page
from orcost_pipeline.cli.rendering import as_json, csv_line
from orcost_pipeline.project_file import BillingConfig
from orcost_pipeline.warehouse.questions.billing import Documents, StatementLine

StatementFormat = Literal["html", "csv", "json"]

COST = ("credits_usd", "byok_usd")
COLUMNS = tuple(name for name in StatementLine._fields if name != "reason")


def document(statement: Statement, form: StatementFormat, billing: BillingConfig) -> str:
    """A statement in a format; one that was kept when its month was closed, as it was kept.

    Of a month that was closed without anything, nothing is kept: its statement has no lines, and depends on no setting.
    """
    if statement.documents is not None:
        return getattr(statement.documents, form)
    return _WRITERS[form](statement, BillingConfig() if statement.head.status == "closed" else billing)


def keeps_cost(statement: Statement) -> bool:
    """Whether a closed statement was kept with what OpenRouter charged."""
    return statement.documents is not None and COST[0] in statement.documents.csv.partition("\n")[0]


def documents(statement: Statement, billing: BillingConfig) -> Documents:
    """A statement in every format, as it is now."""
    return Documents(**{form: write(statement, billing) for form, write in _WRITERS.items()})


def statement_csv(statement: Statement, billing: BillingConfig) -> str:
    """The lines with the columns of `marts.statement`, without a total; text is no formula."""
    columns = _columns(shows_cost=billing.show_cost)
    rows = (csv_line(getattr(line, name) for name in columns) for line in statement.lines)
    return "".join([csv_line(columns), *rows])


def statement_json(statement: Statement, billing: BillingConfig) -> str:
    """The statement as an object; amounts and counts are strings, days are those of UTC."""
    head, columns = statement.head, _columns(shows_cost=billing.show_cost)
    about: Mapping[str, Any] = {
        "company": head.company,
        "month": head.month,
        "status": head.status,
        "data_until": head.data_until,
        "is_settled": head.is_settled,
        "reconciliation": head.reconciliation,
        "currency": head.currency,
        "per_usd": head.per_usd,
        "rate_date": head.rate_date,
        "lines": [{name: getattr(line, name) for name in columns} for line in statement.lines],
        "total": statement.total,
        "total_usd": statement.total_usd,
    }
    return as_json(about) + "\n"


def _columns(*, shows_cost: bool) -> tuple[str, ...]:
    return COLUMNS if shows_cost else tuple(name for name in COLUMNS if name not in COST)


_WRITERS: Mapping[StatementFormat, Callable[[Statement, BillingConfig], str]] = {
    "html": statement_page,
    "csv": statement_csv,
    "json": statement_json,
}
