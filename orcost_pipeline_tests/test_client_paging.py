"""Listings are paged to their end: a listing that moves meanwhile is walked again, one that never ends is refused."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from orcost_pipeline.errors import ContractError
from orcost_pipeline.simulator import Fault, Options
from orcost_pipeline_tests.client_world import all_keys
from orcost_pipeline_tests.virtual_time import DAY, NOON, Api, account_with_keys, answer, refusal, scripted, simulated

pytestmark = pytest.mark.usefixtures("limiter_in_virtual_time")


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
