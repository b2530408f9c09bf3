"""Changing printers: add, set, remove, pause, resume, redirect.

What a printer points to is tried on its driver before it is written, so that a URI or an option
that cannot work is refused with the driver's advice. Printers with the same device URI share the
device. One change at a time; each is committed as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import trio

from spoold.daemon.operations.access import ADMINS, KNOWN, LOCAL, OPERATORS
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.conversions import check_conversions
from spoold.daemon.operations.jobs import AFTER_ID, find_printer
from spoold.daemon.operations.learning import LEARN, Acquaintance, get_to_know
from spoold.daemon.operations.offer import merged_offer
from spoold.daemon.operations.ownership import owner_of
from spoold.daemon.operations.plans import plan_move
from spoold.daemon.operations.releasing import check_release, renamed_in, those_naming
from spoold.daemon.operations.settings import ARGUMENTS, merged, read_settings, read_uri
from spoold.daemon.operations.showing import maps_of
from spoold.daemon.operations.steering import DRY_RUN, accepting_printer, change_many
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.watch import Known
from spoold.driver.link import Local, check_options, driver_for
from spoold.model.errors import OperationError
from spoold.model.job import ACTIVE, WAITING
from spoold.model.printer import Device, Printer, check_printer_name
from spoold.model.release import ReleaseMode
from spoold.spool.store import Change, JobFilter, PutDevice, PutPrinter, RemovePrinter

PROBE_S = 2.0  # in which a device of this machine says how it is, when somebody adds it


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of a printer's device: `uri` None keeps it. "" takes an option away.

    `serial` is the device's number, where it was asked for it.
    """

    uri: str | None
    options: dict[str, str]
    serial: str = ""


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)


def wish_of(uri: str | None, options: dict[str, str]) -> Wish:
    """The device that the arguments ask for; options of the query give way to named ones.

    Raises:
        OperationError: `bad-request`: the URI is none.
    """
    if uri is None:
        return Wish(None, options)
    address, in_query = read_uri(uri)
    return Wish(address, {**in_query, **options})


async def check_driver(services: Services, device: Device) -> list[str]:
    """Let the driver judge the device's URI and options; advice where it sees the device, too.

    Raises:
        OperationError: there is no such driver, or it cannot work with them.
    """
    try:
        driver = driver_for(device, services.network)
        check_options(device)
    except (ImportError, AttributeError) as error:
        raise _bad(
            f"the driver of {device.scheme} cannot be loaded: {error}.",
            "Install what it needs, or use another scheme.",
        ) from error
    if isinstance(driver, Local):
        with trio.move_on_after(PROBE_S):
            status = await driver.probe()
            return [status.detail] if status.detail else []
        return [f"{device.uri} does not answer: is its disk there?"]
    return []


def check_pool(known: Known, name: str, members: list[str], standby: list[str]) -> None:
    """Let a pool have these members.

    Raises:
        OperationError: one is missing, is the pool itself, or is a pool.
    """
    if not members:
        raise _bad("a pool needs at least one member.", "Name printers, or a device URI instead.")
    for member in (*members, *standby):
        if member == name:
            raise _bad(f"{name} cannot be a member of itself.", "Name other printers.")
        if find_printer(known, member).is_pool:
            raise _bad(f"{member} is a pool itself.", "Name its members instead.")


def _same_device(known: Known, uri: str) -> Device | None:
    return next((one for one in known.devices.values() if one.uri == uri), None)


def _shared(known: Known, device: Device, options: dict[str, str], name: str) -> Device:
    """The device that others use already, if that is what is asked for.

    Raises:
        OperationError: `conflict`: its options are others.
    """
    differing = [key for key, value in options.items() if device.options.get(key, "") != value]
    others = [one.name for one in known.sharing(device.id) if one.name != name]
    if differing and others:
        raise OperationError(
            "conflict",
            f"{device.uri} is {others[0]}'s device, with other options: {', '.join(differing)}.",
            f"Leave them out, or change them for all: `spoold printer set {others[0]}`.",
        )
    return device


async def _commit(services: Services, changes: list[Change]) -> list[Any]:
    answers = await services.journal.commit_all(changes)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


