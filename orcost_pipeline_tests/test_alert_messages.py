"""Each finding that can become an alert, made to happen by its cause: what arrives, and that it ends once it is undone.

`pytest -s` shows the messages.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
from dagster._daemon.types import DaemonHeartbeat

from orcost_pipeline.alerts.selection import NEVER, TRANSIENT
from orcost_pipeline.deployment.dagster_home import STORAGE_URL, prepare
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.health.examination import examine
from orcost_pipeline.health.finding import Code
from orcost_pipeline.settings import Settings, load_settings
from orcost_pipeline.simulator import Fault
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.schema.upgrade import migrate
from orcost_pipeline_tests.conftest import fresh_database
from orcost_pipeline_tests.dagster_deployment import dagster_run
from orcost_pipeline_tests.processes import free_port
from orcost_pipeline_tests.test_odd_rows import first_row, mend, spoil
from orcost_pipeline_tests.watched import A_AND_REST, Watched
from orcost_pipeline_tests.webhook import Posted, Webhook
from orcost_pipeline_tests.world import DAY

pytest_plugins = ["orcost_pipeline_tests.watched"]
pytestmark = pytest.mark.slow

UI = "https://costs.example.com"
ACME = '[[accounts]]\nname = "{}"\napi_key_env = "{}"\n'


@dataclass
class Project(Watched):
    """A watched deployment whose settings are the files of its folder, as at the desk of who runs it."""

    held: ExitStack | None = None

    def write(self, name: str, text: str) -> None:
        (self.acme.settings.folder / name).write_text(text, encoding="utf-8")

    def configure(self, more: str = "", accounts: str = ACME.format("acme", "KEY_ACME")) -> None:
        """Writes orcost.toml; `more` follows in its last section, [alerts]."""
        self.write("orcost.toml", f'{accounts}\n[alerts]\nui_url = "{UI}"\n{more}\n')

    def environment(self, *receivers: Webhook, **changed: str) -> None:
        """Writes `.env`, with these receivers beside the webhook."""
        account = self.acme.ledger.accounts["acme"]
        variables = {
            "KEY_ACME": account.management_key,
            "OPENROUTER_BASE_URL": self.base_url,
            "ORCOST_DATABASE_URL": self.acme.engine.url.render_as_string(hide_password=False),
            "ORCOST_ALERT_URLS": ", ".join(it.url for it in (self.webhook, *receivers)),
        }
        lines = [f"{name}='{value}'\n" for name, value in (variables | changed).items()]
        self.write(".env", "".join(lines))

    @property
    def base_url(self) -> str:
        return self.acme.settings.accounts[0].base_url

    def settings(self) -> Settings:
        return load_settings(self.acme.settings.folder)

    def sync(self, *faults: Fault, account: str = "acme", since: str | None = None, **later: float) -> bool:
        self.acme.clock.later(**later)
        self.acme.simulator.inject(*faults)
        self.acme.settings = self.settings()
        window = {"resources": {"orcost_window": {"config": {"since": since}}}} if since else {}
        return bool(self.acme.run(account, run_config=window).success)

    def secrets(self) -> Iterator[str]:
        yield from (it.management_key for it in self.acme.ledger.accounts.values())
        yield self.acme.engine.url.password or ""
        yield from ("s3cret", "json://")


@pytest.fixture
def project(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    for name in (
        "OPENROUTER_API_KEY",
        "OPENROUTER_BASE_URL",
        "KEY_ACME",
        "PYTHONWARNINGS",
        "DAGSTER_HOME",
        STORAGE_URL,
    ):
        monkeypatch.setenv(name, "")
    for name in ("DATABASE_URL", "HOME", "CONFIG", "MAPPING", "ALERT_URLS", "HEARTBEAT_URL", "UP"):
        monkeypatch.delenv(f"ORCOST_{name}", raising=False)
    with ExitStack() as held:
        it = Project(watched.acme, watched.webhook, held=held)
        it.configure()
        it.environment()
        it.acme.settings = it.settings()
        yield it


# Causes: each says how it is undone, or that it cannot be. What a message advises is how it is undone.

Undo = Callable[[], object]


def edited(name: str, text: str) -> Callable[[Project], Undo]:
    """A file of the project is edited."""

    def cause(project: Project) -> Undo:
        file = project.acme.settings.folder / name
        before = file.read_text(encoding="utf-8")
        project.write(name, before + text)
        return lambda: project.write(name, before)

    return cause


def mapped(text: str, undo: str = A_AND_REST) -> Callable[[Project], Undo]:
    """A mapping, in force since the next sync."""

    def cause(project: Project) -> Undo:
        project.write("company_mapping.csv", text)
        assert project.sync(minutes=10)
        return lambda: (project.write("company_mapping.csv", undo), project.sync(minutes=10))

    return cause


def keyless(project: Project) -> Undo:
    project.environment(KEY_ACME="")
    project.acme.clock.later(hours=3)
    return lambda: (project.environment(), project.sync())


def revoked(project: Project) -> Undo:
    assert not project.sync(Fault("401", times=None), minutes=50)
    return lambda: (project.acme.simulator.clear_faults(), project.sync(minutes=50))


def outage(project: Project) -> Undo:
    for _ in range(3):
        assert not project.sync(Fault("503", times=None), minutes=50)
        project.acme.simulator.clear_faults()
    return lambda: project.sync(minutes=10)


def nothing_syncs(project: Project) -> Undo:
    project.acme.clock.later(hours=3)
    return project.sync


def key_of_another_account(project: Project) -> Undo:
    ledger, now = project.acme.ledger, project.acme.clock.now
    globex = ledger.add_account("globex", credits_bought=Decimal(900))
    ledger.add_key("globex", "Other", now - 9 * DAY)
    project.environment(KEY_ACME=globex.management_key)
    assert not project.sync(minutes=50)
    return lambda: (project.environment(), project.sync(minutes=50))


def same_account_twice(project: Project) -> Undo:
    project.configure(accounts=ACME.format("acme", "KEY_ACME") + ACME.format("acme new", "KEY_ACME"))
    assert project.sync(minutes=50)
    assert not project.sync(account="acme new")
    return project.configure


def home_is_a_file(project: Project) -> Undo:
    project.write("home", "")
    project.environment(ORCOST_HOME="home")
    return project.environment


def clock_ahead(project: Project) -> Undo:
    there = project.acme.simulator
    there.clock = lambda: project.acme.clock.now - timedelta(minutes=26)
    assert not project.sync(minutes=50)
    there.clock = project.acme.clock
    return lambda: project.sync(minutes=10)


def clock_was_ahead(project: Project) -> Undo:
    there = project.acme.simulator
    there.options = replace(there.options, has_date=False)
    assert project.sync(hours=26)
    project.acme.clock.later(hours=-26)
    there.options = replace(there.options, has_date=True)
    return lambda: project.sync(minutes=10)


def spent(usd: str, **later: float) -> Callable[[Project], Undo]:
    """Spend of Company A; then credits are bought."""

    def cause(project: Project) -> Undo:
        project.acme.clock.later(minutes=10)
        project.acme.spend(usd)
        assert project.sync(**later)
        return lambda: (project.acme.ledger.buy_credits("acme", Decimal(9_000)), project.sync(minutes=50))

    return cause


def credits_run_out(project: Project) -> Undo:
    """First they are low. Only after a day without spend it is clear that the account is not billed by invoice."""
    project.configure('mute = ["spend_spike"]')
    undo = spent("300")(project)
    assert len(project.looks()) == 1
    spent("100")(project)
    assert project.looks() == [], "that there are none is no recovery"
    assert project.sync(days=1.5)
    return undo


def charged_in_euros(project: Project) -> Undo:
    project.write("companies.csv", "company,currency\nA,EUR\n")
    assert project.sync(minutes=10)

    def undo() -> None:
        project.write("exchange_rates.csv", "date,currency,per_usd\n2026-11-01,EUR,0.9\n")
        assert project.sync(minutes=10)

    return undo


def budget_of(usd: str) -> Callable[[Project], Undo]:
    """Company A has a budget and spends; then the budget is raised."""

    def cause(project: Project) -> Undo:
        project.write("companies.csv", f"company,monthly_budget_usd\nA,{usd}\n")
        project.acme.spend("100")
        assert project.sync(minutes=10)
        return lambda: (
            project.write("companies.csv", "company,monthly_budget_usd\nA,900\n"),
            project.sync(minutes=10),
        )

    return cause


def wrong_companies(project: Project) -> Undo:
    project.write("companies.csv", "company,monthly_budget_usd\nA,much\n")
    return lambda: project.write("companies.csv", "company,monthly_budget_usd\nA,900\n")


def wrong(name: str, text: str) -> Callable[[Project], Undo]:
    """A file that was not there is made, and is wrong."""

    def cause(project: Project) -> Undo:
        project.write(name, text)
        return (project.acme.settings.folder / name).unlink

    return cause


def spiked(project: Project) -> Undo:
    project.acme.spend("60")
    assert project.sync(minutes=10)
    assert project.sync(days=1.5)
    return lambda: project.sync(days=1)


def limited(limit_usd: str) -> Callable[[Project], Undo]:
    """Company B's key has a limit; then it is raised."""

    def cause(project: Project) -> Undo:
        ledger, clock = project.acme.ledger, project.acme.clock
        key = list(ledger.accounts["acme"].keys)[1]
        ledger.change("acme", key, clock.now, limit=Decimal(limit_usd), limit_reset="monthly")
        assert project.sync(minutes=10)
        return lambda: (ledger.change("acme", key, clock.now, limit=Decimal(900)), project.sync(minutes=10))

    return cause


