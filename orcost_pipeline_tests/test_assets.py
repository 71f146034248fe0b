"""What a run materializes: every asset with its columns, counts and as-of instant; and each asset alone."""

from decimal import Decimal

import dagster as dg
import pytest

from orcost_pipeline.definitions import build_defs
from orcost_pipeline.simulator import Fault
from orcost_pipeline_tests.dagster_deployment import A_AND_B, Deployment, materialized, sentence
from orcost_pipeline_tests.world import NOON

pytest_plugins = ["orcost_pipeline_tests.dagster_deployment"]


PUBLISHED_MARTS = [
    dg.AssetKey(["marts", mart])
    for mart in (
        *("company_spend_daily", "company_spend_monthly", "company_spend_rolling", "key_spend_rolling"),
        *("unattributed_spend", "reconciliation_daily"),
    )
]


# ── a run that goes well ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_materializes_every_asset_and_says_as_of_when_and_how_much(acme: Deployment) -> None:
    acme.settings.mapping.path.write_text(A_AND_B, encoding="utf-8")
    result = acme.run()
    assert result.success
    told = materialized(result)
    # Dashboards are outside: nothing here materializes them.
    specs = build_defs(acme.settings).resolve_all_asset_specs()
    expected = {spec.key.to_user_string() for spec in specs if spec.key.path[0] != "dashboards"}
    assert set(told) == expected
    for key, metadata in told.items():
        if key == "ref/company_mapping":
            assert (metadata["version"], metadata["rules"], metadata["companies"]) == (1, 2, 2)
            continue
        assert metadata["as_of"] == NOON.timestamp(), key
        assert metadata["dagster/row_count"] >= 0, key
    assert told["raw/api_key"]["dagster/row_count"] == 3
    assert told["marts/company_spend_daily"]["spend_of_30_days"] == "111.75 USD"
    assert told["ops/restatement"]["rows_written"] == 0


@pytest.mark.slow
def test_published_assets_carry_the_columns_of_the_catalogue(acme: Deployment) -> None:
    for key, metadata in materialized(acme.run()).items():
        if not key.startswith("raw/") and key != "ref/company_mapping":
            columns = metadata["dagster/column_schema"].columns
            relation = key.replace("/", ".")
            catalogue = acme.rows(
                "select attname, format_type(atttypid, atttypmod) from pg_attribute "
                "where attrelid = to_regclass(:relation) and attnum > 0 order by attnum",
                relation=relation,
            )
            assert [(column.name, column.type) for column in columns] == catalogue, key
            assert all(column.description for column in columns), key


@pytest.mark.slow
def test_raw_assets_carry_the_columns_of_the_catalogue(acme: Deployment) -> None:
    told = materialized(acme.run())
    assert not [key for key, metadata in told.items() if "dagster/column_schema" not in metadata]


@pytest.mark.slow
def test_the_run_is_recorded_with_its_instant_requests_and_rows(acme: Deployment) -> None:
    result = acme.run()
    run = acme.last_run()
    assert (run.run_id, run.account, run.status, run.error) == (result.run_id, "acme", "succeeded", None)
    assert (run.as_of, run.started_at, run.finished_at) == (NOON, NOON, NOON)
    assert run.requests_made == acme.simulator.count
    assert run.rows_written == acme.value(
        "select (select count(*) from core.api_key) + (select count(*) from core.api_key_version) "
        "+ (select count(*) from core.usage_hourly) + (select count(*) from core.usage_daily) "
        "+ (select count(*) from core.account_day) + (select count(*) from core.unkeyed_hour) "
        "+ (select count(*) from core.assignment) "
        "+ (select count(*) from core.company_day) + (select count(*) from core.key_rolling) "
        "+ (select count(*) from core.key_previous) + (select count(*) from core.company_rolling) "
        "+ (select count(*) from core.company_hour) + (select count(*) from core.model_month) "
        "+ (select count(*) from core.holder_day) + (select count(*) from core.rolling_total)"
    )
    account = acme.rows("select kind, status, as_of, checked_at, error, credits_total_usd from ref.account")
    assert account == [("management", "ok", NOON, NOON, None, 500)]


