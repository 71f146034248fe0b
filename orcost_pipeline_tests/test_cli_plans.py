"""`orcost plans`: what price plans would charge is what they charge; which row holds, and why; a file to begin with."""

import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from orcost_pipeline.billing.explanation import explain
from orcost_pipeline.billing.preview import Effect, plan_effect
from orcost_pipeline.billing.price_plans import PricePlansError, read_price_plans
from orcost_pipeline.billing.prices import CHARGES
from orcost_pipeline.cli import app
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.warehouse.billing_files import load_plans
from orcost_pipeline.warehouse.questions.charges import UsedModel
from orcost_pipeline.warehouse.questions.plans import PlanRow
from orcost_pipeline_tests.billing_world import NOVEMBER, OCTOBER, Billed, billed
from orcost_pipeline_tests.conftest import Filled, fresh_engine
from orcost_pipeline_tests.sampling import examples, sampled

HEADER = "company,charge,value,model,valid_from,valid_to\n"
OF_COMPANY = ("markup_percent", "monthly_fee_usd", "monthly_minimum_usd")
PLANS = HEADER + "A,markup_percent,20\n*,monthly_fee_usd,5\n"


def spent(engine: sa.Engine) -> Billed:
    """A, B and nobody used two models in October and November; C has no key."""
    world = billed(engine)
    for number, day in enumerate(("2026-10-03", "2026-10-17", "2026-10-31", "2026-11-01", "2026-11-02")):
        for key, model in (("app", GPT), ("app", CLAUDE), ("web", CLAUDE), ("free", GPT)):
            world.spend(key, day, f"{number}.1234567", "0.31", model, requests=3, prompt=123_457, completion=1_003)
    world.sync()
    return world


def effect(world: Billed, text: str) -> list[Effect]:
    with world.engine.connect() as connection:
        return plan_effect(connection, read_price_plans(text.encode(), "price_plans.csv").rows)


def charge(world: Billed, text: str) -> None:
    """Brings price plans into force, and charges by them."""
    plans = read_price_plans(text.encode(), "price_plans.csv")
    load_plans(world.engine, plans.rows, source=plans.source, sha256=plans.sha256, now=world.now)
    world.sync()


def published(world: Billed) -> dict[tuple[date, str], Decimal]:
    """What is charged in open months, without adjustments, nor months that are there for these alone."""
    rows = world.rows(
        "select month, company, total_usd - adjustments_usd from marts.company_charge_monthly "
        "join ref.company using (company) join core.charge_month using (month, company_id) where status = 'open'"
    )
    return {(month, company): total for month, company, total in rows}


# What it would change


days = st.sampled_from(("", "2026-09-15", "2026-10-01", "2026-10-17", "2026-11-01", "2026-11-02", "2026-12-01"))
plan_lines = st.tuples(
    st.sampled_from(("A", "B", "C", "*")),
    st.sampled_from(CHARGES),
    st.sampled_from(("none", "0", "7", "12.345678", "250")),
    st.sampled_from(("", "openai/*", CLAUDE, "nothing")),
    days,
    days,
).map(lambda it: (*it[:3], "" if it[1].startswith("monthly") else it[3], *it[4:]))
plan_texts = st.lists(plan_lines, min_size=1, max_size=8).map(
    lambda rows: HEADER + "".join(f"{','.join(row)}\n" for row in rows)
)


def is_valid(text: str) -> bool:
    try:
        return bool(read_price_plans(text.encode(), "price_plans.csv"))
    except PricePlansError:
        return False


