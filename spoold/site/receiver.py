"""Records of sites, as their application server takes them in; the other end is `uplink`.

In: batches of many sites, in any order and again. Out: changes `ReceiveRecords`, a few records
each and one at a time over all sites, so that whoever else commits waits for few of them and no
site holds up another; and for each site where it stands. Alarms go to the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold.codec import batch
from spoold.codec.record import Encoded
from spoold.model.errors import OperationError, RemoteProtocolError
from spoold.model.node import identity_of
from spoold.site.rate import Rate
from spoold.spool import received
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import (
    ClaimRefused,
    Event,
    FinishRound,
    JournalForked,
    Parent,
    PrintedTwice,
    Received,
    ReceiveRecords,
    RecordQuarantined,
    RecordsMissing,
    SiteTold,
    StartRound,
)

log = structlog.get_logger("spoold.site")

READ_AHEAD = 2  # batches that are read or committed at a time; the others wait as they came
READ_AT_ONCE = 16  # records, until others have their turn
EARLIER_S = 2.0  # how long a batch waits for the one before it, which was sent first
DONE = "done"


@dataclass(slots=True)
class _Site:
    """What is known of one site's sending since this node started. `arrived` is by incarnation up
    to which position its records are here, or on their way through `reading` and `taking`;
    `sessions` counts how often it began: what is left of those before counts no more.
    """

    arrived: dict[str, int] = field(default_factory=dict)
    moved: trio.Event = field(default_factory=trio.Event)
    reading: trio.Lock = field(default_factory=trio.Lock)
    taking: trio.Lock = field(default_factory=trio.Lock)
    sessions: int = 0
    rate: Rate = field(default_factory=Rate)
    round_id: int | None = None
    round_first: int = 0
    round_records: int = 0

    def check(self, session: int) -> None:
        """Raises OperationError: `canceled`: another session has begun since that one."""
        if session != self.sessions:
            raise OperationError("canceled", "the site has begun to send anew.")

    def move(self, incarnation: str, position: int) -> None:
        self.arrived[incarnation] = position
        self.moved.set()
        self.moved = trio.Event()


class Receiver:
    def __init__(
        self, journal: Journal, reader: SqliteReader, wall_clock: Callable[[], int]
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._wall_clock = wall_clock
        self._sites: dict[UUID, _Site] = {}
        self._turn = trio.Semaphore(1)  # first come, first served
        self._slots = trio.Semaphore(READ_AHEAD)
        journal.listen(self._hear)

    def rate(self, site: UUID) -> float:
        """Records a second that a site has sent lately."""
        found = self._sites.get(site)
        return 0.0 if found is None else found.rate.per_second(trio.current_time())

    async def stand(self, site: UUID) -> list[dict[str, Any]]:
        """How far each incarnation of a site's journal is here: what the site goes on from."""
        found = await self._reader.look(received.standings, site)
        state = self._sites.setdefault(site, _Site())
        state.sessions += 1
        state.arrived = {str(one.incarnation): one.position for one in found}
        return [
            {
                "incarnation": str(one.incarnation),
                "position": one.position,
                "hash": one.hash,
                "state": one.state,
            }
            for one in found
        ]

    async def hash_at(self, site: UUID, incarnation: UUID, position: int) -> bytes | None:
        """The hash of a record of a site, by which it finds where it and this node part."""
        return await self._reader.look(received.hash_at, site, incarnation, position)

    async def take(self, site: UUID, args: Mapping[str, Any]) -> dict[str, Any]:
        """Take a batch; where the incarnation stands after it, durably.

        Raises:
            OperationError: `bad-request`, it is no batch; `conflict`, the journal is our own;
                `not-possible`, there is more of it than any site has; `canceled`, the site has
                asked meanwhile where it stands, and sends from there on.
        """
        state = self._sites.setdefault(site, _Site())
        session = state.sessions
        await self._wait_for_earlier(state, args)
        state.check(session)
        state.move(args["incarnation"], args["first"] - 1 + args["count"])
        async with AsyncExitStack() as reading:
            await reading.enter_async_context(state.reading)
            async with self._slots:
                state.check(session)
                records = await _read(args)
                async with state.taking:
                    await reading.aclose()  # the next one is read while this one is committed
                    if args["round"]:
                        await self._begin_round(site, state, args)
                    answer = await self._take(site, state, args, records)
                    await self._note_round(state, args, answer)
        return {"position": answer.position, "hash": answer.hash, "state": answer.state}

    async def _wait_for_earlier(self, state: _Site, args: Mapping[str, Any]) -> None:
        """Batches that are on their way together may be looked at in any order."""
        incarnation, first = args["incarnation"], args["first"]
        if args["window"] and not args["oldest"]:
            with trio.move_on_after(EARLIER_S):
                while first > state.arrived.get(incarnation, 0) + 1:
                    await state.moved.wait()

    async def _take(
        self, site: UUID, state: _Site, args: Mapping[str, Any], records: list[Encoded]
    ) -> Received:
        parent = args["parent"]
        change = ReceiveRecords(
            site,
            UUID(args["incarnation"]),
            args["first"],
            args["previous"],
            records,
            args["head"],
            self._wall_clock(),
            None if parent is None else _parent(parent),
            args["oldest"],
            args["behind"],
            identity_of(site),
        )
        while True:
            try:
                async with self._turn:
                    answer = await self._journal.commit(change)
            except OperationError as error:
                log.error("site_records_refused", journal=str(site), reason=str(error))
                raise
            assert isinstance(answer, Received)
            state.rate.add(trio.current_time(), answer.taken)
            state.round_records += answer.taken
            rest = change.rest(answer)
            if rest is None:
                if answer.position < change.first - 1 + len(change.records):  # a gap, or a fork
                    state.move(args["incarnation"], answer.position)
                return answer
            change = replace(rest, now_us=self._wall_clock())

    # -- rounds ----------------------------------------------------------------------------------

    async def _begin_round(self, site: UUID, state: _Site, args: Mapping[str, Any]) -> None:
        state.round_first, state.round_records = args["first"], 0
        state.round_id = await self._journal.commit(
            StartRound(site, args["round"], args["first"], self._wall_clock())
        )

    async def _note_round(self, state: _Site, args: Mapping[str, Any], answer: Received) -> None:
        """A round is over when all is here that the site had when it sent this."""
        if state.round_id is None:
            return
        is_forked = answer.state == "forked"
        if answer.position < args["head"] and not is_forked:
            return
        round_id, state.round_id = state.round_id, None
        result = "forked" if is_forked else DONE
        await self._journal.commit(
            FinishRound(round_id, answer.position, state.round_records, result, self._wall_clock())
        )

    # -- alarms ----------------------------------------------------------------------------------

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            kind = type(event)
            if kind in ALARMS:
                ALARMS[kind](event)


