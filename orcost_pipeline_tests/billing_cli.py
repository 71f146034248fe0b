"""The commands of billing over an account whose companies are charged: fixtures of both."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from orcost_pipeline import cli
from orcost_pipeline.billing.price_plans import read_price_plans
from orcost_pipeline.warehouse.billing_files import load_plans
from orcost_pipeline_tests.billing_world import Billed, billed

ACCOUNT = '[[accounts]]\nname = "acme"\napi_key_env = "OPENROUTER_API_KEY"\n'
HIDDEN = "[billing]\nshow_cost = false\n"


@dataclass
class Outcome:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str


Orcost = Callable[..., Outcome]


@pytest.fixture
def world(engine: sa.Engine) -> Billed:
    """Companies A and B, each with a key used in October; not synced yet."""
    made = billed(engine)
    made.spend("app", "2026-10-05", "10.005", "0.333")
    made.spend("web", "2026-10-07", "4")
    return made


@pytest.fixture
def orcost(
    world: Billed,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Orcost:
    """Runs a command in this process, at the world's time, in a project folder that becomes the current one."""
    (tmp_path / "orcost.toml").write_text(ACCOUNT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCOST_DATABASE_URL", database_url)

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            cli.main(arguments, lambda: world.now)
        code = ending.value.code
        return Outcome(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


def load_file(world: Billed, file: Path) -> None:
    """Brings a file of price plans into force and publishes by it, as a sync does."""
    plans = read_price_plans(file.read_bytes(), file.name)
    load_plans(world.engine, plans.rows, source=plans.source, sha256=plans.sha256, now=world.now)
    world.publish()
