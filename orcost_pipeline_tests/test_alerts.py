"""Alerts: one message when a finding appears, one when it is gone, whatever becomes of the receivers."""

import contextlib
import itertools
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.alerts.look import Look, Seen, look
from orcost_pipeline.alerts.receivers import Message, receivers
from orcost_pipeline.health.finding import Code, Finding, Severity
from orcost_pipeline_tests.webhook import Posted, Webhook
from orcost_pipeline_tests.world import NOON

MINUTE = timedelta(minutes=1)


def finding(code: Code = Code.INVALID_KEY, account: str | None = "acme", subject: str | None = None) -> Finding:
    severity = Severity.ERROR if code in (Code.INVALID_KEY, Code.STALE) else Severity.WARNING
    return Finding(severity, code, account, f"It is {code}.\nAnd more.", f"mend {code}", NOON, subject)


class Looking:
    """Looks at findings, a minute apart."""

    def __init__(self, engine: sa.Engine, *webhooks: Webhook) -> None:
        self.engine, self.now = engine, NOON
        self.receivers = receivers(SecretStr(" ".join(it.url for it in webhooks)))

    def __call__(self, *found: Finding, **more: Any) -> Look:
        self.now += MINUTE
        done = look(self.engine, Seen(list(found), **more), self.receivers, self.now, ui_url="https://dagster.acme")
        assert done is not None
        return done

    def alerts(self) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(it) for it in connection.execute(sa.text("select * from ops.alert order by id")).mappings()]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as it:
        yield it


@pytest.fixture
def other() -> Iterator[Webhook]:
    with Webhook() as it:
        yield it


def test_a_finding_is_one_message_when_it_appears_and_one_when_it_is_gone(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine, webhook)
    assert looking(finding()) == Look(opened=1, resolved=0, sent=1, failed=0)
    assert webhook.taken() == [
        Posted(
            "orcost: acme: It is invalid_key.",
            f"It is invalid_key.\nAnd more.\nSince {NOON:%Y-%m-%d %H:%M} UTC (invalid_key)\n\n"
            "To do: mend invalid_key\n\nhttps://dagster.acme",
            "failure",
        )
    ]
    moved = replace(finding(), message="It is invalid_key, still.")
    for _ in range(10):
        assert looking(moved) == Look(0, 0, 0, 0)
    assert looking() == Look(0, 0, 0, 0), "one look without it proves nothing"
    assert looking() == Look(opened=0, resolved=1, sent=1, failed=0)
    (gone,) = webhook.taken()
    assert (gone.title, gone.type) == ("orcost: acme: resolved: It is invalid_key.", "success")
    assert "resolved" in gone.message
    assert looking() == Look(0, 0, 0, 0)
    (alert,) = looking.alerts()
    assert alert["sent_at"] == NOON + MINUTE == alert["opened_at"]
    assert alert["resolved_at"] == alert["resolution_sent_at"] == looking.now - MINUTE
    assert (alert["attempts"], alert["error"]) == (2, None)


def test_a_finding_that_returns_within_two_looks_was_never_gone(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine, webhook)
    looking(finding())
    for _ in range(3):
        looking()
        looking(finding())
    assert len(webhook.taken()) == 1
    assert len(looking.alerts()) == 1


def test_code_account_and_subject_make_a_finding_and_its_figures_do_not(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine, webhook)
    near = [finding(Code.KEY_LIMIT_NEAR, subject=key) for key in ("a" * 64, "b" * 64)]
    looking(*near, finding(Code.KEY_LIMIT_NEAR, "globex", "a" * 64))
    assert len(webhook.taken()) == 3
    looking(*(Finding(it.severity, it.code, it.account, "91 %", it.todo, subject=it.subject) for it in near))
    assert webhook.taken() == []


@pytest.mark.slow
def test_a_receiver_that_is_down_delays_its_own_messages_only(
    engine: sa.Engine, webhook: Webhook, other: Webhook
) -> None:
    looking = Looking(engine, webhook, other)
    other.status = 503
    looking(finding())
    assert len(webhook.taken()) == 1
    for _ in range(60):
        looking(finding())
    assert other.attempts == 6, "after 1, 2, 4, 8, 16 and 32 minutes"
    assert webhook.taken() == []
    (alert,) = looking.alerts()
    assert alert["sent_at"] is None, "not before the last service took it"
    assert alert["error"] == "It refused the message (HTTP 503)."
    looking()
    looking()
    assert [it.type for it in webhook.taken()] == ["success"]
    other.status = 200
    for _ in range(61):
        looking()
    assert [it.type for it in other.taken()] == ["failure", "success"], "each once, in their order"
    assert webhook.taken() == []
    (alert,) = looking.alerts()
    assert None not in (alert["sent_at"], alert["resolution_sent_at"])


