"""A Printer as IPP shows it (RFC 8011 5.4, PWG 5100.12 to 5100.14; CUPS's own names).

In: a printer of the model, what the node says of itself, how the printer is now, and the URI by
which the client reached it. Out: octets of its attributes. What changes only with the printer is
made once (`PrinterSheet`) and kept by the caller; what lives is added to each answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from spoold.codec import ipp
from spoold.codec.ipp_capabilities import capabilities, cups_type
from spoold.codec.ipp_model import string, strings
from spoold.codec.ipp_model_job import PRIVATE, attribute_octets
from spoold.codec.ipp_names import PrinterState
from spoold.codec.ipp_plain import TEMPLATE, NotPlain, to_attribute
from spoold.codec.ipp_values import Attribute, DateTime, Range, Tag
from spoold.model.printer import Printer

SECOND_US = 1_000_000
HOLD_UNTIL: Final = (
    "no-hold", "indefinite", "day-time", "evening", "night", "second-shift", "third-shift",
    "weekend",
)  # fmt: skip
WHICH_JOBS: Final = (
    "completed", "not-completed", "aborted", "all", "canceled", "pending", "pending-held",
    "processing", "processing-stopped", "proof-print", "saved",
)  # fmt: skip
# What may come beside the Job Template attributes when a job is made (PWG 5100.11).
CREATION: Final = (
    "compression", "document-format", "document-name", "ipp-attribute-fidelity",
    "job-mandatory-attributes", "job-name",
)  # fmt: skip
SETTABLE_JOB: Final = (
    "copies", "job-hold-until", "job-name", "job-priority", "media", "media-col", "output-bin",
    "orientation-requested", "page-ranges", "print-color-mode", "print-quality", "sides",
)  # fmt: skip
SETTABLE_PRINTER: Final = ("printer-info", "printer-location")
IDENTIFY_ACTIONS: Final = ("display",)  # in the log, which is the console of a daemon
# RFC 3805: -2 is a level that nobody knows.
SUPPLY_UNKNOWN: Final = b"index=1;class=other;type=other;unit=other;maxcapacity=-2;level=-2;"
SUPPLIES_MAX: Final = 64
# As CUPS writes the colors that most supplies have (marker-colors).
_COLORS: Final = {
    "#000000": "black", "#00ffff": "cyan", "#ff00ff": "magenta", "#ffff00": "yellow",
}  # fmt: skip
_LONG = frozenset({"media-col-database"})  # sent only when it is named (PWG 5100.7)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What every printer of this node says alike. `more` are attributes of further rooms."""

    operations: tuple[int, ...]
    job_bytes_max: int
    multiple_operation_s: int
    features: tuple[str, ...]
    more: tuple[Attribute, ...] = ()


class Reach(NamedTuple):
    """How a client reaches this node: `authority` is its Host, or the name that we advertise.

    `uris` are (URI scheme and authority, uri-security, uri-authentication), the client's own first.
    """

    web: str
    uris: tuple[tuple[str, str, str], ...]


class Live(NamedTuple):
    """How a printer is now; times in microseconds since 1970. `service_name` is what it is called
    in DNS-SD, or would be. A supply has a `name`, `type`, `color` and `level` (per cent), as far as
    they are known.
    """

    state: str
    reasons: tuple[str, ...]
    message: str
    accepting: bool
    queued: int
    now_us: int
    state_changed_us: int
    service_name: str
    supplies: tuple[Mapping[str, Any], ...] = ()


_state_of = {
    state.keyword: attribute_octets(ipp.enum_("printer-state", state)) for state in PrinterState
}
_accepting_of = {
    flag: attribute_octets(ipp.boolean("printer-is-accepting-jobs", flag)) for flag in (False, True)
}
_reasons_of = strings("printer-state-reasons", Tag.KEYWORD)
_message_of = string("printer-state-message", Tag.TEXT, 1023)
_service_name_of = string("printer-dns-sd-name", Tag.NAME, 63)

