"""Requests and seconds of a sync of 1,000 keys in 5 workspaces, 100 of them active, at 80 ms an answer.

Beside it: what the obvious way costs, one analytics question for each key. The whole sync is measured below Dagster,
on an embedded Postgres in a temporary folder; the rerun's write-ahead log is read from the server. Then what Dagster
and the start of a process add, and the memory of that process: `orcost sync` of 40 keys beside the same below Dagster.
All but the first sync and the questions by key are repeated; medians are shown.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import sqlalchemy as sa
from pydantic import SecretStr

from benchmarks.processes import run, succeeded
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.settings import Account
from orcost_pipeline.simulator import Options, Simulator, scale, serve
from orcost_pipeline.sync import steps
from orcost_pipeline.sync.sync_step import SyncStep
from orcost_pipeline.warehouse import raw, runs
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.opening import open_warehouse
from orcost_pipeline.windows import HOUR, Window, hour_floor

LATENCY_SECONDS = 0.08
TIMES = 5


def main() -> None:
    with warehouse() as (engine, _):
        measure(engine)
    # The two accounts have the same keys, which one warehouse takes for one account under two names.
    with warehouse() as (engine, home):
        measure_command(engine, home)


@contextmanager
def warehouse() -> Iterator[tuple[sa.Engine, Path]]:
    """A new embedded warehouse and its home, gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="orcost-bench-"))
    home.chmod(0o755)
    try:
        yield open_warehouse(None, home), home
    finally:
        EmbeddedPostgres(home).stop()
        shutil.rmtree(home, ignore_errors=True)


def measure(engine: sa.Engine) -> None:
    now = datetime.now(UTC)
    clock = [now - TIMES * HOUR]
    ledger = scale(now)
    simulator = Simulator(ledger, lambda: clock[0], Options(latency_seconds=LATENCY_SECONDS))
    name, known = next(iter(ledger.accounts.items()))
    with serve(simulator) as url:
        account = Account(
            name=name, api_key_env="OPENROUTER_API_KEY", api_key=SecretStr(known.management_key), base_url=url
        )

        def sync_after(time: timedelta) -> int:
            clock[0] += time
            return sync(account, engine, clock[0])

        print(f"{'':<34}{'requests':>10}{'seconds':>10}{'rows':>10}{'WAL MB':>10}")
        report("first sync, 31 days", simulator, engine, lambda: sync_after(timedelta(0)), times=1)
        report("hourly sync, 100 active keys", simulator, engine, lambda: sync_after(HOUR))
        report("again at once", simulator, engine, lambda: sync_after(timedelta(0)))
        hashes = [key.hash for key in known.living_keys(now)]
        of_keys = lambda: one_by_one(account, hashes, now)  # noqa: E731
        report("beside it: a question for each key", simulator, engine, of_keys, times=1)


def measure_command(engine: sa.Engine, home: Path) -> None:
    """A quiet hour of 40 keys, answered at once: by the installed command, and below Dagster."""
    ledger = scale(datetime.now(UTC), keys=40, active_keys=40)
    known = next(iter(ledger.accounts.values()))
    with serve(Simulator(ledger)) as url:
        key = known.management_key
        account = Account(name="default", api_key_env="OPENROUTER_API_KEY", api_key=SecretStr(key), base_url=url)
        environment = os.environ | {"OPENROUTER_API_KEY": key, "OPENROUTER_BASE_URL": url, "ORCOST_HOME": str(home)}
        orcost = [Path(sys.executable).with_name("orcost"), "sync"]
        succeeded(run(orcost, home, environment))
        commands = [succeeded(run(orcost, home, environment)) for _ in range(TIMES)]
        below = median(timed(lambda: sync(account, engine, datetime.now(UTC))) for _ in range(TIMES))
        seconds, memory = median(it.seconds for it in commands), median(it.memory_mb for it in commands)
        print(f"\n{'40 keys, a quiet hour':<34}{'seconds':>10}{'MB':>10}")
        print(f"{'orcost sync':<34}{seconds:>10.2f}{memory:>10.0f}")
        print(f"{'beside it: below Dagster':<34}{below:>10.2f}{'–':>10}")


def report(what: str, simulator: Simulator, engine: sa.Engine, work: Callable[[], int], times: int = TIMES) -> None:
    """One line, with the medians of so many times."""
    took: list[tuple[float, ...]] = []
    for _ in range(times):
        simulator.forget_requests()
        wal, started = wal_bytes(engine), time.perf_counter()
        rows = work()
        took.append((simulator.count, time.perf_counter() - started, rows, (wal_bytes(engine) - wal) / 1e6))
    requests, seconds, rows, written = (median(values) for values in zip(*took, strict=True))
    print(f"{what:<34}{requests:>10,.0f}{seconds:>10.1f}{rows:>10,.0f}{written:>10.1f}", flush=True)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def sync(account: Account, engine: sa.Engine, now: datetime) -> int:
    """One sync below Dagster; returns the rows that its publication wrote."""
    run_id = str(uuid.uuid4())
    runs.start_run(engine, run_id, account.name, None, now)
    with engine.begin() as connection:
        as_of = raw.start_extraction(connection, run_id, account.name, now)
    step = SyncStep(account, engine, run_id, run_id, as_of, lambda: now)
    for read in (steps.read_account, steps.read_workspaces, steps.read_members, steps.read_models, steps.read_api_keys):
        read(step)
    steps.read_usage_of_account(step)
    return sum(steps.publish_account(step).rows.values())


def one_by_one(account: Account, hashes: list[str], now: datetime) -> int:
    """The last two hours of each key, eight questions at a time, without the limit of 60 a minute."""

    async def ask() -> int:
        key = account.api_key or SecretStr("")
        async with OpenRouter(account.name, key, account.base_url, analytics_per_minute=1_000_000) as client:
            window = Window(hour_floor(now) - HOUR, now)
            answers = await asyncio.gather(*(client.usage(window, ["model"], [key_hash]) for key_hash in hashes))
            return sum(len(answer.cells) for answer in answers)

    return asyncio.run(ask())


def wal_bytes(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.text("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn")).scalar_one())


if __name__ == "__main__":
    main()
