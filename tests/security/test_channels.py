"""Every channel that carries signed messages, attacked in every way that each of them can be.

A message is forged, shown again, and moved: to another channel, another deployment, another queue or
node, another task, another question. docs/threat-model.md has the table of channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from cardoon.broker import Delivery, Outgoing
from cardoon.brokers.memory import MemoryBroker
from cardoon.entries import ENTRY, read_entry
from cardoon.exceptions import EncodeError, Refusal, RefusedError
from cardoon.message import envelope
from cardoon.message.protocol import Kind
from cardoon.message.requests import bind_name
from cardoon.security.gate import Input
from cardoon.security.replay import NonceClaim, NonceState
from cardoon.security.signing import PlainSigner
from cardoon.testing import FakeClock
from cardoon.worker.opening import check_id
from cardoon.worker.orders import Orders
from tests.security.actors import DOMAIN, draft, ed25519_key, make_gate, make_person, pin

ALICE = make_person("alice")
MALLORY = make_person("mallory", key=ed25519_key(66))
QUESTION = b"q" * 32
"""The digest that answers must name."""
ASKED = bind_name(Kind.TASK, "shop.orders.pay", QUESTION)
"""What an answer to a task is held against."""
PING, REVOKE = "ping", "revoke"


class Receiver:
    """Somebody who trusts Alice, and the ways in which he reads what is sent to him."""

    def __init__(self, folder, clock):
        self.gate = make_gate(folder, clock)
        self.orders = Orders(self.gate, clock=clock, worker="node@here")
        [self.waiting] = ALICE.signer(clock).sign([draft(9, after=(ASKED,))])

    def task(self, frame):
        message = self.gate.open(
            frame, kind=Kind.TASK, audience=frozenset({"q:celery"}), queue="celery"
        )
        check_id(Delivery("celery", "task-0", frame, 1, 1), message.claims, {})
        return message

    def answer(self, frame):
        return self.gate.open(frame, kind=Kind.RESULT, id="task-0", request=ASKED)

    def input(self, frame):
        waiting = self.gate.open(self.waiting.frame, kind=Kind.TASK)
        [found] = self.gate.open_inputs(waiting, [Input("task-0", ASKED, frame)])
        return found

    def command(self, frame):
        return self.orders.open(frame)

    def event(self, frame):
        return self.gate.open(frame, kind=Kind.EVENT)

    def reply(self, frame):
        return self.gate.open(frame, kind=Kind.CONTROL_REPLY, id="task-0", request=QUESTION)

    def keyset(self, frame):
        return self.gate.open(frame, kind=Kind.KEYSET)

    def entry(self, frame):
        message = self.gate.open(frame, kind=Kind.BEAT, audience=frozenset({ENTRY}), id="task-0")
        read_entry(message, revision=1)
        return message

    def audit_key(self, frame):
        return self.gate.open(
            frame,
            kind=Kind.AUDIT_CHECKPOINT,
            audience=frozenset({"audit.epoch"}),
            id="task-0",
            at_any_age=True,
        )


class Channel(NamedTuple):
    """What is signed for it, and how it is read."""

    kind: Kind
    read: Callable[[Receiver, bytes], Any]
    said: Mapping[str, Any] = MappingProxyType({})


ANSWER = {"request": QUESTION, "retries": None, "max_retries": None, "audience": ()}
CHANNELS = {
    "task": Channel(Kind.TASK, Receiver.task),
    "result": Channel(Kind.RESULT, Receiver.answer, ANSWER),
    "state": Channel(Kind.RESULT, Receiver.answer, {**ANSWER, "headers": b'{"state":"STARTED"}'}),
    "chord part": Channel(Kind.RESULT, Receiver.input, ANSWER),
    "revocation": Channel(Kind.CONTROL, Receiver.command, {"task": REVOKE, "audience": ("*",)}),
    "command": Channel(Kind.CONTROL, Receiver.command, {"task": PING, "audience": ("node@here",)}),
    "event": Channel(Kind.EVENT, Receiver.event),
    "command's reply": Channel(Kind.CONTROL_REPLY, Receiver.reply, ANSWER),
    "keyset": Channel(Kind.KEYSET, Receiver.keyset, {"task": "workers", "audience": ()}),
    "kept entry": Channel(
        Kind.BEAT,
        Receiver.entry,
        {"audience": (ENTRY,), "headers": b'{"revision":1,"removed":true}'},
    ),
    "audit log's key": Channel(
        Kind.AUDIT_CHECKPOINT,
        Receiver.audit_key,
        {"task": "audit.epoch", "audience": ("audit.epoch",)},
    ),
}


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def receiver(tmp_path, clock):
    return Receiver(pin(tmp_path, ALICE), clock)


def sign(channel, clock, *, signer=None, **changes):
    signer = signer or ALICE.signer(clock)
    said = {"kind": channel.kind, **channel.said, **changes}
    return signer.sign([draft(**said)])[0].frame


def refusal_of(receiver, channel, frame):
    with pytest.raises(RefusedError) as refused:
        channel.read(receiver, frame)
    return refused.value.reason


every = pytest.mark.parametrize("channel", CHANNELS.values(), ids=list(CHANNELS))


def some(*names):
    return pytest.mark.parametrize("channel", [CHANNELS[name] for name in names], ids=list(names))


@every
def test_untouched_it_is_read(receiver, clock, channel):
    message = channel.read(receiver, sign(channel, clock))

    assert (message.claims.kind, message.signer.name) == (channel.kind, "CN=alice")


# Forged


@every
def test_by_a_stranger(receiver, clock, channel):
    frame = sign(channel, clock, signer=MALLORY.signer(clock))

    assert refusal_of(receiver, channel, frame) is Refusal.UNKNOWN_SIGNER


@every
def test_by_a_stranger_under_the_name_of_one_who_is_trusted(receiver, clock, channel):
    true = envelope.parse_frame(sign(channel, clock))
    to_sign = envelope.bytes_to_sign(true.protected, DOMAIN.encode(), true.claims)
    start = envelope.begin_single(true.protected)
    frame = envelope.build_signed(start, true.claims, MALLORY.key.sign(to_sign), true.body)

    assert refusal_of(receiver, channel, frame) is Refusal.BAD_SIGNATURE


@every
def test_without_any_signature(receiver, clock, channel):
    frame = sign(channel, clock, signer=PlainSigner(clock=clock))

    assert refusal_of(receiver, channel, frame) is Refusal.UNSIGNED


@every
def test_with_other_claims_under_a_true_signature(receiver, clock, channel):
    true = envelope.parse_frame(sign(channel, clock))
    other = envelope.parse_frame(sign(channel, clock, codec="application/x-msgpack"))
    start = envelope.begin_single(true.protected)
    frame = envelope.build_signed(start, other.claims, true.signature, true.body)

    assert refusal_of(receiver, channel, frame) is Refusal.BAD_SIGNATURE


@every
@pytest.mark.parametrize("body", [b"[[9,9],{},{}]", b""])
def test_with_another_body_under_true_claims(receiver, clock, channel, body):
    true = envelope.parse_frame(sign(channel, clock))
    start = envelope.begin_single(true.protected)
    frame = envelope.build_signed(start, true.claims, true.signature, body)

    assert refusal_of(receiver, channel, frame) is Refusal.WRONG_LENGTH
    padded = body.ljust(len(true.body))
    frame = envelope.build_signed(start, true.claims, true.signature, padded)
    assert refusal_of(receiver, channel, frame) is Refusal.WRONG_DIGEST


# Moved


@pytest.mark.parametrize(
    ("channel", "origin"),
    [
        pytest.param(CHANNELS[to], CHANNELS[of], id=f"{of} as {to}")
        for to, of in itertools.permutations(CHANNELS, 2)
        if CHANNELS[to].kind is not CHANNELS[of].kind  # or else told apart by what they answer
    ],
)
def test_from_a_channel_of_another_kind(receiver, clock, channel, origin):
    said = {**origin.said, "request": QUESTION}  # as much as possible of what the channel asks for

    frame = sign(origin, clock, **said)

    assert refusal_of(receiver, channel, frame) is Refusal.WRONG_KIND


@every
def test_from_another_deployment_of_the_same_people(receiver, clock, channel):
    frame = sign(channel, clock, signer=ALICE.signer(clock, domain="acme/staging"))

    assert refusal_of(receiver, channel, frame) is Refusal.BAD_SIGNATURE


@some("task", "revocation", "command")
@pytest.mark.parametrize("audience", [("q:admin",), ("node@there",), ("x:celery/celery",)])
def test_from_another_queue_or_node(receiver, clock, channel, audience):
    frame = sign(channel, clock, audience=audience)

    assert refusal_of(receiver, channel, frame) is Refusal.WRONG_AUDIENCE


@some("task", "result", "state", "chord part", "command's reply")
def test_from_another_task(receiver, clock, channel):
    frame = sign(channel, clock, id="task-1")

    wanted = Refusal.WRONG_ID if channel.kind is Kind.TASK else Refusal.WRONG_REQUEST
    assert refusal_of(receiver, channel, frame) is wanted


@some("result", "state", "chord part", "command's reply")
def test_from_another_question_under_the_same_id(receiver, clock, channel):
    frame = sign(channel, clock, request=b"r" * 32)

    assert refusal_of(receiver, channel, frame) is Refusal.WRONG_REQUEST


def test_a_chord_part_in_the_place_of_another(receiver, clock):
    """Whoever writes the store can put an answer beside a message that waits for another one."""
    other = b"r" * 32
    frame = sign(CHANNELS["chord part"], clock, request=other)
    waiting = receiver.gate.open(receiver.waiting.frame, kind=Kind.TASK)

    for inputs in ([Input("task-0", other, frame)], [Input("task-0", ASKED, frame)] * 2, []):
        with pytest.raises(RefusedError) as refused:
            receiver.gate.open_inputs(waiting, inputs)
        assert refused.value.reason is Refusal.WRONG_INPUT


# Shown again


def test_a_task_that_was_carried_out(receiver, clock):
    frame = sign(CHANNELS["task"], clock)
    broker = MemoryBroker(clock=clock)
    states = []

    for copy in ("task-0", "copy"):
        broker.publish([Outgoing("celery", copy, frame)], timeout=5)
        [loan] = broker.receive(["celery"], limit=1, lease=30, timeout=0)
        nonce = receiver.task(loan.frame).nonce
        states += broker.claim([NonceClaim(nonce, loan.receipt, loan.attempt)])
        broker.finish([nonce])

    assert states == [NonceState.CLAIMED, NonceState.DONE]


def test_a_command_that_was_carried_out_and_one_from_before_the_start(receiver, clock, tmp_path):
    channel = CHANNELS["command"]
    frame, waiting = sign(channel, clock), sign(channel, clock, id="c2")
    channel.read(receiver, frame)

    assert refusal_of(receiver, channel, frame) is Refusal.REPLAYED
    clock.advance(61)
    started_later = Receiver(tmp_path, clock)
    assert refusal_of(started_later, channel, waiting) is Refusal.EXPIRED


@some("result", "state", "chord part", "revocation")
def test_what_changes_nothing_if_it_is_read_again_is_read_again(receiver, clock, channel):
    frame = sign(channel, clock)

    assert channel.read(receiver, frame) == channel.read(receiver, frame)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("task", 86_400),
        ("result", 86_400),
        ("state", 86_400),
        ("revocation", 86_400),
        ("command", 300),
        ("event", 86_400),
        ("command's reply", 300),
        ("keyset", 86_400),
    ],
)
def test_later_than_it_may_be(receiver, clock, name, seconds):
    """But for chord parts, which are bound to what waits for them, and as old as that."""
    channel = CHANNELS[name]
    frame = sign(channel, clock)
    clock.advance(seconds + 61)

    assert refusal_of(receiver, channel, frame) is Refusal.EXPIRED


# Kinds that nobody reads yet


@pytest.mark.parametrize("kind", sorted(set(Kind) - {one.kind for one in CHANNELS.values()}))
def test_a_kind_without_a_reader_is_not_signed(clock, kind):
    with pytest.raises(EncodeError, match=f"does not speak kind {kind.name}"):
        sign(CHANNELS["task"], clock, kind=kind)
