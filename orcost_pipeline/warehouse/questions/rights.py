"""Rights in the warehouse's database that exceed, or fall short of, those granted by `orcost access`."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.warehouse.questions.asking import Rows, ask, records


class Right(NamedTuple):
    """A right that a role, a login or `public` has and should not have (`is_held`), or that a role lacks.

    `statement` corrects it; None where only a person can. `is_renewed`: upgrades execute it. `told`: all in words.
    """

    grantee: str
    privilege: str
    object: str
    is_held: bool
    is_renewed: bool
    statement: str | None
    told: str


def differing_rights(connection: sa.Connection, login: str | None = None, roles: Sequence[str] = ()) -> list[Right]:
    """Every right that is not as it should be, with `login` looked at as the member of `roles` that it is to become.

    Empty where no role of orcost access has rights in this database.
    """
    return records(Right, ask(connection, "differing_rights", login=login, roles=list(roles)))


def undue_rights(connection: sa.Connection) -> Rows:
    """Rights that viewers, readers and `public` should not have in this database: grantee, privilege, object."""
    columns = Right._fields[:3]
    held = [it for it in differing_rights(connection) if it.is_held]
    return Rows(columns, [dict(zip(columns, it, strict=False)) for it in held])


class Login(NamedTuple):
    """A login that orcost access gave rights to. kind: reader or viewer; companies: those that a viewer sees."""

    login: str
    kind: str
    companies: list[str]
    may_sync: bool


def listed_logins(connection: sa.Connection) -> list[Login]:
    """Every login with rights in this database, by name."""
    return records(Login, ask(connection, "access_logins", mark=this_database(connection).mark))


class Role(NamedTuple):
    """A login as the server has it. may_connect: to this database; is_made: by orcost access, for this database."""

    can_login: bool
    inherits: bool
    may_connect: bool
    is_made: bool


def found_login(connection: sa.Connection, login: str) -> Role | None:
    """The login of this name; None where the server has none."""
    found = records(Role, ask(connection, "found_login", login=login, mark=this_database(connection).mark))
    return found[0] if found else None


class Database(NamedTuple):
    """A database: who owns its tables, whether everybody may connect to it and make temporary ones, and the comment on
    logins that orcost makes for it (D102)."""

    database: str
    major: int
    owner: str
    is_open: bool
    is_temporary_open: bool
    mark: str


def this_database(connection: sa.Connection) -> Database:
    """The database of the connection."""
    return records(Database, ask(connection, "this_database"))[0]


def open_sessions(connection: sa.Connection, login: str) -> int:
    """The number of sessions of a login, in all databases of the server."""
    return ask(connection, "open_sessions", login=login).scalar_one()
