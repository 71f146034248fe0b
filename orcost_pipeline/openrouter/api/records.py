"""Wire JSON → frozen typed rows, and the names of the fields that could not be read (D45).

Amounts are USD, read from the JSON text as `Decimal`; counts may be strings; times become aware, UTC.
Unknown fields are kept (`model_extra`) and never an error: new ones appear every few weeks. A row with an unreadable
field is kept, unless the field is needed: an identity, an instant, an amount of usage.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, model_validator

from orcost_pipeline.errors import ContractError
from orcost_pipeline.measures import NOTHING, Measures
from orcost_pipeline.openrouter.api import values
from orcost_pipeline.windows import day_start

# Where none of this many rows can be read, the API has changed.
MANY_ROWS = 10
# The model of usage that names none.
UNKNOWN_MODEL = "(unknown)"
# The unreadable field of a row that is not an object.
WHOLE_ROW = "row"

Text = Annotated[str, PlainValidator(values.text)]
TextOrBlank = Annotated[str, PlainValidator(values.text_or_blank)]
OptionalText = Annotated[str | None, PlainValidator(values.optional(values.text))]
Flag = Annotated[bool | None, PlainValidator(values.optional(values.flag))]
Amount = Annotated[Decimal, PlainValidator(values.amount)]
# None where it cannot be read: the stored amount stays.
KnownAmount = Annotated[Decimal | None, PlainValidator(values.amount)]
Count = Annotated[int, PlainValidator(values.count)]
Happened = Annotated[datetime | None, PlainValidator(values.optional(values.happened))]


class Record(BaseModel):
    """One row of an answer, immutable.

    A row is unusable without its needed fields: those without a default, and those in `needed`. Another unreadable
    field has its default, or None if `unknown` names it. An absent field in `expected` counts as unreadable.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    needed: ClassVar[frozenset[str]] = frozenset()
    unknown: ClassVar[frozenset[str]] = frozenset()
    expected: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def lacking(cls, value: Mapping[str, Any], fields: Iterable[str]) -> datetime | None:
        """The start of the UTC day whose figures are incomplete without these fields; None if no figure needs them."""
        return None


class Counters(Record):
    """A key's usage in USD: since it was created, and in the current UTC day, week (from Monday) and month."""

    usage: KnownAmount = None
    usage_daily: KnownAmount = Decimal(0)
    usage_weekly: KnownAmount = Decimal(0)
    usage_monthly: KnownAmount = Decimal(0)
    byok_usage: KnownAmount = Decimal(0)
    byok_usage_daily: KnownAmount = Decimal(0)
    byok_usage_weekly: KnownAmount = Decimal(0)
    byok_usage_monthly: KnownAmount = Decimal(0)


COUNTER_FIELDS = tuple(Counters.model_fields)


class KeyInfo(Counters):
    """`GET /key`: the key in use. Any key may ask for itself, also an ordinary one.

    `is_provisioning_key` is the former name of `is_management_key`; either grants the same.
    """

    needed = frozenset({"is_management_key"})
    unknown = frozenset(COUNTER_FIELDS)
    expected = frozenset({"usage"})

    label: TextOrBlank = ""
    is_management_key: Flag = False
    is_provisioning_key: Flag = False
    organization_id: OptionalText = None

    @property
    def can_manage(self) -> bool:
        """Whether it is a management key, which may list keys and usage."""
        return bool(self.is_management_key or self.is_provisioning_key)


class ApiKey(Counters):
    """One key of `GET /keys` or `GET /keys/{hash}`.

    `hash` is its identity, the SHA-256 of the key in hex; `name` is free text that can change and repeat, blank where
    it is absent; `label` is the shortened key. `limit` and `limit_remaining` are USD, None for no limit.
    """

    unknown = frozenset(COUNTER_FIELDS) | {"disabled", "include_byok_in_limit"}
    expected = frozenset({"name", "usage"})

    hash: Annotated[str, PlainValidator(values.key_hash)]
    name: TextOrBlank = ""
    label: TextOrBlank = ""
    workspace_id: OptionalText = None
    creator_user_id: OptionalText = None
    external_user: OptionalText = None
    disabled: Flag = False
    limit: Annotated[Decimal | None, PlainValidator(values.limit)] = None
    limit_remaining: Annotated[Decimal | None, PlainValidator(values.limit)] = None
    limit_reset: OptionalText = None
    include_byok_in_limit: Flag = False
    created_at: Happened = None
    expires_at: Annotated[datetime | None, PlainValidator(values.optional(values.instant))] = None
    last_used_at: Happened = None


class Workspace(Record):
    """One row of `GET /workspaces`: a group of keys."""

    expected = frozenset({"name"})

    id: Text
    name: OptionalText = None


