"""The mapping and the list of companies as they are written now.

No Dagster here.
"""

import hashlib

from orcost_pipeline.companies.company_list import Company, CompanyListError, read_company_list, unlisted
from orcost_pipeline.companies.mapping import Mapping, MappingError, read_mapping
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.sources import NOTHING, Connect, UnreadableSourceError, read_content, refusal
from orcost_pipeline.warehouse.questions.mapping import MappingVersion


def what_stays(version: MappingVersion | None) -> str:
    """What a mapping that cannot be used leaves as it is, as a clause; `version` is the one in force, if any."""
    return f"the mapping of {version.loaded_at:%Y-%m-%d} stays active" if version else "all spend is Unattributed"


def read_source(settings: Settings, connect: Connect) -> Mapping:
    """The project's mapping as it is written now. Raises MappingError for an invalid one, UnreadableSourceError where
    it is missing or cannot be read."""
    return read_mapping(read_content(settings.mapping, connect), settings.mapping.name)


def valid_mapping(settings: Settings, connect: Connect) -> Mapping | None:
    """The mapping as it is written now; None where it is missing or wrong."""
    try:
        return read_source(settings, connect)
    except (MappingError, UnreadableSourceError):
        return None


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


def companies_sha256(settings: Settings) -> str:
    """A hash of the list of companies, in hex; `NOTHING` where it cannot be read."""
    try:
        return hashlib.sha256(settings.companies.read_bytes()).hexdigest()
    except OSError:
        return NOTHING


def warnings_of(settings: Settings, mapping: Mapping) -> list[Mistake]:
    """Warnings about a valid mapping, by line: doubtful rules, unknown accounts, companies that are not listed."""
    warnings = [*mapping.warnings, *mapping.unknown_accounts(account.name for account in settings.accounts)]
    companies, _ = read_companies(settings)
    if companies is not None:
        warnings += unlisted(mapping, (company.company for company in companies))
    return sorted(warnings, key=lambda warning: warning.line or 0)
