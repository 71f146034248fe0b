"""`orcost report --format html`: each figure of the page is one of the marts, and nothing in it is but text."""

import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from orcost_pipeline import cli
from orcost_pipeline.cli import report_parts
from orcost_pipeline.cli.report_request import report_request
from orcost_pipeline.companies.company_list import ATTRIBUTES, read_company_list
from orcost_pipeline.pages.charts import Slot, chart
from orcost_pipeline.pages.page import page
from orcost_pipeline.warehouse.company_list import publish_companies
from orcost_pipeline.windows import Window
from orcost_pipeline_tests.known_spend import NOW, Truth, by_creator, by_key, by_model, by_workspace
from orcost_pipeline_tests.test_cli_reports import figures, without_zeros
from orcost_pipeline_tests.world import query

pytest_plugins = ["orcost_pipeline_tests.known_spend"]

Orcost = Callable[..., Result]
GROUPINGS = {"key": by_key, "model": by_model, "creator": by_creator, "workspace": by_workspace}
NOVEMBER = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


@pytest.fixture
def orcost(truth: Truth, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Orcost:
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli.app, list(arguments), obj=lambda: NOW)


class Page:
    """A page as it is read: its headings, tables by title, figures by label, and columns of its chart."""

    def __init__(self, answer: Result) -> None:
        assert answer.exit_code == 0, answer.output
        self.html = answer.stdout
        self.root = ET.fromstring(self.html.removeprefix("<!DOCTYPE html>"))
        self.text = " ".join("".join(self.root.itertext()).split())
        self.title = _text(self.root.find(".//h1"))
        self.figures = {_text(it[0]): [_text(part) for part in it[1:]] for it in self.root.iterfind(".//dl/div")}
        self.tables = {
            (_text(it.find("h2")).split(" USD")[0]): [
                {head: _text(cell) for head, cell in zip(_heads(it), row, strict=True) if head}
                for row in it.iterfind(".//tbody/tr")
            ]
            for it in self.root.iterfind(".//section")
        }
        self.columns = [_text(it) for it in self.root.iterfind(".//g/title")]


def _text(node: ET.Element | None) -> str:
    assert node is not None
    return " ".join("".join(node.itertext()).split())


def _heads(section: ET.Element) -> list[str]:
    return [_text(it) for it in section.iterfind(".//th")]


def usd(amount: Decimal) -> str:
    """An amount as people read it."""
    return f"{amount.quantize(Decimal('0.01'), ROUND_HALF_UP):,}".replace("-", "−")


def column(rows: list[dict[str, str]], name: str, of: str) -> dict[str, str]:
    return {row[name]: row[of] for row in rows if row[name] != "Total"}


def amounts(engine: sa.Engine, statement: str, **parameters: Any) -> dict[str, str]:
    return {name: usd(amount) for name, amount in query(engine, statement, **parameters)}


# Figures


def test_every_figure_of_a_month_is_that_of_the_marts(orcost: Orcost, engine: sa.Engine) -> None:
    shown = Page(orcost("report", "--month", "2026-11", "--format", "html"))
    month = {"month": date(2026, 11, 1)}
    (total,) = query(
        engine, "select sum(credits_usd), sum(byok_usd) from marts.company_spend_monthly where month = :month", **month
    )
    assert (shown.figures["Spend"][0], shown.figures["BYOK"][0]) == (f"{usd(total[0])} USD", f"{usd(total[1])} USD")
    for title, name, relation in (
        ("Companies", "Company", "marts.company_spend_monthly"),
        ("Models", "Model", "marts.model_spend_monthly"),
    ):
        for of, amount in (("Spend USD", "credits_usd"), ("BYOK USD", "byok_usd")):
            found = amounts(
                engine, f"select {name.lower()}, sum({amount}) from {relation} where month = :month group by 1", **month
            )
            assert column(shown.tables[title], name, of) == {
                name: "–" if text == "0.00" and amount == "byok_usd" else text for name, text in found.items()
            }
        assert shown.tables[title][-1]["Spend USD"] == usd(total[0])
    keys = query(
        engine,
        "select left(key_hash, 8), company, sum(credits_usd) from marts.spend_daily where day >= :month group by 1, 2",
        **month,
    )
    assert {(row["Hash"], row["Company"], row["Spend USD"]) for row in shown.tables["API keys"][:-1]} == {
        (hash_ or "–", company, usd(amount)) for hash_, company, amount in keys
    }


