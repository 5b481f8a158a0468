"""The warden: refused calls are told, listed addresses are reached, nothing else is."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import select
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

from cardoon.sandbox.kernel import ConfinementError, call
from cardoon.sandbox.naming import answer_names
from cardoon.sandbox.profile import Sandbox
from cardoon.sandbox.relaying import foreign_addresses, lend_listeners
from cardoon.worker.humbling import give_up_powers
from cardoon.worker.ipc import FrameType, pack_frame
from cardoon.worker.watch import WardenLostError, Watch
from tests.sandbox.watched import (
    NEW_NETWORK,
    NOBODY,
    Room,
    apart,
    as_nobody,
    echo_server,
    name_server,
    raise_loopback,
    room,
    where_names_mean,
    without_ptrace,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")


def listed(*addresses: str) -> Sandbox:
    return Sandbox(network=list(addresses), syscalls="net")


def fetch(host: str, port: int, sent: bytes = b"hello", *, timeout: float | None = 10) -> str:
    """Send bytes to an echo and return what comes back."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(timeout)
        connection.connect((host, port))
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        got = bytearray()
        while found := connection.recv(65536):
            got += found
        return got.decode()


def test_a_refused_socket_is_told_with_its_family() -> None:
    with room(Sandbox()) as tasks:
        ended = tasks.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).fileno())

    assert ended.errno == "EPERM"
    assert ended.refusals == [("socket", "AF_PACKET SOCK_RAW")]
    assert ended.told[0].token == 1


def test_a_refused_program_is_told_with_its_path() -> None:
    with room(Sandbox()) as tasks:
        ended = tasks.run(lambda: os.execv("/bin/sh", ["sh"]))

    assert ended.errno == "EPERM"
    assert ended.refusals == [("execve", "/bin/sh")]


def test_one_listed_server_is_reached() -> None:
    with echo_server() as port, room(listed(f"127.0.0.1:{port}")) as tasks:
        ended = tasks.run(lambda: fetch("127.0.0.1", port))

    assert ended.value == "hello"
    assert ended.told == ()


@pytest.mark.parametrize("timeout", [None, 10], ids=["blocking", "with a timeout"])
def test_bulk_goes_both_ways_over_one_connection(timeout: float | None) -> None:
    sent = os.urandom(1 << 20).hex().encode()

    def talk(port: int) -> int:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
            for start in range(0, len(sent), 1 << 14):
                piece = sent[start : start + (1 << 14)]
                connection.sendall(piece)
                got = b""
                while len(got) < len(piece):
                    got += connection.recv(1 << 14)
                assert got == piece
        return len(sent)

    with echo_server() as port, room(listed(f"127.0.0.1:{port}")) as tasks:
        ended = tasks.run(lambda: talk(port))

    assert ended.value == 2 << 20, ended


def test_an_ordinary_users_tasks_are_watched_as_well() -> None:
    with echo_server() as port:

        def scene() -> list:
            with room(listed(f"127.0.0.1:{port}")) as tasks:
                reached = tasks.run(lambda: fetch("127.0.0.1", port))
                refused = tasks.run(lambda: os.execv("/bin/sh", ["sh"]))
            return [reached.value, refused.errno, refused.refusals]

        told = as_nobody(scene)

    assert told == ["hello", "EPERM", [["execve", "/bin/sh"]]]


def test_another_port_and_another_host_are_refused_and_told() -> None:
    with echo_server() as port, echo_server() as other, room(listed(f"127.0.0.1:{port}")) as tasks:
        ends = [
            tasks.run(lambda: fetch("127.0.0.1", other)),
            tasks.run(lambda: fetch("127.0.0.2", port)),
        ]

    assert [end.errno for end in ends] == ["EPERM", "EPERM"]
    assert ends[0].refusals == [("connect", f"127.0.0.1:{other} (not listed)")]
    assert ends[1].refusals == [("connect", f"127.0.0.2:{port} (not listed)")]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("169.254.169.254", "metadata of the cloud"),
        ("100.100.100.200", "metadata of the cloud"),
        ("fd00:ec2::254", "metadata of the cloud"),
        ("::ffff:169.254.169.254", "metadata of the cloud"),
        ("64:ff9b::a9fe:a9fe", "metadata of the cloud"),
    ],
)
def test_metadata_is_refused_even_to_any(address: str, why: str) -> None:
    with room(Sandbox(network="any", syscalls="net")) as tasks:
        ended = tasks.run(lambda: fetch(address, 80))

    assert ended.errno == "EPERM"
    [(rule, detail)] = ended.refusals
    assert rule == "connect"
    assert why in detail


