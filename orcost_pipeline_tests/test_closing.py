"""`orcost close` and `orcost reopen`: a closed month stays as it is, and what changes of it is charged later."""

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.billing import closing
from orcost_pipeline.billing.closing import Closing, close_month
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.warehouse.questions.billing import Documents, Obstacle
from orcost_pipeline.warehouse.questions.relations import differing_closed_months
from orcost_pipeline_tests.billing_cli import ACCOUNT, HIDDEN, Orcost, load_file
from orcost_pipeline_tests.billing_world import DECEMBER, NOVEMBER, OCTOBER, Billed, as_text
from orcost_pipeline_tests.world import DAY, HOUR, usage

pytest_plugins = ["orcost_pipeline_tests.billing_cli"]

FORMATS = ("html", "csv", "json")
CLOSINGS = "select month, company, accepted, reopened_at is not null, reason from ops.period_close order by id"

NEXT = "Next: correct what was wrong, then: orcost sync, and: orcost close 2026-10\n"


def printed(orcost: Orcost, company: str = "A", month: str = "2026-10") -> dict[str, str]:
    """The three documents of a statement."""
    return {form: orcost("statement", company, "--month", month, "--format", form).out for form in FORMATS}


def done(orcost: Orcost, *arguments: str) -> str:
    told = orcost(*arguments)
    assert (told.code, told.err) == (0, "")
    return told.out


def table_of(told: str) -> list[list[str]]:
    """The words of each line."""
    return [line.split() for line in told.splitlines()]


def refused(orcost: Orcost, *arguments: str) -> str:
    told = orcost(*arguments)
    assert (told.code, told.out) == (1, "")
    return told.err


# What closing says and keeps


def test_closing_says_what_each_company_owes(world: Billed, orcost: Orcost) -> None:
    world.rate("2026-10-30", "EUR", "0.9187")
    world.sync()
    world.charge_in("B", "EUR")
    assert done(orcost, "close", "2026-10").split("\n") == [
        "2026-10 is closed for 2 companies.",
        "",
        "Company       Total",
        "A         10.00 USD",
        "B          3.67 EUR",
        "Usage is charged at cost: A, B",
        "Next: orcost statement --all --month 2026-10 --output statements",
        "",
    ]
    assert done(orcost, "close", "2026-10") == "2026-10 is closed already; nothing was changed.\n"
    assert done(orcost, "close", "2026-10", "--company", "A") == (
        '2026-10 is closed for "A" already; nothing was changed.\n'
    )
    assert world.rows(CLOSINGS) == [(OCTOBER, None, None, False, None)]


def test_a_closed_statement_is_the_same_for_ever(world: Billed, orcost: Orcost, tmp_path: Path) -> None:
    world.plans("A,markup_percent,12.5", "A,monthly_fee_usd,49,,2026-10-01")
    world.rate("2026-10-30", "EUR", "0.9187")
    world.sync()
    world.charge_in("A", "EUR")
    done(orcost, "close", "2026-10")
    kept = printed(orcost)
    assert "closed on" not in kept["csv"]
    assert '"status": "closed"' in kept["json"]
    assert re.search(r"closed</dd>|>closed<", kept["html"])
    assert "2026-11-03" in kept["html"]
    assert "byok_usd" in kept["csv"]
    changes: dict[str, Callable[[], object]] = {
        "restated": lambda: world.ledger.restate(
            "acme", date(2026, 10, 5), world.keys["app"], GPT, usage=usage("99", "1", requests=7)
        ),
        "late": lambda: world.spend("app", "2026-10-20", "5", model=CLAUDE),
        "planned": lambda: world.plans("A,markup_percent,50"),
        "mapped": lambda: world.map("B,key_name,app,,,", "A,key_name,web,,,"),
        "renamed key": lambda: world.ledger.rename("acme", world.keys["app"], "other", world.now),
        "renamed company": lambda: _execute(world, "update ref.company set display_name = 'New', external_id = 'X'"),
        "rate": lambda: world.rate("2026-10-30", "EUR", "2"),
        "currency": lambda: world.charge_in("A", "JPY"),
        "without cost": lambda: (tmp_path / "orcost.toml").write_text(ACCOUNT + HIDDEN, encoding="utf-8"),
        "another month": lambda: world.later(days=20),
    }
    for change in changes.values():
        change()
        world.later(hours=1).sync()
        assert printed(orcost) == kept
    world.rate("2026-10-29", "JPY", "150")
    assert "byok" not in printed(orcost, month="2026-11")["csv"]
    told = orcost("statement", "--all", "--month", "2026-10", "--output", "out")
    assert told.err.startswith("Shown with cost, as when the month was closed: A, B. To leave it out: orcost reopen")
    assert "byok" not in printed(orcost, month="2026-11")["csv"]
    assert (tmp_path / "out" / "2026-10 A.html").read_text(encoding="utf-8") == kept["html"]


