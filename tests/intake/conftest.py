"""A server for frames, a door for jobs, and a listener whose deadlines are looked at often."""

from __future__ import annotations

import pytest
import trio

from spoold.intake import deadlines
from spoold.intake.acceptance import Acceptance
from support.frames_server import Server
from support.limits import Limits
from support.listening import House


@pytest.fixture
async def server(spool):
    acceptance = Acceptance(
        spool.journal,
        spool.reader,
        spool.documents,
        Limits(document_bytes_max=8 << 20),
        spool.wall_clock,
    )
    await acceptance.start()
    await spool.add_printer()
    async with trio.open_nursery() as nursery:
        opened = Server(spool, acceptance, nursery)
        yield opened
        nursery.cancel_scope.cancel()
        for client in opened.clients:
            client.stream.abort()


@pytest.fixture
async def house(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "LOOK_INTERVAL_S", 0.01)
    monkeypatch.setattr(deadlines, "FRESH_S", 0.0)
    made = House(nursery, tmp_path)
    yield made
    made.close()
    nursery.cancel_scope.cancel()


@pytest.fixture
async def door(spool):
    made = Acceptance(spool.journal, spool.reader, spool.documents, Limits(), spool.wall_clock)
    await made.start()
    await spool.add_printer()
    return made
