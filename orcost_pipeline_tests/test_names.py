"""Text that others chose: names that are attacks, files that are huge. It is shown as text, in a size to read."""

import csv
import io
import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from typer.testing import CliRunner, Result

from orcost_pipeline import cli
from orcost_pipeline.cli.rendering import MOST_ROWS, cells, write_csv
from orcost_pipeline.companies.mapping import MappingError, read_mapping
from orcost_pipeline.defs.describe import describe, markdown_table
from orcost_pipeline.defs.file_checks import _lines
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.text import LONGEST_LINE, MOST_LINES, clean, few, inert, markdown, message, quoted, short
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.questions.asking import Rows
from orcost_pipeline.warehouse.requests import store
from orcost_pipeline_tests.conftest import Filled
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage

ATTACKS = (
    "![x](http://127.0.0.1:9/img.png)",
    "[click](http://evil.example/)",
    "<img src=http://127.0.0.1:9/h.png onerror=alert(1)><script>alert(1)</script>",
    "a | b \\| c \\",
    "\x1b[31mred\x1b[2J\x1b]0;title\x07",
    "\u202eoverride\u2066isolate\u200f",
    "one\ntwo\n| x | y |\n|---|---|\n# head",
    "[red]markup[/red] :smile:",
    '=HYPERLINK("http://evil.example","x")',
    "www.evil.example, https://evil.example/?q, me@evil.example, @@ www.@",
    "**bold** _it_ `code` ``two`` ~~s~~",
    "- item",
    "1. item",
    "\tcmd",
    "\r=cmd",
    "&lt;b&gt; &#124;",
    "x" * 5_000,
)
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069]")
# What Dagster's UI makes links of in text whose escapes are resolved.
ADDRESS = re.compile(r"(https?://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+(\.[-\w]+)+", re.IGNORECASE)
Orcost = Callable[..., Result]


def tokens(document: str) -> list[Token]:
    """All that a Markdown document is made of, inline parts too."""
    blocks = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(document)
    return [token for block in blocks for token in [block, *(block.children or ())]]


def shown(cell: Token) -> str:
    return "".join(part.content for part in cell.children or ())


def kinds(document: str) -> set[str]:
    harmless = {"table", "thead", "tbody", "tr", "th", "td", "bullet_list", "list_item", "paragraph"}
    names = {re.sub("_(open|close)$", "", token.type) for token in tokens(document)}
    return names - harmless - {"inline", "text", "text_special", "code_inline"}


# ── one function for each place ──────────────────────────────────────────────────────────────────────────────────────


def test_a_table_has_the_first_rows_that_dagsters_ui_draws_at_once() -> None:
    frame = pd.DataFrame({"key": [f"key number {i}" for i in range(100)], "company": ["B"] * 100}, dtype=object)
    table = markdown_table(frame)
    assert 900 < len(table) < 1000
    assert table.splitlines()[-1].startswith("| key number ")
    assert markdown_table(frame.head(3)).count("\n") == 4


@pytest.mark.parametrize("name", ATTACKS, ids=ascii)
def test_a_name_is_a_cell_of_markdown_that_shows_it(name: str) -> None:
    table = markdown_table(pd.DataFrame({"key": [name, "other"], "company": [name, "B"]}, dtype=object))
    assert not kinds(table)
    found = [token for token in tokens(table) if token.type == "inline"]
    told = clean(" ".join(short(name, 80).split()))
    assert [shown(cell) for cell in found] == ["key", "company", told, told, "other", "B"]
    texts = [part.content for cell in found for part in cell.children or () if part.type != "code_inline"]
    assert not [text for text in texts if ADDRESS.search(text)]
    assert not CONTROL.search(table.replace("\n", ""))


@pytest.mark.parametrize("name", ATTACKS, ids=ascii)
def test_a_line_of_a_list_is_one_item_whatever_it_says(name: str) -> None:
    document = _lines([name, "the next"]).value
    assert isinstance(document, str)
    assert not kinds(document)
    assert sum(token.type == "list_item_open" for token in tokens(document)) == 2


