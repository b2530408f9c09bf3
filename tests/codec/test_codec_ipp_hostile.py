"""IPP messages that are malformed, endless, damaged, or made by faulty printers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import ipp
from spoold.codec.ipp import Decoder, Limits, Message, Tag, Value
from spoold.codec.ipp_names import Operation, Status
from spoold.model.errors import RemoteProtocolError
from support.captures import CAPTURES, decode
from support.cuts import EVERY_CUT, Cut, by_seven, one_by_one, whole

BAD = "client-error-bad-request"
LONG = "client-error-request-value-too-long"
LARGE = "client-error-request-entity-too-large"


def feed_all(decoder: Decoder, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        decoder.feed(piece)


def refusal(data: bytes, cut: Cut = whole, limits: Limits = ipp.REQUEST_LIMITS) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(cut(data), limits)
    return caught.value.reply_hint


def field(tag: int, name: bytes, value: bytes) -> bytes:
    lengths = len(name).to_bytes(2, "big"), len(value).to_bytes(2, "big")
    return b"".join((bytes((tag,)), lengths[0], name, lengths[1], value))


HEAD = ipp.encode_head((2, 0), Operation.PRINT_JOB, 0x01020304)
OPERATION = HEAD + b"\x01" + field(0x47, b"attributes-charset", b"utf-8")


# --- what is malformed ----------------------------------------------------------------------------
DATE = bytes((7, 234, 2, 28, 23, 59, 60, 9)) + b"+\x00\x00"
MALFORMED = [
    (HEAD + field(0x21, b"a", bytes(4)), BAD),
    (HEAD + b"\x02", BAD),
    (HEAD + b"\x00", BAD),
    (OPERATION + b"\x01", BAD),
    (OPERATION + b"\x02\x01", BAD),
    (OPERATION + field(0x47, b"attributes-charset", b"utf-8"), BAD),
    (HEAD + b"\x01" + field(0x21, b"", bytes(4)), BAD),
    (OPERATION + b"\x02" + field(0x21, b"", bytes(4)), BAD),
    (OPERATION + b"\x80", BAD),
    (OPERATION + b"\xff", BAD),
    (OPERATION + field(0x21, b"a", b""), BAD),
    (OPERATION + field(0x21, b"a", bytes(3)), BAD),
    (OPERATION + field(0x21, b"a", bytes(5)), BAD),
    (OPERATION + field(0x23, b"a", bytes(8)), BAD),
    (OPERATION + field(0x22, b"a", b""), BAD),
    (OPERATION + field(0x22, b"a", b"\x02"), BAD),
    (OPERATION + field(0x22, b"a", b"\x01\x01"), BAD),
    (OPERATION + field(0x31, b"a", DATE[:10]), BAD),
    (OPERATION + field(0x31, b"a", DATE + b"\x00"), BAD),
    (OPERATION + field(0x31, b"a", DATE[:2] + b"\x0d" + DATE[3:]), BAD),
    (OPERATION + field(0x31, b"a", DATE[:8] + b"*\x00\x00"), BAD),
    (OPERATION + field(0x32, b"a", bytes(8)), BAD),
    (OPERATION + field(0x33, b"a", bytes(9)), BAD),
    (OPERATION + field(0x13, b"a", b"x"), BAD),
    (OPERATION + field(0x7F, b"a", b"xyz"), BAD),
    (OPERATION + field(0x35, b"a", b"\x00\x02en"), BAD),
    (OPERATION + field(0x35, b"a", b"\x00\x02en\x00\x05abc"), BAD),
    (OPERATION + field(0x35, b"a", b"\xff\xffen\x00\x01a"), BAD),
    (OPERATION + field(0x36, b"a", b"\x00\x02en\x01\x00" + b"a" * 256), LONG),
    (OPERATION + field(0x41, b"a", b"\xff"), BAD),
    (OPERATION + field(0x42, b"a", b"\xed\xa0\x80"), BAD),
    (OPERATION + field(0x44, b"a", "größe".encode()), BAD),
    (OPERATION + field(0x35, b"a", b"\x00\x02en\x00\x01\xff"), BAD),
    (OPERATION + field(0x21, b"\xc3\xa4", bytes(4)), BAD),
    (OPERATION + field(0x21, b"a b", bytes(4)), BAD),
    (OPERATION + field(0x21, b"a\x00", bytes(4)), BAD),
    (OPERATION + field(0x21, b"a" * 256, bytes(4)), LONG),
    (OPERATION + field(0x41, b"a", b"x" * 1024), LONG),
    (OPERATION + field(0x42, b"a", b"x" * 256), LONG),
    (OPERATION + field(0x44, b"a", b"x" * 256), LONG),
    (OPERATION + field(0x45, b"a", b"x" * 1024), LONG),
    (OPERATION + field(0x47, b"a", b"x" * 64), LONG),
    (OPERATION + field(0x49, b"a", b"x" * 256), LONG),
    (OPERATION + field(0x30, b"a", b"x" * 1024), LONG),
    # collections
    (OPERATION + field(0x37, b"", b""), BAD),
    (OPERATION + field(0x4A, b"", b"member"), BAD),
    (OPERATION + field(0x34, b"a", b"x"), BAD),
    (OPERATION + field(0x34, b"a", b"") + b"\x03", BAD),
    (OPERATION + field(0x34, b"a", b"") + b"\x02", BAD),
    (OPERATION + field(0x34, b"a", b"") + field(0x21, b"", bytes(4)), BAD),
    (OPERATION + field(0x34, b"a", b"") + field(0x21, b"b", bytes(4)), BAD),
    (OPERATION + field(0x34, b"a", b"") + field(0x4A, b"x", b"member"), BAD),
    (OPERATION + field(0x34, b"a", b"") + field(0x4A, b"", b""), BAD),
    (OPERATION + field(0x34, b"a", b"") + field(0x4A, b"", b"m") + field(0x37, b"", b""), BAD),
    (OPERATION + field(0x34, b"a", b"") + field(0x4A, b"", b"m") * 2, BAD),
    (
        OPERATION
        + field(0x34, b"a", b"")
        + (field(0x4A, b"", b"m") + field(0x21, b"", bytes(4))) * 2,
        BAD,
    ),
    (OPERATION + field(0x34, b"a", b"") + field(0x37, b"x", b""), BAD),
    (OPERATION + (field(0x34, b"a", b"") + field(0x4A, b"", b"m")) * 2, BAD),
    (OPERATION + field(0x34, b"a", b"") + (field(0x4A, b"", b"m") + b"\x34\0\0\0\0") * 8, LARGE),
    (
        HEAD + b"\x01" + field(0x47, b"attributes-charset", b"latin1") + field(0x42, b"a", b"\xe4"),
        "client-error-charset-not-supported",
    ),
]


@pytest.mark.parametrize("cut", EVERY_CUT)
@pytest.mark.parametrize(("data", "hint"), MALFORMED, ids=map(str, range(len(MALFORMED))))
def test_what_is_malformed_is_refused_with_its_status(data: bytes, hint: str, cut: Cut) -> None:
    """Every fault has the status that RFC 8011 names, and what an answer needs was read before."""
    decoder = Decoder()
    with pytest.raises(RemoteProtocolError) as caught:
        feed_all(decoder, cut(data + b"\x03"))
    assert caught.value.reply_hint == hint
    assert Status.of(hint).keyword == hint
    assert (decoder.version, decoder.code, decoder.request_id) == ((2, 0), 2, 0x01020304)
    with pytest.raises(RemoteProtocolError):
        decoder.feed(b"\x03")


@pytest.mark.parametrize("size", range(len(OPERATION)))
def test_a_message_that_ends_early_is_no_message(size: int) -> None:
    """A cut message is waited for; the end of the stream makes it an error."""
    decoder = Decoder()
    assert decoder.feed(OPERATION[:size]) is None
    with pytest.raises(RemoteProtocolError) as caught:
        decoder.end()
    assert caught.value.reply_hint == BAD
    assert decoder.request_id == (0x01020304 if size >= 8 else None)


def test_the_end_of_the_stream_behind_a_message_is_none_of_its_business() -> None:
    """After the message its decoder takes nothing more."""
    decoder = Decoder()
    assert decoder.feed(OPERATION + b"\x03") is not None
    decoder.end()
    with pytest.raises(RemoteProtocolError):
        decoder.feed(b"x")


# --- limits ---------------------------------------------------------------------------------------
TINY = b"\x21\0\0\0\4\0\0\0\0"
EMPTY_COLLECTION = b"\x34\0\0\0\0\x37\0\0\0\0"
MEMBER = b"\x4a\0\0\0\1m"


def _names() -> Iterator[bytes]:
    for number in range(1 << 20):
        yield field(0x13, f"{number:x}".encode(), b"")


class Counted:
    """Bytes that went by."""

    def __init__(self) -> None:
        self.bytes = 0

    def each(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.bytes += len(piece)
            yield piece


HOSTILE = {
    "groups": (OPERATION, repeat(b"\x02" * 4096)),
    "values": (OPERATION + field(0x21, b"a", bytes(4)), repeat(TINY * 1000)),
    "empty texts": (OPERATION + field(0x41, b"a", b""), repeat(b"\x41\0\0\0\0" * 1000)),
    "long texts": (OPERATION + field(0x41, b"a", b""), repeat(field(0x41, b"", b"x" * 1023))),
    "names": (OPERATION, _names()),
    "collections": (OPERATION + field(0x13, b"a", b""), repeat(EMPTY_COLLECTION * 500)),
    "nesting": (OPERATION + field(0x34, b"a", b""), repeat(MEMBER + b"\x34\0\0\0\0")),
    "single bytes": (OPERATION + field(0x41, b"a", b""), repeat(b"\x41")),
}


@pytest.mark.parametrize(
    "limits", [ipp.REQUEST_LIMITS, pytest.param(ipp.ANSWER_LIMITS, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", HOSTILE)
def test_an_endless_message_ends_at_a_limit(kind: str, limits: Limits) -> None:
    """However it is blown up, a message costs some times its limit of memory and no more."""
    before, pieces = HOSTILE[kind]
    decoder = Decoder(limits)
    decoder.feed(before)
    counted = Counted()
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError) as caught:
            feed_all(decoder, counted.each(pieces))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.reply_hint in (LARGE, BAD, LONG)
    assert counted.bytes <= limits.message_bytes_max + 65536
    assert peak < 65536 + 200 * limits.fields_max + 4 * limits.message_bytes_max


@pytest.mark.parametrize("cut", [whole, one_by_one])
def test_the_limit_of_bytes_is_exact(cut: Cut) -> None:
    """A message that is as long as it may be passes; one byte more does not."""
    data = OPERATION + field(0x41, b"a", b"x" * 100) + b"\x03"
    limits = Limits(message_bytes_max=len(data))
    assert decode(cut(data + b"document"), limits)[1] == b"document"
    assert refusal(data, cut, Limits(message_bytes_max=len(data) - 1)) == LARGE


@pytest.mark.parametrize("cut", [whole, one_by_one])
def test_the_limit_of_fields_is_exact(cut: Cut) -> None:
    """Groups, values, members and ends of collections count."""
    data = OPERATION + field(0x34, b"a", b"") + MEMBER + TINY * 2 + b"\x37\0\0\0\0\x02\x03"
    assert decode(cut(data), Limits(fields_max=8))[0] is not None
    assert refusal(data, cut, Limits(fields_max=7)) == LARGE


def test_the_depth_of_collections_is_limited() -> None:
    """Collections nest as deep as they may, and no deeper."""
    opened, closed = MEMBER + b"\x34\0\0\0\0", b"\x37\0\0\0\0"
    for depth in (1, 8, 9):
        data = OPERATION + field(0x34, b"a", b"") + opened * (depth - 1) + closed * depth + b"\x03"
        if depth <= 8:
            assert decode([data])[0] is not None
        else:
            assert refusal(data) == LARGE


# --- what printers do -----------------------------------------------------------------------------
def test_the_faults_of_printers_are_put_up_with_in_answers() -> None:
    """An answer with texts that are long or ill-coded, or names that stand twice, is still read."""
    data = (
        HEAD
        + b"\x04"
        + field(0x41, b"long", b"x" * 5000)
        + field(0x42, b"latin", b"B\xfcro")
        + field(0x44, b"keyword", b"\xff")
        + field(0x21, b"empty", b"")
        + field(0x13, b"not-empty", b"what?")
        + field(0x21, b"twice", b"\0\0\0\1")
        + field(0x21, b"twice", b"\0\0\0\2")
        + field(0x21, b"", b"\0\0\0\3")
        + field(0x35, b"french", b"\x00\x02fr\x00\x02\xe9t")
        + b"\x01\x03"
    )
    message, _ = decode([data], ipp.ANSWER_LIMITS)
    assert message is not None
    found = message.groups[0]
    assert len(found.first("long")) == 5000
    assert found.first("latin") == "B\ufffdro"
    assert found.first("keyword") == "\ufffd"
    assert found.attributes["empty"].values == [Value(Tag.NO_VALUE, None)]
    assert found.attributes["not-empty"].values == [Value(Tag.NO_VALUE, None)]
    assert found.attributes["twice"].all == [1]
    assert found.first("french").text == "\ufffdt"
    assert refusal(data) == BAD


# --- anything at all ------------------------------------------------------------------------------
def outcome(data: bytes, cut: Cut, limits: Limits) -> Any:
    """What becomes of `data`: a message with what follows, a refusal, or nothing yet."""
    try:
        return decode(cut(data), limits)
    except RemoteProtocolError as error:
        return Status.of(error.reply_hint), error.reply_hint


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A captured message with some damage: bytes changed, cut out, put in, moved or repeated."""
    data = bytearray(draw(st.sampled_from(list(CAPTURES.values())[:-1])))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 30))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = draw(st.binary(max_size=30))
            case 3:
                data[at:at] = data[at : at + size] * 3
            case _:
                if at < len(data):
                    data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


SMALL = Limits(message_bytes_max=400, fields_max=30, depth_max=1)


@given(st.one_of(mutants(), st.binary(max_size=60).map(lambda end: OPERATION + end)))
def test_damaged_messages_are_messages_or_refused(data: bytes) -> None:
    """Only `RemoteProtocolError` leaves, and how the bytes came in makes no difference."""
    for limits in (ipp.REQUEST_LIMITS, ipp.ANSWER_LIMITS, SMALL):
        found = outcome(data, whole, limits)
        assert outcome(data, one_by_one, limits) == found
        assert outcome(data, by_seven, limits) == found
        if isinstance(found[0], Message) and not limits.is_forgiving:
            sent = ipp.encode(found[0])
            assert sent + found[1] == data
