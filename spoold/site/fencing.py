"""What a site still has of printers that were given to others while it was away.

In: printers as the copy brings them. Out: their waiting jobs, held until somebody settles them: the
new owner was given them, too, and may have printed them. Before a site prints anything after its
start it looks once whether it still may; but it does not wait for a line that is not there.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from spoold.model.job import JobReason, JobState
from spoold.model.node import LineState
from spoold.model.printer import Printer
from spoold.model.transitions import JobEvent
from spoold.site.line import Line
from spoold.site.replica import Replica
from spoold.spool import handed
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import ChangeJob, Event, JobMoved, PrinterChanged

log = structlog.get_logger("spoold.site")

LOOK_S = 2.0  # what a site waits at its start for word of who owns its printers
LOOK_INTERVAL_S = 0.05
HELD_AT_ONCE = 200
MESSAGE = (
    "Its printer was given to another node, which may have printed it: cancel it (`spoold job "
    "cancel`), or move it to a printer of this site (`spoold job move`)."
)


class Fence:
    """`start` before jobs come; `run` then."""

    def __init__(
        self, journal: Journal, reader: SqliteReader, wall_clock: Callable[[], int]
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._wall_clock = wall_clock
        self._foreign: set[int] = set()
        self._wanted: dict[int, None] = {}
        self._bell = trio.Event()

    async def start(self) -> None:
        self._journal.listen(self._hear)
        for printer in await self._reader.printers():
            self._learn(printer.id, printer)

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is PrinterChanged:
                self._learn(event.printer_id, event.printer)
            elif (
                type(event) is JobMoved
                and event.printer_id in self._foreign
                and event.new is JobState.PENDING
            ):
                self._want(event.printer_id)

    def _learn(self, printer_id: int, printer: Printer | None) -> None:
        if printer is None or printer.is_ours:
            self._foreign.discard(printer_id)
        else:
            self._foreign.add(printer_id)
            self._want(printer_id)

    def _want(self, printer_id: int) -> None:
        self._wanted[printer_id] = None
        self._bell.set()
        self._bell = trio.Event()

    async def run(self) -> None:
        """Hold what is found, for ever."""
        while True:
            while not self._wanted:
                await self._bell.wait()
            printer_id = next(iter(self._wanted))
            del self._wanted[printer_id]
            await self._hold(printer_id)

    async def _hold(self, printer_id: int) -> None:
        while found := await self._reader.look(handed.waiting_of, printer_id, HELD_AT_ONCE):
            if printer_id not in self._foreign:
                return
            now_us = self._wall_clock()
            reasons = (JobReason.JOB_REHOMED.value,)
            answers = await self._journal.commit_all(
                [
                    ChangeJob(
                        job_id,
                        JobEvent.HOLD,
                        now_us,
                        reasons=reasons,
                        message=MESSAGE,
                        only_from=(JobState.PENDING,),
                    )
                    for job_id in found
                ]
            )
            held = sum(not isinstance(one, Exception) for one in answers)
            if not held:
                return  # they moved on, or the disk is full: whoever releases them brings us back
            log.warning("jobs_fenced", jobs=held)


async def wait_word(line: Line, replica: Replica) -> None:
    """Until the copy is as of now, the line is given up, or it took too long."""
    with trio.move_on_after(LOOK_S):
        while not replica.has_word and line.state is not LineState.GONE:  # noqa: ASYNC110
            await trio.sleep(LOOK_INTERVAL_S)
