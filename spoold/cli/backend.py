"""`spoold backend …`: put the CUPS backend in place, so that CUPS queues print through spoold.

What is installed is a shell script of a few lines that starts this Python with
`spoold.provider.cups_backend`. CUPS runs it as root where only root may read it (backend(7)), which
it must to read credentials. So nobody but root may be able to change what it runs.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from spoold.cli import grammar, render
from spoold.cli.grammar import DONE, REFUSED, Nouns, Parser
from spoold.model.errors import ConfigError, SpooldError
from spoold.model.text import plain

DIRECTORY = Path("/usr/lib/cups/backend")
NAME = "spoold"
MARK = "# Made by `spoold backend install`; `spoold backend remove` takes it away."
SETTINGS = ("PYTHON", "CREDENTIALS", "STATE")
SCRIPT_BYTES_MAX = 8192
LINKS_MAX = 40
LOADED = ("os", "spoold", "trio", "msgpack")  # one of each place that Python loads code from
AS_ROOT = 0o700  # CUPS runs it as root,
AS_ANYBODY = 0o755  # or as its own user, lp
ROOT_HINT = "Install spoold where root alone writes, in a virtual environment in /opt for example."

SCRIPT = """\
#!/bin/sh
{mark}
PYTHON={python}
CREDENTIALS={credentials}
STATE={state}
if [ ! -x "$PYTHON" ]; then
    echo "ERROR: $PYTHON is not there: run \\`spoold backend install\\` again." >&2
    exit 4
fi
exec "$PYTHON" -I -X utf8 -c '
import sys
try:
    from spoold.provider.cups_backend import main
except ImportError as error:
    print(f"ERROR: spoold cannot be loaded: {{error}}", file=sys.stderr)
    sys.exit(4)
def paper():
    from spoold.cli.paper import DevicePaper
    return DevicePaper()
sys.exit(main(sys.argv[3:], sys.argv[1], sys.argv[2], paper))
' "$CREDENTIALS" "$STATE" "$@"
"""

EXAMPLES = """
spoold provider enrol cups-1 --may-assert '*'          # at the server; bring the files here
(umask 077; cat cups-1.key cups-1.crt ca.crt >/etc/spoold/cups.pem)
spoold backend install --credentials /etc/spoold/cups.pem
spoold backend install --credentials /etc/spoold/cups.pem --state /var/lib/spoold-cups
lpadmin -p desk -E -v spoold://hq-1.example.org,hq-2.example.org/desk

options in the device URI, as ?waitjob=yes&contimeout=600:
waitjob=yes         CUPS's job ends when paper has come out, not when a server has it
contimeout=SECONDS  give the job back to CUPS when no server answers for so long; else never
away=retry          with it: CUPS lets other jobs go first; else it tries again at once
hold=yes            the job waits at spoold until somebody releases it
priority=1..100     its priority at spoold (50)
patience=SECONDS    no server for so long (10): print without one, where that is set (--state)
tls=no              in clear, as on port 9191; nobody knows then who we are
"""


def add(nouns: Nouns[Parser]) -> None:
    verbs = grammar.noun(nouns, "backend", "let CUPS queues print through spoold")
    installing = grammar.command(
        verbs, "install", install, "put the CUPS backend in place (as root)", EXAMPLES
    )
    _add_directory(installing)
    installing.add_argument(
        "--credentials",
        type=Path,
        metavar="FILE",
        help="key, certificate and CA in one PEM file that only root reads; else none are shown",
    )
    installing.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="where it keeps what it may print without a server (`spoold printer set NAME "
        "--when-unreachable direct`), and did; without one all jobs wait",
    )
    removing = grammar.command(
        verbs, "remove", remove, "take the CUPS backend away (as root)", "spoold backend remove"
    )
    _add_directory(removing)
    showing = grammar.command(
        verbs, "show", show, "say whether the CUPS backend can do its work", "spoold backend show"
    )
    _add_directory(showing)
    grammar.add_json(showing)


def _add_directory(parser: Parser) -> None:
    parser.add_argument(
        "--directory",
        type=Path,
        default=DIRECTORY,
        metavar="DIR",
        help=f"the backends of CUPS ({DIRECTORY})",
    )


def install(args: Namespace) -> int:
    path = _place(args.directory) / NAME
    credentials: Path | None = args.credentials and args.credentials.absolute()
    state: Path | None = args.state and args.state.absolute()
    if state is not None:
        _check_state(state, credentials)
    python = Path(sys.executable)
    if (found := _look(path)) is not None and not found.is_ours:
        raise _refusal("write", path, "somebody else made it", "Look at it, and remove it.")
    for problem in _problems(python, credentials):
        raise problem
    text = script(python, credentials, state)
    _write(path, text, AS_ANYBODY if credentials is None else AS_ROOT)
    print(plain(f"{path} is in place; CUPS runs it as {'root' if credentials else 'its user'}."))
    if credentials is None:
        print("It shows no certificate: servers take its users' names as claims.")
    return DONE


def script(python: Path, credentials: Path | None, state: Path | None = None) -> str:
    """The backend's text: it runs `python` with our package, these credentials, and its folder."""
    return SCRIPT.format(
        mark=MARK,
        python=shlex.quote(str(python)),
        credentials=shlex.quote(str(credentials or "")),
        state=shlex.quote(str(state or "")),
    )