def new_key(project: Project) -> Undo:
    project.write("company_mapping.csv", "company,match,pattern\nA,key_name,Company *\n")
    assert project.sync(minutes=10)
    project.acme.ledger.add_key("acme", "Trial", project.acme.clock.now)
    project.acme.clock.later(minutes=20)
    project.acme.spend("3", key=3)
    assert project.sync(minutes=10)
    return lambda: (project.write("company_mapping.csv", A_AND_REST), project.sync(minutes=10))


def refused(**options: int) -> Callable[[Project], Undo]:
    """OpenRouter refuses a listing."""

    def cause(project: Project) -> Undo:
        there = project.acme.simulator
        plain, there.options = there.options, replace(there.options, **options)
        assert project.sync(minutes=50)
        return lambda: (setattr(there, "options", plain), project.sync(minutes=50))

    return cause


def odd_field(project: Project) -> Undo:
    spoil(project.acme, "/keys", first_row("limit", {}))  # type: ignore[arg-type]
    assert project.sync(minutes=50)
    return lambda: (mend(project.acme), project.sync(minutes=50))  # type: ignore[arg-type]


def late_activity(project: Project) -> Undo:
    now, key = project.acme.clock.now, next(iter(project.acme.ledger.accounts["acme"].keys))
    usage = project.acme.ledger.hourly("acme", now - DAY * 40, now, now=now)
    one = next(it for it in usage.values() if it.credits_usd)
    project.acme.ledger.spend("acme", now - DAY, key, "openai/gpt-x", one, activity_from=now + 4 * DAY)
    for _ in range(3):
        assert project.sync(days=1)
    return lambda: project.sync(days=1.5, since=f"{now - DAY:%Y-%m-%d}")


