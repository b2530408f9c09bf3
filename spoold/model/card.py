"""Numbers of cards: how what a reader says becomes the one number of a card; and keyed hashes.

The same card reads as `0x04A1B2C3` here and as `3284308228` there: readers differ in base, byte
order and in how much of the bits they tell. A converter takes what one kind of reader says and
answers the number under which the card is known. Converters are named with a version
(`wiegand-26/1`), because what is hashed under one must be found again by it for ever: a converter
that is to work otherwise becomes version 2 beside it. Instead of a name, its steps can be written
out: `hex reverse-bytes decimal`.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.text import plain
from spoold.model.user import PIN_ALONE_DIGITS_MIN

RAW_CHARACTERS_MAX = 256
NUMBER_CHARACTERS_MAX = 128
BITS_MAX = 512
STEPS_MAX = 12
ENDING_CHARACTERS = 4  # of a number: what people recognise a card by


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was read, on its way: a text, and its bits once they are known."""

    text: str
    value: int | None = None
    bits: int = 0

    def known(self, step: str) -> tuple[int, int]:
        if self.value is None:
            raise _bad(f"{step} needs bits.", "Read the number first: hex, or from-decimal:BITS.")
        return self.value, self.bits


# -- steps -------------------------------------------------------------------------------------


def _hex(reading: _Reading, _: Sequence[int]) -> _Reading:
    """`04 A1:b2-c3`, with or without 0x, as bits; leading zeros are bits, too."""
    text = re.sub(r"[\s:.\-]", "", reading.text).removeprefix("0x").removeprefix("0X")
    if not re.fullmatch(r"[0-9A-Fa-f]+", text):
        raise _bad("the card's number is not hexadecimal.", "Name the converter of its reader.")
    return _bits(int(text, 16), 4 * len(text))


