"""What a printer offers its clients, in IPP's words: values in, plain values out; pure.

`codec/ipp_plain.PRINTER` says which names there are and what each of them is. Values come as plain
ones, or as the words of a command line: numbers and switches as texts, several with commas,
collections as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from spoold.codec import ipp
from spoold.codec.ipp_plain import PRINTER, NotPlain, Syntax, to_attribute
from spoold.codec.ipp_syntax import LENGTHS_MAX
from spoold.codec.ipp_values import Attribute, Tag
from spoold.daemon.operations.table import Argument, near
from spoold.daemon.operations.views import packed_size
from spoold.model.errors import OperationError
from spoold.model.text import plain

NAMES_MAX = 128
VALUES_MAX = 512
LEVELS_MAX = 4
BYTES_MAX = 16 * 1024  # a record has 32 KiB, and a message of the frames protocol 64 KiB
_SWITCH = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
_NUMBERS = frozenset({Tag.INTEGER, Tag.ENUM})

OFFER = Argument(
    "offer",
    (dict,),
    most=NAMES_MAX,
    each=Argument("", (str, bool, int, list, dict), most=8192),
    summary="What clients may ask of the printer, by IPP attribute; an empty value takes one away.",
)


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)


def merged_offer(old: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with what is `given`; an empty value takes an attribute away.

    Raises:
        OperationError: `bad-request`: a name is not known, a value cannot be, or it is too much.
    """
    offer = dict(old)
    for name, value in given.items():
        if name not in PRINTER:
            raise _bad(
                f"there is no printer attribute {plain(name[:60])} that can be offered.",
                near(name, PRINTER) or "Use names as sides-supported or media-default.",
            )
        if value in ("", [], None):
            offer.pop(name, None)
        else:
            offer[name] = read_value(name, value)
    if len(offer) > NAMES_MAX or packed_size(offer) > BYTES_MAX:
        raise _bad(
            f"the offer is larger than {NAMES_MAX} attributes or {BYTES_MAX} bytes.",
            "Offer less; media-col-database and the like can be left to what follows from media.",
        )
    for name in offer:
        _check_default(name, offer)
    return offer


def read_value(name: str, value: Any) -> Any:
    """`value` as the plain value that an attribute has.

    Raises:
        OperationError: `bad-request`: it cannot be the attribute's.
    """
    syntax = PRINTER[name]
    try:
        found = _of_words(syntax, value) if isinstance(value, str) else value
        if syntax.is_set and not isinstance(found, list):
            found = [found]
        if not _is_bounded(found, LEVELS_MAX):
            raise NotPlain(f"{name} has too many values, or they are too deep")
        attribute = to_attribute(name, found)
        _check_lengths(attribute)
        ipp.encode_group(Tag.PRINTER, [attribute])
    except (NotPlain, ValueError) as error:
        raise _bad(
            f"{name} cannot be {plain(str(value)[:60])!r}: {plain(str(error)[:100])}.",
            f"It is {_described(syntax)}.",
        ) from None
    return found


def _of_words(syntax: Syntax, text: str) -> Any:
    if syntax.tag == Tag.COLLECTION:
        return json.loads(text)
    is_text = syntax.tag in (Tag.TEXT, Tag.URI)
    words = [one.strip() for one in text.split(",")] if syntax.is_set and not is_text else [text]
    values = [_of_word(syntax, word) for word in words]
    return values if syntax.is_set else values[0]


def _of_word(syntax: Syntax, word: str) -> Any:
    if syntax.tag == Tag.BOOLEAN:
        return _SWITCH.get(word.lower(), word)
    if syntax.tag in _NUMBERS and word.removeprefix("-").isdecimal():
        return int(word)
    return word


def _is_bounded(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        values = list(value.values())
    elif isinstance(value, list):
        values = value
    else:
        return True
    if levels <= 0 or len(values) > VALUES_MAX:
        return False
    return all(_is_bounded(one, levels - 1) for one in values)


def _check_lengths(attribute: Attribute) -> None:
    """The encoder cuts what is too long for its syntax; here it is refused."""
    for tag, value in attribute.values:
        if isinstance(value, str) and len(value.encode()) > LENGTHS_MAX[tag]:
            raise NotPlain(f"it has more than {LENGTHS_MAX[tag]} octets")
        if isinstance(value, dict):
            for member in value.values():
                _check_lengths(member)


def _check_default(name: str, offer: Mapping[str, Any]) -> None:
    """What is the default is supported, when it is said what is.

    Raises:
        OperationError: `bad-request`.
    """
    stem, _, ending = name.rpartition("-")
    supported = offer.get(f"{stem}-supported")
    if ending not in ("default", "ready") or not isinstance(supported, list):
        return
    value = offer[name]
    for one in value if isinstance(value, list) else [value]:
        is_scalar = isinstance(one, (str, int))
        if is_scalar and one not in supported and stem not in ("finishings-col", "number-up"):
            raise _bad(
                f"{name} is {plain(str(one)[:60])!r}, which {stem}-supported does not have.",
                f"It has {plain(', '.join(map(str, supported))[:200])}.",
            )


_KINDS = {
    Tag.INTEGER: "a whole number",
    Tag.ENUM: "the number of an enum",
    Tag.BOOLEAN: "true or false",
    Tag.RESOLUTION: "a resolution as 600dpi or 600x1200dpi",
    Tag.RANGE: "a range as 1-99",
    Tag.COLLECTION: "a collection, as JSON",
    Tag.KEYWORD: "a keyword",
    Tag.MIME: "a media type",
    Tag.URI: "a URI",
}


def _described(syntax: Syntax) -> str:
    kind = _KINDS.get(Tag(syntax.tag), "a text")
    return f"{kind}, or several with commas" if syntax.is_set else kind
