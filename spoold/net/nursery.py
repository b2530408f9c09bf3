"""A nursery for what runs in the background of a block: clients that hold connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def background_nursery() -> AsyncIterator[trio.Nursery]:
    """Its tasks end with the block. What the block raises comes out alone, not in a group."""
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:
            raised = error
        finally:
            nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised
