"""Steps of what is kept added up: by touched hour, day and month, and the account's rolling windows.

What an extraction touched is added up for all companies. What a mapping moves is added up for the companies that got
or lost keys, in steps of their own: what they read and replace is found by company instead of by time. Rolling windows
move with every extraction; a mapping alone moves the keys whose owners it changed.
"""

from orcost_pipeline.warehouse.publication.prices import PRICES
from orcost_pipeline.warehouse.publication.step import Merge, Staging
from orcost_pipeline.warehouse.publication.transaction import When

_ROLLED = ("(:is_extraction or t.key_id in (select key_id from rolled_again))",)
_PERIOD_KEYS = ("account_id", "key_id", "company_id", "period")
_COMPANY_HOUR = ("hour", "account_id", "company_id")
_MODEL_MONTH = ("month", "account_id", "company_id", "model_id")
_HOLDER_DAY = ("attribute", "day", "account_id", "company_id", "is_known", "holder")
_OF_MOVED = "t.company_id in (select company_id from moved_company)"
_MOVED = "exists (select from moved_company where company_id = t.company_id and t.hour >= start_at and t.hour < end_at)"

MARTS = (
    Staging(
        name="model_month",
        reads=("core.usage_daily", "core.assignment", "day_of_touched_month", "touched_month"),
        when=When.EXTRACTION,
        makes="staged_model_month",
        merge=Merge(
            into="core.model_month",
            keys=_MODEL_MONTH,
            within=("t.month in (select month from touched_month)",),
        ),
    ),
    Staging(
        name="moved_model_month",
        reads=("core.usage_daily", "core.assignment", "moved_company"),
        when=When.ALWAYS,
        makes="staged_moved_model_month",
        merge=Merge(into="core.model_month", keys=_MODEL_MONTH, within=(_OF_MOVED,)),
    ),
    *PRICES,
    Staging(
        name="company_day",
        reads=("core.charged_usage", "touched_day"),
        when=When.ALWAYS,
        makes="staged_company_day",
        merge=Merge(
            into="core.company_day",
            keys=("day", "account_id", "company_id"),
            within=("t.day in (select day from touched_day)",),
        ),
    ),
    Staging(
        name="company_hour",
        reads=("core.usage_hourly", "core.assignment", "touched_hour"),
        when=When.EXTRACTION,
        makes="staged_company_hour",
        merge=Merge(
            into="core.company_hour",
            keys=_COMPANY_HOUR,
            within=("t.hour in (select hour from touched_hour)",),
        ),
    ),
    Staging(
        name="moved_company_hour",
        reads=("core.usage_hourly", "core.assignment", "moved_company"),
        when=When.ALWAYS,
        makes="staged_moved_company_hour",
        merge=Merge(into="core.company_hour", keys=_COMPANY_HOUR, within=(_MOVED,)),
    ),
    Staging(
        name="holder_day",
        reads=("core.usage_daily", "core.assignment", "core.api_key_day_span", "held_day"),
        when=When.EXTRACTION,
        makes="staged_holder_day",
        merge=Merge(
            into="core.holder_day",
            keys=_HOLDER_DAY,
            within=("t.attribute in ('creator', 'workspace')", "t.day in (select day from held_day)"),
        ),
    ),
    Staging(
        name="moved_holder_day",
        reads=("core.usage_daily", "core.assignment", "core.api_key_day_span", "moved_company"),
        when=When.ALWAYS,
        makes="staged_moved_holder_day",
        merge=Merge(into="core.holder_day", keys=_HOLDER_DAY, within=(_OF_MOVED,)),
    ),
    Staging(
        name="rolled_again",
        reads=("touched_assignment", "touched_price", "core.api_key"),
        when=When.ALWAYS,
        makes="rolled_again",
    ),
    Staging(name="rolling_edge", reads=("core.counted_span",), when=When.ALWAYS, makes="rolling_edge"),
    Staging(
        name="rolled_usage",
        reads=("core.usage_hourly", "rolling_edge", "rolled_again"),
        when=When.ALWAYS,
        makes="rolled_usage",
    ),
    # Who owns a key moves nothing here: a mapping alone leaves it as it is.
    Staging(
        name="rolling_total",
        reads=("rolled_usage", "core.model", "core.api_key_day_span"),
        when=When.EXTRACTION,
        makes="staged_rolling_total",
        merge=Merge(
            into="core.rolling_total",
            keys=("account_id", "attribute", "period", "is_known", "value"),
            within=(),
        ),
    ),
    Staging(name="rolled_key", reads=("rolled_usage", "core.assignment"), when=When.ALWAYS, makes="rolled_key"),
    Staging(
        name="rolled_charge",
        reads=("rolled_usage", "core.assignment", "core.price"),
        when=When.ALWAYS,
        makes="rolled_charge",
    ),
    Staging(
        name="key_rolling",
        reads=("core.api_key", "core.assignment", "rolled_again", "rolled_key", "rolled_charge"),
        when=When.ALWAYS,
        makes="staged_key_rolling",
        merge=Merge(into="core.key_rolling", keys=_PERIOD_KEYS, within=_ROLLED),
    ),
    Staging(
        name="key_previous",
        reads=("rolled_key", "rolled_again"),
        when=When.ALWAYS,
        makes="staged_key_previous",
        merge=Merge(into="core.key_previous", keys=_PERIOD_KEYS, within=_ROLLED),
    ),
    Staging(
        name="company_rolling",
        reads=("core.key_rolling", "core.key_previous", "rolling_edge"),
        when=When.ALWAYS,
        makes="staged_company_rolling",
        merge=Merge(into="core.company_rolling", keys=("account_id", "company_id", "period"), within=()),
    ),
)
