"""What Dagster loads: the exact set of assets, checks, jobs, schedules and sensors, and what each of them promises."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.schedule_definition import ScheduleExecutionData
from pydantic import SecretStr

from orcost_pipeline.definitions import build_defs
from orcost_pipeline.defs.resources import SURROUNDINGS
from orcost_pipeline.settings import UP, Settings, load_settings
from orcost_pipeline.warehouse.deployment import sole_deployment
from orcost_pipeline_tests.dagster_deployment import dagster_run
from orcost_pipeline_tests.world import NOON

CHECKOUT = Path(__file__).parents[1]
ENVIRONMENT = ("OPENROUTER_API_KEY", "OPENROUTER_BASE_URL", "ORCOST_DATABASE_URL", "ORCOST_HOME", "ORCOST_CONFIG")

ASSETS = {
    "raw/account",
    "raw/activity_daily",
    "raw/api_key",
    "raw/model",
    "raw/organization_member",
    "raw/usage_hourly",
    "raw/workspace",
    "ref/api_key",
    "ref/api_key_history",
    "ref/assignment",
    "ref/company_mapping",
    "core/spend_daily",
    "core/spend_hourly",
    "core/usage_daily",
    "core/usage_hourly",
    "marts/company_spend_daily",
    "marts/company_spend_hourly",
    "marts/company_spend_monthly",
    "marts/company_charge_daily",
    "marts/company_charge_monthly",
    "marts/statement",
    "marts/company_spend_rolling",
    "marts/creator_spend_daily",
    "marts/focus_cost_and_usage",
    "marts/key_spend_rolling",
    "marts/model_spend_monthly",
    "marts/reconciliation_daily",
    "marts/spend_daily",
    "marts/spend_hourly",
    "marts/unattributed_spend",
    "marts/unkeyed_spend_daily",
    "marts/workspace_spend_daily",
    "ops/restatement",
}
# Nothing makes them: lineage ends where people look.
DASHBOARDS = {"dashboards/superset"}
CHECKS = {
    ("raw/usage_hourly", "totals_are_credits_plus_byok"),
    ("ref/company_mapping", "mapping_is_valid"),
    ("ref/company_mapping", "every_rule_can_win"),
    ("ref/company_mapping", "every_rule_was_used"),
    ("ref/company_mapping", "company_list_is_valid"),
    ("ref/company_mapping", "every_company_is_listed"),
    ("ref/company_mapping", "price_plans_are_valid"),
    ("ref/company_mapping", "every_plan_row_can_hold"),
    ("ref/company_mapping", "exchange_rates_are_valid"),
    ("ref/assignment", "every_usage_has_one_owner"),
    ("core/usage_hourly", "account_sums_to_its_answer"),
    ("core/usage_daily", "settled_days_sum_to_activity"),
    ("marts/company_spend_daily", "companies_sum_to_usage"),
    ("marts/company_spend_hourly", "company_hours_sum_to_usage"),
    ("marts/model_spend_monthly", "models_sum_to_usage"),
    ("marts/workspace_spend_daily", "holders_sum_to_companies"),
    ("marts/key_spend_rolling", "rolling_totals_sum_to_keys"),
    ("marts/company_spend_rolling", "unattributed_share_is_small"),
    ("marts/reconciliation_daily", "witnesses_agree"),
    ("ops/restatement", "settled_days_stay_as_they_were"),
    ("marts/company_charge_daily", "charges_follow_the_plans"),
    ("marts/statement", "closed_months_stay_closed"),
    ("marts/company_spend_rolling", "every_account_is_fresh"),
    ("marts/spend_daily", "rights_are_as_granted"),
}
CONTRACT_CHECKS = {
    "every_usage_has_one_owner",
    "account_sums_to_its_answer",
    "settled_days_sum_to_activity",
    "companies_sum_to_usage",
    "company_hours_sum_to_usage",
    "models_sum_to_usage",
    "holders_sum_to_companies",
    "rolling_totals_sum_to_keys",
}
# The mapping's file is an asset; its versions are two relations, with names that say what a row is.
RELATIONS_OF_THE_MAPPING = {"ref.mapping_version", "ref.mapping_rule"}


@pytest.fixture
def two_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project whose orcost.toml names the accounts acme and globex; only acme has a key."""
    for name in (*ENVIRONMENT, "ORCOST_MAPPING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENROUTER_API_KEY_ACME", "sk-or-v1-acme")
    monkeypatch.delenv("OPENROUTER_API_KEY_GLOBEX", raising=False)
    accounts = (
        f'[[accounts]]\nname = "{name}"\napi_key_env = "OPENROUTER_API_KEY_{name.upper()}"\n'
        for name in ("acme", "globex")
    )
    (tmp_path / "orcost.toml").write_text("".join(accounts), encoding="utf-8")
    return load_settings(tmp_path)


