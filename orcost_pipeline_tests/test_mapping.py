"""The mapping file is taken whole, rule by rule as written, or refused whole with every mistake on its line."""

from __future__ import annotations

import codecs
import hashlib
import pickle
import time
from datetime import date
from decimal import Decimal

import pytest

from orcost_pipeline.companies.mapping import Mapping, MappingError, Rule, Share, read_mapping

HASH = "7c1e" * 16
HEADER = "company,match,pattern\n"
SPLIT_HEADER = "company,match,pattern,share\n"
DATED_HEADER = "company,match,pattern,valid_from,valid_to\n"
MATCHES = "key_hash, key_name, workspace, creator, external_user, label"
COLUMNS = "company, match, pattern, account, valid_from, valid_to, share, note"
UNBALANCED = "its quotes do not balance."


def read(content: bytes | str) -> Mapping:
    return read_mapping(content.encode() if isinstance(content, str) else content, "company_mapping.csv")


def refused(content: bytes | str) -> MappingError:
    with pytest.raises(MappingError) as caught:
        read(content)
    return caught.value


def brief(mapping: Mapping) -> list[tuple[int, str, str]]:
    """Each rule as its line, its name and its shares."""
    return [
        (rule.line, rule.name, "+".join(f"{share.company} {share.percent}" for share in rule.shares))
        for rule in mapping.rules
    ]


ONE_RULE = [(2, "key_name:foo*", "A 100")]
RIGHT = {
    "plain": (HEADER + "A,key_name,foo*\n", ONE_RULE),
    "without a last newline": (HEADER + "A,key_name,foo*", ONE_RULE),
    "with a BOM": (codecs.BOM_UTF8 + (HEADER + "A,key_name,foo*\n").encode(), ONE_RULE),
    "UTF-16 little-endian": (codecs.BOM_UTF16_LE + (HEADER + "A,key_name,foo*\n").encode("utf-16-le"), ONE_RULE),
    "UTF-16 big-endian": (
        codecs.BOM_UTF16_BE + (HEADER + "Ä,key_name,ü\n").encode("utf-16-be"),
        [(2, "key_name:ü", "Ä 100")],
    ),
    "CRLF": (HEADER.replace("\n", "\r\n") + "A,key_name,foo*\r\n", ONE_RULE),
    "lone CR": (HEADER.replace("\n", "\r") + "A,key_name,foo*\r", ONE_RULE),
    "semicolons": ("company;match;pattern\nA;key_name;foo*\n", ONE_RULE),
    "semicolons, and commas in values": (
        "company;match;pattern\nA;key_name;a,b,c,d\n",
        [(2, "key_name:a,b,c,d", "A 100")],
    ),
    "commas, and semicolons in values": (HEADER + "A,key_name,a;b;c;d\n", [(2, "key_name:a;b;c;d", "A 100")]),
    "columns in another order": ("pattern,company,match\nfoo*,A,key_name\n", ONE_RULE),
    "trimmed values": (" company , match ,pattern \n A ,\tkey_name,\u00a0foo* \n", ONE_RULE),
    "spaces around quotes": (HEADER + ' "A" , "key_name" ,  "foo*"  \n', ONE_RULE),
    "spaces inside quotes": (HEADER + '" A ","key_name "," foo*"\n', ONE_RULE),
    "empty trailing columns": ("company,match,pattern,,\nA,key_name,foo*,,\n", ONE_RULE),
    "more empty columns than the header": (HEADER + "A,key_name,foo*,,,,\n", ONE_RULE),
    "missing trailing values": ("company,match,pattern,account,note\nA,key_name,foo*\n", ONE_RULE),
    "blank lines": (HEADER + "\n  \n,,\nA,key_name,foo*\n\n", [(5, "key_name:foo*", "A 100")]),
    "blanks and comments before the header": (
        "# who pays\n\n" + HEADER + "A,key_name,x\n",
        [(4, "key_name:x", "A 100")],
    ),
    "comments with anything in them": (HEADER + '# "A;,\nA,key_name,x\n#', [(3, "key_name:x", "A 100")]),
    "a quoted number sign": (HEADER + '"#1 Corp",key_name,x\n', [(2, "key_name:x", "#1 Corp 100")]),
    "a value over lines": (
        HEADER + 'A,key_name,"x\n# y\n\nz"\nB,label,q\n',
        [(2, "key_name:x\n# y\n\nz", "A 100"), (6, "label:q", "B 100")],
    ),
    "quoted commas and quotes": (HEADER + '"Acme, ""Inc""",key_name,x\n', [(2, "key_name:x", 'Acme, "Inc" 100')]),
    "a quote inside a bare value": (HEADER + 'A,key_name,say "hi"\n', [(2, 'key_name:say "hi"', "A 100")]),
    "a hash": (HEADER + f"A,key_hash,{HASH}\n", [(2, f"key_hash:{HASH}", "A 100")]),
    "every glob": (
        HEADER + "A,workspace,w\nA,creator,*@a.io\nA,external_user,?\nA,label,[x]*\n",
        [
            (2, "workspace:w", "A 100"),
            (3, "creator:*@a.io", "A 100"),
            (4, "external_user:?", "A 100"),
            (5, "label:[x]*", "A 100"),
        ],
    ),
    "a split": (SPLIT_HEADER + "A,label,x,60\nB,label,x,40.0\n", [(2, "label:x", "A 60+B 40.0")]),
    "a split with a comment inside": (
        SPLIT_HEADER + "A,label,x,60\n#\n\nB,label,x,40\n",
        [(2, "label:x", "A 60+B 40")],
    ),
    "a split to the last digit": (
        SPLIT_HEADER + f"A,label,x,{'3' * 2}.{'3' * 60}\nB,label,x,66.{'6' * 59}7\n",
        [(2, "label:x", f"A 33.{'3' * 60}+B 66.{'6' * 59}7")],
    ),
    "an explicit hundred": (SPLIT_HEADER + "A,label,x,100.00\n", [(2, "label:x", "A 100.00")]),
    "neighbours that differ in account": (
        "company,match,pattern,account\nA,label,x,a\nB,label,x,b\n",
        [(2, "label:x", "A 100"), (3, "label:x", "B 100")],
    ),
    "neighbours that differ in dates": (
        DATED_HEADER + "A,label,x,,2026-11-01\nB,label,x,2026-11-01,\n",
        [(2, "label:x", "A 100"), (3, "label:x", "B 100")],
    ),
    "a leap day": (DATED_HEADER + "A,label,x,2024-02-29,2024-03-01\n", [(2, "label:x", "A 100")]),
    "a header alone": (HEADER, []),
}


