"""The title and the body of a message about alerts that were opened or resolved."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from orcost_pipeline.alerts.receivers import Message
from orcost_pipeline.formats import length
from orcost_pipeline.text import few, message, plural, short
from orcost_pipeline.warehouse.alerting.store import DueMessage

LONGEST_TITLE = 150
LONGEST_BODY = 1_500  # Discord refuses 2,000 characters.
MOST_LISTED = 30
_TYPES = {"error": "failure", "warning": "warning", "note": "info"}


def alert_message(alerts: Sequence[DueMessage], ui_url: str | None) -> Message:
    """One message about one alert, or about all alerts of one code that were opened, or resolved, in one evaluation."""
    first = alerts[0]
    is_resolved = first.kind == "resolved"
    accounts = {alert.account for alert in alerts}
    who = first.account if len(accounts) == 1 and first.account else "deployment"
    about = _first_line(first) if len(alerts) == 1 else f"{plural(len(alerts), 'finding')} of {first.code}"
    lines = [*(_about_one(first) if len(alerts) == 1 else _about_several(alerts))]
    if ui_url:
        lines += ["", ui_url]
    body = message("\n".join(lines))
    return Message(
        title=short(f"orcost: {who}: {'resolved: ' if is_resolved else ''}{about}", LONGEST_TITLE),
        body=body if len(body) <= LONGEST_BODY else f"{body[: LONGEST_BODY - 1]}…",
        type="success" if is_resolved else _TYPES[first.severity],
    )


def _about_one(alert: DueMessage) -> Iterator[str]:
    """The message, since when, and what to do; once resolved, after how long, and what it was."""
    if alert.resolved_at is not None and alert.kind == "resolved":
        lasted = length(alert.resolved_at - (alert.since or alert.opened_at))
        why = f" ({alert.resolution})" if alert.resolution else ""
        yield f"This is resolved{why}, {_instant(alert.resolved_at)}, after {lasted}. It was:"
        yield ""
    yield from alert.message.splitlines()
    if alert.kind == "opened":
        yield f"Since {_instant(alert.since or alert.opened_at)} ({alert.code})"
        yield ""
        yield f"To do: {alert.todo}"


def _about_several(alerts: Sequence[DueMessage]) -> Iterator[str]:
    first = alerts[0]
    if first.kind == "resolved" and first.resolved_at is not None:
        yield f"These are resolved, {_instant(first.resolved_at)}. They were:"
    yield from few([f"- {_account(alert)}{_first_line(alert)}" for alert in alerts], MOST_LISTED)
    if first.kind == "opened":
        yield ""
        yield f"To do: {first.todo}"
        yield "All of them: orcost alerts"


def _account(alert: DueMessage) -> str:
    return f"{alert.account}: " if alert.account else ""


def _first_line(alert: DueMessage) -> str:
    """What goes into a title: of an introduction that ends with a colon, also the first that follows."""
    first, *more = alert.message.splitlines()
    return f"{first} {more[0].strip()}" if more and first.endswith(":") else first


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
