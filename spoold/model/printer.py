"""A Printer (queue or pool) points to a Device (URI, window, counters).

Two printers on one device never interleave: connection, window and evidence belong to the device.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

from spoold.model.conversion import Conversion
from spoold.model.errors import OperationError
from spoold.model.person import Known
from spoold.model.release import (
    KEEP_HELD_S,
    Charging,
    ReleaseMode,
    ReleaseRule,
    SenderRule,
)

ANY_FORMAT = "application/octet-stream"  # the sender left it to the printer (RFC 8011 5.1.10)


class Order(StrEnum):
    FAIR = "fair"  # priority, then fair over users, then age
    FIFO = "fifo"  # a deferred head is never overtaken


class WhenInDoubt(StrEnum):
    """What becomes of a job whose bytes may have printed."""

    HOLD = "hold"
    REPRINT = "reprint"
    ASSUME_PRINTED = "assume-printed"


class WhenUnreachable(StrEnum):
    """What a print provider does with a job while it reaches no server at all."""

    HOLD = "hold"  # it keeps the job, and tries on
    DIRECT = "direct"  # it prints on the device itself, and reports that when a server is back


@dataclass(frozen=True, slots=True)
class Device:
    """A machine that prints, by its URI. `options` are the driver's (`connect_timeout_s`)."""

    id: int
    guid: UUID
    uri: str
    options: dict[str, str] = field(default_factory=dict)
    serial: str = ""

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.uri)

    @property
    def scheme(self) -> str:
        return self.parts.scheme

    def option(self, name: str, default: str) -> str:
        """The option `name` as text, from the device's options or the query of its URI."""
        return self.options.get(name, default)

    def seconds(self, name: str, default: float) -> float:
        """The option `name` as a number of seconds; a value that is no number is the default."""
        try:
            return float(self.options.get(name, default))
        except ValueError:
            return default

    def is_on(self, name: str, default: bool = False) -> bool:
        """The option `name` as a switch: on, yes, true and 1 are on."""
        value = self.options.get(name)
        return default if value is None else value.lower() in _ON


_ON = frozenset({"on", "yes", "true", "1"})


