"""How a stream may be cut into pieces: what a codec says of it must be the same for all."""

from __future__ import annotations

from collections.abc import Callable

Cut = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data]


def one_by_one(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


def by_seven(data: bytes) -> list[bytes]:
    return [data[n : n + 7] for n in range(0, len(data), 7)]


EVERY_CUT = (whole, one_by_one, by_seven)