class Member(Record):
    """One row of `GET /organization/members`: whom a key's `creator_user_id` names."""

    id: Text
    email: OptionalText = None


class Credits(Record):
    """`GET /credits`: bought and used by the whole account over its lifetime, in USD; None where unreadable.

    An invoiced account never bought any.
    """

    expected = frozenset({"total_credits", "total_usage"})

    total_credits: Annotated[Decimal | None, PlainValidator(values.number)] = None
    total_usage: Annotated[Decimal | None, PlainValidator(values.number)] = None

    @property
    def balance_usd(self) -> Decimal | None:
        """Bought minus used, in USD; None where either is unknown."""
        if self.total_credits is None or self.total_usage is None:
            return None
        return self.total_credits - self.total_usage


class ActivityRow(Record):
    """One row of `GET /activity`: usage per UTC date, model and endpoint, in USD, requests and tokens.

    `usage` is what OpenRouter charged in credits, `byok_usage_inference` what the account's own provider was charged
    (BYOK). Rows have no key: one request asks for the account or for one key.
    """

    needed = frozenset({"byok_usage_inference"})
    figures: ClassVar[frozenset[str]] = frozenset(
        {"usage", "byok_usage_inference", "requests", "prompt_tokens", "completion_tokens", "reasoning_tokens"}
        | {"cached_tokens", WHOLE_ROW}
    )

    date: Annotated[date, PlainValidator(values.day)]
    model_permaslug: Annotated[str, PlainValidator(lambda value: values.text(value) or UNKNOWN_MODEL)] = UNKNOWN_MODEL
    provider_name: TextOrBlank = ""
    endpoint_id: OptionalText = None
    usage: Amount
    byok_usage_inference: Amount = Decimal(0)
    requests: Annotated[int, PlainValidator(values.requests)] = 0
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    reasoning_tokens: Count = 0
    cached_tokens: Count = 0

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Without a permaslug, the slug names the model best."""
        if isinstance(value, dict) and value.get("model_permaslug") is None:
            return value | {"model_permaslug": value.get("model") or UNKNOWN_MODEL}
        return value

    @classmethod
    def lacking(cls, value: Mapping[str, Any], fields: Iterable[str]) -> datetime | None:
        try:
            return day_start(values.day(value.get("date"))) if cls.figures & set(fields) else None
        except ValueError:
            return None

    @property
    def measures(self) -> Measures:
        """The row's usage in requests, tokens and USD."""
        return Measures(
            Decimal(self.requests),
            Decimal(self.prompt_tokens),
            Decimal(self.completion_tokens),
            Decimal(self.reasoning_tokens),
            Decimal(self.cached_tokens),
            self.usage,
            self.byok_usage_inference,
        )


class Model(Record):
    """One model of `GET /models`; prices are USD per token, as decimal strings."""

    id: Text
    canonical_slug: OptionalText = None
    name: TextOrBlank = ""
    pricing: Annotated[dict[str, Any], PlainValidator(values.fields)] = {}


class UsageCell(NamedTuple):
    """One row of `POST /analytics/query`, of the hour (or day) that begins at `at`.

    `key` is the key's name as OpenRouter shows it, None for usage without a key. `unread` are the unreadable columns;
    where one of them is an amount, all measures are 0.
    """

    at: datetime
    key: str | None
    model: str
    measures: Measures
    total_usd: Decimal | None
    unread: tuple[str, ...] = ()

    @property
    def lacks_figures(self) -> bool:
        """Whether a measure could not be read."""
        return any(column in METRICS for column in self.unread)


class Unreadable(NamedTuple):
    """A field that could not be read: its endpoint, and the key's hash where known.

    `at` is the start of the hour or day (`grain`) whose figures lack it; None where no figure does, or it is unknown.
    """

    endpoint: str
    field: str
    key_hash: str | None = None
    grain: str | None = None
    at: datetime | None = None


R = TypeVar("R", bound=Record)
T = TypeVar("T")


class Read(NamedTuple, Generic[R]):
    """The result of reading a row: `row` is None where it is unusable. `unread` are the unreadable fields.

    `at` is the start of the UTC day whose figures lack them, if any do.
    """

    row: R | None
    unread: tuple[str, ...] = ()
    at: datetime | None = None


# metric of the analytics query → measure
METRICS = {
    "request_count": "requests",
    "tokens_prompt": "prompt_tokens",
    "tokens_completion": "completion_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "cached_tokens": "cached_tokens",
    "credits_usage": "credits_usd",
    "byok_usage": "byok_usd",
}
MONEY = frozenset({"credits_usage", "byok_usage"})
TOTAL_METRIC = "total_usage"
_TIME_COLUMN = re.compile(r"^(date|created_at)(__\w+)?$")


