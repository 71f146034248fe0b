"""Steps of what is kept added up: companies by touched day, and the account's rolling windows.

Rolling windows move with every extraction; a mapping alone moves the keys whose owners it changed.
"""

from orcost_pipeline.warehouse.publication.step import Merge, Staging
from orcost_pipeline.warehouse.publication.transaction import When

_ROLLED = ("(:is_extraction or t.key_id in (select key_id from touched_assignment))",)
_PERIOD_KEYS = ("account_id", "key_id", "company_id", "period")

MARTS = (
    Staging(
        name="company_day",
        reads=("core.usage_daily", "core.assignment", "touched_day"),
        when=When.ALWAYS,
        makes="staged_company_day",
        merge=Merge(
            into="core.company_day",
            keys=("day", "account_id", "company_id"),
            within=("t.day in (select day from touched_day)",),
        ),
    ),
    Staging(name="rolling_edge", reads=("core.counted_span",), when=When.ALWAYS, makes="rolling_edge"),
    Staging(
        name="rolled_usage",
        reads=("core.usage_hourly", "rolling_edge", "touched_assignment"),
        when=When.ALWAYS,
        makes="rolled_usage",
    ),
    Staging(name="rolled_key", reads=("rolled_usage", "core.assignment"), when=When.ALWAYS, makes="rolled_key"),
    Staging(
        name="key_rolling",
        reads=("core.api_key", "core.assignment", "touched_assignment", "rolled_key"),
        when=When.ALWAYS,
        makes="staged_key_rolling",
        merge=Merge(into="core.key_rolling", keys=_PERIOD_KEYS, within=_ROLLED),
    ),
    Staging(
        name="key_previous",
        reads=("rolled_key", "touched_assignment"),
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
