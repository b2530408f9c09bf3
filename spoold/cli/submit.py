"""`spoold submit`: hand a file over, as a print provider does, with an exit code for scripts."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from argparse import ArgumentTypeError, Namespace
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from spoold.cli import grammar, render
from spoold.cli.control import NotRunning, connect
from spoold.cli.grammar import DONE, REFUSED, UNKNOWN, UNREACHABLE, USAGE, Nouns, Parser
from spoold.model.errors import ConfigError, OperationError
from spoold.model.person import decode_text
from spoold.model.text import plain

if TYPE_CHECKING:
    from spoold.provider.alone import Printed
    from spoold.provider.direct import DirectProvider
    from spoold.provider.receipt import Receipt, Unreachable

EXAMPLES = """
spoold submit report.pdf
spoold submit -P frontdesk --copies 2 --title 'Weekly report' report.pdf
generate | spoold submit -P labels --format application/vnd.zebra-zpl -
spoold submit --server hq-1.example.org:9191 --server hq-2.example.org:9191 report.pdf
spoold submit --server hq-1.example.org:9195 --ca ca.crt --cert till-7.crt --key till-7.key r.pdf
spoold submit --server hq:9195 --ca ca.crt --cert till.crt --key till.key --state state r.pdf
spoold submit --uuid 0b6f2f6e-9f0d-4f6e-8a34-5c1f1f6f0e11 report.pdf   # one job, however often

