"""`orcost doctor`: a healthy deployment has nothing to say; each thing that breaks is said once, with what to do."""

import json
import shlex
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from orcost_pipeline.cli.rendering import finding_lines
from orcost_pipeline.health.finding import Code, exit_code, map_check, sync_command
from orcost_pipeline.settings import load_settings
from orcost_pipeline_tests.healthy_deployment import Deployment, base_url_of

pytest_plugins = ["orcost_pipeline_tests.healthy_deployment"]


# A deployment that is well


def test_a_healthy_deployment_has_nothing_to_say(healthy: Deployment) -> None:
    assert healthy.examine() == []


def test_on_a_healthy_deployment_one_line_says_so_and_what_was_checked(healthy: Deployment) -> None:
    done = healthy.run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "All is well. Checked: settings, 1 account at OpenRouter, database, disk, mapping, data, "
        f"port {healthy.port}.\n"
    )
    assert json.loads(healthy.run("doctor", "--format", "json").stdout) == {"ok": True, "findings": []}


def test_a_question_to_the_doctor_changes_nothing(healthy: Deployment) -> None:
    before = sorted(healthy.folder.rglob("*"))
    with healthy.engine.connect() as connection:
        count = sa.text("select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_user_tables")
        connection.execute(sa.text("select pg_stat_force_next_flush()"))
        written = connection.execute(count).scalar()
    healthy.examine()
    with healthy.engine.connect() as connection:
        assert connection.execute(count).scalar() == written
    assert sorted(healthy.folder.rglob("*")) == before
    assert {asked.method for asked in healthy.simulator.requests} == {"GET"}


# What is printed


def test_the_worst_comes_first_and_json_says_all_there_is(healthy: Deployment) -> None:
    with healthy.engine.connect() as connection:
        since = connection.execute(sa.text("select as_of - interval '3 hours' from ref.account")).scalar_one()
    healthy.do("update ref.account set as_of = :since", since=since)
    (healthy.folder / ".env").chmod(0o640)
    healthy.ledger.add_key("acme", "New", healthy.clock())
    done = healthy.run("doctor", "--format", "json")
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr, told["ok"]) == (1, "", False)
    assert [(it["severity"], it["code"]) for it in told["findings"]] == [
        ("error", "stale"),
        ("warning", "env_readable"),
        ("note", "keys_missing"),
    ]
    stale = told["findings"][0]
    assert list(stale) == ["severity", "code", "account", "subject", "since", "message", "todo"]
    assert datetime.fromisoformat(stale["since"]) == since
    text = healthy.run("doctor").stdout
    assert text.startswith("error    acme: No data newer than ")
    assert "(3 hours ago)\n  → orcost up " in text
    assert "All is well" not in text
    assert healthy.key not in text


@pytest.mark.parametrize(("mode", "said"), [(0o600, ["All", "note", "→"]), (0o640, ["warning", "→", "note", "→"])])
def test_warnings_and_notes_are_no_failure_and_notes_leave_all_well(
    healthy: Deployment, mode: int, said: list[str]
) -> None:
    healthy.ledger.add_key("acme", "New", healthy.clock())
    (healthy.folder / ".env").chmod(mode)
    found = healthy.examine()
    told = [str(line) for line in finding_lines(found, healthy.clock(), "All is well.")]
    assert exit_code(found) == 0
    assert [line.split()[0] for line in told if not line.startswith("  since")] == said


def test_status_and_doctor_say_the_same_of_the_warehouse(healthy: Deployment) -> None:
    healthy.do("update core.account_day set hours_credits_usd = account_credits_usd + 1 where day = current_date - 3")
    healthy.do("update core.key_rolling set company_id = 0")
    status = healthy.stored_findings()
    assert [it.code for it in status] == [Code.DAYS_OPEN, Code.UNATTRIBUTED]
    assert healthy.examine() == status


# Settings


def test_unreadable_settings_are_a_finding(healthy: Deployment) -> None:
    (healthy.folder / "orcost.toml").write_text("[[accounts]\n")
    done = healthy.run("doctor", "--format", "json")
    (finding,) = json.loads(done.stdout)["findings"]
    assert (done.returncode, done.stderr) == (1, "")
    assert (finding["severity"], finding["code"], finding["account"]) == ("error", "settings", None)
    assert "orcost.toml is not valid TOML" in finding["message"]


def test_a_missing_key_leads_to_init(healthy: Deployment) -> None:
    healthy.configure(base_url_of(healthy), OPENROUTER_API_KEY_ACME="")
    finding = healthy.only("error", Code.NO_KEY, "acme")
    assert "OPENROUTER_API_KEY_ACME" in finding.message
    assert finding.todo.endswith("(.env), or: orcost init")


def test_a_new_account_without_a_key_is_told_once(healthy: Deployment) -> None:
    with (healthy.folder / "orcost.toml").open("a") as file:
        file.write('[[accounts]]\nname = "globex"\napi_key_env = "OPENROUTER_API_KEY_GLOBEX"\n')
    assert healthy.said() == [("error", Code.NO_KEY, "globex")]
    status = [(it.code, it.account) for it in healthy.stored_findings()]
    assert status == [(Code.NEVER_SYNCED, "globex")], "orcost status does not look at keys"


def test_a_machine_without_keys_beside_a_synced_warehouse_reads_what_others_sync(healthy: Deployment) -> None:
    (healthy.folder / "orcost.toml").unlink()
    (healthy.folder / "company_mapping.csv").unlink()
    healthy.do(f"alter database {sa.make_url(healthy.url).database} set default_transaction_read_only = on")
    assert healthy.said() == [("note", Code.NO_KEY, None)], "nor need it write, nor have the mapping"


# Commands


def test_commands_take_names_as_a_shell_does(tmp_path: Path) -> None:
    assert sync_command("acme") == "orcost sync --account acme"
    assert sync_command("a b") == "orcost sync --account 'a b'"
    (tmp_path / "orcost.toml").write_text('mapping = "$HOME it\'s.csv"\n')
    command = map_check(load_settings(tmp_path))
    assert shlex.split(command) == ["orcost", "map", "check", str(tmp_path / "$HOME it's.csv")]
