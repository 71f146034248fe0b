"""`marts.key_review` and `orcost keys --review`: what is worth doing about each key, and what comes first."""

import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from orcost_pipeline import cli
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.warehouse.thresholds import publish_thresholds
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, NOON, World, usage

Orcost = Callable[..., Any]
COLUMNS = (
    "account, key_hash, key_name, company, created_at, age_days, last_used_at, idle_days, limit_usd, "
    "limit_used_percent, credits_30d_usd, advice"
)


@pytest.fixture
def world(engine: sa.Engine) -> World:
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    return World(engine, ledger)


@pytest.fixture
def orcost(world: World, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Orcost:
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli.app, list(arguments), obj=lambda: world.now)


def add(
    world: World, name: str, age_days: int = 10, used_days_ago: float | None = 1, usd: str = "1", **fields: Any
) -> str:
    """A key; with a limit that is far away unless another is given."""
    fields = {"limit": Decimal(1000)} | fields
    key = world.ledger.add_key("acme", name, NOON - age_days * DAY, **fields)
    if used_days_ago is not None:
        world.ledger.spend("acme", NOON - used_days_ago * DAY, key, GPT, usage(usd))
    return key


def advice(world: World) -> dict[str, list[str]]:
    return dict(world.rows("select key_name, advice from marts.key_review"))


def test_a_row_has_the_columns_that_are_promised(world: World) -> None:
    key = add(world, "app", age_days=400, used_days_ago=2, usd="5", limit=Decimal(20))
    world.map("A,key_name,app,,,")
    world.sync()
    assert world.rows(f"select {COLUMNS} from marts.key_review") == [
        (
            *("acme", key, "app", "A", NOON - 400 * DAY, 400, NOON - 2 * DAY, 2),
            *(20, 25, 5, ["older_than_365_days"]),
        )
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    sampled(
        [
            ({}, []),
            ({"limit": None}, ["no_limit"]),
            ({"age_days": 365}, []),
            ({"age_days": 366}, ["older_than_365_days"]),
            ({"age_days": 100, "used_days_ago": 29.99}, []),
            ({"age_days": 100, "used_days_ago": 30}, ["unused_30_days"]),
            ({"age_days": 100, "used_days_ago": 89.99}, ["unused_30_days"]),
            ({"age_days": 100, "used_days_ago": 90}, ["unused_90_days"]),
            ({"age_days": 29, "used_days_ago": None}, []),
            ({"age_days": 30, "used_days_ago": None}, ["unused_30_days"]),
            (
                {"age_days": 400, "used_days_ago": None, "limit": None},
                ["no_limit", "unused_90_days", "older_than_365_days"],
            ),
            ({"usd": "7.99", "limit": Decimal(10)}, []),
            ({"usd": "8", "limit": Decimal(10)}, ["limit_near"]),
            ({"usd": "10", "limit": Decimal(10)}, ["limit_reached"]),
            ({"limit": Decimal(0)}, ["limit_reached"]),
            ({"expires_at": NOON + 14 * DAY}, ["expires_soon"]),
            ({"expires_at": NOON + 14 * DAY + timedelta(seconds=1)}, []),
            ({"expires_at": NOON, "limit": None}, []),
            ({"disabled": True, "limit": None, "age_days": 400}, []),
        ],
        3,
    ),
)
def test_what_is_worth_doing_about_a_key(world: World, fields: dict[str, Any], expected: list[str]) -> None:
    add(world, "app", **fields)
    world.sync()
    assert advice(world) == {"app": expected}


@pytest.mark.slow
def test_keys_share_a_name_within_their_account_until_one_is_deleted(world: World, engine: sa.Engine) -> None:
    first, _, _ = add(world, "app"), add(world, "app"), add(world, "other")
    world.ledger.add_account("globex", credits_bought=Decimal(5))
    world.ledger.add_key("globex", "other", NOON - 10 * DAY, limit=Decimal(5))
    World(engine, world.ledger, account="globex").sync()
    world.sync()
    names = [(name, told) for name, told in world.rows("select key_name, advice from marts.key_review order by 1")]
    assert names == [("app", ["shared_name"])] * 2 + [("other", [])] * 2
    world.ledger.delete("acme", first, NOON + timedelta(minutes=5))
    world.later(minutes=10).sync()
    assert advice(world) == {"app": [], "other": []}


def test_a_key_that_companies_share_has_no_single_owner_and_its_whole_spend(world: World) -> None:
    add(world, "app", usd="5")
    world.map("A,key_name,app,,,60", "B,key_name,app,,,40")
    world.sync()
    assert world.rows("select company, credits_30d_usd from marts.key_review") == [(None, 5)]


def test_near_is_what_the_settings_say(world: World) -> None:
    add(world, "app", usd="5", limit=Decimal(10))
    world.sync()
    publish_thresholds(world.engine, Decimal(50), Decimal(80), show_cost=True)
    assert advice(world) == {"app": ["limit_near"]}


def test_the_command_prints_what_is_worth_doing_first_in_words(world: World, orcost: Orcost) -> None:
    add(world, "fine")
    add(world, "idle", age_days=400, used_days_ago=120)
    add(world, "open", usd="9", limit=None)
    add(world, "open too", usd="12", limit=None)
    add(world, "full", usd="10", limit=Decimal(10))
    add(world, "ending", expires_at=NOON + 3 * DAY)
    add(world, "almost", usd="8.5", limit=Decimal(10))
    world.sync()
    lines = [line.split() for line in orcost("keys", "--review").output.splitlines()]
    names = ["full", "ending", "almost", "open too", "open", "idle"]
    assert [" ".join(line[: len(name.split())]) for line, name in zip(lines[1:7], names, strict=True)] == names
    text = orcost("keys", "--review").output
    for said in (
        "limit used up: raise it, or see why",
        "expires on 2026-11-26: replace it",
        "85 % of its limit used: raise it, or see why",
        "set a limit",
        "unused for 120 days: revoke it; 400 days old: rotate it",
        "Limit, rotate and revoke keys at openrouter.ai/settings/keys.",
        "1 of 7 keys need nothing · Complete to 12:20 UTC (just now)",
    ):
        assert said in text, said
    assert "fine" not in text


def test_programs_get_every_key_with_its_codes(world: World, orcost: Orcost) -> None:
    add(world, "fine")
    add(world, "idle", age_days=400, used_days_ago=120)
    world.sync()
    rows = json.loads(orcost("keys", "--review", "--format", "json").output)
    assert list(rows[0])[:12] == COLUMNS.split(", ")
    codes = ["unused_90_days", "older_than_365_days"]
    assert [(row["key_name"], row["advice"]) for row in rows] == [("idle", codes), ("fine", [])]
    table = list(csv.DictReader(io.StringIO(orcost("keys", "--review", "--format", "csv").output)))
    assert [(row["key_name"], row["advice"]) for row in table] == [("idle", " ".join(codes)), ("fine", "")]


def test_one_account_can_be_asked_for_and_history_is_another_list(world: World, orcost: Orcost) -> None:
    add(world, "fine")
    world.sync()
    assert orcost("keys", "--review", "--account", "acme").output.startswith("1 of 1 key need nothing")
    assert "No account is called" in str(orcost("keys", "--review", "--account", "nobody").exception)
    assert orcost("keys", "--review", "--history").exit_code == 2