@dataclass(frozen=True, slots=True)
class Printer:
    """What jobs are submitted to. `device_id` is None for a pool, whose `members` are printers.

    `standby` members of a pool are used only when no other member can take a job.
    `formats` lists the document formats that the printer takes; empty means any. A document of
    another one may be converted by a program, as `conversions` say. `options` is what
    it offers its clients, in IPP's words and as plain values (`sides-supported`, `media-default`);
    those of the device's driver are the device's. `shared` printers are announced to the network.
    `changed_us` is when any of this was last changed, 0 when nobody has noted it.

    `release` says whether jobs wait for their owners, `keep_held_s` for how long (0: for ever). A
    find-me printer has neither device nor members: its jobs come out at the printers `releases_at`,
    or, without any, at each one with a device that takes their formats. `policies` say who may
    print what there, and `senders` whose the jobs of those are who prove nothing. Where `charging`
    is on, jobs are paid for, by `default_account` unless the job or its owner says otherwise.

    `when_unreachable` is told to providers in advance. Only a printer with a device of its own, a
    `socket`, at which nobody releases jobs, can be printed on without a server.

    `owner` is the node that alone has the printer's queue, state and dispatch; None is this node.
    Jobs that come for a printer of another node are handed on to it. `owner_epoch` is how often it
    was given to another one: who was away meanwhile sees that it was not the owner.
    """

    id: int
    guid: UUID
    name: str
    device_id: int | None = None
    members: tuple[str, ...] = ()
    standby: tuple[str, ...] = ()
    order: Order = Order.FAIR
    in_doubt: WhenInDoubt = WhenInDoubt.HOLD
    paused: bool = False
    accepting: bool = True
    hold_new_jobs: bool = False
    formats: tuple[str, ...] = ()
    least_owner: Known = Known.CLAIMED
    info: str = ""
    location: str = ""
    pause_reason: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    shared: bool = False
    geo_location: str = ""  # a geo: URI (RFC 5870)
    organization: str = ""
    organizational_unit: str = ""
    more_info: str = ""  # a URI
    changed_us: int = 0
    conversions: tuple[Conversion, ...] = ()
    release: ReleaseMode = ReleaseMode.IMMEDIATE
    charging: Charging = Charging.OFF
    releases_at: tuple[str, ...] = ()
    keep_held_s: int = KEEP_HELD_S
    default_account: str = ""
    policies: tuple[ReleaseRule, ...] = ()
    senders: tuple[SenderRule, ...] = ()
    owner: UUID | None = None
    owner_epoch: int = 0
    when_unreachable: WhenUnreachable = WhenUnreachable.HOLD

    @classmethod
    def automatic(cls, guid: UUID, device_id: int) -> Printer:
        """The printer that a node without any makes for itself."""
        return cls(0, guid, "default", device_id, info="files in printed/")

    @property
    def is_automatic(self) -> bool:
        """Whether it is that printer still, and nobody has changed it."""
        if self.device_id is None:
            return False
        made = Printer.automatic(self.guid, self.device_id)
        return self == replace(made, id=self.id, changed_us=self.changed_us)

    @property
    def is_ours(self) -> bool:
        """Whether this node prints its jobs."""
        return self.owner is None

    @property
    def is_pool(self) -> bool:
        return self.device_id is None

    @property
    def is_find_me(self) -> bool:
        return self.release is ReleaseMode.FIND_ME

    def waits_anywhere(self, is_at_site: bool) -> bool:
        """Whether its jobs wait where they came in, whosever it is: no device of it is anywhere.

        An application server hands those of its sites on all the same: they reach whom it reaches.
        """
        return is_at_site and self.is_find_me

    @property
    def clears_jobs(self) -> bool:
        """Whether jobs are counted and cleared before they print, as nobody stands there."""
        is_at_once = self.is_ours and not self.release.is_secure
        return is_at_once and (self.charging is not Charging.OFF or bool(self.policies))

    @property
    def accepted_formats(self) -> tuple[str, ...]:
        """The formats of documents that may come: those of the printer, and what is converted."""
        return tuple(dict.fromkeys((*self.formats, *(one.source for one in self.conversions))))

    def takes(self, format_: str) -> bool:
        """Whether the printer takes documents of this format as they are."""
        return not self.formats or _is_among(format_, self.formats)

    def can_print(self, format_: str) -> bool:
        """Whether it prints documents of this format, as they are or converted."""
        if format_ == ANY_FORMAT or self.takes(format_):
            return True
        return self.conversion_for(format_) is not None

    def conversion_for(self, format_: str) -> Conversion | None:
        """How a document of a format that the printer does not take is made one that it takes."""
        if self.takes(format_):
            return None
        fitting = (one for one in self.conversions if _is_among(format_, (one.source,)))
        return next(fitting, None)


def _is_among(format_: str, formats: tuple[str, ...]) -> bool:
    """Media types have no case (RFC 2045 5.1)."""
    wanted = format_.lower()
    return any(one.lower() == wanted for one in formats)


PRINTER_NAME_CHARACTERS_MAX = 127


def check_printer_name(name: str, what: str = "printer") -> str:
    """Return `name` when it can name a printer (RFC 8011 5.4.4: at most 127 octets), or something
    else (`what`) that takes the same names.

    Raises:
        OperationError: `bad-request`, with what is wrong about it.
    """
    if not name or len(name.encode()) > PRINTER_NAME_CHARACTERS_MAX:
        raise OperationError(
            "bad-request",
            f"{what} name {name[:40]!r} is empty or too long.",
            f"Use 1 to {PRINTER_NAME_CHARACTERS_MAX} letters and digits.",
        )
    if not all(c.isalnum() or c in "-_.+" for c in name) or name[0] in "-.":
        raise OperationError(
            "bad-request",
            f"{what} name {name!r} has a character that is not allowed.",
            "Use letters, digits, '-', '_', '.' and '+', and begin with a letter or digit.",
        )
    return name
