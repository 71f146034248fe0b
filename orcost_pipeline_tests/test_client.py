"""The client against the simulator and worse: whatever a request suffers, an answer is whole and exact, or a sentence.

Where no socket is needed time is virtual: the loop's clock jumps to the next timer, so that waits of minutes are
measured exactly and take none. Sockets, and what only they can do, are at the end, on a real port.
"""

import asyncio
import contextlib
import errno
import gc
import json
import logging
import socket
import ssl
import threading
import time
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
import respx
from pydantic import BaseModel, SecretStr

from orcost_pipeline.errors import (
    ContractError,
    ForbiddenError,
    InvalidKeyError,
    OrcostError,
    PermanentError,
    TransientError,
)
from orcost_pipeline.measures import MEASURES, Measures, grouped
from orcost_pipeline.openrouter.client import OpenRouter
from orcost_pipeline.openrouter.failures import RefusedError
from orcost_pipeline.openrouter.records import METRICS
from orcost_pipeline.openrouter.usage_endpoint import UsageAnswer
from orcost_pipeline.settings import DEFAULT_BASE_URL
from orcost_pipeline.simulator import Fault, Ledger, Options, Simulator, Usage, serve
from orcost_pipeline.simulator.catalogue import CLAUDE, GPT
from orcost_pipeline.windows import Window, hours_window
from orcost_pipeline_tests.virtual_time import (
    BASE,
    CANARY,
    DAY,
    HOUR,
    NOON,
    Api,
    Handler,
    Question,
    T,
    VirtualLoop,
    account_with_keys,
    answer,
    refusal,
    scripted,
    simulated,
    text_answer,
)

KEY_HASH = "ab" * 32
BY_KEY = ["api_key_id", "model"]

pytestmark = pytest.mark.usefixtures("limiter_in_virtual_time")


def usage(credits_usd: str | Decimal, byok_usd: str = "0") -> Usage:
    return Usage(1, 1000, 100, 10, 50, Decimal(credits_usd), Decimal(byok_usd))


def truth_by_name(ledger: Ledger, window: Window, keys: Iterable[str] | None = None) -> dict[Any, Measures]:
    """The ledger's hours as (hour, name of the key, model)."""
    told = ledger.hourly("acme", window.start, window.end, now=NOON)
    names = {key: versions[-1][1].name for key, versions in ledger.accounts["acme"].keys.items()}
    wanted = None if keys is None else set(keys)
    return grouped(
        ((hour, names.get(key or ""), model), Measures(*(Decimal(getattr(cell, name)) for name in MEASURES)))
        for (hour, key, model), cell in told.items()
        if wanted is None or key in wanted
    )


def cells(told: UsageAnswer) -> dict[Any, Measures]:
    """What was told, by (hour, name, model); a cell told twice is a mistake that no sum may hide."""
    by_place = {(cell.at, cell.key, cell.model): cell.measures for cell in told.cells}
    assert len(by_place) == len(told.cells)
    return by_place


@pytest.fixture
def busy() -> tuple[Ledger, list[str]]:
    """Six keys that used something in each of the last 40 hours."""
    ledger, keys = account_with_keys(*"ABCDEF")
    for hour in range(40):
        for number, key in enumerate(keys):
            ledger.spend("acme", NOON - hour * HOUR, key, GPT, usage(Decimal(number + 1).scaleb(-4)))
    return ledger, keys


# ── paging ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def all_keys(client: OpenRouter, *more: str) -> Awaitable[Any]:
    async def ask() -> Any:
        return (await client.api_keys([*(workspace.id for workspace in (await client.workspaces()).rows), *more])).keys

    return ask()


def test_250_keys_are_three_pages() -> None:
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(250)))
    api, simulator = simulated(ledger)
    told = api.ask(all_keys)
    assert {key.hash for key in told} == set(keys)
    assert len(told) == 250
    assert [request.params["offset"] for request in simulator.asked("/keys")] == ["0", "99", "198"]


def test_a_full_last_page_is_followed_by_one_with_nothing_new() -> None:
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(200)))
    api, simulator = simulated(ledger)
    assert {key.hash for key in api.ask(all_keys)} == set(keys)
    assert len(simulator.asked("/keys")) == 3


