"""The brokers that are measured on: servers of our own on free loopback ports, with a stated durability.

Nothing that runs on the machine already is touched. Each measurement gets an empty store.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.servers import ground

_COMMAND_SECONDS = 60.0


class MissingError(Exception):
    """A server's program or its client library is not installed."""


class Urls(NamedTuple):
    """Where one measurement's messages and results lie."""

    broker: str
    results: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A broker to measure on."""

    name: str
    about: str
    """Versions and durability, for the table."""
    fresh: Callable[[Path], Urls]
    """Empty it for the measurement in a folder."""
    pids: tuple[int, ...] = ()
    """Its processes; without any, the peers do its work themselves."""


@contextlib.contextmanager
def open_store(name: str, folder: Path) -> Iterator[Store]:
    """Start what a broker needs, for as long as the context lasts; `MissingError` says what is not there."""
    with contextlib.ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix=f"{name}-server-", dir=folder))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        yield STORES[name](place, stack)


def _open_sqlite(_folder: Path, _stack: contextlib.ExitStack) -> Store:
    def fresh(place: Path) -> Urls:
        return Urls(f"sqlite:///{place / 'broker.db'}", f"sqlite:///{place / 'results.db'}")

    about = "SQLite: write-ahead log, flushed at each commit (synchronous=FULL)"
    return Store(name="sqlite", about=about, fresh=fresh)


def _open_redis(folder: Path, stack: contextlib.ExitStack) -> Store:
    redis = _library("redis")
    server = _program("redis-server", "valkey-server")
    port = ground.free_port()
    listening = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    client = redis.Redis(port=port)
    stack.callback(client.close)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    def fresh(_place: Path) -> Urls:
        client.flushall()
        return Urls(f"redis://127.0.0.1:{port}/0", f"redis://127.0.0.1:{port}/1")

    process = _start(stack, folder, [server, *listening, *durable], answers)
    version = client.info("server")["redis_version"]
    about = f"Redis {version}: append-only file, flushed every second (appendfsync everysec)"
    return Store(name="redis", about=about, fresh=fresh, pids=(process.pid,))


def _open_postgres(folder: Path, stack: contextlib.ExitStack) -> Store:
    psycopg = _library("psycopg")
    programs = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    server = _program("postgres", folders=programs)
    make = _program("initdb", folders=programs)
    place = folder / "data"
    account: dict[str, object] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        user = pwd.getpwnam("postgres")
        account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
    arguments = [make, "-D", str(place), "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale"]
    subprocess.run(arguments, check=True, capture_output=True, timeout=_COMMAND_SECONDS, **account)
    port = ground.free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": ""}
    given = [f"--{name}={value}" for name, value in settings.items()]
    url = f"postgresql://bench@127.0.0.1:{port}"

    def answers() -> bool:
        try:
            psycopg.connect(f"{url}/postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    made: list[str] = []

    def fresh(_place: Path) -> Urls:
        with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
            for old in made[-1:]:
                connection.execute(f"DROP DATABASE {old} WITH (FORCE)")
            made.append(f"bench{len(made)}")
            connection.execute(f"CREATE DATABASE {made[-1]}")
        return Urls(f"{url}/{made[-1]}", f"{url}/{made[-1]}")

    process = _start(stack, folder, [server, "-D", str(place), *given], answers, **account)
    version = _version(server)
    about = f"PostgreSQL {version}: its default, flushed at each commit (fsync, synchronous_commit)"
    return Store(name="postgres", about=about, fresh=fresh, pids=(process.pid,))


def _open_rabbitmq(folder: Path, stack: contextlib.ExitStack) -> Store:
    folders = ["/usr/lib/rabbitmq/bin"]  # before the wrappers in sbin, which change the user
    server = _program("rabbitmq-server", folders=folders)
    control = _program("rabbitmqctl", folders=folders)
    port, distribution, mapper = ground.free_port(), ground.free_port(), ground.free_port()
    node = f"bench{port}@localhost"
    plugins = folder / "plugins"
    plugins.write_text("[].\n", encoding="utf-8")
    environment = {
        **os.environ,
        "HOME": str(folder),  # the cookie lies there
        "ERL_EPMD_PORT": str(mapper),
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
    }

    def run(*arguments: str) -> str:
        command = [control, "--quiet", "--node", node, *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True,
            timeout=_COMMAND_SECONDS,
        )  # fmt: skip
        return done.stdout

    names = _start(stack, folder, [_program("epmd"), "-port", str(mapper), "-address", "127.0.0.1"],
                   lambda: ground.listens(mapper), env=environment)  # fmt: skip
    process = _start(stack, folder, [server], lambda: ground.listens(port), env=environment)
    run("await_startup")
    version = run("eval", 'io:format("~s", [rabbit_misc:version()]).').split("ok")[0].strip()
    results = _open_redis(folder, stack)
    made: list[str] = []

    def fresh(place: Path) -> Urls:
        for old in made[-1:]:
            run("eval", f'rabbit_vhost:delete(<<"{old}">>, <<"bench">>).')
        made.append(f"bench{len(made)}")
        # One call instead of two commands, which take more than a second each.
        allowed = ", ".join(['<<".*">>'] * 3)
        run(
            "eval",
            f'rabbit_vhost:add(<<"{made[-1]}">>, <<"bench">>), '
            "rabbit_auth_backend_internal:set_permissions("
            f'<<"guest">>, <<"{made[-1]}">>, {allowed}, <<"bench">>).',
        )
        return Urls(f"amqp://guest:guest@127.0.0.1:{port}/{made[-1]}", results.fresh(place).results)

    about = f"RabbitMQ {version}: durable queues, persistent messages; results in {results.about}"
    pids = (names.pid, process.pid, *results.pids)
    return Store(name="rabbitmq", about=about, fresh=fresh, pids=pids)


STORES: dict[str, Callable[[Path, contextlib.ExitStack], Store]] = {
    "sqlite": _open_sqlite,
    "redis": _open_redis,
    "postgres": _open_postgres,
    "rabbitmq": _open_rabbitmq,
}


def _start(
    stack: contextlib.ExitStack,
    folder: Path,
    command: list[str],
    is_ready: Callable[[], bool],
    **options: object,
) -> ground.Process:
    process = ground.Process(folder, command, **options)
    process.start(is_ready)
    stack.callback(process.stop)
    return process


def _program(*names: str, folders: list[str] | None = None) -> str:
    path = os.pathsep.join([*(folders or []), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise MissingError(f"{names[0]} is not installed")


def _library(name: str):
    try:
        return __import__(name)
    except ImportError as error:
        raise MissingError(
            f"the library {name} is not installed; pip install '.[bench]'"
        ) from error


def _version(program: str) -> str:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)+", told)
    return found[0] if found else "?"
