"""What Landlock grants can be reached, and nothing else; with the rights of every version of it."""

# ruff: noqa: PTH123, PTH208, PLW0108 - attempts are said as system calls would be

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.landlock import (
    BIND_TCP,
    CONNECT_TCP,
    DEVICE,
    EXECUTE,
    READ,
    READ_DIR,
    WRITE,
    Ruleset,
    find_abi,
    network_rights,
)
from cardoon.sandbox.limits import no_new_privileges
from cardoon.sandbox.profile import Sandbox
from tests.sandbox.children import NOBODY, USERS, Ended, run

NEWEST = 7
"""What was tried; a newer kernel holds at least as much."""
VERSIONS = range(1, NEWEST + 1)


@pytest.fixture
def ground(reachable: Path) -> Path:
    """A directory to read, one to write, one of secrets, everybody's by their modes."""
    for name in ("read", "write", "secret"):
        folder = reachable / name
        folder.mkdir()
        (folder / "file").write_text(name)
    for path in (reachable, *reachable.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        path.chmod(0o777)
    return reachable


def holding(ground: Path, *, abi: int | None = None, network: int = 0) -> Callable[[], None]:
    """A step that holds the child to `read` and `write`."""

    def step() -> None:
        no_new_privileges()
        with Ruleset(network=network, abi=abi) as ruleset:
            ruleset.allow(str(ground / "read"), READ)
            ruleset.allow(str(ground / "write"), WRITE)
            ruleset.restrict_self()

    return step


def attempts(ground: Path) -> dict[str, Callable[[], object]]:
    """What nobody may who is held to the ground."""
    read, write, secret = ground / "read", ground / "write", ground / "secret"
    return {
        "read a secret": lambda: (secret / "file").read_text(),
        "list the directory of secrets": lambda: os.listdir(secret),
        "list what is above": lambda: os.listdir(ground),
        "read by way of ..": lambda: (read / ".." / "secret" / "file").read_text(),
        "write what is for reading": lambda: (read / "file").write_text("mine"),
        "append to what is for reading": lambda: (read / "file").open("a").write("mine"),
        "make a file beside what is for reading": lambda: (read / "new").write_text("mine"),
        "remove what is for reading": lambda: (read / "file").unlink(),
        "make a directory there": lambda: (read / "new").mkdir(),
        "rename out of it": lambda: (read / "file").rename(write / "taken"),
        "rename a secret into reach": lambda: (secret / "file").rename(write / "taken"),
        "link a secret into reach": lambda: os.link(secret / "file", write / "linked"),
        "link what is for reading to where it can be written": lambda: os.link(
            read / "file", write / "linked"
        ),
        "follow a symbolic link out": lambda: (
            (write / "way").symlink_to(secret / "file"),
            (write / "way").read_text(),
        )[1],
        "make a socket": lambda: socket.socket(socket.AF_UNIX).bind(str(write / "socket")),
        "make a pipe": lambda: os.mkfifo(write / "pipe"),
        "run what was written": lambda: _run_written(write),
    }


def _run_written(write: Path) -> None:
    script = write / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    os.execve(script, [str(script)], {})


NAMES = sorted(attempts(Path("/")))
ENDS_PROCESS = {"run what was written"}


@pytest.mark.parametrize("uid", USERS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_granted_is_refused(ground: Path, name: str, uid: int) -> None:
    if name not in ENDS_PROCESS:
        control = run(lambda: bool(attempts(ground)[name]()), uid=uid)
        assert control.error is None, "not refused without Landlock"
        _restore(ground)

    ended = run(lambda: bool(attempts(ground)[name]()), holding(ground), uid=uid)

    assert ended.errno in {"EACCES", "EXDEV"}


@pytest.mark.parametrize("abi", VERSIONS)
def test_every_version_holds_files(ground: Path, abi: int) -> None:
    if abi > find_abi():
        pytest.skip(f"this kernel has version {find_abi()}")

    ended = [
        run(lambda name=name: bool(attempts(ground)[name]()), holding(ground, abi=abi))
        for name in NAMES
    ]

    assert {one.errno for one in ended} <= {"EACCES", "EXDEV"}


def _restore(ground: Path) -> None:
    """Undo what a control did."""
    for name in ("read", "secret"):
        folder = ground / name
        new = folder / "new"
        if new.is_dir():
            new.rmdir()
        new.unlink(missing_ok=True)
        if not (folder / "file").exists():
            (folder / "file").write_text(name)
        (folder / "file").chmod(0o777)
    for path in (ground / "write").iterdir():
        if path.name != "file":
            path.unlink()


@pytest.mark.parametrize("uid", USERS)
def test_what_is_granted_can_be_used(ground: Path, uid: int) -> None:
    def work() -> list[str]:
        write = ground / "write"
        (write / "folder").mkdir()
        (write / "folder" / "a").write_text("a")
        (write / "folder" / "a").rename(write / "b")
        os.link(write / "b", write / "c")
        (write / "d").symlink_to("c")
        os.truncate(write / "b", 0)
        (write / "file").write_text("mine")
        read = [(ground / "read" / "file").read_text(), *os.listdir(ground / "read")]
        (write / "c").unlink()
        (write / "folder").rmdir()
        return read

    assert run(work, holding(ground), uid=uid) == Ended(value=["read", "file"])


def test_a_missing_path_is_named(ground: Path) -> None:
    with Ruleset() as ruleset, pytest.raises(ConfinementError, match=r"/none' cannot be granted"):
        ruleset.allow(str(ground / "none"), READ)

    with Ruleset() as ruleset:
        ruleset.allow(str(ground / "none"), READ, is_optional=True)


@pytest.mark.parametrize("uid", USERS)
def test_what_may_be_read_is_not_cut_off(ground: Path, uid: int) -> None:
    if find_abi() < 3:
        pytest.skip("this kernel does not know of truncation")
    file = ground / "read" / "file"
    for cut in (lambda: os.truncate(file, 4), lambda: os.close(os.open(file, os.O_TRUNC))):
        assert run(cut, holding(ground), uid=uid).errno == "EACCES"
        assert run(cut, holding(ground, abi=2), uid=uid) == Ended(), "what the filter makes up for"


@pytest.mark.parametrize("uid", USERS)
def test_a_device_that_may_be_read_is_not_told_what_to_do(uid: int) -> None:
    if find_abi() < 5:
        pytest.skip("this kernel does not know devices")

    def holding_device(rights: int) -> Callable[[], None]:
        def step() -> None:
            no_new_privileges()
            with Ruleset() as ruleset:
                ruleset.allow("/dev/urandom", rights)
                ruleset.restrict_self()

        return step

    def ask_for_entropy() -> int:
        with open("/dev/urandom", "rb") as device:
            fcntl.ioctl(device, 0x80045200, bytes(4))  # RNDGETENTCNT
        return 1

    assert run(ask_for_entropy, uid=uid) == Ended(value=1)
    assert run(ask_for_entropy, holding_device(DEVICE), uid=uid) == Ended(value=1)
    assert run(ask_for_entropy, holding_device(READ), uid=uid).errno == "EACCES"


@pytest.mark.parametrize("uid", USERS)
def test_what_may_be_read_may_not_be_run(uid: int) -> None:
    def step(rights: int) -> Callable[[], None]:
        def confine() -> None:
            no_new_privileges()
            with Ruleset() as ruleset:
                for path in ("/bin", "/usr", "/lib", "/lib64", "/etc/ld.so.cache"):
                    ruleset.allow(path, rights, is_optional=True)
                ruleset.restrict_self()

        return confine

    def work() -> int:
        return os.spawnv(os.P_WAIT, "/bin/true", ["true"])

    assert run(work, step(READ | EXECUTE), uid=uid) == Ended(value=0)
    assert run(work, step(READ), uid=uid) == Ended(value=127)  # what spawnv says of EACCES


def test_a_file_gets_the_rights_of_files(ground: Path) -> None:
    def step() -> None:
        no_new_privileges()
        with Ruleset() as ruleset:
            ruleset.allow(str(ground / "write" / "file"), WRITE)
            ruleset.restrict_self()

    assert run(lambda: (ground / "write" / "file").write_text("x"), step) == Ended(value=1)
    assert run(lambda: (ground / "write" / "new").write_text("x"), step).errno == "EACCES"
    with Ruleset() as ruleset, pytest.raises(ConfinementError, match="no right fits a file"):
        ruleset.allow(str(ground / "write" / "file"), READ_DIR)


@pytest.mark.parametrize("uid", USERS)
def test_ports_are_refused(ground: Path, uid: int) -> None:
    if find_abi() < 4:
        pytest.skip("this kernel does not know ports")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()

        def connect() -> None:
            socket.create_connection(address, timeout=5).close()

        def listen() -> None:
            socket.create_server(("127.0.0.1", 0)).close()

        for action, right in ((connect, CONNECT_TCP), (listen, BIND_TCP)):
            assert run(action, uid=uid) == Ended()
            assert run(action, holding(ground), uid=uid).errno == "EACCES"
            assert run(action, holding(ground, network=right), uid=uid) == Ended()


@pytest.mark.parametrize("uid", USERS)
def test_signals_and_abstract_sockets_stay_within(ground: Path, uid: int) -> None:
    if find_abi() < 6:
        pytest.skip("this kernel does not know signals")
    victim = os.fork()
    if victim == 0:
        if uid:
            os.setresuid(uid, uid, uid)
        signal.pause()
        os._exit(0)
    name = f"\0cardoon-{os.getpid()}-{uid}"
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
            server.listen()

            def connect() -> None:
                socket.socket(socket.AF_UNIX).connect(name)

            for action in (lambda: os.kill(victim, 0), connect):
                assert run(action, holding(ground), uid=uid).errno == "EPERM"
                if uid == os.geteuid() or action is connect:
                    assert run(action, uid=uid) == Ended()
    finally:
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)


@pytest.mark.parametrize(
    ("fields", "rights"),
    [
        ({}, 0),
        ({"network": "any"}, BIND_TCP | CONNECT_TCP),
        ({"network": "loopback"}, 0),
        ({"network": ["a:1"]}, 0),
        ({"network": "loopback", "level": "strict"}, BIND_TCP | CONNECT_TCP),
        ({"network": ["a:1"], "level": "strict"}, CONNECT_TCP),
    ],
)
def test_ports_of_a_profile(fields: dict, rights: int) -> None:
    assert network_rights(Sandbox(syscalls="net", **fields)) == rights


def test_it_needs_no_new_privileges_without_capabilities(ground: Path) -> None:
    if NOBODY not in USERS:
        pytest.skip("needs root, to become nobody")

    def restrict() -> None:
        with Ruleset() as ruleset:
            ruleset.restrict_self()

    ended = run(restrict, uid=NOBODY)

    assert ended.errno == "EPERM"
    assert "sandbox: landlock: landlock_restrict_self()" in (ended.error or "")


def test_no_descriptor_is_left(ground: Path) -> None:
    before = os.listdir("/proc/self/fd")

    with Ruleset() as ruleset:
        ruleset.allow(str(ground), READ)
        with pytest.raises(ConfinementError):
            ruleset.allow(str(ground / "none"), READ)
    ruleset.close()

    assert os.listdir("/proc/self/fd") == before
