"""Reading the responses of any endpoint into typed rows.

Unreadable fields are left out and counted, so that one odd row never stops an account's sync. What stays out: which
endpoints there are (`client.py`), what their rows look like (`records.py`), and where pages end (`paging.py`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from orcost_pipeline.errors import ContractError, ForbiddenError
from orcost_pipeline.openrouter.api.failures import NotFoundError
from orcost_pipeline.openrouter.api.paging import PAGE, Listing, Page, all_rows, identity
from orcost_pipeline.openrouter.api.records import Member, R, Read, Unreadable, Workspace, parse, parse_all
from orcost_pipeline.openrouter.api.requests import Requests

Counted = TypeVar("Counted", Workspace, Member)


class RowReader:
    """Reads one row, all rows or all pages of an endpoint. Its methods raise as `Requests.send` does, and ContractError
    for a body without the rows.

    `unreadable` counts the rows in which a field could not be read.
    """

    def __init__(self, requests: Requests) -> None:
        self.unreadable: dict[Unreadable, int] = {}
        self._requests = requests

    async def data(self, path: str, params: dict[str, str] | None = None) -> Any:
        """The `data` of a GET, as JSON."""
        return self.data_of(await self._requests.get(path, params), f"GET /{path}")

    def data_of(self, body: Mapping[str, Any], endpoint: str) -> Any:
        """The `data` of a body, as JSON; raises ContractError where there is none."""
        if "data" not in body:
            raise ContractError(f"{self._requests.of_account(endpoint)} answered no data.")
        return body["data"]

    async def one(self, kind: type[R], path: str) -> R:
        """The row at a path; raises ContractError where it is unusable."""
        return self.needed(kind, await self.data(path), f"GET /{path}")

    async def all(self, kind: type[R], path: str, params: dict[str, str] | None = None) -> list[Read[R]]:
        """All rows of a response without pages."""
        return parse_all(kind, await self.data(path, params), self._requests.of_account(f"GET /{path}"))

    def needed(self, kind: type[R], value: Any, endpoint: str) -> R:
        """The value as a row that must be usable; raises ContractError otherwise."""
        return self.usable(endpoint, [parse(kind, value, self._requests.of_account(endpoint))])[0]

    def usable(
        self, endpoint: str, rows: Iterable[Read[R]], key_hash: str | None = None, grain: str | None = None
    ) -> list[R]:
        """The usable rows; fields that could not be read are counted in `unreadable`."""
        rows = list(rows)
        self.note(
            Counter(
                Unreadable(endpoint, field, key_hash or getattr(row, "hash", None), grain, at)
                for row, unread, at in rows
                for field in unread
            )
        )
        return [row for row, _, _ in rows if row is not None]

    def note(self, rows: Mapping[Unreadable, int]) -> None:
        """Counts unreadable rows; repeating a question does not count them twice."""
        for unreadable, count in rows.items():
            self.unreadable[unreadable] = max(count, self.unreadable.get(unreadable, 0))

    async def counted_pages(self, path: str, kind: type[Counted]) -> Listing[Counted]:
        """All pages of a listing. Its `total_count`, where present, may include rows that this key is not shown.

        Empty and whole for a 404, empty and not whole for a 403.
        """
        where = self._requests.of_account(f"GET /{path}")

        async def page_at(offset: int) -> Page:
            body = await self._requests.get(path, {"offset": str(offset), "limit": str(PAGE)})
            rows = parse_all(kind, self.data_of(body, f"GET /{path}"), where)
            total = body.get("total_count")
            named = [(identity(it, str(offset + i)), it) for i, it in enumerate(rows)]
            return Page(named, total if isinstance(total, int) and not isinstance(total, bool) else None)

        try:
            rows, misses_rows = await all_rows(where, page_at)
        except NotFoundError:
            return Listing([], is_whole=True)
        except ForbiddenError:
            return Listing([], is_whole=False)
        return Listing(self.usable(f"GET /{path}", rows), not misses_rows)
