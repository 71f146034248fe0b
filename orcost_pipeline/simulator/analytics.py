"""POST /analytics/query and GET /analytics/meta: facts grouped as asked, under the names the API gives them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from orcost_pipeline.simulator import question as vocabulary
from orcost_pipeline.simulator.facts import LONG_AGO, Cell, Usage, by_model, floor_hour, sums
from orcost_pipeline.simulator.ledger import ApiKey
from orcost_pipeline.simulator.question import COUNTS, MONEY, Filter, Question, parse
from orcost_pipeline.simulator.wire import Call, instant_text

Json = dict[str, Any]
Label = tuple[Any, ...]
Group = tuple[datetime | None, Label]


def query(call: Call) -> Json:
    """Rows by time bucket and dimension values; rows that get the same name are one row."""
    asked = parse(call.body, call.now, call.options)
    found = _grouped(call, asked)
    rows = _limited_per_group(asked, _ordered(asked, found))
    limit = min(asked.limit, call.options.max_rows)
    is_cut = len(rows) > limit and not call.options.silent_truncation
    data = _rows(call, asked, rows[:limit])
    answer: Json = {"data": data, "metadata": {"query_time_ms": 42, "row_count": len(data), "truncated": is_cut}}
    if call.options.has_cached_at:
        answer["cachedAt"] = int(call.now.timestamp() * 1000)
    warnings = _warnings(call, asked)
    return {"data": answer | ({"warnings": warnings} if warnings else {})}


def meta(call: Call) -> Json:
    """What this account may ask for."""
    dimensions = (*vocabulary.LONG_DIMENSIONS, *vocabulary.SHORT_DIMENSIONS)
    return {
        "data": {
            "metrics": [_metric(name) for name in vocabulary.metrics_of(call.options)],
            "dimensions": [{"name": name, "display_label": _title(name)} for name in dimensions],
            "granularities": [{"name": name, "display_label": _title(name)} for name in vocabulary.GRANULARITIES],
            "operators": [{"name": name, "value_type": kind} for name, kind in vocabulary.OPERATORS.items()],
        }
    }


def _metric(name: str) -> Json:
    kind = "number" if name in COUNTS else "currency"
    return {"name": name, "display_label": _title(name), "display_format": kind, "is_rate": False}


def _title(name: str) -> str:
    return name.replace("_", " ").title()


def _grouped(call: Call, asked: Question) -> dict[Group, Usage]:
    labels = _Labels(call, asked)
    found: dict[Group, Usage] = {}
    for moment, cells in _cells(call, asked):
        bucket = _bucket(moment, asked.granularity)
        for cell, usage in cells.items():
            label = labels[cell]
            if label is not None:
                known = found.get((bucket, label))
                found[bucket, label] = usage if known is None else known + usage
    return found


def _cells(call: Call, asked: Question) -> Iterator[tuple[datetime, dict[Cell, Usage]]]:
    store = call.account.facts
    is_cut = call.options.cut_usd and not call.options.cut_sums_usd
    if asked.granularity == "minute":
        for fact in store.facts(asked.start, asked.end, call.now):
            yield fact.at, sums([fact], store.by_cell, is_cut=is_cut)
        return
    fields = {*asked.dimensions, *(one.field for one in asked.filters)}
    group = by_model if fields <= {"model", "variant"} else None
    yield from store.hours(asked.start, asked.end, call.now, group, is_cut=is_cut)


def _bucket(moment: datetime, granularity: str | None) -> datetime | None:
    """The UTC bucket that an instant falls into; weeks begin on Monday."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    match granularity:
        case None:
            return None
        case "minute":
            return moment.replace(second=0, microsecond=0)
        case "hour":
            return floor_hour(moment)
        case "day":
            return midnight
        case "week":
            return midnight - timedelta(days=midnight.weekday())
        case _:
            return midnight.replace(day=1)


class _Labels(dict[Cell, Label | None]):
    """A cell's dimension values as the answer shows them; None where the filters leave it out."""

    def __init__(self, call: Call, asked: Question) -> None:
        super().__init__()
        self._call = call
        self._filters = [_predicate(call, one) for one in asked.filters]
        self._dimensions = asked.dimensions

    def __missing__(self, cell: Cell) -> Label | None:
        wanted = all(keeps(cell) for keeps in self._filters)
        label = tuple(_shown(self._call, name, cell) for name in self._dimensions) if wanted else None
        self[cell] = label
        return label


def _predicate(call: Call, one: Filter) -> Callable[[Cell], bool]:
    """As in SQL, `neq` and `not_in` pass over rows without a value, unless `include_unset` asks for them."""
    values = {value for value in one.values if one.field != "api_key_id" or _is_resolved(call, value)}
    is_negative = one.operator in ("neq", "not_in")

    def keeps(cell: Cell) -> bool:
        value = _value(call, one.field, cell)
        return one.include_unset if value is None else (value in values) != is_negative

    return keeps


def _is_resolved(call: Call, key_hash: object) -> bool:
    """Whether the server finds this hash; deleted ones as the options say."""
    key = call.account.key_at(str(key_hash), call.now)
    return key is not None and (key.deleted_at is None or call.options.deleted_by_hash == "rows")


