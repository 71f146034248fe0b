"""`orcost statement`: page, CSV and JSON say what `marts.statement` says, and nothing that is not for the customer."""

import csv
import json
import re
import shlex
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orcost_pipeline.billing.statement import Statement
from orcost_pipeline.cli.billing.page import statement_page
from orcost_pipeline.cli.billing.statements import file_names
from orcost_pipeline.measures import EXACT
from orcost_pipeline.project_file import BillingConfig, ProjectConfig
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.text import inert
from orcost_pipeline.warehouse.questions.billing import StatementHead, StatementLine
from orcost_pipeline.warehouse.questions.relations import relation_columns
from orcost_pipeline_tests.billing_cli import ACCOUNT, HIDDEN, Orcost, load_file
from orcost_pipeline_tests.billing_world import IN_NOVEMBER, OCTOBER, Billed, billed
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.sampling import examples, sampled
from orcost_pipeline_tests.test_readme import blocks, codes, page, rows
from orcost_pipeline_tests.world import DAY

pytest_plugins = ["orcost_pipeline_tests.billing_cli"]

FORMATS = ("html", "csv", "json")
OF_OCTOBER = ("--month", "2026-10")
COST = {"credits_usd", "byok_usd"}
HOSTILE = '=HYPERLINK("http://a.example")<script>alert(1)</script>\u202e\''


class Page:
    """A statement as it is read: its texts, its figures, and the cells of its rows."""

    def __init__(self, html: str) -> None:
        self.root = ET.fromstring(html.removeprefix("<!DOCTYPE html>"))
        self.text = _text(self.root)
        self.title = _text(self.root.find(".//h1"))
        self.figures = {_text(it[0]): [_text(part) for part in it[1:]] for it in self.root.iterfind(".//dl/div")}
        self.heads = [_text(it) for it in self.root.iterfind(".//th")]
        self.rows = [(it.get("class") or "", [_text(cell) for cell in it]) for it in self.root.iterfind(".//tbody/tr")]

    def amounts(self, kind: str) -> list[str]:
        return [cells[-1] for of, cells in self.rows if of == kind]


def _text(node: ET.Element | None) -> str:
    assert node is not None
    return " ".join("".join(node.itertext()).split())


def number(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("−", "-"))


def written(value: Any) -> str:
    """How a value stands in a csv."""
    match value:
        case None:
            return ""
        case Decimal():
            return f"{value:f}"
    return inert(value) if isinstance(value, str) else str(value)


def lines(world: Billed, company: str) -> list[dict[str, Any]]:
    with world.engine.connect() as connection:
        asked = sa.text("select * from marts.statement where company = :company and month = '2026-10-01' order by line")
        return [dict(row) for row in connection.execute(asked, {"company": company}).mappings()]


def stated(orcost: Orcost, company: str = "A", form: str = "html", month: str = "2026-10") -> str:
    told = orcost("statement", company, "--month", month, "--format", form)
    assert (told.code, told.err) == (0, "")
    return told.out


def everything(world: Billed) -> None:
    """A statement in euros with a line of every kind but a minimum and an adjustment."""
    world.spend("app", "2026-10-06", "0.0149", "0", CLAUDE)
    world.spend("app", "2026-10-07", "0.0149", "0", "mistralai/x")
    world.plans(
        "A,markup_percent,12.5", "A,monthly_fee_usd,49,,2026-10-01", "A,credit_purchase_percent,5.5", "A,byok_percent,5"
    )
    world.rate("2026-10-30", "EUR", "0.9187")
    world.charge_in("A", "EUR")
    world.sync()


# What it says


def test_csv_is_the_lines_of_the_mart_without_a_total(world: Billed, orcost: Orcost) -> None:
    everything(world)
    told = stated(orcost, form="csv")
    with world.engine.connect() as connection:
        columns = [column.name for column in relation_columns(connection, "marts.statement")]
    assert told.splitlines()[0].split(",") == columns
    stored = lines(world, "A")
    assert {row["kind"] for row in stored} >= {"usage", "monthly_fee", "purchase_fee"}
    assert list(csv.DictReader(told.splitlines())) == [
        {name: written(value) for name, value in row.items()} for row in stored
    ]
    assert "E-" not in told


