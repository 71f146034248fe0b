"""The starter mapping of `orcost init`: no rules, only suggestions as comments."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from orcost_pipeline.cli.map.suggest import amounts, listed_companies, remark, rule_line
from orcost_pipeline.companies.mapping import REQUIRED_COLUMNS
from orcost_pipeline.companies.suggestion import Key, suggest
from orcost_pipeline.errors import OrcostError
from orcost_pipeline.settings import (
    Settings,
)
from orcost_pipeline.text import plural
from orcost_pipeline.warehouse.access import database_snapshot
from orcost_pipeline.warehouse.opening import NoWarehouseError
from orcost_pipeline.warehouse.questions.mapping import version_in_force
from orcost_pipeline.warehouse.schema.namespaces import schema_version

SUGGESTIONS = 200
COLUMNS_OF_STARTER = (*REQUIRED_COLUMNS, "valid_from", "valid_to", "share", "note")
STARTER = f"""\
{",".join(COLUMNS_OF_STARTER)}
## Who pays for which API key. The first line that matches a key wins; what no line matches is Unattributed.
## To use a suggestion, take away its "# " and put the right company first. In a key_name, * stands for any text.
## Is it right?  orcost map check
"""


def write_starter(settings: Settings, keys: Sequence[Key]) -> str:
    """Writes the starter mapping, unless there is a mapping; returns what was done. Raises OSError."""
    if settings.mapping.path.exists():
        return "kept"
    if _may_be_mapped(settings):
        return "not there and not made: a mapping is in force, which it would replace"
    starter = starter_mapping(keys, listed_companies(settings))
    settings.mapping.path.parent.mkdir(parents=True, exist_ok=True)
    with settings.mapping.path.open("x", encoding="utf-8") as file:
        file.write(starter.text)
    return f"a starter with {plural(starter.suggestions, 'suggestion')}, without effect until you edit it"


def _may_be_mapped(settings: Settings) -> bool:
    """Whether a mapping is in force; True where the warehouse cannot be read."""
    try:
        with database_snapshot(settings) as connection:
            return schema_version(connection) is not None and version_in_force(connection) is not None
    except NoWarehouseError:
        return False
    except OrcostError:
        return True


class Starter(NamedTuple):
    """A mapping without rules, and the number of suggestions in its comments."""

    text: str
    suggestions: int


def starter_mapping(keys: Sequence[Key], companies: Mapping[str, Sequence[str]] | None) -> Starter:
    """The suggestions of `orcost map suggest` for these keys, each as a comment, the largest usage first.

    `companies` are those of the list of companies, each with its other names; None where there is no list.
    """
    suggested = [(it, line) for it in suggest(keys, (), companies) if (line := rule_line(it, COLUMNS_OF_STARTER, ","))]
    shown = suggested[:SUGGESTIONS]
    lines = [f"## {remark(suggestion)}\n# {line}\n" for suggestion, line in shown]
    if more := len(suggested) - len(shown):
        lines.append(
            f"## {plural(more, 'suggestion')} of less usage not listed here: orcost sync, then: orcost map suggest\n"
        )
    guessed = {key for suggestion, _ in suggested for key in suggestion.keys}
    if left := [key for key in keys if key not in guessed]:
        lines.append(
            f"## No suggestion for {plural(len(left), 'key')} ({amounts(left)}): orcost sync, then: orcost map todo\n"
        )
    return Starter(STARTER + "".join(lines), len(shown))
