"""What must hold when a soak ends: closed books, nothing twice, nothing stuck, each message once."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from benchmarks.soak.deployment import ACCOUNTS, HOUR, Soak
from benchmarks.soak.faults import KILLING
from orcost_pipeline.windows import hour_floor
from orcost_pipeline_tests.world import World

MEASURES = ("credits_usd", "byok_usd", "requests")
# What a fault makes wrong, and its end makes right.
OF_FAULTS = ("invalid_key", "stale", "no_key", "clock_off", "days_open", "alert_undeliverable")

_COMPLETE_TO = "select account, as_of from ref.account where as_of is not null order by account"
_OF_ACCOUNT = "select {sums} from {relation} where account = :account"
_OPEN_DAYS = "select account, day, cause from marts.reconciliation_daily where status not in ('closed', 'explained')"
_STUCK = (
    "select 'Dagster: ' || run_id || ' ' || status from dagster.runs where status not in "
    "('SUCCESS', 'FAILURE', 'CANCELED') "
    "union all select 'ops.sync_run: ' || run_id || ' ' || account from ops.sync_run where status = 'running'"
)
_LAUNCHED_TWICE = (
    "select t.value, count(*) from dagster.run_tags t join dagster.runs r using (run_id) where t.key = "
    "'dagster/run_key' and not exists (select from dagster.run_tags p where p.run_id = r.run_id "
    "and p.key = 'dagster/parent_run_id') group by t.value having count(*) > 1"
)
_DELIVERED = "select count(*) from ops.alert_delivery where kind = :kind and sent_at is not null"
_UNSENT = (
    "select a.code, a.account, d.kind, d.error from ops.alert_delivery d join ops.alert a on a.id = d.alert_id "
    "where d.next_attempt_at is not null or (d.sent_at is null and d.error is not null) "
    "union all select code, account, 'opened', error from ops.alert where sent_at is null and resolved_at is null"
)
_UNSETTLED = (
    "select count(*) from ops.alert "
    "where resolved_at is null and (missing_since is not null or code = any(:of_faults)) "
    "union all select count(*) from ops.alert_delivery where next_attempt_at is not null"
)
_SUCCEEDED = "select account, count(*) from ops.sync_run where status = 'succeeded' group by 1"


class Tick(NamedTuple):
    """One hour of the soak: what happened to it, and how it ended."""

    number: int
    hour: datetime
    fault: str
    detail: str
    outcome: str
    seconds: float
    messages: int


class Check(NamedTuple):
    """One thing that was checked: what was found, and what is wrong about it (nothing, mostly)."""

    name: str
    found: str
    wrong: Collection[str]


def checks(soak: Soak, ticks: Collection[Tick]) -> Iterator[Check]:
    """All of them, in the order of the report."""
    yield _books(soak)
    yield _days(soak)
    yield _hours(soak)
    twice = [f"{key} was launched {count} times" for key, count in soak.rows(_LAUNCHED_TWICE)]
    yield Check("nothing twice", f"{soak.value('select count(*) from dagster.runs')} runs", twice)
    yield Check("no run stuck", "Dagster, ops.sync_run", [row[0] for row in soak.rows(_STUCK)])
    yield _alerts(soak, ticks)
    yield _heartbeats(soak, ticks)


def is_settled(soak: Soak) -> bool:
    """Whether no alert waits to be resolved, as those of faults do now, and no message to be sent."""
    return all(count == 0 for (count,) in soak.rows(_UNSETTLED, of_faults=list(OF_FAULTS)))


def _books(soak: Soak) -> Check:
    """Companies, facts and the ledger have the same sums, and every cell of the facts is the ledger's."""
    synced: dict[str, datetime] = dict(soak.rows(_COMPLETE_TO))
    wrong = [f"{account} was never synced" for account in ACCOUNTS if account not in synced]
    total = Decimal(0)
    for account, as_of in synced.items():
        truth = soak.ledger.hourly(account, soak.started_at - 31 * 24 * HOUR, as_of, now=as_of)
        true = tuple(sum(getattr(usage, it) for usage in truth.values()) for it in MEASURES)
        total += sum((usage.credits_usd for usage in truth.values()), Decimal(0))
        for relation in ("core.usage_hourly join ref.account using (account_id)", "core.spend_hourly"):
            statement = _OF_ACCOUNT.format(sums=", ".join(f"sum({it})" for it in MEASURES), relation=relation)
            (stored,) = soak.rows(statement, account=account)
            if stored != true:
                wrong.append(f"{account}: {relation} has {stored}, the ledger {true}")
        wrong += _of_world(soak, account, as_of)
    return Check("books closed", f"{total} USD: companies, facts and ledger agree", wrong)


