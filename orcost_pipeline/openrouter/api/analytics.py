"""`POST /analytics/query`: complete usage in a window. A truncated, refused or cached answer is requested again: in
smaller windows, for fewer keys, or with another body.

What stays out: which windows and keys to ask for (`usage_by_key.py`). No limit and no cache of the endpoint is
documented: what is known of them is learnt from answers (D44).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from orcost_pipeline.errors import ContractError, OrcostError
from orcost_pipeline.openrouter.api.division import Division
from orcost_pipeline.openrouter.api.failures import RefusedError, TooSlowError
from orcost_pipeline.openrouter.api.limits import ROW_LIMIT, Limits
from orcost_pipeline.openrouter.api.progress import Progress
from orcost_pipeline.openrouter.api.records import METRICS, TOTAL_METRIC, Unreadable, UsageCell, usage_cells
from orcost_pipeline.openrouter.api.requests import ANALYTICS, Requests
from orcost_pipeline.openrouter.api.row_reader import RowReader
from orcost_pipeline.openrouter.api.usage_answer import UsageAnswer, joined, truncation, unresolved_keys, when_made
from orcost_pipeline.windows import CLOCK_WRONG, DAY, HOUR, Window, floor

log = logging.getLogger(__name__)

# An undocumented cap would be a round number: an answer with a multiple of this many rows is requested in parts, unless
# a larger one was whole.
ROUND_ROWS = 500
# The clocks of OpenRouter's own machines differ by less.
SERVERS_DIFFER = timedelta(seconds=1)
# How often a question is repeated, each time with another body, while OpenRouter answers from its cache.
UNCACHED_TRIES = 3
# Parts of one window that are asked for at the same time: the server answers one while another is read.
PARTS_AT_ONCE = 8
_GRANULARITY = {HOUR: "hour", DAY: "day"}


class _UsageQuestion(NamedTuple):
    """A question to analytics: dimensions, key hashes (None: the whole account), by hour or by day.

    `key_parts`: into how many parts the original keys are divided.
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
    """An analytics answer, the requested row limit, and for a cached answer when it was made."""

    body: dict[str, Any]
    limit: int
    cached_at: datetime | None


