"""`orcost keys`: every key there is or was, whose it is, and what became of it."""

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from orcost_pipeline.cli.keys import keys
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.settings import load_settings
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline_tests.conftest import Filled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

Told = Callable[..., str]


def synced_world(engine: sa.Engine) -> World:
    """Two keys, `app` with spend and split between A and B, `batch` without; synced at noon."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    app = ledger.add_key("acme", "app", NOON - 40 * DAY)
    ledger.add_key("acme", "batch", NOON - 40 * DAY)
    ledger.spend("acme", NOON - 2 * HOUR, app, GPT, usage("3"))
    world = World(engine, ledger)
    world.map("A,key_name,app,,,62.5", "B,key_name,app,,,37.5")
    world.sync()
    return world


@pytest.fixture
def world(filled: Filled[World], engine: sa.Engine) -> World:
    return filled(synced_world, engine)


@pytest.fixture
def told(
    world: World, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Told:
    """What is printed, asked at the world's clock."""
    for name in ("OPENROUTER_API_KEY", "ORCOST_HOME", "ORCOST_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)

    def ask(*, is_history: bool = False, output: str = "table", account: str | None = None) -> str:
        capsys.readouterr()
        keys(load_settings(), account, output, world.now, is_history=is_history)
        return capsys.readouterr().out

    return ask


def hashes(world: World) -> list[str]:
    return list(world.ledger.accounts["acme"].keys)


def line_of(out: str, name: str) -> str:
    return next(line for line in out.splitlines() if line.startswith(name))


def test_every_key_has_its_owners_its_state_and_its_spend_the_largest_first(world: World, told: Told) -> None:
    app, batch = hashes(world)
    lines = told().splitlines()
    assert lines[0].split("   ")[0].strip() == "Key"
    assert lines[1].split() == f"app {app[:8]} A 62.5 %, B 37.5 % Default active 2026-11-23 10:20 3.00".split()
    assert lines[2].split() == f"batch {batch[:8]} Unattributed Default active – 0.00".split()
    assert lines[-1] == "2 keys · Complete to 12:20 UTC (just now)"


@pytest.mark.slow
def test_disabled_expired_and_deleted_keys_say_so(world: World, told: Told) -> None:
    app, batch = hashes(world)
    at = world.now + timedelta(minutes=1)
    world.ledger.disable("acme", app, at)
    world.ledger.expire("acme", batch, at)
    world.later(hours=1).sync()
    assert "disabled" in line_of(told(), "app")
    assert "expired 2026-11-23" in line_of(told(), "batch")
    world.ledger.delete("acme", app, world.now + timedelta(minutes=1))
    world.later(hours=1).sync()
    assert "deleted by 2026-11-23" in line_of(told(), "app")
    assert "3.00" in line_of(told(), "app"), "its spend stays"


def test_the_history_tells_what_became_of_a_key(world: World, told: Told) -> None:
    app, _ = hashes(world)
    production = world.ledger.add_workspace("acme", "Production")
    for deed in (
        lambda at: world.ledger.rename("acme", app, "app 2", at),
        lambda at: world.ledger.move("acme", app, production, at),
        lambda at: world.ledger.disable("acme", app, at),
        lambda at: world.ledger.delete("acme", app, at),
        lambda at: world.ledger.undelete("acme", app, at),
    ):
        deed(world.now + timedelta(minutes=1))
        world.later(hours=1).sync()
    lines = [line for line in told(is_history=True).splitlines() if app[:8] in line]
    assert [line.split(":20   ")[1].strip() for line in lines] == [
        "first seen",
        'renamed from "app"',
        "workspace: Default → Production",
        "disabled",
        "deleted",
        "came back",
    ]
    assert [line.split(":20   ")[0][-2:] for line in lines] == ["12", "13", "14", "15", "16", "17"]


def test_programs_get_whole_hashes_and_exact_amounts(world: World, told: Told) -> None:
    rows = json.loads(told(output="json"))
    assert [(row["key_hash"], row["credits_usd_30d"]) for row in rows] == list(
        zip(hashes(world), ("3", "0"), strict=True)
    )
    assert told(is_history=True, output="csv").splitlines()[0].startswith("account,key_hash,valid_from,valid_to,name,")


def test_what_is_old_says_so_and_an_unknown_account_is_a_sentence(world: World, told: Told) -> None:
    world.later(hours=5)
    assert told().splitlines()[-1] == "2 keys · STALE: complete to 12:20 UTC (5 hours ago)"
    with pytest.raises(PermanentError, match='No account is called "nobody"'):
        told(account="nobody")
