"""A clock that is off: what a sync does about it, and what becomes of what an earlier one stored."""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.errors import ClockError
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.simulator import Ledger, Options, Simulator, serve
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.sync import steps
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.processes import orcost
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.test_shifted_clock import Clock
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

YEARS = timedelta(days=3_652)
READERS = (
    *("ref.api_key", "ref.api_key_history", "ref.assignment", "core.spend_hourly", "core.spend_daily"),
    *("marts.key_spend_rolling", "marts.company_spend_rolling", "marts.company_spend_daily"),
    *("marts.company_spend_monthly", "marts.creator_spend_daily", "marts.workspace_spend_daily"),
    *("marts.company_spend_hourly", "marts.model_spend_monthly", "marts.spend_daily", "marts.spend_hourly"),
    "marts.focus_cost_and_usage",
    *("marts.unattributed_spend", "marts.unkeyed_spend_daily", "marts.reconciliation_daily", "ops.restatement"),
    "ref.account",
)
OF_THE_MACHINE = {"run_id", "published_run_id", "full_pass_at", "account_id"}


def figures(world: World) -> dict[str, Any]:
    """All that readers see, but for which run it was."""
    left_out = "".join(f" - '{name}'" for name in OF_THE_MACHINE)
    return {name: world.rows(f"select (to_jsonb(t){left_out})::text from {name} t order by 1") for name in READERS}


class Twins:
    """One account in two warehouses; only the second's machine has a clock that may be off."""

    def __init__(self, engine: sa.Engine, other: sa.Engine) -> None:
        self.ledger = Ledger()
        self.ledger.add_account("acme")
        self.keys = [
            self.ledger.add_key("acme", name, NOON - 40 * DAY) for name in ("A one", "A two", "B one", "B two")
        ]
        self.right, self.wrong = World(engine, self.ledger), World(other, self.ledger)
        for world in (self.right, self.wrong):
            world.map("A,key_name,A*,,,", "B,key_name,B*,,,")
        self.number = 0

    def set(self, **options: Any) -> None:
        for world in (self.right, self.wrong):
            world.simulator.options = replace(world.simulator.options, **options)

    def later(self, **span: float) -> None:
        for world in (self.right, self.wrong):
            world.later(**span)

    def spend(self) -> None:
        """Something by every key and without one, now and in the days before."""
        now = self.right.now
        for ago in (timedelta(minutes=5), 3 * HOUR, 11 * HOUR):
            for number, key in enumerate([*self.keys, None]):
                self.number += 1
                model = (GPT, CLAUDE)[self.number % 2]
                self.ledger.spend("acme", now - ago, key, model, usage(f"0.{self.number:04}01", f"0.0{number}"))

    def sync(self) -> None:
        for world in (self.right, self.wrong):
            world.sync()

    def sync_wrong(self, ahead: timedelta) -> None:
        """A sync that nobody tells that its clock is ahead."""
        told, self.wrong.ahead = self.wrong.simulator.options, ahead
        self.wrong.simulator.options = replace(told, has_date=False, has_cached_at=False)
        self.wrong.sync()
        self.wrong.simulator.options, self.wrong.ahead = told, timedelta(0)

    def assert_alike(self) -> None:
        self.wrong.assert_sums_are_true()
        right, wrong = figures(self.right), figures(self.wrong)
        for name in READERS:
            differ = {*map(tuple, wrong[name])} ^ {*map(tuple, right[name])}
            assert wrong[name] == right[name], (name, sorted(differ, key=str)[:4])


