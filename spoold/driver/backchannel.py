"""What a device says on a raw connection, while a document goes out and after it.

In: the connection's `Stream`. Out: PJL messages and the last words as text; both bounded. A device
that says nothing is no fault; whether the connection still stands is what sending finds out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from spoold.codec import pjl
from spoold.driver.sending import Meter
from spoold.net.stream import Stream

READ_BYTES: Final = 4096
MESSAGES_MAX: Final = 256
SAID_BYTES: Final = 200


class Ear:
    """One reader at a time: `run` while sending, `hear` and `until` otherwise."""

    def __init__(self, stream: Stream, meter: Meter) -> None:
        self._stream = stream
        self._meter = meter
        self._channel = pjl.BackChannel()
        self.messages: deque[pjl.Message] = deque(maxlen=MESSAGES_MAX)
        self.is_ended = False  # the device ended its half
        self._said = b""

    @property
    def said(self) -> str:
        """The last words, for people."""
        text = self._said.decode("utf-8", "replace")
        return "".join(c if c.isprintable() else " " for c in text).strip()

    async def hear(self, timeout_s: float) -> None:
        """Returns after one read, or when `timeout_s` are over.

        Raises:
            trio.BrokenResourceError: the connection broke.
        """
        with trio.move_on_after(timeout_s):
            await self._read()

    async def until(self, is_there: Callable[[], bool], timeout_s: float) -> bool:
        """Listen until `is_there`, the device's end or the timeout; returns `is_there()`.

        Raises:
            trio.BrokenResourceError: the connection broke.
        """
        with trio.move_on_after(timeout_s):
            while not (is_there() or self.is_ended):
                await self._read()
        return is_there()

    async def run(self) -> None:
        """Listens for as long as there is something to come; the task of `sending.watched`."""
        try:
            while not self.is_ended:
                await self._read()
        except trio.BrokenResourceError:
            self.is_ended = True  # the sender notices for itself, and knows what had been taken

    async def _read(self) -> None:
        data = await self._stream.receive_some(READ_BYTES)
        if not data:
            self.is_ended = True
            return
        self._meter.moved()
        self._said = (self._said + data)[-SAID_BYTES:]
        self.messages.extend(self._channel.receive(data))

    # --- PJL --------------------------------------------------------------------------------------

    def has_echo(self, token: str) -> bool:
        return pjl.Echo(token) in self.messages

    def forget_before_echo(self, token: str) -> None:
        """What came before the echo was meant for others, or for a job before ours."""
        while self.messages and self.messages.popleft() != pjl.Echo(token):
            pass

    def page_count(self) -> int | None:
        counts = [m.pages for m in self.messages if isinstance(m, pjl.PageCount)]
        return counts[-1] if counts else None

    def status(self) -> pjl.Status | None:
        states = [m for m in self.messages if isinstance(m, pjl.Status)]
        return states[-1] if states else None

    def ended_jobs(self, name: str) -> list[pjl.JobReport]:
        """The reports of jobs that ended; of the one called `name`, or of any when it is ""."""
        reports = [m for m in self.messages if isinstance(m, pjl.JobReport) and m.is_end]
        return [r for r in reports if not name or r.name in ("", name)]
