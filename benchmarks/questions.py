"""Milliseconds of the questions of the README, the documentation, dashboards and `orcost report` on a year of usage.

The warehouse is an embedded Postgres: SQL generates keys and hourly facts, days are sums of their hours, and everything
that follows from them is published by the product. Each question is asked several times; its median stands beside the
same question asked of the hourly facts joined to the assignments, without any relation of sums. Then what a publication
takes: an hour's sync, one key moved, and the first sync of a second account.

With --home the warehouse is kept: the next run asks the same one, migrated where the program is newer.
"""

import argparse
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import sqlalchemy as sa

from orcost_pipeline.companies.mapping import read_mapping
from orcost_pipeline.settings import Account
from orcost_pipeline.sync import steps
from orcost_pipeline.sync.attribution import load_mapping
from orcost_pipeline.sync.sync_step import SyncStep
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.opening import open_warehouse
from orcost_pipeline.warehouse.questions.spend import GRAINS, rolling_spend, spend_between
from orcost_pipeline.windows import DAY, HOUR, Window, hour_floor

ACCOUNT, SECOND_ACCOUNT = "acme", "globex"
MODELS_A_DAY = 2
HOURS_OF_FIRST_SYNC = 31 * 24
ONCE_FROM_MILLISECONDS = 1_000  # what takes longer is asked of the facts once
COMPANY = "Company 1"
COUNTERS = [f"{byok}usage{of}_usd" for byok in ("", "byok_") for of in ("", "_daily", "_weekly", "_monthly")]
MEASURES = "requests, prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens, credits_usd, byok_usd"
SUMS = ", ".join(f"sum({measure}) as {measure}" for measure in MEASURES.split(", "))


class Size(NamedTuple):
    """How large the warehouse is."""

    facts: int
    keys: int
    companies: int
    models: int
    days: int

    @property
    def permille(self) -> int:
        """Of a key's models of a day, the part of the hours in which they are used, in thousandths."""
        most = self.days * 24 * (self.keys + 1) * MODELS_A_DAY
        return min(1000, max(1, round(1000 * self.facts / most)))