@pytest.mark.slow
def test_an_alert_resolved_before_delivery_is_dropped(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine, webhook)
    webhook.status = 500
    looking(finding())
    looking()
    looking()
    webhook.status = 200
    for _ in range(61):
        looking()
    assert webhook.taken() == []
    (alert,) = looking.alerts()
    assert (alert["sent_at"], alert["resolution_sent_at"]) == (None, None)
    assert alert["resolved_at"] is not None


def test_a_message_is_given_up_after_a_day(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine, webhook)
    webhook.status = 500
    looking(finding())
    for _ in range(26):
        looking.now += timedelta(hours=1)
        looking(finding())
    attempts = webhook.attempts
    assert attempts > 20
    webhook.status = 200
    looking.now += timedelta(hours=2)
    looking(finding())
    assert (webhook.attempts, webhook.taken()) == (attempts, [])


def test_more_than_ten_of_one_code_are_one_message(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine, webhook)
    many = [finding(Code.KEY_UNASSIGNED, subject=f"{number:064}") for number in range(11)]
    assert looking(*many, finding()).sent == 2
    assert [it.title for it in webhook.taken()] == [
        "orcost: acme: It is invalid_key.",
        "orcost: acme: 11 findings of key_unassigned",
    ]
    assert [it["sent_at"] for it in looking.alerts()] == [looking.now] * 12
    ten = [finding(Code.KEY_UNASSIGNED, "globex", f"{number:064}") for number in range(10)]
    assert looking(*many, finding(), *ten).sent == 10
    looking(*ten)
    assert looking(*ten).sent == 2, "what is resolved together is told together too"


def test_one_more_of_a_code_is_a_message_of_its_own(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine, webhook)
    keys = itertools.count()
    known: list[Finding] = []
    for _ in range(12):
        known.append(finding(Code.KEY_UNASSIGNED, subject=f"{next(keys):064}"))
        assert looking(*known).sent == 1


def test_the_worse_code_of_a_subject_ends_the_milder_one_silently(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine, webhook)
    looking(finding(Code.BUDGET_NEAR, None, "Acme"))
    looking(finding(Code.BUDGET_AT_RISK, None, "Acme"), finding(Code.BUDGET_NEAR, None, "Globex"))
    looking(finding(Code.BUDGET_EXCEEDED, None, "Acme"), finding(Code.BUDGET_NEAR, None, "Globex"))
    for _ in range(3):
        looking(finding(Code.BUDGET_EXCEEDED, None, "Acme"), finding(Code.BUDGET_NEAR, None, "Globex"))
    assert [it.title for it in webhook.taken()] == [
        "orcost: deployment: It is budget_near.",
        "orcost: deployment: It is budget_at_risk.",
        "orcost: deployment: It is budget_near.",
        "orcost: deployment: It is budget_exceeded.",
    ]


def test_a_budget_ends_with_its_month(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine, webhook)
    looking(finding(Code.BUDGET_EXCEEDED, None, "Acme"))
    webhook.taken()
    looking.now = (NOON.replace(day=1) + timedelta(days=32)).replace(day=1)
    looking()
    looking()
    (gone,) = webhook.taken()
    assert "resolved (a new month)" in gone.message


def test_a_key_that_was_refused_is_not_proven_by_an_outage(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine, webhook)
    looking(finding())
    for _ in range(5):
        looking(finding(Code.STALE), uncertain=frozenset({"acme"}))
    looking(finding())
    assert len(webhook.taken()) == 1, "the refusal, and nothing about the data that is old because of it"
    looking()
    looking()
    assert [it.type for it in webhook.taken()] == ["success"]


def test_what_is_muted_while_it_is_open_ends_silently(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine, webhook)
    looking(finding(Code.UNATTRIBUTED))
    webhook.taken()
    for _ in range(3):
        looking(filtered=[finding(Code.UNATTRIBUTED)])
    assert webhook.taken() == []
    (alert,) = looking.alerts()
    assert alert["resolved_at"] is not None


def test_a_failing_receiver_is_told_to_the_others_only(engine: sa.Engine, webhook: Webhook, other: Webhook) -> None:
    looking = Looking(engine, webhook, other)
    failing, taking = looking.receivers
    assert (failing.service, taking.service) == ("JSON", "JSON 2")
    webhook.status = 401
    looking(finding(Code.ALERT_UNDELIVERABLE, None, failing.service))
    webhook.status = 200
    looking(finding(Code.ALERT_UNDELIVERABLE, None, failing.service))
    assert (len(webhook.taken()), len(other.taken())) == (0, 1)