def test_every_day_of_the_chart_is_that_of_the_marts(orcost: Orcost, engine: sa.Engine) -> None:
    shown = Page(orcost("report", "--month", "2026-11", "--company", "Company B", "--format", "html"))
    found = query(
        engine,
        "select to_char(day, 'FMDD'), credits_usd, byok_usd from marts.company_spend_daily"
        " where company = 'Company B' and day >= '2026-11-01'",
    )
    expected = dict.fromkeys((str(day) for day in range(1, 31)), "0.00 USD")
    expected |= {day: f"{usd(spend)} USD{f', BYOK {usd(byok)} USD' if byok else ''}" for day, spend, byok in found}
    assert shown.columns == [f"{day} November 2026: {words}" for day, words in expected.items()]
    assert "Companies" not in shown.tables
    assert shown.title == "Cost of Company B, November 2026 to date"


def test_what_changed_is_the_difference_to_the_span_before(orcost: Orcost, engine: sa.Engine) -> None:
    shown = Page(orcost("report", "--from", "2026-11-10", "--to", "2026-11-17", "--format", "html"))
    statement = "select company, credits_usd from marts.company_spend_between(:start, :end)"
    now = dict(query(engine, statement, start="2026-11-10 00:00Z", end="2026-11-17 00:00Z"))
    before = dict(query(engine, statement, start="2026-11-03 00:00Z", end="2026-11-10 00:00Z"))
    rows = shown.tables["Companies"]
    assert column(rows, "Company", "Before USD") == {name: usd(amount) for name, amount in before.items()}
    changes = {name: now[name] - before[name] for name in now}
    assert column(rows, "Company", "Change USD") == {
        name: f"{'+' if amount > 0 else ''}{usd(amount)}" for name, amount in changes.items()
    }
    change = 100 * sum(changes.values()) / sum(before.values())
    assert shown.figures["Against the 7 days before"][0] == f"{change:+.0f} %".replace("-", "−")
    largest = max(changes, key=lambda name: abs(changes[name]))
    assert (
        f"Largest changes by company: {largest} {'+' if changes[largest] > 0 else ''}{usd(changes[largest])}"
        in shown.text
    )


def test_a_rolling_period_is_compared_with_that_before(orcost: Orcost, engine: sa.Engine) -> None:
    shown = Page(orcost("report", "--period", "7d", "--format", "html"))
    statement = "select company, {} from marts.company_spend_rolling where period = '7d'"
    rows = shown.tables["Companies"]
    assert column(rows, "Company", "Spend USD") == amounts(engine, statement.format("credits_usd"))
    assert column(rows, "Company", "Before USD") == amounts(engine, statement.format("previous_credits_usd"))
    (total,) = query(engine, "select sum(credits_usd) from marts.company_spend_rolling where period = '7d'")
    assert shown.figures["Spend"][0] == f"{usd(total[0])} USD"
    assert [it.split(":")[0] for it in shown.columns] == [f"{day} November 2026" for day in range(16, 24)]


def test_a_forecast_and_a_budget_are_those_of_the_marts(orcost: Orcost, engine: sa.Engine) -> None:
    listed = read_company_list(b"company,monthly_budget_usd\nCompany A,100", "companies.csv")
    publish_companies(engine, ATTRIBUTES, listed)
    shown = Page(orcost("report", "--month", "2026-11", "--company", "Company A", "--format", "html"))
    (row,) = query(
        engine, "select spent_usd, forecast_usd, spent_usd from marts.company_budget_monthly where month = '2026-11-01'"
    )
    (of_it,) = shown.tables["Forecast and budget"]
    spent, forecast, _ = row
    assert (of_it["Spent USD"], of_it["Forecast USD"], of_it["Budget USD"]) == (usd(spent), usd(forecast), "100.00")
    assert shown.figures["Forecast for the month"][0] == f"{usd(forecast)} USD"
    assert shown.figures["Budget spent"] == [of_it["Used"], f"{usd(spent)} of 100.00 USD, BYOK included"]


