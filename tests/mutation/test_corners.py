"""Corners that only mutants have shown: what would change there, nothing else would notice."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from cardoon.broker import Delivery, Input
from cardoon.contents import MSGPACK, Accepted, all_codecs
from cardoon.exceptions import IdentityError, MessageError, Refusal, RefusedError, SecurityError
from cardoon.message import envelope, protocol
from cardoon.message.protocol import MAX_NAME, Encryption, Kind, Suite, Take
from cardoon.security import chains, rules
from cardoon.security.gate import DeniedError
from cardoon.security.identity import identify
from cardoon.security.keys import (
    Algorithm,
    check_private_key,
    check_public_key,
    make_sign_within,
)
from cardoon.security.origins import MAX_PARTIES, read_origin
from cardoon.security.patterns import MAX_LENGTH
from cardoon.security.policy import Action, Request
from cardoon.security.policyfile import parse_rules
from cardoon.security.replay import make_nonce, nonce_of_reader
from cardoon.security.sealing import KeyPair, Seal, Unsealer, key_id_of
from cardoon.security.sessions import SessionMeter
from cardoon.security.signing import PlainSigner
from cardoon.security.trust import TrustEvent, TrustStore
from cardoon.testing import FakeClock
from cardoon.worker.held import Held
from cardoon.worker.inputs import Inputs
from cardoon.worker.opening import LOOKS_AT_THE_FUTURE, SECOND_LOOK, Opener, until_next_look
from cardoon.worker.orders import Orders
from tests.security.actors import (
    BODY,
    digest_of,
    draft,
    ed25519_key,
    make_authority,
    make_gate,
    make_member,
    make_person,
    pin,
    write,
)
from tests.vectors.generate import task

ALICE = make_person("alice")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def folder(tmp_path):
    return pin(tmp_path, ALICE)


def policy(*rows, roles='[role.all]\nids = ["unsigned", "subject:CN=alice"]\n'):
    """Rules for everybody."""
    text = "\n".join(f'[[allow]]\nrole = "all"\naction = "send"\n{row}' for row in rows)
    return parse_rules(f"version = 1\n{roles}{text}\n".encode(), source="policy.toml")


def asks(task="a", queue="", *, signer=None, **more):
    return Request(Action.SEND, signer, task, queue, **more)


def test_a_denial_says_what_and_why(folder, clock):
    gate = make_gate(folder, clock, policy=policy('task = "other"'))
    [signed] = ALICE.signer(clock).sign([draft()])

    with pytest.raises(DeniedError) as denied:
        gate.open(signed.frame, kind=Kind.TASK)

    assert denied.value.reason is Refusal.DENIED
    assert "shop.orders.pay" in denied.value.detail
    assert denied.value.message.claims.id == "task-0"


def test_a_gate_takes_the_codecs_that_it_was_given(folder, clock):
    gate = make_gate(folder, clock, accept=Accepted(all_codecs([MSGPACK]), frozenset()))
    [packed, other] = ALICE.signer(clock).sign([draft(codec=MSGPACK), draft()])

    assert gate.open(packed.frame, kind=Kind.TASK).claims.codec == MSGPACK
    with pytest.raises(RefusedError, match="codec-not-accepted"):
        gate.open(other.frame, kind=Kind.TASK)


def test_each_reader_has_a_nonce_of_its_own(folder, clock):
    gate = make_gate(folder, clock)
    [signed] = ALICE.signer(clock).sign([draft()])

    nonces = {
        gate.open(signed.frame, kind=Kind.TASK, reader=reader).nonce for reader in ("", "a", "b")
    }

    assert len(nonces) == 3


def test_one_signature_of_a_batch_is_verified_once(folder, clock):
    gate = make_gate(folder, clock)
    batch = ALICE.signer(clock).sign([draft(number) for number in range(5)])

    for signed in batch:
        gate.open(signed.frame, kind=Kind.TASK)

    assert gate.signatures == 1


def test_a_broken_file_is_reported_when_it_comes_later(folder, clock):
    events = []
    store = TrustStore(pins=[folder], clock=clock, on_event=lambda event, _: events.append(event))
    write(folder, "broken.pem", b"no certificate")
    clock.advance(6.0)

    store.resolve(envelope.protected_header(-19, ALICE.fingerprint, batch=False), ())

    assert events == [TrustEvent.FILE_SKIPPED, TrustEvent.RELOADED]


def test_a_trust_domain_without_an_anchor_is_named(tmp_path, clock):
    authority = make_authority()
    member = make_member(authority, uris=("spiffe://other.example/web",))
    anchor = write(tmp_path, "ca.pem", authority.pem)
    store = TrustStore(anchors={"acme.example": anchor}, clock=clock)

    with pytest.raises(RefusedError, match=r"no anchor answers for trust domain other\.example"):
        store.resolve(envelope.protected_header(-19, member.fingerprint, batch=False), [member.der])


def test_what_a_certificate_says_is_printable_in_a_refusal():
    assert chains._printable(ValueError("a\x1b[31mb\nc")) == "a?[31mb?c"


def test_rsa_keys_have_a_largest_size():
    def key_of(bits):
        return rsa.RSAPublicNumbers(65537, 1 << (bits - 1) | 1).public_key()

    assert check_public_key(key_of(2048))
    assert check_public_key(key_of(8192))
    for bits in (2047, 8193):
        with pytest.raises(SecurityError, match=f"RSA of {bits} bits"):
            check_public_key(key_of(bits))


def test_a_key_that_cannot_sign_is_named():
    with pytest.raises(SecurityError, match="type X25519PrivateKey"):
        check_private_key(X25519PrivateKey.generate())


@pytest.mark.parametrize(
    ("row", "told", "beyond"),
    [
        ('max_eta = "60s"', "at most 60 seconds ahead", {"ahead": 61.0}),
        ('max_body = "10B"', "bodies of at most 10 bytes", {"length": 11}),
        (
            'max_eta = "60s"\nmax_body = "10B"',
            "at most 60 seconds ahead, bodies of at most 10 bytes",
            {"length": 11},
        ),
    ],
)
def test_each_bound_counts_alone_and_is_told(row, told, beyond):
    found = policy(f'task = "a"\n{row}')

    found.check(asks(ahead=60.0 if "eta" in row else 1e9, length=10 if "body" in row else 10**9))
    with pytest.raises(RefusedError, match="rule 1 allows"):
        found.check(asks(**beyond))
    assert found.rules[0].describe_bounds() == told


def test_a_rule_without_bounds_has_none_to_tell():
    assert not policy('task = "a"').rules[0].describe_bounds()


def test_an_objection_names_what_the_rule_covers():
    [rule] = policy('task = ["a", "b.*"]').rules

    assert rule.find_objection(asks("c"), {"all"}) == "it covers a, b.*"


def test_decisions_are_remembered_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(rules, "_MAX_DECISIONS", 2)
    found = policy('task = "**"')
    sizes = []

    for name in ("a", "b", "b", "c", "d"):
        found.check(asks(name))
        sizes.append(len(found._decisions))

    assert sizes == [1, 2, 2, 1, 2]


def test_roles_that_no_rule_names_are_found():
    found = policy(
        'task = "a"', roles='[role.all]\nids = ["unsigned"]\n[role.idle]\nids = ["unsigned"]\n'
    )

    assert found.find_unused() == ["idle"]


def test_a_denial_says_who_and_where():
    found = policy('task = "a"')

    with pytest.raises(RefusedError, match=r"no rule lets unsigned send b on queue mail$"):
        found.check(asks("b", "mail"))
    with pytest.raises(RefusedError, match=r"no rule lets CN=alice send b$"):
        found.check(asks("b", signer=identify(ALICE.certificate)))


@pytest.mark.parametrize("count", [1, 2, 8])
def test_up_to_eight_certificates_come_along(count):
    chain = [b"certificate %d" % number for number in range(count)]
    header = envelope.protected_header(-19, bytes(32), batch=False)
    start = envelope.begin_single(header, chain=chain)

    assert list(envelope.parse_frame(envelope.build_signed(start, b"", b"", b"")).chain) == chain


def test_nine_certificates_do_not():
    header = envelope.protected_header(-19, bytes(32), batch=False)
    start = envelope.begin_single(header, chain=[b"certificate"] * 9)

    with pytest.raises(MessageError, match="9 certificates"):
        envelope.parse_frame(envelope.build_signed(start, b"", b"", b""))


def test_the_last_retry_is_one_of_those_that_are_allowed():
    last, beyond = (task(retries=retries, max_retries=3) for retries in (3, 4))

    assert protocol.find_problem(last) is None
    assert protocol.find_problem(beyond) == "retry 4 of at most 3"


def lying_in(queue, signed):
    """A message as a broker hands it out."""
    return Delivery(queue, "task-0", signed.frame, 1, 1)


@pytest.fixture
def opener(folder, clock):
    """Of a queue, and of a worker's own queue behind a broadcast queue."""
    rows = ('task = "**"\nqueue = ["celery", "news"]',)
    gate = make_gate(folder, clock, policy=policy(*rows))
    made = Opener(gate, ["celery", "news>host"], {"news>host": "news"})
    yield made
    made.close()


