"""Redis servers and sentinels for tests, each of its own and on loopback."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterable
from pathlib import Path

from tests.servers.ground import Authority, Process, find_program, free_port, listens

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
        self.socket = folder / "r.sock"
        self.acl = acl
        lines = [
            "bind 127.0.0.1",
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
            f"rediss://{who}localhost:{self.port}/{database}?ssl_ca_certs={self.tls.file}"
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
            return listens(self.port) and self.ask("PING").startswith(b"+PONG")
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
