"""Idle devices that are asked how they are: when, how often, and what is seen of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from uuid import UUID

import pytest
import trio

from spoold.dispatch import refresh
from spoold.dispatch.attempt import Settings
from spoold.dispatch.devices import Devices
from spoold.driver.link import DeviceStatus
from spoold.model.printer import Device, Printer
from support import dispatching

EVERY_S = 100.0
WELL = DeviceStatus(True, ("toner-low",), "", {}, ({"name": "Black", "level": 3},))
AWAY = DeviceStatus(False, ("connecting-to-device",), "no route to host")


class Told:
    """A device that can be asked at any time."""

    def __init__(self) -> None:
        self.now = WELL
        self.takes_s = 0.0
        self.asked_at_s: list[float] = []
        self.said: tuple[float, DeviceStatus] | None = None
        self.has_said = trio.Event()

    async def deliver(self, delivery):
        raise AssertionError

    async def probe(self) -> DeviceStatus:
        self.asked_at_s.append(trio.current_time())
        await trio.sleep(self.takes_s)
        self.said = trio.current_time(), self.now
        self.has_said.set()
        return self.now

    def last_said(self, age_max_s: float) -> DeviceStatus | None:
        if self.said is None or trio.current_time() - self.said[0] > age_max_s:
            return None
        return replace(self.said[1], age_s=trio.current_time() - self.said[0])


class Mute:
    """A device that cannot be asked."""

    async def deliver(self, delivery):
        raise AssertionError

    async def probe(self) -> DeviceStatus:
        raise AssertionError


class Floor:
    """Printers, each with a device of its own."""

    def __init__(self) -> None:
        self.drivers: dict[str, Told | Mute] = {}
        self.devices = Devices(None, lambda device, _: self.drivers[device.uri], lambda _, d: d)
        self.printers: dict[int, Printer] = {}
        self.active: set[int] = set()

    def add(self, driver: Told | Mute) -> int:
        id_ = len(self.printers) + 1
        device = Device(id_, UUID(int=id_), f"{type(driver).__name__.lower()}://{id_}")
        self.drivers[device.uri] = driver
        self.devices.put(device)
        self.printers[id_] = Printer(id_, UUID(int=id_), f"p{id_}", id_)
        return id_


@pytest.fixture
def floor(nursery):
    made = Floor()
    asking = refresh.Refresh(made.devices, made.printers, made.active, EVERY_S)
    nursery.start_soon(asking.run)
    return made


async def test_an_idle_device_is_asked_now_and_then(floor, autojump_clock):
    """One that cannot be asked is left alone."""
    told = Told()
    floor.add(told)
    floor.add(Mute())
    await trio.sleep(EVERY_S * 3 + 20)
    assert len(told.asked_at_s) == 3
    assert told.asked_at_s[0] >= EVERY_S


async def test_a_device_with_a_job_is_left_alone(floor, autojump_clock):
    """Its job asks it; afterwards its turn comes at once."""
    told = Told()
    id_ = floor.add(told)
    floor.active.add(id_)
    await trio.sleep(EVERY_S * 3)
    assert told.asked_at_s == []
    floor.active.clear()
    await trio.sleep(10)
    assert len(told.asked_at_s) == 1


async def test_a_device_that_does_not_answer_is_asked_less_and_less_often(floor, autojump_clock):
    """Silent, or out of reach; and as before once it is back."""
    away, silent = Told(), Told()
    away.now, silent.takes_s = AWAY, 1000.0
    floor.add(away)
    floor.add(silent)
    await trio.sleep(EVERY_S * 35)
    for told in (away, silent):
        at_s = told.asked_at_s
        waits_s = [b - a for a, b in pairwise(at_s)]
        assert [int(one / EVERY_S) for one in waits_s] == [2, 4, 8, 16]
    away.now = WELL
    await trio.sleep(EVERY_S * 16)
    before = len(away.asked_at_s)
    await trio.sleep(EVERY_S * 2 + 20)
    assert len(away.asked_at_s) >= before + 2


async def test_only_a_few_are_asked_at_once(floor, autojump_clock):
    """However many there are, and however slow they are; each has its turn."""
    told = Told()
    told.takes_s = 1.0
    for _ in range(100):
        floor.add(told)
    await trio.sleep(EVERY_S + 10)
    at_s = told.asked_at_s
    assert len(at_s) > refresh.AT_ONCE
    for first in at_s:
        assert sum(first <= one < first + 0.99 for one in at_s) <= refresh.AT_ONCE
    await trio.sleep(EVERY_S / 2)
    assert len(at_s) == 100


async def test_a_printer_that_was_removed_is_asked_no_more(floor, autojump_clock):
    """Its device stays known, for what is told of old jobs."""
    told = Told()
    floor.printers.pop(floor.add(told))
    await trio.sleep(EVERY_S * 3)
    assert told.asked_at_s == []


async def test_what_an_idle_device_says_is_shown_with_its_age(spool, nursery, monkeypatch):
    """Reasons and supplies, though no job has come and nobody has asked."""
    monkeypatch.setattr(refresh, "LOOK_S", 0.01)
    floor = dispatching.Floor(spool, Told)
    printer, told = await floor.add()
    dispatcher = floor.dispatcher(Settings(refresh_s=0.02))
    await nursery.start(dispatcher.run)
    assert dispatcher.status(printer.id).said_us is None
    nursery.start_soon(dispatcher.refresh)
    with trio.fail_after(30):
        await told.has_said.wait()
    status = dispatcher.status(printer.id)
    assert (status.state, status.reasons, status.supplies) == ("idle", WELL.reasons, WELL.supplies)
    assert status.said_us is not None
    assert 0 <= spool.wall_clock() - status.said_us < 5_000_000
    nursery.cancel_scope.cancel()