@pytest.fixture
def twins(engine: sa.Engine, postgres_url: str) -> Iterator[Twins]:
    with fresh_engine(postgres_url) as other:
        yield Twins(engine, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ahead", "after"),
    [
        (YEARS, 4 * DAY),
        *(
            pytest.param(*jump, marks=pytest.mark.slow)
            for jump in (
                *((26 * HOUR, HOUR), (5 * DAY, 25 * HOUR), (40 * DAY, 35 * DAY)),
                *((26 * HOUR, 25 * HOUR), (5 * DAY, 4 * DAY), (40 * DAY, HOUR), (YEARS, HOUR)),
                (YEARS, 35 * DAY),
            )
        ),
    ],
    ids=str,
)
def test_the_next_good_sync_heals(twins: Twins, ahead: timedelta, after: timedelta) -> None:
    twins.spend()
    twins.sync()
    twins.later(days=1)
    twins.spend()
    twins.sync()
    twins.later(hours=2)
    twins.spend()
    now = twins.right.now
    twins.ledger.rename("acme", twins.keys[0], "B renamed", now)
    twins.keys.append(twins.ledger.add_key("acme", "A new", now))
    twins.ledger.delete("acme", twins.keys.pop(1), now)
    twins.sync_wrong(ahead)
    twins.later(minutes=30)
    twins.sync_wrong(ahead)
    twins.ledger.rename("acme", twins.keys[0], "A one", twins.right.now)
    twins.later(hours=after / HOUR)
    twins.spend()
    twins.sync()
    twins.assert_alike()
    for span in (HOUR, DAY, 3 * DAY):
        twins.later(hours=span / HOUR)
        twins.spend()
        twins.sync()
        twins.assert_alike()


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [26 * HOUR, 5 * DAY, YEARS], ids=str)
def test_an_account_whose_first_sync_was_of_the_future_is_as_one_that_never_synced(
    twins: Twins, ahead: timedelta
) -> None:
    twins.spend()
    twins.later(hours=3)
    twins.spend()
    twins.sync_wrong(ahead)
    twins.later(hours=1)
    twins.spend()
    twins.sync()
    twins.assert_alike()
    twins.later(days=3)
    twins.spend()
    twins.sync()
    twins.assert_alike()


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [YEARS, 26 * HOUR, 9 * HOUR, 5 * DAY], ids=str)
@pytest.mark.parametrize("is_first", [True, False])
def test_what_counters_told_of_the_future_is_forgotten(twins: Twins, ahead: timedelta, is_first: bool) -> None:
    twins.set(analytics_status=403)
    twins.spend()
    if not is_first:
        twins.sync()
    twins.later(hours=4)
    twins.spend()
    twins.sync_wrong(ahead)
    twins.later(hours=2)
    twins.spend()
    twins.sync()
    twins.assert_alike()
    twins.later(hours=10)
    twins.spend()
    twins.sync()
    twins.set(analytics_status=None)
    twins.later(days=3)
    twins.spend()
    twins.sync()
    twins.assert_alike()


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [26 * HOUR, YEARS], ids=str)
def test_counters_that_analytics_replaced_in_the_future_were_replaced_now(twins: Twins, ahead: timedelta) -> None:
    twins.set(analytics_status=403)
    for _ in range(2):
        twins.spend()
        twins.sync()
        twins.later(hours=4)
    twins.set(analytics_status=None)
    twins.sync_wrong(ahead)
    twins.later(hours=1)
    twins.sync()
    twins.assert_alike()
    replaced = "select account, day, replaced_at, told_credits_usd from ops.counter_replacement order by day"
    assert all(row.replaced_at <= twins.wrong.now for row in twins.wrong.rows(replaced))


@pytest.mark.slow
def test_a_restatement_that_was_noticed_in_the_future_was_noticed_now_and_once(twins: Twins) -> None:
    twins.spend()
    twins.later(days=5)
    twins.sync()
    day = (NOON - HOUR).date()
    for ahead, factor in ((6 * DAY, "3"), (7 * DAY, "5"), (timedelta(0), "7")):
        twins.ledger.restate("acme", day, twins.keys[0], GPT, factor=Decimal(factor))
        twins.ledger.restate("acme", day, twins.keys[0], CLAUDE, factor=Decimal(factor))
        if ahead:
            twins.sync_wrong(ahead)
            twins.later(hours=1)
    twins.sync()
    assert twins.right.value("select count(*) from ops.restatement") > 0
    twins.assert_alike()


