"""A file that people keep is replaced in one step: whoever reads it sees what it was, or what it is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path that nobody else can read, to write to; where the block succeeds, the file becomes what stands there."""
    with TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as private:
        made = Path(private) / path.name
        yield made
        # Run by root, it stays its owner's.
        with suppress(FileNotFoundError, PermissionError):
            os.chown(made, path.stat().st_uid, path.stat().st_gid)
        made.replace(path)
