"""`spoold demo`: jobs going in and coming out, in one terminal, without any printer.

A whole daemon on free loopback ports with its data in a temporary directory, and two simulated
printers, one of which is busy at first. Every command that is shown is really run, against this
daemon. It narrates what happens, its visitors' jobs too, until Ctrl-C, and leaves nothing behind.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from spoold.daemon.config import Config, Dispatch, Drain, Listen, Node
from spoold.daemon.demo_stage import Stage
from spoold.daemon.service import Daemon, Running
from spoold.model.errors import SpoolError
from spoold.model.job import JobState
from spoold.net.address import Address
from spoold.net.connect import TcpNetwork
from spoold.simulate.printer import Paper, SimulatedPrinter
from spoold.spool.store import Event, JobMoved

STEP_TIMEOUT_S = 20
LINES_MAX = 10_000  # of narration that may wait for a slow terminal; the rest is left out
LETTER = (
    b'\x1b%-12345X@PJL JOB NAME="letter"\r\n@PJL SET USERNAME="reception"\r\n'
    b"@PJL ENTER LANGUAGE=PCL\r\nDear reader,\r\nthis came in over a raw socket.\r\n"
    b"\x1b%-12345X@PJL EOJ\r\n\x1b%-12345X"
)


@dataclass(frozen=True, slots=True)
class _Told:
    """A job's step on its way, for the narrator."""

    job_id: int
    state: JobState
    reasons: tuple[str, ...]
    is_new: bool


