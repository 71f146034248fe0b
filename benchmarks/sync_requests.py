"""500 requests for a sync within a minute, answered by a real `orcost up` of a simulated account of 40 keys.

Prints the number of runs that served them, how long each request waited for its run to start, and what became of them.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import sqlalchemy as sa

from orcost_pipeline.simulator import Simulator, scale, serve
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres

REQUESTS = 500
SECONDS = 60
PATIENCE_SECONDS = 600

_ALIVE = "select count(*) from dagster.job_ticks where type = 'SENSOR'"
_UNFINISHED = "select count(*) from ops.sync_request where status in ('queued', 'running')"
_SERVED = (
    "select q.status, q.run_ids, extract(epoch from min(r.started_at) - q.requested_at) as waited "
    "from ops.sync_request q left join ops.sync_run r on r.run_id = any(q.run_ids) where q.id > 1 "
    "group by q.id order by q.id"
)
_RUNS = (
    "select count(*) as requests, extract(epoch from r.started_at - min(q.requested_at)) as waited, "
    "extract(epoch from r.finished_at - r.started_at) as took "
    "from ops.sync_run r join ops.sync_request q on r.run_id = any(q.run_ids) where q.id > 1 "
    "group by r.run_id, r.account order by r.started_at"
)
_TICKS = "select count(*), pg_total_relation_size('dagster.job_ticks') from dagster.job_ticks"


def main() -> None:
    ledger = scale(datetime.now(UTC), keys=40, active_keys=40)
    known = next(iter(ledger.accounts.values()))
    with serve(Simulator(ledger)) as url, deployment(url, known.management_key) as engine:
        # The first sync of an account reads a month.
        request(engine)
        wait_for(engine, _UNFINISHED, lambda count: count == 0)
        started = time.monotonic()
        for number in range(REQUESTS):
            time.sleep(max(0, started + number * SECONDS / REQUESTS - time.monotonic()))
            request(engine)
        print(f"{REQUESTS} requests in {time.monotonic() - started:.0f} s")
        wait_for(engine, _UNFINISHED, lambda count: count == 0)
        report(engine)


def request(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("select ops.request_sync('acme')"))


def report(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        served = connection.execute(sa.text(_SERVED)).all()
        of_runs = connection.execute(sa.text(_RUNS)).all()
        ticks, tick_bytes = connection.execute(sa.text(_TICKS)).one()
    runs = {run_id for row in served for run_id in row.run_ids}
    waited = [float(row.waited) for row in served if row.waited is not None]
    print(f"load of the machine      {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"runs                     {len(runs)}")
    for run in of_runs:
        print(f"  {run.requests} requests, the first waited {run.waited:.1f} s; the run took {run.took:.1f} s")
    print(f"request to start of run  median {median(waited):.1f} s, at most {max(waited):.1f} s")
    print(f"statuses                 {dict(Counter(row.status for row in served))}")
    print(f"bytes of a tick          {tick_bytes / ticks:,.0f} ({ticks} ticks)")


@contextmanager
def deployment(base_url: str, key: str) -> Iterator[sa.Engine]:
    """An `orcost up` in a folder of its own whose sensors run, gone afterwards; yields an engine over its warehouse."""
    folder = Path(tempfile.mkdtemp(prefix="orcost-bench-"))
    folder.chmod(0o755)
    (folder / "orcost.toml").write_text('[[accounts]]\nname = "acme"\napi_key_env = "KEY"\n', encoding="utf-8")
    environment = os.environ | {"KEY": key, "OPENROUTER_BASE_URL": base_url}
    orcost = Path(sys.executable).with_name("orcost")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with (folder / "up.log").open("w") as log:
        up = subprocess.Popen([orcost, "up", "--port", port], cwd=folder, env=environment, stdout=log, stderr=log)
    postgres = EmbeddedPostgres(folder / ".orcost")
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while (url := postgres.url()) is None and time.monotonic() < until:
            time.sleep(1)
        assert url, (folder / "up.log").read_text(encoding="utf-8")
        engine = connect(url)
        wait_for(engine, _ALIVE, lambda count: count > 0)
        yield engine
        engine.dispose()
    finally:
        up.terminate()
        up.wait(60)
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(engine: sa.Engine, question: str, is_enough: Callable[[int], bool]) -> None:
    """Returns when the answer is enough; a table that is not there yet is no answer."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            with engine.connect() as connection:
                if is_enough(connection.execute(sa.text(question)).scalar_one()):
                    return
        except sa.exc.DBAPIError:
            pass
        time.sleep(1)
    raise TimeoutError(question)


if __name__ == "__main__":
    main()
