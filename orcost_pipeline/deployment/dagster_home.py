"""Dagster's home under ORCOST_HOME: its configuration, its storage in the warehouse's database, its logs in files.

Runs, schedules and events live in the schema `dagster` of the same database, so that one URL is all a user gives.
"""

import os
import warnings
from importlib import resources
from pathlib import Path

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus
from sqlalchemy.engine import make_url

from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.access import configured_url
from orcost_pipeline.warehouse.failures import database_errors
from orcost_pipeline.warehouse.opening import database_url, open_warehouse
from orcost_pipeline.warehouse.schema.namespaces import DAGSTER_SCHEMA, make_schemas
from orcost_pipeline.warehouse.storage_dialect import DRIVER

STORAGE_URL = "ORCOST_DAGSTER_DATABASE_URL"

_STORAGE = f"""
storage:
  postgres:
    postgres_url:
      env: {STORAGE_URL}
"""

_LOGS = """
python_logs:
  # Events, which are DEBUG, are in the storage; on the console of a run they would only drown what matters.
  python_log_level: INFO
  dagster_handler_config:
    handlers:
      file:
        class: logging.handlers.RotatingFileHandler
        level: INFO
        formatter: plain
        filename: {filename}
        maxBytes: 10000000
        backupCount: 3
        delay: true
    formatters:
      plain:
        format: "%(asctime)s %(levelname)s %(message)s"
"""


def prepare(settings: Settings) -> Path:
    """Migrates the warehouse, writes Dagster's home, and sets the environment for this process and its children.

    Returns the path of Dagster's log. Raises database errors of this package.
    """
    configured = configured_url(settings)
    engine = open_warehouse(configured, settings.home)
    with database_errors(), engine.begin() as connection:
        make_schemas(connection, [DAGSTER_SCHEMA])
    engine.dispose()
    home = settings.home / "dagster"
    logs = settings.home / "logs"
    home.mkdir(parents=True, exist_ok=True)
    logs.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(_configuration(logs / "dagster.log"), encoding="utf-8")
    # Configuring a log file is a beta feature, about which Dagster warns in every process.
    beta = "Handling yaml-defined logging configuration"
    warnings.filterwarnings("ignore", beta)
    os.environ["PYTHONWARNINGS"] = f"ignore:{beta}"
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ[STORAGE_URL] = storage_url(database_url(configured, settings.home))
    return logs / "dagster.log"


def keep_connections(instance: dg.DagsterInstance) -> None:
    """Keeps a run's connections to Dagster's storage open; a new one per event costs a second of five.

    By default the storage does so for webservers only.
    """
    instance.optimize_for_webserver(statement_timeout=60_000, pool_recycle=3600, max_overflow=10)


def start_stopped() -> list[str]:
    """Switches stopped schedules and sensors on again; returns their names.

    They keep their cursors and the record of launched runs, so that only the hour that is due is caught up.
    """
    with dg.DagsterInstance.get() as instance:
        stopped = instance.all_instigator_state(instigator_statuses={InstigatorStatus.STOPPED})
        for state in stopped:
            instance.update_instigator_state(state.with_status(InstigatorStatus.DECLARED_IN_CODE))
    return sorted(state.instigator_name for state in stopped)


def _configuration(log_file: Path) -> str:
    common = (resources.files("orcost_pipeline.deployment") / "dagster.yaml").read_text(encoding="utf-8")
    quoted = "'" + str(log_file).replace("'", "''") + "'"
    return common + _STORAGE + _LOGS.format(filename=quoted)


def storage_url(url: str) -> str:
    """The warehouse's URL for Dagster: its NOTIFY needs psycopg2, its tables a schema of their own."""
    return make_url(url).set(drivername=DRIVER).render_as_string(hide_password=False)
