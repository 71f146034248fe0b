"""The warehouse as one file, and back: pg_dump, pg_restore and psql of the server's own major version.

A backup holds the schemas of `namespaces.py`, Dagster's included, as of one instant. Restoring replaces them in one
transaction: a reader sees the old warehouse or the restored one. What stays out: whose file it is (`cli/database.py`).
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from orcost_pipeline.errors import PermanentError, TransientError
from orcost_pipeline.text import LONGEST_VALUE, MOST_NAMES, few, short
from orcost_pipeline.warehouse.deployment import serving
from orcost_pipeline.warehouse.embedded import Programs
from orcost_pipeline.warehouse.failures import LONGEST_REASON
from orcost_pipeline.warehouse.locks import SYNC_LOCK
from orcost_pipeline.warehouse.opening import NOTHING_YET, SCHEMA_VERSION, NoWarehouseError, stored_version
from orcost_pipeline.warehouse.schema.namespaces import SCHEMAS
from orcost_pipeline.warehouse.statements import statement

_ACCESS = re.compile(r"^\d+; \d+ \d+ (?:DEFAULT )?ACL ", re.MULTILINE)
_UNCHANGED = "Nothing was changed."


class Restored(NamedTuple):
    """What restoring left out: roles whose rights are in the backup and that this server does not have."""

    missing_roles: tuple[str, ...]


class BackupPrograms(NamedTuple):
    """Postgres' programs of the server's version, and the server: its address without the password, which they find in
    a file that only this user can read."""

    folder: Path
    address: str

    def run(self, name: str, *arguments: str | Path, output: int = subprocess.PIPE) -> bytes:
        """What a program prints, "" where `output` takes it; raises TransientError with its reason where it fails."""
        done = subprocess.run(  # noqa: S603 (Postgres' own programs)
            [self.folder / name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode != 0:
            raise TransientError(f"{name} failed: {_reason(done.stderr)}")
        return done.stdout or b""


def back_up(engine: sa.Engine, file: Path) -> None:
    """Writes a backup of the warehouse to a file, while others read and write the warehouse.

    Raises NoWarehouseError where there is none, PermanentError where no pg_dump of the server's version is installed,
    TransientError where it fails.
    """
    if stored_version(engine) is None:
        raise NoWarehouseError(NOTHING_YET)
    schemas = [f"--schema={name}" for name in SCHEMAS]
    with _programs(engine, "pg_dump") as programs:
        programs.run("pg_dump", "--format=custom", *schemas, f"--file={file}", "--dbname", programs.address)


def restore(engine: sa.Engine, file: Path, *, is_replacing: bool) -> Restored:
    """Puts the warehouse of a backup in the place of this database's, in one transaction.

    Raises PermanentError, and changes nothing, where the file is no backup or a newer program's, where a warehouse with
    accounts is there and `is_replacing` is not set, where something else uses the warehouse or stands on its relations;
    TransientError where the restoration fails.
    """
    with _programs(engine, "pg_restore") as programs:
        archive = _Archive(programs, file)
        if archive.version > SCHEMA_VERSION:
            raise PermanentError(
                f"{file} is of a newer program (schema {archive.version}; this one has {SCHEMA_VERSION}). {_UNCHANGED} "
                "Update the program."
            )
        _require_replaceable(engine, is_replacing=is_replacing)
        archive.restore()
        return Restored(tuple(archive.restore_rights()))


def _require_replaceable(engine: sa.Engine, *, is_replacing: bool) -> None:
    """Raises PermanentError where the database's warehouse may not be replaced now."""
    is_there = stored_version(engine) is not None
    with engine.connect() as connection:
        if who := serving(connection):
            raise PermanentError(f"An orcost up serves this database: {who}. {_UNCHANGED} Stop it first.")
        if connection.execute(statement("backup", "is_syncing"), {"kind": SYNC_LOCK}).scalar_one():
            raise PermanentError(f"A sync of this warehouse is running. {_UNCHANGED} Try again when it is over.")
        if is_there and not is_replacing and connection.execute(statement("backup", "has_accounts")).scalar_one():
            raise PermanentError(
                f"This database has a warehouse with accounts already. {_UNCHANGED}\n"
                "To replace it by the backup: orcost db restore --replace FILE"
            )
        outside = connection.execute(statement("backup", "outside"), {"schemas": list(SCHEMAS)}).scalars().all()
    if outside:
        named = ", ".join(few([short(name, LONGEST_VALUE) for name in outside], MOST_NAMES))
        raise PermanentError(
            f"What was built on the warehouse would be dropped with it: {named}. {_UNCHANGED}\n"
            "Drop it, restore, and create it again."
        )


