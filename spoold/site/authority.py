"""What a site decides when nobody can be asked: the only file that knows "offline".

Each question goes upstream with a short deadline, 300 ms unless configured otherwise, and falls to
the local rule when that passes or there is no line: the rights that this site holds (see
`spool/held.py`) and the policy that was set for it in advance. Rights are fetched ahead of need:
for everybody at the begin and now and then (if the policy says so), and for whoever was here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold.model.errors import OperationError, SpoolError, StoreFailed
from spoold.model.offline import Beyond, Choice, OfflinePolicy, RightsOut, Strangers, Want
from spoold.model.purse import Payer, PayerKind
from spoold.site import rights_wire
from spoold.site.line import Line, Lost, Upstream
from spoold.spool import accounts, held, leases, ledger_views, sending
from spoold.spool.held import Standing
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import (
    Charged,
    Event,
    KeepRights,
    ReturnRights,
    SessionStarted,
    UserChanged,
)

log = structlog.get_logger("spoold.site")

EVENT = "rights-changed"  # what the application server tells
WANTED = "rights-wanted"
TOGETHER = 80  # holders, or rights, in one message
WAITING_MAX = 10_000  # holders for whom rights are to be fetched
ROUND_S = 3600.0  # between rounds for everybody
LEASE_S = 600.0  # at the latest the lease is renewed after so long
CALL_S = 30.0  # where nobody waits
PASSWORD_S = 3.0
PAUSE_S = 5.0  # after a failure
SPENDING_S = 60.0  # for which what was fetched for a piece of work stays here

Holder = tuple[PayerKind, UUID]


class Authority:
    """Answers for a site. `deadline_s` is what a question may take."""

    def __init__(
        self,
        line: Line,
        journal: Journal,
        reader: SqliteReader,
        wall_clock: Callable[[], int],
        site: UUID,
        deadline_s: float,
    ) -> None:
        self._line = line
        self._journal = journal
        self._reader = reader
        self._wall_clock = wall_clock
        self._site = site
        self._deadline_s = deadline_s
        self._due: dict[Holder, None] = {}
        self._bell = trio.Event()
        self._wanted: dict[UUID, None] = {}
        self._called = trio.Event()
        self._everybody_at = float("-inf")
        self._after: bytes | None = None  # behind whom a round for everybody goes on
        self._spending: dict[UUID, float] = {}  # for whose work more was fetched, and when
        self._is_ahead = True  # until the policy says otherwise
        self._reporting = trio.Lock()
        line.listen(self._wake)
        line.hear(EVENT, self._note_change)
        line.hear(WANTED, self._note_wanted)
        journal.listen(self._hear)

    async def books(self) -> dict[str, Any]:
        """What this site says of its journal in its hello: what was booked here by hand so far."""
        return rights_wire.books_told(await self._reader.look(sending.chains))

    # -- questions -------------------------------------------------------------------------------

    async def policy(self) -> OfflinePolicy:
        """What holds here when nobody can be asked."""
        return await self._reader.look(leases.own_policy)

    async def cover(self, payer: Payer, total: int) -> Beyond | None:
        """See that the payer's rights hold `total`; else what the policy lets pay for it.

        None: what the purses here hold is all that there is.
        """
        if await self._holds(payer, total):
            return None
        self._spending[payer.guid] = trio.current_time()
        try:
            with trio.fail_after(self._deadline_s):
                await self._fetch([(payer.kind, payer.guid)], total, self._deadline_s)
            return None
        except (trio.TooSlowError, Lost):
            self.want(payer.kind, payer.guid)  # what was granted and never heard of comes then
        except StoreFailed:
            raise
        except (OperationError, SpoolError) as error:
            log.warning("rights_refused", reason=str(error))
        return await self._beyond()

    async def _holds(self, payer: Payer, total: int) -> bool:
        return await self._reader.look(ledger_views.holds, payer, total, self._wall_clock())

    async def _beyond(self) -> Beyond | None:
        policy = await self.policy()
        if policy.rights_out is RightsOut.OVERDRAFT:
            return Beyond(overdraft=policy.overdraft)
        if policy.rights_out is RightsOut.ACCOUNT:
            account = await self._reader.look(accounts.by_name, policy.account)
            return None if account is None else Beyond(account=account.guid)
        return None

    async def stranger(self) -> str | None:
        """The account that pays for somebody whom this site does not know; None: nobody does.

        Raises:
            OperationError: `forbidden`: their jobs are not printed.
        """
        if self._line.is_connected:
            return None
        policy = await self.policy()
        if policy.strangers is Strangers.DENY:
            raise OperationError(
                "forbidden",
                "this site is cut off, and does not know who that is.",
                "Try again when its line is back: `spoold status`.",
            )
        return policy.account if policy.strangers is Strangers.ACCOUNT else None

    async def account(self, named: str) -> str:
        """The account that pays where `named` was chosen; "" is the person's own money."""
        if self._line.is_connected or not named:
            return named
        policy = await self.policy()
        if policy.choice is Choice.OWN:
            return ""
        return policy.account if policy.choice is Choice.ACCOUNT else named

    async def elsewhere(self, person: UUID) -> tuple[int, int | None] | None:
        """What a person has beside the rights that are here, and can spend of it (None: without a
        limit), in 1/10,000; None: nobody says so in time.
        """
        try:
            asked = {"holder": person.bytes}
            answer = await self._line.call("site.standing", asked, self._deadline_s)
        except (Lost, OperationError):
            return None
        balance, available = answer.get("balance"), answer.get("available")
        return (balance, available) if isinstance(balance, int) else None

    async def password(self, name: str, password: str) -> bool | None:
        """Whether this is the password of somebody whom a directory knows; None: nobody says.

        A directory takes longer than a question of money: it has more time.
        """
        try:
            asked = {"name": name, "password": password}
            answer = await self._line.call("site.password", asked, PASSWORD_S)
        except Lost:
            return None
        except OperationError as error:
            if error.code == "unauthorized":
                return False
            log.warning("password_not_asked", reason=error.message)
            return None
        return answer.get("is_right") is True

    # -- rights ------------------------------------------------------------------------------------

    def _wake(self, _: object = None) -> None:
        self._bell.set()

    def _note_change(self, args: dict[str, Any]) -> None:
        """The application server has changed the policy, or some holders have more money."""
        holders = args.get("holders")
        if not isinstance(holders, list):
            self._everybody_at = float("-inf")
            self._bell.set()
        elif self._is_ahead:
            for kind, holder in _holders(holders):
                self.want(kind, holder)

    def _note_wanted(self, args: dict[str, Any]) -> None:
        """Money is wanted elsewhere: what is not needed here this moment goes back."""
        for _, holder in _holders(args.get("holders")):
            if len(self._wanted) < WAITING_MAX:
                self._wanted[holder] = None
        self._called.set()

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is Charged:
                self.want(event.charge.payer.kind, event.charge.payer.guid)
            elif type(event) is SessionStarted:
                self.want(PayerKind.PERSON, event.session.person)
            elif type(event) is UserChanged and self._is_ahead:
                self.want(PayerKind.PERSON, event.guid)

    def want(self, kind: PayerKind, holder: UUID) -> None:
        """Rights of this holder are to be here before they are needed."""
        if len(self._due) < WAITING_MAX:
            self._due[kind, holder] = None
        else:
            self._everybody_at = float("-inf")
        self._bell.set()

    async def run(self) -> None:
        """Fetch rights ahead of need, and give back what is wanted elsewhere, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._give_back)
            await self._fetch_ahead()

    async def _give_back(self) -> None:
        while True:
            await self._called.wait()
            self._called = trio.Event()
            wanted, self._wanted = list(self._wanted), {}
            now_us = self._wall_clock()
            await self._journal.commit_all([ReturnRights(one, 0, now_us) for one in wanted])

    async def _fetch_ahead(self) -> None:
        while True:
            self._bell = trio.Event()
            if self._line.is_connected:
                try:
                    await self._round()
                except StoreFailed:
                    raise
                except Lost as error:
                    log.warning("rights_not_fetched", reason=str(error))
                    await trio.sleep(PAUSE_S)
                    continue
                except (OperationError, SpoolError) as error:
                    log.warning("rights_not_fetched", reason=str(error))
                    await trio.sleep(PAUSE_S)
            with trio.move_on_after(LEASE_S):
                await self._bell.wait()

    async def _round(self) -> None:
        """Everybody who is due; and everybody there is, now and then.

        What is cut off goes on where it was, the next time.
        """
        due, self._due = list(self._due), {}
        try:
            policy = await self.policy()
            for start in range(0, len(due), TOGETHER) or (0,):
                page = due[start : start + TOGETHER]
                await self._fetch(page, 0, CALL_S)
                await self._return(page, policy)
        except BaseException:
            self._due |= dict.fromkeys(due)
            raise
        self._is_ahead = policy.ahead
        if not policy.ahead:
            self._after = None
        elif self._after is None and trio.current_time() >= self._everybody_at + ROUND_S:
            self._everybody_at, self._after = trio.current_time(), b""
        while self._after is not None:
            page = await self._reader.look(held.holders, self._after, TOGETHER)
            if page:
                await self._fetch(page, 0, CALL_S)
                await self._return(page, policy)
            self._after = page[-1][1].bytes if page else None

    async def _return(self, holders: Iterable[Holder], policy: OfflinePolicy) -> None:
        """Give back what was fetched for a large piece of work, and is not needed any more."""
        now_us, now = self._wall_clock(), trio.current_time()
        self._spending = {one: at for one, at in self._spending.items() if at > now - SPENDING_S}
        for kind, holder in holders:
            if holder in self._spending:
                continue
            wants = await self._reader.look(held.wants, self._site, [(kind, holder)], 0, now_us)
            if wants.wants[0].has > 2 * policy.most:
                await self._journal.commit(ReturnRights(holder, policy.most, now_us))

    async def _fetch(self, holders: list[Holder], least: int, deadline_s: float) -> None:
        """Ask for rights of these holders, and keep what is granted.

        Raises:
            Lost, OperationError: it was not granted, or nobody knows whether it was.
        """
        upstream = self._line.upstream
        if upstream is None or not self._line.is_connected:
            raise Lost("there is no line")
        now_us = self._wall_clock()
        standing = await self._reader.look(held.wants, self._site, holders, least, now_us)
        if standing.upstream is not None and str(standing.upstream) != _incarnation(upstream):
            await self._report(upstream, deadline_s)
            standing = await self._reader.look(held.wants, self._site, holders, least, now_us)
        await self._ask(standing, standing.wants, (), deadline_s)

    async def _ask(
        self,
        standing: Standing,
        wants: tuple[Want, ...],
        reported: tuple[Any, ...],
        deadline_s: float,
    ) -> None:
        _, incarnation = self._journal.identity
        asked_us = self._wall_clock()
        args = rights_wire.asked(incarnation, standing, wants, reported)
        answer = await self._line.call("site.rights", args, deadline_s)
        if reported:
            return
        granted = rights_wire.read_granted(answer)
        keep = KeepRights(self._site, UUID(incarnation), granted, asked_us, self._wall_clock())
        await self._journal.commit(keep)
        if granted.epoch != standing.epoch:  # all that is here ahead of need is of the one before
            self._everybody_at = float("-inf")
            self._bell.set()

    async def report(self) -> None:
        """Tell an application server that was put back what this site holds, before it hears what
        of that was spent: else it finds that beyond all rights.

        Raises:
            Lost: the line broke.
        """
        upstream = self._line.upstream
        lease = await self._reader.look(leases.own)
        if upstream is None or lease is None or lease.upstream is None:
            return
        try:
            if str(lease.upstream) != _incarnation(upstream):
                await self._report(upstream, CALL_S)
        except StoreFailed:
            raise
        except (OperationError, SpoolError) as error:  # it gets no rights; what was spent is told
            log.warning("rights_refused", reason=str(error))

    async def _report(self, upstream: Upstream, deadline_s: float) -> None:
        """The application server was put back: tell it all that this site holds."""
        async with self._reporting:
            after = b""
            standing = await self._reader.look(held.wants, self._site, [], 0, self._wall_clock())
            if str(standing.upstream) == _incarnation(upstream):
                return  # somebody else has told it
            while page := await self._reader.look(held.page, self._site, after, TOGETHER):
                after = page[-1].purse.holder.bytes + page[-1].purse.guid.bytes
                await self._ask(standing, (), tuple(page), deadline_s)
            await self._ask(standing, (), (), deadline_s)
        log.warning("rights_reported", upstream=upstream.name)


def _holders(told: Any) -> Iterator[Holder]:
    """The holders that an event names; what makes no sense is left out."""
    for one in told if isinstance(told, list) else ():
        match one:
            case [bool(is_account), bytes(key)] if len(key) == held.KEY_BYTES:
                yield PayerKind.ACCOUNT if is_account else PayerKind.PERSON, UUID(bytes=key)


def _incarnation(upstream: Upstream) -> str:
    return str(upstream.answer.get("incarnation", ""))
