"""Whole nodes on loopback, for tests: an application server, and sites that join it."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from types import SimpleNamespace

import trio

from spoold.daemon.config import Config, Drain, Listen, Node
from spoold.daemon.service import Daemon
from spoold.model.errors import OperationError
from spoold.net.address import Address
from spoold.provider.blocking import ControlClient
from support.ports import own_port
from support.quick import quick_passwords
from support.schema import lay_schema
from support.waiting import wait_until

ANYWHERE = (Address("127.0.0.1", 0),)
DOORS = ("clear", "tls", "mutual")


class House(SimpleNamespace):
    """A running node, asked on its control socket."""

    async def ask(self, op, **args):
        def ask():
            with ControlClient(self.running.control) as client:
                return client.call(op, args)

        return await trio.to_thread.run_sync(ask)

    @property
    def services(self):
        return self.running.services

    @property
    def line(self):
        return self.services.line

    @property
    def address(self):
        host, port = self.running.ports["mutual"]
        return f"{host}:{port}"

    async def stop(self):
        self.running.stop()
        await self.daemon.stopped.wait()


@asynccontextmanager
async def houses(tmp_path):
    """`start` of nodes, which stop at the end: `await start("hq")`, `start("library", "site")`.

    Their ports are nobody else's before that: a node that stops can come back where it was.
    """
    with ExitStack() as ports, quick_passwords():
        async with trio.open_nursery() as nursery:
            running = []

            def place(one):
                is_open = isinstance(one, Address) and not one.port
                return Address("127.0.0.1", take(own_port())) if is_open else one

            take = ports.enter_context

            async def begin(name, role="application", **more):
                doors = dict.fromkeys(DOORS, ANYWHERE if role == "application" else ())
                doors |= more.pop("listen", {})
                doors = {door: tuple(map(place, those)) for door, those in doors.items()}
                config = Config(
                    node=Node(name, role, tmp_path / name, more.pop("guid", None)),
                    listen=Listen(**doors),
                    drain=Drain(deadline_s=0.5),
                    **more,
                )
                config.node.data_dir.mkdir(mode=0o700, exist_ok=True)
                lay_schema(config.node.data_dir)
                daemon = Daemon(config, None, {})
                found = await nursery.start(daemon.run)
                running.append(found)
                return House(running=found, daemon=daemon)

            with trio.fail_after(120):
                yield begin
            for one in running:
                one.stop()


async def joined(hq, site, name="library", **more):
    """`site` is a member of `hq`, and its line is up."""
    invited = await hq.ask("site.invite", name=name, is_approved=True, **more)
    answer = await site.ask("site.enter", server=hq.address, token=invited["token"])
    await site.line.wait_up()
    return answer


async def jobs_of(house: House, title: str) -> list[dict]:
    page = await house.ask("job.list", limit=500)
    return [one for one in page["jobs"] if one["title"] == title]


async def wait_job(house: House, title: str, state: str, seconds=60.0) -> dict:
    found: list[dict] = []
    with trio.fail_after(seconds):
        while not found or found[0]["state"] != state:
            await trio.sleep(0.05)
            found = await jobs_of(house, title)
            assert len(found) < 2
    return found[0]


async def give_away(hq: House, site: House, folder) -> None:
    """The printer `desk` of hq stands beside the site, which has a copy of it."""
    (folder / "paper").mkdir()
    await hq.ask("printer.add", name="desk", uri=(folder / "paper").as_uri())
    await hq.ask("printer.set", name="desk", owner="library")
    await wait_until(lambda: is_ours(site, "desk"))


def is_ours(house: House, printer: str) -> bool:
    """Whether the house knows the printer as its own."""
    try:
        return house.daemon._acceptance.printer(printer).is_ours
    except OperationError:
        return False


def paper(folder) -> list[bytes]:
    return [one.read_bytes() for one in (folder / "paper").iterdir()]