class Question(NamedTuple):
    """A question, how it is asked, and the same asked of the hourly facts (None: they do not answer it)."""

    name: str
    ask: Callable[[sa.Connection], object]
    of_facts: str | None


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    size = Size(options.facts, options.keys, options.companies, options.models, options.days)
    with warehouse(options.home) as engine:
        if (as_of := stored_as_of(engine)) is None:
            as_of = datetime.now(UTC).replace(microsecond=0)
            took = timed(lambda: fill(engine, size, as_of))
            print(f"filled and published in {took:.0f} s")
        print(f"{_described(engine)}\n")
        if not options.no_questions:
            measure(engine, as_of, options.repeats)
        if not options.no_publications:
            print()
            publications(engine, size, as_of)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.questions", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--facts", type=int, default=10_000_000, help="hourly facts, about (default: %(default)s)")
    parser.add_argument("--keys", type=int, default=1_000, help="API keys (default: %(default)s)")
    parser.add_argument("--companies", type=int, default=100, help="companies (default: %(default)s)")
    parser.add_argument("--models", type=int, default=20, help="models (default: %(default)s)")
    parser.add_argument("--days", type=int, default=365, help="days of usage (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="times each question is asked (default: %(default)s)")
    parser.add_argument("--home", type=Path, help="folder of the warehouse, which is kept (default: a temporary one)")
    parser.add_argument("--no-questions", action="store_true", help="measure publications only")
    parser.add_argument("--no-publications", action="store_true", help="measure questions only")
    return parser.parse_args(arguments)


@contextmanager
def warehouse(kept: Path | None) -> Iterator[sa.Engine]:
    """An embedded warehouse; in a temporary folder, gone afterwards, where none is kept."""
    home = kept or Path(tempfile.mkdtemp(prefix="orcost-bench-"))
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    try:
        yield open_warehouse(None, home)
    finally:
        EmbeddedPostgres(home).stop()
        if kept is None:
            shutil.rmtree(home, ignore_errors=True)


# Questions


def measure(engine: sa.Engine, as_of: datetime, repeats: int) -> None:
    vacuum(engine)
    print(f"{'question':<62}{'ms':>8}{'of facts, ms':>14}{'ratio':>8}")
    for question in questions(as_of):
        with engine.connect() as connection:
            took = median(milliseconds(connection, question.ask) for _ in range(repeats))
            line = f"{question.name:<62}{took:>8.1f}"
            if question.of_facts:
                of_facts = _asking(question.of_facts, as_of)
                beside = milliseconds(connection, of_facts)
                if beside < ONCE_FROM_MILLISECONDS:
                    beside = median([beside, *(milliseconds(connection, of_facts) for _ in range(repeats - 1))])
                line += f"{beside:>14.0f}{beside / took:>8.1f}"
        print(line, flush=True)


def milliseconds(connection: sa.Connection, ask: Callable[[sa.Connection], object]) -> float:
    """How long an answer takes to arrive; rows are not decoded."""
    return 1000 * timed(lambda: ask(connection))


def questions(as_of: datetime) -> Iterator[Question]:
    """All questions; SQL may name the instants of `instants_of`."""
    for name, of_product, of_facts in (*DASHBOARD, *DOCUMENTED):
        yield Question(name, _asking(of_product, as_of), of_facts)
    month, this_month = _months(as_of)
    to_the_hour = Window(_start(month) + 5 * HOUR, hour_floor(as_of) - HOUR)
    for by in GRAINS:
        columns = ", ".join(GRAINS[by])
        spend = f"select {columns}, {SUMS} from ({{}}) spend group by {columns}"
        rolling = _facts("hour > :as_of - interval '30 days'", by)
        yield Question(
            f"orcost report --period 30d --by {by}",
            lambda connection, by=by: rolling_spend(connection, by, "30d", None),
            spend.format(rolling),
        )
        yield Question(
            f"orcost report --month --by {by}",
            lambda connection, by=by: spend_between(connection, by, Window(_start(month), _start(this_month)), None),
            spend.format(_facts("hour >= :month and hour < :this_month", by)),
        )
    yield Question(
        "orcost report --from --to, whole hours, --by company",
        lambda connection: spend_between(connection, "company", to_the_hour, None),
        f"select company, {SUMS} from core.spend_hourly "
        "where hour >= :month + interval '5 hours' and hour < :as_of group by company",
    )


def _facts(where: str, by: str) -> str:
    """The hourly facts with companies; for creators and workspaces, who had the key on the day."""
    if by not in ("creator", "workspace"):
        return f"select * from core.spend_hourly where {where}"
    return (
        f"select s.*, h.creator, h.workspace from core.spend_hourly s left join core.api_key k using (key_hash) "
        "left join core.api_key_day_span h on h.key_id = k.key_id and h.first_day <= (s.hour at time zone 'UTC')::date "
        f"and h.end_day > (s.hour at time zone 'UTC')::date where {where}"
    )


def _asking(question: str, as_of: datetime) -> Callable[[sa.Connection], object]:
    statement, instants = sa.text(question), instants_of(as_of)
    named = {name: instants[name] for name in statement.compile().params}
    return lambda connection: connection.execute(statement, named).close()


def instants_of(as_of: datetime) -> dict[str, Any]:
    month, this_month = _months(as_of)
    today = as_of.date()
    return {
        "as_of": as_of,
        "company": COMPANY,
        "this_hour": hour_floor(as_of),
        "this_day": today,
        "first_day": today - timedelta(days=30),
        "first_hour": _start(today - timedelta(days=30)),
        "month_day": month,
        "this_month_day": this_month,
        "month": _start(month),
        "this_month": _start(this_month),
        "year_day": date(this_month.year - 1, this_month.month, 1),
        "year": _start(date(this_month.year - 1, this_month.month, 1)),
    }


def _months(as_of: datetime) -> tuple[date, date]:
    """The first days of the month before that of `as_of`, and of its own."""
    this_month = as_of.date().replace(day=1)
    return (this_month - timedelta(days=1)).replace(day=1), this_month


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


_MONEY = "sum(credits_usd) as credits_usd, sum(byok_usd) as byok_usd"
_MONTH = "date_trunc('month', hour at time zone 'UTC')::date"
_DAY = "(hour at time zone 'UTC')::date"
_HOLDERS = (
    "from core.usage_hourly u join core.assignment s on s.account_id = u.account_id and s.key_id = u.key_id "
    f"and s.valid_from <= {_DAY} and s.valid_to > {_DAY} left join core.api_key_day_span h on h.key_id = u.key_id "
    f"and h.first_day <= {_DAY} and h.end_day > {_DAY}"
)
_SHARED = "sum(credits_usd * share) as credits_usd, sum(byok_usd * share) as byok_usd"

# Name, the question asked of the product, and of the facts.
DASHBOARD = (
    (
        "companies, last 30 days (rolling)",
        "select company, credits_usd, previous_credits_usd from marts.company_spend_rolling where period = '30d'",
        f"select company, {_MONEY} from core.spend_hourly where hour > :as_of - interval '30 days' group by company",
    ),
    (
        "keys of a company, last 7 days (rolling)",
        "select key_name, credits_usd, requests from marts.key_spend_rolling "
        "where company = :company and period = '7d' order by credits_usd desc",
        f"select key_name, {_MONEY} from core.spend_hourly "
        "where company = :company and hour > :as_of - interval '7 days' group by key_name",
    ),
    (
        "company × day, 30 days",
        "select day, company, credits_usd, byok_usd from marts.company_spend_daily where day >= :first_day",
        f"select {_DAY} as day, company, {_MONEY} from core.spend_hourly where hour >= :first_hour group by 1, company",
    ),
    (
        "company × month, a year",
        "select month, company, credits_usd, byok_usd from marts.company_spend_monthly where month >= :year_day",
        f"select {_MONTH} as month, company, {_MONEY} from core.spend_hourly where hour >= :year group by 1, company",
    ),
    (
        "companies, one month",
        "select company, credits_usd, byok_usd, is_settled from marts.company_spend_monthly "
        "where month = :month_day order by credits_usd desc",
        f"select company, {_MONEY} from core.spend_hourly where hour >= :month and hour < :this_month group by company",
    ),
    (
        "company × model × month, a year",
        "select month, company, model, credits_usd, byok_usd from marts.model_spend_monthly where month >= :year_day",
        f"select {_MONTH} as month, company, model, {_MONEY} from core.spend_hourly where hour >= :year "
        "group by 1, company, model",
    ),
    (
        "models, 30 days",
        f"select model, {_MONEY} from core.spend_daily where day >= :first_day group by model",
        f"select model, {_MONEY} from core.spend_hourly where hour >= :first_hour group by model",
    ),
    (
        "models of a company, a year",
        f"select model, {_MONEY} from core.spend_daily where company = :company and day >= :year_day group by model",
        f"select model, {_MONEY} from core.spend_hourly where company = :company and hour >= :year group by model",
    ),
    (
        "keys of a company, one month",
        f"select key_name, {_MONEY} from core.spend_daily "
        "where company = :company and day >= :month_day and day < :this_month_day group by key_name",
        f"select key_name, {_MONEY} from core.spend_hourly "
        "where company = :company and hour >= :month and hour < :this_month group by key_name",
    ),
    (
        "creators, 30 days",
        f"select creator, {_MONEY} from marts.creator_spend_daily where day >= :first_day group by creator",
        f"select creator, {_SHARED} {_HOLDERS} where hour >= :first_hour group by creator",
    ),
    (
        "creators, a year",
        f"select creator, {_MONEY} from marts.creator_spend_daily where day >= :year_day group by creator",
        f"select creator, {_SHARED} {_HOLDERS} where hour >= :year group by creator",
    ),
    (
        "workspaces, a year",
        f"select workspace, {_MONEY} from marts.workspace_spend_daily where day >= :year_day group by workspace",
        f"select workspace, {_SHARED} {_HOLDERS} where hour >= :year group by workspace",
    ),
    (
        "company × day, 30 days (marts.spend_daily)",
        f"select day, company, {_MONEY} from marts.spend_daily where day >= :first_day group by day, company",
        f"select {_DAY} as day, company, {_MONEY} from core.spend_hourly where hour >= :first_hour group by 1, company",
    ),
    (
        "keys of a company, one month (marts.spend_daily)",
        f"select key_name, {_MONEY} from marts.spend_daily "
        "where company = :company and day >= :month_day and day < :this_month_day group by key_name",
        f"select key_name, {_MONEY} from core.spend_hourly "
        "where company = :company and hour >= :month and hour < :this_month group by key_name",
    ),
    (
        "creators, 30 days (marts.spend_daily)",
        f"select creator_email, {_MONEY} from marts.spend_daily where day >= :first_day group by creator_email",
        f"select creator_email, {_SHARED} {_HOLDERS} where hour >= :first_hour group by creator_email",
    ),
    (
        "workspaces, 30 days (marts.spend_daily)",
        f"select workspace_name, {_MONEY} from marts.spend_daily where day >= :first_day group by workspace_name",
        f"select workspace_name, {_SHARED} {_HOLDERS} where hour >= :first_hour group by workspace_name",
    ),
    (
        "models of a company, 48 hours (marts.spend_hourly)",
        f"select model, {_MONEY} from marts.spend_hourly "
        "where company = :company and hour > :this_hour - interval '48 hours' group by model",
        f"select model, {_MONEY} from core.spend_hourly "
        "where company = :company and hour > :this_hour - interval '48 hours' group by model",
    ),
    (
        "company × hour, 48 hours",
        "select hour, company, credits_usd, byok_usd from marts.company_spend_hourly "
        "where hour > :this_hour - interval '48 hours'",
        f"select hour, company, {_MONEY} from core.spend_hourly where hour > :this_hour - interval '48 hours' "
        "group by hour, company",
    ),
    (
        "hours of one company, 30 days",
        "select hour, credits_usd, byok_usd from marts.company_spend_hourly "
        "where company = :company and hour >= :first_hour",
        f"select hour, {_MONEY} from core.spend_hourly where company = :company and hour >= :first_hour group by hour",
    ),
    (
        "company × hour, 30 days",
        "select hour, company, credits_usd, byok_usd from marts.company_spend_hourly where hour >= :first_hour",
        f"select hour, company, {_MONEY} from core.spend_hourly where hour >= :first_hour group by hour, company",
    ),
    (
        "company × local day, 30 days",
        f"select (hour at time zone 'Europe/Warsaw')::date as day, company, {_MONEY} from marts.company_spend_hourly "
        "where hour >= :first_hour group by 1, company",
        f"select (hour at time zone 'Europe/Warsaw')::date as day, company, {_MONEY} from core.spend_hourly "
        "where hour >= :first_hour group by 1, company",
    ),
    (
        "marts.company_spend_local, 30 days",
        "select * from marts.company_spend_local('Europe/Warsaw', :first_day, cast(:this_day as date) + 1)",
        f"select (hour at time zone 'Europe/Warsaw')::date as day, company, {SUMS} from core.spend_hourly "
        "where hour >= cast(:first_day as timestamp) at time zone 'Europe/Warsaw' group by 1, company",
    ),
    (
        "marts.company_spend_between, 45 days with hours at both ends",
        "select * from marts.company_spend_between(:this_hour - interval '1085 hours', :this_hour)",
        f"select company, {SUMS} from core.spend_hourly "
        "where hour >= :this_hour - interval '1085 hours' and hour < :this_hour group by company",
    ),
    (
        "marts.company_spend_between, a year with hours at both ends",
        "select * from marts.company_spend_between(:year + interval '7 hours', :this_hour)",
        f"select company, {SUMS} from core.spend_hourly "
        "where hour >= :year + interval '7 hours' and hour < :this_hour group by company",
    ),
    (
        "marts.company_spend_between, one month",
        "select * from marts.company_spend_between(:month, :this_month)",
        f"select company, {SUMS} from core.spend_hourly where hour >= :month and hour < :this_month group by company",
    ),
)
DOCUMENTED = (
    (
        "budgets (marts.company_budget_monthly)",
        "select company, budget_usd, spent_usd, round(forecast_usd, 2) as forecast_usd, status "
        "from marts.company_budget_monthly where month = date_trunc('month', as_of at time zone 'UTC')",
        f"select company, {_MONEY} from core.spend_hourly where hour >= :this_month group by company",
    ),
    (
        "budgets, every month",
        "select * from marts.company_budget_monthly",
        f"select {_MONTH} as month, company, {_MONEY} from core.spend_hourly group by 1, company",
    ),
    (
        "unattributed keys (marts.unattributed_spend)",
        "select key_name, first_day, last_day, credits_usd from marts.unattributed_spend order by credits_usd desc",
        f"select key_name, min(hour), max(hour), {_MONEY} from core.spend_hourly where company = 'Unattributed' "
        "group by key_name",
    ),
    (
        "keys without a limit (marts.key_review)",
        "select account, key_name, company, credits_30d_usd, advice from marts.key_review "
        "where 'no_limit' = any(advice) order by credits_30d_usd desc",
        None,
    ),
    (
        "charges and margin by company, one month (marts.company_charge_monthly)",
        "select company, credits_usd, total_usd, margin_usd, status from marts.company_charge_monthly "
        "where month = :month_day order by total_usd desc",
        f"select company, {_MONEY} from core.spend_hourly where hour >= :month and hour < :this_month group by company",
    ),
    (
        "charges and margin by company, every month",
        "select month, company, total_usd, margin_usd from marts.company_charge_monthly",
        f"select {_MONTH} as month, company, {_MONEY} from core.spend_hourly group by 1, company",
    ),
    (
        "charges of one company by day, 30 days (marts.company_charge_daily)",
        "select day, sum(charge_usd) as charge_usd from marts.company_charge_daily "
        "where company = :company and day >= :first_day group by day order by day",
        f"select {_DAY} as day, {_MONEY} from core.spend_hourly "
        "where company = :company and hour >= :first_hour group by 1",
    ),
    (
        "a company's statement of one month (marts.statement)",
        "select * from marts.statement where company = :company and month = :month_day order by line",
        f"select key_hash, model, {_MONEY} from core.spend_hourly "
        "where company = :company and hour >= :month and hour < :this_month group by key_hash, model",
    ),
    (
        "reconciliation by day (marts.reconciliation_daily)",
        "select day, account_credits_usd, keys_credits_usd, residual_credits_usd, status, cause "
        "from marts.reconciliation_daily order by day desc",
        f"select {_DAY} as day, {_MONEY} from core.spend_hourly group by 1",
    ),
)


# Publications


def publications(engine: sa.Engine, size: Size, as_of: datetime) -> None:
    """An hour's sync, a key that moves and moves back, and the first sync of another account with as many keys."""
    print(f"{'publication':<62}{'seconds':>8}{'rows':>14}")
    for hours in (1, 2):
        extraction = extract(engine, size, ACCOUNT, as_of + hours * HOUR, 2)
        report("an hour's sync", engine, ACCOUNT, extraction, as_of + hours * HOUR)
    now = as_of + 2 * HOUR
    for what, moved in (("one key moved", True), ("and back", False)):
        load_mapping(engine, read_mapping(mapping(size, is_moved=moved).encode(), "it"), now)
        report(what, engine, ACCOUNT, str(uuid.uuid4()), now)
    with engine.begin() as connection:
        connection.execute(
            sa.text("insert into ref.account (account) values (:account) on conflict do nothing"),
            {"account": SECOND_ACCOUNT},
        )
    extraction = extract(engine, size, SECOND_ACCOUNT, now, HOURS_OF_FIRST_SYNC)
    report("first sync of a second account, 31 days by hour", engine, SECOND_ACCOUNT, extraction, now)


def report(what: str, engine: sa.Engine, account: str, extraction_id: str, now: datetime) -> None:
    rows: list[int] = []
    seconds = timed(lambda: rows.append(publish(engine, account, extraction_id, now)))
    print(f"{what:<62}{seconds:>8.1f}{rows[0]:>14,}", flush=True)


def publish(engine: sa.Engine, name: str, extraction_id: str, now: datetime) -> int:
    """Publishes an extraction, or, where there is none of this id, the mapping; returns how many rows it wrote."""
    account = Account(name=name, api_key_env="OPENROUTER_API_KEY", api_key=None, base_url="http://127.0.0.1:1")
    step = SyncStep(account, engine, extraction_id, extraction_id, now, lambda: now)
    return sum(steps.publish_account(step).rows.values())


def extract(engine: sa.Engine, size: Size, account: str, now: datetime, hours: int) -> str:
    """What a sync would have read: every key, and the last hours of each; returns the id of the extraction."""
    last = hour_floor(now)
    first = last - (hours - 1) * HOUR
    stamp = {"account": account, "as_of": now, "run_id": str(uuid.uuid4())}
    named = {**stamp, "keys": size.keys, "companies": size.companies, "first": first, "last": last, "end": last + HOUR}
    generated = {"keys": size.keys, "models": size.models, "permille": size.permille}
    with engine.begin() as connection:
        for statement in EXTRACTION:
            text = sa.text(statement)
            connection.execute(text, {it: {**named, **generated}[it] for it in text.compile().params})
    vacuum(engine)
    return stamp["run_id"]


# What is generated

# A key (0: none) uses two models on a day, others each month, in some of the hours.
USAGE = f"""
select h as hour, k, 1 + (k * 7 + k / 13 + d / 30 * 3 + i) % :models as model, 1 + (k + n) % 5 as requests,
    900 + (k + n) % 100 as prompt_tokens, 100 + (k * 3 + n) % 50 as completion_tokens, n % 10 as reasoning_tokens,
    k % 7 as cached_tokens, ((k * 7 + n + i) % 1000 + 1) * 0.000001234 as credits_usd,
    case when k % 20 = 0 then (n % 100) * 0.00001 else 0 end as byok_usd
from generate_series(:first ::timestamptz, :last, interval '1 hour') h
cross join lateral (select extract(epoch from h)::bigint / 3600 as n, extract(epoch from h)::bigint / 86400 as d) t
cross join generate_series(0, :keys) k
cross join generate_series(0, {MODELS_A_DAY - 1}) i
where (k * 7919 + n * 104729 + i * 31) % 1000 < :permille
"""
_HASH = "lpad(to_hex(hashtext(:account)::bigint + 2147483648), 32, '0') || lpad(to_hex(k), 32, '0')"
_KEY_NAME = "'company ' || k % :companies || ' key ' || k"

CONSTANTS = (
    "insert into ref.account (account, kind, status, as_of, checked_at, hours_from) "
    "values (:account, 'management', 'ok', :as_of, :as_of, :first)",
    "insert into core.model (model) select 'vendor-' || m % 5 || '/model-' || m from generate_series(1, :models) m",
    "insert into core.provider (provider) select 'Provider ' || p from generate_series(1, 3) p",
    f"insert into core.api_key (account_id, key_hash, first_seen_at, created_at, {', '.join(COUNTERS)}) "
    f"select 1, {_HASH}, :first, :first, {', '.join('0' for _ in COUNTERS)} from generate_series(1, :keys) k",
    # A tenth of the keys change hands.
    "insert into core.api_key_version (key_id, valid_from, valid_to, name, label, workspace_id, workspace_name, "
    "creator_user_id, creator_email, is_disabled, is_deleted) "
    f"select k, v.valid_from, v.valid_to, {_KEY_NAME}, 'sk-or-v1-…', 'workspace-' || k % (2 * :companies), "
    "'Workspace ' || k % (2 * :companies), 'user-' || h.creator, h.creator || '@research.example', false, false "
    "from generate_series(1, :keys) k "
    "cross join lateral (values (:first ::timestamptz, :middle ::timestamptz), (:middle ::timestamptz, null)) "
    "as v (valid_from, valid_to) "
    "cross join lateral (select (k + case when v.valid_to is null then 1 else 0 end) % (5 * :companies) as creator) h "
    "where k % 10 = 0",
    "insert into core.api_key_version (key_id, valid_from, name, label, workspace_id, workspace_name, "
    "creator_user_id, creator_email, is_disabled, is_deleted) "
    f"select k, :first, {_KEY_NAME}, 'sk-or-v1-…', 'workspace-' || k % (2 * :companies), "
    "'Workspace ' || k % (2 * :companies), 'user-' || k % (5 * :companies), "
    "k % (5 * :companies) || '@research.example', false, false from generate_series(1, :keys) k where k % 10 <> 0",
)
FACTS = (
    f"insert into core.usage_hourly select hour, 1, k, model, {MEASURES}, 'analytics' from ({USAGE}) u order by 1, 3, 4"
)
DAYS = (
    "insert into core.usage_daily select d.day, 1, u.key_id, u.model_id, "
    f"case when d.is_settled then 1 + u.model_id % 3 else 0 end, {SUMS}, "
    "(case when d.is_settled then 'activity' else 'hours' end)::core.usage_source "
    f"from core.usage_hourly u cross join lateral (select {_DAY} as day, {_DAY} < :settled_to as is_settled) d "
    "group by d.day, d.is_settled, u.key_id, u.model_id",
    "insert into core.account_day (account_id, day, is_settled, account_credits_usd, keys_credits_usd, "
    "account_byok_usd, keys_byok_usd, hours_credits_usd, hours_byok_usd, requests) "
    "select 1, day, bool_and(source = 'activity'), sum(credits_usd), sum(credits_usd) filter (where key_id <> 0), "
    "sum(byok_usd), sum(byok_usd) filter (where key_id <> 0), sum(credits_usd), sum(byok_usd), sum(requests) "
    "from core.usage_daily group by day",
)
_STAMP = ":account, :as_of, :run_id"
EXTRACTION = (
    "insert into raw.extraction (account, as_of, run_id) values (:account, :as_of, :run_id)",
    "insert into raw.extracted (account, as_of, run_id, relation, completed_at, row_count, requests_made) "
    "select :account, :as_of, :run_id, relation, :as_of, 0, 0 from unnest(array['account', 'workspace', "
    "'organization_member', 'api_key', 'usage_hourly', 'activity_daily']) relation",
    f"insert into raw.account (account, as_of, run_id, label, is_management_key) values ({_STAMP}, 'it', true)",
    f"insert into raw.workspace (account, as_of, run_id, workspace_id, workspace_name) select {_STAMP}, "
    "'workspace-' || w, 'Workspace ' || w from generate_series(0, 2 * :companies - 1) w",
    f"insert into raw.organization_member (account, as_of, run_id, user_id, email) select {_STAMP}, 'user-' || u, "
    "u || '@research.example' from generate_series(0, 5 * :companies - 1) u",
    "insert into raw.api_key (account, as_of, run_id, key_hash, is_deleted, name, label, workspace_id, "
    f"creator_user_id, is_disabled, {', '.join(COUNTERS)}) select {_STAMP}, {_HASH}, false, {_KEY_NAME}, "
    "'sk-or-v1-…', 'workspace-' || k % (2 * :companies), "
    "'user-' || (k + case when k % 10 = 0 then 1 else 0 end) % (5 * :companies), false, "
    f"{', '.join('0' for _ in COUNTERS)} from generate_series(1, :keys) k",
    f"insert into raw.usage_question (account, as_of, run_id, grain, key_hash, start_at, end_at, outcome) "
    f"select {_STAMP}, 'hour', null, :first, :end, outcome from unnest(array['covered', 'answered']) outcome "
    f"union all select {_STAMP}, 'hour', {_HASH}, :first, :end, 'answered' from generate_series(1, :keys) k",
    f"insert into raw.usage_hourly (account, as_of, run_id, key_hash, hour, model, {MEASURES}) "
    f"select {_STAMP}, {_HASH}, hour, m.model, {MEASURES} from ({USAGE}) u join core.model m on m.model_id = u.model "
    f"where k <> 0 union all select {_STAMP}, null, hour, m.model, {SUMS} from ({USAGE}) u "
    "join core.model m on m.model_id = u.model group by hour, m.model",
)


def fill(engine: sa.Engine, size: Size, as_of: datetime) -> None:
    """Keys, hours and days of one account; what follows from them is published, as a mapping and as an hour's sync."""
    last = hour_floor(as_of) - HOUR
    first = hour_floor(as_of) - size.days * DAY
    named: dict[str, Any] = {
        "account": ACCOUNT,
        "as_of": as_of,
        "first": first,
        "middle": first + (last - first) / 2,
        "last": last,
        "permille": size.permille,
        "settled_to": as_of.date() - timedelta(days=1),
        **size._asdict(),
    }
    with engine.begin() as connection:
        for statement in CONSTANTS:
            _execute(connection, statement, named)
        while first <= last:
            _execute(connection, FACTS, {**named, "first": first, "last": min(last, first + 30 * DAY - HOUR)})
            first += 30 * DAY
    vacuum(engine)
    with engine.begin() as connection:
        for statement in DAYS:
            _execute(connection, statement, named)
    vacuum(engine)
    load_mapping(engine, read_mapping(mapping(size, is_moved=False).encode(), "it"), as_of)
    report("the mapping for the first time", engine, ACCOUNT, str(uuid.uuid4()), as_of)
    publish(engine, ACCOUNT, extract(engine, size, ACCOUNT, as_of, 2), as_of)
    with engine.begin() as connection:
        _execute(connection, "update ref.company set monthly_budget_usd = 1 + company_id where company_id <> 0", {})


def _execute(connection: sa.Connection, statement: str, named: dict[str, Any]) -> None:
    text = sa.text(statement)
    connection.execute(text, {name: named[name] for name in text.compile().params})


def mapping(size: Size, *, is_moved: bool) -> str:
    """Keys by the names of their companies; one key in fifty is shared by three. Key 7 may be moved."""
    lines = ["company,match,pattern,share"]
    if is_moved:
        lines.append(f"Company 2,key_name,company {7 % size.companies} key 7,")
    for key in range(50, size.keys + 1, 50):
        name = f"company {key % size.companies} key {key}"
        lines += [f"Company {(key + it) % size.companies},key_name,{name},{33 + (it == 0)}" for it in range(3)]
    lines += [f"Company {company},key_name,company {company} *," for company in range(size.companies)]
    return "\n".join(lines)


def stored_as_of(engine: sa.Engine) -> datetime | None:
    with engine.connect() as connection:
        return connection.execute(
            sa.text("select as_of from ref.account where account = :account"), {"account": ACCOUNT}
        ).scalar()


def _described(engine: sa.Engine) -> str:
    with engine.connect() as connection:
        hours, days, keys, companies, models = connection.execute(
            sa.text(
                "select (select count(*) from core.usage_hourly), (select count(*) from core.usage_daily), "
                "(select count(*) from core.api_key), (select count(*) from ref.company), "
                "(select count(*) from core.model)"
            )
        ).one()
        sizes = connection.execute(
            sa.text(
                "select string_agg(relname || ' ' || pg_size_pretty(pg_total_relation_size(oid)), ', ' order by "
                "pg_total_relation_size(oid) desc) from pg_class where relkind = 'r' and "
                "relnamespace = 'core'::regnamespace and pg_total_relation_size(oid) > 1000000"
            )
        ).scalar()
    return (
        f"{hours:,} hourly and {days:,} daily facts, {keys:,} keys, {companies:,} companies, {models} models; {sizes}"
    )


def vacuum(engine: sa.Engine) -> None:
    """What autovacuum would have done by now."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum analyze")


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
