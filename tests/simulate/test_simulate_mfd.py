"""The simulated MFD against a real node: reconnects, restarts, races, and the terminal."""

from __future__ import annotations

import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from spoold.model.errors import OperationError
from spoold.provider.blocking import ControlClient
from spoold.provider.course import Lost
from spoold.simulate.mfd import Mfd
from spoold.simulate.mfd_terminal import Terminal
from support.commands import Server

pytestmark = pytest.mark.slow

PASSWORD = "correct horse"


class Node:
    """A node with a printer that holds jobs and charges, and Ada, who has ten cents."""

    def __init__(self, server: Server, ca: str) -> None:
        self.server = server
        self.ca = ca

    def admin(self, op: str, **args):
        with ControlClient(self.server.running.control) as client:
            return client.call(op, args)

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca)
        context.check_hostname = False
        return context

    def mfd(self, token: str) -> Mfd:
        return Mfd([self.server.address("tls")], self, token=token)


@contextmanager
def serving(folder: Path):
    """The node of a folder; again the same one when it is started again."""
    with Server(folder) as server:
        with ControlClient(server.running.control) as client:
            ca = client.call("node.ca", {})["pem"]
        yield Node(server, ca)


def furnish(node: Node) -> str:
    """Printer, prices, person and MFD; the MFD's token."""
    node.admin("printer.set", name="default", release="hold", charging="on")
    node.admin("user.add", name="ada", password=PASSWORD)
    return node.admin("device.enrol", name="panel", printers=["default"], credential="token")[
        "token"
    ]


@asynccontextmanager
async def followed(mfd: Mfd):
    """`await told(name)` is the args of the next event of this name; the last one is `end`."""
    send, receive = trio.open_memory_channel[tuple[str, dict]](100)

    async def follow() -> None:
        reason = await mfd.follow(lambda name, args: send.send_nowait((name, args)))
        send.send_nowait(("end", {"reason": reason}))

    async def told(name: str) -> dict:
        with trio.fail_after(30):
            while (event := await receive.receive())[0] != name:
                pass
        return event[1]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        yield told
        nursery.cancel_scope.cancel()


async def test_a_session_goes_on_over_another_connection(tmp_path):
    """The network fails between two requests, and nobody has to log in again."""
    with serving(tmp_path) as node:
        async with node.mfd(furnish(node)).opened() as mfd:
            await mfd.login(name="ada", password=PASSWORD)
            mfd.cut()
            assert (await mfd.resume())["user"] == "ada"
            mfd.cut()
            assert await mfd.jobs() == []


async def test_a_restart_in_mid_session_loses_nothing_and_charges_once(tmp_path):
    """What was authorized before is reported after it, twice; the session is the same."""
    with serving(tmp_path) as node:
        token = furnish(node)
        async with node.mfd(token).opened() as mfd:
            await mfd.login(name="ada", password=PASSWORD)
            allowed = await mfd.authorize("copy", "k1", pages=3)
            assert allowed["pages"] == 3
            session = mfd.session
    lines = [{"impressions": 2}]
    with serving(tmp_path) as node:
        async with node.mfd(token).opened() as mfd:
            mfd.session = session
            assert (await mfd.resume())["user"] == "ada"
            first = await mfd.report("copy", "k1", lines)
            assert (first["impressions"], first["duplicate"]) == (2, False)
            job = await mfd.report("copy", "k2", lines)
            assert job["flags"] == ["not-reserved"]
    with serving(tmp_path) as node:
        async with node.mfd(token).opened() as mfd:
            mfd.session = session
            for key in ("k1", "k2"):
                again = await mfd.report("copy", key, lines)
                assert (again["impressions"], again["duplicate"]) == (2, True)
            await mfd.logout()
            mfd.session = session
            with pytest.raises(OperationError, match="logout"):
                await mfd.resume()


async def test_a_follower_is_told_of_a_stop(tmp_path):
    """So that the MFD can go elsewhere before its next request fails."""
    with serving(tmp_path) as node:
        async with node.mfd(furnish(node)).opened() as mfd:
            await mfd.login(name="ada", password=PASSWORD)
            async with followed(mfd) as told:
                assert await told("node-mode") == {"mode": "online"}
                node.server.stop()
                assert await told("node-mode") == {"mode": "stopping"}
                assert await told("end") == {"reason": "stopping"}


