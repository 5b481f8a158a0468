"""Throws changed messages at the gate: nothing but a refusal may ever come back.

    python tests/fuzz/gate_fuzz.py --count 100000 --seed 1

Every form of frame is changed in every way that we could think of: bits, pieces, lengths, CBOR
items, certificates, and nonsense that a trusted signer has signed. Prints how often each reason
came up. Exits with 1 and the frame that did it if anything else was raised or if a changed message
was accepted, and with 1 if memory has grown.
"""

from __future__ import annotations

import argparse
import bz2
import collections
import datetime as dt
import hashlib
import json
import lzma
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from pathlib import Path

# So that it can be started as a script.
sys.path.insert(0, str(Path(__file__).parents[2]))

from cardoon.contents import MSGPACK, YAML, Accepted, all_codecs
from cardoon.exceptions import RefusedError
from cardoon.message import cbor, envelope, merkle
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON, JSON_ZLIB, decode_body, encode_body
from cardoon.security.gate import Gate, Limits
from cardoon.security.signing import MessageSigner, PlainSigner
from cardoon.security.trust import TrustStore
from cardoon.testing import FakeClock
from tests.security.actors import (
    DOMAIN,
    counting_random,
    draft,
    make_authority,
    make_member,
    make_person,
    p256_key,
    pin,
    rsa_key,
    write,
)

LIMIT = 64 * 1024
"""Bytes of a body, encoded or not."""
MAX_GROWTH = 16 * 1024 * 1024
"""Bytes in the second half of a run. A leak of 350 bytes a message shows in 100,000."""

