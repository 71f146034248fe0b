"""A stranger's first minute, and the second time: `orcost init` against a simulated OpenRouter on a real port."""

import io
import os
import re
import select
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa
from dotenv import dotenv_values
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orcost_pipeline import cli
from orcost_pipeline.cli import project_files
from orcost_pipeline.cli.project_files import write_variable
from orcost_pipeline.cli.starter_mapping import SUGGESTIONS, starter_mapping
from orcost_pipeline.companies.assignment import KeyHistory, KeyVersion, explain
from orcost_pipeline.companies.mapping import UNATTRIBUTED, read_mapping
from orcost_pipeline.companies.suggestion import Key, suggest
from orcost_pipeline.settings import load_settings
from orcost_pipeline.simulator import Fault, Ledger, Simulator, serve, small
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.text import clean
from orcost_pipeline_tests import processes
from orcost_pipeline_tests.sampling import examples, sampled
from orcost_pipeline_tests.world import World, usage

ORCOST = str(Path(sys.executable).with_name("orcost"))
VARIABLES = re.compile(r"OPENROUTER_|ORCOST_|NO_COLOR$|FORCE_COLOR$", re.IGNORECASE)
LEDGER: Ledger = small(datetime.now(UTC))
LEDGER.add_account("globex", credits_bought=Decimal(20))
LEDGER.add_account("initech", credits_bought=Decimal(20))
for number, name in enumerate(("prod 7", "Globex", "Hooli Chat", "Hooli prod"), 1):
    used_at = datetime.now(UTC) - timedelta(days=2)
    LEDGER.spend("initech", used_at, LEDGER.add_key("initech", name, used_at), GPT, usage(str(number)))
OLD = "sk-or-v1-0000000000000000000000000000000000000000000000000000000000001234"
MANAGEMENT = LEDGER.accounts["acme"].management_key
GLOBEX = LEDGER.accounts["globex"].management_key
ORDINARY = next(iter(LEDGER.accounts["acme"].keys.values()))[-1][1]
SECRETS = (MANAGEMENT, GLOBEX, LEDGER.accounts["initech"].management_key, ORDINARY.secret, OLD)
# As root, files may be written whatever their mode; without its capabilities root is a user like any other.
AS_A_USER = () if os.geteuid() else ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
needs_a_user = pytest.mark.skipif(not os.geteuid() and not shutil.which("setpriv"), reason="root may write anywhere")
WITHOUT_STDIN = ("sh", "-c", 'exec "$@" <&-', "sh")
# A child whose controlling terminal is its stdin, as a shell starts it; who starts us may ignore SIGINT.
IN_FRONT = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Orcost = Callable[..., Outcome]


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(LEDGER)


