"""`orcost init`: an account's name and key are asked for, the key is proven, and both are written where they belong.

The key goes into `.env`, the account into orcost.toml unless it is the only one, `.env` and the state folder into
`.gitignore`, the account's own keys into a starter mapping, as suggestions without effect. What is there stays as it
is, but for the one variable. Nothing is written before OpenRouter has accepted the key, and no key is ever shown.
"""

import asyncio
import io
import os
import re
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from getpass import getpass
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

import typer
from dotenv.parser import Binding, parse_stream
from pydantic import SecretStr, ValidationError

from orcost_pipeline.cli.rendering import clean, plural, rounded
from orcost_pipeline.companies.mapping import UNATTRIBUTED
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.openrouter.client import OpenRouter
from orcost_pipeline.openrouter.records import ApiKey, Credits
from orcost_pipeline.openrouter.requests import masked
from orcost_pipeline.settings import (
    DEFAULT_CONFIG,
    AccountConfig,
    Environment,
    ProjectConfig,
    Settings,
    load_settings,
    read_config,
)

DEFAULT = "default"
PLAIN_VARIABLE = "OPENROUTER_API_KEY"
LONGEST_VARIABLE = 60
SUGGESTIONS = 200
# How the client asks: a server that is down is told within seconds.
SOMEONE_WAITS: dict[str, Any] = {"timeout": 20.0, "attempts": 3, "backoff": 0.1}
MANAGEMENT_KEYS = "openrouter.ai/settings/management-keys"
STARTER = """\
company,match,pattern,valid_from,valid_to,share,note
## Who pays for which API key. The first line that matches a key wins; what no line matches is Unattributed.
## To use a suggestion, take away its "# " and put the right company first. In a key_name, * stands for any text.
## Is it right?  orcost map check
"""
# What may stand between a variable's name and the end of its line, as python-dotenv reads it: quoted values may span
# lines, a bare one ends before the white space of a comment.
_ASSIGNMENT = re.compile(
    r"""\A(\s*(?:export[^\S\r\n]+)?[^=#\s]+)[^\S\r\n]*"""
    r"""(?:=(?:[^\S\r\n]*(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|[^\r\n]*?(?=\s|\Z)))?"""
    r"""([^\S\r\n]*(?:#[^\r\n]*)?\s*)\Z""",
    re.DOTALL,
)
_BARE = re.compile(r"[\w.:/+=@%-]+", re.ASCII)


def init(settings: Settings, name: str | None, surplus: Sequence[str] = ()) -> None:
    """Connects an account, or gives it another key; says what was found, what was written, and what comes next."""
    if surplus:
        raise PermanentError(
            "orcost init takes no argument. A key is asked for: on the command line, the shell's history would keep it."
        )
    project = _found(settings)
    account = _account(project, _checked_name(_asked_name(project) if name is None else name.strip()))
    key = _key(project, account)
    _require_new(project, account, key)
    told = asyncio.run(_ask(account, key, account.base_url or project.environment.openrouter_base_url))
    typer.echo(f'Account "{account.name}": {told}')
    for file, what in _write(project, account, key, told.keys):
        typer.echo(f"  {file}: {what}")
    _require_found(account, key)
    typer.echo("Next: orcost sync (or orcost up, which syncs every hour)")


# The project


class Project(NamedTuple):
    """The project around the current folder, with the accounts that orcost.toml lists."""

    settings: Settings
    environment: Environment
    listed: tuple[AccountConfig, ...] = ()

    @property
    def env_file(self) -> Path:
        return self.settings.folder / ".env"

    @property
    def config_file(self) -> Path:
        return self.settings.folder / (self.environment.config or Path(DEFAULT_CONFIG)).expanduser()

    def in_file(self, variable: str) -> str:
        """A variable's value in `.env`; blank without one."""
        values = {binding.key: binding.value for binding in _bindings(_content(self.env_file))}
        return values.get(variable) or ""

    def shown(self, path: Path) -> str:
        folder = self.settings.folder
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _found(settings: Settings) -> Project:
    """The project around the current folder; raises where its files could not be written anyway."""
    folder, env_file = settings.folder, settings.folder / ".env"
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermanentError(f"{folder} is a folder that you may not write to. Run orcost init in one of your own.")
    if env_file.exists() and not env_file.is_file():
        raise PermanentError(f"{env_file} is no file, so no key can be written to it. Move it away.")
    # _env_file is an argument that pydantic-settings adds to every constructor; pyright does not know it.
    project = Project(settings, Environment(_env_file=env_file))  # pyright: ignore[reportCallIssue]
    return project._replace(listed=read_config(project.config_file, required=False).accounts)


