"""The reading side of the command line, over a warehouse whose truth is known to the last digit."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import pytest
import sqlalchemy as sa

from orcost_pipeline import cli, formats
from orcost_pipeline.cli.resync import resync
from orcost_pipeline.errors import TransientError
from orcost_pipeline.measures import MEASURES
from orcost_pipeline.settings import load_settings
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.windows import Window
from orcost_pipeline_tests.known_spend import (
    NOW,
    OPEN_DAY,
    Truth,
    by_company,
    by_creator,
    by_key,
    by_model,
    by_workspace,
    hash_of,
)
from orcost_pipeline_tests.sampling import sampled

pytest_plugins = ["orcost_pipeline_tests.known_spend"]

ENVIRONMENT = (
    "OPENROUTER_API_KEY",
    "OPENROUTER_BASE_URL",
    "ORCOST_HOME",
    "ORCOST_CONFIG",
    "ORCOST_MAPPING",
    "NO_COLOR",
)
GROUPINGS = {
    "company": by_company,
    "key": by_key,
    "model": by_model,
    "creator": by_creator,
    "workspace": by_workspace,
}
NAMES = {name: ("account", name) for name in GROUPINGS} | {"key": ("account", "key_hash", "company")}


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, str | None]]:
        return json.loads(self.out)


Orcost = Callable[..., Outcome]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder without accounts, on whose database nobody has decided yet."""
    for name in (*ENVIRONMENT, "ORCOST_DATABASE_URL", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    project = tmp_path / "project"
    project.mkdir()
    (project / ".env").touch()
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def reachable_folder() -> Iterator[Path]:
    """A project folder that other accounts can reach, as Postgres needs it to be; pytest's own are not."""
    project = Path(tempfile.mkdtemp()).resolve()
    project.chmod(0o755)
    (project / ".env").write_text("ORCOST_HOME=.orcost\n", encoding="utf-8")
    yield project
    shutil.rmtree(project)


@pytest.fixture
def orcost(
    folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Orcost:
    """Runs the console script in this process, in the project folder, by default at NOW."""
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)

    def run(*arguments: str, clock: Callable[[], datetime] = lambda: NOW) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            cli.main(arguments, clock)
        code = ending.value.code
        return Outcome(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


def figures(rows: list[dict[str, str | None]], by: str) -> dict[tuple[str | None, ...], tuple[Fraction, ...]]:
    return {
        tuple(row[name] for name in NAMES[by]): tuple(Fraction(row[name] or 0) for name in MEASURES) for row in rows
    }


def without_zeros(
    sums: Mapping[tuple[str | None, ...], tuple[Fraction, ...]],
) -> dict[tuple[str | None, ...], tuple[Fraction, ...]]:
    return {group: values for group, values in sums.items() if any(values)}


def do(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement))


def columns_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


# Figures


@pytest.mark.parametrize("by", GROUPINGS)
@pytest.mark.parametrize(("period", "hours"), sampled([("24h", 24), ("7d", 168), ("30d", 720)], 1))
def test_a_rolling_report_is_the_sum_of_its_hours_to_the_last_digit(
    orcost: Orcost, truth: Truth, by: str, period: str, hours: int
) -> None:
    answer = orcost("report", "--period", period, "--by", by, "--format", "json")
    assert without_zeros(figures(answer.rows, by)) == truth.rolling(hours, GROUPINGS[by])


@pytest.mark.parametrize("by", GROUPINGS)
@pytest.mark.parametrize(
    ("start", "end"),
    sampled(
        [
            ("2026-11-01", "2026-11-20"),
            ("2026-11-03T05:00", "2026-11-19T22:00"),
            ("2026-11-18T01:00", "2026-11-18T23:00"),
            ("2026-11-18T03:00", "2026-11-19"),
            ("2026-11-09T23:00Z", "2026-11-10T03:00+02:00"),
            ("2026-10-01", "2026-10-24T03:00"),
            ("2020-01-01", "2030-01-01"),
        ],
        3,
    ),
)
def test_any_window_of_whole_hours_equals_the_naive_sum(
    orcost: Orcost, truth: Truth, start: str, end: str, by: str
) -> None:
    moments = [datetime.fromisoformat(text) for text in (start, end)]
    window = Window(*(moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in moments))
    answer = orcost("report", "--from", start, "--to", end, "--by", by, "--format", "json")
    assert figures(answer.rows, by) == truth.between(window, GROUPINGS[by])


def test_what_creators_and_workspaces_cost_is_a_table_too(orcost: Orcost, truth: Truth) -> None:
    told = orcost("report", "--by", "creator", "--period", "7d").out
    assert told.startswith("Cost by creator, last 7 days")
    assert {"ann@example.com", "user_gone", "(not known)"} <= {
        line.strip().split("  ")[0] for line in told.splitlines()
    }
    rows = orcost("report", "--by", "workspace", "--format", "json").rows
    assert {"Lab", "Production", "Default", None} == {row["workspace"] for row in rows}


@pytest.mark.parametrize("by", ["creator", "workspace"])
def test_marts_by_creator_and_workspace_sum_to_the_companies_days(truth: Truth, engine: sa.Engine, by: str) -> None:
    sums = ", ".join(f"sum({name})" for name in MEASURES)
    with engine.connect() as connection:
        mart, companies = (
            connection.exec_driver_sql(f"select day, company, {sums} from {relation} group by 1, 2 order by 1, 2").all()
            for relation in (f"marts.{by}_spend_daily", "core.spend_daily")
        )
    assert len(mart) > 20
    assert mart == companies


def test_a_month_is_its_days_and_a_restated_day_counts_as_restated(orcost: Orcost, truth: Truth) -> None:
    window = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    assert figures(orcost("report", "--month", "2026-11", "--format", "json").rows, "company") == truth.between(
        window, by_company
    )
    hours = sum((fact.measures[5] for fact in truth.hours if fact.start in window), Decimal(0))
    total = sum(
        Decimal(row["credits_usd"] or 0) for row in orcost("report", "--month", "2026-11", "--format", "json").rows
    )
    assert total > hours


def test_from_alone_means_until_now(orcost: Orcost, truth: Truth) -> None:
    open_ended = orcost("report", "--from", "2026-11-20T07:00", "--format", "csv")
    assert open_ended.out == orcost("report", "--from", "2026-11-20T07:00", "--to", "2026-11-24", "--format", "csv").out


def test_json_and_csv_hold_exact_strings_under_the_names_of_the_tables(orcost: Orcost, truth: Truth) -> None:
    answer = orcost("report", "--period", "7d", "--format", "json")
    previous = ["previous_credits_usd", "previous_byok_usd"]
    assert list(answer.rows[0]) == ["account", "company", "as_of", *MEASURES, *previous, "known_from", "is_complete"]
    assert all(isinstance(row[name], str) and "E" not in (row[name] or "") for row in answer.rows for name in MEASURES)
    table = list(csv.DictReader(io.StringIO(orcost("report", "--period", "7d", "--format", "csv").out)))
    assert table == [{**row, "is_complete": str(row["is_complete"])} for row in answer.rows]
    keys = orcost("report", "--by", "key", "--month", "2026-11", "--format", "json").rows
    assert list(keys[0]) == [
        "account",
        "key_hash",
        "key_name",
        "company",
        "as_of",
        *MEASURES,
        "known_from",
        "is_complete",
    ]
    ownerless = {(row["key_hash"], row["key_name"]) for row in keys[-2:]}
    assert ownerless == {(hash_of("orphan"), "orphan"), (None, None)}, "Unattributed comes last"


def test_programs_get_nothing_but_data_on_stdout(orcost: Orcost, truth: Truth) -> None:
    for output in ("json", "csv"):
        answer = orcost("report", "--format", output)
        assert "Complete to" not in answer.out
        assert answer.err.startswith("Complete to 13:20 UTC (4 minutes ago) · 28 of 29 finished days reconcile")


def test_an_empty_window_has_a_header_and_an_empty_array(orcost: Orcost, truth: Truth) -> None:
    assert orcost("report", "--month", "2026-08", "--format", "json").rows == []
    header = f"account,company,as_of,{','.join(MEASURES)},known_from,is_complete\n"
    assert orcost("report", "--month", "2026-08", "--format", "csv").out == header
    assert "No spend is known in this window." in orcost("report", "--month", "2026-08").out
    assert "This window lies in the future." in orcost("report", "--month", "2027-08").out


def test_an_unknown_earlier_window_is_null_and_a_dash(orcost: Orcost, truth: Truth) -> None:
    answer = orcost("report", "--period", "30d", "--format", "json")
    assert {row["previous_credits_usd"] for row in answer.rows} == {None}
    assert columns_of(line_of(orcost("report").out, "Total"))[2] == "–"


# The table


def test_the_table_says_what_each_company_cost_and_how_far_to_trust_it(orcost: Orcost, truth: Truth) -> None:
    text = orcost("report", "--period", "7d").out
    sums = truth.rolling(168, by_company)
    assert text.startswith("Company cost, last 7 days (2026-11-16 14:00 – 2026-11-23 13:20 UTC)\n")
    assert columns_of(text.splitlines()[2]) == [
        "Company",
        "Spend USD",
        "vs previous",
        "BYOK USD",
        "Requests",
        "Tokens",
        "Keys",
    ]
    row = columns_of(line_of(text, "Company A"))
    assert row[1] == f"{float(sums['acme', 'Company A'][5]):,.2f}"
    assert (row[3], row[6]) == ("–", "2")
    total = columns_of(line_of(text, "Total"))
    assert total[1] == f"{float(sum(values[5] for values in sums.values())):,.2f}"
    assert total[6] == "5", "a split key is one key of the total"
    assert text.splitlines()[-3].startswith("Total")
    assert text.splitlines()[-1].startswith(
        "Complete to 13:20 UTC (4 minutes ago) · 6 of 6 finished days reconcile to OpenRouter's total · "
    )
    assert text.endswith("% unattributed\n")


def test_a_rule_is_asked_for_only_where_it_would_help(orcost: Orcost, truth: Truth) -> None:
    hint = "→ orcost map todo"
    assert line_of(orcost("report", "--period", "30d").out, "Unattributed").endswith(hint)
    keys = orcost("report", "--period", "30d", "--by", "key").out
    assert line_of(keys, "Unattributed   orphan").endswith(hint)
    assert keys.count(hint) == 1
    text = orcost("report", "--period", "24h").out
    assert truth.rolling(24, by_key).keys() >= {("acme", None, "Unattributed")}
    assert "Unattributed" in text
    assert hint not in text, "only spend with no key is without an owner"


@pytest.mark.slow
def test_several_accounts_are_one_table_but_keep_their_rows_for_programs(orcost: Orcost, truth_of_two: Truth) -> None:
    answer = orcost("report", "--format", "json")
    assert {row["account"] for row in answer.rows} == {"acme", "globex"}
    sums = truth_of_two.rolling(720, by_company)
    both = sums["acme", "Company A"][5] + sums["globex", "Company A"][5]
    assert columns_of(line_of(orcost("report").out, "Company A"))[1] == f"{float(both):,.2f}"
    only = orcost("report", "--account", "globex").out
    assert only.startswith('Company cost of account "globex", last 30 days')
    assert columns_of(line_of(only, "Company A"))[1] == f"{float(sums['globex', 'Company A'][5]):,.2f}"
    assert "Account" in columns_of(orcost("report", "--by", "key").out.splitlines()[2])


def test_a_month_that_is_not_whole_says_from_when_on_it_is_known(orcost: Orcost, truth: Truth) -> None:
    """The first sync read days from 23 October on, hours from that day's 14:00 on."""
    text = orcost("report", "--month", "2026-10").out
    assert text.startswith(
        "Company cost, October 2026 (known from 23 October) (2026-10-01 00:00 – 2026-11-01 00:00 UTC)\n"
    )
    assert text.endswith("October is not complete: history begins 23 October 2026.\n")
    assert "September is not known: history begins" in orcost("report", "--month", "2026-09").out
    rows = orcost("report", "--month", "2026-10", "--format", "json").rows
    assert {(row["known_from"], row["is_complete"]) for row in rows} == {("2026-10-23T00:00:00Z", False)}
    running = orcost("report", "--month", "2026-11")
    assert running.out.startswith("Company cost, November 2026 to date (2026-11-01 00:00 – ")
    assert "complete:" not in running.out
    rows = orcost("report", "--month", "2026-11", "--format", "json").rows
    assert {(row["known_from"], row["is_complete"]) for row in rows} == {("2026-11-01T00:00:00Z", True)}


@pytest.mark.parametrize(
    ("asked", "known_from"),
    [
        (("--period", "7d"), "2026-11-20T13:00:00Z"),
        (("--period", "24h"), None),
        (("--from", "2026-11-10", "--to", "2026-11-12"), None),
        (("--from", "2026-11-10T01:00", "--to", "2026-11-12"), "2026-11-11T00:00:00Z"),
        (("--from", "2026-11-10", "--to", "2026-11-12T05:00"), "2026-11-10T00:00:00Z"),
        (("--from", "2026-11-10T01:00", "--to", "2026-11-21"), "2026-11-11T00:00:00Z"),
        (("--from", "2026-11-20T10:00", "--to", "2026-11-20T15:00"), "2026-11-20T13:00:00Z"),
        (("--from", "2026-11-10", "--to", "2026-11-21T05:00"), None),
        (("--month", "2026-11"), None),
    ],
)
def test_a_window_that_lacks_hours_says_so(
    orcost: Orcost, truth: Truth, engine: sa.Engine, asked: tuple[str, ...], known_from: str | None
) -> None:
    """After days off hours are known from the 20th on, and days before."""
    do(engine, "update ref.account set hours_from = '2026-11-20 13:00Z'")
    note = "This window is not complete: not every hour before 2026-11-20 13:00 UTC is known."
    assert (note in orcost("report", *asked).out) == (known_from is not None)
    rows = orcost("report", *asked, "--format", "json").rows
    assert {row["is_complete"] for row in rows} == {known_from is None}
    assert known_from is None or {row["known_from"] for row in rows} == {known_from}


@pytest.mark.parametrize("month", ["2026-10", "2026-11"])
def test_a_month_has_one_total_everywhere(orcost: Orcost, truth: Truth, engine: sa.Engine, month: str) -> None:
    first = date.fromisoformat(f"{month}-01")
    after = (first + timedelta(days=31)).replace(day=1)
    amounts = "company, credits_usd, byok_usd, requests, known_from, is_complete"
    with engine.connect() as connection:
        monthly = connection.execute(
            sa.text(f"select {amounts}, is_settled from marts.company_spend_monthly where month = :month"),
            {"month": first},
        ).all()
        between = connection.execute(
            sa.text(f"select {amounts} from marts.company_spend_between(:start, :end)"),
            {"start": f"{first} 00:00Z", "end": f"{after} 00:00Z"},
        ).all()
    rows = orcost("report", "--month", month, "--format", "json").rows
    reported = {
        row["company"]: (Decimal(row["credits_usd"]), Decimal(row["byok_usd"]), Decimal(row["requests"]))
        for row in rows
    }
    assert {row.company: tuple(row[1:4]) for row in monthly} == reported
    assert {tuple(row) for row in between} == {tuple(row[:6]) for row in monthly}
    assert {row.is_settled for row in monthly} == {False}, "one is known from the 23rd on, one is not over"


def test_stale_data_is_called_stale(orcost: Orcost, truth: Truth) -> None:
    text = orcost("report", clock=lambda: NOW + timedelta(hours=29)).out
    assert "STALE: complete to 2026-11-23 13:20 UTC (29 hours ago)" in text
    assert "Next: orcost status" in text


@pytest.mark.parametrize(("days", "said"), [(1, "24 hours"), (3_652, "3,652 days")])
def test_data_dated_into_the_future_is_never_just_now(
    orcost: Orcost, truth: Truth, engine: sa.Engine, days: int, said: str
) -> None:
    do(engine, f"update ref.account set as_of = as_of + interval '{days} days 30 minutes'")
    do(engine, "insert into ops.sync_run select 'run', 'acme', null, as_of, as_of, 'succeeded' from ref.account")
    text, when = orcost("report").out, f"(in {said}: a clock was wrong)"
    assert f"STALE: complete to 20{'26-11-24' if days == 1 else '36-11-22'} 13:50 UTC {when}" in text
    assert (
        ", in the future: a sync ran with a wrong clock. The last 30 days end there too, and lack earlier spend" in text
    )
    assert "The next sync puts it right: orcost sync" in text
    month = orcost("report", "--month", "2026-11").out
    assert ", in the future: a sync ran with a wrong clock. The next sync puts it right: orcost sync" in month
    for command in ("keys", "reconcile"):
        assert when in orcost(command).out
    status = orcost("status")
    assert status.code == 1
    assert f"in {said}: a clock was wrong" in columns_of(line_of(status.out, "acme"))
    assert "Data is marked complete until" in status.out


@pytest.mark.slow
def test_one_account_that_is_dated_into_the_future_is_named(
    orcost: Orcost, truth_of_two: Truth, engine: sa.Engine
) -> None:
    do(engine, "update ref.account set as_of = as_of + interval '26 hours 30 minutes' where account = 'globex'")
    text = orcost("report").out
    assert "STALE: complete to 2026-11-24 15:50 UTC (in 26 hours: a clock was wrong)" in text
    assert 'The data of account "globex" is marked complete to 2026-11-24 15:50 UTC, in the future' in text
    assert "Not synced for more than two hours" not in text


def test_a_clock_a_little_ahead_is_just_now(orcost: Orcost, truth: Truth, engine: sa.Engine) -> None:
    do(engine, "update ref.account set as_of = as_of + interval '4 minutes'")
    assert "Complete to 13:24 UTC (just now)" in orcost("report").out


def test_a_name_cannot_write_to_the_terminal(orcost: Orcost, truth: Truth, engine: sa.Engine) -> None:
    do(engine, "update core.api_key_version set name = E'[red]evil\\x1b[2J\\nrow' where name = 'beta'")
    text = orcost("report", "--by", "key").out
    assert "[red]evil�[2J�row" in text
    assert "\x1b" not in text


def test_pipes_and_no_color_get_plain_text(orcost: Orcost, truth: Truth, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = orcost("report").out
    assert "\x1b" not in plain
    assert all(line == line.rstrip() for line in plain.splitlines())
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    assert "\x1b" in orcost("report").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert orcost("report").out == plain


# Wrong questions


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--month", "2026-13"], "not a month written 2026-10"),
        (["--month", "2026-10", "--period", "7d"], "exclude each other"),
        (["--month", "2026-10", "--from", "2026-10-01"], "exclude each other"),
        (["--from", "2026-11-01T13:30"], "not a whole UTC hour"),
        (["--from", "yesterday"], "neither a date"),
        (["--to", "2026-11-01"], "--to needs --from"),
        (["--from", "2026-11-02", "--to", "2026-11-02"], "later than --from"),
        (["--account", "acmee"], 'No account is called "acmee". Known: acme'),
    ],
)
def test_a_wrong_question_is_answered_with_one_sentence(
    orcost: Orcost, truth: Truth, arguments: list[str], said: str
) -> None:
    answer = orcost("report", *arguments)
    assert (answer.code, answer.out) == (1, "")
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1


