"""What a PPD says of a printer, in IPP's words (Adobe PPD 4.3, with the keywords of CUPS).

In: the bytes of a PPD. Out: `Facts`: values for a printer's offer, the formats that the device
itself takes, and the programs that a CUPS queue runs to make them. What a driver draws from raster
says nothing of the language that the device speaks: then its device id may, or nobody knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from spoold.codec.ipp_media import size_of
from spoold.model.errors import RemoteProtocolError

FILE_BYTES_MAX = 16 << 20
LINE_BYTES_MAX = 64 * 1024
VALUES_MAX = 2000  # of one keyword
MEDIA_MAX = 200
POINTS_OFF_MAX = 1.5

_LINE = re.compile(
    r"\*([A-Za-z0-9_.-]{1,64})(?:[ \t]+([^:/\"]{1,128}?))?[ \t]*(?:/[^:]*)?:[ \t]*(.*)"
)
_DUPLEX = ("Duplex", "JCLDuplex", "EFDuplex", "KD03Duplex", "ARDuplex")
_READ = frozenset(
    {
        "1284DeviceID", "ColorDevice", "DefaultPageSize", "DefaultResolution", "ModelName",
        "NickName", "PageSize", "PaperDimension", "Resolution", "Throughput", "cupsFilter",
        "cupsFilter2", *_DUPLEX, *(f"Default{one}" for one in _DUPLEX),
    }
)  # fmt: skip
_SIDES = {
    "None": "one-sided",
    "False": "one-sided",
    "Off": "one-sided",
    "DuplexNoTumble": "two-sided-long-edge",
    "DuplexTumble": "two-sided-short-edge",
}
_RESOLUTION = re.compile(r"([1-9][0-9]{0,5})(?:x([1-9][0-9]{0,5}))?dpi")
_DEVICE_ID = re.compile(r"(?:^|;)\s*(?:CMD|COMMAND SET)\s*:([^;]*)", re.IGNORECASE)

# Languages as device ids call them, the beginning of the name alone.
_LANGUAGES = (
    ("POSTSCRIPT", "application/postscript"),
    ("BR-SCRIPT", "application/postscript"),
    ("PS", "application/postscript"),
    ("PCLXL", "application/vnd.hp-pclxl"),
    ("PCL6", "application/vnd.hp-pclxl"),
    ("PCLM", "application/pclm"),
    ("PCL3GUI", ""),  # a raster language of inkjets, and no PCL
    ("PCL", "application/vnd.hp-pcl"),
    ("PDF", "application/pdf"),
    ("URF", "image/urf"),
    ("PWGRASTER", "image/pwg-raster"),
    ("PWG", "image/pwg-raster"),
    ("JPEG", "image/jpeg"),
    ("JPG", "image/jpeg"),
    ("ZPL", "application/vnd.zebra-zpl"),
)
# What a filter of CUPS that changes nothing takes is what the device takes, by its own name.
_NATIVE = {
    "application/vnd.cups-postscript": "application/postscript",
    "application/vnd.cups-pdf": "application/pdf",
    "application/postscript": "application/postscript",
    "application/pdf": "application/pdf",
    "image/jpeg": "image/jpeg",
    "image/urf": "image/urf",
    "image/pwg-raster": "image/pwg-raster",
    "text/plain": "text/plain",
}
_MEDIA = (
    "iso_a2_420x594mm", "iso_a3_297x420mm", "iso_a4_210x297mm", "iso_a5_148x210mm",
    "iso_a6_105x148mm", "iso_a7_74x105mm", "iso_b4_250x353mm", "iso_b5_176x250mm",
    "iso_b6_125x176mm", "iso_c4_229x324mm", "iso_c5_162x229mm", "iso_c6_114x162mm",
    "iso_dl_110x220mm", "iso_sra3_320x450mm", "jis_b4_257x364mm", "jis_b5_182x257mm",
    "jis_b6_128x182mm", "jpn_hagaki_100x148mm", "jpn_oufuku_148x200mm", "jpn_chou3_120x235mm",
    "jpn_chou4_90x205mm", "na_letter_8.5x11in", "na_legal_8.5x14in", "na_ledger_11x17in",
    "na_executive_7.25x10.5in", "na_invoice_5.5x8.5in", "na_foolscap_8.5x13in",
    "na_oficio_8.5x13.4in", "na_number-9_3.875x8.875in", "na_number-10_4.125x9.5in",
    "na_monarch_3.875x7.5in", "na_index-3x5_3x5in", "na_index-4x6_4x6in", "na_5x7_5x7in",
    "na_index-5x8_5x8in", "na_super-b_13x19in", "na_arch-b_12x18in", "na_c_17x22in",
    "om_folio_210x330mm", "om_small-photo_100x150mm",
)  # fmt: skip


@dataclass(slots=True)
class Facts:
    """`offer` holds plain values by printer attribute; `media` the name of each page size.

    `formats` is empty when nobody knows what the device takes.
    """

    offer: dict[str, Any] = field(default_factory=dict)
    formats: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    media: dict[str, str] = field(default_factory=dict)


def read_ppd(data: bytes) -> Facts:
    """What is known of the printer.

    Raises:
        RemoteProtocolError: this is no PPD.
    """
    entries = _entries(data)
    media = _media(entries)
    facts = Facts(media=media)
    facts.formats, facts.filters = _formats(entries)
    offer = facts.offer
    for name, keywords in (
        ("printer-make-and-model", ("NickName", "ModelName")),
        ("printer-device-id", ("1284DeviceID",)),
    ):
        if text := _first(entries, *keywords):
            offer[name] = text.encode()[: 127 if name.endswith("model") else 1023].decode(
                errors="ignore"
            )
    if supported := list(dict.fromkeys(media.values()))[:MEDIA_MAX]:
        offer["media-supported"] = supported
        default = media.get(_first(entries, "DefaultPageSize"))
        offer["media-default"] = default if default in supported else supported[0]
    _add_sides(entries, offer)
    _add_colour(entries, offer)
    _add_resolutions(entries, offer)
    speed = _first(entries, "Throughput")
    if re.fullmatch(r"[1-9][0-9]{0,4}", speed):
        offer["pages-per-minute"] = int(speed)
    return facts


Entries = dict[str, list[tuple[str, str]]]


def _entries(data: bytes) -> Entries:
    """The values of the keywords that are read here, each with its option.

    Raises:
        RemoteProtocolError: this is no PPD, or it is larger than any.
    """
    if len(data) > FILE_BYTES_MAX:
        raise RemoteProtocolError(f"line 1: the file is over {FILE_BYTES_MAX >> 20} MiB long")
    if not data.removeprefix(b"\xef\xbb\xbf").startswith(b"*PPD-Adobe:"):
        raise RemoteProtocolError("line 1: this is no PPD: it does not begin with *PPD-Adobe")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    found: Entries = {}
    lines = iter(enumerate(re.split(r"\r\n?|\n", text), 1))
    for number, line in lines:
        if len(line) > LINE_BYTES_MAX:
            raise RemoteProtocolError(f"line {number}: it is over {LINE_BYTES_MAX} bytes long")
        match = _LINE.match(line)
        if match is None:
            continue
        keyword, option, value = match[1], (match[2] or "").strip(), match[3]
        if value.startswith('"'):
            value = value[1:]
            while '"' not in value:  # a value of several lines; the rest of the file at most
                follower = next(lines, None)
                if follower is None:
                    raise RemoteProtocolError(f"line {number}: a value has no end")
                value += f" {follower[1]}" if len(value) < LINE_BYTES_MAX else ""
                if '"' in follower[1]:
                    break
            value = value.partition('"')[0]
        if keyword in _READ:
            values = found.setdefault(keyword, [])
            if len(values) >= VALUES_MAX:
                raise RemoteProtocolError(f"line {number}: over {VALUES_MAX} of *{keyword}")
            values.append((option, " ".join(value.split())))
    return found


def _first(entries: Entries, *keywords: str) -> str:
    return next((value for name in keywords for _, value in entries.get(name, ()) if value), "")


def _media(entries: Entries) -> dict[str, str]:
    """The PWG name of each page size."""
    found: dict[str, str] = {}
    for option, value in entries.get("PaperDimension", ()):
        words = value.split()
        if len(words) != 2 or not all(re.fullmatch(r"[0-9]{1,5}(\.[0-9]*)?", one) for one in words):
            continue
        width, length = (float(one) for one in words)
        if width >= 1 and length >= 1:
            found[option] = media_name(option, width, length)
    ordered = [option for option, _ in entries.get("PageSize", ()) if option in found]
    return {option: found[option] for option in (ordered or found)}


def media_name(keyword: str, width: float, length: float) -> str:
    """The PWG 5101.1 name of a medium of so many points, or one of its own for it."""
    for name in _MEDIA:
        size = size_of(name)
        assert size is not None
        across, along = (one * 72 / 2540 for one in size)
        if abs(across - width) <= POINTS_OFF_MAX and abs(along - length) <= POINTS_OFF_MAX:
            return name
    millimetres = "x".join(f"{one * 25.4 / 72:.0f}" for one in (width, length))
    word = re.sub(r"[^a-z0-9-]+", "-", keyword.lower()).strip("-")[:60] or "size"
    return f"custom_{word}_{millimetres}mm"


def _add_sides(entries: Entries, offer: dict[str, Any]) -> None:
    for keyword in _DUPLEX:
        known = [_SIDES[option] for option, _ in entries.get(keyword, ()) if option in _SIDES]
        if known:
            supported = list(dict.fromkeys(["one-sided", *known]))
            offer["sides-supported"] = supported
            default = _SIDES.get(_first(entries, f"Default{keyword}"), "")
            offer["sides-default"] = default if default in supported else "one-sided"
            return


def _add_colour(entries: Entries, offer: dict[str, Any]) -> None:
    is_colour = _first(entries, "ColorDevice").lower()
    if is_colour == "true":
        offer["print-color-mode-supported"] = ["auto", "color", "monochrome"]
        offer["print-color-mode-default"] = "auto"
    elif is_colour == "false":
        offer["print-color-mode-supported"] = ["monochrome"]
        offer["print-color-mode-default"] = "monochrome"


def _add_resolutions(entries: Entries, offer: dict[str, Any]) -> None:
    names = [option for option, _ in entries.get("Resolution", ())]
    default = _resolution(_first(entries, "DefaultResolution"))
    supported = [found for one in names if (found := _resolution(one))]
    supported = list(dict.fromkeys(supported or ([default] if default else [])))[:100]
    if supported:
        offer["printer-resolution-supported"] = supported
        offer["printer-resolution-default"] = default if default in supported else supported[0]


def _resolution(text: str) -> str:
    """`600x600dpi` of `600dpi`; "" when it is none."""
    found = _RESOLUTION.fullmatch(text)
    return f"{found[1]}x{found[2] or found[1]}dpi" if found else ""


def _formats(entries: Entries) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the device takes, and the programs between a document and that."""
    native: list[str] = []
    programs: list[str] = []
    filters = [value.split() for _, value in entries.get("cupsFilter", ())]
    # cupsFilter2 says as well what comes out.
    pairs = [value.split() for _, value in entries.get("cupsFilter2", ())]
    for words in [*([one[0], *one] for one in filters if one), *pairs]:
        if len(words) != 4:
            continue
        _, target, _, program = words
        if program == "-":
            native += [_NATIVE[target]] if target in _NATIVE else []
        else:
            programs.append(program)
            native += [target] if words[1] != words[0] and target in _NATIVE else []
    if not filters and not pairs:
        native = ["application/postscript"]  # a PPD without a word of filters is PostScript's own
    for word in _languages(_first(entries, "1284DeviceID")):
        native += [format_ for start, format_ in _LANGUAGES if word.startswith(start)][:1]
    return tuple(dict.fromkeys(filter(None, native))), tuple(dict.fromkeys(programs))


def _languages(device_id: str) -> list[str]:
    found = _DEVICE_ID.search(device_id)
    return [one.strip().upper() for one in found[1].split(",")] if found else []
