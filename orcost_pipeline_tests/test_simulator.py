"""The simulator against its referees: the official SDK's models for the shape, its own ledger for the truth."""

from __future__ import annotations

import csv
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pydantic
import pytest
from openrouter import components, operations

from orcost_pipeline.simulator import ZERO, Fault, Ledger, Options, Simulator, Usage, demo, scale, serve, small
from orcost_pipeline.simulator import scenario as scenarios
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT, GPT_MINI

NOW = datetime(2026, 11, 18, 15, 40, tzinfo=UTC)  # a Wednesday
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BASE = "http://openrouter.test/api/v1"
METRICS = ["request_count", "tokens_prompt", "tokens_completion", "reasoning_tokens", "cached_tokens"]
METRICS += ["total_usage", "credits_usage", "byok_usage"]


def usage(credits_usd: str, byok_usd: str = "0", requests: int = 1) -> Usage:
    return Usage(requests, 10 * requests, 5 * requests, 2, 3, Decimal(credits_usd), Decimal(byok_usd))


class World:
    """A ledger, a clock that a test moves, and a client that asks."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.now = ledger, NOW
        self.account = next(iter(ledger.accounts))
        self.monotonic = 0.0
        self.sim = Simulator(ledger, lambda: self.now, monotonic=lambda: self.monotonic)
        self.client = self.client_of(ledger.accounts[self.account].management_key)

    def client_of(self, secret: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {secret}"}
        return httpx.Client(transport=httpx.MockTransport(self.sim.handle), base_url=BASE, headers=headers)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.client.get(path, params=params)

    def data(self, path: str, **params: Any) -> Any:
        answer = self.get(path, **params)
        assert answer.status_code == 200, answer.text
        return json.loads(answer.text, parse_float=Decimal)["data"]

    def query(self, **body: Any) -> httpx.Response:
        window = {"start": text(self.now - 30 * DAY), "end": text(self.now)}
        return self.client.post("/analytics/query", json={"metrics": METRICS, "time_range": window} | body)

    def rows(self, **body: Any) -> list[dict[str, Any]]:
        answer = self.query(**{"limit": 10_000} | body)
        assert answer.status_code == 200, answer.text
        return json.loads(answer.text, parse_float=Decimal)["data"]["data"]

    def by_hash(self, hashes: list[str], **body: Any) -> list[dict[str, Any]]:
        return self.rows(filters=[{"field": "api_key_id", "operator": "in", "value": hashes}], **body)


def text(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


def money(rows: Iterable[dict[str, Any]], column: str = "credits_usage") -> Decimal:
    return sum((Decimal(row[column]) for row in rows), Decimal(0))


def total(usages: Iterable[Usage]) -> Usage:
    return sum(usages, ZERO)


@pytest.fixture
def world() -> World:
    return World(small(NOW))


@pytest.fixture
def empty() -> World:
    ledger = Ledger()
    ledger.add_account("acme", credits_bought=Decimal(100))
    return World(ledger)


@pytest.fixture(scope="module")
def demo_ledger() -> Ledger:
    return demo(NOW)


# Shape: the SDK warns of its own deprecated fields

SDK_WARNINGS = pytest.mark.filterwarnings("ignore:warning. .. DEPRECATED:DeprecationWarning")


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/key", operations.GetCurrentKeyResponse),
        ("/keys", operations.ListResponse),
        ("/workspaces", components.ListWorkspacesResponse),
        ("/organization/members", operations.ListOrganizationMembersResponseBody),
        ("/credits", operations.GetCreditsResponse),
        ("/activity", components.ActivityResponse),
        ("/analytics/meta", operations.GetAnalyticsMetaResponse),
        ("/models", components.ModelsListResponse),
    ],
)
@pytest.mark.parametrize("scenario", ["small", "demo"])
@SDK_WARNINGS
def test_every_answer_is_one_the_official_sdk_reads(
    path: str, model: type[pydantic.BaseModel], scenario: str, demo_ledger: Ledger
) -> None:
    world = World(small(NOW) if scenario == "small" else demo_ledger)
    assert model.model_validate_json(world.get(path).text)


@SDK_WARNINGS
def test_one_key_an_ordinary_key_and_a_query_are_answers_the_official_sdk_reads(world: World) -> None:
    key_hash, versions = next(iter(world.ledger.accounts["acme"].keys.items()))
    operations.GetKeyResponse.model_validate_json(world.get(f"/keys/{key_hash}").text)
    own = world.client_of(versions[0][1].secret).get("/key")
    assert operations.GetCurrentKeyResponse.model_validate_json(own.text).data.is_management_key is False
    answer = world.query(dimensions=["api_key_id", "model"], granularity="hour")
    operations.QueryAnalyticsResponse.model_validate_json(answer.text)


@pytest.mark.parametrize(("status", "model"), [(401, "Unauthorized"), (403, "Forbidden"), (404, "NotFound")])
def test_errors_are_ones_the_official_sdk_reads(world: World, status: int, model: str) -> None:
    secret = next(iter(world.ledger.accounts["acme"].keys.values()))[0][1].secret
    answers = [world.client_of("sk-or-v1-wrong").get("/keys"), world.client_of(secret).get("/keys")]
    answers.append(world.get("/keys/" + "0" * 64))
    answer = next(answer for answer in answers if answer.status_code == status)
    error = getattr(components, f"{model}ResponseErrorData").model_validate(answer.json()["error"])
    assert error.code == status


def test_money_is_exact_text_and_noise_only_when_asked_for(empty: World) -> None:
    empty.ledger.spend("acme", NOW - HOUR, None, GPT, usage("0.1234567891"))
    assert '"credits_usage": 0.1234567891' in empty.query().text
    empty.sim.options = Options(float_noise=True)
    noisy = Decimal(empty.rows()[0]["credits_usage"])
    assert noisy != Decimal("0.1234567891")
    assert abs(noisy - Decimal("0.1234567891")) < Decimal("1e-12")


# Conservation


def test_analytics_by_key_and_model_sums_to_the_truth(demo_ledger: Ledger) -> None:
    world = World(demo_ledger)
    start = NOW - 2 * DAY
    truth = demo_ledger.hourly("demo", start, NOW, now=NOW)
    window = {"start": text(start), "end": text(NOW)}
    seen: dict[tuple[str, str], Decimal] = {}
    for key_hash in demo_ledger.accounts["demo"].keys:
        for row in world.by_hash([key_hash], dimensions=["model"], granularity="hour", time_range=window):
            seen[key_hash, row["date__hour"] + row["model"]] = Decimal(row["credits_usage"])
    stamped = {
        (key, f"{hour:%Y-%m-%d %H:00:00}{model}"): spent.credits_usd
        for (hour, key, model), spent in truth.items()
        if key is not None
    }
    assert seen == stamped
    rows = world.rows(dimensions=["model"], granularity="hour", time_range=window)
    assert money(rows) == total(truth.values()).credits_usd
    assert sum(int(row["request_count"]) for row in rows) == total(truth.values()).requests


def test_total_usage_is_credits_plus_byok(demo_ledger: Ledger) -> None:
    (row,) = World(demo_ledger).rows()
    assert row["byok_usage"] > 0
    assert Decimal(row["total_usage"]) == row["credits_usage"] + row["byok_usage"]


def test_activity_of_the_keys_and_the_chat_room_sums_to_the_accounts(demo_ledger: Ledger) -> None:
    world = World(demo_ledger)
    truth = demo_ledger.daily("demo", NOW.date() - 30 * DAY, NOW.date(), now=NOW)
    per_key = [world.data("/activity", api_key_hash=key_hash) for key_hash in demo_ledger.accounts["demo"].keys]
    chat = total(spent for (_, key_hash, _, _), spent in truth.items() if key_hash is None)
    whole = world.data("/activity")
    for column, measure in (("usage", "credits_usd"), ("byok_usage_inference", "byok_usd"), ("requests", "requests")):
        assert sum(money(rows, column) for rows in per_key) + getattr(chat, measure) == money(whole, column)
        assert money(whole, column) == getattr(total(truth.values()), measure)


@pytest.mark.parametrize("granularity", ["hour", "day", "week", "month", None])
def test_every_granularity_has_the_same_sum(demo_ledger: Ledger, granularity: str | None) -> None:
    rows = World(demo_ledger).rows(granularity=granularity, dimensions=["workspace"])
    truth = demo_ledger.hourly("demo", NOW - 30 * DAY, NOW, now=NOW)
    assert money(rows) == total(truth.values()).credits_usd


def test_days_weeks_and_months_begin_in_utc_and_weeks_on_monday(empty: World) -> None:
    empty.ledger.spend("acme", NOW, None, GPT, usage("1"))
    window = {"start": text(NOW - DAY), "end": text(NOW + DAY)}

    def begins(granularity: str) -> str:
        return empty.rows(granularity=granularity, time_range=window)[0][f"date__{granularity}"][:16]

    assert [begins(name) for name in ("hour", "day", "week", "month")] == [
        "2026-11-18 15:00",
        "2026-11-18 00:00",
        "2026-11-16 00:00",
        "2026-11-01 00:00",
    ]


def test_minutes_are_told_for_three_hours(demo_ledger: Ledger) -> None:
    world = World(demo_ledger)
    window = {"start": text(NOW - 3 * HOUR), "end": text(NOW)}
    rows = world.rows(granularity="minute", time_range=window)
    assert money(rows) == total(demo_ledger.hourly("demo", NOW - 3 * HOUR, NOW, now=NOW).values()).credits_usd
    assert world.query(granularity="minute").status_code == 400


def test_credits_are_what_all_keys_and_the_chat_room_used(world: World) -> None:
    assert world.data("/credits") == {"total_credits": 500, "total_usage": Decimal("111.75")}


# Keys


def test_two_keys_of_one_name_are_one_row_unless_asked_apart(empty: World) -> None:
    hashes = [empty.ledger.add_key("acme", "Twin", NOW - DAY) for _ in range(2)]
    for key_hash, amount in zip(hashes, ("1", "2"), strict=True):
        empty.ledger.spend("acme", NOW - HOUR, key_hash, GPT, usage(amount))
    assert [row["credits_usage"] for row in empty.rows(dimensions=["api_key_id"])] == [3]
    assert [empty.by_hash([key])[0]["credits_usage"] for key in hashes] == [1, 2]


def test_250_keys_come_in_three_pages_without_a_total(empty: World) -> None:
    made = {empty.ledger.add_key("acme", f"Key {n}", NOW - DAY + n * timedelta(minutes=1)) for n in range(250)}
    pages = [empty.data("/keys", offset=offset) for offset in (0, 100, 200, 300)]
    assert [len(page) for page in pages] == [100, 100, 50, 0]
    assert {key["hash"] for page in pages for key in page} == made
    assert set(empty.get("/keys").json()) == {"data"}
    assert empty.get("/keys", offset="-1").status_code == 400


def test_disabled_expired_and_other_workspaces_keys_are_hidden_unless_asked_for(empty: World) -> None:
    ledger, made = empty.ledger, NOW - DAY
    elsewhere = ledger.add_workspace("acme", "Elsewhere")
    names = ("plain", "off", "over", "gone")
    hashes = {name: ledger.add_key("acme", name, made) for name in names}
    ledger.add_key("acme", "there", made, workspace_id=elsewhere)
    ledger.disable("acme", hashes["off"], NOW - HOUR)
    ledger.expire("acme", hashes["over"], NOW - HOUR)
    ledger.delete("acme", hashes["gone"], NOW - HOUR)

    def listed(**params: str) -> set[str]:
        return {key["name"] for key in empty.data("/keys", **params)}

    assert listed() == {"plain"}
    assert listed(include_disabled="true", include_expired="true") == {"plain", "off", "over"}
    assert listed(workspace_id=elsewhere) == {"there"}
    assert empty.get(f"/keys/{hashes['gone']}").status_code == 404
    assert empty.get(f"/keys/{hashes['over']}").status_code == 200
    empty.now = NOW - 2 * HOUR
    assert listed() == {"plain", "off", "over", "gone"}
    empty.sim.options = Options(has_include_expired=False)
    assert empty.get("/keys", include_expired="true").status_code == 400


def test_workspaces_come_in_pages_with_a_total(empty: World) -> None:
    for number in range(120):
        empty.ledger.add_workspace("acme", f"W {number}")
    answer = empty.get("/workspaces", offset=100, limit=100).json()
    assert (len(answer["data"]), answer["total_count"]) == (21, 121)
    assert empty.get("/workspaces", limit=101).status_code == 400


def test_counters_are_calendar_day_week_and_month(empty: World) -> None:
    key_hash = empty.ledger.add_key("acme", "Key", NOW - 90 * DAY, limit=Decimal(10), limit_reset="weekly")
    monday = datetime(2026, 11, 16, tzinfo=UTC)
    for at, amount in (
        (NOW.replace(hour=0, minute=0), "1"),
        (monday, "2"),
        (monday - timedelta(seconds=1), "4"),
        (datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC), "8"),
        (NOW + HOUR, "16"),
    ):
        empty.ledger.spend("acme", at, key_hash, GPT, usage(amount, amount))
    (key,) = empty.data("/keys")
    names = ("usage_daily", "usage_weekly", "usage_monthly", "usage")
    assert [key[name] for name in names] == [1, 3, 7, 15]
    assert [key[f"byok_{name}"] for name in names] == [1, 3, 7, 15]
    assert key["limit_remaining"] == 7
    assert key["last_used_at"] == "2026-11-18T00:00:00.000Z"


def test_a_renamed_key_has_its_new_name_on_all_its_rows(empty: World) -> None:
    key_hash = empty.ledger.add_key("acme", "Old", NOW - DAY)
    empty.ledger.spend("acme", NOW - 3 * HOUR, key_hash, GPT, usage("1"))
    empty.ledger.rename("acme", key_hash, "New", NOW - HOUR)
    assert empty.rows(dimensions=["api_key_id"])[0]["api_key_id"] == "New"
    empty.now = NOW - 2 * HOUR
    assert empty.rows(dimensions=["api_key_id"])[0]["api_key_id"] == "Old"


def test_a_moved_key_leaves_its_past_in_the_old_workspace(empty: World) -> None:
    target = empty.ledger.add_workspace("acme", "Target")
    key_hash = empty.ledger.add_key("acme", "Key", NOW - 9 * DAY)
    for at in (NOW - 3 * DAY, NOW - 2 * DAY):
        empty.ledger.spend("acme", at, key_hash, GPT, usage("1"))
    assert len(empty.rows(dimensions=["workspace"])) == 1
    empty.ledger.move("acme", key_hash, target, NOW - 3 * DAY + HOUR)
    assert {row["workspace"] for row in empty.rows(dimensions=["workspace"])} == {"Default", "Target"}
    assert len(empty.data("/activity", workspace_id=target)) == 1
    assert len({row["workspace_id"] for row in empty.data("/activity", group_by="workspace")}) == 2


def test_a_rotated_key_has_a_new_hash_and_its_old_one_is_gone(empty: World) -> None:
    old = empty.ledger.add_key("acme", "Key", NOW - DAY)
    new = empty.ledger.rotate("acme", old, NOW - HOUR)
    assert [(key["hash"], key["name"]) for key in empty.data("/keys")] == [(new, "Key")]
    empty.ledger.undelete("acme", old, NOW - timedelta(minutes=1))
    assert {key["hash"] for key in empty.data("/keys")} == {old, new}


@pytest.mark.parametrize(
    ("option", "expected"),
    [("rows", (1, False)), ("empty", (0, False)), ("warning", (0, True))],
)
def test_a_deleted_keys_hash_answers_as_the_options_say(empty: World, option: Any, expected: tuple[int, bool]) -> None:
    key_hash = empty.ledger.add_key("acme", "Gone", NOW - 9 * DAY)
    empty.ledger.spend("acme", NOW - 3 * DAY, key_hash, GPT, usage("1"))
    empty.ledger.delete("acme", key_hash, NOW - HOUR)
    activity = {"rows": "rows", "empty": "empty", "warning": "404"}[option]
    empty.sim.options = Options(deleted_by_hash=option, deleted_activity=activity)  # type: ignore[arg-type]
    chosen = [{"field": "api_key_id", "operator": "in", "value": [key_hash]}]
    answer = empty.query(filters=chosen, dimensions=["model"]).json()["data"]
    assert (len(answer["data"]), any(key_hash in line for line in answer.get("warnings", []))) == expected
    told = empty.get("/activity", api_key_hash=key_hash)
    assert told.status_code == (404 if activity == "404" else 200)
    assert len(told.json().get("data", [])) == expected[0]
    assert money(empty.rows()) == 1


@pytest.mark.parametrize("option", ["name", "label", "null", "hash"])
def test_a_deleted_keys_rows_are_called_as_the_options_say(empty: World, option: Any) -> None:
    key_hash = empty.ledger.add_key("acme", "Gone", NOW - 9 * DAY)
    empty.ledger.spend("acme", NOW - 3 * DAY, key_hash, GPT, usage("1"))
    empty.ledger.delete("acme", key_hash, NOW - HOUR)
    empty.sim.options = Options(deleted_name=option)
    label = empty.ledger.accounts["acme"].keys[key_hash][0][1].label
    (row,) = empty.rows(dimensions=["api_key_id"])
    assert row["api_key_id"] == {"name": "Gone", "label": label, "null": None, "hash": key_hash}[option]


# Late and restated


def test_a_late_row_is_invisible_until_its_time_while_the_counter_moves(empty: World) -> None:
    key_hash = empty.ledger.add_key("acme", "Key", NOW - 9 * DAY)
    late = {"visible_from": NOW + HOUR, "activity_from": NOW + 2 * HOUR}
    empty.ledger.spend("acme", NOW - DAY, key_hash, GPT, usage("5"), **late)
    assert empty.data("/keys")[0]["usage"] == 5
    assert empty.data("/credits")["total_usage"] == 5
    assert empty.rows() == [] == empty.data("/activity")
    assert empty.ledger.hourly("acme", NOW - 2 * DAY, NOW, now=NOW) == {}
    assert len(empty.ledger.hourly("acme", NOW - 2 * DAY, NOW, now=NOW, include_late=True)) == 1
    empty.now = NOW + HOUR
    assert (money(empty.rows()), empty.data("/activity")) == (5, [])
    empty.now = NOW + 2 * HOUR
    assert money(empty.data("/activity"), "usage") == 5


def test_an_event_of_the_future_is_nowhere_yet(empty: World) -> None:
    key_hash = empty.ledger.add_key("acme", "Key", NOW - DAY)
    empty.ledger.spend("acme", NOW + timedelta(minutes=1), key_hash, GPT, usage("5"))
    window = {"start": text(NOW - HOUR), "end": text(NOW + HOUR)}
    assert empty.rows(time_range=window) == []
    assert empty.data("/keys")[0]["last_used_at"] is None


def test_a_day_is_restated_by_a_factor_to_a_usage_and_to_nothing(empty: World) -> None:
    key_hash = empty.ledger.add_key("acme", "Key", NOW - 9 * DAY)
    at = NOW - 2 * DAY
    for hour in range(3):
        empty.ledger.spend("acme", at + hour * HOUR, key_hash, GPT, usage("2", requests=4))
    empty.ledger.spend("acme", at, key_hash, CLAUDE, usage("1"))

    def told() -> tuple[Decimal, Decimal, Any]:
        per_key = empty.by_hash([key_hash], granularity="hour")
        return money(per_key), money(empty.data("/activity"), "usage"), empty.data("/keys")[0]["usage"]

    assert told() == (7, 7, 7)
    empty.ledger.restate("acme", at.date(), key_hash, GPT, factor=Decimal("0.5"))
    assert told() == (4, 4, 4)
    empty.ledger.restate("acme", at, key_hash, GPT, usage=usage("10"))
    assert told() == (13, 13, 13)
    empty.ledger.restate("acme", at.date(), key_hash, GPT, factor=Decimal(0))
    assert told() == (1, 1, 1)
    assert {row["model"] for row in empty.rows(dimensions=["model"])} == {CLAUDE}
    empty.ledger.restate("acme", at.date(), key_hash, CLAUDE, usage=ZERO)
    assert empty.rows() == []


# The query


def test_a_cut_answer_says_that_it_is_truncated(demo_ledger: Ledger) -> None:
    world = World(demo_ledger)
    answer = world.query(granularity="hour", dimensions=["model"]).json()["data"]
    assert answer["metadata"] == {"query_time_ms": 42, "row_count": 1000, "truncated": True}
    world.sim.options = Options(max_rows=50, silent_truncation=True)
    answer = world.query(granularity="hour", dimensions=["model"]).json()["data"]["metadata"]
    assert (answer["row_count"], answer["truncated"]) == (50, False)


@pytest.mark.parametrize(
    ("operator", "value", "include_unset", "expected"),
    [
        ("eq", 0, False, "1"),
        ("neq", 0, False, "2"),
        ("in", 0, False, "1"),
        ("in", 0, True, "5"),
        ("not_in", 0, False, "2"),
        ("not_in", 0, True, "6"),
    ],
)
def test_filters_pass_over_spend_without_a_key_unless_it_is_included(
    empty: World, operator: str, value: int, include_unset: bool, expected: str
) -> None:
    hashes = [empty.ledger.add_key("acme", f"Key {n}", NOW - DAY) for n in range(2)]
    for key_hash, amount in zip([*hashes, None], ("1", "2", "4"), strict=True):
        empty.ledger.spend("acme", NOW - HOUR, key_hash, GPT, usage(amount))
    chosen: Any = hashes[value] if operator in ("eq", "neq") else [hashes[value]]
    entry = {"field": "api_key_id", "operator": operator, "value": chosen}
    if include_unset:
        entry["include_unset"] = True
    assert money(empty.rows(filters=[entry])) == Decimal(expected)


def test_model_workspace_and_user_filters_take_identities(world: World) -> None:
    production = world.ledger.accounts["acme"].workspaces[1].id

    def spent(field: str, value: str) -> Decimal:
        return money(world.rows(filters=[{"field": field, "operator": "eq", "value": value}]))

    assert spent("model", GPT_MINI) == Decimal("2.85")
    assert spent("workspace", production) == Decimal("100.65")
    assert spent("user", "user_ada") == Decimal("10.85")
    assert spent("workspace", "Production") == 0


def test_an_unknown_hash_has_no_rows_and_a_warning(world: World) -> None:
    chosen = [{"field": "api_key_id", "operator": "in", "value": ["0" * 64]}]
    answer = world.query(filters=chosen).json()["data"]
    assert answer["data"] == []
    assert "0" * 64 in answer["warnings"][0]


def test_dimensions_come_back_as_names(world: World) -> None:
    rows = world.rows(dimensions=["api_key_id", "user"])
    assert {row["api_key_id"]: row["user_email"] for row in rows} == {
        "Company A": "ada@acme.example",
        "Company B": None,
        None: None,
    }
    assert {row["workspace"] for row in world.rows(dimensions=["workspace"])} == {"Default", "Production"}


def test_the_wire_varies_as_the_options_say(world: World) -> None:
    plain = world.rows(granularity="day")[0]
    assert (plain["date__day"], plain["request_count"]) == ("2026-11-08 00:00:00", "1")
    world.sim.options = Options(iso_times=True)
    assert world.rows(granularity="day")[0]["date__day"] == "2026-11-08T00:00:00.000Z"
    world.sim.options = Options(mixed_counts=True)
    assert {type(row["request_count"]) for row in world.rows(granularity="day", dimensions=["model"])} == {str, int}
    world.sim.options = Options(time_column="created_at", bare_dates=True, counts_as_numbers=True, unused_as_null=True)
    varied = world.rows(granularity="day", metrics=[*METRICS, "usage_cache"])[0]
    assert (varied["created_at__day"], varied["request_count"]) == ("2026-11-08", 1)
    assert varied["byok_usage"] is None is varied["usage_cache"]
    world.sim.options = Options(label_resolved_names=True)
    assert "..." in str(world.rows(dimensions=["api_key_id"])[0]["api_key_id"])


@pytest.mark.parametrize(
    "body",
    [
        {"metrics": []},
        {"metrics": ["beauty"]},
        {"dimensions": ["model", "user", "workspace"]},
        {"dimensions": ["taste"]},
        {"granularity": "second"},
        {"limit": 10_001},
        {"limit": "many"},
        {"filters": [{"field": "model", "operator": "in", "value": "x"}]},
        {"filters": [{"field": "model", "operator": "eq", "value": "x", "include_unset": True}]},
        {"filters": [{"field": "model", "operator": "eq", "value": "x"}] * 21},
        {"order_by": {"field": "model", "direction": "asc"}},
        {"time_range": {"start": "2026-11-01T00:00Z", "end": "2026-11-02T00:00:00Z"}},
        {"time_range": {"start": "2026-11-02T00:00:00Z", "end": "2026-11-02T00:00:00Z"}},
        {"time_range": {"start": "2025-11-01T00:00:00Z", "end": "2026-11-02T00:00:00Z"}},
        {"granularity": "hour", "time_range": {"start": "2026-10-01T00:00:00Z", "end": "2026-10-02T00:00:00Z"}},
    ],
)
def test_a_wrong_question_is_refused_with_a_message(world: World, body: dict[str, Any]) -> None:
    answer = world.query(**body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("Invalid request parameters")


def test_long_filters_and_missing_metrics_are_refused_as_the_options_say(world: World) -> None:
    world.sim.options = Options(max_filter_values=2, max_filter_status=413, has_cached_tokens=False)
    chosen = [{"field": "api_key_id", "operator": "in", "value": ["a", "b", "c"]}]
    assert world.query(metrics=["credits_usage"], filters=chosen).status_code == 413
    assert world.query(metrics=["cached_tokens"]).status_code == 400
    assert "cached_tokens" not in world.data("/activity")[0]
    world.sim.options = Options(analytics_status=403, is_personal=True)
    assert world.query().status_code == 403
    assert world.get("/organization/members").status_code == 404


def test_the_end_of_a_window_is_exclusive_unless_the_options_say_otherwise(empty: World) -> None:
    empty.ledger.spend("acme", NOW.replace(hour=12, minute=10), None, GPT, usage("1"))
    window = {"start": "2026-11-18T10:00:00Z", "end": "2026-11-18T12:00:00Z"}
    assert empty.rows(time_range=window) == []
    empty.sim.options = Options(end_inclusive=True)
    assert money(empty.rows(time_range=window)) == 1


def test_hours_beyond_their_reach_may_be_clipped_instead(empty: World) -> None:
    for days in (30, 33):
        empty.ledger.spend("acme", NOW - days * DAY, None, GPT, usage("1"))
    empty.sim.options = Options(old_hours="clip")
    window = {"start": text(NOW - 40 * DAY), "end": text(NOW)}
    assert money(empty.rows(granularity="hour", time_range=window)) == 1
    assert money(empty.rows(granularity="day", time_range=window)) == 2


def test_rows_are_ordered_as_asked(world: World) -> None:
    order = {"field": "credits_usage", "direction": "desc"}
    amounts = [row["credits_usage"] for row in world.rows(dimensions=["model"], order_by=order)]
    assert amounts == sorted(amounts, reverse=True)


# Activity


def test_activity_tells_thirty_completed_days_and_never_today(empty: World) -> None:
    for days in range(33):
        empty.ledger.spend("acme", NOW - days * DAY, None, GPT, usage("1"))
    days = {row["date"] for row in empty.data("/activity")}
    assert (min(days), max(days), len(days)) == ("2026-10-19", "2026-11-17", 30)
    assert len(empty.data("/activity", date="2026-11-17")) == 1
    for day in ("2026-11-18", "2026-10-18", "yesterday"):
        assert empty.get("/activity", date=day).status_code == 400


def test_activity_has_slug_and_permaslug_and_a_row_per_provider(empty: World) -> None:
    for provider in ("Anthropic", "Amazon Bedrock"):
        empty.ledger.spend("acme", NOW - DAY, None, CLAUDE, usage("1"), provider=provider)
    rows = empty.data("/activity")
    assert {(row["model"], row["model_permaslug"]) for row in rows} == {("anthropic/claude-sonnet-4", CLAUDE)}
    assert {row["provider_name"] for row in rows} == {"Anthropic", "Amazon Bedrock"}


# Who may ask


def test_only_management_keys_get_past_their_own_key(world: World) -> None:
    secret = next(iter(world.ledger.accounts["acme"].keys.values()))[0][1].secret
    ordinary = world.client_of(secret)
    own = ordinary.get("/key").json()["data"]
    assert (own["usage"], own["is_management_key"]) == (10.85, False)
    for path in ("/keys", "/credits", "/activity", "/analytics/meta", "/workspaces"):
        answer = ordinary.get(path)
        assert answer.status_code == 403
        assert answer.json()["error"]["message"] == "Only management keys can perform this operation"
    assert world.data("/key")["is_management_key"] is True


def test_strangers_and_deleted_keys_get_401_and_models_need_no_key(world: World) -> None:
    key_hash, versions = next(iter(world.ledger.accounts["acme"].keys.items()))
    world.ledger.delete("acme", key_hash, NOW - HOUR)
    assert world.client_of(versions[0][1].secret).get("/key").status_code == 401
    assert world.client_of("sk-or-v1-wrong").get("/credits").json()["error"]["code"] == 401
    nobody = httpx.Client(transport=httpx.MockTransport(world.sim.handle), base_url=BASE)
    assert nobody.get("/keys").json()["error"]["message"] == "Missing Authentication header"
    assert len(nobody.get("/models").json()["data"]) == 7


@SDK_WARNINGS
def test_models_that_make_no_text_are_listed_where_they_are_asked_for(world: World) -> None:
    def listed(**params: str) -> int:
        return len(components.ModelsListResponse.model_validate_json(world.get("/models", **params).text).data)

    assert [listed(), listed(output_modalities="image"), listed(output_modalities="all")] == [7, 1, 8]
    world.sim.options = Options(has_output_modalities=False)
    assert world.get("/models", output_modalities="all").status_code == 400
    assert listed() == 7


def test_an_account_sees_only_itself(world: World) -> None:
    other = world.ledger.add_account("other")
    world.ledger.spend("other", NOW - HOUR, None, GPT, usage("9"))
    client = world.client_of(other.management_key)
    assert client.get("/credits").json()["data"]["total_usage"] == 9
    assert client.get("/keys").json()["data"] == []
    assert world.data("/credits")["total_usage"] == Decimal("111.75")


def test_budgets_are_for_enterprises(world: World) -> None:
    assert world.get("/workspaces/default/budgets").status_code == 403
    assert world.get("/workspaces/nowhere/budgets").status_code == 404
    assert world.get("/nonsense").status_code == 404


def test_the_65th_analytics_request_of_a_minute_is_refused(world: World) -> None:
    world.sim.options = Options(analytics_per_minute=64)
    statuses = [world.query().status_code for _ in range(65)]
    assert statuses == [200] * 64 + [429]
    assert world.get("/keys").status_code == 200
    world.monotonic = 61.0
    assert world.query().status_code == 200


def test_the_limit_says_when_to_come_back_as_the_platform_does_or_in_another_way_or_not_at_all(world: World) -> None:
    world.sim.options = Options(analytics_per_minute=1)
    world.query()
    world.monotonic = 22.5
    told = world.query().headers
    assert told["X-RateLimit-Limit"] == "1"
    assert told["X-RateLimit-Remaining"] == "0"
    assert int(told["X-RateLimit-Reset"]) == int((world.now.timestamp() + 37.5) * 1_000)
    assert "Retry-After" not in told
    world.sim.options = Options(analytics_per_minute=1, limit_told_by="retry_after")
    assert world.query().headers["Retry-After"] == "38"
    world.sim.options = Options(analytics_per_minute=1, limit_told_by="nothing")
    told = world.query().headers
    assert not [name for name in told if name.startswith(("retry", "x-"))]


def test_calls_of_somebody_else_leave_fewer_to_us(world: World) -> None:
    world.sim.options = Options(analytics_per_minute=64, analytics_used_by_others=44)
    assert [world.query().status_code for _ in range(21)] == [200] * 20 + [429]
    with serve(world.sim) as base_url, httpx.Client(base_url=base_url, headers=world.client.headers) as client:
        refused = client.get("/analytics/meta")
    assert (refused.status_code, refused.headers["X-RateLimit-Remaining"]) == (429, "0")


def test_the_log_has_what_was_asked_and_no_secret(world: World) -> None:
    world.get("/keys", offset=100)
    world.query(metrics=["credits_usage"])
    assert world.sim.count == 2
    assert world.sim.requests[0] == ("GET", "/keys", {"offset": "100"}, None, "acme")
    assert world.sim.asked("/analytics")[0].body["metrics"] == ["credits_usage"]
    assert "sk-or-v1" not in repr(world.sim.requests)


# Faults


STATUSES = [("401", 401), ("402", 402), ("408", 408), ("429", 429), ("500", 500), ("503", 503)]


@pytest.mark.parametrize(("kind", "status"), [*STATUSES, ("403_html", 403), ("502_html", 502)])
def test_a_fault_strikes_as_often_as_told_and_then_no_more(world: World, kind: Any, status: int) -> None:
    world.sim.inject(Fault(kind, times=2, match="/keys", skip=1))
    assert [world.get("/keys").status_code for _ in range(4)] == [200, status, status, 200]
    assert world.get("/credits").status_code == 200


def test_retry_after_is_sent_when_told(world: World) -> None:
    world.sim.inject(Fault("429", retry_after=7), Fault("503"))
    assert world.get("/keys").headers["Retry-After"] == "7"
    assert "Retry-After" not in world.get("/keys").headers


@pytest.mark.parametrize("kind", ["html_200", "cut_json_200"])
def test_a_200_may_be_no_json(world: World, kind: Any) -> None:
    world.sim.inject(Fault(kind))
    answer = world.get("/keys")
    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        answer.json()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("reset", httpx.ReadError),
        ("refused", httpx.ConnectError),
        ("hang", httpx.ReadTimeout),
        ("drip", httpx.ReadTimeout),
        ("cut_body", httpx.RemoteProtocolError),
        ("garbled", httpx.DecodingError),
    ],
)
def test_a_fault_without_an_answer_is_httpx_own_error(world: World, kind: Any, error: type[Exception]) -> None:
    world.sim.inject(Fault(kind))
    with pytest.raises(error):
        world.get("/keys")
    assert world.get("/keys").status_code == 200


def test_a_key_removed_between_pages_hides_another(empty: World) -> None:
    for number in range(150):
        empty.ledger.add_key("acme", f"Key {number}", NOW - DAY)
    empty.sim.inject(Fault("shifted_page"))
    pages = [empty.data("/keys", offset=offset) for offset in (0, 100)]
    assert [len(page) for page in pages] == [100, 49]


def test_a_key_made_between_pages_repeats_one_and_hides_another(empty: World) -> None:
    for number in range(250):
        empty.ledger.add_key("acme", f"Key {number}", NOW - DAY)
    empty.sim.inject(Fault("repeated_page"))
    first, second, third = ([key["hash"] for key in empty.data("/keys", offset=offset)] for offset in (0, 100, 200))
    assert second[0] == first[-1]
    assert len({*first, *second, *third}) == 249


@pytest.mark.parametrize("path", ["workspaces", "organization/members", "credits", "models"])
def test_a_listing_is_refused_as_the_options_say(world: World, path: str) -> None:
    refused: dict[str, Any] = {f"{path.rpartition('/')[2]}_status": 403}
    world.sim.options = Options(**refused)
    assert world.get(f"/{path}").status_code == 403
    world.sim.options = Options()
    assert world.get(f"/{path}").status_code == 200


@pytest.mark.parametrize("status", [403, 404])
def test_one_workspaces_keys_are_refused_as_the_options_say(world: World, status: int) -> None:
    other = next(it for it in world.data("/workspaces") if it["slug"] != "default")["id"]
    (key, *_) = world.data("/keys", workspace_id=other)
    world.sim.options = Options(refused_workspaces=frozenset({other}), refused_status=status)
    assert world.get("/keys", workspace_id=other).status_code == status
    assert world.get("/keys").status_code == world.get(f"/keys/{key['hash']}").status_code == 200
    world.sim.options = Options(refused_workspaces=frozenset({other}), refused_key_status=status)
    assert world.get(f"/keys/{key['hash']}").status_code == status


def test_hour_grain_may_be_limited_to_windows_of_days(world: World) -> None:
    world.sim.options = Options(hour_window_days=2)
    two, three = ({"start": text(NOW - days * DAY), "end": text(NOW)} for days in (2, 3))
    assert world.query(granularity="hour", time_range=two).status_code == 200
    assert world.query(granularity="hour", time_range=three).status_code == 400
    assert world.query(granularity="day", time_range=three).status_code == 200


def test_the_same_question_soon_after_gets_the_same_answer(empty: World) -> None:
    def told(**more: Any) -> tuple[Decimal, int]:
        body = {"time_range": {"start": text(NOW - DAY), "end": text(NOW)}} | more
        answer = json.loads(empty.query(**body).text, parse_float=Decimal)["data"]
        return money(answer["data"]), answer["cachedAt"]

    first_ms = int(NOW.timestamp() * 1000)
    empty.ledger.spend("acme", NOW - HOUR, None, GPT, usage("1"))
    empty.sim.options = Options(cache_seconds=60)
    assert told() == (1, first_ms)
    empty.ledger.spend("acme", NOW - HOUR, None, CLAUDE, usage("2"))
    empty.now += timedelta(seconds=59)
    assert told() == (1, first_ms)
    assert told(limit=999) == (3, first_ms + 59_000)
    empty.now += timedelta(seconds=1)
    assert told() == (3, first_ms + 60_000)
    empty.sim.options = Options(cache_seconds=60, cache_ignores_limit=True)
    empty.ledger.spend("acme", NOW - HOUR, None, GPT_MINI, usage("4"))
    assert told(limit=998) == told(limit=997)


def test_the_truncated_flag_means_missing_rows(world: World) -> None:
    world.sim.inject(Fault("truncated_flag"))
    cut = world.query(dimensions=["model"]).json()["data"]
    assert cut["metadata"]["truncated"] is True
    assert len(cut["data"]) == 2 < len(world.rows(dimensions=["model"]))


def test_workspaces_may_fail_alone_and_predicates_choose(world: World) -> None:
    world.sim.inject(Fault("workspaces_500", times=None), Fault("500", match=lambda asked: "date" in asked.url.params))
    assert [world.get(path).status_code for path in ("/workspaces", "/keys", "/activity")] == [500, 200, 200]
    assert world.get("/activity", date="2026-11-17").status_code == 500
    world.sim.clear_faults()
    assert world.get("/workspaces").status_code == 200


# The real port


def test_the_real_port_answers_as_the_handler_does_and_keeps_the_connection(world: World) -> None:
    with serve(world.sim) as base_url, httpx.Client(base_url=base_url, headers=world.client.headers) as client:
        for _ in range(3):
            assert client.get("/keys").json() == world.get("/keys").json()
        body = {"metrics": METRICS}
        assert (
            client.post("/analytics/query", json=body).json() == world.client.post("/analytics/query", json=body).json()
        )
        pool = client._transport._pool  # type: ignore[attr-defined]
        assert len(pool.connections) == 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{base_url}/models")


def test_a_closed_port_hangs_up_on_kept_connections(world: World) -> None:
    with httpx.Client(headers=world.client.headers) as client:
        with serve(world.sim) as base_url:
            client.get(f"{base_url}/keys")
        with pytest.raises(httpx.TransportError):
            client.get(f"{base_url}/keys")


def test_the_real_port_resets_and_hangs(world: World) -> None:
    world.sim.inject(Fault("reset"), Fault("hang", seconds=0.5), Fault("429", retry_after=3))
    with serve(world.sim) as base_url, httpx.Client(base_url=base_url, headers=world.client.headers) as client:
        with pytest.raises(httpx.ReadError, match="reset"):
            client.get("/keys")
        with pytest.raises(httpx.ReadTimeout):
            client.get("/keys", timeout=0.1)
        assert client.get("/keys").headers["Retry-After"] == "3"
        assert client.get("/keys").status_code == 200


def test_the_real_port_drips_cuts_and_garbles(world: World) -> None:
    whole = world.get("/keys").json()
    world.sim.inject(Fault("drip", seconds=0.6), Fault("cut_body"), Fault("garbled"))
    with serve(world.sim) as base_url, httpx.Client(base_url=base_url, headers=world.client.headers) as client:
        started = time.monotonic()
        # No pause between two bytes is long enough for a time limit.
        assert client.get("/keys", timeout=0.4).json() == whole
        assert time.monotonic() - started >= 0.6
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
            client.get("/keys")
        with pytest.raises(httpx.DecodingError):
            client.get("/keys")
        assert client.get("/keys").status_code == 200


# Scenarios


@pytest.mark.slow
def test_the_demos_past_is_the_same_whenever_it_is_started(demo_ledger: Ledger) -> None:
    later = demo(NOW + 8 * DAY + 3 * HOUR)
    start = NOW - 45 * DAY
    assert demo_ledger.hourly("demo", start, NOW, now=NOW) == later.hourly("demo", start, NOW, now=NOW)
    assert World(demo_ledger).get("/keys").text == World(later).get("/keys").text
    assert World(demo_ledger).get("/credits").text == World(later).get("/credits").text


@pytest.mark.slow
def test_the_demos_current_hour_grows_with_the_minutes(demo_ledger: Ledger) -> None:
    hour = NOW.replace(minute=0)
    moments = [hour + minutes * timedelta(minutes=1) for minutes in (5, 20, 40, 59)]
    sums = [total(demo_ledger.hourly("demo", hour, at, now=at).values()).requests for at in moments]
    assert sums == sorted(sums)
    assert len(set(sums)) > 2


def test_the_demo_is_an_agency_worth_looking_at(demo_ledger: Ledger) -> None:
    spent: defaultdict[str, Decimal] = defaultdict(Decimal)
    facts = demo_ledger.hourly("demo", NOW - 30 * DAY, NOW, now=NOW)
    for (_, key_hash, _), used in facts.items():
        key = demo_ledger.accounts["demo"].key_at(key_hash, NOW) if key_hash else None
        spent[key.name if key else ""] += used.credits_usd
    assert 1_500 < sum(spent.values()) < 3_000
    assert {"", "Shared gateway", "Company C Pilot"} <= spent.keys()
    assert total(facts.values()).byok_usd > 50
    free = [used for (_, _, model), used in facts.items() if model.endswith(":free")]
    assert total(free).requests > 0
    assert total(free).credits_usd == 0
    listed = World(demo_ledger).data("/keys", include_disabled="true", include_expired="true")
    assert [key for key in listed if key["disabled"]]
    assert [key for key in listed if key["expires_at"]]
    living = demo_ledger.accounts["demo"].living_keys(NOW)
    assert len([key for key in living if key.name == "Company B Chatbot"]) == 2


def test_the_demos_mapping_names_three_companies_and_splits_the_gateway() -> None:
    path = Path(scenarios.__file__).with_name("demo_mapping.csv")
    rules = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert list(rules[0]) == ["company", "match", "pattern", "valid_from", "valid_to", "share", "note"]
    assert {rule["company"] for rule in rules} >= {"Company A", "Company B", "Company C"}
    assert (
        sum(int(rule["share"]) for rule in rules if rule["pattern"] == "Shared gateway" and rule["valid_from"]) == 100
    )


@pytest.mark.slow
def test_a_thousand_keys_are_answered_quickly() -> None:
    world = World(scale(NOW, days=16))
    window = {"start": text(NOW - 16 * DAY), "end": text(NOW)}
    started = time.process_time()
    rows = world.rows(granularity="hour", dimensions=["model"], time_range=window)
    asked = time.process_time()
    workspaces = world.data("/workspaces")
    pages = [
        world.data("/keys", workspace_id=workspace["id"], offset=offset)
        for workspace in workspaces
        for offset in (0, 100)
    ]
    listed = time.process_time()
    assert money(rows) == total(world.ledger.hourly("scale", NOW - 16 * DAY, NOW, now=NOW).values()).credits_usd
    assert (len(workspaces), sum(map(len, pages))) == (5, 1_000)
    assert sum(1 for page in pages for key in page if key["usage"]) == 100
    assert asked - started < 1.0
    assert listed - asked < 1.0