def test_disabled_and_expired_keys_of_every_workspace_are_listed_and_deleted_ones_are_not() -> None:
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(130)))
    elsewhere = [ledger.add_workspace("acme", name) for name in ("Production", "Research")]
    keys += [ledger.add_key("acme", "twin", NOON - DAY, workspace_id=workspace) for workspace in elsewhere]
    ledger.disable("acme", keys[3], NOON - DAY)
    ledger.expire("acme", keys[4], NOON - DAY)
    ledger.delete("acme", keys[5], NOON - DAY)
    told = {key.hash: key for key in simulated(ledger)[0].ask(all_keys)}
    assert told.keys() == set(keys) - {keys[5]}
    assert told[keys[3]].disabled
    assert told[keys[4]].expires_at == NOON - DAY
    assert {told[key].workspace_id for key in keys[130:]} == set(elsewhere)


@pytest.mark.parametrize("kind", ["shifted_page", "repeated_page"])
@pytest.mark.parametrize("page", [0, 1])
@pytest.mark.parametrize("times", [1, 2, None])
def test_a_listing_that_moves_while_it_is_paged_is_walked_again(kind: Any, page: int, times: int | None) -> None:
    """A key deleted or made meanwhile shifts the pages that follow: one key is skipped, or one repeated."""
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(250)))
    api, simulator = simulated(ledger)
    simulator.inject(Fault(kind, times=times, skip=page))
    told = [key.hash for key in api.ask(all_keys)]
    assert len(told) == 250
    assert set(told) == set(keys)
    assert len(simulator.asked("/keys")) == 9 if times is None else 3 * (times + 1)


def test_a_key_made_while_its_workspace_is_paged_is_there_with_all_others() -> None:
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(150)))
    api, simulator = simulated(ledger)
    made: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("offset") == "99" and "/keys" in request.url.path and not made:
            ledger.delete("acme", keys[7], NOON - timedelta(minutes=1))
            made.append(ledger.add_key("acme", "made meanwhile", NOON - timedelta(minutes=1)))
        return simulator.handle(request)

    api.handler = handle
    assert {key.hash for key in api.ask(all_keys)} == {*keys, *made} - {keys[7]}


def test_a_workspace_made_while_they_are_paged_costs_no_other() -> None:
    names = [f"w{number:03d}" for number in range(230)]

    def handle(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        rows = [{"id": name, "name": name} for name in names[offset : offset + 100]]
        told = answer({"data": rows, "total_count": len(names)})
        if len(names) == 230:
            names.insert(0, "made meanwhile")
        return told

    told = Api(handle).ask(lambda client: client.workspaces())
    assert sorted(workspace.id for workspace in told.rows) == sorted(names)


def test_a_key_of_two_workspaces_listings_is_there_once() -> None:
    ledger, keys = account_with_keys("A", "B")
    default = ledger.accounts["acme"].default_workspace.id
    told = simulated(ledger)[0].ask(lambda client: all_keys(client, default))
    assert sorted(key.hash for key in told) == sorted(keys)


def test_a_listing_that_repeats_its_pages_without_end_is_refused() -> None:
    ledger, _ = account_with_keys(*(f"key {number}" for number in range(100)))
    api, simulator = simulated(ledger)
    api.handler = lambda request: simulator.handle(
        httpx.Request("GET", request.url.copy_set_param("offset", "0"), headers=request.headers)
    )
    with pytest.raises(ContractError, match=r'GET /keys of account "acme" promised more rows and ended after 100'):
        api.ask(lambda client: client.api_keys([ledger.accounts["acme"].default_workspace.id]))
    assert len(api.sent) == 6


def test_workspaces_and_members_are_paged_by_their_total() -> None:
    ledger, _ = account_with_keys()
    for number in range(230):
        ledger.add_workspace("acme", f"Workspace {number}")
        ledger.add_member("acme", f"{number}@acme.example")
    api, simulator = simulated(ledger)
    assert len({workspace.id for workspace in api.ask(lambda client: client.workspaces()).rows}) == 231
    assert len({member.email for member in api.ask(lambda client: client.members()).rows}) == 230
    assert [request.params for request in simulator.asked("/workspaces")] == [
        {"offset": str(offset), "limit": "100"} for offset in (0, 99, 198)
    ]


def test_after_a_full_page_another_is_asked_for_whatever_the_total() -> None:
    ledger, _ = account_with_keys()
    for number in range(100):
        ledger.add_member("acme", f"{number}@acme.example")
    api, _ = simulated(ledger)
    assert len(api.ask(lambda client: client.members()).rows) == 100
    assert len(api.sent) == 2


def test_a_listing_that_ends_before_its_total_is_not_whole() -> None:
    first = answer({"data": [{"id": f"w{number}", "name": "W"} for number in range(100)], "total_count": 250})
    api = scripted(first, answer({"data": [], "total_count": 250}))
    told = api.ask(lambda client: client.workspaces())
    assert (len(told.rows), told.is_whole) == (100, False)


TOTALS = [{}, *({"total_count": total} for total in (None, "150", True, 0, 100))]


@pytest.mark.parametrize("total", TOTALS, ids=str)
def test_a_listing_without_a_number_as_total_is_read_whole_or_says_that_it_is_not(total: dict[str, Any]) -> None:
    rows = [{"id": f"w{number}", "name": "W"} for number in range(150)]

    def handle(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        return answer({"data": rows[offset : offset + 100], **total})

    told = Api(handle).ask(lambda client: client.workspaces())
    assert len(told.rows) == 150 or not told.is_whole


def test_an_account_without_workspaces_lists_its_keys_by_default() -> None:
    ledger, keys = account_with_keys("A", "B")
    api, simulator = simulated(ledger)
    api.handler = lambda request: (
        refusal(404, "Not found") if "/workspaces" in request.url.path else simulator.handle(request)
    )
    assert {key.hash for key in api.ask(all_keys)} == set(keys)
    assert "workspace_id" not in simulator.asked("/keys")[0].params


def test_a_personal_account_has_no_members() -> None:
    ledger, _ = account_with_keys()
    assert simulated(ledger, Options(is_personal=True))[0].ask(lambda client: client.members()) == ([], True)


def test_include_expired_is_dropped_where_it_earns_a_400_and_not_tried_again() -> None:
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(120)))
    ledger.expire("acme", keys[4], NOON - DAY)
    api, simulator = simulated(ledger, Options(has_include_expired=False))
    assert {key.hash for key in api.ask(all_keys)} == set(keys)
    asked = [("include_expired" in request.params, request.params["offset"]) for request in simulator.asked("/keys")]
    assert asked == [(True, "0"), (False, "0"), (False, "99")]


