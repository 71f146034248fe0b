"""Keeps processes running: starts them in order, starts them again when they die, stops them together. No Dagster here.

Each service is a module that leads a process group and ends with the supervisor, however that ends (`service.py`). What
belongs here: processes, signals, their log. What stays out: which services there are, and what they need.
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
STEADY_AFTER = 60.0  # after this many seconds, the next death counts as a first one
LONGEST_LOG = 10_000_000

Stop = Callable[[], int]
Say = Callable[[str], None]


class Surroundings(NamedTuple):
    """What all services share: the leash and the lock (file descriptors), and the log.

    At the end of the leash a service ends itself (`service.py`). The lock is held as long as any service lives, also
    after a kill of the supervisor.
    """

    leash: int
    alive: int
    log: Path


class Service:
    """A module in a process that leads its own group; after each death in a row it is started again later.

    The pause doubles from `FIRST_PAUSE` up to `longest_pause` seconds, and begins anew once the process has lived for
    `STEADY_AFTER` seconds. `is_ready` is asked only at the first start.
    """

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
        """Starts the process; raises OSError where the system cannot."""
        self._started_at = self._clock()
        # -P: files in the user's folder are never imported as modules.
        wrapper = [sys.executable, "-P", "-m", "orcost_pipeline.deployment.service", str(given.leash)]
        with given.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches only the supervisor, which stops the services in order.
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and modules)
                [*wrapper, *self._command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(given.leash, given.alive),
            )

    def tend(self, given: Surroundings) -> str | None:
        """Starts the process when it is due; returns a message about a death, None otherwise."""
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
        """How the process ended, as a predicate; None while it runs or before it was started."""
        code = self._process.poll() if self._process else None
        if code is None:
            return None
        return f"was killed (signal {-code})" if code < 0 else f"ended (exit code {code})"

    def has_ended(self) -> bool:
        """Whether no process of the group is left; reaps its leader."""
        return self._process is None or (self._process.poll() is not None and not self.signal(0))

    def signal(self, number: int) -> bool:
        """Signals the whole group; False where no process is left in it."""
        if self._process is None:
            return False
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS denies signals to ended processes
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
    """Starts the services one after another, prints `ready`, keeps them running until a stop is requested.

    `look_after` is called several times a second; messages that it returns are printed. Raises TransientError where a
    service dies at its start or is not ready in time.
    """
    try:
        for service in services:
            _limit(given.log)
            service.start(given)
            _wait_until_ready(service, services, given.log, stop)
        if not stop():
            say(ready)
        while not stop():
            for text in (look_after(), *(service.tend(given) for service in services)):
                if text:
                    say(text)
            _limit(given.log)
            time.sleep(0.2)
    finally:
        _stop(services, stop)


def _wait_until_ready(service: Service, services: Sequence[Service], log: Path, stop: Stop) -> None:
    """Returns when the service is ready or a stop is requested; raises TransientError if one dies or time is up."""
    deadline = time.monotonic() + READY_WITHIN
    while not stop() and not service.is_ready():
        for other in services:
            if how := other.death():
                raise TransientError(f"The {other.name} {how} at its start. {_last_line(log)}")
        if time.monotonic() > deadline:
            raise TransientError(f"The {service.name} was not ready in {READY_WITHIN:.0f} s. {_last_line(log)}")
        time.sleep(0.1)


def _stop(services: Sequence[Service], stop: Stop) -> None:
    """Terminates each group, the last started first; kills what is left in the end, or at once on a second request."""
    patience = max(stop(), 1)
    for service in reversed(services):
        service.signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_WITHIN
    while time.monotonic() < deadline and stop() <= patience and not all(it.has_ended() for it in services):
        time.sleep(0.05)
    for service in services:
        service.kill()


@contextmanager
def stop_requested() -> Iterator[Stop]:
    """Yields how often a stop was requested: by INT, TERM, or HUP (unless nohup has it ignored).

    A signal handled here is not ignored by processes started meanwhile, even if our parent ignores it.
    """
    received: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in numbers}
    try:
        yield lambda: len(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def leash() -> Iterator[int]:
    """The read end of a pipe whose write end only this process holds, so that it ends with this process."""
    end, held = os.pipe()
    try:
        yield end
    finally:
        os.close(held)
        os.close(end)


def locks(file: IO[str]) -> bool:
    """Takes the lock of a file; False where another process holds it."""
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _limit(log: Path) -> None:
    """Copies a long log aside and empties it; processes that append continue at its new beginning."""
    if log.exists() and log.stat().st_size > LONGEST_LOG:
        with suppress(OSError):  # a full disk
            shutil.copyfile(log, f"{log}.1")
        os.truncate(log, 0)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"Log: {log}; its last line: {lines[-1][:200] if lines else 'none'}"
