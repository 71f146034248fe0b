"""ORCOST_HOME: whether this user can write there, and whether there is room for the first files of a sync."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from orcost_pipeline.errors import PermanentError

# Bytes. With fewer free than this, nothing is begun.
NO_SPACE = 10_000_000


class Problem(NamedTuple):
    """What is wrong, and what to do about it."""

    message: str
    todo: str


def require_home(home: Path) -> None:
    """Raises PermanentError where nothing can be written to the home."""
    if problem := unusable(home) or lack_of_space(existing(home), NO_SPACE):
        raise PermanentError(f"{problem.message} {problem.todo}.")


def existing(home: Path) -> Path:
    """The home, or the nearest folder above it that exists."""
    return next(place for place in (home, *home.parents) if os.path.lexists(place))


def unusable(home: Path) -> Problem | None:
    """Why this user cannot write to the home; None where it can."""
    place = existing(home)
    if not place.is_dir():
        why, todo = f"{place} is not a folder", "Name a folder in ORCOST_HOME"
    elif not os.access(place, os.W_OK | os.X_OK):
        why = f"this user may not write to {place}"
        todo = "Let this user write there, or name another folder in ORCOST_HOME"
    else:
        return None
    return Problem(f"ORCOST_HOME ({home}) cannot be used: {why}.", todo)


def lack_of_space(folder: Path, least: int) -> Problem | None:
    """A problem where fewer than `least` bytes are free in the folder's file system."""
    free = shutil.disk_usage(folder).free
    if free >= least:
        return None
    return Problem(f"{free // 1_000_000:,} MB are free at {folder}.", "Free some space, or move ORCOST_HOME")
