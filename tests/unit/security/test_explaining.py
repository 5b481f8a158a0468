"""Explaining: the gate's own word, laid beside the list of its checks."""

from __future__ import annotations

import pytest

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message import cbor, envelope
from cardoon.message.envelope import parse_frame
from cardoon.message.protocol import Kind
from cardoon.security import explaining
from cardoon.security.explaining import (
    CHECKS,
    LATER,
    Circumstances,
    Question,
    Verdict,
    explain,
    find_domain,
)
from cardoon.security.gate import Gate, Limits
from cardoon.security.signing import PlainSigner
from cardoon.security.trust import TrustStore
from cardoon.testing import FakeClock
from tests.fuzz import gate_fuzz
from tests.security.actors import (
    BODY,
    DAY,
    DOMAIN,
    counting_random,
    draft,
    make_person,
    pin,
    write,
)

ALICE = make_person("alice")
MALLORY = make_person("mallory")
LIMITS = Limits(max_body=1000)
TASK = Question(Kind.TASK, frozenset({"q:celery"}), "celery")


class DenyAll:
    """A policy without a rule."""

    def check(self, request):
        raise RefusedError(Refusal.DENIED, f"no rule lets {request.signer.name} do that")


class Site:
    """A gate, and what it was made with."""

    def __init__(self, folder, **options):
        self.clock = FakeClock()
        self.trust = TrustStore(pins=[pin(folder, ALICE)], clock=self.clock, revoked=())
        self.options = {"accept": ["auth"], "limits": LIMITS, **options}
        self.gate = self.make(DOMAIN)
        self.signer = ALICE.signer(self.clock)

    def make(self, domain):
        return Gate(domain=domain, trust=self.trust, clock=self.clock, **self.options)

    def sign(self, *, signer=None, **changes):
        [signed] = (signer or self.signer).sign([draft(**changes)])
        return signed.frame

    def explain(self, frame, question=TASK):
        told = Circumstances(domain=DOMAIN, trust=self.trust, limits=LIMITS, now=self.clock.now())
        return explain(self.gate, frame, question, told)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def refusal_of(gate, frame):
    """The gate's own word; None for a message that it lets in."""
    try:
        gate.open(frame, **TASK._asdict())
    except RefusedError as error:
        return error
    return None


def failed(explanation):
    return [step.name for step in explanation.steps if step.verdict is Verdict.FAILED]


def verdicts(explanation):
    return [step.verdict for step in explanation.steps]


def found(explanation, name):
    return next(step.found for step in explanation.steps if step.name == name)


def test_every_reason_is_some_checks_or_comes_later():
    """Whoever adds a reason says here where it is found, or people are told of the wrong check."""
    listed = frozenset().union(*(check.reasons for check in CHECKS))

    assert listed | LATER == frozenset(Refusal)
    assert not listed & LATER


def test_the_checks_are_in_the_gates_order():
    assert [check.number for check in CHECKS] == sorted(check.number for check in CHECKS)


def test_a_message_that_is_let_in_has_passed_every_check(site):
    told = site.explain(site.sign())

    assert verdicts(told) == [Verdict.PASSED] * len(CHECKS)
    assert (told.refusal, told.refusals) == (None, ())
    assert told.message is not None
    assert told.signer.name == "CN=alice"
    assert told.fingerprint == ALICE.fingerprint
    assert told.claims.task == "shop.orders.pay"
    assert found(told, "signature") == f"right, for security domain '{DOMAIN}'"
    assert "CN=alice" in found(told, "signer")
    assert "(0 seconds ago)" in found(told, "time")
    assert "(in 24 hours)" in found(told, "time")
    assert found(told, "body") == f"{len(BODY)} bytes, as signed"


def test_a_batch_and_a_message_alone_are_told_apart(site):
    batch = site.signer.sign([draft(number) for number in range(3)])

    assert found(site.explain(batch[1].frame), "form").startswith(
        "number 2 of 3 that were signed together"
    )
    assert found(site.explain(site.sign()), "form").startswith("signed by itself")


def tampered(frame, **changes):
    """A frame with other parts, put together so that its form is right."""
    parsed = parse_frame(frame)._replace(**changes)
    start = envelope.begin_single(parsed.protected, chain=parsed.chain)
    return envelope.build_signed(start, parsed.claims, parsed.signature, parsed.body)


