"""Random rules over keys of random lives: what is published equals a slow, obvious reference, row by row.

The reference knows the rules as they were drawn, each key as the account listed it at each sync, and the ledger's
facts; it goes through them key by key, day by day and rule by rule. Of the program it uses nothing.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from orcost_pipeline.cli import app
from orcost_pipeline.companies.mapping import read_mapping
from orcost_pipeline.companies.rows import csv_line
from orcost_pipeline.simulator import Ledger, Usage
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.sync.attribution import load_mapping
from orcost_pipeline_tests.conftest import fresh_engine
from orcost_pipeline_tests.sampling import examples
from orcost_pipeline_tests.test_assignment import slow_glob
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

COLUMNS = ("company", "match", "pattern", "account", "valid_from", "valid_to", "share")
NAMES = ("alpha one", "alpha two", "beta one", "beta one")
WORKSPACES = ("Production", "Lab")
SYNCS = 5
FIRST = NOON.date() - (SYNCS + 3) * DAY
DAYS = [FIRST + timedelta(days=number) for number in range(SYNCS + 5)]
NOBODY: tuple[tuple[str, str], ...] = (("Unattributed", "100"),)


# What is drawn


class Rule(NamedTuple):
    """A rule as it is written; `pattern` of a key_hash is a key's number."""

    match: str
    pattern: str
    account: str
    valid_from: date | None
    valid_to: date | None
    shares: tuple[tuple[str, str], ...]


class Change(NamedTuple):
    """Something that happens to a key before a sync."""

    key: int
    what: str
    value: str


PATTERNS = {
    "key_hash": ("0", "3"),
    "key_name": ("alpha *", "* one", "beta?one", "alpha two", "*", "nobody", "gamma"),
    "workspace": ("Production", "L*", "Default"),
    "creator": ("ann@*", "user_bob", "*"),
    "external_user": ("customer-?", "*"),
    "label": ("sk-or-v1-*", "none"),
}
SHARES = st.sampled_from(
    [(("A", "100"),), (("B", "100"),), (("A", "60"), ("B", "40")), (("A", "33.333"), ("B", "33.333"), ("C", "33.334"))]
)
DATES = st.tuples(st.none() | st.sampled_from(DAYS[:6]), st.none() | st.sampled_from(DAYS[6:]))
RULES = st.lists(
    st.sampled_from([(match, pattern) for match, patterns in PATTERNS.items() for pattern in patterns]).flatmap(
        lambda matched: st.builds(
            lambda account, dates, shares: Rule(*matched, account, *dates, shares),
            st.sampled_from(["", "", "acme", "other"]),
            DATES,
            SHARES,
        )
    ),
    max_size=6,
    unique_by=lambda rule: rule[:5],
)
CHANGES = st.lists(
    st.one_of(
        st.builds(Change, st.integers(0, 3), st.just("name"), st.sampled_from([*NAMES, "gamma"])),
        st.builds(Change, st.integers(0, 3), st.just("workspace"), st.sampled_from(WORKSPACES)),
    ),
    max_size=2,
)
LIVES = st.tuples(*[CHANGES] * SYNCS)


# The life of an account, as it is lived and as it is remembered


class Seen(NamedTuple):
    """A key as a sync saw it on a UTC day: what rules of each match look at."""

    day: date
    values: dict[str, tuple[str | None, ...]]