def test_any_reaches_what_is_no_metadata() -> None:
    with echo_server() as port, room(Sandbox(network="any", syscalls="net")) as tasks:
        ended = tasks.run(lambda: fetch("127.0.0.1", port))

    assert ended.value == "hello"


def test_no_network_means_none_and_the_address_is_told() -> None:
    with echo_server() as port, room(Sandbox(syscalls="net")) as tasks:
        pairs = [socket.socket(socket.AF_INET, socket.SOCK_STREAM)]
        ended = tasks.run(lambda: pairs[0].connect(("127.0.0.1", port)))
        pairs[0].close()

    assert ended.errno == "EPERM"
    assert ended.refusals == [("connect", f"127.0.0.1:{port}")]


@pytest.mark.parametrize(
    ("action", "detail"),
    [
        (lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).fileno(), "AF_INET SOCK_DGRAM"),
        (lambda: socket.socket(socket.AF_UNIX).fileno(), "AF_UNIX SOCK_STREAM"),
        (lambda: socket.socket(40).fileno(), "AF_VSOCK SOCK_STREAM"),
        (
            lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).fileno(),
            "AF_INET SOCK_STREAM protocol 262",
        ),
    ],
    ids=["udp", "unix", "vsock", "mptcp"],
)
def test_other_kinds_of_socket_are_refused_and_told(action, detail: str) -> None:
    with room(listed("127.0.0.1:9")) as tasks:
        ended = tasks.run(action)

    assert ended.errno == "EPERM"
    assert ended.refusals == [("socket", detail)]


def test_a_pair_is_not_connected_to_a_unix_socket(tmp_path) -> None:
    tmp_path.chmod(0o755)
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, room(listed("127.0.0.1:9")) as tasks:
        server.bind(path)
        server.listen()
        ended = tasks.run(lambda: socket.socketpair()[0].connect(path))

    assert ended.errno == "EPERM"
    assert ended.refusals == [("connect", f"unix {path} (not TCP)")]


def test_a_connection_cannot_be_aimed_anew() -> None:
    def again(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            raw_connect(connection.fileno(), struct.pack("=H14x", socket.AF_UNSPEC))

    with echo_server() as port, room(listed(f"127.0.0.1:{port}")) as tasks:
        ended = tasks.run(lambda: again(port))

    assert ended.errno == "EPERM"
    assert ended.refusals == [("connect", "AF_UNSPEC (not TCP)")]


def raw_connect(descriptor: int, address: bytes | int, length: int | None = None) -> None:
    """connect(2) with whatever bytes, pointer and length."""
    libc = ctypes.CDLL(None, use_errno=True)
    pointer = ctypes.c_char_p(address) if isinstance(address, bytes) else ctypes.c_void_p(address)
    size = len(address) if isinstance(address, bytes) and length is None else length
    if libc.connect(ctypes.c_int(descriptor), pointer, ctypes.c_uint(size or 0)) < 0:
        raise OSError(ctypes.get_errno(), "connect")


def _inet(port: int, host: str = "127.0.0.1") -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))


