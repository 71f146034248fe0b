"""Reads a file that a user names, and writes one atomically: a reader sees either the old or the new content."""

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
def writing(path: Path) -> Iterator[Path]:
    """The same for a file that a user names, where a link stands for its target.

    Raises PermanentError where the file cannot be written, or is a device or pipe, which would be replaced by a file.
    """
    try:
        file = path.resolve()
        if file.exists() and not file.is_file():
            what = "a folder: name a file in it" if file.is_dir() else "no file"
            raise PermanentError(f"{path} cannot be written: it is {what}.")
        with replacing(file) as made:
            yield made
    except OSError as error:
        raise PermanentError(f"{path} cannot be written ({error.strerror}).") from None


@contextmanager
def printing_to(path: Path | None) -> Iterator[None]:
    """Sends what the block prints on stdout to a file, whole or not at all; without a path, to stdout.

    Raises PermanentError where the file cannot be written.
    """
    if path is None:
        yield
        return
    with writing(path) as made, made.open("w", encoding="utf-8", newline="") as file, redirect_stdout(file):
        yield


def content_of(path: Path, todo: str) -> bytes:
    """The bytes of a file; raises PermanentError where it cannot be read, with `todo` where it is missing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PermanentError(f"{path} is not there. {todo}") from None
    except OSError as error:
        raise PermanentError(f"{path} cannot be read ({error.strerror}).") from None
