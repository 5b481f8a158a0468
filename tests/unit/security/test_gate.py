"""The gate: what it lets in, and the word it has for everything else."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.message import cbor, envelope
from cardoon.message.claims import parse_claims
from cardoon.message.envelope import parse_frame
from cardoon.message.protocol import Kind
from cardoon.message.requests import bind_name
from cardoon.message.serializers import JSON, JSON_ZLIB
from cardoon.security.gate import DeniedError, Gate, Limits, VerifiedMessage
from cardoon.security.identity import identify
from cardoon.security.policy import Action, AllowTrusted, Request
from cardoon.security.replay import make_nonce
from cardoon.security.sealing import MAX_OVERHEAD, KeyPair, Seal, Unsealer
from cardoon.security.signing import PlainSigner
from cardoon.security.trust import TrustStore
from cardoon.testing import FakeClock
from tests.security.actors import (
    BODY,
    DAY,
    DOMAIN,
    counting_random,
    digest_of,
    draft,
    make_gate,
    make_person,
    p256_key,
    pin,
    rsa_key,
)

ALICE = make_person("alice")
KINDS = [Kind.TASK, Kind.RESULT, Kind.EVENT, Kind.CONTROL, Kind.CONTROL_REPLY]


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store(tmp_path):
    return pin(tmp_path, ALICE)


@pytest.fixture
def gate(store, clock):
    return make_gate(store, clock)


@pytest.fixture
def plain_gate(clock):
    return Gate(domain=DOMAIN, trust=None, accept=["json"], clock=clock)


@pytest.fixture
def signer(clock):
    return ALICE.signer(clock)


@pytest.fixture
def plain_signer(clock):
    return PlainSigner(clock=clock, random=counting_random())


def refusal_of(gate, frame, **options):
    with pytest.raises(RefusedError) as refused:
        gate.open(frame, **{"kind": Kind.TASK, **options})
    return refused.value.reason


def one(signer, **changes):
    [signed] = signer.sign([draft(**changes)])
    return signed.frame


def test_a_message_comes_out_as_it_was_signed(gate, signer):
    [signed] = signer.sign([draft(headers=b"{}")])

    message = gate.open(signed.frame, kind=Kind.TASK)

    claims = parse_claims(parse_frame(signed.frame).claims)
    assert message == VerifiedMessage(
        claims=claims,
        body=BODY,
        signer=identify(ALICE.certificate),
        digest=digest_of(signed.frame),
        nonce=make_nonce(
            ALICE.fingerprint,
            claims.session,
            claims.sequence,
            claims.valid_until + 60,
            claims.issued_at + 61,
        ),
    )


@pytest.mark.parametrize("count", [2, 3, 100, 256])
def test_every_message_of_a_batch_comes_out(gate, signer, count):
    batch = signer.sign([draft(number) for number in range(count)])

    ids = [gate.open(signed.frame, kind=Kind.TASK).claims.id for signed in batch]

    assert ids == [f"task-{number}" for number in range(count)]


@pytest.mark.parametrize("key", [p256_key(), rsa_key()], ids=["P-256", "RSA"])
def test_other_keys_are_as_good(tmp_path, clock, key):
    person = make_person("carol", key=key)
    gate = make_gate(pin(tmp_path, person), clock)

    for signed in person.signer(clock).sign([draft(number) for number in range(3)]):
        assert gate.open(signed.frame, kind=Kind.TASK).signer.name == "CN=carol"
    assert gate.open(one(person.signer(clock)), kind=Kind.TASK)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_opened_as_what_it_is(gate, signer, kind):
    frame = one(signer, kind=kind, request=bytes(32))

    assert gate.open(frame, kind=kind).claims.kind is kind


def test_an_unsigned_message_is_refused_unless_it_is_accepted(gate, plain_gate, plain_signer):
    [signed] = plain_signer.sign([draft()])

    assert refusal_of(gate, signed.frame) is Refusal.UNSIGNED
    message = plain_gate.open(signed.frame, kind=Kind.TASK)
    assert message.signer is None
    assert message.request == signed.request
    assert message.nonce.session == make_nonce(b"", message.claims.session, 0, 0).session


def test_a_signed_message_is_refused_where_only_unsigned_ones_are_read(plain_gate, signer):
    assert refusal_of(plain_gate, one(signer)) is Refusal.NOT_ACCEPTED


def test_a_gate_may_accept_both(store, clock, signer, plain_signer):
    gate = make_gate(store, clock, accept=["auth", "json"])

    assert gate.open(one(signer), kind=Kind.TASK).signer
    assert gate.open(one(plain_signer), kind=Kind.TASK).signer is None


@pytest.mark.parametrize("accept", [[], ["pickle"], ["auth", "yaml"]])
def test_a_gate_accepts_nothing_else(store, clock, accept):
    with pytest.raises(SecurityError, match="name 'auth', 'json' or both"):
        make_gate(store, clock, accept=accept)


def test_a_gate_for_signed_messages_needs_a_trust_store(clock):
    with pytest.raises(SecurityError, match="needs a trust store"):
        Gate(domain=DOMAIN, trust=None, accept=["auth", "json"], clock=clock)


def test_a_frame_larger_than_agreed_is_refused_unread(store, clock):
    limits = Limits(max_body=100)
    gate = make_gate(store, clock, limits=limits)

    assert refusal_of(gate, b"x" * limits.max_frame) is not Refusal.TOO_LARGE
    assert refusal_of(gate, b"x" * (limits.max_frame + 1)) is Refusal.TOO_LARGE


def test_a_body_larger_than_agreed_is_refused(store, clock, signer, plain_signer):
    gate = make_gate(store, clock, accept=["auth", "json"], limits=Limits(max_body=100))

    for each in (signer, plain_signer):
        assert gate.open(one(each, body=bytes(100)), kind=Kind.TASK)
        assert refusal_of(gate, one(each, body=bytes(101))) is Refusal.TOO_LARGE


def test_the_largest_envelope_with_the_largest_body_fits(store, clock, signer):
    gate = make_gate(store, clock, limits=Limits(max_body=70_000))
    frame = one(
        signer,
        body=bytes(70_000),
        headers=bytes(32 * 1024),
        audience=("q" * 320,) * 64,
        task="t" * 256,
        id="i" * 128,
    )

    assert len(gate.open(frame, kind=Kind.TASK).body) == 70_000


def test_a_message_from_the_future_is_refused_beyond_the_skew(store, clock):
    early = FakeClock()
    late = FakeClock()
    late.advance(60)
    gate = make_gate(store, early, skew=60)
    assert gate.open(one(ALICE.signer(late)), kind=Kind.TASK)

    late.advance(1)

    assert refusal_of(gate, one(ALICE.signer(late))) is Refusal.ISSUED_IN_FUTURE


@pytest.mark.parametrize("made_by", ["signer", "plain_signer"])
def test_a_message_expires_with_the_skew(request, store, clock, made_by):
    gate = make_gate(store, clock, accept=["auth", "json"], skew=60)
    frame = one(request.getfixturevalue(made_by))
    clock.advance(DAY + 59)
    message = gate.open(frame, kind=Kind.TASK)

    clock.advance(1)

    assert refusal_of(gate, frame) is Refusal.EXPIRED
    assert message.nonce.expires_at == clock.now(), "from then on the store may forget it"


@pytest.mark.parametrize(
    ("signed_for", "we_are", "accepted"),
    [
        (("q:a",), {"q:a"}, True),
        (("q:a", "q:b"), {"q:b", "q:c"}, True),
        (("q:a",), {"q:b"}, False),
        (("q:a",), set(), False),
        (("q:a",), None, True),
        (("*",), {"q:a"}, False),
    ],
)
def test_a_message_is_for_those_it_names(gate, signer, signed_for, we_are, accepted):
    frame = one(signer, audience=signed_for)
    audience = None if we_are is None else frozenset(we_are)

    if accepted:
        assert gate.open(frame, kind=Kind.TASK, audience=audience)
    else:
        assert refusal_of(gate, frame, audience=audience) is Refusal.WRONG_AUDIENCE


def test_a_codec_that_is_not_agreed_is_refused(store, clock, signer):
    gate = make_gate(store, clock, codecs=[JSON])

    assert gate.open(one(signer, codec=JSON), kind=Kind.TASK)
    assert refusal_of(gate, one(signer, codec=JSON_ZLIB)) is Refusal.CODEC_NOT_ACCEPTED


@pytest.mark.parametrize("codec", ["application/x-python-serialize", "application/x-yaml"])
def test_no_codec_that_can_run_code_is_ever_agreed(gate, signer, codec):
    assert refusal_of(gate, one(signer, codec=codec)) is Refusal.CODEC_NOT_ACCEPTED


def test_an_answer_must_name_the_task_and_the_message(gate, signer):
    request = hashlib.sha256(b"claims").digest()
    frame = one(signer, kind=Kind.RESULT, request=request)
    bound = bind_name(Kind.TASK, "shop.orders.pay", request)
    asked = {"kind": Kind.RESULT}

    assert gate.open(frame, **asked, id="task-0", request=bound)
    assert refusal_of(gate, frame, **asked, request=request) is Refusal.WRONG_REQUEST
    assert refusal_of(gate, frame, **asked, id="task-1") is Refusal.WRONG_REQUEST
    assert refusal_of(gate, frame, **asked, request=bytes(32)) is Refusal.WRONG_REQUEST


def test_a_result_of_another_task_is_not_the_answer(gate, signer):
    [sent] = signer.sign([draft()])
    digest = digest_of(sent.frame)
    true = one(signer, kind=Kind.RESULT, request=digest)
    other = one(signer, kind=Kind.RESULT, request=digest, task="shop.orders.list")

    assert gate.open(true, kind=Kind.RESULT, request=sent.request)
    asked = {"kind": Kind.RESULT, "request": sent.request}
    assert refusal_of(gate, other, **asked) is Refusal.WRONG_REQUEST


class Recording:
    """A policy that writes down what it is asked, and denies one task."""

    def __init__(self):
        self.requests = []

    def check(self, request):
        self.requests.append(request)
        if request.task == "shop.forbidden":
            raise RefusedError(Refusal.DENIED)


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        (Kind.TASK, Action.SEND),
        (Kind.RESULT, Action.RESULT),
        (Kind.EVENT, Action.EVENT),
        (Kind.CONTROL, Action.CONTROL),
        (Kind.CONTROL_REPLY, Action.REPLY),
    ],
)
def test_the_policy_is_asked_who_wants_what_where(store, clock, signer, kind, action):
    policy = Recording()
    gate = make_gate(store, clock, policy=policy)

    request = None if kind is Kind.TASK else bytes(32)
    opened = gate.open(one(signer, kind=kind, request=request), kind=kind, queue="mail")

    alice, claims = identify(ALICE.certificate), opened.claims
    assert policy.requests == [
        Request(action, alice, "shop.orders.pay", "mail", len(opened.body), session=claims.session)
    ]


@pytest.mark.parametrize("sealed", [False, True])
def test_of_what_takes_anothers_place_it_is_asked_first_who_may_answer_there(
    store, clock, signer, sealed
):
    seal = Seal((public_key(),)) if sealed else None
    policy = Recording()
    gate = make_gate(store, clock, policy=policy)
    said = {"request": bytes(32), "headers": b'{"asked":"shop.orders.list"}', "seal": seal}

    gate.open(one(signer, **said), kind=Kind.TASK, queue="mail")

    alice = identify(ALICE.certificate)
    place, sends = policy.requests
    assert place == Request(Action.RESULT, alice, "shop.orders.list", "", encrypted=sealed)
    assert (sends.action, sends.task, sends.queue) == (Action.SEND, "shop.orders.pay", "mail")
    forbidden = one(signer, **{**said, "headers": b'{"asked":"shop.forbidden"}'})
    with pytest.raises(RefusedError, match=r"takes the place of a shop\.forbidden") as refused:
        gate.open(forbidden, kind=Kind.TASK, queue="mail")
    assert type(refused.value) is RefusedError  # nobody is told


def test_the_policy_hears_how_far_ahead_a_task_is_scheduled(store, clock, signer):
    policy = Recording()
    gate = make_gate(store, clock, policy=policy)

    gate.open(one(signer, eta=round((clock.now() + 3600) * 1000)), kind=Kind.TASK)
    gate.open(one(signer, eta=round((clock.now() - 3600) * 1000)), kind=Kind.TASK)

    ahead, past = (request.ahead for request in policy.requests)
    assert 3599 <= ahead <= 3601
    assert past == 0


def test_what_is_denied_is_known_for_genuine(store, clock, signer):
    gate = make_gate(store, clock, policy=Recording())

    with pytest.raises(DeniedError) as raised:
        gate.open(one(signer, task="shop.forbidden"), kind=Kind.TASK)

    assert raised.value.message.claims.task == "shop.forbidden"


def test_the_policy_has_the_last_word(store, clock, signer):
    gate = make_gate(store, clock, policy=Recording())

    assert refusal_of(gate, one(signer, task="shop.forbidden")) is Refusal.DENIED


def test_the_policy_is_not_asked_about_what_nobody_signed(store, clock, signer):
    policy = Recording()
    gate = make_gate(store, clock, policy=policy)
    frame = bytearray(one(signer))
    frame[-1] ^= 1

    refusal_of(gate, bytes(frame))

    assert policy.requests == []


def test_whoever_is_trusted_may_do_everything_without_a_policy():
    AllowTrusted().check(Request(Action.CONTROL, None, "shutdown", ""))


def test_the_form_of_a_message_is_the_one_its_header_announces(gate, clock):
    private = ALICE.private()
    claims = parse_frame(one(ALICE.signer(clock))).claims
    single = envelope.protected_header(-19, ALICE.fingerprint, batch=False)
    batch = envelope.protected_header(-19, ALICE.fingerprint, batch=True)

    without = envelope.build_signed(envelope.begin_single(batch), claims, bytes(64), BODY)
    start = envelope.begin_batch(single, paths=[bytes(32)] * 2)[0]
    signature = private.key.sign(envelope.bytes_to_sign(single, DOMAIN.encode(), claims))
    needless = envelope.build_signed(start, claims, signature, BODY)

    assert refusal_of(gate, without) is Refusal.MALFORMED
    assert refusal_of(gate, needless) is Refusal.MALFORMED


def test_trusted_signers_can_say_nonsense_too(gate):
    private = ALICE.private()
    single = envelope.protected_header(-19, ALICE.fingerprint, batch=False)
    for nonsense in (b"", b"\xa0", cbor.encode({1: "task"}), cbor.encode({1: 6}), b"\xff" * 50):
        signature = private.key.sign(envelope.bytes_to_sign(single, DOMAIN.encode(), nonsense))
        frame = envelope.build_signed(envelope.begin_single(single), nonsense, signature, b"")

        assert refusal_of(gate, frame) is Refusal.BAD_CLAIMS


def test_threads_may_share_a_gate(gate, signer):
    frames = [one(signer, id=f"single-{number}") for number in range(50)]
    frames += [signed.frame for signed in signer.sign([draft(number) for number in range(50)])]
    frames *= 4

    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda frame: gate.open(frame, kind=Kind.TASK), frames))

    assert len({message.claims.id for message in opened}) == 100


def test_a_verified_message_cannot_be_changed(gate, signer):
    message = gate.open(one(signer), kind=Kind.TASK)

    with pytest.raises(AttributeError):
        message.body = b"other"


def test_a_certificate_that_is_withdrawn_takes_its_waiting_messages_along(tmp_path, clock, signer):
    bob = make_person("bob")
    store = pin(tmp_path, ALICE, bob)
    gate = make_gate(store, clock)
    frames = [one(signer), *(each.frame for each in signer.sign([draft(1), draft(2)]))]
    for frame in frames:
        gate.open(frame, kind=Kind.TASK)

    next(store.glob("0-*")).unlink()
    clock.advance(5)

    assert {refusal_of(gate, frame) for frame in frames} == {Refusal.UNKNOWN_SIGNER}


def test_a_gate_needs_no_certificates_where_nothing_is_signed(tmp_path, clock, plain_signer):
    trust = TrustStore(pins=[tmp_path], clock=clock, allow_empty=True)
    gate = Gate(domain=DOMAIN, trust=trust, accept=["json"], clock=clock)

    assert gate.open(one(plain_signer), kind=Kind.TASK)
    assert refusal_of(gate, one(ALICE.signer(clock))) is Refusal.NOT_ACCEPTED


# Sealed bodies


def public_key():
    return X25519PrivateKey.generate().public_key().public_bytes_raw()


def test_where_everything_must_be_sealed_no_task_or_result_is_clear(store, clock, signer):
    gate = make_gate(store, clock, require_encryption=True)
    task, result, command = signer.sign(
        [
            draft(),
            draft(kind=Kind.RESULT, retries=None, max_retries=None),
            draft(kind=Kind.CONTROL, task="revoke", audience=("*",)),
        ]
    )

    assert refusal_of(gate, task.frame) is Refusal.NOT_ENCRYPTED
    assert refusal_of(gate, result.frame, kind=Kind.RESULT) is Refusal.NOT_ENCRYPTED
    assert gate.open(command.frame, kind=Kind.CONTROL)


class Ring:
    """One private key."""

    def __init__(self):
        self.pair = KeyPair(X25519PrivateKey.generate())

    def find(self, key_id):
        return self.pair if key_id == self.pair.id else None


def test_what_is_sealed_to_us_is_carried_sealed_and_opened_when_it_is_asked_for(
    store, clock, signer
):
    ring = Ring()
    gate = make_gate(store, clock, unsealer=Unsealer(ring))
    [signed] = signer.sign([draft(seal=Seal((ring.pair.public,)))])

    message = gate.open(signed.frame, kind=Kind.TASK)
    opened = gate.unseal(message)

    assert message.sealed_to == ring.pair.public
    assert message.body == parse_frame(signed.frame).body != BODY
    assert opened == message._replace(body=BODY)
    clear = gate.open(one(signer), kind=Kind.TASK)
    assert gate.unseal(clear) is clear


def test_what_is_sealed_to_others_is_not_even_looked_into(store, clock, signer):
    ring = Ring()
    gate = make_gate(store, clock, unsealer=Unsealer(ring))
    [signed] = signer.sign([draft(seal=Seal((ring.pair.public,)))])
    # As it is found by a process from which the key was taken, and to which it is given back later.
    message = gate.open(signed.frame, kind=Kind.TASK)._replace(sealed_to=b"")

    with pytest.raises(RefusedError, match="unknown-key"):
        gate.unseal(message)


def test_a_sealed_body_may_be_as_much_larger_as_sealing_makes_it(store, clock, signer):
    ring, other = Ring(), Ring()
    limits = Limits(max_body=len(BODY))
    gate = make_gate(store, clock, unsealer=Unsealer(ring), limits=limits)
    readers = Seal((ring.pair.public, other.pair.public))
    fits, large = signer.sign([draft(seal=readers), draft(seal=readers, body=BODY + b" ")])

    assert len(parse_frame(fits.frame).body) == len(BODY) + MAX_OVERHEAD
    assert gate.unseal(gate.open(fits.frame, kind=Kind.TASK)).body == BODY
    assert refusal_of(gate, large.frame) is Refusal.TOO_LARGE
    assert refusal_of(gate, one(signer, body=BODY + b" ")) is Refusal.TOO_LARGE


def test_what_is_sealed_to_others_is_genuine_and_cannot_be_read(gate, signer):
    [signed] = signer.sign([draft(seal=Seal((public_key(),)))])

    message = gate.open(signed.frame, kind=Kind.TASK)

    assert message.sealed_to == b""
    with pytest.raises(RefusedError, match="unknown-key"):
        gate.check_readable(message)


def test_a_result_is_not_sealed_to_a_key_that_everybody_holds(gate, signer):
    [signed] = signer.sign([draft(seal=Seal((public_key(),), bytes(32)))])

    assert refusal_of(gate, signed.frame) is Refusal.BAD_CLAIMS


def test_nobody_seals_without_signing(plain_gate, gate, signer):
    [signed] = signer.sign([draft(seal=Seal((public_key(),)))])
    parsed = parse_frame(signed.frame)
    frame = envelope.build_plain(parsed.claims, parsed.body)

    assert gate.open(signed.frame, kind=Kind.TASK)
    assert refusal_of(plain_gate, frame) is Refusal.BAD_CLAIMS
