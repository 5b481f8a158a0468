"""Claims: each of the labels altered under the client's signature, and each of them ill-formed under a trusted one."""

from __future__ import annotations

import os
import time
from typing import Any

from attacks.makers import (
    Claims,
    arguments,
    claims_of,
    encode,
    rebuilt,
    seal,
    task_claims,
)
from attacks.matrix import attack
from attacks.raid import Raid
from cardoon.message.protocol import Label

_ALTERED: dict[Label, Any] = {
    Label.KIND: 4,
    Label.TASK: "canary.guarded",
    Label.ID: "another-id",
    Label.AUDIENCE: ["q:celery", "q:other"],
    Label.ISSUED_AT: 1,
    Label.VALID_UNTIL: 253_402_300_799,
    Label.SESSION: bytes(16),
    Label.SEQUENCE: 8191,
    Label.DIGEST: bytes(32),
    Label.CODEC: "application/x-python-serialize",
    Label.LENGTH: 1,
    Label.ROOT: "another-root",
    Label.PARENT: "another-parent",
    Label.GROUP: ["another-group", 0, 1],
    Label.ETA: 1,
    Label.EXPIRES: 253_402_300_799_999,
    Label.RETRIES: 1,
    Label.MAX_RETRIES: 2**31 - 1,
    Label.REPLY: "another.1",
    Label.HEADERS: b'{"timelimit":[null,null]}',
    Label.REQUEST: bytes(32),
    Label.COMPOSE: [0, 1, bytes(32)],
    Label.ENCRYPTION: [b"key", 1],
}
"""What an attacker would have each of them say."""


def _enter_altered() -> None:
    for label, value in _ALTERED.items():

        def act(raid: Raid, label: Label = label, value: Any = value) -> None:
            sent, genuine = raid.send_later()
            claims = claims_of(genuine)
            changed = dict(sorted({**claims, int(label): value}.items()))
            assert changed != claims, f"{label.name} says that already"
            raid.alter(sent, rebuilt(genuine, claims=encode(changed)), "bad-signature")

        name = f"alter_{label.name.lower()}"
        text = f"The client's message says something else for {label.name} (label {label.value})."
        attack("alter", name=name, text=text)(act)


def _enter_removed() -> None:
    for label in (Label.ETA, Label.RETRIES, Label.AUDIENCE):

        def act(raid: Raid, label: Label = label) -> None:
            sent, genuine = raid.send_later()
            claims = claims_of(genuine)
            del claims[int(label)]
            raid.alter(sent, rebuilt(genuine, claims=encode(claims)), "bad-signature")

        name = f"remove_{label.name.lower()}"
        text = f"The client's message says nothing any more for {label.name}."
        attack("alter", name=name, text=text)(act)


_HUGE = 2**64 - 1
_ILL: dict[str, tuple[Label, Any]] = {
    "kind_unknown": (Label.KIND, 200),
    "kind_huge": (Label.KIND, _HUGE),
    "kind_text": (Label.KIND, "task"),
    "name_empty": (Label.TASK, ""),
    "name_long": (Label.TASK, "canary." + "n" * 10_000),
    "name_not_printable": (Label.TASK, "canary.note\x00\x1b[2J"),
    "id_long": (Label.ID, "i" * 60_000),
    "id_number": (Label.ID, 7),
    "audience_many": (Label.AUDIENCE, ["q:celery"] * 5000),
    "audience_none": (Label.AUDIENCE, []),
    "audience_nested": (Label.AUDIENCE, [["q:celery"]]),
    "issued_never": (Label.ISSUED_AT, _HUGE),
    "valid_for_ever": (Label.VALID_UNTIL, _HUGE),
    "valid_negative": (Label.VALID_UNTIL, -1),
    "session_short": (Label.SESSION, b""),
    "session_long": (Label.SESSION, bytes(4096)),
    "sequence_8192": (Label.SEQUENCE, 8192),
    "sequence_huge": (Label.SEQUENCE, _HUGE),
    "digest_short": (Label.DIGEST, bytes(31)),
    "codec_long": (Label.CODEC, "application/" + "j" * 1000),
    "length_huge": (Label.LENGTH, _HUGE),
    "group_of_none": (Label.GROUP, ["group", 0, 0]),
    "group_beyond": (Label.GROUP, ["group", 5, 2]),
    "group_huge": (Label.GROUP, ["group", 0, _HUGE]),
    "eta_huge": (Label.ETA, _HUGE),
    "retries_huge": (Label.RETRIES, _HUGE),
    "reply_long": (Label.REPLY, "r" * 5000),
    "headers_long": (Label.HEADERS, b"{" + b" " * 40_000 + b"}"),
    "compose_huge": (Label.COMPOSE, [1, _HUGE, bytes(32)]),
    "compose_unknown": (Label.COMPOSE, [9, 1, bytes(32)]),
    "encryption": (Label.ENCRYPTION, [b"key", 1]),
}
"""What a trusted client may sign that makes no sense."""


