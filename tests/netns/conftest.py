"""Two machines with a wire between them, for a module of tests that cut it."""

from __future__ import annotations

import os
import subprocess

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
    disk = folder / "site" / "disk"
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(disk)]
    subprocess.run(mount, check=True)
    try:
        with links.link() as wire:
            made = Building(folder, wire)
            try:
                yield made
            finally:
                made.close()
    except links.CannotMake as error:
        pytest.fail(f"root can make no network namespaces here (ip-netns(8)): {error}")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
