"""ORCOST_HOME: whether this user can write there, and whether there is room. Every command says it in these words."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orcost_pipeline.cli.findings import ERROR, WARNING, Code, Finding, is_syncing
from orcost_pipeline.errors import PermanentError
from orcost_pipeline.settings import Settings
from orcost_pipeline.warehouse.embedded import EmbeddedPostgres, EmbeddedPostgresError

# Bytes. Below the last, nothing is begun: the first files of a sync would not fit.
LITTLE_SPACE, TOO_LITTLE_SPACE, NO_SPACE = 1_000_000_000, 200_000_000, 10_000_000


def of_home(settings: Settings) -> Iterator[Finding]:
    """What is wrong with the home; nothing where this machine only reads a database that others sync to."""
    if settings.database_url is not None and not is_syncing(settings):
        return
    if problem := _unusable(settings.home):
        yield problem
    else:
        yield from _of_disk(settings)


def require_home(home: Path) -> None:
    """Raises PermanentError, in the words of the finding, where nothing can be written to the home."""
    if problem := _unusable(home) or _of_space(_existing(home), NO_SPACE):
        raise PermanentError(f"{problem.message} {problem.todo}.")


def _existing(home: Path) -> Path:
    """The home, or what there is of the way to it."""
    return next(place for place in (home, *home.parents) if os.path.lexists(place))


def _unusable(home: Path) -> Finding | None:
    place = _existing(home)
    if not place.is_dir():
        why, todo = f"{place} is not a folder", "Name a folder in ORCOST_HOME"
    elif not os.access(place, os.W_OK | os.X_OK):
        why = f"this user may not write to {place}"
        todo = "Let this user write there, or name another folder in ORCOST_HOME"
    else:
        return None
    return Finding(ERROR, Code.HOME_UNUSABLE, None, f"ORCOST_HOME ({home}) cannot be used: {why}.", todo)


def _of_disk(settings: Settings) -> Iterator[Finding]:
    """Whether there is space where orcost writes, each file system told once."""
    seen: set[int] = set()
    for folder in _written_folders(settings):
        with suppress(OSError):
            device = folder.stat().st_dev
            if device not in seen and (finding := _of_space(folder, LITTLE_SPACE)):
                yield finding
            seen.add(device)


def _written_folders(settings: Settings) -> Iterator[Path]:
    yield _existing(settings.home)
    with suppress(EmbeddedPostgresError):
        if settings.database_url is None and (data := EmbeddedPostgres(settings.home).data()):
            yield data


def _of_space(folder: Path, least: int) -> Finding | None:
    """That fewer than so many bytes are free."""
    free = shutil.disk_usage(folder).free
    if free >= least:
        return None
    severity = ERROR if free < TOO_LITTLE_SPACE else WARNING
    message = f"{free // 1_000_000:,} MB are free at {folder}."
    return Finding(severity, Code.DISK_FULL, None, message, "Free some space, or move ORCOST_HOME")
