"""`orcost up`: what it starts, what it starts again, and that nothing stays, however it ends. All in real processes.

Supervision is tested with stand-ins that start in a moment; the end-to-end tests run Dagster.
"""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orcost_pipeline.cli import app
from orcost_pipeline.deployment import orcost_up, supervision
from orcost_pipeline.deployment.dagster_home import STORAGE_URL
from orcost_pipeline.deployment.orcost_up import KeptDatabase, reserved
from orcost_pipeline.deployment.supervision import Service, Surroundings
from orcost_pipeline.errors import PermanentError, TransientError
from orcost_pipeline.settings import Settings, load_settings
from orcost_pipeline.simulator import Simulator, serve, small
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.deployment import serving
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, EmbeddedPostgresError
from orcost_pipeline_tests.processes import away_from_the_hour, free_port
from orcost_pipeline_tests.webhook import Webhook

CHECKOUT = Path(__file__).parents[1]
STAND_IN = '''
import logging, os, signal, subprocess, sys, time
from pathlib import Path

folder, name, behaviour = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
child = None
children = {
    "parent": "import time; time.sleep(600)",
    "stubborn": "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
    "tidy": f"""
import pathlib, signal, sys, time
def end(*_):
    time.sleep(0.5)
    pathlib.Path({str(folder / "tidied")!r}).touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
pathlib.Path({str(folder / "listens")!r}).touch()
time.sleep(600)
""",
}
if behaviour in children:
    child = subprocess.Popen([sys.executable, "-S", "-c", children[behaviour]])
if behaviour == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with (folder / "pids").open("a") as file:
    file.write(f"{name} {os.getpid()}\\n" + (f"{name}-child {child.pid}\\n" if child else ""))
if behaviour == "dying":
    sys.exit("its last words")
if behaviour == "chatty":
    while True:
        print("x" * 99, flush=True)
        time.sleep(0.001)
if behaviour == "logging":
    logging.getLogger("dagster.daemon.EventLogConsumerDaemon").warning("No cursor for event type RUN_FAILURE")
    logging.getLogger("dagster.daemon.EventLogConsumerDaemon").error("Failed to add heartbeat")
    logging.warning("Retrying failed database connection")
    print("\\x1b[32mgreen\\x1b[0m", flush=True)
    sys.exit()
time.sleep(600)
'''
SUPERVISOR = """
import sys
from pathlib import Path
from orcost_pipeline.deployment import orcost_up, supervision
from orcost_pipeline.deployment.supervision import Service, Surroundings, leash, stop_requested, supervise

folder = Path(sys.argv[1])
supervision.FIRST_PAUSE = 0.2
supervision.STOP_WITHIN, supervision.LONGEST_LOG = float(sys.argv[2]), 20_000
plan = [told.split(":") for told in sys.argv[3:]]
pids = folder / "pids"
def is_ready(name, when):
    return lambda: when != "never" and pids.exists() and name in pids.read_text()
services = [
    Service(name, "stand_in", str(folder), name, behaviour, is_ready=is_ready(name, when[0] if when else ""))
    for name, behaviour, *when in plan
]
with stop_requested() as stop, leash() as end, (folder / "lock").open("w") as alive:
    given = Surroundings(end, alive.fileno(), folder / "log")
    supervise(services, given, stop, lambda text: print(text, flush=True), "ready")
print("Stopped.", flush=True)
"""


