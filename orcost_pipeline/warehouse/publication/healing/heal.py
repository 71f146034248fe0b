"""Puts right what a sync with a wrong clock published in the future. The statements are in `heal.sql`, in order."""

from datetime import datetime

import sqlalchemy as sa

from orcost_pipeline.warehouse import raw
from orcost_pipeline.warehouse.questions.accounts import account_id
from orcost_pipeline.warehouse.questions.good_sync import last_good_sync
from orcost_pipeline.warehouse.statements import statement
from orcost_pipeline.windows import utc_day


def heal(connection: sa.Connection, account: str, as_of: datetime, now: datetime) -> None:
    """Puts an account whose `as_of` lies in the future back to its last good sync, for that of `as_of` to be published.

    Hours of days that are to be built again go to `touched_hour`.
    """
    good = last_good_sync(connection, account, now)
    if good is None:
        return
    parameters = {
        "account": account,
        "account_id": account_id(connection, account),
        "as_of": as_of,
        "good_as_of": good.as_of,
        "good_hours_from": good.hours_from,
        "good_day": utc_day(good.since),
        "since": good.since,
        "doubted_days": good.doubted_days,
    }
    for text in statements():
        connection.execute(sa.text(text), parameters)
    raw.forget_after(connection, account, as_of)


def statements() -> list[str]:
    """The statements of `heal.sql`: each ends with the `;` that ends its last line."""
    return [text for text in statement("publication/healing", "heal").text.split(";\n") if text.strip()]
