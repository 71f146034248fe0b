"""What people ask of the warehouse: a question in, plain rows out.

Belongs here: the SQL behind the command line's reading side. Stays out: how rows look. Amounts are exact; trailing
zeros, which shares bring in, are trimmed. An `account` of None means all accounts.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES
from orcost_pipeline.warehouse.runs import locked_accounts
from orcost_pipeline.warehouse.schema.namespaces import SCHEMAS
from orcost_pipeline.windows import Window, utc_day

Grain = Literal["company", "key", "model", "creator", "workspace"]
UNATTRIBUTED = "Unattributed"

GRAINS: Mapping[Grain, tuple[str, ...]] = {
    "company": ("account", "company"),
    "key": ("account", "key_hash", "key_name", "company"),
    "model": ("account", "model"),
    "creator": ("account", "creator"),
    "workspace": ("account", "workspace"),
}
PREVIOUS = ("previous_credits_usd", "previous_byok_usd")
# What every key was like on the day of its spend.
_HELD = (
    "select p.*, h.creator, h.workspace from ({0}) p "
    "left join core.api_key k on k.account_id = p.account_id and k.key_hash = p.key_hash "
    "left join core.api_key_day_span h on h.key_id = k.key_id and h.first_day <= p.day and h.end_day > p.day"
)
_OF_ACCOUNT = "(cast(:account as text) is null or s.account = :account)"


class Rows(NamedTuple):
    """An answer: its columns, in order and even if it is empty, and its rows by column."""

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]


def accounts(connection: sa.Connection) -> Sequence[sa.Row]:
    """Every account, by name: its state, its last runs, and from when on its spend is known."""
    return connection.execute(
        sa.text(
            "select a.account, a.kind, a.status, a.as_of, a.error, a.error_code, "
            "a.credits_total_usd - a.credits_used_usd as balance_usd, a.credits_total_usd, "
            "a.workspaces_refused_since, a.members_refused_since, "
            "least(a.hours_from, (select min(d.day)::timestamp at time zone 'UTC' from core.account_day d "
            "where d.account_id = a.account_id)) as known_from, a.hours_from, "
            "a.counted_from is not null as is_counted, "
            "(select max(r.finished_at) from ops.sync_run r "
            "where r.account = a.account and r.status = 'succeeded') as last_success_at, "
            "(select min(r.finished_at) from ops.sync_run r where r.account = a.account and r.status = 'failed' "
            "and r.started_at > coalesce((select max(s.started_at) from ops.sync_run s "
            "where s.account = a.account and s.status = 'succeeded'), '-infinity')) as failing_since, "
            "last.status as last_run_status, last.error as last_run_error, last.finished_at as last_run_at "
            "from ref.account a left join lateral (select r.status, r.error, r.finished_at from ops.sync_run r "
            "where r.account = a.account and r.status <> 'running' order by r.started_at desc limit 1) last on true "
            "order by a.account"
        )
    ).all()


class RecentSpend(NamedTuple):
    """What an account spent in its rolling windows, and how much of it belongs to nobody."""

    spend_7d_usd: Decimal = Decimal(0)
    spend_30d_usd: Decimal = Decimal(0)
    byok_30d_usd: Decimal = Decimal(0)
    requests_30d: Decimal = Decimal(0)
    unattributed_30d_usd: Decimal = Decimal(0)
    unattributed_byok_30d_usd: Decimal = Decimal(0)
    keyless_30d_usd: Decimal = Decimal(0)
    spend_24h_usd: Decimal = Decimal(0)
    unattributed_keys: int = 0


def recent_spend(connection: sa.Connection) -> Mapping[str, RecentSpend]:
    """The recent spend of every account that has any key or spend."""
    month, nobodys = "s.period = '30d'", "s.period = '30d' and s.company = 'Unattributed'"
    sums = (
        ("credits_usd", "s.period = '7d'"),
        ("credits_usd", month),
        ("byok_usd", month),
        ("requests", month),
        ("credits_usd", nobodys),
        ("byok_usd", nobodys),
        ("credits_usd", f"{nobodys} and s.key_hash is null"),
        ("credits_usd", "s.period = '24h'"),
    )
    told = [f"coalesce(sum(s.{measure}) filter (where {rows}), 0)" for measure, rows in sums]
    has_spend = "(s.credits_usd <> 0 or s.byok_usd <> 0)"
    told.append(f"count(distinct s.key_hash) filter (where {nobodys} and {has_spend})")
    statement = f"select s.account, {', '.join(told)} from marts.key_spend_rolling s group by s.account"
    return {account: RecentSpend(*row) for account, *row in connection.execute(sa.text(statement))}


class KnownKeys(NamedTuple):
    """The keys of an account that the warehouse has: all that it ever saw, those that live, the last use of any."""

    hashes: frozenset[str] = frozenset()
    living: int = 0
    last_used_at: datetime | None = None


def known_keys(connection: sa.Connection) -> Mapping[str, KnownKeys]:
    """The keys of every account that has any."""
    rows = connection.execute(
        sa.text(
            "select account, array_agg(key_hash) as hashes, count(*) filter (where deleted_at is null) as living, "
            "max(last_used_at) as last_used_at from ref.api_key group by account"
        )
    )
    return {row.account: KnownKeys(frozenset(row.hashes), row.living, row.last_used_at) for row in rows}


def deleted_keys(connection: sa.Connection, account: str) -> Mapping[str, datetime]:
    """The keys of an account that are gone, and since when."""
    statement = sa.text("select key_hash, deleted_at from ref.api_key where account = :a and deleted_at is not null")
    return {row.key_hash: row.deleted_at for row in connection.execute(statement, {"a": account})}


class RunningSync(NamedTuple):
    """A run that was noted as running; it is alive as long as its session holds the account's lock."""

    account: str
    started_at: datetime
    is_alive: bool


