"""A driver of somebody else's, as a distribution that is installed beside spoold."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def install_driver(
    folder: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, source: str = "    pass\n"
) -> None:
    """For the test: devices of `scheme` are driven by a class `Driver` with this body."""
    module = f"{scheme}_printers"
    (folder / f"{module}.py").write_text(
        f"from spoold.model.outcome import Delivered\nclass Driver:\n{source}"
    )
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    name = module.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[spoold.drivers]\n{scheme} = {module}:Driver\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, module, raising=False)  # that another test has installed