def unknown_signer(site):
    return site.sign(signer=MALLORY.signer(site.clock))


def bad_signature(site):
    return tampered(site.sign(), signature=bytes(64))


def changed_body(site):
    return tampered(site.sign(), body=BODY[::-1])


def shorter_body(site):
    return tampered(site.sign(), body=BODY[1:])


def large_body(site):
    return site.sign(body=b"x" * 1001)


def batch_without_proof(site):
    one, *_ = site.signer.sign([draft(number) for number in range(2)])
    return tampered(one.frame)


def large_envelope(site):
    claims = cbor.encode({1: 1, 20: bytes(65_500)})
    return tampered(site.sign(), claims=claims, body=b"")


def bad_claims(site):
    claims = cbor.encode({1: 1, 99: "new"})
    protected = parse_frame(site.sign()).protected
    signature = ALICE.key.sign(envelope.bytes_to_sign(protected, DOMAIN.encode(), claims))
    return tampered(site.sign(), claims=claims, signature=signature)


def from_tomorrow(site):
    later = FakeClock()
    later.advance(3600)
    return site.sign(signer=ALICE.signer(later))


def of_another_kind(site):
    return site.sign(kind=Kind.RESULT)


def from_yesterday(site):
    frame = site.sign()
    site.clock.advance(2 * DAY)
    return frame


def for_others(site):
    return site.sign(audience=("q:other",))


def in_yaml(site):
    return site.sign(codec="application/x-yaml")


@pytest.mark.parametrize(
    ("make", "check", "reason"),
    [
        (lambda _: bytes(100_000), "size", Refusal.TOO_LARGE),
        (lambda _: b"no message", "form", Refusal.MALFORMED),
        (lambda _: b"", "form", Refusal.MALFORMED),
        (large_envelope, "form", Refusal.TOO_LARGE),
        (unknown_signer, "signer", Refusal.UNKNOWN_SIGNER),
        (bad_signature, "signature", Refusal.BAD_SIGNATURE),
        (batch_without_proof, "signature", Refusal.MALFORMED),
        (bad_claims, "claims", Refusal.BAD_CLAIMS),
        (of_another_kind, "kind", Refusal.WRONG_KIND),
        (from_tomorrow, "time", Refusal.ISSUED_IN_FUTURE),
        (from_yesterday, "time", Refusal.EXPIRED),
        (for_others, "audience", Refusal.WRONG_AUDIENCE),
        (large_body, "body", Refusal.TOO_LARGE),
        (shorter_body, "body", Refusal.WRONG_LENGTH),
        (changed_body, "body", Refusal.WRONG_DIGEST),
        (in_yaml, "codec", Refusal.CODEC_NOT_ACCEPTED),
    ],
)
def test_the_check_that_failed_is_named_and_those_before_it_have_passed(site, make, check, reason):
    frame = make(site)

    told = site.explain(frame)

    assert failed(told) == [check]
    assert told.refusal.reason is reason
    with pytest.raises(RefusedError) as refused:
        site.gate.open(frame, **TASK._asdict())
    assert str(refused.value) == str(told.refusal)
    at = [one.name for one in CHECKS].index(check)
    assert set(verdicts(told)[:at]) <= {Verdict.PASSED}
    may_go_on = reason in (Refusal.EXPIRED, Refusal.WRONG_AUDIENCE)
    behind = {Verdict.PASSED} if may_go_on else {Verdict.NOT_REACHED}
    assert set(verdicts(told)[at + 1 :]) <= behind


@pytest.mark.parametrize("make", [unknown_signer, bad_signature, batch_without_proof])
def test_what_is_not_proven_is_not_told(site, make):
    """Whoever can write to the broker could put any words into an operator's terminal."""
    told = site.explain(make(site))

    assert (told.claims, told.signer, told.message) == (None, None, None)
    assert told.fingerprint in (ALICE.fingerprint, MALLORY.fingerprint)
    assert "shop.orders.pay" not in repr(told)


def test_a_certificate_that_is_revoked_or_over_fails_the_signer(site, tmp_path):
    frame = site.sign()
    revoked = write(tmp_path, "revoked.txt", f"sha256:{ALICE.fingerprint.hex()}".encode())
    site.trust = TrustStore(pins=[tmp_path], clock=site.clock, revoked=[revoked])
    site.gate = site.make(DOMAIN)
    told = site.explain(frame)
    assert (failed(told), told.refusal.reason) == (["signer"], Refusal.REVOKED)

    site.clock.advance(400 * DAY)
    told = site.explain(frame)
    assert (failed(told), told.refusal.reason) == (["signer"], Refusal.CERTIFICATE_EXPIRED)


