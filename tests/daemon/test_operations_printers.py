"""Adding, changing and removing printers, and looking at them and their devices."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
import trio

from spoold.daemon.config import Config, Listen
from spoold.daemon.operations.settings import read_uri
from spoold.daemon.operations.showing import midnight_us, printer_map
from spoold.daemon.operations.watch import Known
from spoold.dispatch.status import PrinterStatus
from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.outcome import InDoubt
from spoold.model.principal import Port, Principal, Role
from spoold.model.transitions import JobEvent
from spoold.spool import objects
from spoold.spool.store import EndAttempt, StartAttempt
from support.asking import refused
from support.foreign import install_driver

OPERATOR = Principal("uid:1000", Port.CONTROL, frozenset({Role.OPERATOR}))
URI = "socket://192.0.2.9"


async def test_a_directory_that_is_not_there_is_told_at_once(desk, tmp_path):
    """Whoever adds a printer that writes files need not wait for the first job to see it fail."""
    good = await desk.ask("printer.add", name="good", uri=tmp_path.as_uri())
    assert good["advice"] == []
    new = await desk.ask("printer.add", name="new", uri=f"{tmp_path.as_uri()}/new")
    assert new["advice"] == [f"{tmp_path}/new is made with the first job."]
    missing = await desk.ask("printer.add", name="missing", uri=f"{tmp_path.as_uri()}/disk/new")
    assert "mount its disk" in missing["advice"][0]
    moved = await desk.ask("printer.set", name="good", uri=f"{tmp_path.as_uri()}/gone/new")
    assert "mount its disk" in moved["advice"][0]


async def test_add_answers_the_printer_as_it_is(desk):
    """Fields, driver options and those of the URI's query, each where it belongs."""
    shown = await desk.ask(
        "printer.add",
        name="labels",
        uri=f"{URI}:9100/?half_close=off&pjl=on",
        order="fifo",
        info="At the till",
        options={
            "in-doubt": "reprint",
            "formats": "application/pdf, Image/URF",
            "hold": "on",
            "least_owner": "asserted",
            "pjl": False,
            "connect_timeout_s": 5,
        },
    )
    assert (shown["name"], shown["uri"], shown["state"]) == ("labels", URI, "idle")
    assert shown["options"] == {"half_close": "off", "pjl": "off", "connect_timeout_s": "5"}
    assert (shown["order"], shown["in_doubt"]) == ("fifo", "reprint")
    assert shown["formats"] == ["application/pdf", "image/urf"]
    assert (shown["hold_new_jobs"], shown["least_owner"]) == (True, "asserted")
    assert shown["info"] == "At the till"
    assert await desk.ask("printer.show", name="labels") == shown
    (stored,) = await desk.spool.reader.printers()
    assert (stored.name, stored.formats) == ("labels", ("application/pdf", "image/urf"))


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        ({"name": "a/b", "uri": URI}, "bad-request", "letters"),
        ({"name": "", "uri": URI}, "bad-request", ""),
        ({"name": "a"}, "bad-request", "one of the three"),
        ({"name": "a", "uri": URI, "members": ["b"]}, "bad-request", "one of the three"),
        ({"name": "a", "uri": URI, "standby": ["b"]}, "bad-request", "members"),
        ({"name": "a", "uri": "192.0.2.9:9100"}, "bad-request", "socket://"),
        ({"name": "a", "uri": "socket://"}, "bad-request", "socket://"),
        ({"name": "a", "uri": "socket://[::1"}, "bad-request", "socket://"),
        ({"name": "a", "uri": "socket://h:99999"}, "bad-request", "1 to 65535"),
        ({"name": "a", "uri": "socket://h:0"}, "bad-request", "1 to 65535"),
        ({"name": "a", "uri": "ipp://h:abc/x"}, "bad-request", "1 to 65535"),
        ({"name": "a", "uri": "telepathy://h"}, "bad-request", "Known schemes"),
        ({"name": "a", "uri": URI, "options": {"silence": "maybe"}}, "bad-request", "silence"),
        ({"name": "a", "uri": URI, "options": {"order": "random"}}, "bad-request", "fair"),
        ({"name": "a", "uri": URI, "options": {"hold": "perhaps"}}, "bad-request", "on or off"),
        ({"name": "a", "uri": URI, "formats": ["pdf"]}, "bad-request", "media types"),
        ({"name": "a", "uri": URI, "info": "x\x1b[2J"}, "bad-request", ""),
        ({"name": "a", "members": ["nobody"]}, "not-found", "printer list"),
        ({"name": "a", "members": ["a"]}, "bad-request", "other printers"),
        ({"name": "a", "members": ["old"], "options": {"pjl": "on"}}, "bad-request", "pjl"),
        ({"name": "old", "uri": URI}, "conflict", "printer set old"),
    ],
)
async def test_what_cannot_work_is_refused_with_advice(desk, args, code, word):
    """Names, URIs, options and members are judged before anything is written."""
    await desk.spool.add_printer("old", uri="socket://192.0.2.1")
    head = desk.spool.journal.head
    error = await refused(desk, "printer.add", **args)
    assert error.code == code
    assert word in error.advice
    assert desk.spool.journal.head == head


async def test_an_option_near_a_setting_is_asked_about(desk, tmp_path, monkeypatch):
    """A driver from elsewhere may know the word, so it is kept; but a slip is told. Ours refuse."""
    install_driver(tmp_path, monkeypatch, "acme", "    def __init__(self, *_): pass\n")
    slip = {"fromats": "image/urf"}
    shown = await desk.ask("printer.add", name="a", uri="acme://h", options=slip)
    assert shown["options"] == slip
    assert shown["advice"] == ["The option fromats goes to the driver. Did you mean formats?"]
    error = await refused(desk, "printer.add", name="b", uri=URI, options=slip)
    assert "no option fromats" in error.message


@pytest.mark.parametrize(
    ("written", "uri", "options"),
    [
        ("socket://Printer.Example.ORG:9100/", "socket://printer.example.org", {}),
        ("SOCKET://h:9101", "socket://h:9101", {}),
        ("lpd://h:515/Queue", "lpd://h/Queue", {}),
        ("socket://[2001:DB8::1]:9100", "socket://[2001:db8::1]", {}),
        ("ipp://user@h/ipp/print?tls=on&x=", "ipp://user@h/ipp/print", {"tls": "on", "x": ""}),
        ("file:///Var/a?b=c", "file:///Var/a?b=c", {}),
    ],
)
def test_a_uri_has_one_form(written, uri, options):
    """Case of the host and the scheme's own port make no other device; paths are left alone."""
    assert read_uri(written) == (uri, options)


async def test_printers_with_one_uri_share_the_device(desk):
    """The device is found again in any spelling; other options for it are a conflict."""
    first = await desk.ask("printer.add", name="a", uri=URI, options={"pjl": "on"})
    second = await desk.ask("printer.add", name="b", uri=f"{URI}:9100")
    assert first["device_guid"] == second["device_guid"]
    assert second["options"] == {"pjl": "on"}
    assert second["advice"] == ["It shares its device with a: they print in turn."]
    error = await refused(desk, "printer.add", name="c", uri=URI, options={"pjl": "off"})
    assert (error.code, "printer set a" in error.advice) == ("conflict", True)
    assert len(await desk.spool.reader.devices()) == 1
    changed = await desk.ask("printer.set", name="a", options={"pjl": "off"})
    assert changed["advice"] == ["This changed the device for b, too."]
    assert (await desk.ask("printer.show", name="b"))["options"] == {"pjl": "off"}


async def test_a_printer_gets_another_address(desk):
    """Alone on its device, the device moves and keeps its GUID; sharing one, it takes another."""
    old = await desk.ask("printer.add", name="a", uri=URI, options={"pjl": "on"})
    moved = await desk.ask("printer.set", name="a", uri="socket://192.0.2.10")
    assert (moved["uri"], moved["options"]) == ("socket://192.0.2.10", {"pjl": "on"})
    assert moved["device_guid"] == old["device_guid"]
    await desk.ask("printer.add", name="b", uri="socket://192.0.2.10")
    parted = await desk.ask("printer.set", name="b", uri="socket://192.0.2.11")
    assert parted["device_guid"] != old["device_guid"]
    assert (await desk.ask("printer.show", name="a"))["uri"] == "socket://192.0.2.10"
    back = await desk.ask("printer.set", name="b", uri="socket://192.0.2.10")
    assert back["device_guid"] == old["device_guid"]
    other = await desk.ask("printer.set", name="a", uri="file:///srv/printed")
    assert other["uri"] == "file:///srv/printed"
    assert (await desk.ask("printer.show", name="b"))["uri"] == "socket://192.0.2.10"


