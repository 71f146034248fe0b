"""`orcost plans init`: a file of price plans to begin with: no rows, only comments with a line for each company."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime

from orcost_pipeline.billing.price_plans import COLUMNS
from orcost_pipeline.billing.prices import EVERYBODY, MARKUP, MONTHLY_FEE, MONTHLY_MINIMUM, PURCHASE
from orcost_pipeline.cli.rendering import say
from orcost_pipeline.companies.mapping import UNATTRIBUTED, MappingError
from orcost_pipeline.companies.rows import csv_line
from orcost_pipeline.errors import OrcostError, PermanentError
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.mapping_source import read_companies, read_source
from orcost_pipeline.text import plural
from orcost_pipeline.warehouse.access import database_snapshot, snapshot
from orcost_pipeline.warehouse.opening import NoWarehouseError
from orcost_pipeline.warehouse.questions.explanation import company_names
from orcost_pipeline.warehouse.questions.plans import plan_version_in_force
from orcost_pipeline.windows import DAY, utc_day

MOST_COMPANIES = 200
STARTER = f"""\
{",".join(COLUMNS)}
## What companies are charged. For each company, charge, model and day the first line that matches holds, so exceptions
## stand above the line for everybody (*). Without a line, usage is charged at cost.
## To use a line, take away its "# " and write the right value: percent or USD, or none for an exception.
## valid_from is the first day on which a line holds: that of last month here, the first one to be closed. Without
## one, a line holds for earlier months too.
## All kinds of charge: docs/configuration.md. Is it right?  orcost plans check
"""


def init(settings: Settings, now: datetime) -> None:
    """Writes the starter and says what to do next; its lines begin with the month before that of `now`.

    Raises PermanentError where there is a file, where price plans are in force, which it would replace, and where they
    are kept in a table.
    """
    path = settings.price_plans.path
    if settings.price_plans.table is not None:
        raise PermanentError(f"The price plans are in {settings.price_plans.name}: add rows there.")
    if path.exists():
        raise PermanentError(f"{path} is there already, and was not changed. Next: orcost plans check")
    companies = _companies(settings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(starter(companies, (utc_day(now).replace(day=1) - DAY).replace(day=1)))
    except OSError as error:
        raise PermanentError(f"{path} cannot be written ({error.strerror}).") from None
    say(f"{path}: a starter for {plural(len(companies), 'company', 'companies')}, without effect until you edit it.")
    say("Next: edit it, then: orcost plans check")


def starter(companies: Iterable[str], first: date) -> str:
    """The text of the file: each line a comment but the header. `first` is the day on which they begin."""
    return STARTER + "".join(f"# {line}\n" for line in _lines(companies, first))


def _lines(companies: Iterable[str], first: date) -> Iterator[str]:
    for company in companies:
        yield _line(company, MARKUP, "0", "no markup: at cost", f"{first}")
        yield _line(company, MONTHLY_FEE, "0", "each month from then on", f"{first}")
        yield _line(company, MONTHLY_MINIMUM, "0", "usage is topped up to it", f"{first}")
    yield _line(EVERYBODY, MARKUP, "10", "everybody else", f"{first}")
    yield _line(EVERYBODY, PURCHASE, "5.5", "OpenRouter's fee for buying credits, passed on", f"{first}")


def _line(company: str, charge: str, value: str, note: str, valid_from: str = "") -> str:
    values = {"company": company, "charge": charge, "value": value, "valid_from": valid_from, "note": note}
    return csv_line([values.get(name, "") for name in COLUMNS], ",")


def _companies(settings: Settings) -> list[str]:
    """The companies that there are, by name: those of the list, of the mapping as it is written, and of the warehouse.

    Raises PermanentError where price plans are in force.
    """
    listed, _ = read_companies(settings)
    names = {it.company for it in listed or ()} | _of_mapping(settings) | _of_warehouse(settings)
    # A name over several lines would be no comment.
    return sorted(name for name in names - {UNATTRIBUTED} if name.isprintable())[:MOST_COMPANIES]


def _of_mapping(settings: Settings) -> set[str]:
    try:
        mapping = read_source(settings, lambda: database_snapshot(settings))
    except (MappingError, OrcostError):
        return set()
    return {share.company for rule in mapping.rules for share in rule.shares}


def _of_warehouse(settings: Settings) -> set[str]:
    try:
        with snapshot(settings) as connection:
            version, names = plan_version_in_force(connection), company_names(connection)
    except NoWarehouseError:
        return set()
    if version is not None:
        message = f"The price plans of {version.source} are in force, which a starter would replace. Put the file back."
        raise PermanentError(message)
    return set(names)
