"""Listings in pages: every row once, even where rows are created or deleted while the pages are read."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, NamedTuple, TypeVar

from orcost_pipeline.errors import ContractError
from orcost_pipeline.openrouter.api.records import Read

PAGE = 100
# A longer listing (100,000 rows) is taken for one that never ends.
PAGES = 1_000
# How often a listing that changes while it is read is read; its rows are then those found by any walk.
WALKS = 3

T = TypeVar("T")


class Listing(NamedTuple, Generic[T]):
    """Rows of a listing; not whole where OpenRouter withholds some or all of them from this key."""

    rows: list[T]
    is_whole: bool


class Page(NamedTuple):
    """Rows of a listing (`Read`) by their identity, and the total number of rows, where reported."""

    rows: list[tuple[str, Any]]
    total: int | None


class _Walk(NamedTuple):
    """Rows of one walk through a listing, whether any moved meanwhile, and whether fewer came than promised."""

    rows: dict[str, Any]
    has_moved: bool
    misses_rows: bool


PageAt = Callable[[int], Awaitable[Page]]


async def all_rows(where: str, page_at: PageAt) -> tuple[list[Any], bool]:
    """All rows of a listing, each once, and whether fewer rows came than it promised.

    A listing in which rows moved while it was read is read again, up to `WALKS` times; its rows are then those found by
    any walk.

    `where` names it in errors. Raises ContractError for a listing that does not end.
    """
    seen: dict[str, Any] = {}
    walk = _Walk({}, has_moved=True, misses_rows=False)
    for _ in range(WALKS):
        walk = await _walk(page_at, where)
        seen |= walk.rows
        if not walk.has_moved:
            break
    return list((seen if walk.has_moved or walk.misses_rows else walk.rows).values()), walk.misses_rows


async def _walk(page_at: PageAt, where: str) -> _Walk:
    """Reads all pages. Each begins at the last row of the previous one; if it does not, rows have moved."""
    found: dict[str, Any] = {}
    has_moved = False
    for _ in range(PAGES):
        rows, total = await page_at(max(0, len(found) - 1))
        known = list(found)
        again = [identity for identity, _ in rows if identity in found]
        has_moved |= bool(known) and not (again == [identity for identity, _ in rows[:1]] == known[-1:])
        found.update(rows)
        # A total may be too low; a page that is not full is the last, unless more are promised.
        goes_on = len(rows) >= PAGE or (total is not None and len(found) < total)
        if not goes_on:
            return _Walk(found, has_moved, misses_rows=False)
        if len(found) == len(known):
            return _Walk(found, has_moved, misses_rows=True)
    raise ContractError(f"{where} goes on after {PAGES:,} pages ({len(found):,} rows); nothing was published.")


def identity(row: Read[Any], place: str) -> str:
    """The hash or id of a row; where that cannot be read, its place in the listing, so that the row still counts."""
    return place if row.row is None else getattr(row.row, "hash", None) or row.row.id
