"""Seconds of attribution: 50,000 rules on 10,000 keys, and one key moved among 10 million hourly facts.

Beside the rules: each rule tried on each key, on a sample. Beside the moved key: all keys moved at once, which is a
rebuild. Rows written are those of the publication, and what Postgres counted of the marts and the assignment.
"""

import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from orcost_pipeline.companies.assignment import KeyHistory, KeyVersion, assign, glob_matches
from orcost_pipeline.companies.mapping import Rule, read_mapping
from orcost_pipeline.settings import Account
from orcost_pipeline.sync import steps
from orcost_pipeline.sync.attribution import load_mapping
from orcost_pipeline.sync.sync_step import SyncStep
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.opening import open_warehouse
from orcost_pipeline.windows import DAY, HOUR, hour_floor

T = TypeVar("T")
RULES, KEYS, SAMPLE = 50_000, 10_000, 20
HOURS, MODELS = 500, 2
COUNTERS = [f"{byok}usage{of}_usd" for byok in ("", "byok_") for of in ("", "_daily", "_weekly", "_monthly")]
MEASURES = "1, 900, 100, 0, 0, (k * 7 % 1000) * 0.000001, 0"


def main() -> None:
    resolve()
    home = Path(tempfile.mkdtemp(prefix="orcost-bench-"))
    home.chmod(0o755)
    try:
        move(open_warehouse(None, home))
    finally:
        EmbeddedPostgres(home).stop()
        shutil.rmtree(home, ignore_errors=True)


def resolve() -> None:
    """Rules of all kinds, a tenth of them dated, on keys of which each is somebody's."""
    chance = random.Random(1)
    kinds = ("Team {} *", "*-{}", "app-{}-*-prod", "?ob {}", "svc {}")
    lines = [
        f"Company {number % 500},key_name,{chance.choice(kinds).format(number)},{'' if number % 10 else '2026-11-01'}"
        for number in range(RULES)
    ]
    keys = [_history(f"{number:064x}", f"svc {chance.randrange(RULES)}") for number in range(KEYS)]
    read, rules = timed(
        lambda: read_mapping("\n".join(["company,match,pattern,valid_from", *lines]).encode(), "it").rules
    )
    index, rows = timed(lambda: assign("acme", rules, keys))
    naive, _ = timed(lambda: [_tried(rules, key) for key in keys[:SAMPLE]])
    print(f"{RULES:,} rules read and validated: {read:.1f} s")
    print(f"{KEYS:,} keys resolved: {index:.1f} s, {len(rows):,} rows")
    ratio = naive / SAMPLE / (index / KEYS)
    print(f"beside it, each rule tried on {SAMPLE} keys: {naive:.1f} s, {ratio:,.0f} times as long a key")


def _history(key_hash: str, name: str) -> KeyHistory:
    return KeyHistory(key_hash, (KeyVersion(datetime(2026, 1, 1, tzinfo=UTC), name, "sk-or-v1-…"),))


def _tried(rules: Sequence[Rule], key: KeyHistory) -> Rule | None:
    return next((rule for rule in rules if glob_matches(rule.pattern, key.versions[0].name)), None)


def move(engine: sa.Engine) -> None:
    """A mapping alone is published three times: for the first time, one key moved, all keys moved."""
    now = datetime.now(UTC)
    seconds, _ = timed(lambda: fill(engine, now))
    print(f"\n{KEYS * HOURS * MODELS:,} hourly facts of {KEYS:,} keys, filled in {seconds:.0f} s")
    for what, lines in (
        ("all keys for the first time", ["A,key_name,*"]),
        ("one key moved", ["B,key_name,key 7", "A,key_name,*"]),
        ("the same again", ["B,key_name,key 7", "A,key_name,*"]),
        ("beside it: all keys moved", ["C,key_name,*"]),
    ):
        load_mapping(engine, read_mapping("\n".join(["company,match,pattern", *lines]).encode(), "it"), now)
        before = written(engine)
        seconds, rows = timed(lambda: publish(engine, now))
        told = ", ".join(f"{name} {count - before[name]:,}" for name, count in written(engine).items())
        print(f"{what:<30}{seconds:>8.1f} s{rows:>10,} rows; counted by Postgres: {told}")


def publish(engine: sa.Engine, now: datetime) -> int:
    account = Account(name="acme", api_key_env="OPENROUTER_API_KEY", api_key=None, base_url="http://127.0.0.1:1")
    run_id = str(uuid.uuid4())
    return sum(steps.publish_account(SyncStep(account, engine, run_id, run_id, now, lambda: now)).rows.values())


def fill(engine: sa.Engine, now: datetime) -> None:
    """Keys, hours, and days that are their hours."""
    last = hour_floor(now)
    first = last - (HOURS - 1) * HOUR
    parameters = {"now": now, "seen": now - 40 * DAY, "first": first, "last": last}
    with engine.begin() as connection:
        for statement in (
            "insert into ref.account (account, kind, status, as_of, checked_at, hours_from) "
            "values ('acme', 'management', 'ok', :now, :now, :first)",
            "insert into core.model (model) select 'vendor/model-' || m from generate_series(1, 2) m",
            f"insert into core.api_key (account_id, key_hash, first_seen_at, {', '.join(COUNTERS)}) "
            f"select 1, lpad(to_hex(k), 64, '0'), :seen, {', '.join('0' for _ in COUNTERS)} "
            f"from generate_series(1, {KEYS}) k",
            "insert into core.api_key_version (key_id, valid_from, name, label, is_disabled, is_deleted) "
            "select key_id, :seen, 'key ' || key_id, 'sk-or-v1-…', false, false from core.api_key",
            f"insert into core.usage_hourly select h, 1, k, m, {MEASURES}, 'analytics' "
            "from generate_series(:first ::timestamptz, :last, interval '1 hour') h, "
            f"generate_series(1, {KEYS}) k, generate_series(1, {MODELS}) m",
            "insert into core.usage_daily select (hour at time zone 'UTC')::date, 1, key_id, model_id, 0, "
            "sum(requests), sum(prompt_tokens), sum(completion_tokens), sum(reasoning_tokens), sum(cached_tokens), "
            "sum(credits_usd), sum(byok_usd), 'hours' from core.usage_hourly group by 1, 3, 4",
            "insert into core.account_day (account_id, day, is_settled, account_credits_usd, keys_credits_usd, "
            "account_byok_usd, keys_byok_usd) "
            "select 1, day, false, sum(credits_usd), sum(credits_usd), 0, 0 from core.usage_daily group by day",
        ):
            connection.execute(sa.text(statement), parameters)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum analyze")


def written(engine: sa.Engine) -> dict[str, int]:
    """Rows that Postgres counted as inserted, updated or deleted, since ever."""
    engine.dispose()  # a session tells its counts when it ends, or some time before
    time.sleep(1)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "select schemaname || '.' || relname, n_tup_ins + n_tup_upd + n_tup_del from pg_stat_user_tables "
            "where schemaname || '.' || relname in ('core.assignment', 'core.company_day', 'core.usage_hourly', "
            "'core.usage_daily', 'core.key_rolling') order by 1"
        )
        return {name: int(count) for name, count in rows}


def timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
