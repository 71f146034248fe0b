"""`orcost doctor`: a healthy deployment has nothing to say; each thing that breaks is said once, with what to do."""

import http.server
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
)

from orcost_pipeline.cli.rendering import finding_lines
from orcost_pipeline.companies.mapping import read_mapping
from orcost_pipeline.deployment import services
from orcost_pipeline.deployment.dagster_home import STORAGE_URL, prepare, start_stopped
from orcost_pipeline.health import database, machine, openrouter
from orcost_pipeline.health.examination import examine
from orcost_pipeline.health.finding import Code, Finding, exit_code, map_check, sync_command, worst_first
from orcost_pipeline.health.machine import home_findings
from orcost_pipeline.health.openrouter import Answer
from orcost_pipeline.health.standing import read
from orcost_pipeline.health.stored import stored_findings
from orcost_pipeline.settings import load_settings
from orcost_pipeline.simulator import Fault, Ledger, Options, Simulator, serve, small
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.sync.attribution import load_mapping
from orcost_pipeline.warehouse import accounts, runs
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.deployment import sole_deployment
from orcost_pipeline.warehouse.locks import PUBLICATION_LOCK, take_lock
from orcost_pipeline.warehouse.questions.health import Server, recent_spend, server_state, stopped_automation
from orcost_pipeline.warehouse.schema.namespaces import schema_version
from orcost_pipeline.windows import STALE_AFTER
from orcost_pipeline_tests.test_readme import page
from orcost_pipeline_tests.world import DAY, World

MAPPING = "company,match,pattern\nCompany A,key_name,Company A\nCompany B,key_name,Company B\nCompany C,key_name,*\n"
VARIABLES = ("OPENROUTER_API_KEY", "OPENROUTER_BASE_URL", "ORCOST_HOME", "ORCOST_CONFIG", "ORCOST_MAPPING")
ORCOST = [sys.executable, "-c", "from orcost_pipeline.cli import main; main()"]


# A deployment that is well