# ── one request ──────────────────────────────────────────────────────────────────────────────────────────────────────

QUICK = ["408", "429", "500", "502_html", "503", "reset", "refused", "html_200", "cut_json_200"]
PASSING = [(kind, times) for kind in (*QUICK, "cut_body", "garbled", "403_html") for times in (1, 2, 5)]
# What keeps a sync waiting is tried twice only.
PASSING += [("hang", 1), ("drip", 1)]


@pytest.mark.parametrize(("kind", "times"), PASSING)
def test_a_fault_that_passes_is_survived(kind: Any, times: int) -> None:
    ledger, keys = account_with_keys("A")
    ledger.spend("acme", NOON - HOUR, keys[0], GPT, usage("1.75"))
    api, simulator = simulated(ledger)
    simulator.inject(Fault(kind, times=times))
    told = api.ask(lambda client: client.credits())
    assert (told.total_credits, told.total_usage) == (500, Decimal("1.75"))
    assert api.requests_made == simulator.count == times + 1


@pytest.mark.parametrize(("kind", "times"), [(kind, times) for kind, times in PASSING if kind != "408"])
def test_a_fault_of_analytics_that_passes_changes_no_figure(
    busy: tuple[Ledger, list[str]], kind: Any, times: int
) -> None:
    ledger, _ = busy
    window = hours_window(NOON)
    api, simulator = simulated(ledger)
    simulator.inject(Fault(kind, times=times, match="/analytics"))
    told = api.ask(lambda client: client.usage(window, BY_KEY))
    assert cells(told) == truth_by_name(ledger, window)
    assert simulator.count == times + 1


def test_every_page_of_a_walk_survives_its_own_fault() -> None:
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(250)))
    api, simulator = simulated(ledger)
    simulator.inject(*(Fault("500", match="/keys", skip=skip) for skip in range(3)), Fault("workspaces_500"))
    assert {key.hash for key in api.ask(all_keys)} == set(keys)
    assert api.requests_made == simulator.count == len(api.sent) == 8