def _execute(world: Billed, statement: str, **parameters: Any) -> None:
    with world.engine.begin() as connection:
        connection.execute(sa.text(statement), parameters)


def test_without_cost_nothing_of_it_is_kept(world: Billed, orcost: Orcost, tmp_path: Path) -> None:
    (tmp_path / "orcost.toml").write_text(ACCOUNT + HIDDEN, encoding="utf-8")
    world.plans("A,markup_percent,12.5")
    world.sync()
    done(orcost, "close", "2026-10")
    kept = world.rows("select html || csv || json from core.closed_month where html is not null")
    assert len(kept) == 2
    for (text,) in kept:
        assert not re.search(r"credits_usd|byok|10\.005\b|cost", text, re.IGNORECASE)


# What is refused


def test_a_month_that_has_not_ended_is_refused(world: Billed, orcost: Orcost) -> None:
    world.sync()
    words = "2026-11 has not ended: it can be closed after its last day is settled.\n"
    assert refused(orcost, "close", "2026-11") == words
    assert "'2026-1' is not a month such as 2026-10." in orcost("close", "2026-1").err
    assert refused(orcost, "close", "2026-10", "--company", "AA") == 'No company is called "AA". Near: "A".\n'
    assert world.rows(CLOSINGS) == []


def test_data_that_does_not_reach_far_enough_is_refused(world: Billed, orcost: Orcost) -> None:
    world.now = datetime(2026, 11, 1, 1, 20, tzinfo=UTC)
    world.sync()
    world.later(hours=10)
    for accepting in ((), ("--accept-open",)):
        assert refused(orcost, "close", "2026-10", *accepting) == (
            "2026-10 cannot be closed yet:\n"
            '  account "acme" is complete to 2026-11-01 01:20 only; 2026-11-01 02:00 UTC is needed\n'
        )


def test_an_account_that_was_never_synced_is_refused(world: Billed, orcost: Orcost, tmp_path: Path) -> None:
    world.sync()
    (tmp_path / "orcost.toml").write_text(ACCOUNT + ACCOUNT.replace("acme", "beta"), encoding="utf-8")
    words = '2026-10 cannot be closed yet:\n  account "beta" was never synced\n'
    assert refused(orcost, "close", "2026-10", "--accept-open") == words
    assert done(orcost, "close", "2026-10", "--company", "A").startswith("2026-10 is closed for 1 company.")


def test_days_that_are_not_settled_are_refused(world: Billed, orcost: Orcost) -> None:
    """Activity lags behind the hours of the last day; it has until 48 hours after its end."""
    world.now = datetime(2026, 11, 1, 3, 20, tzinfo=UTC)
    at = datetime(2026, 10, 31, 6, tzinfo=UTC)
    world.ledger.spend("acme", at, world.keys["app"], GPT, usage("2"), activity_from=world.now + 9 * DAY)
    world.sync()
    for accepting in ((), ("--accept-open",)):
        assert refused(orcost, "close", "2026-10", *accepting) == (
            '2026-10 cannot be closed yet:\n  account "acme": not settled: 2026-10-31\n'
        )


def test_days_that_do_not_reconcile_have_to_be_accepted(world: Billed, orcost: Orcost) -> None:
    at = datetime(2026, 10, 20, 6, tzinfo=UTC)
    world.ledger.spend("acme", at, world.keys["app"], GPT, usage("2"), activity_from=world.now + 9 * DAY)
    world.sync()
    doubt = 'account "acme": does not reconcile: 2026-10-20 (orcost reconcile --day 2026-10-20)'
    assert refused(orcost, "close", "2026-10") == (
        f"2026-10 is not closed, as it is not certain:\n  {doubt}\nTo close it as it is: --accept-open\n"
    )
    assert done(orcost, "close", "2026-10", "--accept-open").splitlines()[-2] == f"Accepted: {doubt}"
    assert world.rows(CLOSINGS) == [(OCTOBER, None, doubt, False, None)]


def test_a_month_known_in_part_has_to_be_accepted(world: Billed, orcost: Orcost) -> None:
    world.spend("app", "2026-10-20", "2")
    world.sync(since=date(2026, 10, 15))
    doubt = 'account "acme": known from 2026-10-15 on only'
    assert doubt in refused(orcost, "close", "2026-10")
    assert f"\nAccepted: {doubt}\n" in done(orcost, "close", "2026-10", "--accept-open")
    assert "Usage is known from 2026-10-15 00:00 UTC on only" in printed(orcost)["html"]


