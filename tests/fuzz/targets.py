"""What is fuzzed: each target takes any bytes, and may end in an answer or in its own kind of error.

Whatever else comes out is a finding, and so is an answer that contradicts itself. `TARGETS` has them by
name; each is a function that gives the corpus and the function that takes bytes.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import json
import struct
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cardoon import brokers
from cardoon.backend import SealedResult
from cardoon.contents import MSGPACK, YAML
from cardoon.contrib.celery.fence import Fence
from cardoon.contrib.celery.reading import Asked, Reader
from cardoon.contrib.celery.redis import RedisSource
from cardoon.contrib.celery.source import Received
from cardoon.drafting import call_draft, outgoing_of
from cardoon.exceptions import CardoonError, OperationalError, RefusedError, SecurityError
from cardoon.message import cbor, envelope
from cardoon.message.claims import encode_claims, parse_claims
from cardoon.message.protocol import Encryption, Kind, Suite
from cardoon.message.serializers import JSON, JSON_ZLIB, decode_body
from cardoon.producer import parse_headers
from cardoon.rabbitmq import frames
from cardoon.redis import messages, packing
from cardoon.redis.failures import understood
from cardoon.security import revocation
from cardoon.security.chains import Anchor, Anchors
from cardoon.security.gate import Gate, VerifiedMessage
from cardoon.security.identity import UNREADABLE, Identity
from cardoon.security.policy import Action, Request
from cardoon.security.policyfile import parse_rules
from cardoon.security.replay import Nonce
from cardoon.security.sealing import Context, KeyPair, Unsealer
from cardoon.security.signing import PlainSigner
from cardoon.security.trust import TrustStore
from cardoon.sender import Call
from cardoon.stamps import RevokedStamps
from cardoon.testing import FakeClock
from cardoon.worker import ipc, terms, wire
from cardoon.worker.catalogue import RULES_OF_UNKNOWN
from cardoon.worker.held import Held
from cardoon.worker.journal import _records
from cardoon.worker.pool import parse_ending
from tests.fuzz.feeding import Feed
from tests.security.actors import make_authority, make_crl, write

VECTORS = Path(__file__).parents[2] / "vectors" / "v1"


class Target(NamedTuple):
    """What to throw where."""

    corpus: list[bytes]
    run: Callable[[bytes], object]
    """Raises whatever is a finding; its value says how it ended."""
    tokens: tuple[bytes, ...] = ()


def load(name):
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def frames_of(name):
    """Whole frames of a file of vectors."""
    found = load(name)
    texts = [one["frame"] for one in (*found.get("cases", ()), *found.get("messages", ()))]
    return [bytes.fromhex(text) for text in texts if "zeros" not in text]


def cbor_target():
    corpus = [
        bytes.fromhex(one["hex"])
        for part in ("valid", "invalid")
        for one in load(f"cbor-{part}")["cases"]
    ]

    def run(data):
        try:
            value = cbor.decode(data)
        except CardoonError as error:
            return type(error).__name__
        assert cbor.encode(value) == data
        return "read"

    return Target(corpus, run)


def claims_target():
    found = load("claims")
    corpus = [bytes.fromhex(one["hex"]) for one in (*found["valid"], *found["invalid"])]

    def run(data):
        try:
            claims = parse_claims(data)
        except CardoonError as error:
            return type(error).__name__
        assert encode_claims(claims) == data
        return "read"

    return Target(corpus, run)


def envelope_target():
    def run(data):
        try:
            parsed = envelope.parse_frame(data)
        except (CardoonError, RefusedError) as error:
            return type(error).__name__
        if isinstance(parsed, envelope.PlainFrame):
            assert envelope.build_plain(*parsed) == data
            return "plain"
        unprotected = {}
        if parsed.chain:
            unprotected[33] = list(parsed.chain) if len(parsed.chain) > 1 else parsed.chain[0]
        if parsed.proof:
            unprotected[396] = list(parsed.proof)
        head = [parsed.protected, unprotected, parsed.claims, parsed.signature]
        assert b"\xd2" + cbor.encode(head) + cbor.byte_string(parsed.body) == data
        return "signed"

    return Target(frames_of("gate") + frames_of("trust") + frames_of("result"), run)


def gate_target():
    """Frames as they are; `gate_fuzz` makes worse ones, which trusted people have signed."""
    folder = _folder()
    found = load("trust")
    pins = folder / "pins"
    pins.mkdir()
    for number, (name, pem) in enumerate(found["certificates"].items()):
        if name != "authority":
            write(pins, f"{number}.pem", pem.encode())
    anchor = write(folder, "anchor", found["certificates"]["authority"].encode())
    clock = FakeClock(float(found["now"]))
    trust = TrustStore(pins=[pins], anchors=[anchor], clock=clock)
    gate = Gate(domain=found["domain"], trust=trust, accept=["auth", "json"], clock=clock)
    corpus = frames_of("trust") + frames_of("gate") + frames_of("result") + frames_of("control")
    true = {_meaning(frame) for frame in corpus if _meaning(frame)}
    kinds = (*(Kind.TASK,) * 3, Kind.RESULT, Kind.EVENT, Kind.CONTROL, Kind.CONTROL_REPLY)

    def run(data):
        parsed = _meaning(data)
        try:
            message = gate.open(data, kind=kinds[len(data) % 7])
        except RefusedError as error:
            str(error).encode()
            return error.reason.value
        assert message.signer is None or parsed in true, "a message that nobody signed"
        return "accepted"

    return Target(corpus, run)


def _meaning(frame):
    try:
        parsed = envelope.parse_frame(frame)
    except (CardoonError, RefusedError):
        return None
    return parsed.claims, parsed.body


def body_target():
    found = load("body")
    codecs = (JSON, JSON, MSGPACK, YAML, JSON_ZLIB, f"{JSON}+bzip2", f"{JSON}+lzma", f"{YAML}+zlib")
    corpus = [
        bytes((codecs.index(one["codec"]),)) + bytes.fromhex(one["hex"])
        for one in (*found["valid"], *found["invalid"])
    ]
    corpus += [
        b"\x02\x93\x01\xa1x\x82\xa8__type__\xa3set\xa9__value__\x91\x01",
        b"\x03- [1, x]\n- !date '2026-01-01'\n",
    ]

    def run(data):
        feed = Feed(data)
        codec = feed.choice(codecs)
        try:
            decode_body(codec, feed.rest(), max_bytes=1 << 16)
        except RefusedError as error:
            return error.reason.value
        return "read"

    return Target(
        corpus, run, (b"__type__", b"__value__", b"!!python/object:os.system ", b"&a ", b"*a")
    )


def celery_target():
    """A message of Celery's as somebody may have put it there: bytes decide of every part."""
    fence = Fence(queues={"celery": "default"}, tasks=("shop.*",))
    reader = Reader(fence, max_bytes=1 << 16)
    source = RedisSource.__new__(RedisSource)
    source._max_bytes = 1 << 16
    names = (
        *("task", "id", "eta", "expires", "group", "retries", "timelimit", "root_id", "shadow"),
        *("ignore_result", "stamped_headers", "stamps", "compression", "args", "kwargs", "utc"),
        *("callbacks", "chord", "x-own", "own", "parent_id", "priority", "reply_to"),
    )
    words = (
        *(*names, "shop.pay", "celery.group", "0f" * 16, "2026-01-01T00:00:00+00:00", [1, {}, {}]),
        *(
            {"__type__": "uuid", "__value__": {"hex": "0f" * 16}},
            "zlib",
            "bzip2",
            [30, 20],
            "9" * 99,
        ),
        *(
            {"__type__": "datetime", "__value__": "2026-01-01"},
            {"__type__": "decimal", "__value__": "NaN"},
        ),
    )
    bodies = (
        b'[[1,2],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]',
        b'{"task":"shop.pay","id":"a","args":[],"kwargs":{},"retries":0,"eta":null,"utc":true}',
    )
    whole = {
        "body": base64.b64encode(bodies[0]).decode(),
        "headers": {"task": "shop.pay", "id": "a"},
    }
    whole |= {"properties": {"body_encoding": "base64", "priority": 0}, "content-type": JSON}
    corpus = [b"\x00" + json.dumps(whole).encode(), *(b"\x01" + body for body in bodies)]
    corpus += [
        bytes((2, number)) + bytes(range(number, number + 90)) for number in range(0, 160, 7)
    ]

    def run(data):
        feed = Feed(data)
        match feed.byte() % 3:
            case 0:
                received = source._parse("celery", feed.rest())
            case 1:
                received = Received(
                    queue="celery", body=feed.rest(), content_type=JSON, content_encoding="utf-8"
                )
            case _:
                headers = {"task": "shop.pay", "id": "a", **feed.table(names, words)}
                properties = feed.table(names, words)
                body = feed.choice(
                    (
                        bodies[0],
                        json.dumps([feed.value(words) for _ in range(3)]).encode(),
                        feed.rest(),
                    )
                )
                received = Received(
                    queue="celery",
                    body=body,
                    content_type=feed.choice((JSON, JSON, JSON, "text/x")),
                    content_encoding="utf-8",
                    headers=headers,
                    properties=properties,
                )
        try:
            asked = reader.read(received)
        except RefusedError as error:
            str(error).encode()
            return error.reason.value
        assert isinstance(asked, Asked)
        assert asked.task.startswith("shop.")
        return "asked"

    return Target(corpus, run, tuple(name.encode() for name in names))


