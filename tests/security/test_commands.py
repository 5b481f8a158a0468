"""Attacks on remote control by somebody who reads and writes the store, or who is trusted with something else.

A command must be carried out by those that it was given to, once, now, and if its signer may; an answer must be
taken from those who may answer, for the command that it answers, once. Whatever else comes ends nothing.
"""

from __future__ import annotations

import hashlib
import json

import pytest

from cardoon.commanding import MAX_REFUSED, order_draft
from cardoon.message.envelope import parse_frame
from cardoon.message.protocol import EVERY_WORKER, Kind
from cardoon.message.serializers import JSON, encode_body
from cardoon.security.policyfile import parse_rules
from cardoon.security.signing import Draft
from cardoon.sender import Order
from tests.security.actors import DAY, make_person
from tests.unit.counter import NAME, Counter
from tests.unit.stage import Stage

PONG = {"ok": "pong"}


@pytest.fixture
def make_counter(tmp_path):
    made = []

    def make(folder=None, **settings):
        stage = Stage(folder or tmp_path / f"state-{len(made)}", settings=settings)
        made.append(Counter(stage))
        return made[-1]

    yield make
    for one in made:
        one.close()
        one.stage.close()


@pytest.fixture
def counter(make_counter):
    return make_counter()


def trust(counter, name="mallory", **options):
    """Somebody whom worker and client trust, with a signer of their own."""
    person = make_person(name, ends=36_500 * DAY)
    folder = counter.stage.folder / "trusted"
    (folder / f"{name}.pem").write_bytes(person.pem)
    counter.stage.clock.advance(10)
    return person, signer_of(counter, person, **options)


def signer_of(counter, person, *, domain=None):
    return person.signer(
        counter.stage.clock, domain=domain or counter.stage.settings.security_domain
    )


def answer(signer, asked, *, content=PONG, worker=NAME, **changes):
    """An answer to a question."""
    claims = {
        "kind": Kind.CONTROL_REPLY,
        "task": "ping",
        "id": asked.claims.id,
        "audience": (),
        "codec": JSON,
        "body": encode_body(content, JSON),
        "headers": json.dumps({"worker": worker}).encode(),
        "request": digest_of(asked),
        "lifetime": 60.0,
        **changes,
    }
    [signed] = signer.sign([Draft(**claims)])
    return signed.frame


def digest_of(asked):
    return hashlib.sha256(parse_frame(asked.frame).claims).digest()


def post(counter, asked, *frames):
    until = counter.stage.clock.now() + 60
    counter.stage.broker.post(asked.channel, frames, expires_at=until, keep=10_000)


def worker_signer(counter):
    return counter.stage.deployment.make_signer("auth")


# Answers


def test_untouched_the_worker_s_answer_is_taken(counter):
    with counter.asked() as asked:
        pass

    assert asked.answer == {NAME: PONG}
    assert not asked.inspect.refused


def test_what_a_stranger_signs_is_refused_and_the_true_answer_taken(counter):
    stranger = signer_of(counter, make_person("stranger", ends=36_500 * DAY))
    with counter.asked() as asked:
        post(counter, asked, answer(stranger, asked, content={"ok": "forged"}))

    assert asked.answer == {NAME: PONG}
    assert asked.inspect.refused == {"unknown-signer": 1}
    assert "message.signer_unknown" in counter.stage.event_names()


def test_so_is_one_of_another_domain(counter):
    person, _ = trust(counter)
    other = signer_of(counter, person, domain="acme/test")
    with counter.asked() as asked:
        post(counter, asked, answer(other, asked))

    assert asked.inspect.refused == {"bad-signature": 1}


def test_an_answer_to_another_command_is_refused(counter):
    with counter.asked() as first:
        pass
    [(_, old)] = counter.stage.broker.posted(first.channel, 0, limit=10, timeout=0)

    with counter.asked() as second:
        post(counter, second, old)

    assert second.answer == {NAME: PONG}
    assert second.inspect.refused == {"wrong-request": 1}


def test_so_is_one_that_names_this_id_and_answers_another(counter):
    signer = worker_signer(counter)
    with counter.asked() as asked:
        post(counter, asked, answer(signer, asked, request=bytes(32)))

    assert asked.inspect.refused == {"wrong-request": 1}


def test_a_worker_is_heard_once(counter):
    signer = worker_signer(counter)
    with counter.asked(limit=2, destination=["two@here", NAME]) as asked:
        post(counter, asked, *2 * [answer(signer, asked, worker="two@here")])

    assert asked.answer == {NAME: PONG, "two@here": PONG}
    assert asked.inspect.refused == {"replayed": 1}


def test_a_worker_that_was_not_asked_is_not_heard(counter):
    signer = worker_signer(counter)
    with counter.asked(destination=NAME) as asked:
        post(counter, asked, answer(signer, asked, worker="other@here"))

    assert asked.answer == {NAME: PONG}
    assert asked.inspect.refused == {"wrong-request": 1}


@pytest.mark.parametrize("worker", ["", "a\nb", 5, None, "x" * 400, ["w"]])
def test_one_that_does_not_say_whose_it_is_is_refused(counter, worker):
    with counter.asked() as asked:
        post(counter, asked, answer(worker_signer(counter), asked, worker=worker))

    assert asked.inspect.refused == {"bad-claims": 1}