@dataclass(frozen=True)
class Template:
    """A database in which the account `acme` was just synced, to be copied for each test."""

    server: sa.URL
    name: str
    synced_at: datetime

    @contextmanager
    def copied(self, template: str | None = None) -> Iterator[str]:
        name = f"t_{uuid.uuid4().hex}"
        admin = sa.create_engine(self.server, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql(f"create database {name} template {template or self.name}")
        try:
            yield self.server.set(database=name, drivername="postgresql").render_as_string(hide_password=False)
        finally:
            with admin.connect() as connection:
                connection.exec_driver_sql(f"drop database if exists {name} with (force)")
            admin.dispose()


@pytest.fixture(scope="module")
def template(postgres_url: str) -> Iterator[Template]:
    now = datetime.now(UTC)
    server = sa.make_url(postgres_url).set(drivername="postgresql+psycopg", database="postgres")
    migrated = Template(server, "orcost", now)
    with migrated.copied() as url:
        engine = connect(url)
        load_mapping(engine, read_mapping(MAPPING.encode(), "company_mapping.csv"), now)
        World(engine, small(now), now).sync()
        engine.dispose()
        yield Template(server, sa.make_url(url).database or "", now)


@dataclass
class Deployment:
    """A project folder, its warehouse, and its account at OpenRouter."""

    folder: Path
    url: str
    engine: sa.Engine
    ledger: Ledger
    simulator: Simulator
    synced_at: datetime
    port: int
    ahead: timedelta = timedelta(0)

    @property
    def key(self) -> str:
        return self.ledger.accounts["acme"].management_key

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def configure(self, base_url: str, **variables: str) -> None:
        """Writes `.env` as `orcost init` does."""
        told = {"OPENROUTER_API_KEY_ACME": self.key, "OPENROUTER_BASE_URL": base_url, "ORCOST_DATABASE_URL": self.url}
        env = self.folder / ".env"
        env.write_text("".join(f"{name}='{value}'\n" for name, value in (told | variables).items() if value))
        env.chmod(0o600)

    def examine(self) -> list[Finding]:
        return worst_first(examine(load_settings(self.folder), self.port, self.clock))

    def stored_findings(self) -> list[Finding]:
        """What `orcost status` tells."""
        settings, now = load_settings(self.folder), self.clock()
        with self.engine.connect() as connection:
            stored = read(connection, settings, now)
        return worst_first(stored_findings(stored, settings, now))

    def said(self) -> list[tuple[str, str, str | None]]:
        """Severity, code and account of everything that is found."""
        return [(finding.severity, finding.code, finding.account) for finding in self.examine()]

    def only(self, severity: str, code: Code, account: str | None) -> Finding:
        """The one finding there is, which must be this one."""
        found = self.examine()
        assert [(it.severity, it.code, it.account) for it in found] == [(severity, code, account)]
        return found[0]

    def do(self, statement: str, **parameters: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), parameters)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command that asks the port, as a process."""
        return self.run_in_folder(*arguments, "--port", str(self.port))

    def run_in_folder(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line, as a process."""
        command = [*ORCOST, *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def healthy(template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A deployment with nothing to complain of; its base URL is that of a simulator on a real port."""
    for name in (*VARIABLES, "ORCOST_DATABASE_URL", "OPENROUTER_API_KEY_ACME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "orcost.toml").write_text('[[accounts]]\nname = "acme"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n')
    (tmp_path / "company_mapping.csv").write_text(MAPPING)
    ledger = small(template.synced_at)
    simulator = Simulator(ledger)
    with template.copied() as url, serve(simulator) as base_url:
        engine = connect(url)
        made = Deployment(tmp_path, url, engine, ledger, simulator, template.synced_at, free_port())
        made.configure(base_url)
        yield made
        engine.dispose()


def base_url_of(deployment: Deployment) -> str:
    return load_settings(deployment.folder).accounts[0].base_url


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
    assert list(stale) == ["severity", "code", "account", "since", "message", "todo"]
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
    assert finding.todo == "orcost init"


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


def test_env_is_for_its_owner_alone(healthy: Deployment) -> None:
    (healthy.folder / ".env").chmod(0o604)
    finding = healthy.only("warning", Code.ENV_READABLE, None)
    assert finding.todo == f"chmod 600 {healthy.folder / '.env'}"
    (healthy.folder / ".env").chmod(0o400)
    assert healthy.examine() == []


def test_git_ignores_env_where_there_is_git(healthy: Deployment) -> None:
    git = ["git", "-C", str(healthy.folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert "next commit" in healthy.only("warning", Code.ENV_IN_GIT, None).message
    (healthy.folder / ".gitignore").write_text(".env\n")
    assert healthy.examine() == []
    subprocess.run([*git, "add", "--force", ".env"], check=True)
    assert "revoke" in healthy.only("error", Code.ENV_IN_GIT, None).todo


# OpenRouter, live


def test_a_refused_key_is_invalid_since_it_was_first_refused(healthy: Deployment) -> None:
    healthy.simulator.inject(Fault("401", times=None))
    assert healthy.only("error", Code.INVALID_KEY, "acme").since is None
    for minutes in (50, 10):
        fail(healthy, minutes, "invalid_key", "Invalid API key: refused.")
    finding = healthy.only("error", Code.INVALID_KEY, "acme")
    assert finding.since == minutes_ago(healthy, 50)
    assert "OPENROUTER_API_KEY_ACME" in finding.todo
    assert finding.message.startswith("Invalid API key: OpenRouter refused the key of account")


def test_a_key_that_is_accepted_again_is_said_beside_the_failed_sync(healthy: Deployment) -> None:
    fail(healthy, 10, "invalid_key", "Invalid API key: refused.")
    finding = healthy.only("error", Code.SYNC_FAILED, "acme")
    assert (
        finding.message
        == "The last sync failed; OpenRouter accepts the key now. It had said:\nInvalid API key: refused."
    )
    assert finding.todo == "orcost sync --account acme"


def test_an_ordinary_key_is_told_what_works_and_what_does_not(healthy: Deployment) -> None:
    secret = next(iter(healthy.ledger.accounts["acme"].keys.values()))[0][1].secret
    healthy.configure(base_url_of(healthy), OPENROUTER_API_KEY_ACME=secret)
    healthy.do("update ref.account set kind = 'ordinary'")
    finding = healthy.only("note", Code.ORDINARY_KEY, "acme")
    assert "calendar day" in finding.message
    assert "management-keys" in finding.todo
    healthy.do("update ref.account set kind = 'management'")
    assert "seem to cost nothing" in healthy.only("error", Code.ORDINARY_KEY, "acme").message


def spend_nothing(healthy: Deployment) -> None:
    """Takes the last two hours' usage back, here and at OpenRouter."""
    first, second, _ = healthy.ledger.accounts["acme"].keys
    for key, model in ((first, GPT), (second, CLAUDE), (None, CLAUDE)):
        for hours in range(4):
            healthy.ledger.restate("acme", healthy.synced_at - timedelta(hours=hours), key, model, factor=Decimal(0))
    healthy.do("update core.key_rolling set credits_usd = 0 where period = '24h'")


def test_credits_that_are_used_up_or_soon_will_be_are_said(healthy: Deployment) -> None:
    account = healthy.ledger.accounts["acme"]
    used = healthy.ledger.credits_used("acme", healthy.clock())
    with healthy.engine.connect() as connection:
        a_week = recent_spend(connection)["acme"].spend_7d_usd
    account.credits_bought = used + a_week * 3 / 7 + Decimal("0.01")
    assert healthy.examine() == []
    account.credits_bought = used + a_week * 3 / 7 - Decimal("0.01")
    finding = healthy.only("warning", Code.CREDITS_LOW, "acme")
    assert "2 days, at the pace of the last 7 days" in finding.message
    account.credits_bought = used
    assert healthy.examine() == [], "billed by invoice: it spends without credits"
    spend_nothing(healthy)
    account.credits_bought = healthy.ledger.credits_used("acme", healthy.clock())
    assert healthy.only("error", Code.NO_CREDITS, "acme").todo == "Buy credits: openrouter.ai/settings/credits"


@pytest.mark.parametrize("kind", ["refused", "503", "502_html", "reset"])
def test_an_unreachable_openrouter_is_a_finding_within_seconds(healthy: Deployment, kind: str) -> None:
    healthy.simulator.inject(Fault(kind, times=None))  # type: ignore[arg-type]
    started = time.monotonic()
    healthy.only("error", Code.OPENROUTER_UNREACHABLE, "acme")
    assert time.monotonic() - started < 5


def test_a_hanging_openrouter_is_not_waited_for(healthy: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openrouter, "ANSWER_WITHIN", 0.3)
    healthy.simulator.inject(Fault("hang", times=None, seconds=3))
    started = time.monotonic()
    finding = healthy.only("error", Code.OPENROUTER_UNREACHABLE, "acme")
    assert time.monotonic() - started < 2
    assert "did not answer in 0.3 seconds" in finding.message


def test_who_asks_to_be_asked_later_is_not_waited_for(healthy: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openrouter, "ANSWER_WITHIN", 0.3)
    healthy.simulator.inject(Fault("429", times=None, retry_after=30, match="/credits"))
    finding = healthy.only("error", Code.OPENROUTER_UNREACHABLE, "acme")
    assert "its last answer was 429" in finding.message


def test_a_name_that_no_server_resolves_holds_nothing_up(healthy: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openrouter, "ANSWER_WITHIN", 0.3)
    resolve = socket.getaddrinfo

    def hang(host: str, *arguments: object, **options: object) -> object:
        time.sleep(3 if "openrouter" in str(host) else 0)
        return resolve(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    healthy.configure("https://openrouter.test/api/v1", ORCOST_DATABASE_URL="")
    started = time.monotonic()
    assert ("error", Code.OPENROUTER_UNREACHABLE, "acme") in healthy.said()
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("wrong", ["{}/nowhere", "ftp://openrouter.ai", "https://sk-or-v1-hush@openrouter.ai/api/v1"])
def test_a_wrong_address_is_told_as_such(healthy: Deployment, wrong: str) -> None:
    healthy.configure(wrong.format(base_url_of(healthy)))
    finding = healthy.only("error", Code.OPENROUTER_REFUSES, "acme")
    assert "OPENROUTER_BASE_URL" in finding.todo
    assert "hush" not in finding.message + finding.todo


def test_all_accounts_are_asked_at_the_same_time(healthy: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openrouter, "ANSWER_WITHIN", 0.5)
    entries = [f'[[accounts]]\nname = "a{n}"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n' for n in range(8)]
    (healthy.folder / "orcost.toml").write_text("".join(entries))
    healthy.simulator.inject(Fault("hang", times=None, seconds=3))
    started = time.monotonic()
    unreachable = [it.account for it in healthy.examine() if it.code is Code.OPENROUTER_UNREACHABLE]
    assert unreachable == [f"a{n}" for n in range(8)]
    assert time.monotonic() - started < 2.5


def test_keys_that_are_not_in_the_tables_yet_are_named_up_to_three(healthy: Deployment) -> None:
    for name in ("Alpha", "Beta", "Gamma", "Delta", "Epsilon"):
        healthy.ledger.add_key("acme", name, healthy.clock())
    finding = healthy.only("note", Code.KEYS_MISSING, "acme")
    assert re.search(
        r'^5 keys .*: "\w+", "\w+", "\w+" and 2 more\. New keys come with the next sync\.$', finding.message
    )
    assert "orcost resync" in finding.todo
    assert "orcost sync --account acme" in finding.todo


def test_a_key_that_the_last_sync_should_have_seen_is_a_warning(healthy: Deployment) -> None:
    made_at = healthy.synced_at - DAY
    healthy.ledger.add_key("acme", "Overlooked", made_at)
    finding = healthy.only("warning", Code.KEYS_MISSING, "acme")
    assert "should have seen" in finding.message
    assert abs((finding.since or made_at + DAY) - made_at) < timedelta(seconds=1)


def test_an_account_without_any_key_may_be_the_wrong_account(healthy: Deployment) -> None:
    healthy.ledger.accounts["acme"].keys.clear()
    assert "another account" in healthy.only("warning", Code.NO_API_KEYS, "acme").todo


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (-400, ("error", "behind")),
        (-90, ("warning", "behind")),
        (30, None),
        (90, ("warning", "ahead")),
        (400, ("error", "ahead")),
    ],
)
def test_a_clock_that_is_off_is_told_by_the_server(
    healthy: Deployment, ahead: int, expected: tuple[str, str] | None
) -> None:
    healthy.ahead = timedelta(seconds=ahead)
    found = [it for it in healthy.examine() if it.account is None]
    assert [(it.severity, it.message.rstrip(".").split()[-1]) for it in found] == ([expected] if expected else [])
    assert {it.code for it in found} <= {Code.CLOCK_OFF}


def test_of_several_servers_the_one_that_differs_most_tells_the_clock() -> None:
    answers = [Answer(name, is_accepted=True, ahead=timedelta(seconds=s)) for name, s in (("a", 1), ("b", -90))]
    (finding,) = openrouter.clock_findings(answers)
    assert "90 seconds behind" in finding.message


# The database


def test_without_a_database_openrouter_is_asked_all_the_same(healthy: Deployment) -> None:
    healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL="postgresql://me:hush-hush@127.0.0.1:1/none")
    healthy.simulator.inject(Fault("401", times=None))
    found = healthy.examine()
    assert [it.code for it in found] == [Code.INVALID_KEY, Code.DATABASE_UNREACHABLE]
    assert "hush" not in str(found)
    healthy.simulator.clear_faults()
    healthy.ledger.accounts["acme"].credits_bought = Decimal(1)
    assert [code for _, code, _ in healthy.said()] == [Code.DATABASE_UNREACHABLE]
    spend_nothing(healthy)
    assert [code for _, code, _ in healthy.said()] == [Code.DATABASE_UNREACHABLE, Code.NO_CREDITS]


