"""Waiting for answers so that Ctrl-C and SIGTERM end it at once."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")

# Between two checks for a signal.
WAKE_EVERY = timedelta(milliseconds=200)


def wait_for(answer: Coroutine[Any, Any, T]) -> T:
    """Runs the coroutine as `asyncio.run` does and returns its result; raises KeyboardInterrupt soon after a signal.

    A signal that another thread receives, or that arrives just before the loop waits, does not wake the loop: Python
    would raise KeyboardInterrupt with the next answer, which may be minutes away.
    """
    return asyncio.run(_woken_regularly(answer))


async def _woken_regularly(answer: Coroutine[Any, Any, T]) -> T:
    async def wake_up() -> None:
        while True:
            await asyncio.sleep(WAKE_EVERY.total_seconds())

    waking = asyncio.create_task(wake_up())
    try:
        return await answer
    finally:
        waking.cancel()