def read(kind: type[R], value: Any) -> Read[R]:
    """`value` as a `kind`, as far as it can be read; never raises."""
    if not isinstance(value, dict):
        return Read(None, (WHOLE_ROW,))
    absent = kind.expected - value.keys()
    row, wrong = _valid(kind, value)
    unread = tuple(sorted(absent | wrong))
    if row is None and not kind.needed & wrong:
        row, _ = _valid(kind, {name: part for name, part in value.items() if name not in wrong})
        row = row and row.model_copy(update=dict.fromkeys(kind.unknown & wrong))
    return Read(row, unread, kind.lacking(value, unread))


def _valid(kind: type[R], value: dict[str, Any]) -> tuple[R | None, set[str]]:
    try:
        return kind.model_validate(value), set()
    except ValidationError as error:
        return None, {str(mistake["loc"][0]) for mistake in error.errors(include_input=False, include_url=False)}


def parse(kind: type[R], value: Any, endpoint: str) -> Read[R]:
    """A row that must be usable; otherwise raises ContractError naming endpoint and field, never the value."""
    result = read(kind, value)
    if result.row is None:
        fields = "data" if result.unread == (WHOLE_ROW,) else ", ".join(result.unread)
        raise ContractError(f"{endpoint} answered a field that cannot be read: {fields}.")
    return result


def parse_all(kind: type[R], rows: Any, endpoint: str) -> list[Read[R]]:
    """Every element of a JSON array as a `kind`.

    Raises ContractError where `rows` is no array, or where it has `MANY_ROWS` or more and none is usable.
    """
    if not isinstance(rows, list):
        raise ContractError(f"{endpoint} answered no list of rows.")
    results = [read(kind, value) for value in rows]
    refuse_useless(endpoint, [it.unread for it in results if it.row is None], len(results))
    return results


def refuse_useless(endpoint: str, useless: Sequence[tuple[str, ...]], count: int) -> None:
    """Raises ContractError where an answer has `MANY_ROWS` or more rows and none is usable."""
    if count >= MANY_ROWS and len(useless) == count:
        named = ", ".join(sorted(set().union(*useless)))
        raise ContractError(f"{endpoint} answered {count} rows, none of which can be read: {named}.")


def usage_cells(rows: Sequence[Any], granularity: str, endpoint: str) -> tuple[list[UsageCell], Counter[str]]:
    """Rows of an analytics answer, without those of zero usage; and how often which time column could not be read.

    Raises ContractError where there are `MANY_ROWS` or more and none is usable.
    """
    results = [usage_cell(row, granularity) for row in rows]
    cells = [cell for cell in results if isinstance(cell, UsageCell)]
    lost = Counter(column for column in results if isinstance(column, str))
    useless = [cell.unread if isinstance(cell, UsageCell) else (cell,) for cell in results if _is_useless(cell)]
    refuse_useless(endpoint, useless, len(results))
    return [cell for cell in cells if cell.unread or any(cell.measures)], lost


def _is_useless(cell: UsageCell | str) -> bool:
    return isinstance(cell, str) or bool(MONEY & set(cell.unread))


def usage_cell(row: Any, granularity: str) -> UsageCell | str:
    """One analytics row; where its time cannot be read, the name of the unreadable column.

    The name of the time column ends in the requested granularity; other time columns may be present.
    """
    if not isinstance(row, dict):
        return WHOLE_ROW
    column = _time_column(tuple(row), granularity)
    try:
        at = values.happened(row[column])
    except (KeyError, ValueError):
        return column
    unread: list[str] = []

    def read_column(name: str, reader: Callable[[Any], T], otherwise: T) -> T:
        try:
            return reader(row.get(name))
        except ValueError:
            unread.append(name)
            return otherwise

    key = read_column("api_key_id", values.optional(values.text), UNKNOWN_MODEL)
    model = read_column("model", values.text_or_blank, "") or UNKNOWN_MODEL
    total_usd = read_column(TOTAL_METRIC, values.optional(values.number), None)
    amounts = [read_column(metric, _READERS[metric], Decimal(0)) for metric in METRICS]
    measures = NOTHING if MONEY & set(unread) else Measures(*amounts)
    return UsageCell(at, key, model, measures, total_usd, tuple(unread))


@lru_cache(maxsize=64)  # all rows of an answer have the same columns
def _time_column(columns: tuple[str, ...], granularity: str) -> str:
    named = sorted(filter(_TIME_COLUMN.match, columns), key=lambda name: not name.endswith(f"__{granularity}"))
    return named[0] if named else "date"


def _count(value: Any) -> Decimal:
    return Decimal(values.count(value))


def _requests(value: Any) -> Decimal:
    return Decimal(values.requests(value))


_READERS: Mapping[str, Callable[[Any], Decimal]] = {
    **dict.fromkeys(METRICS, _count),
    **dict.fromkeys(MONEY, values.amount),
    "request_count": _requests,
}
