"""The journal for other programs: `journal.read`, `journal.follow` and durable named cursors.

Records are told in the order of their positions, none left out and each at least once: whoever
follows by a cursor and acknowledges with `journal.cursor` goes on behind what it acknowledged.
Personal parts are for administrators.
"""

from __future__ import annotations

from typing import Any

from spoold.daemon.operations.access import KNOWN, OPERATORS, STAFF
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting, record_map
from spoold.model.errors import OperationError
from spoold.model.principal import Role
from spoold.model.text import plain
from spoold.spool.store import PutCursor, RemoveCursor

PAGE_RECORDS_MAX = 500
CURSORS_MAX = 100


def _shown(call: Call, record: Any) -> dict[str, Any]:
    return record_map(record, with_personal=Role.ADMIN in call.roles)


async def read(call: Call) -> dict[str, Any]:
    """A page of records. `oldest` is the first that is kept: earlier ones were pruned."""
    services = call.services
    limit = call.args["limit"]
    records = await services.reader.records(call.args["from"], limit)
    page, _ = fitting((_shown(call, one) for one in records), limit)
    journal, incarnation = services.journal.identity
    return {
        "records": page,
        "head": services.journal.head,
        "oldest": await services.reader.anchor() + 1,
        "journal": journal,
        "incarnation": incarnation,
    }


async def follow(call: Call) -> dict[str, Any]:
    """Events `record`, from a position or behind a cursor, until the caller goes.

    Raises:
        OperationError: what comes next was pruned, or the position lies beyond the journal.
    """
    services = call.services
    position = await _start(call)
    while True:
        await services.watch.wait_beyond(position - 1)
        for record in await services.reader.records(position, PAGE_RECORDS_MAX):
            if record.position != position:
                raise OperationError(
                    "not-found",
                    f"records before {record.position} are not kept any more.",
                    f"Follow from {record.position}; a cursor would have kept them.",
                )
            await call.send_event("record", _shown(call, record))
            position += 1


async def _start(call: Call) -> int:
    """The first position to tell. A new cursor is kept at once, so that nothing is pruned."""
    services = call.services
    start, name = call.args["from"], call.args["cursor"]
    head = services.journal.head
    if start is not None and start > head + 1:
        raise _beyond(head)
    if name is None:
        return head + 1 if start is None else int(start)
    kept = (await services.reader.cursors()).get(name)
    if kept is not None:
        return kept + 1
    first = await services.reader.anchor() + 1 if start is None else int(start)
    await _put(call, name, first - 1)
    return first


def _beyond(head: int) -> OperationError:
    return OperationError(
        "bad-request",
        f"the journal ends at {head}.",
        "Acknowledge what you read; after a restore of the spool begin anew.",
    )


async def _put(call: Call, name: str, position: int) -> None:
    services = call.services
    if position > services.journal.head:
        raise _beyond(services.journal.head)
    cursors = await services.reader.cursors()
    if name not in cursors and len(cursors) >= CURSORS_MAX:
        raise OperationError(
            "not-possible", f"there are {CURSORS_MAX} cursors.", "Remove one that nobody uses."
        )
    await services.journal.commit(PutCursor(name, position, services.wall_clock()))


async def cursor(call: Call) -> dict[str, Any]:
    """Look at a cursor, move it behind an acknowledged position, or remove it."""
    services = call.services
    name, position = call.args["name"], call.args["position"]
    if call.args["remove"]:
        await services.journal.commit(RemoveCursor(name, services.wall_clock()))
        return {"name": name, "position": None, "head": services.journal.head}
    if position is not None:
        await _put(call, name, position)
    else:
        position = (await services.reader.cursors()).get(name)
    if position is None:
        raise OperationError(
            "not-found",
            f"there is no cursor {plain(name)!r}.",
            "Follow with its name, or give it a position; 0 is before everything.",
        )
    return {"name": name, "position": position, "head": services.journal.head}


async def cursors(call: Call) -> dict[str, Any]:
    services = call.services
    return {"cursors": await services.reader.cursors(), "head": services.journal.head}


OPERATIONS = (
    Operation(
        "journal.read",
        (
            Argument("from", (int,), default=1, least=1, summary="The first position."),
            Argument("limit", (int,), default=50, least=1, most=PAGE_RECORDS_MAX),
        ),
        OPERATORS,
        KNOWN,
        read,
        "A page of records.",
    ),
    Operation(
        "journal.follow",
        (
            Argument("from", (int,), least=1, summary="The first position; a new cursor's, too."),
            Argument("cursor", least=1, most=64, summary="Go on behind this cursor."),
        ),
        OPERATORS,
        KNOWN,
        follow,
        "Records as they come.",
    ),
    Operation(
        "journal.cursor",
        (
            Argument("name", required=True, least=1, most=64, summary="Name a cursor."),
            Argument("position", (int,), summary="The last position that was dealt with."),
            Argument("remove", (bool,), default=False, summary="Forget the cursor."),
        ),
        OPERATORS,
        KNOWN,
        cursor,
        "Look at, move or remove a cursor.",
    ),
    Operation("journal.cursors", (), STAFF, KNOWN, cursors, "The cursors and the head."),
)
