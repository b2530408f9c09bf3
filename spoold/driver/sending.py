"""What raw and LPD share: sending a document, and knowing how far it came.

In: a connected stream, a `link.Source`, the delivery's `report`. Out: a `Meter` that says what the
kernel took and what the device's kernel acknowledged (SIOCOUTQ), with stalls reported while they
last and never called a failure. Whatever breaks raises `trio.BrokenResourceError`; a document that
cannot be read is a `SourceFailed`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from spoold.driver.link import Progress, Source
from spoold.driver.options import Options, seconds
from spoold.model.errors import OperationError
from spoold.model.outcome import Deferred
from spoold.model.printer import Device
from spoold.net.stream import Stream
from spoold.net.tcp import SocketStream

SMALL_BYTES: Final = 16384  # fits into a fresh socket's buffer: sending it cannot wait
WINDOW_BYTES: Final = 4 << 20
PROBE_STEP_BYTES: Final = 256 << 10
READ_BYTES: Final = 1 << 20
OPTIONS: Final[Options] = seconds("stall_s")


class SourceFailed(Exception):
    """The stored document could not be read to its end."""


class Meter:
    """How far one connection has come. `report` hears of stalls after `stall_s` without progress.

    `sent` is what the kernel has taken; on other streams than sockets it is what `send_all` took.
    """

    def __init__(self, stream: Stream, report: Callable[[Progress], None], device: Device) -> None:
        self._socket = stream if isinstance(stream, SocketStream) else None
        self._report = report
        self._stall_s = max(0.01, device.seconds("stall_s", 10.0))
        self.tick_s = min(1.0, self._stall_s / 2)
        self._sent_elsewhere = 0
        self._is_ended = False
        self._last_acknowledged = 0
        self._last_progress_s = trio.current_time()
        self.reasons: tuple[str, ...] = ()  # what the device itself says that it waits for
        self.awaited = ""  # what it has still to do when it has everything, for people

    @property
    def sent(self) -> int:
        return self._socket.bytes_sent if self._socket is not None else self._sent_elsewhere

    def took(self, count: int) -> None:
        """`send_all` took `count` bytes; only a socket counts for itself."""
        self._sent_elsewhere += count

    def ended(self) -> None:
        """Our half was ended: its FIN is not one of the document's bytes."""
        self._is_ended = True

    def acknowledged(self) -> int:
        """How many bytes the device's kernel has, or may have: it stays good after a reset."""
        if self._socket is None:
            return self._sent_elsewhere
        waiting = self._socket.unsent_bytes() - self._is_ended
        return self._socket.bytes_sent - max(0, waiting)

    @property
    def is_all_acknowledged(self) -> bool:
        return self.acknowledged() == self.sent

    @property
    def can_know(self) -> bool:
        """Does `acknowledged` say what the device's kernel said?"""
        return self._socket is not None

    @property
    def quiet_s(self) -> float:
        """How long nothing has moved, in either direction."""
        return trio.current_time() - self._last_progress_s

    def moved(self) -> None:
        """The device said something: it lives."""
        self._last_progress_s = trio.current_time()

    def tick(self) -> None:
        """Look, and report."""
        acknowledged = self.acknowledged()
        if acknowledged != self._last_acknowledged:
            self._last_acknowledged = acknowledged
            self.moved()
        quiet_s = self.quiet_s
        is_stalled = quiet_s >= self._stall_s
        if self.awaited and acknowledged == self.sent:
            detail = self.awaited
        else:
            detail = f"{acknowledged} of {self.sent} bytes taken by the device"
        self._report(
            Progress(
                bytes_sent=self.sent,
                stalled_s=quiet_s if is_stalled else 0.0,
                reasons=(self.reasons or ("stalled",)) if is_stalled else (),
                detail=detail if is_stalled else "",
            )
        )

    async def watch(self) -> None:
        """Reports for as long as it runs."""
        while True:
            await trio.sleep(self.tick_s)
            self.tick()