def _of_world(soak: Soak, account: str, as_of: datetime) -> Iterator[str]:
    with soak.engine() as engine:
        world = World(engine, soak.ledger, as_of, account=account)
        for assertion in (world.assert_hours_are_true, world.assert_days_are_true, world.assert_books_close):
            yield from _failure(account, assertion)


def _failure(account: str, assertion: Callable[[], None]) -> Iterator[str]:
    try:
        assertion()
    except AssertionError as error:
        yield f"{account}: {assertion.__name__}: {error}"


def _days(soak: Soak) -> Check:
    statuses = soak.rows("select status, count(*) from marts.reconciliation_daily group by 1 order by 1")
    opened = [f"{account} {day}: {cause}" for account, day, cause in soak.rows(_OPEN_DAYS)]
    return Check("days reconciled", ", ".join(f"{count} {status}" for status, count in statuses), opened)


def _hours(soak: Soak) -> Check:
    """Every hour in which the ledger has usage is stored, and no other."""
    wrong: list[str] = []
    count = 0
    for account, as_of in soak.rows(_COMPLETE_TO):
        true = {hour for hour, _, _ in soak.ledger.hourly(account, soak.started_at, as_of, now=as_of)}
        found = soak.rows(
            "select distinct hour from core.spend_hourly where account = :account and hour >= :start",
            account=account,
            start=soak.started_at,
        )
        stored = {hour for (hour,) in found}
        count += len(true)
        wrong += [f"{account}: {hour:%Y-%m-%d %H:00}" for hour in sorted(true ^ stored)]
        if as_of < hour_floor(soak.clock.now()):
            wrong.append(f"{account} is complete to {as_of:%Y-%m-%d %H:%M} only")
    return Check("no missed hour", f"{count} hours of {len(ACCOUNTS)} accounts", wrong)


def _alerts(soak: Soak, ticks: Collection[Tick]) -> Check:
    """Each message that is recorded as sent was received once; once more at most for each kill while one was sent."""
    posted = Counter("resolved" if it.type == "success" else "opened" for it in soak.webhook.posted)
    sent = {kind: soak.value(_DELIVERED, kind=kind) for kind in ("opened", "resolved")}
    repeated = sum(posted.values()) - sum(sent.values())
    allowed = sum(tick.fault in KILLING and tick.messages > 0 for tick in ticks)
    wrong = [
        f"{kind}: {posted[kind]} received, {count} recorded" for kind, count in sent.items() if posted[kind] < count
    ]
    if repeated > allowed:
        wrong.append(f"{repeated} messages were received once more, {allowed} at most by a kill")
    wrong += [f"not sent: {' '.join(map(str, row))}" for row in soak.rows(_UNSENT)]
    still = soak.rows("select code, account, message from ops.alert where resolved_at is null order by id")
    wrong += [f"still open: {code} {account}: {message}" for code, account, message in still if code in OF_FAULTS]
    open_codes = ", ".join(code for code, *_ in still) or "none"
    found = f"{sent['opened']} alerts, {sent['resolved']} recoveries, {repeated} sent twice; open: {open_codes}"
    return Check("alerts sent once", found, wrong)


def _heartbeats(soak: Soak, ticks: Collection[Tick]) -> Check:
    """One for each published sync; a process that was killed between the two sent none."""
    beats = Counter(path.rpartition("/")[2] for path in soak.webhook.fetched)
    succeeded: dict[str, int] = dict(soak.rows(_SUCCEEDED))
    missing = sum(succeeded.values()) - sum(beats.values())
    allowed = sum(tick.fault in KILLING for tick in ticks)
    wrong = [
        f"{name}: {beats[name]}, syncs {succeeded.get(name, 0)}"
        for name in beats
        if beats[name] > succeeded.get(name, 0)
    ]
    if missing > allowed:
        wrong.append(f"{missing} are missing, {allowed} at most by a kill")
    return Check("heartbeats", f"{sum(beats.values())} of {sum(succeeded.values())} succeeded syncs", wrong)
