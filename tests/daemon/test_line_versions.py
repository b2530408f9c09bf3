"""A site and its application server one version apart work together, in both directions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from uuid import uuid4

import msgpack
import pytest
from daemon.test_handing import submit

from spoold.daemon.operations import membership, sites
from spoold.model.node import LINE_VERSIONS, common_version
from support import version_1
from support.houses import ANYWHERE, give_away, joined, paper, wait_job
from support.version_1 import Chain, Refused, connected
from support.waiting import wait_until

pytestmark = pytest.mark.slow


def speak(monkeypatch, site, versions, server_versions):
    """Both are programs of other versions than this one's."""
    monkeypatch.setattr(sites, "common_version", partial(common_version, spoken=server_versions))
    site.line._settings = replace(site.line._settings, versions=versions)


@pytest.mark.parametrize(
    ("versions", "server_versions", "spoken"),
    [((1,), (2, 1), 1), ((2, 1), (1,), 1), ((2, 1), (3, 2), 2), ((3, 2), (3, 2), 3)],
)
async def test_either_side_may_be_updated_first(
    start, monkeypatch, tmp_path, versions, server_versions, spoken
):
    """They speak the newest version that both know, and a job goes down and is told of."""
    hq, site = await start("hq"), await start("library", "site")
    speak(monkeypatch, site, versions, server_versions)
    await joined(hq, site)
    assert site.line.upstream.version == spoken
    await give_away(hq, site, tmp_path)
    await submit(hq, "letter")
    await wait_job(hq, "letter", "completed")
    assert len(paper(tmp_path)) == 1


@pytest.mark.parametrize(
    ("versions", "server_versions", "advice"),
    [((1,), (3, 2), "Update the site"), ((4, 3), (2, 1), "Update the application server")],
)
async def test_versions_further_apart_are_refused_with_what_to_update(
    start, monkeypatch, versions, server_versions, advice
):
    """Both the site and whoever looks at it hear which of the two is behind; it goes on alone."""
    monkeypatch.setattr(membership, "UP_S", 0.0)  # its line will not be up
    hq, site = await start("hq"), await start("library", "site", listen={"clear": ANYWHERE})
    speak(monkeypatch, site, versions, server_versions)
    invited = await hq.ask("site.invite", name="library", is_approved=True)
    await site.ask("site.enter", server=hq.address, token=invited["token"])
    await wait_until(lambda: advice in site.line.reason)
    assert advice in (await site.ask("site.line"))["reason"]
    assert not site.line.is_connected
    assert not hq.services.sites.here()
    assert (await site.ask("status"))["line"]["line"] != "up"


async def test_an_answer_in_a_version_that_was_not_offered_is_none(start, monkeypatch):
    """A server that speaks what nobody asked for is not understood by chance."""
    hq, site = await start("hq"), await start("library", "site")
    monkeypatch.setattr(sites, "common_version", lambda offered: 7)
    monkeypatch.setattr(membership, "UP_S", 0.0)
    invited = await hq.ask("site.invite", name="library", is_approved=True)
    await site.ask("site.enter", server=hq.address, token=invited["token"])
    await wait_until(lambda: "version 7 was not offered" in site.line.reason)


@pytest.mark.skipif(1 not in LINE_VERSIONS, reason="version 1 is not spoken any more")
async def test_a_site_of_version_1_is_served(start, tmp_path):
    """Whatever is new since: what version 1 asks is answered, as FRAMES.md had it then."""
    hq, site = await start("hq"), await start("library", "site")
    await hq.ask("user.add", name="ada", password="correct horse")
    await joined(hq, site)
    await give_away(hq, site, tmp_path)
    guid, member = site.services.node_guid, site.services.membership.member
    await site.stop()
    await wait_until(lambda: not hq.services.sites.here())
    async with connected(hq.address, member) as old:
        welcome = await old.call("hello", {"versions": [1], "kind": "node", "ping_s": 0.25})
        assert welcome["version"] == 1
        await say_hello(old, guid)
        await send_records(old, hq, guid)
        await take_objects(old)
        await ask_the_rest(old)
        await take_a_job(old, hq)
    assert paper(tmp_path) == []  # it printed for itself


INCARNATION = "00000000-0000-4000-8000-0000000000f1"