def policy_target():
    found = load("policy")
    corpus = [found["policy"].encode(), *(one["policy"].encode() for one in found["refused"])]
    who = Identity(
        fingerprint=bytes(32),
        name="spiffe://acme.example/ns/prod/sa/web-1",
        not_before=0,
        not_after=0,
    )

    def run(data):
        try:
            rules = parse_rules(data, source="policy.toml")
        except SecurityError as error:
            str(error).encode(errors="backslashreplace")
            return "refused"
        for signer in (None, who):
            for action in Action:
                with contextlib.suppress(RefusedError):
                    rules.check(Request(action, signer, "shop.orders.pay", "default", 10, 1.0))
        rules.find_unused()
        return "read"

    return Target(
        corpus, run, (b"[[allow]]", b"role", b"action", b"**", b"spiffe://", b"max_eta = ", b'"7d"')
    )


def certificates_target():
    """Files in a folder of pins, one of which anybody may have written, and the same as an authority."""
    folder = _folder()
    found = load("trust")["certificates"]
    pins = folder / "pins"
    pins.mkdir()
    write(pins, "0.pem", found["web"].encode())
    corpus = [_wrapped(pem) for pem in found.values()] + [
        b"\x01" + pem.encode() for pem in found.values()
    ]

    def run(data):
        content = _as_pem(data, "CERTIFICATE")
        write(pins, "1.pem", content)
        anchor = write(folder, "anchor", content)
        events = []
        store = TrustStore(
            pins=[pins],
            anchors=[anchor],
            clock=FakeClock(),
            on_event=lambda *event: events.append(event),
        )
        for _, detail in events:
            detail.encode(errors="backslashreplace")
        return store.describe()

    return Target(corpus, run)