@pytest.mark.parametrize(
    ("address", "length", "expected"),
    [
        (b"\2\0", 2, "EINVAL"),
        (b"\2\0\0\x50\x7f\0\0", 7, "EINVAL"),
        (b"\2\0" + bytes(200), 202, "EINVAL"),
        (b"\2\0" + bytes(14), 0xFFFFFFFF, "EINVAL"),
        (b"", 0, "EINVAL"),
        (0, 16, "EFAULT"),
        (1, 16, "EFAULT"),
        ((1 << 64) - 8, 16, "EFAULT"),
        ((1 << 47) - 8, 16, "EFAULT"),
        (b"\x0a\0" + bytes(20), 22, "EINVAL"),
        (b"\xff\xff" + bytes(14), 16, "EPERM"),
    ],
)
def test_a_hostile_address_is_an_error_as_the_kernels(address, length, expected) -> None:
    def act() -> list:
        with socket.socket() as connection:
            try:
                raw_connect(connection.fileno(), address, length)
            except OSError as error:
                return [errno.errorcode[error.errno], fetch("127.0.0.1", port)]
        return ["connected", ""]

    with echo_server() as port, room(listed(f"127.0.0.1:{port}")) as tasks:
        ended = tasks.run(act)

    assert ended.value == [expected, "hello"], ended


def test_a_descriptor_that_is_not_open_is_bad() -> None:
    with echo_server() as port, room(listed(f"127.0.0.1:{port}")) as tasks:
        ended = tasks.run(lambda: raw_connect(999, _inet(port)))

    assert ended.errno == "EBADF"


def test_an_address_that_changes_under_way_leads_nowhere_else() -> None:
    """Another thread rewrites the address while the call is judged; only the listed server hears."""
    rounds = 300

    def race(good: int, bad: int) -> list[int]:
        shared = ctypes.create_string_buffer(_inet(good), 16)
        over = threading.Event()

        def flip() -> None:
            while not over.is_set():
                ctypes.memmove(shared, _inet(bad), 16)
                ctypes.memmove(shared, _inet(good), 16)

        thread = threading.Thread(target=flip)
        thread.start()
        counts = [0, 0]
        for _ in range(rounds):
            with socket.socket() as connection:
                try:
                    raw_connect(connection.fileno(), ctypes.addressof(shared), 16)
                except PermissionError:
                    counts[1] += 1
                else:
                    assert connection.getpeername()[1] == good
                    counts[0] += 1
        over.set()
        thread.join()
        return counts

    with socket.create_server(("127.0.0.1", 0), backlog=rounds) as forbidden, echo_server() as port:
        with room(listed(f"127.0.0.1:{port}")) as tasks:
            ended = tasks.run(lambda: race(port, forbidden.getsockname()[1]))
        forbidden.setblocking(False)
        with pytest.raises(BlockingIOError):
            forbidden.accept()

    assert ended.error is None, ended.error
    assert ended.value[0] > 0, "the race was not run"
    assert ended.value[1] > 0, "the race was not run"


def test_a_flood_is_bounded_and_told() -> None:
    def flood() -> int:
        answers = 0
        for number in range(100_000):
            try:
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW, number % 50)
            except OSError as error:
                if error.errno == errno.ENOSYS:
                    return answers
                answers += 1
        return -1

    with room(Sandbox()) as tasks:
        ended = tasks.start(flood).end(quiet=2)
        another = tasks.run(lambda: os.execv("/bin/sh", ["sh"]))

    assert ended.value == 1000
    assert [one.rule for one in ended.told if one.is_flood] == ["flood"]
    kinds = {(one.rule, one.detail) for one in ended.told} - {("flood", "1001 refused calls")}
    assert len(kinds) == 21
    assert sum(one.times for one in ended.told if not one.is_flood) == 1001
    assert len(ended.told) <= 21 * 12
    assert another.errno == "EPERM"
    assert another.told


def test_the_same_thing_twice_is_counted() -> None:
    def thrice() -> None:
        for _ in range(3):
            with pytest.raises(PermissionError):
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW)

    with room(Sandbox()) as tasks:
        ended = tasks.start(thrice).end(quiet=2)

    assert set(ended.refusals) == {("socket", "AF_PACKET SOCK_RAW")}
    assert sum(one.times for one in ended.told) == 3


