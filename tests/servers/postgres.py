"""A PostgreSQL server of a test's own, on a free loopback port."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from cardoon.postgres.location import locate
from cardoon.postgres.schema import upgrade
from tests.servers.ground import (
    LOOPBACK,
    START_SECONDS,
    Authority,
    Process,
    find_program,
    free_port,
    running,
)

FOLDERS = tuple(
    str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
)
PASSWORD = "p@ss:word/%"
"""With what has to be quoted in a URL."""


class PostgresServer:
    """Passwords by SCRAM, and with an authority TLS with client certificates and nothing else.

    Without `durable` it does not wait for the disk, and loses nothing but what a power failure would.
    Its data lie in a new folder `below` another, which everybody must be able to enter.
    """

    def __init__(
        self, *, tls: Authority | None = None, durable: bool = False, below: Path | None = None
    ) -> None:
        initdb = find_program("initdb", folders=FOLDERS)
        program = find_program("postgres", folders=FOLDERS)
        self.port = free_port()
        self._tls = tls
        # Not in a folder of pytest's: nobody else may enter those, and PostgreSQL does not run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="cardoon-postgres-", dir=below))
        self.data = self.folder / "data"
        self._options = unprivileged(self.folder)
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        subprocess.run(
            [
                *(initdb, "-D", self.data, "-U", "owner", "-A", "scram-sha-256", "-E", "UTF8"),
                *("--no-locale", "--no-sync", f"--pwfile={secret}"),
            ],
            check=True, capture_output=True, cwd=self.folder, **self._options,
        )  # fmt: skip
        self._configure(durable)
        self._process = Process(
            self.folder, [program, "-D", str(self.data)], cwd=self.folder, **self._options
        )

    @property
    def url(self) -> str:
        """As its owner."""
        return self.url_of("owner", PASSWORD)

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    def url_of(self, user: str, password: str = PASSWORD, **options: object) -> str:
        """As a user; with TLS the certificate is the user's."""
        named = {name: str(value) for name, value in options.items()}
        host = LOOPBACK
        if self._tls is not None:
            host = self._tls.host
            pair = self._tls.issue(user)
            named = {
                "sslmode": "verify-full",
                "sslrootcert": str(self._tls.file),
                "sslcert": str(pair.certificate),
                "sslkey": str(pair.key),
                **named,
            }
        tail = "&".join(f"{name}={quote(value, safe='')}" for name, value in named.items())
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@{host}:{self.port}/postgres" + (f"?{tail}" if tail else "")

    def connect(self, **options: object) -> psycopg.Connection:
        """A connection for the test itself, as the owner, where every statement commits."""
        return psycopg.connect(self.url, autocommit=True, **options)

    def start(self) -> None:
        """Start it, and wait until it lets somebody in."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._process.start(self._answers)

    def kill(self) -> None:
        """As a failure of power does to its processes; what the system was given to write remains."""
        pids = self._pids()
        self._process.kill()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # The next one starts when nobody is left who uses the memory of this one.
        deadline = time.monotonic() + START_SECONDS
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        """As an administrator does: everybody is thrown out. Safe twice."""
        self._process.stop(signal.SIGINT)

    def restart(self) -> None:
        """End it, and start it again."""
        self.stop()
        self.start()

    def discard(self) -> None:
        """Delete its data, once it has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes, each of which has a session of its own."""
        for pid in self._pids():
            os.kill(pid, number)

    def _pids(self) -> list[int]:
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)],
            check=True,
            capture_output=True,
            text=True,
        )
        return [self.pid, *map(int, listed.stdout.split())]

    def _configure(self, durable: bool) -> None:
        lines = [
            f"listen_addresses = '{LOOPBACK if self._tls is None else self._tls.address}'",
            f"port = {self.port}",
            f"unix_socket_directories = '{self.folder}'",
            f"fsync = {'on' if durable else 'off'}",
            "max_connections = 60",
            "shared_buffers = 64MB",
            "logging_collector = off",
            "max_prepared_transactions = 0",
        ]
        rules = ["local all all scram-sha-256", "host all all 127.0.0.1/32 scram-sha-256"]
        if self._tls is not None:
            pair = self._tls.issue("server")
            for source, name in (
                (pair.certificate, "server.pem"),
                (pair.key, "server.key"),
                (self._tls.file, "ca.pem"),
            ):
                self._give(source, self.data / name)
            lines += [
                "ssl = on",
                "ssl_cert_file = 'server.pem'",
                "ssl_key_file = 'server.key'",
                "ssl_ca_file = 'ca.pem'",
            ]
            rules = ["hostssl all all samenet scram-sha-256 clientcert=verify-full"]
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")
        (self.data / "pg_hba.conf").write_text("\n".join(rules) + "\n")

    def _give(self, source: Path, target: Path) -> None:
        shutil.copy(source, target)
        target.chmod(0o600)
        if "user" in self._options:
            shutil.chown(target, self._options["user"])

    def _answers(self) -> bool:
        try:
            self.connect(connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def unprivileged(folder: Path) -> dict[str, str]:
    """How to start what must not run as root; the folder becomes that user's."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            group = pwd.getpwnam(name).pw_gid
        except KeyError:
            continue
        shutil.chown(folder, name, group)
        return {"user": name, "group": group, "extra_groups": []}
    raise AssertionError("no user but root to start PostgreSQL as")


class Store:
    """A server with Cardoon's tables, and how to empty them."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.url = server.url
        upgrade(locate(self.url, setting="broker_url"))
        self._connection = server.connect()
        names = self._connection.execute(
            "SELECT string_agg('cardoon.' || relname, ', ') FROM pg_class "
            "WHERE relnamespace = 'cardoon'::regnamespace AND relkind = 'r' "
            "AND relname <> 'schema_version'"
        ).fetchone()
        self._truncate = f"TRUNCATE {names[0]}"

    def empty(self) -> str:
        """Delete all that is in the tables; returns the URL."""
        self._connection.execute(self._truncate)
        return self.url

    def ask(self, statement: str, *parameters: object) -> list[tuple]:
        """Look into the tables as their owner."""
        cursor = self._connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def reconnect(self) -> None:
        """After the server was away."""
        self._connection.close()
        self._connection = self.server.connect()

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


def open_store(**options: object) -> Iterator[Store]:
    """Start a server with tables, and delete it afterwards."""
    server = PostgresServer(**options)
    try:
        with running(server):
            store = Store(server)
            yield store
            store.close()
    finally:
        server.discard()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Store]:
    """A server for all tests of a folder that leave it as it is."""
    yield from open_store()


@pytest.fixture(scope="session")
def postgres_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The same, with TLS both ways."""
    yield from open_store(tls=Authority(tmp_path_factory.mktemp("authority")))
