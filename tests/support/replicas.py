"""An application server's spool and a site's, with a line in one process between them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from uuid import UUID

from conftest import open_spool

from spoold.accounts.vault import Vault
from spoold.model.card import Digests
from spoold.model.node import EVERYTHING, Node, NodeState, Scope
from spoold.provider.course import Lost
from spoold.site.objects import Objects
from spoold.site.presence import Presence
from spoold.site.replica import Replica
from spoold.spool import replication
from spoold.spool.replication import Target

HQ = UUID("00000000-0000-4000-8000-0000000000a0")
SITE = UUID("00000000-0000-4000-8000-00000000005e")
HQ_KEY = bytes(range(32))
SITE_KEY = bytes(range(32, 64))
VAULT = Vault(bytes(range(64, 96)))


class FakeErasure:
    """Who is to be erased at the site."""

    def __init__(self) -> None:
        self.noted: list[bytes] = []
        self.erased: list[bytes] = []

    async def note(self, key: bytes) -> None:
        self.noted.append(key)

    async def erase_key(self, key: bytes) -> None:
        self.erased.append(key)


class Wire:
    """The line of one site: `cuts` is how many more pieces go over it, None for any."""

    def __init__(self, objects: Objects, scope: Scope = EVERYTHING) -> None:
        self.objects = objects
        self.scope = scope
        self.is_connected = True
        self.cuts: int | None = None
        self.calls = 0
        self.carried = bytearray()

    async def call(self, op, args, deadline_s, on_event=None):
        assert op == "site.objects"
        self.calls += 1

        async def send(event, told):
            self._count()
            self.carried += told["piece"]
            on_event(event, told)

        answer = await self.objects.answer(
            self.node(), args["told"], args["key_ids"], args["limit"], send
        )
        self._count()
        return answer

    def node(self) -> Node:
        return Node(SITE, "library", NodeState.APPROVED, b"", 0, 0, self.scope)

    async def drop(self, event, told) -> None:
        """What is sent here comes nowhere."""

    def _count(self) -> None:
        if self.cuts is not None:
            self.cuts -= 1
            if self.cuts < 0:
                raise Lost("it was cut")


def serve(hq) -> Objects:
    """The application server's side over its spool."""
    presence = Presence(hq.wall_clock)
    return Objects(hq.journal, hq.reader, presence, Digests([HQ_KEY]), HQ, hq.wall_clock)


async def replica_of(site, wire, digests=None, **more) -> Replica:
    """The site's side over its spool, started."""
    found = Replica(
        wire,
        lambda: (HQ, "hq"),
        site.journal,
        site.reader,
        VAULT,
        digests or Digests([SITE_KEY]),
        FakeErasure(),
        site.wall_clock,
        "library",
        **more,
    )
    await found.start()
    return found


@asynccontextmanager
async def two(tmp_path):
    """`async with two(path) as (hq, site)`."""
    for name in ("hq", "site"):
        (tmp_path / name).mkdir(exist_ok=True)
    async with open_spool(tmp_path / "hq", HQ) as hq, open_spool(tmp_path / "site", SITE) as site:
        yield hq, site


async def everything(spool, scope: Scope = EVERYTHING) -> dict[tuple[str, bytes], dict]:
    """Every object that there is, as sites are told of it; passwords are opened."""
    target = Target(SITE, HQ, scope)
    copy, end, _ = await spool.reader.look(replication.begin, b"", target)
    found, has_more = {}, True
    while has_more:
        changed, copy, has_more = await spool.reader.look(replication.step, copy, end, target)
        for kind, key, state in changed:
            if state is not None and not state.get("is_erased"):
                if "password" in state:
                    state["password"] = VAULT.open_text(state["password"], key)
                found[kind, key] = state
    return found
