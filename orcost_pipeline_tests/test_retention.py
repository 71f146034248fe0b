"""What is removed once it is older than `[retention]` keeps it, and what stays whatever its age."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from typer.testing import CliRunner

from orcost_pipeline.cli import app
from orcost_pipeline.defs.housekeeping import housekeeping_sensor
from orcost_pipeline.deployment.dagster_home import STORAGE_URL, prepare
from orcost_pipeline.project_file import RetentionConfig
from orcost_pipeline.simulator import Fault
from orcost_pipeline.warehouse import raw
from orcost_pipeline.warehouse.questions.asking import ask
from orcost_pipeline.warehouse.retention.purge import Purged, purge
from orcost_pipeline.windows import HOURS_REACH
from orcost_pipeline_tests.dagster_deployment import A_AND_B, Deployment, dagster_run
from orcost_pipeline_tests.world import DAY, HOUR, NOON

pytest_plugins = ["orcost_pipeline_tests.dagster_deployment"]

KEPT = RetentionConfig()
NOTHING = Purged()


def purged(deployment: Deployment, kept: RetentionConfig = KEPT, now: datetime | None = None) -> Purged:
    return purge(deployment.engine, kept, now or deployment.clock.now, lambda: False)


def execute(deployment: Deployment, statement: str, **parameters: Any) -> None:
    with deployment.engine.begin() as connection:
        connection.execute(sa.text(statement), parameters)


def look(deployment: Deployment) -> str:
    """One tick of the sensor: what it says."""
    with dg.build_sensor_context(instance=deployment.instance, resources=deployment.resources) as context:
        told = housekeeping_sensor.evaluate_tick(context)
    assert not told.run_requests
    return told.skip_message or ""


# Raw rows


@pytest.mark.slow
def test_a_sync_keeps_raw_rows_as_long_as_the_setting_says(synced: Deployment) -> None:
    synced.settings = synced.settings.model_copy(update={"retention": RetentionConfig(raw_days=2)})
    count = "select count(*) from raw.api_key where as_of = :first"
    synced.clock.later(days=2)
    assert synced.run().success
    assert synced.value(count, first=NOON) == 3
    synced.clock.later(minutes=1)
    assert synced.run().success
    assert synced.value(count, first=NOON) == 0


def test_raw_rows_of_an_account_whose_syncs_fail_are_purged_by_its_own_clock(synced: Deployment) -> None:
    count = "select count(*) from raw.extraction where account = :account"
    for days in range(1, 12):
        with synced.engine.begin() as connection:
            raw.start_extraction(connection, f"failed-{days}", "acme", NOON + days * DAY)
    with synced.engine.begin() as connection:
        raw.start_extraction(connection, "long ago", "globex", NOON - 365 * DAY)
    figures = synced.figures()
    assert purged(synced, now=NOON + 11 * DAY).raw_rows > 3
    assert synced.value(count, account="acme") == 9
    assert synced.value(count, account="globex") == 1, "it is that account's newest"
    assert synced.figures() == figures
    assert purged(synced, now=NOON + 11 * DAY) == NOTHING


def test_a_clock_that_was_ahead_purges_nothing_that_is_young(synced: Deployment) -> None:
    with synced.engine.begin() as connection:
        raw.start_extraction(connection, "ahead", "acme", NOON + 3650 * DAY)
    assert purged(synced, now=NOON + HOUR) == NOTHING


# Requests, runs, alerts


def syncs(deployment: Deployment, first: datetime, count: int, status: str, every: timedelta = HOUR) -> None:
    """Runs that ended, one each hour."""
    execute(
        deployment,
        "insert into ops.sync_run (run_id, account, started_at, finished_at, status, as_of) "
        "select gen_random_uuid()::text, 'acme', at, at + interval '1 minute', :status, "
        "case when :status = 'succeeded' then at end "
        "from (select cast(:first as timestamptz) + n * cast(:every as interval) as at "
        "from generate_series(0, :count - 1) n) hours",
        first=first,
        count=count,
        status=status,
        every=every,
    )


def answers(deployment: Deployment, now: datetime) -> list[Any]:
    """What is read from the runs of the account."""
    with deployment.engine.connect() as connection:
        states = [tuple(row) for row in ask(connection, "account_states")]
        good = [
            tuple(ask(connection, "good_sync", account="acme", now=at, reach=HOURS_REACH).one())
            for at in (now, now - 30 * DAY)
        ]
    return [*states, *good]


def test_runs_are_removed_without_changing_anything_that_is_read_from_them(synced: Deployment) -> None:
    now = NOON + 3 * HOUR
    syncs(synced, NOON - 1000 * DAY, 24 * 100, "succeeded")
    # Too long for hours to reach back over, then a pause that is not, and a failure in between.
    syncs(synced, NOON - 865 * DAY, 24 * 40, "succeeded")
    syncs(synced, NOON - 824 * DAY, 24 * 28, "failed")
    syncs(synced, NOON - 796 * DAY, 24 * 300, "succeeded")
    before, count = answers(synced, now), synced.value("select count(*) from ops.sync_run")
    removed = purged(synced, now=now).runs
    assert answers(synced, now) == before
    assert removed > 24 * 400
    assert synced.value("select count(*) from ops.sync_run") == count - removed
    assert synced.value("select count(*) from ops.sync_run where status = 'failed'") == 0
    assert synced.value("select count(*) from ops.sync_run") < 150
    assert purged(synced, now=now) == NOTHING


def test_an_account_that_fails_for_years_keeps_since_when(synced: Deployment) -> None:
    syncs(synced, NOON + HOUR, 24 * 500, "failed")
    now = NOON + 501 * DAY
    before = answers(synced, now)
    assert purged(synced, now=now).runs > 24 * 90
    assert answers(synced, now) == before


def test_a_run_that_goes_on_or_that_a_restatement_names_stays(synced: Deployment) -> None:
    old = NOON - 500 * DAY
    syncs(synced, old, 5, "succeeded")
    execute(synced, "update ops.sync_run set run_id = 'restated' where started_at = :at", at=old + 2 * HOUR)
    execute(synced, "update ops.sync_run set status = 'running' where started_at = :at", at=old + 3 * HOUR)
    execute(
        synced,
        "insert into ops.restatement (account, day, key_hash, model, noticed_at, credits_usd_before, "
        "credits_usd_after, byok_usd_before, byok_usd_after, run_id) "
        "values ('acme', '2025-07-01', null, 'm', :at, 1, 2, 0, 0, 'restated')",
        at=old,
    )
    assert purged(synced).runs == 1


def test_requests_that_ended_and_alerts_that_were_resolved_are_removed(synced: Deployment) -> None:
    execute(
        synced,
        "insert into ops.sync_request (status, requested_at, finished_at) values ('succeeded', :old, :old), "
        "('failed', :old, :old), ('queued', :old, null), ('running', :old, null), ('succeeded', :old, :new)",
        old=NOON - 401 * DAY,
        new=NOON - 399 * DAY,
    )
    execute(synced, "update ops.sync_run set request_id = 2")
    execute(
        synced,
        "insert into ops.alert (code, severity, message, todo, opened_at, resolved_at) values "
        "('a', 'error', 'm', 't', :old, :old), ('b', 'error', 'm', 't', :old, :new), "
        "('c', 'error', 'm', 't', :old, null)",
        old=NOON - 401 * DAY,
        new=NOON - 399 * DAY,
    )
    execute(
        synced,
        "insert into ops.alert_delivery (alert_id, kind, service, url_sha256) select id, 'opened', 's', 'u' "
        "from ops.alert",
    )
    assert purged(synced) == Purged(requests=1, alerts=1)
    assert synced.rows("select id from ops.sync_request order by 1") == [(2,), (3,), (4,), (5,)]
    assert synced.rows("select code from ops.alert order by 1") == [("b",), ("c",)]
    assert synced.value("select count(*) from ops.alert_delivery") == 2


# Dagster


@pytest.fixture
def stored(synced: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """The deployment, with Dagster's storage in its warehouse's database."""
    for name in (STORAGE_URL, "DAGSTER_HOME", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, "")
    prepare(synced.settings)
    with dg.DagsterInstance.get() as instance:
        yield replace(synced, instance=instance)


def age(deployment: Deployment, run_id: str, days: int) -> None:
    """Makes a run and what belongs to it this much older."""
    before = {"run_id": run_id, "days": days}
    execute(
        deployment,
        "update dagster.runs set create_timestamp = create_timestamp - make_interval(days => :days), "
        "update_timestamp = update_timestamp - make_interval(days => :days), "
        "end_time = end_time - 86400 * :days where run_id = :run_id",
        **before,
    )
    execute(
        deployment,
        "update dagster.event_logs set timestamp = timestamp - make_interval(days => :days) where run_id = :run_id",
        **before,
    )
    execute(
        deployment,
        "update dagster.asset_check_executions set create_timestamp = create_timestamp - make_interval(days => :days) "
        "where run_id = :run_id",
        **before,
    )


def runs_in(deployment: Deployment, table: str) -> set[str]:
    return {run_id for (run_id,) in deployment.rows(f"select distinct run_id from dagster.{table}")}


@pytest.mark.slow
def test_old_runs_of_dagster_are_removed_with_all_that_belongs_to_them(stored: Deployment) -> None:
    stored.load_mapping(A_AND_B)
    old, good = (stored.run().run_id for _ in range(2))
    stored.simulator.inject(Fault("401", times=None))
    bad, worse = (stored.run().run_id for _ in range(2))
    runs = runs_in(stored, "runs")
    for run_id in runs:
        age(stored, run_id, 31)
    now = datetime.now(UTC)
    shown = latest(stored)
    removed = purged(stored, now=now)
    assert (removed.dagster_runs, removed.dagster_events > 100) == (2, True)
    assert runs_in(stored, "runs") == runs - {old, bad}
    assert good in runs
    assert worse in runs
    for table in ("event_logs", "run_tags", "asset_check_executions"):
        assert not {old, bad} & runs_in(stored, table), table
    events = "select count(*) from dagster.asset_event_tags where event_id not in (select id from dagster.event_logs)"
    assert stored.value(events) == 0
    assert latest(stored) == shown
    assert purged(stored, now=now)[:-1] == NOTHING[:-1]


def latest(deployment: Deployment) -> dict[Any, Any]:
    """What Dagster shows of each asset: its latest materialization, and the latest verdict of each check."""
    definitions = deployment.definitions()
    keys = sorted(definitions.resolve_asset_graph().get_all_asset_keys())
    checks = deployment.rows(
        "select distinct on (asset_key, check_name) asset_key, check_name, execution_status "
        "from dagster.asset_check_executions order by 1, 2, id desc"
    )
    events = {key: deployment.instance.get_latest_materialization_event(key) for key in keys}
    return {**{key: event.run_id if event else None for key, event in events.items()}, "checks": checks}


@pytest.mark.slow
def test_a_run_that_has_not_ended_and_a_run_that_is_young_stay(stored: Deployment) -> None:
    states = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
    tags = {"dagster/partition": "acme"}
    for number, status in enumerate((*states, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE)):
        stored.instance.add_run(dagster_run(run_id=f"old-{number}", status=status, tags=tags))
        age(stored, f"old-{number}", 400)
    for run_id in ("young", "newest"):
        stored.instance.add_run(dagster_run(run_id=run_id, status=dg.DagsterRunStatus.SUCCESS, tags=tags))
    assert purged(stored, now=datetime.now(UTC)).dagster_runs == 2
    assert runs_in(stored, "runs") == {"old-0", "old-1", "old-2", "young", "newest"}


def test_events_and_verdicts_without_a_run_are_removed_except_the_newest_of_an_asset(stored: Deployment) -> None:
    for _ in range(3):
        stored.instance.report_runless_asset_event(dg.AssetMaterialization("outside"))
    execute(
        stored,
        "insert into dagster.asset_check_executions (asset_key, check_name, run_id, execution_status, "
        "create_timestamp) select '[\"outside\"]', 'c', 'gone-' || n, 'SUCCEEDED', now() at time zone 'UTC' "
        "from generate_series(1, 3) n",
    )
    assert purged(stored, now=datetime.now(UTC)) == NOTHING
    assert purged(stored, now=datetime.now(UTC) + 31 * DAY).dagster_events == 2
    assert stored.value("select count(*) from dagster.event_logs where run_id = ''") == 1
    assert stored.rows("select run_id from dagster.asset_check_executions") == [("gone-3",)]


# The sensor and the command


def test_the_sensor_launches_nothing_and_says_what_it_removed(synced: Deployment) -> None:
    assert look(synced) == "No data is older than the [retention] settings."
    execute(
        synced,
        "insert into ops.sync_request (status, finished_at) select 'succeeded', :old from generate_series(1, 2)",
        old=NOON - 401 * DAY,
    )
    assert look(synced) == "Removed: 2 requests for a sync."


def test_a_look_that_takes_long_goes_on_at_the_next(synced: Deployment) -> None:
    old = {"old": NOON - 401 * DAY}
    execute(synced, "insert into ops.sync_request (status, finished_at) values ('succeeded', :old)", **old)
    with synced.engine.begin() as connection:
        raw.start_extraction(connection, "failed", "acme", NOON + 9 * DAY)
    clock = synced.clock
    clock.later(days=9)

    def hurrying() -> datetime:
        clock.later(seconds=30)
        return clock.now

    plain = synced.surroundings
    synced.surroundings = plain._replace(clock=hurrying)
    first = look(synced)
    assert first.startswith("Removed: ")
    assert first.endswith(" rows of raw. The next look goes on.")
    assert synced.rows("select run_id from raw.extraction") == [("failed",)]
    synced.surroundings = plain
    assert look(synced) == "Removed: 1 request for a sync."


@pytest.mark.slow
def test_orcost_db_clean_does_the_same_by_hand(stored: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = stored.run().run_id
    assert stored.run().success
    age(stored, run_id, 400)
    (stored.settings.folder / "orcost.toml").write_text("[retention]\nruns_days = 399\n", encoding="utf-8")
    monkeypatch.chdir(stored.settings.folder)
    assert isinstance(stored.settings.database_url, SecretStr)
    monkeypatch.setenv("ORCOST_DATABASE_URL", stored.settings.database_url.get_secret_value())
    told = [CliRunner().invoke(app, ["db", "clean"], obj=lambda: datetime.now(UTC)) for _ in range(2)]
    assert [it.exit_code for it in told] == [0, 0]
    assert told[0].output.startswith("Removed: ")
    assert "1 run of Dagster, " in told[0].output
    assert told[1].output == "No data is older than the [retention] settings.\n"
