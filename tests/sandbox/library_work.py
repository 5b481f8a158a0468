"""Ordinary work of the standard library, done while confined: `python -m tests.sandbox.library_work`.

Given a profile as JSON and a directory to write, it confines itself and prints what did not work. It imports
almost nothing beforehand, so that imports are part of the work; and runs in any Python that is installed.
"""

# ruff: noqa: PLC0415, PTH101, PTH105, PTH116, PTH123, PTH207, PTH211, ICN001, PLW1510, ASYNC230, BLE001 - programs write so, too

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from cardoon.sandbox.limits import apply_limits, hide_memory
from cardoon.sandbox.profile import Level, Sandbox
from tests.sandbox.children import confine


def main() -> None:
    """Read the profile from the first argument, become the user of the third, confine, work."""
    profile = Sandbox.from_mapping(json.loads(sys.argv[1]))
    folder, uid = Path(sys.argv[2]), int(sys.argv[3])
    os.environ["TMPDIR"] = str(folder)
    os.chdir(folder)
    if uid != os.getuid():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    # Whoever else runs as that user meanwhile is not what is tried here.
    apply_limits(profile, others=10_000)
    hide_memory()
    confine(profile)()
    failed = {}
    work = COMPUTE + (NET if profile.network else []) + (STARTS if profile.processes else [])
    if profile.level is Level.STRICT:
        work += STRICT
    for one in work:
        try:
            one()
        except BaseException:
            failed[one.__name__] = traceback.format_exc()
    sys.stdout.write(json.dumps({"done": len(work), "failed": failed}))
    sys.stdout.flush()
    os._exit(0)


def threads() -> None:
    import concurrent.futures
    import threading

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(str, range(20))) == sorted(map(str, range(20)))
    event = threading.Event()
    threading.Timer(0.001, event.set).start()
    assert event.wait(5)


def event_loop() -> None:
    import asyncio

    async def work() -> bytes:
        loop = asyncio.get_running_loop()
        assert await asyncio.to_thread(lambda: 5) == 5
        reading, writing = os.pipe()
        reader = asyncio.StreamReader()
        with open(reading, "rb") as source:
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
            os.write(writing, b"through")
            os.close(writing)
            async with asyncio.timeout(5):
                await asyncio.sleep(0.001)
                return await reader.read()

    assert asyncio.run(work()) == b"through"


def event_loop_signals() -> None:
    import asyncio
    import signal

    async def work() -> None:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, heard.set)
        os.kill(os.getpid(), signal.SIGUSR2)
        await asyncio.wait_for(heard.wait(), 5)

    asyncio.run(work())


def sockets_in_a_pair() -> None:
    import select
    import selectors
    import socket

    left, right = socket.socketpair()
    with left, right, selectors.DefaultSelector() as selector:
        selector.register(right, selectors.EVENT_READ)
        left.sendall(b"hello")
        assert selector.select(5)
        assert right.recv(10) == b"hello"
        socket.send_fds(left, [b"x"], [0])
        assert select.select([right], [], [], 5)[0]


def temporary_files() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a").mkdir()
        Path(folder, "a", "b").write_text("b")
    for kind in (
        tempfile.TemporaryFile,
        tempfile.NamedTemporaryFile,
        tempfile.SpooledTemporaryFile,
    ):
        with kind() as file:
            file.write(b"x" * 10)
            file.seek(5)
            file.truncate()


def archives() -> None:
    import tarfile
    import zipfile

    Path("member").write_text("member " * 1000)
    with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.write("member")
    with zipfile.ZipFile("a.zip") as read:
        read.extractall("unzipped")
    with tarfile.open("a.tar.xz", "w:xz") as packed:
        packed.add("member")
    with tarfile.open("a.tar.xz") as packed:
        assert packed.extractfile("member").read() == Path("unzipped/member").read_bytes()


def compression() -> None:
    import bz2
    import gzip
    import lzma

    for kind in (bz2, gzip, lzma):
        assert kind.decompress(kind.compress(b"some" * 1000)) == b"some" * 1000


def sqlite_in_wal_mode() -> None:
    import sqlite3

    with sqlite3.connect("wal.db") as database:
        assert database.execute("PRAGMA journal_mode = wal").fetchone() == ("wal",)
        database.execute("CREATE TABLE t (a)")
        database.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1000)])
    with sqlite3.connect("wal.db") as other:
        assert other.execute("SELECT count(*) FROM t").fetchone() == (1000,)
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    other.close()


