"""What a site fetches over its line: jobs for its printers that its application server was given.

In: offers, and documents in pieces (FRAMES.md 12). Out: jobs in this spool, through the one door of
all jobs, said to be here after their commit; and how they do, until they end. Every step can be cut
off and done again: a job that is here already is answered as such, and states are told anew by each
new line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold.driver.handed_on import told_of
from spoold.intake.acceptance import Acceptance
from spoold.intake.submission import Submission
from spoold.intake.upload import Upload
from spoold.model.errors import OperationError, SpooldError
from spoold.model.job import ACTIVE, JobReason, JobState, reasons_after
from spoold.model.node import LineState
from spoold.model.person import Known, Owner
from spoold.model.transitions import JobEvent, next_state
from spoold.site.handing import CANCELED, OFFERED
from spoold.site.line import Line, Lost
from spoold.spool import handed
from spoold.spool.crashpoint import crash_point
from spoold.spool.handed import HANDED_ON, LINE, JobThere
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import (
    Accepted,
    ChangeJob,
    Event,
    JobMoved,
    PaidElsewhere,
    ReleaseJob,
)

log = structlog.get_logger("spoold.site")

ANSWER_S = 30.0
PIECES_AT_ONCE = 8
LOOK_S = 30.0  # how often it asks unasked
AGAIN_LEAST_S = 0.1
PAUSE_S = 1.0
STATES_AT_ONCE = 50


class Fetching:
    """`catch_up` makes this node's copy what its application server has now; `printer_name` says
    what the printer with this GUID is called here, if it is here.
    """

    def __init__(
        self,
        line: Line,
        acceptance: Acceptance,
        journal: Journal,
        reader: SqliteReader,
        catch_up: Callable[[], Awaitable[object]],
        printer_name: Callable[[UUID], Awaitable[str | None]],
        wall_clock: Callable[[], int],
    ) -> None:
        self._line = line
        self._acceptance = acceptance
        self._journal = journal
        self._reader = reader
        self._catch_up = catch_up
        self._printer_name = printer_name
        self._wall_clock = wall_clock
        self._ours: dict[int, UUID] = {}  # jobs whose end is still to be told, by their number
        self._moved: dict[UUID, None] = {}
        self._is_offered = True
        self._is_all_to_tell = True
        self._look_s = LOOK_S
        self._bell = trio.Event()
        line.hear(OFFERED, self._offered)
        line.hear(CANCELED, self._asked)
        line.listen(self._line_changed)
        journal.listen(self._hear)

    # -- what wakes it ---------------------------------------------------------------------------

    def _ring(self) -> None:
        self._bell.set()
        self._bell = trio.Event()

    def _offered(self, args: dict[str, Any]) -> None:
        self._is_offered = True
        self._ring()

    def _asked(self, args: dict[str, Any]) -> None:
        self._is_all_to_tell = True
        self._ring()

    def _line_changed(self, state: LineState) -> None:
        self._is_offered = self._is_all_to_tell = True
        self._ring()

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is JobMoved and event.job_id in self._ours:
                self._moved[self._ours[event.job_id]] = None
        if self._moved:
            self._ring()

    # -- its life --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Fetch and tell, for ever."""
        while True:
            await self._line.wait_up()
            bell = self._bell
            try:
                is_done = await self._turn()
            except (Lost, OperationError, SpooldError) as error:
                log.info("jobs_not_fetched", reason=str(error))
                self._is_offered = self._is_all_to_tell = True
                await trio.sleep(PAUSE_S)
                continue
            if is_done:
                with trio.move_on_after(self._look_s) as scope:
                    await bell.wait()
                if scope.cancelled_caught:
                    self._is_offered = True

    async def _turn(self) -> bool:
        """Whether nothing is left to do."""
        if self._is_all_to_tell:
            self._is_all_to_tell = False
            await self._tell_all()
        if self._moved:
            moved, self._moved = list(self._moved), {}
            try:
                await self._tell(moved)
            except BaseException:
                self._moved |= dict.fromkeys(moved)
                raise
        if self._is_offered:
            self._is_offered = False
            await self._fetch()
        return not (self._is_offered or self._moved or self._is_all_to_tell)

    async def _call(self, op: str, **args: Any) -> dict[str, Any]:
        return await self._line.call(op, args, ANSWER_S)

    # -- fetching --------------------------------------------------------------------------------

    async def _fetch(self) -> None:
        """Take what is offered now: the jobs of a printer in their order, printers side by side."""
        answer = await self._call("site.jobs")
        if answer["jobs"]:
            await self._catch_up()  # how they are to be printed was decided before they came
        again_s = answer.get("again_s")
        self._look_s = LOOK_S if again_s is None else min(LOOK_S, again_s + AGAIN_LEAST_S)
        offers: dict[str, list[dict[str, Any]]] = {}
        for offer in answer["jobs"]:
            offers.setdefault(offer["printer_guid"], []).append(offer)
        errors: list[Exception] = []
        async with trio.open_nursery() as nursery:
            for one in offers.values():
                nursery.start_soon(self._take_all, one, nursery, errors)
        if errors:
            raise errors[0]
        self._is_offered = self._is_offered or bool(offers)  # there may be more behind it

    async def _take_all(
        self, offers: Sequence[dict[str, Any]], nursery: trio.Nursery, errors: list[Exception]
    ) -> None:
        """Have these jobs, one after the other; the application server is told meanwhile."""
        heads: dict[int, bytes] = {}

        async def look_ahead(job: int) -> None:
            with suppress(Lost, OperationError):  # who needs it asks again
                heads[job] = (await self._call("site.document", job=job, offset=0))["data"]

        async def tell(offer: dict[str, Any], told: dict[str, Any]) -> None:
            try:
                await self._call("site.took", job=offer["job"], **told)
            except (Lost, OperationError) as error:
                errors.append(error)

        async with trio.open_nursery() as ahead:
            for offer in offers:
                ahead.start_soon(look_ahead, offer["job"])
        for offer in offers:
            try:
                told = await self._take(offer, heads.pop(offer["job"], b""))
            except Lost as error:
                errors.append(error)
                return
            crash_point("fetched-before-took")
            nursery.start_soon(tell, offer, told)

    async def _take(self, offer: dict[str, Any], head: bytes) -> dict[str, Any]:
        """Have the job; what is to be said of it.

        Raises:
            Lost: the line broke.
        """
        try:
            accepted = await self._accept(offer, head)
        except (OperationError, SpooldError) as error:
            code = error.code if isinstance(error, OperationError) else "internal-error"
            log.warning("job_not_taken", job_uuid=offer["job_uuid"], reason=str(error))
            return {"error": code, "message": str(error)[:500]}
        await self._unfence(accepted.uuid)
        self._ours[accepted.job_id] = accepted.uuid
        self._moved[accepted.uuid] = None
        if offer["canceled"]:
            self._is_all_to_tell = True
        return {"job_id": accepted.job_id}

    async def _unfence(self, uuid: UUID) -> None:
        """Who offers a job knows that it was printed nowhere: it waits here no more for that."""
        there = (await self._here([uuid])).get(uuid)
        if (
            there is not None
            and there.state == JobState.PENDING_HELD
            and JobReason.JOB_REHOMED in there.reasons
        ):
            rest = reasons_after(there.reasons, JobReason.JOB_REHOMED)
            event, only = JobEvent.HOLD if rest else JobEvent.RELEASE, (JobState.PENDING_HELD,)
            now_us = self._wall_clock()
            change = ChangeJob(there.job_id, event, now_us, reasons=rest, only_from=only)
            await self._journal.commit_all([change])  # canceled meanwhile: it is told as it is

    async def _accept(self, offer: dict[str, Any], head: bytes) -> Accepted:
        """Raises OperationError, SpoolError: it cannot be taken; Lost: the line broke."""
        name = await self._printer_name(UUID(offer["printer_guid"]))
        if name is None:
            raise OperationError("not-found", f"there is no printer {offer['printer']} here yet.")
        submission = _understood(offer, name)
        home = await self._come_home(offer, submission)
        if home is not None:
            return home
        upload = await self._acceptance.begin(submission)
        try:
            if upload.accepted is None:
                if offer["canceled"]:
                    raise OperationError("canceled", "it is canceled, and was never here.")
                if offer.get("late"):
                    raise OperationError("too-late", "it was released too long ago.")
                if not upload.offset:
                    await upload.write(head)
                await self._copy(offer, upload)
            return await upload.commit(offer["size"], offer["digest"])
        except (OperationError, SpooldError):
            await upload.abandon()
            raise
        finally:
            await upload.suspend()  # what came of it is kept for the next try

    async def _come_home(self, offer: dict[str, Any], asked: Submission) -> Accepted | None:
        """A job that this node has already: it is here, whole.

        It was given away, or it waits, and was released, and paid, above: a provider had gone to
        both nodes with it, this one was put back to when it had not given it away yet, or its
        printer was another node's meanwhile.

        Raises:
            OperationError: `busy`: it is changed in this moment; `paid-here`: it came out here.
        """
        uuid, printer = UUID(offer["job_uuid"]), self._acceptance.printer(asked.printer)
        job = await self._reader.job_by_uuid(uuid)
        if job is None or job.document.digest != offer["digest"]:
            return None
        state, is_moved = job.state, job.printer_id != printer.id
        is_given = JobReason.JOB_WAITS_ELSEWHERE in job.reasons
        is_same = job.submitter == asked.submitter and job.documents == 1
        is_waiting = job.awaits_release or JobReason.JOB_REHOMED in job.reasons
        if is_given or (is_same and is_waiting and offer["released"]):
            change = ReleaseJob(
                job.id,
                printer.id,
                self._wall_clock(),
                job.changed_us,
                "node",
                copies=None if asked.copies == job.copies else asked.copies,
                attributes=None if asked.attributes == job.attributes else asked.attributes,
                comes_home=True,
            )
            try:
                state = (await self._journal.commit(change)).state
            except OperationError as error:
                if error.code != "conflict":
                    raise
                raise OperationError("busy", error.message) from error
        elif is_moved:
            return None
        elif is_same and offer["released"]:  # here and there in the same moment: one pays
            await self._journal.commit(PaidElsewhere(job.id, self._wall_clock()))
        return Accepted(job.id, uuid, 0, state, is_duplicate=True)

    async def _copy(self, offer: dict[str, Any], upload: Upload) -> None:
        size = offer["size"]
        while upload.offset < size:
            for data in await self._pieces(offer["job"], upload.offset, size):
                await upload.write(data)

    async def _pieces(self, job: int, first: int, size: int) -> Sequence[bytes]:
        """Several pieces in a row, asked for at once.

        Raises:
            Lost, OperationError: one did not come; those before it are not kept either.
        """
        head = (await self._call("site.document", job=job, offset=first))["data"]
        if not head:
            raise OperationError("internal-error", "the document ended before its size.")
        step = len(head)
        offsets = range(first + step, min(size, first + step * PIECES_AT_ONCE), step)
        found: dict[int, bytes] = {first: head}
        errors: list[Exception] = []

        async def ask(offset: int) -> None:
            try:
                found[offset] = (await self._call("site.document", job=job, offset=offset))["data"]
            except (Lost, OperationError) as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for offset in offsets:
                nursery.start_soon(ask, offset)
        if errors:
            raise errors[0]
        return [found[offset] for offset in (first, *offsets)]

    # -- telling ---------------------------------------------------------------------------------

    async def _tell_all(self) -> None:
        """Ask which jobs the application server waits for, cancel what it wants, tell of all."""
        after_id: int | None = 0
        while after_id is not None:
            page = await self._call("site.handed", after_id=after_id)
            after_id = page["next_after_id"]
            uuids = [UUID(one["job_uuid"]) for one in page["jobs"]]
            there = await self._here(uuids)
            self._ours |= {there[uuid].job_id: uuid for uuid in uuids if uuid in there}
            canceled = {UUID(one["job_uuid"]) for one in page["jobs"] if one["canceled"]}
            await self._cancel([there[uuid] for uuid in uuids if uuid in canceled & there.keys()])
            await self._tell(uuids)

    async def _here(self, uuids: Sequence[UUID]) -> dict[UUID, JobThere]:
        found: dict[UUID, JobThere] = await self._reader.look(handed.find_there, list(uuids))
        return found

    async def _cancel(self, jobs: Sequence[JobThere]) -> None:
        now_us = self._wall_clock()
        changes = [change for one in jobs if (change := _cancel_of(one, now_us)) is not None]
        if changes:
            await self._journal.commit_all(changes)  # what moved on meanwhile is told as it is

    async def _tell(self, uuids: Sequence[UUID]) -> None:
        for first in range(0, len(uuids), STATES_AT_ONCE):
            some = uuids[first : first + STATES_AT_ONCE]
            there = await self._here(some)
            await self._call("site.states", jobs=[told_of(uuid, there.get(uuid)) for uuid in some])
            for one in there.values():
                if JobState(one.state).is_final:
                    self._ours.pop(one.job_id, None)


