"""A month lived through: usage, a plan that changes, the close, a restatement, and the next month's adjustment.

    make month

A simulated account over a Postgres of its own, on a clock that this program moves.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.billing.price_plans import read_price_plans
from orcost_pipeline.cli.billing import months
from orcost_pipeline.cli.rendering import cells, show, table
from orcost_pipeline.settings import Account, Settings, Source
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.warehouse.billing_files import load_plans
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.schema.upgrade import migrate
from orcost_pipeline_tests.billing_world import OCTOBER, Billed, billed

MAPPING = ("Company A,key_name,app", "Company B,key_name,web")
PLANS = """company,charge,value,model,valid_from,valid_to
Company A,markup_percent,20,,,2026-10-16
Company A,markup_percent,25,,2026-10-16,
Company B,prompt_usd_per_million,4,,,
Company B,completion_usd_per_million,12,,,
Company B,monthly_minimum_usd,50,,2026-10-01,
"""
CHARGED = (
    "select to_char(month, 'YYYY-MM') as month, company, credits_usd as cost, usage_usd as usage, "
    "minimum_usd as minimum, adjustments_usd as adjustments, total_usd as total, margin_usd as margin, status "
    "from marts.company_charge_monthly where company <> 'Unattributed' order by month, company"
)
ADJUSTED = (
    "select company, to_char(month, 'YYYY-MM') as month, to_char(booked_month, 'YYYY-MM') as booked, "
    "credits_usd as cost, amount_usd as amount, reason from ops.adjustment order by booked_month, company"
)
STATEMENT = (
    "select line, kind, key_name as key, model, to_char(adjusted_month, 'YYYY-MM') as adjusts, amount, currency "
    "from marts.statement where company = 'Company A' and month = '2026-11-01' order by line"
)


@contextlib.contextmanager
def account() -> Iterator[tuple[Billed, Settings]]:
    """Two companies with a key each, used on some days of October; synced on November 3."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        postgres = EmbeddedPostgres(Path(folder))
        try:
            url = postgres.start()
            engine = connect(url)
            migrate(engine)
            world = billed(engine, mapping=MAPPING)
            for day in (2, 9, 20, 28):
                world.spend("app", f"2026-10-{day:02}", "40", model=CLAUDE, requests=900, prompt=4_000_000)
                world.spend("web", f"2026-10-{day:02}", "6", model=GPT, requests=300, prompt=2_000_000)
            world.spend("app", "2026-11-02", "10", model=CLAUDE, requests=200, prompt=1_000_000)
            yield world, settings_of(Path(folder), url)
            engine.dispose()
        finally:
            postgres.stop()


def settings_of(folder: Path, url: str) -> Settings:
    key = Account(
        name="acme", api_key_env="OPENROUTER_API_KEY", api_key=None, base_url="https://openrouter.test/api/v1"
    )
    return Settings(
        folder=folder,
        home=folder,
        mapping=Source("mapping", folder / "company_mapping.csv"),
        database_url=SecretStr(url),
        accounts=(key,),
        config_file=folder / "orcost.toml",
    )


def print_rows(world: Billed, question: str) -> None:
    """The rows of a question as a table; amounts with two decimals."""
    with world.engine.connect() as connection:
        answer = connection.execute(sa.text(question))
        names, rows = list(answer.keys()), answer.all()
    amounts = {"cost", "usage", "minimum", "adjustments", "total", "margin", "amount", "exact"}
    drawn = table(*names, right=sorted(amounts))
    for row in rows:
        drawn.add_row(*cells(*(_cell(value, name in amounts) for name, value in zip(names, row, strict=True))))
    show(drawn)


def _cell(value: Any, is_amount: bool) -> str:
    return "–" if value is None else f"{value:,.2f}" if is_amount else f"{value}"


def main() -> None:
    with account() as (world, settings):
        print("# price_plans.csv: Company A pays a fifth on top, from October 16 on a quarter")
        print(PLANS)
        plans = read_price_plans(PLANS.encode(), "price_plans.csv")
        load_plans(world.engine, plans.rows, source=plans.source, sha256=plans.sha256, now=world.now)
        world.sync()
        print(f"$ orcost close 2026-10    # {world.now:%B %-d}")
        months.close(settings, OCTOBER, None, world.now, accepts_open=False, with_earlier=False)
        world.now = datetime.fromisoformat("2026-11-12T12:20+00:00")
        world.ledger.restate("acme", date(2026, 10, 28), world.keys["app"], CLAUDE, factor=Decimal(2))
        world.sync()
        print("\n# OpenRouter restates October 28: the key app of Company A cost twice as much")
        print("$ select … from ops.adjustment")
        print_rows(world, ADJUSTED)
        print("\n$ select … from marts.company_charge_monthly    # October is as it was closed")
        print_rows(world, CHARGED)
        print("\n$ select … from marts.statement    # of Company A, November")
        print_rows(world, STATEMENT)


if __name__ == "__main__":
    main()
