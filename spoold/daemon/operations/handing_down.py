"""What a site asks over its line about jobs for its own printers (FRAMES.md 12)."""

from __future__ import annotations

from typing import Any

import structlog

from spoold.codec.frame import OFFSET_MAX
from spoold.daemon.operations.access import LINES, SITES
from spoold.daemon.operations.handing import read_uuids
from spoold.daemon.operations.sites import refusal_arguments, refusal_of, site_of
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting
from spoold.driver.handed_on import job_uuid_of
from spoold.site.handing import OFFERS_MAX
from spoold.spool import remote_jobs, remote_views
from spoold.spool.store import ForgetRemote

log = structlog.get_logger("spoold.site")

HANDED_MAX = 200
STATES_MAX = 100
DONE_MAX = 500
UNFINISHED_MAX = 500


async def offers(call: Call) -> dict[str, Any]:
    site = await site_of(call)
    jobs, _ = fitting(await call.services.handing.offers(site.guid), OFFERS_MAX)
    # Those that are left out are among those that are offered next.
    return {"jobs": jobs, "again_s": call.services.handing.again_s()}


async def piece(call: Call) -> dict[str, Any]:
    site, args = await site_of(call), call.args
    data = await call.services.handing.piece(site.guid, args["job"], args["offset"])
    return {"data": data}


async def took(call: Call) -> dict[str, Any]:
    site = await site_of(call)
    await call.services.handing.took(site.guid, site.name, call.args)
    return {}


async def handed(call: Call) -> dict[str, Any]:
    """The jobs that the site has and did not finish, as far as it has told; a page of them."""
    site = await site_of(call)
    page = await call.services.handing.handed(site.guid, call.args["after_id"], HANDED_MAX)
    return {
        "jobs": [
            {"job_uuid": str(job_uuid_of(one.evidence, one.uuid)), "canceled": one.is_canceled}
            for one in page
        ],
        "next_after_id": page[-1].job_id if len(page) == HANDED_MAX else None,
    }


async def states(call: Call) -> dict[str, Any]:
    site = await site_of(call)
    read_uuids([one["job_uuid"] for one in call.args["jobs"]])
    await call.services.handing.told(site.guid, call.args["jobs"])
    return {}


async def wanted(call: Call) -> dict[str, Any]:
    site = await site_of(call)
    return {"jobs": [str(one) for one in call.services.wanting.wanted(site.guid)]}


async def gave(call: Call) -> dict[str, Any]:
    """The site has let go of a job, or keeps it, and says why."""
    site, args = await site_of(call), call.args
    [uuid] = read_uuids([args["job_uuid"]])
    error = refusal_of(site, args)
    if error is None:
        return await call.services.wanting.gave(site.guid, uuid)
    call.services.wanting.kept(site.guid, uuid, error)
    return {"job_id": None, "state": None}


async def done(call: Call) -> dict[str, Any]:
    """The jobs that wait at the site and have come out elsewhere; a page of them."""
    site = await site_of(call)
    after_id = call.args["after_id"]
    found = await call.services.reader.look(remote_jobs.twins_at, site.guid, after_id, DONE_MAX)
    return {
        "jobs": [str(one.uuid) for one in found if not one.is_its_own],
        "next_after_id": found[-1].key if len(found) == DONE_MAX else None,
    }


async def unfinished(call: Call) -> dict[str, Any]:
    """The jobs that the site has, and that are not at their end, as it has told; a page of them."""
    site, before = await site_of(call), call.args["before"]
    look = call.services.reader.look
    found = await look(remote_views.page, site.guid, before, UNFINISHED_MAX, True)
    return {
        "jobs": [str(one.uuid) for _, one in found],
        "next_before": found[-1][0] if len(found) == UNFINISHED_MAX else None,
    }


async def forgot(call: Call) -> dict[str, Any]:
    """The site was put back to before it had these jobs."""
    site = await site_of(call)
    uuids = tuple(read_uuids(call.args["jobs"]))
    await call.services.journal.commit(ForgetRemote(site.guid, uuids, call.services.wall_clock()))
    log.warning("jobs_forgotten_there", site=site.name, jobs=len(uuids))
    return {}


_STATE = Argument(
    "",
    (dict,),
    keys=(
        Argument("job_uuid", required=True, least=32, most=45),
        Argument("job_id", (int,)),
        Argument("state", required=True, most=32),
        Argument("reasons", (list,), default=(), most=32, each=Argument("", most=255)),
        Argument("message", default="", most=1024),
        Argument("impressions", (int,)),
    ),
)
_JOB = Argument("job", (int,), required=True, least=1)
OPERATIONS = (
    Operation("site.jobs", (), SITES, LINES, offers, "Jobs that a site is to print."),
    Operation(
        "site.document",
        (_JOB, Argument("offset", (int,), default=0, most=min(OFFSET_MAX, 2**53 - 1))),
        SITES,
        LINES,
        piece,
        "Bytes of the document of a job that a site is to print.",
    ),
    Operation(
        "site.took",
        (
            _JOB,
            Argument("job_id", (int,), summary="Its number at the site."),
            Argument("error", most=64, summary="Why the site has it not."),
            Argument("message", default="", most=1024),
        ),
        SITES,
        LINES,
        took,
        "A site has a job that it was offered, or cannot take it.",
    ),
    Operation(
        "site.handed",
        (Argument("after_id", (int,), default=0),),
        SITES,
        LINES,
        handed,
        "The jobs that a site has, as far as is known; which of them are canceled.",
    ),
    Operation(
        "site.states",
        (Argument("jobs", (list,), required=True, least=1, most=STATES_MAX, each=_STATE),),
        SITES,
        LINES,
        states,
        "How jobs are that a site has.",
    ),
    Operation("site.wanted", (), SITES, LINES, wanted, "Jobs that a site is to let go of."),
    Operation(
        "site.gave",
        (
            Argument("job_uuid", required=True, least=32, most=45),
            *refusal_arguments("Why the site keeps it."),
        ),
        SITES,
        LINES,
        gave,
        "A site has let go of a job that waited there, or keeps it.",
    ),
    Operation(
        "site.done",
        (Argument("after_id", (int,), default=0),),
        SITES,
        LINES,
        done,
        "Jobs that wait at a site and have come out elsewhere.",
    ),
    Operation(
        "site.unfinished",
        (Argument("before", (int,), default=0),),
        SITES,
        LINES,
        unfinished,
        "Jobs that a site has, as it has told, for one that was put back.",
    ),
    Operation(
        "site.forgot",
        (
            Argument(
                "jobs",
                (list,),
                required=True,
                least=1,
                most=UNFINISHED_MAX,
                each=Argument("", least=32, most=45),
            ),
        ),
        SITES,
        LINES,
        forgot,
        "Jobs that a site does not know any more.",
    ),
)
