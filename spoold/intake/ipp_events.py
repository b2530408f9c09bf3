"""Subscriptions to events of jobs and printers, and the events that wait to be fetched (RFC 3995).

In: the journal's events, and who wants to hear of what. Out: notices, kept for each subscription
until they are old (RFC 3996, ippget). All of it is in memory: a lease ends with the daemon, and
clients subscribe again, as RFC 3995 5.4.9 has them do. A node without subscriptions pays nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID, uuid4

from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.spool.journal import Journal
from spoold.spool.store import Event, JobMoved, PrinterChanged

SECOND_US: Final = 1_000_000
EVENTS: Final = (
    "job-completed", "job-created", "job-state-changed", "job-stopped", "printer-config-changed",
    "printer-state-changed", "printer-stopped",
)  # fmt: skip
EVENTS_DEFAULT: Final = ("job-completed",)
EVENTS_MAX: Final = 20  # in one subscription
NOTICES_KEPT: Final = 100  # of one subscription; the oldest give way
EVENT_LIFE_S: Final = 300  # ippget-event-life
LEASE_S: Final = 86_400
LEASE_MAX_S: Final = 7 * 86_400
SUBSCRIPTIONS_MAX: Final = 1000
SUBSCRIPTIONS_OF_ONE_MAX: Final = 20


class Notice(NamedTuple):
    """Something that happened. `job` is None for events of a printer alone."""

    sequence: int
    event: str
    at_us: int
    printer_id: int
    job_id: int | None
    state: JobState | None
    reasons: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Subscription:
    """What somebody wants to hear of a printer or job. `identity` made it, and may end it.

    `printer_id` None is every printer. `until_us` is when the lease ends; None for a job's.
    """

    id: int
    identity: str
    user: str
    printer_id: int | None
    job_id: int | None
    events: frozenset[str]
    lease_s: int
    until_us: int | None
    user_data: bytes = b""
    uuid: UUID = field(default_factory=uuid4)
    sequence: int = 0
    is_over: bool = False  # its job has ended
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=NOTICES_KEPT))


class Events:
    """The subscriptions of a node."""

    def __init__(self, journal: Journal, wall_clock: Callable[[], int]) -> None:
        self._journal = journal
        self._wall_clock = wall_clock
        self._by_id: dict[int, Subscription] = {}
        # A number of before a restart is nobody else's now.
        self._last_id = wall_clock() // SECOND_US & 0x3FFFFFFF

    def subscribe(
        self,
        identity: str,
        user: str,
        printer_id: int | None,
        job_id: int | None,
        events: Iterable[str],
        lease_s: int,
        user_data: bytes,
    ) -> Subscription:
        """A new subscription.

        Raises:
            OperationError: `busy`: there are too many.
        """
        self._forget_old()
        own = sum(one.identity == identity for one in self._by_id.values())
        if len(self._by_id) >= SUBSCRIPTIONS_MAX or own >= SUBSCRIPTIONS_OF_ONE_MAX:
            raise OperationError("busy", "there are too many subscriptions.", "Cancel some.")
        if not self._by_id:
            self._journal.listen(self._hear)
        self._last_id += 1
        lease_s = min(lease_s, LEASE_MAX_S) or LEASE_MAX_S
        until_us = None if job_id is not None else self._wall_clock() + lease_s * SECOND_US
        made = Subscription(
            self._last_id,
            identity,
            user,
            printer_id,
            job_id,
            frozenset(events),
            0 if job_id is not None else lease_s,
            until_us,
            user_data,
        )
        self._by_id[made.id] = made
        return made

    def get(self, subscription_id: int) -> Subscription | None:
        self._forget_old()
        return self._by_id.get(subscription_id)

    def all(self) -> list[Subscription]:
        self._forget_old()
        return list(self._by_id.values())

    def renew(self, one: Subscription, lease_s: int) -> None:
        one.lease_s = min(lease_s, LEASE_MAX_S) or LEASE_MAX_S
        one.until_us = self._wall_clock() + one.lease_s * SECOND_US

    def cancel(self, one: Subscription) -> None:
        self._by_id.pop(one.id, None)
        if not self._by_id:
            self._journal.unlisten(self._hear)

    def notices(self, one: Subscription, from_sequence: int) -> list[Notice]:
        """What happened from a sequence number on, as far as it is kept."""
        self._forget_notices(one)
        return [notice for notice in one.notices if notice.sequence >= from_sequence]

    def _forget_old(self) -> None:
        now_us = self._wall_clock()
        for one in list(self._by_id.values()):
            if one.until_us is not None and one.until_us <= now_us:
                self.cancel(one)
            elif one.is_over:
                self._forget_notices(one)
                if not one.notices:
                    self.cancel(one)

    def _forget_notices(self, one: Subscription) -> None:
        oldest_us = self._wall_clock() - EVENT_LIFE_S * SECOND_US
        while one.notices and one.notices[0].at_us < oldest_us:
            one.notices.popleft()

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is JobMoved:
                self._job_moved(event)
            elif type(event) is PrinterChanged:
                for name in ("printer-config-changed", "printer-state-changed"):
                    self._tell(name, event.printer_id, None, None, ())
                if event.printer is not None and event.printer.paused:
                    self._tell("printer-stopped", event.printer_id, None, None, ())

    def _job_moved(self, moved: JobMoved) -> None:
        job = (moved.printer_id, moved.job_id, moved.new, moved.reasons)
        if moved.old is None:
            self._tell("job-created", *job)
        elif moved.old is not moved.new:
            self._tell("job-state-changed", *job)
            if JobState.PROCESSING in (moved.old, moved.new):
                self._tell("printer-state-changed", moved.printer_id, None, None, ())
        if moved.new is JobState.PROCESSING_STOPPED:
            self._tell("job-stopped", *job)
        if moved.new.is_final:
            self._tell("job-completed", *job)
            for one in self._by_id.values():
                one.is_over = one.is_over or one.job_id == moved.job_id

    def _tell(
        self,
        event: str,
        printer_id: int,
        job_id: int | None,
        state: JobState | None,
        reasons: tuple[str, ...],
    ) -> None:
        now_us = self._wall_clock()
        for one in self._by_id.values():
            if (
                event in one.events
                and one.printer_id in (None, printer_id)
                and one.job_id in (None, job_id)
            ):
                one.sequence += 1
                one.notices.append(
                    Notice(one.sequence, event, now_us, printer_id, job_id, state, reasons)
                )
