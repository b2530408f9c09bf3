"""The package, built once, and the machine on which it is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.machine import Machine, machine, prepared


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(os.environ.get("SPOOLD_CACHE") or tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def package(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this source, in a directory of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a machine")
    return Path(shutil.copy(prepared(cache), tmp_path_factory.mktemp("package")))


@pytest.fixture(scope="session")
def bare(cache: Path, package: Path) -> Iterator[Machine]:
    """A machine on which nothing is installed yet."""
    with machine(cache, package.parent) as found:
        yield found


@pytest.fixture(scope="session")
def installed(bare: Machine, package: Path) -> Machine:
    """The same machine with the package, and nothing configured."""
    bare.run("dpkg", "--install", f"/mnt/{package.name}")
    return bare


@pytest.fixture
def host(installed: Machine) -> Machine:
    """The machine with a daemon that runs as the walk-through of the deployment leaves it."""
    if not (installed.root / "etc/spoold/spoold.toml").exists():
        installed.run("cp", "/usr/share/doc/spoold/examples/spoold.toml", "/etc/spoold")
        installed.run("systemctl", "enable", "spoold")
    installed.run("systemctl", "reset-failed")
    installed.start()
    return installed
