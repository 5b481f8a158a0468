"""Sealed bodies: who can open them, and who cannot. The layout is in vectors/v1/seal.json."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.message.claims import parse_claims
from cardoon.message.envelope import parse_frame
from cardoon.message.protocol import MAX_SEQUENCE, Kind
from cardoon.security.sealing import (
    CLEAR,
    COMMITMENT_BYTES,
    MAX_OVERHEAD,
    SALT_BYTES,
    WRAPPED_BYTES,
    Context,
    KeyPair,
    Seal,
    Sealer,
    Unsealer,
    key_id_of,
    load_recipient,
)
from cardoon.security.signing import MessageSigner
from cardoon.testing import FakeClock
from tests.security.actors import DOMAIN, draft, make_person

TASK = Context(b"s" * 32, b"n" * 16, 3, Kind.TASK)
RESULT = TASK._replace(kind=Kind.RESULT)
FIRST = SALT_BYTES + COMMITMENT_BYTES
"""Where the wrapped secrets begin."""
SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


class Ring:
    """Some private keys, which can be taken away."""

    def __init__(self, *pairs):
        self.pairs = {key_id_of(pair.public): pair for pair in pairs}

    def find(self, key_id):
        return self.pairs.get(key_id)


@pytest.fixture
def pairs():
    return [KeyPair(X25519PrivateKey.generate()) for _ in range(3)]


def seal_with(sealer, seal, context, body):
    batch = sealer.begin_batch(context.signer, most=1)
    return batch.seal(seal, (context.session, context.sequence), context.kind, body)


def opened(pair, sealed, context):
    return Unsealer(Ring(pair)).open(*sealed_for(sealed, context))


def sealed_for(sealed, context):
    return sealed[0], context, sealed[1]


def test_a_task_is_for_the_workers_and_its_result_for_its_sender_as_well(pairs):
    workers, sender, stranger = pairs
    seal = Seal((workers.public,), sender.public)
    sealer = Sealer()

    task, result = (
        seal_with(sealer, seal, TASK, b"arguments"),
        seal_with(sealer, seal, RESULT, b"value"),
    )

    assert task[0].reply == sender.public
    assert result[0].reply == b""
    assert opened(workers, task, TASK) == b"arguments"
    assert opened(workers, result, RESULT) == opened(sender, result, RESULT) == b"value"
    assert len(result[1]) == len(b"value") + MAX_OVERHEAD
    for pair, sealed, context in [
        (sender, task, TASK),
        (stranger, task, TASK),
        (stranger, result, RESULT),
    ]:
        with pytest.raises(RefusedError) as refused:
            opened(pair, sealed, context)
        assert refused.value.reason is Refusal.UNKNOWN_KEY
        assert sealed[0].recipients[0].hex() in refused.value.detail


def test_who_may_open_one_result_of_a_session_cannot_open_another(pairs):
    """The worker's session is the same; the keys in it must not be."""
    workers, mine, other = pairs
    sealer = Sealer()
    for_me = seal_with(sealer, Seal((workers.public,), mine.public), RESULT, b"mine")
    encryption, body = seal_with(sealer, Seal((workers.public,), other.public), RESULT, b"not mine")
    start = FIRST + WRAPPED_BYTES
    wrapped_for_me = for_me[1][start : start + WRAPPED_BYTES]
    forged = body[:start] + wrapped_for_me + body[start + WRAPPED_BYTES :]
    claimed = encryption._replace(recipients=for_me[0].recipients)

    with pytest.raises(RefusedError) as refused:
        Unsealer(Ring(mine)).open(claimed, RESULT, forged)

    assert refused.value.reason is Refusal.UNDECRYPTABLE


def test_the_secret_of_a_session_is_wrapped_once_for_each_kind_of_message(pairs):
    workers, *_ = pairs
    sealer = Sealer()
    seal = Seal((workers.public,))

    first, second = (
        seal_with(sealer, seal, TASK._replace(sequence=number), b"the same") for number in (1, 2)
    )
    result = seal_with(sealer, seal, RESULT, b"the same")
    later = seal_with(sealer, seal, TASK._replace(session=b"m" * 16), b"the same")

    headers = [
        body[SALT_BYTES : FIRST + WRAPPED_BYTES] for _, body in (first, second, result, later)
    ]
    assert headers[0] == headers[1]
    assert len(set(headers)) == 3
    assert first[1][:SALT_BYTES] != second[1][:SALT_BYTES]
    assert first[1][-20:] != second[1][-20:]


