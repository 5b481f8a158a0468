"""What a host's firewall is to be, from the settings: whom it talks to, and who may talk to it."""

from __future__ import annotations

import ipaddress
import pwd
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cardoon.config import Settings
from cardoon.deployment import Deployment
from cardoon.endpoints import PLAIN_ACCESS, Access, Endpoint, kind_of, parse_endpoints
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.firewall.ruleset import MAX_RULES, Rule, Ruleset, inbound, outbound, permit
from cardoon.network_place import (
    Network,
    Place,
    check_network,
    parse_host,
    parse_place,
)
from cardoon.status_address import parse_address
from cardoon.syslog_target import parse_target

ROLES = ("worker", "broker", "both")
MAX_ADDRESSES = 64
"""Of one name; more than that is no server's name."""
_DNS_PORT = 53
_SSH_PORT = 22
_LARGEST_UID = 2**32 - 2

Resolver = Callable[[str], Sequence[str]]
"""The addresses of a name; raises `OSError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A URL of the settings, and the setting that it stands in. Its `repr` does not show the URL."""

    setting: str
    url: str = field(repr=False)
    access: Access = PLAIN_ACCESS

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The servers that it names; none for a store without one."""
        if not kind_of(self.url):
            return ()
        access = Access(use_ssl=self.access.use_ssl, allow_plaintext=True, allow_unverified=True)
        return tuple(parse_endpoints(self.url, setting=self.setting, access=access))


class Plan(NamedTuple):
    """The rules, and what to know of them."""

    ruleset: Ruleset
    resolved: dict[str, tuple[str, ...]]
    """The names that were looked up, each with its addresses."""
    notes: tuple[str, ...]
    """What the rules keep from working, or do not cover."""


def servers_of(deployment: Deployment) -> tuple[Server, ...]:
    """All that an app of these settings connects to, each URL once."""
    broker, backend = deployment.way_to_broker().access, deployment.way_to_backend().access
    found = (
        Server(setting="broker_url", url=deployment.broker_url, access=broker),
        Server(setting="result_backend", url=deployment.backend_url, access=backend),
        Server(setting="store", url=deployment.store_url, access=backend),
    )
    once: dict[str, Server] = {}
    for one in found:
        once.setdefault(one.url, one)
    return tuple(once.values())


def look_up(name: str) -> list[str]:
    """All addresses of a name, IPv4 and IPv6."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


def make_plan(
    settings: Settings, servers: Sequence[Server], *, role: str, resolve: Resolver = look_up
) -> Plan:
    """The rules of a host of this role.

    Raises `ImproperlyConfigured` for what cannot become a rule, and `OperationalError` for a name that nobody
    can look up at the moment.
    """
    if settings.firewall_users and role != "worker":
        raise ImproperlyConfigured(
            f"firewall_users: what comes in belongs to no user, so role {role!r} needs the whole host; leave it empty"
        )
    planner = _Planner(settings, servers, resolve)
    chains = []
    if not settings.firewall_users:
        chains.append(inbound(planner.inbound(role)))
    if role != "broker":
        users = tuple(_user_id(one) for one in settings.firewall_users)
        chains.append(outbound(planner.outbound(), users=users))
    rules = sum(len(chain.rules) for chain in chains)
    if rules > MAX_RULES:
        raise ImproperlyConfigured(
            f"firewall: {rules} rules are more than {MAX_RULES}; write networks instead of addresses"
        )
    notes = (*planner.notes, *_notes(settings, planner.resolved, role))
    return Plan(Ruleset(tuple(chains)), planner.resolved, tuple(dict.fromkeys(notes)))


