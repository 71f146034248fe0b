"""`orcost sync` and `orcost demo`: the commands that run Dagster in their own process."""

import os
import re
import shlex
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from datetime import UTC, date, datetime
from importlib import resources
from pathlib import Path

import dagster as dg
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from orcost_pipeline.cli.rendering import LONGEST_CELL, tell
from orcost_pipeline.companies.mapping import MappingError
from orcost_pipeline.deployment import orcost_up
from orcost_pipeline.deployment.dagster_home import keep_connections, prepare
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.formats import clock, rounded, share
from orcost_pipeline.settings import DEMO, DEMO_MARK, Settings, load_settings
from orcost_pipeline.sync.mapping_source import read_source, warnings_of
from orcost_pipeline.sync.plans import plan_warnings
from orcost_pipeline.text import few, short
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.access import configured_url, database_snapshot, snapshot
from orcost_pipeline.warehouse.failures import database_errors, failure_named
from orcost_pipeline.warehouse.home import require_home
from orcost_pipeline.warehouse.opening import database_url, open_warehouse
from orcost_pipeline.warehouse.questions.accounts import account_states, outdated_accounts
from orcost_pipeline.warehouse.questions.health import RecentSpend, recent_spend
from orcost_pipeline.warehouse.questions.syncs import run_problems

_STEPS = {
    "raw__account": "account and credits",
    "raw__workspace": "workspaces",
    "raw__organization_member": "members",
    "raw__api_key": "API keys",
    "raw__model": "model prices",
    "raw_usage": "usage by hour and day",
    "ref__company_mapping": "company mapping",
    "publish": "costs by company",
}


def sync(settings: Settings, account: str | None, since: date | None) -> int:
    """Syncs each account once, as Dagster runs in this process; returns 0 only if everything was synced.

    In the folder of the demo, its account is simulated for as long as that takes.
    """
    names = [settings.account(account).name] if account else [configured.name for configured in settings.accounts]
    console = Console(stderr=True, highlight=False)
    if settings.is_demo:
        with _demo_account(settings.home) as of_demo:
            return sync_accounts(of_demo, names, since, console)
    return sync_accounts(settings, names, since, console)


def sync_accounts(settings: Settings, names: list[str], since: date | None, console: Console) -> int:
    """Syncs the accounts one after another and prints problems; returns the exit code.

    0 for success, 1 for problems, 130 after Ctrl-C or SIGTERM. Raises PermanentError where the home is not writable.
    """
    require_home(settings.home)
    with terminated_as_interrupted():
        try:
            with database_errors():
                return _sync_accounts(settings, names, since, console)
        except KeyboardInterrupt:
            console.print("Stopped. Nothing was lost; go on with: orcost sync", style="red")
            return 130


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Handles SIGTERM like Ctrl-C, so that everything open is closed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sync_accounts(settings: Settings, names: list[str], since: date | None, console: Console) -> int:
    with console.status("Opening the database …"):
        log_file = prepare(settings)
    with quiet(log_file, console), dg.DagsterInstance.get() as instance:
        keep_connections(instance)
        close_dead_runs(settings, instance)
        problems = []
        for name in names:
            account_problems = sync_account(settings, instance, name, since, console)
            problems += account_problems
            if not account_problems:
                # Everything is synced, even if the database cannot be read at this moment.
                with suppress(OrcostError):
                    tell(console, _standing(settings, name), style="dim")
    for warning in few([*mapping_warnings(settings), *_plan_warnings(settings)]):
        tell(console, warning, style="yellow")
    # A wrong mapping is noted by the run of every account, and printed once.
    for problem in dict.fromkeys(problems):
        tell(console, problem, style="red")
    if problems:
        tell(console, f"Dagster's log: {log_file}", style="dim")
    return 1 if problems else 0


def _standing(settings: Settings, account: str) -> str:
    """The state of an account after a successful sync: completeness, spend of 30 days in USD, unattributed part."""
    with snapshot(settings) as connection:
        states = (it.synced() for it in account_states(connection) if it.account == account)
        (known,) = filter(None, states)
        spend = recent_spend(connection).get(account, RecentSpend())
    text = f"Complete to {clock(known.as_of, datetime.now(UTC))} · {rounded(spend.spend_30d_usd, 2)} USD in 30 days"
    if spend.spend_30d_usd:
        text += f", {share(spend.unattributed_30d_usd, spend.spend_30d_usd)} unattributed"
    return text


@contextmanager
def quiet(log_file: Path, console: Console) -> Iterator[None]:
    """Redirects stderr, and with it Dagster's stacks about its storage, to the log; the console keeps its stream."""
    console.file = console.file  # fixes the stream that it writes to now
    with log_file.open("a", encoding="utf-8") as log, redirect_stderr(log):
        yield


