"""How the documents of one CUPS job get to a server: again and again, until one has them.

In: a queue and its task (`cups_job`), documents, and SIGTERM from CUPS. Out: an exit code. A server
that is away is asked at growing intervals. When CUPS ends the job, an upload is broken off; what a
server has accepted already is canceled there, so that nothing prints that CUPS gave up.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from math import inf
from typing import Any, BinaryIO, Protocol
from uuid import UUID

import trio

from spoold.model.errors import OperationError
from spoold.provider.client import Provider
from spoold.provider.credentials import read_bundle
from spoold.provider.cups_job import CLASS_WAIT_S, Queue, Task
from spoold.provider.cups_messages import AUTHENTICATE, CANCELED, DONE, HOLD, STOP, say
from spoold.provider.endpoint import Credentials, Tls
from spoold.provider.receipt import AnswerUnknown, Receipt, SubmitRefused, Unreachable

PAUSE_FIRST_S = 1.0
PAUSE_MAX_S = 60.0
ANSWER_GRACE_S = 3.0  # for the answer to a document that is out already when CUPS ends the job
TAKE_BACK_S = 5.0
PROGRESS_INTERVAL_S = 1.0
RUNS_MAX = 16

Document = str | bytes | BinaryIO  # a path, or what is in it
Documents = Sequence[Document]

# Refusals that pass: the server is there, and will have room, or the printer will be opened again.
_PASSING = frozenset({"not-accepting", "spool-area-full", "version-not-supported"})


class Terminating(Protocol):
    has_come: bool


class Ended(Exception):
    """The backend is done, with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def credentials_of(queue: Queue, path: str) -> Credentials | None:
    """What a connection of the queue needs; None for one in clear.

    Raises:
        ConfigError: the file cannot be used.
    """
    if not queue.is_tls:
        return None
    return read_bundle(path) if path else Tls()


class Pauses:
    """Growing pauses while nobody can help; `Ended` when it is time to give the job back."""

    def __init__(self, queue: Queue, task: Task) -> None:
        self._queue = queue
        limit_s = queue.contimeout_s
        if limit_s is None and task.is_of_class:
            limit_s = CLASS_WAIT_S
        self._ends_at = inf if limit_s is None else trio.current_time() + limit_s
        self._pause_s = PAUSE_FIRST_S
        self._parent = os.getppid()

    async def wait(self, why: str, *, may_give_back: bool = True) -> None:
        """Raises:
        Ended: CUPS has gone, or gets the job back.
        """
        if os.getppid() != self._parent:
            raise Ended(DONE)  # a CUPS that starts anew runs the job anew
        left_s = self._ends_at - trio.current_time() if may_give_back else inf
        if left_s <= 0:
            say("INFO", f"Given back to CUPS: {why}")
            raise Ended(self._queue.gives_back)
        # Many queues wait for the same server: not all at the same moment.
        pause_s = self._pause_s * (0.75 + os.getpid() % 64 / 128)
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
        say("INFO", f"Trying again in {max(1, round(min(pause_s, left_s)))} s: {why}")
        await trio.sleep(min(pause_s, left_s))


