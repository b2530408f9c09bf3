"""One connection of frames, as its rooms see it: where answers go, and what is unanswered.

`frames` makes it; the class of a version (`frames_v1`) and its calls (`frames_calls`) work with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import trio

from spoold.codec import frame
from spoold.model.errors import OperationError, SpooldError, SpoolFull, StoreFailed
from spoold.model.principal import Principal
from spoold.net.bell import Bell
from spoold.net.outbox import Outbox
from spoold.net.stream import Stream


@dataclass(frozen=True, slots=True)
class Settings:
    ping_s: float = 15.0
    inflight_max: int = 256
    hello_deadline_s: float = 10.0
    upload_idle_deadline_s: float = 300.0
    send_timeout_s: float = 60.0
    drain_s: float = 10.0


@dataclass(slots=True, eq=False)
class Link:
    """Cancelling `receiving` ends the connection.

    `ids` are the requests without an answer, `settling` counts those that end without the client
    (commits, and calls that follow nothing), `open` those that need it (uploads, and what it
    follows). `changed` wakes who waits for fewer of them.
    """

    stream: Stream
    outbox: Outbox
    principal: Principal
    settings: Settings
    receiving: trio.CancelScope = field(default_factory=trio.CancelScope)
    is_stopping: bool = False
    failure: StoreFailed | None = None
    ids: set[int] = field(default_factory=set)
    settling: int = 0
    open: int = 0
    changed: Bell = field(default_factory=Bell)

    def fail(self, error: StoreFailed) -> None:
        self.failure = error
        self.receiving.cancel()

    def answer(self, id_: int, reply: bytes) -> None:
        self.ids.discard(id_)
        self.outbox.put_nowait(reply)

    def event(self, id_: int, name: str, args: dict[str, Any]) -> None:
        self.outbox.put_nowait(frame.event(id_, name, args))

    def check_room(self) -> None:
        """One more request that needs the client may come.

        Raises:
            OperationError: `busy`; there are too many, or the daemon stops.
        """
        if self.is_stopping:
            raise OperationError("busy", "this server stops.", "Use another, or try again later.")
        if self.open >= self.settings.inflight_max:
            raise OperationError(
                "busy",
                f"{self.settings.inflight_max} requests of this connection wait for it.",
                "Finish some first; the welcome says how many there may be.",
            )

    def closed(self) -> None:
        """One of the open requests needs the client no more."""
        self.open -= 1
        self.changed.ring()

    def settled(self) -> None:
        self.settling -= 1
        self.changed.ring()

    async def keep_pace(self) -> None:
        """Read on when less than the most is under way."""
        while self.settling >= self.settings.inflight_max:
            await self.changed.wait()


def refusal(id_: int, error: OperationError | SpooldError, tells_causes: bool = False) -> bytes:
    """The answer for an error. `tells_causes`: to an operator, who may know what failed here."""
    if isinstance(error, OperationError):
        return frame.refusal(id_, error.code, error.message, error.advice)
    code = "spool-area-full" if isinstance(error, SpoolFull) else "internal-error"
    if tells_causes:
        return frame.refusal(id_, code, str(error), error.advice)
    if isinstance(error, SpoolFull):
        message, advice = "the spool has no room for more jobs.", "Try again later."
    else:
        message, advice = "the server could not do it.", "Its log says why."
    return frame.refusal(id_, code, message, advice)