async def test_another_scheme_leaves_the_old_drivers_options_behind(desk):
    """Options are a driver's own words."""
    await desk.ask("printer.add", name="a", uri=URI, options={"pjl": "on"})
    shown = await desk.ask("printer.set", name="a", uri="file:///srv/printed")
    assert shown["options"] == {}


async def test_set_changes_what_is_named_and_nothing_else(desk):
    """An empty word takes a setting back to its default and an option away."""
    await desk.ask(
        "printer.add",
        name="a",
        uri=URI,
        order="fifo",
        info="x",
        options={"pjl": "on", "stall_s": "1"},
    )
    shown = await desk.ask("printer.set", name="a", location="Hall")
    assert (shown["order"], shown["info"], shown["location"]) == ("fifo", "x", "Hall")
    shown = await desk.ask("printer.set", name="a", order="", options={"info": "", "stall_s": ""})
    assert (shown["order"], shown["info"], shown["options"]) == ("fair", "", {"pjl": "on"})
    shown = await desk.ask("printer.set", name="a", accepting=False)
    assert (shown["accepting"], len(shown["advice"])) == (False, 1)
    head = desk.spool.journal.head
    await desk.ask("printer.set", name="a", accepting=False)
    assert desk.spool.journal.head == head


async def test_renaming_keeps_history_and_pools(desk):
    """GUID and id stay; a pool goes on with the member; a listener of the configuration is told."""
    old = await desk.ask("printer.add", name="a", uri=URI)
    await desk.ask("printer.add", name="b", uri="socket://192.0.2.10")
    await desk.ask("printer.add", name="pool", members=["a"], standby=["b"])
    desk.table._services = replace(desk.services, config=Config(listen=Listen(raw_printer="a")))
    shown = await desk.ask("printer.set", name="a", rename="a2")
    assert (shown["id"], shown["guid"], shown["name"]) == (old["id"], old["guid"], "a2")
    assert "The configuration names a for a listener" in shown["advice"][0]
    assert (await desk.ask("printer.show", name="pool"))["members"] == ["a2"]
    assert (await refused(desk, "printer.set", name="b", rename="a2")).code == "conflict"
    assert (await refused(desk, "printer.set", name="b", rename="-")).code == "bad-request"


async def test_a_pool_has_printers_as_members(desk):
    """They exist, none of them is a pool, and a member cannot become one or be removed."""
    await desk.ask("printer.add", name="a", uri=URI)
    await desk.ask("printer.add", name="b", uri="socket://192.0.2.10")
    shown = await desk.ask("printer.add", name="pool", members=["a"], standby=["b"])
    assert (shown["uri"], shown["members"], shown["standby"]) == ("", ["a"], ["b"])
    error = await refused(desk, "printer.add", name="upper", members=["pool"])
    assert (error.code, error.message) == ("bad-request", "pool is a pool itself.")
    error = await refused(desk, "printer.set", name="a", members=["b"])
    assert (error.code, error.message) == ("bad-request", "a is a member of pool.")
    assert (await refused(desk, "printer.remove", name="b")).code == "not-possible"
    assert (await refused(desk, "printer.set", name="pool", members=[])).code == "bad-request"
    assert (await refused(desk, "printer.set", name="pool", members=["pool"])).code == "bad-request"
    assert (await refused(desk, "printer.set", name="pool", options={"pjl": "on"})).code == (
        "bad-request"
    )
    shown = await desk.ask("printer.set", name="pool", standby=[])
    assert (shown["members"], shown["standby"]) == (["a"], [])
    shown = await desk.ask("printer.set", name="pool", uri="socket://192.0.2.11")
    assert (shown["uri"], shown["members"]) == ("socket://192.0.2.11", [])
    (advice,) = (await desk.ask("printer.set", name="pool", members=["a"]))["advice"]
    assert "`spoold printer set pool --uri socket://192.0.2.11` undoes it" in advice


