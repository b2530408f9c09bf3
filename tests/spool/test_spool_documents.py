"""Documents: bytes in, bytes out, whole or not at all."""

from __future__ import annotations

import os
from hashlib import sha256
from types import SimpleNamespace

import blake3
import pytest

from spoold.model.errors import OperationError, SpoolError, SpoolFull, StoreFailed
from spoold.model.person import NOBODY
from spoold.spool import documents as module
from spoold.spool.documents import Documents
from spoold.spool.store import AcceptJob

LARGE = os.urandom(3 * 1024 * 1024 + 17)


async def keep(spool, body, pieces=(70_000,), algorithm="blake3", name=""):
    incoming = spool.documents.begin(name, algorithm)
    sizes = list(pieces)
    rest = memoryview(body)
    while rest:
        size = sizes[0] if len(sizes) == 1 else sizes.pop(0)
        await incoming.write(rest[:size])
        rest = rest[size:]
    return incoming, await incoming.keep("application/pdf")


async def accept(spool, printer, document):
    accepted = await spool.journal.commit(
        AcceptJob(printer.id, NOBODY, "address:127.0.0.1", document, spool.wall_clock())
    )
    return await spool.reader.job(accepted.job_id)


@pytest.mark.parametrize("size", [0, 1, 128 * 1024, 128 * 1024 + 1, 1024 * 1024, len(LARGE)])
@pytest.mark.parametrize("pieces", [(1_000_000,), (1, 2, 65_536), (4096,)])
async def test_what_goes_in_comes_out(spool, size, pieces):
    """Any size in any pieces comes out byte for byte, with the right digest."""
    body = LARGE[:size]
    _, document = await keep(spool, body, pieces)
    assert document.digest == f"blake3:{blake3.blake3(body).hexdigest()}"
    job = await accept(spool, await spool.add_printer(), document)
    source = await spool.documents.open(job)
    assert source.size == size
    got = b"".join(iter(lambda at=[0]: _next(source, at), b""))
    source.close()
    assert got == body
    assert job.document.stored == ("inline" if size <= 128 * 1024 else "file")


def _next(source, at):
    data = source.read_at(at[0], 1_000_000)
    at[0] += len(data)
    return data


async def test_a_client_may_ask_for_sha256(spool):
    """Clients in other languages have SHA-256."""
    _, document = await keep(spool, LARGE, algorithm="sha256")
    assert document.digest == f"sha256:{sha256(LARGE).hexdigest()}"
    with pytest.raises(OperationError, match="blake3, sha256"):
        spool.documents.begin("", "md5")


async def test_a_suspended_upload_goes_on_where_it_was(spool, tmp_path):
    """What came before a cut is not sent again, also after a restart."""
    first = spool.documents.begin("ab" * 20)
    await first.write(LARGE[:2_000_000])
    await first.suspend()
    restarted = Documents(tmp_path, spool.reader)
    second = restarted.begin("ab" * 20)
    assert await second.resume() == 2_000_000
    await second.write(LARGE[2_000_000:])
    document = await second.keep("application/pdf")
    assert document.digest == f"blake3:{blake3.blake3(LARGE).hexdigest()}"
    job = await accept(spool, await spool.add_printer(), document)
    source = await restarted.open(job)
    assert source.read_at(0, len(LARGE)) == LARGE
    source.close()


async def test_an_abandoned_upload_leaves_nothing(spool, tmp_path):
    """What is dropped is gone from the disk."""
    incoming = spool.documents.begin("")
    await incoming.write(LARGE)
    await incoming.abandon()
    assert list((tmp_path / "incoming").iterdir()) == []


async def test_a_missing_or_short_document_is_an_error_with_advice(spool):
    """A driver never gets half a document."""
    _, document = await keep(spool, LARGE)
    job = await accept(spool, await spool.add_printer(), document)
    path = spool.documents.path(document.file)
    path.write_bytes(LARGE[:-1])
    with pytest.raises(SpoolError, match="quarantine"):
        await spool.documents.open(job)
    path.unlink()
    with pytest.raises(SpoolError, match="quarantine"):
        await spool.documents.open(job)


async def test_a_full_disk_refuses_and_keeps_nothing(spool, monkeypatch):
    """No space is an answer, not a crash, and leaves no file behind."""
    incoming = spool.documents.begin("")
    await incoming.write(LARGE[:200_000])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    with pytest.raises(SpoolFull):
        await incoming.write(LARGE)
    await incoming.abandon()
    monkeypatch.undo()
    assert list(spool.documents.incoming_dir.iterdir()) == []


async def test_a_failed_sync_stops_everything_and_is_never_repeated(spool, monkeypatch):
    """After EIO the data is not synced a second time: a second answer would be a lie."""
    incoming = spool.documents.begin("")
    await incoming.write(LARGE)
    calls = []

    def broken(fd):
        calls.append(fd)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module.os, "fdatasync", broken)
    with pytest.raises(StoreFailed):
        await incoming.keep("application/pdf")
    monkeypatch.undo()
    assert len(calls) == 1
    assert list(spool.documents.incoming_dir.iterdir()) == []


async def test_room_is_counted_as_df_counts(spool, monkeypatch):
    """Of 1,000 blocks 400 are free, and 300 of these are kept for root."""
    found = SimpleNamespace(f_frsize=4096, f_blocks=1000, f_bfree=400, f_bavail=100, f_favail=5)
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    assert spool.documents.space() == (100 * 4096, 700 * 4096, 5)
