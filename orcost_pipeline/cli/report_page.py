"""`orcost report --format html`: the cost of a window as one page, to print and to forward.

The page goes to stdout, the standing of the data to stderr. Every figure is one of the marts, rounded for display.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import NamedTuple

import typer

from orcost_pipeline.cli import rendering
from orcost_pipeline.cli.forecast import column_total
from orcost_pipeline.cli.report import heading, known_from, late_accounts, missing, reconciled, standing
from orcost_pipeline.cli.report_facts import Facts, Line, facts_of
from orcost_pipeline.cli.report_parts import NOUNS, before_words, signed, tables, time_chart, used_of
from orcost_pipeline.cli.report_request import ReportRequest
from orcost_pipeline.companies.preview import exact_sum
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.formats import UNKNOWN, change, is_stale, key_name, length, money, share
from orcost_pipeline.pages.page import page
from orcost_pipeline.pages.parts import Figure
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import few, listed, short
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.questions.spend import Grain
from orcost_pipeline.windows import Window

# Names in the sentence about what changed, and days that are open.
MOST_CHANGES, MOST_DAYS = 3, 5
MEANING = (
    "Spend is what OpenRouter charged, in US dollars. BYOK (bring your own key) is what own accounts at providers "
    "were charged for requests that OpenRouter routed there: an estimate, and no part of spend.",
    "Amounts are exact in the warehouse and rounded here: the last digit of a sum or difference may be off by one. "
    "A dash stands for a figure that is not known or would mislead, and for no BYOK. Times are UTC.",
)


class Standing(NamedTuple):
    """A sentence about how far the figures can be trusted."""

    text: str
    is_doubtful: bool


def report(settings: Settings, question: ReportRequest, now: datetime) -> None:
    """Prints the page; raises PermanentError where the account was not synced yet or the company is unknown, and for
    local days: the page shows UTC days.
    """
    if question.local:
        raise PermanentError("--format html shows UTC days: leave out --time-zone, or give another --format.")
    with snapshot(settings) as connection:
        facts = facts_of(connection, settings, question, now)
    made = page(
        "spend.html",
        title=heading(facts.answer) + ("" if question.month else known_from(facts.answer)),
        spans=list(_spans(facts)),
        figures=list(_figures(facts)),
        standing=list(_standing(facts, settings)),
        notes=[*late_accounts(facts.answer), *missing(facts.answer), *_emptiness(facts)],
        changes=list(_changes(facts)),
        chart=time_chart(facts) if facts.times else None,
        part_name=f"part of a {facts.time_grain}",
        unknown_name="not known as a whole",
        tables=list(tables(facts)),
        footer=[*MEANING, f"Made by orcost {version('orcost_pipeline')} on {now:%Y-%m-%d %H:%M} UTC."],
    )
    typer.echo(made, nl=False, color=True)
    rendering.show(*standing(facts.answer), is_error=True)


def _spans(facts: Facts) -> Iterator[str]:
    """The window and its accounts, and the window that it is compared with."""
    accounts = [it.account for it in facts.answer.accounts]
    of = f"account {short(accounts[0])}" if len(accounts) == 1 else f"accounts {listed(accounts)}"
    yield f"{_window(facts.answer.span)} · {of}"
    if facts.before and facts.before.window and not facts.obstacle:
        yield f"compared with {_window(facts.before.window)}"


def _window(window: Window) -> str:
    return f"{_moment(window.start)} – {_moment(window.end)} UTC"


def _moment(instant: datetime) -> str:
    return f"{instant.day} {instant:%B %Y, %H:%M}"


def _emptiness(facts: Facts) -> Iterator[str]:
    if facts.answer.span.start > facts.answer.now:
        yield "This window lies in the future."
    elif not facts.times:
        yield "No spend is known in this window."


# Headline figures


def _figures(facts: Facts) -> Iterator[Figure]:
    total = facts.total
    spend = money([total.credits_usd, total.before_usd])
    yield Figure("Spend", spend(total.credits_usd), "USD", "charged by OpenRouter")
    yield _change(facts)
    if total.byok_usd:
        byok = money([total.byok_usd])(total.byok_usd)
        yield Figure("BYOK", byok, "USD", "charged by own providers, not in spend")
    forecast = column_total(facts.forecast, "forecast_usd") if facts.forecast else None
    if facts.is_running and facts.forecast:
        write = money([forecast])
        yield Figure("Forecast for the month", write(forecast), "USD" if forecast else "", "credits and BYOK")
    budgeted = [it for it in facts.forecast if it["budget_usd"]]
    if budgeted:
        spent = column_total(budgeted, "spent_usd" if facts.is_running else "actual_usd")
        budget = column_total(budgeted, "budget_usd")
        write = money([spent, budget])
        yield Figure(
            "Budget spent", used_of(spent, budget), "", f"{write(spent)} of {write(budget)} USD, BYOK included"
        )


def _change(facts: Facts) -> Figure:
    total, label = facts.total, f"Against {before_words(facts)}"
    if total.before_usd is None:
        return Figure(label, UNKNOWN, "", facts.obstacle)
    write = money([total.credits_usd, total.before_usd])
    return Figure(label, change(total.credits_usd, total.before_usd), "", f"{write(total.before_usd)} USD then")


# How far it can be trusted


def _standing(facts: Facts, settings: Settings) -> Iterator[Standing]:
    answer = facts.answer
    complete_to, now = answer.complete_to, answer.now
    age = "a clock was wrong" if complete_to > now else f"{length(now - complete_to)} before this page was made"
    state = "STALE: complete" if is_stale(complete_to, now) else "Complete"
    yield Standing(f"{state} to {_moment(complete_to)} UTC ({age})", is_stale(complete_to, now))
    is_open = answer.reconciling_days < answer.finished_days
    named = ", ".join(few([f"{day.day} {day:%B}" for day in facts.open_days], MOST_DAYS))
    for sentence in reconciled(answer):
        yield Standing(f"{sentence}; open: {named}" if is_open and named else sentence, is_open)
    part, whole = (exact_sum(it.values()) for it in (answer.unattributed, answer.of_all_companies))
    if whole:
        is_much = 100 * part > settings.alerts.unattributed_percent * whole
        yield Standing(f"{share(part, whole)} unattributed ({money([part])(part)} USD of credits and BYOK)", is_much)


# What changed


def _changes(facts: Facts) -> Iterator[str]:
    """How much the total changed, and which lines of the sections changed most; nothing without a comparison."""
    total = facts.total
    if total.before_usd is None or total.change_usd is None or not (total.before_usd or total.credits_usd):
        return
    write = money([total.credits_usd, total.before_usd])
    way = "more" if total.change_usd >= 0 else "less"
    words = f"{write(abs(total.change_usd))} USD {way} than {before_words(facts)}"
    grains: Sequence[Grain] = ("key", "model") if facts.answer.request.company is not None else ("company", "model")
    most = [sentence for by in grains if (sentence := _most(facts.lines[by], by))]
    yield f"{words}. {' '.join(most)}".strip()


def _most(lines: Sequence[Line], by: Grain) -> str:
    """The lines that changed most, as a sentence."""
    changed = [(it, it.change_usd) for it in lines if it.change_usd]
    largest = sorted(changed, key=lambda it: -abs(it[1]))[:MOST_CHANGES]
    write = money([usd for _, usd in largest])
    named = [f"{_name(it, by)} {signed(usd, write)}" for it, usd in largest]
    return f"Largest changes by {NOUNS[by]}: {', '.join(named)} USD." if named else ""


def _name(line: Line, by: Grain) -> str:
    if by == "key":
        return key_name(line.names["key_name"], line.names["key_hash"])
    return short(line.names[by] or "(not known)")
