"""`orcost doctor`: asks OpenRouter, the database and this machine, reads the warehouse, and says what helps.

It mends nothing: it neither migrates nor makes a first, empty database (one that is there already is started). All are
asked at the same time, and nobody is waited for long. What stored rows mean is in `findings.py`.
"""

import asyncio
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg
import sqlalchemy as sa
import typer
from dotenv import dotenv_values
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from orcost_pipeline.cli import findings
from orcost_pipeline.cli.database import database_snapshot, snapshot
from orcost_pipeline.cli.findings import ERROR, NOTE, WARNING, Code, Finding, Standing, WarehouseState, is_syncing
from orcost_pipeline.cli.home import of_home
from orcost_pipeline.cli.map.check import warnings_of
from orcost_pipeline.cli.rendering import as_json, show
from orcost_pipeline.cli.services import is_dagster
from orcost_pipeline.companies.mapping import Mapping as CompanyMapping
from orcost_pipeline.companies.mapping import MappingError
from orcost_pipeline.companies.rows import Mistake
from orcost_pipeline.defs.attribution import coverage, idle_rules
from orcost_pipeline.defs.identity import contradiction, told_evidence
from orcost_pipeline.defs.mapping_source import MappingUnreadableError, read_companies, read_source
from orcost_pipeline.errors import InvalidKeyError, OrcostError, TransientError
from orcost_pipeline.openrouter.client import OpenRouter, allowed
from orcost_pipeline.openrouter.records import ApiKey
from orcost_pipeline.openrouter.requests import PATIENCE_AT_A_TERMINAL
from orcost_pipeline.settings import Account, Settings, load_settings
from orcost_pipeline.text import few, plural
from orcost_pipeline.warehouse import accounts, reports
from orcost_pipeline.warehouse.accounts import Evidence
from orcost_pipeline.warehouse.database import connect, database_errors, set_local
from orcost_pipeline.warehouse.embedded import OLDEST_MAJOR, EmbeddedPostgres, EmbeddedPostgresError
from orcost_pipeline.warehouse.opening import SCHEMA_VERSION
from orcost_pipeline.warehouse.reports import Server
from orcost_pipeline.warehouse.schema.namespaces import (
    ENCODING,
    encoding_problem,
    foreign_problem,
    foreign_schemas,
    schema_version,
)
from orcost_pipeline.windows import CLOCK_WRONG, CLOCKS_AGREE_WITHIN, DAY

# Seconds: for each of the two rounds of questions to OpenRouter; for a statement of the database.
ANSWER_WITHIN = 6.0
STATEMENT_WITHIN = 10
NAMED_KEYS = 3
GROUP_OR_OTHERS = 0o077

NOTHING_TOLD = Evidence()

T = TypeVar("T")
Clock = Callable[[], datetime]


def doctor(output: str, port: int, clock: Clock) -> int:
    """Prints all that is wrong, worst first; the exit code is 1 where there is an error."""
    now = clock()
    try:
        settings = load_settings()
    except (OrcostError, OSError) as error:
        todo = "Mend it, then: orcost doctor"
        found, checked = [Finding(ERROR, Code.SETTINGS, None, str(error), todo)], "settings"
    else:
        found = findings.worst_first(examine(settings, port, clock))
        asked = plural(len(settings.accounts), "account")
        checked = f"settings, {asked} at OpenRouter, database, disk, mapping, data, port {port}"
    code = findings.exit_code(found)
    if output == "json":
        typer.echo(as_json({"ok": code == 0, "findings": findings.as_data(found)}))
    else:
        show(*findings.lines(found, now, f"All is well. Checked: {checked}."))
    return code


def examine(settings: Settings, port: int, clock: Clock) -> Iterator[Finding]:
    """Every finding there is."""
    now = clock()
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask_all, settings.accounts, clock)
        listening = pool.submit(is_dagster, port)
        look = look_into(settings, now)
        answers, listens = asking.result(), listening.result()
    stored = with_answers(look.stored, settings, answers) if look.stored else None
    standings = {standing.account: standing for standing in stored.standings} if stored else {}
    yield from _of_env(settings)
    yield from _of_keys(settings, standings)
    for answer in answers.values():
        stored_evidence = look.evidence.get(answer.account, NOTHING_TOLD)
        yield from _of_answer(answer, standings.get(answer.account), contradiction(stored_evidence, answer.told))
    yield from _of_clock(answers.values())
    yield from look.found
    mapping = [*_of_mapping(settings, look, now), *_of_companies(settings)]
    yield from mapping
    if stored:
        is_up = bool(listens) if is_syncing(settings) else None
        told = findings.of_stored(stored, settings, now, is_up)
        superseded = _superseded(mapping)
        yield from (it for it in told if it.code not in superseded)
    yield from of_home(settings)
    yield from _of_port(port, listens)


