"""orcost.toml → `ProjectConfig`, or every mistake in the file with its line.

Messages repeat no value, which may be a key in the wrong place.
"""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.text import few, quoted, short

DEFAULT_MAPPING = "company_mapping.csv"
DEFAULT_COMPANIES = "companies.csv"
DEFAULT_PLANS = "price_plans.csv"
DEFAULT_RATES = "exchange_rates.csv"
TABLE_PREFIX = "table:"
DEFAULT_KEY_ENV = "OPENROUTER_API_KEY"
DEFAULT_TOLERANCE_USD = Decimal("1e-6")
LONGEST_MISTAKE = 200


@dataclass(frozen=True)
class Source:
    """Where people keep what a sync reads: a file, or a table of the warehouse's database, where `path` is unused.

    `field` is the one of orcost.toml that names it.
    """

    field: str
    path: Path
    table: str | None = None

    @classmethod
    def named(cls, field: str, text: str | None, default: str, folder: Path) -> "Source":
        """The source that orcost.toml or the environment names, as a path from `folder` or `table:` and a name."""
        if text and text.startswith(TABLE_PREFIX):
            return cls(field, folder / default, text.removeprefix(TABLE_PREFIX).strip())
        return cls(field, folder / Path(text or default).expanduser())

    @property
    def name(self) -> str:
        """The file or table as messages name it."""
        return f"table {self.table}" if self.table is not None else self.path.name


class AccountConfig(BaseModel):
    """One `[[accounts]]` entry of orcost.toml: a name, and the variable that holds its key; never the key itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")
    api_key_env: str = Field(max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    base_url: str | None = None


def require_account_name(name: str, nothing: str) -> None:
    """Raises PermanentError for a name that orcost.toml would not accept; `nothing` says what was not done."""
    try:
        AccountConfig(name=name, api_key_env=DEFAULT_KEY_ENV)
    except ValidationError:
        raise PermanentError(
            "That is not a valid account name: letters, digits, spaces, dots, - and _, at most 100 of them, "
            f"a letter or digit first. {nothing}"
        ) from None


class ReconciliationConfig(BaseModel):
    """`[reconciliation]` of orcost.toml: by how many USD the sources of a day may differ and still agree."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tolerance_usd: Decimal = Field(default=DEFAULT_TOLERANCE_USD, ge=0, allow_inf_nan=False)


class AlertsConfig(BaseModel):
    """`[alerts]` of orcost.toml: when findings about money and age begin, and which findings are sent.

    severity: the least that is sent. mute: codes of findings that are never sent. ui_url: the link in messages.
    stale_after_hours: age of an account's data. unattributed_percent: of the last 30 days' spend. credits_days: how
    long credits last. key_limit_percent, budget_percent: of a key's limit, of a company's budget. spike_factor: of the
    median of the same weekday; spike_usd: the least USD above it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    severity: Literal["error", "warning", "note"] = "warning"
    stale_after_hours: Decimal = Field(default=Decimal(2), gt=0, le=8_760, allow_inf_nan=False)
    unattributed_percent: Decimal = Field(default=Decimal(5), ge=0, le=100, allow_inf_nan=False)
    credits_days: Decimal = Field(default=Decimal(3), ge=0, le=3_650, allow_inf_nan=False)
    key_limit_percent: Decimal = Field(default=Decimal(80), gt=0, le=100, allow_inf_nan=False)
    budget_percent: Decimal = Field(default=Decimal(80), gt=0, le=100, allow_inf_nan=False)
    spike_factor: Decimal = Field(default=Decimal(3), ge=1, allow_inf_nan=False)
    spike_usd: Decimal = Field(default=Decimal(10), ge=0, allow_inf_nan=False)
    mute: tuple[str, ...] = ()
    ui_url: str | None = Field(default=None, pattern=r"^https?://\S+$", max_length=500)

    @property
    def stale_after(self) -> timedelta:
        """`stale_after_hours` as a span of time."""
        return timedelta(hours=float(self.stale_after_hours))


class RetentionConfig(BaseModel):
    """`[retention]` of orcost.toml, in days: Dagster's runs and events, `raw.*`, requests and runs of syncs and
    alerts. Costs are kept for good."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    runs_days: int = Field(default=30, ge=1, le=36_500)
    raw_days: int = Field(default=8, ge=1, le=36_500)
    history_days: int = Field(default=400, ge=1, le=36_500)


class BillingConfig(BaseModel):
    """`[billing]` of orcost.toml. show_cost: whether statements and viewers show cost; without it, viewers see
    what they are charged. issuer: who is named on statements as the one who charges."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    show_cost: bool = True
    issuer: str | None = Field(default=None, min_length=1, max_length=300)


class NameTakenError(ValueError):
    """Two accounts have the same name; its argument is the index of the second."""


class ProjectConfig(BaseModel):
    """orcost.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    accounts: tuple[AccountConfig, ...] = ()
    mapping: str | None = Field(default=None, min_length=1)
    companies: Path = Path(DEFAULT_COMPANIES)
    price_plans: str | None = Field(default=None, min_length=1)
    exchange_rates: str | None = Field(default=None, min_length=1)
    reconciliation: ReconciliationConfig = ReconciliationConfig()
    alerts: AlertsConfig = AlertsConfig()
    retention: RetentionConfig = RetentionConfig()
    billing: BillingConfig = BillingConfig()

    @field_validator("accounts")
    @classmethod
    def names_are_unique(cls, accounts: tuple[AccountConfig, ...]) -> tuple[AccountConfig, ...]:
        """The accounts; raises NameTakenError for the second of two with one name."""
        names = [account.name for account in accounts]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise NameTakenError(number)
        return accounts


