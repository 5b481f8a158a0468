"""Who may connect to what: addresses, networks and names with ports, as settings write them.

Only what `ipaddress` or the rules of host names take comes out of here, so that nothing else of a setting's text
ever reaches a firewall's rules.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
SHORTEST_PREFIX = {4: 8, 6: 16}
"""Bits. A network that is larger than these holds half the world, and is a slip."""

_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_MAX_NAME = 253
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_MAX_PORT = 65_535


class Place(NamedTuple):
    """An address or a network, or a name that is looked up later; with a port where one was asked for."""

    host: Network | str
    port: int = 0
    protocol: str = "tcp"

    def __str__(self) -> str:
        told = str(self.host)
        if not isinstance(self.host, str) and self.host.num_addresses == 1:
            told = str(self.host.network_address)
        if not self.port:
            return told
        told = f"[{told}]" if ":" in told else told
        return f"udp/{told}:{self.port}" if self.protocol == "udp" else f"{told}:{self.port}"


def parse_host(text: str) -> Network | str:
    """An address, a network such as `10.0.0.0/24`, or a host name; `ValueError` for all else."""
    if "%" in text:
        raise ValueError("has a zone, which no rule can hold; use an address without '%'")
    if _NAME.fullmatch(text) and len(text) <= _MAX_NAME and not _looks_numeric(text):
        return text.lower().removesuffix(".")
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"is no address, network or host name: {error}") from None
    return check_network(network)


def check_network(network: Network) -> Network:
    """The network, an IPv4 one where it is mapped into IPv6; `ValueError` where it is of no use to a firewall."""
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            network = ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    shortest = SHORTEST_PREFIX[network.version]
    if network.prefixlen < shortest:
        raise ValueError(
            f"is too large a network; /{shortest} is the largest for IPv{network.version}"
        )
    if network.is_multicast or network.network_address.is_unspecified:
        raise ValueError("is no address of a host")
    return network


def parse_place(text: str) -> Place:
    """`HOST:PORT`, `NETWORK:PORT`, or `[...]:PORT` for IPv6, perhaps behind `udp/`; `ValueError` for all else."""
    protocol = "udp" if text.startswith("udp/") else "tcp"
    host, mark, number = text.removeprefix("udp/").rpartition(":")
    if not mark or not _PORT.fullmatch(number) or int(number) > _MAX_PORT:
        raise ValueError("is not HOST:PORT with a port from 1 to 65535, such as 192.0.2.7:443")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("needs brackets around an IPv6 address, such as [2001:db8::7]:443")
    return Place(parse_host(host), int(number), protocol)


def hosts(value: object) -> tuple[str, ...]:
    """Parser of a setting: addresses, networks and names."""
    return _each(value, lambda text: str(Place(parse_host(text))))


def places(value: object) -> tuple[str, ...]:
    """Parser of a setting: the same, each with a port."""
    return _each(value, lambda text: str(parse_place(text)))


def addresses(value: object) -> tuple[str, ...]:
    """Parser of a setting: addresses only, since what they name is asked before any name is known."""

    def parse(text: str) -> str:
        host = parse_host(text)
        if isinstance(host, str) or host.num_addresses != 1:
            raise ValueError("is not an address")
        return str(host.network_address)

    return _each(value, parse)


def _each(value: object, parse: Callable[[str], str]) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, Sequence):
        raise ValueError("is not a list of strings")  # noqa: TRY004  # one kind of error for all parsers
    found = []
    for text in value:
        if not isinstance(text, str):
            raise ValueError(f"has {text!r}, which is not text")  # noqa: TRY004
        try:
            found.append(parse(text))
        except ValueError as error:
            raise ValueError(f"has {text!r}, which {error}") from None
    return tuple(dict.fromkeys(found))


def _looks_numeric(text: str) -> bool:
    """Whether it is an address that was mistyped, and no name: no top-level domain is a number."""
    return text.rstrip(".").rpartition(".")[2].isdecimal()