@pytest.fixture
def definitions(two_accounts: Settings) -> dg.Definitions:
    return build_defs(two_accounts)


@pytest.fixture
def repository(definitions: dg.Definitions) -> dg.RepositoryDefinition:
    return definitions.get_repository_def()


def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def made(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {key: spec for key, spec in specs(definitions).items() if key not in DASHBOARDS}


# ── the exact set ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_assets_are_exactly_these(definitions: dg.Definitions) -> None:
    assert set(specs(definitions)) == ASSETS | DASHBOARDS


def test_dashboards_are_external_and_read_marts_that_exist(
    definitions: dg.Definitions, repository: dg.RepositoryDefinition
) -> None:
    for key in DASHBOARDS:
        spec = specs(definitions)[key]
        read = {dep.asset_key.to_user_string() for dep in spec.deps}
        assert read == {
            *("marts/spend_daily", "marts/reconciliation_daily"),
            *("marts/company_charge_daily", "marts/company_charge_monthly"),
        }
        assert read <= ASSETS
        assert (spec.group_name, spec.partitions_def) == ("dashboards", None)
        assert not repository.asset_graph.get(spec.key).is_executable


def test_the_checks_are_exactly_these_and_contract_checks_block(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    keys = graph.asset_check_keys
    assert {(key.asset_key.to_user_string(), key.name) for key in keys} == CHECKS
    assert {key.name for key in keys if graph.get_check_spec(key).blocking} == CONTRACT_CHECKS
    assert all((graph.get_check_spec(key).description or "").endswith(".") for key in keys)


def test_the_jobs_schedules_and_sensors_are_exactly_these(repository: dg.RepositoryDefinition) -> None:
    jobs = {name for name in repository.job_names if not name.startswith("__")}
    assert jobs == {"hourly_sync", "reattribute", "load_company_mapping"}
    assert {schedule.name for schedule in repository.schedule_defs} == {"hourly_schedule"}
    assert {sensor.name for sensor in repository.sensor_defs} == {
        *("sync_request_sensor", "mapping_change_sensor", "alert_sensor", "housekeeping_sensor"),
    }


def test_the_hourly_job_makes_every_asset_and_asks_every_check(repository: dg.RepositoryDefinition) -> None:
    layer = repository.get_job("hourly_sync").asset_layer
    assert {key.to_user_string() for key in layer.selected_asset_keys} == ASSETS
    selected = {(key.asset_key.to_user_string(), key.name) for key in layer.asset_graph.asset_check_keys}
    assert selected == CHECKS


# ── what each promises ───────────────────────────────────────────────────────────────────────────────────────────────


def test_every_asset_is_grouped_by_its_schema_has_kinds_and_states_its_grain_first(definitions: dg.Definitions) -> None:
    for key, spec in made(definitions).items():
        assert spec.group_name == key.split("/")[0], key
        assert spec.kinds & {"postgres", "csv"}, key
        assert (spec.description or "").startswith("One row per "), key
        assert "." in (spec.description or ""), key


def test_raw_assets_say_which_endpoint_they_read(definitions: dg.Definitions) -> None:
    for key, spec in made(definitions).items():
        if key.startswith("raw/"):
            assert any(f"`{method} /" in (spec.description or "") for method in ("GET", "POST")), key


def test_every_asset_depends_on_assets_that_exist(definitions: dg.Definitions) -> None:
    for key, spec in made(definitions).items():
        assert {dep.asset_key.to_user_string() for dep in spec.deps} <= ASSETS, key
        assert spec.deps or key in {"raw/account", "ref/company_mapping"}, key


def test_every_asset_is_a_relation_of_the_same_name(definitions: dg.Definitions, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "select table_schema || '.' || table_name from information_schema.tables "
                "where table_schema in ('raw', 'ref', 'core', 'marts', 'ops')"
            )
        )
        relations = set(rows.scalars())
    assert relations >= RELATIONS_OF_THE_MAPPING
    for key in ASSETS - {"ref/company_mapping"}:
        assert key.replace("/", ".") in relations, key


def test_assets_name_their_table_for_dagster(definitions: dg.Definitions) -> None:
    for key, spec in made(definitions).items():
        table = "ref.mapping_rule" if key == "ref/company_mapping" else key.replace("/", ".")
        assert spec.metadata["dagster/table_name"] == table, key


# ── partitions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_partitions_are_the_accounts_and_the_mapping_is_shared(definitions: dg.Definitions) -> None:
    for key, spec in made(definitions).items():
        if key == "ref/company_mapping":
            assert spec.partitions_def is None
        else:
            assert spec.partitions_def is not None, key
            assert spec.partitions_def.get_partition_keys() == ["acme", "globex"], key


def test_without_orcost_toml_there_is_one_account_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    spec = specs(build_defs(load_settings(tmp_path)))["marts/company_spend_daily"]
    assert spec.partitions_def is not None
    assert spec.partitions_def.get_partition_keys() == ["default"]


def test_both_jobs_resolve_and_only_the_sync_is_partitioned(definitions: dg.Definitions) -> None:
    partitions = definitions.resolve_job_def("hourly_sync").partitions_def
    assert partitions is not None
    assert partitions.get_partition_keys() == ["acme", "globex"]
    assert definitions.resolve_job_def("load_company_mapping").partitions_def is None


# ── automation ───────────────────────────────────────────────────────────────────────────────────────────────────────


def tick(settings: Settings, at: datetime) -> list[dg.RunRequest]:
    with dg.instance_for_test() as instance:
        return list(scheduled(settings, at, instance).run_requests or ())


def scheduled(settings: Settings, at: datetime, instance: dg.DagsterInstance) -> ScheduleExecutionData:
    """What the schedule asks for."""
    repository = build_defs(settings).get_repository_def()
    schedule = repository.get_schedule_def("hourly_schedule")
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=at, resources={"orcost": settings}, repository_def=repository
    ) as context:
        return schedule.evaluate_tick(context)


