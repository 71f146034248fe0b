"""How fast rows are merged into the hourly facts: `python -m benchmarks.loading [--rows 1000000]`.

Each way loads the same rows into `core.usage_hourly` of an embedded Postgres: a raw COPY from Python; a COPY into a
temporary relation and a merge; raw rows that a publication's own SQL stages and merges, as every sync does; and
`pandas.to_sql` of a tenth of the rows. Merges are repeated with nothing changed, and with 1 row of 20 restated. Prints
seconds, rows a second relative to the raw COPY of the same run, the server's CPU seconds, WAL, and the dead rows that
were left. Loads are repeated five times; the median is shown.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pandas as pd
import psutil
import sqlalchemy as sa

from benchmarks.generated_rows import COLUMNS, KEY_COUNT, KEYS, ROWS_AN_HOUR, Row, generated_rows
from orcost_pipeline.measures import MEASURES
from orcost_pipeline.warehouse import raw
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.loading import copy_rows, merge
from orcost_pipeline.warehouse.publication.transaction import read_sql
from orcost_pipeline.warehouse.schema.upgrade import migrate

TABLE, ACCOUNT = "core.usage_hourly", "it"
COUNTERS = [f"{byok}usage{of}_usd" for byok in ("", "byok_") for of in ("", "_daily", "_weekly", "_monthly")]
TIMES = 5


class Load(NamedTuple):
    """What a load took: seconds, CPU seconds of the server, bytes of WAL, and the dead rows that it left."""

    seconds: float
    server_seconds: float
    wal: int
    dead: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description="Merges against a raw COPY.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to load (%(default)s)")
    parser.add_argument("--restate", type=int, help="measure this instead: rows that are restated among stored facts")
    parser.add_argument("--among", type=int, default=10_000_000, help="the stored facts (%(default)s)")
    given = parser.parse_args()
    with warehouse() as engine:
        if given.restate:
            measure_restatements(engine, given.restate, given.among)
        else:
            measure_loads(engine, given.rows)


def measure_loads(engine: sa.Engine, count: int) -> None:
    whole, restated = generated_rows(count), generated_rows(count, restated_each=20)
    fill_raw(engine, {"whole": whole, "restated": restated})
    vacuum(engine, "raw.usage_hourly")
    copy = repeated(engine, lambda it: copy_rows(it, TABLE, COLUMNS, whole), empties=True)
    show_head(count)
    show("raw COPY", copy, copy)
    show("copied and merged, first", repeated(engine, lambda it: copied(it, whole), empties=True), copy)
    show("the same again", repeated(engine, lambda it: copied(it, whole)), copy)
    show("1 of 20 restated", repeated(engine, lambda it: copied(it, restated), times=1), copy)
    show("published, first", repeated(engine, lambda it: published(it, "whole"), empties=True), copy)
    show("the same again", repeated(engine, lambda it: published(it, "whole")), copy)
    show("1 of 20 restated", repeated(engine, lambda it: published(it, "restated"), times=1), copy)
    tenth = whole[: count // 10]
    by_tenth = repeated(engine, lambda it: by_pandas(it, tenth), empties=True, times=1)
    show("pandas.to_sql, a tenth", by_tenth, copy, 10)


def measure_restatements(engine: sa.Engine, restated: int, among: int) -> None:
    """Publishes so many restated rows of the newest hours: alone, and as every 20th row of a reading of more hours."""
    with engine.begin() as connection:
        fill_keys(connection)
        connection.execute(sa.text(STORED), {"first": 0, "end": among, "restated_each": None})
    for each in (1, 20):
        as_stored, changed = extractions = (f"1 of {each}, as stored", f"1 of {each}, restated")
        with engine.begin() as connection:
            for extraction, restated_each in zip(extractions, (None, each), strict=True):
                named = {"account": ACCOUNT, "extraction_id": extraction, "restated_each": restated_each}
                numbers = {"first": among - restated * each, "end": among}
                connection.execute(sa.text(RAW), named | numbers)
        vacuum(engine, "raw.usage_hourly")
        # By turns, so that each load finds as many rows to restate.
        turns = cycle((changed, as_stored))
        upsert = repeated(engine, lambda it, turns=turns: upserted(it, next(turns)))
        show_head(restated * each, "upsert")
        show("upserted", upsert, upsert)
        show("published", repeated(engine, lambda it, turns=turns: published(it, next(turns))), upsert)


@contextmanager
def warehouse() -> Iterator[sa.Engine]:
    """An empty warehouse of its own."""
    folder = Path(tempfile.mkdtemp(prefix="orcost-bench-"))
    folder.chmod(0o755)
    postgres = EmbeddedPostgres(folder)
    try:
        engine = connect(postgres.start())
        migrate(engine)
        yield engine
        engine.dispose()
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


FILL = (
    f"insert into ref.account (account) values ('{ACCOUNT}')",
    f"insert into core.api_key (account_id, key_hash, first_seen_at, {', '.join(COUNTERS)}) "
    f"select 1, md5(k::text), now(), {', '.join('0' for _ in COUNTERS)} from generate_series(1, {KEY_COUNT}) k",
    "insert into core.model (model) select 'model ' || m from generate_series(1, 2) m",
)
# The rows of `generated_rows`, by their numbers.
GENERATED = (
    f"select timestamptz '2026-01-01 00:00Z' + n / {ROWS_AN_HOUR} * interval '1 hour' as hour, "
    f"n % {ROWS_AN_HOUR} % {KEY_COUNT} + 1 as key_id, n % {ROWS_AN_HOUR} / {KEY_COUNT} + 1 as model_id, "
    "n % 90 + 1 as requests, n * 7 % 5000 as prompt_tokens, n * 3 % 900 as completion_tokens, 0 as reasoning_tokens, "
    "n % 77 as cached_tokens, "
    "(n * 37 % 100000 + case when n % :restated_each = 0 then 1 else 0 end) * 0.000000001 as credits_usd, "
    "0 as byok_usd from generate_series(:first ::bigint, :end - 1) n"
)
STORED = (
    f"insert into {TABLE} ({', '.join(COLUMNS)}) "
    f"select hour, 1, key_id, model_id, {', '.join(MEASURES)}, 'analytics' from ({GENERATED}) g"
)
RAW = (
    f"insert into raw.usage_hourly (account, as_of, run_id, key_hash, hour, model, {', '.join(MEASURES)}) "
    f"select :account, now(), :extraction_id, k.key_hash, hour, 'model ' || model_id, {', '.join(MEASURES)} "
    f"from ({GENERATED}) g join core.api_key k using (key_id)"
)


def fill_keys(connection: sa.Connection) -> None:
    for statement in FILL:
        connection.exec_driver_sql(statement)


def fill_raw(engine: sa.Engine, extractions: Mapping[str, Sequence[Row]]) -> None:
    """Rows as the account's keys answered, by the name of their extraction; and the names of keys and models."""
    columns = ("key_hash", "hour", "model", *MEASURES)
    with engine.begin() as connection:
        fill_keys(connection)
        hashes = dict(tuple(row) for row in connection.exec_driver_sql("select key_id, key_hash from core.api_key"))
        for name, given in extractions.items():
            cells = ((hashes[key], hour, f"model {model}", *measures) for hour, _, key, model, *measures, _ in given)
            tables = {"usage_hourly": (columns, cells)}
            raw.add_rows(connection, tables, extraction_id=name, account=ACCOUNT, as_of=given[-1][0])


