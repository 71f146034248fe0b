"""What keeps Dagster from syncing by the hour, found in its own tables: no daemon is needed to see it."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
)
from dagster._daemon.types import DaemonHeartbeat

from orcost_pipeline.alerts.selection import seen
from orcost_pipeline.deployment.dagster_home import STORAGE_URL, prepare, start_stopped
from orcost_pipeline.health.finding import Code, Finding
from orcost_pipeline.settings import load_settings
from orcost_pipeline.warehouse.deployment import sole_deployment
from orcost_pipeline.warehouse.questions.health import Automation
from orcost_pipeline.warehouse.questions.health import automation as automation_state
from orcost_pipeline_tests.healthy_deployment import Deployment

pytest_plugins = ["orcost_pipeline_tests.healthy_deployment"]


@pytest.fixture
def automation(healthy: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's own storage in the warehouse's database, with a schedule and two sensors, one of them on."""
    for name in (STORAGE_URL, "DAGSTER_HOME", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, "")
    prepare(load_settings(healthy.folder))
    location = RegisteredCodeLocationOrigin("orcost_pipeline")
    repository = RemoteRepositoryOrigin(location, "__repository__")
    kinds = {
        "hourly_schedule": (InstigatorType.SCHEDULE, InstigatorStatus.STOPPED, ScheduleInstigatorData("5 * * * *")),
        "mapping_change_sensor": (InstigatorType.SENSOR, InstigatorStatus.STOPPED, SensorInstigatorData(cursor="seen")),
        "sync_request_sensor": (InstigatorType.SENSOR, InstigatorStatus.DECLARED_IN_CODE, SensorInstigatorData()),
    }
    with dg.DagsterInstance.get() as instance:
        for name, (kind, status, data) in kinds.items():
            instance.add_instigator_state(InstigatorState(RemoteInstigatorOrigin(repository, name), kind, status, data))
        yield instance


@pytest.mark.slow
def test_what_is_switched_off_under_orcost_up_is_found_and_switched_on_at_its_next_start(
    healthy: Deployment, automation: dg.DagsterInstance
) -> None:
    assert healthy.stored_findings() == []
    with sole_deployment(healthy.engine, "process 1 on web1"):
        found = healthy.stored_findings()
        assert [(it.severity, it.code, it.message) for it in found] == [
            ("warning", "schedule_off", "hourly_schedule is switched off in Dagster: no hourly sync starts."),
            ("warning", "schedule_off", "mapping_change_sensor is switched off in Dagster: a changed mapping waits."),
        ]
        assert [it.code for it in healthy.examine()] == ["schedule_off", "schedule_off"]
        assert start_stopped() == ["hourly_schedule", "mapping_change_sensor"]
        assert healthy.stored_findings() == []
    states = {state.instigator_name: state for state in automation.all_instigator_state()}
    assert {state.status for state in states.values()} == {InstigatorStatus.DECLARED_IN_CODE}
    assert states["mapping_change_sensor"].sensor_instigator_data.cursor == "seen"
    assert start_stopped() == []


def test_who_may_not_read_dagsters_tables_is_told_the_rest(healthy: Deployment, automation: dg.DagsterInstance) -> None:
    reader = f"r_{uuid.uuid4().hex}"
    healthy.do(f"create role {reader}")
    try:
        healthy.do(f"grant usage on schema ref, core, marts, ops to {reader}")
        with healthy.engine.connect() as connection:
            connection.execute(sa.text(f"set role {reader}"))
            assert automation_state(connection, datetime.now(UTC), is_serving=True) == Automation()
            connection.execute(sa.text("reset role"))
            assert len(automation_state(connection, datetime.now(UTC), is_serving=True).stopped) == 2
    finally:
        healthy.do(f"drop owned by {reader}")
        healthy.do(f"drop role {reader}")


# Daemons and runs


def beat(instance: dg.DagsterInstance, daemon: str, ago: timedelta) -> datetime:
    """A daemon's heartbeat some time ago."""
    at = datetime.now(UTC) - ago
    instance.add_daemon_heartbeat(DaemonHeartbeat(at.timestamp(), daemon, "one", None))
    return at


def schedule_off(healthy: Deployment) -> list[Finding]:
    return [it for it in healthy.stored_findings() if it.code is Code.SCHEDULE_OFF]


