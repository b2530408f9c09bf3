"""What the handlers of operations work with, in one frozen value that `daemon/rooms.py` makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import trio

from spoold.accounts.authentication import Authentication
from spoold.accounts.charging import Charging
from spoold.accounts.passwords import Passwords
from spoold.accounts.rounds import Rounds
from spoold.daemon.announce import Told
from spoold.daemon.authority import Authority
from spoold.daemon.config import Config
from spoold.daemon.endpoints import Endpoints
from spoold.daemon.logins import Logins
from spoold.daemon.membership import Membership
from spoold.daemon.operations.watch import Catalogue, Watch
from spoold.dispatch.dispatcher import Dispatcher
from spoold.driver.link import Network
from spoold.intake.opening import OpenJobs
from spoold.model.card import Digests
from spoold.release.desk import Desk
from spoold.release.mfds import Mfds
from spoold.release.news import News
from spoold.release.releasing import Releases
from spoold.release.sessions import Sessions
from spoold.release.work import WorkDesk
from spoold.site.authority import Authority as Alone
from spoold.site.errands import Errands
from spoold.site.far_desk import FarDesk
from spoold.site.handing import Handing
from spoold.site.line import Line
from spoold.site.objects import Objects
from spoold.site.other_sites import OtherSites
from spoold.site.presence import Presence
from spoold.site.recalling import Recalling
from spoold.site.receiver import Receiver
from spoold.site.replica import Replica
from spoold.site.uplink import Uplink
from spoold.site.visitors import Visitors
from spoold.site.wanting import Wanting
from spoold.spool.documents import Documents
from spoold.spool.erasure import Erasure
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.web.health import Check, Stopped


@dataclass(frozen=True, slots=True)
class Services:
    """`connections` counts the open connections by port; `reload` reads the configuration again
    and answers a line for each change.

    `checks` is how the node was when it last looked at itself, `stopped` which printers
    did not print then. `announced` says how a shared printer is told to the network.

    `sites` are the lines that come in here, `line` the one that goes out, where this is a site.

    `changing` is held while printers and devices are looked at and changed, so that two operators
    never build on the same old state.
    """

    journal: Journal
    reader: SqliteReader
    dispatcher: Dispatcher
    documents: Documents
    identity: Authority
    config: Config
    wall_clock: Callable[[], int]
    network: Network
    node_guid: UUID
    node_name: str
    started_us: int
    connections: Callable[[], Mapping[str, int]]
    watch: Watch
    catalogue: Catalogue
    reload: Callable[[], list[str]]
    passwords: Passwords
    digests: Digests
    authentication: Authentication
    erasure: Erasure
    rounds: Rounds
    logins: Logins
    open_jobs: OpenJobs
    charging: Charging
    releases: Releases
    desk: Desk
    mfds: Mfds
    sessions: Sessions
    news: News
    work: WorkDesk
    random_bytes: Callable[[int], bytes]
    sites: Presence
    receiver: Receiver
    handing: Handing
    wanting: Wanting
    errands: Errands  # what sites are to do to their jobs
    far_desk: FarDesk | OtherSites  # what people have waiting at other nodes
    endpoints: Endpoints  # where else clients are told to go
    objects: Objects  # what sites copy
    replica: Replica | None = None  # the copy that a site has
    line: Line | None = None  # of a site to its application servers,
    membership: Membership | None = None  # and as what it shows itself there
    uplink: Uplink | None = None  # what goes over the line of this journal
    alone: Alone | None = None  # who decides when the line is gone
    visitors: Visitors | None = None  # who copies people that are not known here
    recalling: Recalling | None = None  # what calls money back from sites, where this is none
    announced: Callable[[int], Told] = lambda _: Told()
    config_file: Path | None = None
    checks: Callable[[], Sequence[Check]] = tuple
    stopped: Callable[[], Sequence[Stopped]] = tuple
    changing: trio.Lock = field(default_factory=trio.Lock)
