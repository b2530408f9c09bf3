"""Printers as objects of a file: `[printer.NAME]`, with the keys that `printer.set` takes.

What the operations would refuse is looked for here first, among all printers as they will be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from spoold.daemon.apply import Asked, Kind, Problem, Whole
from spoold.daemon.operations.conversions import check_conversions
from spoold.daemon.operations.learning import LEARN
from spoold.daemon.operations.offer import merged_offer
from spoold.daemon.operations.printers import check_pool
from spoold.daemon.operations.releasing import check_release, those_naming
from spoold.daemon.operations.settings import (
    ARGUMENTS,
    merged,
    read_settings,
    read_uri,
)
from spoold.daemon.operations.showing import printer_map
from spoold.daemon.operations.watch import Known
from spoold.dispatch.status import PrinterStatus
from spoold.driver.link import check_options, driver_for
from spoold.model.errors import OperationError
from spoold.model.objects import Action, Object, Step
from spoold.model.principal import Port, Principal
from spoold.model.printer import Device, Printer, check_printer_name
from spoold.model.release import ReleaseMode
from spoold.net.connect import TcpNetwork

_NOBODY = UUID(int=0)
_NOT_DONE = ("pending", "held", "processing")


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
        shown = _shown(Printer(0, _NOBODY, name), fields)
        found |= {key: shown[key] for key in fields}
        if values["offer"]:
            taken = merged_offer({}, values["offer"])
            found["offer"] = {key: taken.get(key, "") for key in values["offer"]}
        if given.get("learn"):
            found["learn"] = True
        return found

    def there(self, row: dict[str, Any]) -> Object:
        found = dict(super().there(row))
        found["jobs"] = sum(row["jobs"][one] for one in _NOT_DONE)
        # Asking a device again is no difference; a file only says that it may be asked.
        found["learn"] = True
        return found

    def problems(self, steps: Sequence[Step], whole: Whole, gone: set[str]) -> Iterable[Problem]:
        try:
            known = _known(whole, gone)
        except OperationError as error:
            yield Problem("printer", error.message, error.advice)
            return
        yield from _sharing(whole, known)
        for step in steps:
            there = whole.there["printer"].get(step.name, {})
            try:
                if step.action is Action.REMOVE:
                    _check_removal(step.name, there, known)
                else:
                    _check(step, there, known)
            except OperationError as error:
                yield Problem(f"printer.{step.name}", error.message, error.advice)

    def turn(self, step: Step, there: Object | None) -> int:
        """Members before pools, and a pool lets go of a member before that becomes a pool."""
        wanted = step.wanted or {}
        is_pool = bool(wanted.get("members"))
        if step.action is Action.REMOVE:
            return 1 if there is not None and there.get("uri") else 0
        if wanted.get("release") == ReleaseMode.FIND_ME or wanted.get("releases_at"):
            return 5
        if step.action is Action.ADD:
            return 4 if is_pool else 0
        if there is not None and there.get("members"):
            return 1 if wanted.get("uri") else 2
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
        return _shown(Printer(0, _NOBODY, ""), {})


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)


def _shown(printer: Printer, fields: dict[str, Any]) -> dict[str, Any]:
    """A printer with these fields, as listings show it."""
    printer = replace(printer, **fields)
    return printer_map(printer, Known({}, {}, {}), PrinterStatus(), {}, 0)


# -- all printers as they will be --------------------------------------------------------------


def _after(whole: Whole, name: str) -> Object:
    there = whole.there["printer"].get(name, {})
    wanted = whole.wanted.get("printer", {}).get(name, {})
    if wanted.get("uri"):
        there = {**there, "members": [], "standby": []}
    elif wanted.get("members"):
        there = {**there, "uri": "", "options": {}}
    after = {**there, **wanted}
    after["options"] = _options(wanted, there)
    after["offer"] = merged_offer(there.get("offer") or {}, wanted.get("offer") or {})
    return after


def _options(wanted: Object, there: Object) -> dict[str, str]:
    """The driver's options; a device of another kind starts without the old one's."""
    kept = there.get("options") or {}
    old, new = (str(one.get("uri") or "").partition(":")[0] for one in (there, wanted))
    return merged({} if new and new != old else dict(kept), dict(wanted.get("options") or {}))


def _known(whole: Whole, gone: set[str]) -> Known:
    printers: dict[int, Printer] = {}
    devices: dict[int, Device] = {}
    for id_, name in enumerate(sorted(whole.names("printer", gone)), 1):
        after = _after(whole, name)
        if after.get("uri"):
            devices[id_] = Device(id_, _NOBODY, after["uri"], after["options"])
        printers[id_] = _printer(id_, name, after, id_ if after.get("uri") else None)
    return Known(printers, devices, {one.name: one for one in printers.values()})


def _printer(id_: int, name: str, shown: Object, device_id: int | None) -> Printer:
    values = {one.name: shown.get(one.name) for one in ARGUMENTS}
    fields, _, _ = read_settings({**values, "options": None})
    return replace(
        Printer(id_, _NOBODY, name, device_id),
        members=tuple(shown.get("members") or ()),
        standby=tuple(shown.get("standby") or ()),
        options=shown["offer"],
        **fields,
    )


# -- checks ------------------------------------------------------------------------------------


def _check_removal(name: str, there: Object, known: Known) -> None:
    if there["jobs"]:
        raise _bad(
            "it would be removed, but jobs wait on it.",
            f"Name it in the file, or move them: `spoold printer redirect {name} OTHER`.",
        )
    if others := those_naming(known, name):
        raise _bad(f"it would be removed, but {others[0].name} names it.", "Name it in the file.")


def _check(step: Step, there: Object, known: Known) -> None:
    """What `printer.add` and `printer.set` would refuse."""
    printer = known.by_name[step.name]
    device = known.device_of(printer)
    if device is None and not printer.is_find_me and not printer.members:
        raise _bad("it has neither device URI nor members.", "Give one of the two.")
    if printer.members or printer.standby:
        check_pool(known, printer.name, list(printer.members), list(printer.standby))
    old = None
    if there:
        old = _printer(0, step.name, {**there, "offer": there.get("offer") or {}}, None)
    check_release(known, printer, device, old)
    if not (step.wanted or {}).get("learn"):
        check_conversions(printer, Principal("", Port.CONTROL), old)
    if device is not None:
        driver_for(device, TcpNetwork())
        check_options(device)


def _sharing(whole: Whole, known: Known) -> Iterable[Problem]:
    """Printers of one device in the file have its options alike."""
    first: dict[str, tuple[str, dict[str, str]]] = {}
    for name, wanted in whole.wanted["printer"].items():
        device = known.device_of(known.by_name[name])
        if device is not None:
            said = wanted.get("options", {})
            other, theirs = first.setdefault(device.uri, (name, said))
            if any(said.get(key, value) != value for key, value in theirs.items()):
                cause = f"{other} has the same device with other options."
                yield Problem(f"printer.{name}", cause, "Make them one.")
