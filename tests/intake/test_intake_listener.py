"""The one accept path: what is spoken, who is one too many, who waits too long, how it stops."""

from __future__ import annotations

import gc
import ipaddress
import socket
import ssl
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from uuid import uuid4

import pytest
import trio
import trio.testing

from spoold.codec.proxy import SIGNATURE
from spoold.codec.raw import Protocol
from spoold.intake import deadlines, raw
from spoold.intake.acceptance import Acceptance
from spoold.intake.listener import Listener, Rules, counted
from spoold.intake.raw import Ending, serve_raw
from spoold.model.errors import OperationError, RemoteProtocolError, SpoolError, StoreFailed
from spoold.model.job import JobState
from spoold.model.principal import Port, Principal
from spoold.net import listen, tls
from spoold.spool.store import JobFilter
from support import limits


@dataclass(frozen=True)
class Limits(limits.Limits):
    connections_max: int = 100
    connections_per_address_max: int = 100
    exempt: tuple = ()
    handshake_deadline_s: float = 30.0
    header_deadline_s: float = 0.05
    idle_deadline_s: float = 30.0


async def anybody(stream):
    return Principal("address:" + stream.peer.rpartition(":")[0], Port.CLEAR)


class House:
    """A listener on loopback, and what its handlers saw."""

    def __init__(self, nursery, tmp_path, limits=Limits()):
        self.refused = []
        self.seen = []
        self.failure = None
        self.listener = Listener(
            dict.fromkeys((Protocol.RAW, Protocol.FRAMES, Protocol.HTTP), self.handle),
            limits,
            lambda event, peer: self.refused.append(event),
        )
        self.nursery = nursery
        self.clients = []
        self.path = tmp_path / "control"

    async def start(self, *rules):
        sockets = []
        for one in rules or (Rules(Port.CLEAR, anybody),):
            if one.port is Port.CONTROL:
                sockets.append((listen.bind_unix(self.path), one))
            else:
                sockets.append((listen.bind("127.0.0.1:0")[0], one))
        await self.nursery.start(self.listener.run, sockets)
        self.addresses = [sock.getsockname() for sock, _ in sockets]

    async def handle(self, opening):
        self.seen.append((opening.head, opening.is_ended))
        if self.failure is not None:
            raise self.failure
        if not opening.is_ended:
            while await opening.stream.receive_some():
                pass
        await opening.stream.finish()

    async def connect(self, number=0, source="127.0.0.1"):
        address = self.addresses[number]
        if isinstance(address, str):
            client = trio.socket.socket(socket.AF_UNIX)
        else:
            client = trio.socket.socket()
            await client.bind((source, 0))
        self.clients.append(client)
        await client.connect(address)
        return client

    async def is_refused(self):
        try:
            return await answer(await self.connect()) == (b"", "reset")
        except ConnectionResetError:
            return True  # it was quicker than our connect

    def close(self):
        for client in self.clients:
            client.close()

    async def until(self, is_true):
        with trio.fail_after(30):
            while not is_true():  # noqa: ASYNC110 - what is asked of has no event
                await trio.sleep(0.001)

    async def nobody_is_left(self):
        listener = self.listener
        await self.until(lambda: listener.connections == 0)
        assert set(listener.by_port.values()) == {0}
        assert listener._by_address == {}
        assert listener._by_identity == {}
        assert not listener.deadlines._watches


@pytest.fixture
async def house(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "LOOK_INTERVAL_S", 0.01)
    monkeypatch.setattr(deadlines, "FRESH_S", 0.0)
    made = House(nursery, tmp_path)
    yield made
    made.close()
    nursery.cancel_scope.cancel()


async def answer(client):
    """What the client sees until the end, and whether the end was an orderly one."""
    found = b""
    with trio.fail_after(30):
        while True:
            try:
                data = await client.recv(4096)
            except ConnectionResetError:
                return found, "reset"
            if not data:
                return found, "fin"
            found += data


async def test_a_connection_that_has_ended_is_gone_at_once(house):
    """Nothing of it waits for the collector of cycles: a node serves thousands a second."""
    await house.start()
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            client = await house.connect()
            await client.send(b"a job")
            client.shutdown(socket.SHUT_WR)
            assert await answer(client) == (b"", "fin")
        await house.nobody_is_left()
        assert not [one for one in gc.get_objects() if type(one) is deadlines.Watch]
    finally:
        gc.enable()


# -- behind a load balancer ------------------------------------------------------------------------


