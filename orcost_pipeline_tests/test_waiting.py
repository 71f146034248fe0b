"""What a client does while the server is busy, down or slow, and how it reads the server's clock.

Time is virtual unless a test says otherwise.
"""

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import format_datetime
from itertools import cycle
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from orcost_pipeline.errors import ContractError, PermanentError, TransientError
from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.openrouter.api.paging import PAGES
from orcost_pipeline.openrouter.api.requests import LONGEST_PAUSE, PATIENCE, TIMEOUT
from orcost_pipeline.simulator import Fault, Options, Simulator, serve
from orcost_pipeline.simulator.catalogue import GPT
from orcost_pipeline.windows import Window
from orcost_pipeline_tests.sampling import sampled
from orcost_pipeline_tests.virtual_time import (
    BASE,
    CANARY,
    DAY,
    HOUR,
    NOON,
    Api,
    Question,
    account_with_keys,
    answer,
    refusal,
    scripted,
    simulated,
)
from orcost_pipeline_tests.world import usage

pytestmark = pytest.mark.usefixtures("limiter_in_virtual_time")

LAST_HOUR = Window(NOON.replace(minute=0) - HOUR, NOON.replace(minute=0))
GOOD = {"data": {"total_credits": 1, "total_usage": 0}}
# What a gateway, a network or a busy server does, each of which passes.
PASSING: list[Any] = ["408", "429", "500", "502_html", "503", "403_html", "reset", "refused", "cut_body", "garbled"]
PASSING += ["cut_json_200", "html_200", "hang", "drip"]
# Seconds that may come on top of the patience: the last pause, and the last request.
LAST_PAUSE = LONGEST_PAUSE + LONGEST_PAUSE / 3


def at_noon(options: Options | None = None) -> Simulator:
    """The account `acme`, at noon."""
    return Simulator(account_with_keys()[0], lambda: NOON, options or Options())


def credits_of(client: OpenRouter) -> Any:
    return client.credits()


def of_the_last_hour(client: OpenRouter) -> Any:
    return client.usage(LAST_HOUR, ["model"])


def at_date(instant: datetime) -> str:
    return format_datetime(instant, usegmt=True)


# ── one question ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "37"},
        {"Retry-After": at_date(NOON + timedelta(seconds=37))},
        {"X-RateLimit-Reset": str(int((NOON.timestamp() + 37) * 1_000))},
        {"X-RateLimit-Reset": str(int(NOON.timestamp() + 37))},
        {"X-RateLimit-Reset": str(int(NOON.timestamp() + 37)), "Retry-After": "0"},
    ],
    ids=str,
)
@pytest.mark.parametrize("ahead", [timedelta(0), -DAY])
def test_a_server_that_says_when_to_come_back_is_left_alone_until_then(
    status: int, headers: dict[str, str], ahead: timedelta
) -> None:
    """By its own clock, whatever this machine's says."""
    busy = answer({}, status, Date=at_date(NOON), **headers)
    api = scripted(busy, busy, answer(GOOD))
    api.ask(credits_of, clock=lambda: NOON + ahead)
    assert all(37 < wait <= 38 for wait in api.waits())
    assert len(api.sent) == 3


def test_without_a_date_of_the_server_the_machines_clock_decides() -> None:
    busy = answer({}, 429, **{"X-RateLimit-Reset": str(int((NOON.timestamp() + 37) * 1_000))})
    api = scripted(busy, answer(GOOD))
    api.ask(credits_of, clock=lambda: NOON)
    assert 37 < api.seconds <= 38


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "0"},
        {"Retry-After": "-5"},
        {"Retry-After": "nan"},
        {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"},
        {"X-RateLimit-Reset": str(int((NOON.timestamp() - 37) * 1_000))},
        {"X-RateLimit-Reset": "0"},
    ],
    ids=str,
)
def test_what_is_over_is_a_pause_all_the_same(headers: dict[str, str]) -> None:
    busy = answer({}, 429, Date=at_date(NOON), **headers)
    api = scripted(busy, busy, busy, answer(GOOD))
    api.ask(credits_of)
    for wait, longest in zip(api.waits(), [0.5, 1, 2], strict=True):
        assert longest / 2 <= wait <= longest


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "soon"}, {"Retry-After": ""}, {"X-RateLimit-Reset": "later"}])
def test_a_429_that_says_nothing_is_a_pause_of_up_to_a_minute(headers: dict[str, str]) -> None:
    busy = answer({}, 429, **headers)
    api = scripted(*[busy] * 6, answer(GOOD))
    api.ask(credits_of)
    for wait, longest in zip(api.waits(), [8, 16, 32, 60, 60, 60], strict=True):
        assert longest / 2 <= wait <= longest


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "86400"},
        {"Retry-After": "inf"},
        {"Retry-After": at_date(NOON + DAY)},
        {"X-RateLimit-Reset": str(int((NOON + DAY).timestamp() * 1_000))},
        {"X-RateLimit-Reset": "9" * 40},
    ],
    ids=str,
)
def test_no_server_makes_a_sync_wait_for_a_day(status: int, headers: dict[str, str]) -> None:
    busy = answer({}, status, Date=at_date(NOON), **headers)
    api = scripted(busy, answer(GOOD))
    api.ask(credits_of)
    assert LONGEST_PAUSE < api.seconds < LONGEST_PAUSE + 1
    api = scripted(busy)
    with pytest.raises(TransientError, match="; the next sync catches up"):
        api.ask(credits_of)
    assert 3 <= len(api.sent) <= 6
    assert PATIENCE <= api.seconds <= PATIENCE + LAST_PAUSE


