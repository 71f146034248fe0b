"""The steps of one account's sync, in order: read OpenRouter into raw, publish. No Dagster: the assets call these.

Each step stores everything or nothing, can run again, and raises as `SyncStep.ask` and the warehouse do; a `StepResult`
counts the rows stored and the HTTP requests made. Tests and tools that need no run records call them directly.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import NamedTuple, TypeVar

from orcost_pipeline.errors import ClockError, ForbiddenError, PermanentError
from orcost_pipeline.openrouter.api.client import KeyListing, OpenRouter
from orcost_pipeline.openrouter.api.failures import allowed
from orcost_pipeline.openrouter.api.paging import Listing
from orcost_pipeline.openrouter.api.records import ApiKey, Credits, KeyInfo
from orcost_pipeline.openrouter.reading import ListedKey, UsageReading
from orcost_pipeline.openrouter.usage import read_usage
from orcost_pipeline.sync import identity, wire_rows
from orcost_pipeline.sync.in_force import FilesInForce
from orcost_pipeline.sync.kept_usage import KeptUsage
from orcost_pipeline.sync.sync_step import StepResult, SyncStep
from orcost_pipeline.sync.wire_rows import Table
from orcost_pipeline.warehouse import raw, runs
from orcost_pipeline.warehouse.publication import Publication, publication, publish
from orcost_pipeline.warehouse.questions import extracted
from orcost_pipeline.warehouse.questions.extracted import ExtractedKey
from orcost_pipeline.warehouse.questions.sync_state import StoredKey, StoredUsage
from orcost_pipeline.warehouse.questions.syncs import run_status
from orcost_pipeline.windows import first_analytics_day, is_future, surely_one_day

MODELS_EVERY = timedelta(days=1)
# Unlisted keys to look up before all the others: with a key of another account, none of them answers.
MISSING_KEYS_ASKED_FIRST = 8

T = TypeVar("T")


class Published(NamedTuple):
    """The result of a publication: rows written by table, the names of the contract checks that ran, and whether it was
    a sync rather than stored usage attributed anew."""

    rows: Mapping[str, int]
    checks: frozenset[str]
    is_sync: bool


def read_account(step: SyncStep) -> StepResult:
    """Reads the key in use and the account's credits (USD).

    Raises PermanentError for an ordinary key of an account that a management key has synced so far.
    """
    (key, reported_credits), requests_made = step.ask(_account)
    known = StoredUsage.of_account(step.engine, step.account.name, step.as_of)
    if not key.can_manage and known.is_managed:
        raise PermanentError(
            f'The key of account "{step.account.name}" is an ordinary key; a management key has synced it so far.\n'
            "An ordinary key reports only itself, so every other key would appear to cost nothing. Put a management "
            f"key into {step.account.api_key_env} (openrouter.ai/settings/management-keys), "
            "or give this key an account of its own: orcost init"
        )
    rows = step.store(["account"], wire_rows.account(key, reported_credits), requests_made)
    if not key.can_manage:
        return StepResult(rows, requests_made, {"note": "An ordinary key: its own cost only, from its counters."})
    if reported_credits is None:
        return StepResult(rows, requests_made, {"balance": "unknown: OpenRouter does not report it for this key"})
    balance = reported_credits.balance_usd
    return StepResult(rows, requests_made, {"balance": "not known" if balance is None else f"{balance:,.2f} USD"})


async def _account(client: OpenRouter) -> tuple[KeyInfo, Credits | None]:
    key = await client.key()
    return key, await allowed(client.credits()) if key.can_manage else None


def read_workspaces(step: SyncStep) -> StepResult:
    """Reads the workspaces. Those that OpenRouter does not list for this key keep the name last known."""
    return _read_listing(
        step, "workspace", raw.WORKSPACES_REFUSED, lambda client: client.workspaces(), wire_rows.workspaces
    )


def read_members(step: SyncStep) -> StepResult:
    """Reads the members of the organization. Those that are not listed for this key keep the e-mail last known."""
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
    """Reads a listing with a management key; where it is not whole, the extraction gets the mark `refused`."""
    listing, requests_made = Listing([], is_whole=True), 0
    if step.has_management_key:
        listing, requests_made = step.ask(question)
    rows = step.store([relation] if listing.is_whole else [relation, refused], rows_of(listing.rows), requests_made)
    return StepResult(rows, requests_made, {} if listing.is_whole else _NOT_LISTED)


_NOT_LISTED = {"note": "OpenRouter does not list all of them for this key."}


def read_models(step: SyncStep) -> StepResult:
    """Reads list prices (USD per token), at most once a day."""
    if _models_are_fresh(step):
        return StepResult(0, 0, {"note": "Read less than a day ago."})
    models, requests_made = step.ask(lambda client: allowed(client.models()))
    if models is None:
        return StepResult(0, requests_made, _NOT_LISTED)
    return StepResult(step.store(["model"], wire_rows.models(models), requests_made), requests_made)


def _models_are_fresh(step: SyncStep) -> bool:
    with step.engine.connect() as connection:
        newest = raw.newest_as_of(connection, "model", step.account.name, step.as_of)
    return newest is not None and newest > step.as_of - MODELS_EVERY


def read_api_keys(step: SyncStep) -> StepResult:
    """Reads the keys of all workspaces. A key that is no longer listed is requested by its hash: a 404 proves that it
    was deleted, unless its workspace does not list its keys (D43). Without a listing of workspaces, those of the stored
    keys are read too.

    An ordinary key lists only itself; other keys are then not taken for deleted. Raises OtherAccountError or
    AccountTwiceError for a key of another account.
    """
    asked_at = step.clock()
    if step.has_management_key:
        listed_workspaces = step.latest("workspace", extracted.listed_workspaces)
        known = StoredUsage.of_account(step.engine, step.account.name, step.as_of).known_keys()
        active = {key_hash: key.workspace_id for key_hash, key in known.items() if key.deleted_at is None}
        workspace_ids: list[str | None] = [*listed_workspaces]
        if not listed_workspaces or step.is_marked("workspace", raw.WORKSPACES_REFUSED):
            workspace_ids += [None, *sorted({id_ for id_ in active.values() if id_})]
        require = partial(_require_same_account, step)
        (listed, deleted), requests_made = step.ask(lambda client: _keys(client, workspace_ids, active, require))
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
    """Raises where the keys belong to another OpenRouter account, before any usage is read."""
    row = step.latest("account", extracted.extracted_account)
    is_managed = step.has_management_key
    workspaces = step.latest("workspace", extracted.listed_workspaces)
    reported = identity.reported_evidence(listed, workspaces, row.organization_id, None)._replace(
        credits_total_usd=row.credits_total_usd, credits_used_usd=row.credits_used_usd
    )
    with step.engine.connect() as connection:
        identity.require_same_account(
            connection, step.account, reported, "Nothing was published", is_managed=is_managed
        )


async def _keys(
    client: OpenRouter,
    workspace_ids: Sequence[str | None],
    active: Mapping[str, str | None],
    require_same_account: Callable[[Sequence[ApiKey]], None],
) -> tuple[KeyListing, list[str]]:
    """Keys that are listed or answer by hash, and the hashes of deleted keys.

    active: the stored active keys by hash, with their workspaces. One that neither answers nor is proven deleted is in
    neither result and stays as stored. A few unlisted keys are looked up before the others, to check the account.
    """
    listing = await client.api_keys(workspace_ids)
    missing = sorted(active.keys() - {key.hash for key in listing.keys})
    few, others = missing[:MISSING_KEYS_ASKED_FIRST], missing[MISSING_KEYS_ASKED_FIRST:]
    found = await _keys_or_refusals(client, few)
    require_same_account(listing.keys + _answering(found))
    found |= await _keys_or_refusals(client, others)
    deleted = [key_hash for key_hash, key in found.items() if key is None and active[key_hash] not in listing.refused]
    return listing._replace(keys=listing.keys + _answering(found)), deleted


async def _keys_or_refusals(client: OpenRouter, key_hashes: Sequence[str]) -> dict[str, ApiKey | ForbiddenError | None]:
    answers = await asyncio.gather(*(_key_or_refusal(client, key_hash) for key_hash in key_hashes))
    return dict(zip(key_hashes, answers, strict=True))


def _answering(found: Mapping[str, ApiKey | ForbiddenError | None]) -> list[ApiKey]:
    return [key for key in found.values() if isinstance(key, ApiKey)]


async def _key_or_refusal(client: OpenRouter, key_hash: str) -> ApiKey | ForbiddenError | None:
    try:
        return await client.api_key(key_hash)
    except ForbiddenError as error:
        return error


def read_usage_of_account(step: SyncStep, since: date | None = None) -> tuple[UsageReading, int]:
    """Reads and stores usage by hour and by day together: the hours of a changed day are read again with it.

    A rebuild reads everything that the API still reports. Returns the reading and the number of HTTP requests.
    """
    stored = StoredUsage.of_account(step.engine, step.account.name, step.as_of)
    if stored.is_rebuild_requested:
        since = first_analytics_day(step.as_of)
    known = stored.known_keys()
    rows = step.latest("api_key", extracted.extracted_keys)
    counters_day = rows[0].counters_day if rows else None
    is_full = stored.lacks_full_reading
    kept = KeptUsage.resumed(step)
    reading, requests_made = (
        step.ask(
            lambda client: read_usage(
                client,
                stored,
                kept,
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
    # Reading again since a day is no pass over everything.
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
    step.complete(relations, wire_rows.usage(reading), kept.rows, requests_made)
    kept.forget_left()
    return reading, requests_made


def _listed(row: ExtractedKey, known: Mapping[str, StoredKey]) -> ListedKey:
    """A key as listed; without a name it has the last known one, or else its label."""
    before = known.get(row.key_hash)
    return ListedKey(
        key_hash=row.key_hash,
        name=row.name or (before.name if before else row.label),
        label=row.label,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        usage_usd=row.usage_usd,
        byok_usage_usd=row.byok_usage_usd,
    )


def publish_account(step: SyncStep) -> Published:
    """Publishes one account in one transaction; returns the rows written and the checks that ran.

    Where a newer sync was published meanwhile, `step.tell` says so. Raises PermanentError for an account never synced
    and for an incomplete reading, ClockError for one from the future, ContractError where a check fails.
    """
    now = step.clock()
    with publication(
        step.engine,
        step.account.name,
        step.extraction_id,
        step.run_id,
        now,
        step.tolerance_usd,
        FilesInForce(),
        step.raw_kept,
    ) as publishing:
        if publishing is None:
            raise PermanentError(
                f'Nothing to publish for account "{step.account.name}": it was never synced. Launch hourly_sync for it.'
            )
        is_sync = run_status(publishing.connection, step.run_id, step.account.name) is not None
        if is_sync:
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
        return Published(publishing.rows, checks, is_sync)


def _require_published(publishing: Publication, now: datetime, tell: Callable[[str], None]) -> None:
    """Raises PermanentError for an incomplete reading, ClockError for one from the future.

    A sync overtaken by a newer one is no failure: its usage is already published, or superseded.
    """
    what = f'Nothing of this sync of account "{publishing.account}" was published'
    again = "Sync again: orcost sync"
    if publishing.extracted is None:
        raise PermanentError(f"{what}: what it read is not whole. {again}")
    if is_future(publishing.extracted, now):
        raise ClockError.was_ahead(publishing.extracted, now)
    if not publishing.is_extraction:
        tell(f"{what}: a newer one is, complete to {publishing.as_of:%Y-%m-%d %H:%M} UTC.")
