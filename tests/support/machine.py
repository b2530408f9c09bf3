"""A machine of its own: Debian with systemd as PID 1, in a container without a network.

`debootstrap` makes the tree once, in $SPOOLD_CACHE when that is set; `systemd-nspawn` boots it with
everything that is written in memory. It ends with this process, whatever ends that, and leaves no
mounts, processes or control groups. As a program it only prepares: `python -m support.machine DIR`.
Another release of Debian: SPOOLD_SUITE=trixie.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Asks /healthz over and over for a while; says how often the connection was refused, or cut.
KNOCK = """
import http.client, sys, threading, time
refused = cut = answered = 0
errors = set()
until = time.monotonic() + float(sys.argv[1])
def knock():
    global refused, cut, answered
    while time.monotonic() < until:
        time.sleep(0.005)  # a port stays in use for a minute: there are 28,000
        link = http.client.HTTPConnection("127.0.0.1", 9191, timeout=20)
        try:
            link.connect()
        except OSError as error:
            errors.add(str(error))
            refused += 1
            continue
        try:
            link.request("GET", "/healthz")
            answered += link.getresponse().status == 200
        except (OSError, http.client.HTTPException) as error:
            errors.add(repr(error))
            cut += 1
        link.close()
threads = [threading.Thread(target=knock) for _ in range(4)]
[one.start() for one in threads]
[one.join() for one in threads]
print("refused", refused, "cut", cut, "answered", answered, *errors)
"""

ROOT = Path(__file__).parents[2]
SOURCE = ("spoold", "systemd", "pyproject.toml", "README.md", ".ci/environment")
OWN_SUITE = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
SUITE = os.environ.get("SPOOLD_SUITE") or "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3"
BOOT_S = 60
GROUPS_S = 5
CERTIFICATES = "/opt/certificates.crt"
PYTHON = "/usr/lib/spoold/bin/python3"  # with the libraries of the package
GROUPS = ("payload", "supervisor")  # control groups that nspawn makes below its own


def prepared(cache: Path) -> Path:
    """The package of this source, once it and the tree of the machine are in the cache. Each takes
    a minute: `tests/run` does it before the tests, which have less.
    """
    cache.mkdir(parents=True, exist_ok=True)
    if SUITE != OWN_SUITE:
        tree(cache)
        return package(cache)
    with ThreadPoolExecutor() as pool:
        making, building = pool.submit(tree, cache), pool.submit(package, cache)
        making.result()
        return building.result()


def package(cache: Path) -> Path:
    """The package; built when the source is another than that of the last one. For another release
    than that of this machine it is built there, with the network of this one.
    """
    folder = cache / f"package-{SUITE}"
    digest = hashlib.sha256()
    for one in SOURCE:
        for path in sorted((ROOT / one).rglob("*")) or [ROOT / one]:
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    stamp, wanted = folder / "source", digest.hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print("Building the package", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if SUITE == OWN_SUITE:
            _build([ROOT / "systemd" / "package", folder])
        else:
            options = [f"--bind-ro={ROOT}:/srv", f"--bind={folder}:/mnt"]
            if certificates := os.environ.get("PIP_CERT"):  # by which pip knows its index here
                options += [f"--bind-ro={certificates}:{CERTIFICATES}"]
                options += [f"--setenv=PIP_CERT={CERTIFICATES}"]
            with _alone():
                _build([*_nspawn(cache, *options), "/srv/systemd/package", "/mnt"])
        stamp.write_text(wanted)
    (found,) = folder.glob("*.deb")
    return found


def _build(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def tree(cache: Path) -> Path:
    """The tree of a bare system; made when it is not there yet, whole or not at all."""
    found = cache / f"debian-{SUITE}"
    if not found.exists():
        print(f"Making a tree of Debian ({SUITE})", file=sys.stderr, flush=True)
        new = cache / f"debian-{SUITE}.new"
        shutil.rmtree(new, ignore_errors=True)
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(new)],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=600,
        )
        new.rename(found)
    return found


class Machine:
    """A machine that runs. Files of `shared` are in its /mnt."""

    def __init__(self, leader: int) -> None:
        self._enter = ["nsenter", "--target", str(leader), "--all", "--"]
        self.root = Path(f"/proc/{leader}/root")

    def run(
        self, *words: str, check: bool = True, timeout_s: float = 120, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """A command as root, with what it says."""
        done = subprocess.run(
            [*self._enter, *words],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"},
            **options,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def say(self, *words: str) -> str:
        return self.run(*words).stdout.strip()

    def start(self) -> None:
        """Start the daemon; what it says when it does not stands in the error."""
        done = self.run("systemctl", "start", "spoold", check=False)
        assert done.returncode == 0, self.say("journalctl", "--unit=spoold", "--lines=40")

    @contextmanager
    def python(self, code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A program of the standard library, while the test goes on."""
        with subprocess.Popen(
            [*self._enter, "/usr/bin/python3", "-I", "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def spoold(self, *words: str) -> Any:
        """What a command answers, as JSON."""
        return json.loads(self.say("spoold", *words, "--json"))

    def network(self, *words: str) -> None:
        """A program of this machine here, in the network of the other one."""
        subprocess.run([*self._enter[:3], "--net", "--", *words], check=True)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        self.run("mkdir", "-p", str(Path(path).parent))
        self.run("tee", path, input=text)
        self.run("chmod", f"{mode:o}", path)

    def show(self, unit: str, name: str) -> str:
        return self.say("systemctl", "show", "--value", "--property", name, unit)

    def logged(self, *matches: str) -> list[dict[str, Any]]:
        """Entries of the journal."""
        self.run("journalctl", "--sync")
        lines = self.say("journalctl", "--output=json", "--all", *matches).splitlines()
        return [json.loads(line) for line in lines]

    def drop_in(self, text: str, unit: str = "spoold.service", name: str = "test") -> None:
        """Settings of a unit for a while; an empty text takes them away."""
        path = f"/etc/systemd/system/{unit}.d/{name}.conf"
        if text:
            self.write(path, text)
        else:
            self.run("rm", "-f", path)
        self.run("systemctl", "daemon-reload")


@contextmanager
def machine(cache: Path, shared: Path) -> Iterator[Machine]:
    """A machine that has booted."""
    with _alone():
        process = subprocess.Popen(
            _nspawn(cache, f"--bind-ro={shared}:/mnt", "--private-network", "--boot"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield Machine(_booted(process))
        finally:
            process.kill()
            process.communicate(timeout=30)


@contextmanager
def _alone() -> Iterator[None]:
    """One container at a time: nspawn's control groups have fixed names."""
    with Path(tempfile.gettempdir(), "spoold-machine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            _remove_groups()


def _nspawn(cache: Path, *options: str) -> list[str]:
    return [
        # A PID namespace of its own ends with its first process, and that with us.
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("systemd-nspawn", "--quiet", "--directory", str(tree(cache)), "--volatile=overlay"),
        *("--register=no", "--keep-unit", "--console=pipe"),
        *options,
    ]


def _booted(process: subprocess.Popen[str]) -> int:
    """PID 1 of the machine, as it is called here, once it is up."""
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline and process.poll() is None:
        for leader in (one for nspawn in _children(process.pid) for one in _children(nspawn)):
            state = Machine(leader).run("systemctl", "is-system-running", check=False).stdout
            if state.strip() in ("running", "degraded"):
                return leader
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"the machine did not start: {process.communicate()[0]}")


def _children(pid: int) -> Sequence[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return ()


def _remove_groups() -> None:
    """Control groups without anybody in them; nspawn leaves its own. Whoever was in them is gone,
    or is about to be.
    """
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        name = "unified" if number == "0" else controllers.removeprefix("name=")
        for mount in (Path("/sys/fs/cgroup", name), Path("/sys/fs/cgroup")):
            for group in GROUPS:
                deadline = time.monotonic() + GROUPS_S
                while not _remove(mount / path.lstrip("/") / group) and time.monotonic() < deadline:
                    time.sleep(0.05)


def _remove(top: Path) -> bool:
    """Whether the group is gone with those in it."""
    with contextlib.suppress(OSError):
        for folder in sorted(top.rglob("*/"), reverse=True):
            folder.rmdir()
        top.rmdir()
    return not top.exists()


if __name__ == "__main__":
    print(prepared(Path(sys.argv[1])))