async def test_pause_and_resume(desk):
    """A reason for people, advice on the way back, and no record when nothing changes."""
    await desk.ask("printer.add", name="a", uri=URI)
    shown = await desk.ask("printer.pause", OPERATOR, name="a", reason="new toner")
    assert (shown["paused"], shown["pause_reason"]) == (True, "new toner")
    assert "printer resume a" in shown["advice"][0]
    head = desk.spool.journal.head
    await desk.ask("printer.pause", OPERATOR, name="a", reason="new toner")
    assert desk.spool.journal.head == head
    shown = await desk.ask("printer.resume", OPERATOR, name="a")
    assert (shown["paused"], shown["pause_reason"], shown["advice"]) == (False, "", [])


async def test_remove_refuses_while_jobs_wait(desk):
    """Afterwards the name is free, and the jobs that it printed are still listed."""
    await desk.ask("printer.add", name="a", uri=URI)
    (printer,) = await desk.spool.reader.printers()
    job = await desk.spool.add_job(printer)
    error = await refused(desk, "printer.remove", name="a")
    assert (error.code, error.message) == ("not-possible", "jobs that are not finished on a: 1.")
    assert "spoold job cancel --printer a" in error.advice
    await desk.ask("job.cancel", job=job.job_id)
    assert (await desk.ask("printer.remove", name="a"))["advice"] == []
    assert (await refused(desk, "printer.show", name="a")).code == "not-found"
    listed = await desk.ask("job.list")
    assert listed["jobs"][0]["printer"] == "a (removed)"
    assert await desk.spool.reader.look(objects.removed_printers) == {printer.id: "a"}
    await desk.ask("printer.add", name="a", uri=URI)
    assert len(await desk.spool.reader.devices()) == 1


async def test_two_operators_add_one_name(desk):
    """One of them gets it; the other hears that it is taken, also when they ask at once."""
    answers = []

    async def add(uri):
        try:
            answers.append((await desk.ask("printer.add", name="a", uri=uri))["uri"])
        except OperationError as error:
            answers.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(add, URI)
        nursery.start_soon(add, "socket://192.0.2.10")
    assert "conflict" in answers
    assert len(await desk.spool.reader.printers()) == 1


async def test_redirect_moves_what_waits_and_leaves_what_may_have_left(desk):
    """Pending and held jobs go; one that prints, one in doubt and one that does not fit stay."""
    here = await desk.spool.add_printer("here")
    there = await desk.spool.add_printer("there", formats=("text/plain",))
    ids = [(await desk.spool.add_job(here)).job_id for _ in range(4)]
    pending, held, printing, doubtful = ids
    await desk.ask("job.hold", job=held)
    now = desk.services.wall_clock()
    for id_ in (printing, doubtful):
        await desk.spool.journal.commit(StartAttempt(id_, here.device_id, here.id, now))
    outcome = InDoubt("connection-lost", "", 3)
    change = EndAttempt(doubtful, 1, outcome, JobEvent.DOUBT, ("job-in-doubt",), now)
    await desk.spool.journal.commit(change)
    head = desk.spool.journal.head
    args = {"from": "here", "to": "there"}
    tried, _ = await desk.ask_all("printer.redirect", "results", **args, dry_run=True)
    assert desk.spool.journal.head == head
    rows, _ = await desk.ask_all("printer.redirect", "results", **args)
    assert [row["ok"] for row in tried] == [row["ok"] for row in rows]
    assert [(row["id"], row["ok"]) for row in rows] == [
        (pending, True),
        (held, True),
        (printing, False),
        (doubtful, False),
    ]
    places = [(await desk.spool.reader.job(id_)).printer_id for id_ in ids]
    assert places == [there.id, there.id, here.id, here.id]
    assert (await desk.spool.reader.job(held)).state is JobState.PENDING_HELD
    assert (await refused(desk, "printer.redirect", **{"from": "a", "to": "b"})).code == "not-found"
    same = {"from": "here", "to": "here"}
    assert (await refused(desk, "printer.redirect", **same)).code == "bad-request"
    await desk.ask("printer.set", name="there", accepting=False)
    assert (await refused(desk, "printer.redirect", **args)).code == "not-accepting"


