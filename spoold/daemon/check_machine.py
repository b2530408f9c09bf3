"""What `spoold check` looks at of the machine: programs, rights, disk, clock, limits."""

from __future__ import annotations

import ctypes
import grp
import os
import platform
import resource
import sqlite3
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from spoold import __version__
from spoold.daemon.check import Finding, Subject, failed, ok, warning

LIBRARIES = ("trio", "aiosqlite", "cryptography", "h11", "msgpack", "structlog")
SYNCS = 64
SYNC_SLOW_S = 0.03  # a disk that turns once for each commit, and then some
SYNC_INCREDIBLE_S = 20e-6  # no disk, and hardly a bus, is so fast
VOLATILE = frozenset({"tmpfs", "ramfs"})
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs"})
CARELESS = frozenset({"nobarrier", "barrier=0"})
STA_UNSYNC = 0x40  # <sys/timex.h>
TIME_ERROR = 5
ENTROPY_BITS = 256


def check_programs(subject: Subject) -> Iterator[Finding]:
    found = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    yield ok("programs", f"spoold {__version__}, Python {platform.python_version()}, {found}")
    text = f"SQLite {sqlite3.sqlite_version}, {ssl.OPENSSL_VERSION}"
    if sqlite3.sqlite_version_info < (3, 37):
        yield failed("libraries", text, "Use Python with SQLite 3.37 or later.")
    else:
        yield ok("libraries", text)


def check_rights(subject: Subject) -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield warning(
            "rights",
            "this is root; the daemon needs no rights at all",
            "Check as its user, too: `runuser -u spoold -- spoold check --config FILE`.",
        )
    else:
        yield ok("rights", f"uid {os.geteuid()}, no rights needed")
    try:
        grp.getgrnam("spoold")
    except KeyError:
        yield warning(
            "group",
            "there is no group spoold: only root and the daemon's user may administer it",
            "`groupadd --system spoold`, if others shall.",
        )
    else:
        yield ok("group", "members of the group spoold may administer the node")


def check_disk(subject: Subject) -> Iterator[Finding]:
    """Room, and how fast and how honest syncs are, where the data lies or will lie."""
    place = existing(subject.data_dir)
    kind, options = _file_system(place)
    limits = subject.config.limits
    room = os.statvfs(place)
    free = room.f_bavail * room.f_frsize
    total = (room.f_blocks - room.f_bfree) * room.f_frsize + free  # as df(1) counts
    text = f"{free / 2**30:.1f} GiB of {total / 2**30:.1f} GiB free ({kind})"
    used = 1 - free / total if total else 0.0
    if free < limits.reserve_bytes or used >= limits.spool_share:
        yield failed("disk", f"{text}: jobs are refused", "Free space, or name another data_dir.")
    elif used >= subject.config.health.disk_share:
        yield warning("disk", text, "Free space soon.")
    else:
        yield ok("disk", text)
    if room.f_files and room.f_favail < 10_000:
        advice = "Each large document is a file: make the file system with more inodes."
        yield warning("inodes", f"{room.f_favail} files can still be made", advice)
    yield from _check_sync(place, kind, options)


