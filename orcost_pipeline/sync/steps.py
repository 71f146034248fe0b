"""The steps of one account's sync, in order: read OpenRouter into raw, publish. No Dagster: the assets call these.

Each step is whole or leaves nothing; each can run again. Tests and tools that need no run records call them directly.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import NamedTuple, TypeVar

import sqlalchemy as sa

from orcost_pipeline.errors import ClockError, ForbiddenError, PermanentError
from orcost_pipeline.openrouter.client import KeyListing, Listing, OpenRouter, allowed
from orcost_pipeline.openrouter.reading import ListedKey, UsageReading
from orcost_pipeline.openrouter.records import ApiKey, Credits, KeyInfo
from orcost_pipeline.openrouter.usage import read_usage
from orcost_pipeline.sync import identity, wire_rows
from orcost_pipeline.sync.attribution import assignments
from orcost_pipeline.sync.step import StepResult, SyncStep
from orcost_pipeline.sync.wire_rows import Table
from orcost_pipeline.warehouse import raw, runs
from orcost_pipeline.warehouse.publication import Publication, publication, publish
from orcost_pipeline.warehouse.questions.sync_state import StoredKey, StoredUsage
from orcost_pipeline.warehouse.questions.syncs import run_status
from orcost_pipeline.windows import first_analytics_day, is_future, surely_one_day

FULL_PASS_EVERY = timedelta(days=7)
MODELS_EVERY = timedelta(days=1)
# So many keys that are not listed are asked for before all are: of another account, none of them answers.
MISSING_KEYS_ASKED_FIRST = 8

T = TypeVar("T")


class Published(NamedTuple):
    """What a publication did: the rows it wrote, by table, and the contract checks that it asked."""

    rows: Mapping[str, int]
    checks: frozenset[str]


def read_account(step: SyncStep) -> StepResult:
    """The key that asks, and the account's credits; raises PermanentError for an ordinary key in a managed account."""
    (key, credits_told), requests_made = step.ask(_account)
    known = StoredUsage(step.engine, step.account.name, step.as_of)
    if not key.can_manage and known.is_managed:
        raise PermanentError(
            f'The key of account "{step.account.name}" is an ordinary key; a management key has synced it so far.\n'
            "An ordinary key knows only itself: every other key would look as if it cost nothing. Put a management key "
            f"into {step.account.api_key_env} (openrouter.ai/settings/management-keys), "
            "or give this key an account of its own: orcost init"
        )
    rows = step.store(["account"], wire_rows.account(key, credits_told), requests_made)
    if not key.can_manage:
        return StepResult(rows, requests_made, {"note": "An ordinary key: its own cost only, from its counters."})
    if credits_told is None:
        return StepResult(rows, requests_made, {"balance": "unknown: OpenRouter does not report it for this key"})
    balance = credits_told.balance_usd
    return StepResult(rows, requests_made, {"balance": "not known" if balance is None else f"{balance:,.2f} USD"})


async def _account(client: OpenRouter) -> tuple[KeyInfo, Credits | None]:
    key = await client.key()
    return key, await allowed(client.credits()) if key.can_manage else None


def read_workspaces(step: SyncStep) -> StepResult:
    """Where OpenRouter does not tell all of them to this key, the names of the others stay as last known."""
    return _read_listing(
        step, "workspace", raw.WORKSPACES_REFUSED, lambda client: client.workspaces(), wire_rows.workspaces
    )


def read_members(step: SyncStep) -> StepResult:
    """As workspaces: e-mails stay as last known where members are not told."""
    return _read_listing(
        step, "organization_member", raw.MEMBERS_REFUSED, lambda client: client.members(), wire_rows.members
    )


def _read_listing(
    step: SyncStep,
    relation: str,
    refused: str,
    question: Callable[[OpenRouter], Awaitable[Listing[T]]],
    rows_of: Callable[[list[T]], Mapping[str, Table]],
) -> StepResult:
    """A listing for a management key, which may not be told all of it: that is noted under the mark `refused`."""
    listing, requests_made = Listing([], is_whole=True), 0
    if step.has_management_key:
        listing, requests_made = step.ask(question)
    rows = step.store([relation] if listing.is_whole else [relation, refused], rows_of(listing.rows), requests_made)
    return StepResult(rows, requests_made, {} if listing.is_whole else _NOT_TOLD)


_NOT_TOLD = {"note": "OpenRouter does not list all of them for this key."}


