"""Questions that several tests of the client ask, and the truth of their answers."""

from collections.abc import Awaitable, Iterable
from decimal import Decimal
from typing import Any

import pytest

from orcost_pipeline.measures import MEASURES, Measures, grouped
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.api.usage_answer import UsageAnswer
from orcost_pipeline.simulator import Ledger, Usage
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.windows import Window
from orcost_pipeline_tests.virtual_time import CANARY, HOUR, NOON, T, account_with_keys

KEY_HASH = "ab" * 32


BY_KEY = ["api_key_id", "model"]


def usage(credits_usd: str | Decimal, byok_usd: str = "0") -> Usage:
    return Usage(1, 1000, 100, 10, 50, Decimal(credits_usd), Decimal(byok_usd))


def truth_by_name(ledger: Ledger, window: Window, keys: Iterable[str] | None = None) -> dict[Any, Measures]:
    """The ledger's hours as (hour, name of the key, model)."""
    told = ledger.hourly("acme", window.start, window.end, now=NOON)
    names = {key: versions[-1][1].name for key, versions in ledger.accounts["acme"].keys.items()}
    wanted = None if keys is None else set(keys)
    return grouped(
        ((hour, names.get(key or ""), model), Measures(*(Decimal(getattr(cell, name)) for name in MEASURES)))
        for (hour, key, model), cell in told.items()
        if wanted is None or key in wanted
    )


def cells(told: UsageAnswer) -> dict[Any, Measures]:
    """What was told, by (hour, name, model); a cell told twice is a mistake that no sum may hide."""
    by_place = {(cell.at, cell.key, cell.model): cell.measures for cell in told.cells}
    assert len(by_place) == len(told.cells)
    return by_place


@pytest.fixture
def busy() -> tuple[Ledger, list[str]]:
    """Six keys that used something in each of the last 40 hours."""
    ledger, keys = account_with_keys(*"ABCDEF")
    for hour in range(40):
        for number, key in enumerate(keys):
            ledger.spend("acme", NOON - hour * HOUR, key, GPT, usage(Decimal(number + 1).scaleb(-4)))
    return ledger, keys


def all_keys(client: OpenRouter, *more: str) -> Awaitable[Any]:
    async def ask() -> Any:
        return (await client.api_keys([*(workspace.id for workspace in (await client.workspaces()).rows), *more])).keys

    return ask()


CATCHES_UP = "OpenRouter or the network is down; the next sync catches up."


async def noting(client: OpenRouter, question: Awaitable[T]) -> tuple[T, dict[tuple[str, str, Any], int]]:
    """The answer, and how often what could not be read, by endpoint, field and day."""
    told = await question
    return told, {(it.endpoint, it.field, it.at and it.at.date()): rows for it, rows in client.unreadable.items()}


SECRET_PART = CANARY[9:-4]


def assert_no_secret(text: str) -> None:
    assert SECRET_PART not in text
    assert "Bearer sk" not in text