CATCHES_UP = "OpenRouter or the network is down; the next sync catches up."


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (
            "408",
            " answered 408 (Operation timed out. Please try again later.). OpenRouter has a server error; the next",
        ),
        ("429", " answered 429 (Rate limit exceeded). OpenRouter's rate limit is reached; the next sync catch"),
        ("500", " answered 500 (Internal Server Error). OpenRouter has a server error; the next sync catches up."),
        ("502_html", " answered 502 with a page of HTML. OpenRouter has a server error; the next sync catches up."),
        ("503", " answered 503 (Service temporarily unavailable). OpenRouter has a server error; the next sync catche"),
        ("403_html", " answered 403 with a page of HTML. That is a firewall or a proxy, not OpenRouter; the next"),
        ("reset", f": openrouter.test closed the connection. {CATCHES_UP}"),
        ("refused", f": openrouter.test could not be reached (no connection). {CATCHES_UP}"),
        ("cut_body", f": openrouter.test closed the connection in the middle of its answer. {CATCHES_UP}"),
        ("garbled", f": openrouter.test answered what cannot be decoded. {CATCHES_UP}"),
        ("hang", f": openrouter.test did not answer within 90 s. {CATCHES_UP}"),
        ("drip", f": openrouter.test did not answer within 90 s. {CATCHES_UP}"),
    ],
)
def test_a_fault_that_does_not_pass_is_transient_and_names_question_account_and_cause(kind: Any, what: str) -> None:
    ledger, _ = account_with_keys()
    api, simulator = simulated(ledger)
    simulator.inject(Fault(kind, times=None))
    with pytest.raises(TransientError) as caught:
        api.ask(lambda client: client.credits())
    assert str(caught.value).startswith(f'GET /credits of account "acme"{what}')
    assert api.requests_made == simulator.count > 1


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (
            "html_200",
            "a page of HTML instead of JSON: a proxy or a log-in page stands in between. Attempts: {}; nothing",
        ),
        ("cut_json_200", "a body that is not JSON. Attempts: {}; nothing was published."),
    ],
)
def test_an_unreadable_200_that_does_not_pass_breaks_the_contract(kind: Any, what: str) -> None:
    ledger, _ = account_with_keys()
    api, simulator = simulated(ledger)
    simulator.inject(Fault(kind, times=None))
    with pytest.raises(ContractError) as caught:
        api.ask(lambda client: client.credits())
    told = f'GET /credits of account "acme" answered 200 with {what}'
    assert str(caught.value).startswith(told.format(simulator.count))
    assert simulator.count > 1


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


def test_an_answer_that_is_too_large_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orcost_pipeline.openrouter.requests.LARGEST_ANSWER", 2_000_000)
    told: dict[str, Any] = {"data": {"total_credits": 1, "total_usage": 0, "more": "x" * 1_999_000}}
    assert scripted(answer(told)).ask(lambda client: client.credits()).total_credits == 1
    told["data"]["more"] *= 2
    api = scripted(answer(told))
    with pytest.raises(ContractError, match=r'GET /credits of account "acme" answered more than 2 MB'):
        api.ask(lambda client: client.credits())
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


# ── analytics: truncated, refused, too slow ──────────────────────────────────────────────────────────────────────────


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


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def most_in_a_minute(moments: list[float]) -> int:
    return max(sum(1 for other in moments if moment <= other < moment + 60) for moment in moments)


def test_no_minute_sees_more_than_60_analytics_questions_retries_counted(busy: tuple[Ledger, list[str]]) -> None:
    ledger, _ = busy
    moments: list[float] = []
    simulator = Simulator(
        ledger, lambda: NOON, Options(analytics_per_minute=60), monotonic=lambda: asyncio.get_running_loop().time()
    )
    simulator.inject(Fault("500", times=7, match="/analytics", skip=20))

    def handle(request: httpx.Request) -> httpx.Response:
        moments.append(asyncio.get_running_loop().time())
        told = simulator.handle(request)
        assert told.status_code != 429
        return told

    api = Api(handle)
    window = Window(NOON - HOUR, NOON)
    api.ask(lambda client: asyncio.gather(*(client.usage(window, ["model"]) for _ in range(150))))
    assert len(moments) == api.requests_made == 157
    assert most_in_a_minute(moments) <= 60
    # Nor is it slower than it must be.
    assert api.seconds < 130


def test_the_fourth_question_waits_where_three_a_minute_are_allowed(busy: tuple[Ledger, list[str]]) -> None:
    api, _ = simulated(busy[0])
    window = Window(NOON - HOUR, NOON)

    async def four(client: OpenRouter) -> None:
        for _ in range(4):
            await client.usage(window, ["model"])

    api.ask(four, analytics_per_minute=3)
    assert api.waits()[:2] == [0, 0]
    assert 60 <= api.waits()[2] < 61


def test_questions_that_are_not_analytics_wait_for_nothing() -> None:
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(120)))
    api, _ = simulated(ledger)
    told = api.ask(lambda client: asyncio.gather(*(client.api_key(key) for key in keys)), analytics_per_minute=1)
    assert all(told)
    assert api.seconds == 0


