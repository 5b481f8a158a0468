"""What test servers share: programs, ports, a throw-away authority, and processes that end."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

START_SECONDS = 60.0
LOOPBACK = "127.0.0.1"
_CHANCE = random.SystemRandom()  # which Hypothesis does not begin anew


def lacking(what: str) -> NoReturn:
    """Say that a server is missing: loudly on a laptop, and as a failure in CI."""
    message = f"{what} is not installed; run `make servers`"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message)
    pytest.skip(message)


def find_program(*names: str, folders: tuple[str, ...] = ()) -> str:
    """The path of the first of these programs that is installed."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *folders, "/usr/sbin", "/sbin"])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    lacking(names[0])


def free_port() -> int:
    """A loopback port that nobody listens on at this moment, and that no outgoing connection is given meanwhile."""
    while True:
        port = _CHANCE.randrange(10_000, _first_given())
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


def _first_given() -> int:
    """The lowest port that the system gives to outgoing connections."""
    with contextlib.suppress(OSError):
        told = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii")
        return max(20_000, int(told.split()[0]))
    return 32_768


class Pair(NamedTuple):
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


class Authority:
    """A throw-away certificate authority in a folder, for servers at an address and their clients."""

    def __init__(self, folder: Path, *, address: str = LOOPBACK) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.address = address
        self.host = "localhost" if address == LOOPBACK else address
        """By which clients call the servers."""
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "throw-away authority")])
        certificate = self._sign(self._name, self._key.public_key(), [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (x509.KeyUsage(
                digital_signature=False, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
                encipher_only=False, decipher_only=False,
            ), True),
        ])  # fmt: skip
        self.file = folder / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, host: str = "localhost") -> Pair:
        """A certificate with a common name, good for `host` and the address of the servers."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address(self.address))]
        certificate = self._sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            key.public_key(),
            [
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (x509.SubjectAlternativeName(names), False),
            ],
        )
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        pair.key.chmod(0o600)
        return pair

    def _sign(self, subject, public_key, extensions) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256())


class Process:
    """A server of ours: started in a folder, killed with its children, started again."""

    def __init__(self, folder: Path, command: list[str], **options) -> None:
        self.folder = folder
        self.command = command
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not ended by us since."""
        return self._process is not None

    @property
    def log(self) -> str:
        """What it has said so far."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True, **self._options,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            ended = self._process.poll()
            late = time.monotonic() > deadline
            if ended is not None or late:
                self.kill()
                raise AssertionError(f"{self.command[0]} did not start:\n{self.log[-3000:]}")
            time.sleep(0.02)

    def send(self, number: int) -> None:
        """Send a signal to the server and its children."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> None:
        """End it in order, or else by force; safe twice."""
        self.send(number)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """End it as `kill -9` does; safe twice."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None


def listens(port: int, address: str = LOOPBACK) -> bool:
    """Whether something accepts connections on a port."""
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def running(server) -> Iterator:
    """Start a server, and stop it afterwards."""
    try:
        server.start()
        yield server
    finally:
        server.stop()
