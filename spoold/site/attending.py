"""What the application server has this site do to jobs that stand here (FRAMES.md 12).

In: `errands`, told over the line. Out: each is done here, once, and answered. One that came with a
line that is gone is done all the same; the answer to it is nobody's any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio

from spoold.model.errors import OperationError, SpooldError, StoreFailed
from spoold.site.errands import EVENT
from spoold.site.line import Line, Lost, not_done

log = structlog.get_logger("spoold.site")

ANSWER_S = 5.0

Do = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]  # raises OperationError


class Attending:
    """`do` does an operation with its arguments, in the name of the application server."""

    def __init__(self, line: Line, do: Do) -> None:
        self._line = line
        self._do = do
        self._bell = trio.Event()
        line.hear(EVENT, self._asked)

    def _asked(self, _: dict[str, Any]) -> None:
        self._bell.set()

    async def run(self) -> None:
        """Attend, for ever."""
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            try:
                answer = await self._line.call("site.errands", {}, ANSWER_S)
                for one in answer["errands"]:
                    await self._attend(one)
            except (Lost, OperationError) as error:
                log.info("errands_unheard", reason=str(error))

    async def _attend(self, one: dict[str, Any]) -> None:
        told: dict[str, Any] = {"number": one["number"]}
        try:
            told["result"] = await self._do(one["op"], one["args"])
            log.info("errand_done", op=one["op"], job=one["args"].get("job"))
        except StoreFailed:
            raise
        except OperationError as error:
            told |= not_done(error)
        except SpooldError as error:
            told |= not_done(OperationError("internal-error", str(error)))
        await self._line.call("site.did", told, ANSWER_S)
