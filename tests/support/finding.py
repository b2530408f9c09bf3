"""What answers to multicast DNS on another machine of `support.link`, as JSON.

For `Forked(module="support.finding")`: the words are a process on that machine, and for how many
seconds answers are waited for.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from spoold.net import dnssd
from support.entering import enter


def main() -> None:
    enter(sys.argv[1])
    found = dnssd.find(dnssd.interfaces(), float(sys.argv[2]))
    print(json.dumps([asdict(one) for one in found]))
