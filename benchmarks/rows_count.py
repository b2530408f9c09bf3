"""The row of the counter: how long the pages of a long document take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import trio

from benchmarks.report import Finding
from benchmarks.rows import Bench
from spoold.counting.counter import Counter

PAGES = 5000
DOCUMENTS = 20
PAGES_MS = 100.0


def _document(pages: int) -> bytes:
    """A PDF of empty pages, with a cross-reference table."""
    kids = b" ".join(b"%d 0 R" % number for number in range(3, 3 + pages))
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, pages),
        *[page] * pages,
    ]
    data, table = bytearray(b"%PDF-1.7\n"), bytearray(b"0000000000 65535 f \n")
    for number, body in enumerate(objects, 1):
        table += b"%010d 00000 n \n" % len(data)
        data += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start, size = len(data), len(objects) + 1
    data += b"xref\n0 %d\n%btrailer\n<< /Root 1 0 R /Size %d >>\n" % (size, bytes(table), size)
    return bytes(data + b"startxref\n%d\n%%%%EOF\n" % start)


async def _count(document: bytes) -> list[float]:
    """Milliseconds a document, in a worker that has counted one before."""
    took_ms = []
    async with Counter() as counter:
        await counter.count(document)
        for _ in range(DOCUMENTS):
            began = time.perf_counter()
            pages = (await counter.count(document)).pages
            took_ms.append((time.perf_counter() - began) * 1000)
            if pages != PAGES:
                raise RuntimeError(f"{pages} pages were counted, not {PAGES}")
    return took_ms


def count(bench: Bench) -> Iterator[Finding]:
    """The pages of a long PDF, counted in a warm worker."""
    document = _document(PAGES)
    took_ms = [statistics.median(trio.run(_count, document)) for _ in bench.each_pair()]
    yield Finding(f"{PAGES:,} pages of a PDF counted", "ms", took_ms, PAGES_MS, at_most=True)


ROWS: dict[str, Callable[[Bench], Iterator[Finding]]] = {"count": count}