LIVE: Final = frozenset(
    {
        "marker-message",
        "printer-alert",
        "printer-alert-description",
        "printer-current-time",
        "printer-dns-sd-name",
        "printer-is-accepting-jobs",
        "printer-state",
        "printer-state-change-date-time",
        "printer-state-change-time",
        "printer-state-message",
        "printer-state-reasons",
        "printer-supply",
        "printer-supply-description",
        "printer-up-time",
        "queued-job-count",
    }
)


def _live(live: Live) -> dict[str, bytes]:
    now_s = live.now_us // SECOND_US
    changed_s = live.state_changed_us // SECOND_US
    reasons = live.reasons or ("none",)
    alerts = [_alert(reason) for reason in live.reasons] or [b""]
    described = [reason.replace("-", " ") for reason in live.reasons] or [""]
    made: list[Attribute] = [
        ipp.octets("printer-alert", *alerts),
        ipp.text("printer-alert-description", *described),
        ipp.date_time("printer-current-time", DateTime.at(now_s)),
        ipp.date_time("printer-state-change-date-time", DateTime.at(changed_s)),
        ipp.integer("printer-state-change-time", changed_s),
        ipp.integer("printer-up-time", now_s),
        ipp.integer("queued-job-count", live.queued),
    ]
    found = {one.name: attribute_octets(one) for one in made}
    found["printer-is-accepting-jobs"] = _accepting_of[live.accepting]
    found["printer-state"] = _state_of[live.state]
    found["printer-state-reasons"] = _reasons_of(reasons)
    found["printer-state-message"] = _message_of(live.message)
    found["printer-dns-sd-name"] = _service_name_of(live.service_name)
    return found | (_supplies(live.supplies) if live.supplies else _NO_SUPPLIES)


def _alert(reason: str) -> bytes:
    """An alert of PWG 5100.9 for a state reason."""
    name, _, severity = reason.rpartition("-")
    known = {"error": "critical", "warning": "warning", "report": "other"}
    if severity not in known:
        name, severity = reason, "report"
    return f"code=other({name});severity={known[severity]};group=other".encode()


def _supplies(supplies: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """PWG 5100.13 5.6.31 and 32: a value of each for every supply."""
    some = list(supplies)[:SUPPLIES_MAX]
    packed = [_supply(number, one) for number, one in enumerate(some, 1)]
    names = [str(one.get("name") or one.get("type") or "unknown")[:255] for one in some]
    made = [
        ipp.octets("printer-supply", *packed),
        ipp.text("printer-supply-description", *names),
    ]
    return {one.name: attribute_octets(one) for one in made}


def _supply(index: int, supply: Mapping[str, Any]) -> bytes:
    """One supply; its type is spelled as RFC 3805 does: `waste-toner` is `wasteToner`."""
    first, *rest = _word(supply.get("type")).split("-")
    type_ = first + "".join(word.capitalize() for word in rest)
    class_ = "receptacleThatIsFilled" if "waste" in type_.lower() else "supplyThatIsConsumed"
    packed = (
        f"index={index};class={class_};type={type_ or 'other'};unit=percent;maxcapacity=100;"
        f"level={supply.get('level', -2)};"
    )
    said = str(supply.get("color", "")).lower()
    color = _COLORS.get(said) or _word(said)
    return (packed + (f"colorantname={color};" if color else "")).encode()


def _word(said: Any) -> str:
    """What a device called something, when it is one word: the rest of a value hangs on that."""
    return said if isinstance(said, str) and _is_word(said) else ""


_is_word = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}").fullmatch
_NO_SUPPLIES: Final = {
    one.name: attribute_octets(one)
    for one in (
        ipp.octets("printer-supply", SUPPLY_UNKNOWN),
        ipp.text("printer-supply-description", "unknown"),
    )
}


def offered(printer: Printer) -> dict[str, Any]:
    """The options of a printer, and those of its fields that are named like one."""
    fields = {
        "printer-geo-location": printer.geo_location,
        "printer-organization": printer.organization,
        "printer-organizational-unit": printer.organizational_unit,
    }
    return {**{name: text for name, text in fields.items() if text}, **printer.options}


