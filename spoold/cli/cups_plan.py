"""What becomes of a CUPS server's queues here: printers, pools, and what cannot come along; pure.

In: the files of a CUPS server (`ServerFiles`). Out: a `Plan`: for each queue the arguments of
`printer.add`, or why there are none, and a line for everything that has no place here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from spoold.cli.cups_devices import NotTaken, shown_uri, take
from spoold.codec.cups_conf import (
    CupsQueue,
    Destination,
    Line,
    read_lpoptions,
    read_queues,
    read_sections,
)
from spoold.codec.ipp_plain import PRINTER
from spoold.codec.ppd import Facts, read_ppd
from spoold.daemon.operations.offer import merged_offer
from spoold.model.errors import ConfigError, OperationError, RemoteProtocolError
from spoold.model.printer import check_printer_name

TEXT_CHARACTERS_MAX = 127
MEMBERS_MAX = 64

# Lines that say how a queue is at the moment, or follow from others.
_BOOKKEEPING = frozenset(
    {
        "attribute", "configtime", "filter", "prefilter", "printerid", "product", "reason",
        "statetime", "type", "uuid",
    }
)  # fmt: skip
_USERS = frozenset({"allowuser", "denyuser"})
_NOTHING = frozenset({"none", "0", "default", ""})
_LEFT = {
    "jobsheets": "there are no banner pages",
    "quotaperiod": "there are no quotas",
    "pagelimit": "there are no quotas",
    "klimit": "there are no quotas",
    "oppolicy": "who may do what follows from roles: `spoold user`, `spoold provider`",
    "portmonitor": "documents are passed on as they come",
    "authinforequired": "what the device asks for stands in its URI",
}
_SERVER_LEFT = {
    "classification": "there are no banner pages",
    "errorpolicy": "a job waits until its printer is well again",
    "jobretryinterval": "a job is tried again at growing intervals",
    "jobretrylimit": "a job is never given up",
    "limitrequestbody": "see limits.document_bytes_max in the configuration",
    "maxcopies": "there is no such limit",
    "maxholdtime": "a held job is never canceled for that",
    "maxjobs": "limits are of bytes, not of jobs",
    "maxjobsperprinter": "limits are of bytes, not of jobs",
    "maxjobsperuser": "limits are of bytes, not of jobs",
    "maxjobtime": "no job is canceled for taking long",
}
_SIDES = {
    "None": "one-sided",
    "DuplexNoTumble": "two-sided-long-edge",
    "DuplexTumble": "two-sided-short-edge",
}
_SHORT_MEDIA = {
    "a3": "iso_a3_297x420mm",
    "a4": "iso_a4_210x297mm",
    "a5": "iso_a5_148x210mm",
    "a6": "iso_a6_105x148mm",
    "executive": "na_executive_7.25x10.5in",
    "ledger": "na_ledger_11x17in",
    "legal": "na_legal_8.5x14in",
    "letter": "na_letter_8.5x11in",
    "tabloid": "na_ledger_11x17in",
}


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """The files of a CUPS server; empty where there is none. `ppd` gives that of a queue."""

    printers: bytes = b""
    classes: bytes = b""
    lpoptions: bytes = b""
    cupsd: bytes = b""
    ppd: Callable[[str], bytes] = lambda name: b""


@dataclass(slots=True)
class Wish:
    """One queue. `args` are those of `printer.add`; `refused` says why there is nothing to add.

    `left_out` holds what does not come along, and why; `pause_reason` None means not paused.
    """

    name: str
    file: str
    line: int
    device: str
    args: dict[str, Any] = field(default_factory=dict)
    pause_reason: str | None = None
    left_out: list[tuple[str, str]] = field(default_factory=list)
    refused: str = ""

    def leave(self, what: str, why: str) -> None:
        self.left_out.append((what[:200], why))


@dataclass(slots=True)
class Plan:
    """`wishes` in the order in which they can be added; `left_out` is about the whole server."""

    wishes: list[Wish] = field(default_factory=list)
    default: str = ""
    left_out: list[tuple[str, str]] = field(default_factory=list)


def _read(file: str, read: Callable[[bytes], Any], data: bytes) -> Any:
    """Raises:
    ConfigError: the file cannot be read as what it should be; with file and line.
    """
    try:
        return read(data)
    except RemoteProtocolError as error:
        advice = "Nothing was taken over; look at the file."
        raise ConfigError("read", file, error, advice) from error


def plan(files: ServerFiles) -> Plan:
    """What is to be done.

    Raises:
        ConfigError: a file is none of its kind.
    """
    made = Plan()
    queues: list[CupsQueue] = _read("printers.conf", read_queues, files.printers)
    classes: list[CupsQueue] = _read("classes.conf", read_queues, files.classes)
    places: list[Destination] = _read("lpoptions", read_lpoptions, files.lpoptions)
    server: list[Line] = _read("cupsd.conf", read_sections, files.cupsd)[0]
    is_browsing = _is_browsing(server)
    for queue in queues:
        made.wishes.append(_printer(queue, files.ppd, _defaults(queue, places), is_browsing))
    taken = {wish.name for wish in made.wishes if not wish.refused}
    members = {one.name: one.members for one in classes}
    for queue in classes:
        found = _pool(queue, members, taken, _defaults(queue, places), is_browsing)
        made.wishes.append(found)
    known = {wish.name for wish in made.wishes}
    for place in places:
        if place.instance:
            name = f"{place.name}/{place.instance}"
            made.left_out.append((f"lpoptions {place.number}: {name}", "a queue has no instances"))
        elif place.name not in known:
            made.left_out.append((f"lpoptions {place.number}: {place.name}", "no such queue"))
    made.default = next((one.name for one in places if one.is_default), "") or next(
        (one.name for one in (*queues, *classes) if one.is_default), ""
    )
    for line in server:
        if why := _SERVER_LEFT.get(line.name.lower()):
            made.left_out.append((f"cupsd.conf {line.number}: {line.name} {line.value}", why))
    return made


def _is_browsing(server: Iterable[Line]) -> bool:
    """Whether the server announced its queues at all."""
    values = [line.value.lower() for line in server if line.name.lower() == "browsing"]
    return not values or values[-1] in ("yes", "on", "true")


def _defaults(queue: CupsQueue, places: Iterable[Destination]) -> dict[str, str]:
    """What jobs ask for by default: by the queue itself, and by lpoptions, which has its way."""
    found = dict(queue.options)
    for place in places:
        if place.name == queue.name and not place.instance:
            found |= place.options
    return found


def _wish(queue: CupsQueue, is_browsing: bool) -> Wish:
    """What printers and pools have in common."""
    file = "classes.conf" if queue.is_class else "printers.conf"
    device = f"class of {', '.join(queue.members)}" if queue.is_class else shown_uri(queue.uri)
    wish = Wish(queue.name, file, queue.number, device)
    try:
        check_printer_name(queue.name)
    except OperationError as error:
        wish.refused = str(error)
        return wish
    wish.args["name"] = queue.name
    for name in ("info", "location", "organization", "organizational_unit"):
        text = getattr(queue, name)
        if len(text) > TEXT_CHARACTERS_MAX:
            wish.leave(f"the end of {name} {text!r}", f"over {TEXT_CHARACTERS_MAX} characters")
        if text:
            wish.args[name] = text[:TEXT_CHARACTERS_MAX]
    if queue.geo_location.startswith("geo:"):
        wish.args["geo_location"] = queue.geo_location
    if queue.shared and is_browsing:
        wish.args["shared"] = True
    if not queue.accepting:
        wish.args["accepting"] = False
    if queue.is_stopped:
        wish.pause_reason = queue.state_message[:TEXT_CHARACTERS_MAX]
    for line in queue.lines:
        _leave_line(wish, line)
    if users := [line for line in queue.lines if line.name.lower() in _USERS]:
        # Open to everybody is not what its administrator meant.
        wish.args["accepting"] = False
        said = ", ".join(f"{line.name} {line.value}" for line in users)
        wish.leave(
            f"line {users[0].number}: {said}",
            "there are no such lists: it takes no jobs before `spoold printer set "
            f"{wish.name} --accepting on`",
        )
    return wish


def _leave_line(wish: Wish, line: Line) -> None:
    name, said = line.name.lower(), f"line {line.number}: {line.name} {line.value}"
    if name in _BOOKKEEPING | _USERS or set(line.value.lower().split()) <= _NOTHING:
        return
    if name == "errorpolicy":
        if line.value == "abort-job":
            wish.leave(said, "a job waits until its printer is well again")
    else:
        wish.leave(said, _LEFT.get(name, "it is not known here"))


def _printer(
    queue: CupsQueue,
    ppd: Callable[[str], bytes],
    defaults: dict[str, str],
    is_browsing: bool,
) -> Wish:
    wish = _wish(queue, is_browsing)
    if wish.refused:
        return wish
    try:
        device = take(queue.uri)
    except NotTaken as error:
        wish.refused = f"{error}."
        return wish
    wish.args["uri"] = device.uri
    if device.options:
        wish.args["options"] = device.options
    wish.left_out += device.left_out
    facts = Facts()
    if data := ppd(queue.name):
        facts = _read(f"ppd/{queue.name}.ppd", read_ppd, data)
        if facts.formats:
            wish.args["formats"] = list(facts.formats)
        if facts.filters:
            wish.leave(
                f"its driver ({', '.join(facts.filters)[:100]})",
                "documents are passed on as they come: send what the printer takes, or let CUPS "
                "go on making it, in a queue with a spoold:// device URI",
            )
    offer = dict(facts.offer)
    if queue.make_and_model:
        offer["printer-make-and-model"] = queue.make_and_model[:TEXT_CHARACTERS_MAX]
    _offer(wish, offer, defaults, facts)
    return wish


def _offer(wish: Wish, offer: dict[str, Any], defaults: dict[str, str], facts: Facts) -> None:
    """What the printer offers, each attribute only where it is one that can be offered."""
    taken: dict[str, Any] = {}
    # A default is looked at beside what is supported.
    for name in sorted(offer, key=lambda name: name.endswith("-default")):
        try:
            taken = merged_offer(taken, {name: offer[name]})
        except OperationError as error:
            wish.leave(f"{name} of its PPD", error.message)
    for option, value in defaults.items():
        said = f"by default {option}={value}"
        name, word = _default(option, value, facts)
        if name not in PRINTER:
            wish.leave(said, "it is no attribute that a printer offers here")
            continue
        try:
            taken = merged_offer(taken, {name: word})
        except OperationError as error:
            wish.leave(said, error.message)
    if taken:
        wish.args["offer"] = taken


def _default(option: str, value: str, facts: Facts) -> tuple[str, str]:
    """The attribute and the value of a default; PPDs have words of their own for two of them."""
    if option in ("PageSize", "media"):
        return "media-default", facts.media.get(value) or _SHORT_MEDIA.get(value.lower(), value)
    if option == "Duplex":
        return "sides-default", _SIDES.get(value, value)
    return f"{option}-default", value


def _pool(
    queue: CupsQueue,
    members: dict[str, list[str]],
    taken: set[str],
    defaults: dict[str, str],
    is_browsing: bool,
) -> Wish:
    """A class as a pool; classes in it as their printers."""
    wish = _wish(queue, is_browsing)
    if wish.refused:
        return wish
    found: list[str] = []
    for name in _flat(queue.members, members, queue.name):
        if name not in taken:
            wish.leave(f"member {name}", "it is not taken over")
        elif name not in found:
            found.append(name)
    if len(found) > MEMBERS_MAX:
        wish.leave(f"members {', '.join(found[MEMBERS_MAX:])}", f"over {MEMBERS_MAX} of them")
    if not found:
        wish.refused = "none of its members is taken over."
        return wish
    wish.args["members"] = found[:MEMBERS_MAX]
    _offer(wish, {}, defaults, Facts())
    return wish


def _flat(names: Sequence[str], members: dict[str, list[str]], own: str) -> Iterator[str]:
    """The printers in a class, those of classes in it included; each class is opened once."""
    opened = {own}
    left = list(reversed(names))
    while left:
        name = left.pop()
        if name not in members:
            yield name
        elif name not in opened:
            opened.add(name)
            left += reversed(members[name])
