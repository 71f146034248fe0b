"""Price plans and exchange rates in runs, a sensor's look and findings: good ones take effect, wrong ones are told."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from decimal import Decimal
from threading import Barrier

import dagster as dg
import pytest
import sqlalchemy as sa

from orcost_pipeline.billing.exchange_rates import read_exchange_rates
from orcost_pipeline.billing.price_plans import read_price_plans
from orcost_pipeline.health.finding import Code
from orcost_pipeline.simulator import Fault
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.warehouse.billing_files import load_plans, load_rates
from orcost_pipeline.warehouse.questions.plans import PlanVersion, has_rates, plan_rows, plan_version_in_force
from orcost_pipeline_tests.dagster_deployment import A_AND_B, Deployment, checks, events
from orcost_pipeline_tests.healthy_deployment import Deployment as Healthy
from orcost_pipeline_tests.test_mapping_sensor import look
from orcost_pipeline_tests.watched import Watched
from orcost_pipeline_tests.world import NOON, query

pytest_plugins = [
    "orcost_pipeline_tests.dagster_deployment",
    "orcost_pipeline_tests.healthy_deployment",
    "orcost_pipeline_tests.watched",
]

PLANS = "company,charge,value\nA,markup_percent,20\n*,monthly_fee_usd,5\n"
RATES = "date,currency,per_usd\n2026-10-31,EUR,0.92\n2026-10-31,PLN,3.90\n"
OF_BILLING = ("price_plans_are_valid", "every_plan_row_can_hold", "exchange_rates_are_valid")


def write(deployment: Deployment, plans: str | None = None, rates: str | None = None) -> None:
    """Writes the files that are given."""
    for source, text in ((deployment.settings.price_plans, plans), (deployment.settings.exchange_rates, rates)):
        if text is not None:
            source.path.write_text(text, encoding="utf-8")


def load(deployment: Deployment) -> dict[str, bool]:
    """Loads the files of companies, as a run does first; the checks of billing."""
    found = checks(deployment.run(None, job="load_company_mapping"))
    return {name: found[name] for name in OF_BILLING}


def charged(deployment: Deployment, company: str = "A") -> Decimal:
    return deployment.value(
        "select sum(usage_usd) from marts.company_charge_monthly where company = :company", company=company
    )


# Loading


def bring(engine: sa.Engine, text: str) -> PlanVersion:
    plans = read_price_plans(text.encode(), "price_plans.csv")
    return load_plans(engine, plans.rows, source=plans.source, sha256=plans.sha256, now=NOON)


def test_plans_are_a_version_with_their_lines_and_the_same_again_is_none(engine: sa.Engine) -> None:
    assert bring(engine, "# ours\n" + PLANS).version == 1
    with engine.connect() as connection:
        assert [it[:4] for it in plan_rows(connection)] == [
            (3, "A", "markup_percent", Decimal(20)),
            (4, "*", "monthly_fee_usd", Decimal(5)),
        ]
    assert bring(engine, PLANS).version == 2
    assert bring(engine, PLANS).version == 2
    rows = "select version, content_sha256 <> '', source, row_count from ref.price_plan_version order by 1"
    assert query(engine, rows) == [(1, True, "price_plans.csv", 2), (2, True, "price_plans.csv", 2)]
    assert query(engine, "select version, count(*) from ref.price_plan group by 1 order by 1") == [(1, 2), (2, 2)]
    assert bring(engine, "company,charge,value\n").row_count == 0
    with engine.connect() as connection:
        assert plan_rows(connection) == []


def test_a_company_that_plans_name_is_one(engine: sa.Engine) -> None:
    bring(engine, PLANS + "New one,monthly_fee_usd,5\nNew one,markup_percent,none\n")
    companies = "select company, is_listed from ref.company order by company_id"
    assert query(engine, companies) == [("Unattributed", False), ("A", False), ("New one", False)]


def test_loads_at_the_same_time_make_one_version(engine: sa.Engine) -> None:
    at_once = Barrier(4)

    def load(_: int) -> tuple[int, int]:
        at_once.wait()
        rates = read_exchange_rates(RATES.encode(), "rates").rows
        return bring(engine, PLANS).version, load_rates(engine, rates)

    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(load, range(4)))
    assert [version for version, _ in loaded] == [1, 1, 1, 1]
    assert sorted(written for _, written in loaded) == [0, 0, 0, 2]


def test_rates_are_those_of_the_file_and_only_what_differs_is_written(engine: sa.Engine) -> None:
    def load(text: str) -> int:
        return load_rates(engine, read_exchange_rates(text.encode(), "rates").rows)

    stored = "select date, currency, per_usd from ref.exchange_rate order by 1, 2"
    assert load(RATES) == 2
    assert load(RATES.replace("0.92", "0.920")) == 0
    assert load(RATES.replace("0.92", "0.93")) == 1
    assert query(engine, stored)[0] == (date(2026, 10, 31), "EUR", Decimal("0.93"))
    assert load("date,currency,per_usd\n2026-10-31,PLN,3.9\n2026-11-30,PLN,4\n") == 2
    assert [row[:2] for row in query(engine, stored)] == [(date(2026, 10, 31), "PLN"), (date(2026, 11, 30), "PLN")]
    assert load("date,currency,per_usd\n") == 2
    with engine.connect() as connection:
        assert not has_rates(connection)


# Runs


@pytest.mark.slow
def test_without_files_nothing_is_wrong_and_usage_is_charged_at_cost(acme: Deployment) -> None:
    acme.settings.mapping.path.write_text(A_AND_B, encoding="utf-8")
    assert acme.run().success
    assert acme.last_run().error is None
    assert charged(acme) == Decimal("10.85")
    assert acme.value("select count(*) from ref.price_plan_version") == 0


def test_wrong_plans_are_refused_whole_and_the_last_good_ones_charge(acme: Deployment) -> None:
    acme.settings.mapping.path.write_text(A_AND_B, encoding="utf-8")
    write(acme, PLANS, RATES)
    assert acme.run().success
    assert charged(acme) == Decimal("13.02")
    acme.clock.later(hours=1)
    acme.spend("5")
    write(acme, PLANS + "B,markup_pct,1\nA,byok_percent,x\n", RATES + "2026-10-31,EUR,1\n")
    result = acme.run()
    assert result.success
    found = checks(result)
    assert [found[name] for name in OF_BILLING] == [False, True, False]
    run = acme.last_run()
    assert run.status == "succeeded"
    first, *others = run.error.splitlines()
    assert first == "price_plans.csv was refused; the price plans of 2026-11-23 stay active."
    assert [line[:9] for line in others if line.startswith("  ")] == [
        "  line 4:",
        "  line 5:",
        "  line 2:",
        "  line 4:",
    ]
    assert "exchange_rates.csv was refused; the exchange rates stay as last read." in others
    assert charged(acme) == Decimal("19.02"), "the new usage costs by the plans that stay"
    assert acme.value("select max(version) from ref.price_plan_version") == 1
    assert acme.value("select per_usd from ref.exchange_rate where currency = 'EUR'") == Decimal("0.92")


def test_one_wrong_file_keeps_no_other_out(acme: Deployment) -> None:
    write(acme, "company,charge\n", RATES)
    assert load(acme) == dict(zip(OF_BILLING, (False, True, True), strict=True))
    assert acme.value("select count(*) from ref.exchange_rate") == 2
    write(acme, PLANS, "date\n")
    assert load(acme) == dict(zip(OF_BILLING, (True, False, False), strict=True)), "A is not known"
    assert acme.value("select max(version) from ref.price_plan_version") == 1
    acme.settings.mapping.path.write_text("nonsense", encoding="utf-8")
    write(acme, PLANS + "B,markup_percent,1\n")
    assert load(acme)["price_plans_are_valid"]
    assert acme.value("select max(version) from ref.price_plan_version") == 2


@pytest.mark.slow
def test_files_that_are_gone_stay_in_force_and_are_missed(acme: Deployment) -> None:
    write(acme, PLANS, RATES)
    load(acme)
    acme.settings.price_plans.path.unlink()
    acme.settings.exchange_rates.path.unlink()
    acme.clock.later(minutes=5)
    found = checks(acme.run())
    assert [found[name] for name in OF_BILLING] == [False, True, False]
    error = acme.last_run().error
    assert "price_plans.csv is gone; the price plans of 2026-11-23 stay active. Put it back, or name" in error
    assert "exchange_rates.csv is gone; the exchange rates stay as last read. Put it back, or name" in error
    assert acme.value("select count(*) from ref.exchange_rate") == 2
    write(acme, PLANS, RATES)
    acme.clock.later(minutes=5)
    assert acme.run().success
    assert acme.last_run().error is None


def test_plans_that_cannot_be_read_are_told(acme: Deployment) -> None:
    acme.settings.price_plans.path.mkdir()
    assert not load(acme)["price_plans_are_valid"]
    assert acme.value("select count(*) from ref.price_plan_version") == 0


@pytest.mark.slow
def test_plans_and_rates_may_be_tables(acme: Deployment) -> None:
    plans = replace(acme.settings.price_plans, table="fees")
    rates = replace(acme.settings.exchange_rates, table="fx")
    acme.settings = acme.settings.model_copy(update={"price_plans": plans, "exchange_rates": rates})
    acme.run(None, job="load_company_mapping")
    assert not any(load(acme)[name] for name in ("price_plans_are_valid", "exchange_rates_are_valid"))
    with acme.engine.begin() as connection:
        connection.exec_driver_sql(
            "create table public.fees as select 7 as line, 'A' as company, 'markup_percent' as charge, "
            "12.50::numeric as value, date '2026-11-01' as valid_from;"
            "create view public.fx as select 1 as line, date '2026-10-31' as date, 'EUR' as currency, 0.92 as per_usd"
        )
    assert load(acme)["price_plans_are_valid"]
    assert acme.rows("select line, company, value, valid_from::text from ref.price_plan") == [
        (7, "A", Decimal("12.50"), "2026-11-01")
    ]
    assert acme.value("select source from ref.price_plan_version") == "table fees"
    assert acme.rows("select currency, per_usd from ref.exchange_rate") == [("EUR", Decimal("0.92"))]


@pytest.mark.slow
def test_doubts_are_a_warning_with_their_lines(synced: Deployment) -> None:
    synced.settings.mapping.path.write_text(A_AND_B, encoding="utf-8")
    header = "company,charge,value,model,valid_from,valid_to\n"
    write(synced, f"{header}A,markup_percent,5,{GPT.split('/', maxsplit=1)[0]}/*\nB,monthly_fee_usd,5\n")
    assert load(synced)["every_plan_row_can_hold"]
    write(
        synced,
        f"{header}A,markup_percent,5,gtp*\nA,monthly_fee_usd,5,,2026-10-02,2026-11-01\nGhost,byok_percent,5\n"
        "*,byok_percent,5\nB,byok_percent,4\n",
    )
    result = synced.run(None, job="load_company_mapping")
    (lines,) = (
        event.event_specific_data.metadata["lines"].value
        for event in events(result, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        if event.event_specific_data.check_name == "every_plan_row_can_hold"
    )
    assert [line.split(":")[0] for line in lines.splitlines()] == ["- line 2", "- line 3", "- line 4", "- line 6"]
    assert load(synced)["price_plans_are_valid"], "doubts stop nothing"
    synced.settings = synced.settings.model_copy(update={"companies": synced.settings.folder / "companies.csv"})
    synced.settings.companies.write_text("company\nA\nB\nGhost\n", encoding="utf-8")
    write(synced, f"{header}Ghost,byok_percent,5\n")
    assert load(synced)["every_plan_row_can_hold"], "the list knows it"


# The sensor


@pytest.fixture
def billed(acme: Deployment) -> Deployment:
    """A deployment that was synced with a mapping, plans and rates."""
    acme.settings.mapping.path.write_text(A_AND_B, encoding="utf-8")
    write(acme, PLANS, RATES)
    assert acme.run().success
    return acme


@pytest.mark.slow
def test_edited_plans_and_rates_are_followed_at_once_and_openrouter_is_asked_nothing(billed: Deployment) -> None:
    requests, seen = look(billed, None)
    assert requests == [], "they are in force"
    write(billed, PLANS.replace("20", "50"))
    (request,), seen = look(billed, seen)
    assert request.partition_key == "acme"
    asked = billed.simulator.count
    assert billed.run(job="reattribute").success
    assert (charged(billed), billed.simulator.count) == (Decimal("16.275"), asked)
    assert look(billed, seen)[0] == []
    write(billed, rates=RATES.replace("0.92", "0.95"))
    requests, seen = look(billed, seen)
    assert len(requests) == 1
    assert billed.run(job="reattribute").success
    assert billed.value("select per_usd from ref.exchange_rate where currency = 'EUR'") == Decimal("0.95")
    assert look(billed, seen)[0] == []


def test_edited_files_that_a_failed_sync_loaded_are_followed_too(billed: Deployment) -> None:
    """They are in force then, but what is stored is not yet attributed and charged by them."""
    _, seen = look(billed, None)
    write(billed, PLANS.replace("20", "50"))
    billed.simulator.inject(Fault("401", times=None))
    assert not billed.run().success
    assert charged(billed) == Decimal("13.02")
    (request,), seen = look(billed, seen)
    assert request.partition_key == "acme"
    assert look(billed, seen)[0] == [], "once"
    assert billed.run(job="reattribute").success
    assert charged(billed) == Decimal("16.275")
    assert look(billed, None)[0] == []


@pytest.mark.slow
def test_wrong_plans_are_told_once_and_gone_ones_too(billed: Deployment) -> None:
    _, seen = look(billed, None)
    for change in ("company,charge\n", None):
        if change is None:
            billed.settings.price_plans.path.unlink()
        else:
            write(billed, change)
        requests, seen = look(billed, seen)
        assert len(requests) == 1
        assert not checks(billed.run(job="reattribute"))["price_plans_are_valid"]
        assert look(billed, seen)[0] == [], "told once"
    assert charged(billed) == Decimal("13.02")


@pytest.mark.slow
def test_a_sensor_that_remembers_two_files_only_goes_on(billed: Deployment) -> None:
    _, seen = look(billed, None)
    before_plans = " ".join((seen or "").split()[:2])
    assert look(billed, before_plans) == ([], seen)
    write(billed, PLANS.replace("20", "50"))
    assert len(look(billed, before_plans)[0]) == 1


# Findings


@pytest.mark.slow
def test_wrong_plans_and_rates_are_findings_with_what_stays(healthy: Healthy) -> None:
    plans, rates = healthy.folder / "price_plans.csv", healthy.folder / "exchange_rates.csv"
    plans.write_text("company,charge,value\nA,markup_percent,x\nA,nothing,1\n")
    finding = healthy.only("error", Code.PLANS_WRONG, None)
    first, *mistakes = finding.message.splitlines()
    assert first == "price_plans.csv was refused; usage is charged at cost."
    assert [line[:9] for line in mistakes] == ["  line 2:", "  line 3:"]
    assert finding.todo == f"Correct it; to check it: orcost plans check {plans}"
    bring(healthy.engine, PLANS)
    stays = f"the price plans of {NOON:%Y-%m-%d} stay active"
    assert stays in healthy.only("error", Code.PLANS_WRONG, None).message
    plans.unlink()
    gone = healthy.only("error", Code.PLANS_WRONG, None)
    assert gone.message == f"{plans} is gone; {stays}."
    assert gone.todo.startswith("Put it back")
    plans.write_text(PLANS)
    assert healthy.examine() == []
    rates.write_text("date,currency,per_usd\n2026-10-31,EUR,0\n")
    assert healthy.only("error", Code.RATES_WRONG, None).message.startswith("exchange_rates.csv was refused; the exch")
    rates.unlink()
    assert healthy.examine() == [], "there never were any"
    load_rates(healthy.engine, [(date(2026, 10, 31), "EUR", 1)])
    assert "is gone; the exchange rates stay" in healthy.only("error", Code.RATES_WRONG, None).message


def test_a_currency_without_rate_is_a_finding_before_a_statement_is_wanted(healthy: Healthy) -> None:
    healthy.do("insert into ref.company (company, currency) values ('A', 'EUR'), ('B', 'EUR'), ('C', 'USD')")
    (finding,) = healthy.stored_findings()
    assert (finding.code, finding.severity, finding.subject) == (Code.RATE_MISSING, "warning", "EUR")
    assert finding.message == "There is no exchange rate of EUR: no statement can be made for A, B."
    assert finding.todo == ("Add a line with date, EUR and its units per USD to exchange_rates.csv, then: orcost sync")
    load_rates(healthy.engine, [(date(2026, 12, 1), "EUR", 1)])
    assert healthy.stored_findings() == [finding], "it holds from the next month on"
    load_rates(healthy.engine, [(date(2026, 1, 31), "EUR", 1)])
    assert healthy.stored_findings() == []


def test_what_the_last_sync_said_of_each_file_is_a_finding_of_its_own(healthy: Healthy) -> None:
    problems = (
        "company_mapping.csv was refused; the mapping of 2026-11-23 stays active.\n  line 2: match is blank.\n"
        "/x/price_plans.csv is gone; usage is charged at cost. Put it back.\n"
        "exchange_rates.csv was refused; the exchange rates stay as last read.\n  line 2: date is blank.\n… and 1 more"
    )
    healthy.do(
        "insert into ops.sync_run (run_id, account, started_at, finished_at, status, error) "
        "values ('later', 'acme', now(), now(), 'succeeded', :problems)",
        problems=problems,
    )
    found = {it.code: it for it in healthy.stored_findings()}
    assert list(found) == [Code.MAPPING_WRONG, Code.PLANS_WRONG, Code.RATES_WRONG]
    assert "\n".join(it.message for it in found.values()) == problems
    assert found[Code.PLANS_WRONG].todo.startswith("Correct it; to check it: orcost plans check ")
    assert all(it.todo.endswith(", then: orcost sync") for it in found.values())
    (healthy.folder / "price_plans.csv").write_text("nonsense")
    told = [it for it in healthy.examine() if it.code is Code.PLANS_WRONG]
    assert [it.message.splitlines()[0] for it in told] == ["price_plans.csv was refused; usage is charged at cost."]


@pytest.mark.slow
def test_wrong_plans_are_sent_within_a_look_and_the_mended_file_ends_it(watched: Watched) -> None:
    write(watched.acme, "company,charge,value\nA,markup_percent,x\n")
    (wrong,) = watched.look()
    assert wrong.title == "orcost: deployment: price_plans.csv was refused; usage is charged at cost."
    assert watched.sync(minutes=50), "costs keep loading"
    assert watched.looks() == [], "what the sync said of it is no second finding"
    write(watched.acme, "company,charge,value\nA,markup_percent,5\n")
    assert [it.type for it in watched.looks()] == ["success"]
    with watched.acme.engine.connect() as connection:
        assert plan_version_in_force(connection) is None, "the next sync loads them"
