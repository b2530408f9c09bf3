"""PDF by PDFium, in the worker alone: pages, their sizes, and which have colour.

The library sees one document at a time. It believes the number that the page tree claims, so each
page is asked for its size, which finds it; a page that is not there makes the document damaged.
Copies and sides stand in no PDF but as hints of the viewer, which devices leave alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable
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
        if not 0 < pages <= PAGES_MAX:
            raise Damaged(f"a page tree of {pages} pages")
        self._open.append((pdf, pages))
        raw, width_height = pdf.raw, pdfium.FS_SIZEF()
        for number in range(pages):
            if not pdfium.FPDF_GetPageSizeByIndexF(raw, number, width_height):
                raise Damaged(f"page {number + 1} of {pages} is missing")
            tally.page(
                media=media_size_points(width_height.width, width_height.height), colour=None
            )
        document.allowance.spend(pages)
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
