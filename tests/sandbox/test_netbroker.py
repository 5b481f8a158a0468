"""Which addresses a task may have, what a listed name leads to, and how a connection is made."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from cardoon.sandbox.loop import Loop
from cardoon.sandbox.netbroker import Dialled, NetBroker, Peer, parse_sockaddr
from cardoon.sandbox.netrules import (
    IpAddress,
    NetworkRules,
    Refused,
    Target,
)
from cardoon.sandbox.relaying import Relays
from tests.sandbox.watched import echo_server

ip = ipaddress.ip_address


class Names:
    """Names that mean what a test says, as a name server would."""

    def __init__(self, **meaning: Sequence[str]) -> None:
        self.meaning = meaning
        self.asked: list[str] = []
        self.held = threading.Event()
        self.held.set()

    def __call__(self, host: str) -> list[IpAddress]:
        self.asked.append(host)
        self.held.wait(10)
        return [ip(one) for one in self.meaning.get(host.partition(".")[0], ())]


class Bench:
    """A loop with a broker, turned until something has happened."""

    def __init__(self, names: Names) -> None:
        self.loop = Loop()
        self.broker = NetBroker(self.loop, resolve=names)

    def dial(self, rules: NetworkRules, target: Target, *, hurried: bool = False) -> Dialled:
        told: list[Dialled] = []
        self.broker.dial(rules, target, told.append, hurried=hurried)
        self.turn(lambda: bool(told))
        return told[0]

    def turn(self, until, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, "nothing happened"
            self.loop.turn(0.05)


@contextlib.contextmanager
def bench(**meaning: Sequence[str]) -> Iterator[tuple[Bench, Names]]:
    names = Names(**meaning)
    made = Bench(names)
    yield made, names
    names.held.set()
    made.loop.close()


# Addresses as tasks write them


def test_addresses_are_read_as_the_kernel_reads_them() -> None:
    inet = struct.pack("=H", socket.AF_INET) + b"\x00\x50" + bytes([192, 0, 2, 7]) + bytes(8)
    inet6 = struct.pack("=H", 10) + b"\x01\xbb" + bytes(4) + ip("fe80::1").packed + b"\3\0\0\0"

    assert parse_sockaddr(inet) == Peer(2, ip("192.0.2.7"), 80)
    assert parse_sockaddr(inet6) == Peer(10, ip("fe80::1"), 443, 3)
    assert parse_sockaddr(b"\1\0/run/x\0junk") == Peer(1, path=b"/run/x")
    assert parse_sockaddr(b"\1\0\0abstract") == Peer(1, path=b"\0abstract")
    assert parse_sockaddr(b"\0\0") == Peer(0)
    for hostile in (b"", b"\2", b"\2\0", inet[:15], inet6[:23], bytes(129)):
        with pytest.raises(OSError, match="address") as error:
            parse_sockaddr(hostile)
        assert error.value.errno == errno.EINVAL


# Connecting


def test_a_name_is_resolved_at_each_connection() -> None:
    with echo_server() as port, bench(db=["127.0.0.1"]) as (at, names):
        rules = NetworkRules([f"db.internal:{port}", f"127.0.0.1:{port}"])
        for _ in range(2):
            told = at.dial(rules, Target("db.internal", port))
            assert told.socket is not None
            told.socket.close()

        names.meaning["db"] = ["127.0.0.9"]
        moved = at.dial(rules, Target("db.internal", port))

    assert names.asked == ["db.internal"] * 3
    assert moved.refused is not None


def test_a_name_that_means_nothing_is_unreachable() -> None:
    with bench() as (at, _):
        told = at.dial(NetworkRules(["db.internal:80"]), Target("db.internal", 80))

    assert (told.socket, told.error, told.refused) == (None, errno.EHOSTUNREACH, None)


def test_the_next_address_is_tried_where_one_refuses() -> None:
    with echo_server() as port, bench(db=["127.0.0.3", "127.0.0.1"]) as (at, _):
        rules = NetworkRules([f"db.internal:{port}", f"127.0.0.1:{port}", f"127.0.0.3:{port}"])
        told = at.dial(rules, Target("db.internal", port))
        assert told.socket is not None
        assert told.socket.getpeername() == ("127.0.0.1", port)
        told.socket.close()


def test_a_hurried_socket_is_given_back_while_it_connects() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, bench() as (at, _):
        port = server.getsockname()[1]
        target, rules = Target("127.0.0.1", port), NetworkRules([f"127.0.0.1:{port}"])
        kept, errors = [], []
        for _ in range(4):  # the queue is full after two, and the kernel lets others wait
            told = at.dial(rules, target, hurried=True)
            errors.append(told.error)
            kept.append(told.socket)
        for one in kept:
            assert one is not None
            one.close()

    assert errno.EINPROGRESS in errors


def test_a_name_server_that_does_not_answer_costs_a_deadline(monkeypatch) -> None:
    monkeypatch.setattr("cardoon.sandbox.netbroker.CONNECT_SECONDS", 0.2)
    with bench(db=["127.0.0.1"]) as (at, names):
        names.held.clear()
        told = at.dial(NetworkRules(["db.internal:80"]), Target("db.internal", 80))

    assert told.error == errno.ETIMEDOUT


# Relays


@contextlib.contextmanager
def relayed(at: Bench, target: str) -> Iterator[tuple[Relays, int, list[Refused]]]:
    """A relay to a target, and the port at which tasks would find it; its loop turns in a thread."""
    refusals: list[Refused] = []
    relays = Relays(at.loop, at.broker, NetworkRules([target]), on_refused=refusals.append)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    relays.serve(0, listening.detach())
    over = threading.Event()

    def turn() -> None:
        while not over.is_set():
            at.loop.turn(0.05)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield relays, port, refusals
    finally:
        over.set()
        thread.join()
        relays.close()


def test_bulk_goes_through_a_relay_both_ways_with_half_closed_ends() -> None:
    sent = bytes(range(256)) * 40_000  # 10 MB: more than all buffers on the way

    def send(connection: socket.socket) -> None:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)

    with echo_server() as server, bench() as (at, _), relayed(at, f"127.0.0.1:{server}") as (
        relays, port, _,
    ):  # fmt: skip
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            thread = threading.Thread(target=send, args=(connection,))
            thread.start()
            got = bytearray()
            while found := connection.recv(1 << 16):
                got += found
            thread.join()
        at_end = relays.made

    assert got == sent
    assert at_end == 1


def test_a_relay_holds_no_more_than_a_buffer_of_what_nobody_reads() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        bench() as (at, _),
        relayed(at, f"127.0.0.1:{server.getsockname()[1]}") as (_, port, _),
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        silent, _ = server.accept()
        connection.settimeout(1)
        taken = 0
        with silent, contextlib.suppress(TimeoutError):
            while taken < 256 << 20:
                taken += connection.send(bytes(1 << 20))

    assert taken < 64 << 20


def test_a_server_that_is_not_there_resets_the_tasks_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = server.getsockname()[1]
    with (
        bench() as (at, _),
        relayed(at, f"127.0.0.1:{nobody}") as (_, port, refusals),
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
    ):
        connection.recv(1)

    assert refusals == []


def test_a_relay_does_not_lead_where_a_name_may_not() -> None:
    with (
        echo_server() as server,
        bench(db=["127.0.0.1"]) as (at, _),
        relayed(at, f"db.internal:{server}") as (_, port, refusals),
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
    ):
        connection.recv(1)

    assert [one.address for one in refusals] == [f"db.internal:{server}"]


def test_connections_beyond_the_most_wait_and_are_served_later(monkeypatch) -> None:
    monkeypatch.setattr("cardoon.sandbox.relaying.MAX_OPEN", 2)
    with (
        echo_server() as server,
        bench() as (at, _),
        relayed(at, f"127.0.0.1:{server}") as (relays, port, _),
    ):
        held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(3)]
        for one in held:
            one.sendall(b"x")
        assert [one.recv(1) for one in held[:2]] == [b"x", b"x"]
        assert relays.made == 2
        held[0].close()
        assert held[2].recv(1) == b"x"
        for one in held[1:]:
            one.close()