@pytest.mark.parametrize(("content", "expected"), RIGHT.values(), ids=RIGHT)
def test_a_right_file_is_read_as_written(content, expected):
    mapping = read(content)
    assert brief(mapping) == expected
    assert mapping.warnings == ()
    assert [rule.position for rule in mapping.rules] == list(range(len(expected)))


ENCODING = "the text is not UTF-8, nor UTF-16 with a byte order mark. Save the file as UTF-8."
NUL = "there is a NUL byte. Save the file as UTF-8."
WRONG = {
    "nothing": ("", ["the file is empty; its header is company,match,pattern."]),
    "a BOM alone": (codecs.BOM_UTF8, ["the file is empty; its header is company,match,pattern."]),
    "comments alone": ("# nothing\n\n", ["the file is empty; its header is company,match,pattern."]),
    "no header": (
        "A,key_name,x\n",
        [
            f'line 1: column "A" is not one of {COLUMNS}.',
            f'line 1: column "key_name" is not one of {COLUMNS}.',
            f'line 1: column "x" is not one of {COLUMNS}.',
            "line 1: the header lacks company, match, pattern.",
        ],
    ),
    "a header that lacks a column": ("company,pattern\nA,x\n", ["line 1: the header lacks match."]),
    "a misspelt column": (
        "compnay,match,pattern\nA,label,x\n",
        [
            f'line 1: column "compnay" is not one of {COLUMNS}. Did you mean company?',
            "line 1: the header lacks company.",
        ],
    ),
    "an upper-case column": (
        "company,match,pattern,Share\nA,labl,x,1\n",
        [
            f'line 1: column "Share" is not one of {COLUMNS}. Did you mean share?',
            f'line 2: match "labl" is not one of {MATCHES}. Did you mean label?',
        ],
    ),
    "a column twice": ("company,match,pattern,match\nA,label,x,label\n", ["line 1: column match is there 2 times."]),
    "a header with an open quote": ('\ncompany,"match,pattern\nA,label,x\n', [f"line 2: {UNBALANCED}"]),
    "Latin-1": ((HEADER + "A,label,x\nMüller,label,y\n").encode("latin-1"), [f"line 3: {ENCODING}"]),
    "UTF-16 cut in the middle": (
        (HEADER + "A,label,x").encode("utf-16")[:-1],
        ["line 2: the text is not UTF-16. Save the file as UTF-8."],
    ),
    "UTF-16 without a BOM": ((HEADER + "A,label,x").encode("utf-16-le"), [f"line 1: {NUL}", f"line 2: {NUL}"]),
    "a NUL byte, and another mistake": (
        HEADER + "A,label,x\0\nB,label,\n",
        [f"line 2: {NUL}", "line 3: pattern is blank."],
    ),
    "an open quote": (
        HEADER + 'A,label,"x\nB,label,y\n,label,z\n',
        [f"line 2: {UNBALANCED}", "line 4: company is blank."],
    ),
    "an open quote before a quoted value": (HEADER + 'A,label,"x\nB,label,"y"\n', [f"line 2: {UNBALANCED}"]),
    "text after a quote": (HEADER + 'A,label,"x"y\n', [f"line 2: {UNBALANCED}"]),
    "a lonely quote in a value": (HEADER + 'A,label,x"\n', [f"line 2: {UNBALANCED}"]),
    "a number sign after a space": (HEADER + " # A\n", ["line 2: match is blank.", "line 2: pattern is blank."]),
    "blank company": (HEADER + " ,label,x\n", ["line 2: company is blank."]),
    "blank match": (HEADER + "A,,x\n", ["line 2: match is blank."]),
    "blank pattern": (HEADER + 'A,label," "\n', ["line 2: pattern is blank."]),
    "one word": (HEADER + "A\n", ["line 2: match is blank.", "line 2: pattern is blank."]),
    "a misspelt match": (
        HEADER + "A,key_nam,x\n",
        [f'line 2: match "key_nam" is not one of {MATCHES}. Did you mean key_name?'],
    ),
    "an upper-case match": (
        HEADER + "A,LABEL,x\n",
        [f'line 2: match "LABEL" is not one of {MATCHES}. Did you mean label?'],
    ),
    "a match like none": (HEADER + "A,zzz,x\n", [f'line 2: match "zzz" is not one of {MATCHES}.']),
    "the reserved company": (
        HEADER + "Unattributed,label,x\nUNATTRIBUTED,label,y\n",
        [
            'line 2: company "Unattributed" is reserved for what no rule matches.',
            'line 3: company "UNATTRIBUTED" is reserved for what no rule matches.',
        ],
    ),
    "an upper-case hash": (
        HEADER + f"A,key_hash,{HASH.upper()}\n",
        [f'line 2: key_hash "{HASH.upper()}" must be in lower case.'],
    ),
    "a short hash": (
        HEADER + "A,key_hash,7c1e\n",
        ['line 2: key_hash "7c1e" is not 64 lower-case hex digits (its length is 4).'],
    ),
    "a glob as hash": (
        HEADER + "A,key_hash,*\n",
        ['line 2: key_hash "*" is not 64 lower-case hex digits (its length is 1).'],
    ),
    "a value beyond the columns": (
        HEADER + "A,label,x,y\n",
        ['line 2: value "y" is in column 4, which has no name. Is a quote missing?'],
    ),
    "a value below no name": (
        "company,,match,pattern\nA,y,label,x\n",
        ['line 2: value "y" is in column 2, which has no name. Is a quote missing?'],
    ),
    "dates of other shapes": (
        DATED_HEADER + "A,label,x,1.11.2026,20261201\nA,label,y,2026-11-1,2026-W10-1\n",
        [
            'line 2: valid_from "1.11.2026" is not a date written YYYY-MM-DD.',
            'line 2: valid_to "20261201" is not a date written YYYY-MM-DD.',
            'line 3: valid_from "2026-11-1" is not a date written YYYY-MM-DD.',
            'line 3: valid_to "2026-W10-1" is not a date written YYYY-MM-DD.',
        ],
    ),
    "a date that never was": (
        DATED_HEADER + "A,label,x,2026-02-29,\n",
        ['line 2: valid_from "2026-02-29" is not a date written YYYY-MM-DD.'],
    ),
    "an end at its start": (
        DATED_HEADER + "A,label,x,2026-11-01,2026-11-01\n",
        ["line 2: valid_to 2026-11-01 is not later than valid_from 2026-11-01."],
    ),
    "an end before its start": (
        DATED_HEADER + "A,label,x,2026-11-01,2026-10-01\n",
        ["line 2: valid_to 2026-10-01 is not later than valid_from 2026-11-01."],
    ),
    "shares below a hundred": (
        SPLIT_HEADER + "A,label,x,60\nB,label,x,39.99\n",
        ['line 3: shares of "x" sum to 99.99, not 100 (lines 2–3).'],
    ),
    "shares a hair above a hundred": (
        SPLIT_HEADER + f"A,label,x,60\nB,label,x,40.{'0' * 40}1\n",
        [
            f'line 3: shares of "x" sum to 100.{"0" * 40}1, not 100 (lines 2–3).',
        ],
    ),
    "one lonely share": (SPLIT_HEADER + "A,label,x,60\n", ['line 2: shares of "x" sum to 60, not 100 (line 2).']),
    "a split torn apart": (
        SPLIT_HEADER + "A,label,x,60\nC,label,y,\nB,label,x,40\n",
        [
            'line 2: shares of "x" sum to 60, not 100 (line 2).',
            'line 4: shares of "x" sum to 40, not 100 (line 4).',
        ],
    ),
    "the same row twice": (
        HEADER + "A,label,x\nA,label,x\n",
        [
            'line 3: company "A" appears twice in one rule (lines 2–3).',
            'line 3: shares of "x" sum to 200, not 100 (lines 2–3).',
        ],
    ),
    "a company twice in a split": (
        SPLIT_HEADER + "A,label,x,60\nA,label,x,40\n",
        ['line 3: company "A" appears twice in one rule (lines 2–3).'],
    ),
    "a decimal comma": (
        "company;match;pattern;share\nA;label;x;60,5\nB;label;x;39,5\n",
        [
            'line 2: share "60,5" is not a decimal with a point, above 0 and at most 100.',
            'line 3: share "39,5" is not a decimal with a point, above 0 and at most 100.',
        ],
    ),
    "a mistake after a record over lines": (HEADER + 'A,label,"x\ny"\n,label,z\n', ["line 4: company is blank."]),
    "a mistake at the start of a record over lines": (HEADER + ',label,"x\ny"\n', ["line 2: company is blank."]),
    "a long value": (HEADER + f"A,{'k' * 1_000_000},x\n", [f'line 2: match "{"k" * 79}…" is not one of {MATCHES}.']),
}


