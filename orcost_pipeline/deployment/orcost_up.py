"""`orcost up`: code server, daemon and webserver of one home, and its embedded Postgres.

The webserver listens on the loopback address only, the code server on a socket that only this user can reach.

They are separate processes, as Dagster advises for production; `supervision.py` keeps them running. Only one process
at a time serves a home and a database: two daemons on one storage would each launch every run.
"""

import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

from sqlalchemy import event
from sqlalchemy.engine import make_url

from orcost_pipeline.deployment.dagster_home import STORAGE_URL, prepare, start_stopped, storage_url
from orcost_pipeline.deployment.supervision import (
    LONGEST_PAUSE,
    STOP_WITHIN,
    Service,
    Surroundings,
    leash,
    locks,
    stop_requested,
    supervise,
)
from orcost_pipeline.errors import PermanentError, TransientError
from orcost_pipeline.health.machine import is_dagster
from orcost_pipeline.settings import LOOPBACK, UP, Settings
from orcost_pipeline.text import message
from orcost_pipeline.warehouse.access import configured_url
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.deployment import sole_deployment
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, EmbeddedPostgresError
from orcost_pipeline.warehouse.failures import database_errors
from orcost_pipeline.warehouse.home import require_home
from orcost_pipeline.warehouse.opening import database_url

# Bytes in the path of a Unix socket: 104 on macOS with its terminator, 108 on Linux.
LONGEST_SOCKET = 100
CODE_SOCKET = "code.sock"
DATABASE_EVERY = 5.0  # seconds

_WORKSPACE = """load_from:
  - grpc_server:
      socket: {socket}
      location_name: orcost_pipeline
"""


class Reserved(NamedTuple):
    """A home and a port reserved for this process, and the file descriptor of the lock that its services hold."""

    home: Path
    port: int
    alive: int

    @property
    def address(self) -> str:
        """The URL of the web interface."""
        return f"http://{LOOPBACK}:{self.port}"


class Web(NamedTuple):
    """How the webserver answers: under which names of proxies in front, and whether its pages may change anything."""

    names: tuple[str, ...] = ()
    is_read_only: bool = False

    @property
    def arguments(self) -> list[str]:
        """As the module takes them."""
        return [*(["--read-only"] if self.is_read_only else []), *self.names]


DEFAULT_WEB = Web()


def up(settings: Settings, port: int, web: Web = DEFAULT_WEB) -> None:
    """Runs database, code server, daemon and webserver until interrupted.

    Raises PermanentError where home, port or database cannot be had, TransientError where a service does not start.
    """
    with reserved(settings.home, port) as ours:
        _say("Opening the database …")
        serve(settings, ours, web=web)


@contextmanager
def reserved(home: Path, port: int, end_within: float = 2 * STOP_WITHIN) -> Iterator[Reserved]:
    """Reserves home and port for this process, after the services of a killed predecessor have ended.

    end_within: seconds that they are waited for. Raises PermanentError where another process has them or the home is
    not writable, TransientError where services of a predecessor do not end.
    """
    require_home(home)
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.lock").open("a+", encoding="utf-8") as ours, (home / "services.lock").open("a") as alive:
        if not locks(ours):
            ours.seek(0)
            raise PermanentError(
                f"Dagster is served already over {home}: {ours.read().strip()}.\n"
                "Use that one, or stop it first. Another deployment needs a home of its own: ORCOST_HOME=…"
            )
        _await_predecessors(alive, end_within)
        _require_free(port)
        made = Reserved(home, port, alive.fileno())
        ours.truncate(0)
        ours.write(f"process {os.getpid()}, {made.address}")
        ours.flush()
        yield made


def serve(settings: Settings, ours: Reserved, stop_database: str = "orcost db stop", web: Web = DEFAULT_WEB) -> None:
    """Serves Dagster until interrupted or terminated; at the end prints how to stop the embedded Postgres.

    Raises PermanentError where another `orcost up` serves the database, TransientError where a service does not start.
    """
    log = ours.home / "logs" / "services.log"
    with (
        _database_alone(settings) as is_alone,
        stop_requested() as stop,
        leash() as end,
        _private_folder(ours.home) as private,
    ):
        prepare(settings)
        if started := start_stopped():
            _say(f"Switched on again, as somebody had switched it off: {', '.join(started)}.")
        os.environ[UP] = "1"
        services = _dagster(ours.home / "dagster" / "workspace.yaml", private / CODE_SOCKET, ours.port, web)
        database = None if settings.database_url else KeptDatabase(EmbeddedPostgres(settings.home), services)
        _say("Starting code server, daemon and webserver …")
        supervise(
            services,
            Surroundings(end, ours.alive, log),
            stop,
            _say,
            f"Dagster is ready: {ours.address} (Ctrl-C stops it)",
            look_after=lambda: is_alone() or (database.tend() if database else None),
        )
    _say("Stopped.")
    if database:
        _say(f"The embedded Postgres stays up, for reports and BI tools. To stop it: {stop_database}")


