"""`orcost doctor`: prints the examination's findings, worst first, each with what to do."""

from collections.abc import Callable
from datetime import datetime

import typer

from orcost_pipeline.cli.rendering import as_json, finding_lines, show
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.health.examination import examine
from orcost_pipeline.health.finding import Code, Finding, Severity, as_data, exit_code, worst_first
from orcost_pipeline.settings import load_settings
from orcost_pipeline.text import plural


def doctor(output: str, port: int, clock: Callable[[], datetime]) -> int:
    """Prints all findings, worst first, as `table` or `json`; returns 1 if one of them is an error, else 0."""
    now = clock()
    try:
        settings = load_settings()
    except (OrcostError, OSError) as error:
        todo = "Correct it, then: orcost doctor"
        found, checked = [Finding(Severity.ERROR, Code.SETTINGS, None, str(error), todo)], "settings"
    else:
        found = worst_first(examine(settings, port, clock))
        asked = plural(len(settings.accounts), "account")
        checked = f"settings, {asked} at OpenRouter, database, disk, mapping, data, port {port}"
    code = exit_code(found)
    if output == "json":
        typer.echo(as_json({"ok": code == 0, "findings": as_data(found)}))
    else:
        show(*finding_lines(found, now, f"All is well. Checked: {checked}."))
    return code
