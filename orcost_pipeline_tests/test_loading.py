"""How rows are merged into a table: by difference, at once where it is empty, never a key twice; what a merge reads."""

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy import event

from orcost_pipeline.measures import MEASURES
from orcost_pipeline.warehouse import raw
from orcost_pipeline.warehouse.loading import Merged, copy_rows, merge
from orcost_pipeline.warehouse.publication.hours import ANALYTICS
from orcost_pipeline.warehouse.publication.step import Staging
from orcost_pipeline_tests.world import NOON, query


class Shelf:
    """A table `shelf (place, book, price)`, keyed by place and book, to merge into."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "create table public.shelf (place integer, book text, price numeric, primary key (place, book)) "
                "with (autovacuum_enabled = off)"
            )

    def merge(
        self,
        *rows: tuple[int, str, Any],
        scope: str | None = "true",
        touched: list[Any] | None = None,
        collecting: str = "place integer, book text",
    ) -> Merged:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(
                "create temporary table staged_shelf (place integer, book text, price numeric) on commit drop"
            )
            copy_rows(connection, "staged_shelf", ("place", "book", "price"), rows)
            if touched is not None:
                connection.exec_driver_sql(f"create temporary table touched ({collecting}) on commit drop")
            told = merge(
                connection,
                "public.shelf",
                "staged_shelf",
                ("place", "book"),
                scope=scope,
                parameters={"place": 1},
                touched=None if touched is None else "touched",
            )
            if touched is not None:
                found = connection.execute(sa.text("select * from touched"))
                touched.extend(sorted(tuple(row) for row in found))
            return told

    @property
    def rows(self) -> list[Any]:
        return query(self.engine, "select place, book, price from public.shelf order by 1, 2")

    @property
    def versions(self) -> list[Any]:
        """Which transaction wrote each row: moves even where a row was written as it was."""
        return query(self.engine, "select place, book, xmin::text, ctid::text from public.shelf order by 1, 2")

    @property
    def statistics(self) -> float:
        """How many rows the planner knows of; -1: it has no statistics."""
        return query(self.engine, "select reltuples from pg_class where oid = 'public.shelf'::regclass")[0][0]

    def statements_of(self, merge: Callable[[], Any]) -> list[str]:
        """What `merge` executes, from the first statement that reads the stored or staged rows."""
        executed: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            executed.append(statement.strip())

        event.listen(self.engine, "before_cursor_execute", note)
        merge()
        event.remove(self.engine, "before_cursor_execute", note)
        return [it for it in executed if not it.startswith(("create temporary table staged", "set local"))]

    def wal(self) -> int:
        return int(query(self.engine, "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0][0])


@pytest.fixture
def shelf(engine: sa.Engine) -> Shelf:
    return Shelf(engine)


def test_merged_rows_are_those_given(shelf: Shelf) -> None:
    assert shelf.merge((1, "a", 1), (1, "b", None), (2, "a", Decimal("0.1"))) == Merged(0, 3)
    assert shelf.rows == [(1, "a", 1), (1, "b", None), (2, "a", Decimal("0.1"))]


def test_the_same_rows_again_write_nothing(shelf: Shelf) -> None:
    rows = [(1, "a", 1), (1, "b", None), (2, "a", Decimal("0.10"))]
    shelf.merge(*rows)
    before = shelf.versions
    assert shelf.merge(*rows) == Merged(0, 0)
    assert shelf.versions == before


def test_the_same_rows_again_write_no_wal_to_speak_of(shelf: Shelf) -> None:
    rows = [(number % 50, f"book {number}", Decimal(number) / 7) for number in range(10_000)]
    start = shelf.wal()
    assert shelf.merge(*rows).written == 10_000
    first = shelf.wal() - start
    shelf.merge(*rows)  # leaves the hints that a first reader leaves
    start = shelf.wal()
    assert shelf.merge(*rows) == Merged(0, 0)
    again = shelf.wal() - start
    assert first > 1_000_000
    assert again < first / 20, (first, again)


def test_only_the_rows_that_differ_are_written(shelf: Shelf) -> None:
    shelf.merge((1, "a", 1), (1, "b", None), (2, "c", 3))
    before = shelf.versions
    assert shelf.merge((1, "a", 1), (1, "b", 2), (2, "c", 3)) == Merged(0, 1)
    assert shelf.rows == [(1, "a", 1), (1, "b", 2), (2, "c", 3)]
    assert [a == b for a, b in zip(before, shelf.versions, strict=True)] == [True, False, True]


def test_a_value_that_becomes_null_is_written(shelf: Shelf) -> None:
    shelf.merge((1, "a", 1))
    assert shelf.merge((1, "a", None)) == Merged(0, 1)
    assert shelf.rows == [(1, "a", None)]


def test_the_last_digit_makes_a_difference(shelf: Shelf) -> None:
    shelf.merge((1, "a", Decimal("0.1000000000000000000000000001")))
    assert shelf.merge((1, "a", Decimal("0.1000000000000000000000000002"))) == Merged(0, 1)


def test_rows_that_the_scope_no_longer_has_are_deleted_and_others_stay(shelf: Shelf) -> None:
    shelf.merge((1, "a", 1), (1, "b", 2), (2, "a", 3))
    assert shelf.merge((1, "b", 2), scope="t.place = :place") == Merged(1, 0)
    assert shelf.rows == [(1, "b", 2), (2, "a", 3)]


def test_nothing_at_all_empties_the_scope(shelf: Shelf) -> None:
    shelf.merge((1, "a", 1), (1, "b", 2), (2, "a", 3))
    assert shelf.merge(scope="t.place = :place") == Merged(2, 0)
    assert shelf.rows == [(2, "a", 3)]


@pytest.mark.parametrize("stored", [(), ((0, "another", 0),)])
def test_a_load_after_one_that_was_killed_takes_no_longer_than_the_first(shelf: Shelf, stored: tuple[Any, ...]) -> None:
    """The aborted rows are vacuumed away, and the statistics say that the table is empty, or nearly, while it fills."""
    rows = [(number % 50 + 1, f"book {number}", number) for number in range(20_000)]
    # As much of the rows fits into it as of 120,000 into what is usual.
    with shelf.engine.begin() as connection:
        database = connection.exec_driver_sql("select current_database()").scalar_one()
        connection.exec_driver_sql(f"alter database {database} set work_mem = '64kB'")
    shelf.engine.dispose()

    def seconds() -> float:
        began = time.monotonic()
        assert shelf.merge(*rows, scope="t.place > 0").written == len(rows)
        return time.monotonic() - began

    fresh = seconds()
    with shelf.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("truncate public.shelf")
        for row in stored:
            connection.exec_driver_sql("insert into public.shelf values (%s, %s, %s)", row)
        connection.exec_driver_sql("begin")
        connection.exec_driver_sql("insert into public.shelf select n, 'aborted', n from generate_series(1, 30000) n")
        connection.exec_driver_sql("rollback")
        connection.exec_driver_sql("vacuum analyze public.shelf")
    assert shelf.statistics == len(stored)
    assert seconds() < 3 * fresh + 1


def test_a_few_rows_are_merged_by_two_statements_none_of_which_changes_the_catalogue(shelf: Shelf) -> None:
    shelf.merge((1, "a", 1), (1, "b", 2))
    executed = shelf.statements_of(lambda: shelf.merge((1, "a", 1), (1, "b", 3), (1, "c", 4)))
    assert [it.split()[0] for it in executed] == ["with", "with"]


def test_rows_for_an_empty_table_are_compared_with_nothing(shelf: Shelf) -> None:
    executed = shelf.statements_of(lambda: shelf.merge((1, "a", 1), (1, "b", 2), scope="false"))
    assert [it.split()[0] for it in executed] == ["with", "insert"]


def test_statistics_are_made_where_many_rows_and_a_tenth_of_the_table_are_written(shelf: Shelf) -> None:
    rows = [(1, f"book {number}", number) for number in range(20_000)]
    shelf.merge(*rows[:1_000])
    assert shelf.statistics == -1
    shelf.merge(*rows)
    assert shelf.statistics == 20_000
    shelf.merge(*((2, f"book {number}", number) for number in range(1_500)), scope=None)
    assert shelf.statistics == 20_000
    shelf.merge(*((3, f"book {number}", number) for number in range(2_500)), scope=None)
    assert shelf.statistics == 24_000


def test_a_merge_uses_up_an_identity_for_new_rows_only(shelf: Shelf) -> None:
    with shelf.engine.begin() as connection:
        connection.exec_driver_sql("alter table public.shelf add column number integer generated always as identity")
    for price in range(5):
        shelf.merge((1, "a", price), (1, f"new {price}", price), scope=None)
    assert query(shelf.engine, "select max(number), count(*) from public.shelf") == [(6, 6)]


def test_without_a_scope_nothing_is_deleted(shelf: Shelf) -> None:
    shelf.merge((1, "a", 1))
    assert shelf.merge((2, "b", 2), scope=None) == Merged(0, 1)
    assert shelf.rows == [(1, "a", 1), (2, "b", 2)]


@pytest.mark.parametrize("more", [(), tuple((3, f"book {number}", 1) for number in range(2_000))])
@pytest.mark.parametrize("rows", [((1, "a", 1), (1, "a", 2)), ((1, "a", 1), (1, "a", 1))])
@pytest.mark.parametrize("stored", [(), ((2, "b", 3),), ((1, "a", 1),)])
def test_a_duplicate_key_raises_and_changes_nothing(
    shelf: Shelf, stored: tuple[Any, ...], rows: tuple[Any, ...], more: tuple[Any, ...]
) -> None:
    shelf.merge(*stored)
    with pytest.raises(sqlalchemy.exc.IntegrityError, match=r"\(1, a\)"):
        shelf.merge(*more, *rows)
    assert shelf.rows == list(stored)


def test_a_null_in_a_key_raises(shelf: Shelf) -> None:
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        shelf.merge((1, None, 1))  # type: ignore[arg-type]


def test_rows_that_were_written_or_deleted_are_collected(shelf: Shelf) -> None:
    shelf.merge((1, "deleted", 1), (1, "same", 2), (1, "changed", 3))
    touched: list[Any] = []
    merged = shelf.merge((1, "same", 2), (1, "changed", 4), (1, "new", 5), touched=touched)
    assert merged == Merged(1, 2)
    assert touched == [(1, "changed"), (1, "deleted"), (1, "new")]


def test_what_is_collected_is_collected_once(shelf: Shelf) -> None:
    def collected(*rows: tuple[int, str, Any]) -> list[Any]:
        touched: list[Any] = []
        shelf.merge(*rows, touched=touched, collecting="place integer")
        return touched

    assert collected((1, "a", 1), (1, "b", 2), (2, "c", 3)) == [(1,), (2,)]
    assert collected((1, "a", 2), (1, "b", 3), (2, "c", 3)) == [(1,)]
    assert collected((1, "a", 3)) == [(1,), (2,)]
    assert collected() == [(1,)]


def test_many_raw_rows_have_statistics_before_they_are_published(engine: sa.Engine) -> None:
    cells = (("hash", NOON, f"model {number}", *[1] * 7) for number in range(2_000))
    columns = ("key_hash", "hour", "model", *MEASURES)
    with engine.begin() as connection:
        tables = {"usage_hourly": (columns, cells)}
        raw.add_rows(connection, tables, extraction_id="it", account="acme", as_of=NOON)
    assert query(engine, "select reltuples from pg_class where oid = 'raw.usage_hourly'::regclass") == [(2_000,)]


@pytest.fixture
def year(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Facts of a year, 10 keys an hour, and temporary relations of a sync that asked for an hour."""
    with engine.begin() as connection:
        for statement in (
            "insert into core.usage_hourly select hour, 1, key, 1, 1, 1, 1, 1, 1, 1, 0, 'analytics' from "
            f"generate_series('{NOON}'::timestamptz - interval '364 days', '{NOON}', '1 hour') hour, "
            "generate_series(1, 10) key",
            "analyze core.usage_hourly",
            f"create temporary table asked_hours as select key as key_id, '{NOON}'::timestamptz as start_at, "
            f"'{NOON}'::timestamptz + interval '1 hour' as end_at from generate_series(0, 10) key",
        ):
            connection.exec_driver_sql(statement)
        yield connection


def test_a_merge_of_an_hour_reads_its_hours_alone(year: sa.Connection) -> None:
    merges = [step.merge for step in ANALYTICS if isinstance(step, Staging) and step.merge]
    scopes = [it.within for it in merges if it.into == "core.usage_hourly"]
    assert len(scopes) == 2
    for within in scopes:
        deletion = f"explain delete from core.usage_hourly t where {' and '.join(within or ())}"
        plan = "\n".join(year.exec_driver_sql(deletion).scalars())
        assert "Seq Scan on usage_hourly" not in plan, plan
