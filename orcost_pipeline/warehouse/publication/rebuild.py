"""Steps of a rebuild: listed keys were never deleted, and keys of another account are forgotten with their usage.

Only usage on days and hours that the run asked about is forgotten; older usage cannot be read again.
"""

from orcost_pipeline.warehouse.publication.step import Change, Staging
from orcost_pipeline.warehouse.publication.transaction import When

_VERSION, _HOURS, _DAYS = "core.api_key_version", "core.usage_hourly", "core.usage_daily"

REVIVAL = (
    Staging(
        name="revived_key",
        reads=("raw.api_key", "core.api_key", _VERSION),
        when=When.REBUILD,
        makes="revived_key",
    ),
    Change(name="drop_deletions", reads=("revived_key",), when=When.REBUILD, writes=(_VERSION,)),
    Change(name="close_gaps", reads=("revived_key", _VERSION), when=When.REBUILD, writes=(_VERSION,)),
)

FOREIGN_KEYS = (
    Staging(
        name="foreign_key",
        reads=(
            *("raw.usage_hourly", "raw.usage_daily", "raw.activity_daily", "raw.api_key", "raw.workspace"),
            *("raw.usage_question", "core.api_key", _VERSION, _HOURS, _DAYS, "core.model"),
        ),
        when=When.REBUILD,
        makes="foreign_key",
    ),
    Staging(
        name="forgotten_from",
        reads=("raw.usage_question",),
        when=When.REBUILD,
        makes="forgotten_from",
    ),
    Staging(
        name="unkeyed_cell",
        reads=("raw.usage_daily", _HOURS, "core.model", "foreign_key", "forgotten_from"),
        when=When.REBUILD,
        makes="unkeyed_cell",
    ),
    Change(
        name="forget_hours",
        reads=("foreign_key", "forgotten_from", "unkeyed_cell"),
        when=When.REBUILD,
        writes=(_HOURS, "touched_hour"),
        counts=_HOURS,
    ),
    Change(
        name="forget_days",
        reads=("foreign_key", "forgotten_from"),
        when=When.REBUILD,
        writes=(_DAYS, "touched_day"),
        counts=_DAYS,
    ),
    Change(name="restore_residuals", reads=("unkeyed_cell",), when=When.REBUILD, writes=(_HOURS,)),
    Change(
        name="unsettle_days",
        reads=("raw.usage_question", "forgotten_from", "touched_day"),
        when=When.REBUILD,
        writes=("core.account_day",),
    ),
    Change(
        name="forget_restatements",
        reads=("core.api_key", "foreign_key", "forgotten_from"),
        when=When.REBUILD,
        writes=("ops.restatement",),
    ),
    Staging(name="unused_key", reads=("foreign_key", _HOURS, _DAYS), when=When.REBUILD, makes="unused_key"),
    *(
        Change(name=name, reads=("unused_key",), when=When.REBUILD, writes=(relation,), counts=relation)
        for name, relation in (
            ("forget_readings", "core.counter_point"),
            ("forget_versions", _VERSION),
            ("forget_keys", "core.api_key"),
        )
    ),
)
