"""What figures are made of: the questions behind `orcost explain`, `map check` and `map todo`.

Amounts are exact. Spend of a key on a day is `core.usage_daily`, its owners are `core.assignment`: what the marts are
built from.
"""

from collections.abc import Collection, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES
from orcost_pipeline.warehouse.reports import Rows

_SHARED = ", ".join(f"trim_scale(u.{name} * s.share) as {name}" for name in MEASURES)
_OF_FIGURE = """
join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id
    and s.valid_from <= :day and s.valid_to > :day
join ref.account a on a.account_id = u.account_id
join ref.company c on c.company_id = s.company_id
join core.model m on m.model_id = u.model_id
left join core.api_key k on k.key_id = u.key_id
left join core.api_key_version v on v.key_id = u.key_id and v.valid_to is null
"""
_HOURS_OF_DAY = """
    >= (cast(:day as date))::timestamp at time zone 'UTC'
    and {0} < (cast(:day as date) + 1)::timestamp at time zone 'UTC'
"""
_FIGURE = f"""
select s.account, s.company, s.day, s.is_settled, {", ".join(f"trim_scale(s.{name}) as {name}" for name in MEASURES)}
from marts.company_spend_daily s
where s.day = :day and s.company = :company and (cast(:account as text) is null or s.account = :account)
order by s.account
"""
_PARTS = f"""
select a.account, u.day, c.company, k.key_hash, v.name as key_name, m.model, p.provider, s.rule, r.line,
    trim_scale(s.share) as share, u.source::text as source, d.is_settled,
    trim_scale(u.credits_usd) as usage_credits_usd, trim_scale(u.byok_usd) as usage_byok_usd, {_SHARED}
from core.usage_daily u {_OF_FIGURE}
join core.provider p on p.provider_id = u.provider_id
join core.account_day d on d.account_id = u.account_id and d.day = u.day
-- Of rules that match the same, the first that holds for the account on the day is the one that won.
left join lateral (
    select r.line
    from ref.mapping_rule r
    where r.version = (select max(version) from ref.mapping_version) and r.match || ':' || r.pattern = s.rule
        and (r.account is null or r.account = a.account)
        and coalesce(r.valid_from, '-infinity') <= :day and coalesce(r.valid_to, 'infinity') > :day
    order by r.position, r.line
    limit 1
) r on true
where u.day = :day and c.company = :company and (cast(:account as text) is null or a.account = :account)
order by a.account, u.credits_usd * s.share desc, u.byok_usd * s.share desc, v.name, k.key_hash, m.model, p.provider
"""
_HOURS = f"""
select a.account, k.key_hash, v.name as key_name, m.model, u.hour, u.source::text as source,
    trim_scale(s.share) as share, trim_scale(u.credits_usd) as usage_credits_usd,
    trim_scale(u.byok_usd) as usage_byok_usd, {_SHARED}
from core.usage_hourly u {_OF_FIGURE}
where u.hour {_HOURS_OF_DAY.format("u.hour")}
    and c.company = :company and (cast(:account as text) is null or a.account = :account)
order by a.account, v.name, k.key_hash, u.hour, m.model
"""
_ANSWERED = ", ".join(f"trim_scale(r.{name}) as {name}" for name in MEASURES)
# A key with an owner is asked for by its hash; what has none is the account's answer less its keys'.
_WHOSE = """
    and (cast(:account as text) is null or r.account = :account)
    and (r.key_hash is null and exists (
            select from core.assignment s join ref.account a using (account_id) join ref.company c using (company_id)
            where a.account = r.account and s.key_id = 0 and c.company = :company)
        or exists (
            select from core.assignment s join ref.account a using (account_id) join ref.company c using (company_id)
            join core.api_key k using (key_id)
            where a.account = r.account and k.key_hash = r.key_hash and c.company = :company
                and s.valid_from <= :day and s.valid_to > :day))
"""
_ANSWERS = f"""
select r.account, r.key_hash, 'raw.usage_hourly' as relation, r.run_id, r.as_of, r.hour, r.model, null as provider,
    null as endpoint_id, {_ANSWERED}
from raw.usage_hourly r where r.hour {_HOURS_OF_DAY.format("r.hour")} {_WHOSE}
union all
select r.account, r.key_hash, 'raw.usage_daily', r.run_id, r.as_of, null, r.model, null, null, {_ANSWERED}
from raw.usage_daily r where r.day = :day {_WHOSE}
union all
select r.account, r.key_hash, 'raw.activity_daily', r.run_id, r.as_of, null, r.model, nullif(r.provider, ''),
    r.endpoint_id, {_ANSWERED}
from raw.activity_daily r where r.day = :day {_WHOSE}
order by 1, 2, 3, 5, 6, 7, 8, 9
"""
_KNOWN_DAYS = """
select a.account, min(d.day) as first_day, max(d.day) as last_day, bool_or(d.day = :day) as is_known,
    bool_and(d.is_settled) filter (where d.day = :day) as is_settled
from core.account_day d join ref.account a using (account_id)
where cast(:account as text) is null or a.account = :account
group by a.account order by a.account
"""
_PUBLISHED_OWNERS = """
select k.key_hash, nullif(s.valid_from, '-infinity') as valid_from, nullif(s.valid_to, 'infinity') as valid_to,
    c.company, s.share, s.rule
from core.assignment s
join ref.account a using (account_id)
join core.api_key k using (key_id)
join ref.company c using (company_id)
where a.account = :account
order by k.key_hash, s.valid_from, c.company
"""
_KEY_DAYS = """
select k.key_hash, u.day, sum(u.credits_usd), sum(u.byok_usd)
from core.usage_daily u
join ref.account a on a.account_id = u.account_id
left join core.api_key k on k.key_id = u.key_id
where a.account = :account and {}
group by k.key_hash, u.day
"""
_TOTALS = """
select coalesce(sum(d.credits_usd), 0), coalesce(sum(d.byok_usd), 0),
    coalesce(sum(d.credits_usd) filter (where d.company_id = 0), 0),
    coalesce(sum(d.byok_usd) filter (where d.company_id = 0), 0)
from core.company_day d
join ref.account a using (account_id)
where a.account = :account
"""
# Spend that is nobody's, of a key or of none; then living keys that are nobody's today and cost nothing yet.
_UNATTRIBUTED = """
with spend as (
    select a.account, sum(d.credits_usd) as credits_usd, sum(d.byok_usd) as byok_usd
    from core.company_day d join ref.account a using (account_id)
    group by a.account
), nobodys as (
    select account, key_hash, first_day, last_day, credits_usd, byok_usd from marts.unattributed_spend
    union all
    select k.account, k.key_hash, null, null, 0, 0
    from ref.api_key k
    where k.company = 'Unattributed' and k.deleted_at is null
      and not exists (select from marts.unattributed_spend u where u.account = k.account and u.key_hash = k.key_hash)
)
select n.account, n.key_hash, k.name as key_name, k.workspace_name,
    coalesce(k.creator_email, k.creator_user_id) as creator, n.first_day, n.last_day,
    trim_scale(n.credits_usd) as credits_usd, trim_scale(n.byok_usd) as byok_usd,
    trim_scale(coalesce(round(n.credits_usd / nullif(s.credits_usd, 0), 6), 0)) as share_of_account,
    k.company as company_today, k.deleted_at
from nobodys n
left join ref.api_key k using (account, key_hash)
left join spend s on s.account = n.account
where cast(:account as text) is null or n.account = :account
order by n.key_hash is null, n.credits_usd desc, n.byok_usd desc, n.account, k.name, n.key_hash
"""


