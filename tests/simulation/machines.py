"""Simulated printers: machines that outlive the nodes that print on them, and count their paper."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from uuid import UUID

import trio

from spoold.driver.link import Delivery, DeviceStatus, Progress
from spoold.model.outcome import Deferred, Delivered, InDoubt, Outcome


class Machine:
    """`papers` are the jobs that came out, in order."""

    def __init__(self, name: str, rng: Random, tell: Callable[[str, str], None]) -> None:
        self.name = name
        self.papers: list[UUID] = []
        self.is_well = False  # it is never busy, and its cable is whole
        self._rng = rng
        self._tell = tell

    async def deliver(self, delivery: Delivery) -> Outcome:
        rng, uuid, size = self._rng, delivery.job.uuid, delivery.source.size
        quick = 0 if rng.random() < 0.3 else 1
        await trio.sleep(quick * rng.expovariate(20))
        if not self.is_well and rng.random() < 0.1:
            return Deferred("device-busy", "it warms up")
        await delivery.may_send()
        delivery.report(Progress(size // 2))
        await trio.sleep(quick * rng.expovariate(5))
        self.papers.append(uuid)
        self._tell(self.name, f"prints {uuid}")
        await trio.sleep(rng.expovariate(10))
        if not self.is_well and rng.random() < 0.05:
            return InDoubt("connection-lost", "it broke at the end", size)
        return Delivered({"method": "half-close", "bytes": size})

    async def probe(self) -> DeviceStatus:
        await trio.lowlevel.checkpoint()
        return DeviceStatus(True)
