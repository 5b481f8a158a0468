"""Real servers, a real Celery client and worker, a real bridge and worker: each a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from cardoon import Cardoon
from tests.servers.ground import (
    Authority,
    Process,
    find_program,
    free_port,
    lacking,
    listens,
    running,
)
from tests.servers.redis import RedisServer
from tests.servers.rsa_pair import make_rsa_pair

PROJECT = Path(__file__).parent / "project"
DEADLINE = 60.0


class Server:
    """One server, the URL of a part of it, and its process."""

    def __init__(self, kind: str, process: Process, port: int, is_ready) -> None:
        self.kind = kind
        self.process = process
        self.port = port
        self._is_ready = is_ready

    def start(self) -> None:
        self.process.start(self._is_ready)

    def stop(self) -> None:
        self.process.stop()

    @property
    def url(self) -> str:
        if self.kind == "redis":
            return f"redis://127.0.0.1:{self.port}/0"
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"


def redis_server(folder: Path) -> Server:
    port = free_port()
    command = [
        find_program("redis-server", "valkey-server"), "--port", str(port), "--bind", "127.0.0.1",
        "--save", "", "--dir", str(folder),
    ]  # fmt: skip
    return Server("redis", Process(folder, command), port, lambda: listens(port))


def rabbitmq_server(folder: Path) -> Server:
    program = find_program("rabbitmq-server", folders=("/usr/lib/rabbitmq/bin",))
    if Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists():  # not the one that changes the user
        program = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    port, dist, epmd = free_port(), free_port(), free_port()
    (folder / "plugins").write_text("[].\n")
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.file = false\n"
    )
    env = {
        **os.environ,
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"interop{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(dist),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
    }

    def answers() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
                probe.settimeout(5)
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(probe.recv(1))
        except OSError:
            return False

    made = Server("rabbitmq", Process(folder, [program], env=env), port, answers)
    stop = made.stop

    def stop_all() -> None:
        stop()
        # The port mapper that Erlang has started for this node alone; it stays as long as it knows one.
        deadline = time.monotonic() + DEADLINE
        while listens(epmd) and time.monotonic() < deadline:
            subprocess.run(
                [find_program("epmd"), "-kill"], env=env, capture_output=True, check=False
            )

    made.stop = stop_all
    return made


STARTERS = {"redis": redis_server, "rabbitmq": rabbitmq_server}


def _started(kind, tmp_path_factory):
    pytest.importorskip("celery", reason="celery comes with the extra `test`")
    if sys.platform == "win32":
        lacking(kind)
    with running(STARTERS[kind](tmp_path_factory.mktemp(kind))) as server:
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    yield from _started("redis", tmp_path_factory)


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory):
    yield from _started("rabbitmq", tmp_path_factory)


@pytest.fixture(params=["redis", "rabbitmq"])
def server(request):
    """Either server; shared by the tests, each of which has queues of its own."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["redis", "rabbitmq"])
def private_server(request, tmp_path):
    """A server that a test may do away with."""
    with running(STARTERS[request.param](tmp_path)) as server:
        yield server


@pytest.fixture
def app(tmp_path):
    made = Cardoon("ours", state_directory=str(tmp_path / ".cardoon"), set_as_current=False)
    yield made
    made.close()


@pytest.fixture
def redis_only(site):
    """A Redis client, for those that look into the lists; not for RabbitMQ."""
    if site.server.kind != "redis":
        pytest.skip("about Redis alone")
    library = pytest.importorskip("redis")
    with library.Redis(port=site.server.port) as client:
        yield client


class Client:
    """A Celery client that does as it is told."""

    def __init__(self, site, *, env=None) -> None:
        with site.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(PROJECT / "client.py")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env=site.env(**(env or {})), cwd=site.folder,
            )  # fmt: skip
        self._queue = site.queue
        site.processes.append(self._process)

    def __call__(self, do, **wish):
        self.ask(do, **wish)
        return self.answer()

    def ask(self, do, **wish):
        """Have it begin, and do not wait for the answer."""
        self._process.stdin.write(json.dumps({"do": do, **wish}) + "\n")
        self._process.stdin.flush()

    def answer(self):
        line = self._process.stdout.readline()
        assert line, "the Celery client has died"
        return json.loads(line)

    def send(self, name, *args, times=1, **options):
        options = {"queue": self._queue, **options}
        return self("send", name=name, args=args, options=options, times=times)

    def get(self, id, timeout=30):
        return self("get", id=id, timeout=timeout)


