"""`spoold demo --outage`: a building goes on printing while its application server is cut off.

An application server and a site server, each a process of its own, and between them a cable that
can be cut. In the building an office submits and somebody releases at an MFD, both at a steady
pace. The figures are what the clients, the printer's tray and both servers have seen; at the end
they are laid side by side.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from functools import partial
from typing import Any

import trio

from spoold.daemon.demo_figures import PAID_IN, WHO, Figures, Standing
from spoold.daemon.demo_nodes import Node
from spoold.daemon.demo_office import Office, can_log_in
from spoold.daemon.demo_stage import Stage, until
from spoold.model.errors import OperationError
from spoold.model.money import format_amount
from spoold.provider.credentials import Bundle
from spoold.simulate.cable import Cable
from spoold.simulate.mfd import Mfd
from spoold.simulate.printer import SimulatedPrinter

STEPS_S = 120.0  # what all but the outage never takes, also on a slow machine
FAULTS_MAX = 10  # that are told
PRICE = "0.01"
BEFORE_S, AFTER_S = 3.0, 1.0  # of work with the cable whole
CARDS = {"ada": ("04A1B2C3", "4711"), "bob": ("04D4E5F6", "8150"), "eve": ("04070809", "2583")}
HEADINGS = "       time  line  jobs in  released  on paper    paid  not yet at hq"


class OutageDemo:
    """The cable stays cut for `outage_s`. With `is_once` the show ends by itself."""

    def __init__(self, stage: Stage, outage_s: float, *, is_once: bool) -> None:
        self._stage = stage
        self._say = stage.say
        self._outage_s = outage_s
        self._is_once = is_once
        self._hq = Node(stage.folder, "hq")
        self._site = Node(stage.folder, "library", "site")
        self._printer = SimulatedPrinter(lpd_port=None)
        self._cable = Cable()
        self._line = "up"  # or "gone", as the site server sees it
        self._line_changed = trio.Event()
        self._zero = 0.0  # on Trio's clock, where the narration's begins

    async def stop(self) -> None:
        """All of it ends when it is cancelled."""

    async def run(self) -> bool:
        is_right = False
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as starting:
                starting.start_soon(nursery.start, self._hq.run)
                starting.start_soon(nursery.start, self._site.run)
            self._introduce()
            await nursery.start(self._printer.run)
            await nursery.start(self._cable.run, self._hq.ports["mutual"])
            with trio.move_on_after(STEPS_S + self._outage_s) as scope:
                is_right = await self._show()
            if scope.cancelled_caught:
                self._say("This took longer than it should. What both servers say of it:")
                self._say(f"  {self._hq.log}")
                self._say(f"  {self._site.log}")
            if not self._is_once:
                await self._stay()
            nursery.cancel_scope.cancel()
        return is_right

    async def _show(self) -> bool:
        await self._set_up()
        panel, other, office = await self._clients()
        figures = Figures(self._hq, self._site, office.tally, self._printer)
        async with panel.opened(), other.opened(), trio.open_nursery() as nursery:
            await until(partial(self._is_copied, figures))
            await panel.login(*CARDS["ada"])
            nursery.start_soon(self._watch_line)
            async with trio.open_nursery() as working:
                working.start_soon(office.submit)
                working.start_soon(office.release)
                await self._outage(office, figures, other)
                office.close()
            is_right = await self._settle(figures)
            nursery.cancel_scope.cancel()
        return is_right

    # -- before it -------------------------------------------------------------------------------

    def _introduce(self) -> None:
        hq, site = self._hq.pid, self._site.pid
        self._say("spoold demo --outage: a building goes on printing while it is cut off.")
        self._say("")
        self._say(f"  hq       the application server: people, money, printers    process {hq}")
        self._say(f"  library  the site server, in a building far away            process {site}")
        self._say("  One cable leads from the building to hq.")
        self._say("")

    async def _set_up(self) -> None:
        self._say("1. hq has people with cards and money, and a price. The building joins it.")
        await self._at_hq("user", "import", self._people("ada", "bob"))
        await self._at_hq(
            *("account", "adjust", WHO, format_amount(PAID_IN)),
            *("--purse", "paid-in", "--reason", "cash desk"),
        )
        await self._at_hq("price", "set", f"print={PRICE}")
        said = await self._at_hq("site", "invite", "library", "--approved")
        token = said.split()[-1]
        await self._at_site("site", "join", f"localhost:{self._cable.port}", "--token", token)
        await self._at_hq(
            *("printer", "add", "hall", f"socket://127.0.0.1:{self._printer.raw_port}"),
            *("--option", "pjl=on", "--owner", "library", "--release", "hold", "--charging", "on"),
        )

    def _people(self, *names: str) -> str:
        """A file with these people."""
        file = self._stage.folder / "people.csv"
        rows = (f"{name},{card},{pin}\n" for name in names for card, pin in [CARDS[name]])
        file.write_text("name,cards,pin\n" + "".join(rows))
        return str(file)

    async def _at_hq(self, *words: str) -> str:
        return await self._stage.command(*words, control=self._hq.control, prompt="hq$")

    async def _at_site(self, *words: str) -> str:
        return await self._stage.command(*words, control=self._site.control, prompt="library$")

    async def _clients(self) -> tuple[Mfd, Mfd, Office]:
        """The panel where ada stands, another one, and the office; all are enrolled at hq."""
        given = await self._hq.ask("provider.enrol", name="office", may_assert=["*"])
        key, certificate, ca = (given[f"{one}_pem"] for one in ("key", "certificate", "ca"))
        (self._stage.folder / "ca.crt").write_text(ca)
        bundle = Bundle(key.encode(), certificate.encode(), ca.encode())
        panel, other = [await self._mfd(name, bundle) for name in ("panel", "other")]
        office = Office(self._site.ports["mutual"], bundle, panel, printer="hall", user="ada")
        return panel, other, office

    async def _mfd(self, name: str, bundle: Bundle) -> Mfd:
        mfd = await self._hq.ask("device.enrol", name=name, printers=["hall"], credential="token")
        (self._stage.folder / f"{name}.token").write_text(mfd["token"])
        return Mfd([f"localhost:{self._site.ports['tls']}"], bundle, token=mfd["token"])

    async def _is_copied(self, figures: Figures) -> bool:
        """Whether the building has all that it needs to be alone."""
        printers = await self._site.ask_all("printer.list", "printers")
        if not any(one["name"] == "hall" for one in printers) or not await figures.left():
            return False
        return await self._knows("bob")

    async def _knows(self, name: str) -> bool:
        """Whether somebody's card and PIN are in the building: asked so, nothing is throttled."""
        try:
            user = await self._site.ask("user.show", name=name)
        except OperationError:
            return False
        return bool(user["cards"]) and bool(user["has_pin"])

    # -- the outage ------------------------------------------------------------------------------

    async def _outage(self, office: Office, figures: Figures, other: Mfd) -> None:
        self._say("2. An office sends a job every 100 ms, and ada releases them at the MFD, for")
        self._say(f"   {PRICE} each. All of that happens in the building, and hq hears of it.")
        self._say("")
        self._say(HEADINGS)
        self._zero = trio.current_time() + BEFORE_S
        await self._tell_until(self._zero, figures)
        self._say("")
        self._say("3. The cable is cut. Nothing comes through any more, and nobody is told.")
        self._say("")
        before = await figures.now()
        self._cable.cut()
        self._zero = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_next_release, office)
            nursery.start_soon(self._meanwhile, other)
            await self._tell_until(self._zero + self._outage_s, figures)
        await self._sum_up(office, figures, before)
        await self._mend(figures, other)

    async def _tell_until(self, end: float, figures: Figures) -> None:
        """The figures, each second."""
        while True:
            self._say(f"   {self._time():+6.1f} s  {self._line:4}{await figures.now()}")
            if trio.current_time() + 1.0 > end:
                break
            await trio.sleep(1.0)
        await trio.sleep_until(end)

    def _time(self) -> float:
        return trio.current_time() - self._zero

    def _tell(self, what: str) -> None:
        self._say(f"   {self._time():+6.1f} s  > {what}")

    async def _tell_next_release(self, office: Office) -> None:
        cut_at = self._zero
        first = await office.tally.wait_since(cut_at)
        took_ms = 1000 * (first.answered_at - cut_at)
        self._tell(f"the next release was committed {took_ms:.0f} ms after the cut")

    async def _meanwhile(self, other: Mfd) -> None:
        """Others come and go: in the building, and at hq."""
        await self._wait_line("gone")
        if await can_log_in(other, *CARDS["bob"]):
            self._tell("bob logs in by card and PIN: the building has a copy of who may")
        card, pin = CARDS["eve"]
        cards = [{"label": "", "number": card}]
        await self._hq.ask("user.import", users=[{"name": "eve", "cards": cards, "pin": pin}])
        self._tell("hq goes on as well: eve gets a card there, which library cannot know")

    async def _sum_up(self, office: Office, figures: Figures, before: Standing) -> None:
        now = await figures.now()
        slowest = max((1000 * one.took_s for one in office.tally.since(self._zero)), default=0.0)
        left = format_amount(await figures.left())
        failed = len(office.tally.failures)
        self._say("")
        self._say(
            f"   Alone for {self._outage_s:g} s: {now.jobs - before.jobs} jobs in, "
            f"{now.released - before.released} released, {now.papers - before.papers} on "
            f"paper, {failed or 'none'} failed; the slowest release took {slowest:.0f} ms."
        )
        self._say(
            f"   {left} of ada's money may still be spent here: hq granted it ahead, and nobody"
        )
        self._say("   else can spend it meanwhile.")
        self._say("")

    async def _mend(self, figures: Figures, other: Mfd) -> None:
        self._say("4. The cable is whole again.")
        self._say("")
        since_us = time.time_ns() // 1000
        self._cable.mend()
        self._zero = trio.current_time()
        sent = await figures.round_of(since_us)
        took_s = max(0.001, (sent["ended_us"] - sent["started_us"]) / 1e6)
        rate = sent["records"] / took_s
        self._tell(f"{sent['records']:,} records went up in {took_s:.2f} s: {rate:,.0f} a second")
        await until(partial(self._knows, "eve"))
        if await can_log_in(other, *CARDS["eve"]):
            self._tell("eve logs in by card and PIN in the building")
        await self._wait_line("up")
        await self._tell_until(trio.current_time() + AFTER_S, figures)
        self._say("")

    async def _watch_line(self) -> None:
        """Tell each change of the line, as the site server sees it."""

        def hear(event: str, args: dict[str, Any]) -> None:
            line = {"online": "up", "offline": "gone"}.get(args.get("mode", ""), "")
            if event != "node-mode" or line in ("", self._line):
                return
            self._line = line
            self._line_changed.set()
            self._line_changed = trio.Event()
            if line == "gone":
                self._tell("library counts hq as gone, and asks it nothing any more")
            else:
                self._tell("library counts the line as up: it has held for a while")

        await self._site.ask("node.follow", hear)

    async def _wait_line(self, state: str) -> None:
        while self._line != state:
            await self._line_changed.wait()

    # -- after it --------------------------------------------------------------------------------

    async def _settle(self, figures: Figures) -> bool:
        """Lay both sides side by side; whether they agree."""
        await figures.wait_printed()
        table, wrong = await figures.compare()
        self._say("5. What both servers have now, counted job by job:")
        self._say("")
        for line in table:
            self._say(line)
        self._say("")
        for fault in wrong[:FAULTS_MAX]:
            self._say(f"   WRONG: {fault}")
        if not wrong:
            self._say("   Each job is there once, with one end on both sides. Nothing was lost,")
            self._say("   nothing came out or was paid twice, and nobody had to lend a hand.")
        self._say("")
        return not wrong

    async def _stay(self) -> None:
        self._suggest()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_line)
            if sys.stdin.isatty():
                nursery.start_soon(self._watch_keys)

    async def _watch_keys(self) -> None:
        """Enter cuts the cable, and mends it."""
        while True:
            await trio.lowlevel.wait_readable(sys.stdin.fileno())
            if not os.read(sys.stdin.fileno(), 1024):
                return
            self._zero = trio.current_time()
            if self._cable.is_cut:
                self._cable.mend()
                self._tell("the cable is whole again")
            else:
                self._cable.cut()
                self._tell("the cable is cut")

    def _suggest(self) -> None:
        folder = shlex.quote(str(self._stage.folder))
        panel = f"localhost:{self._site.ports['tls']}"
        self._say("Now it is yours. Enter cuts the cable, and mends it. In another terminal:")
        self._say("")
        if sys.prefix != sys.base_prefix:
            self._say(f"  source {shlex.quote(sys.prefix)}/bin/activate")
        self._say(f"  export SPOOLD_CONTROL={shlex.quote(str(self._site.control))}")
        self._say(f"  export SPOOLD_SERVER=127.0.0.1:{self._site.ports['clear']}")
        self._say("  spoold submit -P hall --user ada FILE")
        self._say(f"  cd {folder}")
        self._say(f"  spoold simulate mfd --server {panel} --ca ca.crt \\")
        self._say("      --token-file panel.token 'card 04A1B2C3 4711' list 'release all'")
        self._say("  spoold site show; spoold journal status; spoold site history")
        self._say(f"  spoold --control {shlex.quote(str(self._hq.control))} status")
        self._say(f"  kill -STOP {self._hq.pid}        # hq stands still; -CONT, and it goes on")
        self._say("")
        self._say("Ctrl-C ends it all.")
        self._say("")
