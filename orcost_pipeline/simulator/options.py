"""What is unknown about the API, or varies: one field per question, the default is the likeliest answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Options:
    """How the simulated API behaves.

    time_column: the analytics time column is `date__hour` or `created_at__hour`.
    iso_times: analytics times are `2026-05-19T18:00:00.000Z` instead of `2026-05-19 18:00:00`.
    bare_dates: day, week and month buckets are `2026-05-19` instead of instants.
    counts_as_numbers: count metrics are JSON numbers instead of strings.
    mixed_counts: count metrics are strings in one row and JSON numbers in the next.
    unused_as_null: `byok_usage` of 0 comes as null, as components always do.
    float_noise: money carries the last digit's error of IEEE sums instead of the exact text.
    cut_usd: analytics cut each request's credits, BYOK and total, each for itself, to a millionth of a dollar.
    activity_cut_usd: activity does the same. Counters and credits are never cut.
    cut_sums_usd: what they cut is not each request but the amount of a row, which sums up many.
    sums_half_up: they round that amount half up instead of cutting it.
    deleted_by_hash: analytics filtered by a deleted key's hash: its rows, none, or none and a warning.
    deleted_name: what `api_key_id` calls a deleted key's rows.
    deleted_activity: `/activity` filtered by a deleted key's hash.
    label_resolved_names: `api_key_id` shows labels instead of names.
    end_inclusive: an end on an hour's boundary takes that hour in; the instant `end` itself otherwise.
    max_filter_values, max_filter_status: longer filter lists earn this status.
    max_rows: the server's own cap on analytics rows, below the 10,000 that may be asked for.
    silent_truncation: rows are cut at the limit without `metadata.truncated`.
    day_reach_days: grains of a day and longer are refused for a start before this reach.
    hour_window_days: a longer window of analytics at hour grain earns a 400.
    hour_reach_days, old_hours: hour grain before this reach is refused or silently clipped.
    has_cached_at: analytics answers say in `cachedAt` when they were made.
    cache_seconds: an analytics question of the same body gets the same answer again for so long.
    cache_ignores_limit: of two bodies that differ in their `limit`, the second gets the answer of the first.
    analytics_per_minute: analytics requests of an account in any 60 seconds of real time, then 429; None is no limit.
    analytics_used_by_others: of these, so many are taken by somebody else's tool in every minute.
    limit_told_by: what its 429 says of when to come back: `X-RateLimit-Reset` (epoch, ms), `Retry-After`, or nothing.
    analytics_status: analytics answers this error (403 or 404) to everyone.
    has_cached_tokens: the metric and the activity column exist; else 400 and absent.
    has_include_expired: the parameter exists; else 400, and expired keys are listed with the others.
    has_output_modalities: models that make something else than text are told where asked for; else 400.
    has_last_used_at: keys carry `last_used_at` and `external_user`.
    extra_fields: rows carry a field nobody knows.
    is_personal: no organization, so the member list is 404.
    workspaces_status, members_status, credits_status, models_status: the endpoint answers this error to everyone.
    untold_rows: workspaces and members that a listing counts and does not tell, of each so many.
    refused_workspaces, refused_status: workspaces whose keys are not listed, and the error that says so.
    refused_key_status: what one key of such a workspace answers, asked for by its hash; None tells it.
    budgets_status: what workspace budgets answer outside Enterprise plans.
    has_date: answers carry `Date`, by the simulator's clock.
    latency_seconds: each answer takes this long (it sleeps: for threads and the real port).
    """

    time_column: Literal["date", "created_at"] = "date"
    iso_times: bool = False
    bare_dates: bool = False
    counts_as_numbers: bool = False
    mixed_counts: bool = False
    unused_as_null: bool = False
    float_noise: bool = False
    cut_usd: bool = False
    activity_cut_usd: bool = False
    cut_sums_usd: bool = False
    sums_half_up: bool = False
    deleted_by_hash: Literal["rows", "empty", "warning"] = "rows"
    deleted_name: Literal["name", "label", "null", "hash"] = "name"
    deleted_activity: Literal["rows", "empty", "404"] = "rows"
    label_resolved_names: bool = False
    end_inclusive: bool = False
    max_filter_values: int | None = None
    max_filter_status: int = 400
    max_rows: int = 10_000
    silent_truncation: bool = False
    day_reach_days: int = 365
    hour_window_days: int | None = None
    hour_reach_days: int = 31
    old_hours: Literal["400", "clip"] = "400"
    has_cached_at: bool = True
    cache_seconds: float = 0.0
    cache_ignores_limit: bool = False
    analytics_per_minute: int | None = None
    analytics_used_by_others: int = 0
    limit_told_by: Literal["reset", "retry_after", "nothing"] = "reset"
    analytics_status: int | None = None
    has_cached_tokens: bool = True
    has_include_expired: bool = True
    has_output_modalities: bool = True
    has_last_used_at: bool = True
    extra_fields: bool = False
    is_personal: bool = False
    workspaces_status: int | None = None
    members_status: int | None = None
    credits_status: int | None = None
    models_status: int | None = None
    refused_workspaces: frozenset[str] = frozenset()
    refused_status: int = 403
    refused_key_status: int | None = None
    untold_rows: int = 0
    budgets_status: int = 403
    has_date: bool = True
    latency_seconds: float = 0.0

    @classmethod
    def live(cls) -> Options:
        """As the live service is known to behave."""
        return cls(cut_usd=True)
