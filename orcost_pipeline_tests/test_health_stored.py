"""What is found in the tables: stale data, failed and dead syncs, days that do not close, automation that is off."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from orcost_pipeline.health.examination import Limits
from orcost_pipeline.health.finding import Code
from orcost_pipeline.health.standing import read
from orcost_pipeline.health.stored import stored_findings
from orcost_pipeline.settings import load_settings
from orcost_pipeline.simulator import Fault
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.locks import PUBLICATION_LOCK, take_lock
from orcost_pipeline.windows import STALE_AFTER
from orcost_pipeline_tests.healthy_deployment import DAGSTER, Deployment, answering, fail, minutes_ago
from orcost_pipeline_tests.world import DAY

pytest_plugins = ["orcost_pipeline_tests.healthy_deployment"]


# The data


def test_an_account_that_was_never_synced_is_an_error(healthy: Deployment) -> None:
    with (healthy.folder / "orcost.toml").open("a") as file:
        file.write('[[accounts]]\nname = "big corp"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n')
    assert healthy.only("error", Code.NEVER_SYNCED, "big corp").todo == "orcost sync --account 'big corp'"


def test_data_that_is_older_than_two_hours_is_an_error(healthy: Deployment) -> None:
    as_of = healthy.clock() - STALE_AFTER + timedelta(minutes=1)
    healthy.do("update ref.account set as_of = :as_of", as_of=as_of)
    assert healthy.examine() == []
    as_of -= timedelta(minutes=2)
    healthy.do("update ref.account set as_of = :as_of", as_of=as_of)
    finding = healthy.only("error", Code.STALE, "acme")
    assert finding.since == as_of
    assert "orcost up is not running here" in finding.message
    assert finding.todo.startswith("orcost up ")
    with answering(DAGSTER) as healthy.port:
        assert healthy.only("error", Code.STALE, "acme").todo == "orcost sync --account acme"


def test_data_of_the_future_is_put_right_by_the_next_sync(healthy: Deployment) -> None:
    healthy.do("update ref.account set as_of = now() + interval '1 day'")
    finding = healthy.only("error", Code.CLOCK_OFF, "acme")
    assert finding.message.startswith("Data is marked complete until ")
    assert ", in the future: a sync ran with a wrong clock." in finding.message
    assert finding.todo == "Set the clock by NTP, then: orcost sync --account acme, which puts it right"
    fail(healthy, 20, "failed", "The check failed.")
    assert [it.code for it in healthy.examine()] == [Code.CLOCK_OFF, Code.SYNC_FAILED]


def test_a_sync_that_stopped_at_the_clock_says_so_until_the_clock_is_right(healthy: Deployment) -> None:
    refused = "This machine's clock is 26 hours ahead."
    fail(healthy, 20, "failed", refused)
    healthy.do("update ref.account set error_code = 'clock_off'")
    with healthy.engine.connect() as connection:
        stored = read(connection, load_settings(healthy.folder), healthy.clock())
    (finding,) = stored_findings(stored, load_settings(healthy.folder), healthy.clock())
    assert (finding.code, finding.message) == (Code.CLOCK_OFF, refused)
    assert refused in healthy.only("error", Code.SYNC_FAILED, "acme").message, "the server tells the clock as it is now"


@pytest.mark.parametrize("status", ["failed", "unreachable"])
def test_a_failed_sync_says_why_and_since_when(healthy: Deployment, status: str) -> None:
    for minutes in (55, 40, 20):
        fail(healthy, minutes, status, "The check failed.\nTen rows differ.")
    finding = healthy.only("error", Code.SYNC_FAILED, "acme")
    assert "The check failed.\nTen rows differ." in finding.message
    assert finding.since == minutes_ago(healthy, 55)


def test_an_unreachable_openrouter_is_said_once(healthy: Deployment) -> None:
    fail(healthy, 30, "unreachable", "The network is down.")
    healthy.simulator.inject(Fault("refused", times=None))
    healthy.limits = Limits(patience=0.2)
    assert healthy.only("error", Code.OPENROUTER_UNREACHABLE, "acme").since == minutes_ago(healthy, 30)


def test_an_abandoned_run_is_a_warning(healthy: Deployment) -> None:
    at = minutes_ago(healthy, 5)
    healthy.do(
        "insert into ops.sync_run (run_id, account, started_at, finished_at, status, error) "
        "values ('dead', 'acme', :at, :at, 'abandoned', 'The process died.')",
        at=at,
    )
    assert healthy.only("warning", Code.SYNC_DIED, "acme").since == at


def test_a_run_is_running_while_its_lock_is_held_and_dead_afterwards(healthy: Deployment) -> None:
    # The hash of one of these names is negative, of the other positive: Postgres shows both as oids.
    for account in ("acme", "globex"):
        at = minutes_ago(healthy, 5)
        healthy.do("insert into ref.account (account) values (:account) on conflict do nothing", account=account)
        with (healthy.folder / "orcost.toml").open("w") as file:
            file.write(f'[[accounts]]\nname = "{account}"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n')
        with runs.sync_lock(healthy.engine, account):
            runs.start_run(healthy.engine, f"run-{account}", account, None, at)
            running = [it for it in healthy.examine() if it.code is not Code.NOT_CONFIGURED]
            assert [(it.severity, it.code, it.since) for it in running] == [("note", Code.SYNC_RUNNING, at)]
        with healthy.engine.connect() as connection:
            take_lock(connection, PUBLICATION_LOCK, account)
            died = [it for it in healthy.examine() if it.code is Code.SYNC_DIED]
        assert [(it.severity, it.account, it.since) for it in died] == [("warning", account, at)]


def test_a_request_may_wait_two_minutes(healthy: Deployment) -> None:
    ask = "insert into ops.sync_request (account, requested_at) values (:account, now() - :age * interval '1 second')"
    healthy.do(ask, account="acme", age=100)
    assert healthy.examine() == []
    healthy.do(ask, account="acme", age=130)
    finding = healthy.only("warning", Code.REQUEST_WAITS, "acme")
    assert "Is orcost up running?" in finding.message
    healthy.do("update ops.sync_request set status = 'running'")
    assert healthy.examine() == []


def test_days_that_do_not_add_up_are_errors_while_they_can_be_asked_again(healthy: Deployment) -> None:
    today = healthy.synced_at.date()
    healthy.do(
        "update core.account_day set hours_credits_usd = account_credits_usd + 1 where day = :day", day=today - 5 * DAY
    )
    finding = healthy.only("error", Code.DAYS_OPEN, "acme")
    assert finding.todo.startswith(f"orcost sync --account acme --since {today - 5 * DAY}; ")
    long_ago = today - 400 * DAY
    healthy.do("update core.account_day set day = :old where hours_credits_usd <> account_credits_usd", old=long_ago)
    assert f"orcost reconcile --day {long_ago}" in healthy.only("note", Code.DAYS_OPEN, "acme").todo


def test_costs_of_zero_are_explained(healthy: Deployment) -> None:
    nothing = "requests = 0, credits_usd = 0, byok_usd = 0"
    healthy.do(f"update core.key_rolling set {nothing} where period = '24h'")
    assert healthy.examine() == [], "a day without spend is no news"
    healthy.do(f"update core.key_rolling set {nothing}")
    with healthy.engine.connect() as connection:
        last = connection.execute(sa.text("select max(last_used_at) from core.api_key")).scalar_one()
    finding = healthy.only("note", Code.NO_USAGE, "acme")
    assert f"3 keys; the last use was on {last:%Y-%m-%d}" in finding.message
    healthy.do("update core.key_rolling set requests = 1 where key_id <> 0 and period = '30d'")
    assert healthy.examine() == [], "free models cost nothing and are usage"


def test_an_account_that_is_no_longer_configured_is_a_note(healthy: Deployment) -> None:
    healthy.do("insert into ref.account (account, status, as_of) values ('old', 'failed', '2026-01-01')")
    healthy.only("note", Code.NOT_CONFIGURED, "old")
