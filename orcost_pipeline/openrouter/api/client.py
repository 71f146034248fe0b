"""One OpenRouter account over HTTP: one method per endpoint, each returning complete typed rows or raising.

Each method retries passing failures, then raises: InvalidKeyError (401), ForbiddenError (403), another PermanentError
(other refusals), TransientError (no response in time), ContractError (a response that cannot be read).
What stays out: what to ask and when (`usage.py`), tables, Dagster.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self, Unpack

from pydantic import SecretStr

from orcost_pipeline.errors import ContractError, ForbiddenError
from orcost_pipeline.openrouter.api.analytics import Analytics
from orcost_pipeline.openrouter.api.failures import NotFoundError, RefusedError, allowed
from orcost_pipeline.openrouter.api.paging import Listing, Page, all_rows, identity
from orcost_pipeline.openrouter.api.progress import Progress
from orcost_pipeline.openrouter.api.records import (
    ActivityRow,
    ApiKey,
    Credits,
    KeyInfo,
    Member,
    Model,
    Read,
    Unreadable,
    UsageCell,
    Workspace,
    parse,
    read,
)
from orcost_pipeline.openrouter.api.requests import RequestOptions, Requests
from orcost_pipeline.openrouter.api.row_reader import RowReader
from orcost_pipeline.openrouter.api.usage_answer import UsageAnswer
from orcost_pipeline.windows import HOUR, Window


class KeyListing(NamedTuple):
    """Active keys, each hash once, and the ids of workspaces that refuse to list their keys to this key."""

    keys: list[ApiKey]
    refused: frozenset[str]


class AccountListing(NamedTuple):
    """Active keys of the whole account, its workspaces, and the ids of workspaces that refuse to list their keys."""

    keys: list[ApiKey]
    workspaces: Listing[Workspace]
    refused: frozenset[str]

    @property
    def is_whole(self) -> bool:
        """Whether no listing was refused; otherwise keys may be missing."""
        return self.workspaces.is_whole and not self.refused


class OpenRouter:
    """An account's API, as an async context manager that closes its connections and pending requests on exit.

    Raises PermanentError for a base URL that the key must not be sent to, InvalidKeyError for a key that no header can
    carry.
    """

    def __init__(self, account: str, api_key: SecretStr, base_url: str, **options: Unpack[RequestOptions]) -> None:
        self._requests = Requests(account, api_key, base_url, **options)
        self._rows = RowReader(self._requests)
        self._analytics = Analytics(self._requests, self._rows)
        self._can_list_expired = True

    async def __aenter__(self) -> Self:
        await self._requests.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._requests.__aexit__(*raised)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(account={self._requests.account!r})"

    # ── what its requests showed ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def requests_made(self) -> int:
        """HTTP requests so far, including retries and failures."""
        return self._requests.requests_made

    @property
    def last_error_status(self) -> int | None:
        """The status of the last response that was not 2xx; None where there was none."""
        return self._requests.last_error_status

    @property
    def clock_ahead(self) -> timedelta | None:
        """How far this machine's clock is ahead of the server's; None where no response had a date."""
        return self._requests.clock_ahead

    def require_right_clock(self) -> datetime | None:
        """The server's time, UTC; None where no response had a date.

        Raises ClockError where this machine's clock is off by more than `CLOCK_WRONG`.
        """
        return self._requests.require_right_clock()

    @property
    def unreadable(self) -> dict[Unreadable, int]:
        """Fields that could not be read, each with the number of its rows."""
        return self._rows.unreadable

    @property
    def progress(self) -> Progress:
        """Where long readings report how far they are; by default nowhere."""
        return self._analytics.progress

    @progress.setter
    def progress(self, progress: Progress) -> None:
        self._analytics.progress = progress

    # ── the key and its account ──────────────────────────────────────────────────────────────────────────────────────

    async def key(self) -> KeyInfo:
        """The key in use, with its own counters in USD. Raises InvalidKeyError for a 401 or 403."""
        return self._rows.needed(KeyInfo, await self._own_record(), "GET /key")

    async def itself(self) -> ApiKey:
        """The ordinary key in use, as a listing would show it. Its hash is the SHA-256 of the key."""
        record = await self._own_record()
        parse(KeyInfo, record, self._requests.of_account("GET /key"))
        identity = {"hash": self._requests.key_sha256, "name": record.get("label")}
        return self._rows.needed(ApiKey, {**record, **identity}, "GET /key")

    async def _own_record(self) -> Any:
        try:
            return await self._rows.data("key")
        except ForbiddenError:
            why = f"may not even ask about itself (403, {self._requests.masked_key()})"
            raise self._requests.invalid_key(why) from None

    async def credits(self) -> Credits:
        """Credits bought and used over the account's lifetime, in USD."""
        return await self._rows.one(Credits, "credits")

    async def models(self) -> list[Model]:
        """Every model with its list price in USD per token, also those for images, sound and embeddings.

        Where OpenRouter refuses the filter that lists the latter, the models that it lists without one.
        """
        try:
            rows = await self._rows.all(Model, "models", {"output_modalities": "all"})
        except RefusedError:
            rows = await self._rows.all(Model, "models")
        return self._rows.usable("GET /models", rows)

    async def workspaces(self) -> Listing[Workspace]:
        """Workspaces of the account; empty where it has none (404), not whole for a 403."""
        return await self._rows.counted_pages("workspaces", Workspace)

    async def members(self) -> Listing[Member]:
        """Members of the organization; empty for a personal account (404), not whole for a 403."""
        return await self._rows.counted_pages("organization/members", Member)

    async def api_keys(self, workspace_ids: Sequence[str | None]) -> KeyListing:
        """Every active key of the workspaces, including disabled and expired ones.

        The id None requests the listing without a workspace filter. It is also requested where no workspace is given or
        all of them refuse (403, 404). Raises ContractError where a listing ends before all promised rows came.
        """
        ids = list(dict.fromkeys(workspace_ids))
        listings = await asyncio.gather(*(self._keys_if_allowed(id_) for id_ in ids))
        refused = frozenset(id_ for id_, listing in zip(ids, listings, strict=True) if id_ and listing is None)
        if len(refused) == len(ids):
            listings.append(await self._workspace_keys(None))
        rows = (row for listing in listings for row in listing or ())
        by_identity = {identity(row, str(place)): row for place, row in enumerate(rows)}
        return KeyListing(self._rows.usable("GET /keys", by_identity.values()), refused)

    async def account_keys(self) -> AccountListing:
        """Every active key of every workspace that this key can see, and the workspaces.

        Where workspaces are withheld, the listing without a workspace filter is read too.
        """
        workspaces = await self.workspaces()
        ids: list[str | None] = [workspace.id for workspace in workspaces.rows]
        listing = await self.api_keys(ids if workspaces.is_whole else [*ids, None])
        return AccountListing(listing.keys, workspaces, listing.refused)

    async def _keys_if_allowed(self, workspace_id: str | None) -> list[Any] | None:
        keys = self._workspace_keys(workspace_id)
        return await keys if workspace_id is None else await allowed(keys)

    async def api_key(self, key_hash: str) -> ApiKey | None:
        """One key by its hash, also a disabled or expired one; None for a 404, which proves that it was deleted.

        Raises ForbiddenError (403) where the key in use may not know.
        """
        endpoint = "GET /keys/{hash}"
        try:
            record = self._rows.data_of(await self._requests.get(f"keys/{key_hash}"), endpoint)
        except NotFoundError:
            return None
        # An answer proves that the key exists, even where its fields cannot be read.
        row = read(ApiKey, (record if isinstance(record, dict) else {}) | {"hash": key_hash})
        return self._rows.usable(endpoint, [row])[0]

    async def activity(self, key_hash: str | None = None) -> list[ActivityRow] | None:
        """Usage of the last 30 finished UTC days, one row per day, model and endpoint: of one key, or of the account.

        Amounts are USD. None where OpenRouter does not report it to this key or account (403, 404).
        """
        params = {} if key_hash is None else {"api_key_hash": key_hash}
        rows = await allowed(self._rows.all(ActivityRow, "activity", params))
        return None if rows is None else self._rows.usable("GET /activity", rows, key_hash, "day")

    async def usage(
        self,
        window: Window,
        dimensions: Sequence[str],
        keys: Sequence[str] | None = None,
        *,
        grain: timedelta = HOUR,
        most_rows: Mapping[datetime, int] | None = None,
    ) -> UsageAnswer:
        """Complete usage inside `window` by hour or by day, of `keys` (hashes) or of the whole account.

        `most_rows` says how many rows each hour (or day) can have at most, by its start: answers are then rarely
        truncated. Raises ContractError where a single hour (or day) does not fit one response, RefusedError where
        nothing of the window is reported.
        """
        return await self._analytics.usage(window, dimensions, keys, grain=grain, most_rows=most_rows)

    def note_cells(self, cells: Iterable[UsageCell], key_hash: str | None, grain: timedelta) -> None:
        """Counts the unreadable columns of usage of a key, or (None) of the whole account, in `unreadable`."""
        self._analytics.note_cells(cells, key_hash, grain)

    async def _workspace_keys(self, workspace_id: str | None) -> list[Read[ApiKey]]:
        async def page_at(offset: int) -> Page:
            page = await self._key_page(workspace_id, offset)
            return Page([(identity(it, str(offset + i)), it) for i, it in enumerate(page)], None)

        where = self._requests.of_account("GET /keys")
        rows, missing = await all_rows(where, page_at)
        if missing:
            raise ContractError(f"{where} promised more rows and ended after {len(rows)}.")
        return rows

    async def _key_page(self, workspace_id: str | None, offset: int) -> list[Read[ApiKey]]:
        params = {"offset": str(offset), "include_disabled": "true"}
        if workspace_id is not None:
            params["workspace_id"] = workspace_id
        if self._can_list_expired:
            try:
                return await self._rows.all(ApiKey, "keys", {**params, "include_expired": "true"})
            except RefusedError:
                self._can_list_expired = False
        return await self._rows.all(ApiKey, "keys", params)
