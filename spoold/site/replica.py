"""The site's side of copies: what the application server has is here, a moment after it changed.

In: the line. Out: changes of the site's own spool, a page at a time. It asks when it is told that
something has changed, when the line comes back, and now and then; a page that did not come whole
was never there. What is secret is sealed before it goes anywhere near the spool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from uuid import UUID

import msgpack
import structlog
import trio

from spoold.accounts.vault import Vault, VaultError
from spoold.model.card import Digests
from spoold.model.errors import OperationError, SpooldError, StoreFailed
from spoold.site.line import Line, Lost
from spoold.spool import replica
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.replica import CopyState
from spoold.spool.rows import pack, unpack
from spoold.spool.store import Applied, ApplyObjects

log = structlog.get_logger("spoold.site")

CHECK_S = 15.0  # how often is asked without word of a change
RETRY_S = 1.0
ANSWER_S = 60.0  # what a page may take on a slow line
NOTED_US = 60_000_000  # how often is written down that the copy is current, and nothing else
PAGE_OBJECTS = 1000  # of a page
TOGETHER = 200  # of a transaction: others wait for the site's writer as well
CONFLICTS_TOLD = 10  # by name, in the log
STREAM_BYTES_MAX = 32 * 1024 * 1024
KEYS = b"keys of the hashes of cards and PINs"


class Erases(Protocol):
    async def note(self, key: bytes) -> None:
        """Remember durably that this person is erased."""
        ...

    async def erase_key(self, key: bytes) -> None: ...


class Replica:
    """`start` before anybody logs in, `run` then; `wake` when there is word of changes."""

    def __init__(
        self,
        line: Line,
        who: Callable[[], tuple[UUID, str]],
        journal: Journal,
        reader: SqliteReader,
        vault: Vault,
        digests: Digests,
        erasure: Erases,
        wall_clock: Callable[[], int],
        site_name: str,
        page_objects: int = PAGE_OBJECTS,
    ) -> None:
        self._line = line
        self._who = who
        self._journal = journal
        self._reader = reader
        self._vault = vault
        self._digests = digests
        self._erasure = erasure
        self._wall_clock = wall_clock
        self._site_name = site_name
        self._page_objects = page_objects
        self._bell = trio.Event()
        self._told = b""
        self._noted_us = 0
        self._turn = trio.Lock()
        self.state: CopyState | None = None
        self.current_us = 0
        self.has_word = False  # it has been as upstream is since this process began

    async def start(self) -> None:
        """Take up the copy that is here."""
        self.state = await self._reader.look(replica.state)
        if self.state is None:
            return
        self._told, self.current_us = self.state.told, self.state.current_us
        self._noted_us = self.current_us
        try:
            self._take_keys(self.state.keys)
        except VaultError as error:
            # Hashes of passwords cannot be opened either: everything comes again.
            log.error("replica_key_missing", reason=str(error))
            self._told = b""

    def _take_keys(self, sealed: bytes) -> None:
        if sealed:
            self._digests.adopt(unpack(self._vault.open(sealed, KEYS)))

    def wake(self, _: object = None) -> None:
        self._bell.set()

    def age_us(self) -> int | None:
        """For how long the copy may be behind; None: there is no whole one so far."""
        return max(0, self._wall_clock() - self.current_us) if self.current_us else None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the copy current, for ever."""
        task_status.started()
        while True:
            pause_s = CHECK_S
            self._bell = trio.Event()
            if self._line.is_connected:
                try:
                    await self.pull()
                except Lost as error:
                    log.debug("copy_interrupted", reason=str(error))
                    pause_s = RETRY_S
                except StoreFailed:
                    raise
                except (SpooldError, OperationError) as error:
                    log.warning("copy_refused", reason=str(error))
                    pause_s = RETRY_S
            with trio.move_on_after(pause_s):
                await self._bell.wait()

    async def pull(self) -> int:
        """Take over what has changed, until the copy is as upstream was; how many objects.

        Raises:
            Lost, OperationError: no answer, or none that can be used; what came before is kept.
            SpoolFull, StoreFailed: the spool did not take it.
        """
        async with self._turn:
            count, is_last = 0, False
            while not is_last:
                answer, objects = await self._page()
                count += len(objects)
                is_last = await self._apply(answer, objects)
            return count

    async def take_anew(self) -> None:
        """Begin with the next page as if there were no copy; nothing goes until all has come."""
        async with self._turn:
            self._told = b""
        self.wake()

    async def _page(self) -> tuple[dict[str, Any], list[tuple[str, bytes, Any]]]:
        stream = bytearray()

        def hear(event: str, args: dict[str, Any]) -> None:
            if event == "objects" and len(stream) <= STREAM_BYTES_MAX:
                stream.extend(args["piece"])

        args = {
            "told": self._told,
            "key_ids": list(self._digests.key_ids),
            "limit": self._page_objects,
        }
        answer = await self._line.call("site.objects", args, ANSWER_S, hear)
        unpacker = msgpack.Unpacker(max_buffer_size=STREAM_BYTES_MAX + 1)
        try:
            unpacker.feed(stream)
            objects = [(kind, key, state) for kind, key, state in unpacker]
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise OperationError("bad-request", f"the page makes no sense: {error!r}.") from error
        if len(objects) != answer["objects"] or not isinstance(answer["told"], bytes):
            raise OperationError("bad-request", "the page is not whole.", "Update both nodes.")
        return answer, objects

    async def _apply(
        self, answer: dict[str, Any], objects: list[tuple[str, bytes, dict[str, Any] | None]]
    ) -> bool:
        """Commit a page; whether it was the last one."""
        asked_us = self._wall_clock()
        is_last, is_anew, keys = answer["is_last"], answer["is_anew"], answer.get("keys")
        if is_anew:
            log.info("copy_begun", upstream=self._who()[1])
        for _, key, state in objects:
            if state is not None and state.get("is_erased"):
                await self._erasure.note(key)
            elif state is not None and state.get("password"):
                state["password"] = self._vault.seal_text(state["password"], key)
        is_taking = self.state is None or self.state.is_taking
        is_due = asked_us - self._noted_us >= NOTED_US
        if objects or is_anew or is_taking or keys or is_due:
            guid, name = self._who()
            starts = range(0, len(objects), TOGETHER) or range(1)
            for start in starts:
                is_end = start == starts[-1]
                change = ApplyObjects(
                    objects[start : start + TOGETHER],
                    answer["told"] if is_end else self._told,
                    guid,
                    name,
                    self._site_name,
                    is_anew and start == 0,
                    is_last and is_end,
                    asked_us,
                    self._vault.seal(pack(keys), KEYS) if keys else None,
                )
                await self._commit(change)
            if keys:
                self._digests.adopt(keys)
            self._noted_us = asked_us
            self.state = await self._reader.look(replica.state)
        self._told = answer["told"]
        if is_last:
            if not self.current_us or is_taking:
                log.info("copy_whole", upstream=self._who()[1])
            self.current_us = asked_us
            self.has_word = True
        return bool(is_last)

    async def _commit(self, change: ApplyObjects) -> None:
        while True:
            applied: Applied = await self._journal.commit(change)
            if applied.conflicts:
                await self._tell_conflicts(applied.conflicts)
            for key in applied.erased:
                await self._erasure.erase_key(key)
            if applied.is_whole or not change.is_last:
                return
            change.objects, change.is_anew, change.keys = [], False, None  # the rest is swept

    async def _tell_conflicts(self, count: int) -> None:
        """Tell operators what made way; whose names are people's, only `spoold site copy` says."""
        found = await self._reader.look(replica.conflicts, min(count, CONFLICTS_TOLD))
        log.warning(
            "copy_conflicts",
            count=count,
            made_way=[
                f"{one.kind} {one.name}: {one.became}" for one in found if one.kind != "user"
            ],
            advice="See `spoold site copy`; rename or remove what is this site's own.",
        )