async def _answer(call: Call, printer: Printer, advice: list[str]) -> dict[str, Any]:
    known = await call.services.catalogue.look()
    (shown,) = await maps_of(call, known, [known.printers.get(printer.id, printer)])
    shown["offer"] = known.printers.get(printer.id, printer).options
    shown["advice"] += advice
    return shown


async def add(call: Call) -> dict[str, Any]:
    args, services = call.args, call.services
    name = check_printer_name(args["name"])
    fields, options, advice = read_settings(args)
    members, standby = args["members"] or [], args["standby"] or []
    is_find_me = fields.get("release") is ReleaseMode.FIND_ME
    if (args["uri"] is not None) + bool(members) + is_find_me != 1:
        raise _bad(
            "a printer has a device URI, or members, or is a find-me printer.",
            "Give one of the three.",
        )
    wish = wish_of(args["uri"], options)
    met = Acquaintance()
    if wish.uri is not None:
        device = Device(0, uuid4(), wish.uri, merged({}, wish.options))
        met = await get_to_know(services, name, device, is_learning=args["learn"])
        wish = replace(wish, options=wish.options | met.options, serial=met.serial)
    elif args["learn"]:
        raise _bad("a pool has no device to learn from.", "Let its members learn.")
    offer = merged_offer(met.offer, args["offer"] or {})
    advice += met.advice
    fields = {**met.names, **met.fields, **fields, **await owner_of(call)}
    printer = replace(Printer(0, uuid4(), name), options=offer, **fields)
    check_conversions(printer, call.principal)
    async with services.changing:
        known = await services.catalogue.look()
        if name in known.by_name:
            raise OperationError(
                "conflict",
                f"there is a printer {name} already.",
                f"Change it: `spoold printer set {name}`.",
            )
        if args["uri"] is None:
            if options:
                raise _bad("it has no driver.", f"Leave out {', '.join(options)}.")
            if not is_find_me:
                check_pool(known, name, members, standby)
            printer = replace(printer, members=tuple(members), standby=tuple(standby))
        else:
            if standby:
                raise _bad("only a pool has standby members.", "Name members instead of a URI.")
            device, told = await _device_for_new(call, known, wish, name)
            advice += told
            printer = replace(printer, device_id=device.id)
        check_release(known, printer, None if args["uri"] is None else device)
        put = PutPrinter(printer, services.wall_clock(), call.actor)
        (added,) = await _commit(services, [put])
        return await _answer(call, added, advice)


async def _device_for_new(
    call: Call, known: Known, wish: Wish, name: str
) -> tuple[Device, list[str]]:
    """The device with the URI, made when nobody has it yet; and advice."""
    services = call.services
    assert wish.uri is not None
    options = merged({}, wish.options)
    same = _same_device(known, wish.uri)
    others = [one.name for one in known.sharing(same.id) if one.name != name] if same else []
    if same is not None and others:
        _shared(known, same, options, name)
        told = await check_driver(services, same)
        return same, [f"It shares its device with {', '.join(others)}: they print in turn.", *told]
    guid = same.guid if same is not None else uuid4()
    told = await check_driver(services, Device(0, guid, wish.uri, options))
    serial = wish.serial or (same.serial if same is not None else "")
    put = PutDevice(guid, wish.uri, services.wall_clock(), options, serial, call.actor)
    device: Device = (await _commit(services, [put]))[0]
    return device, told


async def change(call: Call) -> dict[str, Any]:
    args, services = call.args, call.services
    fields, options, advice = read_settings(args)
    wish = wish_of(args["uri"], options)
    met = await _meet_again(call, wish)
    wish = replace(wish, options=wish.options | met.options, serial=met.serial)
    advice += met.advice
    async with services.changing:
        known = await services.catalogue.look()
        old = find_printer(known, args["name"])
        offer = merged_offer(met.offer or old.options, args["offer"] or {})
        fields = {**met.fields, **fields, **await owner_of(call)}
        printer = replace(old, options=offer, **fields)
        check_conversions(printer, call.principal, old)
        changes: list[Change] = []
        if args["rename"] not in (None, old.name):
            printer = replace(printer, name=_free_name(known, args["rename"]))
            changes += _renamed_elsewhere(call, known, old.name, printer.name)
            advice += _named_in_config(services, old.name)
        if args["members"] is not None or args["standby"] is not None:
            printer = _as_pool(known, old, printer, args, options)
            if (left := known.device_of(old)) is not None:
                back = f"`spoold printer set {printer.name} --uri {left.uri}`"
                advice.append(f"It is a pool now, and prints on its members; {back} undoes it.")
        elif wish != Wish(None, {}):
            printer, put, told = await _with_device(call, known, printer, wish)
            changes += put
            advice += told
        check_release(known, printer, _device_after(known, printer, changes), old)
        if printer != old:
            changes.append(PutPrinter(printer, services.wall_clock(), call.actor))
        if changes:
            async with services.handing.leaving(old, printer.owner):
                await _commit(services, changes)
        return await _answer(call, printer, advice)