def hanging(seconds: float) -> Api:
    """Every answer comes after so many seconds, and is right."""
    api = scripted(answer({"data": {"total_credits": 1, "total_usage": 0}}))
    told = api.handler

    async def handle(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(seconds)
        return told(request)

    api.handler = handle  # type: ignore[assignment]
    return api


def test_a_question_waiting_for_its_turn_is_not_said_to_hang() -> None:
    api = hanging(60)
    told = api.ask(lambda client: asyncio.gather(*(client.credits() for _ in range(20))))
    assert len(told) == api.requests_made == 20
    assert api.seconds == pytest.approx(180)


class Lingering(httpx.MockTransport):
    """Closing takes a moment, as it does where connections are open: whoever waits for a turn gets it then."""

    async def aclose(self) -> None:
        await asyncio.sleep(1)


def test_what_failed_is_counted_and_nothing_is_sent_after_it() -> None:
    """One of 40 questions is refused: those under way were sent, those that wait for their turn never are."""
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(40)))
    simulator = Simulator(ledger, lambda: NOON)
    simulator.inject(Fault("401", skip=11))

    async def handle(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return simulator.handle(request)

    async def asked() -> tuple[int, int]:
        async with OpenRouter("acme", SecretStr(CANARY), BASE, transport=Lingering(handle)) as client:
            with pytest.raises(InvalidKeyError):
                await asyncio.gather(*(client.api_key(key) for key in keys))
            counted = client.requests_made
        return counted, client.requests_made

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        counted, in_the_end = runner.run(asked())
    assert 12 <= simulator.count <= counted == in_the_end < 30


def test_a_failure_waits_for_no_other_question() -> None:
    async def handle(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(1 if request.url.path.endswith("/credits") else 80)
        return refusal(401)

    api = Api(handle)  # type: ignore[arg-type]
    with pytest.raises(InvalidKeyError):
        api.ask(lambda client: asyncio.gather(client.activity(), client.credits()))
    assert api.closed_after == 1


def test_a_client_that_was_closed_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    api = scripted(answer({"data": {"total_credits": 1, "total_usage": 0}}))
    for _ in range(3):
        api.ask(lambda client: client.credits())
    assert set(threading.enumerate()) - before == set()


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────

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


async def noting(client: OpenRouter, question: Awaitable[T]) -> tuple[T, dict[tuple[str, str, Any], int]]:
    """The answer, and how often what could not be read, by endpoint, field and day."""
    told = await question
    return told, {(it.endpoint, it.field, it.at and it.at.date()): rows for it, rows in client.unreadable.items()}


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


# ── the key stays secret ─────────────────────────────────────────────────────────────────────────────────────────────

SECRET_PART = CANARY[9:-4]


def asks_everything(client: OpenRouter) -> Awaitable[list[Any]]:
    hour = NOON.replace(minute=0)
    questions = [client.key(), client.credits(), client.models(), client.workspaces(), client.members()]
    questions += [client.api_keys(["w"]), client.api_key(KEY_HASH), client.activity(), client.activity(KEY_HASH)]
    questions += [client.usage(Window(hour - HOUR, hour), BY_KEY, [KEY_HASH])]
    return asyncio.gather(*questions, return_exceptions=True)


def assert_no_secret(text: str) -> None:
    assert SECRET_PART not in text
    assert "Bearer sk" not in text


ECHOES = [refusal(status, f"the key {CANARY} may not") for status in (302, 400, 401, 402, 403, 404, 408, 413, 429, 500)]
SUFFERINGS = [
    *ECHOES,
    httpx.Response(502, content=f"<html>Authorization: Bearer {CANARY}</html>"),
    httpx.Response(200, content=f"<html>Authorization: Bearer {CANARY}</html>"),
    text_answer(f'{{"data": "{CANARY}"}}'),
    text_answer(f'{{"data": ["{CANARY}"]}}'),
    text_answer(f'{{"data": {{"label": ["{CANARY}"], "usage": "{CANARY}"}}}}'),
    httpx.ConnectError(f"Bearer {CANARY}"),
    httpx.ReadTimeout(f"Bearer {CANARY}"),
    httpx.LocalProtocolError(f"Illegal header value b'Bearer {CANARY}'"),
    httpx.ProxyError(f"502 Bearer {CANARY}"),
    refusal(400, f"{CANARY[:20]}\0{CANARY[20:]}"),
    httpx.Response(302, headers={"Location": f"https://elsewhere.example/{CANARY}"}),
    httpx.Response(302, headers={"Location": f"https://{CANARY}@elsewhere.example/"}),
    httpx.Response(302, headers={"Location": f"https://{CANARY}.example/"}),
]


@pytest.mark.parametrize("suffering", SUFFERINGS, ids=lambda s: getattr(s, "status_code", type(s).__name__))
def test_the_key_is_in_no_message_no_log_no_repr_and_no_url(
    suffering: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    api = scripted(suffering)
    told = api.ask(asks_everything, backoff=0.001)
    errors = [error for error in told if isinstance(error, BaseException)]
    assert errors
    assert all(isinstance(error, OrcostError) for error in errors)
    for error in errors:
        assert_no_secret("".join(traceback.format_exception(error)) + repr(error))
    assert_no_secret("".join(record.getMessage() for record in caplog.records) + "".join(capsys.readouterr()))
    assert_no_secret("".join(str(request.url) for _, request in api.sent))
    assert {request.headers["Authorization"] for _, request in api.sent} == {f"Bearer {CANARY}"}


def test_a_key_is_redacted_before_a_message_is_cut_short() -> None:
    """Cut first, a key across the cut would lose its end, be no longer known, and be shown."""
    for length in range(120, 200, 7):
        api = scripted(refusal(400, "x" * length + CANARY))
        with pytest.raises(PermanentError) as caught:
            api.ask(lambda client: client.credits())
        assert_no_secret(str(caught.value))
        assert CANARY[:24] not in str(caught.value)
        assert len(str(caught.value)) < 400


def test_a_client_shows_its_account_and_not_its_key() -> None:
    api = scripted(answer({"data": {}}))

    async def shown(client: OpenRouter) -> str:
        return f"{client!r} {client}"

    assert api.ask(shown) == 'OpenRouter(account="acme") OpenRouter(account="acme")'.replace('"', "'")


def test_a_short_key_is_not_shown_by_its_last_letters() -> None:
    api = scripted(refusal(401))
    api.secret = "sk-short"
    with pytest.raises(InvalidKeyError) as caught:
        api.ask(lambda client: client.key())
    assert "hort" not in str(caught.value)


# ── a real port ──────────────────────────────────────────────────────────────────────────────────────────────────────


def ask_port(url: str, question: Question[T], secret: str = CANARY, **options: float) -> tuple[T, int]:
    """The answer over real sockets, and the requests it took; a client of little patience."""
    options = {"backoff": 0.001, "patience": 0.3, "timeout": 5.0, **options}

    async def asked() -> tuple[T, int]:
        async with OpenRouter("acme", SecretStr(secret), url, **options) as client:
            return await question(client), client.requests_made

    return asyncio.run(asked())


WIRE = [
    (kind, times) for kind in ("reset", "502_html", "cut_json_200", "cut_body", "garbled", "503") for times in (1, 2)
]


@pytest.mark.parametrize(("kind", "times"), [*WIRE, ("hang", 1), ("drip", 1)])
def test_a_fault_on_the_wire_is_survived(kind: Any, times: int) -> None:
    ledger, _ = account_with_keys("A")
    simulator = Simulator(ledger, lambda: NOON)
    simulator.inject(Fault(kind, times=times, seconds=2))
    timeout = 0.25 if kind in ("hang", "drip") else 10
    with serve(simulator) as url:
        told, requests_made = ask_port(url, lambda client: client.credits(), timeout=timeout, patience=10)
    assert told.total_credits == 500
    assert requests_made == simulator.count == times + 1


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("reset", "closed the connection"),
        ("cut_body", "closed the connection in the middle of its answer"),
        ("garbled", "answered what cannot be decoded"),
        ("hang", "did not answer within 0.1 s"),
        ("drip", "did not answer within 0.1 s"),
    ],
)
def test_a_fault_on_the_wire_that_does_not_pass_is_named(kind: Any, what: str) -> None:
    simulator = Simulator(account_with_keys()[0], lambda: NOON)
    simulator.inject(Fault(kind, times=None, seconds=1))
    timeout = 0.1 if kind in ("hang", "drip") else 10
    with serve(simulator) as url, pytest.raises(TransientError) as caught:
        ask_port(url, lambda client: client.credits(), timeout=timeout)
    host = url.split("/")[2]
    assert str(caught.value) == f'GET /credits of account "acme": {host} {what}. {CATCHES_UP}'


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def speaker() -> Iterator[Callable[[bytes], int]]:
    """Ports at which somebody hears a request and says this, whatever was asked."""
    listeners: list[socket.socket] = []

    def open_port(said: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def speak() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65_536)
                        connection.sendall(said)

        threading.Thread(target=speak, daemon=True).start()
        return int(listener.getsockname()[1])

    yield open_port
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def asked_in_vain(url: str) -> OrcostError:
    with pytest.raises(OrcostError) as caught:
        ask_port(url, lambda client: client.credits())
    return caught.value


def test_a_server_that_is_not_there_is_transient(closed_port: int) -> None:
    for host in ("127.0.0.1", "localhost"):
        error = asked_in_vain(f"http://{host}:{closed_port}/api/v1")
        assert isinstance(error, TransientError)
        what = f"{host}:{closed_port} could not be reached (connection refused). {CATCHES_UP}"
        assert str(error) == f'GET /credits of account "acme": {what}'


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"", "closed the connection"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "sent an invalid HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", "closed the connection in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "closed the connection in the middle"),
    ],
)
def test_somebody_who_is_no_server_is_transient_and_named(
    speaker: Callable[[bytes], int], said: bytes, what: str
) -> None:
    error = asked_in_vain(f"http://127.0.0.1:{speaker(said)}/api/v1")
    assert isinstance(error, TransientError)
    assert what in str(error)


