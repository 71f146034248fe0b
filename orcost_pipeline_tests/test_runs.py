"""The production definitions, run by a real Dagster instance against a simulated OpenRouter on a real port."""

import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import sqlalchemy as sa
from dagster._core.events import EngineEventData
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from orcost_pipeline.definitions import build_defs
from orcost_pipeline.defs.automation import mapping_change_sensor, sync_request_sensor
from orcost_pipeline.defs.pictures import bars
from orcost_pipeline.defs.resources import RETRIES, extraction_id, is_sync
from orcost_pipeline.settings import Account, Settings, load_settings
from orcost_pipeline.simulator import Fault, Ledger, Options, Simulator, serve, small
from orcost_pipeline.simulator.catalogue import GPT, MISTRAL
from orcost_pipeline.sync.step import SyncStep
from orcost_pipeline.sync.steps import publish_account
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.locks import SYNC_LOCK
from orcost_pipeline.warehouse.publication import Publication
from orcost_pipeline.warehouse.questions.mapping import RuleRow, rules_in_force
from orcost_pipeline_tests.processes import clean_environment
from orcost_pipeline_tests.world import DAY, HOUR, NOON, after_step, usage

CHECKOUT = Path(__file__).parents[1]
READERS = (
    *("ref.api_key", "ref.api_key_history", "ref.assignment", "core.spend_hourly", "core.spend_daily"),
    *("marts.key_spend_rolling", "marts.company_spend_rolling", "marts.company_spend_daily"),
    *("marts.company_spend_monthly", "marts.unattributed_spend", "marts.reconciliation_daily", "ops.restatement"),
)
HEADER = "company,match,pattern\n"
A_AND_B = HEADER + "A,key_name,Company A\nB,key_name,Company B\n"
PUBLISHED_MARTS = [
    dg.AssetKey(["marts", mart])
    for mart in (
        *("company_spend_daily", "company_spend_monthly", "company_spend_rolling", "key_spend_rolling"),
        *("unattributed_spend", "reconciliation_daily"),
    )
]


class Clock:
    """The time of the simulator and of the runs."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def later(self, **span: float) -> None:
        self.now += timedelta(**span)


@dataclass
class Deployment:
    """Production definitions, their warehouse, and the account or accounts at the other end."""

    engine: sa.Engine
    settings: Settings
    ledger: Ledger
    simulator: Simulator
    instance: dg.DagsterInstance
    clock: Clock

    def run(self, account: str | None = "acme", *, job: str = "hourly_sync", **arguments: Any) -> Any:
        """One run in this process; it ends well or badly, and raises nothing."""
        config = {**arguments.pop("run_config", {}), "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        return (
            build_defs(self.settings)
            .resolve_job_def(job)
            .execute_in_process(
                instance=self.instance, partition_key=account, raise_on_error=False, run_config=config, **arguments
            )
        )

    def load_mapping(self, text: str) -> Any:
        self.settings.mapping.write_text(text, encoding="utf-8")
        return self.run(None, job="load_company_mapping")

    def spend(self, credits_usd: str, *, key: int = 0, account: str = "acme") -> None:
        """Spend of the account's key number `key`, five minutes ago."""
        key_hash = list(self.ledger.accounts[account].keys)[key]
        self.ledger.spend(account, self.clock.now - timedelta(minutes=5), key_hash, GPT, usage(credits_usd))

    def with_account(self, **changed: Any) -> None:
        """The same deployment, its only account changed."""
        account = self.settings.accounts[0].model_copy(update=changed)
        self.settings = self.settings.model_copy(update={"accounts": (account,)})

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement), parameters)]

    def value(self, statement: str, **parameters: Any) -> Any:
        return self.rows(statement, **parameters)[0][0]

    def figures(self) -> dict[str, Any]:
        """All that readers see, instants included."""
        seen = {name: self.rows(f"select t::text from {name} t order by 1") for name in READERS}
        return {**seen, "as_of": self.rows("select account, as_of, credits_used_usd from ref.account order by 1")}

    def figures_without_age(self) -> dict[str, Any]:
        """All that readers see but for how old it is."""
        return {name: self.rows(f"select (to_jsonb(t) - 'as_of')::text from {name} t order by 1") for name in READERS}

    def last_run(self) -> Any:
        """The newest row of ops.sync_run."""
        with self.engine.connect() as connection:
            newest = sa.text(
                "select * from ops.sync_run order by started_at desc, finished_at desc nulls first limit 1"
            )
            return connection.execute(newest).one()

    def companies(self, period: str = "30d") -> dict[str, Decimal]:
        return dict(
            self.rows(
                "select company, sum(credits_usd) from marts.company_spend_rolling where period = :period group by 1",
                period=period,
            )
        )


Deploy = Callable[..., Deployment]


@pytest.fixture
def deploy(
    engine: sa.Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Deployment]]:
    """Makes a deployment of a ledger's accounts; without one, of the account `acme` of `small`."""
    # A server that stays down says as much within a second.
    monkeypatch.setattr("orcost_pipeline.openrouter.requests.PATIENCE", 1)
    # Nothing comes back by being waited for.
    monkeypatch.setattr("orcost_pipeline.defs.resources.RETRY_SECONDS", 0)
    monkeypatch.setattr("orcost_pipeline.defs.dead_runs.SECOND_LOOK_SECONDS", 0)
    stack: list[Any] = []

    def make(ledger: Ledger | None = None, options: Options | None = None, now: datetime = NOON) -> Deployment:
        clock = Clock(now)
        for module in ("resources", "companies", "automation", "publish"):
            monkeypatch.setattr(f"orcost_pipeline.defs.{module}.utc_now", clock)
        ledger = ledger or small(now)
        simulator = Simulator(ledger, clock, options or Options())
        stack.append(serve(simulator))
        base_url = stack[-1].__enter__()
        accounts = tuple(
            Account(name=name, api_key_env=f"KEY_{name}", api_key=SecretStr(owner.management_key), base_url=base_url)
            for name, owner in ledger.accounts.items()
        )
        settings = Settings(
            folder=tmp_path,
            home=tmp_path,
            mapping=tmp_path / "company_mapping.csv",
            config_file=tmp_path / "orcost.toml",
            database_url=SecretStr(database_url),
            accounts=accounts,
        )
        stack.append(dg.DagsterInstance.ephemeral())
        return Deployment(engine, settings, ledger, simulator, stack[-1].__enter__(), clock)

    yield make
    for manager in reversed(stack):
        manager.__exit__(None, None, None)


