"""A building and its application server: two daemons on two machines with one wire between them.

Both machines drop whatever nobody asked for; what has to come through is what `spoold firewall`
says. Jobs are submitted and released in the building; `settle` lays side by side what was
acknowledged, what both nodes have of it, and what is on paper.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from conftest import open_spool

from spoold.daemon.identity import node_guid
from spoold.provider.blocking import BlockingProvider, ControlClient
from spoold.provider.receipt import Unreachable
from support.chain import verified
from support.forking import run
from support.link import FAR, NEAR, Link
from support.money import Purses
from support.peers import wait_until
from support.process import Daemon, all_jobs
from support.sites import stored

LONG_S = 60.0  # for what takes a second or two on a machine that has nothing else to do
PRICE, PAID_IN = 500, 1_000_0000  # in 1/10,000
HQ = f"""
[node]
name = "hq"
data_dir = "disk/data"
[listen]
clear = ["{NEAR}:9191"]
tls = ["{NEAR}:9192"]
mutual = ["{NEAR}:9195"]
[advertise]
names = ["{NEAR}"]
endpoints = ["{NEAR}:9195"]
[limits]
reserve_bytes = "16MiB"
[dnssd]
enabled = false
"""
SITE = f"""
[node]
name = "library"
role = "site"
data_dir = "disk/data"
[listen]
clear = ["{FAR}:9191"]
tls = ["{FAR}:9192"]
mutual = ["{FAR}:9195"]
[upstream]
servers = ["{NEAR}:9195"]
retry_max_s = 0.5
connect_timeout_s = 1.0
[limits]
reserve_bytes = "16MiB"
[dispatch]
backoff_first_s = 0.1
backoff_max_s = 0.5
[drain]
deadline_s = 5
[dnssd]
enabled = false
"""
# Nothing comes in or goes out but answers, what stays on the machine, and what is added.
FIREWALL = """
table inet filter {
    chain cut { type filter hook prerouting priority raw; policy accept; }
    chain input { type filter hook input priority filter; policy drop;
        iif lo accept; ct state established,related accept; }
    chain output { type filter hook output priority filter; policy drop;
        oif lo accept; ct state established,related accept; }
}
"""


class Building:
    """`hq` and `site` are the daemons that run now, their data on `disks`; `sent` is what was
    acknowledged, by job-uuid.
    """

    def __init__(self, folder: Path, wire: Link) -> None:
        """`folder` has `hq/disk` and `site/disk`."""
        self.wire = wire
        self.hq_folder, self.site_folder = folder / "hq", folder / "site"
        self.disks = {"hq": self.hq_folder / "disk", "site": self.site_folder / "disk"}
        self.paper = folder / "paper"
        self.paper.mkdir()
        self.sent: dict[str, bytes] = {}
        self._waiting: list[int] = []  # jobs that are held at the site
        self._close_firewalls()
        self.hq = self.start_hq()
        self.site = self.start_site()
        self._join()

    # -- both nodes ------------------------------------------------------------------------------

    def start_hq(self) -> Daemon:
        self.hq = Daemon(self.hq_folder, config=HQ, machine=self.wire.near_pid)
        return self.hq

    def start_site(self, crash_point: str = "", around: Sequence[str] = ()) -> Daemon:
        """`around` is a command that runs another one."""
        self.site = Daemon(
            self.site_folder,
            crash_point,
            SITE,
            prefix=[*self.wire.far, *around] if around else (),
            machine=self.wire.far_pid,
        )
        return self.site

    @contextmanager
    def site_kept(self, crash_point: str = "") -> Iterator[list[int]]:
        """The site is started again whenever it dies, as systemd does it; how it ended each time.

        It runs with `crash_point` at first.
        """
        self.site.end()
        ends: list[int] = []
        is_over = threading.Event()
        self.start_site(crash_point)

        def keep() -> None:
            while not is_over.is_set():
                dead = self.site
                if dead.process.poll() is None:
                    is_over.wait(0.02)
                    continue
                ends.append(dead.end())
                self.start_site()

        keeper = threading.Thread(target=keep)
        keeper.start()
        try:
            yield ends
        finally:
            is_over.set()
            keeper.join()

    def _close_firewalls(self) -> None:
        for where, folder, config in (
            (self.wire.near, self.hq_folder, HQ),
            (self.wire.far, self.site_folder, SITE),
        ):
            (folder / "spoold.toml").write_text(config)
            said = spoold("firewall", "--nft", "--config", str(folder / "spoold.toml"))
            if config is SITE:  # nothing has to be let in for its line: so nothing is
                said = "\n".join(line for line in said.splitlines() if " output " in line)
            self.wire.run(where, "nft", "-f", "-", input=FIREWALL + said + "\n")

    def _join(self) -> None:
        hq, site = self.hq, self.site
        hq.call("user.add", name="ada")
        hq.call(
            "account.adjust", name="user:ada", amount=PAID_IN, purse="paid-in", reason="cash desk"
        )
        hq.call("price.set", rates=[{"price": PRICE}], unknown="fixed", unknown_price=PRICE)
        token = hq.call("site.invite", name="library", is_approved=True)["token"]
        site.call("site.enter", server=f"{NEAR}:9195", token=token)
        desk = {"name": "desk", "uri": self.paper.as_uri(), "owner": "library"}
        hq.call("printer.add", **desk, release="hold", charging="on")
        wait_until(self._is_ready, LONG_S)

    def _is_ready(self) -> bool:
        found = self.site.call("printer.list", limit=100)["printers"]
        return any(one["name"] == "desk" for one in found) and bool(self.rights())

    def rights(self) -> int:
        """What the site may spend alone."""
        return sum(one["left"] for one in self.site.call("site.holdings")["rights"])

    def knows(self, name: str) -> bool:
        """Whether the site has a copy of this user."""
        return name in _people(self.site)

    def is_copied(self) -> bool:
        """Whether the site knows the people of hq, and nobody else."""
        return _people(self.site) == _people(self.hq)

    def line(self) -> str:
        return self.site.call("site.line")["line"]

    def wait_line(self, state: str) -> None:
        wait_until(lambda: self.line() == state, LONG_S)

    # -- work ------------------------------------------------------------------------------------

    def submit(self, size: int = 100, **options) -> int:
        """The number of a job that the site has acknowledged, and holds."""
        uuid = uuid4()
        document = f"\x1bE{uuid} {os.urandom(size).hex()}".encode()  # one page
        with BlockingProvider([f"unix:{self.site.control}"]) as provider:
            receipt = provider.submit(
                document, printer="desk", user="ada", job_uuid=uuid, **options
            )
        self.sent[str(uuid)] = document
        self._waiting.append(receipt.job_id)
        return receipt.job_id

    def work(self, jobs: int = 5) -> None:
        """Jobs come in, and all that wait but the last one are released: none may be refused."""
        for _ in range(jobs):
            self.submit()
        while len(self._waiting) > 1:
            self.release(self._waiting[0])

    def release(self, job_id: int) -> None:
        """A site that dies meanwhile is asked again: what it did before it died stays done."""
        wait_until(lambda: self._is_released(job_id), LONG_S)
        self._waiting.remove(job_id)

    def _is_released(self, job_id: int) -> bool:
        try:
            with ControlClient(self.site.control) as client:
                if client.call("job.show", {"job": str(job_id)})["state"] == "pending-held":
                    client.call("job.release", {"job": job_id})
                return True
        except Unreachable:
            return False

    # -- what has become of it -------------------------------------------------------------------

    def settle(self) -> None:
        """Everything that was acknowledged is there once: on paper or held, and at hq as well."""
        wait_until(self._is_printed, LONG_S)
        wait_until(self._is_sent, LONG_S)
        here, there = self._jobs_here(), self._jobs_there()
        assert here.keys() == self.sent.keys()
        assert here == there
        assert sum(state == "pending-held" for state in here.values()) == len(self._waiting)
        for uuid, state in here.items():
            found = [one.read_bytes() for one in self.paper.glob(f"*{uuid}*")]
            assert found == ([self.sent[uuid]] if state == "completed" else [])
        assert len(list(self.paper.iterdir())) == len(here) - len(self._waiting)
        printed = len(here) - len(self._waiting)
        for node in (self.hq, self.site):
            (row,) = node.call("usage.sums")["sums"]
            assert (row["charges"], row["amount"]) == (printed, printed * PRICE), row
            assert row["flagged"] == 0, row
        money = self.hq.call("account.show", name="user:ada")
        at_site = sum(one["amount"] for one in money["at_sites"])
        assert money["balance"] + at_site == PAID_IN - printed * PRICE

    def _is_printed(self) -> bool:
        jobs = self._jobs_here()
        done = sum(state == "completed" for state in jobs.values())
        return done == len(self.sent) - len(self._waiting)

    def _is_sent(self) -> bool:
        here = self.site.call("journal.status")
        (there,) = self.hq.call("journal.status")["sites"]
        assert there["quarantined"] == 0
        assert there["state"] == "open"
        return here["upstream"]["lag"] == 0 and there["position"] == here["position"]

    def _jobs_here(self) -> dict[str, str]:
        return {job["uuid"]: job["state"] for job in all_jobs(self.site.control)}

    def _jobs_there(self) -> dict[str, str]:
        found, after = [], 0
        while after is not None:
            page = self.hq.call("job.elsewhere", site="library", limit=500, after_id=after)
            found += page["jobs"]
            after = page["next_after_id"]
        states = {job["uuid"]: job["state"] for job in found}
        assert len(states) == len(found), "a job is there twice"
        return states

    async def verify(self) -> None:
        """With both daemons stopped: chains, the ledger, and the records of the site at hq."""
        hq_dir, site_dir = (self.disks[name] / "data" for name in ("hq", "site"))
        guids = node_guid(hq_dir), node_guid(site_dir)
        async with open_spool(hq_dir, guids[0]) as hq, open_spool(site_dir, guids[1]) as site:
            mine, theirs = await stored(site, guids[1]), await stored(hq, guids[1])
            assert theirs == mine[: len(theirs)]
            assert len(theirs) > len(self.sent)
            for spool in (hq, site):
                assert await verified(spool.reader) == spool.journal.head
                await Purses(spool).check()

    def close(self) -> None:
        for one in (self.site, self.hq):
            one.end()


def _people(node: Daemon) -> set[str]:
    return {one["name"] for one in node.call("user.list", limit=500)["users"]}


def spoold(*words: str) -> str:
    """What a command of spoold writes; it must succeed."""
    done = run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
