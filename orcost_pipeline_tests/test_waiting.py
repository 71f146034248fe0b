"""What a client does while the server is busy, down or slow, and how it reads the server's clock."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from pydantic import SecretStr

from orcost_pipeline.errors import PermanentError
from orcost_pipeline.openrouter.client import OpenRouter
from orcost_pipeline.simulator import Fault, Ledger, Options, Simulator, serve

NOON = datetime(2026, 11, 23, 12, 20, tzinfo=UTC)
BASE = "https://openrouter.test/api/v1"
KEY = "sk-or-v1-" + "c0ffee" * 10


def simulated(options: Options | None = None) -> Simulator:
    """The account `acme` of one key, at noon."""
    ledger = Ledger()
    ledger.add_account("acme", KEY)
    ledger.add_key("acme", "A", NOON - timedelta(days=40))
    return Simulator(ledger, lambda: NOON, options or Options())


# ── the server's clock ───────────────────────────────────────────────────────────────────────────────────────────────


def clock_ahead(handler: httpx.MockTransport | str, now: datetime, questions: int = 1) -> timedelta | None:
    """What a client whose clock says `now` knows after asking."""
    base_url, transport = (handler, None) if isinstance(handler, str) else (BASE, handler)

    async def asked() -> timedelta | None:
        async with OpenRouter("acme", SecretStr(KEY), base_url, transport=transport, now=lambda: now) as client:
            assert client.clock_ahead is None
            for _ in range(questions):
                await client.credits()
            return client.clock_ahead

    return asyncio.run(asked())


def dated(*dates: str | None) -> httpx.MockTransport:
    """A server whose answers carry these dates."""
    left = list(dates)

    def handle(_: httpx.Request) -> httpx.Response:
        date = left.pop(0)
        data = {"data": {"total_credits": 1, "total_usage": 0}}
        return httpx.Response(200, json=data, headers={} if date is None else {"Date": date})

    return httpx.MockTransport(handle)


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=26), timedelta(days=-3_650)])
def test_a_client_knows_how_far_its_clock_is_ahead_of_the_servers(ahead: timedelta) -> None:
    simulator = simulated()
    assert clock_ahead(httpx.MockTransport(simulator.handle), NOON + ahead) == ahead
    with serve(simulator) as base_url:
        assert clock_ahead(base_url, NOON + ahead) == ahead


def test_a_server_that_sends_no_date_leaves_the_difference_unknown() -> None:
    simulator = simulated(Options(sends_date=False))
    assert clock_ahead(httpx.MockTransport(simulator.handle), NOON) is None
    with serve(simulator) as base_url:
        assert clock_ahead(base_url, NOON) is None
        assert "Date" not in httpx.get(f"{base_url}/models").headers


@pytest.mark.parametrize("date", ["", "soon", "Mon, 99 Nov 2026 12:20:00 GMT", "Mon, 23 Nov 99999 12:20:00 GMT"])
def test_a_date_that_is_none_is_passed_over(date: str) -> None:
    assert clock_ahead(dated(date), NOON) is None


def test_of_several_answers_the_one_that_differs_least_tells_the_clock() -> None:
    """A slow or cached answer carries an older date."""
    dates = [format_datetime(NOON + timedelta(seconds=seconds), usegmt=True) for seconds in (-45, 2, -600)]
    assert clock_ahead(dated(*dates), NOON, questions=3) == timedelta(seconds=-2)


@pytest.mark.parametrize("date", ["Mon, 23 Nov 2026 12:20:00 -0000", "Mon, 23 Nov 2026 13:20:00 +0100"])
def test_a_date_of_another_form_is_the_instant_that_it_names(date: str) -> None:
    assert clock_ahead(dated(date), NOON) == timedelta(0)


@pytest.mark.parametrize("kind", ["402", "403_html", "502_html", "cut_json_200", "hang", "cut_body"])
def test_the_simulator_dates_what_it_spoils_by_its_own_clock_too(kind: str) -> None:
    simulator = simulated()
    simulator.inject(Fault(kind, times=1, seconds=0))  # type: ignore[arg-type]
    with serve(simulator) as base_url, httpx.stream("GET", f"{base_url}/models") as response:
        assert response.headers.get_list("Date") == [format_datetime(NOON, usegmt=True)]


def test_a_refusal_tells_the_clock_as_well() -> None:
    simulator = simulated()
    simulator.inject(Fault("402", times=None))

    async def refused() -> timedelta | None:
        transport, later = httpx.MockTransport(simulator.handle), NOON + timedelta(hours=1)
        async with OpenRouter("acme", SecretStr(KEY), BASE, transport=transport, now=lambda: later) as client:
            with pytest.raises(PermanentError):
                await client.credits()
            return client.clock_ahead

    assert asyncio.run(refused()) == timedelta(hours=1)
