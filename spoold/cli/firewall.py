"""`spoold firewall`: what has to be let through for a configuration, in words and for nftables.

It reads the configuration alone and asks no daemon, so that rules can be made before the first
start.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from spoold.cli import grammar, render
from spoold.cli.grammar import DONE, Nouns, Parser
from spoold.model.text import plain

if TYPE_CHECKING:
    from spoold.daemon.config import Config
    from spoold.net.address import Address

_PURPOSES = {
    "clear": "print jobs in the clear (IPP, raw, frames), and health",
    "tls": "the same over TLS, logins, and MFDs with a token",
    "mutual": "client certificates: print providers, MFDs, and the lines of sites",
    "lpd": "print jobs by LPD",
}
_LINE = "the line of this site to its application server"
_LOOPBACK = ("127.", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing to let through. `host` is ours for what comes in, theirs for what goes out; ""
    is any.
    """

    direction: str
    protocol: str
    host: str
    port: int
    purpose: str

    @property
    def words(self) -> str:
        where = f" {'on' if self.direction == 'in' else 'to'} {self.host}" if self.host else ""
        return f"{self.direction:<4} {self.protocol} {self.port}{where}: {self.purpose}"

    @property
    def nft(self) -> str:
        chain = "input" if self.direction == "in" else "output"
        side = "daddr"
        family = "ip6" if ":" in self.host else "ip"
        host = f"{family} {side} {self.host} " if _is_address(self.host) else ""
        comment = self.purpose.replace('"', "'")
        if self.host and not host:
            comment = f"{self.host}: {comment}"
        return (
            f"add rule inet filter {chain} {host}{self.protocol} dport {self.port} "
            f'accept comment "spoold: {comment[:100]}"'
        )


def add(nouns: Nouns[Parser]) -> None:
    parser = grammar.command(
        nouns,
        "firewall",
        firewall,
        "print what a firewall has to let through for a configuration",
        """spoold firewall --config /etc/spoold/spoold.toml
        spoold firewall --nft > spoold.nft    # for `nft -f spoold.nft`: the table inet filter""",
    )
    parser.add_argument("--config", metavar="FILE", help="without it: the defaults")
    parser.add_argument("--nft", action="store_true", help="only rules for nftables")
    grammar.add_json(parser)


def firewall(args: Namespace) -> int:
    from spoold.daemon import config as configuration

    config = configuration.load(args.config, os.environ)
    found = list(dict.fromkeys(rules(config)))
    if args.json:
        render.print_json_list({**asdict(one), "nft": one.nft} for one in found)
        return DONE
    if args.nft:
        print("\n".join(plain(one.nft) for one in found))
        return DONE
    for one in found:
        print(plain(one.words))
    if not any(one.protocol == "tcp" and one.direction == "in" for one in found):
        print("in   nothing by TCP: only this machine itself is listened to ([listen])")
    print("out  tcp to printers: the ports of their device URIs (9100 raw, 631 IPP, 515 LPD)")
    if config.node.role == "site":
        print("This is a site: nothing has to be let in from its application servers.")
        if not config.upstream.servers:
            print("For rules of their addresses, name its application servers: [upstream] servers.")
    else:
        print("Sites dial in on the port for client certificates; nothing goes out to them.")
    print("\nFor nftables (spoold firewall --nft):")
    print("\n".join(plain(one.nft) for one in found))
    return DONE


def rules(config: Config) -> Iterator[Rule]:
    """What the configuration needs, in its order."""
    for key, address in config.listen.every_address():
        rule = _inbound(key, address, config)
        if rule is not None:
            yield rule
    if config.dnssd.enabled:
        yield Rule("in", "udp", "", 5353, "finding shared printers (multicast DNS)")
        yield Rule("out", "udp", "224.0.0.251", 5353, "announcing shared printers")
        yield Rule("out", "udp", "ff02::fb", 5353, "announcing shared printers")
    for server in config.upstream.servers:
        host, _, port = server.rpartition(":")
        yield Rule("out", "tcp", host.strip("[]"), int(port), _LINE)
    if config.node.role == "site" and not config.upstream.servers:
        yield Rule("out", "tcp", "", 9195, _LINE)


def _inbound(key: str, address: Address, config: Config) -> Rule | None:
    """None: nobody comes in there from elsewhere, or systemd knows where it is."""
    if address.socket_name or address.host.startswith(_LOOPBACK):
        return None
    kind = key.removeprefix("listen.").partition("[")[0]
    purpose = _PURPOSES.get(kind, "")
    if kind == "raw":
        index = int(key.split("[")[1].split("]")[0])
        purpose = f"raw print jobs for {config.listen.raw[index].printer}"
    host = "" if address.host in ("0.0.0.0", "::") else address.host
    return Rule("in", "tcp", host, address.port, purpose)


def _is_address(host: str) -> bool:
    from ipaddress import ip_address

    try:
        ip_address(host)
    except ValueError:
        return False
    return True