@given(st.text(st.sampled_from("aw.@:/h tp|\\`*_[]()<>!#~&;-+1=\n\u202e\x1b"), max_size=30))
def test_whatever_a_name_is_made_of_markdown_shows_it(name: str) -> None:
    told = clean(" ".join(name.split()))
    table = f"| a | b |\n|---|---|\n| x {markdown(name)} | y |"
    found = [token for token in tokens(table) if token.type == "inline"]
    assert [shown(cell) for cell in found] == ["a", "b", f"x {told}".strip(), "y"]
    assert not kinds(table)


@pytest.mark.parametrize("name", ATTACKS, ids=ascii)
def test_a_name_is_one_clean_line_of_a_terminal(name: str) -> None:
    assert len(clean(name)) == len(name)
    assert clean(name).isprintable()
    assert quoted(name).isprintable()
    assert len(quoted(name)) <= 82


@pytest.mark.parametrize("name", ATTACKS, ids=ascii)
def test_a_cell_of_a_table_is_clean_whatever_puts_it_there(name: str) -> None:
    (cell,) = cells(name)
    assert cell.plain.isprintable()
    assert not cell.spans
    assert len(cell.plain) <= 200


def test_blanks_of_other_widths_are_blanks() -> None:
    assert clean("Acme\xa0Ltd\u3000株式") == "Acme Ltd 株式"


def test_a_message_has_a_size_and_says_what_it_leaves_out() -> None:
    told = message("\n".join(["x" * 1_000_000, *(f"line {number}" for number in range(50_000))])).split("\n")
    assert len(told) == MOST_LINES + 1
    assert len(told[0]) == LONGEST_LINE
    assert told[-1] == f"… and {50_001 - MOST_LINES:,} more"
    assert message("two\nlines") == "two\nlines"
    assert few(["a", "b"]) == ["a", "b"]


# ── spreadsheets ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name", ["=1", "+1", "-1", "@x", "\t=1", "\rx", " =1", "\n=1", "\xa0=1", "＝1", "=HYPERLINK()"]
)
def test_text_that_a_spreadsheet_would_run_begins_with_an_apostrophe(name: str) -> None:
    assert inert(name) == f"'{name}"


@pytest.mark.parametrize("name", ["", "a=1", " a", "1-2", "'=1", "a@b.example", "–", "(x)"])
def test_other_text_is_left_as_it_is(name: str) -> None:
    assert inert(name) == name


def test_numbers_of_a_csv_stay_numbers_and_every_record_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ["company", "usd", "count", "day", "note"]
    row = {"company": "=1+1", "usd": Decimal("-1.23"), "count": -4, "day": NOON.date(), "note": "a\r=cmd"}
    write_csv(Rows(columns, [row]))
    told = capsys.readouterr().out
    assert told == 'company,usd,count,day,note\n\'=1+1,-1.23,-4,2026-11-23,"a\r=cmd"\n'
    assert list(csv.reader(io.StringIO(told, newline="")))[1] == ["'=1+1", "-1.23", "-4", "2026-11-23", "a\r=cmd"]


# ── an account of attacks ────────────────────────────────────────────────────────────────────────────────────────────


