"""How the documents of one CUPS job get to a server: again and again, until one has them.

In: a queue and its task (`cups_job`), documents, and SIGTERM from CUPS. Out: an exit code. A server
that is away is asked at growing intervals. When CUPS ends the job, an upload is broken off; what a
server has accepted already is canceled there, so that nothing prints that CUPS gave up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, BinaryIO, Protocol
from uuid import UUID

from spoold.model.errors import ConfigError, OperationError
from spoold.net.blocking import CHECK_S
from spoold.provider.alone import Alone, Printed
from spoold.provider.credentials import read_bundle
from spoold.provider.cups_job import CLASS_WAIT_S, Queue, Task
from spoold.provider.cups_messages import (
    AUTHENTICATE,
    CANCELED,
    DONE,
    HOLD,
    RETRY_CURRENT,
    STOP,
    say,
)
from spoold.provider.direct import DirectProvider
from spoold.provider.endpoint import Credentials, Tls
from spoold.provider.receipt import AnswerUnknown, Receipt, SubmitRefused, Unreachable

PAUSE_FIRST_S = 1.0
PAUSE_MAX_S = 60.0
# CUPS cancels what has been processing for three hours (MaxJobTime), as if it were stuck: before
# that it gets the job back, and starts it anew at once.
TURN_S = 3600.0
ANSWER_GRACE_S = 3.0  # for the answer to a document that is out already when CUPS ends the job
TAKE_BACK_S = 5.0
PROGRESS_INTERVAL_S = 1.0
RUNS_MAX = 16

Document = str | bytes | BinaryIO  # a path, or what is in it

# Refusals that pass: the server is there, and will have room, or the printer will be opened again.
_PASSING = frozenset({"not-accepting", "spool-area-full", "version-not-supported"})


class Terminating(Protocol):
    has_come: bool


class Ended(Exception):
    """The backend is done, with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Terminated(BaseException):
    """CUPS has ended the job; nothing on the way takes it for its own."""


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

    def __init__(self, queue: Queue, task: Task, check: Callable[[], None]) -> None:
        self._queue = queue
        self._check = check
        limit_s = queue.contimeout_s
        if limit_s is None and task.is_of_class:
            limit_s = CLASS_WAIT_S
        self._ends_at = inf if limit_s is None else time.monotonic() + limit_s
        self._turn_ends_at = time.monotonic() + TURN_S
        self._pause_s = PAUSE_FIRST_S
        self._parent = os.getppid()

    def wait(self, why: str, *, may_give_back: bool = True) -> None:
        """Raises:
        Ended: CUPS has gone, or gets the job back.
        """
        if os.getppid() != self._parent:
            raise Ended(DONE)  # a CUPS that starts anew runs the job anew
        if may_give_back and time.monotonic() >= self._turn_ends_at:
            raise Ended(RETRY_CURRENT)
        left_s = self._ends_at - time.monotonic() if may_give_back else inf
        if left_s <= 0:
            say("INFO", f"Given back to CUPS: {why}")
            raise Ended(self._queue.gives_back)
        # Many queues wait for the same server: not all at the same moment.
        pause_s = min(left_s, self._pause_s * (0.75 + os.getpid() % 64 / 128))
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
        say("INFO", f"Trying again in {max(1, round(pause_s))} s: {why}")
        ends_at = time.monotonic() + pause_s
        while (left_s := ends_at - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left_s, CHECK_S))