def test_an_account_that_is_no_longer_configured_has_to_be_accepted(
    world: Billed, orcost: Orcost, tmp_path: Path
) -> None:
    world.sync()
    (tmp_path / "orcost.toml").write_text(ACCOUNT.replace("acme", "beta"), encoding="utf-8")
    doubt = 'account "acme" is not configured any more: what it has is charged as when it was synced last'
    assert doubt in refused(orcost, "close", "2026-10", "--company", "A")
    assert f"\nAccepted: {doubt}\n" in done(orcost, "close", "2026-10", "--company", "A", "--accept-open")


@pytest.mark.slow
def test_a_month_that_only_counters_know_has_to_be_accepted(world: Billed, orcost: Orcost) -> None:
    """Days without spend too, which no hour of the counters tells of."""
    world.now = datetime(2026, 10, 30, 12, tzinfo=UTC)
    world.map("A,label,*,,,")
    key = world.ledger.accounts["acme"].keys[world.keys["app"]][0][1]
    world.configured = world.configured.model_copy(update={"api_key": SecretStr(key.secret)})
    world.sync()
    while world.now < datetime(2026, 11, 4, tzinfo=UTC):
        world.later(hours=12).sync()
    told = refused(orcost, "close", "2026-10").splitlines()
    assert told[1:] == [
        '  account "acme": known from counters only: 31 days from 2026-10-01 to 2026-10-31',
        "To close it as it is: --accept-open",
    ]
    done(orcost, "close", "2026-10", "--accept-open")
    assert "Not every day of the month was final when the month was closed" in printed(orcost)["html"]


def test_a_currency_without_rate_is_refused(world: Billed, orcost: Orcost) -> None:
    world.sync()
    world.charge_in("A", "EUR")
    assert refused(orcost, "close", "2026-10", "--accept-open") == (
        '"A" is charged in EUR, and no exchange rate of EUR is dated in 2026-10 or before.\n'
        "Add a line to the exchange rates (exchange_rates.csv: date,currency,per_usd), then: orcost sync\n"
    )
    assert done(orcost, "close", "2026-10", "--company", "B").startswith("2026-10 is closed for 1 company.")


def test_months_are_closed_in_their_order(world: Billed, orcost: Orcost) -> None:
    world.spend("app", "2026-11-05", "1")
    world.later(days=30).sync()
    assert refused(orcost, "close", "2026-11") == (
        "2026-11 cannot be closed while an earlier month is open: 2026-10 (A, B).\n"
        "Months are closed in their order. The first one: orcost close 2026-10; all of them, the oldest first: orcost "
        "close 2026-11 --with-earlier\n"
    )
    done(orcost, "close", "2026-10", "--company", "A")
    assert done(orcost, "close", "2026-11", "--company", "A").startswith("2026-11 is closed for 1 company.")
    assert "2026-10 (B)" in refused(orcost, "close", "2026-11")


@pytest.mark.slow
def test_earlier_months_are_closed_with_a_later_one_the_oldest_first(world: Billed, orcost: Orcost) -> None:
    world.spend("app", "2026-11-05", "1")
    world.later(days=30).sync()
    assert "2026-12 has not ended" in refused(orcost, "close", "2026-12", "--with-earlier")
    assert world.rows(CLOSINGS) == []
    done(orcost, "close", "2026-10", "--company", "B")
    told = done(orcost, "close", "2026-11", "--with-earlier")
    assert [line for line in told.splitlines() if "closed" in line] == [
        *("2026-10 is closed for 1 company.", "2026-11 is closed for 1 company.")
    ]
    assert [row[:2] for row in world.rows(CLOSINGS)] == [(OCTOBER, "B"), (OCTOBER, None), (NOVEMBER, None)]
    assert "already; nothing was changed" in done(orcost, "close", "2026-11", "--with-earlier")


@pytest.mark.slow
def test_where_an_earlier_month_is_refused_no_later_one_is_closed(world: Billed, orcost: Orcost) -> None:
    at = datetime(2026, 10, 20, 6, tzinfo=UTC)
    world.ledger.spend("acme", at, world.keys["app"], GPT, usage("2"), activity_from=world.now + 90 * DAY)
    world.sync()
    world.spend("app", "2026-11-05", "1")
    world.later(days=30).sync()
    assert "2026-10 is not closed" in refused(orcost, "close", "2026-11", "--with-earlier")
    assert world.rows(CLOSINGS) == []
    done(orcost, "close", "2026-11", "--with-earlier", "--accept-open")
    assert len(world.rows(CLOSINGS)) == 2


