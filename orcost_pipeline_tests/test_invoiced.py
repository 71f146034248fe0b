"""Accounts that are billed by invoice have no credits, and lack none; prepaid ones that ran out do."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from orcost_pipeline.cli.status import status
from orcost_pipeline.health import openrouter
from orcost_pipeline.health.finding import Code
from orcost_pipeline.health.standing import read
from orcost_pipeline.health.stored import stored_findings
from orcost_pipeline.openrouter.api.requests import RequestOptions
from orcost_pipeline.project_file import AlertsConfig, Source
from orcost_pipeline.settings import Settings, load_settings
from orcost_pipeline.simulator import Ledger
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.world import DAY, HOUR, NOON, World, usage


def world_of(engine: sa.Engine, bought: str, used_hours_ago: float | None, usd: str = "60") -> World:
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(bought))
    key = ledger.add_key("acme", "app", NOON - 40 * DAY)
    if used_hours_ago is not None:
        ledger.spend("acme", NOON - used_hours_ago * HOUR, key, GPT, usage(usd))
    return World(engine, ledger)


def codes(world: World) -> set[Code]:
    settings = Settings.model_construct(
        accounts=[world.configured],
        mapping=Source("mapping", Path("company_mapping.csv")),
        alerts=AlertsConfig(unattributed_percent=Decimal(100)),
    )
    with world.engine.connect() as connection:
        stored = read(connection, settings, world.now)
    return {it.code for it in stored_findings(stored, settings, world.now)} & {Code.NO_CREDITS, Code.CREDITS_LOW}


CASES = [
    # Never bought any, and spends, or did, or never did.
    ("0", 2, set()),
    ("0", 72, set()),
    ("0", None, set()),
    # Bought some, spent more, and goes on.
    ("50", 2, set()),
    ("50", 72, {Code.NO_CREDITS}),
    ("60", 72, {Code.NO_CREDITS}),
    ("60", 2, set()),
    ("61", 2, {Code.CREDITS_LOW}),
    ("600", 2, set()),
]


@pytest.mark.parametrize(("bought", "used_hours_ago", "expected"), sampled(CASES, 5))
def test_credits_are_lacked_only_where_they_were_bought_and_nothing_is_spent_any_more(
    engine: sa.Engine, bought: str, used_hours_ago: float | None, expected: set[Code]
) -> None:
    world = world_of(engine, bought, used_hours_ago)
    world.sync()
    assert codes(world) == expected


@pytest.mark.parametrize(("bought", "used_hours_ago", "expected"), sampled(CASES, 4))
def test_what_openrouter_says_now_is_judged_alike_with_and_without_a_warehouse(
    engine: sa.Engine, bought: str, used_hours_ago: float | None, expected: set[Code]
) -> None:
    world = world_of(engine, bought, used_hours_ago)
    world.sync()
    transport = httpx.MockTransport(world.simulator.handle)
    answers = openrouter.ask_all([world.configured], lambda: world.now, options=RequestOptions(transport=transport))
    credit_codes = {Code.NO_CREDITS, Code.CREDITS_LOW}
    alone = {it.code for it in openrouter.openrouter_findings(answers["acme"], None, AlertsConfig())} & credit_codes
    # How long a balance lasts is known to the warehouse alone.
    assert alone == expected - {Code.CREDITS_LOW}
    settings = Settings.model_construct(
        accounts=[world.configured],
        mapping=Source("mapping", Path("company_mapping.csv")),
        alerts=AlertsConfig(unattributed_percent=Decimal(100)),
    )
    with engine.connect() as connection:
        stored = read(connection, settings, world.now)
    heard = openrouter.with_answers(stored, settings, answers)
    assert {it.code for it in stored_findings(heard, settings, world.now)} & credit_codes == expected


@pytest.fixture
def told(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What `orcost status` prints."""
    for name in ("OPENROUTER_API_KEY", "ORCOST_HOME", "ORCOST_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)

    def ask(output: str = "table") -> str:
        capsys.readouterr()
        status(load_settings(), output, NOON + timedelta(minutes=1))
        return capsys.readouterr().out

    return ask


@pytest.mark.parametrize(("bought", "shown"), sampled([("0", "–"), ("50", "–"), ("95", "35.00 (4 days)")], 1))
def test_the_balance_of_an_account_that_is_invoiced_is_not_shown(
    engine: sa.Engine, bought: str, shown: str, told: Callable[..., str]
) -> None:
    world_of(engine, bought, 2).sync()
    assert next(line for line in told().splitlines() if line.startswith("acme")).strip().endswith(shown)
    is_shown = shown != "–"
    assert ('"balance_usd": null' in told("json")) != is_shown
    assert ('"days_left": null' in told("json")) != is_shown