def eventually(condition: Any, seconds: float = 20) -> bool:
    patience = time.monotonic() + seconds
    while not (is_true := condition()) and time.monotonic() < patience:
        time.sleep(0.02)
    return bool(is_true)


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not fetched by its parent does not."""
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return state.stdout.strip() != "" and not state.stdout.startswith("Z")
    return False


@dataclass
class Supervised:
    """A supervisor in a process of its own, and the stand-ins that it has started so far."""

    folder: Path
    process: subprocess.Popen[str]

    def pids(self, name: str) -> list[int]:
        """Of all processes of this name, first to last."""
        lines = (self.folder / "pids").read_text().splitlines() if (self.folder / "pids").exists() else []
        return [int(line.split()[1]) for line in lines if line.split()[0] == name]

    def all_pids(self) -> list[int]:
        return [int(line.split()[1]) for line in (self.folder / "pids").read_text().splitlines()]

    def told(self) -> str:
        return (self.folder / "told").read_text()

    def says(self, text: str) -> bool:
        return eventually(lambda: text in self.told())

    def is_gone(self, seconds: float = 5) -> bool:
        return eventually(lambda: not any(lives(pid) for pid in self.all_pids()), seconds)


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Any]:
    """Starts a supervisor over stand-ins, each `name:behaviour`."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "stand_in.py").write_text(STAND_IN)
    (tmp_path / "supervisor.py").write_text(SUPERVISOR)
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{tmp_path / 'modules'}"}
    made: list[Supervised] = []

    def start(*plan: str, stop_within: float = 10, through: Sequence[str] = ()) -> Supervised:
        command = [*through, sys.executable, str(tmp_path / "supervisor.py"), str(tmp_path), str(stop_within), *plan]
        with (tmp_path / "told").open("w") as told:
            process = subprocess.Popen(command, stdout=told, stderr=told, text=True, env=environment)
        made.append(Supervised(tmp_path, process))
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.wait()
        if (tmp_path / "pids").exists():
            for pid in one.all_pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


# ── started, and started again ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_services_start_one_after_the_other_and_are_said_to_be_ready_when_all_are(supervise: Any) -> None:
    it = supervise("first:steady", "second:steady")
    assert it.says("ready\n")
    assert len(it.pids("first")) == len(it.pids("second")) == 1


@pytest.mark.slow
def test_a_killed_service_is_started_again_and_leaves_no_child(supervise: Any) -> None:
    it = supervise("one:steady", "two:parent")
    assert it.says("ready\n")
    (other,), (pid,), (child,) = it.pids("one"), it.pids("two"), it.pids("two-child")
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: len(it.pids("two")) == 2)
    assert eventually(lambda: not lives(child))
    assert lives(it.pids("two")[1])
    assert lives(other)
    assert f"The two was killed (signal 9); it starts again in 0 s. Log: {it.folder / 'log'}\n" in it.told()


def test_what_dies_again_and_again_is_started_ever_later_until_it_has_run_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", f"{CHECKOUT}{os.pathsep}{tmp_path}")
    now = [1000.0]
    service = Service(
        *("daemon", "stand_in", str(tmp_path), "daemon", "dying"), longest_pause=4.0, clock=lambda: now[0]
    )

    def pause(given: Surroundings, *, lived: float) -> str:
        service.tend(given)
        process = service._process
        assert process is not None
        process.wait(20)
        now[0] += lived
        told = service.tend(given) or ""
        assert service.tend(given) is None, "it starts before its time"
        assert service._process is None
        found = re.search(r"starts again in (\d+) s", told)
        assert found, told
        now[0] += int(found[1])
        return found[1]

    with supervision.leash() as end, (tmp_path / "lock").open("w") as alive:
        given = Surroundings(end, alive.fileno(), tmp_path / "log")
        assert [pause(given, lived=0.1) for _ in range(4)] == ["1", "2", "4", "4"]
        assert [pause(given, lived=61.0), pause(given, lived=0.1)] == ["1", "2"]


@pytest.mark.slow
def test_a_service_that_dies_at_its_start_ends_it_all_with_its_last_words(supervise: Any) -> None:
    it = supervise("one:steady", "two:dying:never")
    assert it.process.wait(20) != 0
    assert "TransientError: The two ended (exit code 1) at its start. " in it.told()
    assert "its last line: its last words" in it.told()
    assert it.is_gone()


# ── stopped ──────────────────────────────────────────────────────────────────────────────────────────────────────────


