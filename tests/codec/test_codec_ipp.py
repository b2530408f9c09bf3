"""IPP's encoding under every chunking, against hostile bytes, and as CUPS writes and reads it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import ipp
from spoold.codec.ipp import Attribute, DateTime, Decoder, Group, Limits, Message, Tag, Value
from spoold.codec.ipp_names import Operation, Status
from spoold.model.errors import RemoteProtocolError
from support.cuts import EVERY_CUT, Cut, by_seven, one_by_one, whole

BAD = "client-error-bad-request"
LONG = "client-error-request-value-too-long"
LARGE = "client-error-request-entity-too-large"


def captures() -> dict[str, bytes]:
    """What real programs sent, by name."""
    path = Path(__file__).parent / "ipp_captures.hex"
    lines = [line.split(": ") for line in path.read_text().splitlines() if line[0] != "#"]
    return {f"{number} {name}": bytes.fromhex(data) for number, (name, data) in enumerate(lines)}


CAPTURES = captures()


def decode(
    pieces: list[bytes], limits: Limits = ipp.REQUEST_LIMITS
) -> tuple[Message | None, bytes]:
    """The message that the pieces hold, if they do, and all that follows it."""
    decoder = Decoder(limits)
    for number, piece in enumerate(pieces):
        message = decoder.feed(piece)
        if message is not None:
            return message, decoder.rest + b"".join(pieces[number + 1 :])
    return None, b""


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


# --- what is well formed --------------------------------------------------------------------------


@pytest.mark.parametrize("cut", EVERY_CUT)
@pytest.mark.parametrize("name", CAPTURES)
def test_what_cups_writes_is_read_and_written_the_same(name: str, cut: Cut) -> None:
    """Messages of real programs come out in any pieces, and are encoded as they were."""
    document = b"\x03%PDF-1.7 \x01"
    message, rest = decode(cut(CAPTURES[name] + document), ipp.Limits(fields_max=1000))
    assert message is not None
    assert rest == document
    assert message.version in ((1, 1), (2, 0))
    assert ipp.encode(message) == CAPTURES[name]
    assert decode([CAPTURES[name]], ipp.ANSWER_LIMITS)[0] == message


def test_a_request_of_lp_is_understood() -> None:
    """Names, integers, ranges, resolutions and collections have the values that were asked for."""
    name = next(name for name in CAPTURES if name.endswith(" lp"))
    message, _ = decode([CAPTURES[name]])
    assert message is not None
    assert message.code == Operation.CREATE_JOB
    operation, job = message.groups
    assert message.group(Tag.JOB) is job
    assert message.group(Tag.PRINTER) is None
    assert operation.first("requesting-user-name") == "alice"
    assert operation.first("job-name") == "Größe ✓"
    assert job.first("copies") == 2
    assert job.first("absent", 7) == 7
    assert job.attributes["page-ranges"].all == [ipp.Range(1, 4), ipp.Range(7, 7)]
    assert job.first("printer-resolution") == ipp.Resolution(600, 300, ipp.PER_INCH)
    media = job.first("media-col")
    assert media["media-type"].first == "stationery"
    assert media["media-size"].first["x-dimension"].first == 21000


EVERY_SYNTAX = [
    ipp.integer("integer", 0, -1, ipp.INTEGER_MAX, ipp.INTEGER_MIN),
    ipp.boolean("boolean", True),
    ipp.boolean("boolean-false", False),
    ipp.enum_("enum", 3),
    ipp.octets("octets", b"", b"\x00\xff"),
    ipp.date_time("date-time", DateTime(2026, 2, 28, 23, 59, 60, 9, "-", 11, 30)),
    ipp.resolution("resolution", ipp.Resolution(600, 1200), ipp.Resolution(118, 118, 4)),
    ipp.range_("range", ipp.Range(-5, 5)),
    ipp.text("text", "", "Größe\n", "x" * 1023),
    ipp.name_("name", "Büro"),
    ipp.keyword("keyword", "none"),
    ipp.uri("uri", "ipp://localhost/printers/q"),
    ipp.uri_scheme("uri-scheme", "ipp"),
    ipp.charset("charset", "utf-8"),
    ipp.language("language", "de-ch"),
    ipp.mime("mime", "application/pdf"),
    ipp.no_value("no-value"),
    ipp.unknown("unknown"),
    ipp.unsupported("unsupported"),
    ipp.delete_attribute("delete"),
    ipp.out_of_band("not-settable", Tag.NOT_SETTABLE),
    Attribute("with-language", [Value(Tag.TEXT_LANGUAGE, ipp.WithLanguage("fr", "été"))]),
    Attribute("mixed", [Value(Tag.KEYWORD, "a4"), Value(Tag.NAME, "Mein A4"), Value(Tag.ENUM, 3)]),
    Attribute("not-known", [Value(0x2F, b"\x01"), Value(0x7F, b"\x40\x00\x00\x01\xff")]),
    ipp.collection(
        "collection",
        [ipp.integer("a", 1, 2), ipp.collection("b", [ipp.keyword("c", "d")], [])],
        [],
    ),
    ipp.integer("after", 1),
]


@pytest.mark.parametrize("cut", EVERY_CUT)
def test_every_syntax_comes_back(cut: Cut) -> None:
    """Each kind of value, sets of them, mixed sets and nested collections survive both ways."""
    groups = [ipp.group(Tag.OPERATION, EVERY_SYNTAX), ipp.group(Tag.JOB, []), Group(0x0F, {})]
    sent = Message((1, 1), 0x4001, -1, groups)
    message, rest = decode(cut(ipp.encode(sent) + b"document"))
    assert message == sent
    assert rest == b"document"


def test_a_message_can_be_encoded_piece_by_piece() -> None:
    """An answer that is streamed group by group is the same bytes."""
    groups = [ipp.group(Tag.OPERATION, EVERY_SYNTAX)]
    groups += [ipp.group(Tag.JOB, [ipp.integer("job-id", n)]) for n in range(3)]
    message = Message((2, 0), Status.SUCCESSFUL_OK, 9, groups)
    pieces = [ipp.encode_head((2, 0), Status.SUCCESSFUL_OK, 9)]
    pieces += [ipp.encode_group(each.tag, each.attributes.values()) for each in groups]
    assert b"".join([*pieces, ipp.END]) == ipp.encode(message)
    assert len(message.groups_of(Tag.JOB)) == 3


def _texts(octets_max: int) -> st.SearchStrategy[str]:
    return st.text(max_size=octets_max // 4)


ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=63)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-0123456789._", min_size=1, max_size=40)
INTEGERS = st.integers(ipp.INTEGER_MIN, ipp.INTEGER_MAX)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    **dict.fromkeys((Tag.INTEGER, Tag.ENUM), INTEGERS),
    **dict.fromkeys((Tag.UNSUPPORTED_VALUE, Tag.UNKNOWN, Tag.NO_VALUE, 0x1F), st.none()),
    **dict.fromkeys((Tag.OCTETS, 0x24, 0x4B, 0x60), st.binary(max_size=1023)),
    **dict.fromkeys((Tag.KEYWORD, Tag.URI, Tag.CHARSET, Tag.LANGUAGE, Tag.MIME), ASCII),
    Tag.BOOLEAN: st.booleans(),
    Tag.EXTENSION: st.binary(min_size=4, max_size=9),
    Tag.TEXT: _texts(1023),
    Tag.NAME: _texts(255),
    Tag.DATE_TIME: st.builds(DateTime.at, st.integers(0, 1 << 33)),
    Tag.RESOLUTION: st.builds(ipp.Resolution, INTEGERS, INTEGERS, st.sampled_from((3, 4))),
    Tag.RANGE: st.builds(ipp.Range, INTEGERS, INTEGERS),
    Tag.NAME_LANGUAGE: st.builds(ipp.WithLanguage, ASCII, _texts(255)),
}


def _attributes(value: st.SearchStrategy[Value]) -> st.SearchStrategy[dict[str, Attribute]]:
    values = st.lists(value, min_size=1, max_size=3)
    return st.dictionaries(NAMES, values, max_size=4).map(
        lambda found: {name: Attribute(name, values) for name, values in found.items()}
    )


SIMPLE = st.one_of(
    *(values.map(lambda value, tag=tag: Value(int(tag), value)) for tag, values in VALUES.items())
)
ANY_VALUE = st.recursive(
    SIMPLE,
    lambda inner: _attributes(inner).map(lambda members: Value(int(Tag.COLLECTION), members)),
    max_leaves=8,
)
GROUPS = st.builds(Group, st.sampled_from((2, 4, 5, 6, 9, 15)), _attributes(ANY_VALUE))
MESSAGES = st.builds(
    lambda version, code, request_id, first, more: Message(
        version, code, request_id, [Group(1, first), *more]
    ),
    st.tuples(st.integers(0, 255), st.integers(0, 255)),
    st.integers(0, 0xFFFF),
    INTEGERS,
    _attributes(ANY_VALUE),
    st.lists(GROUPS, max_size=3),
)


@pytest.mark.slow
@given(MESSAGES, st.binary(max_size=9), st.integers(1, 40))
def test_any_message_comes_back(sent: Message, document: bytes, size: int) -> None:
    """Whatever the makers can say is decoded as it was, in pieces of any size."""
    data = ipp.encode(sent) + document
    assert decode([data]) == (sent, document)
    assert decode([data[n : n + size] for n in range(0, len(data), size)]) == (sent, document)


def test_a_buffer_that_is_used_again_does_not_change_a_message() -> None:
    """What was decoded from a buffer of the caller's is a copy."""
    buffer = bytearray(ipp.encode(Message((2, 0), 2, 1, [ipp.group(1, EVERY_SYNTAX)])) + b"doc")
    decoder = Decoder()
    message = decoder.feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert message is not None
    assert list(message.groups[0].attributes.values()) == EVERY_SYNTAX
    assert decoder.rest == b"doc"


