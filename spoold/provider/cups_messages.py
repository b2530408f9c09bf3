"""What a backend says to CUPS: exit codes, and messages on the standard error (backend(7)).

DONE           accepted, printed (with `waitjob=yes`), or ended by CUPS (SIGTERM)
AUTHENTICATE   hold: not authorised, or one side does not believe the other's certificate
HOLD           hold: the server will not have this job (with account-… as its reason where it gave
               that), or had it before with other contents. An operator decides; no job is given up
STOP           stop the queue: its URI, its printer or the credentials are wrong for all its jobs
CANCELED       canceled, or ended by the server, while CUPS waited for the end of it
RETRY          back to CUPS: later, others first. Where the device URI asks for that
RETRY_CURRENT  back to CUPS: at once. Where the URI asks for that, for the members of a class, and
               once an hour, for CUPS takes for stuck what lasts
"""

from __future__ import annotations

import os

from spoold.model.text import plain

DONE = 0
AUTHENTICATE = 2
HOLD = 3
STOP = 4
CANCELED = 5
RETRY = 6
RETRY_CURRENT = 7
MESSAGE_CHARACTERS_MAX = 1000  # CUPS reads lines of 2,047 bytes


def say(kind: str, text: str) -> None:
    """A message to CUPS; nobody may be there any more to read it."""
    line = f"{kind}: {plain(text)[:MESSAGE_CHARACTERS_MAX]}\n"
    try:
        os.write(2, line.encode("utf-8", "replace"))
    except OSError:
        pass
