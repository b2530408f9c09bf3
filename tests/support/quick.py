"""Nodes with the cost of their passwords left out: in this process, or as processes of their own.

`Forked(module="support.quick")` is the command `spoold` so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

from spoold.accounts.passwords import Passwords
from spoold.cli import main as spoold
from spoold.daemon import rooms

QUICK_KIB = 64


@contextmanager
def quick_passwords() -> Iterator[None]:
    """A node that starts meanwhile makes a hash in a millisecond, not in 0.15 s of a processor."""
    with mock.patch.object(rooms, "Passwords", partial(Passwords, memory_kib=QUICK_KIB)):
        yield


def main() -> int:
    """What the command says."""
    with quick_passwords():
        return spoold()
