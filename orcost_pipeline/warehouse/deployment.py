"""The one `orcost up` that serves a warehouse: an advisory lock, whose holder says who it is.

It says so in the statement that keeps its session, which `pg_stat_activity` shows while the session lives: nothing is
stored that a killed process would leave behind, and a database that is not migrated yet is locked too.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import sqlalchemy as sa

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.locks import DEPLOYMENT_LOCK, kept_lock
from orcost_pipeline.warehouse.questions.asking import ask

_NAME = "orcost up"


def serving(connection: sa.Connection) -> str | None:
    """Which `orcost up` serves this database, in its own words; None where none does.

    The server shows a holder's words to the same user and to superusers only.
    """
    holder = ask(connection, "deployment_holder", kind=DEPLOYMENT_LOCK, name=_NAME).scalar()
    return holder.replace("''", "'") if holder else None


def sole_deployment(engine: sa.Engine, who: str) -> AbstractContextManager[Callable[[], None]]:
    """Holds the database for this `orcost up`; raises PermanentError where another one has it.

    Yields what raises that error where another one took it while the database was restarted.
    """

    def refuse() -> None:
        with engine.connect() as connection:
            other = serving(connection)
        raise PermanentError(
            f"Another orcost up serves this database already: {other or 'one that has just ended'}.\n"
            "Use that one, or stop it first. A second deployment needs a database of its own: ORCOST_DATABASE_URL=…"
        )

    alive = sa.select(sa.literal(f"orcost up: {who}", literal_execute=True))
    return kept_lock(engine, DEPLOYMENT_LOCK, _NAME, refuse, alive)
