"""The sources of mapping and list of companies: files of the project, or a table in the warehouse's database.

No Dagster here.
"""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from orcost_pipeline.companies.company_list import Company, CompanyListError, read_company_list, unlisted
from orcost_pipeline.companies.mapping import Mapping, MappingError, mapping_of_table, read_mapping, table_sha256
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.mapping_table import Table, UnreadableTableError, read_table
from orcost_pipeline.warehouse.questions.mapping import MappingVersion

NO_MAPPING = "none"

# Opens a connection to the warehouse; called where the mapping is a table of it.
Connect = Callable[[], AbstractContextManager[sa.Connection]]


class MappingUnreadableError(PermanentError):
    """The mapping's source cannot be read: the problem, and what to do. `is_missing`: there is no such file."""

    def __init__(self, problem: str, todo: str, *, is_missing: bool = False) -> None:
        super().__init__(f"{problem}. {todo}.")
        self.problem = problem
        self.todo = todo
        self.is_missing = is_missing

    def sentence(self, stays: str) -> str:
        """The problem and what stays active, without what to do."""
        return f"{self.problem}; {stays}."


def what_stays(version: MappingVersion | None) -> str:
    """What a mapping that cannot be used leaves as it is, as a clause; `version` is the one in force, if any."""
    return f"the mapping of {version.loaded_at:%Y-%m-%d} stays active" if version else "all spend is Unattributed"


def refusal(error: MappingError | CompanyListError, stays: str) -> str:
    """The message for an invalid file or table: what stays active, then a line for each mistake."""
    return f"{error.source} was refused; {stays}.\n{error.lines()}"


def read_source(settings: Settings, connect: Connect) -> Mapping:
    """The project's mapping as it is written now. Raises MappingError for an invalid one, MappingUnreadableError where
    it is missing or cannot be read."""
    content = _content(settings, connect)
    if isinstance(content, bytes):
        return read_mapping(content, settings.mapping_name)
    return mapping_of_table(content.columns, content.rows, settings.mapping_name)


def read_companies(settings: Settings) -> tuple[list[Company] | None, str | None]:
    """The list of companies, or the problem with it as a message; (None, None) where there is no list."""
    stays = "the companies stay as last read"
    try:
        return read_company_list(settings.companies.read_bytes(), settings.companies.name), None
    except CompanyListError as error:
        return None, refusal(error, stays)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, f"{settings.companies} cannot be read ({error.strerror}); {stays}. Let this user read it."


def content_sha256(settings: Settings, connect: Connect) -> str:
    """A hash of the mapping's content as written, in hex; `NO_MAPPING` where it cannot be read.

    It notices a change without parsing: an invalid file has a hash too. Raises database errors.
    """
    try:
        content = _content(settings, connect)
    except MappingUnreadableError:
        return NO_MAPPING
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return table_sha256(content.columns, content.rows)


def companies_sha256(settings: Settings) -> str:
    """A hash of the list of companies, in hex; `NO_MAPPING` where it cannot be read."""
    try:
        return hashlib.sha256(settings.companies.read_bytes()).hexdigest()
    except OSError:
        return NO_MAPPING


def _content(settings: Settings, connect: Connect) -> bytes | Table:
    if settings.mapping_table is not None:
        return _table(settings.mapping_table, connect)
    try:
        return settings.mapping.read_bytes()
    except FileNotFoundError:
        raise MappingUnreadableError(
            f"{settings.mapping} is gone", "Put it back, or set ORCOST_MAPPING", is_missing=True
        ) from None
    except OSError as error:
        problem = f"{settings.mapping} cannot be read ({error.strerror})"
        raise MappingUnreadableError(problem, "Let this user read it") from None


def _table(name: str, connect: Connect) -> Table:
    with connect() as connection:
        try:
            table = read_table(connection, name)
        except UnreadableTableError as error:
            raise MappingUnreadableError(error.problem, error.todo) from None
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            reason = str(error.orig).strip().splitlines()[0]
            todo = "Let the user of ORCOST_DATABASE_URL select from it"
            raise MappingUnreadableError(f"Table {name} cannot be read ({reason})", todo) from None
    if table is None:
        raise MappingUnreadableError(f"Table {name} is not there", "Make it, or change mapping in orcost.toml")
    return table


def warnings_of(settings: Settings, mapping: Mapping) -> list[Mistake]:
    """Warnings about a valid mapping, by line: doubtful rules, unknown accounts, companies that are not listed."""
    warnings = [*mapping.warnings, *mapping.unknown_accounts(account.name for account in settings.accounts)]
    companies, _ = read_companies(settings)
    if companies is not None:
        warnings += unlisted(mapping, (company.company for company in companies))
    return sorted(warnings, key=lambda warning: warning.line or 0)
