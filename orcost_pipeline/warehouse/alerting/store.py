"""Rows of `ops.alert` and `ops.alert_delivery`: which alerts are open, and which messages are due at which receiver."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.locks import ALERT_LOCK
from orcost_pipeline.warehouse.questions.asking import Rows, as_relation, records
from orcost_pipeline.warehouse.statements import statement

Kind = Literal["opened", "resolved"]

# A message that no attempt delivered is given up after this time.
GIVEN_UP_AFTER = timedelta(days=1)


class OpenAlert(NamedTuple):
    """An alert whose finding was present at the last evaluation, or has been missing since one. Instants are UTC.

    `is_addressed`: there is a message for some receiver, sent or not.
    """

    id: int
    account: str | None
    code: str
    subject: str | None
    opened_at: datetime
    missing_since: datetime | None
    is_addressed: bool


class NewAlert(NamedTuple):
    """The fields of a finding that are stored when it becomes an alert."""

    account: str | None
    code: str
    subject: str | None
    severity: str
    message: str
    todo: str
    since: datetime | None


class DueMessage(NamedTuple):
    """A message that is due at a receiver: that an alert was opened, or that it is resolved."""

    id: int
    account: str | None
    code: str
    subject: str | None
    severity: str
    message: str
    todo: str
    since: datetime | None
    opened_at: datetime
    resolved_at: datetime | None
    resolution: str | None
    kind: Kind
    url_sha256: str
    attempts: int


class FailingReceiver(NamedTuple):
    """The service of a receiver that failed three times in a row, since when, and its last error."""

    service: str
    since: datetime
    error: str


def take_look(connection: sa.Connection) -> bool:
    """Whether this transaction may evaluate alerts: False while another process of the same warehouse does."""
    taken = sa.select(sa.func.pg_try_advisory_xact_lock(ALERT_LOCK, 0))
    return bool(connection.execute(taken).scalar_one())


def open_alerts(connection: sa.Connection) -> list[OpenAlert]:
    """All alerts that are not resolved, oldest first."""
    return records(OpenAlert, connection.execute(_sql("open_alerts")))


def open_alert(connection: sa.Connection, alert: NewAlert, now: datetime) -> int:
    """Stores an alert and returns its id."""
    return int(connection.execute(_sql("open_alert"), {**alert._asdict(), "now": now}).scalar_one())


def address(connection: sa.Connection, alert_id: int, receivers: Iterable[tuple[str, str]], now: datetime) -> None:
    """Makes the opening message of an alert due at receivers, each a service and the SHA-256 of its URL."""
    for service, url_sha256 in receivers:
        parameters = {"alert_id": alert_id, "service": service, "url_sha256": url_sha256, "now": now}
        connection.execute(_sql("address"), parameters)


def note_presence(connection: sa.Connection, missing: Collection[int], now: datetime) -> None:
    """Marks open alerts whose finding is absent in this evaluation, and clears the mark of all others."""
    connection.execute(_sql("note_presence"), {"missing": list(missing), "now": now})


def resolve(
    connection: sa.Connection, alert_id: int, now: datetime, *, resolution: str | None = None, is_silent: bool = False
) -> None:
    """Closes an alert; makes its resolution due if the alert was sent, unless `is_silent`."""
    parameters = {"alert_id": alert_id, "now": now, "resolution": resolution, "is_silent": is_silent}
    connection.execute(_sql("resolve"), parameters)


def due_messages(connection: sa.Connection, receivers: Collection[str], now: datetime) -> Sequence[DueMessage]:
    """The messages due at the receivers (SHA-256 of their URLs), oldest first."""
    return records(DueMessage, connection.execute(_sql("due_messages"), {"receivers": list(receivers), "now": now}))


def note_attempt(
    connection: sa.Connection,
    alert_ids: Collection[int],
    kind: Kind,
    url_sha256: str,
    *,
    sent_at: datetime | None,
    next_attempt_at: datetime | None,
    error: str | None,
) -> None:
    """Records one attempt to send one message about these alerts to one receiver."""
    parameters = {
        "alert_ids": list(alert_ids),
        "kind": kind,
        "url_sha256": url_sha256,
        "sent_at": sent_at,
        "next_attempt_at": next_attempt_at,
        "error": error,
    }
    connection.execute(_sql("note_attempt"), parameters)


def note_sent(connection: sa.Connection) -> None:
    """Dates the messages of alerts that every receiver accepted, or that were given up for the others."""
    connection.execute(_sql("note_sent"))


def give_up(connection: sa.Connection, receivers: Collection[str], now: datetime) -> None:
    """Ends the attempts for receivers that are not among these, and for messages that failed for a day."""
    connection.execute(_sql("give_up"), {"receivers": list(receivers), "before": now - GIVEN_UP_AFTER})


def failing_receivers(connection: sa.Connection) -> Sequence[FailingReceiver]:
    """The receivers whose messages failed three times and that took none since."""
    return records(FailingReceiver, connection.execute(_sql("failing_receivers")))


def listed_alerts(connection: sa.Connection, *, has_history: bool) -> Rows:
    """Open alerts, newest first, with the resolved ones where `has_history`; columns as in `ops.alert`."""
    return as_relation(connection.execute(_sql("listed"), {"has_history": has_history}))


def _sql(name: str) -> sa.TextClause:
    return statement("alerting", name)
