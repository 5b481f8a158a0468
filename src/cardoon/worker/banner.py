"""What a worker says of itself when it starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cardoon.builtins import PREFIX
from cardoon.config import Settings, content_kind
from cardoon.deployment import Deployment
from cardoon.worker.host import safe_url
from cardoon.worker.isolation import Isolation
from cardoon.worker.weakened import unpickles


def describe(
    settings: Settings,
    deployment: Deployment,
    *,
    worker: str,
    concurrency: int,
    queues: Iterable[str],
    tasks: Iterable[str],
    isolation: Isolation,
) -> dict[str, Any]:
    """What the banner tells, by the words before it. `concurrency` is tasks at a time."""
    accepts = {content_kind(name) for name in settings.accept_content}
    return {
        "worker": worker,
        "identity": signer_name(deployment) or "none: messages are not signed",
        "broker": safe_url(deployment.broker_url),
        "results": safe_url(deployment.backend_url) or "disabled",
        "messages": ("signed only" if accepts == {"auth"} else "UNSIGNED ones are accepted")
        + ("; PICKLES are unpickled" if unpickles(settings) else ""),
        "trust": deployment.describe_trust(),
        "domain": settings.security_domain,
        "pool": f"{settings.worker_pool}, {concurrency} at a time",
        "keys": (
            "in the process that runs the tasks"
            if settings.worker_pool == "solo"
            else "apart from the processes that run the tasks"
        ),
        "sandbox": isolation.describe(),
        "queues": ", ".join(queues),
        "tasks": sorted(name for name in tasks if not name.startswith(PREFIX)),
    }


def signer_name(deployment: Deployment) -> str:
    """Who signs; empty where nothing is signed."""
    return deployment.identity().identity.name if deployment.signs else ""


def record_start(deployment: Deployment, *, worker: str, queues: Sequence[str]) -> None:
    """Put a worker's start on record."""
    settings = deployment.settings
    deployment.audit().record(
        "worker.start",
        worker=worker,
        pool=settings.worker_pool,
        queues=",".join(queues),
        signer=signer_name(deployment),
        accept=",".join(settings.accept_content),
    )
