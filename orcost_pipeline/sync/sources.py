"""What people keep for the syncs, as it is written now: files of the project, or tables of the warehouse's database.

What belongs here: contents and their hashes, and why one cannot be read. What stays out: what they mean, and what holds
where they are wrong.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from orcost_pipeline.companies.rows import Content, RefusedError, sha256_of
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.project_file import Source
from orcost_pipeline.warehouse.source_table import Table, UnreadableTableError, read_table

T = TypeVar("T")

# In place of a hash, where there is nothing that can be read.
NOTHING = "none"

# Opens a connection to the warehouse; called where a source is a table of it.
Connect = Callable[[], AbstractContextManager[sa.Connection]]


class UnreadableSourceError(PermanentError):
    """A file or table cannot be read: the problem, and what to do. `is_missing`: there is no such file."""

    def __init__(self, problem: str, todo: str, *, is_missing: bool = False) -> None:
        super().__init__(f"{problem}. {todo}.")
        self.problem = problem
        self.todo = todo
        self.is_missing = is_missing

    def sentence(self, stays: str) -> str:
        """The problem and what stays active, without what to do."""
        return f"{self.problem}; {stays}."


class Outcome(NamedTuple, Generic[T]):
    """What was read, or the problem with it as a message that names what stays in force."""

    content: T | None
    problem: str | None


def refusal(error: RefusedError, stays: str) -> str:
    """The message for an invalid file or table: what stays active, then a line for each mistake."""
    return f"{error.source} was refused; {stays}.\n{error.lines()}"


def read_content(source: Source, connect: Connect) -> Content:
    """The bytes of the file, or the cells of the table.

    Raises UnreadableSourceError where it is missing or cannot be read, and the database's errors.
    """
    if source.table is not None:
        return _table(source.table, source.field, connect)
    try:
        return source.path.read_bytes()
    except FileNotFoundError:
        todo = f"Put it back, or name another with {source.field} in orcost.toml"
        raise UnreadableSourceError(f"{source.path} is gone", todo, is_missing=True) from None
    except OSError as error:
        problem = f"{source.path} cannot be read ({error.strerror})"
        raise UnreadableSourceError(problem, "Let this user read it") from None


def read_now(read: Callable[[], T], stays: str, *, is_in_force: bool) -> Outcome[T]:
    """What `read` returns, or the problem with it; neither where there is no file and nothing is in force.

    Raises database errors. `stays` is a clause that says what stays as it is after a problem.
    """
    try:
        return Outcome(read(), None)
    except RefusedError as error:
        return Outcome(None, refusal(error, stays))
    except UnreadableSourceError as error:
        if error.is_missing and not is_in_force:
            return Outcome(None, None)
        return Outcome(None, f"{error.sentence(stays)} {error.todo}.")


def content_sha256(source: Source, connect: Connect) -> str:
    """A hash of the content as written, in hex; `NOTHING` where it cannot be read.

    It notices a change without parsing: an invalid file has a hash too. Raises database errors.
    """
    try:
        return sha256_of(read_content(source, connect))
    except UnreadableSourceError:
        return NOTHING


def _table(name: str, field: str, connect: Connect) -> Table:
    with connect() as connection:
        try:
            table = read_table(connection, name)
        except UnreadableTableError as error:
            raise UnreadableSourceError(error.problem, error.todo) from None
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            reason = str(error.orig).strip().splitlines()[0]
            todo = "Let the user of ORCOST_DATABASE_URL select from it"
            raise UnreadableSourceError(f"Table {name} cannot be read ({reason})", todo) from None
    if table is None:
        raise UnreadableSourceError(f"Table {name} is not there", f"Make it, or change {field} in orcost.toml")
    return table
