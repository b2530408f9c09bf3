"""Printers as objects of a file: `[printer.NAME]`, with the keys that `printer.set` takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

from spoold.daemon.apply import Asked, Kind, Problem, Whole
from spoold.daemon.operations.conversions import check_conversions, read_conversions
from spoold.daemon.operations.learning import LEARN
from spoold.daemon.operations.offer import merged_offer
from spoold.daemon.operations.settings import (
    ARGUMENTS,
    merged,
    read_settings,
    read_uri,
)
from spoold.daemon.operations.showing import printer_map
from spoold.daemon.operations.watch import Known
from spoold.dispatch.status import PrinterStatus
from spoold.driver.link import driver_for
from spoold.model.errors import OperationError
from spoold.model.objects import Action, Object, Step
from spoold.model.principal import Port, Principal
from spoold.model.printer import Device, Printer, check_printer_name
from spoold.net.connect import TcpNetwork

_NOBODY = UUID(int=0)
_UNFINISHED = ("pending", "held", "processing")


class Printers(Kind):
    word = "printer"
    arguments = (*ARGUMENTS, LEARN)
    listing = Asked("printer.list", {"whole": True})
    rows = "printers"
    unspoken = frozenset({"learn", "jobs"})

    def name(self, text: str) -> str:
        return check_printer_name(text)

    def wanted(self, name: str, given: dict[str, Any]) -> Object:
        values = {one.name: given.get(one.name) for one in ARGUMENTS}
        fields, options, _ = read_settings(values)
        found: dict[str, Any] = {}
        if values["uri"] is not None:
            if values["members"]:
                raise _bad("it has a device URI and members.", "Give one of the two.")
            found["uri"], in_query = read_uri(values["uri"])
            options = {**in_query, **options}
        found |= {key: list(given[key]) for key in ("members", "standby") if key in given}
        if options:
            found["options"] = options
        shown = _shown(name, fields)
        found |= {key: shown[key] for key in fields}
        if values["offer"]:
            taken = merged_offer({}, values["offer"])
            found["offer"] = {key: taken.get(key, "") for key in values["offer"]}
        if given.get("learn"):
            found["learn"] = True
        return found

    def there(self, row: dict[str, Any]) -> Object:
        found = dict(super().there(row))
        found["jobs"] = sum(row["jobs"][one] for one in _UNFINISHED)
        # Asking a device again is no difference; a file only says that it may be asked.
        found["learn"] = True
        return found

    def problems(self, step: Step, whole: Whole, gone: set[str]) -> Iterable[Problem]:
        path = f"printer.{step.name}"
        there = whole.there["printer"].get(step.name, {})
        try:
            if step.action is Action.REMOVE:
                self._check_removal(step.name, there, whole, gone)
            else:
                assert step.wanted is not None
                self._check_pool(step.name, whole, gone)
                self._check_device(step.wanted, there, whole)
                self._check_rest(step.name, step.wanted, there)
        except OperationError as error:
            yield Problem(path, error.message, error.advice)

    def _check_removal(self, name: str, there: Object, whole: Whole, gone: set[str]) -> None:
        if there["jobs"]:
            raise _bad(
                "it would be removed, but jobs wait on it.",
                f"Name it in the file, or move them: `spoold printer redirect {name} OTHER`.",
            )
        for other in whole.names("printer", gone):
            if name in _members(_after(whole, other)):
                raise _bad(f"it would be removed, but {other} has it as a member.", "Name it.")

    def _check_pool(self, name: str, whole: Whole, gone: set[str]) -> None:
        one = _after(whole, name)
        if not _is_pool(one) and not one.get("uri"):
            raise _bad("it has neither device URI nor members.", "Give one of the two.")
        for member in _members(one) if _is_pool(one) else ():
            if member not in whole.names("printer", gone):
                raise _bad(f"there is no printer {member}.", "Name it in the file, too.")
            if member == name or _is_pool(_after(whole, member)):
                raise _bad(f"{member} cannot be a member: it is a pool.", "Name its members.")

    def _check_device(self, wanted: Object, there: Object, whole: Whole) -> None:
        uri = wanted.get("uri") or there.get("uri")
        if not uri or wanted.get("members"):
            return
        options = _options(wanted, there)
        for other in whole.wanted["printer"]:
            one, old = whole.wanted["printer"][other], whole.there["printer"].get(other, {})
            same = (one.get("uri") or old.get("uri")) == uri and one is not wanted
            said = one.get("options", {})
            if same and any(wanted.get("options", {}).get(k, v) != v for k, v in said.items()):
                raise _bad(f"{other} has the same device with other options.", "Make them one.")
        driver_for(Device(0, _NOBODY, uri, options), TcpNetwork())

    def _check_rest(self, name: str, wanted: Object, there: Object) -> None:
        merged_offer(there.get("offer") or {}, wanted.get("offer") or {})
        conversions = wanted.get("conversions", there.get("conversions")) or []
        if conversions and not wanted.get("learn"):
            printer = replace(
                Printer(0, _NOBODY, name),
                formats=tuple(wanted.get("formats", there.get("formats")) or ()),
                conversions=read_conversions("conversions", conversions),
            )
            check_conversions(printer, Principal("", Port.CONTROL))

    def turn(self, step: Step, there: Object | None) -> int:
        """Members before pools, and a pool lets go of a member before that becomes a pool."""
        is_pool = bool((step.wanted or {}).get("members"))
        if step.action is Action.REMOVE:
            return 0 if there is not None and _is_pool(there) else 1
        if step.action is Action.ADD:
            return 4 if is_pool else 0
        if there is not None and _is_pool(there):
            return 2 if not (step.wanted or {}).get("uri") else 1
        return 3 if is_pool else 1

    def asked(self, step: Step, there: Object | None) -> Asked:
        if step.action is Action.REMOVE:
            return Asked("printer.remove", {"name": step.name})
        assert step.wanted is not None
        if step.action is Action.ADD:
            return Asked("printer.add", {"name": step.name, **step.wanted})
        args: dict[str, Any] = {key: step.wanted[key] for key in step.keys}
        for key in ("options", "offer"):
            if key in step.keys:
                args[key] = step.changed(key)
        if "uri" in args:  # a device of another kind starts without the old one's options
            args |= {key: step.wanted[key] for key in ("options", "learn") if key in step.wanted}
        return Asked("printer.set", {"name": step.name, **args})

    def blank(self) -> Object:
        return _shown("", {})


def _shown(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A printer with these fields and no others, as listings show it."""
    printer = replace(Printer(0, _NOBODY, name), **fields)
    return printer_map(printer, Known({}, {}, {}), PrinterStatus(), {}, 0)


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)


def _after(whole: Whole, name: str) -> Object:
    """A printer as it will be."""
    there = whole.there["printer"].get(name, {})
    wanted = whole.wanted.get("printer", {}).get(name, {})
    if wanted.get("uri"):
        return {**there, "members": [], "standby": [], **wanted}
    return {**there, **({"uri": ""} if wanted.get("members") else {}), **wanted}


def _members(one: Object) -> list[str]:
    return [*(one.get("members") or ()), *(one.get("standby") or ())]


def _is_pool(one: Object) -> bool:
    return bool(one.get("members")) and not one.get("uri")


def _options(wanted: Object, there: Object) -> dict[str, str]:
    kept = there.get("options") or {}
    if wanted.get("uri", there.get("uri")) != there.get("uri"):
        scheme = str(wanted["uri"]).partition(":")[0]
        kept = kept if str(there.get("uri")).partition(":")[0] == scheme else {}
    return merged(dict(kept), dict(wanted.get("options") or {}))