def test_before_the_first_sync_no_database_is_made(healthy: Deployment) -> None:
    healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL="")
    before = sorted(healthy.folder.iterdir())
    assert healthy.only("note", Code.NEVER_SYNCED, None).todo == "orcost sync"
    (healthy.folder / ".orcost" / "logs").mkdir(parents=True)
    healthy.only("note", Code.NEVER_SYNCED, None)
    shutil.rmtree(healthy.folder / ".orcost")
    assert sorted(healthy.folder.iterdir()) == before


def test_an_empty_database_is_left_empty(healthy: Deployment, template: Template) -> None:
    with template.copied("template0") as url:
        healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL=url)
        healthy.only("note", Code.NEVER_SYNCED, None)
        engine = connect(url)
        with engine.connect() as connection:
            assert server_state(connection).may_read is None
        engine.dispose()


def test_a_database_with_schemas_of_somebody_else_is_told_to_leave_to_them(
    healthy: Deployment, template: Template
) -> None:
    with template.copied("template0") as url:
        healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL=url)
        engine = connect(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("create schema raw; create table raw.orders (id int); create schema marts")
        engine.dispose()
        finding = healthy.only("error", Code.SCHEMAS_TAKEN, None)
    assert finding.message.endswith("has schemas of orcost's names that are not orcost's: raw.")
    assert "create database orcost" in finding.todo


def test_an_embedded_database_that_cannot_start_is_told(healthy: Deployment) -> None:
    healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL="")
    (healthy.folder / ".orcost").mkdir()
    (healthy.folder / ".orcost" / "postgres.location").write_text("/nowhere/at/all\n")
    assert "/nowhere/at/all" in healthy.only("error", Code.DATABASE_UNREACHABLE, None).message


