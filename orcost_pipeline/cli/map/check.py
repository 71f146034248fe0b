"""`orcost map check`: whether the mapping is valid, warnings about it, and what it would move. Loads nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from orcost_pipeline.cli.files import content_of
from orcost_pipeline.cli.map import preview
from orcost_pipeline.cli.map.preview import Effect
from orcost_pipeline.cli.rendering import as_json, mistakes_data, say
from orcost_pipeline.companies.coverage import DAYS, Coverage
from orcost_pipeline.companies.mapping import Mapping, MappingError, Mistake, read_mapping
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.formats import share
from orcost_pipeline.settings import Settings
from orcost_pipeline.sync.mapping_source import read_companies, read_source, warnings_of
from orcost_pipeline.sync.sources import UnreadableSourceError
from orcost_pipeline.text import few, plural
from orcost_pipeline.warehouse.access import database_snapshot

MISSING = "Give the mapping's path, or set ORCOST_MAPPING."


def check(settings: Settings, file: Path | None, output: str) -> None:
    """Prints that a mapping is valid, its warnings, and what it would move, as `table` or `json`.

    `file` is a file to check instead of the project's mapping. Raises PermanentError with all mistakes.
    """
    source = str(file) if file else settings.mapping.name
    try:
        mapping = read_mapping(content_of(file, MISSING), source) if file else read_project_mapping(settings)
    except MappingError as error:
        if output == "json":
            typer.echo(as_json({"source": source, "is_valid": False, "mistakes": mistakes_data(error.mistakes)}))
        raise PermanentError(str(error)) from None
    effect = preview.effect(settings, mapping.rules)
    if output == "json":
        typer.echo(as_json({**_validity(settings, mapping, effect), **preview.as_data(effect)}))
        return
    show_validity(settings, mapping, effect)
    preview.show_effect(effect)


def show_validity(settings: Settings, mapping: Mapping, effect: Effect, more: Sequence[Mistake] = ()) -> None:
    """Prints a line of counts and one per warning; `more` are warnings besides those about the mapping itself."""
    counts = [plural(len(mapping.rules), "rule"), plural(len(_companies(mapping)), "company", "companies")]
    say(f"{mapping.source} is valid: {', '.join([*counts, *_coverage(effect.coverage)])}.")
    for line in few([f"warning, {warning}" for warning in [*more, *_all_warnings(settings, mapping, effect)]]):
        say(f"  {line}")
    _, problem = read_companies(settings)
    if problem:
        say(problem, is_error=True)


def read_project_mapping(settings: Settings) -> Mapping:
    """The mapping as written now; raises MappingError for an invalid one, PermanentError where it cannot be read."""
    try:
        return read_source(settings, lambda: database_snapshot(settings))
    except UnreadableSourceError as error:
        if not error.is_missing:
            raise
        raise PermanentError(f"{settings.mapping.path} is not there. {MISSING}") from None


def _coverage(coverage: Coverage) -> Iterator[str]:
    """The attributed part of keys and spend; empty without keys and spend."""
    if coverage.keys:
        yield f"{coverage.attributed_keys:,} of {plural(coverage.keys, 'key')}"
    for part, of in ((coverage.spend(), f"the last {DAYS} days' spend"), (coverage.byok(), "their BYOK")):
        if part.whole:
            yield f"{share(part.whole - part.unattributed, part.whole)} of {of}"


def _validity(settings: Settings, mapping: Mapping, effect: Effect) -> dict[str, object]:
    return {
        "source": mapping.source,
        "is_valid": True,
        "rules": len(mapping.rules),
        "companies": len(_companies(mapping)),
        "warnings": mistakes_data(_all_warnings(settings, mapping, effect)),
    }


def _companies(mapping: Mapping) -> set[str]:
    return {share.company for rule in mapping.rules for share in rule.shares}


def _all_warnings(settings: Settings, mapping: Mapping, effect: Effect) -> list[Mistake]:
    return sorted([*warnings_of(settings, mapping), *effect.idle], key=lambda warning: warning.line or 0)