def test_the_first_month_stored_is_closed_with_a_later_one_although_it_is_known_in_part(
    world: Billed, orcost: Orcost
) -> None:
    """Of a year's history, the first month is never whole; nobody is billed for it."""
    world.spend("app", "2026-10-20", "2")
    world.spend("app", "2026-11-05", "1")
    world.later(days=30).sync(since=date(2026, 10, 15))
    assert "known from 2026-10-15 on only" in refused(orcost, "close", "2026-10", "--with-earlier")
    told = done(orcost, "close", "2026-11", "--with-earlier")
    assert 'Accepted: account "acme": known from 2026-10-15 on only' in told.splitlines()
    assert [row[:3] for row in world.rows(CLOSINGS)] == [
        (OCTOBER, None, 'account "acme": known from 2026-10-15 on only'),
        (NOVEMBER, None, None),
    ]


def test_a_month_without_anything_between_closed_ones_gets_no_adjustment(world: Billed) -> None:
    """It would be charged before a statement that is sent already."""
    world.spend("app", "2026-12-05", "3")
    world.now = datetime(2027, 1, 4, 12, 20, tzinfo=UTC)
    world.sync()
    world.close(OCTOBER)
    world.close(DECEMBER)
    world.plans("A,markup_percent,100")
    world.later(hours=1).sync()
    assert {booked for _, _, booked, *_ in world.adjustments()} == {date(2027, 1, 1)}


def test_a_void_statement_with_nothing_in_its_place_is_named_and_replaced(
    world: Billed, orcost: Orcost, tmp_path: Path
) -> None:
    world.sync()
    done(orcost, "close", "2026-10")
    done(orcost, "reopen", "2026-10", "--reason", "all of it is B's")
    world.map("B,key_name,*,,,")
    world.later(hours=1).sync()
    assert "void" not in done(orcost, "close", "2026-10", "--company", "B")
    told = done(orcost, "close", "2026-10")
    assert "No new statement replaces the void statement of: A" in told.splitlines()
    done(orcost, "statement", "--all", "--month", "2026-10", "--output", "out")
    assert "replaces No." in (tmp_path / "out" / "2026-10 A.html").read_text(encoding="utf-8")


def test_a_closed_month_without_anything_says_the_same_whatever_is_set(
    world: Billed, orcost: Orcost, tmp_path: Path
) -> None:
    world.spend("app", "2026-11-05", "1")
    world.sync()
    done(orcost, "close", "2026-09", "--accept-open")
    kept = printed(orcost, month="2026-09")
    (tmp_path / "orcost.toml").write_text(ACCOUNT + HIDDEN + 'issuer = "Example Ltd"\n', encoding="utf-8")
    world.later(days=1).sync()
    assert printed(orcost, month="2026-09") == kept


def test_each_obstacle_has_its_words() -> None:
    def words(kind: str, first: int, last: int) -> str:
        days = (date(2026, 10, first), date(2026, 10, last), last - first + 1)
        return closing._words(Obstacle("acme", kind, *days, None))

    assert words("unsettled", 5, 7) == 'account "acme": not settled: 3 days from 2026-10-05 to 2026-10-07'
    assert words("counted", 5, 5) == 'account "acme": known from counters only: 2026-10-05'


# Adjustments


def changed(world: Billed, change: Callable[[], object]) -> list[tuple[Any, ...]]:
    """Closes October, makes a change, and syncs: the adjustments that follow from it."""
    world.sync()
    world.close(OCTOBER)
    world.later(hours=1)
    change()
    world.sync()
    return [(company, amount, reason) for company, _, booked, amount, _, reason in world.adjustments()]


@pytest.mark.slow
def test_another_plan_is_charged_later(world: Billed, orcost: Orcost) -> None:
    found = changed(world, lambda: world.plans("A,markup_percent,10"))
    assert found == [("A", Decimal("1.0005"), "plan")]
    assert "Adjustment of October 2026: prices changed" in printed(orcost, month="2026-11")["html"]


@pytest.mark.slow
def test_another_mapping_moves_from_one_company_to_another(world: Billed, orcost: Orcost) -> None:
    found = changed(world, lambda: world.map("B,key_name,*,,,"))
    assert found == [("A", Decimal("-10.005"), "mapping"), ("B", Decimal("10.005"), "mapping")]
    assert "Adjustment of October 2026: keys assigned anew" in printed(orcost, month="2026-11")["html"]


