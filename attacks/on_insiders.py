"""Insiders: a trusted key that asks for what it may not have."""

from __future__ import annotations

import json
import time
import zlib

from attacks.makers import arguments, request_of, seal, task_claims
from attacks.matrix import attack
from attacks.raid import Raid
from cardoon.message.protocol import Label

MEGABYTE = 1024 * 1024


def _ask(raid: Raid, body: bytes, *reasons: str, **changes: object) -> str:
    id = raid.id()
    frame = seal(raid.people.insider, task_claims(id, body, **changes), body)
    return raid.offer(frame, *reasons, id=id)


@attack("policy")
def task_of_others(raid: Raid) -> None:
    """A task that the policy lets only another client send."""
    _ask(raid, arguments(raid.token()), "denied", task="canary.guarded")


@attack("policy")
def task_that_is_cardoons(raid: Raid) -> None:
    """Cardoon's own tasks, with which any task can be reached."""
    for task in ("cardoon.map", "cardoon.starmap", "cardoon.group", "celery.map", "celery.chain"):
        body = arguments({"task": "canary.guarded"}, [[raid.token()]])
        _ask(raid, body, "denied", task=task)


@attack("policy")
def task_names_that_look_alike(raid: Raid) -> None:
    """Names that a sloppy comparison would take for one that is allowed."""
    for task in ("canary.note ", "Canary.note", "canary.note.x", "canary.*", "canary.n\u043ete"):
        _ask(raid, arguments(raid.token()), "denied", "bad-claims", task=task)


@attack("policy")
def body_over_the_policy(raid: Raid) -> None:
    """A body larger than the policy allows this client."""
    _ask(raid, arguments(raid.token(), "x" * (600 * 1024)), "denied")