@contextmanager
def _database_alone(settings: Settings) -> Iterator[Callable[[], None]]:
    """Reserves the database for this process before anything in it is migrated; raises PermanentError where another
    `orcost up` has it. Yields a function that raises the same if the reservation is lost."""
    configured = configured_url(settings)
    process, since = f"process {os.getpid()} on {socket.gethostname()}", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    with database_errors():
        engine = connect(database_url(configured, settings.home))
        if configured is None:
            event.listen(engine, "do_connect", _at_port_of(EmbeddedPostgres(settings.home)))
        with sole_deployment(engine, f"{process}, home {settings.home}, since {since}") as is_alone:
            yield is_alone


def _at_port_of(server: EmbeddedPostgres) -> Callable[..., None]:
    """A connect handler that uses the server's current port, which may change when it is started again."""

    def connect_there(_dialect: object, _record: object, _arguments: object, parameters: dict[str, object]) -> None:
        with suppress(EmbeddedPostgresError):
            if url := server.url():
                parameters["port"] = make_url(url).port

    return connect_there


def _dagster(workspace: Path, code: Path, port: int, web: Web) -> list[Service]:
    """Code server (on the socket `code`), daemon and webserver, in the order in which they need each other."""
    # A string of JSON is one of YAML.
    workspace.write_text(_WORKSPACE.format(socket=json.dumps(str(code))), encoding="utf-8")
    # Not `dagster code-server start`: it wraps the actual server in another process and does not notice its death.
    grpc = ("api", "grpc", "--socket", str(code), "-m", "orcost_pipeline.definitions")
    return [
        Service(
            *("code server", "dagster", *grpc, "--location-name", "orcost_pipeline"),
            is_ready=lambda: _serves(code),
        ),
        Service("daemon", "dagster._daemon", "run", "-w", str(workspace)),
        Service(
            *("webserver", "orcost_pipeline.deployment.webserver", str(port), str(workspace), *web.arguments),
            is_ready=lambda: is_dagster(port) is True,
        ),
    ]


@contextmanager
def _private_folder(home: Path) -> Iterator[Path]:
    """A folder that only this user can enter, for the socket of the code server: whoever reaches it runs code as us.

    In the home, or in a temporary folder where the path of a socket there would be too long.
    """
    folder = home / "private"
    if len(os.fsencode(folder / CODE_SOCKET)) <= LONGEST_SOCKET:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)  # whatever the umask, or whoever made it
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="orcost-", dir="/tmp") as temporary:
            yield Path(temporary)


class KeptDatabase:
    """The embedded Postgres, which outlives this process and is started again if it dies earlier."""

    def __init__(self, server: EmbeddedPostgres, services: Sequence[Service], every: float = DATABASE_EVERY) -> None:
        self._server = server
        self._every = every
        self._services = services
        self._due_at = 0.0

    def tend(self) -> str | None:
        """Starts the server if it has died; returns a message about it, None if nothing happened."""
        if time.monotonic() < self._due_at:
            return None
        self._due_at = time.monotonic() + self._every
        try:
            if self._server.url() is not None:
                return None
            self._restart_if_moved(storage_url(self._server.start()))
        except EmbeddedPostgresError as error:
            self._due_at += LONGEST_PAUSE
            return str(error)
        return "The embedded Postgres had ended; it was started again."

    def _restart_if_moved(self, url: str) -> None:
        """Restarts Dagster's services where the server has a new port, which they read only at their start."""
        if url != os.environ[STORAGE_URL]:
            os.environ[STORAGE_URL] = url
            for service in self._services:
                service.kill()


def _await_predecessors(alive: IO[str], end_within: float) -> None:
    """Takes the lock once no service of an earlier supervisor is left; raises TransientError if that takes too long."""
    deadline = time.monotonic() + end_within
    if not locks(alive):
        _say("Waiting for the services of one that was killed to end …")
    while not locks(alive):
        if time.monotonic() > deadline:
            raise TransientError(
                "Services of an orcost that was killed do not end. See: ps -ef | grep deployment.service"
            )
        time.sleep(0.1)


def _say(text: str) -> None:
    """Prints a message on stderr; a closed terminal or pipe is ignored."""
    with suppress(OSError):
        sys.stderr.write(f"{message(text)}\n")
        sys.stderr.flush()


# Ports


def _require_free(port: int) -> None:
    """Raises PermanentError with a free port where this one is not available."""
    if why := _refusal(port):
        free = next((other for other in range(max(port, 3000) + 1, 65_536) if not _refusal(other)), 3000)
        raise PermanentError(f"Port {port} {why}. Choose another, such as: --port {free}")


def _refusal(port: int) -> str | None:
    """Why the webserver could not listen on the port; None where it could."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the webserver does
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return "is not for ordinary users" if isinstance(error, PermissionError) else "is taken"
    return "is taken" if _listens(port) else None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def _serves(path: Path) -> bool:
    """Whether a process listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
