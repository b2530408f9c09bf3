"""The command for people: one seed with its trace, or many, which may take days.

PYTHONPATH=tests python -m simulation --seed 17                          replays it, with its trace
PYTHONPATH=tests python -m simulation --seeds 0:100000 --kept FILE       goes on where FILE ends
PYTHONPATH=tests python -m simulation --bug all                          looks for planted bugs
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from simulation.campaign import Campaign, Failed, search
from simulation.planted import BUGS

KEPT_EVERY = 20  # seeds
SEARCHED = "0:500"


@dataclass
class Progress:
    """How far a campaign has come: `done` seeds from `first` on, and why which of them failed."""

    first: int
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    took_s: float = 0.0

    @classmethod
    def found(cls, path: Path | None, first: int) -> Progress:
        """That of an earlier run, or the begin of one.

        Raises:
            ValueError: the file is of a campaign that began with another seed.
        """
        if path is None or not path.exists():
            return cls(first)
        kept = cls(**json.loads(path.read_text("utf-8")))
        if kept.first != first:
            raise ValueError(f"{path} is of the seeds from {kept.first} on: name another file.")
        return kept

    def keep(self, path: Path | None) -> None:
        if path is not None:
            new = path.with_name(f"{path.name}.new")
            new.write_text(json.dumps(asdict(self), indent=1), "utf-8")
            new.replace(path)

    def __str__(self) -> str:
        last = self.first + self.done
        return (
            f"seeds {self.first}:{last}: {self.done} run, {len(self.failed)} failed"
            f"{''.join(f' {number}' for number in self.failed)}, {self.took_s:.0f} s"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, help="replay this one, and show its trace")
    parser.add_argument("--seeds", metavar="FIRST:END", help="run these, END not among them")
    parser.add_argument("--kept", type=Path, help="where it is kept how far they have come")
    parser.add_argument("--seconds", type=float, help="stop after so long; a later run goes on")
    parser.add_argument("--bug", choices=[*BUGS, "all"], help="plant it, and search for it")
    given = parser.parse_args()
    first, _, end = (given.seeds or SEARCHED).partition(":")
    with Campaign() as campaign:
        if given.seed is not None:
            return replay(campaign, given.seed)
        numbers = range(int(first), int(end))
        if given.bug is not None:
            names = list(BUGS) if given.bug == "all" else [given.bug]
            return int(sum(search(campaign, name, numbers) is None for name in names) > 0)
        progress = Progress.found(given.kept, numbers.start)
        run_all(campaign, numbers, progress, given.kept, given.seconds)
        print(progress)
        return int(bool(progress.failed))


def replay(campaign: Campaign, number: int) -> int:
    try:
        seed = campaign.run(number)
    except Failed as failed:
        print(*failed.trace, failed, sep="\n")
        return 1
    assert seed.world is not None
    print(*seed.world.told(), seed.digest, sep="\n")
    return 0


def run_all(
    campaign: Campaign,
    numbers: range,
    progress: Progress,
    path: Path | None,
    seconds: float | None,
) -> None:
    """Run those that were not run before, until all are done or the time is over."""
    begun_s, before_s = time.monotonic(), progress.took_s
    try:
        for number in numbers[progress.done :]:
            try:
                campaign.run(number)
            except Failed as failed:
                print(failed, flush=True)
                progress.failed[str(number)] = failed.why
            progress.done += 1
            progress.took_s = before_s + time.monotonic() - begun_s
            if progress.done % KEPT_EVERY == 0:
                progress.keep(path)
            if seconds is not None and time.monotonic() - begun_s >= seconds:
                break
    finally:
        progress.keep(path)


if __name__ == "__main__":
    sys.exit(main())