def test_what_is_opened_is_meant_for_where_it_lies(opener, clock):
    signer = ALICE.signer(clock)
    [usual, news] = signer.sign([draft(), draft(audience=("q:news",))])

    ours = opener.open(lying_in("celery", usual))
    copy = opener.open(lying_in("news>host", news))

    times = copy.nonce[2:]
    assert copy.nonce == nonce_of_reader(
        make_nonce(ALICE.fingerprint, copy.claims.session, 1, *times), "news>host"
    )
    assert ours.nonce == make_nonce(ALICE.fingerprint, ours.claims.session, 0, *times)
    for queue, signed in (("celery", news), ("news>host", usual)):
        with pytest.raises(RefusedError, match="wrong-audience"):
            opener.open(lying_in(queue, signed))


def test_a_policy_is_asked_of_the_queue_that_it_was_sent_to(opener, clock):
    [signed] = ALICE.signer(clock).sign([draft(audience=("q:celery", "q:other"))])

    assert opener.open(lying_in("celery", signed))
    with pytest.raises(DeniedError, match="on queue other"):
        opener.open(lying_in("other", signed))


def test_threads_open_what_was_signed_one_by_one(opener, clock):
    signer = ALICE.signer(clock)
    lent = [lying_in("celery", signer.sign([draft(number)])[0]) for number in range(8)]
    wanted = [f"task-{number}" for number in range(8)]

    def ids():
        return [one.message.claims.id for one in opener.open_all(lent)]

    assert opener.open_all([]) == []
    assert ids() == wanted
    assert opener._executor is None, "nothing was known of how many signatures there would be"
    assert ids() == wanted
    executor = opener._executor
    assert ids() == wanted
    assert opener._executor is executor is not None
    opener.close()
    assert executor._shutdown
    opener.close()
    assert ids() == wanted