def _check_state(state: Path, credentials: Path | None) -> None:
    """Raises:
    ConfigError: nobody would be told what was printed, or the folder cannot be used.
    """
    from spoold.provider.notebook import Notebook

    if credentials is None:
        advice = "Give --credentials, too: servers hear of printed jobs from providers they know."
        raise _refusal("use", state, "the backend shows no certificate", advice)
    Notebook(state)


def remove(args: Namespace) -> int:
    path = _place(args.directory) / NAME
    found = _look(path)
    if found is None:
        print(plain(f"There is no {path}."))
        return DONE
    if not found.is_ours:
        raise _refusal("remove", path, "somebody else made it", "Look at it.")
    path.unlink()
    print(plain(f"{path} is removed; jobs of spoold:// queues wait in CUPS from now on."))
    return DONE


def show(args: Namespace) -> int:
    path = args.directory.absolute() / NAME
    found = _look(path)
    problems: list[str] = []
    if found is None:
        problems = ["it is not installed: `spoold backend install`"]
    elif not found.is_ours:
        problems = ["somebody else made it"]
    else:
        problems = [str(one) for one in found.problems()]
    told = {
        "path": str(path),
        "python": str(found.python) if found else "",
        "credentials": str(found.credentials or "") if found else "",
        "state": str(found.state or "") if found else "",
        "runs_as_root": bool(found and found.mode == AS_ROOT),
        "problems": problems,
    }
    if args.json:
        render.print_json(told)
    else:
        render.print_fields((key.replace("_", " "), value) for key, value in told.items())
    return REFUSED if problems else DONE


# -- what is there -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Installed:
    """The file at the backend's place."""

    path: Path
    is_ours: bool
    mode: int
    python: Path
    credentials: Path | None
    state: Path | None = None

    def problems(self) -> Iterator[SpooldError]:
        yield from _problems(self.python, self.credentials)
        if self.state is not None and not self.state.is_dir():
            yield _refusal("use", self.state, "it is not there", "Install it again.")
        if self.mode != (AS_ANYBODY if self.credentials is None else AS_ROOT):
            yield _refusal("use", self.path, f"its mode is {self.mode:o}", "Install it again.")


