"""A disk that loses power: what may be left of files at any moment of a recorded run.

The rules are the strictest that POSIX allows a file system, so that none of them hides a bug of
ours: a byte is durable once its file is synced, a name once its folder is. Until then each write
may be lost, whole, torn between sectors of 512 bytes, or (beyond the old end) a hole of zeros; and
each change of a folder may have happened or not, in any order, or, as in a journal of the file
system, up to some moment. A rename within a folder is one change; between two folders it is two.
What a failed sync was to keep counts as not synced for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from random import Random
from typing import NamedTuple

from support.trace import Call

SECTOR_BYTES = 512
# What no recovery reads: SQLite empties the index of its log, and the reserve is but its size.
WITHOUT_CONTENT = ("-shm", "reserve")
Tree = dict[str, bytes | None]  # by path below the root; a folder is None


@dataclass(slots=True, eq=False)
class Write:
    """Bytes at a place of a file; or, without bytes, its new end (`is_cut`: also if shorter)."""

    at: int
    data: bytes | None
    is_cut: bool = False
    has_landed: bool = False  # the call has returned: a sync that begins now covers it


@dataclass(slots=True, eq=False)
class Change:
    """Names of one folder that come to stand for something else, or for nothing, together."""

    moment: int
    names: dict[str, Node | None]


@dataclass(slots=True, eq=False)
class File:
    base: bytes = b""  # what is durable
    now: bytearray = field(default_factory=bytearray)
    pending: list[Write] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Folder:
    base: dict[str, Node] = field(default_factory=dict)
    now: dict[str, Node] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)


Node = File | Folder


class Survivors:
    """What becomes of everything that is not durable. This one keeps all of it, or nothing."""

    def __init__(self, keeps: bool) -> None:
        self._keeps = keeps

    def write(self, file: File, write: Write) -> list[Write]:
        return [write] if self._keeps else []

    def change(self, change: Change) -> bool:
        return self._keeps


class Apart(Survivors):
    """All but one thing survive, or one thing alone."""

    def __init__(self, one: Write | Change, keeps: bool) -> None:
        super().__init__(not keeps)
        self._one = one

    def write(self, file: File, write: Write) -> list[Write]:
        return [write] if self._keeps != (write is self._one) else []

    def change(self, change: Change) -> bool:
        return self._keeps != (change is self._one)


class UpTo(Survivors):
    """As with a journal of names: all changes of folders up to a moment, with all bytes or none."""

    def __init__(self, moment: int, keeps: bool) -> None:
        super().__init__(keeps)
        self._moment = moment

    def change(self, change: Change) -> bool:
        return change.moment <= self._moment


class Dice(Survivors):
    """Chance decides: on each thing, or for names on the moment up to which there are any."""

    def __init__(self, random: Random, disk: Disk) -> None:
        super().__init__(True)
        self._random = random
        moments = [change.moment for change in disk.changes()]
        is_ordered = bool(moments) and random.random() < 0.5
        self._moment = random.choice(moments) if is_ordered else None
        self._odds = random.choice((0.1, 0.5, 0.9))

    def write(self, file: File, write: Write) -> list[Write]:
        random = self._random
        if random.random() > self._odds:
            return []
        data = write.data
        if not data or random.random() < 0.6:
            return [write]
        if write.at >= len(file.base) and random.random() < 0.4:
            return [Write(write.at, bytes(len(data)))]
        # Sectors stand at multiples of their size in the file, wherever the write begins.
        torn, start = [], 0
        while start < len(data):
            end = start + SECTOR_BYTES - (write.at + start) % SECTOR_BYTES
            if random.random() < 0.5:
                torn.append(Write(write.at + start, data[start:end]))
            start = end
        return torn

    def change(self, change: Change) -> bool:
        if self._moment is not None:
            return change.moment <= self._moment
        return self._random.random() < self._odds


class Open(NamedTuple):
    node: Node
    offset: int


class Disk:
    """The files below `root` while a recorded run is followed, call by call."""

    def __init__(
        self,
        root: Path,
        before: Path | None = None,
        lies: Callable[[str], bool] = lambda path: False,
    ) -> None:
        """All that lies in `before` (else in `root`, now) is durable when the run begins.

        `lies` says of a path whether syncing it does nothing.
        """
        self._root = str(root)
        self._top = Folder()
        self._open: dict[int, Open] = {}
        self._syncing: dict[int, list[Write | Change]] = {}
        self._writing: dict[int, tuple[File, Write]] = {}
        self._moment = 0
        self._lies = lies
        self._load(before or root, self._top)

    def _load(self, path: Path, folder: Folder) -> None:
        for entry in path.iterdir():
            node: Node
            if entry.is_dir() and not entry.is_symlink():
                node = Folder()
                self._load(entry, node)
            elif entry.is_file():
                data = entry.read_bytes()
                node = File(data, bytearray(data))
            else:
                continue  # a socket
            folder.base[entry.name] = folder.now[entry.name] = node

    # -- following a run ---------------------------------------------------------------------

    def enter(self, call: Call) -> None:
        """The call has begun."""
        if call.name in ("write", "pwrite64"):
            found = self._file(call)
            if found is not None:
                file, offset = found
                at = call.numbers()[-1] if call.name == "pwrite64" else offset
                write = Write(at, call.strings()[0])
                file.pending.append(write)
                self._writing[call.entered] = (file, write)
        elif call.name in ("fsync", "fdatasync") and (found := self._opened(call)) is not None:
            pending = [] if self._lies(call.files()[0][1]) else found.node.pending
            self._syncing[call.entered] = [
                one for one in pending if isinstance(one, Change) or one.has_landed
            ]

    def leave(self, call: Call) -> bool:
        """The call has returned; whether it changed what may be on the disk."""
        act = getattr(self, f"_{call.name}", None)
        if act is None or call.result is None or call.result < 0:
            return False
        self._moment += 1
        return bool(act(call))

    def _write(self, call: Call) -> bool:
        known = self._writing.pop(call.entered, None)
        if known is None:
            return False
        file, write = known
        write.data = write.data[: call.result]
        write.has_landed = True
        _apply(file.now, write)
        if call.name == "write":
            self._advance(call, call.result)
        return True

    _pwrite64 = _write

    def _sendfile(self, call: Call) -> bool:
        found = self._file(call)
        if found is None:
            return False
        file, offset = found
        source = self._open[call.files()[1][0]].node
        start = int(re.search(rb"\[(\d+)\]", call.arguments)[1])
        data = bytes(source.now[start : start + call.result])
        self._put(file, Write(offset, data))
        self._advance(call, call.result)
        return True

    def _ftruncate(self, call: Call) -> bool:
        found = self._file(call)
        if found is None:
            return False
        self._put(found[0], Write(call.numbers()[-1], None, is_cut=True))
        return True

    def _fallocate(self, call: Call) -> bool:
        found = self._file(call)
        if found is None:
            return False
        _, start, length = call.numbers()
        self._put(found[0], Write(start + length, None))
        return True

    def _lseek(self, call: Call) -> bool:
        found = self._opened(call)
        if found is not None:
            self._open[call.files()[0][0]] = Open(found.node, call.result)
        return False

    def _openat(self, call: Call) -> bool:
        self._open.pop(call.result, None)
        place = self._place(call, 0)
        if place is None:
            return False
        folder, name = place
        node: Node = self._top if name == "" else folder.now.get(name) or File()
        is_new = name != "" and name not in folder.now
        if is_new:
            self._change(folder, {name: node})
        self._open[call.result] = Open(node, 0)
        if b"O_TRUNC" in call.arguments and isinstance(node, File) and node.now:
            self._put(node, Write(0, None, is_cut=True))
            return True
        return is_new

    def _mkdir(self, call: Call) -> bool:
        return self._name(call, Folder())

    _mkdirat = _mkdir

    def _unlink(self, call: Call) -> bool:
        return self._name(call, None)

    _unlinkat = _rmdir = _unlink

    def _rename(self, call: Call) -> bool:
        old, new = self._place(call, 0), self._place(call, 1)
        if old is None or new is None:
            assert old is new, "a rename into or out of the disk"
            return False
        node = old[0].now[old[1]]
        if old[0] is new[0]:
            self._change(old[0], {old[1]: None, new[1]: node})
        else:
            self._change(new[0], {new[1]: node})
            self._change(old[0], {old[1]: None})
        return True

    _renameat = _renameat2 = _rename

    def _link(self, call: Call) -> bool:
        old, new = self._place(call, 0), self._place(call, 1)
        if old is None or new is None:
            assert old is new, "a link into or out of the disk"
            return False
        self._change(new[0], {new[1]: old[0].now[old[1]]})
        return True

    _linkat = _link

    def _symlink(self, call: Call) -> bool:
        assert self._place(call, 0) is None, "symbolic links are not simulated"
        return False

    def _fsync(self, call: Call) -> bool:
        covered = self._syncing.pop(call.entered, None)
        if covered is None:
            return False
        node = self._opened(call).node
        if isinstance(node, File):
            node.base = _applied(node.base, covered)
        else:
            for one in covered:
                _renamed(node.base, one)
        node.pending = [one for one in node.pending if one not in covered]
        return bool(covered)

    _fdatasync = _fsync

    # -- what may be left --------------------------------------------------------------------

    def changes(self) -> list[Change]:
        """The changes of folders that are not durable."""
        return [one for one in self._pending() if isinstance(one, Change)]

    def choices(self) -> Iterator[Survivors]:
        """Every way in which one thing alone survives, or is lost, or names up to a moment do."""
        for one in self._pending():
            yield Apart(one, True)
            yield Apart(one, False)
        for moment in sorted({change.moment for change in self.changes()}):
            yield UpTo(moment, True)
            yield UpTo(moment, False)

    def tree(self, survivors: Survivors) -> Tree:
        """The disk after the power cut."""
        found: Tree = {}
        self._collect(self._top, "", survivors, found)
        return found

    def _collect(self, folder: Folder, path: str, survivors: Survivors, found: Tree) -> None:
        names = dict(folder.base)
        for change in folder.pending:
            if survivors.change(change):
                _renamed(names, change)
        for name, node in names.items():
            where = f"{path}/{name}" if path else name
            if isinstance(node, Folder):
                found[where] = None
                self._collect(node, where, survivors, found)
            else:
                found[where] = b""
                if not name.endswith(WITHOUT_CONTENT):
                    writes = [part for one in node.pending for part in survivors.write(node, one)]
                    found[where] = _applied(node.base, writes)

    def _pending(self) -> list[Write | Change]:
        found: list[Write | Change] = []
        seen: set[int] = set()
        todo: list[Node] = [self._top]
        while todo:
            node = todo.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            found += node.pending
            if isinstance(node, Folder):
                todo += node.base.values()
                todo += node.now.values()
                todo += [one for change in node.pending for one in change.names.values() if one]
        return found

    # -- small things ------------------------------------------------------------------------

    def _opened(self, call: Call) -> Open | None:
        """The open file or folder that the first descriptor of a call is, if it is below root."""
        descriptor, path = call.files()[0]
        return self._open.get(descriptor) if self._is_inside(path) else None

    def _file(self, call: Call) -> tuple[File, int] | None:
        found = self._opened(call)
        if found is None:
            return None
        return found.node, found.offset

    def _advance(self, call: Call, count: int) -> None:
        descriptor = call.files()[0][0]
        node, offset = self._open[descriptor]
        self._open[descriptor] = Open(node, offset + count)

    def _put(self, file: File, write: Write) -> None:
        write.has_landed = True
        file.pending.append(write)
        _apply(file.now, write)

    def _name(self, call: Call, node: Node | None) -> bool:
        place = self._place(call, 0)
        if place is None:
            return False
        folder, name = place
        if node is None and name not in folder.now:
            return False  # a socket
        self._change(folder, {name: node})
        return True

    def _change(self, folder: Folder, names: dict[str, Node | None]) -> None:
        change = Change(self._moment, names)
        folder.pending.append(change)
        _renamed(folder.now, change)

    def _is_inside(self, path: str) -> bool:
        return path == self._root or path.startswith(self._root + "/")

    def _place(self, call: Call, which: int) -> tuple[Folder, str] | None:
        """The folder and the name that a path of the call leads to; None outside of the disk."""
        text = call.strings()[which].decode("utf-8", "surrogateescape")
        at = [path for descriptor, path in call.files()]
        path = str(PurePosixPath(at[min(which, len(at) - 1)] if at else "/", text))
        if not self._is_inside(path):
            return None
        folder, name = self._top, ""
        for name in (parts := path[len(self._root) + 1 :].split("/"))[:-1]:
            below = folder.now[name]
            folder = below
        return folder, parts[-1]


def _applied(base: bytes, writes: list[Write]) -> bytes:
    if not writes:
        return base
    data = bytearray(base)
    for write in writes:
        _apply(data, write)
    return bytes(data)


def _apply(data: bytearray, write: Write) -> None:
    if write.data is None and write.is_cut:
        del data[write.at :]
    if write.data != b"":
        data.extend(bytes(max(0, write.at - len(data))))
    if write.data:
        data[write.at : write.at + len(write.data)] = write.data


def _renamed(names: dict[str, Node], change: Change) -> None:
    for name, node in change.names.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def steps(calls: list[Call]) -> Iterator[tuple[Call, bool]]:
    """Each call twice, in the order of time: when it begins (False) and when it ends (True)."""
    moments = [(call.entered, 0, call) for call in calls]
    moments += [(call.left, 1, call) for call in calls if call.result is not None]
    for _, is_end, call in sorted(moments, key=lambda moment: moment[:2]):
        yield call, bool(is_end)


def write_tree(tree: Tree, root: Path) -> None:
    """Make the tree on a real disk."""
    root.mkdir(parents=True, exist_ok=True)
    for path, data in sorted(tree.items()):
        if data is None:
            (root / path).mkdir(mode=0o700)
    for path, data in tree.items():
        if data is not None:
            (root / path).write_bytes(data)