# Who starts the tests may ignore a hang-up, as nohup does.
HANGING_UP = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_to_stop_it_stops_all_of_them_and_says_so(supervise: Any, number: signal.Signals) -> None:
    it = supervise("one:steady", "two:parent", through=[sys.executable, "-c", HANGING_UP])
    assert it.says("ready\n")
    it.process.send_signal(number)
    assert it.process.wait(10) == 0
    assert not any(lives(pid) for pid in it.all_pids())
    assert it.told() == "ready\nStopped.\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_parent_that_ignores_signals_does_not_hand_that_on(supervise: Any, number: signal.Signals) -> None:
    it = supervise("one:parent", through=["/bin/sh", "-c", 'trap "" INT TERM; exec "$@"', "sh"])
    assert it.says("ready\n")
    begun = time.monotonic()
    it.process.send_signal(number)
    assert it.process.wait(10) == 0
    assert not any(lives(pid) for pid in it.all_pids())
    assert time.monotonic() - begun < 8, "it was killed, not stopped"


@pytest.mark.slow
def test_nohup_is_respected(supervise: Any) -> None:
    it = supervise("one:steady", through=["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh"])
    assert it.says("ready\n")
    it.process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        it.process.wait(0.7)


@pytest.mark.slow
def test_it_can_be_stopped_while_it_starts(supervise: Any) -> None:
    it = supervise("one:parent", "two:steady:never")
    assert eventually(lambda: it.pids("two"))
    it.process.send_signal(signal.SIGTERM)
    assert it.process.wait(10) == 0
    assert not any(lives(pid) for pid in it.all_pids())
    assert it.told() == "Stopped.\n"


@pytest.mark.slow
def test_what_a_service_has_started_may_end_in_its_own_time(supervise: Any) -> None:
    it = supervise("one:tidy")
    assert it.says("ready\n")
    assert eventually((it.folder / "listens").exists)
    it.process.send_signal(signal.SIGTERM)
    assert it.process.wait(10) == 0
    assert (it.folder / "tidied").exists()


@pytest.mark.slow
def test_what_does_not_stop_is_killed_in_the_end(supervise: Any) -> None:
    it = supervise("one:stubborn", stop_within=0.5)
    assert it.says("ready\n")
    it.process.send_signal(signal.SIGTERM)
    assert it.process.wait(10) == 0
    assert not any(lives(pid) for pid in it.all_pids())


@pytest.mark.slow
def test_asked_twice_it_kills_at_once(supervise: Any) -> None:
    it = supervise("one:stubborn", stop_within=60)
    assert it.says("ready\n")
    it.process.send_signal(signal.SIGINT)
    time.sleep(0.4)
    assert it.process.poll() is None
    it.process.send_signal(signal.SIGINT)
    assert it.process.wait(10) == 0
    assert not any(lives(pid) for pid in it.all_pids())


# ── killed ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_killed_supervisor_leaves_nothing(supervise: Any) -> None:
    it = supervise("one:steady", "two:parent")
    assert it.says("ready\n")
    it.process.kill()
    assert it.is_gone()


@pytest.mark.slow
def test_a_supervisor_killed_while_it_starts_leaves_nothing(supervise: Any) -> None:
    it = supervise("one:parent", "two:steady:never")
    assert eventually(lambda: it.pids("two"))
    it.process.kill()
    assert it.is_gone()


@pytest.mark.slow
def test_a_killed_supervisor_leaves_nothing_that_ignores_signals_either(supervise: Any) -> None:
    it = supervise("one:stubborn")
    assert it.says("ready\n")
    it.process.kill()
    assert it.is_gone(15)


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_log_that_grows_is_set_aside(supervise: Any) -> None:
    it = supervise("one:chatty")
    log, older = it.folder / "log", it.folder / "log.1"
    assert eventually(older.exists)
    assert 20_000 < older.stat().st_size < 1_000_000
    # Set aside once more: what is written after that begins at the beginning, without a hole.
    older.unlink()
    assert eventually(older.exists)
    assert older.read_bytes()[:1] == b"x"
    assert log.stat().st_size < 1_000_000


