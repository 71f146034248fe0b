"""Amounts, counts, hours and days are read exactly, however they are written."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from orcost_pipeline.measures import Measures
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.api.usage_answer import UsageAnswer
from orcost_pipeline.simulator import Ledger, Options
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.windows import hours_window
from orcost_pipeline_tests.client_world import BY_KEY, KEY_HASH, cells, noting, truth_by_name, usage
from orcost_pipeline_tests.virtual_time import DAY, NOON, answer, scripted, simulated, text_answer

pytest_plugins = ["orcost_pipeline_tests.client_world"]

pytestmark = pytest.mark.usefixtures("limiter_in_virtual_time")


EXACT = ["12345678901.234567890", "0.12345678901234567890", "1e-7", "1E-7", "0.1", "3", "123456789012345", "0"]


@pytest.mark.parametrize("number", EXACT)
def test_an_amount_is_the_decimal_that_the_json_text_says(number: str) -> None:
    fields = f'"hash": "{KEY_HASH}", "name": "A", "usage": {number}, "byok_usage": {number}, "limit": {number}'
    key = scripted(text_answer(f'{{"data": {{{fields}}}}}')).ask(lambda client: client.api_key(KEY_HASH))
    assert key is not None
    assert [str(amount) for amount in (key.usage, key.byok_usage, key.limit)] == [str(Decimal(number))] * 3


@pytest.mark.parametrize("number", EXACT[:-1])
def test_an_amount_of_analytics_is_the_decimal_that_the_json_text_says(number: str) -> None:
    row = f'"date__hour": "2026-11-23T09:00:00.000Z", "credits_usage": {number}, "byok_usage": "{number}"'
    api = scripted(text_answer(f'{{"data": {{"data": [{{{row}}}], "metadata": {{}}}}}}'))
    (cell,) = api.ask(lambda client: client.usage(hours_window(NOON), ["model"])).cells
    assert [str(cell.measures.credits_usd), str(cell.measures.byok_usd)] == [str(Decimal(number))] * 2


def leaves(value: Any) -> Iterator[Any]:
    """Every plain value inside rows, lists and objects."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, UsageAnswer):
        value = value.cells
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def test_no_float_is_anywhere_in_what_is_read(busy: tuple[Ledger, list[str]]) -> None:
    ledger, keys = busy
    ledger.add_member("acme", "ada@acme.example")
    ledger.spend("acme", NOON - 2 * DAY, keys[0], GPT, usage("0.1", "0.2"))
    api, simulator = simulated(ledger, Options(float_noise=True, counts_as_numbers=True))
    api.handler = lambda request: text_answer(
        simulator.handle(request).text.replace('{"data": {', '{"data": {"a_rate": 0.25, ', 1)
    )

    async def everything(client: OpenRouter) -> list[Any]:
        return [
            await client.key(),
            await client.credits(),
            await client.models(),
            await client.workspaces(),
            await client.members(),
            (await client.api_keys([ledger.accounts["acme"].default_workspace.id])).keys,
            await client.api_key(keys[0]),
            await client.activity(),
            await client.usage(hours_window(NOON), BY_KEY),
        ]

    told = api.ask(everything)
    assert all(told)
    assert {type(leaf) for leaf in leaves(told)} >= {Decimal, int, str, datetime}
    assert not [leaf for leaf in leaves(told) if isinstance(leaf, float)]
    assert told[0].model_extra["a_rate"] == Decimal("0.25")


NO_NUMBERS = ["NaN", "Infinity", "-Infinity", '"NaN"', '"Infinity"', '"-inf"', '"abc"', "[]", "{}", "true"]


BEYOND = ["1e15", "1e200000", "1e3000000", "1e-200000", "1e99999999999999999999", "9" * 5_000, f'"{"9" * 5_000}"']


FINITE = [*NO_NUMBERS, *BEYOND]


