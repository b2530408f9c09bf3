"""`journal.audit`: who changed, allowed or refused what, out of the journal of records.

The records are those of `journal.read`, newest first, each with `who`: the actor by name. What
people do with their own jobs is left out. An application server tells it of its sites as well, as
far as they have sent it.
"""

from __future__ import annotations

import pwd
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from spoold.daemon.operations.access import ADMINS, KNOWN
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting, record_map, uuid_of
from spoold.model.errors import OperationError
from spoold.model.record import STEERED, Record, is_administrative
from spoold.model.text import plain
from spoold.spool import nodes, received

STEP = 1000  # records of one look
LOOKED_AT_MAX = 20_000  # in one call; the next goes on behind them
PAGE_MAX = 200


class Trail(NamedTuple):
    """A journal that can be looked through; `site` is whose it is, "" for that of this node."""

    site: str
    oldest: int
    head: int
    records: Callable[[int, int], Awaitable[list[Record]]]


async def _trail(call: Call) -> Trail:
    """Raises OperationError: `not-found`: there is no such site, or it has sent nothing."""
    services, name = call.services, call.args["site"]
    reader = services.reader
    if not name:
        return Trail("", await reader.anchor() + 1, services.journal.head, reader.records)
    node = await reader.look(nodes.find_called, name)
    if node is None:
        raise nodes.unknown(name)
    known = received.latest(await reader.look(received.standings, node.guid)).get(node.guid)
    if known is None:
        raise OperationError("not-found", f"{plain(name)} has sent no records so far.")
    read = partial(reader.look, received.records, known.chain_id)
    return Trail(name, 1, known.position, read)


async def audit(call: Call) -> dict[str, Any]:
    """A page of acts before a position, the last first. `next_before` is nil at the beginning."""
    args, trail = call.args, await _trail(call)
    oldest = trail.oldest
    before = min(args["before"] or trail.head + 1, trail.head + 1)
    looked_at = max(oldest, before - LOOKED_AT_MAX)
    found: list[dict[str, Any]] = []
    while before > looked_at and len(found) < args["limit"]:
        start = max(looked_at, before - STEP)
        records = await trail.records(start, before - start)
        for record in reversed(records):
            if record.event_us < args["since_us"]:
                return {"records": found, "next_before": None}
            before = record.position
            if await _is_act(call, record, trail.site):
                shown = record_map(record, with_personal=True)
                found.append({**shown, "who": await _who(call, record.actor, trail.site)})
                if len(found) == args["limit"]:
                    break
        else:
            before = start
    page, is_cut = fitting(found, args["limit"])
    if is_cut:
        before = page[-1]["position"]
    return {"records": page, "next_before": before if before > oldest else None}


async def _is_act(call: Call, record: Record, site: str) -> bool:
    if not is_administrative(record.kind, record.actor):
        return False
    if site and record.kind in STEERED:
        return not record.actor.startswith("user:")  # its jobs, by its numbers
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


async def _who(call: Call, actor: str, site: str) -> str:
    """The actor as people know it."""
    kind, _, key = actor.partition(":")
    if kind == "uid" and site:
        return f"{actor} ({site})"
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
            Argument("site", default="", most=63, summary="Whose journal; empty: this node's."),
        ),
        ADMINS,
        KNOWN,
        audit,
        "Who changed, allowed or refused what.",
    ),
)
