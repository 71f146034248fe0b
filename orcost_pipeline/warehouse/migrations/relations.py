"""What each schema and function is for, and what a row of each relation is, in one sentence: for the catalogue, for
Dagster, for docs/tables.md."""

SCHEMAS = {
    "raw": "Answers of OpenRouter as they came, by run; kept for some days.",
    "ref": "What usage is told by: accounts, API keys, companies, the mapping and its assignments.",
    "core": "Usage and spend at their finest grain, with small ids; what the marts are made of.",
    "marts": "Costs for reports and BI tools: by company, key, creator and workspace; start here.",
    "ops": "How syncs went, what was asked of them, and what later answers changed.",
}

FUNCTIONS = {
    "core.tolerated_usd": "USD by which two sums of so many requests may differ and still agree: the tolerance, and a "
    "millionth of a dollar for each request.",
    "core.agrees": "Whether two amounts in USD of so many requests agree; null counts as 0.",
    "core.is_below": "Whether usage is less than other usage: less money, or the same money for fewer requests.",
    "core.rolling_start": "First UTC hour of a rolling period (24h, 7d or 30d) that ends at as_of.",
    "core.known_span": "One row per account: from when on a span of whole UTC hours is known, and whether all of it up "
    "to as_of is.",
    "marts.company_spend_between": "One row per company: spend of the UTC hours from start_at to before end_at. Raises "
    "an error where start_at is later than end_at, or one of them is no whole UTC hour.",
    "ops.request_sync": "Asks for a sync (Sync Now) of an account (null: all), of everything again from a UTC day on "
    "where since is given; returns the request's id in ops.sync_request.",
}

RELATIONS = {
    "ref.account": "One row per OpenRouter account: what it is, how it is, and up to when it is complete.",
    "ref.company": "One row per company that any mapping or the list of companies ever named, and Unattributed; with "
    "the list's attributes.",
    "ref.mapping_version": "One row per version of the company mapping; the highest is in force.",
    "ref.mapping_rule": "One row per mapping version and line: a company's share of what a rule matches.",
    "ref.api_key": "One row per account and API key, deleted ones too: the key as it is today.",
    "ref.api_key_history": "One row per account, API key and span of time in which nothing about the key changed.",
    "ref.assignment": "One row per account, API key (null: no key), first day and company: who owns a key's usage, and "
    "by which share. Total: every key is covered from -infinity to infinity, shares of a day sum to 1.",
    "core.api_key": "One row per API key: its small id, its counters, its instants.",
    "core.api_key_version": "One row per API key and span of time in which nothing about it changed.",
    "core.api_key_day_span": "One row per API key and span of UTC days: whose it was, and in which workspace.",
    "core.counter_point": "One row per API key and instant: what it had used by then, as its counters tell; "
    "for accounts without analytics.",
    "core.counted_span": "One row per account and span of several UTC hours of which the keys' counters tell one sum, "
    "booked in the last of them; for accounts without analytics.",
    "core.rolling_span": "One row per account and rolling period: what is known of it.",
    "core.model": "One row per model permaslug: its small id.",
    "core.provider": "One row per provider: its small id; 0 where it is not known.",
    "core.usage_hourly": "One row per UTC hour, account, API key (0: no key) and model: usage, unattributed.",
    "core.usage_daily": "One row per UTC day, account, API key (0: no key), model and provider (0: not known): usage, "
    "unattributed.",
    "core.assignment": "ref.assignment with small ids.",
    "core.account_day": "One row per account and UTC day: what each witness says of it.",
    "core.unkeyed_hour": "One row per account, UTC hour and name (blank: no key): usage that no key explains.",
    "core.unreadable_row": "One row per account, endpoint, API key (0: none), field and instant: how many rows could "
    "not be read.",
    "core.unkeyed_day": "marts.unkeyed_spend_daily with small ids.",
    "core.company_day": "One row per UTC day, account and company: spend.",
    "core.key_rolling": "One row per account, API key (0: no key), company and rolling period: spend.",
    "core.key_previous": "One row per account, API key (0: no key), company and rolling period: spend in the period "
    "before.",
    "core.company_rolling": "One row per account, company and rolling period: spend, and the period before.",
    "core.spend_hourly": "One row per account, UTC hour, company, API key and model: usage with a company on it.",
    "core.spend_daily": "One row per account, UTC day, company, API key, model and provider: usage with a company "
    "on it.",
    "marts.key_spend_rolling": "One row per account, API key, company and rolling period; a living key without usage "
    "is there with 0.",
    "marts.company_spend_rolling": "One row per account, company and rolling period.",
    "marts.company_spend_daily": "One row per account, UTC day and company.",
    "marts.company_spend_monthly": "One row per account, UTC month and company.",
    "marts.creator_spend_daily": "One row per account, UTC day, company and creator of the keys (null: not known).",
    "marts.workspace_spend_daily": "One row per account, UTC day, company and workspace of the keys (null: not known).",
    "marts.unattributed_spend": "One row per account and API key (null: no key) with spend that no rule gives to a "
    "company.",
    "marts.reconciliation_daily": "One row per account and UTC day: what the account was charged, what its keys "
    "explain, and why they differ.",
    "marts.unkeyed_spend_daily": "One row per account, UTC day, name and cause: spend that no key explains, by the "
    "name that analytics show it under (null: no key), where it was asked for.",
    "ops.sync_request": "One row per request for a sync (Sync Now); its status follows its runs.",
    "ops.sync_run": "One row per Dagster run and account.",
    "ops.counter_replacement": "One row per account, UTC day and sync that found analytics answering again: what the "
    "counters of the keys had booked, and what analytics tell instead.",
    "ops.restatement": "One row per account, settled day, API key, model and sync that found the day changed.",
    "ops.unreadable_row": "One row per account, endpoint, field, API key (null: not known, or none) and UTC day (null: "
    "not known, or no figure lacks it): how many rows could not be read.",
    "raw.extraction": "One row per run and account: the instant at which all its questions end.",
    "raw.extracted": "One row per run, account and raw relation that is whole.",
    "raw.account": "One row per run and account: GET /key and GET /credits.",
    "raw.workspace": "One row per run, account and workspace.",
    "raw.organization_member": "One row per run, account and member.",
    "raw.api_key": "One row per run, account and API key, as listed; a key that was found deleted has its hash alone.",
    "raw.usage_question": "One row per run and question about usage: of whom, for when, and what came of it.",
    "raw.usage_hourly": "One row per run, API key (null: the whole account), UTC hour and model, where something was "
    "asked again.",
    "raw.unkeyed_hour": "One row per run, UTC hour and name (blank: no key): usage that no key explains.",
    "raw.usage_daily": "One row per run, API key (null: the whole account), UTC day and model, of days that "
    "activity does not reach.",
    "raw.activity_daily": "One row per run, API key (null: the whole account), UTC day, model and endpoint, of days "
    "to settle.",
    "raw.unreadable": "One row per run, raw relation, endpoint, API key, field and instant: how many rows could not be "
    "read.",
    "raw.model": "One row per run and model: list prices, read once a day.",
}
