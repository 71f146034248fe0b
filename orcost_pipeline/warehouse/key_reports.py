"""What is known of API keys, now and over time: the questions behind `orcost keys`. Amounts are exact."""

import sqlalchemy as sa

from orcost_pipeline.warehouse.reports import Rows

_KEYS = """
with spend as (
    select account, key_hash, sum(credits_usd) as credits_usd_30d, sum(byok_usd) as byok_usd_30d
    from marts.key_spend_rolling
    where period = '30d'
    group by account, key_hash
), owners as (
    select s.account, s.key_hash, string_agg(
        case when s.share = 1 then s.company else s.company || ' ' || trim_scale(s.share * 100) || ' %' end, ', '
        order by s.share desc, s.company
    ) as companies
    from ref.assignment s
    join ref.account a using (account)
    where s.valid_from <= (a.as_of at time zone 'UTC')::date and s.valid_to > (a.as_of at time zone 'UTC')::date
    group by s.account, s.key_hash
)
select k.account, k.key_hash, k.name, o.companies, k.workspace_name, k.creator_email, k.is_disabled, k.created_at,
    k.expires_at, k.deleted_at, k.last_used_at, trim_scale(coalesce(s.credits_usd_30d, 0)) as credits_usd_30d,
    trim_scale(coalesce(s.byok_usd_30d, 0)) as byok_usd_30d, k.limit_usd, k.limit_reset, k.include_byok_in_limit,
    k.limit_used_percent
from ref.api_key k
left join spend s using (account, key_hash)
left join owners o using (account, key_hash)
where cast(:account as text) is null or k.account = :account
order by k.account, credits_usd_30d desc, byok_usd_30d desc, k.name, k.key_hash
"""
_HISTORY = """
select h.account, h.key_hash, h.valid_from, h.valid_to, h.name, h.workspace_name, h.creator_email, h.external_user,
    h.is_disabled, h.is_deleted, h.expires_at, h.limit_usd, h.limit_reset,
    h.include_byok_in_limit
from ref.api_key_history h
where cast(:account as text) is null or h.account = :account
order by h.account, min(h.valid_from) over (partition by h.account, h.key_hash), h.key_hash, h.valid_from
"""


def keys(connection: sa.Connection, account: str | None) -> Rows:
    """A row for each key, deleted ones too, the largest spend of the last 30 days first."""
    return _asked(connection, _KEYS, account)


def history(connection: sa.Connection, account: str | None) -> Rows:
    """A row for each key and span of time in which nothing about it changed, oldest first."""
    return _asked(connection, _HISTORY, account)


def _asked(connection: sa.Connection, statement: str, account: str | None) -> Rows:
    result = connection.execute(sa.text(statement), {"account": account})
    return Rows(tuple(result.keys()), [dict(row) for row in result.mappings()])
