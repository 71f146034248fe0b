"""Where an added rule stands, what it is said to move, and whether its company is nearly another: real command runs."""

import os
import pty
import subprocess
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from orcost_pipeline.companies.assignment import contest, glob_matches, made_up_keys
from orcost_pipeline.companies.mapping import read_mapping
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline_tests.processes import ORCOST, Outcome, clean_environment, orcost
from orcost_pipeline_tests.sampling import examples, sampled
from orcost_pipeline_tests.world import DAY, NOON, World, usage

HEADER = "company,match,pattern,valid_from,valid_to,share,note\n"
DAY_BEFORE, LAST_WEEK = f"{NOON - DAY:%Y-%m-%d}", f"{NOON - 7 * DAY:%Y-%m-%d}"


class Desk:
    """A project folder whose warehouse knows the keys `app`, `web` and `web two`, each with two days of 2.50 USD."""

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        ledger = Ledger()
        ledger.add_account("acme")
        self.keys = {name: ledger.add_key("acme", name, NOON - 40 * DAY) for name in ("app", "web", "web two")}
        for key in self.keys.values():
            for days in (1, 10):
                ledger.spend("acme", NOON - days * DAY, key, GPT, usage("2.5"))
        self.folder, self.world = folder, World(engine, ledger)
        (folder / "orcost.toml").write_text('[[accounts]]\nname = "acme"\napi_key_env = "KEY"\n')
        self.environment = {
            **clean_environment(),
            "ORCOST_DATABASE_URL": engine.url.render_as_string(hide_password=False),
            "COLUMNS": "200",
        }

    @property
    def mapping(self) -> str:
        return (self.folder / "company_mapping.csv").read_bytes().decode()

    def write(self, *rules: str, header: str = HEADER) -> None:
        (self.folder / "company_mapping.csv").write_bytes((header + "".join(f"{rule}\n" for rule in rules)).encode())

    def in_force(self, *rules: str) -> None:
        """These rules are in the file, and were loaded by the last sync."""
        self.write(*rules)
        self.world.map(*rules)
        self.world.sync()

    def add(self, *arguments: str) -> Outcome:
        return orcost(self.folder, self.environment, "map", "add", *arguments)


@pytest.fixture
def desk(engine: sa.Engine, tmp_path: Path) -> Desk:
    return Desk(engine, tmp_path)


def moved(outcome: Outcome) -> dict[str, str]:
    """USD by "giver → taker", of the one month in which all spend lies."""
    rows = [line.split() for line in outcome.stdout.splitlines() if line.startswith("  ") and "→" in line]
    return {" ".join(row[:3]): row[3] for row in rows}


def written(outcome: Outcome) -> list[str]:
    """The lines that are shown as those that are written, with their numbers."""
    return [line.strip() for line in outcome.stdout.splitlines() if line.startswith("  line ")]


# Where it stands


TAKEN = [
    pytest.param(["Rest,key_name,*,,,,", "Z,label,z,,,,"], ["B", "key_name", "web"], 2, id="a catch-all"),
    pytest.param(["Rest,label,*,,,,", "Z,label,z,,,,"], ["B", "key_name", "nobody's"], 2, id="a catch-all of labels"),
    pytest.param(["A,key_name,w*,,,,"], ["B", "key_name", "web*"], 2, id="a wider glob"),
    pytest.param(["A,key_name,wo*d,,,,"], ["B", "key_name", "wo*ld"], 2, id="a wider glob of no known key"),
    pytest.param(["Z,label,z,,,,", "A,key_name,web,,,,"], ["B", "key_name", "w?b"], 3, id="all that is known"),
    pytest.param([f"A,key_name,web,{LAST_WEEK},,,"], ["B", "key_name", "web", "--from", DAY_BEFORE], 2, id="later"),
    pytest.param(
        [f"A,key_name,web,,{LAST_WEEK},,", "Z,label,z,,,,", f"C,key_name,w*,{LAST_WEEK},,,"],
        ["B", "key_name", "web"],
        2,
        id="two that follow each other",
    ),
]


