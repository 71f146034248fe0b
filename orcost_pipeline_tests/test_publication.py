"""The declared steps of the publication against their SQL: what each reads, makes and writes, and in which order."""

import ast
import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa

from orcost_pipeline.warehouse import publication
from orcost_pipeline.warehouse.publication.checks import CONTRACT_CHECKS
from orcost_pipeline.warehouse.publication.healing.heal import statements
from orcost_pipeline.warehouse.publication.opening import OPENED
from orcost_pipeline.warehouse.publication.order import STEPS
from orcost_pipeline.warehouse.publication.step import Computation, Merging, Step
from orcost_pipeline.warehouse.publication.transaction import When, occasions

FOLDER = Path(publication.__file__).parent
# How often SQL outside migrations lists the measures: Postgres has no word for them.
LISTS_OF_MEASURES = 84
BY_NAME = {step.name: step for step in STEPS}

_NOISE = re.compile(r"--[^\n]*|'(?:[^']|'')*'")
_CTE = re.compile(r"(?:\bwith|,)\s+([a-z_]+)(?:\s*\([a-z_, ]+\))?\s+as\s*(?:materialized\s*)?\(")
_NAME = r"([a-z_]+(?:\.[a-z_]+)?)\b(?!\s*\()"
_READ = re.compile(rf"(?<!delete )(?<!distinct )\b(?:from|join|using)\s+{_NAME}")
_WRITTEN = re.compile(r"\b(?:insert into|delete from|(?<!do )update)\s+([a-z_]+(?:\.[a-z_]+)?)")
_MADE = re.compile(r"\bcreate temporary table ([a-z_]+)\b")


class Used(NamedTuple):
    """The relations that a piece of SQL reads, writes and makes; its common table expressions are no relations."""

    reads: frozenset[str]
    writes: frozenset[str]
    makes: tuple[str, ...]


def used(sql: str) -> Used:
    text = _NOISE.sub(" ", sql)
    inner = set(_CTE.findall(text)) | {"lateral"}
    return Used(frozenset(_READ.findall(text)) - inner, frozenset(_WRITTEN.findall(text)), tuple(_MADE.findall(text)))


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.sql").read_text(encoding="utf-8")


def sql_of(step: Step) -> str:
    """All of a step's SQL: its files, and the scope of its merge as the condition of a deletion."""
    texts = [text_of(name) for name in step.files]
    if step.merges:
        staged = f"using {step.staged} s " if isinstance(step, Merging) else ""
        texts.append(f"delete from {step.merges.into} t {staged}where {' and '.join(step.merges.within or ())}")
    return "\n;\n".join(texts)


def scenarios() -> dict[str, frozenset[When]]:
    """Every combination of what a publication may be."""
    names = ("is_extraction", "is_counted", "was_counted", "is_rebuild")
    answers = [dict(zip(names, values, strict=True)) for values in product((False, True), repeat=len(names))]
    return {" ".join(name for name in names if it[name]) or "mapping alone": occasions(**it) for it in answers}


# ── one step, and its SQL ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_scan_finds_what_sql_reads_writes_and_makes() -> None:
    sql = """
    -- from nowhere
    create temporary table made on commit drop as
    with inner_one as (select 'from a string' from core.a), numbered (n, m) as (values (1, 2))
    select distinct on (x) extracted from inner_one join core.b using (x) cross join numbered
    left join lateral (select from raw.c where x is distinct from y.z) l
    cross join generate_series(1, 2) where exists (select from made_before)
    """
    assert used(sql) == Used(frozenset({"core.a", "core.b", "raw.c", "made_before"}), frozenset(), ("made",))
    sql = """
    with gone as (delete from core.d u using since t where true returning u.x)
    insert into core.e select x from gone on conflict (x) do update set x = 1
    """
    assert used(sql) == Used(frozenset({"since"}), frozenset({"core.d", "core.e"}), ())
    assert used("update core.f v set x = 1 from g where true").writes == {"core.f"}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_declares_what_its_sql_reads_writes_and_makes(step: Step) -> None:
    found = used(sql_of(step))
    merged = frozenset({step.merges.into} if step.merges else ())
    if isinstance(step, Computation):
        # Python may read and write more, and fills what it made.
        assert found.reads <= {*step.reads, *step.writes}
        assert found.writes <= {*step.writes, *step.made}
    else:
        assert found.reads == set(step.reads)
        assert found.writes - merged == set(step.writes) - merged
    assert sorted(found.makes) == sorted(step.made)
    assert len(set(step.reads)) == len(step.reads)


