"""What stands in deploy/: it names only what exists, pins what the lock pins, and its processes sync.

No container engine and no cluster is needed: the image's steps are run in a virtual environment.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import typer
import yaml
from dagster_postgres.utils import pg_url_from_config

from orcost_pipeline.cli import app
from orcost_pipeline.deployment.dagster_home import STORAGE_URL, storage_url
from orcost_pipeline.settings import Environment
from orcost_pipeline.simulator import Simulator, serve, small
from orcost_pipeline_tests.processes import CHECKOUT, clean_environment, eventually, free_port
from orcost_pipeline_tests.test_readme import commands, page

DEPLOY = CHECKOUT / "deploy"
VARIABLES = {
    STORAGE_URL,
    *(field.validation_alias.choices[0] for field in Environment.model_fields.values()),  # type: ignore[union-attr]
}
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def pins(lock: str) -> dict[str, str]:
    """Package → version of a lock, whose every package has hashes."""
    parts = re.split(r"^(?=\S+==)", lock, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in part for part in parts)
    return dict(re.match(r"([\w.-]+)(?:\[[\w,]+\])?==(\S+)", part).groups() for part in parts)  # type: ignore[union-attr]


def assert_runs(command: list[str]) -> None:
    """A command begins with a program of ours or of Dagster, and what follows exists there."""
    scripts = {script.name for script in entry_points(group="console_scripts")}
    program, *arguments = command
    if program == "python":
        assert arguments[0] == "-c" or (arguments[0] == "-m" and find_spec(arguments[1])), command
        return
    assert program in scripts, command
    if program == "orcost":
        group = typer.main.get_command(app)
        assert isinstance(group, typer.core.TyperGroup)
        assert " ".join(arguments) in {name for name, _ in commands(group)}, command
    if "-m" in arguments:
        assert find_spec(arguments[arguments.index("-m") + 1]), command


# ── the image ────────────────────────────────────────────────────────────────────────────────────────────────────────


def instructions(name: str) -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, lines that continue put together."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text(name), flags=re.MULTILINE)).splitlines()
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line.strip()]


def test_the_image_installs_what_the_lock_pins_by_hash() -> None:
    ours, locked = pins(text("requirements.lock")), pins((CHECKOUT / "requirements.lock").read_text(encoding="utf-8"))
    assert {name: version for name, version in ours.items() if name in locked} == {
        name: locked[name] for name in ours if name in locked
    }
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["k8s"]]
    assert {re.match(r"[\w-]+", it)[0] for it in wanted} <= ours.keys()  # type: ignore[index]
    assert ours["dagster-k8s"] == ours["dagster-postgres"]
    assert not {"pytest", "pyright", "ruff"} & ours.keys()
    runs = [rest for name, rest in instructions("Dockerfile") if name == "RUN" and "pip install" in rest]
    assert [("--require-hashes" in it, "--no-deps" in it and "--no-build-isolation" in it) for it in runs] == [
        (True, False),
        (False, True),
    ]


def test_the_image_is_made_of_files_that_are_there_and_not_ignored_and_runs_as_nobody_special() -> None:
    steps = instructions("Dockerfile")
    copied = [it.split()[:-1] for name, it in steps if name == "COPY" and "--from" not in it]
    sources = {source.rstrip("/") for sources in copied for source in sources}
    assert all((CHECKOUT / source).exists() for source in sources)
    ignored = text("Dockerfile.dockerignore").splitlines()
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == sources
    assert "*" in ignored
    (user,) = [rest for name, rest in steps if name == "USER"]
    assert user == "10001:10001"
    (command,) = [json.loads(rest) for name, rest in steps if name == "CMD"]
    assert_runs(command)
    (health,) = [json.loads(rest.partition(" CMD ")[2]) for name, rest in steps if name == "HEALTHCHECK"]
    assert_runs(health)
    assert command[command.index("-p") + 1] == health[health.index("-p") + 1] == "4000"
    assert {line.split("=")[0] for line in dict(steps)["ENV"].split() if line.startswith("ORCOST")} <= VARIABLES


def test_the_images_dagster_is_that_of_orcost_up_but_for_storage_and_logs() -> None:
    ours = yaml.safe_load((CHECKOUT / "orcost_pipeline" / "deployment" / "dagster.yaml").read_text(encoding="utf-8"))
    images = yaml.safe_load(text("dagster.yaml"))
    assert images.pop("storage") == {"postgres": {"postgres_url": {"env": STORAGE_URL}}}
    assert images.pop("python_logs") == {"python_log_level": "INFO"}
    assert images == ours


# ── Compose ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_compose_names_only_variables_commands_and_addresses_that_exist() -> None:
    services = yaml.safe_load(text("compose.yaml"))["services"]
    assert set(services) == {"postgres", "migrate", "code", "daemon", "webserver"}
    (location,) = yaml.safe_load(text("workspace.yaml"))["load_from"]
    assert services.keys() >= {location["grpc_server"]["host"]}
    for name in services.keys() - {"postgres"}:
        service = services[name]
        assert service["environment"].keys() <= VARIABLES
        assert service["read_only"]
        assert {service["image"], service["env_file"]} == {"orcost:latest", ".env"}
        address = sa.make_url(service["environment"]["ORCOST_DATABASE_URL"].replace("${POSTGRES_PASSWORD:?}", "x"))
        assert (address.host, address.database) == ("postgres", services["postgres"]["environment"]["POSTGRES_DB"])
        assert service["environment"][STORAGE_URL].replace("${POSTGRES_PASSWORD:?}", "x") == storage_url(
            address.render_as_string(hide_password=False)
        )
        if "command" in service:
            assert_runs(service["command"])
        if "healthcheck" in service:
            assert_runs(service["healthcheck"]["test"][1:])
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert published == ["127.0.0.1:3000:3000"]


# ── Kubernetes ───────────────────────────────────────────────────────────────────────────────────────────────────────

# Below these, the chart takes Kubernetes' own objects.
CHART = {
    *("global.postgresqlSecretName", "generatePostgresqlPasswordSecret", "generateCeleryConfigSecret"),
    *(f"postgresql.{it}" for it in ("enabled", "postgresqlHost", "postgresqlUsername", "postgresqlDatabase")),
    *("postgresql.postgresqlScheme", "postgresql.service.port", "rabbitmq.enabled", "redis.enabled", "redis.internal"),
    *("flower.enabled", "telemetry.enabled", "ingress.enabled"),
    *(f"dagster-user-deployments.{it}" for it in ("enabled", "enableSubchart", "deployments")),
    "runLauncher.type",
    *(f"runLauncher.config.k8sRunLauncher.{it}" for it in ("imagePullPolicy", "loadInclusterConfig", "resources")),
    *(f"runLauncher.config.k8sRunLauncher.{it}" for it in ("failPodOnRunFailure", "runK8sConfig")),
    *(f"dagsterWebserver.{it}" for it in ("image", "enableReadOnly", "podSecurityContext")),
    *(f"dagsterDaemon.{it}" for it in ("image", "podSecurityContext", "runCoordinator", "runMonitoring", "runRetries")),
    *("retention.enabled", "retention.schedule", "retention.sensor"),
}
DEPLOYMENT = {
    *("name", "image", "dagsterApiGrpcArgs", "port", "initContainers", "envSecrets", "includeConfigInLaunchedRuns"),
    *("volumes", "volumeMounts", "podSecurityContext", "securityContext", "resources"),
}


def unknown(values: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The keys that the chart does not have."""
    for key, value in values.items():
        here = f"{path}{key}"
        if here in CHART:
            continue
        if isinstance(value, dict) and any(known.startswith(f"{here}.") for known in CHART):
            yield from unknown(value, f"{here}.")
        else:
            yield here


