"""Who prints next, on which device: pure, without I/O or a clock.

In: printers, waiting jobs, outcomes, and `now_s`. Out: choices. One window per device: printers
that share one take turns. A pool is a queue that the devices of its members serve; a job belongs
to the pool until its first byte may leave, so a member that fails has nothing to give back.
Promised: every throttle ends by itself; the head of a `fifo` printer is never overtaken; a job that
can be taken is taken in the end; an operation costs O(log n) of the jobs that wait, plus the few
printers of a device or members of a pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from sys import intern

from spoold.dispatch.following import Following
from spoold.dispatch.order import Entry, Lines
from spoold.dispatch.queues import NEVER, Choice, Device, Queue, Queues, place
from spoold.model.job import PRIORITY_MAX
from spoold.model.printer import Order, Printer

# How long a job of a pool steps aside when the only members that could print it are down: others
# behind it may fit the members that are up.
SET_ASIDE_S = 5.0
_DEVICE, _JOB = 0, 1


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after failures in a row: from `first_s`, doubling, to `max_s`.

    Up to `jitter` of it is taken off by chance, so that printers which failed together are not
    tried together; under 0.5 every wait is still longer than the one before. `asked_max_s` bounds
    a delay that the device itself asked for.
    """

    first_s: float = 1.0
    max_s: float = 60.0
    jitter: float = 0.25
    asked_max_s: float = 300.0

    def delay_s(self, failures: int, random: Random, asked_s: float | None = None) -> float:
        """The wait after so many failures, 1 or more."""
        # The exponent is bounded: a printer that is off for years must not overflow a float.
        delay = min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 60))
        delay *= 1 - self.jitter * random.random()
        return delay if asked_s is None else max(delay, min(asked_s, self.asked_max_s))


class _Wait:
    """A job that was deferred for its own sake."""

    __slots__ = ("deferrals", "until_s")

    def __init__(self) -> None:
        self.deferrals = 0
        self.until_s = NEVER