@pytest.fixture(scope="module")
def base_url(simulator: Simulator) -> Iterator[str]:
    with serve(simulator) as url:
        yield url


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, base_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the current one, and an environment that only says where OpenRouter is."""
    for name in list(os.environ):
        if VARIABLES.match(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENROUTER_BASE_URL", base_url)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def orcost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Orcost:
    """Runs `orcost init` in this process, lines on its stdin; whatever it says, it says no key."""

    def run(*arguments: str, lines: Sequence[str] = ()) -> Outcome:
        typed = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            cli.main(["init", *arguments])
        code = ending.value.code
        outcome = Outcome(code if isinstance(code, int) else 0, *capsys.readouterr())
        assert not any(secret in outcome.out + outcome.err for secret in SECRETS)
        return outcome

    return run


def program(*arguments: str, before: Sequence[str] = (), **options: object) -> Outcome:
    """Runs the installed `orcost init` as its users do."""
    command = [*before, ORCOST, "init", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload]
    return Outcome(done.returncode, done.stdout, done.stderr)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def keys() -> dict[str, str | None]:
    """What every later command finds."""
    return {a.name: a.api_key.get_secret_value() if a.api_key else None for a in load_settings().accounts}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_env(folder: Path, text: str) -> Path:
    path = folder / ".env"
    path.write_bytes(text.encode())
    return path


# ── the first minute ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_lines_on_stdin_connect_an_account(folder: Path) -> None:
    outcome = program(input=f"\n{MANAGEMENT}\n")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        'Account "default": a management key, which lists 3 keys in 2 workspaces. Balance: 388.25 USD.',
        "  .gitignore: now has .env and .orcost/",
        "  .env: OPENROUTER_API_KEY is written; only you can read the file",
        "  company_mapping.csv: a starter with 3 suggestions, without effect until you edit it",
        "Next: orcost sync (or orcost up, which syncs every hour)",
    ]
    assert sorted(files(folder)) == [".env", ".gitignore", "company_mapping.csv"]
    assert (folder / ".env").read_text() == f"OPENROUTER_API_KEY={MANAGEMENT}\n"
    assert mode(folder / ".env") == 0o600
    assert keys() == {"default": MANAGEMENT}


def at_a_terminal(*steps: tuple[str, str]) -> tuple[int, str]:
    """Runs `orcost init` in front of a person who waits for a text, then types; exit code and all that was shown."""
    person, terminal = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", IN_FRONT, ORCOST, "init"], stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    shown = ""
    try:
        for awaited, typed in steps:
            while awaited not in shown:
                shown += _seen(person)
            os.write(person, typed.encode())
        code = child.wait(timeout=60)
        while more := _seen(person):
            shown += more
    finally:
        child.kill()
        child.wait()
        os.close(person)
    return code, shown


def _seen(person: int) -> str:
    """The next text on the screen; blank once the program has ended."""
    assert select.select([person], [], [], 60)[0], "nothing more is shown"
    try:
        return os.read(person, 65_536).decode()
    except OSError:
        return ""


def test_at_a_terminal_the_name_is_asked_and_the_key_is_not_shown(folder: Path) -> None:
    code, shown = at_a_terminal(("[default]: ", "acme\n"), ("as you type: ", f"{MANAGEMENT}\n"))
    assert code == 0
    assert MANAGEMENT not in shown
    assert f"to the project in {folder}" in shown
    assert 'Account "acme": a management key' in shown
    assert keys() == {"acme": MANAGEMENT}


@pytest.mark.parametrize(
    "steps",
    sampled([[("[default]: ", "\x03")], [("[default]: ", "\n"), ("as you type: ", "\x03")]], 1),
    ids=["at the name", "at the key"],
)
def test_who_interrupts_a_question_leaves_no_trace(folder: Path, steps: list[tuple[str, str]]) -> None:
    code, shown = at_a_terminal(*steps)
    assert code == 130
    assert files(folder) == {}
    assert "Traceback" not in shown


@pytest.mark.slow
def test_at_a_terminal_an_end_of_input_is_no_key(folder: Path) -> None:
    code, shown = at_a_terminal(("[default]: ", "\n"), ("as you type: ", "\x04"))
    assert (code, files(folder)) == (1, {})
    assert "No key was given; nothing was written." in shown


@pytest.mark.slow
def test_without_a_stdin_and_without_a_key_it_ends(folder: Path) -> None:
    outcome = program(before=WITHOUT_STDIN)
    assert (outcome.code, outcome.out, files(folder)) == (1, "", {})
    assert outcome.err.startswith("No key was given; nothing was written.")


@pytest.mark.slow
@pytest.mark.parametrize("stdin", ["closed", "empty", "silent"])
def test_with_a_key_in_the_environment_nobody_is_asked(monkeypatch: pytest.MonkeyPatch, stdin: str) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", MANAGEMENT)
    reader, writer = os.pipe()
    if stdin == "closed":
        outcome = program(before=WITHOUT_STDIN)
    else:
        outcome = program(stdin=reader if stdin == "silent" else subprocess.DEVNULL)
    os.close(reader)
    os.close(writer)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("The key is taken from OPENROUTER_API_KEY of the environment")
    monkeypatch.delenv("OPENROUTER_API_KEY")
    assert keys() == {"default": MANAGEMENT}


@pytest.mark.slow
@needs_a_user
def test_a_folder_that_may_not_be_written_is_told_before_anything_is_asked(folder: Path) -> None:
    folder.chmod(0o555)
    outcome = program(before=AS_A_USER, stdin=subprocess.DEVNULL)
    folder.chmod(0o755)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == f"{folder} is a folder that you may not write to. Run orcost init in one of your own.\n"
    assert files(folder) == {}


@pytest.mark.slow
@needs_a_user
def test_an_env_that_may_not_be_read_is_told_in_a_sentence(folder: Path) -> None:
    write_env(folder, "A=1\n").chmod(0)
    outcome = program(before=AS_A_USER, input=f"\n{MANAGEMENT}\n")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(f"{folder / '.env'} cannot be read")


def test_an_ordinary_key_is_taken_and_its_limits_are_told(folder: Path, orcost: Orcost) -> None:
    outcome = orcost(lines=["", ORDINARY.secret])
    assert outcome.code == 0
    assert outcome.out.splitlines()[:2] == [
        'Account "default": an ordinary key, which reports only its own cost: one project, no models or tokens, '
        "no history before this month.",
        "For all keys by model: make a management key at openrouter.ai/settings/management-keys, then run orcost init "
        "again.",
    ]
    assert keys() == {"default": ORDINARY.secret}
    assert "\n## No suggestion for 1 key (10.85 USD)" in (folder / "company_mapping.csv").read_text()


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["", OLD], "…1234)"),
        (["", "no key at all"], 'OpenRouter refused the key of account "default" (401, …)'),
        (["", "sk-or-v1-\udcff"], "has characters that no key has"),
        (["", ""], "No key was given; nothing was written."),
        ([], "No key was given; nothing was written."),
        ([MANAGEMENT], "That was a key, where the account's name was asked for; nothing was written."),
        (["a/b", MANAGEMENT], "That is not a valid account name"),
        (["a" * 101, MANAGEMENT], "That is not a valid account name"),
    ],
)
def test_what_cannot_be_proven_is_not_written(folder: Path, orcost: Orcost, lines: list[str], sentence: str) -> None:
    outcome = orcost(lines=lines)
    assert (outcome.code, outcome.out) == (1, "")
    assert sentence in outcome.err
    assert len(outcome.err.splitlines()) <= 3
    assert not any(line in outcome.err for line in filter(None, lines))
    assert files(folder) == {}


@pytest.mark.parametrize("arguments", [("--name", MANAGEMENT), ("--name", ""), (MANAGEMENT,), ("--key", MANAGEMENT)])
def test_a_key_is_no_argument_and_is_not_repeated(folder: Path, orcost: Orcost, arguments: tuple[str, ...]) -> None:
    assert orcost(*arguments, lines=["", MANAGEMENT]).code in (1, 2)
    assert files(folder) == {}


@pytest.mark.slow
def test_a_server_that_is_down_is_told_soon(folder: Path, orcost: Orcost, simulator: Simulator) -> None:
    """Somebody waits, who can try again: a sync would be more patient."""
    simulator.inject(Fault("503", times=None))
    simulator.forget_requests()
    outcome = orcost(lines=["", MANAGEMENT])
    simulator.clear_faults()
    assert (outcome.code, outcome.out, files(folder)) == (1, "", {})
    assert 'GET /key of account "default" answered 503' in outcome.err
    assert 1 < simulator.count < 100


@pytest.mark.slow
def test_an_address_where_nobody_answers_is_told(folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_BASE_URL", "http://127.0.0.1:9/api/v1")
    outcome = orcost(lines=["", MANAGEMENT])
    assert (outcome.code, outcome.out, files(folder)) == (1, "", {})
    assert "OpenRouter or the network is down" in outcome.err


def test_a_key_of_another_account_would_count_twice(folder: Path, orcost: Orcost) -> None:
    assert orcost("--name", "acme", lines=[MANAGEMENT]).code == 0
    before = files(folder)
    outcome = orcost("--name", "beta", lines=[MANAGEMENT])
    assert outcome.code == 1
    assert 'Account "acme" has this key already; as "beta", its costs would count twice.' in outcome.err
    assert files(folder) == before


@pytest.mark.parametrize("name", [".gitignore", ".env", "orcost.toml", "company_mapping.csv"])
def test_a_folder_in_the_place_of_a_file_is_left_alone(folder: Path, orcost: Orcost, name: str) -> None:
    (folder / name).mkdir()
    outcome = orcost("--name", "acme", lines=[MANAGEMENT])
    assert (folder / name).is_dir()
    assert ".env" not in files(folder) or name == "company_mapping.csv"
    if name == "company_mapping.csv":
        assert "  company_mapping.csv: kept" in outcome.out.splitlines()
    else:
        assert (outcome.code, outcome.out.splitlines()[1:]) == (1, [])
        assert outcome.err.startswith(f"{folder / name} could not be written (Is a directory).")


# ── .env ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_key_is_in_no_file_that_others_can_read_even_for_an_instant(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is made, others may not look; the mode is looked at when it becomes `.env`."""
    seen: list[tuple[bool, int, int]] = []
    replace = Path.replace

    def look(made: Path, target: Path) -> Path:
        seen.append((target.exists(), mode(made.parent), mode(made)))
        return replace(made, target)

    monkeypatch.setattr(Path, "replace", look)
    umask = os.umask(0)
    try:
        assert orcost(lines=["", MANAGEMENT]).code == 0
    finally:
        os.umask(umask)
    assert seen == [(False, 0o700, 0o600)]
    assert mode(folder / ".env") == 0o600


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_env(folder, f"OPENROUTER_API_KEY={OLD}\n")

    def no_space(made: Path, *_: str, **__: str) -> None:
        made.write_text("half a")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(project_files, "set_key", no_space)
    outcome = orcost(lines=["", MANAGEMENT])
    assert outcome.code == 1
    assert outcome.err.startswith(f"{folder} could not be written (No space left on device).")
    assert sorted(path.name for path in folder.iterdir()) == [".env", ".gitignore"]
    assert keys() == {"default": OLD}