@pytest.mark.parametrize(("rules", "added", "line"), sampled(TAKEN, 2))
def test_a_rule_whose_keys_are_all_taken_is_not_written_unasked(
    desk: Desk, rules: list[str], added: list[str], line: int
) -> None:
    desk.in_force(*rules)
    before = desk.mapping
    outcome = desk.add(*added, "--yes")
    assert outcome.returncode == 1
    told = " ".join(outcome.stderr.split())
    assert f"line {line} (" in told
    assert "Nothing was written." in told
    assert "--first" in told
    assert "Traceback" not in told
    assert desk.mapping == before


@pytest.mark.parametrize(("rules", "added", "line"), TAKEN)
def test_first_puts_it_above_the_first_line_that_takes_its_keys(
    desk: Desk, rules: list[str], added: list[str], line: int
) -> None:
    desk.in_force(*rules)
    before = desk.mapping.splitlines()
    outcome = desk.add(*added, "--first", "--yes")
    assert outcome.returncode == 0, outcome.stderr
    after = desk.mapping.splitlines()
    assert after[: line - 1] + after[line:] == before
    assert written(outcome) == [f"line {line}: {after[line - 1]}"]


def test_a_key_that_a_name_takes_is_freed_by_its_hash(desk: Desk) -> None:
    desk.in_force("A,key_name,web*,,,,", "Z,label,z,,,,")
    key_hash = desk.keys["web"]
    assert "line 2 (key_name:web*)" in desk.add("B", "key_hash", key_hash, "--yes").stderr
    outcome = desk.add("B", "key_hash", key_hash, "--first", "--yes")
    assert moved(outcome) == {"A → B": "5.00"}
    assert desk.mapping.splitlines()[1] == f"B,key_hash,{key_hash},,,,"


def test_first_and_last_exclude_each_other(desk: Desk) -> None:
    desk.in_force("A,key_name,web,,,,")
    before = desk.mapping
    outcome = desk.add("B", "key_name", "web", "--first", "--last", "--yes")
    assert (outcome.returncode, desk.mapping) == (2, before)
    assert "exclude each other" in outcome.stderr


def test_last_leaves_it_below_for_keys_to_come(desk: Desk) -> None:
    desk.in_force("A,key_name,web,,,,", "A,key_name,web two,,,,")
    assert "--last" in desk.add("B", "key_name", "web*", "--yes").stderr
    outcome = desk.add("B", "key_name", "web*", "--last", "--yes")
    assert outcome.returncode == 0
    assert "no spend moves" in outcome.stdout
    assert desk.mapping.splitlines()[-1] == "B,key_name,web*,,,,"


@pytest.mark.parametrize(
    ("above", "added", "moves"),
    sampled(
        [
            (f"A,key_name,*,{LAST_WEEK},,,", ["B", "key_name", "web"], {"Unattributed → B": "2.50"}),
            (f"A,key_name,*,,{LAST_WEEK},,", ["B", "key_name", "web"], {"Unattributed → B": "2.50"}),
            (
                f"A,key_name,*,,{LAST_WEEK},,",
                ["B", "key_name", "web", "--from", DAY_BEFORE],
                {"Unattributed → B": "2.50"},
            ),
            ("A,key_name,web,,,,", ["B", "key_name", "web*"], {"Unattributed → B": "5.00"}),
        ],
        1,
    ),
)
def test_a_rule_above_that_takes_a_part_stays_above(
    desk: Desk, above: str, added: list[str], moves: dict[str, str]
) -> None:
    desk.in_force(above, "Z,label,z,,,,")
    before = desk.mapping
    outcome = desk.add(*added, "--yes")
    assert outcome.returncode == 0, outcome.stderr
    assert desk.mapping.startswith(before)
    assert moved(outcome) == moves


