"""`spoold serve`, `demo` and `simulate`: what runs until it is stopped."""

from __future__ import annotations

import faulthandler
import sys
from argparse import ArgumentTypeError, Namespace
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

from spoold.cli import grammar
from spoold.cli.grammar import DONE, REFUSED, USAGE, Nouns, Parser

OUTAGE_S = 8  # of `spoold demo --outage`


def add(nouns: Nouns[Parser]) -> None:
    serving = grammar.command(
        nouns,
        "serve",
        serve,
        "run the daemon",
        """spoold serve                                   # 127.0.0.1, ports 9191, 9192 and 9195
        spoold serve --config /etc/spoold/spoold.toml""",
    )
    serving.add_argument("--config", metavar="FILE", help="TOML; without it the defaults")
    serving.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="the least that is logged",
    )
    showing = grammar.command(
        nouns,
        "demo",
        demo,
        "show jobs going in and coming out, on free ports, without any printer",
        """spoold demo                  # jobs, and a printer that is busy
        spoold demo --outage         # a building that goes on while its application server is away
        spoold demo --outage 60s --once""",
    )
    showing.add_argument(
        "--outage",
        nargs="?",
        type=grammar.duration,
        const=OUTAGE_S,
        metavar="TIME",
        help=f"a site server is cut off for so long ({OUTAGE_S}s), and comes back",
    )
    showing.add_argument(
        "--once",
        action="store_true",
        help="end after the show; the exit code is 1 if it did not go as it should",
    )
    simulated = grammar.noun(nouns, "simulate", "be a printer or an MFD, for tests and trying out")
    printing = grammar.command(
        simulated,
        "printer",
        simulate_printer,
        "be a printer over raw 9100, LPD and IPP, with faults, and tell what it prints",
        """spoold simulate printer --raw 9100
        spoold simulate printer --raw 9100 --lpd 5150 --fault slow=1000
        spoold simulate printer --ipp 8631 --fault lose-send=1
        spoold simulate printer --fault help               # lists the faults""",
    )
    printing.add_argument("--raw", type=port, metavar="PORT", help="raw port; 0 is any free one")
    printing.add_argument("--lpd", type=port, metavar="PORT", help="LPD port")
    printing.add_argument("--ipp", type=port, metavar="PORT", help="IPP port")
    printing.add_argument("--host", default="127.0.0.1", help="where to listen")
    printing.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND[=N]",
        help="what it does wrong; several may be given, and `help` lists them",
    )
    printing.add_argument("--no-pjl", action="store_true", help="do not understand PJL")
    panel = grammar.command(
        simulated,
        "mfd",
        simulate_mfd,
        "be an MFD that people log in at; type what they do, or name it",
        """spoold simulate mfd --server HOST:9192 --ca ca.crt --token-file panel-1.token
        spoold simulate mfd --server HOST:9195 --ca ca.crt --cert panel-1.crt --key panel-1.key
        spoold simulate mfd --server HOST:9192 --ca ca.crt --token-file t 'pin 582915' 'release all'

        with COMMANDs the exit code is 1 when something was refused""",
    )
    panel.add_argument(
        "commands", nargs="*", metavar="COMMAND", help="what to do; without any, lines are read"
    )
    panel.add_argument(
        "--server",
        action="append",
        required=True,
        metavar="HOST:PORT",
        help="9192 with a token, 9195 with a certificate; several are tried in order",
    )
    panel.add_argument("--ca", metavar="FILE", help="trust this CA (`spoold node ca`)")
    panel.add_argument("--token-file", metavar="FILE", help="`spoold device enrol NAME --token`")
    panel.add_argument("--cert", metavar="FILE", help="`spoold device enrol NAME`")
    panel.add_argument("--key", metavar="FILE", help="its key")


def port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def serve(args: Namespace) -> int:
    from spoold.daemon import logs, process

    logs.configure(args.log_level)
    faulthandler.enable()  # a loop that hangs is ended by SIGABRT: then the log shows where
    return process.run(args.config)


def demo(args: Namespace) -> int:
    from functools import partial

    from spoold.daemon import demo_stage
    from spoold.daemon.demo import Demo
    from spoold.daemon.demo_outage import OutageDemo

    if args.outage is None:
        return demo_stage.run(partial(Demo, is_once=args.once), _captured)
    show = partial(OutageDemo, outage_s=args.outage, is_once=args.once)
    return demo_stage.run(show, _captured)


def _captured(words: list[str]) -> str:
    """Run a command in this process; what it wrote."""
    from spoold.cli import main

    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        main(words)
    return said.getvalue()


def simulate_mfd(args: Namespace) -> int:
    from spoold.cli import panel

    return panel.run(args)


def simulate_printer(args: Namespace) -> int:
    import trio

    from spoold.model.text import plain
    from spoold.simulate import ipp_engine, printer
    from spoold.simulate.ipp_printer import run_ipp_printer

    if "help" in args.fault:
        for faults, over in ((printer.FAULTS, "raw and LPD"), (ipp_engine.FAULTS, "IPP")):
            print(f"over {over}:")
            for fault, meaning in faults.items():
                print(f"  {fault:22} {meaning}")
        return DONE
    if args.ipp is not None and args.fault and (args.raw, args.lpd) != (None, None):
        print("spoold: faults are of IPP, or of raw and LPD: run two printers.", file=sys.stderr)
        return USAGE
    for fault in args.fault:
        (printer if args.ipp is None else ipp_engine).parse_fault(fault)
    nothing = args.raw is None and args.lpd is None and args.ipp is None
    options = printer.Options(
        host=args.host,
        raw_port=9100 if nothing else args.raw,
        lpd_port=args.lpd,
        faults=tuple(args.fault),
        speaks_pjl=not args.no_pjl,
    )

    def say(line: str) -> None:
        print(plain(line), flush=True)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            if args.ipp is not None:
                nursery.start_soon(run_ipp_printer, args.host, args.ipp, args.fault, say)
            if (options.raw_port, options.lpd_port) != (None, None):
                nursery.start_soon(printer.run_printer, options, say)

    code = DONE
    try:
        trio.run(run)
    except* OSError as errors:
        cause: BaseException = errors
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        why = getattr(cause, "strerror", None) or cause
        print(f"spoold: {why}. Use another --raw, --lpd or --ipp.", file=sys.stderr)
        code = REFUSED
    return code
