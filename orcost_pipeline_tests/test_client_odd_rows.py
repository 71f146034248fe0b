"""A row that cannot be read as meant is noted, and neither ends a listing nor changes a figure."""

import traceback
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from orcost_pipeline.errors import ContractError
from orcost_pipeline.openrouter.api.records import METRICS
from orcost_pipeline.simulator import Options
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.windows import hours_window
from orcost_pipeline_tests.client_world import BY_KEY, KEY_HASH, noting, usage
from orcost_pipeline_tests.virtual_time import (
    DAY,
    NOON,
    Api,
    Question,
    account_with_keys,
    answer,
    scripted,
    simulated,
    text_answer,
)

pytestmark = pytest.mark.usefixtures("limiter_in_virtual_time")


def test_fields_nobody_knows_are_kept() -> None:
    ledger, keys = account_with_keys("A")
    ledger.spend("acme", NOON - DAY, keys[0], GPT, usage("1"))
    api, _ = simulated(ledger, Options(extra_fields=True))
    key = api.ask(lambda client: client.api_key(keys[0]))
    (day,) = api.ask(lambda client: client.activity()) or ()
    assert key is not None
    assert [row.model_extra["a_field_of_tomorrow"] for row in (key, day) if row.model_extra] == [{"depth": 1}] * 2


def test_fields_that_older_deployments_do_not_have_are_null() -> None:
    ledger, keys = account_with_keys("A")
    key = simulated(ledger, Options(has_last_used_at=False))[0].ask(lambda client: client.api_key(keys[0]))
    assert key is not None
    assert (key.last_used_at, key.external_user) == (None, None)


SECRET_VALUE = "value-that-no-message-may-show"


@pytest.mark.parametrize(
    ("question", "row", "sentence"),
    [
        (lambda c: c.key(), {"is_management_key": SECRET_VALUE}, "GET /key .*: is_management_key"),
        (lambda c: c.key(), SECRET_VALUE, "GET /key .*: data"),
        (lambda c: c.credits(), [SECRET_VALUE], "GET /credits .*: data"),
        (lambda c: c.workspaces(), {"id": SECRET_VALUE}, "GET /workspaces .*answered no list"),
        (lambda c: c.members(), [{"email": SECRET_VALUE}] * 10, "10 rows, none of which can be read: id"),
        (lambda c: c.activity(), [{"date": SECRET_VALUE, "usage": 1}] * 10, "GET /activity .* can be read: date"),
        (
            lambda c: c.usage(hours_window(NOON), ["model"]),
            {"data": [{"date__hour": SECRET_VALUE}] * 10},
            "POST /analytics/query .*: date__hour",
        ),
    ],
)
def test_an_answer_of_no_use_breaks_the_contract_and_is_never_shown(
    question: Question[Any], row: Any, sentence: str
) -> None:
    """Ten rows of which none can be read are no oddity: what is stored must not be replaced by nothing."""
    with pytest.raises(ContractError, match=sentence) as caught:
        scripted(answer({"data": row, "total_count": 1})).ask(question)
    assert SECRET_VALUE not in "".join(traceback.format_exception(caught.value))


KEY_ROW = {"hash": KEY_HASH, "name": "A", "usage": "1.5"}


DAY_ROW = {"date": "2026-11-22", "model_permaslug": GPT, "usage": 1}


@pytest.mark.parametrize(
    ("odd", "read"),
    [
        ({"hash": KEY_HASH.upper()}, {"hash": KEY_HASH}),
        ({"hash": f" {KEY_HASH} "}, {"hash": KEY_HASH}),
        ({"name": None}, {"name": ""}),
        ({"name": 12}, {"name": "12"}),
        ({"label": None}, {"label": ""}),
        ({"disabled": "true"}, {"disabled": True}),
        ({"limit": "Infinity"}, {"limit": None}),
        ({"created_at": 1_767_225_600}, {"created_at": datetime(2026, 1, 1, tzinfo=UTC)}),
        ({"created_at": 1_767_225_600_000}, {"created_at": datetime(2026, 1, 1, tzinfo=UTC)}),
        ({"expires_at": "9999-12-31T23:59:59Z"}, {"expires_at": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)}),
    ],
    ids=str,
)
def test_what_is_odd_and_can_be_read_as_meant_is_read(odd: dict[str, Any], read: dict[str, Any]) -> None:
    ((key,), _), noted = scripted(answer({"data": [KEY_ROW | odd]})).ask(lambda c: noting(c, c.api_keys([])))
    assert {name: getattr(key, name) for name in read} == read
    assert noted == {}