@pytest.mark.parametrize("closed", sampled([None, "A", "all"], 1))
def test_what_is_foretold_is_what_is_charged(postgres_url: str, closed: str | None) -> None:
    with fresh_engine(postgres_url) as engine:
        world = spent(engine)
        if closed:
            world.close(OCTOBER, None if closed == "all" else closed)

        @given(plan_texts.filter(is_valid))
        @example(HEADER + "C,monthly_minimum_usd,7,,,2026-10-17\nB,byok_percent,250,nothing,2026-09-15,2026-11-01\n")
        @example(HEADER + "C,monthly_minimum_usd,7\n*,monthly_fee_usd,5\n*,credit_purchase_percent,3\n")
        @settings(
            max_examples=examples(16),
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            phases=(Phase.explicit, Phase.generate),
        )
        def holds(text: str) -> None:
            was, adjusted = published(world), adjustments(world)
            told = effect(world, text)
            foretold = [it for it in told if not it.is_closed]
            assert {(it.month, it.company): it.before_usd for it in foretold if it[:2] in was} == was
            assert published(world) == was, "a preview changes nothing"
            charge(world, text)
            now = published(world)
            assert {(it.month, it.company): it.after_usd for it in foretold if it[:2] in now} == now
            assert not any(it.before_usd for it in foretold if it[:2] not in was)
            assert not any(it.after_usd for it in foretold if it[:2] not in now)
            moved = {it[:2]: it.after_usd - it.before_usd for it in told if it.is_closed}
            later = adjustments(world)
            assert {it: usd for it, usd in moved.items() if usd} == {
                it: usd
                for it in adjusted.keys() | later.keys()
                if (usd := later.get(it, Decimal(0)) - adjusted.get(it, Decimal(0)))
            }

        holds()


def adjustments(world: Billed) -> dict[tuple[date, str], Decimal]:
    """USD by closed month and company."""
    return {(row.month, row.company): row.amount_usd for row in world.rows("select * from ops.adjustment")}


def test_what_is_closed_is_foretold_as_such_even_of_a_company_that_is_not_there_yet(engine: sa.Engine) -> None:
    world = spent(engine)
    text = HEADER + "New one,monthly_fee_usd,5\n"
    assert {it[:2]: it.after_usd for it in effect(world, text)}[OCTOBER, "New one"] == 5
    world.close(OCTOBER)
    closed = {it.month: it.is_closed for it in effect(world, text) if it.company == "New one"}
    assert (closed[OCTOBER], closed[NOVEMBER]) == (True, False)
    world.reopen(OCTOBER)
    assert {it[:2]: it.after_usd for it in effect(world, text)}[OCTOBER, "New one"] == 5


