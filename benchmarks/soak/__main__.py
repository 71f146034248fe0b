"""A year of hours in miniature: `python -m benchmarks.soak [--ticks 60] [--seed N]`.

A real `orcost up` (embedded Postgres, two simulated accounts on a real port, a webhook, a heartbeat) lives through one
random fault an hour, while usage goes on, shows late and is restated. The hours are shortened, and nothing else: a tick
shifts the wall clock of the deployment and of the simulator (`shifted_clock.c`) to a moment before the schedule's next
hour as soon as the runs of the last one have ended. Dagster's waits, its schedule's evaluation once a minute and every
time-out last as long as ever, so that a tick takes a minute at least. Postgres keeps the machine's clock, and the soak
lies in the past, so that what Postgres dates itself is not older than what the deployment does. No hour ends while a
run is active: a run never sees the clock jump. Daemons do, and look silent for a moment: `schedule_off` is muted.

Prints a line for each tick, then what was checked; exits 1 where something is wrong. Needs Linux and a C compiler; the
full disk needs the right to mount one.
"""

import argparse
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from datetime import datetime

from benchmarks.soak.deployment import ACCOUNTS, Soak, UnreachableError, soaking
from benchmarks.soak.faults import FAULTS, QUIET, SecondDeploymentError
from benchmarks.soak.verdict import Tick, checks, is_settled
from orcost_pipeline_tests.processes import eventually

# Seconds: a killed run is closed within two minutes and started anew; a failed one stays as it is for so long.
PATIENCE, CALM = 420.0, 70.0
# Hours: usage shows up to three hours late.
LAST_JUMP = 6

_OF_HOUR = "select account, status from ops.sync_run where started_at >= :since order by started_at"
_UP_TO_DATE = "select count(*) from ref.account where as_of >= :hour"


def main() -> None:
    given = _arguments()
    if sys.platform != "linux" or not shutil.which("cc"):
        sys.exit("The soak needs Linux and a C compiler.")
    # Whoever stops it leaves no server behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = given.faults.split(",") if given.faults else []
    hours = (len(chosen) or given.ticks) + LAST_JUMP + 2
    with soaking(hours, given.seed) as soak:
        faults = chosen or _random_faults(given.ticks, given.seed, soak)
        print(f"{'tick':>4}  {'hour':16}  {'fault':18} {'outcome':44} {'s':>5}", flush=True)
        wrong: list[str] = []
        ticks: list[Tick] = []
        for number, fault in enumerate([QUIET, *faults, QUIET]):
            is_last = number > len(faults)
            ticks.append(_tick(soak, number, fault, wrong, hours=LAST_JUMP if is_last else 1))
            _print(ticks[-1])
        wrong += _verdict(soak, ticks)
        if wrong:
            _keep_logs(soak)
    print("\n".join(["", *wrong]) if wrong else "\nAll is well.")
    sys.exit(1 if wrong else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="A year of hours in miniature.")
    parser.add_argument("--ticks", type=int, default=60, help="hours with a fault (60)")
    parser.add_argument("--seed", type=int, default=1, help="of faults and spend (1)")
    parser.add_argument("--faults", help=f"these instead, separated by commas: {', '.join(FAULTS)}")
    return parser.parse_args()


def _random_faults(ticks: int, seed: int, soak: Soak) -> list[str]:
    """Each kind once in random order, then all of them anew."""
    kinds = [it for it in FAULTS if it != QUIET and (it != "disk_full" or soak.has_own_disk)]
    if not soak.has_own_disk:
        print("disk_full is skipped: this user may not mount a disk.")
    chance = random.Random(seed)
    return [it for _ in range(-(-ticks // len(kinds))) for it in chance.sample(kinds, len(kinds))][:ticks]


def _tick(soak: Soak, number: int, fault: str, wrong: list[str], *, hours: int) -> Tick:
    """One hour with its fault; what went wrong at once is added to `wrong`."""
    begun, before = time.monotonic(), len(soak.webhook.posted)
    hour = soak.advance(hours)
    since, detail = soak.clock.now(), ""
    try:
        with FAULTS[fault](soak) as detail:
            outcome = _settle(soak, hour, since)
        if not eventually(soak.is_idle, PATIENCE):
            wrong.append(f"tick {number}: a run does not end")
    except (SecondDeploymentError, UnreachableError) as error:
        outcome = "failed"
        wrong.append(f"tick {number}: {error}")
    if (code := soak.up.process.poll()) is not None:
        wrong.append(f"tick {number}: orcost up ended ({code}): {soak.up.told()}")
        soak.start()
    messages = len(soak.webhook.posted) - before
    return Tick(number, hour, fault, detail, outcome, time.monotonic() - begun, messages)


def _settle(soak: Soak, hour: datetime, since: datetime) -> str:
    """Waits until the hour is published, or its runs have failed for good; returns which."""
    deadline, calm, last = time.monotonic() + PATIENCE, time.monotonic(), None
    while time.monotonic() < deadline:
        try:
            state = [*soak.rows(_OF_HOUR, since=since)]
            is_published = soak.value(_UP_TO_DATE, hour=hour) == len(ACCOUNTS)
        except UnreachableError:
            state, is_published = [], False
        if is_published and soak.is_idle():
            return _told("synced", state)
        if state != last or not soak.is_idle():
            calm, last = time.monotonic(), state
        if {account for account, _ in state} == {*ACCOUNTS} and time.monotonic() - calm > CALM:
            return _told("left to the next hour", state)
        if soak.up.process.poll() is not None:
            return "orcost up ended"
        time.sleep(0.5)
    return _told("nothing in time", last or [])


def _told(what: str, runs: Sequence[tuple[str, str]]) -> str:
    lost = [f"{account} {status}" for account, status in runs if status != "succeeded"]
    return f"{what} ({', '.join(lost)})" if lost else what


def _print(tick: Tick) -> None:
    outcome = f"{tick.detail}: {tick.outcome}" if tick.detail else tick.outcome
    print(
        f"{tick.number:>4}  {tick.hour:%Y-%m-%d %H:%M}  {tick.fault:18} {outcome:44} {tick.seconds:>5.0f}", flush=True
    )


def _verdict(soak: Soak, ticks: Sequence[Tick]) -> list[str]:
    """Prints what was checked, after the last recoveries were sent; returns what is wrong."""
    wrong: list[str] = []
    if not eventually(lambda: is_settled(soak), PATIENCE):
        wrong.append("alerts are neither sent nor resolved")
    print()
    for check in checks(soak, ticks):
        print(f"{'✗' if check.wrong else '✓'} {check.name:18} {check.found}")
        wrong += [f"{check.name}: {it}" for it in check.wrong]
    if (code := soak.stop()) != 0:
        wrong.append(f"orcost up ended with {code}: {soak.up.told()}")
    return wrong


def _keep_logs(soak: Soak) -> None:
    """Copies the logs of the deployment, which is about to be gone."""
    kept = soak.folder.with_name(f"{soak.folder.name}-logs")
    shutil.copytree(soak.home / "logs", kept, dirs_exist_ok=True)
    shutil.copy(soak.folder / "told", kept)
    print(f"Logs: {kept}")


if __name__ == "__main__":
    main()