@pytest.mark.parametrize(
    ("odd", "field"),
    [
        ({"name": {"first": SECRET_VALUE}}, "name"),
        ({"label": [SECRET_VALUE]}, "label"),
        ({"disabled": "perhaps"}, "disabled"),
        ({"limit": "NaN"}, "limit"),
        ({"limit": "-Infinity"}, "limit"),
        ({"limit_remaining": "1e200000"}, "limit_remaining"),
        ({"usage": SECRET_VALUE}, "usage"),
        ({"usage_daily": "1e3000000"}, "usage_daily"),
        ({"byok_usage": True}, "byok_usage"),
        ({"expires_at": "10000-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-05:00"}, "expires_at"),
        ({"expires_at": SECRET_VALUE}, "expires_at"),
        ({"created_at": "9999-12-31T23:59:59Z"}, "created_at"),
        ({"last_used_at": "0001-01-01T00:00:00Z"}, "last_used_at"),
        ({"last_used_at": "0001"}, "last_used_at"),
        ({"workspace_id": {}}, "workspace_id"),
    ],
    ids=str,
)
def test_a_field_of_a_key_that_cannot_be_read_is_noted_and_the_key_stays(odd: dict[str, Any], field: str) -> None:
    ((key,), _), noted = scripted(answer({"data": [KEY_ROW | odd]})).ask(lambda c: noting(c, c.api_keys([])))
    assert key.hash == KEY_HASH
    assert not getattr(key, field)
    assert noted == {("GET /keys", field, None): 1}
    assert (key.usage is None) == (field == "usage"), "not guessed"


@pytest.mark.parametrize(
    "row", [{"name": "A", "usage": 0}, {}, None, [SECRET_VALUE], {"hash": [], "usage": {}}], ids=str
)
def test_a_key_that_answers_to_its_hash_is_there_whatever_of_it_can_be_read(row: Any) -> None:
    key = scripted(answer({"data": row})).ask(lambda client: client.api_key(KEY_HASH))
    assert key is not None
    assert key.hash == KEY_HASH


@pytest.mark.parametrize("odd", [None, SECRET_VALUE, [], {"hash": "abc", "name": "odd", "usage": 0}], ids=str)
def test_a_row_that_cannot_be_read_ends_no_listing(odd: Any) -> None:
    """It takes a place on its page, so that the pages after it are where they are."""
    rows: list[Any] = [KEY_ROW | {"hash": f"{i:064x}"} for i in range(250)]
    rows[7] = rows[99] = rows[150] = odd
    api = Api(lambda request: answer({"data": rows[(start := int(request.url.params["offset"])) : start + 100]}))
    (keys, _), noted = api.ask(lambda client: noting(client, client.api_keys([])))
    assert len(keys) == 247
    assert len(api.sent) == 3
    assert [(endpoint, rows) for (endpoint, *_), rows in noted.items()] == [("GET /keys", 3)]


@pytest.mark.parametrize("path", ["workspaces", "members"])
def test_a_row_that_cannot_be_read_ends_no_counted_listing(path: str) -> None:
    rows: list[Any] = [{"id": f"id-{i}", "name": "N", "email": "a@b.example"} for i in range(150)]
    rows[3] = rows[4] = None
    rows[120] |= {"name": [], "email": []}
    told = Api(
        lambda request: answer(
            {"data": rows[(start := int(request.url.params["offset"])) : start + 100], "total_count": len(rows)}
        )
    )
    (found, _), noted = told.ask(lambda client: noting(client, getattr(client, path)()))
    assert [row.id for row in found] == [f"id-{i}" for i in range(150) if i not in (3, 4)]
    assert sorted((field, count) for (_, field, _), count in noted.items()) == [
        ("email" if path == "members" else "name", 1),
        ("row", 2),
    ]


DAY_IN_QUESTION = datetime(2026, 11, 22, tzinfo=UTC).date()


