"""Waiting for answers so that Ctrl-C and SIGTERM end it at once."""

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")

# Between two checks for a signal.
CHECK_EVERY = timedelta(milliseconds=200)


def wait_for(answer: Coroutine[Any, Any, T]) -> T:
    """Runs the coroutine as `asyncio.run` does and returns its result; a signal cancels it and is then handled.

    A handler that raised while the loop runs would lose its exception in a callback, or in a task that nobody awaits:
    only KeyboardInterrupt and SystemExit leave those, and DagsterExecutionInterruptedError is neither.
    """
    with _deferred_signals() as received:
        return asyncio.run(_until_signal(answer, received))


@contextmanager
def _deferred_signals() -> Iterator[list[int]]:
    """Yields a list that SIGINT and SIGTERM are added to; calls the handler of the first one after the block."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread handles signals.
        yield received
        return
    handlers = {it: signal.signal(it, lambda it, _: received.append(it)) for it in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


async def _until_signal(answer: Coroutine[Any, Any, T], received: list[int]) -> T:
    """The result of the coroutine; raises CancelledError soon after a signal.

    A signal that another thread takes does not wake the loop, hence the checks.
    """
    task = asyncio.create_task(answer)
    while not task.done() and not received:
        await asyncio.wait([task], timeout=CHECK_EVERY.total_seconds())
    if received:
        task.cancel()
    return await task