# Settings


def _of_env(settings: Settings) -> Iterator[Finding]:
    """Whether the secrets of `.env` are kept."""
    env = settings.folder / ".env"
    secrets = {"ORCOST_DATABASE_URL", *(account.api_key_env for account in settings.accounts)}
    if not env.is_file() or not any(value for name, value in dotenv_values(env).items() if name in secrets):
        return
    if env.stat().st_mode & GROUP_OR_OTHERS:
        message = f"{env} holds secrets, and other users of this machine may read it."
        yield Finding(WARNING, Code.ENV_READABLE, None, message, f"chmod 600 {env}")
    if _git(settings.folder, "ls-files", "--error-unmatch", ".env") == 0:
        message = f"{env} is in git: whoever has the repository has its secrets."
        todo = "git rm --cached .env; add .env to .gitignore; then make new keys and revoke the old ones"
        yield Finding(ERROR, Code.ENV_IN_GIT, None, message, todo)
    elif _git(settings.folder, "check-ignore", "--quiet", ".env") == 1:
        message = f"git does not ignore {env}: the next commit may publish its secrets."
        yield Finding(WARNING, Code.ENV_IN_GIT, None, message, "echo .env >> .gitignore")


def _git(folder: Path, *arguments: str) -> int | None:
    """The exit code of git, which is 128 outside a work tree; None without git."""
    program = shutil.which("git")
    if program is None:
        return None
    command = [program, "-C", str(folder), *arguments]
    with suppress(subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, timeout=5, check=False).returncode  # noqa: S603
    return None


def _of_keys(settings: Settings, standings: Mapping[str, Standing]) -> Iterator[Finding]:
    """Accounts whose key is not there."""
    is_reader = any(standing.as_of for standing in standings.values()) and not is_syncing(settings)
    for account in settings.accounts:
        if account.api_key is not None:
            continue
        if is_reader and account.name not in standings:
            message, todo = "No key is configured here: others sync what is read here.", "orcost init, to sync here too"
            yield Finding(NOTE, Code.NO_KEY, None, message, todo)
        else:
            message = f"No key is configured: {account.api_key_env} is not set."
            yield Finding(ERROR, Code.NO_KEY, account.name, message, "orcost init")


# OpenRouter, live


@dataclass(frozen=True)
class Answer:
    """What an account's API said just now. `keys` are None where they were not asked for or did not come; `is_spending`
    is whether one of them was charged within a day, `told` what it all says of whose account it is."""

    account: str
    is_accepted: bool
    can_manage: bool = False
    balance_usd: Decimal | None = None
    credits_total_usd: Decimal | None = None
    is_spending: bool = False
    keys: Sequence[ApiKey] | None = None
    told: Evidence = NOTHING_TOLD
    ahead: timedelta | None = None
    found: tuple[Finding, ...] = ()


class _Api(OpenRouter):
    """An account's API that notes the last refusal's status."""

    def __init__(self, account: Account, key: SecretStr, clock: Clock) -> None:
        super().__init__(
            account.name,
            key,
            account.base_url,
            key_env=account.api_key_env,
            clock=clock,
            patience=PATIENCE_AT_A_TERMINAL,
        )
        self.refusal: int | None = None
        self._http.event_hooks = {"response": [self._note]}

    async def _note(self, response: httpx.Response) -> None:
        if not response.is_success:
            self.refusal = response.status_code


def ask_all(accounts: Sequence[Account], clock: Clock) -> Mapping[str, Answer]:
    """The answer of each account that has a key, all asked at the same time."""

    async def answers() -> list[Answer]:
        return await asyncio.gather(*(ask(it, it.api_key, clock) for it in accounts if it.api_key is not None))

    # Unlike asyncio.run, closing a loop does not wait for a look-up of a name that hangs.
    loop = asyncio.new_event_loop()
    try:
        return {answer.account: answer for answer in loop.run_until_complete(answers())}
    finally:
        loop.close()


