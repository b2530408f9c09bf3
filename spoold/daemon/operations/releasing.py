"""What goes together in the release of jobs at a printer; checked when somebody changes it."""

from __future__ import annotations

from dataclasses import replace

from spoold.daemon.operations.jobs import find_printer
from spoold.daemon.operations.watch import Known
from spoold.model.errors import OperationError
from spoold.model.printer import Device, Printer, WhenUnreachable
from spoold.model.release import Effect, changeable

DIRECT_SCHEME = "socket"  # what providers can print on themselves
_TOLD = {Effect.MONOCHROME: "color", Effect.DUPLEX: "sides"}


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)


def check_release(
    known: Known, printer: Printer, device: Device | None, old: Printer | None = None
) -> None:
    """Let a printer release its jobs as it says, with the device that it has then.

    Raises:
        OperationError: `bad-request`: it cannot; `not-found`: one that it names is not there.
    """
    if printer.is_find_me:
        if printer.device_id is not None or printer.members:
            raise _bad(
                "a find-me printer has neither a device nor members.",
                f"Add one of its own: `spoold printer add NAME --release find-me`, "
                f"--releases-at {printer.name}.",
            )
        for name in printer.releases_at:
            _check_place(known, printer, name)
    elif printer.releases_at:
        raise _bad("only a find-me printer has jobs come out elsewhere.", "Leave releases_at out.")
    elif printer.device_id is None and not printer.members:
        raise _bad(
            "without find-me it needs a device or members.", "Give a URI, or --member PRINTER."
        )
    is_known = device is not None or printer.device_id is None  # else it is made in this moment
    if is_known and printer.policies and (old is None or old.policies != printer.policies):
        _check_policies(printer, device)
    if printer.when_unreachable is WhenUnreachable.DIRECT:
        _check_direct(printer, device, is_known=is_known)


def _check_place(known: Known, printer: Printer, name: str) -> None:
    place = find_printer(known, name)
    if place.is_find_me or name == printer.name:
        raise _bad(f"nothing comes out at {name}.", "Name printers with a device, or pools.")


def _check_policies(printer: Printer, device: Device | None) -> None:
    """What a rule forces on jobs the device must be able to be told."""
    if printer.is_find_me:
        return  # the device where a job comes out is asked then
    told = frozenset[str]()
    if device is not None:
        told = changeable(device.scheme, device.is_on("pjl"), "", copies_embedded=False)
    for rule in printer.policies:
        if rule.effect in _TOLD and _TOLD[rule.effect] not in told:
            raise _bad(
                f"the device of {printer.name} cannot be told `{rule}`.",
                "Use a device of ipp or ipps, or one of socket with --option pjl=on.",
            )


def _check_direct(printer: Printer, device: Device | None, *, is_known: bool) -> None:
    """Providers print without a server only where nobody's jobs wait for them."""
    instead = f"Let them hold jobs: `spoold printer set {printer.name} --when-unreachable hold`."
    if printer.release.is_secure:
        raise _bad(
            f"jobs of {printer.name} wait for their owners: nobody prints them without a server.",
            instead,
        )
    if is_known and (device is None or device.scheme != DIRECT_SCHEME):
        raise _bad(
            f"{printer.name} has no device of {DIRECT_SCHEME} that a provider could print on.",
            instead,
        )


def those_naming(known: Known, name: str) -> list[Printer]:
    """The pools that have this printer as a member, and the find-me printers that name it."""
    return [
        one
        for one in known.printers.values()
        if name in (*one.members, *one.standby, *one.releases_at)
    ]


def renamed_in(printer: Printer, old: str, new: str) -> Printer:
    """The printer, with the new name of another one that it names."""

    def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new if one == old else one for one in names)

    return replace(
        printer,
        members=renamed(printer.members),
        standby=renamed(printer.standby),
        releases_at=renamed(printer.releases_at),
    )