INTERESTING = (
    *(0, 1, 2, 3, 22, 23, 24, 25, 31, 32, 33, 255, 256, 257, 8191, 8192, 65535, 65536),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**64)),
    *(253_402_300_799, 253_402_300_800),
)
HEADS = (b"\x58", b"\x59", b"\x5a", b"\x5b", b"\x78", b"\x9b", b"\xbb", b"\x5f", b"\x9f", b"\xff")
JSON_TOKENS = (
    *(b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\\u", b"\\ud83d", b"NaN", b"-Infinity"),
    *(
        b"1e999",
        b"null",
        b"9" * 5000,
        b"[" * 5000,
        b'{"":' * 5000,
        b"\xff",
        b"\x00",
        b"\xef\xbb\xbf",
    ),
    *(b'{"__type__":"datetime","__value__":"2026-01-01T00:00:00"}', b'"__type__"', b'"__value__"'),
    *(b'{"__type__":"decimal","__value__":"1E+9"}', b'{"__type__":"uuid","__value__":5}', b"1"),
)


MSGPACK_TOKENS = (
    *(bytes([byte]) for byte in (0x80, 0x81, 0x90, 0x91, 0xA0, 0xC0, 0xC1, 0xC2, 0xC3, 0xFF)),
    *(head + b"\xff" * 4 for head in (b"\xc6", b"\xc9", b"\xdb", b"\xdd", b"\xdf")),
    *(head + b"\x00\x00\xff\x00" for head in (b"\xc6", b"\xc9", b"\xdb", b"\xdd", b"\xdf")),
    *(b"\xd4\x01a", b"\xd6\xff\x00\x00\x00\x01", b"\xc7\x0c\xff" + b"\xff" * 12, b"\xca", b"\xcb"),
    *(b"\x91" * 5000, b"\x81\x01" * 5000, b"\x90" * 5000, b"\x82\x01\x01\x01\x01", b"\xa1\xff"),
    *(b"\x82\xa8__type__", b"\xa9__value__", b"\xa3set", b"\xa8datetime"),
    b"\x82\xa8__type__\xa4date\xa9__value__\xaa2026-01-01",
)
YAML_TOKENS = (
    *(
        b"- ",
        b"? ",
        b": ",
        b"[",
        b"]",
        b"{",
        b"}",
        b", ",
        b"\n",
        b"  ",
        b"#",
        b"|\n",
        b">-\n",
        b"'",
        b'"',
    ),
    *(b"&a ", b"*a", b"<<: ", b"!!str ", b"!!python/object/apply:os.system ", b"!date ", b"!set "),
    *(
        b"%YAML 1.1\n---\n",
        b"%TAG ! x\n",
        b"---\n",
        b"...\n",
        b"\t",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
    ),
    *(
        b"[" * 5000,
        b"- " * 5000,
        b"{a: " * 500,
        b"&a [*a, *a]\n",
        b"9" * 5000,
        b"1e999",
        b".inf",
        b"~",
    ),
    *(
        b"!datetime '2026-01-01T00:00:00'",
        b"!uuid x",
        b"!bytes YQ==",
        b'"\\U0010FFFF"',
        b'"\\ud800"',
    ),
)


class World:
    """A gate, people whom it trusts, and true messages by each of them in each form."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        clock = FakeClock()
        authority = make_authority()
        self.alice = make_person("alice")
        self.member = make_member(authority)
        people = [self.alice, make_person("pat", key=p256_key()), make_person("rob", key=rsa_key())]
        self.trust = TrustStore(
            pins=[pin(folder, *people)],
            anchors=[write(folder, "authority.anchor", authority.pem)],
            clock=clock,
        )
        self.gate = Gate(
            domain=DOMAIN,
            trust=self.trust,
            accept=Accepted(all_codecs([JSON, MSGPACK, YAML]), frozenset()),
            clock=clock,
            limits=Limits(max_body=LIMIT),
        )
        self.plain_gate = Gate(
            domain=DOMAIN, trust=None, accept=["json"], clock=clock, limits=Limits(max_body=LIMIT)
        )
        drafts = [draft(number) for number in range(5)]
        chained = MessageSigner(
            self.member.private(chain=[authority.der]),
            domain=DOMAIN,
            clock=clock,
            random=counting_random(),
            send_chain=True,
        )
        signers = [*(person.signer(clock) for person in people), chained]
        self.frames = [
            signed.frame
            for signer in signers
            for signed in (*signer.sign(drafts[:1]), *signer.sign(drafts))
        ]
        plain = PlainSigner(clock=clock, random=counting_random())
        self.plain_frames = [signed.frame for signed in plain.sign(drafts)]
        self.certificates = [authority.der, self.member.der, self.alice.der]
        self.claims = cbor.decode(envelope.parse_frame(self.plain_frames[0]).claims)
        self.single = envelope.protected_header(-19, self.alice.fingerprint, batch=False)
        self.batch = envelope.protected_header(-19, self.alice.fingerprint, batch=True)

    def flip(self, content: bytes) -> bytes:
        changed = bytearray(content or b"\x00")
        for _ in range(self.random.choice((1, 1, 1, 2, 8))):
            changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
        return bytes(changed)

    def cut(self, content: bytes) -> bytes:
        return content[: self.random.randrange(len(content) + 1)]

    def splice(self, content: bytes) -> bytes:
        other = self.random.choice(self.frames)
        at, behind = self.random.randrange(len(content) + 1), self.random.randrange(len(other) + 1)
        return content[:at] + other[behind:]

    def shuffle(self, content: bytes) -> bytes:
        start, stop = sorted(self.random.randrange(len(content) + 1) for _ in range(2))
        piece = content[start:stop]
        put = self.random.choice(
            (b"", piece * 2, piece[::-1], self.random.randbytes(len(piece) % 40))
        )
        return content[:start] + put + content[stop:]

    def lie(self, content: bytes) -> bytes:
        """Put a head where perhaps another was, so that lengths do not fit."""
        at = self.random.randrange(len(content) + 1)
        head = self.random.choice(
            (
                self.random.choice(HEADS),
                cbor.head(self.random.randrange(8), abs(self.random.choice(INTERESTING)) % 2**64),
            )
        )
        return content[:at] + head + content[at + self.random.choice((0, 1, len(head))) :]

    def change(self, content: bytes) -> bytes:
        changes = (self.flip, self.cut, self.splice, self.shuffle, self.lie)
        return self.random.choice(changes)(content)

    def value(self, depth: int = 0) -> cbor.Value:
        """Any value that our CBOR has."""
        draw = self.random
        kind = draw.randrange(6 if depth > 2 else 8)
        match kind:
            case 0 | 1:
                return draw.choice(INTERESTING)
            case 2:
                return draw.randbytes(draw.choice((0, 1, 15, 16, 17, 31, 32, 33, 64, 700)))
            case 3:
                letters = "aé\n\x00\u2028\U0001f600"
                return "".join(draw.choices(letters, k=draw.choice((0, 1, 5, 128, 129, 257))))
            case 4:
                return draw.choice((True, False, None))
            case 5:
                return draw.choice(("q:celery", JSON, JSON_ZLIB, b"{}", bytes(32)))
            case 6:
                return [self.value(depth + 1) for _ in range(draw.choice((0, 1, 3, 65)))]
            case _:
                keys = (draw.choice((draw.randrange(30), "k", b"k")) for _ in range(3))
                return {key: self.value(depth + 1) for key in keys}


def random_bytes(world: World) -> bytes:
    """No frame at all, or only its beginning."""
    start = world.random.choice((b"", b"\xd2\x84", b"\xd2\x84\x58\x26" + world.single, b"\x58"))
    return start + world.random.randbytes(world.random.randrange(200))


def changed_frame(world: World) -> bytes:
    """A true frame, changed as bytes."""
    return world.change(world.random.choice(world.frames))


def changed_parts(world: World) -> bytes:
    """A true frame, taken apart, changed and put together so that it fits again."""
    frames = world.random.choices(world.frames, k=2)
    one, other = map(envelope.parse_frame, frames)
    part = world.random.choice(one._fields)
    parts = one._replace(**{part: getattr(other, part)})
    if world.random.random() < 0.5 and isinstance(getattr(parts, part), bytes):
        parts = parts._replace(**{part: world.change(getattr(parts, part))})
    unprotected: dict[cbor.Key, cbor.Value] = {}
    if parts.chain:
        unprotected[33] = list(parts.chain) if len(parts.chain) > 1 else parts.chain[0]
    if parts.proof:
        size, position, path = parts.proof
        unprotected[396] = world.random.choice(
            (
                [size, position, path],
                [world.random.choice(INTERESTING), position, path],
                [size, world.random.choice(INTERESTING), path],
                [size, position, world.change(path)],
                world.value(),
            )
        )
    if world.random.random() < 0.2:
        unprotected[world.random.choice((33, 396, 1, 4, "x"))] = world.value()
    head = [parts.protected, unprotected, parts.claims, parts.signature]
    return b"\xd2" + cbor.encode(head) + cbor.byte_string(parts.body)


def changed_certificates(world: World) -> bytes:
    """A frame by somebody with a certificate that nobody ever issued."""
    leaf = world.change(world.random.choice(world.certificates))
    if world.random.random() < 0.3:
        leaf = world.random.choice(world.certificates)
    chain = [leaf, *(world.change(each) for each in world.random.choices(world.certificates, k=2))]
    algorithm = world.random.choice((-19, -9, -37))
    header = envelope.protected_header(algorithm, hashlib.sha256(leaf).digest(), batch=False)
    start = envelope.begin_single(header, chain=chain[: world.random.choice((1, 2, 3))])
    claims = cbor.encode(world.claims)
    return envelope.build_signed(start, claims, world.random.randbytes(64), b"[]")


def signed_nonsense(world: World) -> bytes:
    """Claims of any type, truly signed by somebody whom the gate trusts."""
    fields = dict(world.claims)
    for _ in range(world.random.choice((0, 1, 1, 2, 5))):
        label = world.random.randrange(26)
        if world.random.random() < 0.2:
            fields.pop(label, None)
        else:
            fields[label] = world.value()
    codec = world.random.choice((fields.get(10, JSON), JSON, JSON_ZLIB))
    body = changed_body(world)
    if world.random.random() < 0.5:
        codec, body = other_body(world)
    if world.random.random() < 0.7:
        fields[9], fields[11] = hashlib.sha256(body).digest(), len(body)
    fields[10] = codec
    claims = cbor.encode(fields)
    if world.random.random() < 0.3:
        claims = world.change(claims)
    return sign(world, claims, body)


def sign(world: World, claims: bytes, body: bytes) -> bytes:
    """Sign as Alice, alone or with another message."""
    if world.random.random() < 0.5:
        to_sign = envelope.bytes_to_sign(world.single, DOMAIN.encode(), claims)
        start = envelope.begin_single(world.single)
    else:
        tree = merkle.build_tree([claims, b"another"])
        to_sign = envelope.bytes_to_sign(world.batch, DOMAIN.encode(), tree.root, size=2)
        start = envelope.begin_batch(world.batch, paths=tree.proofs)[0]
    return envelope.build_signed(start, claims, world.alice.key.sign(to_sign), body)


def changed_body(world: World) -> bytes:
    """JSON and zlib of all sorts."""
    tokens = b"".join(world.random.choices(JSON_TOKENS, k=world.random.randrange(8)))
    body = world.random.choice(
        (
            b'[[1,2],{},{"a":null}]',
            tokens,
            b"[" + tokens + b"]",
            json.dumps(
                [{"__type__": world.random.choice(("date", "bytes")), "__value__": "x"}]
            ).encode(),
            b"0" * (LIMIT * 4),
        )
    )
    if world.random.random() < 0.3:
        body = world.change(body)
    if world.random.random() < 0.4:
        body = zlib.compress(body, 1)
        if world.random.random() < 0.3:
            body = world.change(body)
    return body


PACKERS = {"zlib": zlib.compress, "bzip2": bz2.compress, "lzma": lzma.compress}


def other_body(world: World) -> tuple[str, bytes]:
    """msgpack and YAML of all sorts, as they are or packed; and the codec."""
    codec, tokens = world.random.choice(((MSGPACK, MSGPACK_TOKENS), (YAML, YAML_TOKENS)))
    body = b"".join(world.random.choices(tokens, k=world.random.randrange(8)))
    if world.random.random() < 0.4:
        moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        body = encode_body([[1, "x", moment, {2}], {"a": b"\xff"}, {"b": None}], codec)
    if world.random.random() < 0.4:
        body = world.change(body)
    if world.random.random() < 0.2:
        name, pack = world.random.choice(list(PACKERS.items()))
        body, codec = pack(body), f"{codec}+{name}"
        if world.random.random() < 0.3:
            body = world.change(body)
    return codec, body


def changed_plain(world: World) -> bytes:
    """A frame without signature, changed."""
    return world.change(world.random.choice(world.plain_frames))


UNTRUSTED = (random_bytes, changed_frame, changed_frame, changed_parts, changed_certificates)
TRUSTED = (signed_nonsense, signed_nonsense)
PLAIN = (changed_plain,)


def meaning_of(frame: bytes) -> tuple[bytes, bytes]:
    """What a true frame says; everything else in it is wrapping."""
    parsed = envelope.parse_frame(frame)
    return parsed.claims, parsed.body


def judge(world: World, make: object, frame: bytes, true: set[tuple[bytes, bytes]]) -> str:
    """Open one frame, and its body; return the reason, or `accepted`."""
    gate = world.plain_gate if make in PLAIN else world.gate
    try:
        message = gate.open(frame, kind=Kind.TASK, audience=frozenset({"q:celery"}))
    except RefusedError as error:
        str(error).encode()  # fit to be written down
        return error.reason.value
    if make in UNTRUSTED and meaning_of(frame) not in true:
        raise AssertionError("a message that nobody signed was accepted")
    try:
        decode_body(message.claims.codec, message.body, max_bytes=LIMIT)
    except RefusedError as error:
        return error.reason.value
    return "accepted"


def peak_memory() -> int:
    """Of this process, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run(count: int, seed: int) -> int:
    """Throw `count` frames; return the exit status."""
    # A library's warning must not get past the gate as an exception either.
    warnings.simplefilter("error")
    started = time.perf_counter()
    reasons: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), seed)
        true = {meaning_of(frame) for frame in world.frames}
        makers = (*UNTRUSTED, *TRUSTED, *PLAIN)
        halfway = 0
        for number in range(count):
            if number == count // 2:
                halfway = peak_memory()
            make = makers[number % len(makers)]
            frame = make(world)
            try:
                reasons[judge(world, make, frame, true)] += 1
            except Exception:  # noqa: BLE001 - whatever it is, it is what we look for
                traceback.print_exc()
                print(f"frame {number} of seed {seed}, by {make.__name__}: {frame.hex()}")
                return 1
    growth = peak_memory() - halfway
    for reason, times in reasons.most_common():
        print(f"{times:9,}  {reason}")
    seconds = time.perf_counter() - started
    print(f"{count:,} frames in {seconds:.1f} s, {growth / 2**20:.1f} MiB more in the second half")
    if growth > MAX_GROWTH:
        print(f"memory has grown by {growth:,} bytes; at most {MAX_GROWTH:,}")
        return 1
    return 0


def main() -> int:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    return run(arguments.count, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
