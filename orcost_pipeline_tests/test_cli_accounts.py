"""`orcost accounts` as it is typed, and what a sync without a key, or with another account's, leaves behind."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orcost_pipeline.simulator import Simulator, serve, small
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.warehouse import runs
from orcost_pipeline_tests.processes import ORCOST, Project, away_from_the_hour, clean_environment
from orcost_pipeline_tests.world import DAY, HOUR, World, usage


@pytest.fixture
def project(engine: sa.Engine, database_url: str, tmp_path: Path) -> Iterator[Project]:
    away_from_the_hour()
    now = datetime.now(UTC)
    ledger = small(now)
    ledger.add_account("globex", credits_bought=Decimal(9000))
    ledger.spend("globex", now - 3 * HOUR, ledger.add_key("globex", "web", now - 60 * DAY), GPT, usage("11"))
    with serve(simulator := Simulator(ledger)) as base_url:
        yield Project(
            tmp_path,
            engine,
            ledger,
            {**clean_environment(), "OPENROUTER_BASE_URL": base_url, "ORCOST_DATABASE_URL": database_url},
            simulator,
        )


def spend(project: Project, account: str = "default") -> list[Any]:
    return project.rows(
        "select day, company, key_hash, model, credits_usd from core.spend_daily where account = :a "
        "order by 1, 2, 3, 4",
        a=account,
    )


# Another account's key


@pytest.mark.slow
def test_a_wrong_key_ends_in_a_sentence_and_the_right_one_goes_on(project: Project) -> None:
    acme, globex = project.key_of("acme"), project.key_of("globex")
    assert project.orcost("sync", OPENROUTER_API_KEY=acme).returncode == 0
    before = spend(project)
    refused = project.orcost("sync", OPENROUTER_API_KEY=globex)
    assert refused.returncode == 1
    assert 'The key of account "default" belongs to another OpenRouter account' in refused.stderr
    assert "Traceback" not in refused.stderr
    assert spend(project) == before
    assert project.rows("select status from ops.sync_run order by started_at") == [("succeeded",), ("failed",)]
    status = project.orcost("status", "--format", "json", OPENROUTER_API_KEY=globex)
    assert [it["code"] for it in json.loads(status.stdout)["findings"]] == ["other_account", "no_mapping"]
    assert status.returncode == 1
    assert project.orcost("sync", OPENROUTER_API_KEY=acme).returncode == 0
    assert project.orcost("status", OPENROUTER_API_KEY=acme).returncode == 0


@pytest.mark.slow
def test_a_ledger_that_went_wrong_is_rebuilt(project: Project) -> None:
    acme, globex = project.key_of("acme"), project.key_of("globex")
    project.orcost("sync", OPENROUTER_API_KEY=acme)
    before = spend(project)
    project.orcost("accounts", "confirm", "default")
    assert project.orcost("sync", OPENROUTER_API_KEY=globex).returncode == 0
    assert spend(project) != before
    sync = project.orcost("sync", OPENROUTER_API_KEY=acme)
    assert 'orcost accounts rebuild "default"' in sync.stderr
    unasked = project.orcost("accounts", "rebuild", "default", OPENROUTER_API_KEY=acme)
    assert (unasked.returncode, "--yes" in unasked.stderr) == (1, True)
    rebuilt = project.orcost("accounts", "rebuild", "default", "--yes", OPENROUTER_API_KEY=acme)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert 'Account "default" is rebuilt.' in rebuilt.stdout
    assert spend(project) == before
    assert project.rows("select count(*) from ref.api_key where deleted_at is null") == [(3,)]


@pytest.mark.slow
def test_a_rebuild_that_fails_leaves_no_mark(project: Project) -> None:
    project.orcost("sync", OPENROUTER_API_KEY=project.key_of("acme"))
    before = spend(project)
    failed = project.orcost("accounts", "rebuild", "default", "--yes", OPENROUTER_API_KEY=project.key_of("globex"))
    assert failed.returncode == 1
    assert "The rebuild did not finish. Reports show what was stored before." in failed.stderr
    assert spend(project) == before
    assert project.rows("select rebuild_at from ref.account") == [(None,)]


@pytest.mark.slow
def test_a_rebuild_that_succeeds_beside_a_wrong_mapping_says_so(project: Project) -> None:
    acme = project.key_of("acme")
    project.orcost("sync", OPENROUTER_API_KEY=acme)
    (project.folder / "company_mapping.csv").write_text("company,match,pattern\nA,nonsense,x\n")
    rebuilt = project.orcost("accounts", "rebuild", "default", "--yes", OPENROUTER_API_KEY=acme)
    assert rebuilt.returncode == 1
    assert "company_mapping.csv was refused" in rebuilt.stderr
    assert 'Account "default" is rebuilt.' in rebuilt.stdout
    assert "did not finish" not in rebuilt.stderr
    assert project.rows("select rebuild_at from ref.account") == [(None,)]


# Without a key


@pytest.mark.slow
def test_a_sync_without_a_key_leaves_nothing_and_init_begins_as_ever(project: Project) -> None:
    sync = project.orcost("sync")
    assert sync.returncode == 1
    assert 'No key for account "default"' in sync.stderr
    assert project.rows("select account from ref.account") == []
    assert project.rows("select account from ops.sync_run") == []
    init = project.orcost("init", told=f"acme\n{project.key_of('acme')}\n")
    assert "company_mapping.csv: a starter" in init.stdout
    assert (project.folder / "company_mapping.csv").exists()
    assert project.orcost("sync").returncode == 0
    status = json.loads(project.orcost("status", "--format", "json").stdout)
    assert [it["account"] for it in status["accounts"]] == ["acme"]


@pytest.mark.slow
def test_a_lost_key_of_a_known_account_is_told_at_the_account(project: Project) -> None:
    project.orcost("sync", OPENROUTER_API_KEY=project.key_of("acme"))
    assert project.orcost("sync").returncode == 1
    ((status, error),) = project.rows("select status, error from ref.account")
    assert status == "failed"
    assert "OPENROUTER_API_KEY is not set" in error


@pytest.mark.slow
def test_edited_files_charge_what_is_stored_although_the_sync_fails(project: Project) -> None:
    mapping, plans = project.folder / "company_mapping.csv", project.folder / "price_plans.csv"
    mapping.write_text("company,match,pattern\nA,key_name,*\n", encoding="utf-8")
    plans.write_text("company,charge,value\nA,markup_percent,10\n", encoding="utf-8")
    project.orcost("sync", OPENROUTER_API_KEY=project.key_of("acme"))
    charges = "select company, sum(usage_usd) / sum(credits_usd) from marts.company_charge_monthly group by 1"
    assert {company: round(factor, 9) for company, factor in project.rows(charges)}["A"] == Decimal("1.1")
    mapping.write_text("company,match,pattern\nB,key_name,*\n", encoding="utf-8")
    plans.write_text("company,charge,value\nB,markup_percent,20\nBB,markup_percent,5\n", encoding="utf-8")
    sync = project.orcost("sync")
    assert sync.returncode == 1
    assert 'price_plans.csv, line 3: company "BB" is in no rule and no list, and has no usage.' in sync.stderr
    assert "What is stored is now attributed and charged by the edited mapping and price plans." in sync.stderr
    assert {company: round(factor, 9) for company, factor in project.rows(charges)}["B"] == Decimal("1.2")
    assert project.rows("select status from ops.sync_run order by started_at") == [("succeeded",), ("failed",)]
    again = project.orcost("sync")
    assert (again.returncode, "What is stored" in again.stderr) == (1, False)


@pytest.mark.slow
def test_what_was_never_synced_and_is_not_configured_is_no_account(project: Project) -> None:
    runs.start_run(project.engine, "old", "left over", None, datetime.now(UTC))
    project.orcost("sync", OPENROUTER_API_KEY=project.key_of("acme"))
    status = project.orcost("status", "--format", "json", OPENROUTER_API_KEY=project.key_of("acme"))
    assert [it["account"] for it in json.loads(status.stdout)["accounts"]] == ["default"]
    assert project.orcost("accounts", "forget", "left over", "--yes").returncode == 0
    assert project.rows("select account from ref.account") == [("default",)]


# Listing, renaming, forgetting


@pytest.fixture
def synced(project: Project) -> Project:
    """Account `acme`, synced by hand; two configured accounts."""
    now = datetime.now(UTC)
    World(project.engine, project.ledger, now).sync()
    (project.folder / "orcost.toml").write_text(
        '[[accounts]]\nname = "acme"\napi_key_env = "KEY_A"\n[[accounts]]\nname = "globex"\napi_key_env = "KEY_G"\n'
    )
    return project


def test_accounts_are_listed_with_what_is_stored(synced: Project) -> None:
    told = json.loads(synced.orcost("accounts", "--format", "json").stdout)
    acme, globex = told
    assert (acme["account"], acme["kind"], acme["is_configured"]) == ("acme", "management", True)
    assert (acme["keys"], acme["living_keys"], acme["credits_total_usd"]) == (3, 3, "500")
    ((first, last, spent),) = synced.rows(
        "select min(d.day), max(d.day), (select sum(credits_usd) from core.usage_daily) from core.account_day d"
    )
    assert (acme["first_day"], acme["last_day"], Decimal(acme["spent_usd"])) == (f"{first}", f"{last}", spent)
    assert (globex["account"], globex["is_configured"], globex["as_of"]) == ("globex", True, None)
    table = synced.orcost("accounts").stdout
    assert "3 of 3" in table
    assert "never synced" in table


def test_a_renamed_account_keeps_everything(synced: Project) -> None:
    before = spend(synced, "acme")
    tables = ("ops.sync_run", "raw.api_key", "raw.extracted", "raw.usage_hourly")
    counts = [synced.rows(f"select count(*) from {table} where account = 'acme'") for table in tables]
    renamed = synced.orcost("accounts", "rename", "acme", "Acme Europe")
    assert renamed.returncode == 0, renamed.stderr
    assert 'orcost.toml: change name = "acme" to name = "Acme Europe"' in renamed.stdout
    assert spend(synced, "Acme Europe") == before
    assert [synced.rows(f"select count(*) from {table} where account = 'Acme Europe'") for table in tables] == counts
    assert not [
        table
        for (table,) in synced.rows(
            "select table_schema || '.' || table_name from information_schema.columns "
            "where column_name = 'account' and table_schema in ('raw', 'ref', 'core', 'marts', 'ops')"
        )
        if synced.rows(f"select 1 from {table} where account = 'acme' limit 1")
    ]
    world = World(synced.engine, synced.ledger, datetime.now(UTC))
    world.configured = world.configured.model_copy(update={"name": "Acme Europe"})
    world.account = "Acme Europe"
    written = world.sync()
    assert "core.usage_daily" not in written


def test_a_new_name_that_a_refused_sync_left_behind_is_taken(synced: Project) -> None:
    runs.start_run(synced.engine, "refused", "again", None, datetime.now(UTC))
    assert synced.orcost("accounts", "rename", "acme", "again").returncode == 0
    assert synced.rows("select account from ref.account") == [("again",)]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("nobody", "other", 'Nothing is stored of an account "nobody". Stored: acme.'),
        ("acme", "acme", 'There is an account "acme" already.'),
        ("acme", "a/b", "That is not a valid account name"),
    ],
)
def test_what_cannot_be_renamed_is_told(synced: Project, old: str, new: str, sentence: str) -> None:
    refused = synced.orcost("accounts", "rename", old, new)
    assert (refused.returncode, sentence in refused.stderr) == (1, True), refused.stderr
    assert synced.rows("select account from ref.account") == [("acme",)]


def test_rules_that_name_the_old_account_are_counted(synced: Project) -> None:
    world = World(synced.engine, synced.ledger, datetime.now(UTC))
    with synced.engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into ref.mapping_version (loaded_at, source, content_sha256, rule_count) "
                "values (now(), 'x.csv', 'x', 1)"
            )
        )
        connection.execute(
            sa.text(
                "insert into ref.mapping_rule (version, line, position, company, match, pattern, account, share) "
                "values (1, 2, 1, 'A', 'key_name', '*', 'acme', 100)"
            )
        )
    renamed = synced.orcost("accounts", "rename", "acme", "other")
    assert 'company_mapping.csv: 1 line for account "acme" must say "other", or no longer match' in renamed.stdout
    assert world.rows("select account from ref.mapping_rule") == [("acme",)]


def test_a_forgotten_account_leaves_nothing_and_others_stay(synced: Project) -> None:
    now = datetime.now(UTC)
    World(synced.engine, synced.ledger, now, account="globex").sync()
    others = spend(synced, "globex")
    unasked = synced.orcost("accounts", "forget", "acme")
    assert unasked.returncode == 1
    assert "3 keys, days from" in unasked.stdout
    assert len(spend(synced, "acme")) > 0
    forgotten = synced.orcost("accounts", "forget", "acme", "--yes")
    assert forgotten.returncode == 0, forgotten.stderr
    assert 'Account "acme" is forgotten.' in forgotten.stdout
    assert spend(synced, "globex") == others
    for table, column in synced.rows(
        "select table_schema || '.' || table_name, column_name from information_schema.columns "
        "where column_name in ('account', 'account_id') and table_schema in ('raw', 'ref', 'core', 'marts', 'ops')"
    ):
        wanted = "'acme'" if column == "account" else "(select 1::smallint)"
        assert not synced.rows(f"select 1 from {table} where {column} = {wanted} limit 1"), table
    assert synced.rows(
        "select count(*) from core.api_key_version where key_id not in (select key_id from core.api_key)"
    ) == [(0,)]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["rename acme other", "confirm acme"])
def test_a_change_waits_for_the_sync_that_runs(synced: Project, command: str) -> None:
    with runs.sync_lock(synced.engine, "acme"):
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(
                [ORCOST, "accounts", *command.split()],
                cwd=synced.folder,
                env=synced.environment,
                capture_output=True,
                timeout=6,
                check=False,
            )
        assert synced.rows("select account, confirmed_at from ref.account") == [("acme", None)]


def test_what_is_not_stored_is_neither_forgotten_nor_confirmed(synced: Project) -> None:
    for command in (("forget", "globex", "--yes"), ("confirm", "globex"), ("rebuild", "globex", "--yes")):
        refused = synced.orcost("accounts", *command)
        assert (refused.returncode, "Nothing is stored" in refused.stderr) == (1, True), command
