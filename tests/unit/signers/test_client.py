"""Keys elsewhere: a real agent behind a real socket, real programs, and their ways to fail."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon.exceptions import IdentityError, ImproperlyConfigured, OperationalError, SecurityError
from cardoon.message.protocol import Kind
from cardoon.security.gate import Gate
from cardoon.security.trust import TrustStore
from cardoon.signers.exchange import LENGTH, MAX_ANSWER, Ask
from cardoon.signers.place import find_place
from cardoon.signers.server import MAX_CONNECTIONS
from tests.security.actors import DOMAIN, draft, p256_key
from tests.security.spiffe import key_pem
from tests.unit.signers.conftest import PATIENCE

PROGRAM = """#!{python}
import os, struct, sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
key = serialization.load_pem_private_key(open(sys.argv[1], "rb").read(), None)
open(sys.argv[2], "a").write(f"{{os.getpid()}}\\n")
while head := sys.stdin.buffer.read(4):
    request = sys.stdin.buffer.read(*struct.unpack(">I", head))
    version, algorithm, certificate = struct.unpack_from(">Bi32s", request)
    assert (version, algorithm) == (1, -9)
    r, s = utils.decode_dss_signature(key.sign(request[37:], ec.ECDSA(hashes.SHA256())))
    answer = b"\\0" + r.to_bytes(32, "big") + s.to_bytes(32, "big")
    sys.stdout.buffer.write(struct.pack(">I", len(answer)) + answer)
    sys.stdout.buffer.flush()
    if len(sys.argv) > 3:
        break