@pytest.fixture
def desk(filled: Filled[Billed], engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Billed:
    """The folder of a project whose warehouse has usage, its mapping and its plans; commands run there."""
    world = filled(spent, engine)
    (tmp_path / "company_mapping.csv").write_text("company,match,pattern\nA,key_name,app\nB,key_name,web\n")
    (tmp_path / "price_plans.csv").write_text(PLANS)
    (tmp_path / "orcost.toml").write_text('[[accounts]]\nname = "acme"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n')
    monkeypatch.setenv("ORCOST_DATABASE_URL", world.engine.url.render_as_string(hide_password=False))
    monkeypatch.chdir(tmp_path)
    return world


@pytest.fixture
def plans(desk: Billed) -> Callable[..., Any]:
    """`orcost plans` with these arguments, in that project, at the world's time."""
    return lambda *arguments: CliRunner().invoke(app, ["plans", *arguments], obj=lambda: desk.now)


def test_check_says_what_would_change_and_loads_nothing(desk: Billed, plans: Callable[..., Any]) -> None:
    answer = plans("check")
    assert answer.exit_code == 0
    told = answer.output.splitlines()
    assert told[0] == "price_plans.csv is valid: 2 rows, 2 companies."
    assert "If they take effect, charges change, in USD:" in told
    rows = [line.split() for line in told if line.startswith("  2026-")]
    assert [row[:2] for row in rows] == [["2026-10", "A"], ["2026-10", "B"], ["2026-11", "A"], ["2026-11", "B"]]
    assert rows[1][2:] == ["3.37", "8.37", "5.00"]
    assert desk.value("select count(*) from ref.price_plan_version") == 0
    assert told[-1] == "They are not in force yet. Next: orcost sync"
    assert plans("explain", "A", "--day", "2026-11-01").stderr == (
        "price_plans.csv was changed since and is not in force yet. Next: orcost sync\n"
    )
    charge(desk, PLANS)
    told = plans("check").output.splitlines()
    assert (told[-2:]) == ["If they take effect, no charge changes.", "They are in force."]
    assert plans("explain", "A", "--day", "2026-11-01").stderr == ""


def test_plans_that_are_loaded_and_charge_nothing_yet_are_not_in_force(desk: Billed, plans: Callable[..., Any]) -> None:
    """As after a sync that failed when it had loaded them."""
    loaded = read_price_plans(PLANS.encode(), "price_plans.csv")
    load_plans(desk.engine, loaded.rows, source=loaded.source, sha256=loaded.sha256, now=desk.now)
    told = plans("check").output.splitlines()
    assert ["2026-10", "B", "3.37", "8.37", "5.00"] in [line.split() for line in told]
    assert told[-1] == 'They are loaded, but usage of "acme" is not charged by them yet. Next: orcost sync'
    assert json.loads(plans("check", "--format", "json").output)["is_in_force"] is False
    assert plans("explain", "A", "--day", "2026-11-01").stderr == (
        'Usage of "acme" is not charged by these rows yet. Next: orcost sync\n'
    )


def test_another_file_has_to_be_put_where_syncs_read_it(plans: Callable[..., Any]) -> None:
    Path("next_year.csv").write_text(PLANS)
    assert plans("check", "next_year.csv").output.splitlines()[-1] == (
        "They are not in force: syncs read price_plans.csv. Next: put them there, then: orcost sync"
    )
    assert plans("check", "./price_plans.csv").output.splitlines()[-1] == "They are not in force yet. Next: orcost sync"


def test_changes_and_sums_are_those_of_the_amounts_as_shown(desk: Billed, plans: Callable[..., Any]) -> None:
    Path("price_plans.csv").write_text(HEADER + "*,markup_percent,12.345678\n")
    rows = [line.split()[2:] for line in plans("check").output.splitlines() if line.startswith("  2026-")]
    amounts = [[Decimal(amount) for amount in row] for row in rows]
    assert len(amounts) == 4
    assert all(after - before == change for before, after, change in amounts)
    before, after, _ = map(sum, zip(*amounts, strict=True))
    assert f"In all: {before} → {after} USD." in plans("check").output


def test_check_tells_programs_exact_amounts(plans: Callable[..., Any]) -> None:
    told = json.loads(plans("check", "--format", "json").output)
    assert {name: told[name] for name in ("source", "is_valid", "rows", "companies", "warnings")} == {
        "source": "price_plans.csv",
        "is_valid": True,
        "rows": 2,
        "companies": 2,
        "warnings": [],
    }
    assert told["preview"][0] == {
        "month": "2026-10-01",
        "company": "A",
        "before_usd": "6.7407402",
        "after_usd": "13.08888824",
        "is_closed": False,
    }
    assert told["preview_left_out"] is None


def test_check_refuses_wrong_plans_with_every_line(plans: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(HEADER + "A,markup_pct,1\nA,request_usd,-1\n")
    answer = plans("check", "new.csv")
    assert answer.exit_code != 0
    assert str(answer.exception).splitlines()[0] == "new.csv was refused."
    told = json.loads(plans("check", "new.csv", "--format", "json").output)
    assert (told["is_valid"], [mistake["line"] for mistake in told["mistakes"]]) == (False, [2, 3])
    assert "no.csv is not there. Give the path of the price plans" in str(plans("check", "no.csv").exception)
    (tmp_path / "price_plans.csv").unlink()
    assert "price_plans.csv is not there. Give the path" in str(plans("check").exception)


def test_check_doubts_what_nobody_uses_or_knows(plans: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "price_plans.csv").write_text(HEADER + "B,monthly_fee_usd,5\nD,byok_percent,1,gtp*\nD,byok_percent,2\n")
    told = plans("check").output.splitlines()
    assert [line for line in told if line.startswith("  warning")] == [
        '  warning, line 3: model "gtp*" matched no model used in the last 30 days.',
        '  warning, line 3: company "D" is in no rule and no list, and has no usage.',
    ]
    (tmp_path / "companies.csv").write_text("company\nD\n")
    warnings = json.loads(plans("check", "--format", "json").output)["warnings"]
    assert [warning["line"] for warning in warnings] == [3]


def test_without_a_warehouse_check_only_validates_and_makes_none(
    plans: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORCOST_DATABASE_URL")
    answer = plans("check")
    assert answer.exit_code == 0
    assert answer.output.startswith("price_plans.csv is valid: 2 rows, 2 companies.\n")
    assert "No preview of what they would change: No account was synced yet." in answer.output
    assert not (tmp_path / ".orcost").exists()


def test_check_reads_a_table(desk: Billed, plans: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "orcost.toml").write_text('price_plans = "table:fees"\n')
    assert "Make it, or change price_plans in orcost.toml." in str(plans("check").exception)
    with desk.engine.begin() as connection:
        connection.exec_driver_sql(
            "create table public.fees as select 1 as line, 'A' as company, 'byok_percent' as charge, 5 as value"
        )
    assert plans("check").output.startswith("table fees is valid: 1 row, 1 company.\n")


# Which row holds


def test_explain_names_the_rows_that_hold_and_why_others_do_not(desk: Billed, plans: Callable[..., Any]) -> None:
    charge(
        desk,
        HEADER + "A,markup_percent,none,anthropic/*\n*,markup_percent,20,,,2026-10-17\nA,markup_percent,15\n"
        "*,markup_percent,10\nB,markup_percent,5\nA,monthly_fee_usd,99,,2026-10-02\n*,monthly_fee_usd,5\n",
    )
    told = plans("explain", "A", "--day", "2026-10-17").stdout.splitlines()
    assert told[0] == "A on 2026-10-17"
    blocks = "\n".join(told[1:]).split("\n\n")
    lines = {
        block.strip().splitlines()[0]: [it.split()[:4] for it in block.strip().splitlines()[1:]] for block in blocks
    }
    assert lines == {
        CLAUDE: [
            ["holds", "back", "line", "2"],
            ["not", "valid", "line", "3"],
            ["beaten", "line", "4", "markup_percent=15"],
            ["beaten", "line", "5", "markup_percent=10"],
        ],
        GPT: [
            ["holds", "line", "4", "markup_percent=15"],
            ["not", "valid", "line", "2"],
            ["not", "valid", "line", "3"],
            ["beaten", "line", "5", "markup_percent=10"],
        ],
        "for the month": [["holds", "line", "8", "monthly_fee_usd=5"], ["not", "valid", "line", "7"]],
    }
    told = json.loads(plans("explain", "A", "--day", "2026-10-17", "--model", "x/y", "--format", "json").output)
    assert (told["company"], told["day"], told["models"]) == ("A", "2026-10-17", ["x/y"])
    markup = told["charges"][0]
    assert (markup["charge"], markup["model"], markup["applies"]) == ("markup_percent", "x/y", True)
    assert markup["row"] == {
        "line": 4,
        "company": "A",
        "value": "15",
        "model": None,
        "valid_from": None,
        "valid_to": None,
        "note": None,
    }
    assert [(it["line"], it["reason"]) for it in markup["considered"]] == [
        (2, "another model"),
        (3, "until 2026-10-17"),
        (5, "later in the file"),
    ]


def test_explain_agrees_with_the_plan_that_each_charge_names(desk: Billed, plans: Callable[..., Any]) -> None:
    charge(
        desk,
        HEADER + f"A,prompt_usd_per_million,3,{GPT}\n*,markup_percent,20,,,2026-11-01\nA,byok_percent,5\n",
    )
    rows = desk.rows("select distinct company, day, model, plan from marts.company_charge_daily where company = 'A'")
    assert len(rows) == 10
    for company, day, model, plan in rows:
        told = json.loads(plans("explain", company, "--day", f"{day}", "--model", model, "--format", "json").output)
        applied = [f"{it['charge']}={it['row']['value']}" for it in told["charges"] if it["applies"] and it["model"]]
        assert "; ".join(applied) == plan, (day, model)


def test_explain_of_usage_that_only_counters_know_names_the_markup() -> None:
    rows = [
        PlanRow(2, "A", "markup_percent", Decimal(50), None, None, None, None),
        PlanRow(3, "A", "request_usd", Decimal(1), None, None, None, None),
    ]
    found = {
        is_counter: {
            it.charge for it in explain(rows, "A", [UsedModel("x", is_counter)], NOVEMBER, has_spend=True) if it.applies
        }
        for is_counter in (True, False)
    }
    assert found == {True: {"markup_percent"}, False: {"request_usd"}}


def test_explain_says_where_nothing_holds(desk: Billed, plans: Callable[..., Any]) -> None:
    told = plans("explain", "B", "--day", "2026-10-17").stdout
    assert told.split("\n\n") == [
        "B on 2026-10-17",
        f"{CLAUDE}\n  no row: charged at cost",
        "for the month\n  no row: no fee and no minimum\n",
    ]
    assert "used no model on that day" in plans("explain", "B", "--day", "2026-10-18").output
    assert "is never charged" in plans("explain", "Unattributed", "--day", "2026-10-17").output


def test_explain_of_an_unknown_company_names_the_nearest(desk: Billed, plans: Callable[..., Any]) -> None:
    charge(desk, HEADER + "Company New,monthly_fee_usd,5\n")
    answer = plans("explain", "Company Nwe", "--day", "2026-10-17")
    assert str(answer.exception) == 'No company is called "Company Nwe". Near: "Company New".'
    assert plans("explain", "Company New", "--day", "2026-10-17").exit_code == 0
    assert plans("explain", "A", "--day", "17.10.2026").exit_code == 2
    assert plans("explain", "A").exit_code == 2


# To begin with


def test_init_writes_a_file_without_effect_and_never_replaces_one(plans: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "price_plans.csv"
    assert "is there already, and was not changed." in str(plans("init").exception)
    assert file.read_text() == PLANS
    file.unlink()
    (tmp_path / "companies.csv").write_text('company\n"D, ""E"""\n')
    answer = plans("init")
    assert answer.exit_code == 0
    assert answer.output.endswith("Next: edit it, then: orcost plans check\n")
    text = file.read_text()
    assert read_price_plans(text.encode(), "it").rows == ()
    assert ",2026-10-01," in text, "the month that can be closed first"
    assert plans("check").output.startswith("price_plans.csv is valid: 0 rows, 0 companies.")
    used = text.replace("\n# ", "\n")
    rows = read_price_plans(used.encode(), "it")
    assert [(it.company, it.charge) for it in rows.rows] == [
        *((name, charge) for name in ("A", "B", 'D, "E"') for charge in OF_COMPANY),
        ("*", "markup_percent"),
        ("*", "credit_purchase_percent"),
    ]
    assert rows.warnings == ()


def test_init_never_replaces_what_is_in_force_or_in_a_table(
    desk: Billed, plans: Callable[..., Any], tmp_path: Path
) -> None:
    charge(desk, PLANS)
    (tmp_path / "price_plans.csv").unlink()
    assert "are in force, which a starter would replace. Put the file back." in str(plans("init").exception)
    assert not (tmp_path / "price_plans.csv").exists()
    (tmp_path / "orcost.toml").write_text('price_plans = "table:fees"\n')
    assert str(plans("init").exception) == "The price plans are in table fees: add rows there."


def test_init_needs_no_warehouse(plans: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCOST_DATABASE_URL")
    (tmp_path / "price_plans.csv").unlink()
    assert plans("init").exit_code == 0
    assert "# A,markup_percent,0,,2026-10-01,,no markup: at cost\n" in (tmp_path / "price_plans.csv").read_text()
    assert not (tmp_path / ".orcost").exists()
