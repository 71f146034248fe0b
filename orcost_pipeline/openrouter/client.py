"""One OpenRouter account over HTTP: its endpoints, paging, splitting of what is too much for one answer.

What belongs here: one method an endpoint, each answering typed rows, whole or not at all. What stays out: what to ask
and when (`usage.py`), tables, Dagster. The key lives in one header of one client: in no URL, message, log or repr.
"""

import asyncio
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar, Unpack

from pydantic import SecretStr

from orcost_pipeline.errors import ContractError, ForbiddenError, OrcostError
from orcost_pipeline.openrouter import values
from orcost_pipeline.openrouter.failures import NotFoundError, RefusedError, TooSlowError
from orcost_pipeline.openrouter.limits import Limits, half
from orcost_pipeline.openrouter.progress import Progress
from orcost_pipeline.openrouter.records import (
    METRICS,
    TOTAL_METRIC,
    ActivityRow,
    ApiKey,
    Credits,
    KeyInfo,
    Member,
    Model,
    R,
    Read,
    Unreadable,
    UsageCell,
    Workspace,
    parse,
    parse_all,
    read,
    usage_cells,
)
from orcost_pipeline.openrouter.requests import ANALYTICS, RequestOptions, Requests
from orcost_pipeline.windows import CLOCK_WRONG, DAY, HOUR, Window, ceil, floor

log = logging.getLogger(__name__)

PAGE = 100
# A listing that goes on for longer never ends: it would be 100,000 rows.
PAGES = 1_000
# A listing that moves under way is walked again, so often; its keys are then those that any walk met.
WALKS = 3
# The API's own ceiling for one answer; the default of 1000 would truncate sooner.
ROW_LIMIT = 10_000
# A cap that no answer tells would be a round number: an answer of a multiple of this many rows is asked for in parts.
ROUND_ROWS = 500
# The clocks of the server's own machines differ by less.
SERVERS_DIFFER = timedelta(seconds=1)
# How often a question is asked whose answers come out of OpenRouter's cache, each time by another body.
UNCACHED_TRIES = 3
_GRANULARITY = {HOUR: "hour", DAY: "day"}
_HASH = re.compile(r"[0-9a-f]{8,64}")

Counted = TypeVar("Counted", Workspace, Member)
T = TypeVar("T")


async def allowed(question: Awaitable[T]) -> T | None:
    """The answer; None where OpenRouter does not give it to this key (403), or the account has no such thing (404)."""
    try:
        return await question
    except (ForbiddenError, NotFoundError):
        return None


class Listing(NamedTuple, Generic[T]):
    """Rows of a listing; not whole where OpenRouter does not tell all of them, or any, to the key that asks."""

    rows: list[T]
    is_whole: bool


class KeyListing(NamedTuple):
    """Living keys, each hash once, and the workspaces that do not tell theirs to the key that asks."""

    keys: list[ApiKey]
    refused: frozenset[str]


class AccountKeys(NamedTuple):
    """Living keys of the whole account, and its workspaces."""

    keys: list[ApiKey]
    workspaces: Listing[Workspace]
    refused: frozenset[str]

    @property
    def is_whole(self) -> bool:
        """Whether nothing was refused: where something was, keys may be missing."""
        return self.workspaces.is_whole and not self.refused


@dataclass(frozen=True)
class UsageAnswer:
    """Cells of one question, and the key hashes that OpenRouter could not resolve.

    told_from: where analytics do not reach back to the start of the window, the first hour (or day) that they tell.
    cached_at: where the answer came out of the server's cache, when the server had made it (its clock).
    """

    cells: list[UsageCell]
    unresolved: frozenset[str]
    told_from: datetime | None = None
    cached_at: datetime | None = None


class _UsageQuestion(NamedTuple):
    """What is asked of analytics in a window: by what, of which keys (None: the whole account), by hour or by day.

    `key_parts`: in how many parts the keys that were asked for at first are divided.
    """

    dimensions: tuple[str, ...]
    keys: tuple[str, ...] | None
    grain: timedelta
    key_parts: int = 1

    @property
    def key_count(self) -> int:
        """How many keys are named."""
        return len(self.keys or ())


class _AnalyticsAnswer(NamedTuple):
    """An analytics answer, the limit of rows that was asked for, and when it was made where it is a cached one."""

    body: dict[str, Any]
    limit: int
    cached_at: datetime | None


class _Page(NamedTuple):
    """Rows of a listing (`Read`) by their identity, and how many it has in all, where it tells."""

    rows: list[tuple[str, Any]]
    total: int | None


