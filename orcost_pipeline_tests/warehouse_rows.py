"""A warehouse filled by hand, and the same truth in Python: two companies, a split, Unattributed, spend with no key.

Every amount is known twice: as rows of `core.usage_*`, and as `Fact`s that a test adds up naively, as fractions.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES
from orcost_pipeline.warehouse.publication.transaction import read_sql
from orcost_pipeline.windows import DAY, HOUR, Window, day_end, day_start, hour_floor, utc_day

NOW = datetime(2026, 11, 23, 13, 24, tzinfo=UTC)
AS_OF = datetime(2026, 11, 23, 13, 20, tzinfo=UTC)
HOURS_FROM = datetime(2026, 10, 23, 14, tzinfo=UTC)
SPLIT_FROM, OPEN_DAY, RESTATED_DAY = date(2026, 11, 10), date(2026, 11, 5), date(2026, 11, 18)
SIGNS = {"alpha": "a", "shared": "5", "beta": "b", "orphan": "0", "idle": "d"}
MOVED_AT = AS_OF - 3 * DAY
MODELS = ("openai/gpt-5", "anthropic/claude-opus-5", "z-ai/glm-free")


def key_hash(name: str | None) -> str | None:
    return None if name is None else SIGNS[name] * 64


@dataclass(frozen=True)
class Fact:
    """Usage of a key (None: no key) in the hour that starts at `start`, or on that day."""

    account: str
    start: datetime
    key: str | None
    model: str
    measures: tuple[Decimal, ...]


def owners(key: str | None, day: date) -> dict[str, Fraction]:
    """The mapping: `shared` is split 60 to 40 from a day on, `orphan` and no key belong to nobody."""
    if key == "shared" and day >= SPLIT_FROM:
        return {"Company A": Fraction(60, 100), "Company B": Fraction(40, 100)}
    names = {"alpha": "Company A", "shared": "Company B", "beta": "Company B", "idle": "Company B"}
    return {names.get(key or "", "Unattributed"): Fraction(1)}


Grouping = Callable[[Fact, str], tuple[str | None, ...]]


def by_company(fact: Fact, company: str) -> tuple[str | None, ...]:
    return fact.account, company


def by_key(fact: Fact, company: str) -> tuple[str | None, ...]:
    return fact.account, key_hash(fact.key), company


def by_model(fact: Fact, _company: str) -> tuple[str | None, ...]:
    return fact.account, fact.model


def by_creator(fact: Fact, _company: str) -> tuple[str | None, ...]:
    return fact.account, held(fact.key, utc_day(fact.start) >= utc_day(MOVED_AT))[0]


def by_workspace(fact: Fact, _company: str) -> tuple[str | None, ...]:
    return fact.account, held(fact.key, utc_day(fact.start) >= utc_day(MOVED_AT))[1]


def held(key: str | None, has_moved: bool) -> tuple[str | None, str | None]:
    """Who made a key, and its workspace, before and after `MOVED_AT`: `beta` moved, and who made `alpha` left."""
    creators = {None: None, "alpha": "user_1" if has_moved else "ann@example.com", "shared": "ann@example.com"}
    workspace = "Production" if key in ("beta", "shared", "idle") else None
    return creators.get(key, "user_1"), "Lab" if key == "beta" and not has_moved else workspace


@dataclass
class Truth:
    """What was used, by hour, and by day where days are known."""

    hours: list[Fact] = field(default_factory=list)
    days: list[Fact] = field(default_factory=list)

    def between(self, window: Window, by: Grouping) -> dict[tuple[str | None, ...], tuple[Fraction, ...]]:
        """Whole days from the days, the edges from the hours, times shares, one after the other."""
        first, last = -(-(window.start - EPOCH) // DAY) * DAY + EPOCH, (window.end - EPOCH) // DAY * DAY + EPOCH
        days = [fact for fact in self.days if first <= fact.start < last]
        edges = [fact for fact in self.hours if fact.start in window and not first <= fact.start < last]
        return _summed([*days, *edges], by)

    def rolling(self, hours: int, by: Grouping) -> dict[tuple[str | None, ...], tuple[Fraction, ...]]:
        first = hour_floor(AS_OF) - (hours - 1) * HOUR
        return _summed([fact for fact in self.hours if fact.start >= first], by)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _midnight(instant: datetime) -> datetime:
    return day_start(utc_day(instant))


def _summed(facts: list[Fact], by: Grouping) -> dict[tuple[str | None, ...], tuple[Fraction, ...]]:
    sums: dict[tuple[str | None, ...], list[Fraction]] = defaultdict(lambda: [Fraction(0)] * len(MEASURES))
    for fact in facts:
        for company, part in owners(fact.key, utc_day(fact.start)).items():
            group = by(fact, company)
            sums[group] = [a + Fraction(b) * part for a, b in zip(sums[group], fact.measures, strict=True)]
    return {group: tuple(values) for group, values in sums.items()}


def make_truth(*accounts: str) -> Truth:
    """Seeded usage of each account; one settled day was restated, so that its hours say less than the day."""
    truth = Truth()
    for account in accounts:
        chance = random.Random(account)
        truth.hours += _hours(account, chance)
        truth.days += _days([fact for fact in truth.hours if fact.account == account])
    return truth


def _hours(account: str, chance: random.Random) -> Iterator[Fact]:
    for number in range(int((AS_OF - HOURS_FROM) / HOUR) + 1):
        for key in ("alpha", "shared", "beta", "orphan", None):
            if chance.random() < (0.02 if key in ("orphan", None) else 0.4):
                counts = [Decimal(chance.randint(1, top)) for top in (40, 90_000, 9_000, 900, 500)]
                byok = Decimal(chance.randint(1, 10**9)).scaleb(-9) if key == "beta" else Decimal(0)
                amounts = (Decimal(chance.randint(1, 10**13)).scaleb(-12), byok)
                yield Fact(account, HOURS_FROM + number * HOUR, key, chance.choice(MODELS), (*counts, *amounts))


def _days(hours: list[Fact]) -> Iterator[Fact]:
    sums: dict[tuple[datetime, str | None, str], list[Decimal]] = {}
    for fact in hours:
        if utc_day(fact.start) > utc_day(HOURS_FROM):
            cell = sums.setdefault((_midnight(fact.start), fact.key, fact.model), [Decimal(0)] * len(MEASURES))
            cell[:] = [a + b for a, b in zip(cell, fact.measures, strict=True)]
    for (start, key, model), measures in sums.items():
        day = Fact(hours[0].account, start, key, model, tuple(measures))
        if utc_day(start) == RESTATED_DAY:
            day = replace(day, measures=tuple(value * 2 for value in measures))
        yield day


# Into the warehouse


def fill(engine: sa.Engine, truth: Truth) -> None:
    """The truth as a sync would have left it, with succeeded runs and the mapping in force."""
    with engine.begin() as connection:
        _fill_names(connection)
        for account in dict.fromkeys(fact.account for fact in truth.hours):
            _fill_account(connection, truth, account)


def execute(connection: sa.Connection, statement: str, parameters: dict[str, object] | None = None) -> None:
    connection.execute(sa.text(statement), parameters or {})


def _fill_names(connection: sa.Connection) -> None:
    execute(connection, "insert into ref.company (company_id, company) values (1, 'Company A'), (2, 'Company B')")
    for model in MODELS:
        execute(connection, "insert into core.model (model) values (:model)", {"model": model})
    execute(
        connection,
        "insert into ref.mapping_version (loaded_at, source, content_sha256, rule_count) "
        "values (:at, 'company_mapping.csv', 'x', 4)",
        {"at": AS_OF},
    )
    rules = [
        (2, 0, "Company A", "key_name", "alpha*", None, None, 100),
        (3, 1, "Company A", "key_name", "shar*", SPLIT_FROM, None, 60),
        (4, 1, "Company B", "key_name", "shar*", SPLIT_FROM, None, 40),
        (5, 2, "Company B", "key_hash", key_hash("shared"), None, SPLIT_FROM, "100.0"),
        (6, 3, "Company B", "workspace", "Production", None, None, 100),
    ]
    for line, position, company, match, pattern, start, end, share in rules:
        execute(
            connection,
            "insert into ref.mapping_rule values (1, :line, :position, :company, :match, :pattern, null, :start, :end, "
            ":share, null)",
            {
                "line": line,
                "position": position,
                "company": company,
                "match": match,
                "pattern": pattern,
                "start": start,
                "end": end,
                "share": Decimal(share),
            },
        )


def _fill_account(connection: sa.Connection, truth: Truth, account: str) -> None:
    account_id = connection.execute(
        sa.text(
            "insert into ref.account (account, kind, status, as_of, checked_at, hours_from, credits_total_usd, "
            "credits_used_usd) values (:account, 'management', 'ok', :as_of, :as_of, :hours_from, 5000, 1000.25) "
            "returning account_id"
        ),
        {"account": account, "as_of": AS_OF, "hours_from": HOURS_FROM},
    ).scalar_one()
    ids: dict[str | None, int] = {name: _fill_key(connection, account_id, name) for name in SIGNS}
    ids[None] = 0
    _fill_assignment(connection, account_id, ids)
    for relation, facts in (("hourly", truth.hours), ("daily", truth.days)):
        for fact in facts:
            if fact.account == account:
                _fill_fact(connection, relation, account_id, ids[fact.key], fact)
    _fill_days(connection, account_id)
    _fill_rolling(connection, account_id)
    execute(
        connection,
        "insert into ops.sync_run (run_id, account, started_at, finished_at, status, as_of) "
        "values ('run-1', :account, :as_of, :as_of, 'succeeded', :as_of)",
        {"account": account, "as_of": AS_OF},
    )


def _fill_key(connection: sa.Connection, account_id: int, name: str) -> int:
    counters = [f"{byok}usage{of}_usd" for byok in ("", "byok_") for of in ("", "_daily", "_weekly", "_monthly")]
    key_id = connection.execute(
        sa.text(
            f"insert into core.api_key (account_id, key_hash, first_seen_at, {', '.join(counters)}) "
            f"values (:account_id, :key_hash, :seen, {', '.join('0' for _ in counters)}) returning key_id"
        ),
        {"account_id": account_id, "key_hash": key_hash(name), "seen": HOURS_FROM},
    ).scalar_one()
    for bore, start, end in ((f"{name} (old)", HOURS_FROM, MOVED_AT), (name, MOVED_AT, None)):
        creator, workspace = held(name, end is None)
        execute(
            connection,
            "insert into core.api_key_version (key_id, valid_from, valid_to, name, label, workspace_name, "
            "creator_user_id, creator_email, is_disabled, is_deleted) "
            "values (:key_id, :start, :end, :name, 'sk-or-v1-…', :workspace, 'user_1', :email, false, false)",
            {
                "key_id": key_id,
                "start": start,
                "end": end,
                "name": bore,
                "workspace": workspace,
                "email": creator if creator != "user_1" else None,
            },
        )
    return key_id


def _fill_assignment(connection: sa.Connection, account_id: int, ids: dict[str | None, int]) -> None:
    companies = {"Unattributed": 0, "Company A": 1, "Company B": 2}
    for name, key_id in ids.items():
        spans = (
            [("-infinity", SPLIT_FROM), (SPLIT_FROM, "infinity")] if name == "shared" else [("-infinity", "infinity")]
        )
        for start, end in spans:
            day = start if isinstance(start, date) else date(2026, 1, 1)
            for company, part in owners(name, day).items():
                execute(
                    connection,
                    "insert into core.assignment (account_id, key_id, valid_from, valid_to, company_id, share) "
                    "values (:account_id, :key_id, cast(cast(:start as text) as date), "
                    "cast(cast(:end as text) as date), :company, :share)",
                    {
                        "account_id": account_id,
                        "key_id": key_id,
                        "start": str(start),
                        "end": str(end),
                        "company": companies[company],
                        "share": Decimal(part.numerator) / part.denominator,
                    },
                )


def _fill_fact(connection: sa.Connection, relation: str, account_id: int, key_id: int, fact: Fact) -> None:
    grain, provider = ("hour", "") if relation == "hourly" else ("day", "0, ")
    columns = (
        f"{grain}, account_id, key_id, model_id, {'provider_id, ' if provider else ''}{', '.join(MEASURES)}, source"
    )
    execute(
        connection,
        f"insert into core.usage_{relation} ({columns}) select :start, :account_id, :key_id, model_id, {provider}"
        f"{', '.join(f':{name}' for name in MEASURES)}, 'analytics' from core.model where model = :model",
        {
            "start": fact.start,
            "account_id": account_id,
            "key_id": key_id,
            "model": fact.model,
            **dict(zip(MEASURES, fact.measures, strict=True)),
        },
    )


def _fill_days(connection: sa.Connection, account_id: int) -> None:
    day = utc_day(HOURS_FROM) + timedelta(days=1)
    while day <= utc_day(AS_OF):
        execute(
            connection,
            "insert into core.account_day (account_id, day, is_settled, account_credits_usd, keys_credits_usd, "
            "account_byok_usd, keys_byok_usd, hours_credits_usd, hours_byok_usd) "
            "values (:account_id, :day, :is_settled, 0, 0, 0, 0, :hours, 0)",
            {
                "account_id": account_id,
                "day": day,
                "is_settled": day_end(day) < AS_OF,
                "hours": 1 if day == OPEN_DAY else 0,
            },
        )
        day += timedelta(days=1)


def _fill_rolling(connection: sa.Connection, account_id: int) -> None:
    parameters = {
        "account_id": account_id,
        "as_of": AS_OF,
        "this_hour": hour_floor(AS_OF),
        "hours_from": HOURS_FROM,
        "is_extraction": True,
    }
    execute(connection, "create temporary table touched_assignment (key_id integer)")
    for step in ("rolling_edge", "rolled_usage", "rolled_key"):
        connection.execute(read_sql(step), parameters)
    for relation in ("key_rolling", "key_previous", "company_rolling"):
        connection.execute(read_sql(relation), parameters)
        execute(connection, f"insert into core.{relation} select * from staged_{relation}")
        execute(connection, f"drop table staged_{relation}")
    for step in ("rolling_edge", "rolled_usage", "rolled_key", "touched_assignment"):
        execute(connection, f"drop table {step}")


def query(engine: sa.Engine, statement: str, **parameters: Any) -> list[Any]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement), parameters)]