def chain_target():
    """A chain that somebody sends along, to be verified up to an authority."""
    found = load("trust")["certificates"]
    anchors = Anchors([Anchor(None, x509.load_pem_x509_certificate(found["authority"].encode()))])
    corpus = [_der(pem) for pem in found.values()]

    def run(data):
        feed = Feed(data)
        between = corpus[feed.byte() % len(corpus)] if data[:1] > b"\x80" else b""
        try:
            leaf = x509.load_der_x509_certificate(data)
        except UNREADABLE:
            return "unreadable"
        try:
            anchors.verify(leaf, [between] if between else [], at=1_790_000_000.0)
        except RefusedError as error:
            str(error).encode()
            return error.reason.value
        return "accepted"

    return Target(corpus, run)


def revocation_target():
    authority = make_authority()
    crl = make_crl(authority, [1, 2, 3])
    lists = ("sha256:" + "1c" * 32, "spiffe://acme.example/ns/prod/sa/web", "# stolen", "", "web")
    corpus = [_wrapped(crl.decode()), b"\x01" + crl]
    corpus += [b"\x01" + "\n".join(lists[: number + 1]).encode() for number in range(len(lists))]

    def run(data):
        content = _as_pem(data, "X509 CRL")
        try:
            revocation.parse_list(Path("revoked"), content, [authority.certificate])
        except SecurityError as error:
            str(error).encode(errors="backslashreplace")
            return "refused"
        return "read"

    return Target(corpus, run)


