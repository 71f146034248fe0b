"""Services of deploy/celery on this machine: code server, daemon, workers; accounts on a simulated OpenRouter."""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.celery_workers.broker import broker
from orcost_pipeline.deployment.dagster_home import STORAGE_URL, storage_url
from orcost_pipeline.simulator import Ledger, Options, Simulator, Usage, serve
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, MISTRAL
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline_tests.processes import CHECKOUT, clean_environment, free_port

DEPLOY = CHECKOUT / "deploy"
FILES = DEPLOY / "celery"
KEYS, DAYS, EVENTS_A_DAY = 10, 31, 60
# Seconds: 40 accounts by one worker take a quarter of an hour on a busy machine.
PATIENCE_SECONDS = 3600.0

_UNFINISHED = "select count(*) from ops.sync_request where status in ('queued', 'running')"
_ALIVE = "select count(*) from dagster.job_ticks where type = 'SENSOR'"


@dataclass
class Workers:
    """A running deployment. `celery` are its workers, each the leader of a process group."""

    folder: Path
    programs: Path
    environment: dict[str, str]
    engine: sa.Engine
    simulator: Simulator
    broker_pid: int
    services: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    celery: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return self.simulator.ledger

    @property
    def accounts(self) -> list[str]:
        return list(self.ledger.accounts)

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(statement), parameters).all())

    def value(self, statement: str, **parameters: Any) -> Any:
        return self.rows(statement, **parameters)[0][0]

    def command(self, *words: str, name: str) -> subprocess.Popen[bytes]:
        """A program of the environment, in a process group of its own."""
        with (self.folder / f"{name}.log").open("a") as log:
            return subprocess.Popen(
                [self.programs / words[0], *words[1:]],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, *words: str) -> None:
        """A program that ends; raises CalledProcessError."""
        subprocess.run(
            [self.programs / words[0], *words[1:]],
            cwd=self.folder,
            env=self.environment,
            check=True,
            capture_output=True,
            timeout=180,
        )

    def start(self, port: int) -> None:
        """Code server and daemon, without the schedule: an hour that begins meanwhile is nothing to measure."""
        self.run("orcost", "db", "migrate")
        module = ("-m", "orcost_pipeline.definitions", "--location-name", "orcost_pipeline")
        serving = ("api", "grpc", "-h", "127.0.0.1", "-p", str(port), *module)
        self.services["code server"] = self.command("dagster", *serving, name="code")
        health = [self.programs / "dagster", "api", "grpc-health-check", "-p", str(port)]
        healthy = lambda: subprocess.run(health, env=self.environment, capture_output=True, check=False).returncode == 0  # noqa: E731
        self.wait(healthy, "the code server does not answer")
        self.run("dagster", "schedule", "stop", "hourly_schedule", "-w", "workspace.yaml")
        self.services["daemon"] = self.command("dagster-daemon", "run", "-w", "workspace.yaml", name="daemon")
        self.wait(lambda: self.value(_ALIVE) > 0, "the daemon looks at no sensor")

    def start_workers(self, count: int) -> None:
        """So many workers more, each with one run at a time."""
        started = [f"worker-{len(self.celery) + number}" for number in range(1, count + 1)]
        for name in started:
            options = ("--concurrency", "1", "--hostname", f"{name}@%h", "--loglevel", "INFO")
            self.celery.append(self.command("celery", "-A", "dagster_celery.app", "worker", *options, name=name))
        self.wait(lambda: all("ready." in self.log(name) for name in started), "a worker does not start")

    def replace_workers(self, count: int) -> None:
        for worker in self.celery:
            end(worker)
        self.start_workers(count)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def wait(self, condition: Callable[[], bool], otherwise: str, seconds: float = PATIENCE_SECONDS) -> None:
        if not patiently(condition, seconds):
            logs = "\n".join(f"{path.name}: {self.log(path.stem)[-1500:]}" for path in self.folder.glob("*.log"))
            raise TimeoutError(f"{otherwise}\n{logs}")

    def request(self, account: str | None = None) -> int:
        """Asks for a sync of one account, or of all; returns the id of the request."""
        with self.engine.begin() as connection:
            statement = sa.text("select ops.request_sync(:account)")
            return int(connection.execute(statement, {"account": account}).scalar_one())

    def has_ended(self) -> bool:
        return self.value(_UNFINISHED) == 0

    def spend(self, chance: random.Random, accounts: Iterable[str]) -> None:
        """Something of these accounts, some minutes ago."""
        at = datetime.now(UTC) - timedelta(minutes=5)
        for account in accounts:
            for key in chance.sample([*self.ledger.accounts[account].keys], 3):
                self.ledger.spend(account, at, key, GPT, usage(chance))