@pytest.mark.slow
def test_a_wrong_clock_that_openrouter_shares_is_healed_too(twins: Twins) -> None:
    """Nobody can tell then that it is off, and usage of the future is stored."""
    twins.spend()
    twins.sync()
    twins.later(hours=1)
    for hours, key in ((3, twins.keys[0]), (20, None), (26, twins.keys[2])):
        twins.ledger.spend("acme", twins.right.now + hours * HOUR, key, GPT, usage("4"))
    twins.wrong.later(hours=30).sync()
    assert twins.wrong.value("select count(*) from core.usage_hourly where hour > :now", now=twins.right.now) == 3
    twins.wrong.later(hours=-30)
    twins.later(hours=2)
    twins.spend()
    twins.sync()
    twins.assert_alike()
    twins.later(days=3)
    twins.sync()
    twins.assert_alike()


# ── the server's clock ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def world(twins: Twins) -> World:
    """Synced an hour ago, and something was spent since."""
    twins.spend()
    twins.right.sync()
    twins.later(hours=1)
    twins.spend()
    return twins.right


@pytest.mark.parametrize(
    "ahead", sampled([26 * HOUR, -26 * HOUR, YEARS, timedelta(minutes=6), -timedelta(minutes=6)], 1), ids=str
)
def test_a_sync_whose_clock_is_off_stores_nothing_and_names_both_times(world: World, ahead: timedelta) -> None:
    before = figures(world)
    world.ahead = ahead
    step = world.step()
    here, which = f"{world.clock():%Y-%m-%d %H:%M:%S} UTC here", "ahead of" if ahead > timedelta(0) else "behind"
    told = f"^This machine's clock is {which} OpenRouter's: {here}, 2026-11-23 13:20:00 UTC there. Nothing was stored."
    for read in (steps.read_account, steps.read_workspaces, steps.read_members, steps.read_api_keys):
        with pytest.raises(ClockError, match=told):
            read(step)
    with pytest.raises(ClockError, match=told):
        steps.read_usage_of_account(step)
    assert world.value("select count(*) from raw.extracted where run_id = :run", run=step.run_id) == 0
    assert figures(world) == before
    world.ahead = timedelta(0)
    world.sync()
    world.assert_hours_are_true()


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [4, -4])
def test_a_clock_that_is_a_little_off_syncs(world: World, minutes: int) -> None:
    world.ahead = timedelta(minutes=minutes)
    assert world.sync()


@pytest.mark.slow
def test_without_a_date_nobody_knows_that_a_clock_is_off(world: World) -> None:
    world.simulator.options, world.ahead = Options(has_date=False, has_cached_at=False), 26 * HOUR
    assert world.sync()


@pytest.mark.slow
def test_a_clock_that_is_put_right_in_the_middle_of_a_sync_had_dated_it(world: World) -> None:
    before = figures(world)
    world.ahead = 26 * HOUR
    step = world.step()
    world.ahead = timedelta(0)
    with pytest.raises(ClockError, match=r"^This machine's clock was ahead when the sync began"):
        world.read(step)
    assert figures(world) == before


