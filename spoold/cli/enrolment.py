"""Key and certificate of somebody who is enrolled, as files: `provider enrol` and `user enrol`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from spoold.cli import grammar
from spoold.cli.control import connect
from spoold.cli.grammar import REFUSED, USAGE
from spoold.model.text import plain


def add_arguments(parser: grammar.Parser) -> None:
    parser.add_argument(
        "--days", type=grammar.count, default=365, help="how long it is valid (365)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where NAME.key, NAME.crt and ca.crt go, if not here; made when it is missing",
    )


def enrol(args: Namespace, op: str, asked: dict[str, Any]) -> dict[str, Any] | int:
    """The answer of the daemon, with the files written; or an exit code.

    The key's file is made before anybody is enrolled, so that no key is lost for want of a file.
    """
    if os.sep in args.name or args.name.startswith("."):
        return _complain(f"{args.name} cannot name files here.", USAGE)
    key, certificate, authority = files(args)
    with connect(args) as client:
        try:
            args.out.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            advice = "Remove it, or use another --out." if key.exists() else "Use another --out."
            return _complain(f"{key}: {error.strerror}. {advice}", REFUSED)
        with os.fdopen(descriptor, "w") as file:
            try:
                answer = client.call(op, {"name": args.name, "days": args.days, **asked})
            except BaseException:
                key.unlink()
                raise
            file.write(answer["key_pem"])
        certificate.write_text(answer["certificate_pem"])
        authority.write_text(answer["ca_pem"])
    return answer


def files(args: Namespace) -> tuple[Path, Path, Path]:
    """Where key, certificate and the CA's certificate go."""
    folder: Path = args.out
    return folder / f"{args.name}.key", folder / f"{args.name}.crt", folder / "ca.crt"


def tell(args: Namespace, sentence: str) -> None:
    """Say what was written, and how a job is submitted with it."""
    key, certificate, authority = files(args)
    print(plain(f"{sentence}: {key} (keep it secret), {certificate}, {authority}."))
    print(
        plain(
            "Try: spoold submit --server HOST:9195 "
            f"--ca {authority} --cert {certificate} --key {key} FILE"
        )
    )


def _complain(message: str, code: int) -> int:
    print(plain(f"spoold: {message}"), file=sys.stderr)
    return code