async def _read(args: Mapping[str, Any]) -> list[Encoded]:
    """The records of a batch; others have their turn in between.

    Raises:
        OperationError: `bad-request`: it is no batch.
    """
    found: list[Encoded] = []
    try:
        for one in batch.read(args):
            found.append(one)
            if len(found) % READ_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
    except RemoteProtocolError as error:  # what the sender is told of it
        raise OperationError("bad-request", f"{error}.") from error
    return found


def _parent(told: Mapping[str, Any]) -> Parent:
    return Parent(UUID(told["incarnation"]), told["position"], told["hash"])


def _quarantined(event: RecordQuarantined) -> None:
    log.error(
        "record_quarantined",
        journal=str(event.journal),
        position=event.position,
        kind=event.kind,
        reason=event.reason,
    )


def _missing(event: RecordsMissing) -> None:
    log.error("records_missing", journal=str(event.journal), first=event.first, last=event.last)


def _forked(event: JournalForked) -> None:
    log.error(
        "journal_forked",
        journal=str(event.journal),
        position=event.position,
        detail="The site's disk was put back, or is there twice. Nothing more is taken from it. "
        "Make sure that it runs once, then `spoold site begin-anew` there.",
    )


def _told(event: SiteTold) -> None:
    log.warning(
        "site_alarmed", journal=str(event.journal), position=event.position, kind=event.kind
    )


def _printed_twice(event: PrintedTwice) -> None:
    log.error(
        "job_printed_twice",
        job_uuid=str(event.uuid),
        job_id=event.job_id,
        journal=str(event.journal),
    )


def _claim_refused(event: ClaimRefused) -> None:
    log.error(
        "job_claim_refused",
        job_uuid=str(event.uuid),
        job_id=event.job_id,
        journal=str(event.journal),
    )


ALARMS: dict[type, Callable[[Any], None]] = {
    RecordQuarantined: _quarantined,
    RecordsMissing: _missing,
    JournalForked: _forked,
    SiteTold: _told,
    PrintedTwice: _printed_twice,
    ClaimRefused: _claim_refused,
}
