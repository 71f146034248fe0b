"""A key is found nowhere but where its owner put it: in no file of the state folder, no table, no page, no message."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
import sqlalchemy as sa

from orcost_pipeline import cli
from orcost_pipeline.simulator import Fault, Simulator, serve, small
from orcost_pipeline.simulator.wire import json_response
from orcost_pipeline.warehouse.database import warehouse_url
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline_tests.processes import clean_environment, orcost

ORCOST = Path(sys.executable).with_name("orcost")
CANARY = "sk-or-v1-" + "c0ffee5eed" * 6
WRONG = "sk-or-v1-" + "bad0badbee" * 6
# Any piece of a key that is longer than what a message may show.
PIECES = [piece.encode() for key in (CANARY, WRONG) for piece in (key[9:21], key[-16:-4])]


class Echo(Simulator):
    """A server that repeats what it was sent in every error, as gateways do."""

    def handle(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle(request)
        if answer.is_success:
            return answer
        sent = request.headers["Authorization"]
        message = f"refused: {sent} {sent.removeprefix('Bearer ')}"
        return json_response({"error": {"code": answer.status_code, "message": message}}, status=answer.status_code)


class Project:
    """A folder with a state of its own, and everything that was ever printed in it."""

    def __init__(self, folder: Path, simulator: Simulator, base_url: str) -> None:
        self.folder = folder
        self.simulator = simulator
        self.printed = b""
        self.variables = {"OPENROUTER_API_KEY": CANARY, "OPENROUTER_BASE_URL": base_url}

    def environment(self, **variables: str) -> dict[str, str]:
        return {**clean_environment(), **self.variables, **variables}

    def orcost(self, *arguments: str, given: str = "", **variables: str) -> int:
        ended = orcost(self.folder, self.environment(**variables), *arguments, told=given)
        self.printed += (ended.stdout + ended.stderr).encode()
        return ended.returncode

    def impatient(self, *arguments: str, **variables: str) -> int:
        """The same, which gives up a server that is down after seconds instead of minutes."""
        command = [sys.executable, "-c", IMPATIENT, *arguments]
        environment = self.environment(**variables)
        ended = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, check=False)
        self.printed += ended.stdout + ended.stderr
        return ended.returncode

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The address of `orcost up`."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with subprocess.Popen(
            [ORCOST, "up", "--port", str(port)],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as services:
            assert services.stderr is not None
            assert any("ready" in line for line in services.stderr)
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                services.terminate()

    def tables(self) -> bytes:
        """Every row of every table of every schema, Dagster's events among them."""
        engine = sa.create_engine(
            sa.make_url(EmbeddedPostgres(self.folder / ".orcost").start()).set(drivername="postgresql+psycopg")
        )
        with engine.connect() as connection:
            names = connection.exec_driver_sql(
                "select quote_ident(table_schema) || '.' || quote_ident(table_name) from information_schema.tables "
                "where table_schema not in ('pg_catalog', 'information_schema')"
            ).scalars()
            told = [connection.exec_driver_sql(f"select t::text from {name} t").scalars().all() for name in names.all()]
        engine.dispose()
        return "\n".join(row for rows in told for row in rows).encode()

    def files(self) -> Iterator[tuple[Path, bytes]]:
        """Every file of the state folder, the database's own and the logs among them."""
        for path in (self.folder / ".orcost").rglob("*"):
            if path.is_file():
                yield path, path.read_bytes()

    def assert_it_holds_no_key(self) -> None:
        found = [str(path) for path, content in self.files() if any(piece in content for piece in PIECES)]
        assert found == []
        for content in (self.tables(), self.printed):
            assert [piece for piece in PIECES if piece in content] == []


