"""Comments of schemas, relations, columns and functions, so that BI tools and Dagster explain the warehouse themselves.

The same column means the same everywhere: one sentence each, and a few that a relation says better.
"""

import sqlalchemy as sa

from orcost_pipeline.warehouse.migrations.relations import FUNCTIONS, RELATIONS, SCHEMAS

COLUMNS = {
    "account": "Name of the OpenRouter account.",
    "account_id": "Small id of the account.",
    "kind": "What the account's key is: management or ordinary.",
    "as_of": "UTC instant at which every question of the sync ended: complete up to here.",
    "checked_at": "UTC instant of the last attempt.",
    "error": "What went wrong, and what to do; null when nothing did.",
    "error_code": "Code of the finding that stopped the last sync, where it has one of its own.",
    "organization_id": "Id of the OpenRouter organization; null where the key does not tell it.",
    "key_sha256": "SHA-256 of the key that asks.",
    "confirmed_at": "UTC instant at which the key in use was confirmed to be of this account; the next sync clears it.",
    "rebuild_at": "UTC instant at which a rebuild was asked for; the next sync makes it and clears this.",
    "credits_total_usd": "USD of credits ever bought.",
    "credits_used_usd": "USD of credits ever used, as OpenRouter counts them.",
    "hours_from": "First UTC hour that is known.",
    "counted_from": "UTC instant from which usage is booked from the keys' counters; null where analytics answer.",
    "at": "UTC instant.",
    "counters_day": "UTC day that the daily, weekly and monthly counters belong to; null too near midnight to know.",
    "full_pass_at": "UTC instant at which every key was last asked for everything.",
    "published_run_id": "Run whose extraction was published last.",
    "company": "Company that the spend belongs to; Unattributed where no rule gives it to one.",
    "company_id": "Small id of the company; 0 is Unattributed.",
    "display_name": "Name of the company as the list of companies writes it for people.",
    "external_id": "Id of the company elsewhere, such as in a CRM.",
    "cost_centre": "Cost centre of the company.",
    "owner_email": "E-mail of who answers for the company.",
    "is_listed": "Whether the list of companies names it.",
    "rules_added": "Rules that the version before had not.",
    "rules_removed": "Rules that the version before had.",
    "rules_changed": "Rules whose companies, shares or notes were others in the version before.",
    "rules_moved": "Rules that stood elsewhere among those that stayed.",
    "end_day": "UTC day from which it no longer holds; infinity where it still does.",
    "creator": "Who made the key: e-mail, or id where there is none.",
    "workspace": "Workspace of the key: name, or id where there is none.",
    "version": "Version of the mapping, counted from 1.",
    "loaded_at": "UTC instant at which the mapping came into force.",
    "content_sha256": "SHA-256 of the mapping's content.",
    "rule_count": "Number of rules.",
    "position": "Order of the rule: the first that matches a key on a day wins.",
    "match": "What the rule looks at: key_hash, key_name, workspace, creator, external_user or label.",
    "pattern": "Hash, or glob in which * and ? are special.",
    "valid_from": "First moment at which it holds, inclusive.",
    "valid_to": "Moment from which it no longer holds; null or infinity where it still does.",
    "note": "Remark of the mapping's author.",
    "key_id": "Small id of the API key; 0 is no key.",
    "key_hash": "Identity of the API key (SHA-256 hex, as OpenRouter lists it); null: no key.",
    "key_name": "The key's name today.",
    "name": "Name, free text.",
    "label": "The key's label: its first and last characters.",
    "workspace_id": "UUID of the workspace.",
    "workspace_name": "Name of the workspace.",
    "creator_user_id": "User that made the key.",
    "creator_email": "E-mail of the user that made the key.",
    "external_user": "End user that the key was made for.",
    "is_disabled": "Whether the key is switched off.",
    "is_deleted": "Whether the key is gone from OpenRouter.",
    "created_at": "UTC instant at which the key was made.",
    "expires_at": "UTC instant at which the key stops working.",
    "deleted_at": "UTC instant at which the key was found deleted; null while it is listed.",
    "first_seen_at": "UTC instant at which the key was first listed.",
    "last_used_at": "UTC instant of the key's last use, as OpenRouter tells it.",
    "limit_usd": "Spending limit in USD.",
    "limit_remaining_usd": "What is left of the spending limit, in USD.",
    "limit_reset": "When the limit starts again: daily, weekly, monthly, or null for never.",
    "include_byok_in_limit": "Whether BYOK inference counts towards the spending limit.",
    "limit_used_percent": "Percent of the limit that is used, by the counter that limit_reset names; null: no limit.",
    "endpoint": "Endpoint of OpenRouter that was asked.",
    "field": "Field of its answer that could not be read; row: the whole row.",
    "rows": "Rows in which it could not be read.",
    "usage_usd": "OpenRouter's counter: USD charged since the key was made.",
    "usage_daily_usd": "OpenRouter's counter: USD charged in the current UTC day.",
    "usage_weekly_usd": "OpenRouter's counter: USD charged in the current UTC week (Monday first).",
    "usage_monthly_usd": "OpenRouter's counter: USD charged in the current UTC month.",
    "byok_usage_usd": "OpenRouter's counter: USD of BYOK inference since the key was made.",
    "byok_usage_daily_usd": "OpenRouter's counter: USD of BYOK inference in the current UTC day.",
    "byok_usage_weekly_usd": "OpenRouter's counter: USD of BYOK inference in the current UTC week (Monday first).",
    "byok_usage_monthly_usd": "OpenRouter's counter: USD of BYOK inference in the current UTC month.",
    "rule": "Rule that won, as match:pattern; null for Unattributed.",
    "hour": "Start of the UTC hour.",
    "day": "UTC day.",
    "month": "First day of the UTC month.",
    "model_id": "Small id of the model.",
    "model": "Model, as OpenRouter's permaslug.",
    "provider_id": "Small id of the provider; 0: not known.",
    "provider": "Provider that served the model; null where it is not known.",
    "requests": "Requests; a split key's are shared and may be fractions.",
    "prompt_tokens": "Prompt tokens, cached ones among them.",
    "completion_tokens": "Completion tokens, reasoning ones among them.",
    "reasoning_tokens": "Reasoning tokens, a part of the completion tokens.",
    "cached_tokens": "Cached tokens, a part of the prompt tokens.",
    "credits_usd": "USD that OpenRouter charged.",
    "byok_usd": "USD that the customer's own provider account was charged (an estimate); never in credits_usd.",
    "is_settled": "Whether the day is taken from activity; it may still be restated.",
    "account_credits_usd": "USD that OpenRouter charged the account.",
    "keys_credits_usd": "USD of that which the keys explain.",
    "residual_credits_usd": "USD that the keys do not explain: account minus keys.",
    "account_byok_usd": "USD of BYOK inference of the account.",
    "keys_byok_usd": "USD of that which the keys explain.",
    "residual_byok_usd": "USD of BYOK inference that the keys do not explain.",
    "hours_credits_usd": "USD that the account's hours sum to.",
    "cause": "Why the witnesses differ; null where they do not.",
    "period": "Rolling window of whole UTC hours, the current one included: 24h, 7d or 30d.",
    "previous_credits_usd": "USD that OpenRouter charged in the window before; null where it is not covered.",
    "previous_byok_usd": "USD of BYOK inference in the window before; null where it is not covered.",
    "first_day": "First UTC day with such spend.",
    "last_day": "Last UTC day with such spend.",
    "id": "Number of the request.",
    "since": "UTC day from which everything is to be asked again; null for what is new.",
    "requested_by": "Database user that asked.",
    "requested_at": "UTC instant of the request.",
    "finished_at": "UTC instant of the end; null while it lasts.",
    "run_id": "Dagster run.",
    "request_id": "Request that the run answers; null for a scheduled one.",
    "started_at": "UTC instant of the start.",
    "requests_made": "HTTP requests sent, retries too.",
    "rows_written": "Rows inserted, updated or deleted by the publication.",
    "replaced_at": "as_of of the sync that replaced the counters.",
    "counted_credits_usd": "USD charged, as the counters of the keys had booked them on the day.",
    "told_credits_usd": "USD charged, as analytics tell of the same hours.",
    "counted_byok_usd": "USD of BYOK inference, as the counters had booked them.",
    "told_byok_usd": "USD of BYOK inference, as analytics tell of the same hours.",
    "tolerance_usd": "USD by which the witnesses of a day may differ and still agree, besides rounding.",
    "rounding_usd": "USD by which witnesses differ because not all cut each request's cost; null where they do not.",
    "is_counted": "Whether hours of the day follow from counters, which know a sum of days rather than each.",
    "hours_byok_usd": "USD of BYOK inference by the account's hours; null where hours do not cover the day.",
    "keys_hours_credits_usd": "USD charged by the hours of the keys; null where hours do not cover the day.",
    "keys_hours_byok_usd": "USD of BYOK inference by the hours of the keys; null where hours do not cover the day.",
    "keys_activity_credits_usd": "USD charged by the activity of the keys; null until the day is settled.",
    "keys_activity_byok_usd": "USD of BYOK inference by the activity of the keys; null until the day is settled.",
    "counters_credits_usd": "USD charged by the daily counters of the keys, as last told that day. Decides nothing.",
    "counters_byok_usd": "USD of BYOK inference by the daily counters of the keys. Decides nothing.",
    "credits_endpoint_usd": "USD by which GET /credits moved since the last sync of the day before. Decides nothing.",
    "known_from": "UTC instant from which on spend of the period is known: its start, unless history begins later; "
    "null where none of it is known by itself.",
    "is_complete": "Whether all of the period up to as_of is known; otherwise the row shows the part that is known.",
    "noticed_at": "as_of of the sync that noticed the change.",
    "credits_usd_before": "USD charged, as stored before.",
    "credits_usd_after": "USD charged, as now told.",
    "byok_usd_before": "USD of BYOK inference, as stored before.",
    "byok_usd_after": "USD of BYOK inference, as now told.",
    "relation": "Raw relation that is whole, or a mark such as full_pass or members_refused.",
    "workspaces_refused_since": "as_of since which OpenRouter does not tell this key all workspaces or their keys.",
    "members_refused_since": "as_of since which OpenRouter does not tell this key the members of the organization.",
    "completed_at": "UTC instant at which it was whole.",
    "row_count": "Rows that came.",
    "is_management_key": "Whether the key may list keys and usage.",
    "user_id": "Id of the member.",
    "email": "E-mail of the member.",
    "other_fields": "Fields of the answer that have no column.",
    "grain": "What was asked about: hour, day (of activity) or past_day (a day before those that activity reaches).",
    "start_at": "Start of the span asked about, inclusive.",
    "end_at": "End of the span asked about, exclusive.",
    "outcome": "answered: what came replaces what was stored; silent: nothing came of a key that is deleted or that "
    "OpenRouter does not resolve, so that what is stored stays; unexplained: the sum of the keys is not yet that of "
    "the account; named: asked which names bear what no key explains; covered: the span that analytics reach; heard: "
    "compared for the account as a whole, and asked again by key only where it differed.",
    "endpoint_id": "Endpoint that served the model.",
    "canonical_slug": "The model's permaslug.",
    "pricing": "List prices in USD per token, as decimal strings.",
}

