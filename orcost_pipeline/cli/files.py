"""Replaces a user's file atomically: a reader sees either the old or the new content."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory


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