def synced_world(engine: sa.Engine) -> World:
    """Every name of the account, and of its companies, is an attack."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(500))
    creator = ledger.add_member("acme", "ev\u202eil@evil.example", "<b>Ada</b>", "\x1b[31mX", role="org:admin")
    for number, name in enumerate(ATTACKS):
        place = ledger.add_workspace("acme", f"ws {name}"[:200])
        key = ledger.add_key("acme", name, NOON - 40 * DAY, workspace_id=place, creator_user_id=creator)
        ledger.spend("acme", NOON - 20 * HOUR, key, GPT, usage(f"{30 - number}"))
    world = World(engine, ledger)
    given = [name for name in ATTACKS[:9] if name.strip() == name]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["Co " + name, "key_name", name] for name in given])
    world.map(*text.getvalue().removesuffix("\r\n").split("\r\n"))
    world.sync()
    return world


@pytest.fixture
def world(filled: Filled[World], engine: sa.Engine) -> World:
    return filled(synced_world, engine)


@pytest.fixture
def orcost(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Orcost:
    monkeypatch.setenv("ORCOST_DATABASE_URL", world.engine.url.render_as_string(hide_password=False))
    (tmp_path / "orcost.toml").write_text('[[accounts]]\nname = "acme"\napi_key_env = "ACME"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli.app, list(arguments), obj=lambda: NOON)


@pytest.mark.parametrize(
    "command",
    sampled(
        [
            *("report", "report --by key", "report --by model", "report --by creator", "report --by workspace"),
            *("keys", "keys --history", "status", "accounts", "reconcile", "reconcile --day 2026-11-22"),
            *("map todo", "map log", "map diff", "map suggest", "explain Unattributed --day 2026-11-22"),
        ],
        3,
    ),
)
def test_no_command_lets_a_name_reach_the_terminal(orcost: Orcost, command: str) -> None:
    told = orcost(*command.split())
    assert told.output
    assert not CONTROL.search(told.output)
    assert not re.search("^(two|# head|=cmd)", told.output, re.MULTILINE)
    assert max(map(len, told.output.splitlines())) < 1_200


@pytest.mark.parametrize("name", sampled(ATTACKS, 2), ids=ascii)
def test_a_key_and_its_company_are_explained_as_text(orcost: Orcost, name: str) -> None:
    for told in (orcost("map", "explain", name), orcost("explain", f"Co {name}", "--day", "2026-11-22")):
        text = f"{told.output}{told.exception if told.exit_code else ''}"
        assert not CONTROL.search(message(text))
        assert not re.search("^(two|# head|=cmd)", text, re.MULTILINE)


NAMING = ("report --by key", "map todo", "explain Unattributed --day 2026-11-22")


def rename_first_unattributed(world: World, change: str) -> str:
    """Changes the versions of a key that is nobody's; returns its hash."""
    with world.engine.begin() as connection:
        found = "select key_hash from ref.api_key where company = 'Unattributed' order by 1 limit 1"
        key_hash = connection.exec_driver_sql(found).scalar_one()
        connection.exec_driver_sql(
            f"{change} where key_id = (select key_id from core.api_key where key_hash = '{key_hash}')"
        )
    return key_hash


@pytest.mark.slow
@pytest.mark.parametrize("blank", ["", " "])
@pytest.mark.parametrize("command", [*NAMING, "keys", "keys --history"])
def test_a_key_whose_name_is_blank_says_so(world: World, orcost: Orcost, command: str, blank: str) -> None:
    rename_first_unattributed(world, f"update core.api_key_version set name = '{blank}'")
    told = orcost(*command.split()).output
    assert "(no name)" in told
    assert "(never listed)" not in told


@pytest.mark.parametrize("command", sampled(NAMING, 1))
def test_a_key_that_was_never_listed_is_none_without_a_name(world: World, orcost: Orcost, command: str) -> None:
    rename_first_unattributed(world, "delete from core.api_key_version")
    told = orcost(*command.split()).output
    assert "(never listed)" in told
    assert "(no name)" not in told
    assert "(no key)" not in told


@pytest.mark.slow
def test_a_key_whose_name_is_blank_is_explained(world: World, orcost: Orcost) -> None:
    key_hash = rename_first_unattributed(world, "update core.api_key_version set name = ''")
    assert f"(no name) ({key_hash[:8]}…" in orcost("map", "explain", key_hash).output


def test_programs_get_blank_names_as_they_are(world: World, orcost: Orcost) -> None:
    key_hash = rename_first_unattributed(world, "update core.api_key_version set name = ''")
    rows = json.loads(orcost("report", "--by", "key", "--format", "json").stdout)
    assert {row["key_name"] for row in rows if row["key_hash"] == key_hash} == {""}


@pytest.mark.slow
def test_programs_get_the_true_names_from_json_and_inert_ones_from_csv(orcost: Orcost) -> None:
    told = {row["name"] for row in json.loads(orcost("keys", "--format", "json").stdout)}
    # A name of thousands of characters is stored shorter.
    assert {name[:100] for name in told} == {name[:100] for name in ATTACKS}
    rows = csv.DictReader(io.StringIO(orcost("keys", "--format", "csv").stdout, newline=""))
    assert {row["name"] for row in rows} == {inert(name) for name in told}