def proxied(source: str, port: int = 4711) -> bytes:
    """What a load balancer sends first (PROXY protocol, version 2)."""
    packed = ipaddress.ip_address(source).packed * 2 + struct.pack(">HH", port, 9191)
    kind = 0x11 if len(packed) == 12 else 0x21
    return SIGNATURE + struct.pack(">BBH", 0x21, kind, len(packed)) + packed


BALANCER = (ipaddress.ip_network("127.0.0.2/32"),)
BEHIND = Rules(Port.CLEAR, anybody, proxy_from=BALANCER)


@pytest.mark.parametrize("source", ["192.0.2.7", "2001:db8::7"])
async def test_a_client_behind_a_balancer_is_who_it_says(house, source):
    """The balancer's word names the client, for the principal, the log and the limits."""
    peers = []

    async def identify(stream):
        peers.append(stream.peer)
        return await anybody(stream)

    await house.start(replace(BEHIND, identify=identify))
    client = await house.connect(source="127.0.0.2")
    for byte in proxied(source) + b"%!PS":
        await client.send(bytes([byte]))
    await house.until(lambda: house.seen)
    assert set(house.listener._by_address) == {counted(source)}
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == (b"", "fin")
    assert peers == ["192.0.2.7:4711" if "." in source else "[2001:db8::7]:4711"]
    assert house.seen[0][0].startswith(b"%")
    await house.nobody_is_left()


async def test_tls_begins_behind_the_header(house):
    """No byte of the handshake is taken for the header's."""
    from spoold.daemon import authority

    def now_us():
        return time.time_ns() // 1000

    ca_pem, key_pem = authority.make_ca(now_us)
    issuer = authority.Authority(ca_pem, key_pem, now_us)
    key, chain, _ = issuer.enrol_node(uuid4(), "node", ["localhost"])
    context = tls.server_context(chain, key)
    await house.start(replace(BEHIND, port=Port.TLS, context=lambda: context))
    client = await house.connect(source="127.0.0.2")

    def speak(sock):
        sock.settimeout(5)
        sock.sendall(proxied("192.0.2.7"))
        ours = tls.client_context(ca_pem=ca_pem)
        with ours.wrap_socket(sock, server_hostname="localhost") as wrapped:
            wrapped.sendall(b"%!PS over TLS")
            wrapped.unwrap()

    sock = socket.socket(fileno=client.detach())
    sock.setblocking(True)
    await trio.to_thread.run_sync(speak, sock)
    await house.until(lambda: house.seen)
    assert house.seen[0][0].startswith(b"%!PS")