async def _meet_again(call: Call, wish: Wish) -> Acquaintance:
    """What the device says that the printer has, or shall have; nothing when it need not be asked.

    Raises:
        OperationError: the printer is a pool and cannot learn; as `get_to_know`.
    """
    args, services = call.args, call.services
    if not (args["learn"] or wish.uri or "tls" in wish.options):
        return Acquaintance()
    known = await services.catalogue.look()
    own = known.device_of(find_printer(known, args["name"]))
    if own is None:
        if wish.uri is None:
            raise _bad("a pool has no device to ask.", "Name its members.")
        own = Device(0, uuid4(), wish.uri)
    moved = replace(own, uri=wish.uri or own.uri)
    kept = own.options if moved.scheme == own.scheme else {}
    moved = replace(moved, options=merged(kept, wish.options))
    return await get_to_know(services, args["name"], moved, is_learning=args["learn"])


def _free_name(known: Known, name: str) -> str:
    if name in known.by_name:
        raise OperationError(
            "conflict", f"there is a printer {name} already.", "Choose another name."
        )
    return check_printer_name(name)


def _renamed_elsewhere(call: Call, known: Known, old: str, new: str) -> list[Change]:
    """The pools that have the printer as a member, and find-me printers, go on to have it."""
    now_us = call.services.wall_clock()
    return [
        PutPrinter(renamed_in(one, old, new), now_us, call.actor)
        for one in those_naming(known, old)
    ]


def _device_after(known: Known, printer: Printer, changes: list[Change]) -> Device | None:
    """The device that the printer has when the changes are made."""
    put = [one for one in changes if isinstance(one, PutDevice)]
    if put:
        return Device(0, put[-1].guid, put[-1].uri, put[-1].options)
    return known.device_of(printer)


def _named_in_config(services: Services, name: str) -> list[str]:
    listen = services.config.listen
    if name not in (listen.raw_printer, *(one.printer for one in listen.raw)):
        return []
    return [f"The configuration names {name} for a listener: change it, and restart spoold."]


def _as_pool(
    known: Known, old: Printer, printer: Printer, args: dict[str, Any], options: dict[str, str]
) -> Printer:
    """The printer with these members; it has no device of its own any more."""
    if args["uri"] is not None or options:
        raise _bad("a pool has no device of its own.", "Give members, or a URI and its options.")
    above = [one for one in those_naming(known, old.name) if not one.is_find_me]
    if above:
        raise _bad(
            f"{old.name} is a member of {above[0].name}.", "A pool cannot have a pool as a member."
        )
    members = list(old.members) if args["members"] is None else args["members"]
    standby = list(old.standby) if args["standby"] is None else args["standby"]
    check_pool(known, old.name, members, standby)
    return replace(printer, device_id=None, members=tuple(members), standby=tuple(standby))