def test_a_second_time_replaces_the_key_and_nothing_else(folder: Path, orcost: Orcost) -> None:
    path = write_env(folder, f"# mine\nORCOST_HOME=state\nOPENROUTER_API_KEY='{OLD}'\n\nDEBUG=1 # mine")
    path.chmod(0o644)
    (folder / "company_mapping.csv").write_text("company,match,pattern\nA,key_name,*\n")
    (folder / ".gitignore").write_text(".env\nstate/\n")
    before = files(folder)
    outcome = orcost(lines=["", MANAGEMENT])
    assert outcome.code == 0
    assert outcome.out.splitlines()[1:-1] == [
        "  .gitignore: kept",
        "  .env: OPENROUTER_API_KEY is replaced; it was sk-or-v1-…1234",
        "  company_mapping.csv: kept",
    ]
    assert files(folder) == before | {
        ".env": f"# mine\nORCOST_HOME=state\nOPENROUTER_API_KEY={MANAGEMENT}\n\nDEBUG=1 # mine".encode()
    }
    assert mode(path) == 0o600


def test_the_same_key_again_changes_nothing(folder: Path, orcost: Orcost) -> None:
    orcost("--name", "acme", lines=[MANAGEMENT])
    before = files(folder)
    outcome = orcost("--name", "acme", lines=[MANAGEMENT])
    assert outcome.out.splitlines()[1:-1] == [
        "  .gitignore: kept",
        "  .env: OPENROUTER_API_KEY_ACME is kept, it is the same; only you can read the file",
        "  company_mapping.csv: kept",
    ]
    assert files(folder) == before