@pytest.mark.parametrize(
    ("version", "severity", "code"),
    [("9999", "error", Code.SCHEMA_NEWER), ("0000", "warning", Code.SCHEMA_OLDER)],
)
def test_another_schema_is_neither_read_nor_migrated(
    healthy: Deployment, version: str, severity: str, code: Code
) -> None:
    healthy.do("update ops.schema_version set version_num = :version", version=version)
    assert version in healthy.only(severity, code, None).message
    with healthy.engine.connect() as connection:
        assert schema_version(connection) == version


def test_a_read_only_database_cannot_be_synced_to(healthy: Deployment) -> None:
    healthy.do(f"alter database {sa.make_url(healthy.url).database} set default_transaction_read_only = on")
    assert "transaction_read_only" in healthy.only("error", Code.DATABASE_READ_ONLY, None).message


def test_a_locked_warehouse_is_not_waited_for(healthy: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "STATEMENT_WITHIN", 1)
    with healthy.engine.begin() as connection:
        connection.exec_driver_sql("set idle_in_transaction_session_timeout = '5s'")
        connection.exec_driver_sql("lock table ref.account in access exclusive mode")
        assert "statement timeout" in healthy.only("error", Code.DATABASE_UNREACHABLE, None).message


WELL = Server("me", "costs", 15, False, False, 5, 100, "UTF8", True, True, True)


@pytest.mark.parametrize(
    ("server", "severity", "code", "said"),
    [
        (WELL._replace(is_standby=True, is_read_only=True), "error", Code.DATABASE_READ_ONLY, "recovery"),
        (WELL._replace(major=14), "error", Code.DATABASE_OLD, "Postgres 14 is too old"),
        (WELL._replace(encoding="LATIN1"), "error", Code.DATABASE_ENCODING, 'of database "costs" is LATIN1'),
        (WELL._replace(connections=91), "warning", Code.DATABASE_FULL, "91 of the database's 100 connections"),
        (WELL._replace(may_create=False), "error", Code.DATABASE_RIGHTS, "may not create schemas"),
        (WELL._replace(may_write=False), "error", Code.DATABASE_RIGHTS, "may not write"),
        (WELL._replace(may_read=False), "error", Code.DATABASE_RIGHTS, "may not read"),
    ],
)
def test_a_server_that_does_not_serve_is_told_so(server: Server, severity: str, code: Code, said: str) -> None:
    (finding,) = database._server_findings(server, is_writer=True)
    assert (finding.severity, finding.code) == (severity, code)
    assert said in finding.message


def test_a_server_that_serves_is_no_finding() -> None:
    for well in (WELL, WELL._replace(connections=90), WELL._replace(may_read=None, may_write=None)):
        assert not list(database._server_findings(well, is_writer=True))
    reader = WELL._replace(is_read_only=True, may_create=False, may_write=False)
    assert not list(database._server_findings(reader, is_writer=False))


def test_the_key_of_another_account_is_told_before_any_sync(healthy: Deployment) -> None:
    healthy.ledger.add_account("globex", credits_bought=Decimal(9000))
    healthy.ledger.add_key("globex", "web", healthy.synced_at)
    other = healthy.ledger.accounts["globex"].management_key
    healthy.configure(base_url_of(healthy), OPENROUTER_API_KEY_ACME=other)
    finding = healthy.only("error", Code.OTHER_ACCOUNT, "acme")
    assert finding.message.startswith(
        "The key belongs to a different OpenRouter account than the stored data: it is of org"
    )
    with healthy.engine.begin() as connection:
        accounts.confirm(connection, "acme", healthy.clock())
    assert ("error", Code.OTHER_ACCOUNT, "acme") not in healthy.said()


def rotate_all_into(healthy: Deployment, workspace_id: str) -> None:
    """All keys go at once; the new one is in another workspace. Nothing else tells whose account it is."""
    with healthy.engine.begin() as connection:
        connection.execute(sa.text("update ref.account set organization_id = null"))
    for key_hash in list(healthy.ledger.accounts["acme"].keys):
        healthy.ledger.delete("acme", key_hash, healthy.clock())
    healthy.ledger.add_key("acme", "new", healthy.clock(), workspace_id=workspace_id)


def test_keys_that_were_all_rotated_into_another_workspace_are_the_same_accounts(healthy: Deployment) -> None:
    rotate_all_into(healthy, healthy.ledger.add_workspace("acme", "Newest"))
    assert Code.OTHER_ACCOUNT not in [code for _, code, _ in healthy.said()]


@pytest.mark.parametrize(("options", "is_told"), [(Options(), True), (Options(workspaces_status=403), False)])
def test_where_workspaces_are_not_told_missing_keys_are_no_proof(
    healthy: Deployment, options: Options, is_told: bool
) -> None:
    rotate_all_into(healthy, healthy.ledger.accounts["acme"].workspaces[0].id)
    with healthy.engine.begin() as connection:
        connection.execute(sa.text("update raw.workspace set workspace_id = 'w'"))
        connection.execute(sa.text("update core.api_key_version set workspace_id = 'w'"))
    healthy.simulator.options = options
    assert (Code.OTHER_ACCOUNT in [code for _, code, _ in healthy.said()]) is is_told