async def _with_device(
    call: Call, known: Known, printer: Printer, wish: Wish
) -> tuple[Printer, list[Change], list[str]]:
    """The printer on the device that is wished for, what is to be committed, and advice."""
    services = call.services
    own = known.device_of(printer)
    if own is None and wish.uri is None:
        raise _bad("a pool has no driver.", f"Leave out {', '.join(wish.options)}.")
    others = [one.name for one in known.sharing(own.id) if one.id != printer.id] if own else []
    if own is not None and wish.uri in (None, own.uri):
        options = merged(own.options, wish.options)
        serial = wish.serial or own.serial
        put = PutDevice(own.guid, own.uri, services.wall_clock(), options, serial, call.actor)
        told = await check_driver(services, replace(own, options=options))
        if others:
            told.insert(0, f"This changed the device for {', '.join(others)}, too.")
        return printer, [put], told
    assert wish.uri is not None
    if own is not None and not others and _same_device(known, wish.uri) is None:
        # The machine that nobody else uses has moved: it keeps its GUID and its history.
        moved = replace(own, uri=wish.uri)
        kept = own.options if moved.scheme == own.scheme else {}
        moved = replace(moved, options=merged(kept, wish.options))
        told = await check_driver(services, moved)
        put = PutDevice(
            moved.guid,
            moved.uri,
            services.wall_clock(),
            moved.options,
            wish.serial or own.serial,
            call.actor,
        )
        return printer, [put], told
    device, told = await _device_for_new(call, known, wish, printer.name)
    return replace(printer, device_id=device.id, members=(), standby=()), [], told


async def remove(call: Call) -> dict[str, Any]:
    services = call.services
    async with services.changing:
        known = await services.catalogue.look()
        printer = find_printer(known, call.args["name"])
        others = those_naming(known, printer.name)
        if others:
            raise OperationError(
                "not-possible",
                f"{printer.name} is named by {others[0].name}.",
                f"Take it out first: `spoold printer set {others[0].name}`.",
            )
        gone = RemovePrinter(printer.id, services.wall_clock(), call.actor)
        await _commit(services, [gone])
        advice = _named_in_config(services, printer.name)
    return {"name": printer.name, "guid": str(printer.guid), "advice": advice}


async def pause(call: Call) -> dict[str, Any]:
    """No new attempt begins; one that is sending goes on to its end."""
    return await set_printer(call, paused=True, pause_reason=call.args["reason"])


async def resume(call: Call) -> dict[str, Any]:
    """Print again, and try the device at once: whoever resumes a printer has seen to it."""
    answer = await set_printer(call, paused=False, pause_reason="")
    call.services.dispatcher.wake(answer["id"])
    return answer


async def set_printer(call: Call, **fields: Any) -> dict[str, Any]:
    """The printer that is named, with other fields; as it is then.

    Raises:
        OperationError: `not-found`.
    """
    services = call.services
    async with services.changing:
        printer = find_printer(await services.catalogue.look(), call.args["name"])
        changed = replace(printer, **fields)
        if changed != printer:
            put = PutPrinter(changed, services.wall_clock(), call.actor)
            await _commit(services, [put])
        return await _answer(call, changed, [])


async def redirect(call: Call) -> dict[str, Any]:
    """Move what waits; leave what may have left for paper, with a line that says so."""
    known = await call.services.catalogue.look()
    origin = find_printer(known, call.args["from"])
    to = accepting_printer(known, call.args["to"])
    if origin.id == to.id:
        raise _bad("both are the same printer.", "Name two printers.")
    which = JobFilter(printer_id=origin.id, states=(*WAITING, *ACTIVE))
    return await change_many(call, which, plan_move(to))


NAME = Argument("name", required=True, summary="Name a printer.")

OPERATIONS = (
    Operation(
        "printer.add", (NAME, *ARGUMENTS, LEARN), ADMINS, LOCAL, add, "Add a printer or a pool."
    ),
    Operation(
        "printer.set",
        (NAME, Argument("rename", summary="A new name."), *ARGUMENTS, LEARN),
        ADMINS,
        LOCAL,
        change,
        "Change a printer, or its device.",
    ),
    Operation("printer.remove", (NAME,), ADMINS, LOCAL, remove, "Remove a printer without jobs."),
    Operation(
        "printer.pause",
        (NAME, Argument("reason", most=127, default="", summary="For people.")),
        OPERATORS,
        KNOWN,
        pause,
        "Begin no more jobs.",
    ),
    Operation("printer.resume", (NAME,), OPERATORS, KNOWN, resume, "Print again."),
    Operation(
        "printer.redirect",
        (
            Argument("from", required=True, summary="The printer that jobs wait on."),
            Argument("to", required=True, summary="The printer that takes them."),
            DRY_RUN,
            AFTER_ID,
        ),
        OPERATORS,
        KNOWN,
        redirect,
        "Move what waits on a printer to another.",
    ),
)
