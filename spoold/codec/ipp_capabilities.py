"""What a printer can do, in IPP's words: its options where they say so, else what holds for any.

In: the plain values of a printer's options (`ipp_plain.PRINTER`). Out: plain values of every such
attribute that IPP/2.x and IPP Everywhere ask of a Printer (PWG 5100.12, 5100.14). What follows from
something else (media-col from media, color-supported from the colour modes) is made here, unless
the options, or the device that they were learned from, say it themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from spoold.codec import ipp_media
from spoold.codec.ipp_plain import PRINTER
from spoold.model.printer import Printer

OCTET_STREAM: Final = "application/octet-stream"
# What a printer takes that says nothing of formats: it is handed on as it came.
ANY_FORMATS: Final = (
    OCTET_STREAM,
    "application/pdf",
    "application/postscript",
    "application/vnd.cups-raw",
    "application/vnd.hp-pcl",
    "image/jpeg",
    "image/png",
    "image/pwg-raster",
    "text/plain",
)
COPIES_MAX: Final = 9999
_NO_FINISHING = 3
_PORTRAIT = 3
_NORMAL = 4

# What spoold does, whatever the device could: each document is a job of its own there, and all
# copies of it come out before the next document.
_OURS: Final[dict[str, Any]] = {
    "multiple-document-handling-default": "separate-documents-uncollated-copies",
    "multiple-document-handling-supported": ["separate-documents-uncollated-copies"],
}
_DEFAULTS: Final[dict[str, Any]] = {
    "copies-default": 1,
    "copies-supported": f"1-{COPIES_MAX}",
    "finishings-default": [_NO_FINISHING],
    "finishings-supported": [_NO_FINISHING],
    "job-sheets-default": "none",
    "job-sheets-supported": ["none"],
    "media-supported": [
        "iso_a4_210x297mm",
        "na_letter_8.5x11in",
        "na_legal_8.5x14in",
        "iso_a3_297x420mm",
        "iso_a5_148x210mm",
        "iso_dl_110x220mm",
        "na_number-10_4.125x9.5in",
    ],
    "media-type-supported": ["stationery"],
    "media-source-supported": ["auto"],
    "media-bottom-margin-supported": [423],
    "media-left-margin-supported": [423],
    "media-right-margin-supported": [423],
    "media-top-margin-supported": [423],
    **_OURS,
    "number-up-default": 1,
    "number-up-supported": [1],
    "orientation-requested-default": _PORTRAIT,
    "orientation-requested-supported": [3, 4, 5, 6],
    "output-bin-default": "face-down",
    "output-bin-supported": ["face-down"],
    "page-ranges-supported": False,
    "pages-per-minute": 1,
    # An unknown printer may well have colours; one that has none makes grey of them by itself.
    "print-color-mode-default": "auto",
    "print-color-mode-supported": ["auto", "color", "monochrome"],
    "print-content-optimize-default": "auto",
    "print-content-optimize-supported": ["auto"],
    "print-quality-default": _NORMAL,
    "print-quality-supported": [_NORMAL],
    "print-rendering-intent-default": "auto",
    "print-rendering-intent-supported": ["auto"],
    "print-scaling-default": "auto",
    "print-scaling-supported": ["auto"],
    "printer-geo-location": None,  # unknown
    "printer-make-and-model": "spoold",
    "printer-message-from-operator": "",
    "printer-organization": [""],
    "printer-organizational-unit": [""],
    "printer-resolution-supported": ["300x300dpi", "600x600dpi"],
    "sides-default": "one-sided",
    "sides-supported": ["one-sided"],
}
# The default is the first of what is supported, where only that is said.
_FIRST = (
    "media",
    "output-bin",
    "print-color-mode",
    "print-content-optimize",
    "print-quality",
    "print-rendering-intent",
    "print-scaling",
    "printer-resolution",
    "sides",
    "orientation-requested",
    "multiple-document-handling",
    "job-sheets",
    "finishings",
    "number-up",
)
_MARGINS = ("bottom", "left", "right", "top")
_COLLECTION_MEMBERS = (
    "media-bottom-margin",
    "media-key",
    "media-left-margin",
    "media-right-margin",
    "media-size",
    "media-size-name",
    "media-source",
    "media-top-margin",
    "media-type",
)
_RASTER, _URF, _JPEG, _PDF = "image/pwg-raster", "image/urf", "image/jpeg", "application/pdf"


def capabilities(options: Mapping[str, Any], formats: Iterable[str] = ()) -> dict[str, Any]:
    """The plain values of what a printer can do. `formats` are its document formats, empty any.

    A value of None stands for what nobody knows.
    """
    said = {name: value for name, value in options.items() if name in PRINTER and value is not None}
    found = {**_DEFAULTS, **said, **_OURS}
    for name in _FIRST:
        if f"{name}-default" not in said and f"{name}-supported" in said | _DEFAULTS:
            first = _list(found[f"{name}-supported"])[0]
            default = found.get(f"{name}-default")
            if default not in _list(found[f"{name}-supported"]) or default is None:
                found[f"{name}-default"] = first
    _add_formats(found, said, tuple(formats))
    _add_colour(found, said)
    _add_media(found, said)
    found.setdefault("printer-device-id", _device_id(found))
    return found


# The command sets of IEEE 1284.2 and PWG 5107.2 that a client can tell a printer by.
_COMMANDS: Final = {
    "application/pdf": "PDF",
    "application/postscript": "PS",
    "application/vnd.hp-pcl": "PCL",
    "application/vnd.hp-pclxl": "PCLXL",
    "image/jpeg": "JPEG",
    "image/pwg-raster": "PWGRaster",
    "image/urf": "URF",
}


def _device_id(found: Mapping[str, Any]) -> str:
    make, _, model = str(found["printer-make-and-model"]).partition(" ")
    formats = _list(found["document-format-supported"])
    commands = ",".join(name for format_, name in _COMMANDS.items() if format_ in formats)
    return f"MFG:{make};MDL:{model or make};CMD:{commands};"


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _add_formats(found: dict[str, Any], said: Mapping[str, Any], formats: tuple[str, ...]) -> None:
    supported = formats or tuple(_list(said.get("document-format-supported", ANY_FORMATS)))
    if OCTET_STREAM not in supported:
        supported = (OCTET_STREAM, *supported)  # what it is is found out, and then looked up
    found["document-format-supported"] = list(supported)
    found.setdefault("document-format-default", OCTET_STREAM)
    if _RASTER in supported:
        found.setdefault("pwg-raster-document-resolution-supported", ["300x300dpi", "600x600dpi"])
        found.setdefault("pwg-raster-document-sheet-back", "normal")
        found.setdefault("pwg-raster-document-type-supported", ["black_1", "sgray_8", "srgb_8"])
    if _JPEG in supported:
        found.setdefault("jpeg-k-octets-supported", "0-1048576")
        found.setdefault("jpeg-x-dimension-supported", "0-65535")
        found.setdefault("jpeg-y-dimension-supported", "1-65535")
        found.setdefault("jpeg-features-supported", ["none"])
    if _PDF in supported:
        found.setdefault("pdf-k-octets-supported", "0-1048576")
        found.setdefault("pdf-versions-supported", ["adobe-1.7", "iso-32000-1_2008"])


def _add_colour(found: dict[str, Any], said: Mapping[str, Any]) -> None:
    if "color-supported" not in said:
        modes = _list(found["print-color-mode-supported"])
        found["color-supported"] = any("color" in str(mode) for mode in modes)
    if found["color-supported"]:
        found.setdefault("pages-per-minute-color", found["pages-per-minute"])
    else:
        found.pop("pages-per-minute-color", None)


def _add_media(found: dict[str, Any], said: Mapping[str, Any]) -> None:
    names = [str(name) for name in _list(found["media-supported"])]
    default = found["media-default"] = found.get("media-default", names[0])
    ready = [str(one) for one in _list(found.setdefault("media-ready", [default]))]
    kinds = [str(kind) for kind in _list(found["media-type-supported"])]
    source = str(_list(found["media-source-supported"])[0])
    least = tuple(
        min(int(one) for one in _list(found[f"media-{side}-margin-supported"])) for side in _MARGINS
    )
    margins = (least[0], least[1], least[2], least[3])

    def columns(media: Iterable[str]) -> list[dict[str, Any]]:
        return [
            one
            for name in media
            for kind in kinds
            if (one := ipp_media.media_col(name, margins, kind, source)) is not None
        ]

    found.setdefault("media-col-database", columns(names))
    first = columns([default]) or found["media-col-database"][:1]
    if "media-col-default" not in said and first:
        found["media-col-default"] = first[0]
    found.setdefault("media-col-ready", columns(ready) or first)
    found.setdefault("media-col-supported", list(_COLLECTION_MEMBERS))
    if "media-key" in found["media-col-supported"]:
        found.setdefault(
            "media-key-supported",
            list(
                dict.fromkeys(
                    one["media-key"] for one in found["media-col-database"] if "media-key" in one
                )
            ),
        )
    sizes = [size for name in names if (size := ipp_media.media_size(name)) is not None]
    if sizes:
        found.setdefault("media-size-supported", sizes)


def supports(found: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether a job may ask for the template attribute `name` with this plain value."""
    if name == "media-col":
        return _supports_media_col(found, value)
    if name == "page-ranges":
        return bool(found.get("page-ranges-supported"))
    if name == "overrides":
        return bool(found.get("overrides-supported"))
    supported = found.get(f"{name}-supported")
    if supported is None:
        return name in _ANY_VALUE
    if name == "copies":
        low, _, high = str(supported).partition("-")
        return isinstance(value, int) and int(low) <= value <= int(high or low)
    allowed = _list(supported)
    return all(_is_among(one, allowed) for one in _list(value))


