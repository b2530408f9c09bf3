"""What a site decides: it asks with a deadline, and knows by itself when nobody answers."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID

import msgpack
import pytest
import trio

from spoold.accounts.charging import Charging
from spoold.model.errors import OperationError
from spoold.model.node import LineState
from spoold.model.offline import Choice, OfflinePolicy, RightsOut, Strangers
from spoold.model.purse import Payer, PayerKind
from spoold.model.usage import Work
from spoold.site import authority as authorities
from spoold.site import rights_wire
from spoold.site.authority import Authority
from spoold.site.line import Lost
from spoold.spool import charges
from spoold.spool.store import BranchJournal, PutAccount, PutPolicy
from support.money import PAGE, pages
from support.rights import GUIDS, deployment
from support.waiting import wait_until

pytestmark = pytest.mark.slow
DEADLINE_S = 30.0  # of a question that is answered
IMPATIENT_S = 0.1  # of one that is not
PURSE = {"holder": bytes(16), "kind": "paid-in"}


class Wire:
    """A line whose other end is a spool; `mode` is `up`, `gone` or `silent`."""

    def __init__(self, hall, name: str) -> None:
        self.hall, self.name, self.mode = hall, name, "up"
        self.asked = 0
        self.loses: set[int] = set()  # which questions, by their number
        self.listeners = []

    @property
    def is_connected(self) -> bool:
        return self.mode != "gone"

    @property
    def upstream(self):
        incarnation = self.hall.hq.journal.identity[1]
        return SimpleNamespace(name="hq", answer={"incarnation": incarnation})

    def listen(self, listener) -> None:
        self.listeners.append(listener)

    def hear(self, event, hearer) -> None:
        pass

    async def call(self, op, args, deadline_s):
        if self.mode == "gone":
            raise Lost("there is no line")
        if self.mode == "silent":
            await trio.sleep_forever()
        self.asked += 1
        if self.asked in self.loses:
            raise Lost("the line broke")
        args = msgpack.unpackb(msgpack.packb(args))
        site = GUIDS[self.name]
        change = rights_wire.read_asked(site, args, self.hall.now_us, f"node:{site}")
        granted = await self.hall.hq.journal.commit(change)
        return msgpack.unpackb(msgpack.packb(rights_wire.told(granted)))


class Site:
    def __init__(self, hall, name: str = "a", deadline_s: float = DEADLINE_S) -> None:
        self.hall, self.name, self.deadline_s = hall, name, deadline_s
        self.connect()

    def connect(self) -> None:
        spool = self.hall.at[self.name].spool
        self.wire = Wire(self.hall, self.name)
        clock = lambda: self.hall.now_us  # noqa: E731
        self.authority = Authority(
            self.wire, spool.journal, spool.reader, clock, GUIDS[self.name], self.deadline_s
        )
        self.charging = Charging(spool.journal, spool.reader, clock)
        self.charging.authority = self.authority
        self.ada = Payer(PayerKind.PERSON, self.hall.ada)

    async def reserve(self, key: bytes, count: int):
        return await self.charging.reserve(key, self.ada, pages(count), None)

    async def affordable(self) -> int:
        return await self.charging.affordable(self.ada, Work.COPY, None, most=999)


@pytest.fixture
async def hall(tmp_path, spool_at):
    async with deployment(tmp_path, spool_at) as made:
        yield made


async def set_policy(hall, **fields) -> None:
    policy = OfflinePolicy(**fields)
    await hall.hq.journal.commit(PutPolicy(GUIDS["a"], policy, hall.now_us))
    await hall.sync("a")


async def test_money_that_is_elsewhere_is_asked_for(hall):
    """With a line, all that there is can be spent; nobody is asked for what is here."""
    await hall.pay(40)
    site = Site(hall)
    await site.reserve(b"1", 30)
    assert site.wire.asked == 1
    assert await site.affordable() == 10
    asked = site.wire.asked
    await site.reserve(b"2", 10)
    assert site.wire.asked == asked
    with pytest.raises(OperationError, match="is left"):
        await site.reserve(b"3", 1)
    await hall.check()


@pytest.mark.parametrize("mode", ["gone", "silent"])
async def test_without_an_answer_the_rights_decide(hall, mode):
    """At once where there is no line, within the deadline where nobody answers."""
    await hall.pay(40)
    await hall.sync("a")
    site = Site(hall, deadline_s=IMPATIENT_S if mode == "silent" else DEADLINE_S)
    site.wire.mode = mode
    await site.reserve(b"1", 10)
    with trio.fail_after(DEADLINE_S / 2), pytest.raises(OperationError, match="is left"):
        await site.reserve(b"2", 1)
    assert await site.affordable() == 0


async def test_a_shared_account_pays_when_rights_run_out(hall):
    """If the policy says so; the person is known for whom it pays."""
    await hall.pay(40)
    account = await hall.at["a"].journal.commit(PutAccount("offline", 1, is_new=True))
    await set_policy(hall, rights_out=RightsOut.ACCOUNT, account="offline")
    site = Site(hall)
    site.wire.mode = "gone"
    assert await site.affordable() == 999
    charge = await site.reserve(b"1", 50)
    assert (charge.payer.guid, charge.payer.person) == (account.guid, hall.ada)
    assert charge.payer.by == "offline"


async def test_strangers_are_dealt_with_as_the_policy_says(hall):
    """Only while the site is alone."""
    site = Site(hall)
    assert await site.authority.stranger() is None
    site.wire.mode = "gone"
    assert await site.authority.stranger() is None
    await set_policy(hall, strangers=Strangers.DENY)
    with pytest.raises(OperationError, match="does not know who"):
        await site.authority.stranger()
    await set_policy(hall, strangers=Strangers.ACCOUNT, account="offline")
    assert await site.authority.stranger() == "offline"


async def test_choices_of_accounts_can_be_fixed_for_an_outage(hall):
    """To one's own money, or to one account."""
    site = Site(hall)
    await set_policy(hall, choice=Choice.OWN)
    assert await site.authority.account("physics") == "physics"
    site.wire.mode = "gone"
    assert await site.authority.account("physics") == ""
    await set_policy(hall, choice=Choice.ACCOUNT, account="offline")
    assert await site.authority.account("physics") == "offline"
    assert await site.authority.account("") == ""