class Site:
    """A folder with an app of ours, and the processes around one of the servers."""

    def __init__(self, folder: Path, server: Server | Encrypted, queue: str) -> None:
        self.folder = folder
        self.server = server
        self.queue = queue
        self.state = folder / ".cardoon"
        self.log = folder / "site.log"
        self.app = Cardoon("ours", state_directory=str(self.state), set_as_current=False)
        self.processes = []
        self.backend = None
        if server.kind == "redis":
            self.backend = server.url.removesuffix("/0") + "/1"
        else:
            self.backend = "rpc://"

    def env(self, **more):
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, sys.path)]),
            "STATE": str(self.state),
            "BROKER": self.server.url,
            "BACKEND": self.backend,
            **more,
        }

    def start(self, *command, env=None):
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.env(**(env or {})), stdout=subprocess.PIPE,
                stderr=log, text=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def worker(self, *arguments):
        return self.start(
            sys.executable, "-m", "cardoon", "-q", "-A", "ours", "worker", "-Q", "from_celery",
            "-P", "threads", "-c", "4", "-l", "info", *arguments,
        )  # fmt: skip

    def bridge(self, *arguments, task="shop.*", results=True, quiet=False):
        told = ["--result-backend", self.backend] if results else []
        process = self.start(
            sys.executable, "-m", "cardoon", "-A", "ours", "bridge", "--from", self.server.url,
            "--queue", self.queue, "--to", "from_celery", "--task", task, *told, *arguments,
        )  # fmt: skip
        if not quiet:
            line = process.stdout.readline()
            assert "bridge" in line, self.said()
        return process

    def celery_worker(self, env=None):
        process = self.start(
            sys.executable, "-m", "celery", "-A", "theirs", "worker", "-Q", self.queue, "-P", "solo",
            "--without-gossip", "--without-mingle", "-l", "info", env=env,
        )  # fmt: skip
        self.until(lambda: " ready." in self.said(), "Celery's worker")
        return process

    def client(self, **env):
        return Client(self, env=env)

    def said(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def lines(self, name):
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def refused(self):
        command = [sys.executable, "-m", "cardoon", "-A", "ours", "quarantine", "list", "--json"]
        done = subprocess.run(
            command, cwd=self.folder, env=self.env(), capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    def until_refused(self, count=1):
        found = []

        def came():
            found[:] = self.refused()
            return len(found) >= count

        self.until(came, f"{count} refused messages")
        return found

    def audit(self):
        path = self.state / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def until(self, condition, what=""):
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {what}\n{self.said()[-4000:]}"
            time.sleep(0.05)

    def close(self):
        self.app.close()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


@pytest.fixture
def keys(tmp_path):
    """Keys of a shop, of a stranger and of Celery's worker; the worker trusts all, the bridge the shop."""
    folder = tmp_path / "keys"
    (folder / "trusted").mkdir(parents=True)
    for name in ("shop", "stranger", "worker"):
        make_rsa_pair(folder, name)
        shutil.copy(folder / f"{name}.pem", folder / "trusted")
    return folder


class Encrypted(NamedTuple):
    """A server that speaks TLS alone, as Celery and the bridge name it."""

    url: str
    kind: str = "redis"


@pytest.fixture
def tls_site(tmp_path):
    """A site whose Redis speaks TLS alone, and asks for a client's certificate."""
    pytest.importorskip("celery", reason="celery comes with the extra `test`")
    folder = tmp_path / "server"
    with running(RedisServer(folder, tls=Authority(tmp_path / "authority"))) as server:
        # Celery wants to be told what is so anyway.
        made = Site(tmp_path, Encrypted(f"{server.url}&ssl_cert_reqs=required"), "q_tls")
        made.backend = made.server.url
        yield made
        made.close()


@pytest.fixture
def site(tmp_path, server, request):
    made = Site(tmp_path, server, f"q{abs(hash(request.node.nodeid)):x}")
    yield made
    made.close()