def test_json_is_exact_and_sums_to_its_total(world: Billed, orcost: Orcost) -> None:
    everything(world)
    told = json.loads(stated(orcost, form="json"))
    stored = lines(world, "A")
    about = ("company", "month", "status", "data_until", "is_settled", "reconciliation", "currency", "per_usd")
    assert list(told) == [*about, "rate_date", "lines", "total", "total_usd"]
    assert [told[name] for name in (*about, "rate_date")] == [
        *("A", "2026-10-01", "open", "2026-11-03T12:20:00Z", True, "closed", "EUR", "0.9187", "2026-10-30")
    ]
    assert told["lines"] == [
        {name: value if isinstance(value, int) else written(value) or None for name, value in row.items()}
        for row in stored
    ]
    assert Decimal(told["total_usd"]) == sum(row["amount_usd"] for row in stored)
    assert Decimal(told["total"]) == sum(row["amount"] for row in stored)
    assert isinstance(told["lines"][0]["requests"], str)


def test_the_page_sums_the_rounded_lines_of_each_key_and_ends_with_the_total(world: Billed, orcost: Orcost) -> None:
    everything(world)
    shown = Page(stated(orcost))
    stored = lines(world, "A")
    total = sum(row["amount"] for row in stored)
    usage = [row["amount"] for row in stored if row["kind"] == "usage"]
    assert shown.title == "A"
    assert shown.figures == {
        "Total": [f"{total} EUR", f"{sum(row['amount_usd'] for row in stored):.2f} USD"],
        "Month": ["October 2026", "2026-10-01 – 2026-10-31"],
        "Status": ["open", "as of 2026-11-03 12:20 UTC"],
        "Exchange rate": ["0.9187 EUR for 1 USD", "of 2026-10-30"],
    }
    assert list(map(number, shown.amounts("detail"))) == usage
    assert list(map(number, shown.amounts("group"))) == [sum(usage)]
    assert list(map(number, shown.amounts("sum"))) == [sum(usage)]
    assert [number(cells[-1]) for _, cells in shown.rows][-1] == total
    assert [cells[0] for kind, cells in shown.rows if not kind] == ["Monthly fee", "Fee for buying credits", "Rounding"]
    assert shown.heads == [
        *("API key, model", "Requests", "Input tokens", "Output tokens", "Cost USD", "BYOK USD", "Amount EUR")
    ]
    assert "account" not in shown.text.replace("own accounts", "")


def test_the_page_says_which_minimum_usage_is_topped_up_to(world: Billed, orcost: Orcost) -> None:
    world.plans("A,markup_percent,12.5", "A,monthly_minimum_usd,49.50,,2026-10-01", "A,monthly_fee_usd,5,,2026-10-01")
    world.rate("2026-10-30", "EUR", "0.5")
    world.charge_in("A", "EUR")
    world.sync()
    shown = Page(stated(orcost))
    assert [cells[0] for kind, cells in shown.rows if not kind] == [
        *("Addition up to the monthly minimum of 24.75 EUR", "Monthly fee")
    ]


def test_a_company_with_nothing_in_the_month_has_a_statement_without_lines(world: Billed, orcost: Orcost) -> None:
    world.sync()
    assert Page(stated(orcost, month="2026-11")).rows == []
    assert "Nothing is charged for November 2026." in stated(orcost, month="2026-11")
    assert len(stated(orcost, form="csv", month="2026-11").splitlines()) == 1
    told = json.loads(stated(orcost, form="json", month="2026-11"))
    assert (told["lines"], told["total"], told["currency"]) == ([], "0", "USD")


def test_a_month_of_which_nothing_is_known_has_the_rate_of_its_time(world: Billed, orcost: Orcost) -> None:
    world.rate("2019-12-31", "EUR", "0.9")
    world.rate("2020-06-01", "EUR", "0.8")
    world.sync()
    world.charge_in("A", "EUR")
    told = json.loads(stated(orcost, form="json", month="2020-03"))
    assert (told["per_usd"], told["rate_date"], told["reconciliation"], told["lines"]) == (
        "0.9",
        "2019-12-31",
        None,
        [],
    )
    assert "No day of the month is known" in stated(orcost, month="2020-03")


