"""The oldest Dagster that we promise to run with; the lock pins the newest, which all other tests run with."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
WHAT_TOUCHES_DAGSTER = ("test_definitions.py", "test_runs.py", "test_webserver.py")


def oldest() -> list[str]:
    """The lower bound of each Dagster package, pinned."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = (re.fullmatch(r"(dagster[\w-]*)>=([\d.]+),<.+", it) for it in project["dependencies"])
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]


@pytest.mark.slow
def test_the_oldest_dagster_runs_everything_too(tmp_path: Path) -> None:
    pinned = oldest()
    assert len(pinned) == 3
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    python = tmp_path / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--editable", f"{CHECKOUT}[dev]", *pinned], check=True)
    tests = (CHECKOUT / "orcost_pipeline_tests" / name for name in WHAT_TOUCHES_DAGSTER)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