def test_a_link_stays_a_link_and_its_file_is_written(folder: Path, orcost: Orcost, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "env").write_text("A=1\n")
    (folder / ".env").symlink_to(secrets / "env")
    assert orcost(lines=["", MANAGEMENT]).code == 0
    assert (folder / ".env").is_symlink()
    assert (secrets / "env").read_text() == f"A=1\nOPENROUTER_API_KEY={MANAGEMENT}\n"
    assert mode(secrets / "env") == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes files of others")
def test_a_file_that_root_writes_stays_its_owners(folder: Path, orcost: Orcost) -> None:
    os.chown(write_env(folder, ""), 12_345, 12_345)
    assert orcost(lines=["", MANAGEMENT]).code == 0
    assert ((folder / ".env").stat().st_uid, (folder / ".env").stat().st_gid) == (12_345, 12_345)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "K=v\n"),
        ("A=1", "A=1\nK=v\n"),
        ("K=\nA=1\n", "K=v\nA=1\n"),
        ("# K=x\nK = old # mine\nA=1 # mine\n", "# K=x\nK=v\nA=1 # mine\n"),
        ('export A=0\nexport K="old\nof two lines"\nA=1\n', "export A=0\nK=v\nA=1\n"),
        ("K=one\nA=1\nK=two\n", "K=v\nA=1\nK=v\n"),
        ("XK=1\nK2=2\nk=3\n", "XK=1\nK2=2\nk=3\nK=v\n"),
        ("NON SENSE\nA='1\nK=old\n", "NON SENSE\nA='1\nK=v\n"),
    ],
)
def test_a_variable_is_written_where_it_stands_and_others_stay(folder: Path, before: str, after: str) -> None:
    path = write_env(folder, before)
    write_variable(path, "K", "v")
    assert path.read_text() == after


@pytest.mark.parametrize(
    ("value", "written"),
    [(OLD, OLD), ("a.b:c/d+e=@%", "a.b:c/d+e=@%"), ("a #b", "'a #b'"), ("it's \\", "'it\\'s \\\\'")],
)
def test_only_a_value_that_needs_quotes_has_them(folder: Path, value: str, written: str) -> None:
    """docker's --env-file would take them for a part of the key."""
    path = folder / ".env"
    write_variable(path, "K", value)
    assert path.read_text() == f"K={written}\n"
    assert dotenv_values(path) == {"K": value}


