"""Spools of real nodes, kept as each version of the schema left them, and what was in them.

    python -m support.kept_spools       (in tests/) adds those of the present version

An application server `hq` and its site `library`, with people, money, jobs and rights. Each release
adds its own; they are never made again, for later versions must take them over as they are.
"""

from __future__ import annotations

import json
import lzma
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

import trio
from conftest import OpenSpool, open_spool

from spoold.model.purse import Payer, PayerKind
from spoold.provider.client import Provider
from spoold.spool import leases, ledger_views, migrations, nodes, received
from spoold.spool.store import JobFilter
from support.chain import verified
from support.houses import House, give_away, houses, joined, wait_job
from support.waiting import wait_until

FOLDER = Path(__file__).parent / "spools"
VERSIONS = (17,)
NODES = ("hq", "library")
PAGE = 500


def path_of(name: str, version: int) -> Path:
    return FOLDER / f"{name}-{version}.xz"


def unpack(name: str, version: int, data_dir: Path) -> tuple[UUID, dict[str, Any]]:
    """Put the spool into `data_dir`; whose it is, and what was in it."""
    data_dir.mkdir()
    kept = path_of(name, version)
    (data_dir / "spool.db").write_bytes(lzma.decompress(kept.read_bytes()))
    told = json.loads(kept.with_suffix(".json").read_text())
    (data_dir / "witness").write_bytes(bytes.fromhex(told.pop("witness")))
    return UUID(told.pop("node")), told


async def facts(spool: OpenSpool) -> dict[str, Any]:
    """What a version that knows more must still find in a spool."""
    reader = spool.reader
    assert await verified(reader) == spool.journal.head
    users = await reader.users("", 100)
    jobs = await reader.jobs(JobFilter(limit=100))
    at_us = (await reader.records(1, 1))[0].event_us
    wallets = {
        one.name: await reader.look(
            ledger_views.wallet_of, Payer(PayerKind.PERSON, one.guid), at_us + 1_000_000
        )
        for one in users
    }
    charges = [await reader.look(ledger_views.charges_of_job, job.id) for job in jobs]
    standings = await reader.look(received.standings)
    return {
        "jobs": [[one.title, one.state.value, one.owner.name, one.copies] for one in jobs],
        "bodies": [len(await reader.document_body(one.id) or b"") for one in jobs],
        "printers": sorted([one.name, one.release.value] for one in await reader.printers()),
        "users": [[one.name, sorted(one.groups), len(one.cards), one.has_pin] for one in users],
        "available": {name: wallet.available for name, wallet in wallets.items()},
        "charges": [
            [one.charge.state.value, one.charge.quote.total] for some in charges for one in some
        ],
        "providers": [one.name for one in await reader.providers()],
        "mfds": [one.name for one, _ in await reader.mfds()],
        "sites": [[one.name, one.state.value] for one in await reader.look(nodes.find_all)],
        "received": [[one.position, one.state] for one in standings],
        "rights": [[one.holders, one.granted] for one in await reader.look(leases.extents)],
    }


async def _fill(hq: House, site: House, folder: Path) -> None:
    """A day of a small deployment."""
    await hq.ask("price.set", rates=[{"price": PAGE}], replace=True)
    await hq.ask("user.add", name="ada", password="correct horse battery", groups=["staff"])
    await hq.ask("user.add", name="bob", restricted=False)
    await hq.ask("user.add-card", name="ada", card="04A1B2C3D4")
    await hq.ask("user.pin", name="ada", pin="72819354")
    paid = {"name": "user:ada", "amount": 200 * PAGE, "purse": "paid-in", "reason": "cash desk"}
    await hq.ask("account.adjust", **paid)
    await hq.ask("account.add", name="board")
    await hq.ask("provider.enrol", name="mainframe", may_assert=["*"])
    await hq.ask("printer.add", name="safe", uri=folder.as_uri(), release="hold", charging="on")
    await hq.ask("device.enrol", name="panel", printers=["safe"])
    await joined(hq, site)
    await give_away(hq, site, folder)
    host, port = hq.running.ports["clear"]
    async with Provider([f"{host}:{port}"], learns_endpoints=False) as provider:
        for printer, title in (("desk", "letter"), ("safe", "wage"), ("safe", "draft")):
            told = {"printer": printer, "title": title, "format": "text/plain"}
            await provider.submit(b"a page\f", user="ada", **told)
    await wait_job(hq, "letter", "completed")
    wage = await wait_job(hq, "wage", "pending-held")
    await hq.ask("job.release", job=str(wage["id"]))
    await wait_job(hq, "wage", "completed")
    await wait_until(lambda: site.services.uplink.lag == 0)


async def _make() -> None:
    version = migrations.newest()
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        async with houses(folder) as start:
            hq, site = await start("hq"), await start("library", "site")
            await _fill(hq, site, folder)
            guids = {"hq": hq.services.node_guid, "library": site.services.node_guid}
        for name in NODES:
            data_dir = folder / name
            kept = path_of(name, version)
            kept.write_bytes(lzma.compress((data_dir / "spool.db").read_bytes(), preset=9))
            about = {"node": str(guids[name]), "witness": (data_dir / "witness").read_bytes().hex()}
            async with open_spool(data_dir, guids[name]) as spool:
                told = about | await facts(spool)
            kept.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    trio.run(_make)
