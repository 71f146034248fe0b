"""The wide rows for BI tools: names as on that day, sums as in core, types that every client keeps decimal."""

from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.windows import DAY, Window, day_end, utc_day
from orcost_pipeline_tests.known_spend import (
    EPOCH,
    KEYS,
    MOVED_AT,
    NOW,
    SPLIT_FROM,
    Truth,
    by_company,
    hash_of,
    held,
)
from orcost_pipeline_tests.world import HOUR, NOON, World, query, usage

pytest_plugins = ["orcost_pipeline_tests.known_spend"]

DAILY = (
    "account, day, company, display_name, external_id, cost_centre, key_hash, key_name, workspace_name, creator_email, "
    f"model, model_author, provider, {', '.join(MEASURES)}, total_usd, is_settled, source, as_of"
)
HOURLY = DAILY.replace("day, company", "hour, company").replace("provider, ", "").replace("is_settled, ", "")
COUNTS = {name for name in MEASURES if not name.endswith("_usd")}
# Amounts of billing are exact: a charge has as many decimals as its plan gives it.
UNSCALED = {f"marts.{it}" for it in ("company_charge_daily", "company_charge_monthly", "statement")}
COUNTS_OF_FOCUS = {
    *("ConsumedQuantity", "PricingQuantity", "x_Requests", "x_PromptTokens", "x_CompletionTokens"),
    *("x_ReasoningTokens", "x_CachedTokens"),
}
# Which grain each is compared with, in the relation whose amounts are exact.
GRAINS = {
    "marts.spend_daily": ("core.spend_daily", "account, day, company, key_hash, model, provider"),
    "marts.spend_hourly": ("core.spend_hourly", "account, hour, company, key_hash, model"),
}


def columns_of(engine: sa.Engine, relation: str) -> dict[str, str]:
    statement = (
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = to_regclass(:relation) and attnum > 0 order by attnum"
    )
    return dict(query(engine, statement, relation=relation))


@pytest.mark.parametrize(("relation", "columns"), [("marts.spend_daily", DAILY), ("marts.spend_hourly", HOURLY)])
def test_the_wide_rows_have_exactly_these_columns_in_this_order(engine: sa.Engine, relation: str, columns: str) -> None:
    assert ", ".join(columns_of(engine, relation)) == columns


def test_every_number_of_the_marts_has_a_precision_that_clients_keep(engine: sa.Engine) -> None:
    relations = query(
        engine,
        "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname in ('marts', 'viewer')",
    )
    functions = query(engine, "select proname from pg_proc where pronamespace = 'marts'::regnamespace")
    assert sorted(functions) == [("company_spend_between",), ("company_spend_local",)]
    typed = {name: columns_of(engine, name) for (name,) in relations}
    # What a function returns has the types of the relation that it names.
    typed |= {name: columns_of(engine, f"core.{name}") for name in ("company_spend", "company_spend_local")}
    numbers = {
        (name, column): kind
        for name, columns in typed.items()
        for column, kind in columns.items()
        if name not in UNSCALED
        if kind not in ("text", "text[]", "date", "timestamp with time zone", "boolean", "integer", "bigint")
    }
    counts = COUNTS | COUNTS_OF_FOCUS
    assert numbers == {it: "numeric(38,6)" if it[1] in counts else "numeric(38,18)" for it in numbers}
    assert len(numbers) > 100


@pytest.mark.parametrize(
    "call",
    [
        "marts.company_spend_between('2026-11-01', '2026-11-02')",
        "marts.company_spend_local('UTC', '2026-11-01', '2026-11-02')",
    ],
)
def test_clients_are_told_the_precision_of_what_a_function_returns(engine: sa.Engine, call: str) -> None:
    with engine.connect() as connection:
        cursor = connection.exec_driver_sql(f"select * from {call}").cursor
        scales = {column.name: (column.precision, column.scale) for column in cursor.description}
    assert {scales[name] for name in COUNTS} == {(38, 6)}
    assert scales["credits_usd"] == scales["byok_usd"] == (38, 18)


@pytest.mark.parametrize("relation", GRAINS)
@pytest.mark.usefixtures("truth")
def test_each_wide_row_is_a_row_of_core_to_the_18th_digit(engine: sa.Engine, relation: str) -> None:
    exact, grain = GRAINS[relation]
    amounts = ", ".join(f"trim_scale({name})" for name in MEASURES)
    rows = query(engine, f"select {grain}, {amounts} from {exact} order by {grain}")
    assert query(engine, f"select {grain}, {amounts} from {relation} order by {grain}") == rows
    assert query(engine, f"select count(*) from {relation} where total_usd <> credits_usd + byok_usd") == [(0,)]
    assert len(rows) > 100


