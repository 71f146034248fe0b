"""Usage and activity: questions that are truncated, refused or too slow are split, and their parts make the whole."""

import asyncio
import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from orcost_pipeline.errors import ContractError, TransientError
from orcost_pipeline.measures import MEASURES, Measures
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.api.failures import RefusedError
from orcost_pipeline.openrouter.api.usage_answer import UsageAnswer
from orcost_pipeline.openrouter.key_questions import by_model, rows_by_key
from orcost_pipeline.simulator import Fault, Ledger, Options
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.windows import Window, hours_window
from orcost_pipeline_tests.client_world import BY_KEY, KEY_HASH, cells, truth_by_name, usage
from orcost_pipeline_tests.virtual_time import (
    DAY,
    HOUR,
    NOON,
    Api,
    Handler,
    account_with_keys,
    answer,
    refusal,
    scripted,
    simulated,
)

pytest_plugins = ["orcost_pipeline_tests.client_world"]

pytestmark = pytest.mark.usefixtures("limiter_in_virtual_time")


# ── activity ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_activity_that_is_refused_is_none() -> None:
    assert scripted(refusal(403)).ask(lambda client: client.activity()) is None


def test_activity_that_is_not_found_is_none_and_no_rows_are_a_list() -> None:
    ledger, keys = account_with_keys("Gone", "Quiet")
    ledger.delete("acme", keys[0], NOON - HOUR)
    api, _ = simulated(ledger, Options(deleted_activity="404"))
    assert api.ask(lambda client: client.activity(keys[0])) is None
    assert api.ask(lambda client: client.activity(keys[1])) == []


def test_activity_equals_the_ledger() -> None:
    ledger, keys = account_with_keys("A", "B")
    for day in range(31):
        ledger.spend("acme", NOON - day * DAY, keys[0], GPT, usage("0.1", "0.02"))
        ledger.spend("acme", NOON - day * DAY, keys[1], CLAUDE, usage("0.3"))
    api, _ = simulated(ledger)
    rows = api.ask(lambda client: client.activity())
    truth = ledger.daily("acme", NOON.date() - 30 * DAY, NOON.date(), now=NOON)
    told = {(row.date, row.model_permaslug, row.provider_name): row.measures for row in rows or ()}
    assert len(told) == 60
    assert told == {
        (day, model, provider): Measures(*(Decimal(getattr(cell, name)) for name in MEASURES))
        for (day, _, model, provider), cell in truth.items()
    }
    by_key = api.ask(lambda client: client.activity(keys[1]))
    assert {row.model_permaslug for row in by_key or ()} == {CLAUDE}


# ── analytics: truncated, refused, too slow ───────────────────────────────────────────────────────────────────────────


def test_a_metric_the_account_does_not_know_is_dropped_and_not_asked_for_again(busy: tuple[Ledger, list[str]]) -> None:
    ledger, keys = busy
    api, simulator = simulated(ledger, Options(has_cached_tokens=False))
    window = hours_window(NOON)

    async def twice(client: OpenRouter) -> list[UsageAnswer]:
        return [await client.usage(window, BY_KEY), await client.usage(window, BY_KEY, keys)]

    without_cached = {cell: m._replace(cached_tokens=Decimal(0)) for cell, m in truth_by_name(ledger, window).items()}
    assert [cells(told) for told in api.ask(twice)] == [without_cached, without_cached]
    assert [request.path for request in simulator.asked("/analytics")] == [
        "/analytics/query",
        "/analytics/meta",
        "/analytics/query",
        "/analytics/query",
    ]


def test_a_metric_is_dropped_for_questions_that_are_under_way(busy: tuple[Ledger, list[str]]) -> None:
    ledger, _ = busy
    api, _ = simulated(ledger, Options(has_cached_tokens=False))
    windows = Window(NOON.replace(minute=0) - 30 * HOUR, NOON).halves()
    assert windows is not None
    told = api.ask(lambda client: asyncio.gather(*(client.usage(window, ["model"]) for window in windows)))
    for window, answered in zip(windows, told, strict=True):
        assert {cell.at for cell in answered.cells} == {hour for hour, _, _ in truth_by_name(ledger, window)}


