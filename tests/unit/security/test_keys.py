"""Which keys are taken, and that each signs what it verifies."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.security import keys
from cardoon.security.keys import Algorithm
from tests.security.actors import ed25519_key, p256_key, rsa_key

PAIRS = [
    (ed25519_key(), Algorithm.ED25519),
    (p256_key(), Algorithm.ESP256),
    (rsa_key(), Algorithm.PS256),
    (rsa_key(), Algorithm.PS384),
    (rsa_key(), Algorithm.PS512),
]


@pytest.fixture(params=PAIRS, ids=lambda pair: pair[1].name)
def pair(request):
    return request.param


def test_what_a_key_signs_it_verifies(pair):
    key, algorithm = pair
    signature = keys.make_sign(key, algorithm)(b"content")

    keys.make_verify(key.public_key(), algorithm)(signature, b"content")


def test_other_content_is_refused(pair):
    key, algorithm = pair
    signature = keys.make_sign(key, algorithm)(b"content")

    with pytest.raises(RefusedError) as refused:
        keys.make_verify(key.public_key(), algorithm)(signature, b"contents")

    assert refused.value.reason is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("length", [0, 1, 63, 65, 255, 256, 257, 1024])
@pytest.mark.parametrize("fill", [0, 255])
def test_no_bytes_are_a_signature(pair, length, fill):
    key, algorithm = pair
    verify = keys.make_verify(key.public_key(), algorithm)

    with pytest.raises(RefusedError, match="bad-signature"):
        verify(bytes([fill]) * length, b"content")


def test_the_digest_matters_to_rsa_only():
    for digest, algorithm in [
        ("sha256", Algorithm.PS256),
        ("sha384", Algorithm.PS384),
        ("sha512", Algorithm.PS512),
    ]:
        assert keys.choose_algorithm(rsa_key().public_key(), digest) is algorithm
        assert keys.choose_algorithm(p256_key().public_key(), digest) is Algorithm.ESP256
        assert keys.choose_algorithm(ed25519_key().public_key(), digest) is Algorithm.ED25519


@pytest.mark.parametrize("digest", ["md5", "sha1", "SHA256", ""])
def test_other_digests_are_refused(digest):
    with pytest.raises(SecurityError, match=r"security_digest: .* use sha256"):
        keys.choose_algorithm(rsa_key().public_key(), digest)


def test_every_algorithm_of_a_key_is_one_that_it_may_choose(pair):
    key, algorithm = pair

    assert algorithm in keys.algorithms_of(key.public_key())


def test_rsa_signatures_under_another_digest_are_refused():
    signature = keys.make_sign(rsa_key(), Algorithm.PS256)(b"content")

    with pytest.raises(RefusedError, match="bad-signature"):
        keys.make_verify(rsa_key().public_key(), Algorithm.PS384)(signature, b"content")


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "curve secp384r1; use Ed25519 or P-256"),
        (ec.generate_private_key(ec.SECP256K1()), "curve secp256k1"),
        (ed448.Ed448PrivateKey.generate(), "type Ed448"),
        (x25519.X25519PrivateKey.generate(), "type X25519"),
        (rsa.generate_private_key(3, 2048), "exponent"),
        (rsa_key(1024), "1024 bits; use 2048 to 8192"),
    ],
    ids=["P-384", "secp256k1", "Ed448", "X25519", "RSA e=3", "RSA-1024"],
)
def test_other_keys_are_refused(key, what):
    with pytest.raises(SecurityError, match=what):
        keys.check_private_key(key)
    with pytest.raises(SecurityError, match=what):
        keys.check_public_key(key.public_key())


def test_the_keys_we_take_are_handed_back(pair):
    key, _ = pair

    assert keys.check_private_key(key) is key
    assert keys.check_public_key(key.public_key()) is not None


def test_points_of_small_order_are_those_of_the_curve():
    prime = 2**255 - 19
    d = -121665 * pow(121666, -1, prime) % prime

    def is_of_order_eight_or_less(y):
        # x² from the curve equation -x² + y² = 1 + d x² y², then doubled three times.
        x2 = (y * y - 1) * pow(d * y * y + 1, -1, prime) % prime
        for _ in range(3):
            xy2 = x2 * y % prime * y % prime
            y3 = (y * y + x2) * pow(1 - d * xy2, -1, prime) % prime
            x2 = 4 * xy2 * pow(1 + d * xy2, -2, prime) % prime
            y = y3
        return (x2, y) == (0, 1)

    assert len(keys._SMALL_ORDER_Y) == 5
    assert all(map(is_of_order_eight_or_less, keys._SMALL_ORDER_Y))
    assert not is_of_order_eight_or_less(int(hashlib.sha256(b"any").hexdigest(), 16) % prime)
