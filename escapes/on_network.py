"""Network: TCP, UDP, DNS, sockets of this machine; without any granted address, and beside a granted one."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from escapes.calls import call
from escapes.matrix import Act, attempt
from escapes.proofs import arrived, passed
from escapes.world import World

_MPTCP = 262
_MSG_FASTOPEN = 0x20000000
_TCP_FASTOPEN_CONNECT = 30
_HERE = "127.0.0.1"
_SECONDS = 2.0
_VSOCK = "AF_VSOCK asks for a kernel with it"
_RAW = "raw and packet sockets ask for CAP_NET_RAW"


def _dial(world: World, target: str, *, protocol: int = 0, family: int = socket.AF_INET) -> str:
    with socket.socket(family, socket.SOCK_STREAM, protocol) as sock:
        sock.settimeout(_SECONDS)
        host = _HERE if family == socket.AF_INET else "::1"
        sock.connect((host, world.ports[target]))
        sock.sendall(world.token.encode())
    return "sent"


@attempt("network", proof=arrived("broker"))
def connect_to_the_broker(world: World) -> Any:
    """Connect to the broker's port."""
    return _dial(world, "broker")


@attempt("network", proof=arrived("metadata"))
def connect_to_the_metadata(world: World) -> Any:
    """Ask a metadata service for credentials; a listener stands in for 169.254.169.254."""
    return _dial(world, "metadata")


@attempt("network", proof=arrived("broker6"))
def connect_by_ipv6(world: World) -> Any:
    """Connect by IPv6."""
    return _dial(world, "broker6", family=socket.AF_INET6)


@attempt("network", proof=arrived("broker"))
def connect_by_mptcp(world: World) -> Any:
    """Connect by MPTCP, which rules for TCP do not see."""
    return _dial(world, "broker", protocol=_MPTCP)


def _fast_open(world: World, target: str = "broker") -> str:
    with socket.socket() as sock:
        sock.sendto(world.token.encode(), _MSG_FASTOPEN, (_HERE, world.ports[target]))
    return "sent"


@attempt("network", proof=arrived("broker"))
def connect_by_fast_open(world: World) -> Any:
    """Connect by sendto with MSG_FASTOPEN, without connect."""
    return _fast_open(world)


def _fast_open_many(world: World, target: str = "broker") -> str:
    text = ctypes.create_string_buffer(world.token.encode())
    address = ctypes.create_string_buffer(
        struct.pack("=H", socket.AF_INET)
        + struct.pack("!H", world.ports[target])
        + socket.inet_aton(_HERE)
        + bytes(8)
    )
    vector = ctypes.create_string_buffer(
        struct.pack("PN", ctypes.addressof(text), len(world.token)), 16
    )
    header = struct.pack(
        "PI4xPNPNi4xI4x", ctypes.addressof(address), 16, ctypes.addressof(vector), 1, 0, 0, 0, 0
    )
    with socket.socket() as sock:
        held = ctypes.create_string_buffer(header, len(header))
        sent = call("sendmmsg", sock.fileno(), held, 1, _MSG_FASTOPEN)
        return f"sent {sent}"


@attempt("network", proof=arrived("broker"))
def connect_by_fast_open_of_many(world: World) -> Any:
    """The same by sendmmsg."""
    return _fast_open_many(world)


@attempt("network", proof=arrived("broker"))
def connect_late_by_fast_open(world: World) -> Any:
    """Connect with TCP_FASTOPEN_CONNECT, which puts the handshake off until something is written."""
    with socket.socket() as sock:
        sock.settimeout(_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_CONNECT, 1)
        sock.connect((_HERE, world.ports["broker"]))
        sock.sendall(world.token.encode())
    return "sent"


def _send(world: World, target: str, content: bytes) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(content, (_HERE, world.ports[target]))
    return "sent"


@attempt("network", proof=arrived("udp"))
def send_by_udp(world: World) -> Any:
    """Send a datagram."""
    return _send(world, "udp", world.token.encode())


@attempt("network", proof=arrived("dns"))
def ask_the_name_server(world: World) -> Any:
    """Carry something out in the name that one asks DNS for."""
    name = bytes([len(world.token)]) + world.token.encode() + b"\x07example\x00"
    return _send(world, "dns", struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + name + b"\0\1\0\1")


@attempt("network", proof=arrived("unix"))
def connect_to_a_unix_socket(world: World) -> Any:
    """Connect to a service's socket in the file system."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(world.paths["unix"])
        sock.sendall(world.token.encode())
    return "sent"


@attempt("network", proof=arrived("unix_datagram"))
def send_to_a_unix_socket(world: World) -> Any:
    """Send a datagram to a service's socket in the file system."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(world.token.encode(), world.paths["unix_datagram"])
    return "sent"


@attempt("network", proof=arrived("unix_datagram"))
def send_from_a_pair(world: World) -> Any:
    """The same from one of a pair of sockets, without socket()."""
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(world.token.encode(), world.paths["unix_datagram"])
    return "sent"


@attempt("network", proof=arrived("unix_datagram"))
def connect_a_pair_elsewhere(world: World) -> Any:
    """Connect one of a pair of sockets elsewhere."""
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.connect(world.paths["unix_datagram"])
    one.send(world.token.encode())
    return "sent"


