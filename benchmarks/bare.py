"""The bare loop that spoold's intake is held against: receive, BLAKE3, write, sync, answer.

Started as `python -m benchmarks.bare DIRECTORY`; prints its port. Each connection becomes a file:
two buffers of 1 MiB, one thread that hashes and writes, fsync of file and directory, and then the
FIN. No journal, no attributes, no deadlines: what a durable receiver costs at least.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
from pathlib import Path

import blake3

BUFFER_BYTES = 1 << 20


def receive(job: socket.socket, path: Path) -> None:
    """Everything that the connection sends is in `path`, synced, when it returns."""
    free: queue.Queue[bytearray] = queue.Queue()
    full: queue.Queue[tuple[bytearray, int] | None] = queue.Queue()
    for _ in range(2):
        free.put(bytearray(BUFFER_BYTES))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def write() -> None:
        digest = blake3.blake3()
        while (item := full.get()) is not None:
            buffer, count = item
            view = memoryview(buffer)[:count]
            digest.update(view)
            while view:
                view = view[os.write(descriptor, view) :]
            free.put(buffer)
        digest.digest()
        os.fsync(descriptor)

    writer = threading.Thread(target=write)
    writer.start()
    while True:
        buffer = free.get()
        # Fills a buffer before handing it over: a large write costs less than many small ones.
        view, count = memoryview(buffer), 0
        while count < BUFFER_BYTES and (received := job.recv_into(view[count:])):
            count += received
        full.put((buffer, count))
        if count < BUFFER_BYTES:
            break
    full.put(None)
    writer.join()
    os.close(descriptor)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)


def main() -> None:
    path = Path(sys.argv[1]) / "document"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            job, _ = listener.accept()
            with job:
                receive(job, path)
            path.unlink()


if __name__ == "__main__":
    main()
