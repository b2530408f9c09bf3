"""Roles that count within a scope: for some printers, for people of some groups, at some sites.

In: a call, and the scopes of the caller. Out: the roles that count for just that call. A call is
about the printers and the job that its arguments name, and is within a scope when all of
them are; what names none of these is beyond every scope but that of a whole site. Listings are
answered without the rows that are beyond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from spoold.daemon.operations.context import Services
from spoold.daemon.operations.jobs import parse_job
from spoold.daemon.operations.table import Operation
from spoold.model.errors import OperationError
from spoold.model.person import normalise_name
from spoold.model.principal import Principal, Role, Scope

# Arguments that name printers, by operation.
_PRINTERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "printer.accept",
            "printer.cancel-current",
            "printer.describe",
            "printer.hold-new-jobs",
            "printer.pause",
            "printer.purge",
            "printer.reject",
            "printer.release-held-new-jobs",
            "printer.resume",
            "printer.show",
            "printer.suspend-current",
        ),
        ("name",),
    ),
    "printer.redirect": ("from", "to"),
    "job.move": ("to",),
    "job.release": ("to",),
    "job.resubmit": ("printer",),
    "job.cancel-many": ("printer",),
}
# Operations that name a job as `job`, or jobs by a `filter` that may name a printer and an owner.
_JOBS = frozenset(
    {
        "job.cancel",
        "job.explain",
        "job.follow",
        "job.hold",
        "job.move",
        "job.promote",
        "job.release",
        "job.resubmit",
        "job.retry",
        "job.set",
        "job.settle",
        "job.show",
    }
)
# Listings: where their rows are, and which of a row's entries name printer and owner.
_ROWS = {"printer.list": ("printers", "name", ""), "job.list": ("jobs", "printer", "owner")}


class _Subject(NamedTuple):
    """What a call is about: a printer's GUID, the groups of a person; None: it names none."""

    printer: str | None
    groups: frozenset[str] | None


def _covers(scope: Scope, subject: _Subject) -> bool:
    if scope.printers and subject.printer not in scope.printers:
        return False
    return not scope.groups or not (subject.groups or frozenset()).isdisjoint(scope.groups)


class Scopes:
    """See `table.Scoping`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._here = str(services.node_guid)

    async def counting(
        self, operation: Operation, principal: Principal, args: Mapping[str, Any]
    ) -> frozenset[Role]:
        here = self._limits(operation, principal)
        whole = {one.role for one in here if not one.printers and not one.groups}
        parts = [one for one in here if one.role not in whole]
        if not parts:
            return frozenset(whole)
        if operation.name in _ROWS:
            return frozenset(whole | {one.role for one in parts})
        subjects = await self._subjects(operation.name, args)
        within = {
            role
            for role in {one.role for one in parts}
            if subjects
            and all(
                any(_covers(one, subject) for one in parts if one.role is role)
                for subject in subjects
            )
        }
        return frozenset(whole | within)

    def _limits(self, operation: Operation, principal: Principal) -> list[Scope]:
        """The scopes that reach as far as this node."""
        limited = operation.limited(principal)
        return [one for one in limited if not one.sites or self._here in one.sites]

    async def shown(
        self, operation: Operation, principal: Principal, answer: dict[str, Any]
    ) -> dict[str, Any]:
        limits = self._limits(operation, principal)
        if operation.name not in _ROWS or any(not (x.printers or x.groups) for x in limits):
            return answer
        key, printer, owner = _ROWS[operation.name]
        kept = []
        for row in answer[key]:
            subject = _Subject(
                await self._printer(row[printer]), await self._groups(row.get(owner))
            )
            is_own = bool(owner) and bool(principal.name) and row.get(owner) == principal.name
            if is_own or any(_covers(one, subject) for one in limits):
                kept.append(row)
        return {**answer, key: kept}

    # -- what a call is about --------------------------------------------------------------------

    async def _subjects(self, name: str, args: Mapping[str, Any]) -> Sequence[_Subject]:
        """Empty when it names nothing that a scope could be for."""
        found = [
            _Subject(await self._printer(args[one]), None)
            for one in _PRINTERS.get(name, ())
            if args.get(one) is not None
        ]
        if name in _JOBS and args.get("job") is not None:
            job = await self._job(args["job"])
            found = [_Subject(one.printer, job.groups) for one in found] + [job]
        elif name in _JOBS and args.get("filter") is not None:
            chosen = args["filter"]
            subject = _Subject(
                await self._printer(chosen.get("printer")),
                await self._groups(chosen.get("owner")),
            )
            found = [_Subject(one.printer, subject.groups) for one in found] + [subject]
        return found

    async def _printer(self, name: str | None) -> str | None:
        known = await self._services.catalogue.look()
        printer = known.by_name.get(name or "")
        return None if printer is None else str(printer.guid)

    async def _groups(self, name: str | None) -> frozenset[str] | None:
        user = await self._services.reader.user(normalise_name(name)) if name else None
        return None if user is None else frozenset(user.groups)

    async def _job(self, name: int | str) -> _Subject:
        reader = self._services.reader
        try:
            parsed = parse_job(self._services, name)
        except OperationError:
            return _Subject(None, None)  # the operation itself says what is wrong
        if isinstance(parsed, UUID):
            job = await reader.job_by_uuid(parsed)
        else:
            job = await reader.job(parsed)
        if job is None:
            return _Subject(None, None)
        known = await self._services.catalogue.look()
        printer = known.printers.get(job.printer_id)
        groups = await self._groups(job.owner.name)
        return _Subject(None if printer is None else str(printer.guid), groups)
