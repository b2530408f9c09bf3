"""Without a server: jobs wait, or are printed by the provider, and told later, exactly once."""

from __future__ import annotations

import os
from types import SimpleNamespace
from uuid import UUID

import pytest

from spoold.model.errors import ConfigError, OperationError
from spoold.provider.alone import Alone, Made, Printed
from spoold.provider.notebook import Busy, DirectPrinter, Note, Notebook, Stage
from spoold.provider.receipt import AnswerUnknown, SubmitRefused, Unreachable

UUID_ = UUID("00000000-0000-4000-8000-0000000000aa")
GUID = "00000000-0000-4000-8000-0000000000bb"
DESK = DirectPrinter("desk", GUID, "socket://192.0.2.7", {}, ("application/pdf",))
AWAY = Unreachable("no server could be reached.", "")
ACCEPTED = SimpleNamespace(is_duplicate=False)


class Servers:
    """What `direct.DirectProvider` is: `says` is its answer to a job, `answers` those to calls."""

    def __init__(self):
        self.says = AWAY
        self.answers = {"printer.direct": {"printers": [], "next_after_id": None}}
        self.asked = []
        self.sends_all = False

    def submit(self, source, *, job_uuid, progress, **job):
        if self.sends_all:
            progress(4, 4)
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says

    def call(self, op, args):
        self.asked.append((op, args))
        answer = self.answers.get(op, {})
        if isinstance(answer, Exception):
            raise answer
        return answer


class Device:
    def __init__(self):
        self.printed = []
        self.made = Made(is_printed=True)
        self.breaks = None

    def deliver(self, printer, job_uuid, document, job, may_send, check):
        if self.made == Made():
            return self.made
        may_send()
        self.printed.append(document.read_at(0, document.size))
        if self.breaks is not None:
            raise self.breaks
        return self.made

    def count(self, job_uuid, document, job):
        return [{"impressions": 1}]


@pytest.fixture
def there(tmp_path):
    """A provider that may print on `desk`; `run` is a new process of it."""
    servers, device, folder = Servers(), Device(), tmp_path / "state"
    Notebook(folder).keep_printers([DESK])

    def run(**more):
        job = {"printer": "desk", "user": "ada", "format": "application/pdf"}
        alone = Alone(Notebook(folder), lambda: device)
        return alone.submit(servers, b"body", job_uuid=UUID_, **{**job, **more})

    def tell():
        return Alone(Notebook(folder), lambda: device).tell(servers)

    def find():
        return Notebook(folder).find(UUID_)

    return SimpleNamespace(
        servers=servers, device=device, run=run, tell=tell, find=find, folder=folder
    )


def reports(there):
    return [args for op, args in there.servers.asked if op == "job.report"]


def test_a_job_is_printed_once_and_told_once(there):
    """However often it is submitted, in whichever process; the note goes with the answer."""
    for _ in range(2):
        printed = there.run()
        assert printed == Printed(UUID_, "desk", DESK.uri, is_in_doubt=False)
    assert there.device.printed == [b"body"]
    assert there.tell().reported == 1
    [report] = reports(there)
    assert (report["printer_guid"], report["user"], report["size"]) == (GUID, "ada", 4)
    assert (report["in_doubt"], report["lines"]) == (False, [{"impressions": 1}])
    assert there.tell().reported == 0
    assert there.find() is None


def test_with_a_server_nothing_is_printed_or_noted(there):
    """The way of every day."""
    there.servers.says, there.servers.sends_all = ACCEPTED, True
    assert there.run() is ACCEPTED
    assert there.device.printed == []
    assert list((there.folder / "jobs").iterdir()) == []


@pytest.mark.parametrize(
    "job",
    [{"printer": "other"}, {"hold": True}, {"format": "text/plain"}, {"may_print": lambda: False}],
    ids=["not-direct", "held", "format", "impatient"],
)
def test_a_job_waits_where_it_may_not_be_printed(there, job):
    """Another printer, a job for a release, a format that the device does not take, too early."""
    with pytest.raises(Unreachable):
        there.run(**job)
    assert there.device.printed == []
    assert there.find() is None


def test_a_site_that_does_not_take_the_job_is_a_server_that_was_reached(there):
    """Its application server is away: the job waits for it."""
    there.servers.says = Unreachable("only the site is there.", "", was_refused=True)
    with pytest.raises(Unreachable):
        there.run()
    assert there.device.printed == []
    assert there.find() is None


