"""One request: a fault that passes is survived, one that does not is a sentence that names question and cause."""

from decimal import Decimal
from typing import Any

import pytest

from orcost_pipeline.errors import ContractError, TransientError
from orcost_pipeline.simulator import Fault, Ledger
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.windows import hours_window
from orcost_pipeline_tests.client_world import BY_KEY, CATCHES_UP, all_keys, cells, truth_by_name, usage
from orcost_pipeline_tests.virtual_time import HOUR, NOON, account_with_keys, simulated

pytest_plugins = ["orcost_pipeline_tests.client_world"]

pytestmark = pytest.mark.usefixtures("limiter_in_virtual_time")


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