class _Planner:
    """Turns settings into rules; each name is looked up once."""

    def __init__(self, settings: Settings, servers: Sequence[Server], resolve: Resolver) -> None:
        self._settings = settings
        self._servers = servers
        self._resolve = resolve
        self.resolved: dict[str, tuple[str, ...]] = {}
        self.notes: list[str] = []

    def outbound(self) -> list[Rule]:
        """To the servers of the settings, and what else they name."""
        rules: list[Rule] = []
        for server in self._servers:
            for endpoint in server.endpoints():
                if endpoint.is_local:
                    continue
                if endpoint.kind == "sentinel":
                    self.notes.append(
                        f"{server.setting}: sentinels name Redis servers that are not known here; add each to firewall_allow"
                    )
                place = Place(_host_of(endpoint.host, server.setting), endpoint.port)
                rules += self._permit("daddr", place, purpose=server.setting)
        for told in self._settings.syslog_address:
            target = parse_target(told)
            if target.port and not target.is_local:
                protocol = "udp" if target.is_datagram else "tcp"
                place = Place(_host_of(target.host, "syslog_address"), target.port, protocol)
                rules += self._permit("daddr", place, purpose="syslog_address")
        for told in self._settings.firewall_allow:
            rules += self._permit("daddr", parse_place(told), purpose="firewall_allow")
        for told in self._settings.firewall_dns:
            for protocol in ("udp", "tcp"):
                place = Place(parse_host(told), _DNS_PORT, protocol)
                rules += self._permit("daddr", place, purpose="firewall_dns")
        return _once(rules)

    def inbound(self, role: str) -> list[Rule]:
        """From the peers to what this host serves, and what else the settings open."""
        ports = dict(self._served(role))
        peers = [parse_host(told) for told in self._settings.firewall_peers]
        if role != "worker" and not peers:
            raise ImproperlyConfigured(
                "firewall_peers: names nobody, so nobody could reach the broker; list the hosts of workers, clients and beats"
            )
        if ports and not peers:
            self.notes.append(
                "worker_metrics_address: firewall_peers names nobody, so nobody collects metrics from outside"
            )
        rules: list[Rule] = []
        for port, purpose in ports.items():
            for peer in peers:
                rules += self._permit("saddr", Place(peer, port), purpose=purpose)
        for told in self._settings.firewall_open:
            rules += self._permit("saddr", parse_place(told), purpose="firewall_open")
        return _once(rules)

    def _served(self, role: str) -> Iterator[tuple[int, str]]:
        if role != "worker":
            for server in self._servers:
                for endpoint in server.endpoints():
                    if not endpoint.socket:
                        yield endpoint.port, server.setting
        if role != "broker" and self._settings.worker_metrics_address:
            address = parse_address(self._settings.worker_metrics_address)
            if not address.is_local and address.port:
                yield address.port, "worker_metrics_address"

    def _permit(self, direction: str, place: Place, *, purpose: str) -> Iterator[Rule]:
        for network in self._networks(place.host):
            if not network.is_loopback:  # which `lo` lets through
                yield permit(
                    direction, network, protocol=place.protocol, port=place.port, purpose=purpose
                )

    def _networks(self, host: Network | str) -> list[Network]:
        if not isinstance(host, str):
            return [host]
        if host not in self.resolved:
            self.resolved[host] = self._look_up(host)
        return [ipaddress.ip_network(address) for address in self.resolved[host]]

    def _look_up(self, name: str) -> tuple[str, ...]:
        try:
            found = [str(address).partition("%")[0] for address in self._resolve(name)]
            networks = {check_network(ipaddress.ip_network(address)) for address in found}
        except (OSError, UnicodeError) as error:
            raise OperationalError(f"firewall: {name} cannot be looked up: {error}") from error
        except ValueError as error:
            raise OperationalError(f"firewall: {name} has an address that {error}") from error
        if not 0 < len(networks) <= MAX_ADDRESSES:
            raise OperationalError(
                f"firewall: {name} has {len(networks)} addresses; 1 to {MAX_ADDRESSES} make sense for a server"
            )
        ordered = sorted(networks, key=lambda one: (one.version, int(one.network_address)))
        return tuple(str(one.network_address) for one in ordered)


def _host_of(host: str, setting: str) -> Network | str:
    try:
        return parse_host(host)
    except ValueError as error:
        raise ImproperlyConfigured(f"{setting}: the host {host!r} {error}") from None


def _once(rules: Sequence[Rule]) -> list[Rule]:
    """Without repetitions: broker and result store are often one server."""
    once: dict[str, Rule] = {}
    for rule in rules:
        once.setdefault(str(rule), rule)
    return list(once.values())


def _user_id(told: str) -> int:
    """A user's number; the rules are by number, since a name may change hands."""
    if told.isascii() and told.isdecimal() and int(told) <= _LARGEST_UID:
        return int(told)
    try:
        return pwd.getpwnam(told).pw_uid
    except (KeyError, ValueError):
        raise ImproperlyConfigured(
            f"firewall_users: there is no user {told!r} on this host; make it, or write its number"
        ) from None


def _notes(settings: Settings, resolved: dict[str, tuple[str, ...]], role: str) -> Iterator[str]:
    if role != "broker" and resolved and not settings.firewall_dns:
        yield (
            f"{', '.join(sorted(resolved))}: looked up by name, while firewall_dns permits no server of names; "
            "write addresses, put the names into /etc/hosts, or set firewall_dns"
        )
    if settings.firewall_users:
        yield "firewall_users: what comes in is not filtered; that is left to the rules of the host"
    elif not any(told.endswith(f":{_SSH_PORT}") for told in settings.firewall_open):
        yield "firewall_open: nobody may open a new SSH session; add NETWORK:22 for those who look after this host"
