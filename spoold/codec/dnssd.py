"""DNS-SD for printers (RFC 6763, Bonjour Printing 1.2.1, PWG 5100.14 4.2): names and TXT records.

In: a printer of the model with its capabilities (`ipp_capabilities`). Out: the services that are
announced for it, as clients of CUPS, AirPrint and Mopria read them. The other way round: what the
services of other machines say of a printer, and the device URI by which it can be added here.
What others announce is nobody's word: it is cut to size, and only plain characters reach a URI.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from spoold.codec.ipp_capabilities import cups_type
from spoold.codec.ipp_media import size_of
from spoold.model.person import Known
from spoold.model.printer import Printer

IPP: Final = "_ipp._tcp"
IPPS: Final = "_ipps._tcp"
LPD: Final = "_printer._tcp"
RAW: Final = "_pdl-datastream._tcp"
LABEL_BYTES_MAX: Final = 63  # RFC 1035 2.3.4
NODE_BYTES_MAX: Final = 32  # of a node's name in that of a service
STRING_BYTES_MAX: Final = 255  # one key=value of a TXT record (RFC 6763 6.1)
URF_FORMAT: Final = "image/urf"
# What clients without a driver can send; the others come behind, and are cut first.
DRIVERLESS: Final = (
    "application/pdf", URF_FORMAT, "image/pwg-raster", "image/jpeg", "application/PCLm",
)  # fmt: skip
_PLAINEST = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Service:
    """One service of ours: `name` is for people, `host` has the `addresses` and the `port`."""

    kind: str
    name: str
    host: str
    port: int
    addresses: tuple[str, ...]
    txt: dict[str, str]
    subtypes: tuple[str, ...] = ()


# --- names ----------------------------------------------------------------------------------------


def service_label(text: str) -> str:
    """`text` as the first part of a service's name: one label, at most 63 octets of UTF-8."""
    kept = "".join("-" if c == "." else c for c in text if unicodedata.category(c)[0] != "C")
    return _cut(" ".join(kept.split()), LABEL_BYTES_MAX)


def service_name(printer: Printer) -> str:
    """The name of a printer's services, as long as nobody else has it."""
    wanted = str(printer.options.get("printer-dns-sd-name") or printer.info or printer.name)
    return service_label(wanted) or service_label(printer.name)


def service_names(printer: Printer, node_name: str) -> Iterator[str]:
    """The names for a printer in the order in which they are tried, for ever.

    The second one names the node, so that two nodes which meet with the same name part for good.
    """
    first = service_name(printer)
    yield first
    with_node = suffix = f" @ {_cut(service_label(node_name), NODE_BYTES_MAX)}"
    number = 2
    while True:
        yield _cut(first, LABEL_BYTES_MAX - len(suffix.encode())) + suffix
        suffix = f"{with_node} ({number})"
        number += 1


def host_name(node_name: str, guid: UUID, names: Iterable[str] = ()) -> str:
    """The name of this node on the link: one of `names` that ends in .local, or one of its own.

    It is not the machine's own name: another responder on this machine answers for that.
    """
    for name in names:
        if name.lower().rstrip(".").endswith(".local"):
            return name.rstrip(".")
    label = re.sub(r"[^a-z0-9]+", "-", node_name.lower()).strip("-")[:40].rstrip("-")
    return f"{label or 'spoold'}-{guid.hex[:8]}.local"


def _cut(text: str, bytes_max: int) -> str:
    return text.encode()[:bytes_max].decode(errors="ignore").strip()


# --- what is announced ----------------------------------------------------------------------------


def subtypes(plain: Mapping[str, Any]) -> tuple[str, ...]:
    """`_print` for every printer (PWG 5100.14 4.1), `_universal` for those fit for AirPrint."""
    formats = plain.get("document-format-supported", ())
    is_universal = URF_FORMAT in formats or "application/pdf" in formats
    return ("_print", "_universal") if is_universal else ("_print",)


def txt_record(
    printer: Printer, plain: Mapping[str, Any], *, web: str, is_tls: bool
) -> dict[str, str]:
    """The keys of a printer's TXT record, the important ones first.

    `plain` are its capabilities, `web` where its pages are, `is_tls` whether it can be had over
    TLS, by `ipps` or by an upgrade.
    """
    model = str(plain.get("printer-make-and-model") or "spoold")
    urf = plain.get("urf-supported") or ["none"]
    found = {
        "txtvers": "1",
        "qtotal": "1",
        "rp": f"printers/{quote(printer.name, safe='')}",
        "ty": model,
        "adminurl": printer.more_info or f"{web}/printers/{quote(printer.name, safe='')}",
        "note": printer.location,
        "priority": "0",
        "product": f"({model.replace('(', '').replace(')', '')})",
        "pdl": _formats(plain.get("document-format-supported", ())),
        "UUID": str(printer.guid),
        "TLS": "1.3" if is_tls else "",
        "air": "username,password" if printer.least_owner is Known.AUTHENTICATED else "",
        "URF": ",".join(str(one) for one in urf),
        "mopria-certified": str(plain.get("mopria-certified") or ""),
        **_abilities(plain),
        "kind": "document",
        "PaperMax": _paper_max(plain.get("media-supported", ())),
        "printer-type": f"0x{cups_type(printer, plain):X}",
    }
    return {key: _cut(value, STRING_BYTES_MAX - len(key) - 1) for key, value in found.items()
            if value}  # fmt: skip


