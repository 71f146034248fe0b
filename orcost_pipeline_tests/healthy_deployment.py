"""A deployment with nothing to complain of, for each test to break one thing of."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from orcost_pipeline.companies.mapping import read_mapping
from orcost_pipeline.health.examination import LIMITS, Limits, examine
from orcost_pipeline.health.finding import Code, Finding, worst_first
from orcost_pipeline.health.standing import read
from orcost_pipeline.health.stored import stored_findings
from orcost_pipeline.settings import load_settings
from orcost_pipeline.simulator import Ledger, Simulator, serve, small
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.sync.attribution import load_mapping
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline_tests.conftest import fresh_database
from orcost_pipeline_tests.processes import Outcome, clean_environment, free_port, orcost
from orcost_pipeline_tests.world import World

MAPPING = "company,match,pattern\nCompany A,key_name,Company A\nCompany B,key_name,Company B\nCompany C,key_name,*\n"


VARIABLES = ("OPENROUTER_API_KEY", "OPENROUTER_BASE_URL", "ORCOST_HOME", "ORCOST_CONFIG", "ORCOST_MAPPING")


@dataclass(frozen=True)
class Template:
    """A database in which the account `acme` was just synced, to be copied for each test."""

    name: str
    synced_at: datetime


@pytest.fixture(scope="module")
def template(postgres_url: str) -> Iterator[Template]:
    now = datetime.now(UTC)
    with fresh_database(postgres_url) as url:
        engine = connect(url)
        load_mapping(engine, read_mapping(MAPPING.encode(), "company_mapping.csv"), now)
        World(engine, small(now), now).sync()
        engine.dispose()
        yield Template(sa.make_url(url).database or "", now)


@dataclass
class Deployment:
    """A project folder, its warehouse, and its account at OpenRouter."""

    folder: Path
    url: str
    engine: sa.Engine
    ledger: Ledger
    simulator: Simulator
    synced_at: datetime
    port: int
    ahead: timedelta = timedelta(0)
    limits: Limits = LIMITS

    @property
    def key(self) -> str:
        return self.ledger.accounts["acme"].management_key

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def configure(self, base_url: str, **variables: str) -> None:
        """Writes `.env` as `orcost init` does."""
        told = {"OPENROUTER_API_KEY_ACME": self.key, "OPENROUTER_BASE_URL": base_url, "ORCOST_DATABASE_URL": self.url}
        env = self.folder / ".env"
        env.write_text("".join(f"{name}='{value}'\n" for name, value in (told | variables).items() if value))
        env.chmod(0o600)

    def examine(self) -> list[Finding]:
        return worst_first(examine(load_settings(self.folder), self.port, self.clock, self.limits))

    def stored_findings(self) -> list[Finding]:
        """What `orcost status` tells."""
        settings, now = load_settings(self.folder), self.clock()
        with self.engine.connect() as connection:
            stored = read(connection, settings, now)
        return worst_first(stored_findings(stored, settings, now))

    def said(self) -> list[tuple[str, str, str | None]]:
        """Severity, code and account of everything that is found."""
        return [(finding.severity, finding.code, finding.account) for finding in self.examine()]

    def only(self, severity: str, code: Code, account: str | None) -> Finding:
        """The one finding there is, which must be this one."""
        found = self.examine()
        assert [(it.severity, it.code, it.account) for it in found] == [(severity, code, account)]
        return found[0]

    def do(self, statement: str, **parameters: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), parameters)

    def run(self, *arguments: str) -> Outcome:
        """A command that asks the port, as a process."""
        return self.run_in_folder(*arguments, "--port", str(self.port))

    def run_in_folder(self, *arguments: str) -> Outcome:
        """The command line, as a process."""
        return orcost(self.folder, clean_environment(), *arguments, seconds=60)


@pytest.fixture
def healthy(
    postgres_url: str, template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployment]:
    """A deployment with nothing to complain of; its base URL is that of a simulator on a real port."""
    for name in (*VARIABLES, "ORCOST_DATABASE_URL", "OPENROUTER_API_KEY_ACME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "orcost.toml").write_text('[[accounts]]\nname = "acme"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n')
    (tmp_path / "company_mapping.csv").write_text(MAPPING)
    ledger = small(template.synced_at)
    simulator = Simulator(ledger)
    with fresh_database(postgres_url, template.name) as url, serve(simulator) as base_url:
        engine = connect(url)
        made = Deployment(tmp_path, url, engine, ledger, simulator, template.synced_at, free_port())
        made.configure(base_url)
        yield made
        engine.dispose()


def base_url_of(deployment: Deployment) -> str:
    return load_settings(deployment.folder).accounts[0].base_url


def spend_nothing(healthy: Deployment) -> None:
    """Takes the last two hours' usage back, here and at OpenRouter."""
    first, second, _ = healthy.ledger.accounts["acme"].keys
    for key, model in ((first, GPT), (second, CLAUDE), (None, CLAUDE)):
        for hours in range(4):
            healthy.ledger.restate("acme", healthy.synced_at - timedelta(hours=hours), key, model, factor=Decimal(0))
    healthy.do("update core.key_rolling set credits_usd = 0 where period = '24h'")


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    """A program on a port of this machine that answers everything with this."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


DAGSTER = (
    b'{"dagster_webserver_version": "1.13.27", "dagster_version": "1.13.27", "dagster_graphql_version": "1.13.27"}'
)


def minutes_ago(deployment: Deployment, minutes: int) -> datetime:
    """That long before the sync of the template, whole microseconds as Postgres keeps them."""
    return deployment.synced_at + timedelta(minutes=60 - minutes)


def fail(deployment: Deployment, minutes: int, status: str, error: str) -> None:
    """A failed run, after the one that succeeded."""
    at = minutes_ago(deployment, minutes)
    deployment.do(
        "insert into ops.sync_run (run_id, account, started_at, finished_at, status, error) "
        "values (:id, 'acme', :at, :at, 'failed', :error)",
        id=f"failed-{minutes}",
        at=at,
        error=error,
    )
    deployment.do("update ref.account set status = :status, error = :error", status=status, error=error)