@pytest.mark.parametrize("kind", PASSING)
def test_two_minutes_of_any_fault_are_survived(kind: Any) -> None:
    api, simulator = simulated(account_with_keys()[0])
    api.handler = Outage(simulator, 120, [kind])
    assert api.ask(credits_of).total_credits == 500
    assert 120 <= api.seconds <= 120 + LAST_PAUSE


@pytest.mark.slow
def test_two_minutes_of_any_mix_of_faults_are_survived_by_every_question() -> None:
    for seed in range(10):
        ledger, keys = account_with_keys(*"ABCDEFGHIJKL")
        api, simulator = simulated(ledger)
        kinds = random.Random(seed).sample(PASSING, len(PASSING))
        api.handler = Outage(simulator, 120, kinds)
        questions: list[Question[Any]] = [credits_of, of_the_last_hour, *(asks_for(key) for key in keys)]
        told = api.ask(lambda client: asyncio.gather(*(asks(client) for asks in questions)))  # noqa: B023
        assert len(told) == 14
        assert api.seconds <= 120 + 2 * LAST_PAUSE


def asks_for(key: str) -> Question[Any]:
    return lambda client: client.api_key(key)


class Outage:
    """A server that fails for so many seconds from the first request on, by these kinds in turn."""

    def __init__(self, simulator: Simulator, seconds: float, kinds: list[Any]) -> None:
        self._simulator, self._seconds, self._kinds = simulator, seconds, cycle(kinds)
        self._until: float | None = None

    def __call__(self, request: httpx.Request) -> Any:
        now = asyncio.get_running_loop().time()
        if self._until is None:
            self._until = now + self._seconds
        if now < self._until:
            self._simulator.inject(Fault(next(self._kinds)))
        return self._simulator.handle(request)


def test_nine_different_faults_in_a_row_are_survived() -> None:
    for seed in range(50):
        kinds = random.Random(seed).sample(PASSING, 9)
        api, simulator = simulated(account_with_keys()[0])
        simulator.inject(*(Fault(kind) for kind in kinds))
        assert api.ask(credits_of).total_credits == 500, kinds
        assert simulator.count == 10


@pytest.mark.parametrize("kind", PASSING)
def test_a_fault_that_stays_ends_when_the_patience_does(kind: Any) -> None:
    for patience in (PATIENCE, 3):
        api, simulator = simulated(account_with_keys()[0])
        simulator.inject(Fault(kind, times=None))
        with pytest.raises((TransientError, ContractError)):
            api.ask(credits_of, patience=patience)
        assert patience <= api.seconds <= patience * 1.3
        assert 3 <= len(api.sent) <= 30


def test_without_patience_a_question_is_asked_once() -> None:
    api = scripted(refusal(503))
    with pytest.raises(TransientError):
        api.ask(credits_of, patience=0)
    assert (len(api.sent), api.seconds) == (1, 0)