def tls_contexts() -> None:
    import ssl

    context = ssl.create_default_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    ssl.RAND_bytes(16)


def dates_and_zones() -> None:
    import datetime
    import time
    import zoneinfo

    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    assert datetime.datetime(2026, 7, 1, tzinfo=zone).utcoffset() == datetime.timedelta(hours=2)
    time.localtime()
    time.process_time()
    time.thread_time()
    time.clock_gettime(time.CLOCK_BOOTTIME)
    time.sleep(0.001)


def lazy_imports() -> None:
    import csv
    import decimal
    import email.mime.multipart
    import html.parser
    import statistics
    import uuid
    import xml.etree.ElementTree

    uuid.uuid4()
    assert decimal.Decimal("0.1") + 1
    xml.etree.ElementTree.fromstring("<a/>")
    assert csv
    assert email
    assert html
    assert statistics.mean([1, 2]) == 1.5


def json_and_hashes() -> None:
    import hashlib
    import hmac

    assert json.loads(json.dumps({"a": [1.5, None]})) == {"a": [1.5, None]}
    assert hashlib.sha256(b"").hexdigest().startswith("e3b0")
    hashlib.scrypt(b"a", salt=b"b", n=2, r=8, p=1)
    hmac.new(b"k", b"m", "sha512").digest()


def random_numbers() -> None:
    import random
    import secrets

    random.seed()
    random.SystemRandom().random()
    secrets.token_hex()


def mapped_memory() -> None:
    import mmap

    with mmap.mmap(-1, 1 << 20) as shared:
        shared[:4] = b"abcd"
        shared.resize(1 << 21)
    Path("mapped").write_bytes(b"x" * 8192)
    with open("mapped", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = b"y"
        mapped.flush()
        mapped.madvise(mmap.MADV_SEQUENTIAL)
    assert Path("mapped").read_bytes()[:2] == b"yx"


def signals_to_itself() -> None:
    import signal
    import threading

    heard = []
    signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    assert heard == [signal.SIGUSR1] * 3
    signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    signal.pause()
    assert heard[-1] == signal.SIGALRM
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    signal.raise_signal(signal.SIGUSR1)
    assert signal.sigtimedwait([signal.SIGUSR1], 5).si_signo == signal.SIGUSR1


def logging_with_rotation() -> None:
    import logging.handlers

    handler = logging.handlers.RotatingFileHandler("log", maxBytes=100, backupCount=2)
    for number in range(20):
        handler.emit(logging.LogRecord("n", 20, "p", 1, "message %d", (number,), None))
    handler.close()
    assert Path("log.2").exists()


def files() -> None:
    import fcntl
    import glob
    import shutil
    import stat

    Path("files/deep").mkdir(parents=True)
    Path("files/a").write_text("a" * 100_000)
    shutil.copyfile("files/a", "files/b")
    with open("files/b", "r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(10)
        os.fsync(file.fileno())
        os.posix_fallocate(file.fileno(), 0, 4096)
    os.replace("files/b", "files/deep/c")
    os.symlink("c", "files/deep/d")
    os.link("files/deep/c", "files/deep/e")
    assert len(glob.glob("files/**", recursive=True)) == 6
    assert [entry.name for entry in os.scandir("files") if entry.is_dir()] == ["deep"]
    assert stat.S_ISREG(os.stat("files/deep/d").st_mode)
    Path("files/a").touch()
    Path("files/touched").touch()
    os.statvfs("files")
    os.listxattr("files")
    shutil.disk_usage("files")
    shutil.rmtree("files")


def foreign_functions() -> None:
    import ctypes
    import ctypes.util

    libc = ctypes.CDLL(None)
    compare = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)
    )
    numbers = (ctypes.c_int * 4)(3, 1, 2, 0)
    libc.qsort(numbers, 4, ctypes.sizeof(ctypes.c_int), compare(lambda a, b: a[0] - b[0]))
    assert list(numbers) == [0, 1, 2, 3]


def the_system() -> None:
    import getpass
    import locale
    import platform
    import resource
    import socket

    assert os.cpu_count()
    os.sched_getaffinity(0)
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    os.getloadavg()
    os.nice(1)
    locale.setlocale(locale.LC_ALL, "C")
    platform.uname()
    resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    socket.gethostname()
    assert getpass
    os.umask(os.umask(0o077))
    assert not os.isatty(1)


