"""TLS on real sockets: our streams against Python's own blocking TLS, and the alerts it hears."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
import trio
import trio.testing

from spoold.daemon import authority as authorities
from spoold.daemon.authority import Authority
from spoold.model.errors import IdentityError
from spoold.net import connect, listen, tcp, tls
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
        with socket.create_connection(listener.getsockname(), timeout=10) as sock:
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
        dialled = await TcpNetwork().connect(*listener.getsockname(), timeout_s=5)
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


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [1, 16_384, 70_001, 1_000_003])
async def test_a_mebibyte_in_odd_chunks(version: ssl.TLSVersion, size: int) -> None:
    """Every byte arrives once and in order, both ways at a time, and ends with close_notify."""
    data = os.urandom(1 << 20) if size > 1 else os.urandom(2000)

    async def send(stream: TlsStream) -> None:
        for offset in range(0, len(data), size):
            await stream.send_all(memoryview(data)[offset : offset + size])
        await stream.send_eof()

    async def receive(stream: TlsStream) -> None:
        received.append(await read_all(stream))

    received: list[bytes] = []
    async with pair(version) as (server, client), trio.open_nursery() as nursery:
        for stream in (server, client):
            nursery.start_soon(send, stream)
            nursery.start_soon(receive, stream)
    assert received == [data, data]
    assert server.bytes_sent == len(data)


async def test_many_records_arrive_in_one_call() -> None:
    """A large buffer takes all the records that are there, in one turn of the loop."""
    async with pair() as (server, client):
        for _ in range(3):
            await client.send_all(bytes(16_384))
        await arrived(client)
        buffer = memoryview(bytearray(1 << 20))
        assert await server.receive_into(buffer) == 3 * 16_384


async def arrived(sender: TlsStream) -> None:
    """All that was sent is at the other kernel."""
    with trio.fail_after(30):
        while sender.unsent_bytes():
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("version", VERSIONS)
async def test_finish_is_close_notify_and_fin(version: ssl.TLSVersion) -> None:
    """A plain TLS client reads the answer and a clean end, as an acknowledgement is."""

    def client(sock: socket.socket) -> None:
        with (
            Client(version=version)
            .context()
            .wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as wrapped
        ):
            heard.extend([wrapped.recv(100), wrapped.recv(100)])
            wrapped.setblocking(True)
            heard.append(wrapped.unwrap().recv(100))

    heard: list[bytes] = []
    async with accepted(clear_context(), client) as stream:
        await stream.handshake(5)
        await stream.send_all(b"accepted")
        await stream.finish()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
    assert heard == [b"accepted", b"", b""]


async def test_abort_is_a_reset() -> None:
    """Without finish a TLS client never sees an end, clean or not."""

    def client(sock: socket.socket) -> None:
        only_12 = Client(version=ssl.TLSVersion.TLSv1_2).context()  # no tickets come later
        with only_12.wrap_socket(sock, server_hostname="localhost") as wrapped:
            ready.set()
            # below TLS: Python's own receive takes a reset for a ragged end
            with pytest.raises(ConnectionResetError):
                socket.socket.recv(wrapped, 100)

    ready = threading.Event()
    async with accepted(clear_context(), client) as stream:
        await stream.handshake(5)
        await trio.to_thread.run_sync(ready.wait)
        stream.abort()
        stream.abort()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_fin_without_close_notify_is_a_truncation(version: ssl.TLSVersion) -> None:
    """What came is delivered; then the stream is broken, and stays so."""

    def client(sock: socket.socket) -> None:
        wrapped = Client(version=version).context().wrap_socket(sock, server_hostname="localhost")
        wrapped.sendall(b"half a job")
        socket.socket(fileno=wrapped.detach()).close()

    async with accepted(clear_context(), client) as stream:
        await stream.handshake(5)
        buffer = memoryview(bytearray(1000))
        assert await stream.receive_into(buffer) == 10
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError, match=r"without close_notify|Broken pipe"):
                await stream.receive_into(buffer)
        with pytest.raises(trio.BrokenResourceError, match=r"without close_notify|Broken pipe"):
            await stream.receive_some()


async def test_a_clean_end_is_no_truncation() -> None:
    """After the client's close_notify the end is an end, and our answer still gets through."""

    def client(sock: socket.socket) -> None:
        wrapped = Client().context().wrap_socket(sock, server_hostname="localhost")
        wrapped.sendall(b"a job")
        wrapped.unwrap().close()

    async with accepted(clear_context(), client) as stream:
        await stream.handshake(5)
        assert await read_all(stream) == b"a job"
        assert await stream.receive_some() == b""
        await stream.finish()


