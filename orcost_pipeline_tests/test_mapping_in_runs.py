"""The mapping in a run: a wrong file is rejected and the costs still load."""

from decimal import Decimal

import dagster as dg
import pytest

from orcost_pipeline.defs.pictures import bars, ranking
from orcost_pipeline.project_file import AlertsConfig
from orcost_pipeline_tests.dagster_deployment import A_AND_B, HEADER, Deployment, checks, events, materialized

pytest_plugins = ["orcost_pipeline_tests.dagster_deployment"]


@pytest.mark.slow
def test_a_wrong_mapping_is_refused_whole_and_the_costs_still_load(acme: Deployment) -> None:
    acme.settings.mapping.path.write_text(A_AND_B, encoding="utf-8")
    assert acme.run().success
    acme.clock.later(hours=1)
    acme.spend("5")
    acme.settings.mapping.path.write_text(A_AND_B + "C,key_nmae,Company A\nD,key_hash,zz\n", encoding="utf-8")
    result = acme.run()
    assert result.success
    assert checks(result)["mapping_is_valid"] is False
    run = acme.last_run()
    assert run.status == "succeeded"
    assert "company_mapping.csv was refused; the mapping of 2026-11-23 stays active." in run.error
    assert "4" in run.error
    assert "5" in run.error
    assert "key_nmae" in run.error
    assert acme.companies()["A"] == Decimal("15.85")
    assert acme.value("select max(version) from ref.mapping_version") == 1
    assert set(acme.companies()) == {"A", "B", "Unattributed"}


@pytest.mark.slow
def test_a_mapping_that_is_wrong_from_the_start_leaves_all_unattributed(acme: Deployment) -> None:
    acme.settings.mapping.path.write_text("company;pattern\nA;B\n", encoding="utf-8")
    assert acme.run().success
    assert "all spend is Unattributed" in acme.last_run().error
    assert acme.companies() == {"Unattributed": Decimal("111.75")}


@pytest.mark.slow
def test_a_mapping_that_is_gone_stays_in_force_and_is_missed(acme: Deployment) -> None:
    acme.settings.mapping.path.write_text(A_AND_B, encoding="utf-8")
    assert acme.run().success
    before = acme.companies()
    acme.settings.mapping.path.unlink()
    acme.clock.later(minutes=5)
    result = acme.run()
    assert result.success
    assert checks(result)["mapping_is_valid"] is False
    assert "is gone; the mapping of 2026-11-23 stays active" in acme.last_run().error
    assert acme.companies() == before


@pytest.mark.slow
def test_a_mapping_that_is_right_again_clears_the_error(acme: Deployment) -> None:
    acme.settings.mapping.path.write_text("nonsense", encoding="utf-8")
    assert acme.run().success
    acme.settings.mapping.path.write_text(A_AND_B, encoding="utf-8")
    acme.clock.later(minutes=5)
    result = acme.run()
    assert checks(result)["mapping_is_valid"] is True
    assert acme.last_run().error is None
    assert acme.companies()["A"] == Decimal("10.85")


def test_a_rule_for_an_account_nobody_configured_is_a_warning(acme: Deployment) -> None:
    result = acme.load_mapping("company,match,pattern,account\nA,key_name,*,acne\n")
    assert result.success
    assert checks(result) == {
        "mapping_is_valid": True,
        "every_rule_can_win": False,
        "every_rule_was_used": True,
        "company_list_is_valid": True,
        "every_company_is_listed": True,
        "price_plans_are_valid": True,
        "every_plan_row_can_hold": True,
        "exchange_rates_are_valid": True,
    }


