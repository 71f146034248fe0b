"""What the warehouse holds of one account, for a sync to know what to ask."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.measures import MEASURES, Measures
from orcost_pipeline.warehouse.publication.healing.good_sync import BEGINNING, last_good_sync
from orcost_pipeline.windows import Window, day_start, utc_day

_SUMS = ", ".join(f"sum(u.{measure})" for measure in MEASURES)


class StoredKey(NamedTuple):
    """A key as the last sync stored it; `names` are all that it ever bore, `name` the last of them."""

    name: str
    names: frozenset[str]
    workspace_id: str | None
    usage_usd: Decimal
    byok_usage_usd: Decimal
    last_used_at: datetime | None
    deleted_at: datetime | None


class StoredUsage:
    """Reads on demand, each question in a transaction of its own; an account never synced has nothing.

    One whose `as_of` lies in the future of `now` is told as it stood at its last good sync.
    """

    def __init__(self, engine: sa.Engine, account: str, now: datetime) -> None:
        self._engine = engine
        with engine.connect() as connection:
            row = connection.execute(
                sa.text("select * from ref.account where account = :account"), {"account": account}
            ).one_or_none()
            good = last_good_sync(connection, account, now)
        # What became of a key in the future is learnt again.
        self._known_to = now if good else datetime.max.replace(tzinfo=UTC)
        self._doubted_days = good.doubted_days if good else []
        self._account_id = row.account_id if row else -1
        self._published_run_id = row.published_run_id if row else None
        self._hours_from = good.hours_from if good else row.hours_from if row else None
        self._as_of = good.as_of if good else row.as_of if row else None
        self._is_counted = row is not None and row.counted_from is not None
        self.full_pass_at: datetime | None = row.full_pass_at if row else None
        if good:
            # All is asked again; what was never asked stays so.
            self._is_counted |= good.was_counted
            self.full_pass_at = BEGINNING if good.as_of and not good.was_counted else None
        self.is_rebuild_requested: bool = row is not None and row.rebuild_at is not None
        self.is_managed: bool = row is not None and row.kind == "management"

    def hours_from(self) -> datetime | None:
        return self._hours_from

    def as_of(self) -> datetime | None:
        return self._as_of

    def is_read(self) -> bool:
        return self.full_pass_at is not None

    def is_counted(self) -> bool:
        return self._is_counted

    def known_keys(self) -> Mapping[str, StoredKey]:
        rows = self._rows(
            "select k.key_hash, k.usage_usd, k.byok_usage_usd, k.last_used_at, "
            "case when k.deleted_at <= :known_to then k.deleted_at end as deleted_at, "
            "max(v.name) filter (where v.valid_to is null) as name, array_agg(distinct v.name) as names, "
            "max(v.workspace_id) filter (where v.valid_to is null) as workspace_id "
            "from core.api_key k join core.api_key_version v using (key_id) "
            "where k.account_id = :account_id group by k.key_id",
            known_to=self._known_to,
        )
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
        rows = self._rows(
            f"select u.hour, m.model, {_SUMS} from core.usage_hourly u join core.model m using (model_id) "
            "where u.account_id = :account_id and u.hour >= :start and u.hour < :end group by u.hour, m.model",
            start=window.start,
            end=window.end,
        )
        return {(row[0], row[1]): Measures(*row[2:]) for row in rows}

    def key_hours(self, windows: Sequence[Window]) -> Mapping[tuple[datetime, str, str], Measures]:
        columns = ", ".join(f"u.{measure}" for measure in MEASURES)
        return {
            (row[0], row[1], row[2]): Measures(*row[3:])
            for window in windows
            for row in self._rows(
                f"select u.hour, k.key_hash, m.model, {columns} from core.usage_hourly u "
                "join core.api_key k using (key_id) join core.model m using (model_id) "
                "where u.account_id = :account_id and u.hour >= :start and u.hour < :end",
                start=window.start,
                end=window.end,
            )
        }

    def account_days(self, window: Window) -> Mapping[tuple[datetime, str], Measures]:
        rows = self._rows(
            f"select u.day, m.model, {_SUMS} from core.usage_daily u join core.model m using (model_id) "
            "where u.account_id = :account_id and u.day >= :first and u.day < :end group by u.day, m.model",
            first=utc_day(window.start),
            end=utc_day(window.end),
        )
        return {(day_start(row[0]), row[1]): Measures(*row[2:]) for row in rows}

    def key_days(self, windows: Sequence[Window]) -> Mapping[tuple[datetime, str, str], Measures]:
        return {
            (day_start(row[0]), row[1], row[2]): Measures(*row[3:])
            for window in windows
            for row in self._rows(
                f"select u.day, k.key_hash, m.model, {_SUMS} from core.usage_daily u "
                "join core.api_key k using (key_id) join core.model m using (model_id) "
                "where u.account_id = :account_id and u.day >= :first and u.day < :end "
                "group by u.day, k.key_hash, m.model",
                first=utc_day(window.start),
                end=utc_day(window.end),
            )
        }

    def unsettled_days(self, first: date | None, end: date) -> Sequence[date]:
        rows = self._rows(
            "select d.day::date from generate_series(least((:first)::date, (select min(day) from core.account_day "
            "where account_id = :account_id and day <> all(:doubted)))::timestamp, "
            "(:end)::date::timestamp - interval '1 day', interval '1 day') as d (day) "
            "left join core.account_day a on a.account_id = :account_id and a.day = d.day "
            "where (a.is_settled and a.day <> all(:doubted)) is not true or :is_rebuild_requested",
            first=first,
            end=end,
            doubted=self._doubted_days,
            is_rebuild_requested=self.is_rebuild_requested,
        )
        return [row.day for row in rows]

    def settled_days(self, first: date) -> Mapping[date, Mapping[str, Measures]]:
        days: dict[date, dict[str, Measures]] = defaultdict(dict)
        for row in self._rows(
            "select day from core.account_day "
            "where account_id = :account_id and day >= :first and day <> all(:doubted) and is_settled",
            first=first,
            doubted=self._doubted_days,
        ):
            days[row.day] = {}
        for row in self._rows(
            f"select u.day, m.model, {_SUMS} from core.usage_daily u join core.model m using (model_id) "
            "join core.account_day d using (account_id, day) "
            "where u.account_id = :account_id and u.day >= :first and u.day <> all(:doubted) and d.is_settled "
            "group by u.day, m.model",
            first=first,
            doubted=self._doubted_days,
        ):
            days[row[0]][row[1]] = Measures(*row[2:])
        return days

    def counted_spans(self) -> Sequence[Window]:
        rows = self._rows(
            "select start_at, end_at from core.counted_span where account_id = :account_id order by start_at"
        )
        return [Window(*row) for row in rows]

    def settled_keys(self, days: Sequence[date]) -> frozenset[str]:
        rows = self._rows(
            "select distinct k.key_hash from core.usage_daily u join core.api_key k using (key_id) "
            "where u.account_id = :account_id and u.day = any(:days)",
            days=list(days),
        )
        return frozenset(row.key_hash for row in rows)

    def hours_without_key(self, window: Window) -> Sequence[datetime]:
        rows = self._rows(
            "select distinct hour from core.usage_hourly "
            "where account_id = :account_id and key_id = 0 and hour >= :start and hour < :end",
            start=window.start,
            end=window.end,
        )
        return [row.hour for row in rows]

    def unexplained_hours(self) -> Sequence[datetime]:
        rows = self._rows(
            "select start_at from raw.usage_question where run_id = :run_id and outcome = 'unexplained' "
            "and account = (select account from ref.account where account_id = :account_id)",
            run_id=self._published_run_id,
        )
        return [row.start_at for row in rows]

    def _rows(self, statement: str, **parameters: object) -> Sequence[sa.Row]:
        with self._engine.connect() as connection:
            return connection.execute(sa.text(statement), {"account_id": self._account_id, **parameters}).all()
