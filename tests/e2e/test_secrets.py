"""What a task can find out about the worker that runs it: no key, no address."""

from __future__ import annotations

import sys

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from cardoon import Cardoon
from tests.e2e.conftest import DEADLINE, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
def test_a_task_finds_neither_key_nor_broker_url(site, pool):
    assert find_secrets(site, pool) == set()


def test_a_variable_that_is_passed_on_purpose_is_found(site):
    """The control: the search does find what is there."""
    found = find_secrets(site, "prefork", {"CARDOON_WORKER_PASS_ENVIRONMENT": "SHOP_BROKER"})

    assert {("broker url", "memory"), ("broker url", "environ")} <= found
    assert not {name for name, _ in found if "key" in name or "result" in name}


def find_secrets(site, pool: str, more: dict[str, str] | None = None) -> set[tuple[str, str]]:
    """Which secrets a task can find, and where."""
    folder = site.folder / "dump"
    folder.mkdir()
    hidden = site.folder / "kept-apart"
    broker = f"sqlite:///{hidden}/queue-{'q' * 8}-7f3a.db"
    results = f"sqlite:///{hidden}/results-{'r' * 8}-91cc.db"
    app = Cardoon(
        "secretive",
        broker=broker,
        backend=results,
        state_directory=str(site.folder / ".cardoon"),
        security_encrypt="body",
        set_as_current=False,
    )
    environment = {"SHOP_BROKER": broker, "SHOP_RESULTS": results, "HARMLESS": "stays-visible"}
    environment["CARDOON_SECURITY_ENCRYPT"] = "body"
    environment |= more or {}
    site.start("-P", pool, "-c", "1", env=environment, app="secretive", wait=False)

    with app:
        assert app.send_task("secretive.add", (1, 2)).get(timeout=DEADLINE) == 3
        told = app.send_task("secretive.dump", (str(folder),)).get(timeout=DEADLINE)

    assert told["bytes"] > 10_000_000, "the dump is too small to prove anything"
    haystack = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert b"stays-visible" in haystack["environ"]
    assert b"stays-visible" in haystack["memory"]
    needles = {
        "broker url": broker.encode(),
        "broker file": b"queue-qqqqqqqq-7f3a",
        "result url": results.encode(),
        "result file": b"results-rrrrrrrr-91cc",
    }
    for role in ("worker", "client"):
        needles |= private_bytes(role, (site.folder / ".cardoon" / f"{role}.key").read_bytes())
    [sealing] = (site.folder / ".cardoon" / "keyset").glob("*.key")
    needles |= private_bytes("encryption", sealing.read_bytes())
    assert b".db" not in haystack["files"]
    assert b".key" not in haystack["files"]
    return {
        (name, place)
        for name, needle in needles.items()
        for place, hay in haystack.items()
        if needle in hay
    }


def test_a_literal_password_is_warned_of(site):
    (site.folder / "literal.py").write_text(
        "from cardoon import Cardoon\napp = Cardoon('literal', security_key_password='hunter2')\n"
    )
    site.start(app="literal", wait=False)

    wait_until(
        lambda: "security_key_password is written in the app's source" in site.log.read_text()
    )
    assert "hunter2" not in site.log.read_text()


def private_bytes(role: str, pem: bytes) -> dict[str, bytes]:
    """A private key in every form in which it may lie about."""
    key = load_pem_private_key(pem, None)
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return {
        f"{role} key": raw,
        f"{role} key reversed": raw[::-1],
        f"{role} key in PEM": pem.splitlines()[1],
        f"{role} key in hex": raw.hex().encode(),
    }
