"""The Superset dashboard: what is packed, that the warehouse has what it asks for, and what spend is compared with."""

import json
import os
import re
import stat
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import sqlalchemy as sa
import yaml

from orcost_pipeline.cli.dashboard import pack
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.settings import load_settings
from orcost_pipeline_tests.billing_world import Billed, billed
from orcost_pipeline_tests.budget_world import budget
from orcost_pipeline_tests.test_budgets import spend, world_of
from orcost_pipeline_tests.world import NOON, World

CHECKOUT = Path(__file__).parents[1]
BUNDLE = CHECKOUT / "dashboards" / "superset"
URL = "postgresql+psycopg://reader:s3cr%40t@warehouse.example:5433/costs?sslmode=require"
UNITS = ("USD", "%", "number", "UTC")
SUPERSET = Path(os.environ.get("SUPERSET_VENV", "/tmp/orcost-superset-venv"))
CHROMIUM = Path("/usr/bin/chromium")


def files(folder: str) -> dict[str, dict[str, Any]]:
    """Name → content."""
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (BUNDLE / folder).rglob("*.yaml")}


# ── the zip ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ORCOST_DATABASE_URL", "ORCOST_HOME", "ORCOST_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def uri_in(file: Path) -> str:
    with ZipFile(file) as packed:
        return yaml.safe_load(packed.read("orcost/databases/orcost.yaml"))["sqlalchemy_uri"]


def test_the_zip_has_every_file_and_the_connection_without_its_password(folder: Path) -> None:
    pack(load_settings(), URL, folder / "one.zip", with_password=False)
    pack(load_settings(), URL, folder / "two.zip", with_password=False)
    with ZipFile(folder / "one.zip") as packed:
        assert sorted(packed.namelist()) == sorted(
            f"orcost/{path.relative_to(BUNDLE)}" for path in BUNDLE.rglob("*.yaml")
        )
    assert uri_in(folder / "one.zip") == "postgresql://reader:XXXXXXXXXX@warehouse.example:5433/costs?sslmode=require"
    assert (folder / "one.zip").read_bytes() == (folder / "two.zip").read_bytes()


def test_a_password_is_kept_only_when_asked_for_and_then_only_this_user_reads_the_file(folder: Path) -> None:
    pack(load_settings(), URL, folder / "it.zip", with_password=True)
    assert uri_in(folder / "it.zip") == "postgresql://reader:s3cr%40t@warehouse.example:5433/costs?sslmode=require"
    assert stat.S_IMODE((folder / "it.zip").stat().st_mode) == 0o600


def test_the_configured_warehouse_is_packed_with_the_advice_to_give_a_reader(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORCOST_DATABASE_URL", "postgresql://orcost@localhost/costs")
    pack(load_settings(), None, folder / "it.zip", with_password=False)
    assert uri_in(folder / "it.zip") == "postgresql://orcost@localhost/costs"
    assert "Give Superset a reader of its own" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["mysql://reader:s3cret@host/costs", "reader:s3cret@host", "postgresql://a@s3cret@h/d"])
def test_a_url_of_another_kind_is_refused_without_its_password(folder: Path, url: str) -> None:
    with pytest.raises(PermanentError, match="The database URL ") as refused:
        pack(load_settings(), url, folder / "it.zip", with_password=True)
    assert "s3cret" not in str(refused.value)
    assert not list(folder.iterdir())


# ── what it asks for ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_datasets_name_the_columns_of_their_relations_and_their_metrics_can_be_asked(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        for name, dataset in files("datasets").items():
            columns = {it["column_name"]: it.get("expression", it["column_name"]) for it in dataset["columns"]}
            metrics = [it["expression"] for it in dataset["metrics"]]
            relation = f"{dataset['schema']}.{dataset['table_name']}"
            for asked in (*columns.values(), *metrics):
                connection.exec_driver_sql(f"select {asked} from {relation}".replace("%", "%%"))
            for row in sa.inspect(connection).get_columns(dataset["table_name"], schema=dataset["schema"]):
                assert row["name"] in columns or name in ("account", "reconciliation_daily"), (name, row["name"])


def test_charts_show_metrics_and_columns_of_their_datasets_and_their_titles_say_the_unit() -> None:
    datasets = {it["uuid"]: it for it in files("datasets").values()}
    charts = files("charts")
    for name, chart in charts.items():
        dataset, params = datasets[chart["dataset_uuid"]], chart["params"]
        metrics = {it["metric_name"] for it in dataset["metrics"]}
        columns = {it["column_name"] for it in dataset["columns"]}
        assert {params.get("metric"), *params.get("metrics", ())} - {None} <= metrics, name
        assert {params.get("x_axis"), *params.get("groupby", ())} - {None} <= columns, name
        assert {it["subject"] for it in params["adhoc_filters"]} <= columns, name
        assert chart["viz_type"] == params["viz_type"] != "pie"
        assert any(unit in chart["slice_name"] for unit in UNITS), chart["slice_name"]
    assert len({chart["slice_name"] for chart in charts.values()}) == len(charts)