def _formats(supported: Iterable[str]) -> str:
    """The list of formats, in full words that fit into one string."""
    known = [str(one) for one in supported]
    order = {name: number for number, name in enumerate(DRIVERLESS)}
    known.sort(key=lambda one: (one == _PLAINEST, order.get(one, len(order))))
    room = STRING_BYTES_MAX - len("pdl=")
    kept: list[str] = []
    for one in known:
        if len(",".join([*kept, one]).encode()) <= room:
            kept.append(one)
    return ",".join(kept)


# What of `finishings-supported` (RFC 8011 5.2.6, PWG 5100.1) makes a T of these keys.
_FINISHINGS = {
    "Bind": frozenset({7, *range(50, 54)}),
    "Punch": frozenset({5, *range(70, 90)}),
    "Staple": frozenset({4, *range(20, 36)}),
}


def _abilities(plain: Mapping[str, Any]) -> dict[str, str]:
    finishings = set(plain.get("finishings-supported", ()))
    makes_copies = plain.get("copies-supported") not in (None, "1", "1-1", 1)
    able = {
        "Color": bool(plain.get("color-supported")),
        "Duplex": "two-sided-long-edge" in plain.get("sides-supported", ()),
        "Copies": makes_copies,
        "Collate": makes_copies,  # the sheets of each copy stay together
        **{key: not finishings.isdisjoint(which) for key, which in _FINISHINGS.items()},
    }
    return {key: "T" if value else "F" for key, value in able.items()}


# The classes of PaperMax, with the largest width and length in hundredths of a millimetre.
_PAPERS = (
    ("legal-A4", 21_600, 35_600),
    ("tabloid-A3", 29_800, 43_200),
    ("isoC-A2", 45_800, 64_800),
)


def _paper_max(media: Iterable[str]) -> str:
    sizes = [size for name in media if (size := size_of(str(name))) is not None]
    if not sizes:
        return ""
    if all(max(size) < 29_700 and min(size) < 21_000 for size in sizes):
        return "<legal-A4"
    for name, wide, long in _PAPERS:
        if all(min(size) <= wide and max(size) <= long for size in sizes):
            return name
    return ">isoC-A2"


# --- what others announce -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """A printer's service somewhere on the network; every text in it is a stranger's."""

    kind: str
    name: str
    host: str
    port: int
    addresses: tuple[str, ...]
    txt: Mapping[str, str] = field(default_factory=dict)

    @property
    def make_and_model(self) -> str:
        txt = self.txt
        by_id = " ".join(one for key in ("usb_mfg", "usb_mdl") if (one := txt.get(key, "")))
        return txt.get("ty", "") or by_id or txt.get("product", "").strip("()")

    @property
    def uuid(self) -> UUID | None:
        try:
            return UUID(self.txt.get("uuid", "").removeprefix("urn:uuid:"))
        except ValueError:
            return None

    @property
    def path(self) -> str:
        """The part of a device URI behind the address."""
        if self.kind == RAW:
            return ""
        plainest = "ipp/print" if self.kind in (IPP, IPPS) else "auto"
        return "/" + quote(self.txt.get("rp", "").strip("/") or plainest, safe="/")

    def uri(self, host: str) -> str:
        """The device URI by which it can be added, at one of its addresses or by its name."""
        scheme, port = _SCHEMES[self.kind]
        where = f"[{host}]" if ":" in host else host
        return f"{scheme}://{where}" + (f":{self.port}" if self.port != port else "") + self.path


# In the order in which they serve best: status and an end that is known, then bytes alone.
_SCHEMES: Final = {IPPS: ("ipps", 631), IPP: ("ipp", 631), RAW: ("socket", 9100), LPD: ("lpd", 515)}
KINDS: Final = tuple(_SCHEMES)
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", re.ASCII)


def found(
    kind: str,
    name: str,
    host: str,
    port: int,
    addresses: Iterable[str],
    txt: Mapping[bytes, bytes | None],
) -> Found | None:
    """What a service says, or None when nobody can print there.

    A port of 0 only keeps a name (Bonjour Printing 4.1). Keys of the record have no case.
    """
    if not 0 < port < 65536:
        return None
    texts: dict[str, str] = {}
    for key, value in txt.items():
        text = (value or b"").decode(errors="replace")
        texts.setdefault(key.decode(errors="replace").lower(), " ".join(text.split()))
    host = host.rstrip(".")
    is_name = len(host) <= 253 and _HOST.fullmatch(host) is not None
    where = tuple(addresses)
    if not is_name and not where:
        return None
    return Found(kind, name, host if is_name else "", port, where, texts)
