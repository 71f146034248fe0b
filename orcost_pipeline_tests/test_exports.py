"""What `orcost export` writes is what the marts hold, to the last digit; a file is written whole or not at all."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from openpyxl.utils.escape import unescape

from docs import focus
from orcost_pipeline import cli
from orcost_pipeline.cli.export import export, formats
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.text import inert
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.questions import exports
from orcost_pipeline.warehouse.questions.relations import Column
from orcost_pipeline.warehouse.schema.declared import declared_schema
from orcost_pipeline_tests.conftest import fresh_database
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, query, usage

FORMULAS = ("=cmd|' /C calc'!A0", "+1", "-1", "@x", "\ttab", "\rreturn")
HOSTILE = (*FORMULAS, 'a "quote", and a comma', "two\nlines", "fox 🦊", "<r>&</r>", "_x000D_", "https://example.com")
# Small, with more digits than a double has, and with as many.
AMOUNTS = ("0.000001979964", "1234.567890123456789", "0.123456789012345678")
FIRST, END = date(2026, 11, 13), date(2026, 11, 24)
WINDOW = ("--from", str(FIRST), "--to", str(END))
MAPPING = ("Acme A,key_name,fox*,,,33.333333", "Acme B,key_name,fox*,,,66.666667", "=Acme C,key_name,two*,,,")

Row = dict[str, Any]


@dataclass
class Outcome:
    code: int
    out: str
    err: str


Orcost = Callable[..., Outcome]


@pytest.fixture(scope="module")
def url(postgres_url: str) -> Iterator[str]:
    """A synced account: a key for each hostile name, one that is split, usage without a key, BYOK, days and hours."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(10_000))
    for number, name in enumerate(HOSTILE):
        key = ledger.add_key("acme", name, NOON - 40 * DAY)
        for ago, model in ((10 * DAY, GPT), (2 * DAY, (GPT, CLAUDE)[number % 2]), (2 * HOUR, GPT)):
            ledger.spend("acme", NOON - ago, key, model, usage(AMOUNTS[number % 3], "0.25" if number == 3 else "0"))
    ledger.spend("acme", NOON - 2 * DAY, None, GPT, usage("0.5"))
    with fresh_database(postgres_url) as made:
        engine = connect(made)
        world = World(engine, ledger)
        world.map(*MAPPING)
        world.sync()
        engine.dispose()
        yield made


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    made = connect(url)
    yield made
    made.dispose()


