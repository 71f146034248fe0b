"""What a company owes for a month: the lines of `marts.statement`, and what is said about them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import reduce

import sqlalchemy as sa

from orcost_pipeline.billing.exchange_rates import COLUMNS
from orcost_pipeline.companies.mapping import UNATTRIBUTED
from orcost_pipeline.companies.names import require_known
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.measures import EXACT
from orcost_pipeline.text import few, quoted
from orcost_pipeline.warehouse.questions import billing
from orcost_pipeline.warehouse.questions.billing import ChargedMonth, Documents, StatementHead, StatementLine

NOTHING = Decimal(0)
ADD_A_RATE = f"Add a line to the exchange rates (exchange_rates.csv: {','.join(COLUMNS)}), then: orcost sync"


@dataclass(frozen=True)
class Statement:
    """A company's statement of a UTC month. Amounts of lines are in USD, exact, and in the currency, rounded.

    documents: the statement as rendered when the month was closed, which it stays.
    """

    head: StatementHead
    lines: Sequence[StatementLine]
    documents: Documents | None = None

    @property
    def total(self) -> Decimal:
        """What is owed, in the currency."""
        return reduce(EXACT.add, (line.amount for line in self.lines), NOTHING)

    @property
    def total_usd(self) -> Decimal:
        """What is owed in USD, exact."""
        return reduce(EXACT.add, (line.amount_usd for line in self.lines), NOTHING)


def read_statement(connection: sa.Connection, company: str, month: date) -> Statement:
    """The statement of a company for the month that begins on a day.

    Raises PermanentError for an unknown company, for Unattributed, and where its currency has no rate for its lines.
    """
    require_company(connection, company)
    return next(read_statements(connection, [company], month))


def read_statements(connection: sa.Connection, companies: Sequence[str], month: date) -> Iterator[Statement]:
    """The statements of companies for a month, in the order of the companies; all lines are read at once.

    Raises PermanentError where a currency has no rate.
    """
    heads = {it.company: it for it in billing.statement_heads(connection, companies, month)}
    lines: defaultdict[str, list[StatementLine]] = defaultdict(list)
    for line in billing.statement_lines(connection, companies, month):
        lines[line.company].append(line)
    for company in companies:
        head = heads[company]
        if head.per_usd is None and lines[company]:
            raise PermanentError(f"{no_rate(head)}\n{ADD_A_RATE}")
        yield Statement(head, lines[company], billing.documents(connection, company, month))


def require_company(connection: sa.Connection, company: str) -> None:
    """Raises PermanentError for a company that nobody knows, with the nearest name, and for Unattributed."""
    if company.casefold() == UNATTRIBUTED.casefold():
        raise PermanentError(f"{UNATTRIBUTED} is no company: nobody is charged for it. To assign it: orcost map todo")
    require_known(company, billing.charged_companies(connection))


def require_rates(months: Iterable[ChargedMonth]) -> None:
    """Raises PermanentError where the currency of a month has no rate, with the companies and what to do."""
    missing = [it for it in months if it.per_usd is None]
    if missing:
        raise PermanentError("\n".join([*few([no_rate(it) for it in missing]), ADD_A_RATE]))


def no_rate(it: ChargedMonth | StatementHead) -> str:
    """That a month cannot be charged in a currency."""
    return (
        f"{quoted(it.company)} is charged in {it.currency}, and no exchange rate of {it.currency} is dated in "
        f"{it.month:%Y-%m} or before."
    )