def slow(seconds: float, told: Callable[[httpx.Request], httpx.Response]) -> Api:
    """Every answer comes after so many seconds."""

    async def handle(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(seconds)
        return told(request)

    return Api(handle)  # type: ignore[arg-type]


async def dripping() -> Any:
    """A byte every 50 s keeps any time limit between two bytes from ending."""
    while True:
        await asyncio.sleep(50)
        yield b" "


@pytest.mark.parametrize(
    ("api", "error"),
    [
        (slow(10_000, lambda _: answer(GOOD)), "openrouter.test did not answer within 90 s"),
        (Api(lambda _: httpx.Response(200, content=dripping())), "openrouter.test did not answer within 90 s"),
        (slow(85, lambda _: refusal(504)), "answered 504"),
    ],
    ids=["hangs", "drips", "fails slowly"],
)
def test_a_server_that_takes_its_time_to_fail_is_asked_a_few_times(api: Api, error: str) -> None:
    with pytest.raises(TransientError, match=error):
        api.ask(credits_of)
    assert 3 <= len(api.sent) <= 4
    assert PATIENCE < api.seconds < PATIENCE + TIMEOUT + 10
    with pytest.raises(TransientError, match="did not answer within 5 s"):
        api.ask(credits_of, timeout=5, patience=3)
    assert api.seconds == 5


def test_an_answer_that_takes_75_seconds_is_waited_for() -> None:
    assert slow(75, lambda _: answer(GOOD)).ask(credits_of).total_credits == 1


# ── many questions ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "headers",
    [{}, {"Retry-After": "0"}, {"Retry-After": "5"}, {"X-RateLimit-Reset": str(int(NOON.timestamp() * 1_000) + 5_000)}],
    ids=str,
)
@pytest.mark.parametrize("question", [credits_of, of_the_last_hour])
def test_eight_questions_that_are_refused_at_once_never_come_back_at_once(
    headers: dict[str, str], question: Question[Any]
) -> None:
    api = scripted(answer({}, 429, Date=at_date(NOON), **headers))
    with pytest.raises(TransientError):
        api.ask(lambda client: asyncio.gather(*(question(client) for _ in range(8))), analytics_per_minute=1_000)
    first, later = [at for at, _ in api.sent[:8]], [at for at, _ in api.sent[8:]]
    assert len(set(first)) == 1
    assert len(later) >= 8
    assert len(set(later)) == len(later)
    assert later[0] - first[0] >= 0.25


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hang", "429", "503", "cut_json_200"])
def test_a_server_that_is_dead_ends_a_sync_of_many_questions_as_soon_as_one_of_a_single_question(kind: Any) -> None:
    """Also where each request hangs for 90 seconds, and only eight are under way at a time."""
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(80)))
    api, simulator = simulated(ledger)
    simulator.inject(Fault(kind, times=None))
    api.most = 5_000
    if kind == "hang":
        api.handler = slow(10_000, simulator.handle).handler
    with pytest.raises((TransientError, ContractError)):
        api.ask(lambda client: asyncio.gather(*(client.api_key(key) for key in keys)))
    assert PATIENCE <= api.closed_after <= PATIENCE + LAST_PAUSE + TIMEOUT


def test_a_question_that_fails_for_ever_among_others_ends_the_sync() -> None:
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(50)))
    api, simulator = simulated(ledger)
    simulator.inject(Fault("503", times=None, match="/credits"))
    with pytest.raises(TransientError, match="GET /credits"):
        api.ask(lambda client: asyncio.gather(client.credits(), *(client.api_key(key) for key in keys)))
    assert PATIENCE <= api.seconds <= PATIENCE + LAST_PAUSE


def limited(options: Options) -> tuple[Api, list[float], list[float]]:
    """An account whose limit counts virtual seconds; when it refused requests of analytics, and when it answered."""
    ledger, keys = account_with_keys("A")
    ledger.spend("acme", LAST_HOUR.start, keys[0], GPT, usage("1.75"))
    simulator = Simulator(ledger, lambda: NOON, options, monotonic=lambda: asyncio.get_running_loop().time())
    refused: list[float] = []
    answered: list[float] = []

    def handle(request: httpx.Request) -> httpx.Response:
        told = simulator.handle(request)
        if "analytics" in request.url.path:
            (refused if told.status_code == 429 else answered).append(asyncio.get_running_loop().time())
        return told

    return Api(handle), refused, answered


@pytest.mark.parametrize("told_by", ["reset", "retry_after", "nothing"])
@pytest.mark.parametrize(("others", "questions", "minutes"), [(44, 100, 5), (60, 40, 10), (63, 12, 12)])
def test_another_tool_that_uses_most_of_the_limit_makes_a_sync_slower(
    told_by: Any, others: int, questions: int, minutes: int
) -> None:
    options = Options(analytics_per_minute=64, analytics_used_by_others=others, limit_told_by=told_by)
    api, refused, answered = limited(options)
    told = api.ask(lambda client: asyncio.gather(*(of_the_last_hour(client) for _ in range(questions))))
    assert all(len(one.cells) == 1 for one in told)
    assert len(answered) == questions
    assert api.seconds <= 60 * minutes * (2 if told_by == "nothing" else 1) + 60
    # Only those that were under way together bump into the limit, not all that wait.
    assert len(refused) <= 8 * (api.seconds / 60 + 1)


