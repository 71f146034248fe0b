"""The wheel outside the checkout, with the oldest Dagster that we promise to run with; all other tests run with the
newest, which the lock pins.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from orcost_pipeline_tests.processes import clean_environment

CHECKOUT = Path(__file__).parents[1]
WHAT_TOUCHES_DAGSTER = (
    *(
        "test_definitions.py",
        "test_assets.py",
        "test_asset_checks.py",
        "test_run_failures.py",
        "test_mapping_in_runs.py",
    ),
    *("test_several_accounts.py", "test_retries.py", "test_sync_requests.py", "test_dead_runs.py"),
    *("test_mapping_sensor.py", "test_webserver.py"),
)


def oldest() -> list[str]:
    """The lower bound of each Dagster package, pinned."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = (re.fullmatch(r"(dagster[\w-]*)>=([\d.]+),<.+", it) for it in project["dependencies"])
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]


@pytest.mark.slow
def test_the_wheel_runs_outside_the_checkout_with_the_oldest_dagster(tmp_path: Path) -> None:
    pinned = oldest()
    assert len(pinned) == 3
    environment, project = tmp_path / "environment", tmp_path / "project"
    project.mkdir()
    run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, CHECKOUT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[dev]", *pinned, cwd=tmp_path)
    told = run(environment / "bin" / "orcost", "demo", "--once", cwd=project)
    assert "Company A" in told
    assert "README" not in told
    tests = (CHECKOUT / "orcost_pipeline_tests" / name for name in WHAT_TOUCHES_DAGSTER)
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests, cwd=CHECKOUT)


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr
