"""Answers that are no answer: what is refused, unreadable, too large, redirected, or said by somebody else."""

import json
from typing import Any

import httpx
import pytest

from orcost_pipeline.errors import ContractError, ForbiddenError, InvalidKeyError, PermanentError
from orcost_pipeline.windows import hours_window
from orcost_pipeline_tests.client_world import BY_KEY, KEY_HASH
from orcost_pipeline_tests.virtual_time import (
    BASE,
    CANARY,
    DAY,
    HOUR,
    NOON,
    Question,
    account_with_keys,
    answer,
    refusal,
    scripted,
    simulated,
    text_answer,
)

pytestmark = pytest.mark.usefixtures("limiter_in_virtual_time")


@pytest.mark.parametrize("body", ["[]", '"OK"', "null", "1", "", "[" * 100_000, "9" * 5_000])
def test_a_body_that_is_no_object_breaks_the_contract(body: str) -> None:
    with pytest.raises(ContractError, match=r'GET /credits of account "acme" answered 200'):
        scripted(text_answer(body)).ask(lambda client: client.credits())


def test_a_body_is_read_as_utf_8_whatever_it_says_and_never_guessed() -> None:
    row = {"hash": KEY_HASH, "name": "Zoë", "usage": 0}
    whole = json.dumps({"data": row}, ensure_ascii=False).encode()
    mislabelled = httpx.Response(200, headers={"Content-Type": "application/json; charset=latin-1"}, content=whole)
    key = scripted(mislabelled).ask(lambda client: client.api_key(KEY_HASH))
    assert key is not None
    assert key.name == "Zoë"
    with pytest.raises(ContractError, match="a body that is not JSON"):
        scripted(httpx.Response(200, content=whole.replace(b"\xc3", b""))).ask(lambda client: client.api_key(KEY_HASH))


@pytest.mark.parametrize(
    ("told", "read"),
    [
        (r"a\u0000b", "a\ufffdb"),
        (r"cut \ud83d", "cut \ufffd"),
        (r"\ude00 cut", "\ufffd cut"),
        (r"\uD83D\uDE00", "😀"),
        (r"\\u0000", r"\u0000"),
    ],
)
def test_a_name_that_nobody_can_store_is_read_as_one_that_can(told: str, read: str) -> None:
    """Anybody with a key may make one of such a name; it must not stop the account."""
    row = f'{{"hash": "{KEY_HASH}", "name": "{told}", "usage": 1.50}}'
    key = scripted(text_answer(f'{{"data": {row}}}')).ask(lambda client: client.api_key(KEY_HASH))
    assert key is not None
    assert (key.name, str(key.usage)) == (read, "1.50")
    row = f'{{"date__hour": "2026-11-23T09:00:00Z", "api_key_id": "{told}", "request_count": 1}}'
    api = scripted(text_answer(f'{{"data": {{"data": [{row}], "metadata": {{}}}}}}'))
    (cell,) = api.ask(lambda client: client.usage(hours_window(NOON), BY_KEY)).cells
    assert cell.key == read


def test_an_answer_that_is_too_large_is_refused_at_once() -> None:
    told: dict[str, Any] = {"data": {"total_credits": 1, "total_usage": 0, "more": "x" * 1_999_000}}
    assert scripted(answer(told)).ask(lambda client: client.credits(), largest_answer=2_000_000).total_credits == 1
    told["data"]["more"] *= 2
    api = scripted(answer(told))
    with pytest.raises(
        ContractError, match=r'GET /credits of account "acme" returned more than 2 MB, above the size limit'
    ):
        api.ask(lambda client: client.credits(), largest_answer=2_000_000)
    assert len(api.sent) == 1


def test_an_object_without_data_breaks_the_contract_at_once() -> None:
    api = scripted(answer({"error": {"code": 500, "message": "under a 200"}}))
    with pytest.raises(ContractError, match=r'GET /credits of account "acme" answered no data'):
        api.ask(lambda client: client.credits())
    assert len(api.sent) == 1


def test_a_revoked_key_is_an_invalid_key_and_asked_with_once() -> None:
    ledger, _ = account_with_keys()
    api, _ = simulated(ledger)
    api.secret = CANARY.replace("c0ffee", "deadbe")
    with pytest.raises(InvalidKeyError) as caught:
        api.ask(lambda client: client.key(), key_env="OPENROUTER_API_KEY_ACME")
    assert str(caught.value).split("\n") == [
        'Invalid API key: OpenRouter refused the key of account "acme" (401, sk-or-v1-…ca4a).',
        "It may be mistyped or revoked. Put a valid one in OPENROUTER_API_KEY_ACME "
        "(openrouter.ai/settings/management-keys), "
        "then: orcost sync",
    ]
    assert len(api.sent) == 1


