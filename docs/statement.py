"""The picture of a statement of a small customer, as its page shows it: docs/statement.png.

    python -m docs.statement [FOLDER]

Needs Chromium. With FOLDER, page, CSV and JSON of the statement are kept there, and those of a large customer.
"""

import subprocess
import sys
import tempfile
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from orcost_pipeline.billing.closing import ACCEPTABLE, close_month
from orcost_pipeline.cli.billing.documents import documents
from orcost_pipeline.project_file import BillingConfig
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, MISTRAL
from orcost_pipeline.warehouse.company_list import publish_companies
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.schema.upgrade import migrate
from orcost_pipeline_tests.billing_world import IN_NOVEMBER, NOVEMBER, OCTOBER, Billed, billed
from orcost_pipeline_tests.world import DAY

PICTURE = Path(__file__).with_name("statement.png")
COMPANY, LARGE = "Company A", "Company B"
IN_DECEMBER = IN_NOVEMBER + timedelta(days=30)
KEYS = {"Company A Production": (GPT, CLAUDE, MISTRAL), "Company A Assistant": (CLAUDE, GPT), "Company A Batch": (GPT,)}


def statements(world: Billed, folder: Path) -> None:
    """Writes the statements of a small customer, closed, and of a large one, open."""
    for number, (name, models) in enumerate(KEYS.items(), start=1):
        world.keys[name] = world.ledger.add_key("acme", name, IN_NOVEMBER - 200 * DAY)
        for place, model in enumerate(models, start=1):
            for day in range(3, 28, 4):
                usd = Decimal("17.3129") / number / place + Decimal(day) / 7
                tokens = 41_000 * day // number
                for month in ("10", "11"):
                    world.spend(
                        *(name, f"2026-{month}-{day:02}", f"{usd:.6f}"),
                        model=model,
                        requests=31 * day,
                        prompt=tokens,
                        completion=2_903 * day,
                    )
    for number in range(60):
        name = f"Company B service {number:02}"
        world.keys[name] = world.ledger.add_key("acme", name, IN_NOVEMBER - 200 * DAY)
        for place, model in enumerate((GPT, CLAUDE, MISTRAL, "openai/gpt-5-mini", "x/y")[: 1 + number % 5], start=1):
            world.spend(name, "2026-11-05", f"{Decimal(91) / place + number}", model=model, prompt=7_000_000 + number)
    world.map("Company A,key_name,Company A *,,,", "Company B,key_name,Company B *,,,")
    world.plans("*,markup_percent,12.5", "Company A,monthly_fee_usd,49,,2026-10-01")
    listed = ("display_name", "external_id", "currency")
    rows = [(COMPANY, "Company A GmbH", "C-10042", "EUR"), (LARGE, None, None, None)]
    publish_companies(world.engine, listed, rows)
    world.rate("2026-10-30", "EUR", "0.9187")
    world.rate("2026-11-30", "EUR", "0.9214")
    world.sync()
    close(world, OCTOBER)
    world.later(days=1)
    world.plans("*,markup_percent,15", "Company A,monthly_fee_usd,49,,2026-10-01")
    world.now = IN_DECEMBER
    world.sync()
    large = documents(world.statement(LARGE, NOVEMBER), BillingConfig())
    close(world, NOVEMBER)
    for name, made in (("small", world.statement(COMPANY, NOVEMBER).documents), ("large", large)):
        assert made is not None
        for form, text in made._asdict().items():
            (folder / f"{name}.{form}").write_text(text, encoding="utf-8", newline="")


def close(world: Billed, month: date) -> None:
    """As `orcost close` does, without cost on the statements."""
    close_month(
        world.engine,
        month,
        None,
        accepts=ACCEPTABLE,
        configured=["acme"],
        render=lambda it: documents(it, BillingConfig(show_cost=False, issuer="Example Ltd")),
        now=world.now,
    )


def photograph(page: Path, picture: Path, size: str = "920,980") -> None:
    """What Chromium shows of a page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        subprocess.run(
            [
                *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
                *(f"--user-data-dir={profile}", f"--screenshot={picture}", f"--window-size={size}", page.as_uri()),
            ],
            check=True,
            capture_output=True,
        )


def main() -> None:
    """Makes the picture."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        Path(home).chmod(0o755)
        folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else Path(home)
        folder.mkdir(parents=True, exist_ok=True)
        postgres = EmbeddedPostgres(Path(home))
        try:
            engine = connect(postgres.start())
            migrate(engine)
            statements(billed(engine), folder)
            engine.dispose()
        finally:
            postgres.stop()
        photograph(folder / "small.html", PICTURE)


if __name__ == "__main__":
    main()