def _warnings(call: Call, asked: Question) -> list[str]:
    hashes = [value for one in asked.filters if one.field == "api_key_id" for value in one.values]
    return [
        f"Could not resolve api_key_id filter value: {value}"
        for value in hashes
        if not _is_resolved(call, value)
        and (call.account.key_at(str(value), call.now) is None or call.options.deleted_by_hash == "warning")
    ]


def _key(call: Call, cell: Cell) -> ApiKey | None:
    return call.account.key_at(cell.key_hash, call.now) if cell.key_hash else None


def _value(call: Call, field: str, cell: Cell) -> str | None:
    """What a filter compares with: the identity, not the name."""
    match field:
        case "api_key_id":
            return cell.key_hash
        case "model":
            return cell.model
        case "variant":
            return "free" if cell.model.endswith(":free") else "standard"
        case "workspace":
            return cell.workspace_id
        case "provider":
            return cell.provider
        case "user" | "external_user":
            key = _key(call, cell)
            return None if key is None else key.creator_user_id if field == "user" else key.external_user
        case _:
            return None


def _shown(call: Call, dimension: str, cell: Cell) -> Any:
    """What the answer shows: names where the API enriches, (name, email) for a user."""
    if dimension == "api_key_id":
        return _key_name(call, _key(call, cell))
    value = _value(call, dimension, cell)
    if dimension == "workspace":
        workspace = call.account.workspace(value or "")
        return workspace.name if workspace else None
    if dimension == "user":
        member = next((member for member in call.account.members if member.id == value), None)
        return (value, None) if member is None else (f"{member.first_name} {member.last_name}", member.email)
    return value


def _key_name(call: Call, key: ApiKey | None) -> str | None:
    if key is None:
        return None
    if key.deleted_at is not None and call.options.deleted_name != "name":
        return {"label": key.label, "hash": key.hash, "null": None}[call.options.deleted_name]
    return key.label if call.options.label_resolved_names else key.name


def _ordered(asked: Question, found: dict[Group, Usage]) -> list[tuple[Group, Usage]]:
    """By time unless asked otherwise; then the busiest first."""
    rows = sorted(found.items(), key=lambda row: -row[1].requests)
    rows.sort(key=lambda row: row[0][0] or LONG_AGO)
    if asked.order_by is None or asked.order_by == ("date", False):
        return rows
    field, is_descending = asked.order_by
    rows.sort(key=lambda row: _order_key(asked, field, row), reverse=is_descending)
    return rows


def _order_key(asked: Question, field: str, row: tuple[Group, Usage]) -> tuple[bool, Any]:
    (bucket, label), usage = row
    if field == "date":
        return bucket is not None, bucket
    if field in asked.dimensions:
        value = label[asked.dimensions.index(field)]
        return value is not None, str(value)
    measure = COUNTS.get(field) or MONEY.get(field)
    return True, measure(usage) if measure else 0


def _limited_per_group(asked: Question, rows: list[tuple[Group, Usage]]) -> list[tuple[Group, Usage]]:
    if asked.group_limit is None or not asked.dimensions:
        return rows
    seen: Counter[Label] = Counter()
    kept: list[tuple[Group, Usage]] = []
    for row in rows:
        label = row[0][1]
        seen[label] += 1
        if seen[label] <= asked.group_limit:
            kept.append(row)
    return kept


def _rows(call: Call, asked: Question, groups: list[tuple[Group, Usage]]) -> list[Json]:
    column = f"{call.options.time_column}__{asked.granularity}"
    measures = [(name, _measure(call, name)) for name in asked.metrics]
    sums_are_cut = call.options.cut_usd and call.options.cut_sums_usd
    rows: list[Json] = []
    for number, ((bucket, label), exact) in enumerate(groups):
        usage = exact.cut(1, half_up=call.options.sums_half_up) if sums_are_cut else exact
        row: Json = {} if bucket is None else {column: _time(call, asked, bucket)}
        for dimension, value in zip(asked.dimensions, label, strict=True):
            row |= dict(zip(("user", "user_email"), value, strict=True)) if dimension == "user" else {dimension: value}
        for name, measure in measures:
            row[name] = measure(usage)
            if name in COUNTS and call.options.mixed_counts and number % 2:
                row[name] = int(row[name])
        rows.append(row)
    return rows


def _time(call: Call, asked: Question, bucket: datetime) -> str | None:
    if call.options.bare_dates and asked.granularity not in ("minute", "hour"):
        return bucket.date().isoformat()
    return instant_text(bucket) if call.options.iso_times else f"{bucket:%Y-%m-%d %H:%M:%S}"


def _measure(call: Call, name: str) -> Callable[[Usage], Any]:
    """How a metric is shown: counts as text, money as numbers, components nobody uses as null."""
    if name in COUNTS:
        count = COUNTS[name]
        return count if call.options.counts_as_numbers else lambda usage: str(count(usage))
    if name not in MONEY:
        return lambda _: None
    amount = MONEY[name]
    if name == "byok_usage" and call.options.unused_as_null:
        return lambda usage: amount(usage) or None
    return amount