def test_the_same_number_twice_is_told_apart_by_the_salt(pairs):
    """As in clones of a running machine, and in a session that is named by what is answered."""
    sealer = Sealer()
    seal = Seal((pairs[0].public,))

    bodies = {seal_with(sealer, seal, TASK, b"the same")[1] for _ in range(200)}

    assert len({body[:SALT_BYTES] for body in bodies}) == 200
    assert len({body[-24:] for body in bodies}) == 200


class Message:
    """What of a signed message says how it was sealed."""

    def __init__(self, signed):
        frame = parse_frame(signed.frame)
        self.claims, self.body = parse_claims(frame.claims), frame.body
        self.header = self.body[SALT_BYTES : FIRST + WRAPPED_BYTES]
        self.nonce = (self.claims.sequence, self.body[:SALT_BYTES])


def signer_that_seals(pair, **more):
    seal = Seal((pair.public,))
    person = make_person().private()
    return MessageSigner(person, domain=DOMAIN, clock=FakeClock(), seal=lambda: seal, **more)


def test_no_nonce_comes_twice_though_the_random_bytes_do(pairs):
    """A session's numbers are never drawn twice, and with the last of them its key ends."""
    signer = signer_that_seals(pairs[0], random=bytes)
    signer.sign([draft()] * 100)
    sent = [Message(one) for one in signer.sign([draft()] * 300) + signer.sign([draft()] * 2)]

    assert {one.body[:SALT_BYTES] for one in sent} == {bytes(SALT_BYTES)}
    assert len({(one.header, one.nonce) for one in sent}) == len(sent)


def test_the_last_number_of_a_session_is_the_last_body_under_its_key(pairs):
    signer = signer_that_seals(pairs[0])
    sent = [Message(one) for one in signer.sign([draft()] * (MAX_SEQUENCE + 3))]

    groups = [list(some) for _, some in itertools.groupby(sent, lambda one: one.header)]

    assert [len(some) for some in groups] == [MAX_SEQUENCE, 3]
    for some in groups:
        assert len({one.claims.session for one in some}) == 1
        assert len({one.claims.sequence for one in some}) == len(some)


def test_a_session_that_is_named_has_a_nonce_for_each_body(pairs):
    signer = signer_that_seals(pairs[0])
    asked = draft(session=b"c" * 16)

    sent = [Message(one) for one in signer.sign([asked] * 3) + signer.sign([asked])]

    assert {one.claims.sequence for one in sent} == {0}
    assert len({one.header for one in sent}) == 1
    assert len({one.nonce for one in sent}) == 4


def test_a_forked_process_seals_by_a_key_of_its_own(pairs):
    signer = signer_that_seals(pairs[0])
    before = Message(signer.sign([draft()])[0])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, signer.sign([draft()])[0].frame)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    frame = parse_frame(os.read(reading, 65_536))
    os.close(reading)
    os.close(writing)
    after = Message(signer.sign([draft()])[0])

    header = frame.body[SALT_BYTES : FIRST + WRAPPED_BYTES]
    assert header != before.header == after.header
    assert parse_claims(frame.claims).session != before.claims.session


def test_threads_share_the_key_of_a_session(pairs):
    signer = signer_that_seals(pairs[0])
    unsealer = Unsealer(Ring(pairs[0]))
    fingerprint = signer.identity.fingerprint

    def send(number):
        clear = [b"%d of %d" % (at, number) for at in range(50)]
        sent = [Message(one) for one in signer.sign([draft(body=body) for body in clear])]
        for one, body in zip(sent, clear, strict=True):
            claims = one.claims
            context = Context(fingerprint, claims.session, claims.sequence, claims.kind)
            assert unsealer.open(claims.encryption, context, one.body) == body
        return sent

    with ThreadPoolExecutor(8) as executor:
        sent = [one for some in executor.map(send, range(40)) for one in some]

    assert len({(one.header, one.nonce) for one in sent}) == 2000


