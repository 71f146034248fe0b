"""Records of OpenRouter → rows of `raw.*`: only which field goes to which column.

Each function returns the rows by relation as `Table`: names of columns, then rows of values in that order.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from orcost_pipeline.measures import MEASURES
from orcost_pipeline.openrouter.api.records import (
    COUNTER_FIELDS,
    ActivityRow,
    ApiKey,
    Credits,
    KeyInfo,
    Member,
    Model,
    Unreadable,
    Workspace,
)
from orcost_pipeline.openrouter.reading import ActivityReading, AnalyticsReading, UsageReading
from orcost_pipeline.warehouse.loading import as_json
from orcost_pipeline.windows import DAY, day_start, utc_day

Table = tuple[Sequence[str], Iterable[Sequence[Any]]]

_COUNTER_COLUMNS = tuple(f"{field}_usd" for field in COUNTER_FIELDS)

_KEY_COLUMNS = (
    "key_hash",
    "is_deleted",
    "name",
    "label",
    "workspace_id",
    "creator_user_id",
    "external_user",
    "is_disabled",
    "created_at",
    "expires_at",
    "last_used_at",
    "limit_usd",
    "limit_remaining_usd",
    "limit_reset",
    "include_byok_in_limit",
    *_COUNTER_COLUMNS,
    "counters_day",
    "other_fields",
)


def account(key: KeyInfo, reported: Credits | None) -> dict[str, Table]:
    """`raw.account`, one row: the key in use with its counters, and the account's credits, in USD."""
    credits_known = (reported.total_credits, reported.total_usage) if reported else (None, None)
    row = (
        key.label,
        key.can_manage,
        *(getattr(key, field) for field in COUNTER_FIELDS),
        *credits_known,
        key.organization_id,
    )
    credits_columns = ("credits_total_usd", "credits_used_usd")
    columns = ("label", "is_management_key", *_COUNTER_COLUMNS, *credits_columns, "organization_id")
    return {"account": (columns, [row])}


def workspaces(rows: Iterable[Workspace]) -> dict[str, Table]:
    """`raw.workspace`, one row per workspace."""
    return {"workspace": (("workspace_id", "workspace_name"), [(w.id, w.name) for w in rows])}


def members(rows: Iterable[Member]) -> dict[str, Table]:
    """`raw.organization_member`, one row per member."""
    return {"organization_member": (("user_id", "email"), [(m.id, m.email) for m in rows])}


def api_keys(listed: Iterable[ApiKey], deleted: Iterable[str], counters_day: date | None) -> dict[str, Table]:
    """`raw.api_key`, one row per key: listed ones with their counters in USD, deleted ones with their hash only.

    `counters_day` is the UTC day of the daily counters.
    """
    rows = [_listed_key(key, counters_day) for key in listed]
    rows += [(key_hash, True, *(None for _ in _KEY_COLUMNS[2:])) for key_hash in deleted]
    return {"api_key": (_KEY_COLUMNS, rows)}


def _listed_key(key: ApiKey, counters_day: date | None) -> tuple[Any, ...]:
    return (
        key.hash,
        False,
        key.name or None,
        key.label or None,
        key.workspace_id,
        key.creator_user_id,
        key.external_user,
        key.disabled,
        key.created_at,
        key.expires_at,
        key.last_used_at,
        key.limit,
        key.limit_remaining,
        key.limit_reset,
        key.include_byok_in_limit,
        *(getattr(key, field) for field in COUNTER_FIELDS),
        counters_day,
        as_json(key.model_extra or {}),
    )


def models(listed: Iterable[Model]) -> dict[str, Table]:
    """`raw.model`, one row per model, prices as OpenRouter reports them."""
    rows = [(model.id, model.canonical_slug, model.name, as_json(model.pricing)) for model in listed]
    return {"model": (("model", "canonical_slug", "name", "pricing"), rows)}


_QUESTION_COLUMNS = ("grain", "key_hash", "start_at", "end_at", "outcome")


def hours(part: AnalyticsReading) -> dict[str, Table]:
    """Usage of some windows by hour, and the questions about keys with their outcome; a null key is the account."""
    return {
        "usage_question": (_QUESTION_COLUMNS, _hour_questions(part)),
        "usage_hourly": (("key_hash", "hour", "model", *MEASURES), _cells(part)),
        "unkeyed_hour": _unkeyed(part),
    }