@pytest.mark.parametrize("number", FINITE, ids=lambda number: number[:25])
def test_an_amount_that_is_no_number_is_not_guessed_and_is_noted(number: str) -> None:
    api = scripted(text_answer(f'{{"data": {{"total_credits": 1, "total_usage": {number}}}}}'))
    told, noted = api.ask(lambda client: noting(client, client.credits()))
    assert (told.total_credits, told.total_usage, told.balance_usd) == (1, None, None)
    assert noted == {("GET /credits", "total_usage", None): 1}
    row = f'{{"date__hour": "2026-11-23T09:00:00Z", "model": "m", "request_count": 1, "credits_usage": {number}}}'
    api = scripted(text_answer(f'{{"data": {{"data": [{row}], "metadata": {{}}}}}}'))
    (cell,) = api.ask(lambda client: client.usage(hours_window(NOON), ["model"])).cells
    assert cell.unread == ("credits_usage",)
    assert not any(cell.measures)


@pytest.mark.parametrize("constant", [*NO_NUMBERS[:3], *BEYOND], ids=lambda number: number[:25])
def test_a_number_that_is_none_harms_nothing_in_an_unknown_field(constant: str) -> None:
    api = scripted(text_answer(f'{{"data": {{"total_credits": 1, "total_usage": 0, "a_rate": {constant}}}}}'))
    told, noted = api.ask(lambda client: noting(client, client.credits()))
    assert told.balance_usd == 1
    assert noted == {}


def test_amounts_and_counts_that_are_null_are_zero_and_a_limit_that_is_null_is_none() -> None:
    row = {"hash": KEY_HASH, "name": "A", "usage": None, "byok_usage_daily": None, "limit": None}
    key = scripted(answer({"data": row})).ask(lambda client: client.api_key(KEY_HASH))
    assert key is not None
    assert (key.usage, key.byok_usage_daily, key.limit) == (0, 0, None)
    row = {"date": "2026-11-22", "model_permaslug": GPT, "usage": None, "byok_usage_inference": None, "requests": None}
    (day,) = scripted(answer({"data": [row]})).ask(lambda client: client.activity()) or ()
    assert not any(day.measures)


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(counts_as_numbers=True),
        Options(time_column="created_at"),
        Options(unused_as_null=True),
        Options(extra_fields=True),
    ],
    ids=str,
)
def test_analytics_says_the_same_however_it_is_written(busy: tuple[Ledger, list[str]], options: Options) -> None:
    ledger, _ = busy
    window = hours_window(NOON)
    told = simulated(ledger, options)[0].ask(lambda client: client.usage(window, BY_KEY))
    assert cells(told) == truth_by_name(ledger, window)
    assert all(cell.total_usd == cell.measures.credits_usd + cell.measures.byok_usd for cell in told.cells)


@pytest.mark.parametrize("count", ["1523", '"1523"', "1523.0", "1.523e3"])
def test_a_count_may_be_a_number_or_text(count: str) -> None:
    row = f'{{"date": "2026-11-22", "model_permaslug": "m", "usage": 0, "requests": {count}}}'
    rows = scripted(text_answer(f'{{"data": [{row}]}}')).ask(lambda client: client.activity())
    assert [row.measures.requests for row in rows or ()] == [1523]
    row = f'{{"date__hour": "2026-11-23T09:00:00Z", "request_count": {count}}}'
    api = scripted(text_answer(f'{{"data": {{"data": [{row}], "metadata": null}}}}'))
    (cell,) = api.ask(lambda client: client.usage(hours_window(NOON), ["model"])).cells
    assert cell.measures.requests == 1523