# What it does not say


def _without_style(text: str) -> str:
    return re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("form", FORMATS)
def test_without_cost_nothing_in_the_source_tells_it(world: Billed, orcost: Orcost, tmp_path: Path, form: str) -> None:
    everything(world)
    shown = stated(orcost, form=form)
    (tmp_path / "orcost.toml").write_text(ACCOUNT + HIDDEN, encoding="utf-8")
    hidden = stated(orcost, form=form)
    costs = {f"{row[name]:f}" for row in lines(world, "A") for name in COST if row[name]}
    if form == "html":
        costs = {"10.00", "10.03", "0.33"} | costs
    assert {cost for cost in costs if cost in shown}
    assert not {cost for cost in costs if cost in hidden}
    for word in ("credits_usd", "byok", "margin", "cost"):
        assert word not in _without_style(hidden).lower()
    if form == "csv":
        assert set(shown.splitlines()[0].split(",")) - set(hidden.splitlines()[0].split(",")) == COST
    assert "margin" not in _without_style(shown).lower()


def test_without_cost_an_adjustment_of_cost_alone_is_no_row_of_the_page() -> None:
    nothing = line("adjustment", "0", adjusted_month=date(2026, 9, 1), credits_usd=Decimal(1), reason="restatement")
    statement = Statement(HEAD, [line("usage", "1.50", key_hash="ab", key_name="app"), nothing])
    assert "Adjustment of September 2026: usage corrected" in statement_page(statement, BillingConfig())
    assert "Adjustment" not in statement_page(statement, BillingConfig(show_cost=False))


def test_names_are_text_in_every_format(world: Billed, orcost: Orcost) -> None:
    world.ledger.rename("acme", world.keys["app"], HOSTILE, world.now - DAY)
    world.map(f"A,key_hash,{world.keys['app']},,,")
    world.sync()
    with world.engine.begin() as connection:
        statement = "update ref.company set display_name = :name, external_id = :name where company = 'A'"
        connection.execute(sa.text(statement), {"name": HOSTILE})
    html = stated(orcost)
    shown = Page(html)
    assert {it.tag for it in shown.root.iter()} & {"script", "img", "link", "iframe", "object", "a"} == set()
    assert not {name for it in shown.root.iter() for name in it.attrib if name.startswith("on") or name == "src"}
    assert "\u202e" not in html
    assert "default-src 'none'" in html
    assert shown.rows[0][1][0].startswith("=HYPERLINK")
    (row,) = csv.DictReader(stated(orcost, form="csv").splitlines())
    assert row["key_name"] == f"'{HOSTILE}"
    assert json.loads(stated(orcost, form="json"))["lines"][0]["key_name"] == HOSTILE


# Rounding


@pytest.fixture(scope="module")
def amounts(postgres_url: str) -> Iterator[Billed]:
    """A company with lines whose amounts lie half way between two, and others."""
    with fresh_engine(postgres_url) as engine:
        world = billed(engine)
        for place, usd in enumerate(("0.005", "0.015", "2.5", "0.0005", "1.234567", "0.333333", "7.0015", "0.1")):
            world.spend("app", f"2026-10-{place + 5:02}", usd, model=f"a/{place}")
        world.sync()
        yield world


