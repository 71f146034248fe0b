"""The sensor that follows a changed mapping without asking OpenRouter."""

import json
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from orcost_pipeline.defs.automation import mapping_change_sensor
from orcost_pipeline_tests.dagster_deployment import Deployment, dagster_run

pytest_plugins = ["orcost_pipeline_tests.dagster_deployment"]


def look(deployment: Deployment, cursor: str | None) -> tuple[list[dg.RunRequest], str | None]:
    """One tick of the mapping's sensor: the runs it asks for, and what it remembers."""
    repository = deployment.definitions().get_repository_def()
    with dg.build_sensor_context(
        instance=deployment.instance,
        repository_def=repository,
        resources=deployment.resources,
        cursor=cursor,
    ) as context:
        told = mapping_change_sensor.evaluate_tick(context)
        return list(told.run_requests or ()), told.cursor


def test_a_changed_mapping_is_followed_at_once_and_openrouter_is_asked_nothing(acme: Deployment) -> None:
    acme.load_mapping("company,match,pattern\nA,key_name,*\n")
    assert acme.run().success
    requests, seen = look(acme, None)
    assert requests == [], "it is in force"
    acme.settings.mapping.path.write_text("company,match,pattern\nB,key_name,*\n", encoding="utf-8")
    (request,), seen = look(acme, seen)
    assert request.partition_key == "acme"
    assert look(acme, seen)[0] == [], "once"
    asked, runs_before = acme.simulator.count, acme.value("select count(*) from ops.sync_run")
    checked_at = acme.value("select checked_at from ref.account")
    acme.clock.later(minutes=1)
    assert acme.run(job="reattribute").success
    assert set(acme.companies()) - {"Unattributed"} == {"B"}
    assert acme.simulator.count == asked
    assert acme.value("select count(*) from ops.sync_run") == runs_before, "it is no sync"
    assert acme.value("select checked_at from ref.account") == checked_at
    assert look(acme, None)[0] == []


@pytest.mark.slow
def test_a_changed_table_is_followed_too(acme: Deployment) -> None:
    with acme.engine.begin() as connection:
        connection.exec_driver_sql(
            "create table public.owners as select 1 as line, 'A' company, 'key_name' match, '*' pattern"
        )
    acme.settings = acme.settings.model_copy(update={"mapping": replace(acme.settings.mapping, table="owners")})
    assert acme.run().success
    assert set(acme.companies()) - {"Unattributed"} == {"A"}
    requests, seen = look(acme, None)
    assert requests == [], "it is in force"
    with acme.engine.begin() as connection:
        connection.exec_driver_sql("update public.owners set company = 'B'")
    (request,), seen = look(acme, seen)
    assert request.partition_key == "acme"
    assert acme.run(job="reattribute").success
    assert set(acme.companies()) - {"Unattributed"} == {"B"}
    assert look(acme, seen)[0] == []


@pytest.mark.slow
def test_a_list_of_companies_is_followed_and_a_wrong_one_is_told(acme: Deployment) -> None:
    acme.settings = acme.settings.model_copy(update={"companies": acme.settings.folder / "companies.csv"})
    acme.load_mapping("company,match,pattern\nA,key_name,*\n")
    assert acme.run().success
    _, seen = look(acme, None)
    acme.settings.companies.write_text("company,display_name\nA,Aurora\nZ,Zenith\n", encoding="utf-8")
    requests, seen = look(acme, seen)
    assert len(requests) == 1
    assert acme.run(job="reattribute").success
    for mart in ("company_spend_daily", "company_spend_monthly"):
        told = acme.rows(f"select distinct company, display_name from marts.{mart}")
        assert {("A", "Aurora"), ("Unattributed", None)} == set(told)
    assert look(acme, seen)[0] == []
    acme.settings.companies.write_text("company,display_nam\nA,Aurora\n", encoding="utf-8")
    acme.clock.later(minutes=5)
    result = acme.run()
    assert result.success
    passed = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert (passed["mapping_is_valid"], passed["company_list_is_valid"]) == (True, False)
    assert acme.last_run().error.startswith("companies.csv was refused; the companies stay as last read.")
    assert acme.value("select display_name from ref.company where company = 'A'") == "Aurora"


def rows_of_core(deployment: Deployment) -> dict[str, set[tuple[Any, ...]]]:
    """Every row of `core`, and which transaction wrote it: a row that is written anew, even as it was, is another."""
    tables = (
        "assignment",
        "usage_hourly",
        "usage_daily",
        "account_day",
        "company_day",
        "key_rolling",
        "company_rolling",
    )
    return {name: set(deployment.rows(f"select t.xmin::text, to_jsonb(t)::text from core.{name} t")) for name in tables}


@pytest.mark.slow
def test_only_what_moved_is_written_when_a_key_moves(acme: Deployment) -> None:
    """One key of several: its assignment, the days it was used on, its rolling windows and its companies'."""
    acme.load_mapping("company,match,pattern\nA,key_name,*\n")
    assert acme.run().success
    ((name, key_id),) = acme.rows(
        "select key_name, k.key_id from marts.key_spend_rolling r join core.api_key k using (key_hash) "
        "where period = '30d' order by r.credits_usd desc limit 1"
    )
    days = {str(day) for (day,) in acme.rows("select day from core.spend_daily where key_name = :name", name=name)}
    before = rows_of_core(acme)
    acme.settings.mapping.path.write_text(f"company,match,pattern\nB,key_name,{name}\nA,key_name,*\n", encoding="utf-8")
    assert acme.run(job="reattribute").success
    after = rows_of_core(acme)
    written = {table: [json.loads(row) for _, row in before[table] ^ after[table]] for table in before}
    assert {table for table, rows in written.items() if not rows} == {"usage_hourly", "usage_daily", "account_day"}
    assert {row["key_id"] for table in ("assignment", "key_rolling") for row in written[table]} == {key_id}
    assert {row["day"] for row in written["company_day"]} == days
    assert len(written["assignment"]) == 2


@pytest.mark.slow
def test_a_wrong_mapping_is_told_once_and_changes_nothing(acme: Deployment) -> None:
    acme.load_mapping("company,match,pattern\nA,key_name,*\n")
    assert acme.run().success
    _, seen = look(acme, None)
    before = acme.figures()
    acme.settings.mapping.path.write_text("company,match\nA,key_name\n", encoding="utf-8")
    requests, seen = look(acme, seen)
    assert len(requests) == 1
    result = acme.run(job="reattribute")
    assert result.success
    (check,) = [it for it in result.get_asset_check_evaluations() if it.check_name == "mapping_is_valid"]
    assert not check.passed
    assert acme.figures() == before
    assert look(acme, seen)[0] == [], "told once"


def test_no_account_that_was_never_synced_is_attributed(acme: Deployment) -> None:
    acme.settings.mapping.path.write_text("company,match,pattern\nA,key_name,*\n", encoding="utf-8")
    assert look(acme, None)[0] == []


@pytest.mark.slow
def test_a_mapping_that_changes_while_a_run_hangs_leaves_one_run_waiting(acme: Deployment) -> None:
    acme.load_mapping("company,match,pattern\nA,key_name,*\n")
    assert acme.run().success
    _, seen = look(acme, None)
    for number in range(3):
        acme.settings.mapping.path.write_text(f"company,match,pattern\nB{number},key_name,*\n", encoding="utf-8")
        requests, seen = look(acme, seen)
        assert len(requests) == (1 if number == 0 else 0)
        if requests:
            run = dagster_run(status=dg.DagsterRunStatus.QUEUED, tags={"dagster/partition": "acme"})
            acme.instance.add_run(run._replace(job_name="reattribute"))
