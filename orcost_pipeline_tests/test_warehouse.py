"""The warehouse itself: its contract, its migrations, its merge, and that nothing half done is ever seen."""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy import event

from orcost_pipeline.errors import ContractError, PermanentError, TransientError
from orcost_pipeline.simulator import Ledger, small
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.sync import steps
from orcost_pipeline.warehouse import raw, runs
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.opening import open_warehouse
from orcost_pipeline.warehouse.publication import Publication, order
from orcost_pipeline.warehouse.publication.transaction import When
from orcost_pipeline.warehouse.requests.store import Requests, unfinished_requests
from orcost_pipeline.warehouse.schema import migrations
from orcost_pipeline.warehouse.schema.column_comments import COLUMNS
from orcost_pipeline.warehouse.schema.declared import declared_schema
from orcost_pipeline.warehouse.schema.relation_columns import OVERRIDES
from orcost_pipeline.warehouse.schema.table_comments import SCHEMAS as SCHEMA_TEXTS
from orcost_pipeline.warehouse.schema.upgrade import migrate
from orcost_pipeline_tests.conftest import Filled
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, after_step, query, usage

SCHEMAS = ("raw", "ref", "core", "marts", "viewer", "ops")
MEASURES = (
    *("requests", "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens"),
    *("credits_usd", "byok_usd"),
)


def named(text: str) -> list[str]:
    """The columns of a line of the contract; `measures` stands for the seven."""
    words = [word.strip() for word in text.replace("\n", " ").split(",")]
    return [column for word in words for column in (MEASURES if word == "measures" else (word,))]


# What users of the tables rely on: the grain, then the columns besides the grain.
CONTRACT = {
    "ref.account": "account, kind, status, as_of, checked_at, error, credits_total_usd, credits_used_usd",
    "ref.api_key": "account, key_hash, name, label, workspace_id, workspace_name, creator_user_id, creator_email, "
    "external_user, is_disabled, created_at, expires_at, deleted_at, first_seen_at, last_used_at, limit_usd, "
    "limit_remaining_usd, limit_reset, usage_usd, usage_daily_usd, usage_weekly_usd, usage_monthly_usd, "
    "byok_usage_usd, byok_usage_daily_usd, byok_usage_weekly_usd, byok_usage_monthly_usd, company, "
    "include_byok_in_limit, limit_used_percent",
    "ref.api_key_history": "account, key_hash, valid_from, valid_to, name, label, workspace_id, workspace_name, "
    "creator_user_id, creator_email, external_user, is_disabled, is_deleted, expires_at, limit_usd, limit_reset, "
    "include_byok_in_limit",
    "ref.assignment": "account, key_hash, valid_from, company, valid_to, share, rule",
    "ref.company": "company",
    "ref.mapping_version": "version, loaded_at, source, content_sha256, rule_count",
    "ref.mapping_rule": "version, line",
    "core.spend_hourly": "account, hour, company, key_hash, model, key_name, measures, rule, source",
    "core.spend_daily": "account, day, company, key_hash, model, provider, key_name, measures, rule, source, "
    "is_settled",
    "marts.spend_daily": "account, day, company, display_name, external_id, cost_centre, key_hash, key_name, "
    "workspace_name, creator_email, model, model_author, provider, measures, total_usd, is_settled, source, as_of",
    "marts.spend_hourly": "account, hour, company, display_name, external_id, cost_centre, key_hash, key_name, "
    "workspace_name, creator_email, model, model_author, measures, total_usd, source, as_of",
    "marts.focus_cost_and_usage": "BilledCost, BillingAccountId, BillingAccountName, BillingCurrency, "
    "BillingPeriodEnd, BillingPeriodStart, ChargeCategory, ChargeClass, ChargeDescription, ChargeFrequency, "
    "ChargePeriodEnd, ChargePeriodStart, ConsumedQuantity, ConsumedUnit, ContractedCost, EffectiveCost, "
    "HostProviderName, InvoiceIssuerName, ListCost, PricingCategory, PricingQuantity, PricingUnit, ProviderName, "
    "PublisherName, ResourceId, ResourceName, ResourceType, ServiceCategory, ServiceName, ServiceProviderName, "
    "ServiceSubcategory, SkuId, SubAccountId, SubAccountName, SubAccountType, x_ByokCost, x_CachedTokens, "
    "x_CompletionTokens, x_PromptTokens, x_Provider, x_ReasoningTokens, x_Requests",
    "marts.key_spend_rolling": "account, key_hash, company, period, key_name, as_of, measures",
    "marts.company_spend_rolling": "account, company, period, as_of, measures, previous_credits_usd, previous_byok_usd",
    "marts.company_spend_daily": "account, day, company, measures, is_settled",
    "marts.company_spend_monthly": "account, month, company, measures, is_settled",
    "marts.unattributed_spend": "account, key_hash, key_name, first_day, last_day, credits_usd, byok_usd",
    "marts.reconciliation_daily": "account, day, account_credits_usd, keys_credits_usd, residual_credits_usd, "
    "account_byok_usd, keys_byok_usd, residual_byok_usd, hours_credits_usd, status, cause",
    "ops.sync_request": "id, account, since, requested_by, requested_at, status, finished_at, error, run_ids, "
    "served_with",
    "ops.sync_run": "run_id, account, request_id, started_at, finished_at, status, as_of, requests_made, rows_written, "
    "error",
    "ops.restatement": "account, day, key_hash, model, noticed_at, credits_usd_before, credits_usd_after, "
    "byok_usd_before, byok_usd_after, run_id",
}
# Readers of these may find a column that the contract does not name, where a person would look for it too.
MAY_HAVE_MORE = {
    *("ref.account", "ref.mapping_version", "ref.mapping_rule", "ref.company", "marts.reconciliation_daily"),
    *("marts.key_spend_rolling", "marts.company_spend_rolling", "marts.company_spend_daily"),
    *("marts.company_spend_monthly", "marts.unattributed_spend"),
}

GRAINS = {
    "ref.account": "account",
    "ref.api_key": "account, key_hash",
    "ref.api_key_history": "account, key_hash, valid_from",
    "ref.assignment": "account, key_hash, valid_from, company",
    "ref.mapping_rule": "version, line",
    "core.spend_hourly": "account, hour, company, key_hash, model",
    "core.spend_daily": "account, day, company, key_hash, model, provider",
    "marts.spend_hourly": "account, hour, company, key_hash, model",
    "marts.spend_daily": "account, day, company, key_hash, model, provider",
    "marts.focus_cost_and_usage": '"BillingAccountId", "ChargePeriodStart", "SubAccountId", "ResourceId", "SkuId", '
    '"x_Provider"',
    "marts.key_spend_rolling": "account, key_hash, company, period",
    "marts.company_spend_rolling": "account, company, period",
    "marts.company_spend_daily": "account, day, company",
    "marts.company_spend_monthly": "account, month, company",
    "marts.unattributed_spend": "account, key_hash",
    "marts.reconciliation_daily": "account, day",
    "ops.restatement": "account, day, key_hash, model, noticed_at",
}
# A mapping may be in force before any cost follows it.
READERS = [name for name in GRAINS if name not in ("ref.account", "ref.mapping_rule")]

MAPPING = (
    "A,key_name,Company A,,2026-11-15,",
    "Old,key_name,Company A,,,",
    "A,key_name,Company B,2026-11-20,,33.333",
    "B,key_name,Company B,2026-11-20,,66.667",
    "B,key_name,*B,,,",
)


@pytest.fixture
def world(engine: sa.Engine) -> World:
    """`small` under a mapping with dates, a split and a catch-all that is not one; not synced yet."""
    made = World(engine, small(NOON))
    made.map(*MAPPING)
    return made


def synced_world(engine: sa.Engine) -> World:
    made = World(engine, small(NOON))
    made.map(*MAPPING)
    made.sync()
    return made


@pytest.fixture
def synced(filled: Filled[World], engine: sa.Engine) -> World:
    """The same, synced."""
    return filled(synced_world, engine)


# ── the contract ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def columns(engine: sa.Engine) -> dict[str, dict[str, str]]:
    """Relation → column → type."""
    found: dict[str, dict[str, str]] = {}
    for relation, column, kind in query(
        engine,
        "select table_schema || '.' || table_name, column_name, data_type from information_schema.columns "
        "where table_schema = any(:schemas) order by ordinal_position",
        schemas=list(SCHEMAS),
    ):
        found.setdefault(relation, {})[column] = kind
    return found


@pytest.mark.parametrize("relation", CONTRACT)
def test_the_relations_of_the_contract_have_its_columns(columns: dict[str, dict[str, str]], relation: str) -> None:
    told = set(named(CONTRACT[relation]))
    there = set(columns[relation])
    assert told - there == set()
    assert relation in MAY_HAVE_MORE or there == told


def test_money_and_counts_are_numeric_days_are_dates_and_instants_know_their_zone(
    columns: dict[str, dict[str, str]],
) -> None:
    instants = {"hour", "as_of", "created_at", "noticed_at", "hours_from"}
    wrong = []
    for relation, kinds in columns.items():
        for column, kind in kinds.items():
            expected = {
                column.endswith("_usd") or "_usd_" in column or column in MEASURES or column == "share": "numeric",
                column in {"day", "month", "first_day", "last_day", "since"}: "date",
                column in instants or column.endswith("_at"): "timestamp with time zone",
                column.startswith("is_"): "boolean",
            }.get(True)
            if expected and kind != expected:
                wrong.append((relation, column, kind))
    assert wrong == []


def test_no_column_anywhere_is_binary_floating_point(columns: dict[str, dict[str, str]]) -> None:
    kinds = {kind for relation in columns.values() for kind in relation.values()}
    assert not kinds & {"real", "double precision", "money", "timestamp without time zone"}