def test_an_objection_names_the_actions_that_a_rule_allows():
    [rule] = policy('task = "a"').rules

    assert rule.find_objection(asks("a"), {"all"}) is None
    assert rule.find_objection(asks("a")._replace(action=Action.RESULT), {"all"}) == (
        "it allows send"
    )


def test_a_rule_says_all_that_bounds_it():
    rule = policy('task = "a"\norigin = "all"\nmax_eta = "1m"\nmax_body = "1KiB"').rules[0]

    assert rule.describe_bounds() == (
        "at most 60 seconds ahead, bodies of at most 1024 bytes, while it runs a request of all"
    )


def test_headers_are_read_only_where_the_policy_asks_for_them():
    assert policy('task = "a"').check(asks(headers=b"no JSON")) == (None,)


def test_whom_a_client_names_as_origin_is_not_believed():
    told = b'{"inner": "a", "origin": [["CN=bob", "00"]]}'

    assert policy('task = "a"').check(asks("cardoon.map", headers=told)) == (None,)


def test_a_decision_is_remembered_for_its_signer():
    allowing = policy('task = "a"')
    alice, mallory = identify(ALICE.certificate), identify(make_person("mallory").certificate)

    allowing.check(asks(signer=alice))
    with pytest.raises(RefusedError, match="denied"):
        allowing.check(asks(signer=mallory))
    allowing.check(asks(signer=None))