class _Walk(NamedTuple):
    """Rows of one walk through a listing, whether any moved under way, and whether more were promised than came."""

    rows: dict[str, Any]
    has_moved: bool
    misses_rows: bool


PageAt = Callable[[int], Awaitable[_Page]]


class OpenRouter(Requests):
    """An account's API, as an async context manager: one method an endpoint, each answering typed rows.

    `unreadable` counts the rows in which a field could not be read.
    """

    def __init__(self, account: str, api_key: SecretStr, base_url: str, **options: Unpack[RequestOptions]) -> None:
        super().__init__(account, api_key, base_url, **options)
        self.progress = Progress(lambda told: None)
        self.unreadable: dict[Unreadable, int] = {}
        self._metrics = [*METRICS, TOTAL_METRIC]
        self._metrics_are_known = False
        self._can_list_expired = True
        self._limits = Limits()
        # The newest instant of the server's clock that an analytics answer told.
        self._heard = datetime.min.replace(tzinfo=UTC)
        # OpenRouter caches analytics answers by the body of the request. Each time that a question is repeated its
        # `limit` is lower by one: such a body has no cached answer. Counted here is how often each was asked.
        self._times_asked: Counter[tuple[Window, _UsageQuestion]] = Counter()
        self._new_bodies_help = True

    # ── what an account has ──────────────────────────────────────────────────────────────────────────────────────────

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
        told = {_identity(it, str(i)): it for i, it in enumerate(it for listing in listings for it in listing or ())}
        return KeyListing(self._usable_rows("GET /keys", told.values()), refused)

    async def account_keys(self) -> AccountKeys:
        """Every living key of every workspace that this key is told of, and the workspaces."""
        workspaces = await self.workspaces()
        ids: list[str | None] = [workspace.id for workspace in workspaces.rows]
        listing = await self.api_keys(ids if workspaces.is_whole else [*ids, None])
        return AccountKeys(listing.keys, workspaces, listing.refused)

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

    # ── what it used ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def activity(self, key_hash: str | None = None) -> list[ActivityRow] | None:
        """The last 30 completed UTC days of the account or of one key, by model and endpoint; None for a 403 or 404."""
        params = {} if key_hash is None else {"api_key_hash": key_hash}
        told = await allowed(self._all(ActivityRow, "activity", params))
        return None if told is None else self._usable_rows("GET /activity", told, key_hash, "day")

    async def usage(
        self,
        window: Window,
        dimensions: Sequence[str],
        keys: Sequence[str] | None = None,
        *,
        grain: timedelta = HOUR,
    ) -> UsageAnswer:
        """Usage inside `window` by hour or by day, of `keys` (hashes) or of the whole account, whole: a truncated
        answer is asked again in smaller windows, then for fewer keys, and so is a question that is refused. Raises
        ContractError where one hour (or day) does not fit, RefusedError where nothing of the window is told."""
        question = _UsageQuestion(tuple(dimensions), keys if keys is None else tuple(keys), grain)
        return await self._usage(window, question)

    async def _usage(self, window: Window, question: _UsageQuestion) -> UsageAnswer:
        """From the newest part to the oldest, so that what analytics do not reach any more comes last."""
        if question.key_count > (self._limits.most_keys or question.key_count):
            return await self._usage_of_fewer(window, question)
        limits = self._limits.grains[question.grain]
        rest = Window(max(window.start, limits.told_from or window.start), window.end)
        size = min(limits.longest or window.end - window.start, window.end - window.start)
        answers: list[UsageAnswer] = []
        while rest.start < rest.end:
            part = _end_of(rest, size, question.grain)
            metrics = self._metrics
            try:
                answers.append(await self._usage_once(part, question))
                self._note_answer(part, question)
                self.progress.done((part.end - part.start) / HOUR / question.key_parts)
                rest = Window(rest.start, part.start)
            except _NotWholeError as not_whole:
                # The smaller size is kept for the hours before: they are as dense as those after.
                size = half(part, question.grain) or size
                if size < part.end - part.start:
                    continue
                if question.key_count > 1:
                    answers.append(await self._usage_of_fewer(rest, question))
                    break
                answers.append(not_whole.answer_or_raise())
                rest = Window(rest.start, part.start)
            except RefusedError as refused:
                if await self._metrics_were_dropped(metrics):
                    continue
                smaller = self._size_after_refusal(part, question)
                if smaller is None:
                    answers.append(await self._usage_refused(rest, part, question, refused))
                    break
                size = smaller
        return _joined(answers, limits.told_from if limits.told_from and limits.told_from > window.start else None)

    def _note_answer(self, window: Window, question: _UsageQuestion) -> None:
        self._limits.grains[question.grain].note_answer(window)
        self._limits.keys_answered = max(self._limits.keys_answered, question.key_count)

    def _size_after_refusal(self, part: Window, question: _UsageQuestion) -> timedelta | None:
        limits = self._limits.grains[question.grain]
        size = limits.size_after_refusal(part)
        # Too many keys may be why: then nothing is learnt of windows.
        if size and part.end - part.start > limits.answered and question.key_count <= self._limits.keys_answered:
            limits.longest = size
        return size

    async def _usage_refused(
        self, rest: Window, part: Window, question: _UsageQuestion, refused: RefusedError
    ) -> UsageAnswer:
        """What is left where no smaller window helps: fewer keys, or nothing where hours are too old. Else it raises.

        rest: what is not answered; part: the end of it, which was refused.
        """
        limits = self._limits.grains[question.grain]
        if question.key_count > 1 and (
            question.key_count > self._limits.keys_answered or limits.is_within_answered(part)
        ):
            self._limits.most_keys = question.key_count // 2
            return await self._usage_of_fewer(rest, question)
        if limits.oldest is None or limits.is_within_answered(part):
            raise refused
        limits.told_from = max(part.end, limits.oldest)
        log.info("account %s: analytics by %s reach back to %s", self.account, _GRANULARITY[question.grain], part.end)
        return UsageAnswer([], frozenset())

    async def _usage_of_fewer(self, window: Window, question: _UsageQuestion) -> UsageAnswer:
        """The same question for each half of the keys."""
        keys = question.keys or ()
        middle = len(keys) // 2
        key_parts = question.key_parts * 2
        halves = (
            self._usage(window, question._replace(keys=part, key_parts=key_parts))
            for part in (keys[:middle], keys[middle:])
        )
        return _joined(await asyncio.gather(*halves))

    async def _usage_once(self, window: Window, question: _UsageQuestion) -> UsageAnswer:
        """One analytics question; raises _NotWholeError where the answer misses rows or takes the server too long."""
        try:
            body, limit, cached_at = await self._answer(window, question)
        except TooSlowError as error:
            raise _NotWholeError(error) from None
        asked = self._of_account("POST /analytics/query")
        # Whether the end of a range is inclusive is not documented: an hour belongs to the window that holds its start.
        first = floor(window.start, question.grain)
        told, lost = usage_cells(body["data"], _GRANULARITY[question.grain], asked)
        self.note({Unreadable(f"POST /{ANALYTICS}", column): rows for column, rows in lost.items()})
        cells = [cell._replace(at=floor(cell.at, question.grain)) for cell in told if first <= cell.at < window.end]
        unresolved = _unresolved(body.get("warnings"), question.keys or ())
        answer = UsageAnswer(cells, unresolved, cached_at=cached_at)
        is_truncated, odd = _is_truncated(body, limit)
        self.note({Unreadable(f"POST /{ANALYTICS}", f"metadata.{field}"): 1 for field in odd})
        if is_truncated or (body["data"] and len(body["data"]) % ROUND_ROWS == 0):
            error = ContractError(
                f"{asked} has more than {len(body['data']) or limit} rows for one {_GRANULARITY[question.grain]} "
                f"({window.start:%Y-%m-%d %H:%M} UTC) "
                "and cannot be split further; nothing was published."
            )
            raise _NotWholeError(error, None if is_truncated else answer)
        return answer

    async def _answer(self, window: Window, question: _UsageQuestion) -> _AnalyticsAnswer:
        """One analytics answer, as new as the question where that can be had.

        A cached answer may come although the body was new. Then the question is repeated by other bodies, unless they
        were of no use to another question.
        """
        answer = await self._answer_past_the_cache(window, question)
        tries = 1
        while answer.cached_at and self._new_bodies_help and tries < UNCACHED_TRIES:
            answer = await self._answer_past_the_cache(window, question)
            tries += 1
        if answer.cached_at:
            self._new_bodies_help = False
            log.info("account %s: analytics answer what they made at %s", self.account, answer.cached_at)
        return answer

    async def _answer_past_the_cache(self, window: Window, question: _UsageQuestion) -> _AnalyticsAnswer:
        """The answer to a body that was never sent: its limit of rows is one that the question never had. It is a
        cached one all the same where it was made before what was heard of the server's clock until then, or before the
        end of what is asked for."""
        asked_at = max(self._heard, window.end - CLOCK_WRONG)
        limit = ROW_LIMIT - self._times_asked[window, question]
        self._times_asked[window, question] += 1
        body = await self._analytics(window, question, limit)
        if not isinstance(body, dict) or not isinstance(body.get("data"), list):
            raise ContractError(f"{self._of_account('POST /analytics/query')} answered no rows at data.data.")
        made_at = _made_at(body)
        self._heard = max(self._heard, made_at or self._heard)
        is_cached = made_at is not None and made_at < asked_at - SERVERS_DIFFER
        return _AnalyticsAnswer(body, limit, made_at if is_cached else None)

    async def _analytics(self, window: Window, question: _UsageQuestion, limit: int) -> Any:
        asked: dict[str, Any] = {
            "metrics": self._metrics,
            "dimensions": list(question.dimensions),
            "granularity": _GRANULARITY[question.grain],
            "time_range": {"start": _timestamp(window.start), "end": _timestamp(window.end)},
            "limit": limit,
        }
        if question.keys is not None:
            asked["filters"] = [{"field": "api_key_id", "operator": "in", "value": list(question.keys)}]
        has_parts = len(question.keys or ()) > 1 or window.halves(question.grain) is not None
        body = await self._request("POST", ANALYTICS, has_parts=has_parts, json=asked)
        return self._data(body, f"POST /{ANALYTICS}")

    async def _metrics_were_dropped(self, asked: list[str]) -> bool:
        """Whether metrics that this account does not know were taken out of what the refused question asked."""
        if self._metrics_are_known:
            return asked != self._metrics
        meta = self._data(await self._get("analytics/meta"), "GET /analytics/meta")
        metrics = meta.get("metrics") if isinstance(meta, dict) else None
        known = {str(metric.get("name")) for metric in metrics or () if isinstance(metric, dict)}
        self._metrics_are_known = True
        kept = [metric for metric in asked if metric in known]
        if kept == asked or not {"request_count", "credits_usage", "byok_usage"} <= set(kept):
            return False
        log.info("account %s: analytics has no %s", self.account, sorted(set(asked) - set(kept)))
        self._metrics = kept
        return True

    # ── reading an answer ────────────────────────────────────────────────────────────────────────────────────────────

    def _data(self, body: dict[str, Any], endpoint: str) -> Any:
        if "data" not in body:
            raise ContractError(f"{self._of_account(endpoint)} answered no data.")
        return body["data"]

    async def _one(self, kind: type[R], path: str) -> R:
        """The row at a path."""
        return self._needed(kind, self._data(await self._get(path), f"GET /{path}"), f"GET /{path}")

    async def _all(self, kind: type[R], path: str, params: dict[str, str] | None = None) -> list[Read[R]]:
        """All rows of an answer that has no pages."""
        asked = f"GET /{path}"
        return parse_all(kind, self._data(await self._get(path, params), asked), self._of_account(asked))

    def _needed(self, kind: type[R], value: Any, endpoint: str) -> R:
        return self._usable_rows(endpoint, [parse(kind, value, self._of_account(endpoint))])[0]

    # ── what could not be read ───────────────────────────────────────────────────────────────────────────────────────

    def _usable_rows(
        self, endpoint: str, told: Iterable[Read[R]], key_hash: str | None = None, grain: str | None = None
    ) -> list[R]:
        """The rows that are of use, once what they lack is noted."""
        told = list(told)
        self.note(
            Counter(
                Unreadable(endpoint, field, key_hash or getattr(row, "hash", None), grain, at)
                for row, unread, at in told
                for field in unread
            )
        )
        return [row for row, _, _ in told if row is not None]

    def note_cells(self, cells: Iterable[UsageCell], key_hash: str | None, grain: timedelta) -> None:
        """Notes what an answer about a key, or about the whole account, lacks."""
        endpoint, name = f"POST /{ANALYTICS}", "past_day" if grain == DAY else "hour"
        self.note(
            Counter(
                Unreadable(endpoint, column, key_hash, name, cell.at if column in METRICS else None)
                for cell in cells
                for column in cell.unread
            )
        )

    def note(self, rows: Mapping[Unreadable, int]) -> None:
        """Counts rows; the same question put again does not count twice."""
        for unreadable, count in rows.items():
            self.unreadable[unreadable] = max(count, self.unreadable.get(unreadable, 0))

    # ── paging ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _workspace_keys(self, workspace_id: str | None) -> list[Read[ApiKey]]:
        async def page_at(offset: int) -> _Page:
            page = await self._key_page(workspace_id, offset)
            return _Page([(_identity(it, str(offset + i)), it) for i, it in enumerate(page)], None)

        rows, missing = await self._pages("GET /keys", page_at)
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

    async def _counted_pages(self, path: str, kind: type[Counted]) -> Listing[Counted]:
        """All pages of a listing that may tell its `total_count`, which may count rows that this key is not told."""

        async def page_at(offset: int) -> _Page:
            body = await self._get(path, {"offset": str(offset), "limit": str(PAGE)})
            rows = parse_all(kind, self._data(body, f"GET /{path}"), self._of_account(f"GET /{path}"))
            total = body.get("total_count")
            named = [(_identity(it, str(offset + i)), it) for i, it in enumerate(rows)]
            return _Page(named, total if isinstance(total, int) and not isinstance(total, bool) else None)

        try:
            rows, misses_rows = await self._pages(f"GET /{path}", page_at)
        except NotFoundError:
            return Listing([], is_whole=True)
        except ForbiddenError:
            return Listing([], is_whole=False)
        return Listing(self._usable_rows(f"GET /{path}", rows), not misses_rows)

    async def _pages(self, endpoint: str, page_at: PageAt) -> tuple[list[Any], bool]:
        """All rows of a listing, each once, also where some are made or deleted while it is walked; and whether it
        promised more rows than came. Raises ContractError for a listing that does not end.
        """
        met: dict[str, Any] = {}
        where = self._of_account(endpoint)
        walk = _Walk({}, has_moved=True, misses_rows=False)
        for _ in range(WALKS):
            walk = await _walk(page_at, where)
            met |= walk.rows
            if not walk.has_moved:
                break
        return list((met if walk.has_moved or walk.misses_rows else walk.rows).values()), walk.misses_rows


