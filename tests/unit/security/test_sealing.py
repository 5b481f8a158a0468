"""Sealed bodies: who can open them, and who cannot. The layout is in tests/vectors/seal.json."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.message.protocol import Kind
from cardoon.security.sealing import (
    MAX_OVERHEAD,
    WRAPPED_BYTES,
    Context,
    KeyPair,
    Seal,
    Sealer,
    Unsealer,
    key_id_of,
    load_recipient,
)

TASK = Context(b"s" * 32, b"n" * 16, 3, Kind.TASK)
RESULT = TASK._replace(kind=Kind.RESULT)
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


def opened(pair, sealed, context):
    return Unsealer(Ring(pair)).open(*sealed_for(sealed, context))


def sealed_for(sealed, context):
    return sealed[0], context, sealed[1]


def test_a_task_is_for_the_workers_and_its_result_for_its_sender_as_well(pairs):
    workers, sender, stranger = pairs
    seal = Seal((workers.public,), sender.public)
    sealer = Sealer()

    task, result = sealer.seal(seal, TASK, b"arguments"), sealer.seal(seal, RESULT, b"value")

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
    for_me = sealer.seal(Seal((workers.public,), mine.public), RESULT, b"mine")
    encryption, body = sealer.seal(Seal((workers.public,), other.public), RESULT, b"not mine")
    wrapped_for_me = for_me[1][16 + WRAPPED_BYTES : 16 + 2 * WRAPPED_BYTES]
    start = 16 + WRAPPED_BYTES
    forged = body[:start] + wrapped_for_me + body[start + WRAPPED_BYTES :]
    claimed = encryption._replace(recipients=for_me[0].recipients)

    with pytest.raises(RefusedError) as refused:
        Unsealer(Ring(mine)).open(claimed, RESULT, forged)

    assert refused.value.reason is Refusal.UNDECRYPTABLE


def test_the_key_of_a_session_is_wrapped_once(pairs):
    workers, *_ = pairs
    sealer = Sealer()
    seal = Seal((workers.public,))

    first, second = (
        sealer.seal(seal, TASK._replace(sequence=number), b"the same") for number in (1, 2)
    )
    later = sealer.seal(seal, TASK._replace(session=b"m" * 16), b"the same")

    wrapped = [body[16 : 16 + WRAPPED_BYTES] for _, body in (first, second, later)]
    assert wrapped[0] == wrapped[1] != wrapped[2]
    assert first[1][:16] != second[1][:16]
    assert first[1][-20:] != second[1][-20:]


def test_a_key_that_was_withdrawn_opens_nothing_more(pairs):
    ring = Ring(pairs[0])
    unsealer = Unsealer(ring)
    sealed = Sealer().seal(Seal((pairs[0].public,)), TASK, b"x")
    assert unsealer.open(*sealed_for(sealed, TASK)) == b"x"

    ring.pairs.clear()

    with pytest.raises(RefusedError, match="unknown-key"):
        unsealer.open(*sealed_for(sealed, TASK))


@pytest.mark.parametrize("public", SMALL_ORDER, ids=lambda public: public.hex()[:8])
def test_nothing_is_sealed_to_a_key_that_nobody_holds(public):
    with pytest.raises(SecurityError, match="nobody can hold it"):
        load_recipient(public)
    with pytest.raises(SecurityError, match="nobody can hold it"):
        Sealer().seal(Seal((public,)), TASK, b"x")


def test_no_bytes_raise_anything_but_a_refusal(pairs):
    encryption, body = Sealer().seal(Seal((pairs[0].public,)), TASK, b"x" * 50)
    unsealer = Unsealer(Ring(pairs[0]))

    for size in [*range(0, len(body), 7), len(body) - 1]:
        with pytest.raises(RefusedError):
            unsealer.open(encryption, TASK, body[:size])
    for _ in range(50):
        with pytest.raises(RefusedError):
            unsealer.open(encryption, TASK, os.urandom(150))


def test_no_repr_shows_a_secret(pairs):
    sealer = Sealer(random=bytes)  # zeros, which would be seen
    sealer.seal(Seal((pairs[0].public,)), TASK, b"x")
    [key] = sealer._keys._young.values()

    secret = pairs[0].private.private_bytes_raw()
    for shown in (repr(key), repr(pairs[0]), repr(sealer), repr(Unsealer(Ring(pairs[0])))):
        assert repr(bytes(32)) not in shown
        assert secret.hex() not in shown
        assert repr(secret) not in shown
