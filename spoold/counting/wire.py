"""What passes between the daemon and its worker: a datagram each, JSON, at most 16 KiB.

The question comes with the descriptor of the document. The worker answers `taken` at once, then the
contents, and when colour was asked the contents again with it, later.
"""

from __future__ import annotations

import json
from typing import Any

MESSAGE_BYTES_MAX = 16 * 1024
TAKEN = b'"taken"'


def encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> dict[str, Any]:
    """The map in a message.

    Raises:
        ValueError: there is none.
    """
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("no map")
    return value