async def ask(account: Account, secret: SecretStr, clock: Clock) -> Answer:
    """Which kind of key it is; of a management key also what is left and which keys there are."""
    try:
        api = _Api(account, secret, clock)
    except OrcostError as error:
        return Answer(account.name, is_accepted=False, found=(_of_error(account, error, None),))
    async with api:
        key = await _tried(account, api, api.key())
        if isinstance(key, Finding):
            return Answer(account.name, is_accepted=False, ahead=api.clock_ahead, found=(key,))
        if not key.can_manage:
            return Answer(account.name, is_accepted=True, ahead=api.clock_ahead)
        credits_told, listed = await asyncio.gather(
            _tried(account, api, allowed(api.credits())), _tried(account, api, api.account_keys())
        )
    credit = None if isinstance(credits_told, Finding) else credits_told
    told = NOTHING_TOLD
    if not isinstance(listed, Finding):
        workspaces = [workspace.id for workspace in listed.workspaces.rows]
        told = told_evidence(listed.keys, workspaces, key.organization_id, credit, is_whole=listed.is_whole)
    keys = None if isinstance(listed, Finding) else listed.keys
    return Answer(
        account.name,
        is_accepted=True,
        can_manage=True,
        balance_usd=credit.balance_usd if credit else None,
        credits_total_usd=credit.total_credits if credit else None,
        is_spending=any(_is_spending(it, clock()) for it in keys or ()),
        keys=keys,
        told=told,
        ahead=api.clock_ahead,
        found=tuple(answer for answer in (credits_told, listed) if isinstance(answer, Finding)),
    )


def _is_spending(key: ApiKey, now: datetime) -> bool:
    """Whether a key was charged today, or used within a day in a week in which it was charged."""
    was_used = key.last_used_at is not None and now - key.last_used_at < DAY
    return bool(key.usage_daily or (was_used and key.usage_weekly))


async def _tried(account: Account, api: _Api, question: Awaitable[T]) -> T | Finding:
    """The answer, or why there is none."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            return await question
    except (OrcostError, TimeoutError) as error:
        return _of_error(account, error, api.refusal)


def _of_error(account: Account, error: Exception, refusal: int | None) -> Finding:
    """An error of several lines says in the last what to do. Of the address, which may hold a secret, only the host."""
    told, _, advice = str(error).rpartition("\n")
    if isinstance(error, TransientError | TimeoutError):
        host = httpx.URL(account.base_url).netloc.decode()
        last = f"; its last answer was {refusal}" if refusal else ""
        told = told or advice or f"{host} did not answer in {ANSWER_WITHIN:g} seconds{last}."
        todo = f"See status.openrouter.ai, and whether this machine reaches {host} (network, proxy)"
        return Finding(ERROR, Code.OPENROUTER_UNREACHABLE, account.name, told, todo)
    code = Code.INVALID_KEY if isinstance(error, InvalidKeyError) else Code.OPENROUTER_REFUSES
    if not told:
        told, advice = advice, "Check OPENROUTER_BASE_URL, and see whether there is a newer orcost_pipeline"
    return Finding(ERROR, code, account.name, told, advice)


def with_answers(stored: WarehouseState, settings: Settings, answers: Mapping[str, Answer]) -> WarehouseState:
    """What is stored, with what was heard since: whether a key is accepted, and what is left."""
    keyless = {account.name for account in settings.accounts if account.api_key is None}
    standings = []
    for standing in stored.standings:
        answer = answers.get(standing.account)
        is_accepted = answer.is_accepted if answer else (False if standing.account in keyless else None)
        standings.append(replace(standing, is_accepted=is_accepted, **_credits(answer)))
    return replace(stored, standings=standings)


def _credits(answer: Answer | None) -> dict[str, Any]:
    """What an answer says of credits, in the fields of a standing; nothing where it does not know the balance."""
    if answer is None or answer.balance_usd is None:
        return {}
    return {name: getattr(answer, name) for name in ("balance_usd", "credits_total_usd", "is_spending")}


def _of_answer(answer: Answer, standing: Standing | None, contradicting: str | None = None) -> Iterator[Finding]:
    """What an account's API says; `standing` is None where the warehouse cannot be asked or knows nothing of it,
    `contradicting` why it cannot be the account that is stored."""
    is_known = standing is not None and standing.status in ("invalid_key", "unreachable")
    yield from (replace(it, since=standing.failing_since if standing and is_known else None) for it in answer.found)
    if answer.is_accepted and not answer.can_manage:
        yield _ordinary(answer.account, standing)
    if standing is None:
        yield from findings.of_credits(Standing(answer.account, **_credits(answer)))
    if contradicting:
        yield from _of_stranger(answer.account, standing, contradicting)
    elif answer.keys is not None:
        yield from _of_listing(answer.account, answer.keys, standing)


def _of_stranger(account: str, standing: Standing | None, contradicting: str) -> Iterator[Finding]:
    """That the key is another account's, unless the last sync said so."""
    if standing is None or standing.error_code != Code.OTHER_ACCOUNT:
        message = f"The key belongs to another OpenRouter account than what is stored: {contradicting}."
        todo = f"{findings.NOT_ITS_KEY}{findings.sync_command(account)}"
        yield Finding(ERROR, Code.OTHER_ACCOUNT, account, message, todo)


