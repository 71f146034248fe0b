"""Findings about single keys, a limit that is near and a new key that is nobody's: when they appear and go away."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from orcost_pipeline.health.finding import Code, Finding, Severity
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline_tests.budget_world import found
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage


@pytest.fixture
def world(engine: sa.Engine) -> World:
    """An account with a key that spent 1 and belongs to nobody."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    old = ledger.add_key("acme", "old", NOON - 90 * DAY)
    ledger.spend("acme", NOON - 2 * HOUR, old, GPT, usage("1"))
    return World(engine, ledger)


# Limits


def limited(world: World, usd: str, limit: str, reset: str | None = None, byok: str = "0", **fields: Any) -> str:
    key = world.ledger.add_key("acme", "app", NOON - 90 * DAY, limit=Decimal(limit), limit_reset=reset, **fields)
    world.ledger.spend("acme", NOON - 2 * HOUR, key, GPT, usage(usd, byok))
    return key


def near(world: World, **alerts: Any) -> list[Finding]:
    return found(world, Code.KEY_LIMIT_NEAR, **alerts)


@pytest.mark.parametrize(
    ("usd", "byok", "limit", "with_byok", "is_found"),
    sampled(
        [
            ("8", "0", "10", False, True),
            ("7.999999", "0", "10", False, False),
            ("1", "7", "10", False, False),
            ("1", "7", "10", True, True),
            ("0", "0", "0", False, True),
        ],
        2,
    ),
)
def test_a_limit_is_near_from_its_percentage_on(
    world: World, usd: str, byok: str, limit: str, with_byok: bool, is_found: bool
) -> None:
    key = limited(world, usd, limit, None, byok, include_byok_in_limit=with_byok)
    world.sync()
    assert [(it.severity, it.account, it.subject) for it in near(world)] == (
        [(Severity.WARNING, "acme", key)] if is_found else []
    )
    assert near(world, key_limit_percent="79") or not is_found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reset", "period", "later"),
    [("daily", " a day", 1), ("weekly", " a week", 7), ("monthly", " a month", 8)],
)
def test_a_limit_that_is_reset_is_not_near_any_more(world: World, reset: str, period: str, later: int) -> None:
    key = limited(world, "8.5", "10", reset)
    world.sync()
    (finding,) = near(world)
    assert finding.message == f"Key app ({key[:8]}) has used 85.0 % of its limit of 10 USD{period}."
    world.later(days=later).sync()
    assert near(world) == []


def test_a_limit_that_is_used_up_says_that_requests_are_refused_until_it_is_raised(world: World) -> None:
    key = limited(world, "11", "10")
    world.sync()
    (finding,) = near(world)
    assert "110.0 % of its limit of 10 USD: OpenRouter refuses its requests" in finding.message
    assert "openrouter.ai/settings/keys" in finding.todo
    world.ledger.change("acme", key, NOON + timedelta(minutes=5), limit=Decimal(100))
    world.later(minutes=10).sync()
    assert near(world) == []


@pytest.mark.parametrize("deed", sampled(["disable", "expire", "delete"], 1))
def test_a_key_that_is_out_of_use_has_no_limit_to_be_near_to(world: World, deed: str) -> None:
    key = limited(world, "9", "10")
    world.sync()
    assert near(world)
    getattr(world.ledger, deed)("acme", key, NOON + timedelta(minutes=5))
    world.later(minutes=10).sync()
    assert near(world) == []


# New keys


def new_key(world: World, usd: str = "3", byok: str = "0", name: str = "new") -> str:
    """A key that appears after the first sync, spends, and is synced an hour later."""
    key = world.ledger.add_key("acme", name, world.now + timedelta(minutes=5))
    if (usd, byok) != ("0", "0"):
        world.ledger.spend("acme", world.now + timedelta(minutes=10), key, GPT, usage(usd, byok))
    world.later(hours=1).sync()
    return key


def unassigned(world: World) -> list[Finding]:
    return found(world, Code.KEY_UNASSIGNED)


def test_a_new_key_with_spend_that_belongs_to_nobody_is_told_until_it_is_assigned(world: World) -> None:
    world.sync()
    assert unassigned(world) == [], "keys of the first sync are for orcost map todo"
    key = new_key(world, "3", "2")
    (finding,) = unassigned(world)
    assert (finding.severity, finding.account, finding.subject) == (Severity.WARNING, "acme", key)
    assert finding.since == NOON + HOUR
    assert finding.message == (
        f"Key new ({key[:8]}) is new and belongs to no company; it cost 3.00 USD and 2.00 USD of BYOK "
        "in the last 30 days."
    )
    assert key in finding.todo
    world.map("A,key_name,new,,,")
    world.later(minutes=1).sync()
    assert unassigned(world) == []


def test_a_new_key_that_spends_nothing_is_no_finding(world: World) -> None:
    world.sync()
    new_key(world, "0")
    assert unassigned(world) == []


def test_a_new_key_that_spends_byok_alone_is_a_finding(world: World) -> None:
    world.sync()
    key = new_key(world, "0", "1")
    assert [it.subject for it in unassigned(world)] == [key]


@pytest.mark.slow
def test_a_deleted_key_is_no_finding_any_more(world: World) -> None:
    world.sync()
    key = new_key(world)
    world.ledger.delete("acme", key, world.now + timedelta(minutes=5))
    world.later(hours=1).sync()
    assert unassigned(world) == []


@pytest.mark.slow
def test_a_key_without_spend_for_30_days_is_no_finding_any_more(world: World) -> None:
    world.sync()
    new_key(world)
    world.later(days=29).sync()
    assert len(unassigned(world)) == 1
    world.later(days=1).sync()
    assert unassigned(world) == []


def test_the_first_key_of_an_account_without_keys_is_new(engine: sa.Engine) -> None:
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    world = World(engine, ledger)
    world.sync()
    assert [it.subject for it in unassigned(world)] == []
    key = new_key(world)
    assert [it.subject for it in unassigned(world)] == [key]


def test_when_runs_are_forgotten_the_oldest_key_says_when_the_first_sync_was(world: World) -> None:
    world.sync()
    key = new_key(world)
    with world.engine.begin() as connection:
        connection.execute(sa.text("delete from ops.sync_run"))
    assert [it.subject for it in unassigned(world)] == [key]


def test_a_key_that_companies_share_belongs_to_somebody(world: World) -> None:
    world.map("A,key_name,new,,,50", "B,key_name,new,,,50")
    world.sync()
    new_key(world)
    assert unassigned(world) == []


def test_an_account_that_is_not_configured_here_has_no_findings_about_its_keys(world: World, engine: sa.Engine) -> None:
    limited(world, "9", "10")
    world.sync()
    assert near(world)
    with engine.begin() as connection:
        connection.execute(sa.text("update ref.account set account = 'former'"))
    assert near(world) == []
