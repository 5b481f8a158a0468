"""Which addresses a task may connect to: rules made of `Sandbox.network`. Pure; resolves nothing.

A task that has a list sees every listed name at an address of ours, 127.64.x.y, and connects to that;
what the name means now is found out by who connects on its behalf. So a task can neither reach an
address by a name of its own choosing, nor keep an answer of yesterday's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from typing import NamedTuple

from cardoon.sandbox.profile import split_address

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_FIRST_NAME = int(ipaddress.IPv4Address("127.64.0.1"))
MAX_LISTED = 1024
"""Addresses that a list may have."""

METADATA = tuple(
    ipaddress.ip_network(one)
    for one in (
        "169.254.0.0/16",  # link-local: EC2, Azure, GCP, OpenStack, ECS's credentials
        "fd00:ec2::254/128",  # EC2
        "fd20:ce::254/128",  # GCP
        "100.100.100.200/32",  # Alibaba
        "192.0.0.192/32",  # Oracle
    )
)
"""Where clouds hand a machine its credentials; refused even to `network="any"`."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: IPv4 behind a translator


class Target(NamedTuple):
    """What a task asked to be connected with."""

    host: str
    port: int
    scope: int = 0
    """The interface of a link-local IPv6 address, by number."""

    @property
    def text(self) -> str:
        """As it is listed and logged."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Refused(NamedTuple):
    """An address that it may not have, and why."""

    address: str
    why: str

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.address} ({self.why})"


class NetworkRules:
    """What one profile's tasks may connect to.

    `denied` are the hosts and ports of the worker's own servers: a task reaches those only if the list
    says exactly that.
    """

    def __init__(
        self, network: str | Sequence[str] | None, denied: Collection[tuple[str, int]] = ()
    ) -> None:
        self._network = network
        self._denied = frozenset((_plain(host), port) for host, port in denied)
        listed = () if network is None or isinstance(network, str) else network
        if len(listed) > MAX_LISTED:
            raise ValueError(f"network: {len(listed)} addresses are too many; {MAX_LISTED} may be")
        self.targets = tuple(Target(*split_address(one)) for one in listed)
        """The listed addresses, in order."""
        self._literal = {
            (_normal(ip), one.port)
            for one in self.targets
            if (ip := parse_ip(one.host)) is not None
        }
        names = host_names(listed)
        self.names = names
        """The addresses at which tasks see listed names."""
        self._by_address: dict[tuple[IpAddress, int], Target] = {
            (ipaddress.IPv4Address(names[one.host]), one.port): one
            for one in self.targets
            if one.host in names
        }

    @property
    def denied(self) -> frozenset[tuple[str, int]]:
        """The worker's own servers; those that are names have to be resolved by the caller."""
        return self._denied

    def judge(self, address: IpAddress, port: int, scope: int = 0) -> Target | Refused:
        """What a task means that connects to this address, or why it may not."""
        address = _normal(address)
        asked = Target(str(address), port, scope)
        if named := self._by_address.get((address, port)):
            return named
        if (address, port) in self._literal:
            return asked
        match self._network:
            case "any":
                why = "metadata of the cloud" if is_metadata(address) else ""
            case "loopback" if address.is_loopback:
                own = (str(address), port) in self._denied
                why = "a server of the worker's own" if own else ""
            case "loopback":
                why = "not loopback"
            case None:
                why = "no network"
            case _:
                why = "not listed"
        return Refused(asked.text, why) if why else asked

    def allows(
        self, target: Target, address: IpAddress, denied: Collection[tuple[str, int]]
    ) -> Refused | None:
        """Why a task may not be connected with what a listed name means now, or None.

        `denied` are the addresses that names in the rules' own `denied` mean now.
        """
        address = _normal(address)
        if (address, target.port) in self._literal or self._network == "any":
            refusal = is_metadata(address) and (address, target.port) not in self._literal
            return Refused(target.text, f"metadata of the cloud, {address}") if refusal else None
        listed = (target.host, target.port)
        if listed not in self._denied and (
            (str(address), target.port) in self._denied or (str(address), target.port) in denied
        ):
            return Refused(target.text, "a server of the worker's own")
        if self._network == "loopback":
            return None if address.is_loopback else Refused(target.text, "not loopback")
        kind = _special(address)
        if kind:
            return Refused(target.text, f"means {address}, {kind}, which has to be listed as such")
        return None


def host_names(network: Sequence[str] | str | None) -> dict[str, str]:
    """The addresses at which tasks see listed names: one for each name, whatever its ports."""
    if network is None or isinstance(network, str):
        return {}
    hosts = dict.fromkeys(split_address(one)[0] for one in network)
    names = [host for host in hosts if parse_ip(host) is None]
    return {
        host: str(ipaddress.IPv4Address(_FIRST_NAME + number)) for number, host in enumerate(names)
    }


def parse_ip(text: str) -> IpAddress | None:
    """The address that a text is, or None if it is a name."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_metadata(address: IpAddress) -> bool:
    """Whether a cloud may hand out credentials there."""
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return any(address in one for one in METADATA if one.version == address.version)


def _special(address: IpAddress) -> str:
    """What keeps an address from being meant by a name that somebody else answers for."""
    if is_metadata(address):
        return "metadata of the cloud"
    if address.is_loopback:
        return "loopback"
    if address.is_unspecified:
        return "this machine"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    return ""


def _normal(address: IpAddress) -> IpAddress:
    """IPv4 in the clothes of IPv6 is IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        return ipaddress.IPv6Address(int(address))  # without its scope
    return address


def _plain(host: str) -> str:
    """A host as it is compared."""
    ip = parse_ip(host)
    return host.lower() if ip is None else str(_normal(ip))