class PublishedOwner(NamedTuple):
    """A company's share of a key from `valid_from` to before `valid_to`, None being without limit."""

    key_hash: str
    valid_from: date | None
    valid_to: date | None
    company: str
    share: Decimal
    rule: str | None


class Totals(NamedTuple):
    """What an account spent on all days that are known, and how much of it is nobody's."""

    credits_usd: Decimal
    byok_usd: Decimal
    unattributed_credits_usd: Decimal
    unattributed_byok_usd: Decimal


def figure(connection: sa.Connection, company: str, day: date, account: str | None) -> Rows:
    """A row for each account that has a figure of the company on that day."""
    return _asked(connection, _FIGURE, company=company, day=day, account=account)


def parts(connection: sa.Connection, company: str, day: date, account: str | None) -> Rows:
    """A row for each key, model and provider of the figure, the largest first: its usage, and the company's share."""
    return _asked(connection, _PARTS, company=company, day=day, account=account)


def hours(connection: sa.Connection, company: str, day: date, account: str | None) -> Rows:
    """A row for each key, hour and model of the company's keys on that day."""
    return _asked(connection, _HOURS, company=company, day=day, account=account)


def answers(connection: sa.Connection, company: str, day: date, account: str | None) -> Rows:
    """What OpenRouter said of the company's keys on that day, as far as it is still kept."""
    return _asked(connection, _ANSWERS, company=company, day=day, account=account)


def known_days(connection: sa.Connection, day: date, account: str | None) -> Sequence[sa.Row]:
    """From when to when days of each account are known, whether `day` is, and whether it is settled."""
    return connection.execute(sa.text(_KNOWN_DAYS), {"day": day, "account": account}).all()


def company_names(connection: sa.Connection) -> list[str]:
    """Every company that any mapping ever named, and Unattributed."""
    return list(connection.execute(sa.text("select company from ref.company order by company")).scalars())


def published_owners(connection: sa.Connection, account: str) -> list[PublishedOwner]:
    """Who owns the account's keys as published, key by key, oldest span first."""
    return [PublishedOwner(*row) for row in connection.execute(sa.text(_PUBLISHED_OWNERS), {"account": account})]


def key_days(connection: sa.Connection, account: str, key_hashes: Collection[str]) -> Sequence[sa.Row]:
    """(key, day, credits, BYOK) of these keys."""
    statement = sa.text(_KEY_DAYS.format("k.key_hash = any(:key_hashes)"))
    return connection.execute(statement, {"account": account, "key_hashes": list(key_hashes)}).all()


def key_days_since(connection: sa.Connection, account: str, first: date) -> Sequence[sa.Row]:
    """The same of all usage, a key's or none's (null), from a day on."""
    statement = sa.text(_KEY_DAYS.format("u.day >= :first"))
    return connection.execute(statement, {"account": account, "first": first}).all()


def totals(connection: sa.Connection, account: str) -> Totals:
    return Totals(*connection.execute(sa.text(_TOTALS), {"account": account}).one())


def unattributed(connection: sa.Connection, account: str | None) -> Rows:
    """A row for each key (or none) with spend that is nobody's, the most expensive first, then keys without spend."""
    return _asked(connection, _UNATTRIBUTED, account=account)


def _asked(connection: sa.Connection, statement: str, **parameters: Any) -> Rows:
    result = connection.execute(sa.text(statement), parameters)
    return Rows(tuple(result.keys()), [dict(row) for row in result.mappings()])
