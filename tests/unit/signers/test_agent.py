"""The agent: signs messages of its domain by its certificate, and nothing else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.message import envelope, merkle
from cardoon.message.claims import encode_claims
from cardoon.message.envelope import parse_frame
from cardoon.message.protocol import Claims, Kind
from cardoon.security import keys
from cardoon.signers.agent import FORMER_SECONDS
from cardoon.signers.exchange import (
    LENGTH,
    MAX_ANSWER,
    Ask,
    Status,
    read_answer,
    read_request,
    write_answer,
    write_request,
)
from tests.security.actors import DOMAIN, draft
from tests.unit.signers.conftest import Post

ESP256 = keys.Algorithm.ESP256


def claims_bytes():
    return encode_claims(
        Claims(
            kind=Kind.TASK,
            task="shop.pay",
            id="t1",
            audience=("q:celery",),
            issued_at=1,
            valid_until=2,
            session=bytes(16),
            sequence=0,
            digest=bytes(32),
            codec="application/json",
            length=0,
            retries=0,
        )
    )


def content_of(svid, payload, *, domain=DOMAIN, size=0, algorithm=ESP256, mark=None):
    protected = envelope.protected_header(algorithm, mark or svid.fingerprint, batch=bool(size))
    return envelope.bytes_to_sign(protected, domain.encode(), payload, size=size)


def ask(agent, svid, content, *, algorithm=ESP256):
    framed = agent.answer(write_request(Ask(algorithm, svid.fingerprint, content))[LENGTH.size :])
    [length] = LENGTH.unpack_from(framed)
    assert length == len(framed) - LENGTH.size <= MAX_ANSWER
    return read_answer(framed[LENGTH.size :])


def verify(svid, signature, content):
    keys.make_verify(svid.key.public_key(), ESP256)(signature, content)


@pytest.mark.parametrize(
    ("payload", "size"),
    [(claims_bytes(), 0), (b"", 0), (bytes(32), 1), (bytes(32), 256)],
    ids=["a message", "a trial", "a batch of one", "the largest batch"],
)
def test_a_message_of_its_domain_by_its_certificate_is_signed(post, payload, size):
    agent = post.agent()
    content = content_of(post.svid, payload, size=size)

    answer = ask(agent, post.svid, content)

    assert answer.status is Status.SIGNED
    verify(post.svid, answer.signature, content)
    assert agent.signed == 1


@pytest.mark.parametrize(
    "change",
    [
        {"domain": "acme/staging"},
        {"domain": "acme/prod "},
        {"algorithm": keys.Algorithm.ED25519},
        {"mark": bytes(32)},
        {"size": 2},  # whose payload is no root
        {"payload": bytes(32), "size": 257},
        {"payload": claims_bytes()[:-1]},
        {"payload": claims_bytes() + b"\0"},
        {"payload": b"pay everybody"},
    ],
    ids=str,
)
def test_anything_else_is_refused(post, change):
    agent = post.agent()
    payload = change.pop("payload", claims_bytes())

    answer = ask(agent, post.svid, content_of(post.svid, payload, **change))

    assert answer.status is Status.REFUSED
    assert answer.signature == b""
    assert answer.told
    assert agent.signed == 0


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        bytes(32),
        bytes(64),
        struct.pack(">I", 7) * 100,
        b"ssh-ed25519",
    ],
)
def test_bytes_that_are_no_message_are_refused(post, content):
    assert ask(post.agent(), post.svid, content).status is Status.REFUSED


def test_bytes_behind_the_claims_are_refused(post):
    content = content_of(post.svid, claims_bytes()) + b"\0"

    assert ask(post.agent(), post.svid, content).status is Status.REFUSED


def test_another_algorithm_than_the_keys_is_refused(post):
    content = content_of(post.svid, claims_bytes())

    answer = ask(post.agent(), post.svid, content, algorithm=keys.Algorithm.PS256)

    assert answer.status is Status.REFUSED
    assert "this key signs with -9" in answer.told


def test_a_message_by_another_certificate_is_told_whose_key_is_here(post):
    agent, other = post.agent(), post.authority.issue("web")

    answer = ask(agent, other, content_of(other, claims_bytes()))

    assert answer.status is Status.NOT_HELD
    assert "spiffe://acme.example/worker" in answer.told


def test_after_a_renewal_the_former_key_signs_for_a_minute(post):
    agent, former = post.agent(), post.svid
    post.renew()
    post.clock.advance(5)

    for svid in (post.svid, former):
        content = content_of(svid, claims_bytes())
        answer = ask(agent, svid, content)
        assert answer.status is Status.SIGNED
        verify(svid, answer.signature, content)

    post.clock.advance(FORMER_SECONDS)
    assert ask(agent, former, content_of(former, claims_bytes())).status is Status.NOT_HELD
    assert ask(agent, post.svid, content_of(post.svid, b"")).status is Status.SIGNED


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    made = Post(tmp_path_factory.mktemp("post"))
    return made, made.agent()


@given(request=st.binary(max_size=300))
def test_no_bytes_make_it_raise(agent, request):
    post, made = agent
    head = struct.pack(">Bi32s", 1, int(ESP256), post.svid.fingerprint)
    prefix = content_of(post.svid, b"")[:-1]

    for frame in (request, head + request, head + prefix + request):
        answer = read_answer(made.answer(frame)[LENGTH.size :])
        if answer.status is Status.SIGNED:
            assert frame == head + prefix + b"\x40"  # the trial


def test_what_a_signer_sends_for_signing_is_what_the_agent_reads(post):
    # The same bytes by both ways: a local key's messages would all have been signed.
    signer, agent = post.signer_here(), post.agent()
    for count in (1, 2, 256):
        frames = [parse_frame(one.frame) for one in signer.sign([draft(n) for n in range(count)])]
        payload = frames[0].claims
        if count > 1:
            payload = merkle.build_tree([one.claims for one in frames]).root
        content = content_of(post.svid, payload, size=count if count > 1 else 0)
        verify(post.svid, frames[0].signature, content)
        assert ask(agent, post.svid, content).status is Status.SIGNED


@given(status=st.sampled_from(Status), rest=st.binary(max_size=2000))
def test_answers_are_bounded_and_printable(status, rest):
    answer = read_answer(write_answer(status, rest)[LENGTH.size :])

    assert answer.status is status
    assert answer.told.isprintable()
    assert len(answer.told) <= 300
    assert len(answer.signature) < MAX_ANSWER


@given(
    ask=st.builds(
        Ask,
        st.integers(-(2**31), 2**31 - 1),
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=1, max_size=500),
    )
)
def test_requests_are_read_as_they_were_written(ask):
    assert read_request(write_request(ask)[LENGTH.size :]) == ask
