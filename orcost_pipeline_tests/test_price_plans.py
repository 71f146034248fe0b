"""Price plans and exchange rates are taken whole, as written, or refused whole with every mistake on its line."""

import codecs
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcost_pipeline.billing.doubts import doubts
from orcost_pipeline.billing.exchange_rates import ExchangeRate, ExchangeRatesError, read_exchange_rates
from orcost_pipeline.billing.explanation import NO_SPEND, OVERRULED, Explanation, explain
from orcost_pipeline.billing.price_plans import COLUMNS, PricePlans, PricePlansError, read_price_plans
from orcost_pipeline.billing.prices import CHARGES, MONTHLY
from orcost_pipeline.companies.rows import csv_line
from orcost_pipeline.warehouse.questions.charges import UsedModel
from orcost_pipeline.warehouse.questions.plans import PlanRow

HEADER = "company,charge,value,model,valid_from,valid_to,note\n"
PERCENTAGES = ("markup_percent", "byok_percent", "credit_purchase_percent")
PRICES = tuple(charge for charge in CHARGES if charge not in PERCENTAGES)


def read(text: str | bytes) -> PricePlans:
    return read_price_plans(text.encode() if isinstance(text, str) else text, "price_plans.csv")


def mistakes(text: str | bytes) -> list[str]:
    with pytest.raises(PricePlansError) as refused:
        read(text)
    return [str(mistake) for mistake in refused.value.mistakes]


def row(line: int, company: str, charge: str, value: str | None, **more: object) -> PlanRow:
    given = {"model": None, "valid_from": None, "valid_to": None, "note": None, **more}
    return PlanRow(line, company, charge, None if value is None else Decimal(value), **given)  # type: ignore[arg-type]


ONE = (row(2, "A", "markup_percent", "12.5"),)
SHORT = "company,charge,value\nA,markup_percent,12.5\n"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (SHORT, ONE),
        (codecs.BOM_UTF8 + SHORT.encode(), ONE),
        (codecs.BOM_UTF16_LE + SHORT.encode("utf-16-le"), ONE),
        (SHORT.replace(",", ";").replace("\n", "\r\n"), ONE),
        ("value,company,charge,\n 12.5 ,\tA,markup_percent,\n", ONE),
        ("# what they pay\n\n" + SHORT, (ONE[0]._replace(line=4),)),
        (SHORT.split("\n", maxsplit=1)[0], ()),
        (
            HEADER + "*,request_usd,none,openai/*,2026-10-01,2026-11-01,free month\n",
            (
                row(
                    2,
                    "*",
                    "request_usd",
                    None,
                    model="openai/*",
                    valid_from=date(2026, 10, 1),
                    valid_to=date(2026, 11, 1),
                    note="free month",
                ),
            ),
        ),
    ],
)
def test_right_plans_are_read_as_written(text: str | bytes, rows: tuple[PlanRow, ...]) -> None:
    plans = read(text)
    assert (plans.rows, plans.warnings) == (rows, ())


@pytest.mark.parametrize("charge", CHARGES)
def test_every_kind_of_charge_has_its_least_value(charge: str) -> None:
    least = -100 if charge in PERCENTAGES else 0
    for value in (f"{least}", f"{least}.00", "0", "007.50", "1" * 100 + "." + "9" * 100):
        assert read(f"company,charge,value\nA,{charge},{value}\n").rows[0].value == Decimal(value)
    for value in (f"{least - 1}", f"{least}.{'0' * 99}1" if least else "-0.01"):
        below = f"{least}" if Decimal(value) < least else None
        said = f'line 2: value "{value[:79] + "…" if len(value) > 80 else value}" of {charge} is below {below}.'
        assert mistakes(f"company,charge,value\nA,{charge},{value}\n") == [said]


