"""Programs that a benchmark starts, each a process of its own: how long it took, and how much memory at most.

Run as a program, this file is the launcher between the two. The kernel counts the memory of whoever starts a program
as the program's, until it has started; the launcher is smaller than anything that is measured.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).parents[1]


class Ended(NamedTuple):
    """An ended program: its exit code (negative: the signal that ended it), seconds, largest memory in MB, output.

    Memory is that of the largest of its processes.
    """

    code: int
    seconds: float
    memory_mb: float
    output: str


def run(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str], *, kill_after: float | None = None
) -> Ended:
    """Runs it in `folder` to its end; after `kill_after` seconds SIGKILL ends it and its children."""
    launcher = [sys.executable, "-I", "-S", __file__, json.dumps(kill_after), *command]
    told = subprocess.run(launcher, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True).stdout
    return Ended(*json.loads(told))


def succeeded(ended: Ended) -> Ended:
    """The same program; raises AssertionError with the end of its output where it failed."""
    assert ended.code == 0, f"exit code {ended.code}: {ended.output[-3_000:]}"
    return ended


def _launch(command: Sequence[str], kill_after: float | None) -> Ended:
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        killer = threading.Timer(kill_after or 0, os.killpg, (process.pid, signal.SIGKILL))
        if kill_after is not None:
            killer.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)  # Popen knows nothing of wait4
        output.seek(0)
        return Ended(process.returncode, seconds, usage.ru_maxrss / 1024, output.read().decode(errors="replace"))


if __name__ == "__main__":
    print(json.dumps(_launch(sys.argv[2:], json.loads(sys.argv[1]))))