@given(
    currency=st.sampled_from([("JPY", 0), ("KWD", 3), ("EUR", 2)]),
    rate=st.decimals("0.0001", "20000", places=4).map(str) | st.sampled_from(("1", "0.5", "100", "10")),
)
@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_are_rounded_half_to_even_and_sum_to_the_rounded_total(
    amounts: Billed, currency: tuple[str, int], rate: str
) -> None:
    name, digits = currency
    amounts.rate("2026-10-31", name, rate)
    amounts.charge_in("A", name)
    statement = amounts.statement("A", OCTOBER)

    def owed(usd: Decimal) -> Decimal:
        exact = EXACT.multiply(usd, Decimal(rate))
        return exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN, context=EXACT)

    for it in statement.lines:
        assert it.kind == "rounding" or it.amount == owed(it.amount_usd)
        assert -it.amount.as_tuple().exponent == digits
    assert statement.total == owed(statement.total_usd)
    shown = Page(statement_page(statement, BillingConfig(show_cost=False)))
    assert number(shown.figures["Total"][0].split()[0]) == statement.total
    assert sum(map(number, shown.amounts("detail") + shown.amounts(""))) == statement.total


def test_yen_have_no_decimals_and_dinars_three(world: Billed, orcost: Orcost) -> None:
    world.rate("2026-10-31", "JPY", "155.5")
    world.rate("2026-10-31", "KWD", "0.3071")
    world.sync()
    world.charge_in("A", "JPY")
    assert Page(stated(orcost)).figures["Total"][0] == "1,556 JPY"
    assert "rounded to whole units of JPY" in stated(orcost)
    world.charge_in("A", "KWD")
    assert Page(stated(orcost)).figures["Total"][0] == "3.073 KWD"


# Keys and standing, whatever is stored

HEAD = StatementHead(
    *("A", None, None, OCTOBER, "open", None, IN_NOVEMBER, True, True, None, "closed"),
    *("USD", 2, Decimal(1), None, 0, None, None),
)  # fmt: skip


def line(kind: str, amount: str, **fields: Any) -> StatementLine:
    named = dict.fromkeys(StatementLine._fields) | {
        "month": OCTOBER,
        "company": "A",
        "line": 1,
        "kind": kind,
        "amount": Decimal(amount),
        "amount_usd": Decimal(amount),
        "currency": "USD",
        "per_usd": Decimal(1),
    }
    return StatementLine(**(named | fields))


def keys(*named: tuple[str | None, str | None, str]) -> list[str]:
    made = [
        line("usage", "1.00", key_name=name, key_hash=key_hash, account=account, model=GPT)
        for name, key_hash, account in named
    ]
    shown = Page(statement_page(Statement(HEAD, made), BillingConfig()))
    return [cells[0] for kind, cells in shown.rows if kind == "group"]


def test_a_key_is_called_by_what_tells_it_from_others() -> None:
    one, other = "ab" * 32, "cd" * 32
    assert keys(("app", one, "acme"), ("web", other, "acme")) == ["app", "web"]
    assert keys(("app", one, "acme"), ("app", other, "acme")) == ["app · key abababab…", "app · key cdcdcdcd…"]
    assert keys((None, one, "acme"), (" ", other, "acme")) == ["key abababab…", "key cdcdcdcd…"]
    assert keys(("app", one, "acme"), (None, None, "beta")) == ["app · account acme", "(no key) · account beta"]


def test_what_is_doubtful_is_said() -> None:
    def doubts(**fields: Any) -> list[str]:
        shown = Page(statement_page(Statement(HEAD._replace(**fields), []), BillingConfig()))
        return [_text(it) for it in shown.root.iterfind(".//li[@class='doubt']")]

    assert doubts() == []
    assert doubts(reconciliation=None) == ["No day of the month is known"]
    assert doubts(reconciliation="explained") == []
    assert doubts(reconciliation="open") == ["Not every day reconciles with OpenRouter's total"]
    assert doubts(is_settled=False) == ["Not every day of the month is final yet"]
    assert doubts(known_from=IN_NOVEMBER - 20 * DAY, is_complete=False) == [
        "Usage is known from 2026-10-14 12:20 UTC on only"
    ]
    closed = {"status": "closed", "closed_at": IN_NOVEMBER}
    assert doubts(is_settled=False, **closed) == ["Not every day of the month was final when the month was closed"]


# Files


def test_a_file_for_each_company_that_has_something(world: Billed, orcost: Orcost, tmp_path: Path) -> None:
    world.sync()
    told = orcost("statement", "--all", *OF_OCTOBER, "--output", "out/october")
    assert (told.code, told.err) == (0, "")
    assert told.out.splitlines() == [
        "out/october/2026-10 A.html: 10.00 USD, open: it may still change",
        "out/october/2026-10 B.html: 4.00 USD, open: it may still change",
    ]
    folder = tmp_path / "out" / "october"
    assert sorted(it.name for it in folder.iterdir()) == ["2026-10 A.html", "2026-10 B.html"]
    assert (folder / "2026-10 A.html").read_text(encoding="utf-8") == stated(orcost)
    assert orcost("statement", "--all", "--month", "2026-11", "--output", "none").out == (
        "No company has anything in 2026-11; nothing was written.\n"
    )
    assert not (tmp_path / "none").exists()


def test_names_of_companies_become_names_of_files_that_are_safe(world: Billed, orcost: Orcost, tmp_path: Path) -> None:
    world.map("../../etc/x,key_name,app,,,", "a,key_name,web,,,")
    world.plans("A,monthly_fee_usd,1,,2026-10-01")
    world.sync()
    told = orcost("statement", "--all", *OF_OCTOBER, "--output", "out", "--format", "csv")
    names = sorted(it.name for it in (tmp_path / "out").iterdir())
    assert len(names) == len(told.out.splitlines()) == 3
    assert [re.sub(r" [0-9a-f]{8}\.", " #.", name) for name in names] == [
        "2026-10 A #.csv",
        "2026-10 _.._etc_x #.csv",
        "2026-10 a #.csv",
    ]
    assert {it.name for it in tmp_path.iterdir()} == {"out", "orcost.toml"}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300), unique=True))
@settings(max_examples=examples(200))
def test_no_two_companies_share_a_file(companies: list[str]) -> None:
    names = file_names(companies)
    assert len({name.casefold() for name in names.values()}) == len(companies)
    for name in names.values():
        assert not re.search(r'[/\\:*?"<>|\x00-\x1f]', name)
        assert name == name.strip(" .")
        assert 0 < len(f"2026-10 {name}.html".encode()) <= 255


def test_the_page_names_who_charges_and_whether_it_is_a_draft(world: Billed, orcost: Orcost, tmp_path: Path) -> None:
    world.sync()
    (tmp_path / "orcost.toml").write_text(ACCOUNT + '[billing]\nissuer = "<b>Example</b> & Co"\n', encoding="utf-8")
    page = stated(orcost)
    assert 'class="kicker">Draft statement <span>from &lt;b&gt;Example&lt;/b&gt; &amp; Co</span>' in page
    assert "No. 2026-10" not in page
    world.close(OCTOBER)
    told = orcost("statement", "A", *OF_OCTOBER, "--output", "a.pdf")
    assert (told.code, "No PDF is written" in told.err, (tmp_path / "a.pdf").exists()) == (2, True, False)


def test_a_company_without_a_rate_is_named_once_the_others_are_written(
    world: Billed, orcost: Orcost, tmp_path: Path
) -> None:
    world.sync()
    world.charge_in("B", "EUR")
    told = orcost("statement", "--all", *OF_OCTOBER, "--output", "out")
    assert (told.code, told.out) == (1, "out/2026-10 A.html: 10.00 USD, open: it may still change\n")
    assert told.err == (
        '"B" is charged in EUR, and no exchange rate of EUR is dated in 2026-10 or before.\n'
        "Add a line to the exchange rates (exchange_rates.csv: date,currency,per_usd), then: orcost sync\n"
    )
    assert [it.name for it in (tmp_path / "out").iterdir()] == ["2026-10 A.html"]


