"""One OpenRouter account over HTTP: one method per endpoint, each returning complete typed rows or raising.

Each method retries passing failures, then raises: InvalidKeyError (401), ForbiddenError (403), another PermanentError
(other refusals), TransientError (no answer in time), ContractError (an answer that cannot be read).
What stays out: what to ask and when (`usage.py`), tables, Dagster. The key is held in one header of one client and
appears in no URL, message, log or repr.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

from pydantic import SecretStr

from orcost_pipeline.errors import ContractError, ForbiddenError
from orcost_pipeline.openrouter.api.analytics import UsageEndpoint
from orcost_pipeline.openrouter.api.endpoints import allowed
from orcost_pipeline.openrouter.api.failures import NotFoundError, RefusedError
from orcost_pipeline.openrouter.api.paging import Listing, Page, all_rows, identity
from orcost_pipeline.openrouter.api.records import (
    ActivityRow,
    ApiKey,
    Credits,
    KeyInfo,
    Member,
    Model,
    Read,
    Workspace,
    parse,
    read,
)
from orcost_pipeline.openrouter.api.requests import RequestOptions


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


class OpenRouter(UsageEndpoint):
    """An account's API, as an async context manager that closes its connections and pending requests on exit."""

    def __init__(self, account: str, api_key: SecretStr, base_url: str, **options: Unpack[RequestOptions]) -> None:
        super().__init__(account, api_key, base_url, **options)
        self._can_list_expired = True

    async def key(self) -> KeyInfo:
        """The key in use, with its own counters in USD. Raises InvalidKeyError for a 401 or 403."""
        return self._needed(KeyInfo, await self._own_record(), "GET /key")

    async def itself(self) -> ApiKey:
        """The ordinary key in use, as a listing would show it. Its hash is the SHA-256 of the key."""
        record = await self._own_record()
        parse(KeyInfo, record, self._of_account("GET /key"))
        identity = {"hash": hashlib.sha256(self._secret.encode()).hexdigest(), "name": record.get("label")}
        return self._needed(ApiKey, {**record, **identity}, "GET /key")

    async def _own_record(self) -> Any:
        try:
            return self._data(await self._get("key"), "GET /key")
        except ForbiddenError:
            raise self._invalid_key(f"may not even ask about itself (403, {self._masked()})") from None

    async def credits(self) -> Credits:
        """Credits bought and used over the account's lifetime, in USD."""
        return await self._one(Credits, "credits")

    async def models(self) -> list[Model]:
        """Every model with its list price, also those for images, sound and embeddings where they are listed."""
        try:
            rows = await self._all(Model, "models", {"output_modalities": "all"})
        except RefusedError:
            rows = await self._all(Model, "models")
        return self._usable_rows("GET /models", rows)

    async def workspaces(self) -> Listing[Workspace]:
        """Workspaces of the account; empty where it has none (404), not whole for a 403."""
        return await self._counted_pages("workspaces", Workspace)

    async def members(self) -> Listing[Member]:
        """Members of the organization; empty for a personal account (404), not whole for a 403."""
        return await self._counted_pages("organization/members", Member)

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
        return KeyListing(self._usable_rows("GET /keys", by_identity.values()), refused)

    async def account_keys(self) -> AccountListing:
        """Every active key of every workspace that this key can see, and the workspaces."""
        workspaces = await self.workspaces()
        ids: list[str | None] = [workspace.id for workspace in workspaces.rows]
        listing = await self.api_keys(ids if workspaces.is_whole else [*ids, None])
        return AccountListing(listing.keys, workspaces, listing.refused)

    async def _keys_if_allowed(self, workspace_id: str | None) -> list[Any] | None:
        keys = self._workspace_keys(workspace_id)
        return await keys if workspace_id is None else await allowed(keys)

    async def api_key(self, key_hash: str) -> ApiKey | None:
        """One key by its hash; None for a 404, which proves that it was deleted."""
        endpoint = "GET /keys/{hash}"
        try:
            record = self._data(await self._get(f"keys/{key_hash}"), endpoint)
        except NotFoundError:
            return None
        # An answer proves that the key exists, even where its fields cannot be read.
        row = read(ApiKey, (record if isinstance(record, dict) else {}) | {"hash": key_hash})
        return self._usable_rows(endpoint, [row])[0]

    async def activity(self, key_hash: str | None = None) -> list[ActivityRow] | None:
        """Usage of the last 30 finished UTC days, one row per day, model and endpoint: of one key, or of the account.

        Amounts are USD. None where OpenRouter does not report it to this key or account (403, 404).
        """
        params = {} if key_hash is None else {"api_key_hash": key_hash}
        rows = await allowed(self._all(ActivityRow, "activity", params))
        return None if rows is None else self._usable_rows("GET /activity", rows, key_hash, "day")

    async def _workspace_keys(self, workspace_id: str | None) -> list[Read[ApiKey]]:
        async def page_at(offset: int) -> Page:
            page = await self._key_page(workspace_id, offset)
            return Page([(identity(it, str(offset + i)), it) for i, it in enumerate(page)], None)

        rows, missing = await all_rows(self._of_account("GET /keys"), page_at)
        if missing:
            raise ContractError(f"{self._of_account('GET /keys')} promised more rows and ended after {len(rows)}.")
        return rows

    async def _key_page(self, workspace_id: str | None, offset: int) -> list[Read[ApiKey]]:
        params = {"offset": str(offset), "include_disabled": "true"}
        if workspace_id is not None:
            params["workspace_id"] = workspace_id
        if self._can_list_expired:
            try:
                return await self._all(ApiKey, "keys", {**params, "include_expired": "true"})
            except RefusedError:
                self._can_list_expired = False
        return await self._all(ApiKey, "keys", params)