def _look(path: Path) -> Installed | None:
    """Raises:
    ConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(SCRIPT_BYTES_MAX).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refusal("read", path, error.strerror, "Only root can: use sudo.") from error
    lines = text.splitlines()
    if lines[1:2] != [MARK]:
        return Installed(path, False, mode, Path(), None)
    try:
        told = dict(_setting(one) for one in lines[2:5] if "=" in one)  # STATE came later
        python, credentials, state = (told.get(name, "") for name in SETTINGS)
    except ValueError as error:
        raise _refusal("read", path, "somebody changed it", "Install it again.") from error
    return Installed(
        path,
        True,
        mode,
        Path(python),
        Path(credentials) if credentials else None,
        Path(state) if state else None,
    )


def _setting(line: str) -> tuple[str, str]:
    """The name and the value of a line of the script. Raises ValueError."""
    name, _, value = line.partition("=")
    return name, "".join(shlex.split(value))


def _problems(python: Path, credentials: Path | None) -> Iterator[SpooldError]:
    """Why CUPS cannot, or should not, run `python` with `credentials`."""
    try:
        places = [*_links(python), *(one for name in LOADED for one in _links(_folder_of(name)))]
        for path in dict.fromkeys(places):
            yield from _writable_by_others(path)
        if credentials is None:
            yield from _hidden_from_others(places)
    except OSError as error:
        yield _refusal("run", python, error.strerror or str(error), ROOT_HINT)
    if credentials is not None:
        from spoold.provider.credentials import read_bundle

        try:
            read_bundle(str(credentials)).context()
        except SpooldError as error:
            yield error


def _links(path: Path) -> Iterator[Path]:
    """`path`, and what it leads to over symbolic links, each where it really stands."""
    for _ in range(LINKS_MAX):
        path = path.parent.resolve(strict=True) / path.name
        yield path
        if not path.is_symlink():
            path.lstat()  # it is there
            return
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise OSError(errno.ENOENT, f"there is no {package}")
    return Path(spec.origin).parent


def _writable_by_others(path: Path) -> Iterator[SpooldError]:
    """Where somebody but root could change what stands at `path`."""
    for place in (path, *path.parents):
        status = place.lstat()
        mode = stat.S_IMODE(status.st_mode)
        is_open = bool(mode & 0o022) and not (mode & stat.S_ISVTX) and not place.is_symlink()
        if status.st_uid or is_open:
            cause = f"others than root can change {place}"
            yield _refusal("let CUPS run", path, cause, ROOT_HINT)
            return


def _hidden_from_others(paths: Sequence[Path]) -> Iterator[SpooldError]:
    """Where the user of CUPS could not read or run what stands at a path."""
    for path in paths:
        for place in (path, *path.parents):
            if not place.is_symlink() and not place.stat().st_mode & 0o001:
                advice = f"{ROOT_HINT} Or give --credentials: then CUPS runs it as root."
                yield _refusal("let CUPS run", path, f"only root can enter {place}", advice)
                return


def _place(directory: Path) -> Path:
    """The directory of backends, when we may write there.

    Raises:
        ConfigError: this is not root, there is no such directory, or it is open to others.
    """
    directory = directory.absolute()
    if os.geteuid():
        raise _refusal("change", directory, "only root may", "Use sudo.")
    try:
        status = directory.stat()
    except OSError as error:
        advice = "Is CUPS installed? Name its directory of backends with --directory."
        raise _refusal("use", directory, error.strerror, advice) from error
    if not stat.S_ISDIR(status.st_mode):
        raise _refusal("use", directory, "it is no directory", "Name one with --directory.")
    if status.st_uid or status.st_mode & 0o022:
        raise _refusal(
            "use", directory, "others than root can write there", "CUPS would not run it either."
        )
    return directory


def _write(path: Path, text: str, mode: int) -> None:
    """Replace the file at once: CUPS may start it at any moment.

    Raises:
        ConfigError: it cannot be written.
    """
    temporary = path.with_name(f".{NAME}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
                os.fchmod(descriptor, mode)
                os.fchown(descriptor, 0, 0)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _refusal("write", path, error.strerror, "Look at the directory.") from error


def _refusal(operation: str, path: Path, cause: object, advice: str) -> ConfigError:
    return ConfigError(operation, str(path), cause, advice)