def _check_sync(place: Path, kind: str, options: set[str]) -> Iterator[Finding]:
    advice = "Put data_dir on a local disk: what was acknowledged must survive a power cut."
    if kind in VOLATILE:
        yield failed("sync", f"{place} is memory ({kind})", advice)
        return
    if "eatmydata" in os.environ.get("LD_PRELOAD", ""):
        yield failed("sync", "libeatmydata is loaded: nothing is ever synced", "Unset LD_PRELOAD.")
        return
    try:
        times = _sync_times(place)
    except OSError as error:
        yield warning("sync", f"not tried in {place}: {error.strerror}", "Check as root.")
        return
    median, worst = times[len(times) // 2], times[-1]
    text = f"4 KiB synced in {median * 1000:.2f} ms, {worst * 1000:.2f} ms at worst"
    if careless := options & CARELESS:
        said = f"{text}, but mounted with {', '.join(sorted(careless))}"
        yield failed("sync", said, "Mount it with barriers.")
    elif kind in REMOTE:
        yield warning("sync", f"{text}, over the network ({kind})", advice)
    elif median < SYNC_INCREDIBLE_S:
        yield warning("sync", f"{text}: too fast to be true", "See whether the disk lies on a UPS.")
    elif median > SYNC_SLOW_S:
        yield warning("sync", text, "Each acknowledgement waits for one; use a faster disk.")
    else:
        yield ok("sync", text)


def _sync_times(place: Path) -> list[float]:
    """How long syncs of a small write take, in s, sorted."""
    times = []
    with tempfile.TemporaryFile(dir=place) as file:
        for number in range(SYNCS):
            os.pwrite(file.fileno(), os.urandom(4096), number * 4096)
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begun)
    return sorted(times)


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that there is."""
    while not path.exists():
        path = path.parent
    return path


def _file_system(place: Path) -> tuple[str, set[str]]:
    """The kind of the file system and its mount options."""
    try:
        device = place.stat().st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            mount, _, source = line.partition(" - ")
            fields, kind = mount.split(), source.split()
            if fields[2] == wanted:
                return kind[0], {*fields[5].split(","), *kind[2].split(",")}
    except (OSError, IndexError):
        pass
    return "unknown", set()


def check_clock(subject: Subject) -> Iterator[Finding]:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    believed = _believed_s(subject.data_dir)
    advice = "Run a time service: `apt-get install systemd-timesyncd`, or chrony."
    if time.time() < believed - 60:
        behind = believed - time.time()
        yield failed("clock", f"{now}: {behind:.0f} s behind the spool's last record", advice)
        return
    is_synchronised = _is_synchronised()
    if is_synchronised is None:
        yield ok("clock", f"{now}; whether a time service keeps it cannot be seen from here")
    elif is_synchronised:
        yield ok("clock", f"{now}, kept by a time service")
    else:
        yield warning("clock", f"{now}, kept by no time service", advice)


def _believed_s(data_dir: Path) -> float:
    """The time when a daemon last ran here; 0 when none did."""
    try:
        return int((data_dir / "clock").read_text("ascii")) / 1e6
    except (OSError, ValueError):
        return 0.0


def _is_synchronised() -> bool | None:
    """Whether the kernel's clock is disciplined (adjtimex(2), read only); None: not to be seen."""
    if Path("/run/systemd/timesync/synchronized").exists():
        return True
    found = ctypes.create_string_buffer(512)  # more than struct timex has; modes = 0 reads
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(found)
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    # struct timex on 64 bits: modes, offset, freq, maxerror, esterror, status
    at = 4 * ctypes.sizeof(ctypes.c_long) + ctypes.sizeof(ctypes.c_long)
    status = int.from_bytes(found.raw[at : at + 4], sys.byteorder)
    return state != TIME_ERROR and not status & STA_UNSYNC


def check_entropy(subject: Subject) -> Iterator[Finding]:
    try:
        os.getrandom(16, os.GRND_NONBLOCK)
        bits = int(Path("/proc/sys/kernel/random/entropy_avail").read_text())
    except BlockingIOError:
        yield failed(
            "entropy", "the kernel has none yet", "Give the machine a virtio-rng, or wait."
        )
    except (OSError, ValueError):
        yield ok("entropy", "the kernel gives random bytes")
    else:
        if bits < ENTROPY_BITS:
            advice = "Give the machine a hardware source, or run rngd."
            yield warning("entropy", f"{bits} bits", advice)
        else:
            yield ok("entropy", f"{bits} bits")


def check_limits(subject: Subject) -> Iterator[Finding]:
    """As many descriptors as connections, their devices and the daemon itself may take.

    What root's shell allows says nothing of the daemon, which is started with limits of its own.
    """
    wanted = 2 * subject.config.limits.connections_max + 256
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_short = hard != resource.RLIM_INFINITY and hard < wanted
    if is_short and os.geteuid() == 0:
        yield ok("files", f"{wanted} may be needed; LimitNOFILE= in the unit says how many")
    elif is_short:
        yield warning(
            "files",
            f"{hard} open files are allowed here, {wanted} may be needed",
            "LimitNOFILE= in the unit (`ulimit -Hn` in a shell), or fewer limits.connections_max.",
        )
    else:
        yield ok("files", f"{'any number of' if hard < 0 else hard} open files are allowed")


CHECKERS = (check_programs, check_rights)
AFTER_NODE = (check_disk, check_clock, check_entropy, check_limits)
