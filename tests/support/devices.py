"""Devices that do as a test says, and the floor on which they stand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import uuid4

import trio
import trio.testing

from spoold.dispatch.attempt import Settings
from spoold.dispatch.dispatcher import Dispatcher
from spoold.driver.link import Delivery, DeviceStatus, Progress
from spoold.model.job import JobState
from spoold.model.outcome import Deferred, Delivered, Outcome
from spoold.model.printer import Printer
from spoold.spool.store import PutPrinter
from support import dispatching
from support.waiting import wait_until

PATIENT = Settings(backoff_first_s=60.0, backoff_max_s=60.0, backoff_jitter=0.0)
Behaviour = Callable[[Delivery], Awaitable[Outcome]]


async def print_it(delivery: Delivery) -> Outcome:
    await delivery.may_send()
    size = delivery.source.size
    delivery.report(Progress(bytes_sent=size))
    return Delivered({"method": "half-close", "bytes": size})


def answer(outcome: Outcome, *, sends: bool = True) -> Behaviour:
    async def behave(delivery: Delivery) -> Outcome:
        if sends:
            await delivery.may_send()
        return outcome

    return behave


DEAD = answer(Deferred("connecting-to-device", "No route to host."), sends=False)


@dataclass
class Machine:
    """A device: `script` is used up first, then it does as `usual` says."""

    usual: Behaviour = print_it
    script: list[Behaviour] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    seen_at_s: list[float] = field(default_factory=list)
    printed: list[int] = field(default_factory=list)
    active: int = 0
    busy: trio.Event = field(default_factory=trio.Event)

    async def deliver(self, delivery: Delivery) -> Outcome:
        assert self.active == 0, "two attempts on one device"
        self.active += 1
        self.seen.append(delivery.job.id)
        self.seen_at_s.append(trio.current_time())
        try:
            behave = self.script.pop(0) if self.script else self.usual
            outcome = await behave(delivery)
        finally:
            self.active -= 1
        if isinstance(outcome, Delivered):
            self.printed.append(delivery.job.id)
        return outcome

    async def probe(self) -> DeviceStatus:
        return DeviceStatus(True)

    def connecting(self) -> Behaviour:
        """Is tried for ever, without a byte; `busy` says that it has come to that."""

        async def behave(delivery: Delivery) -> Outcome:
            self.busy.set()
            await trio.sleep_forever()
            raise AssertionError

        return behave

    def stuck(self, sent: int = 0) -> Behaviour:
        """Takes `sent` bytes, then nothing, for ever; `busy` says that it has come to that."""

        async def behave(delivery: Delivery) -> Outcome:
            await delivery.may_send()
            delivery.report(Progress(bytes_sent=sent))
            self.busy.set()
            await trio.sleep_forever()
            raise AssertionError

        return behave


class Floor(dispatching.Floor):
    async def add_pool(self, name, **fields) -> Printer:
        change = PutPrinter(Printer(0, uuid4(), name, None, **fields), self.spool.wall_clock())
        return await self.spool.journal.commit(change)

    async def add_jobs(self, printer: Printer, count: int, **fields) -> list[int]:
        return [(await self.spool.add_job(printer, **fields)).job_id for _ in range(count)]

    async def wait_completed(self, job_ids: list[int]) -> None:
        for job_id in job_ids:
            await self.wait_state(job_id, JobState.COMPLETED)

    async def wait_failures(self, dispatcher: Dispatcher, printer: Printer, count: int):
        """How the printer is after so many failures."""
        return await wait_until(
            lambda: dispatcher.status(printer.id), holds=lambda status: status.failures >= count
        )