def test_what_can_be_left_aside_hides_nothing_behind_it(tmp_path):
    site = Site(tmp_path, policy=DenyAll())
    frame = site.sign(audience=("q:other",))
    site.clock.advance(2 * DAY)

    told = site.explain(frame)

    assert failed(told) == ["time", "audience", "policy"]
    assert [one.reason for one in told.refusals] == [
        *(Refusal.EXPIRED, Refusal.WRONG_AUDIENCE, Refusal.DENIED),
    ]
    assert told.message is not None
    assert told.signer.name == "CN=alice"


def test_an_answer_to_something_else_fails_the_request(site):
    frame = site.sign(kind=Kind.RESULT)

    told = site.explain(frame, Question(Kind.RESULT, id="another"))

    assert (failed(told), told.refusal.reason) == (["request"], Refusal.WRONG_REQUEST)
    assert told.claims.id == "task-0"


def test_an_unsigned_message_is_explained_by_what_is_accepted(site, tmp_path):
    [signed] = PlainSigner(clock=site.clock, random=counting_random()).sign([draft()])
    refused = site.explain(signed.frame)
    site.options["accept"] = ["auth", "json"]
    site.gate = site.make(DOMAIN)
    accepted = site.explain(signed.frame)

    assert (failed(refused), refused.refusal.reason) == (["signer"], Refusal.UNSIGNED)
    assert refused.claims is None
    assert (failed(accepted), accepted.claims.id) == ([], "task-0")
    assert found(accepted, "signature") == "none, and none is asked for"


def test_the_domain_of_a_signature_is_told_only_if_it_is_proven(site):
    frame = site.sign(signer=ALICE.signer(site.clock, domain="acme/staging"))
    others = {name: site.make(name) for name in ("default", "acme/staging")}

    assert site.explain(frame).refusal.reason is Refusal.BAD_SIGNATURE
    assert find_domain(others, frame, TASK, LIMITS) == "acme/staging"
    assert find_domain({"default": others["default"]}, frame, TASK, LIMITS) is None
    assert find_domain(others, bad_signature(site), TASK, LIMITS) is None
    assert find_domain(others, b"nothing", TASK, LIMITS) is None


def test_the_domain_is_proven_even_where_the_message_is_refused_for_more(site):
    frame = site.sign(signer=ALICE.signer(site.clock, domain="acme/staging"), audience=("q:other",))

    assert find_domain({"acme/staging": site.make("acme/staging")}, frame, TASK, LIMITS)


def test_of_a_reason_that_nobody_has_placed_nothing_signed_is_told(site, monkeypatch):
    kept = tuple(
        check._replace(reasons=check.reasons - {Refusal.CODEC_NOT_ACCEPTED}) for check in CHECKS
    )
    monkeypatch.setattr(explaining, "CHECKS", kept)

    told = site.explain(in_yaml(site))

    assert told.refusal.reason is Refusal.CODEC_NOT_ACCEPTED
    assert (failed(told), told.claims, told.signer) == (["signature"], None, None)


def test_explaining_hostile_bytes_raises_nothing_and_agrees_with_the_gate(tmp_path):
    world = gate_fuzz.World(tmp_path, seed=7)
    makers = (*gate_fuzz.UNTRUSTED, *gate_fuzz.TRUSTED, *gate_fuzz.PLAIN)
    limits = Limits(max_body=gate_fuzz.LIMIT)
    told = Circumstances(domain=DOMAIN, trust=world.trust, limits=limits, now=FakeClock().now())
    reasons = set()
    for number in range(3000):
        frame = makers[number % len(makers)](world)

        explanation = explain(world.gate, frame, TASK, told)

        assert str(explanation.refusal) == str(refusal_of(world.gate, frame))
        if explanation.refusal is not None:
            reasons.add(explanation.refusal.reason)
        # All that is told can be written down, whatever the bytes were.
        repr((explanation, explanation.message)).encode()
        if verdicts(explanation)[3] is not Verdict.PASSED:
            assert explanation.claims is None
    assert len(reasons) > 8
