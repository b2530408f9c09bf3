"""Passwords as Argon2id hashes (RFC 9106), made and checked beside the event loop.

In: a password and the address that brought it. Out: a PHC string, or whether it is the right one;
both cost the same time whether there is a user of that name or not. A hash takes 64 MiB and about
0.15 s of one processor, so few run at once, the rest waits in turn, address by address, and what is
too much is `busy`: a flood of logins takes neither the memory nor the other clients' processor.

Memory and passes are those of RFC 9106's second recommended option. It has four lanes, here it is
one: the work of an attacker stays the same, and a hash is one thread. With four, two processors
were both taken while a hash ran, and the event loop waited for milliseconds.
"""

from __future__ import annotations

import base64
import os
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import argon2
import structlog
import trio

from spoold.model.errors import OperationError

log = structlog.get_logger("spoold.accounts")

MEMORY_KIB = 64 * 1024
PASSES = 3
LANES = 1
SALT_BYTES = 16
HASH_BYTES = 32
RUNNING_MAX = max(1, min(4, len(os.sched_getaffinity(0)) // 2))
TURN_S = 15.0  # nobody waits longer than this for a turn
WAITING_MAX = 128
WAITING_PER_ADDRESS_MAX = 32


class Passwords:
    """`running_max` hashes at once; `waiting_max` may wait, a part of them from one address."""

    def __init__(
        self,
        running_max: int = RUNNING_MAX,
        waiting_max: int = WAITING_MAX,
        waiting_per_address_max: int = WAITING_PER_ADDRESS_MAX,
        memory_kib: int = MEMORY_KIB,
    ) -> None:
        self._hasher = argon2.PasswordHasher(PASSES, memory_kib, LANES, HASH_BYTES, SALT_BYTES)
        self._nobody = _hash_of_nobody(memory_kib)
        self._turns = _Turns(running_max, waiting_max, waiting_per_address_max)
        self._limiter = trio.CapacityLimiter(running_max)  # beside Trio's own, which others need

    async def hash(self, password: str) -> str:
        """The PHC string of a password.

        Raises:
            OperationError: `busy`.
        """
        async with self._turns.turn(""):
            return await trio.to_thread.run_sync(self._hash, password, limiter=self._limiter)

    async def verify(self, stored: str, password: str, address: str) -> bool:
        """Whether this is the password of `stored`; never, but as slowly, when that is "".

        Raises:
            OperationError: `busy`.
        """
        async with self._turns.turn(address):
            return await trio.to_thread.run_sync(
                self._verify, stored, password, limiter=self._limiter
            )

    def _hash(self, password: str) -> str:
        try:
            return self._hasher.hash(_bytes(password))
        except argon2.exceptions.HashingError as error:
            raise _failed(error) from error

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored or self._nobody, _bytes(password)) and bool(stored)
        except argon2.exceptions.VerifyMismatchError:
            return False
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError) as error:
            raise _failed(error) from error


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


def _failed(error: Exception) -> OperationError:
    """There is no memory for it, or the stored hash is damaged."""
    log.error("password_not_checked", reason=str(error))
    return OperationError("busy", "the password cannot be checked now.", "Try again later.")


def _hash_of_nobody(memory_kib: int) -> str:
    """A hash that no password has, and that costs as much to check as any."""

    def encoded(count: int) -> str:
        return base64.b64encode(os.urandom(count)).decode().rstrip("=")

    costs = f"m={memory_kib},t={PASSES},p={LANES}"
    return f"$argon2id$v=19${costs}${encoded(SALT_BYTES)}${encoded(HASH_BYTES)}"


class _Turns:
    """A bounded number at once; the next turn is of the address that had none for longest."""

    def __init__(self, running_max: int, waiting_max: int, per_address_max: int) -> None:
        self._free = running_max
        self._waiting_max = waiting_max
        self._per_address_max = per_address_max
        self._waiting = 0
        self._by_address: OrderedDict[str, deque[trio.Event]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        if self._free:
            self._free -= 1
        else:
            await self._wait(address)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, address: str) -> None:
        """Returns with the turn of somebody who has ended.

        Raises:
            OperationError: `busy`.
        """
        queue = self._by_address.get(address)
        if self._waiting >= self._waiting_max or (
            queue is not None and len(queue) >= self._per_address_max
        ):
            raise _busy()
        if queue is None:
            queue = self._by_address[address] = deque()
        bell = trio.Event()
        queue.append(bell)
        self._waiting += 1
        try:
            with trio.move_on_after(TURN_S):
                await bell.wait()
                return
        except BaseException:
            self._leave(address, bell)
            raise
        if not bell.is_set():
            self._leave(address, bell)
            raise _busy()

    def _leave(self, address: str, bell: trio.Event) -> None:
        """Wait no longer; a turn that was given meanwhile goes to the next."""
        if bell.is_set():
            self._pass_on()
            return
        queue = self._by_address[address]
        queue.remove(bell)
        self._waiting -= 1
        if not queue:
            del self._by_address[address]

    def _pass_on(self) -> None:
        if not self._by_address:
            self._free += 1
            return
        address, queue = next(iter(self._by_address.items()))
        queue.popleft().set()
        self._waiting -= 1
        if queue:
            self._by_address.move_to_end(address)
        else:
            del self._by_address[address]


def _busy() -> OperationError:
    return OperationError("busy", "too many log in at once.", "Try again in a moment.")
