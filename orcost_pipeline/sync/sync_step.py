"""One step of one account's sync: its account and instant, and how it reads OpenRouter, stores and reads back.

No Dagster here.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import SecretStr

from orcost_pipeline.errors import ClockError, PermanentError
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.api.failures import RefusedError
from orcost_pipeline.openrouter.api.progress import Progress
from orcost_pipeline.openrouter.api.records import Unreadable
from orcost_pipeline.openrouter.api.waiting import wait_for
from orcost_pipeline.project_file import DEFAULT_TOLERANCE_USD, RetentionConfig
from orcost_pipeline.settings import Account
from orcost_pipeline.sync import wire_rows
from orcost_pipeline.sync.wire_rows import Table
from orcost_pipeline.warehouse import raw, runs
from orcost_pipeline.warehouse.questions.extracted import extracted_account
from orcost_pipeline.windows import is_future

T = TypeVar("T")
DEFAULT_RAW_KEPT = timedelta(days=RetentionConfig().raw_days)
Clock = Callable[[], datetime]
Connect = Callable[[Account, SecretStr, Clock], OpenRouter]


def open_api(account: Account, key: SecretStr, clock: Clock) -> OpenRouter:
    """The account's API over the network."""
    return OpenRouter(account.name, key, account.base_url, key_env=account.api_key_env, clock=clock)


@dataclass(frozen=True)
class StepResult:
    """The result of a step: numbers of rows and HTTP requests, and `more` by name, for Dagster's metadata."""

    rows: int
    requests_made: int
    more: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class SyncStep:
    """One account's sync as its steps see it.

    `run_id` is the run that takes the step, `extraction_id` marks the rows read: a retry from failure is a new run that
    continues the extraction of its parent. `as_of` is the UTC instant that every question of the extraction ends at.
    `tell` receives lines for a person watching, such as progress.
    """

    account: Account
    engine: sa.Engine
    run_id: str
    extraction_id: str
    as_of: datetime
    clock: Clock
    connect: Connect = open_api
    tolerance_usd: Decimal = DEFAULT_TOLERANCE_USD
    raw_kept: timedelta = DEFAULT_RAW_KEPT
    tell: Callable[[str], None] = lambda line: None
    progress: Callable[[Callable[[str], None]], Progress] = Progress
    unreadable: dict[Unreadable, int] = field(default_factory=dict)

    def ask(self, question: Callable[[OpenRouter], Awaitable[T]]) -> tuple[T, int]:
        """The answer to a question to the account's API, and the number of HTTP requests it took.

        The run counts the requests even where the question fails. Unreadable fields are kept in `unreadable` until they
        are stored. Raises PermanentError without a key, ClockError where the server's clock disagrees, and as the
        client does.
        """
        key = self.account.api_key
        if key is None:
            raise PermanentError(
                f'No key for account "{self.account.name}": {self.account.api_key_env} is not set. '
                "Make a management key (openrouter.ai/settings/management-keys), then: orcost init"
            )

        async def answered() -> tuple[T, int]:
            async with self.connect(self.account, key, self.clock) as client:
                client.progress = self.progress(self.tell)
                try:
                    answer = await question(client)
                except RefusedError:
                    # A wrong clock may be the cause: it asks for hours that the API does not have.
                    client.require_right_clock()
                    raise
                finally:
                    self.unreadable.update(client.unreadable)
                    runs.count_requests(self.engine, self.run_id, self.account.name, client.requests_made)
                there = client.require_right_clock()
                # The clock may have been corrected after it gave the sync its instant.
                if there and is_future(self.as_of, there):
                    raise ClockError.was_ahead(self.as_of, there)
                return answer, client.requests_made

        return wait_for(answered())

    def store(self, relations: Sequence[str], tables: Mapping[str, Table], requests_made: int) -> int:
        """Replaces this extraction's rows of the raw relations in one transaction; returns how many rows are stored."""
        with self.engine.begin() as connection:
            raw.drop_rows(connection, tables, extraction_id=self.extraction_id, account=self.account.name)
            rows = raw.add_rows(connection, tables, **self._stamp)
            self._mark(connection, relations, rows, requests_made)
        self.unreadable.clear()
        return rows

    def keep(self, tables: Mapping[str, Table]) -> int:
        """Adds a part of this extraction's rows; returns how many. They count once their relations are complete."""
        with self.engine.begin() as connection:
            return raw.add_rows(connection, tables, **self._stamp)

    def complete(
        self, relations: Sequence[str], tables: Mapping[str, Table], rows_kept: int, requests_made: int
    ) -> None:
        """Adds the last rows of relations that were kept in parts, and notes that they are whole."""
        with self.engine.begin() as connection:
            rows = raw.add_rows(connection, tables, **self._stamp)
            self._mark(connection, relations, rows_kept + rows, requests_made)
        self.unreadable.clear()

    @property
    def _stamp(self) -> dict[str, Any]:
        return {"extraction_id": self.extraction_id, "account": self.account.name, "as_of": self.as_of}

    def _mark(self, connection: sa.Connection, relations: Sequence[str], row_count: int, requests_made: int) -> None:
        raw.replace_unreadable(connection, relations[0], wire_rows.unreadable(self.unreadable), **self._stamp)
        now = self.clock()
        raw.mark_extracted(
            connection, relations, **self._stamp, now=now, row_count=row_count, requests_made=requests_made
        )

    def latest(self, relation: str, question: Callable[[sa.Connection, str, str], T]) -> T:
        """The result of a question about a raw relation: of this extraction, else of the newest that has it whole.

        `question` is given a connection, the account's name and the extraction's id. Raises PermanentError where the
        relation was never read.
        """
        with self.engine.connect() as connection:
            extraction_id = raw.latest_extraction(connection, relation, self.extraction_id, self.account.name)
            if extraction_id is None:
                raise PermanentError(f'raw/{relation} was never read for account "{self.account.name}": read it first.')
            return question(connection, self.account.name, extraction_id)

    def is_marked(self, relation: str, mark: str) -> bool:
        """Whether the extraction from which `latest` takes the relation's rows has the mark."""
        with self.engine.connect() as connection:
            extraction_id = raw.latest_extraction(connection, relation, self.extraction_id, self.account.name)
            return extraction_id is not None and raw.is_extracted(connection, mark, extraction_id, self.account.name)

    @cached_property
    def has_management_key(self) -> bool:
        """Whether this extraction's key may list keys and usage; an ordinary key sees only itself."""
        return self.latest("account", extracted_account).is_management_key
