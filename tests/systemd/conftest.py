"""The package, built once, and the machine on which it is installed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.machine import Machine, machine, tree

ROOT = Path(__file__).parents[2]


def build(folder: Path) -> Path:
    """The package of this source; $SPOOLD_PACKAGE names one that is there already."""
    if given := os.environ.get("SPOOLD_PACKAGE"):
        return Path(given)
    done = subprocess.run(
        [ROOT / "systemd" / "package", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = Path(os.environ.get("SPOOLD_CACHE") or tmp_path_factory.mktemp("cache"))
    found.mkdir(parents=True, exist_ok=True)
    return found


@pytest.fixture(scope="session")
def package(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package. The tree of the machine is made at the same time; both take a minute."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a machine")
    with ThreadPoolExecutor() as pool:
        making = pool.submit(tree, cache)
        building = pool.submit(build, tmp_path_factory.mktemp("package"))
        making.result()
        return building.result()


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
