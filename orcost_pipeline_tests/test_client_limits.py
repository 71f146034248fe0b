"""How many questions a minute, how long one waits for its turn, and what a failure leaves behind."""

import asyncio
import threading

import httpx
import pytest
from pydantic import SecretStr

from orcost_pipeline.errors import InvalidKeyError
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.simulator import Fault, Ledger, Options, Simulator
from orcost_pipeline.windows import Window
from orcost_pipeline_tests.virtual_time import (
    BASE,
    CANARY,
    HOUR,
    NOON,
    Api,
    VirtualLoop,
    account_with_keys,
    answer,
    refusal,
    scripted,
    simulated,
)

pytest_plugins = ["orcost_pipeline_tests.client_world"]

pytestmark = pytest.mark.usefixtures("limiter_in_virtual_time")


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
