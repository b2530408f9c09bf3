"""A deployment's authority, and TLS streams over loopback, both ends in one process."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import trio
import trio.testing

from spoold.daemon import authority as authorities
from spoold.daemon.authority import Authority
from spoold.net import listen, tcp, tls
from spoold.net.connect import TcpNetwork
from spoold.net.tls import TlsStream

DAY_US = 86_400_000_000
NOW_US = int(time.time()) * 1_000_000
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def make_authority(now_us: int = NOW_US) -> Authority:
    return Authority(*authorities.make_ca(lambda: now_us), lambda: now_us)


AUTHORITY = make_authority()
NODE_KEY, NODE_CHAIN, _ = AUTHORITY.enrol_node(uuid4(), "node", ["localhost", "127.0.0.1"])


@dataclass
class Client:
    """What a plain client needs to connect: the CA, and perhaps a key with its certificate."""

    key: bytes = b""
    chain: bytes = b""
    version: ssl.TLSVersion | None = None

    def context(self) -> ssl.SSLContext:
        context = tls.client_context(
            ca_pem=AUTHORITY.ca_pem, chain_pem=self.chain or None, key_pem=self.key or None
        )
        if self.version is not None:
            context.minimum_version = context.maximum_version = self.version
        return context


def enrolled(issuer: Authority = AUTHORITY, kind: str = "provider") -> tuple[Client, str]:
    key, chain, serial = issuer.enrol(kind, uuid4(), "till-7", 30)
    return Client(key, chain), serial


def clear_context() -> ssl.SSLContext:
    return tls.server_context(NODE_CHAIN, NODE_KEY)


def mutual_context(*revoked: str, authority: Authority = AUTHORITY) -> ssl.SSLContext:
    return tls.server_context(
        NODE_CHAIN, NODE_KEY, client_ca_pem=authority.ca_pem, crl_pem=authority.crl(revoked)
    )


@asynccontextmanager
async def accepted(
    context: ssl.SSLContext, client: Callable[[socket.socket], object]
) -> AsyncIterator[TlsStream]:
    """Our side of a connection, before its handshake, while `client` runs in a thread."""
    [listener] = listen.bind("127.0.0.1:0")

    def run() -> None:
        with socket.create_connection(listener.getsockname(), timeout=30) as sock:
            client(sock)

    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, run)
            await trio.lowlevel.wait_readable(listener)
            connection, address = listener.accept()
            stream = TlsStream(connection, context, server_side=True, peer=tcp.peer_name(address))
            try:
                yield stream
            finally:
                stream.abort()


@asynccontextmanager
async def pair(version: ssl.TLSVersion | None = None) -> AsyncIterator[tuple[TlsStream, TlsStream]]:
    """Two of our streams, server and client, connected and agreed."""
    [listener] = listen.bind("127.0.0.1:0")
    with listener:
        dialled = await TcpNetwork().connect(*listener.getsockname(), timeout_s=30)
        connection, _ = listener.accept()
    server = TlsStream(connection, clear_context(), server_side=True)
    client = TlsStream(
        dialled.detach(),
        Client(version=version).context(),
        server_side=False,
        server_hostname="localhost",
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.handshake, 5)
        nursery.start_soon(client.handshake, 5)
    try:
        yield server, client
    finally:
        server.abort()
        client.abort()


@asynccontextmanager
async def serving(
    listener: socket.socket,
    context: ssl.SSLContext,
    serve: Callable[[TlsStream], Awaitable[object]],
) -> AsyncIterator[int]:
    """The port where `serve` gets the first connection, before its handshake, in a task."""

    async def accept() -> None:
        await trio.lowlevel.wait_readable(listener)
        connection, _ = listener.accept()
        await serve(TlsStream(connection, context, server_side=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        yield listener.getsockname()[1]


async def read_all(stream: TlsStream) -> bytes:
    received = bytearray()
    buffer = memoryview(bytearray(100_000))
    while count := await stream.receive_into(buffer):
        received += buffer[:count]
    return bytes(received)


async def arrived(sender: TlsStream) -> None:
    """All that was sent is at the other kernel."""
    with trio.fail_after(30):
        while sender.unsent_bytes():
            await trio.lowlevel.checkpoint()


async def refusal(
    client: Client, context: ssl.SSLContext, version: ssl.TLSVersion
) -> tuple[str, str]:
    """Why our side refused the client, and the alert that it heard; "" for none."""
    client.version = version

    def attempt(sock: socket.socket) -> None:
        try:
            wrapped = client.context().wrap_socket(sock, server_hostname="localhost")
            with wrapped:
                wrapped.sendall(b"a job that nobody will read")
                wrapped.recv(100)
        except ssl.SSLError as error:
            heard.append(error.reason)

    heard: list[str] = []
    why = ""
    async with accepted(context, attempt) as stream:
        try:
            await stream.handshake(5)
        except trio.BrokenResourceError as error:
            why = str(error)
        else:
            await stream.finish()
    return why, "".join(heard)
