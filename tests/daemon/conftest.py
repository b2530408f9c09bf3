"""A node without its doors: the real spool and authority, and the table of operations; an MFD at
it, and Ada with ten cents.
"""

from __future__ import annotations

import os
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from uuid import UUID

import pytest
import trio

from spoold.accounts.charging import Charging
from spoold.accounts.passwords import Passwords
from spoold.accounts.rounds import Rounds
from spoold.codec import frame
from spoold.counting.counter import Counter
from spoold.daemon import authority
from spoold.daemon.config import Config, Node
from spoold.daemon.endpoints import Endpoints
from spoold.daemon.ipp_node import open_ipp
from spoold.daemon.lines import open_other_sites
from spoold.daemon.logins import Logins
from spoold.daemon.operations import build_table
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.watch import Catalogue, Watch
from spoold.dispatch.dispatcher import Dispatcher
from spoold.intake.acceptance import Acceptance
from spoold.intake.opening import OpenJobs
from spoold.model import release
from spoold.model.pricing import PriceList, Rate
from spoold.model.principal import Port, Principal, Role
from spoold.model.usage import Work
from spoold.net.connect import TcpNetwork
from spoold.release.counts import Counts
from spoold.release.desk import Desk as Desk_
from spoold.release.mfds import Mfds
from spoold.release.news import News
from spoold.release.releasing import Releases
from spoold.release.sessions import Sessions
from spoold.release.work import WorkDesk
from spoold.site.errands import Errands
from spoold.site.handing import Handing
from spoold.site.objects import Objects
from spoold.site.presence import Presence
from spoold.site.receiver import Receiver
from spoold.site.wanting import Wanting
from spoold.spool.erasure import Erasure
from spoold.spool.store import PutPrices
from support.desks import CENT, PASSWORD, add_user
from support.directory import DIGESTS, authentication_of
from support.houses import houses
from support.ipp_node import IppNode
from support.panels import Panel

NODE_GUID = UUID("00000000-0000-4000-8000-00000000000a")
ADMIN = Principal("uid:0", Port.CONTROL, frozenset({Role.ADMIN}), "root")


class Desk(SimpleNamespace):
    """Where operations are asked for. `events` are those sent since the last question."""

    async def ask(self, op, _principal=ADMIN, **args):
        self.events = []

        async def send(name, sent):
            self.events.append((name, sent))

        answer = await self.table.call(_principal, op, args, send)
        frame.answer(1, answer)  # raises when it is too large for a message
        return answer

    async def ask_all(self, op, key, **args):
        """Every row of a paged answer, and how many pages there were."""
        rows, pages = [], 0
        while True:
            answer = await self.ask(op, **args)
            rows += answer[key]
            pages += 1
            if answer["next_after_id"] is None:
                return rows, pages
            args["after_id"] = answer["next_after_id"]