@pytest.mark.slow
def test_the_log_is_plain_and_silent_of_what_is_no_news(supervise: Any) -> None:
    it = supervise("one:logging")
    log = it.folder / "log"
    assert eventually(lambda: log.exists() and "green" in log.read_text())
    first, second, third, *_ = log.read_text().splitlines()
    assert first == "Failed to add heartbeat"
    assert re.fullmatch(r"[-\d]+ [:\d]+ [+-]\d{4} - root - WARNING - Retrying failed database connection", second)
    assert third == "green"


# ── one home, one port ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_home_is_served_once_and_the_second_is_told_by_whom(tmp_path: Path) -> None:
    port = free_port()
    with reserved(tmp_path / "home", port):
        with pytest.raises(PermanentError) as refused, reserved(tmp_path / "home", free_port()):
            pass
        told = f"Dagster is served already over {tmp_path / 'home'}: process {os.getpid()}, http://127.0.0.1:{port}."
        assert str(refused.value).splitlines()[0] == told
        assert "ORCOST_HOME" in str(refused.value)
        with reserved(tmp_path / "another", free_port()):
            pass
    with reserved(tmp_path / "home", port):
        pass


@pytest.mark.parametrize("is_listening", [True, False])
def test_a_port_that_is_taken_is_told_with_one_that_is_not(tmp_path: Path, is_listening: bool) -> None:
    with closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", 0))
        if is_listening:
            holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(PermanentError, match=f"^Port {port} is taken. ") as refused, reserved(tmp_path, port):
            pass
    other = re.search(r"--port (\d+)$", str(refused.value))
    assert other
    with reserved(tmp_path, int(other[1])):
        pass


def test_services_that_a_killed_one_left_are_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "services.lock").open("a") as left:
        assert supervision.locks(left)
        threading.Timer(0.4, left.close).start()
        begun = time.monotonic()
        with reserved(tmp_path, free_port()):
            assert time.monotonic() - begun >= 0.3
    assert capsys.readouterr().err == "Waiting for the services of one that was killed to end …\n"


def test_services_that_never_end_are_not_waited_for_for_ever(tmp_path: Path) -> None:
    with (tmp_path / "services.lock").open("a") as left:
        assert supervision.locks(left)
        with pytest.raises(TransientError, match="do not end"), reserved(tmp_path, free_port(), 0.2):
            pass


# ── the embedded Postgres ────────────────────────────────────────────────────────────────────────────────────────────


class Postgres:
    """An embedded Postgres that runs, or not, or cannot."""

    def __init__(self, port: int = 20_001, *, runs: bool, trouble: str | None = None) -> None:
        self.port, self.runs, self.trouble = port, runs, trouble

    def url(self) -> str | None:
        return f"postgresql://orcost:secret@127.0.0.1:{self.port}/orcost" if self.runs else None

    def start(self) -> str:
        if self.trouble:
            raise EmbeddedPostgresError(self.trouble)
        self.runs = True
        return self.url() or ""


class Killed(Service):
    """A service that only notes that it was killed."""

    def __init__(self, name: str, killed: list[str]) -> None:
        super().__init__(name, "stand_in")
        self.killed = killed

    def kill(self) -> None:
        self.killed.append(self.name)


def looked_after(postgres: Any) -> tuple[KeptDatabase, list[str]]:
    """A database to tend, and the names of the services that were killed meanwhile."""
    killed: list[str] = []
    return KeptDatabase(postgres, [Killed("daemon", killed)], every=0.0), killed


STORED = "postgresql+orcost_storage://orcost:secret@127.0.0.1:20001/orcost"


def test_a_database_that_has_ended_is_started_again_and_dagster_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORAGE_URL, STORED)
    database, killed = looked_after(Postgres(runs=False))
    assert database.tend() == "The embedded Postgres had ended; it was started again."
    assert database.tend() is None
    assert (killed, os.environ[STORAGE_URL]) == ([], STORED)


