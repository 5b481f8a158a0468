"""Signing: what a signer adds to a draft, and what it refuses to sign."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon.exceptions import EncodeError, SecurityError
from cardoon.message import merkle
from cardoon.message.claims import parse_claims
from cardoon.message.envelope import PlainFrame, SignedFrame, parse_frame
from cardoon.message.protocol import GroupMember, Kind
from cardoon.security.signing import SESSION_SECONDS, MessageSigner, PlainSigner
from cardoon.testing import FakeClock
from tests.security.actors import (
    BODY,
    DAY,
    DOMAIN,
    START,
    counting_random,
    digest_of,
    draft,
    make_authority,
    make_member,
    make_person,
)

NOW = int(START.timestamp())
PERSON = make_person(ends=30 * DAY)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=["signed", "plain"])
def signer(request, clock):
    if request.param == "plain":
        return PlainSigner(clock=clock, random=counting_random())
    return PERSON.signer(clock)


def claims_of(signed):
    return parse_claims(parse_frame(signed.frame).claims)


def nonces_of(batch):
    return [(claims.session, claims.sequence) for claims in map(claims_of, batch)]


def test_a_message_says_what_its_draft_says(signer):
    full = draft(
        parent="task-p",
        group=GroupMember("group-1", 2, 5),
        eta=(NOW + 60) * 1000,
        expires=(NOW + 90) * 1000,
        retries=1,
        headers=b'{"a":1}',
        request=bytes(range(32)),
    )

    [signed] = signer.sign([full])

    claims = claims_of(signed)
    for field in (set(full._fields) & set(claims._fields)) - {"session"}:
        assert getattr(claims, field) == getattr(full, field)
    assert (claims.digest, claims.length) == (hashlib.sha256(BODY).digest(), len(BODY))
    assert parse_frame(signed.frame).body == BODY


def test_a_draft_may_say_what_its_copies_are_known_by(signer):
    mark = bytes(range(16))

    batch = signer.sign([draft(session=mark), draft(1)])
    [again] = signer.sign([draft(session=mark)])

    assert nonces_of(batch)[0] == nonces_of([again])[0] == (mark, 0)
    assert nonces_of(batch)[1] != (mark, 0)


def test_an_answer_is_held_against_the_name_and_the_digest_of_the_claims(signer):
    for signed in [*signer.sign([draft()]), *signer.sign([draft(1), draft(2)])]:
        named = b"cardoon/1/request\x00shop.orders.pay" + digest_of(signed.frame)
        assert signed.request == hashlib.sha256(named).digest()


def test_an_answer_to_what_is_no_task_is_held_against_the_digest_of_its_claims(signer):
    [signed] = signer.sign([draft(kind=Kind.CONTROL, task="ping", lifetime=60.0)])

    assert signed.request == digest_of(signed.frame)


def test_a_task_is_a_first_attempt_unless_it_says_otherwise(signer):
    [first, second] = signer.sign([draft(retries=None), draft(retries=2)])

    assert (claims_of(first).retries, claims_of(second).retries) == (0, 2)


def test_a_result_has_no_attempt_unless_it_says_one(signer):
    [signed] = signer.sign([draft(kind=Kind.RESULT, retries=None)])

    assert claims_of(signed).retries is None


def test_a_message_is_valid_for_a_day(signer):
    [signed] = signer.sign([draft()])

    assert (claims_of(signed).issued_at, claims_of(signed).valid_until) == (NOW, NOW + DAY)


def test_the_day_begins_with_the_eta(signer):
    [signed] = signer.sign([draft(eta=(NOW + 5 * DAY) * 1000)])

    assert (claims_of(signed).issued_at, claims_of(signed).valid_until) == (NOW, NOW + 6 * DAY)


def test_an_eta_in_the_past_changes_nothing(signer):
    [signed] = signer.sign([draft(eta=(NOW - 5 * DAY) * 1000)])

    assert claims_of(signed).valid_until == NOW + DAY


def test_a_draft_may_live_shorter(signer):
    [signed] = signer.sign([draft(lifetime=60.0)])

    assert claims_of(signed).valid_until == NOW + 60


def test_a_signer_may_be_made_for_shorter_lives(clock):
    [signed] = PERSON.signer(clock, max_age=10.0).sign([draft()])

    assert claims_of(signed).valid_until == NOW + 10


def test_a_message_ends_with_its_certificate(clock):
    [signed] = make_person(ends=3600).signer(clock).sign([draft()])

    assert claims_of(signed).valid_until == NOW + 3600


def test_an_eta_behind_the_end_of_the_certificate_is_refused_at_once(clock):
    signer = PERSON.signer(clock)
    signer.sign([draft(eta=(NOW + 30 * DAY) * 1000)])

    with pytest.raises(SecurityError, match="task-0: eta is behind the end of our") as told:
        signer.sign([draft(eta=(NOW + 30 * DAY + 1) * 1000)])
    assert "2023-12-14T22:13:21+00:00 instead of at most 2023-12-14T22:13:20+00:00" in str(
        told.value
    )


def test_an_eta_beyond_all_calendars_is_refused_as_well(clock):
    with pytest.raises(SecurityError, match=r"certificate: 9{15} instead of"):
        PERSON.signer(clock).sign([draft(eta=(10**15 - 1) * 1000)])


def test_an_expired_certificate_signs_nothing(clock):
    signer = PERSON.signer(clock)
    clock.advance(30 * DAY)
    signer.sign([draft()])
    clock.advance(1)

    with pytest.raises(SecurityError, match="expired; issue a new one"):
        signer.sign([draft()])


def test_a_certificate_that_is_not_valid_yet_signs_nothing(clock):
    signer = make_person(begins=10).signer(clock)

    with pytest.raises(SecurityError, match="not valid yet; check the clock"):
        signer.sign([draft()])

    clock.advance(10)
    signer.sign([draft()])


def test_one_message_is_signed_by_itself(clock):
    [signed] = PERSON.signer(clock).sign([draft()])

    assert parse_frame(signed.frame).proof is None


@pytest.mark.parametrize("count", [2, 3, 255, 256])
def test_several_messages_are_signed_together(clock, count):
    frames = [
        parse_frame(signed.frame)
        for signed in PERSON.signer(clock).sign([draft(number) for number in range(count)])
    ]

    roots = {
        merkle.find_root(
            frame.claims,
            size=frame.proof.size,
            position=frame.proof.position,
            proof=frame.proof.path,
        )
        for frame in frames
    }
    assert len(roots) == 1
    assert len({frame.signature for frame in frames}) == 1
    assert [(frame.proof.size, frame.proof.position) for frame in frames] == [
        (count, position) for position in range(count)
    ]


def test_more_than_256_messages_make_several_batches(clock):
    signed = PERSON.signer(clock).sign([draft(number) for number in range(513)])

    frames = [parse_frame(each.frame) for each in signed]
    assert [frame.proof.size for frame in frames[:512]] == [256] * 512
    assert frames[512].proof is None
    assert [parse_claims(frame.claims).id for frame in frames] == [
        f"task-{number}" for number in range(513)
    ]


def test_nothing_is_signed_for_nobody(signer):
    assert signer.sign([]) == []


def test_a_plain_signer_signs_nothing(clock):
    plain = PlainSigner(clock=clock)

    [signed] = plain.sign([draft()])

    assert plain.identity is None
    assert isinstance(parse_frame(signed.frame), PlainFrame)


def test_a_signer_says_who_it_is(clock):
    assert PERSON.signer(clock).identity.fingerprint == PERSON.fingerprint


def test_certificates_are_sent_when_asked_for(clock):
    authority = make_authority()
    member = make_member(authority)
    private = member.private(chain=[authority.der])

    for wanted, expected in [(True, (member.der, authority.der)), (False, ())]:
        signer = MessageSigner(private, domain=DOMAIN, clock=clock, send_chain=wanted)
        for signed in [*signer.sign([draft()]), *signer.sign([draft(1), draft(2)])]:
            frame = parse_frame(signed.frame)
            assert isinstance(frame, SignedFrame)
            assert frame.chain == expected


def test_no_two_messages_have_one_nonce(signer):
    batch = [*signer.sign([draft()]), *signer.sign([draft(number) for number in range(300)])]

    nonces = nonces_of(batch)

    assert len(set(nonces)) == 301
    assert [sequence for _, sequence in nonces] == list(range(301))


def test_a_session_ends_after_8192_messages(signer):
    nonces = nonces_of(signer.sign([draft(number) for number in range(8193)]))

    assert {sequence for _, sequence in nonces} == set(range(8192))
    assert {session for session, _ in nonces[:8192]} != {nonces[8192][0]}
    assert nonces[8192][1] == 0


def test_a_session_ends_after_ten_minutes(signer, clock):
    first = signer.sign([draft()])
    clock.advance(SESSION_SECONDS - 1)
    second = signer.sign([draft()])
    clock.advance(1)
    third = signer.sign([draft()])

    (one, _), (two, _), (three, number) = nonces_of([*first, *second, *third])
    assert one == two != three
    assert number == 0


def test_a_forked_process_has_a_session_of_its_own(signer):
    signer.sign([draft()])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            [signed] = signer.sign([draft()])
            session, sequence = nonces_of([signed])[0]
            os.write(writing, session + bytes([sequence]))
        finally:
            os._exit(0)
    os.close(writing)

    told = os.read(reading, 17)
    os.close(reading)
    os.waitpid(child, 0)

    [(session, sequence)] = nonces_of(signer.sign([draft()]))
    assert told[:16] != session
    assert (told[16], sequence) == (0, 1)


def test_threads_never_draw_one_nonce(signer):
    def sign(_):
        return nonces_of([*signer.sign([draft()]), *signer.sign([draft(1)] * 50)])

    with ThreadPoolExecutor(4) as pool:
        drawn = [nonce for nonces in pool.map(sign, range(200)) for nonce in nonces]

    assert len(drawn) == len(set(drawn)) == 200 * 51


def test_a_draft_that_breaks_a_bound_is_refused(signer):
    with pytest.raises(EncodeError, match="ID must be 1 to 128 printable bytes"):
        signer.sign([draft(id="i" * 129)])
