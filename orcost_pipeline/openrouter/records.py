"""Wire JSON → frozen typed rows that fail loudly, naming endpoint and field.

Amounts are USD as the JSON text says, read as `Decimal`; counts may come as strings; times are made aware, UTC.
Fields that we do not know are kept (`model_extra`) and never an error: new ones appear every few weeks.
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from orcost_pipeline.errors import ContractError
from orcost_pipeline.measures import Measures


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _null_is_zero(value: Any) -> Any:
    return 0 if value is None else value


Instant = Annotated[datetime, AfterValidator(_utc)]
# An unused component is null, not 0.
Amount = Annotated[Decimal, BeforeValidator(_null_is_zero)]
Count = Annotated[int, BeforeValidator(_null_is_zero)]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class KeyInfo(Record):
    """`GET /key`: the key that asks. USD since it was made, and in the current UTC day, week (Monday first), month."""

    label: str
    usage: Amount
    usage_daily: Amount = Decimal(0)
    usage_weekly: Amount = Decimal(0)
    usage_monthly: Amount = Decimal(0)
    byok_usage: Amount = Decimal(0)
    byok_usage_daily: Amount = Decimal(0)
    byok_usage_weekly: Amount = Decimal(0)
    byok_usage_monthly: Amount = Decimal(0)
    is_management_key: bool = False
    is_provisioning_key: bool = False
    organization_id: str | None = None

    @property
    def can_manage(self) -> bool:
        return self.is_management_key or self.is_provisioning_key


class ApiKey(Record):
    """One key of `GET /keys`; `hash` is its identity, `name` free text."""

    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str
    label: str = ""
    workspace_id: str | None = None
    creator_user_id: str | None = None
    external_user: str | None = None
    disabled: bool = False
    limit: Decimal | None = None
    limit_remaining: Decimal | None = None
    limit_reset: str | None = None
    created_at: Instant | None = None
    expires_at: Instant | None = None
    last_used_at: Instant | None = None
    usage: Amount
    usage_daily: Amount = Decimal(0)
    usage_weekly: Amount = Decimal(0)
    usage_monthly: Amount = Decimal(0)
    byok_usage: Amount = Decimal(0)
    byok_usage_daily: Amount = Decimal(0)
    byok_usage_weekly: Amount = Decimal(0)
    byok_usage_monthly: Amount = Decimal(0)


class Workspace(Record):
    id: str
    name: str


class Member(Record):
    id: str
    email: str | None = None


class Credits(Record):
    """USD bought and USD used, ever, for the whole account."""

    total_credits: Amount
    total_usage: Amount


class ActivityRow(Record):
    """One row of `GET /activity`: (UTC date, model, endpoint)."""

    date: Annotated[date, BeforeValidator(lambda value: value[:10] if isinstance(value, str) else value)]
    model_permaslug: str
    provider_name: str = ""
    endpoint_id: str | None = None
    usage: Amount
    byok_usage_inference: Amount = Decimal(0)
    requests: Count = 0
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    reasoning_tokens: Count = 0
    cached_tokens: Count = 0

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

    id: str
    canonical_slug: str | None = None
    name: str = ""
    pricing: dict[str, Any] = {}


class UsageCell(NamedTuple):
    """One row of `POST /analytics/query`, of the hour (or day) that begins at `at`.

    `key` is a name as OpenRouter resolves it, None for no key.
    """

    at: datetime
    key: str | None
    model: str
    measures: Measures
    total_usd: Decimal | None


R = TypeVar("R", bound=Record)
T = TypeVar("T")

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
TOTAL_METRIC = "total_usage"
# Usage that no model is named for.
UNKNOWN_MODEL = "(unknown)"
_TIME_COLUMN = re.compile(r"^(date|created_at)(__\w+)?$")


def parse(kind: type[R], value: Any, endpoint: str) -> R:
    """`value` as a `kind`; raises ContractError naming endpoint and field, never the value."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        mistake = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in mistake["loc"])
        raise ContractError(
            f"{endpoint} answered a field that cannot be read: {field or 'data'}: {mistake['msg']}."
        ) from None


def parse_all(kind: type[R], values: Any, endpoint: str) -> list[R]:
    """Every element of a JSON array as a `kind`."""
    if not isinstance(values, list):
        raise ContractError(f"{endpoint} answered no list of rows.")
    return [parse(kind, value, endpoint) for value in values]


def usage_cells(rows: Iterable[Any], endpoint: str) -> list[UsageCell]:
    """Rows of an analytics answer, those without any usage left out."""
    cells = [usage_cell(row, endpoint) for row in rows]
    return [cell for cell in cells if any(cell.measures)]


def usage_cell(row: Any, endpoint: str) -> UsageCell:
    """One analytics row; raises ContractError naming the column that is not what it should be, never its value."""
    if not isinstance(row, dict):
        raise ContractError(f"{endpoint} answered a row that is no object.")
    column = next((name for name in row if _TIME_COLUMN.match(name)), None)
    if column is None:
        raise ContractError(f"{endpoint} answered a row without a time column: {sorted(row)}.")
    at = _read(row, column, _moment, endpoint)
    measures = Measures(*(_read(row, metric, _number, endpoint) for metric in METRICS))
    total_usd = _read(row, TOTAL_METRIC, _number, endpoint) if row.get(TOTAL_METRIC) is not None else None
    return UsageCell(at, row.get("api_key_id"), row.get("model") or UNKNOWN_MODEL, measures, total_usd)


def _read(row: dict[str, Any], column: str, reader: Callable[[Any], T], endpoint: str) -> T:
    try:
        return reader(row.get(column))
    except (ValueError, ArithmeticError, TypeError):
        raise ContractError(f"{endpoint} answered a column that cannot be read: {column}.") from None


def _moment(value: Any) -> datetime:
    return _utc(datetime.fromisoformat(value))


def _number(value: Any) -> Decimal:
    """A count or an amount: number, numeric string, or null for an unused component."""
    if value is None:
        return Decimal(0)
    number = Decimal(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else None
    if number is None or not number.is_finite():
        raise ValueError("no number")
    return number
