"""What a mapping covers equals a count key by key and day by day; a rule is idle only when no key was its."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orcost_pipeline.companies.assignment import KeyHistory, KeyVersion
from orcost_pipeline.companies.coverage import Coverage, Part, first_day
from orcost_pipeline.companies.mapping import Rule, read_mapping
from orcost_pipeline.companies.preview import KeyDay
from orcost_pipeline_tests.sampling import examples
from orcost_pipeline_tests.test_assignment import KEYS, is_valid, rule_lists, rules, slow_match, slow_winner, version_on

TODAY = date(2026, 11, 24)
FIRST = date(2026, 10, 26)
# Rules begin and end, and keys change, in early November: at the end of what is looked at, or at its beginning.
TODAYS = [date(2026, 11, 1) + timedelta(days=number) for number in (*range(11), *range(28, 42))]
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
SPENT = st.lists(
    st.tuples(
        st.sampled_from(["7c1e" * 16, "0a0b" * 16, None]),
        st.integers(0, 29),
        st.integers(-5, 10**12).map(lambda units: Decimal(units).scaleb(-11)),
        st.integers(0, 10**6).map(lambda units: Decimal(units).scaleb(-40)),
    ),
    max_size=8,
)


def named(name: str, key_hash: str) -> KeyHistory:
    return KeyHistory(key_hash, (KeyVersion(LONG_AGO, name, "sk-or-v1-…"),))


def counted(mapping: tuple[Rule, ...], *keys: KeyHistory, deleted: dict[str, date] | None = None) -> Coverage:
    found = Coverage()
    found.count("acme", mapping, keys, deleted or {}, [], TODAY)
    return found


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.too_slow])
@given(rule_lists(), KEYS, SPENT, st.none() | st.integers(0, 40), st.sampled_from(TODAYS))
def test_coverage_equals_a_count_key_by_key_and_day_by_day(
    mapping: tuple[Rule, ...], keys: tuple[KeyHistory, ...], drawn: list[Any], gone: int | None, today: date
) -> None:
    days = [today - timedelta(days=number) for number in range(30)]
    spent = [KeyDay(key_hash, days[ago], *amounts) for key_hash, ago, *amounts in drawn]
    deleted = {} if gone is None else {keys[0].key_hash: today - timedelta(days=gone)}
    found = Coverage()
    found.count("acme", mapping, keys, deleted, spent, today)

    living = [key for key in keys if key.key_hash not in deleted]
    assert found.keys == len(living)
    assert found.attributed_keys == sum(slow_winner("acme", mapping, key, today) is not None for key in living)
    histories: dict[str | None, KeyHistory] = {key.key_hash: key for key in keys}
    nobodys = [
        cell
        for cell in spent
        if cell.key_hash is None or slow_winner("acme", mapping, histories[cell.key_hash], cell.day) is None
    ]
    assert found.spend() == _sum(spent, nobodys, "credits_usd")
    assert found.byok() == _sum(spent, nobodys, "byok_usd")

    there = [key for key in keys if deleted.get(key.key_hash, today) >= days[-1]]
    winning = {slow_winner("acme", mapping, key, day) for key in there for day in days}
    matching = {rule for rule in mapping for key in there for day in days if _matches(rule, key, day)}
    idle = {warning.line: warning.message for warning in found.idle(mapping, today)}
    always = [rule for rule in mapping if rule.account in (None, "acme") and all(is_valid(rule, day) for day in days)]
    assert set(idle) == {rule.line for rule in always if rule not in winning}
    assert {line for line, told in idle.items() if "earlier lines took all" in told} == {
        rule.line for rule in always if rule in matching and rule not in winning
    }


def _sum(spent: list[KeyDay], nobodys: list[KeyDay], amount: str) -> Part:
    return Part(*(sum((getattr(cell, amount) for cell in cells), Decimal(0)) for cells in (spent, nobodys)))


def _matches(rule: Rule, key: KeyHistory, day: date) -> bool:
    return rule.account in (None, "acme") and slow_match(rule, key.key_hash, version_on(key, day))


def test_the_days_are_thirty_with_today() -> None:
    assert first_day(TODAY) == FIRST == TODAY - timedelta(days=29)


def test_a_rule_whose_only_key_is_gone_is_idle_once_that_is_long_ago() -> None:
    mapping, key = rules("A,key_name,app,,,,"), named("app", "1" * 64)
    assert counted(mapping, key, deleted={key.key_hash: FIRST}).idle(mapping, TODAY) == []
    (warning,) = counted(mapping, key, deleted={key.key_hash: FIRST - timedelta(days=1)}).idle(mapping, TODAY)
    assert str(warning) == "line 2: key_name:app matched no key in the last 30 days."


def test_a_rule_beaten_for_every_key_is_told_apart_from_one_that_matches_none() -> None:
    mapping, key = rules("A,key_name,app*,,,,", "B,key_name,app two,,,,", "C,key_name,none,,,,"), "1" * 64
    beaten, none = counted(mapping, named("app two", key)).idle(mapping, TODAY)
    assert str(beaten).startswith("line 3: key_name:app two won no key in the last 30 days: earlier lines")
    assert str(none) == "line 4: key_name:none matched no key in the last 30 days."


def test_a_rule_of_an_account_without_figures_is_not_doubted() -> None:
    mapping = read_mapping(b"company,match,pattern,account\nA,key_name,x,other\nB,key_name,x,acme\n", "t").rules
    assert [warning.line for warning in counted(mapping, named("y", "1" * 64)).idle(mapping, TODAY)] == [3]
    assert Coverage().idle(mapping, TODAY) == []


def test_accounts_are_counted_together() -> None:
    mapping, found = rules("A,key_name,app,,,,"), Coverage()
    for account, name in (("acme", "app"), ("globex", "other")):
        key = named(name, name[0] * 64)
        found.count(account, mapping, [key], {}, [KeyDay(key.key_hash, TODAY, Decimal("0.1"), Decimal(0))], TODAY)
    assert (found.keys, found.attributed_keys) == (2, 1)
    assert found.credits_usd == {TODAY: Part(Decimal("0.2"), Decimal("0.1"))}
    assert found.idle(mapping, TODAY) == []
