"""How the books stay closed when a key is deleted, a day restated, two days are missed: reconciled before and after.

    make books

A simulated account over a Postgres of its own, hour by hour, on a clock that this program moves.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

from pydantic import SecretStr

from orcost_pipeline.cli.reconcile import reconcile
from orcost_pipeline.project_file import Source
from orcost_pipeline.settings import Settings
from orcost_pipeline.simulator import Ledger, Options
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.warehouse.database import connect
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres
from orcost_pipeline.warehouse.schema.upgrade import migrate
from orcost_pipeline_tests.world import DAY, HOUR, World, usage

MONDAY = datetime(2026, 11, 16, 8, 5, tzinfo=UTC)
DAYS_SHOWN = 5


@contextlib.contextmanager
def account() -> Iterator[tuple[World, Settings]]:
    """Two companies, a key each, in use every hour from Monday on; what deleted keys used is told by name only."""
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(100))
    for name, amount, days in (("Company A", "0.10", 7), ("Company B", "0.05", 3)):
        key = ledger.add_key("acme", name, MONDAY - DAY)
        for hour in range(days * 24):
            ledger.spend("acme", MONDAY + hour * HOUR - HOUR / 2, key, GPT, usage(amount))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        postgres = EmbeddedPostgres(Path(folder))
        try:
            url = postgres.start()
            engine = connect(url)
            migrate(engine)
            options = Options(deleted_by_hash="empty", deleted_activity="empty")
            settings = Settings(
                folder=Path(folder),
                home=Path(folder),
                mapping=Source("mapping", Path(folder) / "company_mapping.csv"),
                database_url=SecretStr(url),
                accounts=(),
                config_file=Path(folder) / "orcost.toml",
            )
            yield World(engine, ledger, now=MONDAY, options=options), settings
            engine.dispose()
        finally:
            postgres.stop()


def show(world: World, settings: Settings) -> None:
    """What `orcost reconcile` prints, of the last days."""
    lines = printed(world, settings, None)
    end = lines.index("", 1)
    print("\n".join([lines[0], "…", *lines[end - DAYS_SHOWN : end]]))


def printed(world: World, settings: Settings, day: date | None) -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        reconcile(settings, None, day, "table", world.now)
    return [line.rstrip() for line in output.getvalue().splitlines()]


def hourly(world: World, until: datetime) -> None:
    while world.now < until:
        world.later(hours=1).sync()


def main() -> None:
    with account() as (world, settings):
        world.sync()
        hourly(world, MONDAY + 3 * DAY)
        print(f"$ orcost reconcile    # {world.now:%A %H:%M}, synced every hour")
        show(world, settings)
        happens(world)
        world.later(days=2, hours=2).sync()
        print(f"\n$ orcost reconcile    # {world.now:%A %H:%M}, after one sync")
        show(world, settings)
        tuesday = (MONDAY + DAY).date()
        print(f"\n$ orcost reconcile --day {tuesday}")
        details = printed(world, settings, tuesday)
        print("\n".join(["…", *details[details.index("Restated") : -3]]))


def happens(world: World) -> None:
    """While nobody syncs: B's key is used and deleted, a night's key comes and goes, and Tuesday is restated."""
    ledger, now = world.ledger, world.now
    first, second = ledger.accounts["acme"].keys
    ledger.spend("acme", now + 10 * HOUR, second, CLAUDE, usage("1.25"))
    ledger.delete("acme", second, now + 12 * HOUR)
    night = ledger.add_key("acme", "one night", now + 20 * HOUR)
    ledger.spend("acme", now + 21 * HOUR, night, GPT, usage("0.75"))
    ledger.delete("acme", night, now + 22 * HOUR)
    ledger.restate("acme", (MONDAY + DAY).date(), first, GPT, factor=Decimal("0.5"))


if __name__ == "__main__":
    main()
