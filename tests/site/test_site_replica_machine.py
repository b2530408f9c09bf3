"""A machine over two real spools: whatever happens to either of them, the copy comes to equal.

Changes at the application server, pulls that break anywhere, crashes of both (a copy of the files
as they lie on the disk: what kill -9 leaves), restores of the application server, by its own backup
and by a machine that was set back, other scopes, and what the site has of its own under the same
names.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from conftest import open_spool
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spoold.model.card import Digests
from spoold.model.errors import OperationError
from spoold.model.mfd import MfdSettings
from spoold.model.node import EVERYTHING, Scope
from spoold.model.pricing import PriceList, Rate
from spoold.model.principal import Role
from spoold.model.printer import Printer
from spoold.provider.course import Lost
from spoold.spool import replica
from spoold.spool.store import (
    EnrolUser,
    ErasePerson,
    PutAccount,
    PutCard,
    PutDevice,
    PutMfd,
    PutPin,
    PutPrices,
    PutPrinter,
    PutUser,
    RemoveAccount,
    RemoveCard,
    RemovePrinter,
    RemoveUser,
    RenameUser,
    RevokeMfd,
    RevokeUser,
)
from support.replicas import HQ, HQ_KEY, SITE, Wire, everything, replica_of, serve

DIGESTS = Digests([HQ_KEY])
PEOPLE = st.sampled_from(["ada", "bob", "cyd"])
THINGS = st.sampled_from(["front", "back", "side"])
NUMBERS = st.integers(0, 2)
GROUPS = st.sampled_from([(), ("staff",), ("staff", "guests")])
CHANGES = st.one_of(
    st.tuples(st.just("user"), PEOPLE, GROUPS),
    st.tuples(st.just("set"), PEOPLE, GROUPS, st.booleans()),
    st.tuples(st.just("password"), PEOPLE, NUMBERS),
    st.tuples(st.just("rename"), PEOPLE, PEOPLE),
    st.tuples(st.just("remove"), PEOPLE),
    st.tuples(st.just("erase"), PEOPLE),
    st.tuples(st.just("card"), PEOPLE, NUMBERS),
    st.tuples(st.just("uncard"), PEOPLE, NUMBERS),
    st.tuples(st.just("pin"), PEOPLE, NUMBERS),
    st.tuples(st.just("delegates"), PEOPLE, PEOPLE),
    st.tuples(st.just("enrol"), PEOPLE, NUMBERS),
    st.tuples(st.just("revoke"), PEOPLE),
    st.tuples(st.just("printer"), THINGS, THINGS, NUMBERS),
    st.tuples(st.just("unprinter"), THINGS),
    st.tuples(st.just("mfd"), THINGS, NUMBERS),
    st.tuples(st.just("unmfd"), THINGS),
    st.tuples(st.just("account"), THINGS, THINGS, NUMBERS),
    st.tuples(st.just("unaccount"), THINGS),
    st.tuples(st.just("prices"), NUMBERS),
)
LOCAL = st.one_of(
    st.tuples(st.just("own-user"), PEOPLE, NUMBERS),
    st.tuples(st.just("own-printer"), THINGS),
    st.tuples(st.just("own-account"), THINGS, NUMBERS),
    st.tuples(st.just("own-job"), PEOPLE),
)
LIVES = st.one_of(
    st.tuples(st.just("pull"), st.integers(0, 9) | st.none()),
    st.tuples(st.just("pull"), st.none()),
    st.tuples(st.just("scope"), st.booleans()),
    st.tuples(st.just("crash"), st.sampled_from(["hq", "site"])),
    st.tuples(st.just("backup")),
    st.tuples(st.just("restore"), st.booleans()),
)
STEPS = st.one_of(CHANGES, CHANGES, CHANGES, LOCAL, LIVES, LIVES)
ENDS = ("crash", "restore")


class House:
    """Both spools while they are open."""

    def __init__(self, hq, site, wire, copy) -> None:
        self.hq, self.site, self.wire, self.copy = hq, site, wire, copy
        self.now_us = 1

    async def do(self, what: str, *rest) -> None:
        self.now_us += 1
        with suppress(OperationError):  # refused: nothing was changed
            await getattr(self, "do_" + what.replace("-", "_"))(*rest)

    async def put(self, change):
        return await self.hq.journal.commit(change)

    # -- at the application server -----------------------------------------------------------

    async def do_user(self, name, groups):
        roles = frozenset({Role.USER})
        await self.put(
            PutUser(name, self.now_us, roles, "", is_new=True, fields={"groups": groups})
        )

    async def do_set(self, name, groups, disabled):
        fields = {"groups": groups, "disabled": disabled}
        await self.put(PutUser(name, self.now_us, fields=fields))

    async def do_password(self, name, number):
        password = f"$argon2id${number}" if number else ""
        await self.put(PutUser(name, self.now_us, password=password))

    async def do_rename(self, name, other):
        await self.put(RenameUser(name, other, self.now_us))

    async def do_remove(self, name):
        await self.put(RemoveUser(name, self.now_us))

    async def do_erase(self, name):
        user = await self.hq.reader.user(name)
        await self.do_remove(name)
        if user is not None:
            key = user.guid.bytes
            await self.put(ErasePerson(key, name, frozenset(), (), 0, self.now_us))

    async def do_card(self, name, number):
        await self.put(PutCard(name, (DIGESTS.card(str(number)),), "", "", self.now_us))

    async def do_uncard(self, name, number):
        await self.put(RemoveCard(name, None, self.now_us, (DIGESTS.card(str(number)),)))

    async def do_pin(self, name, number):
        digests = (DIGESTS.pins(f"48291{number}")[0],) if number else ()
        await self.put(PutPin(name, digests, self.now_us))

    async def do_delegates(self, name, other):
        user = await self.hq.reader.user(other)
        if user is not None:
            await self.put(PutUser(name, self.now_us, fields={"delegates": (user.guid,)}))

    async def do_enrol(self, name, number):
        user = await self.hq.reader.user(name)
        if user is not None:
            serial = f"{user.guid.hex[:8]}{number}{self.now_us}"
            await self.put(EnrolUser(user.guid, name, serial, 9, self.now_us))

    async def do_revoke(self, name):
        await self.put(RevokeUser(name, self.now_us))

    async def do_printer(self, name, new_name, number):
        guid = UUID(int=number + 1)
        device = await self.put(PutDevice(guid, f"file:///{name}{number}", self.now_us))
        for one in await self.hq.reader.printers():
            if one.name == name:
                changed = replace(one, name=new_name, device_id=device.id)
                await self.put(PutPrinter(changed, self.now_us))
                return
        made = UUID(bytes=self.hq.store.random(16), version=4)
        await self.put(PutPrinter(Printer(0, made, name, device.id), self.now_us))

    async def do_unprinter(self, name):
        for one in await self.hq.reader.printers():
            if one.name == name:
                await self.put(RemovePrinter(one.id, self.now_us))

    async def do_mfd(self, name, number):
        known = {mfd.name: mfd.guid for mfd, _ in await self.hq.reader.mfds()}
        guid = known.get(name) or UUID(bytes=self.hq.store.random(16), version=4)
        token = bytes([number]) * 32 if number else None
        await self.put(PutMfd(guid, name, self.now_us, MfdSettings(), token_key=token))

    async def do_unmfd(self, name):
        await self.put(RevokeMfd(name, self.now_us))

    async def do_account(self, name, new_name, number):
        code = str(number) if number else ""
        try:
            await self.put(PutAccount(name, self.now_us, is_new=True, code=code))
        except OperationError:
            await self.put(PutAccount(name, self.now_us, new_name=new_name, code=code))

    async def do_unaccount(self, name):
        await self.put(RemoveAccount(name, self.now_us))

    async def do_prices(self, number):
        await self.put(PutPrices(PriceList(0, rates=(Rate(number),)), self.now_us))

    # -- at the site ---------------------------------------------------------------------------

    async def do_own_user(self, name, number):
        roles = frozenset({Role.USER})
        await self.site.journal.commit(PutUser(name, self.now_us, roles, "x", is_new=True))
        digests = (DIGESTS.pins(f"48291{number}")[0],)
        await self.site.journal.commit(PutPin(name, digests, self.now_us))
        digests = (DIGESTS.card(str(number)),)
        await self.site.journal.commit(PutCard(name, digests, "", "", self.now_us))

    async def do_own_printer(self, name):
        await self.site.add_printer(name)

    async def do_own_account(self, name, number):
        code = str(number) if number else ""
        await self.site.journal.commit(PutAccount(name, self.now_us, is_new=True, code=code))

    async def do_own_job(self, owner):
        printers = await self.site.reader.printers()
        if printers:
            await self.site.add_job(printers[0], owner=owner)

    # -- between them --------------------------------------------------------------------------

    async def do_pull(self, cuts):
        self.wire.cuts = cuts
        try:
            await self.copy.pull()
        except Lost:
            return
        finally:
            self.wire.cuts = None
        await self.check()

    async def do_scope(self, is_all):
        self.wire.scope = EVERYTHING if is_all else Scope((), ("staff",))

    async def check(self) -> None:
        """What came from upstream is as it is there; and all of it has come."""
        rows = await self.site.reader._all("SELECT kind, key FROM replica")
        there = await everything(self.site)
        wanted = await everything(self.hq, self.wire.scope)
        copied = {key: there.get(key) for key in rows}
        assert copied == wanted
        names = [one.name for one in await self.site.reader.printers()]
        assert len(names) == len(set(names))
        jobs = await self.site.reader._all(
            "SELECT count(*) FROM job WHERE owner_id NOT IN (SELECT id FROM person)"
        )
        assert jobs == [(0,)]
        assert (await self.site.reader.look(replica.state)).current_us


async def life(folder: Path, steps: list, wire_scope: Scope) -> tuple[list, Scope]:
    """Until a node ends; the steps that are left, and the scope."""
    async with open_spool(folder / "hq", HQ) as hq, open_spool(folder / "site", SITE) as site:
        wire = Wire(serve(hq), wire_scope)
        house = House(hq, site, wire, await replica_of(site, wire, page_objects=2))
        while steps and steps[0][0] not in ENDS:
            what, *rest = steps.pop(0)
            if what == "backup":
                keep(folder, "hq", "backup")
            else:
                await house.do(what, *rest)
        if not steps:
            await house.do("pull", None)
        elif steps[0][0] == "crash":
            keep(folder, steps[0][1], "crashed")
    return steps, wire.scope


def keep(folder: Path, name: str, copy: str) -> None:
    """The files as they lie there now, under another name."""
    shutil.rmtree(folder / copy, ignore_errors=True)
    shutil.copytree(folder / name, folder / copy)


def end(folder: Path, what: str, which) -> None:
    """After a crash the node has what was kept of it; after a restore what was kept before."""
    if what == "crash":
        shutil.rmtree(folder / which)
        (folder / "crashed").rename(folder / which)
    elif (folder / "backup").exists():
        witness = (folder / "hq" / "witness").read_bytes()
        keep(folder, "backup", "hq")
        if which:  # it lies outside of backups: a new incarnation begins
            (folder / "hq" / "witness").write_bytes(witness)


# Two who change names while the pages are small; a card that goes from one to the other; a machine
# that was set back in the middle of a pull, and has counted on.
SWAPPED = [
    ("user", "ada", ()), ("user", "bob", ()), ("card", "ada", 1), ("pull", None),
    ("rename", "ada", "cyd"), ("rename", "bob", "ada"), ("rename", "cyd", "bob"),
    ("uncard", "bob", 1), ("card", "ada", 1), ("pull", 1), ("pull", None),
]  # fmt: skip
SET_BACK = [
    ("user", "ada", ()), ("pull", None), ("backup",), ("user", "bob", ()), ("user", "cyd", ()),
    ("printer", "front", "front", 0), ("pull", 3), ("restore", False), ("card", "ada", 1),
    ("printer", "back", "back", 0), ("mfd", "front", 0), ("mfd", "back", 0), ("pull", None),
]  # fmt: skip
RENAMED = [
    ("printer", "front", "front", 0), ("printer", "back", "back", 1), ("user", "ada", ()),
    ("account", "front", "front", 0), ("account", "back", "back", 0), ("pull", None),
    ("printer", "front", "side", 0), ("printer", "back", "front", 1),
    ("printer", "side", "back", 0), ("account", "front", "side", 0),
    ("account", "back", "front", 0), ("account", "side", "back", 0), ("pull", 1), ("pull", None),
]  # fmt: skip
# A machine that was set back after a whole pull: only other records tell of another life.
COUNTED_ON = [
    ("user", "ada", ()), ("backup",), ("card", "ada", 0), ("pull", None), ("restore", False),
    ("pin", "ada", 1), ("uncard", "ada", 0), ("pull", None),
]  # fmt: skip
JOINED = [
    ("own-user", "ada", 1), ("own-job", "ada"), ("own-printer", "front"), ("own-job", "bob"),
    ("own-account", "front", 1), ("user", "ada", ()), ("user", "bob", ()), ("card", "bob", 1),
    ("printer", "front", "front", 0), ("account", "front", "front", 1), ("pull", None),
    ("erase", "ada"), ("crash", "site"), ("pull", None),
]  # fmt: skip
LOST = [
    ("own-user", "cyd", 1), ("user", "bob", ()), ("card", "bob", 1), ("pull", None),
    ("own-user", "ada", 2), ("pin", "bob", 2), ("pull", None),
]  # fmt: skip


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(SWAPPED)
@example(SET_BACK)
@example(RENAMED)
@example(COUNTED_ON)
@example(JOINED)
@example(LOST)
@given(st.lists(STEPS, min_size=10, max_size=40))
@pytest.mark.slow
async def test_the_copy_comes_to_equal_whatever_happens(steps):
    """After every pull that came through, what came from upstream is as it is there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for node in ("hq", "site"):
            (folder / node).mkdir()
        left, scope = list(steps), EVERYTHING
        while True:
            left, scope = await life(folder, left, scope)
            if not left:
                return
            end(folder, *left.pop(0))
