"""Runs on Celery workers (deploy/celery): its files fit the others, and accounts are synced whatever is killed."""

import random
import re
import runpy
from importlib.util import find_spec
from typing import Any

import pytest
import yaml

from benchmarks.celery_workers.__main__ import KILLS, Hour, killed
from benchmarks.celery_workers.broker import program
from benchmarks.celery_workers.deployment import FILES, deployed
from benchmarks.celery_workers.figures import most_at_once
from benchmarks.celery_workers.programs import programs
from orcost_pipeline.deployment.dagster_home import STORAGE_URL, storage_url
from orcost_pipeline_tests.processes import CHECKOUT
from orcost_pipeline_tests.test_deploy import VARIABLES, pins
from orcost_pipeline_tests.test_readme import page

CELERYS = {"CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"}


def text(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")


def instance() -> dict[str, Any]:
    return yaml.safe_load(text("dagster.yaml"))


def test_its_dagster_is_that_of_the_image_but_for_the_launcher_and_how_many_runs_wait() -> None:
    ours = instance()
    images = yaml.safe_load((CHECKOUT / "deploy" / "dagster.yaml").read_text(encoding="utf-8"))
    launcher = ours.pop("run_launcher")
    assert (launcher["module"], launcher["class"]) == ("dagster_celery.launcher", "CeleryRunLauncher")
    for daemon in ("schedules", "sensors"):
        assert ours[daemon].pop("num_submit_workers")
    for it in (ours, images):
        del it["concurrency"]["runs"]["max_concurrent_runs"], it["run_monitoring"]["start_timeout_seconds"]
    assert ours == images


def test_its_variables_are_known_and_name_one_database() -> None:
    example = dict(re.findall(r"^(\w+)=(.*)$", text("celery.env.example"), re.MULTILINE))
    assert set(example) == {"DAGSTER_HOME", "PYTHONPATH", "ORCOST_DATABASE_URL", STORAGE_URL, *CELERYS}
    assert example.keys() & VARIABLES == {"ORCOST_DATABASE_URL", STORAGE_URL}
    url = example["ORCOST_DATABASE_URL"]
    assert (example[STORAGE_URL], example["CELERY_RESULT_BACKEND"]) == (storage_url(url), f"db+{url}")
    assert set(re.findall(r"env: (\w+)", text("dagster.yaml"))) == {STORAGE_URL, *CELERYS}


def test_workers_and_launcher_look_into_the_same_tables() -> None:
    settings = runpy.run_path(str(FILES / "dagster_celery_config.py"))
    schemas = instance()["run_launcher"]["config"]["config_source"]["database_table_schemas"]
    assert settings["database_table_schemas"] == schemas
    assert all(find_spec(name) for name in settings["imports"])
    assert settings["task_acks_late"]


def test_rabbitmq_waits_longer_than_a_run_may_take() -> None:
    (milliseconds,) = re.findall(r"^consumer_timeout = (\d+)$", text("rabbitmq.conf"), re.MULTILINE)
    assert int(milliseconds) > 1000 * instance()["run_monitoring"]["max_runtime_seconds"]


def test_the_workers_install_what_the_lock_pins() -> None:
    ours = pins(text("requirements.lock"))
    locked = pins((CHECKOUT / "requirements.lock").read_text(encoding="utf-8"))
    assert {name: ours[name] for name in ours.keys() & locked} == {name: locked[name] for name in ours.keys() & locked}
    assert ours["dagster-celery"] == ours["dagster-postgres"]
    assert not {"pytest", "dagster-k8s"} & ours.keys()


def test_every_file_is_told_of() -> None:
    for path in FILES.iterdir():
        if path.is_file():
            assert f"celery/{path.name}" in page("scale"), path.name


@pytest.mark.slow
def test_accounts_are_synced_once_whatever_is_killed() -> None:
    """A small `python -m benchmarks.celery_workers`, which compares each figure with the simulator's."""
    if program() is None:
        pytest.skip("RabbitMQ is not installed (Debian: rabbitmq-server)")
    found = programs()
    if found is None:
        pytest.skip("the extra celery is not installed; python -m benchmarks.celery_workers installs it")
    chance = random.Random(1)
    with deployed(found, 3, 0.08) as running:
        running.start_workers(2)
        Hour(running, "first load", 2).report()
        killed(running, chance, "a worker", KILLS["a worker"], 3)
        assert most_at_once(running) == 2
        # As docs/scale.md has it once a day.
        running.run("celery", "-A", "dagster_celery.app", "call", "celery.backend_cleanup")
        done = re.compile(r"Task celery\.backend_cleanup\S* succeeded")
        running.wait(lambda: any(done.search(running.log(f"worker-{n}")) for n in (1, 2)), "it is not cleaned up", 60)