# Attributes about a job that a spooler keeps for others, whatever they say.
_ANY_VALUE = frozenset(
    {"job-account-id", "job-accounting-user-id", "job-message-to-operator", "finishings-col"}
)


def _is_among(value: Any, allowed: list[Any]) -> bool:
    if value in allowed:
        return True
    if isinstance(value, int) and not isinstance(value, bool):
        for one in allowed:
            low, dash, high = str(one).partition("-")
            if dash and low.isdigit() and high.isdigit() and int(low) <= value <= int(high):
                return True
    return False


def _supports_media_col(found: Mapping[str, Any], value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    members = _list(found.get("media-col-supported", []))
    if not all(name in members for name in value):
        return False
    name = value.get("media-size-name")
    if name is not None and name not in _list(found["media-supported"]):
        return False
    for key in ("media-type", "media-source"):
        if key in value and value[key] not in _list(found.get(f"{key}-supported", [])):
            return False
    size = value.get("media-size")
    return size is None or any(_fits(size, one) for one in _list(found["media-size-supported"]))


def _fits(size: Any, one: Any) -> bool:
    """Whether a size is one that is supported, to within a millimetre; or within its ranges."""
    if not isinstance(size, dict):
        return False
    for key in ("x-dimension", "y-dimension"):
        wanted, offered = size.get(key), one.get(key)
        if not isinstance(wanted, int):
            return False
        if isinstance(offered, int):
            if abs(wanted - offered) > 100:
                return False
        else:
            low, _, high = str(offered).partition("-")
            if not (low.isdigit() and high.isdigit() and int(low) <= wanted <= int(high)):
                return False
    return True


# CUPS's printer-type bits (cups.h).
_TYPE_CLASS, _TYPE_REMOTE, _TYPE_BW, _TYPE_COLOUR = 0x1, 0x2, 0x4, 0x8
_TYPE_DUPLEX, _TYPE_COPIES, _TYPE_REJECTING = 0x10, 0x40, 0x80000


def cups_type(printer: Printer, plain: Mapping[str, Any]) -> int:
    """CUPS's `printer-type` of a printer with these capabilities."""
    kind = _TYPE_REMOTE | _TYPE_BW | _TYPE_COPIES
    if printer.members:
        kind |= _TYPE_CLASS
    if plain["color-supported"]:
        kind |= _TYPE_COLOUR
    if "two-sided-long-edge" in plain["sides-supported"]:
        kind |= _TYPE_DUPLEX
    if not printer.accepting:
        kind |= _TYPE_REJECTING
    return kind