@pytest.mark.slow
def test_the_figures_are_those_of_the_account(acme: Deployment) -> None:
    acme.settings.mapping.path.write_text(A_AND_B, encoding="utf-8")
    assert acme.run().success
    assert acme.companies() == {"A": Decimal("10.85"), "B": Decimal("100.65"), "Unattributed": Decimal("0.25")}
    assert acme.companies("24h") == {"A": 1, "B": Decimal("0.5"), "Unattributed": Decimal("0.25")}
    told = acme.rows("select company, byok_usd from marts.company_spend_rolling where period = '7d' and byok_usd > 0")
    assert told == [("B", 3)]


@pytest.mark.slow
def test_a_second_run_writes_no_row_of_usage_and_asks_little(synced: Deployment) -> None:
    asked = synced.simulator.count
    before, age = synced.figures_without_age(), synced.figures()["as_of"]
    synced.clock.later(minutes=1)
    result = synced.run()
    assert result.success
    written = {key: metadata.get("rows_written") for key, metadata in materialized(result).items()}
    assert {key for key, rows in written.items() if rows} == set()
    assert synced.last_run().rows_written == 0
    assert synced.simulator.count - asked <= 9
    assert synced.figures_without_age() == before
    assert synced.figures()["as_of"] != age


@pytest.mark.slow
def test_since_reaches_the_sync(synced: Deployment) -> None:
    synced.clock.later(minutes=10)
    assert materialized(synced.run())["raw/usage_hourly"]["hours_asked"] == 0
    since = {"resources": {"orcost_window": {"config": {"since": "2026-11-22"}}}}
    result = synced.run(run_config=since)
    assert result.success
    hours = 24 + 13
    assert materialized(result)["raw/usage_hourly"]["hours_asked"] == hours
    assert synced.last_run().rows_written == 0


def test_a_since_that_is_no_date_fails_before_anything_is_asked(acme: Deployment) -> None:
    result = acme.run(run_config={"resources": {"orcost_window": {"config": {"since": "yesterday"}}}})
    assert not result.success
    assert acme.value("select count(*) from marts.company_spend_daily") == 0


# ── an asset by hand ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_materializing_marts_alone_attributes_anew_without_a_question(synced: Deployment) -> None:
    asked = synced.simulator.count
    synced.clock.later(minutes=10)
    assert synced.load_mapping(A_AND_B).success
    result = synced.run(asset_selection=PUBLISHED_MARTS)
    assert result.success
    assert set(materialized(result)) == {key.to_user_string() for key in PUBLISHED_MARTS}
    assert synced.simulator.count == asked
    assert synced.companies() == {"A": Decimal("10.85"), "B": Decimal("100.65"), "Unattributed": Decimal("0.25")}
    days = synced.rows("select company, sum(credits_usd) from marts.company_spend_daily group by 1 order by 1")
    assert dict(days) == synced.companies()
    assert synced.value("select as_of from ref.account") == NOON


def test_materializing_marts_of_an_account_never_synced_says_so(acme: Deployment) -> None:
    result = acme.run(asset_selection=PUBLISHED_MARTS)
    assert not result.success
    assert sentence(result) == (
        'Nothing to publish for account "acme": it was never synced. Launch hourly_sync for it.'
    )


@pytest.mark.slow
def test_materializing_a_raw_asset_by_hand_is_no_sync_and_changes_no_figure(synced: Deployment) -> None:
    before, syncs = synced.figures(), synced.value("select count(*) from ops.sync_run")
    synced.clock.later(hours=1)
    synced.spend("5")
    result = synced.run(asset_selection=[dg.AssetKey(["raw", "api_key"])])
    assert result.success
    assert synced.value("select count(*) from raw.api_key where run_id = :id", id=result.run_id) == 3
    assert synced.value("select count(*) from ops.sync_run") == syncs
    assert synced.figures() == before
    assert synced.run().success
    assert sum(synced.companies().values()) == Decimal("116.75")


def test_a_raw_asset_that_fails_by_hand_leaves_no_sync_but_says_what_is_wrong(synced: Deployment) -> None:
    synced.simulator.inject(Fault("401", times=None))
    assert not synced.run(asset_selection=[dg.AssetKey(["raw", "account"])]).success
    assert synced.value("select count(*) from ops.sync_run") == 1
    assert synced.value("select status from ref.account") == "invalid_key"