def test_what_one_question_of_analytics_is_told_holds_for_all_of_them_and_for_no_others() -> None:
    api, refused, answered = limited(Options(analytics_per_minute=64, analytics_used_by_others=44))
    others: list[float] = []

    async def asked(client: OpenRouter) -> None:
        questions = asyncio.gather(*(of_the_last_hour(client) for _ in range(40)))
        for _ in range(50):
            await asyncio.sleep(1)
            await client.credits()
            others.append(asyncio.get_running_loop().time())
        await questions

    api.ask(asked)
    start = api.sent[0][0]
    assert len(refused) <= 8
    assert max(refused) - start < 1
    assert sorted(answered)[:20] == [start] * 20
    assert all(60 < at - start < 62 for at in answered[20:])
    assert others == [start + second for second in range(1, 51)]


def test_a_limit_that_somebody_else_uses_up_for_good_ends_in_a_sentence() -> None:
    api, _, _ = limited(Options(analytics_per_minute=64, analytics_used_by_others=64))
    with pytest.raises(TransientError, match=r"answered 429 .* rate limit is reached; the next sync catches up"):
        api.ask(lambda client: asyncio.gather(*(of_the_last_hour(client) for _ in range(40))))
    assert PATIENCE <= api.seconds <= PATIENCE + LAST_PAUSE
    assert len(api.sent) <= 8 * 6


# ── what is too slow, or too long ────────────────────────────────────────────────────────────────────────────────────


def test_a_question_that_takes_the_server_a_minute_in_vain_is_asked_in_parts_at_once() -> None:
    api = slow(61, lambda _: refusal(408, "Operation timed out."))
    with pytest.raises(TransientError):
        api.ask(lambda client: client.usage(Window(LAST_HOUR.start - HOUR, LAST_HOUR.end), ["model"]))
    first, second, *_ = api.bodies()
    assert [first["time_range"][end] for end in ("start", "end")] == ["2026-11-23T10:00:00Z", "2026-11-23T12:00:00Z"]
    assert [second["time_range"][end] for end in ("start", "end")] == ["2026-11-23T11:00:00Z", "2026-11-23T12:00:00Z"]


def test_a_question_that_has_no_parts_is_asked_again_as_long_as_any_other() -> None:
    api, simulator = simulated(account_with_keys()[0])
    api.handler = Outage(simulator, 120, ["408"])
    assert api.ask(of_the_last_hour).cells == []
    assert 120 <= api.seconds <= 120 + LAST_PAUSE
    assert {str(body["time_range"]) for body in api.bodies()} == {str(api.bodies()[0]["time_range"])}


def endless(more: dict[str, Any]) -> Api:
    """Every page brings a hundred rows that were on none before, after the last one of the page before."""

    def handle(request: httpx.Request) -> httpx.Response:
        first = int(request.url.params["offset"])
        rows = [{"hash": f"{n:064x}", "id": f"w{n}", "name": "x", "usage": 0} for n in range(first, first + 100)]
        return answer({"data": rows, **more})

    return Api(handle)


