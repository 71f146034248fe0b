"""The environment of its own in which dlt is installed: the package shares no dependency with it."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DLT = "dlt[postgres]==1.31.0"


@contextmanager
def python_with_dlt(kept: Path | None) -> Iterator[Path]:
    """The interpreter of an environment with dlt, below `kept`; in a temporary folder, gone afterwards, without it."""
    if kept is not None:
        yield _installed(kept.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="orcost-bench-dlt-") as folder:
        yield _installed(Path(folder))


def _installed(folder: Path) -> Path:
    """Installs what is missing; pip is asked each time, so that a kept environment has the version that is measured."""
    python = folder / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", DLT], check=True)
    return python
