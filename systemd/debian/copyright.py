"""Prints the copyright file of the package: spoold's licence, and those of the libraries in it.

python copyright.py LICENSE SITE_PACKAGES
"""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path


def licence(found: Distribution) -> str:
    """What the library says of its licence, in a few words."""
    meta = found.metadata
    classified = [
        one.rpartition(" :: ")[2]
        for one in meta.get_all("Classifier") or ()
        if one.startswith("License :: ")
    ]
    words = meta["License-Expression"] or ", ".join(classified) or meta["License"] or "see there"
    return words.splitlines()[0]


def main() -> None:
    print("spoold\n")
    print(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print("The package contains these libraries. The texts of their licences, and whose they are,")
    print("stand in their *.dist-info directories below /usr/lib/spoold; those of Apache-2.0 and")
    print("LGPL-2.1 also as /usr/share/common-licenses/Apache-2.0 and")
    print("/usr/share/common-licenses/LGPL-2.1.\n")
    for found in sorted(distributions(path=[sys.argv[2]]), key=lambda one: one.name.lower()):
        if found.name != "spoold":
            print(f"  {found.name} {found.version}: {licence(found)}")


if __name__ == "__main__":
    main()
