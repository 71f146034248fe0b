"""Days of a time zone are cut from UTC hours: in the function for SQL clients and in `orcost report --time-zone`."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import psycopg
import pytest
import sqlalchemy as sa

from orcost_pipeline.windows import DAY, HOUR, utc_day
from orcost_pipeline_tests.known_spend import AS_OF, HOURS_FROM, NOW, Truth, by_company, summed
from orcost_pipeline_tests.test_cli_reports import GROUPINGS, Orcost, figures, folder, orcost  # noqa: F401 (fixtures)
from orcost_pipeline_tests.world import query

pytest_plugins = ["orcost_pipeline_tests.known_spend"]

LOCAL = "select * from marts.company_spend_local(:zone, :first, :last)"
WARSAW, CHANGE, MONTH = "Europe/Warsaw", date(2026, 10, 25), date(2026, 11, 1)


def local(truth: Truth, zone: str, first: date, last: date) -> list:
    """The facts of the hours that have these local dates, one after the other."""
    return [fact for fact in truth.hours if first <= fact.start.astimezone(ZoneInfo(zone)).date() < last]


@pytest.mark.parametrize("zone", [WARSAW, "America/Havana", "America/New_York", "Pacific/Kiritimati", "UTC"])
def test_local_days_are_the_hours_of_their_dates(engine: sa.Engine, truth: Truth, zone: str) -> None:
    first, last = CHANGE, utc_day(NOW) + 2 * DAY
    expected = {
        (str(day), company): amounts
        for day in (first + timedelta(days=n) for n in range((last - first).days))
        for (_, company), amounts in summed(local(truth, zone, day, day + DAY), by_company).items()
    }
    rows = query(engine, LOCAL, zone=zone, first=first, last=last)
    assert {(str(day), company): tuple(map(Fraction, amounts)) for day, company, *amounts in rows} == expected
    assert len(expected) > 60


@pytest.mark.parametrize("by", GROUPINGS)
def test_a_report_of_local_days_is_cut_from_hours(orcost: Orcost, truth: Truth, by: str) -> None:  # noqa: F811
    days = ("--from", str(CHANGE), "--to", str(CHANGE + 3 * DAY))
    told = orcost("report", "--time-zone", WARSAW, *days, "--by", by, "--format", "json")
    expected = summed(local(truth, WARSAW, CHANGE, CHANGE + 3 * DAY), GROUPINGS[by])
    assert (told.code, figures(told.rows, by)) == (0, expected)
    assert all((row["known_from"], row["is_complete"]) == ("2026-10-24T22:00:00Z", True) for row in told.rows)


def test_a_local_month_is_answered_while_it_runs(orcost: Orcost, truth: Truth) -> None:  # noqa: F811
    told = orcost("report", "--time-zone", WARSAW, "--month", "2026-11", "--format", "json")
    assert figures(told.rows, "company") == summed(local(truth, WARSAW, MONTH, MONTH + 30 * DAY), by_company)
    table = orcost("report", "--time-zone", WARSAW, "--month", "2026-11").out
    assert table.startswith(
        "Company cost, November 2026 in Europe/Warsaw to date (2026-10-31 23:00 – 2026-11-23 13:20 UTC)\n"
    )
    open_end = orcost("report", "--time-zone", WARSAW, "--from", "2026-11-01", "--format", "json")
    assert open_end.rows == told.rows


@pytest.mark.usefixtures("truth")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--period", "7d"), "--time-zone cuts days: give --month, or --from and --to as days."),
        ((), "--time-zone cuts days: give --month, or --from and --to as days."),
        (("--from", "2026-11-01T13:00"), '--from "2026-11-01T13:00" is not a day written 2026-11-01'),
        (("--from", "2026-11-02", "--to", "2026-11-02"), "--to must be later than --from (2026-11-02)"),
        (("--month", "2026-10"), "2026-10-01 begins before the known hours in Europe/Warsaw: the first day that does"),
        (("--month", "2026-10"), "the first day that does not is 2026-10-24."),
    ],
)
def test_what_is_no_span_of_local_days_is_refused(
    orcost: Orcost,  # noqa: F811
    options: tuple[str, ...],
    sentence: str,
) -> None:
    told = orcost("report", "--time-zone", WARSAW, *options)
    assert told.code == 1
    assert sentence in told.err
    assert told.out == ""


@pytest.mark.usefixtures("truth")
def test_an_unknown_zone_is_refused_in_one_sentence(orcost: Orcost) -> None:  # noqa: F811
    told = orcost("report", "--time-zone", "Europe/Warsow", "--from", "2026-11-01")
    assert (told.code, told.err.count("\n"), "Traceback" in told.err) == (1, 1, False)
    assert 'time zone "Europe/Warsow" is not known' in told.err


@contextmanager
def refused(sentence: str) -> Iterator[None]:
    with pytest.raises(sa.exc.DataError, match=sentence) as caught:
        yield
    assert isinstance(caught.value.orig, psycopg.Error)
    assert caught.value.orig.sqlstate == "22023"


@pytest.mark.usefixtures("truth")
@pytest.mark.parametrize("zone", ["CET+1", "EST5EDT,M3.2.0,M11.1.0", "+02", "europe/warsaw", "", None, "<+02>-02"])
def test_a_zone_without_a_name_is_refused(engine: sa.Engine, zone: str | None) -> None:
    with refused("is not known: it must be a name of pg_timezone_names"):
        query(engine, LOCAL, zone=zone, first=MONTH, last=MONTH + DAY)


@pytest.mark.usefixtures("truth")
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns"])
def test_days_of_a_zone_that_is_half_an_hour_off_are_refused(engine: sa.Engine, zone: str) -> None:
    with refused(f"{zone} is not whole hours from UTC on 2026-11-01"):
        query(engine, LOCAL, zone=zone, first=MONTH, last=MONTH + DAY)


@pytest.mark.usefixtures("truth")
@pytest.mark.parametrize(
    ("first", "last"),
    [(MONTH, MONTH - DAY), (None, MONTH), (MONTH, None), (date(2026, 11, 1), "infinity"), ("-infinity", MONTH)],
)
def test_a_span_that_ends_before_it_begins_or_never_is_refused(
    engine: sa.Engine, first: date | str | None, last: date | str | None
) -> None:
    with refused("first_day must not be later than last_day"):
        query(engine, LOCAL, zone="UTC", first=first, last=last)


@pytest.mark.usefixtures("truth")
def test_a_day_before_the_known_hours_names_the_first_that_is_known(engine: sa.Engine) -> None:
    assert datetime(2026, 10, 23, 14, tzinfo=UTC) == HOURS_FROM
    for zone, first in (("UTC", 24), (WARSAW, 24), ("Asia/Tokyo", 24), ("Etc/GMT-10", 24), ("Etc/GMT-11", 25)):
        with refused(
            f"2026-10-23 begins before the known hours in {zone}: the first day that does not is 2026-10-{first}"
        ):
            query(engine, LOCAL, zone=zone, first=date(2026, 10, 23), last=MONTH)
        assert query(engine, LOCAL, zone=zone, first=date(2026, 10, first), last=MONTH)
    assert query(engine, LOCAL, zone="UTC", first=utc_day(AS_OF) + DAY, last=date(9999, 12, 31)) == []


@pytest.mark.usefixtures("truth")
@pytest.mark.parametrize("zone", ["UTC", WARSAW])
@pytest.mark.parametrize("first", ["0001-01-01", "1500-01-01", "1900-01-01"])
def test_a_day_long_before_the_known_hours_is_refused_at_once(engine: sa.Engine, zone: str, first: str) -> None:
    """Warsaw was no whole hours from UTC then, which nobody has to know."""
    told = f"{first} begins before the known hours in {zone}: the first day that does not is 2026-10-24"
    with engine.connect() as connection, refused(told):
        connection.exec_driver_sql("set local statement_timeout = '2s'")
        connection.execute(sa.text(LOCAL), {"zone": zone, "first": date.fromisoformat(first), "last": MONTH})


@pytest.mark.usefixtures("truth")
@pytest.mark.parametrize(("first", "last"), [("2026-11-01", "294277-01-01"), ("4713-11-24 BC", "2026-11-01")])
def test_days_beyond_the_years_of_the_calendar_are_refused(engine: sa.Engine, first: str, last: str) -> None:
    with refused("days must be of the years 1 to 9999"):
        query(engine, LOCAL, zone="UTC", first=first, last=last)


@pytest.fixture
def a_dollar_an_hour(engine: sa.Engine) -> None:
    """Each hour of two years costs 1 USD."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into ref.account (account, as_of, hours_from) values ('acme', '2027-06-30 12:10Z', '2025-06-30Z')"
        )
        connection.exec_driver_sql(
            "insert into core.company_hour select h, account_id, 0, 1, 0, 0, 0, 0, 1, 0 from ref.account, "
            "generate_series(timestamptz '2025-06-30Z', '2027-06-30 12:00Z', '1 hour') h"
        )


