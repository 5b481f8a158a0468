"""Certificates for keys with which anybody, or somebody patient, can sign."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.message import envelope
from cardoon.message.protocol import Kind
from cardoon.security.gate import Gate
from cardoon.security.signing import PlainSigner
from cardoon.security.trust import TrustEvent, TrustStore
from cardoon.testing import FakeClock
from tests.security.actors import (
    BODY,
    DOMAIN,
    draft,
    make_authority,
    make_member,
    make_person,
    pin,
    rsa_key,
    write,
)

PRIME = 2**255 - 19
ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
SIGN_BIT = 1 << 255
SMALL_ORDER = [
    0,
    1,
    PRIME - 1,
    SIGN_BIT,
    ORDER_8,
    ORDER_8 | SIGN_BIT,
    PRIME - ORDER_8,
    (PRIME - ORDER_8) | SIGN_BIT,
]
NOT_CANONICAL = [
    PRIME,
    PRIME + 1,
    PRIME + 1 | SIGN_BIT,
    1 | SIGN_BIT,
    PRIME - 1 | SIGN_BIT,
    2**255 - 1,
    2**256 - 1,
]
AUTHORITY = make_authority()


def ed25519_public(number):
    return ed25519.Ed25519PublicKey.from_public_bytes(number.to_bytes(32, "little"))


WEAK = {
    **{f"small order {number:x}": ed25519_public(number) for number in SMALL_ORDER},
    **{f"not canonical {number:x}": ed25519_public(number) for number in NOT_CANONICAL},
    "RSA-1024": rsa_key(1024).public_key(),
    "RSA e=3": rsa.generate_private_key(3, 2048).public_key(),
    "P-384": ec.generate_private_key(ec.SECP384R1()).public_key(),
}


@pytest.mark.parametrize("name", WEAK)
def test_a_pin_for_a_weak_key_is_not_trusted(tmp_path, name):
    weak = make_person("weak", public_key=WEAK[name])
    events = []

    with pytest.raises(SecurityError, match=r"no usable certificate .*key: "):
        TrustStore(pins=[pin(tmp_path, weak)], clock=FakeClock())
    TrustStore(
        pins=[pin(tmp_path, weak)],
        clock=FakeClock(),
        allow_empty=True,
        on_event=lambda event, _: events.append(event),
    )

    assert events == [TrustEvent.FILE_SKIPPED]


@pytest.mark.parametrize("name", WEAK)
def test_an_authority_that_vouches_for_a_weak_key_is_not_believed(tmp_path, name):
    weak = make_member(AUTHORITY, "weak", public_key=WEAK[name])
    store = TrustStore(anchors=[write(tmp_path, "ca.pem", AUTHORITY.pem)], clock=FakeClock())

    for algorithm in (-19, -9, -37):
        header = envelope.protected_header(algorithm, weak.fingerprint, batch=False)
        with pytest.raises(RefusedError) as refused:
            store.resolve(header, [weak.der])
        assert refused.value.reason is Refusal.UNKNOWN_SIGNER


def test_a_signature_made_without_a_key_is_refused(tmp_path):
    """The library accepts it: for the neutral element, R = neutral and S = 0 fit any message."""
    clock = FakeClock()
    neutral = ed25519_public(1)
    forged = (1).to_bytes(32, "little") + bytes(32)
    neutral.verify(forged, b"any message at all")
    victim = make_member(AUTHORITY, "victim", public_key=neutral)
    header = envelope.protected_header(-19, victim.fingerprint, batch=False)
    [plain] = PlainSigner(clock=clock).sign([draft()])
    claims = envelope.parse_frame(plain.frame).claims
    start = envelope.begin_single(header, chain=[victim.der])
    frame = envelope.build_signed(start, claims, forged, BODY)
    trust = TrustStore(anchors=[write(tmp_path, "ca.pem", AUTHORITY.pem)], clock=clock)
    gate = Gate(domain=DOMAIN, trust=trust, accept=["auth"], clock=clock)

    with pytest.raises(RefusedError, match="small order"):
        gate.open(frame, kind=Kind.TASK)
