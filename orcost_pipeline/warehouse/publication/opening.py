"""How a publication begins: one at a time for each account, after what a wrong clock published is put right."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa

from orcost_pipeline.warehouse import raw
from orcost_pipeline.warehouse.database import set_local
from orcost_pipeline.warehouse.locks import PUBLICATION_LOCK, hold_lock
from orcost_pipeline.warehouse.publication.healing.heal import heal
from orcost_pipeline.warehouse.publication.transaction import InForce, Publication
from orcost_pipeline.warehouse.questions.accounts import StoredAccount, cuts_a_sum, stored_account
from orcost_pipeline.warehouse.statements import change
from orcost_pipeline.windows import is_future, month_start

# Temporary relations of every publication: what later steps make anew.
OPENED = {
    "touched_hour": "create temporary table touched_hour (hour timestamptz) on commit drop",
    "touched_day": "create temporary table touched_day (day date) on commit drop",
    "touched_month": "create temporary table touched_month (month date) on commit drop",
    # Who had each key before this publication changes its versions; what an earlier sync left in the future included.
    "opened_holder": "create temporary table opened_holder on commit drop as select * from core.api_key_day_span",
}


@contextmanager
def publication(
    engine: sa.Engine,
    account: str,
    extraction_id: str,
    run_id: str,
    now: datetime,
    tolerance_usd: Decimal,
    in_force: InForce,
    raw_kept: timedelta,
) -> Iterator[Publication | None]:
    """A publication of an extraction, or, where it is not whole or something newer is published, of the mapping over
    what is published. Yields None for an account that was never synced. Commits when the block ends well.

    Nothing is extracted in the future of `now`; what an earlier sync published there is put right first.
    `tolerance_usd` holds from here on for all that compares: the steps, the checks, and what is derived when read.
    """
    with engine.begin() as connection:
        _open(connection, account)
        extracted = raw.complete_as_of(connection, extraction_id, account)
        whole = None if extracted is None or is_future(extracted, now) else extracted
        if whole:
            heal(connection, account, whole, now)
        stored = stored_account(connection, account)
        is_extraction = whole is not None and (stored is None or stored.as_of is None or whole >= stored.as_of)
        as_of = whole if is_extraction else stored.as_of if stored else None
        if stored is None or as_of is None:
            yield None
            return
        change(connection, "set_tolerance", account_id=stored.account_id, usd=tolerance_usd)
        is_counted = is_extraction and raw.is_extracted(connection, raw.COUNTERS, extraction_id, account)
        is_reported = is_extraction and not is_counted
        reported_from = raw.hours_reported_from(connection, extraction_id, account) if is_reported else None
        yield Publication(
            connection=connection,
            account=account,
            account_id=stored.account_id,
            extraction_id=extraction_id,
            run_id=run_id,
            as_of=as_of,
            hours_from=_hours_from(connection, stored, as_of, reported_from),
            tolerance_usd=tolerance_usd,
            in_force=in_force,
            extracted=extracted,
            is_extraction=is_extraction,
            is_counted=is_counted,
            was_counted=stored.is_counted,
            is_rebuild=is_extraction and raw.is_extracted(connection, raw.REBUILD, extraction_id, account),
            reported_from=reported_from,
            raw_kept=raw_kept,
        )


def _open(connection: sa.Connection, account: str) -> None:
    """Holds the account's publication lock until the transaction ends, and makes its temporary relations."""
    # Another publication of the account may take minutes, and ends.
    connection.execute(sa.text(set_local({"lock_timeout": "'20min'"})))
    hold_lock(connection, PUBLICATION_LOCK, account)
    connection.execute(sa.text(set_local({"lock_timeout": "'30s'"})))
    for statement in OPENED.values():
        connection.execute(sa.text(statement))


def _hours_from(
    connection: sa.Connection, stored: StoredAccount, as_of: datetime, reported_from: datetime | None
) -> datetime:
    """From which hour on all are known: counters begin with a month, analytics report all that they reach.

    What was known before a time without syncs, or before a sum of counters that they reach back into, stays stored, but
    hours are whole from `reported_from` on only.
    """
    if reported_from is None:
        return stored.hours_from or month_start(as_of)
    is_cut = cuts_a_sum(connection, stored.account_id, reported_from)
    if is_cut or stored.as_of is None or stored.hours_from is None or stored.as_of < reported_from:
        return reported_from
    return min(stored.hours_from, reported_from)
