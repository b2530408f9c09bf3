"""The provider when servers fail: resume, fail-over, lost answers, and never a second job."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from uuid import uuid4

import pytest
import trio
import trio.testing

from spoold.codec import frame
from spoold.model.errors import OperationError
from spoold.net.listen import accept_loop, bind
from spoold.provider import connection, course, line, racing, servers
from spoold.provider.client import Provider
from spoold.provider.course import EAGER_BYTES_MAX
from spoold.provider.receipt import AnswerUnknown, SubmitRefused, Unreachable
from spoold.spool.store import PutPrinter
from support.serving import LARGE


async def test_an_upload_resumes_where_it_was_cut(one, provider):
    """After a cut in mid-upload only the rest is sent again."""
    one.cut_after = 1_500_000
    async with provider(one) as client:
        receipt = await client.submit(LARGE, printer="default", title="cut")
    assert (receipt.endpoint, one.connections) == (one.endpoint, 2)
    assert await one.bodies() == {"cut": LARGE}
    assert one.bytes_in < len(LARGE) + 800_000


@pytest.mark.slow
async def test_fail_over_in_the_middle_of_an_upload(one, two, provider):
    """A server that dies in mid-upload is left for the next; there the job starts at 0."""

    body = LARGE * 8  # more than the buffers of a connection hold

    def die(done, size):
        if done > 1_000_000:
            one.close()

    async with provider(one, two) as client:
        receipt = await client.submit(body, printer="default", title="x", progress=die)
        assert client.current == two.endpoint
    assert (receipt.endpoint, receipt.unknown) == (two.endpoint, ())
    assert (await one.count(), await two.bodies()) == (0, {"x": body})


async def test_a_lost_answer_is_asked_for_again_where_it_was_lost(one, two, provider):
    """The server that got the whole job is asked first; the other never hears of it."""
    one.answers_to_lose = 2
    async with provider(one, two) as client:
        receipt = await client.submit(b"body", printer="default")
    assert (receipt.endpoint, receipt.is_duplicate, receipt.unknown) == (one.endpoint, True, ())
    assert (await one.count(), await two.count(), two.connections) == (1, 0, 0)


@pytest.mark.slow
async def test_a_lost_answer_of_a_dead_server_is_told_in_the_receipt(one, two, provider):
    """When the first server stays away, the next gets the job, and the receipt says the risk."""
    one.answers_to_lose, one.dies_then = 1, True
    async with provider(one, two, doubt_timeout_s=0.3) as client:
        receipt = await client.submit(b"body", printer="default")
    assert (receipt.endpoint, receipt.unknown) == (two.endpoint, (one.endpoint,))
    assert (await one.count(), await two.count()) == (1, 1)


@pytest.mark.slow
async def test_a_lost_answer_without_another_server_is_an_error_of_its_own(
    one, provider, monkeypatch
):
    """Nobody claims that nothing was accepted when something was."""
    monkeypatch.setattr(servers, "DOWN_S", 0.0)  # the second job is not told how the first one went
    one.answers_to_lose, one.dies_then = 1, True
    uuid = uuid4()
    async with provider(one, doubt_timeout_s=0.1, unreachable_timeout_s=0.2) as client:
        with pytest.raises(AnswerUnknown, match="answer was lost") as unknown:
            await client.submit(b"body", printer="default", job_uuid=uuid)
        assert (unknown.value.endpoints, unknown.value.job_uuid) == ((one.endpoint,), uuid)
        one.open()
        receipt = await client.submit(b"body", printer="default", job_uuid=uuid)
    assert receipt.is_duplicate
    assert await one.count() == 1


async def test_a_refusal_elsewhere_does_not_hide_a_lost_answer(one, two, provider):
    """A printer that the second server does not know is no proof about the first one."""
    await one.spool.add_printer("only-here")
    one.answers_to_lose, one.dies_then = 1, True
    async with provider(one, two, doubt_timeout_s=0.1) as client:
        with pytest.raises(AnswerUnknown, match="another server refused"):
            await client.submit(b"body", printer="only-here")


@pytest.mark.slow
async def test_the_deadline_bounds_everything(one, provider):
    """A server that takes bytes and never answers costs no more than the deadline."""
    started = trio.current_time()
    async with provider(one) as client:
        await client.call("ping", {})
        one.acceptance.begin = never
        with pytest.raises(Unreachable, match="no answer within"):
            await client.submit(LARGE, printer="default", timeout_s=0.2)
    assert trio.current_time() - started < 10


async def never(*args):
    await trio.sleep_forever()


async def test_nobody_there(one, two, provider):
    """Unreachable says why, for each endpoint, and which job it was."""
    one.close()
    two.close()
    await trio.testing.wait_all_tasks_blocked()
    uuid = uuid4()
    async with provider(one, two, unreachable_timeout_s=0.0) as client:
        with pytest.raises(Unreachable, match="refused") as unreachable:
            await client.submit(b"body", printer="default", job_uuid=uuid)
        with pytest.raises(Unreachable, match="refused"):
            await client.call("echo", {})
    assert set(unreachable.value.causes) == {one.endpoint, two.endpoint}
    assert unreachable.value.job_uuid == uuid


@pytest.mark.parametrize("silences", [1, 2])
async def test_beside_a_server_that_says_nothing_the_next_is_tried(
    two, face, silences, monkeypatch
):
    """Connected is not welcomed: long before its deadline another one has the job."""
    for module in (servers, racing):
        monkeypatch.setattr(module, "HEAD_START_S", 0.05)
    with ExitStack() as stack, trio.fail_after(30):
        silent = [stack.enter_context(bind("127.0.0.1:0")[0]) for _ in range(silences)]
        names = [f"127.0.0.1:{one.getsockname()[1]}" for one in silent]
        async with face([*names, two.endpoint], connect_timeout_s=1000) as client:
            receipt = await client.submit(b"body", printer="default")
            assert client.current == two.endpoint
            assert await client.call("echo", {"x": 1}) == {"x": 1}
    assert (receipt.endpoint, two.connections, await two.count()) == (two.endpoint, 1, 1)


async def test_a_slow_server_without_a_rival_has_its_time(one, two, face, monkeypatch):
    """Those tried beside it refuse the connection: it is waited for as long as it may take."""
    for module in (servers, racing):
        monkeypatch.setattr(module, "HEAD_START_S", 0.01)
    two.close()
    serve = one.serve

    async def serve_late(stream):
        await trio.sleep(0.1)
        await serve(stream)

    one.serve = serve_late
    async with face([one.endpoint, two.endpoint]) as client:
        receipt = await client.submit(b"body", printer="default")
    assert (receipt.endpoint, await one.count()) == (one.endpoint, 1)


@pytest.mark.slow
@pytest.mark.parametrize("body", [LARGE * 8, b"body"], ids=["large", "small"])
async def test_a_server_that_falls_silent_in_an_upload_is_left_at_once(
    two, face, body, monkeypatch
):
    """Nobody waits for three of its pings, nor is there any doubt that it has not the job."""
    for module in (connection, line):
        monkeypatch.setattr(module, "FRESH_S", 0)  # as on a connection that was idle
        monkeypatch.setattr(module, "UPLOAD_PING_S", 0.05)
    welcome = {"version": 1, "node_guid": "silent", "ping_s": 15, "inflight_max": 1}
    socks = []

    def serve():
        sock, _ = listener.accept()
        socks.append(sock)
        sock.recv(65536)
        sock.sendall(frame.answer(1, welcome))
        sock.recv(65536)  # it is to take a job
        if len(body) > EAGER_BYTES_MAX:
            sock.sendall(frame.event(2, "go-ahead", {"offset": 0}))

    (listener,) = bind("127.0.0.1:0")
    listener.setblocking(True)
    with listener, trio.fail_after(30):
        silent = f"127.0.0.1:{listener.getsockname()[1]}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, serve)
            async with face([silent, two.endpoint]) as client:
                receipt = await client.submit(body, printer="default", title="x")
    socks[0].close()
    assert (receipt.endpoint, receipt.unknown) == (two.endpoint, ())
    assert await two.bodies() == {"x": body}


async def test_of_a_server_that_falls_silent_with_the_job_its_kin_is_asked_soon(
    two, face, monkeypatch
):
    """Of what both have one comes out; servers of anybody else wait for the end of the doubt."""
    for module in (connection, line):
        monkeypatch.setattr(module, "ANSWER_PING_S", 0.05)
    monkeypatch.setattr(course, "KIN_DOUBT_S", 0.1)
    welcome = {"version": 1, "node_guid": "silent", "role": "application", "ping_s": 15}
    welcome |= {"inflight_max": 1, "endpoints": [two.endpoint]}
    socks = []

    def serve():
        sock, _ = listener.accept()
        socks.append(sock)
        listener.close()  # it is gone then
        sock.recv(65536)
        sock.sendall(frame.answer(1, welcome))

    (listener,) = bind("127.0.0.1:0")
    listener.setblocking(True)
    silent = f"127.0.0.1:{listener.getsockname()[1]}"
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, serve)
            async with face([silent], doubt_timeout_s=1000) as client:
                receipt = await client.submit(b"body", printer="default")
    socks[0].close()
    assert (receipt.endpoint, receipt.unknown) == (two.endpoint, (silent,))
    assert await two.count() == 1


def test_what_kin_refuses_is_not_the_last_word_while_another_may_have_it():
    """The server that got the job whole is asked to the end of its time, then all are."""
    fare = course.Course(uuid4(), 4, 0.0)
    fare.doubts["guid-hq"] = "hq"
    kin = frozenset({"hq", "site"})
    lost = course.Lost("silence", was_silent=True)
    fare.note_lost("hq", "guid-hq", False, lost, now=10.0, doubt_timeout_s=30.0, kin=kin)
    names = ["hq", "site", "stranger"]
    assert fare.candidates(names, 10.5) == ["hq"]
    assert fare.candidates(names, 11.0) == ["site", "hq"]
    refused = OperationError("not-found", "no such printer.")
    welcome = {"node_guid": "guid-site", "role": "application"}
    assert not fare.note_refusal("site", welcome, False, refused)
    assert fare.candidates(names, 39.0) == ["site", "hq"]
    assert fare.candidates(names, 40.0) == ["site", "stranger", "hq"]
    with pytest.raises(AnswerUnknown):
        fare.note_refusal("site", welcome, False, refused)


@pytest.mark.parametrize("code", ["not-found", "not-accepting"])
def test_a_site_that_has_not_the_printer_has_not_the_last_word(code):
    """Its application server is away for a moment: it is waited for as if there were no site."""
    names = ["hq", "site"]
    refused = OperationError(code, "no such printer here.")
    site = {"node_guid": "guid-site", "role": "site"}
    fare = course.Course(uuid4(), 4, 0.0)
    fare.note_no_connection("hq", course.Lost("Connection refused"))
    assert not fare.note_refusal("site", site, False, refused)
    for now in (50.0, 60.0):
        fare.check_hope(names, now, unreachable_timeout_s=10.0)
    with pytest.raises(Unreachable) as told:
        fare.check_hope(names, 60.1, unreachable_timeout_s=10.0)
    assert told.value.causes == {"hq": "Connection refused", "site": "no such printer here"}
    assert told.value.was_refused
    with pytest.raises(SubmitRefused):  # nobody else is there to ask
        fare.check_hope(["site"], 50.0, unreachable_timeout_s=10.0)


def test_what_an_application_server_refuses_is_refused():
    """Whatever a site says that cannot be reached: it has nothing but what that one has."""
    fare = course.Course(uuid4(), 4, 0.0)
    refused = OperationError("not-accepting", "the printer takes no jobs now.")
    hq = {"node_guid": "guid-hq", "role": "application"}
    assert not fare.note_refusal("hq", hq, False, refused)
    fare.note_no_connection("site", course.Lost("Connection refused"))
    with pytest.raises(SubmitRefused):
        fare.check_hope(["hq", "site"], 0.0, unreachable_timeout_s=10.0)


@pytest.mark.slow
async def test_a_server_that_stood_still_is_asked_again_when_the_others_refuse(one, two, provider):
    """It was busy for a second: the job is none that nobody takes."""
    one.stalls_after = 1_000_000
    closed = replace(two.printer, accepting=False)
    await two.spool.journal.commit(PutPrinter(closed, two.spool.wall_clock()))
    async with provider(one, two) as client:
        receipt = await client.submit(LARGE * 8, printer="default", title="x")
    assert (receipt.endpoint, one.connections) == (one.endpoint, 2)
    assert await one.bodies() == {"x": LARGE * 8}


@pytest.mark.slow
async def test_back_to_the_first_server_when_it_is_well_again(one, two):
    """After a fail-over the preferred endpoint is probed, and used again."""
    one.close()
    async with Provider([one.endpoint, two.endpoint], probe_interval_s=0.02) as client:
        assert (await client.submit(b"1", printer="default")).endpoint == two.endpoint
        assert client.current == two.endpoint
        one.open()
        with trio.fail_after(30):
            while client.current != one.endpoint:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await client.submit(b"2", printer="default")).endpoint == one.endpoint


async def test_endpoints_of_the_welcome_are_used_when_the_known_ones_fail(one, two, provider):
    """A provider that knew one server fails over to those that it named."""
    one.endpoints = ("nonsense", two.endpoint)
    async with provider(one, doubt_timeout_s=0.1) as client:
        await client.submit(b"1", printer="default")
        one.close()
        assert (await client.submit(b"2", printer="default")).endpoint == two.endpoint


@pytest.mark.parametrize(
    "said",
    [
        frame.answer(1, {"version": 2}),
        frame.answer(1, {"version": 1, "node_guid": "x", "ping_s": "x", "inflight_max": 1}),
        frame.refusal(1, "version-not-supported", "no version in common."),
        frame.chunk_head(1, 0, 1) + b"x",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
    ],
)
async def test_a_server_that_is_none_is_left_for_the_next(two, said, face):
    """Whatever something else on that port says, the job goes to a real server."""
    (listener,) = bind("127.0.0.1:0")

    def handle(sock, _):
        if said:
            sock.send(said)
        sock.shutdown(1)
        socks.append(sock)

    socks = []
    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_loop, listener, handle)
            wrong = f"127.0.0.1:{listener.getsockname()[1]}"
            async with face([wrong, two.endpoint]) as client:
                receipt = await client.submit(b"body", printer="default")
            nursery.cancel_scope.cancel()
    for sock in socks:
        sock.close()
    assert receipt.endpoint == two.endpoint