class Demo:
    """The environment names this daemon for commands."""

    def __init__(self, stage: Stage, *, is_once: bool) -> None:
        self._folder = stage.folder
        self._say = stage.say
        self._command = stage.command
        self._is_once = is_once
        self._daemon: Daemon | None = None
        self._running: Running | None = None
        self._send, self._receive = trio.open_memory_channel[_Told](LINES_MAX)
        self._accepted: list[int] = []
        self._deferred: set[int] = set()
        self._finished: set[int] = set()
        self._bell = trio.Event()

    async def run(self) -> bool:
        """Everything is shown once, then stays up."""
        frontdesk = SimulatedPrinter(lpd_port=None, on_paper=self._tray("frontdesk"))
        annex = SimulatedPrinter("busy", raw_port=None, on_paper=self._tray("annex"))
        async with trio.open_nursery() as nursery:
            await nursery.start(frontdesk.run)
            await nursery.start(annex.run)
            self._daemon = Daemon(_config(self._folder), None, {})
            self._running = await nursery.start(self._daemon.run)
            os.environ.update(_surroundings(self._running))
            self._running.services.journal.listen(self._hear)
            nursery.start_soon(self._narrate)
            self._introduce()
            with trio.move_on_after(STEP_TIMEOUT_S) as scope:
                await self._show(self._running, frontdesk, annex)
            if scope.cancelled_caught:
                self._say("This took longer than it should; `spoold job list` shows how it is.")
            if self._is_once:
                await self.stop()
                nursery.cancel_scope.cancel()
            else:
                self._suggest(self._running)
        return not scope.cancelled_caught

    async def stop(self) -> None:
        """Stop the daemon in order."""
        assert self._daemon is not None
        if self._running is not None:
            self._running.stop()
            with trio.move_on_after(STEP_TIMEOUT_S):
                await self._daemon.stopped.wait()

    # -- the show ----------------------------------------------------------------------------

    def _introduce(self) -> None:
        assert self._running is not None
        self._say("spoold demo: a print server and two simulated printers, all on this machine.")
        self._say("")
        for label, (host, port) in self._running.ports.items():
            about = {"clear": "raw and frames", "tls": "over TLS", "mutual": "print providers"}
            self._say(f"  {host}:{port:<6} {label}: {about.get(label, '')}")
        self._say("")

    async def _show(
        self, running: Running, frontdesk: SimulatedPrinter, annex: SimulatedPrinter
    ) -> None:
        self._say("1. Two printers: one is ready, the other one takes no jobs for now.")
        await self._command(
            "printer", "add", "frontdesk", f"socket://127.0.0.1:{frontdesk.raw_port}"
        )
        await self._command("printer", "add", "annex", f"lpd://127.0.0.1:{annex.lpd_port}/lp")

        self._say(
            "2. A job over a raw socket, as printer drivers send it; its PJL names the printer:"
        )
        self._say(f"$ nc -N 127.0.0.1 {running.ports['clear'][1]} < letter.pcl")
        await self._send_raw(running, b'@PJL SET SPOOLD-PRINTER="frontdesk"\r\n')
        await self._wait_finished(1)
        self._say("")

        report = self._folder / "report.txt"
        report.write_text("Takings of the week\n\n" + "widget  12  34.00\n" * 40)
        self._say("3. A file through the client library of print providers:")
        await self._command("submit", "-P", "frontdesk", str(report))
        await self._wait_finished(2)
        self._say("")

        self._say("4. A job for the busy printer. It is safe at once, and waits:")
        await self._command("submit", "-P", "annex", "--title", "patience", str(report))
        await self._wait(lambda: self._deferred)
        await self._command("job", "explain", str(self._accepted[-1]))
        self._say("   Now somebody frees the printer; nobody tells spoold.")
        annex.set_faults()
        await self._wait_finished(3)
        self._say("")
        await self._command("job", "list")

    async def _send_raw(self, running: Running, command: bytes) -> None:
        """The letter as a raw stream: send, half-close, wait for the FIN that says it is safe."""
        host, port = running.ports["clear"]
        stream = await TcpNetwork().connect(host, port, timeout_s=STEP_TIMEOUT_S)
        try:
            start = b"\x1b%-12345X"
            await stream.send_all(LETTER.replace(start, start + command, 1))
            await stream.send_eof()
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError as error:
            advice = "Is $TMPDIR full?"
            raise SpoolError("print", "the letter", "the server refused it", advice) from error
        finally:
            stream.abort()
        self._say("   The server closed the connection: the job is on its disk.")

    def _suggest(self, running: Running) -> None:
        paths = _surroundings(running)
        self._say("Now it is yours. In another terminal:")
        self._say("")
        if sys.prefix != sys.base_prefix:
            self._say(f"  source {shlex.quote(sys.prefix)}/bin/activate")
        self._say(f"  export SPOOLD_CONTROL={shlex.quote(paths['SPOOLD_CONTROL'])}")
        self._say(f"  export SPOOLD_SERVER={paths['SPOOLD_SERVER']}")
        self._say(f"  echo hello | nc -N 127.0.0.1 {running.ports['clear'][1]}")
        self._say("  spoold submit -P frontdesk FILE")
        self._say("  spoold job list")
        self._say("  spoold job explain 1")
        self._say("  spoold printer pause frontdesk")
        self._say("  spoold journal --follow")
        self._say("")
        self._say(f"What names no printer lands in {self._folder}/data/printed.")
        self._say(
            "`spoold demo --outage` shows a building that goes on alone. Ctrl-C ends this one."
        )
        self._say("")

    # -- the narrator ------------------------------------------------------------------------

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, JobMoved):
                told = _Told(event.job_id, event.new, event.reasons, event.old is None)
                try:
                    self._send.send_nowait(told)
                except trio.WouldBlock:
                    return  # the terminal is far behind

    async def _narrate(self) -> None:
        async for told in self._receive:
            what = "accepted" if told.is_new else ""
            reasons = ", ".join(one for one in told.reasons if one != "none")
            words = " ".join(
                word for word in (what, told.state, reasons and f"({reasons})") if word
            )
            self._say(f"   > job {told.job_id}: {words}")
            if told.is_new:
                self._accepted.append(told.job_id)
            elif told.state is JobState.PENDING:
                self._deferred.add(told.job_id)
            elif told.state.is_final:
                self._finished.add(told.job_id)
            self._bell.set()
            self._bell = trio.Event()

    async def _wait(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self._bell.wait()

    async def _wait_finished(self, count: int) -> None:
        """The first `count` jobs of all have come out."""
        await self._wait(lambda: len(self._accepted) >= count <= len(self._finished))

    def _tray(self, name: str) -> Callable[[Paper], None]:
        def tell(paper: Paper) -> None:
            pages = "1 page" if paper.pages == 1 else f"{paper.pages} pages"
            self._say(f"   > printer {name}: {pages} in the tray, {len(paper.document)} bytes")

        return tell


def _config(folder: Path) -> Config:
    anywhere = (Address("127.0.0.1", 0),)
    return Config(
        node=replace(Node(), name="demo", data_dir=folder / "data"),
        listen=Listen(clear=anywhere, tls=anywhere, mutual=anywhere),
        dispatch=Dispatch(backoff_first_s=0.5, backoff_max_s=2.0),
        drain=Drain(deadline_s=1.0),
    )


def _surroundings(running: Running) -> dict[str, str]:
    """The environment by which commands find this daemon."""
    host, port = running.ports["clear"]
    return {"SPOOLD_CONTROL": str(running.control), "SPOOLD_SERVER": f"{host}:{port}"}
