"""The parts of the page of `orcost report --format html`: its tables and its chart, from the facts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from orcost_pipeline.cli.forecast import column_total
from orcost_pipeline.cli.report_facts import Facts, Line, sum_of
from orcost_pipeline.formats import UNKNOWN, change, key_name, money, rounded, share, short_hash, tokens
from orcost_pipeline.pages.charts import Chart, Slot, chart
from orcost_pipeline.pages.parts import Bar, Column, Kind, Row, Table, bar
from orcost_pipeline.text import plural, short
from orcost_pipeline.warehouse.questions.spend import UNATTRIBUTED, Grain
from orcost_pipeline.warehouse.questions.spend_by_time import TimeSpend
from orcost_pipeline.windows import DAY, HOUR, Window, day_start, floor, hour_floor, month_start

# Rows of a table; the rest is summed in one. Companies are never left out.
MOST_ROWS = 25
NOUNS = {"company": "company", "model": "model", "key": "API key", "creator": "creator", "workspace": "workspace"}
TITLES = {
    "company": "Companies",
    "model": "Models",
    "key": "API keys",
    "creator": "Creators of the API keys",
    "workspace": "Workspaces",
}
SPEND, BYOK = "OpenRouter", "BYOK"


# Tables


def tables(facts: Facts) -> Iterator[Table]:
    """The tables of the sections that have any lines; the forecast stands below the companies."""
    for by, lines in facts.lines.items():
        if lines and not (by == "company" and facts.answer.request.company is not None):
            yield _table(facts, by, lines)
        if by == "company" and facts.forecast:
            yield _forecast(facts)


def _table(facts: Facts, by: Grain, lines: Sequence[Line]) -> Table:
    shown = lines if by == "company" or len(lines) <= MOST_ROWS + 1 else lines[:MOST_ROWS]
    rest = [sum_of(lines[len(shown) :])] if len(shown) < len(lines) else []
    names, numbers = _names(facts, by), _numbers(facts, by, lines)
    longest = max(it.credits_usd + it.byok_usd for it in lines)

    def row(line: Line, kind: Kind, *cells: str) -> Row:
        blank = [""] * (len(names) - len(cells))
        drawn = "" if kind in ("total", "rest") else bar(line.credits_usd, line.byok_usd, longest)
        first, *others = (write(line) for write in numbers.values())
        return Row([*cells, *blank, first, drawn, *others], kind)

    columns = [*names, Column("Spend USD"), Column("", "bar"), *(Column(it) for it in list(numbers)[1:])]
    rows = [row(it, _kind(it.names.get("company")), *(write(it) for write in names.values())) for it in shown]
    rows += [row(it, "rest", plural(len(lines) - len(shown), f"more {NOUNS[by]}")) for it in rest]
    rows.append(row(sum_of(lines), "total", "Total"))
    has_byok = any(it.byok_usd for it in lines)
    return Table(
        TITLES[by], "USD; bars: spend, then BYOK in a lighter colour" if has_byok else "USD; bars: spend", columns, rows
    )


def _kind(company: str | None) -> Kind:
    return "nobody" if company == UNATTRIBUTED else ""


def _names(facts: Facts, by: Grain) -> dict[Column, Callable[[Line], str]]:
    """The columns that name the subject of a line."""
    if by != "key":
        return {Column(by.title(), "text"): lambda it: short(it.names[by] or "(not known)")}
    columns: dict[Column, Callable[[Line], str]] = {
        Column("API key", "text"): lambda it: key_name(it.names["key_name"], it.names["key_hash"]),
        Column("Hash", "muted"): lambda it: short_hash(it.names["key_hash"]),
    }
    if facts.answer.request.company is None:
        columns[Column("Company", "text")] = lambda it: short(it.names["company"])
    if len(facts.answer.accounts) > 1:
        columns[Column("Account", "text")] = lambda it: short(it.names["account"])
    return columns


def _numbers(facts: Facts, by: Grain, lines: Sequence[Line]) -> dict[str, Callable[[Line], str]]:
    """The columns with numbers, spend first; those of BYOK and of the span before only where there are any."""
    total = sum_of(lines)
    spend = money([it for line in (*lines, total) for it in (line.credits_usd, line.before_usd)])
    byok = money([line.byok_usd for line in (*lines, total)])
    numbers: dict[str, Callable[[Line], str]] = {"Spend USD": lambda it: spend(it.credits_usd)}
    if not facts.obstacle and (facts.before or by == "company"):
        numbers[_before_column(facts)] = lambda it: spend(it.before_usd)
        numbers["Change USD"] = lambda it: signed(it.change_usd, spend)
        if by != "key":
            numbers["Change"] = lambda it: change(it.credits_usd, it.before_usd)
    if any(it.byok_usd for it in lines):
        numbers["BYOK USD"] = lambda it: byok(it.byok_usd or None)
    if by not in ("key", "model"):
        numbers["Requests"] = lambda it: rounded(it.sums["requests"], 0) if _has_counts(it) else UNKNOWN
    numbers["Tokens"] = lambda it: (
        tokens(it.sums["prompt_tokens"] + it.sums["completion_tokens"]) if _has_counts(it) else UNKNOWN
    )
    return numbers


def _has_counts(line: Line) -> bool:
    """Whether requests and tokens are known: counters of keys have only amounts."""
    return bool(line.sums["requests"]) or not (line.credits_usd or line.byok_usd)


def before_words(facts: Facts) -> str:
    """The span before, as a sentence names it: October 2026; 1–23 October; the 7 days before."""
    if facts.before is None or facts.before.window is None:
        return f"the {facts.answer.request.label.removeprefix('last ')} before"
    window = facts.before.window
    if facts.before.month is None:
        hours = (window.end - window.start) // HOUR
        if hours % 24 and hours > 48:
            return "the span before"
        return f"the {plural(hours, 'hour') if hours % 24 else plural(hours // 24, 'day')} before"
    is_whole = window.end == month_start(window.end)
    return f"{window.start:%B %Y}" if is_whole else f"1–{(window.end - HOUR).day} {window.start:%B}"


def _before_column(facts: Facts) -> str:
    """The same, as a column names it."""
    if facts.before is None or facts.before.window is None or facts.before.month is None:
        return "Before USD"
    window = facts.before.window
    is_whole = window.end == month_start(window.end)
    return f"{window.start:%B} USD" if is_whole else f"1–{(window.end - HOUR).day} {window.start:%b} USD"


def signed(amount: Decimal | None, write: Callable[[Decimal | None], str]) -> str:
    """An amount with its sign, 0 without one."""
    text = write(amount)
    return f"+{text}" if amount and amount > 0 and any(it in "123456789" for it in text) else text


# The month to come


def _forecast(facts: Facts) -> Table:
    """What each company will have spent by the end of the running month, or spent in another, beside its budget."""
    spent = "spent_usd" if facts.is_running else "actual_usd"
    columns = {"Spent USD": spent} | ({"Forecast USD": "forecast_usd"} if facts.is_running else {})
    has_budgets = any(it["budget_usd"] is not None for it in facts.forecast)
    columns |= {"Budget USD": "budget_usd"} if has_budgets else {}
    total = {name: column_total(facts.forecast, name) for name in columns.values()}
    amounts = {name: money([*(it[name] for it in facts.forecast), total[name]]) for name in columns.values()}

    longest = max((it.get("forecast_usd") or it[spent] or Decimal(0) for it in facts.forecast), default=Decimal(0))

    def row(name: str, of: Mapping[str, Any], kind: Kind) -> Row:
        first, *others = (amounts[it](of[it]) for it in columns.values())
        drawn = _progress(of[spent], of.get("forecast_usd"), longest) if kind != "total" else ""
        used = [used_of(of[spent], of["budget_usd"]) if kind != "total" else ""] if has_budgets else []
        return Row([name, first, drawn, *others, *used], kind)

    rows = [row(short(it["company"]), it, _kind(it["company"])) for it in facts.forecast]
    rows += [row("Total", total, "total")] if len(rows) > 1 else []
    first, *others = map(Column, columns)
    titles = [Column("Company", "text"), first, Column("", "bar"), *others, *([Column("Used")] if has_budgets else [])]
    title = "Forecast and budget" if facts.is_running and has_budgets else "Forecast" if facts.is_running else "Budget"
    bars = "; bars: spent, then to come in a lighter colour" if facts.is_running else ""
    return Table(title, f"USD, credits and BYOK together{bars}", titles, rows)


def _progress(spent_usd: Decimal | None, forecast_usd: Decimal | None, longest: Decimal) -> Bar:
    """What is spent, and the rest of the forecast."""
    spent = spent_usd or Decimal(0)
    return bar(spent, (forecast_usd or spent) - spent, longest)


def used_of(spent_usd: Decimal | None, budget_usd: Decimal | None) -> str:
    """The part of a budget that is spent."""
    if spent_usd is None or not budget_usd:
        return UNKNOWN
    return share(spent_usd, budget_usd)


# The chart


def time_chart(facts: Facts) -> Chart:
    """Spend by hour, day or month of the whole window."""
    found = {it.start_at: it for it in facts.times}
    starts = list(_starts(facts))
    amounts = money([amount for it in facts.times for amount in (it.credits_usd, it.byok_usd)])
    sublabels = _sublabels(starts, facts.time_grain)
    slots = []
    for start, sublabel in zip(starts, sublabels, strict=True):
        spend = found.get(start, TimeSpend(start, Decimal(0), Decimal(0)))
        slot = Window(start, _next(start, facts.time_grain))
        has_come = start < facts.answer.span.end
        slots.append(
            Slot(
                f"{start:{_LABELS[facts.time_grain]}}".lstrip("0") or "0",
                sublabel,
                _words(spend, facts.time_grain, amounts),
                spend.credits_usd,
                spend.byok_usd,
                is_part=has_come and not (facts.answer.span.start <= start and slot.end <= facts.answer.complete_to),
                is_unknown=has_come and _lacks(facts, slot),
            )
        )
    title = f"Spend by {facts.time_grain}"
    return chart(title, "USD, UTC", f"{title}, {len(slots)} columns", slots, (SPEND, BYOK))


_LABELS = {"hour": "%H", "day": "%d", "month": "%b"}
_WORDS = {"hour": "%d %B %Y %H:%M", "day": "%d %B %Y", "month": "%B %Y"}


def _words(spend: TimeSpend, grain: str, write: Callable[[Decimal | None], str]) -> str:
    byok = f", BYOK {write(spend.byok_usd)} USD" if spend.byok_usd else ""
    return f"{spend.start_at:{_WORDS[grain]}}: {write(spend.credits_usd)} USD{byok}".lstrip("0")


def _starts(facts: Facts) -> Iterator[datetime]:
    """The starts of the hours, days or months that the window touches."""
    window = facts.answer.request.window or facts.answer.span
    begin = {"hour": hour_floor, "day": lambda it: floor(it, DAY), "month": month_start}[facts.time_grain]
    start = begin(window.start)
    while start < window.end:
        yield start
        start = _next(start, facts.time_grain)


def _next(start: datetime, grain: str) -> datetime:
    if grain == "month":
        return month_start(start + 31 * DAY)
    return start + (HOUR if grain == "hour" else DAY)


def _sublabels(starts: Sequence[datetime], grain: str) -> list[str]:
    """The day, month or year that begins with a column, and that of the first unless the next one is near."""
    form = {"hour": "%d %b", "day": "%b", "month": "%Y"}[grain]
    names = [f"{it:{form}}".lstrip("0") for it in starts]
    begins = [number for number, name in enumerate(names) if number == 0 or name != names[number - 1]]
    kept = begins[1:] if len(begins) > 1 and begins[1] < len(starts) / 12 else begins
    return [name if number in kept else "" for number, name in enumerate(names)]


def _lacks(facts: Facts, slot: Window) -> bool:
    """Whether not all is known of a span."""
    late = [facts.answer.known[it.account].known_from for it in facts.answer.accounts if facts.answer.lacks(it)]
    if any(known_from is None or slot.start < known_from for known_from in late):
        return True
    return any(slot.start <= day_start(day) < slot.end for day in facts.gaps)
