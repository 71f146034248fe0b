"""Runs that Dagster retries: what was read is not asked for again."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orcost_pipeline.definitions import build_defs
from orcost_pipeline.defs.resources import SURROUNDINGS, extraction_id, is_sync
from orcost_pipeline.settings import load_settings
from orcost_pipeline.simulator import Fault
from orcost_pipeline_tests.dagster_deployment import Deployment, dagster_run, fail_once
from orcost_pipeline_tests.world import NOON

pytest_plugins = ["orcost_pipeline_tests.dagster_deployment"]


def test_a_run_reads_for_itself() -> None:
    run = dagster_run()
    assert extraction_id(run) == run.run_id


def test_a_retry_from_the_start_reads_for_itself() -> None:
    run = dagster_run(root_run_id="first", parent_run_id="first")
    assert extraction_id(run) == run.run_id


def test_a_resumed_retry_goes_on_with_what_its_parent_read() -> None:
    run = dagster_run(root_run_id="first", parent_run_id="first", tags={"dagster/is_resume_retry": "true"})
    assert extraction_id(run) == "first"


def test_a_retry_of_the_failed_assets_goes_on_with_what_its_parent_read() -> None:
    run = dagster_run(root_run_id="first", parent_run_id="first", tags={"dagster/is_asset_resume_retry": "true"})
    assert extraction_id(run) == "first"


def test_a_sync_is_what_publishes() -> None:
    def selecting(*keys: str) -> dg.DagsterRun:
        return dagster_run(asset_selection=frozenset(dg.AssetKey.from_user_string(key) for key in keys))

    assert is_sync(dagster_run())
    assert is_sync(selecting("raw/account", "ref/api_key"))
    assert not is_sync(selecting("raw/account"))
    assert not is_sync(selecting("ref/api_key", "core/usage_hourly"))
    assert not is_sync(selecting("marts/company_spend_daily"))


AROUND = {"environments_job": SURROUNDINGS}


def environments_job() -> dg.JobDefinition:
    """hourly_sync of what the environment tells, for Dagster to find again in a retry."""
    return build_defs(load_settings(), surroundings=AROUND["environments_job"]).resolve_job_def("hourly_sync")


@pytest.fixture
def by_environment(acme: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Deployment:
    """The deployment of `acme`, told by the environment under the name `default`."""
    account = acme.settings.accounts[0]
    assert account.api_key is not None
    assert acme.settings.database_url is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(AROUND, "environments_job", acme.surroundings)
    monkeypatch.delenv("ORCOST_CONFIG", raising=False)
    monkeypatch.setenv("OPENROUTER_API_KEY", account.api_key.get_secret_value())
    monkeypatch.setenv("OPENROUTER_BASE_URL", account.base_url)
    monkeypatch.setenv("ORCOST_DATABASE_URL", acme.settings.database_url.get_secret_value())
    monkeypatch.setenv("ORCOST_HOME", str(tmp_path))
    monkeypatch.setenv("ORCOST_MAPPING", str(acme.settings.mapping.path))
    return acme


def launch(deployment: Deployment, parent: str | None = None, *, is_resumed: bool = True) -> Any:
    """A run as the daemon launches it: with a parent, its retry, from the failure or from the start."""
    tags = {"dagster/partition": "default", "orcost/account": "default"}
    options = None
    if parent is not None and is_resumed:
        tags["dagster/is_resume_retry"] = "true"
        options = dg.ReexecutionOptions.from_failure(parent, deployment.instance)
    elif parent is not None:
        options = dg.ReexecutionOptions(parent)
    return dg.execute_job(
        dg.reconstructable(environments_job),
        instance=deployment.instance,
        tags=tags,
        reexecution_options=options,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def test_a_resumed_retry_publishes_what_its_parent_read_and_asks_nothing(
    by_environment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_once("account_day", patch)
        first = launch(by_environment)
    assert not first.success
    asked = by_environment.simulator.count
    by_environment.clock.later(minutes=2)
    second = launch(by_environment, first.run_id)
    assert second.success
    assert by_environment.simulator.count == asked
    run = by_environment.last_run()
    assert (run.run_id, run.status, run.as_of, run.requests_made) == (second.run_id, "succeeded", NOON, 0)
    assert by_environment.value("select sum(requests_made) from ops.sync_run") == asked
    assert sum(by_environment.companies().values()) == Decimal("111.75")


@pytest.mark.slow
def test_a_resumed_retry_of_a_retry_from_the_start_publishes_what_that_one_read(
    by_environment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert launch(by_environment).success
    by_environment.clock.later(hours=1)
    by_environment.spend("5")
    by_environment.simulator.inject(Fault("401", times=None))
    first = launch(by_environment)
    by_environment.simulator.clear_faults()
    with monkeypatch.context() as patch:
        fail_once("account_day", patch)
        second = launch(by_environment, first.run_id, is_resumed=False)
    assert not second.success
    assert launch(by_environment, second.run_id).success
    assert sum(by_environment.companies().values()) == Decimal("116.75")
