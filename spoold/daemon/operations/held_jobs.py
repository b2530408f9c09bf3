"""Held jobs as operations show them and take changes of them, at MFDs and after a login alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import fields
from typing import Any

from spoold.daemon.operations.table import Argument, Call
from spoold.daemon.operations.views import fitting
from spoold.model.release import COLORS, SIDES, Changes
from spoold.release.desk import RELEASED_AT_ONCE, HeldJob, Result
from spoold.release.places import COPIES_MAX
from spoold.site.far_desk import FAR, FarJobs

_FIELDS = tuple(one.name for one in fields(HeldJob))
JOB_ID_MAX = 2**33 - 1  # those of jobs elsewhere are above 2**31: `site/far_desk.py`

ID = Argument("job", (int,), required=True, least=1, most=JOB_ID_MAX)
IDS = Argument(
    "jobs",
    (list,),
    least=1,
    most=RELEASED_AT_ONCE,
    each=Argument("", (int,), least=1, most=JOB_ID_MAX),
    summary="Which; without it all that can be released here.",
)
CHANGES = (
    Argument("copies", (int,), least=1, most=COPIES_MAX),
    Argument("sides", choices=SIDES),
    Argument("color", choices=COLORS, summary="A print-color-mode (PWG 5100.13)."),
)


def changes_of(call: Call) -> Changes:
    args = call.args
    return Changes(args["copies"], args["sides"], args["color"])


def held_map(job: HeldJob) -> dict[str, Any]:
    told = {name: getattr(job, name) for name in _FIELDS}  # asdict is half of a page's time
    return told | {"uuid": str(job.uuid), "reasons": list(job.reasons)}


async def page_with_far(
    near: list[HeldJob], limit: int, ask: Callable[[int], Awaitable[FarJobs]]
) -> dict[str, Any]:
    """A page of held jobs, those that are here first; `ask` is asked for as many as are missing."""
    rows = [held_map(one) | {"node": ""} for one in near]
    if len(rows) < limit:
        far = await ask(limit - len(rows))
    else:
        far = FarJobs(next_after_id=rows[-1]["id"])
    page, is_cut = fitting([*rows, *far.jobs], limit, far.unheard)
    return {
        "jobs": page,
        "next_after_id": page[-1]["id"] if is_cut else far.next_after_id,
        "unheard": list(far.unheard),
    }


def split(jobs: Iterable[int]) -> tuple[list[int], list[int]]:
    """The jobs that are here, and those that are elsewhere."""
    ids = list(jobs)
    return [one for one in ids if one < FAR], [one for one in ids if one >= FAR]


def result_map(result: Result) -> dict[str, Any]:
    """What became of a job; `error` is nil when it was done."""
    return {
        "id": result.job_id,
        "title": result.title,
        "state": result.state.value if result.state is not None else None,
        "price": result.price,
        "error": result.error and result.error.as_map(),
    }


def change_map(result: Result) -> dict[str, Any]:
    """The same of one job.

    Raises:
        OperationError: nothing was done.
    """
    if result.error is not None:
        raise result.error
    return result_map(result)


def result_maps(results: Iterable[Result]) -> dict[str, Any]:
    page, _ = fitting(map(result_map, results), RELEASED_AT_ONCE)
    return {"results": page}
