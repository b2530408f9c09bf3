"""How many connections a listener takes, and clients behind a load balancer."""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pytest
import trio
import trio.testing

from spoold.codec.proxy import SIGNATURE
from spoold.intake.listener import Listener, Rules, counted
from spoold.model.principal import Port
from spoold.net import tls
from support.listening import Limits, answer, anybody
from support.waiting import wait_until


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
    await wait_until(lambda: house.seen)
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
        sock.settimeout(30)
        sock.sendall(proxied("192.0.2.7"))
        ours = tls.client_context(ca_pem=ca_pem)
        with ours.wrap_socket(sock, server_hostname="localhost") as wrapped:
            wrapped.sendall(b"%!PS over TLS")
            wrapped.unwrap()

    sock = socket.socket(fileno=client.detach())
    sock.setblocking(True)
    await trio.to_thread.run_sync(speak, sock)
    await wait_until(lambda: house.seen)
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


async def test_a_balancer_may_look_whether_we_live(house):
    """Without a byte it is let go; half a header has a deadline."""
    house.listener.limits = Limits(header_deadline_s=0.05)
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
    await wait_until(lambda: len(house.seen) == 4)
    client = await house.connect(source="127.0.0.2")
    await client.send(proxied("192.0.2.7") + b"%")
    assert await answer(client) == (b"", "reset")
    assert house.refused == ["connection_limit_reached"]
    assert house.listener._by_address == {"192.0.2.7": 2, "192.0.2.8": 1, "192.0.2.9": 1}


async def test_one_too_many_from_an_address_is_reset_and_others_are_not(house):
    """One client cannot take every place; when it leaves it may come again."""
    house.listener.limits = Limits(connections_per_address_max=2)
    await house.start()
    first, second = await house.connect(), await house.connect()
    await wait_until(lambda: house.listener.connections == 2)
    assert await house.is_refused()
    other = await house.connect(source="127.0.0.2")
    await wait_until(lambda: house.listener.connections == 3)
    assert house.refused == ["connection_limit_reached"]
    first.close()
    await wait_until(lambda: house.listener.connections == 2)
    third = await house.connect()
    await wait_until(lambda: house.listener.connections == 3)
    for client in (second, third, other):
        client.close()
    await house.nobody_is_left()


async def test_an_exempt_network_has_the_common_limit_only(house):
    """A print server on one address sends for many."""
    exempt = (ipaddress.ip_network("127.0.0.0/30"),)
    house.listener.limits = Limits(connections_max=3, connections_per_address_max=1, exempt=exempt)
    await house.start()
    clients = [await house.connect() for _ in range(3)]
    await wait_until(lambda: house.listener.connections == 3)
    assert await house.is_refused()
    for client in clients:
        client.close()
    await house.nobody_is_left()


async def test_a_flood_does_not_lock_the_operator_out(house):
    """The control socket is counted by itself."""
    house.listener.limits = Limits(connections_max=2)
    await house.start(Rules(Port.CLEAR, anybody), Rules(Port.CONTROL, anybody))
    clients = [await house.connect() for _ in range(2)]
    await wait_until(lambda: house.listener.connections == 2)
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