class Analytics:
    """Reads usage from analytics, and remembers the limits that the server turned out to have.

    `progress` receives the hours answered.
    """

    def __init__(self, requests: Requests, rows: RowReader) -> None:
        self.progress = Progress(lambda line: None)
        self._requests = requests
        self._rows = rows
        self._metrics = [*METRICS, TOTAL_METRIC]
        self._metrics_are_known = False
        self._limits = Limits()
        # The newest server-clock instant of any analytics answer.
        self._server_time = datetime.min.replace(tzinfo=UTC)
        # OpenRouter caches analytics answers by request body. Each repetition of a question lowers its `limit` by one,
        # so that its body has no cached answer. This counts the requests per question.
        self._times_asked: Counter[tuple[Window, _UsageQuestion]] = Counter()
        self._new_bodies_help = True

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

        `most_rows` says how many rows each hour (or day) can have at most, by its start: the window is then divided so
        that answers are not truncated. An answer that is, or that is refused, is requested again in smaller windows,
        then for fewer keys. Raises ContractError where a single hour (or day) does not fit one answer, RefusedError
        where nothing of the window is reported.
        """
        question = _UsageQuestion(tuple(dimensions), keys if keys is None else tuple(keys), grain)
        return await self._usage(window, question, most_rows)

    async def _usage(
        self, window: Window, question: _UsageQuestion, most_rows: Mapping[datetime, int] | None
    ) -> UsageAnswer:
        """Asks from the newest part to the oldest, so that hours beyond the reach of analytics come last."""
        if question.key_count > (self._limits.most_keys or question.key_count):
            return await self._usage_of_fewer(window, question, most_rows)
        division = Division(window, question.grain, self._limits, most_rows)
        answers: list[UsageAnswer] = []
        while division.rest.start < division.rest.end:
            metrics = self._metrics
            for part, outcome in await self._outcomes(division.parts(PARTS_AT_ONCE), question):
                if isinstance(outcome, UsageAnswer):
                    answers.append(outcome)
                    self._note_answer(part, question)
                    division.note_answer(part, len(outcome.cells))
                    self.progress.done((part.end - part.start) / HOUR / question.key_parts)
                    continue
                # Answers about later parts are left: the rest is divided anew.
                if isinstance(outcome, RefusedError):
                    if not await self._metrics_were_dropped(metrics):
                        answers += await self._after_refusal(division, part, question, outcome)
                elif isinstance(outcome, _NotWholeError):
                    answers += await self._after_part_of_an_answer(division, part, question, outcome)
                else:
                    raise outcome
                break
        first = self._limits.grains[question.grain].reported_from
        return joined(answers, first if first and first > window.start else None)

    async def _outcomes(
        self, parts: Sequence[Window], question: _UsageQuestion
    ) -> list[tuple[Window, UsageAnswer | BaseException]]:
        """Asks for all parts at the same time; each with its answer, or what was raised instead."""
        outcomes = await asyncio.gather(*(self._usage_once(it, question) for it in parts), return_exceptions=True)
        return list(zip(parts, outcomes, strict=True))

    async def _after_part_of_an_answer(
        self, division: Division, part: Window, question: _UsageQuestion, not_whole: "_NotWholeError"
    ) -> list[UsageAnswer]:
        """Makes the next part shorter; where that is impossible, the answer for fewer keys, or as much as there is."""
        if not_whole.answer is not None:
            division.doubt(part, len(not_whole.answer.cells))
        if division.shorten(part, is_truncated=not_whole.is_truncated, is_slow=not_whole.is_slow):
            return []
        if question.key_count > 1:
            return [await self._usage_of_fewer(division.take_rest(), question, division.most_rows)]
        answer = not_whole.answer_or_raise()
        division.skip(part, len(answer.cells))
        return [answer]

    async def _after_refusal(
        self, division: Division, part: Window, question: _UsageQuestion, refused: RefusedError
    ) -> list[UsageAnswer]:
        """Makes the next part shorter; where no smaller window helps, the answer for fewer keys, or an empty one where
        the hours are too old. Else raises."""
        smaller = self._size_after_refusal(part, question)
        if smaller is not None:
            division.limit(smaller)
            return []
        limits, rest = self._limits.grains[question.grain], division.take_rest()
        if question.key_count > 1 and (
            question.key_count > self._limits.keys_answered or limits.is_within_answered(part)
        ):
            self._limits.most_keys = question.key_count // 2
            return [await self._usage_of_fewer(rest, question, division.most_rows)]
        if limits.oldest is None or limits.is_within_answered(part):
            raise refused
        limits.reported_from = max(part.end, limits.oldest)
        log.info(
            "account %s: analytics by %s reach back to %s",
            self._requests.account,
            _GRANULARITY[question.grain],
            part.end,
        )
        return []

    def _note_answer(self, window: Window, question: _UsageQuestion) -> None:
        self._limits.grains[question.grain].note_answer(window)
        self._limits.keys_answered = max(self._limits.keys_answered, question.key_count)

    def _size_after_refusal(self, part: Window, question: _UsageQuestion) -> timedelta | None:
        limits = self._limits.grains[question.grain]
        size = limits.size_after_refusal(part)
        # Too many keys may be the cause; then nothing is learnt about windows.
        if size and part.end - part.start > limits.answered and question.key_count <= self._limits.keys_answered:
            limits.longest = size
        return size

    async def _usage_of_fewer(
        self, window: Window, question: _UsageQuestion, most_rows: Mapping[datetime, int] | None
    ) -> UsageAnswer:
        """The same question for each half of the keys."""
        keys = question.keys or ()
        middle = len(keys) // 2
        key_parts = question.key_parts * 2
        halves = (
            self._usage(window, question._replace(keys=part, key_parts=key_parts), most_rows)
            for part in (keys[:middle], keys[middle:])
        )
        return joined(await asyncio.gather(*halves))

    async def _usage_once(self, window: Window, question: _UsageQuestion) -> UsageAnswer:
        """One analytics question; raises _NotWholeError where the answer lacks rows or takes the server too long."""
        try:
            body, limit, cached_at = await self._answer(window, question)
        except TooSlowError as error:
            raise _NotWholeError(error, is_slow=True) from None
        where = self._requests.of_account("POST /analytics/query")
        # Whether the end of a range is inclusive is not documented: an hour belongs to the window that holds its start.
        first = floor(window.start, question.grain)
        parsed, lost = usage_cells(body["data"], _GRANULARITY[question.grain], where)
        self._rows.note({Unreadable(f"POST /{ANALYTICS}", column): rows for column, rows in lost.items()})
        starts = {at: floor(at, question.grain) for at in {cell.at for cell in parsed} if first <= at < window.end}
        cells = [
            cell if starts[cell.at] == cell.at else cell._replace(at=starts[cell.at])
            for cell in parsed
            if cell.at in starts
        ]
        unresolved = unresolved_keys(body.get("warnings"), question.keys or ())
        answer = UsageAnswer(cells, unresolved, cached_at=cached_at)
        is_truncated, odd = truncation(body, limit)
        self._rows.note({Unreadable(f"POST /{ANALYTICS}", f"metadata.{field}"): 1 for field in odd})
        count = len(body["data"])
        if is_truncated or (count % ROUND_ROWS == 0 and self._limits.may_cut(count)):
            error = ContractError(
                f"{where} has more than {count or limit} rows for one {_GRANULARITY[question.grain]} "
                f"({window.start:%Y-%m-%d %H:%M} UTC) "
                "and cannot be split further; nothing was published."
            )
            if is_truncated:
                self._limits.note_truncated(count)
            self._limits.note_rows(count)
            raise _NotWholeError(error, None if is_truncated else answer, is_truncated=is_truncated)
        self._limits.note_whole(count)
        return answer

    async def _answer(self, window: Window, question: _UsageQuestion) -> _AnalyticsAnswer:
        """One analytics answer, uncached if possible.

        A new body may still get a cached answer. Then the question is repeated with other bodies, unless those did not
        help an earlier question.
        """
        answer = await self._answer_past_the_cache(window, question)
        tries = 1
        while answer.cached_at and self._new_bodies_help and tries < UNCACHED_TRIES:
            answer = await self._answer_past_the_cache(window, question)
            tries += 1
        if answer.cached_at:
            self._new_bodies_help = False
            log.info("account %s: analytics answer what they made at %s", self._requests.account, answer.cached_at)
        return answer

    async def _answer_past_the_cache(self, window: Window, question: _UsageQuestion) -> _AnalyticsAnswer:
        """The answer to a body that was never sent before: its row limit is new for the question.

        It still counts as cached where it was made before the newest known server time, or before the end of the
        window.
        """
        asked_at = max(self._server_time, window.end - CLOCK_WRONG)
        limit = ROW_LIMIT - self._times_asked[window, question]
        self._times_asked[window, question] += 1
        body = await self._analytics(window, question, limit)
        if not isinstance(body, dict) or not isinstance(body.get("data"), list):
            raise ContractError(f"{self._requests.of_account('POST /analytics/query')} answered no rows at data.data.")
        made_at = when_made(body)
        self._server_time = max(self._server_time, made_at or self._server_time)
        is_cached = made_at is not None and made_at < asked_at - SERVERS_DIFFER
        return _AnalyticsAnswer(body, limit, made_at if is_cached else None)

    async def _analytics(self, window: Window, question: _UsageQuestion, limit: int) -> Any:
        payload: dict[str, Any] = {
            "metrics": self._metrics,
            "dimensions": list(question.dimensions),
            "granularity": _GRANULARITY[question.grain],
            "time_range": {"start": _timestamp(window.start), "end": _timestamp(window.end)},
            "limit": limit,
        }
        if question.keys is not None:
            payload["filters"] = [{"field": "api_key_id", "operator": "in", "value": list(question.keys)}]
        has_parts = len(question.keys or ()) > 1 or window.halves(question.grain) is not None
        body = await self._requests.send("POST", ANALYTICS, has_parts=has_parts, json=payload)
        return self._rows.data_of(body, f"POST /{ANALYTICS}")

    async def _metrics_were_dropped(self, requested: list[str]) -> bool:
        """Whether metrics unknown to this account were removed from those that the refused request had."""
        if self._metrics_are_known:
            return requested != self._metrics
        meta = await self._rows.data("analytics/meta")
        metrics = meta.get("metrics") if isinstance(meta, dict) else None
        known = {str(metric.get("name")) for metric in metrics or () if isinstance(metric, dict)}
        self._metrics_are_known = True
        kept = [metric for metric in requested if metric in known]
        if kept == requested or not {"request_count", "credits_usage", "byok_usage"} <= set(kept):
            return False
        log.info("account %s: analytics has no %s", self._requests.account, sorted(set(requested) - set(kept)))
        self._metrics = kept
        return True

    def note_cells(self, cells: Iterable[UsageCell], key_hash: str | None, grain: timedelta) -> None:
        """Counts the unreadable columns of an answer about a key, or (None) about the whole account."""
        endpoint, name = f"POST /{ANALYTICS}", "past_day" if grain == DAY else "hour"
        self._rows.note(
            Counter(
                Unreadable(endpoint, column, key_hash, name, cell.at if column in METRICS else None)
                for cell in cells
                for column in cell.unread
            )
        )


class _NotWholeError(Exception):
    """An answer that must be requested in smaller parts. If it cannot be split, it is used where nothing proves that
    rows are missing; otherwise its error is raised."""

    def __init__(
        self,
        error: OrcostError,
        answer: UsageAnswer | None = None,
        *,
        is_truncated: bool = False,
        is_slow: bool = False,
    ) -> None:
        super().__init__(str(error))
        self.is_truncated = is_truncated
        self.is_slow = is_slow
        self._error = error
        self.answer = answer

    def answer_or_raise(self) -> UsageAnswer:
        """The answer, where it may be complete; raises its error otherwise."""
        if self.answer is None:
            raise self._error
        return self.answer


def _timestamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
