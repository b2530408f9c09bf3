"""Raw printers that read everything and only count: the far end of the delivery rows.

Started as `python -m benchmarks.sink PRINTERS`. Prints a JSON line with the ports; then a line
"BYTES AT" for each job that ended, AT being the monotonic time of its last byte. With --count it
prints instead, on each line read, one JSON object of what came since the last one.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time


def main() -> None:
    counting = "--count" in sys.argv
    epoll = select.epoll()
    listeners: dict[int, socket.socket] = {}
    for _ in range(int(sys.argv[1])):
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        listener.setblocking(False)
        listeners[listener.fileno()] = listener
        epoll.register(listener, select.EPOLLIN)
    print(json.dumps([listener.getsockname()[1] for listener in listeners.values()]), flush=True)
    commands = sys.stdin.fileno()
    epoll.register(commands, select.EPOLLIN | select.EPOLLHUP)
    buffer = bytearray(1 << 20)
    # By descriptor: the connection, its bytes, when the last of them came.
    jobs: dict[int, tuple[socket.socket, int, float]] = {}
    done, done_bytes, first_at, last_at = 0, 0, 0.0, 0.0
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == commands:
                if not os.read(commands, 4096):
                    return
                print(
                    json.dumps(
                        {
                            "jobs": done,
                            "bytes": done_bytes,
                            "open_bytes": sum(count for _, count, _ in jobs.values()),
                            "first_at": first_at,
                            "last_at": last_at,
                        }
                    ),
                    flush=True,
                )
            elif descriptor in listeners:
                job, _ = listeners[descriptor].accept()
                job.setblocking(False)
                jobs[job.fileno()] = (job, 0, time.monotonic())
                first_at = first_at or time.monotonic()
                epoll.register(job, select.EPOLLIN)
            else:
                job, count, at = jobs[descriptor]
                try:
                    received = job.recv_into(buffer)
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    received = 0
                if received:
                    jobs[descriptor] = (job, count + received, time.monotonic())
                    continue
                del jobs[descriptor]
                job.close()
                if not count:
                    continue  # A connection without a byte is no job.
                done, done_bytes, last_at = done + 1, done_bytes + count, at
                if not counting:
                    print(count, at, flush=True)


if __name__ == "__main__":
    main()