def test_numeric_columns_round_nothing_below_the_marts(engine: sa.Engine) -> None:
    limited = query(
        engine,
        "select table_name, column_name from information_schema.columns "
        "where table_schema = any(:schemas) and data_type = 'numeric' and numeric_precision is not null",
        schemas=[schema for schema in SCHEMAS if schema not in ("marts", "viewer")],
    )
    # The columns of functions in marts: relations without rows.
    assert {table for table, _ in limited} == {"company_spend", "company_spend_local"}


def test_every_relation_and_column_has_a_comment(engine: sa.Engine) -> None:
    without = query(
        engine,
        "select n.nspname || '.' || c.relname, a.attname from pg_class c "
        "join pg_namespace n on n.oid = c.relnamespace "
        "join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped "
        "where n.nspname = any(:schemas) and c.relkind in ('r', 'v', 'm', 'p') and c.relname <> 'schema_version' "
        "and (obj_description(c.oid) is null or col_description(c.oid, a.attnum) is null)",
        schemas=list(SCHEMAS),
    )
    assert without == []


SCHEMA_COMMENTS = "select nspname, obj_description(oid, 'pg_namespace') from pg_namespace where nspname = any(:schemas)"
FUNCTION_COMMENTS = (
    "select pronamespace::regnamespace || '.' || proname, obj_description(oid, 'pg_proc') from pg_proc "
    "where pronamespace::regnamespace::text = any(:schemas)"
)


def test_every_schema_and_function_has_its_comment_and_no_other_has(engine: sa.Engine) -> None:
    assert dict(query(engine, SCHEMA_COMMENTS, schemas=list(SCHEMAS))) == SCHEMA_TEXTS
    assert dict(query(engine, FUNCTION_COMMENTS, schemas=list(SCHEMAS))) == declared_schema().comments.functions


def test_what_users_put_into_our_schemas_stops_no_migration_and_keeps_its_comment(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for statement in (
            "create view marts.theirs as select 1 as one",
            "comment on view marts.theirs is 'Theirs'",
            "create function marts.their_function() returns integer language sql as 'select 1'",
        ):
            connection.exec_driver_sql(statement)
    migrate(engine)
    assert query(engine, "select obj_description('marts.theirs'::regclass)") == [("Theirs",)]


COMMENTS = (
    "select n.nspname || '.' || c.relname as relation, a.attname, obj_description(c.oid, 'pg_class'), "
    "col_description(c.oid, a.attnum) from pg_class c join pg_namespace n on n.oid = c.relnamespace "
    "join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped "
    "where n.nspname = any(:schemas) and c.relkind in ('r', 'v') and c.relname <> 'schema_version' order by 1, 2"
)


def test_no_comment_is_of_what_is_not_there(engine: sa.Engine) -> None:
    names = [(relation, column) for relation, column, *_ in query(engine, COMMENTS, schemas=list(SCHEMAS))]
    overridden = {f"{relation}.{column}" for relation, column in names}
    in_general = {column for relation, column in names if f"{relation}.{column}" not in OVERRIDES}
    assert (sorted(set(OVERRIDES) - overridden), sorted(set(COLUMNS) - in_general)) == ([], [])


@pytest.mark.slow
def test_an_older_warehouse_is_migrated_to_the_comments_of_a_new_one(engine: sa.Engine, empty_url: str) -> None:
    with opened(empty_url) as older:
        migrate(older, "0004")
        with older.begin() as connection:
            connection.exec_driver_sql("comment on column core.usage_hourly.requests is 'as it was'")
        migrate(older)
        wanted = query(engine, COMMENTS, schemas=list(SCHEMAS))
        assert query(older, COMMENTS, schemas=list(SCHEMAS)) == wanted


def test_a_comment_that_was_edited_is_written_by_the_next_migration_and_no_other(engine: sa.Engine) -> None:
    schema = declared_schema()
    edited = replace(schema, comments=schema.comments._replace(columns={**COLUMNS, "model_id": "Edited."}))
    written: list[str] = []
    event.listen(
        engine, "before_cursor_execute", lambda *told: written.append(told[2]) if "comment on" in told[2] else None
    )
    migrate(engine, schema=edited)
    assert {row[3] for row in query(engine, COMMENTS, schemas=list(SCHEMAS)) if row[1] == "model_id"} == {"Edited."}
    assert all(".model_id is 'Edited.'" in statement for statement in written)
    written.clear()
    migrate(engine, schema=edited)
    assert not written


def test_the_relations_that_are_described_are_those_that_exist(columns: dict[str, dict[str, str]]) -> None:
    assert set(declared_schema().comments.relations) == set(columns) - {"ops.schema_version"}


def test_the_grain_of_each_relation_is_that_of_the_contract(synced: World) -> None:
    for relation, grain in GRAINS.items():
        twice = synced.rows(f"select {grain} from {relation} group by {grain} having count(*) > 1")
        assert twice == [], relation
        if relation != "ops.restatement":
            assert synced.value(f"select count(*) from {relation}") > 0, relation


def test_sessions_speak_utc_whatever_the_server_thinks(engine: sa.Engine) -> None:
    assert query(engine, "show timezone") == [("UTC",)]


# ── Sync Now from SQL ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("call", "account", "since"),
    [
        ("ops.request_sync()", None, None),
        ("ops.request_sync('acme')", "acme", None),
        ("ops.request_sync('acme', '2026-11-01')", "acme", date(2026, 11, 1)),
        ("ops.request_sync(null, date '2026-11-01')", None, date(2026, 11, 1)),
        ("ops.request_sync(since => '2026-11-01')", None, date(2026, 11, 1)),
        ("ops.request_sync(since => '2026-11-01', account => 'acme')", "acme", date(2026, 11, 1)),
    ],
)
def test_a_sync_is_requested_from_any_sql_client(
    engine: sa.Engine, call: str, account: str | None, since: date | None
) -> None:
    with engine.begin() as connection:
        request_id = connection.execute(sa.text(f"select {call}")).scalar_one()
        row = connection.execute(sa.text("select *, session_user as me, now() as moment from ops.sync_request")).one()
    assert (row.id, row.account, row.since, row.status) == (request_id, account, since, "queued")
    assert (row.requested_by, row.requested_at) == (row.me, row.moment)
    assert (row.finished_at, row.error) == (None, None)
    with engine.connect() as connection:
        assert unfinished_requests(connection) == [Requests(account, "queued", {}, [], [request_id], since)]


