"""Which row of the price plans holds for a company and a UTC day, and why the others do not. Pure functions."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import NamedTuple

from orcost_pipeline.billing.prices import CHARGES, EVERYBODY, MARKUP, MONTHLY, UNIT_PRICES, holds_on, is_for
from orcost_pipeline.warehouse.questions.charges import UsedModel
from orcost_pipeline.warehouse.questions.plans import PlanRow

NO_SPEND = "it has no spend in the month"
COUNTED = "counters tell no tokens"
OVERRULED = "prices for tokens or requests hold"


class Considered(NamedTuple):
    """A row for the company and charge that does not hold, and why.

    is_outranked: whether it could hold on the day, and another one comes before it.
    """

    row: PlanRow
    reason: str
    is_outranked: bool


class Explanation(NamedTuple):
    """What a company is charged of one kind, for a model (None: a monthly charge): the row that holds, if any.

    The charge applies where there is a `row`, it has a value, and nothing `overrules` it.
    """

    charge: str
    model: str | None
    row: PlanRow | None
    overruled: str | None
    considered: tuple[Considered, ...]

    @property
    def applies(self) -> bool:
        """Whether something is charged, or taken off, by the row."""
        return self.row is not None and self.row.value is not None and self.overruled is None


def explain(
    rows: Sequence[PlanRow], company: str, models: Iterable[UsedModel], day: date, *, has_spend: bool
) -> list[Explanation]:
    """Each kind of charge for each model, then the monthly ones.

    has_spend: whether the company used anything in the day's month, which rows for everybody (`*`) need to be monthly.
    """
    of_company = [row for row in rows if row.company in (company, EVERYBODY)]
    found = [it for model in models for it in _of_model(of_company, model, day)]
    return [*found, *(_monthly(of_company, charge, day, has_spend=has_spend) for charge in MONTHLY)]


def _of_model(rows: Sequence[PlanRow], used: UsedModel, day: date) -> Iterator[Explanation]:
    found = [
        _explanation(charge, used.model, [(row, _unfit(row, used, day)) for row in rows if row.charge == charge])
        for charge in CHARGES
        if charge not in MONTHLY
    ]
    has_units = any(it.applies for it in found if it.charge in UNIT_PRICES)
    for it in found:
        yield it._replace(overruled=OVERRULED) if it.charge == MARKUP and it.row and has_units else it


def _monthly(rows: Sequence[PlanRow], charge: str, day: date, *, has_spend: bool) -> Explanation:
    first = day.replace(day=1)

    def unfit(row: PlanRow) -> str | None:
        if not holds_on(row, first):
            return f"not in force on {first}"
        return NO_SPEND if row.company == EVERYBODY and not has_spend else None

    return _explanation(charge, None, [(row, unfit(row)) for row in rows if row.charge == charge])


def _unfit(row: PlanRow, used: UsedModel, day: date) -> str | None:
    """Why a row is not for a model and a day; None where it is."""
    if not is_for(row, used.model):
        return "another model"
    if used.is_counter and row.charge in UNIT_PRICES:
        return COUNTED
    if row.valid_from and day < row.valid_from:
        return f"from {row.valid_from}"
    return f"until {row.valid_to}" if row.valid_to and row.valid_to <= day else None


def _explanation(charge: str, model: str | None, rows: Sequence[tuple[PlanRow, str | None]]) -> Explanation:
    """The first row that nothing speaks against holds; the others are considered with what does."""
    held = next((row for row, unfit in rows if unfit is None), None)
    considered = [
        Considered(row, unfit or "later in the file", is_outranked=unfit is None)
        for row, unfit in rows
        if row is not held
    ]
    return Explanation(charge, model, held, None, tuple(considered))
