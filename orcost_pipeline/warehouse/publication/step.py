"""What a step of the publication is: declared data, with one way to perform it.

A step says what it reads, makes and writes, and when it runs; its SQL is in `<name>.sql` beside it. The order of the
steps is declared in `order.py`, and tested against their SQL.
"""

from collections.abc import Callable
from dataclasses import dataclass

from orcost_pipeline.errors import ContractError
from orcost_pipeline.warehouse.loading import analyze, merge
from orcost_pipeline.warehouse.publication.transaction import Publication, When

# Offending rows that the error of a violated invariant shows.
MOST_ROWS = 10


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Makes rows of a table those of a temporary relation; identical rows are not written.

    within: conditions on the stored row t, all of which hold for rows of the account that may be replaced: those that
    the temporary relation lacks are deleted. None: nothing is deleted.
    touches: the temporary relation that collects the hours or days of the rows written and deleted.
    """

    into: str
    keys: tuple[str, ...]
    within: tuple[str, ...] | None
    touches: str | None = None

    def perform(self, publishing: Publication, staged: str) -> None:
        scope = None if self.within is None else " and ".join(("t.account_id = :account_id", *self.within))
        merged = merge(
            publishing.connection,
            self.into,
            staged,
            self.keys,
            scope=scope,
            parameters=publishing.parameters,
            touched=self.touches,
        )
        publishing.count(self.into, merged.total)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of the publication, in its transaction.

    reads: relations that its SQL, and the scope of its merge, read. writes: relations that its SQL changes.
    """

    name: str
    when: When
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its .sql files."""
        return (self.name,)

    @property
    def made(self) -> frozenset[str]:
        """Temporary relations that are there from this step on."""
        return frozenset()

    @property
    def merges(self) -> Merge | None:
        """How rows of a table become those of a temporary relation."""
        return None

    def perform(self, publishing: Publication) -> None:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Staging(Step):
    """Makes a temporary relation, and merges it where that is to be done at once.

    has_statistics: for a relation that may have many rows, which others are joined to.
    """

    makes: str
    merge: Merge | None = None
    has_statistics: bool = False

    @property
    def made(self) -> frozenset[str]:
        return frozenset({self.makes})

    @property
    def merges(self) -> Merge | None:
        return self.merge

    def perform(self, publishing: Publication) -> None:
        publishing.execute(self.name)
        if self.has_statistics:
            analyze(publishing.connection, self.makes)
        if self.merge is not None:
            self.merge.perform(publishing, self.makes)


@dataclass(frozen=True, kw_only=True)
class Merging(Step):
    """Merges a temporary relation that other steps compared with the stored one before."""

    staged: str
    merge: Merge

    @property
    def files(self) -> tuple[str, ...]:
        return ()

    @property
    def merges(self) -> Merge | None:
        return self.merge

    def perform(self, publishing: Publication) -> None:
        self.merge.perform(publishing, self.staged)


@dataclass(frozen=True, kw_only=True)
class Change(Step):
    """Changes relations by one statement.

    counts: the relation whose rows it counts as written. is_apart: in a transaction of its own.
    """

    counts: str | None = None
    is_apart: bool = False

    def perform(self, publishing: Publication) -> None:
        if self.is_apart:
            publishing.execute_apart(self.name)
            return
        changed = publishing.execute(self.name)
        if self.counts is not None:
            publishing.count(self.counts, changed.rowcount)


@dataclass(frozen=True, kw_only=True)
class Computation(Step):
    """What SQL alone does not do. sql: the names of its .sql files; makes: the temporary relation that one creates."""

    compute: Callable[[Publication], None]
    sql: tuple[str, ...] = ()
    makes: str | None = None

    @property
    def made(self) -> frozenset[str]:
        return frozenset({self.makes} if self.makes else ())

    @property
    def files(self) -> tuple[str, ...]:
        return self.sql

    def perform(self, publishing: Publication) -> None:
        self.compute(publishing)


@dataclass(frozen=True, kw_only=True)
class ContractCheck(Step):
    """An invariant of published data, checked before the commit; its SQL finds the rows that violate it.

    relation: where readers rely on it. invariant: a sentence, for errors, Dagster and docs/dagster.md.
    """

    relation: str
    invariant: str

    def perform(self, publishing: Publication) -> None:
        """Raises ContractError with up to ten offending rows: nothing is committed then."""
        rows = publishing.execute(self.name).mappings().fetchmany(MOST_ROWS)
        if rows:
            shown = "; ".join(", ".join(f"{key} {value}" for key, value in row.items()) for row in rows)
            raise ContractError(
                f'Contract check {self.name} failed for account "{publishing.account}"; nothing was published. '
                f"Violated invariant: {self.invariant} Offending rows: {shown}"
            )
