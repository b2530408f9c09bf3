"""Frames: length-prefixed msgpack messages and raw document chunks over one byte stream.

`FRAMES.md` beside this file is the protocol. Bytes enter `FrameReader.feed`, messages and parts of
chunks leave it; the functions above it make the bytes of each message. A document byte is never
copied here: a `Chunk` shows the caller's own buffer.

Promised: whatever the bytes, `feed` raises nothing but `RemoteProtocolError`, and holds at most one
message (64 KiB) between two calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Any, NamedTuple, NoReturn

import msgpack

from spoold.model.errors import OperationError, RemoteProtocolError

MAGIC = b"\x00SPOOLD1"
VERSIONS = (1,)
MESSAGE_BYTES_MAX = 65536
TEXT_BYTES_MAX = 8192
CHUNK_BYTES_MAX = 1 << 20
ID_MAX = (1 << 31) - 1
OFFSET_MAX = (1 << 63) - 1
VERSIONS_OFFERED_MAX = 64

_CHUNK_BIT = 1 << 31
_WORD = Struct(">I")
_ID_AND_OFFSET = Struct(">IQ")
_CHUNK_HEAD = Struct(">IIQ")
_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class Request(NamedTuple):
    id: int
    op: str
    args: dict[str, Any]


class Answer(NamedTuple):
    id: int
    result: dict[str, Any]


class Refusal(NamedTuple):
    """An answer that is an error. `id` is 0 when it is about the connection itself."""

    id: int
    code: str
    message: str
    advice: str
    details: dict[str, Any]


class Event(NamedTuple):
    id: int
    name: str
    args: dict[str, Any]


class Chunk(NamedTuple):
    """Part of a document. `data` is valid until the buffer given to `feed` is used again."""

    id: int
    offset: int
    data: memoryview


Message = Request | Answer | Refusal | Event
Item = Message | Chunk


class MessageTooLarge(ValueError):
    """A message of ours would be over 64 KiB; nothing was made of it."""


def request(id_: int, op: str, args: dict[str, Any]) -> bytes:
    """The bytes of a request.

    Raises:
        OperationError: `too-large`: what is asked with does not fit into one.
    """
    try:
        return _message({"id": id_, "op": op, "args": args})
    except MessageTooLarge as error:
        raise OperationError("too-large", f"this is {error}.", "Say less.") from None


def answer(id_: int, result: dict[str, Any]) -> bytes:
    """Raises:
    MessageTooLarge: also of the two below.
    """
    return _message({"id": id_, "result": result})


def refusal(id_: int, code: str, message: str, advice: str = "", **details: Any) -> bytes:
    error = {"code": code, "message": message, "advice": advice, **details}
    return _message({"id": id_, "error": error})


def event(id_: int, name: str, args: dict[str, Any]) -> bytes:
    return _message({"event": name, "id": id_, "args": args})


def _message(envelope: dict[str, Any]) -> bytes:
    body: bytes = _pack(envelope)
    length = len(body)
    if length > MESSAGE_BYTES_MAX:
        raise MessageTooLarge(
            f"a message of {length} bytes, and at most {MESSAGE_BYTES_MAX} may be"
        )
    return _WORD.pack(length) + body


def chunk_head(id_: int, offset: int, length: int) -> bytes:
    """The 16 bytes before `length` document bytes (1 to `CHUNK_BYTES_MAX`) from `offset` on."""
    if not 0 < length <= CHUNK_BYTES_MAX:
        raise ValueError(f"a chunk of {length} bytes; 1 to {CHUNK_BYTES_MAX} may be")
    return _CHUNK_HEAD.pack(_CHUNK_BIT | (length + 12), id_, offset)


def highest_common_version(offered: object, spoken: Iterable[int] = VERSIONS) -> int | None:
    """The version that hello settles on; None when there is none in common.

    Raises:
        RemoteProtocolError: `offered` is no list of 1 to 64 version numbers.
    """
    if (
        not isinstance(offered, list)
        or not 1 <= len(offered) <= VERSIONS_OFFERED_MAX
        or not all(type(version) is int for version in offered)
    ):
        _fail("hello must offer a list of version numbers")
    return max(set(spoken).intersection(offered), default=None)


class FrameReader:
    """The incremental decoder of one direction of a connection.

    `expects_magic` is for the server's side: the client's first 8 bytes are `MAGIC`.
    """

    __slots__ = ("_at_start", "_failed", "_id", "_kept", "_left", "_offset")

    def __init__(self, *, expects_magic: bool = False) -> None:
        self._at_start = expects_magic
        self._failed = False
        self._kept = bytearray()  # the front of a word, chunk head or message
        self._id = self._offset = self._left = 0  # the chunk that is arriving

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Item]:
        """What `data` completes, in order. Consume it wholly before the next call.

        Raises:
            RemoteProtocolError: the framing is broken; there is nothing more to be read here.
        """
        if self._failed:
            _fail("the framing was broken before")
        try:
            yield from self._items(memoryview(data))
        except RemoteProtocolError:
            self._failed = True
            self._kept.clear()
            raise

    def end(self) -> None:
        """The peer ended its half.

        Raises:
            RemoteProtocolError: in the middle of a frame.
        """
        if self._kept or self._left or self._at_start:
            _fail("the connection ended within a frame")

    def _items(self, view: memoryview) -> Iterator[Item]:
        position = 0
        end = len(view)
        while position < end:
            if self._left:
                part = view[position : position + self._left]
                taken = len(part)
                offset = self._offset
                self._offset += taken
                self._left -= taken
                position += taken
                yield Chunk(self._id, offset, part)
                continue
            if self._kept or self._at_start:
                position, message = self._complete(view, position)
                if message is not None:
                    yield message
                continue
            if end - position < 4:
                break
            (word,) = _WORD.unpack_from(view, position)
            start = position + 4
            if word & _CHUNK_BIT:
                if end - start < 12:
                    _checked(word)
                    break
                self._begin_chunk(word, *_ID_AND_OFFSET.unpack_from(view, start))
                position = start + 12
                continue
            _checked(word)
            if end - start < word:
                break
            position = start + word
            yield _decode(view[start:position])
        if position < end:
            self._kept += view[position:]

    def _complete(self, view: memoryview, position: int) -> tuple[int, Message | None]:
        """Go on with what was kept; the new position, and the message when it is whole."""
        kept = self._kept
        if self._at_start:
            taken = view[position : position + len(MAGIC) - len(kept)]
            kept += taken
            if not MAGIC.startswith(kept):
                _fail("the connection does not begin like frames")
            if len(kept) == len(MAGIC):
                kept.clear()
                self._at_start = False
            return position + len(taken), None
        needed = 4
        word = 0
        if len(kept) >= 4:
            (word,) = _WORD.unpack_from(kept)
            needed += _checked(word)
        taken = view[position : position + needed - len(kept)]
        kept += taken
        position += len(taken)
        if len(kept) < needed:
            return position, None
        if needed == 4:
            _checked(_WORD.unpack_from(kept)[0])  # refuse a wrong length at once
            return position, None
        # The bytes leave `_kept` before they are looked at, so that nothing is read twice.
        body = bytes(kept[4:])
        kept.clear()
        if word & _CHUNK_BIT:
            self._begin_chunk(word, *_ID_AND_OFFSET.unpack(body))
            return position, None
        return position, _decode(memoryview(body))

    def _begin_chunk(self, word: int, id_: int, offset: int) -> None:
        _checked(word)
        length = (word & ~_CHUNK_BIT) - 12
        if not 0 < id_ <= ID_MAX:
            _fail("a chunk has an impossible id")
        if offset > OFFSET_MAX - length:
            _fail("a chunk has an impossible offset")
        self._id, self._offset, self._left = id_, offset, length


def _checked(word: int) -> int:
    """The bytes that must be there at once after this word: a whole message, or a chunk's head."""
    if word & _CHUNK_BIT:
        if not 12 < word & ~_CHUNK_BIT <= CHUNK_BYTES_MAX + 12:
            _fail("a chunk has an impossible length", "too-large")
        return 12
    if not 0 < word <= MESSAGE_BYTES_MAX:
        _fail("a message has an impossible length", "too-large")
    return word