def test_no_more_roles_are_remembered_than_agreed(monkeypatch):
    monkeypatch.setattr(rules, "_MAX_DECISIONS", 2)
    allowing = policy('task = "a"')

    for number in range(5):
        allowing.session_limit_of(identify(make_person(f"person {number}").certificate))
        assert len(allowing._roles) <= 2


def test_what_each_rule_has_against_a_request():
    allowing = policy('task = "a"', 'task = "b"\nmax_body = 1')

    assert allowing.explain(asks("a", length=2)) == {1: None, 2: "it covers b"}
    assert allowing.explain(asks("b", length=2))[2] == "a body of 2 bytes; rule 2 allows 1"


@pytest.mark.parametrize(("length", "allowed"), [(MAX_NAME, True), (MAX_NAME + 1, False)])
def test_the_name_of_a_mapped_task_has_its_bound(length, allowed):
    told = json.dumps({"inner": "a" * length}).encode()
    mapped = asks("cardoon.map", headers=told)

    if allowed:
        assert policy('task = "*"').check(mapped) == (None,)
    else:
        with pytest.raises(RefusedError, match="do not name"):
            policy('task = "*"').check(mapped)


def test_an_origin_has_its_bounds():
    longest = ["a" * MAX_LENGTH, "00" * 32]

    assert len(read_origin({"origin": [None] * MAX_PARTIES})) == MAX_PARTIES
    assert read_origin({"origin": [longest]})[0].name == longest[0]
    with pytest.raises(RefusedError, match="bad-claims"):
        read_origin({"origin": [None] * (MAX_PARTIES + 1)})
    with pytest.raises(RefusedError, match="bad-claims"):
        read_origin({"origin": [["a" * (MAX_LENGTH + 1), "00" * 32]]})


def test_an_unsealer_says_which_of_our_keys_a_body_is_sealed_to():
    ours, other = (KeyPair(X25519PrivateKey.generate()) for _ in range(2))

    class Ring:
        def find(self, key_id):
            return ours if key_id == key_id_of(ours.public) else None

    def sealed_to(*pairs):
        return Encryption(Suite.X25519, tuple(key_id_of(each.public) for each in pairs))

    unsealer = Unsealer(Ring())
    assert unsealer.find_key(sealed_to(other, ours)) == ours.public
    assert unsealer.find_key(sealed_to(other)) == b""


def command(signer, number=0, **more):
    asked = draft(number, kind=Kind.CONTROL, task="ping", audience=("*",), **more)
    return signer.sign([asked._replace(retries=None, max_retries=None)])[0].frame


def test_a_command_of_the_very_moment_of_the_start_is_heard(folder, clock):
    frame = command(ALICE.signer(clock))
    gate = make_gate(folder, clock)
    clock.advance(gate.skew)

    assert Orders(gate, clock=clock, worker="w").open(frame)


def test_commands_without_signature_are_those_of_one_signer(folder, clock):
    gate = make_gate(folder, clock, accept=("auth", "json"))
    orders = Orders(gate, clock=clock, worker="w")
    signer = PlainSigner(clock=clock)

    orders.open(command(signer))

    assert list(orders._done) == [b""]


def test_no_more_signers_give_commands_than_can_be_remembered(tmp_path, clock, monkeypatch):
    monkeypatch.setattr("cardoon.worker.orders.MAX_SIGNERS", 2)
    people = [make_person(name) for name in ("alice", "bob", "carol")]
    orders = Orders(make_gate(pin(tmp_path, *people), clock), clock=clock, worker="w")
    alice, bob, carol = (each.signer(clock) for each in people)

    orders.open(command(alice))
    orders.open(command(bob))
    orders.open(command(bob, 1))
    with pytest.raises(RefusedError, match="2 signers gave commands"):
        orders.open(command(carol))
    clock.advance(400)
    orders.open(command(carol, 1))