def test_a_refusal_is_known_before_the_task_goes_on() -> None:
    with room(Sandbox()) as tasks:
        reading, writing = os.pipe()

        def act() -> str:
            with pytest.raises(PermissionError):
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            os.write(writing, b"refused")
            return "ended"

        running = tasks.start(act)
        os.read(reading, 7)
        told = tasks.watch.receive()
        running.end()
        os.close(reading)
        os.close(writing)

    assert [(one.rule, one.times) for one in told] == [("socket", 1)]


def test_a_server_that_refuses_is_an_error_and_no_violation() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with room(listed(f"127.0.0.1:{port}")) as tasks:
        ended = tasks.run(lambda: fetch("127.0.0.1", port))

    assert ended.errno == "ECONNREFUSED"
    assert ended.told == ()


def test_the_workers_own_servers_are_not_reached_by_name_but_if_they_are_listed() -> None:
    with echo_server() as port:
        with room(
            Sandbox(network="loopback", syscalls="net"), denied=(("127.0.0.1", port),)
        ) as tasks:
            denied = tasks.run(lambda: fetch("127.0.0.1", port))
        with room(listed(f"127.0.0.1:{port}"), denied=(("127.0.0.1", port),)) as tasks:
            reached = tasks.run(lambda: fetch("127.0.0.1", port))

    assert denied.refusals == [("connect", f"127.0.0.1:{port} (a server of the worker's own)")]
    assert reached.value == "hello"


def test_an_ipv6_server_is_reached() -> None:
    with echo_server("::1") as port, room(listed(f"[::1]:{port}")) as tasks:
        ended = tasks.run(lambda: fetch("::1", port))

    assert ended.value == "hello"


def _hear_for_ever(tasks: Room) -> None:
    while True:
        tasks.watch.receive()


def test_without_the_warden_calls_fail_and_the_worker_is_told() -> None:
    with room(Sandbox()) as tasks:
        reading, writing = os.pipe()
        beginning, begun = os.pipe()

        def act() -> int:
            os.write(begun, b"x")
            os.read(reading, 1)
            return socket.socket(socket.AF_PACKET, socket.SOCK_RAW).fileno()

        running = tasks.start(act)
        os.read(beginning, 1)
        assert tasks.watch.pid is not None
        os.kill(tasks.watch.pid, 9)
        with pytest.raises(WardenLostError):
            _hear_for_ever(tasks)
        os.write(writing, b"x")
        with os.fdopen(running.reading, "rb") as told:
            assert b"ENOSYS" in told.read()
        os.waitpid(running.pid, 0)

        tasks.watch.restart()
        anew = Room(tasks.watch, tasks.profile)
        with anew.hatch:
            ended = anew.run(lambda: os.execv("/bin/sh", ["sh"]))
        for one in (reading, writing, beginning, begun):
            os.close(one)

    assert ended.errno == "EPERM"
    assert ended.told


def test_the_warden_ends_with_the_worker_and_holds_no_secret() -> None:
    os.environ["CARDOON_SECRET_OF_A_TEST"] = "value"
    try:
        with room(Sandbox()) as tasks:
            pid = tasks.watch.pid
            tasks.run(lambda: 1)
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            status = dict(line.split(":\t", 1) for line in lines)
    finally:
        del os.environ["CARDOON_SECRET_OF_A_TEST"]

    assert b"SECRET" not in environment
    assert status["NoNewPrivs"] == "1"
    if os.getuid() == 0:
        assert status["Uid"].split() == ["65533"] * 4
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 1 << 19
    else:
        assert int(status["CapPrm"], 16) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


needs_namespaces = pytest.mark.skipif(os.getuid() != 0, reason="makes networks, which root may")
ELSEWHERE = "198.51.100.7"


