"""Histories of weeks, lived by the installed command line: a real server, a real Postgres, and a wall clock that jumps.

Nothing of the pipeline is imported here: `orcost` runs as its users run it, and what it prints is compared with what
was spent.
"""

import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orcost_pipeline.simulator import Ledger, Simulator, Usage, serve
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline_tests.conftest import fresh_database

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler"),
]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ORCOST = Path(sys.executable).with_name("orcost")
MAPPING = "company,match,pattern\nCompany A,key_name,A*\nCompany B,key_name,B*\n"


class Clock:
    """The wall clock of the server and of every command."""

    def __init__(self, folder: Path, start: datetime) -> None:
        source, self._library = Path(__file__).with_name("shifted_clock.c"), folder / "shifted_clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self._library, source, "-ldl"], check=True)
        self._file = folder / "shift"
        self._file.write_bytes(struct.pack("q", 0))
        with self._file.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)
        self.shift = start - datetime.now(UTC)
        self.advance(timedelta(0))

    def advance(self, span: timedelta) -> None:
        self.shift += span
        self._memory[:] = struct.pack("q", int(self.shift.total_seconds()))

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=int(self.shift.total_seconds()))

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "SHIFTED_CLOCK": str(self._file)}


@dataclass
class Life:
    """An account, what its companies spent in truth, and the commands that find it out."""

    folder: Path
    clock: Clock
    ledger: Ledger
    environment: dict[str, str]
    spent: dict[tuple[str, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    keys: dict[str, str] = field(default_factory=dict)

    def make(self, name: str, **fields: Any) -> str:
        self.keys[name] = self.ledger.add_key("acme", name, self.clock.now(), **fields)
        return self.keys[name]

    def spend(self, name: str | None, amount: str, ago: timedelta = timedelta(0)) -> None:
        """By the key of that name, or in the chat room; noted by company and month."""
        at = self.clock.now() - ago
        company = f"Company {name[0]}" if name else "Unattributed"
        self.spent[company, f"{at:%Y-%m}"] += Decimal(amount)
        key = self.keys[name] if name else None
        self.ledger.spend("acme", at, key, (GPT, CLAUDE)[len(amount) % 2], Usage(1, 100, 10, 0, 0, Decimal(amount)))

    def orcost(self, *arguments: str) -> str:
        told = subprocess.run(
            [ORCOST, *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert told.returncode == 0, f"{arguments}: {told.stdout}{told.stderr}"
        return told.stdout

    def sync(self) -> None:
        self.orcost("sync")

    def assert_is_true(self) -> None:
        """Each company and month, and no day open."""
        for month in {month for _, month in self.spent}:
            rows = json.loads(self.orcost("report", "--month", month, "--format", "json"))
            told = {row["company"]: Decimal(row["credits_usd"]) for row in rows if Decimal(row["credits_usd"])}
            assert told == {company: usd for (company, when), usd in self.spent.items() if when == month and usd}, month
        days = json.loads(self.orcost("reconcile", "--format", "json"))
        assert {day["status"] for day in days} <= {"closed", "explained"}
        assert days[-1]["day"] == f"{self.clock.now():%Y-%m-%d}"


@contextmanager
def life(folder: Path, postgres_url: str, start: datetime) -> Iterator[Life]:
    """An account with two keys, `A one` and `B one`, made an hour ago."""
    clock = Clock(folder, start)
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(1000))
    simulator = Simulator(ledger, clock.now)
    (folder / "company_mapping.csv").write_text(MAPPING, encoding="utf-8")
    with fresh_database(postgres_url) as url, serve(simulator) as base_url:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "ORCOST_DATABASE_URL": url.replace("postgresql+psycopg://", "postgresql://"),
            "OPENROUTER_BASE_URL": base_url,
            "OPENROUTER_API_KEY": ledger.accounts["acme"].management_key,
            **clock.environment,
        }
        lived = Life(folder, clock, ledger, environment)
        for name in ("A one", "B one"):
            lived.make(name)
        clock.advance(HOUR)
        yield lived


def test_a_month_ends_on_a_leap_day(tmp_path: Path, postgres_url: str) -> None:
    """Hour by hour over midnight from 29 February, with spend on either side of it."""
    with life(tmp_path, postgres_url, datetime(2028, 2, 28, 20, 50, tzinfo=UTC)) as lived:
        for number in range(7):
            lived.spend("A one", f"1.{number}00000001")
            lived.spend("B one", "0.25", ago=timedelta(minutes=20))
            lived.sync()
            lived.clock.advance(5 * HOUR if number % 2 else 4 * HOUR)
        lived.clock.advance(DAY)
        lived.spend(None, "0.5")
        lived.sync()
        lived.assert_is_true()
        assert {month for _, month in lived.spent} == {"2028-02", "2028-03"}


def test_keys_are_renamed_rotated_and_deleted_while_days_pass(tmp_path: Path, postgres_url: str) -> None:
    with life(tmp_path, postgres_url, datetime(2027, 1, 29, 7, 50, tzinfo=UTC)) as lived:
        lived.spend("A one", "1.5")
        lived.sync()
        lived.ledger.rename("acme", lived.keys["A one"], "A renamed", lived.clock.now())
        lived.clock.advance(DAY)
        lived.spend("A one", "2.25")
        lived.sync()
        old = lived.keys["B one"]
        lived.spend("B one", "0.75")
        lived.keys["B one"] = lived.ledger.rotate("acme", old, lived.clock.now() + HOUR)
        lived.clock.advance(3 * DAY)
        lived.spend("B one", "0.125")
        lived.sync()
        lived.spend("A one", "3")
        lived.ledger.delete("acme", lived.keys["A one"], lived.clock.now() + HOUR)
        lived.clock.advance(2 * DAY)
        lived.sync()
        lived.assert_is_true()
        lived.clock.advance(20 * DAY)
        lived.sync()
        lived.assert_is_true()


def test_twelve_days_off_and_a_day_restated(tmp_path: Path, postgres_url: str) -> None:
    with life(tmp_path, postgres_url, datetime(2026, 12, 24, 22, 10, tzinfo=UTC)) as lived:
        lived.spend("A one", "1.5")
        lived.sync()
        first = lived.clock.now()
        for day in range(12):
            lived.clock.advance(DAY)
            lived.spend("A one", f"0.{day + 1}")
            lived.spend("B one", "0.2")
        lived.sync()
        lived.assert_is_true()
        lived.ledger.restate("acme", (first + 3 * DAY).date(), lived.keys["B one"], CLAUDE, factor=Decimal(3))
        lived.ledger.restate("acme", (first + 3 * DAY).date(), lived.keys["B one"], GPT, factor=Decimal(3))
        lived.spent["Company B", "2026-12"] += Decimal("0.4")
        lived.clock.advance(HOUR)
        lived.sync()
        lived.assert_is_true()
        assert {month for _, month in lived.spent} == {"2026-12", "2027-01"}
