"""The line of this site, wired: its papers, and what follows when its state changes.

In: the configuration, the identity, the journal. Out: a `Line` that runs and a `Membership`, where
this node is a site; and for every node a record and news of each change of a line.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import trio

from spoold import __version__
from spoold.daemon.ground import Ground, wall_clock
from spoold.daemon.membership import Membership
from spoold.daemon.operations import errands as for_upstream
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.held_jobs import result_map
from spoold.daemon.operations.watch import Catalogue
from spoold.dispatch.dispatcher import Dispatcher
from spoold.intake.acceptance import Acceptance
from spoold.model.errors import OperationError
from spoold.model.node import LineState
from spoold.model.printer import Printer
from spoold.model.record import Kind
from spoold.net.connect import TcpNetwork
from spoold.net.context import client_context
from spoold.release.desk import Desk
from spoold.release.news import Mode, News
from spoold.release.places import check_printers
from spoold.site import objects
from spoold.site.attending import Attending
from spoold.site.authority import Authority
from spoold.site.errands import Errands
from spoold.site.far_desk import FarDesk
from spoold.site.fencing import Fence, wait_word
from spoold.site.fetching import Fetching
from spoold.site.giving import Giving
from spoold.site.leftovers import Leftovers
from spoold.site.line import Line, Settings
from spoold.site.other_sites import OtherSites
from spoold.site.presence import Presence
from spoold.site.repairing import Repairing
from spoold.site.replica import Replica
from spoold.site.twins import Losers
from spoold.site.uplink import Uplink
from spoold.site.visitors import Visitors
from spoold.site.wanting import Wanting
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import AddRecord, Event, NodeChanged

CHANGES_MAX = 1000  # of lines, that wait for their record

Task = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Lines:
    """`line` and `membership` are those of a site; an application server has `sites` alone.

    `network` dials as this node: as a member of its deployment, once it is one.
    """

    network: TcpNetwork
    sites: Presence
    line: Line | None = None
    membership: Membership | None = None


def open_lines(ground: Ground) -> Lines:
    """Raises IdentityError: what it joined with is damaged."""
    config, identity, journal = ground.config(), ground.identity, ground.journal
    membership: Membership | None = None

    def context() -> ssl.SSLContext:
        if membership is not None and membership.is_joined:
            return membership.context()
        return client_context(
            ca_pem=identity.authority.ca_pem,
            chain_pem=identity.chain_pem,
            key_pem=identity.key_pem,
        )

    network, sites = TcpNetwork(context), Presence(wall_clock)
    if config.node.role != "site":
        return Lines(network, sites)
    upstream = config.upstream
    membership = Membership(
        config.node.data_dir,
        identity.guid,
        config.node.name,
        identity.names,
        upstream.servers,
        network,
        wall_clock,
        lambda: line.offset_us,
    )

    async def about() -> dict[str, Any]:
        own, incarnation = journal.identity
        return {
            "software": f"spoold/{__version__}",
            "journal": own,
            "incarnation": incarnation,
            "position": journal.head,
        }

    line = Line(
        membership,
        network,
        wall_clock,
        about,
        Settings(upstream.connect_timeout_s, upstream.beat_s, upstream.retry_max_s),
        name=config.node.name,
        software=f"spoold/{__version__}",
    )
    line.clock_hearers.append(journal.note_clock)
    return Lines(network, sites, line, membership)


def open_uplink(ground: Ground, lines: Lines) -> Uplink | None:
    """What sends the journal of a site up; told by the application server when to, besides."""
    if lines.line is None:
        return None
    uplink = Uplink(lines.line, ground.journal, ground.reader, wall_clock)
    lines.line.hear("sync-now", lambda _: uplink.sync_nowait("asked from above"))
    return uplink


async def open_replica(ground: Ground, lines: Lines) -> Replica | None:
    """What keeps the copy of a site current; what it has of keys is in `ground.digests` from now
    on.
    """
    line = lines.line
    if line is None or ground.vault is None:
        return None

    def who() -> tuple[UUID, str]:
        found = line.upstream
        assert found is not None  # there is an answer of it
        return found.guid, found.name

    copy = Replica(
        line,
        who,
        ground.journal,
        ground.reader,
        ground.vault,
        ground.digests,
        ground.erasure,
        wall_clock,
        ground.config().node.name,
    )
    await copy.start()
    line.hear(objects.EVENT, copy.wake)
    line.listen(copy.wake)
    return copy


def open_authority(ground: Ground, lines: Lines) -> Authority | None:
    """Who decides at a site what it cannot ask."""
    if lines.line is None:
        return None
    authority = Authority(
        lines.line,
        ground.journal,
        ground.reader,
        wall_clock,
        ground.identity.guid,
        ground.config().upstream.question_deadline_s,
    )
    lines.line.greetings.append(authority.books)
    return authority


def open_far_desk(
    ground: Ground,
    lines: Lines,
    replica: Replica | None,
    wanting: Wanting,
    errands: Errands,
    catalogue: Catalogue,
    desk: Desk,
) -> FarDesk | OtherSites:
    """Who knows what people have waiting elsewhere: a site's application server, or records."""
    line = lines.line
    if line is None:
        return open_other_sites(ground.reader, wanting, errands, catalogue, desk)

    def upstream() -> str | None:
        if line.upstream is not None:
            return line.upstream.name
        copy = None if replica is None else replica.state
        return None if copy is None else copy.upstream_name

    deadline_s = ground.config().upstream.question_deadline_s
    return FarDesk(line, ground.reader, upstream, deadline_s)


