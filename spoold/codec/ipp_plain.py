"""IPP attributes as plain values, and back: how jobs and printers keep them in their rows.

A plain value is what JSON and msgpack hold: keywords, names, texts, URIs are texts; integers and
enums numbers; a resolution is "600x600dpi", a range "1-4", a collection a map of its members. An
attribute that may have several values is a list. `SYNTAX` says what each name is, by RFC 8011,
PWG 5100.1, 5100.3, 5100.7, 5100.11, 5100.13 and CUPS; a name that is not there is not kept.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from spoold.codec.ipp_values import (
    PER_CENTIMETER,
    PER_INCH,
    Attribute,
    Range,
    Resolution,
    Tag,
    Value,
)


class Syntax(NamedTuple):
    """The tag that a plain value gets; `also` are the others that a peer may use."""

    tag: int
    is_set: bool = False
    also: tuple[int, ...] = ()


_INTEGER, _ENUM, _BOOLEAN = Syntax(Tag.INTEGER), Syntax(Tag.ENUM), Syntax(Tag.BOOLEAN)
_NAME = Syntax(Tag.NAME, also=(Tag.NAME_LANGUAGE,))
_TEXT = Syntax(Tag.TEXT, also=(Tag.TEXT_LANGUAGE,))
_KEYWORD = Syntax(Tag.KEYWORD)
_KEYWORD_OR_NAME = Syntax(Tag.KEYWORD, also=(Tag.NAME, Tag.NAME_LANGUAGE))
_RESOLUTION, _RANGE, _URI = Syntax(Tag.RESOLUTION), Syntax(Tag.RANGE), Syntax(Tag.URI)
_COLLECTION, _MIME = Syntax(Tag.COLLECTION), Syntax(Tag.MIME)
_INTEGER_OR_RANGE = Syntax(Tag.INTEGER, True, (Tag.RANGE,))


def _set(syntax: Syntax) -> Syntax:
    return syntax._replace(is_set=True)


# Job Template attributes: what a client may ask of a job.
TEMPLATE: Final[dict[str, Syntax]] = {
    "copies": _INTEGER,
    "finishings": _set(_ENUM),
    "finishings-col": _set(_COLLECTION),
    "job-account-id": _NAME,
    "job-accounting-user-id": _NAME,
    "job-cancel-after": _INTEGER,
    "job-hold-until": _KEYWORD_OR_NAME,
    "job-message-to-operator": _TEXT,
    "job-priority": _INTEGER,
    "job-sheets": _set(_KEYWORD_OR_NAME),
    "media": _KEYWORD_OR_NAME,
    "media-col": _COLLECTION,
    "multiple-document-handling": _KEYWORD,
    "number-up": _INTEGER,
    "orientation-requested": _ENUM,
    "output-bin": _KEYWORD_OR_NAME,
    "overrides": _set(_COLLECTION),
    "page-delivery": _KEYWORD,
    "page-ranges": _set(_RANGE),
    "presentation-direction-number-up": _KEYWORD,
    "print-color-mode": _KEYWORD,
    "print-content-optimize": _KEYWORD,
    "print-quality": _ENUM,
    "print-rendering-intent": _KEYWORD,
    "print-scaling": _KEYWORD,
    "printer-resolution": _RESOLUTION,
    "sides": _KEYWORD,
}

# Members of the collections above, and of those below.
MEMBERS: Final[dict[str, Syntax]] = {
    "baling-type": _KEYWORD_OR_NAME,
    "document-numbers": _set(_RANGE),
    "finishing-template": _KEYWORD_OR_NAME,
    "media-back-coating": _KEYWORD_OR_NAME,
    "media-bottom-margin": _INTEGER,
    "media-color": _KEYWORD_OR_NAME,
    "media-front-coating": _KEYWORD_OR_NAME,
    "media-grain": _KEYWORD_OR_NAME,
    "media-hole-count": _INTEGER,
    "media-info": _TEXT,
    "media-key": _KEYWORD_OR_NAME,
    "media-left-margin": _INTEGER,
    "media-order-count": _INTEGER,
    "media-pre-printed": _KEYWORD_OR_NAME,
    "media-recycled": _KEYWORD_OR_NAME,
    "media-right-margin": _INTEGER,
    "media-size": _COLLECTION,
    "media-size-name": _KEYWORD_OR_NAME,
    "media-source": _KEYWORD_OR_NAME,
    "media-source-properties": _COLLECTION,
    "media-source-feed-direction": _KEYWORD,
    "media-source-feed-orientation": _ENUM,
    "media-thickness": _INTEGER,
    "media-tooth": _KEYWORD_OR_NAME,
    "media-top-margin": _INTEGER,
    "media-type": _KEYWORD_OR_NAME,
    "media-weight-metric": _INTEGER,
    "pages": _set(_RANGE),
    "x-dimension": Syntax(Tag.INTEGER, also=(Tag.RANGE,)),
    "y-dimension": Syntax(Tag.INTEGER, also=(Tag.RANGE,)),
}

# Printer attributes that say what a printer can do: options of a printer may hold them.
PRINTER: Final[dict[str, Syntax]] = {
    "color-supported": _BOOLEAN,
    "copies-default": _INTEGER,
    "copies-supported": _RANGE,
    "document-format-default": _MIME,
    "document-format-preferred": _MIME,
    "document-format-supported": _set(_MIME),
    "finishings-col-database": _set(_COLLECTION),
    "finishings-col-default": _set(_COLLECTION),
    "finishings-col-ready": _set(_COLLECTION),
    "finishings-col-supported": _set(_KEYWORD),
    "finishing-template-supported": _set(_KEYWORD_OR_NAME),
    "finishings-default": _set(_ENUM),
    "finishings-ready": _set(_ENUM),
    "finishings-supported": _set(_ENUM),
    "job-sheets-default": _KEYWORD_OR_NAME,
    "job-sheets-supported": _set(_KEYWORD_OR_NAME),
    "jpeg-features-supported": _set(_KEYWORD),
    "jpeg-k-octets-supported": _RANGE,
    "jpeg-x-dimension-supported": _RANGE,
    "jpeg-y-dimension-supported": _RANGE,
    "landscape-orientation-requested-preferred": _ENUM,
    "media-back-coating-supported": _set(_KEYWORD_OR_NAME),
    "media-bottom-margin-supported": _set(_INTEGER),
    "media-col-database": _set(_COLLECTION),
    "media-col-default": _COLLECTION,
    "media-col-ready": _set(_COLLECTION),
    "media-col-supported": _set(_KEYWORD),
    "media-color-supported": _set(_KEYWORD_OR_NAME),
    "media-default": _KEYWORD_OR_NAME,
    "media-front-coating-supported": _set(_KEYWORD_OR_NAME),
    "media-grain-supported": _set(_KEYWORD_OR_NAME),
    "media-hole-count-supported": _set(_RANGE),
    "media-key-supported": _set(_KEYWORD_OR_NAME),
    "media-left-margin-supported": _set(_INTEGER),
    "media-order-count-supported": _set(_RANGE),
    "media-pre-printed-supported": _set(_KEYWORD_OR_NAME),
    "media-ready": _set(_KEYWORD_OR_NAME),
    "media-recycled-supported": _set(_KEYWORD_OR_NAME),
    "media-right-margin-supported": _set(_INTEGER),
    "media-size-supported": _set(_COLLECTION),
    "media-source-supported": _set(_KEYWORD_OR_NAME),
    "media-supported": _set(_KEYWORD_OR_NAME),
    "media-thickness-supported": _set(_RANGE),
    "media-tooth-supported": _set(_KEYWORD_OR_NAME),
    "media-top-margin-supported": _set(_INTEGER),
    "media-type-supported": _set(_KEYWORD_OR_NAME),
    "media-weight-metric-supported": _set(_RANGE),
    "mopria-certified": _TEXT,
    "multiple-document-handling-default": _KEYWORD,
    "multiple-document-handling-supported": _set(_KEYWORD),
    "number-up-default": _INTEGER,
    "number-up-supported": _INTEGER_OR_RANGE,
    "orientation-requested-default": _ENUM,
    "orientation-requested-supported": _set(_ENUM),
    "output-bin-default": _KEYWORD_OR_NAME,
    "output-bin-supported": _set(_KEYWORD_OR_NAME),
    "overrides-supported": _set(_KEYWORD),
    "page-delivery-default": _KEYWORD,
    "page-delivery-supported": _set(_KEYWORD),
    "page-ranges-supported": _BOOLEAN,
    "pages-per-minute": _INTEGER,
    "pages-per-minute-color": _INTEGER,
    "pclm-compression-method-preferred": _set(_KEYWORD),
    "pclm-raster-back-side": _KEYWORD,
    "pclm-source-resolution-supported": _set(_RESOLUTION),
    "pclm-strip-height-preferred": _set(_INTEGER),
    "pclm-strip-height-supported": _set(_INTEGER),
    "pdf-fit-to-page-default": _BOOLEAN,
    "pdf-fit-to-page-supported": _BOOLEAN,
    "pdf-k-octets-supported": _RANGE,
    "pdf-versions-supported": _set(_KEYWORD),
    "presentation-direction-number-up-default": _KEYWORD,
    "presentation-direction-number-up-supported": _set(_KEYWORD),
    "print-color-mode-default": _KEYWORD,
    "print-color-mode-supported": _set(_KEYWORD),
    "print-content-optimize-default": _KEYWORD,
    "print-content-optimize-supported": _set(_KEYWORD),
    "print-quality-default": _ENUM,
    "print-quality-supported": _set(_ENUM),
    "print-rendering-intent-default": _KEYWORD,
    "print-rendering-intent-supported": _set(_KEYWORD),
    "print-scaling-default": _KEYWORD,
    "print-scaling-supported": _set(_KEYWORD),
    "printer-device-id": _TEXT,
    "printer-dns-sd-name": _NAME,
    "printer-geo-location": _URI,
    "printer-make-and-model": _TEXT,
    "printer-message-from-operator": _TEXT,
    "printer-more-info-manufacturer": _URI,
    "printer-organization": _set(_TEXT),
    "printer-organizational-unit": _set(_TEXT),
    "printer-resolution-default": _RESOLUTION,
    "printer-resolution-supported": _set(_RESOLUTION),
    "pwg-raster-document-resolution-supported": _set(_RESOLUTION),
    "pwg-raster-document-sheet-back": _KEYWORD,
    "pwg-raster-document-type-supported": _set(_KEYWORD),
    "sides-default": _KEYWORD,
    "sides-supported": _set(_KEYWORD),
    "urf-supported": _set(_KEYWORD),
}

SYNTAX: Final[dict[str, Syntax]] = {**TEMPLATE, **MEMBERS, **PRINTER}

_RESOLUTION_TEXT = re.compile(r"([1-9][0-9]{0,6})(?:x([1-9][0-9]{0,6}))?(dpi|dpcm)").fullmatch
_RANGE_TEXT = re.compile(r"(-?[0-9]{1,10})(?:-(-?[0-9]{1,10}))?").fullmatch
_UNITS = {"dpi": PER_INCH, "dpcm": PER_CENTIMETER}
_UNIT_NAMES = {number: name for name, number in _UNITS.items()}
_TEXTS = frozenset(
    {Tag.TEXT, Tag.NAME, Tag.KEYWORD, Tag.URI, Tag.URI_SCHEME, Tag.CHARSET, Tag.LANGUAGE, Tag.MIME}
)
_NUMBERS = frozenset({Tag.INTEGER, Tag.ENUM})


class NotPlain(ValueError):
    """This attribute has no plain form here, or a plain value is not what its name asks for."""


def to_plain(attribute: Attribute) -> Any:
    """The plain value of an attribute.

    Raises:
        NotPlain: its name is not known, or a value has another syntax than that.
    """
    syntax = SYNTAX.get(attribute.name)
    if syntax is None:
        raise NotPlain(attribute.name)
    if not syntax.is_set and len(attribute.values) > 1:
        raise NotPlain(f"{attribute.name} has more than one value")
    values = [_plain(attribute.name, syntax, tag, value) for tag, value in attribute.values]
    return values if syntax.is_set else values[0]


def _plain(name: str, syntax: Syntax, tag: int, value: Any) -> Any:
    if tag != syntax.tag and tag not in syntax.also:
        raise NotPlain(f"{name} has a value of another syntax")
    if tag == Tag.COLLECTION:
        return {key: to_plain(member) for key, member in value.items()}
    if tag == Tag.RESOLUTION:
        unit = _UNIT_NAMES.get(value.units)
        if unit is None:
            raise NotPlain(f"{name} has an unknown unit")
        return f"{value.x}x{value.y}{unit}"
    if tag == Tag.RANGE:
        if value.low > value.high:
            raise NotPlain(f"{name} has a range that ends before it begins")
        return f"{value.low}-{value.high}"
    if tag in (Tag.NAME_LANGUAGE, Tag.TEXT_LANGUAGE):
        return value.text
    return value


def to_attribute(name: str, plain: Any) -> Attribute:
    """The attribute `name` with a plain value; a single value will do for a list.

    Raises:
        NotPlain: the name is not known, or the value is not of its syntax.
    """
    syntax = SYNTAX.get(name)
    if syntax is None:
        raise NotPlain(name)
    values = plain if isinstance(plain, list | tuple) else [plain]
    if not values or (len(values) > 1 and not syntax.is_set):
        raise NotPlain(f"{name} has {len(values)} values")
    return Attribute(name, [_value(name, syntax, one) for one in values])


def _value(name: str, syntax: Syntax, plain: Any) -> Value:
    tag = syntax.tag
    if isinstance(plain, bool):
        if tag == Tag.BOOLEAN:
            return Value(tag, plain)
    elif isinstance(plain, int):
        if tag in _NUMBERS:
            return Value(tag, plain)
        if tag == Tag.RANGE:
            return Value(tag, Range(plain, plain))
    elif isinstance(plain, dict):
        if tag == Tag.COLLECTION:
            return Value(tag, {key: to_attribute(key, one) for key, one in plain.items()})
    elif isinstance(plain, str):
        if tag in _TEXTS:
            return Value(tag, plain)
        return _parsed(name, syntax, plain)
    raise NotPlain(f"{name} cannot be {plain!r}"[:200])


def _parsed(name: str, syntax: Syntax, text: str) -> Value:
    """A value that a plain text stands for."""
    if syntax.tag == Tag.RESOLUTION and (found := _RESOLUTION_TEXT(text)):
        across = int(found[1])
        return Value(syntax.tag, Resolution(across, int(found[2] or across), _UNITS[found[3]]))
    is_range = syntax.tag == Tag.RANGE or Tag.RANGE in syntax.also
    if is_range and (found := _RANGE_TEXT(text)):
        low = int(found[1])
        high = int(found[2]) if found[2] else low
        if low <= high < 1 << 31:
            return Value(Tag.RANGE, Range(low, high))
    raise NotPlain(f"{name} cannot be {text!r}"[:200])
