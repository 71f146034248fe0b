"""`python -m dashboards.proof`: a demo's warehouse, a reader, Superset, Chromium, and every figure compared.

Exits 1 where a figure differs from the warehouse. Pictures go to the folder of `--pictures`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, timedelta
from pathlib import Path

import psycopg
import sqlalchemy as sa

from dashboards.proof import comparison, figures
from dashboards.proof.server import USER, VERSION, Superset, installed

ORCOST = Path(sys.executable).with_name("orcost")
BROWSER = Path(__file__).with_name("browser.py")
BUDGETS = "company,monthly_budget_usd\nCompany A,1200\nCompany B,630\nCompany C,250\n"
READER = "dashboard_reader"
# What docs/operations.md has a reader granted.
GRANTS = """
do $$ begin create role {reader} login; exception when duplicate_object then null; end $$;
alter role {reader} password '{password}';
grant usage on schema ref, core, marts, ops to {reader};
grant select on all tables in schema ref, core, marts, ops to {reader};
grant execute on all functions in schema core, marts, ops to {reader};
"""


def main() -> int:
    arguments = _arguments()
    venv = installed(arguments.venv)
    with tempfile.TemporaryDirectory(prefix="orcost-superset-") as name:
        folder = Path(name)
        with _demo(folder) as url:
            return prove(venv, folder, url, arguments.chromium, arguments.pictures or folder)


def prove(venv: Path, folder: Path, url: str, chromium: str, pictures: Path) -> int:
    """Packs, imports, opens, compares; returns 1 where anything differs."""
    bundle = folder / "orcost_superset.zip"
    reader = _reader(url)
    _orcost("dashboard", "pack", "--database-url", reader, "--with-password", "--output", str(bundle), cwd=folder)
    superset = Superset(venv, folder)
    print(f"Superset {VERSION}: metadata database, import of {bundle.name} ...")
    superset.prepare()
    superset.command("import-dashboards", "--path", str(bundle), "--username", USER)
    with superset.served() as address:
        print(f"Serving at {address}; Chromium opens the dashboard ...")
        arguments = [address, USER, superset.password, chromium, str(pictures)]
        used = subprocess.run([superset.python, BROWSER, *arguments], stdout=subprocess.PIPE, check=True)
    seen = json.loads(used.stdout)
    warehouse = figures.read(url)
    this_month = figures.month_of(warehouse.as_of.astimezone(UTC).date())
    last_month = figures.month_of(this_month[0] - timedelta(days=1))
    expected = [
        figures.charts(warehouse, *this_month),
        figures.charts(warehouse, *last_month),
        figures.charts(warehouse, *last_month),
        figures.charts(warehouse, *last_month, has_account=True),
        figures.charts(warehouse, *last_month, "Company B", has_account=True),
        figures.charts(warehouse, *last_month, "Company B", "Shared gateway", has_account=True),
    ]
    differences = [f"A chart failed: {failure}" for failure in seen["failures"]]
    for look, charts in zip(seen["looks"], expected, strict=True):
        compared = comparison.compare(look, charts)
        print(compared.summary())
        differences += compared.differences
    drilled = comparison.compare_drill(warehouse, last_month, seen["models"])
    print(drilled.summary())
    differences += drilled.differences
    print("\n".join(differences) or "Every figure equals the warehouse.")
    return 1 if differences else 0


@contextmanager
def _demo(folder: Path) -> Iterator[str]:
    """The warehouse of `orcost demo`, with budgets, plans and closed months, as long as the block lasts; its URL."""
    home = folder / ".orcost" / "demo"
    home.mkdir(parents=True)
    (home / "companies.csv").write_text(BUDGETS)
    (home / "price_plans.csv").write_text(_price_plans())
    print("A simulated account: orcost demo --once ...")
    # Postgres runs as another user where this is root.
    folder.chmod(0o755)
    _orcost("demo", "--once", cwd=folder)
    try:
        url = _orcost("db", "url", cwd=home).strip()
        print("Past months: orcost close ...")
        for month in _ended_months(url):
            _orcost("close", month, "--accept-open", cwd=home)
        yield url
    finally:
        _orcost("db", "stop", cwd=home)


def _price_plans() -> str:
    """The file of price plans."""
    rows = ((*plan[:3], plan.model or "") for plan in figures.PLANS)
    return "\n".join(",".join(map(str, row)) for row in (figures.Plan._fields, *rows)) + "\n"


def _ended_months(url: str) -> list[str]:
    """Those whose days are settled by now, as YYYY-MM, oldest first."""
    with psycopg.connect(url) as session:
        months = session.execute(
            "select distinct to_char(month, 'YYYY-MM') from marts.company_charge_monthly "
            "where month + interval '1 month 3 days' < now() at time zone 'UTC' order by 1"
        )
        return [month for (month,) in months]


def _orcost(*arguments: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORCOST_", "OPENROUTER_"))}
    done = subprocess.run([ORCOST, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"orcost {' '.join(arguments[:2])} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def _reader(url: str) -> str:
    """The URL of a login that only reads."""
    owner = sa.make_url(url)
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(GRANTS.format(reader=READER, password=owner.password).encode())
    return owner.set(username=READER).render_as_string(hide_password=False)


def _arguments() -> argparse.Namespace:
    default = os.environ.get("SUPERSET_VENV") or Path(tempfile.gettempdir()) / "orcost-superset-venv"
    parser = argparse.ArgumentParser(prog="python -m dashboards.proof", description=__doc__)
    parser.add_argument("--venv", type=Path, default=default, help="Superset's environment, made where it is missing")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--pictures", type=Path, help="folder for superset.png and superset_top.png")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