def open_other_sites(
    reader: SqliteReader, wanting: Wanting, errands: Errands, catalogue: Catalogue, desk: Desk
) -> OtherSites:
    """What waits at sites, released at the desk of this node once it has come."""

    async def printers() -> dict[UUID, Printer]:
        return {one.guid: one for one in (await catalogue.look()).printers.values()}

    def check_place(home: Printer, printer: Printer, format: str) -> None:
        check_printers(home, printer, (format,))

    async def release_here(person: UUID, job_id: int, *asked: Any) -> dict[str, Any]:
        user = await reader.user_by_guid(person)
        if user is None:
            raise OperationError("not-found", "there is no such user any more.")
        [done] = await desk.release(user, [job_id], *asked)
        return result_map(done)

    return OtherSites(reader, wanting, errands, printers, check_place, release_here)


def open_visitors(ground: Ground, lines: Lines, replica: Replica | None) -> Visitors | None:
    """Who asks for people that a site has no copy of."""
    if lines.line is None or replica is None:
        return None
    deadline_s = ground.config().upstream.question_deadline_s
    return Visitors(lines.line, ground.reader, ground.digests, replica.pull, deadline_s)


async def tasks_of(
    ground: Ground, lines: Lines, services: Services, acceptance: Acceptance
) -> list[Task]:
    """What runs at a site and nowhere else. It prints nothing before it may: see `_let_go`."""
    line, uplink, replica, alone = lines.line, services.uplink, services.replica, services.alone
    if line is None or uplink is None or replica is None or alone is None:
        return []
    journal, reader, dispatcher = ground.journal, ground.reader, services.dispatcher
    our_name = services.catalogue.our_name
    fetching = Fetching(line, acceptance, journal, reader, replica.pull, our_name, wall_clock)
    giving = Giving(
        line, services.documents, journal, reader, services.catalogue.name_of, wall_clock
    )
    fence = Fence(journal, reader, wall_clock)
    await fence.start()
    dispatcher.is_held_back = True
    uplink.first = alone.report
    losers = Losers(line, journal, reader, wall_clock)
    uplink.on_lost = losers.lose
    return [
        uplink.run,
        replica.run,
        alone.run,
        fetching.run,
        giving.run,
        Attending(line, partial(for_upstream.do, services)).run,
        losers.run,
        Repairing(line, journal, reader, replica.pull, ground.identity.guid, wall_clock).run,
        Leftovers(journal, reader, wall_clock).run,
        fence.run,
        lambda: _let_go(dispatcher, lines, replica),
    ]


async def _let_go(dispatcher: Dispatcher, lines: Lines, replica: Replica) -> None:
    """A site prints once it knows whether its printers are still its own, or cannot know."""
    line, membership = lines.line, lines.membership
    if line is not None and membership is not None and membership.is_joined:
        await wait_word(line, replica)
    dispatcher.let_go()


class LineKeeper:
    """Runs the line, and lets everybody know how it and the lines of sites are."""

    def __init__(self, lines: Lines, journal: Journal, news: News) -> None:
        self._lines = lines
        self._journal = journal
        self._news = news
        self._to_note, self._noted = trio.open_memory_channel[AddRecord](CHANGES_MAX)
        journal.listen(self._hear)
        lines.sites.listen(self._note_site)

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is NodeChanged and event.serials:
                self._lines.sites.drop(event.node.guid)

    def _note_site(self, guid: UUID, state: LineState) -> None:
        self._note({"node": guid.bytes, "line": state.value})

    def _note_own(self, state: LineState) -> None:
        line, membership = self._lines.line, self._lines.membership
        assert line is not None
        assert membership is not None
        if state is LineState.UP and line.upstream is not None:
            membership.learn(line.upstream.answer.get("endpoints") or ())
        upstream = line.upstream.guid.bytes if line.upstream is not None else None
        payload = {"upstream": upstream, "line": state.value, "reason": line.reason[:200]}
        self._note(payload)
        self._news.set_mode(Mode.ONLINE if state is LineState.UP else Mode.OFFLINE)

    def _note(self, payload: dict[str, Any]) -> None:
        record = AddRecord(Kind.LINE_CHANGED, payload, wall_clock())
        try:
            self._to_note.send_nowait(record)
        except trio.WouldBlock:
            pass  # the log has it

    async def run(self) -> None:
        """Keep the line and its records, for ever."""
        line, membership = self._lines.line, self._lines.membership
        async with trio.open_nursery() as nursery:
            if line is not None and membership is not None:
                line.listen(self._note_own)
                nursery.start_soon(membership.run)
                nursery.start_soon(line.run)
            async for record in self._noted:
                # On a full disk the log line must do: what answers it has is not looked at.
                await self._journal.commit_all([record])
