"""Checks of what other hosts can reach here, and what is reached from here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cardoon.doctor.check import Severity, check
from cardoon.doctor.scene import NotApplicableError, Scene, UncheckedError
from cardoon.doctor.sockets import listeners
from cardoon.firewall.judging import Verdict
from cardoon.status_address import parse_address

_RULES = ("nft", "--stateless", "--terse", "--numeric", "list", "ruleset")
_METADATA = ("169.254.169.254", 80)
"""Where clouds tell a machine its secrets."""


def _ruleset(scene: Scene) -> str:
    return scene.run(_RULES)


@check(
    "NET-01",
    Severity.CRITICAL,
    "a firewall",
    looks_at="the rules of nftables, which only root sees; for others what firewall_state says",
    remedy="a ruleset with `policy drop` on input, loaded by nftables.service",
    deploy=True,
)
def firewall(scene: Scene) -> Iterator[str]:
    """Whatever is started by mistake is reached by all."""
    try:
        text = _ruleset(scene)
    except UncheckedError as error:
        yield from _believed(scene, error)
        return
    inputs = re.findall(r"hook input [^;]*;(?: *policy (\w+);)?", text)
    if not inputs:
        yield "no chain of nftables looks at what comes in"
    elif not any(one == "drop" for one in inputs) and not re.search(r"\b(drop|reject)\b", text):
        yield "what comes in is accepted, and no rule drops anything"


def _believed(scene: Scene, refused: UncheckedError) -> Iterator[str]:
    """What root's watch tells who may not ask nft: whether our table is there, which drops what comes in.

    Raises what nft said where nobody watches, or only what users send is kept in.
    """
    if not scene.settings.firewall_state or scene.settings.firewall_users:
        raise refused
    found = scene.rules()
    if found.verdict is Verdict.UNKNOWN:
        raise UncheckedError(found.reason)
    if found.verdict is not Verdict.OK:
        yield found.describe()


@check(
    "NET-03",
    Severity.HIGH,
    "who listens beside the worker",
    looks_at="/proc/net/tcp: sockets of the worker's user that other hosts reach",
    remedy="bind to 127.0.0.1; end what does not belong here",
    deploy=True,
)
def listening(scene: Scene) -> Iterator[str]:
    """A task that listens is a way in."""
    if scene.uid == 0:
        raise UncheckedError("root's sockets are those of the system (PRC-01)")
    allowed = set()
    if scene.settings.worker_metrics_address:
        allowed.add(parse_address(scene.settings.worker_metrics_address).port)
    for one in listeners(scene):
        if one.uid == scene.uid and one.is_exposed and one.port not in allowed:
            yield f"{one} is open, and belongs to the user who runs tasks"


@check(
    "NET-04",
    Severity.HIGH,
    "the address where clouds tell secrets",
    looks_at="a connection to 169.254.169.254, port 80",
    remedy="a rule of the firewall for the worker's user; IMDSv2 with a hop limit of 1",
    deploy=True,
)
def metadata(scene: Scene) -> Iterator[str]:
    """A task that can be made to fetch a URL fetches the machine's credentials."""
    if scene.connects(*_METADATA):
        yield f"{_METADATA[0]} answers this host"


@check(
    "NET-05",
    Severity.MEDIUM,
    "a firewall for IPv6, too",
    looks_at="the rules of nftables, or what firewall_state says; /proc/net/if_inet6",
    remedy="one table of the family inet in place of ip",
    deploy=True,
)
def second_family(scene: Scene) -> Iterator[str]:
    """Rules for IPv4 stop nobody who comes by IPv6."""
    scopes = [line.split()[3] for line in scene.read("/proc/net/if_inet6").splitlines()]
    if all(one == "10" for one in scopes):
        raise NotApplicableError("this host has no address of IPv6 but its own")
    try:
        text = _ruleset(scene)
    except UncheckedError as error:
        yield from _believed(scene, error)  # our table has both families
        return
    families = set(re.findall(r"^table (\w+) [^{]*\{[^}]*hook input", text, re.MULTILINE))
    if "ip" in families and not families & {"ip6", "inet"}:
        yield "what comes in by IPv4 is filtered, and by IPv6 is not"


@check(
    "NET-06",
    Severity.MEDIUM,
    "forwarding between networks",
    looks_at="net.ipv4.conf.all.accept_redirects, accept_source_route",
    remedy="sysctl net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.all.accept_source_route=0",
    deploy=True,
)
def redirects(scene: Scene) -> Iterator[str]:
    """A neighbour could have the broker's traffic go through him."""
    for name in ("accept_redirects", "accept_source_route"):
        if scene.sysctl(f"net.ipv4.conf.all.{name}") == "1":
            yield f"net.ipv4.conf.all.{name} is 1"


@check(
    "NET-02",
    Severity.HIGH,
    "a watch over the firewall",
    looks_at="firewall_check_interval, and what firewall_state says",
    remedy="firewall_check_interval = 60; `cardoon firewall load` brings the rules back (docs/firewall.md)",
    deploy=True,
)
def watch(scene: Scene) -> Iterator[str]:
    """Rules that somebody has flushed are missed by nobody otherwise."""
    if not scene.settings.firewall_check_interval:
        yield "firewall_check_interval is 0: no worker looks whether the rules are still there"
    if not scene.settings.firewall_state:
        return
    found = scene.rules()
    if found.verdict is Verdict.UNKNOWN:
        raise UncheckedError(found.reason)
    if found.verdict is not Verdict.OK:
        yield found.describe()


CHECKS = (firewall, watch, listening, metadata, second_family, redirects)
