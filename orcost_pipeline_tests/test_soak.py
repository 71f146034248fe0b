"""A short soak: five hours with a fault each, and every check of it."""

import shutil
import subprocess
import sys

import pytest

from orcost_pipeline_tests.processes import CHECKOUT

FAULTS = "401,run_worker,postgres,daemon,cut_json_200"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler")
def test_five_hours_with_faults_end_with_closed_books_and_each_message_sent_once() -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--faults", FAULTS]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == 7
    assert "All is well." in done.stdout