@pytest.mark.parametrize(("content", "expected"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_with_every_mistake_on_its_line(content, expected):
    assert [str(mistake) for mistake in refused(content).mistakes] == expected


@pytest.mark.parametrize(
    "share",
    ["0", "0.0", "-1", "+60", "100.01", "101", "6e1", "1E2", "nan", "NaN", "inf", "60%", "60.", "٦٠", "1_0", "."],
)
def test_a_share_is_a_plain_decimal_above_0_and_at_most_100(share):
    (mistake,) = refused(SPLIT_HEADER + f"A,label,x,{share}\n").mistakes
    assert str(mistake) == f'line 2: share "{share}" is not a decimal with a point, above 0 and at most 100.'


def test_a_rule_carries_all_its_columns():
    mapping = read(
        "company,match,pattern,account,valid_from,valid_to,share,note\n"
        "A,workspace,Prod*,acme,2026-11-01,2026-12-01,12.5,pilot\n"
        "B,workspace,Prod*,acme,2026-11-01,2026-12-01,87.5,\n"
    )
    shares = (Share("A", Decimal("12.5"), 2, "pilot"), Share("B", Decimal("87.5"), 3, None))
    assert mapping.rules == (Rule(0, 2, "workspace", "Prod*", "acme", date(2026, 11, 1), date(2026, 12, 1), shares),)
    assert [share.fraction for share in shares] == [Decimal("0.125"), Decimal("0.875")]


def test_a_share_of_any_length_is_divided_exactly():
    assert str(Share("A", Decimal("33." + "3" * 60), 2).fraction) == "0.33" + "3" * 60
    assert str(Share("A", Decimal("100.00"), 2).fraction) == "1"


def test_a_mapping_is_known_by_its_content():
    content = (HEADER + "A,label,x\n").encode()
    assert read(content).sha256 == hashlib.sha256(content).hexdigest()
    assert read(content).source == "company_mapping.csv"


def test_a_refusal_reads_as_a_list_of_lines():
    error = refused(SPLIT_HEADER + "A,key_nam,x,\n\nB,label,y,99.99\n")
    assert error.lines() == (
        f'  line 2: match "key_nam" is not one of {MATCHES}. Did you mean key_name?\n'
        '  line 4: shares of "y" sum to 99.99, not 100 (line 4).'
    )
    assert str(error) == f"company_mapping.csv was refused.\n{error.lines()}"


def test_a_refusal_survives_the_way_between_processes():
    error = refused(HEADER + "A,label,\n")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_no_value_breaks_the_line_of_its_mistake():
    (mistake,) = refused(HEADER + 'A,"key\nname",x\n').mistakes
    assert str(mistake) == f'line 2: match "key name" is not one of {MATCHES}. Did you mean key_name?'


SHADOWED = {
    "the same again": (
        HEADER + "A,label,x\nB,label,y\nC,label,x\n",
        ["line 4: label:x never wins: label:x on line 2 comes first."],
    ),
    "the same split again": (
        SPLIT_HEADER + "A,label,x,60\nB,label,x,40\nA,label,y,\nA,label,x,50\nB,label,x,50\n",
        ["line 5: label:x never wins: label:x on line 2 comes first."],
    ),
    "later in time than always": (
        DATED_HEADER + "A,label,x,,\nB,label,x,2026-11-01,\n",
        ["line 3: label:x never wins: label:x on line 2 comes first."],
    ),
    "one account after all": (
        "company,match,pattern,account\nA,label,x,\nB,label,x,b\n",
        ["line 3: label:x never wins: label:x on line 2 comes first."],
    ),
    "after the catch-all of its kind": (
        HEADER + "A,workspace,*\nB,workspace,y\n",
        ["line 3: workspace:y never wins: workspace:* on line 2 comes first."],
    ),
    "after the catch-all": (
        HEADER + "A,key_name,*\nB,creator,y\n",
        ["line 3: creator:y never wins: key_name:* on line 2 comes first."],
    ),
    "a hash after the catch-all": (HEADER + f"A,key_name,*\nB,key_hash,{HASH}\n", []),
    "all after one account": ("company,match,pattern,account\nA,label,x,b\nB,label,x,\n", []),
    "always after some time": (DATED_HEADER + "A,label,x,2026-11-01,\nB,label,x,,\n", []),
    "another kind": (HEADER + "A,label,x\nB,key_name,x\n", []),
}


@pytest.mark.parametrize(("content", "expected"), SHADOWED.values(), ids=SHADOWED)
def test_a_rule_that_never_wins_is_a_warning(content, expected):
    assert [str(warning) for warning in read(content).warnings] == expected


def test_a_rule_for_an_account_nobody_configured_is_a_warning():
    mapping = read("company,match,pattern,account\nA,label,x,acme\nB,label,y,amce\nC,label,z,\n")
    (warning,) = mapping.unknown_accounts(["acme", "other"])
    assert str(warning) == 'line 3: account "amce" is not configured. Did you mean acme?'
    assert mapping.warnings == ()


def test_a_line_of_a_megabyte_is_read():
    note = "x" * 1_000_000
    (rule,) = read(f'company,match,pattern,note\nA,label,x,"{note}"\n# {note}\n').rules
    assert rule.shares[0].note == note


def test_fifty_thousand_rules_are_read_in_moments():
    content = HEADER + "".join(f"Company {number % 50},key_name,team-{number}-*\n" for number in range(50_000))
    begin = time.process_time()
    assert len(read(content).rules) == 50_000
    assert time.process_time() - begin < 5  # about one second of one processor