class Schedule:
    """All that waits, and which device may take what. Owned by one task; nothing here blocks."""

    def __init__(self, backoff: Backoff, random: Random) -> None:
        self._backoff = backoff
        self._random = random
        self._entries: dict[int, Entry] = {}
        self._links = Queues(self._entries)
        self._queues = self._links.by_id
        self._devices = self._links.devices
        self._waits: dict[int, _Wait] = {}
        self._misfits: dict[int, set[int]] = {}  # job -> members of its pool that cannot print it
        self._following = Following()
        self._timers: list[tuple[float, int, int]] = []
        self._stirred: dict[int, None] = {}  # queues in which something changed
        self._kicked: dict[int, None] = {}  # devices that may have found work
        self._served = 0

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._entries)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._entries

    # -- printers --------------------------------------------------------------------------

    def set_printer(self, printer: Printer) -> None:
        """Add a printer or pool, or change it; its waiting jobs keep their places."""
        for misfits in self._misfits.values():
            misfits.discard(printer.id)
        queue = self._links.set_printer(printer)
        is_fifo = printer.order is Order.FIFO
        if queue.lines.is_fifo is not is_fifo:
            self._reorder(queue, is_fifo)
        self._stirred[queue.id] = None

    def remove_printer(self, printer_id: int) -> None:
        """Forget a printer. Jobs that still wait on it are taken by nobody."""
        self._links.remove_printer(printer_id)

    def waiting(self, printer_id: int) -> int:
        """How many jobs wait on a printer or pool."""
        queue = self._queues.get(printer_id)
        return queue.count if queue else 0

    def members(self, printer_id: int) -> list[int]:
        """The printers that print for this one: itself, or a pool's members, standby last."""
        return [queue.id for queue in self._links.members(printer_id)]

    # -- jobs ------------------------------------------------------------------------------

    def add(self, job_id: int, printer_id: int, owner: str, priority: int) -> None:
        """The job waits on the printer from now on; where it waited before it does no more."""
        entry = self._entries.get(job_id)
        if entry is not None:
            if (entry.queue_id, entry.owner, entry.priority) == (printer_id, owner, priority):
                return
            if self._following and entry.queue_id != printer_id:
                self._following.drop(job_id)
                self._free(job_id, is_next=False)
            self._take_out(job_id, entry)
        queue = self._links.queue(printer_id)
        entry = self._entries[job_id] = Entry(intern(owner), priority, printer_id)
        queue.count += 1
        self._line_up(job_id, entry, queue)

    def remove(self, job_id: int) -> None:
        """Forget all about a job: it is finished, held or gone."""
        self.withdraw(job_id)
        self._waits.pop(job_id, None)
        self._misfits.pop(job_id, None)
        if self._following:
            self._free(job_id, is_next=False)

    def withdraw(self, job_id: int) -> None:
        """The job does not wait here just now; how often it was deferred is kept."""
        if self._following:
            self._following.drop(job_id)
        entry = self._entries.get(job_id)
        if entry is not None:
            self._take_out(job_id, entry)

    def follow(self, job_id: int, first_id: int) -> None:
        """The job comes next once `first_id`, which waits or is attempted here, has ended."""
        self._following.put(job_id, first_id)
        entry = self._entries.get(job_id)
        if entry is not None:
            self._queues[entry.queue_id].lines.leave(job_id, entry)

    def unfollow(self, job_id: int) -> None:
        """The job has the place that its priority gives it."""
        if job_id in self._following:
            self._following.drop(job_id)
            self._line_up_again(job_id)

    def promote(self, job_id: int) -> None:
        """The job comes before all others that wait on its printer now."""
        entry = self._entries.get(job_id)
        if entry is not None:
            lines = self._queues[entry.queue_id].lines
            lines.leave(job_id, entry)
            entry.priority = max(lines.highest, PRIORITY_MAX) + 1
            self._line_up_again(job_id)

    def _free(self, first_id: int, *, is_next: bool) -> None:
        """A job has ended, or waits here no more: those that were to follow it need not wait."""
        for job_id in self._following.take(first_id):
            if is_next:
                self.promote(job_id)
            else:
                self._line_up_again(job_id)

    def _line_up_again(self, job_id: int) -> None:
        entry = self._entries.get(job_id)
        if entry is not None and entry.line is None:
            self._line_up(job_id, entry, self._queues[entry.queue_id])

    def defer(self, job_id: int, now_s: float, asked_s: float | None = None) -> float:
        """The job itself has to wait, longer each time. Returns until when.

        To be called before the job is added again. In `fair` order others go first meanwhile.
        """
        wait = self._waits.setdefault(job_id, _Wait())
        wait.deferrals += 1
        wait.until_s = now_s + self._backoff.delay_s(wait.deferrals, self._random, asked_s)
        return wait.until_s

    def misfit(self, choice: Choice) -> bool:
        """The chosen printer cannot print this job. False when no member of a pool is left."""
        misfits = self._misfits.setdefault(choice.job_id, set())
        misfits.add(choice.printer_id)
        if any(id_ not in misfits for id_ in self.members(choice.queue_id)):
            return True
        del self._misfits[choice.job_id]
        return False

    # -- devices ---------------------------------------------------------------------------

    def startable(self, now_s: float) -> list[int]:
        """The idle devices that have a job to take by now.

        Taking one may make another startable: call until the answer is empty.
        """
        self._advance(now_s)
        self._links.link()
        for queue_id in self._stirred:
            queue = self._queues.get(queue_id)
            if queue is not None:
                self._kick(queue, *queue.members)
                for pool in queue.pools:
                    if pool.count:
                        self._kick(*pool.members)
        self._stirred.clear()
        asked: set[int] = set()
        found: list[int] = []
        while self._kicked:
            kicked, self._kicked = self._kicked, {}
            for device_id in kicked:
                if device_id not in asked:
                    asked.add(device_id)
                    if self._pick(self._devices[device_id], now_s) is not None:
                        found.append(device_id)
        return found

    @property
    def has_news(self) -> bool:
        """Whether anything has happened since the last call of `startable`."""
        return bool(self._stirred or self._kicked)

    def wake_s(self) -> float | None:
        """When to call `startable` again even if nothing happens; None for never."""
        return self._timers[0][0] if self._timers else None

    def peek(self, device_id: int, now_s: float) -> Choice | None:
        """What the device would take if it were idle now; nothing is reserved."""
        device = self._devices[device_id]
        active, device.active = device.active, None
        found = self._pick(device, now_s)
        device.active = active
        return found

    def soon(self, printer_id: int, count: int) -> list[int]:
        """Jobs of a printer that are likely to go next, its head among them; a guess."""
        queue = self._queues.get(printer_id)
        return queue.lines.soon(count) if queue is not None else []

    def take(self, device_id: int, now_s: float) -> Choice | None:
        """The job that an idle device attempts now; the device is busy until `finish`."""
        device = self._devices[device_id]
        assert device.active is None, "a device takes one job at a time"
        self._advance(now_s)
        return self._take(device, now_s)

    def occupy(self, choice: Choice) -> None:
        """The device is busy with this job, which has not waited here."""
        self._links.device(choice.device_id).active = choice
        queue = self._queues.get(choice.queue_id)
        if queue is not None:
            self._served += 1
            queue.served = self._served

    def take_next(self, device_id: int, now_s: float) -> Choice | None:
        """The job for a device whose attempt has ended. Without one, the device stays busy.

        So what is left to do about the old attempt can be done before the device is idle.
        """
        device = self._devices[device_id]
        self._advance(now_s)
        active, device.active = device.active, None
        if active is not None:
            self.begin(active)
            if self._following and active.job_id not in self._entries:
                self._free(active.job_id, is_next=True)
        choice = self._take(device, now_s)
        if choice is None:
            device.active = active
        return choice

    def _take(self, device: Device, now_s: float) -> Choice | None:
        choice = self._pick(device, now_s)
        if choice is None:
            return None
        queue = self._queues[choice.queue_id]
        self._take_out(choice.job_id, self._entries[choice.job_id], is_served=True)
        self._served += 1
        queue.served = self._served
        if queue.lines.is_fifo and choice.queue_id != choice.printer_id:
            queue.starting = choice.job_id
        device.active = choice
        # What this device might have taken instead is now for another member.
        self._stir_pools(device)
        return choice

    def go_on(self, choice: Choice) -> bool:
        """Whether a device that has delivered a document of a job may take the job's next one now.

        What was in the way of the one before is nothing to this one.
        """
        self._misfits.pop(choice.job_id, None)
        self._waits.pop(choice.job_id, None)
        queues = (self._queues.get(choice.printer_id), self._queues.get(choice.queue_id))
        return all(queue is not None and queue.is_open for queue in queues)

    def begin(self, choice: Choice) -> None:
        """Bytes of the chosen job may leave, or its attempt has ended: the next one may start."""
        queue = self._queues.get(choice.queue_id)
        if queue is not None and queue.starting == choice.job_id:
            queue.starting = None
            self._stirred[queue.id] = None

    def put_back(self, choice: Choice) -> None:
        """The chosen job waits again where it was, nothing having happened to it."""
        self.add(choice.job_id, choice.queue_id, choice.owner, choice.priority)
        self._queues[choice.queue_id].lines.give_turn_back(self._entries[choice.job_id])

    def finish(self, device_id: int) -> None:
        """The device is idle again."""
        device = self._devices[device_id]
        if device.active is not None:
            self.begin(device.active)
            device.active = None
        self._kicked[device_id] = None

    def succeed(self, device_id: int) -> bool:
        """The device works: its throttle ends. True when it had failed before."""
        device = self._devices[device_id]
        had_failed = device.failures > 0
        device.failures = 0
        device.until_s = NEVER
        return had_failed

    def fail(self, device_id: int, now_s: float, asked_s: float | None = None) -> float:
        """The device failed: it takes nothing for a time. Returns until when."""
        device = self._devices[device_id]
        device.failures += 1
        device.until_s = now_s + self._backoff.delay_s(device.failures, self._random, asked_s)
        heappush(self._timers, (device.until_s, _DEVICE, device_id))
        self._stir_pools(device)  # another member goes on, or a standby
        return device.until_s

    def wake(self, printer_id: int) -> None:
        """An operator wants the printer's device, or those of a pool, tried now."""
        for queue in self._links.members(printer_id):
            if queue.device is not None:
                queue.device.until_s = NEVER
                self._kicked[queue.device.id] = None

    def failures(self, device_id: int) -> int:
        """How often the device has failed in a row."""
        device = self._devices.get(device_id)
        return device.failures if device else 0

    def retry_at_s(self, device_id: int, now_s: float) -> float | None:
        """When the device's throttle ends; None when it has none."""
        device = self._devices.get(device_id)
        return device.until_s if device is not None and device.until_s > now_s else None

    # -- choosing --------------------------------------------------------------------------

    def _pick(self, device: Device, now_s: float) -> Choice | None:
        """What the device should take: of the queues that it serves, the one served longest ago."""
        if device.active is not None or device.until_s > now_s:
            return None
        self._links.link()
        best: Choice | None = None
        served = 0
        for printer in device.queues.values():
            if not printer.is_open:
                continue
            for queue in (printer, *printer.pools):
                if not queue.count or not queue.is_open:
                    continue
                if best is None or queue.served < served:
                    found = self._pick_from(queue, device, now_s)
                    if found is not None:
                        best, served = found, queue.served
        return best

    def _pick_from(self, queue: Queue, device: Device, now_s: float) -> Choice | None:
        """The next job of a printer or pool, when it is this device that should take it."""
        while (job_id := self._head(queue, now_s)) is not None:
            entry = self._entries[job_id]
            if not queue.members:
                return Choice(job_id, device.id, queue.id, queue.id, entry.owner, entry.priority)
            member, may_come = place(queue, self._misfits.get(job_id, ()), now_s)
            if member is not None:
                chosen = member.device
                assert chosen is not None
                if chosen is device:
                    return Choice(
                        job_id, device.id, member.id, queue.id, entry.owner, entry.priority
                    )
                self._kicked[chosen.id] = None
                return None
            if may_come or queue.lines.is_fifo:
                return None
            # Only members that are down could print this one: let those behind it pass.
            queue.lines.leave(job_id, entry)
            until_s = now_s + SET_ASIDE_S
            self._waits.setdefault(job_id, _Wait()).until_s = until_s
            heappush(self._timers, (until_s, _JOB, job_id))
        return None

    def _head(self, queue: Queue, now_s: float) -> int | None:
        if queue.starting is not None:
            return None
        head = queue.lines.head()
        if head is not None and queue.lines.is_fifo and self._is_waiting(head, now_s):
            return None
        return head

    # -- the order of a queue --------------------------------------------------------------

    def _line_up(self, job_id: int, entry: Entry, queue: Queue) -> None:
        """Put the job in line, or set it aside when it has to wait and others may pass."""
        self._stirred[queue.id] = None
        if self._following and job_id in self._following:
            return
        wait = self._waits.get(job_id)
        if wait is not None:
            heappush(self._timers, (wait.until_s, _JOB, job_id))
            if not queue.lines.is_fifo:
                return
        queue.lines.join(job_id, entry)

    def _take_out(self, job_id: int, entry: Entry, *, is_served: bool = False) -> None:
        """The job waits no more; what is known of its deferrals is kept."""
        queue = self._queues[entry.queue_id]
        queue.lines.leave(job_id, entry, is_served=is_served)
        del self._entries[job_id]
        queue.count -= 1
        if not queue.count and queue.printer is None:
            del self._queues[queue.id]

    def _reorder(self, queue: Queue, is_fifo: bool) -> None:
        """Line up again all jobs of a queue whose order was changed. The one O(n) operation."""
        queue.lines = Lines(self._entries, is_fifo)
        if queue.count:
            for job_id, entry in sorted(self._entries.items(), key=lambda each: each[0]):
                if entry.queue_id == queue.id:
                    entry.line = None
                    self._line_up(job_id, entry, queue)

    # -- time and links --------------------------------------------------------------------

    def _is_waiting(self, job_id: int, now_s: float) -> bool:
        wait = self._waits.get(job_id)
        return wait is not None and wait.until_s > now_s

    def _advance(self, now_s: float) -> None:
        """Let go what has waited long enough."""
        while self._timers and self._timers[0][0] <= now_s:
            _, kind, id_ = heappop(self._timers)
            if kind == _DEVICE:
                self._kicked[id_] = None
                self._stir_pools(self._devices[id_])
                continue
            entry = self._entries.get(id_)
            if entry is not None and not self._is_waiting(id_, now_s):
                self._stirred[entry.queue_id] = None
                if entry.line is None and id_ not in self._following:
                    self._queues[entry.queue_id].lines.join(id_, entry)

    def _kick(self, *printers: Queue) -> None:
        for printer in printers:
            device = printer.device
            if device is not None and device.active is None:
                self._kicked[device.id] = None

    def _stir_pools(self, device: Device) -> None:
        self._links.link()
        for queue in device.queues.values():
            self._stirred |= {pool.id: None for pool in queue.pools if pool.count}
