"""The counter answers for every document, and a worker that fails costs one document its answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib

import pytest
import structlog
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoold.codec.pages.contents import Reason
from spoold.counting.counter import Counter
from spoold.model.errors import OperationError
from support.documents import large_pdf
from support.waiting import wait_until

pytestmark = pytest.mark.slow

TEXT = b"one\ftwo\n"


def endless() -> bytes:
    """Minutes of work for the counter."""
    return b") HP-PCL XL;2;0;t\n" + b"\x43\x44" * 30_000_000


def pdf(*objects: bytes, root: int = 1) -> bytes:
    """A PDF with these objects, numbered from 1 on, and a cross-reference table that is right."""
    data, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Root %d 0 R /Size %d >>\nstartxref\n%d\n%%%%EOF\n"
    return data + trailer % (root, len(objects) + 1, table)


CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>"
GOOD = pdf(CATALOG, b"<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>", PAGE, PAGE)


def stream(data: bytes, more: bytes = b"") -> bytes:
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(data), more, data)


@pytest.fixture
def started():
    """The events of workers that start, as they come."""
    with structlog.testing.capture_logs() as events:
        yield events


def pids(events) -> list[int]:
    return [one["pid"] for one in events if one["event"] == "counter_started"]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_bytes_a_path_and_a_descriptor_are_the_same_document(tmp_path):
    """However it comes, its contents are those."""
    path = tmp_path / "document.pdf"
    path.write_bytes(GOOD)
    async with Counter() as counter:
        with path.open("rb") as file:
            found = [await counter.count(one) for one in (GOOD, path, file.fileno())]
    assert [one.pages for one in found] == [2, 2, 2]
    assert found[0] == found[1] == found[2]


async def test_one_warm_worker_counts_many_documents(started):
    """It starts with the first one and ends with the counter."""
    async with Counter() as counter:
        assert pids(started) == []
        for _ in range(20):
            assert (await counter.count(GOOD)).pages == 2
        (pid,) = pids(started)
        assert is_alive(pid)
    assert not is_alive(pid)


async def test_a_worker_is_replaced_after_its_share(started):
    """What leaks in a library does not add up."""
    async with Counter(documents_max=3) as counter:
        for _ in range(7):
            assert (await counter.count(TEXT)).pages == 2
    assert len(set(pids(started))) == 3


async def test_a_worker_that_hangs_is_killed_at_the_deadline(started):
    """Its document is unknown, and the next one is counted by another worker."""
    async with Counter(deadline_s=1.5) as counter:
        with trio.fail_after(30):
            contents = await counter.count(endless())
        assert (contents.pages, contents.reason) == (None, Reason.TOO_SLOW)
        assert (await counter.count(TEXT)).pages == 2
    first, second = pids(started)
    assert not is_alive(first)
    assert first != second


async def test_a_worker_that_dies_costs_one_document_its_answer(started):
    """The next one is counted."""
    async with Counter() as counter:
        assert (await counter.count(TEXT)).pages == 2
        answers = []

        async def count() -> None:
            answers.append(await counter.count(endless()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await trio.testing.wait_all_tasks_blocked(cushion=0.2)
            os.kill(pids(started)[0], signal.SIGKILL)
        assert (answers[0].pages, answers[0].reason) == (None, Reason.COUNTER_DIED)
        assert (await counter.count(TEXT)).pages == 2


async def test_a_worker_that_died_idle_costs_nothing(started):
    """A fresh one takes the document."""
    async with Counter() as counter:
        assert (await counter.count(TEXT)).pages == 2
        os.kill(pids(started)[0], signal.SIGKILL)
        assert (await counter.count(TEXT)).pages == 2
    assert len(pids(started)) == 2


async def test_a_count_that_is_cancelled_leaves_no_worker_behind(started):
    """The worker is killed at once; its document is nobody's affair any more."""
    async with Counter() as counter:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(counter.count, endless())
            await wait_until(lambda: pids(started))
            await trio.testing.wait_all_tasks_blocked(cushion=0.2)
            nursery.cancel_scope.cancel()
        (pid,) = pids(started)
        assert not is_alive(pid)
        assert (await counter.count(TEXT)).pages == 2


