"""A deployment as the documentation has it: three hosts, each a network namespace, real servers, an ordinary user.

`queue` has the broker and a syslog server, `work` is where tasks run, and `elsewhere` is nobody's peer. What root sets
up, and who runs tasks cannot change, are the code, the policy, the baseline and the rules of both firewalls.
`python -m tests.doctor.hardened` prints how long the doctor takes there; it needs root.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

import cardoon
from cardoon.clock import SystemClock
from cardoon.postgres.access import commands as postgres_commands
from cardoon.postgres.location import locate
from cardoon.postgres.schema import upgrade
from cardoon.rabbitmq.access import commands as rabbitmq_commands
from cardoon.redis.access import commands as redis_commands
from cardoon.security.authority import create_authority, issue
from tests.servers.ground import Authority, find_program, lacking, running
from tests.servers.hosts import Host, wired
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer
from tests.servers.syslog import Rsyslog

USER = "64321"
"""Who runs tasks: nobody of this machine."""
PASSWORD = "a-password-of-some-length"
UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
START_SECONDS = 30.0
TASKS = """\
from cardoon import Cardoon

app = Cardoon("shop", set_as_current=False)
app.conf.update({settings!r})


@app.task
def add(x, y):
    return x + y
"""
POLICY = """\
version = 1
[role.web]
ids = ["spiffe://shop.example/client"]
[role.keeper]
ids = ["spiffe://shop.example/keeper"]
[role.work]
ids = ["spiffe://shop.example/worker"]
[[allow]]
role = "web"
action = "send"
task = ["shop.*"]
[[allow]]
role = "work"
action = "result"
task = ["shop.*"]
[[allow]]
role = "keeper"
action = "keys"
task = ["workers"]
"""


class Served(NamedTuple):
    """A broker that runs: how the worker's account reaches it, and what settings that needs."""

    url: str
    port: int
    settings: Mapping[str, Any] = {}


@contextlib.contextmanager
def redis(folder: Path, authority: Authority) -> Iterator[Served]:
    """TLS alone, certificates of clients, and a user with the rights of a worker."""
    rules = " ".join(redis_commands("worker", username="worker")[3:])
    with running(
        RedisServer(folder, tls=authority, acl=[f"user worker >{PASSWORD} {rules}"])
    ) as one:
        yield Served(one.url_of(user="worker", password=PASSWORD), one.port)


@contextlib.contextmanager
def postgresql(folder: Path, authority: Authority) -> Iterator[Served]:
    """`hostssl` alone, certificates of clients, and a role with the rights of a worker."""
    folder.mkdir()
    server = PostgresServer(tls=authority, below=folder)
    try:
        with running(server):
            upgrade(locate(server.url, setting="broker_url"))
            with server.connect() as owner:
                for statement in postgres_commands("worker", username="worker"):
                    owner.execute(statement)
                owner.execute(f"ALTER ROLE worker PASSWORD '{PASSWORD}'")
            yield Served(server.url_of("worker", PASSWORD), server.port)
    finally:
        server.discard()


@contextlib.contextmanager
def rabbitmq(folder: Path, authority: Authority) -> Iterator[Served]:
    """TLS alone, certificates of clients, a virtual host and a user of its own, and no guest."""
    with running(RabbitServer(folder, tls=authority, mutual=True)) as server:
        server.control("add_vhost", "shop")
        for line in rabbitmq_commands("worker", username="worker", vhost="shop"):
            words = shlex.split(line)[1:]
            server.control(*words, *([PASSWORD] if words[0] == "add_user" else []))
        server.control("delete_user", "guest")
        client = authority.issue("worker")
        url = server.url_of("worker", PASSWORD, vhost="shop")
        url += f"&ssl_certfile={client.certificate}&ssl_keyfile={client.key}"
        yield Served(url, server.tls_port)


