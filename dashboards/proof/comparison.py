"""What the page showed, and what its charts were sent, against what they have to show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from dashboards.proof import figures
from dashboards.proof.figures import Chart, Row, Warehouse

NOT_KNOWN, NO_FIGURE = "N/A", "No data"  # what Superset writes in a cell, and instead of a large figure


@dataclass
class Compared:
    """How many figures were equal, and which were not."""

    name: str
    charts: int = 0
    shown: int = 0
    sent: int = 0
    differences: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line for people."""
        shown = f"{self.charts} charts, {self.shown} values as shown, " if self.charts else ""
        return f"{self.name}: {shown}{self.sent} values as sent, {len(self.differences)} differences"

    def shows(self, title: str, shown: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]) -> None:
        """Counts the cells of rows in any order; equal spend leaves the order open."""
        self.shown += sum(map(len, expected))
        if sorted(map(_plain, shown)) != sorted(map(_plain, expected)):
            self.differences.append(f"{self.name}: {title}: shows {shown}, not {expected}")

    def was_sent(self, title: str, columns: Sequence[str], sent: Sequence[Row], expected: Sequence[Row]) -> None:
        """Counts the values of rows in any order."""
        self.sent += len(columns) * len(expected)
        got, wanted = (sorted(_values(row, columns) for row in rows) for rows in (sent, expected))
        if len(got) != len(wanted) or not all(map(_equal, got, wanted)):
            self.differences.append(f"{self.name}: {title}: was sent {got}, not {wanted}")


def compare(look: Row, expected: dict[str, Chart]) -> Compared:
    """Every chart of a look at the page."""
    compared = Compared(look["state"])
    shown = {chart["title"]: chart for chart in look["charts"]}
    if shown.keys() != expected.keys():
        compared.differences.append(f"The charts are {sorted(shown)}, not {sorted(expected)}")
    for title in shown.keys() & expected.keys():
        compared.charts += 1
        _compare_chart(compared, title, shown[title], expected[title])
    return compared


def compare_drill(warehouse: Warehouse, month: tuple[date, date], models: list[Row]) -> Compared:
    """From Company B's shared gateway to its models."""
    compared = Compared("drilled from a key to its models")
    chosen = figures.spend_of(warehouse, *month, "Company B", "Shared gateway")
    sums = figures.sums_by(chosen, ["model"], lambda row: row["usd"])
    expected = [{"model": group[0], "total_usd": usd} for group, usd in sums.items()]
    compared.was_sent("models", ["model", "total_usd"], models, expected)
    return compared


def _compare_chart(compared: Compared, title: str, shown: Row, chart: Chart) -> None:
    # A chart that the last choice does not concern was sent nothing anew, and stays as it is.
    if shown["sent"] is not None:
        compared.was_sent(title, list(chart.columns), shown["sent"][0], chart.rows)
    if not chart.has_text:
        return
    rows = [[_written(row[name], how) for name, how in chart.columns.items()] for row in chart.rows]
    if shown["is_figure"]:
        compared.shows(title, [[shown["figure"]]], [[NO_FIGURE if rows == [[NOT_KNOWN]] else rows[0][0]]])
        return
    compared.shows(title, shown["rows"], rows)
    if chart.totals is not None:
        numbers = [_written(chart.totals[name], how) for name, how in chart.columns.items() if name in chart.totals]
        compared.shows(f"{title}: total", [cells[-len(numbers) :] for cells in shown["totals"]], [numbers])


def _written(value: Any, how: str | None) -> str:
    if value is None:
        return NOT_KNOWN
    if how is None:
        return str(value)
    # A browser has doubles only; the difference is beyond what is shown.
    return value.strftime(how) if isinstance(value, date) else format(float(value), how)


def _plain(cells: Sequence[str]) -> list[str]:
    return [cell.replace("\N{MINUS SIGN}", "-").replace("-0.00", "0.00") for cell in cells]


def _values(row: Row, columns: Sequence[str]) -> list[tuple[str, float]]:
    """Comparable and sortable: text, or a number."""
    return [_value(row.get(name)) for name in columns]


def _value(value: Any) -> tuple[str, float]:
    match value:
        case None:
            return "–", 0.0
        case str():
            return value, 0.0
        case datetime():
            return "", value.replace(microsecond=0).timestamp() * 1000
        case date():
            return "", datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp() * 1000
        case _:
            return "", float(value)


def _equal(got: list[tuple[str, float]], wanted: list[tuple[str, float]]) -> bool:
    return all(
        one[0] == other[0] and math.isclose(one[1], other[1], rel_tol=1e-12, abs_tol=1e-9)
        for one, other in zip(got, wanted, strict=True)
    )
