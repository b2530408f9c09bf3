"""Copies of objects: `site.objects` gives sites theirs, `site.copy` shows this site's own."""

from __future__ import annotations

from typing import Any

from spoold.daemon.operations.access import ADMINS, LINES, LOCAL, SITES, STAFF
from spoold.daemon.operations.sites import site_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.model.errors import OperationError
from spoold.site import objects
from spoold.site.replica import Replica
from spoold.spool import replica

TOLD_BYTES_MAX = 1024
KEYS_MAX = 100
CONFLICTS_SHOWN = 100


async def give(call: Call) -> dict[str, Any]:
    """What has changed since the calling site was told `told`, in events `objects` before this."""
    args = call.args
    site = await site_of(call)
    return await call.services.objects.answer(
        site, args["told"], args["key_ids"], args["limit"], call.send_event
    )


def _own(call: Call) -> Replica:
    """Raises OperationError: this node is no site."""
    found = call.services.replica
    if found is None:
        raise OperationError(
            "not-possible",
            "this node is an application server: it copies from nobody.",
            "Ask at a site.",
        )
    return found


async def show(call: Call) -> dict[str, Any]:
    """How the copy of this site is, and what of the site's own had to make way for it."""
    copy = _own(call)
    look = call.services.reader.look
    conflicts = await look(replica.conflicts, CONFLICTS_SHOWN)
    return {
        **(copy_map(copy) or {}),
        "objects": await look(replica.count),
        "conflicts": [one._asdict() for one in conflicts],
    }


async def take_anew(call: Call) -> dict[str, Any]:
    """Take the whole copy once more; what is here serves until it has come."""
    copy = _own(call)
    await copy.take_anew()
    return copy_map(copy) or {}


def copy_map(copy: Replica | None) -> dict[str, Any] | None:
    """None: this node is no site."""
    if copy is None:
        return None
    age_us = copy.age_us()
    state = copy.state
    return {
        "upstream": state.upstream_name if state else "",
        "is_whole": state is not None and not state.is_taking,
        "current_us": copy.current_us or None,
        "age_s": None if age_us is None else round(age_us / 1e6, 3),
    }


OPERATIONS = (
    Operation(
        "site.objects",
        (
            Argument("told", (bytes,), default=b"", most=TOLD_BYTES_MAX),
            Argument(
                "key_ids",
                (list,),
                default=(),
                most=KEYS_MAX,
                each=Argument("", (bytes,), most=16),
                summary="Which keys of hashes the site has.",
            ),
            Argument(
                "limit", (int,), default=objects.OBJECTS_MAX, least=1, most=objects.OBJECTS_MAX
            ),
        ),
        SITES,
        LINES,
        give,
        "Objects that have changed, for the copy of a site.",
    ),
    Operation("site.copy", (), STAFF, LOCAL, show, "How the copy of this site is."),
    Operation(
        "site.copy-anew", (), ADMINS, LOCAL, take_anew, "Take the copy of this site once more."
    ),
)