@needs_namespaces
@pytest.mark.parametrize("timeout", [None, 10], ids=["blocking", "with a timeout"])
def test_a_listed_name_is_reached_by_its_name(timeout: float | None) -> None:
    def scene() -> list:
        with echo_server(ELSEWHERE) as port, room(listed(f"db.internal:{port}")) as tasks:

            def act() -> list:
                answer_names(tasks.profile)
                with socket.create_connection(("DB.internal.", port), timeout=timeout) as one:
                    one.sendall(b"by name")
                    got = one.recv(100).decode()
                found = socket.getaddrinfo("db.internal", port, flags=socket.AI_CANONNAME)
                return [got, found[0][3], found[0][4][0], socket.gethostbyname("db.internal")]

            by_name = tasks.run(act)
            by_address = tasks.run(lambda: fetch(ELSEWHERE, port))
        return [by_name.value, by_name.refusals, by_address.errno]

    told = where_names_mean({"db.internal": ELSEWHERE}, scene)

    assert told == [["by name", "db.internal", "127.64.0.1", "127.64.0.1"], [], "EPERM"]


def test_a_name_that_is_not_listed_means_nothing() -> None:
    def act() -> list[str]:
        answer_names(tasks.profile)
        errors = []
        for name in ("other.internal", "db.internal.example"):
            with pytest.raises(socket.gaierror) as error:
                socket.create_connection((name, 80))
            errors.append(str(error.value))
        return errors

    with room(listed("db.internal:80")) as tasks:
        ended = tasks.run(act)

    assert ended.error is None, ended
    assert "'other.internal' is not in the sandbox's list" in ended.value[0]
    assert ended.told == ()


def test_event_loops_reach_listed_names() -> None:
    async def talk() -> str:
        reading, writing = await asyncio.open_connection("localhost", port)
        writing.write(b"async")
        writing.write_eof()
        got = await asyncio.wait_for(reading.read(), 10)
        writing.close()
        return got.decode()

    def act() -> str:
        answer_names(tasks.profile)
        return asyncio.run(talk())

    with echo_server() as port, room(listed(f"127.0.0.1:{port}")) as tasks:
        ended = tasks.run(act)

    assert ended.value == "async", ended


def test_a_name_that_means_loopback_has_to_be_listed_as_such() -> None:
    with echo_server() as port, room(listed(f"localhost:{port}")) as tasks:
        ended = tasks.run(lambda: fetch("127.64.0.1", port))

    assert ended.errno == "EPERM"
    assert "means 127.0.0.1, loopback, which has to be listed as such" in ended.refusals[0][1] or (
        "means ::1, loopback" in ended.refusals[0][1]
    )


def own_network(network: list[str], hatch: int) -> None:
    """The steps of a nest at `strict` that have to do with its network."""
    call("test", "unshare", NEW_NETWORK)
    raise_loopback(foreign_addresses(network))
    lend_listeners(network, hatch)


@needs_namespaces
def test_in_a_network_of_its_own_a_task_reaches_what_is_listed_and_nothing_else() -> None:
    def scene() -> list:
        with echo_server(ELSEWHERE) as port, echo_server(ELSEWHERE) as other:
            network = [f"db.internal:{port}", f"{ELSEWHERE}:{port}"]
            profile = Sandbox(level="strict", network=network, syscalls="net")
            wanted = [
                *(("127.64.0.1", port), (ELSEWHERE, port), ("127.64.0.1", other)),
                *((ELSEWHERE, other), ("127.0.0.1", port), ("198.51.100.8", port)),
            ]

            def act() -> list[str]:
                told = []
                for host, to in wanted:
                    try:
                        told.append(fetch(host, to))
                    except OSError as error:
                        told.append(errno.errorcode[error.errno])
                return told

            with room(profile) as tasks:
                return tasks.run(act, first=lambda hatch: own_network(network, hatch))

    told = where_names_mean({"db.internal": ELSEWHERE}, scene)

    refused, nowhere = "ECONNREFUSED", "ENETUNREACH"
    assert told[0] == ["hello", "hello", refused, refused, refused, nowhere], told