def test_dates_are_moments() -> None:
    """A date and time is a number of seconds, wherever it was written."""
    assert DateTime.at(1_000_000_000.25).unix_s == 1_000_000_000
    assert DateTime.at(1_000_000_000.25).decisecond == 2
    assert DateTime(2001, 9, 9, 3, 46, 40, 0, "+", 2, 0).unix_s == 1_000_000_000
    assert DateTime(2001, 9, 8, 22, 16, 40, 0, "-", 3, 30).unix_s == 1_000_000_000
    assert DateTime(0, 1, 1, 0, 0, 0, 0, "+", 0, 0).unix_s is None


def test_what_is_too_long_for_a_text_is_cut_at_a_character() -> None:
    """A long title costs its end, not the answer; other values are as they are."""
    attributes = [ipp.name_("name", "ä" * 200), ipp.text("text", "x" + "€" * 500)]
    attributes.append(
        Attribute("both", [Value(Tag.NAME_LANGUAGE, ipp.WithLanguage("de", "ä" * 200))])
    )
    message, _ = decode([ipp.encode(Message((2, 0), 0, 1, [ipp.group(1, attributes)]))])
    assert message is not None
    found = message.groups[0]
    assert found.first("name") == "ä" * 127
    assert found.first("text") == "x" + "€" * 340
    assert found.first("both").text == "ä" * 127


@pytest.mark.parametrize(
    "attribute",
    [
        ipp.integer("a", 1 << 31),
        ipp.integer("", 1),
        ipp.integer("a" * 256, 1),
        ipp.uri("a", "x" * 40000),
        ipp.octets("a", bytes(40000)),
        ipp.date_time("a", DateTime(70000, 1, 1, 0, 0, 0, 0, "+", 0, 0)),
        ipp.range_("a", ipp.Range(0, 1 << 40)),
        Attribute("a", [Value(Tag.END_COLLECTION, b"")]),
    ],
)
def test_a_value_that_cannot_be_sent_is_an_error_of_ours(attribute: Attribute) -> None:
    """The encoder never writes what a decoder would refuse as malformed."""
    with pytest.raises(ValueError, match=r"value|name"):
        ipp.encode_group(Tag.JOB, [attribute])


def test_text_that_has_no_encoding_is_sent_with_a_mark() -> None:
    """A lone surrogate, as a peer may have written it in JSON, does not stop an answer."""
    assert b"a?b" in ipp.encode_group(Tag.JOB, [ipp.name_("job-name", "a\ud800b")])


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
