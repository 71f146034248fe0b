"""Foreign text made safe for where it is shown: a terminal or log, Markdown, a spreadsheet.

Names come from OpenRouter and from users' files; whoever creates a key chooses its name. What belongs here: how such
text is shown, and how much of it. What stays out: JSON and the tables of the warehouse, which keep the original text.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import sha256

LONGEST_NAME = 40
LONGEST_VALUE = 80
LONGEST_LINE = 1_000
# Lists such as the mistakes of a file are cut after this many items, with the number of the rest.
MOST_ITEMS = 20
MOST_NAMES = 10
MOST_LINES = 50

# First what GitHub's Markdown turns into a link even when escaped, then all characters with a meaning.
_MARKDOWN = re.compile(r"((?:(?<=http):(?=//)|(?<=https):(?=//)|(?<=www)\.|@)+)|([][!#$&()*+.<>\\^_`{|}~-])", re.I)
# Spreadsheets skip leading blanks, and treat full-width signs as signs.
_FORMULA = re.compile(r"[\t\r]|\s*[=+\-@＝＋－＠]")


def clean(text: str) -> str:
    """Text as one line of a terminal or log; characters that would move the cursor, colour or break it become �."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(char: str) -> str:
    return char if char.isprintable() else " " if unicodedata.category(char) == "Zs" else "�"


def short(text: str, longest: int = LONGEST_NAME) -> str:
    """The same, cut to at most `longest` characters."""
    return clean(text if len(text) <= longest else f"{text[: longest - 1]}…")


def quoted(text: str | None) -> str:
    """A value in quotes, cleaned and cut for one line of a message."""
    return f'"{short(" ".join((text or "").split()), LONGEST_VALUE)}"'


def digits(text: str) -> str:
    """Eight hexadecimal digits of the text's hash, where the text itself cannot stand."""
    return sha256(text.encode()).hexdigest()[:8]


def few(items: Sequence[str], most: int = MOST_ITEMS) -> list[str]:
    """The first `most` items, then a line with the number left out."""
    left_out = len(items) - most
    return [*items[:most], f"… and {left_out:,} more"] if left_out > 0 else list(items)


def listed(named: Iterable[str]) -> str:
    """Names for a sentence, separated by commas; of many, the first ones."""
    return ", ".join(few([short(name) for name in named], MOST_NAMES))


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """A count with its noun: `1 key`, `2,000 keys`."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def message(text: str) -> str:
    """A message of several lines for a terminal, a log or a column of errors: cleaned, and cut in length and number."""
    return "\n".join(few([short(line, LONGEST_LINE) for line in text.split("\n")], MOST_LINES))


def markdown(text: str) -> str:
    """Text escaped for a line or cell of Markdown: it never becomes a link, picture, table or HTML."""
    return _MARKDOWN.sub(_escaped, clean(" ".join(text.split())))


def _escaped(found: re.Match[str]) -> str:
    link, mark = found.groups()
    # An address becomes a link after escapes are resolved, but not across code; a table is cut at \\| too.
    return f"`{link}`" if link else "&#124;" if mark == "|" else f"\\{mark}"


def inert(text: str) -> str:
    """A cell of a CSV that no spreadsheet evaluates as a formula."""
    return f"'{text}" if _FORMULA.match(text) else text
