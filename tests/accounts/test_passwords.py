"""Argon2id beside the event loop: what a hash says, who gets a turn, and who is told to wait."""

from __future__ import annotations

import time

import argon2
import pytest
import trio
import trio.testing

from spoold.accounts import passwords
from spoold.accounts.passwords import Passwords
from spoold.model.errors import OperationError

QUICK_KIB = 64


def quick(**options) -> Passwords:
    """As in the daemon, but a hash takes a millisecond."""
    return Passwords(memory_kib=QUICK_KIB, **options)


@pytest.mark.slow
async def test_a_hash_is_argon2id_with_64_mib_and_three_passes():
    """RFC 9106 4, the second recommended option, in one lane; nothing of the password is in it."""
    made = await Passwords().hash("correct horse")
    assert made.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    found = argon2.extract_parameters(made)
    assert (found.salt_len, found.hash_len) == (16, 32)
    assert "horse" not in made
    assert made != await Passwords().hash("correct horse")


@pytest.mark.parametrize(
    "password", ["correct horse", "pass:word:", "Straße 1€", "x" * 256, "nul\0inside", "\udcff" * 8]
)
async def test_the_right_password_is_told_from_others(password):
    """Whatever it is made of; the case counts, and every character."""
    checker = quick()
    stored = await checker.hash(password)
    assert await checker.verify(stored, password, "192.0.2.7")
    for wrong in (password.swapcase() + "x", password[:-1], password + "\0", ""):
        assert not await checker.verify(stored, wrong, "192.0.2.7")


async def test_nobody_has_the_password_of_nobody():
    """Without a stored hash no password is right."""
    for password in ("", "correct horse"):
        assert not await quick().verify("", password, "192.0.2.7")


async def test_a_damaged_hash_lets_nobody_in():
    """Nor is it a wrong password: the operator has an event, and sets it again."""
    for damaged in ("$argon2id$v=19$m=1", "correct horse"):
        with pytest.raises(OperationError, match="cannot be checked"):
            await quick().verify(damaged, "correct horse", "192.0.2.7")


@pytest.mark.slow
async def test_a_name_that_nobody_has_takes_as_long():
    """The clock does not tell who is a user."""
    checker = Passwords()
    stored = await checker.hash("correct horse")

    async def duration_s(hash_of: str) -> float:
        begun = time.process_time()
        await checker.verify(hash_of, "wrong horse", "192.0.2.7")
        return time.process_time() - begun

    pairs = [(await duration_s(stored), await duration_s("")) for _ in range(4)]
    known, unknown = (min(those) for those in zip(*pairs, strict=True))
    assert known / 3 < unknown < known * 3


@pytest.fixture
def gate(monkeypatch) -> trio.Event:
    """No check ends before this is set; then each runs at once."""
    opened = trio.Event()

    async def run_sync(function, *args, **_options):
        await opened.wait()
        await trio.lowlevel.checkpoint()
        return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    return opened


class Visitors:
    """Verify at once, and note in which order they are done."""

    def __init__(self, checker: Passwords, stored: str) -> None:
        self.checker, self.stored = checker, stored
        self.done: list[str] = []
        self.busy: list[str] = []

    async def visit(self, address: str, password: str = "correct horse") -> None:
        try:
            await self.checker.verify(self.stored, password, address)
        except OperationError as error:
            {"busy": self.busy}[error.code].append(address)
        else:
            self.done.append(address)


async def test_a_flood_from_one_address_delays_others_by_one_turn(gate):
    """Whoever comes from elsewhere is next, whatever waits from there."""
    visitors = Visitors(quick(running_max=1), "")
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(visitors.visit, "192.0.2.66")
        await trio.testing.wait_all_tasks_blocked()
        for address in ("192.0.2.1", "192.0.2.2"):
            nursery.start_soon(visitors.visit, address)
            await trio.testing.wait_all_tasks_blocked()
        gate.set()
    assert visitors.done[:4] == ["192.0.2.66", "192.0.2.66", "192.0.2.1", "192.0.2.2"]
    assert len(visitors.done) == 32


async def test_too_many_are_told_at_once_that_it_is_busy(gate):
    """One address takes a part of the places, all of them together no more than there are."""
    checker = quick(running_max=1, waiting_max=6, waiting_per_address_max=4)
    visitors = Visitors(checker, "")
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(visitors.visit, "192.0.2.66")
        await trio.testing.wait_all_tasks_blocked()
        for number in range(4):
            nursery.start_soon(visitors.visit, f"192.0.2.{number}")
        await trio.testing.wait_all_tasks_blocked()
        assert visitors.busy.count("192.0.2.66") == 5
        assert len(visitors.busy) == 7
        gate.set()
    assert len(visitors.done) == 7


async def test_who_hangs_up_gives_the_turn_to_the_next():
    """Waiting or just called up: nothing is left behind."""
    checker = quick(running_max=1, waiting_max=4)
    stored = await checker.hash("correct horse")
    visitors = Visitors(checker, stored)
    for pause in (0, 1, 3, 10, 30):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(visitors.visit, "192.0.2.66")
            for _ in range(pause):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        with trio.fail_after(30):
            assert await checker.verify(stored, "correct horse", "192.0.2.1")


async def test_nobody_waits_for_ever_for_a_turn(autojump_clock, gate):
    """After the bound it is `busy`; the one whose turn it is goes on."""
    visitors = Visitors(quick(running_max=1), "")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(visitors.visit, "192.0.2.1")
        await trio.testing.wait_all_tasks_blocked()
        begun = trio.current_time()
        await visitors.visit("192.0.2.2")
        assert visitors.busy == ["192.0.2.2"]
        assert trio.current_time() - begun == pytest.approx(passwords.TURN_S)
        gate.set()
    assert visitors.done == ["192.0.2.1"]
