"""The process of a daemon: its limits, its signals, its watchdog, and the code with which it ends.

In: the path of a configuration. Out: an exit code that a service manager understands; in between a
`service.Daemon` runs, from whose errors the code follows.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress

import structlog
import trio

from spoold.daemon import config as configuration
from spoold.daemon import systemd
from spoold.daemon.config import Config
from spoold.daemon.service import Daemon, Running
from spoold.model.errors import ConfigError, SpooldError, SpoolFull, StoreFailed

log = structlog.get_logger("spoold.daemon")

# sysexits.h: what systemd's Restart= and RestartPreventExitStatus= go by.
EX_IOERR = 74
EX_TEMPFAIL = 75
EX_CONFIG = 78
STOP_S = 20.0  # what a stop may take beyond drain.deadline_s
LAST_S = 30.0  # what is left to do after the disk failed is done by then, or not at all


def run(config_file: str | None) -> int:
    """Serve until a signal, and return the exit code.

    74 is a failed disk, 78 a configuration that cannot be used: starting again does not help there.
    75 is a disk without any room.
    """
    sys.setswitchinterval(0.001)  # the writer's thread waits for the GIL at most this long
    # Thousands of open connections are many live objects and few cycles: looking for cycles at
    # Python's own pace took a fifth of the time of a busy node with 5,000 of them.
    gc.set_threshold(50_000, 20, 100)
    try:
        config = configuration.load(config_file, os.environ)
        _raise_file_limit(config.limits.connections_max)
        return trio.run(_until_signal, config, config_file, strict_exception_groups=True)
    except SpooldError as error:
        return _report(error)
    except BaseExceptionGroup as group:
        cause = cause_of(group)
        if cause is None:
            raise
        return _report(cause)


def _report(error: SpooldError) -> int:
    """Say why the daemon stopped, and return the exit code for it."""
    log.error("stopped", reason=str(error))
    print(f"spoold: {error}", file=sys.stderr)
    if isinstance(error, SpoolFull):
        return EX_TEMPFAIL
    return EX_IOERR if isinstance(error, StoreFailed) else EX_CONFIG


def _leave_within(seconds: float) -> None:
    """End this process by then with `EX_IOERR`, also when a thread hangs on a disk for ever."""
    timer = threading.Timer(seconds, os._exit, (EX_IOERR,))
    timer.daemon = True
    timer.start()


def cause_of(group: BaseExceptionGroup) -> SpooldError | None:
    """The error that tells most: a failed store before what followed from it. None: there is
    something among them that is no fault of the world.
    """
    known, rest = group.split(SpooldError)
    if known is None or rest is not None:
        return None
    leaves = list(_leaves(known))
    return next((one for one in leaves if isinstance(one, StoreFailed)), leaves[0])


def _leaves(group: BaseExceptionGroup[SpooldError]) -> Iterator[SpooldError]:
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one


def _raise_file_limit(connections: int) -> None:
    """Descriptors for every connection, its device, and what the daemon itself holds open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + 256
    if soft < wanted and soft != resource.RLIM_INFINITY:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))


async def _until_signal(config: Config, config_file: str | None) -> int:
    """Serve until a signal, drain, and return the exit code."""
    codes: list[int] = []  # of a second signal, which does not wait for the drain
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            daemon = Daemon(config, config_file, os.environ)
            daemon.on_store_failed = lambda: _leave_within(LAST_S)
            running: Running = await nursery.start(daemon.run)
            systemd.notify(os.environ, systemd.READY)
            interval_s = systemd.watchdog_interval_s(os.environ)
            if interval_s is not None:
                services = running.services
                beats = [services.journal.beat, services.dispatcher.beat]
                if services.uplink is not None:
                    beats.append(services.uplink.beat)
                nursery.start_soon(_keep_watchdog, interval_s, beats)
            async for number in signals:
                if number == signal.SIGHUP:
                    with suppress(ConfigError):
                        daemon.reload()
                    continue
                drain_s = daemon.config.drain.deadline_s
                log.info(
                    "stopping",
                    signal=signal.Signals(number).name,
                    deliveries=running.services.dispatcher.delivering,
                    waits_at_most_s=drain_s,
                )
                more_time = systemd.more_time(drain_s + STOP_S)
                systemd.notify(os.environ, systemd.STOPPING, more_time)
                running.stop()
                break
            nursery.start_soon(_stop_at_once, signals, nursery.cancel_scope, codes)
            await daemon.stopped.wait()
            nursery.cancel_scope.cancel()
    return codes[0] if codes else 0


async def _keep_watchdog(interval_s: float, beats: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Tell systemd that we live while these make progress: a loop that only turns is no use."""
    while True:
        for beat in beats:
            await beat()
        systemd.notify(os.environ, systemd.WATCHDOG)
        await trio.sleep(interval_s)


async def _stop_at_once(
    signals: AsyncIterator[int], scope: trio.CancelScope, codes: list[int]
) -> None:
    """A second signal cancels what is left, and becomes the exit code."""
    async for number in signals:
        if number != signal.SIGHUP:
            codes.append(128 + number)
            scope.cancel()
            return
