"""Several accounts in one warehouse, and several processes that sync at once."""

import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.simulator import Options, Simulator, serve, small
from orcost_pipeline.warehouse import runs
from orcost_pipeline_tests.dagster_deployment import A_AND_B, Deploy, Deployment, two_accounts
from orcost_pipeline_tests.processes import CHECKOUT, clean_environment, eventually
from orcost_pipeline_tests.world import HOUR, NOON

pytest_plugins = ["orcost_pipeline_tests.dagster_deployment"]


def test_a_bad_key_in_one_account_does_not_stop_the_other(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    acme, globex = both.settings.accounts
    wrong = acme.model_copy(update={"api_key": SecretStr("sk-or-v1-revoked")})
    both.settings = both.settings.model_copy(update={"accounts": (wrong, globex)})
    assert not both.run("acme").success
    assert both.run("globex").success
    assert both.rows("select account, status from ref.account order by 1") == [
        ("acme", "invalid_key"),
        ("globex", "ok"),
    ]
    assert both.rows("select distinct account from marts.company_spend_rolling") == [("globex",)]


@pytest.mark.slow
def test_two_accounts_share_companies_and_nothing_else(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    both.settings.mapping.path.write_text(A_AND_B, encoding="utf-8")
    assert both.run("acme").success
    acme_alone = both.rows("select t::text from marts.company_spend_daily t order by 1")
    assert both.run("globex").success
    told = both.rows(
        "select account, company, credits_usd from marts.company_spend_rolling where period = '30d' order by 1, 2"
    )
    assert told == [
        ("acme", "A", Decimal("10.85")),
        ("acme", "B", Decimal("100.65")),
        ("acme", "Unattributed", Decimal("0.25")),
        ("globex", "A", 7),
    ]
    kept = both.rows("select t::text from marts.company_spend_daily t where account = 'acme' order by 1")
    assert kept == acme_alone


@pytest.mark.slow
def test_a_run_left_running_is_closed_as_abandoned_by_the_next_of_its_account(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    for account in ("acme", "globex"):
        runs.start_run(both.engine, f"died-{account}", account, None, NOON - HOUR)
    assert both.run("acme").success
    left = both.rows("select run_id, status, finished_at from ops.sync_run where run_id like 'died-%' order by 1")
    assert left == [("died-acme", "abandoned", NOON), ("died-globex", "running", None)]


@pytest.mark.slow
def test_a_second_sync_waits_for_the_first(acme: Deployment) -> None:
    results: list[Any] = []
    run_id = str(uuid.uuid4())

    def is_waiting() -> bool:
        told = "Another sync of acme is running; waiting for it."
        return any(told in record.user_message for record in acme.instance.all_logs(run_id))

    with runs.sync_lock(acme.engine, "acme"):
        second = threading.Thread(target=lambda: results.append(acme.run(run_id=run_id)))
        second.start()
        assert eventually(is_waiting)
        second.join(timeout=0.5)
        assert second.is_alive()
        assert acme.simulator.count == 0
        assert acme.rows("select * from ops.sync_run") == []
    second.join(timeout=60)
    assert results[0].success


@pytest.mark.slow
def test_another_account_does_not_wait(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    with runs.sync_lock(both.engine, "acme"):
        assert both.run("globex").success


SYNC = """
import sys
import dagster as dg
from orcost_pipeline.definitions import defs
with dg.DagsterInstance.ephemeral() as instance:
    job = defs.resolve_job_def("hourly_sync")
    result = job.execute_in_process(instance=instance, partition_key="default", raise_on_error=False)
sys.exit(0 if result.success else 1)
"""


@pytest.fixture
def process(database_url: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a process that syncs the account `default` by environment alone, as an operator's would."""
    started: list[subprocess.Popen[bytes]] = []
    with slow_simulator() as (simulator, base_url):

        def start() -> subprocess.Popen[bytes]:
            environment = {
                **clean_environment(),
                "PYTHONPATH": str(CHECKOUT),
                "OPENROUTER_API_KEY": simulator.ledger.accounts["acme"].management_key,
                "OPENROUTER_BASE_URL": base_url,
                "ORCOST_DATABASE_URL": database_url,
                "ORCOST_HOME": str(tmp_path),
            }
            command = [sys.executable, "-c", SYNC]
            quiet = subprocess.DEVNULL
            started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=quiet, stderr=quiet))
            return started[-1]

        yield start
        for one in started:
            one.kill()
            one.wait()


@contextmanager
def slow_simulator() -> Iterator[tuple[Simulator, str]]:
    """`small` on a real port, by the wall clock, slow enough for syncs to overlap."""
    simulator = Simulator(small(datetime.now(UTC)), options=Options(latency_seconds=0.06))
    with serve(simulator) as base_url:
        yield simulator, base_url


@pytest.mark.slow
def test_two_processes_that_sync_at_once_both_end_well(
    process: Callable[[], subprocess.Popen[bytes]], engine: sa.Engine
) -> None:
    both = [process(), process()]
    assert [one.wait(timeout=60) for one in both] == [0, 0]
    with engine.connect() as connection:
        first, second = connection.execute(sa.text("select * from ops.sync_run order by started_at")).all()
        spent = connection.execute(sa.text("select sum(credits_usd), count(*) from core.spend_hourly")).one()
        extractions = connection.execute(sa.text("select count(*), count(distinct run_id) from raw.extraction")).one()
        rolling = connection.execute(
            sa.text("select sum(credits_usd) from marts.company_spend_rolling where period = '30d'")
        ).scalar_one()
    assert (first.status, second.status) == ("succeeded", "succeeded")
    assert second.started_at >= first.finished_at
    assert second.rows_written == 0 or second.started_at.hour != first.started_at.hour
    assert tuple(extractions) == (2, 2)
    assert tuple(spent) == (Decimal("111.75"), 7)
    assert rolling == Decimal("111.75")


@pytest.mark.slow
def test_a_process_killed_in_the_middle_leaves_nothing_and_holds_nothing(
    process: Callable[[], subprocess.Popen[bytes]], engine: sa.Engine
) -> None:
    def running() -> int:
        with engine.connect() as connection:
            statement = "select count(*) from ops.sync_run join raw.extracted using (run_id) where status = 'running'"
            return int(connection.execute(sa.text(statement)).scalar_one())

    first = process()
    assert eventually(lambda: running() >= 2)
    first.kill()
    first.wait()
    assert running() >= 2
    assert process().wait(timeout=60) == 0
    with engine.connect() as connection:
        statuses = connection.execute(sa.text("select status, error from ops.sync_run order by started_at")).all()
        spent = connection.execute(sa.text("select sum(credits_usd) from core.spend_hourly")).scalar_one()
    assert [tuple(status) for status in statuses] == [
        ("abandoned", "The process died; nothing of it was published that is not whole."),
        ("succeeded", None),
    ]
    assert spent == Decimal("111.75")