def read_models(step: SyncStep) -> StepResult:
    """List prices, once a day."""
    if _models_are_fresh(step):
        return StepResult(0, 0, {"note": "Read less than a day ago."})
    told, requests_made = step.ask(lambda client: allowed(client.models()))
    if told is None:
        return StepResult(0, requests_made, _NOT_TOLD)
    return StepResult(step.store(["model"], wire_rows.models(told), requests_made), requests_made)


def _models_are_fresh(step: SyncStep) -> bool:
    with step.engine.connect() as connection:
        newest = raw.newest_as_of(connection, "model", step.account.name, step.as_of)
    return newest is not None and newest > step.as_of - MODELS_EVERY


def read_api_keys(step: SyncStep) -> StepResult:
    """Keys of all workspaces; one that is no longer listed is asked for by its hash, a 404 proves its deletion unless
    its workspace does not list its keys (D43). Where no workspace is told, those of the stored keys are asked too.

    An ordinary key lists itself alone, and nothing that it does not list is gone.
    """
    asked_at = step.clock()
    if step.has_management_key:
        told = [row["workspace_id"] for row in step.latest("workspace", "workspace_id")]
        known = StoredUsage(step.engine, step.account.name, step.as_of).known_keys()
        living = {key_hash: key.workspace_id for key_hash, key in known.items() if key.deleted_at is None}
        workspace_ids: list[str | None] = [*told]
        if not told or step.is_marked("workspace", raw.WORKSPACES_REFUSED):
            workspace_ids += [None, *sorted({id_ for id_ in living.values() if id_})]
        require = partial(_require_same_account, step)
        (listed, deleted), requests_made = step.ask(lambda client: _keys(client, workspace_ids, living, require))
    else:
        itself, requests_made = step.ask(lambda client: client.itself())
        listed, deleted = KeyListing([itself], frozenset()), []
        _require_same_account(step, listed.keys)
    counters_day = surely_one_day(asked_at, step.clock())
    relations = ["api_key", raw.WORKSPACES_REFUSED] if listed.refused else ["api_key"]
    rows = step.store(relations, wire_rows.api_keys(listed.keys, deleted, counters_day), requests_made)
    more = {"workspaces_that_refuse": ", ".join(sorted(listed.refused))} if listed.refused else {}
    return StepResult(rows, requests_made, {"newly_deleted": len(deleted), **more})


def _require_same_account(step: SyncStep, listed: Sequence[ApiKey]) -> None:
    """Refuses the keys of another OpenRouter account before anything is asked about usage."""
    row = step.latest("account", "organization_id, credits_total_usd, credits_used_usd")[0]
    is_managed = step.has_management_key
    workspaces = [it.workspace_id for it in step.latest("workspace", "workspace_id")]
    told = identity.told_evidence(listed, workspaces, row.organization_id, None)._replace(
        credits_total_usd=row.credits_total_usd, credits_used_usd=row.credits_used_usd
    )
    with step.engine.connect() as connection:
        identity.require_same_account(connection, step.account, told, "Nothing was published", is_managed=is_managed)


async def _keys(
    client: OpenRouter,
    workspace_ids: Sequence[str | None],
    living: Mapping[str, str | None],
    require_same_account: Callable[[Sequence[ApiKey]], None],
) -> tuple[KeyListing, list[str]]:
    """Keys that are listed, or answer although the listing skipped them; and hashes that are gone.

    living: the stored keys that live, and their workspaces. One that neither answers nor is proven to be gone is in
    neither: it stays as stored. A few of those that are not listed tell whose account it is, before all are asked for.
    """
    listing = await client.api_keys(workspace_ids)
    missing = sorted(living.keys() - {key.hash for key in listing.keys})
    few, others = missing[:MISSING_KEYS_ASKED_FIRST], missing[MISSING_KEYS_ASKED_FIRST:]
    asked = await _asked(client, few)
    require_same_account(listing.keys + _answering(asked))
    asked |= await _asked(client, others)
    gone = [key_hash for key_hash, key in asked.items() if key is None and living[key_hash] not in listing.refused]
    return listing._replace(keys=listing.keys + _answering(asked)), gone


async def _asked(client: OpenRouter, key_hashes: Sequence[str]) -> dict[str, ApiKey | ForbiddenError | None]:
    answers = await asyncio.gather(*(_key_or_refusal(client, key_hash) for key_hash in key_hashes))
    return dict(zip(key_hashes, answers, strict=True))


