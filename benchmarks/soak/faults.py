"""The faults of a soak, by name. Each is entered before an hour's sync and left when its runs have ended."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Literal

import httpx

from benchmarks.soak.deployment import ACCOUNTS, Soak, UnreachableError
from orcost_pipeline.simulator import Fault
from orcost_pipeline_tests.processes import eventually

RUN_WITHIN = 150.0  # seconds until a scheduled run has started
FULL_FOR = 30.0  # seconds
STATEMENT_TIMEOUT = "20ms"
SERVICES = {
    "code_server": "dagster",
    "daemon": "dagster._daemon",
    "webserver": "orcost_pipeline.deployment.webserver",
}
Injected = Callable[[Soak], AbstractContextManager[str]]
# These end processes: a message that one of them was sending is sent again, and a heartbeat may be missed.
KILLING = frozenset({"run_worker", "code_server", "daemon", "postgres", "disk_full"})


class SecondDeploymentError(AssertionError):
    """A second `orcost up` was not refused."""


def _of_the_api(*faults: Fault) -> Injected:
    @contextmanager
    def injected(soak: Soak) -> Iterator[str]:
        soak.simulator.inject(*faults)
        yield ""
        soak.simulator.clear_faults()

    return injected


@contextmanager
def refused_key(soak: Soak) -> Iterator[str]:
    """401 for one account until the hour's runs have ended."""
    account = soak.chance.choice(ACCOUNTS)
    header = f"Bearer {soak.ledger.accounts[account].management_key}"

    def is_of_account(request: httpx.Request) -> bool:
        return request.headers.get("Authorization") == header

    soak.simulator.inject(Fault("401", times=None, match=is_of_account))
    yield account
    soak.simulator.clear_faults()


@contextmanager
def killed_worker(soak: Soak) -> Iterator[str]:
    """`kill -9` of a process in which an account is being synced."""
    if not _wait_for_a_run(soak):
        yield "no run"
        return
    time.sleep(3 * soak.chance.random())
    workers = _children(soak.up.pids().get("dagster", -1))
    if workers:
        with suppress(ProcessLookupError):
            os.kill(soak.chance.choice(workers), signal.SIGKILL)
    yield "" if workers else "no worker left"


def _killed_service(name: str) -> Injected:
    @contextmanager
    def killed(soak: Soak) -> Iterator[str]:
        is_during_a_run = soak.chance.random() < 0.5
        if is_during_a_run:
            _wait_for_a_run(soak)
        time.sleep(3 * soak.chance.random())
        # One that has just been killed starts again within seconds.
        eventually(lambda: SERVICES[name] in soak.up.pids())
        os.kill(soak.up.pids()[SERVICES[name]], signal.SIGKILL)
        yield "during a run" if is_during_a_run else "before the run"

    return killed


@contextmanager
def stopped_postgres(soak: Soak) -> Iterator[str]:
    """The embedded Postgres is stopped at once (SIGQUIT) while accounts are being synced."""
    is_running = _wait_for_a_run(soak)
    time.sleep(3 * soak.chance.random())
    data = soak.postgres.data()
    assert data
    os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
    yield "during a run" if is_running else "no run"


@contextmanager
def full_disk(soak: Soak) -> Iterator[str]:
    """The disk of the home is filled to the last byte for a while from the start of the runs on."""
    is_running = _wait_for_a_run(soak)
    ballast = soak.home / "ballast"
    _fill(ballast)
    time.sleep(FULL_FOR)
    ballast.unlink()
    yield "during a run" if is_running else "no run"


@contextmanager
def statement_timeout(soak: Soak) -> Iterator[str]:
    """A time-out so short that it ends most statements, set on the role: it holds for new connections."""
    soak.execute(f"alter role orcost set statement_timeout = '{STATEMENT_TIMEOUT}'")
    try:
        yield STATEMENT_TIMEOUT
    finally:
        soak.execute("alter role orcost reset statement_timeout")


@contextmanager
def second_deployment(soak: Soak) -> Iterator[str]:
    """Another `orcost up` with a home of its own on the same database; raises SecondDeploymentError if it serves."""
    folder = soak.folder / "second"
    folder.mkdir(exist_ok=True)
    for name in ("orcost.toml", "company_mapping.csv"):
        shutil.copy(soak.folder / name, folder)
    url = soak.postgres.url()
    if url is None:
        raise UnreachableError("The embedded Postgres does not run.")
    second = soak.launch(folder, ORCOST_DATABASE_URL=url)
    try:
        code = second.process.wait(120)
    except subprocess.TimeoutExpired:
        code = 0
    finally:
        if second.process.poll() is None:
            second.process.terminate()
            second.process.wait(60)
    if code == 0 or "serves this database already" not in second.told():
        raise SecondDeploymentError(f"A second orcost up was not refused (exit code {code}): {second.told()}")
    yield f"refused, exit code {code}"


@contextmanager
def quiet(_: Soak) -> Iterator[str]:
    """Nothing happens."""
    yield ""


QUIET: Literal["quiet"] = "quiet"
FAULTS: dict[str, Injected] = {
    QUIET: quiet,
    "429": _of_the_api(Fault("429", times=4, retry_after=2)),
    "500": _of_the_api(Fault("500", times=4)),
    "503": _of_the_api(Fault("503", times=4, retry_after=2)),
    "cut_json_200": _of_the_api(Fault("cut_json_200", times=3)),
    "hang": _of_the_api(Fault("hang", times=2, skip=1, seconds=20)),
    "401": refused_key,
    "run_worker": killed_worker,
    **{name: _killed_service(name) for name in SERVICES},
    "postgres": stopped_postgres,
    "disk_full": full_disk,
    "statement_timeout": statement_timeout,
    "second_up": second_deployment,
}


def _wait_for_a_run(soak: Soak) -> bool:
    """Whether a sync runs, or starts in time."""
    return eventually(lambda: soak.holds("select count(*) > 0 from ops.sync_run where status = 'running'"), RUN_WITHIN)


def _children(parent: int) -> list[int]:
    """The run workers that the code server has started."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,command="], capture_output=True, text=True, check=True
    )
    processes = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, of, command in processes if int(of) == parent and "spawn_main" in command]


def _fill(ballast: Path) -> None:
    """Writes until there is no room, first in large pieces."""
    for size in (1 << 20, 4096):
        with ballast.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(b"\0" * size) == size:
                pass
