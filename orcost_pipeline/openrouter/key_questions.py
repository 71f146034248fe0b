"""Analytics by key: rows show a key's name, never its hash.

Each request names keys with distinct names, so that a row's name identifies its key. Where a row has a name of none of
them, the batch is halved until one key is left.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from fractions import Fraction

from orcost_pipeline.measures import SAME_USD, Measures, grouped, tolerated_usd
from orcost_pipeline.openrouter.account_keys import AccountKeys
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.api.records import UsageCell
from orcost_pipeline.openrouter.reading import Cell, KeyUsage
from orcost_pipeline.windows import HOUR, Window


class KeyQuestions:
    """Reads usage per key, model and hour (or day), as exactly as if each key were requested alone.

    `account` is the account's usage, which bounds the rows of its keys; `share` is the share of the bound that is
    expected. `doubtful_totals` counts the rows so far whose
    total is not credits plus BYOK.
    """

    def __init__(
        self,
        client: OpenRouter,
        keys: AccountKeys,
        grain: timedelta,
        account: Mapping[Cell, Measures],
        share: Fraction = Fraction(1),
    ) -> None:
        self.doubtful_totals = 0
        self._client = client
        self._keys = keys
        self._grain = grain
        self._account = account
        self._share = share

    async def ask(self, key_hashes: AbstractSet[str], windows: Sequence[Window]) -> list[KeyUsage]:
        """The usage of each key in each window, one record per key and window. Raises as OpenRouter.usage does."""
        questions = [(batch, window) for batch in self._batches(key_hashes) for window in windows]
        self._client.progress.plan(sum((window.end - window.start) / HOUR for _, window in questions))
        answers = await asyncio.gather(*(self._ask_batch(batch, window) for batch, window in questions))
        return [usage for answer in answers for usage in answer]

    async def ask_again(self, key_hashes: AbstractSet[str], window: Window) -> Mapping[str, KeyUsage]:
        """Usage in one window by key hash, only of keys that the API reports there."""
        answers = await asyncio.gather(*(self._ask_batch(batch, window) for batch in self._batches(key_hashes)))
        return {usage.key_hash: usage for answer in answers for usage in answer if not usage.is_silent}

    def _batches(self, key_hashes: AbstractSet[str]) -> list[list[str]]:
        """Batches without a repeated name: as many as keys share the most common name. Deleted keys have their own."""
        active = self._keys.listed.keys() & key_hashes
        return [*self._split_by_name(active), *self._split_by_name(key_hashes - active)]

    def _split_by_name(self, key_hashes: Iterable[str]) -> list[list[str]]:
        batches: list[list[str]] = []
        used: dict[str, int] = defaultdict(int)
        for key_hash in sorted(key_hashes):
            number = used[self._keys.name(key_hash)]
            used[self._keys.name(key_hash)] += 1
            if number == len(batches):
                batches.append([])
            batches[number].append(key_hash)
        return batches

    async def _ask_batch(self, key_hashes: list[str], window: Window) -> list[KeyUsage]:
        bounds = rows_by_key(self._account, len(key_hashes))
        most_rows = {at: math.ceil(rows * self._share) for at, rows in bounds.items()}
        response = await self._client.usage(
            window, ["api_key_id", "model"], key_hashes, grain=self._grain, most_rows=most_rows
        )
        owners = self._owners(key_hashes)
        # A deleted key may have been renamed after the last sync that saw it, to another's name.
        are_listed = all(key_hash in self._keys.listed for key_hash in key_hashes)
        if len(key_hashes) > 1 and any(not are_listed or cell.key not in owners for cell in response.cells):
            middle = len(key_hashes) // 2
            halves = key_hashes[:middle], key_hashes[middle:]
            first, second = await asyncio.gather(*(self._ask_batch(half, window) for half in halves))
            return first + second
        rows: dict[str, list[UsageCell]] = {key_hash: [] for key_hash in key_hashes}
        for cell in response.cells:
            rows[key_hashes[0] if len(key_hashes) == 1 else owners[cell.key]].append(cell)
        return [self._usage(it, window, rows[it], is_unresolved=it in response.unresolved) for it in key_hashes]

    def _owners(self, key_hashes: Sequence[str]) -> dict[str | None, str]:
        """The key of each row of a batch, by its name, or by a label that no other key of the batch has."""
        owners: dict[str | None, str] = {self._keys.name(key_hash): key_hash for key_hash in key_hashes}
        labels = self._keys.name_by_label(key_hashes)
        return {label: owners[name] for label, name in labels.items()} | owners

    def _usage(self, key_hash: str, window: Window, rows: list[UsageCell], *, is_unresolved: bool) -> KeyUsage:
        is_silent = is_unresolved or (not rows and key_hash not in self._keys.listed)
        self._client.note_cells(rows, key_hash, self._grain)
        self.doubtful_totals += doubtful_totals(rows)
        return KeyUsage(key_hash, window, is_silent, by_model(rows))


def rows_by_key(account: Mapping[Cell, Measures], key_count: int) -> dict[datetime, int]:
    """How many rows by key and model each hour (or day) of the account's usage has at most: a row is of at least one
    request, and there is one row for each of the keys."""
    rows: dict[datetime, int] = defaultdict(int)
    for (at, _), measures in account.items():
        rows[at] += min(max(int(measures.requests), 1), key_count)
    return rows


def by_model(rows: Iterable[UsageCell]) -> dict[Cell, Measures]:
    """Rows summed by start and model; zero rows are left out."""
    return grouped(((row.at, row.model), row.measures) for row in rows if any(row.measures))


def doubtful_totals(rows: Iterable[UsageCell]) -> int:
    """How many rows have a total that is not credits plus BYOK, beyond the rounding of each of the three."""
    return sum(1 for row in rows if _is_doubtful(row))


def _is_doubtful(row: UsageCell) -> bool:
    if row.total_usd is None or row.lacks_figures:
        return False
    apart = abs(row.total_usd - row.measures.credits_usd - row.measures.byok_usd)
    return apart > tolerated_usd(row.measures.requests, SAME_USD)