def receiver_down(project: Project) -> Undo:
    assert project.held is not None
    down = project.held.enter_context(Webhook())
    down.status = 503
    project.environment(down)
    project.write("company_mapping.csv", "company,match,pattern\nA,nonsense,*\n")
    assert [it.title for it in project.looks(4)]
    return lambda: (setattr(down, "status", 200), project.acme.clock.later(minutes=10))


def unused(project: Project) -> Undo:
    project.configure('severity = "note"\nmute = ["mapping_doubtful"]')
    assert project.sync(days=32)
    return lambda: (project.acme.clock.later(minutes=10), project.acme.spend("1"), project.sync())


def removed(project: Project) -> Undo:
    project.configure('severity = "note"', ACME.format("other", "KEY_ACME"))
    return lambda: project.configure('severity = "note"')


def gone(project: Project) -> Undo:
    file: Path = project.acme.settings.mapping.path
    file.unlink()
    return lambda: project.write(file.name, A_AND_REST)


# Dagster's own tables


def served(project: Project) -> dg.DagsterInstance:
    """Dagster's storage in the warehouse's database, as `orcost up` makes it, and its daemons alive."""
    prepare(project.settings())
    assert project.held is not None
    project.acme.instance = project.held.enter_context(dg.DagsterInstance.get())
    beat(project, "SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR")
    return project.acme.instance


def beat(project: Project, *daemons: str) -> None:
    for it in daemons:
        now = project.acme.clock.now.timestamp()
        project.acme.instance.add_daemon_heartbeat(DaemonHeartbeat(now, it, "one", None))


