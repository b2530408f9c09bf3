"""MFDs that ask the table of operations, without a connection: in a test's own node, or a house."""

from __future__ import annotations

from uuid import uuid4

import pytest

from spoold.daemon.operations import build_table
from spoold.model.errors import OperationError
from spoold.model.principal import Port, Principal, Role
from spoold.web.openapi import fields
from support.json_schema import is_valid


class Panel:
    """An MFD that comes in; `ask` asks as it does, and is answered as OpenAPI says.

    `desk` has the `table`, and asks it.
    """

    def __init__(self, desk, guid, name):
        self.desk = desk
        roles = frozenset({Role.DEVICE})
        self.principal = Principal(f"device:{guid}", Port.MUTUAL, roles, name)
        self.session = ""

    async def ask(self, op, **args):
        answer = await self.desk.ask(f"mfd.{op}", self.principal, **args)
        described = self.desk.table.operations[f"mfd.{op}"].answers
        assert is_valid(fields(described, is_closed=True), answer), (op, answer)
        return answer

    async def at(self, op, **args):
        """As `ask`, in the session of who logged in."""
        return await self.ask(op, session=self.session, **args)

    async def login(self, **shown):
        answer = await self.ask("login", **shown)
        self.session = answer["session"]
        return answer

    async def refusal(self, op, **args) -> OperationError:
        with pytest.raises(OperationError) as caught:
            await self.ask(op, **args)
        return caught.value

    async def copy(self, pages, key=None, **more):
        """Authorize and report so many pages; the answer of the report."""
        key = key or str(uuid4())
        allowed = await self.at("authorize", work="copy", key=key, pages=pages, **more)
        line = {"impressions": allowed["pages"]}
        return await self.at("report", work="copy", key=key, lines=[line])


class Hall:
    """Where the MFDs of a house ask."""

    def __init__(self, house):
        self.table = build_table(house.services)

    async def ask(self, op, principal, **args):
        return await self.table.call(principal, op, args, _hear_nothing)


async def _hear_nothing(name, args):
    pass
