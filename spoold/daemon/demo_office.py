"""The building of `spoold demo --outage`: an office that prints, an MFD, and its printer.

In: the site server, and how its clients come in. Out: jobs that go in and are released at a steady
pace, and what became of them. All of it talks to the site server alone, as a building does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from spoold.model.errors import OperationError
from spoold.provider.client import Provider
from spoold.provider.course import Lost
from spoold.provider.credentials import Bundle
from spoold.provider.receipt import SubmitError
from spoold.simulate.mfd import Mfd

EVERY_S = 0.1  # a job goes in, and one is released
LETTER = b"\x1bEDear reader,\r\nthis is one page, and it is paid.\r\n\f\x1bE"


@dataclass(slots=True)
class Release:
    """One that was committed; times are Trio's."""

    asked_at: float
    answered_at: float

    @property
    def took_s(self) -> float:
        return self.answered_at - self.asked_at


@dataclass(slots=True)
class Tally:
    """What the clients have seen, whatever the servers say."""

    accepted: list[str] = field(default_factory=list)  # job-uuids
    releases: list[Release] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _changed: trio.Event = field(default_factory=trio.Event)

    def since(self, at: float) -> Sequence[Release]:
        """The releases that were committed from then on, in order."""
        return [one for one in self.releases if one.answered_at >= at]

    async def wait_since(self, at: float) -> Release:
        """The first release that was committed from then on."""
        while not self.since(at):
            await self._changed.wait()
        return self.since(at)[0]

    def add(self, release: Release) -> None:
        self.releases.append(release)
        self._changed.set()
        self._changed = trio.Event()


class Office:
    """`mfd` has somebody logged in before `release` begins. `printer` and `user` are names."""

    def __init__(
        self, port: int, bundle: Bundle, mfd: Mfd, printer: str, user: str, every_s: float = EVERY_S
    ) -> None:
        self.tally = Tally()
        self.mfd = mfd
        self._port, self._bundle = port, bundle
        self._printer, self._user = printer, user
        self._every_s = every_s
        self._send, self._receive = trio.open_memory_channel[int](10_000)
        self._closing = trio.Event()

    def close(self) -> None:
        """No more jobs go in; those that are waiting are released."""
        self._closing.set()

    async def submit(self) -> None:
        """A job at each beat, until `close`."""
        number = 0
        async with Provider([f"localhost:{self._port}"], tls=self._bundle) as provider:
            begun = trio.current_time()
            while not self._closing.is_set():
                number += 1
                await self._submit_one(provider, number)
                with trio.move_on_at(begun + number * self._every_s):
                    await self._closing.wait()
        self._send.close()

    async def _submit_one(self, provider: Provider, number: int) -> None:
        try:
            receipt = await provider.submit(
                LETTER,
                printer=self._printer,
                user=self._user,
                title=f"letter {number}",
                format="application/vnd.hp-PCL",
            )
        except SubmitError as error:
            self.tally.failures.append(f"submitting: {error}")
            return
        self.tally.accepted.append(str(receipt.job_uuid))
        self._send.send_nowait(receipt.job_id)

    async def release(self) -> None:
        """Who is logged in at the MFD releases one job after the other, one at each beat."""
        due = trio.current_time()
        async for job_id in self._receive:
            await self._release_one(job_id)
            due += self._every_s
            await trio.sleep_until(due)

    async def _release_one(self, job_id: int) -> None:
        asked_at = trio.current_time()
        try:
            (result,) = await self.mfd.release([job_id])
        except (OperationError, Lost) as error:
            self.tally.failures.append(f"releasing job {job_id}: {error}")
            return
        if result["error"] is not None:
            why = result["error"]["message"]
            self.tally.failures.append(f"releasing job {job_id}: {why}")
            return
        self.tally.add(Release(asked_at, trio.current_time()))


async def can_log_in(mfd: Mfd, card: str, pin: str) -> bool:
    """Whether somebody is known by this card and PIN; nobody stays logged in."""
    try:
        await mfd.login(card=card, pin=pin)
        await mfd.logout()
    except OperationError:
        return False
    return True