def close_dead_runs(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Closes runs of killed syncs, which would block the daemon's runs of their accounts."""
    from orcost_pipeline.defs import dead_runs

    engine = open_warehouse(configured_url(settings), settings.home)
    dead_runs.close_dead_runs(instance, engine, datetime.now(UTC))
    engine.dispose()


def mapping_warnings(settings: Settings) -> list[str]:
    """Warnings about a valid mapping; empty for an invalid one, which the runs report."""
    try:
        mapping = read_source(settings, lambda: database_snapshot(settings))
    except (OrcostError, MappingError):
        return []
    return [f"{mapping.source}, {warning}" for warning in warnings_of(settings, mapping)]


def _plan_warnings(settings: Settings) -> list[str]:
    """Warnings about the price plans; none where the database cannot be read."""
    try:
        with snapshot(settings) as connection:
            return plan_warnings(settings, connection, lambda: database_snapshot(settings), datetime.now(UTC))
    except OrcostError:
        return []


def sync_account(
    settings: Settings, instance: dg.DagsterInstance, account: str, since: date | None, console: Console
) -> list[str]:
    """Runs hourly_sync for one account; returns the problems as messages, none for a success."""
    from orcost_pipeline.defs.automation import HOURLY_SYNC, run_request

    first = (
        ""
        if is_synced(settings, account)
        else " for the first time: everything that OpenRouter reports (up to a year by day, 31 days by hour)"
    )
    tell(console, f'Syncing account "{account}"{first}')
    try:
        # Dagster's storage is in the same database: in a long outage, Dagster itself fails.
        with database_errors():
            request = run_request(account, since=since.isoformat() if since else None)
            result = _run(settings, instance, HOURLY_SYNC, request, console)
            problems = problems_of(settings, result)
            if not result.success:
                # What failed is told already; the next sync tries this again.
                with suppress(OrcostError), database_errors():
                    _attribute_stored(settings, instance, account, console)
            return problems
    except OrcostError as error:
        return [str(error)]


def _attribute_stored(settings: Settings, instance: dg.DagsterInstance, account: str, console: Console) -> None:
    """After a sync that failed: attributes and charges what is stored, if the mapping or price plans were edited."""
    from orcost_pipeline.defs.automation import reattribution
    from orcost_pipeline.defs.resources import REATTRIBUTE

    with snapshot(settings) as connection:
        if account not in outdated_accounts(connection):
            return
    result = _run(settings, instance, REATTRIBUTE, reattribution(account), console)
    problems_of(settings, result)  # raises where that was stopped
    if result.success:
        tell(console, "What is stored is now attributed and charged by the edited mapping and price plans.")


def is_synced(settings: Settings, account: str) -> bool:
    """Whether the account was synced before; True where the database cannot be read, which the run will report."""
    try:
        with snapshot(settings) as connection:
            return any(known.account == account and known.as_of for known in account_states(connection))
    except OrcostError:
        return True


def _run(
    settings: Settings, instance: dg.DagsterInstance, job: str, request: dg.RunRequest, console: Console
) -> dg.ExecuteInProcessResult:
    from orcost_pipeline.definitions import build_defs

    run_id = str(uuid.uuid4())
    with shown_steps(console) as show:
        instance.add_event_listener(run_id, show)
        return (
            build_defs(settings)
            .resolve_job_def(job)
            .execute_in_process(
                run_id=run_id,
                instance=instance,
                partition_key=request.partition_key,
                tags=request.tags,
                # Dagster's own lines go to the log file; messages for people are printed here.
                run_config={**request.run_config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
        )


def problems_of(settings: Settings, result: dg.ExecuteInProcessResult) -> list[str]:
    """The problems that the run noted, and the first error that Dagster saw.

    Raises KeyboardInterrupt where that stopped the run.
    """
    failures = [event for event in result.all_events if event.is_failure]
    is_stopped = any(_is_interrupt(event) for event in failures)
    failure = runs.STOPPED if is_stopped else next((_sentence(event) for event in failures), "The run failed.")
    engine = open_warehouse(configured_url(settings), settings.home)
    if not result.success:
        runs.close_run(engine, result.run_id, "failed", failure, datetime.now(UTC))
    noted = list(run_problems(engine, [result.run_id]))
    engine.dispose()
    if is_stopped:
        raise KeyboardInterrupt
    return noted if result.success else list(dict.fromkeys([*noted, failure]))


def _is_interrupt(event: dg.DagsterEvent) -> bool:
    error = getattr(event.event_specific_data, "error", None)
    return error is not None and error.cls_name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt")


def _sentence(event: dg.DagsterEvent) -> str:
    """The failure of a step in one sentence: its own description, or the innermost cause without its stack."""
    ours = getattr(event.event_specific_data, "user_failure_data", None)
    if ours is not None and ours.description:
        return str(ours.description)
    error = getattr(event.event_specific_data, "error", None)
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return str(event.message)
    # Dagster's own storage failures are failures of the database too.
    text = re.sub(r"^[\w.]+: ", "", error.message.strip())
    return str(failure_named(error.cls_name or "", text) or text.partition("\n")[0])


@contextmanager
def shown_steps(console: Console) -> Iterator[Callable[[dg.EventLogEntry], None]]:
    """Prints a line per finished step with its seconds; on a terminal, also a spinner for the running one.

    Yields the listener for Dagster's events.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=None)

        def show(entry: dg.EventLogEntry) -> None:
            event = entry.dagster_event
            if event is None and entry.step_key is not None:
                # A step's own message about its progress.
                progress.update(task, description=short(entry.user_message, LONGEST_CELL))
            if event is None or event.step_key is None:
                return
            name = _STEPS.get(event.step_key, event.step_key)
            if event.event_type == dg.DagsterEventType.STEP_START:
                progress.reset(task, description=name)
            elif event.is_step_success:
                seconds = event.step_success_data.duration_ms / 1000
                console.print(f"  [green]✓[/green] {name:<24} {seconds:6.1f} s", markup=True)
            elif event.is_step_failure:
                console.print(f"  [red]✗[/red] {name}", markup=True)

        yield show


def demo(once: bool, port: int) -> int:
    """Syncs a simulated account into its own database under ORCOST_HOME/demo; returns the exit code.

    With `once` prints a report and ends, otherwise serves Dagster on `port`.
    """
    console = Console(stderr=True, highlight=False)
    home = demo_home(load_settings())
    require_home(home)
    with ExitStack() as stack:
        reserved = None if once else stack.enter_context(orcost_up.reserved(home, port))
        settings = stack.enter_context(_demo_account(home))
        code = sync_accounts(settings, ["default"], None, console)
        if code == 0:
            _show_report(settings)
            if reserved is None:
                tell(console, _what_next(settings))
            else:
                orcost_up.serve(settings, reserved, f"ORCOST_HOME={shlex.quote(str(home))} orcost db stop")
        return code


@contextmanager
def _demo_account(home: Path) -> Iterator[Settings]:
    """Simulates the demo's account, and makes its folder the project; yields the settings."""
    from orcost_pipeline.simulator import Options, Simulator, serve
    from orcost_pipeline.simulator import demo as demo_ledger

    ledger = demo_ledger(datetime.now(UTC))
    with serve(Simulator(ledger, options=Options.live())) as base_url:
        _become_demo(home, base_url, next(iter(ledger.accounts.values())).management_key)
        yield load_settings()


def demo_home(settings: Settings) -> Path:
    """The demo's home, also if the command runs inside it."""
    return settings.home if settings.is_demo else settings.home / DEMO


def _what_next(settings: Settings) -> str:
    url = database_url(configured_url(settings), settings.home)
    command = "orcost" if shutil.which("orcost") else str(Path(sys.executable).with_name("orcost"))
    return f"""
This was a simulated account: nothing left this machine. What next:
  cd {shlex.quote(str(settings.folder))}
      explore the demo there: orcost map suggest, orcost report --by key, orcost explain "Company A"
  {command} demo
      Dagster's UI over the same data, with the hourly schedule running
  psql "{url}"
      the tables, from any SQL client
  {command} init
      your own costs, in a folder of your own; then orcost sync and orcost report"""


def _become_demo(home: Path, base_url: str, key: str) -> None:
    """Sets the environment of this process and its children to the simulator and the demo's own database."""
    home.mkdir(parents=True, exist_ok=True)
    mapping = home / "company_mapping.csv"
    if not mapping.exists():
        mapping.write_bytes((resources.files("orcost_pipeline.simulator") / "demo_mapping.csv").read_bytes())
    # So that commands run in this folder use the demo, and no project above it.
    (home / DEMO_MARK).touch()
    (home / ".env").write_text(f"ORCOST_HOME={shlex.quote(str(home))}\n", encoding="utf-8")
    os.chdir(home)
    # Nor does a simulated account reach anybody's alerts.
    for name in ("ORCOST_DATABASE_URL", "ORCOST_CONFIG", "ORCOST_ALERT_URLS", "ORCOST_HEARTBEAT_URL"):
        os.environ.pop(name, None)
    os.environ |= {
        "OPENROUTER_API_KEY": key,
        "OPENROUTER_BASE_URL": base_url,
        "ORCOST_HOME": str(home),
        "ORCOST_MAPPING": str(mapping),
    }


def _show_report(settings: Settings) -> None:
    from orcost_pipeline.cli.report import show

    show(settings)
