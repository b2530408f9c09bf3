"""Converters: what works, and what they cannot do to us. The programs are real ones."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from uuid import UUID

import pytest
import trio

from spoold.dispatch.convert import Converter, NotConverted
from spoold.model.conversion import RECIPES, Conversion, filled, told_options
from spoold.model.job import Document, Job, JobState
from spoold.model.outcome import Blame, Deferred, Refused
from spoold.model.person import NOBODY
from spoold.spool.sources import FileSource, MemorySource
from support.documents import PDF, PWG, document

PCL = "application/vnd.hp-pcl"
MIB = 1024 * 1024


@dataclass
class Limits:
    memory_bytes_max: int = 1024 * MIB
    cpu_s_max: float = 20.0
    output_bytes_max: int = 64 * MIB
    deadline_s: float = 20.0
    at_once: int = 2


def job(body: bytes, **fields) -> Job:
    made = Document(len(body), f"blake3:{hash(body)}", PDF)
    known = ("", "Report", "", "raw", 50, 0, made, 1)
    return Job(7, UUID(int=7), 1, JobState.PENDING, (), NOBODY, *known, **fields)


@pytest.fixture
def limits():
    return Limits()


@pytest.fixture
def converter(tmp_path, limits):
    made = Converter(tmp_path / "converting", lambda: limits)
    made.sweep()
    yield made
    made.close()
    assert list((tmp_path / "converting").iterdir()) == []


def shell(script: str) -> Conversion:
    """A converter as an administrator may name one: a shell with a script of its own."""
    return Conversion(PDF, PCL, ("sh", "-c", script))


async def convert(converter, conversion, body=b"%PDF-", **fields) -> bytes:
    """What the conversion makes of `body`."""
    async with converter.converted(job(body, **fields), MemorySource(body), conversion) as made:
        found = made.source.read_at(0, made.source.size)
        assert made.job.document.format == conversion.target
        assert made.job.document.size == len(found)
    converter.forget(7)
    return found


async def refusal(converter, conversion, **fields):
    """Why the conversion makes nothing."""
    with pytest.raises(NotConverted) as caught:
        await convert(converter, conversion, **fields)
    return caught.value.outcome


def processes(word: str) -> list[str]:
    """The processes with this word on their command line."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if word in line]


# -- recipes -------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_pdf_becomes_pcl(converter):
    """The recipe for printers that know only PCL: every page, and the copies, are in it."""
    recipe = Conversion(PDF, PCL, RECIPES[PDF, PCL])
    made = await convert(converter, recipe, document("pdfwrite"), copies=3)
    assert made.startswith(b"\x1bE")
    assert made.count(b"\x1b*rB\x0c") == 3
    assert b"\x1b&l3X" in made
    assert recipe.makes_copies


@pytest.mark.slow
async def test_pdf_becomes_pwg_raster(converter, tmp_path):
    """The recipe for printers that know only PWG raster: grey pages of 300 dpi."""
    recipe = Conversion(PDF, PWG, RECIPES[PDF, PWG])
    made = await convert(converter, recipe, document("pdfwrite"))
    assert made.startswith(b"RaS2PwgRaster\0")
    header = made[4:]
    assert header[276:284] == (300).to_bytes(4, "big") * 2
    assert int.from_bytes(header[388:392], "big") == 8
    assert int.from_bytes(header[400:404], "big") == 18


@pytest.mark.slow
async def test_filters_of_cups_work_too(converter):
    """A chain of words as cups-filters want them, with the options that the job asks for."""
    command = (
        "env", "CONTENT_TYPE=application/pdf", "FINAL_CONTENT_TYPE=image/pwg-raster",
        "/usr/lib/cups/filter/gstoraster", "{job}", "spoold", "document", "{copies}", "{options}",
        "{input}",
    )  # fmt: skip
    options = {"media": "iso_a5_148x210mm", "printer-resolution": "300x300dpi"}
    recipe = Conversion(PDF, PWG, command)
    made = await convert(converter, recipe, document("pdfwrite"), attributes=options)
    assert made.startswith(b"RaS2PwgRaster\0")