def test_a_restated_day_is_charged_later(world: Billed, orcost: Orcost) -> None:
    day = date(2026, 10, 7)
    found = changed(world, lambda: world.ledger.restate("acme", day, world.keys["web"], GPT, factor=Decimal(3)))
    assert found == [("B", Decimal(8), "restatement")]
    assert "Adjustment of October 2026: usage corrected" in printed(orcost, "B", "2026-11")["html"]


def test_late_usage_is_charged_later(world: Billed, orcost: Orcost) -> None:
    found = changed(world, lambda: world.spend("app", "2026-10-20", "5", model=CLAUDE))
    assert found == [("A", Decimal(5), "late usage")]
    assert "Adjustment of October 2026: usage reported late" in printed(orcost, month="2026-11")["html"]


def test_an_adjustment_is_kept_with_the_month_in_which_it_is_charged(world: Billed, orcost: Orcost) -> None:
    changed(world, lambda: world.plans("A,markup_percent,10"))
    world.later(days=30).sync()
    assert ["A", "1.00", "USD"] in table_of(done(orcost, "close", "2026-11", "--company", "A"))
    kept = printed(orcost, month="2026-11")
    world.plans("A,markup_percent,20")
    world.later(hours=1).sync()
    assert printed(orcost, month="2026-11") == kept
    assert [(booked, amount) for _, _, booked, amount, *_ in world.adjustments()] == [
        (NOVEMBER, Decimal("1.0005")),
        (DECEMBER, Decimal("1.0005")),
    ]


# Opening again


def test_a_month_that_is_opened_again_is_live_and_closed_by_a_second_row(world: Billed, orcost: Orcost) -> None:
    world.sync()
    done(orcost, "close", "2026-10")
    first = printed(orcost)
    assert done(orcost, "reopen", "2026-10", "--reason", "wrong plan") == (
        "2026-10 is open again for every company.\n\n"
        "Company   Void statement   Closed on\n"
        "A              10.00 USD   2026-11-03\n"
        "B               4.00 USD   2026-11-03\n\n"
        f"{NEXT}"
    )
    world.plans("A,markup_percent,10")
    world.later(hours=1).sync()
    assert world.adjustments() == []
    assert "11.01" in printed(orcost)["html"]
    assert '"status": "open"' in printed(orcost)["json"]
    (number,) = re.findall(r"No\. (2026-10-[0-9a-f]{8})<", first["html"])
    replaced = f"replaces No. {number} of 2026-11-03"
    assert replaced in printed(orcost)["html"]
    told = table_of(done(orcost, "close", "2026-10"))
    assert ["A", "11.01", "USD", "10.00", "USD", "of", "2026-11-03"] in told
    assert printed(orcost) != first
    assert f"No. {number}-2 · {replaced}" in printed(orcost)["html"]
    void = world.rows("select html, csv, json, total, total_usd from ops.void_statement where company = 'A'")
    assert void == [(*first.values(), Decimal("10.00"), Decimal(json.loads(first["json"])["total_usd"]))]
    assert world.rows(CLOSINGS) == [
        (OCTOBER, None, None, True, "wrong plan"),
        (OCTOBER, None, None, False, None),
    ]
    ((who, closed_by),) = world.rows(
        "select reopened_by, closed_by from ops.period_close where reopened_at is not null"
    )
    assert who == closed_by
    assert "@" in who


def test_one_company_is_opened_again_alone(world: Billed, orcost: Orcost) -> None:
    world.sync()
    done(orcost, "close", "2026-10")
    kept = printed(orcost, "B")
    told = done(orcost, "reopen", "2026-10", "--company", "A", "--reason", "dispute")
    assert told.startswith('2026-10 is open again for "A".\n')
    assert told.endswith(f"\n{NEXT[:-1]} --company A\n")
    assert world.rows("select company from ops.void_statement") == [("A",)]
    assert '"status": "open"' in printed(orcost)["json"]
    assert printed(orcost, "B") == kept
    assert done(orcost, "close", "2026-10").startswith("2026-10 is closed for 1 company.")
    assert printed(orcost, "B") == kept


@pytest.mark.slow
def test_what_cannot_be_opened_again_is_refused(world: Billed, orcost: Orcost) -> None:
    world.spend("app", "2026-11-05", "1")
    world.later(days=30).sync()
    opened = ("reopen", "2026-10", "--reason", "x")
    assert refused(orcost, *opened) == "2026-10 is not closed.\n"
    assert refused(orcost, *opened, "--company", "A") == '"A" in 2026-10 is not closed.\n'
    done(orcost, "close", "2026-10")
    done(orcost, "close", "2026-11")
    assert refused(orcost, *opened) == (
        "2026-10 cannot be opened again while a later month is closed: 2026-11 (A, B).\n"
        "Open the last one first: orcost reopen 2026-11 --reason TEXT\n"
    )
    assert refused(orcost, "reopen", "2026-11", "--reason", " ") == (
        "Say why the month is opened again: --reason TEXT\n"
    )
    assert orcost("reopen", "2026-11").code == 2


