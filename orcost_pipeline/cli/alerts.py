"""`orcost alerts`: the alerts that are open, or all that ever were, and a message to test every receiver."""

from datetime import datetime

import typer
from rich.table import Table

from orcost_pipeline.alerts.receivers import Message, Receiver, receivers
from orcost_pipeline.cli.rendering import cells, say, show, table, write_json
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.formats import UNKNOWN, clock
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.alerting.store import listed_alerts
from orcost_pipeline.warehouse.questions.asking import Rows

COLUMNS = ("Opened", "Account", "Severity", "Code", "Sent", "Resolved", "Message")
NO_RECEIVER = (
    "No receiver is configured: ORCOST_ALERT_URLS is not set.\n"
    "Set it to one or more Apprise URLs, such as slack://TOKEN_A/TOKEN_B/TOKEN_C, then: orcost alerts test"
)


def alerts(settings: Settings, output: str, now: datetime, *, has_history: bool) -> None:
    """Prints open alerts, newest first, and with `has_history` the resolved ones."""
    with snapshot(settings) as connection:
        found = listed_alerts(connection, has_history=has_history)
    if output == "json":
        write_json(found)
        return
    if found.rows:
        show(_table(found, now))
    else:
        say("No alert was ever sent." if has_history else "No alert is open.")
    if settings.alert_urls is None:
        say(NO_RECEIVER, is_error=True)


def _table(found: Rows, now: datetime) -> Table:
    drawn = table(*COLUMNS)
    for row in found.rows:
        drawn.add_row(
            *cells(
                clock(row["opened_at"], now),
                row["account"] or "deployment",
                row["severity"],
                row["code"],
                _at(row["sent_at"], now) if row["sent_at"] or not row["error"] else f"no: {row['error']}",
                _at(row["resolved_at"], now),
                row["message"].splitlines()[0],
            )
        )
    return drawn


def _at(instant: datetime | None, now: datetime) -> str:
    return clock(instant, now) if instant else UNKNOWN


def send_test(settings: Settings) -> int:
    """Sends a test message to every receiver; returns 1 if one of them did not take it, else 0.

    Raises PermanentError where none is configured.
    """
    configured = receivers(settings.alert_urls)
    if not configured:
        raise PermanentError(NO_RECEIVER)
    lost = [it for it in configured if not _is_taken(it, settings)]
    return int(bool(lost))


def _is_taken(receiver: Receiver, settings: Settings) -> bool:
    """Sends the test message to one receiver and prints how that ended."""
    lines = ["This is a test. Alerts about your OpenRouter costs will come here."]
    if settings.alerts.ui_url:
        lines += ["", settings.alerts.ui_url]
    problem = receiver.send(Message("orcost: deployment: test", "\n".join(lines), "info"))
    if problem:
        todo = "Correct its URL in ORCOST_ALERT_URLS, or see whether the service is up."
        say(f"{receiver.service}: {problem} {todo}", is_error=True)
    else:
        typer.echo(f"{receiver.service}: sent")
    return problem is None