def test_a_database_on_another_port_has_dagster_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORAGE_URL, STORED)
    database, killed = looked_after(Postgres(20_002, runs=False))
    assert database.tend()
    assert (killed, os.environ[STORAGE_URL]) == (["daemon"], STORED.replace("20001", "20002"))


def test_a_database_that_cannot_be_started_is_told_and_tried_again_later() -> None:
    database, _ = looked_after(Postgres(runs=False, trouble="The disk is full."))
    assert database.tend() == "The disk is full."
    assert database.tend() is None


# ── Dagster itself ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Up:
    """`orcost up` in a process of its own."""

    folder: Path
    port: int
    process: subprocess.Popen[str]

    def told(self) -> str:
        return (self.folder / "told").read_text()

    def log(self) -> str:
        return (self.folder / "home" / "logs" / "services.log").read_text()

    def pids(self) -> dict[str, int]:
        """Its services: module → process."""
        lines = subprocess.run(
            ["ps", "-A", "-ww", "-o", "pid=,ppid=,command="], capture_output=True, text=True, check=True
        )
        ours = [line.split() for line in lines.stdout.splitlines()]
        return {
            it[it.index("orcost_pipeline.deployment.service") + 2]: int(it[0]) for it in ours if self._is_service(it)
        }

    def _is_service(self, process: list[str]) -> bool:
        return process[1] == str(self.process.pid) and "orcost_pipeline.deployment.service" in process

    def is_ready(self, seconds: float = 120) -> bool:
        return eventually(lambda: "Dagster is ready" in self.told() or self.process.poll() is not None, seconds)

    def code_socket(self) -> Path:
        found = re.search(r'socket: "(.+)"', (self.folder / "home" / "dagster" / "workspace.yaml").read_text())
        assert found
        return Path(found[1])

    def ports(self) -> set[str]:
        """The addresses of all TCP ports on which its services and their children listen."""
        inodes = set[str]()
        for pid in self.pids().values():
            for group in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    if os.getpgid(int(group.name)) == pid:
                        inodes |= {link.readlink().name for link in (group / "fd").iterdir()}
        sockets = [
            line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()
        ]
        return {it[1] for it in sockets if it[3] == "0A" and f"socket:[{it[9]}]" in inodes}


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Any]:
    """Starts `orcost up` over the home in `folder`."""
    made: list[Up] = []

    def start(folder: Path = tmp_path, port: int | None = None, hosts: Sequence[str] = (), **variables: str) -> Up:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ORCOST_", "OPENROUTER_"))}
        port = port or free_port()
        code = "from orcost_pipeline.cli import main; main()"
        with (folder / "told").open("w") as told:
            process = subprocess.Popen(
                [sys.executable, "-c", code, "up", "--port", str(port), *(f"--host={host}" for host in hosts)],
                cwd=folder,
                env={**clean, "PYTHONPATH": str(CHECKOUT), "ORCOST_HOME": str(folder / "home"), **variables},
                stdout=told,
                stderr=told,
                text=True,
            )
        made.append(Up(folder, port, process))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
            with (one.folder / "home" / "services.lock").open("a") as alive:
                assert eventually(lambda alive=alive: supervision.locks(alive))


def assert_serves_no_other_home(it: Up, other: Settings) -> None:
    """A database is served from one home at a time: the other is refused before anything has begun in it."""
    with pytest.raises(PermanentError) as refused:
        orcost_up.up(other, free_port())
    served = f"process {it.process.pid} on {socket.gethostname()}, home {it.folder / 'home'}, since "
    assert served in str(refused.value)
    assert not (other.home / "dagster").exists()