def _identity(told: Read[Any], place: str) -> str:
    """What tells a row of a listing from the others; where that cannot be read, its place, so that it counts."""
    return place if told.row is None else getattr(told.row, "hash", None) or told.row.id


async def _walk(page_at: PageAt, where: str) -> _Walk:
    """Page after page, each from the last row of the one before: a page that does not begin with it has moved."""
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


class _NotWholeError(Exception):
    """An answer that must be asked for in smaller parts; where it has none, the answer if nothing says that rows are
    missing, else the error to raise."""

    def __init__(self, error: OrcostError, answer: UsageAnswer | None = None) -> None:
        super().__init__(str(error))
        self._error = error
        self._answer = answer

    def answer_or_raise(self) -> UsageAnswer:
        if self._answer is None:
            raise self._error
        return self._answer


def _end_of(window: Window, size: timedelta, grain: timedelta) -> Window:
    """The newest part of a window, about so long and beginning on a whole hour (or day)."""
    is_whole = size >= window.end - window.start
    return window if is_whole else Window(max(window.start, ceil(window.end - size, grain)), window.end)


def _joined(answers: Sequence[UsageAnswer], told_from: datetime | None = None) -> UsageAnswer:
    cells = [cell for answer in answers for cell in answer.cells]
    starts = [start for start in (told_from, *(answer.told_from for answer in answers)) if start]
    made = [answer.cached_at for answer in answers if answer.cached_at]
    return UsageAnswer(
        cells,
        frozenset().union(*(answer.unresolved for answer in answers)),
        max(starts, default=None),
        min(made, default=None),
    )


