"""A cable between two servers that can be cut: a relay of TCP connections.

In: where it leads. Out: a port on this machine. While it is cut nothing comes through either way,
and nobody is told, as when a plug is pulled: connections stay open, and new ones get no answer.
What was on its way arrives when the cable is mended, unless the connection was given up by then.
"""

from __future__ import annotations

import socket
from typing import Any

import trio

from spoold.net.connect import TcpNetwork
from spoold.net.listen import BACKLOG, accept_loop, prepare
from spoold.net.stream import Stream
from spoold.net.tcp import SocketStream

HOST = "127.0.0.1"
CONNECT_S = 5.0


class Cable:
    """Leads from `port` of this machine to another one. Cut and mend it as often as you like."""

    def __init__(self) -> None:
        self._mended: trio.Event | None = None  # while it is cut
        self.port = 0

    @property
    def is_cut(self) -> bool:
        return self._mended is not None

    def cut(self) -> None:
        if self._mended is None:
            self._mended = trio.Event()

    def mend(self) -> None:
        if self._mended is not None:
            self._mended.set()
            self._mended = None

    async def run(
        self, target_port: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Lead what comes to `target_port`, until it is cancelled.

        Raises:
            OSError: no port can be bound.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            prepare(listener)
            listener.bind((HOST, 0))
            listener.listen(BACKLOG)
            self.port = listener.getsockname()[1]
            async with trio.open_nursery() as nursery:

                def handle(sock: socket.socket, _address: Any) -> None:
                    nursery.start_soon(self._lead, SocketStream(sock), target_port)

                task_status.started()
                await accept_loop(listener, handle)

    async def _whole(self) -> None:
        while self._mended is not None:
            await self._mended.wait()

    async def _lead(self, near: Stream, target_port: int) -> None:
        far: Stream | None = None
        try:
            await self._whole()
            far = await TcpNetwork().connect(HOST, target_port, timeout_s=CONNECT_S)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, near, far, nursery.cancel_scope)
                nursery.start_soon(self._pass, far, near, nursery.cancel_scope)
        except OSError:
            pass  # nobody is at the other end: the caller sees a reset
        finally:
            near.abort()
            if far is not None:
                far.abort()

    async def _pass(self, source: Stream, sink: Stream, both: trio.CancelScope) -> None:
        """What comes from one end goes out at the other; a reset there is one here."""
        try:
            while data := await source.receive_some():
                await self._whole()
                await sink.send_all(data)
            await self._whole()
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._whole()
            both.cancel()