def test_a_port_that_speaks_no_tls_is_transient_and_named(speaker: Callable[[bytes], int]) -> None:
    error = asked_in_vain(f"https://127.0.0.1:{speaker(b'HTTP/1.1 400 Bad Request')}/api/v1")
    assert isinstance(error, TransientError)
    assert "could not be reached (TLS: " in str(error)


def connect_error(cause: Exception) -> httpx.ConnectError:
    """As httpx chains it: the cause behind its own error behind httpcore's."""
    error, middle = httpx.ConnectError("All connection attempts failed"), OSError("All connection attempts failed")
    middle.__cause__ = ExceptionGroup("attempts", [cause])
    error.__cause__ = middle
    return error


def refused_certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    error.verify_message = "self-signed certificate in certificate chain"
    return error


@pytest.mark.parametrize(
    ("cause", "kind", "what"),
    [
        (socket.gaierror(-2, "Name or service not known"), TransientError, "no address is known for this name"),
        (OSError(errno.ENETUNREACH, "no"), TransientError, "network is unreachable"),
        (refused_certificate(), PermanentError, "its certificate was refused: self-signed certificate in certificate"),
    ],
    ids=["dns", "network", "certificate"],
)
def test_why_there_is_no_connection_is_named(cause: Exception, kind: type[Exception], what: str) -> None:
    with pytest.raises(kind) as caught:
        scripted(connect_error(cause)).ask(lambda client: client.credits())
    assert f"openrouter.test could not be reached ({what}" in str(caught.value)
    assert ("SSL_CERT_FILE" in str(caught.value)) == (kind is PermanentError)


