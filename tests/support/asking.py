"""Jobs at the desk of operations: accepted, begun, ended, put in doubt."""

from __future__ import annotations

from uuid import UUID

import pytest

from spoold.model.errors import OperationError
from spoold.model.outcome import InDoubt
from spoold.model.person import Known, Owner
from spoold.model.principal import Port, Principal, Role
from spoold.model.transitions import JobEvent
from spoold.spool.store import AcceptJob, EndAttempt, NewDocument, StartAttempt

GUID = UUID("00000000-0000-4000-8000-0000000000bb")
OPERATOR = Principal("uid:1000", Port.CONTROL, frozenset({Role.OPERATOR}))
PROVIDER = Principal(f"provider:{GUID}", Port.MUTUAL, frozenset({Role.PROVIDER}), "till")
STRANGER = Principal("address:192.0.2.7", Port.CLEAR, address="192.0.2.7")


async def refused(desk, op, *principal, **args) -> OperationError:
    """Why it is refused to this principal, or to whoever asks when nobody is named."""
    with pytest.raises(OperationError) as caught:
        await desk.ask(op, *principal, **args)
    return caught.value


async def accept(desk, printer, *, format="text/plain", known=Known.CLAIMED, **fields):
    """A job with an owner who is known so well; returns its id."""
    body = b"page\f"
    change = AcceptJob(
        printer.id,
        Owner(fields.pop("owner", "ada"), known),
        fields.pop("submitter", "address:192.0.2.7"),
        NewDocument(len(body), "blake3:00", format, body),
        desk.services.wall_clock(),
        **fields,
    )
    return (await desk.spool.journal.commit(change)).job_id


async def start(desk, job_id, printer) -> int:
    now = desk.services.wall_clock()
    change = StartAttempt(job_id, printer.device_id, printer.id, now)
    return await desk.spool.journal.commit(change)


async def end(desk, job_id, number, outcome, event, *reasons):
    change = EndAttempt(job_id, number, outcome, event, reasons, desk.services.wall_clock())
    await desk.spool.journal.commit(change)


async def put_in_doubt(desk, job_id, printer):
    number = await start(desk, job_id, printer)
    outcome = InDoubt("connection-lost", "Reset after 3 bytes.", 3, {"method": "half-close"})
    await end(desk, job_id, number, outcome, JobEvent.DOUBT, "job-in-doubt")


async def state(desk, job_id):
    job = await desk.spool.reader.job(job_id)
    return job.state, job.reasons
