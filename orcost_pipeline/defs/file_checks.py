"""Checks of the files that people maintain: whether one is valid, and what is doubtful in it."""

from collections.abc import Sequence

import dagster as dg

from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.text import LONGEST_LINE, few, markdown, short


def validity(key: dg.AssetKey, check: str, problem: str | None) -> dg.AssetCheckResult:
    """An error with its mistakes where there is a problem."""
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=check,
        passed=problem is None,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"mistakes": _lines(problem.splitlines())} if problem else {},
    )


def doubts(key: dg.AssetKey, check: str, found: Sequence[Mistake]) -> dg.AssetCheckResult:
    """A warning with its lines where doubts were found."""
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=check,
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"lines": _lines(few([str(doubt) for doubt in found]))} if found else {},
    )


def _lines(lines: Sequence[str]) -> dg.MetadataValue:
    """The lines as a Markdown list."""
    return dg.MetadataValue.md("\n".join(f"- {markdown(short(line, LONGEST_LINE))}" for line in lines))
