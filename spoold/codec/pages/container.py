"""A whole job: PJL around one or several documents, each counted by its own format.

COPIES and DUPLEX of PJL are the device's defaults, which a document's own commands override; QTY
makes whole sets of everything (HP's PJL Technical Reference, chapter 6). EOJ ends them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from spoold.codec import raw
from spoold.codec.pages import image, pcl, pclxl, postscript, raster, text
from spoold.codec.pages.contents import Contents, Defaults, Reason, Sides, Tally, unknown
from spoold.codec.pages.document import Allowance, Damaged, Document, ReadAt, TooLarge

PARTS_MAX = 1000  # documents in a job
_EOJ = re.compile(rb"^(?:\x1b%-12345X)*@PJL[ \t]+(?:EOJ|RESET|INITIALIZE)\b", re.MULTILINE)
_BLANK = b" \t\r\n\x0b\x0c\x00\x04\x1a"
_LANGUAGES = {  # of ENTER LANGUAGE, where the bytes need not show it
    "PCL": raw.PCL,
    "PCL5": raw.PCL,
    "PCLXL": raw.PCL_XL,
    "POSTSCRIPT": raw.POSTSCRIPT,
    "PDF": raw.PDF,
    "TEXT": raw.TEXT,
}
_BINDINGS = {"SHORTEDGE": Sides.SHORT_EDGE}


class Encrypted(Exception):
    """Nobody can read it without a password."""


class Unsupported(Exception):
    """There is no counter for it."""


Counter = Callable[[Document, Tally], int]


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to count. `pdf` is the reader of PDF, which is not a part of this codec."""

    colour: bool = False
    lines_a_page: int = text.LINES_A_PAGE
    pdf: Counter | None = None


def count(
    read_at: ReadAt,
    size: int,
    media_type: str = "",
    wishes: Wishes | None = None,
    allowance: Allowance | None = None,
) -> Contents:
    """What a document contains; never raises for what its bytes are.

    `media_type` is what the sender says; what the bytes say wins, for devices look at them too.
    """
    wishes = wishes or Wishes()
    document = Document(read_at, size, allowance)
    job = _Job(document, media_type.partition(";")[0].strip(), wishes)
    try:
        job.run()
    except Damaged as error:
        return job.unknown(Reason.DAMAGED, error)
    except TooLarge as error:
        return job.unknown(Reason.TOO_LARGE, error)
    except Encrypted as error:
        return job.unknown(Reason.ENCRYPTED, error)
    except Unsupported as error:
        return job.unknown(Reason.UNSUPPORTED, error)
    except postscript.NotStated as error:
        return job.unknown(Reason.NOT_STATED, error)
    contents = job.tally.contents(job.format)
    if contents.pages is not None and contents.colour_reason and not wishes.colour:
        return replace(contents, colour_reason=Reason.NOT_ASKED)
    return contents


class _Job:
    def __init__(self, document: Document, media_type: str, wishes: Wishes) -> None:
        self._document = document
        self._claimed = "" if media_type == raw.OCTET_STREAM else media_type
        self._wishes = wishes
        self._defaults = Defaults()
        self._is_wrapped = False
        self.format = ""
        self.tally = Tally()

    def unknown(self, reason: Reason, error: Exception) -> Contents:
        return unknown(self.format or self._claimed, reason, str(error), self.tally.pages)

    def run(self) -> None:
        at = 0
        for _ in range(PARTS_MAX):
            at = self._next(at)
            if at >= self._document.end:
                if not self.tally.pages:
                    raise Damaged("there is no document in it")
                return
        raise TooLarge("more documents than a job may hold")

    def _next(self, at: int) -> int:
        """Read PJL at `at`, or count a document; returns where that ends."""
        document = self._document
        head = document.window(at, raw.HEAD_BYTES_MAX)
        if document.end - at <= len(head) and not head.strip(_BLANK):
            return document.end
        pjl = raw.read_pjl(head)
        if pjl is None:
            return self._part(at, head, "")
        self._is_wrapped = True
        self._environment(pjl, head[: pjl.body_offset])
        if pjl.body_offset is None:
            if document.end - at > len(head):
                raise Damaged("the PJL header has no end")
            return document.end
        at += pjl.body_offset
        head = document.window(at, raw.HEAD_BYTES_MAX)
        if document.end - at <= len(head) and not head.strip(_BLANK):
            return document.end
        if head.startswith((raw.UEL, b"\x1bE" + raw.UEL)):
            return at + head.index(raw.UEL)
        return self._part(at, head, pjl.language)

    def _environment(self, pjl: raw.Pjl, header: bytes) -> None:
        if _EOJ.search(header):
            self._defaults = Defaults()
        said, old = pjl.options, self._defaults
        sides = old.sides
        if pjl.is_duplex is not None:
            sides = Sides.ONE_SIDED
            if pjl.is_duplex:
                sides = _BINDINGS.get(said.get("BINDING", "").upper(), Sides.LONG_EDGE)
        self._defaults = Defaults(
            _copies(said.get("COPIES")) or old.copies,
            sides,
            _copies(said.get("QTY")) or old.quantity,
        )

    def _part(self, at: int, head: bytes, language: str) -> int:
        """Count the document that begins at `at`; returns where it ends."""
        media_type = self._format(head, language)
        self.format = self.format or media_type
        self.tally.begin_part(self._defaults)
        document, ends_itself = self._document, media_type in (raw.PCL, raw.PCL_XL)
        if media_type not in (raw.PCL, raw.TEXT):
            at += len(head) - len(head.lstrip(_BLANK))
        end = document.end
        if not ends_itself and (self._is_wrapped or media_type in (raw.POSTSCRIPT, raw.TEXT)):
            found = document.find(raw.UEL, at)
            end = found if found >= 0 else end
        counted = self._counter(media_type)(document.part(at, end), self.tally)
        if counted <= at:
            raise Damaged("nothing of it can be read")
        return counted

    def _format(self, head: bytes, language: str) -> str:
        if language in _LANGUAGES:
            return _LANGUAGES[language]
        seen = raw.guess_format(head)
        if seen in (raw.OCTET_STREAM, raw.TEXT) and self._claimed:
            return self._claimed
        return seen

    def _counter(self, media_type: str) -> Counter:
        wishes = self._wishes
        match media_type.lower():
            case "application/postscript":
                return postscript.count_postscript
            case "application/vnd.hp-pcl":
                return pcl.count_pcl
            case "application/vnd.hp-pclxl":
                return pclxl.count_pclxl
            case "image/pwg-raster" | "application/vnd.cups-raster":
                return lambda document, tally: raster.count_raster(document, tally, wishes.colour)
            case "image/urf":
                return lambda document, tally: raster.count_urf(document, tally, wishes.colour)
            case "image/tiff":
                return image.count_tiff
            case "image/jpeg":
                return image.count_jpeg
            case "image/png":
                return image.count_png
            case "text/plain":
                return lambda document, tally: text.count_text(document, tally, wishes.lines_a_page)
            case "application/pdf" if wishes.pdf is not None:
                return wishes.pdf
        raise Unsupported(f"no counter for {media_type or 'these bytes'}")


def _copies(value: str | None) -> int | None:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 5:
        return None
    return int(value) or None
