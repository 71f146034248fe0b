"""A rule is added to the file as its author wrote it: nothing else changes, and nothing wrong is written."""

import codecs
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from orcost_pipeline.cli import app
from orcost_pipeline.cli.map.add import add
from orcost_pipeline.companies.mapping import COLUMNS, REQUIRED_COLUMNS, MappingError, Rule, read_mapping
from orcost_pipeline.companies.mapping_diff import identity
from orcost_pipeline.companies.mapping_edit import line_above_the_rest, with_rows
from orcost_pipeline.companies.rows import csv_line
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.settings import load_settings
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline_tests.conftest import Filled
from orcost_pipeline_tests.sampling import examples, sampled
from orcost_pipeline_tests.world import DAY, NOON, World, usage

HEADER = b"company,match,pattern\n"
NEW = {"company": "N", "match": "key_name", "pattern": "new *"}


def meaning(rules: tuple[Rule, ...]) -> list[Any]:
    return [(identity(rule), [(it.company, it.percent, it.note) for it in rule.shares]) for rule in rules]


# The file

TEXTS = st.text('aß",;# ?*', min_size=1, max_size=5).map(str.strip).filter(bool)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A valid mapping as people and programs write it."""
    extra = draw(st.lists(st.sampled_from(COLUMNS[3:]), unique=True))
    names = draw(st.permutations([*REQUIRED_COLUMNS, *extra]))
    delimiter, newline = draw(st.sampled_from(",;")), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    lines = [
        *draw(st.lists(st.sampled_from(["# a remark", "", delimiter * 3]), max_size=2)),
        csv_line(names, delimiter),
    ]
    for number in range(draw(st.integers(0, 4))):
        values = {
            "company": draw(TEXTS),
            "match": "key_name",
            "pattern": f"{draw(TEXTS)}{number}",
            "note": draw(st.sampled_from(["", "two\nlines", " x "])).replace("\n", newline),
        }
        lines.append(
            csv_line([values.get(name, "") for name in names], delimiter) + draw(st.sampled_from(["", delimiter]))
        )
        lines += draw(st.lists(st.sampled_from(["", "#", "# and, more"]), max_size=1))
    for _ in range(draw(st.integers(0, 1))):
        rest = {"company": "Rest", "match": "key_name", "pattern": "*"}
        lines.append(csv_line([rest.get(name, "") for name in names], delimiter))
    text = newline.join(lines) + draw(st.sampled_from(["", newline, newline * 2]))
    mark, encoding = draw(
        st.sampled_from(
            [
                (b"", "utf-8"),
                (codecs.BOM_UTF8, "utf-8"),
                (codecs.BOM_UTF16_LE, "utf-16-le"),
                (codecs.BOM_UTF16_BE, "utf-16-be"),
            ]
        )
    )
    return mark + text.encode(encoding)


ROWS = st.one_of(
    st.builds(lambda company, pattern: [{**NEW, "company": company, "pattern": f"{pattern}!"}], TEXTS, TEXTS),
    st.just(
        [{**NEW, "company": "A", "share": "66.7", "note": "x"}, {**NEW, "company": "B", "share": "33.3", "note": "x"}]
    ),
    st.just([{**NEW, "valid_from": "2026-11-01", "account": "acme"}]),
)


@settings(max_examples=examples(400))
@given(files(), ROWS)
def test_a_file_with_a_rule_more_means_the_same_and_that_rule(content: bytes, rows: list[dict[str, str]]) -> None:
    before = read_mapping(content, "it").rules
    after, line, _ = with_rows(content, rows, line_above_the_rest(before))
    rules = read_mapping(after, "it").rules
    (added,) = (rule for rule in rules if rule.line == line)
    assert meaning(tuple(rule for rule in rules if rule is not added)) == meaning(before)
    assert (added.match, added.pattern) == (rows[0]["match"], rows[0]["pattern"])
    assert [it.company for it in added.shares] == [row["company"] for row in rows]
    assert added.position == len(before) - any(rule.pattern == "*" for rule in before)


@given(files())
def test_all_that_was_there_stays_byte_by_byte(content: bytes) -> None:
    after, _, _ = with_rows(content, [NEW], None)
    assert after.startswith(content)
    assert len(after) - len(content) < 100


@pytest.mark.parametrize(
    ("content", "rows", "expected"),
    [
        (b"", [NEW], b"company,match,pattern\nN,key_name,new *\n"),
        (b"", [{"company": "N", "note": "n", "share": "1"}], b"company,match,pattern,share,note\nN,,,1,n\n"),
        (b"company;match;pattern\r\n", [NEW], b"company;match;pattern\r\nN;key_name;new *\r\n"),
        (b"company,match,pattern", [NEW], b"company,match,pattern\nN,key_name,new *\n"),
        (b"pattern,company,match\nx,A,label", [NEW], b"pattern,company,match\nx,A,label\nnew *,N,key_name\n"),
        (
            b"company,match,pattern,,\nA,label,x,,\n",
            [{**NEW, "share": "100"}],
            b"company,match,pattern,,,share\nA,label,x,,\nN,key_name,new *,,,100\n",
        ),
        (HEADER, [{**NEW, "company": '#1, "N"'}], HEADER + b'"#1, ""N""",key_name,new *\n'),
    ],
)
def test_a_row_is_written_as_the_file_is(content: bytes, rows: list[dict[str, str]], expected: bytes) -> None:
    after, line, _ = with_rows(content, rows, None)
    assert after == expected
    assert after.splitlines()[line - 1].startswith((b"N", b"new", b'"#1'))


