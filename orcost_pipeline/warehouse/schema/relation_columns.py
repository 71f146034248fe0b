"""What a column means in one relation, where the sentence for all relations (`column_comments.py`) does not fit."""

_CHANGED = "UTC instant of the latest underlying change; if unknown, the instant up to which the data is complete."

OVERRIDES = {
    "ref.account.mapping_version": "Version of the mapping that the account was published with last; null: none.",
    "ref.account.plan_version": "Version of the price plans that the account was published with last; null: none.",
    "ops.period_close.as_of": "UTC instant up to which the data of every account was complete.",
    "core.closed.as_of": "UTC instant up to which the data of every account was complete.",
    "core.charged_usage.purchase_fee_usd": "USD charged for OpenRouter's fee for buying credits.",
    "core.adjustment.month": "First day of the closed UTC month that changed.",
    "core.adjustment.credits_usd": "USD of OpenRouter's charge by which the month changed.",
    "core.adjustment.byok_usd": "USD of BYOK by which the month changed.",
    "core.adjustment.purchase_fee_usd": "USD of the fee for buying credits by which the month changed; part of the "
    "amount.",
    "ops.adjustment.month": "First day of the closed UTC month that changed.",
    "ops.adjustment.credits_usd": "USD of OpenRouter's charge by which the month changed.",
    "ops.adjustment.byok_usd": "USD of BYOK by which the month changed.",
    "ops.adjustment.purchase_fee_usd": "USD of the fee for buying credits by which the month changed; part of the "
    "amount.",
    "core.adjustment.noticed_at": _CHANGED,
    "ops.adjustment.noticed_at": _CHANGED,
    "core.closed_adjustment.noticed_at": _CHANGED,
    "core.adjustment.amount_usd": "USD charged additionally to the company; negative where it is charged less.",
    "ops.adjustment.amount_usd": "USD charged additionally to the company; negative where it is charged less.",
    "core.charge_month.usage_usd": "USD charged to the company for usage, fee on BYOK included.",
    "marts.company_charge_monthly.status": "open, or closed.",
    "marts.company_charge_monthly.is_settled": "Whether every day of the month is settled, or was when it was closed.",
    "marts.company_charge_monthly.currency": "Currency of the company's statement, by its ISO 4217 code.",
    "marts.company_charge_monthly.as_of": "UTC instant up to which the data of every account is complete, or was when "
    "the month was closed.",
    "core.month_currency.currency": "Currency of the company's statement, by its ISO 4217 code.",
    "marts.statement.kind": "usage, minimum, monthly_fee, purchase_fee, adjustment or rounding.",
    "marts.statement.currency": "Currency of the statement, by its ISO 4217 code.",
    "core.closed_month.usage_usd": "USD charged to the company for usage, fee on BYOK included.",
    "marts.company_charge_monthly.usage_usd": "USD charged to the company for usage, fee on BYOK included.",
    "marts.company_charge_monthly.total_usd": "USD charged for the month: usage, minimum, fees and adjustments.",
    "ref.price_plan_version.row_count": "Number of rows.",
    "ref.price_plan_version.source": "File or table that the price plans came from.",
    "core.closed_line.kind": "usage, minimum, monthly_fee, purchase_fee, adjustment or rounding.",
    "core.closed_month.is_settled": "Whether every day of the month was settled when it was closed.",
    "ops.period_close.id": "Number of the closing.",
    "ops.period_close.company": "Company whose month was closed; null: all companies.",
    "ops.period_close.reason": "Why the month was opened again.",
    "ops.void_statement.company": "Company whose statement it was.",
    "ops.void_statement.reopened_at": "UTC instant at which the month was opened again.",
    "ops.void_statement.currency": "Currency of the statement, by its ISO 4217 code.",
    "ops.void_statement.total": "Total of the statement, in its currency.",
    "ops.void_statement.total_usd": "Total of the statement in USD, exact.",
    "core.closed_adjustment.month": "First day of the closed UTC month that changed.",
    "core.closed_adjustment.credits_usd": "USD of OpenRouter's charge by which the month changed.",
    "core.closed_adjustment.byok_usd": "USD of BYOK by which the month changed.",
    "core.closed_adjustment.purchase_fee_usd": "USD of the fee for buying credits by which the month changed; part "
    "of the amount.",
    "ref.price_plan.line": "Line of the file, or of the table.",
    "ref.price_plan.company": "Company that is charged; * is every company.",
    "ref.price_plan.model": "Pattern of the models that the row applies to; null: all.",
    "ref.price_plan.value": "Percent or USD, depending on the charge; null: the charge does not apply.",
    "ref.price_plan.valid_from": "First UTC day, inclusive; null: no start.",
    "ref.price_plan.valid_to": "First UTC day on which the row no longer applies; null: no end.",
    "ops.schema_object.name": "Name of the view or function; comments: the comments of everything.",
    "ops.schema_object.content_sha256": "SHA-256 of its text; blank where a migration created it.",
    "core.account_day.requests": "Number of requests of the day, from the source with the higher count.",
    "ref.account.status": "Result of the last attempt to sync: ok, invalid_key, unreachable or failed; null before "
    "the first.",
    "core.usage_hourly.source": "Source of the row: analytics, or counter.",
    "core.spend_hourly.source": "Source of the row: analytics, or counter.",
    "core.usage_daily.source": "Source of the row: activity, hours (the sum of its hours), analytics or counter.",
    "core.charged_usage.source": "Source of the row: activity, hours (the sum of its hours), analytics or counter.",
    "core.spend_daily.source": "Source of the row: activity, hours (the sum of its hours), analytics or counter.",
    "marts.spend_daily.source": "Source of the row: activity, hours (the sum of its hours), analytics or counter.",
    "marts.spend_daily.workspace_name": "Name of the key's workspace on that day; null where only its id is known.",
    "marts.spend_daily.creator_email": "E-mail of the user who created the key, as known on that day; null where only "
    "an id is known.",
    "marts.spend_hourly.source": "Source of the row: analytics, or counter.",
    "marts.spend_hourly.workspace_name": "Name of the key's workspace on the day of the hour; null where only its id "
    "is known.",
    "marts.spend_hourly.creator_email": "E-mail of the user who created the key, as known on the day of the hour; null "
    "where only an id is known.",
    "core.company_spend_local.day": "Day of the time zone.",
    "core.api_key_day_span.first_day": "First UTC day, inclusive.",
    "marts.company_spend_monthly.is_settled": "Whether every day of the whole month is taken from activity, or from "
    "analytics where activity does not reach back.",
    "core.month_span.is_settled": "Whether every day of the whole month is taken from activity, or from analytics "
    "where activity does not reach back.",
    "marts.company_budget_monthly.status": "exceeded: spent in full; at_risk: the forecast reaches the budget; near: "
    "spent from budget_percent on; else ok.",
    "marts.key_review.company": "Company that owns the key on the day of as_of; null where several share it.",
    "core.key_review.company": "Company that owns the key on the day of as_of; null where several share it.",
    "core.rolling_span.start_at": "First UTC hour that is summed: the period's start, or later where the counters "
    "give only one sum for the hours around it.",
    "core.counted_span.start_at": "Start of the first UTC hour of the span.",
    "core.counted_span.end_at": "End of the last UTC hour, in which the sum is booked.",
    "ref.mapping_version.source": "File or table that the mapping was read from.",
    "ref.mapping_rule.share": "Percent of what the rule matches, above 0 and at most 100.",
    "ref.mapping_rule.account": "Account to which the rule applies; null: all accounts.",
    "ref.mapping_rule.company": "Company that receives this share.",
    "ref.mapping_rule.line": "Line of the mapping file, the header being line 1; for a table, the value of its "
    "column line.",
    "ref.mapping_rule.valid_from": "First UTC day on which the rule is valid; null: from the beginning.",
    "ref.mapping_rule.valid_to": "First UTC day on which the rule is no longer valid; null: without end.",
    "ref.assignment.share": "Share of the key's usage, above 0 and at most 1.",
    "core.assignment.share": "Share of the key's usage, above 0 and at most 1.",
    "ref.api_key.company": "Company that owns the key on the day of as_of; null where several share it.",
    "marts.reconciliation_daily.status": "closed: the sources agree; explained: they differ and the cause is known; "
    "open: they disagree, or a row could not be read.",
    "core.reconciled_day.status": "closed: the sources agree; explained: they differ and the cause is known; "
    "open: they disagree, or a row could not be read.",
    "ops.alert.account": "Account that the finding is about; null: the deployment.",
    "ops.alert.error": "Why the last attempt to send one of its messages failed; null where it was accepted.",
    "ops.alert_delivery.kind": "Kind of message: opened or resolved.",
    "ops.alert_delivery.error": "Why the last attempt failed; null where it was accepted.",
    "ops.alert_delivery.attempts": "Number of attempts to send the message to this receiver.",
    "ops.alert_delivery.sent_at": "UTC instant at which the receiver accepted the message.",
    "ops.sync_request.account": "Account to sync; null: all accounts.",
    "ops.sync_request.status": "queued, running, succeeded or failed.",
    "ops.sync_run.status": "running, succeeded, failed, or abandoned (it was killed, and a later run closed it).",
    "core.unreadable_row.at": "Start of the hour or day whose amounts are incomplete; -infinity where none is "
    "affected, or where it is unknown.",
    "raw.unreadable.at": "Start of the hour or day whose amounts are incomplete; null where none is affected, or "
    "where it is unknown.",
    "ops.unreadable_row.day": "UTC day whose amounts are incomplete; null where none is affected, or where it is "
    "unknown.",
    "ops.unreadable_row.noticed_at": "as_of of the first sync that could not read it.",
    "core.unreadable_row.noticed_at": "as_of of the first sync that could not read it.",
    "raw.unreadable.relation": "Raw relation that was read.",
    "core.unreadable_row.relation": "Raw relation that was read.",
    "raw.unreadable.grain": "Unit that starts at the instant: hour, day (of activity) or past_day (a day older than "
    "activity reaches).",
    "core.unreadable_row.grain": "Unit that starts at the instant: hour, day (of activity) or past_day (a day older "
    "than activity reaches); blank where there is none.",
    "raw.activity_daily.provider": "Provider that served the model; empty where it is not reported.",
}