async def say_hello(old, guid):
    answer = await old.call(
        "site.hello",
        {
            "versions": [1],
            "software": "spoold/0.9",
            "journal": str(guid),
            "incarnation": INCARNATION,
            "position": 3,
            "clock_us": 1_700_000_000_000_000,
            "more": {},
        },
    )
    assert answer["version"] == 1
    assert {"guid", "name", "software", "journal", "incarnation", "position", "clock_us"} <= (
        answer.keys()
    )
    assert isinstance(answer["more"], dict)
    assert isinstance(answer["endpoints"], list)
    await old.ask("site.follow")
    assert (await old.call("site.clock")).keys() >= {"clock_us"}


async def send_records(old, hq, guid):
    """A person, their job, and a kind that nobody knows."""
    chain, person, job = Chain(), uuid4().bytes, uuid4()
    records = [
        chain.add("person-named", {"person": person}, {"name": "ada"}),
        chain.add(
            "job-accepted",
            {
                "job": 1, "uuid": job.bytes, "printer": uuid4().bytes, "owner": person,
                "state": "completed", "reasons": [], "intake": "raw", "copies": 1, "size": 4,
                "format": "text/plain",
            },
            {"title": "of version 1"},
        ),
        chain.add("never-heard-of", {"x": 1}),
    ]  # fmt: skip
    stood = await old.call("site.stand")
    assert INCARNATION not in [one["incarnation"] for one in stood["chains"]]
    batch = {
        "incarnation": INCARNATION, "first": 1, "previous": version_1.GENESIS, "records": records,
        "count": 3, "hash": chain.hash, "head": 3, "window": 1, "oldest": True,
        "round": "connected",
    }  # fmt: skip
    for _ in range(2):  # the first answer was lost
        answer = await old.call("site.records", batch)
        assert (answer["position"], answer["hash"]) == (3, chain.hash)
    assert answer["state"] in ("open", "left")
    asked = {"incarnation": INCARNATION, "position": 2}
    assert (await old.call("site.hash", asked))["hash"] == records[1][3]
    jobs = (await hq.ask("job.elsewhere", site="library"))["jobs"]
    assert "of version 1" in [one["title"] for one in jobs]


async def take_objects(old):
    answer = await old.call("site.objects", {"told": b"", "key_ids": [], "limit": 500})
    assert answer["is_anew"]
    assert answer["is_last"]
    assert isinstance(answer["told"], bytes)
    assert answer["keys"]
    unpacker = msgpack.Unpacker()
    for event, args in old.heard:
        if event == "objects":
            unpacker.feed(args["piece"])
    objects = [(kind, state) for kind, _, state in unpacker]
    assert len(objects) == answer["objects"]
    users = [state for kind, state in objects if kind == "user"]
    assert "ada" in [one["name"] for one in users]
    assert {"fields", "password", "pin", "cards", "certificates"} <= users[0].keys()
    desk = next(state for kind, state in objects if kind == "printer" and state["name"] == "desk")
    assert msgpack.unpackb(desk["fields"])["owner"] is None  # the site's own
    assert len(desk["device"]) == 3


async def ask_the_rest(old):
    rights = await old.call(
        "site.rights",
        {"incarnation": INCARNATION, "epoch": 0, "upstream": None, "wants": [], "held": []},
    )
    assert {"epoch", "valid_us", "upstream", "rights", "policy"} <= rights.keys()
    assert (await old.call("site.handed", {"after_id": 0}))["jobs"] == []
    with pytest.raises(Refused) as caught:
        await old.call("site.password", {"name": "ada", "password": "wrong"})
    assert caught.value.code == "unauthorized"


async def take_a_job(old, hq):
    """Fetched, taken, and told as printed."""
    accepted = str((await submit(hq, "for version 1")).job_uuid)

    async def offered():
        return bool((await old.call("site.jobs"))["jobs"])

    await wait_until(offered)
    [offer] = (await old.call("site.jobs"))["jobs"]
    assert offer["job_uuid"] == accepted
    assert {
        "job", "printer", "printer_guid", "user", "title", "copies", "priority", "format",
        "attributes", "size", "digest", "handed_on", "canceled", "released",
    } <= offer.keys()  # fmt: skip
    data = (await old.call("site.document", {"job": offer["job"], "offset": 0}))["data"]
    assert len(data) == offer["size"]
    await old.call("site.took", {"job": offer["job"], "job_id": 77})
    state = {"job_uuid": accepted, "job_id": 77, "state": "completed", "reasons": [], "message": ""}
    await old.call("site.states", {"jobs": [state | {"impressions": None}]})
    await wait_job(hq, "for version 1", "completed")
