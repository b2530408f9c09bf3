"""The cable of the demo: what it lets through, and how it is when it is cut."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from spoold.simulate.cable import Cable

PATIENCE_S = 0.2  # in which nothing may come


@asynccontextmanager
async def cabled():
    """A cable, and a stream through it to a server that sends back what it gets."""

    async def echo(stream):
        async with stream:
            async for data in stream:
                await stream.send_all(data)
            await stream.send_eof()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, [listener])
        cable = Cable()
        await nursery.start(cable.run, listener.socket.getsockname()[1])
        async with listener, await trio.open_tcp_stream("127.0.0.1", cable.port) as stream:
            with trio.fail_after(30):
                yield cable, stream
        nursery.cancel_scope.cancel()


async def test_it_leads_both_ways_to_the_end():
    """What goes in comes out, and so does an end in order."""
    async with cabled() as (_, stream):
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        await stream.send_eof()
        assert await stream.receive_some() == b""


@pytest.mark.slow
async def test_a_cut_is_silent_and_what_was_on_its_way_arrives_later():
    """Neither an open connection nor a new one hears anything before it is mended."""
    async with cabled() as (cable, stream):
        cable.cut()
        assert cable.is_cut
        async with await trio.open_tcp_stream("127.0.0.1", cable.port) as other:
            for one in (stream, other):
                await one.send_all(b"anybody?")
                with trio.move_on_after(PATIENCE_S) as waiting:
                    await one.receive_some()
                assert waiting.cancelled_caught
            cable.mend()
            for one in (stream, other):
                assert await one.receive_some() == b"anybody?"


async def test_a_reset_at_one_end_is_one_at_the_other():
    """As it is when nobody listens at the far end."""
    async with trio.open_nursery() as nursery:
        with trio.socket.socket() as closed:
            await closed.bind(("127.0.0.1", 0))
            cable = Cable()
            await nursery.start(cable.run, closed.getsockname()[1])
            async with await trio.open_tcp_stream("127.0.0.1", cable.port) as stream:
                with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            nursery.cancel_scope.cancel()
