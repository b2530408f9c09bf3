"""What people at a site do that is decided here: `site.visit`, `.held`, `.release`, `.change`, …

The site has made sure of the person and says who it is; it speaks for people who are copied to it,
and for printers of its own, and no others. All else is decided here as if the person stood at a
machine of this node: a release is a claim where the job waits, and is paid for here. A job that is
released for a printer of a site is offered to it (`handing_down`). Who is not copied to the site,
and logs in there, is looked at here, and is a guest of the site from then on.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from spoold.accounts.authentication import Credential, Method
from spoold.daemon.operations.access import LINES, SITES
from spoold.daemon.operations.held_jobs import (
    CHANGES,
    ID,
    IDS,
    change_map,
    changes_of,
    page_with_far,
    result_maps,
    split,
)
from spoold.daemon.operations.mfd import CREDENTIAL_CHARACTERS_MAX
from spoold.daemon.operations.sites import is_copied, site_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import uuid_of
from spoold.model.errors import OperationError
from spoold.model.node import Node
from spoold.model.person import normalise_name
from spoold.model.printer import Printer
from spoold.model.user import User
from spoold.release.desk import PAGE_JOBS_MAX
from spoold.site.far_desk import FAR
from spoold.spool.store import AdmitGuest

log = structlog.get_logger("spoold.daemon")

WHERE_CHARACTERS_MAX = 64


async def _person(call: Call, site: Node) -> User:
    """The person at the site.

    Raises:
        OperationError: `not-found`: this site knows of no such person, or not from here.
    """
    user = await call.services.reader.user_by_guid(_guid(call, "person"))
    if user is None or not await is_copied(call, site, user):
        raise OperationError("not-found", "there is no such user for this site.")
    if user.disabled:
        raise OperationError("forbidden", "this user is disabled.")
    return user


async def _printer(call: Call, site: Node) -> Printer:
    """The printer where the person stands.

    Raises:
        OperationError: `not-found`: the site owns none such.
    """
    guid = _guid(call, "printer")
    known = await call.services.catalogue.look()
    for printer in known.printers.values():
        if printer.guid == guid and printer.owner == site.guid:
            return printer
    raise OperationError("not-found", "this site owns no such printer.")


def _guid(call: Call, name: str) -> UUID:
    found = uuid_of(call.args[name])
    if found is None:
        raise OperationError("bad-request", f"{name} must be a GUID.")
    return found


async def visit(call: Call) -> dict[str, Any]:
    """Whose card, PIN or password that is; the site gets a copy of the person.

    Failures count by the machine there and for that site: they keep nobody out elsewhere.
    """
    services, args = call.services, call.args
    site = await site_of(call)
    shown = Credential(args["card"], args["pin"], args["name"], args["password"])
    now_us, authentication = services.wall_clock(), services.authentication
    if shown.method is Method.PASSWORD:
        place = f"{site.identity}/{normalise_name(shown.name)}"
        user = await authentication.password(shown.name, shown.password, site.identity, place)
    else:
        where = f"{args['where']}@{site.identity}" if _is_mfd(call) else site.identity
        login = await authentication.authenticate(shown, where, node=site.identity)
        user = login.user
    if not await is_copied(call, site, user):
        try:
            await services.journal.commit(AdmitGuest(site.guid, user.guid, now_us))
        except OperationError as error:
            log.error("guest_refused", site=site.name, reason=str(error))
            raise
    return {"user": user.name}


def _is_mfd(call: Call) -> bool:
    """Whether the machine is one that is known here; a site may make up others."""
    kind, _, guid = call.args["where"].partition(":")
    found = uuid_of(guid)
    is_known = found is not None and call.services.mfds.by_guid(found) is not None
    return kind == "device" and is_known


async def held(call: Call) -> dict[str, Any]:
    """What is here, and behind that what waits at other sites."""
    site, services = await site_of(call), call.services
    user, printer = await _person(call, site), await _printer(call, site)
    after_id, limit = call.args["after_id"], call.args["limit"]
    near = []
    if after_id < FAR:
        near = await services.desk.held(user, printer, after_id=after_id, limit=limit)
    far = partial(services.far_desk.held, user.guid, printer, after_id, asking=site.guid)
    return await page_with_far(near, limit, far)


async def release(call: Call) -> dict[str, Any]:
    site, args, services = await site_of(call), call.args, call.services
    user, printer = await _person(call, site), await _printer(call, site)
    here, elsewhere = split(args["jobs"])
    asked = (args["where"] or call.actor, changes_of(call), args["account"])
    done = await services.desk.release(user, here, printer, *asked)
    refused = await services.far_desk.release(user.guid, printer, elsewhere, *asked)
    return {"results": result_maps(done)["results"] + refused}


async def change(call: Call) -> dict[str, Any]:
    site, job_id, services = await site_of(call), call.args["job"], call.services
    user, printer = await _person(call, site), await _printer(call, site)
    changes = changes_of(call)
    if job_id >= FAR:
        return await services.far_desk.change(user.guid, printer, job_id, changes)
    return change_map(await services.desk.change(user, job_id, changes, printer))


async def delete(call: Call) -> dict[str, Any]:
    user = await _person(call, await site_of(call))
    here, elsewhere = split(call.args["jobs"])
    done = await call.services.desk.delete(user, here)
    refused = await call.services.far_desk.delete(user.guid, elsewhere)
    return {"results": result_maps(done)["results"] + refused}


_PERSON = Argument("person", required=True, least=32, most=45, summary="Who is logged in there.")
_PRINTER = Argument("printer", required=True, least=32, most=45, summary="One of the site's.")
_JOBS = replace(IDS, required=True, summary="Which, by their numbers here.")

_SHOWN = Argument("", default="", most=CREDENTIAL_CHARACTERS_MAX)
OPERATIONS = (
    Operation(
        "site.visit",
        (
            *(replace(_SHOWN, name=name) for name in ("card", "pin", "name", "password")),
            Argument("where", default="", most=WHERE_CHARACTERS_MAX, summary="The MFD there."),
        ),
        SITES,
        LINES,
        visit,
        "Who somebody is whom a site does not know; it gets a copy.",
    ),
    Operation(
        "site.held",
        (
            _PERSON,
            _PRINTER,
            Argument("after_id", (int,), default=0),
            Argument("limit", (int,), default=50, least=1, most=PAGE_JOBS_MAX),
        ),
        SITES,
        LINES,
        held,
        "What waits here for somebody at a site.",
    ),
    Operation(
        "site.release",
        (
            _PERSON,
            _PRINTER,
            _JOBS,
            *CHANGES,
            Argument("account", most=255),
            Argument("where", most=WHERE_CHARACTERS_MAX, summary="The identity of the MFD."),
        ),
        SITES,
        LINES,
        release,
        "Let jobs come out at a printer of a site.",
    ),
    Operation(
        "site.change",
        (_PERSON, _PRINTER, ID, *CHANGES),
        SITES,
        LINES,
        change,
        "Change a job that is held here, for somebody at a site.",
    ),
    Operation(
        "site.delete",
        (_PERSON, _JOBS),
        SITES,
        LINES,
        delete,
        "Delete jobs that are held here, for somebody at a site.",
    ),
)
