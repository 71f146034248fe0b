"""Validates exports of FOCUS: 1.2 with FOCUS's own validator, 1.4 with the linter of focus-data-toolkit.

    .venv/bin/python -m docs.focus focus-1.2.csv focus-1.4.csv

Both need Python 3.12 and libraries that conflict with ours. Each has an environment of its own, made when it is first
needed under ~/.cache/orcost (650 MB). Exits 1 for a failure that is not a known one.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ENVIRONMENTS = Path.home() / ".cache" / "orcost"
VALIDATOR = ("focus-validator==2.2.1", "pyarrow<26")
TOOLKIT = ("focus-data-toolkit==0.14.1",)

RULES = "1.2.0.1"
# What OpenRouter and orcost have, so that the columns of it must be there. Not among them: unit prices and a public
# price list, for one amount is reported for all kinds of tokens.
SUPPORTED = (
    "ACCOUNT_NAMING_SUPPORTED",
    "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED",
    "MULTIPLE_PRICING_CATEGORIES_SUPPORTED",
    "MULTIPLE_SUB_ACCOUNT_TYPES_SUPPORTED",
    "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED",
    "SUB_ACCOUNT_SUPPORTED",
    "USAGE_MEASUREMENT_SUPPORTED",
)
# Rules that fail although the data is as it should be, and why.
KNOWN_FAILURES = {
    r"CostAndUsage-D-033-O|InvoiceId-C-00\d-[OMC]": "InvoiceId is recommended only, and OpenRouter invoices purchases "
    "of credits, not usage. Where the column is there, and null, InvoiceId-C-005-C fails instead.",
    r"(ResourceName|SubAccountId|SubAccountName)-C-00[02]-[MC]": "They accept ASCII only, where the specification asks "
    "for names as they were given.",
    r"ConsumedQuantity-C-00[03456]-C": "They read CommitmentDiscountStatus, a column for commitment discounts, which "
    "OpenRouter does not have. ConsumedQuantity is never null.",
}
_RESULT = re.compile(r"^\S+ (\S+): (PASS|FAIL|SKIPPED) ", re.MULTILINE)


class Verdict(NamedTuple):
    """What a validator says of a file: a summary, and the failures that are not known ones."""

    summary: str
    failures: tuple[str, ...]


def validate_1_2(file: Path) -> Verdict:
    """The verdict of focus-validator, from its output: it exits with 0 whatever fails."""
    environment = _environment("focus-validator", VALIDATOR)
    # It looks for its list of currencies below the current folder.
    (packages,) = environment.glob("lib/python*/site-packages")
    command = (
        *(environment / "bin" / "focus-validator", "--data-file", file.resolve(), "--validate-version", RULES),
        *("--block-download", "--focus-dataset", "CostAndUsage"),
        *("--applicability-criteria", ",".join(SUPPORTED)),
    )
    told = subprocess.run(command, cwd=packages, capture_output=True, text=True)
    results = dict(_RESULT.findall(told.stdout))
    if told.returncode or not results:
        return Verdict("focus-validator did not run", (told.stderr.strip(),))
    counts = Counter(results.values())
    failed = [rule for rule, result in results.items() if result == "FAIL"]
    unknown = tuple(rule for rule in failed if not any(re.fullmatch(known, rule) for known in KNOWN_FAILURES))
    summary = (
        f"FOCUS {RULES}, {VALIDATOR[0]}: {counts['PASS']} rules pass, {len(failed)} fail, "
        f"{len(failed) - len(unknown)} of them known, {counts['SKIPPED']} are not applicable or not tested"
    )
    return Verdict(summary, unknown)


def validate_1_4(file: Path) -> Verdict:
    """The verdict of focus-data-toolkit: a structural and semantic linter, for no official validator knows 1.4."""
    environment = _environment("focus-data-toolkit", TOOLKIT)
    command = (
        *(environment / "bin" / "focus-toolkit", "validate", "--dataset", "cost-and-usage"),
        *("--supports", "SupportsMultiplePricingCategories", file.resolve()),
    )
    told = subprocess.run(command, capture_output=True, text=True)
    output = (told.stdout + told.stderr).strip()
    summary = f"FOCUS 1.4, {TOOLKIT[0]}: {output.splitlines()[0].removeprefix(f'{file.resolve()}: ')}"
    return Verdict(summary, (output,) if told.returncode else ())


def _environment(name: str, requirements: tuple[str, ...]) -> Path:
    """A virtual environment with these packages, made where it is not there."""
    environment, marker = ENVIRONMENTS / name, ENVIRONMENTS / name / "requirements.txt"
    wanted = "\n".join(requirements)
    if not marker.exists() or marker.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([_python(), "-m", "venv", environment], check=True)
        pip = (environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        subprocess.run([*pip, *requirements], check=True)
        marker.write_text(wanted, encoding="utf-8")
    return environment


def _python() -> str:
    """A Python that is new enough; raises SystemExit where there is none."""
    is_new = "import sys; sys.exit(sys.version_info < (3, 12))"
    for python in _pythons():
        if subprocess.run([python, "-c", is_new], capture_output=True).returncode == 0:
            return python
    raise SystemExit("The validators of FOCUS need Python 3.12 or newer, and there is none.")


def _pythons() -> Iterator[str]:
    yield sys.executable
    yield from filter(None, map(shutil.which, ("python3.12", "python3.13", "python3")))
    yield from map(str, sorted(Path.home().glob(".pyenv/versions/3.1[23]*/bin/python")))


def main() -> None:
    _, older, newer = sys.argv
    verdicts = validate_1_2(Path(older)), validate_1_4(Path(newer))
    for verdict in verdicts:
        print("\n  ".join((verdict.summary, *verdict.failures)))
    sys.exit(any(verdict.failures for verdict in verdicts))


if __name__ == "__main__":
    main()