@pytest.mark.parametrize(
    "value", ["+5", "5.", ".5", "1e3", "1,5", "5 %", "5%", "NaN", "Infinity", "None", "٣", "--5", "1_000", "9" * 101]
)
def test_a_value_is_a_plain_decimal_or_none(value: str) -> None:
    (said,) = mistakes(f'company,charge,value\nA,markup_percent,"{value}"\n')
    assert said.endswith("is neither a decimal with a point, such as 12.5, nor none.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["the file is empty; its header is company,charge,value."]),
        ("company,charge\nA,byok_percent\n", ["line 1: the header lacks value."]),
        (
            "company,charge,value,account\nA,byok_percent,1,acme\n",
            ['line 1: column "account" is not one of company, charge, value, model, valid_from, valid_to, note.'],
        ),
        (HEADER + ",,,\nA,,5\n,byok_percent,5\nA,byok_percent,\n", ["charge is blank.", "company is blank.", "value"]),
        (
            HEADER + "A,markup_precent,5\n",
            [f'line 2: charge "markup_precent" is not one of {", ".join(CHARGES)}. Did you mean markup_percent?'],
        ),
        (HEADER + "uNATTRIBUTED,markup_percent,5\n", ['line 2: company "uNATTRIBUTED" is reserved']),
        (
            HEADER + "A,monthly_fee_usd,5,*\nA,monthly_minimum_usd,5,gpt\n",
            ["line 2: monthly_fee_usd is not for single models: leave model blank.", "line 3: monthly_minimum_usd is"],
        ),
        (
            HEADER + "A,byok_percent,5,,2026-02-30,01.03.2026\nB,byok_percent,5,,2026-02-02,2026-02-02\n",
            ['line 2: valid_from "2026-02-30" is not a date', 'line 2: valid_to "01.03.2026"', "line 3: valid_to 2026"],
        ),
        (
            HEADER + "A,byok_percent,5,x\nB,byok_percent,5,x\nA,byok_percent,6,x\n\nA,byok_percent,none,x,,,note\n",
            [
                "line 2: its company, charge, model and dates are on lines 4, 6 too.",
                "line 4: its company, charge, model and dates are on lines 2, 6 too.",
                "line 6: its company, charge, model and dates are on lines 2, 4 too.",
            ],
        ),
        (HEADER + 'A,byok_percent,"5\n', ["line 2: its quotes do not balance."]),
        (b"company,charge,value\nA\0,byok_percent,5\n", ["line 2: there is a NUL byte."]),
        (b"company,charge,value\n\xff,byok_percent,5\n", ["line 2: the text is not UTF-8"]),
    ],
)
def test_wrong_plans_are_refused_whole_with_every_mistake_and_its_line(text: str | bytes, said: list[str]) -> None:
    found = mistakes(text)
    assert len(found) == len(said)
    assert all(part in mistake for part, mistake in zip(said, found, strict=True))


def test_rows_that_differ_in_one_of_company_charge_model_and_dates_are_no_repetition() -> None:
    rows = ["A,byok_percent,5,x,2026-01-01,2026-02-01", "B,byok_percent,5,x,2026-01-01,2026-02-01"]
    rows += ["A,markup_percent,5,x,2026-01-01,2026-02-01", "A,byok_percent,5,y,2026-01-01,2026-02-01"]
    rows += ["A,byok_percent,5,x,2026-01-02,2026-02-01", "A,byok_percent,5,x,2026-01-01,2026-02-02"]
    assert len(read(HEADER + "\n".join(rows)).rows) == 6


dates = st.dates(date(2026, 1, 1), date(2026, 12, 31))
plan_rows = st.builds(
    PlanRow,
    st.just(0),
    st.sampled_from(("A", "*", "Ärger, & Co", '#1 "Corp"', "; x")),
    st.sampled_from(CHARGES),
    st.none() | st.decimals(0, 10**9, places=6),
    st.none() | st.sampled_from(("openai/*", "a;b", "#m")),
    st.none() | dates,
    st.none() | dates.map(lambda day: day + timedelta(days=400)),
    st.none() | st.sampled_from(("so", "over\nlines")),
).map(lambda it: it._replace(model=None) if it.charge in MONTHLY else it)
plans = st.lists(plan_rows, max_size=8, unique_by=lambda it: (it.company, it.charge, it.model, *it[5:7]))


def written(found: list[PlanRow]) -> list[list[str]]:
    def cell(name: str, value: object) -> str:
        return "none" if name == "value" and value is None else f"{value:f}" if name == "value" else f"{value or ''}"

    return [[cell(name, getattr(it, name)) for name in COLUMNS] for it in found]


@given(plans, st.sampled_from(",;"), st.sampled_from(("utf-8", "utf-8-sig", "utf-16")))
def test_rows_that_are_written_are_read_back_from_a_file_and_from_a_table(
    found: list[PlanRow], delimiter: str, encoding: str
) -> None:
    cells = written(found)
    text = "".join(csv_line(values, delimiter) + "\n" for values in [COLUMNS, *cells])
    assert [it._replace(line=0) for it in read(text.encode(encoding)).rows] == found
    table = [(str(line), *values) for line, values in enumerate(cells, start=1)]
    rows = read_price_plans((("line", *COLUMNS), table[::-1]), "table t").rows
    assert list(rows) == [it._replace(line=line) for line, it in enumerate(found, start=1)]