def copied(connection: sa.Connection, given: Sequence[Row]) -> None:
    connection.execute(sa.text(f"create temporary table staged on commit drop as select * from {TABLE} limit 0"))
    copy_rows(connection, "staged", COLUMNS, given)
    merge_staged(connection, "staged")


def published(connection: sa.Connection, extraction: str) -> None:
    stage(connection, extraction)
    merge_staged(connection, "staged_usage_hourly")


def upserted(connection: sa.Connection, extraction: str) -> None:
    """The same staged rows, by a statement that writes them all."""
    stage(connection, extraction)
    names, changes = ", ".join(COLUMNS), ", ".join(f"{it} = excluded.{it}" for it in COLUMNS if it not in KEYS)
    connection.execute(
        sa.text(
            f"insert into {TABLE} ({names}) select {names} from staged_usage_hourly "
            f"on conflict ({', '.join(KEYS)}) do update set {changes}"
        )
    )


def stage(connection: sa.Connection, extraction: str) -> None:
    named = {"account": ACCOUNT, "account_id": 1, "extraction_id": extraction}
    connection.execute(read_sql("usage_hourly"), named)


def merge_staged(connection: sa.Connection, staged: str) -> None:
    """Merges what was read: one row for each key and model in each of its hours but the first and the last."""
    connection.execute(sa.text("create temporary table touched (hour timestamptz not null) on commit drop"))
    bounds = f"t.hour > (select min(hour) from {staged}) and t.hour < (select max(hour) from {staged})"
    merge(connection, TABLE, staged, KEYS, scope=f"t.account_id = 1 and {bounds}", touched="touched")


