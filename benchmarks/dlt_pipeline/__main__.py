"""A sync beside a pipeline of dlt and a sequential client: `python -m benchmarks.dlt_pipeline`.

All three read the same simulated account on a real port into the same embedded Postgres: all keys of all workspaces,
and usage by hour, key and model. `orcost sync` does more: it reads activity and the account's totals, gives usage to
companies, and reconciles. The others ask one analytics question for each key; on the next run they ask from two hours
before the last hour that is stored. The simulated account enforces no rate limit; *least s* is what OpenRouter's 60
analytics questions a minute make of them. orcost keeps to that limit by itself. Then dlt merges generated rows beside
a raw COPY and beside the merge of a sync.

Each client is a process; seconds and memory are medians of rounds with a new database each.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import sqlalchemy as sa

from benchmarks import large_account, loading
from benchmarks.dlt_pipeline.environment import python_with_dlt
from benchmarks.generated_rows import COLUMNS, generated_rows
from benchmarks.large_account import ANALYTICS_A_MINUTE, LATENCY_SECONDS, Size
from benchmarks.processes import CHECKOUT, run, succeeded
from orcost_pipeline.warehouse.loading import copy_rows


class Client(NamedTuple):
    """A program that reads the account, and the table in which it keeps usage by hour."""

    name: str
    command: Sequence[str | Path]
    table: str


class Run(NamedTuple):
    """What a client asked, and what its process took."""

    analytics: int
    others: int
    seconds: float
    memory_mb: float


def main() -> None:
    given = _arguments()
    size = Size(given.keys, given.active, given.days)
    with python_with_dlt(given.environment) as python:
        measure_syncs(size, python, given.times)
        print()
        measure_loads(given.rows, python, given.times)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dlt_pipeline", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--keys", type=int, default=300, help="keys of the account (%(default)s)")
    parser.add_argument("--active", type=int, default=100, help="keys used every hour (%(default)s)")
    parser.add_argument("--days", type=int, default=7, help="days of usage (%(default)s)")
    parser.add_argument("--rows", type=int, default=100_000, help="rows to load (%(default)s)")
    parser.add_argument("--times", type=int, default=5, help="rounds (%(default)s)")
    parser.add_argument("--environment", type=Path, help="folder to install dlt into, kept (default: a temporary one)")
    return parser.parse_args()


def clients(python: Path, days: int) -> Sequence[Client]:
    reach = str(days + 1)  # a day more than there is usage: an hour passes meanwhile
    return (
        Client("orcost sync", [large_account.ORCOST, "sync"], "core.usage_hourly"),
        Client("dlt", [python, "-m", "benchmarks.dlt_pipeline.pipeline", reach], "by_dlt.usage_hourly"),
        Client(
            "sequential", [sys.executable, "-m", "benchmarks.dlt_pipeline.sequential", reach], "by_client.usage_hourly"
        ),
    )


def measure_syncs(size: Size, python: Path, times: int) -> None:
    """Prints the medians of so many rounds; raises AssertionError where a client has not stored what was spent."""
    runs: dict[tuple[str, str], list[Run]] = {}
    with large_account.account(size) as (told, ask):
        of_account = {"OPENROUTER_API_KEY": told.key, "OPENROUTER_BASE_URL": told.url}
        for _ in range(times):
            with large_account.warehouse() as (engine, home):
                environment = _environment(engine) | of_account | {"ORCOST_HOME": str(home)}
                for client in clients(python, size.days):
                    for which in ("first", "again"):
                        runs.setdefault((client.name, which), []).append(_run(client, home, environment, ask))
                    stored, spent = large_account.stored_spend(engine, client.table), ask("spent")
                    assert stored == spent, (client.name, stored, spent)
    facts = size.active * 2 * size.days * 24
    print(f"{size.keys:,} keys, {facts:,} facts, an answer after {LATENCY_SECONDS * 1000:.0f} ms; medians of {times}")
    print(f"{'':<24}{'analytics':>10}{'others':>8}{'seconds':>9}{'× orcost':>10}{'least s':>9}{'MB':>7}")
    for which in ("first", "again"):
        for client in clients(python, size.days):
            _show(f"{client.name}, {which}", _median(runs[client.name, which]), _median(runs["orcost sync", which]))
    print("Each of them has stored what the account spent, to the last digit.")


def _environment(engine: sa.Engine) -> Mapping[str, str]:
    return os.environ | {
        "ORCOST_DATABASE_URL": engine.url.set(drivername="postgresql").render_as_string(False),
        "PYTHONPATH": str(CHECKOUT),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }


def _run(client: Client, home: Path, environment: Mapping[str, str], ask: Callable[[str], Any]) -> Run:
    ended = succeeded(run(client.command, home, environment))
    asked = Counter(ask("requests"))
    return Run(asked.pop("analytics", 0), sum(asked.values()), ended.seconds, ended.memory_mb)


def _median(runs: Sequence[Run]) -> Run:
    return Run(*(median(values) for values in zip(*runs, strict=True)))


def _show(name: str, it: Run, orcost: Run) -> None:
    least = 60 * int((it.analytics - 1) // ANALYTICS_A_MINUTE)
    print(
        f"{name:<24}{it.analytics:>10,.0f}{it.others:>8,.0f}{it.seconds:>9.1f}{it.seconds / orcost.seconds:>10.1f}"
        f"{least:>9,}{it.memory_mb:>7.0f}",
        flush=True,
    )


def measure_loads(count: int, python: Path, times: int) -> None:
    """Prints the medians of so many loads of the same rows: by dlt, by a raw COPY, and as a sync publishes them."""
    with loading.warehouse() as engine:
        with tempfile.TemporaryDirectory(prefix="orcost-bench-dlt-") as home:
            command = [python, "-m", "benchmarks.dlt_pipeline.load", str(count), str(times)]
            ended = succeeded(run(command, Path(home), _environment(engine)))
        by_dlt = {which: median(seconds) for which, seconds in json.loads(ended.output.splitlines()[-1]).items()}
        rows = generated_rows(count)
        loading.fill_raw(engine, {"whole": rows})
        loading.vacuum(engine, "raw.usage_hourly")
        copy = loading.repeated(
            engine, lambda it: copy_rows(it, loading.TABLE, COLUMNS, rows), empties=True, times=times
        )
        first = loading.repeated(engine, lambda it: loading.published(it, "whole"), empties=True, times=times)
        again = loading.repeated(engine, lambda it: loading.published(it, "whole"), times=times)
    print(f"{f'{count:,} rows, medians of {times}':<32}{'seconds':>9}{'× COPY':>8}")
    for name, seconds in {
        "raw COPY": copy.seconds,
        "published by a sync, first": first.seconds,
        "published by a sync, again": again.seconds,
        **{f"dlt, merge, {which}": seconds for which, seconds in by_dlt.items()},
    }.items():
        print(f"{name:<32}{seconds:>9.2f}{copy.seconds / seconds:>8.2f}")
    print(f"The process of dlt took {ended.memory_mb:.0f} MB.")


if __name__ == "__main__":
    main()
