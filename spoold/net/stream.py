"""The stream contract that every room speaks; sockets and TLS implement it, tests use memory."""

from __future__ import annotations

from typing import Protocol


class Stream(Protocol):
    """A connected byte stream. One task may receive while another sends.

    Every method raises `trio.BrokenResourceError` when the connection broke (a reset, a TLS
    truncation) and `trio.ClosedResourceError` when it was closed here.
    """

    peer: str  # "192.0.2.7:515", "[2001:db8::1]:515", "unix"

    async def receive_some(self, bytes_max: int = 65536) -> bytes:
        """At least one byte, or b"" when the peer ended its half in order."""
        ...

    async def receive_into(self, buffer: memoryview) -> int:
        """Fill the front of `buffer` with at least one byte; 0 when the peer ended its half."""
        ...

    async def send_all(self, data: bytes | bytearray | memoryview) -> None: ...

    async def send_eof(self) -> None:
        """End our half in order (TCP FIN, TLS close_notify); the other half stays open."""
        ...

    def abort(self) -> None:
        """Close at once; over TCP the peer sees a reset, never a FIN. Safe to call twice."""
        ...

    async def finish(self) -> None:
        """End our half in order and close: the one way by which a peer sees an orderly end."""
        ...
