"""The production definitions, run by a real Dagster instance against a simulated OpenRouter on a real port."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from pydantic import SecretStr

from orcost_pipeline.definitions import build_defs
from orcost_pipeline.defs.resources import Surroundings
from orcost_pipeline.defs.sync_requests import sync_request_sensor
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.project_file import Source
from orcost_pipeline.settings import Account, Settings
from orcost_pipeline.simulator import Ledger, Options, Simulator, serve, small
from orcost_pipeline.simulator.catalogue import GPT, MISTRAL
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.publication import Publication
from orcost_pipeline_tests.conftest import fresh_database
from orcost_pipeline_tests.world import DAY, HOUR, NOON, after_step, usage

READERS = (
    *("ref.api_key", "ref.api_key_history", "ref.assignment", "core.spend_hourly", "core.spend_daily"),
    *("marts.key_spend_rolling", "marts.company_spend_rolling", "marts.company_spend_daily"),
    *("marts.company_spend_monthly", "marts.unattributed_spend", "marts.reconciliation_daily", "ops.restatement"),
)


HEADER = "company,match,pattern\n"


A_AND_B = HEADER + "A,key_name,Company A\nB,key_name,Company B\n"


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
    surroundings: Surroundings

    def definitions(self) -> dg.Definitions:
        return build_defs(self.settings, surroundings=self.surroundings)

    @property
    def resources(self) -> dict[str, Any]:
        """What a sensor needs."""
        return {"orcost": self.settings, "orcost_surroundings": self.surroundings}

    def run(self, account: str | None = "acme", *, job: str = "hourly_sync", **arguments: Any) -> Any:
        """One run in this process; it ends well or badly, and raises nothing."""
        config = {**arguments.pop("run_config", {}), "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        return (
            self.definitions()
            .resolve_job_def(job)
            .execute_in_process(
                instance=self.instance, partition_key=account, raise_on_error=False, run_config=config, **arguments
            )
        )

    def load_mapping(self, text: str) -> Any:
        self.settings.mapping.path.write_text(text, encoding="utf-8")
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


def impatient(clock: Clock) -> Surroundings:
    """A server that stays down says as much within a second, and nothing comes back by being waited for."""

    def connect(account: Account, key: SecretStr, clock: Callable[[], datetime]) -> OpenRouter:
        return OpenRouter(account.name, key, account.base_url, key_env=account.api_key_env, clock=clock, patience=1)

    return Surroundings(clock, connect, sleep=lambda seconds: None)


@contextmanager
def deployed(
    database_url: str, folder: Path, ledger: Ledger | None = None, options: Options | None = None, now: datetime = NOON
) -> Iterator[Deployment]:
    """A deployment of a ledger's accounts; without one, of the account `acme` of `small`."""
    clock = Clock(now)
    ledger = ledger or small(now)
    simulator = Simulator(ledger, clock, options or Options())
    engine = connect(database_url)
    with serve(simulator) as base_url, dg.DagsterInstance.ephemeral() as instance:
        accounts = tuple(
            Account(name=name, api_key_env=f"KEY_{name}", api_key=SecretStr(owner.management_key), base_url=base_url)
            for name, owner in ledger.accounts.items()
        )
        settings = Settings(
            folder=folder,
            home=folder,
            mapping=Source("mapping", folder / "company_mapping.csv"),
            price_plans=Source("price_plans", folder / "price_plans.csv"),
            exchange_rates=Source("exchange_rates", folder / "exchange_rates.csv"),
            config_file=folder / "orcost.toml",
            database_url=SecretStr(database_url),
            accounts=accounts,
        )
        yield Deployment(engine, settings, ledger, simulator, instance, clock, impatient(clock))
    engine.dispose()


@pytest.fixture
def deploy(database_url: str, tmp_path: Path) -> Iterator[Deploy]:
    """Makes a deployment of any ledger's accounts."""
    with ExitStack() as stack:
        yield lambda *arguments, **more: stack.enter_context(deployed(database_url, tmp_path, *arguments, **more))


@pytest.fixture
def acme(deploy: Deploy) -> Deployment:
    return deploy()


@pytest.fixture(scope="session")
def synced_template(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a database in which a run has just synced `acme`, without a mapping."""
    with fresh_database(postgres_url) as url:
        with deployed(url, tmp_path_factory.mktemp("template")) as deployment:
            assert deployment.run().success
        yield sa.make_url(url).database or ""


@pytest.fixture
def synced(postgres_url: str, synced_template: str, tmp_path: Path) -> Iterator[Deployment]:
    """The deployment of `acme` after its first run, which succeeded."""
    with fresh_database(postgres_url, synced_template) as url, deployed(url, tmp_path) as deployment:
        yield deployment


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


def two_accounts() -> Ledger:
    ledger = small(NOON)
    ledger.add_account("globex", credits_bought=Decimal(50))
    key = ledger.add_key("globex", "Company A", NOON - 20 * DAY)
    ledger.spend("globex", NOON - HOUR, key, MISTRAL, usage("7"))
    return ledger


def dagster_run(**fields: Any) -> dg.DagsterRun:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("orcost_pipeline"), "__repository__")
    origin = RemoteJobOrigin(repository, "hourly_sync")
    run_id = fields.pop("run_id", None) or str(uuid.uuid4())
    return dg.DagsterRun(job_name="hourly_sync", run_id=run_id, remote_job_origin=origin, **fields)


def fail_once(step: str, patch: pytest.MonkeyPatch) -> None:
    def died(publishing: Publication) -> None:
        raise RuntimeError("the worker died")

    after_step(step, patch, died)


def ask(deployment: Deployment, account: str | None = None, since: str | None = None) -> int:
    with deployment.engine.begin() as connection:
        statement = sa.text("select ops.request_sync(:account, cast(:since as date))")
        return int(connection.execute(statement, {"account": account, "since": since}).scalar_one())


def sense(deployment: Deployment) -> list[dg.RunRequest]:
    """One tick of the sensor; the runs it asks for."""
    repository = deployment.definitions().get_repository_def()
    with dg.build_sensor_context(
        instance=deployment.instance, repository_def=repository, resources=deployment.resources
    ) as context:
        return list(sync_request_sensor.evaluate_tick(context).run_requests or ())


def request_row(deployment: Deployment, request_id: int) -> Any:
    statement = "select status, finished_at, error from ops.sync_request where id = :id"
    return deployment.rows(statement, id=request_id)[0]