def test_a_receiver_that_hangs_does_not_hold_up_a_look(engine: sa.Engine, webhook: Webhook, other: Webhook) -> None:
    looking = Looking(engine, webhook, other)
    ticks = iter([0.0, 1.0, 1.0, 31.0, 31.0, *itertools.repeat(31.0, 20)])
    looking.now += MINUTE
    found = Seen([finding(Code.KEY_UNASSIGNED, subject=f"{number:064}") for number in range(5)])
    done = look(engine, found, looking.receivers, looking.now, clock=lambda: next(ticks))
    assert done is not None
    assert done.sent < 10, "what is left after 30 s is for the next look"
    looking(*found.alerts)
    assert (len(webhook.taken()), len(other.taken())) == (5, 5)


def test_findings_that_nobody_could_get_are_sent_once_there_is_a_receiver(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine)
    looking(finding())
    looking.receivers = receivers(SecretStr(webhook.url))
    looking(finding())
    assert len(webhook.taken()) == 1


def test_a_receiver_that_is_taken_away_is_not_asked_again(engine: sa.Engine, webhook: Webhook, other: Webhook) -> None:
    looking = Looking(engine, webhook, other)
    other.status = 500
    looking(finding())
    looking.receivers = looking.receivers[:1]
    looking(finding())
    (alert,) = looking.alerts()
    assert alert["sent_at"] is not None
    other.status = 200
    looking.receivers = receivers(SecretStr(f"{webhook.url} {other.url}"))
    for _ in range(5):
        looking(finding())
    assert other.taken() == []


def test_one_look_at_a_time(engine: sa.Engine, webhook: Webhook) -> None:
    looking = Looking(engine, webhook)
    with engine.begin() as connection:
        connection.execute(sa.text("select pg_advisory_xact_lock(7307, 0)"))
        assert look(engine, Seen([finding()]), looking.receivers, NOON) is None
    assert look(engine, Seen([finding()]), looking.receivers, NOON) is not None


@pytest.mark.slow
def test_a_look_that_dies_after_sending_is_continued_by_the_next(
    engine: sa.Engine, webhook: Webhook, other: Webhook
) -> None:
    """A message is sent at least once: what was recorded before is not repeated."""
    looking = Looking(engine, webhook, other)
    taken = looking.receivers[1].target

    class Dies:
        def notify(self, **_: object) -> bool:
            raise KeyboardInterrupt

    object.__setattr__(looking.receivers[1], "target", Dies())
    with pytest.raises(KeyboardInterrupt):
        looking(finding())
    object.__setattr__(looking.receivers[1], "target", taken)
    looking(finding())
    assert (len(webhook.taken()), len(other.taken())) == (1, 1)


@contextlib.contextmanager
def everything_logged(file: Path) -> Iterator[None]:
    """What a process logs that keeps all, as Dagster's log file may."""
    root, handler = logging.getLogger(), logging.FileHandler(file)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def test_no_secret_of_a_url_is_in_a_message_a_table_or_a_log(
    engine: sa.Engine, webhook: Webhook, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    looking = Looking(engine, webhook)
    with everything_logged(tmp_path / "log"):
        for status in (401, 500):
            webhook.status = status
            looking(finding())
            looking.now += timedelta(hours=1)
        looking.receivers = receivers(SecretStr("json://user:s3cret-password@127.0.0.1:1/s3cret-token nope://s3cret"))
        looking(finding(), finding(Code.UNATTRIBUTED))
        looking(finding(), finding(Code.UNATTRIBUTED))
    with engine.connect() as connection:
        rows = [
            str(row)
            for table in ("ops.alert", "ops.alert_delivery")
            for row in connection.execute(sa.text(f"select * from {table}"))
        ]
    assert any("It could not be reached" in row for row in rows)
    assert any("Apprise knows no service by this URL." in row for row in rows)
    told = capfd.readouterr()
    logged = (tmp_path / "log").read_text(encoding="utf-8")
    assert not [it for it in [*rows, logged, told.out, told.err] if "s3cret" in it]


def test_names_are_plain_text_in_a_message(engine: sa.Engine, webhook: Webhook) -> None:
    evil = "\x1b[31m<script>alert(1)</script> *bold* @everyone ${x}"
    Looking(engine, webhook)(Finding(Severity.WARNING, Code.UNATTRIBUTED, "acme", evil, evil))
    (posted,) = webhook.taken()
    assert "\x1b" not in posted.title + posted.message
    assert "<script>alert(1)</script> *bold* @everyone ${x}" in posted.message


def test_urls_are_separated_as_apprise_does_and_each_is_one_receiver() -> None:
    found = receivers(SecretStr("json://one, json://two json://one; nonsense"))
    assert [it.service for it in found] == ["JSON", "JSON 2", "URL 3 of ORCOST_ALERT_URLS"]
    assert found[2].send(Message("t", "b", "info")) == "Apprise knows no service by this URL."
