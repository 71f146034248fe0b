"""The deployment of a soak: an `orcost up` of two simulated accounts, its shifted clock, its receivers, its spend."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from orcost_pipeline.simulator import Ledger, Options, Simulator, Usage, serve
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, MISTRAL
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, EmbeddedPostgresError
from orcost_pipeline.windows import hour_floor
from orcost_pipeline_tests.processes import CHECKOUT, clean_environment, eventually, free_port
from orcost_pipeline_tests.test_services import Up
from orcost_pipeline_tests.test_shifted_clock import Clock
from orcost_pipeline_tests.webhook import Webhook

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ACCOUNTS = ("acme", "globex")
HISTORY = 3 * DAY
# The schedule is five minutes past the hour.
BEFORE_THE_SCHEDULE = timedelta(minutes=4, seconds=50)
# A daemon that a clock has left an hour behind is taken for a silent one.
MUTED = '[alerts]\nmute = ["schedule_off"]\n'
MAPPING = "company,match,pattern\nCompany A,key_name,A*\nCompany B,key_name,B*\n"
# Seconds: an answer of the simulator, so that a load has a middle.
LATENCY = 0.05
READY_WITHIN = 300.0
# Seconds: all of it for the embedded Postgres, which keeps a gigabyte of its log where nothing limits it.
DISK_SIZE, WAL_SIZE = "700m", "96MB"

_SCHEDULED = "select count(*) from dagster.instigators where instigator_body like '%hourly_schedule%'"
_ACTIVE = "select count(*) from dagster.runs where status not in ('SUCCESS', 'FAILURE', 'CANCELED')"


class UnreachableError(Exception):
    """The database does not answer."""


@dataclass
class Soak:
    """A running deployment. `home` is on a disk of its own where `has_own_disk`."""

    folder: Path
    clock: Clock
    ledger: Ledger
    simulator: Simulator
    webhook: Webhook
    environment: dict[str, str]
    chance: random.Random
    has_own_disk: bool
    started_at: datetime
    up: Up = field(init=False)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def postgres(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self.home)

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        """The rows of a statement, in a connection of its own; raises UnreachableError."""
        try:
            with self.engine() as engine, engine.begin() as connection:
                return [tuple(row) for row in connection.execute(sa.text(statement), parameters)]
        except (DBAPIError, EmbeddedPostgresError) as error:
            raise UnreachableError(str(error)) from error

    def value(self, statement: str, **parameters: Any) -> Any:
        return self.rows(statement, **parameters)[0][0]

    def execute(self, statement: str) -> None:
        """A statement outside of any transaction; raises UnreachableError."""
        try:
            with self.engine() as engine:
                alone = engine.execution_options(isolation_level="AUTOCOMMIT")
                with alone.connect() as connection:
                    connection.exec_driver_sql(statement)
        except (DBAPIError, EmbeddedPostgresError) as error:
            raise UnreachableError(str(error)) from error

    @contextmanager
    def engine(self) -> Iterator[sa.Engine]:
        """An engine over the warehouse, at the port of the moment; raises UnreachableError."""
        url = self.postgres.url()
        if url is None:
            raise UnreachableError("The embedded Postgres does not run.")
        engine = connect(url)
        try:
            yield engine
        finally:
            engine.dispose()

    def holds(self, statement: str, **parameters: Any) -> bool:
        """Whether the database answers, and with a true value."""
        try:
            return bool(self.value(statement, **parameters))
        except UnreachableError:
            return False

    def is_idle(self) -> bool:
        """Whether the database answers and no run waits or runs."""
        return self.holds(f"select ({_ACTIVE}) = 0")

    def start(self) -> None:
        """Starts the services and waits until the schedule is on; raises RuntimeError with what was printed."""
        self.up = self.launch(self.folder)
        if not (self.up.is_ready(READY_WITHIN) and eventually(lambda: self.holds(_SCHEDULED), READY_WITHIN)):
            raise RuntimeError(self.up.told())
        self.execute(f"alter system set max_wal_size = '{WAL_SIZE}'")
        self.execute("select pg_reload_conf()")

    def launch(self, folder: Path, **variables: str) -> Up:
        """An `orcost up` over the home in this folder."""
        port = free_port()
        with (folder / "told").open("w") as told:
            process = subprocess.Popen(
                [sys.executable, "-c", "from orcost_pipeline.cli import main; main()", "up", "--port", str(port)],
                cwd=folder,
                env={**self.environment, "ORCOST_HOME": str(folder / "home"), **variables},
                stdout=told,
                stderr=told,
                text=True,
            )
        return Up(folder, port, process)

    def stop(self) -> int | None:
        """Stops the services; returns the exit code, None where they had to be killed."""
        self.up.process.send_signal(signal.SIGINT)
        try:
            return self.up.process.wait(120)
        except subprocess.TimeoutExpired:
            self.up.process.kill()
            self.up.process.wait()
            return None

    # The clock and the spend

    def advance(self, hours: int = 1) -> datetime:
        """Jumps to a moment before the schedule's next, with spend on the way; returns the hour's start."""
        before, hour = self.clock.now(), hour_floor(self.clock.now()) + hours * HOUR
        now = hour + BEFORE_THE_SCHEDULE
        for account in ACCOUNTS:
            self._spend(account, before, now)
        self._restate(now)
        self.clock.advance(now - self.clock.now())
        return hour

    def spend_history(self) -> None:
        """Some days before the soak."""
        for account in ACCOUNTS:
            for hours in range(0, HISTORY // HOUR, 4):
                start = self.started_at - HISTORY + hours * HOUR
                self._spend(account, start, start + 4 * HOUR, is_late=False)

    def _spend(self, account: str, start: datetime, end: datetime, *, is_late: bool = True) -> None:
        """A dozen requests of random keys in [start, end); some show up to three hours late."""
        keys = [*self.ledger.accounts[account].keys, None]
        for _ in range(12):
            at = start + (end - start) * self.chance.random()
            usd, byok = (Decimal(self.chance.randrange(1, 10**9)).scaleb(-9) for _ in range(2))
            usage = Usage(1, self.chance.randrange(1, 9_999), 100, 10, 0, usd, self.chance.choice([byok, Decimal(0)]))
            late = self.chance.choice([0, 0, 0, 0, 0, 1, 2, 3]) if is_late else 0
            shown = hour_floor(end) + late * HOUR if late else None
            key, model = self.chance.choice(keys), self.chance.choice((CLAUDE, GPT, MISTRAL))
            self.ledger.spend(account, at, key, model, usage, visible_from=shown)

    def _restate(self, now: datetime) -> None:
        """OpenRouter doubles one key's use of one model yesterday, in one of four hours."""
        if self.chance.randrange(4) == 0:
            account = self.chance.choice(ACCOUNTS)
            key = self.chance.choice([*self.ledger.accounts[account].keys])
            self.ledger.restate(account, (now - DAY).date(), key, CLAUDE, factor=Decimal(2))


