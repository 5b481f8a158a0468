"""Checks of what people reach a worker by: commands, metrics and pages; and of the clock."""

from __future__ import annotations

from collections.abc import Iterator

from cardoon.doctor.check import Severity, check
from cardoon.doctor.scene import NotApplicableError, Scene
from cardoon.doctor.sockets import listeners
from cardoon.status_address import Address, parse_address

_PORTS = {9090: "Prometheus", 5555: "a web view of Celery's", 8080: "a web server"}


@check(
    "CTL-01",
    Severity.MEDIUM,
    "who may command workers",
    looks_at="worker_enable_remote_control, security_policy",
    remedy="security_policy with action = 'control' for those who need it, or "
    "worker_enable_remote_control = False",
)
def commands(scene: Scene) -> Iterator[str]:
    """Whoever is trusted can look into workers and change their limits."""
    scene.require_shared()
    settings = scene.settings
    if settings.worker_enable_remote_control and not settings.security_policy:
        yield "workers obey commands of everybody who is trusted"


def _metrics(scene: Scene) -> Address:
    told = scene.settings.worker_metrics_address
    if not told:
        raise NotApplicableError("no metrics are served")
    return parse_address(told)


@check(
    "CTL-02",
    Severity.HIGH,
    "who can read metrics",
    looks_at="worker_metrics_address, worker_metrics_token, unsafe_allow_open_metrics",
    remedy="worker_metrics_token = file:PATH; unsafe_allow_open_metrics = False",
)
def open_metrics(scene: Scene) -> Iterator[str]:
    """They tell names of tasks and queues, and how much goes on."""
    address = _metrics(scene)
    if not address.is_local and not scene.settings.worker_metrics_token:
        yield f"worker_metrics_address={address} is open to all, without a token"


@check(
    "CTL-03",
    Severity.MEDIUM,
    "metrics that cross the network in clear",
    looks_at="worker_metrics_address",
    remedy="worker_metrics_address = 127.0.0.1:9464 or unix:PATH, and a proxy with TLS before it",
)
def clear_metrics(scene: Scene) -> Iterator[str]:
    """Who is on the way reads them, and the token as well."""
    address = _metrics(scene)
    if not address.is_local:
        yield f"worker_metrics_address={address} is served without TLS to other hosts"


@check(
    "CTL-04",
    Severity.HIGH,
    "other pages that are open on this host",
    looks_at="/proc/net/tcp: 5555, 8080, 9090",
    remedy="bind to 127.0.0.1, and a proxy that asks who is there",
    deploy=True,
)
def pages(scene: Scene) -> Iterator[str]:
    """Views of queues are often open to all who find them."""
    for one in listeners(scene):
        if one.port in _PORTS and one.is_exposed:
            yield f"{one} is open ({_PORTS[one.port]})"


@check(
    "CTL-05",
    Severity.MEDIUM,
    "the clock",
    looks_at="whether the kernel takes it for synchronised (adjtimex)",
    remedy="chrony or systemd-timesyncd",
    deploy=True,
)
def clock(scene: Scene) -> Iterator[str]:
    """Ages of messages and certificates are judged by it."""
    if not scene.synchronised():
        yield "nobody keeps the clock of this host"


CHECKS = (commands, open_metrics, clear_metrics, pages, clock)