# One company, and all of them


@pytest.mark.slow
def test_a_month_closed_for_all_is_closed_for_who_gets_something_later(world: Billed, orcost: Orcost) -> None:
    world.sync()
    done(orcost, "close", "2026-10")
    world.map("A,key_name,app,,,", "B,key_name,web,,,", "Late,key_name,free,,,")
    world.spend("free", "2026-10-21", "7")
    world.later(hours=1).sync()
    assert world.adjustments() == [("Late", OCTOBER, NOVEMBER, Decimal(7), Decimal(7), "late usage")]
    html = printed(orcost, "Late")["html"]
    assert "Nothing is charged for October 2026." in html
    assert done(orcost, "close", "2026-10") == "2026-10 is closed already; nothing was changed.\n"


@pytest.mark.slow
def test_a_month_closed_for_one_is_open_for_the_others(world: Billed, orcost: Orcost) -> None:
    world.sync()
    told = done(orcost, "close", "2026-10", "--company", "A")
    assert ["A", "10.00", "USD"] in table_of(told)
    assert '"status": "open"' in printed(orcost, "B")["json"]
    assert ["B", "4.00", "USD"] in table_of(done(orcost, "close", "2026-10"))
    assert [row[:2] for row in world.rows(CLOSINGS)] == [(OCTOBER, "A"), (OCTOBER, None)]


def test_a_company_without_anything_can_be_closed(world: Billed, orcost: Orcost) -> None:
    world.map("A,key_name,app,,,", "B,key_name,web,,,", "Idle,key_name,free,,,")
    world.sync()
    told = done(orcost, "close", "2026-10", "--company", "Idle")
    assert told == '2026-10 is closed for "Idle". Nothing was charged in it.\n'


# At once, and in the middle


