"""A client in a world where waiting takes no time: the loop's clock jumps to the next timer, so that pauses of minutes
are measured exactly and take none.
"""

import asyncio
import json
import selectors
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr

from orcost_pipeline.openrouter.api.client import OpenRouter
from orcost_pipeline.simulator import Ledger, Options, Simulator

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOON = datetime(2026, 11, 23, 12, 20, tzinfo=UTC)
BASE = "https://openrouter.test/api/v1"
CANARY = "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"

Handler = Callable[[httpx.Request], httpx.Response]
T = TypeVar("T")
Question = Callable[[OpenRouter], Awaitable[T]]


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, clock: float) -> None:
        super().__init__()
        self.clock = clock

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0 if timeout is not None else 5)
        if not events and timeout:
            self.clock += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands while something runs and jumps to the next timer when nothing does."""

    current: "VirtualLoop | None" = None

    def __init__(self, start: float = 1_000.0) -> None:
        self._jumping = _JumpingSelector(start)
        super().__init__(self._jumping)
        VirtualLoop.current = self

    def time(self) -> float:
        return self._jumping.clock

    def close(self) -> None:
        VirtualLoop.current = None
        super().close()


class Api:
    """An account `acme` behind a handler. `sent` are its requests, each with the virtual second it was sent at."""

    def __init__(self, handler: Handler, secret: str = CANARY) -> None:
        self.handler = handler
        self.secret = secret
        self.sent: list[tuple[float, httpx.Request]] = []
        self.seconds = self.closed_after = 0.0
        self.requests_made = 0
        self.most = 1_000

    def ask(self, question: Question[T], **client: Any) -> T:
        """The answer; `seconds` is how long it took in virtual time, waits included."""
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(self._asked(question, client))

    async def _asked(self, question: Question[T], arguments: dict[str, Any]) -> T:
        loop = asyncio.get_running_loop()

        async def handle(request: httpx.Request) -> httpx.Response:
            self.sent.append((loop.time(), request))
            assert len(self.sent) < self.most, "a question without end"
            # As a network does, it lets the other questions go on before it answers.
            await asyncio.sleep(0)
            told = self.handler(request)
            return await told if asyncio.iscoroutine(told) else told

        started = loop.time()
        transport = httpx.MockTransport(handle)
        try:
            async with OpenRouter("acme", SecretStr(self.secret), BASE, transport=transport, **arguments) as client:
                try:
                    return await question(client)
                finally:
                    self.seconds, self.requests_made = loop.time() - started, client.requests_made
        finally:
            self.closed_after = loop.time() - started

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for _, request in self.sent if request.content]

    def waits(self) -> list[float]:
        """Seconds between one request and the next."""
        moments = [moment for moment, _ in self.sent]
        return [after - before for before, after in pairwise(moments)]


def account_with_keys(*names: str) -> tuple[Ledger, list[str]]:
    """An account `acme` with a key of each name, made 40 days ago, and the keys' hashes."""
    ledger = Ledger()
    ledger.add_account("acme", CANARY, credits_bought=Decimal(500))
    return ledger, [ledger.add_key("acme", name, NOON - 40 * DAY + i * HOUR) for i, name in enumerate(names)]


def simulated(ledger: Ledger, options: Options | None = None) -> tuple[Api, Simulator]:
    simulator = Simulator(ledger, lambda: NOON, options or Options())
    return Api(simulator.handle), simulator


def text_answer(text: str, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={"Content-Type": "application/json", **headers}, content=text.encode())


def answer(payload: object, status: int = 200, **headers: str) -> httpx.Response:
    return text_answer(json.dumps(payload), status, **headers)


def refusal(status: int, message: str = "No.") -> httpx.Response:
    return answer({"error": {"code": status, "message": message}}, status)


def scripted(*answers: httpx.Response | Exception) -> Api:
    """Answers in this order, the last one from then on."""
    left = list(answers)

    def handle(_: httpx.Request) -> httpx.Response:
        told = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(told, Exception):
            raise told
        # A response is read once.
        return httpx.Response(told.status_code, headers=told.headers, content=told.content)

    return Api(handle)