def test_the_project_above_is_the_one_that_is_connected(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "orcost.toml").write_text("# nothing yet\n")
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert orcost(lines=["", MANAGEMENT]).code == 0
    assert sorted(files(folder)) == [".env", ".gitignore", "company_mapping.csv", "orcost.toml"]
    assert keys() == {"default": MANAGEMENT}


# ── orcost.toml ──────────────────────────────────────────────────────────────────────────────────────────────────────

ACME = '[[accounts]]\nname = "acme"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n'
DEFAULT = '[[accounts]]\nname = "default"\napi_key_env = "OPENROUTER_API_KEY"\n'


def test_an_account_of_another_name_is_listed(folder: Path, orcost: Orcost) -> None:
    outcome = orcost("--name", "acme", lines=[MANAGEMENT])
    assert "  orcost.toml: now lists acme; restart orcost up if it runs" in outcome.out.splitlines()
    assert (folder / "orcost.toml").read_text().endswith(f".\n\n{ACME}")
    assert (folder / ".env").read_text() == f"OPENROUTER_API_KEY_ACME={MANAGEMENT}\n"
    assert keys() == {"acme": MANAGEMENT}


@pytest.mark.parametrize("before", [None, "", "# later\n"], ids=["no file", "an empty one", "a comment"])
def test_a_second_account_does_not_end_the_first(folder: Path, orcost: Orcost, before: str | None) -> None:
    orcost(lines=["", MANAGEMENT])
    if before is not None:
        (folder / "orcost.toml").write_text(before)
    outcome = orcost(lines=["globex", GLOBEX])
    assert "  orcost.toml: now lists default and globex; restart orcost up if it runs" in outcome.out.splitlines()
    assert keys() == {"default": MANAGEMENT, "globex": GLOBEX}


def test_a_script_adds_a_second_account_by_the_plain_variable(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch
) -> None:
    orcost(lines=["", MANAGEMENT])
    monkeypatch.setenv("OPENROUTER_API_KEY", GLOBEX)
    assert orcost("--name", "globex").code == 0
    monkeypatch.delenv("OPENROUTER_API_KEY")
    assert keys() == {"default": MANAGEMENT, "globex": GLOBEX}


def test_an_account_that_was_default_is_not_counted_twice(folder: Path, orcost: Orcost) -> None:
    orcost(lines=["", MANAGEMENT])
    assert orcost("--name", "acme", lines=[MANAGEMENT]).code == 0
    assert keys() == {"acme": MANAGEMENT}


def test_default_is_listed_beside_others(folder: Path, orcost: Orcost) -> None:
    orcost("--name", "acme", lines=[MANAGEMENT])
    before = (folder / "orcost.toml").read_text()
    orcost(lines=["", GLOBEX])
    assert (folder / "orcost.toml").read_text() == f"{before}\n{DEFAULT}"
    assert keys() == {"acme": MANAGEMENT, "default": GLOBEX}


