"""IPP messages (RFC 8010): read and written, by anybody's pieces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import ipp
from spoold.codec.ipp import Attribute, DateTime, Decoder, Group, Message, Tag, Value
from spoold.codec.ipp_names import Operation, Status
from support.captures import CAPTURES, decode
from support.cuts import EVERY_CUT, Cut


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
