"""The programs of the extra `celery`: those of this environment, or of one that is made below `.venv`."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from orcost_pipeline_tests.processes import CHECKOUT

OWN = CHECKOUT / ".venv" / "celery"
LOCK = CHECKOUT / "deploy" / "celery" / "requirements.lock"


def programs() -> Path | None:
    """The folder with `celery`, `dagster` and `dagster-daemon`; None where the extra is not installed."""
    if find_spec("dagster_celery"):
        return Path(sys.executable).parent
    # pip writes it last.
    return OWN / "bin" if (OWN / "bin" / "orcost").is_file() else None


def installed_programs() -> Path:
    """The same, installed first where they are not there."""
    if found := programs():
        return found
    print(f"Installing {LOCK.relative_to(CHECKOUT)} into {OWN.relative_to(CHECKOUT)} ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", OWN], check=True)
    pip = [OWN / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "--requirement", LOCK], check=True)
    subprocess.run([*pip, "--no-build-isolation", "--no-deps", "--editable", CHECKOUT], check=True)
    return OWN / "bin"