def schedule_stopped(project: Project) -> Undo:
    instance = served(project)
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("orcost_pipeline"), "__repository__")
    origin, data = RemoteInstigatorOrigin(repository, "hourly_schedule"), ScheduleInstigatorData("5 * * * *")
    state = InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.DECLARED_IN_CODE, data)
    instance.add_instigator_state(state)
    instance.stop_schedule(state.instigator_origin_id, state.selector_id, None)
    return lambda: (
        beat(project, "SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR"),
        instance.update_instigator_state(state),
    )


def daemon_silent(project: Project) -> Undo:
    served(project)
    project.acme.clock.later(minutes=6)
    beat(project, "SENSOR", "QUEUED_RUN_COORDINATOR")
    return lambda: beat(project, "SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR")


def run_waits(status: dg.DagsterRunStatus, **tags: str) -> Callable[[Project], Undo]:
    def cause(project: Project) -> Undo:
        instance = served(project)
        tags_of_run = {"dagster/partition": "acme", **{name.replace("__", "/"): it for name, it in tags.items()}}
        run = instance.add_run(dagster_run(status=status, tags=tags_of_run))
        at = project.acme.clock.now - timedelta(minutes=11)
        with project.acme.engine.begin() as connection:
            # The storage dates it by the clock of the server.
            dated = "update dagster.runs set create_timestamp = :at, end_time = :seconds"
            connection.execute(sa.text(dated), {"at": at.replace(tzinfo=None), "seconds": at.timestamp()})
        return lambda: instance.delete_run(run.run_id)

    return cause


class Case(NamedTuple):
    """A code, its cause, and what the message must say: the pattern of its title, and a part of what to do."""

    code: Code
    cause: Callable[[Project], Undo]
    title: str
    todo: str


RETRY = run_waits(dg.DagsterRunStatus.FAILURE, dagster__will_retry="true")
A_ALONE = "company,match,pattern\nA,key_name,Company A\n"
CASES = {
    "field": Case(Code.SETTINGS, edited("orcost.toml", "severty = 1\n"), 'deployment: *"severty"; did *', "Correct it"),
    "mute": Case(
        Code.SETTINGS,
        edited("orcost.toml", 'mute = ["x"]\n'),
        "deployment: orcost.toml mutes unknown finding codes: x.*",
        "such as mapping_doubtful",
    ),
    "no key": Case(Code.NO_KEY, keyless, "acme: No key is configured: KEY_ACME is not set.", "KEY_ACME (.env)"),
    "revoked": Case(Code.INVALID_KEY, revoked, "acme: Invalid API key: *", "orcost init"),
    "other": Case(
        Code.OTHER_ACCOUNT, key_of_another_account, "acme: *another OpenRouter account: *", "Restore this account's key"
    ),
    "twice": Case(
        Code.ACCOUNT_TWICE, same_account_twice, 'acme new: *keys that account "acme" has*', "in orcost.toml;"
    ),
    "home": Case(Code.HOME_UNUSABLE, home_is_a_file, "deployment: ORCOST_HOME (*", "folder in ORCOST_HOME"),
    "clock": Case(Code.CLOCK_OFF, clock_ahead, "acme: *ahead of OpenRouter's: *", "Set the clock by NTP"),
    "future": Case(
        Code.CLOCK_OFF, clock_was_ahead, "acme: *2026-11-24 14:20 UTC, in the future*", "Set the clock by NTP"
    ),
    "no credits": Case(Code.NO_CREDITS, credits_run_out, "acme: No credits left (−11.75 USD): *", "Buy credits: "),
    "low": Case(Code.CREDITS_LOW, spent("300"), "acme: 88.25 USD of credits are left: 1 day, *", "Buy credits: "),
    "outage": Case(Code.STALE, outage, "acme: Costs are complete to *", "See status.openrouter.ai"),
    "no sync": Case(Code.STALE, nothing_syncs, "acme: Costs are complete to *", "See in Dagster"),
    "schedule": Case(
        Code.SCHEDULE_OFF, schedule_stopped, "deployment: hourly_schedule is switched off*", "Switch it on"
    ),
    "daemon": Case(Code.SCHEDULE_OFF, daemon_silent, "deployment: Dagster's daemon (SCHEDULER)*", "Restart orcost up"),
    "queue": Case(Code.SCHEDULE_OFF, run_waits(dg.DagsterRunStatus.QUEUED), "deployment: 1 run*", "Restart orcost up"),
    "retry": Case(Code.SCHEDULE_OFF, RETRY, "deployment: 1 run failed *", "Restart orcost up"),
    "mapping": Case(
        Code.MAPPING_WRONG,
        edited("company_mapping.csv", "B,nonsense,*\n"),
        "deployment: company_mapping.csv was refused; the mapping of 2026-11-23 stays active.",
        "Correct it; to check it: orcost map check /",
    ),
    "companies": Case(Code.MAPPING_WRONG, wrong_companies, "deployment: companies.csv was refused; *", "Correct it"),
    "plans": Case(
        Code.PLANS_WRONG,
        wrong("price_plans.csv", "company,charge,value\nA,markup_percent,much\n"),
        "deployment: price_plans.csv was refused; usage is charged at cost.",
        "Correct it; to check it: orcost plans check /",
    ),
    "rates": Case(
        Code.RATES_WRONG,
        wrong("exchange_rates.csv", "date,currency,per_usd\n2026-11-01,EUR,0\n"),
        "deployment: exchange_rates.csv was refused; the exchange rates stay as last read.",
        "Correct it",
    ),
    "no rate": Case(
        Code.RATE_MISSING,
        charged_in_euros,
        "deployment: There is no exchange rate of EUR: no statement can be made for A.",
        "Add a line with date, EUR and its units per USD to exchange_rates.csv",
    ),
    "gone": Case(Code.MAPPING_GONE, gone, "deployment: *company_mapping.csv is gone; the mapping of *", "Put it back"),
    "open": Case(
        Code.DAYS_OPEN, late_activity, "acme: *disagree about 2026-11-22.", "orcost sync --account acme --since"
    ),
    "odd": Case(Code.UNREADABLE_ROWS, odd_field, "acme: *left out: GET /keys: limit", "orcost sync --account acme"),
    "receiver": Case(
        Code.ALERT_UNDELIVERABLE, receiver_down, "deployment: JSON 2 takes no alerts*", "ORCOST_ALERT_URLS"
    ),
    "exceeded": Case(Code.BUDGET_EXCEEDED, budget_of("200"), "deployment: A spent 214.50 USD (107.3 %)*", "explain A;"),
    "at risk": Case(Code.BUDGET_AT_RISK, budget_of("230"), "deployment: A spent*month: 242.75 USD.", "explain A;"),
    "near": Case(Code.BUDGET_NEAR, budget_of("260"), "deployment: A spent 214.50 USD (82.5 %)*", "explain A;"),
    "spike": Case(
        Code.SPEND_SPIKE, spiked, "deployment: A spent 61.50 USD on 2026-11-23; *", "explain A --day 2026-11-23"
    ),
    "limit": Case(
        Code.KEY_LIMIT_NEAR, limited("120"), "acme: Key Company B (????????) has used 83.9 %*", "Raise the limit"
    ),
    "used up": Case(
        Code.KEY_LIMIT_NEAR, limited("100"), "acme: Key *OpenRouter refuses its requests*", "Raise the limit"
    ),
    "new key": Case(Code.KEY_UNASSIGNED, new_key, "acme: Key Trial (*it cost 3.00 USD*", 'orcost map add "COMPANY"'),
    "workspaces": Case(Code.WORKSPACES_UNKNOWN, refused(workspaces_status=403), "acme: *workspaces*", "orcost init"),
    "members": Case(Code.MEMBERS_UNKNOWN, refused(members_status=403), "acme: *members*", "orcost init"),
    "no rules": Case(
        Code.NO_MAPPING, mapped("company,match,pattern\n"), "deployment: There are no *", "orcost map add"
    ),
    "rest": Case(Code.UNATTRIBUTED, mapped(A_ALONE), "acme: 100.90 USD (90.3 %) and*", "orcost map todo"),
    "doubt": Case(
        Code.MAPPING_DOUBTFUL,
        edited("company_mapping.csv", "B,label,z\n"),
        "deployment: company_mapping.csv is valid, but *: line 3: label:z never wins*",
        "orcost map check /",
    ),
    "unused": Case(Code.NO_USAGE, unused, "acme: Costs show $0: *", "openrouter.ai/activity"),
    "removed": Case(
        Code.NOT_CONFIGURED, removed, "acme: This account is not configured here*", "add it to orcost.toml"
    ),
}