@contextmanager
def soaking(hours: int, seed: int) -> Iterator[Soak]:
    """A deployment whose clock starts so many hours ago, and that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="orcost-soak-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "home").mkdir()
        has_own_disk = stack.enter_context(_disk(folder / "home"))
        stack.callback(EmbeddedPostgres(folder / "home").stop)
        # Postgres keeps the machine's clock: rows that it dates itself must not be older than those of the shifted one.
        clock = Clock(folder, hour_floor(datetime.now(UTC)) - hours * HOUR + timedelta(minutes=30))
        ledger = _ledger(clock.now())
        simulator = Simulator(ledger, clock.now, Options(latency_seconds=LATENCY))
        webhook = stack.enter_context(Webhook())
        base_url = stack.enter_context(serve(simulator))
        environment = _environment(ledger, base_url, webhook) | clock.environment
        _configure(folder)
        soak = Soak(
            *(folder, clock, ledger, simulator, webhook, environment, random.Random(seed)),
            has_own_disk=has_own_disk,
            started_at=hour_floor(clock.now()),
        )
        soak.spend_history()
        soak.start()
        try:
            yield soak
        finally:
            if soak.up.process.poll() is None:
                soak.stop()


def _ledger(now: datetime) -> Ledger:
    ledger = Ledger()
    for account in ACCOUNTS:
        ledger.add_account(account, credits_bought=Decimal(100_000))
        for name in ("A one", "A two", "B one"):
            ledger.add_key(account, f"{name} of {account}", now - HISTORY - DAY)
    return ledger


def _configure(folder: Path) -> None:
    accounts = (f'[[accounts]]\nname = "{name}"\napi_key_env = "KEY_{name}"\n' for name in ACCOUNTS)
    (folder / "orcost.toml").write_text("\n".join([*accounts, MUTED]), encoding="utf-8")
    (folder / "company_mapping.csv").write_text(MAPPING, encoding="utf-8")


def _environment(ledger: Ledger, base_url: str, webhook: Webhook) -> dict[str, str]:
    keys: Mapping[str, str] = {f"KEY_{name}": ledger.accounts[name].management_key for name in ACCOUNTS}
    return {
        **clean_environment(),
        **keys,
        "PYTHONPATH": str(CHECKOUT),
        "OPENROUTER_BASE_URL": base_url,
        "ORCOST_ALERT_URLS": webhook.url,
        "ORCOST_HEARTBEAT_URL": f"http://127.0.0.1:{webhook.port}/beat/{{account}}",
    }


@contextmanager
def _disk(home: Path) -> Iterator[bool]:
    """A small disk at the home, where this user may mount one; yields whether there is one."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE},mode=755", "tmpfs", str(home)]
    is_mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            time.sleep(1)  # for the last process to leave it
            subprocess.run(["umount", "--lazy", str(home)], check=False)
