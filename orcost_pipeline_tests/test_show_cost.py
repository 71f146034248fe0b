"""What viewers see where they are shown no cost: what they are charged, and nothing from which cost could be told."""

from decimal import Decimal

import pytest
import sqlalchemy as sa

from orcost_pipeline.warehouse.schema.upgrade import migrate
from orcost_pipeline.warehouse.thresholds import publish_thresholds
from orcost_pipeline_tests.billing_world import OCTOBER, Billed, billed
from orcost_pipeline_tests.conftest import Filled
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import query

COST = {"credits_usd", "byok_usd", "total_usd", "previous_credits_usd", "previous_byok_usd"}
RELATIONS = (
    *("company_spend_daily", "company_spend_monthly", "company_spend_rolling", "key_spend_rolling", "spend_daily"),
    "statement",
)
VIEWERS = (
    "select table_name::text, column_name::text from information_schema.columns "
    "where table_schema = 'viewer' order by 1, 2"
)


def show(engine: sa.Engine, *, cost: bool) -> int:
    return publish_thresholds(engine, Decimal(80), Decimal(80), show_cost=cost)


def synced_world(engine: sa.Engine) -> Billed:
    """A is charged a fifth more than its 10 cost, and is what the tests' own login sees."""
    made = billed(engine)
    made.spend("app", "2026-10-30", "10", "2")
    made.spend("web", "2026-10-30", "7")
    made.plans("A,markup_percent,20")
    made.sync()
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into ref.viewer values (session_user, 'A')")
    return made


@pytest.fixture
def world(filled: Filled[Billed], engine: sa.Engine) -> Billed:
    return filled(synced_world, engine)


def test_viewers_have_the_charge_in_the_place_of_cost(world: Billed, engine: sa.Engine) -> None:
    before = query(engine, VIEWERS)
    assert show(engine, cost=False) == 1
    now = query(engine, VIEWERS)
    assert {name for name, _ in now} == {name for name, _ in before} == set(RELATIONS)
    assert not {column for _, column in now} & COST
    assert {name for name, column in now if column == "charge_usd"} == set(RELATIONS) - {"statement"}
    gone, new = set(before) - set(now), set(now) - set(before)
    assert {column for _, column in gone} <= COST
    assert {column for _, column in new} == {"charge_usd"}


@pytest.mark.parametrize("relation", sampled(RELATIONS, 3))
def test_each_relation_tells_what_the_company_is_charged(world: Billed, engine: sa.Engine, relation: str) -> None:
    show(engine, cost=False)
    amount = "amount_usd" if relation == "statement" else "charge_usd"
    where = "where period = '30d'" if "rolling" in relation else ""
    assert query(engine, f"select company, sum({amount}) from viewer.{relation} {where} group by 1") == [("A", 12)]


def test_rolling_charges_follow_the_plans_without_a_sync_of_usage(world: Billed, engine: sa.Engine) -> None:
    show(engine, cost=False)
    world.plans("A,prompt_usd_per_million,4000", "A,byok_percent,50")
    world.publish()
    for relation in ("company_spend_rolling", "key_spend_rolling"):
        assert query(engine, f"select distinct charge_usd from viewer.{relation} where charge_usd <> 0") == [(5,)]


def test_cost_is_shown_again_and_nothing_is_replaced_twice(world: Billed, engine: sa.Engine) -> None:
    before = query(engine, VIEWERS)
    assert show(engine, cost=False) == 1
    views = query(engine, "select oid from pg_class where relnamespace = 'viewer'::regnamespace order by 1")
    assert show(engine, cost=False) == 0
    migrate(engine)
    assert query(engine, "select oid from pg_class where relnamespace = 'viewer'::regnamespace order by 1") == views
    assert show(engine, cost=True) == 1
    assert query(engine, VIEWERS) == before
    assert query(engine, "select credits_usd from viewer.statement") == [(10,)]


@pytest.mark.slow
def test_a_closed_statement_is_seen_as_it_was_closed(world: Billed, engine: sa.Engine) -> None:
    world.close(OCTOBER)
    show(engine, cost=False)
    assert query(engine, "select kind, amount_usd from viewer.statement") == [("usage", 12)]
