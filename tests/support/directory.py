"""Who logs in: the real authentication over a test's spool."""

from __future__ import annotations

from spoold.accounts.authentication import Authentication
from spoold.accounts.guard import Guard
from spoold.accounts.passwords import Passwords
from spoold.model.card import Digests

DIGESTS = Digests([bytes(range(32))])


def authentication_of(spool, passwords=None, wall_clock=None) -> Authentication:
    """Its throttles are new; `start` takes up those that the spool keeps."""
    passwords = passwords or Passwords(memory_kib=64)
    clock = wall_clock or spool.wall_clock
    guard = Guard(spool.reader, spool.journal, DIGESTS, clock)
    return Authentication(spool.reader, spool.journal, passwords, DIGESTS, guard, clock)