def _understood(offer: dict[str, Any], printer: str) -> Submission:
    """The job that is offered.

    Raises:
        OperationError: `not-possible`: a newer application server says it in words unknown here.
    """
    try:
        return _submission(offer, printer)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise OperationError(
            "not-possible", f"the offer cannot be understood: {error}.", "Update this node."
        ) from error


def _submission(offer: dict[str, Any], printer: str) -> Submission:
    told = offer["handed_on"]
    return Submission(
        printer,
        Owner(offer["user"], Known(told["known"]), told["by"]),
        told.get("submitter", "node"),
        HANDED_ON,
        told["client_host"],
        uuid=UUID(offer["job_uuid"]),
        title=offer["title"],
        copies=offer["copies"],
        copies_embedded=told["copies_embedded"],
        priority=offer["priority"],
        attributes=offer["attributes"],
        format=offer["format"],
        size=offer["size"],
        digest_algorithm=offer["digest"].partition(":")[0],
        created_us=told["created_us"],
        is_released=offer["released"],
        handed_by=LINE,
    )


def _cancel_of(job: JobThere, now_us: int) -> ChangeJob | None:
    """What cancels a job here that was canceled where it was first accepted."""
    state = JobState(job.state)
    if state.is_final or JobReason.PROCESSING_TO_STOP_POINT in job.reasons:
        return None
    is_active = state in ACTIVE
    event = JobEvent.STOP if is_active else JobEvent.CANCEL
    next_state(state, event)
    stop = (JobReason.PROCESSING_TO_STOP_POINT.value,) * is_active
    reasons = (*stop, JobReason.JOB_CANCELED_BY_USER.value)
    return ChangeJob(job.job_id, event, now_us, reasons=reasons, only_from=(state,))
