"""The warehouse's engine: its URL, and the settings that every transaction begins with.

What stays out: how failures are named (`failures.py`), how rows get in (`loading.py`), locks (`locks.py`).
"""

from collections.abc import Mapping

import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url

from orcost_pipeline.errors import PermanentError

# What our statements rely on, whatever role, database and server have set. Local to each transaction: a pooler in
# transaction mode refuses options at the start of a session, and loses what a session sets (D63).
SESSION = {
    "client_encoding": "'UTF8'",
    "datestyle": "'ISO, MDY'",
    "intervalstyle": "'postgres'",
    "timezone": "'UTC'",
    "standard_conforming_strings": "on",
    "search_path": "''",
}
_TRANSACTION = {
    **SESSION,
    "client_min_messages": "'warning'",
    # What another client of the pooler may have left behind in the session goes back to what the role has.
    "statement_timeout": "default",
    # Whoever locks our tables for longer is named, instead of being waited for in silence.
    "lock_timeout": "'30s'",
    # Without these, a machine that vanished would hold its locks for two hours, the default of TCP.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


def set_local(settings: Mapping[str, str]) -> str:
    """The statements that make such settings, name → SQL, hold until the transaction ends."""
    return "".join(f"set local {name} to {value}; " for name, value in settings.items())


_PINS = set_local(_TRANSACTION)

_ENCODED = "In a user's name or password, write @ as %40, : as %3A, / as %2F, # as %23 and % as %25."


def warehouse_url(url: str, named: str = "ORCOST_DATABASE_URL") -> URL:
    """The user's URL for SQLAlchemy with psycopg 3; raises PermanentError for anything but Postgres.

    `named` is what the messages call it.
    """
    try:
        parsed = make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # ValueError: of a port that is none, with what it is
        raise PermanentError(
            f"{named} is not a URL; it looks like postgresql://user@host/database. {_ENCODED}"
        ) from None
    # Cut at the wrong place, what is taken for a host or a database may be a part of the password.
    if url.count("@") > 1 or ("@" in url and parsed.username is None):
        raise PermanentError(f"{named} is ambiguous: it contains more than one @, or one without a user. {_ENCODED}")
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise PermanentError(f"{named} must start with postgresql://; other databases are not supported.")
    return parsed.set(drivername="postgresql+psycopg")


def connect(url: str) -> sa.Engine:
    """An engine whose transactions have the settings that our statements rely on; nothing is connected yet."""
    # Prepared statements belong to a session, which a pooler gives to somebody else after each transaction.
    options = {"client_encoding": "utf8", "connect_timeout": 10, "prepare_threshold": None}
    engine = sa.create_engine(
        warehouse_url(url),
        connect_args=options,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=3,
        use_native_hstore=False,  # each engine would ask the server for a type that no table of ours has
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(_PINS))
    return engine
