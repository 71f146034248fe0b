"""`ops.request_sync` and the sensor that answers it."""

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from orcost_pipeline.simulator import Fault
from orcost_pipeline.warehouse.schema.upgrade import MIGRATIONS
from orcost_pipeline_tests.dagster_deployment import (
    Deploy,
    Deployment,
    ask,
    dagster_run,
    materialized,
    request_row,
    sense,
    two_accounts,
)
from orcost_pipeline_tests.world import NOON

pytest_plugins = ["orcost_pipeline_tests.dagster_deployment"]


def answer(deployment: Deployment, request: dg.RunRequest) -> Any:
    return deployment.run(
        request.partition_key,
        tags={name: tag for name, tag in request.tags.items() if name != "dagster/partition"},
        run_config=dict(request.run_config),
    )


def pretend_run(
    deployment: Deployment, request_id: int, account: str, status: dg.DagsterRunStatus, **tags: str
) -> dg.DagsterRun:
    """A run of the request, as far as Dagster knows."""
    tags |= {"orcost/sync_request": str(request_id), "dagster/partition": account}
    run = dagster_run(status=status, tags=tags)
    deployment.instance.add_run(run)
    return run


def move(deployment: Deployment, run: dg.DagsterRun, status: dg.DagsterRunStatus) -> None:
    """Gives a pretended run another status."""
    deployment.instance.delete_run(run.run_id)
    deployment.instance.add_run(run.with_status(status))


def progress(deployment: Deployment) -> dict[int, tuple[str, list[str]]]:
    """Status and runs of every request."""
    rows = deployment.rows("select id, status, run_ids from ops.sync_request order by id")
    return {request_id: (status, run_ids) for request_id, status, run_ids in rows}


def since(request: dg.RunRequest) -> str | None:
    return request.run_config["resources"]["orcost_window"]["config"].get("since")


def test_without_a_request_the_sensor_asks_for_nothing(acme: Deployment) -> None:
    assert sense(acme) == []