def test_every_sql_file_is_of_exactly_one_step() -> None:
    of = Counter(name for step in STEPS for name in step.files)
    assert of == Counter(path.stem for path in FOLDER.glob("*.sql"))
    assert len(BY_NAME) == len(STEPS)


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.sql")), ids=lambda path: path.stem)
def test_a_sql_file_says_what_it_is_and_makes_at_most_one_relation(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(r"-- [A-Z\"][^\n]+\n", text)
    assert len(used(text).makes) <= 1
    assert text.count("create temporary table") == text.count("on commit drop")
    # A statement's end is no part of it; healing alone has several in a file.
    assert (";" in _NOISE.sub("", text)) == (path.stem == "heal")


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.sql")), ids=lambda path: path.stem)
def test_whoever_lists_the_kinds_of_tokens_lists_all_four(path: Path) -> None:
    """SQL has no word for the seven measures: a list that lacks one would lose it in silence."""
    text = _NOISE.sub("", path.read_text(encoding="utf-8"))
    kinds = Counter(re.findall(r"\b(prompt|completion|reasoning|cached)_tokens\b", text))
    if kinds["reasoning"]:
        assert len(set(kinds.values())) == 1
        assert len(kinds) == 4
        assert all(text.count(measure) >= kinds["prompt"] for measure in ("requests", "credits_usd", "byok_usd"))


def test_the_measures_are_listed_in_so_many_places() -> None:
    """A place is a list of the measures in SQL, whatever is made of each. One more is to be avoided, not added."""
    package = FOLDER.parents[1]
    files = [path for path in package.rglob("*.sql") if "migrations" not in path.parts]
    texts = [_NOISE.sub("", path.read_text(encoding="utf-8")) for path in files]
    assert sum(len(re.findall(r"(?<!as )\breasoning_tokens\b", text)) for text in texts) == LISTS_OF_MEASURES


def test_no_python_of_the_publication_writes_sql_of_more_than_a_line() -> None:
    begins = re.compile(r"\s*(?:select|insert|update|delete|with|create|exists|drop|alter)\b", re.IGNORECASE)
    found = []
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_long = isinstance(node, ast.Constant) and node.end_lineno != node.lineno
            is_formatted = isinstance(node, ast.JoinedStr)
            first = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
            if (is_long or is_formatted) and begins.match(str(getattr(first, "value", ""))):
                found.append(f"{path.name}:{getattr(node, 'lineno', 0)}")
    assert not found


# ── the order ────────────────────────────────────────────────────────────────────────────────────────────────────────


def broken_reads(steps: list[Step], tables: set[str]) -> list[str]:
    """Relations that a step uses, and that are neither a table or view nor made by then."""
    made, broken = set(OPENED), []
    for step in steps:
        merge = step.merges
        merged = {merge.into, *filter(None, [merge.touches])} if merge else set()
        needed = {*step.reads, *step.writes, *merged} - step.made
        broken += [f"{step.name}: {relation}" for relation in sorted(needed - made - tables)]
        broken += [f"{step.name} makes {relation} again" for relation in sorted(step.made & (made | tables))]
        made |= step.made
    return broken


def stored_in(engine: sa.Engine) -> set[str]:
    with engine.connect() as connection:
        return set(
            connection.execute(
                sa.text(
                    "select relnamespace::regnamespace || '.' || relname from pg_class where relkind in ('r', 'v') "
                    "and relnamespace::regnamespace::text in ('raw', 'ref', 'core', 'ops')"
                )
            ).scalars()
        )


def test_every_relation_that_a_step_uses_is_stored_or_made_by_an_earlier_step(engine: sa.Engine) -> None:
    tables = stored_in(engine)
    for name, when in scenarios().items():
        steps = [step for step in STEPS if step.when in when]
        assert not broken_reads(steps, tables), name
        assert steps, name


def test_what_a_step_makes_is_used_by_a_later_one() -> None:
    for number, step in enumerate(STEPS):
        if not step.merges:
            later = {relation for it in STEPS[number + 1 :] for relation in it.reads}
            assert step.made <= later, step.name


def test_a_step_that_is_moved_before_what_it_reads_is_found(engine: sa.Engine) -> None:
    steps = [step for step in STEPS if step.when in scenarios()["is_extraction"]]
    moved = BY_NAME["restatement"]
    steps.remove(moved)
    assert broken_reads([moved, *steps], stored_in(engine)) == [
        "restatement: built_day",
        "restatement: staged_usage_daily",
    ]


def test_what_is_compared_with_the_stored_is_compared_before_the_merge() -> None:
    """These read both the stored and the staged rows; after the merge they are the same."""
    place = {step.name: number for number, step in enumerate(STEPS)}
    assert place["usage_daily"] < place["restatement"] < place["merge_usage_daily"]
    assert place["assignment"] < place["touched_assignment"] < place["moved_company"] < place["merge_assignment"]
    assert place["counted_day"] < place["usage_hourly"] < place["residual"] < place["counter_replacement"]
    assert max(place[check.name] for check in CONTRACT_CHECKS) < place["complete_account"]


def test_a_mapping_alone_reads_no_answer_and_moves_no_instant() -> None:
    alone = [step for step in STEPS if step.when in scenarios()["mapping alone"]]
    assert not [step.name for step in alone if any(it.startswith("raw.") for it in (*step.reads, *step.writes))]
    # It notes which mapping and price plans those are.
    assert [step.name for step in alone if "ref.account" in step.writes] == ["note_in_force"]
    assert "as_of" not in text_of("note_in_force")


# ── contract checks, healing ─────────────────────────────────────────────────────────────────────────────────────────


def test_an_invariant_is_documented_verbatim() -> None:
    page = (Path(__file__).parents[1] / "docs" / "dagster.md").read_text(encoding="utf-8").replace("`", "")
    for check in CONTRACT_CHECKS:
        invariant = check.invariant[0].lower() + check.invariant[1:].removesuffix(".")
        assert f"| {check.name} | {check.relation.replace('.', '/')} | contract: {invariant} |" in page


def test_healing_is_one_statement_after_another() -> None:
    """A statement is a paragraph of the file; none is taken for a part of the one before."""
    for statement in statements():
        paragraphs = [part for part in re.split(r"\n\s*\n", _NOISE.sub("", statement)) if part.strip()]
        assert len(paragraphs) == 1, statement
        assert used(statement).writes, statement