async def test_large_documents_come_from_their_file(converter, tmp_path):
    """A document in a file is read where it lies, from its first byte on."""
    body = os.urandom(3 * MIB)
    (tmp_path / "large").write_bytes(body)
    fd = os.open(tmp_path / "large", os.O_RDONLY)
    os.lseek(fd, 1000, os.SEEK_SET)
    source = FileSource(fd, len(body))
    for script in ("cat", 'cat "{input}"'):
        async with converter.converted(job(body), source, shell(script)) as made:
            assert made.source.read_at(0, made.source.size) == body
        converter.forget(7)
    source.close()


# -- arguments -----------------------------------------------------------------------------------


def test_only_placeholders_are_filled():
    """Numbers and the file's name; other braces are the program's own."""
    command = ("x", "{input}", "-n{copies}", "{job}/{title}", "{{input}")
    one = Conversion(PDF, PCL, command)
    found = filled(one, job(b"", copies=2), "./f")
    assert found == ["x", "./f", "-n2", "7/{title}", "{./f"]
    assert filled(one, job(b"", copies=2, copies_embedded=True), "f")[2] == "-n1"


def test_options_are_plain_words():
    """What a sender asks for reaches a program only as words of IPP: nothing can be slipped in."""
    asked = {
        "media": "iso_a4_210x297mm",
        "sides": "two-sided-long-edge",
        "page-ranges": ["1-4", "7-7"],
        "number-up": 2,
        "print-color-mode": "color -c rm",
        "output-bin": "-o/etc/passwd",
        "media-col": {"x": 1},
        "job-name": "x",
    }
    assert told_options(asked) == (
        "media=iso_a4_210x297mm sides=two-sided-long-edge number-up=2 page-ranges=1-4,7-7"
    )


# -- what a converter has ------------------------------------------------------------------------


async def test_a_converter_has_little(converter):
    """An empty environment, its own directory, and no right to get more rights."""
    said = (
        await convert(converter, shell("env; echo cwd=$(ls -a); cat /proc/self/status"))
    ).decode()
    names = set(re.findall(r"(?m)^([A-Z_]+)=", said))
    assert names == {"PATH", "LC_ALL", "TMPDIR", "PWD"}
    assert "cwd=. .. input" in said
    assert "NoNewPrivs:\t1" in said
    if os.geteuid() == 0:
        assert "Uid:\t65534\t65534\t65534\t65534" in said
        assert "Groups:\t \n" in said


async def test_a_converter_sees_no_network(converter):
    """It cannot reach even this machine, where users may make namespaces."""
    unshare = ["unshare", "-n", "true"] if os.geteuid() == 0 else ["unshare", "-Un", "true"]
    if (await trio.run_process(unshare, check=False, capture_stderr=True)).returncode:
        pytest.skip("no network namespaces here")
    said = await convert(converter, shell("cat /proc/net/dev"))
    assert re.findall(rb"(?m)^ *(\w+):", said) == [b"lo"]


async def test_failures_are_told(converter):
    """The job is held with what the program said last, made safe to show."""
    script = (
        "for i in 1 2 3 4 5 6; do echo line $i >&2; done; printf 'bad \\033[2J font' >&2; exit 3"
    )
    assert await refusal(converter, shell(script)) == Refused(
        "document-format-error",
        "sh failed with exit code 3: line 4 / line 5 / line 6 / bad \\x1b[2J font",
    )
    assert await refusal(converter, shell("exit 0")) == Refused(
        "document-format-error", "sh made nothing."
    )
    assert (await refusal(converter, shell("kill -SEGV $$"))).detail == "sh was ended by signal 11."