def _made_at(body: dict[str, Any]) -> datetime | None:
    """When the server made the answer, by its own clock; None where it does not say so."""
    try:
        return values.happened(body["cachedAt"])
    except (KeyError, ValueError):
        return None


def _is_truncated(body: dict[str, Any], limit: int) -> tuple[bool, list[str]]:
    """Whether an analytics answer misses rows: by its own word, or because it has as many as the limit that was asked
    for or that it tells, or fewer than it counts; and the metadata that cannot be read, which are as if not told."""
    metadata, odd = body.get("metadata") or {}, []

    def read(name: str, reader: Callable[[Any], int]) -> int:
        try:
            told = values.fields(metadata).get(name)
            return 0 if told is None else reader(told)
        except ValueError:
            odd.append(name)
            return 0

    rows, row_count, cap = len(body["data"]), read("row_count", values.count), read("limit", values.count)
    limit = cap if 0 < cap < limit else limit
    return bool(read("truncated", values.flag)) or max(rows, row_count) >= limit or row_count > rows, odd


def _timestamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unresolved(warnings: Any, keys: Sequence[str]) -> frozenset[str]:
    """Those of `keys` that a warning names, in full or by a prefix."""
    lines = warnings if isinstance(warnings, list) else [warnings or ""]
    named = [match for line in lines for match in _HASH.findall(str(line))]
    return frozenset(key for key in keys if any(key.startswith(prefix) for prefix in named))
