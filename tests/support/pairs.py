"""A site and its application server as processes, a provider that both know, and a printer there.

The nodes keep their addresses, so that either may be killed and started again.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from spoold.provider.credentials import read_bundle
from support.nodes import config_of
from support.peers import wait_until
from support.ports import own_port
from support.process import Daemon

PRINTER = "desk"


class Pair:
    """`hq` and `site` run; `pem` are the provider's credentials at both; `desk` is the site's
    printer, with this device.
    """

    def __init__(self, folder: Path, device: str, ports: dict[str, int], **printer: object) -> None:
        self.folders = {"hq": folder / "hq", "library": folder / "library"}
        for one in self.folders.values():
            one.mkdir()
        self._ports = ports
        self._configs = {
            "hq": config_of("hq", ports["hq"]),
            "library": config_of("library", ports["library"]).replace(
                'name = "library"', 'name = "library"\nrole = "site"'
            )
            + f'[advertise]\nendpoints = ["{self.site_endpoint}"]\n',
        }
        self.hq = self._start("hq")
        self.site = self._start("library")
        token = self.hq.call("site.invite", name="library", is_approved=True)["token"]
        self.site.call("site.enter", server=f"127.0.0.1:{ports['hq']}", token=token)
        self.hq.call("printer.add", name=PRINTER, uri=device, **printer)
        self.hq.call("printer.set", name=PRINTER, owner="library")
        self.pem = self._enrol(folder)
        wait_until(self._is_copied)

    def _start(self, name: str, crash_point: str = "") -> Daemon:
        return Daemon(self.folders[name], crash_point, self._configs[name])

    def _enrol(self, folder: Path) -> Path:
        given = self.hq.call("provider.enrol", name="till", may_assert=["*"])
        for kind, text in (("key", "key_pem"), ("crt", "certificate_pem"), ("ca", "ca_pem")):
            (folder / f"till.{kind}").write_text(given[text])
        pem = folder / "till.pem"
        pem.touch(mode=0o600)
        pem.write_text(given["key_pem"] + given["certificate_pem"] + given["ca_pem"])
        return pem

    def _is_copied(self) -> bool:
        printers = self.site.call("printer.list", limit=100)["printers"]
        is_there = any(one["name"] == PRINTER and not one["owner"] for one in printers)
        return is_there and bool(self.site.call("provider.list")["providers"])

    # -- as a provider sees it ---------------------------------------------------------------------

    @property
    def hq_endpoint(self) -> str:
        return f"localhost:{self._ports['hq']}"

    @property
    def site_endpoint(self) -> str:
        return f"localhost:{self._ports['library']}"

    @property
    def tls(self):
        return read_bundle(str(self.pem))

    @property
    def options(self) -> list[str]:
        """Of `spoold submit`, for somebody who knows the application server alone."""
        names = [str(self.pem.with_suffix(one)) for one in (".ca", ".crt", ".key")]
        files = zip(("--ca", "--cert", "--key"), names, strict=True)
        return ["--server", self.hq_endpoint, *(word for one in files for word in one)]

    # -- killing and starting ----------------------------------------------------------------------

    def kill(self, *which: str) -> None:
        for name in which:
            getattr(self, name).end(signal.SIGKILL)

    def restart(self, which: str, crash_point: str = "") -> Daemon:
        """`hq` or `site`, ended in order if it runs; and where it was before."""
        getattr(self, which).end()
        found = self._start("hq" if which == "hq" else "library", crash_point)
        setattr(self, which, found)
        return found

    def close(self) -> None:
        self.kill("hq", "site")


@contextmanager
def pair_of(folder: Path, device: str, **printer: object) -> Iterator[Pair]:
    with ExitStack() as stack:
        ports = {name: stack.enter_context(own_port()) for name in ("hq", "library")}
        found = Pair(folder, device, ports, **printer)
        stack.callback(found.close)
        yield found