def test_rows_that_are_left_out_are_summed(orcost: Orcost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_parts, "MOST_ROWS", 2)
    rows = Page(orcost("report", "--period", "7d", "--format", "html")).tables["API keys"]
    assert len(rows) == 4
    assert rows[2]["API key"].endswith("more API keys")
    *parts, total = (Decimal(row["Spend USD"].replace(",", "")) for row in rows)
    assert abs(sum(parts) - total) <= Decimal("0.02")


# How far it can be trusted


def test_a_month_that_is_not_whole_says_so_and_compares_nothing(orcost: Orcost) -> None:
    shown = Page(orcost("report", "--month", "2026-10", "--format", "html"))
    assert shown.title == "Company cost, October 2026 (known from 23 October)"
    assert shown.figures["Against September 2026"] == ["–", "this span is not known as a whole"]
    assert "October is not complete: history begins 23 October 2026." in shown.text
    assert not any("Change" in head for row in shown.tables["Companies"] for head in row)
    hatched = [it for it in shown.root.iterfind(".//figure/svg/rect") if it.get("fill") == "url(#hatched)"]
    assert len(hatched) == 22


def test_how_old_it_is_and_whether_it_reconciles_stands_on_its_face(orcost: Orcost) -> None:
    shown = Page(orcost("report", "--period", "30d", "--format", "html"))
    facts = [_text(it) for it in shown.root.iterfind(".//ul/li")]
    assert facts[0] == "Complete to 23 November 2026, 13:20 UTC (4 minutes before this page was made)"
    assert facts[1] == "28 of 29 finished days reconcile to OpenRouter's total; open: 5 November"
    assert [it.get("class") for it in shown.root.iterfind(".//ul/li")][:2] == [None, "doubt"]


@pytest.mark.parametrize(
    ("now", "before"),
    [
        ("2026-11-23T13:20", ("2026-10-01T00:00", "2026-10-23T14:00")),
        ("2026-12-05T00:00", ("2026-10-01T00:00", "2026-11-01T00:00")),
    ],
)
def test_a_running_month_is_compared_with_the_same_days_of_the_month_before(now: str, before: tuple[str, str]) -> None:
    asked = report_request("company", None, None, "2026-11", None, None, NOW)
    compared = asked.before(datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert compared
    assert compared.window == Window(*(datetime.fromisoformat(it).replace(tzinfo=UTC) for it in before))


def test_the_end_of_march_is_compared_with_all_of_february() -> None:
    asked = report_request("company", None, None, "2026-03", None, None, NOW)
    compared = asked.before(datetime(2026, 3, 30, 12, tzinfo=UTC))
    assert compared
    assert compared.window == Window(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC))


# A page, and nothing else


def test_names_are_text_whatever_they_contain(orcost: Orcost, engine: sa.Engine) -> None:
    hostile = '<script>alert(1)</script><img src="http://a.example/">\'\u202e'
    with engine.begin() as connection:
        for statement in (
            "update core.api_key_version set name = :name",
            "update ref.company set company = :name where company = 'Company A'",
        ):
            connection.execute(sa.text(statement), {"name": hostile})
    shown = Page(orcost("report", "--month", "2026-11", "--format", "html"))
    assert {it.tag for it in shown.root.iter()} & {"script", "img", "link", "iframe", "object", "a"} == set()
    attributes = {name for it in shown.root.iter() for name in it.attrib}
    assert not {name for name in attributes if name.startswith("on")} | attributes & {"src", "href", "style"}
    style = _text(shown.root.find("head/style"))
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in shown.html
    assert "\u202e" not in shown.html
    assert any(row["Company"].startswith("<script>alert(1)</script>") for row in shown.tables["Companies"])


