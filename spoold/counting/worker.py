"""The worker: counts one document after the other, and can do nothing else (`confinement`).

Started by `Counter`, with its socket as standard input. It ends when that closes, when nothing
was asked for a while, when a document takes longer than it may, and after a document that took
too much memory.
"""

from __future__ import annotations

import array
import gc
import os
import resource
import signal
import socket
import sys
from dataclasses import replace
from typing import Any

from spoold.codec.pages import container
from spoold.codec.pages.contents import Contents, Reason, unknown
from spoold.counting import wire
from spoold.counting.confinement import Limits, confine
from spoold.counting.pdf import PdfReader

IDLE_S = 600
GRACE_S = 2.0  # the daemon notices a deadline first; this is for a daemon that has gone


def main() -> None:
    """Serve until the other side goes."""
    with socket.socket(fileno=0) as link:
        _warm_up()
        gc.freeze()
        is_filtered = confine(Limits())
        link.send(wire.encode({"ready": True, "is_filtered": is_filtered}))
        while _serve(link) and _processor_s() < Limits().processor_s / 2:
            pass


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _warm_up() -> None:
    """Load what the first document would load, while files may still be opened."""
    text = b"spoold\n"
    container.count(lambda at, n: text[at : at + n], len(text))
    pdf = _smallest_pdf()
    for in_memory_bytes_max in (len(pdf), 0):
        reader = PdfReader(in_memory_bytes_max)
        wishes = container.Wishes(pdf=reader.count)
        container.count(lambda at, n: pdf[at : at + n], len(pdf), "", wishes)
        reader.colour_pages()
        reader.close()
    str("ä".encode("latin-1"), "latin-1")


def _smallest_pdf() -> bytes:
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\n"
        b"trailer<</Root 1 0 R/Size 4>>\n%%EOF\n"
    )


def _serve(link: socket.socket) -> bool:
    """Answer one question; returns whether another may follow."""
    signal.alarm(IDLE_S)
    data, files = _receive(link)
    if not data or len(files) != 1:
        return False
    try:
        link.send(wire.TAKEN)
        question = wire.decode(data)
        signal.setitimer(signal.ITIMER_REAL, float(question["deadline_s"]) + GRACE_S)
        return _answer(link, question, files[0])
    except BrokenPipeError:
        return False
    finally:
        os.close(files[0])


def _receive(link: socket.socket) -> tuple[bytes, array.array[int]]:
    files = array.array("i")
    data, extra, _, _ = link.recvmsg(wire.MESSAGE_BYTES_MAX, socket.CMSG_SPACE(files.itemsize))
    for level, kind, content in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            files.frombytes(content[: len(content) - len(content) % files.itemsize])
    return data, files


def _answer(link: socket.socket, question: dict[str, Any], fd: int) -> bool:
    reader = PdfReader()
    try:
        contents = _count(question, fd, reader)
        link.send(wire.encode(contents.as_map()))
        if not question["colour"] or contents.pages is None:
            return True
        link.send(wire.encode(_with_colour(contents, question, fd, reader).as_map()))
    except MemoryError:
        link.send(wire.encode(unknown("", Reason.TOO_LARGE, "no memory for it").as_map()))
        return False
    finally:
        reader.close()
    return True


def _count(
    question: dict[str, Any], fd: int, reader: PdfReader, *, colour: bool = False
) -> Contents:
    def read_at(offset: int, count: int) -> bytes:
        parts = []
        while count > 0:  # a read gives at most 2 GiB
            data = os.pread(fd, count, offset)
            if not data:
                break
            parts.append(data)
            offset, count = offset + len(data), count - len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    wishes = container.Wishes(colour, int(question["lines_a_page"]), reader.count)
    media_type = str(question["format"])
    try:
        return container.count(read_at, int(question["size"]), media_type, wishes)
    except MemoryError:
        raise
    except Exception as error:  # a fault of ours in a counter costs this document alone
        return unknown(media_type, Reason.DAMAGED, f"it cannot be counted: {error!r}")


def _with_colour(
    contents: Contents, question: dict[str, Any], fd: int, reader: PdfReader
) -> Contents:
    """The second pass, for colour; the first has been answered, so this one may take its time."""
    if contents.colour_pages is not None:
        return contents
    if contents.format == "application/pdf" and reader.pages == contents.pages:
        try:
            return replace(contents, colour_pages=reader.colour_pages(), colour_reason=None)
        except MemoryError:
            raise
        except Exception:
            return replace(contents, colour_reason=Reason.DAMAGED)
    again = _count(question, fd, PdfReader(), colour=True)
    return replace(contents, colour_pages=again.colour_pages, colour_reason=again.colour_reason)


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, ConnectionError, OSError):
        sys.exit(1)
