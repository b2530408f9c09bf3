"""Operations over frames: each call runs in a task of its own, and the router answers it."""

from __future__ import annotations

from typing import Any

import trio

from spoold.codec import frame
from spoold.intake.frames_link import Link, refusal
from spoold.intake.router import Router
from spoold.model.errors import OperationError, SpooldError, StoreFailed
from spoold.model.principal import Port


class Calls:
    """The calls of one connection. What follows something lasts until the client ends it."""

    __slots__ = ("_calling", "_link", "_nursery", "_router", "following")

    def __init__(self, link: Link, router: Router, nursery: trio.Nursery) -> None:
        self._link = link
        self._router = router
        self._nursery = nursery
        self._calling: dict[int, trio.CancelScope] = {}
        self.following: dict[int, trio.CancelScope] = {}

    async def start(self, id_: int, op: str, args: dict[str, Any]) -> None:
        link = self._link
        is_follow = op.endswith(".follow")
        if is_follow:
            try:
                link.check_room()
            except OperationError as error:
                link.outbox.put_nowait(refusal(id_, error))
                return
        scope = trio.CancelScope()
        link.ids.add(id_)
        if is_follow:
            self.following[id_] = scope
            link.open += 1
        else:
            self._calling[id_] = scope
            link.settling += 1
        self._nursery.start_soon(self._call, id_, op, args, scope)
        await link.keep_pace()

    def abort(self, id_: int) -> None:
        """The client does not want the answer; an id that is answered already is none of ours."""
        scope = self.following.get(id_) or self._calling.get(id_)
        if scope is not None:
            scope.cancel()

    def stop_following(self) -> None:
        for scope in self.following.values():
            scope.cancel()

    async def _call(self, id_: int, op: str, args: dict[str, Any], scope: trio.CancelScope) -> None:
        link = self._link

        async def send_event(name: str, event_args: dict[str, Any]) -> None:
            link.event(id_, name, event_args)
            await link.outbox.room()

        reply = b""
        try:
            with scope:
                result = await self._router.call(link.principal, op, args, send_event)
                reply = frame.answer(id_, result)
            if not reply:
                reply = frame.refusal(id_, "canceled", "the client aborted it.")
        except StoreFailed as error:
            link.fail(error)
        except (OperationError, SpooldError) as error:
            reply = refusal(id_, error, tells_causes=link.principal.port is Port.CONTROL)
        except frame.MessageTooLarge:
            message = "the answer is larger than a message may be."
            reply = frame.refusal(id_, "too-large", message, "Ask for fewer at a time (limit).")
        finally:
            if self.following.pop(id_, None) is not None:
                link.closed()
            else:
                del self._calling[id_]
                link.settled()
        if reply:
            link.answer(id_, reply)
