"""What is to be done to jobs that stand at sites: asked for here, done there.

In: an operation, for a job of a site. Out: what became of it there. The site is told to ask
(`errands`), as sites dial, and nobody dials them; it does what it is given, and says how that went
(FRAMES.md 12). Who asks has an answer soon: a site that does not ask in time, or has no line, does
nothing, and never will; where the line breaks after that, nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import trio

from spoold.model.errors import OperationError
from spoold.model.node import LineState
from spoold.site.presence import Presence

EVENT = "errands"  # told to a site: ask `site.errands`
DONE_S = 10.0  # what a site may take to do it


@dataclass(slots=True)
class _Errand:
    site: UUID
    op: str
    args: dict[str, Any]
    is_heard: trio.Event = field(default_factory=trio.Event)
    is_over: trio.Event = field(default_factory=trio.Event)
    result: dict[str, Any] | None = None
    error: OperationError | None = None


class Errands:
    """Sites go by their nodes' GUIDs. `deadline_s` is what a site may take to ask."""

    def __init__(self, sites: Presence, deadline_s: float) -> None:
        self._sites = sites
        self._deadline_s = deadline_s
        self._numbers = count(1)
        self._errands: dict[int, _Errand] = {}
        sites.listen(self._line_changed)

    async def run(
        self, site: UUID, name: str, op: str, args: dict[str, Any], advice: str
    ) -> dict[str, Any]:
        """The answer of the site, called `name`, to an operation. `advice`: what to do without it.

        Raises:
            OperationError: what the site says; `busy`: it cannot be reached, and does nothing;
                `in-doubt`: it may have done it.
        """
        number, one = next(self._numbers), _Errand(site, op, args)
        self._errands[number] = one
        try:
            if self._sites.is_up(site) and self._sites.tell(site, EVENT):
                with trio.move_on_after(self._deadline_s):
                    await one.is_heard.wait()
            if not one.is_heard.is_set():
                raise OperationError(
                    "busy", f"{name} cannot be reached now: the job stays as it is.", advice
                )
            with trio.move_on_after(DONE_S):
                await one.is_over.wait()
        finally:
            del self._errands[number]
        if one.error is not None:
            raise one.error
        if one.result is None:
            raise OperationError(
                "in-doubt",
                f"{name} was asked, and has not answered: nobody knows whether that was done.",
                "Look at the job again in a moment: `spoold job show`.",
            )
        return one.result

    def _line_changed(self, site: UUID, state: LineState) -> None:
        """Nobody waits for an answer that cannot come any more."""
        if state is not LineState.UP:
            for one in self._errands.values():
                if one.site == site and one.is_heard.is_set():
                    one.is_over.set()

    # -- what the site says ----------------------------------------------------------------------

    def take(self, site: UUID) -> list[dict[str, Any]]:
        """What the site is to do; asking is the sign that it does, and each is told once."""
        found = []
        for number, one in self._errands.items():
            if one.site == site and not one.is_heard.is_set():
                one.is_heard.set()
                found.append({"number": number, "op": one.op, "args": one.args})
        return found

    def did(
        self, site: UUID, number: int, result: dict[str, Any] | None, error: OperationError | None
    ) -> None:
        """How it went; whoever asked may have gone."""
        one = self._errands.get(number)
        if one is not None and one.site == site and one.is_heard.is_set():
            one.result, one.error = result, error
            one.is_over.set()