@dataclass
class Life:
    world: World
    keys: list[str]
    seen: dict[str, list[Seen]] = field(default_factory=lambda: defaultdict(list))

    def sync(self) -> None:
        self.world.sync()
        account = self.world.ledger.accounts["acme"]
        emails = {member.id: member.email for member in account.members}
        for number, key_hash in enumerate(self.keys):
            key = account.key_at(key_hash, self.world.now)
            assert key is not None
            workspace = account.workspace(key.workspace_id)
            assert workspace is not None
            values = {
                "key_hash": (str(number),),
                "key_name": (key.name,),
                "workspace": (workspace.id, workspace.name),
                "creator": (key.creator_user_id, emails.get(key.creator_user_id or "")),
                "external_user": (key.external_user,),
                "label": (key.label,),
            }
            self.seen[key_hash].append(Seen(self.world.now.date(), values))

    def winner(self, rules: Iterable[Rule], key_hash: str | None, day: date) -> int | None:
        """The place of the first rule that matches the key as it was last seen that day, or before, or else first."""
        if key_hash is None:
            return None
        past = [seen for seen in self.seen[key_hash] if seen.day <= day]
        seen = past[-1] if past else self.seen[key_hash][0]
        for place, rule in enumerate(rules):
            is_valid = (rule.valid_from or date.min) <= day < (rule.valid_to or date.max)
            values = [value for value in seen.values[rule.match] if value is not None]
            fits = rule.account in ("", "acme") and any(slow_glob(rule.pattern, value) for value in values)
            if is_valid and fits:
                return place
        return None


def lived(engine: sa.Engine, changes: Iterable[list[Change]]) -> Life:
    """Four keys, two of one name; each day all of them and the chat room are used, and some are changed."""
    ledger = Ledger()
    ledger.add_account("acme")
    workspaces = {name: ledger.add_workspace("acme", name) for name in WORKSPACES}
    ann = ledger.add_member("acme", "ann@example.com")
    extra: list[dict[str, Any]] = [{"creator_user_id": ann}, {"creator_user_id": "user_bob"}, {}, {}]
    extra[2] = {"external_user": "customer-7", "workspace_id": workspaces["Lab"]}
    keys = [
        ledger.add_key("acme", name, NOON - 40 * DAY + number * HOUR, **extra[number])
        for number, name in enumerate(NAMES)
    ]
    world = World(engine, ledger, now=NOON - (SYNCS - 1) * DAY)
    for day in DAYS[:-2]:
        for number, key in enumerate([*keys, None]):
            at = datetime.combine(day, NOON.time(), NOON.tzinfo) - 2 * HOUR
            amount = Decimal(7 * day.day + number + 1).scaleb(-7)
            ledger.spend("acme", at, key, GPT if number % 2 else CLAUDE, usage(amount, amount / 2))
    life = Life(world, keys)
    for happening in changes:
        for change in happening:
            at = world.now - HOUR
            if change.what == "name":
                ledger.rename("acme", keys[change.key], change.value, at)
            else:
                ledger.move("acme", keys[change.key], workspaces[change.value], at)
        life.sync()
        world.later(days=1)
    world.later(days=-1)
    return life


def write(rules: Iterable[Rule], keys: list[str]) -> tuple[bytes, list[int]]:
    """The rules as a file, and the line on which each begins."""
    lines, begins = [",".join(COLUMNS)], []
    for rule in rules:
        begins.append(len(lines) + 1)
        pattern = keys[int(rule.pattern)] if rule.match == "key_hash" else rule.pattern
        dates = [day.isoformat() if day else "" for day in (rule.valid_from, rule.valid_to)]
        for company, share in rule.shares:
            lines.append(csv_line([company, rule.match, pattern, rule.account, *dates, share], ","))
    return "\n".join(lines).encode(), begins


# Row by row


def expected(life: Life, rules: list[Rule], facts: dict[Any, Usage], day_of: Any) -> dict[Any, tuple[Decimal, ...]]:
    """(when, key, model, company) → its part of credits, BYOK and requests."""
    rows: dict[Any, tuple[Decimal, ...]] = {}
    for (when, key, model, *_), cell in facts.items():
        place = life.winner(rules, key, day_of(when))
        for company, share in NOBODY if place is None else rules[place].shares:
            part = Decimal(share) / 100
            amounts = cell.credits_usd * part, cell.byok_usd * part, cell.requests * part
            before = rows.get((when, key, model, company), (Decimal(0),) * 3)
            rows[when, key, model, company] = tuple(a + b for a, b in zip(before, amounts, strict=True))
    return rows


