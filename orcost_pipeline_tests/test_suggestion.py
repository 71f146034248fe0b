"""Guesses: whose a key may be by its name, its workspace and who made it; and that a rule takes nobody else's key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orcost_pipeline.companies.assignment import Assignment, KeyHistory, KeyVersion, assign
from orcost_pipeline.companies.coverage import covers
from orcost_pipeline.companies.mapping import UNATTRIBUTED, Rule, read_mapping
from orcost_pipeline.companies.rows import csv_line
from orcost_pipeline.companies.suggestion import Key, Suggestion, suggest
from orcost_pipeline_tests.sampling import examples

SEEN = datetime(2026, 11, 1, tzinfo=UTC)
HEADER = "company,match,pattern,share"
NUMBERS = count(1)


def rules(*lines: str) -> tuple[Rule, ...]:
    return read_mapping("\n".join([HEADER, *lines]).encode(), "it").rules


def key(
    name: str,
    company: str | None = UNATTRIBUTED,
    *,
    usd: str = "1",
    workspace: str | None = None,
    creator: str | None = None,
    formerly: str | None = None,
    account: str = "acme",
) -> Key:
    """A key; what is open has spent a dollar unless told."""
    now = KeyVersion(SEEN + timedelta(days=5), name, "sk-or-v1-…", None, workspace, None, creator)
    versions = (now,)
    if formerly:
        versions = (KeyVersion(SEEN, formerly, "sk-or-v1-…", None, workspace, None, creator), now)
    spent = Decimal(usd) if company == UNATTRIBUTED else Decimal(0)
    return Key(account, KeyHistory(f"{next(NUMBERS):064x}", versions), company, spent)


def told(found: Iterable[Suggestion]) -> list[str]:
    return [f"{it.company},{it.match},{it.pattern}" for it in found]


def hash_of(it: Key) -> str:
    return it.history.key_hash


# By name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Company A Production", "Company A"),
        ("company-a_production", "Company A"),
        ("prod for COMPANY A", "Company A"),
        ("Company AB", None),
        ("Acme", "Acme"),
        ("Acme Labs web", "Acme Labs"),
        ("acme.web", "Acme"),
        ("Acme and Company A", None),
        ("acmeweb", None),
        ("is it X", None),
        ("X web", "X"),
    ],
)
def test_a_name_that_holds_a_companys_is_its(name: str, expected: str | None) -> None:
    known = rules("Company A,label,l1", "Acme,label,l2", "Acme Labs,label,l3", "X,label,l4")
    found = suggest([key(name)], known, {})
    assert [it.company for it in found] == ([expected] if expected else [])
    assert all((it.match, it.pattern, it.reason) == ("key_name", name, "named like the company") for it in found)


def test_other_names_of_a_company_count_too() -> None:
    listed = {"ACME-01": ["Acme Corporation", "acme"], "GLX": ["Globex"]}
    found = suggest([key("acme corporation web"), key("globex web")], [], listed)
    assert told(found) == ["ACME-01,key_name,acme corporation web", "GLX,key_name,globex web"]


def test_how_names_of_keys_and_rules_begin_is_learnt() -> None:
    keys = [key("initech-web", "Initech Ltd"), key("initech-jobs"), key("umbrella prod"), key("hooli-x"), key("hoolix")]
    found = suggest(keys, rules("Umbrella Inc,key_name,umbrella *", "Hooli SA,key_name,hooli*"), {})
    assert told(found) == ["Initech Ltd,key_name,initech-jobs", "Umbrella Inc,key_name,umbrella prod"]
    assert found[0].reason == 'named like "initech-web"'


@pytest.mark.parametrize("begins", ["prod", "42", "x", "key 7"])
def test_a_beginning_that_says_nothing_is_not_learnt(begins: str) -> None:
    assert suggest([key(f"{begins} one", "Acme Ltd"), key(f"{begins} two")], [], {}) == []


def test_a_beginning_that_two_companies_share_says_nothing() -> None:
    keys = [key("team-ann web", "Acme"), key("team-ann jobs", "Globex"), key("team-ann tests")]
    assert suggest(keys, [], {}) == []
    split = rules("Acme,key_name,gate one,50", "Globex,key_name,gate one,50")
    assert suggest([key("gate two")], split, {}) == []


def test_a_word_of_the_companys_own_name_says_nothing() -> None:
    found = suggest([key("Company B Search", "Company B"), key("Company C Search")], [], {})
    assert found == []


@pytest.mark.parametrize("name", ["Globex ", " Globex", "Glo\tbex", "Globex?"])
def test_a_name_that_no_rule_can_mean_goes_by_its_hash(name: str) -> None:
    it = key(name)
    (found,) = suggest([it], [])
    assert (found.match, found.pattern) == ("key_hash", hash_of(it))


def test_a_blank_name_and_a_place_with_blanks_around_it_go_by_the_hash() -> None:
    nameless, padded = key("", creator="ann@example.com"), key("two", workspace="W ")
    owned = [key("one", "Globex", creator="ann@example.com"), key("three", "Globex", workspace="W "), key("4", "A")]
    found = suggest([nameless, padded, *owned, key("5", "A", workspace="V")], [], {})
    assert {(it.match, it.pattern) for it in found} == {("key_hash", hash_of(nameless)), ("key_name", "two")}


# By place


def test_a_workspace_with_keys_of_one_company_is_its() -> None:
    keys = [key("one", "Globex", workspace="W"), key("two", workspace="W"), key("three", workspace="V")]
    (found,) = suggest(keys, [], {})
    assert told([found]) == ["Globex,workspace,W"]
    assert found.reason == "1 of 2 keys in workspace W are Globex's"
    assert found.keys == (keys[1],)


@pytest.mark.parametrize(
    "others",
    [
        [key("b", "Acme", workspace="W")],
        [key("b", None, workspace="W")],
        [key("b", workspace="W"), key("c", workspace="W")],
    ],
    ids=["another company", "a split", "mostly open keys"],
)
def test_a_workspace_without_one_prevailing_company_suggests_nothing(others: list[Key]) -> None:
    elsewhere = key("x", "Other", workspace="V")
    assert suggest([key("a", "Globex", workspace="W"), key("o", workspace="W"), *others, elsewhere], [], {}) == []


def test_the_only_workspace_of_an_account_suggests_nothing() -> None:
    assert suggest([key("a", "Globex", workspace="Default"), key("b", workspace="Default")], [], {}) == []


def test_a_key_named_otherwise_keeps_its_workspace_from_a_rule() -> None:
    keys = [
        key("one", "Globex", workspace="W"),
        key("two", "Globex", workspace="W"),
        key("three", workspace="W"),
        key("Acme web", workspace="W", usd="2"),
        key("four", "Other", workspace="V"),
    ]
    assert told(suggest(keys, rules("Acme,label,x"), {})) == ["Acme,key_name,Acme web", "Globex,key_name,three"]


def test_a_creator_suggests_a_rule_for_the_single_key() -> None:
    keys = [key("one", "Globex", creator="ann@x.io"), key("two", creator="ann@x.io"), key("three", creator="bob@x.io")]
    (found,) = suggest(keys, [], {})
    assert told([found]) == ["Globex,key_name,two"]
    assert found.reason == "1 of 2 keys made by ann@x.io are Globex's"


def test_workspace_and_creator_that_disagree_are_no_guess() -> None:
    keys = [
        key("one", "Globex", workspace="W"),
        key("two", "Acme", workspace="V", creator="ann@x.io"),
        key("three", workspace="W", creator="ann@x.io"),
    ]
    assert suggest(keys, [], {}) == []


# A new company


@pytest.mark.parametrize(
    ("name", "company"),
    [
        ("Globex", "Globex"),
        ("Globex-prod-2", "Globex"),
        ("Umbrella Corp. Web App", "Umbrella Corp"),
        ("Company A Production", "Company A"),
        ("test globex", None),
        ("Shared gateway", None),
        ("key 17", None),
        ("unattributed prod", None),
        ("a key whose name is a sentence of words", None),
        ("…", None),
        ("", None),
    ],
)
def test_a_name_nobody_knows_may_be_a_new_companys(name: str, company: str | None) -> None:
    found = suggest([key(name)], [])
    assert [it.company for it in found] == ([company] if company else [])
    assert suggest([key(name)], [], {}) == [], "a list says which companies there are"


def test_keys_of_one_new_company_are_put_together() -> None:
    found = suggest([key("globex web"), key("Globex Production", usd="2"), key("Globex Reports")], [])
    assert {it.company for it in found} == {"Globex"}
    assert told(found) == ["Globex,key_name,Globex *", "Globex,key_name,globex web"]


# How it is put


def test_two_keys_or_more_of_one_beginning_share_a_glob() -> None:
    keys = [key("Acme web", usd="1"), key("Acme prod", usd="2.5"), key("Acme"), key("Acme old", "Acme")]
    found = suggest(keys, rules("Acme,label,x"), {})
    assert told(found) == ["Acme,key_name,Acme *", "Acme,key_name,Acme"]
    assert found[0].credits_usd == Decimal("3.5")


@pytest.mark.parametrize(
    "other", [key("Acme dev", "Globex"), key("Acme dev", None), key("new", "Globex", formerly="Acme dev")]
)
def test_a_glob_that_another_companys_key_fits_is_not_put(other: Key) -> None:
    found = suggest([key("Acme web"), key("Acme prod"), other], rules("Acme,label,x"), {})
    assert told(found) == ["Acme,key_name,Acme prod", "Acme,key_name,Acme web"]


def test_a_name_that_another_companys_key_bears_is_put_by_hash() -> None:
    open_key = key("Acme web")
    other = key("Acme web", "Globex", account="other")
    assert told(suggest([open_key, other], rules("Acme,label,x"), {})) == [f"Acme,key_hash,{hash_of(open_key)}"]


def test_two_open_keys_of_one_name_share_a_rule() -> None:
    (found,) = suggest([key("Acme"), key("Acme")], rules("Acme,label,x"), {})
    assert (found.pattern, len(found.keys)) == ("Acme", 2)


@pytest.mark.parametrize("name", ["Acme * web", "Acme?", " Acme", "Acme\x07", "Acme\n"])
def test_a_name_that_a_rule_cannot_mean_is_put_by_hash(name: str) -> None:
    open_key = key(name)
    assert told(suggest([open_key], rules("Acme,label,x"), {})) == [f"Acme,key_hash,{hash_of(open_key)}"]


def test_a_renamed_key_is_put_by_hash_for_its_past_to_be_reached() -> None:
    open_key = key("Acme web", formerly="tmp")
    assert told(suggest([open_key], rules("Acme,label,x"), {})) == [f"Acme,key_hash,{hash_of(open_key)}"]


def test_the_past_of_a_key_that_has_an_owner_today_is_its_owners() -> None:
    mine, split = key("web", "Acme"), key("both", None)
    past = [Key(it.account, it.history, it.company, Decimal(1)) for it in (mine, split)]
    (found,) = suggest(past, [], {})
    assert told([found]) == [f"Acme,key_hash,{hash_of(mine)}"]
    assert found.reason == "Acme's today, unattributed before"


def test_the_largest_spend_comes_first_and_byok_decides_between_equals() -> None:
    keys = [key("Acme"), key("Beta", usd="2"), key("Gamma")]
    keys.append(Key("acme", key("Delta").history, UNATTRIBUTED, Decimal(1), Decimal("0.5")))
    assert [it.company for it in suggest(keys, [])] == ["Beta", "Delta", "Acme", "Gamma"]


# The law

WORDS = ("Acme", "acme", "Globex", "Initech", "prod", "web", "x", "*", "7")
NAMES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).flatmap(
    lambda words: st.sampled_from([" ", "-"]).map(lambda between: between.join(words))
)
PLACES = st.none() | st.sampled_from(["W", "V", "Acme"])
RULES = st.lists(
    st.tuples(
        st.sampled_from(["Acme", "Globex", "Z"]),
        st.sampled_from(["key_name", "workspace", "creator"]),
        st.sampled_from(["Acme*", "acme prod", "* web", "W", "x", "Globex"]),
        st.sampled_from(["", "2026-11-10"]),
        st.sampled_from(["", "2026-11-20"]),
    ),
    max_size=4,
    unique_by=lambda rule: rule[1:],
)
DAYS = [date(2026, 10, 20) + timedelta(days=3 * number) for number in range(16)]


@st.composite
def versions(draw: st.DrawFn) -> tuple[KeyVersion, ...]:
    days = sorted(draw(st.sets(st.integers(0, 25), min_size=1, max_size=3)))
    return tuple(
        KeyVersion(SEEN + timedelta(days=day), draw(NAMES), "l", None, draw(PLACES), None, draw(PLACES)) for day in days
    )


def owner(rows: Sequence[Assignment], key_hash: str, day: date) -> str:
    (company,) = (row.company for row in rows if row.key_hash == key_hash and covers([row], day))
    return company


def mapping(lines: Iterable[Sequence[str]]) -> tuple[Rule, ...]:
    header = "company,match,pattern,valid_from,valid_to"
    return read_mapping("\n".join([header, *(csv_line(line, ",") for line in lines)]).encode(), "it").rules


@settings(max_examples=examples(400))
@given(st.lists(versions(), min_size=1, max_size=7), RULES, st.none() | st.just({"Acme": ["Initech"], "Globex": []}))
def test_what_is_suggested_takes_from_nobody_and_reaches_every_day(
    lives: list[tuple[KeyVersion, ...]],
    lines: list[tuple[str, ...]],
    listed: dict[str, list[str]] | None,
) -> None:
    histories = [KeyHistory(f"{number:064x}", life) for number, life in enumerate(lives)]
    before = assign("acme", mapping(lines), histories)
    keys = [Key("acme", it, owner(before, it.key_hash, DAYS[-1]), Decimal(1)) for it in histories]
    found = suggest(keys, mapping(lines), listed)
    assert len({key for it in found for key in it.keys}) == sum(len(it.keys) for it in found)
    after = assign("acme", mapping([*lines, *([it.company, it.match, it.pattern] for it in found)]), histories)
    meant = {key.history.key_hash: it.company for it in found for key in it.keys}
    for history in histories:
        for day in DAYS:
            was, becomes = (owner(rows, history.key_hash, day) for rows in (before, after))
            expected = meant.get(history.key_hash, UNATTRIBUTED) if was == UNATTRIBUTED else was
            assert becomes == expected
