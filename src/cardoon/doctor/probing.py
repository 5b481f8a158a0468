"""Asks the servers of messages and results a few harmless questions: as a stranger, and with our own account.

All servers at the same time, each connection and answer within a second.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cardoon.doctor.server_facts import ServerFacts
from cardoon.endpoints import Endpoint
from cardoon.exceptions import CardoonError

_MOST = 8
"""Servers that are asked."""
_MODULES: Mapping[str, str] = {
    "redis": "cardoon.doctor.asking_redis",
    "amqp": "cardoon.doctor.asking_rabbitmq",
    "postgresql": "cardoon.doctor.asking_postgres",
}


def probe(endpoints: Sequence[Endpoint], *, prefix: str = "cardoon") -> list[ServerFacts]:
    """What each server answered; one that did not has an `error`. `prefix` begins our own names there."""
    wanted = list({(one.kind, str(one), one.username): one for one in endpoints}.values())[:_MOST]
    if not wanted:
        return []
    with ThreadPoolExecutor(len(wanted), thread_name_prefix="doctor-server") as pool:
        return list(pool.map(lambda one: ask_one(one, prefix), wanted))


def ask_one(endpoint: Endpoint, prefix: str) -> ServerFacts:
    """What one server answered; never raises for what a server says."""
    told: dict[str, Any] = {
        "kind": endpoint.kind,
        "place": str(endpoint),
        "is_local": endpoint.is_local,
    }
    if endpoint.kind not in _MODULES:
        return ServerFacts(**told, error=f"{endpoint.kind} is not asked; name its servers with -b")
    module = importlib.import_module(_MODULES[endpoint.kind])
    with ThreadPoolExecutor(2, thread_name_prefix="doctor-asking") as pool:
        strange = pool.submit(module.ask_as_stranger, endpoint)
        known = pool.submit(module.ask_with_account, endpoint, prefix)
    try:
        told |= strange.result()
    except OSError as error:
        return ServerFacts(**told, error=error.strerror or str(error) or "no answer")
    try:
        told |= known.result()
    except (OSError, CardoonError, ValueError) as error:
        told["login_error"] = str(error) or type(error).__name__
    return ServerFacts(**told)
