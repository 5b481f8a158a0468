"""Which server is the one to talk to: the first of several that answers, or whom sentinels or a cluster name."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from cardoon.endpoints import Access, Endpoint
from cardoon.exceptions import ImproperlyConfigured
from cardoon.redis.connection import Connection, connect
from cardoon.redis.failures import ConnectionLostError, ServerError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sentinel:
    """What only sentinels need to know."""

    master_name: str
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)


class Finder:
    """Makes connections. Not to be shared by threads that connect at the same moment."""

    def __init__(
        self, endpoints: Sequence[Endpoint], *, sentinel: Sentinel | None, access: Access
    ) -> None:
        self._endpoints = list(endpoints)
        self._sentinel = sentinel
        self._access = access
        self._contexts: dict[Any, ssl.SSLContext | None] = {}
        self._owner: Endpoint | None = None
        """The node that has our keys, as another node of its cluster has said."""

    @property
    def place(self) -> str:
        """The servers, for people."""
        return ", ".join(map(str, self._endpoints))

    def heed(self, refused: ServerError) -> None:
        """Do as a server says that does not serve us at this moment.

        Raises `ImproperlyConfigured` where it sends us to a node that must not be reached in plain text.
        """
        moved = refused.moved_to
        if moved is not None:
            here = self._owner or self._endpoints[0]
            self._owner = self._named(moved[0] or here.host, moved[1], by="cluster")
        elif refused.code not in _ON_ITS_WAY:
            self._turn()

    def _turn(self) -> None:
        """Begin with the next one: the first is of no use at this moment."""
        self._owner = None
        self._endpoints.append(self._endpoints.pop(0))

    def connect(self, deadline: float) -> Connection:
        """A connection to the first that answers; raises `ConnectionLostError`, or `ServerError` by the last."""
        faults: list[str] = []
        if (owner := self._owner) is not None:
            try:
                return self._reach(owner, deadline)
            except ConnectionLostError as fault:
                faults.append(str(fault))
            self._owner = None  # the others know who takes its place
        for _ in range(len(self._endpoints)):
            endpoint = self._endpoints[0]
            try:
                if self._sentinel is None:
                    return self._reach(endpoint, deadline)
                return self._ask_sentinel(endpoint, self._sentinel, deadline)
            except ServerError as refused:
                if len(self._endpoints) == 1:
                    raise
                faults.append(f"{endpoint}: {refused}")
            except ConnectionLostError as fault:
                faults.append(str(fault))
            self._turn()
        raise ConnectionLostError("; ".join(faults))

    def _reach(self, endpoint: Endpoint, deadline: float) -> Connection:
        if endpoint.tls not in self._contexts:
            tls = endpoint.tls
            self._contexts[tls] = None if tls is None else tls.context()
        return connect(endpoint, self._contexts[endpoint.tls], deadline=deadline)

    def _ask_sentinel(self, endpoint: Endpoint, sentinel: Sentinel, deadline: float) -> Connection:
        """A connection to the master that a sentinel names, if it takes itself for one."""
        asked = dataclasses.replace(
            endpoint, username=sentinel.username, password=sentinel.password, path=""
        )
        connection = self._reach(asked, deadline)
        try:
            told = connection.ask(
                "SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinel.master_name, deadline=deadline
            )
        finally:
            connection.close()
        if told is None:
            raise ConnectionLostError(
                f"{endpoint}: the sentinel knows no master {sentinel.master_name!r}"
            )
        host, port = told
        master = self._named(host.decode(), int(port), by="sentinel")
        connection = self._reach(master, deadline)
        try:
            role, *_ = connection.ask("ROLE", deadline=deadline)
        except BaseException:
            connection.close()
            raise
        if role != b"master":
            connection.close()
            raise ConnectionLostError(
                f"{master}: the sentinel takes it for the master, and it does not"
            )
        return connection

    def _named(self, host: str, port: int, *, by: str) -> Endpoint:
        """A server that another one names: reached as that one is, and no less safely."""
        named = dataclasses.replace(self._endpoints[0], host=host, port=port, socket="")
        if named.tls is None and not named.is_local and not self._access.allow_plaintext:
            raise ImproperlyConfigured(
                f"broker_url: the {by} names {named}, and plain text to it would show passwords and"
                " tasks to everybody on the way; use rediss:// or sentinels://, or set"
                " unsafe_allow_plaintext_broker=True where the network itself is encrypted"
            )
        return named


_ON_ITS_WAY = frozenset({"ASK", "TRYAGAIN"})
"""What the right node says while the slot of our keys leaves it: nobody else has them yet."""


def parse_sentinel(options: Mapping[str, Any]) -> Sentinel:
    """What is said of sentinels, in the transport options or behind the URL's `?`.

    Raises `ImproperlyConfigured`.
    """
    name = options.get("master_name")
    if not isinstance(name, str) or not name:
        raise ImproperlyConfigured(
            "broker_transport_options: sentinel:// needs master_name, the name by which the"
            " sentinels know the master"
        )
    return Sentinel(
        master_name=name,
        username=options.get("sentinel_username", ""),
        password=options.get("sentinel_password", ""),
    )