def stored(world: World, relation: str, when: str) -> dict[Any, tuple[Decimal, ...]]:
    rows = world.rows(
        f"select {when}, key_hash, model, company, sum(credits_usd), sum(byok_usd), sum(requests) from {relation} "
        "group by 1, 2, 3, 4"
    )
    return {tuple(row[:4]): tuple(row[4:]) for row in rows}


def owners_of(life: Life, rules: list[Rule]) -> Iterator[tuple[str, date, set[tuple[str, Decimal, str | None]]]]:
    for key in life.keys:
        for day in DAYS:
            place = life.winner(rules, key, day)
            rule = rules[place] if place is not None else None
            label = (
                f"{rule.match}:{life.keys[int(rule.pattern)] if rule.match == 'key_hash' else rule.pattern}"
                if rule
                else None
            )
            yield (
                key,
                day,
                {(company, Decimal(share) / 100, label) for company, share in (rule.shares if rule else NOBODY)},
            )


def orcost(*arguments: str) -> Any:
    answer = CliRunner().invoke(app, [*arguments, "--format", "json"])
    assert answer.exit_code == 0, answer.exception
    return json.loads(answer.stdout)


@settings(max_examples=examples(4), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=LIVES, mappings=st.lists(RULES, min_size=3, max_size=3), data=st.data())
def test_what_is_published_equals_the_reference(
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: tuple[list[Change], ...],
    mappings: list[list[Rule]],
    data: st.DataObject,
) -> None:
    """One life, one mapping after another: each republication leaves nothing of the one before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orcost.toml").write_text('[[accounts]]\nname = "acme"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n')
    with fresh_engine(postgres_url) as engine:
        monkeypatch.setenv("ORCOST_DATABASE_URL", engine.url.render_as_string(hide_password=False))
        life = lived(engine, changes)
        world = life.world
        days = world.ledger.daily("acme", DAYS[0], world.now.date() + DAY, now=world.now)
        hours = world.ledger.hourly("acme", world.now - 40 * DAY, world.now, now=world.now)
        for rules in mappings:
            content, begins = write(rules, life.keys)
            load_mapping(engine, read_mapping(content, "company_mapping.csv"), world.now)
            world.sync()

            assert stored(world, "core.spend_daily", "day") == expected(life, rules, days, lambda day: day)
            assert stored(world, "core.spend_hourly", "hour") == expected(life, rules, hours, datetime.date)
            by_company: dict[Any, Decimal] = defaultdict(Decimal)
            for (day, _, _, company), (credits_usd, *_) in expected(life, rules, days, lambda day: day).items():
                by_company[day, company] += credits_usd
            marts = world.rows("select day, company, credits_usd from marts.company_spend_daily")
            assert {(day, company): usd for day, company, usd in marts} == by_company
            for key, day, owners in owners_of(life, rules):
                told = world.rows(
                    "select company, share, rule from ref.assignment where key_hash = :key "
                    "and valid_from <= :day and valid_to > :day",
                    key=key,
                    day=day,
                )
                assert {tuple(row) for row in told} == owners
                assert len(told) == len(owners)
            world.assert_books_close()

            assert {
                (row["company"], Decimal(row["credits_usd"]))
                for row in orcost("report", "--from", str(DAYS[2]), "--to", str(DAYS[4]))
            } == {
                (company, sum((by_company.get((day, company), Decimal(0)) for day in DAYS[2:4]), Decimal(0)))
                for (day, company) in by_company
                if day in DAYS[2:4]
            }
            key, day = data.draw(st.sampled_from(life.keys)), data.draw(st.sampled_from(DAYS))
            place = life.winner(rules, key, day)
            shares = rules[place].shares if place is not None else NOBODY
            told = orcost("map", "explain", key, "--at", str(day))
            assert [(share["company"], share["share"]) for share in told["shares"]] == list(shares)
            assert told["company"] == (shares[0][0] if len(shares) == 1 else None)
            assert told["line"] == (begins[place] if place is not None else None)