def test_a_request_for_one_account_is_one_run(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    request_id = ask(both, "globex")
    (request,) = sense(both)
    assert (request.run_key, request.partition_key) == (f"sync-request-{request_id}-globex", "globex")
    assert request.tags["orcost/account"] == "globex"
    assert request.tags["orcost/sync_request"] == str(request_id)
    assert request_row(both, request_id) == ("queued", None, None)


def test_a_request_for_all_is_a_run_for_each_account(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    request_id = ask(both)
    assert [request.run_key for request in sense(both)] == [
        f"sync-request-{request_id}-acme",
        f"sync-request-{request_id}-globex",
    ]


@pytest.mark.slow
def test_requests_that_wait_together_are_one_run_led_by_the_oldest(acme: Deployment) -> None:
    ids = [ask(acme, "acme"), ask(acme), ask(acme, "acme")]
    (request,) = sense(acme)
    assert request.run_key == f"sync-request-{ids[0]}-acme"
    assert answer(acme, request).success
    run = acme.last_run()
    assert run.request_id == ids[0]
    sense(acme)
    assert progress(acme) == {it: ("succeeded", [run.run_id]) for it in ids}


def test_two_requests_that_do_not_wait_together_have_run_keys_of_their_own(acme: Deployment) -> None:
    first = ask(acme)
    sense(acme)
    pretend_run(acme, first, "acme", dg.DagsterRunStatus.STARTED)
    second = ask(acme)
    assert [request.run_key for request in sense(acme)] == [f"sync-request-{second}-acme"]


@pytest.mark.slow
def test_a_run_that_was_not_launched_is_asked_for_again_under_the_same_key(acme: Deployment) -> None:
    ask(acme)
    assert [request.run_key for request in sense(acme)] == [request.run_key for request in sense(acme)]


@pytest.mark.slow
def test_a_request_is_queued_then_running_then_succeeded(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    request_id = ask(both)
    first, second = sense(both)
    assert request_row(both, request_id)[0] == "queued"
    result = answer(both, first)
    assert result.success
    assert both.last_run().request_id == request_id
    both.clock.later(seconds=10)
    assert [request.partition_key for request in sense(both)] == ["globex"]
    assert request_row(both, request_id) == ("running", None, None)
    assert answer(both, second).success
    both.clock.later(seconds=10)
    assert sense(both) == []
    assert request_row(both, request_id) == ("succeeded", both.clock.now, None)
    both.clock.later(minutes=1)
    assert sense(both) == []
    assert request_row(both, request_id)[1] == both.clock.now - timedelta(minutes=1)


def test_a_request_runs_as_long_as_one_of_its_runs_does(acme: Deployment) -> None:
    request_id = ask(acme)
    for status in (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED):
        pretend_run(acme, request_id, "acme", status)
        assert sense(acme) == []
        assert request_row(acme, request_id)[0] == "running"


def test_a_request_fails_if_one_of_its_accounts_does(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    request_id = ask(both)
    pretend_run(both, request_id, "acme", dg.DagsterRunStatus.SUCCESS)
    pretend_run(both, request_id, "globex", dg.DagsterRunStatus.FAILURE)
    assert sense(both) == []
    status, finished_at, error = request_row(both, request_id)
    assert (status, finished_at) == ("failed", NOON)
    assert error == "The sync of globex failed; see orcost status."


def test_a_canceled_run_is_a_failed_request(acme: Deployment) -> None:
    request_id = ask(acme)
    pretend_run(acme, request_id, "acme", dg.DagsterRunStatus.CANCELED)
    assert sense(acme) == []
    assert request_row(acme, request_id)[0] == "failed"


def test_a_failed_account_does_not_end_the_request_while_another_runs(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    request_id = ask(both)
    pretend_run(both, request_id, "globex", dg.DagsterRunStatus.FAILURE)
    assert [request.partition_key for request in sense(both)] == ["acme"]
    assert request_row(both, request_id)[0] == "running"


def test_a_retry_stands_for_the_run_that_it_retries(acme: Deployment) -> None:
    request_id = ask(acme)
    failed = pretend_run(acme, request_id, "acme", dg.DagsterRunStatus.FAILURE)
    retry = {"dagster/parent_run_id": failed.run_id, "dagster/root_run_id": failed.run_id}
    pretend_run(acme, request_id, "acme", dg.DagsterRunStatus.SUCCESS, **retry)
    sense(acme)
    assert request_row(acme, request_id)[0] == "succeeded"


def test_a_request_waits_for_the_retry_that_dagster_is_about_to_launch(acme: Deployment) -> None:
    request_id = ask(acme)
    pretend_run(acme, request_id, "acme", dg.DagsterRunStatus.FAILURE, **{"dagster/will_retry": "true"})
    sense(acme)
    assert request_row(acme, request_id)[0] == "running"


def test_a_request_for_an_unknown_account_fails_at_once_and_says_which_there_are(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    request_id = ask(both, "initech")
    assert sense(both) == []
    error = 'No account is called "initech". Configured: acme, globex.'
    assert request_row(both, request_id) == ("failed", NOON, error)


@pytest.mark.slow
def test_since_of_a_request_reaches_the_run(synced: Deployment) -> None:
    synced.clock.later(minutes=3)
    ask(synced, "acme", "2026-11-21")
    (request,) = sense(synced)
    assert request.run_config["resources"]["orcost_window"]["config"]["since"] == "2026-11-21"
    result = answer(synced, request)
    assert result.success
    assert materialized(result)["raw/usage_hourly"]["hours_asked"] == 2 * 24 + 13


@pytest.mark.slow
def test_a_request_whose_sync_fails_fails_with_it(acme: Deployment) -> None:
    acme.simulator.inject(Fault("401", times=None))
    request_id = ask(acme)
    (request,) = sense(acme)
    assert not answer(acme, request).success
    assert acme.last_run().request_id == request_id
    sense(acme)
    assert request_row(acme, request_id)[0] == "failed"


def test_what_ran_before_the_request_does_not_answer_it(synced: Deployment) -> None:
    request_id = ask(synced)
    assert len(sense(synced)) == 1
    assert request_row(synced, request_id)[0] == "queued"


# Many at once


@pytest.mark.slow
def test_five_hundred_requests_in_a_minute_are_a_handful_of_runs(acme: Deployment) -> None:
    """A run takes 20 seconds; Dagster runs one at a time per account."""
    under_way: list[tuple[dg.DagsterRun, int]] = []
    queue: list[dg.DagsterRun] = []
    launched = most_waiting = 0
    for second in range(0, 180, 5):
        if second < 60:
            with acme.engine.begin() as connection:
                connection.execute(sa.text("select ops.request_sync('acme') from generate_series(1, 42)"))
        for run, until in list(under_way):
            if until <= second:
                move(acme, run, dg.DagsterRunStatus.SUCCESS)
                under_way.remove((run, until))
        if queue and not under_way:
            run = queue.pop(0)
            move(acme, run, dg.DagsterRunStatus.STARTED)
            under_way.append((run, second + 20))
        for request in sense(acme):
            leader = int(request.tags["orcost/sync_request"])
            queue.append(pretend_run(acme, leader, "acme", dg.DagsterRunStatus.QUEUED))
            launched += 1
        most_waiting = max(most_waiting, len(queue))
        acme.clock.later(seconds=5)
    made = progress(acme)
    assert len(made) == 504
    assert {status for status, _ in made.values()} == {"succeeded"}
    assert all(len(run_ids) == 1 for _, run_ids in made.values())
    assert most_waiting == 1
    assert launched == len({run_ids[0] for _, run_ids in made.values()})
    assert launched <= 6


def test_a_run_reads_from_the_earliest_day_that_one_of_its_requests_asks_for(acme: Deployment) -> None:
    for day in (None, "2026-11-20", "2026-11-03", None):
        ask(acme, "acme", day)
    (request,) = sense(acme)
    assert since(request) == "2026-11-03"
    pretend_run(acme, 1, "acme", dg.DagsterRunStatus.STARTED)
    ask(acme)
    (later,) = sense(acme)
    assert since(later) is None


def test_requests_for_one_and_for_all_accounts_share_the_runs_of_each_account(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    globex, every, acme = ask(both, "globex"), ask(both, since="2026-11-10"), ask(both, "acme", "2026-11-01")
    stranger = ask(both, "initech")
    requests = {request.run_key: since(request) for request in sense(both)}
    assert requests == {
        f"sync-request-{every}-acme": "2026-11-01",
        f"sync-request-{globex}-globex": "2026-11-10",
    }
    assert request_row(both, stranger)[0] == "failed"
    good = pretend_run(both, every, "acme", dg.DagsterRunStatus.SUCCESS)
    bad = pretend_run(both, globex, "globex", dg.DagsterRunStatus.FAILURE)
    assert sense(both) == []
    assert progress(both) == {
        globex: ("failed", [bad.run_id]),
        every: ("failed", [good.run_id, bad.run_id]),
        acme: ("succeeded", [good.run_id]),
        stranger: ("failed", []),
    }


def test_a_request_made_while_a_run_waits_to_start_joins_it_and_one_made_later_does_not(acme: Deployment) -> None:
    first = ask(acme)
    sense(acme)
    run = pretend_run(acme, first, "acme", dg.DagsterRunStatus.QUEUED)
    second = ask(acme)
    assert sense(acme) == []
    move(acme, run, dg.DagsterRunStatus.STARTING)
    third = ask(acme, "acme")
    assert sense(acme) == []
    move(acme, run, dg.DagsterRunStatus.STARTED)
    fourth = ask(acme)
    assert [request.run_key for request in sense(acme)] == [f"sync-request-{fourth}-acme"]
    move(acme, run, dg.DagsterRunStatus.SUCCESS)
    sense(acme)
    assert progress(acme) == {
        **{it: ("succeeded", [run.run_id]) for it in (first, second, third)},
        fourth: ("queued", []),
    }


def test_a_request_for_earlier_days_than_a_waiting_run_reads_waits_for_the_next(acme: Deployment) -> None:
    first = ask(acme, "acme", "2026-11-10")
    sense(acme)
    run = pretend_run(acme, first, "acme", dg.DagsterRunStatus.QUEUED)
    same, earlier, later, none = (ask(acme, since=day) for day in ("2026-11-10", "2026-11-09", "2026-11-11", None))
    assert sense(acme) == []
    assert request_row(acme, earlier)[0] == "queued"
    move(acme, run, dg.DagsterRunStatus.STARTED)
    (request,) = sense(acme)
    assert (request.run_key, since(request)) == (f"sync-request-{earlier}-acme", "2026-11-09")
    move(acme, run, dg.DagsterRunStatus.SUCCESS)
    sense(acme)
    assert {it for it, (status, _) in progress(acme).items() if status == "succeeded"} == {first, same, later, none}


@pytest.mark.slow
def test_a_daemon_that_dies_before_the_launch_asks_for_the_same_run_again(acme: Deployment) -> None:
    first = ask(acme)
    lost = sense(acme)
    second = ask(acme)
    assert [it.run_key for it in sense(acme)] == [it.run_key for it in lost] == [f"sync-request-{first}-acme"]
    run = pretend_run(acme, first, "acme", dg.DagsterRunStatus.STARTED)
    third = ask(acme)
    assert [it.run_key for it in sense(acme)] == [f"sync-request-{third}-acme"]
    assert progress(acme) == {
        **{it: ("running", [run.run_id]) for it in (first, second)},
        third: ("queued", []),
    }


@pytest.mark.slow
def test_all_requests_of_a_run_follow_its_retry_and_name_both_runs(acme: Deployment) -> None:
    ids = [ask(acme), ask(acme)]
    sense(acme)
    failed = pretend_run(acme, ids[0], "acme", dg.DagsterRunStatus.FAILURE, **{"dagster/will_retry": "true"})
    sense(acme)
    assert progress(acme) == {it: ("running", [failed.run_id]) for it in ids}
    parents = {"dagster/parent_run_id": failed.run_id, "dagster/root_run_id": failed.run_id}
    retry = pretend_run(acme, ids[0], "acme", dg.DagsterRunStatus.SUCCESS, **parents)
    sense(acme)
    assert progress(acme) == {it: ("succeeded", [failed.run_id, retry.run_id]) for it in ids}


@pytest.mark.slow
def test_a_run_that_is_deleted_in_dagster_ends_its_requests_as_it_ended(acme: Deployment) -> None:
    ids = [ask(acme), ask(acme)]
    (request,) = sense(acme)
    result = answer(acme, request)
    acme.instance.delete_run(result.run_id)
    assert sense(acme) == []
    assert progress(acme) == {it: ("succeeded", [result.run_id]) for it in ids}


@pytest.mark.slow
def test_requests_of_the_program_before_keep_the_runs_that_they_have(acme: Deployment) -> None:
    """Their runs were requested one by one; the migration says so."""
    running, queued = ask(acme), ask(acme)
    acme.run()
    migration = (MIGRATIONS / "versions" / "0016_requests.sql").read_text(encoding="utf-8")
    (update,) = (it for it in migration.split(";") if "update ops.sync_request" in it)
    with acme.engine.begin() as connection:
        connection.execute(sa.text("update ops.sync_request set status = 'running' where id = :id"), {"id": running})
        connection.execute(sa.text(update))
    run = pretend_run(acme, running, "acme", dg.DagsterRunStatus.STARTED)
    assert [it.run_key for it in sense(acme)] == [f"sync-request-{queued}-acme"]
    assert progress(acme) == {running: ("running", [run.run_id]), queued: ("queued", [])}
