"""Dagster's three processes (code server, webserver, daemon) supervised: started, restarted, stopped together.

They run apart, as Dagster advises for real use, and listen on the loopback address only.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rich.console import Console

from orcost_pipeline.errors import PermanentError, TransientError

LOOPBACK = "127.0.0.1"
READY_WITHIN = 120.0
STOP_WITHIN = 15.0

_WORKSPACE = """load_from:
  - grpc_server:
      host: {host}
      port: {port}
      location_name: orcost_pipeline
"""

Processes = dict[str, subprocess.Popen[bytes]]


def serve(home: Path, port: int, console: Console) -> int:
    """Serves Dagster on `port` until interrupted or terminated; raises PermanentError where the port is taken."""
    if _listens(port):
        raise PermanentError(f"Port {port} is taken. Choose another: --port {port + 1}")
    code_port = _free_port()
    commands = _commands(home / "dagster" / "workspace.yaml", code_port, port)
    running: Processes = {}
    with _stop_requested() as stop, (home / "logs" / "services.log").open("ab") as log:
        try:
            console.print("Starting code server, webserver and daemon …")
            running["code server"] = _start(commands["code server"], log)
            _wait_until(lambda: _listens(code_port), running, stop, home)
            for name in ("webserver", "daemon"):
                running[name] = _start(commands[name], log)
            _wait_until(lambda: _answers(port), running, stop, home)
            if not stop():
                console.print(f"Dagster is ready: http://{LOOPBACK}:{port} (Ctrl-C stops it)", markup=False)
            _supervise(commands, running, log, stop, console)
        finally:
            _stop(running)
    console.print("Stopped.")
    return 0


def _commands(workspace: Path, code_port: int, port: int) -> dict[str, list[str]]:
    workspace.write_text(_WORKSPACE.format(host=LOOPBACK, port=code_port), encoding="utf-8")
    module = [sys.executable, "-m"]
    where = ["-h", LOOPBACK, "-p"]
    code = [*where, str(code_port), "-m", "orcost_pipeline.definitions", "--location-name", "orcost_pipeline"]
    return {
        "code server": [*module, "dagster", "code-server", "start", *code],
        "webserver": [*module, "dagster_webserver", *where, str(port), "-w", str(workspace)],
        "daemon": [*module, "dagster._daemon", "run", "-w", str(workspace)],
    }


def _start(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    # A session of its own: the terminal's Ctrl-C reaches us alone, and we stop them in order.
    return subprocess.Popen(  # noqa: S603 (our own interpreter and modules)
        command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
    )


def _wait_until(is_ready: Callable[[], bool], running: Processes, stop: Callable[[], bool], home: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not stop() and not is_ready():
        dead = [name for name, process in running.items() if process.poll() is not None]
        if dead or time.monotonic() > deadline:
            what = f"The {dead[0]} stopped at once" if dead else f"Dagster was not ready in {READY_WITHIN:.0f} s"
            raise TransientError(f"{what}. Its last words are in {home / 'logs' / 'services.log'}.")
        time.sleep(0.3)


def _supervise(
    commands: dict[str, list[str]], running: Processes, log: IO[bytes], stop: Callable[[], bool], console: Console
) -> None:
    """Starts again what dies, not more than once in five seconds."""
    while not stop():
        for name, process in list(running.items()):
            if process.poll() is not None and not stop():
                console.print(f"The {name} died ({process.returncode}); starting it again.")
                time.sleep(5)
                running[name] = _start(commands[name], log)
        time.sleep(0.5)


def _stop(running: Processes) -> None:
    """Asks each to stop, last started first; kills what does not."""
    for process in reversed(list(running.values())):
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_WITHIN
    for process in running.values():
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGKILL)
            process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


@contextmanager
def _stop_requested() -> Iterator[Callable[[], bool]]:
    """Whether INT or TERM came since."""
    asked: list[int] = []
    before = {number: signal.signal(number, lambda n, _: asked.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/server_info", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]