@needs_namespaces
def test_bulk_of_a_task_in_a_network_of_its_own_is_relayed_whole() -> None:
    sent = os.urandom(1 << 20).hex().encode() * 4

    def talk() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
            got = bytearray()
            while len(got) < len(sent):
                got += connection.recv(1 << 16)
            return got == sent

    with echo_server() as port:
        network = [f"127.0.0.1:{port}"]
        with room(Sandbox(level="strict", network=network, syscalls="net")) as tasks:
            ended = tasks.run(talk, first=lambda hatch: own_network(network, hatch))

    assert ended.value is True, ended


@needs_namespaces
def test_a_name_that_leads_to_loopback_is_told_and_reset_in_a_network_of_its_own() -> None:
    with echo_server() as port:
        network = [f"localhost:{port}"]
        with room(Sandbox(level="strict", network=network, syscalls="net")) as tasks:
            ended = tasks.run(
                lambda: fetch("127.64.0.1", port),
                first=lambda hatch: own_network(network, hatch),
            )

    assert ended.errno in {"ECONNRESET", "EPIPE"}
    assert [(one.token, one.profile, one.rule) for one in ended.told] == [(0, 1, "connect")]


def _again_and_again(address: tuple[str, int]) -> list[str]:
    """Connect without blocking, and call connect() until it says that it is done."""
    codes = []
    with socket.socket() as connection:
        connection.setblocking(False)
        for _ in range(20):
            code = connection.connect_ex(address)
            codes.append(errno.errorcode.get(code, "0"))
            if code not in {errno.EINPROGRESS, errno.EALREADY}:
                break
            select.select([], [connection], [], 5)
        if codes[-1] in {"0", "EISCONN"}:
            connection.setblocking(True)
            connection.sendall(b"twice")
            codes.append(connection.recv(10).decode())
    return codes


def test_connect_may_be_called_again_on_a_socket_that_does_not_block() -> None:
    with echo_server() as port, room(listed(f"127.0.0.1:{port}")) as tasks:
        reached = tasks.run(lambda: _again_and_again(("127.0.0.1", port)))
        with socket.create_server(("127.0.0.1", 0)) as server:
            nobody = server.getsockname()[1]

    assert reached.value[-1] == "twice", reached
    with room(listed(f"127.0.0.1:{nobody}")) as tasks:
        refused = tasks.run(lambda: _again_and_again(("127.0.0.1", nobody)))
    assert refused.value[-1] == "ECONNREFUSED", refused


def test_a_socket_that_is_connected_says_so() -> None:
    def act() -> list[str]:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            code = connection.connect_ex(("127.0.0.1", port))
            connection.sendall(b"same")
            return [errno.errorcode[code], connection.recv(10).decode()]

    with echo_server() as port, room(listed(f"127.0.0.1:{port}")) as tasks:
        ended = tasks.run(act)

    assert ended.value == ["EISCONN", "same"]


def _ask_the_c_library(name: str) -> str:
    """getaddrinfo(3) itself, as libraries in C call it."""
    libc = ctypes.CDLL(None)
    found = ctypes.c_void_p()
    hints = struct.pack("iiii32x", 0, 0, socket.SOCK_STREAM, 0)
    code = libc.getaddrinfo(name.encode(), b"80", hints, ctypes.byref(found))
    if code:
        libc.gai_strerror.restype = ctypes.c_char_p
        return libc.gai_strerror(code).decode()
    address = ctypes.string_at(found.value + 24, 8)
    return socket.inet_ntoa(ctypes.string_at(struct.unpack("P", address)[0] + 4, 4))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="not glibc")
@pytest.mark.parametrize("asked_before", ["by nobody", "by this thread", "by another thread"])
def test_libraries_in_c_find_listed_names_and_no_others(asked_before) -> None:
    def act() -> list[str]:
        return [_ask_the_c_library("db.internal"), _ask_the_c_library("DB.internal."),
                _ask_the_c_library("other.internal")]  # fmt: skip

    def before(_: int) -> None:
        if asked_before == "by this thread":  # as an app may while it is imported
            _ask_the_c_library("localhost")
        if asked_before == "by another thread":
            asking = threading.Thread(target=_ask_the_c_library, args=("localhost",))
            asking.start()
            asking.join()
        answer_names(tasks.profile)

    with room(listed("api:443", "db.internal:5432")) as tasks:
        ended = tasks.run(act, first=before)

    assert ended.value == ["127.64.0.2", "127.64.0.2", "Name or service not known"], ended
    assert ended.told == ()


