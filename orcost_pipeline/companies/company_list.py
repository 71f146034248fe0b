"""The list of companies: attributes from finance, and the names that a mapping may use.

Columns: `company` and, optionally, `display_name,external_id,cost_centre,owner_email,currency,monthly_budget_usd`, in
the format of a mapping file.
A list with any mistake is rejected as a whole.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from orcost_pipeline.companies.mapping import UNATTRIBUTED
from orcost_pipeline.companies.mapping import Mapping as CompanyMapping
from orcost_pipeline.companies.rows import Columns, Mistake, RefusedError, Row, did_you_mean, read_rows
from orcost_pipeline.companies.values import currency_mistakes
from orcost_pipeline.text import quoted

# Similar enough to find a typo in a short name, not so low that sharing "Corp" suffices.
NEARLY_THE_SAME = 75  # percent
_TEXTS = ("display_name", "external_id", "cost_centre", "owner_email", "currency")
ATTRIBUTES = (*_TEXTS, "monthly_budget_usd")
_COLUMNS = Columns(("company", *ATTRIBUTES), ("company",))
_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,18})?")


class Company(NamedTuple):
    """A company, by its name in the mapping; None for attributes that the list does not have.

    `currency` is an ISO 4217 code; `monthly_budget_usd` is above 0 and in USD of credits and BYOK.
    """

    company: str
    display_name: str | None = None
    external_id: str | None = None
    cost_centre: str | None = None
    owner_email: str | None = None
    currency: str | None = None
    monthly_budget_usd: Decimal | None = None


class CompanyListError(RefusedError):
    """The list is rejected."""


def read_company_list(content: bytes, source: str) -> list[Company]:
    """The companies of a CSV; raises `CompanyListError` with all its mistakes."""
    rows, mistakes = read_rows(content, source, _COLUMNS, CompanyListError)
    mistakes += _row_mistakes(rows)
    if mistakes:
        raise CompanyListError(source, mistakes)
    return [_company(row.values) for row in rows]


def unlisted(mapping: CompanyMapping, listed: Iterable[str]) -> list[Mistake]:
    """A warning for each company of a mapping that is not in the list, at the line that names it first."""
    known = tuple(listed)
    first: dict[str, int] = {}
    for rule in mapping.rules:
        for share in rule.shares:
            first.setdefault(share.company, share.line)
    return [
        Mistake(line, f"company {quoted(name)} is not in the list of companies.{did_you_mean(name, known)}")
        for name, line in first.items()
        if name not in set(known)
    ]


def nearly_known(named: dict[str, int], known: Iterable[str]) -> list[Mistake]:
    """A warning for each unknown company whose name nearly equals a known one; `named` is company → line."""
    names = tuple(sorted(set(known)))
    near = {name: did_you_mean(name, names, NEARLY_THE_SAME) for name in named if name not in names}
    return [
        Mistake(named[name], f"company {quoted(name)} is new here.{question}")
        for name, question in near.items()
        if question
    ]


def _company(values: Mapping[str, str]) -> Company:
    budget = values.get("monthly_budget_usd")
    texts = (values.get(name) or None for name in _TEXTS)
    return Company(values["company"], *texts, monthly_budget_usd=Decimal(budget) if budget else None)


def _row_mistakes(rows: Iterable[Row]) -> Iterator[Mistake]:
    seen: dict[str, int] = {}
    for row in rows:
        name = row.values.get("company", "")
        if not name:
            yield Mistake(row.line, "company is blank.")
        elif name.casefold() == UNATTRIBUTED.casefold():
            yield Mistake(row.line, f"company {quoted(name)} is reserved for what no rule matches.")
        elif name in seen:
            yield Mistake(row.line, f"company {quoted(name)} is on line {seen[name]} already.")
        seen.setdefault(name, row.line)
        yield from (Mistake(row.line, message) for message in _money_mistakes(row.values))


def _money_mistakes(values: Mapping[str, str]) -> Iterator[str]:
    yield from currency_mistakes(values.get("currency", ""))
    budget = values.get("monthly_budget_usd")
    if budget and not (_AMOUNT.fullmatch(budget) and Decimal(budget) > 0):
        yield f"monthly_budget_usd {quoted(budget)} is not an amount above 0, such as 1500 or 1500.50."
