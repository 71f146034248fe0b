"""What a mapping would move is what it moves."""

import json
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from typer.testing import CliRunner

from orcost_pipeline.cli import app
from orcost_pipeline.cli.map import preview
from orcost_pipeline.companies.mapping import read_mapping
from orcost_pipeline.project_file import Source
from orcost_pipeline.settings import DEFAULT_BASE_URL, Account, Settings
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline_tests.conftest import Filled, fresh_engine
from orcost_pipeline_tests.sampling import examples
from orcost_pipeline_tests.world import DAY, NOON, World, usage

HEADER = "company,match,pattern,valid_from,valid_to,share"
Moved = dict[tuple[str, Any], Decimal]


def lived(engine: sa.Engine) -> World:
    """Three keys with spend on days of two months, one of which was renamed."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    keys = [ledger.add_key("acme", name, NOON - 60 * DAY) for name in ("app", "batch", "web")]
    for days in range(1, 29, 3):
        for number, key in enumerate(keys):
            ledger.spend("acme", NOON - days * DAY, key, GPT, usage(f"{number}.{days:03}7", "0.31"))
        ledger.spend("acme", NOON - days * DAY, None, GPT, usage("0.05"))
    world = World(engine, ledger)
    world.sync()
    ledger.rename("acme", keys[2], "app two", NOON + DAY / 2)
    world.later(days=1).sync()
    return world


def settings_of(world: World, folder: Path) -> Settings:
    return Settings(
        folder=folder,
        home=folder,
        mapping=Source("mapping", folder / "company_mapping.csv"),
        database_url=SecretStr(world.engine.url.render_as_string(hide_password=False)),
        accounts=(Account(name="acme", api_key_env="OPENROUTER_API_KEY", api_key=None, base_url=DEFAULT_BASE_URL),),
        config_file=folder / "orcost.toml",
    )


def monthly(world: World) -> Moved:
    rows = world.rows("select company, month, credits_usd, byok_usd from marts.company_spend_monthly")
    return {(row[0], (row[1], number)): row[2 + number] for row in rows for number in (0, 1) if row[2 + number]}


rules = st.lists(
    st.tuples(
        st.sampled_from("ABC"),
        st.sampled_from(("app*", "batch", "*", "app", "w?b", "none")),
        st.sampled_from(("", "2026-10-30", "2026-11-10")),
        st.sampled_from(("", "2026-11-20", "2026-12-24")),
        st.sampled_from((None, "33.333", "1")),
    ),
    max_size=4,
    unique_by=lambda rule: rule[1:4],
)


def lines(chosen: list[tuple[Any, ...]]) -> list[str]:
    told = []
    for company, pattern, start, end, share in chosen:
        told.append(f"{company},key_name,{pattern},{start},{end},{share or ''}")
        if share:
            told.append(f"D,key_name,{pattern},{start},{end},{100 - Decimal(share)}")
    return told


@pytest.mark.slow
@given(before=rules, after=rules)
@settings(max_examples=examples(5), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_foretold_is_what_moves(
    postgres_url: str, tmp_path: Path, before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]
) -> None:
    with fresh_engine(postgres_url) as engine:
        world = lived(engine)
        world.map(*lines(before))
        world.sync()
        was = monthly(world)
        mapping = read_mapping("\n".join([HEADER, *lines(after)]).encode(), "test.csv")
        told = preview.effect(settings_of(world, tmp_path), mapping.rules)
        assert monthly(world) == was, "a preview changes nothing"
        (account,) = told.accounts
        foretold: Moved = defaultdict(Decimal, was)
        for move in account.moves:
            for number, amount in enumerate((move.credits_usd, move.byok_usd)):
                foretold[move.giver, (move.month, number)] -= amount
                foretold[move.taker, (move.month, number)] += amount
        world.map(*lines(after))
        world.sync()
        assert {group: amount for group, amount in foretold.items() if amount} == monthly(world)
        left = sum(
            (amount for (company, (_, n)), amount in monthly(world).items() if company == "Unattributed" and not n)
        )
        assert account.unattributed("credits_usd")[1] == left


@pytest.fixture
def check(
    filled: Filled[World], engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """`orcost map check` in a project whose warehouse lived."""
    world = filled(lived, engine)
    (tmp_path / "company_mapping.csv").write_text("company,match,pattern\nA,key_name,app*\n", encoding="utf-8")
    (tmp_path / "orcost.toml").write_text('[[accounts]]\nname = "acme"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n')
    monkeypatch.setenv("ORCOST_DATABASE_URL", world.engine.url.render_as_string(hide_password=False))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["map", "check", *arguments])


def test_check_says_how_much_would_move_where_and_when(check: Callable[..., Any]) -> None:
    answer = check()
    assert answer.exit_code == 0
    told = answer.output.splitlines()
    counts = "1 rule, 1 company, 2 of 3 keys, 0.5 % of the last 30 days' spend, 33.3 % of their BYOK"
    assert told[0] == f"company_mapping.csv is valid: {counts}."
    assert "If it takes effect, spend moves:" in told
    assert "  Unattributed → A    0.0544    0.0976      1" in told
    assert any(line.startswith("Unattributed: ") and "→" in line for line in told)


def test_check_tells_programs_exact_amounts(check: Callable[..., Any]) -> None:
    told = json.loads(check("--format", "json").output)
    moves = told["preview"][0]["moves"]
    assert {(move["from"], move["to"]) for move in moves} == {("Unattributed", "A")}
    assert {move["month"] for move in moves} == {"2026-10-01", "2026-11-01"}
    assert sum(Decimal(move["credits_usd"]) for move in moves) == sum(
        Decimal(f"0.{days:03}7") for days in range(1, 29, 3)
    )


def test_check_doubts_a_rule_that_matches_no_key(check: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("company,match,pattern\nA,key_name,ap*\nB,key_name,bacth\n", encoding="utf-8")
    answer = check("new.csv")
    assert answer.exit_code == 0
    assert "  warning, line 3: key_name:bacth matched no key in the last 30 days." in answer.output.splitlines()
    told = json.loads(check("new.csv", "--format", "json").output)
    assert told["warnings"] == [{"line": 3, "message": "key_name:bacth matched no key in the last 30 days."}]


def test_check_tells_programs_what_is_covered(check: Callable[..., Any]) -> None:
    told = json.loads(check("--format", "json").output)["coverage"]
    whole, unattributed = Decimal(told.pop("credits_usd")), Decimal(told.pop("unattributed_credits_usd"))
    assert told == {
        "days": 30,
        "keys": 3,
        "attributed_keys": 2,
        "byok_usd": "9.30",
        "unattributed_byok_usd": "6.20",
    }
    # `app` is attributed; `web` only since it is called `app two`, which is after it spent.
    assert whole - unattributed == sum(Decimal(f"0.{days:03}7") for days in range(1, 29, 3))


def test_without_a_warehouse_check_only_validates_and_makes_none(
    check: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORCOST_DATABASE_URL")
    answer = check()
    assert answer.exit_code == 0
    assert "No preview of what it would move: No account was synced yet." in answer.output
    assert not (tmp_path / ".orcost").exists()
    monkeypatch.setenv("ORCOST_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    answer = check()
    assert answer.exit_code == 0
    assert "No preview of what it would move: " in answer.output
