"""Jobs for printers that stand beside a site: whole daemons on loopback, the site behind a line."""

from __future__ import annotations

from functools import partial
from uuid import uuid4

import pytest
import trio

from spoold.intake.submission import Submission
from spoold.model.errors import OperationError
from spoold.model.person import Owner
from spoold.provider.client import Provider
from spoold.provider.endpoint import Tls
from support.houses import (
    ANYWHERE,
    House,
    give_away,
    jobs_of,
    joined,
    paper,
    wait_job,
)
from support.waiting import wait_until

pytestmark = pytest.mark.slow

LARGE = b"%!PS\n" + b"0123456789abcdef" * 100_000


async def submit(house: House, title: str, body=b"%!PS\nshowpage\n", **more):
    host, port = house.running.ports["clear"]
    async with Provider([f"{host}:{port}"], learns_endpoints=False) as provider:
        return await provider.submit(body, printer="desk", title=title, user="ada", **more)


@pytest.fixture
async def pair(start, tmp_path):
    hq, site = await start("hq"), await start("library", "site")
    await joined(hq, site)
    await give_away(hq, site, tmp_path)
    return hq, site


async def test_a_job_for_a_printer_of_a_site_is_printed_by_the_site(pair, tmp_path):
    """hq takes it, the site fetches it over the line that it opened, and both know its end."""
    hq, site = pair
    receipt = await submit(hq, "letter", LARGE, copies=2, priority=80)
    job = await wait_job(hq, "letter", "completed")
    [there] = await jobs_of(site, "letter")
    assert there["uuid"] == job["uuid"] == str(receipt.job_uuid)
    assert (there["owner"], there["priority"], there["copies"]) == ("ada", 80, 2)
    assert there["submitter"] == job["submitter"]
    assert there["created_us"] == job["created_us"]
    assert "library has it as job" in job["message"]
    assert paper(tmp_path) == [LARGE]


async def test_a_job_that_the_site_had_before_is_dropped(pair, tmp_path):
    """Submitted at both under one uuid: one sheet of paper, and hq follows the site's job."""
    hq, site = pair
    nowhere = "socket://127.0.0.1:1"  # what has come out at a site is no job of hq any more
    await hq.ask("printer.set", name="desk", uri=nowhere)
    await wait_until(
        lambda: site.ask("printer.show", name="desk"), holds=lambda told: told["uri"] == nowhere
    )
    uuid = uuid4()
    upload = await site.daemon._acceptance.begin(
        Submission("desk", Owner("ada"), "address:127.0.0.1", "frames", "127.0.0.1", uuid, "twice")
    )
    await upload.write(b"%!PS\n")
    await upload.commit()
    await submit(hq, "twice", b"%!PS\n", job_uuid=uuid)
    await wait_job(hq, "twice", "processing")
    await hq.ask("printer.set", name="desk", uri=(tmp_path / "paper").as_uri())
    job = await wait_job(hq, "twice", "completed")
    assert "library has it as job" in job["message"]
    assert len(await jobs_of(site, "twice")) == 1
    assert paper(tmp_path) == [b"%!PS\n"]


async def test_a_job_that_is_canceled_at_hq_is_canceled_at_the_site(pair, tmp_path):
    """What waits at the site goes when somebody cancels it where it was submitted."""
    hq, site = pair
    await hq.ask("printer.set", name="desk", uri="socket://127.0.0.1:1")  # nobody is there
    await submit(hq, "draft")
    await wait_job(site, "draft", "pending")
    job = await wait_job(hq, "draft", "processing")
    assert "queued-in-device" in job["reasons"]
    await hq.ask("job.cancel", job=str(job["id"]))
    await wait_job(hq, "draft", "canceled")
    assert (await jobs_of(site, "draft"))[0]["state"] == "canceled"
    assert paper(tmp_path) == []