@pytest.mark.parametrize(("status", "kind"), [(407, PermanentError), (403, PermanentError), (502, TransientError)])
def test_a_proxy_that_refuses_is_named(
    speaker: Callable[[bytes], int], monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception]
) -> None:
    proxy = speaker(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
    error = asked_in_vain("https://openrouter.test/api/v1")
    assert isinstance(error, kind)
    assert f"openrouter.test could not be reached through the proxy ({status})" in str(error)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "ftp://nonsense"])
def test_a_proxy_that_cannot_be_used_is_a_sentence(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    error = asked_in_vain("https://openrouter.test/api/v1")
    assert isinstance(error, PermanentError)
    assert "Check HTTPS_PROXY, ALL_PROXY" in str(error)


def test_certificates_that_are_not_there_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    error = asked_in_vain("https://openrouter.test/api/v1")
    assert isinstance(error, PermanentError)
    assert "SSL_CERT_FILE" in str(error)


def test_this_machines_own_ports_are_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    """Where a company's proxy is set for all, the demo still reaches its simulator."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serve(Simulator(account_with_keys()[0], lambda: NOON)) as url:
        assert ask_port(url, lambda client: client.credits())[0].total_credits == 500


def test_eight_requests_at_most_are_under_way() -> None:
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(32)))
    lock, under_way, most = threading.Lock(), 0, 0

    class Counting(Simulator):
        def handle(self, request: httpx.Request) -> httpx.Response:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            time.sleep(0.02)
            with lock:
                under_way -= 1
            return super().handle(request)

    with serve(Counting(ledger, lambda: NOON)) as url:
        told, _ = ask_port(url, lambda client: asyncio.gather(*(client.api_key(key) for key in keys)))
    assert [key.hash for key in told if key] == keys
    assert 2 <= most <= 8


def test_a_failure_among_questions_under_way_leaves_no_noise_behind() -> None:
    """Connections that were just being opened are closed: Python would warn of each on stderr."""
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(20)))
    simulator = Simulator(ledger, lambda: NOON)
    with serve(simulator) as url, warnings.catch_warnings(record=True) as noise:
        warnings.simplefilter("always")
        for number in range(24):
            simulator.clear_faults()
            simulator.inject(Fault("401", times=None, match=f"/keys/{keys[number % 8]}"))
            with pytest.raises(InvalidKeyError):
                ask_port(url, lambda client: asyncio.gather(*(client.api_key(key) for key in keys)))
        gc.collect()
    assert [str(one.message) for one in noise if not issubclass(one.category, ResourceWarning)] == []


def test_the_key_is_in_no_log_of_a_real_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ledger, _ = account_with_keys("A")
    simulator = Simulator(ledger, lambda: NOON)
    simulator.inject(Fault("reset"), Fault("500"))
    with serve(simulator) as url:
        told, _ = ask_port(url, lambda client: client.workspaces())
    assert told.rows
    assert caplog.records
    assert_no_secret("".join(f"{record.getMessage()} {record.args}" for record in caplog.records))


@pytest.mark.parametrize(
    "secret",
    [CANARY, f" {CANARY}", f"{CANARY}\n", f"{CANARY} ", f"{CANARY}…", f"{CANARY[:20]}\n{CANARY[20:]}"],
    ids=ascii,
)
def test_a_key_with_white_space_around_it_works_and_one_that_cannot_be_sent_is_invalid(secret: str) -> None:
    """As a file or a mail leaves them; a network that is down is not to blame."""
    ledger, _ = account_with_keys("A")
    with serve(Simulator(ledger, lambda: NOON)) as url:
        if secret.strip() == CANARY:
            assert ask_port(url, lambda client: client.credits(), secret)[0].total_credits == 500
        else:
            with pytest.raises(InvalidKeyError, match="Invalid API key"):
                ask_port(url, lambda client: client.credits(), secret)


@pytest.mark.parametrize(
    "url",
    [
        "openrouter.ai/api/v1",
        "https://open router:x/api/v1",
        "htps://openrouter.ai/api/v1",
        f"https://{'o' * 64}.ai/api/v1",
        f"https://me:{CANARY}@openrouter.ai/api/v1",
        f"https://me:{CANARY}/x@openrouter.ai/api/v1",
        f"https://{'o' * 100_000}/",
        CANARY,
    ],
)
def test_a_base_url_that_is_none_is_permanent_and_shows_no_secret(url: str) -> None:
    with pytest.raises(PermanentError, match=r'The base URL of account "acme" is not a valid http') as caught:
        ask_port(url, lambda client: client.credits())
    assert "Check OPENROUTER_BASE_URL, or base_url in orcost.toml." in str(caught.value)
    assert_no_secret(str(caught.value))


@pytest.mark.parametrize(
    "host", ["openrouter.ai", "10.0.0.1", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]"]
)
def test_a_key_does_not_go_over_a_network_in_the_clear(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[httpx.Request] = []
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", lambda _, request: sent.append(request))
    with pytest.raises(
        PermanentError, match=r'^The key of account "acme" was not sent: http://.* is not encrypted'
    ) as caught:
        ask_port(f"http://{host}/api/v1", lambda client: client.credits())
    assert "Use https://. Check OPENROUTER_BASE_URL, or base_url in orcost.toml." in str(caught.value)
    assert not sent


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_this_machine_is_asked_in_the_clear_and_without_a_proxy(
    host: str, closed_port: int, speaker: Callable[[bytes], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    proxy = speaker(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy}")
    error = asked_in_vain(f"http://{host}:{closed_port}/api/v1")
    assert f"{host}:{closed_port} could not be reached" in str(error)
    assert "proxy" not in str(error)


@pytest.mark.parametrize("secret", ["", "  \n"])
def test_an_empty_key_is_invalid_and_not_sent(secret: str) -> None:
    with pytest.raises(InvalidKeyError, match=r'^Invalid API key: the key of account "acme" is empty\.\n'):
        ask_port("http://127.0.0.1:9/api/v1", lambda client: client.credits(), secret)


@respx.mock(base_url=DEFAULT_BASE_URL)
def test_the_default_is_openrouter_itself_asked_by_bearer_key(respx_mock: respx.MockRouter) -> None:
    ledger, _ = account_with_keys("A")
    simulator = Simulator(ledger, lambda: NOON)
    route = respx_mock.get("/workspaces").mock(side_effect=simulator.handle)
    ((workspace,), _), _ = ask_port(DEFAULT_BASE_URL, lambda client: client.workspaces())
    assert workspace.name == "Default"
    assert route.calls.last.request.headers["Authorization"] == f"Bearer {CANARY}"
    assert str(route.calls.last.request.url) == f"{DEFAULT_BASE_URL}/workspaces?offset=0&limit=100"