def test_a_daemon_that_is_silent_is_found_until_it_lives_again(
    healthy: Deployment, automation: dg.DagsterInstance
) -> None:
    assert schedule_off(healthy) == [], "a deployment without daemons is synced by something else"
    beat(automation, "SENSOR", timedelta(minutes=1))
    since = beat(automation, "SCHEDULER", timedelta(minutes=6))
    silent = [it for it in schedule_off(healthy) if it.subject == "SCHEDULER"]
    assert [(it.severity, it.account, it.message) for it in silent] == [
        ("warning", None, "Dagster's daemon (SCHEDULER) has stopped sending heartbeats: no hourly sync starts.")
    ]
    assert silent[0].since is not None
    assert abs(silent[0].since - since) < timedelta(milliseconds=1)
    beat(automation, "SCHEDULER", timedelta(minutes=4))
    assert [it for it in schedule_off(healthy) if it.subject == "SCHEDULER"] == []


def test_syncs_without_a_daemon_do_not_miss_it(healthy: Deployment, automation: dg.DagsterInstance) -> None:
    beat(automation, "SCHEDULER", timedelta(days=2))
    synced = "insert into ops.sync_run (run_id, account, started_at, finished_at, status) "
    healthy.do("update ops.sync_run set started_at = now() - interval '2 days'")
    assert len(schedule_off(healthy)) == 1
    healthy.do(f"{synced} values ('by cron', 'acme', now() - interval '1 hour', now(), 'succeeded')")
    assert schedule_off(healthy) == []


def run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, account: str = "acme", **tags: str) -> str:
    """A run of an account in Dagster's storage."""
    tags = {"dagster/partition": account, **{name.replace("__", "/"): value for name, value in tags.items()}}
    origin = RemoteJobOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("orcost_pipeline"), "__repository__"), "hourly_sync"
    )
    made = dg.DagsterRun("hourly_sync", str(uuid.uuid4()), status=status, tags=tags, remote_job_origin=origin)
    return instance.add_run(made).run_id


def age(healthy: Deployment, run_id: str, minutes: int) -> None:
    healthy.do(
        f"update dagster.runs set create_timestamp = (now() - interval '{minutes} minutes') at time zone 'UTC', "
        f"end_time = extract(epoch from now() - interval '{minutes} minutes') where run_id = '{run_id}'"
    )


def test_a_run_that_stays_in_the_queue_is_found(healthy: Deployment, automation: dg.DagsterInstance) -> None:
    queued = run(automation, dg.DagsterRunStatus.QUEUED)
    age(healthy, queued, 9)
    assert schedule_off(healthy) == []
    age(healthy, queued, 11)
    (found,) = schedule_off(healthy)
    assert (found.subject, found.message) == (
        "run queue",
        "1 run in Dagster's queue was not started within 10 minutes.",
    )
    busy = run(automation, dg.DagsterRunStatus.STARTED)
    assert schedule_off(healthy) == [], "it waits for its account's run"
    automation.delete_run(busy)
    run(automation, dg.DagsterRunStatus.STARTED, "globex")
    assert len(schedule_off(healthy)) == 1


def test_a_retry_that_never_started_is_found(healthy: Deployment, automation: dg.DagsterInstance) -> None:
    failed = run(automation, dg.DagsterRunStatus.FAILURE, dagster__will_retry="true")
    age(healthy, failed, 9)
    assert schedule_off(healthy) == []
    age(healthy, failed, 11)
    (found,) = schedule_off(healthy)
    assert (found.subject, found.message) == ("run retries", "1 run failed and was not retried within 10 minutes.")
    retried = run(automation, dg.DagsterRunStatus.STARTED, dagster__parent_run_id=failed)
    assert schedule_off(healthy) == []
    automation.delete_run(retried)
    run(automation, dg.DagsterRunStatus.SUCCESS)
    assert schedule_off(healthy) == [], "the next hour has caught up"


def test_a_clock_that_jumped_is_no_alert_because_the_sensors_daemon_runs_the_look(
    healthy: Deployment, automation: dg.DagsterInstance
) -> None:
    def alerted() -> set[str | None]:
        with healthy.engine.connect() as connection:
            found = seen(connection, load_settings(healthy.folder), datetime.now(UTC)).alerts
        return {it.subject for it in found if it.code is Code.SCHEDULE_OFF}

    beat(automation, "SCHEDULER", timedelta(minutes=6))
    beat(automation, "SENSOR", timedelta(minutes=1))
    assert "SCHEDULER" in alerted()
    beat(automation, "SENSOR", timedelta(minutes=6))
    assert not {"SCHEDULER", "SENSOR"} & alerted()