OVERRIDES = {
    "core.account_day.requests": "Requests of the day, by whichever of its witnesses counts more.",
    "ref.account.status": "How the last attempt went: ok, invalid_key, unreachable or failed; null before the first.",
    "core.usage_hourly.source": "Witness of the row: analytics, or counter.",
    "core.spend_hourly.source": "Witness of the row: analytics, or counter.",
    "core.usage_daily.source": "Witness of the row: activity, hours (the sum of its hours), analytics or counter.",
    "core.spend_daily.source": "Witness of the row: activity, hours (the sum of its hours), analytics or counter.",
    "core.api_key_day_span.first_day": "First UTC day, inclusive.",
    "marts.company_spend_monthly.is_settled": "Whether every day of the whole month is taken from activity, or from "
    "analytics where activity does not reach back.",
    "core.rolling_span.start_at": "First UTC hour that is summed: the period's start, unless counters told the hours "
    "around it as one sum.",
    "core.counted_span.start_at": "Start of the first UTC hour.",
    "core.counted_span.end_at": "End of the last UTC hour, the one that the sum is booked in.",
    "ref.mapping_version.source": "File or table that the mapping was read from.",
    "ref.mapping_rule.share": "Percent of what the rule matches, above 0 and at most 100.",
    "ref.mapping_rule.account": "Account that the rule is for; null: all.",
    "ref.mapping_rule.company": "Company that has this share.",
    "ref.mapping_rule.line": "Line of the mapping file, the header being 1; of a table, its column line.",
    "ref.mapping_rule.valid_from": "First UTC day on which it holds; null: from the beginning.",
    "ref.mapping_rule.valid_to": "First UTC day on which it no longer holds; null: for good.",
    "ref.assignment.share": "Share of the key's usage, above 0 and at most 1.",
    "core.assignment.share": "Share of the key's usage, above 0 and at most 1.",
    "ref.api_key.company": "Company that owns the key today; null where several share it.",
    "marts.reconciliation_daily.status": "closed: the witnesses agree; explained: they differ and the cause is known; "
    "open.",
    "ops.sync_request.account": "Account to sync; null: all.",
    "ops.sync_request.status": "queued, running, succeeded or failed.",
    "ops.sync_run.status": "running, succeeded, failed, or abandoned (it died; a later run noticed).",
    "core.unreadable_row.at": "Start of the hour or day whose figures lack it; -infinity where none does, or it is not "
    "known.",
    "raw.unreadable.at": "Start of the hour or day whose figures lack it; null where none does, or it is not known.",
    "ops.unreadable_row.day": "UTC day whose figures lack it; null where none does, or it is not known.",
    "ops.unreadable_row.noticed_at": "as_of of the sync that first could not read it.",
    "core.unreadable_row.noticed_at": "as_of of the sync that first could not read it.",
    "raw.unreadable.relation": "Raw relation that was read.",
    "core.unreadable_row.relation": "Raw relation that was read.",
    "raw.unreadable.grain": "What the instant begins: an hour, a day (of activity), or a past_day (a day before those "
    "that activity reaches).",
    "core.unreadable_row.grain": "What the instant begins: an hour, a day (of activity), or a past_day (a day before "
    "those that activity reaches); blank where there is none.",
    "raw.activity_daily.provider": "Provider that served the model; empty where it is not told.",
}

