"""Findings from the mapping and the list of companies as they are now, against the mapping in force."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import sqlalchemy as sa

from orcost_pipeline.companies.mapping import Mapping as CompanyMapping
from orcost_pipeline.companies.mapping import MappingError
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.health.database import STATEMENT_WITHIN, Look
from orcost_pipeline.health.finding import Code, Finding, Severity, map_check
from orcost_pipeline.health.standing import is_syncing
from orcost_pipeline.health.stored import no_mapping
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.attribution import coverage, idle_rules
from orcost_pipeline.sync.mapping_source import MappingUnreadableError, read_companies, read_source, warnings_of
from orcost_pipeline.text import few
from orcost_pipeline.warehouse.access import database_snapshot, snapshot
from orcost_pipeline.warehouse.database import set_local


def of_mapping(settings: Settings, look: Look, now: datetime) -> Iterator[Finding]:
    """What the mapping file says now, against what is in force; nothing where this machine does not sync."""
    if not is_syncing(settings):
        return
    version = look.stored.mapping if look.stored else None
    stays = "the current mapping stays active"
    if look.stored or look.is_new:
        stays = f"the mapping of {version.loaded_at:%Y-%m-%d} stays active" if version else "all spend is Unattributed"
    try:
        mapping = read_source(settings, lambda: database_snapshot(settings))
    except MappingError as error:
        message = f"{error.source} was refused; {stays}.\n{error.lines()}"
        yield Finding(Severity.ERROR, Code.MAPPING_WRONG, None, message, map_check(settings))
    except MappingUnreadableError as error:
        if version or not error.is_gone:
            code = Code.MAPPING_GONE if error.is_gone else Code.MAPPING_WRONG
            yield Finding(Severity.ERROR, code, None, f"{error.problem}; {stays}.", error.todo)
        elif look.stored or look.is_new:
            yield _no_mapping(settings, look)
    except OrcostError:
        return  # the database cannot be asked: that is told where it is looked into
    else:
        idle = _idle_rules(settings, mapping, now) if look.stored else []
        doubts = [*warnings_of(settings, mapping), *idle]
        yield from _of_valid_mapping(mapping, settings, look, doubts)
        if look.stored and (version is None or version.content_sha256 != mapping.sha256):
            message = f"{mapping.source} has changes that are not active yet. They take effect with the next sync; "
            message += "under orcost up, within a minute."
            yield Finding(Severity.NOTE, Code.MAPPING_PENDING, None, message, "orcost sync")


def superseded(mapping: Sequence[Finding]) -> set[Code]:
    """What the warehouse says of the mapping, where the file, which is newer, says it or more."""
    codes = {finding.code for finding in mapping}
    of_rules = {Code.NO_MAPPING, Code.MAPPING_WRONG, Code.MAPPING_GONE, Code.MAPPING_PENDING}
    is_refused = any(finding.severity is Severity.ERROR for finding in mapping)
    return ({Code.MAPPING_WRONG} if is_refused else set()) | ({Code.NO_MAPPING} if codes & of_rules else set())


def of_companies(settings: Settings) -> Iterator[Finding]:
    """What is wrong with the list of companies."""
    _, problem = read_companies(settings) if is_syncing(settings) else (None, None)
    if problem:
        yield Finding(
            Severity.ERROR, Code.MAPPING_WRONG, None, problem, "Correct it; it takes effect with the next sync"
        )


def _no_mapping(settings: Settings, look: Look) -> Finding:
    lacks_rules = look.stored is not None and look.stored.lacks_rules
    return no_mapping(settings, Severity.WARNING if lacks_rules else Severity.NOTE)


def _idle_rules(settings: Settings, mapping: CompanyMapping, now: datetime) -> list[Mistake]:
    """The rules that are of no use; none where the database does not answer in time."""
    try:
        with snapshot(settings) as connection:
            connection.execute(sa.text(set_local({"statement_timeout": f"'{STATEMENT_WITHIN}s'"})))
            return idle_rules(connection, coverage(connection, settings, mapping.rules), mapping.rules, now)
    except OrcostError:
        return []


def _of_valid_mapping(
    mapping: CompanyMapping, settings: Settings, look: Look, doubts: Sequence[Mistake]
) -> Iterator[Finding]:
    if not mapping.rules:
        yield _no_mapping(settings, look)
    if doubts:
        told = "\n".join(few([str(doubt) for doubt in doubts]))
        message = f"{mapping.source} is valid, but may not do what you intend:\n{told}"
        yield Finding(Severity.WARNING, Code.MAPPING_DOUBTFUL, None, message, map_check(settings))