def test_a_warden_ends_with_the_process_that_started_it() -> None:
    def scene() -> int:
        watch = Watch()
        watch.start()
        watch.hatch_for(Sandbox()).close()
        return watch.pid or 0  # and ends without a word

    pid = apart(scene)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and time.monotonic() < deadline:
        if not Path(f"/proc/{pid}/cmdline").read_bytes():  # nobody has waited for it yet
            break
        time.sleep(0.02)

    assert time.monotonic() < deadline


@needs_namespaces
def test_root_without_the_right_to_read_memory_has_a_warden_with_the_uid_of_its_tasks() -> None:
    """As in containers, whose root has no CAP_SYS_PTRACE."""

    def scene() -> list:
        without_ptrace()
        with room(listed(f"127.0.0.1:{port}")) as tasks:
            reached = tasks.run(lambda: fetch("127.0.0.1", port))
            refused = tasks.run(lambda: os.execv("/bin/sh", ["sh"]))
            status = Path(f"/proc/{tasks.watch.pid}/status").read_text()
        uid = dict(line.split(":\t", 1) for line in status.splitlines())["Uid"]
        return [uid.split()[1], reached.value, refused.refusals]

    with echo_server() as port:
        told = apart(scene)

    assert told == ["65534", "hello", [["execve", "/bin/sh"]]]


def test_the_warden_writes_no_file_and_starts_nothing(tmp_path) -> None:
    def act() -> list[str]:
        give_up_powers(NOBODY)
        told = []
        for action in (
            lambda: os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT),
            lambda: os.open("/dev/null", os.O_RDWR),
            (tmp_path / "old").unlink,
            lambda: os.execv("/bin/sh", ["sh"]),
            os.fork,
            lambda: call("test", "ptrace", 16, os.getppid()),
        ):
            try:
                told.append(str(action()))
            except (OSError, ConfinementError) as error:
                told.append(errno.errorcode[error.errno])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as names:
            names.connect(("127.0.0.1", 53))
        return told

    (tmp_path / "old").touch()
    tmp_path.chmod(0o777)

    assert apart(act) == ["EPERM"] * 6


@needs_namespaces
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="not glibc")
@pytest.mark.parametrize("has_looked", [False, True])
def test_any_looks_names_up_where_the_machine_does(has_looked: bool) -> None:
    def scene() -> list:
        names = {"far.example": ELSEWHERE}
        with (
            name_server(ELSEWHERE, names),
            echo_server(ELSEWHERE) as port,
            room(Sandbox(network="any", syscalls="net")) as tasks,
        ):
            if has_looked:  # as an app may while it is imported: over UDP, where nobody answers
                with pytest.raises(socket.gaierror):
                    socket.getaddrinfo("far.example", port)

            def act() -> list:
                answer_names(tasks.profile)
                with socket.create_connection(("far.example", port), timeout=10) as connection:
                    connection.sendall(b"far")
                    return [connection.recv(10).decode(), connection.getpeername()[0]]

            return tasks.run(act)

    told = where_names_mean({"db.internal": ELSEWHERE}, scene, name_server=ELSEWHERE)

    assert told == [["far", ELSEWHERE], None, None, []]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x7f" + bytes(11),
        pack_frame(FrameType.VIOLATION, {"token": "1", "rule": "x", "detail": "", "count": 1}),
        pack_frame(FrameType.VIOLATION, {}),
        b"\x51\0\0\0\xff\xff\xff\xff\0\0\0\0",
    ],
)
def test_a_warden_that_speaks_nonsense_is_lost(sent: bytes) -> None:
    watch = Watch()
    watch.start()
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(sent)
        watch._control, real = ours, watch._control

        with pytest.raises(WardenLostError, match="nonsense"):
            watch.receive()

        real.close()
        watch.stop()
