"""What each schema is for, and what a row of each table is; views and functions have theirs in their .sql files."""

SCHEMAS = {
    "raw": "Responses of OpenRouter as received, by run; kept for some days.",
    "ref": "Reference data: accounts, API keys, companies, the company mapping and its assignments.",
    "core": "Usage and spend at their finest grain, with small ids; the marts are built from them.",
    "marts": "Costs for reports and BI tools: by company, key, creator and workspace; start here.",
    "viewer": "Costs for logins that see single companies: each sees the rows of its own (orcost access viewer).",
    "ops": "Operations: sync runs, requested syncs, and what later responses changed.",
}

TABLES = {
    "ref.account": "One row per OpenRouter account: its kind, the status of its last sync, and up to when its data is "
    "complete.",
    "ref.company": "One row per company that the mapping, the price plans or the list of companies ever named, and one "
    "for Unattributed; with the attributes of the list.",
    "ref.viewer": "One row per login that sees single companies only, and company that it sees (orcost access viewer).",
    "ref.threshold": "One row: settings of orcost.toml that views follow: the percentages from which a limit or a "
    "budget is near, and whether viewers see cost.",
    "ref.mapping_version": "One row per version of the company mapping; the highest is in force.",
    "ref.mapping_rule": "One row per mapping version and line: a company's share of what a rule matches.",
    "ref.price_plan_version": "One row per version of the price plans; the highest is in force.",
    "ref.price_plan": "One row per version and line of the price plans: what a company is charged.",
    "ref.exchange_rate": "One row per currency and date: units of the currency per US dollar.",
    "core.api_key": "One row per API key: its small id, its counters and its timestamps.",
    "core.api_key_version": "One row per API key and period in which no attribute of it changed.",
    "core.counter_point": "One row per API key and instant: usage up to then by the key's counters; for accounts "
    "without analytics.",
    "core.counted_span": "One row per account and span of several UTC hours for which the counters of the keys give "
    "only one sum, booked in the last of these hours; for accounts without analytics.",
    "core.model": "One row per model permaslug: its small id.",
    "core.provider": "One row per provider: its small id; 0 is an unknown provider.",
    "core.usage_hourly": "One row per UTC hour, account, API key (0: no key) and model: usage, not yet attributed to "
    "companies.",
    "core.usage_daily": "One row per UTC day, account, API key (0: no key), model and provider (0: unknown): usage, "
    "not yet attributed to companies.",
    "core.assignment": "The rows of ref.assignment, with small ids.",
    "core.account_day": "One row per account and UTC day: the amounts of the day by each source.",
    "core.unkeyed_hour": "One row per account, UTC hour and key name (blank: no key): spend that is not attributed to "
    "any listed API key.",
    "core.unreadable_row": "One row per account, endpoint, API key (0: none), field and instant: number of rows that "
    "could not be read.",
    "core.company_day": "One row per UTC day, account and company: spend, and what is charged for it.",
    "core.price": "One row per account, company, model, kind of usage and span of UTC days: the price plans that "
    "apply, as factors of the usage; usage without a row is charged at cost.",
    "core.closed_month": "One row per closed UTC month and company: the figures of the month when it was closed, and "
    "its statement as documents.",
    "core.closed_line": "One row per line of the statement of a closed month.",
    "core.closed_adjustment": "One row per company, closed month and later closed month in which a change of the first "
    "was charged.",
    "core.company_hour": "One row per UTC hour, account and company: spend.",
    "core.model_month": "One row per UTC month, account, company and model: spend.",
    "core.holder_day": "One row per creator or workspace of the API keys, UTC day, account and company: spend.",
    "core.rolling_total": "One row per account, model, creator or workspace, and rolling period: usage of all "
    "companies.",
    "core.key_rolling": "One row per account, API key (0: no key), company and rolling period: spend.",
    "core.key_previous": "One row per account, API key (0: no key), company and rolling period: spend in the period "
    "before.",
    "core.company_rolling": "One row per account, company and rolling period: spend, and spend in the period before.",
    "ops.schema_object": "One row per view and function of orcost, and one for all comments: the version applied last.",
    "ops.period_close": "One row per closing of a UTC month, for one company or for all (null); the newest one that "
    "covers a company determines whether its month is closed.",
    "ops.void_statement": "One row per UTC month, company and closing of the month that was opened again: the "
    "statement as it was closed.",
    "ops.alert": "One row per alert: a finding, from the evaluation that found it to the one that resolved it.",
    "ops.alert_delivery": "One row per alert, kind of message and receiver.",
    "ops.sync_request": "One row per requested sync (Sync Now); its status follows the runs that serve it.",
    "ops.sync_run": "One row per Dagster run and account.",
    "ops.counter_replacement": "One row per account, UTC day and sync in which analytics became available again: spend "
    "booked from the counters of the keys, and the spend by analytics that replaced it.",
    "ops.restatement": "One row per account, settled day, API key, model and sync that found the day changed.",
    "raw.extraction": "One row per run and account: the instant up to which all its requests read.",
    "raw.extracted": "One row per run, account and raw relation that was read completely.",
    "raw.account": "One row per run and account: GET /key and GET /credits.",
    "raw.workspace": "One row per run, account and workspace.",
    "raw.organization_member": "One row per run, account and member.",
    "raw.api_key": "One row per run, account and API key, as listed; a deleted key has only its hash.",
    "raw.usage_question": "One row per run and request for usage: its key, its period, and its outcome.",
    "raw.usage_hourly": "One row per run, API key (null: the whole account), UTC hour and model, for hours that the "
    "run read again.",
    "raw.unkeyed_hour": "One row per run, UTC hour and key name (blank: no key): spend that is not attributed to any "
    "listed API key.",
    "raw.usage_daily": "One row per run, API key (null: the whole account), UTC day and model, for days that are older "
    "than activity reaches.",
    "raw.activity_daily": "One row per run, API key (null: the whole account), UTC day, model and endpoint, for days "
    "to settle.",
    "raw.unreadable": "One row per run, raw relation, endpoint, API key, field and instant: number of rows that could "
    "not be read.",
    "raw.model": "One row per run and model: list prices, read once a day.",
}