def test_a_table_of_plans_needs_its_order() -> None:
    with pytest.raises(PricePlansError, match=r"table fees was refused\.\n  the table lacks line, a whole number"):
        read_price_plans((("company", "charge", "value"), [("A", "byok_percent", "5")]), "table fees")


@pytest.mark.parametrize(
    ("start", "end", "doubt"),
    [
        ("2026-01-02", "2026-02-01", "never holds"),
        ("2026-01-02", "2026-02-02", "holds from 2026-02-01 on"),
        ("2026-01-01", "2026-01-02", None),
        ("2026-01-31", "2026-02-01", "never holds"),
        ("2026-12-15", "2027-01-01", "never holds"),
        ("2026-12-15", "2027-01-02", "holds from 2027-01-01 on"),
        ("2025-01-15", "2026-01-10", "holds from 2025-02-01 on"),
        ("9999-12-02", "9999-12-31", "never holds"),
        ("9999-12-02", "", "never holds"),
        ("2026-01-02", "", "holds from 2026-02-01 on"),
        ("", "2026-01-20", None),
    ],
)
def test_a_monthly_row_that_begins_within_a_month_is_doubted(start: str, end: str, doubt: str | None) -> None:
    plans = read(HEADER + f"A,monthly_fee_usd,5,,{start},{end}\nA,byok_percent,5,,{start},{end}\n")
    told = [(warning.line, warning.message.partition(":")[0]) for warning in plans.warnings]
    assert told == ([(2, f"monthly_fee_usd {doubt}")] if doubt else [])


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (["*,markup_percent,10", "A,markup_percent,5"], 3),
        (["A,markup_percent,10,*", "A,markup_percent,5,gpt"], 3),
        (["A,markup_percent,none", "A,markup_percent,5,,2026-01-01"], 3),
        (["A,markup_percent,10,,,2026-05-01", "A,markup_percent,5,,2026-01-01,2026-05-01"], 3),
        (["A,markup_percent,5", "*,markup_percent,10"], None),
        (["*,byok_percent,10", "A,markup_percent,5"], None),
        (["A,markup_percent,10,gpt", "A,markup_percent,5"], None),
        (["A,markup_percent,10,,2026-01-01", "A,markup_percent,5"], None),
        (["A,markup_percent,10,,2026-01-01", "A,markup_percent,5,,2026-05-01"], 3),
        (["*,markup_percent,10,,2026-01-01,2026-09-01", "A,markup_percent,5,,2026-05-01,2026-06-01"], 3),
        (["A,markup_percent,10,,2026-01-01,2026-05-01", "A,markup_percent,5,,2026-04-30,2026-05-02"], None),
        (["A,markup_percent,10,,2026-05-01", "A,markup_percent,5,,2026-01-01"], None),
        (["A,markup_percent,10,,,2026-05-01", "A,markup_percent,5,,2026-01-01"], None),
    ],
)
def test_a_row_that_an_earlier_one_covers_is_doubted(rows: list[str], line: int | None) -> None:
    warnings = read(HEADER + "\n".join(rows)).warnings
    assert [warning.line for warning in warnings] == ([line] if line else [])
    assert all(str(warning).endswith("never holds: line 2 comes first.") for warning in warnings)


def test_what_nobody_uses_or_knows_is_doubted() -> None:
    rows = [
        row(2, "*", "markup_percent", "1", model="openai/gpt-?"),
        row(3, "Acme Gmbh", "markup_percent", "1", model="opneai/*"),
        row(4, "Acme Gmbh", "byok_percent", "1"),
        row(5, "Known", "request_usd", "1", model="gone", valid_to=date(2026, 10, 1)),
        row(6, "Known", "request_usd", "1", model="gone", valid_to=date(2026, 10, 2)),
    ]
    found = doubts(rows, ["openai/gpt-5"], ["Known", "Acme GmbH"], date(2026, 10, 1))
    assert [str(doubt) for doubt in found] == [
        'line 3: model "opneai/*" matched no model used in the last 30 days.',
        'line 3: company "Acme Gmbh" is in no rule and no list, and has no usage. Did you mean Acme GmbH?',
        'line 6: model "gone" matched no model used in the last 30 days.',
    ]
    assert [doubt.line for doubt in doubts(rows, [], ["Known"], date(2026, 10, 1))] == [3], "nothing was used at all"


# What holds


DAY = date(2026, 10, 15)


def held(found: list[Explanation]) -> dict[tuple[str, str | None], int]:
    return {(it.charge, it.model): it.row.line for it in found if it.row}


