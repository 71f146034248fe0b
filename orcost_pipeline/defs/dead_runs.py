"""Runs whose process was killed. Dagster would wait for them for two hours, and block their account's queue.

A run's process holds its account's lock, or waits for it, as long as it lives: a run in progress whose account is not
locked is dead. This holds where one process runs all steps; runs whose steps have their own processes are left alone.
"""

import time
from collections.abc import Mapping
from datetime import datetime, timedelta

import dagster as dg
import sqlalchemy as sa

from orcost_pipeline.defs.resources import ACCOUNT_TAG
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.questions.syncs import accounts_of_runs, locked_accounts, unclosed_runs

YOUNG = timedelta(seconds=60)  # a run that is just starting has no lock yet
SECOND_LOOK_SECONDS = 5
FAILURE_REASON_TAG = "dagster/failure_reason"


def close_dead_runs(instance: dg.DagsterInstance, engine: sa.Engine, now: datetime) -> list[str]:
    """Reports runs without a process as failed to Dagster, and notes them as abandoned; returns their ids."""
    dead = unattended_runs(instance, engine, now)
    if dead:
        # A live run takes a lock within seconds that it waited for or lost with a restarted database.
        time.sleep(SECOND_LOOK_SECONDS)
        dead = {run_id: run for run_id, run in unattended_runs(instance, engine, now).items() if run_id in dead}
    for run_id, run in dead.items():
        instance.report_run_failed(run, runs.DIED)
        runs.close_run(engine, run_id, "abandoned", runs.DIED, now)
    return list(dead)


def unattended_runs(instance: dg.DagsterInstance, engine: sa.Engine, now: datetime) -> Mapping[str, dg.DagsterRun]:
    """Runs by id that Dagster considers in progress although their account is not locked."""
    records = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    before = (now - YOUNG).timestamp()
    started = {
        record.dagster_run.run_id: record.dagster_run
        for record in records
        if (record.start_time or record.create_timestamp.timestamp()) < before
    }
    if not started:
        return {}
    accounts = accounts_of_runs(engine, started)
    accounts |= {run_id: run.tags[ACCOUNT_TAG] for run_id, run in started.items() if ACCOUNT_TAG in run.tags}
    locked = locked_accounts(engine, accounts.values())
    return {
        run_id: started[run_id]
        for run_id, account in accounts.items()
        if account not in locked and not _has_several_processes(instance, run_id)
    }


def _has_several_processes(instance: dg.DagsterInstance, run_id: str) -> bool:
    workers = dg.DagsterEventType.STEP_WORKER_STARTING
    return bool(instance.get_records_for_run(run_id, of_type=workers, limit=1).records)


def close_ended_runs(instance: dg.DagsterInstance, engine: sa.Engine, now: datetime) -> None:
    """Notes the end of runs that have ended for Dagster without noting it themselves."""
    for run_id in unclosed_runs(engine):
        run = instance.get_run_by_id(run_id)
        if run is None or not run.is_finished:
            continue
        # A run that failed by itself has a failure reason; one that was found dead has none.
        if run.status == dg.DagsterRunStatus.FAILURE and FAILURE_REASON_TAG not in run.tags:
            runs.close_run(engine, run_id, "abandoned", runs.DIED, now)
        else:
            runs.close_run(engine, run_id, "failed", runs.STOPPED, now)