def test_the_page_has_every_chart_once_and_filters_of_its_datasets() -> None:
    (dashboard,) = files("dashboards").values()
    placed = [
        it["meta"]["uuid"] for it in dashboard["position"].values() if isinstance(it, dict) and it["type"] == "CHART"
    ]
    assert sorted(placed) == sorted(chart["uuid"] for chart in files("charts").values())
    columns = {it["uuid"]: {column["column_name"] for column in it["columns"]} for it in files("datasets").values()}
    filters = dashboard["metadata"]["native_filter_configuration"]
    targets = [target for it in filters for target in it["targets"] if target]
    assert [it["column"]["name"] for it in targets] == ["company", "account"]
    assert all(it["column"]["name"] in columns[it["datasetUuid"]] for it in targets)


def test_a_filter_reaches_only_charts_that_have_its_column() -> None:
    (dashboard,) = files("dashboards").values()
    datasets = {it["uuid"]: {column["column_name"] for column in it["columns"]} for it in files("datasets").values()}
    charts = {it["uuid"]: datasets[it["dataset_uuid"]] for it in files("charts").values()}
    placed = [it["meta"] for it in dashboard["position"].values() if isinstance(it, dict) and it["type"] == "CHART"]
    filters = dashboard["metadata"]["native_filter_configuration"]
    reached = {
        it["name"]: [charts[chart["uuid"]] for chart in placed if chart["chartId"] not in it["scope"]["excluded"]]
        for it in filters
    }
    assert all("company" in columns for columns in reached["Company"])
    assert all("account" in columns for columns in reached["Account"])
    # All but what is over all accounts, and all but the account's own.
    assert len(reached["Account"]) == sum("account" in charts[chart["uuid"]] for chart in placed)


# ── what is charged ──────────────────────────────────────────────────────────────────────────────────────────────────


def figures(world: World, dataset: str, condition: str, *metrics: str) -> tuple[Any, ...]:
    """Metrics as Superset asks for them."""
    asked = files("datasets")[dataset]
    written = {it["metric_name"]: it["expression"] for it in asked["metrics"]}
    columns = ", ".join(written[metric] for metric in metrics)
    return tuple(world.rows(f"select {columns} from marts.{asked['table_name']} where {condition}")[0])


MONTHLY = ("credits_usd", "charged_usd", "companies_margin_usd", "unattributed_usd", "margin_usd")


def charged_world(engine: sa.Engine) -> Billed:
    """In October A spends 10 and 3 of BYOK, B 20, and 7 are nobody's."""
    world = billed(engine)
    world.spend("app", "2026-10-05", "10", "3")
    world.spend("web", "2026-10-06", "20")
    world.spend("free", "2026-10-07", "7")
    return world


def test_without_price_plans_companies_are_charged_their_credits_and_unattributed_is_a_loss(engine: sa.Engine) -> None:
    world = charged_world(engine)
    world.sync()
    assert figures(world, "company_charge_monthly", "month = '2026-10-01'", *MONTHLY) == (37, 30, 0, 7, -7)
    assert figures(world, "company_charge_daily", "company <> 'Unattributed'", "charge_usd", "credits_usd") == (30, 30)


def test_the_margin_of_companies_stands_beside_what_nobody_pays_for(engine: sa.Engine) -> None:
    world = charged_world(engine)
    world.plans("A,markup_percent,50", "A,monthly_fee_usd,4", "*,credit_purchase_percent,10")
    world.sync()
    # A: 15 for usage, the fee of 4, 1 for buying credits; B: 20 and 2 for buying them.
    assert figures(world, "company_charge_monthly", "month = '2026-10-01'", *MONTHLY) == (37, 42, 9, 7, 2)
    assert figures(world, "company_charge_monthly", "company = 'B'", *MONTHLY) == (20, 22, 0, 0, 0)
    assert figures(world, "company_charge_monthly", "company = 'Unattributed'", *MONTHLY) == (7, 0, 0, 7, -7)
    assert figures(world, "company_charge_daily", "company <> 'Unattributed'", "charge_usd", "credits_usd") == (35, 30)
    assert figures(world, "company_charge_monthly", "month > '2026-10-01' and company = 'B'", *MONTHLY) == (None,) * 5