async def test_our_own_faults_are_not_the_documents(converter, tmp_path):
    """A program that is missing stops the printer; one that is stopped from outside tries again."""
    missing = await refusal(converter, Conversion(PDF, PCL, ("no-such-program",)))
    assert isinstance(missing, Deferred)
    assert missing.reason == "converter-not-usable"
    assert "no-such-program" in missing.detail
    stopped = await refusal(converter, shell("kill -TERM $$"))
    assert isinstance(stopped, Deferred)
    assert (stopped.reason, stopped.blame) == ("resources-are-not-ready", Blame.JOB)
    (tmp_path / "converting").rmdir()
    unmade = await refusal(converter, shell("cat"))
    assert isinstance(unmade, Deferred)
    converter.sweep()


# -- limits --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "limit", "cause"),
    [
        ("sleep 60.5", {"deadline_s": 0.5}, "took longer than 0.5 s"),
        ("while :; do :; done", {"cpu_s_max": 1}, "used more than 1 s of the processor"),
        ("yes", {"output_bytes_max": MIB}, "wrote more than 1048576 bytes"),
        ("yes >fill; cp fill 2; cp fill 3; sleep 60.5", {"output_bytes_max": MIB}, "wrote more"),
        ("yes >&2", {"deadline_s": 1}, "took longer than 1 s: y / y"),
        ("ulimit -Sn 9999", {}, "failed with exit code"),
        ("head -c 512M /dev/zero | tail", {"memory_bytes_max": 64 * MIB}, "exhausted"),
    ],
)
async def test_a_hostile_converter_meets_its_limits(converter, limits, script, limit, cause):
    """Time, processor, what it writes, open files, memory: one is enough to end it."""
    for name, value in limit.items():
        setattr(limits, name, value)
    with trio.fail_after(30):
        refused = await refusal(converter, shell(script))
    assert isinstance(refused, Refused)
    assert cause in refused.detail
    assert not processes("sleep 60.5")


@pytest.mark.slow
async def test_nothing_outlives_its_converter(converter, limits):
    """Daemons that a converter leaves behind are ended, also when it ended well."""
    leave = (
        "setsid sh -c 'sleep 61.25 & sleep 61.25' >/dev/null 2>&1 </dev/null & sleep 0.2; echo made"
    )
    assert await convert(converter, shell(leave)) == b"made\n"
    assert not processes("sleep 61.25")


@pytest.mark.slow
async def test_a_cancelled_conversion_is_ended(converter):
    """An attempt that is stopped leaves nothing running, and no directory."""
    with trio.move_on_after(0.5):
        await convert(converter, shell("setsid sleep 62.25 & sleep 62.25"))
    assert not processes("sleep 62.25")


@pytest.mark.slow
async def test_conversions_take_turns(converter, limits):
    """No more run at once than the configuration says."""
    limits.at_once = 1
    started = time.monotonic()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(convert, converter, shell("sleep 0.3; echo x"))
    assert time.monotonic() - started > 0.9


# -- results that wait ---------------------------------------------------------------------------


async def test_a_result_is_kept_for_the_next_attempt(converter):
    """A printer that did not answer costs no second conversion; other copies are another result."""
    one = Conversion(PDF, PCL, ("sh", "-c", "echo {copies}; cat /proc/sys/kernel/random/uuid"))
    seen = []
    for copies in (1, 1, 2):
        async with converter.converted(job(b"x", copies=copies), MemorySource(b"x"), one) as made:
            seen.append(made.source.read_at(0, 99))
    assert seen[0] == seen[1]
    assert seen[2].startswith(b"2\n")


def test_a_crash_leaves_nothing(tmp_path, limits):
    """Directories of conversions that a crash cut off are gone after the next start."""
    left = tmp_path / "converting" / "0123" / "deep"
    left.mkdir(parents=True)
    (left / "page").write_bytes(b"x")
    Converter(tmp_path / "converting", lambda: limits).sweep()
    assert list((tmp_path / "converting").iterdir()) == []
