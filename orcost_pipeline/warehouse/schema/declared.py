"""What the schema is to be: views and functions, read from their files and each after those it uses, and comments."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from orcost_pipeline.warehouse.schema.comments import Comments, comments_of

FOLDER = Path(__file__).parent
# Views in the place of those of the same name, where viewers do not see cost.
CHARGED = "charged"
KINDS = ("view", "function")
# Under this name the record of what was applied has the comments.
COMMENTS = "comments"

_FILE = re.compile(r"(?P<comment>(?:--[^\n]*\n)+)\n?(?P<statement>.*;)\n", re.DOTALL)
_COMMENTS_AND_STRINGS = re.compile(r"--[^\n]*|'(?:[^']|'')*'")
_NAME = re.compile(r"\b[a-z_]+\.[a-z0-9_]+\b")


@dataclass(frozen=True)
class SchemaObject:
    """A view or function. comment: its comment in the database; statement: the `create or replace` that makes it."""

    kind: str
    name: str
    comment: str
    statement: str

    def sha256(self) -> str:
        return _sha256([self.statement])

    def mentioned(self) -> set[str]:
        """Every schema-qualified name in the statement, outside comments and strings."""
        return set(_NAME.findall(_COMMENTS_AND_STRINGS.sub("", self.statement)))


@dataclass(frozen=True)
class DeclaredSchema:
    """Views and functions, each after those that it uses, and the comments of everything."""

    objects: tuple[SchemaObject, ...]
    comments: Comments

    def fingerprints(self) -> dict[str, str]:
        """What the record says where all of it is applied: name → SHA-256."""
        return {it.name: it.sha256() for it in self.objects} | {COMMENTS: _sha256(self.comments.texts())}


@cache
def declared_schema(folder: Path = FOLDER, *, shows_cost: bool = True) -> DeclaredSchema:
    """The schema of `views/` and `functions/` below a folder; what viewers read shows cost, or only charges.

    Raises ValueError where a file does not hold the statement of its name, CycleError where two need each other.
    """
    objects = {it.name: it for it in _read(folder)}
    if not shows_cost:
        objects |= {it.name: it for it in _read_kind(folder / CHARGED, "view")}
    uses = {name: sorted(it.mentioned() & objects.keys() - {name}) for name, it in objects.items()}
    in_order = tuple(objects[name] for name in TopologicalSorter(uses).static_order())
    views, functions = ({it.name: it.comment for it in in_order if it.kind == kind} for kind in KINDS)
    return DeclaredSchema(in_order, comments_of(views, functions))


def _read(folder: Path) -> Iterator[SchemaObject]:
    for kind in KINDS:
        yield from _read_kind(folder / f"{kind}s", kind)


def _read_kind(folder: Path, kind: str) -> Iterator[SchemaObject]:
    for path in sorted(folder.glob("*.sql")):
        name = path.stem
        parts = _FILE.fullmatch(path.read_text(encoding="utf-8"))
        begin = rf"(?:--[^\n]*\n)*create or replace {kind} {re.escape(name)}[ (]"
        if parts is None or not re.match(begin, parts["statement"]):
            raise ValueError(f"{path} must be a comment, then: create or replace {kind} {name} …;")
        comment = " ".join(line.removeprefix("--").strip() for line in parts["comment"].splitlines())
        yield SchemaObject(kind, name, comment, parts["statement"])


def _sha256(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
