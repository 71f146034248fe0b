"""What a sync must know of one account before it asks OpenRouter: stored keys, usage, and which days are settled."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NamedTuple, Self

import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES, Measures
from orcost_pipeline.warehouse.questions.accounts import StoredAccount, stored_account
from orcost_pipeline.warehouse.questions.asking import ask, usage
from orcost_pipeline.warehouse.questions.good_sync import GoodSync, last_good_sync
from orcost_pipeline.windows import Window, day_start, joined, utc_day

# The grain in which hours are stored: nothing is left to be summed.
_KEY_HOUR = ("hour", "key_hash", "model")


class StoredKey(NamedTuple):
    """A key as the last sync stored it; `names` are all that it ever had, `name` the last of them.

    USD are what the key ever used, of credits and of BYOK.
    """

    name: str
    names: frozenset[str]
    workspace_id: str | None
    usage_usd: Decimal
    byok_usage_usd: Decimal
    last_used_at: datetime | None
    deleted_at: datetime | None


class StoredUsage:
    """Reads on demand, each question in a transaction of its own; an account never synced has nothing.

    One whose `as_of` lies in the future of `now` is read as it stood at its last good sync. What each answer holds is
    said where a sync needs it (`openrouter/reading.py`).
    """

    @classmethod
    def of_account(cls, engine: sa.Engine, account: str, now: datetime) -> Self:
        """What is stored of an account, for a sync at `now` (UTC)."""
        with engine.connect() as connection:
            return cls(engine, stored_account(connection, account), last_good_sync(connection, account, now), now)

    def __init__(self, engine: sa.Engine, row: StoredAccount | None, good: GoodSync | None, now: datetime) -> None:
        """`good`: the sync to go back to, where the account's last one had a wrong clock."""
        self._engine = engine
        # Changes of keys that were noted in the future are read again.
        self._known_to = now if good else datetime.max.replace(tzinfo=UTC)
        self._doubted_days = good.doubted_days if good else []
        self._account_id = row.account_id if row else -1
        self._published_extraction_id = row.published_run_id if row else None
        self._hours_from = good.hours_from if good else row.hours_from if row else None
        self._as_of = good.as_of if good else row.as_of if row else None
        self._is_counted = row is not None and row.is_counted
        self._is_read = row is not None and row.full_pass_at is not None
        if good:
            self._is_counted |= good.was_counted
            self._is_read = good.as_of is not None and not good.was_counted
        # After a wrong clock, all is asked again.
        self.lacks_full_reading: bool = not self._is_read or self._is_counted or good is not None
        self.is_rebuild_requested: bool = row is not None and row.is_rebuild_requested
        self.is_managed: bool = row is not None and row.kind == "management"

    def hours_from(self) -> datetime | None:
        return self._hours_from

    def as_of(self) -> datetime | None:
        return self._as_of

    def is_read(self) -> bool:
        return self._is_read

    def is_counted(self) -> bool:
        return self._is_counted

    def known_keys(self) -> Mapping[str, StoredKey]:
        rows = self._ask("stored_keys", known_to=self._known_to)
        return {
            row.key_hash: StoredKey(
                row.name,
                frozenset(row.names),
                row.workspace_id,
                row.usage_usd,
                row.byok_usage_usd,
                row.last_used_at,
                row.deleted_at,
            )
            for row in rows
        }

    def account_hours(self, window: Window) -> Mapping[tuple[datetime, str], Measures]:
        rows = self._hours([window], ("hour", "model"))
        return {(row[0], row[1]): Measures(*row[2:]) for row in rows}

    def key_hours(self, windows: Sequence[Window]) -> Mapping[tuple[datetime, str, str], Measures]:
        return {(row[0], row[1], row[2]): Measures(*row[3:]) for row in self._hours(windows, _KEY_HOUR)}

    def hours_by_key_day(self, windows: Sequence[Window]) -> Mapping[tuple[date, str, str], Measures]:
        rows = self._hours(windows, ("day", "key_hash", "model"))
        return {(row[0], row[1], row[2]): Measures(*row[3:]) for row in rows}

    def account_days(self, window: Window) -> Mapping[tuple[datetime, str], Measures]:
        return {(day_start(row[0]), row[1]): Measures(*row[2:]) for row in self._days([window], ("day", "model"))}

    def key_days(self, windows: Sequence[Window]) -> Mapping[tuple[datetime, str, str], Measures]:
        rows = self._days(windows, ("day", "key_hash", "model"))
        return {(day_start(row[0]), row[1], row[2]): Measures(*row[3:]) for row in rows}

    def days_of_keys(self, key_hashes: Sequence[str], days: Sequence[date]) -> Mapping[tuple[date, str, str], Measures]:
        grain = ("day", "key_hash", "model")
        rows = self._usage("stored_days_of_keys", grain, key_hashes=list(key_hashes), days=list(days))
        return {(row[0], row[1], row[2]): Measures(*row[3:]) for row in rows}

    def hours_read_at(self, first: date, end: date) -> Mapping[date, datetime | None]:
        return {row.day: row.hours_read_at for row in self._ask("last_readings_of_hours", first=first, end=end)}

    def activity_read_at(self) -> Mapping[str, datetime | None]:
        return {row.key_hash: row.activity_read_at for row in self._ask("last_readings_of_activity")}

    def unsettled_days(self, first: date | None, end: date) -> Sequence[date]:
        rows = self._ask(
            "unsettled_days",
            first=first,
            end=end,
            doubted=self._doubted_days,
            is_rebuild_requested=self.is_rebuild_requested,
        )
        return [row.day for row in rows]

    def settled_days(self, first: date) -> Mapping[date, Mapping[str, Measures]]:
        parameters = {"first": first, "doubted": self._doubted_days}
        days: dict[date, dict[str, Measures]] = defaultdict(dict)
        for row in self._ask("settled_account_days", **parameters):
            days[row.day] = {}
        for row in self._usage("settled_usage", ("day", "model"), **parameters):
            days[row[0]][row[1]] = Measures(*row[2:])
        return days

    def counted_spans(self) -> Sequence[Window]:
        return [Window(row.start_at, row.end_at) for row in self._ask("counted_spans")]

    def settled_keys(self, days: Sequence[date]) -> frozenset[str]:
        return frozenset(row.key_hash for row in self._ask("keys_with_usage", days=list(days)))

    def hours_without_key(self, window: Window) -> Sequence[datetime]:
        return [row.hour for row in self._ask("residual_hours", start=window.start, end=window.end)]

    def unexplained_hours(self) -> Sequence[datetime]:
        return [row.start_at for row in self._ask("unexplained_hours", extraction_id=self._published_extraction_id)]

    def _hours(self, windows: Sequence[Window], grain: tuple[str, ...]) -> Sequence[sa.Row]:
        spans = joined(windows)
        starts, ends = [span.start for span in spans], [span.end for span in spans]
        return self._usage("stored_hours", grain, starts=starts, ends=ends)

    def _days(self, windows: Sequence[Window], grain: tuple[str, ...]) -> Sequence[sa.Row]:
        spans = joined(windows)
        firsts, ends = [utc_day(span.start) for span in spans], [utc_day(span.end) for span in spans]
        return self._usage("stored_days", grain, firsts=firsts, ends=ends)

    def _usage(self, name: str, grain: tuple[str, ...], **parameters: object) -> Sequence[sa.Row]:
        """Usage by a grain: its columns, then the measures; by key, without the residual."""
        rows = usage(name, grain)
        cells, amounts = [rows.c[column] for column in grain], [rows.c[measure] for measure in MEASURES]
        if grain == _KEY_HOUR:
            statement = sa.select(*cells, *amounts)
        else:
            statement = sa.select(*cells, *map(sa.func.sum, amounts)).group_by(*cells)
        if "key_hash" in grain:
            statement = statement.where(rows.c.key_hash.is_not(None))
        with self._engine.connect() as connection:
            return connection.execute(statement, {"account_id": self._account_id, **parameters}).all()

    def _ask(self, name: str, **parameters: object) -> Sequence[sa.Row]:
        with self._engine.connect() as connection:
            return ask(connection, name, account_id=self._account_id, **parameters).all()
