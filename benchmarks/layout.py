"""What grows while nothing changes: `python -m benchmarks.layout [--syncs 200] [--vacuums]`.

A small simulated account is synced again and again within one hour. Prints the tables that grew or were updated: their
size with indexes, dead rows, and how many updates touched no index (HOT). Those of pg_catalog are there because
publications stage their rows in temporary tables; with --vacuums, tables are vacuumed after each sync by the rule of
autovacuum, which comes many times in the hour between two syncs.
"""

import argparse
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.settings import Account
from orcost_pipeline.simulator import Simulator, small
from orcost_pipeline.sync import steps
from orcost_pipeline.sync.sync_step import SyncStep
from orcost_pipeline.warehouse import raw, runs
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.opening import open_warehouse

START = datetime(2026, 11, 23, 12, 1, tzinfo=UTC)
SYNC = timedelta(seconds=15)  # 200 of them within the hour
READS = (steps.read_account, steps.read_workspaces, steps.read_members, steps.read_models, steps.read_api_keys)
_SIZES = (
    "select n.nspname || '.' || c.relname, pg_total_relation_size(c.oid), pg_stat_get_dead_tuples(c.oid), "
    "pg_stat_get_tuples_updated(c.oid), pg_stat_get_tuples_hot_updated(c.oid) "
    "from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' "
    "and n.nspname in ('core', 'marts', 'ops', 'ref', 'raw', 'pg_catalog') order by 1"
)
# Tables that autovacuum would take, by its default settings.
_DUE = (
    "select relid::regclass::text from pg_stat_all_tables join pg_class c on c.oid = relid "
    "where schemaname not like 'pg_t%%' and n_dead_tup > 50 + 0.2 * greatest(c.reltuples, 0)"
)

# By table: bytes, dead rows, and rows that were updated since the beginning, and without touching an index.
Sizes = Mapping[str, tuple[int, int, int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layout", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--syncs", type=int, default=200, help="syncs of the unchanged account (%(default)s)")
    parser.add_argument("--vacuums", action="store_true", help="vacuum after each sync what autovacuum would")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="orcost-bench-"))
    home.chmod(0o755)
    try:
        engine = open_warehouse(None, home)
        account = Synced(engine)
        for _ in range(2):  # the second knows what the first found
            account.sync()
        before = sizes(engine)
        for _ in range(given.syncs):
            account.sync()
            if given.vacuums:
                vacuum(engine)
        show(before, sizes(engine), given.syncs)
        engine.dispose()
    finally:
        EmbeddedPostgres(home).stop()
        shutil.rmtree(home, ignore_errors=True)


class Synced:
    """The small simulated account, and the clock of both sides."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine, self.now = engine, START
        ledger = small(START)
        self.name, known = next(iter(ledger.accounts.items()))
        self.simulator = Simulator(ledger, lambda: self.now)
        url, key = "https://openrouter.test/api/v1", SecretStr(known.management_key)
        self.account = Account(name=self.name, api_key_env="OPENROUTER_API_KEY", api_key=key, base_url=url)

    def connect(self, account: Account, key: SecretStr, clock: Callable[[], datetime]) -> OpenRouter:
        transport = httpx.MockTransport(self.simulator.handle)
        return OpenRouter(
            account.name, key, account.base_url, transport=transport, analytics_per_minute=100_000, clock=clock
        )

    def sync(self) -> None:
        self.now += SYNC
        run_id = str(uuid.uuid4())
        runs.start_run(self.engine, run_id, self.name, None, self.now)
        with self.engine.begin() as connection:
            as_of = raw.start_extraction(connection, run_id, self.name, self.now)
        step = SyncStep(self.account, self.engine, run_id, run_id, as_of, lambda: self.now, self.connect)
        for read in READS:
            read(step)
        steps.read_usage_of_account(step)
        steps.publish_account(step)


def sizes(engine: sa.Engine) -> Sizes:
    with engine.connect() as connection:
        connection.exec_driver_sql("select pg_stat_force_next_flush()")
    with engine.connect() as connection:
        return {name: tuple(figures) for name, *figures in connection.exec_driver_sql(_SIZES)}


def vacuum(engine: sa.Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("select pg_stat_force_next_flush()")
        for table in connection.exec_driver_sql(_DUE).scalars().all():
            connection.exec_driver_sql(f"vacuum {table}")


def show(before: Sizes, after: Sizes, syncs: int) -> None:
    print(f"{f'after {syncs} syncs':<36}{'kB':>9}{'more':>9}{'dead rows':>11}{'updated':>9}{'HOT':>9}")
    for table, (size, dead, updated, hot) in after.items():
        grown = size - before[table][0]
        updated, hot = updated - before[table][2], hot - before[table][3]
        if grown or dead or updated:
            print(f"{table:<36}{size / 1e3:>9,.0f}{grown / 1e3:>+9,.0f}{dead:>11,}{updated:>9,}{hot:>9,}")


if __name__ == "__main__":
    main()