def _from_decimal(reading: _Reading, arguments: Sequence[int]) -> _Reading:
    """Decimal digits as so many bits."""
    text = re.sub(r"[\s.\-]", "", reading.text)
    if not (text.isascii() and text.isdecimal()):
        raise _bad("the card's number is not decimal.", "Name the converter of its reader.")
    value = int(text)
    bits = arguments[0] if arguments else max(8, -(-value.bit_length() // 8) * 8)
    if value >> bits:
        raise _bad(f"the card's number has more than {bits} bits.", "It is of another kind.")
    return _bits(value, bits)


def _bits(value: int, bits: int) -> _Reading:
    if not 0 < bits <= BITS_MAX:
        raise _bad(f"the card's number has {bits} bits.", f"It can have {BITS_MAX}.")
    return _Reading("", value, bits)


def _reverse_bytes(reading: _Reading, _: Sequence[int]) -> _Reading:
    value, bits = reading.known("reverse-bytes")
    if bits % 8:
        raise _bad(f"{bits} bits are no whole bytes.", "It is of another kind.")
    return _bits(int.from_bytes(value.to_bytes(bits // 8, "big"), "little"), bits)


def _reverse_bits(reading: _Reading, _: Sequence[int]) -> _Reading:
    value, bits = reading.known("reverse-bits")
    return _bits(int(f"{value:0{bits}b}"[::-1], 2), bits)


def _length(reading: _Reading, arguments: Sequence[int]) -> _Reading:
    """Exactly so many bits: those in front of them must be zero."""
    value, _ = reading.known("length")
    if value >> arguments[0]:
        raise _bad(f"the card's number has more than {arguments[0]} bits.", "It is another kind.")
    return _bits(value, arguments[0])


def _slice(reading: _Reading, arguments: Sequence[int]) -> _Reading:
    """`bits:FIRST:COUNT`, counted from the left, from 0."""
    value, bits = reading.known("bits")
    first, count = arguments
    if count < 1 or first + count > bits:
        raise _bad(f"there are no {count} bits behind the first {first}.", "It is another kind.")
    return _bits(value >> (bits - first - count) & (1 << count) - 1, count)


def _parity(reading: _Reading, arguments: Sequence[int]) -> _Reading:
    """`parity:N`: first bit even over the first N, last bit odd over the last N; then without."""
    value, bits = reading.known("parity")
    half = arguments[0]
    head, tail = value >> (bits - half), value & (1 << half) - 1
    if head.bit_count() % 2 or not tail.bit_count() % 2:
        raise _bad("the parity of the card's number is wrong.", "Read the card once more.")
    return _bits(value >> 1 & (1 << bits - 2) - 1, bits - 2)


def _fields(reading: _Reading, arguments: Sequence[int]) -> _Reading:
    """`fields:A:B…`: decimal numbers of A, B, … bits, with colons between: facility and number."""
    value, bits = reading.known("fields")
    if sum(arguments) != bits:
        raise _bad(f"the card's number has {bits} bits, not {sum(arguments)}.", "Another kind.")
    found = []
    for width in arguments:
        bits -= width
        found.append(str(value >> bits & (1 << width) - 1))
    return _Reading(":".join(found))


def _decimal(reading: _Reading, arguments: Sequence[int]) -> _Reading:
    """The bits as a decimal number, at least so many digits."""
    value, _ = reading.known("decimal")
    return _Reading(f"{value:0{arguments[0] if arguments else 1}d}")


def _to_hex(reading: _Reading, _: Sequence[int]) -> _Reading:
    value, bits = reading.known("to-hex")
    return _Reading(f"{value:0{-(-bits // 4)}X}")


def _plain(reading: _Reading, _: Sequence[int]) -> _Reading:
    """Letters, digits and colons (FACILITY:NUMBER) alone, in capitals."""
    text = unicodedata.normalize("NFKC", reading.text)
    return _Reading("".join(c for c in text if c.isascii() and (c.isalnum() or c == ":")).upper())


def _digits(reading: _Reading, _: Sequence[int]) -> _Reading:
    """A decimal number without leading zeros."""
    return _decimal(_from_decimal(reading, ()), ())


_Step = Callable[[_Reading, Sequence[int]], _Reading]
# name -> what it does, and how many whole numbers it takes at least and at most.
_STEPS: dict[str, tuple[_Step, int, int]] = {
    "plain": (_plain, 0, 0),
    "digits": (_digits, 0, 0),
    "hex": (_hex, 0, 0),
    "from-decimal": (_from_decimal, 0, 1),
    "reverse-bytes": (_reverse_bytes, 0, 0),
    "reverse-bits": (_reverse_bits, 0, 0),
    "length": (_length, 1, 1),
    "bits": (_slice, 2, 2),
    "parity": (_parity, 1, 1),
    "fields": (_fields, 1, 8),
    "decimal": (_decimal, 0, 1),
    "to-hex": (_to_hex, 0, 0),
}
STEPS = tuple(_STEPS)

# -- converters --------------------------------------------------------------------------------

PLAIN = "plain/1"
# What a name meant once it means for ever: a change is a new version beside the old one.
CONVERTERS: dict[str, tuple[str, str]] = {
    PLAIN: ("plain", "letters, digits and colons as the reader tells them, in capitals"),
    "decimal/1": ("digits", "a decimal number, without leading zeros"),
    "hex/1": ("hex to-hex", "a hexadecimal number; leading zeros count"),
    "hex-to-decimal/1": ("hex decimal", "hexadecimal read, decimal kept"),
    "hex-reversed/1": ("hex reverse-bytes to-hex", "hexadecimal, the bytes the other way round"),
    "hex-reversed-to-decimal/1": (
        "hex reverse-bytes decimal",
        "hexadecimal with the bytes the other way round read, decimal kept",
    ),
    "decimal-reversed/1": (
        "from-decimal:32 reverse-bytes decimal",
        "a decimal number of four bytes, the bytes the other way round",
    ),
    "decimal-to-hex/1": ("from-decimal:32 to-hex", "decimal read, eight hexadecimal digits kept"),
    "wiegand-26/1": (
        "hex length:26 parity:13 fields:8:16",
        "H10301: 26 bits in hexadecimal, parity checked; FACILITY:NUMBER kept",
    ),
    "wiegand-26-decimal/1": (
        "from-decimal:26 parity:13 fields:8:16",
        "H10301: 26 bits as a decimal number, parity checked; FACILITY:NUMBER kept",
    ),
    "wiegand-26-number/1": (
        "hex length:26 parity:13 bits:8:16 decimal",
        "H10301: 26 bits in hexadecimal, parity checked; the number alone, whatever the facility",
    ),
    "wiegand-24/1": (
        "hex length:24 fields:8:16",
        "26 bits whose parity the reader has taken off; FACILITY:NUMBER kept",
    ),
    "wiegand-34/1": (
        "hex length:34 parity:17 fields:16:16",
        "H10306: 34 bits in hexadecimal, parity checked; FACILITY:NUMBER kept",
    ),
    "wiegand-37/1": (
        "hex length:37 bits:1:35 decimal",
        "H10302: 37 bits in hexadecimal, parity not looked at; the number of 35 bits kept",
    ),
}


def find_converter(text: str) -> str:
    """The one name of a converter, with its version; or its steps, when these are written out.

    Raises:
        OperationError: `bad-request`: there is no such converter or step.
    """
    if len(text) > RAW_CHARACTERS_MAX:
        raise _bad("the name of a card converter is long.", "See `spoold card converters`.")
    words = text.split()
    if len(words) == 1:
        if words[0] in CONVERTERS:
            return words[0]
        versions = [one for one in CONVERTERS if one.rpartition("/")[0] == words[0]]
        if versions:
            return versions[-1]
    _parse(words)
    return " ".join(words)


def _parse(words: Sequence[str]) -> list[tuple[_Step, list[int]]]:
    if not 0 < len(words) <= STEPS_MAX:
        raise _bad("a converter has 1 to 12 steps.", f"Known are {', '.join(CONVERTERS)}.")
    found = []
    for word in words:
        name, *texts = word.split(":")
        if name not in _STEPS:
            near = get_close_matches(word, [*CONVERTERS, *STEPS], 1)
            advice = f"Did you mean {near[0]}?" if near else "See `spoold card converters`."
            raise _bad(f"there is no card converter or step {plain(word[:40])!r}.", advice)
        step, least, most = _STEPS[name]
        is_number = all(re.fullmatch(r"[0-9]{1,3}", one) for one in texts)
        if not (is_number and least <= len(texts) <= most):
            raise _bad(f"the step {plain(word[:40])!r} is written wrongly.", f"See {name}.")
        numbers = [int(one) for one in texts]
        if any(one > BITS_MAX for one in numbers):
            raise _bad(f"the step {plain(word[:40])!r} is beyond {BITS_MAX} bits.", "Write less.")
        found.append((step, numbers))
    return found


def convert(converter: str, raw: str) -> str:
    """The number of a card from what a reader says. The same card has one number, wherever read.

    Raises:
        OperationError: `bad-request`; the message does not hold the number.
    """
    name = find_converter(converter)
    steps = CONVERTERS[name][0] if name in CONVERTERS else name
    if len(raw) > RAW_CHARACTERS_MAX:
        raise _bad(
            f"the card's number is {len(raw)} characters long.",
            f"It can be {RAW_CHARACTERS_MAX} characters long.",
        )
    reading = _Reading(raw.strip())
    for step, numbers in _parse(steps.split()):
        reading = step(reading, numbers)
    number = reading.text if reading.value is None else _to_hex(reading, ()).text
    if not 0 < len(number) <= NUMBER_CHARACTERS_MAX:
        raise _bad(
            "nothing is left of the card's number." if not number else "the card's number is long.",
            f"It can be 1 to {NUMBER_CHARACTERS_MAX} letters and digits.",
        )
    return number


def ending(number: str) -> str:
    """The last of a number, for people who have the card in their hand; of a short one, less."""
    return number[-min(ENDING_CHARACTERS, len(number) // 2) :] if len(number) > 1 else ""


# -- keyed hashes ------------------------------------------------------------------------------


class Digests:
    """HMAC-SHA256 of cards and PINs (RFC 2104), under keys that the node has and no table.

    `keys`: the last one is what new hashes are made with, the others are looked for, too. A hash
    begins with four bytes that say under which key it was made.
    """

    KEY_BYTES = 32

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != self.KEY_BYTES for key in keys):
            raise ValueError("a key is 32 bytes")
        self._keys = [(sha256(b"spoold card key\0" + key).digest()[:4], key) for key in keys]

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        return tuple(key_id for key_id, _ in self._keys)

    def secrets(self) -> list[bytes]:
        """The keys, the one of new hashes last."""
        return [key for _, key in self._keys]

    def adopt(self, keys: Sequence[bytes]) -> None:
        """Use another node's keys from now on; what was hashed here before is found as ever."""
        adopted = Digests(keys)._keys
        self._keys = [one for one in self._keys if one not in adopted] + adopted

    def card(self, number: str) -> bytes:
        return self.cards(number)[-1]

    def cards(self, number: str) -> list[bytes]:
        """The hashes that a converted number may be known by, one for each key."""
        return self._all(b"card\0" + number.encode("utf-8", "surrogatepass"))

    def pins(self, pin: str, owner: UUID | None = None) -> list[bytes]:
        """The hashes of a PIN that stands alone; or of one that its `owner` shows beside a card:
        several people may have the same, and nobody is found by it.
        """
        if owner is None and len(pin) < PIN_ALONE_DIGITS_MIN:
            return []
        beside = b"" if owner is None else owner.bytes
        return self._all(b"pin\0" + beside + pin.encode("ascii"))

    def key_of(self, text: str) -> bytes:
        """What stands for a name or an address where it must not be read: 16 bytes."""
        _, key = self._keys[-1]
        return hmac.digest(key, b"key\0" + text.encode("utf-8", "surrogatepass"), "sha256")[:16]

    def _all(self, message: bytes) -> list[bytes]:
        return [key_id + hmac.digest(key, message, "sha256") for key_id, key in self._keys]

    def __repr__(self) -> str:
        return f"Digests({len(self._keys)} keys)"
