"""Who owns which key on which day: equal to a slow and obvious reference, total, and explained as it is assigned."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orcost_pipeline.companies.assignment import (
    Assignment,
    KeyHistory,
    KeyVersion,
    assign,
    explain,
    glob_matches,
)
from orcost_pipeline.companies.mapping import Rule, Share, read_mapping
from orcost_pipeline_tests.sampling import examples

HASH = "7c1e" * 16
OTHER_HASH = "0a0b" * 16
FIRST = date(2026, 11, 1)
SPAN = [FIRST + timedelta(days=number) for number in range(-3, 15)]
FAR = [date.min, date(1999, 12, 31), date(2999, 1, 1), date.max]


def seen(day: int, hour: int = 12, **attributes: str | None) -> KeyVersion:
    """A version first seen in November 2026."""
    plain = KeyVersion(datetime(2026, 11, day, hour, tzinfo=UTC), name="Shared gateway", label="sk-or-v1-7f2…c91")
    return replace(plain, **attributes)


def key(*versions: KeyVersion, key_hash: str = HASH) -> KeyHistory:
    return KeyHistory(key_hash, versions or (seen(1),))


def rules(*lines: str) -> tuple[Rule, ...]:
    """Rules by their lines `company,match,pattern,valid_from,valid_to,share,account`; the first is on line 2."""
    header = "company,match,pattern,valid_from,valid_to,share,account"
    return read_mapping("\n".join([header, *lines]).encode(), "test").rules


def owners(mapping: Sequence[Rule], history: KeyHistory, account: str = "acme") -> list[tuple[str, str, str, str]]:
    """(from, to, company, share) of a key, open ends as –."""
    return [
        (str(row.valid_from or "–"), str(row.valid_to or "–"), row.company, str(row.share))
        for row in assign(account, mapping, [history])
        if row.key_hash is not None
    ]


# The reference: day by day, rule by rule


def slow_glob(pattern: str, value: str) -> bool:
    if not pattern:
        return not value
    if pattern[0] == "*":
        return slow_glob(pattern[1:], value) or (value != "" and slow_glob(pattern, value[1:]))
    return value != "" and pattern[0] in ("?", value[0]) and slow_glob(pattern[1:], value[1:])


def version_on(history: KeyHistory, day: date) -> KeyVersion:
    past = [version for version in history.versions if version.valid_from.astimezone(UTC).date() <= day]
    return past[-1] if past else history.versions[0]


def slow_match(rule: Rule, key_hash: str, version: KeyVersion) -> bool:
    values = {
        "key_name": [version.name],
        "workspace": [version.workspace_id, version.workspace_name],
        "creator": [version.creator_user_id, version.creator_email],
        "external_user": [version.external_user],
        "label": [version.label],
    }
    if rule.match == "key_hash":
        return rule.pattern == key_hash
    return any(value is not None and slow_glob(rule.pattern, value) for value in values[rule.match])


def is_valid(rule: Rule, day: date) -> bool:
    return (rule.valid_from is None or rule.valid_from <= day) and (rule.valid_to is None or day < rule.valid_to)


def slow_winner(account: str, mapping: Iterable[Rule], history: KeyHistory, day: date) -> Rule | None:
    version = version_on(history, day)
    for rule in mapping:
        if rule.account in (None, account) and is_valid(rule, day) and slow_match(rule, history.key_hash, version):
            return rule
    return None


def slow_owners(winner: Rule | None) -> set[tuple[str, Decimal, str | None, int | None]]:
    if winner is None:
        return {("Unattributed", Decimal(1), None, None)}
    name = f"{winner.match}:{winner.pattern}"
    return {(share.company, share.percent / 100, name, winner.line) for share in winner.shares}


# Random rules and keys, from few letters, so that they often meet

DAYS = st.integers(0, 10).map(lambda number: FIRST + timedelta(days=number))
VALUES = st.text("ab[.\n", max_size=4)
GLOBS = st.text("ab[.\n*?", min_size=1, max_size=5)
SPLITS = st.sampled_from([(100,), (60, 40), ("0.1", "99.9"), (25, 25, 50)])
HASHES = st.sampled_from([HASH, OTHER_HASH, "1" * 64])
MATCH_PATTERNS = st.one_of(
    st.tuples(st.just("key_hash"), HASHES),
    st.tuples(st.sampled_from(["key_name", "workspace", "creator", "external_user", "label"]), GLOBS),
)


@st.composite
def rule_lists(draw: st.DrawFn) -> tuple[Rule, ...]:
    drawn = draw(
        st.lists(st.tuples(MATCH_PATTERNS, st.sampled_from([None, None, "acme", "other"]), SPLITS), max_size=8)
    )
    made = []
    for position, ((match, pattern), account, percents) in enumerate(drawn):
        start, end = draw(st.none() | DAYS), draw(st.none() | DAYS)
        if start and end and end <= start:
            start, end = end, start + timedelta(days=1)
        line = 2 + 3 * position
        shares = tuple(Share("ABC"[n], Decimal(percent), line + n) for n, percent in enumerate(percents))
        made.append(Rule(position, line, match, pattern, account, start, end, shares))
    return tuple(made)


@st.composite
def histories(draw: st.DrawFn, key_hash: str) -> KeyHistory:
    hours = sorted(draw(st.sets(st.integers(0, 240), min_size=1, max_size=5)))
    return KeyHistory(key_hash, tuple(draw(versions(hour)) for hour in hours))


def versions(hour: int) -> st.SearchStrategy[KeyVersion]:
    at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=hour)
    absent = st.none() | VALUES
    return st.builds(KeyVersion, st.just(at), VALUES, VALUES, absent, absent, absent, absent, absent)


KEYS = st.tuples(histories(HASH), histories(OTHER_HASH))


def on_day(rows: Iterable[Assignment], key_hash: str | None, day: date) -> list[Assignment]:
    return [
        row
        for row in rows
        if row.key_hash == key_hash
        and (row.valid_from is None or row.valid_from <= day)
        and (row.valid_to is None or day < row.valid_to)
    ]


@settings(max_examples=examples(250))
@given(rule_lists(), KEYS)
def test_assignment_equals_the_slow_reference_on_every_day(mapping, keys):
    rows = assign("acme", mapping, keys)
    for history in keys:
        for day in SPAN + FAR:
            today = on_day(rows, history.key_hash, day)
            found = [(row.company, row.share, row.rule, row.line) for row in today]
            expected = slow_owners(slow_winner("acme", mapping, history, day))
            assert len(found) == len(expected)
            assert set(found) == expected


@pytest.mark.slow
@settings(max_examples=examples(120))
@given(rule_lists(), KEYS)
def test_every_key_and_no_key_is_covered_without_gap_or_overlap(mapping, keys):
    rows = assign("acme", mapping, keys)
    for key_hash in [None, HASH, OTHER_HASH]:
        spans: dict[tuple[date | None, date | None], list[Assignment]] = {}
        for row in rows:
            if row.key_hash == key_hash:
                spans.setdefault((row.valid_from, row.valid_to), []).append(row)
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        assert starts[0] is None
        assert ends[-1] is None
        assert starts[1:] == ends[:-1] == sorted(filter(None, starts))
        assert len(set(starts)) == len(starts)
        assert all(sum(row.share for row in span) == 1 for span in spans.values())
        assert all(len({row.company for row in span}) == len(span) for span in spans.values())


@pytest.mark.slow
@settings(max_examples=examples(120))
@given(rule_lists(), KEYS)
def test_neighbouring_spans_differ(mapping, keys):
    rows = assign("acme", mapping, keys)
    for row in rows:
        after = [other for other in rows if other.key_hash == row.key_hash and other.valid_from == row.valid_to]
        if row.valid_to is not None:
            assert row.line is None or all(other.line != row.line for other in after)
            assert any(other.line != row.line for other in after)


@settings(max_examples=examples(60))
@given(rule_lists(), KEYS)
def test_the_order_of_keys_is_irrelevant_and_nothing_is_changed(mapping, keys):
    before = copy.deepcopy((mapping, keys))
    assert assign("acme", mapping, keys) == assign("acme", list(mapping), iter(reversed(keys)))
    assert (mapping, keys) == before


@settings(max_examples=examples(120))
@given(rule_lists(), histories(HASH))
def test_an_explanation_agrees_with_the_assignment_on_every_day(mapping, history):
    rows = assign("acme", mapping, [history])
    for day in SPAN + FAR:
        told = explain("acme", mapping, history, day)
        name, line = (told.rule.name, told.rule.line) if told.rule else (None, None)
        expected = [(row.company, row.share, row.rule, row.line) for row in on_day(rows, HASH, day)]
        assert [(company, percent / 100, name, line) for company, percent in told.shares] == expected


@settings(max_examples=examples(120))
@given(rule_lists(), histories(HASH))
def test_an_explanation_names_every_rule_that_matches_and_lost(mapping, history):
    for day in SPAN:
        told = explain("acme", mapping, history, day)
        version = version_on(history, day)
        matching = [r for r in mapping if r.account in (None, "acme") and slow_match(r, HASH, version)]
        assert told.version == version
        assert [lost.rule for lost in told.considered] == [rule for rule in matching if rule != told.rule]
        for lost in told.considered:
            assert (lost.reason == "later in the file") == is_valid(lost.rule, day)


@settings(max_examples=examples(500))
@given(GLOBS, st.text("ab[.\n", max_size=8))
@example("*a?*b*", "xxaab")
@example("a*a", "a")
@example("*a?*", "bab")
@example("**", "")
@example("?", "")
def test_a_glob_matches_as_the_slow_reference_says(pattern, value):
    assert glob_matches(pattern, value) == slow_glob(pattern, value)


# In words


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("Shared*", "Shared gateway", True),
        ("shared*", "Shared gateway", False),
        ("gateway", "Shared gateway", False),
        ("*", "", True),
        ("*", "two\nlines", True),
        ("?", "\n", True),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("\\*", "*", False),
        ("\\*", "\\anything", True),
        ("a.c", "abc", False),
        ("*a*a*a*a*a*a*a*b", "a" * 5_000, False),
    ],
)
def test_only_star_and_question_mark_are_special(pattern, value, fits):
    assert glob_matches(pattern, value) is fits


def test_the_first_rule_of_the_file_wins():
    mapping = rules("A,key_name,Shared*", f"B,key_hash,{HASH}", "C,key_name,*")
    assert owners(mapping, key()) == [("–", "–", "A", "1")]


def test_spend_outside_a_rules_days_goes_to_the_next_that_matches():
    mapping = rules("A,key_name,Shared*,2026-11-01,2026-12-01", "B,key_name,*,2026-10-01,")
    assert owners(mapping, key()) == [
        ("–", "2026-10-01", "Unattributed", "1"),
        ("2026-10-01", "2026-11-01", "B", "1"),
        ("2026-11-01", "2026-12-01", "A", "1"),
        ("2026-12-01", "–", "B", "1"),
    ]


def test_a_split_is_exact_and_in_the_order_of_the_file():
    mapping = rules("B,key_name,*,,,33.3", "A,key_name,*,,,66.7")
    assert owners(mapping, key()) == [("–", "–", "B", "0.333"), ("–", "–", "A", "0.667")]


def test_a_rename_moves_its_day_and_the_future_but_no_past_day():
    history = key(seen(1, name="old"), seen(5, 23, name="new"))
    mapping = rules("A,key_name,old", "B,key_name,new")
    assert owners(mapping, history) == [("–", "2026-11-05", "A", "1"), ("2026-11-05", "–", "B", "1")]


def test_a_day_uses_its_last_version():
    history = key(seen(1, name="old"), seen(5, 3, name="short-lived"), seen(5, 4, name="new"))
    mapping = rules("A,key_name,old", "B,key_name,new", "C,key_name,short-lived")
    assert owners(mapping, history) == [("–", "2026-11-05", "A", "1"), ("2026-11-05", "–", "B", "1")]


def test_versions_may_come_in_any_order():
    versions = seen(5, name="new"), seen(1, name="old")
    mapping = rules("A,key_name,old", "B,key_name,new")
    assert owners(mapping, key(*versions)) == owners(mapping, key(*reversed(versions)))


def test_the_first_version_reaches_back_even_if_its_own_day_has_a_later_one():
    history = key(seen(1, 3, name="old"), seen(1, 4, name="new"))
    mapping = rules("A,key_name,old", "B,key_name,new")
    assert owners(mapping, history) == [("–", "2026-11-01", "A", "1"), ("2026-11-01", "–", "B", "1")]


def test_the_day_of_a_version_is_the_utc_day():
    late = replace(seen(5), name="new", valid_from=datetime(2026, 11, 5, 1, tzinfo=timezone(timedelta(hours=2))))
    mapping = rules("A,key_name,old", "B,key_name,new")
    assert owners(mapping, key(seen(1, name="old"), late))[1] == ("2026-11-04", "–", "B", "1")


def test_a_change_that_no_rule_looks_at_is_no_change():
    history = key(seen(1), seen(2, creator_email="a@b.io"), seen(3, label="other"))
    assert owners(rules("A,key_name,Shared*"), history) == [("–", "–", "A", "1")]


def test_rules_that_begin_and_end_unseen_cut_nothing():
    mapping = rules("A,key_name,Shared*", "B,key_name,*,2026-11-03,2026-11-05", "C,label,nothing,2026-11-04,")
    assert owners(mapping, key()) == [("–", "–", "A", "1")]


@pytest.mark.parametrize("match", ["workspace", "creator", "external_user"])
def test_what_a_key_does_not_have_matches_nothing(match):
    assert owners(rules(f"A,{match},*"), key()) == [("–", "–", "Unattributed", "1")]


@pytest.mark.parametrize(
    ("match", "attribute"),
    [
        ("key_name", "name"),
        ("label", "label"),
        ("workspace", "workspace_id"),
        ("workspace", "workspace_name"),
        ("creator", "creator_user_id"),
        ("creator", "creator_email"),
        ("external_user", "external_user"),
    ],
)
@pytest.mark.parametrize("pattern", ["x-value-y", "x-*", "*-y", "*value*", "*-y*", "?-val??-?"])
def test_a_match_looks_at_its_own_attributes(match, attribute, pattern):
    mapping = rules(f"A,{match},{pattern}")
    assert owners(mapping, key(seen(1, **{attribute: "x-value-y"}))) == [("–", "–", "A", "1")]
    assert owners(mapping, key(seen(1, **{attribute: "X-VALUE-Y"}))) == [("–", "–", "Unattributed", "1")]


def test_a_rule_of_another_account_does_not_count():
    mapping = rules("A,key_name,*,,,,other", "B,key_name,*,,,,acme", "C,key_name,*")
    assert [owners(mapping, key(), account)[0][2] for account in ("other", "acme", "third")] == ["A", "B", "C"]


def test_spend_without_a_key_is_unattributed_whatever_the_rules():
    assert assign("acme", rules("A,key_name,*"), []) == [
        Assignment(None, None, None, "Unattributed", Decimal(1), None, None)
    ]


def test_a_key_that_was_never_listed_can_be_claimed_by_its_hash_alone():
    mapping = rules("A,key_name,*", f"B,key_hash,{HASH}")
    assert owners(mapping, KeyHistory(HASH, ())) == [("–", "–", "B", "1")]
    assert explain("acme", mapping, KeyHistory(HASH, ()), FIRST).company == "B"


def test_a_row_names_its_rule_as_written_and_its_first_line():
    rows = assign("acme", rules("A,label,nothing", "B,key_name,Sh*,,,60", "C,key_name,Sh*,,,40"), [key()])
    assert [(row.rule, row.line) for row in rows] == [(None, None), ("key_name:Sh*", 3), ("key_name:Sh*", 3)]


def test_an_explanation_says_why_each_other_rule_lost():
    mapping = rules(
        f"C,key_hash,{HASH},,2026-11-01",
        "A,key_name,Shared*,2026-11-01,,60",
        "B,key_name,Shared*,2026-11-01,,40",
        "D,label,*,2026-12-01,",
        "E,key_name,*",
        "F,key_name,Else*",
    )
    told = explain("acme", mapping, key(), date(2026, 11, 2))
    assert told.rule == mapping[1]
    assert told.company is None
    assert told.shares == (("A", Decimal(60)), ("B", Decimal(40)))
    assert told.version == seen(1)
    assert [(lost.rule.line, lost.reason) for lost in told.considered] == [
        (2, "until 2026-11-01"),
        (5, "from 2026-12-01"),
        (6, "later in the file"),
    ]


def test_an_explanation_of_what_nothing_matches_is_unattributed():
    told = explain("acme", rules("F,key_name,Else*"), key(), FIRST)
    assert (told.company, told.rule, told.considered) == ("Unattributed", None, ())
    assert told.shares == (("Unattributed", Decimal(100)),)


@pytest.mark.slow
def test_fifty_thousand_rules_meet_ten_thousand_keys_in_moments():
    patterns = ("key_name,team-{0}*", "key_name,*-{0}-?", "workspace,*w{0}*", "creator,u{0}@*", "label,l{0}")
    mapping = rules(*(f"Company {n % 50}," + patterns[n % 5].format(n) for n in range(50_000)))
    keys = [
        key(
            seen(1, name=f"team-{n}", label=f"l{n}"),
            seen(2, name=f"team-{n}-x", workspace_name=f"w{n}"),
            key_hash=f"{n:064x}",
        )
        for n in range(10_000)
    ]
    begin = time.process_time()
    assert len(assign("acme", mapping, keys)) > 10_000
    assert time.process_time() - begin < 5  # about half a second of one processor
