"""The installed commands: an account that has every habit of the live service at once, and bad minutes of one."""

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orcost_pipeline.measures import tolerated_usd
from orcost_pipeline.simulator import Fault, Ledger, Options, Simulator, serve, small
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, LLAMA_FREE
from orcost_pipeline_tests.processes import Project, away_from_the_hour, clean_environment
from orcost_pipeline_tests.world import DAY, HOUR, usage

# Cut precision, a space in times, strings and numbers by turns, members refused, answers out of a cache, and most of
# the analytics calls of a minute used by somebody else.
LIVE = replace(
    Options.live(),
    mixed_counts=True,
    members_status=403,
    cache_seconds=60,
    has_cached_at=True,
    analytics_per_minute=64,
    analytics_used_by_others=44,
)
NINE: tuple[Any, ...] = ("503", "cut_body", "429", "html_200", "reset", "408", "garbled", "403_html", "cut_json_200")
COMPANIES = {"app": "Ada", "web": "Brahe", "batch": "Brahe", "odd": "Unattributed"}


@contextmanager
def project_of(ledger: Ledger, options: Options, engine: sa.Engine, folder: Path, url: str) -> Iterator[Project]:
    with serve(simulator := Simulator(ledger, options=options)) as base_url:
        environment = {
            **clean_environment(),
            "HOME": str(folder),
            "OPENROUTER_BASE_URL": base_url,
            "OPENROUTER_API_KEY": ledger.accounts["acme"].management_key,
            "ORCOST_DATABASE_URL": url,
        }
        yield Project(folder, engine, ledger, environment, simulator)


def busy(now: datetime) -> Ledger:
    """Four keys, two of one company and one of none, used in every third hour of 70 days; amounts of twelve digits."""
    ledger, dice = Ledger(), random.Random(14)
    ledger.add_account("acme", credits_bought=Decimal(5000))
    keys = [ledger.add_key("acme", name, now - 80 * DAY) for name in COMPANIES]
    for hours in range(2, 70 * 24, 3):
        model, amount = dice.choice((GPT, CLAUDE, LLAMA_FREE)), Decimal(dice.randrange(10**12)).scaleb(-12)
        spent = usage(amount, amount * 3 if hours % 5 else 0, requests=dice.randrange(1, 30))
        ledger.spend("acme", now - hours * HOUR, dice.choice(keys), model, spent)
    return ledger


@pytest.mark.slow
def test_an_account_with_all_live_habits_at_once_is_right_and_in_order(
    engine: sa.Engine, database_url: str, tmp_path: Path
) -> None:
    away_from_the_hour(300)
    now = datetime.now(UTC)
    rules = "".join(f"{company},key_name,{name}\n" for name, company in COMPANIES.items() if name != "odd")
    (tmp_path / "company_mapping.csv").write_text(f"company,match,pattern\n{rules}")
    with project_of(busy(now), LIVE, engine, tmp_path, database_url) as project:
        for command in (["init"], ["sync"], ["reconcile"], ["status"], ["doctor", "--port", "39998"]):
            ended = project.orcost(*command)
            assert ended.returncode == 0, (command, ended)
        assert project.rows("select * from marts.reconciliation_daily where status = 'open'") == []
        month = now.date().replace(day=1) - DAY
        assert_months_are_one(project, f"{month:%Y-%m}")
        assert_companies_are_true(project, now)


def assert_companies_are_true(project: Project, now: datetime) -> None:
    """By day and company: counts to the last one, ended days of activity's reach to the last digit, others rounded."""
    names = {key.hash: key.name for key in project.ledger.accounts["acme"].living_keys(now)}
    stored = project.rows(
        "select day, company, sum(credits_usd), sum(byok_usd), sum(requests), sum(prompt_tokens) "
        "from core.spend_daily group by 1, 2 having sum(requests) <> 0"
    )
    truth: dict[Any, Any] = {}
    for (day, key, _, _), cell in project.ledger.daily(
        "acme", (now - 80 * DAY).date(), now.date() + DAY, now=now
    ).items():
        place = (day, COMPANIES[names[key]])
        truth[place] = truth[place] + cell if place in truth else cell
    assert {row[:2] for row in stored} == set(truth)
    for day, company, credits_usd, byok_usd, requests, prompt_tokens in stored:
        true = truth[day, company]
        assert (requests, prompt_tokens) == (true.requests, true.prompt_tokens), (day, company)
        # A day settles two hours after its end.
        is_activity = now.date() - 30 * DAY <= day < (now - 2 * HOUR).date()
        cut = Decimal(0) if is_activity else tolerated_usd(requests, Decimal(0))
        assert 0 <= true.credits_usd - credits_usd <= cut, (day, company)
        assert 0 <= true.byok_usd - byok_usd <= cut, (day, company)


def assert_months_are_one(project: Project, month: str) -> None:
    """The monthly mart, the function of a span and the report tell one total for each company."""
    monthly = project.rows(
        "select company, sum(credits_usd) from marts.company_spend_monthly where to_char(month, 'YYYY-MM') = :month "
        "group by 1",
        month=month,
    )
    first = f"{month}-01T00:00:00Z"
    between = project.rows(
        "select company, sum(credits_usd) from marts.company_spend_between(:first, cast(:first as timestamptz) "
        "+ interval '1 month') group by 1",
        first=first,
    )
    report = json.loads(project.orcost("report", "--month", month, "--format", "json").stdout)
    told = {row["company"]: Decimal(row["credits_usd"]) for row in report}
    assert dict(monthly) == dict(between) == told
    assert set(told) == set(COMPANIES.values())


@pytest.mark.slow
def test_nine_different_faults_in_a_row_are_survived_by_one_sync(
    engine: sa.Engine, database_url: str, tmp_path: Path
) -> None:
    with project_of(small(datetime.now(UTC)), Options(), engine, tmp_path, database_url) as project:
        project.simulator.inject(*(Fault(kind, match="/credits") for kind in NINE))
        ended = project.orcost("sync")
        assert ended.returncode == 0, ended
        assert sum(asked.path == "/credits" for asked in project.simulator.requests) == 10
        assert project.orcost("status").returncode == 0


@pytest.mark.slow
def test_ninety_seconds_of_503_on_every_path_are_survived_by_one_sync(
    engine: sa.Engine, database_url: str, tmp_path: Path
) -> None:
    with project_of(small(datetime.now(UTC)), Options(), engine, tmp_path, database_url) as project:
        project.simulator.inject(Fault("503", times=None))
        recovery = threading.Timer(90, project.simulator.clear_faults)
        recovery.start()
        began = time.monotonic()
        ended = project.orcost("sync")
        recovery.cancel()
        assert ended.returncode == 0, ended
        assert 90 < time.monotonic() - began < 180
        assert project.orcost("status").returncode == 0
