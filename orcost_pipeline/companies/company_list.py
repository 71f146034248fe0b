"""The list of companies: attributes from finance, and the names that a mapping may use.

Columns: `company` and, optionally, `display_name,external_id,cost_centre,owner_email`, in the format of a mapping file.
A list with any mistake is rejected as a whole.
"""

from collections.abc import Iterable
from typing import NamedTuple

from orcost_pipeline.companies.mapping import UNATTRIBUTED, Mapping
from orcost_pipeline.companies.rows import Columns, Mistake, Row, Unreadable, did_you_mean, rows_of_csv
from orcost_pipeline.text import few, quoted

# Similar enough to find a typo in a short name, not so low that sharing "Corp" suffices.
NEARLY_THE_SAME = 75  # percent
ATTRIBUTES = ("display_name", "external_id", "cost_centre", "owner_email")
_COLUMNS = Columns(("company", *ATTRIBUTES), ("company",))


class Company(NamedTuple):
    """A company, by its name in the mapping; None for attributes that the list does not have."""

    company: str
    display_name: str | None = None
    external_id: str | None = None
    cost_centre: str | None = None
    owner_email: str | None = None


class CompanyListError(Exception):
    """The list is rejected; `mistakes` are all its mistakes in the order of lines."""

    def __init__(self, source: str, mistakes: Iterable[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line or 0))
        super().__init__(source, self.mistakes)

    def lines(self) -> str:
        """One indented line per mistake; of many, the first."""
        return "\n".join(f"  {line}" for line in few([str(mistake) for mistake in self.mistakes]))


def read_company_list(content: bytes, source: str) -> list[Company]:
    """The companies of a CSV; raises `CompanyListError` with all its mistakes."""
    mistakes: list[Mistake] = []
    try:
        rows = rows_of_csv(content, _COLUMNS, mistakes)
    except Unreadable as error:
        raise CompanyListError(source, error.mistakes) from None
    mistakes += _row_mistakes(rows)
    if mistakes:
        raise CompanyListError(source, mistakes)
    return [Company(row.values["company"], *(row.values.get(name) or None for name in ATTRIBUTES)) for row in rows]


def unlisted(mapping: Mapping, listed: Iterable[str]) -> list[Mistake]:
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


def _row_mistakes(rows: Iterable[Row]) -> Iterable[Mistake]:
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