@asynccontextmanager
async def watched(meter: Meter) -> AsyncIterator[trio.Nursery]:
    """Stalls are reported while the body runs. Tasks of the nursery end with the body.

    The body alone may fail with what `send_document` raises; it leaves as itself, not in a group.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(meter.watch)
        try:
            yield nursery
        except (trio.BrokenResourceError, SourceFailed) as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def send_document(stream: Stream, source: Source, meter: Meter) -> None:
    """The kernel has taken the whole document. Large ones are sent under `watched`.

    Raises:
        trio.BrokenResourceError: the connection broke.
        SourceFailed: the document could not be read to its end.
    """
    descriptor = source.fileno()
    if descriptor is None:
        await _send_memory(stream, source, meter)
    elif isinstance(stream, SocketStream):
        await _send_file(stream, source, descriptor)
    else:
        await _send_read(stream, source, meter)


async def _send_memory(stream: Stream, source: Source, meter: Meter) -> None:
    data = source.read_at(0, source.size)
    if len(data) != source.size:
        raise SourceFailed
    await stream.send_all(data)
    meter.took(len(data))


async def _send_file(stream: SocketStream, source: Source, descriptor: int) -> None:
    offset = 0
    while offset < source.size:
        count = min(WINDOW_BYTES, source.size - offset)
        try:
            if not is_cached(descriptor, offset, count):
                await trio.to_thread.run_sync(warm, descriptor, offset, count)
            sent = await stream.sendfile(descriptor, offset, count)
        except OSError as error:
            raise SourceFailed from error
        if not sent:
            raise SourceFailed
        offset += sent


async def _send_read(stream: Stream, source: Source, meter: Meter) -> None:
    offset = 0
    while offset < source.size:
        count = min(READ_BYTES, source.size - offset)
        try:
            data = await trio.to_thread.run_sync(source.read_at, offset, count)
        except OSError as error:
            raise SourceFailed from error
        if not data:
            raise SourceFailed
        await stream.send_all(data)
        meter.took(len(data))
        offset += len(data)


def is_cached(descriptor: int, offset: int, count: int) -> bool:
    """Are these bytes of the file in memory, as far as a page in each 256 KiB tells?"""
    end = offset + count
    scrap = bytearray(1)
    try:
        for at in (*range(offset, end, PROBE_STEP_BYTES), end - 1):
            os.preadv(descriptor, [scrap], at, os.RWF_NOWAIT)
    except OSError as error:
        # EAGAIN: not there. EOPNOTSUPP: this file system cannot tell, so a thread reads it.
        if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True


def warm(descriptor: int, offset: int, count: int) -> None:
    """Bring a piece of the file into memory, and start the disk on the next. Runs in a thread."""
    os.posix_fadvise(descriptor, offset, count + WINDOW_BYTES, os.POSIX_FADV_WILLNEED)
    scrap = bytearray(READ_BYTES)
    end = offset + count
    while offset < end:
        got = os.preadv(descriptor, [memoryview(scrap)[: end - offset]], offset)
        if not got:
            return
        offset += got


def endpoint(device: Device, port: int) -> tuple[str, int]:
    """Host and port of the device's URI.

    Raises:
        OperationError: `bad-request`, there is no host, or the port is none.
    """
    parts = device.parts
    try:
        found = parts.port
    except ValueError as error:
        raise OperationError("bad-request", f"{device.uri!r}: {error}.") from error
    if not parts.hostname or found == 0:
        raise OperationError(
            "bad-request",
            f"{device.uri!r} names no host.",
            f"Write {parts.scheme}://printer.example.org or {parts.scheme}://192.0.2.7:{port}.",
        )
    return parts.hostname, found or port


def not_connected(error: OSError, where: str) -> Deferred:
    """The outcome of a connection that was never made."""
    if isinstance(error, TimeoutError):
        cause = "no answer"
    else:
        cause = error.strerror or str(error) or type(error).__name__
    return Deferred("connecting-to-device", f"{where}: {cause}.")