class Delivery:
    """The documents of one task on their way. `run` once."""

    def __init__(
        self, queue: Queue, task: Task, tls: Credentials | None, termination: Terminating
    ) -> None:
        self._queue = queue
        self._task = task
        self._tls = tls
        self._termination = termination
        self._scope = trio.CancelScope()
        self._sent: tuple[int, int] | None = None  # bytes of the document that went out, its size
        self._told_at = -inf
        self._is_connecting = False
        self._uuid: UUID | None = None  # of the document that is on its way
        self._receipts: list[Receipt] = []

    def run(self, documents: Documents) -> int:
        """The exit code, when a server has all documents or nothing more can be done.

        Raises:
            SpooldError: the queue or its credentials are wrong.
        """
        return trio.run(self._main, documents)

    async def _main(self, documents: Documents) -> int:
        provider = self._provider(self._queue.endpoints)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            if self._termination.has_come:
                return DONE
            self._show_connecting(True)
            async with provider, trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, signals)
                code = CANCELED
                with self._scope:
                    try:
                        code = await self._deliver(provider, documents)
                    except Ended as end:
                        code = end.code
                if self._termination.has_come:
                    code = DONE
                    with trio.move_on_after(TAKE_BACK_S):
                        await self._take_back()
                nursery.cancel_scope.cancel()
            self._show_connecting(False)
            return code

    def _show_connecting(self, is_connecting: bool) -> None:
        if is_connecting != self._is_connecting:
            self._is_connecting = is_connecting
            say("STATE", f"{'+' if is_connecting else '-'}connecting-to-device")

    def _provider(self, endpoints: Sequence[str]) -> Provider:
        # It goes through all servers once and says how that went; the pauses are ours.
        return Provider(endpoints, tls=self._tls, kind="cups-backend", unreachable_timeout_s=0)

    async def _watch(self, signals: AsyncIterator[int]) -> None:
        """What is out whole gets a moment for its answer: only then it can be taken back."""
        async for _ in signals:
            self._termination.has_come = True
            is_out = self._sent is not None and self._sent[0] == self._sent[1]
            grace_s = ANSWER_GRACE_S if is_out and self._uuid is not None else 0.0
            self._scope.deadline = trio.current_time() + grace_s

    # -- handing over ----------------------------------------------------------------------------

    async def _deliver(self, provider: Provider, documents: Documents) -> int:
        for number, document in enumerate(documents):
            title = self._task.title
            if len(documents) > 1:
                title += f" ({number + 1} of {len(documents)})"
            receipt = await self._submit(provider, document, number, title)
            self._receipts.append(receipt)
            self._uuid = None
            self._show_connecting(False)
            if self._termination.has_come:
                return DONE
            again = ", as before" if receipt.is_duplicate else ""
            say("INFO", f"Accepted{again}: job {receipt.job_id} at {receipt.node_name}.")
            say("DEBUG", f"{receipt.endpoint} has {receipt.job_uuid}, {receipt.digest}.")
            for name in receipt.unknown:
                say("WARNING", f"{name} may have this job too: its answer was lost.")
        if not self._queue.waits_for_end:
            return DONE
        return await self._wait_for_ends()

    async def _submit(
        self, provider: Provider, document: Document, number: int, title: str
    ) -> Receipt:
        """Raises:
        Ended: no server will have it, or CUPS gets it back.
        """
        pauses = Pauses(self._queue, self._task)
        run = 0
        while True:
            uuid = self._uuid = self._task.job_uuid(number, run)
            self._sent = None
            try:
                receipt = await provider.submit(
                    document,
                    printer=self._queue.printer,
                    user=self._task.user,
                    title=title,
                    copies=self._task.copies,
                    priority=self._queue.priority,
                    hold=self._queue.hold,
                    format=self._task.format,
                    attributes=self._task.attributes(),
                    job_uuid=uuid,
                    timeout_s=inf,
                    progress=self._progress,
                )
            except SubmitRefused as error:
                if error.code == "conflict":
                    earlier = await self._earlier(provider, uuid)
                    if not _was_taken_back(earlier) or run >= RUNS_MAX:
                        raise _in_conflict(earlier) from error
                    run += 1
                elif error.code in _PASSING:
                    await pauses.wait(error.message)
                else:
                    raise _refused(error) from error
            except Unreachable as error:
                if len(error.distrusted) == len(error.causes) > 0:
                    say("ERROR", f"{error.message} Look at the credentials of the backend.")
                    raise Ended(AUTHENTICATE) from error
                self._show_connecting(True)
                await pauses.wait(error.message)
            except AnswerUnknown as error:
                # Another member of a class would print it once more.
                await pauses.wait(error.message, may_give_back=False)
            except OSError as error:
                say("ERROR", f"the document cannot be read: {error.strerror or error}.")
                raise Ended(HOLD) from error
            else:
                if not receipt.is_duplicate or receipt.state != "canceled" or run >= RUNS_MAX:
                    return receipt
                if not _was_taken_back(await self._earlier(provider, uuid)):
                    return receipt
                run += 1

    def _progress(self, sent: int, size: int) -> None:
        self._sent = sent, size
        self._show_connecting(False)
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_INTERVAL_S:
            if self._told_at > -inf:
                say("ATTR", f"job-media-progress={100 * sent // max(size, 1)}")
            self._told_at = now

    async def _earlier(self, provider: Provider, uuid: UUID) -> dict[str, Any]:
        """What the server says of the job that has this uuid; empty when it does not say."""
        try:
            return await provider.call("job.show", {"job": str(uuid)})
        except (OperationError, Unreachable):
            return {}

    # -- following to the end --------------------------------------------------------------------

    async def _wait_for_ends(self) -> int:
        say("STATE", "+cups-waiting-for-job-completed")
        try:
            codes = [await self._wait_for_end(receipt) for receipt in self._receipts]
        finally:
            say("STATE", "-cups-waiting-for-job-completed")
        return max(codes)

    async def _wait_for_end(self, receipt: Receipt) -> int:
        """Raises:
        Ended: the server knows nothing of the job any more, or CUPS has gone.
        """
        # The other servers know nothing of this job.
        async with self._provider([receipt.endpoint]) as provider:
            pauses = Pauses(self._queue, self._task)
            while True:
                try:
                    job = await provider.call(
                        "job.follow",
                        {"job": str(receipt.job_uuid)},
                        lambda _, args: _tell(receipt, args),
                    )
                except Unreachable as error:
                    await pauses.wait(error.message, may_give_back=False)
                except OperationError as error:
                    if error.code != "not-found":
                        await pauses.wait(error.message, may_give_back=False)
                        continue
                    say("ERROR", f"{receipt.node_name} forgot the job that it had accepted.")
                    raise Ended(HOLD) from error
                else:
                    return DONE if job["state"] == "completed" else CANCELED

    # -- taking back -----------------------------------------------------------------------------

    async def _take_back(self) -> None:
        """Cancel what servers have of the job; for one whose answer is missing, ask all."""
        jobs = [(receipt.job_uuid, receipt.endpoint) for receipt in self._receipts]
        if self._uuid is not None and self._sent is not None:
            jobs += [(self._uuid, endpoint) for endpoint in self._queue.endpoints]
        async with trio.open_nursery() as nursery:
            for uuid, endpoint in jobs:
                nursery.start_soon(self._cancel, uuid, endpoint)

    async def _cancel(self, uuid: UUID, endpoint: str) -> None:
        async with self._provider([endpoint]) as provider:
            try:
                await provider.call("job.cancel", {"job": str(uuid)})
            except (OperationError, Unreachable) as error:
                say("DEBUG", f"not canceled at {endpoint}: {error}")
            else:
                say("INFO", f"Canceled at {endpoint}.")