def test_every_finding_that_can_become_an_alert_has_a_cause_here() -> None:
    assert {it.code for it in CASES.values()} == set(Code) - NEVER - TRANSIENT | {Code.STALE}


@pytest.mark.parametrize("name", CASES)
def test_a_cause_is_one_message_that_says_what_to_do_and_one_when_it_is_undone(project: Project, name: str) -> None:
    case = CASES[name]
    undo = case.cause(project)
    (told,) = shown(name, project.looks())
    head, _, todo = told.message.partition("\n\nTo do: ")
    assert fnmatchcase(told.title, f"orcost: {case.title}")
    assert told.type in ("failure", "warning", "info")
    assert re.search(rf"\nSince 2026-1[01]-\d\d \d\d:\d\d UTC \({case.code}\)$", head)
    assert case.todo in todo
    assert todo.endswith(f"\n\n{UI}")
    undo()
    (resolved,) = shown(name, project.looks())
    who, _, what = told.title.removeprefix("orcost: ").partition(": ")
    assert resolved.type == "success"
    assert resolved.title.startswith(f"orcost: {who}: resolved: {what[:100]}")
    text = str((told, resolved))
    assert not [it for it in project.secrets() if it in text]


def shown(name: str, posted: list[Posted]) -> list[Posted]:
    """The same, printed for who reads it."""
    for it in posted:
        sys.stdout.write(f"\n#### {name} [{it.type}]\n{it.title}\n----\n{it.message}\n")
    return posted


# What is never sent


def keys_gone(project: Project) -> None:
    for it in project.acme.ledger.accounts["acme"].keys:
        project.acme.ledger.delete("acme", it, project.acme.clock.now)


def newly_keyed(project: Project) -> None:
    project.acme.ledger.add_key("acme", "Trial", project.acme.clock.now)


def ordinary(project: Project) -> None:
    ((_, key),) = next(iter(project.acme.ledger.accounts["acme"].keys.values()))
    project.environment(KEY_ACME=key.secret)


def migrated_by_a_newer_program(project: Project) -> None:
    execute(project.acme.engine, "update ops.schema_version set version_num = '9999'")


def other_database(prepare_it: Callable[[sa.Engine], None]) -> Callable[[Project], None]:
    """ORCOST_DATABASE_URL names another one, in which this was done."""

    def cause(project: Project) -> None:
        assert project.held is not None
        url = project.acme.engine.url.render_as_string(hide_password=False)
        other = project.held.enter_context(fresh_database(url, "template0"))
        engine = connect(other)
        prepare_it(engine)
        engine.dispose()
        project.environment(ORCOST_DATABASE_URL=other)
        project.acme.settings = project.settings()

    return cause


def not_ours(engine: sa.Engine) -> None:
    execute(engine, "create schema core create table mine ()")


def execute(engine: sa.Engine, statements: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statements)


@pytest.mark.parametrize(
    ("code", "cause", "reason"),
    [
        (Code.KEYS_MISSING, newly_keyed, None),
        (Code.NO_API_KEYS, keys_gone, None),
        (Code.ORDINARY_KEY, ordinary, None),
        (Code.SCHEMA_NEWER, migrated_by_a_newer_program, "is newer than this program's"),
        (Code.SCHEMAS_TAKEN, other_database(not_ours), "that are not orcost's: core"),
        (Code.SCHEMA_OLDER, other_database(lambda it: migrate(it, "0001")), None),
    ],
)
def test_what_is_never_sent_is_unknown_to_a_sensor_or_keeps_it_from_the_warehouse(
    project: Project, code: Code, cause: Callable[[Project], None], reason: str | None
) -> None:
    cause(project)
    assert code in NEVER
    assert code in {it.code for it in examine(project.settings(), free_port(), project.acme.clock)}
    if reason:
        with pytest.raises(PermanentError, match=reason):
            project.look()
    else:
        told = project.looks()
        assert not [it for it in told if f"({code})" in it.message]
    assert (code in {it.code for it in examine(project.settings(), free_port(), project.acme.clock)}) == (
        code is not Code.SCHEMA_OLDER
    ), "the sensor migrates"