@pytest.mark.parametrize(
    ("odd", "noted", "measures"),
    [
        ({"model_permaslug": None, "model": "openai/gpt"}, {}, (1, 0, "openai/gpt")),
        ({"model_permaslug": None}, {}, (1, 0, "(unknown)")),
        ({"model_permaslug": {"a": 1}}, {("model_permaslug", None): 1}, (1, 0, "(unknown)")),
        ({"provider_name": None}, {}, (1, 0, GPT)),
        ({"provider_name": ["x"]}, {("provider_name", None): 1}, (1, 0, GPT)),
        ({"endpoint_id": {}}, {("endpoint_id", None): 1}, (1, 0, GPT)),
        ({"requests": "1e3000000"}, {("requests", DAY_IN_QUESTION): 1}, (1, 0, GPT)),
        ({"requests": "1.5"}, {("requests", DAY_IN_QUESTION): 1}, (1, 0, GPT)),
        ({"prompt_tokens": 10, "cached_tokens": 12}, {}, (1, 0, GPT)),
        ({"usage": "1e200000"}, {("usage", DAY_IN_QUESTION): 1}, None),
        ({"usage": {}}, {("usage", DAY_IN_QUESTION): 1}, None),
        ({"byok_usage_inference": SECRET_VALUE}, {("byok_usage_inference", DAY_IN_QUESTION): 1}, None),
        ({"date": "not a date"}, {("date", None): 1}, None),
        ({"date": "9999-12-31"}, {("date", None): 1}, None),
        ({"date": "0001-01-01"}, {("date", None): 1}, None),
        ({"date": "not a date", "usage": {}}, {("date", None): 1, ("usage", None): 1}, None),
    ],
    ids=str,
)
def test_an_odd_row_of_activity_is_read_as_far_as_it_can_be_and_its_money_never_guessed(
    odd: dict[str, Any], noted: dict[Any, int], measures: Any
) -> None:
    told = scripted(answer({"data": [DAY_ROW, DAY_ROW | odd]})).ask(lambda client: noting(client, client.activity()))
    rows = [(row.measures.credits_usd, row.measures.requests, row.model_permaslug) for row in told[0] or ()]
    assert rows == [(1, 0, GPT)] + ([measures] if measures else [])
    assert {(field, day): count for (_, field, day), count in told[1].items()} == noted


@pytest.mark.parametrize(
    ("odd", "unread"),
    [
        ({"api_key_id": {"a": 1}}, ("api_key_id",)),
        ({"model": []}, ("model",)),
        ({"total_usage": "NaN"}, ("total_usage",)),
        ({"request_count": True}, ("request_count",)),
        ({"tokens_prompt": "1e3000000"}, ("tokens_prompt",)),
        ({"byok_usage": {}, "credits_usage": "1e200000"}, ("credits_usage", "byok_usage")),
    ],
    ids=str,
)
def test_an_odd_row_of_analytics_is_read_as_far_as_it_can_be(odd: dict[str, Any], unread: tuple[str, ...]) -> None:
    row = {
        "date__hour": "2026-11-23T09:00:00Z",
        "api_key_id": "A",
        "model": GPT,
        "request_count": 2,
        "credits_usage": 1,
    }
    api = scripted(answer({"data": {"data": [row, row | odd], "metadata": {}}}))
    whole, cell = api.ask(lambda client: client.usage(hours_window(NOON), BY_KEY)).cells
    assert (whole.unread, cell.unread) == ((), unread)
    lacks_money = {"credits_usage", "byok_usage"} & set(unread)
    assert cell.measures.credits_usd == (0 if lacks_money else 1)
    assert cell.lacks_figures == bool(METRICS.keys() & set(unread))


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (None, "row"),
        (1, "row"),
        (["date__hour"], "row"),
        ({"model": GPT, "credits_usage": 1}, "date"),
        ({"date__hour": SECRET_VALUE, "credits_usage": 1}, "date__hour"),
        ({"date__hour": "9999-12-31T23:00:00Z", "credits_usage": 1}, "date__hour"),
        ({"created_at__hour": {"a": 1}, "credits_usage": 1}, "created_at__hour"),
    ],
    ids=str,
)
def test_a_row_of_analytics_of_which_nobody_can_say_when_it_is_is_noted_without_a_day(row: Any, field: str) -> None:
    good = {"date__hour": "2026-11-23T09:00:00Z", "credits_usage": 1}
    api = scripted(answer({"data": {"data": [row, good], "metadata": {}}}))
    told, noted = api.ask(lambda client: noting(client, client.usage(hours_window(NOON), ["model"])))
    assert [cell.measures.credits_usd for cell in told.cells] == [1]
    assert noted == {("POST /analytics/query", field, None): 1}


@pytest.mark.parametrize(
    "count", ["1e3000000", "NaN", "[]", "true", '"many"', "9" * 5_000], ids=lambda count: count[:20]
)
def test_a_row_count_that_is_no_number_is_noted_at_once(count: str) -> None:
    api = scripted(text_answer(f'{{"data": {{"data": [], "metadata": {{"row_count": {count}}}}}}}'))
    _, noted = api.ask(lambda client: noting(client, client.usage(hours_window(NOON), ["model"])))
    assert noted == {("POST /analytics/query", "metadata.row_count", None): 1}


def test_half_a_character_is_replaced_however_it_comes() -> None:
    body = b'{"data": [{"hash": "%s", "name": "a\xed\xa0\xbd", "usage": 0, "x\\u0000": 1}]}' % KEY_HASH.encode()
    (key,), _ = scripted(httpx.Response(200, content=body)).ask(lambda client: client.api_keys([]))
    assert key.name == "a\ufffd"
    assert key.model_extra == {"x\ufffd": 1}