@pytest.mark.parametrize("kind", [Kind.RESULT, Kind.CONTROL, Kind.EVENT])
def test_nothing_else_is_taken_for_an_answer(counter, kind):
    with counter.asked() as asked:
        frame = answer(worker_signer(counter), asked, kind=kind, audience=(EVERY_WORKER,))
        post(counter, asked, frame)

    assert asked.inspect.refused == {"wrong-kind": 1}


def test_bytes_of_any_kind_end_nothing(counter):
    with counter.asked() as asked:
        good = answer(worker_signer(counter), asked)
        post(counter, asked, b"", b"\xff" * 100, good[:-1], good + b"x", bytes(200_000))

    assert asked.answer == {NAME: PONG}
    assert asked.inspect.refused == {"malformed": 5}


def test_an_answer_that_is_too_long_is_refused_unread(counter):
    with counter.asked() as asked:
        giant = answer(worker_signer(counter), asked, content="x" * (256 * 1024))
        put_past_the_driver(counter, asked, giant)

    assert asked.answer == {NAME: PONG}
    assert asked.inspect.refused == {"malformed": 1, "too-large": 1}


def put_past_the_driver(counter, asked, frame):
    """What somebody does who owns the store: no bound is kept."""
    broker = counter.stage.broker
    posted = broker.posted
    given = []

    def with_giant(channel, after, *, limit, timeout):
        if not given:
            given.append(frame)
            return [(after, frame)]
        return posted(channel, after, limit=limit, timeout=timeout)

    post(counter, asked, b"x")  # wakes it
    broker.posted = with_giant


def test_a_body_that_is_not_json_is_refused(counter):
    with counter.asked() as asked:
        post(counter, asked, answer(worker_signer(counter), asked, body=b"\xff{"))

    assert asked.inspect.refused == {"undecodable": 1}