async def test_too_many_documents_are_busy():
    """Those in the queue are counted, the rest is refused."""
    answers: list[object] = []

    async def count(counter: Counter) -> None:
        try:
            answers.append((await counter.count(TEXT)).pages)
        except OperationError as error:
            answers.append(error.code)

    async with Counter(waiting_max=3) as counter, trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(count, counter)
    assert sorted(answers, key=str) == [2] * 4 + ["busy"] * 4


async def test_what_is_no_file_is_refused(tmp_path):
    """Nothing waits for a pipe or reads a device."""
    async with Counter() as counter:
        for path in (tmp_path, tmp_path / "missing"):
            with pytest.raises(OSError, match=r"."):
                await counter.count(path)
        assert (await counter.count(b"")).reason is Reason.DAMAGED


async def test_five_thousand_pages():
    """A long document is counted to its last page; how fast, the benchmarks say."""
    pages = 5000
    kids = b" ".join(b"%d 0 R" % number for number in range(3, 3 + pages))
    tree = b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, pages)
    async with Counter() as counter:
        assert (await counter.count(pdf(CATALOG, tree, *[PAGE] * pages))).pages == pages


async def test_a_pdf_larger_than_what_is_held_in_memory(tmp_path):
    """The library asks for the parts that it wants to see."""
    path = tmp_path / "large.pdf"
    path.write_bytes(large_pdf(80_000_000))
    async with Counter() as counter:
        contents = await counter.count(path, colour=True)
    assert (contents.pages, contents.colour_pages) == (1, 0)


# --- PDF ------------------------------------------------------------------------------------------