def running_syncs(connection: sa.Connection) -> Mapping[str, RunningSync]:
    """The newest run of each account that is noted as running."""
    rows = connection.execute(
        sa.text(
            "select distinct on (account) account, started_at from ops.sync_run where status = 'running' "
            "order by account, started_at desc"
        )
    ).all()
    locked = locked_accounts(connection.engine, [row.account for row in rows]) if rows else set()
    return {row.account: RunningSync(row.account, row.started_at, row.account in locked) for row in rows}


class KnownSpan(NamedTuple):
    """What is known of a span of time, up to the account's `as_of`: from when on, and whether it is all of it."""

    known_from: datetime | None
    is_complete: bool


def known_spans(connection: sa.Connection, window: Window) -> Mapping[str, KnownSpan]:
    """By account, whole days as days and the rest as hours; accounts of which nothing lies in the window left out."""
    rows = connection.execute(
        sa.text(
            "select account, known_from, is_complete from core.known_span(:start, :end) "
            "join ref.account using (account_id)"
        ),
        {"start": window.start, "end": window.end},
    )
    return {account: KnownSpan(*span) for account, *span in rows}


def rolling_spans(connection: sa.Connection, period: str) -> Mapping[str, KnownSpan]:
    """The same of a rolling period, which is known by its hours."""
    rows = connection.execute(
        sa.text(
            "select account, known_from, is_complete from core.rolling_span join ref.account using (account_id) "
            "where period = :period"
        ),
        {"period": period},
    )
    return {account: KnownSpan(*span) for account, *span in rows}


def rolling_spend(connection: sa.Connection, by: Grain, period: str, account: str | None) -> Rows:
    """The last 24, 168 or 720 hour buckets of each account, the current one included."""
    spans = rolling_spans(connection, period)
    if by in ("company", "key"):
        source, previous = f"select * from marts.{by}_spend_rolling where period = :period", PREVIOUS
        rows = _summed(connection, source, by, account, previous if by == "company" else (), {"period": period})
        return _with_spans(rows, spans)
    source = (
        "select s.*, (s.hour at time zone 'UTC')::date as day, a.account_id, a.as_of "
        "from ref.account a join core.rolling_span r on r.account_id = a.account_id and r.period = :period "
        "join core.spend_hourly s on s.account = a.account and s.hour >= r.start_at"
    )
    return _with_spans(_summed(connection, _held(source, by), by, account, (), {"period": period}), spans)


def spend_between(connection: sa.Connection, by: Grain, window: Window, account: str | None) -> Rows:
    """Any range of whole hours: whole UTC days come from the days, the edges from the hours."""
    columns = ", ".join(f"s.{name}" for name in ("company", "key_hash", "key_name", "model", *MEASURES))
    source = (
        "select p.*, a.account_id, a.as_of from ("
        f"select s.account, s.day, {columns} from core.spend_daily s where s.day >= :first and s.day < :last "
        # offset 0 keeps the planner on the index, hour by hour: it does not know how few there are.
        f"union all select s.account, (s.hour at time zone 'UTC')::date as day, {columns} "
        "from unnest(cast(:hours as timestamptz[])) as edge (hour) cross join ref.account e cross join lateral "
        "(select * from core.spend_hourly h where h.account = e.account and h.hour = edge.hour offset 0) s"
        ") p join ref.account a using (account)"
    )
    whole = window.whole_days() or Window(window.start, window.start)
    parameters = {
        "first": utc_day(whole.start),
        "last": utc_day(whole.end),
        "hours": [hour for edge in window.edges() for hour in edge.hours()],
    }
    return _with_spans(
        _summed(connection, _held(source, by), by, account, (), parameters), known_spans(connection, window)
    )