def test_commands_take_names_as_a_shell_does(tmp_path: Path) -> None:
    assert sync_command("acme") == "orcost sync --account acme"
    assert sync_command("a b") == "orcost sync --account 'a b'"
    (tmp_path / "orcost.toml").write_text('mapping = "$HOME it\'s.csv"\n')
    command = map_check(load_settings(tmp_path))
    assert shlex.split(command) == ["orcost", "map", "check", str(tmp_path / "$HOME it's.csv")]


def test_a_user_without_rights_is_told_which(healthy: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    role, database = f"r_{uuid.uuid4().hex}", sa.make_url(healthy.url).database
    healthy.do(f"create role {role} login password 'x'")
    try:
        as_role = sa.make_url(healthy.url).set(username=role, password="x").render_as_string(hide_password=False)
        healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL=as_role)
        assert "may not read" in healthy.only("error", Code.DATABASE_RIGHTS, None).message
        with monkeypatch.context() as patched:
            patched.setattr("orcost_pipeline.health.database.server_state", lambda _: WELL)
            finding = healthy.only("error", Code.DATABASE_RIGHTS, None)
        assert "permission denied" in finding.message, "of what was not looked for beforehand"
        for schema in ("ref", "core", "marts", "ops"):
            healthy.do(
                f"grant usage on schema {schema} to {role}; grant select on all tables in schema {schema} to {role}"
            )
        finding = healthy.only("error", Code.DATABASE_RIGHTS, None)
        assert finding.todo == f'grant create on database "{database}" to "{role}"'
        healthy.do(f"grant create on database {database} to {role}")
        assert "may not write" in healthy.only("error", Code.DATABASE_RIGHTS, None).message
    finally:
        healthy.do(f"drop owned by {role}; drop role {role}")


def test_the_server_is_asked_what_is_so(healthy: Deployment) -> None:
    with healthy.engine.connect() as connection:
        server = server_state(connection)
        shown = {
            name: connection.exec_driver_sql(f"show {name}").scalar() for name in ("server_version", "max_connections")
        }
        sessions = connection.exec_driver_sql("select count(*) from pg_stat_activity where datid is not null").scalar()
    assert str(server.major) == str(shown["server_version"]).split(".")[0]
    assert str(server.max_connections) == shown["max_connections"]
    assert abs(server.connections - int(sessions or 0)) <= 3
    assert (server.may_create, server.may_read, server.may_write) == (True, True, True)


# This machine


@pytest.mark.parametrize(("free", "severity"), [(999_999_999, "warning"), (199_999_999, "error")])
def test_little_space_is_told_once_for_a_file_system(
    healthy: Deployment, monkeypatch: pytest.MonkeyPatch, free: int, severity: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    finding = healthy.only(severity, Code.DISK_FULL, None)
    assert f"{free // 1_000_000} MB are free at {healthy.folder}" in finding.message
    healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL="")
    (healthy.folder / ".orcost" / "postgres" / "data").mkdir(parents=True)
    assert len(list(home_findings(load_settings(healthy.folder)))) == 1


