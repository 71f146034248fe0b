"""Usage on its way into `raw`: kept a part at a time, and found there again by the sync after an interrupted one."""

from collections import defaultdict
from collections.abc import Mapping, Set
from datetime import timedelta
from typing import Self

from orcost_pipeline.measures import NOTHING, Measures
from orcost_pipeline.openrouter.reading import AnalyticsReading, Cell, KeyUsage
from orcost_pipeline.sync import wire_rows
from orcost_pipeline.sync.sync_step import SyncStep
from orcost_pipeline.warehouse import raw
from orcost_pipeline.warehouse.questions import left_usage
from orcost_pipeline.windows import Window, hour_floor, without

# What was left longer ago is read anew.
LEFT_WITHIN = timedelta(days=1)


class KeptUsage:
    """Where one sync's usage is kept (`openrouter/reading.py`, Kept). `rows` counts the rows kept so far.

    What interrupted syncs have read, or an earlier attempt of this one, stays apart until this one is complete.
    """

    def __init__(self, step: SyncStep, extraction_ids: Set[str], left: Mapping[Window, str]) -> None:
        """`left` says which of the interrupted extractions has read a window."""
        self.rows = 0
        self._step = step
        self._account = step.account.name
        self._extraction_ids = extraction_ids
        self._left = left

    @classmethod
    def resumed(cls, step: SyncStep) -> Self:
        """Sets apart what an earlier attempt of this sync stored, and finds what interrupted ones have read."""
        account = step.account.name
        with step.engine.begin() as connection:
            raw.set_apart(connection, step.extraction_id, account)
            found = left_usage.left_windows(connection, account, step.extraction_id, step.as_of - LEFT_WITHIN)
        left = dict[Window, str]()
        for extraction_id, window in found:
            # One that ends within an hour lacks the rest of it.
            if window.end == hour_floor(window.end) and without([window], left) == [window]:
                left[window] = extraction_id
        return cls(step, {extraction_id for extraction_id, _ in found}, left)

    def keep_hours(self, part: AnalyticsReading) -> None:
        self.rows += self._step.keep(wire_rows.hours(part))

    def keep_days(self, part: AnalyticsReading) -> None:
        self.rows += self._step.keep(wire_rows.past_days(part))

    def left_windows(self) -> list[Window]:
        return list(self._left)

    def left_hours(self, window: Window) -> AnalyticsReading:
        extraction_id = self._left[window]
        cells: dict[str | None, dict[Cell, Measures]] = defaultdict(dict)
        with self._step.engine.connect() as connection:
            for key_hash, hour, model, measures in left_usage.left_hours(
                connection, self._account, extraction_id, window
            ):
                cells[key_hash][hour, model] = measures
            rows = left_usage.left_questions(connection, self._account, extraction_id, window)
            unkeyed = left_usage.left_unkeyed(connection, self._account, extraction_id, window)
        questions = [(Window(row.start_at, row.end_at), row) for row in rows]
        return AnalyticsReading(
            windows=[window],
            account=cells[None],
            keys=[
                KeyUsage(row.key_hash, asked, row.outcome == "silent", _taken(cells[row.key_hash], asked))
                for asked, row in questions
                if row.key_hash and row.outcome in ("answered", "silent")
            ],
            unexplained=[asked.start for asked, row in questions if row.outcome == "unexplained"],
            named_windows=[asked for asked, row in questions if row.outcome == "named"],
            unkeyed={
                (row.hour, row.name): NOTHING._replace(credits_usd=row.credits_usd, byok_usd=row.byok_usd)
                for row in unkeyed
            },
            is_full=True,
        )

    def forget_left(self) -> None:
        """Drops what interrupted syncs have left: this one is complete."""
        with self._step.engine.begin() as connection:
            for extraction_id in self._extraction_ids:
                raw.drop_rows(connection, raw.USAGE_TABLES, extraction_id=extraction_id, account=self._account)


def _taken(cells: dict[Cell, Measures], window: Window) -> dict[Cell, Measures]:
    """Removes the cells of a window, and returns them: a key asked twice about it has each once."""
    return {cell: cells.pop(cell) for cell in list(cells) if cell[0] in window}