async def test_jobs_wait_for_a_site_that_is_away(start, pair, tmp_path):
    """hq goes on to take jobs while the site is off; nothing is lost, and nothing comes twice."""
    hq, site = pair
    guid = site.services.node_guid
    await site.stop()
    await wait_until(lambda: not hq.services.sites.here())
    for number in range(20):
        await submit(hq, f"job {number}", b"%%!PS\n%d" % number)
    [waits] = await jobs_of(hq, "job 7")
    assert waits["state"] == "pending"
    told = await hq.ask("job.explain", job=str(waits["id"]))
    assert "library has no line now" in told["waits"]
    [advice] = (await hq.ask("printer.show", name="desk"))["advice"]
    assert "spoold printer rehome --from-site library" in advice
    again = await start("library", "site")
    assert again.services.node_guid == guid
    for number in range(20):
        await wait_job(hq, f"job {number}", "completed")
    assert sorted(paper(tmp_path)) == sorted(b"%%!PS\n%d" % number for number in range(20))


async def test_only_the_owner_is_given_a_job(start, pair, tmp_path):
    """Another site neither sees nor gets the documents of the library's printers."""
    hq, site = pair
    other = await start("annex", "site")
    await joined(hq, other, "annex")
    await site.stop()
    receipt = await submit(hq, "secret")
    line = other.services.line
    assert (await line.call("site.jobs", {}, 5))["jobs"] == []
    with pytest.raises(OperationError, match="not offered"):
        await line.call("site.document", {"job": receipt.job_id}, 5)
    with pytest.raises(OperationError, match="not offered"):
        await line.call("site.took", {"job": receipt.job_id, "job_id": 1}, 5)


async def test_a_node_takes_no_job_that_it_cannot_hand_on(pair):
    """A site refuses jobs for printers of others: their providers go elsewhere."""
    hq, site = pair
    await hq.ask("printer.add", name="far", uri="file:///tmp")

    def refusal() -> str:
        with pytest.raises(OperationError) as error:
            site.daemon._acceptance.printer("far")
        return error.value.code

    await wait_until(lambda: refusal() != "not-found")  # the site has its copy
    assert refusal() == "not-accepting"
    printers = (await site.services.catalogue.look()).printers.values()
    reached = {one.name for one in printers if site.daemon._acceptance.reaches(one)}
    assert {"desk", "far"} & reached == {"desk"}  # as clients over IPP see it


async def test_a_printer_changes_its_owner_when_no_jobs_are_under_way(pair, tmp_path):
    """While the site has jobs of it the printer stays; afterwards hq prints what comes."""
    hq, site = pair
    await hq.ask("printer.set", name="desk", uri="socket://127.0.0.1:1")  # out of order
    await submit(hq, "first")
    job = await wait_job(hq, "first", "processing")
    with pytest.raises(OperationError, match="1 jobs of desk are at its owner"):
        await hq.ask("printer.set", name="desk", owner="")
    await hq.ask("job.cancel", job=str(job["id"]))
    await wait_job(hq, "first", "canceled")
    uri = (tmp_path / "paper").as_uri()
    shown = await hq.ask("printer.set", name="desk", owner="", uri=uri)
    assert shown["owner"] == ""
    await submit(hq, "second", b"%!PS\n")
    await wait_job(hq, "second", "completed")
    assert await jobs_of(site, "second") == []
    assert paper(tmp_path) == [b"%!PS\n"]


async def test_a_job_that_is_released_at_hq_comes_out_at_the_site_at_once(pair, tmp_path):
    """Find-me over nodes: the document travels when it is released, and is not held once more."""
    hq, site = pair
    await hq.ask("printer.set", name="desk", release="hold")
    await hq.ask("printer.add", name="roam", release="find-me", releases_at=["desk"])
    host, port = hq.running.ports["clear"]
    async with Provider([f"{host}:{port}"], learns_endpoints=False) as provider:
        await provider.submit(b"%!PS\n", printer="roam", title="mine", user="ada")
    job = await wait_job(hq, "mine", "pending-held")
    assert await jobs_of(site, "mine") == []
    await hq.ask("job.release", job=str(job["id"]), to="desk")
    await wait_job(hq, "mine", "completed")
    assert paper(tmp_path) == [b"%!PS\n"]


async def test_a_printer_of_a_site_holds_jobs_there(pair, tmp_path):
    """What waits for its owner waits at the site that stands beside the machine."""
    hq, site = pair
    await hq.ask("printer.set", name="desk", release="hold")
    await submit(hq, "private")
    held = await wait_job(site, "private", "pending-held")
    assert held["reasons"] == ["job-release-wait"]
    job = await wait_job(hq, "private", "processing")
    assert job["reasons"] == ["queued-in-device"]
    told = await hq.ask("job.explain", job=str(job["id"]))
    assert "Another node prints it. library has it as job" in told["waits"]
    assert any("handed on to another node" in str(one) for one in told["story"])
    await site.ask("job.release", job=str(held["id"]), to="desk")
    await wait_job(hq, "private", "completed")
    assert len(paper(tmp_path)) == 1


