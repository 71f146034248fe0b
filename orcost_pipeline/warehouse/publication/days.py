"""Steps of usage by day: days to settle from activity, other changed days from their hours; changes of settled days
are noted as restatements."""

from orcost_pipeline.warehouse.publication.step import Change, Merge, Merging, Staging
from orcost_pipeline.warehouse.publication.transaction import When

_DAYS = "core.usage_daily"

DAYS = (
    Staging(
        name="built_day",
        reads=("raw.usage_question", "core.account_day", "touched_hour"),
        when=When.EXTRACTION,
        makes="built_day",
    ),
    Staging(
        name="asked_day",
        reads=("raw.usage_question", "core.api_key", "built_day"),
        when=When.EXTRACTION,
        makes="asked_day",
        has_statistics=True,
    ),
    Staging(
        name="usage_daily",
        reads=(
            *("raw.activity_daily", "raw.usage_daily", "core.usage_hourly", _DAYS),
            *("core.api_key", "core.model", "core.provider", "built_day", "asked_day"),
        ),
        when=When.EXTRACTION,
        makes="staged_usage_daily",
    ),
    Change(
        name="restatement",
        reads=(_DAYS, "core.model", "core.api_key", "built_day", "staged_usage_daily"),
        when=When.EXTRACTION,
        writes=("ops.restatement",),
        counts="ops.restatement",
    ),
    Merging(
        name="merge_usage_daily",
        reads=("staged_usage_daily", "built_day"),
        when=When.EXTRACTION,
        staged="staged_usage_daily",
        merge=Merge(
            into=_DAYS,
            keys=("day", "account_id", "key_id", "model_id", "provider_id"),
            within=("t.day in (select day from built_day)",),
            touches="touched_day",
        ),
    ),
    Staging(
        name="account_day",
        reads=(
            *("raw.account", "raw.api_key", "ref.account", "core.usage_hourly", _DAYS, "core.account_day"),
            *("built_day", "touched_day", "touched_hour"),
        ),
        when=When.EXTRACTION,
        makes="staged_account_day",
        merge=Merge(into="core.account_day", keys=("account_id", "day"), within=None),
    ),
    Change(
        name="hours_read",
        reads=("raw.usage_question",),
        when=When.ANALYTICS,
        writes=("core.account_day",),
    ),
    Change(
        name="activity_read",
        reads=("raw.usage_question",),
        when=When.EXTRACTION,
        writes=("core.api_key",),
    ),
)