exit codes:
0   accepted: the job is durable; or printed, without a server (--state)
1   refused, the certificate too: no server has it
2   wrong usage, or FILE cannot be read
75  no server could be reached: try again later
76  sent, but the answer is unknown: run it again with the --uuid that it names
"""
ENDED = "the server ended the connection"  # as a port of TLS does to who speaks in the clear
NO_TLS = "the peer says: protocol version"  # as the clear port does to who speaks TLS
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what stands for all addresses, and who we are there
PROGRESS_BYTES_MIN = 8 * 1024 * 1024
PROGRESS_INTERVAL_S = 0.1


def add(nouns: Nouns[Parser]) -> None:
    parser = grammar.command(nouns, "submit", submit, "hand a file over to be printed", EXAMPLES)
    parser.add_argument("file", metavar="FILE", help="what to print; - is the standard input")
    parser.add_argument("-P", "--printer", default="default", metavar="PRINTER")
    parser.add_argument(
        "--server",
        action="append",
        metavar="HOST:PORT",
        help="several are tried in order (else $SPOOLD_SERVER, else the daemon of this machine)",
    )
    parser.add_argument("--user", metavar="NAME", help="the job's owner; else you")
    parser.add_argument("--title", help="else the name of the file")
    parser.add_argument("--copies", type=grammar.count, default=1, metavar="N")
    parser.add_argument("--format", default="application/octet-stream", metavar="TYPE")
    parser.add_argument("--priority", type=priority, default=50, metavar="1..100")
    parser.add_argument("--hold", action="store_true", help="print it when it is released")
    parser.add_argument(
        "-o",
        "--option",
        type=grammar.pair,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a job attribute, e.g. sides=two-sided-long-edge",
    )
    parser.add_argument("--uuid", type=uuid, metavar="UUID", help="the same one is the same job")
    parser.add_argument("--tls", action="store_true", help="over TLS, port 9192")
    parser.add_argument("--ca", metavar="FILE", help="trust this CA (`spoold node ca`); means TLS")
    parser.add_argument("--cert", metavar="FILE", help="your certificate, for port 9195")
    parser.add_argument("--key", metavar="FILE", help="its key")
    parser.add_argument(
        "--wait",
        type=grammar.count,
        default=10,
        metavar="SECONDS",
        help="how long to look for a server that answers (10)",
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="where it is kept what may be printed without a server (`spoold printer set NAME "
        "--when-unreachable direct`), and what was; see `spoold provider agent`",
    )
    grammar.add_json(parser)


def uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no UUID") from None


def priority(text: str) -> int:
    value = grammar.count(text)
    if value > 100:
        raise ArgumentTypeError(f"{text} is more than 100")
    return value


def submit(args: Namespace) -> int:
    from spoold.provider.receipt import AnswerUnknown, Receipt, SubmitRefused, Unreachable

    if args.state is not None and not args.cert:
        return _complain("--state goes with --cert: servers must know who reports to them.", USAGE)
    try:
        answer = _submit(args)
    except SubmitRefused as error:
        return _complain(error, REFUSED)
    except Unreachable as error:
        said = f"{error.message} {_what_to_check(args, error)}"
        return _complain(said, REFUSED if error.is_for_good else UNREACHABLE)
    except AnswerUnknown as error:
        code = _complain(error, UNKNOWN)
        print(f"  Run it again with --uuid {error.job_uuid}.", file=sys.stderr)
        return code
    except OSError as error:
        name = error.filename or args.file
        return _complain(f"{name}: {error.strerror or error}.", USAGE)
    if isinstance(answer, Receipt):
        _tell(args, answer)
    else:
        _tell_printed(args, answer)
    return DONE


def _what_to_check(args: Namespace, error: Unreachable) -> str:
    if error.distrusted:
        return (
            "One side refused the other's certificate: --ca names the CA of the server "
            "(`spoold node ca`), --cert and --key a certificate that is enrolled there, and valid."
        )
    if not _is_over_tls(args) and any(ENDED in cause for cause in error.causes.values()):
        return "Ports 9192 and 9195 speak TLS: name the CA of the server with --ca."
    if _is_over_tls(args) and any(NO_TLS in cause for cause in error.causes.values()):
        return "Port 9191 speaks no TLS: go to 9192, or to 9195 with a certificate."
    return error.advice


def _here(args: Namespace) -> str:
    """Where the daemon of this machine takes jobs: as it says, if we may ask it, else as usual."""
    from spoold.net.address import parse_address

    key, port = "clear", 9191
    if _is_over_tls(args):
        key, port = ("mutual", 9195) if args.cert else ("tls", 9192)
    with suppress(NotRunning, OperationError, ConfigError), connect(args) as client:
        listen = dict(one.split(" ", 1) for one in client.call("node.show", {})["listen"])
        if (text := listen.get(f"listen.{key}[0]")) and (found := parse_address(text)).port:
            return str(replace(found, host=ANY.get(found.host, found.host)))
    return f"127.0.0.1:{port}"


def _is_over_tls(args: Namespace) -> bool:
    return bool(args.tls or args.ca or args.cert)


def _complain(error: object, code: int) -> int:
    print(plain(f"spoold: {error}"), file=sys.stderr)
    return code


def _submit(args: Namespace) -> Receipt | Printed:
    from spoold.provider.direct import DirectProvider
    from spoold.provider.endpoint import Tls

    tls = None
    if _is_over_tls(args):
        tls = Tls(ca_file=args.ca, certificate_file=args.cert, key_file=args.key)
    servers = args.server or os.environ.get("SPOOLD_SERVER", "").split()
    bar = Bar() if sys.stderr.isatty() else None
    with DirectProvider(
        servers or [_here(args)],
        tls=tls,
        kind="cli",
        unreachable_timeout_s=args.wait,
    ) as provider:
        job: dict[str, Any] = {
            "printer": args.printer,
            "user": _user(args.user),
            "title": _title(args),
            "copies": args.copies,
            "priority": args.priority,
            "hold": args.hold,
            "format": args.format,
            "attributes": dict(args.option),
            "progress": bar,
        }
        try:
            if args.state is not None:
                return _submit_or_print(args, provider, job)
            source = sys.stdin.buffer if args.file == "-" else args.file
            return provider.submit(source, job_uuid=args.uuid, **job)
        finally:
            if bar is not None:
                bar.clear()


def _submit_or_print(
    args: Namespace, provider: DirectProvider, job: dict[str, Any]
) -> Receipt | Printed:
    """Where no server can be reached, and the printer was set to that, it is printed."""
    from spoold.cli.agent import alone_of, complain_of
    from spoold.provider.receipt import Receipt, Unreachable

    alone = alone_of(args.state)
    with ExitStack() as stack:
        source = args.file
        if source == "-":  # it may have to be read twice
            source = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(sys.stdin.buffer, source)
            source.flush()
        answer = alone.submit(provider, source, job_uuid=args.uuid or uuid4(), **job)
    if isinstance(answer, Receipt):
        with suppress(Unreachable):  # it is gone again; what is to be told stays
            complain_of(alone.tell(provider))
    return answer


def _user(given: str | None) -> str:
    if given is not None:
        return given
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""  # a uid without a name


def _title(args: Namespace) -> str:
    """What was said, or the name of the file: in whatever encoding either is written."""
    if args.title is not None:
        return decode_text(os.fsencode(args.title))
    return "" if args.file == "-" else decode_text(os.fsencode(os.path.basename(args.file)))


def _tell_printed(args: Namespace, printed: Printed) -> None:
    if args.json:
        state = "in-doubt" if printed.is_in_doubt else "printed"
        render.print_json(
            {
                "job_id": None,
                "job_uuid": str(printed.job_uuid),
                "state": state,
                "device": printed.uri,
            }
        )
        return
    how = "may have been printed" if printed.is_in_doubt else "was printed"
    print(
        plain(
            f"No server could be reached. Job {printed.job_uuid} {how} on {printed.uri} directly; "
            "a server hears of it later."
        )
    )


def _tell(args: Namespace, receipt: Receipt) -> None:
    if args.json:
        render.print_json(
            {
                "job_id": receipt.job_id,
                "job_uuid": str(receipt.job_uuid),
                "state": receipt.state,
                "duplicate": receipt.is_duplicate,
                "node": receipt.node_name,
                "endpoint": receipt.endpoint,
                "size": receipt.size,
                "digest": receipt.digest,
                "unknown": list(receipt.unknown),
            }
        )
    else:
        again = ", as before" if receipt.is_duplicate else ""
        size = render.bytes_text(receipt.size)
        print(
            plain(
                f"Job {receipt.job_id} for {args.printer} at {receipt.node_name}: "
                f"{receipt.state}{again} ({size}, {receipt.job_uuid})"
            )
        )
    for endpoint in receipt.unknown:
        print(
            plain(f"spoold: {endpoint} may have this job too; its answer was lost."),
            file=sys.stderr,
        )


class Bar:
    """A line on stderr about a large upload; a small one is over before anybody can read it."""

    def __init__(self) -> None:
        self._begun_at = time.monotonic()
        self._shown_at = 0.0
        self._is_shown = False
        self._first: int | None = None

    def __call__(self, sent: int, size: int) -> None:
        now = time.monotonic()
        if size < PROGRESS_BYTES_MIN or now - self._shown_at < PROGRESS_INTERVAL_S:
            return
        if self._first is None or sent < self._first:
            self._first, self._begun_at = sent, now  # what a resume finds there took no time
        self._shown_at, self._is_shown = now, True
        sys.stderr.write(f"\r\x1b[K{line(sent, size, sent - self._first, now - self._begun_at)}")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def line(sent: int, size: int, moved: int, seconds: float) -> str:
    """How far an upload is, and how long the rest will take at the pace of `moved` bytes so far."""
    cells = 24 * sent // size
    parts = f"[{'#' * cells}{'.' * (24 - cells)}] {100 * sent // size:3} %"
    told = f"{parts}  {render.bytes_text(sent)} of {render.bytes_text(size)}"
    if moved <= 0 or seconds <= 0:
        return told
    rate = moved / seconds
    left = render.duration((size - sent) / rate)
    return f"{told}  {render.bytes_text(int(rate))}/s  {left} left"