@pytest.mark.slow
def test_hours_while_a_run_hangs_leave_one_scheduled_run_waiting_for_each_account(two_accounts: Settings) -> None:
    by_schedule = {"dagster/schedule_name": "hourly_schedule"}
    acme, globex = ({**by_schedule, "dagster/partition": name} for name in ("acme", "globex"))
    with dg.instance_for_test() as instance:
        instance.add_run(dagster_run(status=dg.DagsterRunStatus.STARTED, tags=acme))
        by_hand = {"dagster/partition": "acme"}
        instance.add_run(dagster_run(status=dg.DagsterRunStatus.QUEUED, tags=by_hand))
        assert len(scheduled(two_accounts, NOON, instance).run_requests or ()) == 2
        instance.add_run(dagster_run(status=dg.DagsterRunStatus.QUEUED, tags=acme))
        for hour in range(1, 7):
            (request,) = scheduled(two_accounts, NOON + timedelta(hours=hour), instance).run_requests or ()
            assert request.partition_key == "globex"
        instance.add_run(dagster_run(status=dg.DagsterRunStatus.STARTING, tags=globex))
        told = scheduled(two_accounts, NOON, instance)
    assert not told.run_requests
    last = "The last scheduled run of acme, globex has not started yet; it reads what this one would."
    assert told.skip_message == last


def test_the_schedule_and_the_sensor_run_by_default(repository: dg.RepositoryDefinition) -> None:
    schedule = repository.get_schedule_def("hourly_schedule")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("5 * * * *", "UTC")
    sensor = repository.get_sensor_def("sync_request_sensor")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["hourly_schedule", "sync_request_sensor", "mapping_change_sensor", "housekeeping_sensor"]
)
def test_beside_an_orcost_up_another_daemon_stands_back_and_says_why(
    engine: sa.Engine, database_url: str, two_accounts: Settings, name: str
) -> None:
    beside = two_accounts.model_copy(update={"database_url": SecretStr(database_url)})
    who = "process 1 on web1, home /srv/costs/.orcost, since 2026-11-26 15:04 UTC"
    with sole_deployment(engine, who):
        assert reason(beside, name) == f"An orcost up does this for the same database: {who}."
        assert reason(beside.model_copy(update={"is_of_up": True}), name) != reason(beside, name)
    assert "An orcost up" not in (reason(beside, name) or "")


def reason(settings: Settings, name: str) -> str | None:
    """Why the schedule or sensor asks for nothing; None where it asks for runs."""
    repository, given = (
        build_defs(settings).get_repository_def(),
        {"orcost": settings, "orcost_surroundings": SURROUNDINGS},
    )
    if name == "hourly_schedule":
        schedule = repository.get_schedule_def(name)
        with (
            dg.instance_for_test() as instance,
            dg.build_schedule_context(
                instance=instance, scheduled_execution_time=NOON, resources=given, repository_def=repository
            ) as context,
        ):
            return schedule.evaluate_tick(context).skip_message
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, resources=given, repository_def=repository) as context,
    ):
        return repository.get_sensor_def(name).evaluate_tick(context).skip_message


def test_services_of_orcost_up_know_that_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load_settings(tmp_path).is_of_up
    monkeypatch.setenv(UP, "1")
    assert load_settings(tmp_path).is_of_up


