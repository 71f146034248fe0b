"""Findings from the mapping and the list of companies as they are now, against the mapping in force."""

from collections.abc import Hashable, Iterator, Sequence
from datetime import datetime

import sqlalchemy as sa

from orcost_pipeline.companies.mapping import Mapping as CompanyMapping
from orcost_pipeline.companies.mapping import MappingError
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.health.database import STATEMENT_WITHIN, DatabaseCheck
from orcost_pipeline.health.finding import Code, Finding, Severity, correct
from orcost_pipeline.health.standing import is_syncing
from orcost_pipeline.health.stored import no_mapping
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.attribution import coverage, idle_rules, synced
from orcost_pipeline.sync.mapping_source import read_companies, read_source, warnings_of, what_stays
from orcost_pipeline.sync.sources import UnreadableSourceError, refusal
from orcost_pipeline.text import few
from orcost_pipeline.warehouse.access import database_snapshot, snapshot
from orcost_pipeline.warehouse.database import set_local
from orcost_pipeline.warehouse.questions.mapping import version_in_force
from orcost_pipeline.windows import utc_day

# What the last sync noted of a file that it could not use; whoever syncs reads the file itself, which is newer.
REFUSED = frozenset({Code.MAPPING_WRONG, Code.PLANS_WRONG, Code.RATES_WRONG})


def mapping_findings(settings: Settings, check: DatabaseCheck, now: datetime) -> Iterator[Finding]:
    """Problems of the mapping as it is written now, and differences from the one in force.

    None where this machine does not sync, or where the mapping is a table and the database cannot be reached.
    """
    if not is_syncing(settings):
        return
    version = check.stored.mapping if check.stored else None
    is_known = check.stored is not None or check.is_new
    stays = what_stays(version) if is_known else "the current mapping stays active"
    try:
        mapping = read_source(settings, lambda: database_snapshot(settings))
    except MappingError as error:
        todo = correct(settings, Code.MAPPING_WRONG)
        yield Finding(Severity.ERROR, Code.MAPPING_WRONG, None, refusal(error, stays), todo)
    except UnreadableSourceError as error:
        if version or not error.is_missing:
            code = Code.MAPPING_GONE if error.is_missing else Code.MAPPING_WRONG
            yield Finding(Severity.ERROR, code, None, error.sentence(stays), error.todo)
        elif is_known:
            yield _no_mapping_finding(settings, check)
    except OrcostError:
        return  # the database cannot be reached, which `check_database` reports
    else:
        idle = _idle_rules(settings, mapping, now) if check.stored else []
        doubts = [*warnings_of(settings, mapping), *idle]
        yield from _valid_mapping_findings(mapping, settings, check, doubts)
        if check.stored and (version is None or version.content_sha256 != mapping.sha256):
            message = f"{mapping.source} has changes that are not active yet. They take effect with the next sync; "
            message += "under orcost up, within a minute."
            yield Finding(Severity.NOTE, Code.MAPPING_PENDING, None, message, "orcost sync")


def superseded(of_files: Sequence[Finding]) -> set[Code]:
    """The codes of findings from the warehouse that findings from the files as they are now replace."""
    codes = {finding.code for finding in of_files}
    of_rules = {Code.NO_MAPPING, Code.MAPPING_WRONG, Code.MAPPING_GONE, Code.MAPPING_PENDING}
    replaced = (codes & REFUSED) | ({Code.MAPPING_WRONG} if Code.MAPPING_GONE in codes else set())
    return replaced | ({Code.NO_MAPPING} if codes & of_rules else set())


def company_list_findings(settings: Settings) -> Iterator[Finding]:
    """Problems of the list of companies; none where this machine does not sync."""
    _, problem = read_companies(settings) if is_syncing(settings) else (None, None)
    if problem:
        yield Finding(
            Severity.ERROR,
            Code.MAPPING_WRONG,
            None,
            problem,
            "Correct it; it takes effect with the next sync",
            subject=settings.companies.name,
        )


def _no_mapping_finding(settings: Settings, check: DatabaseCheck) -> Finding:
    lacks_rules = check.stored is not None and check.stored.lacks_rules
    return no_mapping(settings, Severity.WARNING if lacks_rules else Severity.NOTE)


# Of the last mapping and data: the sensor of alerts asks every minute, and the answer changes with them only.
_last_idle: dict[Hashable, list[Mistake]] = {}


def _idle_rules(settings: Settings, mapping: CompanyMapping, now: datetime) -> list[Mistake]:
    """Rules that won no key; none where the database does not answer in time."""
    try:
        with snapshot(settings) as connection:
            connection.execute(sa.text(set_local({"statement_timeout": f"'{STATEMENT_WITHIN}s'"})))
            accounts = tuple(sorted(synced(connection, settings).items()))
            version = version_in_force(connection)
            state = settings.home, settings.database_url, mapping.sha256, version, accounts, utc_day(now)
            if state not in _last_idle:
                idle = idle_rules(connection, coverage(connection, settings, mapping.rules), mapping.rules, now)
                _last_idle.clear()
                _last_idle[state] = idle
            return _last_idle[state]
    except OrcostError:
        return []


def _valid_mapping_findings(
    mapping: CompanyMapping, settings: Settings, check: DatabaseCheck, doubts: Sequence[Mistake]
) -> Iterator[Finding]:
    if not mapping.rules:
        yield _no_mapping_finding(settings, check)
    if doubts:
        warnings = "\n".join(few([str(doubt) for doubt in doubts]))
        message = f"{mapping.source} is valid, but may not do what you intend:\n{warnings}"
        todo = f"{correct(settings, Code.MAPPING_DOUBTFUL)}. Where it is meant, leave it"
        yield Finding(Severity.WARNING, Code.MAPPING_DOUBTFUL, None, message, todo)
