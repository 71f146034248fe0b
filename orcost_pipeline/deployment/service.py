"""One service of `orcost up`: a module, run as `python -m` runs it, that never outlives its supervisor.

    python -m orcost_pipeline.deployment.service LEASH MODULE [ARGUMENT …]

LEASH is the read end of a pipe whose only write end the supervisor holds. Nothing is ever written to it: its end of
file means that the supervisor is gone, however it went, and then this process and the group that it leads go too.
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
# A first start, and daemons that have nothing to do, or the same as seconds ago: no news to whoever reads the log.
_SILENCED = {
    "dagster.daemon.EventLogConsumerDaemon": ("No cursor for event type",),
    "dagster.daemon.MonitoringDaemon": ("Collected ", "Checking run "),
    "dagster.daemon.QueuedRunCoordinatorDaemon": ("Priority sorting and checking tag concurrency limits",),
    "dagster.daemon.SensorDaemon": ("Checking for new runs for sensor", " skipped: "),
}
_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"


def main() -> None:
    leash, module, *arguments = sys.argv[1:]
    threading.Thread(target=_follow, args=(int(leash),), name="leash", daemon=True).start()
    _tidy_log()
    if module.startswith("dagster"):
        _leave_env_files_alone()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _follow(leash: int) -> None:
    """Waits for the leash's end; then asks the group to stop, and has what is left of it killed."""
    os.read(leash, 1)
    # Our own id names our group only if we lead it: run by hand, this stops nobody else.
    group = os.getpid()
    # Not from here: this process may end, and its thread with it, before its children do.
    killer = ["/bin/sh", "-c", f"sleep {KILLED_AFTER}; kill -s KILL -- -{group}"]
    nothing = subprocess.DEVNULL
    subprocess.Popen(killer, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)  # noqa: S603
    os.killpg(group, signal.SIGTERM)


def _tidy_log() -> None:
    """Plain lines, each once: where Dagster warns through the root logger, it would double all others from then on."""
    sys.stdout = _PlainText(sys.stdout.buffer, encoding="utf-8", errors="replace", line_buffering=True)
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format=_FORMAT, datefmt="%Y-%m-%d %H:%M:%S %z")
    for name in ("dagster", "dagster-webserver"):
        logging.getLogger(name).propagate = False
    for name, phrases in _SILENCED.items():
        logging.getLogger(name).addFilter(_Silence(phrases))


def _leave_env_files_alone() -> None:
    """Dagster would lay the working folder's `.env` over the environment, once and for all its runs. `settings.py`
    reads it below the environment, and each run anew: so a key that was changed there counts from the next run on.
    """
    from dagster._cli import utils

    utils.get_env_var_dict = lambda base_dir: {}  # pyright: ignore[reportPrivateImportUsage]


class _PlainText(io.TextIOWrapper):
    """Text without the colours that Dagster gives to its log lines, and without those that a name may have."""

    def write(self, text: str) -> int:
        super().write("\n".join(clean(line) for line in _COLOUR.sub("", text).split("\n")))
        return len(text)


class _Silence(logging.Filter):
    """Lets pass what does not contain one of the phrases."""

    def __init__(self, phrases: tuple[str, ...]) -> None:
        super().__init__()
        self._phrases = phrases

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(phrase in record.getMessage() for phrase in self._phrases)


if __name__ == "__main__":
    main()