@pytest.fixture
async def desk(spool):
    network = TcpNetwork()
    passwords = Passwords(memory_kib=64)
    authentication = authentication_of(spool, passwords)
    ca_pem, key_pem = authority.make_ca(spool.wall_clock)
    config = replace(Config(), node=Node("library", "application", spool.data_dir))
    acceptance = Acceptance(
        spool.journal, spool.reader, spool.documents, config.limits, spool.wall_clock
    )
    await acceptance.start()
    mfds = Mfds(spool.journal, spool.reader)
    await mfds.start()
    sessions = Sessions(spool.journal, spool.reader, mfds, spool.wall_clock, os.urandom)
    await sessions.start()
    catalogue = Catalogue(spool.journal, spool.reader)
    counter = Counter()
    counts = Counts(
        spool.journal, spool.reader, spool.documents, counter, catalogue, spool.wall_clock
    )
    charging = Charging(spool.journal, spool.reader, spool.wall_clock)
    releases = Releases(spool.journal, spool.reader, catalogue, counts, charging, spool.wall_clock)
    at_desk = Desk_(spool.journal, spool.reader, catalogue, releases, charging, spool.wall_clock)
    sites = Presence(spool.wall_clock)
    wanting = Wanting(spool.journal, spool.reader, sites, spool.wall_clock, 0.3)
    errands = Errands(sites, 0.3)
    services = Services(
        journal=spool.journal,
        reader=spool.reader,
        dispatcher=Dispatcher(
            spool.journal, spool.reader, spool.documents, network, spool.wall_clock, Random(1)
        ),
        documents=spool.documents,
        identity=authority.Authority(ca_pem, key_pem, spool.wall_clock),
        config=config,
        wall_clock=spool.wall_clock,
        network=network,
        node_guid=NODE_GUID,
        node_name="library",
        started_us=spool.wall_clock(),
        connections=lambda: {"clear": 3},
        watch=Watch(spool.journal),
        catalogue=catalogue,
        passwords=passwords,
        digests=DIGESTS,
        authentication=authentication,
        erasure=Erasure(
            spool.journal,
            spool.reader,
            spool.documents,
            spool.store,
            spool.wall_clock,
            spool.data_dir,
        ),
        rounds=Rounds(spool.journal, spool.reader, DIGESTS, spool.wall_clock),
        logins=Logins(authentication, spool.journal),
        open_jobs=OpenJobs(acceptance, spool.journal, spool.reader, lambda: 900.0),
        charging=charging,
        releases=releases,
        desk=at_desk,
        mfds=mfds,
        sessions=sessions,
        news=News(spool.journal, sessions),
        work=WorkDesk(charging, spool.reader, spool.wall_clock),
        random_bytes=os.urandom,
        sites=sites,
        receiver=Receiver(spool.journal, spool.reader, spool.wall_clock),
        endpoints=Endpoints(lambda: config, lambda _: None),
        far_desk=open_other_sites(spool.reader, wanting, errands, catalogue, at_desk),
        wanting=wanting,
        errands=errands,
        handing=Handing(
            spool.journal,
            spool.reader,
            spool.documents,
            Presence(spool.wall_clock),
            spool.wall_clock,
        ),
        objects=Objects(
            spool.journal,
            spool.reader,
            Presence(spool.wall_clock),
            DIGESTS,
            NODE_GUID,
            spool.wall_clock,
        ),
        reload=lambda: ["limits.idle_deadline_s: 60.0 -> 30.0 (takes effect now)"],
    )
    yield Desk(
        services=services,
        counts=counts,
        spool=spool,
        acceptance=acceptance,
        table=build_table(services),
        events=[],
    )
    await counter.aclose()


@pytest.fixture
async def node(desk, spool):
    """An IPP server with a paused printer called `default`."""
    await spool.add_printer("default", paused=True)
    server = await open_ipp(
        desk.services, desk.table, desk.acceptance, lambda: desk.services.config, {}
    )
    async with trio.open_nursery() as nursery:
        found = IppNode(desk, server, spool)
        nursery.start_soon(found.deadlines.run)
        yield found
        nursery.cancel_scope.cancel()


@pytest.fixture
async def start(tmp_path):
    """Starts whole nodes: `await start("hq")`, `await start("library", "site")`."""
    async with houses(tmp_path) as begin:
        yield begin


# -- an MFD, and Ada with ten cents ------------------------------------------------------------


@pytest.fixture
async def safe(desk):
    """A printer whose jobs wait for their owners, and that charges."""
    return await desk.spool.add_printer(
        "safe", release=release.ReleaseMode.HOLD, charging=release.Charging.ON
    )


@pytest.fixture
async def enrol(desk, safe):
    """Enrols an MFD for `safe`."""

    async def enrolled(name="panel", printers=("safe",), **settings) -> Panel:
        answer = await desk.ask("device.enrol", name=name, printers=list(printers), **settings)
        return Panel(desk, answer["guid"], name)

    return enrolled


@pytest.fixture
async def panel(enrol):
    return await enrol()


@pytest.fixture
async def ada(desk):
    return await add_user(desk, "ada", 10 * CENT)


@pytest.fixture
async def prices(desk):
    """A copy is one cent, anything else two."""
    rates = (Rate(2 * CENT), Rate(CENT, work=Work.COPY))
    await desk.spool.journal.commit(PutPrices(PriceList(0, rates=rates), 0))


@pytest.fixture
async def here(panel, ada, prices):
    """Ada is logged in, with ten cents."""
    await panel.login(name="ada", password=PASSWORD)
    return panel