@pytest.mark.slow
def test_a_rule_that_won_no_key_for_thirty_days_is_a_warning(synced: Deployment) -> None:
    mapping = A_AND_B + "C,key_name,nobody\n"
    assert checks(synced.load_mapping(mapping))["every_rule_was_used"] is True, "it is new"
    synced.clock.later(days=30)
    assert synced.run().success
    result = synced.load_mapping(mapping + "D,key_name,new\n")
    assert checks(result)["every_rule_was_used"] is False
    (told,) = (
        event.event_specific_data.metadata["lines"].value
        for event in events(result, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        if event.event_specific_data.check_name == "every_rule_was_used"
    )
    assert told == r"- line 4: key\_name:nobody matched no key in the last 30 days\."


def test_the_mapping_says_which_part_of_keys_and_money_it_covers(synced: Deployment) -> None:
    (metadata,) = materialized(synced.load_mapping(A_AND_B)).values()
    assert metadata["keys_with_a_company"] == "2 of 3"
    assert metadata["spend_with_a_company"] == "99.8 % of 111.75 USD in 30 days"
    assert metadata["byok_with_a_company"] == "100.0 % of 3.00 USD in 30 days"
    assert metadata["picture"].startswith("![](data:image/svg+xml,")
    assert len(metadata["picture"]) < 1000
    (metadata,) = materialized(synced.load_mapping(HEADER)).values()
    assert metadata["spend_with_a_company"] == "0.0 % of 111.75 USD in 30 days"


def test_loading_a_mapping_twice_makes_one_version_and_moves_no_figure(synced: Deployment) -> None:
    before = synced.figures()
    for _ in range(2):
        assert synced.load_mapping(A_AND_B).success
    assert synced.value("select count(*) from ref.mapping_version") == 1
    assert synced.figures() == before


def test_a_picture_of_a_month_is_short_enough_to_be_shown_at_once() -> None:
    """Dagster's UI shows Markdown below 1,000 characters; more than that hides behind a link."""
    days = [(Decimal(100 + day), Decimal(50 + day)) for day in range(31)]
    title = "USD, 2026-10-24 – 2026-11-23; orange: no company"
    assert len(bars(days, title)) < 1000
    assert "NaN" not in bars([(Decimal(0), Decimal(0))], title) + bars([], title)


def test_companies_are_ranked_by_a_bar_each_as_far_as_is_shown_at_once() -> None:
    amounts = [("Company A", Decimal("10.006")), ("Company | B", Decimal(5))]
    assert ranking(amounts, "The last 30 days").splitlines() == [
        "| The last 30 days | USD | |",
        "|---|--:|---|",
        f"| Company A | 10.01 | {20 * '█'} |",
        f"| Company &#124; B | 5.00 | {10 * '█'} |",
    ]
    assert len(ranking([("x" * 100, Decimal(12345))] * 10, "The last 30 days")) < 1000
    assert ranking([("nobody", Decimal(0))], "USD").endswith("| nobody | 0.00 |  |")


def test_a_run_brings_budgets_and_the_percentages_of_alerts_into_the_tables(acme: Deployment) -> None:
    alerts = AlertsConfig(key_limit_percent=Decimal(60), budget_percent=Decimal("75.5"))
    companies = acme.settings.mapping.path.with_name("companies.csv")
    acme.settings = acme.settings.model_copy(update={"alerts": alerts, "companies": companies})
    companies.write_text("company,currency,monthly_budget_usd\nA,EUR,20\n", encoding="utf-8")
    assert checks(acme.load_mapping(A_AND_B))["company_list_is_valid"] is True
    budget = "select monthly_budget_usd, currency from ref.company where company = 'A'"
    assert acme.value(f"select (b.monthly_budget_usd, b.currency)::text from ({budget}) b") == "(20,EUR)"
    assert acme.value("select (key_limit_percent, budget_percent)::text from ref.threshold") == "(60,75.5)"
    companies.write_text("company,monthly_budget_usd\nA,none\n", encoding="utf-8")
    assert checks(acme.load_mapping(A_AND_B))["company_list_is_valid"] is False
    assert acme.value(f"select (b.monthly_budget_usd, b.currency)::text from ({budget}) b") == "(20,EUR)"
