"""Two machines with a wire between them, for a module of tests that cut it."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack, contextmanager

import pytest

from support import link as links
from support.building import Building

DISK_BYTES = 128 << 20


@pytest.fixture(scope="module")
def building(tmp_path_factory):
    """An application server and a site that has joined it; in the end both must verify."""
    if os.geteuid() != 0:
        pytest.skip("machines with firewalls and disks of their own need root")
    folder = tmp_path_factory.mktemp("building")
    with ExitStack() as stack:
        for name in ("hq", "site"):
            stack.enter_context(_disk(folder / name / "disk"))
        try:
            wire = stack.enter_context(links.link())
        except links.CannotMake as error:
            pytest.fail(f"root can make no network namespaces here (ip-netns(8)): {error}")
        made = Building(folder, wire)
        stack.callback(made.close)
        yield made


@contextmanager
def _disk(path):
    """A file system of its own."""
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
