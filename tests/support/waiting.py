"""Waiting for what becomes true: a test that sleeps and then looks is wrong on a slow machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

import trio


async def wait_until(
    ask: Callable[[], Any | Awaitable[Any]],
    seconds: float = 30.0,
    *,
    holds: Callable[[Any], bool] = bool,
) -> Any:
    """What `ask()`, with or without `await`, answers as soon as that `holds`: is true, if not said.

    Raises:
        trio.TooSlowError: it never did.
    """
    with trio.fail_after(seconds):
        while True:
            found = ask()
            if isawaitable(found):
                found = await found
            if holds(found):
                return found
            await trio.sleep(0.005)
