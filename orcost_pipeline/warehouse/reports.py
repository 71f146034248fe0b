"""What people ask of the warehouse: a question in, plain rows out.

Belongs here: the SQL behind the command line's reading side. Stays out: how rows look. Amounts are exact; trailing
zeros, which shares bring in, are trimmed. An `account` of None means all accounts.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES
from orcost_pipeline.windows import ROLLING_HOURS, Window

Grain = Literal["company", "key", "model"]
UNATTRIBUTED = "Unattributed"

GRAINS: Mapping[Grain, tuple[str, ...]] = {
    "company": ("account", "company"),
    "key": ("account", "key_hash", "key_name", "company"),
    "model": ("account", "model"),
}
PREVIOUS = ("previous_credits_usd", "previous_byok_usd")
_OF_ACCOUNT = "(cast(:account as text) is null or s.account = :account)"


class Rows(NamedTuple):
    """An answer: its columns, in order and even if it is empty, and its rows by column."""

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]


def accounts(connection: sa.Connection) -> Sequence[sa.Row]:
    """Every account, by name: its state, its last runs, and from when on its spend is known."""
    return connection.execute(
        sa.text(
            "select a.account, a.kind, a.status, a.as_of, a.error, "
            "a.credits_total_usd - a.credits_used_usd as balance_usd, "
            "least(a.hours_from, (select min(d.day)::timestamp at time zone 'UTC' from core.account_day d "
            "where d.account_id = a.account_id)) as known_from, "
            "(select max(r.finished_at) from ops.sync_run r "
            "where r.account = a.account and r.status = 'succeeded') as last_success_at, "
            "last.status as last_run_status, last.error as last_run_error "
            "from ref.account a left join lateral (select r.status, r.error from ops.sync_run r "
            "where r.account = a.account and r.status <> 'running' order by r.started_at desc limit 1) last on true "
            "order by a.account"
        )
    ).all()


def rolling_spend(connection: sa.Connection, by: Grain, period: str, account: str | None) -> Rows:
    """The last 24, 168 or 720 hour buckets of each account, the current one included."""
    if by == "model":
        source = (
            "select s.*, a.as_of from ref.account a join core.spend_hourly s on s.account = a.account "
            "and s.hour > a.as_of - :hours * interval '1 hour'"
        )
    else:
        source = f"select * from marts.{by}_spend_rolling where period = :period"
    previous = PREVIOUS if by == "company" else ()
    parameters = {"hours": ROLLING_HOURS[period]} if by == "model" else {"period": period}
    return _summed(connection, source, by, account, previous, parameters)


def spend_between(connection: sa.Connection, by: Grain, window: Window, account: str | None) -> Rows:
    """Any range of whole hours: days that are known as days come from the days, everything else from the hours."""
    columns = ", ".join(f"s.{name}" for name in ("company", "key_hash", "key_name", "model", *MEASURES))
    source = (
        "with whole as (select a.account, d.day from core.account_day d join ref.account a using (account_id) "
        "where d.day::timestamp at time zone 'UTC' >= :start and (d.day + 1)::timestamp at time zone 'UTC' <= :end"
        "), known as (select greatest(:start, min(hour)) as start_at, least(:end, max(hour)) as end_at "
        "from core.usage_hourly), loose as (select a.account, h.hour from ref.account a cross join known k "
        "cross join generate_series(k.start_at, k.end_at, interval '1 hour') as h (hour) where h.hour < :end "
        "and not exists (select from whole w where w.account = a.account and w.day = (h.hour at time zone 'UTC')::date)"
        f"), parts as (select s.account, {columns} from whole join core.spend_daily s using (account, day) "
        # offset 0 keeps the planner on the index, hour by hour: it knows neither how few there are nor which.
        f"union all select s.account, {columns} from loose cross join lateral (select * from core.spend_hourly h "
        "where h.account = loose.account and h.hour = loose.hour offset 0) s) "
        "select p.*, a.as_of from parts p join ref.account a using (account)"
    )
    return _summed(connection, source, by, account, (), {"start": window.start, "end": window.end})


def _summed(
    connection: sa.Connection,
    source: str,
    by: Grain,
    account: str | None,
    previous: tuple[str, ...],
    parameters: Mapping[str, Any],
) -> Rows:
    """The rows of `source` summed to a grain, the largest spend first and Unattributed last."""
    grain = ", ".join(f"s.{name}" for name in GRAINS[by])
    sums = ", ".join(f"trim_scale(sum(s.{name})) as {name}" for name in (*MEASURES, *previous))
    is_last = "s.company = 'Unattributed', " if "company" in GRAINS[by] else ""
    result = connection.execute(
        sa.text(
            f"select {grain}, max(s.as_of) as as_of, {sums} from ({source}) s where {_OF_ACCOUNT} group by {grain} "
            f"order by s.account, {is_last}sum(s.credits_usd) desc, sum(s.byok_usd) desc, {grain}"
        ),
        {"account": account, **parameters},
    )
    return Rows(tuple(result.keys()), [dict(row) for row in result.mappings()])


def settled_days(connection: sa.Connection, window: Window, account: str | None) -> tuple[int, int]:
    """Days that lie whole in the window and are settled, and how many of them agree with the account's total."""
    days = connection.execute(
        sa.text(
            "select bool_and(d.status <> 'open') as reconciles "
            "from core.account_day d join ref.account s using (account_id) where d.is_settled "
            "and d.day::timestamp at time zone 'UTC' >= :start and (d.day + 1)::timestamp at time zone 'UTC' <= :end "
            f"and {_OF_ACCOUNT} group by d.day"
        ),
        {"account": account, "start": window.start, "end": window.end},
    ).scalars()
    reconciling = list(days)
    return len(reconciling), sum(reconciling)


def open_days(connection: sa.Connection) -> Mapping[str, Sequence[date]]:
    """The days of each account whose witnesses disagree, oldest first."""
    rows = connection.execute(
        sa.text(
            "select account, array_agg(day order by day) as days from marts.reconciliation_daily "
            "where status = 'open' group by account"
        )
    )
    return {row.account: row.days for row in rows}


def request_sync(connection: sa.Connection, account: str | None, since: date | None) -> int:
    """Asks the running deployment for a sync; the request's id."""
    statement = sa.text("select ops.request_sync(cast(:account as text), cast(:since as date))")
    return int(connection.execute(statement, {"account": account, "since": since}).scalar_one())


def requested_sync(connection: sa.Connection, request_id: int) -> tuple[str, str | None]:
    """How far a request is, and what went wrong."""
    statement = sa.text("select status, error from ops.sync_request where id = :id")
    row = connection.execute(statement, {"id": request_id}).one()
    return row.status, row.error


class KeyVersionRow(NamedTuple):
    """What a key was like from `valid_from` on."""

    account: str
    key_hash: str
    valid_from: datetime
    name: str
    label: str
    workspace_id: str | None
    workspace_name: str | None
    creator_user_id: str | None
    creator_email: str | None
    external_user: str | None


def key_versions(connection: sa.Connection, account: str | None) -> list[KeyVersionRow]:
    """Every version of every key, keys together, oldest first."""
    rows = connection.execute(
        sa.text(
            f"select {', '.join(KeyVersionRow._fields)} from ref.api_key_history s where {_OF_ACCOUNT} "
            "order by account, key_hash, valid_from"
        ),
        {"account": account},
    )
    return [KeyVersionRow(*row) for row in rows]
