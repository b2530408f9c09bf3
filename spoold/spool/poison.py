"""What a fact of another node may raise that makes no sense here: a record, or an object.

It is undone, noted and left out: one that ended this node would do so again at each start.
Everything else is our own fault, or the disk's.
"""

from __future__ import annotations

import sqlite3

from spoold.model.errors import OperationError, RemoteProtocolError

POISON = (
    OperationError,
    RemoteProtocolError,
    AssertionError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    StopIteration,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