@pytest.mark.slow
def test_a_clock_that_goes_wrong_in_the_middle_of_a_sync_stops_it(world: World) -> None:
    before, step = figures(world), world.step()
    steps.read_account(step)
    world.ahead = -26 * HOUR
    with pytest.raises(ClockError, match=r"^This machine's clock is behind OpenRouter's"):
        steps.read_workspaces(step)
    assert figures(world) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "ahead"),
    [
        ({"Date": "Mon, 23 Nov 2026 12:00:00 GMT"}, timedelta(minutes=20)),
        ({"Date": "Mon, 23 Nov 2026 12:00:00 GMT", "Age": "1200"}, timedelta(0)),
        ({"Date": "Mon, 23 Nov 2026 12:20:00 GMT", "Age": "1200"}, timedelta(0)),
        *(({"Date": "Mon, 23 Nov 2026 12:00:00 GMT", "Age": age}, None) for age in ("old", "nan", "inf", "1_0")),
        *(
            ({"Date": "Mon, 23 Nov 2026 12:00:00 GMT", "Age": age}, timedelta(minutes=20))
            for age in ("1e300", "-1e300", "9" * 30)
        ),
        ({"Date": "Mon, 23 Nov 2026 12:00:00"}, timedelta(minutes=20)),
        ({"Date": "soon"}, None),
        ({}, None),
    ],
)
def test_an_answer_is_dated_when_it_was_made_or_passed_on(headers: dict[str, str], ahead: timedelta | None) -> None:
    answer = httpx.Response(200, json={"data": []}, headers=headers)

    async def asked() -> timedelta | None:
        transport = httpx.MockTransport(lambda request: answer)
        async with OpenRouter("acme", SecretStr("key"), "https://api.test", transport=transport, clock=clock) as client:
            await client.models()
            return client.clock_ahead

    clock = lambda: NOON  # noqa: E731
    assert asyncio.run(asked()) == ahead


@pytest.mark.slow
@pytest.mark.parametrize("has_date", [True, False])
def test_the_simulator_tells_its_own_time_on_a_real_port(has_date: bool) -> None:
    ledger = Ledger()
    ledger.add_account("acme")
    with serve(Simulator(ledger, lambda: NOON, Options(has_date=has_date))) as url:
        told = httpx.get(f"{url}/models")
        assert told.headers.get("Date") == ("Mon, 23 Nov 2026 12:20:00 GMT" if has_date else None)
        assert httpx.get(f"{url}/keys").headers.get("Date") == told.headers.get("Date"), "of a refusal too"


# ── a sync that publishes nothing ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_sync_that_began_with_a_clock_ahead_is_not_published_once_the_clock_is_right(world: World) -> None:
    before = figures(world)
    world.simulator.options = Options(has_date=False, has_cached_at=False)
    world.ahead = 26 * HOUR
    step = world.step()
    world.read(step)
    world.ahead = timedelta(0)
    with pytest.raises(ClockError, match=r"was ahead when the sync began \(2026-11-24 15:20:00 UTC\); it is now"):
        steps.publish_account(step)
    assert figures(world) == before
    world.sync()
    world.assert_hours_are_true()
    world.assert_books_close()


@pytest.mark.slow
def test_a_sync_that_a_newer_one_overtook_says_so_and_is_no_failure(world: World) -> None:
    old = world.step()
    world.read(old)
    world.later(minutes=30).sync()
    noted: list[str] = []
    before = figures(world)
    steps.publish_account(replace(old, tell=noted.append))
    assert noted == [
        'Nothing of this sync of account "acme" was published: a newer one is, complete to 2026-11-23 13:50 UTC.'
    ]
    assert figures(world) == before
    assert world.value("select status from ops.sync_run where run_id = :run", run=old.run_id) == "succeeded"


@pytest.mark.slow
def test_a_clock_that_is_a_little_ahead_is_none_of_the_future(twins: Twins) -> None:
    """Two machines sync one account: what the slower one read is older than what the other published."""
    twins.spend()
    twins.sync_wrong(timedelta(minutes=4))
    as_of = twins.wrong.value("select as_of from ref.account")
    twins.later(minutes=1)
    twins.wrong.sync()
    assert twins.wrong.value("select as_of from ref.account") == as_of


@pytest.mark.slow
def test_a_retry_of_what_is_published_is_no_failure(world: World) -> None:
    step = world.step()
    world.read(step)
    steps.publish_account(step)
    before = figures(world)
    assert sum(steps.publish_account(step).rows.values()) == 0
    assert figures(world) == before


@pytest.mark.slow
def test_a_run_that_a_wrong_clock_dated_into_the_future_is_not_the_last_one(twins: Twins) -> None:
    twins.spend()
    twins.sync()
    twins.sync_wrong(YEARS)
    twins.later(hours=1)
    twins.sync()
    started = twins.wrong.rows("select started_at, finished_at, as_of from ops.sync_run order by started_at")
    assert all(max(row.started_at, row.finished_at) <= twins.wrong.now for row in started)
    assert [row.as_of for row in started] == [NOON, None, NOON + HOUR]


