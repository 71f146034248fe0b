"""ORCOST_HOME that nothing can be written to: every command says so in the same sentence, and none with a traceback."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from orcost_pipeline import cli
from orcost_pipeline.cli import running
from orcost_pipeline.health.machine import home_findings
from orcost_pipeline.settings import DEMO_MARK, load_settings
from orcost_pipeline_tests.sampling import sampled

VARIABLES = ("ORCOST_HOME", "ORCOST_CONFIG", "ORCOST_MAPPING", "ORCOST_DATABASE_URL", "OPENROUTER_API_KEY")
COMMANDS = ("status", "report", "doctor", "sync", "up --port 39997", "demo --once", "db start", "db url")
# Nobody listens on this port.
NOWHERE = "http://127.0.0.1:9/api/v1"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a key, whose home would be `.orcost`."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".env").write_text(f"OPENROUTER_API_KEY=sk-or-v1-none\nOPENROUTER_BASE_URL={NOWHERE}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Runs a command that must fail, in this process; returns what it said."""

    def run(command: str) -> str:
        with pytest.raises(SystemExit) as ending:
            cli.main(command.split())
        assert ending.value.code == 1
        told = "".join(capsys.readouterr())
        assert "Traceback" not in told
        assert "Something went wrong" not in told
        return told

    return run


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    """A folder that this user may not write to; of root, one that is mounted so."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("root may not mount here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("command", sampled(COMMANDS, 2))
@pytest.mark.parametrize("home", ["home", "home/below"])
def test_a_home_that_is_a_file_is_said_alike(
    project: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[str], str], command: str, home: str
) -> None:
    (project / "home").write_text("a file")
    monkeypatch.setenv("ORCOST_HOME", home)
    named = project / home / "demo" if command.startswith("demo") else project / home
    told = said(command)
    assert f"ORCOST_HOME ({named}) cannot be used: {project}/home is not a folder." in told
    assert "There is no warehouse yet" not in told


@pytest.mark.parametrize("command", sampled(COMMANDS, 2))
@pytest.mark.parametrize("home", ["theirs", "theirs/below"])
def test_a_home_that_cannot_be_written_is_said_alike(
    unwritable: Path,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: Callable[[str], str],
    command: str,
    home: str,
) -> None:
    monkeypatch.setenv("ORCOST_HOME", home)
    assert f"cannot be used: this user may not write to {unwritable}." in said(command)


@pytest.mark.parametrize("command", sampled(COMMANDS[:-2], 2))  # a database is started where it still can be
def test_a_full_disk_is_said_alike(
    project: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[str], str], command: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=9_999_999))
    assert f"9 MB are free at {project}." in said(command)
    assert not (project / ".orcost").exists()


def test_whoever_only_reads_the_database_of_others_needs_no_home(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "home").write_text("a file")
    monkeypatch.setenv("ORCOST_HOME", "home")
    monkeypatch.setenv("ORCOST_DATABASE_URL", "postgresql://reader@db.example/costs")
    assert [it.code for it in home_findings(load_settings())] == ["home_unusable"]
    (project / ".env").write_text("")
    assert list(home_findings(load_settings())) == []


def test_a_demo_that_is_run_in_its_folder_is_the_same_demo(project: Path) -> None:
    folder = project / ".orcost" / "demo"
    assert running.demo_home(load_settings(project)) == folder
    folder.mkdir(parents=True)
    (folder / ".env").write_text(f"ORCOST_HOME={folder}\n", encoding="utf-8")
    assert running.demo_home(load_settings(folder)) == folder / "demo", "a project that is called like it"
    (folder / DEMO_MARK).touch()
    assert running.demo_home(load_settings(folder)) == folder