def usage(chance: random.Random) -> Usage:
    usd, byok = (Decimal(chance.randrange(1, 10**9)).scaleb(-9) for _ in range(2))
    return Usage(1, chance.randrange(1, 9_999), 100, 10, 0, usd, chance.choice([byok, Decimal(0)]))


def made_ledger(now: datetime, accounts: int, seed: int = 7) -> Ledger:
    """Accounts of ten keys, with 60 events on each of 31 days, and some that no key explains."""
    chance, ledger = random.Random(seed), Ledger()
    for number in range(1, accounts + 1):
        account = ledger.add_account(f"a{number:02d}", credits_bought=Decimal(100_000)).name
        start = now - timedelta(days=DAYS)
        keys = [ledger.add_key(account, f"Key {key} of {account}", start - timedelta(days=1)) for key in range(KEYS)]
        for _ in range(DAYS * EVENTS_A_DAY):
            at = start + (now - start) * chance.random()
            ledger.spend(
                account, at, chance.choice([*keys, None]), chance.choice((CLAUDE, GPT, MISTRAL)), usage(chance)
            )
    return ledger


@contextmanager
def deployed(programs: Path, accounts: int, latency_seconds: float) -> Iterator[Workers]:
    """The deployment without workers, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="orcost-celery-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        ledger = made_ledger(datetime.now(UTC), accounts)
        simulator = Simulator(ledger, options=Options(latency_seconds=latency_seconds))
        base_url = stack.enter_context(serve(simulator))
        amqp, broker_pid = stack.enter_context(broker(folder / "rabbitmq"))
        postgres = EmbeddedPostgres(folder / "home")
        stack.callback(postgres.stop)
        url, port = postgres.start(), free_port()
        configure(folder, ledger, port)
        engine = connect(url)
        stack.callback(engine.dispose)
        variables = environment(folder, ledger, base_url, url, amqp)
        variables["PATH"] = f"{programs}:{os.environ['PATH']}"
        running = Workers(folder, programs, variables, engine, simulator, broker_pid)
        try:
            running.start(port)
            yield running
        finally:
            for process in (*running.services.values(), *running.celery):
                end(process)


def configure(folder: Path, ledger: Ledger, port: int) -> None:
    """The project's folder and Dagster's home, from the files of deploy/."""
    home = folder / "dagster"
    home.mkdir()
    for name in ("dagster.yaml", "dagster_celery_config.py"):
        shutil.copy(FILES / name, home)
    workspace = (DEPLOY / "workspace.yaml").read_text(encoding="utf-8")
    workspace = workspace.replace("host: code", "host: 127.0.0.1").replace("4000", str(port))
    (folder / "workspace.yaml").write_text(workspace, encoding="utf-8")
    accounts = (f'[[accounts]]\nname = "{name}"\napi_key_env = "KEY_{name}"\n' for name in ledger.accounts)
    (folder / "orcost.toml").write_text("\n".join(accounts), encoding="utf-8")


def environment(folder: Path, ledger: Ledger, base_url: str, url: str, amqp: str) -> dict[str, str]:
    """What every process of the deployment gets."""
    return {
        **clean_environment(),
        **{f"KEY_{name}": owner.management_key for name, owner in ledger.accounts.items()},
        "OPENROUTER_BASE_URL": base_url,
        "ORCOST_DATABASE_URL": url,
        "ORCOST_HOME": str(folder / "home"),
        STORAGE_URL: storage_url(url),
        "DAGSTER_HOME": str(folder / "dagster"),
        "PYTHONPATH": str(folder / "dagster"),
        "CELERY_BROKER_URL": amqp,
        "CELERY_RESULT_BACKEND": f"db+{url}",
    }


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and its group, by force after a while."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.1)


def patiently(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes true in time, asked five times a second; a database that does not answer yet is no answer."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(sa.exc.DBAPIError):
            if condition():
                return True
        time.sleep(0.2)
    return False
