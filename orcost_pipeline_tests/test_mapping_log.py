"""Each version of the mapping is kept, with what it changed: rules that came, went, have other owners, or moved."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from orcost_pipeline.cli import app
from orcost_pipeline.companies.mapping import Rule, read_mapping
from orcost_pipeline.companies.mapping_diff import compare, counted
from orcost_pipeline.sync.attribution import load_mapping
from orcost_pipeline_tests.world import DAY, NOON

rule_lines = st.lists(
    st.tuples(st.sampled_from("AB"), st.sampled_from(("a", "b", "c", "d", "e", "f*", "*")))
    .map(lambda cells: f"{cells[0]},key_name,{cells[1]}"),
    max_size=7,
    unique_by=lambda line: line.split(",")[2],
)  # fmt: skip


def rules(*lines: str) -> tuple[Rule, ...]:
    return read_mapping("\n".join(["company,match,pattern,share,valid_from", *lines]).encode(), "it").rules


def told(before: tuple[Rule, ...], after: tuple[Rule, ...]) -> list[tuple[str, int]]:
    return [(change.kind, change.line) for change in compare(before, after)]


def test_what_came_went_changed_and_moved() -> None:
    before = rules("A,key_name,app", "A,key_name,web,60", "B,key_name,web,40", "C,workspace,Old", "D,key_name,x")
    after = rules("D,key_name,x", "A,key_name,app", "A,key_name,web,50", "B,key_name,web,50", "E,label,new")
    assert told(before, after) == [("moved", 2), ("changed", 4), ("removed", 5), ("added", 6)]


def test_other_dates_are_another_rule_and_another_line_is_no_change() -> None:
    before = rules("A,key_name,app")
    assert told(before, rules("A,key_name,app,,2026-11-01")) == [("added", 2), ("removed", 2)]
    assert told(before, rules("# a remark", "", "A,key_name,app")) == []


def test_a_rule_written_twice_is_two() -> None:
    assert told(rules("A,key_name,app"), rules("A,key_name,app", "", "B,label,x", "A,key_name,app")) == [
        ("added", 4),
        ("added", 5),
    ]


@given(rule_lines, rule_lines)
def test_what_is_told_leads_from_one_version_to_the_other(before: list[str], after: list[str]) -> None:
    """Without what was removed or moved, and with what was added and changed, the old rules are the new ones; and no
    fewer rules could have moved."""
    old, new = rules(*before), rules(*after)
    changes = compare(old, new)
    by_kind = {kind: [change for change in changes if change.kind == kind] for kind in counted(changes)}
    gone = {it.before.pattern for it in by_kind["removed"] if it.before}
    owners = {rule.pattern: rule.shares[0].company for rule in old if rule.pattern not in gone}
    owners |= {it.after.pattern: it.after.shares[0].company for it in changes if it.after}
    assert owners == {rule.pattern: rule.shares[0].company for rule in new}
    moved = {it.after.pattern for it in by_kind["moved"] if it.after}
    stayed = [rule.pattern for rule in old if rule.pattern not in gone]
    in_new = [rule.pattern for rule in new if rule.pattern in stayed]
    assert [it for it in stayed if it not in moved] == [it for it in in_new if it not in moved]
    fewer = combinations(stayed, len(moved) - 1) if moved else ()
    assert not any([it for it in stayed if it not in some] == [it for it in in_new if it not in some] for some in fewer)


@pytest.fixture
def orcost(engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("ORCOST_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["map", *arguments])


def load(engine: sa.Engine, day: int, *lines: str) -> None:
    content = "\n".join(["company,match,pattern,share", *lines]).encode()
    load_mapping(engine, read_mapping(content, "company_mapping.csv"), NOON + day * DAY)


def test_versions_are_listed_with_what_each_changed(engine: sa.Engine, orcost: Callable[..., Any]) -> None:
    assert "No mapping was ever in force." in orcost("log").output
    load(engine, 0, "A,key_name,app*")
    load(engine, 0, "A,key_name,app*")
    load(engine, 1, "B,key_name,app*", "B,key_name,web")
    load(engine, 2, "B,key_name,web", "B,key_name,app*")
    versions = json.loads(orcost("log", "--format", "json").output)
    kinds = ("added", "removed", "changed", "moved")
    assert [[version[f"rules_{kind}"] for kind in kinds] for version in versions] == [
        [0, 0, 0, 1],
        [1, 0, 1, 0],
        [1, 0, 0, 0],
    ]
    lines = [" ".join(line.split()) for line in orcost("log").output.splitlines()]
    assert "3 2026-11-25 12:20 2 ↕1 company_mapping.csv" in lines
    assert "2 2026-11-24 12:20 2 +1 ~1 company_mapping.csv" in lines


def test_two_versions_are_compared_rule_by_rule(engine: sa.Engine, orcost: Callable[..., Any]) -> None:
    load(engine, 0, "A,key_name,app*", "A,key_name,old")
    load(engine, 1, "A,key_name,app*,60", "B,key_name,app*,40", "B,key_name,web")
    answer = orcost("diff").output
    lines = [" ".join(line.split()) for line in answer.splitlines()]
    assert lines[0] == "Version 1 → 2 (2026-11-24 12:20 UTC): 1 added, 1 removed, 1 changed"
    assert "~ 2 key_name:app* all always A → A 60 %, B 40 %" in lines
    assert "− 3 key_name:old all always A" in lines
    assert "+ 4 key_name:web all always B" in lines
    assert orcost("diff", "1", "2").output == answer
    (kept,) = [it for it in json.loads(orcost("diff", "--format", "json").output)["changes"] if it["change"] == "added"]
    assert kept["before"] is None
    assert kept["after"]["shares"] == [{"company": "B", "share": "100", "note": None}]
    assert len(json.loads(orcost("diff", "0", "--format", "json").output)["changes"]) == 2
    load(engine, 2, "# the same", "A,key_name,app*,60", "B,key_name,app*,40", "B,key_name,web")
    assert "the same rules in the same order" in orcost("diff").output
    assert str(orcost("diff", "1", "9").exception) == "There is no version 9 of the mapping; the newest is 3."
