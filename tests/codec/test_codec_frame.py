"""Frames: every chunking reads the same, hostile bytes give one error, FRAMES.md is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import spoold.codec.frame as frame
from spoold.codec.frame import Answer, Chunk, Event, FrameReader, Refusal, Request
from spoold.model.errors import OperationError, RemoteProtocolError

FRAMES_MD = Path(frame.__file__).with_name("FRAMES.md")


def read(pieces: list[bytes], *, expects_magic: bool = False) -> list[Any]:
    """What a reader makes of `pieces`, with the parts of one chunk joined again."""
    reader = FrameReader(expects_magic=expects_magic)
    items: list[Any] = []
    for piece in pieces:
        for item in reader.feed(piece):
            if isinstance(item, Chunk):
                data = bytes(item.data)
                last = items[-1] if items else None
                if isinstance(last, tuple) and last[0] == "chunk" and last[1] == item.id:
                    assert last[2] + len(last[3]) == item.offset
                    items[-1] = ("chunk", item.id, last[2], last[3] + data)
                else:
                    items.append(("chunk", item.id, item.offset, data))
            else:
                items.append(item)
    reader.end()
    return items


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    position = 0
    for size in sizes:
        pieces.append(stream[position : position + size])
        position += size
    pieces.append(stream[position:])
    return pieces


ids = st.integers(1, frame.ID_MAX)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20)
    | st.binary(max_size=20) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
maps = st.dictionaries(st.text(max_size=10), values, max_size=6)
messages = st.one_of(
    st.builds(Request, ids, st.text(max_size=20), maps),
    st.builds(Answer, ids, maps),
    st.builds(Event, ids, st.text(max_size=20), maps),
    st.builds(Refusal, st.integers(0, frame.ID_MAX), st.text(max_size=20), st.text(max_size=20),
              st.text(max_size=20), st.just({"versions": [1]})),
    st.builds(lambda i, o, d: ("chunk", i, o, d), ids, st.integers(0, 2**62),
              st.binary(min_size=1, max_size=300)),
)  # fmt: skip


def encoded(item: Any) -> bytes:
    match item:
        case Request():
            return frame.request(*item)
        case Answer():
            return frame.answer(*item)
        case Event():
            return frame.event(*item)
        case Refusal(id_, code, message, advice, details):
            return frame.refusal(id_, code, message, advice, **details)
        case ("chunk", id_, offset, data):
            return frame.chunk_head(id_, offset, len(data)) + data
    raise AssertionError(item)


def joined(items: list[Any]) -> list[Any]:
    """Neighbouring chunks of one document that continue each other, as `read` joins them."""
    result: list[Any] = []
    for item in items:
        last = result[-1] if result else None
        if not isinstance(item, Request | Answer | Event | Refusal) and (
            isinstance(last, tuple)
            and last[0] == "chunk"
            and last[1] == item[1]
            and last[2] + len(last[3]) == item[2]
        ):
            result[-1] = ("chunk", last[1], last[2], last[3] + item[3])
        else:
            result.append(item)
    return result


@given(st.lists(messages, max_size=6), st.lists(st.integers(0, 40), max_size=30))
def test_every_chunking_reads_the_same(items: list[Any], sizes: list[int]) -> None:
    """What was encoded is what is read, however the bytes are cut."""
    distinct = [
        item if not (isinstance(item, tuple) and item[0] == "chunk") else
        ("chunk", number + 1, item[2], item[3])
        for number, item in enumerate(items)
    ]  # fmt: skip
    stream = frame.MAGIC + b"".join(encoded(item) for item in distinct)
    assert read(cut(stream, sizes), expects_magic=True) == joined(distinct)


@given(st.lists(messages, max_size=4))
def test_one_byte_at_a_time_reads_the_same(items: list[Any]) -> None:
    """A peer that sends single bytes is read like any other."""
    numbered = [
        ("chunk", number + 1, item[2], item[3])
        if isinstance(item, tuple) and item[0] == "chunk"
        else item
        for number, item in enumerate(items)
    ]
    stream = b"".join(encoded(item) for item in numbered)
    assert read([bytes([byte]) for byte in stream]) == numbered


@given(st.binary(max_size=400), st.lists(st.integers(0, 40), max_size=10), st.booleans())
@example(b"\x00\x00\x00\x01\x80", [], False)
@example(b"\x00\x00\x00\x06\xd6\xff\x00\x00\x00\x00", [], False)
def test_random_bytes_raise_only_protocol_errors(
    stream: bytes, sizes: list[int], expects_magic: bool
) -> None:
    """Any bytes are items or a RemoteProtocolError, and the error comes again at the next call."""
    reader = FrameReader(expects_magic=expects_magic)
    failed = False
    for piece in cut(stream, sizes):
        if failed:
            with pytest.raises(RemoteProtocolError):
                list(reader.feed(piece))
            continue
        try:
            list(reader.feed(piece))
        except RemoteProtocolError as error:
            failed = error.reply_hint in ("bad-request", "too-large")
            assert failed


@given(st.binary(max_size=300))
def test_random_message_bodies_raise_only_protocol_errors(body: bytes) -> None:
    """A well-framed body of anything is a message or a RemoteProtocolError."""
    try:
        list(FrameReader().feed(len(body).to_bytes(4, "big") + body))
    except RemoteProtocolError:
        pass


@given(values)
def test_messages_of_any_shape_raise_only_protocol_errors(value: Any) -> None:
    """msgpack that is no envelope is refused with the one error."""
    body = msgpack.packb(value)
    with pytest.raises(RemoteProtocolError):
        list(FrameReader().feed(len(body).to_bytes(4, "big") + body))


def feed_bytewise(reader: FrameReader, stream: bytes) -> None:
    for byte in stream:
        list(reader.feed(bytes([byte])))


def framed(value: Any) -> bytes:
    body = value if isinstance(value, bytes) else msgpack.packb(value)
    return len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "stream",
    [
        b"\x00\x00\x00\x00",  # an empty message
        b"\x00\x01\x00\x01",  # a message of 64 KiB and a byte
        b"\x80\x00\x00\x0c",  # a chunk without a byte
        b"\x80\x10\x00\x0d",  # a chunk of 1 MiB and a byte
        b"\x80\x00\x00\x0d" + bytes(4) + bytes(8) + b"x",  # a chunk for id 0
        b"\x80\x00\x00\x0d" + b"\x80\x00\x00\x00" + bytes(8) + b"x",  # an id of 32 bits
        b"\x80\x00\x00\x0d" + b"\x00\x00\x00\x01" + b"\x7f" + b"\xff" * 7 + b"x",  # past 2^63
        framed({"id": 0, "op": "ping", "args": {}}),
        framed({"id": -1, "op": "ping", "args": {}}),
        framed({"id": 1 << 31, "op": "ping", "args": {}}),
        framed({"id": True, "op": "ping", "args": {}}),
        framed({"id": 1.0, "op": "ping", "args": {}}),
        framed({"op": "ping", "args": {}}),
        framed({"id": 1, "op": "ping"}),
        framed({"id": 1, "op": "ping", "args": []}),
        framed({"id": 1, "op": "ping", "args": {}, "user": "root"}),
        framed({"id": 1, "op": "ping", "event": "ping", "args": {}}),
        framed({"id": 1, "result": {}, "error": {"code": "x", "message": "y"}}),
        framed({"id": 1, "result": []}),
        framed({"id": 0, "result": {}}),
        framed({"id": 1, "error": {"message": "y"}}),
        framed({"id": 1, "error": {"code": 7, "message": "y"}}),
        framed([1, "ping", {}]),
        framed({b"id": 1, "op": "ping", "args": {}}),
        framed({"id": 1, "op": "ping", "args": {b"user": 1}}),
        framed({1: 1, "op": "ping", "args": {}}),
        framed(b"\x84\xa2id\x01\xa2id\x01\xa2op\xa1x\xa4args\x80"),  # id stands twice
        framed(b"\x83\xa2id\x01\xa2op\xa1x\xa4args\x82\xa1a\x01\xa1a\x02"),
        framed(b"\x83\xa2id\x01\xa2op\xa1x\xa4args\x80\x00"),  # a byte after the message
        framed(
            b"\x83\xa2id\x01\xa2op\xa1x\xa4args\x81\xa1t\xd6\xff\x00\x00\x00\x00"
        ),  # a timestamp
        framed(b"\x83\xa2id\x01\xa2op\xa1x\xa4args\x81\xa1t\xc7\x00\x05"),  # an empty extension
        framed(b"\x83\xa2id\x01\xa2op\xa2\xff\xfe\xa4args\x80"),  # not UTF-8
        framed(b"\x91" * 60000 + b"\x90"),  # nested too deep
        framed({"id": 1, "op": "x", "args": {"many": [0] * 1025}}),
        framed({"id": 1, "op": "x", "args": {"long": "x" * 8193}}),
        framed({"id": 1, "op": "x", "args": {str(n): n for n in range(257)}}),
    ],
    ids=lambda stream: stream[:24].hex(),
)
def test_hostile_frames_are_refused(stream: bytes) -> None:
    """Each breach of the framing or of the envelope is refused, in one piece and bytewise."""
    with pytest.raises(RemoteProtocolError):
        list(FrameReader().feed(stream))
    reader = FrameReader()
    with pytest.raises(RemoteProtocolError):
        feed_bytewise(reader, stream)


def test_a_wrong_length_is_refused_before_what_it_announces() -> None:
    """Nobody waits for, or keeps, a message that is too large."""
    for word in (b"\x00\x01\x00\x01", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"):
        reader = FrameReader()
        with pytest.raises(RemoteProtocolError, match="impossible length"):
            list(reader.feed(word))


def test_the_magic_is_asked_for_bytewise() -> None:
    """A connection that does not begin with the magic fails at its first wrong byte."""
    reader = FrameReader(expects_magic=True)
    assert list(reader.feed(b"\x00SPOOL")) == []
    with pytest.raises(RemoteProtocolError, match="begin"):
        list(reader.feed(b"X"))


def test_items_before_an_error_are_delivered() -> None:
    """A message before broken framing in the same bytes is not lost."""
    items = FrameReader().feed(frame.request(1, "ping", {}) + b"\x00\x00\x00\x00")
    assert next(items) == Request(1, "ping", {})
    with pytest.raises(RemoteProtocolError):
        next(items)


def test_an_end_within_a_frame_is_an_error() -> None:
    """A cut is told from an orderly end in every state of the reader."""
    whole = frame.request(1, "ping", {})
    for stream in (whole[:2], whole[:9], frame.chunk_head(1, 0, 5)[:9], frame.chunk_head(1, 0, 5)):
        reader = FrameReader()
        list(reader.feed(stream))
        with pytest.raises(RemoteProtocolError, match="within"):
            reader.end()
    reader = FrameReader()
    list(reader.feed(whole))
    reader.end()


def test_chunks_show_the_callers_buffer() -> None:
    """No document byte is copied: a change of the buffer is seen through the chunk."""
    buffer = bytearray(frame.chunk_head(3, 10, 4) + b"abcd")
    (chunk,) = FrameReader().feed(memoryview(buffer))
    assert isinstance(chunk, Chunk)
    assert (chunk.id, chunk.offset, bytes(chunk.data)) == (3, 10, b"abcd")
    buffer[-1:] = b"X"
    assert bytes(chunk.data) == b"abcX"


def test_our_own_messages_are_bounded() -> None:
    """A message over 64 KiB, or a chunk over 1 MiB, is not made."""
    with pytest.raises(frame.MessageTooLarge):
        frame.answer(1, {"jobs": ["x" * 8000] * 9})
    with pytest.raises(OperationError) as caught:
        frame.request(1, "user.add", {"name": "x" * 65_536})
    assert caught.value.code == "too-large"
    for length in (0, frame.CHUNK_BYTES_MAX + 1):
        with pytest.raises(ValueError, match="a chunk of"):
            frame.chunk_head(1, 0, length)


def test_versions_settle_on_the_highest_common_one() -> None:
    """N talks to N-1, and nonsense is the peer's fault."""
    assert frame.highest_common_version([0, 1]) == 1
    assert frame.highest_common_version([1, 2]) == 1
    assert frame.highest_common_version([1, 2, 3], (2, 1)) == 2
    assert frame.highest_common_version([7]) is None
    for offered in ([], None, 1, ["1"], [True], [1.0], [1] * 65):
        with pytest.raises(RemoteProtocolError):
            frame.highest_common_version(offered)