def test_before_the_first_sync_the_next_step_is_named(orcost: Orcost, engine: sa.Engine) -> None:
    assert orcost("report") == Outcome(1, "", "No account was synced yet. Next: orcost sync\n")
    do(engine, "insert into ref.account (account) values ('acme')")
    assert orcost("report").err == "No account was synced yet. Next: orcost sync\n"
    assert "orcost sync --account acme" in orcost("report", "--account", "acme").err


def test_reading_never_makes_a_first_empty_database(
    folder: Path, orcost: Orcost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORCOST_DATABASE_URL")
    assert orcost("report").err == "No account was synced yet. Next: orcost sync\n"
    assert not (folder / ".orcost").exists()


def test_a_database_that_cannot_be_used_is_one_sentence_without_its_password(
    orcost: Orcost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCOST_DATABASE_URL", "postgresql://me:hush-hush@127.0.0.1:1/none")
    answer = orcost("report")
    assert answer.code == 1
    assert "The database does not answer" in answer.err
    assert "hush" not in answer.err
    assert "Traceback" not in answer.err


def test_an_unforeseen_failure_leaves_its_traceback_in_the_log_without_secrets(orcost: Orcost, folder: Path) -> None:
    def explode() -> datetime:
        raise KeyError("sk-or-v1-0123456789 at postgresql://me:hush@host/db")

    answer = orcost("report", clock=explode)
    log = folder / ".orcost" / "logs" / "orcost.log"
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f"Something went wrong that should not have (KeyError). The details are in {log}\n"
    assert "in explode" in log.read_text()
    assert "0123456789" not in log.read_text()
    assert "hush" not in log.read_text()


def test_an_interrupt_exits_with_130(orcost: Orcost) -> None:
    def interrupt() -> datetime:
        raise KeyboardInterrupt

    assert orcost("report", clock=interrupt).code == 130


# Status


def test_status_is_one_where_there_is_an_error(orcost: Orcost, truth: Truth, engine: sa.Engine) -> None:
    answer = orcost("status")
    assert answer.code == 1
    line = columns_of(line_of(answer.out, "acme  "))
    assert line[:6] == ["acme", "management", "ok", "4 minutes ago", "13:20 UTC", "1"]
    assert line[7].startswith(f"{truth.balance_usd:,.2f} (")
    assert "→ orcost sync --account acme --since 2026-11-05" in answer.out
    do(engine, f"update core.account_day set hours_credits_usd = account_credits_usd where day = '{OPEN_DAY}'")
    answer = orcost("status")
    assert answer.code == 0
    assert answer.out.endswith("All is well.\n")


def test_status_names_what_is_wrong_worst_first(orcost: Orcost, truth: Truth, engine: sa.Engine, folder: Path) -> None:
    do(
        engine,
        "insert into ref.account (account, status, error) values ('globex', 'invalid_key', E'Invalid key.\\nMend.')",
    )
    do(engine, "update ref.account set as_of = as_of - interval '3 hours' where account = 'acme'")
    do(
        engine,
        "insert into ops.sync_run (run_id, account, started_at, finished_at, status, error) values "
        "('run-2', 'acme', '2026-11-23 13:21Z', '2026-11-23 13:21Z', 'succeeded', 'company_mapping.csv was refused.')",
    )
    answer = orcost("status", "--format", "json")
    told = json.loads(answer.out)
    check = f"orcost map check {folder / 'company_mapping.csv'}"
    figures = "if it stays, see the figures: orcost reconcile --day 2026-11-05"
    assert answer.code == 1
    assert [(finding["account"], finding["code"], finding["todo"]) for finding in told["findings"]] == [
        ("globex", "invalid_key", "Enter a valid key with orcost init, then: orcost sync --account globex"),
        ("acme", "stale", "orcost sync --account acme"),
        (None, "mapping_wrong", f"Correct it; to check it: {check}, then: orcost sync"),
        ("acme", "days_open", f"orcost sync --account acme --since 2026-11-05; {figures}"),
    ]
    acme, globex = told["accounts"]
    assert (acme["as_of"], acme["balance_usd"], acme["open_days"]) == (
        "2026-11-23T10:20:00Z",
        str(truth.balance_usd),
        ["2026-11-05"],
    )
    assert (globex["status"], globex["as_of"], globex["balance_usd"]) == ("invalid_key", None, None)
    todo = "Enter a valid key with orcost init, then: orcost sync --account globex"
    assert f"globex: Invalid key.\n  Mend.\n  → {todo}" in orcost("status").out


def test_a_configured_account_that_was_never_synced_is_a_problem(
    orcost: Orcost, truth: Truth, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(engine, f"update core.account_day set hours_credits_usd = account_credits_usd where day = '{OPEN_DAY}'")
    assert "default" not in orcost("status").out, "without a key, nobody meant to sync it"
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-v1-test")
    answer = orcost("status")
    assert answer.code == 1
    assert "default: It was never synced.\n  → orcost sync --account default" in answer.out
    assert "ok, not configured" in line_of(answer.out, "acme")


# Resync


def test_resync_leaves_a_request_for_the_deployment(orcost: Orcost, truth: Truth, engine: sa.Engine) -> None:
    answer = orcost("resync", "--account", "acme", "--since", "2026-11-01")
    assert answer.out == "Sync 1 is requested; the running deployment (orcost up) picks it up.\n"
    with engine.connect() as connection:
        row = connection.execute(sa.text("select account, since, status from ops.sync_request")).one()
    assert tuple(map(str, row)) == ("acme", "2026-11-01", "queued")
    assert orcost("resync", "--account", "nobody").code == 1


@pytest.mark.parametrize("ending", ["succeeded", "failed"])
def test_waiting_ends_as_the_request_ends_and_says_when_nobody_takes_it(
    folder: Path,
    engine: sa.Engine,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ending: str,
) -> None:
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 33:
            do(engine, f"update ops.sync_request set status = '{ending}', error = 'The key was refused.'")

    ended = None
    try:
        resync(load_settings(), None, None, is_waiting=True, sleep=sleep)
    except TransientError as error:
        ended = str(error)
    told = capsys.readouterr()
    assert set(naps) == {1}
    assert told.err.count("Is orcost up running?") == 1
    assert ("Sync 1 succeeded." in told.out) is (ending == "succeeded")
    assert ended == (None if ending == "succeeded" else "Sync 1 failed: The key was refused.")


# Mapping


def test_a_valid_mapping_is_counted_and_its_oddities_named(orcost: Orcost, folder: Path) -> None:
    (folder / "company_mapping.csv").write_text(
        "company,match,pattern,account,share\nA,key_name,x*,,60\nB,key_name,x*,,40\nA,label,y,nobody,\nA,key_name,*,,\n"
        "C,key_name,z,,\n"
    )
    answer = orcost("map", "check")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[:3] == [
        "company_mapping.csv is valid: 4 rules, 3 companies.",
        '  warning, line 4: account "nobody" is not configured.',
        "  warning, line 6: key_name:z never wins: key_name:* on line 5 comes first.",
    ]


def test_a_wrong_mapping_is_refused_with_all_its_mistakes(
    orcost: Orcost, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCOST_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    (folder / "new.csv").write_text("company,match,pattern,share\nA,key_nam,x,\nB,key_name,y,99.99\n")
    answer = orcost("map", "check", "new.csv")
    assert (answer.code, answer.out) == (1, "")
    assert [line[:9] for line in answer.err.splitlines()] == ["new.csv w", "  line 2:", "  line 3:"]
    assert "is not there" in orcost("map", "check", "none.csv").err


SHARED = hash_of("shared")


@pytest.mark.parametrize("key", ["shared", SHARED, SHARED[:6], "shared (old)"])
def test_explain_says_who_owns_a_key_and_why(orcost: Orcost, truth: Truth, key: str) -> None:
    told = json.loads(orcost("map", "explain", key, "--at", "2026-11-21", "--format", "json").out)
    assert told == {
        "account": "acme",
        "key_hash": SHARED,
        "key_name": "shared",
        "name_at": "shared",
        "at": "2026-11-21",
        "company": None,
        "shares": [{"company": "Company A", "share": "60"}, {"company": "Company B", "share": "40"}],
        "rule": "key_name:shar*",
        "line": 3,
        "considered": [
            {"rule": f"key_hash:{SHARED}", "line": 5, "reason": "until 2026-11-10"},
            {"rule": "workspace:Production", "line": 6, "reason": "later in the file"},
        ],
    }
    assert orcost("map", "explain", key).out == (
        f"shared ({SHARED[:8]}…, workspace Production) on 2026-11-23: Company A 60 %, Company B 40 %\n"
        "  by         line 3  key_name   shar*       from 2026-11-10\n"
        f"  not valid  line 5  key_hash   {SHARED[:8]}…   (until 2026-11-10)\n"
        "  beaten     line 6  workspace  Production  (later in the file)\n"
    )


def test_explain_knows_the_rule_and_the_name_of_a_past_day(orcost: Orcost, truth: Truth) -> None:
    told = json.loads(orcost("map", "explain", "shared", "--at", "2026-11-02", "--format", "json").out)
    assert (told["company"], told["shares"]) == ("Company B", [{"company": "Company B", "share": "100"}])
    assert (told["rule"], told["line"]) == (f"key_hash:{SHARED}", 5)
    text = orcost("map", "explain", "shared", "--at", "2026-11-02").out
    assert text.startswith(
        f"shared (old) ({SHARED[:8]}…, workspace Production, today shared) on 2026-11-02: Company B\n"
    )


def test_a_key_without_a_rule_is_unattributed(orcost: Orcost, truth: Truth) -> None:
    told = json.loads(orcost("map", "explain", "orphan", "--format", "json").out)
    assert (told["company"], told["rule"], told["line"]) == ("Unattributed", None, None)
    assert told["shares"] == [{"company": "Unattributed", "share": "100"}]
    assert orcost("map", "explain", "orphan").out.endswith("on 2026-11-23: Unattributed\n  no rule matches\n")


def test_an_ambiguous_or_unknown_key_is_an_error_that_helps(orcost: Orcost, truth: Truth, engine: sa.Engine) -> None:
    unknown = orcost("map", "explain", "shraed")
    assert unknown.code == 1
    assert unknown.err.endswith('Near: "shared".\n')
    do(engine, "update core.api_key_version set name = 'twin' where name in ('alpha', 'beta')")
    ambiguous = orcost("map", "explain", "twin")
    assert ambiguous.code == 1
    assert hash_of("alpha") in ambiguous.err
    assert hash_of("beta") in ambiguous.err
    assert orcost("map", "explain", SHARED[:5]).code == 1, "a prefix has 6 digits or more"


# The process


def test_the_command_line_is_there_at_once() -> None:
    code = (
        "import sys, orcost_pipeline.cli; "
        "print({'dagster', 'pandas', 'sqlalchemy', 'rich', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_help_lists_the_commands(orcost: Orcost) -> None:
    text = orcost("--help").out
    assert {"report", "status", "doctor", "sync", "up", "demo", "resync", "map", "db"} <= set(text.split())
    wrong = orcost("reprot")
    assert wrong.code == 2
    assert "Did you mean 'report', 'export'?" in wrong.err


@pytest.mark.parametrize("group", [[], ["map"], ["db"]])
def test_help_says_in_one_line_what_each_command_does(orcost: Orcost, group: list[str]) -> None:
    told = orcost(*group, "--help").out
    assert "Commands:" in told
    assert "..." not in told.split("Commands:")[1]


@pytest.mark.slow
def test_a_closed_pipe_is_no_failure(orcost: Orcost, truth: Truth) -> None:
    script = f"{sys.executable} -c 'from orcost_pipeline.cli import main; main()' report --by key --format csv | true"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert "Broken" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_embedded_postgres_is_found_from_a_subfolder_and_stopped(
    orcost: Orcost, monkeypatch: pytest.MonkeyPatch, reachable_folder: Path
) -> None:
    folder = reachable_folder
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ORCOST_DATABASE_URL")
    assert orcost("db", "stop").out == "The embedded Postgres was not running.\n"
    try:
        url = orcost("db", "start").out
        assert url.startswith("postgresql://")
        subfolder = folder / "sub"
        subfolder.mkdir()
        monkeypatch.chdir(subfolder)
        assert orcost("db", "url").out == url
        assert orcost("report").err == "No account was synced yet. Next: orcost sync\n"
        assert list(subfolder.iterdir()) == []
        assert orcost("db", "stop").out == "The embedded Postgres is stopped.\n"
    finally:
        EmbeddedPostgres(folder / ".orcost").stop()


def test_a_database_of_ones_own_is_not_ours_to_stop(orcost: Orcost, database_url: str) -> None:
    assert orcost("db", "url").out == f"{database_url}\n"
    answer = orcost("db", "stop")
    assert answer.code == 1
    assert "was not started by orcost" in answer.err


# Small print


@pytest.mark.parametrize(
    ("count", "text"),
    [("0", "0"), ("999", "999"), ("1234", "1.2 k"), ("999949", "999.9 k"), ("999950", "1.0 M"), ("5e9", "5.0 B")],
)
def test_tokens_are_humanised(count: str, text: str) -> None:
    assert formats.tokens(Decimal(count)) == text


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [
        ("112", "100", "+12 %"),
        ("97", "100", "−3 %"),
        ("100.1", "100", "0 %"),
        ("1", "0", "new"),
        ("0", "0", "–"),
        ("0", "4", "−100 %"),
        ("1", None, "–"),
    ],
)
def test_a_change_is_a_percentage_or_new_or_unknown(now: str, before: str | None, text: str) -> None:
    assert formats.change(Decimal(now), None if before is None else Decimal(before)) == text


def test_money_has_two_decimals_and_four_where_all_is_under_a_dollar() -> None:
    assert formats.money([Decimal("0.5"), Decimal("1204.545")])(Decimal("1204.545")) == "1,204.55"
    assert formats.money([Decimal("0.5"), Decimal("0.00004")])(Decimal("0.00005")) == "0.0001"
    assert formats.money([Decimal(0)])(Decimal(0)) == "0.00"
    assert formats.money([Decimal(-3)])(Decimal("-0.001")) == "0.00"
    assert formats.money([])(None) == "–"


@pytest.mark.parametrize("command", [("sync",), ("resync",)], ids=str)
def test_a_day_that_has_not_come_is_refused(orcost: Orcost, command: tuple[str, ...]) -> None:
    ended = orcost(*command, "--since", "2999-01-01")
    assert ended.code == 2
    assert "2999-01-01 has not come yet: today is 20" in ended.err
    ended = orcost(*command, "--since", "22.11.2026")
    assert "'22.11.2026' is not a UTC day such as 2026-11-22." in ended.err


def test_the_version_is_that_of_the_package(orcost: Orcost) -> None:
    assert orcost("--version").out == f"orcost {version('orcost_pipeline')}\n"
