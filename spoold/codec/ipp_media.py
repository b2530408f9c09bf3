"""Media by their self-describing names (PWG 5101.1), as the collections of PWG 5100.7.

Dimensions are in hundredths of a millimetre. A name that does not describe itself has no size.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

_SIZE = re.compile(
    r"[a-z]+_[a-z0-9][-a-z0-9.]*_([0-9]{1,5}(?:\.[0-9]{1,4})?)x([0-9]{1,5}(?:\.[0-9]{1,4})?)(mm|in)"
).fullmatch
_UNIT = {"mm": Decimal(100), "in": Decimal(2540)}


@lru_cache(maxsize=1024)
def size_of(name: str) -> tuple[int, int] | None:
    """Width and length of the medium; None for a name such as `custom_min_...` has no pair of."""
    found = _SIZE(name)
    if found is None:
        return None
    unit = _UNIT[found[3]]
    return int(Decimal(found[1]) * unit), int(Decimal(found[2]) * unit)


def media_size(name: str) -> dict[str, int] | None:
    """The value of `media-size`."""
    size = size_of(name)
    return None if size is None else {"x-dimension": size[0], "y-dimension": size[1]}


def media_col(
    name: str, margins: tuple[int, int, int, int], kind: str, source: str
) -> dict[str, Any] | None:
    """A member of `media-col-database`; `margins` are bottom, left, right, top."""
    size = media_size(name)
    if size is None:
        return None
    bottom, left, right, top = margins
    return {
        "media-key": f"{name}_{kind}_{source}" if kind != "stationery" else name,
        "media-size": size,
        "media-size-name": name,
        "media-bottom-margin": bottom,
        "media-left-margin": left,
        "media-right-margin": right,
        "media-top-margin": top,
        "media-source": source,
        "media-type": kind,
    }
