"""Reading any endpoint of one account into typed rows.

Unreadable fields are left out and counted, so that one odd row never stops an account's sync.
"""

from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, TypeVar, Unpack

from pydantic import SecretStr

from orcost_pipeline.errors import ContractError, ForbiddenError
from orcost_pipeline.openrouter.api.failures import NotFoundError
from orcost_pipeline.openrouter.api.paging import PAGE, Listing, Page, all_rows, identity
from orcost_pipeline.openrouter.api.progress import Progress
from orcost_pipeline.openrouter.api.records import Member, R, Read, Unreadable, Workspace, parse, parse_all
from orcost_pipeline.openrouter.api.requests import RequestOptions, Requests

Counted = TypeVar("Counted", Workspace, Member)
T = TypeVar("T")


async def allowed(question: Awaitable[T]) -> T | None:
    """The answer; None where this key may not have it (403) or the account has no such endpoint (404)."""
    try:
        return await question
    except (ForbiddenError, NotFoundError):
        return None


class Endpoints(Requests):
    """Reads one row, all rows or all pages of an endpoint.

    `unreadable` counts the rows in which a field could not be read.
    """

    def __init__(self, account: str, api_key: SecretStr, base_url: str, **options: Unpack[RequestOptions]) -> None:
        super().__init__(account, api_key, base_url, **options)
        self.progress = Progress(lambda line: None)
        self.unreadable: dict[Unreadable, int] = {}

    def _data(self, body: dict[str, Any], endpoint: str) -> Any:
        if "data" not in body:
            raise ContractError(f"{self._of_account(endpoint)} answered no data.")
        return body["data"]

    async def _one(self, kind: type[R], path: str) -> R:
        """The row at a path."""
        return self._needed(kind, self._data(await self._get(path), f"GET /{path}"), f"GET /{path}")

    async def _all(self, kind: type[R], path: str, params: dict[str, str] | None = None) -> list[Read[R]]:
        """All rows of an answer without pages."""
        endpoint = f"GET /{path}"
        return parse_all(kind, self._data(await self._get(path, params), endpoint), self._of_account(endpoint))

    def _needed(self, kind: type[R], value: Any, endpoint: str) -> R:
        return self._usable_rows(endpoint, [parse(kind, value, self._of_account(endpoint))])[0]

    def _usable_rows(
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

    async def _counted_pages(self, path: str, kind: type[Counted]) -> Listing[Counted]:
        """All pages of a listing. Its `total_count`, where present, may include rows that this key is not shown.

        Empty and whole for a 404, empty and not whole for a 403.
        """

        async def page_at(offset: int) -> Page:
            body = await self._get(path, {"offset": str(offset), "limit": str(PAGE)})
            rows = parse_all(kind, self._data(body, f"GET /{path}"), self._of_account(f"GET /{path}"))
            total = body.get("total_count")
            named = [(identity(it, str(offset + i)), it) for i, it in enumerate(rows)]
            return Page(named, total if isinstance(total, int) and not isinstance(total, bool) else None)

        try:
            rows, misses_rows = await all_rows(self._of_account(f"GET /{path}"), page_at)
        except NotFoundError:
            return Listing([], is_whole=True)
        except ForbiddenError:
            return Listing([], is_whole=False)
        return Listing(self._usable_rows(f"GET /{path}", rows), not misses_rows)
