"""The real daemon in a thread, and what a command said."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import trio

from spoold.daemon.config import Config, Drain, Listen, Node
from spoold.daemon.service import Daemon, Running
from spoold.net.address import Address
from support.quick import quick_passwords
from support.schema import lay_schema


class Server:
    """A daemon in a thread of its own, so that commands run as they do: in the main thread.

    They share this process's stdout: its events stay out of theirs.
    """

    def __init__(
        self, folder: Path, name: str = "library", role: str = "application", **more: Any
    ) -> None:
        anywhere = (Address("127.0.0.1", 0),)
        more.setdefault("listen", Listen(clear=anywhere, tls=anywhere, mutual=anywhere))
        self._config = Config(
            node=Node(name, role, folder / "data"), drain=Drain(deadline_s=0.5), **more
        )
        self._config.node.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lay_schema(self._config.node.data_dir)
        self._ready = threading.Event()
        self.running: Running | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._main,), daemon=True)

    async def _main(self) -> None:
        try:
            self._token = trio.lowlevel.current_trio_token()
            async with trio.open_nursery() as nursery:
                daemon = Daemon(self._config, None, {})
                self.running = await nursery.start(daemon.run)
                self._ready.set()
        finally:
            self._ready.set()

    def __enter__(self) -> Server:
        self._logging = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
        with quick_passwords():
            self._thread.start()
            assert self._ready.wait(60)
        assert self.running is not None
        return self

    def stop(self) -> None:
        """Ask it to stop, and do not wait."""
        assert self.running is not None
        assert self._token is not None
        self._token.run_sync_soon(self.running.stop)

    def __exit__(self, *_: object) -> None:
        if self.running is not None and self._token is not None:
            self._token.run_sync_soon(self.running.stop)
        self._thread.join(20)
        structlog.configure(**self._logging)

    def address(self, label: str) -> str:
        assert self.running is not None
        host, port = self.running.ports[label]
        return f"{host}:{port}"


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Said]
