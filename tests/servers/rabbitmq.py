"""A RabbitMQ node of our own: free ports, a cookie and a name of its own, no plug-ins."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.servers.ground import LOOPBACK, Authority, Process, find_program, free_port, listens


class RabbitServer:
    """One node in a folder. Its only user is `guest`, from this host. With a `peer` it joins that one.

    Where it is `mutual`, it wants certificates of its clients.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tls: Authority | None = None,
        mutual: bool = False,
        peer: RabbitServer | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self.tls_port = free_port(), free_port()
        self.tls = tls
        self._mutual = mutual
        self._peer = peer
        self._mapper = free_port() if peer is None else peer._mapper
        self._distribution = free_port()
        self.name = f"cardoon{self._distribution}@localhost"
        self._secret = secrets.token_hex(16) if peer is None else peer._secret
        cookie = folder / ".erlang.cookie"
        cookie.write_text(self._secret)
        cookie.chmod(0o400)
        (folder / "enabled_plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text("\n".join(self._settings()) + "\n")
        script = _find("rabbitmq-server")
        self._process = Process(folder, [script], env=self.environment, cwd=folder)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not ended by us since."""
        return self._process.is_running

    @property
    def _address(self) -> str:
        return LOOPBACK if self.tls is None else self.tls.address

    @property
    def environment(self) -> dict[str, str]:
        """What the node and its tools are started with."""
        folder = str(self.folder)
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "HOME": folder,
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "ERL_EPMD_PORT": str(self._mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": f"{folder}/db",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/environment",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    @property
    def url(self) -> str:
        """Of the broker, as its administrator."""
        return self.url_of("guest", "guest")

    def url_of(self, username: str, password: str, *, vhost: str = "") -> str:
        """Of the broker, as somebody else."""
        account = f"{username}:{password}@"
        if self.tls is None:
            return f"amqp://{account}127.0.0.1:{self.port}/{vhost}"
        return (
            f"amqps://{account}{self.tls.host}:{self.tls_port}/{vhost}?ssl_ca_certs={self.tls.file}"
        )

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        port = self.port if self.tls is None else self.tls_port
        self._process.start(lambda: listens(port, self._address))

    def stop(self) -> None:
        """End it in order, and the port mapper that it started; safe twice."""
        self._process.stop(timeout=30)
        if self._peer is not None:  # which has started the mapper
            return
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run(
                [find_program("epmd"), "-kill"], env=self.environment, check=False, timeout=10,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip

    def kill(self) -> None:
        """End it as `kill -9` does; what it listened on is free when this returns."""
        self._process.kill()
        port = self.port if self.tls is None else self.tls_port
        self._wait(lambda: not listens(port, self._address), "end")

    def wait_until_kept(self, queue: str) -> None:
        """Wait until the node has noted on disk that it holds a queue, which takes it a moment.

        One that was made just before a `kill -9` comes back empty and out of reach (seen with 3.10.8).
        """
        self._wait(
            lambda: any(
                queue.encode() in path.read_bytes() for path in self.folder.rglob("names.dets")
            ),
            f"note {queue}",
        )

    def freeze(self) -> None:
        """Stop all its threads; its connections stay."""
        self._process.send(signal.SIGSTOP)
        self._wait(lambda: set(self._states()) == {"T"}, "stop")

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send(signal.SIGCONT)

    def control(self, *arguments: str) -> str:
        """What `rabbitmqctl` says; raises if it fails."""
        ended = subprocess.run(
            [_find("rabbitmqctl"), *arguments], env=self.environment, check=False, timeout=60,
            capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == 0, f"rabbitmqctl {arguments}: {ended.stdout} {ended.stderr}"
        return ended.stdout

    def _states(self) -> list[str]:
        """Of each of its processes, as the kernel has them."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, group = status.read_text().rpartition(")")[2].split()[:3]
                if int(group) == self._process.pid:
                    found.append(state)
        return found

    def _wait(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < deadline, f"the node did not {what} in time"
            time.sleep(0.02)

    def _settings(self) -> list[str]:
        lines = ["log.console.level = warning", "loopback_users.guest = true"]
        if self._peer is not None:
            lines.append("cluster_formation.peer_discovery_backend = classic_config")
            names = (self._peer.name, self.name)
            lines += [
                f"cluster_formation.classic_config.nodes.{number} = {name}"
                for number, name in enumerate(names, 1)
            ]
        if self.tls is None:
            return [*lines, f"listeners.tcp.1 = 127.0.0.1:{self.port}"]
        pair = self.tls.issue("rabbitmq")
        return [
            *lines,
            "listeners.tcp = none",
            f"listeners.ssl.1 = {self._address}:{self.tls_port}",
            f"ssl_options.cacertfile = {self.tls.file}",
            f"ssl_options.certfile = {pair.certificate}",
            f"ssl_options.keyfile = {pair.key}",
            f"ssl_options.verify = {'verify_peer' if self._mutual else 'verify_none'}",
            f"ssl_options.fail_if_no_peer_cert = {str(self._mutual).lower()}",
            "ssl_options.versions.1 = tlsv1.2",
        ]


class RabbitCluster:
    """Three nodes, on each of which quorum queues have a copy."""

    def __init__(self, folder: Path) -> None:
        first = RabbitServer(folder / "1")
        self.nodes = [first, *(RabbitServer(folder / each, peer=first) for each in ("2", "3"))]

    @property
    def url(self) -> str:
        """Of all nodes, in the order in which they are tried."""
        return ";".join(node.url for node in self.nodes)

    def start(self) -> None:
        """Start those that do not run: the first time one after the other, so that they find each other."""
        for node in self.nodes:
            if not node.is_running:
                node.start()

    def stop(self) -> None:
        """End all in order; safe twice."""
        for node in reversed(self.nodes):
            node.stop()

    def kill(self) -> None:
        """End all as `kill -9` does."""
        for node in self.nodes:
            node.kill()

    def leader_of(self, queue: str) -> RabbitServer:
        """The node through which all of a queue goes at this moment."""
        running = next(node for node in self.nodes if node.is_running)
        told = running.control("-q", "list_queues", "name", "leader", "--no-table-headers")
        [leader] = [
            line.split("\t")[1] for line in told.splitlines() if line.split("\t")[0] == queue
        ]
        return next(node for node in self.nodes if node.name == leader)


def _find(program: str) -> str:
    """The program itself: those that stand in for it in `PATH` insist on a system user."""
    for folder in sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin")):
        if (folder / program).exists():
            return str(folder / program)
    return find_program(program, folders=("/opt/rabbitmq/sbin",))
