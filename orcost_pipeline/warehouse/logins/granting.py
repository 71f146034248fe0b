"""Makes logins readers or viewers, and ends that.

A script has what differs from the rights that are to be: executed again, it changes nothing. What it leads to is looked
at before it is committed.
"""

from collections.abc import Iterable, Sequence

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.exc import DBAPIError

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.text import LONGEST_VALUE, MOST_NAMES, few, quoted, short
from orcost_pipeline.warehouse.logins.script import MAY_SYNC, READER, VIEWER, Script, Writer
from orcost_pipeline.warehouse.questions.rights import Right, differing_rights, listed_logins

BY_ADMINISTRATOR = "Let an administrator run what --sql prints, in psql"
_UNCHANGED = "Nothing was changed."


def reader_script(connection: sa.Connection, login: str, *, may_sync: bool) -> Script:
    """Makes a login a reader, who may request syncs only if `may_sync`.

    Raises PermanentError where the login cannot be one.
    """
    write = Writer.about(connection, login)
    steps = [write.statement("reader")]
    if may_sync:
        steps.append(write.statement("may_sync"))
    elif write.listed and write.listed.may_sync:
        steps.append(write.statement("may_not_sync"))
    return _script(connection, write, (READER, MAY_SYNC) if may_sync else (READER,), steps)


def viewer_script(connection: sa.Connection, login: str, companies: Iterable[str]) -> Script:
    """Makes a login a viewer of these companies and no others.

    Raises PermanentError where the login cannot be one.
    """
    write = Writer.about(connection, login)
    step = write.statement("viewer", companies=sql.Literal(sorted(set(companies))))
    return _script(connection, write, (VIEWER,), [step])


def revocation_script(connection: sa.Connection, login: str) -> Script:
    """Takes a login's rights away, then ends its sessions and, if orcost made it, drops it.

    Raises PermanentError where the login is neither reader nor viewer.
    """
    write = Writer.about(connection, login)
    if write.listed is None:
        raise PermanentError(f"{quoted(login)} is neither a reader nor a viewer. To list them: orcost access list")
    held = [VIEWER if write.listed.kind == "viewer" else READER, *([MAY_SYNC] if write.listed.may_sync else [])]
    roles = sql.SQL(", ").join(sql.Identifier(it) for it in held)
    is_made = write.found is not None and write.found.is_made
    ending = ["take_login", "end_sessions", "drop_login"] if is_made else ["end_sessions"]
    revoking = [write.statement("revoke", roles=roles)]
    return Script(login, (), [revoking, [write.statement(it) for it in ending]])


def _script(connection: sa.Connection, write: Writer, roles: tuple[str, ...], steps: Iterable[str]) -> Script:
    """Makes the login where it is missing, gives the roles their rights, and then takes these steps."""
    _require_suitable(connection, write, roles)
    statements, password = [write.statement("roles")], None
    if write.found is None:
        statement, password = write.new_login()
        statements.append(statement)
    if not (write.found.may_connect if write.found else write.at.is_open):
        statements.append(write.statement("connect"))
    if write.at.is_temporary_open:
        statements.append(write.statement("temporary"))
    differing = differing_rights(connection, write.login, roles)
    statements += [f"{it.statement};" for it in differing if it.is_renewed]
    return Script(write.login, roles, [[*statements, *steps]], password)


def _require_suitable(connection: sa.Connection, write: Writer, roles: Sequence[str]) -> None:
    """Raises PermanentError where the login, as it is, may not become a member of the roles."""
    name, kind = quoted(write.login), "viewer" if VIEWER in roles else "reader"
    if write.listed and write.listed.kind != kind:
        raise PermanentError(
            f"{name} is a {write.listed.kind}, and no login is both. {_UNCHANGED}\n"
            f"First: orcost access revoke {write.login}"
        )
    if write.found is None:
        return
    held = [it for it in differing_rights(connection, write.login, roles) if it.is_held and it.grantee == write.login]
    reasons = [f"{it.privilege} {it.object}".strip() for it in held]
    if write.login == write.at.owner:
        reasons = ["it owns the warehouse"]
    if not write.found.can_login:
        reasons.append("it cannot log in")
    if write.lacks_inheritance():
        reasons.append("noinherit")
    if reasons:
        told = "; ".join(few([short(it, LONGEST_VALUE) for it in reasons], MOST_NAMES))
        raise PermanentError(
            f"{name} cannot be a {kind}: {told}. {_UNCHANGED}\nName a login that has no other rights; "
            "one that is missing is made."
        )


def execute(connection: sa.Connection, script: Script) -> list[Right]:
    """Executes a script; returns what everybody in the database can do and should not, readers included.

    Raises PermanentError where the connection's user may not execute it, or where the login would end up with other
    rights than those of its roles; then nothing is changed, or all of it but dropping the login.
    """
    granting, *ending = script.transactions
    refusal = (
        f"The database's user may not do this: {{}}. {_UNCHANGED}\n"
        f"{BY_ADMINISTRATOR}; docs/access.md lists the rights that are needed."
    )
    _run(connection, granting, refusal)
    _require_exact(connection, script)
    connection.commit()
    for statements in ending:
        _run(connection, statements, f"{quoted(script.login)} has lost its rights. The login itself stays: {{}}.")
        connection.commit()
    return [it for it in differing_rights(connection) if it.is_held and it.grantee == "public"]


def _run(connection: sa.Connection, statements: Iterable[str], refusal: str) -> None:
    """Executes statements; where the server refuses one of them, raises PermanentError: `refusal`, with the reason."""
    try:
        for statement in statements:
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege | psycopg.errors.DependentObjectsStillExist):
            raise
        reason = (error.orig.diag.message_primary or "").rstrip(".")
        raise PermanentError(refusal.format(reason)) from error.orig


def _require_exact(connection: sa.Connection, script: Script) -> None:
    """Raises PermanentError where the login has other rights than its roles; those of `public` count for a viewer."""
    if not script.roles:
        if any(it.login == script.login for it in listed_logins(connection)):
            raise PermanentError(
                f"Another user of the database gave {quoted(script.login)} its rights, and has to revoke them. "
                f"{_UNCHANGED}\n{BY_ADMINISTRATOR}."
            )
        return
    concerned = {script.login, *script.roles, *(["public"] if VIEWER in script.roles else [])}
    wrong = [it for it in differing_rights(connection, script.login, script.roles) if it.grantee in concerned]
    if wrong:
        told = "\n".join(f"  {it}" for it in few([it.told for it in wrong], MOST_NAMES))
        todo = "; ".join(it.statement for it in wrong[:MOST_NAMES] if it.statement and it.is_held)
        todo = f"As an administrator, in this database: {todo}" if todo else BY_ADMINISTRATOR
        raise PermanentError(
            f"{quoted(script.login)} would have other rights than it should, or lack some. {_UNCHANGED}\n{told}\n{todo}"
        )