def test_the_example_of_frames_md_is_true() -> None:
    """Each line of the worked example is exactly what the codec makes and reads."""
    text = FRAMES_MD.read_text("utf-8")
    directions: dict[str, list[str]] = {"C": [], "S": []}
    for direction, line in re.findall(r"^    ([CS]): ([0-9a-f ]+)$", text, re.MULTILINE):
        directions[direction].append(line)
    client = bytes.fromhex("".join(directions["C"]))
    server = bytes.fromhex("".join(directions["S"]))
    uuid = "0123456789ab4def8123456789abcdef"
    digest = "blake3:ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
    sent = read([client], expects_magic=True)
    assert sent == [
        Request(1, "hello", {"versions": [1], "kind": "provider"}),
        Request(2, "submit", {"job_uuid": uuid, "printer": "labels", "size": 5, "eager": True}),
        ("chunk", 2, 0, b"hello"),
        Event(2, "end", {"size": 5, "digest": digest}),
        Request(2, "mfd.login", {"card": "04A1B2C3"}),
    ]
    assert client == frame.MAGIC + b"".join(encoded(item) for item in sent)
    answers = read([server])
    assert server == b"".join(encoded(item) for item in answers)
    assert [item.id for item in answers] == [1, 2]
    assert answers[0].result["version"] == 1
    assert answers[1].result == {
        "job_id": 7,
        "job_uuid": str(UUID(uuid)),
        "position": 12,
        "state": "pending", "duplicate": False,
        "node_guid": answers[0].result["node_guid"],
    }  # fmt: skip