IMPATIENT = """
from orcost_pipeline.openrouter.api import requests
requests.PATIENCE = 3.0
from orcost_pipeline.cli import main
main()
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    ledger = small(datetime.now(UTC))
    ledger.accounts["acme"].management_key = CANARY
    simulator = Echo(ledger)
    with serve(simulator) as base_url:
        project = Project(tmp_path, simulator, base_url)
        try:
            yield project
        finally:
            project.orcost("db", "stop")


@pytest.mark.slow
def test_no_key_is_left_anywhere_by_what_goes_well_or_badly(project: Project) -> None:
    assert project.orcost("sync") == 0
    assert project.orcost("sync", OPENROUTER_API_KEY=WRONG) == 1  # never valid
    project.orcost("doctor", "--format", "json", OPENROUTER_API_KEY=WRONG)
    assert b"Invalid API key" in project.printed
    project.assert_it_holds_no_key()


@pytest.mark.slow
def test_no_key_is_left_anywhere_by_any_failure(project: Project) -> None:
    project.simulator.inject(Fault("401", times=1, match="/analytics"))  # revoked in the middle
    assert project.orcost("sync") == 1
    project.simulator.inject(Fault("500", times=None, match="/activity"))  # down, and repeating what it was sent
    assert project.impatient("sync") == 1
    project.simulator.clear_faults()
    project.simulator.ledger.accounts["acme"].credits_bought = "no number"  # type: ignore[assignment]
    assert project.orcost("sync") == 0  # a row that cannot be read is left out
    assert project.orcost("sync", OPENROUTER_API_KEY=f"{WRONG}\x07") == 1  # unfit for a header
    assert project.impatient("sync", OPENROUTER_BASE_URL=f"http://{WRONG}@127.0.0.1:9/api/v1") == 1
    assert project.orcost("sync", ORCOST_CONFIG=WRONG) == 1
    project.orcost("status")
    project.assert_it_holds_no_key()


@pytest.mark.slow
def test_only_the_env_file_holds_the_key_that_init_was_given(project: Project) -> None:
    del project.variables["OPENROUTER_API_KEY"]
    assert project.orcost("init", given=f"default\n{WRONG}\n") == 1
    assert project.orcost("init", given=f"default\n{CANARY}\n") == 0
    assert project.orcost("sync") == 0
    holding = [path.name for path in project.folder.iterdir() if path.is_file() and CANARY in path.read_text()]
    assert holding == [".env"]
    assert (project.folder / ".env").stat().st_mode & 0o077 == 0
    project.assert_it_holds_no_key()


@pytest.mark.slow
def test_no_page_of_the_ui_shows_the_key(project: Project) -> None:
    assert project.orcost("sync") == 0
    assert project.orcost("sync", OPENROUTER_API_KEY=WRONG) == 1
    query = """{ runsOrError { ... on Runs { results { runId runConfigYaml tags { key value }
        eventConnection { events { __typename ... on MessageEvent { message }
            ... on ExecutionStepFailureEvent { error { message stack cause { message stack } }
                failureMetadata { description } } } } } } }
        assetsOrError { ... on AssetConnection { nodes { assetMaterializations { metadataEntries {
            label ... on MarkdownMetadataEntry { mdStr } ... on TextMetadataEntry { text } } } } } }
        workspaceOrError { __typename ... on Workspace { locationEntries { name locationOrLoadError {
            ... on RepositoryLocation { repositories { allTopLevelResourceDetails {
                name configuredValues { key value } } } } } } } } }"""
    with project.serving() as url:
        page = httpx.get(url, timeout=30).content
        answer = httpx.post(f"{url}/graphql", json={"query": query}, timeout=60).content
    assert b"Invalid API key" in answer
    assert b"errors" not in answer[:20], answer[:500]
    assert [piece for piece in PIECES if piece in page + answer] == []
    project.assert_it_holds_no_key()


# ── parts of a password ──────────────────────────────────────────────────────────────────────────────────────────────

ODD_PASSWORDS = ("hush@ssh", "@hush", "h@ush:5x", "hush/hash", "hush#hash", "hush%hash", "hush:hash", "h@u/hush@h")
FORMS = ("postgresql://me:{}@127.0.0.1:1/none", "postgresql://a/b:{}@c/d")


@pytest.mark.parametrize(
    ("form", "password"),
    [*product(FORMS, ODD_PASSWORDS), ("postgresql://me:{}", "hush"), ("postgresql://me:{}/db", "hush:hash")],
)
def test_no_part_of_a_password_is_told_wherever_a_url_is_cut(
    form: str, password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCOST_DATABASE_URL", form.format(password))
    with pytest.raises(SystemExit):
        cli.main(["status"])
    told = capfd.readouterr().err + "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert told
    for part in re.split(r"\W", password):
        assert len(part) < 3 or part not in told


@pytest.mark.parametrize("password", ["p%40ss", "a%2Fb%3Ac%23d%25e"])
def test_a_password_that_is_written_for_a_url_is_taken(password: str) -> None:
    url = warehouse_url(f"postgresql://me:{password}@db.example/costs")
    assert (url.password, url.host, url.database) == (unquote(password), "db.example", "costs")