def _with_spans(rows: Rows, spans: Mapping[str, KnownSpan]) -> Rows:
    """Each row says what is known of its account in the period."""
    unknown = KnownSpan(None, is_complete=False)
    told = [{**row, **spans.get(row["account"], unknown)._asdict()} for row in rows.rows]
    return Rows((*rows.columns, *KnownSpan._fields), told)


def _held(source: str, by: Grain) -> str:
    return _HELD.format(source) if by in ("creator", "workspace") else source


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
            "select bool_and(s.status <> 'open') as reconciles from marts.reconciliation_daily s "
            "join ref.account a using (account) join core.account_day d using (account_id, day) where d.is_settled "
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


class UnreadableRows(NamedTuple):
    """How many rows had a field that could not be read, and the days whose figures lack it."""

    endpoint: str
    field: str
    rows: int
    days: Sequence[date]
    noticed_at: datetime


def unreadable_rows(connection: sa.Connection) -> Mapping[str, Sequence[UnreadableRows]]:
    """What could not be read of each account's answers, endpoint by endpoint."""
    rows = connection.execute(
        sa.text(
            "select account, endpoint, field, sum(rows)::int, "
            "coalesce(array_agg(distinct day) filter (where day is not null), '{}'), min(noticed_at) "
            "from ops.unreadable_row group by account, endpoint, field order by account, endpoint, field"
        )
    )
    found: dict[str, list[UnreadableRows]] = defaultdict(list)
    for account, *row in rows:
        found[account].append(UnreadableRows(*row))
    return found


def request_sync(connection: sa.Connection, account: str | None, since: date | None) -> int:
    """Asks the running deployment for a sync; the request's id."""
    statement = sa.text("select ops.request_sync(cast(:account as text), cast(:since as date))")
    return int(connection.execute(statement, {"account": account, "since": since}).scalar_one())


def requested_sync(connection: sa.Connection, request_id: int) -> tuple[str, str | None]:
    """How far a request is, and what went wrong."""
    statement = sa.text("select status, error from ops.sync_request where id = :id")
    row = connection.execute(statement, {"id": request_id}).one()
    return row.status, row.error


class WaitingRequest(NamedTuple):
    """A request for a sync that nobody has taken up."""

    id: int
    account: str | None
    requested_at: datetime


def waiting_requests(connection: sa.Connection, before: datetime) -> Sequence[WaitingRequest]:
    """The requests from before an instant that are still queued, oldest first."""
    rows = connection.execute(
        sa.text(
            "select id, account, requested_at from ops.sync_request "
            "where status = 'queued' and requested_at < :before order by requested_at"
        ),
        {"before": before},
    )
    return [WaitingRequest(*row) for row in rows]


class Server(NamedTuple):
    """What a database is, and what this session's user may do there; without a warehouse, its rights are null."""

    user: str
    database: str
    major: int
    is_standby: bool
    is_read_only: bool
    connections: int
    max_connections: int
    encoding: str
    may_create: bool
    may_read: bool | None
    may_write: bool | None


def server(connection: sa.Connection) -> Server:
    """Asks system catalogues alone, which answer whatever the rights and whether there is a warehouse or not."""
    writes = " and ".join(f"has_table_privilege(c.oid, '{right}')" for right in ("insert", "update", "delete"))
    row = connection.execute(
        sa.text(
            'select current_user::text as "user", current_database()::text as database, '
            "current_setting('server_version_num')::int / 10000 as major, pg_is_in_recovery() as is_standby, "
            "current_setting('transaction_read_only')::bool as is_read_only, "
            "(select sum(numbackends)::int from pg_stat_database) as connections, "
            "current_setting('max_connections')::int as max_connections, "
            "current_setting('server_encoding') as encoding, has_database_privilege(current_database(), 'create') "
            "or (select count(*) = :schema_count from pg_namespace where nspname = any(:schemas)) as may_create, "
            "bool_and(has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')) as may_read, "
            f"bool_and({writes}) filter (where c.relkind = 'r') as may_write from pg_class c "
            "join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'v') "
            "and n.nspname in ('ref', 'core', 'marts', 'ops')"
        ),
        {"schemas": list(SCHEMAS), "schema_count": len(SCHEMAS)},
    ).one()
    return Server(**row._asdict())


def stopped_automation(connection: sa.Connection) -> list[str]:
    """Schedules, then sensors, that somebody stopped in Dagster; none where this user may not read Dagster's tables."""
    may_read = sa.text(
        "select has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') from pg_class c "
        "join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'dagster' and c.relname = 'instigators'"
    )
    if not connection.execute(may_read).scalar():
        return []
    stopped = sa.text(
        "select instigator_body::json -> 'origin' ->> 'job_name' from dagster.instigators where status = 'STOPPED' "
        "order by instigator_type, 1"
    )
    return list(connection.execute(stopped).scalars())


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
