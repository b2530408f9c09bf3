"""What operations wait for and look up again and again, kept current by the journal's events.

Nothing here is more than the spool has: followers are woken and then read it, and the printers
are read anew after each change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import trio

from spoold.model.printer import Device, Printer
from spoold.spool import objects
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import Event, JobMoved, PrinterChanged

# What a follower that is slow to read may have missed is the oldest: the newest state counts.
MOVES_KEPT = 32
# Records that change no job and no printer wake nobody; who follows the journal looks this often.
LOOK_INTERVAL_S = 0.5


class Moves:
    """The state changes of one job that its follower has not seen yet."""

    def __init__(self) -> None:
        self._seen: deque[JobMoved] = deque(maxlen=MOVES_KEPT)
        self._bell = trio.Event()

    def put(self, moved: JobMoved) -> None:
        self._seen.append(moved)
        self._bell.set()

    async def wait(self) -> list[JobMoved]:
        """The changes since the last call, at least one, in order."""
        await self._bell.wait()
        self._bell = trio.Event()
        moved = list(self._seen)
        self._seen.clear()
        return moved


class Moved:
    """The jobs that have changed since their follower looked last; any number of them."""

    def __init__(self) -> None:
        self._jobs: dict[int, None] = {}
        self._bell = trio.Event()

    def put(self, moved: JobMoved) -> None:
        self._jobs[moved.job_id] = None
        self._bell.set()

    async def wait(self) -> list[int]:
        """Their numbers, at least one."""
        await self._bell.wait()
        self._bell = trio.Event()
        jobs, self._jobs = list(self._jobs), {}
        return jobs


class Watch:
    """Wakes those who follow a job or the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._followers: dict[int, list[Moves | Moved]] = {}
        self._bell = trio.Event()
        journal.listen(self._hear)

    def close(self) -> None:
        self._journal.unlisten(self._hear)

    def _hear(self, events: list[Event]) -> None:
        if self._bell.statistics().tasks_waiting:
            self._bell.set()
            self._bell = trio.Event()
        if self._followers:
            for event in events:
                if type(event) is JobMoved:
                    for moves in self._followers.get(event.job_id, ()):
                        moves.put(event)

    @contextmanager
    def following(self, job_id: int) -> Iterator[Moves]:
        """The changes of a job that are committed while this is open."""
        moves = Moves()
        with self._told(job_id, moves):
            yield moves

    @contextmanager
    def following_all(self, job_ids: Iterable[int]) -> Iterator[Moved]:
        """Which of these jobs are changed while this is open."""
        moved = Moved()
        with ExitStack() as stack:
            for job_id in job_ids:
                stack.enter_context(self._told(job_id, moved))
            yield moved

    @contextmanager
    def _told(self, job_id: int, follower: Moves | Moved) -> Iterator[None]:
        self._followers.setdefault(job_id, []).append(follower)
        try:
            yield
        finally:
            self._followers[job_id].remove(follower)
            if not self._followers[job_id]:
                del self._followers[job_id]

    async def wait_beyond(self, position: int) -> int:
        """The journal's head, once it lies beyond `position`."""
        while self._journal.head <= position:
            with trio.move_on_after(LOOK_INTERVAL_S):
                await self._bell.wait()
        return self._journal.head


@dataclass(frozen=True)
class Known:
    """All printers and devices at one moment."""

    printers: dict[int, Printer]
    devices: dict[int, Device]
    by_name: dict[str, Printer]
    removed: dict[int, str] = field(default_factory=dict)  # what those were called

    def name_of(self, printer_id: int) -> str:
        """The printer's name; one that was removed is shown by the last that it had, or its id."""
        if printer_id in self.printers:
            return self.printers[printer_id].name
        return f"{self.removed.get(printer_id) or printer_id} (removed)"

    def device_of(self, printer: Printer) -> Device | None:
        return None if printer.device_id is None else self.devices.get(printer.device_id)

    def sharing(self, device_id: int) -> list[Printer]:
        """The printers that point to a device, by name."""
        found = [one for one in self.printers.values() if one.device_id == device_id]
        return sorted(found, key=lambda printer: printer.name)


class Catalogue:
    """The printers and devices: read once, then followed by the journal's events."""

    def __init__(self, journal: Journal, reader: SqliteReader) -> None:
        self._journal = journal
        self._reader = reader
        self._known: Known | None = None
        self._changes = 0
        journal.listen(self._hear)

    def close(self) -> None:
        self._journal.unlisten(self._hear)

    def _hear(self, events: list[Event]) -> None:
        changed = [event for event in events if type(event) is PrinterChanged]
        if changed:
            self._changes += 1
            if self._known is not None:
                self._known = _with_changes(self._known, changed)

    async def look(self) -> Known:
        """Everything that was committed before this was called."""
        if self._known is not None:
            return self._known
        changes = self._changes
        devices = {one.id: one for one in await self._reader.devices()}
        printers = await self._reader.printers()
        known = Known(
            {one.id: one for one in printers},
            devices,
            {one.name: one for one in printers},
            await self._reader.look(objects.removed_printers),
        )
        if changes == self._changes:
            self._known = known
        return known

    async def name_of(self, printer_id: int) -> str | None:
        """What the printer with this number is called, if it is there."""
        printer = (await self.look()).printers.get(printer_id)
        return None if printer is None else printer.name

    async def our_name(self, guid: UUID) -> str | None:
        """What the printer with this GUID is called, when this node prints its jobs."""
        printers = (await self.look()).printers.values()
        return next((one.name for one in printers if one.guid == guid and one.is_ours), None)


def _with_changes(known: Known, changed: list[PrinterChanged]) -> Known:
    """`known` after the changes; whoever holds the old one keeps it as it was."""
    printers, devices, removed = dict(known.printers), dict(known.devices), dict(known.removed)
    for event in changed:
        if event.printer is None:
            if (gone := printers.pop(event.printer_id, None)) is not None:
                removed[gone.id] = gone.name
        else:
            printers[event.printer_id] = event.printer
        if event.device is not None:
            devices[event.device.id] = event.device
    return Known(printers, devices, {one.name: one for one in printers.values()}, removed)