class Delivery:
    """The documents of one task on their way. `run` once.

    Raises:
        SpooldError: the credentials cannot be used.
    """

    def __init__(
        self,
        queue: Queue,
        task: Task,
        tls: Credentials | None,
        termination: Terminating,
        alone: Alone | None = None,
    ) -> None:
        """`alone` prints without a server, where that is allowed; without it all jobs wait."""
        self._queue = queue
        self._alone = alone
        self._unreached_at: float | None = None
        self._task = task
        self._tls = tls
        self._termination = termination
        self._terminates_at: float | None = None
        self._uuid: UUID | None = None  # of a document that is out whole; its answer is to come,
        self._doubtful: UUID | None = None  # or never came
        self._told_at: float | None = None
        self._is_connecting = False
        self._receipts: list[Receipt] = []
        # It goes through all servers once and says how that went; the pauses are ours.
        self._provider = self._provider_of(queue.endpoints, self._check)

    def _provider_of(
        self, endpoints: Sequence[str], check: Callable[[], None], timeout_s: float = 5.0
    ) -> DirectProvider:
        return DirectProvider(
            endpoints,
            tls=self._tls,
            kind="cups-backend",
            connect_timeout_s=timeout_s,
            unreachable_timeout_s=0,
            check=check,
        )

    def run(self, documents: Sequence[Document]) -> int:
        """The exit code, when a server has all documents or nothing more can be done."""
        if self._termination.has_come:
            return DONE
        self._show_connecting(True)
        try:
            with self._provider:
                code = self._deliver(documents)
        except Ended as end:
            code = end.code
        except _Terminated:
            code = CANCELED
        if self._termination.has_come:
            self._take_back()
            code = DONE
        self._show_connecting(False)
        return code

    def _check(self) -> None:
        """What is out whole gets a moment for its answer: only then it can be taken back."""
        if not self._termination.has_come:
            return
        now = time.monotonic()
        if self._terminates_at is None:
            self._terminates_at = now + (0.0 if self._uuid is None else ANSWER_GRACE_S)
        if now >= self._terminates_at:
            raise _Terminated

    def _show_connecting(self, is_connecting: bool) -> None:
        if is_connecting != self._is_connecting:
            self._is_connecting = is_connecting
            say("STATE", f"{'+' if is_connecting else '-'}connecting-to-device")

    # -- handing over ----------------------------------------------------------------------------

    def _deliver(self, documents: Sequence[Document]) -> int:
        for number, document in enumerate(documents):
            title = self._task.title
            if len(documents) > 1:
                title += f" ({number + 1} of {len(documents)})"
            answer = self._submit(document, number, title)
            self._uuid = self._doubtful = None
            self._show_connecting(False)
            if isinstance(answer, Receipt):
                self._receipts.append(answer)
            if self._termination.has_come:
                return DONE
            _say_of(answer)
        if self._receipts:
            self._tell_servers()
        return self._wait_for_ends() if self._queue.waits_for_end and self._receipts else DONE

    def _tell_servers(self) -> None:
        """One has answered: it hears what was printed without it, and says what may be so."""
        if self._alone is None:
            return
        try:
            told = self._alone.tell(self._provider)
        except (Unreachable, OSError, ConfigError) as error:
            say("DEBUG", f"not reported: {error}")
            return
        for note, refusal in told.refused:
            say("WARNING", f"{note.job_uuid} was printed here, and not reported: {refusal}")

    def _submit(self, document: Document, number: int, title: str) -> Receipt | Printed:
        """Raises:
        Ended: no server will have it, or CUPS gets it back.
        """
        pauses = Pauses(self._queue, self._task, self._check)
        run = 0
        while True:
            uuid = self._task.job_uuid(number, run)
            try:
                receipt = self._submit_as(uuid, document, title)
                self._unreached_at = None
            except SubmitRefused as error:
                self._unreached_at = None
                if error.code == "conflict":
                    earlier = self._earlier(uuid)
                    if not _was_taken_back(earlier) or run >= RUNS_MAX:
                        raise _in_conflict(earlier) from error
                    run += 1
                elif error.code in _PASSING:
                    pauses.wait(error.message)
                else:
                    raise _refused(error) from error
            except Unreachable as error:
                if error.is_for_good:
                    say("ERROR", f"{error.message} Look at the credentials of the backend.")
                    raise Ended(AUTHENTICATE) from error
                self._show_connecting(True)
                pauses.wait(error.message)
            except AnswerUnknown as error:
                self._doubtful = uuid
                # Another member of a class would print it once more.
                pauses.wait(error.message, may_give_back=False)
            except OSError as error:
                say("ERROR", f"the document cannot be read: {error.strerror or error}.")
                raise Ended(HOLD) from error
            else:
                if isinstance(receipt, Printed):
                    return receipt
                if not receipt.is_duplicate or receipt.state != "canceled" or run >= RUNS_MAX:
                    return receipt
                if not _was_taken_back(self._earlier(uuid)):
                    return receipt
                run += 1

    def _submit_as(self, uuid: UUID, document: Document, title: str) -> Receipt | Printed:
        """Raises what `Provider.submit` does."""

        def progress(sent: int, size: int) -> None:
            self._uuid = uuid if sent == size else None
            self._show_connecting(False)
            self._tell_progress(sent, size)

        self._uuid = None
        job: dict[str, Any] = {
            "printer": self._queue.printer,
            "user": self._task.user,
            "title": title,
            "copies": self._task.copies,
            "priority": self._queue.priority,
            "hold": self._queue.hold,
            "format": self._task.format,
            "attributes": self._task.attributes(),
            "timeout_s": inf,
        }
        if self._alone is None:
            return self._provider.submit(document, job_uuid=uuid, progress=progress, **job)
        return self._alone.submit(
            self._provider,
            document,
            job_uuid=uuid,
            may_print=self._is_patience_over,
            check=self._check,
            progress=progress,
            **job,
        )

    def _is_patience_over(self) -> bool:
        """Whether no server was reached for so long that the job may be printed without one."""
        now = time.monotonic()
        if self._unreached_at is None:
            self._unreached_at = now
        return now - self._unreached_at >= self._queue.patience_s

    def _tell_progress(self, sent: int, size: int) -> None:
        """Of what takes longer than a moment."""
        now = time.monotonic()
        if self._told_at is None:
            self._told_at = now
        elif now - self._told_at >= PROGRESS_INTERVAL_S:
            self._told_at = now
            say("ATTR", f"job-media-progress={100 * sent // max(size, 1)}")

    def _earlier(self, uuid: UUID) -> dict[str, Any]:
        """What the server says of the job that has this uuid; empty when it does not say."""
        try:
            return self._provider.call("job.show", {"job": str(uuid)})
        except (OperationError, Unreachable):
            return {}

    # -- following to the end --------------------------------------------------------------------

    def _wait_for_ends(self) -> int:
        say("STATE", "+cups-waiting-for-job-completed")
        try:
            return max(self._wait_for_end(receipt) for receipt in self._receipts)
        finally:
            say("STATE", "-cups-waiting-for-job-completed")

    def _wait_for_end(self, receipt: Receipt) -> int:
        """Raises:
        Ended: the server knows nothing of the job any more, CUPS has gone, or the turn is over.
        """
        turn_ends_at = time.monotonic() + TURN_S

        def check() -> None:
            self._check()
            # The next member of a class would know nothing of this job.
            if time.monotonic() >= turn_ends_at and not self._task.is_of_class:
                raise Ended(RETRY_CURRENT)

        pauses = Pauses(self._queue, self._task, check)
        # The other servers know nothing of this job.
        with self._provider_of([receipt.endpoint], check) as provider:
            while True:
                try:
                    job = provider.call(
                        "job.follow",
                        {"job": str(receipt.job_uuid)},
                        lambda _, args: _tell(receipt, args),
                    )
                except Unreachable as error:
                    pauses.wait(error.message, may_give_back=False)
                except OperationError as error:
                    if error.code != "not-found":
                        pauses.wait(error.message, may_give_back=False)
                        continue
                    say("ERROR", f"{receipt.node_name} forgot the job that it had accepted.")
                    raise Ended(HOLD) from error
                else:
                    if type(job.get("impressions")) is int:
                        say("PAGE", f"total {job['impressions']}")
                    return DONE if job["state"] == "completed" else CANCELED

    # -- taking back -----------------------------------------------------------------------------

    def _take_back(self) -> None:
        """Cancel what servers have of the job; for one whose answer is missing, ask all."""
        ends_at = time.monotonic() + TAKE_BACK_S

        def check() -> None:
            if time.monotonic() >= ends_at:
                raise _Terminated

        jobs = [(receipt.job_uuid, receipt.endpoint) for receipt in self._receipts]
        for uuid in {self._uuid, self._doubtful} - {None}:
            assert uuid is not None
            jobs += [(uuid, endpoint) for endpoint in self._queue.endpoints]
        try:
            for uuid, endpoint in jobs:
                with self._provider_of([endpoint], check, TAKE_BACK_S / 2) as provider:
                    _cancel(provider, uuid, endpoint)
        except _Terminated:
            say("WARNING", "CUPS ended the job, and a server that may have it was not reached.")


def _say_of(answer: Receipt | Printed) -> None:
    if isinstance(answer, Printed):
        how = "may have been printed" if answer.is_in_doubt else "was printed"
        say("WARNING" if answer.is_in_doubt else "INFO", f"It {how} on {answer.uri} directly.")
        return
    again = ", as before" if answer.is_duplicate else ""
    say("INFO", f"Accepted{again}: job {answer.job_id} at {answer.node_name}.")
    say("DEBUG", f"{answer.endpoint} has {answer.job_uuid}, {answer.digest}.")
    for name in answer.unknown:
        say("WARNING", f"{name} may have this job too: its answer was lost.")


def _cancel(provider: DirectProvider, uuid: UUID, endpoint: str) -> None:
    try:
        provider.call("job.cancel", {"job": str(uuid)})
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