@attack("policy")
def eta_over_the_policy(raid: Raid) -> None:
    """Scheduled for later than the policy allows this client."""
    eta = int((time.time() + 86_400) * 1000)
    _ask(raid, arguments(raid.token()), "denied", eta=eta, valid_until=eta // 1000 + 3600)


@attack("policy")
def links_to_tasks_of_others(raid: Raid) -> None:
    """Callbacks in the body, as Celery's workers would send them in their own name."""
    token = raid.token()
    link = {"task": "canary.guarded", "args": [raid.token()], "kwargs": {}, "options": {}}
    embed = {"callbacks": [link], "errbacks": [link], "chain": [link], "chord": link}
    body = json.dumps([[token], {}, embed]).encode()
    id = raid.id()
    frame = seal(raid.people.insider, task_claims(id, body), body)
    raid.store.offer(id, frame, queue="celery")
    raid.let_run(token)
    raid.outcome = "callbacks not sent"


@attack("policy")
def waits_for_a_task_of_others(raid: Raid) -> None:
    """A task that says it takes the result of a task of others, which is not beside it."""
    _ask(raid, arguments(raid.token()), "wrong-input", compose=[0, 1, bytes(32)])


@attack("policy")
def task_in_the_place_of_anothers(raid: Raid) -> None:
    """A task that is allowed, whose result is to be that of a task of somebody else."""
    sent, genuine = raid.send_later()
    for headers in (None, b'{"asked":"canary.note"}', b'{"asked":"accounts.close"}'):
        body = arguments(raid.token())
        claims = task_claims(sent.id, body, request=request_of(genuine), headers=headers)
        raid.offer(seal(raid.people.insider, claims, body), "denied", id=f"{sent.id}>{raid.id()}")
    raid.look(sent)


@attack("policy")
def failure_in_the_place_of_anothers(raid: Raid) -> None:
    """The same with a task that the policy denies, so that the other's sender is told that it was."""
    sent, genuine = raid.send_later()
    body = arguments(raid.token())
    claims = task_claims(sent.id, body, task="canary.guarded", request=request_of(genuine))
    raid.offer(seal(raid.people.insider, claims, body), "denied", id=f"{sent.id}>x")
    raid.look(sent)


@attack("bombs")
def zlib_bomb(raid: Raid) -> None:
    """Kilobytes that would unpack to 256 MiB."""
    body = zlib.compress(bytes(256 * MEGABYTE), 9)
    _ask(raid, body, "decompression-bomb", "codec-not-accepted", codec="application/json+zlib")


@attack("bombs")
def bzip2_and_lzma_bombs(raid: Raid) -> None:
    """The same by other compressions."""
    import bz2  # noqa: PLC0415
    import lzma  # noqa: PLC0415

    zeros = bytes(64 * MEGABYTE)
    for name, packed in (("bzip2", bz2.compress(zeros)), ("lzma", lzma.compress(zeros, preset=0))):
        codec = f"application/json+{name}"
        _ask(raid, packed, "decompression-bomb", "codec-not-accepted", codec=codec)


@attack("bombs")
def broken_compression(raid: Raid) -> None:
    """What says that it is compressed, and is not, or not to its end."""
    for body in (b"junk", b"", zlib.compress(arguments(raid.token()))[:-4]):
        _ask(raid, body, "undecodable", codec="application/json+zlib")


@attack("bombs")
def deep_json(raid: Raid) -> None:
    """Arrays within arrays, a hundred thousand deep."""
    _ask(raid, b"[" * 100_000 + b"]" * 100_000, "undecodable")


@attack("bombs")
def deep_json_within_arguments(raid: Raid) -> None:
    """The same as an argument."""
    deep = b"[" * 5000 + b"]" * 5000
    body = arguments(raid.token(), "HERE").replace(b'"HERE"', deep)
    _ask(raid, body, "undecodable")


@attack("bombs")
def huge_number(raid: Raid) -> None:
    """An integer of four hundred thousand digits."""
    body = arguments(raid.token(), 7).replace(b"7]", b"9" * 400_000 + b"]")
    _ask(raid, body, "undecodable")


@attack("bombs")
def numbers_that_are_none(raid: Raid) -> None:
    """NaN and infinity, which JSON has not."""
    for word in (b"NaN", b"Infinity", b"-Infinity", b"1e999999"):
        body = arguments(raid.token(), "HERE").replace(b'"HERE"', word)
        _ask(raid, body, "undecodable")


@attack("bombs")
def names_said_twice(raid: Raid) -> None:
    """Keyword arguments with one name twice."""
    body = arguments(raid.token(), value="b").replace(b'"value":"b"', b'"value":"a","value":"b"')
    _ask(raid, body, "undecodable")


@attack("bombs")
def body_that_is_no_call(raid: Raid) -> None:
    """JSON that is not arguments, keyword arguments and the rest."""
    for body in (b"{}", b"[]", b"7", b"[{},[],{}]", b"[[],{}]", b"null", b"", b"\xff\xfe"):
        _ask(raid, body, "undecodable")


@attack("bombs")
def tags_of_types(raid: Raid) -> None:
    """Arguments that ask to be made objects of any class."""
    for tagged in (
        {"__type__": "datetime", "__value__": "x" * 1000},
        {"__type__": "os.system", "__value__": "id"},
        {"py/object": "os.system"},
        {"__type__": "decimal", "__value__": "1e999999999"},
    ):
        token = raid.token("good")
        body = arguments(token, tagged)
        id = raid.id()
        frame = seal(raid.people.insider, task_claims(id, body), body)
        raid.store.offer(id, frame, queue="celery")
        raid.let_settle(id, token)


@attack("bombs")
def envelope_over_64_kib(raid: Raid) -> None:
    """An envelope with an enormous signature, and one with enormous claims."""
    id = raid.id()
    body = arguments(raid.token())
    claims = task_claims(id, body)
    insider = raid.people.insider
    raid.offer(
        seal(insider, claims, body, signature=bytes(100_000)), "malformed", "too-large", id=id
    )
    other = raid.id()
    large = task_claims(other, body, headers=bytes(100_000))
    raid.offer(seal(insider, large, body), "too-large", id=other)


@attack("bombs")
def frame_over_the_limit(raid: Raid) -> None:
    """A message of four megabytes, where one may be taken."""
    id = raid.id()
    body = arguments(raid.token(), "x" * (4 * MEGABYTE))
    raid.offer(seal(raid.people.client, task_claims(id, body), body), "too-large", id=id)


@attack("bombs")
def length_that_is_not_there(raid: Raid) -> None:
    """Heads that announce more bytes than there are, up to 2^64."""
    for head in (
        b"\x5b" + b"\xff" * 8,
        b"\xd2\x84\x5b" + b"\xff" * 8,
        b"\x5a\x7f\xff\xff\xff",
        b"\x5f",
    ):
        raid.offer(head + b"x" * 50, "malformed")


@attack("bombs")
def deep_cbor(raid: Raid) -> None:
    """Arrays within arrays where claims should be."""
    body = arguments(raid.token())
    for claims in (b"\x81" * 50_000, b"\xa1\x01" * 20_000, b"\xb9\xff\xff" + b"\x01\x01" * 100):
        raid.offer(seal(raid.people.insider, claims, body), "bad-claims")


@attack("bombs")
def very_many_retries(raid: Raid) -> None:
    """A message that says it was tried two thousand million times."""
    most = 2**31 - 1
    token = raid.token("good")
    body = arguments(token)
    id = raid.id()
    claims = task_claims(id, body, retries=most, max_retries=most)
    raid.store.offer(id, seal(raid.people.insider, claims, body), queue="celery")
    raid.let_settle(id, token)
    assert Label.RETRIES in claims
