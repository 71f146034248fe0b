"""`orcost` as an operator runs it, in processes of its own, with a Postgres and an OpenRouter to spoil.

The launcher has imported everything and forks for each command: what is tested is the command, not the import.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import psycopg
import sqlalchemy as sa
from typer.testing import CliRunner

from orcost_pipeline.cli import app
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.simulator import Ledger, Simulator
from orcost_pipeline_tests.world import World

CHECKOUT = Path(__file__).parents[1]
ORCOST = str(Path(sys.executable).with_name("orcost"))
LAUNCHER = """
import json, os, signal, sys
import alembic.command, dagster_postgres, rich.progress
import orcost_pipeline.definitions
from orcost_pipeline.cli import main, running
from orcost_pipeline.defs import automation
from orcost_pipeline.warehouse.schema import upgrade

def command(order):
    os.setsid()
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    os.dup2(os.open(order.get("input", os.devnull), os.O_RDONLY), 0)
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(os.open(order["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if "errors" in order else output, 2)
    sys.argv = ["orcost", *order["arguments"]]
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0

for line in sys.stdin:
    order = json.loads(line)
    if "pid" in order:
        pid, status = os.waitpid(order["pid"], os.WNOHANG)
        print(os.waitstatus_to_exitcode(status) if pid else "", flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = command(order)
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(pid, flush=True)
"""


class Launcher:
    """A process that forks commands."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER],
            cwd=tempfile.gettempdir(),
            env={**clean_environment(), "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, **order: Any) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@cache
def launcher() -> Launcher:
    """This process's launcher."""
    made = Launcher()
    atexit.register(made.close)
    return made


class Outcome(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def orcost(
    folder: Path, environment: Mapping[str, str], *arguments: str, told: str = "", seconds: float = 120
) -> Outcome:
    """A command in a folder, with nothing but this environment, that is over; `told` is what is typed into it.

    Only a process that is started anew loads a library: that of a shifted clock.
    """
    if "LD_PRELOAD" in environment:
        ended = subprocess.run(
            [ORCOST, *arguments], cwd=folder, env=environment, input=told, capture_output=True, text=True, check=False
        )
        return Outcome(ended.returncode, ended.stdout, ended.stderr)
    with tempfile.TemporaryDirectory() as streams:
        paths = {name: Path(streams, name) for name in ("input", "output", "errors")}
        paths["input"].write_text(told, encoding="utf-8")
        pid = launcher().order(
            folder=str(folder),
            environment=dict(environment),
            arguments=arguments,
            **{name: str(path) for name, path in paths.items()},
        )
        code = Command(launcher(), int(pid), paths["errors"]).wait(seconds)
        return Outcome(code, paths["output"].read_text(encoding="utf-8"), paths["errors"].read_text(encoding="utf-8"))


@dataclass
class Command:
    """A command that runs, or has ended."""

    launcher: Launcher
    pid: int
    output: Path
    _code: int | None = None

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None as long as it runs."""
        if self._code is None:
            told = launcher().order(pid=self.pid)
            self._code = int(told) if told else None
        return self._code

    @property
    def told(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def wait(self, seconds: float = 90) -> int:
        assert eventually(lambda: self.code is not None, seconds), f"still running after {seconds} s: {self.told}"
        assert self._code is not None
        return self._code

    def send(self, number: signal.Signals) -> None:
        if self.code is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """-9, and its end."""
        self.send(signal.SIGKILL)
        self.wait()


def eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it comes true in time."""
    patience = time.monotonic() + seconds
    while not (is_true := condition()) and time.monotonic() < patience:
        time.sleep(0.01)
    return is_true


@dataclass
class Site:
    """A folder with a configuration, a database, and the accounts at the other end."""

    folder: Path
    url: str
    engine: sa.Engine
    ledger: Ledger
    simulator: Simulator
    base_url: str
    started: list[Command] = field(default_factory=list)

    def configure(self) -> None:
        """Names every account of the ledger in orcost.toml."""
        accounts = (f'[[accounts]]\nname = "{name}"\napi_key_env = "KEY_{name}"\n' for name in self.ledger.accounts)
        (self.folder / "orcost.toml").write_text("\n".join(accounts), encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "OPENROUTER_BASE_URL": self.base_url,
            "ORCOST_DATABASE_URL": self.url,
            **{f"KEY_{name}": account.management_key for name, account in self.ledger.accounts.items()},
        }

    def start(self, *arguments: str) -> Command:
        output = self.folder / f"output-{len(self.started)}.txt"
        told = launcher().order(
            folder=str(self.folder), environment=self.environment, output=str(output), arguments=arguments
        )
        self.started.append(Command(launcher(), int(told), output))
        return self.started[-1]

    def sync(self) -> Command:
        """A sync that is over."""
        command = self.start("sync")
        command.wait()
        return command

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement), parameters)]

    def value(self, statement: str, **parameters: Any) -> Any:
        return self.rows(statement, **parameters)[0][0]

    def execute(self, statement: str) -> None:
        """Outside of any transaction."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(statement))

    def assert_is_exact(self, account: str = "acme") -> None:
        """What readers see of the account is the ledger's, to the last digit."""
        as_of = self.value("select as_of from ref.account where account = :account", account=account)
        assert as_of is not None
        world = World(self.engine, self.ledger, as_of, account=account)
        world.assert_hours_are_true()
        world.assert_days_are_true()

    def is_blocked(self) -> bool:
        waiting = (
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        return bool(self.value(waiting))

    @contextmanager
    def gate(self, place: str) -> Iterator[Callable[[], None]]:
        """Holds up who writes to the table `place`, or who publishes (`publication`); yields what lets them pass."""
        with closing(psycopg.connect(self.url)) as session:
            if place == "publication":
                session.execute("select pg_advisory_xact_lock(7304, hashtext('acme'))")
            else:
                session.execute(f"lock table {place} in share row exclusive mode".encode())
            yield session.rollback

    def is_silent(self) -> bool:
        """Whether the server is rid of everybody else: it may finish what a dead client asked for."""
        others = (
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
            "and backend_type = 'client backend'"
        )
        self.engine.dispose()
        return not self.value(others)

    def close(self) -> None:
        for command in self.started:
            command.kill()
        self.engine.dispose()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def away_from_the_hour(seconds: int = 30, *, minute: int = 0) -> None:
    """Waits where an hour is about to end: the figures of two syncs could not be compared. Or where another `minute`
    of it is about to begin, such as that of the schedule."""
    left = (minute * 60 - int(datetime.now(UTC).timestamp())) % 3600
    if left < seconds:
        time.sleep(left + 1)


@dataclass
class Project:
    """A folder with a warehouse, and the accounts at the other end; commands are the installed ones."""

    folder: Path
    engine: sa.Engine
    ledger: Ledger
    environment: dict[str, str]
    simulator: Simulator

    def orcost(self, *arguments: str, told: str = "", **environment: str) -> Outcome:
        """A process where Dagster runs, which is not for threads; the command in this process where it does not."""
        variables = {**self.environment, **environment}
        if {"sync", "rebuild"} & set(arguments):
            return orcost(self.folder, variables, *arguments, told=told)
        with chdir(self.folder), patch.dict(os.environ, variables, clear=True):
            ended = CliRunner().invoke(app, arguments, input=told)
        is_sentence = isinstance(ended.exception, OrcostError)
        return Outcome(ended.exit_code, ended.stdout, str(ended.exception) if is_sentence else ended.stderr)

    def key_of(self, account: str) -> str:
        return self.ledger.accounts[account].management_key

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement), parameters)]


def clean_environment() -> dict[str, str]:
    """This process's variables without any that configures orcost."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("ORCOST", "OPENROUTER"))}