@pytest.mark.parametrize("version", VERSIONS)
async def test_half_close_keeps_what_the_peer_sends(version: ssl.TLSVersion) -> None:
    """Data that was under way, or half read, when we ended our half is received all the same."""
    async with pair(version) as (server, client):
        await server.send_all(b"half" + b"read")
        assert await client.receive_some(4) == b"half"
        await server.send_all(b" under way")
        await arrived(server)
        await client.send_eof()
        assert await server.receive_some() == b""
        await server.send_all(b" and late")
        await server.send_eof()
        assert await read_all(client) == b"read under way and late"
        with pytest.raises(trio.ClosedResourceError, match="ended before"):
            await client.send_all(b"x")


async def test_half_close_while_another_task_receives() -> None:
    """Ending our half disturbs nobody who waits on the same socket."""
    async with pair() as (server, client), trio.open_nursery() as nursery:

        async def receive() -> None:
            assert await client.receive_some() == b"answer"

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await client.send_eof()
        assert await server.receive_some() == b""
        await server.send_all(b"answer")


async def test_a_send_that_was_cut_off_spoils_the_stream() -> None:
    """After half a record nothing can be sent, and there is no orderly end."""
    async with pair() as (server, client):
        with trio.move_on_after(0.05) as scope:
            await server.send_all(bytes(64 << 20))
        assert scope.cancelled_caught
        with pytest.raises(trio.BrokenResourceError, match="cut off"):
            await server.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError, match="cut off"):
            await server.finish()
        with pytest.raises(trio.BrokenResourceError):
            await read_all(client)


@pytest.mark.parametrize("how", ["abort", "finish"])
async def test_closing_while_another_task_waits(how: str) -> None:
    """A task that waits for bytes is told that the stream was closed."""
    async with pair() as (server, client):

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await server.receive_some()
            told.append(True)

        told: list[bool] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            if how == "abort":
                server.abort()
            else:
                nursery.start_soon(read_all, client)
                nursery.start_soon(server.finish)
                await trio.testing.wait_all_tasks_blocked()
                client.abort()
        assert told == [True]


async def test_a_silent_client_has_a_deadline() -> None:
    """Whoever connects and says nothing is reset when the time is over."""

    def client(sock: socket.socket) -> None:
        with pytest.raises(ConnectionResetError):
            sock.recv(100)

    async with accepted(clear_context(), client) as stream:
        with pytest.raises(trio.BrokenResourceError, match="no handshake within") as caught:
            await stream.handshake(0.01)
        assert isinstance(caught.value.__cause__, TimeoutError)


async def test_a_client_without_tls_is_refused() -> None:
    """A plain request on a TLS port breaks the handshake with a reason, and is closed."""

    def client(sock: socket.socket) -> None:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        heard.append(sock.recv(100))

    heard: list[bytes] = []
    async with accepted(clear_context(), client) as stream:
        with pytest.raises(trio.BrokenResourceError, match="http request"):
            await stream.handshake(5)
    assert heard == [b""]


