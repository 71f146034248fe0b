"""Steps of usage by hour: from analytics, or from the keys' counters while analytics do not answer.

Of the account's answer, what its keys do not explain is the residual: usage without a key (key 0).
"""

from orcost_pipeline.warehouse.publication.step import Change, Merge, Staging
from orcost_pipeline.warehouse.publication.transaction import When

_HOURS = "core.usage_hourly"
_KEYS = ("hour", "account_id", "key_id", "model_id")
# Hours that a key, or the account (key 0), was asked for. Their bounds keep the planner from reading all hours.
_ASKED = (
    "t.hour >= (select min(start_at) from asked_hours)",
    "t.hour < (select max(end_at) from asked_hours)",
    "exists (select from asked_hours q where q.key_id = t.key_id and t.hour >= q.start_at and t.hour < q.end_at)",
)

COUNTING = (
    Change(
        name="start_counting",
        reads=("core.api_key",),
        when=When.COUNTED,
        writes=("ref.account", "core.counter_point"),
    ),
    Change(
        name="stop_counting",
        when=When.ANALYTICS,
        writes=("ref.account", "core.counter_point", "core.counted_span"),
    ),
)

NAMES = (
    Change(
        name="model_name",
        reads=("raw.usage_hourly", "raw.usage_daily", "raw.activity_daily", "core.model"),
        when=When.EXTRACTION,
        writes=("core.model",),
        is_apart=True,
    ),
    Change(
        name="provider_name",
        reads=("raw.activity_daily", "core.provider"),
        when=When.EXTRACTION,
        writes=("core.provider",),
        is_apart=True,
    ),
)

ASKED = (
    Staging(
        name="asked_hours",
        reads=("raw.usage_question", "core.api_key"),
        when=When.EXTRACTION,
        makes="asked_hours",
        has_statistics=True,
    ),
)

ANALYTICS = (
    Staging(
        name="counted_day",
        reads=(_HOURS, "asked_hours"),
        when=When.COUNTERS_REPLACED,
        makes="counted_day",
    ),
    Staging(
        name="usage_hourly",
        reads=("raw.usage_hourly", "core.api_key", "core.model", "asked_hours"),
        when=When.ANALYTICS,
        makes="staged_usage_hourly",
        merge=Merge(into=_HOURS, keys=_KEYS, within=("t.key_id <> 0", *_ASKED), touches="touched_hour"),
    ),
    Staging(
        name="residual",
        reads=("raw.usage_hourly", "core.model", _HOURS, "asked_hours"),
        when=When.ANALYTICS,
        makes="staged_residual",
        merge=Merge(into=_HOURS, keys=_KEYS, within=("t.key_id = 0", *_ASKED), touches="touched_hour"),
    ),
    Change(
        name="counter_replacement",
        reads=("counted_day", "asked_hours", _HOURS),
        when=When.COUNTERS_REPLACED,
        writes=("ops.counter_replacement",),
        counts="ops.counter_replacement",
    ),
    Staging(
        name="renamed_hour",
        reads=("raw.usage_question", "core.unkeyed_hour", _HOURS, "core.usage_daily"),
        when=When.ANALYTICS,
        makes="renamed_hour",
    ),
    Staging(
        name="unkeyed_hour",
        reads=("raw.unkeyed_hour", "renamed_hour"),
        when=When.ANALYTICS,
        makes="staged_unkeyed_hour",
        merge=Merge(
            into="core.unkeyed_hour",
            keys=("account_id", "hour", "name"),
            within=("t.hour in (select hour from renamed_hour)",),
            touches="touched_hour",
        ),
    ),
)

COUNTERS = (
    Staging(
        name="counter_point",
        reads=("raw.api_key", "ref.account", "core.api_key", "core.counter_point"),
        when=When.COUNTED,
        makes="staged_counter_point",
        merge=Merge(into="core.counter_point", keys=("account_id", "key_id", "at"), within=()),
    ),
    Staging(
        name="counter_hour",
        reads=("staged_counter_point", "core.model"),
        when=When.COUNTED,
        makes="staged_counter_hour",
        merge=Merge(
            into=_HOURS,
            keys=_KEYS,
            within=("t.source = 'counter'", "t.hour >= :counters_horizon"),
            touches="touched_hour",
        ),
    ),
    Staging(
        name="counted_span",
        reads=("raw.api_key", "ref.account", "core.counted_span"),
        when=When.COUNTED,
        makes="staged_counted_span",
        merge=Merge(into="core.counted_span", keys=("account_id", "start_at"), within=()),
    ),
)