def test_who_floods_the_channel_ends_the_asking_and_not_the_client(counter):
    with counter.asked() as asked:
        for _ in range(MAX_REFUSED // 500):
            post(counter, asked, *[b"x"] * 500)
        asked.join()
        assert asked.answer is None

    assert asked.inspect.refused == {"malformed": MAX_REFUSED}


def policy_of(tmp_path, counter, *rules):
    worker = counter.stage.deployment.identity().identity
    client = counter.stage.client.deployment.identity().identity
    text = (
        "version = 1\n"
        f'[role.worker]\nids = ["sha256:{worker.fingerprint.hex()}"]\n'
        f'[role.client]\nids = ["sha256:{client.fingerprint.hex()}"]\n'
    )
    text += "".join(f"[[allow]]\n{rule}\n" for rule in rules)
    parse_rules(text.encode(), source="test")
    path = tmp_path / "policy.toml"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def make_governed(make_counter, tmp_path):
    """A counter under a policy with these rules."""

    def make(*rules):
        draft = make_counter()
        path = policy_of(tmp_path, draft, *rules)
        return make_counter(draft.stage.folder, security_policy=path)

    return make


ASK = 'role = "client"\naction = "control"\ncommand = ["**"]'
ANSWER = 'role = "worker"\naction = "reply"'


def test_who_may_not_reply_is_not_believed(make_governed):
    counter = make_governed(ASK, 'role = "worker"\naction = "result"')
    with counter.asked() as asked:
        post(counter, asked, answer(worker_signer(counter), asked, worker="forged@here"))
        counter.clerk.start()
        for _ in range(MAX_REFUSED // 500):
            post(counter, asked, *[b"x"] * 500)

    assert asked.answer is None
    assert asked.inspect.refused["denied"] >= 1


# Commands


def tell(counter, signer, order, **changes):
    draft = order_draft(order, reply=False, lifetime=changes.pop("lifetime", 60.0))
    [signed] = signer.sign([draft._replace(**changes)])
    put(counter, signed.frame)
    return signed.frame


def put(counter, frame):
    counter.stage.broker.broadcast(frame, expires_at=counter.stage.clock.now() + 600)
    counter.stage.keeper.listen()
    while not counter.clerk._waiting.empty():
        counter.clerk.carry_out(counter.clerk._waiting.get())


GROW = Order("pool_grow", {"n": 1})


def client_signer(counter):
    return counter.stage.client.deployment.make_signer("auth")


def refusals(counter):
    return [one["reason"] for one in counter.stage.events() if one.get("kind") == "control"]


def test_a_command_is_carried_out_once(counter):
    frame = tell(counter, client_signer(counter), GROW)
    assert counter.pool.size == 5

    put(counter, frame)

    assert (counter.pool.size, refusals(counter)) == (5, ["replayed"])


def test_not_by_workers_that_it_is_not_for(counter):
    signer = client_signer(counter)

    tell(counter, signer, GROW._replace(destination=("other@here",)))
    tell(counter, signer, GROW._replace(pattern="other*"))

    assert (counter.pool.size, refusals(counter)) == (4, [])
    tell(counter, signer, GROW._replace(pattern="card*"))
    assert counter.pool.size == 5


def test_not_when_it_is_old(counter):
    frame = tell(counter, client_signer(counter), Order("ping"))
    counter.stage.clock.advance(400)

    put(counter, frame)

    assert refusals(counter) == ["expired"]


def test_not_for_a_stranger_nor_for_another_deployment(counter):
    person, _ = trust(counter)
    stranger = make_person("stranger", ends=36_500 * DAY)

    tell(counter, signer_of(counter, stranger), GROW)
    tell(counter, signer_of(counter, person, domain="acme/test"), GROW)

    assert (counter.pool.size, refusals(counter)) == (4, ["unknown-signer", "bad-signature"])


def test_what_was_there_before_the_worker_is_not_carried_out_and_no_news(counter, make_counter):
    frame = tell(counter, client_signer(counter), GROW)
    counter.stage.clock.advance(100)
    later = make_counter(counter.stage.folder)
    later.stage.clock.advance(100)
    later.stage.keeper._orders._since = later.stage.clock.now() - 60

    later.stage.broker.broadcast(frame, expires_at=later.stage.clock.now() + 600)
    later.stage.keeper.listen(at_first=True)

    assert (later.pool.size, refusals(later)) == (4, [])
    put(later, frame)
    assert (later.pool.size, refusals(later)) == (4, ["expired"])


def test_wildcards_do_not_cover_what_destroys(make_governed):
    counter = make_governed(ASK, ANSWER)
    signer = client_signer(counter)

    for name in ("shutdown", "pool_restart"):
        tell(counter, signer, Order(name))
    for name in ("add_consumer", "cancel_consumer"):
        tell(counter, signer, Order(name, {"queue": "celery"}))
    revoke = {"ids": ["t1"], "terminate": True, "signal": "SIGKILL"}
    tell(counter, signer, Order("revoke", revoke), lifetime=600.0)

    assert refusals(counter) == ["denied"] * 5
    assert not counter.stopped.is_set()
    assert "t1" not in counter.stage.revoked
    tell(counter, signer, Order("revoke", {**revoke, "terminate": False}), lifetime=600.0)
    assert "t1" in counter.stage.revoked
    tell(counter, signer, GROW)
    assert counter.pool.size == 5


def test_who_is_named_for_it_may(make_governed):
    named = 'role = "client"\naction = "control"\ncommand = ["shutdown", "revoke", "terminate"]'
    counter = make_governed(named, ANSWER)
    signer = client_signer(counter)

    revoke = {"ids": ["t1"], "terminate": True, "signal": "SIGKILL"}
    tell(counter, signer, Order("revoke", revoke), lifetime=600.0)
    tell(counter, signer, Order("shutdown"))
    tell(counter, signer, GROW)

    assert "t1" in counter.stage.revoked
    assert counter.stopped.wait(20)
    assert (counter.pool.size, refusals(counter)) == (4, ["denied"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": -1},
        {"n": 10**9},
        {"n": [1]},
        {"n": "1e400"},
        {"m": 1},
        {"n": {"a": {}}},
    ],
)
def test_arguments_that_no_client_of_ours_signs_change_nothing(counter, arguments):
    tell(counter, client_signer(counter), Order("pool_grow", arguments))

    assert counter.pool.size == 4


@pytest.mark.parametrize("body", [b"[]", b"\xff", b"5", b"", b"{" * 5000])
def test_bodies_that_are_no_arguments_change_nothing(counter, body):
    tell(counter, client_signer(counter), GROW, body=body)

    assert counter.pool.size == 4


@pytest.mark.parametrize(
    "headers", [b"[]", b"\xff", b'{"pattern": 5}', b'{"pattern": "' + b"*" * 300 + b'"}']
)
def test_headers_that_make_no_sense_are_refused(counter, headers):
    tell(counter, client_signer(counter), GROW, headers=headers)

    assert (counter.pool.size, refusals(counter)) == (4, ["bad-claims"])


@pytest.mark.parametrize("name", ["../../events", "x" * 32, "A" * 32, "reply", "0" * 33])
def test_an_answer_goes_to_no_channel_but_that_of_its_command(counter, name):
    posted = []
    counter.stage.broker.post = lambda channel, *_, **__: posted.append(channel)

    tell(counter, client_signer(counter), Order("ping"), id=name, headers=b'{"reply": true}')
    tell(counter, client_signer(counter), Order("ping"), id="0" * 32, headers=b'{"reply": 1}')

    assert posted == []
    tell(counter, client_signer(counter), Order("ping"), id="1" * 32, headers=b'{"reply": true}')
    assert posted == ["reply." + "1" * 32]


def test_a_revocation_that_is_shown_again_is_not_answered_again(counter):
    posted = []
    counter.stage.broker.post = lambda channel, *_, **__: posted.append(channel)
    revoke = Order("revoke", {"ids": ["t1"], "terminate": False, "signal": "SIGTERM"})

    frame = tell(
        counter, client_signer(counter), revoke, headers=b'{"reply": true}', lifetime=600.0
    )
    put(counter, frame)

    assert len(posted) == 1
    assert refusals(counter) == []