@pytest.fixture
def orcost(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Orcost:
    """Runs a command in this process, in an empty project folder, which becomes the current one."""
    (tmp_path / ".env").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCOST_DATABASE_URL", url)

    def run(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as ending:
            cli.main(arguments, lambda: NOON)
        code = ending.value.code
        return Outcome(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


def marts(engine: sa.Engine, relation: str, condition: str = "true") -> list[Row]:
    """The rows of a relation in the order of the grain, by Python's order of text and nulls last."""
    with engine.connect() as connection:
        rows = connection.execute(sa.text(f"select * from {relation} where {condition}")).mappings().all()
    grain = ("account", "day", "hour", "company", "key_hash", "model", "provider")
    return sorted(map(dict, rows), key=lambda row: [(row[it] is None, row[it]) for it in grain if it in row])


def written(value: Any) -> str:
    """How a value stands in a csv."""
    match value:
        case None:
            return ""
        case Decimal():
            return f"{value:f}"
        case datetime():
            return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return inert(value) if isinstance(value, str) else str(value)


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(keepends=True)))


# Spend


@pytest.mark.parametrize(("grain", "relation"), [("day", "marts.spend_daily"), ("hour", "marts.spend_hourly")])
def test_csv_is_the_wide_relation_in_the_order_of_its_grain(
    orcost: Orcost, engine: sa.Engine, grain: str, relation: str
) -> None:
    told = orcost("export", "spend", *WINDOW, "--grain", grain)
    rows = marts(engine, relation)
    assert (told.code, told.err) == (0, f"{len(rows)} rows · Complete to 12:20 UTC (just now)\n")
    assert read_csv(told.out) == [{name: written(value) for name, value in row.items()} for row in rows]
    assert told.out.splitlines()[0].split(",") == list(rows[0])
    assert "E-" not in told.out
    assert "0.000001979964000000" in told.out


def test_text_that_a_spreadsheet_would_run_is_harmless_in_csv_and_true_in_json(orcost: Orcost) -> None:
    names = {row["key_name"] for row in read_csv(orcost("export", "spend", *WINDOW).out)}
    assert {name for name in names if name.startswith("'")} == {f"'{name}" for name in FORMULAS}
    companies = {row["company"] for row in read_csv(orcost("export", "spend", *WINDOW).out)}
    assert companies == {"Acme A", "Acme B", "'=Acme C", "Unattributed"}
    told = json.loads(orcost("export", "spend", *WINDOW, "--format", "json").out)
    assert {row["key_name"] for row in told} == {*HOSTILE, None}


def test_json_is_exact(orcost: Orcost, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "CHUNK", 5)
    told = json.loads(orcost("export", "spend", *WINDOW, "--format", "json", "--company", "Acme A").out)
    rows = marts(engine, "marts.spend_daily", "company = 'Acme A'")
    assert len(told) == len(rows) == 3
    expected = [
        {name: value if isinstance(value, str | bool) else written(value) or None for name, value in row.items()}
        for row in rows
    ]
    assert told == expected
    nothing = orcost("export", "spend", "--from", "2020-01-01", "--to", "2020-01-02", "--format", "json")
    assert json.loads(nothing.out) == []


def test_parquet_keeps_decimals_days_and_instants(
    orcost: Orcost, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "CHUNK", 7)
    told = orcost("export", "spend", *WINDOW, "--format", "parquet", "--output", "spend.parquet")
    table = pq.read_table(tmp_path / "spend.parquet")
    assert table.to_pylist() == marts(engine, "marts.spend_daily")
    assert told.err.startswith(f"{table.num_rows} rows to spend.parquet · Complete")
    kinds = {name: table.schema.field(name).type for name in ("day", "requests", "credits_usd", "is_settled", "as_of")}
    instant = pa.timestamp("us", tz="UTC")
    assert list(kinds.values()) == [pa.date32(), pa.decimal128(38, 6), pa.decimal128(38, 18), pa.bool_(), instant]


def test_xlsx_has_the_nearest_doubles_dates_and_text_that_is_no_formula(
    orcost: Orcost, engine: sa.Engine, tmp_path: Path
) -> None:
    orcost("export", "spend", *WINDOW, "--format", "xlsx", "--output", "spend.xlsx")
    header, *cells = openpyxl.load_workbook(tmp_path / "spend.xlsx")["spend"].iter_rows()
    rows = marts(engine, "marts.spend_daily")
    assert [cell.value for cell in header] == list(rows[0])
    for found, row in zip(cells, rows, strict=True):
        for cell, value in zip(found, row.values(), strict=True):
            match value:
                case Decimal():
                    assert (cell.data_type, float(cell.value)) == ("n", float(value))
                case datetime():
                    assert cell.value == value.replace(tzinfo=None, microsecond=0)
                case date():
                    assert cell.is_date
                    assert cell.value.date() == value
                case str():
                    assert (cell.data_type, unescape(cell.value)) == ("s", value)
                case _:
                    assert cell.value == value


# What is refused, and what is left then


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("spend", *WINDOW, "--format", "xlsx"), "xlsx is not for a terminal: name a file with --output."),
        (
            ("spend", "--from", "2026-11-01T05:00"),
            "must be whole UTC days, such as 2026-11-01; for hours: --grain hour",
        ),
        (("focus", "--from", "2026-11-01T05:00"), "must be whole UTC days, such as 2026-11-01."),
        (("spend", "--from", "2026-11-02", "--to", "2026-11-01"), "--to must be later than --from"),
        (("spend", *WINDOW, "--company", "Acme"), 'No company is called "Acme". Near: "Acme B"'),
        (("spend", *WINDOW, "--output", "/dev/null"), "/dev/null cannot be written: it is no file."),
        (("spend", *WINDOW, "--output", "no/file.csv"), "no/file.csv cannot be written (No such file or directory)."),
    ],
)
def test_what_cannot_be_exported_is_a_sentence(orcost: Orcost, arguments: tuple[str, ...], sentence: str) -> None:
    told = orcost("export", *arguments)
    assert (told.code, told.out) == (1, "")
    assert sentence in told.err
    assert "Traceback" not in told.err


