"""A document on its way to a printer: how far it came, and what the printer says meanwhile.

In: the delivery's source and `report`, and the streams that it goes out on. Out: `Progress`, with
the printer's own words where it takes no bytes for a while. Which bytes left is never guessed low:
`bytes_sent` is 0 only when certainly none did.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, NamedTuple

import trio

from spoold.driver.link import Progress, Source
from spoold.driver.sending import Meter
from spoold.model.printer import Device


class Told(NamedTuple):
    """What a printer says while it takes no bytes; a busy one is not stalled."""

    is_busy: bool = False
    reasons: tuple[str, ...] = ()  # printer-state-reasons
    detail: str = ""


class Upload:
    """A document on its way, and how far it came, on whatever connection."""

    def __init__(
        self,
        source: Source,
        device: Device,
        report: Callable[[Progress], None],
        on_stall: Callable[[], Awaitable[Told]],
    ) -> None:
        self.source = source
        self.has_begun = False  # a byte of it may have left
        self.is_whole = False  # our kernel took all of it
        self._device = device
        self._report = report
        self._on_stall = on_stall
        self._stream: Any = None
        self._base = 0
        self._last_sent = 0
        self._told = Told()

    def bytes_sent(self) -> int:
        """How many of its bytes our kernel took; 0 only when certainly none left."""
        if self.is_whole:
            return self.source.size
        if self._stream is not None:
            self._last_sent = max(self._last_sent, self._stream.bytes_sent - self._base)
        return max(int(self.has_begun), min(self._last_sent, self.source.size))

    def begin(self, stream: Any) -> None:
        """The next bytes on this stream are its first."""
        self._stream, self._base = stream, stream.bytes_sent
        self.has_begun, self.is_whole, self._last_sent = True, False, 0

    def tell(self, progress: Progress) -> None:
        """Hear of the meter; tell of the document, and of what the printer says."""
        told = self._told if progress.stalled_s else Told()
        sent = self.bytes_sent()
        size = self.source.size
        taken = f"{sent} of {size} bytes are sent"
        if sent == size:
            taken = f"all {size} bytes are sent, and the printer has not answered"
        self._report(
            replace(
                progress,
                bytes_sent=sent,
                stalled_s=0.0 if told.is_busy else progress.stalled_s,
                reasons=told.reasons or progress.reasons,
                detail="; ".join(filter(None, (taken, told.detail))) if progress.stalled_s else "",
            )
        )

    def end(self) -> None:
        """No more bytes on this stream; what had left is reported."""
        self.bytes_sent()
        self._stream = None
        self._report(Progress(bytes_sent=self.bytes_sent()))

    async def watch(self, stream: Any) -> None:
        """Reports while it is sent; asks the printer when it takes nothing, ever less often."""
        meter = Meter(stream, self.tell, self._device)
        stall_s = max(0.01, self._device.seconds("stall_s", 10.0))
        sent, asked_s, pause_s = stream.bytes_sent, trio.current_time(), 0.0
        while True:
            await trio.sleep(meter.tick_s)
            if stream.bytes_sent != sent:
                sent = stream.bytes_sent
                meter.moved()
            meter.tick()
            if meter.quiet_s < stall_s:
                self._told, pause_s = Told(), 0.0
            elif trio.current_time() - asked_s >= pause_s:
                self._told = await self._on_stall()
                asked_s, pause_s = trio.current_time(), min(60.0, max(2.0, pause_s * 2))