async def test_show_counts_interrupted_submissions_with_advice(desk):
    """How many today, and what to set when the sender keeps its connection."""
    printer = await desk.spool.add_printer("a")
    for _ in range(2):
        await desk.spool.add_job(
            printer, state=JobState.PENDING_HELD, reasons=("submission-interrupted",)
        )
    shown = await desk.ask("printer.show", name="a")
    assert shown["interrupted_today"] == 2
    assert 'ends_on = "idle 2s"' in shown["advice"][0]
    assert "job list --printer a --reason submission-interrupted" in shown["advice"][0]
    assert shown["jobs"] == {"pending": 0, "held": 2, "processing": 0}


def test_a_day_begins_at_midnight_here():
    """Local midnight, to the second."""
    noon = datetime(2026, 11, 21, 12, 30, 5, 7).astimezone()
    day = datetime.fromtimestamp(midnight_us(int(noon.timestamp() * 1e6)) / 1e6)
    assert day == datetime(2026, 11, 21)


async def test_a_device_in_trouble_is_shown_with_its_next_try(desk):
    """The dispatcher's word on the device, and that nobody has to restart anything."""
    printer = await desk.spool.add_printer("a")
    status = PrinterStatus("stopped", ("connecting-to-device",), "No route to host.", 99, 3)
    known = Known({printer.id: printer}, {}, {"a": printer})
    shown = printer_map(printer, known, status, {}, 0)
    assert (shown["state"], shown["reasons"]) == ("stopped", ["connecting-to-device"])
    assert (shown["retry_at_us"], shown["failures"]) == (99, 3)
    assert "tried again by itself" in shown["advice"][0]


async def test_a_device_that_has_stopped_in_the_middle_comes_with_advice(desk):
    """Nothing has failed, so nothing is tried again: what can be done is another thing."""
    printer = await desk.spool.add_printer("a")
    status = PrinterStatus("processing", ("stalled",), "5 of 9 bytes taken", active_job_id=7)
    shown = printer_map(printer, Known({printer.id: printer}, {}, {"a": printer}), status, {}, 0)
    assert "goes on by itself" in shown["advice"][0]
    assert "spoold job cancel 7" in shown["advice"][0]


async def test_printers_are_listed_by_name_in_pages(desk):
    """Each once, with its queue, however small the pages."""
    for number in (3, 1, 2, 5, 4):
        await desk.spool.add_printer(f"p{number}", uri=f"socket://192.0.2.{number}")
    rows, pages = await desk.ask_all("printer.list", "printers", limit=2)
    assert [row["name"] for row in rows] == ["p1", "p2", "p3", "p4", "p5"]
    assert pages == 3
    devices, pages = await desk.ask_all("device.list", "devices", limit=2)
    assert [one["printers"] for one in devices] == [["p3"], ["p1"], ["p2"], ["p5"], ["p4"]]
    assert pages == 3


async def test_a_message_full_of_printers_is_a_page(desk):
    """Long settings end a page before its limit does."""
    for number in range(90):
        await desk.spool.add_printer(f"p{number:03}", info="\u00fc" * 127, location="\u00fc" * 127)
    rows, pages = await desk.ask_all("printer.list", "printers")
    assert len(rows) == len({row["name"] for row in rows}) == 90
    assert pages >= 2


async def test_a_device_is_found_by_any_of_its_names(desk):
    """Number, GUID, URI in any spelling, or a printer that points to it."""
    shown = await desk.ask("printer.add", name="a", uri=URI)
    device = await desk.ask("device.show", device="a")
    assert (device["uri"], device["printers"], device["state"]) == (URI, ["a"], "idle")
    for name in (device["id"], shown["device_guid"], f"{URI}:9100", str(device["id"])):
        assert await desk.ask("device.show", device=name) == device
    for name in ("b", "socket://192.0.2.77", 99):
        assert (await refused(desk, "device.show", device=name)).code == "not-found"
