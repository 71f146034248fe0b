"""`orcost statement`: a statement to stdout or a file, or a file for each company."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import typer

from orcost_pipeline.billing.statement import Statement, read_statement, read_statements, require_rates
from orcost_pipeline.cli.billing.documents import StatementFormat, document, keeps_cost
from orcost_pipeline.cli.files import printing_to, writing
from orcost_pipeline.cli.rendering import say
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.formats import rounded
from orcost_pipeline.settings import Settings
from orcost_pipeline.text import digits, listed, short
from orcost_pipeline.warehouse.access import snapshot
from orcost_pipeline.warehouse.questions import billing
from orcost_pipeline.warehouse.questions.billing import StatementHead, VoidStatement

LONGEST_FILE_NAME = 120  # in bytes, of the 255 that file systems allow


def write_one(
    settings: Settings, company: str, month: date, form: StatementFormat, output: Path | None, now: datetime
) -> None:
    """Prints the statement of a company, or writes it to a file, whole or not at all.

    Raises PermanentError for a month that has not begun, an unknown company, a currency without rate, and a file that
    cannot be written.
    """
    _require_begun(month, now)
    with snapshot(settings) as connection:
        statement = read_statement(connection, company, month)
    made = document(statement, form, settings.billing)
    with printing_to(output):
        # With colour: otherwise typer removes what looks like colour codes from a pipe.
        typer.echo(made, nl=False, color=True)
    if output is not None:
        say(_told(output, statement))
    _tell_kept_cost(settings, month, [statement])


def write_all(settings: Settings, month: date, form: StatementFormat, folder: Path, now: datetime) -> None:
    """Writes a file for each company that has something in the month, and prints its name and total.

    Raises PermanentError for a month that has not begun, for a file or folder that cannot be written, and, once all
    others are written, for companies whose currency has no rate.
    """
    _require_begun(month, now)
    with snapshot(settings) as connection:
        charged = [it for it in billing.charged_months(connection, month) if it.month == month]
        names = file_names(billing.charged_companies(connection))
        # Without lines, the statement that replaces a void one.
        also = billing.void_statements(connection, month).keys() - {it.company for it in charged}
        if not charged and not also:
            say(f"No company has anything in {month:%Y-%m}; nothing was written.")
            return
        _make(folder)
        lacking = [it for it in charged if it.status == "open" and it.per_usd is None]
        companies = [*(it.company for it in charged if it not in lacking), *also]
        made = list(read_statements(connection, sorted(companies), month))
        for statement in made:
            file = folder / f"{month:%Y-%m} {names[statement.head.company]}.{form}"
            with writing(file) as written:
                text = document(statement, form, settings.billing)
                written.write_text(text, encoding="utf-8", newline="")
            say(_told(file, statement))
    _tell_kept_cost(settings, month, made)
    require_rates(lacking)


def _tell_kept_cost(settings: Settings, month: date, statements: Iterable[Statement]) -> None:
    """Says whose closed statements show cost, where [billing] hides it now."""
    kept = [it.head.company for it in statements if not settings.billing.show_cost and keeps_cost(it)]
    if kept:
        say(
            f"Shown with cost, as when the month was closed: {listed(kept)}. To leave it out: orcost reopen "
            f"{month:%Y-%m} --reason TEXT, and close it again.",
            is_error=True,
        )


def _told(file: Path, statement: Statement) -> str:
    """What a file says, in a line."""
    status = "closed" if statement.head.status == "closed" else "open: it may still change"
    return f"{file}: {total(statement)}, {status}"


def total(statement: Statement) -> str:
    """What is owed, with its currency."""
    return owed(statement.total, statement.head)


def owed(amount: Decimal, of: StatementHead | VoidStatement) -> str:
    """An amount of a statement, with its currency."""
    return f"{rounded(amount, of.minor_unit)} {of.currency}"


def file_names(companies: Iterable[str]) -> Mapping[str, str]:
    """A name of a file for each company, without extension: safe on every system, and one of its own.

    That is the company's name, with a few digits of its hash where another is alike, or characters had to be replaced.
    """
    safe = {company: _safe(company) for company in companies}
    alike = Counter(map(_folded, safe.values()))
    return {
        company: name if name == company and alike[_folded(name)] == 1 else f"{name} {digits(company)}".strip()
        for company, name in safe.items()
    }


def _safe(name: str) -> str:
    """A name of letters, digits and a few signs, cut where it is long."""
    kept = re.sub(r"[^\w &'()+,.@-]", "_", short(unicodedata.normalize("NFC", name), LONGEST_FILE_NAME))
    return kept.encode()[:LONGEST_FILE_NAME].decode(errors="ignore").strip(" .")


def _folded(name: str) -> str:
    """A name as file systems compare it that know neither case nor width of letters."""
    return unicodedata.normalize("NFKC", name).casefold()


def _require_begun(month: date, now: datetime) -> None:
    if month > now.date():
        raise PermanentError(f"{month:%Y-%m} has not begun: there is no statement of it yet.")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermanentError(f"{folder} cannot be made a folder ({error.strerror}).") from None
