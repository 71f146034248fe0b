"""Wire JSON → frozen typed rows, and the names of the fields that could not be read (D45).

Amounts are USD as the JSON text says, read as `Decimal`; counts may come as strings; times are made aware, UTC.
Fields that we do not know are kept (`model_extra`) and never an error: new ones appear every few weeks. A row stays
where one of its fields cannot be read, unless it is needed: an identity, an instant, an amount of usage.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, model_validator

from orcost_pipeline.errors import ContractError
from orcost_pipeline.measures import NOTHING, Measures
from orcost_pipeline.openrouter import values
from orcost_pipeline.windows import day_start

# Of so many rows, none that can be read is no oddity any more: the API has changed.
MANY_ROWS = 10
# Usage that no model is named for.
UNKNOWN_MODEL = "(unknown)"
# What a row that is no object lacks.
WHOLE_ROW = "row"

Text = Annotated[str, PlainValidator(values.text)]
TextOrBlank = Annotated[str, PlainValidator(values.text_or_blank)]
OptionalText = Annotated[str | None, PlainValidator(values.optional(values.text))]
Flag = Annotated[bool | None, PlainValidator(values.optional(values.flag))]
Amount = Annotated[Decimal, PlainValidator(values.amount)]
# None where it cannot be read: what was known stays.
KnownAmount = Annotated[Decimal | None, PlainValidator(values.amount)]
Count = Annotated[int, PlainValidator(values.count)]
Happened = Annotated[datetime | None, PlainValidator(values.optional(values.happened))]


class Record(BaseModel):
    """One row. A field without a default is needed, and so are those in `needed`; of the others, one that cannot be
    read has its default, or None if `unknown` names it. One that is absent although `expected` cannot be read either.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    needed: ClassVar[frozenset[str]] = frozenset()
    unknown: ClassVar[frozenset[str]] = frozenset()
    expected: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def lacking(cls, value: Mapping[str, Any], fields: Iterable[str]) -> datetime | None:
        """The start of the UTC day whose figures lack something where these fields cannot be read."""
        return None


class Counters(Record):
    """What a key used: USD since it was made, and in the current UTC day, week (Monday first), month."""

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
    """`GET /key`: the key that asks."""

    needed = frozenset({"is_management_key"})
    unknown = frozenset(COUNTER_FIELDS)
    expected = frozenset({"usage"})

    label: TextOrBlank = ""
    is_management_key: Flag = False
    is_provisioning_key: Flag = False
    organization_id: OptionalText = None

    @property
    def can_manage(self) -> bool:
        return bool(self.is_management_key or self.is_provisioning_key)


class ApiKey(Counters):
    """One key of `GET /keys`; `hash` is its identity, `name` free text, blank where it is not told."""

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
    expected = frozenset({"name"})

    id: Text
    name: OptionalText = None


class Member(Record):
    id: Text
    email: OptionalText = None


class Credits(Record):
    """USD bought and USD used, ever, for the whole account; None where it cannot be read."""

    expected = frozenset({"total_credits", "total_usage"})

    total_credits: Annotated[Decimal | None, PlainValidator(values.number)] = None
    total_usage: Annotated[Decimal | None, PlainValidator(values.number)] = None

    @property
    def balance_usd(self) -> Decimal | None:
        if self.total_credits is None or self.total_usage is None:
            return None
        return self.total_credits - self.total_usage


class ActivityRow(Record):
    """One row of `GET /activity`: (UTC date, model, endpoint)."""

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
        """Without a permaslug, the slug says best which model it was."""
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
    """One model of `GET /models`; prices per token are USD, as decimal strings."""

    id: Text
    canonical_slug: OptionalText = None
    name: TextOrBlank = ""
    pricing: Annotated[dict[str, Any], PlainValidator(values.fields)] = {}


class UsageCell(NamedTuple):
    """One row of `POST /analytics/query`, of the hour (or day) that begins at `at`.

    `key` is a name as OpenRouter resolves it, None for no key. `unread` are the columns that cannot be read; where one
    of them is an amount, the cell measures nothing.
    """

    at: datetime
    key: str | None
    model: str
    measures: Measures
    total_usd: Decimal | None
    unread: tuple[str, ...] = ()

    @property
    def lacks_figures(self) -> bool:
        return any(column in METRICS for column in self.unread)


class Unreadable(NamedTuple):
    """A field that could not be read: of which endpoint, and of which key where that is known.

    `at` is the start of the hour or day (`grain`) whose figures lack it; None where they do not, or it is not known.
    """

    endpoint: str
    field: str
    key_hash: str | None = None
    grain: str | None = None
    at: datetime | None = None


R = TypeVar("R", bound=Record)
T = TypeVar("T")