def test_a_rule_comes_above_those_that_match_whatever_comes() -> None:
    content = HEADER + b"A,label,*\nB,label,x\n# the rest\nC,workspace,*\nD,key_name,*\n"
    rules = read_mapping(content, "it").rules
    after, line, _ = with_rows(content, [NEW], line_above_the_rest(rules))
    assert line == 5
    assert after == HEADER + b"A,label,*\nB,label,x\n# the rest\nN,key_name,new *\nC,workspace,*\nD,key_name,*\n"
    assert line_above_the_rest(rules[:2]) is None


# The command


def synced_world(engine: sa.Engine) -> World:
    """The warehouse knows `app`, which is A's, and `web`, which is nobody's."""
    ledger = Ledger()
    ledger.add_account("acme")
    for name in ("app", "web"):
        ledger.spend("acme", NOON - DAY, ledger.add_key("acme", name, NOON - 40 * DAY), GPT, usage("2.5"))
    world = World(engine, ledger)
    world.map("A,key_name,app")
    world.sync()
    return world


@pytest.fixture
def project(filled: Filled[World], engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project with that warehouse."""
    world = filled(synced_world, engine)
    (tmp_path / "orcost.toml").write_text('[[accounts]]\nname = "acme"\napi_key_env = "OPENROUTER_API_KEY_ACME"\n')
    (tmp_path / "company_mapping.csv").write_bytes(HEADER + b"A,key_name,app\n")
    monkeypatch.setenv("ORCOST_DATABASE_URL", world.engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def orcost(*arguments: str, **told: Any) -> Any:
    return CliRunner().invoke(app, ["map", *arguments], **told)


def content(project: Path) -> bytes:
    return (project / "company_mapping.csv").read_bytes()


def refused(answer: Any) -> str:
    assert answer.exit_code == 1
    return str(answer.exception)


def test_a_rule_is_shown_with_what_it_moves_and_written(project: Path) -> None:
    answer = orcost("add", "B", "key_name", "we*", "--yes")
    assert answer.exit_code == 0
    lines = answer.output.splitlines()
    assert lines[0] == "  line 3: B,key_name,we*"
    assert lines[1].startswith("company_mapping.csv is valid: 2 rules, 2 companies, 2 of 2 keys, 100.0 %")
    assert any(line.split() == ["Unattributed", "→", "B", "2.50", "1"] for line in lines)
    assert lines[-1].startswith("Added to company_mapping.csv. It counts from the next sync on")
    assert content(project) == HEADER + b"A,key_name,app\nB,key_name,we*\n"


def test_a_split_gives_the_first_company_the_rest(project: Path) -> None:
    arguments = ["--share", "C=0.1", "--share", "D = E=33.333", "--from", "2026-11-01", "--note", "agreed, in May"]
    assert orcost("add", "B", "key_name", "web", *arguments, "--yes").exit_code == 0
    assert content(project).decode().splitlines() == [
        "company,match,pattern,share,valid_from,note",
        "A,key_name,app",
        'B,key_name,web,66.567,2026-11-01,"agreed, in May"',
        'C,key_name,web,0.1,2026-11-01,"agreed, in May"',
        'D = E,key_name,web,33.333,2026-11-01,"agreed, in May"',
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    sampled(
        [
            (["B", "key_nam", "web"], "Did you mean key_name?"),
            (["", "key_name", "web"], "line 3: company is blank."),
            (["Unattributed", "key_name", "web"], "is reserved for what no rule matches."),
            (["B", "key_hash", "7C"], "is not 64 lower-case hex digits"),
            (["B", "key_name", "web", "--from", "1.11.2026"], 'valid_from "1.11.2026" is not a date'),
            (["B", "key_name", "app"], "Line 2 of company_mapping.csv is this rule already, for A: change that line."),
            (["B", "key_name", "web", "--share", "C"], '--share "C" is not COMPANY=PERCENT'),
            (["B", "key_name", "web", "--share", "C=NaN"], '--share "C=NaN" is not COMPANY=PERCENT'),
            (["B", "key_name", "web", "--share", "C=-1"], '--share "C=-1" is not COMPANY=PERCENT'),
            (["B", "key_name", "web", "--share", "=5"], '--share "=5" is not COMPANY=PERCENT'),
            (["B", "key_name", "web", "--share", "C=60", "--share", "D=40"], 'The shares leave nothing to "B"'),
            (["B", "key_name", "web", "--share", "B=40"], 'company "B" appears twice in one rule'),
            (["B\udcff", "key_name", "web"], "The rule has bytes that are no text"),
            (["B", "key_name", "we\rb"], "is written so that this rule cannot be added. Add it by hand."),
        ],
        3,
    ),
)
def test_a_rule_that_would_be_wrong_is_not_written(project: Path, arguments: list[str], said: str) -> None:
    before = content(project)
    told = refused(orcost("add", *arguments, "--yes"))
    assert said in told
    assert "Traceback" not in told
    assert content(project) == before


def test_a_file_that_is_wrong_already_is_left_alone(project: Path) -> None:
    (project / "company_mapping.csv").write_bytes(HEADER + b"A,key_nam,app\n")
    told = refused(orcost("add", "B", "key_name", "web", "--yes"))
    assert told.startswith("company_mapping.csv is wrong already; nothing was written.\n  line 2: match")


def test_a_header_over_several_lines_takes_no_column(project: Path) -> None:
    (project / "company_mapping.csv").write_bytes(b'company,match,"\npattern"\nA,key_name,app\n')
    before = content(project)
    with pytest.raises(MappingError):
        read_mapping(with_rows(before, [{**NEW, "note": "x"}], None).content, "it")
    assert "nothing was written" in refused(orcost("add", "B", "key_name", "web", "--note", "x", "--yes"))
    assert content(project) == before


def add_web(ask: Callable[[str], bool]) -> None:
    """Adds `B,key_name,web` where somebody can be asked."""
    rule = {"match": "key_name", "pattern": "web"}
    add(load_settings(), "B", (), rule, is_first=None, is_agreed=False, ask=ask)


def test_without_agreement_nothing_is_written(project: Path) -> None:
    before = content(project)
    assert refused(orcost("add", "B", "key_name", "web")) == "Nothing was written. To write without being asked: --yes"
    questions: list[str] = []
    with pytest.raises(PermanentError, match=r"^Nothing was written\.$"):
        add_web(lambda question: bool(questions.append(question)))
    assert questions == ["Add it to company_mapping.csv?"]
    assert content(project) == before
    add_web(lambda _: True)
    assert content(project) == before + b"B,key_name,web\n"


def test_a_file_that_changed_meanwhile_is_left_alone(project: Path) -> None:
    theirs = HEADER + b"A,key_name,app\nC,label,theirs\n"
    with pytest.raises(PermanentError, match=r"was changed meanwhile\. Nothing was written\."):
        add_web(lambda _: bool((project / "company_mapping.csv").write_bytes(theirs)))
    assert content(project) == theirs
    assert sorted(path.name for path in project.iterdir()) == ["company_mapping.csv", "orcost.toml"]


def test_a_link_stays_one_and_rights_stay(project: Path) -> None:
    kept = project / "kept" / "rules.csv"
    kept.parent.mkdir()
    (project / "company_mapping.csv").rename(kept)
    kept.chmod(0o640)
    (project / "company_mapping.csv").symlink_to(kept)
    assert orcost("add", "B", "key_name", "web", "--yes").exit_code == 0
    assert (project / "company_mapping.csv").is_symlink()
    assert kept.read_bytes().endswith(b"B,key_name,web\n")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_told(project: Path) -> None:
    project.chmod(0o555)
    assert "cannot be written (Permission denied). Nothing was written." in refused(
        orcost("add", "B", "key_name", "web", "--yes")
    )
    project.chmod(0o755)


def test_a_first_rule_makes_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCOST_DATABASE_URL")
    (project / "company_mapping.csv").unlink()
    answer = orcost("add", "B", "key_name", "web", "--note", "x", "--yes")
    assert answer.exit_code == 0
    assert "No preview of what it would move: No account was synced yet." in answer.output
    assert content(project) == b"company,match,pattern,note\nB,key_name,web,x\n"


def test_a_mapping_that_is_gone_is_not_begun_anew(project: Path) -> None:
    (project / "company_mapping.csv").unlink()
    assert "is gone, and its rules are in force. Put it back." in refused(
        orcost("add", "B", "key_name", "web", "--yes")
    )
    assert not (project / "company_mapping.csv").exists()


def test_a_table_takes_no_rule(project: Path) -> None:
    toml = project / "orcost.toml"
    toml.write_text('mapping = "table:crm.key_owner"\n' + toml.read_text())
    told = refused(orcost("add", "B", "key_name", "web", "--yes"))
    assert told == "The rules are in table crm.key_owner: add a row there, then: orcost map check"


# Suggestions


def test_what_is_suggested_may_be_pasted(project: Path) -> None:
    (project / "company_mapping.csv").write_bytes(b"match;note;pattern;company\nkey_name;;app;A\nlabel;;none;Web\n")
    answer = orcost("suggest")
    assert answer.exit_code == 0
    assert answer.output.splitlines() == [
        "# 2.50 USD: web; named like the company",
        "key_name;;web;Web",
        "# Paste the right ones into company_mapping.csv, or: orcost map add; then: orcost map check",
    ]
    with (project / "company_mapping.csv").open("a") as file:
        file.write(answer.output)
    assert orcost("check").output.startswith("company_mapping.csv is valid: 3 rules, 2 companies, 2 of 2 keys, 100.0 %")
    assert orcost("suggest").output == "# No key waits for a rule.\n"


def test_without_a_file_what_is_suggested_makes_one(project: Path, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("delete from ref.mapping_rule; delete from ref.mapping_version")
        connection.exec_driver_sql("update core.api_key_version set name = 'Globex ' || name")
    (project / "company_mapping.csv").unlink()
    answer = orcost("suggest")
    header, remark, rule, *_ = answer.output.splitlines()
    assert (header, rule) == ("company,match,pattern,note", "Globex,key_name,Globex *,")
    assert remark.startswith("# 5.00 USD: Globex ")
    assert remark.endswith("; a new company, by its name")
    (project / "company_mapping.csv").write_text(answer.output)
    assert "2 of 2 keys, 100.0 %" in orcost("check").output


def test_a_renamed_key_is_suggested_with_its_name_as_a_note(project: Path, engine: sa.Engine) -> None:
    (project / "company_mapping.csv").write_bytes(b"company,match,pattern,note\nA,key_name,app\nB,label,none\n")
    with engine.begin() as connection:
        connection.exec_driver_sql("update core.api_key_version set name = 'B *' where name = 'web'")
        key_hash = connection.exec_driver_sql(
            "select key_hash from core.api_key join core.api_key_version using (key_id) where name = 'B *'"
        ).scalar_one()
    assert f"B,key_hash,{key_hash},B *" in orcost("suggest").output.splitlines()


def test_keys_without_a_guess_are_counted(project: Path, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("update core.api_key_version set name = 'test 7' where name = 'web'")
    assert orcost("suggest").output == "# No guess for 1 key (2.50 USD): orcost map todo\n"


def test_a_list_of_companies_says_which_there_are(project: Path, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("update core.api_key_version set name = 'Globex web' where name = 'web'")
    assert "Globex,key_name,Globex web" in orcost("suggest").output
    (project / "companies.csv").write_text("company,display_name\nA,\n")
    assert orcost("suggest").output == "# No guess for 1 key (2.50 USD): orcost map todo\n"
    (project / "companies.csv").write_text("company,display_name\nGLX,Globex\n")
    assert "GLX,key_name,Globex web" in orcost("suggest").output


def test_programs_are_told_exactly(project: Path) -> None:
    (project / "company_mapping.csv").write_bytes(HEADER + b"A,key_name,app\nWeb,label,none\n")
    answer = orcost("suggest", "--format", "json")
    assert '"company": "Web"' in answer.output
    assert '"credits_usd": "2.5"' in answer.output
    assert '"key_name": "web"' in answer.output


def test_suggestions_need_a_right_mapping(project: Path) -> None:
    (project / "company_mapping.csv").write_bytes(HEADER + b"A,key_nam,app\n")
    assert "line 2: match" in refused(orcost("suggest"))


def test_a_table_is_told_rows_with_lines_of_their_own(project: Path, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create schema crm; create table crm.key_owner as select 10 as line, 'Web' as company, 'label' as match, "
            "'x' as pattern union all select 20, 'A', 'key_name', 'app'"
        )
    toml = project / "orcost.toml"
    toml.write_text('mapping = "table:crm.key_owner"\n' + toml.read_text())
    assert orcost("suggest").output.splitlines()[:3] == [
        "line,company,match,pattern",
        "# 2.50 USD: web; named like the company",
        "30,Web,key_name,web",
    ]