def test_without_pyarrow_the_command_that_installs_it_is_told(orcost: Orcost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    told = orcost("export", "focus", "--from", str(FIRST), "--format", "parquet", "--output", "focus.parquet")
    assert (told.code, told.err) == (
        1,
        f"Parquet needs pyarrow. Install it: {sys.executable} -m pip install pyarrow\n",
    )


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_that_fails_leaves_the_file_as_it_was(
    orcost: Orcost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    file = tmp_path / "costs"
    file.write_text("as it was", encoding="utf-8")
    spend = export.exported_spend

    def broken(*arguments: Any) -> exports.Export:
        made = spend(*arguments)

        def chunks() -> Iterator[exports.Chunk]:
            yield next(made.chunks)
            raise OSError(28, "No space left on device")

        return made._replace(chunks=chunks())

    monkeypatch.setattr(export, "exported_spend", broken)
    told = orcost("export", "spend", *WINDOW, "--format", form, "--output", "costs")
    assert (told.code, told.err) == (1, "costs cannot be written (No space left on device).\n")
    assert file.read_text(encoding="utf-8") == "as it was"
    assert {path.name for path in tmp_path.iterdir()} == {".env", "costs"}


def test_what_does_not_fit_into_a_sheet_is_a_sentence(tmp_path: Path) -> None:
    rows = iter([[("x" * 32_767,), ("x" * 32_768,)]])
    with pytest.raises(PermanentError, match=r"^Excel's sheets have 1,048,576 rows and cells of 32,767 characters"):
        formats.write_xlsx(exports.Export([Column("key_name", "text", None)], rows), tmp_path / "spend.xlsx")


# FOCUS

OF_VERSION = {"1.2": {"ProviderName", "PublisherName"}, "1.4": {"ServiceProviderName", "HostProviderName"}}


@pytest.mark.parametrize("version", OF_VERSION)
def test_focus_says_what_the_spend_of_a_day_was(
    orcost: Orcost, engine: sa.Engine, tmp_path: Path, version: str
) -> None:
    told = orcost("export", "focus", *WINDOW, "--version", version)
    assert told.code == 0
    rows = read_csv(told.out)
    assert set(rows[0]) >= {"BilledCost", "ChargeClass", "SkuId"} | OF_VERSION[version]
    assert not set(rows[0]) & {name for other, names in OF_VERSION.items() if other != version for name in names}
    for row, spend in zip(rows, marts(engine, "marts.spend_daily"), strict=True):
        costs = {Decimal(row[f"{cost}Cost"]) for cost in ("Billed", "Effective", "Contracted", "List")}
        assert costs == {spend["credits_usd"]}
        tokens = f"{spend['prompt_tokens'] + spend['completion_tokens']:.6f}"
        assert (row["ConsumedQuantity"], row["PricingQuantity"]) == (tokens, tokens)
        assert row["ChargePeriodStart"] == f"{spend['day']}T00:00:00Z"
        assert row["ChargePeriodEnd"] == f"{spend['day'] + DAY}T00:00:00Z"
        assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
        key = ("ResourceId", "ResourceName", "ResourceType")
        kind = spend["key_hash"] and "API key"
        assert [row[it] for it in key] == [written(it) for it in (spend["key_hash"], spend["key_name"], kind)]
        assert (row["SubAccountName"], row["SkuId"]) == (written(spend["company"]), spend["model"])
        assert row.get("HostProviderName", row["x_Provider"]) == row["x_Provider"] == written(spend["provider"])
        assert Decimal(row["x_ByokCost"]) == spend["byok_usd"]
    orcost("export", "focus", *WINDOW, "--version", version, "--format", "parquet", "--output", "focus.parquet")
    table = pq.read_table(tmp_path / "focus.parquet")
    assert [{name: written(value) for name, value in row.items()} for row in table.to_pylist()] == rows


def test_focus_bills_what_was_spent_to_the_last_digit(engine: sa.Engine) -> None:
    ((billed,),) = query(engine, 'select sum("BilledCost") from marts.focus_cost_and_usage')
    ((spent,),) = query(engine, "select sum(credits_usd) from marts.spend_daily")
    used = sum(Decimal(AMOUNTS[number % 3]) * 3 for number in range(len(HOSTILE))) + Decimal("0.5")
    assert billed == spent == used


def test_what_focus_demands_of_each_row_holds(engine: sa.Engine) -> None:
    wrong = (
        'num_nonnulls("ResourceId", "ResourceType") = 1 or ("ResourceId" is null and "ResourceName" is not null) '
        'or "ChargePeriodEnd" <= "ChargePeriodStart" or "ChargePeriodStart" < "BillingPeriodStart" '
        'or "ChargePeriodEnd" > "BillingPeriodEnd" or "ResourceName" = \'\' or "ChargeClass" is not null'
    )
    assert query(engine, f"select * from marts.focus_cost_and_usage where {wrong}") == []
    nullable = {"ChargeClass", "HostProviderName", "ResourceId", "ResourceName", "ResourceType", "x_Provider"}
    rows = marts(engine, "marts.focus_cost_and_usage")
    assert {name for row in rows for name, value in row.items() if value is None} == nullable


def test_focus_that_bills_another_sum_is_not_exported(orcost: Orcost, engine: sa.Engine, tmp_path: Path) -> None:
    (view,) = (it for it in declared_schema().objects if it.name == "marts.focus_cost_and_usage")
    broken = view.statement.replace("credits_usd as", "(credits_usd * 2)::numeric(38, 18) as", 1)

    def replace(statement: str) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)

    replace(broken)
    try:
        told = orcost("export", "focus", *WINDOW, "--output", "focus.csv")
    finally:
        replace(view.statement)
    assert told.code == 1
    assert re.fullmatch(
        r'FOCUS bills [\d.]+ USD for account "acme" on 2026-11-13, where marts\.spend_daily has [\d.]+\. '
        r"Nothing was exported\.\n",
        told.err,
    )
    assert not (tmp_path / "focus.csv").exists()


@pytest.mark.slow
def test_the_validators_of_focus_find_nothing_but_what_is_known(orcost: Orcost, tmp_path: Path) -> None:
    for version in OF_VERSION:
        orcost("export", "focus", *WINDOW, "--version", version, "--output", f"{version}.csv")
    older, newer = focus.validate_1_2(tmp_path / "1.2.csv"), focus.validate_1_4(tmp_path / "1.4.csv")
    assert (older.failures, newer.failures) == ((), ())
    passed = re.search(r": (\d+) rules pass, 14 fail, 14 of them known", older.summary)
    assert passed
    assert int(passed[1]) > 150
    assert newer.summary.endswith("lint OK (STRUCTURAL_VALID, SEMANTIC_VALID)")
    # That they would find it.
    wrong = (tmp_path / "1.2.csv").read_text(encoding="utf-8").replace(",Usage,", ",Usages,")
    (tmp_path / "wrong.csv").write_text(wrong, encoding="utf-8")
    assert "ChargeCategory-C-003-M" in focus.validate_1_2(tmp_path / "wrong.csv").failures
    assert focus.validate_1_4(tmp_path / "wrong.csv").failures


# Size

PEAK = """
import resource, sys
from datetime import datetime, UTC
from orcost_pipeline import cli
try:
    cli.main(sys.argv[1:], lambda: datetime(2026, 11, 23, 12, 20, tzinfo=UTC))
except SystemExit as ending:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
    raise
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "json", "parquet", "xlsx"])
def test_a_year_of_hours_needs_no_more_memory_than_two_months(
    orcost: Orcost, engine: sa.Engine, tmp_path: Path, form: str
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into core.usage_hourly select h.hour, u.account_id, u.key_id, u.model_id, 1, 1000, 100, 10, 50, "
            "0.123456789012, 0, 'analytics' from core.usage_hourly u cross join "
            "generate_series(timestamptz '2025-01-01Z', '2025-12-31 23:00Z', '1 hour') h(hour) "
            "where u.hour = '2026-11-23 10:00Z' on conflict do nothing"
        )

    def peak(end: date) -> tuple[int, int]:
        """Rows, and the most memory that the process took, in MB."""
        window = ("--from", "2025-01-01", "--to", str(end), "--grain", "hour")
        arguments = ("export", "spend", *window, "--format", form, "--output", f"hours.{form}")
        told = subprocess.run([sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True)
        said, memory = told.stderr.splitlines()
        return int(said.split()[0].replace(",", "")), int(memory)

    rows, least = peak(date(2025, 1, 1) + timedelta(days=60))
    more, most = peak(date(2026, 1, 1))
    assert (rows, more) == (60 * 24 * 13, 365 * 24 * 13)
    assert most < least + 40
