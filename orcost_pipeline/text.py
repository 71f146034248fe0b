"""Text that others wrote, made harmless for the place where it is shown: a terminal or log, Markdown, a spreadsheet.

Names come from OpenRouter and from files that people keep; whoever makes a key chooses its name. What belongs here: how
such text is shown, and how much of it. What stays out: JSON and the tables of the warehouse, which hold the true text.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

LONGEST_NAME = 40
LONGEST_VALUE = 80
LONGEST_LINE = 1_000
# Of what may be many, such as the mistakes of a file: so many are told, then how many more there are.
MOST_ITEMS = 20
MOST_NAMES = 10
MOST_LINES = 50

# What makes a link of GitHub's Markdown although it is escaped, then what has a meaning.
_MARKDOWN = re.compile(r"((?:(?<=http):(?=//)|(?<=https):(?=//)|(?<=www)\.|@)+)|([][!#$&()*+.<>\\^_`{|}~-])", re.I)
# Spreadsheets look behind leading blanks, and take signs of full width for signs.
_FORMULA = re.compile(r"[\t\r]|\s*[=+\-@＝＋－＠]")


def clean(text: str) -> str:
    """Text as one line of a terminal or log: what would move the cursor, colour, reorder or break it is �."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(char: str) -> str:
    return char if char.isprintable() else " " if unicodedata.category(char) == "Zs" else "�"


def short(text: str, longest: int = LONGEST_NAME) -> str:
    """The same, of at most so many characters."""
    return clean(text if len(text) <= longest else f"{text[: longest - 1]}…")


def quoted(text: str | None) -> str:
    """A value fit for one line of a message."""
    return f'"{short(" ".join((text or "").split()), LONGEST_VALUE)}"'


def few(items: Sequence[str], most: int = MOST_ITEMS) -> list[str]:
    """The first of many, then how many were left out."""
    left_out = len(items) - most
    return [*items[:most], f"… and {left_out:,} more"] if left_out > 0 else list(items)


def listed(named: Iterable[str]) -> str:
    """Names in a sentence; of many, the first."""
    return ", ".join(few([short(name) for name in named], MOST_NAMES))


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def message(text: str) -> str:
    """Lines of a message as a terminal, a log and a column of errors hold them: clean, and neither long nor many."""
    return "\n".join(few([short(line, LONGEST_LINE) for line in text.split("\n")], MOST_LINES))


def markdown(text: str) -> str:
    """Text as a line or cell of Markdown that shows it as it is: no link, picture, table or HTML comes of it."""
    return _MARKDOWN.sub(_escaped, clean(" ".join(text.split())))


def _escaped(found: re.Match[str]) -> str:
    link, mark = found.groups()
    # An address becomes a link after escapes are resolved, but not across code; a table is cut at \\| too.
    return f"`{link}`" if link else "&#124;" if mark == "|" else f"\\{mark}"


def inert(text: str) -> str:
    """A cell of a CSV that no spreadsheet runs as a formula."""
    return f"'{text}" if _FORMULA.match(text) else text
