"""What a sync is measured beside: programs whose memory and time are told, and a client that asks key by key."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.dlt_pipeline import sequential
from benchmarks.processes import run
from orcost_pipeline.simulator import Simulator, scale, serve
from orcost_pipeline_tests.world import query


def test_the_memory_of_a_program_is_its_own_and_not_that_of_who_starts_it(tmp_path: Path) -> None:
    ended = run([sys.executable, "-c", "print(len(bytearray(30_000_000))); raise SystemExit(3)"], tmp_path, os.environ)
    assert (ended.code, ended.output) == (3, "30000000\n")
    assert 30 < ended.memory_mb < 60  # this process has several times as much


def test_a_program_is_killed_when_its_time_is_over(tmp_path: Path) -> None:
    ended = run(["sleep", "60"], tmp_path, os.environ, kill_after=0.1)
    assert ended.code == -9
    assert ended.seconds < 10


def test_the_sequential_client_stores_what_was_spent_and_asks_each_key_again(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    ledger = scale(now, keys=6, active_keys=2, days=2)
    name, account = next(iter(ledger.accounts.items()))
    simulator = Simulator(ledger, lambda: now)
    with serve(simulator) as url:
        monkeypatch.setenv("OPENROUTER_API_KEY", account.management_key)
        monkeypatch.setenv("OPENROUTER_BASE_URL", url)
        monkeypatch.setenv("ORCOST_DATABASE_URL", engine.url.set(drivername="postgresql").render_as_string(False))
        monkeypatch.setattr(sys, "argv", ["sequential", "3"])
        for _ in range(2):
            simulator.forget_requests()
            sequential.main()
            assert len(simulator.asked("/analytics")) == 6
            stored = query(engine, "select sum(credits_usd), count(*) from by_client.usage_hourly")
            spent = ledger.hourly(name, now - timedelta(days=3), now, now=now)
            assert stored == [(sum(it.credits_usd for it in spent.values()), len(spent))]