"""


def opens(post, frame):
    """Whether a worker with the bundle alone takes it."""
    trust = TrustStore(anchors=[post.helper.bundle], clock=post.clock)
    gate = Gate(domain=DOMAIN, trust=trust, accept=("auth",), clock=post.clock)
    return gate.open(frame, kind=Kind.TASK).signer.name == "spiffe://acme.example/worker"


@pytest.mark.parametrize("count", [1, 3, 300])
def test_messages_are_signed_by_a_key_that_is_not_here(post, count):
    post.start()

    signed = post.signer().sign([draft(number) for number in range(count)])

    assert len(signed) == count
    assert opens(post, signed[0].frame)
    assert opens(post, signed[-1].frame)
    assert post.made.signed == 1 + (2 if count > 256 else 1)  # a trial, and one for each batch


def test_threads_share_a_client(post):
    post.start()
    signer = post.signer()

    with ThreadPoolExecutor(8) as threads:
        signed = list(threads.map(lambda number: signer.sign([draft(number)])[0], range(40)))

    assert all(opens(post, one.frame) for one in signed)


def test_an_agent_that_was_restarted_is_found_again(post):
    post.start()
    signer = post.signer()
    post.stop()
    post.start()

    [signed] = signer.sign([draft()])

    assert opens(post, signed.frame)


def test_an_agent_that_comes_back_in_time_is_waited_for(post):
    post.start()
    signer = post.signer()
    post.stop()
    with ThreadPoolExecutor(1) as threads:
        signing = threads.submit(signer.sign, [draft()], timeout=30)
        post.start()
        assert opens(post, signing.result()[0].frame)


def test_an_agent_that_is_away_is_an_error_at_the_deadline_that_names_it(post):
    post.start()
    signer = post.signer()
    post.stop()

    with pytest.raises(
        OperationalError, match=rf"security_key unix:{post.path}.*see whether it runs"
    ):
        signer.sign([draft()], timeout=0.2)


def test_a_forked_process_has_a_connection_of_its_own(post):
    post.start()
    signer = post.signer()
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        try:
            for number in range(20):
                os.write(writing, bytes([opens(post, signer.sign([draft(number)])[0].frame)]))
        finally:
            os._exit(0)
    ours = [opens(post, signer.sign([draft(number)])[0].frame) for number in range(20)]
    os.waitpid(child, 0)
    os.close(writing)

    with os.fdopen(reading, "rb") as theirs:
        assert theirs.read() == b"\x01" * 20
    assert all(ours)


def test_a_certificate_whose_key_the_agent_has_not_is_an_error_at_the_start(post):
    post.start()
    post.helper.write_certificate(post.authority, post.authority.issue("web"))

    with pytest.raises(SecurityError, match="has not the key of our certificate sha256:"):
        post.identity()


def test_another_domain_is_an_error_at_the_start(post):
    post.start()

    with pytest.raises(SecurityError, match=r"refuses: no message of this domain.*--domain"):
        post.identity(domain="acme/staging")
    post.stop()
    assert post.refused == ["no message of this domain by this certificate; see --domain"]


def test_a_fork_while_a_thread_waits_for_a_signature_leaves_no_lock_behind(post):
    post.start()
    signer = post.signer()
    post.stop()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(signer.sign, [draft()], timeout=60)
        wait_until(post.clients[0]._connection.lock.locked)
        child = fork()
        if child == 0:
            try:
                signer.sign([draft()], timeout=0.2)
            except OperationalError as error:
                os._exit(7 if "nothing signed within the deadline" in str(error) else 1)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        post.start()
        assert opens(post, waiting.result()[0].frame)

    assert os.waitstatus_to_exitcode(status) == 7


def fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the threads are what is tested
        return os.fork()


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Programs


def write_program(post, *, key=None):
    path = post.folder / "sign"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    held = post.folder / "held.key"
    held.write_bytes(key_pem(key or post.svid.key))
    return f"exec:{path} '{held}' {post.folder / 'pids'}"


def pids(post):
    return [int(line) for line in (post.folder / "pids").read_text().split()]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_program_signs_and_ends_with_its_client(post):
    client = post.client(write_program(post))
    signer = post.signer(client)

    signed = [signer.sign([draft(number)], timeout=20)[0] for number in range(3)]

    assert all(opens(post, one.frame) for one in signed)
    [pid] = pids(post)
    client.close()
    assert not is_alive(pid)


def test_a_program_that_ends_is_run_again(post):
    signer = post.signer(post.client(write_program(post) + " once"))

    [signed] = signer.sign([draft()], timeout=20)

    assert opens(post, signed.frame)
    assert len(set(pids(post))) == 2


def test_a_signature_by_a_wrong_key_is_found_before_it_is_used(post):

    with pytest.raises(SecurityError, match="signatures that do not fit our certificate"):
        post.identity(post.client(write_program(post, key=p256_key(99))))


def test_a_program_that_others_can_change_is_not_run(post):
    place = write_program(post)
    (post.folder / "sign").chmod(0o777)

    with pytest.raises(IdentityError, match="chmod go-w"):
        post.client(place).sign(ask(), 1.0)
    assert not (post.folder / "pids").exists()


def test_a_program_that_is_not_there_is_an_error_at_once(post):
    with pytest.raises(IdentityError, match="cannot be looked at"):
        post.client(f"exec:{post.folder}/nothing").sign(ask(), 5.0)


def ask():
    return Ask(-9, bytes(32), b"content")


# Who answers nonsense, or nothing


class Impostor:
    """Listens where an agent should, and answers whatever it is asked with some bytes."""

    def __init__(self, path, answer):
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answer = answer
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while True:
            end, _ = self._listener.accept()
            with end:
                if end.recv(65536) == b"end":
                    return
                end.sendall(self._answer)

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.connect(self._listener.getsockname())
            end.sendall(b"end")
        self._thread.join()
        self._listener.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        LENGTH.pack(5),
        LENGTH.pack(0),
        LENGTH.pack(MAX_ANSWER + 1) + bytes(MAX_ANSWER + 1),
        LENGTH.pack(2**32 - 1),
        LENGTH.pack(1) + b"\xff",
    ],
    ids=["nothing", "cut off", "empty", "long", "endless", "no status"],
)
def test_an_answer_that_is_none_is_an_error_at_the_deadline(post, answer):
    impostor = Impostor(post.path, answer)
    try:
        with pytest.raises(OperationalError, match="nothing signed within the deadline"):
            post.client().sign(ask(), 0.3)
    finally:
        impostor.close()


def test_a_signature_that_an_impostor_made_up_is_found(post):
    impostor = Impostor(post.path, LENGTH.pack(65) + bytes(65))
    try:
        with pytest.raises(SecurityError, match="signatures that do not fit our certificate"):
            post.identity()
    finally:
        impostor.close()


def test_one_who_listens_and_says_nothing_costs_the_deadline_and_no_more(post):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(post.path))
        silent.listen()
        with pytest.raises(OperationalError, match="nothing signed within the deadline"):
            post.client().sign(ask(), 0.2)


# The door


def test_the_socket_is_for_its_owner_alone(post):
    post.start()

    assert stat.S_IMODE(post.path.stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose a connection is")
def test_processes_of_other_users_are_hung_up_on(post):
    post.start(users=[os.geteuid() + 1])

    with pytest.raises(OperationalError, match="nothing signed"):
        post.client().sign(ask(), 0.2)

    assert set(post.refused) == {f"user {os.geteuid()} may not have anything signed; see --allow"}
    assert stat.S_IMODE(post.path.stat().st_mode) == 0o666
    assert post.made.signed == 0


def test_a_folder_that_others_can_write_is_refused(post):
    post.folder.chmod(0o777)
    try:
        with pytest.raises(SecurityError, match="others may write into this directory"):
            post.start()
    finally:
        post.folder.chmod(0o700)


def test_two_agents_do_not_share_a_socket(post):
    post.start()
    first = post.server

    with pytest.raises(ImproperlyConfigured, match="another agent answers there"):
        post.start()

    assert post.path.exists()
    post.server = first


def test_a_socket_that_was_left_behind_is_taken_over(post):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(post.path))

    post.start()

    assert opens(post, post.signer().sign([draft()])[0].frame)


def test_a_request_without_end_is_hung_up_on(post):
    post.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.settimeout(20)
        end.connect(str(post.path))
        end.sendall(LENGTH.pack(2**32 - 1))
        assert end.recv(10) == b""

    post.stop()
    [why] = post.refused
    assert "a request of 4294967295 bytes" in why


def test_one_who_asks_slowly_keeps_nobody_waiting(post):
    post.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as slow:
        slow.connect(str(post.path))
        slow.sendall(b"\0\0")
        assert opens(post, post.signer().sign([draft()])[0].frame)


def test_connections_are_bounded(post):
    post.start()
    ends = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(MAX_CONNECTIONS + 1)]
    try:
        for end in ends:
            end.settimeout(20)
            connect(end, post.path)
        assert ends[-1].recv(1) == b""
        ends[0].sendall(LENGTH.pack(1) + b"\0")
        assert ends[0].recv(4)  # refused, and answered
    finally:
        for end in ends:
            end.close()


def connect(end, path):
    while end.connect_ex(str(path)) == errno.EAGAIN:  # as many wait to be let in as may
        time.sleep(0.01)


# Settings


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("unix:signer.sock", "give a path from / on"),
        ("exec:sign --slot 3", "give a path from / on"),
        ("exec:", "give a path from / on"),
        ("exec:/bin/sign 'open", "No closing quotation"),
        ("pkcs11:token=a", "run `cardoon signer --key pkcs11:"),
    ],
)
def test_a_place_that_is_none_is_an_error_that_says_why(key, why):
    with pytest.raises(ImproperlyConfigured, match=why):
        find_place(key)


@pytest.mark.parametrize("key", ["/etc/shop/worker.key", "worker.key", "C.key"])
def test_other_keys_are_files(key):
    assert find_place(key) is None