def test_the_values_are_those_of_dagsters_chart_for_the_locked_dagster() -> None:
    values = yaml.safe_load(text("helm-values.yaml"))
    assert not list(unknown(values))
    assert list(unknown({"redis": {"enabeld": False}})) == ["redis.enabeld"]
    (ours,) = values["dagster-user-deployments"]["deployments"]
    assert ours.keys() == DEPLOYMENT
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
    assert not any(values[it]["enabled"] for it in ("postgresql", "rabbitmq", "redis", "flower"))
    assert values["dagsterWebserver"]["image"] == values["dagsterDaemon"]["image"] == ours["image"]
    (migrate,) = ours["initContainers"]
    assert_runs(migrate["command"])
    assert migrate["image"] == f"{ours['image']['repository']}:{ours['image']['tag']}"
    assert ours["image"]["tag"] == PROJECT["version"]
    assert_runs(["dagster", "api", "grpc", *ours["dagsterApiGrpcArgs"]])
    assert f"--version {pins(text('requirements.lock'))['dagster']} " in text("helm-values.yaml")
    limits = values["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]["tagConcurrencyLimits"]
    up = yaml.safe_load((CHECKOUT / "orcost_pipeline" / "deployment" / "dagster.yaml").read_text(encoding="utf-8"))
    assert limits == up["concurrency"]["runs"]["tag_concurrency_limits"]


def test_the_chart_hands_dagster_the_url_of_our_schema() -> None:
    """As its template makes the configuration of the storage."""
    values = yaml.safe_load(text("helm-values.yaml"))["postgresql"]
    made = pg_url_from_config(
        {
            "postgres_db": {
                "username": values["postgresqlUsername"],
                "password": "x",
                "hostname": values["postgresqlHost"],
                "db_name": values["postgresqlDatabase"],
                "port": values["service"]["port"],
                "params": {},
                "scheme": values["postgresqlScheme"],
            }
        }
    )
    assert made == storage_url("postgresql://orcost:x@postgres.example.com:5432/orcost")


# ── systemd ──────────────────────────────────────────────────────────────────────────────────────────────────────────

UNITS = ("orcost.service", "orcost-status.service", "orcost-status.timer", "orcost-alert.service")


def test_the_units_run_commands_of_orcost_as_its_own_user_and_name_each_other() -> None:
    for name in ("orcost.service", "orcost-status.service"):
        (command,) = re.findall(r"^ExecStart=/srv/costs/\.venv/bin/(.+)$", text(name), re.MULTILINE)
        assert_runs(shlex.split(command))
        assert "User=orcost\nWorkingDirectory=/srv/costs\n" in text(name)
    assert "After=network-online.target\n" in text("orcost.service")
    (alert,) = re.findall(r"^OnFailure=(.+)$", text("orcost-status.service"), re.MULTILINE)
    assert alert in UNITS
    assert sorted(UNITS) == sorted(path.name for path in DEPLOY.iterdir() if path.suffix in (".service", ".timer"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for name in UNITS:
        changed = text(name).replace("/srv/costs/.venv/bin/orcost", sys.executable)
        (tmp_path / name).write_text(changed)
    command = ["systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_file_of_deploy_is_told_of() -> None:
    internal = {"Dockerfile.dockerignore", "requirements.lock", "workspace.yaml", "dagster.yaml"}
    for path in DEPLOY.iterdir():
        if not path.name.startswith(".") and path.is_file() and path.name not in internal:
            assert path.name in page("deploy"), path.name
    assert "useradd --system" in page("deploy")


# ── the image's steps, and the wheel outside the checkout ────────────────────────────────────────────────────────────


def run(*command: str | Path, cwd: Path, seconds: float = 600, **environment: str) -> str:
    variables = {**clean_environment(), **environment}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=seconds)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of the image, in a fresh virtual environment made by its steps."""
    folder = tmp_path_factory.mktemp("image")
    run(sys.executable, "-m", "venv", folder / "opt", cwd=folder)
    shutil.copytree(
        CHECKOUT / "orcost_pipeline", folder / "orcost_pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE", "deploy"):
        source = CHECKOUT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    for step in (rest for name, rest in instructions("Dockerfile") if name == "RUN" and "pip install" in rest):
        run("/bin/sh", "-c", step.replace("/opt/orcost", str(folder / "opt")), cwd=folder)
    return folder / "opt" / "bin"


@contextmanager
def process(*command: str | Path, cwd: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """A command in a process group of its own; yields its log."""
    log = cwd / f"{Path(command[0]).name}-{len(list(cwd.iterdir()))}.log"
    with log.open("w") as output:
        one = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield log
    finally:
        os.killpg(one.pid, signal.SIGINT)
        try:
            one.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=10) as response:
            return response.status == 200
    except OSError:
        return False


@pytest.mark.slow
def test_code_server_daemon_and_webserver_of_the_image_sync_on_request(
    image: Path, tmp_path: Path, empty_url: str
) -> None:
    home, costs, logs = tmp_path / "dagster", tmp_path / "costs", tmp_path / "logs"
    for folder in (home, costs, logs):
        folder.mkdir()
    code, web = free_port(), free_port()
    workspace = text("workspace.yaml").replace("host: code", "host: 127.0.0.1").replace("4000", str(code))
    (home / "workspace.yaml").write_text(workspace)
    shutil.copy(DEPLOY / "dagster.yaml", home)
    ledger = small(datetime.now(UTC))
    environment = {**clean_environment(), "PATH": f"{image}:{os.environ['PATH']}", "DAGSTER_HOME": str(home)}
    # Below a device nobody can write, not even root.
    environment |= {"ORCOST_HOME": "/dev/null/orcost", "ORCOST_DATABASE_URL": empty_url}
    environment |= {STORAGE_URL: storage_url(empty_url)}
    environment["OPENROUTER_API_KEY"] = next(iter(ledger.accounts.values())).management_key
    services = yaml.safe_load(text("compose.yaml"))["services"]

    def command(words: list[str]) -> list[str | Path]:
        swapped = {"/opt/dagster/workspace.yaml": str(home / "workspace.yaml"), "3000": str(web), "4000": str(code)}
        return [image / words[0], *(swapped.get(word, word) for word in words[1:])]

    with ExitStack() as stack:
        base_url = stack.enter_context(serve(Simulator(ledger)))
        environment["OPENROUTER_BASE_URL"] = base_url
        run(*command(services["migrate"]["command"]), cwd=costs, **environment)
        (serving,) = [json.loads(rest) for name, rest in instructions("Dockerfile") if name == "CMD"]
        stack.enter_context(process(*command(serving), cwd=logs, environment=environment))
        health = [image / "dagster", "api", "grpc-health-check", "-p", str(code)]
        healthy = lambda: subprocess.run(health, env=environment, capture_output=True, check=False).returncode == 0  # noqa: E731
        assert eventually(healthy, 180)
        for name in ("daemon", "webserver"):
            stack.enter_context(process(*command(services[name]["command"]), cwd=logs, environment=environment))
        run(image / "orcost", "resync", "--wait", cwd=costs, **environment)
        assert "Company A" in run(image / "orcost", "keys", cwd=costs, **environment)
        assert eventually(lambda: answers(web), 120)
        run(*command(services["daemon"]["healthcheck"]["test"][1:]), cwd=costs, **environment)
    written = {path.name for path in home.rglob("*") if path.is_file()} - {"workspace.yaml", "dagster.yaml"}
    assert not written
    assert list(costs.iterdir()) == []


OWN = """
import dagster as dg
from orcost_pipeline.definitions import build_defs

@dg.asset(deps=[dg.AssetKey(["llm_costs", "marts", "company_spend_daily"])])
def theirs() -> None: ...

defs = dg.Definitions.merge(dg.Definitions(assets=[theirs]), build_defs(key_prefix="llm_costs", schedule=None))
"""


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(image: Path, tmp_path: Path, empty_url: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "dagster").mkdir()
    environment = {**clean_environment(), "PATH": f"{image}:{os.environ['PATH']}", "ORCOST_DATABASE_URL": empty_url}
    environment |= {"DAGSTER_HOME": str(tmp_path / "dagster"), "OPENROUTER_API_KEY": "sk-or-v1-x"}
    module = "import orcost_pipeline as it; print(it.__file__)"
    assert str(image.parent) in run(image / "python", "-c", module, cwd=tmp_path)
    for target in (("-m", "orcost_pipeline.definitions"), ("-f", "own.py")):
        told = run(image / "dagster", "definitions", "validate", *target, cwd=tmp_path, **environment)
        assert "All code locations passed validation" in told
    run(image / "orcost", "db", "migrate", cwd=tmp_path, **environment)
    for command in (["orcost", "up", "--port"], ["dagster", "dev", "-m", "orcost_pipeline.definitions", "-p"]):
        port = free_port()
        with process(image / command[0], *command[1:], str(port), cwd=tmp_path, environment=environment) as log:
            assert eventually(lambda port=port: answers(port), 180), log.read_text()
