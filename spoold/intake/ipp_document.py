"""The document behind an IPP request, on its way into the spool (RFC 8011 4.1.2, 5.4.32).

In: the rest of the request's body, plain or compressed. Out: its bytes in an upload, and what they
say of themselves: their format where the client left that open, and, by PJL, copies that the stream
makes by itself. The limits hold for what a compressed document becomes.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import trio

from spoold.codec import ipp, raw
from spoold.codec.ipp_names import Status
from spoold.intake.ipp_request import Ask, Refusal
from spoold.intake.upload import Upload

NO_COMPRESSION: Final = "none"
COMPRESSIONS: Final = (NO_COMPRESSION, "deflate", "gzip")
PIECE_BYTES: Final = 256 * 1024  # of what a compressed document becomes, before others run
_RAW_DEFLATE, _ZLIB, _GZIP = -15, 15, 31  # window bits


def compression(ask: Ask) -> str:
    """How the document is compressed.

    Raises:
        Refusal: in a way that is not known.
    """
    found = ask.keyword("compression") or NO_COMPRESSION
    if found not in COMPRESSIONS:
        raise Refusal(
            Status.CLIENT_ERROR_COMPRESSION_NOT_SUPPORTED,
            f"compressions are {', '.join(COMPRESSIONS)}.",
            [ipp.keyword("compression", found)],
        )
    return found


async def receive(ask: Ask, upload: Upload, how: str) -> None:
    """Take the whole document.

    Raises:
        Refusal: it is not compressed as it says.
        OperationError, SpoolError: the spool does not take it.
        RemoteProtocolError: the body broke off, or came too slowly.
    """
    exchange = ask.exchange
    await exchange.accept()
    first, ask.rest = ask.rest, b""
    if how == NO_COMPRESSION:
        if first:
            await upload.write(first)
        await exchange.read_into(upload)
        return
    inflater = _Inflater(how, upload)
    data = first or await exchange.read()
    while data:
        await inflater.feed(data)
        data = await exchange.read()
    inflater.end()


class _Inflater:
    """Decompresses into an upload, a piece at a time."""

    def __init__(self, how: str, upload: Upload) -> None:
        self._how = how
        self._upload = upload
        self._front = b""
        self._zlib: Any = None

    async def feed(self, data: bytes) -> None:
        if self._zlib is None:
            data = self._front = self._front + data
            if len(data) < 2:
                return
            self._zlib = zlib.decompressobj(_window(self._how, data))
        inflater = self._zlib
        while data:
            if inflater.eof:
                raise _broken("there is more behind the end of the compressed document")
            try:
                piece = inflater.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise _broken(str(error)) from error
            if piece:
                await self._upload.write(piece)
            data = inflater.unconsumed_tail or inflater.unused_data
            if data:
                await trio.lowlevel.checkpoint()

    def end(self) -> None:
        """There is no more.

        Raises:
            Refusal: the end of the compressed document is missing.
        """
        if self._zlib is None:
            if self._front:
                raise _broken("a single byte")
        elif not self._zlib.eof:
            raise _broken("the end is missing")


def _window(how: str, front: bytes) -> int:
    """RFC 8011 5.4.32 means RFC 1951 by deflate; clients send it with zlib's header, too."""
    if how == "gzip":
        return _GZIP
    is_zlib = front[0] & 0x0F == 8 and (front[0] << 8 | front[1]) % 31 == 0
    return _ZLIB if is_zlib else _RAW_DEFLATE


def _broken(cause: str) -> Refusal:
    message = f"the document is not compressed as it says: {cause}."
    return Refusal(Status.CLIENT_ERROR_COMPRESSION_ERROR, message)


async def describe(upload: Upload) -> None:
    """Take over what the bytes say: their format, if the client does not, and embedded copies."""
    submission = upload.submission
    if submission.format == raw.OCTET_STREAM:
        if upload.is_large:
            await upload.tail()  # only then the head of a large document is there
        head = upload.head
        pjl = raw.read_pjl(head)
        submission.format = raw.guess_format(head, pjl)
        if pjl is not None and pjl.copies_embedded:
            submission.copies_embedded = True
            if pjl.copies > 1 and submission.copies == 1:
                submission.copies = pjl.copies
