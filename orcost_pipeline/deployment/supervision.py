"""Processes kept running: started in order, started again when they die, stopped together. Nothing of Dagster here.

Each service is a module that leads a process group, on a leash (`service.py`): however the supervisor ends, nothing of
theirs stays. Belongs here: processes, signals, their log. Stays out: which services there are, and what they need.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from orcost_pipeline.errors import TransientError

READY_WITHIN = 120.0
STOP_WITHIN = 15.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
STEADY_AFTER = 60.0  # what has run as long as this dies anew, not again
LONGEST_LOG = 10_000_000

Stop = Callable[[], int]
Say = Callable[[str], None]


class Surroundings(NamedTuple):
    """What all services are given: their leash, the lock that says that one of them lives, their log."""

    leash: int
    alive: int
    log: Path


class Service:
    """A module in a process that leads a group of its own; when it dies it is started again, later each time."""

    def __init__(
        self,
        name: str,
        module: str,
        *arguments: str,
        is_ready: Callable[[], bool] = lambda: True,
        longest_pause: float = LONGEST_PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.is_ready = is_ready
        self._command = (module, *arguments)
        self._longest_pause = longest_pause
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._pause = 0.0
        self._started_at = self._due_at = 0.0

    def start(self, given: Surroundings) -> None:
        self._started_at = self._clock()
        # -P: a file of the user's folder is never taken for a module.
        wrapper = [sys.executable, "-P", "-m", "orcost_pipeline.deployment.service", str(given.leash)]
        with given.log.open("ab") as log:
            # A session of its own: the terminal's Ctrl-C reaches us alone, and we stop them in order.
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and modules)
                [*wrapper, *self._command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(given.leash, given.alive),
            )

    def tend(self, given: Surroundings) -> str | None:
        """Starts what is due; returns what to say of a death."""
        if self._process is not None:
            how = self.death()
            return self._start_later(how, given) if how else None
        if self._clock() < self._due_at:
            return None
        try:
            self.start(given)
        except OSError as error:  # too many processes, no memory
            return self._start_later(f"cannot be started ({error.strerror})", given)
        return None

    def _start_later(self, how: str, given: Surroundings) -> str:
        self.kill()
        self._process = None
        was_steady = self._clock() - self._started_at > STEADY_AFTER
        self._pause = FIRST_PAUSE if was_steady or not self._pause else min(2 * self._pause, self._longest_pause)
        self._due_at = self._clock() + self._pause
        return f"The {self.name} {how}; it starts again in {self._pause:.0f} s. Log: {given.log}"

    def death(self) -> str | None:
        """How the process ended; None while it lives, or before it was started."""
        code = self._process.poll() if self._process else None
        if code is None:
            return None
        return f"was killed (signal {-code})" if code < 0 else f"ended (exit code {code})"

    def is_gone(self) -> bool:
        """Whether nothing of the group is left; its leader, if it has ended, is reaped."""
        return self._process is None or (self._process.poll() is not None and not self.signal(0))

    def signal(self, number: int) -> bool:
        """Signals the whole group; False where nobody is left in it."""
        if self._process is None:
            return False
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS denies signals to what has ended
            return False
        return True

    def kill(self) -> None:
        """Kills what is left of the group."""
        self.signal(signal.SIGKILL)
        if self._process:
            self._process.wait()


def supervise(
    services: Sequence[Service],
    given: Surroundings,
    stop: Stop,
    say: Say,
    ready: str,
    look_after: Callable[[], str | None] = lambda: None,
) -> None:
    """Starts the services one after the other, says that they are ready, keeps them running until asked to stop.

    `look_after` is called again and again; what it returns is said.
    """
    try:
        for service in services:
            _limit(given.log)
            service.start(given)
            _wait_until_ready(service, services, given.log, stop)
        if not stop():
            say(ready)
        while not stop():
            for told in (look_after(), *(service.tend(given) for service in services)):
                if told:
                    say(told)
            _limit(given.log)
            time.sleep(0.2)
    finally:
        _stop(services, stop)


def _wait_until_ready(service: Service, services: Sequence[Service], log: Path, stop: Stop) -> None:
    """Returns when the service is ready or a stop is asked for; what dies at the start is not tried again."""
    deadline = time.monotonic() + READY_WITHIN
    while not stop() and not service.is_ready():
        for other in services:
            if how := other.death():
                raise TransientError(f"The {other.name} {how} at its start. {_last_words(log)}")
        if time.monotonic() > deadline:
            raise TransientError(f"The {service.name} was not ready in {READY_WITHIN:.0f} s. {_last_words(log)}")
        time.sleep(0.1)


def _stop(services: Sequence[Service], stop: Stop) -> None:
    """Asks each group to stop, last started first; kills what does not, or all when asked to stop once more."""
    patience = max(stop(), 1)
    for service in reversed(services):
        service.signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_WITHIN
    while time.monotonic() < deadline and stop() <= patience and not all(it.is_gone() for it in services):
        time.sleep(0.05)
    for service in services:
        service.kill()


@contextmanager
def stop_requested() -> Iterator[Stop]:
    """How often a stop was asked for: by INT, TERM, or a terminal that went away (unless nohup says not to mind).

    A signal that is handled here is not ignored by who is started meanwhile, though our own parent may ignore it.
    """
    asked: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda n, _: asked.append(n)) for number in numbers}
    try:
        yield lambda: len(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def leash() -> Iterator[int]:
    """The read end of a pipe whose write end nobody else holds: it ends when this process does."""
    end, held = os.pipe()
    try:
        yield end
    finally:
        os.close(held)
        os.close(end)


def locks(file: IO[str]) -> bool:
    """Takes the file's lock, or has it, unless another process does."""
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _limit(log: Path) -> None:
    """Sets a long log aside; those who append to it go on at its new beginning."""
    if log.exists() and log.stat().st_size > LONGEST_LOG:
        with suppress(OSError):  # a full disk
            shutil.copyfile(log, f"{log}.1")
        os.truncate(log, 0)


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"Log: {log}; its last line: {lines[-1][:200] if lines else 'none'}"
