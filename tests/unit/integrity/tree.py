"""A small tree of files, and its baseline."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cardoon.integrity.approved import Place, open_approved
from cardoon.integrity.baseline import open_baseline, sign_baseline, write_baseline
from cardoon.integrity.comparison import Comparison
from cardoon.integrity.manifest import Head
from cardoon.integrity.rules import Rules
from cardoon.integrity.walk import Walk

MOMENT = "2026-12-02T10:00:00+00:00"


class Tree:
    """Files below a folder, what approves their baseline, and where that is."""

    def __init__(self, folder: Path, *, more: tuple[str, ...] = (), **rules):
        self.folder = folder
        self.root = folder / "app"
        self.root.mkdir()
        self.write("tasks.py", "def add(x, y):\n    return x + y\n")
        self.write("pkg/__init__.py", "")
        self.write("pkg/more.py", "value = 1\n")
        self.write("pkg.py", "in the order of bytes this is before pkg/more.py\n")
        self.write("data.bin", "x" * 300_000)
        self.write("log.txt", "one\n")
        (self.root / "link").symlink_to("tasks.py")
        (self.root / "empty").mkdir()
        self.rules = Rules((str(self.root), *more), **rules)
        self.key = Ed25519PrivateKey.generate()
        self.public = folder / "approver.pem"
        self.public.write_bytes(pem_of(self.key))
        self.baseline = folder / "host.baseline"
        self.place = Place(self.baseline, (self.public,), folder / "state", "here")

    def write(self, name: str, content: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def make(self, *, serial=1, host="here", key=None):
        """Make a baseline of what is there, and sign it."""
        made = write_baseline(
            self.baseline, Head(serial, host, MOMENT, self.rules), Walk(self.rules)
        )
        self.sign(key)
        return made

    def sign(self, key=None):
        with open_baseline(self.baseline) as opened:
            sign_baseline(opened, key or self.key)

    def check(self, **options):
        """The findings, as text, with the folder left out."""
        with open_approved(self.place) as opened:
            found = list(Comparison(opened.head.rules, opened.lines(), **options))
        return [str(one).replace(f"{self.root}/", "") for one in found]


def pem_of(key) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def private_pem_of(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@contextlib.contextmanager
def times_kept(path: Path):
    """Whatever is done meanwhile, the times that can be set are set back."""
    status = path.stat()
    yield
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
