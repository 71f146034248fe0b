"""One evaluation of the alert sensor: new findings open alerts, absent ones resolve them, messages are sent.

The state is in `ops.alert` and `ops.alert_delivery`, so that the next evaluation continues one that died. A message is
sent at least once to each receiver, and its success is recorded immediately.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.alerts.receivers import Receiver
from orcost_pipeline.alerts.texts import alert_message
from orcost_pipeline.health.finding import Code, Finding
from orcost_pipeline.warehouse.alerting import store
from orcost_pipeline.warehouse.alerting.store import DueMessage, NewAlert, OpenAlert

SEND_WITHIN = 30.0  # seconds
# Up to this number of alerts of one code in one evaluation are sent as single messages; more are one message.
MOST_MESSAGES = 10
LONGEST_PAUSE = timedelta(minutes=60)
# These stop every sync of an account until a person acts.
OF_THE_KEY = (Code.INVALID_KEY, Code.OTHER_ACCOUNT, Code.ACCOUNT_TWICE, Code.CLOCK_OFF)
BUDGETS = (Code.BUDGET_NEAR, Code.BUDGET_AT_RISK, Code.BUDGET_EXCEEDED)
# Findings that replace a milder one about the same subject.
WORSE = {
    Code.BUDGET_NEAR: (Code.BUDGET_AT_RISK, Code.BUDGET_EXCEEDED),
    Code.BUDGET_AT_RISK: (Code.BUDGET_EXCEEDED,),
    Code.STALE: (*OF_THE_KEY, Code.NO_KEY),
    Code.CREDITS_LOW: (Code.NO_CREDITS,),
}
A_NEW_MONTH = "a new month"

Identity = tuple[str, str | None, str | None]


class Seen(NamedTuple):
    """What an evaluation found: the findings to alert, those that are filtered out, accounts whose last sync failed
    transiently, and accounts without any credits left.

    Of an `uncertain` account nothing is known about its key, so that an alert about it is neither confirmed nor
    resolved. Of a `spent` one only a day without spend shows that it is not billed by invoice: that its credits were
    low ends silently.
    """

    alerts: Sequence[Finding]
    filtered: Sequence[Finding] = ()
    uncertain: frozenset[str] = frozenset()
    spent: frozenset[str] = frozenset()


class Look(NamedTuple):
    """What an evaluation did: the numbers of alerts opened and resolved, and of messages sent and failed."""

    opened: int
    resolved: int
    sent: int
    failed: int


def look(
    engine: sa.Engine,
    seen: Seen,
    receivers: Sequence[Receiver],
    now: datetime,
    *,
    ui_url: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Look | None:
    """Brings alerts up to date and sends what is due for at most 30 s; None while another process does so.

    Raises database errors; a receiver that fails is only recorded.
    """
    with engine.begin() as looking:
        if not store.take_look(looking):
            return None
        with engine.begin() as connection:
            opened, resolved = update(connection, seen, receivers, now)
            store.give_up(connection, [it.url_sha256 for it in receivers], now)
        sent, failed = send_due(engine, receivers, now, ui_url, clock() + SEND_WITHIN, clock)
        with engine.begin() as connection:
            store.note_sent(connection)
    return Look(opened, resolved, sent, failed)


# Findings → alerts


def update(connection: sa.Connection, seen: Seen, receivers: Sequence[Receiver], now: datetime) -> tuple[int, int]:
    """Opens an alert for each new finding and resolves those that are absent for two evaluations; returns both
    numbers."""
    known = {(it.code, it.account, it.subject): it for it in store.open_alerts(connection)}
    # A sync that fails for another reason says nothing about the key: its alert stays open.
    kept = [it for it in known.values() if it.code in OF_THE_KEY and it.account in seen.uncertain]
    refused = {it.account for it in kept}
    found = {_identity(it): it for it in seen.alerts if it.code is not Code.STALE or it.account not in refused}
    muted = {_identity(it) for it in seen.filtered}
    gone = [it for key, it in known.items() if key not in found and it not in kept]
    replaced = [
        it
        for it in gone
        if (it.code, it.account, it.subject) in muted
        or _is_replaced(it, found)
        or (it.code == Code.CREDITS_LOW and it.account in seen.spent)
    ]
    missing = [it for it in gone if it not in replaced]
    for alert in replaced:
        store.resolve(connection, alert.id, now, is_silent=True)
    resolved = [it for it in missing if it.missing_since is not None]
    for alert in resolved:
        store.resolve(connection, alert.id, now, resolution=_resolution(alert, now))
    store.note_presence(connection, [it.id for it in missing], now)
    new = [it for key, it in found.items() if key not in known]
    for finding in new:
        _address(connection, store.open_alert(connection, _stored(finding), now), finding, receivers, now)
    for key, alert in known.items():
        # It was found while no receiver was configured.
        if key in found and not alert.is_addressed:
            _address(connection, alert.id, found[key], receivers, now)
    return len(new), len(resolved) + len(replaced)


def _identity(finding: Finding) -> Identity:
    return finding.code, finding.account, finding.subject


def _is_replaced(alert: OpenAlert, found: Mapping[Identity, Finding]) -> bool:
    """Whether a worse finding about the same subject replaced it, so that the milder one is not resolved."""
    return any((code, alert.account, alert.subject) in found for code in WORSE.get(Code(alert.code), ()))


def _resolution(alert: OpenAlert, now: datetime) -> str | None:
    is_of_last_month = (alert.opened_at.year, alert.opened_at.month) != (now.year, now.month)
    return A_NEW_MONTH if alert.code in BUDGETS and is_of_last_month else None


def _stored(finding: Finding) -> NewAlert:
    return NewAlert(
        finding.account,
        finding.code,
        finding.subject,
        finding.severity,
        finding.message,
        finding.todo,
        finding.since,
    )


def _address(
    connection: sa.Connection, alert_id: int, finding: Finding, receivers: Iterable[Receiver], now: datetime
) -> None:
    """Makes the message due at every receiver; that one of them fails is for the others."""
    to = [
        (it.service, it.url_sha256)
        for it in receivers
        if not (finding.code is Code.ALERT_UNDELIVERABLE and it.service == finding.subject)
    ]
    store.address(connection, alert_id, to, now)


# Messages


def send_due(
    engine: sa.Engine,
    receivers: Sequence[Receiver],
    now: datetime,
    ui_url: str | None,
    deadline: float,
    clock: Callable[[], float],
) -> tuple[int, int]:
    """Sends the due messages to each receiver until the deadline, to all receivers at the same time; returns how many
    were sent and how many failed. After its first failure a receiver gets nothing more at this look.
    """
    with engine.connect() as connection:
        due = store.due_messages(connection, [it.url_sha256 for it in receivers], now)
    if not due:
        return 0, 0

    def send_to(receiver: Receiver) -> tuple[int, int]:
        sent = 0
        for alerts in batches(it for it in due if it.url_sha256 == receiver.url_sha256):
            if clock() > deadline:
                break
            error = receiver.send(alert_message(alerts, ui_url))
            next_attempt_at = now + pause(max(it.attempts for it in alerts) + 1) if error else None
            with engine.begin() as connection:
                store.note_attempt(
                    connection,
                    [it.id for it in alerts],
                    alerts[0].kind,
                    receiver.url_sha256,
                    sent_at=None if error else now,
                    next_attempt_at=next_attempt_at,
                    error=error,
                )
            if error:
                return sent, 1
            sent += 1
        return sent, 0

    with ThreadPoolExecutor(max_workers=len(receivers)) as pool:
        results = list(pool.map(send_to, receivers))
    return sum(sent for sent, _ in results), sum(failed for _, failed in results)


def batches(due: Iterable[DueMessage]) -> list[list[DueMessage]]:
    """The messages of one receiver: one for each alert, and one for more than ten of one code and evaluation."""

    def of_one_look(it: DueMessage) -> tuple[str, str, datetime]:
        return it.kind, it.code, it.resolved_at if it.kind == "resolved" and it.resolved_at else it.opened_at

    found: list[list[DueMessage]] = []
    for _, group in groupby(sorted(due, key=lambda it: (of_one_look(it)[2], it.code, it.kind, it.id)), key=of_one_look):
        alerts = list(group)
        found += [alerts] if len(alerts) > MOST_MESSAGES else [[alert] for alert in alerts]
    return found


def pause(attempts: int) -> timedelta:
    """How long to wait after so many attempts: 1, 2, 4 … at most 60 minutes."""
    return min(timedelta(minutes=2 ** min(attempts - 1, 10)), LONGEST_PAUSE)
