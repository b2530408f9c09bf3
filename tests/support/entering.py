"""`spoold` on another machine of `support.link`, for `Forked(module="support.entering")`.

The first word is the number of a process on that machine. Entering it takes root.
"""

from __future__ import annotations

import ctypes
import os
import sys

from spoold.cli import main as spoold

CLONE_NEWNET = 0x40000000  # <sched.h>
_c = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """What the command says. The network of the process is another one from now on."""
    with open(f"/proc/{sys.argv.pop(1)}/ns/net", "rb") as machine:
        if _c.setns(machine.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return spoold()