async def test_the_account_of_an_outage_takes_whoever_has_chosen_another(hall):
    """Nobody need be in it: the policy has decided that."""
    spool = hall.at["a"].spool
    account = await spool.journal.commit(PutAccount("offline", 1, is_new=True))
    await set_policy(hall, choice=Choice.ACCOUNT, account="offline")
    site, ada = Site(hall), await spool.reader.user("ada")
    with pytest.raises(OperationError, match="not for this user"):
        await site.charging.payer("offline", ada, "choice")
    site.wire.mode = "gone"
    payer = await site.charging.payer("physics", ada, "choice")
    assert (payer.guid, payer.by, payer.person) == (account.guid, "rule", ada.guid)


async def test_a_restored_application_server_is_told_what_the_site_holds(hall):
    """Before anything else is asked for; the site loses nothing."""
    await hall.pay(40)
    image = await hall.image("hq")
    site = Site(hall)
    await site.reserve(b"1", 30)
    await hall.restore("hq", image)
    await site.reserve(b"2", 5)
    assert await hall.rights("a") == 30 * PAGE + await hall.left("a") + 5 * PAGE
    for key in (b"1", b"2"):
        await site.charging.settle(key)
    await hall.ship("a")
    assert await hall.left("hq") + await hall.left("a") == 5 * PAGE
    assert await hall.rights("a") == await hall.left("a")
    await hall.check()


async def test_what_was_spent_is_within_the_rights_that_were_told_before(hall):
    """To an application server that was put back: it flags nothing, and asks nobody for more."""
    image = await hall.image("hq")
    await hall.pay(40)
    site = Site(hall)
    await site.reserve(b"1", 10)
    await site.charging.settle(b"1")
    await hall.restore("hq", image)
    for _ in range(2):
        await site.authority.report()
    await hall.ship("a")
    kept = await hall.hq.spool.reader.look(charges.find, b"1")
    assert (kept.charge.net, kept.charge.flags) == (10 * PAGE, ())
    assert await hall.rights("a") == await hall.left("a")
    await hall.check()