def _account(project: Project, name: str) -> AccountConfig:
    """The account as it is listed, or as it would be: with a variable that no other account has."""
    for entry in project.listed:
        if entry.name == name:
            return entry
    own = PLAIN_VARIABLE if name == DEFAULT else f"{PLAIN_VARIABLE}_{re.sub('[^A-Z0-9]', '_', name.upper())}"
    others = (f"{own[: LONGEST_VARIABLE - 4]}_{number}" for number in count(2))
    taken = {entry.api_key_env for entry in project.listed}
    variable = next(free for free in chain([own[:LONGEST_VARIABLE]], others) if free not in taken)
    return AccountConfig(name=name, api_key_env=variable)


def _require_new(project: Project, account: AccountConfig, key: str) -> None:
    """Two accounts of one key would count every cost twice. While none is listed, there is no second one."""
    for other in project.settings.accounts if project.listed else ():
        is_same = other.api_key is not None and other.api_key.get_secret_value().strip() == key
        if is_same and other.name != account.name:
            raise PermanentError(
                f'Account "{other.name}" has this key already; as "{account.name}", its costs would count twice. '
                "Nothing was written."
            )


def _require_found(account: AccountConfig, key: str) -> None:
    """The next command reads the same key; another spelling of the variable may come later in the file."""
    found = load_settings().account(account.name).api_key
    if found is None or found.get_secret_value().strip() != key:
        raise PermanentError(
            f"The key was written as {account.api_key_env}, but another line of .env, or the environment, still gives "
            f'another one to account "{account.name}". Remove that, then run orcost init again.'
        )


# Questions


def _asked_name(project: Project) -> str:
    """The name of the account; `default` unless told. A script that has the key in its environment is not asked."""
    if not _is_terminal() and _variable_of_environment(project, _account(project, DEFAULT)):
        return DEFAULT
    if _is_terminal():
        typer.echo(f"This connects an OpenRouter account to the project in {project.settings.folder}", err=True)
        typer.echo(f"Name of the account [{DEFAULT}]: ", nl=False, err=True)
    return _line() or DEFAULT


def _checked_name(name: str) -> str:
    """A name as orcost.toml takes it. What was typed is not repeated: it may be a key in the wrong place."""
    if name.startswith("sk-"):
        raise PermanentError(
            "That was a key, where the account's name was asked for; nothing was written. "
            f"The name comes first (an empty line is {DEFAULT}), then the key."
        )
    try:
        return AccountConfig(name=name, api_key_env=PLAIN_VARIABLE).name
    except ValidationError:
        raise PermanentError(
            "That is no name for an account: letters, digits, spaces, dots, - and _, at most 100 of them, "
            "a letter or digit first. Nothing was written."
        ) from None


def _key(project: Project, account: AccountConfig) -> str:
    """The account's key: the environment's, else typed unseen, else the next line of stdin."""
    if variable := _variable_of_environment(project, account):
        typer.echo(f"The key is taken from {variable} of the environment; unset it to be asked for one.")
        return os.environ[variable].strip()
    key = _unseen() if _is_terminal() else _line()
    if not key:
        raise PermanentError(
            "No key was given; nothing was written. Type it at a terminal, or give it as a line of stdin "
            f"or in the environment as {account.api_key_env}."
        )
    return key


def _variable_of_environment(project: Project, account: AccountConfig) -> str | None:
    """The variable that holds the account's key: its own, else the plain one unless that is another account's."""
    others = {entry.api_key_env for entry in project.listed if entry.name != account.name}
    candidates = [account.api_key_env, *({PLAIN_VARIABLE} - others)]
    return next((variable for variable in candidates if os.environ.get(variable, "").strip()), None)


def _unseen() -> str:
    typer.echo(f"Its key (make a management key at {MANAGEMENT_KEYS}).", err=True)
    try:
        return getpass("Key, not shown as you type: ").strip()
    except (EOFError, UnicodeDecodeError):
        return ""


def _line() -> str:
    """The next line of stdin; blank where it has none."""
    # A process started with stdin closed has none.
    return sys.stdin.buffer.readline().decode(errors="replace").strip() if sys.stdin else ""


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


# The proof