@pytest.mark.parametrize("says", [AnswerUnknown("lost.", "", UUID_, ("hq",)), KeyboardInterrupt()])
def test_what_a_server_may_have_is_never_printed(there, says):
    """The answer was lost, or the process ended before it came: the job stays with the servers."""
    there.servers.says, there.servers.sends_all = says, True
    with pytest.raises(type(says)):
        there.run()
    there.servers.says, there.servers.sends_all = AWAY, False
    with pytest.raises(Unreachable):
        there.run()
    assert there.device.printed == []
    assert there.find().stage is Stage.SENT
    there.servers.says = ACCEPTED
    assert there.run() is ACCEPTED
    assert there.find() is None


def test_a_lost_connection_before_the_end_is_no_doubt(there):
    """The servers say that none has it: then it is printed."""
    there.servers.sends_all = True
    assert isinstance(there.run(), Printed)


def test_a_process_that_died_while_it_printed_leaves_a_doubt(there):
    """Bytes may have left: it is not printed again, and a server hears of the doubt."""
    there.device.breaks = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        there.run()
    assert there.run().is_in_doubt
    Notebook(there.folder).put(Note(UUID_, Stage.PRINTING, 1, "desk", DESK.uri, {}))
    assert there.run().is_in_doubt
    assert len(there.device.printed) == 1
    there.tell()
    assert [report["in_doubt"] for report in reports(there)] == [True]


def test_an_orphan_is_told_and_a_job_that_is_being_printed_is_not(there):
    """Whoever is at it holds it."""
    notebook = Notebook(there.folder)
    notebook.put(Note(UUID_, Stage.PRINTING, 1, "desk", DESK.uri, {}))
    with notebook.locked(UUID_):
        assert there.tell().reported == 0
        with pytest.raises(Busy), Notebook(there.folder).locked(UUID_):
            pass
    assert there.tell().reported == 1


def test_a_device_that_is_off_leaves_the_job_where_it_is(there):
    """Nothing came out: it is tried again, servers first."""
    there.device.made = Made()
    with pytest.raises(Unreachable):
        there.run()
    assert there.find() is None
    there.device.made = Made(is_in_doubt=True)
    assert there.run().is_in_doubt


@pytest.mark.parametrize("says", [SubmitRefused("not-found", "no.", "", UUID_), ACCEPTED])
def test_a_server_that_answers_has_the_last_word(there, says):
    """A refusal is one, and no reason to print."""
    there.servers.says = says
    if isinstance(says, Exception):
        with pytest.raises(SubmitRefused):
            there.run()
    else:
        there.run()
    assert there.device.printed == []


def test_a_report_that_is_refused_or_not_heard_stays(there):
    """It is told again until a server knows of it."""
    there.run()
    there.servers.answers["job.report"] = OperationError("busy", "later.")
    assert [note.job_uuid for note, _ in there.tell().refused] == [UUID_]
    there.servers.answers["job.report"] = AWAY
    with pytest.raises(Unreachable):
        there.tell()
    there.servers.answers["job.report"] = {}
    assert there.tell().reported == 1


def test_what_servers_tell_is_kept(there):
    """All pages of it; who may print nowhere has an empty list, and nonsense changes nothing."""
    pages = iter([([DESK], "desk"), ([], None)])

    class Paged(Servers):
        def call(self, op, args):
            found, after = next(pages)
            rows = [{**vars_of(one), "printer": "annex"} for one in found]
            return {"printers": rows, "next_after_id": after}

    alone, notebook = Alone(Notebook(there.folder), lambda: None), Notebook(there.folder)
    alone.ask(Paged())
    assert list(notebook.printers()) == ["annex"]
    for answer in (OperationError("not-found", "what?"), {"printers": [{}]}):
        there.servers.answers["printer.direct"] = answer
        alone.ask(there.servers)
        assert list(notebook.printers()) == ["annex"]
    there.servers.answers["printer.direct"] = OperationError("forbidden", "no.")
    alone.ask(there.servers)
    assert notebook.printers() == {}


def vars_of(printer):
    return {name: getattr(printer, name) for name in printer.__dataclass_fields__}


def test_a_notebook_is_for_its_owner_alone(tmp_path):
    """Others could read whose jobs they were, or have them printed somewhere else."""
    folder = tmp_path / "state"
    Notebook(folder)
    folder.chmod(0o755)
    with pytest.raises(ConfigError) as refused:
        Notebook(folder)
    assert "chmod 700" in str(refused.value)
    folder.chmod(0o700)
    (folder / "printers.json").write_text("{")
    with pytest.raises(ConfigError, match="Remove it"):
        Notebook(folder).printers()
    (folder / "jobs" / f"{UUID_}.json").write_text("[]")
    with pytest.raises(ConfigError, match="if nothing of the job was printed"):
        Notebook(folder).find(UUID_)
    assert Notebook(folder).notes() == []
    assert os.stat(folder / "jobs").st_mode & 0o077 == 0