def _ordinary(account: str, standing: Standing | None) -> Finding:
    message = (
        "It has an ordinary key, which knows itself alone: its total cost by calendar day, week and month works;\n"
        "other keys, models, tokens and history do not."
    )
    severity = NOTE
    if standing and standing.kind == "management":
        severity = ERROR
        message += "\nA management key has synced this account so far: its other keys would seem to cost nothing."
    todo = "Make a management key (openrouter.ai/settings/management-keys), then: orcost init"
    return Finding(severity, Code.ORDINARY_KEY, account, message, todo)


def _of_listing(account: str, keys: Sequence[ApiKey], standing: Standing | None) -> Iterator[Finding]:
    """Keys that are not in the tables, or not even at OpenRouter."""
    if not keys:
        message = "OpenRouter lists no API key: there is nothing to attribute."
        todo = "If it has keys: this management key belongs to another account or organization. Make one there"
        yield Finding(WARNING, Code.NO_API_KEYS, account, message, todo)
    if standing is None or standing.as_of is None:
        return
    missing = [key for key in keys if key.hash not in standing.keys.hashes]
    if not missing:
        return
    first_at = min((key.created_at for key in missing if key.created_at), default=None)
    is_overdue = first_at is not None and first_at < standing.as_of
    named = ", ".join(f'"{key.name or key.label}"' for key in missing[:NAMED_KEYS])
    more = f" and {len(missing) - NAMED_KEYS} more" if len(missing) > NAMED_KEYS else ""
    message = f"{plural(len(missing), 'key')} at OpenRouter not in the tables yet: {named}{more}."
    message += " The last sync should have seen that." if is_overdue else " New keys come with the next sync."
    severity = WARNING if is_overdue else NOTE
    todo = f"orcost resync (where orcost up runs), or: {findings.sync_command(account)}"
    yield Finding(severity, Code.KEYS_MISSING, account, message, todo, first_at)


def _of_clock(answers: Iterable[Answer]) -> Iterator[Finding]:
    """Whether this machine's clock is the server's; the hour in which a sync ends depends on it."""
    ahead = max((answer.ahead for answer in answers if answer.ahead), key=abs, default=timedelta(0))
    if abs(ahead) > CLOCKS_AGREE_WITHIN:
        severity = ERROR if abs(ahead) > CLOCK_WRONG else WARNING
        told = f"{plural(round(abs(ahead).total_seconds()), 'second')} {'ahead' if ahead > timedelta(0) else 'behind'}"
        message, todo = f"This machine's clock is {told}.", "Set the clock by NTP, such as: timedatectl set-ntp true"
        yield Finding(severity, Code.CLOCK_OFF, None, message, todo)


# The database


@dataclass(frozen=True)
class Look:
    """What came of looking into the warehouse: what it holds, None where that is not known; what is wrong there; what
    tells each account from another.

    `is_new`: there is no warehouse yet.
    """

    stored: WarehouseState | None = None
    found: tuple[Finding, ...] = ()
    is_new: bool = False
    evidence: Mapping[str, Evidence] = field(default_factory=dict)


def look_into(settings: Settings, now: datetime) -> Look:
    """Reads the warehouse as it is: nothing is made, nothing migrated."""
    configured = settings.database_url.get_secret_value() if settings.database_url else None
    try:
        if configured is None and EmbeddedPostgres(settings.home).data() is None:
            return Look(found=(_NOTHING_YET,), is_new=True)
        with database_errors():
            engine = connect(configured or EmbeddedPostgres(settings.home).start())
            try:
                with engine.connect() as connection:
                    return _look(connection, settings, now)
            finally:
                engine.dispose()
    except (OrcostError, EmbeddedPostgresError, DBAPIError, OSError) as error:
        return Look(found=(_of_database_error(error),))


