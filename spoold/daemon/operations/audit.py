"""`journal.audit`: who changed, allowed or refused what, out of the journal of records.

The records are those of `journal.read`, newest first, each with `who`: the actor by name. What
people do with their own jobs is left out. An application server tells it of its sites as well, as
far as they have sent it. All incarnations of a journal are told, each before the one that followed.
"""

from __future__ import annotations

import pwd
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

from spoold.daemon.operations.access import ADMINS, KNOWN
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting, record_map, uuid_of
from spoold.model.errors import OperationError
from spoold.model.record import STEERED, Record, is_administrative
from spoold.model.text import plain
from spoold.spool import nodes, received
from spoold.spool.received import Stretch
from spoold.spool.rows import CHAIN_SHIFT

STEP = 1000  # records of one look
LOOKED_AT_MAX = 20_000  # in one call; the next goes on behind them
PAGE_MAX = 200


async def _stretches(call: Call) -> list[Stretch]:
    """What is kept of the journal, the newest first.

    Raises:
        OperationError: `not-found`: there is no such site, or it has sent nothing.
    """
    services, name = call.services, call.args["site"]
    guid = UUID(services.journal.identity[0])
    if name:
        node = await services.reader.look(nodes.find_called, name)
        if node is None:
            raise nodes.unknown(name)
        guid = node.guid
    found = await services.reader.look(received.stretches, guid)
    if name and not found:
        raise OperationError("not-found", f"{plain(name)} has sent no records so far.")
    return found[::-1]


async def audit(call: Call) -> dict[str, Any]:
    """A page of acts, the last first; `before` and `next_before` are ids of rows. The latter is nil
    at the beginning.
    """
    args = call.args
    acts = _acts(call, await _stretches(call))
    found: list[dict[str, Any]] = []
    ids: list[int] = []
    next_before: int | None = None
    async with aclosing(acts):
        async for id_, act in acts:
            if act is not None:
                found.append(act)
                ids.append(id_)
            if act is None or len(found) == args["limit"]:
                next_before = id_
                break
    page, is_cut = fitting(found, args["limit"])
    return {"records": page, "next_before": ids[len(page) - 1] if is_cut else next_before}


async def _acts(
    call: Call, stretches: list[Stretch]
) -> AsyncGenerator[tuple[int, dict[str, Any] | None], None]:
    """The acts before the row that was named, with the ids of theirs; None, when it has been long
    enough: the next call goes on before that one.
    """
    args, site = call.args, call.args["site"]
    looked_at = 0
    for one in stretches:
        before = min(args["before"] or one.last + 1, one.last + 1)
        while before > one.first:
            if looked_at >= LOOKED_AT_MAX:
                yield before, None
                return
            start = max(one.first, before - STEP)
            base = one.chain_id << CHAIN_SHIFT
            records = await call.services.reader.look(
                received.records, one.chain_id, start - base, before - start
            )
            for record in reversed(records):
                if record.event_us < args["since_us"]:
                    return
                if await _is_act(call, record, site):
                    shown = record_map(record, with_personal=True)
                    who = await _who(call, record.actor, site)
                    told = {**shown, "incarnation": str(one.incarnation), "who": who}
                    yield base + record.position, told
            looked_at += before - start
            before = start


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