@attempt("network", proof=arrived("abstract"))
def connect_to_an_abstract_name(world: World) -> Any:
    """Connect to a socket that has no file."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + world.paths["abstract"])
        sock.sendall(world.token.encode())
    return "sent"


@attempt("network", proof=arrived("served"))
def serve_others(world: World) -> Any:
    """Listen on a port, and answer who connects."""
    with socket.create_server((_HERE, world.ports["served"])) as listener:
        listener.settimeout(_SECONDS)
        peer, _ = listener.accept()
        with peer:
            peer.sendall(world.token.encode())
    return "served"


def _opens(family: int, kind: int, protocol: int = 0) -> Callable[[World], Any]:
    def act(_: World) -> Any:
        return f"passed: descriptor {call('socket', family, kind, protocol)}"

    return act


_KINDS = (
    ("a_netlink_socket", "a netlink socket", (socket.AF_NETLINK, socket.SOCK_RAW, 0), ""),
    ("a_vsock", "a socket to the host of this machine", (40, socket.SOCK_STREAM, 0), _VSOCK),
    ("a_raw_socket", "a raw socket", (socket.AF_INET, socket.SOCK_RAW, 1), _RAW),
    ("a_packet_socket", "a packet socket", (17, socket.SOCK_RAW, 0x300), _RAW),
    (
        *("a_socket_of_the_kernels_ciphers", "a socket of the kernel's ciphers"),
        *((38, socket.SOCK_SEQPACKET, 0), "AF_ALG asks for a kernel with it"),
    ),
    ("an_icmp_socket", "a socket for pings", (socket.AF_INET, socket.SOCK_DGRAM, 1), _RAW),
)
for _name, _what, _arguments, _needs in _KINDS:
    attempt("network", name=f"open_{_name}", text=f"Open {_what}.", proof=passed, needs=_needs)(
        _opens(*_arguments)
    )


@attempt("network", proof=passed)
def open_any_family(_: World) -> Any:
    """Open a socket of any of fifty families, but for unix and internet ones."""
    found = []
    for family in range(50):
        if family in {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6}:
            continue
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                os.close(call("socket", family, kind, 0))
            except OSError:
                continue
            found.append(family)
    assert found, "none"
    return f"passed: {sorted(set(found))}"


def _beside(channel: str) -> Callable[[Act], Act]:
    return attempt("granted network", profile="listed", proof=arrived(channel))


@_beside("broker")
def granted_other_port(world: World) -> Any:
    """Connect to another port than the one that is granted."""
    return _dial(world, "broker")


@_beside("broker6")
def granted_other_family(world: World) -> Any:
    """Connect by IPv6 where an IPv4 address is granted."""
    return _dial(world, "broker6", family=socket.AF_INET6)


@_beside("broker")
def granted_aim_again(world: World) -> Any:
    """Connect to the granted address, let go of it, and connect the same socket elsewhere."""
    with socket.socket() as sock:
        sock.settimeout(_SECONDS)
        sock.connect((_HERE, world.ports["granted"]))
        unspecified = struct.pack("=H", 0) + bytes(14)
        ctypes.CDLL(None, use_errno=True).connect(sock.fileno(), unspecified, 16)
        sock.connect((_HERE, world.ports["broker"]))
        sock.sendall(world.token.encode())
    return "sent"


@_beside("broker")
def granted_mptcp(world: World) -> Any:
    """Connect by MPTCP to another port than the one that is granted."""
    return _dial(world, "broker", protocol=_MPTCP)


@_beside("broker")
def granted_fast_open(world: World) -> Any:
    """Connect by MSG_FASTOPEN to another port than the one that is granted."""
    return _fast_open(world)


@_beside("broker")
def granted_fast_open_of_many(world: World) -> Any:
    """The same by sendmmsg."""
    return _fast_open_many(world)


@_beside("udp")
def granted_udp(world: World) -> Any:
    """Send a datagram where TCP to an address is granted."""
    return _send(world, "udp", world.token.encode())


@_beside("unix")
def granted_unix(world: World) -> Any:
    """Connect to a service's socket in the file system where TCP is granted."""
    return connect_to_a_unix_socket(world)


@_beside("abstract")
def granted_abstract(world: World) -> Any:
    """Connect to an abstract name where TCP is granted."""
    return connect_to_an_abstract_name(world)


@_beside("served")
def granted_serve(world: World) -> Any:
    """Listen on a port where TCP to an address is granted."""
    return serve_others(world)


@_beside("broker")
def granted_race(world: World) -> Any:
    """Change the address in memory while the kernel or the broker of connections looks at it."""

    def address(name: str) -> bytes:
        port = struct.pack("!H", world.ports[name])
        return struct.pack("=H", socket.AF_INET) + port + socket.inet_aton(_HERE) + bytes(8)

    good, bad = address("granted"), address("broker")
    shared = ctypes.create_string_buffer(good, 16)
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            for one in (bad, good):
                ctypes.memmove(shared, one, 16)
                time.sleep(0.0001)

    libc = ctypes.CDLL(None, use_errno=True)
    thread = threading.Thread(target=flip, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            with socket.socket() as sock:
                if libc.connect(sock.fileno(), shared, 16) == 0:
                    sock.sendall(world.token.encode())
    finally:
        stop.set()
        thread.join()
    return "tried"