def ipc_target():
    """Frames of a task process, up to what the worker signs and tells the broker of them."""
    call = Call(task="shop.pay", id="a", queue="news", codec=JSON, body=b"[]", headers=b"{}")
    head = wire.call_head(call)
    words = (
        *head,
        "calls",
        "handles",
        "timeout",
        "kind",
        "retried",
        "replaced",
        "failed",
        "call",
        "when",
        "split",
    )
    words += (
        "reason",
        "wrong-kind",
        "requeue",
        "detail",
        [0],
        ["k", 1.0],
        ["k", 1, 0.5],
        ["g", 0, 1],
        "ids",
        head,
    )
    kinds = tuple(ipc.FROM_CHILD)
    pack = ipc.pack_frame
    corpus = [
        b"\x00" + pack(ipc.FrameType.SEND, {"calls": [head], "timeout": 5.0}, b"[]"),
        b"\x00" + pack(ipc.FrameType.OUTCOME, {"kind": "replaced", "calls": [head]}, b"[]"),
        b"\x00"
        + pack(
            ipc.FrameType.OUTCOME, {"kind": "retried", "when": 1.0, "split": 0, "call": head}, b"[]"
        ),
        b"\x00"
        + pack(
            ipc.FrameType.OUTCOME, {"kind": "unreadable", "reason": "undecodable", "detail": ""}
        ),
        b"\x00" + pack(ipc.FrameType.LOAD, {"handles": [["a", "00" * 32], ["b", None]]}),
        b"\x00"
        + pack(ipc.FrameType.REVOKE, {"ids": ["a"], "terminate": True, "signal": "", "stamps": {}}),
        *(
            bytes((1, number)) + bytes((number * 7 + at) % 256 for at in range(120))
            for number in range(40)
        ),
    ]
    clock = FakeClock()
    signer = PlainSigner(clock=clock)
    broker = brokers.connect("memory://", clock=clock)

    def run(data):
        feed = Feed(data)
        if feed.byte() % 2:
            told = {**feed.choice(({"calls": [head]}, {"kind": "replaced", "calls": [head]}, {}))}
            told |= feed.table(words, words)
            if feed.byte() % 2:
                told["calls"] = [{**head, **feed.table(tuple(head), words)}]
            data = pack(feed.choice(kinds), told, feed.choice((b"[]", feed.rest())))
        else:
            data = feed.rest()
        reader = ipc.FrameReader(ipc.FROM_CHILD)
        try:
            found = reader.feed(data[:7]) + reader.feed(data[7:])
        except ipc.IpcError:
            return "no frame"
        for frame in found:
            try:
                calls = _calls_of(frame)
            except ipc.IpcError:
                return "refused"
            try:
                signed = signer.sign([call_draft(one) for one in calls])
                outgoing_of(calls, signed, broker, {"news"})
            except CardoonError:
                return "not signed"
        list(_records(data))
        return "read" if found else "unfinished"

    return Target(
        corpus, run, tuple(json.dumps(word).encode() for word in words if isinstance(word, str))
    )


def _calls_of(frame):
    match frame.type:
        case ipc.FrameType.SEND:
            return wire.parse_calls(frame)
        case ipc.FrameType.OUTCOME:
            ending = parse_ending(frame)
            found = getattr(ending, "calls", None) or [getattr(ending, "replacement", None)]
            return [one for one in found if one is not None]
        case ipc.FrameType.LOAD | ipc.FrameType.WAIT:
            wire.parse_handles(frame)
    return []


