"""`orcost report`: the cost of a window by company, key, model, creator or workspace, and how complete it is.

csv and json print exact rows on stdout and the standing of the data on stderr; the table has the standing below it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orcost_pipeline import formats
from orcost_pipeline.cli import rendering
from orcost_pipeline.cli.rendering import cells, table
from orcost_pipeline.cli.report_request import ReportRequest, report_request
from orcost_pipeline.companies.names import require_known
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.formats import change, clock, key_name, money, rounded, share, short_hash, tokens
from orcost_pipeline.health.finding import sync_command
from orcost_pipeline.measures import MEASURES
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import MOST_NAMES, few, listed, quoted, short
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.opening import NOTHING_YET
from orcost_pipeline.warehouse.questions.accounts import AccountState, SyncedAccount, account_states
from orcost_pipeline.warehouse.questions.asking import Rows
from orcost_pipeline.warehouse.questions.explanation import company_names
from orcost_pipeline.warehouse.questions.spend import GRAINS, PREVIOUS, UNATTRIBUTED, KnownSpan, settled_days
from orcost_pipeline.windows import DAY, Window, floor, is_future

Row = Mapping[str, Any]


# The answer


@dataclass(frozen=True)
class Report:
    """The rows of a report, with the facts about their completeness. Amounts are USD, instants UTC.

    `companies` are all of them, also where the report is about one.
    """

    request: ReportRequest
    now: datetime
    accounts: Sequence[SyncedAccount]
    rows: Rows
    companies: Rows
    keys: Rows
    known: Mapping[str, KnownSpan]
    finished_days: int
    reconciling_days: int

    @cached_property
    def key_counts(self) -> Mapping[str | None, int]:
        """The number of distinct keys per company, and of all under None; a split key counts for each owner."""
        keys: dict[str | None, set[tuple[str, str]]] = {None: set()}
        for row in self.keys.rows:
            if row["key_hash"] is not None:
                for owner in (None, row["company"]):
                    keys.setdefault(owner, set()).add((row["account"], row["key_hash"]))
        return {company: len(found) for company, found in keys.items()}

    @property
    def needs_rule(self) -> bool:
        """Whether a rule could attribute some of the spend; without a key, none can."""
        return self.request.by in ("company", "key") and any(_awaits_rule(row) for row in self.keys.rows)

    @property
    def of_all_companies(self) -> Mapping[str, Decimal]:
        """The amounts of all companies."""
        return _amounts(self.companies.rows)

    @property
    def unattributed(self) -> Mapping[str, Decimal]:
        """The amounts that belong to no company."""
        return _amounts([row for row in self.companies.rows if row["company"] == UNATTRIBUTED])

    def lacks(self, account: SyncedAccount) -> bool:
        """Whether part of the window is unknown for the account; its future part does not count."""
        span = self.known.get(account.account)
        return span is not None and not span.is_complete

    @property
    def complete_to(self) -> datetime:
        """The `as_of` of the account furthest behind; of those dated into the future, where there are any."""
        return min(account.as_of for account in self.ahead or self.accounts)

    @property
    def ahead(self) -> Sequence[SyncedAccount]:
        """Accounts marked complete to an instant in the future."""
        return [account for account in self.accounts if is_future(account.as_of, self.now)]

    @property
    def span(self) -> Window:
        """The known part of the window, up to the `as_of` of the freshest account."""
        newest = max(account.as_of for account in self.accounts)
        span = self.request.span(newest)
        return Window(span.start, newest) if newest in span else span


def report(settings: Settings, question: ReportRequest, output: str, now: datetime) -> None:
    """Prints a report as `table`, `csv` or `json`; raises PermanentError where the account was not synced yet."""
    with snapshot(settings) as connection:
        answer = answer_to(connection, settings, question, now)
    if output == "table":
        rendering.show(_title(answer), "", _table(answer), "", *standing(answer))
        return
    (rendering.write_csv if output == "csv" else rendering.write_json)(answer.rows)
    rendering.show(*standing(answer), is_error=True)


def show(settings: Settings) -> None:
    """Prints the default report: companies over the last 30 days, as a table."""
    now = datetime.now(UTC)
    report(settings, report_request("company", None, None, None, None, None, now), "table", now)


def answer_to(connection: sa.Connection, settings: Settings, question: ReportRequest, now: datetime) -> Report:
    """The answer to a request; raises PermanentError where the account was not synced yet or the company is unknown."""
    accounts = synced_accounts(connection, settings, question.account)
    if question.company is not None:
        require_known(question.company, company_names(connection))
    question = question.placed(connection)
    rows = question.spend(connection)
    companies = rows
    if question.by != "company" or question.company is not None:
        companies = replace(question, company=None).spend(connection, "company")
    keys = rows if question.by == "key" else question.spend(connection, "key")
    span = question.span(max(account.as_of for account in accounts))
    days = settled_days(connection, span, question.account)
    return Report(question, now, accounts, rows, companies, keys, question.known(connection), *days)


def synced_accounts(connection: sa.Connection, settings: Settings, wanted: str | None) -> Sequence[SyncedAccount]:
    """The synced accounts, or the wanted one; raises PermanentError where there is none."""
    accounts = account_states(connection)
    if wanted is None:
        synced = [synced for account in accounts if (synced := account.synced())]
        if not synced:
            raise PermanentError(NOTHING_YET)
        return synced
    require_account(settings, accounts, wanted)
    found = [synced for account in accounts if account.account == wanted and (synced := account.synced())]
    if not found:
        raise PermanentError(f'Account "{wanted}" was not synced yet. Next: {sync_command(wanted)}')
    return found


def require_account(settings: Settings, accounts: Sequence[AccountState], wanted: str) -> None:
    """Raises PermanentError for an account that is neither configured nor in the warehouse."""
    names = {account.account for account in accounts} | {account.name for account in settings.accounts}
    if wanted not in names:
        raise PermanentError(f"No account is called {quoted(wanted)}. Known: {listed(sorted(names))}.")


def _amounts(rows: Sequence[Row]) -> dict[str, Decimal]:
    return {name: sum((row[name] for row in rows), Decimal(0)) for name in ("credits_usd", "byok_usd")}


def _awaits_rule(row: Row) -> bool:
    """Whether the row is unattributed spend of a key; rows that are not by key count if they are unattributed."""
    return row["company"] == UNATTRIBUTED and row.get("key_hash", "") is not None and _has_spend(row)


def _has_counts(row: Row) -> bool:
    """Whether requests and tokens are known: counters of keys have only amounts."""
    return bool(row["requests"]) or not _has_spend(row)


def _has_spend(row: Row) -> bool:
    return bool(row["credits_usd"] or row["byok_usd"] or row["requests"])


# How it looks


def _title(answer: Report) -> Text:
    window = f"({answer.span.start:%Y-%m-%d %H:%M} – {answer.span.end:%Y-%m-%d %H:%M} UTC)"
    return Text(f"{heading(answer)} {window}", style="bold")


def heading(answer: Report) -> str:
    """What the report is about: whose cost, of which account, in which window; from when on a month is known."""
    by = answer.request.by
    subject = "Company cost" if by == "company" else f"Cost by {by}"
    if answer.request.company is not None:
        subject = f"Cost of {short(answer.request.company)}{'' if by == 'company' else f' by {by}'}"
    account = f' of account "{answer.request.account}"' if answer.request.account else ""
    label = f", {answer.request.label}" if answer.request.label else ""
    to_date = " to date" if answer.request.window not in (None, answer.span) else ""
    return f"{subject}{account}{label}{to_date}{known_from(answer) if answer.request.month else ''}"


def known_from(answer: Report) -> str:
    """From which day on the window is known, where it is incomplete; else blank."""
    late = [answer.known[it.account].known_from for it in answer.accounts if answer.lacks(it)]
    first = max((it for it in late if it), default=None)
    if first is None or first <= answer.span.start:
        return ""
    return f" (known from {first.day} {first:%B})"


def _table(answer: Report) -> RenderableType:
    """The table, with a hint about Unattributed beside its row, or below it on a narrow terminal."""
    rows = _merged(answer)
    if not rows:
        is_ahead = answer.span.start > answer.now
        return Text("This window lies in the future." if is_ahead else "No spend is known in this window.")
    hint = "→ orcost map todo" if answer.needs_rule else ""
    drawn = _drawn(answer, rows, hint)
    if not hint or rendering.fits(drawn):
        return drawn
    return Group(_drawn(answer, rows, ""), "", Text(f"{UNATTRIBUTED} {hint}", style="yellow"))


def _drawn(answer: Report, rows: Sequence[Row], hint: str) -> Table:
    total = {**_sum(rows), "keys": answer.key_counts.get(None, 0)}
    names, numbers = _names(answer), _numbers(answer, [*rows, total])
    drawn = table(*names, *numbers, *([""] if hint else []), right=tuple(numbers))
    awaiting = [row for row in rows if answer.needs_rule and _awaits_rule(row)]
    for row in rows:
        values = [short(name(row)) for name in names.values()] + [write(row) for write in numbers.values()]
        drawn.add_row(*cells(*values, hint if row in awaiting[:1] else ""), style="yellow" if row in awaiting else "")
    drawn.add_row(
        *cells("Total", *[""] * (len(names) - 1), *(write(total) for write in numbers.values())), style="bold"
    )
    return drawn


def _names(answer: Report) -> dict[str, Callable[[Row], str]]:
    """The columns that name the subject of a row."""
    by_key: dict[str, Callable[[Row], str]] = {
        "Company": lambda row: row["company"],
        "Key": lambda row: key_name(row["key_name"], row["key_hash"]),
        "Hash": lambda row: short_hash(row["key_hash"]),
    }
    by = answer.request.by
    if by == "key":
        return by_key if len(answer.accounts) == 1 else {**by_key, "Account": lambda row: row["account"]}
    return {"Company": by_key["Company"]} if by == "company" else {by.title(): lambda row: row[by] or "(not known)"}


def _numbers(answer: Report, rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """The columns with measures; a dash for BYOK of 0, and for what counters of keys do not count."""
    spend, byok = money(row["credits_usd"] for row in rows), money(row["byok_usd"] for row in rows)
    numbers: dict[str, Callable[[Row], str]] = {"Spend USD": lambda row: spend(row["credits_usd"])}
    if "previous_credits_usd" in answer.rows.columns:
        numbers["vs previous"] = lambda row: change(row["credits_usd"], row["previous_credits_usd"])
    numbers["BYOK USD"] = lambda row: byok(row["byok_usd"] or None)
    numbers["Requests"] = lambda row: rounded(row["requests"], 0) if _has_counts(row) else formats.UNKNOWN
    numbers["Tokens"] = lambda row: (
        tokens(row["prompt_tokens"] + row["completion_tokens"]) if _has_counts(row) else formats.UNKNOWN
    )
    if answer.request.by == "company":
        numbers["Keys"] = lambda row: f"{row['keys']:,}"
    return numbers


def _merged(answer: Report) -> list[Row]:
    """Rows as the table shows them: summed over accounts unless by key, the largest first, Unattributed last."""
    grain = GRAINS[answer.request.by]
    together = grain if answer.request.by == "key" else grain[1:]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in answer.rows.rows:
        groups.setdefault(tuple(row[name] for name in together), []).append(row)
    merged = [
        {
            **dict(zip(together, group, strict=True)),
            **_sum(rows),
            "keys": answer.key_counts.get(rows[0].get("company"), 0),
        }
        for group, rows in groups.items()
    ]
    return sorted(merged, key=lambda row: (row.get("company") == UNATTRIBUTED, -row["credits_usd"], -row["byok_usd"]))


def _sum(rows: Sequence[Row]) -> dict[str, Decimal | None]:
    """The sums of measures; None where one of the amounts is unknown."""
    names = [name for name in (*MEASURES, *PREVIOUS) if name in rows[0]]
    columns = {name: [row[name] for row in rows] for name in names}
    return {name: None if None in values else sum(values, Decimal(0)) for name, values in columns.items()}


# How far it can be trusted


def standing(answer: Report) -> Iterator[Text]:
    """How old the data is, how much of it reconciles and is attributed; then what the window lacks."""
    is_stale = formats.is_stale(answer.complete_to, answer.now)
    parts = [formats.complete_to(answer.complete_to, answer.now), *reconciled(answer), *_unattributed(answer)]
    yield Text(" · ".join(parts), style="bold yellow" if is_stale else "dim")
    more = [*late_accounts(answer), *(["Next: orcost status"] if is_stale else []), *missing(answer)]
    yield from (Text(note, style="yellow") for note in more)


def reconciled(answer: Report) -> Iterator[str]:
    """How many of the finished days reconcile; nothing where no day of the window is finished."""
    if answer.finished_days:
        days, reconcile = ("day", "reconciles") if answer.finished_days == 1 else ("days", "reconcile")
        counts = f"{answer.reconciling_days} of {answer.finished_days}"
        yield f"{counts} finished {days} {reconcile} to OpenRouter's total"


def _unattributed(answer: Report) -> Iterator[str]:
    """The unattributed share of credits, and of BYOK spend where there is any."""
    parts, wholes = answer.unattributed, answer.of_all_companies
    if any(wholes.values()):
        byok = f" (BYOK {share(parts['byok_usd'], wholes['byok_usd'])})" if parts["byok_usd"] else ""
        yield f"{share(parts['credits_usd'], wholes['credits_usd'])} unattributed{byok}"


def late_accounts(answer: Report) -> Iterator[str]:
    """Which accounts are dated into the future, or behind the others by too much."""
    for account in answer.ahead:
        whose = f' of account "{account.account}"' if len(answer.accounts) > 1 else ""
        ends = f"The data{whose} is marked complete to {clock(account.as_of, answer.now)}, in the future"
        yield f"{ends}: a sync ran with a wrong clock. {_what_ends(answer)}The next sync puts it right: orcost sync"
    late = [it for it in answer.accounts if it.as_of < answer.now and formats.is_stale(it.as_of, answer.now)]
    if late and len(answer.accounts) > 1:
        named = few([f"{it.account} ({clock(it.as_of, answer.now)})" for it in late], MOST_NAMES)
        yield f"Not synced for more than two hours: {', '.join(named)}."


def missing(answer: Report) -> Iterator[str]:
    """What of the window is not known, a sentence for each account."""
    yield from (_what_is_missing(answer, account) for account in answer.accounts if answer.lacks(account))


def _what_ends(answer: Report) -> str:
    """That a rolling period ends where the data does; blank for other windows."""
    return f"The {answer.request.label} end there too, and lack earlier spend. " if answer.request.period else ""


def _what_is_missing(answer: Report, account: SyncedAccount) -> str:
    """Which part of the window is unknown for an account, as a sentence."""
    whose = f' of account "{account.account}"' if len(answer.accounts) > 1 else ""
    what = f"{answer.request.month or 'This window'}{whose}"
    begins = account.known_from or account.as_of
    known_from = answer.known[account.account].known_from
    if account.is_counted and (known_from is None or known_from > max(begins, answer.span.start)):
        known = f"known from {_day_or_hour(known_from)} on" if known_from else "not known by itself"
        return f"{what} is {known}: counters report the spend around its start as one sum."
    if begins > answer.span.start:
        state = "is not complete" if known_from else "is not known"
        return f"{what} {state}: history begins {_day_or_hour(known_from or begins)}."
    if account.is_counted:
        return f"{what} is not complete: counters report the spend around its end as one sum."
    return f"{what} is not complete: not every hour before {_day_or_hour(account.hours_from or begins)} is known."


def _day_or_hour(instant: datetime) -> str:
    return f"{instant.day} {instant:%B %Y}" if instant == floor(instant, DAY) else f"{instant:%Y-%m-%d %H:%M} UTC"
