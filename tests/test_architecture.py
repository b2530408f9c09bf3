"""The house keeps its shape: doors are one-way, pure rooms stay pure, shields end."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "spoold"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room may import what stands on a line above its own; rooms on one line never import each other.
FLOORS = [
    {"model"},
    {"codec"},
    {"net"},
    {"spool", "provider", "counting"},
    {"accounts", "intake", "driver", "cluster"},
    {"dispatch", "release", "site"},
    {"web", "simulate"},
    {"daemon"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
STANDARD = set(sys.stdlib_module_names)
# Where the outside world enters; everything else gets it as an argument.
MAY_ASK_THE_WORLD = {"net", "spool", "provider", "daemon", "cli", "simulate"}


def imports(path: Path):
    """(line, module) of every import in a file, but those that only the type checker sees."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "spoold":
                yield from ((node.lineno, f"spoold.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_doors_are_one_way(path):
    """A room imports only what stands left of it."""
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    wrong = []
    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] != "spoold" or len(parts) < 2 or parts[1] in (room, "__version__"):
            continue
        if parts[1] not in FLOOR or FLOOR[parts[1]] >= FLOOR[room]:
            wrong.append(f"{path.name}:{line} {room} imports {module}")
    assert wrong == []


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if room_of(path) in ("model", "codec")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_pure_rooms_do_no_input_or_output(path):
    """model imports the standard library alone; neither it nor codec touches the world."""
    allowed = {"msgpack", "h11"} if room_of(path) == "codec" else set()
    world = {"trio", "socket", "os", "time", "asyncio", "threading", "pathlib", "subprocess"}
    for line, module in imports(path):
        top = module.split(".")[0]
        assert top in STANDARD | allowed | {"spoold"}, f"{path.name}:{line} imports {module}"
        assert top not in world, f"{path.name}:{line} imports {module}"


def test_every_shield_has_a_deadline():
    """`shield=True` stands only where a deadline stands with it."""
    for path in FILES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if "shield=True" in line:
                assert re.search(r"move_on_after|fail_after|deadline=", line), f"{path}:{number}"


def test_every_crash_point_is_visited_by_the_campaign():
    """A new crash point without a crash test is noticed."""
    named = {
        match
        for path in FILES
        for match in re.findall(r'crash_point\("([\w-]+)"\)', path.read_text(encoding="utf-8"))
    }
    tests = sorted((ROOT / "tests" / "crash").glob("test_*.py"))
    campaign = "".join(path.read_text(encoding="utf-8") for path in tests)
    missing = {name for name in named if f'"{name}"' not in campaign}
    assert named
    assert missing == set()


# Converters are programs that the administrator names, as a list of words; see its docstring.
# The counter and LDAP start their workers, with fixed words: this interpreter and a module of ours.
# So does the demo its daemons.
MAY_START_PROGRAMS = {
    "dispatch/convert.py",
    "counting/counter.py",
    "accounts/ldap.py",
    "daemon/demo_nodes.py",
}
STARTS_PROGRAMS = ("subprocess", "open_process", "run_process", "posix_spawn", "os.fork(")


def test_names_from_outside_never_reach_a_shell():
    """One module runs programs, and it knows no shell; nothing unpickles or evals."""
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(PACKAGE).as_posix()
        words = ("os.system", "shell=", "pickle", "eval(", "exec(")
        if name not in MAY_START_PROGRAMS:
            words += STARTS_PROGRAMS
        for word in words:
            if name == "dispatch/launcher.py" and word == "os.fork(":
                continue  # the program that it starts: its own process, with one thread
            assert word not in text.replace("os.exec", ""), f"{path}: {word}"


def test_each_module_imports_in_a_fresh_process():
    """No import cycle hides behind the order in which tests import."""
    needs = {}
    for path in FILES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        needs[name] = {module for _, module in imports(path)} | parents(name)
    for those in needs.values():
        those |= {parent for module in tuple(those) for parent in parents(module)}
    # Only a module that needs itself, by way of others, can be imported before it is whole.
    names = sorted(name for name in needs if name in reached(name, needs))
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    for known in [m for m in sys.modules if m.split('.')[0] == 'spoold']:\n"
        "        del sys.modules[known]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def parents(module):
    """The packages that are imported before `module`."""
    parts = module.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts))}


def reached(name, needs):
    """Every module that is imported because `name` is."""
    found, open_ = set(), [name]
    while open_:
        new = {one for one in needs[open_.pop()] if one in needs} - found
        found |= new
        open_ += new
    return found