async def test_a_revoked_mfd_is_lost(tmp_path):
    """Its connection ends, and no other is welcome."""
    with serving(tmp_path) as node:
        async with node.mfd(furnish(node)).opened() as mfd:
            await mfd.login(name="ada", password=PASSWORD)
            await trio.to_thread.run_sync(lambda: node.admin("device.revoke", name="panel"))
            with pytest.raises(Lost):
                await mfd.resume()


async def said(mfd: Mfd, *commands: str) -> list[str]:
    """What the terminal shows for these commands."""
    shown: list[str] = []

    async def lines():
        for one in commands:
            yield one

    async with mfd.opened(), trio.open_nursery() as nursery:
        await Terminal(mfd, shown.append, nursery).run(lines())
        nursery.cancel_scope.cancel()
    return shown


async def test_the_terminal_does_what_somebody_does_at_the_machine(tmp_path):
    """And says what it was told, in words."""
    with serving(tmp_path) as node:
        token = furnish(node)
        shown = await said(
            node.mfd(token),
            "list",
            "login ada wrong",
            f"associate 77AA ada '{PASSWORD}'",
            "who",
            "card 77AA",
            "list",
            "release all",
            "copy 2 color=monochrome",
            "accounts",
            "dance",
            "release one",
            "copy",
            "logout",
        )
    assert shown[0].startswith("! ")
    assert "! name and password are wrong. Ask whoever runs this server for yours." in shown
    assert "Hello ada (card)." in shown
    assert "ada, by password; on default." in shown
    assert "No held jobs." in shown
    assert "Nothing to do." in shown
    assert any(line.startswith("copy of 2 of 2 pages: ") for line in shown)
    assert "! there is no dance; `help` lists what there is." in shown
    assert "! release is used otherwise; see `help`." in shown
    assert "! copy is used otherwise; see `help`." in shown
    assert shown[-1] == "Nobody is logged in."


class Replaced:
    """A server that tells the end of a session together with the answer that begins the next."""

    unheard = ()

    def __init__(self) -> None:
        self.session = ""
        self._over = trio.Event()

    async def login(self, card, pin):
        self._over.set()
        self._over = trio.Event()
        self.session = card
        return {"user": "ada", "full_name": "", "method": "card"}

    async def follow(self, on_event):
        await self._over.wait()
        return "replaced"

    async def jobs(self):
        return []

    async def logout(self):
        self.session = ""


async def test_a_session_that_ends_as_the_next_begins_does_not_end_that_one():
    """Whoever puts a card on twice is logged in."""
    shown: list[str] = []
    async with trio.open_nursery() as nursery:
        terminal = Terminal(Replaced(), shown.append, nursery)

        async def lines():
            yield "card 1"
            yield "wait 0.01"
            yield "card 2"
            yield "wait 0.01"
            yield "list"

        await terminal.run(lines())
        nursery.cancel_scope.cancel()
    hello = "Hello ada (card)."
    assert shown == [hello, hello, "No held jobs.", "Nobody is logged in."]


def test_the_command_takes_what_to_do_from_the_command_line(tmp_path):
    """With an exit code for scripts; secrets of the server's making are not shown."""
    with serving(tmp_path / "node") as node:
        (tmp_path / "token").write_text(furnish(node) + "\n")
        (tmp_path / "ca.crt").write_text(node.ca)

        def run(*commands: str) -> subprocess.CompletedProcess[str]:
            options = ("--server", node.server.address("tls"), "--ca", str(tmp_path / "ca.crt"))
            token = ("--token-file", str(tmp_path / "token"))
            words = (sys.executable, "-m", "spoold", "simulate", "mfd", *options, *token)
            return subprocess.run(
                [*words, *commands], capture_output=True, text=True, timeout=60, check=False
            )

        right = run(f"login ada '{PASSWORD}'", "list", "logout")
        assert (right.returncode, "Hello ada" in right.stdout) == (0, True)
        assert PASSWORD not in right.stdout
        wrong = run("login ada wrong", "list")
        assert (wrong.returncode, wrong.stdout.count("! ")) == (1, 2)
    nobody = run(f"login ada '{PASSWORD}'")
    assert (nobody.returncode, nobody.stdout, "Traceback" in nobody.stderr) == (75, "", False)
    assert node.server.address("tls") in nobody.stderr
