"""Views, functions and comments of a warehouse become what their files say, wherever they differ.

What users granted on them or built on them stays, or nothing changes and what is in the way is named.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.warehouse.failures import LockedError, database_errors
from orcost_pipeline.warehouse.locks import lock_holders
from orcost_pipeline.warehouse.schema.comments import comment_everything
from orcost_pipeline.warehouse.schema.declared import COMMENTS, DeclaredSchema, SchemaObject
from orcost_pipeline.warehouse.schema.dependents import Target, drop_with_ours
from orcost_pipeline.warehouse.schema.namespaces import WAREHOUSE_SCHEMAS
from orcost_pipeline.warehouse.schema.record import Recorded, forget, note_applied, read_record
from orcost_pipeline.warehouse.schema.rights import Held, renew_rights, restore_rights
from orcost_pipeline.warehouse.statements import statement

PAUSE_SECONDS = 1
# What Postgres says where `create or replace` does not do: columns that a view loses, what a function returns.
_INCOMPATIBLE = ("42P16", "42P13")


class Patience(NamedTuple):
    """How long a query that holds a relation is waited for, and how often. Others who read it wait as long."""

    lock_seconds: int
    tries: int


PATIENCE = Patience(lock_seconds=3, tries=3)


def apply_schema(connection: sa.Connection, schema: DeclaredSchema, before: list[Held], patience: Patience) -> None:
    """Replaces what differs from the schema, all of it or nothing; `before` is who owned and might use what.

    Raises as `patiently` does, and PermanentError where something of a user stands in the way.
    """
    patiently(connection, patience, schema, lambda: _replace(connection, schema, before))


def patiently(connection: sa.Connection, patience: Patience, schema: DeclaredSchema, make: Callable[[], None]) -> None:
    """Makes a change in a savepoint of the caller's transaction, again where a session holds what it needs.

    Raises LockedError, a TransientError, naming who holds a relation for longer than is waited for.
    """
    for attempt in range(1, patience.tries + 1):
        try:
            with database_errors(), connection.begin_nested():
                connection.exec_driver_sql(f"set local lock_timeout to '{patience.lock_seconds}s'")
                make()
            return
        except LockedError as error:
            if attempt == patience.tries:
                held = lock_holders(connection, schema.comments.relations) or error
                raise LockedError(
                    "The warehouse was not upgraded: its relations cannot be changed while another session uses them. "
                    f"{held} Nothing was changed. Try again when it has ended."
                ) from error
        time.sleep(PAUSE_SECONDS)


def _replace(connection: sa.Connection, schema: DeclaredSchema, before: list[Held]) -> None:
    record = read_record(connection)
    _Replacement(connection, schema.objects, record).run()
    restore_rights(connection, before)
    renew_rights(connection)
    comment_everything(connection, schema.comments)
    applied = schema.fingerprints()[COMMENTS]
    if record.get(COMMENTS) != Recorded(applied):
        note_applied(connection, COMMENTS, Recorded(applied))


class _Replacement:
    """One replacement of views and functions. record: what is ours, kept in step with the database."""

    def __init__(
        self, connection: sa.Connection, objects: tuple[SchemaObject, ...], record: dict[str, Recorded]
    ) -> None:
        self._connection, self._objects, self._record = connection, objects, dict(record)

    def run(self) -> None:
        there = self._relations() | {name for name, _ in self._functions()}
        changed = {it.name for it in self._objects if self._is_changed(it) or it.name not in there}
        self._put_all(changed)
        removed = self._record.keys() - {it.name for it in self._objects} - {COMMENTS}
        self._put_all(self._drop_removed(removed))

    def _is_changed(self, it: SchemaObject) -> bool:
        return it.name not in self._record or self._record[it.name].content_sha256 != it.sha256()

    def _put_all(self, names: set[str]) -> None:
        """Makes these, each after those that it uses, and what had to be dropped on the way and still has a file."""
        while it := next((it for it in self._objects if it.name in names), None):
            dropped = self._put_view(it) if it.kind == "view" else self._put_function(it)
            names = (names | dropped) - {it.name}

    def _put_view(self, it: SchemaObject) -> set[str]:
        if it.name not in self._record and it.name in self._relations():
            raise _not_ours(it)
        dropped = self._create(it)
        self._note(it, None)
        return dropped

    def _put_function(self, it: SchemaObject) -> set[str]:
        """A function with other arguments is another one to Postgres: the one before is dropped."""
        old = self._record[it.name].arguments if it.name in self._record else None
        before = self._functions()
        dropped = self._create(it)
        written = {key for key, at in self._functions().items() if key[0] == it.name and before.get(key) != at}
        ((_, arguments),) = written
        if (it.name, arguments) in before and arguments != old:
            raise _not_ours(it)
        self._note(it, arguments)
        if old is not None and old != arguments and (it.name, old) in before:
            dropped |= drop_with_ours(self._connection, Target("function", it.name, old), self._ours())
        return dropped

    def _create(self, it: SchemaObject) -> set[str]:
        """Runs the statement; returns what of ours had to be dropped for it."""
        try:
            with self._connection.begin_nested():
                self._execute(it)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _INCOMPATIBLE:
                raise
            if it.name not in self._record:
                raise _not_ours(it) from error
        else:
            return set()
        dropped = drop_with_ours(self._connection, self._target(it.name), self._ours())
        self._execute(it)
        return dropped

    def _execute(self, it: SchemaObject) -> None:
        self._connection.exec_driver_sql(it.statement, execution_options={"no_parameters": True})

    def _drop_removed(self, names: set[str]) -> set[str]:
        """Drops what has no file any more; returns what of ours stood on it."""
        dropped: set[str] = set()
        for name in sorted(names):
            target = self._target(name)
            is_there = name in self._relations() or (name, target.arguments) in self._functions()
            if is_there:
                dropped |= drop_with_ours(self._connection, target, self._ours())
        forget(self._connection, names)
        return dropped - names

    def _note(self, it: SchemaObject, arguments: str | None) -> None:
        self._record[it.name] = Recorded(it.sha256(), arguments)
        note_applied(self._connection, it.name, self._record[it.name])

    def _ours(self) -> set[Target]:
        return {self._target(name) for name in self._record}

    def _target(self, name: str) -> Target:
        arguments = self._record[name].arguments
        return Target("view" if arguments is None else "function", name, arguments)

    def _relations(self) -> set[str]:
        return set(self._catalogue("relations").scalars())

    def _functions(self) -> dict[tuple[str, str], str]:
        """Name and arguments → where the catalogue has its newest version."""
        return {(row.name, row.arguments): row.written for row in self._catalogue("functions")}

    def _catalogue(self, name: str) -> sa.CursorResult[Any]:
        parameters = {"schemas": list(WAREHOUSE_SCHEMAS)}
        return self._connection.execute(statement("schema/catalogue", name), parameters)


def _not_ours(it: SchemaObject) -> PermanentError:
    return PermanentError(
        f"The warehouse was not upgraded: the {it.kind} {it.name} exists already, and orcost did not make it. "
        "Nothing was changed.\nRename or drop it, then run orcost db migrate."
    )