def test_sessions_are_counted_over_the_hour(clock):
    meter = SessionMeter(clock=clock)
    meter.check(b"alice", b"1", 2)
    meter.check(b"alice", b"2", 2)

    with pytest.raises(RefusedError, match="too-many-sessions"):
        meter.check(b"alice", b"3", 2)
    meter.check(b"alice", b"1", 2)
    meter.check(b"bob", b"3", 2)
    clock.advance(3600)
    meter.check(b"alice", b"3", 2)


def test_only_who_is_trusted_for_itself_is_pinned(folder, tmp_path, clock):
    authority = make_authority()
    member = make_member(authority)
    anchor = write(tmp_path, "ca.pem", authority.pem)
    store = TrustStore(pins=[tmp_path / "0-*.pem"], anchors=[anchor], clock=clock)
    ours, other = (
        envelope.protected_header(-19, each.fingerprint, batch=False) for each in (ALICE, member)
    )

    assert store.resolve(other, [member.der])
    assert store.is_pinned(ours)
    assert not store.is_pinned(other)


def resigned(authority, certificate, part, by):
    """A certificate in which a part was another before its authority signed it."""
    inner = certificate.tbs_certificate_bytes.replace(part, by, 1)
    assert inner != certificate.tbs_certificate_bytes
    signature = authority.key.sign(inner, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    body = inner + algorithm + b"\x03" + bytes([len(signature) + 1, 0]) + signature
    assert len(body) > 255, "so that its length takes two bytes"
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body


def test_a_member_whose_name_cannot_be_read_is_nobody(tmp_path, clock):
    """Its chain is good; only who asks for its subject finds out."""
    authority = make_authority()
    member = make_member(authority, "e" * 40, uris=())
    broken = resigned(authority, member.certificate, b"\x0c\x28eee", b"\xbb\x28eee")
    store = TrustStore(anchors=[write(tmp_path, "ca.pem", authority.pem)], clock=clock)
    named = envelope.protected_header(-19, hashlib.sha256(broken).digest(), batch=False)

    with pytest.raises(RefusedError, match="unknown-signer: certificate: unreadable"):
        store.resolve(named, [broken])


def test_a_leaf_has_a_key_that_we_take():
    weak = make_person("weak", key=ec.generate_private_key(ec.SECP384R1()))

    assert chains.check_leaf(ALICE.certificate) is None
    with pytest.raises(SecurityError, match="curve secp384r1"):
        chains.check_leaf(weak.certificate)


class Token:
    """A device that holds one key, and says that it holds another where that is told."""

    def __init__(self, key, shown=None):
        self._key, self._shown = key, shown or key
        self.asked = []

    def public_key(self):
        return self._shown.public_key()

    def sign(self, content, algorithm, timeout):
        self.asked.append((content, algorithm, timeout))
        return self._key.sign(content)


def test_what_a_key_elsewhere_signs_is_verified_here():
    key, other = ed25519_key(1), ed25519_key(2)
    token = Token(key)

    signature = make_sign_within(token, Algorithm.ED25519)(b"content", 2.5)

    assert token.asked == [(b"content", Algorithm.ED25519, 2.5)]
    assert signature == make_sign_within(key, Algorithm.ED25519)(b"content", 2.5)
    with pytest.raises(IdentityError, match="do not fit our certificate"):
        make_sign_within(Token(other, key), Algorithm.ED25519)(b"content", 2.5)


class OneKey:
    """One private key."""

    def __init__(self):
        self.pair = KeyPair(X25519PrivateKey.generate())
        self.seal = Seal((self.pair.public,))

    def find(self, key_id):
        return self.pair if key_id == key_id_of(self.pair.public) else None


def chained(signer, *, first=None, second=None):
    """A task that waits for another, as a broker hands it out with the result of that one."""
    asked, body = signer.sign([draft(0), draft(1, after=(0,), seal=second)])
    request = digest_of(asked.frame)
    [ended] = signer.sign([draft(0, kind=Kind.RESULT, request=request, seal=first)])
    inputs = (Input("task-0", asked.request, ended.frame),)
    return Delivery("celery", "task-1", body.frame, 1, 1, inputs=inputs)


def test_what_is_sealed_to_others_does_not_get_past_the_opener(folder, clock):
    ours, other = OneKey(), OneKey()
    opener = Opener(make_gate(folder, clock, unsealer=Unsealer(ours)), ["celery"])
    signer = ALICE.signer(clock)

    good, task, result = opener.open_all(
        [
            chained(signer, first=ours.seal, second=ours.seal),
            chained(signer, second=other.seal),
            chained(signer, first=other.seal),
        ]
    )

    assert len(good.inputs) == 1
    assert (task.reason, result.reason) == (Refusal.UNKNOWN_KEY, Refusal.UNKNOWN_KEY)


def test_an_input_that_is_not_there_is_none(folder, clock):
    opener = Opener(make_gate(folder, clock), ["celery"])
    lent = chained(ALICE.signer(clock))

    [found] = opener.open_all([lent._replace(inputs=(lent.inputs[0]._replace(frame=None),))])

    assert found.inputs == (None,)


@pytest.mark.parametrize("has_failed", [False, True])
def test_a_task_and_what_it_waited_for_are_unsealed_together(folder, clock, has_failed):
    ours = OneKey()
    opener = Opener(make_gate(folder, clock, unsealer=Unsealer(ours)), ["celery"])
    lent = chained(ALICE.signer(clock), first=ours.seal, second=ours.seal)
    [(message, (result,))] = opener.open_all([lent])
    inputs = Inputs(Take.RESULT, [result], result if has_failed else None, True, 0.0)
    held = Held(1, lent, message, None, {}, taken_at=0.0, inputs=inputs)
    assert result.body != BODY

    assert opener.unseal(held) is None

    clear = result._replace(body=BODY)
    assert held.message == message._replace(body=BODY)
    assert held.inputs == inputs._replace(results=[clear], failure=clear if has_failed else None)


@pytest.mark.parametrize("reason", [Refusal.UNKNOWN_SIGNER, Refusal.UNKNOWN_KEY])
def test_who_is_unknown_gets_one_second_look(reason):
    assert [until_next_look(reason, attempt) for attempt in (1, 2)] == [SECOND_LOOK, None]


def test_the_future_is_looked_at_so_often_and_no_more():
    looks = [
        until_next_look(Refusal.ISSUED_IN_FUTURE, attempt)
        for attempt in (1, 2, LOOKS_AT_THE_FUTURE - 1, LOOKS_AT_THE_FUTURE)
    ]

    assert looks == [1.5, 3.0, 60.0, None]
    assert until_next_look(Refusal.DENIED, 1) is None


@pytest.mark.parametrize(("accept", "taken"), [(["json"], True), (["auth", "json"], False)])
def test_what_is_to_be_sent_is_taken_unsigned_only_where_nothing_is_signed(
    tmp_path, clock, accept, taken
):
    gate = make_gate(pin(tmp_path, ALICE), clock, accept=accept)
    [sent] = PlainSigner(clock=clock).sign([draft(kind=Kind.BEAT)])

    if taken:
        assert gate.open(sent.frame, kind=Kind.BEAT).claims.id == "task-0"
    else:
        with pytest.raises(RefusedError) as refused:
            gate.open(sent.frame, kind=Kind.BEAT)
        assert refused.value.reason is Refusal.UNSIGNED


def test_a_pattern_of_workers_is_as_long_as_it_may_be(tmp_path, clock):
    orders = Orders(make_gate(pin(tmp_path, ALICE), clock), clock=clock, worker="w")
    longest, longer = (
        command(
            ALICE.signer(clock),
            headers=json.dumps({"pattern": "w".ljust(length, "*")}).encode(),
        )
        for length in (256, 257)
    )

    assert orders.open(longest).claims.id == "task-0"
    with pytest.raises(RefusedError, match="no short text"):
        orders.open(longer)