class _Archive:
    """A backup, for the server it goes to."""

    def __init__(self, programs: BackupPrograms, file: Path) -> None:
        self._programs = programs
        self._file = file

    @cached_property
    def version(self) -> str:
        """The version of the warehouse's schema in it; raises PermanentError where it is no backup of a warehouse."""
        only = ("--data-only", "--schema=ops", "--table=schema_version", "--file=-")
        try:
            text = self._programs.run("pg_restore", *only, self._file).decode()
        except TransientError as error:
            raise PermanentError(f"{self._file} cannot be restored: {error} {_UNCHANGED}") from None
        found = re.search(r"^COPY ops\.schema_version .*;\n(\w+)\n", text, re.MULTILINE)
        if found is None:
            raise PermanentError(
                f"{self._file} is no backup of a warehouse: make one with orcost db backup. {_UNCHANGED}"
            )
        return found[1]

    def restore(self) -> None:
        """Replaces the schemas: all of them, or, where anything fails, none."""
        with self._psql("--set=ON_ERROR_STOP=1") as psql:
            assert psql.stdin  # noqa: S101 (a pipe, as asked for)
            failure: TransientError | None = None
            try:
                psql.stdin.write(statement("backup", "replace").text.encode())
                psql.stdin.flush()
                arguments = ("--no-owner", "--no-privileges", "--file=-", self._file)
                self._programs.run("pg_restore", *arguments, output=psql.stdin.fileno())
                psql.stdin.write(b"commit;\n")
            except BrokenPipeError:
                pass  # psql has ended, and says why
            except TransientError as error:
                failure = error  # without its commit, the end of the input ends the transaction without effect
            _, told = psql.communicate()
        if psql.returncode != 0:
            raise TransientError(f"The backup could not be restored: {_reason(told)} {_UNCHANGED}")
        if failure is not None:
            raise TransientError(f"{failure} {_UNCHANGED}")

    def restore_rights(self) -> Iterator[str]:
        """Grants what the backup's warehouse had granted; yields the roles that this server does not have."""
        contents = self._programs.run("pg_restore", "--list", self._file).decode()
        lines = [line for line in contents.splitlines() if _ACCESS.match(line)]
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as chosen:
            chosen.write("\n".join(lines))
            chosen.flush()
            script = self._programs.run("pg_restore", f"--use-list={chosen.name}", "--file=-", self._file)
        with self._psql() as psql:
            _, told = psql.communicate(script)
        return iter(sorted(set(re.findall(r'role "(.+?)" does not exist', told.decode(errors="replace")))))

    def _psql(self, *arguments: str) -> "subprocess.Popen[bytes]":
        command = [
            self._programs.folder / "psql",
            "--no-psqlrc",
            "--quiet",
            *arguments,
            "--dbname",
            self._programs.address,
        ]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe)  # noqa: S603 (Postgres' own)


@contextmanager
def _programs(engine: sa.Engine, wanted: str) -> Iterator[BackupPrograms]:
    """The programs for this server; raises PermanentError, with the command to run elsewhere, where there are none."""
    with engine.connect() as connection:
        major = int(connection.exec_driver_sql("show server_version_num").scalar_one()) // 10_000
    bare = engine.url._replace(drivername="postgresql", password=None)  # `set` would keep a password that is None
    address = bare.render_as_string(hide_password=False)
    found = [it for it in Programs.installed(wanted) if it.major == major]
    if not found:
        here = ", ".join(sorted({it.version for it in Programs.installed(wanted)})) or "none"
        raise PermanentError(
            f"{wanted} of Postgres {major}, which the server is, is not installed here (installed: {here}). "
            f"Install it, or run where it is:\n{_by_hand(wanted, address)}"
        )
    folder = max(found, key=lambda it: it.is_wheel).folder
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as secret:
        if engine.url.password is not None:
            secret.write("*:*:*:*:" + re.sub(r"([:\\])", r"\\\1", str(engine.url.password)))
            secret.flush()
            bare = bare.update_query_dict({"passfile": secret.name})
        yield BackupPrograms(folder, bare.render_as_string(hide_password=False))


def _by_hand(wanted: str, address: str) -> str:
    """The command that does the same without orcost; for pg_restore, into a database without a warehouse."""
    if wanted == "pg_dump":
        schemas = " ".join(f"--schema={name}" for name in SCHEMAS)
        return f"pg_dump --format=custom {schemas} --dbname='{address}' --file=FILE"
    return f"pg_restore --single-transaction --no-owner --dbname='{address}' FILE"


def _reason(told: bytes) -> str:
    """The line of a program's messages that says most, without its own name."""
    lines = told.decode(errors="replace").strip().splitlines() or ["no reason given"]
    line = next((line for line in lines if "ERROR:" in line or "error:" in line), lines[0])
    return short(re.sub(r"^.*?(?:ERROR|error):\s*", "", line).rstrip("."), LONGEST_REASON) + "."