@pytest.mark.usefixtures("a_dollar_an_hour")
@pytest.mark.parametrize(
    "zone", [WARSAW, "America/New_York", "America/Havana", "Africa/Cairo", "America/Santiago", "Asia/Tokyo"]
)
def test_a_day_of_a_clock_change_has_its_23_or_25_hours(engine: sa.Engine, zone: str) -> None:
    first, last = date(2026, 1, 1), date(2027, 1, 1)
    hours = dict.fromkeys((first + timedelta(days=n) for n in range(365)), 0)
    at = datetime(2025, 12, 31, tzinfo=UTC)
    while at < datetime(2027, 1, 2, tzinfo=UTC):
        if (day := at.astimezone(ZoneInfo(zone)).date()) in hours:
            hours[day] += 1
        at += HOUR
    rows = query(engine, LOCAL, zone=zone, first=first, last=last)
    assert {row[0]: row[-2] for row in rows} == hours
    assert {23, 24, 25} == set(hours.values()) or zone == "Asia/Tokyo"
    # Each day by itself too, those of the change among them.
    for day in [day for day, count in hours.items() if count != 24]:
        assert [row[-2] for row in query(engine, LOCAL, zone=zone, first=day, last=day + DAY)] == [hours[day]]


@pytest.mark.usefixtures("a_dollar_an_hour")
def test_a_zone_is_answered_on_the_days_on_which_it_is_whole_hours_off(engine: sa.Engine) -> None:
    zone, change = "Australia/Lord_Howe", date(2026, 10, 4)
    assert [row[-2] for row in query(engine, LOCAL, zone=zone, first=change + DAY, last=change + 2 * DAY)] == [24]
    for day in (change - DAY, change):
        with refused(f"{zone} is not whole hours from UTC on {day}"):
            query(engine, LOCAL, zone=zone, first=day, last=change + 2 * DAY)


@pytest.mark.usefixtures("a_dollar_an_hour")
def test_hours_are_known_where_every_account_knows_them(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into ref.account (account, as_of, hours_from) values ('never synced', null, null), "
            "('globex', '2027-06-30 12:10Z', '2027-06-01Z')"
        )
    with refused("the first day that does not is 2027-06-02"):
        query(engine, LOCAL, zone=WARSAW, first=date(2027, 5, 31), last=date(2027, 6, 3))
    alone = "select start_at from core.local_window(:zone, :first, :last, 'acme')"
    assert query(engine, alone, zone=WARSAW, first=date(2027, 5, 31), last=date(2027, 6, 3)) == [
        (datetime(2027, 5, 30, 22, tzinfo=UTC),)
    ]
    known = query(engine, LOCAL, zone=WARSAW, first=date(2027, 6, 2), last=date(2027, 6, 3))
    assert [row[-2] for row in known] == [24]
