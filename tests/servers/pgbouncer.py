"""A PgBouncer of a test's own, before a PostgreSQL server."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from tests.servers.ground import Process, find_program, free_port, listens
from tests.servers.postgres import PASSWORD, PostgresServer, unprivileged


class PgBouncer:
    """Lends few connections to whoever asks: for a session, or for a transaction."""

    def __init__(self, server: PostgresServer, *, mode: str) -> None:
        program = find_program("pgbouncer")
        self.port = free_port()
        self._server = server
        # Nobody else may enter pytest's folders, and it does not run as root.
        self._folder = Path(tempfile.mkdtemp(prefix="cardoon-pgbouncer-"))
        options = unprivileged(self._folder)
        (self._folder / "users").write_text(f'"owner" "{PASSWORD}"\n')
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(f"""[databases]
postgres = host=127.0.0.1 port={server.port} dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {self._folder}/users
pool_mode = {mode}
default_pool_size = {8 if mode == "session" else 2}
""")
        self._process = Process(self._folder, [program, str(settings)], **options)

    @property
    def url(self) -> str:
        """As the owner of the server behind it."""
        return self._server.url.replace(f":{self._server.port}/", f":{self.port}/")

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._process.start(lambda: listens(self.port))

    def stop(self) -> None:
        """End it; safe twice."""
        self._process.stop()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder)
