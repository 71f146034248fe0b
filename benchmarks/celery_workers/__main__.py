"""Runs of 40 accounts on Celery workers: `python -m benchmarks.celery_workers [--accounts 40] [--workers 4]`.

The services of deploy/celery on this machine: RabbitMQ, the embedded Postgres, code server, daemon and workers, each a
process, and a simulated OpenRouter whose every answer takes 80 ms. Every account's first load; then a run's process,
and a whole worker, are killed in the middle (`kill -9`); then an hour of all accounts by four workers, and by one.
After each, every hour and day of every account is compared with the simulator's, and no two runs of one account may
have run at once.

Needs RabbitMQ (Debian: rabbitmq-server). The extra `celery` is installed below `.venv` where it is not there.
"""

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median

from benchmarks.celery_workers import figures
from benchmarks.celery_workers.broker import program
from benchmarks.celery_workers.deployment import Workers, deployed
from benchmarks.celery_workers.programs import installed_programs

# A run in the middle: it has read something, and published nothing.
_IN_THE_MIDDLE = (
    "select run_id, account from ops.sync_run join raw.extracted using (run_id, account) "
    "where status = 'running' and request_id = any(:requests) group by 1, 2 having count(*) >= 3 limit 1"
)
_PROCESS = (
    "select (regexp_match(event, 'Started process for run \\(pid: (\\d+)\\)'))[1]::int from dagster.event_logs "
    "where run_id = :run_id and event like '%Started process for run%'"
)
_OF_ACCOUNT = "select status from ops.sync_run where account = :account and request_id = :request order by started_at"


def main() -> None:
    given = _arguments()
    if program() is None or sys.platform != "linux":
        sys.exit("This needs Linux and RabbitMQ (Debian: rabbitmq-server).")
    # Whoever stops it leaves no server behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chance = random.Random(given.seed)
    with deployed(installed_programs(), given.accounts, given.latency_ms / 1000) as running:
        running.start_workers(given.workers)
        Hour(running, "first load", given.workers).report()
        for name, kill in KILLS.items():
            killed(running, chance, name, kill, 2 * given.workers)
            running.replace_workers(given.workers)
        several = _hour(running, chance, given.workers)
        running.replace_workers(1)
        one = _hour(running, chance, 1)
        print(f"{given.workers} workers beside one: {one.seconds / several.seconds:.2f} times as fast")
        print(f"at most {figures.most_at_once(running)} runs at once, and never two of one account")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.celery_workers", description="Runs on Celery workers.")
    parser.add_argument("--accounts", type=int, default=40)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--latency-ms", type=float, default=80.0, help="of each answer of the simulated OpenRouter")
    parser.add_argument("--seed", type=int, default=7, help="of what is spent")
    return parser.parse_args()


def _hour(running: Workers, chance: random.Random, workers: int) -> "Hour":
    running.spend(chance, running.accounts)
    hour = Hour(running, "an hour", workers)
    hour.report()
    return hour


class Hour:
    """One sync of every account, from the request to the end of the last."""

    def __init__(self, running: Workers, name: str, workers: int) -> None:
        self._running, self._name, self._workers = running, name, workers
        running.simulator.forget_requests()
        self._connections = -figures.connections_opened(running)
        before, started = figures.cpu_by_service(running), time.monotonic()
        self._request = running.request()
        running.wait(running.has_ended, "the syncs do not end")
        self.seconds = time.monotonic() - started
        self._asked = [it.path for it in running.simulator.requests]
        self._connections += figures.connections_opened(running)
        after = figures.cpu_by_service(running)
        self._cpu: Mapping[str, float] = {it: after[it] - before[it] for it in after}

    def report(self) -> None:
        accounts, seconds = len(self._running.accounts), figures.took(self._running, self._request)
        assert len(seconds) == accounts, f"{accounts - len(seconds)} accounts were not synced"
        print(
            f"{self._name}, {self._workers} worker{'s' if self._workers > 1 else ''}: {self.seconds:.0f} s for "
            f"{accounts} accounts, a sync {median(seconds):.1f} s (median), load {os.getloadavg()[0]:.1f}"
        )
        analytics = sum("analytics" in path for path in self._asked)
        print(
            f"  requests of a sync: {len(self._asked) / accounts:.1f}, {analytics / accounts:.1f} of them to analytics"
        )
        queued_every = figures.queued_every(self._running, self._request)
        connections = self._connections / accounts
        print(
            f"  connections to Postgres of a sync: {connections:.0f}; the daemon queued one every {queued_every:.2f} s"
        )
        shares = ", ".join(f"{name} {used / accounts:.2f}" for name, used in self._cpu.items())
        print(f"  CPU seconds of a sync: {sum(self._cpu.values()) / accounts:.2f} ({shares})")
        print(f"  {figures.assert_true(self._running)}", flush=True)


def kill_run(running: Workers, pid: int) -> None:
    """The process of a run alone: its worker lives on."""
    os.kill(pid, signal.SIGKILL)


def kill_worker(running: Workers, pid: int) -> None:
    """The worker with all its processes, as where its machine is gone."""
    leader = os.getpgid(pid)
    assert leader in {one.pid for one in running.celery}
    os.killpg(leader, signal.SIGKILL)


KILLS: dict[str, Callable[[Workers, int], None]] = {"the process of a run": kill_run, "a worker": kill_worker}


def killed(
    running: Workers, chance: random.Random, name: str, kill: Callable[[Workers, int], None], accounts: int
) -> None:
    """Syncs so many accounts, kills something in the middle of one, and asks for that account once more meanwhile."""
    asked = running.accounts[:accounts]
    running.spend(chance, asked)
    started = time.monotonic()
    requests = {account: running.request(account) for account in asked}
    in_the_middle = lambda: running.rows(_IN_THE_MIDDLE, requests=[*requests.values()])  # noqa: E731
    running.wait(lambda: bool(in_the_middle()), "no run is in the middle")
    run_id, account = in_the_middle()[0]
    kill(running, running.value(_PROCESS, run_id=run_id))
    at = time.monotonic()
    again = running.request(account)
    of_account = lambda: running.rows(_OF_ACCOUNT, account=account, request=requests[account])  # noqa: E731
    running.wait(lambda: len(of_account()) > 1, "the killed run is not started anew")
    waited = time.monotonic() - at
    running.wait(running.has_ended, "the syncs do not end")
    states = [row.status for row in of_account()]
    assert states == ["abandoned", "succeeded"], states
    for request in (*requests.values(), again):
        assert running.value("select status from ops.sync_request where id = :id", id=request) == "succeeded"
    print(
        f"kill -9 of {name} in the sync of {account}: started anew after {waited:.0f} s, "
        f"{len(requests)} accounts synced after {time.monotonic() - started:.0f} s"
    )
    print(f"  {figures.assert_true(running)}", flush=True)


if __name__ == "__main__":
    main()
