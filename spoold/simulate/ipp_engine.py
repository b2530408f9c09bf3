"""What a simulated IPP printer does with jobs: takes, prints, keeps, forgets and spoils them.

In: jobs with their documents, and faults. Out: papers, a page counter, and states as RFC 8011 5.3.7
has them. Knows nothing of IPP's bytes or of connections.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from spoold.codec.ipp_names import JobState
from spoold.model.errors import OperationError
from spoold.simulate.printer import PAPERS_MAX, Paper, count_pages

FAULTS: Final = {
    "busy": "answers the first N requests for a job with server-error-busy (busy=2)",
    "not-accepting": "takes no jobs",
    "stopped": "has no paper, and prints nothing until that is mended",
    "slow": "takes N milliseconds a page (slow=500)",
    "stall": "reads no more of a document after N bytes (stall=4096)",
    "forget": "forgets every job that it has printed",
    "lose-create": "closes instead of answering the first N Create-Jobs, which it has done",
    "lose-send": "closes instead of answering the first N Send-Documents, which it has done",
    "lose-print": "closes instead of answering the first N Print-Jobs, which it has done",
    "abort": "aborts the first N jobs before their first page (abort=1)",
    "abort-late": "aborts the first N jobs after their first page (abort-late=1)",
    "cancel": "a person cancels each job at the panel",
    "bad-document": "finds each document unprintable",
    "refuse-late": "refuses a document as malformed after N bytes of it (refuse-late=4096)",
    "dumb": "says nothing of how its jobs are",
    "reject-wishes": "refuses a job that asks for anything, and names what it cannot do",
    "ignore-wishes": "does without what a job asks for, and says so",
    "print-job-only": "knows no Create-Job",
    "eager": "prints what came of a document when the connection breaks",
    "hold": "holds each job that it gets",
    "login": "wants a login, which nobody has (401)",
    "no-chunks": "wants a length, and takes no chunks (411)",
    "no-expect": "refuses what expects 100 Continue (417)",
    "no-continue": "never says 100 Continue",
    "unavailable": "answers the first N requests with HTTP 503 and Retry-After: 1",
    "upgrade": "wants TLS by upgrade (426)",
    "old": "knows IPP/1.1 and nothing newer",
    "garbage": "answers with bytes that are no IPP",
    "hang": "reads requests and never answers",
}
WITH_NUMBER: Final = frozenset(
    {
        "busy", "slow", "stall", "lose-create", "lose-send", "lose-print", "abort", "abort-late",
        "unavailable", "refuse-late",
    }
)  # fmt: skip
MEDIA_EMPTY: Final = "media-empty"


def parse_fault(text: str) -> tuple[str, int]:
    """`busy=2` as ("busy", 2).

    Raises:
        OperationError: `bad-request`, no such fault, or its number is missing.
    """
    kind, equals, value = text.partition("=")
    is_right = (equals == "=" and value.isdigit()) if kind in WITH_NUMBER else not equals
    if kind not in FAULTS or not is_right:
        known = "; ".join(f"{name}: {meaning}" for name, meaning in FAULTS.items())
        raise OperationError("bad-request", f"no such fault: {text!r}.", f"Known are {known}.")
    return kind, int(value) if value else 0


@dataclass(slots=True)
class SimulatedJob:
    id: int
    name: str
    user: str
    wishes: dict[str, Any]
    format: str = ""
    state: JobState = JobState.PENDING
    reasons: tuple[str, ...] = ("job-incoming",)
    data: bytes = b""
    documents: int = 0
    impressions: int = 0
    message: str = ""

    @property
    def copies(self) -> int:
        copies = self.wishes.get("copies", 1)
        return copies if isinstance(copies, int) else 1

    @property
    def is_final(self) -> bool:
        return self.state >= JobState.CANCELED


@dataclass
class Engine:
    """`run` prints, one job after the other. `page_count` is the counter of its life."""

    faults: dict[str, int] = field(default_factory=dict)
    page_count: int = 1000
    keeps_bytes: bool = True
    on_paper: Callable[[Paper], None] | None = None
    jobs: dict[int, SimulatedJob] = field(default_factory=dict)
    papers: deque[Paper] = field(default_factory=lambda: deque(maxlen=PAPERS_MAX))
    next_id: int = 1
    changed: trio.Event = field(default_factory=trio.Event)

    @property
    def sheets(self) -> int:
        """How many pages lie in the tray, all copies counted."""
        return sum(paper.pages * paper.copies for paper in self.papers)

    def stir(self) -> None:
        """Something has changed: whoever waits looks again."""
        self.changed.set()
        self.changed = trio.Event()

    def use_up(self, fault: str) -> bool:
        """Whether a fault that happens N times happens now."""
        if self.faults.get(fault, 0) <= 0:
            return False
        self.faults[fault] -= 1
        return True

    # --- jobs -------------------------------------------------------------------------------------

    def create(self, name: str, user: str, wishes: dict[str, Any]) -> SimulatedJob:
        job = SimulatedJob(self.next_id, name, user, wishes)
        self.next_id += 1
        self.jobs[job.id] = job
        self.stir()
        return job

    def take(self, job: SimulatedJob, data: bytes, format_: str) -> None:
        """The job has its document, whole."""
        job.data, job.format, job.documents = data, format_, 1
        job.state, job.reasons = JobState.PENDING, ("job-queued",)
        if "hold" in self.faults:
            job.state, job.reasons = JobState.PENDING_HELD, ("job-hold-until-specified",)
        self.stir()

    def break_off(self, job: SimulatedJob, data: bytes) -> None:
        """The connection broke inside the document."""
        if "eager" in self.faults and data:
            job.data, job.documents = data, 1
            self._put_out(job, 1, max(1, count_pages(data)))
            self._end(job, JobState.COMPLETED, "job-completed-successfully")
            job.reasons = ("submission-interrupted", "job-completed-with-errors")
        else:
            self._end(job, JobState.ABORTED, "submission-interrupted", "aborted-by-system")

    def cancel(self, job: SimulatedJob) -> None:
        self._end(job, JobState.CANCELED, "job-canceled-by-user")

    def forget_all(self) -> None:
        """It was switched off and on: what it had not printed is lost, what it had is forgotten."""
        self.jobs.clear()
        self.stir()

    # --- printing ---------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            job = next((one for one in self.jobs.values() if self._is_next(one)), None)
            if job is None:
                await self.changed.wait()
            else:
                await self._print(job)

    def _is_next(self, job: SimulatedJob) -> bool:
        return job.state == JobState.PENDING and job.documents > 0 and "stopped" not in self.faults

    async def _print(self, job: SimulatedJob) -> None:
        job.state, job.reasons = JobState.PROCESSING, ("job-printing",)
        pages = count_pages(job.data)
        if "cancel" in self.faults:
            return self._end(job, JobState.CANCELED, "job-canceled-at-device")
        if "bad-document" in self.faults:
            return self._end(job, JobState.ABORTED, "document-format-error", "aborted-by-system")
        if self.use_up("abort"):
            job.message = "It did not feel like it."
            return self._end(job, JobState.ABORTED, "aborted-by-system")
        if self.use_up("abort-late"):
            self._put_out(job, 1, 1)
            return self._end(job, JobState.ABORTED, "aborted-by-system")
        page_s = self.faults.get("slow", 0) / 1000
        for _ in range(pages * job.copies if page_s else 0):
            await trio.sleep(page_s)
            if job.is_final or job.id not in self.jobs:
                return None  # canceled, or switched off
            job.impressions += 1
        self._put_out(job, job.copies, pages)
        self._end(job, JobState.COMPLETED, "job-completed-successfully")
        if "forget" in self.faults:
            del self.jobs[job.id]
        return None

    def _put_out(self, job: SimulatedJob, copies: int, pages: int) -> None:
        job.impressions = pages * copies
        self.page_count += pages * copies
        paper = Paper("ipp", job.data, job.data, pages, copies, job.name, job.user)
        paper.format = job.format
        self.papers.append(paper)
        if self.on_paper is not None:
            self.on_paper(paper)
        if not self.keeps_bytes:
            paper.data = paper.document = b""

    def _end(self, job: SimulatedJob, state: JobState, *reasons: str) -> None:
        job.state, job.reasons = state, reasons
        if not self.keeps_bytes:
            job.data = b""
        self.stir()
