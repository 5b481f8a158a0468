"""The rules that a host should have: as text that nft loads, and as what nft lists once they are loaded.

Both are made from the same values, addresses and numbers that are parsed already. Each rule is in the plainest form
there is, with one address and one port, so that every release of nft lists it alike and a difference names one thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cardoon.firewall.table import FAMILY, TABLE, Chain, Table, canonical_rule
from cardoon.network_place import Network

PRIORITY = 10
"""After the chains of others at `filter` (0). Each base chain has to accept a packet, so the order grants nothing."""
MAX_RULES = 1024
"""They are tried one after another; who has more peers than that has networks."""

_ERRORS_4 = ("destination-unreachable", "time-exceeded", "parameter-problem")
_ERRORS_6 = (*_ERRORS_4[:1], "packet-too-big", *_ERRORS_4[1:])
_NEIGHBOURS = (
    "nd-router-solicit",
    "nd-router-advert",
    "nd-neighbor-solicit",
    "nd-neighbor-advert",
    "mld-listener-query",
    "mld-listener-report",
    "mld-listener-done",
    "mld2-listener-report",
)
"""What IPv6 cannot do without (RFC 4890, section 4.4.1)."""


class Term(NamedTuple):
    """A piece of a rule, in nft's language and in its JSON."""

    text: str
    expression: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is matched, and what becomes of it."""

    terms: tuple[Term, ...]
    purpose: str = ""
    """A few fixed words, for those who read the rules."""

    def __str__(self) -> str:
        return " ".join(term.text for term in self.terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseChain:
    """A chain that the kernel asks."""

    hook: str
    """`input` or `output`, which is its name, too."""
    policy: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All of our table."""

    chains: tuple[BaseChain, ...]

    def text(self) -> str:
        """What `nft -f` takes: it replaces the table at once, or changes nothing."""
        name = f"table {FAMILY} {TABLE}"
        lines = [name, f"delete {name}", f"{name} {{"]
        for chain in self.chains:
            lines.append(f"\tchain {chain.hook} {{")
            lines.append(
                f"\t\ttype filter hook {chain.hook} priority {PRIORITY}; policy {chain.policy};"
            )
            for rule in chain.rules:
                remark = f' comment "{rule.purpose}"' if rule.purpose else ""
                lines.append(f"\t\t{rule}{remark}")
            lines.append("\t}")
        return "\n".join([*lines, "}", ""])

    def table(self) -> Table:
        """What nft lists when it is loaded and nobody has touched it."""
        chains = {}
        for chain in self.chains:
            rules = tuple(
                canonical_rule([term.expression for term in rule.terms]) for rule in chain.rules
            )
            chains[chain.hook] = Chain("filter", chain.hook, PRIORITY, chain.policy, rules)
        return Table(chains)


ACCEPT = Term("accept", {"accept": None})
DROP = Term("drop", {"drop": None})
COUNTER = Term("counter", {"counter": None})
REJECT = Term(
    "reject with icmpx admin-prohibited",
    {"reject": {"type": "icmpx", "expr": "admin-prohibited"}},
)
"""Whoever is kept in is told so, and does not wait for a deadline."""


def permit(direction: str, network: Network, *, protocol: str, port: int, purpose: str) -> Rule:
    """Let packets to `port` through, from a network (`saddr`) or to it (`daddr`)."""
    return Rule((_address(direction, network), _port(protocol, port), COUNTER, ACCEPT), purpose)


def inbound(permitted: Iterable[Rule]) -> BaseChain:
    """Nothing comes in but answers, what keeps networks going, and `permitted`."""
    rules = (
        *_always("iif"),
        _icmp("icmp", ("echo-request", *_ERRORS_4)),
        _icmp("icmpv6", ("echo-request", *_ERRORS_6, *_NEIGHBOURS)),
        *permitted,
        Rule((COUNTER, DROP), "all else"),
    )
    return BaseChain(hook="input", policy="drop", rules=rules)


def outbound(permitted: Iterable[Rule], *, users: Sequence[int] = ()) -> BaseChain:
    """Nothing goes out but answers, what keeps networks going, and `permitted`: of the host, or of these users."""
    rules = [
        *_always("oif"),
        _icmp("icmp", _ERRORS_4),  # and no echo requests, in which much can be carried away
        _icmp("icmpv6", (*_ERRORS_6, *_NEIGHBOURS)),
        *permitted,
    ]
    if not users:
        rules.append(Rule((COUNTER, REJECT), "all else"))
        return BaseChain(hook="output", policy="drop", rules=tuple(rules))
    rules += [Rule((_user(uid), COUNTER, REJECT), "all else of this user") for uid in users]
    return BaseChain(hook="output", policy="accept", rules=tuple(rules))


def _always(interface: str) -> tuple[Rule, ...]:
    """This host with itself, and what was let through before."""
    return (
        Rule((_match(f'{interface} "lo"', {"meta": {"key": interface}}, "lo"), ACCEPT)),
        Rule((_state("established"), ACCEPT)),
        Rule((_state("related"), ACCEPT)),
        Rule((_state("invalid"), COUNTER, DROP)),
    )


def _match(text: str, left: dict[str, Any], right: object, op: str = "==") -> Term:
    return Term(text, {"match": {"op": op, "left": left, "right": right}})


def _state(name: str) -> Term:
    return _match(f"ct state {name}", {"ct": {"key": "state"}}, name, "in")


def _user(uid: int) -> Term:
    return _match(f"meta skuid {uid:d}", {"meta": {"key": "skuid"}}, uid)


def _port(protocol: str, port: int) -> Term:
    left = {"payload": {"protocol": protocol, "field": "dport"}}
    return _match(f"{protocol} dport {port:d}", left, port)


def _address(direction: str, network: Network) -> Term:
    protocol = "ip" if network.version == 4 else "ip6"
    address: object = str(network.network_address)
    text = address
    if network.num_addresses > 1:
        text = str(network)
        address = {"prefix": {"addr": address, "len": network.prefixlen}}
    left = {"payload": {"protocol": protocol, "field": direction}}
    return _match(f"{protocol} {direction} {text}", left, address)


def _icmp(protocol: str, kinds: Sequence[str]) -> Rule:
    left = {"payload": {"protocol": protocol, "field": "type"}}
    text = f"{protocol} type {{ {', '.join(kinds)} }}"
    return Rule((_match(text, left, {"set": list(kinds)}), ACCEPT))