def test_an_account_without_a_metric_that_costs_need_is_refused() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/meta"):
            return answer({"data": {"metrics": [{"name": "request_count"}]}})
        return refusal(400, "Unknown metric: credits_usage")

    with pytest.raises(RefusedError, match="Unknown metric: credits_usage"):
        Api(handle).ask(lambda client: client.usage(hours_window(NOON), ["model"]))


@pytest.mark.parametrize("status", [400, 413])
@pytest.mark.parametrize("longest", [1, 2, 5])
def test_a_filter_that_is_too_long_is_halved(status: int, longest: int) -> None:
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(11)))
    for number, key in enumerate(keys):
        ledger.spend("acme", NOON - number * HOUR, key, GPT, usage(Decimal(number + 1) / 8))
    api, _ = simulated(ledger, Options(max_filter_values=longest, max_filter_status=status))
    window = hours_window(NOON)
    told = api.ask(lambda client: client.usage(window, BY_KEY, keys))
    assert cells(told) == truth_by_name(ledger, window)
    assert all("group_limit" not in body for body in api.bodies())


def test_a_question_refused_for_one_key_is_refused() -> None:
    ledger, keys = account_with_keys("A", "B")
    api, _ = simulated(ledger, Options(max_filter_values=0))
    with pytest.raises(RefusedError, match="Too many filter values"):
        api.ask(lambda client: client.usage(hours_window(NOON), BY_KEY, keys))


def assert_parts_meet_on_whole_hours(api: Api, window: Window) -> None:
    edges = {datetime.fromisoformat(edge) for body in api.bodies() for edge in body["time_range"].values()}
    inner = edges - {window.start, window.end}
    assert inner
    assert all(edge == edge.replace(minute=0, second=0) for edge in inner)


@pytest.mark.parametrize("rows", [6, 7, 50])
def test_a_truncated_answer_is_asked_in_smaller_windows(busy: tuple[Ledger, list[str]], rows: int) -> None:
    ledger, _ = busy
    window = Window(NOON.replace(minute=0) - 30 * HOUR, NOON)
    api, _ = simulated(ledger, Options(max_rows=rows))
    told = api.ask(lambda client: client.usage(window, BY_KEY))
    assert cells(told) == truth_by_name(ledger, window)
    assert_parts_meet_on_whole_hours(api, window)


def test_windows_are_as_long_as_the_accounts_own_usage_says_that_fits() -> None:
    ledger, keys = account_with_keys(*(f"Key {number}" for number in range(12)))
    window = Window(NOON.replace(minute=0) - 4 * DAY, NOON)
    for hour in window.hours():
        for key_hash in keys:
            ledger.spend("acme", hour, key_hash, GPT, usage("0.1"))
    api, simulator = simulated(ledger, Options(max_rows=121))

    async def by_key(client: OpenRouter) -> tuple[UsageAnswer, int]:
        account = by_model((await client.usage(window, ["model"])).cells)
        before = simulator.count
        answered = await client.usage(window, BY_KEY, keys, most_rows=rows_by_key(account, len(keys)))
        return answered, simulator.count - before

    answered, asked = api.ask(by_key, analytics_per_minute=10_000)
    assert cells(answered) == truth_by_name(ledger, window, keys)
    assert asked <= 1.3 * len(answered.cells) / 121 + 1, "one answer tells that the server gives 121 rows at most"


def test_a_window_that_begins_inside_an_hour_is_split_on_whole_hours_too(busy: tuple[Ledger, list[str]]) -> None:
    ledger, _ = busy
    window = Window(NOON - 30 * HOUR, NOON)
    api, _ = simulated(ledger, Options(max_rows=20))
    told = api.ask(lambda client: client.usage(window, BY_KEY))
    assert cells(told) == truth_by_name(ledger, Window(window.start.replace(minute=0), window.end))
    assert_parts_meet_on_whole_hours(api, window)


def test_an_hour_that_does_not_fit_is_asked_for_fewer_keys(busy: tuple[Ledger, list[str]]) -> None:
    ledger, keys = busy
    window = Window(NOON.replace(minute=0) - 5 * HOUR, NOON)
    api, _ = simulated(ledger, Options(max_rows=2))
    told = api.ask(lambda client: client.usage(window, BY_KEY, keys[:5]), analytics_per_minute=10_000)
    assert cells(told) == truth_by_name(ledger, window, keys[:5])