def headers_target():
    """Label 20, and all that a worker asks it."""
    words = (
        "timelimit",
        "ignore_result",
        "links",
        "body",
        "stamps",
        "bound",
        "after",
        "headers",
        "delay",
    )
    words += (
        "expires",
        "state",
        "done",
        "worker",
        "SUCCESS",
        "priority",
        "shadow",
        [30, 20],
        {"order": ["1"]},
    )
    corpus = [
        b"\x01" + json.dumps({word: word}).encode() for word in words if isinstance(word, str)
    ]
    corpus += [
        bytes((0, number)) + bytes((number * 5 + at) % 256 for at in range(60))
        for number in range(50)
    ]
    revoked = RevokedStamps()
    revoked.add({"order": ["1", 2, None]}, until=1e12)
    claims = parse_claims(bytes.fromhex(load("claims")["valid"][1]["hex"]))
    message = VerifiedMessage(
        claims=claims, body=b"", signer=None, digest=bytes(32), nonce=Nonce(bytes(16), 0, 0.0)
    )

    def run(data):
        feed = Feed(data)
        as_it_is = feed.byte() % 2
        content = feed.rest() if as_it_is else json.dumps(feed.table(words, words)).encode()
        try:
            headers = parse_headers(content)
        except RefusedError as error:
            return error.reason.value
        held = Held(1, None, message, RULES_OF_UNKNOWN, headers, taken_at=0.0)
        hard, soft = terms.limits(held)
        assert all(one is None or 0 < one < 1e9 for one in (hard, soft))
        assert terms.expiry(held) >= 0
        assert terms.time_left(claims, headers, None, 0.0) >= 0
        assert held.is_awaited in (True, False)
        assert held.is_kept_till_end in (True, False)
        assert held.ignores_result in (True, False)
        assert revoked.covers(headers.get("stamps")) in (True, False)
        return "read"

    return Target(corpus, run)


def amqp_target():
    """Frames of a server: it is ours, yet what others have sent comes through it."""
    written = frames.write_message(1, "celery", "task-1", b"body", most=4096)
    deliver = struct.pack(">HH", 60, 60) + b"\x03tag" + struct.pack(">QB", 1, 0) + b"\x00\x06celery"
    corpus = [_frame(1, deliver) + written[written.index(b"\x02\x00\x01", 8) :], written]
    corpus += [_frame(1, struct.pack(">HHQB", 60, 80, 3, 1)), corpus[0] * 3]

    def run(data):
        arrived = []
        reader = frames.Reader(1, on_message=arrived.append, on_confirm=lambda *_: None)
        at = 0
        while at + frames.HEAD.size < len(data):
            _, _, size = frames.HEAD.unpack_from(data, at)
            end = at + frames.HEAD.size + size + 1
            if end > len(data):
                break
            try:
                reader.take(data[at:end])
            except (ValueError, struct.error):
                return "no frame"
            at = end
        assert all(len(one.body) <= len(data) for one in arrived)
        return f"{len(arrived)} messages"

    return Target(corpus, run)


def _frame(kind, payload):
    return frames.HEAD.pack(kind, 1, len(payload)) + payload + b"\xce"


_INFINITE_RETRIES = bytes.fromhex(
    "0121676465666768e9757e7778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f9091929394959697aaa9a8a7"
    "a6a5a5a3a2a3a09f969d9c9b9a9998abacadaaafa0b1b2b3b4b5b6b7b8b9babbbc"
)
"""A row that was found: a number of retries that is infinite, as RESP3 can spell it."""


