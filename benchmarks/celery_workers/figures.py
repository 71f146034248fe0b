"""What is read from processes and warehouse: CPU seconds, how long syncs took, whether their figures are true."""

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.celery_workers.deployment import Workers
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline_tests.world import World

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

# Two runs of one account at once, of all that Dagster has seen begin.
_OVERLAPS = (
    "select count(*) from dagster.runs a join dagster.runs b on a.partition = b.partition and a.run_id < b.run_id "
    "and a.start_time < b.end_time and b.start_time < a.end_time"
)
_MOST_AT_ONCE = (
    "select max(n) from (select count(*) as n from dagster.runs a join dagster.runs b "
    "on b.start_time <= a.start_time and b.end_time > a.start_time "
    # A killed run ends for Dagster when that is noticed.
    "where a.status = 'SUCCESS' and b.status = 'SUCCESS' group by a.run_id) of_run"
)
_TWICE = (
    "select count(*) from (select account, request_id from ops.sync_run where status = 'succeeded' "
    "and request_id is not null group by 1, 2 having count(*) > 1) twice"
)
_QUEUED_EVERY = (
    "select extract(epoch from max(create_timestamp) - min(create_timestamp)) / greatest(count(*) - 1, 1) "
    "from dagster.runs join dagster.run_tags using (run_id) where key = 'orcost/sync_request' and value = :request"
)
_TOOK = (
    "select extract(epoch from finished_at - started_at) as seconds from ops.sync_run "
    "where request_id = :request and status = 'succeeded'"
)


_SESSIONS = "select sessions from pg_stat_database where datname = current_database()"


class Stat(NamedTuple):
    """A line of /proc/PID/stat: seconds are its own and those of its children that have ended."""

    pid: int
    parent: int
    seconds: float


def processes() -> Mapping[int, Stat]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        seconds = sum(int(ticks) for ticks in fields[11:15]) / _TICKS_A_SECOND
        found[int(folder.name)] = Stat(int(folder.name), int(fields[1]), seconds)
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """CPU seconds of processes with all that descend from them, ended or not."""
    known, wanted = processes(), set(roots)
    while more := {stat.pid for stat in known.values() if stat.parent in wanted} - wanted:
        wanted |= more
    return sum(known[pid].seconds for pid in wanted if pid in known)


def cpu_by_service(running: Workers) -> dict[str, float]:
    """CPU seconds so far, by service."""
    postmaster = EmbeddedPostgres(running.folder / "home").data()
    assert postmaster
    pid = int((postmaster / "postmaster.pid").read_text(encoding="utf-8").split()[0])
    roots = {"workers": [one.pid for one in running.celery], "Postgres": [pid], "RabbitMQ": [running.broker_pid]}
    roots |= {name: [process.pid] for name, process in running.services.items()}
    return {name: cpu_seconds(pids) for name, pids in roots.items()}


def took(running: Workers, request: int) -> list[float]:
    """Seconds of each account's sync that a request was served by."""
    return [float(row.seconds) for row in running.rows(_TOOK, request=request)]


def assert_true(running: Workers) -> str:
    """Every hour and day of every account is the ledger's to the last digit; returns the sums, as a sentence."""
    for account in running.accounts:
        as_of: datetime = running.value("select as_of from ref.account where account = :account", account=account)
        world = World(running.engine, running.ledger, as_of, account=account)
        world.assert_hours_are_true()
        world.assert_days_are_true()
    world.assert_sums_are_true()
    assert running.value(_OVERLAPS) == 0, "two runs of one account at once"
    assert running.value(_TWICE) == 0, "a request was served twice"
    row = running.rows("select sum(credits_usd) as usd, count(*) as cells from core.usage_hourly")[0]
    return (
        f"{len(running.accounts)} accounts, {row.cells:,} hourly facts, {row.usd} USD: each cell as the simulator says"
    )


def most_at_once(running: Workers) -> int:
    return int(running.value(_MOST_AT_ONCE))


def queued_every(running: Workers, request: int) -> float:
    """Seconds from one run of a request to the next, as the daemon queued them."""
    return float(running.value(_QUEUED_EVERY, request=str(request)))


def connections_opened(running: Workers) -> int:
    """How many sessions the database has had."""
    return int(running.value(_SESSIONS))