def test_of_two_closings_at_once_one_closes(world: Billed) -> None:
    world.sync()
    found: list[Closing] = []
    both = threading.Barrier(2)

    def close() -> None:
        both.wait()
        found.append(world.close(OCTOBER))

    threads = [threading.Thread(target=close) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((it.is_new, it.companies) for it in found) == [(False, ()), (True, ("A", "B"))]
    assert len(world.rows(CLOSINGS)) == 1


def test_a_failure_in_the_middle_leaves_nothing(world: Billed) -> None:
    world.sync()
    rendered: list[str] = []

    def render(statement: Any) -> Documents:
        rendered.append(statement.head.company)
        if len(rendered) == 2:
            raise PermanentError("no room")
        return as_text(statement)

    with pytest.raises(PermanentError, match="no room"):
        close_month(
            world.engine,
            OCTOBER,
            None,
            accepts=(),
            configured=["acme"],
            render=render,
            now=world.now + timedelta(hours=1),
        )
    assert rendered == ["A", "B"]
    for table in ("core.closed_month", "core.closed_line", "core.closed_adjustment", "ops.period_close"):
        assert world.value(f"select count(*) from {table}") == 0
    assert world.close(OCTOBER).is_new


def test_a_publication_that_ends_meanwhile_changes_nothing_of_what_is_closed(world: Billed) -> None:
    """All parts of a closing see one state of the warehouse."""
    world.sync()

    def render(statement: Any) -> Documents:
        if statement.head.company == "A":
            world.plans("*,markup_percent,100")
            world.later(hours=1).sync()
        return as_text(statement)

    close_month(world.engine, OCTOBER, None, accepts=(), configured=["acme"], render=render, now=world.now + HOUR)
    kept = world.rows(
        "select c.company, m.usage_usd, sum(l.amount_usd) from core.closed_month m join core.closed_line l "
        "using (month, company_id) join ref.company c using (company_id) group by 1, 2 order by 1"
    )
    assert kept == [("A", Decimal("10.005"), Decimal("10.005")), ("B", Decimal(4), Decimal(4))]
    assert [row[-1] for row in world.adjustments()] == ["plan", "plan"]


@pytest.mark.slow
def test_the_reason_of_an_adjustment_is_told_against_its_own_closing(world: Billed) -> None:
    """Closing again, for another company, moves nothing of what was closed before."""
    world.sync()
    world.close(OCTOBER)
    world.spend("app", "2026-10-05", "5")
    world.plans("B,markup_percent,50")
    world.later(hours=2).sync()
    before = world.rows("select * from ops.adjustment where company = 'A'")
    assert [row.reason for row in before] == ["restatement"]
    world.reopen(OCTOBER, "B")
    world.close(OCTOBER)
    assert world.rows("select * from ops.adjustment where company = 'A'") == before


@pytest.mark.slow
def test_a_closed_month_without_anything_says_nothing_that_can_change(world: Billed, orcost: Orcost) -> None:
    world.plans("C,monthly_fee_usd,5,,2026-11-01")
    world.sync()
    as_of = world.now
    world.later(hours=30)
    world.close(OCTOBER)
    before = printed(orcost, "C")
    assert f"{as_of:%Y-%m-%dT%H:%M:%SZ}" in before["json"], "complete to the last sync, not to the closing"
    world.charge_in("C", "PLN")
    _execute(world, "update ref.company set display_name = 'C & Co' where company = 'C'")
    world.later(hours=5).sync()
    assert printed(orcost, "C") == before


def test_a_month_of_which_an_account_knows_nothing_has_to_be_accepted(engine: sa.Engine, world: Billed) -> None:
    world.sync(since=date(2026, 11, 1))
    with pytest.raises(PermanentError, match="nothing is known of the month") as caught:
        world.close(OCTOBER)
    assert "--accept-open" in str(caught.value)
    assert world.close(OCTOBER, accepts_open=True).accepted == 'account "acme": nothing is known of the month'


def test_a_company_without_a_key_yet_waits_for_every_account(world: Billed) -> None:
    """Its first key may be one that no sync has seen."""
    world.plans("F,markup_percent,10")
    world.now = datetime(2026, 10, 20, 12, 20, tzinfo=UTC)
    world.sync()
    world.now = datetime(2026, 11, 3, 12, 20, tzinfo=UTC)
    with pytest.raises(PermanentError, match="complete to 2026-10-20 12:20 only"):
        world.close(OCTOBER, "F")


def test_a_month_is_closed_by_what_is_in_force(world: Billed) -> None:
    """An account that is not published by new plans yet would be closed with the old prices."""
    world.sync()
    world.plans("A,markup_percent,50")
    with pytest.raises(PermanentError, match="not charged by the mapping and price plans in force yet"):
        world.close(OCTOBER, accepts_open=True)
    world.publish()
    assert world.close(OCTOBER).companies == ("A", "B")


def test_fees_and_minimums_follow_new_plans_together_with_usage(world: Billed) -> None:
    """Plans that are loaded by a sync that fails afterwards charge nothing before an account is published by them."""
    world.plans("A,markup_percent,50", "A,monthly_fee_usd,5,,2026-10-01", "B,monthly_minimum_usd,80,,2026-10-01")
    world.sync()
    world.close(OCTOBER)
    before, adjustments = world.months("*"), world.adjustments()
    world.plans("A,monthly_fee_usd,50,,2026-10-01", "B,monthly_minimum_usd,800,,2026-10-01", "C,monthly_fee_usd,7")
    assert (world.months("*"), world.adjustments()) == (before, adjustments)
    world.publish()
    fees = world.rows("select company, fees_usd from marts.company_charge_monthly where month = :month", month=NOVEMBER)
    assert {company: fee for company, fee in fees if fee} == {"A": 50, "C": 7}
    assert {row[-1] for row in world.adjustments()} == {"plan"}


def test_an_adjustment_of_plan_and_usage_says_both(world: Billed) -> None:
    world.sync()
    world.close(OCTOBER)
    for key in ("app", "web"):
        world.spend(key, "2026-10-20", "0.01", model=CLAUDE)
    world.plans("A,monthly_minimum_usd,500,,2026-10-01", "B,credit_purchase_percent,50")
    world.later(hours=1).sync()
    assert [row[-1] for row in world.adjustments()] == ["late usage; plan", "late usage; plan"]
    world.reopen(OCTOBER)
    world.close(OCTOBER)
    world.plans(
        "A,monthly_minimum_usd,500,,2026-10-01,2026-12-01",
        *("B,credit_purchase_percent,50,,,2026-12-01", "B,credit_purchase_percent,60,,2026-12-01"),
        "C,monthly_fee_usd,1",
    )
    world.ledger.restate("acme", date(2026, 10, 5), world.keys["app"], GPT, factor=Decimal(2))
    world.ledger.restate("acme", date(2026, 10, 7), world.keys["web"], GPT, factor=Decimal(2))
    world.later(hours=1).sync()
    reasons = {company: reason for company, _, _, _, _, reason in world.adjustments()}
    assert reasons == {"A": "restatement", "B": "restatement", "C": "plan"}, "only rows of C differ in October"


def test_what_an_account_had_noticed_before_the_closing_is_no_reason(world: Billed, orcost: Orcost) -> None:
    """Accounts are synced one after the other: each knows what its own last sync knew."""
    world.ledger.add_account("beta", credits_bought=Decimal(1000))
    beta = Billed(world.engine, world.ledger, world.now, account="beta")
    beta.keys = {"web": world.ledger.add_key("beta", "web", world.now - 200 * DAY)}
    beta.spend("web", "2026-10-08", "6")
    world.sync()
    beta.sync()
    world.ledger.restate("acme", date(2026, 10, 5), world.keys["app"], GPT, factor=Decimal(2))
    world.later(hours=1).sync()
    world.close(OCTOBER, accepts_open=True)
    world.plans("A,markup_percent,10")
    for account in (world, beta):
        account.now = world.now + HOUR
        account.publish()
    assert {row[-1] for row in world.adjustments()} == {"plan"}


def test_a_company_called_like_every_company_is_no_exception(world: Billed) -> None:
    world.map("*,key_name,app,,,", "B,key_name,web,,,")
    world.plans("*,monthly_fee_usd,5")
    world.sync()
    assert {row[1] for row in world.months() if row[0] == NOVEMBER} == set()


@pytest.mark.slow
def test_an_account_on_closed_statements_is_renamed_without_them_and_not_forgotten(
    world: Billed, orcost: Orcost
) -> None:
    world.sync()
    done(orcost, "close", "2026-10")
    before = world.rows("select * from marts.statement where month = '2026-10-01' order by company, line")
    assert "on statements of closed months (2026-10)" in refused(orcost, "accounts", "forget", "acme", "--yes")
    done(orcost, "accounts", "rename", "acme", "globex")
    assert "on statements of closed months (2026-10)" in refused(orcost, "accounts", "forget", "globex", "--yes")
    assert world.rows("select * from marts.statement where month = '2026-10-01' order by company, line") == before
    with world.engine.connect() as connection:
        assert differing_closed_months(connection).rows == []


def test_an_account_whose_usage_was_charged_as_an_adjustment_is_not_forgotten(world: Billed, orcost: Orcost) -> None:
    world.ledger.add_account("beta", credits_bought=Decimal(1000))
    beta = Billed(world.engine, world.ledger, world.now, account="beta")
    beta.keys = {"web": world.ledger.add_key("beta", "web", world.now - 200 * DAY)}
    world.sync()
    beta.sync()
    done(orcost, "close", "2026-10", "--company", "B", "--accept-open")
    beta.spend("web", "2026-10-30", "6")
    beta.later(hours=1).sync()
    assert "on statements of closed months (2026-10)" in refused(orcost, "accounts", "forget", "beta", "--yes")


def test_edited_files_are_brought_into_force_before_a_month_is_closed(
    world: Billed, orcost: Orcost, tmp_path: Path
) -> None:
    """Otherwise customers would be billed by what the file said before, without a word."""
    world.sync()
    text = "company,charge,value\nA,markup_percent,50\n"
    (tmp_path / "price_plans.csv").write_text(text, encoding="utf-8")
    told = refused(orcost, "close", "2026-10")
    assert told == (
        "2026-10 is not closed: changes of price_plans.csv are not in force yet.\n"
        "Bring them into force first: orcost sync, which says what is wrong where it refuses them\n"
    )
    assert world.value("select count(*) from ops.period_close") == 0
    load_file(world, tmp_path / "price_plans.csv")
    rates = tmp_path / "exchange_rates.csv"
    for wrong in ("date,currency,per_usd\n2026-10-01,EUR,0.9\n", "no rates at all"):
        rates.write_text(wrong, encoding="utf-8")
        assert "changes of exchange_rates.csv are not in force yet" in refused(orcost, "close", "2026-10")
    rates.unlink()
    companies = tmp_path / "companies.csv"
    for edited in ("company,display_name,currency\nA,Aurora,EUR\n", "company,currency\nA,Euro\n"):
        companies.write_text(edited, encoding="utf-8")
        assert "changes of companies.csv are not in force yet" in refused(orcost, "close", "2026-10")
    companies.write_text("company,owner_email\nA,a@a.example\n", encoding="utf-8")
    assert "15.01" in done(orcost, "close", "2026-10")
    (tmp_path / "price_plans.csv").write_text("company,charge,value\n", encoding="utf-8")
    assert "closed already" in done(orcost, "close", "2026-10"), "nothing is closed by it"