def redis_target():
    """What a store holds that others may write: results, and the rows of a claim."""
    corpus = [b"\x001790000000.5\nframe", b"\x010\nframe", b"\x01"]
    corpus += [
        bytes((1, number)) + bytes((number * 3 + at) % 256 for at in range(90))
        for number in range(40)
    ]
    corpus.append(_INFINITE_RETRIES)

    class Store:
        """Answers as a server that has every outcome."""

        def key(self, *parts):
            return "".join(parts)

        def ask_many(self, asked):
            return [6 if one[0] == "STRLEN" else [b"sframe"] * len(one[1:]) for one in asked]

    def run(data):
        feed = Feed(data)
        try:
            with understood("here"):
                if feed.byte() % 2:
                    words = (
                        b"celery",
                        b"a",
                        b"1",
                        b"0",
                        b"\xff",
                        1,
                        0,
                        None,
                        "x",
                        [b"a", bytes(32)],
                        b"1e999",
                    )
                    row = [feed.value(words) for _ in range(feed.choice((9, 9, 9, 3)))]
                    if feed.byte() % 2 and len(row) == 9:
                        row[8] = None
                    found = messages._unpack(Store(), [row])
                    assert len(found) == 1
                else:
                    found = packing.unpack_result("a", feed.rest())
                    assert isinstance(found, SealedResult)
        except OperationalError:
            return "understood"
        return "read"

    return Target(corpus, run)


def _folder() -> Path:
    """One for as long as the process lives."""
    folder = tempfile.TemporaryDirectory(prefix="cardoon-fuzz-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _der(pem: str) -> bytes:
    return base64.b64decode("".join(pem.strip().splitlines()[1:-1]))


def _wrapped(pem: str) -> bytes:
    return b"\x00" + _der(pem)


def _as_pem(data: bytes, label: str) -> bytes:
    """As it is, or as the DER of a PEM file that is whole."""
    if data[:1] != b"\x00":
        return data[1:]
    text = "\n".join(textwrap.wrap(base64.b64encode(data[1:]).decode(), 64))
    return f"-----BEGIN {label}-----\n{text}\n-----END {label}-----\n".encode()


def seal_target():
    """Sealed bodies, of which a trusted sender can make what he likes."""
    found = load("seal")
    ours = KeyPair(X25519PrivateKey.from_private_bytes(_key_of(found, "workers")))
    unsealer = Unsealer(_Ring(ours))
    signer, session = bytes.fromhex(found["signer"]), bytes.fromhex(found["session"])
    strangers = bytes.fromhex(found["keys"]["client"]["id"])
    readers = ((ours.id,), (ours.id, strangers), (strangers, ours.id), (strangers,))
    true = {case["clear"] for case in found["cases"] if "clear" in case}
    corpus = []
    for case in found["cases"]:
        named = tuple(map(bytes.fromhex, case["recipients"]))
        place = readers.index(named) if named in readers else 3
        head = bytes((place, case["kind"] - 1, found["sequence"]))
        corpus.append(head + bytes.fromhex(case["body"]))

    def run(data):
        feed = Feed(data)
        encryption = Encryption(Suite.X25519, feed.choice(readers))
        kind = feed.choice((Kind.TASK, Kind.RESULT))
        context = Context(signer, session, feed.byte(), kind)
        try:
            clear = unsealer.open(encryption, context, feed.rest())
        except RefusedError as error:
            return error.reason.value
        assert clear.hex() in true, "a body that nobody has sealed"
        assert len(unsealer._opened) <= 4096
        return "read"

    return Target(corpus, run)


def _key_of(found, name):
    return bytes.fromhex(found["keys"][name]["private"])


class _Ring:
    """One private key."""

    def __init__(self, pair):
        self._pair = pair

    def find(self, key_id):
        return self._pair if key_id == self._pair.id else None


TARGETS: dict[str, Callable[[], Target]] = {
    "cbor": cbor_target,
    "envelope": envelope_target,
    "claims": claims_target,
    "gate": gate_target,
    "body": body_target,
    "seal": seal_target,
    "headers": headers_target,
    "policy": policy_target,
    "certificates": certificates_target,
    "chain": chain_target,
    "revocation": revocation_target,
    "celery": celery_target,
    "ipc": ipc_target,
    "amqp": amqp_target,
    "redis": redis_target,
}