def by_pandas(connection: sa.Connection, given: Sequence[Row]) -> None:
    frame = pd.DataFrame(given, columns=list(COLUMNS))
    schema, name = TABLE.split(".")
    source = sa.Enum("analytics", "counters", name="usage_source", schema="core")
    frame.to_sql(
        name,
        connection,
        schema=schema,
        if_exists="append",
        index=False,
        method="multi",
        chunksize=1_000,
        dtype={**dict.fromkeys(MEASURES, sa.Numeric()), "source": source},
    )


def repeated(
    engine: sa.Engine, load: Callable[[sa.Connection], object], *, empties: bool = False, times: int = TIMES
) -> Load:
    """The median of so many loads, each a transaction, and into an empty table if `empties`."""
    loads: list[Load] = []
    for _ in range(times):
        at_rest(engine, f"truncate {TABLE}" if empties else f"vacuum analyze {TABLE}")
        wal, started = wal_bytes(engine), time.perf_counter()
        with engine.begin() as connection:
            server = psutil.Process(connection.exec_driver_sql("select pg_backend_pid()").scalar_one())
            cpu = sum(server.cpu_times()[:2])
            load(connection)
            cpu = sum(server.cpu_times()[:2]) - cpu
        seconds = time.perf_counter() - started
        loads.append(Load(seconds, cpu, wal_bytes(engine) - wal, dead_rows(engine)))
    return Load(*(median(values) for values in zip(*loads, strict=True)))


def vacuum(engine: sa.Engine, table: str) -> None:
    """What autovacuum would have done by now, and would do meanwhile."""
    at_rest(engine, f"vacuum analyze {table}")


def at_rest(engine: sa.Engine, statement: str) -> None:
    """Executes it by itself, and writes out what was changed."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)
        connection.exec_driver_sql("checkpoint")


def wal_bytes(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql("select pg_current_wal_lsn() - '0/0'::pg_lsn").scalar_one())


def dead_rows(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        connection.exec_driver_sql("select pg_stat_force_next_flush()")
    with engine.connect() as connection:
        statement = "select pg_stat_get_dead_tuples(to_regclass(%(table)s))"
        return int(connection.exec_driver_sql(statement, {"table": TABLE}).scalar_one())


def show_head(count: int, beside: str = "COPY") -> None:
    title = f"{count:,} rows"
    print(f"{title:32}{'s':>8}{f'× {beside}':>10}{'server s':>10}{'WAL, MB':>9}{'dead rows':>11}")


def show(name: str, load: Load, beside: Load, parts: int = 1) -> None:
    """One line; `parts`: into how many equal loads of the same rows this one is a part."""
    ratio = beside.seconds / (load.seconds * parts)
    of_server = f"{load.server_seconds:>10.2f}{load.wal / 1e6:>9.1f}{load.dead:>11,}"
    print(f"{name:32}{load.seconds:>8.2f}{ratio:>10.2f}{of_server}", flush=True)


if __name__ == "__main__":
    main()