_COLUMNS_OF_OURS = """
    select n.nspname || '.' || c.relname as relation, c.relkind, a.attname,
        obj_description(c.oid, 'pg_class') as relation_comment, col_description(c.oid, a.attnum) as column_comment
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where n.nspname in ('raw', 'ref', 'core', 'marts', 'ops') and c.relkind in ('r', 'v')
      and c.relname <> 'schema_version'
"""


# A schema that was made for us is another user's, who alone may comment on it.
_SCHEMAS_OF_OURS = """
    select nspname, obj_description(oid, 'pg_namespace') as comment
    from pg_namespace
    where nspname in ('raw', 'ref', 'core', 'marts', 'ops') and pg_has_role(nspowner, 'usage')
"""

_FUNCTIONS_OF_OURS = """
    select n.nspname || '.' || p.proname as function, p.oid::regprocedure::text as signature,
        obj_description(p.oid, 'pg_proc') as comment
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('raw', 'ref', 'core', 'marts', 'ops')
"""


def comment_everything(connection: sa.Connection) -> None:
    """Writes every comment of ours that is not there as it is here; what users put into the schemas is theirs."""
    for schema, before in connection.execute(sa.text(_SCHEMAS_OF_OURS)).all():
        _comment(connection, f"schema {schema}", before, SCHEMAS[schema])
    for function, signature, before in connection.execute(sa.text(_FUNCTIONS_OF_OURS)).all():
        if function in FUNCTIONS:
            _comment(connection, f"function {signature}", before, FUNCTIONS[function])
    seen: set[str] = set()
    for relation, relkind, column, of_relation, of_column in connection.execute(sa.text(_COLUMNS_OF_OURS)).all():
        if relation not in RELATIONS:
            continue
        if relation not in seen:
            kind = "view" if relkind == "v" else "table"
            _comment(connection, f"{kind} {relation}", of_relation, RELATIONS[relation])
            seen.add(relation)
        text = OVERRIDES.get(f"{relation}.{column}") or COLUMNS[column]
        _comment(connection, f"column {relation}.{column}", of_column, text)


def _comment(connection: sa.Connection, what: str, before: str | None, text: str) -> None:
    if before != text:
        connection.exec_driver_sql(f"comment on {what} is {_literal(text)}")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
