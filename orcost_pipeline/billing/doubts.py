"""Doubts about valid price plans: rows with an unused model or unknown company, often a typo. Pure functions."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date

from orcost_pipeline.billing.prices import EVERYBODY, is_for
from orcost_pipeline.companies.rows import Mistake, did_you_mean
from orcost_pipeline.text import quoted
from orcost_pipeline.warehouse.questions.plans import PlanRow

# Days without usage after which a row's model is doubtful.
DAYS = 30


def doubts(rows: Sequence[PlanRow], models: Collection[str], companies: Iterable[str], first: date) -> list[Mistake]:
    """A warning for each row whose model matches none of `models`, and for each company not among `companies`.

    `models` are those used since the UTC day `first`; without any, no row is doubted for its model, nor is one that
    ended before.
    """
    return sorted([*_models(rows, models, first), *_companies(rows, companies)], key=lambda doubt: doubt.line or 0)


def _models(rows: Sequence[PlanRow], models: Collection[str], first: date) -> Iterator[Mistake]:
    for row in rows if models else ():
        has_ended = row.valid_to is not None and row.valid_to <= first
        if row.model is not None and not has_ended and not any(is_for(row, model) for model in models):
            yield Mistake(row.line, f"model {quoted(row.model)} matched no model used in the last {DAYS} days.")


def _companies(rows: Sequence[PlanRow], companies: Iterable[str]) -> Iterator[Mistake]:
    known = tuple(sorted(set(companies)))
    named = {row.company: row.line for row in reversed(rows) if row.company != EVERYBODY}
    for name in named.keys() - set(known):
        message = f"company {quoted(name)} is in no rule and no list, and has no usage.{did_you_mean(name, known)}"
        yield Mistake(named[name], message)