def test_what_is_listed_stays_and_its_variable_is_the_one_that_is_written(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = f'# by hand\r\n{ACME}base_url = "{os.environ["OPENROUTER_BASE_URL"]}" # the proxy'.replace("_ACME", "_X")
    (folder / "orcost.toml").write_bytes(listed.encode())
    monkeypatch.setenv("OPENROUTER_BASE_URL", "http://127.0.0.1:9/api/v1")
    assert orcost("--name", "acme", lines=[MANAGEMENT]).code == 0
    assert (folder / "orcost.toml").read_bytes() == listed.encode()
    assert (folder / ".env").read_text() == f"OPENROUTER_API_KEY_X={MANAGEMENT}\n"


def test_an_entry_is_added_below_whatever_is_there(folder: Path, orcost: Orcost) -> None:
    before = f"# Größe\r\n{ACME}# the end"
    (folder / "orcost.toml").write_bytes(before.encode())
    assert orcost("--name", "globex", lines=[GLOBEX]).code == 0
    assert (folder / "orcost.toml").read_bytes().startswith(f"{before}\n".encode())
    assert keys() == {"acme": None, "globex": GLOBEX}


def test_an_inline_list_is_not_broken(folder: Path, orcost: Orcost) -> None:
    (folder / "orcost.toml").write_text('accounts = [{ name = "acme", api_key_env = "OPENROUTER_API_KEY_ACME" }]\n')
    before = files(folder)
    outcome = orcost("--name", "globex", lines=[GLOBEX])
    assert outcome.code == 1
    assert 'Add name = "globex", api_key_env = "OPENROUTER_API_KEY_GLOBEX" by hand' in outcome.err
    assert files(folder) == before


@pytest.mark.parametrize(
    ("first", "second", "variables"),
    [
        ("acme.eu", "Acme EU", {"OPENROUTER_API_KEY_ACME_EU", "OPENROUTER_API_KEY_ACME_EU_2"}),
        ("a" * 100, "A" * 100, {f"OPENROUTER_API_KEY_{'A' * 100}", f"OPENROUTER_API_KEY_{'A' * 100}_2"}),
    ],
)
def test_no_two_accounts_share_a_variable(
    folder: Path, orcost: Orcost, first: str, second: str, variables: set[str]
) -> None:
    orcost("--name", first, lines=[MANAGEMENT])
    orcost("--name", second, lines=[GLOBEX])
    assert keys() == {first: MANAGEMENT, second: GLOBEX}
    assert dotenv_values(folder / ".env").keys() == variables


def test_the_configuration_may_be_elsewhere(folder: Path, orcost: Orcost, tmp_path: Path) -> None:
    elsewhere = tmp_path / "accounts.toml"
    elsewhere.write_text(ACME)
    write_env(folder, f"ORCOST_CONFIG={elsewhere}\n")
    outcome = orcost("--name", "globex", lines=[GLOBEX])
    assert f"  {elsewhere}: now lists globex" in outcome.out
    assert [entry["name"] for entry in tomllib.loads(elsewhere.read_text())["accounts"]] == ["acme", "globex"]
    assert not (folder / "orcost.toml").exists()
    assert keys() == {"acme": None, "globex": GLOBEX}


# ── the environment's keys ───────────────────────────────────────────────────────────────────────────────────────────


def test_an_accounts_own_variable_comes_before_the_plain_one(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", MANAGEMENT)
    monkeypatch.setenv("OPENROUTER_API_KEY_GLOBEX_EU", GLOBEX)
    outcome = orcost("--name", "globex-eu")
    assert outcome.out.startswith("The key is taken from OPENROUTER_API_KEY_GLOBEX_EU of the environment")
    assert keys() == {"default": MANAGEMENT, "globex-eu": GLOBEX}


def test_the_plain_variable_serves_an_account_of_another_name(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", MANAGEMENT)
    assert orcost("--name", "acme").out.startswith("The key is taken from OPENROUTER_API_KEY of the environment")
    assert keys() == {"acme": MANAGEMENT}
    assert (folder / ".env").read_text() == f"OPENROUTER_API_KEY_ACME={MANAGEMENT}\n"


def test_the_plain_variable_is_not_taken_from_the_account_that_reads_it(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "orcost.toml").write_text(DEFAULT)
    monkeypatch.setenv("OPENROUTER_API_KEY", MANAGEMENT)
    assert orcost("--name", "globex", lines=[GLOBEX]).code == 0
    assert keys() == {"default": MANAGEMENT, "globex": GLOBEX}


@pytest.mark.parametrize("line", ["OPENROUTER_API_KEY", "# nothing"])
def test_a_key_in_the_file_is_no_key_in_the_environment(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", " ")
    write_env(folder, f"{line}={OLD}\n")
    outcome = orcost()
    assert outcome.code == 1
    assert "No key was given" in outcome.err


# ── .gitignore ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def repository(folder: Path) -> Path:
    git(folder, "init", "--quiet")
    return folder


def git(folder: Path, *arguments: str) -> int:
    """git as it is without anybody's own settings."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(folder)}
    return subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True).returncode


def git_ignores(folder: Path, path: str) -> bool:
    return git(folder, "check-ignore", "--no-index", "--quiet", path) == 0


@pytest.mark.parametrize(
    ("before", "added"),
    [
        (None, ".env\n.orcost/\n"),
        ("*.pyc", "\n.env\n.orcost/\n"),
        ("*.pyc\r\n.env\r\n", ".orcost/\n"),
        (".env\n.orcost/\n", ""),
        (".env\n!.env.example\n.orcost/\n", ""),
        ("!.env*\n.or?ost\n", ".env\n.orcost/\n"),
        ("# .env\n .env\n.env/\nsub/.env\n", ".env\n.orcost/\n"),
    ],
)
def test_git_ignores_key_and_state_afterwards(repository: Path, orcost: Orcost, before: str | None, added: str) -> None:
    if before is not None:
        (repository / ".gitignore").write_bytes(before.encode())
    assert orcost(lines=["", MANAGEMENT]).code == 0
    assert (repository / ".gitignore").read_bytes() == ((before or "") + added).encode()
    assert git_ignores(repository, ".env")
    assert git_ignores(repository, ".orcost/logs/orcost.log")


@pytest.mark.parametrize(
    ("home", "added"),
    [("state/here", ".env\nstate/here/\n"), ("state/../s", ".env\ns/\n"), ("..", ".env\n"), (".", ".env\n")],
)
def test_the_state_is_ignored_where_it_is_in_the_project(
    repository: Path, orcost: Orcost, home: str, added: str
) -> None:
    write_env(repository, f"ORCOST_HOME={home}\n")
    assert orcost(lines=["", MANAGEMENT]).code == 0
    assert (repository / ".gitignore").read_text() == added


# ── the starter mapping ──────────────────────────────────────────────────────────────────────────────────────────────


def key(number: int, name: str, usage: int = 0) -> Key:
    seen = datetime(2026, 1, 1, tzinfo=UTC)
    return Key("acme", KeyHistory(f"{number:064x}", (KeyVersion(seen, name, ""),)), UNATTRIBUTED, Decimal(usage))


def uncommented(text: str) -> bytes:
    return re.sub("^# ", "", text, flags=re.MULTILINE).encode()


HOSTILE = (
    *("", " ", "*", "?", "#", "# ", '"', "'", ",", ";", "\n", "\r\n", "\r", "\t", "\0", "\x1b[2J", "\u2028", "\ufeff"),
    *(
        "\ud800",
        "\u3000",
        "=1+1",
        "Unattributed",
        "UNATTRIBUTED",
        "Company A",
        "company,match,pattern",
        "会社",
        "x" * 300,
    ),
)


@settings(max_examples=examples(60))
@given(st.lists(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=3), max_size=4).map("".join), max_size=8))
@example(["Unattributed\u3000A"])
@example(["Company A", "Company A", "Company A ", " #1", "#2", "", "unAttributed", 'a "b", c', "two\nlines", "*"])
def test_every_suggestion_is_what_map_suggest_proposes(names: list[str]) -> None:
    listed = [key(number, name, number) for number, name in enumerate(names)]
    text, count = starter_mapping(listed, None)
    assert read_mapping(text.encode(), "starter").rules == ()
    mapping = read_mapping(uncommented(text), "starter")
    assert mapping.warnings == ()
    proposed = [it for it in suggest(listed, ()) if "�" not in clean(it.company + it.pattern)]
    assert [(rule.shares[0].company, rule.match, rule.pattern) for rule in mapping.rules] == [
        (it.company, it.match, it.pattern) for it in proposed
    ]
    assert count == len(proposed)
    for suggestion, rule in zip(proposed, mapping.rules, strict=True):
        for one in suggestion.keys:
            told = explain("acme", mapping.rules, one.history, date(2026, 11, 23))
            assert (told.rule, told.considered) == (rule, ())


def test_the_dearest_keys_come_first_and_keys_of_one_company_go_together() -> None:
    listed = [key(1, "Acme Staging", 1), key(2, "Globex", 9), key(3, "Acme Chat", 5), key(4, "prod", 2), key(5, "?", 0)]
    assert starter_mapping(listed, None).text.splitlines()[4:] == [
        "## 9.00 USD: Globex; a new company, by its name",
        "# Globex,key_name,Globex,,,,",
        "## 6.00 USD: Acme Chat, Acme Staging; a new company, by its name",
        "# Acme,key_name,Acme *,,,,",
        "## No suggestion for 2 keys (2.00 USD): orcost sync, then: orcost map todo",
    ]


def test_a_list_of_companies_says_whose_the_keys_may_be() -> None:
    listed = [key(1, "Acme Staging", 1), key(2, "Globex", 9)]
    lines = starter_mapping(listed, {"ACME-01": ["Acme"]}).text.splitlines()
    assert [line for line in lines if line.startswith("# ")] == ["# ACME-01,key_name,Acme Staging,,,,"]


def test_a_large_account_gets_a_list_to_read() -> None:
    lines = starter_mapping([key(number, f"Firm{number}", number) for number in range(1000)], None).text.splitlines()
    suggested = [line for line in lines if line.startswith("# ")]
    assert len(suggested) == SUGGESTIONS == 200
    assert suggested[0].startswith("# Firm999,")
    assert lines[-1] == "## 800 suggestions of less usage not listed here: orcost sync, then: orcost map suggest"


@pytest.mark.slow
def test_the_starter_and_map_suggest_propose_the_same(
    folder: Path, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    World(engine, LEDGER, datetime.now(UTC), account="initech").sync()
    key = LEDGER.accounts["initech"].management_key
    started = processes.orcost(folder, os.environ, "init", "--name", "initech", told=f"{key}\n")
    assert started.returncode == 0, started.stderr
    assert "company_mapping.csv: a starter with 2 suggestions, without effect" in started.stdout
    starter = (folder / "company_mapping.csv").read_text().splitlines()[4:]
    assert starter == [
        "## 7.00 USD: Hooli prod, Hooli Chat; a new company, by its name",
        "# Hooli,key_name,Hooli *,,,,",
        "## 2.00 USD: Globex; a new company, by its name",
        "# Globex,key_name,Globex,,,,",
        "## No suggestion for 1 key (1.00 USD): orcost sync, then: orcost map todo",
    ]
    suggested = processes.orcost(folder, os.environ, "map", "suggest").stdout.splitlines()
    assert [f"#{line}" if line.startswith("#") else f"# {line}" for line in suggested[:4]] == starter[:4]


def test_the_starter_as_written_leaves_everything_unattributed(folder: Path, orcost: Orcost) -> None:
    orcost(lines=["", MANAGEMENT])
    content = (folder / "company_mapping.csv").read_bytes()
    assert read_mapping(content, "starter").rules == ()
    mapping = read_mapping(uncommented(content.decode()), "starter")
    assert sorted(share.company for rule in mapping.rules for share in rule.shares) == [
        "Company A",
        "Company B",
        "Company C",
    ]
    assert explain("default", (), KeyHistory(ORDINARY.hash, ()), date(2026, 11, 23)).company == UNATTRIBUTED


def test_the_starter_is_written_where_the_mapping_is_looked_for(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORCOST_MAPPING", str(tmp_path / "maps" / "mine.csv"))
    assert f"  {tmp_path / 'maps' / 'mine.csv'}: a starter" in orcost(lines=["", MANAGEMENT]).out
    assert (tmp_path / "maps" / "mine.csv").is_file()
    assert not (folder / "company_mapping.csv").exists()


def test_no_starter_takes_the_place_of_a_mapping_that_was_in_force(
    folder: Path, orcost: Orcost, world: World, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """An empty mapping, loaded, would take every key from its company."""
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    world.map("A,key_name,Company A,,,")
    outcome = orcost(lines=["", MANAGEMENT])
    assert outcome.code == 0
    assert "  company_mapping.csv: not there and not made: a mapping is in force" in outcome.out
    assert not (folder / "company_mapping.csv").exists()


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:9/none", "mysql://nobody@127.0.0.1/none"])
def test_a_database_that_cannot_be_asked_stops_nobody(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("ORCOST_DATABASE_URL", url)
    assert orcost(lines=["", MANAGEMENT]).code == 0
    assert (folder / ".env").exists()
    assert not (folder / "company_mapping.csv").exists()


# Whose account it is


@pytest.fixture
def world(engine: sa.Engine) -> World:
    """The account `acme` of the ledger, as it may be synced."""
    return World(engine, LEDGER, datetime.now(UTC))


def test_a_key_of_another_account_is_refused_before_anything_is_written(
    folder: Path, orcost: Orcost, world: World, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    world.sync()
    orcost("--name", "acme", lines=[MANAGEMENT])
    before = files(folder)
    outcome = orcost("--name", "acme", lines=[GLOBEX])
    assert outcome.code == 1
    assert 'The key of account "acme" belongs to another OpenRouter account' in outcome.err
    assert "Nothing was written" in outcome.err
    assert "orcost init --name NAME" in outcome.err
    assert files(folder) == before
    assert orcost("--name", "globex", lines=[GLOBEX]).code == 0


def test_an_account_that_is_stored_under_another_name_is_refused(
    folder: Path, orcost: Orcost, world: World, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    world.sync()
    outcome = orcost("--name", "again", lines=[MANAGEMENT])
    assert outcome.code == 1
    assert 'Account "again" has keys that account "acme" has already' in outcome.err
    assert 'orcost accounts rename "acme" "again"' in outcome.err
    assert not files(folder)


def test_looking_for_the_account_neither_makes_nor_migrates_a_warehouse(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch, engine: sa.Engine, database_url: str
) -> None:
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("update ops.schema_version set version_num = '0001'"))
    assert orcost(lines=["", MANAGEMENT]).code == 0
    with engine.connect() as connection:
        assert connection.execute(sa.text("select version_num from ops.schema_version")).scalar() == "0001"
