"""People who log in at a site that has no copy of them: it asks its application server.

A site copies the groups of its scope; whoever else comes is a guest, and somebody who was added
this moment is not here yet. The application server looks at what was shown, counts failures by its
own rules, and lets the site have a copy; then the site looks again, as for everybody. Cut off, or
without an answer in time, the person stays unknown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from spoold.accounts.authentication import Credential
from spoold.model.card import Digests
from spoold.model.errors import OperationError
from spoold.model.person import normalise_name
from spoold.site.line import Line, Lost
from spoold.spool import people
from spoold.spool.reader import SqliteReader

log = structlog.get_logger("spoold.site")

PASSWORD_S = 3.0  # a password takes longer to look at than a card, and a directory longer still
PULL_S = 5.0


class Visitors:
    """`catch_up` makes this node's copy what the application server has now."""

    def __init__(
        self,
        line: Line,
        reader: SqliteReader,
        digests: Digests,
        catch_up: Callable[[], Awaitable[object]],
        deadline_s: float,
    ) -> None:
        self._line = line
        self._reader = reader
        self._digests = digests
        self._catch_up = catch_up
        self._deadline_s = deadline_s

    async def fetch(self, credential: Credential, where: str) -> bool:
        """Have a copy of whoever shows this at the machine `where`; whether there is one now.

        Raises:
            OperationError: `busy`: too many were refused before, it was not looked at.
        """
        if not self._line.is_connected or await self.is_known(credential):
            return False
        shown = {
            "card": credential.card,
            "pin": credential.pin,
            "name": credential.name,
            "password": credential.password,
        }
        asked = {name: value for name, value in shown.items() if value}
        deadline_s = max(self._deadline_s, PASSWORD_S) if credential.name else self._deadline_s
        try:
            answer = await self._line.call("site.visit", asked | {"where": where}, deadline_s)
            with trio.fail_after(PULL_S):
                await self._catch_up()
        except (Lost, trio.TooSlowError):
            return False
        except OperationError as error:
            if error.code == "busy":
                raise
            return False
        log.info("visitor_copied", user=answer["user"])
        return True

    async def is_known(self, credential: Credential) -> bool:
        """Whether the copy has the person: then what was shown is wrong, here as there."""
        if credential.name:
            return await self._reader.user(normalise_name(credential.name)) is not None
        if credential.card:
            digests = tuple(self._digests.cards(credential.card))
            return await self._reader.look(people.by_card, digests) is not None
        return False
