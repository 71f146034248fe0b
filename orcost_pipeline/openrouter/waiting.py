"""Waiting for answers so that Ctrl-C and SIGTERM end it at once."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")

# Between two looks for a signal.
LOOK_EVERY = timedelta(milliseconds=200)


def wait_for(answer: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns, as `asyncio.run`.

    A signal that another thread takes, or that comes in the moment before the loop begins to wait, does not wake it:
    Python would raise KeyboardInterrupt with the next answer, which may be minutes away.
    """
    return asyncio.run(_looking_up(answer))


async def _looking_up(answer: Coroutine[Any, Any, T]) -> T:
    async def look_up() -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY.total_seconds())

    looking = asyncio.create_task(look_up())
    try:
        return await answer
    finally:
        looking.cancel()
