"""Which of the bytes that came on a connection are still held by somebody."""

from __future__ import annotations

import weakref

from spoold.net.tcp import SocketStream


class _Piece(bytearray):
    """What came with one receive; unlike `bytes` it can be watched."""


class WatchedStream(SocketStream):
    """A stream that knows what it has given out, and what of that there still is."""

    def __init__(self, sock):
        super().__init__(sock)
        self._given = []

    def given(self, data):
        """`data`, as if it had come."""
        piece = _Piece(data)
        self._given.append(weakref.ref(piece))
        return piece

    async def receive_some(self, bytes_max=65536):
        return self.given(await super().receive_some(bytes_max))

    def held(self):
        return [piece for one in self._given if (piece := one()) is not None]
