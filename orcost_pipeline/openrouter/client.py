"""One OpenRouter account over HTTP: one method an endpoint, each answering typed rows, whole or not at all.

What stays out: what to ask and when (`usage.py`), tables, Dagster. The key lives in one header of one client: in no
URL, message, log or repr.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

from pydantic import SecretStr

from orcost_pipeline.errors import ContractError, ForbiddenError
from orcost_pipeline.openrouter.endpoints import allowed
from orcost_pipeline.openrouter.failures import NotFoundError, RefusedError
from orcost_pipeline.openrouter.paging import Listing, Page, all_rows, identity
from orcost_pipeline.openrouter.records import (
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
from orcost_pipeline.openrouter.requests import RequestOptions
from orcost_pipeline.openrouter.usage_endpoint import UsageEndpoint


class KeyListing(NamedTuple):
    """Living keys, each hash once, and the workspaces that do not tell theirs to the key that asks."""

    keys: list[ApiKey]
    refused: frozenset[str]


class AccountListing(NamedTuple):
    """Living keys of the whole account, and its workspaces."""

    keys: list[ApiKey]
    workspaces: Listing[Workspace]
    refused: frozenset[str]

    @property
    def is_whole(self) -> bool:
        """Whether nothing was refused: where something was, keys may be missing."""
        return self.workspaces.is_whole and not self.refused


class OpenRouter(UsageEndpoint):
    """An account's API, as an async context manager."""

    def __init__(self, account: str, api_key: SecretStr, base_url: str, **options: Unpack[RequestOptions]) -> None:
        super().__init__(account, api_key, base_url, **options)
        self._can_list_expired = True

    async def key(self) -> KeyInfo:
        """The key that asks; raises InvalidKeyError where it is refused, here by a 403 too."""
        return self._needed(KeyInfo, await self._told_of_itself(), "GET /key")

    async def itself(self) -> ApiKey:
        """The ordinary key that asks, as a listing would tell it: its hash is the SHA-256 of the key."""
        told = await self._told_of_itself()
        parse(KeyInfo, told, self._of_account("GET /key"))
        identity = {"hash": hashlib.sha256(self._secret.encode()).hexdigest(), "name": told.get("label")}
        return self._needed(ApiKey, {**told, **identity}, "GET /key")

    async def _told_of_itself(self) -> Any:
        try:
            return self._data(await self._get("key"), "GET /key")
        except ForbiddenError:
            raise self._invalid_key(f"may not even ask about itself (403, {self._masked()})") from None

    async def credits(self) -> Credits:
        return await self._one(Credits, "credits")

    async def models(self) -> list[Model]:
        """Every model, those that make images, sound or embeddings too, where the API tells them."""
        try:
            told = await self._all(Model, "models", {"output_modalities": "all"})
        except RefusedError:
            told = await self._all(Model, "models")
        return self._usable_rows("GET /models", told)

    async def workspaces(self) -> Listing[Workspace]:
        """Workspaces of the account; none where it has no such thing (404)."""
        return await self._counted_pages("workspaces", Workspace)

    async def members(self) -> Listing[Member]:
        """Members of the organization; none for a personal account (404)."""
        return await self._counted_pages("organization/members", Member)

    async def api_keys(self, workspace_ids: Sequence[str | None]) -> KeyListing:
        """Every living key of the workspaces, disabled and expired too; None: those that are listed without a filter.

        A workspace may refuse (403, 404). Where all of them do, or none is given, the keys listed without a filter.
        """
        ids = list(dict.fromkeys(workspace_ids))
        listings = await asyncio.gather(*(self._keys_if_allowed(id_) for id_ in ids))
        refused = frozenset(id_ for id_, listing in zip(ids, listings, strict=True) if id_ and listing is None)
        if len(refused) == len(ids):
            listings.append(await self._workspace_keys(None))
        told = {identity(it, str(i)): it for i, it in enumerate(it for listing in listings for it in listing or ())}
        return KeyListing(self._usable_rows("GET /keys", told.values()), refused)

    async def account_keys(self) -> AccountListing:
        """Every living key of every workspace that this key is told of, and the workspaces."""
        workspaces = await self.workspaces()
        ids: list[str | None] = [workspace.id for workspace in workspaces.rows]
        listing = await self.api_keys(ids if workspaces.is_whole else [*ids, None])
        return AccountListing(listing.keys, workspaces, listing.refused)

    async def _keys_if_allowed(self, workspace_id: str | None) -> list[Any] | None:
        keys = self._workspace_keys(workspace_id)
        return await keys if workspace_id is None else await allowed(keys)

    async def api_key(self, key_hash: str) -> ApiKey | None:
        """One key, or None when it is gone: the proof of a deletion."""
        endpoint = "GET /keys/{hash}"
        try:
            told = self._data(await self._get(f"keys/{key_hash}"), endpoint)
        except NotFoundError:
            return None
        # It answers, so it is there, whatever of its row can be read.
        row = read(ApiKey, (told if isinstance(told, dict) else {}) | {"hash": key_hash})
        return self._usable_rows(endpoint, [row])[0]

    async def activity(self, key_hash: str | None = None) -> list[ActivityRow] | None:
        """The last 30 completed UTC days of the account or of one key, by model and endpoint; None for a 403 or 404."""
        params = {} if key_hash is None else {"api_key_hash": key_hash}
        told = await allowed(self._all(ActivityRow, "activity", params))
        return None if told is None else self._usable_rows("GET /activity", told, key_hash, "day")

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