@pytest.mark.parametrize("column", ["date__hour", "created_at__hour", "date", "created_at"])
@pytest.mark.parametrize(
    "told",
    [
        "2026-11-23T09:00:00.000Z",
        "2026-11-23T09:00:00Z",
        "2026-11-23T09:00:00",
        "2026-11-23 09:00:00",
        "2026-11-23 09:00:00+00:00",
        "2026-11-23T10:00:00+01:00",
        "2026-11-23T09",
    ],
)
def test_an_hour_is_read_as_utc_however_it_is_written(column: str, told: str) -> None:
    api = scripted(answer({"data": {"data": [{column: told, "model": GPT, "request_count": "1"}], "metadata": {}}}))
    (cell,) = api.ask(lambda client: client.usage(hours_window(NOON), ["model"])).cells
    assert cell.at == datetime(2026, 11, 23, 9, tzinfo=UTC)
    assert cell.at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("beside", [{}, {"date": "2026-11-23"}, {"created_at": None}], ids=str)
@pytest.mark.parametrize("told", ["2026-11-23 09:10:00", "2026-11-23T09:00:00.500Z"])
def test_the_hour_of_a_row_is_the_one_asked_for_whatever_stands_beside_it(beside: dict[str, Any], told: str) -> None:
    row = {**beside, "date__hour": told, "model": GPT, "request_count": "1"}
    (cell,) = (
        scripted(answer({"data": {"data": [row], "metadata": {}}}))
        .ask(lambda client: client.usage(hours_window(NOON), ["model"]))
        .cells
    )
    assert cell.at == datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.mark.parametrize("told", ["0_5", "1_000", " 1_0 "])
def test_a_number_with_an_underscore_is_none(told: str) -> None:
    row = {"date__hour": "2026-11-23 09:00:00", "model": GPT, "credits_usage": told, "request_count": 1_000_000_000}
    (cell,) = (
        scripted(answer({"data": {"data": [row], "metadata": {}}}))
        .ask(lambda client: client.usage(hours_window(NOON), ["model"]))
        .cells
    )
    assert set(cell.unread) == {"credits_usage", "request_count"}


@pytest.mark.parametrize("told", ["2026-11-22", "2026-11-22T00:00:00.000Z", "2026-11-22 00:00:00"])
def test_a_day_is_read_however_it_is_written(told: str) -> None:
    row = {"date": told, "model_permaslug": GPT, "usage": 1}
    (day,) = scripted(answer({"data": [row]})).ask(lambda client: client.activity()) or ()
    assert f"{day.date:%Y-%m-%d}" == "2026-11-22"


def test_instants_of_a_key_are_utc_whether_they_say_so_or_not() -> None:
    row = {"hash": KEY_HASH, "name": "A", "usage": 0}
    row |= {"created_at": "2026-11-01 10:00:00", "last_used_at": "2026-11-01T12:00:00+02:00", "expires_at": None}
    key = scripted(answer({"data": row})).ask(lambda client: client.api_key(KEY_HASH))
    assert key is not None
    assert key.created_at == key.last_used_at == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert key.expires_at is None


def test_a_component_that_is_null_is_zero_and_usage_without_a_model_has_a_name() -> None:
    row = {"date__hour": "2026-11-23T09:00:00Z", "api_key_id": None, "model": None, "request_count": 2}
    row |= {"credits_usage": None, "byok_usage": None, "total_usage": None}
    api = scripted(answer({"data": {"data": [row], "metadata": {}}}))
    (cell,) = api.ask(lambda client: client.usage(hours_window(NOON), BY_KEY)).cells
    assert (cell.key, cell.model, cell.total_usd) == (None, "(unknown)", None)
    assert cell.measures == Measures(*map(Decimal, (2, 0, 0, 0, 0, 0, 0)))


def test_a_row_without_any_usage_is_left_out_and_a_negative_one_is_kept() -> None:
    rows = [{"date__hour": "2026-11-23T09:00:00Z", "model": f"m{usd}", "credits_usage": usd} for usd in (0, -1)]
    api = scripted(answer({"data": {"data": rows, "metadata": {}}}))
    (cell,) = api.ask(lambda client: client.usage(hours_window(NOON), ["model"])).cells
    assert cell.measures.credits_usd == -1