def _of_database_error(error: Exception) -> Finding:
    # SQLAlchemy's own words hold the statement.
    message = str(error.orig).strip().splitlines()[0] if isinstance(error, DBAPIError) else str(error)
    if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
        return _no_rights(message, "Grant it, or give another user in ORCOST_DATABASE_URL")
    todo = "Start it, or mend ORCOST_DATABASE_URL; costs that came in are safe"
    return Finding(ERROR, Code.DATABASE_UNREACHABLE, None, message, todo)


_NOTHING_YET = Finding(NOTE, Code.NEVER_SYNCED, None, "There is no warehouse yet: nothing was synced.", "orcost sync")


def _look(connection: sa.Connection, settings: Settings, now: datetime) -> Look:
    within = sa.text(set_local({"statement_timeout": f"'{STATEMENT_WITHIN}s'"}))
    connection.execute(within)
    server, foreign = reports.server(connection), foreign_schemas(connection)
    connection.commit()
    if foreign:
        problem, todo = foreign_problem(server.database, foreign)
        return Look(found=(Finding(ERROR, Code.SCHEMAS_TAKEN, None, problem, todo),))
    found = tuple(_of_server(server, is_writer=is_syncing(settings)))
    if server.major < OLDEST_MAJOR or server.may_read is False:
        return Look(found=found)
    frozen = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    frozen.execute(within)
    version = schema_version(frozen)
    if version is None:
        return Look(found=(*found, _NOTHING_YET), is_new=True)
    if version != SCHEMA_VERSION:
        return Look(found=(*found, _other_schema(version)))
    # Whose account a key is matters to who syncs; who only reads sees no raw tables.
    syncing = settings.accounts if server.may_write else ()
    evidence = {account.name: accounts.stored_evidence(frozen, account.name) for account in syncing}
    return Look(findings.read(frozen, settings, now), found, evidence=evidence)


def _of_server(server: Server, *, is_writer: bool) -> Iterator[Finding]:
    if server.major < OLDEST_MAJOR:
        message = f"Postgres {server.major} is too old: orcost needs {OLDEST_MAJOR} or newer."
        yield Finding(ERROR, Code.DATABASE_OLD, None, message, "Upgrade it, or set another ORCOST_DATABASE_URL")
    if server.encoding != ENCODING:
        problem, todo = encoding_problem(server.database, server.encoding)
        yield Finding(ERROR, Code.DATABASE_ENCODING, None, problem, todo)
    if server.connections > server.max_connections * 9 // 10:
        message = f"{server.connections} of the database's {server.max_connections} connections are taken."
        todo = "Close sessions (select * from pg_stat_activity), or raise max_connections"
        yield Finding(WARNING, Code.DATABASE_FULL, None, message, todo)
    if server.may_read is False:
        todo = "grant usage on its schemas and select on their tables, or give the user of the syncs"
        yield _no_rights(f'The user "{server.user}" may not read the warehouse.', todo)
    elif is_writer:
        yield from _of_writing(server)


def _of_writing(server: Server) -> Iterator[Finding]:
    """What stands against a sync; a machine without keys need not write."""
    if server.is_standby or server.is_read_only:
        why = "a standby, in recovery" if server.is_standby else "read-only (transaction_read_only)"
        todo = "Give the address of the primary in ORCOST_DATABASE_URL"
        if not server.is_standby:
            todo = f'alter database "{server.database}" reset default_transaction_read_only, or see why it was set'
        yield Finding(ERROR, Code.DATABASE_READ_ONLY, None, f"The database is {why}: no sync can write.", todo)
    elif not server.may_create:
        todo = f'grant create on database "{server.database}" to "{server.user}"'
        yield _no_rights(f'The user "{server.user}" may not create schemas: no sync can run.', todo)
    elif server.may_write is False:
        todo = f'Make "{server.user}" the owner of the tables, or give the user who made them'
        yield _no_rights(f'The user "{server.user}" may not write to the warehouse: no sync can.', todo)


def _no_rights(message: str, todo: str) -> Finding:
    return Finding(ERROR, Code.DATABASE_RIGHTS, None, message, todo)