class Told(NamedTuple):
    """What OpenRouter says of a key. An ordinary one lists itself, and knows neither workspaces nor credits."""

    keys: Sequence[ApiKey]
    workspaces: int = 0
    credits: Credits | None = None

    def __str__(self) -> str:
        if self.credits is None:
            return (
                "an ordinary key, which tells the cost of itself only: one project, no models or tokens, no history "
                f"before this month.\nFor all keys by model: make a management key at {MANAGEMENT_KEYS}, then run "
                "orcost init again."
            )
        balance = rounded(self.credits.total_credits - self.credits.total_usage, 2)
        listed = f"{plural(len(self.keys), 'key')} in {plural(self.workspaces, 'workspace')}"
        return f"a management key, which lists {listed}. Balance: {balance} USD."


async def _ask(account: AccountConfig, key: str, base_url: str) -> Told:
    """Raises InvalidKeyError where the key is refused, TransientError where OpenRouter does not answer."""
    secret, variable = SecretStr(key), account.api_key_env
    async with OpenRouter(account.name, secret, base_url, key_env=variable, **SOMEONE_WAITS) as client:
        if not (await client.key()).can_manage:
            return Told([await client.itself()])
        workspaces = await client.workspaces()
        keys = await client.api_keys([workspace.id for workspace in workspaces])
        return Told(keys, len(workspaces), await client.credits())


# Files


def _write(project: Project, account: AccountConfig, key: str, keys: Sequence[ApiKey]) -> Iterator[tuple[str, str]]:
    """Writes each file, and tells its name and what became of it. git ignores the key before it is there."""
    entries = _missing_entries(project, account, key)
    listing = _listing(project, entries)
    for path, write in (
        (project.settings.folder / ".gitignore", lambda path: _write_ignored(project, path)),
        (project.env_file, lambda path: _write_key(project, path, account, key)),
        (project.config_file, lambda path: _write_entries(path, listing, entries)),
        (project.settings.mapping, lambda path: _write_starter(project, path, keys)),
    ):
        with _writing(path):
            what = write(path)
        if what:
            yield project.shown(path), what


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PermanentError(
            f"{path} could not be written ({error.strerror}). Put that right, then run orcost init again."
        ) from None


def _addition(text: str, lines: Sequence[str]) -> str:
    """What puts lines below a text, ended as its own are."""
    newline = "\r\n" if "\r\n" in text else "\n"
    start = newline if text and not text.endswith("\n") else ""
    return start + "".join(line + newline for line in lines)


def _append(path: Path, addition: str) -> None:
    """Adds to a file; what is there stays to the byte."""
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(addition)


def _content(path: Path) -> str:
    """A file's text, bytes that are none kept for when it is written again; blank without a file."""
    return path.read_bytes().decode(errors="surrogateescape") if path.exists() else ""


# .env


def _write_key(project: Project, path: Path, account: AccountConfig, key: str) -> str:
    before = project.in_file(account.api_key_env)
    _replace_unseen(path, with_variable(_content(path), account.api_key_env, key))
    if before and before != key:
        return f"{account.api_key_env} is replaced; it was {masked(before)}"
    return f"{account.api_key_env} is {'kept, it is the same' if before else 'written'}; only you can read the file"


def with_variable(text: str, name: str, value: str) -> str:
    """The text of a `.env` in which a variable has a value, where it stands, else at the end; all else as it was."""
    byte_order_mark = "\ufeff" if text.startswith("\ufeff") else ""
    assignment = f"={value}" if _BARE.fullmatch(value) else "='" + re.sub(r"(['\\])", r"\\\1", value) + "'"
    bindings = list(_bindings(text))
    if all(binding.key != name for binding in bindings):
        return text + _addition(text, [name + assignment])
    lines = [binding.original.string for binding in bindings]
    for number, binding in enumerate(bindings):
        if binding.key == name:
            lines[number] = _ASSIGNMENT.sub(lambda line: f"{line[1]}{assignment}{_apart(line[2])}", lines[number])
    return byte_order_mark + "".join(lines)


def _apart(comment: str) -> str:
    """Behind a quoted value a comment needs no space; behind a bare one it would be a part of it."""
    return f" {comment}" if comment.startswith("#") else comment


def _bindings(text: str) -> Iterator[Binding]:
    return parse_stream(io.StringIO(text, newline=""))


def _replace_unseen(path: Path, text: str) -> None:
    """Replaces a file in one step by one that, from its first byte, nobody but its owner can read."""
    target = path.resolve()  # a link stays one
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.")
    made = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
            file.flush()
            os.fsync(handle)
        if target.exists():
            # Run by root, it stays its owner's.
            with suppress(PermissionError):
                os.chown(made, target.stat().st_uid, target.stat().st_gid)
        made.replace(target)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


# orcost.toml


