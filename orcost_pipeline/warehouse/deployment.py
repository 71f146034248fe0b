"""The one `orcost up` that serves a warehouse: an advisory lock, whose holder says who it is.

It says so in the statement that keeps its session, which `pg_stat_activity` shows while the session lives: nothing is
stored that a killed process would leave behind, and a database that is not migrated yet is locked too.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import sqlalchemy as sa

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.locks import DEPLOYMENT_LOCK, kept_lock

_NAME = "orcost up"
_HOLDER = sa.text(
    "select coalesce(substring(a.query from '''orcost up: (.*)'''), 'one that this database user may not see') "
    "from pg_locks l left join pg_stat_activity a using (pid) where l.locktype = 'advisory' and l.classid = :kind "
    "and l.objid = cast(cast(hashtext(:name) as bit(32)) as bigint) and l.objsubid = 2 and l.granted "
    "and l.database = (select oid from pg_database where datname = current_database())"
)


def serving(connection: sa.Connection) -> str | None:
    """Which `orcost up` serves this database, in its own words; None where none does.

    The server tells a holder's words to the same user and to superusers only.
    """
    told = connection.execute(_HOLDER, {"kind": DEPLOYMENT_LOCK, "name": _NAME}).scalar()
    return told.replace("''", "'") if told else None


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
