"""Celery's messages on Redis, in kombu's layout, moved by scripts instead of popped.

A queue is a list, or four for as many priorities, of JSON objects with a body in base64. kombu takes
with BRPOP, so what a dying process had just taken is lost; here one script moves a batch to a list of
this bridge's, and what a dead bridge holds is put back by any other that takes from the queue.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from cardoon.contrib.celery.source import MAX_BATCH_BYTES, TIMEOUT, Received, import_real
from cardoon.endpoints import Endpoint
from cardoon.exceptions import ImproperlyConfigured, OperationalError

PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""What kombu adds to a queue's name for its priorities; the first is the most urgent."""
LIFE = 15.0
"""Seconds of silence after which a bridge counts as dead; one that was only slow sends twice."""
_LOOK_AGAIN = 0.05
_LOOK_FOR_DEAD = 5.0


class RedisSource:
    """Takes from lists; see `Source`. Not for Redis Cluster, which kombu does not use either."""

    def __init__(
        self, endpoints: Sequence[Endpoint], queues: Sequence[str], *, max_bytes: int
    ) -> None:
        self._redis = import_real("redis")
        self._servers = [client_options(one) for one in endpoints]
        self._queues = list(queues)
        self._max_bytes = max_bytes
        self._name = f"{os.uname().nodename}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._turn = 0
        self._client: Any = None
        self._claim: Any = None
        self._release: Any = None
        self._held: str | None = None
        self._looked = 0.0

    def receive(self, *, limit: int, timeout: float) -> Sequence[Received]:
        """A batch of one queue; the queues take turns. See `Source.receive`."""
        deadline = time.monotonic() + timeout
        with self._failing():
            self._connect()
            while True:
                self._put_back_the_dead()
                for _ in self._queues:
                    queue = self._queues.pop(0)
                    self._queues.append(queue)
                    if found := self._take(queue, limit):
                        self._held = queue
                        return [self._parse(queue, entry) for entry in found]
                if (left := deadline - time.monotonic()) <= 0:
                    return []
                time.sleep(min(_LOOK_AGAIN, left))

    def hold(self) -> None:
        """Show that this bridge is alive."""
        with self._failing():
            self._connect()
            self._client.set(f"{_ALIVE}{self._name}", 1, px=int(LIFE * 1000))

    def acknowledge(self) -> None:
        """Forget the batch."""
        if self._held is None:
            return
        with self._failing():
            self._connect()
            self._client.delete(f"{_held_prefix(self._held)}{self._name}")
        self._held = None

    def close(self) -> None:
        """Put back what is held, and let go of the connection; safe twice."""
        if self._client is not None:
            with contextlib.suppress(OperationalError), self._failing():  # then another does it
                for queue in self._queues:
                    self._run_release(queue, self._name)
                self._client.delete(f"{_ALIVE}{self._name}")
        self._forget_connection()

    def _connect(self) -> None:
        if self._client is not None:
            return
        options = self._servers[self._turn % len(self._servers)]
        self._turn += 1
        self._client = self._redis.Redis(
            **options,
            # A second try of ours would move a second batch on top of one that nobody saw.
            retry=import_real("redis.retry").Retry(import_real("redis.backoff").NoBackoff(), 0),
        )
        self._claim = self._client.register_script(_load_script("claim.lua"))
        self._release = self._client.register_script(_load_script("release.lua"))

    def _take(self, queue: str, limit: int) -> list[bytes]:
        found: list[bytes] = self._claim(
            keys=[
                f"{_held_prefix(queue)}{self._name}",
                f"{_ALIVE}{self._name}",
                f"{_BRIDGES}{queue}",
                *(f"{queue}{priority}" for priority in PRIORITIES),
            ],
            args=[self._name, int(LIFE * 1000), limit, MAX_BATCH_BYTES],
        )
        return found

    def _put_back_the_dead(self) -> None:
        now = time.monotonic()
        if self._looked and now - self._looked < _LOOK_FOR_DEAD:
            return
        self._looked = now
        self._client.set(f"{_ALIVE}{self._name}", 1, px=int(LIFE * 1000))
        for queue in self._queues:
            self._run_release(queue, "")

    def _run_release(self, queue: str, gone: str) -> None:
        self._release(keys=[f"{_BRIDGES}{queue}", queue], args=[_held_prefix(queue), _ALIVE, gone])

    def _parse(self, queue: str, entry: bytes) -> Received:
        """What kombu laid there; whatever else it is, is kept as it is with the reason."""
        if len(entry) > 4 * self._max_bytes + (1 << 20):
            return Received(queue=queue, body=entry, problem=f"an entry of {len(entry)} bytes")
        try:
            told = json.loads(entry)
            body, properties, headers = told["body"], told["properties"], told.get("headers") or {}
            if properties.get("body_encoding") == "base64":
                content = base64.b64decode(body, validate=True)
            else:
                content = body.encode()
            if not isinstance(headers, Mapping):
                raise TypeError("headers")
            return Received(
                queue=queue,
                body=content,
                content_type=str(told.get("content-type") or ""),
                content_encoding=str(told.get("content-encoding") or "utf-8"),
                headers=headers,
                properties=properties,
            )
        except (*_NO_MESSAGE, binascii.Error) as error:
            said = f"not a message as kombu writes it: {type(error).__name__}"
            return Received(queue=queue, body=entry, problem=said)

    def _forget_connection(self) -> None:
        client, self._client, self._held = self._client, None, None
        if client is not None:
            client.close()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Errors of the connection end it, and are told as ours."""
        try:
            yield
        except (OSError, self._redis.RedisError) as error:
            self._forget_connection()
            raise OperationalError(f"celery's Redis: {type(error).__name__}: {error}") from error


_BRIDGES = "cardoon.bridges:"
_ALIVE = "cardoon.bridge.alive:"
_NO_MESSAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


def _held_prefix(queue: str) -> str:
    return f"cardoon.bridge.held:{queue}:"


def _load_script(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def client_options(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as redis-py takes it, with a deadline for each answer."""
    if endpoint.kind != "redis":
        raise ImproperlyConfigured(
            "celery_broker_url: the bridge does not ask sentinels; name the primary server"
        )
    if endpoint.path and not endpoint.path.isdecimal():
        raise ImproperlyConfigured("celery_broker_url: a database of Redis has a number")
    options: dict[str, Any] = {
        "db": int(endpoint.path or 0),
        "username": endpoint.username or None,
        "password": endpoint.password or None,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
    }
    if endpoint.socket:
        return {**options, "unix_socket_path": endpoint.socket}
    options |= {"host": endpoint.host, "port": endpoint.port}
    if (tls := endpoint.tls) is not None:
        options |= {
            "ssl": True,
            "ssl_ca_certs": tls.ca or None,
            "ssl_certfile": tls.certificate or None,
            "ssl_keyfile": tls.key or None,
            "ssl_password": tls.key_password or None,
            "ssl_cert_reqs": "required" if tls.verify else "none",
            "ssl_check_hostname": tls.verify and tls.check_hostname,
        }
    return options
