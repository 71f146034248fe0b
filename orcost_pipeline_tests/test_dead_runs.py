"""Runs whose process died are closed by the sensor; living ones are left alone."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.events import EngineEventData

from orcost_pipeline.warehouse import runs
from orcost_pipeline_tests.dagster_deployment import (
    Deploy,
    Deployment,
    ask,
    dagster_run,
    request_row,
    sense,
    two_accounts,
)
from orcost_pipeline_tests.world import NOON

pytest_plugins = ["orcost_pipeline_tests.dagster_deployment"]


def started_run(deployment: Deployment, account: str = "acme", **tags: str) -> dg.DagsterRun:
    """A run that goes on, as far as Dagster knows, and began two minutes ago."""
    tags = {"dagster/partition": account, "orcost/account": account, **tags}
    run = dagster_run(status=dg.DagsterRunStatus.STARTED, tags=tags)
    deployment.instance.add_run(run)
    deployment.clock.now = datetime.now(UTC) + timedelta(minutes=2)
    return run


def status(deployment: Deployment, run: dg.DagsterRun) -> str:
    found = deployment.instance.get_run_by_id(run.run_id)
    assert found
    return found.status.value


def test_a_run_whose_process_died_is_closed_by_the_sensor_with_its_request(acme: Deployment) -> None:
    request_id = ask(acme)
    run = started_run(acme, **{"orcost/sync_request": str(request_id)})
    runs.start_run(acme.engine, run.run_id, "acme", request_id, NOON)
    assert sense(acme) == []
    assert status(acme, run) == "FAILURE"
    last = acme.last_run()
    assert (last.status, last.error, last.finished_at) == ("abandoned", runs.DIED, acme.clock.now)
    assert request_row(acme, request_id)[0] == "failed"


def test_a_run_that_just_began_is_left_alone(acme: Deployment) -> None:
    run = started_run(acme)
    acme.clock.now = datetime.now(UTC) + timedelta(seconds=30)
    sense(acme)
    assert status(acme, run) == "STARTED"


def test_a_run_whose_lock_is_held_is_left_alone_and_that_of_another_account_is_not(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    living, dead = started_run(both, "acme"), started_run(both, "globex")
    with runs.sync_lock(both.engine, "acme"):
        sense(both)
        assert (status(both, living), status(both, dead)) == ("STARTED", "FAILURE")
    sense(both)
    assert status(both, living) == "FAILURE"


def test_a_lock_that_is_back_at_the_second_look_saves_the_run(acme: Deployment) -> None:
    """As after a restart of the database: the run's process takes its lock again."""
    run, stack = started_run(acme), ExitStack()
    locked = lambda _: stack.enter_context(runs.sync_lock(acme.engine, "acme"))  # noqa: E731
    acme.surroundings = acme.surroundings._replace(sleep=locked)
    with stack:
        sense(acme)
    assert status(acme, run) == "STARTED"


def test_a_run_of_somebody_else_is_left_alone(acme: Deployment) -> None:
    run = dagster_run(status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "acme"})
    acme.instance.add_run(run)
    started_run(acme)
    sense(acme)
    assert status(acme, run) == "STARTED"


def test_a_sync_launched_by_hand_is_known_by_what_it_wrote(acme: Deployment) -> None:
    run = dagster_run(status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "acme"})
    acme.instance.add_run(run)
    runs.start_run(acme.engine, run.run_id, "acme", None, NOON)
    acme.clock.now = datetime.now(UTC) + timedelta(minutes=2)
    sense(acme)
    assert status(acme, run) == "FAILURE"


def test_a_run_whose_steps_have_processes_of_their_own_is_left_alone(acme: Deployment) -> None:
    """No lock spans it: between two steps nobody holds one."""
    run = started_run(acme)
    kind = dg.DagsterEventType.STEP_WORKER_STARTING.value
    event = dg.DagsterEvent(kind, run.job_name, event_specific_data=EngineEventData(), message="")
    acme.instance.report_dagster_event(event, run.run_id)
    sense(acme)
    assert status(acme, run) == "STARTED"


def test_a_sync_that_ended_without_a_word_is_closed_by_the_sensor(acme: Deployment) -> None:
    """Dagster's own tag tells a run that failed by itself from one whose process somebody else found dead."""
    failed = dagster_run(status=dg.DagsterRunStatus.FAILURE, tags={"dagster/failure_reason": "STEP_FAILURE"})
    killed, canceled = dagster_run(status=dg.DagsterRunStatus.FAILURE), dagster_run(status=dg.DagsterRunStatus.CANCELED)
    for number, run in enumerate((failed, killed, canceled)):
        acme.instance.add_run(run)
        runs.start_run(acme.engine, run.run_id, f"account {number}", None, NOON)
    runs.start_run(acme.engine, "of another Dagster", "acme", None, NOON)
    sense(acme)
    assert acme.rows("select run_id, status, error from ops.sync_run order by account") == [
        (failed.run_id, "failed", runs.STOPPED),
        (killed.run_id, "abandoned", runs.DIED),
        (canceled.run_id, "failed", runs.STOPPED),
        ("of another Dagster", "running", None),
    ]
