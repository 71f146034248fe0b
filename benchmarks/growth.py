"""How the warehouse grows with 1,000 keys, 100 of them active: bytes a year by group of tables, with and without
housekeeping.

A day of hourly runs through Dagster, in this process, on an embedded Postgres; what the last of them added to the size
of the packed tables, extrapolated to a year of hourly runs. With housekeeping, raw rows and Dagster's runs are those
of the days that `[retention]` keeps by default, which is then all that they ever take.
"""

import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.definitions import build_defs
from orcost_pipeline.defs.resources import Surroundings
from orcost_pipeline.deployment.dagster_home import keep_connections, prepare
from orcost_pipeline.project_file import RetentionConfig, Source
from orcost_pipeline.settings import Account, Settings
from orcost_pipeline.simulator import Simulator, scale, serve
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres

RUNS = 25  # the first reads a month; the others are a day
HOURS_A_YEAR = 365 * 24
GROUPS = {"facts": ("core", "ref"), "raw": ("raw",), "ops": ("ops",), "dagster": ("dagster",)}

_TABLES = (
    "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
    "where c.relkind = 'r' and n.nspname = any(:schemas)"
)
_BYTES = (
    "select coalesce(sum(pg_total_relation_size(c.oid)), 0) from pg_class c join pg_namespace n "
    "on n.oid = c.relnamespace where c.relkind = 'r' and n.nspname = any(:schemas)"
)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="orcost-bench-"))
    folder.chmod(0o755)
    try:
        report(measure(folder))
    finally:
        EmbeddedPostgres(folder).stop()
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path) -> Mapping[str, float]:
    """Bytes that a run adds, by group of tables."""
    now = datetime.now(UTC)
    clock = [now - timedelta(hours=RUNS - 1)]
    ledger = scale(now)
    name, known = next(iter(ledger.accounts.items()))
    with serve(Simulator(ledger, lambda: clock[0])) as url:
        key = SecretStr(known.management_key)
        settings = Settings(
            folder=folder,
            home=folder,
            mapping=Source("mapping", folder / "company_mapping.csv"),
            config_file=folder / "orcost.toml",
            database_url=None,
            accounts=(Account(name=name, api_key_env="KEY", api_key=key, base_url=url),),
        )
        prepare(settings)
        engine = connect(EmbeddedPostgres(folder).start())
        job = build_defs(settings, surroundings=Surroundings(lambda: clock[0])).resolve_job_def("hourly_sync")
        with dg.DagsterInstance.get() as instance:
            keep_connections(instance)
            sizes = {}
            for number in range(RUNS):
                quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
                assert job.execute_in_process(instance=instance, partition_key=name, run_config=quiet).success
                clock[0] += timedelta(hours=1)
                if number in (0, RUNS - 1):
                    sizes[number] = packed_sizes(engine)
        engine.dispose()
    return {group: (sizes[RUNS - 1][group] - sizes[0][group]) / (RUNS - 1) for group in GROUPS}


def packed_sizes(engine: sa.Engine) -> Mapping[str, int]:
    """Bytes of each group of tables, indexes included, without dead rows."""
    sizes = {}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for group, schemas in GROUPS.items():
            for table in connection.execute(sa.text(_TABLES), {"schemas": list(schemas)}).scalars().all():
                connection.exec_driver_sql(f"vacuum full {table}")
            sizes[group] = int(connection.execute(sa.text(_BYTES), {"schemas": list(schemas)}).scalar_one())
    return sizes


def report(per_run: Mapping[str, float]) -> None:
    kept = RetentionConfig()
    kept_runs = {"raw": kept.raw_days * 24, "dagster": kept.runs_days * 24, "ops": kept.history_days * 24}
    print(f"{'MB':<12}{'a run':>10}{'a year':>12}{'with housekeeping':>20}")
    for group, added in per_run.items():
        bounded = added * min(kept_runs.get(group, HOURS_A_YEAR), HOURS_A_YEAR)
        print(f"{group:<12}{added / 1e6:>10.3f}{added * HOURS_A_YEAR / 1e6:>12,.0f}{bounded / 1e6:>20,.0f}")
    print(f"Extrapolated from {RUNS - 1} hourly runs.")


if __name__ == "__main__":
    main()
