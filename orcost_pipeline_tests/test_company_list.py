"""What finance knows of a company reaches the tables; a name that the list does not know is doubted."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from orcost_pipeline.cli import app
from orcost_pipeline.companies.company_list import ATTRIBUTES, CompanyListError, read_company_list
from orcost_pipeline.simulator import small
from orcost_pipeline.warehouse.company_list import publish_companies
from orcost_pipeline_tests.world import NOON, World

LIST = (
    "company,display_name,external_id,cost_centre,owner_email,currency,monthly_budget_usd\n"
    "Company A,A & Söhne,CRM-7,,ann@example.com,EUR,1500.50\n"
)


def attributes(engine: sa.Engine) -> dict[str, tuple[Any, ...]]:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f"select company, is_listed, {', '.join(ATTRIBUTES)} from ref.company").all()
    return {row[0]: tuple(row[1:]) for row in rows}


@pytest.fixture
def publish(engine: sa.Engine) -> Callable[[str], int]:
    return lambda text: publish_companies(engine, ATTRIBUTES, read_company_list(text.encode(), "companies.csv"))


def test_attributes_follow_the_list_and_a_rerun_writes_nothing(
    engine: sa.Engine, publish: Callable[[str], int]
) -> None:
    assert publish(LIST) == 1
    assert attributes(engine)["Company A"] == (
        True,
        "A & Söhne",
        "CRM-7",
        None,
        "ann@example.com",
        "EUR",
        Decimal("1500.50"),
    )
    assert publish(LIST) == 0
    assert publish("company;cost_centre\r\nCompany B;4711\r\n") == 2
    assert attributes(engine) == {
        "Unattributed": (False, *[None] * 6),
        "Company A": (False, *[None] * 6),
        "Company B": (True, None, None, "4711", None, None, None),
    }


@pytest.mark.parametrize("mart", ["key_spend_rolling", "company_spend_rolling"])
def test_attributes_stand_beside_the_money(engine: sa.Engine, publish: Callable[[str], int], mart: str) -> None:
    world = World(engine, small(NOON))
    world.map("Company A,key_name,Company A", "Company B,key_name,Company B")
    world.sync()
    publish(LIST)
    with engine.connect() as connection:
        told = connection.exec_driver_sql(f"select distinct company, display_name, owner_email from marts.{mart}").all()
    assert {("Company A", "A & Söhne", "ann@example.com"), ("Company B", None, None)} <= set(told)


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("", ["the file is empty; its header is company."]),
        ("name\nA\n", ['line 1: column "name" is not one of company', "line 1: the header lacks company."]),
        ("company,cost_center\nA,1\n", ['line 1: column "cost_center" is not one of']),
        ("company\nA\n,\nA\nunattributed\n", ['line 4: company "A" is on line 2 already.', "line 5: company"]),
        ("company,owner_email\n,x@example.com\n", ["line 2: company is blank."]),
        (
            "company,currency,monthly_budget_usd\nA,eur,0\nB,,\nC,EURO,1e3\n,USD,-5\nD,USD,1.\n",
            [
                'line 2: currency "eur" is not three capital letters, such as EUR.',
                'line 2: monthly_budget_usd "0" is not an amount above 0, such as 1500 or 1500.50.',
                'line 4: currency "EURO" is not',
                'line 4: monthly_budget_usd "1e3" is not',
                "line 5: company is blank.",
                'line 5: monthly_budget_usd "-5" is not',
                'line 6: monthly_budget_usd "1." is not',
            ],
        ),
    ],
)
def test_a_wrong_list_is_refused_with_all_its_mistakes(text: str, mistakes: list[str]) -> None:
    with pytest.raises(CompanyListError) as caught:
        read_company_list(text.encode(), "companies.csv")
    said = [str(mistake) for mistake in caught.value.mistakes]
    assert len(said) == len(mistakes)
    assert all(told.startswith(expected) for told, expected in zip(said, mistakes, strict=True)), said


def test_check_doubts_a_company_that_the_list_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCOST_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "company_mapping.csv").write_text("company,match,pattern\nCompnay A,key_name,a\nCompany A,label,b\n")
    (tmp_path / "companies.csv").write_text(LIST, encoding="utf-8")
    answer = CliRunner().invoke(app, ["map", "check"])
    assert answer.exit_code == 0
    said = 'warning, line 2: company "Compnay A" is not in the list of companies. Did you mean Company A?'
    assert said in answer.output
    assert answer.output.count("warning") == 1
    (tmp_path / "companies.csv").write_text("nothing\n", encoding="utf-8")
    assert (
        "companies.csv was refused; the companies stay as last read."
        in CliRunner().invoke(app, ["map", "check"]).output
    )