def test_up_serves_on_loopback_only_without_a_warning_and_stops_when_asked(
    up: Any, database_url: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run that the schedule launches while it stops would be an error in the log.
    away_from_the_hour(60, minute=5)
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    it = up(hosts=["costs.example.com"], ORCOST_DATABASE_URL=database_url)
    assert it.is_ready()
    assert it.told().splitlines()[2:] == [f"Dagster is ready: http://127.0.0.1:{it.port} (Ctrl-C stops it)"]
    pids = it.pids()
    assert set(pids) == {"dagster", "dagster._daemon", "orcost_pipeline.deployment.webserver"}
    with socket.create_connection(("127.0.0.1", it.port)):
        pass
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", it.port), timeout=2):
        pass
    if sys.platform == "linux":
        assert it.ports() == {f"0100007F:{it.port:04X}"}, "something else than the webserver listens on a port"
    assert [asked(it.port, host) for host in ("localhost", "Costs.example.com", "evil.example")] == [200, 200, 421]
    assert_serves_no_other_home(it, load_settings(tmp_path_factory.mktemp("other")))
    it.process.send_signal(signal.SIGTERM)
    assert it.process.wait(20) == 0
    assert it.told().endswith("Stopped.\n")
    assert not any(lives(pid) for pid in pids.values())
    assert not re.findall(r"(?i).*(?:warning|error|deprecat|traceback).*", it.log())


@pytest.mark.slow
def test_nobody_else_on_the_machine_reaches_the_code_server(place: Path, up: Any, database_url: str) -> None:
    """It runs code for whoever connects, and knows no passwords."""
    it = up(place, ORCOST_DATABASE_URL=database_url)
    assert it.is_ready()
    address = it.code_socket()
    assert connects(address)
    assert address.parent.stat().st_mode & 0o777 == 0o700
    if os.geteuid() == 0:
        assert not connects(address, as_user=65_534)


def test_a_socket_whose_path_would_be_too_long_is_in_a_folder_of_its_own(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 120)
    home.mkdir()
    with orcost_up._private_folder(home) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert len(str(folder / orcost_up.CODE_SOCKET)) <= orcost_up.LONGEST_SOCKET
        with closing(socket.socket(socket.AF_UNIX)) as listening:
            listening.bind(str(folder / orcost_up.CODE_SOCKET))
    assert not folder.exists()


def test_a_folder_for_the_socket_that_others_could_enter_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o777)
    with orcost_up._private_folder(tmp_path) as folder:
        assert folder == tmp_path / "private"
        assert folder.stat().st_mode & 0o777 == 0o700


def connects(address: Path, as_user: int = 0) -> bool:
    """Whether a process reaches a Unix socket: of ours, or of another user."""
    become = f"os.setgroups([]); os.setgid({as_user}); os.setuid({as_user})" if as_user else "pass"
    code = f"import os, socket, sys; {become}; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(address)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "PermissionError" in done.stderr
    return done.returncode == 0


def asked(port: int, host: str) -> int:
    """The status of Dagster's answer under a name."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/server_info", headers={"Host": host})
        return connection.getresponse().status


@pytest.mark.parametrize("name", ["https://costs.example.com", "costs.example.com:443", "0.0.0.0", "*", "", "a b"])
def test_what_is_no_name_of_a_proxy_is_refused(name: str) -> None:
    ended = CliRunner().invoke(app, ["up", "--host", name])
    assert ended.exit_code == 2
    assert "is no name such as costs.example.com" in ended.output


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the account of the embedded Postgres can reach."""
    made = Path(tempfile.mkdtemp(prefix="orcost-up-"))
    made.chmod(0o755)
    yield made
    EmbeddedPostgres(made / "home").stop()
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.slow
def test_up_recovers_from_whatever_is_killed_and_leaves_nothing_when_it_is_killed_itself(place: Path, up: Any) -> None:
    ledger = small(datetime.now(UTC))
    key = next(iter(ledger.accounts.values())).management_key
    with serve(Simulator(ledger)) as base_url:
        it = up(place, OPENROUTER_BASE_URL=base_url, OPENROUTER_API_KEY=key)
        assert it.is_ready()
        for module in ("dagster", "dagster._daemon", "orcost_pipeline.deployment.webserver"):
            before = it.pids()[module]
            os.kill(before, signal.SIGKILL)
            assert eventually(lambda before=before, module=module: it.pids().get(module, before) != before), module
        EmbeddedPostgres(place / "home").stop()
        assert eventually(lambda: "The embedded Postgres had ended; it was started again." in it.told(), 30)
        assert eventually(lambda: is_served(place), 30)
        assert sync_now(place)
        pids = it.pids()
        it.process.kill()
        it.process.wait()
        assert eventually(lambda: not any(lives(pid) for pid in pids.values()), 15)
        again = up(place, it.port)
        assert again.is_ready()
        assert "Dagster is ready" in again.told()
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(30) == 0
        assert "To stop it: orcost db stop" in again.told()


