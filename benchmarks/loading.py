"""How fast rows are merged into the hourly facts: `python -m benchmarks.loading [--rows 1000000]`.

Each way loads the same rows into `core.usage_hourly` of an embedded Postgres: a raw COPY from Python; a COPY into a
temporary relation and a merge; raw rows that a publication's own SQL stages and merges, as every sync does; and
`pandas.to_sql` of a tenth of the rows. Merges are repeated with nothing changed, and with 1 row of 20 restated. Prints
seconds, rows a second relative to the raw COPY of the same run, the server's CPU seconds, WAL, and the dead rows that
were left. Loads are repeated three times; the median is shown.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pandas as pd
import psutil
import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES
from orcost_pipeline.warehouse import raw
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.loading import copy_rows, merge
from orcost_pipeline.warehouse.publication.transaction import read_sql
from orcost_pipeline.warehouse.schema.upgrade import migrate

TABLE, KEYS = "core.usage_hourly", ("hour", "account_id", "key_id", "model_id")
COLUMNS = (*KEYS, *MEASURES, "source")
ACCOUNT, ROWS_AN_HOUR, KEY_COUNT = "it", 1_344, 1_000
COUNTERS = [f"{byok}usage{of}_usd" for byok in ("", "byok_") for of in ("", "_daily", "_weekly", "_monthly")]
TIMES = 3

Row = tuple[Any, ...]


class Load(NamedTuple):
    """What a load took: seconds, CPU seconds of the server, bytes of WAL, and the dead rows that it left."""

    seconds: float
    server_seconds: float
    wal: int
    dead: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description="Merges against a raw COPY.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to load (1000000)")
    count = parser.parse_args().rows
    with warehouse() as engine:
        whole, restated = rows(count), rows(count, restated_each=20)
        fill_raw(engine, {"whole": whole, "restated": restated})
        copy = repeated(engine, lambda it: copy_rows(it, TABLE, COLUMNS, whole), empties=True)
        print(f"{count:,} rows{'':24}{'s':>8}{'× COPY':>8}{'server s':>10}{'WAL, MB':>9}{'dead rows':>11}")
        show("raw COPY", copy, copy)
        show("copied and merged, first", repeated(engine, lambda it: copied(it, whole), empties=True), copy)
        show("the same again", repeated(engine, lambda it: copied(it, whole)), copy)
        show("1 of 20 restated", repeated(engine, lambda it: copied(it, restated), times=1), copy)
        show("published, first", repeated(engine, lambda it: published(it, "whole"), empties=True), copy)
        show("the same again", repeated(engine, lambda it: published(it, "whole")), copy)
        show("1 of 20 restated", repeated(engine, lambda it: published(it, "restated"), times=1), copy)
        tenth = whole[: count // 10]
        show(
            "pandas.to_sql, a tenth", repeated(engine, lambda it: by_pandas(it, tenth), empties=True, times=1), copy, 10
        )


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


def rows(count: int, *, restated_each: int | None = None) -> list[Row]:
    """Facts of 1,000 keys, hour by hour; each so many-th costs more than it did where `restated_each` is given."""
    first = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        (
            first + number // ROWS_AN_HOUR * timedelta(hours=1),
            1,
            number % ROWS_AN_HOUR % KEY_COUNT + 1,
            number % ROWS_AN_HOUR // KEY_COUNT + 1,
            number % 90 + 1,
            number * 7 % 5_000,
            number * 3 % 900,
            0,
            number % 77,
            Decimal(number * 37 % 100_000 + (restated_each is not None and number % restated_each == 0)).scaleb(-9),
            0,
            "analytics",
        )
        for number in range(count)
    ]


FILL = (
    f"insert into ref.account (account) values ('{ACCOUNT}')",
    f"insert into core.api_key (account_id, key_hash, first_seen_at, {', '.join(COUNTERS)}) "
    f"select 1, md5(k::text), now(), {', '.join('0' for _ in COUNTERS)} from generate_series(1, {KEY_COUNT}) k",
    "insert into core.model (model) select 'model ' || m from generate_series(1, 2) m",
)


def fill_raw(engine: sa.Engine, extractions: Mapping[str, Sequence[Row]]) -> None:
    """Rows as the account's keys answered, by the name of their extraction; and the names of keys and models."""
    columns = ("key_hash", "hour", "model", *MEASURES)
    with engine.begin() as connection:
        for statement in FILL:
            connection.exec_driver_sql(statement)
        hashes = dict(tuple(row) for row in connection.exec_driver_sql("select key_id, key_hash from core.api_key"))
        for name, given in extractions.items():
            cells = ((hashes[key], hour, f"model {model}", *measures) for hour, _, key, model, *measures, _ in given)
            tables = {"usage_hourly": (columns, cells)}
            raw.replace_rows(connection, tables, extraction_id=name, account=ACCOUNT, as_of=given[-1][0])


def copied(connection: sa.Connection, given: Sequence[Row]) -> None:
    connection.execute(sa.text(f"create temporary table staged on commit drop as select * from {TABLE} limit 0"))
    copy_rows(connection, "staged", COLUMNS, given)
    merge_staged(connection, "staged")


def published(connection: sa.Connection, extraction: str) -> None:
    named = {"account": ACCOUNT, "account_id": 1, "extraction_id": extraction}
    connection.execute(read_sql("usage_hourly"), named)
    merge_staged(connection, "staged_usage_hourly")


def merge_staged(connection: sa.Connection, staged: str) -> None:
    connection.execute(sa.text("create temporary table touched (hour timestamptz not null) on commit drop"))
    merge(connection, TABLE, staged, KEYS, scope="t.account_id = 1", touched="touched")


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
        vacuum(engine, truncates=empties)
        wal, started = wal_bytes(engine), time.perf_counter()
        with engine.begin() as connection:
            server = psutil.Process(connection.exec_driver_sql("select pg_backend_pid()").scalar_one())
            cpu = sum(server.cpu_times()[:2])
            load(connection)
            cpu = sum(server.cpu_times()[:2]) - cpu
        seconds = time.perf_counter() - started
        loads.append(Load(seconds, cpu, wal_bytes(engine) - wal, dead_rows(engine)))
    return Load(*(median(values) for values in zip(*loads, strict=True)))


def vacuum(engine: sa.Engine, *, truncates: bool) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"truncate {TABLE}" if truncates else f"vacuum analyze {TABLE}")
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


def show(name: str, load: Load, copy: Load, parts: int = 1) -> None:
    """One line; `parts`: into how many equal loads of the same rows this one is a part."""
    ratio = copy.seconds / (load.seconds * parts)
    print(
        f"{name:32}{load.seconds:>8.2f}{ratio:>8.2f}{load.server_seconds:>10.2f}{load.wal / 1e6:>9.1f}{load.dead:>11,}",
        flush=True,
    )


if __name__ == "__main__":
    main()
