"""The first sync of a large account: requests, seconds, memory of `orcost sync`, and what a kill costs it.

10,000 keys of which 1,000 are used every hour of 31 days: 1.5 million hourly facts, a gigabyte of simulated account in
a process of its own, answered on a real port after 80 ms. Beside each number of analytics questions stands the least
that any client needs: rows by 10,000, at 60 a minute. `--kills` ends the sync by SIGKILL at as many random moments,
each followed by the next `orcost sync`, and compares the end with the account.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from benchmarks.processes import Ended, run, succeeded
from orcost_pipeline.simulator import Options, Simulator, scale, serve
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres

ROWS_OF_AN_ANSWER = 10_000
ANALYTICS_A_MINUTE = 60
LATENCY_SECONDS = 0.08
ORCOST = Path(sys.executable).with_name("orcost")
DAY = timedelta(days=1)


class Size(NamedTuple):
    """Keys of the account, how many of them are used every hour, and since how many days."""

    keys: int
    active: int
    days: int


class Told(NamedTuple):
    """What the simulated account can say of itself."""

    url: str
    key: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--active", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    measure(Size(given.keys, given.active, given.days), given.kills, random.Random(given.seed))


def measure(size: Size, kills: int, dice: random.Random) -> None:
    """Prints the figures; raises AssertionError where the warehouse is not the account in the end."""
    with account(size) as (told, ask), warehouse() as (engine, home):
        environment = os.environ | {"OPENROUTER_API_KEY": told.key, "OPENROUTER_BASE_URL": told.url}
        environment |= {"ORCOST_HOME": str(home), "ORCOST_DATABASE_URL": engine.url.render_as_string(False)}
        print(f"{'':<30}{'analytics':>10}{'others':>8}{'seconds':>9}{'least s':>9}{'MB':>7}{'facts':>11}", flush=True)
        first = 0.0
        for number in range(kills):
            # Later moments the longer a sync has lived: most kills meet the reading, some its end and the publication.
            after = dice.uniform(1, 4 if number < kills // 2 else 60)
            ended = run([ORCOST, "sync"], home, environment, kill_after=after)
            report(f"killed after {after:.0f} s", ended, ask("requests"), engine, size)
            if ended.code == 0:
                first = ended.seconds
        if not first:
            finished = succeeded(run([ORCOST, "sync"], home, environment))
            report("first sync" if not kills else "to the end", finished, ask("requests"), engine, size)
        for what in ("again at once", "once more"):
            report(what, run([ORCOST, "sync"], home, environment), ask("requests"), engine, size)
        spent, stored = ask("spent"), stored_spend(engine, "core.usage_hourly")
        assert spent == stored, (spent, stored)
        print(f"The warehouse has what the account spent: {stored} USD.")


def report(what: str, ended: Ended, requests: dict[str, int], engine: sa.Engine, size: Size) -> None:
    analytics = requests.pop("analytics", 0)
    facts = count_facts(engine)
    least = math.ceil(size.active * 2 * min(size.days, 31) * 24 / ROWS_OF_AN_ANSWER) * 60 / ANALYTICS_A_MINUTE
    shown = f"{least:.0f}" if what in ("first sync", "to the end") else "–"
    print(
        f"{what:<30}{analytics:>10,}{sum(requests.values()):>8,}{ended.seconds:>9.1f}{shown:>9}"
        f"{ended.memory_mb:>7.0f}{facts:>11,}",
        flush=True,
    )


def count_facts(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        exists = connection.execute(sa.text("select to_regclass('core.usage_hourly') is not null")).scalar_one()
        counted = "select count(*) from core.usage_hourly"
        return int(connection.execute(sa.text(counted)).scalar_one()) if exists else 0


def stored_spend(engine: sa.Engine, table: str) -> str:
    with engine.connect() as connection:
        return str(connection.execute(sa.text(f"select trim_scale(sum(credits_usd)) from {table}")).scalar())


@contextmanager
def warehouse() -> Iterator[tuple[sa.Engine, Path]]:
    """A new embedded Postgres, and a folder to run in; both are gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="orcost-bench-"))
    home.chmod(0o755)
    try:
        engine = connect(EmbeddedPostgres(home).start())
        yield engine, home
        engine.dispose()
    finally:
        EmbeddedPostgres(home).stop()
        shutil.rmtree(home, ignore_errors=True)


# ── the simulated account, in a process of its own ────────────────────────────────────────────────────────────────────


@contextmanager
def account(size: Size) -> Iterator[tuple[Told, Any]]:
    """The account's address and key, and a function that asks it for its `requests` since the last time, or `spent`."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_answer, args=(there, size), daemon=True)
    process.start()
    told = Told(*json.loads(here.recv()))

    def ask(question: str) -> Any:
        here.send(question)
        return json.loads(here.recv())

    try:
        yield told, ask
    finally:
        process.terminate()
        process.join()


def _answer(pipe: Connection, size: Size) -> None:
    # Nothing is spent after the last whole hour, so that the end can be compared.
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    ledger = scale(now - DAY, keys=size.keys, active_keys=size.active, days=size.days - 1)
    simulator = Simulator(ledger, options=Options(latency_seconds=LATENCY_SECONDS))
    name, known = next(iter(ledger.accounts.items()))
    with serve(simulator) as url:
        pipe.send(json.dumps(Told(url, known.management_key)))
        while True:
            if pipe.recv() == "requests":
                asked = Counter(
                    "analytics" if it.path.startswith("/analytics") else "others" for it in simulator.requests
                )
                simulator.forget_requests()
                pipe.send(json.dumps(asked))
            else:
                cells = ledger.hourly(name, now - timedelta(hours=743), datetime.now(UTC), now=datetime.now(UTC))
                spent = sum((cell.credits_usd for cell in cells.values()), Decimal(0))
                pipe.send(json.dumps(f"{spent.normalize():f}"))


if __name__ == "__main__":
    main()