def test_rows_of_charges_are_ordered_by_month_and_then_by_charge(engine: sa.Engine) -> None:
    world = charged_world(engine)
    world.spend("app", "2026-11-01", "1")
    world.sync()
    (order,) = (
        it["expression"]
        for it in files("datasets")["company_charge_monthly"]["metrics"]
        if it["metric_name"] == files("charts")["charges"]["params"]["timeseries_limit_metric"]
    )
    rows = world.rows(
        f"select month, company from marts.company_charge_monthly group by month, company order by {order} desc"
    )
    october, november = date(2026, 10, 1), date(2026, 11, 1)
    assert [tuple(row) for row in rows] == [
        (november, "A"),
        (october, "B"),
        (october, "A"),
        (october, "Unattributed"),
    ]


# ── what spend is compared with ──────────────────────────────────────────────────────────────────────────────────────


def compared(world: World, first: date, end: date) -> tuple[Any, ...]:
    """Spend, its compared part, spend a month earlier, forecast, budget and the account's total of the days."""
    names = ("spend", "compared", "earlier", "forecast", "budget", "account")
    sums = ", ".join(f"sum({name}_usd)" for name in names)
    return tuple(
        world.rows(
            f"select {sums} from marts.company_spend_compared where day >= :first and day < :end", first=first, end=end
        )[0]
    )


def test_finished_days_are_compared_with_the_same_days_of_the_month_before(engine: sa.Engine) -> None:
    world, key = world_of(engine)
    spend(world, key, date(2026, 10, 5), "10")
    spend(world, key, date(2026, 10, 23), "100")  # is compared with today, which is not finished
    spend(world, key, date(2026, 10, 25), "1000")  # with a day to come
    spend(world, key, date(2026, 11, 5), "12", "1")
    spend(world, key, NOON.date(), "3")
    world.sync()
    budget(world, A="100")
    november = compared(world, date(2026, 11, 1), date(2026, 12, 1))
    forecast = world.value("select forecast_usd from marts.company_budget_monthly where month = '2026-11-01'")
    assert november == (16, 13, 10, round(forecast, 18), 100, 16)
    # Seven of thirty days, to the last of the stored digits.
    week = compared(world, date(2026, 11, 2), date(2026, 11, 9))[4]
    assert week == pytest.approx(Decimal(100) * 7 / 30, abs=Decimal("1e-17"))


def test_the_last_day_of_a_month_is_compared_with_all_that_longer_months_have_after_it(engine: sa.Engine) -> None:
    world, key = world_of(engine, datetime(2026, 12, 3, 12, 20, tzinfo=UTC))
    for day, usd in ((date(2026, 10, 30), "1"), (date(2026, 10, 31), "2"), (date(2026, 11, 30), "4")):
        spend(world, key, day, usd)
    world.sync()
    assert compared(world, date(2026, 11, 30), date(2026, 12, 1))[:3] == (4, 4, 3)
    assert compared(world, date(2026, 11, 1), date(2026, 12, 1))[:3] == (4, 4, 3)


def test_days_of_which_the_month_before_is_not_known_are_not_compared(engine: sa.Engine) -> None:
    world, key = world_of(engine)
    for day in (date(2026, 10, 20), date(2026, 11, 5), date(2026, 11, 21)):
        spend(world, key, day, "5")
    world.sync(since=date(2026, 10, 15))
    assert compared(world, date(2026, 11, 1), date(2026, 12, 1))[:3] == (10, 5, 5)


def test_every_tool_says_that_a_company_without_spend_spent_100_percent_less(engine: sa.Engine) -> None:
    world, key = world_of(engine)
    spend(world, key, date(2026, 10, 5), "10")
    world.sync()
    asked = (CHECKOUT / "docs" / "bi.md").read_text(encoding="utf-8")
    (documented,) = (query for query in re.findall(r"```sql\n(.*?)```", asked, flags=re.DOTALL) if "change" in query)
    (row,) = world.rows(documented.replace("now()", ":now"), now=world.now)
    assert (row.company, row.spend_usd, row.change) == ("A", None, -1)
    panels = json.loads((CHECKOUT / "dashboards/grafana/dashboards/openrouter_costs.json").read_text(encoding="utf-8"))
    (panel,) = (it["targets"][0]["rawSql"] for it in panels["panels"] if '"Change"' in it["targets"][0]["rawSql"])
    assert [tuple(row) for row in world.rows(panel)] == [("A", None, 10, -1)]
    assert figures(world, "company_spend_compared", "day >= '2026-11-01'", "spend_usd", "change") == (0, -1)


# ── a real Superset and a real browser ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.skipif(not SUPERSET.is_dir() or not CHROMIUM.is_file(), reason="`make dashboard` installs Superset")
def test_every_figure_of_the_imported_dashboard_equals_the_warehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboards.proof.__main__ import main

    monkeypatch.setattr(sys, "argv", ["proof", "--venv", str(SUPERSET)])
    assert main() == 0
