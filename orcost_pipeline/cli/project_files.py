"""The files that `orcost init` writes: `.gitignore`, `.env`, orcost.toml, the starter mapping.

Existing content is kept.
"""

import os
import shlex
import shutil
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from dotenv import dotenv_values, set_key

from orcost_pipeline.cli.files import replacing
from orcost_pipeline.cli.starter_mapping import write_starter
from orcost_pipeline.companies.suggestion import Key
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.openrouter.api.requests import masked
from orcost_pipeline.settings import (
    DEFAULT_ACCOUNT,
    DEFAULT_KEY_ENV,
    Account,
    Settings,
)


def write_files(settings: Settings, account: Account, key: str, keys: Sequence[Key]) -> list[tuple[Path, str]]:
    """Writes the files; returns each with what was done to it. Raises PermanentError where one cannot be written."""
    try:
        return list(_write(settings, account, key, keys))
    except OSError as error:
        raise PermanentError(
            f"{error.filename or settings.folder} could not be written ({error.strerror}). "
            "Put that right, then run orcost init again."
        ) from None


def _write(settings: Settings, account: Account, key: str, keys: Sequence[Key]) -> Iterator[tuple[Path, str]]:
    """`.gitignore` comes first, so that git never sees the key."""
    ignored, env_file = settings.folder / ".gitignore", settings.folder / ".env"
    entries = _missing_entries(settings, account, key)
    listing = _listing(settings.config_file, entries)
    yield ignored, _write_ignored(settings, ignored)
    yield env_file, _write_key(env_file, account.api_key_env, key)
    if entries:
        _append(settings.config_file, listing)
        names = " and ".join(entry.name for entry in entries)
        yield settings.config_file, f"now lists {names}; restart orcost up if it runs"
    if settings.mapping.table is None:
        yield settings.mapping.path, write_starter(settings, keys)


def _write_ignored(settings: Settings, path: Path) -> str:
    """Adds `.env`, and the state folder if it is inside the project, unless they are listed already."""
    folder, home = settings.folder, settings.home.resolve()
    wanted = [".env"]
    if folder in home.parents:
        wanted.append(f"{home.relative_to(folder).as_posix()}/")
    patterns = _content(path)
    missing = [name for name in wanted if name not in patterns.splitlines()]
    if not missing:
        return "kept"
    _append(path, _below(patterns, missing))
    return f"now has {' and '.join(missing)}"


def _write_key(path: Path, variable: str, key: str) -> str:
    before = dotenv_values(path).get(variable)
    write_variable(path.resolve(), variable, key)  # a link stays one
    if before and before != key:
        return f"{variable} is replaced; it was {masked(before)}"
    return f"{variable} is {'kept, it is the same' if before else 'written'}; only you can read the file"


def write_variable(path: Path, name: str, value: str) -> None:
    """Sets a variable in a `.env`, replacing the file atomically by one that only its owner can read.

    Raises OSError where it cannot be written.
    """
    with replacing(path) as made:
        if path.exists():
            shutil.copyfile(path, made)
        # Quotes only where needed: docker's --env-file takes them as part of the value.
        set_key(made, name, value, quote_mode="never" if value == shlex.quote(value) else "always")
        made.chmod(0o600)


def _missing_entries(settings: Settings, account: Account, key: str) -> list[Account]:
    """The accounts to add to orcost.toml so that all are synced; a `default` that is the only one is not listed."""
    if account in settings.listed or (account.name == DEFAULT_ACCOUNT and not settings.listed):
        return []
    in_file = dotenv_values(settings.folder / ".env").get(DEFAULT_KEY_ENV)
    other_keys = {os.environ.get(DEFAULT_KEY_ENV, "").strip(), in_file or ""} - {"", key}
    return [*settings.accounts, account] if other_keys and not settings.listed else [account]


def _listing(path: Path, entries: Sequence[Account]) -> str:
    """The text that adds the entries at the end of orcost.toml; raises PermanentError if nothing can follow."""
    before = _content(path)
    lines = [] if before else ["# The accounts. Their keys are in .env, never here."]
    for entry in entries:
        lines += ["", "[[accounts]]", f'name = "{entry.name}"', f'api_key_env = "{entry.api_key_env}"']
    listing = _below(before, lines)
    try:
        tomllib.loads(before + listing)
    except tomllib.TOMLDecodeError:
        named = " and ".join(f'name = "{entry.name}", api_key_env = "{entry.api_key_env}"' for entry in entries)
        raise PermanentError(
            f"{path} lists its accounts in a way that nothing can be added to; nothing was written. "
            f"Add {named} by hand, then run orcost init again."
        ) from None
    return listing


def _below(text: str, lines: Sequence[str]) -> str:
    """The text that adds lines at the end of another text."""
    return ("\n" if text and not text.endswith("\n") else "") + "".join(f"{line}\n" for line in lines)


def _append(path: Path, addition: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(addition)


def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
