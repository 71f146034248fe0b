"""How fast rows are merged into the hourly facts: `python -m benchmarks.loading [--rows 1000000]`.

Each way loads the same rows, from Python, into `core.usage_hourly` of an embedded Postgres: a raw COPY, the program's
own COPY into a temporary relation and merge, the same merge again with nothing changed, a merge in which 1 row of 20
was restated, and `pandas.to_sql` of a tenth of the rows. Prints seconds, rows a second relative to the raw COPY of the
same run, WAL, and the dead rows that were left. Merges are repeated three times; the median is shown.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pandas as pd
import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.loading import copy_rows, merge
from orcost_pipeline.warehouse.schema.upgrade import migrate

TABLE, KEYS = "core.usage_hourly", ("hour", "account_id", "key_id", "model_id")
COLUMNS = (*KEYS, *MEASURES, "source")
ROWS_AN_HOUR, KEY_COUNT = 1_344, 1_000
TIMES = 3

Row = tuple[Any, ...]


class Load(NamedTuple):
    """What a load took: seconds, bytes of WAL, and the dead rows that it left in the table."""

    seconds: float
    wal: int
    dead: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description="Merges against a raw COPY.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to load (1000000)")
    count = parser.parse_args().rows
    with warehouse() as engine:
        whole, restated = rows(count), rows(count, restated_each=20)
        raw = repeated(engine, lambda: raw_copy(engine, whole), empties=True)
        print(f"{count:,} rows{'':24}{'s':>8}{'× COPY':>8}{'WAL, MB':>9}{'dead rows':>11}")
        show("raw COPY", raw, raw)
        show("merge, first", repeated(engine, lambda: merged(engine, whole), empties=True), raw)
        show("merge, the same again", repeated(engine, lambda: merged(engine, whole)), raw)
        show("merge, 1 of 20 restated", repeated(engine, lambda: merged(engine, restated), times=1), raw)
        tenth = whole[: count // 10]
        show(
            "pandas.to_sql, a tenth", repeated(engine, lambda: by_pandas(engine, tenth), empties=True, times=1), raw, 10
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


def raw_copy(engine: sa.Engine, given: Sequence[Row]) -> None:
    with engine.begin() as connection:
        copy_rows(connection, TABLE, COLUMNS, given)


def merged(engine: sa.Engine, given: Sequence[Row]) -> None:
    """As a publication loads hours: a temporary relation, whose rows become those of the account."""
    with engine.begin() as connection:
        connection.execute(sa.text(f"create temporary table staged on commit drop as select * from {TABLE} limit 0"))
        connection.execute(sa.text("create temporary table touched (hour timestamptz not null) on commit drop"))
        copy_rows(connection, "staged", COLUMNS, given)
        merge(connection, TABLE, "staged", KEYS, scope="t.account_id = 1", touched="touched")


def by_pandas(engine: sa.Engine, given: Sequence[Row]) -> None:
    frame = pd.DataFrame(given, columns=list(COLUMNS))
    schema, name = TABLE.split(".")
    source = sa.Enum("analytics", "counters", name="usage_source", schema="core")
    with engine.begin() as connection:
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


def repeated(engine: sa.Engine, load: Callable[[], None], *, empties: bool = False, times: int = TIMES) -> Load:
    """The median of so many loads, each into an empty table if `empties`."""
    loads: list[Load] = []
    for _ in range(times):
        vacuum(engine, truncates=empties)
        before, started = wal_bytes(engine), time.perf_counter()
        load()
        seconds = time.perf_counter() - started
        loads.append(Load(seconds, wal_bytes(engine) - before, dead_rows(engine)))
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


def show(name: str, load: Load, raw: Load, parts: int = 1) -> None:
    """One line; `parts`: into how many equal loads of the same rows this one is a part."""
    ratio = raw.seconds / (load.seconds * parts)
    print(f"{name:32}{load.seconds:>8.2f}{ratio:>8.2f}{load.wal / 1e6:>9.1f}{load.dead:>11,}", flush=True)


if __name__ == "__main__":
    main()
