"""Earlier states of disks, and what it costs to put one back: what only that node has had since.

In: nodes that run. Out: images of their disks; and for each that was put back what it knew, so that
checks can tell what may be lost, or done once more, from what may not.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from simulation.node import GUIDS, Life
from spoold.spool import received

if TYPE_CHECKING:
    from simulation.world import World


@dataclass(frozen=True)
class Image:
    """The disk of a node at a moment. `jobs` says of each that it knew whether it was at its end,
    `charges` which were settled, `promised` which were not yet, and money was reserved for them.
    """

    name: str
    folder: Path
    incarnation: UUID
    position: int
    jobs: dict[UUID, bool]
    charges: frozenset[bytes]
    promised: frozenset[bytes]


@dataclass(frozen=True)
class PutBack:
    """A node goes on from an image. `is_restored`: by `spoold restore`, else its whole disk was
    put back and nobody told it; `is_ahead`: then its application server had more of its journal.
    """

    image: Image
    is_restored: bool
    is_ahead: bool


def take(life: Life, folder: Path) -> Image:
    """The image of a node that runs, made in `folder`."""
    life.disk.image(folder)
    db = life.store.db
    jobs = db.execute("SELECT uuid, finished_us IS NOT NULL FROM job").fetchall()
    charges = db.execute("SELECT state, key FROM charge").fetchall()
    return Image(
        life.name,
        folder,
        life.store.incarnation,
        life.store.position,
        {UUID(bytes=uuid): bool(is_final) for uuid, is_final in jobs},
        frozenset(key for state, key in charges if state == "settled"),
        frozenset(key for state, key in charges if state == "reserved"),
    )


def put_back(world: World, image: Image, *, is_restored: bool) -> None:
    """The node is down: what it starts from next is the image."""
    name = image.name
    left = world.folders[name]
    folder = world.new_folder(name)
    shutil.copytree(image.folder, folder)
    world.restored.discard(name)
    if is_restored:  # the witness lies outside of what is restored
        shutil.copy(left / "witness", folder / "witness")
        world.restored.add(name)
    shutil.rmtree(left)
    world.folders[name] = folder
    world.put_backs.append(PutBack(image, is_restored, _is_ahead(world, image)))


def _is_ahead(world: World, image: Image) -> bool:
    """Whether the application server has records of this incarnation that the image has not."""
    hq = world.lives.get("hq")
    if hq is None or not hq.is_open:
        return False
    return any(
        one.incarnation == image.incarnation and one.position > image.position
        for one in received.standings(hq.store.db, GUIDS[image.name])
    )