class Deployment:
    """Where tasks run, and what root has done there."""

    def __init__(self, folder: Path, hosts: Sequence[Host]) -> None:
        self.folder = folder
        self.broker: Served | None = None
        self.syslog: Rsyslog | None = None
        self.queue, self.work, self.elsewhere = hosts
        self.code, self.state = folder / "code", folder / "state"
        self.rules = folder / "run" / "firewall.json"
        self.watch: subprocess.Popen[str] | None = None
        self._python = install(folder / "venv")

    def settle(self, broker: Served, syslog: Rsyslog) -> None:
        """All that the documentation asks for, in its order."""
        self.broker, self.syslog = broker, syslog
        for name, mode in (("code", 0o755), ("etc", 0o755), ("run", 0o755), ("tmp", 0o700)):
            (self.folder / name).mkdir()
            (self.folder / name).chmod(mode)
        self._certify()
        url = self._put("etc/broker-url", broker.url, mode=0o600)
        policy = self._put("etc/policy.toml", POLICY)
        units = self.folder / "units"
        units.mkdir()
        shutil.copy(UNITS / "cardoon-worker@.service", units)
        settings = {
            "broker_url": f"file:{url}",
            "result_backend": f"file:{url}",
            "state_directory": str(self.state),
            "security_domain": "shop-production",
            "security_policy": str(policy),
            "security_encrypt": "body",
            "security_require_encryption": True,
            "worker_pool": "isolated",
            "worker_sandbox": {"level": "confined"},
            "task_time_limit": 60,
            "worker_metrics_address": "127.0.0.1:9464",
            "syslog_address": [syslog.address("tls")],
            "syslog_tls": syslog.tls_files,
            "integrity_baseline": str(self.folder / "etc" / "host.baseline"),
            "integrity_key": [str(self.folder / "etc" / "approver.pem")],
            "integrity_on_drift": "stop",
            "firewall_open": ["198.51.100.200:22"],
            "firewall_state": str(self.rules),
            "firewall_check_interval": 30,
            "firewall_on_change": "drain",
            **broker.settings,
        }
        self._put("code/shop.py", TASKS.format(settings=settings))
        self._own(
            self.state, self.folder / "tmp", url, *self.folder.glob("servers/authority/*.key")
        )
        self.must("keys", "init", "--role", "keeper")
        for role in ("client", "keeper"):  # who have no work here
            (self.state / f"{role}.key").rename(self.folder / f"{role}.key")
        self._approve()
        self._close(broker, syslog)

    def _certify(self) -> None:
        """The authority's key is made here, and does not stay."""
        self.state.mkdir(mode=0o700)
        clock = SystemClock()
        create_authority(self.state, "shop.example", clock=clock)
        for role in ("worker", "client", "keeper"):
            issue(self.state, role, clock=clock)
        (self.state / "ca.key").unlink()

    def _approve(self) -> None:
        """A baseline of the code, signed with a key that does not stay."""
        key = ed25519.Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self._put("etc/approver.pem", public.decode())
        rules = self._put("etc/rules.toml", f'roots = ["{self.code}"]\n')
        self.must("integrity", "init", "--rules", str(rules), as_root=True)
        secret = self._put("approver.key", private.decode(), mode=0o600)
        baseline = str(self.folder / "etc" / "host.baseline")
        self.must("integrity", "sign", baseline, "--key", str(secret), as_root=True)
        secret.unlink()

    def _close(self, broker: Served, syslog: Rsyslog) -> None:
        """Rules on both hosts, and somebody who looks whether they are there."""
        told = {
            "CARDOON_BROKER_URL": broker.url,
            "CARDOON_FIREWALL_PEERS": self.work.address,
            "CARDOON_FIREWALL_OPEN": ",".join(
                f"{one.address}:{syslog.tls}" for one in (self.work, self.elsewhere)
            ),
        }
        self.load_queue = partial(
            self.must, "firewall", "load", "--role", "broker",
            as_root=True, host=self.queue, app="", environ=told,
        )  # fmt: skip
        self.load_queue()
        self.must("firewall", "load", as_root=True)
        self.work.run("sysctl", "-w", "net.ipv4.conf.all.accept_redirects=0")
        self.watch = subprocess.Popen(
            self.work.command(*self.words("firewall", "watch", "--interval", "1")),
            cwd=self.code,
            env=self._environ({}, as_root=True),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.watch.stdout is not None
        assert "as it should be" in self.watch.stdout.readline()

    def close(self) -> None:
        """End what was started."""
        if self.watch is not None:
            self.watch.kill()
            self.watch.communicate()

    def cardoon(
        self,
        *words: str,
        as_root: bool = False,
        host: Host | None = None,
        app: str = "shop",
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A command on a host, by default where tasks run and as the user who runs them."""
        command = self.words(*words, app=app)
        if not as_root:
            command = self.unprivileged(*command)
        environ = self._environ(environ or {}, as_root=as_root)
        return (host or self.work).run(*command, env=environ, cwd=self.code)

    def must(self, *words: str, **options: Any) -> str:
        """What a command says that succeeds."""
        done = self.cardoon(*words, **options)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def unprivileged(self, *command: str) -> list[str]:
        """A command as our unit of systemd starts it, below a folder of units that has that unit."""
        script = (
            f"mount --bind {self.folder}/units /etc/systemd/system && ulimit -c 0 && umask 077 && "
            f"exec setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs "
            '--inh-caps=-all --bounding-set=-all "$@"'
        )
        return ["sh", "-c", script, "sh", *command]

    def doctor(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Its exit code, and what it says of each check."""
        done = self.cardoon("doctor", "--deploy", *words, "--json")
        assert done.stdout, done.stderr
        return done.returncode, {one["id"]: one for one in json.loads(done.stdout)["checks"]}

    def words(self, *words: str, app: str = "shop") -> list[str]:
        """Of a command line; without an app where that is empty."""
        return [self._python, "-P", "-s", "-m", "cardoon", *(["-A", app] if app else []), *words]

    def _environ(self, more: Mapping[str, str], *, as_root: bool) -> dict[str, str]:
        told = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "NO_COLOR": "1"}
        if as_root:  # what the worker's user writes, root does not begin
            told["CARDOON_SECURITY_AUDIT_LOG"] = str(self.folder / "root.jsonl")
        home = str(self.folder / "tmp")
        return {**told, "HOME": home, "TMPDIR": home, **more}

    def _put(self, name: str, text: str, *, mode: int = 0o644) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def _own(self, *paths: Path) -> None:
        """Give them to who runs tasks."""
        for path in paths:
            subprocess.run(["chown", "-R", f"{USER}:{USER}", path], check=True)


def install(folder: Path) -> str:
    """A virtual environment of root's, which everybody may start and that finds Cardoon; its Python."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = shutil.which(version, path="/usr/local/bin:/usr/bin")
    made = [str(base), "-m", "venv", "--without-pip", "--symlinks", str(folder)]
    if base is None or subprocess.run(made, check=False, capture_output=True).returncode:
        lacking(f"a {version} that an ordinary user may start")
    packages = [one for one in sys.path if Path(one).name in {"site-packages", "dist-packages"}]
    found = folder / "lib" / version / "site-packages" / "all.pth"
    found.write_text("\n".join([str(Path(cardoon.__file__).parents[1]), *packages]) + "\n")
    python = str(folder / "bin" / "python")
    become = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]
    tried = [*become, python, "-P", "-s", "-c", "import cardoon.cli.main"]
    if subprocess.run(tried, check=False, capture_output=True, cwd="/").returncode:
        pytest.skip(f"user {USER} may not read what lies in {packages}")
    return python


@contextlib.contextmanager
def deployed(serve: Any) -> Iterator[Deployment]:
    """A deployment whose broker is served by one of the functions above."""
    find_program("setpriv")
    with contextlib.ExitStack() as stack:
        hosts = stack.enter_context(wired("queue", "work", "elsewhere"))
        # Not in a folder of pytest's: nobody else may enter those.
        folder = Path(tempfile.mkdtemp(prefix="cardoon-hardened-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        made = Deployment(folder, hosts)
        with hosts[0].entered():
            servers = folder / "servers"
            authority = Authority(servers / "authority", address=hosts[0].address)
            broker = stack.enter_context(serve(servers / "broker", authority))
            syslog = stack.enter_context(running(Rsyslog(servers / "syslog", authority)))
        stack.callback(made.close)
        made.settle(broker, syslog)
        yield made


def main() -> None:
    """Print how long the whole doctor takes on each, as a process: five times."""
    for serve in (redis, postgresql, rabbitmq):
        with deployed(serve) as made:
            seconds = []
            for _ in range(5):
                began = time.monotonic()
                _, checks = made.doctor()
                seconds.append(time.monotonic() - began)
            shown = " ".join(f"{one:.2f}" for one in sorted(seconds))
            print(f"{serve.__name__:10} {len(checks)} checks in {shown} s")


if __name__ == "__main__":
    main()