class Read(NamedTuple, Generic[R]):
    """What came of a row: None where it is of no use. `unread` are the fields that cannot be read."""

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
    """`value` as a `kind`, as far as it can be read."""
    if not isinstance(value, dict):
        return Read(None, (WHOLE_ROW,))
    absent = kind.expected - value.keys()
    row, wrong = _valid(kind, value)
    unread = tuple(sorted(absent | wrong))
    if row is None and not kind.needed & wrong:
        row, _ = _valid(kind, {name: told for name, told in value.items() if name not in wrong})
        row = row and row.model_copy(update=dict.fromkeys(kind.unknown & wrong))
    return Read(row, unread, kind.lacking(value, unread))


def _valid(kind: type[R], value: dict[str, Any]) -> tuple[R | None, set[str]]:
    try:
        return kind.model_validate(value), set()
    except ValidationError as error:
        return None, {str(mistake["loc"][0]) for mistake in error.errors(include_input=False, include_url=False)}


def parse(kind: type[R], value: Any, endpoint: str) -> Read[R]:
    """A row that is indispensable; raises ContractError naming endpoint and field, never the value."""
    told = read(kind, value)
    if told.row is None:
        fields = "data" if told.unread == (WHOLE_ROW,) else ", ".join(told.unread)
        raise ContractError(f"{endpoint} answered a field that cannot be read: {fields}.")
    return told


def parse_all(kind: type[R], rows: Any, endpoint: str) -> list[Read[R]]:
    """Every element of a JSON array as a `kind`; raises ContractError where it is none, or there are many and none
    of them is of any use."""
    if not isinstance(rows, list):
        raise ContractError(f"{endpoint} answered no list of rows.")
    told = [read(kind, value) for value in rows]
    refuse_useless(endpoint, [it.unread for it in told if it.row is None], len(told))
    return told


def refuse_useless(endpoint: str, useless: Sequence[tuple[str, ...]], count: int) -> None:
    """Raises ContractError where an answer has many rows and none is of any use."""
    if count >= MANY_ROWS and len(useless) == count:
        named = ", ".join(sorted(set().union(*useless)))
        raise ContractError(f"{endpoint} answered {count} rows, none of which can be read: {named}.")


def usage_cells(rows: Sequence[Any], granularity: str, endpoint: str) -> tuple[list[UsageCell], Counter[str]]:
    """Rows of an analytics answer, those without any usage left out; and what rows lack of which nobody can say when
    they are: how often which column. Raises ContractError where there are many and none is of any use."""
    told = [usage_cell(row, granularity) for row in rows]
    cells = [cell for cell in told if isinstance(cell, UsageCell)]
    lost = Counter(column for column in told if isinstance(column, str))
    useless = [cell.unread if isinstance(cell, UsageCell) else (cell,) for cell in told if _is_useless(cell)]
    refuse_useless(endpoint, useless, len(told))
    return [cell for cell in cells if cell.unread or any(cell.measures)], lost


def _is_useless(cell: UsageCell | str) -> bool:
    return isinstance(cell, str) or bool(MONEY & set(cell.unread))


def usage_cell(row: Any, granularity: str) -> UsageCell | str:
    """One analytics row; where its time cannot be read, the column that is wrong.

    The column of its time bears the granularity that was asked for in its name, beside others that may be there.
    """
    if not isinstance(row, dict):
        return WHOLE_ROW
    columns = sorted(filter(_TIME_COLUMN.match, row), key=lambda name: not name.endswith(f"__{granularity}"))
    column = columns[0] if columns else None
    try:
        at = values.happened(row[column or "date"])
    except (KeyError, ValueError):
        return column or "date"
    unread: list[str] = []

    def told(name: str, reader: Callable[[Any], T], otherwise: T) -> T:
        try:
            return reader(row.get(name))
        except ValueError:
            unread.append(name)
            return otherwise

    key = told("api_key_id", values.optional(values.text), UNKNOWN_MODEL)
    model = told("model", values.text_or_blank, "") or UNKNOWN_MODEL
    total_usd = told(TOTAL_METRIC, values.optional(values.number), None)
    amounts = [told(metric, _READERS[metric], Decimal(0)) for metric in METRICS]
    measures = NOTHING if MONEY & set(unread) else Measures(*amounts)
    return UsageCell(at, key, model, measures, total_usd, tuple(unread))


def _count(value: Any) -> Decimal:
    return Decimal(values.count(value))


def _requests(value: Any) -> Decimal:
    return Decimal(values.requests(value))


_READERS: Mapping[str, Callable[[Any], Decimal]] = {
    **dict.fromkeys(METRICS, _count),
    **dict.fromkeys(MONEY, values.amount),
    "request_count": _requests,
}