@pytest.fixture
def acme(deploy: Deploy) -> Deployment:
    return deploy()


def events(result: Any, kind: dg.DagsterEventType) -> list[Any]:
    return [event for event in result.all_events if event.event_type == kind]


def materialized(result: Any) -> dict[str, dict[str, Any]]:
    """Asset → metadata of what the run materialized."""
    found = (
        event.step_materialization_data.materialization
        for event in events(result, dg.DagsterEventType.ASSET_MATERIALIZATION)
    )
    return {
        one.asset_key.to_user_string(): {name: value.value for name, value in one.metadata.items()} for one in found
    }


def checks(result: Any) -> dict[str, bool]:
    evaluated = events(result, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    return {event.event_specific_data.check_name: event.event_specific_data.passed for event in evaluated}


def sentence(result: Any) -> str:
    """The description of the failure that ended the run, as Dagster's UI shows it."""
    failures = [event.step_failure_data for event in events(result, dg.DagsterEventType.STEP_FAILURE)]
    told = [failure.user_failure_data.description for failure in failures if failure.user_failure_data]
    assert told, f"no step failed with a sentence: {failures}"
    return str(told[0])


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within a minute."""
    patience = time.monotonic() + 60
    while not (is_true := condition()) and time.monotonic() < patience:
        time.sleep(0.02)
    return is_true


# ── a run that goes well ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_materializes_every_asset_and_says_as_of_when_and_how_much(acme: Deployment) -> None:
    acme.settings.mapping.write_text(A_AND_B, encoding="utf-8")
    result = acme.run()
    assert result.success
    told = materialized(result)
    expected = {spec.key.to_user_string() for spec in build_defs(acme.settings).resolve_all_asset_specs()}
    assert set(told) == expected
    for key, metadata in told.items():
        if key == "ref/company_mapping":
            assert (metadata["version"], metadata["rules"], metadata["companies"]) == (1, 2, 2)
            continue
        assert metadata["as_of"] == NOON.timestamp(), key
        assert metadata["dagster/row_count"] >= 0, key
    assert told["raw/api_key"]["dagster/row_count"] == 3
    assert told["marts/company_spend_daily"]["spend_of_30_days"] == "111.75 USD"
    assert told["ops/restatement"]["rows_written"] == 0


def test_published_assets_carry_the_columns_of_the_catalogue(acme: Deployment) -> None:
    for key, metadata in materialized(acme.run()).items():
        if not key.startswith("raw/") and key != "ref/company_mapping":
            columns = metadata["dagster/column_schema"].columns
            relation = key.replace("/", ".")
            catalogue = acme.rows(
                "select attname, format_type(atttypid, atttypmod) from pg_attribute "
                "where attrelid = to_regclass(:relation) and attnum > 0 order by attnum",
                relation=relation,
            )
            assert [(column.name, column.type) for column in columns] == catalogue, key
            assert all(column.description for column in columns), key


def test_raw_assets_carry_the_columns_of_the_catalogue(acme: Deployment) -> None:
    told = materialized(acme.run())
    assert not [key for key, metadata in told.items() if "dagster/column_schema" not in metadata]


def test_every_contract_check_is_reported_as_passed(acme: Deployment) -> None:
    acme.settings.mapping.write_text(HEADER + "A,key_name,*\n", encoding="utf-8")
    asked = checks(acme.run())
    keys = build_defs(acme.settings).get_repository_def().asset_graph.asset_check_keys
    assert set(asked) == {key.name for key in keys}
    assert all(asked.values()), asked


def test_a_business_check_warns_and_the_run_goes_well(acme: Deployment) -> None:
    result = acme.run()
    assert result.success
    assert checks(result)["unattributed_share_is_small"] is False
    evaluations = {
        event.event_specific_data.check_name: event.event_specific_data
        for event in events(result, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    }
    warning = evaluations["unattributed_share_is_small"]
    assert warning.severity == dg.AssetCheckSeverity.WARN
    assert warning.metadata["rows"].value


def evaluation(result: Any, check: str) -> Any:
    evaluated = events(result, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    (told,) = [event.event_specific_data for event in evaluated if event.event_specific_data.check_name == check]
    return told


def test_a_verdict_is_that_of_its_account_and_says_whose_how_much_and_which_share(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    both.settings.mapping.write_text("company,match,pattern,account\nGlobex,key_name,*,globex\n", encoding="utf-8")
    check = "unattributed_share_is_small"
    red, green = evaluation(both.run("acme"), check), evaluation(both.run("globex"), check)
    assert (red.partition, red.passed, green.partition, green.passed) == ("acme", False, "globex", True)
    spent = both.rows(
        "select sum(credits_usd) from marts.company_spend_rolling where account = 'acme' and period = '30d'"
    )
    assert red.description.startswith(f'Account "acme": {spent[0][0]:,.2f} USD (100.00 % of the credits)')
    key = dg.AssetCheckKey(dg.AssetKey(["marts", "company_spend_rolling"]), check)
    failed = both.instance.event_log_storage.get_asset_check_partition_info([key])
    assert {info.partition_key: info.latest_execution_status.value for info in failed} == {
        "acme": "FAILED",
        "globex": "SUCCEEDED",
    }


def test_one_accounts_freshness_does_not_hide_that_anothers_is_late(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    check = "every_account_is_fresh"
    assert evaluation(both.run("acme"), check).description == "Not synced for more than two hours: globex."
    told = evaluation(both.run("globex"), check)
    assert (told.passed, told.description) == (True, "Every account was synced within two hours.")
    both.clock.now += 3 * HOUR
    late = evaluation(both.run("globex"), check)
    assert (late.passed, late.description) == (False, "Not synced for more than two hours: acme.")


def test_how_much_unattributed_is_too_much_is_a_setting(acme: Deployment) -> None:
    acme.settings = acme.settings.model_copy(update={"unattributed_percent": Decimal(100)})
    assert checks(acme.run())["unattributed_share_is_small"] is True


def test_unattributed_byok_is_looked_at_by_itself(acme: Deployment) -> None:
    acme.settings.mapping.write_text(HEADER + "A,key_name,app\n", encoding="utf-8")
    other = list(acme.ledger.accounts["acme"].keys)[1]
    acme.ledger.spend("acme", NOON - timedelta(minutes=5), other, GPT, usage("0", "0.01"))
    acme.settings = acme.settings.model_copy(update={"unattributed_percent": Decimal(99)})
    result = acme.run()
    assert checks(result)["unattributed_share_is_small"] is False


def test_the_run_is_recorded_with_its_instant_requests_and_rows(acme: Deployment) -> None:
    result = acme.run()
    run = acme.last_run()
    assert (run.run_id, run.account, run.status, run.error) == (result.run_id, "acme", "succeeded", None)
    assert (run.as_of, run.started_at, run.finished_at) == (NOON, NOON, NOON)
    assert run.requests_made == acme.simulator.count
    assert run.rows_written == acme.value(
        "select (select count(*) from core.api_key) + (select count(*) from core.api_key_version) "
        "+ (select count(*) from core.usage_hourly) + (select count(*) from core.usage_daily) "
        "+ (select count(*) from core.account_day) + (select count(*) from core.unkeyed_hour) "
        "+ (select count(*) from core.assignment) "
        "+ (select count(*) from core.company_day) + (select count(*) from core.key_rolling) "
        "+ (select count(*) from core.key_previous) + (select count(*) from core.company_rolling)"
    )
    account = acme.rows("select kind, status, as_of, checked_at, error, credits_total_usd from ref.account")
    assert account == [("management", "ok", NOON, NOON, None, 500)]


def test_the_figures_are_those_of_the_account(acme: Deployment) -> None:
    acme.settings.mapping.write_text(A_AND_B, encoding="utf-8")
    assert acme.run().success
    assert acme.companies() == {"A": Decimal("10.85"), "B": Decimal("100.65"), "Unattributed": Decimal("0.25")}
    assert acme.companies("24h") == {"A": 1, "B": Decimal("0.5"), "Unattributed": Decimal("0.25")}
    told = acme.rows("select company, byok_usd from marts.company_spend_rolling where period = '7d' and byok_usd > 0")
    assert told == [("B", 3)]


def test_a_second_run_writes_no_row_of_usage_and_asks_little(acme: Deployment) -> None:
    assert acme.run().success
    asked = acme.simulator.count
    before, age = acme.figures_without_age(), acme.figures()["as_of"]
    acme.clock.later(minutes=1)
    result = acme.run()
    assert result.success
    written = {key: metadata.get("rows_written") for key, metadata in materialized(result).items()}
    assert {key for key, rows in written.items() if rows} == set()
    assert acme.last_run().rows_written == 0
    assert acme.simulator.count - asked <= 9
    assert acme.figures_without_age() == before
    assert acme.figures()["as_of"] != age


def test_since_reaches_the_sync(acme: Deployment) -> None:
    assert acme.run().success
    acme.clock.later(minutes=10)
    assert materialized(acme.run())["raw/usage_hourly"]["hours_asked"] == 0
    since = {"resources": {"orcost_window": {"config": {"since": "2026-11-22"}}}}
    result = acme.run(run_config=since)
    assert result.success
    hours = 24 + 13
    assert materialized(result)["raw/usage_hourly"]["hours_asked"] == hours
    assert acme.last_run().rows_written == 0


def test_a_since_that_is_no_date_fails_before_anything_is_asked(acme: Deployment) -> None:
    result = acme.run(run_config={"resources": {"orcost_window": {"config": {"since": "yesterday"}}}})
    assert not result.success
    assert acme.value("select count(*) from marts.company_spend_daily") == 0


# ── a key or a server that fails ─────────────────────────────────────────────────────────────────────────────────────


def test_a_revoked_key_fails_the_run_and_changes_no_figure(acme: Deployment) -> None:
    assert acme.run().success
    before = acme.figures()
    acme.clock.later(hours=1)
    acme.spend("5")
    acme.simulator.inject(Fault("401", times=None))
    result = acme.run()
    assert not result.success
    assert sentence(result).startswith("Invalid API key: ")
    assert sentence(result).endswith("\nCosts stay as of 2026-11-23 12:20 UTC; nothing was lost.")
    assert not events(result, dg.DagsterEventType.STEP_UP_FOR_RETRY)
    assert acme.figures() == before
    run = acme.last_run()
    assert (run.status, run.as_of, run.finished_at) == ("failed", None, acme.clock.now)
    assert run.error == sentence(result)
    account = acme.rows("select status, checked_at, error, as_of from ref.account")
    assert account == [("invalid_key", acme.clock.now, run.error, NOON)]


def test_no_event_and_no_table_ever_holds_a_key(acme: Deployment) -> None:
    wrong = "sk-or-v1-" + "0123456789abcdef" * 4
    acme.with_account(api_key=SecretStr(wrong))
    result = acme.run()
    assert "Invalid API key" in sentence(result)
    logged = acme.instance.all_logs(result.run_id)
    told = "\n".join(str(record) for record in logged) + str(acme.rows("select * from ops.sync_run"))
    assert wrong not in told
    assert wrong[-16:] not in told


def test_a_key_put_right_makes_the_account_whole_again(acme: Deployment) -> None:
    acme.simulator.inject(Fault("401", times=None))
    assert not acme.run().success
    acme.simulator.clear_faults()
    acme.clock.later(minutes=5)
    assert acme.run().success
    assert acme.rows("select status, error, as_of from ref.account") == [("ok", None, acme.clock.now)]
    assert sum(acme.companies().values()) == Decimal("111.75")


def test_a_server_that_is_down_is_unreachable_and_the_figures_stay(acme: Deployment) -> None:
    assert acme.run().success
    before = acme.figures()
    acme.clock.later(hours=1)
    acme.with_account(base_url="http://127.0.0.1:9/api/v1")
    result = acme.run()
    assert not result.success
    assert "OpenRouter or the network is down; the next sync catches up." in sentence(result)
    assert acme.value("select status from ref.account") == "unreachable"
    assert acme.last_run().status == "failed"
    assert acme.figures() == before


def test_analytics_that_fail_midway_publish_nothing(acme: Deployment) -> None:
    assert acme.run().success
    before = acme.figures()
    acme.clock.later(hours=1)
    acme.spend("5")
    acme.ledger.rename("acme", next(iter(acme.ledger.accounts["acme"].keys)), "Other", acme.clock.now)
    acme.simulator.inject(Fault("500", times=None, match="/analytics"))
    assert not acme.run().success
    assert acme.value("select status from ref.account") == "unreachable"
    assert acme.figures() == before
    acme.simulator.clear_faults()
    assert acme.run().success
    assert sum(acme.companies().values()) == Decimal("116.75")


def test_an_ordinary_key_syncs_itself(acme: Deployment) -> None:
    versions = next(iter(acme.ledger.accounts["acme"].keys.values()))
    acme.with_account(api_key=SecretStr(versions[0][1].secret))
    assert acme.run().success
    assert acme.rows("select kind, status from ref.account") == [("ordinary", "ok")]
    assert acme.rows("select name from ref.api_key") == [(versions[0][1].label,)]


def test_an_ordinary_key_in_a_managed_account_is_told_what_to_do(acme: Deployment) -> None:
    assert acme.run().success
    before = acme.figures()
    versions = next(iter(acme.ledger.accounts["acme"].keys.values()))
    acme.with_account(api_key=SecretStr(versions[0][1].secret))
    result = acme.run()
    assert not result.success
    assert "is an ordinary key; a management key has synced it so far." in sentence(result)
    assert "Put a management key into KEY_acme" in sentence(result)
    assert acme.rows("select status, error from ref.account") == [("failed", sentence(result))]
    assert acme.figures() == before


def test_an_account_without_a_key_is_told_which_variable_to_set(acme: Deployment) -> None:
    acme.with_account(api_key=None)
    result = acme.run()
    assert not result.success
    assert sentence(result).startswith('No key for account "acme": KEY_acme is not set.')
    assert acme.simulator.count == 0
    assert acme.rows("select * from ops.sync_run") == [], "a sync without a key stores nothing"


def test_a_launch_without_a_partition_fails_with_one_sentence(acme: Deployment) -> None:
    result = acme.run(None)
    assert not result.success
    assert sentence(result) == "Choose an account to sync: this launch has no partition."
    assert len(events(result, dg.DagsterEventType.STEP_FAILURE)) == 1
    assert acme.simulator.count == 0
    assert acme.rows("select * from ops.sync_run") == []


# ── the mapping ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_mapping_is_refused_whole_and_the_costs_still_load(acme: Deployment) -> None:
    acme.settings.mapping.write_text(A_AND_B, encoding="utf-8")
    assert acme.run().success
    acme.clock.later(hours=1)
    acme.spend("5")
    acme.settings.mapping.write_text(A_AND_B + "C,key_nmae,Company A\nD,key_hash,zz\n", encoding="utf-8")
    result = acme.run()
    assert result.success
    assert checks(result)["mapping_is_valid"] is False
    run = acme.last_run()
    assert run.status == "succeeded"
    assert "company_mapping.csv was refused; the mapping of 2026-11-23 stays active." in run.error
    assert "4" in run.error
    assert "5" in run.error
    assert "key_nmae" in run.error
    assert acme.companies()["A"] == Decimal("15.85")
    assert acme.value("select max(version) from ref.mapping_version") == 1
    assert set(acme.companies()) == {"A", "B", "Unattributed"}


def test_a_mapping_that_is_wrong_from_the_start_leaves_all_unattributed(acme: Deployment) -> None:
    acme.settings.mapping.write_text("company;pattern\nA;B\n", encoding="utf-8")
    assert acme.run().success
    assert "all spend is Unattributed" in acme.last_run().error
    assert acme.companies() == {"Unattributed": Decimal("111.75")}


def test_a_mapping_that_is_gone_stays_in_force_and_is_missed(acme: Deployment) -> None:
    acme.settings.mapping.write_text(A_AND_B, encoding="utf-8")
    assert acme.run().success
    before = acme.companies()
    acme.settings.mapping.unlink()
    acme.clock.later(minutes=5)
    result = acme.run()
    assert result.success
    assert checks(result)["mapping_is_valid"] is False
    assert "is gone; the mapping of 2026-11-23 stays active" in acme.last_run().error
    assert acme.companies() == before


def test_a_mapping_that_is_right_again_clears_the_error(acme: Deployment) -> None:
    acme.settings.mapping.write_text("nonsense", encoding="utf-8")
    assert acme.run().success
    acme.settings.mapping.write_text(A_AND_B, encoding="utf-8")
    acme.clock.later(minutes=5)
    result = acme.run()
    assert checks(result)["mapping_is_valid"] is True
    assert acme.last_run().error is None
    assert acme.companies()["A"] == Decimal("10.85")


def test_a_rule_for_an_account_nobody_configured_is_a_warning(acme: Deployment) -> None:
    result = acme.load_mapping("company,match,pattern,account\nA,key_name,*,acne\n")
    assert result.success
    assert checks(result) == {
        "mapping_is_valid": True,
        "every_rule_can_win": False,
        "every_rule_was_used": True,
        "company_list_is_valid": True,
        "every_company_is_listed": True,
    }


def test_a_rule_that_won_no_key_for_thirty_days_is_a_warning(acme: Deployment) -> None:
    assert acme.run().success
    mapping = A_AND_B + "C,key_name,nobody\n"
    assert checks(acme.load_mapping(mapping))["every_rule_was_used"] is True, "it is new"
    acme.clock.later(days=30)
    assert acme.run().success
    result = acme.load_mapping(mapping + "D,key_name,new\n")
    assert checks(result)["every_rule_was_used"] is False
    (told,) = (
        event.event_specific_data.metadata["lines"].value
        for event in events(result, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        if event.event_specific_data.check_name == "every_rule_was_used"
    )
    assert told == r"- line 4: key\_name:nobody matched no key in the last 30 days\."


def test_the_mapping_says_which_part_of_keys_and_money_it_covers(acme: Deployment) -> None:
    assert acme.run().success
    (metadata,) = materialized(acme.load_mapping(A_AND_B)).values()
    assert metadata["keys_with_a_company"] == "2 of 3"
    assert metadata["spend_with_a_company"] == "99.8 % of 111.75 USD in 30 days"
    assert metadata["byok_with_a_company"] == "100.0 % of 3.00 USD in 30 days"
    assert metadata["picture"].startswith("![](data:image/svg+xml,")
    assert len(metadata["picture"]) < 1000
    (metadata,) = materialized(acme.load_mapping(HEADER)).values()
    assert metadata["spend_with_a_company"] == "0.0 % of 111.75 USD in 30 days"


def test_loading_a_mapping_twice_makes_one_version_and_moves_no_figure(acme: Deployment) -> None:
    assert acme.run().success
    before = acme.figures()
    for _ in range(2):
        assert acme.load_mapping(A_AND_B).success
    assert acme.value("select count(*) from ref.mapping_version") == 1
    assert acme.figures() == before


def test_materializing_marts_alone_attributes_anew_without_a_question(acme: Deployment) -> None:
    assert acme.run().success
    asked = acme.simulator.count
    acme.clock.later(minutes=10)
    assert acme.load_mapping(A_AND_B).success
    result = acme.run(asset_selection=PUBLISHED_MARTS)
    assert result.success
    assert set(materialized(result)) == {key.to_user_string() for key in PUBLISHED_MARTS}
    assert acme.simulator.count == asked
    assert acme.companies() == {"A": Decimal("10.85"), "B": Decimal("100.65"), "Unattributed": Decimal("0.25")}
    days = acme.rows("select company, sum(credits_usd) from marts.company_spend_daily group by 1 order by 1")
    assert dict(days) == acme.companies()
    assert acme.value("select as_of from ref.account") == NOON


def test_a_check_of_answers_is_not_said_to_have_passed_where_there_are_none(acme: Deployment) -> None:
    assert acme.run().success
    acme.settings.mapping.write_text(A_AND_B, encoding="utf-8")
    result = acme.run(job="reattribute")
    assert result.success
    asked = checks(result)
    assert {"every_usage_has_one_owner", "companies_sum_to_usage"} <= set(asked)
    assert not {"account_sums_to_its_answer", "settled_days_sum_to_activity"} & set(asked)


def test_materializing_marts_of_an_account_never_synced_says_so(acme: Deployment) -> None:
    result = acme.run(asset_selection=PUBLISHED_MARTS)
    assert not result.success
    assert sentence(result) == (
        'Nothing to publish for account "acme": it was never synced. Launch hourly_sync for it.'
    )


def test_materializing_a_raw_asset_by_hand_is_no_sync_and_changes_no_figure(acme: Deployment) -> None:
    assert acme.run().success
    before, syncs = acme.figures(), acme.value("select count(*) from ops.sync_run")
    acme.clock.later(hours=1)
    acme.spend("5")
    result = acme.run(asset_selection=[dg.AssetKey(["raw", "api_key"])])
    assert result.success
    assert acme.value("select count(*) from raw.api_key where run_id = :id", id=result.run_id) == 3
    assert acme.value("select count(*) from ops.sync_run") == syncs
    assert acme.figures() == before
    assert acme.run().success
    assert sum(acme.companies().values()) == Decimal("116.75")


def test_a_raw_asset_that_fails_by_hand_leaves_no_sync_but_says_what_is_wrong(acme: Deployment) -> None:
    assert acme.run().success
    acme.simulator.inject(Fault("401", times=None))
    assert not acme.run(asset_selection=[dg.AssetKey(["raw", "account"])]).success
    assert acme.value("select count(*) from ops.sync_run") == 1
    assert acme.value("select status from ref.account") == "invalid_key"


# ── nothing is published that is wrong ───────────────────────────────────────────────────────────────────────────────


def test_a_contract_check_that_fails_publishes_nothing(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    assert acme.run().success
    before = acme.figures()
    acme.clock.later(hours=1)
    acme.spend("5")
    with monkeypatch.context() as patch:
        one_more = sa.text("update core.company_day set credits_usd = credits_usd + 0.0000000001")
        after_step("company_rolling", patch, lambda publishing: publishing.connection.execute(one_more) and None)
        result = acme.run()
    assert not result.success
    assert "Contract check companies_sum_to_usage failed" in sentence(result)
    assert "nothing was published" in sentence(result)
    assert not {key for key in materialized(result) if key.startswith(("core/", "marts/"))}
    assert acme.figures() == before
    assert acme.rows("select status, as_of from ref.account") == [("failed", NOON)]
    assert acme.run().success
    assert sum(acme.companies().values()) == Decimal("116.75")


def test_a_connection_lost_in_the_middle_publishes_nothing(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    assert acme.run().success
    before = acme.figures()
    acme.clock.later(hours=1)
    acme.spend("5")
    with monkeypatch.context() as patch:
        after_step("account_day", patch, cut_connection)
        assert not acme.run().success
    assert acme.figures() == before
    assert acme.last_run().status == "failed"
    acme.clock.later(minutes=1)
    assert acme.run().success
    assert sum(acme.companies().values()) == Decimal("116.75")


def test_a_connection_lost_in_the_middle_is_told_in_a_sentence(
    acme: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step("account_day", monkeypatch, cut_connection)
    assert not acme.run().success
    error = acme.last_run().error
    assert "[SQL" not in error
    assert "\n" not in error
    assert "sqlalche.me" not in error


def test_what_was_never_published_is_not_said_to_stay(acme: Deployment) -> None:
    acme.simulator.inject(Fault("401", times=None))
    assert "Costs stay" not in sentence(acme.run())


def test_a_connection_lost_once_is_survived_and_leaves_no_trace(
    acme: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_cut: list[bool] = []

    def cut_once(publishing: Publication) -> None:
        if not is_cut:
            is_cut.append(True)
            cut_connection(publishing)

    after_step("account_day", monkeypatch, cut_once)
    result = acme.run()
    assert result.success
    assert [event.step_key for event in events(result, dg.DagsterEventType.STEP_UP_FOR_RETRY)] == ["publish"]
    run = acme.last_run()
    assert (run.status, run.error, run.requests_made) == ("succeeded", None, acme.simulator.count)
    assert acme.rows("select status, error from ref.account") == [("ok", None)]
    assert acme.value("select count(*) from raw.extraction") == 1
    assert sum(acme.companies().values()) == Decimal("111.75")


def test_a_connection_lost_once_by_the_mapping_is_survived(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    is_cut: list[bool] = []

    def cut_once(connection: sa.Connection) -> Sequence[RuleRow]:
        if not is_cut:
            is_cut.append(True)
            connection.execute(sa.text("select pg_terminate_backend(pg_backend_pid())"))
        return rules_in_force(connection)

    monkeypatch.setattr("orcost_pipeline.defs.companies.rules_in_force", cut_once)
    assert acme.run().success


def test_a_connection_that_is_always_lost_is_tried_three_times_and_told_once(
    acme: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step("account_day", monkeypatch, cut_connection)
    result = acme.run()
    assert not result.success
    assert len(events(result, dg.DagsterEventType.STEP_UP_FOR_RETRY)) == RETRIES
    assert sentence(result).startswith("The connection to the database was lost: terminating connection due to")
    assert acme.rows("select status, error from ref.account") == [("unreachable", sentence(result))]


def test_a_commit_whose_answer_is_lost_is_a_publication(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    def committed(step: SyncStep, *arguments: Any) -> None:
        publish_account(step)
        raise OperationalError("commit", {}, psycopg.OperationalError("server closed the connection"))

    monkeypatch.setattr("orcost_pipeline.defs.publish.publish_account", committed)
    result = acme.run()
    assert not result.success
    assert sentence(result).endswith("\nCosts stay as of 2026-11-23 12:20 UTC; nothing was lost.")
    assert (acme.last_run().status, acme.last_run().error) == ("succeeded", None)
    assert acme.rows("select status, error, as_of from ref.account") == [("ok", None, NOON)]
    assert sum(acme.companies().values()) == Decimal("111.75")


def test_what_nobody_foresaw_is_told_in_a_sentence_and_not_retried(
    acme: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once("account_day", monkeypatch)
    result = acme.run()
    assert not events(result, dg.DagsterEventType.STEP_UP_FOR_RETRY)
    assert sentence(result) == (
        "Something went wrong that should not have: RuntimeError: the worker died\n"
        "Sync again; if it stays, report it with the traceback in Dagster's log."
    )
    assert acme.last_run().error == sentence(result)
    cause = events(result, dg.DagsterEventType.STEP_FAILURE)[0].step_failure_data.error.cause
    assert "in died" in "".join(cause.stack)


def cut_connection(publishing: Publication) -> None:
    """What a restart of Postgres, or a firewall, does to a transaction."""
    publishing.connection.execute(sa.text("select pg_terminate_backend(pg_backend_pid())"))


def test_a_lost_lock_does_not_stop_the_sync(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of a run is a courtesy; that of its publication, which lasts as long as its transaction, is the law."""
    cut = sa.text("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = :kind")
    is_cut: list[bool] = []

    def lose(publishing: Publication) -> None:
        is_cut.extend(publishing.connection.execute(cut, {"kind": SYNC_LOCK}).scalars())

    after_step("account_day", monkeypatch, lose)
    assert acme.run().success
    assert is_cut == [True]
    assert acme.last_run().status == "succeeded"
    assert sum(acme.companies().values()) == Decimal("111.75")


# ── several accounts, several processes ──────────────────────────────────────────────────────────────────────────────


def two_accounts() -> Ledger:
    ledger = small(NOON)
    ledger.add_account("globex", credits_bought=Decimal(50))
    key = ledger.add_key("globex", "Company A", NOON - 20 * DAY)
    ledger.spend("globex", NOON - HOUR, key, MISTRAL, usage("7"))
    return ledger


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


def test_two_accounts_share_companies_and_nothing_else(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    both.settings.mapping.write_text(A_AND_B, encoding="utf-8")
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


def test_a_run_left_running_is_closed_as_abandoned_by_the_next_of_its_account(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    for account in ("acme", "globex"):
        runs.start_run(both.engine, f"died-{account}", account, None, NOON - HOUR)
    assert both.run("acme").success
    left = both.rows("select run_id, status, finished_at from ops.sync_run where run_id like 'died-%' order by 1")
    assert left == [("died-acme", "abandoned", NOON), ("died-globex", "running", None)]


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


# ── retries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def dagster_run(**fields: Any) -> dg.DagsterRun:
    return dg.DagsterRun(job_name="hourly_sync", run_id=str(uuid.uuid4()), **fields)


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


def environments_job() -> dg.JobDefinition:
    """hourly_sync of what the environment tells, for Dagster to find again in a retry."""
    return build_defs(load_settings()).resolve_job_def("hourly_sync")


@pytest.fixture
def by_environment(acme: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Deployment:
    """The deployment of `acme`, told by the environment under the name `default`."""
    account = acme.settings.accounts[0]
    assert account.api_key is not None
    assert acme.settings.database_url is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCOST_CONFIG", raising=False)
    monkeypatch.setenv("OPENROUTER_API_KEY", account.api_key.get_secret_value())
    monkeypatch.setenv("OPENROUTER_BASE_URL", account.base_url)
    monkeypatch.setenv("ORCOST_DATABASE_URL", acme.settings.database_url.get_secret_value())
    monkeypatch.setenv("ORCOST_HOME", str(tmp_path))
    monkeypatch.setenv("ORCOST_MAPPING", str(acme.settings.mapping))
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


def fail_once(step: str, patch: pytest.MonkeyPatch) -> None:
    def died(publishing: Publication) -> None:
        raise RuntimeError("the worker died")

    after_step(step, patch, died)


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


# ── Sync Now ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(deployment: Deployment, account: str | None = None, since: str | None = None) -> int:
    with deployment.engine.begin() as connection:
        statement = sa.text("select ops.request_sync(:account, cast(:since as date))")
        return int(connection.execute(statement, {"account": account, "since": since}).scalar_one())


def sense(deployment: Deployment) -> list[dg.RunRequest]:
    """One tick of the sensor; the runs it asks for."""
    repository = build_defs(deployment.settings).get_repository_def()
    with dg.build_sensor_context(
        instance=deployment.instance, repository_def=repository, resources={"orcost": deployment.settings}
    ) as context:
        return list(sync_request_sensor.evaluate_tick(context).run_requests or ())


def answer(deployment: Deployment, request: dg.RunRequest) -> Any:
    return deployment.run(
        request.partition_key,
        tags={name: tag for name, tag in request.tags.items() if name != "dagster/partition"},
        run_config=dict(request.run_config),
    )


def request_row(deployment: Deployment, request_id: int) -> Any:
    statement = "select status, finished_at, error from ops.sync_request where id = :id"
    return deployment.rows(statement, id=request_id)[0]


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


def test_since_of_a_request_reaches_the_run(acme: Deployment) -> None:
    assert acme.run().success
    acme.clock.later(minutes=3)
    ask(acme, "acme", "2026-11-21")
    (request,) = sense(acme)
    assert request.run_config["resources"]["orcost_window"]["config"]["since"] == "2026-11-21"
    result = answer(acme, request)
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


def test_what_ran_before_the_request_does_not_answer_it(acme: Deployment) -> None:
    assert acme.run().success
    request_id = ask(acme)
    assert len(sense(acme)) == 1
    assert request_row(acme, request_id)[0] == "queued"


# ── runs that nobody runs any more ───────────────────────────────────────────────────────────────────────────────────


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


def test_a_lock_that_is_back_at_the_second_look_saves_the_run(
    acme: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart of the database: the run's process takes its lock again."""
    run, stack = started_run(acme), ExitStack()
    locked = lambda _: stack.enter_context(runs.sync_lock(acme.engine, "acme"))  # noqa: E731
    monkeypatch.setattr("orcost_pipeline.defs.dead_runs.time.sleep", locked)
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


def test_a_picture_of_a_month_is_short_enough_to_be_shown_at_once() -> None:
    """Dagster's UI shows Markdown below 1,000 characters; more than that hides behind a link."""
    days = [(Decimal(100 + day), Decimal(50 + day)) for day in range(31)]
    title = "USD, 2026-10-24 – 2026-11-23; orange: no company"
    assert len(bars(days, title)) < 1000
    assert "NaN" not in bars([(Decimal(0), Decimal(0))], title) + bars([], title)


# ── the mapping changes ──────────────────────────────────────────────────────────────────────────────────────────────


def look(deployment: Deployment, cursor: str | None) -> tuple[list[dg.RunRequest], str | None]:
    """One tick of the mapping's sensor: the runs it asks for, and what it remembers."""
    repository = build_defs(deployment.settings).get_repository_def()
    with dg.build_sensor_context(
        instance=deployment.instance,
        repository_def=repository,
        resources={"orcost": deployment.settings},
        cursor=cursor,
    ) as context:
        told = mapping_change_sensor.evaluate_tick(context)
        return list(told.run_requests or ()), told.cursor


def test_a_changed_mapping_is_followed_at_once_and_openrouter_is_asked_nothing(acme: Deployment) -> None:
    acme.load_mapping("company,match,pattern\nA,key_name,*\n")
    assert acme.run().success
    requests, seen = look(acme, None)
    assert requests == [], "it is in force"
    acme.settings.mapping.write_text("company,match,pattern\nB,key_name,*\n", encoding="utf-8")
    (request,), seen = look(acme, seen)
    assert request.partition_key == "acme"
    assert look(acme, seen)[0] == [], "once"
    asked, runs_before = acme.simulator.count, acme.value("select count(*) from ops.sync_run")
    checked_at = acme.value("select checked_at from ref.account")
    acme.clock.later(minutes=1)
    assert acme.run(job="reattribute").success
    assert set(acme.companies()) - {"Unattributed"} == {"B"}
    assert acme.simulator.count == asked
    assert acme.value("select count(*) from ops.sync_run") == runs_before, "it is no sync"
    assert acme.value("select checked_at from ref.account") == checked_at
    assert look(acme, None)[0] == []


def test_a_changed_table_is_followed_too(acme: Deployment) -> None:
    with acme.engine.begin() as connection:
        connection.exec_driver_sql(
            "create table public.owners as select 1 as line, 'A' company, 'key_name' match, '*' pattern"
        )
    acme.settings = acme.settings.model_copy(update={"mapping_table": "owners"})
    assert acme.run().success
    assert set(acme.companies()) - {"Unattributed"} == {"A"}
    requests, seen = look(acme, None)
    assert requests == [], "it is in force"
    with acme.engine.begin() as connection:
        connection.exec_driver_sql("update public.owners set company = 'B'")
    (request,), seen = look(acme, seen)
    assert request.partition_key == "acme"
    assert acme.run(job="reattribute").success
    assert set(acme.companies()) - {"Unattributed"} == {"B"}
    assert look(acme, seen)[0] == []


def test_a_list_of_companies_is_followed_and_a_wrong_one_is_told(acme: Deployment) -> None:
    acme.settings = acme.settings.model_copy(update={"companies": acme.settings.folder / "companies.csv"})
    acme.load_mapping("company,match,pattern\nA,key_name,*\n")
    assert acme.run().success
    _, seen = look(acme, None)
    acme.settings.companies.write_text("company,display_name\nA,Aurora\nZ,Zenith\n", encoding="utf-8")
    requests, seen = look(acme, seen)
    assert len(requests) == 1
    assert acme.run(job="reattribute").success
    for mart in ("company_spend_daily", "company_spend_monthly"):
        told = acme.rows(f"select distinct company, display_name from marts.{mart}")
        assert {("A", "Aurora"), ("Unattributed", None)} == set(told)
    assert look(acme, seen)[0] == []
    acme.settings.companies.write_text("company,display_nam\nA,Aurora\n", encoding="utf-8")
    acme.clock.later(minutes=5)
    result = acme.run()
    assert result.success
    passed = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert (passed["mapping_is_valid"], passed["company_list_is_valid"]) == (True, False)
    assert acme.last_run().error.startswith("companies.csv was refused; the companies stay as last read.")
    assert acme.value("select display_name from ref.company where company = 'A'") == "Aurora"


def rows_of_core(deployment: Deployment) -> dict[str, set[tuple[Any, ...]]]:
    """Every row of `core`, and which transaction wrote it: a row that is written anew, even as it was, is another."""
    tables = (
        "assignment",
        "usage_hourly",
        "usage_daily",
        "account_day",
        "company_day",
        "key_rolling",
        "company_rolling",
    )
    return {name: set(deployment.rows(f"select t.xmin::text, to_jsonb(t)::text from core.{name} t")) for name in tables}


def test_only_what_moved_is_written_when_a_key_moves(acme: Deployment) -> None:
    """One key of several: its assignment, the days it was used on, its rolling windows and its companies'."""
    acme.load_mapping("company,match,pattern\nA,key_name,*\n")
    assert acme.run().success
    ((name, key_id),) = acme.rows(
        "select key_name, k.key_id from marts.key_spend_rolling r join core.api_key k using (key_hash) "
        "where period = '30d' order by r.credits_usd desc limit 1"
    )
    days = {str(day) for (day,) in acme.rows("select day from core.spend_daily where key_name = :name", name=name)}
    before = rows_of_core(acme)
    acme.settings.mapping.write_text(f"company,match,pattern\nB,key_name,{name}\nA,key_name,*\n", encoding="utf-8")
    assert acme.run(job="reattribute").success
    after = rows_of_core(acme)
    written = {table: [json.loads(row) for _, row in before[table] ^ after[table]] for table in before}
    assert {table for table, rows in written.items() if not rows} == {"usage_hourly", "usage_daily", "account_day"}
    assert {row["key_id"] for table in ("assignment", "key_rolling") for row in written[table]} == {key_id}
    assert {row["day"] for row in written["company_day"]} == days
    assert len(written["assignment"]) == 2


def test_a_wrong_mapping_is_told_once_and_changes_nothing(acme: Deployment) -> None:
    acme.load_mapping("company,match,pattern\nA,key_name,*\n")
    assert acme.run().success
    _, seen = look(acme, None)
    before = acme.figures()
    acme.settings.mapping.write_text("company,match\nA,key_name\n", encoding="utf-8")
    requests, seen = look(acme, seen)
    assert len(requests) == 1
    result = acme.run(job="reattribute")
    assert result.success
    (check,) = [it for it in result.get_asset_check_evaluations() if it.check_name == "mapping_is_valid"]
    assert not check.passed
    assert acme.figures() == before
    assert look(acme, seen)[0] == [], "told once"


def test_no_account_that_was_never_synced_is_attributed(acme: Deployment) -> None:
    acme.settings.mapping.write_text("company,match,pattern\nA,key_name,*\n", encoding="utf-8")
    assert look(acme, None)[0] == []