def _map(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in a map")
    "".join(result)  # the quickest way to ask whether every key is text
    return result


def _no_extension(code: int, data: bytes) -> NoReturn:
    raise ValueError("extension types are not used")


def _decode(body: memoryview) -> Message:
    try:
        envelope = msgpack.unpackb(
            body,
            object_pairs_hook=_map,
            ext_hook=_no_extension,
            raw=False,
            strict_map_key=True,
            max_array_len=1024,
            max_map_len=256,
            max_str_len=TEXT_BYTES_MAX,
            max_bin_len=MESSAGE_BYTES_MAX,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(f"not a message: {error}", "bad-request") from error
    if type(envelope) is not dict:
        _fail("a message must be a map")
    id_ = envelope.get("id")
    if type(id_) is not int or not 0 <= id_ <= ID_MAX:
        _fail("a message needs an id")
    size = len(envelope)
    if size == 3:
        args = envelope.get("args")
        op = envelope.get("op")
        if type(args) is dict and id_ != 0:
            if type(op) is str:
                return Request(id_, op, args)
            name = envelope.get("event")
            if type(name) is str:
                return Event(id_, name, args)
    elif size == 2:
        result = envelope.get("result")
        if type(result) is dict and id_ != 0:
            return Answer(id_, result)
        error_ = envelope.get("error")
        if type(error_) is dict:
            return _refusal(id_, error_)
    raise RemoteProtocolError("neither a request, an answer nor an event", "bad-request")


def _refusal(id_: int, error: dict[str, Any]) -> Refusal:
    code = error.pop("code", None)
    message = error.pop("message", None)
    advice = error.pop("advice", "")
    if type(code) is not str or type(message) is not str or type(advice) is not str:
        _fail("an error needs a code and a message")
    return Refusal(id_, code, message, advice, error)


def _fail(message: str, hint: str = "bad-request") -> NoReturn:
    raise RemoteProtocolError(message, hint)
