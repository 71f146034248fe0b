"""Why an account's total and its keys differ, by day: the questions behind `orcost reconcile`. Amounts are exact."""

from datetime import date

import sqlalchemy as sa

from orcost_pipeline.warehouse.reports import Rows

_DAYS = """
select account, day, account_credits_usd, keys_credits_usd, residual_credits_usd, account_byok_usd, keys_byok_usd,
    residual_byok_usd, hours_credits_usd, keys_hours_credits_usd, keys_activity_credits_usd, counters_credits_usd,
    credits_endpoint_usd, hours_byok_usd, keys_hours_byok_usd, keys_activity_byok_usd, counters_byok_usd, status, cause,
    rounding_usd
from marts.reconciliation_daily
where (cast(:account as text) is null or account = :account) and day >= :first and day <= :last
order by account, day
"""
# Analytics tell a name; whose it may be are the keys that bear or bore it, of a deleted key's spend the deleted ones.
_UNKEYED = """
select u.account, u.key_name, u.cause, u.credits_usd, u.byok_usd, (
    select array_agg(distinct k.key_hash order by k.key_hash)
    from core.api_key k
    join core.api_key_version v using (key_id)
    join ref.account a on a.account_id = k.account_id
    where a.account = u.account and v.name = u.key_name
      and (u.cause <> 'spend of a deleted key' or k.deleted_at is not null)
) as key_hashes
from marts.unkeyed_spend_daily u
where (cast(:account as text) is null or u.account = :account) and u.day = :day
order by u.account, u.credits_usd desc, u.byok_usd desc, u.key_name
"""
# A key's hours, summed over the day, beside what activity says of it; only those of whom the two do not say the same.
_DISAGREEING = """
with hours as (
    select u.account_id, u.key_id, sum(u.requests) as requests, sum(u.credits_usd) as credits_usd,
        sum(u.byok_usd) as byok_usd
    from core.usage_hourly u
    where u.hour >= (cast(:day as date))::timestamp at time zone 'UTC'
      and u.hour < (cast(:day as date) + 1)::timestamp at time zone 'UTC'
    group by 1, 2
), days as (
    select account_id, key_id, sum(requests) as requests, sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd
    from core.usage_daily
    where day = :day
    group by 1, 2
)
select a.account, k.key_hash, v.name as key_name, coalesce(h.credits_usd, 0) as hours_credits_usd,
    coalesce(d.credits_usd, 0) as day_credits_usd, coalesce(h.byok_usd, 0) as hours_byok_usd,
    coalesce(d.byok_usd, 0) as day_byok_usd
from hours h
full join days d using (account_id, key_id)
join ref.account a using (account_id)
left join core.account_day w on w.account_id = a.account_id and w.day = :day
-- What no key explains is left of the account's day, and with it what rounding makes of all its requests.
cross join lateral (
    select case when key_id = 0 then w.requests else greatest(h.requests, d.requests) end as requests
) rounded
left join core.api_key k using (key_id)
left join core.api_key_version v on v.key_id = k.key_id and v.valid_to is null
where (cast(:account as text) is null or a.account = :account)
  and not (core.agrees(h.credits_usd, d.credits_usd, rounded.requests, a.tolerance_usd)
    and core.agrees(h.byok_usd, d.byok_usd, rounded.requests, a.tolerance_usd))
order by a.account, abs(coalesce(h.credits_usd, 0) - coalesce(d.credits_usd, 0)) desc, k.key_hash
"""
_RESTATED = """
select r.account, r.noticed_at, r.key_hash, k.name as key_name, r.model, r.credits_usd_before, r.credits_usd_after,
    r.byok_usd_before, r.byok_usd_after
from ops.restatement r
left join ref.api_key k using (account, key_hash)
where (cast(:account as text) is null or r.account = :account) and r.day = :day
order by r.account, r.noticed_at, k.name, r.model
"""
_REPLACED = """
select account, replaced_at, counted_credits_usd, told_credits_usd, counted_byok_usd, told_byok_usd
from ops.counter_replacement
where (cast(:account as text) is null or account = :account) and day = :day
order by account, replaced_at
"""


def days(connection: sa.Connection, account: str | None, first: date, last: date) -> Rows:
    """A row for each account and UTC day, oldest first: what was charged, what the keys explain, why they differ."""
    return _asked(connection, _DAYS, account=account, first=first, last=last)


def unkeyed(connection: sa.Connection, account: str | None, day: date) -> Rows:
    """A row for each name under which a day has spend that no key explains, with the keys that it may be of.

    `key_hashes` is null for spend without a key and for a name that no listed key ever bore.
    """
    return _asked(connection, _UNKEYED, account=account, day=day)


def disagreeing_keys(connection: sa.Connection, account: str | None, day: date) -> Rows:
    """A row for each key (or none) whose hours do not sum to its day."""
    return _asked(connection, _DISAGREEING, account=account, day=day)


def restated(connection: sa.Connection, account: str | None, day: date) -> Rows:
    """A row for each key, model and sync that found the settled day changed."""
    return _asked(connection, _RESTATED, account=account, day=day)


def replaced_counters(connection: sa.Connection, account: str | None, day: date) -> Rows:
    """A row for each time that analytics answered again for a day of which counters had told."""
    return _asked(connection, _REPLACED, account=account, day=day)


def _asked(connection: sa.Connection, statement: str, **parameters: object) -> Rows:
    result = connection.execute(sa.text(statement), parameters)
    return Rows(tuple(result.keys()), [dict(row) for row in result.mappings()])
