"""The journal of a site on its way up: behind what the application server has acknowledged.

In: the line, this node's journal and its reader. Out: batches, a few in flight, of each incarnation
in order; woken by commits. What the application server says of where it stands is the truth at the
begin of each session: it may have been restored, and then all is sent again that it lost. Nothing
here is waited for by anybody; memory is bounded by the batches in flight.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold.codec import batch
from spoold.model.errors import OperationError, SpoolFull
from spoold.site.line import Line, LineState, Lost
from spoold.site.pace import Pace
from spoold.site.rate import Rate
from spoold.spool import sending
from spoold.spool.crashpoint import crash_point
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.sending import CURSOR, Batch, Chain
from spoold.spool.store import BranchJournal, Event, FinishRound, PutCursor, StartRound

log = structlog.get_logger("spoold.site")

WINDOW = 4  # batches in flight
CALL_S = 60.0  # what the answer to a batch may take: many sites may be returning
GATHER_S = 0.02  # after a commit, for what comes with it
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 30.0
CURSOR_INTERVAL_S = 5.0
FORKED_LOOK_S = 60.0  # between looks whether somebody has settled a fork
ROUND_MAX = 500  # records sent at once that make a round of their own
CONNECTED = "connected"  # the cause of the first round on a line


class Stalled(Exception):
    """The application server takes nothing more of what is sent: its place is asked for again."""


class Forked(Exception):
    """The application server has other records of this journal."""


@dataclass(slots=True)
class Standing:
    """How sending goes. `state`: `waiting` for the line, `sending`, `idle` (nothing is to be sent),
    `forked`. `acknowledged` is of the incarnation in use; `lag` what is not.
    """

    state: str = "waiting"
    acknowledged: int = 0
    acknowledged_us: int | None = None
    reason: str = ""


class Uplink:
    def __init__(
        self,
        line: Line,
        journal: Journal,
        reader: SqliteReader,
        wall_clock: Callable[[], int],
        rng: random.Random | None = None,
    ) -> None:
        self._line = line
        self._journal = journal
        self._reader = reader
        self._wall_clock = wall_clock
        self._rng = rng or random.Random()
        self._bell = trio.Event()
        self._turned = trio.Event()
        self._is_running = False
        self._calls = 0  # that the application server has not answered yet
        self._asked = ""  # the cause of the round that begins next, if somebody asked for one
        self._pace = Pace()
        self._kept_position = -1
        self._kept_at = 0.0
        self._rate = Rate()
        self.standing = Standing()
        # What has to be told on a line before records are; it may raise Lost.
        self.first: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        # Called when the application server knows incarnations of which nothing is here any more.
        self.on_lost: Callable[[], None] = lambda: None

    # -- for others ------------------------------------------------------------------------------

    @property
    def lag(self) -> int:
        """How many records of the incarnation in use are not acknowledged."""
        return max(0, self._journal.head - self.standing.acknowledged)

    @property
    def rate(self) -> float:
        """Records a second that were acknowledged lately."""
        return self._rate.per_second(trio.current_time())

    def sync_nowait(self, cause: str = "asked") -> None:
        """Start a round at once, whatever was waited for."""
        self._asked = cause
        self._bell.set()

    async def beat(self) -> None:
        """Return when sending has gone on by a step: it makes progress. While the line is away, or
        an answer is waited for, it has none to make, and has a deadline for that.
        """
        if self._is_running and not self._calls:
            self._bell.set()
            await self._turned.wait()

    async def begin_anew(self) -> int:
        """Make the records that the application server has others for an incarnation of their own,
        and go on. Returns the position of the last record that both have.

        Raises:
            OperationError: `not-possible`: there is no fork.
            Lost: the application server cannot be asked where it parts.
        """
        if self.standing.state != "forked":
            raise OperationError(
                "not-possible",
                "the application server has no other records of this journal.",
                "There is nothing to do.",
            )
        stands = await self._ask()
        first: int | None = None
        while (found := await self._find_fork(stands)) is not None:
            chain, stand = found
            position = await self._common(chain, stand)
            await self._journal.commit(
                BranchJournal(position, self._wall_clock(), chain.incarnation)
            )
            log.warning("journal_branched", incarnation=str(chain.incarnation), position=position)
            first = position if first is None else first
        self.standing.state = "waiting"
        self.sync_nowait("begun anew")
        return self._journal.head if first is None else first

    async def _find_fork(self, stands: Mapping[UUID, _Stand]) -> tuple[Chain, _Stand] | None:
        """The oldest incarnation of which the application server has other records."""
        chains = await self._reader.look(sending.chains)
        for chain in chains:
            stand = stands.get(chain.incarnation)
            if stand is not None and await self._parts(chain, stand, is_last=chain == chains[-1]):
                return chain, stand
        return None

    async def _parts(self, chain: Chain, stand: _Stand, *, is_last: bool) -> bool:
        """Whether an incarnation is forked, as far as can be told: both may have pruned.

        One that is in use is, too, when the application server has more of it.
        """
        at = min(chain.position, stand.position)
        if is_last and (stand.state == "forked" or stand.position > chain.position):
            return True
        if stand.state == "forked" and chain.position > max(chain.anchor, stand.position):
            return True
        own = await self._reader.look(sending.hash_at, chain.id, at)
        theirs = stand.hash if at == stand.position else await self._hash(chain, at)
        return own is not None and theirs is not None and own != theirs

    async def _common(self, chain: Chain, stand: _Stand) -> int:
        """The last position at which this node and the application server have the same record.

        What the application server has pruned is taken to be the same.
        """
        low, high = chain.anchor, min(chain.position, stand.position)
        while low < high:
            middle = (low + high + 1) // 2
            own = await self._reader.look(sending.hash_at, chain.id, middle)
            if await self._hash(chain, middle) in (own, None):
                low = middle
            else:
                high = middle - 1
        return low

    async def _hash(self, chain: Chain, position: int) -> bytes | None:
        """The hash of a record as the application server has it; None: it keeps it no more."""
        args = {"incarnation": str(chain.incarnation), "position": position}
        answer = await self._call_line("site.hash", args)
        found: bytes | None = answer["hash"]
        return found

    # -- its own life ----------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send, for ever."""
        await self._hold_records()
        self._journal.listen(self._hear)
        self._line.listen(self._hear_line)
        self._is_running = True
        task_status.started()
        pause_s = RETRY_FIRST_S
        try:
            while True:
                self.standing.state = "waiting"
                await self._wait_line()
                before = self.standing.acknowledged
                try:
                    await self._session()
                except Forked:
                    await self._rest(FORKED_LOOK_S)
                except (Lost, OperationError, SpoolFull, Stalled) as error:
                    self.standing.reason = str(error)
                    log.info("uplink_lost", reason=str(error), acknowledged=before)
                    if self.standing.acknowledged > before:
                        pause_s = RETRY_FIRST_S
                    await self._rest(self._rng.uniform(0, pause_s))
                    pause_s = min(RETRY_MAX_S, 2 * pause_s)
                else:
                    pause_s = RETRY_FIRST_S
        finally:
            self._is_running = False
            self._turn()
            self._journal.unlisten(self._hear)

    def _hear(self, events: list[Event]) -> None:
        self._bell.set()

    def _hear_line(self, state: LineState) -> None:
        self._bell.set()

    def _turn(self) -> None:
        self._turned.set()
        self._turned = trio.Event()

    async def _wait_line(self) -> None:
        while not self._line.is_connected:
            await self._wait_bell()

    async def _wait_bell(self) -> None:
        self._turn()
        await self._bell.wait()
        self._bell = trio.Event()

    async def _rest(self, longest_s: float) -> None:
        """A pause, unless somebody asks for a round."""
        with trio.move_on_after(longest_s):
            while not self._asked:
                await self._wait_bell()

    async def _session(self) -> None:
        """Send on one line, until it is another one.

        Raises:
            Lost, OperationError, Stalled, Forked.
        """
        upstream = self._line.upstream
        self._pace = Pace()
        cause = self._asked or CONNECTED
        self._asked = ""
        await self.first()
        stands = await self._ask()
        forked = await self._find_fork(stands)
        if forked is not None:
            await self._tell_fork(*forked)
        *old, chain = await self._reader.look(sending.chains)
        if stands.keys() - {one.incarnation for one in (*old, chain)}:
            self.on_lost()
        for one in old:
            position = stands[one.incarnation].position if one.incarnation in stands else 0
            if position < one.position:
                await self._send_all(one, position, cause)
        self._acknowledge(stands[chain.incarnation].position if chain.incarnation in stands else 0)
        await self._keep_cursor(at_once=True)
        while self._line.upstream is upstream:
            if self.standing.acknowledged < self._journal.head or self._asked:
                cause, self._asked = self._asked or cause, ""
                (*_, chain) = await self._reader.look(sending.chains)
                self.standing.state = "sending"
                await self._send_all(chain, self.standing.acknowledged, cause)
                cause = ""
                await self._keep_cursor(at_once=False)
            else:
                self.standing.state = "idle"
                self.standing.reason = ""
                await self._wait_bell()
                await trio.sleep(GATHER_S)

    async def _ask(self) -> Mapping[UUID, _Stand]:
        answer = await self._call_line("site.stand", {})
        return {
            UUID(one["incarnation"]): _Stand(one["position"], one["state"], one["hash"])
            for one in answer["chains"]
        }

    async def _tell_fork(self, chain: Chain, stand: _Stand) -> None:
        """Show the application server where the two part, so that it sees the fork, too."""
        at = min(chain.position, stand.position)
        if stand.state != "forked" and chain.position > chain.anchor:
            found = await self._reader.look(sending.one_record, chain.id, max(at, chain.anchor + 1))
            if found is not None:
                is_behind = chain.position < stand.position
                await self._call(chain, found, "", is_behind=is_behind)
        self._alarm(stand.position)
        raise Forked

    def _alarm(self, position: int) -> None:
        if self.standing.state != "forked":
            log.error(
                "journal_forked",
                position=position,
                detail="The application server has other records of this journal: this disk was "
                "put back, or runs twice. Make sure that it runs once, then "
                "`spoold site begin-anew`.",
            )
        self.standing.state = "forked"
        self.standing.reason = "the application server has other records of this journal"

    # -- sending ---------------------------------------------------------------------------------

    async def _send_all(self, chain: Chain, after: int, cause: str) -> None:
        """Send what there is of a chain behind a position; a round of its own, if it is worth one.

        Raises:
            Lost, OperationError, Stalled, Forked.
        """
        ends_at = chain.position
        is_round = bool(cause) and (ends_at > after or cause != CONNECTED)
        is_round = is_round or ends_at - after > ROUND_MAX
        round_id: int | None = None
        if is_round:
            cause = cause or "records"
            upstream = self._line.upstream
            peer = UUID(int=0) if upstream is None else upstream.guid
            round_id = await self._journal.commit(
                StartRound(peer, cause, after + 1, self._wall_clock())
            )
        burst = _Burst(after)
        result = "done"
        try:
            await self._burst(chain, burst, cause if is_round else "")
        except (Lost, OperationError, Stalled, Forked) as error:
            result = "forked" if isinstance(error, Forked) else str(error)
            raise
        except trio.Cancelled:
            result = "cut off"
            raise
        finally:
            if round_id is not None and not self._journal.is_failed:
                now_us = self._wall_clock()
                self._journal.hand_over(
                    [FinishRound(round_id, burst.acknowledged, burst.records, result, now_us)]
                )

    async def _burst(self, chain: Chain, burst: _Burst, round_cause: str) -> None:
        slots = trio.Semaphore(WINDOW)
        sent = burst.acknowledged
        async with trio.open_nursery() as nursery:
            while not burst.is_over:
                found = await self._reader.look(sending.batch, chain.id, sent, self._pace.records)
                if found is None:
                    break
                await slots.acquire()
                if burst.is_over:
                    break
                nursery.start_soon(self._send, chain, found, burst, slots, round_cause)
                round_cause = ""
                sent = found.last
        if burst.error is not None:
            raise burst.error
        if burst.acknowledged < sent:
            raise Stalled(f"the application server stands at {burst.acknowledged}")

    async def _send(
        self, chain: Chain, found: Batch, burst: _Burst, slots: trio.Semaphore, round_cause: str
    ) -> None:
        sent_s = trio.current_time()
        try:
            answer = await self._call(chain, found, round_cause)
            self._pace.hear(len(found.records), sent_s, trio.current_time())
            position, state = answer["position"], answer["state"]
            if state == "forked":
                self._alarm(position)
                raise Forked
        except (Lost, OperationError, Forked) as error:
            burst.error = burst.error or error
            burst.is_over = True
        else:
            crash_point("uplink-acknowledged")
            burst.is_over = burst.is_over or position < found.last
            burst.records += max(0, position - burst.acknowledged)
            self._rate.add(trio.current_time(), max(0, position - burst.acknowledged))
            burst.acknowledged = max(burst.acknowledged, position)
            if chain.incarnation == UUID(self._journal.identity[1]):
                self._acknowledge(burst.acknowledged)
        finally:
            slots.release()

    async def _call(
        self, chain: Chain, found: Batch, round_cause: str, *, is_behind: bool = False
    ) -> dict[str, Any]:
        parent = chain.parent
        args = batch.write(found.first, found.previous, found.records) | {
            "incarnation": str(chain.incarnation),
            "head": max(chain.position, found.last),
            "window": WINDOW,
        }
        if parent is not None:
            args["parent"] = {
                "incarnation": str(parent.incarnation),
                "position": parent.position,
                "hash": parent.hash,
            }
        if found.first == chain.anchor + 1:
            args["oldest"] = True
        if is_behind:
            args["behind"] = True
        if round_cause:
            args["round"] = round_cause
        return await self._call_line("site.records", args)

    async def _call_line(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        self._turn()
        self._calls += 1
        try:
            return await self._line.call(op, args, CALL_S)
        finally:
            self._calls -= 1

    def _acknowledge(self, position: int) -> None:
        if position != self.standing.acknowledged:
            self.standing.acknowledged = position
            self.standing.acknowledged_us = self._wall_clock()

    # -- the cursor ------------------------------------------------------------------------------

    async def _hold_records(self) -> None:
        """Nothing is pruned before it is acknowledged, from the first start on."""
        kept = (await self._reader.cursors()).get(CURSOR)
        if kept is None or kept > self._journal.head:
            self.standing.acknowledged = await self._reader.anchor()
            await self._keep_cursor(at_once=True)
        else:
            self.standing.acknowledged = self._kept_position = kept

    async def _keep_cursor(self, *, at_once: bool) -> None:
        position = min(self.standing.acknowledged, self._journal.head)
        now_s = trio.current_time()
        if position == self._kept_position:
            return
        if at_once or now_s - self._kept_at >= CURSOR_INTERVAL_S:
            try:
                await self._journal.commit(PutCursor(CURSOR, position, self._wall_clock()))
            except SpoolFull:
                return  # the one before holds more records, and the next answer is tried again
            self._kept_position, self._kept_at = position, now_s


@dataclass(frozen=True, slots=True)
class _Stand:
    """Where an incarnation stands at the application server; `hash` is of the record there."""

    position: int
    state: str
    hash: bytes


@dataclass(slots=True)
class _Burst:
    """What is sent at a stretch; `acknowledged` goes with the answers."""

    acknowledged: int
    records: int = 0
    is_over: bool = False
    error: Exception | None = None
