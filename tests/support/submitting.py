"""Jobs that are submitted to an acceptance piece by piece, and what is left of them."""

from __future__ import annotations

import os

from blake3 import blake3

from spoold.intake.submission import Submission
from spoold.model.person import NOBODY

LARGE = os.urandom(1_500_000)  # more than a buffer, so that a write is under way
SMALL = b"%!PS one page"
PIECE = 300_000


def submission(uuid=None, **fields):
    fields = {"owner": NOBODY, "submitter": "provider:7", "printer": "default"} | fields
    return Submission(intake="frames", client_host="192.0.2.7", uuid=uuid, **fields)


def digest_of(body):
    return f"blake3:{blake3(body).hexdigest()}"


async def write(upload, body):
    for at in range(upload.offset, len(body), PIECE):
        await upload.write(body[at : at + PIECE])


async def submit(door, body, uuid=None, **fields):
    upload = await door.begin(submission(uuid, **fields))
    if upload.accepted is None:
        await write(upload, body)
    return await upload.commit(len(body), digest_of(body))


async def stored(spool, job):
    source = await spool.documents.open(job)
    try:
        return source.read_at(0, job.document.size + 1)
    finally:
        source.close()


def left_over(spool, door):
    """What no upload may leave behind: descriptors, promises, names, files without a job."""
    return (
        len(os.listdir("/proc/self/fd")),
        door._promised,
        dict(door._uploads),
        set(spool.documents._busy),
    )


def files(directory):
    return {path.name for path in directory.rglob("*") if path.is_file()}