@pytest.mark.parametrize("is_frozen", [True, False])
async def test_who_can_be_told_nothing_hears_of_what_was_spent_all_the_same(hall, is_frozen):
    """A site that gets no rights, and one whose line breaks, which tries again."""
    await hall.pay(40)
    image = await hall.image("hq")
    site = Site(hall)
    await site.reserve(b"1", 10)
    await hall.restore("hq", image)
    if is_frozen:
        await hall.sync("a")
        await hall.freeze("a")
        await hall.restore("hq", await hall.image("hq"))
        await site.authority.report()
    else:
        site.wire.mode = "gone"
        with pytest.raises(Lost):
            await site.authority.report()


async def test_rights_are_fetched_for_everybody_and_what_is_too_much_goes_back(hall):
    """A quarter of what somebody has, without being asked."""
    await hall.pay(4000)
    site = Site(hall)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.authority.run)
        # The most that a site gets ahead of need.
        await wait_until(lambda: hall.left("a"), holds=lambda found: found == 200 * PAGE)
        nursery.cancel_scope.cancel()
    assert await hall.left("hq") == 3800 * PAGE
    assert site.wire.asked > 0
    await hall.check()


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_round_that_was_cut_off_goes_on(hall, monkeypatch, lost):
    """Whether the answer for who is due is lost, or the one for everybody."""
    monkeypatch.setattr(authorities, "PAUSE_S", 0.01)
    await hall.pay(40)
    site = Site(hall)
    site.wire.loses.add(lost)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.authority.run)
        await wait_until(lambda: hall.left("a"), holds=lambda found: found == 10 * PAGE)
        nursery.cancel_scope.cancel()
    assert site.wire.asked > lost


async def test_in_another_epoch_rights_are_fetched_for_everybody_again(hall):
    """Whatever was asked first: what the site held ahead of need is gone with the one before."""
    await hall.pay(40)
    site = Site(hall)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.authority.run)
        await wait_until(lambda: hall.left("a"), holds=lambda found: found == 10 * PAGE)
        journal = hall.at["a"].spool.journal
        await journal.commit(BranchJournal(journal.head, hall.now_us))
        assert await hall.left("a") == 0
        for listener in site.wire.listeners:
            listener(LineState.UP)
        await wait_until(lambda: hall.left("a"), holds=lambda found: found > 0)
        nursery.cancel_scope.cancel()
    await hall.check()


@pytest.mark.parametrize(
    "answer",
    [{}, {"epoch": "1"}, {"epoch": 1, "valid_us": 1, "upstream": "x", "policy": {}, "rights": []}],
)
def test_an_answer_that_makes_no_sense_is_refused(answer):
    """Whatever comes over the line, the site keeps what it has."""
    with pytest.raises(OperationError, match="makes no sense"):
        rights_wire.read_granted(answer)


def test_a_question_that_makes_no_sense_is_refused():
    """As every other one."""
    with pytest.raises(OperationError, match="makes no sense"):
        rights_wire.read_asked(UUID(int=1), {"upstream": None, "incarnation": "?"}, 0, "node")


@pytest.mark.parametrize(
    "purse",
    [
        PURSE | {"until_us": 2**63},
        PURSE | {"from_us": -1},
        PURSE | {"period": "x" * 65},
        PURSE | {"kind": "deep"},
        [],
    ],
)
def test_a_purse_that_cannot_be_kept_is_refused(purse):
    """What a site says that it holds may be opened at the application server."""
    args = {"upstream": None, "incarnation": str(UUID(int=2)), "epoch": 1, "wants": []}
    with pytest.raises(OperationError, match="makes no sense"):
        rights_wire.read_asked(UUID(int=1), {**args, "held": [[False, purse, 1]]}, 0, "node")
