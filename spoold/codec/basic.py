"""HTTP Basic (RFC 7617) and Bearer (RFC 6750): an `Authorization` header in, credentials out.

Clients are told `charset="UTF-8"`; the old ones that do not know it send Latin-1.
"""

from __future__ import annotations

import base64
import binascii

CREDENTIALS_CHARACTERS_MAX = 8192


def credentials(header: str) -> tuple[str, str] | None:
    """Name and password; None when there are none, or none that can be read.

    The first colon ends the name, so that a password may have colons. A name may be empty.
    """
    scheme, _, encoded = header.partition(" ")
    encoded = encoded.strip()
    if scheme.lower() != "basic" or len(encoded) > CREDENTIALS_CHARACTERS_MAX:
        return None
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    name, colon, password = text.partition(":")
    return (name, password) if colon else None


def token(header: str) -> str | None:
    """The token; None when this is another scheme."""
    scheme, _, found = header.partition(" ")
    return found.strip() if scheme.lower() == "bearer" else None