def test_space_is_looked_for_where_the_embedded_data_is(healthy: Deployment) -> None:
    home = healthy.folder / ".orcost"
    healthy.configure(base_url_of(healthy), ORCOST_DATABASE_URL="")
    (home / "postgres" / "data").mkdir(parents=True)
    assert list(machine._written_folders(load_settings(healthy.folder))) == [home, home / "postgres" / "data"]
    elsewhere = healthy.folder / "elsewhere"
    (elsewhere / "data").mkdir(parents=True)
    (home / "postgres.location").write_text(f"{elsewhere}\n")
    assert list(machine._written_folders(load_settings(healthy.folder)))[1] == elsewhere / "data"


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    """A program on a port of this machine that answers everything with this."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


DAGSTER = (
    b'{"dagster_webserver_version": "1.13.27", "dagster_version": "1.13.27", "dagster_graphql_version": "1.13.27"}'
)


@pytest.mark.parametrize("body", [b"<html>A dashboard</html>", b"[]", b"7", b"{}"])
def test_a_port_that_another_program_has_is_a_warning(healthy: Deployment, body: bytes) -> None:
    with answering(body) as healthy.port:
        finding = healthy.only("warning", Code.PORT_TAKEN, None)
    assert finding.todo == f"orcost up --port {healthy.port + 1}"


def test_a_port_that_never_answers_is_another_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PORT_WITHIN", 0.2)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        assert services.is_dagster(silent.getsockname()[1]) is False


def test_a_port_where_dagster_answers_is_well(healthy: Deployment) -> None:
    with answering(DAGSTER) as healthy.port:
        assert healthy.examine() == []


# The mapping


def test_a_wrong_mapping_is_told_with_all_its_lines(healthy: Deployment) -> None:
    (healthy.folder / "company_mapping.csv").write_text(
        "company,match,pattern,share\nA,key_nam,x,\nB,key_name,y,99.99\n"
    )
    healthy.do(
        "insert into ops.sync_run (run_id, account, started_at, finished_at, status, error) "
        "values ('later', 'acme', now(), now(), 'succeeded', 'company_mapping.csv was refused.')"
    )
    finding = healthy.only("error", Code.MAPPING_WRONG, None)
    first, *mistakes = finding.message.splitlines()
    assert first == f"company_mapping.csv was refused; the mapping of {healthy.synced_at:%Y-%m-%d} stays active."
    assert [line[:9] for line in mistakes] == ["  line 2:", "  line 3:"]
    assert finding.todo == f"orcost map check {healthy.folder / 'company_mapping.csv'}"


def test_what_the_last_sync_said_of_the_mapping_counts_until_the_next(healthy: Deployment) -> None:
    healthy.do(
        "insert into ops.sync_run (run_id, account, started_at, finished_at, status, error) "
        "values ('later', 'acme', now(), now(), 'succeeded', 'company_mapping.csv was refused.')"
    )
    finding = healthy.only("error", Code.MAPPING_WRONG, "acme")
    assert finding.todo.startswith("orcost map check ")
    assert finding.todo.endswith(", then: orcost sync --account acme")


def test_a_mapping_that_is_gone_is_an_error(healthy: Deployment) -> None:
    (healthy.folder / "company_mapping.csv").unlink()
    assert "is gone; the mapping of" in healthy.only("error", Code.MAPPING_GONE, None).message


def test_a_mapping_that_its_author_may_not_have_meant_is_a_warning(healthy: Deployment) -> None:
    text = MAPPING + "Company D,label,z\n"
    (healthy.folder / "company_mapping.csv").write_text(text)
    bring_into_force(healthy, text)
    assert "line 5: label:z never wins" in healthy.only("warning", Code.MAPPING_DOUBTFUL, None).message


def test_a_rule_for_an_unknown_account_is_a_warning(healthy: Deployment) -> None:
    text = "company,match,pattern,account\nCompany A,key_name,*,acmee\n"
    (healthy.folder / "company_mapping.csv").write_text(text)
    bring_into_force(healthy, text)
    assert 'account "acmee" is not configured' in healthy.only("warning", Code.MAPPING_DOUBTFUL, None).message


def test_a_rule_without_any_key_for_thirty_days_is_a_warning(healthy: Deployment) -> None:
    text = MAPPING.replace("Company C,", "Company D,key_name,nobody\nCompany C,")
    (healthy.folder / "company_mapping.csv").write_text(text)
    bring_into_force(healthy, text)
    assert Code.MAPPING_DOUBTFUL not in {finding.code for finding in healthy.examine()}
    healthy.do("update ref.mapping_version set loaded_at = now() - interval '31 days'")
    message = healthy.only("warning", Code.MAPPING_DOUBTFUL, None).message
    assert "nobody matched no key in the last 30 days." in message


def test_an_edited_mapping_counts_from_the_next_sync_on(healthy: Deployment) -> None:
    (healthy.folder / "company_mapping.csv").write_text(MAPPING + "# edited\n")
    assert healthy.only("note", Code.MAPPING_PENDING, None).todo == "orcost sync"


NO_RULES = "company,match,pattern\n# Company A,key_name,Company A\n"


def without_rules(deployment: Deployment, starter: str | None) -> None:
    """Has the deployment no mapping at all, or one without rules."""
    deployment.do("update core.key_rolling set company_id = 0")
    deployment.do("truncate ref.mapping_rule, ref.mapping_version restart identity")
    (deployment.folder / "company_mapping.csv").unlink()
    if starter is not None:
        (deployment.folder / "company_mapping.csv").write_text(starter)
        bring_into_force(deployment, starter)


@pytest.mark.parametrize("starter", [None, NO_RULES])
def test_spend_without_any_rule_is_a_warning_of_status_and_doctor(healthy: Deployment, starter: str | None) -> None:
    without_rules(healthy, starter)
    finding = healthy.only("warning", Code.NO_MAPPING, None)
    assert finding.message == "No mapping rules yet; all spend is Unattributed."
    assert "orcost map suggest" in finding.todo
    assert healthy.stored_findings() == [finding]
    assert exit_code([finding]) == 0
    told = healthy.run_in_folder("status")
    assert told.returncode == 0
    assert "All is well" not in told.stdout


@pytest.mark.parametrize("starter", [None, NO_RULES])
def test_without_spend_a_missing_rule_is_a_note(healthy: Deployment, starter: str | None) -> None:
    without_rules(healthy, starter)
    healthy.do("truncate core.key_rolling, core.company_rolling")
    assert ("note", Code.NO_MAPPING, None) in healthy.said()
    assert Code.NO_MAPPING not in {it.code for it in healthy.stored_findings()}


def test_rules_that_wait_for_the_next_sync_are_told_instead_of_missing_ones(healthy: Deployment) -> None:
    without_rules(healthy, NO_RULES)
    (healthy.folder / "company_mapping.csv").write_text(MAPPING)
    healthy.only("note", Code.MAPPING_PENDING, None)
    (healthy.folder / "company_mapping.csv").write_text("company,match,pattern\nA,key_nam,x\n")
    healthy.only("error", Code.MAPPING_WRONG, None)


def test_a_machine_without_keys_tells_of_missing_rules_too(healthy: Deployment) -> None:
    without_rules(healthy, NO_RULES)
    healthy.configure(base_url_of(healthy), OPENROUTER_API_KEY_ACME="")
    assert ("warning", Code.NO_MAPPING, None) in healthy.said()


def bring_into_force(deployment: Deployment, text: str) -> None:
    load_mapping(deployment.engine, read_mapping(text.encode(), "company_mapping.csv"), deployment.clock())


def test_much_unattributed_money_is_told_with_its_keys(healthy: Deployment) -> None:
    healthy.do("update core.key_rolling set company_id = 0")
    finding = healthy.only("warning", Code.UNATTRIBUTED, "acme")
    assert finding.message == (
        "111.75 USD (100.0 %) and 3.00 USD of BYOK (100.0 %) of the last 30 days belong to no company: "
        "2 keys, and 0.25 USD without a key, which no rule can give to a company."
    )
    assert "orcost map todo" in finding.todo


@pytest.mark.parametrize(("amount", "is_told"), [("5.8", False), ("5.9", True)])
def test_five_percent_may_be_unattributed(healthy: Deployment, amount: str, is_told: bool) -> None:
    healthy.do("update core.key_rolling set credits_usd = :amount where key_id = 0", amount=Decimal(amount))
    found = healthy.examine()
    assert [it.code for it in found] == ([Code.UNATTRIBUTED] if is_told else [])
    assert all(it.todo.startswith("No rule can") for it in found)


# The data


def minutes_ago(deployment: Deployment, minutes: int) -> datetime:
    """That long before the sync of the template, whole microseconds as Postgres keeps them."""
    return deployment.synced_at + timedelta(minutes=60 - minutes)


def fail(deployment: Deployment, minutes: int, status: str, error: str) -> None:
    """A failed run, after the one that succeeded."""
    at = minutes_ago(deployment, minutes)
    deployment.do(
        "insert into ops.sync_run (run_id, account, started_at, finished_at, status, error) "
        "values (:id, 'acme', :at, :at, 'failed', :error)",
        id=f"failed-{minutes}",
        at=at,
        error=error,
    )
    deployment.do("update ref.account set status = :status, error = :error", status=status, error=error)


def test_an_account_that_was_never_synced_is_an_error(healthy: Deployment) -> None:
    with (healthy.folder / "orcost.toml").open("a") as file:
        file.write('[[accounts]]\nname = "big corp"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n')
    assert healthy.only("error", Code.NEVER_SYNCED, "big corp").todo == "orcost sync --account 'big corp'"


def test_data_that_is_older_than_two_hours_is_an_error(healthy: Deployment) -> None:
    as_of = healthy.clock() - STALE_AFTER + timedelta(minutes=1)
    healthy.do("update ref.account set as_of = :as_of", as_of=as_of)
    assert healthy.examine() == []
    as_of -= timedelta(minutes=2)
    healthy.do("update ref.account set as_of = :as_of", as_of=as_of)
    finding = healthy.only("error", Code.STALE, "acme")
    assert finding.since == as_of
    assert "orcost up is not running here" in finding.message
    assert finding.todo.startswith("orcost up ")
    with answering(DAGSTER) as healthy.port:
        assert healthy.only("error", Code.STALE, "acme").todo == "orcost sync --account acme"


def test_data_of_the_future_is_put_right_by_the_next_sync(healthy: Deployment) -> None:
    healthy.do("update ref.account set as_of = now() + interval '1 day'")
    finding = healthy.only("error", Code.CLOCK_OFF, "acme")
    assert finding.message.startswith("Data is marked complete until ")
    assert ", in the future: a sync ran with a wrong clock." in finding.message
    assert finding.todo == "Set the clock by NTP, then: orcost sync --account acme, which puts it right"
    fail(healthy, 20, "failed", "The check failed.")
    assert [it.code for it in healthy.examine()] == [Code.CLOCK_OFF, Code.SYNC_FAILED]


def test_a_sync_that_stopped_at_the_clock_says_so_until_the_clock_is_right(healthy: Deployment) -> None:
    refused = "This machine's clock is 26 hours ahead."
    fail(healthy, 20, "failed", refused)
    healthy.do("update ref.account set error_code = 'clock_off'")
    with healthy.engine.connect() as connection:
        stored = read(connection, load_settings(healthy.folder), healthy.clock())
    (finding,) = stored_findings(stored, load_settings(healthy.folder), healthy.clock())
    assert (finding.code, finding.message) == (Code.CLOCK_OFF, refused)
    assert refused in healthy.only("error", Code.SYNC_FAILED, "acme").message, "the server tells the clock as it is now"


@pytest.mark.parametrize("status", ["failed", "unreachable"])
def test_a_failed_sync_says_why_and_since_when(healthy: Deployment, status: str) -> None:
    for minutes in (55, 40, 20):
        fail(healthy, minutes, status, "The check failed.\nTen rows differ.")
    finding = healthy.only("error", Code.SYNC_FAILED, "acme")
    assert "The check failed.\nTen rows differ." in finding.message
    assert finding.since == minutes_ago(healthy, 55)


def test_an_unreachable_openrouter_is_said_once(healthy: Deployment) -> None:
    fail(healthy, 30, "unreachable", "The network is down.")
    healthy.simulator.inject(Fault("refused", times=None))
    assert healthy.only("error", Code.OPENROUTER_UNREACHABLE, "acme").since == minutes_ago(healthy, 30)


def test_an_abandoned_run_is_a_warning(healthy: Deployment) -> None:
    at = minutes_ago(healthy, 5)
    healthy.do(
        "insert into ops.sync_run (run_id, account, started_at, finished_at, status, error) "
        "values ('dead', 'acme', :at, :at, 'abandoned', 'The process died.')",
        at=at,
    )
    assert healthy.only("warning", Code.SYNC_DIED, "acme").since == at


def test_a_run_is_running_while_its_lock_is_held_and_dead_afterwards(healthy: Deployment) -> None:
    # The hash of one of these names is negative, of the other positive: Postgres shows both as oids.
    for account in ("acme", "globex"):
        at = minutes_ago(healthy, 5)
        healthy.do("insert into ref.account (account) values (:account) on conflict do nothing", account=account)
        with (healthy.folder / "orcost.toml").open("w") as file:
            file.write(f'[[accounts]]\nname = "{account}"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n')
        with runs.sync_lock(healthy.engine, account):
            runs.start_run(healthy.engine, f"run-{account}", account, None, at)
            running = [it for it in healthy.examine() if it.code is not Code.NOT_CONFIGURED]
            assert [(it.severity, it.code, it.since) for it in running] == [("note", Code.SYNC_RUNNING, at)]
        with healthy.engine.connect() as connection:
            take_lock(connection, PUBLICATION_LOCK, account)
            died = [it for it in healthy.examine() if it.code is Code.SYNC_DIED]
        assert [(it.severity, it.account, it.since) for it in died] == [("warning", account, at)]


def test_a_request_may_wait_two_minutes(healthy: Deployment) -> None:
    ask = "insert into ops.sync_request (account, requested_at) values (:account, now() - :age * interval '1 second')"
    healthy.do(ask, account="acme", age=100)
    assert healthy.examine() == []
    healthy.do(ask, account="acme", age=130)
    finding = healthy.only("warning", Code.REQUEST_WAITS, "acme")
    assert "Is orcost up running?" in finding.message
    healthy.do("update ops.sync_request set status = 'running'")
    assert healthy.examine() == []


def test_days_that_do_not_add_up_are_errors_while_they_can_be_asked_again(healthy: Deployment) -> None:
    today = healthy.synced_at.date()
    healthy.do(
        "update core.account_day set hours_credits_usd = account_credits_usd + 1 where day = :day", day=today - 5 * DAY
    )
    finding = healthy.only("error", Code.DAYS_OPEN, "acme")
    assert finding.todo == f"orcost sync --account acme --since {today - 5 * DAY}"
    long_ago = today - 400 * DAY
    healthy.do("update core.account_day set day = :old where hours_credits_usd <> account_credits_usd", old=long_ago)
    assert f"orcost reconcile --day {long_ago}" in healthy.only("note", Code.DAYS_OPEN, "acme").todo


def test_costs_of_zero_are_explained(healthy: Deployment) -> None:
    nothing = "requests = 0, credits_usd = 0, byok_usd = 0"
    healthy.do(f"update core.key_rolling set {nothing} where period = '24h'")
    assert healthy.examine() == [], "a day without spend is no news"
    healthy.do(f"update core.key_rolling set {nothing}")
    with healthy.engine.connect() as connection:
        last = connection.execute(sa.text("select max(last_used_at) from core.api_key")).scalar_one()
    finding = healthy.only("note", Code.NO_USAGE, "acme")
    assert f"3 keys; the last use was on {last:%Y-%m-%d}" in finding.message
    healthy.do("update core.key_rolling set requests = 1 where key_id <> 0 and period = '30d'")
    assert healthy.examine() == [], "free models cost nothing and are usage"


def test_an_account_that_is_no_longer_configured_is_a_note(healthy: Deployment) -> None:
    healthy.do("insert into ref.account (account, status, as_of) values ('old', 'failed', '2026-01-01')")
    healthy.only("note", Code.NOT_CONFIGURED, "old")


# Automation


@pytest.fixture
def automation(healthy: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's own storage in the warehouse's database, with a schedule and two sensors, one of them on."""
    for name in (STORAGE_URL, "DAGSTER_HOME", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, "")
    prepare(load_settings(healthy.folder))
    location = RegisteredCodeLocationOrigin("orcost_pipeline")
    repository = RemoteRepositoryOrigin(location, "__repository__")
    kinds = {
        "hourly_schedule": (InstigatorType.SCHEDULE, InstigatorStatus.STOPPED, ScheduleInstigatorData("5 * * * *")),
        "mapping_change_sensor": (InstigatorType.SENSOR, InstigatorStatus.STOPPED, SensorInstigatorData(cursor="seen")),
        "sync_request_sensor": (InstigatorType.SENSOR, InstigatorStatus.DECLARED_IN_CODE, SensorInstigatorData()),
    }
    with dg.DagsterInstance.get() as instance:
        for name, (kind, status, data) in kinds.items():
            instance.add_instigator_state(InstigatorState(RemoteInstigatorOrigin(repository, name), kind, status, data))
        yield instance


