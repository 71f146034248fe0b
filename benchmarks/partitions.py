"""Monthly partitions of the hourly facts against one table: `python -m benchmarks.partitions --home DIR`.

Of the warehouse that `benchmarks.questions --home DIR` filled: the same facts in one table, and in one with a partition
for each month. Seconds of the load; milliseconds of companies over 48 hours and 30 days, asked of the facts (median of
5); seconds until the oldest month is gone and its room is free; and the size of a BRIN index on the hour beside that of
the primary key, which begins with the hour.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa

from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres

_MONTHS = (
    "select m::date, (m + interval '1 month')::date from generate_series("
    "(select date_trunc('month', min(hour)) from core.usage_hourly), (select max(hour) from core.usage_hourly), "
    "'1 month') m"
)
_COMPANIES = (
    "select s.company_id, sum(u.credits_usd * s.share) from try.{table} u "
    "join core.assignment s using (account_id, key_id) "
    "where u.hour > (select max(hour) from core.usage_hourly) - interval '{span}' "
    "and s.valid_from <= (u.hour at time zone 'UTC')::date and s.valid_to > (u.hour at time zone 'UTC')::date "
    "group by 1"
)

_SIZE = (
    "select pg_total_relation_size('try.{0}') + coalesce("
    "(select sum(pg_total_relation_size(inhrelid)) from pg_inherits where inhparent = 'try.{0}'::regclass), 0)"
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="of a warehouse filled by benchmarks.questions")
    engine = connect(EmbeddedPostgres(parser.parse_args(arguments).home).start())
    plain = engine.execution_options(isolation_level="AUTOCOMMIT")
    with plain.connect() as connection:
        _make(connection)
        print(f"{'':<34}{'one table':>12}{'partitions':>12}")
        loads = [_timed(connection, f"insert into try.{it} table core.usage_hourly") for it in ("plain", "parts")]
        _row("load, seconds", *(f"{it:.1f}" for it in loads))
        for it in ("plain", "parts"):
            connection.exec_driver_sql(f"vacuum analyze try.{it}")
        sizes = [_one(connection, _SIZE.format(it)) for it in ("plain", "parts")]
        _row("size with indexes, MB", *(f"{float(it) / 1e6:,.0f}" for it in sizes))
        for span in ("48 hours", "30 days"):
            asked = [_median(connection, _COMPANIES.format(table=it, span=span)) for it in ("plain", "parts")]
            _row(f"companies, {span}, ms", *(f"{1000 * it:.0f}" for it in asked))
        _row("oldest month gone, seconds", *(f"{it:.2f}" for it in _gone(connection)))
        connection.exec_driver_sql("create index brin on try.plain using brin (hour)")
        for name in ("plain_pkey", "brin"):
            size = _one(connection, f"select pg_relation_size('try.{name}')")
            _row(f"index {name}, MB", f"{size / 1e6:,.1f}", "")
        connection.exec_driver_sql("drop schema try cascade")


def _make(connection: sa.Connection) -> None:
    connection.exec_driver_sql("drop schema if exists try cascade")
    connection.exec_driver_sql("create schema try")
    connection.exec_driver_sql("create table try.plain (like core.usage_hourly including all)")
    connection.exec_driver_sql(
        "create table try.parts (like core.usage_hourly including all) partition by range (hour)"
    )
    for first, end in connection.exec_driver_sql(_MONTHS).all():
        part = f"create table try.p_{first:%Y%m} partition of try.parts"
        connection.exec_driver_sql(f"{part} for values from ('{first}') to ('{end}')")


def _gone(connection: sa.Connection) -> tuple[float, float]:
    """Seconds that a month takes to be deleted and vacuumed, and to be detached and dropped."""
    oldest = _one(connection, "select min(relid::regclass::text) from pg_partition_tree('try.parts') where isleaf")
    deleted = _timed(connection, f"delete from try.plain where hour <= (select max(hour) from {oldest})")
    deleted += _timed(connection, "vacuum try.plain")
    detached = _timed(connection, f"alter table try.parts detach partition {oldest}")
    return deleted, detached + _timed(connection, f"drop table {oldest}")


def _one(connection: sa.Connection, question: str) -> Any:
    return connection.exec_driver_sql(question).scalar_one()


def _timed(connection: sa.Connection, statement: str) -> float:
    began = time.perf_counter()
    connection.exec_driver_sql(statement)
    return time.perf_counter() - began


def _median(connection: sa.Connection, question: str) -> float:
    return median(_timed(connection, question) for _ in range(5))


def _row(name: str, *values: str) -> None:
    print(f"{name:<34}" + "".join(f"{it:>12}" for it in values), flush=True)


if __name__ == "__main__":
    main()