def _was_taken_back(job: dict[str, Any]) -> bool:
    """Whether an earlier submission was canceled from this side: then the job is to come again.

    So it is when CUPS moved the job to another queue, or stopped and started again.
    """
    return job.get("state") == "canceled" and "job-canceled-by-user" in job.get("reasons", ())


def _in_conflict(job: dict[str, Any]) -> Ended:
    """The server has this job with other contents, or for another printer: a person decides."""
    known = f", as job {job['id']}, which is {job['state']}" if job else ""
    say(
        "ERROR",
        f"this job was handed over before with other contents{known}. Look there; to print it "
        "again, cancel it here and restart it.",
    )
    return Ended(HOLD)


def _refused(error: SubmitRefused) -> Ended:
    """What becomes of a job that no server will have."""
    say("ERROR", f"{error.message} {error.advice}".strip())
    if error.code.startswith("account-"):
        say("JOBSTATE", error.code)
        return Ended(HOLD)
    if error.code == "forbidden":
        return Ended(AUTHENTICATE)
    return Ended(STOP if error.code == "not-found" else HOLD)


def _tell(receipt: Receipt, args: dict[str, Any]) -> None:
    """Show CUPS what the server says of its job."""
    state, message = args.get("state", ""), args.get("message", "")
    told = f"Job {receipt.job_id} at {receipt.node_name}: {state}"
    say("INFO", f"{told}; {message}" if message else f"{told}.")
    reasons = [one for one in args.get("reasons", ()) if one != "none"]
    if not reasons and state == "processing":
        reasons = ["job-printing"]
    if reasons:
        say("JOBSTATE", reasons[0])