def _missing_entries(project: Project, account: AccountConfig, key: str) -> list[AccountConfig]:
    """What must be listed so that all accounts are synced: a single `default` need not be, beside others it must."""
    if account in project.listed or (account.name == DEFAULT and not project.listed):
        return []
    defaults = {os.environ.get(PLAIN_VARIABLE, "").strip(), project.in_file(PLAIN_VARIABLE)} - {"", key}
    if project.listed or not defaults:
        return [account]
    return [AccountConfig(name=DEFAULT, api_key_env=PLAIN_VARIABLE), account]


def _listing(project: Project, entries: Sequence[AccountConfig]) -> str:
    """What lists the entries below orcost.toml as it is; raises where it is written so that nothing can follow."""
    before = _content(project.config_file)
    lines = [] if before else ["# The accounts. Their keys are in .env, never here."]
    for entry in entries:
        lines += ["", "[[accounts]]", f'name = "{entry.name}"', f'api_key_env = "{entry.api_key_env}"']
    addition = _addition(before, lines)
    try:
        config = ProjectConfig.model_validate(tomllib.loads(before + addition))
    except ValueError:
        config = ProjectConfig()
    if entries and config.accounts != (*project.listed, *entries):
        named = " and ".join(f'name = "{entry.name}", api_key_env = "{entry.api_key_env}"' for entry in entries)
        raise PermanentError(
            f"{project.config_file} lists its accounts in a way that nothing can be added to; nothing was written. "
            f"Add {named} by hand, then run orcost init again."
        )
    return addition


def _write_entries(path: Path, listing: str, entries: Sequence[AccountConfig]) -> str | None:
    if not entries:
        return "kept" if path.exists() else None
    _append(path, listing)
    return f"now lists {' and '.join(entry.name for entry in entries)}; restart orcost up if it runs"


# .gitignore


def _write_ignored(project: Project, path: Path) -> str:
    """Adds `.env`, and the state folder where it is inside the project, unless a line says just that."""
    folder, home = project.settings.folder, Path(os.path.normpath(project.settings.home))
    wanted = [".env"]
    if home != folder and home.is_relative_to(folder):
        wanted.append(f"{home.relative_to(folder).as_posix()}/")
    patterns = _content(path)
    missing = [name for name in wanted if not is_ignored(patterns, name)]
    if not missing:
        return "kept"
    # At the end, where no line above can take it back; twice does no harm.
    _append(path, _addition(patterns, missing))
    return f"now has {' and '.join(missing)}"


def is_ignored(patterns: str, name: str) -> bool:
    """Whether a line of a `.gitignore` says just this file, or folder (name/), and no later one takes it back."""
    lines = [line.removesuffix("\r").rstrip(" ").removeprefix("/") for line in patterns.split("\n")]
    said = [number for number, line in enumerate(lines) if line in (name, name.removesuffix("/"))]
    return bool(said) and not any(line.startswith("!") for line in lines[said[-1] :])


# The starter mapping


def _write_starter(project: Project, path: Path, keys: Sequence[ApiKey]) -> str:
    if os.path.lexists(path):
        return "kept"
    if (project.settings.home / "dagster").is_dir():
        return "not there and not made: a sync ran here before, whose mapping may be in force"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(starter_mapping(keys))
    return f"a starter, whose {plural(len(keys[:SUGGESTIONS]), 'suggestion')} have no effect until you edit it"


def starter_mapping(keys: Sequence[ApiKey]) -> str:
    """A valid mapping without a rule, and a suggestion for each key as a comment, those that cost most first."""
    bearers = Counter(key.name for key in keys)
    by_usage = sorted(keys, key=lambda key: (-key.usage, key.name, key.hash))
    lines = [f"# {_suggestion(key, is_unique=bearers[key.name] == 1)}\n" for key in by_usage[:SUGGESTIONS]]
    if more := len(keys) - len(lines):
        lines.append(f"## {plural(more, 'key')} of less usage not listed here.\n")
    return STARTER + "".join(lines)


def _suggestion(key: ApiKey, *, is_unique: bool) -> str:
    """A line of the mapping. A key goes by its name where that is its alone and the file can hold it as it is."""
    name = clean(" ".join(key.name.split()))
    company = name if name and name.casefold() != UNATTRIBUTED.casefold() else f"Key {key.hash[:8]}"
    if is_unique and name and name == key.name and not set("*?") & set(name):
        return f"{_cell(company)},key_name,{_cell(name)},,,,"
    return f"{_cell(company)},key_hash,{key.hash},,,,{_cell(name)}"


def _cell(text: str) -> str:
    """A value of a CSV file; a # is quoted too, for a line that begins with one is passed over."""
    return '"' + text.replace('"', '""') + '"' if set('",;#') & set(text) else text