def test_a_page_shows_no_control_characters_whoever_renders_it() -> None:
    parts = {
        "figures": [],
        "standing": [],
        "notes": [],
        "changes": [],
        "chart": None,
        "tables": [],
        "footer": ["a\x1b[2J&\u202eb"],
    }
    assert "<p>a�[2J&amp;�b</p>" in page("spend.html", title="", spans=[], **parts)


def test_an_empty_month_is_a_page_too(orcost: Orcost) -> None:
    shown = Page(orcost("report", "--month", "2027-08", "--format", "html"))
    assert "This window lies in the future." in shown.text
    assert shown.tables == {}


def test_a_file_is_written_whole_or_not_at_all(orcost: Orcost, tmp_path: Path) -> None:
    file = tmp_path / "cost.csv"
    answer = orcost("report", "--format", "csv", "--output", str(file))
    assert file.read_text(encoding="utf-8") == orcost("report", "--format", "csv").stdout
    assert answer.stdout == ""
    assert isinstance(orcost("report", "--company", "Company", "--output", str(file)).exception, Exception)
    assert file.read_text(encoding="utf-8").startswith("account,company")
    assert list(tmp_path.glob("cost*")) == [file]
    refused = orcost("report", "--output", str(tmp_path / "missing" / "cost.csv")).exception
    assert str(refused).endswith("cost.csv cannot be written (No such file or directory).")
    os.mkfifo(pipe := tmp_path / "pipe")
    assert str(orcost("report", "--output", str(pipe)).exception) == f"{pipe} cannot be written: it is no file."
    assert pipe.is_fifo()


# One company


def of_company(sums: Mapping[tuple[str | None, ...], tuple[Fraction, ...]], company: str) -> dict[Any, Any]:
    return {group[1:]: values for group, values in sums.items() if group[0] == company}


@pytest.mark.parametrize("by", GROUPINGS)
def test_a_report_of_a_company_is_its_part_to_the_last_digit(orcost: Orcost, truth: Truth, by: str) -> None:
    def grouping(fact: Any, company: str) -> tuple[str | None, ...]:
        return company, *GROUPINGS[by](fact, company)

    window = Window(datetime(2026, 11, 3, 5, tzinfo=UTC), datetime(2026, 11, 19, 22, tzinfo=UTC))
    for company in ("Company B", "Unattributed"):
        for asked, sums in (
            (("--period", "7d"), truth.rolling(168, grouping)),
            (("--from", "2026-11-03T05:00", "--to", "2026-11-19T22:00"), truth.between(window, grouping)),
        ):
            answer = orcost("report", *asked, "--company", company, "--by", by, "--format", "json")
            assert without_zeros(figures(json.loads(answer.stdout), by)) == of_company(sums, company)


def test_an_unknown_company_is_named_with_the_nearest(orcost: Orcost) -> None:
    refused = orcost("report", "--company", "company c").exception
    assert str(refused).startswith('No company is called "company c". Near: "Company')


def test_a_table_of_a_company_is_called_so(orcost: Orcost) -> None:
    told = orcost("report", "--company", "Company A", "--by", "model", "--period", "7d").stdout
    assert told.startswith("Cost of Company A by model, last 7 days (")
    assert "% unattributed" in told


# The chart


def test_lines_of_a_chart_are_round_and_reach_above_the_highest_column() -> None:
    for highest in ("0.0007", "0.9", "3", "84.3", "99.9", "100", "1234", "50000"):
        made = chart("", "", "", [Slot("", "", "", Decimal(highest), Decimal(0))], ("", ""))
        assert 4 <= len(made.lines) <= 7
        assert Decimal(made.lines[-1].label.replace(",", "")) >= Decimal(highest)
        assert Decimal(made.columns[0].heights[0]) > 75
