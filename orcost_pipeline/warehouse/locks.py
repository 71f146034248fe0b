"""Advisory locks of the warehouse, held for a transaction or across lost sessions; and who holds relations.

What stays out: which lock is held for what, and for how long (`runs.py`, `publication/`, `schema/`).
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from orcost_pipeline.errors import OrcostError
from orcost_pipeline.warehouse.questions.asking import ask
from orcost_pipeline.warehouse.statements import change

# Advisory locks are pairs (class, number): one class for each thing that is locked.
MIGRATION_LOCK, MAPPING_LOCK, SYNC_LOCK, PUBLICATION_LOCK, KEY_OWNER_LOCK = 7_301, 7_302, 7_303, 7_304, 7_305
DEPLOYMENT_LOCK, ALERT_LOCK, CLOSING_LOCK, PLANS_LOCK, RATES_LOCK = 7_306, 7_307, 7_308, 7_309, 7_310

_TAKE = sa.text("select pg_try_advisory_xact_lock(:kind, hashtext(:name))")
_ALIVE = sa.text("select 1")


def hold_lock(connection: sa.Connection, kind: int, name: str | None = None) -> None:
    """Holds an advisory lock until the transaction ends; waits for whoever has it."""
    change(connection, "hold_lock", kind=kind, name=name)


def take_lock(connection: sa.Connection, kind: int, name: str) -> None:
    """Takes an advisory lock for the transaction that it begins; waits for whoever has it.

    Polls instead of blocking, so that an interrupt takes effect at once.
    """
    while not connection.execute(_TAKE, {"kind": kind, "name": name}).scalar_one():
        connection.rollback()
        time.sleep(0.2)


@contextmanager
def kept_lock(
    engine: sa.Engine,
    kind: int,
    name: str,
    waiting: Callable[[], None] = lambda: None,
    alive: sa.Executable = _ALIVE,
) -> Iterator[Callable[[], None]]:
    """Holds an advisory lock, and takes it again in a new session if its session is lost.

    Waits for the lock's holder, calling `waiting` once; an OrcostError from `waiting` ends the wait. Yields a check: if
    another session took the lock after ours was lost, and `waiting` raised an OrcostError, calling the check raises it.
    `alive` is the statement that keeps the session alive; the server shows it as the session's query.
    """
    keeper = _Keeper(engine, {"kind": kind, "name": name}, waiting, alive)
    keeper.start()
    try:
        keeper.held.result()
        yield keeper.check
    finally:
        keeper.is_over.set()
        keeper.join(5)


class _Keeper(threading.Thread):
    """Holds an advisory lock until `is_over`; if its session is lost, takes it again as soon as there is another one.

    The lock belongs to a transaction left open: between transactions, a pooler in transaction mode gives the session to
    others. Each of its snapshots ends with its statement, so that it holds back no vacuum.
    """

    def __init__(
        self, engine: sa.Engine, lock: dict[str, Any], waiting: Callable[[], None], alive: sa.Executable
    ) -> None:
        super().__init__(daemon=True)
        self.held: Future[None] = Future()
        self.is_over = threading.Event()
        self._engine, self._lock, self._waiting, self._alive = engine, lock, waiting, alive
        self._refusal: OrcostError | None = None

    def check(self) -> None:
        """Raises what ended the wait for the lock after its session was lost."""
        if self._refusal is not None:
            raise self._refusal

    def run(self) -> None:
        while not self.is_over.is_set():
            try:
                with self._engine.connect() as session:
                    # Not for the pool: whatever happens, the lock ends with the session.
                    session.detach()
                    self._hold(session)
            except Exception as error:
                if not self.held.done():
                    self.held.set_exception(error)
                    return
                if isinstance(error, OrcostError):
                    self._refusal = error
                    return
                self.is_over.wait(1)

    def _hold(self, session: sa.Connection) -> None:
        is_announced = False
        while not session.execute(_TAKE, self._lock).scalar_one():
            session.rollback()
            if not is_announced:
                self._waiting()
                is_announced = True
            if self.is_over.wait(0.2):
                return
        change(session, "keep_session")
        # From the first moment on the server shows who holds it.
        session.execute(self._alive)
        if not self.held.done():
            self.held.set_result(None)
        while not self.is_over.wait(1):
            session.execute(self._alive)


def lock_holders(connection: sa.Connection, wanted: Collection[str] = ()) -> str:
    """A sentence about the sessions that lock relations of the warehouse against all others; "" where there are none.

    For the `wanted` relations, such as views to replace, it names every session that uses one.
    """
    rows = ask(connection, "lock_holders", wanted=list(wanted)).all()
    holders = (
        f"{row.relation} by session {row.pid} of user {row.usename}"
        f"{f' ({row.program})' if row.program else ''}{f' since {row.since} UTC' if row.since else ''}"
        for row in rows
    )
    return f"Locked: {'; '.join(holders)}." if rows else ""
