"""The Grafana dashboard: its SQL on a published warehouse, and that its files fit each other. Grafana is not run."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from orcost_pipeline.simulator import small
from orcost_pipeline.simulator.catalogue import CLAUDE
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.world import NOON, World, usage

CHECKOUT = Path(__file__).parents[1]
GRAFANA = CHECKOUT / "dashboards" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "openrouter_costs.json").read_text(encoding="utf-8"))
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
UNITS = ("USD", "%", "UTC", "number")
# The dashboard's own range, from the month's first instant to now.
RANGE = "'2026-11-01T00:00:00Z' AND '2026-11-23T12:20:00Z'"
NOVEMBER = Decimal("114.75")  # of `small`, BYOK included


@pytest.fixture(scope="module")
def world(postgres_url: str) -> Iterator[World]:
    """`small`, and 2 USD without a key on 31 October, before the range, and on 10 October."""
    ledger = small(NOON)
    for day in (10, 31):
        ledger.spend("acme", datetime(2026, 10, day, 6, tzinfo=UTC), None, CLAUDE, usage("2"))
    with fresh_engine(postgres_url) as engine:
        made = World(engine, ledger)
        made.map("A,key_name,Company A,,,")
        made.sync()
        yield made


def shown(world: World, title: str) -> list[tuple[Any, ...]]:
    """The rows of a panel: its SQL, with the macros replaced as Grafana does."""
    (target,) = PANELS[title]["targets"]
    statement = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {RANGE}", target["rawSql"])
    assert "$" not in statement
    with world.engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


@pytest.mark.parametrize(
    ("title", "column"),
    [
        ("Spend, USD", 0),
        ("Spend by UTC day and company, USD", 2),
        ("Top ten API keys, USD", 2),
        ("Top ten models, USD", 1),
        ("Companies, this month against the same days of last month, USD", 1),
    ],
)
def test_a_panel_sums_to_what_the_companies_spent_in_the_range(world: World, title: str, column: int) -> None:
    companies = "select sum(credits_usd + byok_usd) from marts.company_spend_daily where day >= '2026-11-01'"
    assert sum(row[column] or 0 for row in shown(world, title)) == world.value(companies) == NOVEMBER


def test_charged_and_margin_are_of_the_months_that_begin_in_the_range(world: World) -> None:
    # Without price plans A is charged its credits; October is not in the range.
    ((charged,),) = shown(world, "Charged, USD")
    assert charged == world.value(
        "select sum(credits_usd) from marts.company_spend_daily where company = 'A' and day >= '2026-11-01'"
    )
    assert charged > 0
    assert shown(world, "Margin of companies, USD") == [(0,)]


def test_days_and_companies_are_points_of_utc_midnights(world: World) -> None:
    spent = {(at, company): usd for at, company, usd in shown(world, "Spend by UTC day and company, USD")}
    assert spent[datetime(2026, 11, 21, tzinfo=UTC), "A"] == Decimal("9.85")
    assert spent[datetime(2026, 11, 23, tzinfo=UTC), "Unattributed"] == Decimal("0.75")


def test_companies_are_compared_with_the_same_finished_days_of_last_month(world: World) -> None:
    companies = shown(world, "Companies, this month against the same days of last month, USD")
    # Nobody's: 100 on the 13th, 3.15 on the 21st and 0.75 today, against 2 on 10 October; the 31st is still to come.
    assert companies == [
        ("Unattributed", Decimal("103.9"), 2, Decimal("103.15") / 2 - 1),
        ("A", Decimal("10.85"), None, None),
    ]


def test_the_figures_of_trust_are_those_of_the_warehouse(world: World) -> None:
    assert shown(world, "Unattributed share, %") == [(pytest.approx(Decimal("103.9") / NOVEMBER),)]
    ((complete_to,),) = shown(world, "Complete to, UTC")
    assert datetime.fromtimestamp(float(complete_to) / 1000, UTC) == NOON
    assert shown(world, "Open days, number") == [(0,)]


def test_every_panel_is_placed_apart_says_its_unit_and_asks_the_provisioned_source() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/orcost.yaml").read_text())["datasources"]
    cells: list[tuple[int, int]] = []
    for title, panel in PANELS.items():
        assert any(unit in title for unit in UNITS), title
        for asked in (panel["datasource"], panel["targets"][0]["datasource"]):
            assert asked == {"type": source["type"], "uid": source["uid"]}
        at = panel["gridPos"]
        cells += [(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in PANELS.values()}) == len(DASHBOARD["panels"])
    assert DASHBOARD["timezone"] == "utc"


def test_the_page_names_the_variables_and_the_folders_of_the_provisioning() -> None:
    page = (CHECKOUT / "docs" / "bi.md").read_text(encoding="utf-8")
    source = (GRAFANA / "provisioning/datasources/orcost.yaml").read_text(encoding="utf-8")
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/orcost.yaml").read_text())["providers"]
    assert set(re.findall(r"\bWAREHOUSE_[A-Z]+", page)) == set(re.findall(r"\$\{(\w+)\}", source))
    assert provider["options"]["path"] in page
