"""Passwords of users who came from a directory: it is asked whether they are right.

Only where a source says so (`logins`), and only for its users who have no password here. While the
directory cannot be asked nobody gets in that way, and nothing counts as a failure; cards and PINs
go on, and so does what was right a moment ago (see `daemon/logins.py`). How long an answer takes
tells that a name is one of a directory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from spoold.accounts import ldap
from spoold.model.errors import OperationError
from spoold.model.source import Source
from spoold.model.user import User
from spoold.spool import synchronised
from spoold.spool.reader import SqliteReader

log = structlog.get_logger("spoold.accounts")

AT_ONCE = 4  # each is a process for a moment
WAITING_MAX = 64


class Elsewhere:
    """`verify` asks a source whether the person with an id has a password."""

    def __init__(
        self,
        reader: SqliteReader,
        verify: Callable[[Source, str, str], Awaitable[bool]] = ldap.verify,
    ) -> None:
        self._reader = reader
        self._verify = verify
        self._turns = trio.Semaphore(AT_ONCE)

    async def is_right(self, user: User, password: str) -> bool:
        """Whether this is the password of a user who has none here.

        Raises:
            OperationError: `busy`: the directory was not asked, or does not answer.
        """
        origin = await self._reader.look(synchronised.origin_of, user.guid)
        if origin is None or not origin.is_asked:
            return False
        if self._turns.statistics().tasks_waiting >= WAITING_MAX:
            raise OperationError("busy", "too many logins wait.", "Try again in a moment.")
        async with self._turns:
            try:
                return await self._verify(origin.source, origin.id, password)
            except ldap.DirectoryError as error:
                log.warning("directory_silent", source=origin.source.name, reason=str(error.cause))
                raise OperationError(
                    "busy",
                    "the directory of this user does not answer.",
                    "Try again later, or log in by card or PIN.",
                ) from error