def test_an_ordinary_key_is_told_apart_and_forbidden_to_list() -> None:
    ledger, _ = account_with_keys()
    ledger.add_key("acme", "Pilot", NOON - DAY, secret="sk-or-v1-an-ordinary-key-of-the-pilot")
    api, _ = simulated(ledger)
    api.secret = "sk-or-v1-an-ordinary-key-of-the-pilot"
    assert not api.ask(lambda client: client.key()).can_manage
    with pytest.raises(ForbiddenError, match="Only management keys can perform this operation"):
        api.ask(lambda client: client.credits())
    assert api.ask(lambda client: client.workspaces()) == ([], False)
    assert len(api.sent) == 3


def test_a_single_key_is_there_or_gone() -> None:
    ledger, keys = account_with_keys("Here", "Gone")
    ledger.delete("acme", keys[1], NOON - HOUR)
    api, _ = simulated(ledger)
    here = api.ask(lambda client: client.api_key(keys[0]))
    assert here is not None
    assert here.name == "Here"
    assert api.ask(lambda client: client.api_key(keys[1])) is None
    assert len(api.sent) == 2


@pytest.mark.parametrize("status", [302, 402, 404, 405, 409, 418, 451])
def test_any_other_refusal_is_permanent_and_not_repeated(status: int) -> None:
    api = scripted(refusal(status, "Insufficient credits"))
    with pytest.raises(PermanentError, match=rf'GET /credits of account "acme" answered {status} \(Insufficient'):
        api.ask(lambda client: client.credits())
    assert len(api.sent) == 1


def test_an_account_without_credits_is_told_where_to_buy_some() -> None:
    with pytest.raises(PermanentError, match=r'of account "acme" answered 402') as caught:
        scripted(refusal(402, "Insufficient credits")).ask(lambda client: client.activity())
    sentence = "The account has no credits left: buy some at openrouter.ai/settings/credits, then: orcost sync"
    assert str(caught.value).split("\n")[1:] == [sentence]


@pytest.mark.parametrize("question", [lambda c: c.api_key(KEY_HASH), lambda c: c.workspaces(), lambda c: c.members()])
@pytest.mark.parametrize("said", ["<html>Not found</html>", "404 page not found", "", "[]", "null"])
def test_a_404_of_somebody_else_proves_nothing(question: Question[Any], said: str) -> None:
    """A gateway that lost its way must not delete a key, nor take the names of workspaces and people away."""
    with pytest.raises(PermanentError) as caught:
        scripted(httpx.Response(404, content=said)).ask(question)
    page = " with a page of HTML" if "html" in said else ""
    assert f"answered 404{page}.\nIs {BASE}/ OpenRouter's API? Check OPENROUTER_BASE_URL" in str(caught.value)


@pytest.mark.parametrize("said", ["<!doctype html>Just a moment", "error code: 1020", ""])
def test_a_firewall_does_not_forbid_what_only_the_api_may_forbid(said: str) -> None:
    api = scripted(httpx.Response(403, content=said), refusal(403, "Not allowed"))
    with pytest.raises(ForbiddenError, match="Not allowed"):
        api.ask(lambda client: client.credits())
    assert len(api.sent) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["https://elsewhere.example/api/v1/credits", "/api/v2/credits"])
def test_a_redirect_is_not_followed_and_takes_the_key_nowhere(status: int, target: str) -> None:
    api = scripted(answer({}, status, Location=target))
    with pytest.raises(PermanentError) as caught:
        api.ask(lambda client: client.credits())
    host = " to elsewhere.example" if "elsewhere" in target else ""
    assert f"answered {status}: a redirect{host}, where the key does not go.\n" in str(caught.value)
    assert [request.url.host for _, request in api.sent] == ["openrouter.test"]


@pytest.mark.parametrize("message", ["two\nlines\r\n\tand more", "\x1b[31mred\x1b[0m", "a\x00b"])
def test_a_servers_message_stays_on_its_line_and_moves_no_cursor(message: str) -> None:
    with pytest.raises(PermanentError) as caught:
        scripted(refusal(400, message)).ask(lambda client: client.credits())
    assert str(caught.value).isprintable()
