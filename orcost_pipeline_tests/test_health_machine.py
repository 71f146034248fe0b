"""What is found on this machine: disk space, the port, and who may read `.env`."""

import shutil
import socket
import subprocess
from contextlib import closing
from types import SimpleNamespace

import pytest

from orcost_pipeline.health import machine
from orcost_pipeline.health.finding import Code
from orcost_pipeline.health.machine import home_findings
from orcost_pipeline.settings import load_settings
from orcost_pipeline_tests.healthy_deployment import DAGSTER, Deployment, answering, base_url_of

pytest_plugins = ["orcost_pipeline_tests.healthy_deployment"]


# Who may read `.env`


def test_env_is_for_its_owner_alone(healthy: Deployment) -> None:
    (healthy.folder / ".env").chmod(0o604)
    finding = healthy.only("warning", Code.ENV_READABLE, None)
    assert finding.todo == f"chmod 600 {healthy.folder / '.env'}"
    (healthy.folder / ".env").chmod(0o400)
    assert healthy.examine() == []


def test_git_ignores_env_where_there_is_git(healthy: Deployment) -> None:
    git = ["git", "-C", str(healthy.folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert "next commit" in healthy.only("warning", Code.ENV_IN_GIT, None).message
    (healthy.folder / ".gitignore").write_text(".env\n")
    assert healthy.examine() == []
    subprocess.run([*git, "add", "--force", ".env"], check=True)
    assert "revoke" in healthy.only("error", Code.ENV_IN_GIT, None).todo


# Space and the port


@pytest.mark.parametrize(("free", "severity"), [(999_999_999, "warning"), (199_999_999, "error")])
def test_little_space_is_told_once_for_a_file_system(
    healthy: Deployment, monkeypatch: pytest.MonkeyPatch, free: int, severity: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    finding = healthy.only(severity, Code.DISK_FULL, None)
    assert f"{free // 1_000_000} MB are free at {healthy.folder}" in finding.message
    healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL="")
    (healthy.folder / ".orcost" / "postgres" / "data").mkdir(parents=True)
    assert len(list(home_findings(load_settings(healthy.folder)))) == 1


def test_space_is_looked_for_where_the_embedded_data_is(healthy: Deployment) -> None:
    home = healthy.folder / ".orcost"
    healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL="")
    (home / "postgres" / "data").mkdir(parents=True)
    assert list(machine.written_folders(load_settings(healthy.folder))) == [home, home / "postgres" / "data"]
    elsewhere = healthy.folder / "elsewhere"
    (elsewhere / "data").mkdir(parents=True)
    (home / "postgres.location").write_text(f"{elsewhere}\n")
    assert list(machine.written_folders(load_settings(healthy.folder)))[1] == elsewhere / "data"


@pytest.mark.parametrize("body", [b"<html>A dashboard</html>", b"[]", b"7", b"{}"])
def test_a_port_that_another_program_has_is_a_warning(healthy: Deployment, body: bytes) -> None:
    with answering(body) as healthy.port:
        finding = healthy.only("warning", Code.PORT_TAKEN, None)
    assert finding.todo == f"orcost up --port {healthy.port + 1}"


def test_a_port_that_never_answers_is_another_programs() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        assert machine.is_dagster(silent.getsockname()[1], within=0.2) is False


def test_a_port_where_dagster_answers_is_well(healthy: Deployment) -> None:
    with answering(DAGSTER) as healthy.port:
        assert healthy.examine() == []