# ── as an operator sees it ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Machine:
    """A folder from which the installed command runs, and the server that it asks."""

    folder: Path
    simulator: Simulator
    environment: dict[str, str]

    def orcost(self, *arguments: str) -> tuple[int, str]:
        """The exit code, and all that is printed."""
        ended = orcost(self.folder, self.environment, *arguments)
        return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture
def machine(tmp_path: Path, database_url: str) -> Iterator[Machine]:
    """One whose account has spent something in the last hours."""
    now, ledger = datetime.now(UTC), Ledger()
    ledger.add_account("default", credits_bought=Decimal(100))
    key = ledger.add_key("default", "A one", now - 50 * DAY)
    for hours in range(30, 60):
        ledger.spend("default", now - hours * HOUR, key, GPT, usage("0.25"))
    simulator = Simulator(ledger)
    (tmp_path / ".env").touch()
    (tmp_path / "company_mapping.csv").write_text("company,match,pattern\nCompany A,key_name,A*\n", encoding="utf-8")
    with serve(simulator) as base_url:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(tmp_path),
            "ORCOST_DATABASE_URL": database_url.replace("postgresql+psycopg://", "postgresql://"),
            "OPENROUTER_BASE_URL": base_url,
            "OPENROUTER_API_KEY": ledger.accounts["default"].management_key,
        }
        yield Machine(tmp_path, simulator, environment)


@pytest.mark.slow
def test_a_machine_whose_clock_is_off_is_told_so_by_every_command(machine: Machine) -> None:
    machine.simulator.clock = lambda: datetime.now(UTC) - 26 * HOUR
    code, told = machine.orcost("init")
    assert (code, (machine.folder / ".env").read_text()) == (1, "")
    assert "This machine's clock is ahead of OpenRouter's: " in told
    code, told = machine.orcost("sync")
    assert code == 1
    assert "✗ account and credits" in told
    assert "✓" not in told.replace("✓ company mapping", "")
    assert "This machine's clock is ahead of OpenRouter's: " in told
    assert "Traceback" not in told
    code, told = machine.orcost("status", "--format", "json")
    found = [(it["severity"], it["code"]) for it in json.loads(told)["findings"]]
    assert (code, found) == (1, [("error", "clock_off")])
    machine.simulator.clock = lambda: datetime.now(UTC)
    assert machine.orcost("sync")[0] == 0
    assert json.loads(machine.orcost("status", "--format", "json")[1])["ok"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler")
@pytest.mark.parametrize("ahead", [26 * HOUR, YEARS], ids=str)
def test_a_machine_whose_clock_was_ahead_is_well_after_one_sync(machine: Machine, ahead: timedelta) -> None:
    clock = Clock(machine.folder, datetime.now(UTC))
    machine.environment |= clock.environment
    assert machine.orcost("sync")[0] == 0
    right = machine.orcost("report", "--by", "key", "--format", "csv")[1].split("Complete")[0]
    clock.advance(ahead)
    machine.simulator.options = Options(has_date=False, has_cached_at=False)
    assert machine.orcost("sync")[0] == 0
    clock.advance(-ahead)
    machine.simulator.options = Options()
    report = machine.orcost("report")[1]
    assert "a clock was wrong)" in report
    assert "just now" not in report
    assert "The next sync puts it right: orcost sync" in report
    code, told = machine.orcost("status")
    assert code == 1
    assert "Data is marked complete until" in told
    assert machine.orcost("sync")[0] == 0
    assert machine.orcost("status")[0] == 0
    assert "(just now)" in machine.orcost("report")[1]
    without_as_of = re.compile(r"\d{4}-\d\d-\d\dT[^,]*")
    after = machine.orcost("report", "--by", "key", "--format", "csv")[1].split("Complete")[0]
    assert without_as_of.sub("", after) == without_as_of.sub("", right)
