"""What intake knows of the operations of a node: that they can be asked for, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from spoold.model.principal import Principal

SendEvent = Callable[[str, dict[str, Any]], Awaitable[None]]


class Router(Protocol):
    async def call(
        self, principal: Principal, op: str, args: dict[str, Any], send_event: SendEvent
    ) -> dict[str, Any]:
        """The result of an operation.

        Raises:
            OperationError: it is refused; also when there is no such operation.
        """
        ...