BROKEN = {
    "head alone": b"%PDF-1.7\n",
    "no catalog": pdf(b"<< >>"),
    "no tree": pdf(b"<< /Type /Catalog >>"),
    "no pages": pdf(CATALOG, b"<< /Type /Pages /Kids [] /Count 0 >>"),
    "pages that are not there": pdf(CATALOG, b"<< /Type /Pages /Kids [3 0 R] /Count 500 >>", PAGE),
    "a tree in a circle": pdf(CATALOG, b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 9 >>"),
    "two nodes in a circle": pdf(
        CATALOG,
        b"<< /Type /Pages /Kids [3 0 R] /Count 4 >>",
        b"<< /Type /Pages /Kids [2 0 R] /Count 4 >>",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_pdf_is_unknown(kind):
    """Never zero, and the worker lives on."""
    async with Counter() as counter:
        contents = await counter.count(BROKEN[kind])
        assert (contents.pages, contents.reason) == (None, Reason.DAMAGED)
        assert (await counter.count(GOOD)).pages == 2


async def test_a_pdf_whose_table_is_lost_is_repaired():
    """As every viewer does it."""
    async with Counter() as counter:
        assert (await counter.count(GOOD.replace(b"xref\n0", b"lost\n0"))).pages == 2


async def test_pages_are_looked_for_where_the_count_is_absurd():
    """The tree has one, whatever it says."""
    tree = b"<< /Type /Pages /Kids [3 0 R] /Count 99999999 >>"
    async with Counter() as counter:
        assert (await counter.count(pdf(CATALOG, tree, PAGE))).pages == 1


async def test_a_page_tree_that_claims_too_little_is_found_out():
    """What a device makes of it is in doubt; that it has more pages is not."""
    tree = b"<< /Type /Pages /Kids [3 0 R 4 0 R 5 0 R] /Count 1 >>"
    async with Counter() as counter:
        contents = await counter.count(pdf(CATALOG, tree, PAGE, PAGE, PAGE))
    assert (contents.pages, contents.is_exact) == (3, False)
    assert contents.detail == "its page tree claims 1 pages and has 3"


async def test_colour_has_two_seconds_and_is_unknown_then():
    """A page that takes for ever to paint costs its colour, not its count."""
    spin = b"0 0 1 rg\n" + b"q 1 0 0 1 1 1 cm 0 0 500 700 re f\n" * 400_000
    slow = pdf(
        CATALOG,
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R >>",
        stream(zlib.compress(spin), b"/Filter /FlateDecode"),
    )
    async with Counter(colour_s=0.05) as counter:
        contents = await counter.count(slow, colour=True)
        assert (contents.pages, contents.colour_pages) == (1, None)
        assert contents.colour_reason is Reason.TOO_SLOW
        assert (await counter.count(GOOD, colour=True)).colour_pages == 0


async def test_a_bomb_is_bounded_by_the_memory_of_the_worker():
    """A stream of hundreds of megabytes, packed twice: a count or none, in time."""
    bomb = zlib.compress(zlib.compress(bytes(400_000_000), 1), 9)
    data = pdf(
        CATALOG,
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R >>",
        stream(bomb, b"/Filter [/FlateDecode /FlateDecode]"),
    )
    objects = pdf(CATALOG, stream(bomb, b"/Type /ObjStm /N 1000000 /First 10 /Filter /FlateDecode"))
    async with Counter(deadline_s=10) as counter:
        began = trio.current_time()
        contents = await counter.count(data, colour=True)
        assert contents.pages == 1
        assert (await counter.count(objects)).pages in (1, None)
        assert trio.current_time() - began < 15
        assert (await counter.count(GOOD)).pages == 2


CHANGES = st.lists(st.tuples(st.integers(0, len(GOOD)), st.binary(max_size=6)), max_size=12)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(CHANGES, min_size=30, max_size=60))
def test_mutants_of_a_pdf(mutants):
    """Counted or unknown, whatever the bytes are."""

    async def count_all() -> None:
        async with Counter(deadline_s=10) as counter:
            for changes in mutants:
                data = bytearray(GOOD)
                for at, put in changes:
                    data[at : at + len(put)] = put
                contents = await counter.count(bytes(data), colour=True)
                assert (contents.pages is None) == (contents.reason is not None)
                assert contents.pages is None or contents.pages > 0

    trio.run(count_all)


# --- the confinement ------------------------------------------------------------------------------

ESCAPES = """
import ctypes, os, signal, socket, sys
from spoold.counting.confinement import Limits, confine
path = sys.argv[1]
fd = os.open(path, os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
if not confine(Limits()):
    print("no filter here")
    os._exit(0)
def tried(name, action):
    try:
        action()
    except (OSError, MemoryError) as error:
        return
    print("allowed:", name)
    sys.stdout.flush()
tried("open", lambda: os.open("/etc/passwd", os.O_RDONLY))
tried("create", lambda: os.open(path + ".new", os.O_WRONLY | os.O_CREAT))
tried("socket", lambda: socket.socket())
tried("unix", lambda: socket.socket(socket.AF_UNIX))
tried("pair", lambda: socket.socketpair())
tried("fork", lambda: os.fork() or os._exit(0))
tried("exec", lambda: os.execv("/bin/true", ["true"]))
tried("spawn", lambda: os.posix_spawn("/bin/true", ["true"], {}))
tried("kill", lambda: os.kill(os.getppid(), 0))
tried("unlink", lambda: os.unlink(path))
tried("rename", lambda: os.rename(path, path + ".gone"))
tried("truncate", lambda: os.ftruncate(fd, 0))
tried("chmod", lambda: os.chmod(path, 0o777))
tried("list", lambda: os.listdir("/"))
tried("memory", lambda: bytearray(2 << 30))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
tried("write", lambda: os.write(fd, b"x"))
os._exit(0)
"""


def test_a_worker_can_neither_open_nor_connect_nor_start_anything(tmp_path):
    """It computes, and talks over what it was given."""
    path = tmp_path / "document"
    path.write_bytes(b"precious")
    done = subprocess.run(
        [sys.executable, "-c", ESCAPES, str(path)], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) in ((0, ""), (0, "no filter here\n")), done
    assert path.read_bytes() == b"precious"
    assert sorted(tmp_path.iterdir()) == [path]
