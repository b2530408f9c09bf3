"""Listeners: who speaks what, what handlers raise, and what is closed when a daemon stops."""

from __future__ import annotations

import gc
import socket
import ssl
import struct
from dataclasses import replace
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from spoold.codec.raw import Protocol
from spoold.intake import deadlines, raw
from spoold.intake.acceptance import Acceptance
from spoold.intake.listener import Rules
from spoold.intake.raw import Ending, serve_raw
from spoold.model.errors import OperationError, RemoteProtocolError, SpoolError, StoreFailed
from spoold.model.job import JobState
from spoold.model.principal import Port
from spoold.spool.store import JobFilter
from support.listening import House, Limits, answer, anybody
from support.waiting import wait_until


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
    house.listener.limits = Limits(header_deadline_s=0.05)
    await house.start()
    quiet, client = await house.connect(), await house.connect()
    await client.send(said)
    assert await answer(client) == (b"", "reset")
    await wait_until(lambda: house.listener.connections == 1)
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
    await wait_until(lambda: house.seen)
    assert house.seen == [(b"PO", False)]
    client.close()
    await house.nobody_is_left()


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


async def test_stopping_closes_quiet_connections_and_waits_for_busy_ones(house):
    """What has begun may end; a client that says nothing, in TLS too, delays nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    rules = Rules(Port.CLEAR, anybody), Rules(Port.TLS, anybody, lambda: context)
    await house.start(*rules)
    quiet, shaking, busy = await house.connect(), await house.connect(1), await house.connect()
    await busy.send(b"%!")
    await wait_until(lambda: house.seen and house.listener.connections == 3)
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
    await wait_until(lambda: len(house.seen) == 2 and not house.seen[1].watch.is_quiet)
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
    await wait_until(lambda: house.listener.connections == 1)
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
    await wait_until(lambda: house.listener.connections == 1)
    house.listener.stop_nowait()
    assert await answer(silent) == (b"", "reset")
    with trio.fail_after(30):
        await house.listener.ended.wait()


async def test_counters_return_to_zero_after_every_kind_of_end(house):
    """Resets, ends, limits, deadlines and refusals: none of them keeps a place."""
    house.listener.limits = Limits(connections_max=30, connections_per_address_max=20)
    await house.start()
    for number in range(40):
        try:
            client = await house.connect(source=f"127.0.0.{1 + number % 3}")
            await client.send((b"%!", b"GE", b"", TLS_HELLO, b"GET / HTTP/9\r\n\r\n")[number % 5])
            if number % 4 == 0:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            elif number % 4 == 1:
                client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one too many
    await wait_until(lambda: house.listener.connections <= 30)
    house.close()
    await house.nobody_is_left()


async def test_a_revoked_certificate_cuts_its_connections(house):
    """By the identity that it opened them with, and no others."""

    async def certified(stream):
        return replace(await anybody(stream), identity="provider:7", port=Port.MUTUAL)

    await house.start(Rules(Port.MUTUAL, certified), Rules(Port.CLEAR, anybody))
    one, other = await house.connect(0), await house.connect(1)
    for client in (one, other):
        await client.send(b"%!")
    await wait_until(lambda: len(house.seen) == 2)
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
