"""The Superset dashboard as the zip that Superset imports."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import yaml

# What Superset itself writes instead of a password: on import it asks for the real one.
MASKED_PASSWORD = "XXXXXXXXXX"  # noqa: S105 (no secret)

_DATABASE = "databases/orcost.yaml"
_FOLDER = "orcost"  # Superset expects a folder around the files


def write_bundle(file: Path, database_uri: str) -> None:
    """Writes the zip; the same URI gives the same bytes. Raises OSError where it cannot be written.

    `database_uri` is what Superset connects to, `postgresql://…`, with a password or `MASKED_PASSWORD` in it or none.
    """
    bundle = files("orcost_pipeline.dashboards") / "superset"
    with ZipFile(file, "w", ZIP_DEFLATED) as packed:
        for name, source in sorted(_contents(bundle)):
            text = source.read_text(encoding="utf-8")
            # ZipInfo's own date, not today's: the zip depends on nothing but its content.
            packed.writestr(ZipInfo(f"{_FOLDER}/{name}"), _connected(text, database_uri) if name == _DATABASE else text)


def _contents(folder: Traversable, prefix: str = "") -> list[tuple[str, Traversable]]:
    """The YAML files below a folder, with their paths in it."""
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _contents(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            found.append((prefix + entry.name, entry))
    return found


def _connected(text: str, database_uri: str) -> str:
    return yaml.safe_dump({**yaml.safe_load(text), "sqlalchemy_uri": database_uri}, sort_keys=False)