@pytest.mark.parametrize("rows", [{"truncated": True}, {"row_count": 10_000}, {"row_count": 123_456}], ids=str)
def test_one_hour_that_cannot_be_split_is_refused(rows: dict[str, Any]) -> None:
    api = scripted(answer({"data": {"data": [], "metadata": {"truncated": False, "row_count": 0} | rows}}))
    hour = NOON.replace(minute=0)
    sentence = r'of account "acme" has more than 10000 rows for one hour \(2026-11-23 11:00 UTC\) and cannot be split'
    with pytest.raises(ContractError, match=sentence):
        api.ask(lambda client: client.usage(Window(hour - 3 * HOUR, hour), ["model"]))
    with pytest.raises(ContractError, match="cannot be split"):
        api.ask(lambda client: client.usage(Window(hour - HOUR, hour), BY_KEY, [KEY_HASH]))


def test_rows_as_many_as_the_limit_are_truncated_although_nothing_says_so() -> None:
    row = {"date__hour": "2026-11-23T09:00:00.000Z", "model": GPT, "request_count": "1"}
    api = scripted(answer({"data": {"data": [row] * 10_000, "metadata": {"truncated": False}}}))
    hour = NOON.replace(minute=0)
    with pytest.raises(ContractError, match="cannot be split"):
        api.ask(lambda client: client.usage(Window(hour - HOUR, hour), ["model"]))