@pytest.mark.slow
def test_a_key_changed_in_the_env_file_counts_from_the_next_run_and_the_environment_wins(place: Path, up: Any) -> None:
    ledger = small(datetime.now(UTC))
    key = next(iter(ledger.accounts.values())).management_key
    with serve(Simulator(ledger)) as base_url:
        file = place / ".env"
        file.write_text("OPENROUTER_API_KEY=sk-or-v1-revoked\n")
        it = up(place, OPENROUTER_BASE_URL=base_url)
        assert it.is_ready()
        assert not sync_now(place)
        file.write_text(f"OPENROUTER_API_KEY={key}\n")
        assert sync_now(place)
        it.process.send_signal(signal.SIGINT)
        assert it.process.wait(30) == 0
        file.write_text("OPENROUTER_API_KEY=sk-or-v1-revoked\n")
        assert up(place, it.port, OPENROUTER_BASE_URL=base_url, OPENROUTER_API_KEY=key).is_ready()
        assert sync_now(place)


def is_served(place: Path) -> bool:
    """Whether the embedded Postgres is some `orcost up`'s."""
    engine = connect(EmbeddedPostgres(place / "home").start())
    try:
        with engine.connect() as connection:
            return serving(connection) is not None
    finally:
        engine.dispose()


def sync_now(folder: Path) -> bool:
    """Whether a sync that is asked for of the running deployment succeeds."""
    done = subprocess.run(
        [sys.executable, "-c", "from orcost_pipeline.cli import main; main()", "resync", "--wait"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "ORCOST_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.slow
def test_a_deployment_sends_its_alerts_and_its_heartbeat(place: Path, up: Any) -> None:
    """A mapping is broken and mended under a running orcost up; the receiver is named in the .env file meanwhile."""
    ledger = small(datetime.now(UTC))
    key = next(iter(ledger.accounts.values())).management_key
    mapping = place / "company_mapping.csv"
    mapping.write_text("company,match,pattern\nAcme,key_name,*\n")
    with serve(Simulator(ledger)) as base_url, Webhook() as webhook:
        heartbeat = f"http://127.0.0.1:{webhook.port}/beat/{{account}}"
        it = up(place, OPENROUTER_BASE_URL=base_url, OPENROUTER_API_KEY=key, ORCOST_HEARTBEAT_URL=heartbeat)
        assert it.is_ready()
        assert sync_now(place)
        assert webhook.fetched == ["/beat/default"]
        (place / ".env").write_text(f"ORCOST_ALERT_URLS={webhook.url}\n")
        mapping.write_text("company,match,pattern\nAcme,nonsense,*\n")
        assert eventually(lambda: len(webhook.posted) > 0, 150)
        mapping.write_text("company,match,pattern\nAcme,key_name,*\n")
        assert eventually(lambda: len(webhook.posted) > 1, 200)
        opened, resolved = webhook.taken()
        assert "company_mapping.csv was refused" in opened.title
        assert (opened.type, resolved.type) == ("failure", "success")
        it.process.send_signal(signal.SIGINT)
        assert it.process.wait(30) == 0
        assert not [log for log in (place / "home" / "logs").iterdir() if "s3cret" in log.read_text(errors="replace")]
