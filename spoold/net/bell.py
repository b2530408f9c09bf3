"""A bell: it wakes all who wait for a change, and is next to nothing while nobody does."""

from __future__ import annotations

import trio


class Bell:
    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: trio.Event | None = None  # of those who wait now

    async def wait(self) -> None:
        """Return at the next `ring`."""
        if self._event is None:
            self._event = trio.Event()
        await self._event.wait()

    def ring(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None
