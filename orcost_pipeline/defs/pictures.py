"""Small pictures for Dagster's UI, in Markdown: a bar per day, with the part to look at in front; a bar per name.

Bars by day are an SVG. The UI shows only Markdown of less than 1,000 characters without a click, so the picture
contains no text.
"""

from collections.abc import Sequence
from decimal import Decimal

from orcost_pipeline.text import markdown, short

HEIGHT, STEP = 50, 10
LONGEST_BAR = 20
ESCAPED = str.maketrans({"<": "%3C", ">": "%3E", "#": "%23", " ": "%20"})  # what a URL in Markdown cannot hold
WHOLE, PART = "#4f43dd", "#f2a33a"


def bars(days: Sequence[tuple[Decimal, Decimal]], title: str) -> str:
    """Markdown with a bar per day for (whole, part), the first day on the left, and the title below."""
    highest = max((whole for whole, _ in days), default=Decimal(0)) or Decimal(1)
    paths = "".join(
        f"<path stroke='{colour}' stroke-width='7' d='{_bars([day[number] / highest for day in days])}'/>"
        for number, colour in enumerate((WHOLE, PART))
    )
    width = STEP * max(len(days), 1)
    picture = f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{HEIGHT}'>{paths}</svg>"
    return f"![](data:image/svg+xml,{picture.translate(ESCAPED)})\n\n{title}"


def ranking(amounts: Sequence[tuple[str, Decimal]], title: str) -> str:
    """A Markdown table with a bar per (name, USD), in the given order, under the title."""
    highest = max((usd for _, usd in amounts), default=Decimal(0)) or Decimal(1)
    rows = (
        f"\n| {markdown(short(name))} | {usd:,.2f} | {'█' * round(LONGEST_BAR * usd / highest)} |"
        for name, usd in amounts
    )
    return f"| {title} | USD | |\n|---|--:|---|" + "".join(rows)


def _bars(heights: Sequence[Decimal]) -> str:
    return "".join(
        f"M{STEP * number + 5},{HEIGHT}v-{height * (HEIGHT - 2):.0f}"
        for number, height in enumerate(heights)
        if height > 0
    )