def events_and_pipes() -> None:
    import select

    reading, writing = os.pipe2(os.O_NONBLOCK)
    with select.epoll() as poller:
        poller.register(reading, select.EPOLLIN)
        os.write(writing, b"x")
        assert poller.poll(5) == [(reading, select.EPOLLIN)]
    event = os.eventfd(0)
    os.eventfd_write(event, 5)
    assert os.eventfd_read(event) == 5
    os.set_blocking(reading, True)
    for descriptor in (os.dup(reading), reading, writing, event):
        os.close(descriptor)


def memory() -> None:
    import faulthandler
    import gc
    import tracemalloc

    tracemalloc.start()
    grown = [bytearray(1 << 20) for _ in range(10)]
    del grown
    gc.collect()
    tracemalloc.stop()
    faulthandler.enable()
    faulthandler.disable()


def refused_as_documented() -> None:
    """What presets refuse is an `OSError` that can be caught."""
    import socket
    import subprocess

    for what in (
        lambda: socket.socket(socket.AF_UNIX),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        lambda: os.memfd_create("a"),
        lambda: os.truncate("member", 0),
        lambda: Path("/etc/hostname").read_text(),
        lambda: Path("/dev/shm/a").write_text("a"),
    ):
        try:
            what()
        except PermissionError:
            continue
        raise AssertionError("allowed")
    try:
        subprocess.run(["/bin/true"], check=True)
    except PermissionError:
        assert not STARTED
    else:
        assert STARTED


STARTED = '"subprocess"' in sys.argv[1] if len(sys.argv) > 1 else False


def modes_and_times() -> None:
    import shutil

    Path("copied").write_text("a")
    os.chmod("copied", 0o640)
    shutil.copy2("copied", "again")
    shutil.copytree("unzipped", "copies")
    os.utime("again", (1, 1))
    with open("again") as file:
        os.utime(file.fileno())


def serve_and_connect() -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(100))

        thread = threading.Thread(target=answer)
        thread.start()
        with socket.create_connection(server.getsockname(), timeout=5) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            client.sendall(b"echo")
            assert client.recv(100) == b"echo"
        thread.join()


def event_loop_network() -> None:
    import asyncio

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"line\n")
            assert await reader.read() == b"line\n"
            writer.close()

    asyncio.run(asyncio.wait_for(work(), 5))


def http() -> None:
    import http.server
    import threading
    import urllib.request

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
    ) as server:
        server.RequestHandlerClass.log_message = lambda *_: None
        threading.Thread(target=server.serve_forever).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/member") as answer:
            assert answer.read().startswith(b"member")
        server.shutdown()


def programs() -> None:
    import subprocess

    done = subprocess.run(
        ["/bin/sh", "-c", "cat; echo $((1 + 1))"], input=b"in\n", capture_output=True
    )
    assert done.stdout == b"in\n2\n", done
    with subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) as slow:
        try:
            slow.wait(0.01)
        except subprocess.TimeoutExpired:
            slow.kill()
    assert slow.returncode == -9
    piped = subprocess.run("ls /usr/share | head -1", shell=True, capture_output=True)
    assert piped.returncode == 0, piped
    assert os.spawnv(os.P_WAIT, "/bin/true", ["true"]) == 0
    assert os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1] == 0


def programs_in_an_event_loop() -> None:
    import asyncio

    async def work() -> bytes:
        program = await asyncio.create_subprocess_exec(
            "/bin/echo", "hello", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await program.communicate()
        return output

    assert asyncio.run(asyncio.wait_for(work(), 10)) == b"hello\n"


def forks() -> None:
    import multiprocessing

    pid = os.fork()
    if pid == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=there.send, args=("sent",))
    process.start()
    assert here.recv() == "sent"
    process.join()


COMPUTE: list[Callable[[], None]] = [
    *(lazy_imports, threads, event_loop, event_loop_signals, sockets_in_a_pair, temporary_files),
    *(archives, compression, sqlite_in_wal_mode, tls_contexts, dates_and_zones, json_and_hashes),
    *(random_numbers, mapped_memory, signals_to_itself, logging_with_rotation, files, memory),
    *(foreign_functions, the_system, events_and_pipes, refused_as_documented),
]
STRICT = [modes_and_times]
NET = [serve_and_connect, event_loop_network, http]
STARTS = [programs, programs_in_an_event_loop, forks]

if __name__ == "__main__":
    main()