def _enter_ill() -> None:
    for name, (label, value) in _ILL.items():

        def act(raid: Raid, label: Label = label, value: Any = value) -> None:
            offer_signed(raid, {int(label): value}, "bad-claims")

        text = f"A trusted client signs {label.name}={str(value)[:24]!r}."
        attack("ill-formed", name=f"ill_{name}", text=text)(act)


def offer_signed(raid: Raid, changes: Claims, *reasons: str) -> None:
    """A message by the insider, with some labels as nobody would send them."""
    id = raid.id()
    body = arguments(raid.token())
    claims = dict(sorted({**task_claims(id, body), **changes}.items()))
    raid.offer(seal(raid.people.insider, claims, body), *reasons, id=id)


_enter_altered()
_enter_removed()
_enter_ill()


@attack("ill-formed")
def ill_label_of_tomorrow(raid: Raid) -> None:
    """A trusted client signs a label that this version does not know, as a restriction of tomorrow may be."""
    offer_signed(raid, {24: 1}, "bad-claims")


@attack("ill-formed")
def ill_no_claims(raid: Raid) -> None:
    """A trusted client signs nothing at all, and then an empty map."""
    for claims in (b"", b"\xa0"):
        body = arguments(raid.token())
        raid.offer(seal(raid.people.insider, claims, body), "bad-claims")


@attack("ill-formed")
def ill_headers(raid: Raid) -> None:
    """A trusted client signs headers that are no JSON object, are very deep, or have huge numbers."""
    deep = b'{"stamps":' + b"[" * 15_000 + b"]" * 15_000 + b"}"
    number = b'{"timelimit":[' + b"9" * 20_000 + b",1]}"
    for headers in (b"[]", b"{", b"\xff\xfe", deep, number):
        offer_signed(raid, {int(Label.HEADERS): headers}, "bad-claims", "undecodable", "malformed")


@attack("times")
def expired(raid: Raid) -> None:
    """A trusted client's message whose time is over."""
    then = int(time.time()) - 7200
    offer_signed(raid, {int(Label.ISSUED_AT): then, int(Label.VALID_UNTIL): then + 3600}, "expired")


@attack("times")
def issued_in_the_future(raid: Raid) -> None:
    """A trusted client's message of tomorrow, which is held back until this host's clock is sure."""
    then = int(time.time()) + 86_400
    id = raid.id()
    body = arguments(raid.token())
    claims = task_claims(id, body, issued_at=then, valid_until=then + 3600)
    raid.hold(seal(raid.people.insider, claims, body), id=id)


@attack("times")
def valid_before_it_was_issued(raid: Raid) -> None:
    """A trusted client's message that contradicts itself."""
    now = int(time.time())
    offer_signed(raid, {int(Label.ISSUED_AT): now, int(Label.VALID_UNTIL): now - 10}, "bad-claims")


@attack("times")
def offered_before_its_time(raid: Raid) -> None:
    """A message that the client has scheduled for later is offered at once, under its own id."""
    sent = raid.send(countdown=3600)
    raid.lose(sent)
    frame = raid.frame_of(sent.id)
    raid.store.remove(sent.id)
    raid.hold(frame, id=sent.id)


@attack("times")
def business_expiry_passed(raid: Raid) -> None:
    """A message that the client wanted begun by a certain time, handed over when that is past."""
    sent = raid.send(countdown=1.5, expires=2.0)
    frame = raid.frame_of(sent.id)
    raid.lose(sent)
    raid.store.remove(sent.id)
    raid.site.comes_true(lambda: time.time() > claims_of(frame)[Label.EXPIRES] / 1000 + 0.2, 10)
    raid.hold(frame, id=sent.id)

    def revoked() -> str | None:
        raid.site.comes_true(sent.result.ready, 30)
        return None if sent.result.state == "REVOKED" else f"its state is {sent.result.state}"

    raid.check(revoked)


@attack("place")
def moved_to_another_queue(raid: Raid) -> None:
    """The client's message for a queue that no worker here serves is put into one that is served."""
    sent = raid.send(queue="elsewhere", countdown=3600)
    raid.lose(sent)
    frame = raid.frame_of(sent.id)
    raid.store.remove(sent.id)
    raid.offer(frame, "wrong-audience", id=sent.id)


@attack("place")
def copied_under_another_id(raid: Raid) -> None:
    """The client's waiting message is copied under other ids, and the original goes on."""
    _, genuine = raid.send_later()
    for _ in range(3):
        raid.offer(genuine, "wrong-id")


@attack("place")
def copied_under_an_id_like_a_broadcast(raid: Raid) -> None:
    """The copy's id looks like that of a worker's copy of a broadcast."""
    sent, genuine = raid.send_and_finish()
    raid.offer(genuine, "replayed", id=f"{sent.id}>celery")


@attack("place")
def squatted_id(raid: Raid) -> None:
    """Junk lies under the id of a task that the client sends afterwards: that one may be lost, never run falsely."""
    id = raid.id()
    token = raid.token("good")
    raid.offer(os.urandom(64), "malformed", id=id)
    sent = raid.send(token=token, task_id=id)
    raid.lose(sent)
