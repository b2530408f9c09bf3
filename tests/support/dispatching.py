"""A real spool with its dispatcher, in this process: printers, jobs, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import trio
import trio.testing

from spoold.dispatch.attempt import Settings
from spoold.dispatch.dispatcher import Dispatcher
from spoold.driver import link
from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.printer import Device, Printer
from spoold.model.transitions import JobEvent
from spoold.spool.store import ChangeJob, PutPrinter

QUICK = Settings(
    backoff_first_s=0.02, backoff_max_s=0.08, backoff_jitter=0.0, stall_change_interval_s=0.01
)


class Floor:
    """`machine` makes the device behind a new printer; without it devices have their own drivers.

    `machines` are those that were made, by URI.
    """

    def __init__(self, spool, machine: Callable[[], Any] | None = None, network=None) -> None:
        self.spool = spool
        self.machines: dict[str, Any] = {}
        self._machine = machine
        self._network = network
        self._news = trio.Event()
        spool.journal.listen(self._hear)

    def _hear(self, _events) -> None:
        self._news.set()
        self._news = trio.Event()

    def driver_for(self, device: Device, network) -> link.Driver:
        if self._machine is None:
            return link.driver_for(device, network)
        if device.uri not in self.machines:
            raise OperationError("bad-request", f"no driver for {device.uri}.")
        return self.machines[device.uri]

    async def add(self, name="p", **fields) -> tuple[Printer, Any]:
        """A printer and its machine."""
        assert self._machine is not None
        uri = f"test://{name}"
        machine = self.machines[uri] = self._machine()
        return await self.spool.add_printer(name, uri, **fields), machine

    async def put(self, printer: Printer) -> None:
        await self.spool.journal.commit(PutPrinter(printer, self.spool.wall_clock()))

    async def change(self, job_id: int, event: JobEvent, **fields) -> JobState:
        return await self.spool.journal.commit(
            ChangeJob(job_id, event, self.spool.wall_clock(), **fields)
        )

    async def wait_state(self, job_id: int, *states: JobState, within_s: float = 30.0):
        """The job, once it is in one of these states."""
        with trio.fail_after(within_s):
            while True:
                news = self._news
                job = await self.spool.reader.job(job_id)
                if job.state in states:
                    return job
                await news.wait()

    async def settled(self) -> None:
        """Who waited for the last commit has gone on, and has nothing more to do."""
        await self.spool.journal.beat()
        await trio.testing.wait_all_tasks_blocked(0.01)

    def dispatcher(self, settings: Settings = QUICK) -> Dispatcher:
        spool = self.spool
        return Dispatcher(
            spool.journal,
            spool.reader,
            spool.documents,
            self._network,
            spool.wall_clock,
            Random(1),
            settings,
            self.driver_for,
        )

    @asynccontextmanager
    async def dispatching(self, settings: Settings = QUICK, drain_s: float = 0.0):
        """The dispatcher runs, until it is drained at the end."""
        dispatcher = self.dispatcher(settings)
        async with trio.open_nursery() as nursery:
            await nursery.start(dispatcher.run)
            try:
                yield dispatcher
            finally:
                with trio.move_on_after(30, shield=True):
                    await dispatcher.drain(drain_s)
