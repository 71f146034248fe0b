"""One service of `orcost up`: a module, run as by `python -m`, that never outlives its supervisor.

    python -m orcost_pipeline.deployment.service LEASH MODULE [ARGUMENT …]

LEASH is the read end of a pipe whose only write end the supervisor holds. Nothing is ever written to it: end of file
means that the supervisor has ended in whatever way, and then this process and the group that it leads end too.
"""

import io
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import threading

from orcost_pipeline.text import clean

KILLED_AFTER = 8  # seconds in which a group may end by itself

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Lines of a first start and of idle daemons, which are no news to a reader of the log.
_SILENCED = {
    "dagster.daemon.EventLogConsumerDaemon": ("No cursor for event type",),
    "dagster.daemon.MonitoringDaemon": ("Collected ", "Checking run "),
    "dagster.daemon.QueuedRunCoordinatorDaemon": ("Priority sorting and checking tag concurrency limits",),
    "dagster.daemon.SensorDaemon": ("Checking for new runs for sensor", " skipped: "),
}
_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"


def main() -> None:
    """Runs the module of the command line until it ends, or until the supervisor does."""
    leash, module, *arguments = sys.argv[1:]
    threading.Thread(target=_follow, args=(int(leash),), name="leash", daemon=True).start()
    _tidy_log()
    if module.partition(".")[0] == "dagster":
        _leave_env_files_alone()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _follow(leash: int) -> None:
    """Waits for the end of the leash; then terminates the group, and kills what is left after `KILLED_AFTER` s."""
    os.read(leash, 1)
    # Our process id is that of a group only if we lead it; run by hand, this stops no other process.
    group = os.getpid()
    # In a process of its own: this one, with its thread, may end before its children do.
    killer = ["/bin/sh", "-c", f"sleep {KILLED_AFTER}; kill -s KILL -- -{group}"]
    nothing = subprocess.DEVNULL
    subprocess.Popen(killer, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)  # noqa: S603
    os.killpg(group, signal.SIGTERM)


def _tidy_log() -> None:
    """Makes log lines plain, each printed once: Dagster's warnings through the root logger would double all others."""
    sys.stdout = _PlainText(sys.stdout.buffer, encoding="utf-8", errors="replace", line_buffering=True)
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format=_FORMAT, datefmt="%Y-%m-%d %H:%M:%S %z")
    for name in ("dagster", "dagster-webserver"):
        logging.getLogger(name).propagate = False
    for name, phrases in _SILENCED.items():
        logging.getLogger(name).addFilter(_Silence(phrases))


def _leave_env_files_alone() -> None:
    """Stops Dagster from loading the working folder's `.env` over the environment, once for all its runs. `settings.py`
    reads it below the environment and anew for each run, so that a changed key counts from the next run on.
    """
    from dagster._cli import utils

    utils.get_env_var_dict = lambda base_dir: {}  # pyright: ignore[reportPrivateImportUsage]


class _PlainText(io.TextIOWrapper):
    """A stream that removes colours and control characters, whether from Dagster or from names in its lines."""

    def write(self, text: str) -> int:
        super().write("\n".join(clean(line) for line in _COLOUR.sub("", text).split("\n")))
        return len(text)


class _Silence(logging.Filter):
    """Drops records that contain one of the phrases."""

    def __init__(self, phrases: tuple[str, ...]) -> None:
        super().__init__()
        self._phrases = phrases

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(phrase in record.getMessage() for phrase in self._phrases)


if __name__ == "__main__":
    main()