class Alike:
    """What all printers say that have the same options, made once for all of them.

    `plain` are their capabilities as plain values (`ipp_capabilities`), `made` the octets of every
    attribute that follows from them or from the node.
    """

    def __init__(
        self, options: Mapping[str, Any], formats: tuple[str, ...], facts: NodeFacts
    ) -> None:
        self.plain = capabilities(options, formats)
        self.made = {
            **self._capabilities(),
            **{one.name: attribute_octets(one) for one in self._node(facts)},
            **{one.name: attribute_octets(one) for one in self._jobs(facts)},
            **{one.name: attribute_octets(one) for one in facts.more},
        }
        self.names = frozenset(self.made)
        self.template = frozenset(
            name
            for name in self.made
            if name.removesuffix("-default") in TEMPLATE
            or name.removesuffix("-supported") in TEMPLATE
            or name.removesuffix("-ready") in TEMPLATE
        )

    def _capabilities(self) -> dict[str, bytes]:
        made = {}
        for name, plain in self.plain.items():
            if name in LIVE:
                continue
            try:
                attribute = ipp.unknown(name) if plain is None else to_attribute(name, plain)
            except NotPlain:
                continue  # an option that another version wrote
            made[name] = attribute_octets(attribute)
        return made

    def _node(self, facts: NodeFacts) -> Iterable[Attribute]:
        yield ipp.charset("charset-configured", "utf-8")
        yield ipp.charset("charset-supported", "utf-8", "us-ascii")
        yield ipp.language("natural-language-configured", "en")
        yield ipp.language("generated-natural-language-supported", "en")
        yield ipp.keyword("compression-supported", "none", "deflate", "gzip")
        yield ipp.keyword("ipp-versions-supported", "1.0", "1.1", "2.0", "2.1", "2.2")
        yield ipp.keyword("ipp-features-supported", *facts.features, *self._features())
        yield ipp.keyword("identify-actions-default", *IDENTIFY_ACTIONS)
        yield ipp.keyword("identify-actions-supported", *IDENTIFY_ACTIONS)
        yield ipp.enum_("operations-supported", *facts.operations)
        yield ipp.keyword("pdl-override-supported", "not-attempted")
        yield ipp.keyword("printer-kind", "document")
        yield ipp.keyword("printer-get-attributes-supported", "document-format")
        yield ipp.keyword("printer-settable-attributes-supported", *SETTABLE_PRINTER)
        yield ipp.boolean("preferred-attributes-supported", False)
        yield ipp.boolean("printer-is-temporary", False)

    def _jobs(self, facts: NodeFacts) -> Iterable[Attribute]:
        supported = [name for name in TEMPLATE if self._takes(name)]
        yield ipp.keyword("job-creation-attributes-supported", *sorted([*supported, *CREATION]))
        yield ipp.keyword("job-settable-attributes-supported", *SETTABLE_JOB)
        yield ipp.keyword("job-privacy-attributes", *PRIVATE)
        yield ipp.keyword("job-privacy-scope", "owner")
        yield ipp.keyword("job-hold-until-default", "no-hold")
        yield ipp.keyword("job-hold-until-supported", *HOLD_UNTIL)
        yield ipp.integer("job-priority-default", 50)
        yield ipp.integer("job-priority-supported", 100)
        yield ipp.boolean("job-ids-supported", True)
        k_octets_max = min(facts.job_bytes_max // 1024, 0x7FFFFFFF)
        yield ipp.range_("job-k-octets-supported", Range(0, k_octets_max))
        yield ipp.boolean("multiple-document-jobs-supported", True)
        yield ipp.integer("multiple-operation-time-out", facts.multiple_operation_s)
        yield ipp.keyword("multiple-operation-time-out-action", "abort-job")
        yield ipp.keyword("which-jobs-supported", *WHICH_JOBS)

    def _features(self) -> tuple[str, ...]:
        """What the formats make of the printer (PWG 5100.14 4.2)."""
        formats = self.plain["document-format-supported"]
        needed = ["image/pwg-raster", *(["image/jpeg"] if self.plain["color-supported"] else [])]
        return ("ipp-everywhere",) if all(one in formats for one in needed) else ()

    def _takes(self, name: str) -> bool:
        if name in ("job-hold-until", "job-priority"):
            return True
        return bool(self.plain.get(f"{name}-supported"))


class PrinterSheet:
    """What a printer says of itself until it is changed, ready to be sent."""

    def __init__(self, printer: Printer, alike: Alike, changed_us: int) -> None:
        self.printer = printer
        self.plain = alike.plain
        self._alike = alike
        own = self._own(changed_us // SECOND_US)
        self._made = {one.name: attribute_octets(one) for one in own}
        self._by_reach: dict[Reach, dict[str, bytes]] = {}

    def _own(self, changed_s: int) -> Iterable[Attribute]:
        printer = self.printer
        yield ipp.name_("printer-name", printer.name)
        yield ipp.text("printer-info", printer.info or printer.name)
        yield ipp.text("printer-location", printer.location)
        yield ipp.uri("printer-uuid", f"urn:uuid:{printer.guid}")
        yield ipp.integer("printer-config-change-time", changed_s)
        yield ipp.date_time("printer-config-change-date-time", DateTime.at(changed_s))
        yield ipp.enum_("printer-type", cups_type(printer, self.plain))
        yield ipp.boolean("printer-is-shared", printer.shared)
        if printer.members:
            yield ipp.name_("member-names", *printer.members)

    def _reached(self, reach: Reach) -> dict[str, bytes]:
        """What depends on the name by which the client found this node."""
        found = self._by_reach.get(reach)
        if found is not None:
            return found
        name = quote(self.printer.name, safe="")
        made = [
            ipp.uri(
                "printer-uri-supported", *(f"{base}/printers/{name}" for base, _, _ in reach.uris)
            ),
            ipp.keyword("uri-security-supported", *(one for _, one, _ in reach.uris)),
            ipp.keyword("uri-authentication-supported", *(one for _, _, one in reach.uris)),
            ipp.uri("printer-more-info", self.printer.more_info or f"{reach.web}/printers/{name}"),
            ipp.uri("printer-icons", f"{reach.web}/icons/printer.png"),
            ipp.uri("printer-supply-info-uri", f"{reach.web}/printers/{name}"),
            ipp.uri("device-uri", f"{reach.uris[0][0]}/printers/{name}"),
        ]
        found = {one.name: attribute_octets(one) for one in made}
        if len(self._by_reach) >= 16:  # whoever makes names up makes us forget them again
            self._by_reach.clear()
        self._by_reach[reach] = found
        return found

    def names(self, reach: Reach) -> frozenset[str]:
        return self._alike.names.union(self._made, self._reached(reach), LIVE)

    def groups(self, reach: Reach) -> dict[str, frozenset[str]]:
        """What stands for several names in `requested-attributes`."""
        everything = self.names(reach) - _LONG
        template = self._alike.template
        return {
            "all": everything,
            "job-template": template - _LONG,
            "printer-defaults": frozenset(n for n in template if n.endswith("-default")),
            "printer-description": everything - template,
            "subscription-template": frozenset(n for n in everything if n.startswith("notify-")),
            "none": frozenset(),
        }

    def group(self, names: frozenset[str], reach: Reach, live: Live) -> bytes:
        """The printer-attributes group with these attributes."""
        reached = self._reached(reach)
        parts = [b"\x04"]
        parts += [octets for name, octets in self._alike.made.items() if name in names]
        parts += [octets for name, octets in self._made.items() if name in names]
        parts += [octets for name, octets in reached.items() if name in names]
        if not LIVE.isdisjoint(names):
            parts += [octets for name, octets in _live(live).items() if name in names]
        return b"".join(parts)