def test_a_file_is_written_whole_or_not_at_all(world: Billed, orcost: Orcost, tmp_path: Path) -> None:
    world.sync()
    file = tmp_path / "a.html"
    told = orcost("statement", "A", *OF_OCTOBER, "--output", "a.html")
    assert told.out == "a.html: 10.00 USD, open: it may still change\n"
    before = file.read_text(encoding="utf-8")
    assert before == stated(orcost)
    assert orcost("statement", "Aa", *OF_OCTOBER, "--output", "a.html").code == 1
    assert file.read_text(encoding="utf-8") == before
    told = orcost("statement", "--all", *OF_OCTOBER, "--output", "a.html")
    assert (told.code, "a.html looks like a single one" in told.err) == (2, True)
    (tmp_path / "taken").touch()
    told = orcost("statement", "--all", *OF_OCTOBER, "--output", "taken")
    assert (told.code, told.err) == (1, "taken cannot be made a folder (File exists).\n")
    (tmp_path / "folder").mkdir()
    told = orcost("statement", "A", *OF_OCTOBER, "--output", "folder")
    assert (told.code, told.err) == (1, "folder cannot be written: it is a folder: name a file in it.\n")


@pytest.mark.slow
def test_the_ending_of_the_file_says_the_format(world: Billed, orcost: Orcost, tmp_path: Path) -> None:
    world.sync()
    for name, form in (("a.csv", "csv"), ("a.JSON", "json"), ("a.html", "html"), ("a.txt", "html"), ("a", "html")):
        orcost("statement", "A", *OF_OCTOBER, "--output", name)
        assert (tmp_path / name).read_text(encoding="utf-8") == stated(orcost, form=form), name
    orcost("statement", "A", *OF_OCTOBER, "--output", "b.csv", "--format", "html")
    assert (tmp_path / "b.csv").read_text(encoding="utf-8") == stated(orcost)
    told = orcost("statement", "A", *OF_OCTOBER, "--output", "x" * 300)
    assert (told.code, told.err) == (1, f"{'x' * 300} cannot be written (File name too long).\n")


# What is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    sampled(
        [
            (("Bb", *OF_OCTOBER), 'No company is called "Bb". Near: "B".'),
            (("unattributed", *OF_OCTOBER), "Unattributed is no company: nobody is charged for it."),
            (("A", "--month", "2026-12"), "2026-12 has not begun: there is no statement of it yet."),
            (
                ("--all", "--month", "2026-12", "--output", "x"),
                "2026-12 has not begun: there is no statement of it yet.",
            ),
            (("A", "--month", "2026-13"), "'2026-13' is not a month such as 2026-10."),
            (("A", "--month", "2026-10-01"), "'2026-10-01' is not a month such as 2026-10."),
            (("A", "--all", *OF_OCTOBER), "--all is for every company: leave out COMPANY."),
            (("--all", *OF_OCTOBER), "--all writes a file for each company: name a folder with --output."),
            (OF_OCTOBER, "Name a COMPANY, or give --all."),
        ],
        2,
    ),
)
def test_what_has_no_statement_is_refused(
    world: Billed, orcost: Orcost, arguments: tuple[str, ...], words: str
) -> None:
    world.sync()
    told = orcost("statement", *arguments)
    assert told.code != 0
    assert told.out == ""
    assert words in told.err
    assert "Traceback" not in told.err


# The page of the documentation


@pytest.mark.slow
def test_the_commands_of_the_page_about_billing_run(world: Billed, orcost: Orcost, tmp_path: Path) -> None:
    world.map("Company A,key_name,app,,,", "B,key_name,web,,,")
    world.sync()
    commands = [shlex.split(it) for text in blocks("sh", page("billing")) for it in text.splitlines()]
    assert len(commands) == 10
    for program, *arguments in commands:
        if arguments == ["sync"]:  # what it does with the file: the world's account is synced in this process
            load_file(world, tmp_path / "price_plans.csv")
            continue
        told = orcost(*arguments)
        assert (program, told.code, told.err) == ("orcost", 0, "")
    assert (tmp_path / "statements" / "2026-10 Company A.html").read_bytes() == (
        tmp_path / "company-a.html"
    ).read_bytes()


def test_the_fields_and_columns_that_the_page_names_exist(world: Billed, orcost: Orcost) -> None:
    world.sync()
    (row,) = (row for row in rows(page("billing")) if row[0] == "`json`")
    assert codes(row[1]) == list(json.loads(stated(orcost, form="json")))
    (written_down,) = blocks("toml", page("billing"))
    assert not ProjectConfig.model_validate(tomllib.loads(written_down)).billing.show_cost