def test_requests_are_counted_up(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        ids = [connection.execute(sa.text("select ops.request_sync()")).scalar_one() for _ in range(3)]
    assert ids == [1, 2, 3]


# ── any range of whole hours ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        ("2026-11-23 10:30+00", "2026-11-23 12:00+00", "must be whole UTC hours"),
        ("2026-11-23 10:00+00", "2026-11-23 12:00:01+00", "must be whole UTC hours"),
        ("2026-11-23 10:00+05:30", "2026-11-23 12:00+00", "must be whole UTC hours"),
        ("2026-11-23 12:00+00", "2026-11-23 10:00+00", "start_at must not be later than end_at"),
        (None, "2026-11-23 12:00+00", "start_at must not be later than end_at"),
        ("2026-11-23 12:00+00", None, "start_at must not be later than end_at"),
    ],
)
def test_ranges_that_are_not_whole_hours_or_reversed_are_refused(
    engine: sa.Engine, start: str | None, end: str | None, told: str
) -> None:
    call = "select * from marts.company_spend_between(cast(:start as timestamptz), cast(:end as timestamptz))"
    with pytest.raises(sqlalchemy.exc.DataError, match=told):
        query(engine, call, start=start, end=end)


def test_an_empty_range_has_no_rows(synced: World) -> None:
    assert synced.rows("select * from marts.company_spend_between('2026-11-23 10:00+00', '2026-11-23 10:00+00')") == []


def test_every_range_sums_to_the_hours_and_adjacent_ranges_add_up(synced: World) -> None:
    call = "select company, requests, prompt_tokens, credits_usd, byok_usd from marts.company_spend_between(:a, :b)"
    cuts = [NOON.replace(minute=0) - hours * HOUR for hours in (700, 300, 49, 48, 24, 13, 12, 1, -1)]
    added: dict[str, list[Decimal]] = {}
    for start, end in pairwise(cuts):
        told = {row[0]: row[1:] for row in map(tuple, synced.rows(call, a=start, b=end))}
        hours = synced.rows(
            "select company, sum(requests), sum(prompt_tokens), sum(credits_usd), sum(byok_usd) "
            "from core.spend_hourly where hour >= :a and hour < :b group by 1",
            a=start,
            b=end,
        )
        assert told == {row[0]: row[1:] for row in map(tuple, hours)}, (start, end)
        for company, measures in told.items():
            sums = added.get(company, [Decimal(0)] * 4)
            added[company] = [a + b for a, b in zip(sums, measures, strict=True)]
    whole = {row[0]: list(row[1:]) for row in map(tuple, synced.rows(call, a=cuts[0], b=cuts[-1]))}
    assert added == whole
    assert sum(measures[2] for measures in whole.values()) == Decimal("111.75")


# ── migrations ───────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def opened(url: str) -> Iterator[sa.Engine]:
    engine = connect(url)
    try:
        yield engine
    finally:
        engine.dispose()


CATALOGUE = (
    "select n.nspname, c.relname, c.oid::text, c.relfilenode::text, c.xmin::text "
    "from pg_class c join pg_namespace n on n.oid = c.relnamespace "
    "where n.nspname = any(:schemas) order by 1, 2"
)


