"""`journal.audit`: who changed, allowed or refused what, out of the journal of records.

The records are those of `journal.read`, newest first, each with `who`: the actor by name. What
people do with their own jobs is left out.
"""

from __future__ import annotations

import pwd
from typing import Any
from uuid import UUID

from spoold.daemon.operations.access import ADMINS, KNOWN
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting, record_map, uuid_of
from spoold.model.record import STEERED, Record, is_administrative

STEP = 1000  # records of one look
LOOKED_AT_MAX = 20_000  # in one call; the next goes on behind them
PAGE_MAX = 200


async def audit(call: Call) -> dict[str, Any]:
    """A page of acts before a position, the last first. `next_before` is nil at the beginning."""
    services, args = call.services, call.args
    oldest = await services.reader.anchor() + 1
    before = min(args["before"] or services.journal.head + 1, services.journal.head + 1)
    looked_at = max(oldest, before - LOOKED_AT_MAX)
    found: list[dict[str, Any]] = []
    while before > looked_at and len(found) < args["limit"]:
        start = max(looked_at, before - STEP)
        records = await services.reader.records(start, before - start)
        for record in reversed(records):
            if record.event_us < args["since_us"]:
                return {"records": found, "next_before": None}
            before = record.position
            if await _is_act(call, record):
                shown = record_map(record, with_personal=True)
                found.append({**shown, "who": await _who(call, record.actor)})
                if len(found) == args["limit"]:
                    break
        else:
            before = start
    page, is_cut = fitting(found, args["limit"])
    if is_cut:
        before = page[-1]["position"]
    return {"records": page, "next_before": before if before > oldest else None}


async def _is_act(call: Call, record: Record) -> bool:
    if not is_administrative(record.kind, record.actor):
        return False
    job_id = record.payload.get("job")
    if record.kind not in STEERED or not isinstance(job_id, int):
        return True
    job = await call.services.reader.job(job_id)
    name = await _name_of(call, record.actor)
    return job is None or not name or job.owner.name != name


async def _name_of(call: Call, actor: str) -> str:
    """The name of an actor that is a user; "" of any other."""
    kind, _, key = actor.partition(":")
    guid: UUID | None = uuid_of(key) if kind == "user" else None
    if guid is None:
        return ""
    return (await call.services.reader.names([guid])).get(guid, "")


async def _who(call: Call, actor: str) -> str:
    """The actor as people know it."""
    kind, _, key = actor.partition(":")
    if kind == "uid" and key.isdecimal():
        try:
            return f"{pwd.getpwuid(int(key)).pw_name} (local)"
        except KeyError:
            return actor
    return await _name_of(call, actor) or actor


OPERATIONS = (
    Operation(
        "journal.audit",
        (
            Argument("before", (int,), least=1, summary="The page before's next_before."),
            Argument("since_us", (int,), default=0, summary="No act from before this time."),
            Argument("limit", (int,), default=50, least=1, most=PAGE_MAX),
        ),
        ADMINS,
        KNOWN,
        audit,
        "Who changed, allowed or refused what.",
    ),
)