@pytest.mark.parametrize("more", sampled([{}, {"total_count": 10**9}], 1), ids=str)
@pytest.mark.parametrize(
    ("question", "endpoint"),
    sampled(
        [(lambda client: client.api_keys([]), "GET /keys"), (lambda client: client.workspaces(), "GET /workspaces")], 1
    ),
)
def test_pages_that_never_end_are_refused(
    more: dict[str, Any], question: Question[Any], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PAGES == 1_000
    monkeypatch.setattr("orcost_pipeline.openrouter.api.paging.PAGES", 200)
    api = endless(more)
    sentence = rf'^{endpoint} of account "acme" goes on after 200 pages \(19,801 rows\); nothing was published.$'
    with pytest.raises(ContractError, match=sentence):
        api.ask(question)
    assert len(api.sent) == 200


def test_a_listing_of_thousands_of_keys_is_no_endless_one() -> None:
    ledger, keys = account_with_keys(*(f"key {number}" for number in range(900)))
    told = simulated(ledger)[0].ask(lambda client: client.api_keys([]))
    assert {key.hash for key in told.keys} == set(keys)


# ── the server's clock ───────────────────────────────────────────────────────────────────────────────────────────────


def clock_ahead(handler: httpx.MockTransport | str, now: datetime, questions: int = 1) -> timedelta | None:
    """What a client whose clock says `now` knows after asking."""
    base_url, transport = (handler, None) if isinstance(handler, str) else (BASE, handler)

    async def asked() -> timedelta | None:
        async with OpenRouter("acme", SecretStr(CANARY), base_url, transport=transport, clock=lambda: now) as client:
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
    simulator = at_noon()
    assert clock_ahead(httpx.MockTransport(simulator.handle), NOON + ahead) == ahead
    with serve(simulator) as base_url:
        assert clock_ahead(base_url, NOON + ahead) == ahead


def test_a_server_that_sends_no_date_leaves_the_difference_unknown() -> None:
    simulator = at_noon(Options(has_date=False))
    assert clock_ahead(httpx.MockTransport(simulator.handle), NOON) is None
    with serve(simulator) as base_url:
        assert clock_ahead(base_url, NOON) is None
        assert "Date" not in httpx.get(f"{base_url}/models").headers


@pytest.mark.parametrize("date", ["", "soon", "Mon, 99 Nov 2026 12:20:00 GMT", "Mon, 23 Nov 99999 12:20:00 GMT"])
def test_a_date_that_is_none_is_passed_over(date: str) -> None:
    assert clock_ahead(dated(date), NOON) is None


@pytest.mark.parametrize("date", ["Mon, 23 Nov 2026 12:20:00 -0000", "Mon, 23 Nov 2026 13:20:00 +0100"])
def test_a_date_of_another_form_is_the_instant_that_it_names(date: str) -> None:
    assert clock_ahead(dated(date), NOON) == timedelta(0)


@pytest.mark.parametrize("kind", ["402", "403_html", "502_html", "cut_json_200", "hang", "cut_body"])
def test_the_simulator_dates_what_it_spoils_by_its_own_clock_too(kind: str) -> None:
    simulator = at_noon()
    simulator.inject(Fault(kind, times=1, seconds=0))  # type: ignore[arg-type]
    with serve(simulator) as base_url, httpx.stream("GET", f"{base_url}/models") as response:
        assert response.headers.get_list("Date") == [format_datetime(NOON, usegmt=True)]


def test_a_refusal_tells_the_clock_as_well() -> None:
    simulator = at_noon()
    simulator.inject(Fault("402", times=None))

    async def refused() -> timedelta | None:
        transport, later = httpx.MockTransport(simulator.handle), NOON + timedelta(hours=1)
        async with OpenRouter("acme", SecretStr(CANARY), BASE, transport=transport, clock=lambda: later) as client:
            with pytest.raises(PermanentError):
                await client.credits()
            return client.clock_ahead

    assert asyncio.run(refused()) == timedelta(hours=1)


# ── a signal while an answer is awaited ──────────────────────────────────────────────────────────────────────────────

HANGING = """
import asyncio, os, signal, threading
from orcost_pipeline.openrouter.api.waiting import wait_for

class Interrupted(BaseException):
    "As Dagster's: no KeyboardInterrupt."

def interrupt(number, frame):
    raise Interrupted

def stop():
    os.kill(os.getpid(), signal.SIGTERM)

def stop_another_thread():
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

async def stopping():
    stop()

async def hanging():
    loop = asyncio.get_running_loop()
    {signal}
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)
        print("closed")

signal.signal(signal.SIGTERM, interrupt)
try:
    wait_for(hanging())
except Interrupted:
    print("stopped", signal.getsignal(signal.SIGTERM) is interrupt)
"""
SIGNALLED = {
    "to another thread": "threading.Timer(0.3, stop_another_thread).start()",
    "in a callback": "loop.call_soon(stop)",
    "in a callback, later": "loop.call_later(0.3, stop)",
    "in another task": "loop.create_task(stopping())",
    "in the task itself": "stop()",
}


@pytest.mark.parametrize("place", SIGNALLED)
def test_a_signal_ends_the_wait_wherever_it_arrives(place: str) -> None:
    """One that another thread takes does not wake the loop; an exception in a callback does not leave it."""
    program = HANGING.replace("{signal}", SIGNALLED[place])
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert (ended.stdout, ended.stderr) == ("closed\nstopped True\n", "")