async def test_a_connection_reset_before_the_handshake() -> None:
    """A client that is gone already is a broken connection, not a crash."""

    def client(sock: socket.socket) -> None:
        tcp.set_reset_on_close(sock)

    async with accepted(clear_context(), client) as stream:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.handshake(5)
        assert isinstance(caught.value.__cause__, ConnectionError)


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


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_enrolled_client_is_let_in(
    listener: socket.socket, version: ssl.TLSVersion
) -> None:
    """Its certificate is known afterwards, and says who it is."""
    client, serial = enrolled()
    client.version = version

    async def serve(stream: TlsStream) -> None:
        await stream.handshake(5)
        der = stream.peer_certificate_der()
        assert der is not None
        peer = AUTHORITY.identify(der)
        assert (peer.kind, peer.name, peer.serial) == ("provider", "till-7", serial)
        await stream.finish()

    async with serving(listener, mutual_context("1"), serve) as port:
        stream = await TcpNetwork().connect_tls(
            "127.0.0.1", port, client.context(), server_hostname="localhost", timeout_s=5
        )
        assert await stream.receive_some() == b""
        await stream.finish()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_without_a_certificate_hears_so(version: ssl.TLSVersion) -> None:
    """The alert names the missing certificate (TLS 1.2 has no word for it)."""
    why, alert = await refusal(Client(), mutual_context(), version)
    assert "peer did not return a certificate" in why
    assert (
        alert
        == {
            ssl.TLSVersion.TLSv1_2: "SSLV3_ALERT_HANDSHAKE_FAILURE",
            ssl.TLSVersion.TLSv1_3: "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        }[version]
    )


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_of_another_ca_hears_so(version: ssl.TLSVersion) -> None:
    """A certificate that another CA signed is answered by unknown_ca."""
    client, _ = enrolled(make_authority())
    why, alert = await refusal(client, mutual_context(), version)
    assert "unable to get local issuer certificate" in why
    assert alert == "TLSV1_ALERT_UNKNOWN_CA"


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_expired_client_hears_so(version: ssl.TLSVersion) -> None:
    """A certificate whose days are over is answered by certificate_expired."""
    old = make_authority(NOW_US - 100 * DAY_US)
    client, _ = enrolled(old)
    why, alert = await refusal(client, mutual_context(authority=old), version)
    assert "certificate has expired" in why
    assert alert == "SSLV3_ALERT_CERTIFICATE_EXPIRED"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_revoked_client_hears_so(version: ssl.TLSVersion) -> None:
    """A revoked serial is answered by certificate_revoked; its neighbour is let in."""
    client, serial = enrolled()
    neighbour, _ = enrolled()
    context = mutual_context(serial, "ff")
    why, alert = await refusal(client, context, version)
    assert "certificate revoked" in why
    assert alert == "SSLV3_ALERT_CERTIFICATE_REVOKED"
    assert await refusal(neighbour, context, version) == ("", "")


async def test_a_server_certificate_is_no_client_certificate() -> None:
    """A certificate that was made for serving alone does not open the mutual port."""
    server_only = authorities.x509.ExtendedKeyUsage([authorities.ExtendedKeyUsageOID.SERVER_AUTH])
    key = authorities.ec.generate_private_key(authorities.ec.SECP256R1())
    ca, ca_key = AUTHORITY._signers[0]
    certificate = (
        authorities.x509.CertificateBuilder()
        .subject_name(authorities._common_name("web"))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(77)
        .not_valid_before(ca.not_valid_before_utc)
        .not_valid_after(ca.not_valid_after_utc)
        .add_extension(server_only, critical=False)
        .add_extension(authorities._authority_key(ca), critical=False)
        .sign(ca_key, authorities.hashes.SHA256())
    )
    chain = certificate.public_bytes(authorities.Encoding.PEM)
    client = Client(authorities.key_pem_of(key), chain)
    why, alert = await refusal(client, mutual_context(), ssl.TLSVersion.TLSv1_3)
    assert "unsuitable certificate purpose" in why
    assert alert == "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"


async def test_both_anchors_of_a_rollover_are_believed_and_revoked() -> None:
    """While two CAs are trusted, certificates of both open the port, and both can be revoked."""
    ca_pem, key_pem = authorities.make_ca(lambda: NOW_US)
    new_pem, new_key_pem = authorities.make_ca(lambda: NOW_US)
    before = Authority(ca_pem, key_pem, lambda: NOW_US)
    after = Authority(new_pem + ca_pem, new_key_pem + key_pem, lambda: NOW_US)
    old_client, old_serial = enrolled(before)
    new_client, new_serial = enrolled(after)
    version = ssl.TLSVersion.TLSv1_3
    for client, serial in ((old_client, old_serial), (new_client, new_serial)):
        assert await refusal(client, mutual_context(authority=after), version) == ("", "")
        why, _ = await refusal(client, mutual_context(serial, authority=after), version)
        assert "certificate revoked" in why


async def test_our_own_client_hears_the_alert_at_its_first_read(listener: socket.socket) -> None:
    """Under TLS 1.3 a refused client learns of it when it reads, in words."""
    client, serial = enrolled()

    async def serve(stream: TlsStream) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.handshake(5)

    async with serving(listener, mutual_context(serial), serve) as port:
        stream = await TcpNetwork().connect_tls("localhost", port, client.context(), timeout_s=5)
        with pytest.raises(trio.BrokenResourceError, match="peer says: certificate revoked"):
            await stream.receive_some()
        stream.abort()


async def test_a_server_that_is_not_ours_is_refused(listener: socket.socket) -> None:
    """Connecting checks who the server is, and says what is wrong with it."""
    stranger = make_authority()
    key, chain, _ = stranger.enrol_node(uuid4(), "stranger", ["localhost"])

    async def serve(stream: TlsStream) -> None:
        with pytest.raises(trio.BrokenResourceError, match="peer says: unknown ca"):
            await stream.handshake(5)

    async with serving(listener, tls.server_context(chain, key), serve) as port:
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
            await TcpNetwork().connect_tls("localhost", port, Client().context(), timeout_s=5)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_session_passes_a_revocation_by(version: ssl.TLSVersion) -> None:
    """Behind a revocation, which makes a new context, each client shows its certificate again."""
    client, _ = enrolled()
    client.version = version
    client_side = client.context()
    session: ssl.SSLSession | None = None
    for _ in range(2):
        server_side = mutual_context()
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = server_side.wrap_bio(to_server, to_client, server_side=True)
        theirs = client_side.wrap_bio(
            to_client, to_server, server_hostname="localhost", session=session
        )
        for _ in range(4):
            for side in (theirs, ours):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    pass
        with pytest.raises(ssl.SSLWantReadError):
            theirs.read()
        assert not theirs.session_reused
        session = theirs.session if theirs.session and theirs.session.id else None
        if version == ssl.TLSVersion.TLSv1_3:
            assert not (session and session.has_ticket)


def test_weak_tls_is_off() -> None:
    """Old versions, ciphers without AEAD, renegotiation and compression are not offered."""
    for context in (clear_context(), mutual_context(), tls.client_context()):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert all(cipher["aead"] for cipher in context.get_ciphers())
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION


def test_unusable_certificates_are_explained() -> None:
    """A key that does not fit, or text that is no PEM, is an error with advice."""
    other_key, _, _ = AUTHORITY.enrol("provider", uuid4(), "other", 1)
    for chain, key in ((NODE_CHAIN, other_key), (b"rubbish", NODE_KEY), (NODE_CHAIN, b"")):
        with pytest.raises(IdentityError, match="TLS certificate"):
            tls.server_context(chain, key)
    with pytest.raises(IdentityError, match="CA certificates"):
        tls.server_context(NODE_CHAIN, NODE_KEY, client_ca_pem=b"rubbish")


async def test_a_device_certificate_can_be_pinned(listener: socket.socket) -> None:
    """Without verification the certificate is taken, and can be compared with a known one."""

    async def serve(stream: TlsStream) -> None:
        await stream.handshake(5)
        await stream.finish()

    async with serving(listener, clear_context(), serve) as port:
        stream = await TcpNetwork().connect_tls(
            "127.0.0.1", port, tls.client_context(is_verified=False), timeout_s=5
        )
        assert stream.peer_certificate_der() == ssl.PEM_cert_to_DER_cert(NODE_CHAIN.decode())
        await stream.finish()


async def test_certificates_are_read_again_when_they_change(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A good file is taken, a bad one is reported and the old context stays."""
    key_file, chain_file = tmp_path / "key.pem", tmp_path / "chain.pem"

    def write(key: bytes, chain: bytes) -> None:
        key_file.write_bytes(key)
        chain_file.write_bytes(chain)

    def build() -> ssl.SSLContext:
        return tls.server_context(chain_file.read_bytes(), key_file.read_bytes())

    write(NODE_KEY, NODE_CHAIN)
    live = tls.LiveContext(build, [key_file, chain_file])
    first = live.current
    reports: list[IdentityError | None] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(live.run, reports.append)
        await trio.sleep(31)
        assert (live.current, reports) == (first, [])
        write(b"half wri", NODE_CHAIN)
        await trio.sleep(60)
        assert live.current is first
        assert len(reports) == 1
        assert isinstance(reports[0], IdentityError)
        write(*AUTHORITY.enrol_node(uuid4(), "node", ["localhost"])[:2])
        await trio.sleep(30)
        assert live.current is not first
        assert reports[1:] == [None]
        second = live.current
        live.rebuild()
        assert live.current is not second
        nursery.cancel_scope.cancel()


async def test_connecting_has_a_deadline_and_clear_errors(listener: socket.socket) -> None:
    """Nobody there, nobody by that name, nobody who answers in time."""
    network = TcpNetwork()
    host, port = listener.getsockname()
    with listener, pytest.raises(TimeoutError, match="no handshake"):
        await network.connect_tls(host, port, Client().context(), timeout_s=0.05)
    with pytest.raises(ConnectionRefusedError):
        await network.connect(host, port, timeout_s=5)
    with pytest.raises(OSError, match="no host name"):
        await network.connect("", port, timeout_s=5)
    with pytest.raises(socket.gaierror):
        await network.connect("no-such-host.invalid", port, timeout_s=5)


async def test_a_connected_stream_carries_what_accepted_ones_do(listener: socket.socket) -> None:
    """Reset on close, no delay, keep-alive; and the name of the peer."""
    host, port = listener.getsockname()
    stream = await TcpNetwork().connect(host, port, timeout_s=5)
    sock = stream.socket
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == tcp.RESET
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert stream.peer == f"127.0.0.1:{port}"
    stream.abort()


async def test_source_ports_are_tried_in_turn(listener: socket.socket) -> None:
    """A connection comes from the first free port of the range; none left is an error."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        base = probe.getsockname()[1]
        ports = range(base, base + 3)
        host, port = listener.getsockname()
        network = TcpNetwork()
        first = await network.connect(host, port, timeout_s=5, source_ports=ports)
        assert first.socket.getsockname()[1] in ports[1:]
        with pytest.raises(OSError, match="all in use"):
            await network.connect(host, port, timeout_s=5, source_ports=range(base, base + 1))
        first.abort()


async def test_the_address_that_answers_is_taken(listener: socket.socket) -> None:
    """When the first address refuses, the next is tried at once; when all do, all are named."""
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))  # it never listens
    refusing = (socket.AF_INET, closed.getsockname())
    with closed, listener:
        answering = (socket.AF_INET, listener.getsockname())
        stream = await connect._connect_first([refusing, answering], None, stagger_s=60)
        assert stream.peer == tcp.peer_name(answering[1])
        stream.abort()
    with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1:\d+: .*; 127"):
        await connect._connect_first([refusing, answering], None)


def test_families_take_turns() -> None:
    """Addresses of both families are mixed, starting with the resolver's first, each once."""
    six = [(socket.AF_INET6, ("2001:db8::1", 1)), (socket.AF_INET6, ("2001:db8::2", 1))]
    four = [(socket.AF_INET, ("192.0.2.1", 1))]
    mixed = connect._alternate([*six, *four, six[0]])
    assert mixed == [six[0], four[0], six[1]]


async def test_connecting_to_a_unix_socket_of_any_length(tmp_path: Path) -> None:
    """The control socket is reached by its path, however long."""
    folder = tmp_path.joinpath(*["d" * 60] * 3)
    folder.mkdir(parents=True)
    with listen.bind_unix(folder / "control") as listener:
        stream = await connect.connect_unix(folder / "control", timeout_s=5)
        connection, _ = listener.accept()
        assert listen.peer_credentials(connection).pid == os.getpid()
        connection.close()
        assert await stream.receive_some() == b""
        stream.abort()
    with pytest.raises(ConnectionRefusedError):
        await connect.connect_unix(folder / "control", timeout_s=5)
