"""A warehouse of the oldest version, with data of every kind, becomes one of the newest and goes on.

`warehouse_0001.sql` is what the program of schema 0001 stored over `history()`, after syncing at each of its steps.
"""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, MISTRAL
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.failures import database_errors
from orcost_pipeline.warehouse.schema.upgrade import migrate
from orcost_pipeline_tests.kept_sums import MADE_ANEW, untrue_sums
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, query, usage

STORED = (Path(__file__).parent / "warehouse_0001.sql").read_text(encoding="utf-8")
OLD_DAYS = (
    "select a.account, u.day, k.key_hash, m.model, u.credits_usd, u.byok_usd, u.requests from core.usage_daily u "
    "join ref.account a using (account_id) left join core.api_key k on k.key_id = u.key_id "
    "join core.model m on m.model_id = u.model_id order by 1, 2, 3, 4"
)
COMPANY_DAYS = (
    "select a.account, d.day, c.company, d.credits_usd, d.byok_usd, d.requests from core.company_day d "
    "join ref.account a using (account_id) join ref.company c using (company_id) order by 1, 2, 3"
)


def history() -> Ledger:
    """Two accounts over 40 days and the three that followed: a rename, a deletion, a restated day."""
    ledger = Ledger()
    for account in ("acme", "globex"):
        ledger.add_account(account, credits_bought=Decimal(900))
    first, second, third, spare = (
        ledger.add_key("acme", name, NOON - 50 * DAY) for name in ("Company A", "Company A", "Company B", "spare")
    )
    other = ledger.add_key("globex", "Company A", NOON - 50 * DAY)
    for days in range(40):
        at = NOON - days * DAY - HOUR
        key = (first, second, third)[days % 3]
        ledger.spend("acme", at, key, (GPT, CLAUDE)[days % 2], usage(f"1.{days:02}0000001", "0.25"))
        if days % 5 == 0:
            ledger.spend("acme", at - HOUR, None, MISTRAL, usage("0.125"))
            ledger.spend("globex", at, other, MISTRAL, usage("2"))
    ledger.add_member("acme", "ada@example.com", "Ada")
    for number, key in enumerate((first, spare, third)):
        now = NOON + (number + 1) * DAY
        ledger.spend("acme", now - 2 * HOUR, key, GPT, usage(f"3.{number}5"))
        if number == 0:
            ledger.rename("acme", third, "Company B, new", now - HOUR)
        if number == 1:
            ledger.delete("acme", spare, now - HOUR)
            ledger.restate("acme", now.date() - 2 * DAY, first, GPT, factor=Decimal("0.5"))
    return ledger


@pytest.fixture
def oldest(empty_url: str) -> Iterator[sa.Engine]:
    """The warehouse as the program of its time left it."""
    engine = connect(empty_url)
    migrate(engine, "0001")
    with engine.begin() as connection:
        connection.exec_driver_sql("truncate ref.company, core.provider cascade")
        for statement in STORED.split(";\n"):
            connection.exec_driver_sql(statement)
    yield engine
    engine.dispose()


def world_of(engine: sa.Engine, ledger: Ledger, account: str) -> World:
    world = World(engine, ledger, NOON + 3 * DAY + HOUR, account=account)
    key = SecretStr(ledger.accounts[account].management_key)
    world.configured = world.configured.model_copy(update={"name": account, "api_key": key})
    return world


def sums(engine: sa.Engine) -> dict[str, list[tuple[object, ...]]]:
    """What is kept added up and is not what the facts add up to."""
    with engine.connect() as connection:
        return untrue_sums(connection)


def test_a_warehouse_of_the_oldest_version_is_brought_to_the_newest_and_goes_on(oldest: sa.Engine) -> None:
    days, company_days = query(oldest, OLD_DAYS), query(oldest, COMPANY_DAYS)
    assert (len(days), len(company_days)) == (48, 48)
    migrate(oldest)
    assert sums(oldest) == {}
    assert all(query(oldest, f"select count(*) > 0 from {table}") == [(True,)] for table in MADE_ANEW)
    assert query(oldest, OLD_DAYS) == days
    assert query(oldest, COMPANY_DAYS) == company_days
    assert query(oldest, "select count(*) from ops.restatement") == [(1,)]
    assert query(oldest, "select count(*) from ref.mapping_version") == [(2,)]
    ledger = history()
    for account in ("acme", "globex"):
        world = world_of(oldest, ledger, account)
        world.sync()
        world.assert_hours_are_true()
        world.assert_days_are_true()
        rerun = world.later(minutes=5).sync()
        assert not {"core.usage_hourly", "core.usage_daily", "core.company_day"} & set(rerun)
    assert sums(oldest) == {}
    by_day = "select day, sum(credits_usd), sum(byok_usd), sum(requests) from {} group by 1 order by 1"
    assert query(oldest, by_day.format("marts.company_spend_daily")) == query(oldest, by_day.format("core.usage_daily"))
    assert query(oldest, "select max(account_id) from ref.account") == [(2,)]


@pytest.mark.slow
def test_numbers_that_syncs_used_up_are_free_again(oldest: sa.Engine) -> None:
    with oldest.begin() as connection:
        connection.exec_driver_sql("select setval('ref.account_account_id_seq', 32767)")
    migrate(oldest)
    with oldest.begin() as connection:
        connection.exec_driver_sql("insert into ref.account (account) values ('third')")
    assert query(oldest, "select account_id from ref.account where account = 'third'") == [(3,)]


def test_views_that_users_built_on_ours_keep_their_rights_and_comments(oldest: sa.Engine) -> None:
    migrate(oldest, "0011")
    with oldest.begin() as connection:
        for statement in (
            "create role bi_reader",
            "create schema bi",
            "create view bi.spend with (security_invoker = true) as select account, day, credits_usd "
            "from marts.company_spend_daily",
            "comment on view bi.spend is 'Of the finance team'",
            "comment on column bi.spend.day is 'UTC'",
            "grant select on bi.spend, marts.company_spend_daily to bi_reader",
        ):
            connection.exec_driver_sql(statement)
    seen = (
        "select n.nspname || '.' || c.relname, c.relacl::text, c.reloptions, "
        "case n.nspname when 'bi' then array[obj_description(c.oid), col_description(c.oid, 2)] end "
        "from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where c.relkind = 'v' and n.nspname in ('ref', 'core', 'marts', 'ops', 'bi') order by 1"
    )
    try:
        before, rows = query(oldest, seen), query(oldest, "select * from bi.spend order by 1, 2, 3")
        assert len(before) > 15
        migrate(oldest, "0012")
        assert query(oldest, seen) == before
        assert query(oldest, "select * from bi.spend order by 1, 2, 3") == rows
        assert rows
    finally:
        with oldest.begin() as connection:
            connection.exec_driver_sql("drop owned by bi_reader; drop role bi_reader")


def test_a_materialized_view_of_a_user_is_named_and_nothing_changes(oldest: sa.Engine) -> None:
    migrate(oldest, "0011")
    with oldest.begin() as connection:
        connection.exec_driver_sql("create materialized view public.spend as select * from marts.company_spend_daily")
    sentence = "^The materialized view public.spend reads the warehouse's tables. Drop it, migrate, and make it again$"
    with pytest.raises(PermanentError, match=sentence), database_errors():
        migrate(oldest)
    assert query(oldest, "select version_num from ops.schema_version") == [("0011",)]
