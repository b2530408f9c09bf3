"""PDF by PDFium, in the worker alone: pages, their sizes, and which have colour.

The library believes the number that the page tree claims, and so do some devices while others walk
the tree. So each page is asked for its size, which finds it: a page that is not there makes the
document damaged. And the tree is read once more without its numbers: more pages than it claims are
counted, and said to be in doubt. (Numbers in object streams, and in documents that are too large to
be held in memory, are believed.)
Copies and sides stand in no PDF but as hints of the viewer, which devices leave alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from spoold.codec.pages.container import Encrypted, Unsupported
from spoold.codec.pages.contents import PAGES_MAX, Tally, media_size_points
from spoold.codec.pages.document import Damaged, Document, TooLarge

IN_MEMORY_BYTES_MAX = 64 * 1024 * 1024  # beyond, the library asks for what it wants to see
_POINTS_MAX = 14_400.0  # of an edge (ISO 32000-1, annex C)
_COLOUR_SCALE = 0.4  # about 29 pixels an inch: a coloured word still shows
_COLOUR_PIXELS = 1200  # of the longer edge at most


class PdfReader:
    """Counts PDFs; the one of the last count stays open for a look at its colours."""

    def __init__(self, in_memory_bytes_max: int = IN_MEMORY_BYTES_MAX) -> None:
        self._open: list[tuple[Any, int]] = []
        self._in_memory_bytes_max = in_memory_bytes_max

    def count(self, document: Document, tally: Tally) -> int:
        """Count a PDF; returns where it ends.

        Raises:
            Damaged, Encrypted, Unsupported, TooLarge.
        """
        pdf = self._opened(document)
        pages = len(pdf)
        whole = self._without_numbers(document)
        if whole is not None:
            if len(whole) > pages:
                tally.doubt(f"its page tree claims {pages} pages and has {len(whole)}")
                pdf, whole = whole, pdf
                pages = len(pdf)
            whole.close()
        if not 0 < pages <= PAGES_MAX:
            raise Damaged(f"a page tree of {pages} pages")
        self._open.append((pdf, pages))
        document.allowance.spend(pages)
        for size, run in groupby(_sizes(pdf, pages)):
            tally.page(media=media_size_points(*size), colour=None, count=sum(1 for _ in run))
        return document.end

    def _opened(self, document: Document) -> Any:
        size = document.end - document.start
        source: Any = _File(document)
        if size <= self._in_memory_bytes_max:
            source = document.exactly(document.start, size)
        try:
            return pypdfium2.PdfDocument(source)
        except pypdfium2.PdfiumError as error:
            raise _ERRORS.get(getattr(error, "err_code", None), _damaged)() from error

    def _without_numbers(self, document: Document) -> Any:
        """The same with a page tree that must be walked to be counted; None where that fails."""
        size = document.end - document.start
        if size > self._in_memory_bytes_max:
            return None
        data = document.exactly(document.start, size)
        try:
            return pypdfium2.PdfDocument(data.replace(b"/Count", b"/Coun_"))
        except pypdfium2.PdfiumError:
            return None

    @property
    def pages(self) -> int:
        """The pages of the PDFs that were counted."""
        return sum(pages for _, pages in self._open)

    def colour_pages(self) -> int:
        """How many pages of what was counted have colour: a pixel with unequal parts."""
        return sum(_has_colour(pdf, number) for pdf, pages in self._open for number in range(pages))

    def close(self) -> None:
        for pdf, _ in self._open:
            pdf.close()
        self._open.clear()


def _sizes(pdf: Any, pages: int) -> Iterator[tuple[float, float]]:
    """Width and height of each page, in points."""
    raw, size, ask = pdf.raw, pdfium.FS_SIZEF(), pdfium.FPDF_GetPageSizeByIndexF
    for number in range(pages):
        if not ask(raw, number, size):
            raise Damaged(f"page {number + 1} of {pages} is missing")
        yield size.width, size.height


def _damaged() -> Exception:
    return Damaged("it cannot be read as a PDF")


_ERRORS: dict[Any, Callable[[], Exception]] = {
    pdfium.FPDF_ERR_PASSWORD: lambda: Encrypted("it needs a password"),
    pdfium.FPDF_ERR_SECURITY: lambda: Unsupported("an unknown kind of encryption"),
}


def _has_colour(pdf: Any, number: int) -> bool:
    page = pdf[number]
    try:
        width, height = page.get_size()
        if not (0 < width <= _POINTS_MAX and 0 < height <= _POINTS_MAX):
            raise TooLarge("a page larger than a PDF may have")
        scale = min(_COLOUR_SCALE, _COLOUR_PIXELS / max(width, height))
        bitmap = page.render(scale=scale)
        try:
            return _is_coloured(bitmap)
        finally:
            bitmap.close()
    finally:
        page.close()


def _is_coloured(bitmap: Any) -> bool:
    if bitmap.format == pdfium.FPDFBitmap_Gray:
        return False
    step = bitmap.n_channels
    data, row = bytes(bitmap.buffer), bitmap.width * step
    for start in range(0, bitmap.height * bitmap.stride, bitmap.stride):
        line = data[start : start + row]
        if not line[0::step] == line[1::step] == line[2::step]:
            return True
    return False


class _File(io.RawIOBase):
    """A document as a file that PDFium reads where it likes."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        size = self._document.end - self._document.start
        self._at = offset + (0, self._at, size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._document.window(self._document.start + self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
