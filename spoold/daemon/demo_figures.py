"""The figures of `spoold demo --outage`: of the clients, of the tray, and of both servers.

In: the two servers and what the office has seen. Out: a line each second, and in the end a table
of what both sides have, with everything in it that does not agree.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import trio

from spoold.daemon.demo_nodes import Node
from spoold.daemon.demo_office import Tally
from spoold.model.money import format_amount
from spoold.simulate.printer import SimulatedPrinter

LOOK_S = 0.05
WHO, PAID_IN = "user:ada", 100_0000  # in 1/10,000


@dataclass(frozen=True, slots=True)
class Standing:
    """How it is now: money in 1/10,000."""

    jobs: int
    released: int
    papers: int
    paid: int
    not_sent: int  # records of the site that hq does not have

    def __str__(self) -> str:
        paid = format_amount(self.paid)
        return f"{self.jobs:7}{self.released:10}{self.papers:10}{paid:>8}{self.not_sent:15,}"


class Figures:
    def __init__(self, hq: Node, site: Node, tally: Tally, printer: SimulatedPrinter) -> None:
        self._hq, self._site = hq, site
        self._tally, self._printer = tally, printer

    async def now(self) -> Standing:
        uplink = (await self._site.ask("journal.status"))["upstream"]
        return Standing(
            len(self._tally.accepted),
            len(self._tally.releases),
            len(self._printer.papers),
            (await _usage(self._site))[1],
            uplink["lag"],
        )

    async def left(self) -> int:
        """What may be spent in the building without asking hq."""
        return sum(one["left"] for one in (await self._site.ask("site.holdings"))["rights"])

    async def wait_sent(self) -> int:
        """How many records both sides have, once hq has all of them."""
        while True:
            here: int = (await self._site.ask("journal.status"))["position"]
            (there,) = (await self._hq.ask("journal.status"))["sites"]
            if there["position"] == here:
                return here
            await trio.sleep(LOOK_S)

    async def round_of(self, since_us: int) -> dict[str, Any]:
        """The first round in which records went up since then, once it has ended."""
        while True:
            rounds: list[dict[str, Any]] = (await self._site.ask("site.history"))["rounds"]
            later = [one for one in rounds if one["started_us"] >= since_us]
            if later and later[-1]["ended_us"]:
                return later[-1]
            await trio.sleep(LOOK_S)

    async def wait_printed(self) -> None:
        """Everything that was released is on paper, and the site knows that."""
        while True:
            jobs = await self._site.ask_all("job.list", "jobs")
            if sum(one["state"] == "completed" for one in jobs) >= len(self._tally.releases):
                return
            await trio.sleep(LOOK_S)

    async def compare(self) -> tuple[list[str], list[str]]:
        """A table of both sides, and what is wrong in it."""
        records = await self.wait_sent()
        here = _by_uuid(await self._site.ask_all("job.list", "jobs"))
        there = _by_uuid(await self._hq.ask_all("job.elsewhere", "jobs", site="library"))
        charges, paid = await _usage(self._site)
        charges_there, paid_there = await _usage(self._hq)
        titles = Counter(paper.title for paper in self._printer.papers)
        money = await self._hq.ask("account.show", name=WHO)
        at_library = sum(one["amount"] for one in money["at_sites"])
        sent, released = len(self._tally.accepted), len(self._tally.releases)
        rows = [
            ("", "in the building", "at library", "at hq"),
            ("jobs", f"{sent} acknowledged", f"{len(here)}", f"{len(there)}"),
            ("printed", f"{titles.total()} sheets", f"{_done(here)}", f"{_done(there)}"),
            (
                "charged",
                f"{released} releases",
                f"{charges}: {format_amount(paid)}",
                f"{charges_there}: {format_amount(paid_there)}",
            ),
            ("records", "", f"{records:,}", f"{records:,}"),
        ]
        table = [f"   {what:10}{a:20}{b:>15}{c:>15}" for what, a, b, c in rows]
        table.append(
            f"   ada's {format_amount(PAID_IN)}: {format_amount(money['balance'])} are at hq, "
            f"{format_amount(at_library)} are granted to library, {format_amount(paid)} are spent."
        )
        checks = {
            "jobs were lost or made twice": set(self._tally.accepted) == here.keys()
            and here.keys() == there.keys(),
            "hq has other states of jobs": here == there,
            "sheets are missing, or came out twice": released == titles.total() == len(titles),
            "charges are not what was released": released == charges == charges_there,
            "the sums differ": paid == paid_there,
            "money came or went": money["balance"] + at_library + paid == PAID_IN,
        }
        wrong = [fault for fault, is_right in checks.items() if not is_right]
        return table, wrong + self._tally.failures


async def _usage(node: Node) -> tuple[int, int]:
    """(charges, what they come to)."""
    sums = await node.ask_all("usage.sums", "sums")
    return sum(one["charges"] for one in sums), sum(one["amount"] for one in sums)


def _by_uuid(jobs: list[dict[str, Any]]) -> dict[str, str]:
    return {one["uuid"]: one["state"] for one in jobs}


def _done(jobs: dict[str, str]) -> int:
    return sum(state == "completed" for state in jobs.values())
