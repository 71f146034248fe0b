"""What a sync stored whose clock was ahead: what of it is not believed, and how the next good sync puts it right.

An account whose `as_of` lies in the future is taken as it stood at its last good sync: `StoredUsage` reads it so, and
the publication that follows removes what was made up since. Hours that OpenRouter told stay: they are true.
"""

from datetime import UTC, date, datetime
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse import raw
from orcost_pipeline.windows import HOURS_REACH, SETTLED_AFTER, day_start, first_whole_day, is_future, utc_day

BEGINNING = datetime.min.replace(tzinfo=UTC)


class GoodSync(NamedTuple):
    """An account's last good sync, and the stored days that came or may have been settled too early since then.

    Of an account that has none, nothing is believed. `was_counted`: its hours were those of counters, replaced since.
    """

    as_of: datetime | None
    hours_from: datetime | None
    doubted_days: list[date]
    was_counted: bool

    @property
    def since(self) -> datetime:
        return self.as_of or BEGINNING


def last_good_sync(connection: sa.Connection, account: str, now: datetime) -> GoodSync | None:
    """The last good sync of an account whose stored `as_of` lies in the future; None where it does not."""
    stored = connection.execute(
        sa.text("select as_of, hours_from from ref.account where account = :account"), {"account": account}
    ).one_or_none()
    if stored is None or stored.as_of is None or not is_future(stored.as_of, now):
        return None
    good = connection.execute(
        sa.text(
            "with syncs as (select as_of, date_trunc('hour', as_of, 'UTC') - :reach as told, "
            "lag(as_of) over (order by as_of) as before from ops.sync_run "
            "where account = :account and status = 'succeeded' and as_of <= :now) "
            # Since the last time that was too long for hours to reach back over it.
            "select max(as_of) as as_of, max(told) filter (where before is null or before < told) as told from syncs"
        ),
        {"account": account, "now": now, "reach": HOURS_REACH},
    ).one()
    hours_from = stored.hours_from
    if good.as_of is None or hours_from > good.as_of:
        hours_from = _hours_from(connection, account, good.told)
    doubted = connection.execute(
        sa.text(
            "select d.day from core.account_day d join ref.account a using (account_id) where a.account = :account "
            "and (d.day > :good_day or (d.day + 1)::timestamp at time zone 'UTC' > :settled_to "
            "and exists (select from raw.usage_question q where q.account = a.account and q.as_of > :now "
            "and q.grain in ('day', 'past_day') and (q.start_at at time zone 'UTC')::date = d.day))"
        ),
        {
            "account": account,
            "now": now,
            "good_day": utc_day(good.as_of or BEGINNING),
            "settled_to": good.as_of - SETTLED_AFTER if good.as_of else BEGINNING,
        },
    )
    was_counted = connection.execute(
        sa.text(
            "select exists (select from ops.counter_replacement where account = :account and replaced_at > :now) "
            "or exists (select from core.account_day d join ref.account a using (account_id) "
            "where a.account = :account and d.day = :good_day and d.is_counted)"
        ),
        {"account": account, "now": now, "good_day": utc_day(good.as_of or BEGINNING)},
    )
    return GoodSync(good.as_of, hours_from, list(doubted.scalars()), bool(was_counted.scalar()))


def _hours_from(connection: sa.Connection, account: str, told: datetime | None) -> datetime | None:
    """From which hour on all were known: from `told` on, or, where analytics told less, from the first day since then
    that has hours."""
    first = connection.execute(
        sa.text(
            "select min(d.day) from core.account_day d join ref.account a using (account_id) "
            "where a.account = :account and d.day >= (cast(:told as timestamptz) at time zone 'UTC')::date "
            "and d.hours_credits_usd is not null"
        ),
        {"account": account, "told": told},
    ).scalar()
    return told if told is None or first is None or first <= first_whole_day(told) else day_start(first)


_KEYS = "v.key_id in (select key_id from core.api_key where account_id = :account_id)"

