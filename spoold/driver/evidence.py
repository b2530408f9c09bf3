"""What became of a document whose connection broke: a verdict from evidence, never from hope.

In: how many of its bytes the device's kernel acknowledged, and what a page counter says. Out: an
`Outcome`. Nothing acknowledged is safe to send again; everything acknowledged and counted is
delivered; all else is in doubt, for the printer's policy or an operator.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from spoold.model.job import Job
from spoold.model.outcome import Deferred, Delivered, InDoubt, Outcome

# Where intake or a client said how many sides a copy has (RFC 8011 5.2.17, PWG 5100.7).
_PAGE_ATTRIBUTES: Final = ("job-impressions", "job-pages")
COUNTER_POLL_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Pages:
    """A page counter before and after, and what it should have risen by; None is not known."""

    before: int | None = None
    after: int | None = None
    expected: int | None = None

    @property
    def printed(self) -> int | None:
        if self.before is None or self.after is None:
            return None
        return self.after - self.before

    @property
    def is_proof(self) -> bool:
        printed = self.printed
        return bool(self.expected) and printed is not None and printed >= (self.expected or 0)

    def as_evidence(self) -> dict[str, Any]:
        known = {
            "page_count_before": self.before,
            "page_count_after": self.after,
            "pages_expected": self.expected,
        }
        return {key: value for key, value in known.items() if value is not None}


def expected_pages(job: Job) -> int | None:
    """How many sides the job prints, all copies together; None when nobody counted them.

    What was counted here goes before what its sender said.
    """
    if job.documents == 1 and job.impressions:
        return job.impressions * max(1, job.copies)
    for name in _PAGE_ATTRIBUTES:
        count = job.attributes.get(name)
        if isinstance(count, int) and not isinstance(count, bool) and count > 0:
            return count if job.copies_embedded else count * job.copies
    return None


async def watch_counter(
    pages: Pages, read: Callable[[], Awaitable[int | None]], wait_s: float
) -> Pages:
    """Read the counter until it proves the job, for `wait_s` at most: pages may still come out.

    Without a count from before there is nothing to compare with, and nothing is read.
    """
    if pages.before is None:
        return pages
    with trio.move_on_after(wait_s):
        while not pages.is_proof:
            now = await read()
            if now is not None:
                pages = replace(pages, after=now)
            if not pages.is_proof:
                await trio.sleep(COUNTER_POLL_S)
    return pages


def after_a_break(acknowledged: int, document_bytes: int, cause: str, pages: Pages) -> Outcome:
    """The verdict on a document of which the device's kernel acknowledged so many bytes."""
    evidence = {"acknowledged": acknowledged, "bytes": document_bytes} | pages.as_evidence()
    if not acknowledged and not pages.printed:
        return Deferred("device-busy", f"The device took no byte and closed: {cause}.")
    if acknowledged >= document_bytes and pages.is_proof:
        return Delivered({"method": "page-counter", "pages": pages.printed} | evidence)
    detail = f"{cause}; the device had taken {acknowledged} of {document_bytes} bytes"
    if pages.printed is not None:
        detail += f" and counted {pages.printed} pages"
    return InDoubt("connection-lost", detail + ".", acknowledged, evidence)
