"""What of the worker no task sees, whatever its sandbox grants: keys, stores, references, sockets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cardoon.config import SECRETS, reveal
from cardoon.deployment import Deployment
from cardoon.endpoints import kind_of, parse_endpoints
from cardoon.sqlite.location import parse_database_url
from cardoon.transparency.places import Places

_SQLITE_PARTS = ("", "-wal", "-shm", "-journal")
_KINDS = frozenset({"redis", "sentinel", "amqp", "postgresql"})


def find_secrets(deployment: Deployment) -> tuple[str, ...]:
    """Absolute paths, of which not all need to be there yet. Reads no file but what settings refer to."""
    every = (*_own_files(deployment), *_ways_to_stores(deployment))
    found = (os.path.abspath(path) for path in every)  # noqa: PTH100  # links stay
    return tuple(dict.fromkeys(found))


def _own_files(deployment: Deployment) -> Iterator[str]:
    settings = deployment.settings
    yield str(deployment.state_directory)  # key, store, keyset, journals, audit trail
    for name in SECRETS:
        value = getattr(settings, name)
        if isinstance(value, str) and value.startswith("file:"):
            yield value.removeprefix("file:")
    key = reveal(settings, "security_key")
    if key and not key.startswith(("exec:", "pkcs11:")):
        yield str(Path(key.removeprefix("unix:")).expanduser())
    for path in (
        settings.security_keyset,
        settings.security_reply_keyset,
        settings.syslog_spool,
        settings.syslog_tls.get("key", ""),
    ):
        if path:
            yield str(Path(path).expanduser())
    if settings.security_audit_log:
        places = Places(Path(settings.security_audit_log).expanduser())
        yield from map(str, (*places, places.key, places.state, places.checkpoints, places.lock))


def _ways_to_stores(deployment: Deployment) -> Iterator[str]:
    store = str(deployment.settings.broker_transport_options.get("store", ""))
    if store.startswith("file:"):
        yield store.removeprefix("file:")
    ways = {
        "broker_url": (deployment.broker_url, deployment.way_to_broker()),
        "result_backend": (deployment.backend_url, deployment.way_to_backend()),
        "broker_transport_options": (deployment.store_url, deployment.way_to_backend()),
    }
    for setting, (url, way) in ways.items():
        if url.startswith("sqlite:"):
            path = str(parse_database_url(url, setting=setting))
            yield from (path + part for part in _SQLITE_PARTS)
        elif kind_of(url) in _KINDS:
            for one in parse_endpoints(url, setting=setting, access=way.access):
                yield from filter(None, (one.socket, one.tls.key if one.tls else ""))
