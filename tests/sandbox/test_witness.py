"""What a task's own process notices of what its sandbox forbids: its word, and nothing more."""

# What tasks call is what is tried here, and anything may be raised.
# ruff: noqa: BLE001, PTH101, PTH102, PTH104, PTH106, PTH107, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import traceback

import pytest

from cardoon.sandbox.profile import Level, Sandbox
from cardoon.sandbox.violations import MAX_KINDS, parse, tell
from cardoon.sandbox.witness import Witness

CODE = (
    sys.prefix,
    sys.base_prefix,
    os.path.dirname(os.__file__),
    "/usr/lib",
    "/lib",
    os.path.dirname(__file__),
)


def witnessed(work, *, code=CODE, listen=True, **fields):
    """What the witness says of `work`, in a process of its own: audit hooks are for ever."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            witness = Witness(Sandbox(**fields), code)
            if listen:
                witness.listen()
            try:
                work()
            except Exception as error:
                witness.note(error)
            os.write(write_end, json.dumps(tell(witness.testify())).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    assert told, "the child failed; see its traceback above"
    found = parse(json.loads(told))
    assert all(one.by == "task" for one in found)
    return {(one.rule, one.detail): one.count for one in found}


def attempt(function, *args):
    """Try something whose end does not matter."""
    try:
        function(*args)
    except Exception:
        return


def read_shadow():
    attempt(lambda: open("/etc/shadow").close())


# Files


def test_a_file_that_is_not_granted_is_noticed_though_the_task_hides_the_error():
    assert witnessed(read_shadow) == {("read", "/etc/shadow"): 1}


def test_what_is_granted_is_not():
    def work():
        open(os.__file__).close()
        os.listdir(os.path.dirname(os.__file__))
        open("/dev/null", "w").close()
        open("/proc/self/status").close()
        open("/etc/passwd").close()

    assert witnessed(work, read=["/etc/passwd"]) == {}


def test_a_link_to_what_is_granted_is_not(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").touch()
    (tmp_path / "link").symlink_to("real")

    def work():
        open(tmp_path / "link/file").close()
        open(tmp_path / "real/file").close()

    assert witnessed(work, read=[str(tmp_path / "link")]) == {}


def test_what_is_readable_is_not_writable(tmp_path):
    (tmp_path / "file").touch()

    def work():
        open(tmp_path / "file").close()
        for mode in ("w", "a", "r+"):
            attempt(lambda mode=mode: open(tmp_path / "file", mode).close())

    assert witnessed(work, read=[str(tmp_path)]) == {("write", str(tmp_path / "file")): 3}


def test_names_are_changed_only_where_that_is_granted(tmp_path):
    def work():
        for number, act in enumerate(
            [
                lambda: os.mkdir(tmp_path / "a"),
                lambda: os.rename(tmp_path / "a", tmp_path / "b"),
                lambda: os.symlink("/", tmp_path / "c"),
                lambda: os.remove(tmp_path / "c"),
                lambda: os.chmod(tmp_path / "b", 0o700),
                lambda: os.rmdir(tmp_path / "b"),
            ]
        ):
            assert act() is None, number

    assert witnessed(work, write=[str(tmp_path)]) == {}
    assert witnessed(work) == {
        ("write", str(tmp_path / "a")): 2,
        ("write", str(tmp_path / "b")): 3,
        ("write", str(tmp_path / "c")): 2,
    }


def test_what_is_not_there_is_no_refusal_but_in_strict_it_may_be_hidden():
    def work():
        attempt(open, "/nowhere/at/all")

    assert witnessed(work) == {}
    assert witnessed(work, level="strict") == {("read", "/nowhere/at/all"): 1}


def test_a_relative_path_is_told_whole(tmp_path):
    (tmp_path / "file").touch()

    def work():
        os.chdir(tmp_path)
        open("file").close()
        os.listdir()

    assert witnessed(work) == {
        ("read", str(tmp_path / "file")): 1,
        ("read", str(tmp_path)): 1,
    }


def test_a_name_with_control_characters_is_told_escaped(tmp_path):
    (tmp_path / "a\nb").touch()

    def work():
        open(tmp_path / "a\nb").close()

    assert witnessed(work) == {("read", f"{tmp_path}/a\\nb"): 1}


# Network and processes


def test_sockets_and_names_are_noticed_where_there_is_no_network():
    def work():
        attempt(socket.socket, socket.AF_INET, socket.SOCK_STREAM)
        attempt(socket.getaddrinfo, "localhost", 80)
        attempt(socket.create_connection, ("127.0.0.1", 1))

    found = witnessed(work)

    assert found["socket", "AF_INET SOCK_STREAM"] == 2
    assert {("connect", "localhost:80"), ("connect", "127.0.0.1:1")} <= found.keys()


def test_tcp_is_not_where_there_is_one():
    def work():
        attempt(socket.socket, socket.AF_INET, socket.SOCK_STREAM)
        attempt(socket.create_connection, ("127.0.0.1", 1))
        attempt(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)

    found = witnessed(work, network="any", syscalls="net")

    assert found == {("socket", "AF_INET SOCK_DGRAM"): 1}


def test_pairs_within_the_process_are_nobodys_affair():
    def work():
        for one in socket.socketpair():
            one.close()

    assert witnessed(work) == {}


def test_programs_are_noticed_where_none_may_be_started():
    def work():
        subprocess.run(["/bin/true"], check=True)
        os.system("true")
        os.kill(1, 0)

    found = witnessed(work)

    assert {("exec", "/bin/true"), ("exec", "/bin/sh"), ("kill", "1")} <= found.keys()
    may_start = witnessed(work, processes=4, syscalls="subprocess")
    assert not {"exec", "fork", "kill"} & {rule for rule, _ in may_start}


# The exception that ended the task


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(errno.EACCES, "no", "/srv/x"), {("read", "/srv/x"): 1}),
        (OSError(errno.EROFS, "no", "/srv/x"), {("write", "/srv/x"): 1}),
        (PermissionError(errno.EPERM, "no"), {("call", "EPERM"): 1}),
        (OSError(errno.EMFILE, "no"), {("files", "256"): 1}),
        (OSError(errno.EFBIG, "no"), {("file_size", "1000"): 1}),
        (MemoryError(), {("memory", "2000"): 1}),
        (RuntimeError("can't start new thread"), {("threads", "64"): 1}),
        (ValueError("x"), {}),
        (FileNotFoundError(errno.ENOENT, "no", "/srv/x"), {}),
    ],
    ids=repr,
)
def test_an_exception_tells_which_limit_was_met(error, expected):
    def work():
        raise error

    assert witnessed(work, file_size=1000, memory=2000) == expected


def test_the_exception_behind_the_one_that_came_out_is_looked_at():
    def work():
        try:
            raise PermissionError(errno.EACCES, "no", "/srv/x")
        except OSError as error:
            raise ValueError("cannot load") from error

    assert witnessed(work) == {("read", "/srv/x"): 1}


def test_a_path_that_was_noticed_already_is_not_told_twice():
    def work():
        open("/etc/shadow").close()
        raise PermissionError(errno.EACCES, "no", "/etc/shadow")

    assert witnessed(work) == {("read", "/etc/shadow"): 1}


def test_at_the_level_process_only_limits_are_told():
    def work():
        read_shadow()
        raise PermissionError(errno.EACCES, "no", "/srv/x")

    assert witnessed(work, level="process") == {}


def test_what_is_not_in_force_has_refused_nothing():
    witness = Witness(Sandbox(), CODE, level=Level.PROCESS)

    witness.note(PermissionError(errno.EACCES, "no", "/srv/x"))

    assert witness.testify() == ()


def test_an_exception_that_bites_does_no_harm():
    class BiteError(OSError):
        @property
        def errno(self):
            raise KeyError("bite")

    def work():
        raise BiteError

    assert witnessed(work) == {}


# Bounds


def test_no_number_of_attempts_makes_it_large(tmp_path):
    def work():
        for number in range(500):
            (tmp_path / str(number)).touch()

    found = witnessed(work)

    assert len(found) == MAX_KINDS + 1
    assert sum(found.values()) == 500


def test_it_begins_anew_with_each_task():
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        witness = Witness(Sandbox(), CODE)
        witness.listen()
        read_shadow()
        witness.begin()
        os.write(write_end, str(len(witness.testify())).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        assert pipe.read() == "0"
    os.waitpid(pid, 0)


def test_threads_of_the_task_are_heard_as_well():
    def work():
        thread = threading.Thread(target=read_shadow)
        thread.start()
        thread.join()

    assert witnessed(work) == {("read", "/etc/shadow"): 1}


def test_what_it_starts_is_not_its_affair():
    def work():
        pid = os.fork()
        if pid == 0:
            read_shadow()
            os._exit(0)
        os.waitpid(pid, 0)

    assert witnessed(work, processes=1, syscalls="subprocess") == {}
