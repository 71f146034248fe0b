"""`ops.request_sync` and the sensor that answers it."""

from datetime import timedelta
from typing import Any

import dagster as dg

from orcost_pipeline.simulator import Fault
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


def test_two_requests_have_run_keys_of_their_own(acme: Deployment) -> None:
    ids = [ask(acme, "acme"), ask(acme, "acme")]
    assert [request.run_key for request in sense(acme)] == [f"sync-request-{number}-acme" for number in ids]


def test_a_run_that_was_not_launched_is_asked_for_again_under_the_same_key(acme: Deployment) -> None:
    ask(acme)
    assert [request.run_key for request in sense(acme)] == [request.run_key for request in sense(acme)]


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


def test_since_of_a_request_reaches_the_run(synced: Deployment) -> None:
    synced.clock.later(minutes=3)
    ask(synced, "acme", "2026-11-21")
    (request,) = sense(synced)
    assert request.run_config["resources"]["orcost_window"]["config"]["since"] == "2026-11-21"
    result = answer(synced, request)
    assert result.success
    assert materialized(result)["raw/usage_hourly"]["hours_asked"] == 2 * 24 + 13


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
