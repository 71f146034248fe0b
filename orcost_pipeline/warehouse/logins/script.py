"""The statements that `orcost access` executes, or prints for an administrator: the files beside, with names put in."""

import secrets
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import LiteralString, NamedTuple, Self, cast

import psycopg
import sqlalchemy as sa
from psycopg import sql

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.text import quoted
from orcost_pipeline.warehouse.questions.rights import Database, Login, Role, found_login, listed_logins, this_database

READER, VIEWER, MAY_SYNC = ROLES = ("orcost_reader", "orcost_viewer", "orcost_may_sync")
LONGEST_LOGIN = 63  # bytes, of a name in Postgres
# From this version of Postgres on, a member of a role need not be able to become that role.
_SINCE_OPTIONS = 16


class Script(NamedTuple):
    """What is done to a login: statements, each list one transaction.

    roles: those that it is to be in afterwards. password: of the login that is made; None where it is there.
    """

    login: str
    roles: tuple[str, ...]
    transactions: list[list[str]]
    password: str | None = None

    def __str__(self) -> str:
        return "\n".join(line for it in self.transactions for line in ("begin;", *it, "commit;"))


@dataclass(frozen=True)
class Writer:
    """Writes the statements about one login, for a database.

    listed: what orcost access gave the login; found: what the server has; None for nothing. driver: quotes names.
    """

    login: str
    at: Database
    listed: Login | None
    found: Role | None
    driver: psycopg.Connection

    @classmethod
    def about(cls, connection: sa.Connection, login: str) -> Self:
        """Asks the connection's database about the login. Raises PermanentError for a name that no login can have."""
        if not login.strip() or not login.isprintable() or len(login.encode()) > LONGEST_LOGIN:
            raise PermanentError(f"{quoted(login)} cannot be a login: names are 1 to {LONGEST_LOGIN} printable bytes.")
        if login.startswith("pg_") or login in ("public", "none", *ROLES):
            raise PermanentError(f"{quoted(login)} cannot be a login: the name is reserved.")
        return cls(
            login,
            this_database(connection),
            next((it for it in listed_logins(connection) if it.login == login), None),
            found_login(connection, login),
            cast(psycopg.Connection, connection.connection.driver_connection),
        )

    @cached_property
    def _values(self) -> dict[str, sql.Composable]:
        """What every statement may name."""
        return {
            "login": sql.Identifier(self.login),
            "name": sql.Literal(self.login),
            "database": sql.Identifier(self.at.database),
            "owner": sql.Identifier(self.at.owner),
            "mark": sql.Literal(self.at.mark),
            "option": sql.SQL(" with inherit true, set false" if self.at.major >= _SINCE_OPTIONS else ""),
        }

    def statement(self, name: str, **values: sql.Composable) -> str:
        """The text of `<name>.sql`."""
        path = resources.files("orcost_pipeline.warehouse.logins") / f"{name}.sql"
        text = cast(LiteralString, path.read_text(encoding="utf-8"))
        return sql.SQL(text).format(**self._values, **values).as_string(self.driver).rstrip()

    def new_login(self) -> tuple[str, str]:
        """The statement that makes the login, and its password, of which the statement has only the SCRAM verifier."""
        password = secrets.token_urlsafe(24)
        names = password.encode(), self.login.encode()
        verifier = self.driver.pgconn.encrypt_password(*names, b"scram-sha-256").decode()
        return self.statement("login", verifier=sql.Literal(verifier)), password

    def lacks_inheritance(self) -> bool:
        """Whether membership of a role would give the login, which is there, no right by itself."""
        return self.found is not None and not self.found.inherits and self.at.major < _SINCE_OPTIONS
