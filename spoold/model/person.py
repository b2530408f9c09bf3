"""Who somebody is, how that is known, and the one normaliser of names."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import StrEnum


class Known(StrEnum):
    """How the owner of a job is known, weakest first."""

    CLAIMED = "claimed"  # the sender said so
    MAPPED = "mapped"  # a rule of the administrator said so
    ASSERTED = "asserted"  # a provider that may speak for this user said so
    AUTHENTICATED = "authenticated"  # the user proved it

    @property
    def rank(self) -> int:
        return _RANK[self]

    def is_at_least(self, least: Known) -> bool:
        return self.rank >= least.rank


_RANK = {known: number for number, known in enumerate(Known)}


@dataclass(frozen=True, slots=True)
class Owner:
    """The person that a job belongs to: `name` is normalised, empty when nobody is known.

    `by` names the provider, rule or method behind `known`.
    """

    name: str
    known: Known = Known.CLAIMED
    by: str = ""


NOBODY = Owner("")
NAME_CHARACTERS_MAX = 255


def normalise_name(text: str) -> str:
    """The one form of a user name, for every port: `DOMAIN\\u` and `u@REALM` become `u`.

    NFC, case folded, without control or format characters, at most 255 characters. An empty
    result means that no name was given.
    """
    name = unicodedata.normalize("NFC", text).strip()
    name = name.rsplit("\\", 1)[-1]
    local, at, _realm = name.partition("@")
    if at and local:
        name = local
    name = "".join(c for c in name if unicodedata.category(c)[0] != "C").casefold().strip()
    return name[:NAME_CHARACTERS_MAX]


def decode_text(raw: bytes, characters_max: int = 255) -> str:
    """Text of unknown encoding from PJL, LPD or CSV as NFC: UTF-8, else Latin-1.

    Control characters become spaces. The caller keeps the raw bytes where they matter.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text.strip()[:characters_max]