async def test_a_site_hands_jobs_up_as_itself(pair, tmp_path):
    """A printer of a site may lead to one of hq: the site's own certificate is enough there."""
    hq, site = pair
    port = hq.address.rpartition(":")[2]
    await site.ask("printer.add", name="up", uri=f"spoold://localhost:{port}/default")
    host, clear = site.running.ports.get("clear", (None, None))
    assert (host, clear) == (None, None)  # nobody dials a site
    upload = await site.daemon._acceptance.begin(
        Submission("up", Owner("ada"), "provider:1", "frames", "127.0.0.1", uuid4(), "upwards")
    )
    await upload.write(b"%!PS up\n")
    await upload.commit()
    job = await wait_job(site, "upwards", "completed")
    [there] = await jobs_of(hq, "upwards")
    assert (there["uuid"], there["owner"], there["submitter"]) == (
        job["uuid"],
        "ada",
        "provider:1",
    )
    assert there["intake"] == "handed-on"


async def test_status_says_what_would_be_lost_with_the_machine(pair):
    """Jobs that are nowhere else, and records that the application server has not; in figures."""
    hq, site = pair
    await hq.ask("printer.set", name="desk", uri="socket://127.0.0.1:1")  # out of order
    for title in ("one", "two"):
        await submit(hq, title)
        await wait_job(hq, title, "processing")
    stake = (await hq.ask("status"))["at_stake"]
    assert stake == {"jobs": 0, "jobs_elsewhere": 2, "records": None}
    await hq.stop()
    stake = (await site.ask("status"))["at_stake"]
    assert stake["jobs"] == 2
    assert stake["records"] >= 0


async def forward(proxied, port: int, silent_after: int, has_it) -> None:
    """Pass bytes on to hq, but no answer to so many of them; cut the line when `has_it`."""
    hq = await trio.open_tcp_stream("127.0.0.1", port)
    sent = 0

    async def upwards() -> None:
        nonlocal sent
        async for data in proxied:
            sent += len(data)
            await hq.send_all(data)

    async def downwards() -> None:
        async for data in hq:
            if sent <= silent_after:
                await proxied.send_all(data)

    async with hq, proxied, trio.open_nursery() as nursery:
        nursery.start_soon(downwards)
        nursery.start_soon(upwards)
        await wait_until(has_it)
        nursery.cancel_scope.cancel()


async def test_a_job_that_went_to_both_is_printed_once(start, tmp_path):
    """hq's answer is lost, the provider goes on to the site; what hq hands on there is dropped."""
    hq = await start("hq")
    site = await start("library", "site", listen={"mutual": ANYWHERE})
    await joined(hq, site)
    await give_away(hq, site, tmp_path)
    given = await hq.ask("provider.enrol", name="till", may_assert=["*"])
    file, ca = tmp_path / "till.pem", tmp_path / "ca.pem"
    file.write_text(given["key_pem"] + given["certificate_pem"])
    ca.write_text(given["ca_pem"])
    await wait_until(site.services.reader.providers)
    port = hq.running.ports["mutual"][1]
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        proxy = listener.socket.getsockname()[1]

        async def serve_once() -> None:
            async with listener:
                stream = await listener.accept()
            await forward(stream, port, len(LARGE), partial(jobs_of, hq, "both"))

        nursery.start_soon(serve_once)
        endpoints = [f"localhost:{proxy}", site.address.replace("127.0.0.1", "localhost")]
        tls = Tls(ca, file)
        async with Provider(
            endpoints, tls=tls, doubt_timeout_s=1.0, learns_endpoints=False
        ) as provider:
            receipt = await provider.submit(LARGE, printer="desk", title="both", user="ada")
    assert receipt.node_name == "library"
    assert receipt.unknown == (endpoints[0],)  # hq may have it as well, and it does
    job = await wait_job(hq, "both", "completed")
    [there] = await jobs_of(site, "both")
    assert there["uuid"] == job["uuid"] == str(receipt.job_uuid)
    assert paper(tmp_path) == [LARGE]
