"""`POST /analytics/query`: usage in a window, whole. A truncated, refused or cached answer is asked again, in smaller
windows, for fewer keys, or with another body.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Unpack

from pydantic import SecretStr

from orcost_pipeline.errors import ContractError, OrcostError
from orcost_pipeline.openrouter import values
from orcost_pipeline.openrouter.endpoints import Endpoints
from orcost_pipeline.openrouter.failures import RefusedError, TooSlowError
from orcost_pipeline.openrouter.limits import Limits, half
from orcost_pipeline.openrouter.records import METRICS, TOTAL_METRIC, Unreadable, UsageCell, usage_cells
from orcost_pipeline.openrouter.requests import ANALYTICS, RequestOptions
from orcost_pipeline.windows import CLOCK_WRONG, DAY, HOUR, Window, ceil, floor

log = logging.getLogger(__name__)

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


class UsageEndpoint(Endpoints):
    """Asks analytics for usage, and remembers what the server's limits turned out to be."""

    def __init__(self, account: str, api_key: SecretStr, base_url: str, **options: Unpack[RequestOptions]) -> None:
        super().__init__(account, api_key, base_url, **options)
        self._metrics = [*METRICS, TOTAL_METRIC]
        self._metrics_are_known = False
        self._limits = Limits()
        # The newest instant of the server's clock that an analytics answer told.
        self._heard = datetime.min.replace(tzinfo=UTC)
        # OpenRouter caches analytics answers by the body of the request. Each time that a question is repeated its
        # `limit` is lower by one: such a body has no cached answer. Counted here is how often each was asked.
        self._times_asked: Counter[tuple[Window, _UsageQuestion]] = Counter()
        self._new_bodies_help = True

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