def _other_schema(version: str) -> Finding:
    told = f"The warehouse's schema ({version}) is {{}} than this program's ({SCHEMA_VERSION})"
    if version > SCHEMA_VERSION:
        message = f"{told.format('newer')}: nothing can be read or synced."
        return Finding(ERROR, Code.SCHEMA_NEWER, None, message, "Update orcost on this machine")
    message = f"{told.format('older')}: nothing is read until it is migrated."
    return Finding(WARNING, Code.SCHEMA_OLDER, None, message, "orcost db migrate (the next sync does so too)")


# This machine


def _of_mapping(settings: Settings, look: Look, now: datetime) -> Iterator[Finding]:
    """What the mapping file says now, against what is in force; nothing where this machine does not sync."""
    if not is_syncing(settings):
        return
    version = look.stored.mapping if look.stored else None
    stays = "what is in force stays in force"
    if look.stored or look.is_new:
        stays = f"the mapping of {version.loaded_at:%Y-%m-%d} stays in force" if version else "all is Unattributed"
    try:
        mapping = read_source(settings, lambda: database_snapshot(settings))
    except MappingError as error:
        message = f"{error.source} was refused; {stays}.\n{error.lines()}"
        yield Finding(ERROR, Code.MAPPING_WRONG, None, message, findings.map_check(settings))
    except MappingUnreadableError as error:
        if version or not error.is_gone:
            code = Code.MAPPING_GONE if error.is_gone else Code.MAPPING_WRONG
            yield Finding(ERROR, code, None, f"{error.problem}; {stays}.", error.todo)
        elif look.stored or look.is_new:
            yield _no_mapping(settings, look)
    except OrcostError:
        return  # the database cannot be asked: that is told where it is looked into
    else:
        idle = _idle_rules(settings, mapping, now) if look.stored else []
        doubts = [*warnings_of(settings, mapping), *idle]
        yield from _of_valid_mapping(mapping, settings, look, doubts)
        if look.stored and (version is None or version.content_sha256 != mapping.sha256):
            message = f"{mapping.source} is not in force as it is now: it counts from the next sync on. "
            message += "Under orcost up, that is within a minute."
            yield Finding(NOTE, Code.MAPPING_PENDING, None, message, "orcost sync")


def _superseded(mapping: Sequence[Finding]) -> set[Code]:
    """What the warehouse says of the mapping, where the file, which is newer, says it or more."""
    codes = {finding.code for finding in mapping}
    of_rules = {Code.NO_MAPPING, Code.MAPPING_WRONG, Code.MAPPING_GONE, Code.MAPPING_PENDING}
    is_refused = any(finding.severity is ERROR for finding in mapping)
    return ({Code.MAPPING_WRONG} if is_refused else set()) | ({Code.NO_MAPPING} if codes & of_rules else set())


def _of_companies(settings: Settings) -> Iterator[Finding]:
    """What is wrong with the list of companies."""
    _, problem = read_companies(settings) if is_syncing(settings) else (None, None)
    if problem:
        yield Finding(ERROR, Code.MAPPING_WRONG, None, problem, "Mend it; it counts from the next sync on")


def _no_mapping(settings: Settings, look: Look) -> Finding:
    lacks_rules = look.stored is not None and look.stored.lacks_rules
    return findings.no_mapping(settings, WARNING if lacks_rules else NOTE)


def _idle_rules(settings: Settings, mapping: CompanyMapping, now: datetime) -> list[Mistake]:
    """The rules that are of no use; none where the database does not answer in time."""
    try:
        with snapshot(settings) as connection:
            connection.execute(sa.text(set_local({"statement_timeout": f"'{STATEMENT_WITHIN}s'"})))
            return idle_rules(connection, coverage(connection, settings, mapping.rules), mapping.rules, now)
    except OrcostError:
        return []


def _of_valid_mapping(
    mapping: CompanyMapping, settings: Settings, look: Look, doubts: Sequence[Mistake]
) -> Iterator[Finding]:
    if not mapping.rules:
        yield _no_mapping(settings, look)
    if doubts:
        told = "\n".join(few([str(doubt) for doubt in doubts]))
        message = f"{mapping.source} is valid, and may not mean what it should:\n{told}"
        yield Finding(WARNING, Code.MAPPING_DOUBTFUL, None, message, findings.map_check(settings))


def _of_port(port: int, listens: bool | None) -> Iterator[Finding]:
    if listens is False:
        message = f"Another program has port {port}: orcost up cannot serve there."
        yield Finding(WARNING, Code.PORT_TAKEN, None, message, f"orcost up --port {port + 1}")