# The sections of orcost.toml, by how messages name them.
SECTIONS: dict[str, type[BaseModel]] = {
    "above all sections": ProjectConfig,
    "under [[accounts]]": AccountConfig,
    "under [reconciliation]": ReconciliationConfig,
    "under [alerts]": AlertsConfig,
    "under [retention]": RetentionConfig,
    "under [billing]": BillingConfig,
}
# Sentences for pydantic's types of error whose own messages are for programmers.
IN_PLAIN_WORDS = {
    "missing": "is missing",
    "string_type": "is no text: write it in quotes",
    "tuple_type": "is a list: write [[accounts]] above each account",
    "value_error": "is the name of two accounts",
    "model_type": "is a section with fields, not a value",
}


def read_config(path: Path, *, required: bool) -> ProjectConfig:
    """The configuration in `path`; an empty one where the file is missing and not required.

    Raises PermanentError for an unreadable file, invalid TOML, or unknown or wrong fields, with their lines.
    """
    if not required and not path.is_file():
        return ProjectConfig()
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        return ProjectConfig.model_validate(tomllib.loads(text))
    except OSError as error:
        raise PermanentError(f"{path} cannot be read ({error.strerror}). Check ORCOST_CONFIG.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PermanentError(f"{path} is not valid TOML: {short(str(error), LONGEST_MISTAKE)}.") from None
    except ValidationError as error:
        raise PermanentError("\n".join(few(_mistakes(path, text, error)))) from None


Place = tuple[str | int, ...]


def _mistakes(path: Path, text: str, error: ValidationError) -> list[str]:
    """Every mistake with its line, in the order of the file; no value is repeated, as it may be a key."""
    lines = _lines_of(text)
    found: list[tuple[int, str]] = []
    mistakes = error.errors(include_input=False, include_url=False)
    unknown: list[Place] = [it["loc"] for it in mistakes if it["type"] == "extra_forbidden"]
    misspelt = {(*place[:-1], name) for place in unknown for name in _nearly(str(place[-1]), place)}
    for mistake in mistakes:
        place: Place = mistake["loc"]
        if mistake["type"] == "missing" and place in misspelt:
            continue
        if isinstance(taken := mistake.get("ctx", {}).get("error"), NameTakenError):
            place = (*place, *taken.args, "name")
        above = (place[:length] for length in range(len(place), 0, -1))
        line = next((lines[it] for it in above if it in lines), 1)
        found.append((line, f"{path}, line {line}: {_sentence(mistake, place)}"))
    return [sentence for _, sentence in sorted(found)]


def _sentence(mistake: Mapping[str, Any], place: Place) -> str:
    field = next((part for part in reversed(place) if isinstance(part, str)), "")
    if mistake["type"] == "extra_forbidden":
        return f"there is no {quoted(field)}{_nearest(field, place)}"
    in_its_words = f"is wrong: {short(mistake['msg'], LONGEST_MISTAKE)}"
    return f"{quoted(field)} {IN_PLAIN_WORDS.get(mistake['type'], in_its_words)}."


def _nearest(field: str, place: Place) -> str:
    """The known name most like an unknown one, or the section in which the name is known."""
    if near := _nearly(field, place):
        return f'; did you mean "{near[0]}"?'
    belongs = next((where for where, it in SECTIONS.items() if field in it.model_fields), None)
    return f"; it belongs {belongs}." if belongs else "."


def _nearly(field: str, place: Place) -> list[str]:
    """The known name most like an unknown one at its place; empty if none is similar."""
    section = next((it for where, it in SECTIONS.items() if f"[{place[0]}]" in where), ProjectConfig)
    known = section.model_fields if len(place) > 1 else ProjectConfig.model_fields
    return get_close_matches(field.lower(), known, n=1)


def _lines_of(text: str) -> dict[Place, int]:
    """The line at which each table and value of a valid TOML text begins; tomllib does not report lines.

    Each statement is valid TOML by itself, and no part of one is: lines are joined until they parse.
    """
    found: dict[Place, int] = {}
    tables: Counter[Place] = Counter()
    section: Place = ()
    lines, begin = text.split("\n"), 0
    for end in range(1, len(lines) + 1):
        with suppress(tomllib.TOMLDecodeError):
            statement = tomllib.loads("\n".join(lines[begin:end]))
            if lines[begin].lstrip().startswith("["):
                section = _opened(statement, tables)
                places = (section[:length] for length in range(1, len(section) + 1))
            else:
                places = _places(statement, section)
            for place in places:
                found.setdefault(place, begin + 1)
            begin = end
    return found


def _opened(header: dict[str, Any], tables: Counter[Place]) -> Place:
    """The table that a header opens: in an array of tables the next element, below one its last element."""
    place: Place = ()
    while header:
        ((name, inner),) = header.items()
        place = (*place, name)
        if isinstance(inner, list):
            tables[place] += 1
        header = inner[0] if isinstance(inner, list) else inner
        if tables[place]:
            place = (*place, tables[place] - 1)
    return place


def _places(value: Any, place: Place) -> Iterator[Place]:
    """The places of a value and of everything in it."""
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield from _places(part, (*place, name))
