"""Writes a user's file atomically: a reader sees either the old or the new content."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from orcost_pipeline.errors import PermanentError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a private path to write to; if the block succeeds, that file replaces `path`.

    Raises OSError where the folder cannot be written.
    """
    with TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as private:
        made = Path(private) / path.name
        yield made
        # If root runs this, the file keeps its owner.
        with suppress(FileNotFoundError, PermissionError):
            os.chown(made, path.stat().st_uid, path.stat().st_gid)
        made.replace(path)


@contextmanager
def printing_to(path: Path | None) -> Iterator[None]:
    """Sends what the block prints on stdout to a file, whole or not at all; without a path, to stdout.

    Raises PermanentError where the file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        with (
            replacing(path) as made,
            made.open("w", encoding="utf-8", newline="") as file,
            redirect_stdout(file),
        ):
            yield
    except OSError as error:
        raise PermanentError(f"{path} could not be written ({error.strerror}). --output names a file.") from None