def test_the_wide_days_sum_to_what_each_company_was_charged(engine: sa.Engine, truth: Truth) -> None:
    sums = ", ".join(f"sum({name})" for name in MEASURES)
    rows = query(engine, f"select account, company, {sums} from marts.spend_daily group by 1, 2")
    told = {(account, company): tuple(map(Fraction, amounts)) for account, company, *amounts in rows}
    assert told == truth.between(Window(EPOCH, day_end(utc_day(NOW))), by_company)


@pytest.mark.usefixtures("truth")
@pytest.mark.parametrize(("relation", "bucket"), [("marts.spend_daily", "day"), ("marts.spend_hourly", "hour")])
def test_a_row_names_workspace_and_creator_as_on_its_day(engine: sa.Engine, relation: str, bucket: str) -> None:
    names = {hash_of(name): name for name in KEYS}
    rows = query(engine, f"select distinct {bucket}, key_hash, key_name, workspace_name, creator_email from {relation}")
    moved = utc_day(MOVED_AT)
    assert {(names.get(key_hash), at_day(at) >= moved) for at, key_hash, *_ in rows} > {
        ("alpha", False),
        ("alpha", True),
        ("beta", False),
        ("beta", True),
        (None, False),
    }
    for at, key_hash, *told in rows:
        name = names.get(key_hash)
        creator, workspace = held(name, at_day(at) >= moved)
        email = creator if creator and "@" in creator else None  # of a former member only the id is known
        assert told == [name, workspace, email], (at, name)


def at_day(bucket: date | datetime) -> date:
    return utc_day(bucket) if isinstance(bucket, datetime) else bucket


@pytest.mark.usefixtures("truth")
def test_a_row_without_a_key_belongs_to_nobody(engine: sa.Engine) -> None:
    rows = query(
        engine,
        "select distinct company, key_name, workspace_name, creator_email from marts.spend_daily "
        "where key_hash is null and credits_usd > 0",
    )
    assert rows == [("Unattributed", None, None, None)]


@pytest.mark.usefixtures("truth")
def test_the_author_of_a_model_stands_before_its_slash(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("update core.model set model = 'no-slash' where model like 'openai/%%'")
    rows = query(engine, "select distinct model, model_author from marts.spend_hourly")
    assert ("no-slash", None) in rows
    assert {(model, author) for model, author in rows if "/" in model} == {
        (model, model.split("/")[0]) for model, _ in rows if "/" in model
    }


def test_thirds_of_long_amounts_are_rounded_at_the_18th_digit_and_exact_in_core(engine: sa.Engine) -> None:
    ledger = Ledger()
    ledger.add_account("acme")
    key = ledger.add_key("acme", "app", NOON - 40 * DAY)
    amount = Decimal("0.0000012345678901234567")
    for hours in range(1, 8):
        ledger.spend("acme", NOON - hours * HOUR, key, GPT, usage(str(amount)))
    world = World(engine, ledger)
    world.map("A,key_name,app,,,33.333", "B,key_name,app,,,33.333", "C,key_name,app,,,33.334")
    world.sync()
    exact, rounded, rows = world.rows(
        "select (select sum(credits_usd) from core.spend_hourly), sum(credits_usd), count(*) from marts.spend_hourly"
    )[0]
    assert exact == 7 * amount
    assert rounded != exact
    assert abs(rounded - exact) <= rows * Decimal("0.5e-18")
    assert world.value("select max(scale(credits_usd)) from marts.spend_hourly") == 18
    # What the command line prints is exact.
    assert world.value("select sum(credits_usd) from core.company_rolling where period = '24h'") == exact


@pytest.mark.usefixtures("truth")
def test_a_split_day_has_a_row_for_each_company(engine: sa.Engine) -> None:
    rows = query(
        engine,
        "select company, sum(credits_usd) from marts.spend_daily where key_name = 'shared' and day = :day "
        "group by 1 order by 1",
        day=SPLIT_FROM,
    )
    (first, second) = rows
    assert (first[0], second[0]) == ("Company A", "Company B")
    assert first[1] * 40 == second[1] * 60