def test_without_a_warehouse_the_rules_alone_are_judged(desk: Desk) -> None:
    del desk.environment["ORCOST_DATABASE_URL"]
    desk.write("Rest,key_name,*,,,,", "Z,label,z,,,,")
    assert "line 2 (key_name:*)" in desk.add("B", "creator", "*@b.example", "--yes").stderr
    assert desk.add("B", "creator", "*@b.example", "--first", "--yes").returncode == 0
    assert desk.mapping.splitlines()[1] == "B,creator,*@b.example,,,,"


PATTERNS = st.text("ab*?", min_size=1, max_size=4)
NAMES = ["".join(letters) for length in range(7) for letters in product("abc", repeat=length)]


@settings(max_examples=examples(300))
@given(PATTERNS, PATTERNS)
def test_made_up_keys_stand_for_all_that_a_pattern_matches(above: str, added: str) -> None:
    content = f"company,match,pattern,account\nA,key_name,{above},\nB,key_name,{added},acme\n"
    rules = read_mapping(content.encode(), "it").rules
    winning = contest("acme", rules, rules[1], made_up_keys(rules[1], rules)).winning
    is_lost = all(glob_matches(above, name) for name in NAMES if glob_matches(added, name))
    assert (winning == {0}) is is_lost


def test_a_rule_that_is_there_already_is_named(desk: Desk) -> None:
    desk.in_force(f"A,key_name,web,{LAST_WEEK},,,", "Z,label,z,,,,")
    before = desk.mapping
    outcome = desk.add("B", "key_name", "web", "--from", LAST_WEEK, "--first", "--yes")
    assert outcome.returncode == 1
    assert "Line 2 of company_mapping.csv is this rule already, for A: change that line." in outcome.stderr
    assert desk.mapping == before


def at_a_terminal(desk: Desk, *arguments: str, answers: str) -> tuple[int, str]:
    """Runs `orcost map add` in front of a person who types these answers; exit code and all that was shown."""
    person, terminal = pty.openpty()
    child = subprocess.Popen(
        [ORCOST, "map", "add", *arguments],
        cwd=desk.folder,
        env=desk.environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    os.write(person, answers.encode())
    shown = b""
    with suppress(OSError):  # the end of a terminal
        while part := os.read(person, 4096):
            shown += part
    os.close(person)
    return child.wait(60), shown.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answers", "code", "lines"),
    [
        ("y\ny\n", 0, ["B,key_name,web,,,,", "Rest,key_name,*,,,,", "Z,label,z,,,,"]),
        ("n\ny\n", 0, ["Rest,key_name,*,,,,", "Z,label,z,,,,", "B,key_name,web,,,,"]),
        ("n\nn\n", 1, ["Rest,key_name,*,,,,", "Z,label,z,,,,"]),
    ],
)
def test_at_a_terminal_the_place_above_is_offered(desk: Desk, answers: str, code: int, lines: list[str]) -> None:
    desk.in_force("Rest,key_name,*,,,,", "Z,label,z,,,,")
    ended, shown = at_a_terminal(desk, "B", "key_name", "web", answers=answers)
    assert ended == code, shown
    assert "Put it above line 2?" in shown
    assert desk.mapping.splitlines()[1:] == lines


# What is shown before it is written


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (HEADER, "A,key_name,app,,,,"),
        ("note;pattern;company;match\r\n", ";app;A;key_name"),
        ("company,match,pattern\n", "A,key_name,app"),
    ],
)
@pytest.mark.parametrize(
    "arguments", [["B"], ["B", "--share", "C=40", "--from", LAST_WEEK], ["B, Inc", "--note", "two\nlines"]]
)
def test_what_is_shown_is_what_is_written(desk: Desk, header: str, row: str, arguments: list[str]) -> None:
    desk.write(row, header=header)
    before = desk.mapping.splitlines()
    company, *options = arguments
    outcome = desk.add(company, "key_name", "web", *options, "--yes")
    assert outcome.returncode == 0, outcome.stderr
    after = desk.mapping.splitlines()
    changed = [number for number, line in enumerate(after, 1) if line not in before]
    shown = "\n".join(written(outcome)).replace("�", "\n").splitlines()
    told = [line.split(": ", 1)[1] if line.startswith("line ") else line for line in shown]
    assert told == [after[number - 1] for number in changed]
    numbers = [int(line.split()[1].rstrip(":")) for line in written(outcome)]
    assert numbers == [number for number in changed if not after[number - 1].startswith("lines")]


@pytest.mark.slow
def test_only_the_money_of_the_added_rule_is_shown(desk: Desk) -> None:
    desk.in_force("A,key_name,app,,,,")
    desk.write("A,key_name,app,,,,", "C,key_name,web,,,,")
    outcome = desk.add("B", "key_name", "web two", "--yes")
    assert moved(outcome) == {"Unattributed → B": "5.00"}
    assert "Unattributed: 5.00 → 0.00 USD" in outcome.stdout
    assert "Other lines that no sync has loaded yet move spend too: orcost map check" in outcome.stdout


@pytest.mark.parametrize(
    ("dates", "moves"),
    sampled(
        [
            ([], {"Unattributed → B": "5.00"}),
            (["--from", DAY_BEFORE], {"Unattributed → B": "2.50"}),
            (["--to", DAY_BEFORE], {"Unattributed → B": "2.50"}),
            (["--from", "2027-03-01"], {}),
        ],
        1,
    ),
)
def test_the_money_of_its_days_is_shown(desk: Desk, dates: list[str], moves: dict[str, str]) -> None:
    desk.in_force("A,key_name,app,,,,")
    assert moved(desk.add("B", "key_name", "web", *dates, "--yes")) == moves


@pytest.mark.slow
def test_a_rule_of_the_future_is_told_with_its_day(desk: Desk) -> None:
    desk.in_force("A,key_name,app,,,,")
    outcome = desk.add("B", "key_name", "web", "--from", "2027-03-01", "--yes")
    assert "From 2027-03-01 on, 1 key has another owner than now." in outcome.stdout


# Whose name it is


@pytest.fixture
def known(desk: Desk) -> Callable[[str], None]:
    """Makes a company known where the parameter says."""

    def make(where: str) -> None:
        if where == "in force":
            desk.in_force('"Acme, Inc",key_name,app,,,,')
            desk.write("A,key_name,app,,,,")
        else:
            desk.write('"Acme, Inc",key_name,app,,,,' if where == "file" else "A,key_name,app,,,,")
        if where == "list":
            (desk.folder / "companies.csv").write_text('company\nA\n"Acme, Inc"\n')

    return make


@pytest.mark.parametrize("where", ["in force", "file", "list"])
@pytest.mark.parametrize("typed", sampled(["Acme Inc", "acme, inc", "Acme,  Inc."], 1))
def test_a_company_that_is_nearly_another_is_doubted(
    desk: Desk, known: Callable[[str], None], where: str, typed: str
) -> None:
    known(where)
    outcome = desk.add(typed, "key_name", "web")
    assert outcome.returncode == 1  # nobody agreed
    doubts = [line for line in outcome.stdout.splitlines() if "Did you mean" in line]
    assert len(doubts) == 1
    assert doubts[0].startswith("  warning, line 3: company ")
    assert doubts[0].endswith("Did you mean Acme, Inc?")


@pytest.mark.parametrize("typed", ["Acme, Inc", "Globex"])
def test_a_company_that_is_known_or_like_no_other_is_not_doubted(
    desk: Desk, known: Callable[[str], None], typed: str
) -> None:
    known("file")
    outcome = desk.add(typed, "key_name", "web", "--yes")
    assert outcome.returncode == 0
    assert "Did you mean" not in outcome.stdout


def test_an_owner_of_a_share_is_doubted_too(desk: Desk, known: Callable[[str], None]) -> None:
    known("file")
    outcome = desk.add("Globex", "key_name", "web", "--share", "Acme Inc=40", "--yes")
    assert 'warning, line 4: company "Acme Inc" is new here. Did you mean Acme, Inc?' in outcome.stdout
