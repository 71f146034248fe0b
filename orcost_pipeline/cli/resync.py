"""`orcost resync`: requests a sync from the running deployment; `--wait` waits for its end."""

import time
from collections.abc import Callable
from datetime import date

import sqlalchemy as sa

from orcost_pipeline.cli.rendering import say
from orcost_pipeline.cli.report import require_account
from orcost_pipeline.errors import TransientError
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse import runs
from orcost_pipeline.warehouse.access import warehouse
from orcost_pipeline.warehouse.questions.accounts import account_states
from orcost_pipeline.warehouse.questions.syncs import requested_sync

IMPATIENT_AFTER = 30  # seconds


def resync(
    settings: Settings,
    account: str | None,
    since: date | None,
    *,
    is_waiting: bool,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Requests a sync and prints its id; waits for it if `is_waiting`, a second (`sleep`) between two looks.

    Raises PermanentError for an unknown account, TransientError where the awaited sync fails.
    """
    with warehouse(settings) as engine:
        with engine.begin() as connection:
            if account is not None:
                require_account(settings, account_states(connection), account)
            request_id = runs.request_sync(connection, account, since)
        say(f"Sync {request_id} is requested; the running deployment (orcost up) picks it up.")
        if is_waiting:
            wait(engine, request_id, sleep)
            say(f"Sync {request_id} succeeded.")


def wait(engine: sa.Engine, request_id: int, sleep: Callable[[float], object]) -> None:
    """Returns when the request has succeeded, raises TransientError when it has failed.

    A request that stays queued is reported once on stderr.
    """
    seconds = 0
    while True:
        with engine.connect() as connection:
            status, error = requested_sync(connection, request_id)
        if status == "succeeded":
            return
        if status == "failed":
            raise TransientError(f"Sync {request_id} failed: {error or 'see orcost status'}")
        if status == "queued" and seconds == IMPATIENT_AFTER:
            say(f"Sync {request_id} is still queued. Is orcost up running? Waiting on; Ctrl-C stops.", is_error=True)
        sleep(1)
        seconds += 1