# In this order; `:as_of` is that of the sync that heals.
STATEMENTS = (
    # The account, as it stood.
    "update ref.account set as_of = :good_as_of, hours_from = :good_hours_from, full_pass_at = null, "
    "counted_from = case when counted_from <= :as_of then counted_from end where account_id = :account_id",
    # Days: those since are made anew, those before that may be settled too early are built again.
    "delete from core.usage_daily where account_id = :account_id and day > :good_day",
    "delete from core.company_day where account_id = :account_id and day > :good_day",
    "delete from core.account_day where account_id = :account_id and day > :good_day",
    "with doubted as (update core.account_day set is_settled = false "
    "where account_id = :account_id and day = any(:doubted_days) and is_settled returning day) "
    "insert into touched_hour select day::timestamp at time zone 'UTC' from doubted",
    # What was noticed in the future was noticed now.
    "update ref.account set workspaces_refused_since = least(workspaces_refused_since, :as_of), "
    "members_refused_since = least(members_refused_since, :as_of) where account_id = :account_id",
    "update core.unreadable_row set noticed_at = :as_of where account_id = :account_id and noticed_at > :as_of",
    # Hours of the future, and what counters told since.
    "delete from core.usage_hourly where account_id = :account_id and hour > :as_of",
    "delete from core.unkeyed_hour where account_id = :account_id and hour > :as_of",
    "delete from core.counter_point where account_id = :account_id and at > :since",
    "delete from core.counted_span where account_id = :account_id and start_at >= :since",
    # Keys: what became of them in the future is learnt again; one that is known only since then keeps its last version.
    "update core.api_key set deleted_at = case when deleted_at <= :as_of then deleted_at end, "
    "first_seen_at = least(first_seen_at, :as_of) "
    "where account_id = :account_id and greatest(deleted_at, first_seen_at) > :as_of",
    f"delete from core.api_key_version v where {_KEYS} and v.valid_from > :as_of and (v.valid_to is not null "
    "or exists (select from core.api_key_version o where o.key_id = v.key_id and o.valid_from <= :as_of))",
    "update core.api_key_version v set valid_from = least(v.valid_from, :as_of), valid_to = null "
    f"where {_KEYS} and greatest(v.valid_from, v.valid_to) > :as_of",
    # Restatements of days that were not settled are none; the others were noticed by now, each as one.
    "delete from ops.restatement where account = :account and noticed_at > :as_of and day = any(:doubted_days)",
    "with noticed as (delete from ops.restatement where account = :account and noticed_at > :as_of returning *) "
    "insert into ops.restatement select account, day, key_hash, model, :as_of, "
    "(array_agg(credits_usd_before order by noticed_at))[1], "
    "(array_agg(credits_usd_after order by noticed_at desc))[1], "
    "(array_agg(byok_usd_before order by noticed_at))[1], "
    "(array_agg(byok_usd_after order by noticed_at desc))[1], "
    "min(run_id) from noticed group by account, day, key_hash, model",
    "with replaced as (delete from ops.counter_replacement where account = :account and replaced_at > :as_of "
    "returning *) insert into ops.counter_replacement select distinct on (day) account, day, :as_of, "
    "counted_credits_usd, told_credits_usd, counted_byok_usd, told_byok_usd, run_id "
    "from replaced order by day, replaced_at desc",
)


def heal(connection: sa.Connection, account: str, as_of: datetime, now: datetime) -> None:
    """Puts an account whose `as_of` lies in the future back to its last good sync, for that of `as_of` to be published.

    Hours of days that are to be built again go to `touched_hour`.
    """
    good = last_good_sync(connection, account, now)
    if good is None:
        return
    account_id = connection.execute(
        sa.text("select account_id from ref.account where account = :account"), {"account": account}
    ).scalar_one()
    told = {
        "account": account,
        "account_id": account_id,
        "as_of": as_of,
        "good_as_of": good.as_of,
        "good_hours_from": good.hours_from,
        "good_day": utc_day(good.since),
        "since": good.since,
        "doubted_days": good.doubted_days,
    }
    for statement in STATEMENTS:
        connection.execute(sa.text(statement), told)
    raw.forget_after(connection, account, as_of)