@pytest.mark.parametrize(
    ("source", "data"),
    [
        ("127.0.0.2", b"%!PS without a header, which a balancer may not forget"),
        ("127.0.0.2", b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 9191\r\n%!PS"),
        ("127.0.0.2", SIGNATURE[:7]),
        ("127.0.0.1", proxied("192.0.2.7") + b"%!PS"),
    ],
)
async def test_a_header_where_none_may_be_or_none_where_one_must(house, source, data):
    """Neither becomes a job, and the sender sees a reset; a listed balancer is never guessed at."""
    await house.start(BEHIND)
    client = await house.connect(source=source)
    await client.send(data)
    with suppress(OSError):  # the reset may be here already
        client.shutdown(socket.SHUT_WR)
    assert await answer(client) == (b"", "reset")
    await house.nobody_is_left()
    assert house.seen == []


async def test_a_balancer_may_look_whether_we_live(house, monkeypatch):
    """Without a byte it is let go; half a header has a deadline."""
    await house.start(BEHIND)
    client = await house.connect(source="127.0.0.2")
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == (b"", "fin")
    client = await house.connect(source="127.0.0.2")
    await client.send(SIGNATURE)
    assert await answer(client) == (b"", "reset")
    client = await house.connect(source="127.0.0.2")
    await client.send(SIGNATURE + b"\x20\x00\x00\x00" + b"%!PS")  # it speaks for itself
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == (b"", "fin")
    assert len(house.seen) == 1


async def test_the_limit_of_an_address_is_the_clients_not_the_balancers(house):
    """Many clients come through one balancer; one of them does not crowd the others out."""
    house.listener.limits = replace(house.listener.limits, connections_per_address_max=2)
    await house.start(BEHIND)
    for source in ("192.0.2.7", "192.0.2.7", "192.0.2.8", "192.0.2.9"):
        client = await house.connect(source="127.0.0.2")
        await client.send(proxied(source) + b"%")
    await house.until(lambda: len(house.seen) == 4)
    client = await house.connect(source="127.0.0.2")
    await client.send(proxied("192.0.2.7") + b"%")
    assert await answer(client) == (b"", "reset")
    assert house.refused == ["connection_limit_reached"]
    assert house.listener._by_address == {"192.0.2.7": 2, "192.0.2.8": 1, "192.0.2.9": 1}


# -- who speaks what -------------------------------------------------------------------------------

TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(400)


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (TLS_HELLO, b"\x15\x03\x01\x00\x02\x02\x46"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 505 HTTP Version Not Supported\r\n"),
        (b"GET /healthz HTTP/9.9\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"OPTIONS sip:nm SIP/2.0\r\nVia: x\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
    ],
)
@pytest.mark.parametrize("is_dripped", [False, True])
async def test_what_is_not_spoken_here_is_answered_and_no_job(house, said, answered, is_dripped):
    """In the sender's own terms, with an orderly end, also when it comes a byte at a time."""
    await house.start()
    client = await house.connect()
    if is_dripped:
        for byte in said[:24]:
            await client.send(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        said = said[24:]
    await client.send(said)
    client.shutdown(socket.SHUT_WR)
    found, end = await answer(client)
    assert (found[: len(answered)], end) == (answered, "fin")
    assert house.seen == []
    await house.nobody_is_left()


async def test_nothing_is_no_job_and_no_fault(house):
    """A port scan or a health check that only connects."""
    await house.start()
    client = await house.connect()
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == (b"", "fin")
    assert (house.seen, house.refused) == ([], [])
    await house.nobody_is_left()


@pytest.mark.parametrize("said", [b"P", b"GE", b"\x00SPOO", b"\x16", b"POST OFFICE"])
async def test_a_head_that_never_becomes_whole_has_a_deadline(house, said):
    """Who begins and stops is reset soon; who says nothing may wait longer."""
    await house.start()
    quiet, client = await house.connect(), await house.connect()
    await client.send(said)
    assert await answer(client) == (b"", "reset")
    await house.until(lambda: house.listener.connections == 1)
    quiet.close()
    await house.nobody_is_left()
    assert house.seen == []


async def test_a_first_line_that_ends_early_is_a_job(house):
    """Three letters and the sender's end: it is what it is, and was not cut by us."""
    await house.start()
    client = await house.connect()
    await client.send(b"GET")
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == (b"", "fin")
    assert house.seen == [(b"GET", True)]


async def test_a_pause_while_guessing_is_not_the_senders_end(house):
    """Where a pause ends a job it ends the guessing; the sender keeps its connection."""
    await house.start(Rules(Port.CLEAR, anybody, ending=Ending("idle", 0.02)))
    client = await house.connect()
    await client.send(b"PO")
    await house.until(lambda: house.seen)
    assert house.seen == [(b"PO", False)]
    client.close()
    await house.nobody_is_left()


# -- limits ----------------------------------------------------------------------------------------


async def test_one_too_many_from_an_address_is_reset_and_others_are_not(house):
    """One client cannot take every place; when it leaves it may come again."""
    house.listener.limits = Limits(connections_per_address_max=2)
    await house.start()
    first, second = await house.connect(), await house.connect()
    await house.until(lambda: house.listener.connections == 2)
    assert await house.is_refused()
    other = await house.connect(source="127.0.0.2")
    await house.until(lambda: house.listener.connections == 3)
    assert house.refused == ["connection_limit_reached"]
    first.close()
    await house.until(lambda: house.listener.connections == 2)
    third = await house.connect()
    await house.until(lambda: house.listener.connections == 3)
    for client in (second, third, other):
        client.close()
    await house.nobody_is_left()


async def test_an_exempt_network_has_the_common_limit_only(house):
    """A print server on one address sends for many."""
    exempt = (ipaddress.ip_network("127.0.0.0/30"),)
    house.listener.limits = Limits(connections_max=3, connections_per_address_max=1, exempt=exempt)
    await house.start()
    clients = [await house.connect() for _ in range(3)]
    await house.until(lambda: house.listener.connections == 3)
    assert await house.is_refused()
    for client in clients:
        client.close()
    await house.nobody_is_left()


async def test_a_flood_does_not_lock_the_operator_out(house):
    """The control socket is counted by itself."""
    house.listener.limits = Limits(connections_max=2)
    await house.start(Rules(Port.CLEAR, anybody), Rules(Port.CONTROL, anybody))
    clients = [await house.connect() for _ in range(2)]
    await house.until(lambda: house.listener.connections == 2)
    assert await house.is_refused()
    operator = await house.connect(1)
    await operator.send(b"%!")
    operator.shutdown(socket.SHUT_WR)
    assert await answer(operator) == (b"", "fin")
    assert len(house.seen) == 1
    for client in clients:
        client.close()
    await house.nobody_is_left()


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_an_ipv6_customer_is_one_address(host, key):
    """A /64 is what one household gets: its 2**64 addresses count as one."""
    assert counted(host) == key


def test_a_mapped_address_is_exempt_as_the_ipv4_one(tmp_path):
    """A dual-stack socket does not take an exemption away."""
    limits = Limits(exempt=(ipaddress.ip_network("192.0.2.0/24"),))
    listener = Listener({}, limits, lambda event, peer: None)
    assert listener._is_exempt("::ffff:192.0.2.7")
    assert listener._is_exempt("192.0.2.7")
    assert not listener._is_exempt("2001:db8::1")


# -- what handlers raise ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        RemoteProtocolError("nonsense"),
        OperationError("not-found", "no such printer."),
        SpoolError("write", "a document", "quota", "Ask for more."),
        trio.TooSlowError(),
        ZeroDivisionError(),
        ExceptionGroup("tasks", [OperationError("busy", "busy.")]),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_a_handler_that_fails_costs_its_own_connection(house, failure):
    """The client sees a reset, the next one is served."""
    await house.start()
    house.failure = failure
    client = await house.connect()
    await client.send(b"%!")
    assert await answer(client) == (b"", "reset")
    house.failure = None
    client = await house.connect()
    await client.send(b"%!")
    client.shutdown(socket.SHUT_WR)
    assert await answer(client) == (b"", "fin")
    await house.nobody_is_left()


@pytest.mark.parametrize("is_grouped", [False, True])
async def test_a_failed_store_stops_the_listener(tmp_path, is_grouped):
    """Also out of a task that a handler started."""
    failure: Exception = StoreFailed("sync", "a document", "EIO", "Check the disk.")
    if is_grouped:
        failure = ExceptionGroup("tasks", [ExceptionGroup("more", [failure])])

    async def serve():
        async with trio.open_nursery() as nursery:
            house = House(nursery, tmp_path)
            await house.start()
            house.failure = failure
            client = await house.connect()
            await client.send(b"%!")
            await answer(client)
            client.close()

    with pytest.raises(ExceptionGroup) as raised, trio.fail_after(30):
        await serve()
    assert raised.group_contains(StoreFailed)


# -- stopping --------------------------------------------------------------------------------------


async def test_stopping_closes_quiet_connections_and_waits_for_busy_ones(house):
    """What has begun may end; a client that says nothing, in TLS too, delays nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    rules = Rules(Port.CLEAR, anybody), Rules(Port.TLS, anybody, lambda: context)
    await house.start(*rules)
    quiet, shaking, busy = await house.connect(), await house.connect(1), await house.connect()
    await busy.send(b"%!")
    await house.until(lambda: house.seen and house.listener.connections == 3)
    house.listener.stop_nowait()
    assert await answer(quiet) == (b"", "reset")
    assert await answer(shaking) == (b"", "reset")
    with pytest.raises(OSError, match="refused"):
        await house.connect()
    assert not house.listener.ended.is_set()
    busy.shutdown(socket.SHUT_WR)
    assert await answer(busy) == (b"", "fin")
    with trio.fail_after(30):
        await house.listener.ended.wait()
    await house.nobody_is_left()


@pytest.mark.parametrize("ending", [Ending(), Ending("idle", 0.3)], ids=lambda one: one.kind)
async def test_stopping_lets_a_raw_job_on_a_port_of_its_own_end(spool, house, ending):
    """An upload that is under way on a `listen.raw` port is no quiet connection."""
    await spool.add_printer()
    acceptance = Acceptance(
        spool.journal, spool.reader, spool.documents, Limits(), spool.wall_clock
    )
    await acceptance.start()

    async def handle(one):
        principal = one.principal
        house.seen.append(one)
        args = one.head, one.is_ended, "default", ending, principal, acceptance, Limits()
        await serve_raw(one.stream, *args, one.watch)

    house.listener._handlers[Protocol.RAW] = handle
    await house.start(Rules(Port.CLEAR, anybody, ending=ending, only=Protocol.RAW))
    quiet, busy = await house.connect(), await house.connect()
    await busy.send(b"%!PS the first half")
    await house.until(lambda: len(house.seen) == 2 and not house.seen[1].watch.is_quiet)
    house.listener.stop_nowait()
    assert await answer(quiet) == (b"", "reset")
    await busy.send(b", and the second")
    busy.shutdown(socket.SHUT_WR)
    assert await answer(busy) == (b"", "fin")
    (job,) = await spool.reader.jobs(JobFilter())
    assert job.state is JobState.PENDING
    body = await spool.reader.document_body(job.id)
    assert body == b"%!PS the first half, and the second"
    await house.nobody_is_left()


async def test_who_came_just_before_the_stop_is_served(house, monkeypatch):
    """A client that was let in knows nothing of the stop, and may still begin."""
    monkeypatch.setattr(deadlines, "FRESH_S", 60.0)
    await house.start(Rules(Port.CLEAR, anybody))
    fresh = await house.connect()
    await house.until(lambda: house.listener.connections == 1)
    house.listener.stop_nowait()
    await fresh.send(b"%!PS")
    fresh.shutdown(socket.SHUT_WR)
    assert await answer(fresh) == (b"", "fin")
    assert house.seen == [(b"%!PS", False)]
    with trio.fail_after(30):
        await house.listener.ended.wait()


async def test_who_came_just_before_the_stop_and_is_silent_is_not_waited_for_long(
    house, monkeypatch
):
    """It is closed as soon as it is not fresh any more; no deadline of its own matters."""
    monkeypatch.setattr(deadlines, "FRESH_S", 0.3)
    await house.start(Rules(Port.CLEAR, anybody))
    silent = await house.connect()
    await house.until(lambda: house.listener.connections == 1)
    house.listener.stop_nowait()
    assert await answer(silent) == (b"", "reset")
    with trio.fail_after(30):
        await house.listener.ended.wait()


async def test_counters_return_to_zero_after_every_kind_of_end(house):
    """Resets, ends, limits, deadlines and refusals: none of them keeps a place."""
    house.listener.limits = Limits(connections_max=30, connections_per_address_max=20)
    await house.start()
    clients = []
    for number in range(40):
        client = await house.connect(source=f"127.0.0.{1 + number % 3}")
        clients.append(client)
        try:
            await client.send((b"%!", b"GE", b"", TLS_HELLO, b"GET / HTTP/9\r\n\r\n")[number % 5])
            if number % 4 == 0:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            elif number % 4 == 1:
                client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one too many
    await house.until(lambda: house.listener.connections <= 30)
    for client in clients:
        client.close()
    await house.nobody_is_left()


async def test_a_revoked_certificate_cuts_its_connections(house):
    """By the identity that it opened them with, and no others."""

    async def certified(stream):
        return replace(await anybody(stream), identity="provider:7", port=Port.MUTUAL)

    await house.start(Rules(Port.MUTUAL, certified), Rules(Port.CLEAR, anybody))
    one, other = await house.connect(0), await house.connect(1)
    for client in (one, other):
        await client.send(b"%!")
    await house.until(lambda: len(house.seen) == 2)
    house.listener.cut("provider:7")
    assert await answer(one) == (b"", "reset")
    other.shutdown(socket.SHUT_WR)
    assert await answer(other) == (b"", "fin")
    await house.nobody_is_left()


async def test_silence_on_a_raw_port_is_told_as_what_it_is(spool, house, monkeypatch):
    """The watch that closes a connection is what the handler asks why it is closed."""
    await spool.add_printer()
    limits = Limits(idle_deadline_s=0.4)
    acceptance = Acceptance(spool.journal, spool.reader, spool.documents, limits, spool.wall_clock)
    await acceptance.start()

    async def handle(one):
        args = one.head, one.is_ended, "default", raw.Ending(), one.principal, acceptance, limits
        await serve_raw(one.stream, *args, one.watch)

    house.listener._handlers[Protocol.RAW] = handle
    house.listener.limits = limits
    await house.start(Rules(Port.CLEAR, anybody, only=Protocol.RAW))
    silent, stopped = await house.connect(), await house.connect()
    await stopped.send(b"half")
    assert await answer(silent) == (b"", "reset")
    assert await answer(stopped) == (b"", "reset")
    await house.nobody_is_left()
    (job,) = await spool.reader.jobs(JobFilter())
    assert (job.state, job.document.size) == (JobState.PENDING_HELD, 4)


def test_frames_and_lpd_are_nobody_elses_to_close():
    """They have deadlines of their own, and end by themselves when the daemon stops."""
    from spoold.daemon.doors import _let_handler_watch

    watch = deadlines.Watch(SimpleNamespace(), 1.0)
    _let_handler_watch(SimpleNamespace(watch=watch))
    assert (watch.deadline, watch.is_quiet) == (float("inf"), False)
