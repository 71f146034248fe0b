"""The receivers of ORCOST_ALERT_URLS, through Apprise: one URL for each mail box, chat or webhook.

No message, error or log entry repeats a URL, which is a secret.
"""

import hashlib
import logging
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

# They log URLs. What went wrong is read from Apprise's warnings, and nothing else is kept.
_APPRISE_LOG = logging.getLogger("apprise")
logging.getLogger("urllib3").setLevel(logging.ERROR)
_HTTP_STATUS = re.compile(r"\berror=(\d{3})\b")


@dataclass(frozen=True)
class Message:
    """A title, a body in plain text, and Apprise's type: failure, warning, info or success."""

    title: str
    body: str
    type: str


@dataclass(frozen=True)
class Receiver:
    """One URL of ORCOST_ALERT_URLS. `service` names it in messages, such as "Slack"; `url_sha256` identifies it.

    `target` is Apprise's object for the URL; None where Apprise cannot read it.
    """

    service: str
    url_sha256: str
    target: Any

    def send(self, message: Message) -> str | None:
        """Sends a message; returns why that failed, None once the service took it."""
        if self.target is None:
            return "Apprise knows no service by this URL."
        with _warnings() as warnings:
            is_taken = self.target.notify(
                title=message.title, body=message.body, notify_type=message.type, body_format="text"
            )
        return None if is_taken else _reason(warnings)


def receivers(urls: SecretStr | None) -> list[Receiver]:
    """The receivers of ORCOST_ALERT_URLS, in order, each URL once; separated as Apprise separates URLs."""
    if urls is None:
        return []
    # Apprise loads more than a hundred plug-ins: only where there is a URL.
    from apprise import Apprise
    from apprise.utils.parse import parse_urls

    found: list[Receiver] = []
    used = Counter[str]()
    with _warnings():
        for number, url in enumerate(dict.fromkeys(parse_urls(urls.get_secret_value())), 1):
            target = Apprise.instantiate(url, suppress_exceptions=True)
            name = str(target.service_name) if target else f"URL {number} of ORCOST_ALERT_URLS"
            used[name] += 1
            service = name if used[name] == 1 else f"{name} {used[name]}"
            found.append(Receiver(service, hashlib.sha256(url.encode()).hexdigest(), target))
    return found


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collects what Apprise logs in this thread, instead of passing it on."""
    messages: list[str] = []
    thread = threading.get_ident()

    class _Collected(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                messages.append(record.getMessage())

    handler = _Collected()
    # Loading Apprise sets its logger up anew.
    _APPRISE_LOG.setLevel(logging.WARNING)
    _APPRISE_LOG.propagate = False
    _APPRISE_LOG.addHandler(handler)
    try:
        yield messages
    finally:
        _APPRISE_LOG.removeHandler(handler)


def _reason(warnings: list[str]) -> str:
    status = next((found[1] for it in warnings if (found := _HTTP_STATUS.search(it))), None)
    return f"It refused the message (HTTP {status})." if status else "It could not be reached, or refused the message."