def test_a_batch_asks_for_random_bytes_once(pairs):
    asked = []

    def random(count):
        asked.append(count)
        return os.urandom(count)

    signer = signer_that_seals(pairs[0], random=random)
    signer.sign([draft()])
    asked.clear()

    signer.sign([draft()] * 100)
    signer.sign([draft()])

    assert asked == [100 * SALT_BYTES, SALT_BYTES]


def test_each_body_of_a_batch_is_sealed_to_its_own_readers(pairs):
    workers, others, _ = pairs
    signer = signer_that_seals(workers)
    to_workers, to_others = Seal((workers.public,)), Seal((others.public,))
    drafts = [
        (workers, draft(seal=to_workers)),
        (others, draft(seal=to_others)),
        (others, draft(kind=Kind.RESULT, seal=to_others, retries=None, max_retries=None)),
        (others, draft(seal=to_others, session=b"s" * 16)),
        (None, draft(seal=Seal(()))),
        (None, draft(seal=CLEAR)),
        (workers, draft()),
    ]

    sent = [Message(one) for one in signer.sign([each for _, each in drafts])]

    for one, (reader, each) in zip(sent, drafts, strict=True):
        claims = one.claims
        if reader is None:
            assert (claims.encryption, one.body) == (None, each.body)
            continue
        assert claims.encryption.recipients == (reader.id,)
        fingerprint = signer.identity.fingerprint
        context = Context(fingerprint, claims.session, claims.sequence, claims.kind)
        assert Unsealer(Ring(reader)).open(claims.encryption, context, one.body) == each.body


def test_a_sender_cannot_write_one_body_that_two_readers_read_differently(pairs):
    """Each is given a key of its own, under one commitment: at most one of them can be the right one."""
    workers, sender, _ = pairs
    readers = Seal((workers.public,), sender.public)
    encryption, one = seal_with(Sealer(), readers, RESULT, b"yes")
    _, another = seal_with(Sealer(), readers, RESULT, b"no")
    second = FIRST + WRAPPED_BYTES
    mixed = one[:second] + another[second : second + WRAPPED_BYTES] + one[second + WRAPPED_BYTES :]

    assert Unsealer(Ring(workers)).open(encryption, RESULT, mixed) == b"yes"
    with pytest.raises(RefusedError, match="not the one that it commits to"):
        Unsealer(Ring(sender)).open(encryption, RESULT, mixed)


def test_a_key_that_was_withdrawn_opens_nothing_more(pairs):
    ring = Ring(pairs[0])
    unsealer = Unsealer(ring)
    sealed = seal_with(Sealer(), Seal((pairs[0].public,)), TASK, b"x")
    assert unsealer.open(*sealed_for(sealed, TASK)) == b"x"

    ring.pairs.clear()

    with pytest.raises(RefusedError, match="unknown-key"):
        unsealer.open(*sealed_for(sealed, TASK))


@pytest.mark.parametrize("public", SMALL_ORDER, ids=lambda public: public.hex()[:8])
def test_nothing_is_sealed_to_a_key_that_nobody_holds(public):
    with pytest.raises(SecurityError, match="nobody can hold it"):
        load_recipient(public)
    with pytest.raises(SecurityError, match="nobody can hold it"):
        seal_with(Sealer(), Seal((public,)), TASK, b"x")


def test_no_bytes_raise_anything_but_a_refusal(pairs):
    encryption, body = seal_with(Sealer(), Seal((pairs[0].public,)), TASK, b"x" * 50)
    unsealer = Unsealer(Ring(pairs[0]))

    for size in [*range(0, len(body), 7), len(body) - 1]:
        with pytest.raises(RefusedError):
            unsealer.open(encryption, TASK, body[:size])
    for _ in range(50):
        with pytest.raises(RefusedError):
            unsealer.open(encryption, TASK, os.urandom(150))


def test_no_repr_shows_a_secret(pairs):
    sealer = Sealer(random=bytes)  # zeros, which would be seen
    seal_with(sealer, Seal((pairs[0].public,)), TASK, b"x")
    [key] = sealer._keys._young.values()

    secret = pairs[0].private.private_bytes_raw()
    for shown in (repr(key), repr(pairs[0]), repr(sealer), repr(Unsealer(Ring(pairs[0])))):
        assert repr(bytes(32)) not in shown
        assert secret.hex() not in shown
        assert repr(secret) not in shown
