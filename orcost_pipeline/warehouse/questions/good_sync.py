"""The last good sync of an account that a sync with a wrong clock left in the future.

Such an account is taken as it stood at its last good sync: `StoredUsage` reads it so, and the publication that follows
puts it back (`publication/healing/heal.py`). Hours that OpenRouter reported stay: they are true.
"""

from datetime import UTC, date, datetime
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.accounts import stored_account
from orcost_pipeline.warehouse.questions.asking import ask
from orcost_pipeline.windows import HOURS_REACH, SETTLED_AFTER, day_start, first_whole_day, is_future, utc_day

BEGINNING = datetime.min.replace(tzinfo=UTC)


class GoodSync(NamedTuple):
    """An account's last good sync, and the stored days that came or may have been settled too early since then.

    `as_of` and `hours_from` (UTC) are None where no sync was good: then nothing stored is believed. `was_counted`: its
    hours were those of counters, replaced since.
    """

    as_of: datetime | None
    hours_from: datetime | None
    doubted_days: list[date]
    was_counted: bool

    @property
    def since(self) -> datetime:
        """The instant (UTC) from which on nothing is believed; `BEGINNING` where no sync was good."""
        return self.as_of or BEGINNING


def last_good_sync(connection: sa.Connection, account: str, now: datetime) -> GoodSync | None:
    """The last good sync of an account whose stored `as_of` lies in the future; None where it does not."""
    stored = stored_account(connection, account)
    if stored is None or stored.as_of is None or not is_future(stored.as_of, now):
        return None
    good = ask(connection, "good_sync", account=account, now=now, reach=HOURS_REACH).one()
    hours_from = stored.hours_from
    if good.as_of is None or hours_from is None or hours_from > good.as_of:
        hours_from = _hours_from(connection, account, good.reported_from)
    asked = {"account": account, "now": now, "good_day": utc_day(good.as_of or BEGINNING)}
    settled_to = good.as_of - SETTLED_AFTER if good.as_of else BEGINNING
    doubted = ask(connection, "doubted_account_days", settled_to=settled_to, **asked).scalars()
    was_counted = ask(connection, "was_counted", **asked).scalar_one()
    return GoodSync(good.as_of, hours_from, list(doubted), was_counted)


def _hours_from(connection: sa.Connection, account: str, reported_from: datetime | None) -> datetime | None:
    """From which hour on all were known: from `reported_from` on, or, where analytics reported less, from the first day
    since then that has hours."""
    first = ask(connection, "first_day_with_hours", account=account, reported_from=reported_from).scalar()
    if reported_from is None or first is None or first <= first_whole_day(reported_from):
        return reported_from
    return day_start(first)
