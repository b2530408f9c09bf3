"""The journal as other programs read it, and the operations on the node and its providers."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from cryptography import x509

from spoold.daemon.operations.views import record_map
from spoold.model.principal import Port, Principal, Role
from spoold.model.record import Kind, Record
from spoold.spool.store import AddRecord, PruneRecords
from support.asking import refused

ADMIN = Principal("uid:0", Port.CONTROL, frozenset({Role.ADMIN}))
OPERATOR = Principal("uid:1000", Port.CONTROL, frozenset({Role.OPERATOR}))
PROVIDER = Principal("provider:x", Port.MUTUAL, frozenset({Role.PROVIDER}), "till")
STRANGER = Principal("address:192.0.2.7", Port.CLEAR, address="192.0.2.7")


async def add_records(desk, count, **personal):
    for number in range(count):
        change = AddRecord(
            Kind.CERTIFICATE_REFUSED,
            {"number": number},
            desk.services.wall_clock(),
            personal=personal or None,
        )
        await desk.spool.journal.commit(change)


class Follower:
    """Follows until it has seen `wanted` records, or is cut after so many of them."""

    def __init__(self, desk, wanted, **args) -> None:
        self.desk, self.wanted, self.args = desk, wanted, args
        self.positions: list[int] = []
        self.records: list[dict] = []
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        with trio.fail_after(30), self.scope:
            await self.desk.table.call(ADMIN, "journal.follow", self.args, self.send)

    async def send(self, name, record) -> None:
        assert name == "record"
        self.positions.append(record["position"])
        self.records.append(record)
        if len(self.positions) == self.wanted:
            self.scope.cancel()
        await trio.lowlevel.checkpoint()


async def test_records_come_in_order_with_personal_parts_for_administrators(desk):
    """Everybody else who may read them sees whom they name by key only."""
    printer = await desk.spool.add_printer()
    await desk.spool.add_job(printer, owner="ada", title="secret", attributes={"sides": "x"})
    answer = await desk.ask("journal.read", ADMIN)
    assert [one["position"] for one in answer["records"]] == list(range(1, answer["head"] + 1))
    assert answer["oldest"] == 1
    accepted = answer["records"][-1]
    assert accepted["kind"] == "job-accepted"
    assert accepted["personal"]["title"] == "secret"
    assert accepted["personal"]["attributes"] == {"sides": "x"}
    assert len(accepted["payload"]["uuid"]) == 32
    assert len(accepted["hash"]) == 64
    for record in (await desk.ask("journal.read", OPERATOR))["records"]:
        assert "personal" not in record
        assert "secret" not in str(record)


async def test_a_page_of_records_goes_on_where_it_ended(desk):
    """By position, and the head says when that is all."""
    await add_records(desk, 10)
    first = await desk.ask("journal.read", limit=4)
    assert [one["position"] for one in first["records"]] == [1, 2, 3, 4]
    rest = await desk.ask("journal.read", **{"from": 5})
    assert [one["position"] for one in rest["records"]] == [5, 6, 7, 8, 9, 10]
    assert rest["head"] == 10


async def test_large_records_share_out_over_pages(desk):
    """A page ends before the message is full."""
    for _ in range(4):
        change = AddRecord("note", {"text": ["x" * 1900] * 15}, desk.services.wall_clock())
        await desk.spool.journal.commit(change)
    answer = await desk.ask("journal.read")
    assert 1 <= len(answer["records"]) < 4


def test_a_record_that_fits_no_message_is_told_without_its_payload():
    """Whoever follows gets past it, and sees that something is missing."""
    payload = {f"k{n}": bytes(4000) for n in range(8)}
    shown = record_map(Record(7, "note", "node", 1, payload), with_personal=True)
    assert (shown["position"], shown["payload"]) == (7, {"left_out": "larger than a message"})


async def test_a_follower_sees_every_record_once_while_they_come(desk):
    """From a position, through what is there, into what is committed meanwhile: no gap."""
    await add_records(desk, 5)
    follower = Follower(desk, 25, **{"from": 2})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        printer = await desk.spool.add_printer()
        for _ in range(20):
            await desk.spool.add_job(printer)
    assert follower.positions == list(range(2, 27))


@pytest.mark.slow
async def test_records_that_wake_nobody_are_told_too(desk):
    """A record without an event on jobs or printers comes within a moment."""
    await add_records(desk, 1)
    follower = Follower(desk, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await trio.testing.wait_all_tasks_blocked()
        await add_records(desk, 1)
    assert follower.positions == [2]


async def test_a_cursor_goes_on_behind_what_was_acknowledged(desk):
    """A new one begins with the oldest record; what was told and not acknowledged comes again."""
    await add_records(desk, 6)
    follower = Follower(desk, 4, cursor="billing")
    await follower.run()
    assert follower.positions == [1, 2, 3, 4]
    assert (await desk.ask("journal.cursors"))["cursors"] == {"billing": 0}
    answer = await desk.ask("journal.cursor", name="billing", position=3)
    assert answer == {"name": "billing", "position": 3, "head": 6}
    again = Follower(desk, 3, cursor="billing")
    await again.run()
    assert again.positions == [4, 5, 6]
    assert (await desk.ask("journal.cursor", name="billing"))["position"] == 3
    assert desk.spool.journal.head == 6


async def test_a_new_cursor_may_begin_elsewhere_and_an_old_one_keeps_its_place(desk):
    """`from` counts for the first time only, so that a program can always say the same."""
    await add_records(desk, 6)
    for wanted in ([4, 5], [4, 5]):
        follower = Follower(desk, 2, cursor="audit", **{"from": 4})
        await follower.run()
        assert follower.positions == wanted
    await desk.ask("journal.cursor", name="audit", position=5)
    follower = Follower(desk, 1, cursor="audit", **{"from": 4})
    await follower.run()
    assert follower.positions == [6]


async def test_a_cursor_never_lies_beyond_the_journal(desk):
    """It would skip what comes next."""
    await add_records(desk, 2)
    assert (await refused(desk, "journal.cursor", name="a", position=3)).code == "bad-request"
    assert (await refused(desk, "journal.follow", **{"from": 4})).code == "bad-request"
    assert (await refused(desk, "journal.cursor", name="a")).code == "not-found"
    assert (await refused(desk, "journal.cursor", name="a", remove=True)).code == "not-found"
    await desk.ask("journal.cursor", name="a", position=0)
    await desk.ask("journal.cursor", name="a", remove=True)
    assert (await desk.ask("journal.cursors"))["cursors"] == {}


async def test_pruned_records_are_never_skipped_silently(desk):
    """Following from there is an error that says where to begin; a page tells the oldest."""
    await add_records(desk, 9)
    await desk.spool.journal.commit(PruneRecords(5, desk.services.wall_clock()))
    error = await refused(desk, "journal.follow", **{"from": 2})
    assert (error.code, "Follow from 5" in error.advice) == ("not-found", True)
    answer = await desk.ask("journal.read")
    assert (answer["oldest"], answer["records"][0]["position"]) == (5, 5)
    follower = Follower(desk, 5, cursor="new")
    await follower.run()
    assert follower.positions == [5, 6, 7, 8, 9]


# -- the node ------------------------------------------------------------------------------------


async def test_status_tells_operators_how_the_node_is(desk):
    """Jobs and printers by state, space, head, connections; a stranger learns that it is up."""
    printer = await desk.spool.add_printer()
    await desk.spool.add_job(printer)
    held = await desk.spool.add_job(printer)
    await desk.ask("job.hold", job=held.job_id)
    shown = await desk.ask("status", OPERATOR)
    assert shown["jobs"] == {"pending": 1, "pending-held": 1}
    assert shown["printers"] == {"idle": 1}
    assert shown["journal_head"] == desk.spool.journal.head
    assert shown["connections"] == {"clear": 3}
    assert shown["spool_free_bytes"] > 0
    assert set(await desk.ask("status", STRANGER)) == {"state", "version"}
    assert set(await desk.ask("status", PROVIDER)) == {
        "state",
        "version",
        "node_name",
        "node_guid",
    }


async def test_the_node_shows_itself_and_its_authority(desk):
    """Name, GUID, journal, addresses, and the certificate that clients trust."""
    shown = await desk.ask("node.show")
    assert (shown["name"], shown["role"]) == ("library", "application")
    assert "listen.clear[0] 127.0.0.1:9191" in shown["listen"]
    ca = await desk.ask("node.ca")
    x509.load_pem_x509_certificate(ca["pem"].encode())
    assert ca["fingerprint"] == shown["ca_fingerprint"]


async def test_a_provider_is_enrolled_again_and_revoked(desk):
    """The same GUID with one more certificate; revoked, it is refused for ever."""
    first = await desk.ask("provider.enrol", name="till", may_assert=["EXAMPLE\\Ada"], days=30)
    assert first["may_assert"] == ["ada"]
    assert "PRIVATE KEY" in first["key_pem"]
    certificate = x509.load_pem_x509_certificate(first["certificate_pem"].encode())
    assert int(first["serial"], 16) == certificate.serial_number
    until_s = certificate.not_valid_after_utc.timestamp()
    assert first["not_after_us"] == int(until_s) * 1_000_000
    second = await desk.ask("provider.enrol", name="till")
    assert (second["guid"], second["may_assert"]) == (first["guid"], ["ada"])
    (listed,) = (await desk.ask("provider.list"))["providers"]
    assert sorted(listed["serials"]) == sorted([first["serial"], second["serial"]])
    assert (listed["revoked"], listed["may_assert"]) == (False, ["ada"])
    answer = await desk.ask("provider.revoke", name="till")
    assert sorted(answer["serials"]) == sorted([first["serial"], second["serial"]])
    assert (await desk.ask("provider.list"))["providers"][0]["revoked"]
    assert (await refused(desk, "provider.enrol", name="till")).code == "conflict"
    assert (await refused(desk, "provider.revoke", name="nobody")).code == "not-found"


async def test_a_provider_speaks_for_nobody_unless_it_is_said(desk):
    """Deny by default; a star is anybody; a name of nothing is refused."""
    assert (await desk.ask("provider.enrol", name="a"))["may_assert"] == []
    assert (await desk.ask("provider.enrol", name="b", may_assert=["*"]))["may_assert"] == ["*"]
    error = await refused(desk, "provider.enrol", name="c", may_assert=["\u200b"])
    assert error.code == "bad-request"
    assert (await refused(desk, "provider.enrol", name="a b")).code == "bad-request"
    assert (await refused(desk, "provider.enrol", name="c", days=0)).code == "bad-request"


async def test_no_key_of_a_provider_stays_here(desk):
    """The key is handed out once and is in no record."""
    key = (await desk.ask("provider.enrol", name="till"))["key_pem"]
    assert key.splitlines()[1] not in str(await desk.ask("journal.read"))


async def test_reload_answers_a_line_for_each_change(desk):
    """What the configuration says now, as the daemon took it over."""
    assert len((await desk.ask("daemon.reload"))["changes"]) == 1
