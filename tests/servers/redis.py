"""Redis servers, sentinels and clusters for tests, each of its own and on loopback."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.servers.ground import (
    LOOPBACK,
    START_SECONDS,
    Authority,
    Process,
    find_program,
    free_port,
    listens,
)

ADMIN = "throw-away"
"""The password of the default user of a server with access rules."""


class RedisServer:
    """One server with a folder of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        tls: Authority | None = None,
        acl: Iterable[str] | None = None,
        append_only: bool = True,
        replica_of: int = 0,
        settings: Iterable[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.tls = tls
        self.address = LOOPBACK if tls is None else tls.address
        self.socket = folder / "r.sock"
        self.acl = acl
        lines = [
            f"bind {self.address}",
            f"dir {folder}",
            f"unixsocket {self.socket}",
            f"appendonly {'yes' if append_only else 'no'}",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "repl-diskless-sync-delay 0",
            "shutdown-timeout 0",
            *settings,
        ]
        if tls is None:
            lines.append(f"port {self.port}")
        else:
            server = tls.issue("server")
            self.client = tls.issue("client")
            lines += [
                "port 0",
                f"tls-port {self.port}",
                f"tls-cert-file {server.certificate}",
                f"tls-key-file {server.key}",
                f"tls-ca-cert-file {tls.file}",
                "tls-auth-clients yes",
            ]
        if replica_of:
            lines.append(f"replicaof 127.0.0.1 {replica_of}")
        if acl is not None:
            users = folder / "users.acl"
            users.write_text(
                "\n".join([f"user default on >{ADMIN} ~* &* +@all", *acl]) + "\n", "utf-8"
            )
            lines.append(f"aclfile {users}")
        (folder / "redis.conf").write_text("\n".join(lines) + "\n", "utf-8")
        program = find_program("redis-server", "valkey-server")
        self._process = Process(folder, [program, str(folder / "redis.conf")])

    @property
    def url(self) -> str:
        """Of its first database, with what a client needs to be let in."""
        return self.url_of()

    def url_of(self, *, database: int = 0, user: str = "", password: str = "") -> str:
        """Of a database, for a user."""
        if self.acl is not None and not user:
            user, password = "default", ADMIN
        who = f"{user}:{password}@" if user else ""
        if self.tls is None:
            return f"redis://{who}127.0.0.1:{self.port}/{database}"
        return (
            f"rediss://{who}{self.tls.host}:{self.port}/{database}?ssl_ca_certs={self.tls.file}"
            f"&ssl_certfile={self.client.certificate}&ssl_keyfile={self.client.key}"
        )

    @property
    def pid(self) -> int:
        """Of the running server."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._process.log

    def start(self) -> None:
        """Start it, and wait until it has read its data."""
        self._process.start(self._answers)

    def stop(self) -> None:
        """End it in order; safe twice."""
        # One that has just become a replica may not hear the signal.
        self._process.stop(timeout=3)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()

    def restart(self) -> None:
        """Start it again, on the same port and with the same files."""
        self.start()

    @contextlib.contextmanager
    def frozen(self):
        """Stop it from answering for a while, with its connections open."""
        self._process.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send(signal.SIGCONT)

    def ask(self, *words: str) -> bytes:
        """What it answers to one command, as it stands on the wire."""
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as link:
            link.settimeout(5)
            link.connect(str(self.socket))
            if self.acl is not None:
                link.sendall(f"AUTH default {ADMIN}\r\n".encode())
                link.recv(100)
            packed = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            link.sendall(f"*{len(words)}\r\n{packed}".encode())
            return link.recv(1_000_000)

    def _answers(self) -> bool:
        try:
            return listens(self.port, self.address) and self.ask("PING").startswith(b"+PONG")
        except OSError:
            return False


class RedisSentinel:
    """One sentinel, which alone decides that its master is gone."""

    def __init__(self, folder: Path, *, master: RedisServer, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.name = name
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"dir {folder}",
            f"sentinel monitor {name} 127.0.0.1 {master.port} 1",
            f"sentinel down-after-milliseconds {name} 500",
            f"sentinel failover-timeout {name} 5000",
        ]
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n", "utf-8")
        program = find_program("redis-server", "valkey-server")
        command = [program, str(folder / "sentinel.conf"), "--sentinel"]
        self._process = Process(folder, command)

    @property
    def url(self) -> str:
        """For a client that asks it for the master."""
        return f"sentinel://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._process.log

    def start(self) -> None:
        """Start it."""
        self._process.start(lambda: listens(self.port))

    def stop(self) -> None:
        """End it; safe twice."""
        self._process.stop()


class RedisCluster:
    """Three masters, and a replica of each where that is asked for."""

    def __init__(
        self, folder: Path, *, tls: Authority | None = None, replicated: bool = False
    ) -> None:
        self._buses = [free_port() for _ in range(6 if replicated else 3)]
        self.nodes = [
            RedisServer(folder / f"node{number}", tls=tls, settings=_as_node(bus, tls=tls))
            for number, bus in enumerate(self._buses)
        ]
        self.masters, self.replicas = self.nodes[:3], self.nodes[3:]

    @property
    def url(self) -> str:
        """Of every node."""
        return ";".join(node.url for node in self.nodes)

    def start(self) -> None:
        """Start the nodes, and wait until each takes part and knows who has what."""
        for node in self.nodes:
            node.start()
        first = self.nodes[0]
        for node, bus in zip(self.nodes[1:], self._buses[1:], strict=True):
            first.ask("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(bus))
        share = -(-SLOTS // len(self.masters))
        for number, node in enumerate(self.masters):
            last = min((number + 1) * share, SLOTS) - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(number * share), str(last))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        _wait_until(lambda: all(self._agrees(node, len(self.nodes)) for node in self.nodes))
        for master, replica in zip(self.masters, self.replicas, strict=False):
            replica.ask("CLUSTER", "REPLICATE", self.name_of(master))
        for master, _ in zip(self.masters, self.replicas, strict=False):
            _wait_until(lambda master=master: b"state=online" in master.ask("INFO", "replication"))

    def stop(self) -> None:
        """End all of it; safe twice."""
        for node in self.nodes:
            node.stop()

    def name_of(self, node: RedisServer) -> str:
        """By which its cluster knows a node."""
        return node.ask("CLUSTER", "MYID").split()[1].decode()

    def owner_of(self, slot: int) -> RedisServer:
        """The master that has a slot, as it says itself."""
        return next(node for node in self.nodes if self._has(node, slot))

    def begin_to_move(self, slot: int, to: RedisServer) -> RedisServer:
        """Have a slot be on its way, with all of its keys still where they were; who has it."""
        owner = self.owner_of(slot)
        to.ask("CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.name_of(owner))
        owner.ask("CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.name_of(to))
        return owner

    def move_keys(self, slot: int, to: RedisServer, *, most: int = 1_000_000) -> int:
        """Move so many keys of a slot that is on its way; how many those were."""
        owner, moved = self.owner_of(slot), 0
        while moved < most:
            keys = owner.ask("CLUSTER", "GETKEYSINSLOT", str(slot), "1").split(b"\r\n")
            if len(keys) < 3:
                break
            key = keys[2].decode()
            said = owner.ask("MIGRATE", "127.0.0.1", str(to.port), key, "0", "5000")
            assert said.startswith(b"+"), said
            moved += 1
        return moved

    def end_move(self, slot: int, to: RedisServer) -> None:
        """Say to all masters who has the slot from now on."""
        name = self.name_of(to)
        for node in (to, *self.masters):
            node.ask("CLUSTER", "SETSLOT", str(slot), "NODE", name)

    def _has(self, node: RedisServer, slot: int) -> bool:
        mine = node.ask("CLUSTER", "NODES").decode().partition("myself,master")[2].split("\n")[0]
        for span in mine.split()[5:]:
            first, _, last = span.partition("-")
            if first.isdecimal() and int(first) <= slot <= int(last or first):
                return True
        return False

    def _agrees(self, node: RedisServer, count: int) -> bool:
        told = node.ask("CLUSTER", "INFO")
        return b"cluster_state:ok" in told and f"cluster_known_nodes:{count}".encode() in told


SLOTS = 16_384


def _as_node(bus: int, *, tls: Authority | None) -> list[str]:
    lines = ["cluster-enabled yes", "cluster-node-timeout 1000", f"cluster-port {bus}"]
    return lines if tls is None else [*lines, "tls-cluster yes", "tls-replication yes"]


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "the cluster did not come together in time"
        time.sleep(0.02)
