"""The package, built once, and the machine on which it is installed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.machine import Machine, machine

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this source; $SPOOLD_PACKAGE names one that is there already."""
    if given := os.environ.get("SPOOLD_PACKAGE"):
        return Path(given)
    done = subprocess.run(
        [ROOT / "systemd" / "package", tmp_path_factory.mktemp("package")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def bare(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which nothing is installed yet."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a machine")
    cache = Path(os.environ.get("SPOOLD_CACHE") or tmp_path_factory.mktemp("cache"))
    cache.mkdir(parents=True, exist_ok=True)
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
