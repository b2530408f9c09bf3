"""Ada, as she comes in by password, and operations that are refused."""

from __future__ import annotations

import pytest

from spoold.model.errors import OperationError
from spoold.model.principal import Port, Principal, Role

RIGHT = "correct horse"
ADA = Principal(
    "user:00000000-0000-4000-8000-0000000000ad",
    Port.TLS,
    frozenset({Role.USER, Role.ANYBODY}),
    "ada",
    (),
    "192.0.2.7",
    "basic",
)


async def refused(desk, op, principal=None, **args) -> OperationError:
    with pytest.raises(OperationError) as caught:
        await (desk.ask(op, principal, **args) if principal else desk.ask(op, **args))
    return caught.value
