"""Messages of IPP that CUPS wrote, and a decoder that is fed whole."""

from __future__ import annotations

from pathlib import Path

from spoold.codec import ipp
from spoold.codec.ipp import Decoder, Limits, Message


def captures() -> dict[str, bytes]:
    """What real programs sent, by name."""
    path = Path(__file__).parents[1] / "codec" / "ipp_captures.hex"
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
