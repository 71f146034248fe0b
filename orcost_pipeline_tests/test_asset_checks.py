"""Contract checks block a publication; business checks warn, each for its account."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from orcost_pipeline.definitions import build_defs
from orcost_pipeline.project_file import AlertsConfig
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline_tests.dagster_deployment import (
    A_AND_B,
    HEADER,
    Deploy,
    Deployment,
    checks,
    events,
    materialized,
    sentence,
    two_accounts,
)
from orcost_pipeline_tests.world import HOUR, NOON, after_step, usage

pytest_plugins = ["orcost_pipeline_tests.dagster_deployment"]


# ── business checks ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_business_check_warns_and_the_run_goes_well(acme: Deployment) -> None:
    result = acme.run()
    assert result.success
    assert checks(result)["unattributed_share_is_small"] is False
    evaluations = {
        event.event_specific_data.check_name: event.event_specific_data
        for event in events(result, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    }
    warning = evaluations["unattributed_share_is_small"]
    assert warning.severity == dg.AssetCheckSeverity.WARN
    assert warning.metadata["rows"].value


def evaluation(result: Any, check: str) -> Any:
    evaluated = events(result, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    (told,) = [event.event_specific_data for event in evaluated if event.event_specific_data.check_name == check]
    return told


@pytest.mark.slow
def test_a_verdict_is_that_of_its_account_and_says_whose_how_much_and_which_share(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    both.settings.mapping.path.write_text("company,match,pattern,account\nGlobex,key_name,*,globex\n", encoding="utf-8")
    check = "unattributed_share_is_small"
    red, green = evaluation(both.run("acme"), check), evaluation(both.run("globex"), check)
    assert (red.partition, red.passed, green.partition, green.passed) == ("acme", False, "globex", True)
    spent = both.rows(
        "select sum(credits_usd) from marts.company_spend_rolling where account = 'acme' and period = '30d'"
    )
    assert red.description.startswith(f'Account "acme": {spent[0][0]:,.2f} USD (100.00 % of the credits)')
    key = dg.AssetCheckKey(dg.AssetKey(["marts", "company_spend_rolling"]), check)
    failed = both.instance.event_log_storage.get_asset_check_partition_info([key])
    assert {info.partition_key: info.latest_execution_status.value for info in failed} == {
        "acme": "FAILED",
        "globex": "SUCCEEDED",
    }


@pytest.mark.slow
def test_one_accounts_freshness_does_not_hide_that_anothers_is_late(deploy: Deploy) -> None:
    both = deploy(two_accounts())
    check = "every_account_is_fresh"
    assert evaluation(both.run("acme"), check).description == "Not synced for more than two hours: globex."
    told = evaluation(both.run("globex"), check)
    assert (told.passed, told.description) == (True, "Every account was synced within two hours.")
    both.clock.now += 3 * HOUR
    late = evaluation(both.run("globex"), check)
    assert (late.passed, late.description) == (False, "Not synced for more than two hours: acme.")


@pytest.mark.slow
def test_how_much_unattributed_is_too_much_is_a_setting(acme: Deployment) -> None:
    acme.settings = acme.settings.model_copy(update={"alerts": AlertsConfig(unattributed_percent=Decimal(100))})
    assert checks(acme.run())["unattributed_share_is_small"] is True


@pytest.mark.slow
def test_unattributed_byok_is_looked_at_by_itself(acme: Deployment) -> None:
    acme.settings.mapping.path.write_text(HEADER + "A,key_name,app\n", encoding="utf-8")
    other = list(acme.ledger.accounts["acme"].keys)[1]
    acme.ledger.spend("acme", NOON - timedelta(minutes=5), other, GPT, usage("0", "0.01"))
    acme.settings = acme.settings.model_copy(update={"alerts": AlertsConfig(unattributed_percent=Decimal(99))})
    result = acme.run()
    assert checks(result)["unattributed_share_is_small"] is False


@pytest.mark.slow
def test_a_check_of_answers_is_not_said_to_have_passed_where_there_are_none(synced: Deployment) -> None:
    synced.settings.mapping.path.write_text(A_AND_B, encoding="utf-8")
    result = synced.run(job="reattribute")
    assert result.success
    asked = checks(result)
    assert {"every_usage_has_one_owner", "companies_sum_to_usage"} <= set(asked)
    assert not {"account_sums_to_its_answer", "settled_days_sum_to_activity"} & set(asked)


# ── contract checks ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_every_contract_check_is_reported_as_passed(acme: Deployment) -> None:
    acme.settings.mapping.path.write_text(HEADER + "A,key_name,*\n", encoding="utf-8")
    asked = checks(acme.run())
    keys = build_defs(acme.settings).get_repository_def().asset_graph.asset_check_keys
    assert set(asked) == {key.name for key in keys}
    assert all(asked.values()), asked


@pytest.mark.slow
def test_a_contract_check_that_fails_publishes_nothing(synced: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    before = synced.figures()
    synced.clock.later(hours=1)
    synced.spend("5")
    with monkeypatch.context() as patch:
        one_more = sa.text("update core.company_day set credits_usd = credits_usd + 0.0000000001")
        after_step("company_rolling", patch, lambda publishing: publishing.connection.execute(one_more) and None)
        result = synced.run()
    assert not result.success
    assert "Contract check companies_sum_to_usage failed" in sentence(result)
    assert "nothing was published" in sentence(result)
    assert not {key for key in materialized(result) if key.startswith(("core/", "marts/"))}
    assert synced.figures() == before
    assert synced.rows("select status, as_of from ref.account") == [("failed", NOON)]
    assert synced.run().success
    assert sum(synced.companies().values()) == Decimal("116.75")
