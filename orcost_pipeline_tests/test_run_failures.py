"""A run whose key, server or database fails publishes nothing and says why in one sentence."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import dagster as dg
import psycopg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from orcost_pipeline.defs.resources import RETRIES
from orcost_pipeline.simulator import Fault
from orcost_pipeline.sync.steps import publish_account
from orcost_pipeline.sync.sync_step import SyncStep
from orcost_pipeline.warehouse.locks import SYNC_LOCK
from orcost_pipeline.warehouse.publication import Publication
from orcost_pipeline.warehouse.questions.mapping import RuleRow, rules_in_force
from orcost_pipeline_tests.dagster_deployment import Deployment, events, fail_once, sentence
from orcost_pipeline_tests.world import NOON, after_step

pytest_plugins = ["orcost_pipeline_tests.dagster_deployment"]


# ── a key or a server that fails ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_revoked_key_fails_the_run_and_changes_no_figure(synced: Deployment) -> None:
    before = synced.figures()
    synced.clock.later(hours=1)
    synced.spend("5")
    synced.simulator.inject(Fault("401", times=None))
    result = synced.run()
    assert not result.success
    assert sentence(result).startswith("Invalid API key: ")
    assert sentence(result).endswith("\nCosts stay as of 2026-11-23 12:20 UTC; nothing was lost.")
    assert not events(result, dg.DagsterEventType.STEP_UP_FOR_RETRY)
    assert synced.figures() == before
    run = synced.last_run()
    assert (run.status, run.as_of, run.finished_at) == ("failed", None, synced.clock.now)
    assert run.error == sentence(result)
    account = synced.rows("select status, checked_at, error, as_of from ref.account")
    assert account == [("invalid_key", synced.clock.now, run.error, NOON)]


@pytest.mark.slow
def test_a_revoked_key_is_asked_once_an_hour(synced: Deployment) -> None:
    """Neither the client nor Dagster asks again: a rerun cannot help."""
    synced.simulator.inject(Fault("401", times=None))
    for _ in range(3):
        synced.clock.later(hours=1)
        synced.simulator.forget_requests()
        result = synced.run()
        assert not result.success
        assert synced.simulator.count == 1
        assert events(result, dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
        assert events(result, dg.DagsterEventType.STEP_RESTARTED) == []
    assert synced.value("select count(*) from ops.sync_run where status = 'failed'") == 3


@pytest.mark.slow
def test_no_event_and_no_table_ever_holds_a_key(acme: Deployment) -> None:
    wrong = "sk-or-v1-" + "0123456789abcdef" * 4
    acme.with_account(api_key=SecretStr(wrong))
    result = acme.run()
    assert "Invalid API key" in sentence(result)
    logged = acme.instance.all_logs(result.run_id)
    told = "\n".join(str(record) for record in logged) + str(acme.rows("select * from ops.sync_run"))
    assert wrong not in told
    assert wrong[-16:] not in told


@pytest.mark.slow
def test_a_key_put_right_makes_the_account_whole_again(acme: Deployment) -> None:
    acme.simulator.inject(Fault("401", times=None))
    assert not acme.run().success
    acme.simulator.clear_faults()
    acme.clock.later(minutes=5)
    assert acme.run().success
    assert acme.rows("select status, error, as_of from ref.account") == [("ok", None, acme.clock.now)]
    assert sum(acme.companies().values()) == Decimal("111.75")


@pytest.mark.slow
def test_a_server_that_is_down_is_unreachable_and_the_figures_stay(synced: Deployment) -> None:
    before = synced.figures()
    synced.clock.later(hours=1)
    synced.with_account(base_url="http://127.0.0.1:9/api/v1")
    result = synced.run()
    assert not result.success
    assert "OpenRouter or the network is down; the next sync catches up." in sentence(result)
    assert synced.value("select status from ref.account") == "unreachable"
    assert synced.last_run().status == "failed"
    assert synced.figures() == before


@pytest.mark.slow
def test_analytics_that_fail_midway_publish_nothing(synced: Deployment) -> None:
    before = synced.figures()
    synced.clock.later(hours=1)
    synced.spend("5")
    synced.ledger.rename("acme", next(iter(synced.ledger.accounts["acme"].keys)), "Other", synced.clock.now)
    synced.simulator.inject(Fault("500", times=None, match="/analytics"))
    assert not synced.run().success
    assert synced.value("select status from ref.account") == "unreachable"
    assert synced.figures() == before
    synced.simulator.clear_faults()
    assert synced.run().success
    assert sum(synced.companies().values()) == Decimal("116.75")


@pytest.mark.slow
def test_an_ordinary_key_syncs_itself(acme: Deployment) -> None:
    versions = next(iter(acme.ledger.accounts["acme"].keys.values()))
    acme.with_account(api_key=SecretStr(versions[0][1].secret))
    assert acme.run().success
    assert acme.rows("select kind, status from ref.account") == [("ordinary", "ok")]
    assert acme.rows("select name from ref.api_key") == [(versions[0][1].label,)]


@pytest.mark.slow
def test_an_ordinary_key_in_a_managed_account_is_told_what_to_do(synced: Deployment) -> None:
    before = synced.figures()
    versions = next(iter(synced.ledger.accounts["acme"].keys.values()))
    synced.with_account(api_key=SecretStr(versions[0][1].secret))
    result = synced.run()
    assert not result.success
    assert "is an ordinary key; a management key has synced it so far." in sentence(result)
    assert "Put a management key into KEY_acme" in sentence(result)
    assert synced.rows("select status, error from ref.account") == [("failed", sentence(result))]
    assert synced.figures() == before


def test_an_account_without_a_key_is_told_which_variable_to_set(acme: Deployment) -> None:
    acme.with_account(api_key=None)
    result = acme.run()
    assert not result.success
    assert sentence(result).startswith('No key for account "acme": KEY_acme is not set.')
    assert acme.simulator.count == 0
    assert acme.rows("select * from ops.sync_run") == [], "a sync without a key stores nothing"


@pytest.mark.slow
def test_a_launch_without_a_partition_fails_with_one_sentence(acme: Deployment) -> None:
    result = acme.run(None)
    assert not result.success
    assert sentence(result) == "Choose an account to sync: this launch has no partition."
    assert len(events(result, dg.DagsterEventType.STEP_FAILURE)) == 1
    assert acme.simulator.count == 0
    assert acme.rows("select * from ops.sync_run") == []


# ── nothing is published that is wrong ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_connection_lost_in_the_middle_publishes_nothing(synced: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    before = synced.figures()
    synced.clock.later(hours=1)
    synced.spend("5")
    with monkeypatch.context() as patch:
        after_step("account_day", patch, cut_connection)
        assert not synced.run().success
    assert synced.figures() == before
    assert synced.last_run().status == "failed"
    synced.clock.later(minutes=1)
    assert synced.run().success
    assert sum(synced.companies().values()) == Decimal("116.75")


@pytest.mark.slow
def test_a_connection_lost_in_the_middle_is_told_in_a_sentence(
    acme: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step("account_day", monkeypatch, cut_connection)
    assert not acme.run().success
    error = acme.last_run().error
    assert "[SQL" not in error
    assert "\n" not in error
    assert "sqlalche.me" not in error


@pytest.mark.slow
def test_what_was_never_published_is_not_said_to_stay(acme: Deployment) -> None:
    acme.simulator.inject(Fault("401", times=None))
    assert "Costs stay" not in sentence(acme.run())


@pytest.mark.slow
def test_a_connection_lost_once_is_survived_and_leaves_no_trace(
    acme: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_cut: list[bool] = []

    def cut_once(publishing: Publication) -> None:
        if not is_cut:
            is_cut.append(True)
            cut_connection(publishing)

    after_step("account_day", monkeypatch, cut_once)
    result = acme.run()
    assert result.success
    assert [event.step_key for event in events(result, dg.DagsterEventType.STEP_UP_FOR_RETRY)] == ["publish"]
    run = acme.last_run()
    assert (run.status, run.error, run.requests_made) == ("succeeded", None, acme.simulator.count)
    assert acme.rows("select status, error from ref.account") == [("ok", None)]
    assert acme.value("select count(*) from raw.extraction") == 1
    assert sum(acme.companies().values()) == Decimal("111.75")


@pytest.mark.slow
def test_a_connection_lost_once_by_the_mapping_is_survived(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    is_cut: list[bool] = []

    def cut_once(connection: sa.Connection) -> Sequence[RuleRow]:
        if not is_cut:
            is_cut.append(True)
            connection.execute(sa.text("select pg_terminate_backend(pg_backend_pid())"))
        return rules_in_force(connection)

    monkeypatch.setattr("orcost_pipeline.defs.companies.rules_in_force", cut_once)
    assert acme.run().success


@pytest.mark.slow
def test_a_connection_that_is_always_lost_is_tried_three_times_and_told_once(
    acme: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step("account_day", monkeypatch, cut_connection)
    result = acme.run()
    assert not result.success
    assert len(events(result, dg.DagsterEventType.STEP_UP_FOR_RETRY)) == RETRIES
    assert sentence(result).startswith("The connection to the database was lost: terminating connection due to")
    assert acme.rows("select status, error from ref.account") == [("unreachable", sentence(result))]


@pytest.mark.slow
def test_a_commit_whose_answer_is_lost_is_a_publication(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    def committed(step: SyncStep, *arguments: Any) -> None:
        publish_account(step)
        raise OperationalError("commit", {}, psycopg.OperationalError("server closed the connection"))

    monkeypatch.setattr("orcost_pipeline.defs.publish.publish_account", committed)
    result = acme.run()
    assert not result.success
    assert sentence(result).endswith("\nCosts stay as of 2026-11-23 12:20 UTC; nothing was lost.")
    assert (acme.last_run().status, acme.last_run().error) == ("succeeded", None)
    assert acme.rows("select status, error, as_of from ref.account") == [("ok", None, NOON)]
    assert sum(acme.companies().values()) == Decimal("111.75")


@pytest.mark.slow
def test_what_nobody_foresaw_is_told_in_a_sentence_and_not_retried(
    acme: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once("account_day", monkeypatch)
    result = acme.run()
    assert not events(result, dg.DagsterEventType.STEP_UP_FOR_RETRY)
    assert sentence(result) == (
        "Something went wrong that should not have: RuntimeError: the worker died\n"
        "Sync again; if it stays, report it with the traceback in Dagster's log."
    )
    assert acme.last_run().error == sentence(result)
    cause = events(result, dg.DagsterEventType.STEP_FAILURE)[0].step_failure_data.error.cause
    assert "in died" in "".join(cause.stack)


def cut_connection(publishing: Publication) -> None:
    """What a restart of Postgres, or a firewall, does to a transaction."""
    publishing.connection.execute(sa.text("select pg_terminate_backend(pg_backend_pid())"))


@pytest.mark.slow
def test_a_lost_lock_does_not_stop_the_sync(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of a run is a courtesy; that of its publication, which lasts as long as its transaction, is the law."""
    cut = sa.text("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = :kind")
    is_cut: list[bool] = []

    def lose(publishing: Publication) -> None:
        is_cut.extend(publishing.connection.execute(cut, {"kind": SYNC_LOCK}).scalars())

    after_step("account_day", monkeypatch, lose)
    assert acme.run().success
    assert is_cut == [True]
    assert acme.last_run().status == "succeeded"
    assert sum(acme.companies().values()) == Decimal("111.75")
