"""A true message is brought to where it was not meant for."""

from __future__ import annotations

import itertools

import pytest

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message import envelope, merkle
from cardoon.message.envelope import parse_frame
from cardoon.message.protocol import Kind
from cardoon.testing import FakeClock
from tests.security.actors import BODY, DOMAIN, digest_of, draft, make_gate, make_person, pin

KINDS = [Kind.TASK, Kind.RESULT, Kind.EVENT, Kind.CONTROL, Kind.CONTROL_REPLY]
ALICE = make_person("alice")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store(tmp_path):
    return pin(tmp_path, ALICE)


def refusal_of(gate, frame, kind=Kind.TASK, **options):
    with pytest.raises(RefusedError) as refused:
        gate.open(frame, kind=kind, **options)
    return refused.value.reason


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("signed_in", "opened_in"),
    list(itertools.permutations(["acme/prod", "acme/staging", "acme/pro", "", "\x00"], 2)),
)
def test_a_message_of_one_domain_is_worth_nothing_in_another(
    store, clock, signed_in, opened_in, count
):
    signer = ALICE.signer(clock, domain=signed_in)
    gate = make_gate(store, clock, domain=opened_in)

    for signed in signer.sign([draft(number) for number in range(count)]):
        assert refusal_of(gate, signed.frame) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize(("signed_as", "opened_as"), list(itertools.permutations(KINDS, 2)))
def test_a_message_of_one_kind_is_none_of_another(store, clock, signed_as, opened_as):
    [signed] = ALICE.signer(clock).sign([draft(kind=signed_as, request=bytes(32))])
    gate = make_gate(store, clock)
    gate.open(signed.frame, kind=signed_as)

    assert refusal_of(gate, signed.frame, opened_as) is Refusal.WRONG_KIND


def test_a_message_for_one_queue_is_refused_in_another(store, clock):
    [signed] = ALICE.signer(clock).sign([draft(audience=("q:low",))])
    gate = make_gate(store, clock)
    gate.open(signed.frame, kind=Kind.TASK, audience=frozenset({"q:low"}), queue="low")

    reason = refusal_of(gate, signed.frame, audience=frozenset({"q:admin"}), queue="admin")

    assert reason is Refusal.WRONG_AUDIENCE


def test_the_answer_to_one_call_is_none_to_another(store, clock):
    signer = ALICE.signer(clock)
    first, second = signer.sign([draft(0), draft(0)])
    [answer] = signer.sign([draft(0, kind=Kind.RESULT, request=digest_of(first.frame))])
    gate = make_gate(store, clock)
    gate.open(answer.frame, kind=Kind.RESULT, id="task-0", request=first.request)

    reason = refusal_of(gate, answer.frame, Kind.RESULT, id="task-0", request=second.request)

    assert reason is Refusal.WRONG_REQUEST


def test_a_root_is_no_message_and_a_message_no_root(store, clock):
    """The two forms differ in header and context, whatever somebody chooses as content."""
    gate = make_gate(store, clock)
    single = envelope.protected_header(-19, ALICE.fingerprint, batch=False)
    batch = envelope.protected_header(-19, ALICE.fingerprint, batch=True)
    [alone] = ALICE.signer(clock).sign([draft()])
    claims = parse_frame(alone.frame).claims
    tree = merkle.build_tree([claims, b"other"])
    domain = DOMAIN.encode()

    # A signature over the claims alone, handed in as if over a root.
    [start, _] = envelope.begin_batch(batch, paths=tree.proofs)
    as_member = envelope.build_signed(start, claims, parse_frame(alone.frame).signature, BODY)
    # A signature over a root, handed in as if over claims.
    over_root = ALICE.key.sign(envelope.bytes_to_sign(batch, domain, tree.root, size=2))
    as_single = envelope.build_signed(envelope.begin_single(single), tree.root, over_root, BODY)

    assert refusal_of(gate, as_member) is Refusal.BAD_SIGNATURE
    assert refusal_of(gate, as_single) is Refusal.BAD_SIGNATURE


def test_no_domain_can_be_chosen_that_looks_like_a_batch():
    header = envelope.protected_header(-19, ALICE.fingerprint, batch=False)
    size = (2).to_bytes(4, "big")

    batch = envelope.bytes_to_sign(header, b"test", b"payload", size=2)

    for domain in (size + b"test", b"/batch\x00" + size + b"test", b"\x00" + size + b"test"):
        assert envelope.bytes_to_sign(header, domain, b"payload") != batch