@pytest.mark.slow
def test_dagster_shows_names_as_text(world: World) -> None:
    with world.engine.connect() as connection:
        for relation in ("ref.api_key", "marts.key_spend_rolling", "marts.company_spend_daily", "ref.assignment"):
            preview = describe(connection, relation, "acme", 0)["preview"]
            assert isinstance(preview, dg.MarkdownMetadataValue)
            document = preview.md_str or ""
            assert not kinds(document)
            assert len({len(re.findall("td_open", row)) for row in _rows(document)}) == 1


def _rows(document: str) -> list[str]:
    return " ".join(token.type for token in tokens(document)).split("tr_open")[2:]


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────

HEADER = "company,match,pattern\n"
HUGE = {
    "mistakes": HEADER + "".join(f"C,key_nam,k{number}\n" for number in range(50_000)),
    "a match": HEADER + f"C,{'x' * 1_000_000},x\n",
    "a company": HEADER + f"{'x' * 1_000_000},key_name,\n",
    "columns": ",".join(f"c{number}" for number in range(20_000)) + "\n",
}


@pytest.mark.parametrize("what", [pytest.param("mistakes", marks=pytest.mark.slow), *list(HUGE)[1:]])
def test_a_huge_mapping_is_refused_in_few_words(what: str) -> None:
    with pytest.raises(MappingError) as caught:
        read_mapping(HUGE[what].encode(), "m.csv")
    assert len(str(caught.value)) < 5_000
    if what == "mistakes":
        assert len(caught.value.mistakes) == 50_000
        assert str(caught.value).endswith("\n  … and 49,980 more")


def test_the_doubts_of_a_huge_mapping_are_few_in_text_and_whole_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCOST_DATABASE_URL", raising=False)
    long = "x" * 1_000_000
    lines = [
        f"C,key_name,{long}\n",
        "D,key_name,y\n",
        f"C,key_name,{long}\n",
        *["D,key_name,y\n", "C,key_name,z\n"] * 500,
    ]
    Path("m.csv").write_text(HEADER + "".join(lines), encoding="utf-8")
    told = CliRunner().invoke(cli.app, ["map", "check", "m.csv"])
    assert told.exit_code == 0
    assert len(told.output) < 5_000
    assert "  … and 980 more\n" in told.output
    whole = json.loads(CliRunner().invoke(cli.app, ["map", "check", "m.csv", "--format", "json"]).stdout)
    assert len(whole["warnings"]) == 1_000


@pytest.mark.slow
def test_tables_of_what_waits_and_what_changed_are_cut_with_a_count(world: World, orcost: Orcost) -> None:
    for number in range(MOST_ROWS):
        world.ledger.add_key("acme", f"idle {number}", NOON - DAY)
    world.later(minutes=1).sync()
    waiting = len(json.loads(orcost("map", "todo", "--format", "json").stdout))
    assert waiting > MOST_ROWS
    assert (
        f"… and {waiting - MOST_ROWS:,} more; all of them: orcost map todo --format csv\n"
        in orcost("map", "todo").output
    )
    world.map(*(f"C{number},key_name,k{number}" for number in range(2_000)))
    told = orcost("map", "diff").output
    assert re.search(r"… and 1,9\d\d more; all of them: orcost map diff 1 2 --format json\n", told)
    assert len(told) < 10_000
    assert len(json.loads(orcost("map", "diff", "--format", "json").stdout)["changes"]) > 2_000


def test_what_the_warehouse_keeps_of_an_error_has_a_size(world: World) -> None:
    step = world.step()
    runs.note_problem(world.engine, step.run_id, "x\x1b[31m" * 1_000_000)
    runs.fail(world.engine, step.run_id, "acme", RuntimeError(), "line\n" * 50_000, NOON)
    with world.engine.begin() as connection:
        request_id = runs.request_sync(connection, "acme", None)
        store.note(connection, [request_id], store.Progress("failed", "x" * 1_000_000, ()), NOON)
    assert len(world.value("select error from ops.sync_request")) <= LONGEST_LINE
    (row,) = world.rows(
        "select error, octet_length(error) as size from ops.sync_run where run_id = :id", id=step.run_id
    )
    assert row.size < MOST_LINES * LONGEST_LINE
    assert "… and 49," in row.error
    assert "Costs stay as of" in row.error