def too_slow_over(longest: timedelta, most_keys: int, handle: Handler, **headers: str) -> Handler:
    """408 for windows longer than this, or filters of more keys."""

    def slow(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        start, end = (datetime.fromisoformat(body["time_range"][name]) for name in ("start", "end"))
        keys = body["filters"][0]["value"] if "filters" in body else []
        if end - start > longest or len(keys) > most_keys:
            return answer({"error": {"code": 408, "message": "Operation timed out."}}, 408, **headers)
        return handle(request)

    return slow


def test_a_question_that_is_too_slow_is_asked_in_smaller_windows(busy: tuple[Ledger, list[str]]) -> None:
    ledger, _ = busy
    window = hours_window(NOON)
    api, simulator = simulated(ledger)
    api.handler = too_slow_over(48 * HOUR, 100, simulator.handle)
    assert cells(api.ask(lambda client: client.usage(window, BY_KEY))) == truth_by_name(ledger, window)


def test_an_hour_that_is_too_slow_is_asked_for_fewer_keys(busy: tuple[Ledger, list[str]]) -> None:
    ledger, keys = busy
    hour = NOON.replace(minute=0)
    window = Window(hour - HOUR, hour)
    api, simulator = simulated(ledger)
    api.handler = too_slow_over(HOUR, 2, simulator.handle)
    told = api.ask(lambda client: client.usage(window, BY_KEY, keys))
    assert cells(told) == truth_by_name(ledger, window)


def test_an_hour_that_stays_too_slow_is_transient(busy: tuple[Ledger, list[str]]) -> None:
    ledger, _ = busy
    api, simulator = simulated(ledger)
    api.handler = too_slow_over(timedelta(0), 100, simulator.handle)
    hour = NOON.replace(minute=0)
    with pytest.raises(TransientError, match="Operation timed out"):
        api.ask(lambda client: client.usage(Window(hour - HOUR, hour), ["model"]))


def test_a_question_that_was_too_slow_once_is_asked_again_as_it_was(busy: tuple[Ledger, list[str]]) -> None:
    ledger, _ = busy
    window = hours_window(NOON)
    api, simulator = simulated(ledger)
    simulator.inject(Fault("408", match="/analytics"))
    assert cells(api.ask(lambda client: client.usage(window, BY_KEY))) == truth_by_name(ledger, window)
    first, second = api.bodies()
    assert first == second


def test_a_question_that_is_too_slow_is_split_although_the_answer_says_retry_after(
    busy: tuple[Ledger, list[str]],
) -> None:
    ledger, _ = busy
    window = hours_window(NOON)
    api, simulator = simulated(ledger)
    api.handler = too_slow_over(400 * HOUR, 100, simulator.handle, **{"Retry-After": "1"})
    assert cells(api.ask(lambda client: client.usage(window, BY_KEY))) == truth_by_name(ledger, window)


def test_a_question_split_by_window_keeps_no_hour_twice_where_ends_are_inclusive(
    busy: tuple[Ledger, list[str]],
) -> None:
    ledger, keys = busy
    hour = NOON.replace(minute=0)
    window = Window(hour - 20 * HOUR, hour - 2 * HOUR)
    api, _ = simulated(ledger, Options(end_inclusive=True, max_rows=13))
    told = api.ask(lambda client: client.usage(window, BY_KEY, keys))
    assert cells(told) == truth_by_name(ledger, window)


@pytest.mark.parametrize("named", ["{}", "{:.12}…", "Could not resolve api_key_id filter value: {}"])
def test_a_hash_that_a_warning_names_is_unresolved(named: str) -> None:
    other = "cd" * 32
    told = {"data": [], "metadata": {}, "warnings": [named.format(KEY_HASH)]}
    api = scripted(answer({"data": told}))
    hour = NOON.replace(minute=0)
    answered = api.ask(lambda client: client.usage(Window(hour - 2 * HOUR, hour), BY_KEY, [KEY_HASH, other]))
    assert answered.unresolved == {KEY_HASH}


@pytest.mark.parametrize("gone", [0, 5])
def test_a_deleted_key_is_unresolved_in_whatever_part_of_a_split_question(
    busy: tuple[Ledger, list[str]], gone: int
) -> None:
    ledger, keys = busy
    ledger.delete("acme", keys[gone], NOON - HOUR)
    api, _ = simulated(ledger, Options(deleted_by_hash="warning", max_filter_values=2, max_rows=9))
    window = Window(NOON.replace(minute=0) - 9 * HOUR, NOON)
    told = api.ask(lambda client: client.usage(window, BY_KEY, keys))
    assert told.unresolved == {keys[gone]}
    assert cells(told) == truth_by_name(ledger, window, set(keys) - {keys[gone]})


ODD_METADATA = [
    ([1], "limit row_count truncated"),
    ("x", "limit row_count truncated"),
    ({"row_count": "many"}, "row_count"),
    ({"row_count": 12.5, "limit": [1]}, "limit row_count"),
    ({"limit": "unlimited", "truncated": "no"}, "limit truncated"),
    ({"limit": -1, "truncated": "false", "row_count": "0"}, ""),
]


@pytest.mark.parametrize(("metadata", "odd"), ODD_METADATA, ids=str)
def test_metadata_that_cannot_be_read_are_noted_and_stop_nobody(metadata: Any, odd: str) -> None:
    api = scripted(answer({"data": {"data": [], "metadata": metadata}}))

    async def asked(client: OpenRouter) -> set[str]:
        await client.usage(hours_window(NOON), ["model"])
        return {it.field for it in client.unreadable}

    assert api.ask(asked) == {f"metadata.{name}" for name in odd.split()}


def test_a_truncated_answer_may_say_so_as_text() -> None:
    with pytest.raises(ContractError, match="more than 10000 rows"):
        scripted(answer({"data": {"data": [], "metadata": {"truncated": "true"}}})).ask(
            lambda client: client.usage(hours_window(NOON), ["model"])
        )


@pytest.mark.parametrize("warnings", [KEY_HASH, {"unknown": KEY_HASH}, [{"id": KEY_HASH}]], ids=str)
def test_a_warning_of_any_shape_is_understood(warnings: Any) -> None:
    api = scripted(answer({"data": {"data": [], "metadata": {}, "warnings": warnings}}))
    told = api.ask(lambda client: client.usage(hours_window(NOON), BY_KEY, [KEY_HASH]))
    assert told.unresolved == {KEY_HASH}


@pytest.mark.parametrize("meta", [None, [], {"metrics": None}, {"metrics": ["credits_usage"]}], ids=str)
def test_a_list_of_metrics_that_cannot_be_read_leaves_the_refusal(meta: Any) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        return answer({"data": meta}) if request.url.path.endswith("/meta") else refusal(400, "Unknown metric")

    with pytest.raises(RefusedError, match="Unknown metric"):
        Api(handle).ask(lambda client: client.usage(hours_window(NOON), ["model"]))


@pytest.mark.parametrize("data", [None, [], {}, {"rows": []}, {"data": {}}, "x"], ids=str)
def test_an_answer_without_rows_breaks_the_contract(data: Any) -> None:
    with pytest.raises(ContractError, match=r'POST /analytics/query of account "acme" answered no rows'):
        scripted(answer({"data": data})).ask(lambda client: client.usage(hours_window(NOON), ["model"]))
