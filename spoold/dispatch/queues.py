"""What waits where: queues of printers and pools, and the devices that serve them; pure.

A pool is a queue that the devices of its members serve. Links between them are found again when
they are next asked for after a printer came, went or was renamed. See `schedule`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from spoold.dispatch.order import Entry, Lines
from spoold.model.printer import Printer

NEVER = float("-inf")


class Choice(NamedTuple):
    """A job to attempt: `printer_id` prints it, `queue_id` (its pool, or the same) holds it."""

    job_id: int
    device_id: int
    printer_id: int
    queue_id: int
    owner: str
    priority: int


class Device:
    """A window of one job, and the throttle: the device is left alone until `until_s`."""

    __slots__ = ("active", "failures", "id", "queues", "until_s")

    def __init__(self, id_: int) -> None:
        self.id = id_
        self.active: Choice | None = None
        self.failures = 0
        self.until_s = NEVER
        self.queues: dict[int, Queue] = {}


class Queue:
    """What waits on one printer or pool. `printer` is None until it is known.

    `starting` is the job of a fifo pool that was chosen and may yet come back: until that is
    decided no other member takes the next one.
    """

    __slots__ = (
        "count", "device", "id", "lines", "members", "pools", "printer", "served", "starting",
    )  # fmt: skip

    def __init__(self, id_: int, lines: Lines) -> None:
        self.id = id_
        self.printer: Printer | None = None
        self.device: Device | None = None  # of a printer that is no pool
        self.lines = lines
        self.count = 0
        self.served = 0
        self.starting: int | None = None
        self.members: tuple[Queue, ...] = ()  # of a pool; the standby ones come last
        self.pools: tuple[Queue, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.printer is not None and not self.printer.paused

    def is_standby(self, member: Queue) -> bool:
        assert self.printer is not None
        return member.printer is not None and member.printer.name in self.printer.standby


class Queues:
    """All queues and devices. `entries` are the jobs that wait: job id -> entry."""

    def __init__(self, entries: Mapping[int, Entry]) -> None:
        self._entries = entries
        self.by_id: dict[int, Queue] = {}
        self.devices: dict[int, Device] = {}
        self._is_linked = True

    def queue(self, id_: int) -> Queue:
        """The queue of a printer or pool, which need not be known yet."""
        queue = self.by_id.get(id_)
        if queue is None:
            queue = self.by_id[id_] = Queue(id_, Lines(self._entries, is_fifo=False))
        return queue

    def device(self, id_: int) -> Device:
        device = self.devices.get(id_)
        if device is None:
            device = self.devices[id_] = Device(id_)
        return device

    def set_printer(self, printer: Printer) -> Queue:
        """Add a printer or pool, or change it."""
        queue = self.queue(printer.id)
        if queue.device is not None:
            queue.device.queues.pop(printer.id, None)
        queue.printer = printer
        queue.device = None
        if printer.device_id is not None:
            queue.device = self.device(printer.device_id)
            queue.device.queues[printer.id] = queue
        self._is_linked = False
        return queue

    def remove_printer(self, printer_id: int) -> None:
        """Forget a printer; its queue stays for as long as jobs are in it."""
        queue = self.by_id.get(printer_id)
        if queue is None or queue.printer is None:
            return
        if queue.device is not None:
            queue.device.queues.pop(printer_id, None)
        queue.printer = queue.device = None
        self._is_linked = False
        if not queue.count:
            del self.by_id[printer_id]

    def members(self, printer_id: int) -> list[Queue]:
        """The printers that print for this one: itself, or a pool's members, standby last."""
        self.link()
        queue = self.by_id.get(printer_id)
        if queue is None or queue.printer is None:
            return []
        return list(queue.members) if queue.printer.is_pool else [queue]

    def link(self) -> None:
        """Find the members of the pools again after a printer came, went or was renamed."""
        if self._is_linked:
            return
        self._is_linked = True
        by_name: dict[str, Queue] = {}
        for queue in self.by_id.values():
            queue.members = queue.pools = ()
            if queue.printer is not None and not queue.printer.is_pool:
                by_name[queue.printer.name] = queue
        for pool in self.by_id.values():
            if pool.printer is not None and pool.printer.is_pool:
                pool.members = tuple(_found(_names(pool.printer), by_name))
                for member in pool.members:
                    member.pools = (*member.pools, pool)


def as_seen_here(printer: Printer) -> Printer:
    """A printer as the devices of this node serve it: not at all, when another node owns it."""
    return printer if printer.is_ours else replace(printer, device_id=None, members=(), standby=())


def _names(pool: Printer) -> Iterable[str]:
    """A member that is named as both is a standby."""
    regular = [name for name in pool.members if name not in pool.standby]
    return dict.fromkeys((*regular, *pool.standby))


def _found(names: Iterable[str], by_name: dict[str, Queue]) -> Iterator[Queue]:
    return (by_name[name] for name in names if name in by_name)


def place(pool: Queue, misfits: Collection[int], now_s: float) -> tuple[Queue | None, bool]:
    """The member that should take a job of the pool now; without one, whether it waits in place.

    `misfits` are members that cannot print it. Healthy members come before those that failed last,
    then the least loaded, then the order of the pool. A standby is used only when no other member
    can take the job, busy or not.
    """
    is_unfit = False
    for is_standby in (False, True):
        best: tuple[tuple[bool, int], Queue] | None = None
        is_busy = False
        for member in pool.members:
            device = member.device
            if (
                pool.is_standby(member) is not is_standby
                or device is None
                or not member.is_open
                or device.until_s > now_s
            ):
                continue
            if member.id in misfits:
                is_unfit = True
            elif device.active is not None:
                # One that failed last and is being tried may fail again: do not count on it.
                is_busy = is_busy or device.failures == 0
            else:
                load = sum(queue.count for queue in device.queues.values())
                rank = (device.failures > 0, load)
                if best is None or rank < best[0]:
                    best = rank, member
        if best is not None:
            return best[1], True
        if is_busy:
            return None, True
    # When no member is up at all, nobody behind this job could pass it either.
    return None, not is_unfit
