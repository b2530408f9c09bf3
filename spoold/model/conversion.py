"""A conversion: a program that makes a document of another format, named by the administrator.

spoold renders nothing itself. A printer may name, for a format that it does not take, the program
that makes one that it does. Program and arguments are a list and never a line for a shell; of the
arguments only the placeholders are filled in, and only with what is ours to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from spoold.model.job import Job

INPUT, JOB, COPIES, OPTIONS = "{input}", "{job}", "{copies}", "{options}"
PLACEHOLDERS: Final = (INPUT, JOB, COPIES, OPTIONS)
ARGUMENTS_MAX: Final = 64
# The job template attributes that a program is told, where the sender asked for them.
TOLD: Final = (
    "media", "sides", "print-color-mode", "print-quality", "printer-resolution",
    "orientation-requested", "number-up", "page-ranges", "print-scaling", "output-bin",
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", re.ASCII).fullmatch


class Conversion(NamedTuple):
    """From one document format to another, by the program `command[0]`.

    The document is its input, and also the file `{input}`; what it writes to its output is printed.
    `{job}` is the job's number, `{copies}` how many copies, `{options}` what else was asked for.
    """

    source: str
    target: str
    command: tuple[str, ...]

    @property
    def makes_copies(self) -> bool:
        """Whether the copies are in what it writes: then the printer makes none."""
        return any(COPIES in word for word in self.command)

    @property
    def wants_file(self) -> bool:
        return any(INPUT in word for word in self.command)


def filled(conversion: Conversion, job: Job, input_file: str) -> list[str]:
    """Program and arguments for a job whose document lies in `input_file`."""
    values = {
        INPUT: input_file,
        JOB: str(job.id),
        COPIES: str(1 if job.copies_embedded else job.copies),
        OPTIONS: told_options(job.attributes),
    }

    def value_of(found: re.Match[str]) -> str:
        return values[found[0]]

    known = re.compile("|".join(re.escape(one) for one in PLACEHOLDERS))
    return [known.sub(value_of, word) for word in conversion.command]


def told_options(attributes: Mapping[str, Any]) -> str:
    """What a job asks for, as filters of CUPS read it: NAME=VALUE, with spaces between.

    Only words, numbers and lists of them: nothing in it ends an argument or begins an option.
    """
    pairs = []
    for name in TOLD:
        value = attributes.get(name)
        values = value if isinstance(value, list) else [value]
        words = [str(one) for one in values if isinstance(one, int | str)]
        if words and len(words) == len(values) and all(_WORD(word) for word in words):
            pairs.append(f"{name}={','.join(words)}")
    return " ".join(pairs)


_GHOSTSCRIPT = ("gs", "-q", "-dSAFER", "-dBATCH", "-dNOPAUSE", "-sstdout=%stderr")
# What works, as the tests try it; see dispatch/README.md.
RECIPES: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("application/pdf", "application/vnd.hp-pcl"): (
        *_GHOSTSCRIPT, "-sDEVICE=ljet4", "-r600", "-dNumCopies={copies}", "-sOutputFile=-", "-",
    ),
    ("application/pdf", "image/pwg-raster"): (
        *_GHOSTSCRIPT, "-sDEVICE=pwgraster", "-r300", "-dcupsColorSpace=18", "-dcupsBitsPerColor=8",
        "-sOutputFile=-", "-",
    ),
}  # fmt: skip