def test_what_is_switched_off_under_orcost_up_is_found_and_switched_on_at_its_next_start(
    healthy: Deployment, automation: dg.DagsterInstance
) -> None:
    assert healthy.stored_findings() == []
    with sole_deployment(healthy.engine, "process 1 on web1"):
        found = healthy.stored_findings()
        assert [(it.severity, it.code, it.message) for it in found] == [
            ("error", "switched_off", "hourly_schedule is switched off in Dagster: nothing is synced by the hour."),
            ("warning", "switched_off", "mapping_change_sensor is switched off in Dagster: a changed mapping waits."),
        ]
        assert [it.code for it in healthy.examine()] == ["switched_off", "switched_off"]
        assert start_stopped() == ["hourly_schedule", "mapping_change_sensor"]
        assert healthy.stored_findings() == []
    states = {state.instigator_name: state for state in automation.all_instigator_state()}
    assert {state.status for state in states.values()} == {InstigatorStatus.DECLARED_IN_CODE}
    assert states["mapping_change_sensor"].sensor_instigator_data.cursor == "seen"
    assert start_stopped() == []


def test_who_may_not_read_dagsters_tables_is_told_the_rest(healthy: Deployment, automation: dg.DagsterInstance) -> None:
    reader = f"r_{uuid.uuid4().hex}"
    healthy.do(f"create role {reader}")
    try:
        healthy.do(f"grant usage on schema ref, core, marts, ops to {reader}")
        with healthy.engine.connect() as connection:
            connection.execute(sa.text(f"set role {reader}"))
            assert stopped_automation(connection) == []
            connection.execute(sa.text("reset role"))
            assert len(stopped_automation(connection)) == 2
    finally:
        healthy.do(f"drop owned by {reader}")
        healthy.do(f"drop role {reader}")


# Documentation


def test_the_page_of_findings_names_every_finding_once() -> None:
    rows = re.findall(r"^\| .* \|$", page("findings"), flags=re.MULTILINE)
    assert sorted(code for row in rows for code in re.findall(r"`([a-z_]+)`", row.split("|")[1])) == sorted(Code)
