"""Where the messages of a run lie: a file, or a server that the run starts, stops, kills and fills up.

To add a broker, add a line to `PLACES`.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from cardoon import brokers
from cardoon.broker import Broker
from cardoon.clock import SystemClock
from cardoon.postgres.location import locate
from cardoon.postgres.schema import upgrade
from faults.proxy import Proxy
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitCluster, RabbitServer
from tests.servers.redis import RedisServer

SMALL_DISKS = {"postgres": "160m", "rabbitmq": "192m"}
"""By broker, where it is not `SMALL_DISK`: an empty PostgreSQL takes 55 MB, and RabbitMQ wants 50 MB free."""
SMALL_DISK = "32m"
CLUSTER = "rabbitmq3"
"""Three nodes of RabbitMQ, for the faults of single ones."""


class Server(Protocol):
    """What is needed of a server; `tests/servers` has them."""

    @property
    def url(self) -> str:
        """How clients reach it."""
        ...

    def start(self) -> object:
        """Start it, with the data that it has; returns when it answers."""
        ...

    def stop(self) -> None:
        """End it in order."""
        ...

    def kill(self) -> None:
        """End it as `kill -9` does."""
        ...


class Place:
    """A broker of one run, and the way there."""

    def __init__(
        self,
        store: str | Server,
        *,
        results: str = "",
        discard: Callable[[], object] | None = None,
    ) -> None:
        self.own_results = results
        """Where results lie, and what the broker itself cannot keep; empty where it keeps them."""
        self._discard = discard
        self.server = None if isinstance(store, str) else store
        self.direct_url = store if isinstance(store, str) else store.url
        """For who watches the run."""
        self.url = self.direct_url
        """For workers and clients, perhaps through the proxy."""
        self.proxy: Proxy | None = None

    def connect(self) -> Broker:
        """The broker, for who watches the run."""
        clock = SystemClock()
        companion = brokers.connect(self.own_results, clock=clock) if self.own_results else None
        return brokers.connect(self.direct_url, clock=clock, companion=companion)

    def go_through_proxy(self) -> Proxy:
        """Put a proxy between the broker and everyone who is started from now on."""
        parts = urlsplit(self.direct_url)
        assert parts.port is not None, "only a server has a network"
        self.proxy = Proxy(parts.port)
        user = parts.netloc.rpartition("@")[0]
        where = f"{user}@127.0.0.1" if user else "127.0.0.1"
        self.url = urlunsplit(parts._replace(netloc=f"{where}:{self.proxy.port}"))
        return self.proxy

    def close(self) -> None:
        """End what runs."""
        if self.proxy is not None:
            self.proxy.close()
        if self.server is not None:
            self.server.kill()
        if self._discard is not None:
            self._discard()


class _MigratedServer(PostgresServer):
    """PostgreSQL with the tables of Cardoon, on a disk that it waits for."""

    _is_migrated = False

    def start(self) -> None:
        """Start it; the first time, make the tables."""
        super().start()
        if not self._is_migrated:
            upgrade(locate(self.url, setting="broker_url"))
            self._is_migrated = True


def _postgres(folder: Path) -> Place:
    server = _MigratedServer(durable=True, below=folder)
    return Place(server, discard=server.discard)


PLACES: dict[str, Callable[[Path], Place]] = {
    "sqlite": lambda folder: Place(f"sqlite:///{folder / 'cardoon.db'}"),
    "redis": lambda folder: Place(RedisServer(folder)),
    "postgres": _postgres,
    "rabbitmq": lambda folder: Place(
        RabbitServer(folder), results=f"sqlite:///{folder / 'cardoon.db'}"
    ),
    CLUSTER: lambda folder: Place(
        RabbitCluster(folder), results=f"sqlite:///{folder / 'cardoon.db'}"
    ),
}
"""By the name of the broker: makes its place, with its data below a folder or gone with the place."""


class SmallDisk:
    """A small file system on an empty folder, which can be filled; needs root and Linux."""

    def __init__(self, path: Path, *, size: str = SMALL_DISK) -> None:
        self._path = path
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "faults", str(path)]
        subprocess.run(command, check=True, capture_output=True)

    @property
    def _ballast(self) -> Path:
        return self._path / "ballast"

    def fill(self) -> None:
        """Leave no byte free, now and after somebody freed one."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 16, 1 << 12):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink()

    def close(self) -> None:
        """Unmount it, even if somebody has a file open there."""
        subprocess.run(["umount", "-l", str(self._path)], check=False, capture_output=True)


@functools.cache
def can_mount() -> bool:
    """Whether small disks can be made here."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            SmallDisk(Path(folder)).close()
        except (OSError, subprocess.CalledProcessError):
            return False
    return True
