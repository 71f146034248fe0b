"""Clients that are not Python keep amounts decimal: DuckDB, pandas, Arrow, ODBC. The examples of docs/ are run."""

import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from orcost_pipeline.simulator import small
from orcost_pipeline_tests.processes import clean_environment
from orcost_pipeline_tests.world import NOON, World

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
pytestmark = pytest.mark.slow
ODBC = """
import sys
import pyodbc
cursor = pyodbc.connect(sys.argv[1]).cursor()
cursor.execute("select total_usd from marts.spend_daily")
((_, kind, _, _, precision, scale, _),) = cursor.description
print("total", sum(row[0] for row in cursor.fetchall()), f"{kind.__name__}({precision},{scale})")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with the clients, in an environment of their own."""
    environment = tmp_path_factory.mktemp("clients")
    run(sys.executable, "-m", "venv", environment)
    run(environment / "bin" / "pip", "install", "--quiet", "-r", EXAMPLES / "requirements.txt")
    return environment / "bin" / "python"


@pytest.fixture
def total(engine: sa.Engine) -> Decimal:
    """USD of an account whose keys three companies share, to the last digit."""
    world = World(engine, small(NOON))
    world.map("A,key_name,Company A*,,,33.333", "B,key_name,Company A*,,,33.333", "C,key_name,Company A*,,,33.334")
    world.sync()
    return world.value("select sum(credits_usd + byok_usd) from core.spend_daily")


def run(*command: str | Path, cwd: Path = EXAMPLES, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=clean_environment() | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize(
    ("example", "kind"), [("with_duckdb.py", "DECIMAL(38,18)"), ("with_pandas.py", "decimal128(38, 18)[pyarrow]")]
)
def test_an_example_sums_amounts_to_the_last_digit(
    database_url: str, total: Decimal, python: Path, tmp_path: Path, example: str, kind: str
) -> None:
    told = run(python, EXAMPLES / example, cwd=tmp_path, ORCOST_DATABASE_URL=database_url)
    assert last_line(told) == (total, kind)


def test_odbc_sums_amounts_to_the_last_digit(database_url: str, total: Decimal, python: Path) -> None:
    if shutil.which("odbcinst") is None or "PostgreSQL Unicode" not in run("odbcinst", "-q", "-d"):
        pytest.skip("psqlODBC is not there: apt-get install odbc-postgresql unixodbc")
    url = sa.make_url(database_url)
    server = f"Server={url.host};Port={url.port};Database={url.database};Uid={url.username};Pwd={url.password}"
    told = run(python, "-c", ODBC, f"Driver={{PostgreSQL Unicode}};{server}")
    assert last_line(told) == (total, "Decimal(38,18)")


def test_psql_sums_amounts_to_the_last_digit(database_url: str, total: Decimal) -> None:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("psql is not there")
    told = run(psql, database_url, "-v", "ON_ERROR_STOP=1", "-At", "-f", EXAMPLES / "with_psql.sql")
    assert last_line(told) == (total, "numeric")


def last_line(told: str) -> tuple[Decimal, str]:
    """The total that an example prints at its end, and the type that its client has for it."""
    word, amount, kind = told.splitlines()[-1].split(maxsplit=2)
    assert word == "total"
    return Decimal(amount), kind