def test_the_first_row_that_matches_holds_and_the_others_are_told_why_not() -> None:
    rows = [
        row(2, "A", "markup_percent", None, model="free/*"),
        row(3, "A", "markup_percent", "5", valid_from=date(2026, 10, 16)),
        row(4, "A", "markup_percent", "6", valid_to=date(2026, 10, 15)),
        row(5, "*", "markup_percent", "7", valid_from=date(2026, 10, 15)),
        row(6, "A", "markup_percent", "8"),
        row(7, "B", "markup_percent", "9"),
    ]
    found = explain(rows, "A", [UsedModel("free/m"), UsedModel("m")], DAY, has_spend=True)
    assert held(found) == {("markup_percent", "free/m"): 2, ("markup_percent", "m"): 5}
    free, paid = (it for it in found if it.charge == "markup_percent")
    assert (free.applies, paid.applies) == (False, True)
    assert [(it.row.line, it.reason) for it in paid.considered] == [
        (2, "another model"),
        (3, "from 2026-10-16"),
        (4, "until 2026-10-15"),
        (6, "later in the file"),
    ]


def test_prices_of_tokens_overrule_a_markup_but_not_where_they_are_none() -> None:
    rows = [
        row(2, "A", "prompt_usd_per_million", None, model="free"),
        row(3, "A", "prompt_usd_per_million", "3"),
        row(4, "A", "markup_percent", "5"),
    ]
    markups = [
        it
        for it in explain(rows, "A", [UsedModel("free"), UsedModel("m")], DAY, has_spend=True)
        if it.charge == "markup_percent"
    ]
    assert [(it.model, it.overruled, it.applies) for it in markups] == [("free", None, True), ("m", OVERRULED, False)]


def test_a_monthly_row_holds_by_the_first_of_the_month_and_for_everybody_only_with_spend() -> None:
    rows = [
        row(2, "A", "monthly_fee_usd", "5", valid_from=date(2026, 10, 2)),
        row(3, "*", "monthly_fee_usd", "6"),
        row(4, "A", "monthly_minimum_usd", "7"),
    ]
    assert held(explain(rows, "A", [], DAY, has_spend=True)) == {
        ("monthly_fee_usd", None): 3,
        ("monthly_minimum_usd", None): 4,
    }
    fee, minimum = explain(rows, "A", [], DAY, has_spend=False)
    assert (fee.row, minimum.row) == (None, rows[2])
    assert [it.reason for it in fee.considered] == ["not in force on 2026-10-01", NO_SPEND]


# Exchange rates


def test_rates_are_read_as_written() -> None:
    text = "per_usd;date;currency\r\n0.92;2026-10-31;EUR\r\n1.00;2026-10-31;USD\r\n"
    assert read_exchange_rates(text.encode("utf-16"), "rates").rows == (
        ExchangeRate(date(2026, 10, 31), "EUR", Decimal("0.92")),
        ExchangeRate(date(2026, 10, 31), "USD", Decimal(1)),
    )
    table = (
        ("line", "date", "currency", "per_usd"),
        [("2", "2026-11-30", "EUR", "0.9"), ("1", "2026-10-31", "EUR", "1")],
    )
    assert [it.per_usd for it in read_exchange_rates(table, "table fx").rows] == [Decimal(1), Decimal("0.9")]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("2026-10-31,EUR,\n,EUR,1\n2026-10-31,,1\n", ["per_usd is blank.", "date is blank.", "currency is blank."]),
        ("2026-10-32,EUR,1\n", ['date "2026-10-32" is not a date written YYYY-MM-DD.']),
        ("2026-10-31,eur,1\n", ['currency "eur" is not three capital letters, such as EUR.']),
        ("2026-10-31,EUR,0\n", ['per_usd "0" is not a decimal with a point above 0, such as 0.92.']),
        ("2026-10-31,EUR,-1\n", ['per_usd "-1" is not a decimal']),
        ('2026-10-31,EUR,"0,92"\n', ['per_usd "0,92" is not a decimal']),
        ("2026-10-31,USD,1.01\n", ['per_usd "1.01" of USD is not 1']),
        (
            "2026-10-31,EUR,1\n2026-10-31,PLN,4\n2026-10-31,EUR,1\n2026-11-30,EUR,1\n",
            ["line 2: its date and currency are on line 4 too.", "line 4: its date and currency are on line 2 too."],
        ),
    ],
)
def test_wrong_rates_are_refused_whole(rows: str, said: list[str]) -> None:
    with pytest.raises(ExchangeRatesError) as refused:
        read_exchange_rates(f"date,currency,per_usd\n{rows}".encode(), "exchange_rates.csv")
    assert len(refused.value.mistakes) == len(said)
    assert all(part in str(it) for part, it in zip(said, refused.value.mistakes, strict=True))
