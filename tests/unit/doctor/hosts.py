"""Hosts for the doctor to look at, made of a folder and of what is said about the rest."""

from __future__ import annotations

import datetime as dt
import os
import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from cardoon.config import Conf
from cardoon.doctor.scene import Scene, UncheckedError
from cardoon.doctor.server_facts import ServerFacts
from cardoon.sandbox.layers import NEEDED, Layer, Layers
from cardoon.security.authority import create_authority, issue
from cardoon.testing import FakeClock

NOW = 1_900_000_000.0
DAY = 86_400
REDIS = "rediss://worker:s3cr3t-and-long@broker.example:6379/0"
RABBIT = "amqps://worker:s3cr3t-and-long@broker.example/shop"
POSTGRES = (
    "postgresql://worker:s3cr3t-and-long@broker.example/shop?sslmode=verify-full&sslrootcert=ca.pem"
)
ME = os.geteuid()
DROPPING = """\
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
    }
}
"""


class Host:
    """One host, which a case makes good or bad before the doctor comes."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "root"
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)
        self.root.mkdir()
        self._settings = {"state_directory": str(self.state)}
        self._told = {"uid": ME, "now": NOW, "root": self.root}

    def set(self, **settings):
        self._settings |= settings

    def tell(self, **told):
        self._told |= told

    def put(self, path, text):
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    def file(self, name, text="", mode=0o600):
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)
        return str(place)

    def folder_of(self, name, mode=0o755):
        place = self.folder / name
        place.mkdir()
        place.chmod(mode)
        return str(place)

    def process(self, **fields):
        lines = {"CapEff": "0000000000000000", "NoNewPrivs": "1", "Umask": "0077"} | fields
        self.put("/proc/self/status", "".join(f"{k}:\t{v}\n" for k, v in lines.items()))

    def limits(self, soft, hard):
        line = f"Max core file size        {soft}   {hard}   bytes\n"
        self.put("/proc/self/limits", line)

    def kernel(self, name, value):
        self.put("/proc/sys/" + name.replace(".", "/"), f"{value}\n")

    def listen(self, *told):
        """Sockets that listen: address, port, and perhaps whose they are."""
        self.put("/proc/net/tcp", "head\n" + "".join(_line(n, one) for n, one in enumerate(told)))
        self.put("/proc/net/tcp6", "head\n")

    def serve(self, url=REDIS, **facts):
        """One server that answered so."""
        kind = {"r": "redis", "a": "amqp", "p": "postgresql"}[url[0]]
        self.set(broker_url=url)
        known = {"kind": kind, "place": "broker.example:1", "user": "worker"} | facts
        self.tell(servers=lambda: [ServerFacts(**known)])

    def rules(self, text):
        self.tell(run=lambda _: text)

    def certify(self, *, days):
        """The project's own authority and a role `worker`, which ends in so many days."""
        clock = FakeClock(NOW - 400 * DAY)
        create_authority(self.state, "shop.example", clock=clock)
        issue(self.state, "worker", clock=clock, lifetime=(400 + days) * DAY)

    def list_revoked(self, *, days):
        """A revocation list of that authority, whose successor is due in so many days."""
        key = serialization.load_pem_private_key((self.state / "ca.key").read_bytes(), None)
        authority = x509.load_pem_x509_certificate((self.state / "ca.pem").read_bytes())
        now = dt.datetime.fromtimestamp(NOW, dt.UTC)
        made = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.subject)
            .last_update(now - dt.timedelta(days=100))
            .next_update(now + dt.timedelta(days=days))
            .sign(key, hashes.SHA256())
        )
        path = self.state / "ca.crl"
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        path.chmod(0o644)

    def layers(self, *off):
        self.tell(layers=lambda: Layers(Layer(name, name not in off, "as told") for name in NEEDED))

    def policy(self, task, mode=0o600):
        text = (
            'version = 1\n[role.web]\nids = ["spiffe://shop.example/web"]\n'
            f'[[allow]]\nrole = "web"\naction = "send"\ntask = ["{task}"]\n'
        )
        self.set(security_policy=self.file("policy.toml", text, mode))

    def scene(self):
        conf = Conf({})
        conf.update(self._settings)
        return Scene(settings=conf.settings(), **self._told)


def _line(number, told):
    address, port, *uid = told
    native = struct.unpack("=I", bytes(int(part) for part in address.split(".")))[0]
    owner = uid[0] if uid else 12345
    return f" {number}: {native:08X}:{port:04X} 00000000:0000 0A 0:0 0:0 0 {owner} 0 1\n"


def certificate(*, days=365, bits=0):
    """A server's certificate, in DER; RSA of so many bits, or P-256."""
    key = (
        rsa.generate_private_key(public_exponent=65537, key_size=bits)
        if bits
        else ec.generate_private_key(ec.SECP256R1())
    )
    begin = dt.datetime.fromtimestamp(NOW, dt.UTC) - dt.timedelta(days=100)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=100 + days))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def not_there(*_):
    raise UncheckedError("it is not there")