def test_each_hour_asks_for_one_run_per_account_under_a_key_of_its_own(two_accounts: Settings) -> None:
    requests = [
        request for hour in (11, 12) for request in tick(two_accounts, datetime(2026, 11, 23, hour, 5, tzinfo=UTC))
    ]
    assert [request.partition_key for request in requests] == ["acme", "globex"] * 2
    assert [request.tags["dagster/partition"] for request in requests] == ["acme", "globex"] * 2
    assert [request.tags["orcost/account"] for request in requests] == ["acme", "globex"] * 2
    assert len({request.run_key for request in requests}) == 4


@pytest.mark.slow
def test_the_same_hour_asked_again_asks_for_the_same_runs(two_accounts: Settings) -> None:
    at = datetime(2026, 11, 23, 11, 5, tzinfo=UTC)
    assert [r.run_key for r in tick(two_accounts, at)] == [r.run_key for r in tick(two_accounts, at)]


@pytest.mark.slow
def test_an_hour_told_in_another_zone_is_the_same_hour(two_accounts: Settings) -> None:
    at = datetime(2026, 11, 23, 11, 5, tzinfo=UTC)
    elsewhere = datetime.fromisoformat("2026-11-23T12:05:00+01:00")
    assert [r.run_key for r in tick(two_accounts, at)] == [r.run_key for r in tick(two_accounts, elsewhere)]


def test_what_the_schedule_asks_for_is_a_valid_run(two_accounts: Settings, definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("hourly_sync")
    for request in tick(two_accounts, datetime(2026, 11, 23, 11, 5, tzinfo=UTC)):
        assert dg.validate_run_config(job, request.run_config)


def test_two_runs_of_one_account_are_never_dequeued_together() -> None:
    text = (CHECKOUT / "dagster.yaml").read_text(encoding="utf-8")
    assert "key: orcost/account" in text
    assert "applyLimitPerUniqueValue: true" in text


def test_a_run_whose_launch_meets_no_code_server_is_launched_again(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_bytes((CHECKOUT / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    patience = queue.max_user_code_failure_retries * queue.user_code_failure_retry_delay
    assert patience >= 60, "a code server that was killed serves again within a minute"


# ── in somebody else's code location ─────────────────────────────────────────────────────────────────────────────────


def merged(settings: Settings) -> dg.Definitions:
    """A project with assets, a resource and an executor of its own, and ours below `llm`."""

    @dg.asset(deps=[dg.AssetKey(["llm", "marts", "company_spend_daily"])], required_resource_keys={"warehouse"})
    def invoices() -> None:
        raise AssertionError("not ours to make")

    theirs = dg.Definitions(
        assets=[invoices],
        resources={"warehouse": dg.ResourceDefinition.hardcoded_resource("theirs")},
        executor=dg.multiprocess_executor,
    )
    ours = build_defs(settings, key_prefix="llm", owners=["team:data"], schedule="35 * * * *")
    return dg.Definitions.merge(theirs, ours)


def test_ours_merge_with_somebody_elses_under_a_prefix(two_accounts: Settings) -> None:
    merge = merged(two_accounts)
    ours = {key: spec for key, spec in specs(merge).items() if key != "invoices"}
    assert set(ours) == {f"llm/{key}" for key in ASSETS | DASHBOARDS}
    assert {owner for spec in ours.values() for owner in spec.owners} == {"team:data"}
    repository = merge.get_repository_def()
    graph = repository.asset_graph
    assert {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys} == {
        (f"llm/{asset}", name) for asset, name in CHECKS
    }
    selected = repository.get_job("hourly_sync").asset_layer.selected_asset_keys
    assert {key.to_user_string() for key in selected} == {f"llm/{key}" for key in ASSETS}
    assert repository.get_schedule_def("hourly_schedule").cron_schedule == "35 * * * *"


def test_without_a_schedule_there_is_none(two_accounts: Settings) -> None:
    assert not build_defs(two_accounts, schedule=None).get_repository_def().schedule_defs


# ── a fresh process ──────────────────────────────────────────────────────────────────────────────────────────────────


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ORCOST_", "OPENROUTER_"))}
    return subprocess.run(
        command, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.slow
def test_importing_the_definitions_warns_of_nothing_and_touches_nothing(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import orcost_pipeline.definitions"
    done = run(sys.executable, "-W", "error", "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_dagster_finds_the_definitions_valid(tmp_path: Path) -> None:
    done = run(
        *(sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(CHECKOUT / "workspace.yaml")),
        cwd=CHECKOUT,
        DAGSTER_HOME=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "All code locations passed validation" in done.stdout + done.stderr


def test_what_people_read_says_when_it_is_too_old(definitions: dg.Definitions) -> None:
    policies = {name: spec.freshness_policy for name, spec in specs(definitions).items()}
    assert {name for name, policy in policies.items() if policy} == {name for name in ASSETS if "marts/" in name}