def _answering(asked: Mapping[str, ApiKey | ForbiddenError | None]) -> list[ApiKey]:
    return [key for key in asked.values() if isinstance(key, ApiKey)]


async def _key_or_refusal(client: OpenRouter, key_hash: str) -> ApiKey | ForbiddenError | None:
    try:
        return await client.api_key(key_hash)
    except ForbiddenError as error:
        return error


def read_usage_of_account(step: SyncStep, since: date | None = None) -> tuple[UsageReading, int]:
    """Usage by hour and by day, read together: a day that changed has its hours read again with it.

    A rebuild asks for everything that the API still tells. Returns the reading and the HTTP requests that it took.
    """
    stored = StoredUsage(step.engine, step.account.name, step.as_of)
    if stored.is_rebuild_requested:
        since = first_analytics_day(step.as_of)
    known = stored.known_keys()
    rows = step.latest(
        "api_key",
        "key_hash, name, coalesce(label, '') as label, created_at, last_used_at, usage_usd, byok_usage_usd, "
        "counters_day",
        "not is_deleted",
    )
    counters_day = rows[0].counters_day if rows else None
    is_full = stored.full_pass_at is None or stored.is_counted() or step.as_of - stored.full_pass_at >= FULL_PASS_EVERY
    reading, requests_made = (
        step.ask(
            lambda client: read_usage(
                client,
                stored,
                [_listed(row, known) for row in rows],
                step.as_of,
                step.tolerance_usd,
                counters_day=counters_day,
                since=since,
                is_full=is_full,
            )
        )
        if step.has_management_key
        else (UsageReading(has_analytics=False), 0)
    )
    # What is asked again since a day is no pass over everything.
    is_whole = is_full and (since is None or not stored.is_read())
    if reading.hours.cached_at:
        with step.engine.begin() as connection:
            as_of = raw.lower_as_of(connection, step.extraction_id, step.account.name, reading.hours.cached_at)
        step = replace(step, as_of=as_of)
    relations = ["usage_hourly", "activity_daily"]
    if not reading.has_analytics:
        relations.append(raw.COUNTERS)
    elif is_whole:
        relations.append(raw.FULL_PASS)
    if stored.is_rebuild_requested:
        relations.append(raw.REBUILD)
    step.store(relations, wire_rows.usage(reading), requests_made)
    return reading, requests_made


def _listed(row: sa.RowMapping, known: Mapping[str, StoredKey]) -> ListedKey:
    """A key as it was listed; one without a name has the last that is known, or else its label."""
    before = known.get(row["key_hash"])
    return ListedKey(
        key_hash=row["key_hash"],
        name=row["name"] or (before.name if before else row["label"]),
        label=row["label"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        usage_usd=row["usage_usd"],
        byok_usage_usd=row["byok_usage_usd"],
    )


def publish_account(step: SyncStep) -> Published:
    """One transaction. Tells whoever watches where a newer sync was published meanwhile.

    Raises PermanentError for an account never synced, and for a sync whose reading cannot be published.
    """
    now = step.clock()
    with publication(
        step.engine, step.account.name, step.extraction_id, step.run_id, now, step.tolerance_usd, assignments
    ) as publishing:
        if publishing is None:
            raise PermanentError(
                f'Nothing to publish for account "{step.account.name}": it was never synced. Launch hourly_sync for it.'
            )
        if run_status(publishing.connection, step.run_id, step.account.name):
            _require_published(publishing, now, step.tell)
        checks = publish(publishing)
        runs.succeed(
            publishing.connection,
            step.run_id,
            step.account.name,
            publishing.as_of,
            sum(publishing.rows.values()),
            step.clock(),
        )
        return Published(publishing.rows, checks)


def _require_published(publishing: Publication, now: datetime, tell: Callable[[str], None]) -> None:
    """Raises PermanentError for a sync whose reading cannot be published.

    One that a newer sync overtook is no failure: what it read is in already, or known better.
    """
    asked = f'Nothing of this sync of account "{publishing.account}" was published'
    again = "Sync again: orcost sync"
    if publishing.extracted is None:
        raise PermanentError(f"{asked}: what it read is not whole. {again}")
    if is_future(publishing.extracted, now):
        raise ClockError.was_ahead(publishing.extracted, now)
    if not publishing.is_extraction:
        tell(f"{asked}: a newer one is, complete to {publishing.as_of:%Y-%m-%d %H:%M} UTC.")