def test_migrating_twice_changes_nothing(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("select ops.request_sync('kept')"))
    before = query(engine, CATALOGUE, schemas=list(SCHEMAS))
    assert before
    migrate(engine)
    assert query(engine, CATALOGUE, schemas=list(SCHEMAS)) == before
    assert query(engine, "select account from ops.sync_request") == [("kept",)]
    assert query(engine, "select count(*) from ops.schema_version") == [(1,)]


def test_opening_an_empty_database_makes_the_warehouse(empty_url: str, tmp_path: Any) -> None:
    engine = open_warehouse(empty_url, tmp_path)
    try:
        assert query(engine, "select company from ref.company") == [("Unattributed",)]
    finally:
        engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "is_loaded"), [("select", False), ("update ops.schema_object set content_sha256 = 'older'", True)]
)
def test_a_warehouse_that_is_current_is_opened_without_alembic(
    database_url: str, engine: sa.Engine, tmp_path: Any, statement: str, is_loaded: bool
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    code = (
        "import sys; from pathlib import Path; from orcost_pipeline.warehouse.opening import open_warehouse; "
        "open_warehouse(sys.argv[1], Path(sys.argv[2])).dispose(); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, database_url, tmp_path], capture_output=True, check=True)
    assert done.stdout.decode() == f"{is_loaded}\n"


def migrate_in_process(url: str, start: Any) -> None:
    with opened(url) as engine:
        start.wait()
        migrate(engine)


@pytest.mark.slow
def test_a_migrated_warehouse_knows_the_periods_before_as_a_published_one_does(engine: sa.Engine) -> None:
    """Until the next sync a mapping that moves one key counts on what the migration filled in for the others."""
    for account in ("acme", "globex"):
        ledger = Ledger()
        ledger.add_account(account)
        for number, name in enumerate(("Company A", "Company B", "Company C")):
            key = ledger.add_key(account, name, NOON - 20 * DAY)
            for ago in (30 * HOUR, 9 * DAY):
                ledger.spend(account, NOON - ago, key, GPT, usage(f"{number}.0123456789012", "0.000000001"))
        world = World(engine, ledger, account=account)
        world.map(*MAPPING)
        world.sync()
    script = (Path(migrations.__file__).parent / "versions/0005_companies.sql").read_text(encoding="utf-8")
    columns = "account_id, key_id, company_id, period, trim_scale(credits_usd), trim_scale(byok_usd)"
    rows = f"select {columns} from core.key_previous"
    with engine.begin() as connection:
        published = connection.exec_driver_sql(f"{rows} order by 1, 2, 3, 4").all()
        connection.exec_driver_sql("delete from core.key_previous")
        connection.exec_driver_sql(script[script.index("insert into core.key_previous") :])
        assert connection.exec_driver_sql(f"{rows} order by 1, 2, 3, 4").all() == published
    assert len(published) > 10


@pytest.mark.slow
def test_processes_that_migrate_at_once_make_one_warehouse(empty_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    both = [spawn.Process(target=migrate_in_process, args=(empty_url, start)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    with opened(empty_url) as engine:
        assert query(engine, "select count(*) from ops.schema_version") == [(1,)]
        assert query(engine, "select company_id, company from ref.company") == [(0, "Unattributed")]


@pytest.mark.slow
def test_a_migration_that_fails_leaves_nothing_and_can_run_again(empty_url: str) -> None:
    schema = declared_schema()
    columns = {name: text for name, text in COLUMNS.items() if name != "pricing"}
    with opened(empty_url) as engine:
        with pytest.raises(KeyError):
            migrate(engine, schema=replace(schema, comments=schema.comments._replace(columns=columns)))
        assert query(engine, "select to_regclass('ref.account')::text") == [(None,)]
        migrate(engine)
        assert query(engine, "select to_regclass('ref.account')::text") == [("ref.account",)]


def test_a_postgres_too_old_is_refused_in_a_sentence(empty_url: str) -> None:
    with opened(empty_url) as engine:
        major = int(query(engine, "show server_version_num")[0][0]) // 10_000
        with pytest.raises(PermanentError, match=f"^Postgres {major} is too old: orcost needs 99 or newer.$"):
            migrate(engine, oldest_major=99)
        assert query(engine, "select to_regnamespace('ops')::text") == [(None,)]


def test_a_warehouse_newer_than_the_program_is_refused_in_a_sentence(database_url: str, tmp_path: Any) -> None:
    with opened(database_url) as engine, engine.begin() as connection:
        connection.execute(sa.text("update ops.schema_version set version_num = '9999'"))
    with pytest.raises(PermanentError, match="newer"):
        open_warehouse(database_url, tmp_path)


def test_a_database_that_is_not_there_is_told_in_a_sentence_without_its_password(tmp_path: Any) -> None:
    with pytest.raises(TransientError, match="Check ORCOST_DATABASE_URL") as caught:
        open_warehouse("postgresql://reader:sesame@127.0.0.1:9/costs", tmp_path)
    assert "sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://root@127.0.0.1/costs", "costs", "sqlite:///costs.db"])
def test_what_is_no_postgres_url_is_refused(url: str, tmp_path: Any) -> None:
    with pytest.raises(PermanentError, match="ORCOST_DATABASE_URL"):
        open_warehouse(url, tmp_path)


# ── all or nothing ───────────────────────────────────────────────────────────────────────────────────────────────────

# Of each part of the publication the last step that a sync with analytics runs.
PARTS = (
    *(order.HOLDER, order.COUNTING, order.KEYS, order.UNREADABLE, order.NAMES, order.ANALYTICS, order.DAYS),
    *(order.ATTRIBUTION, order.MARTS, order.CONTRACT_CHECKS, order.COMPLETION),
)
LAST_STEPS = [
    [step.name for step in part if step.when in (When.ALWAYS, When.EXTRACTION, When.ANALYTICS)][-1] for part in PARTS
]


class DiedError(Exception):
    """The process is gone."""


def figures(world: World) -> dict[str, Any]:
    """All that readers see of usage, spend, owners and keys."""
    seen = {name: world.rows(f"select t::text from {name} t order by 1") for name in READERS}
    as_of = world.rows("select account, as_of, hours_from, credits_used_usd, full_pass_at from ref.account")
    return {**seen, "ref.account": as_of}


def everything_changes(world: World) -> None:
    """An hour later: spend, a new key, a rename, a deletion, a restatement, and another mapping."""
    first, second, third = world.ledger.accounts["acme"].keys
    world.later(hours=1)
    moment = world.now - timedelta(minutes=5)
    world.ledger.spend("acme", moment, first, CLAUDE, usage("0.7"))
    new = world.ledger.add_key("acme", "Brand new", moment)
    world.ledger.spend("acme", moment, new, GPT, usage("0.3", "0.2"))
    world.ledger.rename("acme", second, "Company C", moment)
    world.ledger.delete("acme", third, moment)
    world.ledger.restate("acme", (NOON - 2 * DAY).date(), first, GPT, factor=Decimal(2))
    world.map("Everyone,key_name,*")


def assert_all_is_true(world: World) -> None:
    world.assert_hours_are_true()
    world.assert_days_are_true()
    world.assert_books_close()


@pytest.mark.parametrize("step", sampled(reversed(LAST_STEPS), 1))
def test_dying_after_any_step_shows_readers_nothing_and_the_next_sync_is_whole(
    synced: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = figures(synced)
    everything_changes(synced)
    reached = []

    def die(publishing: Publication) -> None:
        reached.append(step)
        raise DiedError(step)

    with monkeypatch.context() as patch:
        after_step(step, patch, die)
        with pytest.raises(DiedError):
            synced.sync()
    assert reached == [step]
    assert figures(synced) == before
    synced.later(minutes=1).sync()
    assert figures(synced) != before
    assert_all_is_true(synced)
    assert synced.value("select count(*) from ops.restatement") == 1
    assert synced.later(minutes=1).sync() == {}


@pytest.mark.slow
def test_dying_while_the_run_is_closed_shows_readers_nothing(synced: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = figures(synced)
    everything_changes(synced)

    def die(*arguments: Any) -> None:
        raise DiedError

    with monkeypatch.context() as patch:
        patch.setattr(runs, "succeed", die)
        with pytest.raises(DiedError):
            synced.sync()
    assert figures(synced) == before
    synced.later(minutes=1).sync()
    assert_all_is_true(synced)


@pytest.mark.parametrize(
    "read",
    sampled(
        [
            *(steps.read_account, steps.read_workspaces, steps.read_members),
            *(steps.read_api_keys, steps.read_usage_of_account),
        ],
        1,
    ),
)
def test_an_extraction_that_is_not_whole_is_not_published(synced: World, read: Callable[..., object]) -> None:
    before = figures(synced)
    synced.later(hours=1)
    synced.ledger.spend("acme", synced.now - timedelta(minutes=5), None, GPT, usage("9"))
    step = synced.step()
    synced.read(step, without=read)
    with pytest.raises(PermanentError, match=r"^Nothing of this sync .* was published: what it read is not whole"):
        steps.publish_account(step)
    assert figures(synced) == before


@pytest.mark.slow
def test_readers_during_a_publication_see_the_old_figures(synced: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = figures(synced)
    everything_changes(synced)
    seen = []
    after_step("purge", monkeypatch, lambda publishing: seen.append(figures(synced)))
    synced.sync()
    assert seen == [before]
    assert figures(synced) != before


CORRUPTIONS = {
    "company_hours_sum_to_usage": (
        "moved_company_hour",
        "update core.company_hour set byok_usd = byok_usd + 0.000000000001 where hour = '2026-11-23 13:00+00'",
    ),
    "models_sum_to_usage": (
        "moved_model_month",
        "update core.model_month set requests = requests + 0.000000000001 where month = '2026-11-01'",
    ),
    "holders_sum_to_companies": (
        "moved_holder_day",
        "update core.holder_day set credits_usd = credits_usd - 0.000000000001 "
        "where day = '2026-11-23' and attribute = 'workspace'",
    ),
    "rolling_totals_sum_to_keys": (
        "company_rolling",
        "update core.rolling_total set cached_tokens = 0, prompt_tokens = prompt_tokens + 1 where period = '7d'",
    ),
    "every_usage_has_one_owner": (
        "reassigned_day",
        "delete from core.assignment where key_id = 0",
    ),
    "companies_sum_to_usage": (
        "company_rolling",
        "update core.company_day set credits_usd = credits_usd + 0.000000000001 where day = '2026-11-23'",
    ),
    "account_sums_to_its_answer": (
        "unkeyed_hour",
        "update core.usage_hourly set byok_usd = byok_usd + 0.00001 where hour = '2026-11-23 13:00+00'",
    ),
    "settled_days_sum_to_activity": (
        "account_day",
        "update core.usage_daily set requests = requests + 1 where day = '2026-11-21'",
    ),
}


QUICKEST = ("rolling_totals_sum_to_keys", "account_sums_to_its_answer")
CHECKS = [name if name in QUICKEST else pytest.param(name, marks=pytest.mark.slow) for name in CORRUPTIONS]


@pytest.mark.parametrize("check", CHECKS)
def test_each_contract_check_stops_what_it_is_there_to_stop(
    synced: World, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    step, corruption = CORRUPTIONS[check]
    before = figures(synced)
    everything_changes(synced)

    def corrupt(publishing: Publication) -> None:
        assert publishing.connection.execute(sa.text(corruption)).rowcount > 0

    with monkeypatch.context() as patch:
        after_step(step, patch, corrupt)
        with pytest.raises(ContractError, match=f'^Contract check {check} failed for account "acme"; nothing was publ'):
            synced.sync()
    assert figures(synced) == before
    synced.later(minutes=1).sync()
    assert_all_is_true(synced)


@pytest.mark.parametrize(
    "gap",
    sampled(
        [
            "delete from core.assignment where key_id = 1 and valid_to = 'infinity'",
            "update core.assignment set valid_from = '2020-01-01' where key_id = 3 and valid_from = '-infinity'",
            "update core.assignment set share = share - 0.0000001 where share > 0.3 and share < 0.5",
            "insert into core.assignment select account_id, key_id, '2026-11-01', 'infinity', 0, 0.5 "
            "from core.assignment where company_id <> 0 and key_id <> 0 order by key_id limit 1",
        ],
        1,
    ),
)
def test_gaps_overlaps_and_wrong_sums_of_shares_are_found(
    synced: World, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    def corrupt(publishing: Publication) -> None:
        assert publishing.connection.execute(sa.text(gap)).rowcount > 0

    after_step("reassigned_day", monkeypatch, corrupt)
    with pytest.raises(ContractError, match="every_usage_has_one_owner"):
        synced.later(minutes=1).sync()


# ── who owns what ────────────────────────────────────────────────────────────────────────────────────────────────────

UNCOVERED = """
with cut as (
    select account, key_hash, valid_from as day from ref.assignment
    union select account, key_hash, valid_to from ref.assignment where valid_to < 'infinity'
    union select account, key_hash, '-infinity' from ref.api_key
    union select account, null, '-infinity' from ref.account
)
select c.account, c.key_hash, c.day::text, sum(a.share)
from cut c
left join ref.assignment a on a.account = c.account and a.key_hash is not distinct from c.key_hash
    and a.valid_from <= c.day and a.valid_to > c.day
group by 1, 2, 3
having sum(a.share) is distinct from 1
"""


@pytest.mark.slow
def test_every_key_and_no_key_has_owners_from_the_beginning_to_the_end_of_time(synced: World) -> None:
    everything_changes(synced)
    synced.map(*MAPPING)
    synced.sync()
    assert synced.rows(UNCOVERED) == []
    spans = synced.rows("select key_hash, min(valid_from)::text, max(valid_to)::text from ref.assignment group by 1")
    assert {row[1:] for row in map(tuple, spans)} == {("-infinity", "infinity")}
    keys = {row[0] for row in synced.rows("select key_hash from ref.api_key")}
    assert len(keys) == 4
    assert {row[0] for row in spans} == keys | {None}


def test_without_any_mapping_all_is_unattributed_explicitly(engine: sa.Engine) -> None:
    world = World(engine, small(NOON))
    world.sync()
    assert world.rows(UNCOVERED) == []
    owners = world.rows("select distinct company, share, rule, valid_from::text, valid_to::text from ref.assignment")
    assert owners == [("Unattributed", 1, None, "-infinity", "infinity")]
    assert world.value("select count(*) from ref.assignment") == 4


def test_spend_without_a_key_is_a_row_of_its_own_whatever_the_rules_say(engine: sa.Engine) -> None:
    world = World(engine, small(NOON))
    world.map("All,key_name,*", "All,workspace,*", "All,creator,*", "All,label,*")
    world.sync()
    rows = world.rows("select * from marts.unattributed_spend")
    today = NOON.date()
    assert [tuple(row) for row in rows] == [("acme", None, None, today, today, Decimal("0.25"), 0, NOON)]
    told = world.rows("select key_hash, key_name, rule from core.spend_daily where company = 'Unattributed'")
    assert [tuple(row) for row in told] == [(None, None, None)]
    rolling = world.rows("select period from marts.key_spend_rolling where key_hash is null order by 1")
    assert [row.period for row in rolling] == ["24h", "30d", "7d"]


def test_the_rule_of_spend_is_its_label_as_written(synced: World) -> None:
    rules = {row[0] for row in synced.rows("select distinct rule from core.spend_daily")}
    assert rules == {None, "key_name:Company A", "key_name:Company B", "key_name:*B"}


@pytest.mark.slow
def test_an_account_without_keys_and_usage_is_published_too(engine: sa.Engine) -> None:
    ledger = Ledger()
    ledger.add_account("acme")
    world = World(engine, ledger)
    world.sync()
    assert world.rows("select key_hash, company from ref.assignment") == [(None, "Unattributed")]
    assert world.rows("select * from marts.company_spend_daily") == []
    assert world.later(minutes=1).sync() == {}


# ── raw is kept for days ─────────────────────────────────────────────────────────────────────────────────────────────

RAW = [name for name in declared_schema().comments.relations if name.startswith("raw.")]


@pytest.mark.slow
def test_raw_rows_older_than_the_retention_are_purged_and_younger_ones_stay(synced: World) -> None:
    first = synced.now
    synced.later(days=7).sync()
    assert synced.value("select count(*) from raw.api_key where as_of = :first", first=first) == 3
    synced.later(days=1, minutes=1).sync()
    for relation in RAW:
        assert synced.value(f"select count(*) from {relation} where as_of <= :first", first=first) == 0, relation
    kept = synced.rows("select distinct as_of from raw.api_key order by 1")
    assert [row.as_of for row in kept] == [first + 7 * DAY, synced.now]
    assert_all_is_true(synced)


def test_every_raw_relation_is_purged(engine: sa.Engine) -> None:
    old = datetime(2026, 1, 1, tzinfo=UTC)
    with engine.begin() as connection:
        raw.start_extraction(connection, "old", "acme", old)
        for relation in RAW:
            needed = connection.execute(
                sa.text(
                    "select column_name, data_type from information_schema.columns "
                    "where table_schema || '.' || table_name = :relation and is_nullable = 'NO'"
                ),
                {"relation": relation},
            ).all()
            filler = {
                "timestamp with time zone": f"'{old.isoformat()}'",
                "date": "'2026-01-01'",
                "numeric": "0",
                "integer": "0",
                "boolean": "false",
                "jsonb": "'{}'",
            }
            special = {"account": "'acme'", "grain": "'hour'", "outcome": "'answered'", "run_id": f"'{relation}'"}
            values = [special.get(name) or filler.get(kind, "'x'") for name, kind in needed]
            names = ", ".join(name for name, _ in needed)
            connection.exec_driver_sql(f"insert into {relation} ({names}) values ({', '.join(values)})")
        raw.purge(connection, "acme", old + 8 * DAY + timedelta(seconds=1), 8 * DAY)
        left = {name: connection.execute(sa.text(f"select count(*) from {name}")).scalar_one() for name in RAW}
    assert set(left.values()) == {0}, left


# ── a rerun ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_sync_touches_no_row_of_core_or_ref(synced: World) -> None:
    tables = [
        name
        for name in declared_schema().comments.relations
        if name.startswith(("core.", "ref.")) and "spend" not in name
    ]
    stored = [
        *(
            name
            for name in tables
            if synced.value("select relkind from pg_class where oid = to_regclass(:n)", n=name) == "r"
        )
    ]
    assert len(stored) > 10
    before = {name: synced.rows(f"select ctid::text, xmin::text from {name} order by 1") for name in stored}
    assert synced.later(minutes=1).sync() == {}
    after = {name: synced.rows(f"select ctid::text, xmin::text from {name} order by 1") for name in stored}
    assert {name for name in stored if before[name] != after[name]} == {"ref.account"}


def test_every_mart_says_how_old_it_is(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        columns = connection.exec_driver_sql(
            "select table_name, array_agg(column_name::text) from information_schema.columns "
            "where table_schema = 'marts' group by 1"
        ).all()
    # FOCUS has no column for it; the comparison has parts of every account and of none; a statement says it above.
    without = {name for name, names in columns if "as_of" not in names}
    assert without == {"focus_cost_and_usage", "company_spend_compared", "statement"}