def past_days(part: AnalyticsReading) -> dict[str, Table]:
    """The same of days too old for activity."""
    rows = ((key_hash, utc_day(at), *rest) for key_hash, at, *rest in _cells(part))
    return {
        "usage_question": (_QUESTION_COLUMNS, _key_questions("past_day", part)),
        "usage_daily": (("key_hash", "day", "model", *MEASURES), rows),
        "unkeyed_hour": _unkeyed(part),
    }


def usage(reading: UsageReading) -> dict[str, Table]:
    """A reading's usage by activity, and the questions about the account as a whole and about activity."""
    return {
        "usage_question": (_QUESTION_COLUMNS, _questions(reading)),
        "activity_daily": (("key_hash", "day", "model", "provider", "endpoint_id", *MEASURES), _days(reading)),
    }


def unreadable(counts: Mapping[Unreadable, int]) -> Table:
    """One row per field that could not be read, with the number of its rows."""
    columns = ("endpoint", "field", "key_hash", "grain", "at", "rows")
    return columns, [(*unread, rows) for unread, rows in counts.items()]


def _questions(reading: UsageReading) -> Iterator[tuple[Any, ...]]:
    if covered := reading.hours.covered:
        yield ("hour", None, covered.start, covered.end, "covered")
    yield from _account_windows(reading)
    for day in reading.past_days:
        yield ("past_day", None, day_start(day), day_start(day) + DAY, "answered")
    if reading.activity:
        yield from _settled(reading.activity)
        start, end = reading.activity.requested.start, reading.activity.requested.end
        for key_hash in reading.activity.compared:
            yield ("day", key_hash, start, end, "full")


def _hour_questions(part: AnalyticsReading) -> Iterator[tuple[Any, ...]]:
    for window in part.windows:
        yield ("hour", None, window.start, window.end, "answered")
        if part.is_full:
            yield ("hour", None, window.start, window.end, "full")
    for hour in part.unexplained:
        yield ("hour", None, hour, hour, "unexplained")
    yield from _key_questions("hour", part)


def _key_questions(grain: str, part: AnalyticsReading) -> Iterator[tuple[Any, ...]]:
    for answer in part.keys:
        yield (grain, answer.key_hash, answer.window.start, answer.window.end, _outcome(answer.is_silent))
    for window in part.named_windows:
        yield (grain, None, window.start, window.end, "named")


def _settled(activity: ActivityReading) -> Iterator[tuple[Any, ...]]:
    """The days to settle, and the keys that were read for all of them."""
    for day in activity.days:
        yield ("day", None, day_start(day), day_start(day) + DAY, "answered")
    for key in activity.keys:
        start, end = day_start(activity.days[0]), day_start(activity.days[-1]) + DAY
        yield ("day", key.key_hash, start, end, _outcome(key.is_silent))


def _account_windows(reading: UsageReading) -> Iterator[tuple[Any, ...]]:
    """The windows of questions about the account as a whole, whether or not anything differed from the stored usage."""
    days = [reading.activity.requested] if reading.activity else []
    for grain, windows in (("hour", reading.hours.requested), ("past_day", reading.past.requested), ("day", days)):
        for window in windows:
            yield (grain, None, window.start, window.end, "heard")


def _outcome(is_silent: bool) -> str:
    return "silent" if is_silent else "answered"


def _cells(reading: AnalyticsReading) -> Iterator[tuple[Any, ...]]:
    for (at, model), measures in reading.account.items():
        yield (None, at, model, *measures)
    for answer in reading.keys:
        for (at, model), measures in answer.cells.items():
            yield (answer.key_hash, at, model, *measures)


def _unkeyed(part: AnalyticsReading) -> Table:
    rows = ((at, name, measures.credits_usd, measures.byok_usd) for (at, name), measures in part.unkeyed.items())
    return ("hour", "name", "credits_usd", "byok_usd"), rows


def _days(reading: UsageReading) -> Iterator[tuple[Any, ...]]:
    if reading.activity is None:
        return
    for row in reading.activity.account:
        yield _day(None, row)
    for key in reading.activity.keys:
        for row in key.rows:
            yield _day(key.key_hash, row)


def _day(key_hash: str | None, row: ActivityRow) -> tuple[Any, ...]:
    return (key_hash, row.date, row.model_permaslug, row.provider_name, row.endpoint_id, *row.measures)
